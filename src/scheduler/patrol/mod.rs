//! Which region is checked when.
//!
//! Owns: the walk over all regions in key order (the safety net), the work lists of draining and lost stores, the order in which
//! kinds of work get what the limits allow, and what a blocked region waits for. Must not know: what is wrong with a region
//! (`checker`), how limits are counted (`controller`), clocks.
//!
//! A scan meets mostly healthy regions; in a big cluster it would find those of a draining store in bursts, seconds apart. So a
//! store's regions are listed the moment it becomes Offline or Down, and the list is worked off as fast as the limits allow. A
//! region that cannot be helped sleeps until an event that its [`Reason`] names; a list that has no tokens to spend waits until
//! the next one is due, instead of checking its regions over and over. Nothing is polled: what sleeps costs nothing, however many
//! they are ([`Patrol::checks`] counts). The walk in key order meets regions that no list knows, and after
//! `sleepers::LONGEST_SLEEP` sleepers are looked at once more, a few at a time; both are nets under events that were missed, and
//! nothing relies on them.

mod expiry;
mod queue;
mod sleepers;
mod suspect;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use expiry::{Ended, Expiries};
pub use queue::{Blocked, Class, Waits};
use queue::{Queue, Rest, Spot, Tokens, Turns};
use sleepers::LONGEST_SLEEP;
use suspect::Suspects;
use watch::Watch;

use super::{
    checker::{self, LeaderSpread, Memory, check_with, deny, parts},
    controller::{Controller, journal::By},
    effect::{Effect, Event},
    filter::{self, Lens},
    operator::Operator,
    outcome::{LimitKind, Outcome, Reason, ScheduleLimit, Wake},
    view::ClusterView,
};
use crate::{
    model::{Key, KeyRange, Mono, Region, RegionId, StoreId, StoreState, Wall},
    store::{Applied, StoreInfo, index::Held},
};

/// The fewest regions that a tick walks over: with ticks of 10 ms 200,000 regions are met within 16 s.
const MIN_BATCH: usize = 128;
/// The most, so that a tick stays short in a huge cluster (PD's number).
const MAX_BATCH: usize = 8192;
/// A round takes at most about this many ticks while the batch may grow: 16 s with ticks of 10 ms. PD's number is 1024; Berth can
/// take more time, since what is urgent does not wait for the walk but stands in the lists.
const TICKS_A_ROUND: usize = 1600;
/// The most listed regions that one tick checks, so that a long list cannot hold a tick up.
const MAX_CHECKS: usize = 512;
/// By how much a turn may come too early: half a tick. Else the first tick in step after a late one would be none of the patrol's.
const EARLY: Duration = Duration::from_millis(5);
/// How long a list rests when stores have tokens left but the last regions of it could not use them, before the next are tried. Not a
/// poll: each region is tried once, and when all were the list waits for an event.
const RETRY_BUSY: Duration = Duration::from_millis(100);
/// How soon a drained list is made anew from the index when the index knows more regions of the store than are listed or moving.
const REFILL_SHORT: Duration = Duration::from_secs(1);
/// How often a list that has run out is made anew in any case: a net, since regions are listed when they are reported.
const REFILL: Duration = LONGEST_SLEEP;
/// The most regions of one store that are listed at once; a store that holds more is listed in parts.
const MAX_LISTED: usize = 1 << 20;
/// The most regions that wait to be looked at again after an event. The walk meets those that do not fit.
const MAX_RECHECKS: usize = 1 << 16;

/// See the module's comment.
#[derive(Debug)]
pub struct Patrol {
    /// When its last turn was due.
    turn: Option<Mono>,
    /// Since when scheduling is halted, as far as this leader has seen.
    halted: Option<Mono>,
    /// Where the walk goes on.
    cursor: Key,
    /// When the present round began.
    round_began: Option<Mono>,
    /// Regions looked at in it.
    round_regions: u64,
    /// Draining and lost stores.
    stores: BTreeMap<StoreId, Queue>,
    /// Regions elsewhere that lack a peer.
    missing: Queue,
    /// All other regions that need something.
    misplaced: Queue,
    turns: Turns,
    /// The store that had its turn last, so that stores of one class take turns.
    served: StoreId,
    /// Regions that an event made worth a look.
    recheck: VecDeque<RegionId>,
    recheck_known: HashSet<RegionId>,
    suspects: Suspects,
    /// What checkers remember.
    memory: Memory,
    watch: Watch,
    /// When the labels end that hold sleeping regions.
    expiries: Expiries,
    /// Regions found wanting so far.
    checks: u64,
    /// Whether an operator ended since the last turn, which may have made room.
    made_room: bool,
}

