//! Clients: they write, ask for timestamps and ids, and change the group; each request is a future that the world polls.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use rand::Rng;

use super::{
    checks::mark_id,
    machine::{Machine, info},
    plan::{MS, SECOND},
    world::{Happening, World},
};
use crate::{
    meta::{Command, Founding, Member, MemberError, Meta, MetaError, NamedRow, Timestamp, bugs::Bug},
    model::MemberId,
};

/// A client gives up after this long.
const GIVES_UP: u64 = 10 * SECOND;

/// Most requests at a time.
const MAX_REQUESTS: usize = 64;

/// What came of a request.
pub(super) enum Outcome {
    Written(u64, Result<(), MetaError>),
    /// The place in the history.
    Put(usize, Result<(), MetaError>),
    Timestamps(u32, u64, Result<Timestamp, MetaError>),
    /// How many, and the highest that nodes had shown to this member when they were asked for.
    Ids(u32, u64, Result<u64, MetaError>),
    /// To where, and the latest timestamp when it was asked for.
    Reset(Timestamp, u64, Result<(), MetaError>),
    Added(usize, Result<Member, MemberError>),
    Removed(MemberId, Result<(), MemberError>),
    Transferred(Result<(), MemberError>),
}

pub(super) struct Request {
    pub(super) machine: usize,
    begun: u64,
    /// Asked after the faults.
    pub(super) is_final: bool,
    future: Pin<Box<dyn Future<Output = Outcome>>>,
}

impl World {
    pub(super) fn ask(
        &mut self,
        machine: usize,
        future: impl Future<Output = Outcome> + 'static,
    ) -> Result<(), String> {
        if self.requests.len() < MAX_REQUESTS {
            let request = Request { machine, begun: self.now, is_final: self.calm, future: Box::pin(future) };
            self.requests.push(request);
        }
        self.poll_requests(machine)?;
        self.step(machine)
    }

    /// Some client asks somebody, mostly who leads.
    pub(super) fn request(&mut self) -> Result<(), String> {
        let gap = self.rng.random_range(1..=2 * self.plan.request_gap);
        self.after(gap, Happening::Request);
        let (now, leader) = (self.now, self.leader());
        self.requests.retain(|r| now - r.begun < GIVES_UP);
        let at = if self.rng.random_bool(0.8) { leader } else { None };
        let Some(at) = at.or_else(|| self.any_up()) else { return Ok(()) };
        if self.machines[at].paused {
            return Ok(());
        }
        let Some(run) = &self.machines[at].run else { return Ok(()) };
        let meta = run.meta.clone();
        let shown = run.shown;
        match self.rng.random_range(0..14) {
            12 => self.reset_timestamps(at, meta),
            13 => {
                self.show_id(at);
                Ok(())
            }
            10 => self.put(at, meta),
            11 => {
                self.read(at);
                Ok(())
            }
            0..4 => {
                let n = self.next_mark;
                self.next_mark += 1;
                let rows = vec![NamedRow { id: mark_id(n), json: format!("{{\"n\":{n}}}") }];
                let command = Command::PutLabelRules { rules: rows, delete: vec![] };
                self.ask(at, async move { Outcome::Written(n, meta.propose(command).await.map(drop)) })
            }
            4..8 => {
                let (count, asked) = (self.rng.random_range(1..100_000), self.checks.latest);
                self.ask(at, async move { Outcome::Timestamps(count, asked, meta.tso(count).await) })
            }
            8 => {
                let count = self.rng.random_range(1..700);
                self.ask(at, async move { Outcome::Ids(count, shown, meta.alloc_ids(count).await) })
            }
            _ => match meta.try_alloc_id() {
                Some(id) => self.answered(Outcome::Ids(1, shown, Ok(id))),
                None => Ok(()),
            },
        }
    }

    /// Somebody moves timestamps, mostly ahead of the latest.
    fn reset_timestamps(&mut self, at: usize, meta: Meta) -> Result<(), String> {
        let asked = self.checks.latest;
        let mut to = Timestamp::from_composed(asked);
        to.physical_ms = to.physical_ms.saturating_add(self.rng.random_range(-1000..100)).max(0);
        self.ask(at, async move { Outcome::Reset(to, asked, meta.reset_ts(to, true).await) })
    }

    /// A node tells the leader of an id that it uses, above all that were agreed.
    fn show_id(&mut self, at: usize) {
        let beyond = self.rng.random_range(1..2000);
        // Whoever is answered before anything is agreed finds the sequence as it was, and asks again at once, for ever.
        if self.plan.bug == Some(Bug::AnswerBeforeCommit) {
            return;
        }
        let Some(run) = self.machines[at].run.as_mut().filter(|r| r.meta.is_leader()) else { return };
        let id = run.meta.state().id_end + beyond;
        run.meta.show_id(id);
        run.shown = run.shown.max(id);
        self.counts.shown += 1;
    }

