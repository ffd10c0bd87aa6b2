//! Steps: what they are called, how long they may take, what they cost, what they move.
//!
//! Owns: the shapes and their texts. How a region shows that a step is done stands in `step_state`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::StoreInfluence;
use crate::{
    model::{Key, KeyRange, Peer, PeerId, RegionId, Role, StoreId},
    scheduler::outcome::LimitKind,
};

/// A peer that a step adds, promotes or demotes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PeerAt {
    /// The peer.
    pub peer: PeerId,
    /// Its store.
    pub store: StoreId,
    /// Whether it is a witness.
    pub is_witness: bool,
}

impl PeerAt {
    /// The peer with this role, as a command names it.
    pub fn with_role(self, role: Role) -> Peer {
        Peer { id: self.peer, store: self.store, role, is_witness: self.is_witness }
    }
}

impl From<&Peer> for PeerAt {
    fn from(peer: &Peer) -> Self {
        Self { peer: peer.id, store: peer.store, is_witness: peer.is_witness }
    }
}

/// One step of an operator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Move the leader.
    TransferLeader {
        /// From.
        from: StoreId,
        /// To.
        to: StoreId,
    },
    /// Add a voter.
    AddPeer(PeerAt),
    /// Add a learner.
    AddLearner(PeerAt),
    /// Make a learner a voter.
    PromoteLearner(PeerAt),
    /// Remove.
    RemovePeer {
        /// From which store.
        store: StoreId,
        /// Which peer.
        peer: PeerId,
    },
    /// Enter a joint state.
    ChangePeerV2Enter {
        /// Learners that become voters.
        promote: Vec<PeerAt>,
        /// Voters that become learners.
        demote: Vec<PeerAt>,
    },
    /// Leave it.
    ChangePeerV2Leave {
        /// Learners that became voters.
        promote: Vec<PeerAt>,
        /// Voters that became learners.
        demote: Vec<PeerAt>,
    },
    /// Make a peer a witness, or one with data again, as `is_witness` says.
    SwitchWitness(PeerAt),
    /// Split.
    SplitRegion {
        /// 0 scan, 1 approximate, 2 use keys.
        policy: i32,
        /// Where.
        keys: Vec<Key>,
        /// The range before: the step is done when the region has another one.
        range: KeyRange,
    },
    /// Merge.
    MergeRegion {
        /// The region that goes.
        from: RegionId,
        /// The region that stays.
        to: RegionId,
        /// The range of `to` before: the step is done when it has another one.
        to_range: KeyRange,
        /// Whether this operator is the target's (it only waits).
        passive: bool,
    },
}

/// The least time for a step that only changes roles or leadership.
const FAST_STEP_AT_LEAST: Duration = Duration::from_secs(60);
/// The least time for a step that moves data.
const SLOW_STEP_AT_LEAST: Duration = Duration::from_secs(600);
/// How often the command of a step that only changes roles or leadership is pushed again.
const FAST_PUSH: Duration = Duration::from_secs(2);
/// How often any other command is pushed again.
const SLOW_PUSH: Duration = Duration::from_secs(5);
/// A merge waits for the source's followers to catch up: this many fast steps.
const MERGE_FAST_STEPS: u32 = 10;

/// Up to this size (MiB) a region counts as empty: its moves cost nothing.
pub const EMPTY_REGION_MIB: u64 = 1;
/// Up to this size (MiB) a region counts as small.
pub const SMALL_REGION_MIB: u64 = 20;
/// What the move of a region of more than [`SMALL_REGION_MIB`] costs: one operator of a store limit.
pub const FULL_COST: u64 = 1000;
/// What the move of a small region costs.
pub const SMALL_COST: u64 = 200;

/// What adding or removing a peer of a region of this size costs against a store limit.
pub fn move_cost(size_mib: u64) -> u64 {
    if size_mib <= EMPTY_REGION_MIB {
        0
    } else if size_mib <= SMALL_REGION_MIB {
        SMALL_COST
    } else {
        FULL_COST
    }
}