impl Default for Patrol {
    fn default() -> Self {
        Self {
            turn: None,
            halted: None,
            cursor: Key::empty(),
            round_began: None,
            round_regions: 0,
            stores: BTreeMap::new(),
            missing: Queue::new(Class::Missing),
            misplaced: Queue::new(Class::Misplaced),
            turns: Turns::default(),
            served: StoreId::default(),
            recheck: VecDeque::new(),
            recheck_known: HashSet::new(),
            suspects: Suspects::default(),
            memory: Memory::default(),
            watch: Watch::default(),
            expiries: Expiries::default(),
            checks: 0,
            made_room: false,
        }
    }
}

/// Names one list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Store(StoreId),
    Missing,
    Misplaced,
}

/// What became of one listed region.
enum Tried {
    /// It has an operator now.
    Admitted,
    /// It needs none, or sleeps.
    Dropped,
    /// It waits for a store.
    Held(Reason),
    /// Nothing can be started for anyone.
    Full,
}

impl Patrol {
    /// Nothing is listed; the walk starts at the first key.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store's record or limits changed: lists its regions at once when it drains or is lost, and wakes what waits for stores.
    /// What it reports, and its silence, is seen by the ticks.
    pub fn on_store_changed(&mut self, view: &ClusterView<'_>, store: StoreId) {
        if let Some(info) = view.stores.get(&store) {
            self.follow(view, info, 0);
        }
        self.wake(Wake::Store, view.now.mono);
    }

    /// The configuration changed. (A change of rules or labels makes the regions in its ranges suspect and touches no other.)
    pub fn on_settings_changed(&mut self, now: Mono) {
        self.wake(Wake::Settings, now);
    }

    /// What waits for the end of something (a label, the pause of a checker) is woken then, without being asked before.
    pub fn wake_at(&mut self, end: Wall) {
        self.expiries.note(None, end);
    }

    /// A region was reported. Costs a few look-ups when nothing waits for it.
    pub fn on_region_reported(&mut self, applied: &Applied) {
        for gone in &applied.removed {
            self.forget_everywhere(gone.id());
        }
        let (region, changes) = (&applied.region, applied.changes);
        let id = region.id();
        let changed = changes.is_new || changes.leader || changes.conf_ver || changes.version || changes.peers;
        let mut look = region.meta.in_joint_state();
        for (store, queue) in &mut self.stores {
            if region.meta.peer_on(*store).is_none() {
                if changed && queue.knows(id) {
                    queue.forget(id);
                }
                continue;
            }
            let is_found = !queue.knows(id) && (queue.class == Class::Offline && changed || !region.down.is_empty());
            look |= is_found || queue.is_woken_by_report(id, changed);
        }
        look |= [&self.missing, &self.misplaced].into_iter().any(|q| q.is_woken_by_report(id, changed));
        if look {
            self.look_again(id);
        }
    }

    /// A region left the index.
    pub fn on_region_gone(&mut self, region: RegionId) {
        self.forget_everywhere(region);
    }

    /// A region's operator ended, well or not. What waits for room is woken with the next turn, once for all that end until then.
    pub fn on_operator_ended(&mut self, region: RegionId) {
        self.made_room = true;
        self.look_again(region);
    }

    /// How often a region was checked and found wanting so far: what blocked regions cost.
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// How a region waits, by the list that holds it for the longest.
    pub fn waits(&self, region: &Region, now: Mono) -> Option<Waits> {
        let of_stores = region.peers().iter().filter_map(|p| self.stores.get(&p.store));
        let all = of_stores.chain([&self.missing, &self.misplaced]).filter_map(|q| q.waits(region.id(), now));
        all.max_by_key(|w| (w.why.is_some(), w.asleep, std::cmp::Reverse(w.since)))
    }

    /// Whether `patrol-region-interval` has passed since the last turn; the present one then counts as taken.
    pub fn is_due(&mut self, view: &ClusterView<'_>) -> bool {
        let (now, interval) = (view.now.mono, view.settings.schedule.patrol_region_interval.get());
        let due = self.turn.map_or(now, |last| last.plus(interval));
        if now.plus(EARLY) < due {
            return false;
        }
        // Turns keep step with the ticks, also after one that came late.
        let late = now.since(due).as_nanos() as u64;
        let missed = late - late % (interval.as_nanos() as u64).max(1);
        self.turn = Some(due.plus(Duration::from_nanos(missed)));
        true
    }

