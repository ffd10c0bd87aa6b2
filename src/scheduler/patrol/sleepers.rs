//! Regions of one list that sleep, by what ends their sleep.
//!
//! Owns: finding those that an event wakes and those that have slept for long, without looking at the others. Must not know: what
//! becomes of them then (`queue`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    model::{Mono, RegionId},
    scheduler::outcome::{Reason, Wake},
};

/// After this time a sleeper is looked at again whatever happened. Nothing relies on it: it is the net under events that are missed
/// (every reason names its events, and a test shows for each that its event wakes).
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The most that one look wakes of those that have slept for long: however many fell asleep at once, the net costs little at a time.
pub(super) const TRICKLE: usize = 16;
/// Notes of sleeps that have ended are thrown away when there are more of them than sleepers, and more than this.
const SPARE: usize = 64;

/// One region's sleep.
#[derive(Clone, Debug)]
struct Sleep {
    since: Mono,
    key: Key,
}

/// What a sleep is found by: the name of its reason, and the label rule that holds the region, if one does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    reason: &'static str,
    rule: Option<Arc<str>>,
}

impl Key {
    fn of(reason: &Reason) -> Self {
        let rule = match reason {
            Reason::Denied { rule } => Some(Arc::from(rule.as_str())),
            _ => None,
        };
        Self { reason: reason.name(), rule }
    }
}

/// Who sleeps for reasons of one name (and one rule), which all end by the same events.
#[derive(Clone, Debug)]
struct Group {
    wakes: &'static [Wake],
    regions: BTreeSet<RegionId>,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    sleeps: HashMap<RegionId, Sleep>,
    groups: BTreeMap<Key, Group>,
    /// In the order in which they fell asleep, with those that were woken since.
    order: VecDeque<(Mono, RegionId)>,
}

impl Sleepers {
    /// A region falls asleep, or goes on sleeping for this reason.
    pub(super) fn put(&mut self, region: RegionId, reason: &Reason, now: Mono) {
        self.take(region);
        let key = Key::of(reason);
        // Neighbours share the bytes of their rule's id.
        let key = self.groups.get_key_value(&key).map(|(known, _)| known.clone()).unwrap_or(key);
        let new = || Group { wakes: reason.wakes(), regions: BTreeSet::new() };
        self.groups.entry(key.clone()).or_insert_with(new).regions.insert(region);
        self.sleeps.insert(region, Sleep { since: now, key });
        if self.order.len() > 2 * self.sleeps.len() + SPARE {
            let sleeps = &self.sleeps;
            self.order.retain(|(at, region)| sleeps.get(region).is_some_and(|sleep| sleep.since == *at));
        }
        self.order.push_back((now, region));
    }

    /// A region sleeps no more.
    pub(super) fn take(&mut self, region: RegionId) {
        let Some(sleep) = self.sleeps.remove(&region) else { return };
        if let Some(group) = self.groups.get_mut(&sleep.key) {
            group.regions.remove(&region);
            if group.regions.is_empty() {
                self.groups.remove(&sleep.key);
            }
        }
    }

    /// Those that this label rule holds, by id.
    pub(super) fn held_by(&self, rule: &str) -> Vec<RegionId> {
        let group = self.groups.get(&Key::of(&Reason::Denied { rule: rule.to_owned() }));
        group.map_or_else(Vec::new, |group| group.regions.iter().copied().collect())
    }

    /// Those that this event wakes, by id.
    pub(super) fn woken_by(&self, event: Wake) -> Vec<RegionId> {
        let groups = self.groups.values().filter(|group| group.wakes.contains(&event));
        let mut woken: Vec<RegionId> = groups.flat_map(|group| group.regions.iter().copied()).collect();
        woken.sort_unstable();
        woken
    }

    /// Some of those that have slept for [`LONGEST_SLEEP`], who slept longest first.
    pub(super) fn overdue(&mut self, now: Mono) -> Vec<RegionId> {
        let mut found = Vec::new();
        while found.len() < TRICKLE {
            let Some((at, region)) = self.order.front().copied() else { break };
            let sleeps = self.sleeps.get(&region).is_some_and(|sleep| sleep.since == at);
            if sleeps && now.since(at) < LONGEST_SLEEP {
                break;
            }
            self.order.pop_front();
            found.extend(sleeps.then_some(region));
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.sleeps.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_slept_longest_is_looked_at_first_and_few_at_a_time() {
        let mut sleepers = Sleepers::default();
        let at = |s| Mono::default().plus(Duration::from_secs(s));
        for region in 1..=TRICKLE as u64 + 5 {
            sleepers.put(RegionId(region), &Reason::NoLeader, at(region));
        }
        sleepers.take(RegionId(2));
        sleepers.put(RegionId(3), &Reason::NoRule, at(30));
        assert!(sleepers.overdue(at(60)).is_empty(), "the first fell asleep at 1");
        assert_eq!(sleepers.overdue(at(64)), [1, 4].map(RegionId), "2 was woken, 3 anew");
        let later = sleepers.overdue(at(200));
        assert_eq!((later.len(), later.first()), (TRICKLE, Some(&RegionId(5))));
        assert_eq!(sleepers.overdue(at(200)), [21, 3].map(RegionId));
    }

    #[test]
    fn who_a_rule_holds_is_found_without_the_others() {
        let mut sleepers = Sleepers::default();
        let denied = |rule: u64| Reason::Denied { rule: format!("rule-{rule}") };
        (0..12).for_each(|region| sleepers.put(RegionId(region), &denied(region % 3), Mono(1)));
        sleepers.put(RegionId(99), &Reason::NoLeader, Mono(1));
        sleepers.put(RegionId(4), &denied(0), Mono(2));
        sleepers.take(RegionId(7));
        assert_eq!(sleepers.held_by("rule-1"), [1, 10].map(RegionId));
        assert_eq!(sleepers.held_by("rule-0"), [0, 3, 4, 6, 9].map(RegionId));
        assert!(sleepers.held_by("rule-9").is_empty());
        assert_eq!(sleepers.woken_by(Wake::Expiry).len(), 11, "an event without a rule is for all");
    }

    #[test]
    fn notes_of_ended_sleeps_do_not_pile_up() {
        let mut sleepers = Sleepers::default();
        for n in 0..10_000 {
            sleepers.put(RegionId(n % 7), &Reason::NoLeader, Mono(n));
        }
        assert_eq!(sleepers.len(), 7);
        assert!(sleepers.order.len() <= 2 * 7 + SPARE + 1, "{}", sleepers.order.len());
        assert_eq!(sleepers.woken_by(Wake::Heartbeat).len(), 7);
        (0..7).for_each(|n| sleepers.take(RegionId(n)));
        assert!(sleepers.groups.is_empty() && sleepers.woken_by(Wake::Heartbeat).is_empty());
    }
}
