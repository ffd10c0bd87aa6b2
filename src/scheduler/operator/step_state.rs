//! What a region's report says about a step: done, under way, impossible; and the command that asks for it.
//!
//! Owns: the reading of peers and roles. Must not know: whole operators, who sends commands.

use super::step::{PeerAt, Step};
use crate::{
    model::{Region, Role},
    scheduler::effect::{CommandKind, PeerChange},
};

/// Why a step can no longer be done: the region is not in a state that leads there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StepError {
    /// A peer that the step is about is not there.
    #[error("peer does not exist")]
    NoPeer,
    /// The leader cannot be moved to a peer without a vote.
    #[error("peer already is a learner")]
    IsLearner,
    /// A peer that was to be promoted votes already.
    #[error("peer already is a voter")]
    IsVoter,
    /// A peer that is being demoted cannot be promoted.
    #[error("cannot promote a demoting voter")]
    PromotesDemoting,
    /// A peer that is being promoted cannot be demoted.
    #[error("cannot demote an incoming voter")]
    DemotesIncoming,
    /// The store has a peer of another id.
    #[error(
        "peer {found} has already existed in store {store}, the operator is trying to add peer {wanted} on the same store"
    )]
    OtherPeer {
        /// What is there.
        found: u64,
        /// Where.
        store: u64,
        /// What the step wants there.
        wanted: u64,
    },
    /// The leader itself was to be removed.
    #[error("cannot remove leader peer")]
    RemovesLeader,
    /// The leader would become a learner.
    #[error("cannot demote leader peer")]
    DemotesLeader,
    /// Some of the step's peers are in a joint state and some are not.
    #[error("non-atomic joint consensus")]
    HalfJoint,
    /// Peers that the step does not name are in a joint state.
    #[error("some other peers are in joint state")]
    OthersJoint,
    /// The store that should get a peer is not known.
    #[error("target store does not exist")]
    NoStore,
    /// The store that should get a peer is gone or down.
    #[error("target store is down")]
    StoreDown,
    /// The store that should get a peer is being emptied, or is gone for good.
    #[error("target store is not up")]
    StoreLeaves,
}

impl Step {
    /// Whether the region shows that the step is done.
    pub fn is_finish(&self, region: &Region) -> bool {
        match self {
            Step::TransferLeader { to, .. } => region.leader_store() == Some(*to),
            Step::AddPeer(at) => has(region, at, |r| r == Role::Voter) && !region.is_pending(at.peer),
            Step::AddLearner(at) => has(region, at, |_| true) && !region.is_pending(at.peer),
            Step::PromoteLearner(at) => has(region, at, |r| r == Role::Voter),
            Step::RemovePeer { store, .. } => region.meta.peer_on(*store).is_none(),
            // A region that is past the joint state already has entered it.
            Step::ChangePeerV2Enter { promote, demote } => {
                promote.iter().all(|at| has(region, at, |r| matches!(r, Role::IncomingVoter | Role::Voter)))
                    && demote.iter().all(|at| gone_or(region, at, |r| matches!(r, Role::DemotingVoter | Role::Learner)))
            }
            Step::ChangePeerV2Leave { promote, demote } => {
                !region.meta.in_joint_state()
                    && promote.iter().all(|at| has(region, at, |r| r == Role::Voter))
                    && demote.iter().all(|at| gone_or(region, at, |r| r == Role::Learner))
            }
            Step::SwitchWitness(at) => has(region, at, |_| true) && switched(region, at) && !region.is_pending(at.peer),
            Step::SplitRegion { range, .. } => region.range() != range,
            Step::MergeRegion { passive, to_range, .. } => *passive && region.range() != to_range,
        }
    }

