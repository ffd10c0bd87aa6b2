//! Regions in line for repair, and regions that sleep until something changes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    model::{Mono, RegionId},
    scheduler::outcome::{Reason, Wake},
};

/// The most regions that a list knows. The walk meets those that do not fit again.
const MAX_KNOWN: usize = 1 << 20;
/// After this time sleepers are looked at again whatever happened: the net under events that are missed.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Kinds of work; each gets a share of what the limits allow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Class {
    /// Peers on a lost store.
    Down,
    /// Peers on a store that is being emptied.
    Offline,
    /// A rule lacks a peer.
    Missing,
    /// Left-over peers, wrong roles, better locations.
    #[default]
    Misplaced,
}

impl Class {
    /// What one operator costs a class; the lower, the larger its share: of eleven operators a lost store gets four, a draining
    /// one and missing peers three each, all else one.
    fn cost(self) -> u64 {
        match self {
            Class::Down => 3,
            Class::Offline | Class::Missing => 4,
            Class::Misplaced => 12,
        }
    }
}

/// Whose turn it is. Each class pays for an operator; the one that has paid least is next. A class that was idle starts where the
/// others are, so it cannot save its turns up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    paid: [u64; 4],
    now: u64,
}

impl Turns {
    /// The lower, the sooner.
    pub(super) fn due(&self, class: Class) -> (u64, Class) {
        (self.paid[class as usize].max(self.now), class)
    }

    /// An operator of this class was admitted.
    pub(super) fn served(&mut self, class: Class) {
        let paid = &mut self.paid[class as usize];
        self.now = self.now.max(*paid);
        *paid = self.now + class.cost();
    }
}

/// What holds the regions of one list, for explanations.
#[derive(Clone, PartialEq, Debug)]
pub struct Blocked {
    /// Kind of work.
    pub class: Class,
    /// Regions in line.
    pub in_line: usize,
    /// What the line waits for, if it waits, and until when at the longest.
    pub held: Option<(Reason, Mono)>,
    /// Sleeping regions by [`Reason::name`]: how many, one of them, and its reason in full.
    pub asleep: BTreeMap<&'static str, (usize, RegionId, Reason)>,
}

/// One list.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) class: Class,
    /// When it was last made from the index; lists of found regions never are.
    pub(super) filled: Option<Mono>,
    /// Regions in a row that waited for a store.
    pub(super) held_in_row: usize,
    line: VecDeque<RegionId>,
    /// Every region in line (`None`) and asleep.
    known: HashMap<RegionId, Option<Reason>>,
    asleep: usize,
    held: Option<(Reason, Mono)>,
    woken: Mono,
}

impl Queue {
    pub(super) fn new(class: Class) -> Self {
        Self { class, ..Self::default() }
    }

    /// Puts all of `regions` in line that are not known yet.
    pub(super) fn fill(&mut self, regions: impl IntoIterator<Item = RegionId>) {
        for region in regions {
            if !self.known.contains_key(&region) {
                self.enqueue(region, false);
            }
        }
    }

    /// Puts a region in line, also if it slept. `first`: before all others.
    pub(super) fn enqueue(&mut self, region: RegionId, first: bool) {
        if self.known.len() >= MAX_KNOWN {
            return;
        }
        match self.known.insert(region, None) {
            Some(None) => return,
            Some(Some(_)) => self.asleep -= 1,
            None => {}
        }
        if first {
            self.line.push_front(region);
        } else {
            self.line.push_back(region);
        }
    }

    /// Takes the next region out of line; it stays known until it is forgotten, put back or sent to sleep.
    pub(super) fn pop(&mut self) -> Option<RegionId> {
        loop {
            let region = self.line.pop_front()?;
            // Forgotten or asleep since it was put in line.
            if matches!(self.known.get(&region), Some(None)) {
                self.known.remove(&region);
                return Some(region);
            }
        }
    }

    /// The region needs nothing.
    pub(super) fn forget(&mut self, region: RegionId) {
        if let Some(Some(_)) = self.known.remove(&region) {
            self.asleep -= 1;
        }
    }

    /// Nothing can be done for the region before an event that its reason names.
    pub(super) fn sleep(&mut self, region: RegionId, reason: Reason) {
        if self.known.len() >= MAX_KNOWN {
            return;
        }
        if !matches!(self.known.insert(region, Some(reason)), Some(Some(_))) {
            self.asleep += 1;
        }
    }

    /// Wakes the regions whose reasons name this event, and the line if it waits for it.
    pub(super) fn wake(&mut self, event: Wake) {
        if self.held.as_ref().is_some_and(|(reason, _)| reason.wakes().contains(&event)) {
            self.held = None;
        }
        if self.asleep > 0 {
            self.wake_if(|reason| reason.wakes().contains(&event));
        }
    }