    /// Takes note of `halt-scheduling`. What was so when this leader started is so since then, as far as it knows.
    pub fn note_halt(&mut self, view: &ClusterView<'_>) {
        let began = if self.round_began.is_some() { view.now.mono } else { view.leader_since };
        let halted = view.settings.schedule.halt_scheduling;
        self.halted = halted.then(|| self.halted.unwrap_or(began));
    }

    /// Since when scheduling is halted, if it is.
    pub fn halted_since(&self) -> Option<Mono> {
        self.halted
    }

    /// One turn: events first, then the lists as far as the limits allow, then a part of the walk.
    pub fn tick(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        self.note_halt(view);
        if self.halted.is_some() {
            return;
        }
        self.follow_stores(view, controller.running_len());
        if std::mem::take(&mut self.made_room) {
            self.wake(Wake::OperatorEnd, view.now.mono);
        }
        self.end_pauses(view);
        self.look_at_suspects(view);
        self.look_at_events(view, controller, out);
        self.work(view, controller, out);
        self.walk(view, controller, out);
    }

    /// What holds the regions of a draining or lost store: how many are in line and for what, how many sleep and why.
    pub fn blocked(&self, store: StoreId) -> Option<Blocked> {
        self.stores.get(&store).map(Queue::blocked)
    }

