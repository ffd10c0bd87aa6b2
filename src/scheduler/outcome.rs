//! What a checker finds for one region. A refusal is a value: metrics, logs, explanations and tests are derived from it.

use std::collections::BTreeMap;

use super::operator::Operator;
use crate::model::{PeerId, RegionId, StoreId};

/// What to do about a region.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing is wrong that the checker looks at.
    Healthy,
    /// These operators would mend it (two only for a merge).
    Propose(Vec<Operator>),
    /// Something is wrong, and this keeps it from being mended now.
    Blocked(Reason),
}

/// Token kinds of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LimitKind {
    /// `add-peer`
    AddPeer,
    /// `remove-peer`
    RemovePeer,
    /// Snapshots in flight (store limit v2).
    SendSnapshot,
}

/// The schedule limits of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ScheduleLimit {
    /// `replica-schedule-limit`
    Replica,
    /// `region-schedule-limit`
    Region,
    /// `leader-schedule-limit`
    Leader,
    /// `merge-schedule-limit`
    Merge,
    /// `hot-region-schedule-limit`
    HotRegion,
    /// `scheduler-max-waiting-operator`
    Waiting,
}

impl LimitKind {
    /// PD's name.
    pub fn name(self) -> &'static str {
        match self {
            LimitKind::AddPeer => "add-peer",
            LimitKind::RemovePeer => "remove-peer",
            LimitKind::SendSnapshot => "send-snapshot",
        }
    }
}

impl ScheduleLimit {
    /// The configuration key.
    pub fn key(self) -> &'static str {
        match self {
            ScheduleLimit::Replica => "replica-schedule-limit",
            ScheduleLimit::Region => "region-schedule-limit",
            ScheduleLimit::Leader => "leader-schedule-limit",
            ScheduleLimit::Merge => "merge-schedule-limit",
            ScheduleLimit::HotRegion => "hot-region-schedule-limit",
            ScheduleLimit::Waiting => "scheduler-max-waiting-operator",
        }
    }
}

/// Why a region is not being mended now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Scheduling is halted (`halt-scheduling`).
    Halted,
    /// Not enough is known yet after this leader's start.
    NotPrepared,
    /// The region already has an operator.
    OperatorRunning(RegionId),
    /// A store has no tokens left.
    StoreLimit {
        /// The store.
        store: StoreId,
        /// Which tokens.
        kind: LimitKind,
    },
    /// A schedule limit of the configuration is reached.
    ScheduleLimit(ScheduleLimit),
    /// No store can take the peer: how many candidates each filter refused, and one store for each.
    NoTarget {
        /// Filter name to (refused stores).
        refused: BTreeMap<&'static str, Vec<StoreId>>,
    },
    /// A store could take the peer, but not now (its tokens, snapshots or pending peers are used up).
    TargetBusy {
        /// Filter name to (refused stores).
        refused: BTreeMap<&'static str, Vec<StoreId>>,
    },
    /// No peer can take the leadership that has to move first.
    NoLeaderTarget {
        /// The stores that could but for the label property `reject-leader`, as far as whoever refused asked.
        rejecting: Vec<StoreId>,
    },
    /// The region has no leader that reports.
    NoLeader,
    /// A peer that must not be disturbed lags behind.
    PendingPeer(PeerId),
    /// A `schedule=deny` rule holds the region.
    Denied {
        /// Id of the label rule.
        rule: String,
    },
    /// The configuration switches this repair off (`enable-replace-offline-replica` …): the key's name.
    SwitchedOff(&'static str),
    /// The checker is paused.
    CheckerPaused(&'static str),
    /// No id is at hand for a new peer.
    NoId,
    /// The operator could not be built: the builder's words.
    Build(String),
    /// No rule covers the region.
    NoRule,
}

/// What can end a refusal: a blocked region is not looked at again before one of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Wake {
    /// A store's tokens are refilled, at a time that is known.
    Tokens,
    /// A running operator ends and makes room.
    OperatorEnd,
    /// The operator that runs on the region ends.
    OwnOperatorEnd,
    /// A store's record changes, it comes or goes, or what its filters see that lasts: state, space.
    Store,
    /// What passes changes on a store: busy, silent for a moment, snapshots under way, peers that lag.
    Load,
    /// Configuration, placement rules or region labels change.
    Settings,
    /// A label expires.
    Expiry,
    /// The region's leader reports. (A report that shows a change ends any wait.)
    Heartbeat,
    /// The next tick will do.
    Tick,
}

impl Wake {
    /// Its name, for explanations.
    pub fn name(self) -> &'static str {
        match self {
            Wake::Tokens => "tokens",
            Wake::OperatorEnd | Wake::OwnOperatorEnd => "operator-end",
            Wake::Store => "store",
            Wake::Load => "store-load",
            Wake::Settings => "settings",
            Wake::Expiry => "expiry",
            Wake::Heartbeat => "heartbeat",
            Wake::Tick => "tick",
        }
    }
}

