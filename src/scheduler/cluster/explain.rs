//! Explanations of the running cluster: the parts of `explain` with the locks around them.
//!
//! Owns: holding the deciding lock for a batch of regions at a time. Must not know: how explanations are put together or shown.

use super::{Cluster, Deciding};
use crate::{
    model::{Now, OperatorId, RegionId, StoreId, StoreState},
    scheduler::{
        controller::journal::{DrainHistory, Past},
        explain::{
            Known,
            drain::{DrainReport, Tally},
            preview::{self, Load, Preview},
            region::{self, RegionReport},
        },
        view::ClusterView,
    },
    store::index::Held,
};

/// Regions looked at under one hold of the lock.
const BATCH: usize = 1024;
/// A store is asked for no more regions than this.
const MAX_REGIONS: usize = 1 << 22;

impl Deciding {
    fn known<'a>(&'a self, view: &'a ClusterView<'a>, prepared: bool) -> Known<'a> {
        Known { view, controller: &self.controller, patrol: &self.patrol, prepared }
    }
}

impl Cluster {
    /// Explains a store: what is left on it and why. `None` when it is unknown.
    pub fn explain_drain(&self, store: StoreId, now: Now) -> Option<DrainReport> {
        let prepared = self.is_prepared();
        let mut tally = Tally::new(store);
        for batch in self.regions().of_store(store, Held::Any, MAX_REGIONS).chunks(BATCH) {
            self.decide(now, |view, d, _| tally.add(&d.known(view, prepared), batch));
        }
        let unburied = self.unburied(store, now);
        self.decide(now, |view, d, _| {
            let left = view.regions.summary(store).region_size_mib as f64;
            let progress = d.progress.removing_now(store, left, now.mono);
            tally.finish(&d.known(view, prepared), (unburied, progress))
        })
        .0
    }

    /// Explains all stores that are Offline.
    pub fn explain_drains(&self, now: Now) -> Vec<DrainReport> {
        let stores = self.stores().snapshot();
        let offline = stores.values().filter(|s| s.record.state == StoreState::Offline);
        offline.filter_map(|s| self.explain_drain(s.id(), now)).collect()
    }

    /// Explains a region. `None` when it is unknown.
    pub fn explain_region(&self, id: RegionId, now: Now) -> Option<RegionReport> {
        let prepared = self.is_prepared();
        self.decide(now, |view, d, _| region::region(&d.known(view, prepared), id)).0
    }

    /// What a drain of the store would be like. `None` when it is unknown.
    pub fn preview_drain(&self, store: StoreId, now: Now) -> Option<Preview> {
        let limits = self.limits.read().clone();
        let prepared = self.is_prepared();
        let load = self.decide(now, |view, d, _| Load::of(&d.known(view, prepared), &limits)).0;
        self.with_view(now, |view| preview::preview(view, &load, store))
    }

    /// An operator with what it went through.
    pub fn operator_history(&self, id: OperatorId) -> Option<Past> {
        self.deciding.lock().controller.history_by_id(id)
    }

    /// The latest operators, of a region or of a store if one is named.
    pub fn operators_history(&self, region: Option<RegionId>, store: Option<StoreId>, limit: usize) -> Vec<Past> {
        self.deciding.lock().controller.history(region, store, limit)
    }

    /// The operators of a drain: those that run, and those that have ended.
    pub fn drain_history(&self, store: StoreId, limit: usize) -> (Vec<Past>, DrainHistory) {
        self.deciding.lock().controller.history_of_drain(store, limit)
    }
}
