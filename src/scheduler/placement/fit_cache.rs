//! Fits remembered from the last time.
//!
//! Owns: which fits are kept, and when one still holds: for the same rules, the same peers, leader and health of peers, on stores
//! with the same labels. All of these are compared, so nothing has to be told that something changed. Must not know: how a fit is
//! found (`fit`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::fit::{RegionFit, fit};
use crate::{
    model::{DownPeer, PeerId, Region, RegionId, RegionMeta, Rule, StoreId, StoreRecord},
    store::StoreInfo,
};

/// Regions share a lock with one of so many others.
const SHARDS: usize = 64;
/// Places of a shard that one region may take.
const WAYS: usize = 4;
/// Groups of places in a shard.
const BUCKETS: usize = 512;
/// Fits kept at most: some 70 MB of them. The regions of a cluster under one plain rule need none (they are told to be healthy without
/// a fit), and a fit that is not kept is worked out again, in some microseconds.
pub const MAX_FITS: usize = SHARDS * WAYS * BUCKETS;
/// A place is taken from a region that was not asked for during so many questions to its shard for each of its places: a walk over
/// more regions than there are places would otherwise drive each one out just before it comes round again.
const FORGOTTEN_AFTER: usize = 8;

/// See the module's comment.
pub struct FitCache {
    shards: Box<[Mutex<Shard>]>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl std::fmt::Debug for FitCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FitCache").finish_non_exhaustive()
    }
}

impl Default for FitCache {
    fn default() -> Self {
        Self::sized(BUCKETS)
    }
}

struct Shard {
    /// Groups of places; none before the first fit.
    buckets: Vec<Vec<Kept>>,
    /// How many groups there shall be.
    wanted: usize,
    asked: u64,
}

/// A fit with all that it was worked out from.
struct Kept {
    id: RegionId,
    /// When it was last asked for, as [`Shard::asked`].
    used: u64,
    meta: Arc<RegionMeta>,
    leader: Option<PeerId>,
    down: Vec<PeerId>,
    pending: Vec<PeerId>,
    rules: Arc<[Arc<Rule>]>,
    /// In the order of the peers.
    stores: Vec<Option<Arc<StoreRecord>>>,
    fit: Arc<RegionFit>,
}

impl Kept {
    fn holds(&self, region: &Region, rules: &Arc<[Arc<Rule>]>, stores: &BTreeMap<StoreId, Arc<StoreInfo>>) -> bool {
        // The list of a segment is made anew when any of its rules changes, and kept alive here: the same address is the same list.
        Arc::ptr_eq(&self.rules, rules)
            && self.leader == region.leader
            && (Arc::ptr_eq(&self.meta, &region.meta) || self.meta.peers == region.meta.peers)
            && self.down.iter().eq(region.down.iter().map(|DownPeer { peer, .. }| peer))
            && self.pending == region.pending
            && region.peers().iter().zip(&self.stores).all(|(peer, known)| match (stores.get(&peer.store), known) {
                (Some(now), Some(then)) => Arc::ptr_eq(&now.record, then) || now.record.labels == then.labels,
                (None, None) => true,
                _ => false,
            })
    }
}

impl FitCache {
    fn sized(buckets: usize) -> Self {
        let shard = || Mutex::new(Shard { buckets: Vec::new(), wanted: buckets.max(1), asked: 0 });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// What [`fit`] gives.
    pub fn fit(
        &self,
        region: &Region,
        rules: &Arc<[Arc<Rule>]>,
        stores: &BTreeMap<StoreId, Arc<StoreInfo>>,
    ) -> Arc<RegionFit> {
        let (shard, bucket) = place(region.id());
        if let Some(found) = self.shards[shard].lock().find(bucket, region, rules, stores) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return found;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let found = Arc::new(fit(region, rules, stores));
        let kept = Kept {
            id: region.id(),
            used: 0,
            meta: Arc::clone(&region.meta),
            leader: region.leader,
            down: region.down.iter().map(|d| d.peer).collect(),
            pending: region.pending.clone(),
            rules: Arc::clone(rules),
            stores: region.peers().iter().map(|p| stores.get(&p.store).map(|s| Arc::clone(&s.record))).collect(),
            fit: Arc::clone(&found),
        };
        self.shards[shard].lock().keep(bucket, kept);
        found
    }

    /// How many fits were remembered and how many worked out.
    pub fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// How many fits are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().buckets.iter().map(Vec::len).sum::<usize>()).sum()
    }
}

/// Where the fit of a region is kept: shard, and a number that tells the group in it. Ids are given one after the other, so neighbouring ones must not share a place.
fn place(id: RegionId) -> (usize, usize) {
    let mixed = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let mixed = usize::try_from(mixed).unwrap_or(0);
    (mixed % SHARDS, mixed / SHARDS)
}

impl Shard {
    fn find(
        &mut self,
        bucket: usize,
        region: &Region,
        rules: &Arc<[Arc<Rule>]>,
        stores: &BTreeMap<StoreId, Arc<StoreInfo>>,
    ) -> Option<Arc<RegionFit>> {
        self.asked += 1;
        let kept = self.buckets.get_mut(bucket % self.wanted)?.iter_mut().find(|kept| kept.id == region.id())?;
        kept.used = self.asked;
        kept.holds(region, rules, stores).then(|| Arc::clone(&kept.fit))
    }

    /// Keeps a fit in the place of an older one of the same region, in a free place, or in that of a region that nobody asks for.
    fn keep(&mut self, bucket: usize, kept: Kept) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(self.wanted, Vec::new);
        }
        let (asked, idle) = (self.asked, (FORGOTTEN_AFTER * WAYS * self.wanted) as u64);
        let Some(places) = self.buckets.get_mut(bucket % self.wanted) else { return };
        let kept = Kept { used: asked, ..kept };
        if let Some(known) = places.iter_mut().find(|k| k.id == kept.id) {
            *known = kept;
        } else if places.len() < WAYS {
            places.push(kept);
        } else if let Some(forgotten) = places.iter_mut().find(|k| asked - k.used > idle) {
            *forgotten = kept;
        }
    }
}

#[cfg(test)]
mod tests;
