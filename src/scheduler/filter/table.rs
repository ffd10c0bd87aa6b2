//! The table of the filters for a new peer: which there are, and in which order a store is told.
//!
//! Owns: the order. Must not know: what a filter looks at beyond its name (`target`, `store`).

use super::{
    Refusal,
    kinds::refuse,
    store::{has_many_pending, has_many_snapshots, is_disconnected, is_low_on_space, state_refusal},
    target::{Judged, label_refusal, special_use_refusal},
};

/// A filter: why it refuses the store, if it does.
pub(super) type Filter = fn(&Judged<'_>) -> Option<Refusal>;

/// What lasts, in the order in which a store is told its first refusal.
pub(super) const LASTING: &[Filter] = &[
    |j| j.wanted.region.meta.peer_on(j.store.id()).map(|_| Refusal::Excluded),
    |j| state_refusal(j.view, j.store),
    |j| label_refusal(j.wanted.constraints, j.store),
    |j| special_use_refusal(j.store),
    |j| refuse(Refusal::StorageThreshold, is_low_on_space(j.view, j.store)),
    |j| refuse(Refusal::Isolation, !j.is_isolated()),
    |j| refuse(Refusal::Distinct, !j.is_better()),
];

/// What passes.
pub(super) const PASSING: &[Filter] = &[
    |j| refuse(Refusal::Disconnected, is_disconnected(j.view, j.store)),
    |j| refuse(Refusal::Busy, j.store.stats.is_busy),
    |j| refuse(Refusal::ExceedAddLimit, j.lacks_tokens()),
    |j| refuse(Refusal::TooManySnapshots, has_many_snapshots(j.view, j.store)),
    |j| refuse(Refusal::TooManyPendingPeers, has_many_pending(j.view, j.store)),
];

/// The first of these filters that refuses the store.
pub(super) fn first_refusal(filters: &[Filter], judged: &Judged<'_>) -> Option<Refusal> {
    filters.iter().find_map(|filter| filter(judged))
}
