//! What an operator went through: why it was made, how its store was chosen, each step's sends and answers.
//!
//! Owns: the shapes. Must not know: who reads them (`explain`), how long they are kept (`records`).

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Controller, typical::Typical};
use crate::{
    model::{Mono, Now, OperatorId, Region, RegionId, StoreId, StoreState},
    scheduler::{
        filter::Choice,
        operator::{Operator, Step},
        view::ClusterView,
    },
};

/// Who made an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Maker {
    /// A person or a program, through a call.
    Call,
    /// A checker.
    #[default]
    Checker,
    /// A scheduler.
    Scheduler,
}

impl Maker {
    /// The word in explanations.
    pub fn name(self) -> &'static str {
        match self {
            Maker::Call => "call",
            Maker::Checker => "checker",
            Maker::Scheduler => "scheduler",
        }
    }
}

/// Who asks for operators.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct By {
    /// What it is.
    pub maker: Maker,
    /// Which call or scheduler; a checker is known by what it makes.
    pub name: String,
    /// Who called, as far as it said so.
    pub caller: String,
}

impl By {
    /// A checker.
    pub fn checker() -> Self {
        Self::default()
    }

    /// The scheduler of this name.
    pub fn scheduler(name: &str) -> Self {
        Self { maker: Maker::Scheduler, name: name.to_owned(), caller: String::new() }
    }

    /// A call of this name.
    pub fn call(name: &str, caller: &str) -> Self {
        let caller = caller.chars().take(CALLER_KEPT).collect();
        Self { maker: Maker::Call, name: name.to_owned(), caller }
    }
}

/// Characters kept of what a caller calls itself.
const CALLER_KEPT: usize = 128;

/// Why an operator was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cause {
    /// Who made it.
    pub maker: Maker,
    /// Which checker, call or scheduler.
    pub name: String,
    /// Who called; empty when it did not say so, and where nobody called.
    pub caller: String,
    /// The stores that give a peer away, with their states then.
    pub from: Vec<(StoreId, StoreState)>,
    /// The placement rules of the region then (`group/id`).
    pub rules: Vec<String>,
}

/// The checkers by the operators that they make.
const CHECKERS: &[(&str, &str)] = &[
    ("leave-joint-state", "joint-state-checker"),
    ("rule-split-region", "split-checker"),
    ("labeler-split-region", "split-checker"),
    ("add-rule-peer", "rule-checker"),
    ("replace-rule-", "rule-checker"),
    ("fast-replace-rule-", "rule-checker"),
    ("promote-witness-for-down", "rule-checker"),
    ("fix-", "rule-checker"),
    ("move-to-better-location", "rule-checker"),
    ("remove-orphan-peer", "rule-checker"),
    ("remove-unhealthy-orphan-peer", "rule-checker"),
    ("remove-replaced-orphan-peer", "rule-checker"),
    ("replace-down-peer-with-orphan-peer", "rule-checker"),
    ("promote-learner", "learner-checker"),
    ("make-up-replica", "replica-checker"),
    ("remove-extra-", "replica-checker"),
    ("replace-", "replica-checker"),
    ("remove-", "replica-checker"),
    ("merge-region", "merge-checker"),
];

impl Cause {
    fn of(view: &ClusterView<'_>, op: &Operator, by: &By) -> Self {
        let By { maker, mut name, caller } = by.clone();
        if maker == Maker::Checker {
            let checker = CHECKERS.iter().find(|(desc, _)| op.desc.starts_with(desc));
            name = checker.map_or("checker", |(_, name)| *name).to_owned();
        }
        let state = |store: StoreId| Some((store, view.stores.get(&store)?.record.state));
        let from = removed_from(op).filter_map(state).collect();
        let region = view.regions.get(op.region);
        let are_on = view.settings.replication.enable_placement_rules;
        let rules = region.iter().filter(|_| are_on).flat_map(|region| view.settings.rules.for_region(region));
        Self { maker, name, caller, from, rules: rules.map(|rule| format!("{}/{}", rule.group_id, rule.id)).collect() }
    }
}

