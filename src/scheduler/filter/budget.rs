//! What filters ask of whoever keeps count of what is under way.
//!
//! Owns: the questions, and the answers of the operator controller. Must not know: how limits are counted.

use std::collections::BTreeMap;

use super::{Choice, Wanted};
use crate::{
    model::{Mono, Now, RegionId, StoreId},
    scheduler::{
        controller::Controller,
        operator::StoreInfluence,
        outcome::{LimitKind, ScheduleLimit},
        view::ClusterView,
    },
};

/// What is under way, as far as deciding needs it.
pub trait Budget {
    /// Whether the region has a running operator.
    fn is_running(&self, region: RegionId) -> bool;
    /// Whether a schedule limit leaves room.
    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool;
    /// Whether a store has tokens now.
    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool;
    /// When a store will next have a token; `None` when it has one or has no limit.
    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono>;
    /// What running operators will change on a store.
    fn influence_on(&self, store: StoreId) -> StoreInfluence;
    /// What operators that wait for tokens or room will change, by store.
    fn waiting_influence(&self) -> BTreeMap<StoreId, StoreInfluence> {
        BTreeMap::new()
    }
    /// Hears of each choice of a store, for whoever keeps or explains it.
    fn note(&self, _view: &ClusterView<'_>, _wanted: &Wanted<'_>, _choice: &Choice) {}
}

impl Budget for Controller {
    fn is_running(&self, region: RegionId) -> bool {
        self.running(region).is_some()
    }

    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        Controller::has_room(self, view, limit)
    }

    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool {
        self.store_has_tokens(store, kind, now)
    }

    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono> {
        Controller::next_token(self, store, kind, now)
    }

    fn influence_on(&self, store: StoreId) -> StoreInfluence {
        self.influence().get(&store).copied().unwrap_or_default()
    }

    fn waiting_influence(&self) -> BTreeMap<StoreId, StoreInfluence> {
        Controller::waiting_influence(self)
    }
}
