//! Regions against their placement rules.
//!
//! Owns: the order of repairs and their names, kinds and priorities. Must not know: which store is best (`filter`), which steps an
//! operator needs (`operator::builder`).

mod witness;

use std::sync::Arc;

use super::{
    Found, Memory,
    deny::{Cause, denied},
    joint, orphan, parts,
};
use crate::{
    model::{LabelOp, Peer, Region, Role, Rule, RuleRole, StoreId, StoreState},
    scheduler::{
        filter::{self, Budget, Wanted, choose_target},
        operator::{Builder, Kind, Operator, Priority},
        outcome::Reason,
        placement::{RegionFit, RuleFit, labels},
        view::ClusterView,
    },
    store::StoreInfo,
};

/// Whether the peers are all right, told without a fit: one voter rule for all stores (or no rules and no location labels), as many
/// voters as it asks for, all on stores that are Up and ordinary, none reported down.
pub(super) fn is_plainly_healthy(view: &ClusterView<'_>, region: &Region) -> bool {
    let replication = &view.settings.replication;
    let count = if replication.enable_placement_rules {
        let [rule] = view.settings.rules.for_region(region) else { return false };
        let is_plain = rule.role == RuleRole::Voter
            && rule.constraints.is_empty()
            && rule.location_labels.is_empty()
            && !rule.is_witness;
        is_plain.then_some(u64::from(rule.count))
    } else {
        replication.location_labels.is_empty().then_some(replication.max_replicas)
    };
    count == Some(region.peers().len() as u64)
        && region.down.is_empty()
        && region.leader.is_some()
        && region.peers().iter().all(|peer| {
            peer.role == Role::Voter
                && !peer.is_witness
                && view.stores.get(&peer.store).is_some_and(|store| {
                    store.record.state == StoreState::Up
                        && !store.record.labels.iter().any(|l| labels::is_exclusive(&l.key))
                })
        })
}

/// Left-over peers first, then for each rule: missing, down, offline, role, better location. Within a rule the first peer that
/// cannot be helped does not keep the next one from being helped; what kept the first one is told if nothing else is done.
pub(super) fn find(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region) -> Found {
    let fit = view.settings.rules.fit(region, view.stores).ok_or(Reason::NoRule)?;
    let checker = Checker { view, budget, memory, region, fit: &fit };
    let mut blocked = None;
    if !fit.orphans.is_empty() {
        match checker.room().and_then(|()| orphan::find(view, region, &fit)) {
            Ok(Some(operator)) => return Ok(Some(operator)),
            Ok(None) => {}
            Err(reason) => blocked = Some(reason),
        }
    }
    for rule in &fit.rules {
        match checker.mend(rule) {
            Ok(Some(operator)) => return Ok(Some(operator)),
            Ok(None) => {}
            Err(reason) => blocked = blocked.or(Some(reason)),
        }
    }
    blocked.map_or(Ok(None), Err)
}

/// Which peer to replace, and why.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Down,
    Offline,
}

impl Loss {
    /// Names of the operator: when the drained or lost store's own turn is to lead (or it does not lead), and else.
    fn descs(self) -> (&'static str, &'static str) {
        match self {
            Loss::Down => ("replace-rule-down-peer", "replace-rule-down-leader-peer"),
            Loss::Offline => ("replace-rule-offline-peer", "replace-rule-offline-leader-peer"),
        }
    }
}

/// The arguments of all parts of a check.
struct Checker<'a> {
    view: &'a ClusterView<'a>,
    budget: &'a dyn Budget,
    memory: &'a Memory,
    region: &'a Region,
    fit: &'a RegionFit,
}

