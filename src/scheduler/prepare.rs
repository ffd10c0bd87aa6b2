//! Whether enough is known to schedule.
//!
//! After a start regions are known from disk at best, and what is not known looks like missing or like room. Owns: the test and
//! its being final. Must not know: who schedules.

use std::time::Duration;

use super::{
    effect::{Effect, Event},
    view::ClusterView,
};
use crate::model::{Mono, StoreState};

/// The share of regions to be heard, in all and of each live store's own count (PD's number).
const ENOUGH: f64 = 0.9;
/// After this time what is known has to do.
const AT_THE_LATEST: Duration = Duration::from_secs(300);
/// How often the counts are looked at.
const EVERY: Duration = Duration::from_secs(1);

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
        let (heard, total) = (view.regions.heard_count(), view.regions.len() as u64);
        let timed_out = now.since(view.leader_since) >= AT_THE_LATEST;
        if timed_out || (is_most(heard, total) && stores_are_heard(view)) {
            self.done = true;
            out.push(Effect::Tell(Event::Prepared { heard, total, timed_out }));
        }
        self.done
    }
}

fn is_most(heard: u64, of: u64) -> bool {
    heard > 0 && heard as f64 >= of as f64 * ENOUGH
}

fn stores_are_heard(view: &ClusterView<'_>) -> bool {
    let live = view.stores.values().filter(|s| s.record.state != StoreState::Tombstone);
    live.filter(|s| s.stats.region_count > 0)
        .all(|s| is_most(view.regions.heard_on(s.id()), u64::from(s.stats.region_count)))
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
        world.stores.heartbeat(StoreId(id), StoreStats { region_count, ..StoreStats::default() }, world.now);
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