impl Step {
    /// How long the step may take for a region of this size.
    pub fn timeout(&self, size_mib: u64) -> Duration {
        let fast = FAST_STEP_AT_LEAST.max(Duration::from_secs(size_mib.saturating_mul(6) / 10));
        let slow = SLOW_STEP_AT_LEAST.max(Duration::from_secs(size_mib.saturating_mul(6)));
        match self {
            // A peer that was a witness needs all data.
            Step::AddPeer(_) | Step::AddLearner(_) | Step::SwitchWitness(PeerAt { is_witness: false, .. }) => slow,
            Step::SwitchWitness(_)
            | Step::TransferLeader { .. }
            | Step::PromoteLearner(_)
            | Step::RemovePeer { .. }
            | Step::SplitRegion { .. } => fast,
            Step::ChangePeerV2Enter { promote, demote } | Step::ChangePeerV2Leave { promote, demote } => {
                let parts = u32::try_from(promote.len() + demote.len() + 1).unwrap_or(u32::MAX);
                fast.saturating_mul(parts)
            }
            Step::MergeRegion { .. } => fast.saturating_mul(MERGE_FAST_STEPS),
        }
    }

    /// After how long without news the command is sent again.
    pub fn push_interval(&self) -> Duration {
        match self {
            Step::TransferLeader { .. }
            | Step::PromoteLearner(_)
            | Step::ChangePeerV2Enter { .. }
            | Step::ChangePeerV2Leave { .. } => FAST_PUSH,
            Step::AddPeer(_)
            | Step::AddLearner(_)
            | Step::RemovePeer { .. }
            | Step::SwitchWitness(_)
            | Step::SplitRegion { .. }
            | Step::MergeRegion { .. } => SLOW_PUSH,
        }
    }

    /// Which store limit the step draws on.
    pub fn limited_by(&self) -> Option<(StoreId, LimitKind)> {
        match self {
            Step::AddPeer(at) | Step::AddLearner(at) => Some((at.store, LimitKind::AddPeer)),
            Step::RemovePeer { store, .. } => Some((*store, LimitKind::RemovePeer)),
            Step::SwitchWitness(at) => {
                Some((at.store, if at.is_witness { LimitKind::RemovePeer } else { LimitKind::AddPeer }))
            }
            Step::TransferLeader { .. }
            | Step::PromoteLearner(_)
            | Step::ChangePeerV2Enter { .. }
            | Step::ChangePeerV2Leave { .. }
            | Step::SplitRegion { .. }
            | Step::MergeRegion { .. } => None,
        }
    }

    /// The store that gets a new peer by this step.
    pub fn new_peer_store(&self) -> Option<StoreId> {
        match self {
            Step::AddPeer(at) | Step::AddLearner(at) => Some(at.store),
            _ => None,
        }
    }

    /// What the step will change, by store, for a region of this size.
    pub fn influence(&self, size_mib: u64) -> Vec<(StoreId, StoreInfluence)> {
        let size = i64::try_from(size_mib).unwrap_or(i64::MAX);
        let leader = |sign: i64| StoreInfluence { leader_size: sign * size, leader_count: sign, ..Default::default() };
        let region = |sign: i64| StoreInfluence { region_size: sign * size, region_count: sign, ..Default::default() };
        match self {
            Step::TransferLeader { from, to } => vec![(*from, leader(-1)), (*to, leader(1))],
            Step::AddPeer(at) | Step::AddLearner(at) => vec![(at.store, region(1))],
            Step::RemovePeer { store, .. } => vec![(*store, region(-1))],
            Step::SwitchWitness(at) => {
                let region_size = if at.is_witness { -size } else { size };
                vec![(at.store, StoreInfluence { region_size, ..Default::default() })]
            }
            Step::PromoteLearner(_)
            | Step::ChangePeerV2Enter { .. }
            | Step::ChangePeerV2Leave { .. }
            | Step::SplitRegion { .. }
            | Step::MergeRegion { .. } => Vec::new(),
        }
    }
}

