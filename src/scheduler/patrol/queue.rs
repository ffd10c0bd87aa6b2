//! Regions in line for repair, and regions that sleep until something changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::sleepers::Sleepers;
use crate::{
    model::{Mono, RegionId, StoreId},
    scheduler::{
        filter::Refusal,
        outcome::{LimitKind, Reason, Wake},
    },
};

/// The most regions that a list knows. The walk meets those that do not fit again.
const MAX_KNOWN: usize = 1 << 20;
/// After so many regions in a row whose targets are all busy a list rests: others are hardly luckier.
const MAX_HELD: usize = 64;
/// So many checks that start nothing cost a class as much as an operator: blocked regions, however many, do not use up what a tick may
/// check.
const CHECKS_AN_OPERATOR: u64 = 64;

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

/// Whose turn it is. Each class pays for an operator, and a little for a check that starts none; the one that has paid least is next. A class that was idle starts where the
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
        self.charge(class, class.cost() * CHECKS_AN_OPERATOR);
    }

    /// A region of this class was checked, and nothing was started.
    pub(super) fn tried(&mut self, class: Class) {
        self.charge(class, class.cost());
    }

    fn charge(&mut self, class: Class, cost: u64) {
        let paid = &mut self.paid[class as usize];
        self.now = self.now.max(*paid);
        *paid = self.now + cost;
    }
}

/// What holds the regions of one list, for tests and explanations.
#[derive(Clone, PartialEq, Debug)]
pub struct Blocked {
    /// Kind of work.
    pub class: Class,
    /// Regions in line.
    pub in_line: usize,
    /// What the line waits for, if it waits, and until when at the longest.
    pub held: Option<(Reason, Mono)>,
    /// Sleeping regions by [`Reason::name`]: how many, one of them, and its reason in full.
    pub asleep: BTreeMap<&'static str, (usize, RegionId, Arc<Reason>)>,
}

/// How one region waits.
#[derive(Clone, PartialEq, Debug)]
pub struct Waits {
    /// Whether nothing is tried before an event; else it is in line.
    pub asleep: bool,
    /// Since when it is listed, or since when it is refused for the present reason.
    pub since: Mono,
    /// Why the last try failed; of a region in line that was not tried, why its line waits.
    pub why: Option<Arc<Reason>>,
}

/// Where a known region is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Line,
    /// Taken out of line, being tried.
    Out,
    Asleep,
}

#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    since: Mono,
    why: Option<Arc<Reason>>,
}

/// The line waits.
#[derive(Clone, Debug)]
struct Held {
    reason: Arc<Reason>,
    until: Mono,
    /// Each region in line was tried, and none could be helped: one that joins may be luckier.
    all_tried: bool,
}

/// Tokens that are waited for.
pub(super) type Tokens = BTreeSet<(StoreId, LimitKind)>;

/// What follows from one more region that waits for a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// The next one may be luckier.
    None,
    /// Many in a row were not: go on a little later.
    Soon,
    /// No region in line can be helped before there is one of these tokens or another event comes.
    Event(Tokens),
}

/// Where in line a region is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    /// Before all others: it had its turn and nothing could be started.
    Front,
    /// After those that an event or a person brought here before, and before all others.
    Soon,
    /// After all others.
    Back,
}

/// One list.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) class: Class,
    /// When it was last made from the index; lists of found regions never are.
    pub(super) filled: Option<Mono>,
    /// Regions in a row that waited for a store, and the stores without tokens among those that refused them.
    held_in_row: usize,
    short_of_tokens: Tokens,
    /// After all regions in line were tried in vain: the stores whose tokens they wait for. Forgotten with any event.
    waits_for: Option<Tokens>,
    /// What comes before the line.
    soon: VecDeque<RegionId>,
    line: VecDeque<RegionId>,
    known: HashMap<RegionId, Entry>,
    lined: usize,
    sleepers: Sleepers,
    held: Option<Held>,
    /// The last reason that a region went to sleep with: neighbours mostly share it.
    last: Option<Arc<Reason>>,
}

impl Queue {
    pub(super) fn new(class: Class) -> Self {
        Self { class, ..Self::default() }
    }

    /// Puts all of `regions` in line that are not known yet.
    pub(super) fn fill(&mut self, regions: impl IntoIterator<Item = RegionId>, now: Mono) {
        for region in regions {
            if !self.known.contains_key(&region) {
                self.enqueue(region, Spot::Back, now);
            }
        }
    }

