//! The power of one member goes at each operation of its disk, one world for each: nothing is left to chance but what becomes of what
//! was not synced.

use super::{
    plan::{MS, Plan, SECOND},
    world::{Counts, World},
};
use crate::meta::{bugs::Bug, disk::faults::Unsynced};

/// When the group stands and the power may go.
const FROM: u64 = 3 * SECOND;
/// Until when it goes at the latest.
const TO: u64 = 6 * SECOND;

/// One operation: which write of the member, counted from its start, and which operation of it.
type Place = (u64, usize);

fn plan(bug: Option<Bug>) -> Plan {
    let mut plan = Plan { bug, request_gap: 40 * MS, fault_gap: 1000 * SECOND, ..Plan::only(11, &[]) };
    (plan.timings.compact_every, plan.timings.compact_keep) = (8, 4);
    plan
}

impl World {
    /// Where the present write of the member began on its disk, and how many operations it has.
    fn write_under_way(&self, victim: usize) -> Option<(usize, usize)> {
        let machine = &self.machines[victim];
        let begun = machine.run.as_ref()?.job.as_ref()?.begun;
        Some((begun, machine.disk.moment().saturating_sub(begun)))
    }

    /// All operations of all writes within the time.
    fn places(mut self, victim: usize) -> Result<Vec<Place>, String> {
        let (mut places, mut seen) = (vec![], 0);
        while self.now < TO {
            self.happen()?;
            let jobs = self.machines[victim].jobs;
            if jobs > seen && self.now > FROM {
                let count = self.write_under_way(victim).map_or(0, |(_, count)| count);
                places.extend((0..=count).map(|at| (jobs, at)));
            }
            seen = jobs;
        }
        Ok(places)
    }

    fn power_goes_at(mut self, victim: usize, (job, at): Place, unsynced: Unsynced) -> Result<Counts, String> {
        while self.machines[victim].jobs < job {
            self.happen()?;
        }
        let (begun, _) = self.write_under_way(victim).ok_or("the write is not under way")?;
        self.machines[victim].run = None;
        self.replace_disk(victim, begun + at, unsynced, false);
        self.run_until(self.now + SECOND)?;
        self.settle()?;
        Ok(self.counts)
    }
}

/// Runs a world for each operation of a member's disk.
fn run_all(victim: usize, bug: Option<Bug>) -> Result<(usize, Counts), String> {
    let places = World::new(plan(bug)).places(victim)?;
    let mut all = Counts::default();
    for (number, place) in places.iter().enumerate() {
        let unsynced = match number % 3 {
            0 => Unsynced::Lost,
            1 => Unsynced::Torn,
            _ => Unsynced::Mixed(number as u64),
        };
        let outcome = World::outcome_of(|| World::new(plan(bug)).power_goes_at(victim, *place, unsynced));
        all.add(&outcome.map_err(|e| format!("{place:?} {unsynced:?}: {e}"))?);
    }
    Ok((places.len(), all))
}

#[test]
#[allow(clippy::print_stdout)]
fn r1_r2_the_power_may_go_at_every_operation_of_a_disk() {
    // The last one leads: who loses it is followed by another one.
    for (victim, leaders) in [(0, 1), (2, 2)] {
        let (places, all) = run_all(victim, None).unwrap_or_else(|e| panic!("member {victim}: {e}"));
        println!("power cut at {places} operations of member {victim}: {all:?}");
        assert!(places > 100 && all.crashes as usize == places, "{places} {all:?}");
        assert!(all.leaders >= leaders * all.crashes && all.writes > 10 * all.crashes, "{all:?}");
    }
    let error = run_all(0, Some(Bug::IndexApart)).expect_err("a state apart from its index");
    assert!(error.contains("R2"), "{error}");
}
