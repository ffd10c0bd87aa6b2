//! [`Host`]: the thin loop around [`Node`] and the machine, and the disk thread beside it.
//!
//! Owns: the order persist → commit → apply → tell → answer, group commit (what comes in while the disk syncs is written in one go),
//! flush before cut, beginning and end of serving. Must not know: what commands mean, who waits.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use super::{
    Clock, MetaError, OpenError, Options, RaftTimings,
    disk::{Applied, DiskError, Held, LogFile, LogWrite, Owner, StateFile, Truncated, open_files},
    handle::{Answer, Ended, Event, Leadership, MAX_QUEUE, Shared},
    machine::{Action, Change, Command, Envelope, Member, Reply, State, execute},
    raft::{Committed, Input, Node, NodeOptions, Output, Persist, Wanted},
    writer::{Job, write_to_disk},
};
use crate::model::{ClusterId, MemberId, Mono};

/// Most events taken in one round. A bound on how long one round keeps the tick waiting.
const MAX_BATCH: usize = 1024;

/// What is applied of one round: written to the state file in one transaction.
#[derive(Default)]
struct Batch {
    actions: Vec<Action>,
    changes: Vec<Change>,
    answers: Vec<Outcome>,
}

/// What the proposer of a ticket gets, once what it proposed is in the state file.
struct Outcome {
    ticket: u64,
    answer: Answer,
    outcome: Result<Reply, MetaError>,
}

/// Runs raft and the machine. See [`super::Meta::open`].
pub struct Host {
    shared: Arc<Shared>,
    log: slog::Logger,
    timings: RaftTimings,
    this: Member,
    node: Node,
    events: Receiver<Event>,
    /// For the disk thread.
    sender: SyncSender<Event>,
    log_file: Arc<LogFile>,
    state_file: Arc<StateFile>,
    state: State,
    applied: Applied,
    /// Term of the last entry applied that a new leader begins its term with.
    begun_term: u64,
    /// Term in which the introduction of this member was proposed.
    introduced_term: u64,
    /// Where the log was cut last.
    cut_at: u64,
    /// The disk thread is busy with one job at a time; these are next.
    disk_busy: bool,
    next_write: Option<(LogWrite, u64)>,
    /// A flush of the state is under way, after which the log is cut here. Nothing is applied meanwhile: it would wait for the disk.
    flushing: Option<Truncated>,
    flush_wanted: bool,
    committed: VecDeque<Committed>,
    pending: BTreeMap<u64, Answer>,
    _lock: Box<dyn Held>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("applied", &self.applied.index).finish_non_exhaustive()
    }
}

/// A running [`Host`]. Dropping it stops the host.
#[derive(Debug)]
pub struct HostHandle {
    sender: SyncSender<Event>,
    thread: Option<JoinHandle<()>>,
}

impl HostHandle {
    /// Ends the host in order: waiting callers are answered, what was applied is put on disk. Returns when it is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Errors mean that it has ended already.
        drop(self.sender.send(Event::Stop));
        drop(thread.join());
    }
}