/// The name that `pdpb.CheckPolicy` gives a split policy.
pub fn split_policy_name(policy: i32) -> &'static str {
    match policy {
        1 => "APPROXIMATE",
        2 => "USEKEY",
        _ => "SCAN",
    }
}

fn witness(at: &PeerAt) -> &'static str {
    if at.is_witness { "witness " } else { "" }
}

fn write_changes(f: &mut fmt::Formatter<'_>, promote: &[PeerAt], demote: &[PeerAt]) -> fmt::Result {
    for at in promote {
        write!(f, ", promote {}learner peer {} on store {} to voter", witness(at), at.peer, at.store)?;
    }
    for at in demote {
        write!(f, ", demote {}voter peer {} on store {} to learner", witness(at), at.peer, at.store)?;
    }
    Ok(())
}

impl fmt::Display for Step {
    /// The step's text in logs and REST, PD's to the letter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::TransferLeader { from, to } => write!(f, "transfer leader from store {from} to store {to}"),
            Step::AddPeer(at) => write!(f, "add {}peer {} on store {}", witness(at), at.peer, at.store),
            Step::AddLearner(at) => write!(f, "add {}learner peer {} on store {}", witness(at), at.peer, at.store),
            Step::PromoteLearner(at) => {
                write!(f, "promote {}learner peer {} on store {} to voter", witness(at), at.peer, at.store)
            }
            Step::RemovePeer { store, .. } => write!(f, "remove peer on store {store}"),
            Step::ChangePeerV2Enter { promote, demote } => {
                f.write_str("use joint consensus")?;
                write_changes(f, promote, demote)
            }
            Step::ChangePeerV2Leave { promote, demote } => {
                f.write_str("leave joint state")?;
                write_changes(f, promote, demote)
            }
            Step::SwitchWitness(at) => {
                let to = if at.is_witness { "witness" } else { "non-witness" };
                write!(f, "switch peer {} on store {} to {to}", at.peer, at.store)
            }
            Step::SplitRegion { policy, .. } => write!(f, "split region with policy {}", split_policy_name(*policy)),
            Step::MergeRegion { from, to, .. } => write!(f, "merge region {from} into region {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(peer: u64, store: u64) -> PeerAt {
        PeerAt { peer: PeerId(peer), store: StoreId(store), is_witness: false }
    }

    #[test]
    fn texts_are_those_that_logs_show() {
        let enter = Step::ChangePeerV2Enter { promote: vec![at(201, 1)], demote: vec![at(32, 4)] };
        assert_eq!(
            enter.to_string(),
            "use joint consensus, promote learner peer 201 on store 1 to voter, demote voter peer 32 on store 4 to learner"
        );
        let witness = PeerAt { is_witness: true, ..at(7, 3) };
        assert_eq!(Step::AddLearner(witness).to_string(), "add witness learner peer 7 on store 3");
        assert_eq!(Step::SwitchWitness(witness).to_string(), "switch peer 7 on store 3 to witness");
        assert_eq!(Step::SwitchWitness(at(7, 3)).to_string(), "switch peer 7 on store 3 to non-witness");
        let split = Step::SplitRegion { policy: 1, keys: Vec::new(), range: KeyRange::all() };
        assert_eq!(split.to_string(), "split region with policy APPROXIMATE");
    }

    #[test]
    fn large_regions_get_more_time() {
        assert_eq!(Step::AddLearner(at(1, 1)).timeout(96), Duration::from_secs(600));
        assert_eq!(Step::AddLearner(at(1, 1)).timeout(500), Duration::from_secs(3000));
        assert_eq!(Step::PromoteLearner(at(1, 1)).timeout(500), Duration::from_secs(300));
        let enter = Step::ChangePeerV2Enter { promote: vec![at(1, 1)], demote: vec![at(2, 2)] };
        assert_eq!(enter.timeout(96), Duration::from_secs(180));
    }

    #[test]
    fn costs_follow_the_size() {
        assert_eq!([0, 1, 2, 20, 21, 96].map(move_cost), [0, 0, 200, 200, 1000, 1000]);
    }
}
