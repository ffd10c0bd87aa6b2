//! Hot peers for people who ask: who is hot, what stores bear, who was hot when.

use std::collections::BTreeMap;

use super::Cluster;
use crate::{
    model::{Now, StoreId},
    store::hot::{
        HotPeers, Traffic,
        history::{Entry, Wanted},
        loads::{Role, StoreLoad, loads},
    },
};

impl Cluster {
    /// What each store bears of a traffic, and by which hot peers.
    pub fn hot_loads(&self, traffic: Traffic, role: Role) -> BTreeMap<StoreId, StoreLoad> {
        let (hits, stores) = (self.hot_hits(), self.stores.snapshot());
        loads(self.deciding.lock().schedulers.hot(), traffic, role, hits, &stores)
    }

    /// Runs `f` on what is known of hot peers. It holds the lock of the deciding code: look-ups only.
    pub fn with_hot<R>(&self, f: impl FnOnce(&HotPeers) -> R) -> R {
        f(self.deciding.lock().schedulers.hot())
    }

    /// Notes who is hot now in the history (every `hot-regions-write-interval`), unless `hot-regions-reserved-days` is 0.
    pub fn note_hot_peers(&self, now: Now) {
        let (hits, days) = (self.hot_hits(), self.settings.load().schedule.hot_regions_reserved_days);
        if days == 0 {
            return;
        }
        let deciding = &mut *self.deciding.lock();
        deciding.hot_history.note(deciding.schedulers.hot(), hits, &self.regions, days, now);
    }

    /// What the history has of what is wanted.
    pub fn hot_history(&self, wanted: &Wanted) -> Vec<Entry> {
        self.deciding.lock().hot_history.find(wanted)
    }

    fn hot_hits(&self) -> u64 {
        self.settings.load().schedule.hot_region_cache_hits_threshold
    }
}
