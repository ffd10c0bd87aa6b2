//! One member does not say for how long it promises, as those of a version from before did not: nobody leans on its word, and nothing
//! worse comes of it.

use super::{
    plan::{MS, Plan, SECOND},
    world::World,
};
use crate::meta::bugs::Bug;

/// What was seen while the versions were mixed, each 100 ms.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Somebody served.
    served: u32,
    /// Somebody was elected and did not serve.
    unserved: u32,
}

impl World {
    /// The last one of three is of the version before, for 15 s; then it is started with the present one.
    fn upgrade_the_last_one(mut self) -> Result<Seen, String> {
        let odd = self.machines.len() - 1;
        self.machines[odd].bug = Some(Bug::PromiseNotSaid);
        self.run_until(5 * SECOND)?;
        let mut seen = Seen::default();
        while self.now < 20 * SECOND {
            self.run_until(self.now + 100 * MS)?;
            let elected = self.machines.iter().any(|m| m.run.as_ref().is_some_and(|r| r.core.node().is_leader()));
            match self.leader() {
                Some(_) => seen.served += 1,
                None => seen.unserved += u32::from(elected),
            }
        }
        self.machines[odd].bug = None;
        self.restart(odd);
        // Now it serves, and all that clients ask is answered.
        self.settle()?;
        Ok(seen)
    }
}

#[test]
fn l1_t1_a_newer_leader_waits_for_a_voter_that_promises_nothing_and_an_older_one_leads_on() {
    let mut all = Seen::default();
    for seed in 0..10 {
        let world = World::new(Plan { members: 3, ..Plan::only(seed, &[]) });
        let seen = world.upgrade_the_last_one().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        (all.served, all.unserved) = (all.served + seen.served, all.unserved + seen.unserved);
    }
    assert!(all.served > 100 && all.unserved > 100, "of both something has to be seen: {all:?}");
}
