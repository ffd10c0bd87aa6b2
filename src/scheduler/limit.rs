//! Store limits v1: how many peers may come to or leave a store a minute.
//!
//! Owns: one clock a store and kind, and the atomic taking for all stores of an operator. Must not know: operators, the
//! configuration, who asks.
//!
//! The limit is a rate, not a purse: an operator of cost [`FULL_COST`] keeps the store's clock busy for `60 s / rate`, and the
//! next one is admitted when that is over. Nothing is saved up while a store is idle, so that a minute, wherever it begins,
//! never sees more full-size operators than the limit, and they come evenly. Cheaper operators take a part of that time. The
//! exception are rates whose interval is shorter than [`SHORT_INTERVAL`]: there up to [`CATCH_UP`] of lost time is made good,
//! so that a tick that comes late does not lower the rate, and the interval is longer by just as much as keeps the promise.
//!
//! Stores of equal rates would all be free at the same instant when work comes after a pause, and stay in step for as long as it
//! lasts: nine targets would take nine peers every four seconds. So stores that nobody has asked for a while start one after
//! another, a part of an interval apart ([`Pace`]), and from then on each goes on at its own interval: the minute holds as many,
//! evenly.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use super::{operator::step::FULL_COST, outcome::LimitKind};
use crate::model::{Mono, StoreId, StoreLimits, store::UNLIMITED};

/// The minute that limits speak about.
const MINUTE: Duration = Duration::from_secs(60);
/// Intervals shorter than this make lost time good.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// A store taken within this time of becoming free was waited for: five ticks of the patrol.
const SLACK: Duration = Duration::from_millis(50);
/// How much time is made good at most: ten ticks of the patrol.
const CATCH_UP: Duration = Duration::from_millis(100);
/// The limit of a store that nobody has set one for: PD's `default-store-limit`.
const DEFAULT_LIMIT: StoreLimits = StoreLimits { add_peer: 15.0, remove_peer: 15.0 };

/// One store's limit of one kind.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Bucket {
    /// Operators a minute; not finite or not positive: none at all.
    rate: f64,
    /// Until when the operators admitted so far keep it busy.
    busy_until: Mono,
    /// Whether `busy_until` is the end of an operator's time, and not of a wait that other stores share.
    started: bool,
}

/// The starts of stores of one kind of limit, after a pause of theirs.
#[derive(Clone, Copy, Default, Debug)]
struct Pace {
    /// How many stores have an interval worth spreading.
    stores: u32,
    /// The last start, and the interval of the store that started.
    last: Option<(Mono, Duration)>,
}

impl Pace {
    /// The distance between starts that has all stores of this interval started within one.
    fn part(&self, turn: Duration) -> Duration {
        turn / self.stores.max(1)
    }

    /// When a store with this interval may start. The shorter of the two intervals counts: a slow store holds nobody up for
    /// long, nor is it held up for ever by quick ones.
    fn opens(&self, turn: Duration) -> Mono {
        self.last.map_or(Mono(0), |(at, other)| at.plus(self.part(turn.min(other))))
    }
}

impl Bucket {
    fn is_unlimited(&self) -> bool {
        self.rate >= UNLIMITED
    }

    fn is_closed(&self) -> bool {
        self.rate.is_nan() || self.rate <= 0.0
    }

    /// How long an operator of `cost` keeps it busy. `None`: for ever.
    fn interval(&self, cost: u64) -> Option<Duration> {
        if self.is_closed() {
            return None;
        }
        let stretch = 1.0 + self.catch_up().as_secs_f64() / MINUTE.as_secs_f64();
        let nanos = MINUTE.as_nanos() as f64 / self.rate * stretch * cost as f64 / FULL_COST as f64;
        // Rounded up, never down: 15 intervals must not fit into less than a minute.
        (nanos < u64::MAX as f64 / 4.0).then(|| Duration::from_nanos(nanos.ceil() as u64))
    }

    fn catch_up(&self) -> Duration {
        let short = MINUTE.as_secs_f64() / self.rate < SHORT_INTERVAL.as_secs_f64();
        if short { CATCH_UP } else { Duration::ZERO }
    }

    /// When the next operator may come; `None`: never.
    fn free_at(&self) -> Option<Mono> {
        if self.is_unlimited() {
            return Some(Mono(0));
        }
        (!self.is_closed() && self.busy_until.0 != u64::MAX).then_some(self.busy_until)
    }

    fn is_free(&self, now: Mono) -> bool {
        self.free_at().is_some_and(|at| at <= now)
    }

    /// For a rate with an interval worth spreading: that interval.
    fn turn(&self) -> Option<Duration> {
        self.interval(FULL_COST).filter(|one| !self.is_unlimited() && *one >= SHORT_INTERVAL)
    }

    /// Whether it was not asked for when it became free: it starts anew, and stores start one after another.
    fn is_paused(&self, pace: Pace, now: Mono) -> bool {
        let paused = |turn| !self.started || now.since(self.busy_until) > pace.part(turn).max(SLACK);
        self.is_free(now) && self.turn().is_some_and(paused)
    }

    /// When the next operator may come, by its own interval and by its turn among the stores; `None`: never.
    fn opens_at(&self, pace: Pace, now: Mono) -> Option<Mono> {
        match self.turn() {
            Some(turn) if self.is_paused(pace, now) => Some(pace.opens(turn)),
            Some(_) | None => self.free_at(),
        }
    }

    fn take(&mut self, cost: u64, now: Mono) {
        if self.is_unlimited() {
            return;
        }
        self.started = true;
        let from = Mono(self.busy_until.0.max(now.0.saturating_sub(self.catch_up().as_nanos() as u64)));
        self.busy_until = self.interval(cost).map_or(Mono(u64::MAX), |d| from.plus(d));
    }