impl Checker<'_> {
    /// Everything about one rule.
    fn mend(&self, rule: &RuleFit) -> Found {
        if rule.missing() > 0 {
            return self.add(rule).map(Some);
        }
        if let Some(operator) = self.promote_witness(rule) {
            return Ok(Some(operator));
        }
        let mut blocked = None;
        for loss in [Loss::Down, Loss::Offline] {
            for peer in rule.peers.iter().filter(|p| self.is_lost(p, loss)) {
                match self.replace_lost(rule, peer, loss) {
                    Ok(operator) => return Ok(Some(operator)),
                    Err(reason) => blocked = blocked.or(Some(reason)),
                }
            }
        }
        for peer in &rule.different_role {
            if let Some(operator) = self.fix_role(rule, peer)? {
                return Ok(Some(operator));
            }
        }
        if let Some(operator) = self.fix_witness(rule)? {
            return Ok(Some(operator));
        }
        match blocked {
            Some(reason) => Err(reason),
            None => self.better_location(rule),
        }
    }

    /// Down: its leader reports it down and its store is silent for `max-store-down-time` (a leader alone may be cut off from a
    /// healthy store). Offline: its store is being emptied, or gone.
    fn is_lost(&self, peer: &Peer, loss: Loss) -> bool {
        let Some(store) = self.view.stores.get(&peer.store) else { return false };
        match loss {
            Loss::Down => self.region.is_down(peer.id) && filter::is_down(self.view, store),
            Loss::Offline => store.record.state != StoreState::Up,
        }
    }

    fn replace_lost(&self, rule: &RuleFit, peer: &Peer, loss: Loss) -> Result<Operator, Reason> {
        let schedule = &self.view.settings.schedule;
        let (enabled, key, cause) = match loss {
            Loss::Down => (schedule.enable_remove_down_replica, "enable-remove-down-replica", Cause::Repair),
            Loss::Offline => {
                (schedule.enable_replace_offline_replica, "enable-replace-offline-replica", Cause::Offline)
            }
        };
        if !enabled {
            return Err(Reason::SwitchedOff(key));
        }
        denied(self.view, self.region, cause)?;
        if loss == Loss::Offline
            && let Some(operator) = self.missing_column_learner()
        {
            return Ok(operator);
        }
        match self.replace(rule, peer, loss) {
            // No store can take the leader's place, but one of the other peers may lead: then this one is an ordinary peer.
            Err(reason @ Reason::NoTarget { .. }) if self.holds_the_lead(rule, peer) => {
                self.fix_follower(peer).map_err(|_| reason)
            }
            replaced => replaced,
        }
    }

    /// Whether the peer leads by a rule of its own for leaders.
    fn holds_the_lead(&self, rule: &RuleFit, peer: &Peer) -> bool {
        rule.rule.role == RuleRole::Leader && self.region.leader == Some(peer.id)
    }

    /// A missing learner of a column store comes before the replacement of a voter on a draining one: it may have to be copied
    /// from there, and the move of the voter would keep the region busy meanwhile.
    fn missing_column_learner(&self) -> Option<Operator> {
        let missing = |r: &&RuleFit| r.missing() > 0 && asks_for_column_learner(&r.rule);
        self.fit.rules.iter().find(missing).and_then(|rule| self.add(rule).ok())
    }

    /// `add-rule-peer`
    fn add(&self, rule: &RuleFit) -> Result<Operator, Reason> {
        if !self.view.settings.schedule.enable_make_up_replica {
            return Err(Reason::SwitchedOff("enable-make-up-replica"));
        }
        denied(self.view, self.region, Cause::Repair)?;
        self.room()?;
        let beside = self.stores(rule, None);
        let target = choose_target(self.view, self.budget, &self.wanted(&rule.rule, &beside))?;
        self.builder("add-rule-peer")
            .add_peer(self.new_peer(&rule.rule, target))
            .priority(Priority::High)
            .build(Kind::REPLICA)
            .map_err(joint::reason)
    }

    /// `replace-rule-…-peer`
    fn replace(&self, rule: &RuleFit, peer: &Peer, loss: Loss) -> Result<Operator, Reason> {
        self.room()?;
        let beside = self.stores(rule, Some(peer.store));
        let target = choose_target(self.view, self.budget, &self.wanted(&rule.rule, &beside))?;
        parts::may_give(self.view, self.budget, self.region, peer.store)?;
        if let Some(desc) = self.fast(peer, rule, loss) {
            let witness = Peer { is_witness: true, ..new_peer(&rule.rule, target) };
            let builder = self.builder(desc).remove_peer(peer.store).add_peer(witness);
            return builder.priority(Priority::Urgent).build(Kind::REPLICA).map_err(joint::reason);
        }
        let next_leader = self.next_leader(peer);
        let (plain, moves_leader) = loss.descs();
        let builder = match next_leader {
            Some(store) if store != peer.store => self.builder(moves_leader).set_leader(store),
            _ => self.builder(plain),
        };
        builder
            .remove_peer(peer.store)
            .add_peer(self.new_peer(&rule.rule, target))
            .priority(Priority::High)
            .build(Kind::REPLICA)
            .map_err(joint::reason)
    }

    /// Which store leads while the new peer is filled, when the peer that goes leads now: the one whose turn it is, of the
    /// healthy peers that may lead and the one that goes.
    fn next_leader(&self, leaving: &Peer) -> Option<StoreId> {
        if self.region.leader != Some(leaving.id) {
            return None;
        }
        let healthy = |p: &Peer| !self.region.is_down(p.id) && !self.region.is_pending(p.id);
        let may = |p: &&Peer| p.id == leaving.id || healthy(p) && self.may_lead(p);
        self.region.peers().iter().filter(may).map(|p| p.store).min_by_key(|s| self.memory.spread.count(*s))
    }

    /// Wrong roles. What a role cannot be mended with now is told as a reason and ends the rule's turn, as in PD.
    fn fix_role<'s>(&'s self, rule: &RuleFit, peer: &Peer) -> Found {
        let leads = self.region.leader == Some(peer.id);
        let (desc, change): (_, fn(Builder<'s>, StoreId) -> Builder<'s>) = match (rule.rule.role, peer.role) {
            (RuleRole::Voter | RuleRole::Leader | RuleRole::Follower, Role::Learner) => {
                if self.region.is_pending(peer.id) || self.region.is_down(peer.id) {
                    return Err(Reason::PendingPeer(peer.id));
                }
                ("fix-peer-role", Builder::promote_learner)
            }
            (RuleRole::Leader, _) if !leads => {
                if !self.may_lead(peer) {
                    return Err(self.no_leader_among(std::slice::from_ref(peer)));
                }
                ("fix-leader-role", Builder::set_leader)
            }
            (RuleRole::Follower, _) if leads => return self.fix_follower(peer).map(Some),
            (RuleRole::Learner, Role::Voter) => ("fix-demote-voter", Builder::demote_voter),
            _ => return Ok(None),
        };
        denied(self.view, self.region, Cause::Repair)?;
        self.room()?;
        let builder = change(self.builder(desc), peer.store);
        builder.build(Kind::default()).map(Some).map_err(joint::reason)
    }

    /// `fix-follower-role`: another peer must lead.
    fn fix_follower(&self, leader: &Peer) -> Result<Operator, Reason> {
        denied(self.view, self.region, Cause::Repair)?;
        self.room()?;
        let healthy = |p: &Peer| !self.region.is_down(p.id) && !self.region.is_pending(p.id);
        let may = |p: &&Peer| p.id != leader.id && healthy(p) && self.may_lead(p);
        let next = self.region.peers().iter().find(may).ok_or_else(|| self.no_leader_among(self.region.peers()))?;
        self.builder("fix-follower-role").set_leader(next.store).build(Kind::default()).map_err(joint::reason)
    }

    /// None of these peers may lead: with the stores that only the label property `reject-leader` keeps from it.
    fn no_leader_among(&self, peers: &[Peer]) -> Reason {
        let rejects = |p: &&Peer| {
            let store = self.view.stores.get(&p.store);
            let refusal = store.and_then(|store| filter::leader_refusal(self.view, store));
            p.role.votes() && !p.is_witness && refusal == Some(filter::Refusal::RejectLeader)
        };
        Reason::NoLeaderTarget { rejecting: peers.iter().filter(rejects).map(|p| p.store).collect() }
    }

    /// Whether the rules let this peer lead and its store can take a leader now.
    fn may_lead(&self, peer: &Peer) -> bool {
        if !peer.role.votes() || peer.is_witness {
            return false;
        }
        let Some(store) = self.view.stores.get(&peer.store) else { return false };
        let leads = |r: &RuleFit| {
            matches!(r.rule.role, RuleRole::Leader | RuleRole::Voter)
                && labels::matches(&store.record, &r.rule.constraints)
        };
        filter::leader_refusal(self.view, store).is_none() && self.fit.rules.iter().any(leads)
    }

    /// `move-to-better-location`: the peer that lies nearest to the others moves, if a store lies further apart.
    fn better_location(&self, rule: &RuleFit) -> Found {
        let asked = &rule.rule;
        if asked.location_labels.is_empty() || asked.count <= 1 || is_as_far_apart_as_can_be(rule) {
            return Ok(None);
        }
        let Some(old) = self.worst_placed(rule) else { return Ok(None) };
        let beside = self.neighbours(rule, old);
        let wanted = Wanted { better_than: Some(old), ..self.wanted(asked, &beside) };
        let Some(target) = parts::better_target(self.view, self.budget, self.region, &wanted, old)? else {
            return Ok(None);
        };
        let builder =
            self.builder("move-to-better-location").remove_peer(old.id()).add_peer(self.new_peer(asked, target));
        builder.build(Kind::REPLICA).map(Some).map_err(joint::reason)
    }

    /// The store of the rule that lies nearest to the others; of equal ones the fullest.
    fn worst_placed(&self, rule: &RuleFit) -> Option<&StoreInfo> {
        parts::worst_placed(self.view, &self.stores(rule, None), &rule.rule.location_labels)
    }

    /// The stores that a peer of this rule should lie apart from: those of all peers in the same role on the same engine, so that
    /// two rules of one role do not put their peers side by side.
    fn neighbours(&self, rule: &RuleFit, leaving: &StoreInfo) -> Vec<&StoreInfo> {
        let same_role = || self.fit.rules.iter().filter(|r| r.rule.role == rule.rule.role);
        let counts = |store: &&StoreInfo| {
            store.id() != leaving.id()
                && store.record.label("engine") == leaving.record.label("engine")
                && same_role().any(|r| labels::matches(&store.record, &r.rule.constraints))
        };
        let stores = self.region.peers().iter().filter_map(|p| self.view.stores.get(&p.store));
        stores.map(Arc::as_ref).filter(counts).collect()
    }

    /// The stores of a rule's peers, without one.
    fn stores(&self, rule: &RuleFit, without: Option<StoreId>) -> Vec<&StoreInfo> {
        parts::stores_of(self.view, &rule.peers, without)
    }

    fn wanted<'b>(&'b self, rule: &'b Rule, beside: &'b [&'b StoreInfo]) -> Wanted<'b> {
        Wanted {
            region: self.region,
            constraints: &rule.constraints,
            location_labels: &rule.location_labels,
            isolation_level: &rule.isolation_level,
            beside,
            better_than: None,
        }
    }

    fn builder(&self, desc: &str) -> Builder<'_> {
        Builder::new(*self.view, self.region, desc)
    }

    fn room(&self) -> Result<(), Reason> {
        parts::room(self.view, self.budget)
    }
}

/// Whether each two stores of the rule differ at the widest level.
fn is_as_far_apart_as_can_be(rule: &RuleFit) -> bool {
    let pairs = rule.peers.len() * rule.peers.len().saturating_sub(1) / 2;
    let widest = i32::try_from(rule.rule.location_labels.len().saturating_sub(1)).unwrap_or(i32::MAX);
    rule.isolation_score >= pairs as f64 * 100f64.powi(widest)
}

/// Whether the rule asks for learners on column stores (`engine` is `tiflash`).
fn asks_for_column_learner(rule: &Rule) -> bool {
    rule.role == RuleRole::Learner
        && rule.constraints.iter().any(|c| {
            c.key == "engine" && c.op == LabelOp::In && c.values.iter().any(|v| v.eq_ignore_ascii_case("tiflash"))
        })
}

/// The peer with data that stands for what a rule wants on a store.
fn new_peer(rule: &Rule, store: StoreId) -> Peer {
    let role = if rule.role == RuleRole::Learner { Role::Learner } else { Role::Voter };
    Peer { store, role, ..Peer::default() }
}
