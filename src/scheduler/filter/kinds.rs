//! The kinds of refusals, by PD's names.
//!
//! Owns: the list. Must not know: when a filter refuses.

/// Why a filter refuses a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// It has a peer of the region already.
    Excluded,
    /// Its disk is nearly full (`low-space-ratio`).
    StorageThreshold,
    /// It is kept for something else.
    SpecialUse,
    /// It is gone.
    Tombstone,
    /// It is being emptied.
    Offline,
    /// It has been silent for longer than `max-store-down-time`.
    Down,
    /// Leaders may not move there now.
    PauseLeader,
    /// Leaders shall not be there (label property `reject-leader`).
    RejectLeader,
    /// Its labels are not what the rule asks for.
    LabelConstraint,
    /// It would lie too near to another peer (`isolation-level`).
    Isolation,
    /// It would lie no further apart than the store that it would stand in for.
    Distinct,
    /// It has been silent for more than 20 s.
    Disconnected,
    /// It asks for less work.
    Busy,
    /// No add-peer tokens.
    ExceedAddLimit,
    /// No remove-peer tokens.
    ExceedRemoveLimit,
    /// More than `max-snapshot-count` snapshots are under way.
    TooManySnapshots,
    /// More than `max-pending-peer-count` peers lag behind.
    TooManyPendingPeers,
}

impl Refusal {
    const ALL: [Refusal; 17] = [
        Refusal::Excluded,
        Refusal::StorageThreshold,
        Refusal::SpecialUse,
        Refusal::Tombstone,
        Refusal::Offline,
        Refusal::Down,
        Refusal::PauseLeader,
        Refusal::RejectLeader,
        Refusal::LabelConstraint,
        Refusal::Isolation,
        Refusal::Distinct,
        Refusal::Disconnected,
        Refusal::Busy,
        Refusal::ExceedAddLimit,
        Refusal::ExceedRemoveLimit,
        Refusal::TooManySnapshots,
        Refusal::TooManyPendingPeers,
    ];

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Refusal> {
        Self::ALL.into_iter().find(|refusal| refusal.name() == name)
    }

    /// PD's name: the value of label `type` in `pd_schedule_target_filter`.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Excluded => "exclude-filter",
            Refusal::StorageThreshold => "storage-threshold-filter",
            Refusal::SpecialUse => "special-use-filter",
            Refusal::Tombstone => "store-state-tombstone-filter",
            Refusal::Offline => "store-state-offline-filter",
            Refusal::Down => "store-state-down-filter",
            Refusal::PauseLeader => "store-state-pause-leader-filter",
            Refusal::RejectLeader => "store-state-reject-leader-filter",
            Refusal::LabelConstraint => "label-constraint-filter",
            Refusal::Isolation => "isolation-filter",
            Refusal::Distinct => "distinct-filter",
            Refusal::Disconnected => "store-state-disconnect-filter",
            Refusal::Busy => "store-state-busy-filter",
            Refusal::ExceedAddLimit => "store-state-exceed-add-limit-filter",
            Refusal::ExceedRemoveLimit => "store-state-exceed-remove-limit-filter",
            Refusal::TooManySnapshots => "store-state-too-many-snapshots-filter",
            Refusal::TooManyPendingPeers => "store-state-too-many-pending-peers-filter",
        }
    }

    /// Whether it will pass by itself before long.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Refusal::Disconnected
                | Refusal::Busy
                | Refusal::ExceedAddLimit
                | Refusal::ExceedRemoveLimit
                | Refusal::TooManySnapshots
                | Refusal::TooManyPendingPeers
        )
    }
}

/// The refusal, if it is so.
pub(super) fn refuse(why: Refusal, is_so: bool) -> Option<Refusal> {
    is_so.then_some(why)
}
