//! What people and nodes tell the checkers: pauses, regions to be looked at before their turn, splits, changed rules.

use std::{sync::Arc, time::Duration};

use super::{Cluster, tap::Input};
use crate::{
    model::{KeyRange, Now, RegionId},
    scheduler::{checker::pause::CheckerName, placement, view::Settings},
};

impl Cluster {
    /// Pauses a checker for this long, or lets it run again (zero).
    pub fn pause_checker(&self, checker: CheckerName, length: Duration, now: Now) {
        let _turn = self.taps.input(Some(now), Input::PauseChecker(checker, length));
        self.deciding.lock().patrol.pause(checker, length, now);
    }

    /// Whether a checker is paused.
    pub fn is_checker_paused(&self, checker: CheckerName, now: Now) -> bool {
        self.deciding.lock().patrol.memory().pauses.is_paused(checker, now)
    }

    /// Has up to `limit` regions of each range looked at in the next tick.
    pub fn accelerate(&self, ranges: &[KeyRange], limit: usize) {
        let _turn = self.taps.input(None, Input::Accelerate(ranges, limit));
        for range in ranges {
            let regions: Vec<RegionId> = self.regions.scan(range, limit).iter().map(|region| region.id()).collect();
            self.deciding.lock().patrol.suspect_regions(regions);
        }
    }

    /// Has all regions of these ranges looked at within the next ticks: what holds there was changed.
    pub fn suspect_ranges(&self, ranges: Vec<KeyRange>) {
        if !ranges.is_empty() {
            let _turn = self.taps.input(None, Input::Suspect(&ranges));
            self.deciding.lock().patrol.suspect_ranges(ranges);
        }
    }

    /// Regions come out of a split: they are not merged for `split-merge-interval`.
    pub fn regions_split(&self, regions: Vec<RegionId>, now: Now) {
        if !regions.is_empty() {
            let _turn = self.taps.input(Some(now), Input::Split(&regions));
            self.deciding.lock().patrol.regions_split(regions, now);
        }
    }
}

/// Whether anything but rules and labels changed: what waits for settings may wait for any of it.
pub(super) fn configured_otherwise(old: &Settings, new: &Settings) -> bool {
    let of = |s: &Settings| {
        let parts = (Arc::clone(&s.schedule), Arc::clone(&s.replication), Arc::clone(&s.berth));
        (parts, Arc::clone(&s.reject_leader), s.version.clone(), s.table_keys)
    };
    of(old) != of(new)
}

