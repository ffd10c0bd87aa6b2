//! Faults that tests put back on purpose, to see that the checks notice them. Outside of tests there are none.
//!
//! Owns: their names. Must not know: what they do; the code beside each says it.

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "put back by tests only"))]
pub(super) enum Bug {
    /// The log is written, but not synced.
    NoSync,
    /// How far the state is gets to disk apart from the state.
    IndexApart,
    /// Timestamps are given above the bound that was agreed.
    WindowNotSaved,
    /// A leader serves whether its lease is over or not.
    StaleLeader,
    /// A member votes right after its start.
    VoteAfterRestart,
    /// Leadership is handed over while the lease is held.
    LeaseKeptAtTransfer,
    /// What must follow a write is sent before it.
    SendBeforeWrite,
    /// A received state is put on disk in two steps.
    SnapshotNotAtomic,
    /// A member applies something of its own.
    AppliesDifferently,
    /// A proposer is answered before anything is agreed.
    AnswerBeforeCommit,
    /// A new leader begins at its clock, not above the window of the one before.
    WindowIgnored,
    /// The log is cut before the state is on disk.
    CutBeforeFlush,
    /// Members that join are not kept with what was applied.
    MembersNotSaved,
    /// A vote is forgotten with the process.
    VoteNotSaved,
    /// A leader takes it that the others vote for nobody else for as long as it would.
    OwnTimeout,
    /// A member that is started with a shorter election timeout forgets what it promised before.
    PromiseForgotten,
    /// A member does not say for how long it promises, as one of a version from before that was said.
    PromiseNotSaid,
}

/// Those that are put back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bugs {
    #[cfg(test)]
    pub(super) one: Option<Bug>,
}

impl Bugs {
    /// Whether this one is.
    #[cfg(test)]
    pub(super) fn has(self, bug: Bug) -> bool {
        self.one == Some(bug)
    }

    /// Never.
    #[cfg(not(test))]
    #[inline]
    pub(super) fn has(self, _bug: Bug) -> bool {
        false
    }
}