    /// Wakes everything that has slept for long.
    pub(super) fn wake_sleepers(&mut self, now: Mono) {
        if self.asleep == 0 {
            self.woken = now;
        } else if now.since(self.woken) >= LONGEST_SLEEP {
            self.woken = now;
            self.wake_if(|_| true);
        }
    }

    fn wake_if(&mut self, wakes: impl Fn(&Reason) -> bool) {
        let asleep = self.known.iter().filter_map(|(id, reason)| reason.as_ref().filter(|r| wakes(r)).map(|_| *id));
        let mut woken: Vec<RegionId> = asleep.collect();
        woken.sort_unstable();
        for region in woken {
            self.enqueue(region, false);
        }
    }

    /// The line waits: for `reason`, until `until` at the longest.
    pub(super) fn hold(&mut self, reason: Reason, until: Mono) {
        self.held_in_row = 0;
        self.held = Some((reason, until));
    }

    /// Whether a region is in line and the line does not wait.
    pub(super) fn is_ready(&self, now: Mono) -> bool {
        !self.line.is_empty() && self.held.as_ref().is_none_or(|(_, until)| *until <= now)
    }

    pub(super) fn is_asleep(&self, region: RegionId) -> bool {
        self.asleep > 0 && matches!(self.known.get(&region), Some(Some(_)))
    }

    pub(super) fn knows(&self, region: RegionId) -> bool {
        self.known.contains_key(&region)
    }

    /// How many regions are in line.
    pub(super) fn len(&self) -> usize {
        self.known.len() - self.asleep
    }

    pub(super) fn blocked(&self) -> Blocked {
        let mut asleep: BTreeMap<&'static str, (usize, RegionId, Reason)> = BTreeMap::new();
        for (id, reason) in &self.known {
            let Some(reason) = reason else { continue };
            let entry = asleep.entry(reason.name()).or_insert_with(|| (0, *id, reason.clone()));
            entry.0 += 1;
            if *id < entry.1 {
                (entry.1, entry.2) = (*id, reason.clone());
            }
        }
        Blocked { class: self.class, in_line: self.len(), held: self.held.clone(), asleep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_in_line_or_asleep_or_neither() {
        let mut queue = Queue::new(Class::Offline);
        queue.fill([1, 2, 3].map(RegionId));
        queue.fill([2, 3].map(RegionId));
        assert_eq!(queue.len(), 3);
        let first = queue.pop();
        assert_eq!(first, Some(RegionId(1)));
        queue.sleep(RegionId(1), Reason::NoLeader);
        queue.sleep(RegionId(2), Reason::PendingPeer(crate::model::PeerId(9)));
        assert_eq!((queue.len(), queue.is_asleep(RegionId(2))), (1, true));
        assert_eq!(queue.pop(), Some(RegionId(3)), "a region that was sent to sleep is no longer in line");
        assert_eq!(queue.pop(), None);
        queue.wake(Wake::Store);
        assert_eq!(queue.pop(), None, "no reason here names stores");
        queue.wake(Wake::Heartbeat);
        assert_eq!((queue.pop(), queue.pop(), queue.len()), (Some(RegionId(1)), Some(RegionId(2)), 0));
    }

    #[test]
    fn sleepers_wake_after_a_while_and_the_line_at_its_time() {
        let mut queue = Queue::new(Class::Missing);
        queue.sleep(RegionId(1), Reason::NoRule);
        let at = |s| Mono::default().plus(Duration::from_secs(s));
        queue.wake_sleepers(at(9));
        assert_eq!(queue.len(), 0);
        queue.wake_sleepers(at(10));
        assert!(queue.is_ready(at(10)));
        queue.hold(Reason::TargetBusy { refused: BTreeMap::new() }, at(20));
        assert!(!queue.is_ready(at(19)) && queue.is_ready(at(20)));
        assert_eq!(queue.blocked().held.map(|(_, until)| until), Some(at(20)));
        queue.wake(Wake::Store);
        assert!(queue.is_ready(at(11)));
    }

    #[test]
    fn classes_share_by_weight_and_none_saves_up() {
        let mut turns = Turns::default();
        let mut got = [0; 4];
        let classes = [Class::Down, Class::Offline, Class::Missing, Class::Misplaced];
        for _ in 0..110 {
            let next = classes.into_iter().min_by_key(|c| turns.due(*c)).unwrap_or_default();
            turns.served(next);
            got[next as usize] += 1;
        }
        assert_eq!(got, [40, 30, 30, 10]);
        // Only drains for a long time; then a lost store comes up and must not take everything.
        for _ in 0..1000 {
            turns.served(Class::Offline);
        }
        let mut offline = 0;
        for _ in 0..70 {
            let next = [Class::Down, Class::Offline].into_iter().min_by_key(|c| turns.due(*c)).unwrap_or_default();
            turns.served(next);
            offline += usize::from(next == Class::Offline);
        }
        assert!((29..=31).contains(&offline), "{offline} of 70");
    }
}
