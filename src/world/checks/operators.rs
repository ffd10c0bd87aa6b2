//! What must hold for operators: one a region, none while halted, none towards a store that is going.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    At, Check, Moment, Verdict, is_asked_for, is_by_hand,
    rules::{covers, meets},
};
use crate::{
    api::rows,
    model::{OperatorId, Peer, Region, RegionId, RuleRole, StoreId, StoreState, names::desc},
    scheduler::operator::{Operator, Step},
    store::Liveness,
};

/// O4: one operator a region.
#[derive(Default)]
pub(super) struct OneARegion {
    running: BTreeMap<RegionId, OperatorId>,
    /// Regions that wait to take another one in: whose operator, and which region.
    waiting: BTreeMap<RegionId, (OperatorId, RegionId)>,
}

/// The region that this operator waits for to be merged into its own.
fn waits_for(op: &Operator) -> Option<RegionId> {
    op.steps.iter().find_map(|step| match step {
        Step::MergeRegion { from, passive: true, .. } => Some(*from),
        _ => None,
    })
}

impl Check for OneARegion {
    fn name(&self) -> &'static str {
        "o4_one_operator"
    }

    fn says(&self) -> &'static str {
        "a region has at most one operator, each ends once, and none waits for a merge that nobody makes"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        match moment {
            Moment::Added { op, .. } => {
                if let Some(from) = waits_for(op) {
                    self.waiting.insert(op.region, (op.id, from));
                }
                match self.running.insert(op.region, op.id) {
                    Some(other) => Err(format!("region {} had operator {other} when {} came", op.region, op.id)),
                    None => Ok(1),
                }
            }
            Moment::Ended { op } => {
                // One that never started ends too.
                if self.running.get(&op.region) == Some(&op.id) {
                    self.running.remove(&op.region);
                }
                Ok(0)
            }
            Moment::Restarted { .. } => {
                self.running.clear();
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        let running = &self.running;
        self.waiting.retain(|region, (id, _)| running.get(region) == Some(id));
        // When the merge is made its source leaves the index, its operator with it.
        let is_left =
            |from: &RegionId| !running.contains_key(from) && at.control.cluster().regions().get(*from).is_some();
        match self.waiting.iter().find(|(_, (_, from))| is_left(from)) {
            Some((region, (_, from))) => Err(format!("region {region} waits for region {from}, which has no operator")),
            None => Ok(self.waiting.len() as u64),
        }
    }
}

/// O7: halted means halted.
pub(super) struct Halted;

impl Check for Halted {
    fn name(&self) -> &'static str {
        "o7_halted"
    }

    fn says(&self) -> &'static str {
        "while scheduling is halted nothing starts but what a person asks for"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        let Moment::Added { op, .. } = moment else { return Ok(0) };
        let allowed = is_asked_for(op) || op.desc == desc::LEAVE_JOINT_STATE;
        if at.control.cluster().settings().schedule.halt_scheduling && !allowed {
            return Err(format!("{} of region {} started", op.desc, op.region));
        }
        Ok(1)
    }
}

/// O2: nothing is moved to a store that is going or gone.
pub(super) struct Targets;

/// Which stores have a voter with data, or have none any more, after a step.
fn votes_after(step: &Step) -> Vec<(StoreId, bool)> {
    match step {
        Step::AddPeer(peer) | Step::PromoteLearner(peer) | Step::SwitchWitness(peer) => {
            vec![(peer.store, !peer.is_witness)]
        }
        Step::ChangePeerV2Enter { promote, demote } => {
            let promoted = promote.iter().map(|peer| (peer.store, !peer.is_witness));
            promoted.chain(demote.iter().map(|peer| (peer.store, false))).collect()
        }
        Step::RemovePeer { store, .. } => vec![(*store, false)],
        _ => Vec::new(),
    }
}

/// The stores whose peers can lead when the operator is done: voters with data, none that ails now.
fn voters_then(op: &Operator, region: &Region) -> BTreeSet<StoreId> {
    let well = |p: &&Peer| p.role.votes() && !p.is_witness && !region.is_pending(p.id) && !region.is_down(p.id);
    let mut then: BTreeSet<StoreId> = region.peers().iter().filter(well).map(|p| p.store).collect();
    for (store, votes) in op.steps.iter().flat_map(votes_after) {
        if votes {
            then.insert(store);
        } else {
            then.remove(&store);
        }
    }
    then
}

/// Whether the store is Up and takes leaders of the region: nothing pauses or names it, and some rule lets it lead.
fn takes_leaders(store: StoreId, region: &Region, at: &At<'_>) -> bool {
    let cluster = at.control.cluster();
    let (Some(record), Some(info)) = (at.state.stores.get(&store), cluster.stores().get(store)) else { return false };
    let settings = cluster.settings();
    let rejects = settings.reject_leader.iter().any(|label| record.labels.contains(label));
    let well = info.pause_leader_in == 0
        && !info.stats.is_busy
        && cluster.liveness(&info, at.now) == Liveness::Connected
        && record.state == StoreState::Up;
    let rules = at.state.rules.values().filter_map(|json| rows::rule(json).ok());
    let mut leads = rules.filter(|rule| matches!(rule.role, RuleRole::Leader | RuleRole::Voter));
    let allowed = !settings.replication.enable_placement_rules
        || leads.any(|rule| covers(&rule.range, region.range()) && meets(&rule, record));
    well && !rejects && allowed
}

impl Check for Targets {
    fn name(&self) -> &'static str {
        "o2_targets"
    }

    fn says(&self) -> &'static str {
        "no operator moves a peer to a store that is not Up, nor a leader while one that is Up could lead"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        let Moment::Added { op, region } = moment else { return Ok(0) };
        if is_by_hand(op) {
            return Ok(0);
        }
        for step in op.steps.iter() {
            let (to, leads) = match step {
                Step::AddPeer(at) | Step::AddLearner(at) => (at.store, false),
                Step::TransferLeader { to, .. } => (*to, true),
                _ => continue,
            };
            let state = at.state.stores.get(&to).map(|s| s.state);
            let others = region.filter(|_| leads && state == Some(StoreState::Offline));
            let is_best = others.is_some_and(|r| !voters_then(op, r).iter().any(|s| takes_leaders(*s, r, at)));
            if state != Some(StoreState::Up) && !is_best {
                return Err(format!("{} of region {}: {step}", op.desc, op.region));
            }
        }
        Ok(1)
    }
}
