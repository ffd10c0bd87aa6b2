//! [`Core`]: one member as a step function. What happened goes in; a job for the disk and messages for others come out.
//!
//! Owns: the rounds of raft, disk and machine. Must not know: threads, queues, how bytes travel. Time comes from the clock it was given.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{group::Peers, hashes::Hashes, lead::Transfer, promise::Promises, send::Queued};
use crate::{
    meta::{
        Clock, LOG_FILE, MemberInfo, MetaError, OpenError, Options, RaftTimings, STATE_FILE,
        bugs::{Bug, Bugs},
        disk::{Applied, Held, LogFile, Owner, StateFile, Truncated, open_files},
        force,
        handle::{Latest, Shared},
        machine::{Change, Member, State},
        membership::{FirstGroup, Founding, first_group},
        peer::Body,
        queue::{Answer, Ended, Event, Queue},
        raft::{Committed, Input, Node, NodeOptions, Output},
        snapshot::Received,
        writer::Job,
    },
    model::{ClusterId, MemberId, Mono},
};
use raft::eraftpb::ConfState;

/// What is to be done for the core.
#[derive(Debug, Default)]
pub(in crate::meta) struct Todo {
    /// For the disk; what came of it comes back as an event. There is one job at a time.
    pub(in crate::meta) job: Option<Job>,
    /// For other members, in this order.
    pub(in crate::meta) send: Vec<(MemberId, Vec<u8>)>,
    /// It is over.
    pub(in crate::meta) ended: Option<Ended>,
}

/// See the module.
pub(in crate::meta) struct Core {
    pub(in crate::meta) shared: Arc<Shared>,
    pub(super) log: slog::Logger,
    pub(super) timings: RaftTimings,
    pub(super) this: Member,
    /// The members that the group begins with; the first leader makes them known.
    pub(super) founders: Vec<Member>,
    pub(super) node: Node,
    pub(in crate::meta) log_file: Arc<LogFile>,
    pub(in crate::meta) state_file: Arc<StateFile>,
    pub(super) state: State,
    pub(super) applied: Applied,
    /// Term of the last entry applied that a new leader begins its term with.
    pub(super) begun_term: u64,
    /// Term in which the introduction of this member was proposed.
    pub(super) introduced_term: u64,
    /// Where the log was cut last.
    pub(super) cut_at: u64,
    pub(super) tick_at: Mono,
    /// The disk is busy with one job at a time; these are next.
    pub(super) disk_busy: bool,
    pub(super) queued: VecDeque<Queued>,
    /// What may be sent when the write under way is done.
    pub(super) then_send: Vec<raft::eraftpb::Message>,
    /// A flush of the state is under way, after which the log is cut here. Nothing is applied meanwhile: it would wait for the disk.
    pub(super) flushing: Option<Truncated>,
    pub(super) flush_wanted: bool,
    /// A received state is on its way to disk; nothing is applied meanwhile.
    pub(super) installing: bool,
    /// A state that raft has been told of.
    pub(super) received: Option<Received>,
    pub(super) committed: VecDeque<Committed>,
    pub(super) pending: BTreeMap<u64, Answer>,
    /// The term in which this member serves, or did until it began to hand over.
    pub(super) leading: Option<u64>,
    pub(super) transfer: Option<Transfer>,
    pub(super) peers: Peers,
    pub(super) promises: Promises,
    pub(super) hashes: Hashes,
    pub(super) bugs: Bugs,
    pub(super) out: Todo,
    _lock: Box<dyn Held>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("applied", &self.applied.index).finish_non_exhaustive()
    }
}

/// Ids and members for a first start.
struct Beginning {
    owner: Owner,
    conf: ConfState,
    members: Vec<Member>,
}