    /// Whether the step can still be done, as far as the region shows.
    ///
    /// # Errors
    /// What stands against it; the operator is then stale.
    pub fn check_in_progress(&self, region: &Region) -> Result<(), StepError> {
        match self {
            Step::TransferLeader { to, .. } => match region.meta.peer_on(*to).map(|p| p.role) {
                None => Err(StepError::NoPeer),
                Some(Role::Learner | Role::DemotingVoter) => Err(StepError::IsLearner),
                Some(Role::Voter | Role::IncomingVoter) => Ok(()),
            },
            Step::AddPeer(at) | Step::AddLearner(at) => match region.meta.peer_on(at.store) {
                Some(found) if found.id != at.peer => {
                    Err(StepError::OtherPeer { found: found.id.0, store: at.store.0, wanted: at.peer.0 })
                }
                Some(_) | None => Ok(()),
            },
            Step::PromoteLearner(at) | Step::SwitchWitness(at) => {
                role_of(region, at).map(|_| ()).ok_or(StepError::NoPeer)
            }
            Step::RemovePeer { store, .. } if region.leader_store() == Some(*store) => Err(StepError::RemovesLeader),
            Step::ChangePeerV2Enter { promote, demote } => check_enter(region, promote, demote),
            Step::ChangePeerV2Leave { promote, demote } => check_leave(region, promote, demote),
            Step::RemovePeer { .. } | Step::SplitRegion { .. } | Step::MergeRegion { .. } => Ok(()),
        }
    }

    /// By how much the step has raised `conf_ver`, as far as the region shows.
    pub fn conf_ver_changed(&self, region: &Region) -> u64 {
        let all = |promote: &[PeerAt], demote: &[PeerAt]| (promote.len() + demote.len()) as u64;
        match self {
            Step::AddPeer(at) | Step::PromoteLearner(at) => u64::from(has(region, at, Role::votes)),
            Step::AddLearner(at) => u64::from(has(region, at, |_| true)),
            Step::SwitchWitness(at) => u64::from(has(region, at, |_| true) && switched(region, at)),
            Step::RemovePeer { store, peer } => {
                u64::from(region.meta.peer_on(*store).is_none_or(|found| found.id != *peer))
            }
            Step::ChangePeerV2Enter { promote, demote } => {
                let entered =
                    promote.iter().all(|at| has(region, at, |r| matches!(r, Role::IncomingVoter | Role::Voter)))
                        && demote
                            .iter()
                            .all(|at| gone_or(region, at, |r| matches!(r, Role::DemotingVoter | Role::Learner)));
                if entered { all(promote, demote) } else { 0 }
            }
            Step::ChangePeerV2Leave { promote, demote } => {
                let left = promote.iter().all(|at| has(region, at, |r| r == Role::Voter))
                    && demote.iter().all(|at| gone_or(region, at, |r| r == Role::Learner));
                if left { all(promote, demote) } else { 0 }
            }
            Step::TransferLeader { .. } | Step::SplitRegion { .. } | Step::MergeRegion { .. } => 0,
        }
    }

    /// What to ask the leader for; `None` when there is nothing to say but to wait (a new peer catches up, the target of a
    /// merge, a peer that the command would name is gone). `joint`: the cluster knows joint consensus, so that every
    /// membership change goes as `ChangePeerV2`, a single one too. A merge needs its target region: see the controller.
    pub fn command(&self, region: &Region, joint: bool) -> Option<CommandKind> {
        let one = |change: PeerChange, peer| {
            if joint {
                CommandKind::ChangePeerV2 { changes: vec![(change, peer)] }
            } else {
                CommandKind::ChangePeer { change, peer }
            }
        };
        match self {
            Step::TransferLeader { to, .. } => {
                region.meta.peer_on(*to).map(|peer| CommandKind::TransferLeader { to: *peer })
            }
            Step::AddPeer(at) | Step::AddLearner(at) if region.meta.peer_on(at.store).is_some() => None,
            Step::AddPeer(at) => Some(one(PeerChange::AddNode, at.with_role(Role::Voter))),
            Step::AddLearner(at) => Some(one(PeerChange::AddLearnerNode, at.with_role(Role::Learner))),
            Step::PromoteLearner(at) => Some(one(PeerChange::AddNode, at.with_role(Role::Voter))),
            Step::RemovePeer { store, .. } => {
                region.meta.peer_on(*store).map(|peer| one(PeerChange::RemoveNode, *peer))
            }
            Step::ChangePeerV2Enter { promote, demote } => {
                let promote = promote.iter().map(|at| (PeerChange::AddNode, at.with_role(Role::Voter)));
                let demote = demote.iter().map(|at| (PeerChange::AddLearnerNode, at.with_role(Role::Learner)));
                Some(CommandKind::ChangePeerV2 { changes: promote.chain(demote).collect() })
            }
            Step::ChangePeerV2Leave { .. } => Some(CommandKind::ChangePeerV2 { changes: Vec::new() }),
            Step::SwitchWitness(at) => Some(CommandKind::SwitchWitness { peer: at.peer, is_witness: at.is_witness }),
            Step::SplitRegion { policy, keys, .. } => Some(CommandKind::Split { policy: *policy, keys: keys.clone() }),
            Step::MergeRegion { .. } => None,
        }
    }
}

