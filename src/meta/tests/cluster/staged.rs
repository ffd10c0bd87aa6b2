//! Chains of events that chance alone hardly brings about, played one after the other: each shows one fault of `bugs`, and nothing
//! where the fault is not. Only the moments are left to chance.

use std::time::Duration;

use rand::Rng;

use super::{
    plan::{MS, Plan, SECOND},
    world::{Counts, Happening, World},
};
use crate::meta::{RaftTimings, bugs::Bug, disk::faults::Unsynced};

/// Longer than any of these takes.
const LONG: u64 = 600 * SECOND;

/// A chain of events in a world of three.
pub(super) type Play = fn(World) -> Result<Counts, String>;

/// The leader and the two others.
struct Roles {
    leader: usize,
    others: [usize; 2],
}

impl World {
    fn roles(&self) -> Result<Roles, String> {
        let leader = self.leader().ok_or("nobody leads")?;
        let others: Vec<usize> = (0..self.machines.len()).filter(|m| *m != leader).collect();
        let others = others.try_into().map_err(|_| "not three")?;
        Ok(Roles { leader, others })
    }

    /// Runs until `done`, at most so long; whether it came to that.
    fn run_while_not(&mut self, limit: u64, mut done: impl FnMut(&Self) -> bool) -> Result<bool, String> {
        let end = self.now + limit;
        while !done(self) {
            if self.now >= end {
                return Ok(false);
            }
            self.happen()?;
        }
        Ok(true)
    }

    fn run_for(&mut self, time: u64) -> Result<(), String> {
        self.run_until(self.now + time)
    }

    fn election(&self) -> u64 {
        let timings = &self.plan.timings;
        timings.tick.as_nanos() as u64 * timings.election_ticks as u64
    }

    /// Nothing gets from `a` to `b`.
    fn cut(&mut self, a: usize, b: usize) {
        self.block([(a, b)].into(), LONG);
    }

    fn cut_off(&mut self, a: usize, b: usize) {
        self.block([(a, b), (b, a)].into(), LONG);
    }

    /// Its process is killed and begins again at once.
    pub(super) fn restart(&mut self, at: usize) {
        self.strike_down(at, true);
        self.after(MS, Happening::Start(at));
    }

    /// Its process is killed, or the power goes: then the write under way has left nothing.
    fn strike_down(&mut self, at: usize, process_only: bool) {
        let machine = &mut self.machines[at];
        let Some(run) = machine.run.take() else { return };
        let end = machine.disk.moment();
        let moment = run.job.as_ref().filter(|_| !process_only).map_or(end, |job| job.begun.min(end));
        drop(run);
        let unsynced = if process_only { Unsynced::Kept } else { Unsynced::Lost };
        self.replace_disk(at, moment, unsynced, process_only);
    }

    /// The power goes somewhere in the write under way.
    fn strike_down_within_a_write(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let Some(run) = machine.run.take() else { return };
        let end = machine.disk.moment();
        let begun = run.job.as_ref().map_or(end, |job| job.begun.min(end));
        drop(run);
        let moment = self.rng.random_range(begun..=end);
        self.replace_disk(at, moment, Unsynced::Lost, false);
    }

    /// Its process is killed and stays away until all is over.
    fn take_away(&mut self, at: usize) {
        self.strike_down(at, true);
        self.machines[at].gone = true;
    }

    fn end(mut self) -> Result<Counts, String> {
        self.machines.iter_mut().for_each(|m| m.gone = false);
        // Clients that were quiet ask again, so that it is seen whether they are answered.
        self.plan.request_gap = 20 * MS;
        self.after(MS, Happening::Request);
        self.settle()?;
        Ok(self.counts)
    }

    /// One who has confirmed the lease is restarted, and another one campaigns who has not heard the leader for a while.
    pub(super) fn a_voter_is_restarted(mut self) -> Result<Counts, String> {
        self.run_for(6 * SECOND)?;
        let Roles { leader, others: [candidate, voter] } = self.roles()?;
        self.cut_off(leader, candidate);
        self.run_for(3 * self.election())?;
        self.cut_off(leader, voter);
        self.restart(voter);
        self.run_for(3 * self.election())?;
        self.end()
    }

    /// The same while a shorter election timeout is rolled out: those two have it from their restart on, the leader does not.
    pub(super) fn a_voter_is_restarted_with_a_shorter_timeout(mut self) -> Result<Counts, String> {
        let short = self.plan.timings;
        let long = RaftTimings { election_ticks: 4 * short.election_ticks, ..short };
        self.machines.iter_mut().for_each(|m| m.timings = Some(long));
        self.run_for(12 * SECOND)?;
        let Roles { leader, others: [candidate, voter] } = self.roles()?;
        self.machines[candidate].timings = None;
        self.machines[voter].timings = None;
        self.cut_off(leader, candidate);
        self.restart(candidate);
        self.run_for(12 * self.election())?;
        self.cut_off(leader, voter);
        self.restart(voter);
        self.run_for(8 * self.election())?;
        self.end()
    }

