//! What must hold for each command that leaves: it fits the region as it is known, its leader can lead, its ids are new.

use std::collections::BTreeMap;

use super::{At, Check, Moment, Verdict};
use crate::{
    model::{PeerId, Region, RegionId, Role, StoreId},
    scheduler::{
        effect::{CommandKind, PeerChange},
        operator::Step,
    },
};

/// O3: a command is for the region as it is known, and goes to its leader.
pub(super) struct Fresh;

impl Check for Fresh {
    fn name(&self) -> &'static str {
        "o3_fresh_commands"
    }

    fn says(&self) -> &'static str {
        "a command carries the epoch that is known, and goes to the leader"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        let Moment::Sent { command, region } = moment else { return Ok(0) };
        let Some(region) = region else { return Err(format!("region {} is not known", command.region)) };
        if command.epoch != region.epoch() {
            return Err(format!("region {}: the command is for another epoch", command.region));
        }
        if region.leader_peer().map(|p| (p.id, p.store)) != Some((command.target_peer.id, command.store)) {
            return Err(format!("region {}: the command goes to store {}", command.region, command.store));
        }
        Ok(1)
    }
}

/// O5: who is asked to lead can lead.
pub(super) struct Leaders;

impl Check for Leaders {
    fn name(&self) -> &'static str {
        "o5_leaders"
    }

    fn says(&self) -> &'static str {
        "no leader is sent to a learner, a witness, or a peer that is pending, down or not there"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        let bad = |region: &Region, to, why: &str| Err(format!("region {}: leader to store {to}: {why}", region.id()));
        match moment {
            // A peer may fall ill between the beginning and the command; it cannot lose its vote.
            Moment::Sent { command, region: Some(region) } => {
                let CommandKind::TransferLeader { to } = &command.kind else { return Ok(0) };
                let there = region.meta.peer(to.id).filter(|p| p.store == to.store);
                if there.is_some_and(|p| p.is_witness) {
                    return bad(region, to.store, "it is a witness");
                }
                match there.map(|p| p.role) {
                    None => bad(region, to.store, "it has no such peer"),
                    Some(Role::Voter | Role::IncomingVoter) => Ok(1),
                    Some(Role::Learner | Role::DemotingVoter) => bad(region, to.store, "it does not vote"),
                }
            }
            Moment::Added { op, region: Some(region) } => {
                let Some(Step::TransferLeader { to, .. }) = op.steps.first() else { return Ok(0) };
                match region.meta.peer_on(*to) {
                    None => bad(region, *to, "it has no such peer"),
                    Some(p) if region.pending.contains(&p.id) || region.is_down(p.id) => {
                        bad(region, *to, "it is pending or down")
                    }
                    Some(_) => Ok(1),
                }
            }
            _ => Ok(0),
        }
    }
}

/// O1: where nodes do not know joint states, or the configuration does not want them, membership changes one peer at a time.
pub(super) struct SingleSteps;

/// Whether every store knows joint states.
fn knows_joint_states(at: &At<'_>) -> bool {
    let version = at.state.cluster_version.clone().unwrap_or_default().to_string();
    version.split('.').next().and_then(|major| major.parse::<u64>().ok()).is_some_and(|major| major >= 5)
}

impl Check for SingleSteps {
    fn name(&self) -> &'static str {
        "o1_single_steps"
    }

    fn says(&self) -> &'static str {
        "without joint consensus no operator enters a joint state, and old stores get no command that they do not know"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        match moment {
            Moment::Added { op, .. } => {
                if knows_joint_states(at) && at.control.dynamic().schedule.enable_joint_consensus {
                    return Ok(0);
                }
                match op.steps.iter().find(|step| matches!(step, Step::ChangePeerV2Enter { .. })) {
                    Some(step) => Err(format!("{} of region {}: {step}", op.desc, op.region)),
                    None => Ok(1),
                }
            }
            Moment::Sent { command, .. } if !knows_joint_states(at) => match command.kind {
                CommandKind::ChangePeerV2 { .. } => Err(format!("region {} of an old cluster", command.region)),
                _ => Ok(1),
            },
            _ => Ok(0),
        }
    }
}

/// D1: an id is one peer, for ever.
#[derive(Default)]
pub(super) struct PeerIds {
    known: BTreeMap<PeerId, (RegionId, StoreId)>,
}

impl Check for PeerIds {
    fn name(&self) -> &'static str {
        "d1_ids"
    }

    fn says(&self) -> &'static str {
        "no peer id is given out twice"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        let Moment::Sent { command, .. } = moment else { return Ok(0) };
        let added = match &command.kind {
            CommandKind::ChangePeerV2 { changes } => changes.clone(),
            CommandKind::ChangePeer { change, peer } => vec![(*change, *peer)],
            _ => return Ok(0),
        };
        for (change, peer) in added.iter().filter(|(c, _)| *c != PeerChange::RemoveNode) {
            let place = (command.region, peer.store);
            let known = *self.known.entry(peer.id).or_insert(place);
            if known != place {
                return Err(format!("{change:?}: peer {} was on store {} of region {}", peer.id, known.1, known.0));
            }
        }
        Ok(1)
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        for region in at.fleet.regions() {
            for peer in &region.peers {
                let place = (region.id, peer.store);
                let known = *self.known.entry(peer.id).or_insert(place);
                if known != place {
                    return Err(format!("peer {} is on stores {} and {}", peer.id, known.1, place.1));
                }
            }
        }
        Ok(0)
    }
}