    /// Puts a region in line, also if it slept.
    pub(super) fn enqueue(&mut self, region: RegionId, spot: Spot, now: Mono) {
        let is_full = self.known.len() >= MAX_KNOWN;
        match self.known.get_mut(&region) {
            Some(entry) if entry.place == Place::Line => return,
            Some(entry) => {
                self.sleepers.take(region);
                entry.place = Place::Line;
            }
            None if is_full => return,
            None => {
                self.known.insert(region, Entry { place: Place::Line, since: now, why: None });
                if self.held.as_ref().is_some_and(|held| held.all_tried) {
                    self.release();
                }
            }
        }
        self.lined += 1;
        match spot {
            Spot::Front => self.soon.push_front(region),
            Spot::Soon => self.soon.push_back(region),
            Spot::Back => self.line.push_back(region),
        }
    }

    /// Takes the next region out of line; it stays known until it is forgotten, put back or sent to sleep.
    pub(super) fn pop(&mut self) -> Option<RegionId> {
        loop {
            let region = self.soon.pop_front().or_else(|| self.line.pop_front())?;
            // Forgotten or asleep since it was put in line.
            if let Some(entry) = self.known.get_mut(&region).filter(|e| e.place == Place::Line) {
                entry.place = Place::Out;
                self.lined -= 1;
                return Some(region);
            }
        }
    }

    /// The region needs nothing, or has an operator.
    pub(super) fn forget(&mut self, region: RegionId) {
        if let Some(entry) = self.known.remove(&region) {
            self.sleepers.take(region);
            self.lined -= usize::from(entry.place == Place::Line);
        }
    }

    /// Nothing can be done for the region before an event that its reason names.
    pub(super) fn sleep(&mut self, region: RegionId, reason: Reason, now: Mono) {
        let Some(why) = self.note(region, reason, now) else { return };
        if let Some(entry) = self.known.get_mut(&region) {
            self.lined -= usize::from(entry.place == Place::Line);
            entry.place = Place::Asleep;
            self.sleepers.put(region, &why, now);
        }
    }

    /// The region was tried in vain and goes back in line.
    pub(super) fn put_back(&mut self, region: RegionId, reason: Reason, spot: Spot, now: Mono) {
        self.note(region, reason, now);
        self.enqueue(region, spot, now);
    }

    /// Keeps why a region is refused, and since when for the same reason; `None` when the list is full.
    fn note(&mut self, region: RegionId, reason: Reason, now: Mono) -> Option<Arc<Reason>> {
        let full = self.known.len() >= MAX_KNOWN && !self.known.contains_key(&region);
        if full {
            return None;
        }
        let why = match &self.last {
            Some(last) if **last == reason => Arc::clone(last),
            _ => Arc::new(reason),
        };
        self.last = Some(Arc::clone(&why));
        let entry = self.known.entry(region).or_insert(Entry { place: Place::Out, since: now, why: None });
        if entry.why.as_ref().is_some_and(|old| old.name() != why.name()) {
            entry.since = now;
        }
        entry.why = Some(Arc::clone(&why));
        Some(why)
    }

    /// Wakes the regions whose reasons name this event, and the line if it waits for it.
    pub(super) fn wake(&mut self, event: Wake, now: Mono) {
        if self.held.as_ref().is_some_and(|held| held.reason.wakes().contains(&event)) {
            self.release();
        }
        for region in self.sleepers.woken_by(event) {
            self.enqueue(region, Spot::Back, now);
        }
    }

    /// Wakes the regions that this label rule holds, and the line if it waits for a label.
    pub(super) fn wake_held_by(&mut self, rule: &str, now: Mono) {
        if self.held.as_ref().is_some_and(|held| held.reason.wakes().contains(&Wake::Expiry)) {
            self.release();
        }
        for region in self.sleepers.held_by(rule) {
            self.enqueue(region, Spot::Back, now);
        }
    }

    /// Wakes some of those that have slept for long.
    pub(super) fn wake_sleepers(&mut self, now: Mono) {
        for region in self.sleepers.overdue(now) {
            self.enqueue(region, Spot::Back, now);
        }
    }

    /// The line waits: for `reason`, until `until` at the longest.
    pub(super) fn hold(&mut self, reason: Reason, until: Mono) {
        self.held = Some(Held { reason: Arc::new(reason), until, all_tried: false });
    }

    /// The line waits for tokens of `stores`: all regions in it were tried, and no other store can help one.
    pub(super) fn hold_for(&mut self, tokens: Tokens, reason: Reason, until: Mono) {
        self.held_in_row = 0;
        self.waits_for = Some(tokens);
        self.held = Some(Held { reason: Arc::new(reason), until, all_tried: true });
    }

