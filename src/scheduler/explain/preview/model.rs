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
    model::{Mono, StoreId},
    scheduler::{
        controller::typical::Paces,
        limit::Limits,
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
    /// How full a store is when so much (MiB) was given to it.
    pub(super) score: &'a dyn Fn(StoreId, i64) -> f64,
}

/// Moves that are looked at for one that can start: the work lists pass over what has to wait for tokens.
const LOOKED_AT: usize = 32;

/// How often a store is asked anew for its next token: one that is free may have to wait for its turn among the stores.
const ASKED_AT_MOST: usize = 4;

/// One store that takes moves.
#[derive(Clone, Copy)]
struct Taker {
    store: StoreId,
    /// When the last new peer given to it is full.
    full: Option<Mono>,
    /// When its last token is spent.
    due: Mono,
    given: u64,
    /// What was given to it, MiB.
    given_mib: i64,
    /// How full it is with that: the emptiest takes next.
    score: f64,
}

/// A move with its stores by their places among the takers.
struct Wish {
    takers: Vec<usize>,
    cost: u64,
    size_mib: i64,
}

/// The stores while moves are given to them.
struct Takers<'a> {
    model: &'a Model<'a>,
    tokens: Limits,
    all: Vec<Taker>,
}

/// Which of the moves in line starts next, on which store and when; without a store: at once.
type Start = (usize, Option<(usize, Mono)>);

/// What came of giving all moves away.
struct Given {
    ends: Mono,
    takers: Vec<Taker>,
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
        let (takers, wishes) = self.wishes(moves);
        let give = |slots, paces| self.give(takers.clone(), &wishes, slots, paces);
        let limited = give(slots, self.paces)?;
        let unlimited = give(all, self.paces)?;
        let tokens = give(all, Paces { between: Duration::ZERO, ..self.paces })?;
        let given = limited.takers.iter().filter(|taker| taker.given > 0);
        Some(Modelled {
            ends: limited.ends,
            unlimited_end: unlimited.ends,
            tokens_end: tokens.ends,
            given: given.map(|taker| (taker.store, taker.given)).collect(),
            busy_until: tokens.takers.iter().map(|taker| (taker.store, taker.due)).collect(),
            began: self.now,
            takes: self.paces.fill + self.paces.rest,
        })
    }

    /// The stores that can take some move, and each move with those that can take it.
    fn wishes(&self, moves: &[Move]) -> (Vec<Taker>, Vec<Wish>) {
        let stores: BTreeSet<StoreId> = moves.iter().flat_map(|one| one.targets.iter().copied()).collect();
        let able = stores.into_iter().filter(|store| rate(self.load, *store) > 0.0);
        let taker =
            |store| Taker { store, full: None, due: self.now, given: 0, given_mib: 0, score: (self.score)(store, 0) };
        let takers: Vec<Taker> = able.map(taker).collect();
        let place = |store: &StoreId| takers.binary_search_by_key(store, |taker| taker.store).ok();
        let wish = |one: &Move| Wish {
            takers: one.targets.iter().filter_map(place).collect(),
            cost: one.cost,
            size_mib: one.size_mib,
        };
        let wishes = moves.iter().map(wish).collect();
        (takers, wishes)
    }

    /// Gives moves to stores as slots and tokens come; a store fills one new peer after another as far as it was seen to. One move
    /// that stands for many keeps its slot and its store for as long as all of them would.
    fn give(&self, takers: Vec<Taker>, wishes: &[Wish], slots: usize, paces: Paces) -> Option<Given> {
        let mut takers = Takers { model: self, tokens: self.load.tokens.clone(), all: takers };
        let mut busy: BinaryHeap<Reverse<Mono>> = std::iter::repeat_n(Reverse(self.now), slots).collect();
        let mut ahead: VecDeque<&Wish> = VecDeque::with_capacity(LOOKED_AT);
        let mut rest = wishes.iter();
        let mut ends = self.now;
        loop {
            ahead.extend(rest.by_ref().take(LOOKED_AT - ahead.len()));
            let Some(Reverse(free)) = busy.pop().filter(|_| !ahead.is_empty()) else { break };
            let (place, start) = takers.next(&ahead, free)?;
            let one = ahead.remove(place)?;
            let full = match start {
                Some((taker, at)) => takers.give(taker, at, one, paces)?,
                None => free,
            };
            let end = full.plus(paces.rest * self.weight);
            busy.push(Reverse(end));
            ends = ends.max(end);
        }
        Some(Given { ends, takers: takers.all })
    }

    /// The first look of the work lists from `at` on.
    fn look(&self, at: Mono) -> Mono {
        let tick = u64::try_from(self.tick.as_nanos()).unwrap_or(u64::MAX).max(1);
        let late = at.0.saturating_sub(self.now.0) % tick;
        if late == 0 { at } else { Mono(at.0.saturating_add(tick - late)) }
    }
}

impl Takers<'_> {
    /// When a store can take a move, from `at` on.
    fn opens(&self, store: StoreId, at: Mono) -> Mono {
        let mut opens = at;
        for _ in 0..ASKED_AT_MOST {
            match self.tokens.next(store, LimitKind::AddPeer, opens) {
                Some(next) => opens = self.model.look(next),
                None => break,
            }
        }
        opens
    }

    /// What starts next: the first move that can start at `free`, else the one whose store is the first to have a token. Of the
    /// stores that are as early the emptiest takes it. `None`: some move can never start.
    fn next(&self, ahead: &VecDeque<&Wish>, free: Mono) -> Option<Start> {
        let free = self.model.look(free);
        let opens: Vec<Mono> = self.all.iter().map(|taker| self.opens(taker.store, free)).collect();
        let mut earliest: Option<(Mono, usize, usize)> = None;
        for (place, one) in ahead.iter().enumerate() {
            if one.takers.is_empty() {
                return (one.cost == 0).then_some((place, None));
            }
            let opens = |taker: usize| if one.cost == 0 { Some(free) } else { opens.get(taker).copied() };
            let open = one.takers.iter().filter_map(|at| Some((opens(*at)?, *at, self.all.get(*at)?)));
            let (at, taker, _) = open.min_by(|a, b| {
                let by_score = a.2.score.total_cmp(&b.2.score);
                a.0.cmp(&b.0).then(by_score).then(a.2.given.cmp(&b.2.given))
            })?;
            if at <= free {
                return Some((place, Some((taker, free))));
            }
            if earliest.is_none_or(|(other, ..)| at < other) {
                earliest = Some((at, place, taker));
            }
        }
        earliest.map(|(at, place, taker)| (place, Some((taker, at))))
    }

    /// Gives a move to a store: when the new peer is full. `None`: it never has a token.
    fn give(&mut self, taker: usize, start: Mono, one: &Wish, paces: Paces) -> Option<Mono> {
        let weight = self.model.weight;
        let taker = self.all.get_mut(taker)?;
        let costs = BTreeMap::from([((taker.store, LimitKind::AddPeer), one.cost * u64::from(weight))]);
        self.tokens.take(&costs, start).ok()?;
        taker.due = self.tokens.next(taker.store, LimitKind::AddPeer, start).unwrap_or(start);
        taker.given += u64::from(weight);
        taker.given_mib = taker.given_mib.saturating_add(one.size_mib.saturating_mul(i64::from(weight)));
        taker.score = (self.model.score)(taker.store, taker.given_mib);
        let alone = start.plus(paces.fill * weight);
        let queued = taker.full.map_or(alone, |full| full.plus(paces.between * weight));
        let full = alone.max(queued);
        taker.full = Some(full);
        Some(full)
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
