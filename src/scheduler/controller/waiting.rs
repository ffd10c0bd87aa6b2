//! Operators that wait for tokens or room.

use std::collections::{BTreeMap, VecDeque};

use super::{Controller, journal::By};
use crate::{
    model::names::cancel,
    scheduler::{
        checker::deny::{self, Cause},
        effect::{Effect, Event},
        operator::{CancelReason, Operator, Priority, Status},
        view::ClusterView,
    },
};

/// Groups of operators that wait at most, over all descriptions.
const MOST: usize = 1024;

/// How often each priority is served, lowest first.
const WEIGHTS: [i64; 4] = [1, 4, 9, 16];

/// What starts together, and why it would.
#[derive(Debug)]
struct Entry {
    ops: Vec<Operator>,
    by: By,
    /// Asked again before the start: a label may come meanwhile. `None`: no label holds it.
    cause: Option<Cause>,
}

/// One queue a priority. A merge's two operators wait as one entry.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: [VecDeque<Entry>; 4],
    by_desc: BTreeMap<String, u64>,
    /// What each queue is owed: the one that is owed most comes next (smooth weighted turns, no chance needed).
    credit: [i64; 4],
}

impl Waiting {
    pub(super) fn has_room(&self) -> bool {
        self.len() < MOST
    }

    fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Whether `ops` may join: fewer than `most` of the same description wait.
    pub(super) fn takes(&self, ops: &[Operator], most: u64) -> bool {
        self.has_room() && ops.iter().all(|op| self.by_desc.get(&op.desc).copied().unwrap_or(0) < most)
    }

    pub(super) fn push(&mut self, ops: Vec<Operator>, by: By, cause: Option<Cause>) {
        let Some(first) = ops.first() else { return };
        *self.by_desc.entry(first.desc.clone()).or_default() += 1;
        self.queues[slot(first.priority)].push_back(Entry { ops, by, cause });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Operator> {
        self.queues.iter().flatten().flat_map(|entry| &entry.ops)
    }

    /// Which queues have something, in the order of their turn.
    fn turn(&mut self, tried: &[bool; 4]) -> Option<usize> {
        let open: Vec<usize> = (0..4).filter(|i| !tried[*i] && !self.queues[*i].is_empty()).collect();
        let best = open.iter().copied().max_by_key(|i| (self.credit[*i] + WEIGHTS[*i], *i))?;
        for i in &open {
            self.credit[*i] += WEIGHTS[*i];
        }
        self.credit[best] -= open.iter().map(|i| WEIGHTS[*i]).sum::<i64>();
        Some(best)
    }

    fn pop(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.queues[slot].pop_front()?;
        if let Some(first) = entry.ops.first()
            && let Some(count) = self.by_desc.get_mut(&first.desc)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_desc.remove(&first.desc);
            }
        }
        Some(entry)
    }

    fn put_back(&mut self, slot: usize, entry: Entry) {
        if let Some(first) = entry.ops.first() {
            *self.by_desc.entry(first.desc.clone()).or_default() += 1;
        }
        self.queues[slot].push_front(entry);
    }
}

impl Entry {
    /// It waits no longer.
    fn tell_turn(&self, out: &mut Vec<Effect>) {
        out.extend(self.ops.first().map(|op| Effect::Tell(Event::OperatorsTurn { desc: op.desc.clone() })));
    }

    /// Whether a label holds one of its regions. A region that is gone is for admission to refuse.
    fn is_held(&self, view: &ClusterView<'_>) -> bool {
        let Some(cause) = self.cause else { return false };
        let mut regions = self.ops.iter().filter_map(|op| view.regions.get(op.region));
        regions.any(|region| deny::denied(view, &region, cause).is_err())
    }
}

fn slot(priority: Priority) -> usize {
    match priority {
        Priority::Low => 0,
        Priority::Medium => 1,
        Priority::High => 2,
        Priority::Urgent => 3,
    }
}

impl Controller {
    /// Starts what waits and can run now; buries what has waited too long or what nothing can help any more. A queue whose
    /// first entry cannot run is left alone until the next time.
    pub(super) fn promote(&mut self, view: &ClusterView<'_>, out: &mut Vec<Effect>) {
        let mut tried = [false; 4];
        while let Some(slot) = self.waiting.turn(&tried) {
            let Some(entry) = self.waiting.pop(slot) else { break };
            if entry.ops.iter().any(|op| op.is_expired(view.now)) {
                entry.tell_turn(out);
                for mut op in entry.ops {
                    op.end(Status::Expired, cancel::EXPIRED, view.now);
                    self.bury(op, view.now, out);
                }
                continue;
            }
            if entry.is_held(view) {
                entry.tell_turn(out);
                self.give_up(view, entry.ops, CancelReason::StaleStatus, out);
                continue;
            }
            match self.admissible(view, &entry.ops, entry.by.maker) {
                Err(refusal) if refusal.passes() => {
                    self.waiting.put_back(slot, entry);
                    tried[slot] = true;
                }
                Ok(()) => {
                    entry.tell_turn(out);
                    self.admit(view, entry.ops, &entry.by, out);
                }
                Err(refusal) => {
                    entry.tell_turn(out);
                    self.give_up(view, entry.ops, refusal.cancel, out);
                }
            }
        }
    }
}
