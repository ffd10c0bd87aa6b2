//! Which region is checked when.
//!
//! Owns: the walk over all regions in key order (the safety net), the work lists of draining and lost stores, the order in which
//! kinds of work get what the limits allow, and what a blocked region waits for. Must not know: what is wrong with a region
//! (`checker`), how limits are counted (`controller`), clocks.
//!
//! A scan meets mostly healthy regions; in a big cluster it would find those of a draining store in bursts, seconds apart. So a
//! store's regions are listed the moment it becomes Offline or Down, and the list is worked off as fast as the limits allow. A
//! region that cannot be helped sleeps until an event that its [`Reason`] names; a list that has no tokens to spend waits until
//! the next one is due, instead of checking its regions over and over. The walk in key order meets everything again within a
//! round, whatever events were missed.

mod queue;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

pub use queue::{Blocked, Class};
use queue::{Queue, Turns};

use super::{
    checker::{self, LeaderSpread, check_with},
    controller::Controller,
    effect::{Effect, Event},
    filter,
    operator::Operator,
    outcome::{LimitKind, Outcome, Reason, ScheduleLimit, Wake},
    view::ClusterView,
};
use crate::{
    model::{Key, KeyRange, Mono, Region, RegionId, StoreId, StoreState},
    store::{StoreInfo, index::Held},
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
/// After so many regions in a row whose targets are all busy a list waits: others are hardly luckier.
const MAX_HELD: usize = 64;
/// How long a list waits when stores have tokens left but no region of it could use them just now.
const RETRY_BUSY: Duration = Duration::from_millis(100);
/// How often a drained list is made anew from the index, for regions that were split off or missed.
const REFILL_OFFLINE: Duration = Duration::from_secs(1);
/// The same for a lost store, where most regions may be waiting to be reported down (those reports wake them anyway).
const REFILL_DOWN: Duration = Duration::from_secs(10);
/// The most regions of one store that are listed at once; a store that holds more is listed in parts.
const MAX_LISTED: usize = 1 << 20;
/// The most regions that wait to be looked at again after an event. The walk meets those that do not fit.
const MAX_RECHECKS: usize = 1 << 16;

/// See the module's comment.
#[derive(Debug)]
pub struct Patrol {
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
    /// The store that was served last, so that stores of one class take turns.
    served: StoreId,
    /// Regions that an event made worth a look.
    recheck: VecDeque<RegionId>,
    recheck_known: HashSet<RegionId>,
    spread: LeaderSpread,
}

impl Default for Patrol {
    fn default() -> Self {
        Self {
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
            spread: LeaderSpread::default(),
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

    /// A store's record or report changed: lists its regions at once when it drains or is lost, and wakes what waits for stores.
    pub fn on_store_changed(&mut self, view: &ClusterView<'_>, store: StoreId) {
        if let Some(info) = view.stores.get(&store) {
            self.follow(view, info);
        }
        self.wake(Wake::Store);
    }

    /// Configuration, rules or labels changed.
    pub fn on_settings_changed(&mut self) {
        self.wake(Wake::Settings);
    }

    /// A region was reported with a change. Costs a few look-ups when nothing waits for it.
    pub fn on_region_changed(&mut self, region: &Region) {
        let id = region.id();
        let waits = |q: &Queue| q.is_asleep(id);
        let lost = |q: &Queue| waits(q) || !region.down.is_empty() && !q.knows(id);
        let listed = region.peers().iter().filter_map(|p| self.stores.get(&p.store)).any(lost);
        if listed || waits(&self.missing) || waits(&self.misplaced) || region.meta.in_joint_state() {
            self.look_again(id);
        }
    }

    /// A region's operator ended, well or not.
    pub fn on_operator_ended(&mut self, region: RegionId) {
        self.look_again(region);
    }

    /// One tick: events first, then the lists as far as the limits allow, then a part of the walk.
    pub fn tick(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        if view.settings.schedule.halt_scheduling {
            return;
        }
        self.follow_stores(view);
        self.look_at_events(view, controller, out);
        self.work(view, controller, out);
        self.walk(view, controller, out);
    }

    /// What holds the regions of a draining or lost store: how many are in line and for what, how many sleep and why.
    pub fn blocked(&self, store: StoreId) -> Option<Blocked> {
        self.stores.get(&store).map(Queue::blocked)
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

    fn wake(&mut self, event: Wake) {
        self.queues().for_each(|queue| queue.wake(event));
    }

    fn look_again(&mut self, region: RegionId) {
        if self.recheck.len() < MAX_RECHECKS && self.recheck_known.insert(region) {
            self.recheck.push_back(region);
        }
    }

    fn follow_stores(&mut self, view: &ClusterView<'_>) {
        self.stores.retain(|id, _| view.stores.get(id).is_some_and(|s| class_of(view, s).is_some()));
        if self.stores.is_empty() {
            self.spread.clear();
        }
        for store in view.stores.values() {
            self.follow(view, store);
        }
        self.missing.wake_sleepers(view.now.mono);
        self.misplaced.wake_sleepers(view.now.mono);
    }

    /// Lists the regions of a store that drains or is lost, if they are not listed yet or the list has run out.
    fn follow(&mut self, view: &ClusterView<'_>, store: &StoreInfo) {
        let Some(class) = class_of(view, store) else { return };
        let now = view.now.mono;
        let queue = self.stores.entry(store.id()).or_insert_with(|| Queue::new(class));
        let every = if class == Class::Down { REFILL_DOWN } else { REFILL_OFFLINE };
        let is_due = queue.filled.is_none_or(|at| queue.len() == 0 && now.since(at) >= every);
        // A store that is Offline and falls silent too: its regions may now be repaired for another cause.
        if queue.class != class || is_due {
            queue.class = class;
            queue.filled = Some(now);
            let mut regions = view.regions.of_store(store.id(), Held::Any, MAX_LISTED);
            regions.sort_unstable();
            queue.fill(regions);
        }
        queue.wake_sleepers(now);
    }

    fn look_at_events(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        for _ in 0..MAX_CHECKS {
            let Some(id) = self.recheck.pop_front() else { return };
            self.recheck_known.remove(&id);
            match view.regions.get(id) {
                Some(region) => self.sort_in(view, controller, &region, true, out),
                None => self.queues().for_each(|q| q.forget(id)),
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
            let Some(region) = self.queue(at).and_then(Queue::pop) else { continue };
            match self.attempt(view, controller, at, region, out) {
                Tried::Admitted => {
                    let Some(queue) = self.queue(at) else { return };
                    queue.held_in_row = 0;
                    let class = queue.class;
                    self.turns.served(class);
                    if let At::Store(store) = at {
                        self.served = store;
                    }
                }
                Tried::Dropped => {}
                Tried::Held(reason) => {
                    let until = next_chance(view, controller, at);
                    let Some(queue) = self.queue(at) else { return };
                    queue.held_in_row += 1;
                    if queue.held_in_row >= MAX_HELD.min(queue.len()) {
                        queue.hold(reason, until);
                    }
                }
                Tried::Full => return,
            }
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
        let Some(region) = view.regions.get(id) else { return Tried::Dropped };
        let reason = match check_with(view, controller, &self.spread, &region) {
            Outcome::Healthy => return Tried::Dropped,
            Outcome::Propose(operators) => match self.admit(view, controller, &region, operators, out) {
                Ok(()) => return Tried::Admitted,
                Err(reason) => reason,
            },
            Outcome::Blocked(reason) => reason,
        };
        Self::tell_blocked(view, &region, &reason, out);
        let Some(queue) = self.queue(at) else { return Tried::Dropped };
        match reason {
            Reason::ScheduleLimit(_) | Reason::NoId | Reason::Halted | Reason::NotPrepared => {
                queue.enqueue(id, true);
                Tried::Full
            }
            Reason::StoreLimit { .. } | Reason::TargetBusy { .. } => {
                queue.enqueue(id, false);
                Tried::Held(reason)
            }
            reason => {
                queue.sleep(id, reason);
                Tried::Dropped
            }
        }
    }

    fn admit(
        &mut self,
        view: &ClusterView<'_>,
        controller: &mut Controller,
        region: &Region,
        operators: Vec<Operator>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reason> {
        let mut spread = self.spread.clone();
        operators.iter().for_each(|operator| spread.admitted(region, operator));
        controller.add(view, operators, out)?;
        self.spread = spread;
        Ok(())
    }

    /// Walks over the next part of the key space.
    fn walk(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        let now = view.now.mono;
        let began = *self.round_began.get_or_insert(now);
        let limit = (view.regions.len() / TICKS_A_ROUND).clamp(MIN_BATCH, MAX_BATCH);
        let batch = view.regions.scan(&KeyRange { start: self.cursor.clone(), end: Key::empty() }, limit);
        for region in &batch {
            if !checker::is_plainly_healthy(view, region) {
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
        match checker::look(view, controller, &self.spread, region) {
            Outcome::Healthy => self.forget(region),
            Outcome::Propose(operators) => {
                if let Err(reason) = self.admit(view, controller, region, operators, out)
                    && let Some(queue) = self.queue(at)
                {
                    queue.sleep(id, reason);
                }
            }
            Outcome::Blocked(reason) => {
                // (The limit that stops a look is none.)
                if !matches!(reason, Reason::ScheduleLimit(_)) {
                    Self::tell_blocked(view, region, &reason, out);
                }
                if let Some(queue) = self.queue(at) {
                    match reason {
                        Reason::ScheduleLimit(_) => queue.enqueue(id, first),
                        reason => queue.sleep(id, reason),
                    }
                }
            }
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

    fn forget(&mut self, region: &Region) {
        for peer in region.peers() {
            if let Some(queue) = self.stores.get_mut(&peer.store) {
                queue.forget(region.id());
            }
        }
        self.missing.forget(region.id());
        self.misplaced.forget(region.id());
    }
}

/// Whether a region has fewer peers than its rules ask for.
fn lacks_peers(view: &ClusterView<'_>, region: &Region) -> bool {
    let wanted: u64 = view.settings.rules.for_region(region).iter().map(|r| u64::from(r.count)).sum();
    (region.peers().len() as u64) < wanted
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

/// When a list that is held may try again: when the next token is due, but soon if some stores have tokens already.
fn next_chance(view: &ClusterView<'_>, controller: &Controller, at: At) -> Mono {
    let now = view.now;
    if let At::Store(store) = at
        && let Some(due) = controller.next_token(store, LimitKind::RemovePeer, now)
    {
        return due;
    }
    let soon = now.mono.plus(RETRY_BUSY);
    let mut due: Option<Mono> = None;
    for store in targets(view) {
        let next = controller.next_token(store, LimitKind::AddPeer, now).unwrap_or(soon);
        due = Some(due.map_or(next, |d| d.min(next)));
    }
    due.unwrap_or(soon)
}