    /// Stores whose regions are listed, and for what.
    pub fn listed(&self) -> impl Iterator<Item = (StoreId, Class)> + '_ {
        self.stores.iter().map(|(store, queue)| (*store, queue.class))
    }

    fn queues(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.stores.values_mut().chain([&mut self.missing, &mut self.misplaced])
    }

    fn queue(&mut self, at: At) -> Option<&mut Queue> {
        match at {
            At::Store(store) => self.stores.get_mut(&store),
            At::Missing => Some(&mut self.missing),
            At::Misplaced => Some(&mut self.misplaced),
        }
    }

    fn wake(&mut self, event: Wake, now: Mono) {
        self.queues().for_each(|queue| queue.wake(event, now));
    }

    fn forget_everywhere(&mut self, region: RegionId) {
        self.queues().for_each(|queue| queue.forget(region));
    }

    /// Sends a region to sleep, and remembers when the label that holds it ends.
    fn sleep(&mut self, view: &ClusterView<'_>, at: At, region: &Region, reason: Reason) {
        if let Reason::Denied { rule } = &reason
            && let Some(end) = deny::ends(view, region)
        {
            self.expiries.note(Some(rule), end);
        }
        if let Some(queue) = self.queue(at) {
            queue.sleep(region.id(), reason, view.now.mono);
        }
    }

    fn look_again(&mut self, region: RegionId) {
        if self.recheck.len() < MAX_RECHECKS && self.recheck_known.insert(region) {
            self.recheck.push_back(region);
        }
    }

    /// `moving`: how many operators run, which may hold regions that no list knows.
    fn follow_stores(&mut self, view: &ClusterView<'_>, moving: usize) {
        self.stores.retain(|id, _| view.stores.get(id).is_some_and(|s| class_of(view, s).is_some()));
        if self.stores.is_empty() {
            self.memory.spread.clear();
        }
        for store in view.stores.values() {
            self.follow(view, store, moving);
        }
        let now = view.now;
        for event in self.watch.events(view) {
            self.wake(event, now.mono);
        }
        match self.expiries.ended(now.wall) {
            Ended::Any => self.wake(Wake::Expiry, now.mono),
            Ended::Rules(rules) => {
                rules.iter().for_each(|rule| self.queues().for_each(|queue| queue.wake_held_by(rule, now.mono)));
            }
        }
        self.missing.wake_sleepers(now.mono);
        self.misplaced.wake_sleepers(now.mono);
    }

    /// Lists the regions of a store that drains or is lost, if they are not listed yet or the list has run out.
    fn follow(&mut self, view: &ClusterView<'_>, store: &StoreInfo, moving: usize) {
        let Some(class) = class_of(view, store) else { return };
        let now = view.now.mono;
        let queue = self.stores.entry(store.id()).or_insert_with(|| Queue::new(class));
        let is_due = || {
            let Some(age) = queue.filled.map(|at| now.since(at)) else { return true };
            let lacks = || {
                let there = view.regions.count_of_store(store.id(), Held::Any);
                there > (queue.known() + moving) as u64
            };
            queue.len() == 0 && (age >= REFILL || class == Class::Offline && age >= REFILL_SHORT && lacks())
        };
        // A store that is Offline and falls silent too: its regions may now be repaired for another cause.
        if queue.class != class || is_due() {
            queue.class = class;
            queue.filled = Some(now);
            let mut regions = view.regions.of_store(store.id(), Held::Any, MAX_LISTED);
            regions.sort_unstable();
            queue.fill(regions, now);
        }
        queue.wake_sleepers(now);
    }

    fn look_at_events(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        for _ in 0..MAX_CHECKS {
            let Some(id) = self.recheck.pop_front() else { return };
            self.recheck_known.remove(&id);
            match view.regions.get(id) {
                Some(region) => self.sort_in(view, controller, &region, true, out),
                None => self.forget_everywhere(id),
            }
        }
    }

    /// Works lists off, class by class in turn, until the limits or the tick's share of checks are used up.
    fn work(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        for _ in 0..MAX_CHECKS {
            if !controller.has_room(view, ScheduleLimit::Replica) {
                return;
            }
            let Some(at) = self.next_list(view, controller) else { return };
            let Some(queue) = self.queue(at) else { return };
            let class = queue.class;
            let Some(region) = queue.pop() else { continue };
            let tried = self.attempt(view, controller, at, region, out);
            if let (At::Store(store), Tried::Admitted | Tried::Dropped) = (at, &tried) {
                self.served = store;
            }
            match tried {
                Tried::Admitted => {
                    let Some(queue) = self.queue(at) else { return };
                    if let Some((tokens, reason)) = queue.served() {
                        self.hold_if_short(view, controller, at, tokens, &reason);
                    }
                    self.turns.served(class);
                }
                Tried::Dropped => self.turns.tried(class),
                Tried::Held(reason) => {
                    self.turns.tried(class);
                    let Some(queue) = self.queue(at) else { return };
                    match queue.held_again(&reason) {
                        Rest::None => {}
                        Rest::Soon => queue.hold(reason, view.now.mono.plus(RETRY_BUSY)),
                        Rest::Event(tokens) => {
                            let until = first_token(view, controller, &tokens);
                            queue.hold_for(tokens, reason, until);
                        }
                    }
                }
                Tried::Full => return,
            }
        }
    }

    /// Holds a list again whose regions are all known to wait for these tokens, when the last of them is spent: there is no
    /// need to try each region once more.
    fn hold_if_short(
        &mut self,
        view: &ClusterView<'_>,
        controller: &Controller,
        at: At,
        tokens: Tokens,
        reason: &Reason,
    ) {
        if tokens.iter().any(|(store, kind)| controller.store_has_tokens(*store, *kind, view.now)) {
            return;
        }
        let until = first_token(view, controller, &tokens);
        if let Some(queue) = self.queue(at) {
            queue.hold_for(tokens, reason.clone(), until);
        }
    }

    /// The list whose turn it is: of those with regions in line and a token to spend, one of the class that got the least of its
    /// share. A list that has no token to spend is put on hold until the next one is due.
    fn next_list(&mut self, view: &ClusterView<'_>, controller: &Controller) -> Option<At> {
        let now = view.now.mono;
        loop {
            // Stores after the one that was served last come first.
            let later = self.stores.range((Bound::Excluded(self.served), Bound::Unbounded));
            let lists = later.chain(self.stores.range(..=self.served)).map(|(id, q)| (At::Store(*id), q));
            let all = lists.chain([(At::Missing, &self.missing), (At::Misplaced, &self.misplaced)]);
            let ready = all.filter(|(_, q)| q.is_ready(now)).map(|(at, q)| (at, q.class));
            let (at, _) = ready.min_by_key(|(_, class)| self.turns.due(*class))?;
            let Some(reason) = lacks_tokens(view, controller, at) else { return Some(at) };
            let until = next_chance(view, controller, at);
            if let Some(queue) = self.queue(at) {
                queue.hold(reason, until);
            }
        }
    }

    /// Checks one region from a list and starts its operator.
    fn attempt(
        &mut self,
        view: &ClusterView<'_>,
        controller: &mut Controller,
        at: At,
        id: RegionId,
        out: &mut Vec<Effect>,
    ) -> Tried {
        let Some(region) = view.regions.get(id) else {
            self.forget_everywhere(id);
            return Tried::Dropped;
        };
        self.checks += 1;
        let lens = Lens::new(controller);
        let outcome = check_with(view, &lens, &self.memory, &region);
        let choice = lens.into_choices().pop();
        let reason = match outcome {
            Outcome::Healthy => {
                self.forget_everywhere(id);
                return Tried::Dropped;
            }
            Outcome::Propose(operators) => match self.admit(view, controller, &region, operators, out) {
                Ok(()) => {
                    self.forget_everywhere(id);
                    controller.note_choice(id, choice);
                    return Tried::Admitted;
                }
                Err(reason) => reason,
            },
            Outcome::Blocked(reason) => reason,
        };
        Self::tell_blocked(view, &region, &reason, out);
        let now = view.now.mono;
        let Some(queue) = self.queue(at) else { return Tried::Dropped };
        match reason {
            Reason::ScheduleLimit(ScheduleLimit::Replica) | Reason::NoId | Reason::Halted | Reason::NotPrepared => {
                queue.put_back(id, reason, Spot::Front, now);
                Tried::Full
            }
            Reason::StoreLimit { .. } | Reason::TargetBusy { .. } => {
                queue.put_back(id, reason.clone(), Spot::Back, now);
                Tried::Held(reason)
            }
            reason => {
                self.sleep(view, at, &region, reason);
                Tried::Dropped
            }
        }
    }

    /// Starts operators. The two of a merge that cannot start now are not waited for: the walk comes by again.
    fn admit(
        &mut self,
        view: &ClusterView<'_>,
        controller: &mut Controller,
        region: &Region,
        operators: Vec<Operator>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reason> {
        if operators.len() > 1 && controller.may_add(view, &operators).is_err() {
            return Ok(());
        }
        let turns: Vec<StoreId> = operators.iter().filter_map(|op| LeaderSpread::turn(region, op)).collect();
        controller.add(view, operators, &By::checker(), out)?;
        turns.into_iter().for_each(|store| self.memory.spread.count_turn(store));
        Ok(())
    }

    /// Walks over the next part of the key space.
    fn walk(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        let now = view.now.mono;
        let began = *self.round_began.get_or_insert(now);
        let limit = (view.regions.len() / TICKS_A_ROUND).clamp(MIN_BATCH, MAX_BATCH);
        let batch = view.regions.scan(&KeyRange { start: self.cursor.clone(), end: Key::empty() }, limit);
        for region in &batch {
            if !checker::is_plainly_healthy(view, &self.memory, region) {
                self.sort_in(view, controller, region, false, out);
            }
        }
        self.round_regions += batch.len() as u64;
        // The last region of a full batch may be the last of all: its end is then empty and so is the cursor.
        self.cursor = batch.last().map_or_else(Key::empty, |last| last.range().end.clone());
        if batch.len() < limit || self.cursor.is_empty() {
            self.cursor = Key::empty();
            self.round_began = Some(now);
            let regions = std::mem::take(&mut self.round_regions);
            if !batch.is_empty() {
                out.push(Effect::Tell(Event::PatrolRound { took: now.since(began), regions }));
            }
        }
    }

    /// Looks at a region without starting anything that has to be shared, and puts it where it belongs: into a line, to sleep, or
    /// nowhere. Leaving a joint state is not limited and started at once.
    fn sort_in(
        &mut self,
        view: &ClusterView<'_>,
        controller: &mut Controller,
        region: &Arc<Region>,
        first: bool,
        out: &mut Vec<Effect>,
    ) {
        let id = region.id();
        if controller.running(id).is_some() {
            return;
        }
        let at = self.list_of(view, region);
        // What is in line is looked at in its turn, and what sleeps is not woken by the walk.
        if !first && !region.meta.in_joint_state() && self.queue(at).is_some_and(|q| q.knows(id)) {
            return;
        }
        let outcome = checker::look(view, controller, &self.memory, region);
        self.checks += u64::from(!matches!(outcome, Outcome::Healthy));
        // (The limit that stops a look is none.)
        if let Outcome::Blocked(reason) = &outcome
            && !matches!(reason, Reason::ScheduleLimit(_))
        {
            Self::tell_blocked(view, region, reason, out);
        }
        match outcome {
            Outcome::Healthy => self.forget_everywhere(id),
            Outcome::Propose(operators) => {
                if let Err(reason) = self.admit(view, controller, region, operators, out) {
                    self.put(view, at, region, first, reason);
                }
            }
            Outcome::Blocked(reason) => self.put(view, at, region, first, reason),
        }
    }

    /// Puts a region that nothing can be started for into line, where it waits until a token is due or an operator has ended, or to
    /// sleep.
    fn put(&mut self, view: &ClusterView<'_>, at: At, region: &Region, first: bool, reason: Reason) {
        match reason {
            Reason::ScheduleLimit(_) | Reason::TargetBusy { .. } | Reason::StoreLimit { .. } | Reason::NoId => {
                if let Some(queue) = self.queue(at) {
                    queue.enqueue(region.id(), if first { Spot::Soon } else { Spot::Back }, view.now.mono);
                }
            }
            reason => self.sleep(view, at, region, reason),
        }
    }

    /// The list that a region belongs to: that of a draining or lost store with a peer of it, else by what it lacks.
    fn list_of(&self, view: &ClusterView<'_>, region: &Region) -> At {
        let listed = region.peers().iter().map(|p| p.store).filter(|s| self.stores.contains_key(s));
        if let Some(store) = listed.min_by_key(|s| self.stores.get(s).map(|q| q.class)) {
            return At::Store(store);
        }
        if lacks_peers(view, region) { At::Missing } else { At::Misplaced }
    }

    /// Tells what keeps a region from being mended.
    fn tell_blocked(view: &ClusterView<'_>, region: &Arc<Region>, reason: &Reason, out: &mut Vec<Effect>) {
        let (region, missing) = (Arc::clone(region), lacks_peers(view, region));
        out.push(Effect::Tell(Event::Blocked { region, missing, reason: reason.clone() }));
    }
}

