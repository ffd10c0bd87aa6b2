//! Many regions at once, for people and nodes: scattered, split, or both.

use std::time::Duration;

use super::App;
use crate::{
    api::ApiError,
    model::{Key, KeyRange, RegionId},
    scheduler::cluster::Scattered,
};

/// Most regions and keys that one request may name.
const MAX_ITEMS: usize = 16_384;
/// How long one try of a split is waited for.
const SPLIT_TAKES: Duration = Duration::from_secs(1);
/// How often it is looked whether splits are done.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Tries that a request may ask for.
const MAX_TRIES: u64 = 10;

/// PD's text for a request that names no region that is known.
pub(crate) const EMPTY: &str = "[PD:scatter:ErrEmptyRegion]empty region";

impl App {
    /// Spreads regions over the stores; those that cannot be now are tried `retries` times more. `caller`: what it calls itself, empty
    /// if it is not known.
    pub async fn scatter(
        &self,
        ids: &[RegionId],
        group: &str,
        retries: u64,
        skip_store_limit: bool,
        caller: &str,
    ) -> Result<Scattered, ApiError> {
        if ids.len() > MAX_ITEMS {
            return Err(ApiError::Invalid(format!("more than {MAX_ITEMS} regions")));
        }
        if ids.iter().all(|id| self.cluster.regions().get(*id).is_none()) {
            return Err(ApiError::Bare(EMPTY.to_owned()));
        }
        let mut result = Scattered::default();
        let mut left = ids.to_vec();
        for attempt in 0..=retries.min(MAX_TRIES) {
            if attempt > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let mut now = Scattered::default();
            self.act(|cluster| {
                let (scattered, out) = cluster.scatter(&left, group, skip_store_limit, caller, self.now());
                now = scattered;
                Ok::<_, ApiError>(out)
            })?;
            result.done.append(&mut now.done);
            // What is not known will not be after a moment either.
            let known = |id: &RegionId| self.cluster.regions().get(*id).is_some();
            left = now.failed.iter().map(|(id, _)| *id).filter(known).collect();
            result.failed.retain(|(id, _)| !known(id));
            result.failed.append(&mut now.failed);
            if left.is_empty() {
                break;
            }
        }
        Ok(result)
    }

    /// The regions that lie in or touch a range.
    pub fn region_ids(&self, range: &KeyRange) -> Vec<RegionId> {
        self.cluster.regions().scan(range, MAX_ITEMS).iter().map(|r| r.id()).collect()
    }

    /// Splits regions at `keys`, and waits until that is done or tries are used up. Gives the share that is done in per cent and
    /// the regions that begin at the keys.
    pub async fn split_regions(
        &self,
        keys: &[Key],
        retries: u64,
        caller: &str,
    ) -> Result<(u64, Vec<RegionId>), ApiError> {
        if keys.len() > MAX_ITEMS {
            return Err(ApiError::Invalid(format!("more than {MAX_ITEMS} keys")));
        }
        if keys.is_empty() {
            return Ok((0, Vec::new()));
        }
        for _ in 0..=retries.min(MAX_TRIES) {
            self.act(|cluster| {
                let (_, out) = cluster.split_at(keys, caller, self.now());
                Ok::<_, ApiError>(out)
            })?;
            let mut waited = Duration::ZERO;
            while self.begun_at(keys).len() < keys.len() && waited < SPLIT_TAKES {
                tokio::time::sleep(LOOK_EVERY).await;
                waited += LOOK_EVERY;
            }
            if self.begun_at(keys).len() == keys.len() {
                break;
            }
        }
        let found = self.begun_at(keys);
        Ok((found.len() as u64 * 100 / keys.len() as u64, found))
    }

    /// The regions that begin at these keys.
    fn begun_at(&self, keys: &[Key]) -> Vec<RegionId> {
        let at = |key: &Key| self.cluster.regions().by_key(key).filter(|r| r.range().start == *key);
        keys.iter().filter_map(at).map(|r| r.id()).collect()
    }
}
