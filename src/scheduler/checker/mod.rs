//! The checkers, in PD's order.
//!
//! Owns: what is wrong with one region and which operator would mend it. Must not know: which region is looked at when
//! (`patrol`), how operators run. A check changes nothing; ids for new peers are taken only for an operator that the limits
//! allow. Start at [`check`], then [`rule`].

pub mod deny;
mod joint;
mod memory;
pub mod merge;
mod orphan;
pub(super) mod parts;
pub mod pause;
mod replica;
mod rule;
mod split;
mod spread;

#[cfg(test)]
mod tests;

pub use memory::Memory;
pub use spread::LeaderSpread;

use self::pause::CheckerName;
use super::{
    controller::Controller,
    filter::{Budget, Lens},
    operator::Operator,
    outcome::{Outcome, Reason},
    view::ClusterView,
};
use crate::model::Region;

/// What one checker found, before it is told to others: an operator, or why there is none; `Ok(None)` when nothing is wrong.
type Found = Result<Option<Operator>, Reason>;

/// What is wrong with `region`, if anything, and what to do, as for a leader that remembers nothing yet.
pub fn check(view: &ClusterView<'_>, controller: &Controller, region: &Region) -> Outcome {
    check_with(view, controller, &Memory::default(), region)
}

/// What is wrong with `region`, if anything, and what to do: joint state, borders inside it, rules (or the number of replicas, when
/// rules are off), and only when nothing is wrong whether it is small enough to be merged.
pub fn check_with(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region) -> Outcome {
    if is_plainly_healthy(view, memory, region) {
        return Outcome::Healthy;
    }
    match find(view, budget, memory, region) {
        Ok(operators) if operators.is_empty() => Outcome::Healthy,
        Ok(operators) => Outcome::Propose(operators),
        Err(reason) => Outcome::Blocked(reason),
    }
}

/// Whether nothing can be wrong with the region and nothing is to be done, told without a fit. This is the state of nearly every
/// region nearly always, so it has to be cheap.
pub(super) fn is_plainly_healthy(view: &ClusterView<'_>, memory: &Memory, region: &Region) -> bool {
    rule::is_plainly_healthy(view, region)
        && view.settings.labels.split_keys(region.range()).is_empty()
        && merge::is_out_of_question(view, memory, region)
}

fn find(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    memory: &Memory,
    region: &Region,
) -> Result<Vec<Operator>, Reason> {
    if view.settings.schedule.halt_scheduling {
        return Err(Reason::Halted);
    }
    if budget.is_running(region.id()) {
        return Err(Reason::OperatorRunning(region.id()));
    }
    if region.leader_peer().is_none() {
        return Err(Reason::NoLeader);
    }
    let pauses = &memory.pauses;
    let is_paused = pauses.is_paused(CheckerName::JointState, view.now);
    if let Some(operator) = peek(is_paused, CheckerName::JointState, || joint::find(view, region))? {
        return Ok(vec![operator]);
    }
    let cut = split::wanted(view, region);
    // What keeps a split from being made does not keep repairs from being made, nor does a split that nobody carries out.
    let mut held = None;
    if let Some(cut) = cut.as_ref().filter(|_| !memory.split_timed_out(region)) {
        match split::operator(view, memory, region, cut) {
            Ok(operator) => return Ok(vec![operator]),
            Err(reason) => held = Some(reason),
        }
    }
    let is_retry_due = match placement(view, budget, memory, region) {
        Ok(Some(operator)) => return Ok(vec![operator]),
        Ok(None) => memory.may_retry_split(region, view.now),
        // No rule covers the whole of it: nothing else can be done before it is split.
        Err(Reason::NoRule) if cut.is_some() => true,
        Err(reason) => return Err(reason),
    };
    match (cut, held) {
        (_, Some(reason)) => Err(reason),
        (Some(cut), None) if is_retry_due => split::operator(view, memory, region, &cut).map(|op| vec![op]),
        (Some(_), None) => Ok(Vec::new()),
        (None, None) => Ok(merge::find(view, budget, memory, region)),
    }
}

/// The rule checker, or the two that stand in for it when rules are off.
fn placement(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region) -> Found {
    if !view.settings.replication.enable_placement_rules {
        return replica::find(view, budget, memory, region);
    }
    if memory.pauses.is_paused(CheckerName::Rule, view.now) {
        return peek(true, CheckerName::Rule, || rule::find(view, &without_room(budget), memory, region));
    }
    rule::find(view, budget, memory, region)
}

/// What a checker found, or that it is paused when it would have found anything: a region that needs nothing is not held by a pause.
fn peek(is_paused: bool, checker: CheckerName, find: impl FnOnce() -> Found) -> Found {
    match find() {
        Ok(Some(_)) | Err(_) if is_paused => Err(Reason::CheckerPaused(checker.name())),
        found => found,
    }
}

/// As [`check_with`], but where an operator would be built that has to share the limits with others, the answer is
/// `Blocked(ScheduleLimit(Replica))`: for sorting regions by need without taking anything.
pub(super) fn look(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region) -> Outcome {
    check_with(view, &without_room(budget), memory, region)
}

/// The budget as if nothing were left of the replica limit.
fn without_room(budget: &dyn Budget) -> Lens<'_> {
    Lens::new(budget).with_replica_room(false)
}