impl Reason {
    /// No peer can take the leadership, and nobody asked whether stores reject it.
    pub fn no_leader_target() -> Self {
        Self::NoLeaderTarget { rejecting: Vec::new() }
    }

    /// The events that can end this refusal.
    pub fn wakes(&self) -> &'static [Wake] {
        match self {
            Reason::Halted | Reason::SwitchedOff(_) => &[Wake::Settings],
            Reason::CheckerPaused(_) => &[Wake::Settings, Wake::Expiry],
            Reason::NotPrepared => &[Wake::Heartbeat, Wake::Tick],
            Reason::OperatorRunning(_) => &[Wake::OwnOperatorEnd],
            // A limit that a person raises is a change of the store.
            Reason::StoreLimit { .. } => &[Wake::Tokens, Wake::Store],
            Reason::ScheduleLimit(_) => &[Wake::OperatorEnd, Wake::Settings],
            Reason::NoTarget { .. } => &[Wake::Store, Wake::Settings],
            Reason::TargetBusy { .. } => &[Wake::Tokens, Wake::Store, Wake::Load],
            Reason::NoLeaderTarget { .. } => &[Wake::Heartbeat, Wake::Store, Wake::Load, Wake::Settings],
            Reason::NoLeader | Reason::PendingPeer(_) => &[Wake::Heartbeat],
            Reason::Denied { .. } => &[Wake::Settings, Wake::Expiry],
            Reason::NoId => &[Wake::Tick],
            // A builder refuses for the stores' sake too ("no valid leader").
            Reason::Build(_) => &[Wake::Heartbeat, Wake::Store, Wake::Load, Wake::Settings],
            Reason::NoRule => &[Wake::Settings],
        }
    }

    /// A short name for counting refusals of one sort.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::Halted => "halted",
            Reason::NotPrepared => "not-prepared",
            Reason::OperatorRunning(_) => "operator-running",
            Reason::StoreLimit { .. } => "store-limit",
            Reason::ScheduleLimit(_) => "schedule-limit",
            Reason::NoTarget { .. } => "no-target",
            Reason::TargetBusy { .. } => "target-busy",
            Reason::NoLeaderTarget { .. } => "no-leader-target",
            Reason::NoLeader => "no-leader",
            Reason::PendingPeer(_) => "pending-peer",
            Reason::Denied { .. } => "denied",
            Reason::SwitchedOff(_) => "switched-off",
            Reason::CheckerPaused(_) => "checker-paused",
            Reason::NoId => "no-id",
            Reason::Build(_) => "build",
            Reason::NoRule => "no-rule",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each reason, each named by the one before. A new one does not compile before it has its place here.
    pub(in crate::scheduler) fn all() -> Vec<Reason> {
        std::iter::successors(Some(Reason::Halted), after).collect()
    }

    fn after(reason: &Reason) -> Option<Reason> {
        Some(match reason {
            Reason::Halted => Reason::NotPrepared,
            Reason::NotPrepared => Reason::OperatorRunning(RegionId(1)),
            Reason::OperatorRunning(_) => Reason::StoreLimit { store: StoreId(1), kind: LimitKind::AddPeer },
            Reason::StoreLimit { .. } => Reason::ScheduleLimit(ScheduleLimit::Replica),
            Reason::ScheduleLimit(_) => Reason::NoTarget { refused: BTreeMap::new() },
            Reason::NoTarget { .. } => Reason::TargetBusy { refused: BTreeMap::new() },
            Reason::TargetBusy { .. } => Reason::no_leader_target(),
            Reason::NoLeaderTarget { .. } => Reason::NoLeader,
            Reason::NoLeader => Reason::PendingPeer(PeerId(1)),
            Reason::PendingPeer(_) => Reason::Denied { rule: "r".into() },
            Reason::Denied { .. } => Reason::SwitchedOff("enable-make-up-replica"),
            Reason::SwitchedOff(_) => Reason::CheckerPaused("rule-checker"),
            Reason::CheckerPaused(_) => Reason::NoId,
            Reason::NoId => Reason::Build("text".into()),
            Reason::Build(_) => Reason::NoRule,
            Reason::NoRule => return None,
        })
    }

    #[test]
    fn o9_every_reason_names_what_ends_it() {
        let names: std::collections::BTreeSet<_> = all().iter().map(Reason::name).collect();
        assert_eq!(names.len(), all().len(), "each reason has a name of its own");
        for reason in all() {
            assert!(!reason.wakes().is_empty(), "{reason:?} would sleep for ever");
        }
    }
}
