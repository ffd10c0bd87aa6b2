//! The order of steps for a change of peers and leader.
//!
//! Owns: what comes before what, so that at every moment a quorum that was alive stays alive and the leader stays a voter. Must
//! not know: stores, rules, ids that are still to be given, texts.

use std::collections::BTreeMap;

use super::step::{PeerAt, Step};
use crate::model::{Peer, Role, StoreId};

/// What has to change. Each list is in the order of stores.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// New peers, with the role they shall have.
    pub(super) add: Vec<Peer>,
    /// Peers that go, as they are.
    pub(super) remove: Vec<Peer>,
    /// Learners that become voters.
    pub(super) promote: Vec<Peer>,
    /// Voters that become learners; only with joint consensus.
    pub(super) demote: Vec<Peer>,
    /// Peers that stay and become witnesses, or get data, as their `is_witness` says.
    pub(super) switch: Vec<Peer>,
}

impl Change {
    /// From the peers that are there to those that are wanted. Without joint consensus a voter cannot become a learner: it is
    /// removed and a learner added in its place.
    pub(super) fn between(origin: &BTreeMap<StoreId, Peer>, target: &BTreeMap<StoreId, Peer>, joint: bool) -> Self {
        let mut change = Change::default();
        for (store, old) in origin {
            let Some(new) = target.get(store) else {
                change.remove.push(*old);
                continue;
            };
            // Roles change when those that get data have it and nobody has become a witness yet.
            let then = Peer { is_witness: old.is_witness && new.is_witness, ..*old };
            match (old.role.votes(), new.role.votes()) {
                (false, true) => change.promote.push(Peer { role: Role::Voter, ..then }),
                (true, false) if joint => change.demote.push(Peer { role: Role::Learner, ..then }),
                (true, false) => {
                    change.remove.push(*old);
                    change.add.push(Peer { id: 0.into(), ..*new });
                    continue;
                }
                (true, true) | (false, false) => {}
            }
            if old.is_witness != new.is_witness {
                change.switch.push(Peer { is_witness: new.is_witness, ..*old });
            }
        }
        change.add.extend(target.iter().filter(|(store, _)| !origin.contains_key(store)).map(|(_, peer)| *peer));
        change.add.sort_by_key(|p| p.store);
        change
    }

    /// Whether one simple change is enough. Demoting a voter never is: nodes know it only as part of a joint change. Nor is the
    /// removal of one of two voters: the one that stays could not tell whether it was agreed on if the other is lost meanwhile.
    pub(super) fn is_single(&self, target_count: usize) -> bool {
        let last_of_two = self.remove.len() == 1 && target_count == 1;
        self.demote.is_empty() && !last_of_two && self.add.len() + self.remove.len() + self.promote.len() <= 1
    }

    /// `moves` with the switches about them: who shall have data gets it before anybody goes or leads, and who shall have none keeps
    /// it until somebody else leads.
    pub(super) fn with_switches(&self, moves: Vec<Step>) -> Vec<Step> {
        let all = |is_witness| {
            let switched = self.switch.iter().filter(move |p| p.is_witness == is_witness);
            switched.map(|p| Step::SwitchWitness(p.into()))
        };
        all(false).chain(moves).chain(all(true)).collect()
    }

    fn switch_brief(&self) -> String {
        let of = |is_witness: bool| {
            let peers: Vec<Peer> = self.switch.iter().copied().filter(|p| p.is_witness == is_witness).collect();
            let to = if is_witness { "witness" } else { "non-witness" };
            (!peers.is_empty()).then(|| format!("switch peer: store {} to {to}", stores(&peers)))
        };
        of(false).into_iter().chain(of(true)).collect::<Vec<_>>().join(", ")
    }

    /// PD's short text. `promote peer …, rm peer …` has its two lists the wrong way round, and clients know it so.
    pub(super) fn brief(&self, leader: StoreId, new_leader: Option<StoreId>) -> String {
        let [add, remove, promote, demote] = [&self.add, &self.remove, &self.promote, &self.demote].map(|p| stores(p));
        match (!self.add.is_empty(), !self.remove.is_empty(), !self.promote.is_empty(), !self.demote.is_empty()) {
            (true, true, _, _) => format!("mv peer: store {remove} to {add}"),
            (true, false, _, _) => format!("add peer: store {add}"),
            (false, true, true, _) => format!("promote peer: store {remove}, rm peer: store {promote}"),
            (false, true, false, true) => format!("demote peer: store {demote}, rm peer: store {remove}"),
            (false, true, false, false) => format!("rm peer: store {remove}"),
            (false, false, true, _) => format!("promote peer: store {promote}"),
            (false, false, false, true) => format!("demote peer: store {demote}"),
            (false, false, false, false) if !self.switch.is_empty() => self.switch_brief(),
            (false, false, false, false) => match new_leader {
                Some(to) if to != leader => format!("transfer leader: store {leader} to {to}"),
                Some(_) | None => String::new(),
            },
        }
    }
}