fn beginning(founding: &Founding, options: &Options, clock: &dyn Clock) -> Result<Beginning, OpenError> {
    let voters =
        |members: &[Member]| ConfState { voters: members.iter().map(|m| m.id.0).collect(), ..ConfState::default() };
    Ok(match founding {
        Founding::Alone => {
            let owner = fresh_owner(options, clock);
            let conf = ConfState { voters: vec![owner.member.0], ..ConfState::default() };
            Beginning { owner, conf, members: vec![] }
        }
        Founding::Initial { members, token } => {
            let FirstGroup { cluster, members } = first_group(members, token, &options.member.name)?;
            let this = members.iter().find(|m| m.name == options.member.name).map(|m| m.id).unwrap_or_default();
            Beginning { owner: Owner { cluster, member: this }, conf: voters(&members), members }
        }
        // Who is in the group it learns with the state.
        Founding::Join { cluster, member } => Beginning {
            owner: Owner { cluster: *cluster, member: *member },
            conf: ConfState::default(),
            members: vec![],
        },
    })
}

/// What a core is made of besides [`Options`].
pub(in crate::meta) struct CoreOptions {
    pub(in crate::meta) options: Options,
    pub(in crate::meta) founding: Founding,
    pub(in crate::meta) bugs: Bugs,
}

impl Core {
    pub(in crate::meta) fn open(
        core_options: CoreOptions,
        clock: Arc<dyn Clock>,
        queue: Box<dyn Queue>,
        log: slog::Logger,
    ) -> Result<Core, OpenError> {
        let CoreOptions { options, founding, bugs } = core_options;
        let lock = options
            .backend
            .lock()
            .map_err(|source| OpenError::Io { file: options.dir.display().to_string(), source })?;
        let lock = lock.ok_or_else(|| OpenError::Locked(options.dir.clone()))?;
        let begin = beginning(&founding, &options, &*clock)?;
        let had_data =
            options.backend.exists(LOG_FILE).map_err(|source| OpenError::Io { file: LOG_FILE.into(), source })?;
        let mut files = open_files(&*options.backend, options.caches, begin.owner, &begin.conf, &log)?;
        if options.force_new && had_data && force::alone(&mut files, options.entropy, clock.now().wall)? {
            slog::warn!(log, "this member goes on as the only one of its group, all others are removed";
                "member" => files.owner.member.0, "last-entry" => files.loaded_log.hard.commit);
        }
        let (owner, applied, state) = (files.owner, files.loaded_state.applied, files.loaded_state.state);
        check_cluster(&state, owner)?;
        let cut_at = files.loaded_log.cut.index;
        let now = clock.now().mono;
        let promises = Promises::open(&files.log, &options.raft, bugs, now)?;
        let start_ticks = options.raft.election_ticks.max(options.raft.ticks_for(promises.kept()));
        let node = Node::new(
            NodeOptions {
                id: owner.member,
                log: files.loaded_log,
                applied: applied.clone(),
                election_ticks: options.raft.election_ticks as usize,
                start_ticks: start_ticks as usize,
                seed: options.entropy ^ owner.member.0,
                bugs,
            },
            &log,
        )?;
        let latest = Latest { state: Arc::new(state.clone()), index: applied.index, term: applied.term };
        let shared = Arc::new(Shared::new(&options, owner, clock, latest, queue, bugs));
        let core = Core {
            shared,
            log,
            timings: options.raft,
            this: member_of(owner, options.member),
            founders: begin.members,
            node,
            log_file: Arc::new(files.log),
            state_file: Arc::new(files.state),
            state,
            applied,
            begun_term: 0,
            introduced_term: 0,
            cut_at,
            tick_at: now.plus(options.raft.tick),
            disk_busy: false,
            queued: VecDeque::new(),
            then_send: vec![],
            flushing: None,
            flush_wanted: false,
            installing: false,
            received: None,
            committed: VecDeque::new(),
            pending: BTreeMap::new(),
            leading: None,
            transfer: None,
            peers: Peers::default(),
            promises,
            hashes: Hashes::default(),
            bugs,
            out: Todo::default(),
            _lock: lock,
        };
        core.show_group();
        Ok(core)
    }

    pub(super) fn now(&self) -> Mono {
        self.shared.clock.now().mono
    }

    /// When it wants to be stepped even if nothing happens.
    pub(in crate::meta) fn wake_at(&self) -> Mono {
        self.tick_at
    }

    /// The first step.
    pub(in crate::meta) fn start(&mut self) -> Todo {
        self.tick_at = self.now().plus(self.timings.tick);
        let first = if self.node.is_alone() { vec![Input::Campaign] } else { vec![] };
        self.finish(first)
    }

