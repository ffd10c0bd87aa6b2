//! What filters see of a store by itself, whatever the region: its state, its silence, its space, its load.
//!
//! Owns: the bounds, and [`Standing`], which tells that they are worth another look. Must not know: regions and wishes.

use std::time::Duration;

use super::{Refusal, leader_refusal};
use crate::{
    model::StoreState,
    scheduler::view::ClusterView,
    store::{Liveness, StoreInfo},
};

/// Below this many regions a store with free space does not count as full: its disk may be small, its load is smaller (PD).
const FEW_REGIONS: u64 = 100;
/// The free space meant by [`FEW_REGIONS`].
const ENOUGH_FOR_FEW: u64 = 8 << 30;

/// The silence of a store, classed.
pub fn liveness(view: &ClusterView<'_>, store: &StoreInfo) -> Liveness {
    store.liveness(view.leader_since, view.now.mono, view.settings.schedule.max_store_down_time.get())
}

/// Whether nothing was heard of the store for `max-store-down-time` (or longer), whatever its state.
pub fn is_down(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    store.is_down(view.leader_since, view.now.mono, view.settings.schedule.max_store_down_time.get())
}

/// Whether nothing was heard of the store for 20 s, whatever its state.
pub fn is_disconnected(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    store.silence(view.leader_since, view.now.mono) > DISCONNECTED_AFTER
}

/// See [`is_disconnected`] (PD's number; twice the interval of store heartbeats).
const DISCONNECTED_AFTER: Duration = Duration::from_secs(20);

/// Why a store in its state takes nothing.
pub fn state_refusal(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Refusal> {
    match store.record.state {
        StoreState::Tombstone => Some(Refusal::Tombstone),
        StoreState::Offline => Some(Refusal::Offline),
        StoreState::Up => is_down(view, store).then_some(Refusal::Down),
    }
}

/// What the filters see of a store whatever the region and whatever the tokens: when it changes, regions for which the store was
/// refused are worth another look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What lasts: state, and whether space is short.
    pub lasting: (Option<Refusal>, bool),
    /// What passes: for peers, and for leaders.
    pub passing: ([bool; 4], Option<Refusal>),
}

/// See [`Standing`].
pub fn standing(view: &ClusterView<'_>, store: &StoreInfo) -> Standing {
    let passing = [
        is_disconnected(view, store),
        store.stats.is_busy,
        has_many_snapshots(view, store),
        has_many_pending(view, store),
    ];
    Standing {
        lasting: (state_refusal(view, store), is_low_on_space(view, store)),
        passing: (passing, leader_refusal(view, store)),
    }
}

pub(super) fn is_low_on_space(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    let stats = &store.stats;
    let few = || view.regions.summary(store.id()).region_count < FEW_REGIONS;
    if stats.capacity == 0 || (stats.available > ENOUGH_FOR_FEW && few()) {
        return false;
    }
    (stats.available as f64 / stats.capacity as f64) < 1.0 - view.settings.schedule.low_space_ratio
}

pub(super) fn has_many_snapshots(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    let most = view.settings.schedule.max_snapshot_count;
    u64::from(store.stats.sending_snap_count) > most || u64::from(store.stats.receiving_snap_count) > most
}

pub(super) fn has_many_pending(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    let most = view.settings.schedule.max_pending_peer_count;
    most > 0 && view.regions.summary(store.id()).pending_count > most
}