/// A list of stores as Go prints one: `[1 3]`.
fn stores(peers: &[Peer]) -> String {
    let ids: Vec<_> = peers.iter().map(|p| p.store.to_string()).collect();
    format!("[{}]", ids.join(" "))
}

fn at(peers: &[Peer]) -> Vec<PeerAt> {
    peers.iter().map(PeerAt::from).collect()
}

/// With joint consensus: new learners, then the leader where that can be, all role changes at once, then the removals.
pub(super) fn joint_steps(change: &Change, origin: &BTreeMap<StoreId, Peer>, from: StoreId, to: StoreId) -> Vec<Step> {
    let mut steps: Vec<Step> = change.add.iter().map(|p| Step::AddLearner(p.into())).collect();
    // Learners that are there already and new ones are promoted in one order, that of stores.
    let mut promote = at(&change.promote);
    promote.extend(change.add.iter().filter(|p| p.role.votes()).map(PeerAt::from));
    promote.sort_by_key(|p| p.store);
    let mut demote = at(&change.demote);
    demote.extend(change.remove.iter().filter(|p| p.role.votes()).map(PeerAt::from));
    demote.sort_by_key(|p| p.store);

    let transfer = (from != to).then_some(Step::TransferLeader { from, to });
    let votes_now = origin.get(&to).is_some_and(|p| p.role.votes());
    let leader_goes = demote.iter().any(|p| p.store == from);
    let (mut before, mut within, mut after) = (None, None, None);
    match (votes_now, leader_goes) {
        (true, _) => before = transfer,
        // The new leader votes only from the joint state on, the old one only until it is left.
        (false, true) => within = transfer,
        (false, false) => after = transfer,
    }
    steps.extend(before);
    if !promote.is_empty() || !demote.is_empty() {
        steps.push(Step::ChangePeerV2Enter { promote: promote.clone(), demote: demote.clone() });
        steps.extend(within);
        steps.push(Step::ChangePeerV2Leave { promote, demote });
    } else {
        steps.extend(within);
    }
    steps.extend(after);
    steps.extend(change.remove.iter().map(|p| Step::RemovePeer { store: p.store, peer: p.id }));
    steps
}

/// Without joint consensus: one change at a time. Each peer that gets a vote, new ones before learners that are there already, is
/// followed by the removal of one that `fits` it best, so that the number of voters grows and shrinks by one; then the removals that
/// are left, in the order of `change.remove`. A voter that shall be a learner is removed in its turn and comes back at once. The
/// leader moves as late as it can: just before its peer goes, or at the end; with `early` it moves before all else.
pub(super) fn single_steps<F: Ord>(
    change: &Change,
    from: StoreId,
    to: StoreId,
    early: bool,
    fits: impl Fn(StoreId, StoreId) -> F,
) -> Vec<Step> {
    let mut walk = SingleSteps { steps: Vec::new(), leader: from, to };
    if early {
        walk.move_leader();
    }
    let (voters, learners): (Vec<Peer>, Vec<Peer>) = change.add.iter().partition(|p| p.role.votes());
    let promoted = change.promote.iter().map(|p| (true, *p));
    let mut gains: Vec<(bool, Peer)> = voters.into_iter().map(|p| (false, p)).chain(promoted).collect();
    // The peer that the leader moves to has to vote before the leader's peer goes.
    gains.sort_by_key(|(is_there, p)| (p.store != to, *is_there, p.store));
    let (mut out, out_learners): (Vec<Peer>, Vec<Peer>) = change.remove.iter().partition(|p| p.role.votes());
    let comes_back = |gone: &Peer| learners.iter().find(|p| p.store == gone.store);

    for (is_there, peer) in &gains {
        if !is_there {
            walk.steps.push(Step::AddLearner(peer.into()));
        }
        walk.steps.push(Step::PromoteLearner(peer.into()));
        let leaving = out.iter().enumerate().rev().filter(|(_, gone)| comes_back(gone).is_none());
        if let Some((i, _)) = leaving.max_by_key(|(_, gone)| fits(peer.store, gone.store)) {
            walk.take_out(&out.remove(i));
        }
    }
    for gone in &out {
        walk.take_out(gone);
        walk.steps.extend(comes_back(gone).map(|p| Step::AddLearner(p.into())));
    }
    let new = learners.iter().filter(|p| change.remove.iter().all(|gone| gone.store != p.store));
    walk.steps.extend(new.map(|p| Step::AddLearner(p.into())));
    for gone in &out_learners {
        walk.take_out(gone);
    }
    walk.move_leader();
    walk.steps
}

/// Steps in the making, and who leads after them.
struct SingleSteps {
    steps: Vec<Step>,
    leader: StoreId,
    to: StoreId,
}

impl SingleSteps {
    fn move_leader(&mut self) {
        if self.leader != self.to {
            self.steps.push(Step::TransferLeader { from: self.leader, to: self.to });
            self.leader = self.to;
        }
    }

    fn take_out(&mut self, peer: &Peer) {
        if peer.store == self.leader {
            self.move_leader();
        }
        self.steps.push(Step::RemovePeer { store: peer.store, peer: peer.id });
    }
}