    /// Another rate: what is owed stays owed, in operators.
    fn set_rate(&mut self, rate: f64, now: Mono) {
        if rate.to_bits() == self.rate.to_bits() {
            return;
        }
        let owed = match self.interval(FULL_COST) {
            Some(one) if !one.is_zero() && !self.is_unlimited() => {
                (self.busy_until.since(now).as_secs_f64() / one.as_secs_f64()).min(1.0)
            }
            Some(_) | None => 0.0,
        };
        self.rate = rate;
        self.started &= owed > 0.0;
        let wait = self.interval((owed * FULL_COST as f64).ceil() as u64).unwrap_or(Duration::ZERO);
        self.busy_until = now.plus(wait);
    }
}

/// What one operator costs: store and kind to cost.
pub type Costs = BTreeMap<(StoreId, LimitKind), u64>;

/// The limits of all stores.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    started: Mono,
    buckets: BTreeMap<(StoreId, LimitKind), Bucket>,
    paces: BTreeMap<LimitKind, Pace>,
}

impl Limits {
    /// No store is known. Each store's first operator waits for one interval from `started`: a new leader does not know what
    /// the one before it admitted in the last minute.
    pub fn new(started: Mono) -> Self {
        Self { started, ..Self::default() }
    }

    /// The same limits with empty buckets, as if no store had ever had an operator.
    #[must_use]
    pub fn restarted(self, started: Mono) -> Self {
        let mut fresh = Self::new(started);
        fresh.buckets = self.buckets.into_iter().map(|(of, bucket)| (of, Self::fresh(bucket.rate, started))).collect();
        fresh.count_paced();
        fresh
    }

    /// Puts a store's limits in force. What was admitted before stays counted.
    pub fn set(&mut self, store: StoreId, limits: StoreLimits, now: Mono) {
        for (kind, rate) in [(LimitKind::AddPeer, limits.add_peer), (LimitKind::RemovePeer, limits.remove_peer)] {
            match self.buckets.entry((store, kind)) {
                Entry::Occupied(mut bucket) => bucket.get_mut().set_rate(rate, now),
                Entry::Vacant(place) => {
                    place.insert(Self::fresh(rate, self.started));
                }
            }
        }
        self.count_paced();
    }

    /// Forgets a store.
    pub fn remove(&mut self, store: StoreId) {
        self.buckets.retain(|(s, _), _| *s != store);
        self.count_paced();
    }

    fn count_paced(&mut self) {
        self.paces.values_mut().for_each(|pace| pace.stores = 0);
        for ((_, kind), _) in self.buckets.iter().filter(|(_, bucket)| bucket.turn().is_some()) {
            self.paces.entry(*kind).or_default().stores += 1;
        }
    }

    fn pace(&self, kind: LimitKind) -> Pace {
        self.paces.get(&kind).copied().unwrap_or_default()
    }

    fn fresh(rate: f64, started: Mono) -> Bucket {
        let bucket = Bucket { rate, busy_until: started, started: false };
        Bucket { busy_until: bucket.interval(FULL_COST).map_or(Mono(u64::MAX), |first| started.plus(first)), ..bucket }
    }

    fn bucket(&self, store: StoreId, kind: LimitKind) -> Bucket {
        self.buckets.get(&(store, kind)).copied().unwrap_or_else(|| {
            let rate = if kind == LimitKind::RemovePeer { DEFAULT_LIMIT.remove_peer } else { DEFAULT_LIMIT.add_peer };
            Self::fresh(rate, self.started)
        })
    }

    /// Whether a store admits an operator now. Snapshots in flight are no matter of version 1.
    pub fn is_free(&self, store: StoreId, kind: LimitKind, now: Mono) -> bool {
        self.next(store, kind, now).is_none()
    }

    /// When a store admits the next operator; `None` when it does now, `Mono(u64::MAX)` when it never does.
    pub fn next(&self, store: StoreId, kind: LimitKind, now: Mono) -> Option<Mono> {
        if kind == LimitKind::SendSnapshot {
            return None;
        }
        let at = self.bucket(store, kind).opens_at(self.pace(kind), now).unwrap_or(Mono(u64::MAX));
        (at > now).then_some(at)
    }

    /// The first of `costs` that a store does not admit now. What costs nothing is always admitted.
    pub fn first_exceeded(&self, costs: &Costs, now: Mono) -> Option<(StoreId, LimitKind)> {
        let mut priced = costs.iter().filter(|(_, cost)| **cost > 0);
        priced.find(|((store, kind), _)| !self.is_free(*store, *kind, now)).map(|(key, _)| *key)
    }

    /// Takes all of `costs`, or nothing.
    ///
    /// # Errors
    /// The first store and kind that admits nothing now.
    pub fn take(&mut self, costs: &Costs, now: Mono) -> Result<(), (StoreId, LimitKind)> {
        if let Some(exceeded) = self.first_exceeded(costs, now) {
            return Err(exceeded);
        }
        let mut starts = Vec::new();
        for ((store, kind), cost) in costs.iter().filter(|(_, cost)| **cost > 0) {
            if *kind == LimitKind::SendSnapshot {
                continue;
            }
            let bucket = self.bucket(*store, *kind);
            if let Some(turn) = bucket.turn()
                && bucket.is_paused(self.pace(*kind), now)
            {
                starts.push((*kind, (now, turn)));
            }
            self.buckets.entry((*store, *kind)).or_insert(bucket).take(*cost, now);
        }
        // Last: what one operator takes together starts together.
        for (kind, start) in starts {
            self.paces.entry(kind).or_default().last = Some(start);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
