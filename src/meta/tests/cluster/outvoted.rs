//! One member comes to hold another state than the others: it is found out, and neither serves nor leads any more.

use std::time::Duration;

use super::{
    plan::{Plan, SECOND},
    world::World,
};
use crate::meta::{Meta, bugs::Bug};

/// What members say about themselves in the end: outvoted, and how often they differed from others.
type Said = Vec<(bool, u64)>;

impl World {
    fn said(&self) -> Said {
        let of = |meta: &Meta| (meta.is_outvoted(), meta.group_counts().hashes_differ);
        self.machines.iter().filter_map(|m| m.run.as_ref()).map(|run| of(&run.meta)).collect()
    }

    /// Which machine leads first; it is the same when one of them has a fault that shows only once something is agreed.
    fn first_leader(plan: &Plan) -> Result<usize, String> {
        let mut world = World::new(plan.clone());
        while world.leader().is_none() {
            world.happen()?;
        }
        Ok(world.leader().unwrap_or_default())
    }

    /// What comes of it for 10 s; who leads in the end. `odd` must not serve from when it has been found out.
    fn watch(mut self, odd: usize) -> Result<(Said, Option<usize>), String> {
        self.run_until(self.now + 10 * SECOND)?;
        let found = self.said()[odd].0;
        let end = self.now + 10 * SECOND;
        while self.now < end {
            self.happen()?;
            let serves = self.machines[odd].run.as_ref().is_some_and(|r| r.meta.is_leader());
            if found && serves {
                return Err("it serves".into());
            }
        }
        Ok((self.said(), self.leader()))
    }
}

/// A cluster in which hashes are compared after `every` entries, the member that leads first, and the world with `odd` of them odd.
fn world(seed: u64, members: usize, every: u64, quiet: bool, odd_leads: bool) -> (World, usize) {
    // What is not the same is what is wanted here: the checks of every step are off.
    let mut plan = Plan { members, by_history: true, fault_gap: 1000 * SECOND, ..Plan::only(seed, &[]) };
    plan.timings.hash_every = every;
    plan.timings.hash_period = Duration::from_secs(2);
    if quiet {
        plan.request_gap = 1000 * SECOND;
    }
    let leader = World::first_leader(&plan).unwrap();
    let odd = if odd_leads { leader } else { (leader + 1) % members };
    let mut world = World::new(plan);
    world.machines[odd].bug = Some(Bug::AppliesDifferently);
    (world, odd)
}

#[test]
fn r6_a_leader_with_another_state_than_the_majority_leads_no_more() {
    for seed in 0..4 {
        let members = 3 + 2 * (seed as usize % 2);
        let (world, odd) = world(seed, members, 10, false, true);
        let (said, leader) = world.watch(odd).unwrap();
        for (at, (outvoted, differ)) in said.iter().enumerate() {
            assert_eq!(*outvoted, at == odd, "seed {seed}: {said:?}");
            assert!(*differ > 0, "seed {seed}: {said:?}");
        }
        assert!(leader.is_some_and(|leader| leader != odd), "seed {seed}: {leader:?} leads, not {odd}");
    }
}

#[test]
fn r6_members_that_do_nothing_are_compared_too_unless_it_is_switched_off() {
    for seed in 0..2 {
        let (idle, odd) = world(seed, 3, 1_000_000, true, false);
        let (said, leader) = idle.watch(odd).unwrap();
        assert!(said.iter().enumerate().all(|(at, (outvoted, _))| *outvoted == (at == odd)), "seed {seed}: {said:?}");
        assert!(leader.is_some_and(|leader| leader != odd));
        let (off, odd) = world(seed, 3, 0, false, true);
        let (said, leader) = off.watch(odd).unwrap();
        assert!(said.iter().all(|said| *said == (false, 0)), "seed {seed}: {said:?}");
        assert_eq!(leader, Some(odd));
    }
}

#[test]
fn r6_where_there_is_no_majority_it_is_only_told() {
    for seed in 0..2 {
        let (world, odd) = world(seed, 2, 10, false, true);
        let (said, leader) = world.watch(odd).unwrap();
        assert!(said.iter().all(|(outvoted, differ)| !outvoted && *differ > 0), "seed {seed}: {said:?}");
        assert_eq!(leader, Some(odd), "it goes on as it did");
    }
}