/// The key ranges in which rules, groups of rules or labels came, went or changed.
pub(super) fn changed_ranges(old: &Settings, new: &Settings) -> Vec<KeyRange> {
    let mut ranges = placement::changed_ranges(&old.rules, &new.rules);
    ranges.extend(old.labels.changed_ranges(&new.labels));
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{
        model::{
            Key, RegionLabel, RegionLabelRule, Rule, RuleGroup, StoreId, StoreLimits, StoreRecord, StoreState,
            StoreStats, store::UNLIMITED,
        },
        scheduler::{
            operator::testing::{Ids, World},
            placement::RuleSet,
            region_label::LabelIndex,
            testing,
        },
    };

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange::new(start.as_bytes(), end.as_bytes())
    }

    fn with(rules: &[(&str, KeyRange, u32)], groups: &[(&str, i64)], labels: &[(&str, KeyRange)]) -> Settings {
        let mut settings = World::new(3, 1).settings;
        let mut all = vec![Arc::new(RuleSet::default_rule(3, &[], ""))];
        all.extend(rules.iter().map(|(id, range, count)| {
            let rule =
                Rule { group_id: "g".into(), id: (*id).into(), range: range.clone(), count: *count, ..Rule::default() };
            Arc::new(rule)
        }));
        let groups =
            groups.iter().map(|(id, index)| RuleGroup { id: (*id).into(), index: *index, ..RuleGroup::default() });
        settings.rules = Arc::new(RuleSet::new(all, groups.collect()).unwrap());
        let labels = labels.iter().map(|(id, range)| {
            Arc::new(RegionLabelRule { id: (*id).into(), ranges: vec![range.clone()], ..RegionLabelRule::default() })
        });
        settings.labels = Arc::new(LabelIndex::new(labels.collect()));
        settings
    }

    #[test]
    fn what_changed_is_suspect_and_nothing_else() {
        let base = with(&[("a", range("a", "c"), 1), ("b", range("d", "f"), 1)], &[], &[("l", range("x", "y"))]);
        let changed = |next: &Settings| changed_ranges(&base, next);
        assert!(changed(&base.clone()).is_empty());
        let same = with(&[("a", range("a", "c"), 1), ("b", range("d", "f"), 1)], &[], &[("l", range("x", "y"))]);
        assert!(changed(&same).is_empty(), "made anew, but the same");
        let next = with(&[("a", range("a", "c"), 2), ("c", range("m", "n"), 1)], &[], &[]);
        let (a, b) = (range("a", "c"), range("d", "f"));
        assert_eq!(changed(&next), [a.clone(), b.clone(), range("m", "n"), range("x", "y")]);
        let next =
            with(&[("a", range("a", "c"), 1), ("b", range("d", "f"), 1)], &[("g", 5)], &[("l", range("x", "z"))]);
        assert_eq!(changed(&next), [a, b, range("x", "z")]);
    }

    #[test]
    fn new_settings_queue_the_ranges_that_they_change() {
        let ids = Arc::new(Ids(1.into()));
        let cluster = Cluster::new(with(&[], &[], &[]), ids, Now::default());
        let waits = || cluster.deciding.lock().patrol.suspect_len();
        cluster.set_settings(with(&[], &[], &[]), Now::default());
        assert_eq!(waits(), 0);
        cluster.set_settings(with(&[("a", range("a", "c"), 1)], &[], &[]), Now::default());
        assert_eq!(waits(), 1);
        cluster.suspect_ranges(vec![range("a", "c"), KeyRange { start: Key::empty(), end: Key::empty() }]);
        assert_eq!(waits(), 2, "one that waits already does not wait twice");
    }

    fn deny(id: &str, from: u64, to: u64) -> Arc<RegionLabelRule> {
        let label = RegionLabel { key: "schedule".into(), value: "deny".into(), ..RegionLabel::default() };
        let key = |n: u64| n.to_be_bytes().to_vec();
        let ranges = vec![KeyRange::new(key(from), key(to))];
        Arc::new(RegionLabelRule { id: id.into(), labels: vec![label], ranges, ..RegionLabelRule::default() })
    }

    #[test]
    fn o9_a_label_wakes_the_regions_that_it_touches_and_no_other() {
        let world = testing::World::new(4);
        let cluster = Cluster::new(world.settings.clone(), Arc::new(testing::Ids::default()), world.now);
        let mut now = world.now;
        for store in world.stores.snapshot().values() {
            let mut record = StoreRecord::clone(&store.record);
            if record.id == StoreId(3) {
                record.state = StoreState::Offline;
            }
            cluster.put_store(Arc::new(record), now);
            cluster.set_limits(store.id(), StoreLimits { add_peer: UNLIMITED, remove_peer: UNLIMITED }, now);
            cluster.store_heartbeat(store.id(), StoreStats::clone(&store.stats), now);
        }
        for at in 1..=20 {
            cluster.region_heartbeat(testing::World::region(at, &[3, 1, 2]), now).unwrap();
        }
        let mut checks_after = |rules: Vec<Arc<RegionLabelRule>>| {
            let labels = Arc::new(LabelIndex::new(rules));
            cluster.set_settings(Settings { labels, ..(*cluster.settings()).clone() }, now);
            for _ in 0..50 {
                now = now.plus(Duration::from_millis(10));
                cluster.decide(now, |view, d, out| d.patrol.tick(view, &mut d.controller, out));
            }
            let checks = cluster.deciding.lock().patrol.checks();
            (checks, cluster.operators().len())
        };
        let (asleep, none) = checks_after(vec![deny("a", 1, 11), deny("b", 11, 21)]);
        assert!(asleep >= 20 && none == 0, "{asleep} checks, {none} operators");
        let elsewhere = checks_after(vec![deny("a", 1, 11), deny("b", 11, 21), deny("c", 100, 110)]);
        assert_eq!(elsewhere, (asleep, 0), "the change lies elsewhere");
        let (checks, started) = checks_after(vec![deny("a", 1, 11), deny("c", 100, 110)]);
        assert_eq!(started, 10);
        assert!(checks - asleep <= 20, "one look sorts each in, one starts it: {}", checks - asleep);
    }
}
