//! Whether enough is known to schedule.
//!
//! After a start regions are known from disk at best, and what is not known looks like missing or like room. Owns: the test and
//! its being final. Must not know: who schedules.

use std::time::Duration;

use super::{
    effect::{Effect, Event},
    view::ClusterView,
};
use crate::model::{Mono, StoreId, StoreState};

/// The share of regions to be heard, in all and of each live store's own count (PD's number).
const ENOUGH: f64 = 0.9;
/// After this time what is known has to do.
const AT_THE_LATEST: Duration = Duration::from_secs(300);
/// How often the counts are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How much of a store's regions was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreHeard {
    /// Which.
    pub store: StoreId,
    /// Regions with a peer there that were heard.
    pub heard: u64,
    /// Regions that the store says it has.
    pub reports: u64,
    /// Whether that is enough.
    pub is_enough: bool,
}

/// What is known, and what is still waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// Nothing any more.
    pub done: bool,
    /// Regions heard.
    pub heard: u64,
    /// Regions known.
    pub total: u64,
    /// Whether that is enough.
    pub is_enough: bool,
    /// Time until what is known has to do.
    pub left: Duration,
    /// All stores but Tombstones.
    pub stores: Vec<StoreHeard>,
}

impl Readiness {
    /// Stores of which too little was heard.
    pub fn missing(&self) -> impl Iterator<Item = &StoreHeard> {
        self.stores.iter().filter(|store| !store.is_enough)
    }
}

/// Turns true once and stays so until the next leader's start.
#[derive(Debug, Default)]
pub struct Prepare {
    done: bool,
    looked: Option<Mono>,
}

impl Prepare {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the counts, at most each second, and tells when they are good. Returns whether scheduling may act.
    ///
    /// Good means: of all known regions 90 % were heard from their leader, and of each live store at least 90 % of the regions that
    /// the store itself says it has. A cluster without a region is not good before the time-out: nothing could be done in it.
    pub fn check(&mut self, view: &ClusterView<'_>, out: &mut Vec<Effect>) -> bool {
        let now = view.now.mono;
        if self.done || self.looked.is_some_and(|at| now.since(at) < EVERY) {
            return self.done;
        }
        self.looked = Some(now);
        let Readiness { heard, total, is_enough, left, stores, .. } = self.readiness(view);
        let timed_out = left.is_zero();
        if timed_out || (is_enough && stores.iter().all(|store| store.is_enough)) {
            self.done = true;
            out.push(Effect::Tell(Event::Prepared { heard, total, timed_out }));
        }
        self.done
    }

    /// What is known, and what is still waited for.
    pub fn readiness(&self, view: &ClusterView<'_>) -> Readiness {
        let (heard, total) = (view.regions.heard_count(), view.regions.len() as u64);
        Readiness {
            done: self.done,
            heard,
            total,
            is_enough: is_most(heard, total),
            left: AT_THE_LATEST.saturating_sub(view.now.mono.since(view.leader_since)),
            stores: stores(view).collect(),
        }
    }
}

fn is_most(heard: u64, of: u64) -> bool {
    heard > 0 && heard as f64 >= of as f64 * ENOUGH
}

/// What was heard of each store.
fn stores(view: &ClusterView<'_>) -> impl Iterator<Item = StoreHeard> {
    let live = view.stores.values().filter(|s| s.record.state != StoreState::Tombstone);
    live.map(|s| {
        let (heard, reports) = (view.regions.heard_on(s.id()), u64::from(s.stats.region_count));
        StoreHeard { store: s.id(), heard, reports, is_enough: reports == 0 || is_most(heard, reports) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{StoreId, StoreStats},
        scheduler::testing::World,
    };

    fn check(world: &mut World, prepare: &mut Prepare) -> bool {
        world.now = world.now.plus(EVERY);
        let mut answer = false;
        world.with_view(|view, _, _, out| answer = prepare.check(view, out));
        answer
    }

    fn store_says(world: &World, id: u64, region_count: u32) {
        world.hear_store(StoreId(id), StoreStats { region_count, ..StoreStats::default() });
    }

    #[test]
    fn nine_tenths_of_all_and_of_each_store_must_be_heard() {
        let (mut world, mut prepare) = (World::new(4), Prepare::new());
        // This leader has just started: the clock of the time-out is far away.
        world.now = crate::model::Now::default();
        assert!(!check(&mut world, &mut prepare), "no region is no knowledge");
        for at in 1..=20 {
            world.regions.apply(World::region(at, &[1, 2, 3])).unwrap();
        }
        for at in 1..=17 {
            world.report(World::region(at, &[1, 2, 3]));
        }
        assert!(!check(&mut world, &mut prepare), "17 of 20");
        world.report(World::region(18, &[1, 2, 3]));
        store_says(&world, 4, 1);
        assert!(!check(&mut world, &mut prepare), "store 4 says it has a region that nobody reported");
        world.report(World::region(21, &[4, 2, 3]));
        assert!(check(&mut world, &mut prepare));
        store_says(&world, 1, 1000);
        assert!(check(&mut world, &mut prepare), "it is final");
    }

    #[test]
    fn five_minutes_are_enough() {
        let (mut world, mut prepare) = (World::new(1), Prepare::new());
        world.now = crate::model::Now::default().plus(AT_THE_LATEST).plus(Duration::from_secs(0));
        let mut told = Vec::new();
        told.extend(world.with_view(|view, _, _, out| {
            assert!(prepare.check(view, out));
        }));
        assert!(matches!(told[..], [Effect::Tell(Event::Prepared { timed_out: true, .. })]));
    }
}
