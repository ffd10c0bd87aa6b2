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
//! Stores of equal rates would all be free at the same instant when work comes after a quiet time, and stay in step for as long
//! as it lasts: nine targets would take nine peers every four seconds. So the first that is taken after a quiet time sets the
//! others back, each by another part of its own interval ([`Limits::spread`]): the minute holds as many, one after another.

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
    /// Whether it has a place of its own among the stores' turns: it was taken or set back since its last quiet time.
    in_turn: bool,
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

    /// Whether it is free and has let a whole turn go by unused since it had a place of its own.
    fn is_quiet(&self, now: Mono) -> bool {
        self.is_free(now) && (!self.in_turn || self.turn().is_some_and(|turn| now.since(self.busy_until) >= turn))
    }

    fn take(&mut self, cost: u64, now: Mono) {
        if self.is_unlimited() {
            return;
        }
        self.in_turn = true;
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
}

impl Limits {
    /// No store is known. Each store's first operator waits for one interval from `started`: a new leader does not know what
    /// the one before it admitted in the last minute.
    pub fn new(started: Mono) -> Self {
        Self { started, buckets: BTreeMap::new() }
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
    }

    /// Forgets a store.
    pub fn remove(&mut self, store: StoreId) {
        self.buckets.retain(|(s, _), _| *s != store);
    }

    fn fresh(rate: f64, started: Mono) -> Bucket {
        let bucket = Bucket { rate, busy_until: started, in_turn: false };
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
        kind == LimitKind::SendSnapshot || self.bucket(store, kind).is_free(now)
    }

    /// When a store admits the next operator; `None` when it does now, `Mono(u64::MAX)` when it never does.
    pub fn next(&self, store: StoreId, kind: LimitKind, now: Mono) -> Option<Mono> {
        if self.is_free(store, kind, now) {
            return None;
        }
        Some(self.bucket(store, kind).free_at().unwrap_or(Mono(u64::MAX)))
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
        for ((store, kind), cost) in costs.iter().filter(|(_, cost)| **cost > 0) {
            if *kind == LimitKind::SendSnapshot {
                continue;
            }
            let bucket = self.bucket(*store, *kind);
            if bucket.turn().is_some() && bucket.is_quiet(now) {
                self.spread(*store, *kind, costs, now);
            }
            self.buckets.entry((*store, *kind)).or_insert(bucket).take(*cost, now);
        }
        Ok(())
    }

    /// Work has come for `store` after a quiet time: sets the other quiet stores back, the next one by a share of its interval,
    /// the one after it by two, so that their turns come one after another. What `taken` takes at the same instant stays. Each
    /// waits for less than an interval, and an interval later any of them that is still unused is quiet again: two stores that
    /// one operator needs together are free together in between.
    fn spread(&mut self, store: StoreId, kind: LimitKind, taken: &Costs, now: Mono) {
        let is_other = |id: StoreId, bucket: &Bucket| {
            bucket.turn().is_some() && bucket.is_quiet(now) && taken.get(&(id, kind)).is_none_or(|cost| *cost == 0)
        };
        let of_kind = self.buckets.iter().filter(|((id, k), bucket)| *k == kind && is_other(*id, bucket));
        let mut others: Vec<StoreId> = of_kind.map(|((id, _), _)| *id).collect();
        let first_after = others.partition_point(|id| *id <= store);
        others.rotate_left(first_after);
        let turns = others.len() as u32 + 1;
        for (place, id) in (1..).zip(others) {
            if let Some(bucket) = self.buckets.get_mut(&(id, kind))
                && let Some(turn) = bucket.turn()
            {
                *bucket = Bucket { busy_until: now.plus(turn * place / turns), in_turn: true, ..*bucket };
            }
        }
    }
}

#[cfg(test)]
mod tests;