    fn release(&mut self) {
        self.held = None;
        self.waits_for = None;
        _ = self.served();
    }

    /// An operator was admitted: what follows in line is tried afresh. Gives the stores that the whole line waits for, if it is known
    /// to, and why.
    pub(super) fn served(&mut self) -> Option<(Tokens, Arc<Reason>)> {
        self.held_in_row = 0;
        self.short_of_tokens.clear();
        let reason = self.held.as_ref().filter(|held| held.all_tried).map(|held| Arc::clone(&held.reason));
        self.waits_for.clone().zip(reason)
    }

    /// One more region waits for a store.
    pub(super) fn held_again(&mut self, reason: &Reason) -> Rest {
        self.held_in_row += 1;
        match reason {
            Reason::StoreLimit { store, kind } => _ = self.short_of_tokens.insert((*store, *kind)),
            Reason::TargetBusy { refused } => {
                let short = refused.get(Refusal::ExceedAddLimit.name());
                self.short_of_tokens.extend(short.into_iter().flatten().map(|store| (*store, LimitKind::AddPeer)));
            }
            _ => {}
        }
        if self.held_in_row >= self.lined {
            Rest::Event(std::mem::take(&mut self.short_of_tokens))
        } else if self.held_in_row.is_multiple_of(MAX_HELD) {
            Rest::Soon
        } else {
            Rest::None
        }
    }

    /// Whether a region is in line and the line does not wait.
    pub(super) fn is_ready(&self, now: Mono) -> bool {
        self.lined > 0 && self.held.as_ref().is_none_or(|held| held.until <= now)
    }

    /// Whether a report of the region, which shows a change or not, is worth a look: it sleeps, and this may have ended it.
    pub(super) fn is_woken_by_report(&self, region: RegionId, changed: bool) -> bool {
        let woken = |why: &Reason| changed || why.wakes().contains(&Wake::Heartbeat);
        self.sleepers.len() > 0
            && self
                .known
                .get(&region)
                .is_some_and(|e| e.place == Place::Asleep && e.why.as_ref().is_none_or(|why| woken(why)))
    }

    pub(super) fn knows(&self, region: RegionId) -> bool {
        self.known.contains_key(&region)
    }

    /// How many regions are in line.
    pub(super) fn len(&self) -> usize {
        self.lined
    }

    /// How many regions are in line or asleep.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// How a region waits, if it is here.
    pub(super) fn waits(&self, region: RegionId, now: Mono) -> Option<Waits> {
        let entry = self.known.get(&region)?;
        let held = self.held.as_ref().filter(|held| held.until > now);
        let why = match (entry.place, held) {
            (Place::Asleep, _) => entry.why.clone(),
            (_, Some(held)) => entry.why.clone().or_else(|| Some(Arc::clone(&held.reason))),
            (_, None) => None,
        };
        Some(Waits { asleep: entry.place == Place::Asleep, since: entry.since, why })
    }

    pub(super) fn blocked(&self) -> Blocked {
        let mut asleep: BTreeMap<&'static str, (usize, RegionId, Arc<Reason>)> = BTreeMap::new();
        for (id, entry) in self.known.iter().filter(|(_, entry)| entry.place == Place::Asleep) {
            let Some(why) = &entry.why else { continue };
            let group = asleep.entry(why.name()).or_insert_with(|| (0, *id, Arc::clone(why)));
            group.0 += 1;
            if *id < group.1 {
                (group.1, group.2) = (*id, Arc::clone(why));
            }
        }
        let held = self.held.as_ref().map(|held| (Reason::clone(&held.reason), held.until));
        Blocked { class: self.class, in_line: self.lined, held, asleep }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::sleepers::LONGEST_SLEEP, *};

    #[test]
    fn a_region_is_in_line_or_asleep_or_neither() {
        let mut queue = Queue::new(Class::Offline);
        let now = Mono::default();
        queue.fill([1, 2, 3].map(RegionId), now);
        queue.fill([2, 3].map(RegionId), now);
        assert_eq!(queue.len(), 3);
        let first = queue.pop();
        assert_eq!(first, Some(RegionId(1)));
        queue.sleep(RegionId(1), Reason::NoLeader, now);
        queue.sleep(RegionId(2), Reason::PendingPeer(crate::model::PeerId(9)), now);
        let waits = queue.waits(RegionId(2), now);
        assert_eq!((queue.len(), waits.map(|w| w.asleep)), (1, Some(true)));
        assert_eq!(queue.pop(), Some(RegionId(3)), "a region that was sent to sleep is no longer in line");
        assert_eq!(queue.pop(), None);
        queue.wake(Wake::Store, now);
        assert_eq!(queue.pop(), None, "no reason here names stores");
        queue.wake(Wake::Heartbeat, now);
        assert_eq!((queue.pop(), queue.pop(), queue.len()), (Some(RegionId(1)), Some(RegionId(2)), 0));
    }

