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
        operator::{Kind, Operator, Step},
        view::ClusterView,
    },
};

/// Stores kept of those that one filter refused: tens of thousands of operators are kept.
const REFUSED_KEPT: usize = 16;

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

/// Why an operator was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cause {
    /// Who made it.
    pub maker: Maker,
    /// Which checker, call or scheduler.
    pub name: &'static str,
    /// The stores that give a peer away, with their states then.
    pub from: Vec<(StoreId, StoreState)>,
    /// The placement rules of the region then (`group/id`).
    pub rules: Vec<String>,
}

/// The name of all calls.
const CALL: &str = "operators";
/// The name of all schedulers.
const SCHEDULER: &str = "scheduler";

/// The checkers by the operators that they make; what stands in no row comes from a scheduler, or from a call (kind `admin`).
const CHECKERS: &[(&str, &str)] = &[
    ("leave-joint-state", "joint-state-checker"),
    ("rule-split-region", "split-checker"),
    ("labeler-split-region", "split-checker"),
    ("add-rule-peer", "rule-checker"),
    ("replace-rule-", "rule-checker"),
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
    /// The word among those that causes have; unknown ones are of another version.
    pub(super) fn known(name: &str) -> &'static str {
        let all = CHECKERS.iter().map(|(_, name)| *name).chain([CALL, SCHEDULER]);
        all.into_iter().find(|known| *known == name).unwrap_or("unknown")
    }

    fn of(view: &ClusterView<'_>, op: &Operator) -> Self {
        let checker = CHECKERS.iter().find(|(desc, _)| op.desc.starts_with(desc));
        let (maker, name) = match checker {
            _ if op.kind.has(Kind::ADMIN) => (Maker::Call, CALL),
            Some((_, name)) => (Maker::Checker, *name),
            None => (Maker::Scheduler, SCHEDULER),
        };
        let state = |store: StoreId| Some((store, view.stores.get(&store)?.record.state));
        let from = removed_from(op).filter_map(state).collect();
        let region = view.regions.get(op.region);
        let rules = region.iter().flat_map(|region| view.settings.rules.for_region(region));
        Self { maker, name, from, rules: rules.map(|rule| format!("{}/{}", rule.group_id, rule.id)).collect() }
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
    pub(super) fn new(view: &ClusterView<'_>, op: &Operator) -> Self {
        let cause = Cause::of(view, op);
        let draining = cause.from.iter().filter(|(_, state)| *state == StoreState::Offline);
        let drains = draining.map(|(store, _)| *store).collect();
        Self { choice: None, steps: vec![StepLog::default(); op.steps.len()], drains, cause }
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
            journal.choice = choice;
            let refused = journal.choice.iter_mut().flat_map(|choice| choice.refused.values_mut());
            refused.for_each(|stores| stores.truncate(REFUSED_KEPT));
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
