//! Tokens, slots and filling stores over time: when the last move of a drain ends.
//!
//! Owns: the arithmetic. Must not know: regions, rules, who could take what (each move brings its possible stores along).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    time::Duration,
};

use super::{Binding, Load, Move, rate};
use crate::{
    model::{Mono, StoreId, store::UNLIMITED},
    scheduler::{
        controller::typical::Paces,
        operator::step::FULL_COST,
        outcome::{LimitKind, ScheduleLimit},
    },
};

/// See the module's comment.
pub(super) struct Model<'a> {
    pub(super) load: &'a Load,
    pub(super) now: Mono,
    /// How many regions one stands for.
    pub(super) weight: u32,
    pub(super) paces: Paces,
    /// The work lists look this often: stores whose tokens come in between are all free then.
    pub(super) tick: Duration,
}

/// Moves that are looked at for one that can start: the work lists pass over what has to wait for tokens.
const LOOKED_AT: usize = 32;

/// One store that takes moves.
#[derive(Clone, Copy)]
struct Taker {
    rate: f64,
    /// When it has its next token.
    due: Mono,
    /// When the last new peer given to it is full.
    full: Option<Mono>,
    given: u64,
}

/// What came of giving all moves away.
struct Given {
    ends: Mono,
    takers: BTreeMap<StoreId, Taker>,
}

/// What the model came to.
pub(super) struct Modelled {
    /// When the last region has left.
    pub(super) ends: Mono,
    /// When that would be without a limit on operators.
    unlimited_end: Mono,
    /// When that would be if only tokens counted.
    tokens_end: Mono,
    /// When the last token of each store is spent.
    busy_until: BTreeMap<StoreId, Mono>,
    /// Regions by the store that takes them.
    pub(super) given: BTreeMap<StoreId, u64>,
    began: Mono,
    takes: Duration,
}

