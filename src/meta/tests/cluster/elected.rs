//! What was agreed under one leader and is applied by the next before it serves: that one knows already that it is the leader, so that
//! what is told of a change once, by the leader, is told.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    plan::SECOND,
    staged::plan,
    world::{PATIENCE, World},
};
use crate::meta::machine::Change;

/// Of each write that the members took in: by whom, whether it was the elected leader then, and whether it served.
type Seen = Arc<Mutex<Vec<(usize, bool, bool)>>>;

impl World {
    fn watch_writes(&self) -> Seen {
        let seen = Seen::default();
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(meta) = machine.run.as_ref().map(|run| run.meta.clone()) else { continue };
            let (into, observed) = (seen.clone(), meta.clone());
            meta.observe(Box::new(move |change| {
                if matches!(change, Change::LabelRulesChanged(_)) {
                    into.lock().push((at, observed.is_elected(), observed.leader_since().is_some()));
                }
            }));
        }
        seen
    }

    /// Whether a follower has what the leader does not know to be agreed yet.
    fn is_under_way(&self, leader: usize) -> bool {
        let committed = self.machines[leader].run.as_ref().map_or(u64::MAX, |run| run.core.node().committed_index());
        let ahead =
            |at: usize| self.machines[at].run.as_ref().is_some_and(|run| run.core.node().last_index() > committed);
        (0..self.machines.len()).any(|at| at != leader && ahead(at))
    }

    /// The leader is gone before it knows that its last entries are agreed. How many writes of its term the next one took in as the elected
    /// leader that does not serve yet.
    fn applied_before_serving(mut self) -> Result<usize, String> {
        self.run_until(5 * SECOND)?;
        let old = self.leader().ok_or("nobody leads")?;
        let seen = self.watch_writes();
        let end = self.now + PATIENCE;
        while !self.is_under_way(old) {
            self.happen()?;
            if self.now > end {
                return Err("nothing is ever under way".into());
            }
        }
        seen.lock().clear();
        self.machines[old].gone = true;
        self.machines[old].run = None;
        self.forget_requests(old);
        while self.leader().is_none() {
            self.happen()?;
            if self.now > end + PATIENCE {
                return Err("nobody leads any more".into());
            }
        }
        let new = self.leader();
        let seen = seen.lock();
        Ok(seen.iter().filter(|(at, elected, serves)| Some(*at) == new && *elected && !serves).count())
    }
}

#[test]
fn a_new_leader_takes_in_what_was_agreed_before_it_as_the_leader() {
    let mut told = vec![];
    for seed in 0..8 {
        let world = World::new(plan(seed, None, false));
        told.push(world.applied_before_serving().unwrap_or_else(|e| panic!("seed {seed}: {e}")));
    }
    assert!(told.iter().filter(|n| **n > 0).count() >= 4, "{told:?}");
}
