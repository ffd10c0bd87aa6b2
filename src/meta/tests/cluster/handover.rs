//! Leadership that is to go to a member that cannot take it: the leader goes on as if nobody had asked.

use super::{
    plan::{MS, Plan, SECOND},
    world::World,
};
use crate::meta::RaftTimings;

impl World {
    /// Has the leader hand over to `to` again and again for a while, in which it must go on serving in its term; how often it refused.
    fn asked_for_nothing(&mut self, leader: usize, to: usize) -> Result<u64, String> {
        let id = self.id(to).ok_or("it has no id")?;
        let (term, before) = (self.term(leader), self.counts.refused);
        for _ in 0..10 {
            self.transfer(leader, Some(id))?;
            let end = self.now + 500 * MS;
            while self.now < end {
                self.happen()?;
                let serves = self.machines[leader].run.as_ref().is_some_and(|r| r.meta.is_leader());
                if !serves || self.term(leader) != term {
                    return Err(format!("it does not lead any more, in term {}", self.term(leader)));
                }
            }
        }
        Ok(self.counts.refused - before)
    }

    /// One follower goes away, or its disk hangs, and is to lead.
    fn ask_one_that_cannot(mut self, hangs: bool) -> Result<u64, String> {
        self.run_until(6 * SECOND)?;
        let leader = self.leader().ok_or("nobody leads")?;
        let follower = (leader + 1) % self.machines.len();
        match hangs {
            true => self.machines[follower].slow_disk = 15 * SECOND,
            false => self.block(self.links_of(follower), 100 * SECOND),
        }
        self.run_until(self.now + 3 * SECOND)?;
        let refused = self.asked_for_nothing(leader, follower)?;
        // Once it can, it does.
        self.machines[follower].slow_disk = 0;
        self.blocked.clear();
        let end = self.now + 60 * SECOND;
        while self.leader() != Some(follower) && self.now < end {
            self.run_until(self.now + SECOND)?;
            if let (Some(leader), Some(id)) = (self.leader(), self.id(follower)) {
                self.transfer(leader, Some(id))?;
            }
        }
        if self.leader() == Some(follower) { Ok(refused) } else { Err("it never led".into()) }
    }
}

#[test]
fn l4_leadership_does_not_go_to_a_member_that_is_away_or_whose_disk_hangs() {
    for seed in 0..6 {
        let timings = RaftTimings::default();
        let plan = Plan { timings, members: 3 + 2 * (seed as usize % 2), ..Plan::only(seed, &[]) };
        for hangs in [false, true] {
            let refused = World::new(plan.clone()).ask_one_that_cannot(hangs);
            assert!(refused.as_ref().is_ok_and(|n| *n >= 10), "seed {seed}, hangs {hangs}: {refused:?}");
        }
    }
}