/// The stores that an operator takes a peer from.
fn removed_from(op: &Operator) -> impl Iterator<Item = StoreId> + '_ {
    op.steps.iter().filter_map(|step| match step {
        Step::RemovePeer { store, .. } => Some(*store),
        _ => None,
    })
}

/// What became of one step.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StepLog {
    /// How often its command was sent.
    pub sends: u32,
    /// When first.
    pub first_sent: Option<Now>,
    /// When last.
    pub last_sent: Option<Now>,
    /// The first report of the region after the first send: the leader has heard, or is at least alive.
    pub answered: Option<Now>,
    /// The report that showed it done.
    pub done: Option<Now>,
}

/// What is written down about one operator, beside itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Journal {
    /// Why it was made.
    pub cause: Cause,
    /// How its store was chosen, if one was.
    pub choice: Option<Choice>,
    /// Its steps.
    pub steps: Vec<StepLog>,
    /// The draining stores that it takes a peer from.
    pub drains: Vec<StoreId>,
}

impl Journal {
    /// Takes over what the operator knows of its choice.
    pub(super) fn new(view: &ClusterView<'_>, op: &mut Operator, by: &By) -> Self {
        let cause = Cause::of(view, op, by);
        let choice = op.choice.take().map(|choice| *choice);
        let draining = cause.from.iter().filter(|(_, state)| *state == StoreState::Offline);
        let drains = draining.map(|(store, _)| *store).collect();
        Self { choice, steps: vec![StepLog::default(); op.steps.len()], drains, cause }
    }
}

/// An operator with its journal; it may still run.
#[derive(Clone, Debug)]
pub struct Past {
    /// The operator.
    pub op: Arc<Operator>,
    /// Its journal.
    pub journal: Journal,
}

/// The operators of a drain.
#[derive(Clone, Debug, Default)]
pub struct DrainHistory {
    /// How many ended ones are kept whole.
    pub kept: usize,
    /// The latest of those, newest first.
    pub whole: Vec<Past>,
    /// Older ones: description, result, how many.
    pub older: Vec<(String, &'static str, u64)>,
}

/// Journals of running operators, by region.
pub(super) type Journals = BTreeMap<RegionId, Journal>;

impl Controller {
    /// Keeps how the store of the region's new operator was chosen.
    pub fn note_choice(&mut self, region: RegionId, choice: Option<Choice>) {
        if let Some(journal) = self.journals.get_mut(&region) {
            journal.choice = choice.or(journal.choice.take());
            journal.choice.iter_mut().for_each(Choice::trim);
        }
    }

    /// A command of the step under way was sent.
    pub(super) fn note_sent(&mut self, op: &Operator, now: Now) {
        if let Some(step) = self.journals.get_mut(&op.region).and_then(|j| j.steps.get_mut(op.current)) {
            step.sends = step.sends.saturating_add(1);
            step.first_sent.get_or_insert(now);
            step.last_sent = Some(now);
        }
    }

    /// The region's leader reported: steps that were sent are answered, those before `op.current` done.
    pub(super) fn note_report(&mut self, op: &Operator, before: usize, now: Now) {
        let Some(journal) = self.journals.get_mut(&op.region) else { return };
        if let Some(step) = journal.steps.get_mut(before).filter(|step| step.first_sent.is_some()) {
            step.answered.get_or_insert(now);
        }
        for step in journal.steps.iter_mut().take(op.current).skip(before) {
            step.done.get_or_insert(now);
        }
    }

    /// An operator by its id with what it went through: running, or one of the last that ended.
    pub fn history_by_id(&self, id: OperatorId) -> Option<Past> {
        let running = || self.running.values().find(|op| op.id == id).map(|op| self.running_past(op));
        self.records.by_id(id).cloned().or_else(running)
    }

    fn running_past(&self, op: &Arc<Operator>) -> Past {
        Past { op: op.clone(), journal: self.journals.get(&op.region).cloned().unwrap_or_default() }
    }

