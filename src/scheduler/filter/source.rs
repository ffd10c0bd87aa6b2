//! Filters on a store that gives something away, and on one that takes a leader: no rule and no place matters.
//!
//! Owns: their order. Must not know: whose peer or leader it is.

use super::{
    Budget, Refusal,
    store::{has_many_snapshots, is_disconnected, state_refusal},
};
use crate::{
    scheduler::{outcome::LimitKind, view::ClusterView},
    store::StoreInfo,
};

/// Why a store may not give a peer away just now.
pub fn source_refusal(view: &ClusterView<'_>, budget: &dyn Budget, store: &StoreInfo) -> Option<Refusal> {
    if store.stats.is_busy {
        return Some(Refusal::Busy);
    }
    if !budget.has_tokens(store.id(), LimitKind::RemovePeer, view.now) {
        return Some(Refusal::ExceedRemoveLimit);
    }
    has_many_snapshots(view, store).then_some(Refusal::TooManySnapshots)
}

/// Whether the leadership of a region may move to this store now.
pub fn leader_refusal(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Refusal> {
    state_refusal(view, store)
        .or_else(|| (store.pause_leader_in > 0).then_some(Refusal::PauseLeader))
        .or_else(|| is_disconnected(view, store).then_some(Refusal::Disconnected))
        .or_else(|| store.stats.is_busy.then_some(Refusal::Busy))
        .or_else(|| rejects_leaders(view, store).then_some(Refusal::RejectLeader))
}

/// Whether a label of the store says that it shall not lead.
pub fn rejects_leaders(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    view.settings.reject_leader.iter().any(|label| store.record.label(&label.key) == label.value)
}
