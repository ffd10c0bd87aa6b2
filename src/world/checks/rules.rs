//! What must hold for placement rules and region labels, worked out anew from the agreed texts by the simplest means.

use std::{collections::BTreeMap, sync::Arc};

use super::{At, Check, Moment, Verdict, is_asked_for, is_by_hand};
use crate::{
    api::rows,
    config::DenyScope,
    meta::Change,
    model::{
        KeyRange, LabelOp, OperatorId, Peer, Region, RegionLabelRule, Role, Rule, RuleRole, StoreId, StoreRecord,
        names::desc,
    },
    scheduler::operator::Operator,
};

/// Whether the inner range lies in the outer one.
pub(super) fn covers(outer: &KeyRange, inner: &KeyRange) -> bool {
    let end = outer.end.is_empty() || (!inner.end.is_empty() && inner.end <= outer.end);
    outer.start <= inner.start && end
}

/// O7: `schedule=deny`.
pub(super) struct Deny;

/// Whether an operator is held by a deny rule under this scope.
fn is_held(op: &Operator, scope: DenyScope) -> bool {
    let begins = |words: &[&str]| words.iter().any(|word| op.desc.starts_with(word));
    if is_asked_for(op) || op.desc == desc::LEAVE_JOINT_STATE || begins(&["evict-", "grant-leader"]) {
        return false;
    }
    let hot = ["transfer-hot-", "move-hot-", "random-move-hot-", "grant-hot-"];
    let balance = begins(&hot) || begins(&["balance-", "merge-", "scatter", "shuffle-", "label-reject-"]);
    let moves = [
        desc::MOVE_TO_BETTER_LOCATION,
        desc::REPLACE_RULE_OFFLINE_PEER,
        desc::REPLACE_RULE_OFFLINE_LEADER_PEER,
        desc::FAST_REPLACE_RULE_OFFLINE_PEER,
        desc::REPLACE_OFFLINE_REPLICA,
        desc::REMOVE_EXTRA_OFFLINE_REPLICA,
    ];
    match scope {
        DenyScope::Balance => balance,
        DenyScope::Moves => balance || moves.contains(&op.desc.as_str()),
        DenyScope::All => true,
    }
}

/// Whether label `schedule` says deny at each key of the range. At one key the rule of the highest index counts, then of the lowest
/// id; between two borders of rules nothing changes.
fn is_denied(at: &At<'_>, range: &KeyRange) -> bool {
    let rules: Vec<RegionLabelRule> =
        at.state.label_rules.values().filter_map(|json| rows::label_rule(json).ok()).collect();
    let borders = rules.iter().flat_map(|rule| &rule.ranges).flat_map(|r| [&r.start, &r.end]);
    let inside = borders.filter(|key| range.start < **key && (range.end.is_empty() || **key < range.end));
    std::iter::once(&range.start).chain(inside).all(|key| {
        let holds = |r: &KeyRange| r.start <= *key && (r.end.is_empty() || *key < r.end);
        let found = rules.iter().filter(|rule| rule.ranges.iter().any(holds)).filter_map(|rule| {
            let live = |e: &Option<crate::model::Wall>| e.is_none_or(|end| at.now.wall < end);
            let label = rule.labels.iter().find(|l| l.key == "schedule" && live(&l.expires))?;
            Some((std::cmp::Reverse(rule.index), rule.id.clone(), label.value.clone()))
        });
        found.min().is_some_and(|(_, _, value)| value.eq_ignore_ascii_case("deny"))
    })
}

impl Check for Deny {
    fn name(&self) -> &'static str {
        "o7_deny"
    }

    fn says(&self) -> &'static str {
        "a region with schedule=deny at each of its keys is not touched for a cause that the scope holds"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        let Moment::Added { op, region: Some(region) } = moment else { return Ok(0) };
        if at.state.label_rules.is_empty() || !is_held(op, at.control.berth().region_label_deny_scope) {
            return Ok(0);
        }
        if is_denied(at, region.range()) {
            return Err(format!("{} of region {} started", op.desc, op.region));
        }
        Ok(1)
    }
}