    /// A longer election timeout is rolled out: the member that has it already leads, and is left alone by two that do not have it yet.
    pub(super) fn a_patient_leader_is_left_alone(mut self) -> Result<Counts, String> {
        let short = self.plan.timings;
        self.machines[0].timings = Some(RaftTimings { election_ticks: 4 * short.election_ticks, ..short });
        self.run_for(6 * SECOND)?;
        for _ in 0..60 {
            match (self.leader(), self.id(0)) {
                (Some(0), _) => break,
                (Some(leader), Some(id)) => self.transfer(leader, Some(id))?,
                _ => {}
            }
            self.run_for(SECOND)?;
        }
        if self.leader() != Some(0) {
            return Err("it never led".into());
        }
        self.run_for(SECOND)?;
        self.cut_off(0, 1);
        self.cut_off(0, 2);
        self.run_for(8 * self.election())?;
        self.end()
    }

    /// A follower acknowledges, and the power goes before what it acknowledged is on its disk. The third has never had it.
    pub(super) fn power_goes_after_an_acknowledgement(mut self) -> Result<Counts, String> {
        self.run_for(4 * SECOND)?;
        let Roles { leader, others: [witness, deaf] } = self.roles()?;
        self.cut_off(leader, deaf);
        self.machines[witness].slow_disk = 100 * MS;
        self.run_for(300 * MS)?;
        let before = self.checks.acked.len();
        self.run_while_not(5 * SECOND, |w| {
            let writes = w.machines[witness].run.as_ref().is_some_and(|r| r.job.is_some());
            writes && w.checks.acked.len() > before
        })?;
        self.strike_down(witness, false);
        self.take_away(leader);
        self.machines[witness].slow_disk = 0;
        self.run_while_not(20 * SECOND, |w| w.leader().is_some())?;
        self.end()
    }

    /// Two stand for election in one term. A third one votes for the first, is restarted, and is then asked by the second.
    pub(super) fn a_voter_is_asked_twice(mut self) -> Result<Counts, String> {
        self.run_for(6 * SECOND)?;
        let Roles { leader: first, others: [second, voter] } = self.roles()?;
        let id = |w: &Self, at: usize| w.machines[at].run.as_ref().map_or(0, |r| r.meta.member_id().0);
        let first_id = id(&self, first);
        // Nobody hears anybody, until nobody remembers who led.
        self.cut_off(first, second);
        self.cut_off(first, voter);
        self.cut_off(second, voter);
        self.run_for(3 * self.election())?;
        // The second is told that it may stand, but does not hear it yet.
        self.blocked.clear();
        self.cut_off(first, second);
        self.cut_off(first, voter);
        self.held_link = Some((voter, second));
        self.run_for(3 * self.election())?;
        // The first is told so, too, and asks for votes. It has the vote; the voter never hears that this was enough.
        self.blocked.clear();
        self.cut_off(first, second);
        let voted = |w: &Self| w.machines[voter].run.as_ref().is_some_and(|r| r.core.node().vote() == first_id);
        let begun = self.term(voter);
        self.run_while_not(6 * self.election(), |w| w.term(voter) > begun && voted(w))?;
        self.cut(first, voter);
        let leads = |w: &Self| w.machines[first].run.as_ref().is_some_and(|r| r.core.node().is_leader());
        self.run_while_not(self.election(), leads)?;
        // A vote that was given is not forgotten, whatever becomes of the process.
        self.restart(voter);
        self.run_for(self.election() * 11 / 10)?;
        self.let_go();
        self.run_for(2 * self.election())?;
        self.end()
    }

    /// One who lacks what the others have forgotten is sent the whole state, and the power goes while it is put on disk.
    pub(super) fn power_goes_while_a_state_is_taken(mut self) -> Result<Counts, String> {
        self.run_for(3 * SECOND)?;
        let Roles { leader, others: [other, deaf] } = self.roles()?;
        self.cut_off(leader, deaf);
        self.cut_off(other, deaf);
        self.run_for(6 * SECOND)?;
        self.blocked.clear();
        let before = self.counts.states_sent;
        if !self.run_while_not(20 * SECOND, |w| w.counts.states_sent > before)? {
            return Err("no state was sent".into());
        }
        self.strike_down_within_a_write(deaf);
        self.end()
    }

    /// A leader that nobody hears goes on being asked, while another one leads.
    pub(super) fn a_leader_is_left_alone(mut self) -> Result<Counts, String> {
        self.run_for(3 * SECOND)?;
        let Roles { leader, others: [a, b] } = self.roles()?;
        self.cut_off(leader, a);
        self.cut_off(leader, b);
        self.run_for(10 * SECOND)?;
        self.end()
    }

    /// The next leader's clock is behind that of the one before.
    pub(super) fn the_next_clock_is_behind(mut self) -> Result<Counts, String> {
        self.run_for(4 * SECOND)?;
        let Roles { leader, .. } = self.roles()?;
        self.machines[leader].rate.wall_off += 2 * SECOND as i64;
        let more = self.rng.random_range(6000..8000) * MS;
        self.run_for(more)?;
        self.take_away(leader);
        self.run_for(5 * SECOND)?;
        self.end()
    }
}

/// A plan without faults of chance, and with few requests where they would only give members different logs.
pub(super) fn plan(seed: u64, bug: Option<Bug>, quiet: bool) -> Plan {
    let mut plan = Plan { bug, ..Plan::only(seed, &[]) };
    (plan.timings.tick, plan.timings.election_ticks) = (Duration::from_millis(80), 10);
    plan.fault_gap = LONG;
    (plan.timings.compact_every, plan.timings.compact_keep) = (8, 4);
    if quiet {
        plan.request_gap = 30 * SECOND;
    }
    plan
}
