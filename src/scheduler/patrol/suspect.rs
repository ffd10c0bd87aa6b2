//! Regions that somebody has reason to look at before the walk comes by, and what checkers are told between looks.
//!
//! Owns: the line of key ranges and its bound. Must not know: what is wrong with the regions in them.

use std::collections::VecDeque;

use super::{MAX_CHECKS, Patrol};
use crate::{
    model::{KeyRange, Now, RegionId},
    scheduler::{
        checker::{Memory, pause::CheckerName},
        operator::Operator,
        outcome::Wake,
        view::ClusterView,
    },
};

/// The most ranges in line. When there are more, the last one grows to reach over what comes: more is looked at then, nothing less.
const MAX_RANGES: usize = 1024;

/// Key ranges whose regions are to be looked at soon, worked off from the front.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    ranges: VecDeque<KeyRange>,
}

impl Suspects {
    fn push(&mut self, range: KeyRange) {
        if range.is_empty() || self.ranges.contains(&range) {
            return;
        }
        let is_full = self.ranges.len() >= MAX_RANGES;
        match self.ranges.back_mut() {
            Some(last) if is_full => {
                last.start = last.start.clone().min(range.start);
                if crate::model::key::cmp_ends(&last.end, &range.end).is_lt() {
                    last.end = range.end;
                }
            }
            _ => self.ranges.push_back(range),
        }
    }
}

impl Patrol {
    /// Somebody changed what holds in these ranges: their regions are looked at within the next ticks.
    pub fn suspect_ranges(&mut self, ranges: impl IntoIterator<Item = KeyRange>) {
        ranges.into_iter().for_each(|range| self.suspects.push(range));
    }

    /// Somebody wants these regions looked at now. What does not fit the line is met by the walk.
    pub fn suspect_regions(&mut self, regions: impl IntoIterator<Item = RegionId>) {
        regions.into_iter().for_each(|region| self.look_again(region));
    }

    /// How many ranges wait to be looked at.
    pub fn suspect_len(&self) -> usize {
        self.suspects.ranges.len()
    }

    /// An operator ended, well or not: to be told before [`Patrol::on_operator_ended`].
    pub fn note_ended(&mut self, operator: &Operator, now: Now) {
        self.memory.operator_ended(operator, now);
    }

    /// What checkers remember.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Regions come out of a split: they are not merged for a while.
    pub fn regions_split(&mut self, regions: impl IntoIterator<Item = RegionId>, now: Now) {
        self.memory.regions_split(regions, now);
    }

    /// Pauses a checker, or lets it run again; what waited for it is looked at once more.
    pub fn pause(&mut self, checker: CheckerName, length: std::time::Duration, now: Now) {
        self.memory.pauses.pause(checker, length, now);
        self.wake(Wake::Settings, now.mono);
    }

    /// A pause that is over wakes what it held.
    pub(super) fn end_pauses(&mut self, view: &ClusterView<'_>) {
        if self.memory.pauses.end_over(view.now) {
            self.wake(Wake::Settings, view.now.mono);
        }
    }

    /// Puts the regions of the first range into the line of those to be looked at again, as many as a tick looks at; the rest of the
    /// range stays. Waits while that line is long.
    pub(super) fn look_at_suspects(&mut self, view: &ClusterView<'_>) {
        if self.recheck.len() >= MAX_CHECKS {
            return;
        }
        let Some(range) = self.suspects.ranges.pop_front() else { return };
        let regions = view.regions.scan(&range, MAX_CHECKS);
        if let Some(last) = regions.last().filter(|_| regions.len() == MAX_CHECKS) {
            let rest = KeyRange { start: last.range().end.clone(), end: range.end };
            if !rest.start.is_empty() && !rest.is_empty() {
                self.suspects.ranges.push_front(rest);
            }
        }
        self.suspect_regions(regions.iter().map(|region| region.id()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_bounded_and_loses_nothing() {
        let mut line = Suspects::default();
        let range = |n: u64| KeyRange::new(n.to_be_bytes().to_vec(), (n + 1).to_be_bytes().to_vec());
        let last = MAX_RANGES as u64 + 500;
        for n in (0..=last).chain([3]) {
            line.push(range(n));
        }
        assert_eq!(line.ranges.len(), MAX_RANGES);
        assert!((0..=last).all(|n| line.ranges.iter().any(|r| r.covers(&range(n)))));
        line.push(KeyRange::new(b"x".to_vec(), b"x".to_vec()));
        assert!(line.ranges.iter().all(|r| !r.is_empty()));
    }
}