impl Drop for HostHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl Host {
    pub(super) fn open(
        options: Options,
        clock: Arc<dyn Clock>,
        log: slog::Logger,
    ) -> Result<(Arc<Shared>, Host), OpenError> {
        let lock = options
            .backend
            .lock()
            .map_err(|source| OpenError::Io { file: options.dir.display().to_string(), source })?;
        let lock = lock.ok_or_else(|| OpenError::Locked(options.dir.clone()))?;
        let files = open_files(&*options.backend, options.caches, fresh_owner(&options, &*clock), &log)?;
        let (owner, applied, state) = (files.owner, files.loaded_state.applied, files.loaded_state.state);
        if let Some(cluster) = state.cluster.as_ref().filter(|c| c.id != owner.cluster) {
            return Err(OpenError::Mixed {
                file: super::STATE_FILE.into(),
                found: format!("cluster {}", cluster.id),
                expected: format!("cluster {}", owner.cluster),
            });
        }
        let cut_at = files.loaded_log.cut.index;
        let node = Node::new(
            NodeOptions {
                id: owner.member,
                log: files.loaded_log,
                applied: applied.index,
                conf: applied.conf.clone(),
                election_ticks: options.raft.election_ticks as usize,
            },
            &log,
        )?;
        let (sender, events) = sync_channel(MAX_QUEUE);
        let shared = Arc::new(Shared::new(&options, owner, clock, Arc::new(state.clone()), sender.clone()));
        let info = options.member;
        let this = Member {
            id: owner.member,
            name: info.name,
            client_urls: info.client_urls,
            peer_urls: info.peer_urls,
            deploy_path: info.deploy_path,
            binary_version: info.binary_version,
            git_hash: info.git_hash,
            leader_priority: state.members.get(&owner.member).map_or(0, |m| m.leader_priority),
        };
        let host = Host {
            shared: shared.clone(),
            log,
            timings: options.raft,
            this,
            node,
            events,
            sender,
            log_file: Arc::new(files.log),
            state_file: Arc::new(files.state),
            state,
            applied,
            begun_term: 0,
            introduced_term: 0,
            cut_at,
            disk_busy: false,
            next_write: None,
            flushing: None,
            flush_wanted: false,
            committed: VecDeque::new(),
            pending: BTreeMap::new(),
            _lock: lock,
        };
        Ok((shared, host))
    }