/// Whether a region has fewer peers than its rules ask for.
fn lacks_peers(view: &ClusterView<'_>, region: &Region) -> bool {
    (region.peers().len() as u64) < parts::wanted_peers(view, region)
}

/// Whether a store's regions are listed, and for what.
fn class_of(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Class> {
    match store.record.state {
        StoreState::Tombstone => None,
        StoreState::Up | StoreState::Offline if filter::is_down(view, store) => Some(Class::Down),
        StoreState::Offline => Some(Class::Offline),
        StoreState::Up => None,
    }
}

/// Stores that could be targets for something.
fn targets<'a>(view: &'a ClusterView<'_>) -> impl Iterator<Item = StoreId> + 'a {
    let live = |s: &&Arc<StoreInfo>| s.record.state == StoreState::Up && !filter::is_disconnected(view, s);
    view.stores.values().filter(live).map(|s| s.id())
}

/// Why a list cannot start anything now, whatever its regions are: its store may give nothing away, or nobody may take anything.
fn lacks_tokens(view: &ClusterView<'_>, controller: &Controller, at: At) -> Option<Reason> {
    if let At::Store(store) = at
        && !controller.store_has_tokens(store, LimitKind::RemovePeer, view.now)
    {
        return Some(Reason::StoreLimit { store, kind: LimitKind::RemovePeer });
    }
    // Left-over peers and wrong roles need no target.
    if at == At::Misplaced || targets(view).any(|s| controller.store_has_tokens(s, LimitKind::AddPeer, view.now)) {
        return None;
    }
    let refused: Vec<StoreId> = targets(view).collect();
    let name = filter::Refusal::ExceedAddLimit.name();
    Some(Reason::TargetBusy { refused: [(name, refused)].into() })
}

/// When there is the first of these tokens again; without any, an event or a region that joins opens the line.
fn first_token(view: &ClusterView<'_>, controller: &Controller, tokens: &Tokens) -> Mono {
    let now = view.now;
    let due = tokens.iter().filter_map(|(store, kind)| controller.next_token(*store, *kind, now)).min();
    let net = now.mono.plus(LONGEST_SLEEP);
    due.map_or(net, |due| due.min(net))
}

/// When a list that is held may try again: when the next token is due. Without any, an event opens it.
fn next_chance(view: &ClusterView<'_>, controller: &Controller, at: At) -> Mono {
    let now = view.now;
    if let At::Store(store) = at
        && let Some(due) = controller.next_token(store, LimitKind::RemovePeer, now)
    {
        return due;
    }
    first_token(view, controller, &targets(view).map(|store| (store, LimitKind::AddPeer)).collect())
}