    /// Looks whether requests to this machine have been answered.
    pub(super) fn poll_requests(&mut self, machine: usize) -> Result<(), String> {
        let mut done = vec![];
        let mut context = Context::from_waker(Waker::noop());
        self.requests.retain_mut(|request| {
            if request.machine != machine {
                return true;
            }
            match request.future.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => {
                    done.push((outcome, request.is_final));
                    false
                }
                Poll::Pending => true,
            }
        });
        for (outcome, is_final) in done {
            if is_final && matches!(outcome, Outcome::Written(_, Ok(()))) {
                self.final_writes += 1;
            }
            self.answered(outcome)?;
        }
        Ok(())
    }

    pub(super) fn final_answered(&self) -> bool {
        self.final_writes > 0
    }

    /// The process is gone; its callers do not know what came of it.
    pub(super) fn forget_requests(&mut self, machine: usize) {
        let before = self.requests.len();
        self.requests.retain(|r| r.machine != machine);
        self.counts.unknown += (before - self.requests.len()) as u64;
    }

    fn answered(&mut self, outcome: Outcome) -> Result<(), String> {
        match outcome {
            Outcome::Written(n, Ok(())) => {
                self.counts.writes += 1;
                self.checks.acked.insert(n);
                Ok(())
            }
            Outcome::Put(place, Ok(())) => {
                self.history.put_done(place);
                Ok(())
            }
            Outcome::Timestamps(count, asked, Ok(last)) => {
                self.counts.timestamps += u64::from(count);
                match self.plan.by_history {
                    true => Ok(()),
                    false => self.checks.timestamps(last, count, asked),
                }
            }
            Outcome::Ids(count, shown, Ok(last)) => {
                self.counts.ids += u64::from(count);
                self.checks.ids(last, count, shown)
            }
            Outcome::Reset(to, asked, Ok(())) => {
                self.counts.resets += 1;
                self.checks.reset(to, asked)
            }
            Outcome::Added(machine, Ok(member)) => {
                self.counts.added += 1;
                let Some(cluster) = self.machines.iter().find_map(|m| m.run.as_ref()).map(|r| r.meta.cluster_id())
                else {
                    return Ok(());
                };
                self.machines[machine].founding = Founding::Join { cluster, member: member.id };
                let delay = self.rng.random_range(0..800) * MS;
                self.after(delay, Happening::Start(machine));
                Ok(())
            }
            Outcome::Removed(id, Ok(())) => {
                self.counts.removed += 1;
                let place = self.places.get(&id).copied();
                // Some are left running, and must not disturb.
                if let Some(at) = place.filter(|_| self.rng.random_bool(0.6)) {
                    self.machines[at].gone = true;
                    self.machines[at].run = None;
                    self.forget_requests(at);
                }
                Ok(())
            }
            Outcome::Transferred(Ok(())) => {
                self.counts.transfers += 1;
                Ok(())
            }
            Outcome::Written(_, Err(_))
            | Outcome::Put(_, Err(_))
            | Outcome::Timestamps(_, _, Err(_))
            | Outcome::Ids(_, _, Err(_))
            | Outcome::Reset(_, _, Err(_))
            | Outcome::Added(_, Err(_))
            | Outcome::Removed(_, Err(_))
            | Outcome::Transferred(Err(_)) => {
                self.counts.refused += 1;
                Ok(())
            }
        }
    }

    /// A machine is set up and asked into the group.
    pub(super) fn add_member(&mut self, leader: usize) -> Result<(), String> {
        let Some(run) = &self.machines[leader].run else { return Ok(()) };
        let meta = run.meta.clone();
        let number = self.machines.len() + 1;
        let machine = Machine::new(number, Founding::Alone, self.rng.random_range(-20..=20));
        // It waits until it is told its id.
        machine.set_clock(self.now);
        self.machines.push(machine);
        let place = number - 1;
        self.ask(leader, async move { Outcome::Added(place, meta.add_member(&info(number)).await) })
    }

    pub(super) fn remove_member(&mut self, leader: usize, id: MemberId) -> Result<(), String> {
        let Some(run) = &self.machines[leader].run else { return Ok(()) };
        let meta = run.meta.clone();
        self.ask(leader, async move { Outcome::Removed(id, meta.remove_member(id).await) })
    }

    pub(super) fn transfer(&mut self, leader: usize, to: Option<MemberId>) -> Result<(), String> {
        let Some(run) = &self.machines[leader].run else { return Ok(()) };
        let meta = run.meta.clone();
        self.ask(leader, async move {
            Outcome::Transferred(match to {
                Some(to) => meta.transfer_leader(to).await,
                None => meta.resign().await,
            })
        })
    }
}
