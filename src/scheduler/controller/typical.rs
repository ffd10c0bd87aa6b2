//! How long moves usually take, from operators that ended well.
//!
//! Owns: what is remembered, and telling the time that nodes need from the time for which moves wait for each other. Must not know:
//! who reads it (`explain`).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    model::{Mono, StoreId},
    scheduler::operator::Operator,
};

/// How many of the last durations say what is usual.
const REMEMBERED: usize = 255;
/// Fewer than this say nothing.
const ENOUGH: usize = 3;
/// Stores of which the last new peer is remembered.
const MAX_STORES: usize = 4096;
/// New peers that overlap wait for each other when they take this many times as long as one alone, in tenths.
const QUEUE_TENTHS: u32 = 12;

/// What one move costs, as far as it was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paces {
    /// A new peer's filling, on a store that fills no other.
    pub fill: Duration,
    /// Between the ends of two fillings of one store that overlap; zero when they do not wait for each other.
    pub between: Duration,
    /// All other steps.
    pub rest: Duration,
}

/// See the module's comment.
#[derive(Clone, Debug, Default)]
pub struct Typical {
    fills: VecDeque<Duration>,
    wholes: VecDeque<Duration>,
    /// Fillings that overlapped no earlier one of their store.
    alone: VecDeque<Duration>,
    /// Fillings that did.
    overlapping: VecDeque<Duration>,
    /// How long after the earlier one each of those ended.
    gaps: VecDeque<Duration>,
    /// When the last new peer of a store was full.
    last_full: BTreeMap<StoreId, Mono>,
}

impl Typical {
    /// Learns from an operator that ended well.
    pub(super) fn learn(&mut self, op: &Operator) {
        let Some(started) = op.started else { return };
        let mut before = started.mono;
        for (step, at) in op.steps.iter().zip(&op.step_times) {
            if let Some(store) = step.new_peer_store() {
                self.learn_fill(store, before, *at);
            }
            before = *at;
        }
        let moves = op.steps.iter().any(|step| step.new_peer_store().is_some());
        if let Some(ended) = op.ended.filter(|_| moves) {
            remember(&mut self.wholes, ended.mono.since(started.mono));
        }
    }

    fn learn_fill(&mut self, store: StoreId, began: Mono, full: Mono) {
        remember(&mut self.fills, full.since(began));
        match self.last_full.get(&store).copied() {
            Some(last) if last > began => {
                remember(&mut self.overlapping, full.since(began));
                remember(&mut self.gaps, full.since(last));
            }
            _ => remember(&mut self.alone, full.since(began)),
        }
        if self.last_full.len() >= MAX_STORES {
            self.last_full.clear();
        }
        let last = self.last_full.entry(store).or_insert(full);
        *last = full.max(*last);
    }

    /// The median time that a new peer takes to be filled; `None` before there are enough.
    pub fn snapshot(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.fills.iter().copied().collect();
        sorted.sort_unstable();
        (sorted.len() >= ENOUGH).then(|| sorted[sorted.len() / 2])
    }

    /// The mean time of a whole move.
    pub fn whole(&self) -> Option<Duration> {
        mean(&self.wholes)
    }

    /// What one move costs; `None` before there are enough.
    pub fn paces(&self) -> Option<Paces> {
        let (whole, fill) = (mean(&self.wholes)?, mean(&self.fills)?);
        let gap = mean(&self.gaps);
        let alone = mean(&self.alone).or(gap).unwrap_or(fill);
        let waits = mean(&self.overlapping).is_some_and(|took| took * 10 > alone * QUEUE_TENTHS);
        let between = gap.filter(|_| waits).unwrap_or_default();
        Some(Paces { fill: alone, between, rest: whole.saturating_sub(fill) })
    }
}

fn remember(list: &mut VecDeque<Duration>, took: Duration) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(took);
}

fn mean(list: &VecDeque<Duration>) -> Option<Duration> {
    let count = u32::try_from(list.len()).ok().filter(|count| *count as usize >= ENOUGH)?;
    Some(list.iter().sum::<Duration>() / count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STORE: StoreId = StoreId(1);

    fn second(at: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(at))
    }

    fn learned(fills: &[(u64, u64)]) -> Paces {
        let mut typical = Typical::default();
        for (began, full) in fills {
            typical.learn_fill(STORE, second(*began), second(*full));
            remember(&mut typical.wholes, second(*full).since(second(*began)) + Duration::from_secs(1));
        }
        typical.paces().unwrap()
    }

    #[test]
    fn nodes_that_fill_one_after_another_are_told_from_those_that_fill_all_at_once() {
        let paces = |fill, between| Paces {
            fill: Duration::from_secs(fill),
            between: Duration::from_secs(between),
            rest: Duration::from_secs(1),
        };
        let queued = [(0, 4), (10, 14), (20, 24), (20, 28), (20, 32), (20, 36)];
        assert_eq!(learned(&queued), paces(4, 4));
        let at_once = [(0, 4), (10, 14), (20, 24), (20, 24), (21, 25), (22, 26)];
        assert_eq!(learned(&at_once), paces(4, 0));
        let apart = [(0, 4), (10, 14), (20, 24)];
        assert_eq!(learned(&apart), paces(4, 0));
    }
}