/// Whether a store meets all constraints of a rule.
pub(in crate::world) fn meets(rule: &Rule, store: &StoreRecord) -> bool {
    let met = rule.constraints.iter().all(|c| {
        let value = store.labels.iter().find(|l| l.key.eq_ignore_ascii_case(&c.key)).map_or("", |l| &l.value);
        let listed = c.values.iter().any(|v| v.eq_ignore_ascii_case(value));
        match c.op {
            LabelOp::In => !value.is_empty() && listed,
            LabelOp::NotIn => value.is_empty() || !listed,
            LabelOp::Exists => !value.is_empty(),
            LabelOp::NotExists => value.is_empty(),
        }
    });
    // A store set apart (TiFlash, or a label that begins with $) takes only what asks for it by that label.
    let apart = |key: &str| key.starts_with('$') || key.eq_ignore_ascii_case("engine");
    let asked = |key: &str| rule.constraints.iter().any(|c| c.key.eq_ignore_ascii_case(key) && c.op == LabelOp::In);
    met && store.labels.iter().filter(|l| apart(&l.key)).all(|l| asked(&l.key) || l.value.eq_ignore_ascii_case("tikv"))
}

fn fills(rule: &Rule, peer: &Peer) -> bool {
    match rule.role {
        RuleRole::Learner => peer.role == Role::Learner,
        RuleRole::Voter | RuleRole::Leader | RuleRole::Follower => peer.role == Role::Voter,
    }
}

/// O2: what a rule has, it keeps, and new peers stand where some rule wants them.
#[derive(Default)]
pub(super) struct RulesHold {
    /// Rules that had all their peers when an operator started, and the version of the agreed rules then.
    had: BTreeMap<OperatorId, (u64, Vec<Arc<Rule>>)>,
    rules: Vec<Arc<Rule>>,
    overriding: bool,
    version: u64,
}

impl RulesHold {
    fn read(&mut self, at: &At<'_>) {
        self.version += 1;
        self.rules = at.state.rules.values().filter_map(|json| rows::rule(json).ok()).map(Arc::new).collect();
        // What overrides what is the rule set's matter: with overriding rules only the targets are looked at.
        self.overriding = self.rules.iter().any(|r| r.override_)
            || at.state.rule_groups.values().filter_map(|json| rows::rule_group(json).ok()).any(|g| g.override_);
    }

    fn of<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Arc<Rule>> {
        self.rules.iter().filter(|rule| covers(&rule.range, region.range()))
    }
}

fn has_all(rule: &Rule, region: &Region, at: &At<'_>) -> bool {
    let on = |id: StoreId| at.state.stores.get(&id).is_some_and(|s| meets(rule, s));
    let there = region.peers().iter().filter(|p| fills(rule, p) && on(p.store)).count();
    there >= rule.count as usize
}

impl Check for RulesHold {
    fn name(&self) -> &'static str {
        "o2_rules"
    }

    fn says(&self) -> &'static str {
        "a new peer stands where a rule wants one, and a rule that had all its peers has them after an operator"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        match moment {
            Moment::Agreed(change) => {
                // Labels of stores decide too.
                if matches!(
                    change,
                    Change::RulesChanged(_) | Change::StorePut(_) | Change::StoreRemoved(_) | Change::Bootstrapped(_)
                ) {
                    self.read(at);
                }
                Ok(0)
            }
            Moment::Added { op, region: Some(region) } if !is_by_hand(op) => {
                if !at.control.dynamic().replication.enable_placement_rules {
                    return Ok(0);
                }
                for store in op.steps.iter().filter_map(|step| step.new_peer_store()) {
                    let Some(record) = at.state.stores.get(&store) else { continue };
                    if !self.of(region).any(|rule| meets(rule, record)) {
                        return Err(format!("{} of region {}: no rule wants store {store}", op.desc, op.region));
                    }
                }
                if !self.overriding {
                    let had = self.of(region).filter(|rule| has_all(rule, region, at)).cloned().collect();
                    self.had.insert(op.id, (self.version, had));
                }
                Ok(1)
            }
            Moment::Ended { op } => {
                let Some((version, had)) = self.had.remove(&op.id) else { return Ok(0) };
                let done = op.status == crate::scheduler::operator::Status::Success;
                let Some(region) = at.control.cluster().regions().get(op.region) else { return Ok(0) };
                if version != self.version || !done {
                    return Ok(0);
                }
                match had.iter().find(|rule| !has_all(rule, &region, at)) {
                    Some(lost) => Err(format!("{} of region {} took a peer from rule {}", op.desc, op.region, lost.id)),
                    None => Ok(1),
                }
            }
            Moment::Restarted { .. } => {
                self.had.clear();
                Ok(0)
            }
            _ => Ok(0),
        }
    }
}