impl Model<'_> {
    /// `None` when some move has no store that ever gets a token.
    pub(super) fn run(&self, moves: &[Move], most: u64) -> Option<Modelled> {
        let all = moves.len().max(1);
        let slots = most.saturating_sub(self.load.running).max(1);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX).min(all);
        let limited = self.give(moves, slots, self.paces)?;
        let unlimited = self.give(moves, all, self.paces)?;
        let tokens = self.give(moves, all, Paces { between: Duration::ZERO, ..self.paces })?;
        let given = limited.takers.iter().filter(|(_, taker)| taker.given > 0);
        Some(Modelled {
            ends: limited.ends,
            unlimited_end: unlimited.ends,
            tokens_end: tokens.ends,
            given: given.map(|(store, taker)| (*store, taker.given)).collect(),
            busy_until: tokens.takers.iter().map(|(store, taker)| (*store, taker.due)).collect(),
            began: self.now,
            takes: self.paces.fill + self.paces.rest,
        })
    }

    fn takers(&self, moves: &[Move]) -> BTreeMap<StoreId, Taker> {
        let stores = moves.iter().flat_map(|one| one.targets.iter().copied());
        let taker = |store: StoreId| {
            let due = self.load.next_token.get(&store).copied().unwrap_or(self.now).max(self.now);
            Taker { rate: rate(self.load, store), due, full: None, given: 0 }
        };
        let stores: BTreeSet<StoreId> = stores.filter(|store| rate(self.load, *store) > 0.0).collect();
        stores.into_iter().map(|store| (store, taker(store))).collect()
    }

    /// Gives moves to stores as slots and tokens come; a store fills one new peer after another as far as it was seen to. One move
    /// that stands for many keeps its slot and its store for as long as all of them would.
    fn give(&self, moves: &[Move], slots: usize, paces: Paces) -> Option<Given> {
        let mut takers = self.takers(moves);
        let mut busy: BinaryHeap<Reverse<Mono>> = std::iter::repeat_n(Reverse(self.now), slots).collect();
        let mut ahead: VecDeque<&Move> = VecDeque::with_capacity(LOOKED_AT);
        let mut rest = moves.iter();
        let mut ends = self.now;
        loop {
            ahead.extend(rest.by_ref().take(LOOKED_AT - ahead.len()));
            let Some(Reverse(free)) = busy.pop().filter(|_| !ahead.is_empty()) else { break };
            let (place, store) = self.next(&ahead, &takers, free)?;
            let one = ahead.remove(place)?;
            let mut at = free;
            if let Some(taker) = store.and_then(|store| takers.get_mut(&store)) {
                let start = self.look(taker.due.max(free));
                taker.due = taker.due.max(free).plus(self.interval(taker.rate, one.cost));
                taker.given += u64::from(self.weight);
                let alone = start.plus(paces.fill * self.weight);
                let queued = taker.full.map_or(alone, |full| full.plus(paces.between * self.weight));
                at = alone.max(queued);
                taker.full = Some(at);
            }
            let end = at.plus(paces.rest * self.weight);
            busy.push(Reverse(end));
            ends = ends.max(end);
        }
        Some(Given { ends, takers })
    }

    /// The first look of the work lists from `at` on.
    fn look(&self, at: Mono) -> Mono {
        let tick = u64::try_from(self.tick.as_nanos()).unwrap_or(u64::MAX).max(1);
        let late = at.0.saturating_sub(self.now.0) % tick;
        if late == 0 { at } else { Mono(at.0.saturating_add(tick - late)) }
    }

    /// The move that starts next, and its store: the first that can start at `free`, else the one whose store is the first to have a
    /// token. Of the stores that are as early that which got the fewest, so that they share. `None`: some move can never start.
    fn next(
        &self,
        ahead: &VecDeque<&Move>,
        takers: &BTreeMap<StoreId, Taker>,
        free: Mono,
    ) -> Option<(usize, Option<StoreId>)> {
        let mut earliest: Option<(Mono, usize, StoreId)> = None;
        for (place, one) in ahead.iter().enumerate() {
            if one.targets.is_empty() {
                return Some((place, None));
            }
            let open = one.targets.iter().filter_map(|store| Some((*store, takers.get(store)?)));
            let (store, taker) = open.min_by_key(|(_, taker)| (self.look(taker.due.max(free)), taker.given))?;
            if taker.due <= free {
                return Some((place, Some(store)));
            }
            if earliest.is_none_or(|(due, ..)| taker.due < due) {
                earliest = Some((taker.due, place, store));
            }
        }
        earliest.map(|(_, place, store)| (place, Some(store)))
    }

    fn interval(&self, rate: f64, cost: u64) -> Duration {
        if rate >= UNLIMITED || cost == 0 {
            return Duration::ZERO;
        }
        let seconds = 60.0 / rate * f64::from(self.weight) * cost as f64 / FULL_COST as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Modelled {
    /// Which limit decides: slots when they end later than tokens and nodes, nodes when they end later than tokens, tokens when they
    /// end later than one move takes.
    pub(super) fn limit(&self, load: &Load, most: u64) -> Binding {
        if self.ends.since(self.unlimited_end) > self.takes {
            return Binding::ScheduleLimit { limit: ScheduleLimit::Replica, running: load.running, most };
        }
        let waits_for_nodes = self.unlimited_end.since(self.tokens_end) > self.takes;
        if waits_for_nodes || self.tokens_end.since(self.began) <= self.takes * 2 {
            return Binding::Nodes;
        }
        let last = self.busy_until.values().max().copied().unwrap_or(self.began);
        // Those whose tokens last as long as those of the last one, but for the last token.
        let span = last.since(self.began) / 10;
        let late = self.busy_until.iter().filter(|(_, until)| last.since(**until) <= span);
        let stores: BTreeSet<StoreId> = late.map(|(store, _)| *store).collect();
        Binding::StoreLimit { kind: LimitKind::AddPeer, stores }
    }
}
