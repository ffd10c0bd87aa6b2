//! The simulated cluster: machines, the network between them and clients, on one thread and virtual time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    checks::Checks,
    client::Request,
    history::History,
    machine::{Job, Machine, info},
    plan::{Fault, MS, Plan, SECOND},
};
use crate::{
    meta::{
        Founder, Founding, RaftTimings,
        bugs::{Bug, Bugs},
        disk::faults::Unsynced,
        host::Todo,
        queue::Event,
        writer::{self, perform},
    },
    model::MemberId,
};

/// How long after the last fault everything has to be well.
pub(super) const PATIENCE: u64 = 20 * SECOND;

/// Messages in one world at most, some sixty times what one needs: more are an answer to an answer, without end.
const MAX_MESSAGES: u64 = 500_000;

/// The longest list of operations of a disk before its beginning is forgotten.
const MAX_HISTORY: usize = 3000;

/// What is to happen.
pub(super) enum Happening {
    Wake { machine: usize, start: u64 },
    Deliver { to: MemberId, bytes: Vec<u8> },
    DiskDone { machine: usize, start: u64 },
    Request,
    Fault,
    Start(usize),
    Resume(usize),
    Heal(u64),
    DiskHeals(usize),
    Strike { leader: usize, voter: usize },
}

/// What was done. A run that did nothing has shown nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) steps: u64,
    pub(super) checks: u64,
    pub(super) leaders: u64,
    pub(super) writes: u64,
    pub(super) timestamps: u64,
    pub(super) ids: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    pub(super) messages: u64,
    pub(super) lost: u64,
    pub(super) hashes: u64,
    pub(super) states_sent: u64,
    pub(super) crashes: u64,
    pub(super) kills: u64,
    pub(super) pauses: u64,
    pub(super) partitions: u64,
    pub(super) clocks: u64,
    pub(super) disks: u64,
    pub(super) transfers: u64,
    pub(super) added: u64,
    pub(super) removed: u64,
    /// Times that timestamps were moved, and ids that nodes showed.
    pub(super) resets: u64,
    pub(super) shown: u64,
    /// Reads and writes of which a history was made.
    pub(super) recorded: u64,
    /// Histories that were looked through.
    pub(super) histories: u64,
    /// Histories with too many orders to look through.
    pub(super) given_up: u64,
    /// Sum over all that happened, in order: equal for equal runs.
    pub(super) trace: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        let Counts { trace, .. } = *self;
        let sums: [(&mut u64, u64); 20] = [
            (&mut self.steps, other.steps),
            (&mut self.checks, other.checks),
            (&mut self.leaders, other.leaders),
            (&mut self.writes, other.writes),
            (&mut self.timestamps, other.timestamps),
            (&mut self.ids, other.ids),
            (&mut self.refused, other.refused),
            (&mut self.unknown, other.unknown),
            (&mut self.messages, other.messages),
            (&mut self.lost, other.lost),
            (&mut self.hashes, other.hashes),
            (&mut self.states_sent, other.states_sent),
            (&mut self.crashes, other.crashes),
            (&mut self.kills, other.kills),
            (&mut self.pauses, other.pauses),
            (&mut self.partitions, other.partitions),
            (&mut self.clocks, other.clocks),
            (&mut self.disks, other.disks),
            (&mut self.transfers, other.transfers),
            (&mut self.added, other.added),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
        self.removed += other.removed;
        self.resets += other.resets;
        self.shown += other.shown;
        self.recorded += other.recorded;
        self.histories += other.histories;
        self.given_up += other.given_up;
        self.trace = trace ^ other.trace;
    }
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: ChaCha8Rng,
    pub(super) now: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    order: u64,
    pub(super) machines: Vec<Machine>,
    /// Which machine a member is, for all that ever were.
    pub(super) places: BTreeMap<MemberId, usize>,
    /// Which machine cannot reach which, by partition.
    pub(super) blocked: BTreeMap<u64, BTreeSet<(usize, usize)>>,
    /// What one machine sends to another is kept for later.
    pub(super) held_link: Option<(usize, usize)>,
    held: Vec<(MemberId, Vec<u8>)>,
    pub(super) requests: Vec<Request>,
    pub(super) checks: Checks,
    pub(super) counts: Counts,
    pub(super) next_mark: u64,
    /// What clients saw of the values that they read and write.
    pub(super) history: History,
    /// Writes asked for and acknowledged after the faults.
    pub(super) final_writes: u64,
    /// No more faults.
    pub(super) calm: bool,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let founders: Vec<Founder> =
            (1..=plan.members).map(|n| Founder { name: info(n).name, peer_urls: info(n).peer_urls }).collect();
        let founding = Founding::Initial { members: founders, token: "simulated".into() };
        let machines: Vec<Machine> =
            (1..=plan.members).map(|n| Machine::new(n, founding.clone(), rng.random_range(-20..=20))).collect();
        let mut world = Self {
            plan,
            rng,
            now: SECOND,
            agenda: BTreeMap::new(),
            order: 0,
            machines,
            places: BTreeMap::new(),
            blocked: BTreeMap::new(),
            held_link: None,
            held: vec![],
            requests: vec![],
            checks: Checks::default(),
            counts: Counts::default(),
            next_mark: 0,
            history: History::default(),
            final_writes: 0,
            calm: false,
        };
        for machine in 0..world.machines.len() {
            let at = world.rng.random_range(0..300) * MS;
            world.after(at, Happening::Start(machine));
        }
        world.after(SECOND, Happening::Request);
        world.after(2 * SECOND, Happening::Fault);
        world
    }

    pub(super) fn after(&mut self, delay: u64, happening: Happening) {
        self.order += 1;
        self.agenda.insert((self.now + delay, self.order), happening);
    }

    /// Runs until the faults are over and everything is well again.
    pub(super) fn run(mut self) -> Result<Counts, String> {
        self.run_until(self.now + self.plan.lasts)?;
        self.settle()?;
        Ok(self.counts)
    }

    pub(super) fn run_until(&mut self, end: u64) -> Result<(), String> {
        while self.now < end {
            self.happen()?;
        }
        Ok(())
    }

    /// Ends all faults and waits until everything is well.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.calm_down()?;
        let limit = self.now + PATIENCE;
        loop {
            self.happen()?;
            match self.is_well()? {
                None => return self.is_explained(),
                Some(why) if self.now > limit => return Err(format!("L3: not well long after the last fault: {why}")),
                Some(_) => {}
            }
        }
    }

    pub(super) fn happen(&mut self) -> Result<(), String> {
        let Some(((at, _), happening)) = self.agenda.pop_first() else { return Err("nothing happens any more".into()) };
        self.now = self.now.max(at);
        self.counts.steps += 1;
        if self.counts.messages > MAX_MESSAGES {
            return Err(format!("members sent more than {MAX_MESSAGES} messages"));
        }
        for machine in &self.machines {
            machine.set_clock(self.now);
        }
        match happening {
            Happening::Wake { machine, start } if self.machines[machine].starts == start => self.step(machine),
            Happening::Wake { .. } => Ok(()),
            Happening::Deliver { to, bytes } => self.deliver(to, &bytes),
            Happening::DiskDone { machine, start } => self.disk_done(machine, start),
            Happening::Request => self.request(),
            Happening::Fault => self.fault(),
            Happening::Start(machine) => self.start(machine),
            Happening::Resume(machine) => {
                self.machines[machine].paused = false;
                self.step(machine)
            }
            Happening::Heal(partition) => {
                self.blocked.remove(&partition);
                Ok(())
            }
            Happening::Strike { leader, voter } => {
                if !self.calm {
                    self.strike(leader, voter);
                }
                Ok(())
            }
            Happening::DiskHeals(machine) => {
                self.machines[machine].slow_disk = 0;
                Ok(())
            }
        }
    }

    /// What a machine is started with.
    fn timings_of(&self, at: usize) -> RaftTimings {
        let (plan, machine) = (&self.plan, &self.machines[at]);
        let mut timings = machine.timings.unwrap_or(plan.timings);
        if plan.mixed {
            // Of its own, so that nothing else depends on it.
            let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ ((at as u64 + 1) << 32) ^ (machine.starts << 48));
            timings.election_ticks *= [1, 1, 2, 4].choose(&mut rng).copied().unwrap_or(1);
        }
        timings
    }

    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let (timings, seed) = (self.timings_of(at), self.plan.seed.wrapping_mul(31).wrapping_add(at as u64));
        let machine = &mut self.machines[at];
        // One that differs is enough, and all that differed alike would agree.
        let common = self.plan.bug.filter(|bug| *bug != Bug::AppliesDifferently || at == 0);
        let bugs = Bugs { one: machine.bug.or(common) };
        // One that was not told its id yet waits for it.
        if machine.is_up() || machine.gone || machine.founding == Founding::Alone {
            return Ok(());
        }
        machine.disk.repair();
        machine.open(timings, seed, bugs).map_err(|e| format!("R2: a member does not start again: {e}"))?;
        // The power may go again while the files are being opened.
        if !self.calm && self.plan.faults.contains(&Fault::Crash) && self.rng.random_bool(0.2) {
            let machine = &mut self.machines[at];
            machine.run = None;
            let moment = self.rng.random_range(0..=machine.disk.moment());
            machine.disk = machine.disk.after_power_cut(moment, Unsynced::Mixed(self.rng.random()));
            machine.open(timings, seed, bugs).map_err(|e| format!("R2: a member does not start again: {e}"))?;
        }
        let machine = &mut self.machines[at];
        machine.disk.forget_history();
        machine.paused = false;
        let Some(run) = &mut machine.run else { return Ok(()) };
        self.places.insert(run.core.id(), at);
        let todo = run.core.start();
        self.carry_out(at, todo)?;
        self.step(at)
    }

    /// Steps a member until it has nothing more to do.
    pub(super) fn step(&mut self, at: usize) -> Result<(), String> {
        loop {
            let machine = &mut self.machines[at];
            let Some(run) = machine.run.as_mut().filter(|_| !machine.paused) else { return Ok(()) };
            let events: VecDeque<Event> = std::mem::take(&mut run.inbox.0.lock());
            let before = machine.disk.moment();
            let todo = run.core.step(events);
            if std::mem::take(&mut machine.doomed) {
                return self.fall_in_step(at, before, todo);
            }
            self.carry_out(at, todo)?;
            self.poll_requests(at)?;
            if !self.plan.by_history {
                self.checks.after_step(&mut self.machines, at, &mut self.counts)?;
            }
            if self.machines[at].run.as_ref().is_none_or(|r| r.inbox.0.lock().is_empty()) {
                return Ok(());
            }
        }
    }

    fn note(&mut self, what: u64) {
        self.counts.trace = (self.counts.trace ^ what ^ self.now).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }

    fn carry_out(&mut self, at: usize, todo: Todo) -> Result<(), String> {
        let Todo { job, send, ended } = todo;
        if let Some(ended) = ended {
            // The process ends; somebody looks after the disk and starts it again.
            let machine = &mut self.machines[at];
            if let Some(mut run) = machine.run.take() {
                run.core.end(&ended, run.inbox.0.lock().drain(..));
            }
            machine.disk = machine.disk.after_power_cut(machine.disk.moment(), Unsynced::Kept);
            self.forget_requests(at);
            let delay = self.rng.random_range(100..2000) * MS;
            self.after(delay, Happening::Start(at));
            return Ok(());
        }
        if let Some(job) = job {
            self.begin_job(at, job);
        }
        for (to, bytes) in send {
            self.send(at, to, &bytes);
        }
        let machine = &mut self.machines[at];
        if let Some(run) = &mut machine.run {
            let wake_at = machine.rate.true_time(run.core.wake_at().0).max(self.now + 1);
            if run.wake_at != wake_at {
                run.wake_at = wake_at;
                let start = machine.starts;
                self.order += 1;
                self.agenda.insert((wake_at, self.order), Happening::Wake { machine: at, start });
            }
        }
        Ok(())
    }

    fn begin_job(&mut self, at: usize, job: writer::Job) {
        let machine = &mut self.machines[at];
        let Some(run) = &mut machine.run else { return };
        self.counts.states_sent += u64::from(matches!(job, writer::Job::Install(_)));
        if machine.disk.moment() > MAX_HISTORY {
            machine.disk.forget_history();
        }
        let begun = machine.disk.moment();
        let event = perform(job, &run.core.log_file, &run.core.state_file);
        run.job = Some(Job { event: Some(event), begun });
        machine.jobs += 1;
        let latency = self.rng.random_range(MS / 5..3 * MS) + machine.slow_disk;
        let start = machine.starts;
        self.after(latency, Happening::DiskDone { machine: at, start });
    }

    fn disk_done(&mut self, at: usize, start: u64) -> Result<(), String> {
        let machine = &mut self.machines[at];
        if machine.starts != start {
            return Ok(());
        }
        let Some(run) = &mut machine.run else { return Ok(()) };
        if let Some(event) = run.job.take().and_then(|mut job| job.event.take()) {
            run.inbox.0.lock().push_back(event);
        }
        self.step(at)
    }

    fn send(&mut self, from: usize, to: MemberId, bytes: &[u8]) {
        self.note(bytes.len() as u64 ^ u64::from(crc32fast::hash(bytes)));
        self.counts.messages += 1;
        let Some(place) = self.places.get(&to).copied() else { return };
        let cut = self.blocked.values().any(|pairs| pairs.contains(&(from, place)));
        let plan = &self.plan;
        if cut || (!self.calm && self.rng.random_range(0..1000) < plan.lost) {
            self.counts.lost += 1;
            return;
        }
        if self.held_link == Some((from, place)) {
            self.held.push((to, bytes.to_vec()));
            return;
        }
        let (delay, long, doubled) = (plan.delay, plan.long_delay, plan.doubled);
        let copies = 1 + usize::from(!self.calm && self.rng.random_range(0..1000) < doubled);
        for _ in 0..copies {
            let late = !self.calm && self.rng.random_bool(0.05);
            let delay = self.rng.random_range(MS / 10..=if late { long.max(delay) } else { delay });
            self.after(delay, Happening::Deliver { to, bytes: bytes.to_vec() });
        }
    }

    /// What was kept comes now, in its order.
    pub(super) fn let_go(&mut self) {
        self.held_link = None;
        for (at, (to, bytes)) in std::mem::take(&mut self.held).into_iter().enumerate() {
            self.after(at as u64, Happening::Deliver { to, bytes });
        }
    }

    fn deliver(&mut self, to: MemberId, bytes: &[u8]) -> Result<(), String> {
        let Some(at) = self.places.get(&to).copied() else { return Ok(()) };
        let Some(run) = &self.machines[at].run else { return Ok(()) };
        // What is refused is counted there; a member that lost its place may get such.
        drop(run.meta.receive(bytes));
        self.step(at)
    }

    /// Which run of which machine serves now.
    pub(super) fn leader(&self) -> Option<usize> {
        self.machines.iter().position(|m| !m.paused && m.run.as_ref().is_some_and(|r| r.meta.is_leader()))
    }

    pub(super) fn any_up(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.machines.len()).filter(|m| self.machines[*m].is_up()).collect();
        up.choose(&mut self.rng).copied()
    }

    /// The member on this machine.
    pub(super) fn id(&self, at: usize) -> Option<MemberId> {
        self.places.iter().find(|(_, place)| **place == at).map(|(id, _)| *id)
    }

    /// All ways to and from this machine.
    pub(super) fn links_of(&self, at: usize) -> BTreeSet<(usize, usize)> {
        (0..self.machines.len()).filter(|m| *m != at).flat_map(|m| [(m, at), (at, m)]).collect()
    }

    pub(super) fn block(&mut self, pairs: BTreeSet<(usize, usize)>, lasts: u64) {
        let partition = self.order;
        self.blocked.insert(partition, pairs);
        self.after(lasts, Happening::Heal(partition));
    }

    /// Ends all faults: everything is started, reached and quick again.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.calm = true;
        self.blocked.clear();
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            (machine.slow_disk, machine.paused, machine.doomed, machine.rate.wall_stands) = (0, false, false, None);
            machine.disk.repair();
            self.start(at)?;
            self.step(at)?;
        }
        Ok(())
    }

    /// Whether all members have the same and one of them serves; what is missing otherwise.
    pub(super) fn is_well(&mut self) -> Result<Option<String>, String> {
        let Some(leader) = self.leader() else {
            let all: Vec<String> =
                self.machines.iter().filter_map(|m| m.run.as_ref()).map(|r| r.core.summary()).collect();
            return Ok(Some(format!("nobody leads: {all:#?}")));
        };
        let Some(run) = &self.machines[leader].run else { return Ok(None) };
        if run.core.node().members().voters.len() > 1 && run.core.applied().index == 0 {
            return Ok(Some("nothing is applied".into()));
        }
        let (applied, hash) = (run.core.applied().index, run.core.state_hash());
        let conf = run.core.node().members();
        for id in conf.voters.iter().chain(&conf.learners) {
            // One that was added by a leader that could not say so any more was never started.
            let Some(machine) = self.places.get(&MemberId(*id)).map(|at| &self.machines[*at]) else { continue };
            let Some(other) = machine.run.as_ref().filter(|_| !machine.gone) else { continue };
            if (other.core.applied().index, other.core.state_hash()) != (applied, hash) {
                return Ok(Some(format!("{}; {}", run.core.summary(), other.core.summary())));
            }
            self.checks.holds_all(&other.meta.state(), MemberId(*id))?;
        }
        if !self.final_answered() {
            return Ok(Some("no request after the faults was answered with success".into()));
        }
        for machine in &self.machines {
            if let Some(run) = &machine.run {
                self.counts.hashes += run.meta.group_counts().hashes_compared;
            }
        }
        Ok(None)
    }

    /// Kills the leader of a quiet cluster. For how many milliseconds nobody gets a timestamp.
    pub(super) fn silence_after_kill(mut self) -> Result<u64, String> {
        self.run_until(self.now + 10 * SECOND)?;
        let leader = self.leader().ok_or("nobody leads")?;
        self.machines[leader].gone = true;
        self.machines[leader].run = None;
        self.forget_requests(leader);
        let (killed, before) = (self.now, self.counts.timestamps);
        while self.counts.timestamps == before && self.now < killed + PATIENCE {
            self.happen()?;
        }
        Ok((self.now - killed) / MS)
    }

    /// Runs a world; a panic in it is an error as well.
    pub(super) fn outcome(plan: Plan) -> Result<Counts, String> {
        Self::outcome_of(|| World::new(plan).run())
    }

    /// As [`Self::outcome`], of what is to be done in it.
    pub(super) fn outcome_of<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let result = catch_unwind(AssertUnwindSafe(run));
        result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        })
    }
}