    #[test]
    fn who_is_brought_forward_comes_before_the_line_in_the_order_of_coming() {
        let mut queue = Queue::new(Class::Misplaced);
        let now = Mono::default();
        queue.fill([10, 11].map(RegionId), now);
        (1..=3).for_each(|id| queue.enqueue(RegionId(id), Spot::Soon, now));
        let first = queue.pop().unwrap_or_default();
        assert_eq!(first, RegionId(1));
        queue.put_back(first, Reason::NoId, Spot::Front, now);
        queue.enqueue(RegionId(12), Spot::Back, now);
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|region| region.0).collect();
        assert_eq!(order, [1, 2, 3, 10, 11, 12]);
    }

    #[test]
    fn sleepers_wake_after_a_while_and_the_line_at_its_time() {
        let mut queue = Queue::new(Class::Missing);
        let at = |s| Mono::default().plus(Duration::from_secs(s));
        queue.sleep(RegionId(1), Reason::NoRule, at(0));
        queue.wake_sleepers(at(59));
        assert_eq!(queue.len(), 0);
        queue.wake_sleepers(at(60));
        assert!(queue.is_ready(at(60)));
        queue.hold(Reason::TargetBusy { refused: BTreeMap::new() }, at(90));
        assert!(!queue.is_ready(at(89)) && queue.is_ready(at(90)));
        assert_eq!(queue.blocked().held.map(|(_, until)| until), Some(at(90)));
        queue.wake(Wake::Store, at(61));
        assert!(queue.is_ready(at(61)));
    }

    #[test]
    fn a_reason_is_remembered_with_the_time_since_it_holds() {
        let mut queue = Queue::new(Class::Offline);
        let at = |s| Mono::default().plus(Duration::from_secs(s));
        queue.fill([RegionId(1)], at(0));
        for (second, reason, since) in [(5, Reason::NoLeader, 0), (6, Reason::NoLeader, 0), (9, Reason::NoRule, 9)] {
            queue.enqueue(RegionId(1), Spot::Back, at(second));
            assert_eq!(queue.pop(), Some(RegionId(1)));
            queue.sleep(RegionId(1), reason.clone(), at(second));
            let waits =
                queue.waits(RegionId(1), at(second)).unwrap_or(Waits { asleep: false, since: at(99), why: None });
            assert_eq!((waits.asleep, waits.since, waits.why.as_deref()), (true, at(since), Some(&reason)));
        }
    }

    #[test]
    fn a_line_in_which_all_were_tried_waits_for_an_event_and_opens_for_a_region_that_joins() {
        let mut queue = Queue::new(Class::Offline);
        let now = Mono::default();
        queue.fill((1..=100).map(RegionId), now);
        let busy =
            |store| Reason::TargetBusy { refused: [(Refusal::ExceedAddLimit.name(), vec![StoreId(store)])].into() };
        let tokens: Tokens = [1, 2].map(|store| (StoreId(store), LimitKind::AddPeer)).into();
        let mut rests = Vec::new();
        for store in 1..=100 {
            let region = queue.pop().unwrap_or_default();
            queue.put_back(region, busy(1 + store % 2), Spot::Back, now);
            rests.push(queue.held_again(&busy(1 + store % 2)));
        }
        assert_eq!((&rests[63], &rests[98]), (&Rest::Soon, &Rest::None));
        assert_eq!(rests[99], Rest::Event(tokens.clone()));
        queue.hold_for(tokens, busy(1), now.plus(LONGEST_SLEEP));
        assert_eq!(queue.served().map(|(stores, _)| stores.len()), Some(2));
        assert!(!queue.is_ready(now));
        queue.fill([RegionId(5)], now);
        assert!(!queue.is_ready(now), "known already");
        queue.enqueue(RegionId(101), Spot::Soon, now);
        assert!(queue.is_ready(now));
        assert_eq!(queue.pop(), Some(RegionId(101)));
        assert!(queue.served().is_none(), "nothing is known of the one that joined");
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
