//! Scattering and splitting many regions for people and nodes.

use std::collections::BTreeMap;

use super::{Cluster, tap::Input};
use crate::{
    model::{Key, Now, Region, RegionId, names::desc},
    scheduler::{
        controller::journal::By,
        effect::Effect,
        filter::Budget,
        operator::{Kind, Operator},
    },
};

/// Step of a split at keys that are given (`pdpb.CheckPolicy`).
const USE_KEYS: i32 = 2;

/// What came of a request for many regions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scattered {
    /// Regions that stand well now or are on their way.
    pub done: Vec<RegionId>,
    /// Regions that could not be scattered, and why; those that are not known among them.
    pub failed: Vec<(RegionId, String)>,
}

impl Scattered {
    /// The share that is done, in per cent.
    pub fn percent(&self) -> u64 {
        let all = (self.done.len() + self.failed.len()) as u64;
        (self.done.len() as u64 * 100).checked_div(all).unwrap_or(100)
    }
}

impl Cluster {
    /// Spreads these regions over the stores, each as one of `group`. `caller`: as [`Cluster::admin`].
    pub fn scatter(
        &self,
        ids: &[RegionId],
        group: &str,
        skip_store_limit: bool,
        caller: &str,
        now: Now,
    ) -> (Scattered, Vec<Effect>) {
        let _turn = self.taps.input(Some(now), Input::Scatter(ids, group, skip_store_limit));
        self.decide(now, |view, d, out| {
            let (mut result, by) = (Scattered::default(), By::call("scatter", caller));
            for id in ids {
                let known = view.regions.get(*id).filter(|_| self.is_leading());
                let Some(region) = known else {
                    result.failed.push((*id, format!("region {id} not found")));
                    continue;
                };
                let under_way = (&d.controller as &dyn Budget, d.schedulers.hot());
                let scattered = d.scatterer.scatter(view, under_way, &region, group, skip_store_limit);
                match scattered.map_err(|e| e.to_string()) {
                    Ok(None) => result.done.push(*id),
                    Ok(Some(op)) => match d.controller.add(view, vec![op], &by, out) {
                        Ok(()) => result.done.push(*id),
                        Err(reason) => result.failed.push((*id, reason.name().to_owned())),
                    },
                    Err(text) => result.failed.push((*id, text)),
                }
            }
            result
        })
    }

    /// Has regions split at `keys`. Gives the keys at which a region begins already or will.
    pub fn split_at(&self, keys: &[Key], caller: &str, now: Now) -> (Vec<Key>, Vec<Effect>) {
        let _turn = self.taps.input(Some(now), Input::SplitAt(keys));
        self.decide(now, |view, d, out| {
            let mut by_region: BTreeMap<RegionId, Vec<Key>> = BTreeMap::new();
            let (mut taken, by) = (Vec::new(), By::call("split", caller));
            let heeded = keys.iter().filter(|_| self.is_leading());
            for key in heeded {
                match view.regions.by_key(key) {
                    Some(region) if region.range().start == *key => taken.push(key.clone()),
                    Some(region) => by_region.entry(region.id()).or_default().push(key.clone()),
                    None => {}
                }
            }
            for (id, mut inside) in by_region {
                inside.sort();
                inside.dedup();
                let split = |region: &Region| {
                    Operator::split(*view, region, desc::REGION_SPLITTER, USE_KEYS, inside.clone(), Kind::SPLIT).ok()
                };
                let Some(op) = view.regions.get(id).and_then(|region| split(&region)) else { continue };
                if d.controller.add(view, vec![op], &by, out).is_ok() {
                    taken.append(&mut inside);
                }
            }
            taken
        })
    }
}
