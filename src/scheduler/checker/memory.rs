//! What checkers remember from one look to the next.
//!
//! Owns: leaders moved off draining stores, pauses, splits that nobody carried out, regions that were split or whose witnesses got
//! data lately. Must not know:
//! what follows from it (the checkers'), who looks when (`patrol`). All of it is lost with this leader, and none of it is needed
//! to be right: without it a repair comes later, or a split is tried once more.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{LeaderSpread, pause::Pauses};
use crate::{
    model::{Mono, Now, Region, RegionId},
    scheduler::operator::{Kind, Operator, Status, Step},
};

/// The most regions that each list remembers; the oldest are forgotten first.
const MOST: usize = 1 << 16;

/// How long a split that nobody carried out is left alone when nothing else depends on it.
const RETRY_SPLIT: Duration = Duration::from_secs(600);

/// See the module's comment.
#[derive(Debug, Default)]
pub struct Memory {
    /// Who was chosen to lead regions of draining stores.
    pub spread: LeaderSpread,
    /// Which checkers are paused.
    pub pauses: Pauses,
    /// Splits at a border that timed out, with the region's version then.
    undone: Recent<u64>,
    /// Regions that came out of a split.
    split: Recent<()>,
    /// Regions of which a witness got data.
    filled: Recent<()>,
}

impl Memory {
    /// Of a leader that knows of these pauses and of nothing else.
    pub fn of_pauses(pauses: Pauses) -> Self {
        Self { pauses, ..Self::default() }
    }

    /// An operator ended: a split at a border that ran out of time is remembered.
    pub fn operator_ended(&mut self, operator: &Operator, now: Now) {
        let splits = operator.kind.has(Kind::SPLIT) && matches!(operator.steps[..], [Step::SplitRegion { .. }]);
        if splits && operator.status == Status::Timeout {
            self.undone.put(operator.region, operator.epoch.version, now.mono);
        }
        let fills = |step: &Step| matches!(step, Step::SwitchWitness(at) if !at.is_witness);
        if operator.status == Status::Success && operator.steps.iter().any(fills) {
            self.filled.put(operator.region, (), now.mono);
        }
    }

    /// Regions came out of a split, or are about to.
    pub fn regions_split(&mut self, regions: impl IntoIterator<Item = RegionId>, now: Now) {
        for region in regions {
            self.split.put(region, (), now.mono);
        }
    }

    /// Whether a split of this region, as it is, timed out before: repairs come first then.
    pub(super) fn split_timed_out(&self, region: &Region) -> bool {
        self.undone.get(region.id()).is_some_and(|(_, version)| *version == region.epoch().version)
    }

    /// Whether such a split may be tried once more although nothing waits for it.
    pub(super) fn may_retry_split(&self, region: &Region, now: Now) -> bool {
        self.undone.get(region.id()).is_none_or(|(at, _)| now.mono.since(at) >= RETRY_SPLIT)
    }

    /// Whether a witness of the region got data less than `interval` ago.
    pub(super) fn was_filled(&self, region: RegionId, interval: Duration, now: Now) -> bool {
        self.filled.get(region).is_some_and(|(at, ())| now.mono.since(at) < interval)
    }

    /// Whether the region came out of a split less than `interval` ago.
    pub(super) fn was_split(&self, region: RegionId, interval: Duration, now: Now) -> bool {
        self.split.get(region).is_some_and(|(at, ())| now.mono.since(at) < interval)
    }
}

/// The last `MOST` regions of something, each with a time and a value.
#[derive(Debug)]
struct Recent<V> {
    of: HashMap<RegionId, (Mono, V)>,
    /// In order of time; an entry is out of date when the region was put in again since.
    order: VecDeque<(Mono, RegionId)>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Recent<V> {
    fn put(&mut self, region: RegionId, value: V, at: Mono) {
        self.of.insert(region, (at, value));
        self.order.push_back((at, region));
        while self.order.len() > MOST {
            let Some((at, oldest)) = self.order.pop_front() else { return };
            if self.of.get(&oldest).is_some_and(|(kept, _)| *kept == at) {
                self.of.remove(&oldest);
            }
        }
    }

    fn get(&self, region: RegionId) -> Option<(Mono, &V)> {
        self.of.get(&region).map(|(at, value)| (*at, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut recent = Recent::default();
        let at = |n: u64| Mono(n);
        recent.put(RegionId(1), 'a', at(0));
        recent.put(RegionId(2), 'b', at(1));
        recent.put(RegionId(1), 'c', at(2));
        for n in 0..MOST as u64 - 1 {
            recent.put(RegionId(1000 + n), 'x', at(3 + n));
        }
        assert_eq!(recent.get(RegionId(1)), Some((at(2), &'c')), "put in again since");
        assert_eq!(recent.get(RegionId(2)), None);
        assert!(recent.of.len() <= MOST && recent.order.len() <= MOST);
    }

    #[test]
    fn a_split_counts_as_recent_for_its_interval() {
        let mut memory = Memory::default();
        let at = |s| Now::default().plus(Duration::from_secs(s));
        memory.regions_split([RegionId(7)], at(10));
        let hour = Duration::from_secs(3600);
        assert!(memory.was_split(RegionId(7), hour, at(3609)) && !memory.was_split(RegionId(7), hour, at(3610)));
        assert!(!memory.was_split(RegionId(8), hour, at(11)));
    }
}