/// The role of exactly this peer, on its store.
fn role_of(region: &Region, at: &PeerAt) -> Option<Role> {
    region.meta.peer_on(at.store).filter(|p| p.id == at.peer).map(|p| p.role)
}

fn has(region: &Region, at: &PeerAt, wanted: impl Fn(Role) -> bool) -> bool {
    role_of(region, at).is_some_and(wanted)
}

/// Whether the peer on the store is a witness, or none, as `at` says.
fn switched(region: &Region, at: &PeerAt) -> bool {
    region.meta.peer_on(at.store).is_some_and(|p| p.is_witness == at.is_witness)
}

/// Whether the store has no peer any more, or exactly this one in a wanted role.
fn gone_or(region: &Region, at: &PeerAt, wanted: impl Fn(Role) -> bool) -> bool {
    region.meta.peer_on(at.store).is_none() || has(region, at, wanted)
}

fn joint_count(region: &Region) -> usize {
    region.peers().iter().filter(|p| p.role.in_joint_state()).count()
}

fn check_enter(region: &Region, promote: &[PeerAt], demote: &[PeerAt]) -> Result<(), StepError> {
    let mut joint = 0;
    for at in promote {
        match role_of(region, at).ok_or(StepError::NoPeer)? {
            Role::Learner => {}
            Role::IncomingVoter => joint += 1,
            Role::Voter => return Err(StepError::IsVoter),
            Role::DemotingVoter => return Err(StepError::PromotesDemoting),
        }
    }
    for at in demote {
        match role_of(region, at).ok_or(StepError::NoPeer)? {
            Role::Voter => {}
            Role::DemotingVoter => joint += 1,
            Role::Learner => return Err(StepError::IsLearner),
            Role::IncomingVoter => return Err(StepError::DemotesIncoming),
        }
    }
    match joint {
        0 if joint_count(region) > 0 => Err(StepError::OthersJoint),
        0 => Ok(()),
        n if n < promote.len() + demote.len() => Err(StepError::HalfJoint),
        n if n != joint_count(region) => Err(StepError::OthersJoint),
        _ => Ok(()),
    }
}

fn check_leave(region: &Region, promote: &[PeerAt], demote: &[PeerAt]) -> Result<(), StepError> {
    let mut joint = 0;
    for at in promote {
        match role_of(region, at).ok_or(StepError::NoPeer)? {
            Role::IncomingVoter => joint += 1,
            Role::Voter => {}
            Role::Learner => return Err(StepError::IsLearner),
            Role::DemotingVoter => return Err(StepError::PromotesDemoting),
        }
    }
    for at in demote {
        match role_of(region, at).ok_or(StepError::NoPeer)? {
            Role::DemotingVoter => joint += 1,
            Role::Learner => {}
            Role::Voter => return Err(StepError::IsVoter),
            Role::IncomingVoter => return Err(StepError::DemotesIncoming),
        }
    }
    if joint > 0 && joint < promote.len() + demote.len() {
        return Err(StepError::HalfJoint);
    }
    if joint != joint_count(region) {
        return Err(StepError::OthersJoint);
    }
    if region.leader_peer().is_some_and(|p| p.role == Role::DemotingVoter) {
        return Err(StepError::DemotesLeader);
    }
    Ok(())
}