    /// Takes in what happened, and the time.
    pub(in crate::meta) fn step(&mut self, events: impl IntoIterator<Item = Event>) -> Todo {
        let mut inputs = vec![];
        let unfit = self.unfit(self.now()).is_some();
        self.node.hold_back(unfit);
        self.tick(&mut inputs);
        match self.take_all(events, &mut inputs) {
            Ok(()) => self.finish(inputs),
            Err(ended) => {
                self.out.ended = Some(ended);
                std::mem::take(&mut self.out)
            }
        }
    }

    fn finish(&mut self, inputs: Vec<Input>) -> Todo {
        self.out.ended = self.round(inputs).err();
        std::mem::take(&mut self.out)
    }

    fn tick(&mut self, inputs: &mut Vec<Input>) {
        let now = self.now();
        if now < self.tick_at {
            return;
        }
        // One, however long the pause was: ticks that burst would take a pause of this member for silence of the others.
        inputs.push(Input::Tick);
        self.tick_at = now.plus(self.timings.tick);
        self.lead_on(now, inputs);
        self.tick_sending(now, inputs);
        self.make_known(now, inputs);
        self.tick_hashes(now);
    }

    fn take_all(&mut self, events: impl IntoIterator<Item = Event>, inputs: &mut Vec<Input>) -> Result<(), Ended> {
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
                self.shared.proposals_waiting.leave(data.len());
                let answer = self.answered_early(answer);
                self.pending.insert(ticket, answer);
                inputs.push(Input::Propose { ticket, data });
            }
            Event::Members { ask, answer } => self.change_members(ask, answer, inputs),
            Event::Transfer { to, answer } => self.begin_transfer(to, Some(answer), inputs),
            Event::Peer { message, size } => {
                self.shared.messages_waiting.leave(size);
                self.hear(message, inputs);
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
            Event::Installed(install) => {
                self.disk_is_free();
                self.installed(*install, inputs);
            }
            Event::DiskFailed(what) => return Err(Ended::Failed(what)),
            Event::Stop => return Err(Ended::Stopped),
        }
        Ok(())
    }

    /// The answer as it is; see [`Bug::AnswerBeforeCommit`].
    fn answered_early(&self, answer: Answer) -> Answer {
        if !self.bugs.has(Bug::AnswerBeforeCommit) {
            return answer;
        }
        answer(Ok(crate::meta::machine::Reply::Done));
        Box::new(|_| {})
    }

    /// Has raft take in what happened and does what it wants, until it wants nothing more.
    fn round(&mut self, mut inputs: Vec<Input>) -> Result<(), Ended> {
        loop {
            let Output { send, persist, committed, dropped, confirmed } = self.node.step(inputs);
            // Before anything is sent: who does not lead any more must not serve when others learn of it.
            self.follow_lease();
            inputs = vec![];
            self.send_raft(send, &mut inputs);
            for persist in persist {
                self.queue_write(persist, &mut inputs)?;
            }
            if !self.installing {
                self.received = None;
            }
            self.drop_proposals(&dropped);
            self.confirm_lease(&confirmed);
            self.committed.extend(committed);
            self.shared.committed.store(self.node.committed_index(), std::sync::atomic::Ordering::Relaxed);
            self.give_job();
            inputs.extend(self.apply()?);
            self.follow_leadership(&mut inputs);
            if inputs.is_empty() {
                return Ok(());
            }
        }
    }

    fn drop_proposals(&mut self, tickets: &[u64]) {
        for ticket in tickets {
            if let Some(answer) = self.pending.remove(ticket) {
                let busy = self.node.is_leader() && self.transfer.is_none();
                answer(Err(if busy { MetaError::Busy } else { self.shared.not_leader() }));
            }
        }
    }

    /// No call is answered with success from here on; `queued` is what nobody will take in any more.
    pub(in crate::meta) fn end(&mut self, ended: &Ended, queued: impl IntoIterator<Item = Event>) {
        // Set here alone, and first: whoever is refused from here on is told why.
        drop(self.shared.ended.set(ended.clone()));
        self.shared.close();
        let error = match ended {
            Ended::Stopped => MetaError::Stopped,
            Ended::Failed(what) => MetaError::Disk(what.clone()),
        };
        if let Ended::Failed(what) = ended {
            slog::crit!(self.log, "the log or the state cannot be written any more"; "error" => %what);
        }
        for answer in std::mem::take(&mut self.pending).into_values() {
            answer(Err(error.clone()));
        }
        if let Some(answer) = self.transfer.take().and_then(|t| t.answer) {
            answer(Err(error.clone().into()));
        }
        for event in queued {
            match event {
                Event::Propose { answer, .. } => answer(Err(error.clone())),
                Event::Members { answer, .. } | Event::Transfer { answer, .. } => answer(Err(error.clone().into())),
                Event::Peer { .. }
                | Event::Persisted(_)
                | Event::Flushed
                | Event::Installed(_)
                | Event::DiskFailed(_)
                | Event::Stop => {}
            }
        }
        self.nobody_leads();
        match ended {
            Ended::Failed(what) => self.shared.tell(&Change::Failed(what.clone())),
            Ended::Stopped => {
                if let Err(e) = self.state_file.flush() {
                    slog::warn!(self.log, "the state was not put on disk, the log will be applied again"; "error" => %e);
                }
            }
        }
    }

    /// Tells all other members.
    pub(super) fn tell_members(&mut self, body: &Body) {
        let (conf, this) = (self.applied.conf.clone(), self.this.id);
        for id in conf.voters.iter().chain(&conf.learners).filter(|id| **id != this.0) {
            self.send_body(MemberId(*id), body);
        }
    }
}