    /// The operators of a region, or that touch a store: running ones first, then the latest that ended.
    pub fn history(&self, region: Option<RegionId>, store: Option<StoreId>, limit: usize) -> Vec<Past> {
        let wanted = |op: &Operator| region.is_none_or(|id| op.region == id) && store.is_none_or(|id| touches(op, id));
        let mut running: Vec<_> = self.running.values().filter(|op| wanted(op)).collect();
        running.sort_by_key(|op| std::cmp::Reverse(op.id));
        let mut found: Vec<Past> = running.into_iter().take(limit).map(|op| self.running_past(op)).collect();
        found.extend(self.records.latest(limit - found.len(), |past| wanted(&past.op)));
        found
    }

    /// The operators that a drain has had, and those that run for it.
    pub fn history_of_drain(&self, store: StoreId, limit: usize) -> (Vec<Past>, DrainHistory) {
        let mut running: Vec<_> = self.running.values().map(|op| self.running_past(op)).collect();
        running.retain(|past| past.journal.drains.contains(&store));
        running.sort_by_key(|past| std::cmp::Reverse(past.op.id));
        running.truncate(limit);
        (running, self.records.of_drain(store, limit))
    }

    /// How long steps usually take.
    pub fn typical(&self) -> &Typical {
        self.records.typical()
    }
}

fn touches(op: &Operator, store: StoreId) -> bool {
    op.steps.iter().any(|step| {
        step.limited_by().is_some_and(|(at, _)| at == store)
            || matches!(step, Step::TransferLeader { from, to } if *from == store || *to == store)
    })
}

/// When the step under way began.
pub fn step_began(op: &Operator) -> Mono {
    op.step_times.last().copied().or(op.started.map(|at| at.mono)).unwrap_or_default()
}

/// Whether the operator takes the store's peer of `region` away.
pub fn empties(op: &Operator, region: &Region, store: StoreId) -> bool {
    region.id() == op.region && removed_from(op).any(|from| from == store)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        model::names::desc,
        scheduler::{
            operator::{Kind, testing},
            testing::World,
        },
    };

    #[test]
    fn who_made_an_operator_is_told_by_who_gave_it_and_checkers_by_what_they_make() {
        let world = testing::World::new(3, 1);
        let cause = |desc: &str, kind, by: &By| {
            let op = Operator::new(desc, String::new(), &World::region(1, &[1, 2, 3]), kind, vec![], world.now);
            let cause = Cause::of(&world.view(), &op, by);
            (cause.maker, cause.name, cause.caller)
        };
        let told = |maker, name: &str, caller: &str| (maker, name.to_owned(), caller.to_owned());
        for (desc, checker) in [
            (desc::FAST_REPLACE_RULE_DOWN_PEER, "rule-checker"),
            (desc::FAST_REPLACE_RULE_OFFLINE_PEER, "rule-checker"),
            (desc::PROMOTE_WITNESS_FOR_DOWN, "rule-checker"),
            (desc::REPLACE_RULE_DOWN_PEER, "rule-checker"),
            (desc::LEAVE_JOINT_STATE, "joint-state-checker"),
            (desc::MAKE_UP_REPLICA, "replica-checker"),
            ("of-a-later-version", "checker"),
        ] {
            assert_eq!(cause(desc, Kind::REPLICA, &By::checker()), told(Maker::Checker, checker, ""), "{desc}");
        }
        let split = cause(desc::REGION_SPLITTER, Kind::SPLIT, &By::call("split", "br"));
        assert_eq!(split, told(Maker::Call, "split", "br"));
        let shuffle = cause("shuffle-leader-scheduler", Kind::ADMIN, &By::scheduler("shuffle-leader-scheduler"));
        assert_eq!(shuffle, told(Maker::Scheduler, "shuffle-leader-scheduler", ""));
        assert_eq!(By::call("split", &"x".repeat(1000)).caller.len(), CALLER_KEPT);
    }
}
