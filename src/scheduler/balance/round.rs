//! One look of a scheduler at the world: what it is given, and what it comes to.

use std::collections::BTreeMap;

use crate::{
    model::{StoreId, StoreState},
    scheduler::{
        filter::{self, Budget, Refusal},
        operator::Operator,
        outcome::Reason,
        view::ClusterView,
    },
    store::{StoreInfo, hot::HotPeers},
};

/// What a scheduler sees.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    /// The world.
    pub(super) view: &'a ClusterView<'a>,
    /// What is under way.
    pub(super) budget: &'a dyn Budget,
    /// Hot regions: only their own scheduler moves them.
    pub(super) hot: &'a HotPeers,
    /// The scheduler's name: the description of its operators.
    pub(super) name: &'a str,
}

/// Why a store takes no part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// A filter refuses it.
    Filter(Refusal),
    /// Its score is too near to the other store's.
    Score,
    /// It has no region that could be moved.
    NoRegion,
    /// Its regions do not have all their peers where rules want them.
    NotReplicated,
    /// Its regions are empty, and there are enough others.
    Empty,
    /// The rules do not let it stand in.
    Rules,
    /// No peer of its regions stands on a store that could lead.
    NoTarget,
    /// Its regions are hot.
    Hot,
    /// What stands against its regions.
    Region(Reason),
}

impl Why {
    /// The word in a diagnosis.
    pub fn status(&self) -> &'static str {
        match self {
            Why::Score => "StoreScoreDisallowed",
            Why::NoRegion => "NoTargetRegion",
            Why::NotReplicated => "RegionNotReplicated",
            Why::Empty => "RegionEmpty",
            Why::Hot => "RegionHot",
            Why::Rules => "StoreNotMatchRule",
            Why::NoTarget => "NoTargetStore",
            Why::Filter(refusal) => match refusal {
                Refusal::Excluded => "StoreAlreadyHasPeer",
                Refusal::StorageThreshold => "StoreLowSpace",
                Refusal::SpecialUse | Refusal::LabelConstraint => "StoreNotMatchRule",
                Refusal::Tombstone => "StoreRemoved",
                Refusal::Offline => "StoreRemoving",
                Refusal::Down => "StoreDown",
                Refusal::PauseLeader | Refusal::RejectLeader => "StoreRejectLeader",
                Refusal::Isolation | Refusal::Distinct => "StoreNotMatchIsolation",
                Refusal::Disconnected => "StoreDisconnected",
                Refusal::Busy => "StoreBusy",
                Refusal::ExceedAddLimit => "StoreAddLimitThrottled",
                Refusal::ExceedRemoveLimit => "StoreRemoveLimitThrottled",
                Refusal::TooManySnapshots => "StoreSnapshotThrottled",
                Refusal::TooManyPendingPeers => "StorePendingPeerThrottled",
            },
            Why::Region(reason) => match reason {
                Reason::NoLeader => "RegionNoLeader",
                Reason::PendingPeer(_) => "RegionUnhealthy",
                Reason::Denied { .. } => "RegionLabelReject",
                Reason::Build(_) | Reason::NoId => "CreateOperatorFailed",
                Reason::OperatorRunning(_) => "RegionHasOperator",
                _ => "RegionNotMatchRule",
            },
        }
    }
}

/// What a scheduler came to.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// What it proposes; all at once, each for a region of its own.
    pub(super) ops: Vec<Operator>,
    /// What stood against each store that it could not use.
    pub(super) refused: BTreeMap<StoreId, Why>,
    /// PD's names for what happened, for counting.
    pub(super) events: Vec<&'static str>,
    /// Regions that a label held back.
    pub(super) denied: u64,
}

impl Round {
    /// Notes why a store was not used; the first reason stands.
    pub(super) fn refuse(&mut self, store: StoreId, why: Why) {
        self.denied += u64::from(matches!(why, Why::Region(Reason::Denied { .. })));
        self.refused.entry(store).or_insert(why);
    }

    /// Takes an operator in.
    pub(super) fn propose(&mut self, op: Operator) {
        self.events.push("new-operator");
        self.ops.push(op);
    }

    /// Whether it has an operator for this region already.
    pub(super) fn has(&self, region: crate::model::RegionId) -> bool {
        self.ops.iter().any(|op| op.region == region)
    }
}

/// Why leaders may not be taken from this store now.
pub(super) fn leader_source_refusal(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Refusal> {
    if store.record.state == StoreState::Tombstone {
        return Some(Refusal::Tombstone);
    }
    if filter::is_down(view, store) {
        return Some(Refusal::Down);
    }
    if store.pause_leader_out > 0 {
        return Some(Refusal::PauseLeader);
    }
    filter::is_disconnected(view, store).then_some(Refusal::Disconnected)
}

/// Why peers may not be taken from this store for balance now. What is being emptied is the checkers' business alone.
pub(super) fn peer_source_refusal(view: &ClusterView<'_>, budget: &dyn Budget, store: &StoreInfo) -> Option<Refusal> {
    match store.record.state {
        StoreState::Tombstone => return Some(Refusal::Tombstone),
        StoreState::Offline => return Some(Refusal::Offline),
        StoreState::Up => {}
    }
    if filter::is_down(view, store) {
        return Some(Refusal::Down);
    }
    if filter::is_disconnected(view, store) {
        return Some(Refusal::Disconnected);
    }
    filter::source_refusal(view, budget, store)
}
