//! One job of the leader's disk that does not end for a while: up to 3 s nothing follows from it, above it somebody else leads. And
//! disks that are slow everywhere and for good.

use futures::FutureExt as _;

use super::{
    plan::{MS, Plan, SECOND},
    world::World,
};
use crate::meta::RaftTimings;

/// What was seen while a disk hung.
#[derive(Debug)]
struct Seen {
    /// Steps after which the member with this disk served: those within 3 s and a tick, and later ones.
    served: (u64, u64),
    /// It led, as raft sees it, when the disk answered.
    leads_at_the_end: bool,
    /// Terms before and after.
    terms: (u64, u64),
    /// The longest time in which nobody was given a timestamp, milliseconds.
    silence: u64,
}

impl World {
    /// Lets one job of the leader's disk take so long. Afterwards everything has to be well.
    fn hang(mut self, lasts: u64) -> Result<Seen, String> {
        // Clocks of one speed, so that 3 s are 3 s.
        self.machines.iter_mut().for_each(|m| m.rate.mono_permille = 0);
        self.run_until(10 * SECOND)?;
        let at = self.leader().ok_or("nobody leads")?;
        self.machines[at].slow_disk = lasts;
        // Until it has begun a job that takes longer than they usually do; those after it are quick again.
        while self.stall(at) < 20 * MS {
            self.happen()?;
        }
        self.machines[at].slow_disk = 0;
        let (begun, term) = (self.now - self.stall(at), self.term(at));
        let mut since = self.now;
        let mut seen = Seen { served: (0, 0), leads_at_the_end: false, terms: (term, 0), silence: 0 };
        let patience = 3 * SECOND + 110 * MS;
        while self.now < begun + lasts {
            self.happen()?;
            let serves = self.serves(at);
            match self.now - begun <= patience {
                true => seen.served.0 += u64::from(serves),
                false => seen.served.1 += u64::from(serves),
            }
            if self.gives_timestamps()? {
                since = self.now;
            }
            seen.silence = seen.silence.max((self.now - since) / MS);
        }
        seen.leads_at_the_end = self.machines[at].run.as_ref().is_some_and(|r| r.core.node().is_leader());
        self.run_until(begun + lasts + 2 * SECOND)?;
        seen.terms.1 = self.term(at);
        self.settle()?;
        Ok(seen)
    }

    /// Every job of every disk takes so long, and the leader is gone. How long until another serves, nanoseconds.
    fn elect_on_slow_disks(mut self, latency: u64) -> Result<u64, String> {
        self.run_until(10 * SECOND)?;
        let at = self.leader().ok_or("nobody leads")?;
        self.machines.iter_mut().for_each(|m| m.slow_disk = latency);
        self.machines[at].paused = true;
        let begun = self.now;
        while (0..self.machines.len()).all(|other| other == at || !self.serves(other)) {
            self.happen()?;
            if self.now > begun + 60 * SECOND {
                return Err(format!("nobody leads after a minute, {} terms later", self.term((at + 1) % 3)));
            }
        }
        Ok(self.now - begun)
    }

    fn serves(&self, at: usize) -> bool {
        self.machines[at].run.as_ref().is_some_and(|r| r.meta.is_leader())
    }

    /// Whether somebody gives a timestamp at once. (The clients of this world may all be waiting for writes.)
    fn gives_timestamps(&mut self) -> Result<bool, String> {
        let asked = self.checks.latest;
        for at in 0..self.machines.len() {
            let Some(run) = self.machines[at].run.as_ref() else { continue };
            if let Some(Ok(ts)) = run.meta.tso(1).now_or_never() {
                self.checks.timestamps(ts, 1, asked)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How long its disk has not answered.
    fn stall(&self, at: usize) -> u64 {
        self.machines[at].run.as_ref().map_or(0, |r| r.meta.disk_stall().as_nanos() as u64)
    }

    pub(super) fn term(&self, at: usize) -> u64 {
        self.machines[at].run.as_ref().map_or(0, |r| r.core.node().term())
    }
}

fn hang(seed: u64, lasts: u64) -> Seen {
    let plan = Plan { timings: RaftTimings::default(), members: 3 + 2 * (seed as usize % 2), ..Plan::only(seed, &[]) };
    World::new(plan).hang(lasts).unwrap_or_else(|e| panic!("seed {seed}: {e}"))
}

#[test]
fn l1_t1_a_disk_that_hangs_for_less_than_three_seconds_costs_no_leadership() {
    for seed in 0..6 {
        let seen = hang(seed, 2900 * MS);
        assert!(seen.leads_at_the_end && seen.terms.0 == seen.terms.1 && seen.silence < 500, "seed {seed}: {seen:?}");
    }
}

#[test]
fn l1_t1_a_leader_whose_disk_hangs_for_longer_leads_no_more_and_timestamps_go_on() {
    for (seed, lasts) in [(0, 3200), (1, 3200), (2, 6000), (3, 6000), (4, 15_000), (5, 15_000)] {
        let seen = hang(seed, lasts * MS);
        assert!(seen.served.0 > 0 && seen.served.1 == 0 && !seen.leads_at_the_end, "seed {seed}: {seen:?}");
        assert!(seen.terms.1 > seen.terms.0 && seen.silence < 2000, "seed {seed}: {seen:?}");
    }
}

#[test]
fn l3_disks_that_take_longer_for_a_vote_than_a_campaign_lasts_are_waited_for() {
    for seed in 0..8 {
        let plan = Plan { timings: RaftTimings::default(), members: 3, ..Plan::only(seed, &[]) };
        let took = World::new(plan).elect_on_slow_disks(1500 * MS).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(took < 40 * SECOND, "seed {seed}: {} ms", took / MS);
    }
}