#[cfg(test)]
impl Core {
    pub(in crate::meta) fn node(&self) -> &Node {
        &self.node
    }

    pub(in crate::meta) fn applied(&self) -> &Applied {
        &self.applied
    }

    pub(in crate::meta) fn state_hash(&self) -> u64 {
        self.state.hash
    }

    pub(in crate::meta) fn id(&self) -> MemberId {
        self.this.id
    }

    /// For messages about what went wrong.
    pub(in crate::meta) fn summary(&self) -> String {
        format!(
            "{} term {} leader {:?} applied {} committed {} waiting {} disk busy {} flushing {} installing {} \
             leading {:?} handing over {} begun {} introduced {} known {} followers {:?} sending {:?}",
            self.this.id,
            self.node.term(),
            self.node.leader(),
            self.applied.index,
            self.node.committed_index(),
            self.committed.len(),
            self.disk_busy,
            self.flushing.is_some(),
            self.installing,
            self.leading,
            self.transfer.is_some(),
            self.begun_term,
            self.introduced_term,
            self.is_known(),
            self.node.followers(),
            self.peers.sending.keys(),
        )
    }
}

/// The state file may not be that of another cluster.
fn check_cluster(state: &State, owner: Owner) -> Result<(), OpenError> {
    match state.cluster.as_ref().filter(|c| c.id != owner.cluster) {
        Some(cluster) => Err(OpenError::Mixed {
            file: STATE_FILE.into(),
            found: format!("cluster {}", cluster.id),
            expected: format!("cluster {}", owner.cluster),
        }),
        None => Ok(()),
    }
}

fn member_of(owner: Owner, info: MemberInfo) -> Member {
    Member {
        id: owner.member,
        name: info.name,
        client_urls: info.client_urls,
        peer_urls: info.peer_urls,
        deploy_path: info.deploy_path,
        binary_version: info.binary_version,
        git_hash: info.git_hash,
        leader_priority: 0,
    }
}

/// Ids for a first start: the cluster's as PD makes it, seconds above 32 random bits.
fn fresh_owner(options: &Options, clock: &dyn Clock) -> Owner {
    let seconds = clock.now().wall.unix_seconds().cast_unsigned();
    let cluster = (seconds << 32) | (options.entropy & u64::from(u32::MAX));
    // Never 0, and not guessable from the cluster's.
    let member = options.entropy.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seconds;
    Owner { cluster: ClusterId(cluster.max(1)), member: MemberId(member.max(1)) }
}
