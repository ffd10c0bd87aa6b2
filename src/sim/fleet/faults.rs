//! What goes wrong by itself: leader changes, splits by load, stores that stop and come back.
//!
//! Owns: when faults happen and to whom, drawn from the seed. Must not know the server.

use std::time::Duration;

use rand::Rng;

use super::{Fleet, nodes::Liveness, timers::Event};
use crate::{
    model::{Now, Peer},
    sim::command::{Rejection, SplitAt},
};

/// Tries to find a region that a fault fits; some places are empty and some regions busy.
const MAX_TRIES: usize = 16;
/// Shortest and longest outage of a store that stops at random.
const OUTAGE_SECONDS: std::ops::Range<u64> = 5..30;

impl Fleet {
    /// Plans the first fault of each sort.
    pub(super) fn plan_faults(&mut self, now: Now) {
        self.plan_growth(now.mono);
        for stop in self.faults.stop_store.clone() {
            let event = Event::Stop { store: stop.ordinal as usize - 1, lasts: stop.lasts };
            self.timers.push(now.mono.plus(stop.after), event);
        }
        self.plan_next(Event::LeaderChange, self.faults.leader_changes, now);
        self.plan_next(Event::SplitByLoad, self.faults.splits, now);
        self.plan_next(Event::RandomStop, self.faults.store_stops, now);
    }

    /// Plans the next fault of this sort: `rate` a minute, each gap give or take a half.
    fn plan_next(&mut self, event: Event, rate: f64, now: Now) {
        if rate > 0.0 {
            let seconds = 60.0 / rate * self.rng.random_range(0.5..1.5);
            let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            self.timers.push(now.mono.plus(wait), event);
        }
    }

    /// Some region changes its leader.
    pub(super) fn fault_leader_change(&mut self, now: Now) {
        self.plan_next(Event::LeaderChange, self.faults.leader_changes, now);
        for _ in 0..MAX_TRIES {
            let slot = self.rng.random_range(0..self.regions.places().max(1));
            let Some(region) = self.regions.get(slot).map(|s| &s.region) else { continue };
            let able =
                |p: &&Peer| region.may_lead(p.id) && Some(p.id) != region.leader && self.holds(&region.waiting, p);
            let others: Vec<_> = region.peers.iter().filter(able).map(|p| p.id).collect();
            if region.leader.is_none() || others.is_empty() {
                continue;
            }
            let next = others[self.rng.random_range(0..others.len())];
            self.counters.elections += 1;
            return self.set_leader(slot, Some(next));
        }
    }

    /// Some region is split by load.
    pub(super) fn fault_split(&mut self, now: Now) {
        self.plan_next(Event::SplitByLoad, self.faults.splits, now);
        for _ in 0..MAX_TRIES {
            let slot = self.rng.random_range(0..self.regions.places().max(1));
            let Some(id) = self.regions.get(slot).map(|s| s.region.id) else { continue };
            if !self.busy.contains_key(&id) {
                if self.begin_split(slot, &SplitAt::Middle, now).is_err() {
                    self.bump_rejected(Rejection::BadSplitKey);
                }
                return;
            }
        }
    }

    /// Some store stops for a while, unless another one is down.
    pub(super) fn fault_stop(&mut self, now: Now) {
        self.plan_next(Event::RandomStop, self.faults.store_stops, now);
        let up: Vec<usize> = (0..self.stores.len()).filter(|at| self.stores[*at].live == Liveness::Up).collect();
        let any_down = self.stores.iter().any(|s| matches!(s.live, Liveness::Stopped { .. }));
        if any_down || up.len() < 2 {
            return;
        }
        let at = up[self.rng.random_range(0..up.len())];
        let lasts = Duration::from_secs(self.rng.random_range(OUTAGE_SECONDS));
        self.stop_store(at, Some(lasts), now);
    }
}