    /// Runs on threads of its own.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn spawn(self) -> Result<HostHandle, OpenError> {
        let sender = self.sender.clone();
        let thread = std::thread::Builder::new()
            .name("meta-raft".into())
            .spawn(move || self.run())
            .map_err(OpenError::Thread)?;
        Ok(HostHandle { sender, thread: Some(thread) })
    }

    fn run(mut self) {
        let _guard = HostGuard(self.shared.clone());
        // One job is under way and one waits, so that handing one over never blocks.
        let (jobs, todo) = sync_channel(2);
        let (log_file, state_file, sender) = (self.log_file.clone(), self.state_file.clone(), self.sender.clone());
        let disk = std::thread::Builder::new()
            .name("meta-disk".into())
            .spawn(move || write_to_disk(&todo, &log_file, &state_file, &sender));
        let end = match disk {
            Ok(disk) => {
                let end = self.drive(&jobs);
                drop(jobs);
                self.end(end);
                // It may be waiting for room in the queue; without a queue it stops waiting.
                drop(self.events);
                drop(disk.join());
                return;
            }
            Err(e) => Ended::Failed(e.to_string().into()),
        };
        self.end(end);
    }

    /// The loop. Returns why it ended.
    fn drive(&mut self, jobs: &SyncSender<Job>) -> Ended {
        let first = if self.node.is_alone() { vec![Input::Campaign] } else { vec![] };
        if let Err(ended) = self.round(first, jobs) {
            return ended;
        }
        let mut tick_at = self.shared.clock.now().mono.plus(self.timings.tick);
        loop {
            let now = self.shared.clock.now().mono;
            let mut inputs = vec![];
            if now >= tick_at {
                // One, however long the pause was: ticks that burst would take a pause of this member for silence of the others.
                inputs.push(Input::Tick);
                tick_at = now.plus(self.timings.tick);
                if self.node.is_leader() && !self.node.is_alone() {
                    inputs.push(Input::Confirm(now.0.to_le_bytes().to_vec()));
                }
            }
            match self.events.recv_timeout(tick_at.since(now)) {
                Ok(event) => {
                    let more: Vec<Event> = self.events.try_iter().take(MAX_BATCH).collect();
                    if let Err(ended) = self.take_all(std::iter::once(event).chain(more), &mut inputs) {
                        return ended;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ended::Stopped,
            }
            if let Err(ended) = self.round(inputs, jobs) {
                return ended;
            }
        }
    }

    fn take_all(&mut self, events: impl Iterator<Item = Event>, inputs: &mut Vec<Input>) -> Result<(), Ended> {
        let mut result = Ok(());
        for event in events {
            match event {
                // Whoever asked in the moment of the end is told why, too.
                Event::Propose { ticket, answer, .. } if result.is_err() => _ = self.pending.insert(ticket, answer),
                event if result.is_ok() => result = self.take(event, inputs),
                _ => {}
            }
        }
        result
    }

    fn take(&mut self, event: Event, inputs: &mut Vec<Input>) -> Result<(), Ended> {
        match event {
            Event::Propose { ticket, data, answer } => {
                self.pending.insert(ticket, answer);
                inputs.push(Input::Propose { ticket, data });
            }
            Event::Persisted(number) => {
                self.disk_is_free();
                inputs.push(Input::Persisted(number));
            }
            Event::Flushed => {
                self.disk_is_free();
                if let Some(cut) = self.flushing.take() {
                    self.cut_at = cut.index;
                    inputs.push(Input::Cut(cut));
                }
            }
            Event::DiskFailed(what) => return Err(Ended::Failed(what)),
            Event::Stop => return Err(Ended::Stopped),
        }
        Ok(())
    }

    /// Has raft take in what happened and does what it wants, until it wants nothing more.
    fn round(&mut self, mut inputs: Vec<Input>, jobs: &SyncSender<Job>) -> Result<(), Ended> {
        loop {
            let Output { send: _, persist, committed, dropped, confirmed } = self.node.step(inputs);
            // `send` is empty: the group has one member, and messages reach others only once members can join.
            for Persist { number, write, then_send: _ } in persist {
                match &mut self.next_write {
                    Some((waiting, last)) => {
                        waiting.merge(write);
                        *last = number.max(*last);
                    }
                    None => self.next_write = Some((write, number)),
                }
            }
            self.drop_proposals(&dropped);
            self.confirm_lease(&confirmed);
            self.committed.extend(committed);
            self.give_job(jobs);
            inputs = self.apply()?;
            self.follow_leadership(&mut inputs);
            if inputs.is_empty() {
                return Ok(());
            }
        }
    }

    /// Gives the disk thread its next job, if it has none.
    fn give_job(&mut self, jobs: &SyncSender<Job>) {
        if self.disk_busy {
            return;
        }
        // A commit index alone can wait for the next entries. (Other members may wait for what is sent after it.)
        let alone = self.node.is_alone();
        let job = if std::mem::take(&mut self.flush_wanted) {
            Job::FlushState
        } else if let Some((write, number)) = self.next_write.take_if(|(w, _)| w.sync || w.cut.is_some() || !alone) {
            Job::Write { write, number }
        } else {
            return;
        };
        // A disk thread that is gone has told why in an event.
        self.disk_busy = jobs.try_send(job).is_ok();
        if self.disk_busy {
            self.shared.disk_job.begin(self.now());
        }
    }

    fn disk_is_free(&mut self) {
        self.disk_busy = false;
        self.shared.disk_job.end();
    }

    fn drop_proposals(&mut self, tickets: &[u64]) {
        for ticket in tickets {
            if let Some(answer) = self.pending.remove(ticket) {
                answer(Err(if self.node.is_leader() { MetaError::Busy } else { self.shared.not_leader() }));
            }
        }
    }

    fn confirm_lease(&self, confirmed: &[Vec<u8>]) {
        let election = self.timings.tick * self.timings.election_ticks;
        for stamp in confirmed.iter().filter_map(|c| c.as_slice().try_into().ok()) {
            if self.shared.serving.load(Ordering::Acquire) {
                self.shared.lease.confirm(Mono(u64::from_le_bytes(stamp)), election);
            }
        }
    }

    /// Applies what is committed: state file first, then the state that others see, then observers, then answers.
    fn apply(&mut self) -> Result<Vec<Input>, Ended> {
        if self.flushing.is_some() || self.committed.is_empty() {
            return Ok(vec![]);
        }
        let mut batch = Batch::default();
        if let Err(ended) = self.execute_all(&mut batch).and_then(|()| self.write_state(&batch)) {
            // They wait for the end like everybody else, and are told its reason there.
            self.pending.extend(batch.answers.into_iter().map(|o| (o.ticket, o.answer)));
            return Err(ended);
        }
        self.shared.state.store(Arc::new(self.state.clone()));
        for change in &batch.changes {
            if let Change::TsoWindow(upper) = change {
                self.shared.tso.lifted(*upper);
            }
            self.shared.tell(change);
        }
        for Outcome { answer, outcome, .. } in batch.answers {
            answer(outcome);
        }
        if self.applied.index.saturating_sub(self.cut_at) >= self.timings.compact_every + self.timings.compact_keep
            && let Some(cut) = self.node.cut_point(self.applied.index, self.timings.compact_keep)
        {
            self.flushing = Some(cut);
            self.flush_wanted = true;
        }
        Ok(vec![Input::Applied(self.applied.index)])
    }

    fn execute_all(&mut self, batch: &mut Batch) -> Result<(), Ended> {
        while let Some(entry) = self.committed.pop_front() {
            self.apply_entry(entry, batch)?;
        }
        Ok(())
    }

    fn write_state(&self, batch: &Batch) -> Result<(), Ended> {
        self.shared.state_write.begin(self.now());
        let written = self.state_file.write(&batch.actions, &self.applied, self.state.hash);
        self.shared.state_write.end();
        written.map_err(|e| failed(&e))
    }

    fn apply_entry(&mut self, entry: Committed, batch: &mut Batch) -> Result<(), Ended> {
        (self.applied.index, self.applied.term) = (entry.index, entry.term);
        match entry.wanted {
            Wanted::Nothing => self.begun_term = entry.term,
            Wanted::Members(conf) => self.applied.conf = conf,
            Wanted::Data(data) => {
                let envelope = Envelope::decode(&data)
                    .map_err(|e| Ended::Failed(format!("entry {} of the log: {e}", entry.index).into()))?;
                self.apply_command(envelope, batch);
            }
        }
        Ok(())
    }

    fn apply_command(&mut self, envelope: Envelope, batch: &mut Batch) {
        let Envelope { origin, ticket, now, command } = envelope;
        let own = origin == self.shared.origin;
        let outcome = match execute(&mut self.state, now, &command) {
            Ok((plan, changes)) => {
                batch.actions.extend(plan.actions);
                batch.changes.extend(changes);
                self.shared.ids.agreed(self.state.id_end);
                match &plan.reply {
                    // Only who took them, and still leads, may hand them out.
                    Reply::Ids { first, last } if own && self.shared.serving.load(Ordering::Acquire) => {
                        self.shared.ids.add(*first, *last);
                    }
                    _ if matches!(command, Command::RebaseIds { .. }) => self.shared.ids.clear(),
                    _ => {}
                }
                Ok(plan.reply)
            }
            Err(refusal) => Err(MetaError::Refused(refusal)),
        };
        if own && let Some(answer) = self.pending.remove(&ticket) {
            batch.answers.push(Outcome { ticket, answer, outcome });
        }
    }

    /// Begins to serve when this member leads and has applied everything before its term, ends when it does not lead any more.
    fn follow_leadership(&mut self, inputs: &mut Vec<Input>) {
        let (leads, term) = (self.node.is_leader(), self.node.term());
        let before = *self.shared.leadership.lock();
        if before.serving && !(leads && before.term == term) {
            self.shared.close();
            for (_, answer) in std::mem::take(&mut self.pending) {
                answer(Err(MetaError::Unknown));
            }
            self.set_leadership(Leadership { leader: self.node.leader(), serving: false, term, since: self.now() });
        } else if leads && !before.serving && self.begun_term == term && self.committed.is_empty() {
            if self.introduced_term != term {
                self.introduced_term = term;
                inputs.extend(self.introduction());
            }
            let known =
                self.state.cluster.is_some() && self.state.members.get(&self.this.id).is_some_and(|m| **m == self.this);
            if known {
                self.begin_serving(term);
            }
        } else if !leads && before.leader != self.node.leader() {
            self.set_leadership(Leadership { leader: self.node.leader(), serving: false, term, since: self.now() });
        }
    }

    fn now(&self) -> Mono {
        self.shared.clock.now().mono
    }

    /// Proposals that make the cluster and this member known, as far as they are not.
    fn introduction(&self) -> Vec<Input> {
        let cluster_id = self.shared.owner.cluster;
        let mut commands = vec![];
        if self.state.cluster.is_none() {
            commands.push(Command::InitCluster { cluster_id });
        }
        if self.state.members.get(&self.this.id).is_none_or(|m| **m != self.this) {
            commands.push(Command::UpdateMember(self.this.clone()));
        }
        let input = |command| {
            let ticket = self.shared.next_ticket();
            self.shared.encode(ticket, command).map(|data| Input::Propose { ticket, data })
        };
        let inputs: Result<Vec<_>, _> = commands.into_iter().map(input).collect();
        inputs.unwrap_or_else(|e| {
            slog::error!(self.log, "this member cannot be made known"; "error" => %e);
            vec![]
        })
    }

    fn begin_serving(&mut self, term: u64) {
        self.shared.ids.clear();
        self.shared.tso.open_above(self.state.tso_upper_ms);
        if self.node.is_alone() {
            self.shared.lease.grant_alone();
        }
        self.set_leadership(Leadership { leader: Some(self.this.id), serving: true, term, since: self.now() });
        slog::info!(self.log, "this member leads"; "term" => term, "applied" => self.applied.index);
    }

    fn set_leadership(&self, leadership: Leadership) {
        let Leadership { leader, serving, term, since } = leadership;
        *self.shared.leadership.lock() = leadership;
        self.shared.serving.store(serving, Ordering::Release);
        self.shared.leadership_changed.notify_all();
        self.shared.tell(&Change::LeaderChanged { leader, is_self: serving, term, since });
    }

    /// No call is answered with success from here on.
    fn end(&mut self, ended: Ended) {
        // Set here alone, and first: whoever is refused from here on is told why.
        drop(self.shared.ended.set(ended.clone()));
        self.shared.close();
        let error = match &ended {
            Ended::Stopped => MetaError::Stopped,
            Ended::Failed(what) => MetaError::Disk(what.clone()),
        };
        if let Ended::Failed(what) = &ended {
            slog::crit!(self.log, "the log or the state cannot be written any more"; "error" => %what);
        }
        let waiting = std::mem::take(&mut self.pending).into_values();
        let queued = self.events.try_iter().filter_map(|event| match event {
            Event::Propose { answer, .. } => Some(answer),
            Event::Persisted(_) | Event::Flushed | Event::DiskFailed(_) | Event::Stop => None,
        });
        for answer in waiting.chain(queued.collect::<Vec<_>>()) {
            answer(Err(error.clone()));
        }
        self.set_leadership(Leadership { leader: None, serving: false, term: self.node.term(), since: self.now() });
        match ended {
            Ended::Failed(what) => self.shared.tell(&Change::Failed(what)),
            Ended::Stopped => {
                if let Err(e) = self.state_file.flush() {
                    slog::warn!(self.log, "the state was not put on disk, the log will be applied again"; "error" => %e);
                }
            }
        }
    }
}

/// Ends serving also when the host's thread panics: an observer did, or there is a fault here.
struct HostGuard(Arc<Shared>);

impl Drop for HostGuard {
    fn drop(&mut self) {
        let ended = Ended::Failed("the thread that applies the log has ended unexpectedly".into());
        if self.0.ended.set(ended).is_ok() {
            self.0.close();
            self.0.leadership.lock().serving = false;
            self.0.leadership_changed.notify_all();
        }
    }
}

fn failed(e: &DiskError) -> Ended {
    Ended::Failed(e.to_string().into())
}

/// Ids for a first start: the cluster's as PD makes it, seconds above 32 random bits.
fn fresh_owner(options: &Options, clock: &dyn Clock) -> Owner {
    let seconds = clock.now().wall.unix_seconds().cast_unsigned();
    let cluster = (seconds << 32) | (options.entropy & u64::from(u32::MAX));
    // Never 0, and not guessable from the cluster's.
    let member = options.entropy.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seconds;
    Owner { cluster: ClusterId(cluster.max(1)), member: MemberId(member.max(1)) }
}
