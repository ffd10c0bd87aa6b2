//! [`Meta`]: the way in for everybody else.
//!
//! Owns: what can be asked, and how callers wait. Must not know: raft and disk; the [`Host`] behind the queue does.

mod group;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::{channel::oneshot, lock::Mutex as AsyncMutex};
use parking_lot::{Condvar, Mutex, RwLock};

pub use self::group::{Group, GroupCounts};
use super::{
    About, BackupParts, Clock, Host, ID_WINDOW, MAX_COMMAND_BYTES, MAX_IDS_AT_ONCE, MetaError, OpenError, Options,
    bugs::{Bug, Bugs},
    busy::Busy,
    disk::Owner,
    ids::Ids,
    lease::Lease,
    machine::{Change, Command, Envelope, Member, Reply, State, plan},
    membership::Founding,
    peer::{NoTransport, PeerCounts, Transport},
    queue::{Answer, Ended, Event, Queue, Rejected, Waiting},
    tso::{Grant, MAX_LOGICAL, Timestamp, Tso},
};
use crate::model::{ClusterId, MemberId, Mono};

/// How often a caller takes part in fetching a window before it is told that too much is going on. Each round somebody got ids, so that
/// a caller needs more than a few only under a flood.
const MAX_ROUNDS: usize = 64;

type Observer = Arc<dyn Fn(&Change) + Send + Sync>;

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Leadership {
    pub(super) leader: Option<MemberId>,
    /// This member leads and has applied everything before its term.
    pub(super) serving: bool,
    pub(super) term: u64,
    pub(super) since: Mono,
}

/// A state, and how far it goes.
#[derive(Clone, Debug)]
pub(super) struct Latest {
    pub(super) state: Arc<State>,
    /// The last entry applied in it.
    pub(super) index: u64,
    /// Its term.
    pub(super) term: u64,
}

/// What handle and host have in common.
pub(super) struct Shared {
    pub(super) owner: Owner,
    /// The mark of this run: tells own proposals from those of other members and runs.
    pub(super) origin: u64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: ArcSwap<State>,
    /// The same state, and how far it goes.
    pub(super) latest: ArcSwap<Latest>,
    pub(super) leadership: Mutex<Leadership>,
    pub(super) leadership_changed: Condvar,
    /// `leadership.serving`, to be read without a lock.
    pub(super) serving: AtomicBool,
    pub(super) lease: Lease,
    pub(super) tso: Tso,
    pub(super) ids: Ids,
    pub(super) ended: OnceLock<Ended>,
    /// The disk thread's job under way.
    pub(super) disk_job: Busy,
    /// The host's own write of what it applies.
    pub(super) state_write: Busy,
    /// Who is in the group.
    pub(super) group: ArcSwap<Group>,
    /// What other members sent and was refused.
    pub(super) peers: PeerCounts,
    /// Messages and proposals that wait in the queue.
    pub(super) messages_waiting: Waiting,
    pub(super) proposals_waiting: Waiting,
    /// The last entry that is known to be agreed on.
    pub(super) committed: AtomicU64,
    /// State hashes that were compared with those of other members, and those that differed.
    pub(super) hashes_compared: AtomicU64,
    pub(super) hashes_differ: AtomicU64,
    /// The state of this member is not that of the majority.
    pub(super) outvoted: AtomicBool,
    bugs: Bugs,
    observers: RwLock<Vec<Observer>>,
    pub(super) queue: Box<dyn Queue>,
    next_ticket: AtomicU64,
    /// One caller at a time fetches a window; the others wait for it.
    tso_gate: AsyncMutex<()>,
    ids_gate: AsyncMutex<()>,
    /// A window is being fetched ahead of need.
    tso_ahead: AtomicBool,
    ids_ahead: AtomicBool,
    /// The sequence of ids is being lifted.
    ids_lifting: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        options: &Options,
        owner: Owner,
        clock: Arc<dyn Clock>,
        latest: Latest,
        queue: Box<dyn Queue>,
        bugs: Bugs,
    ) -> Self {
        let ids = Ids::default();
        ids.agreed(latest.state.id_end);
        Self {
            owner,
            origin: options.entropy,
            clock,
            state: ArcSwap::new(latest.state.clone()),
            latest: ArcSwap::from_pointee(latest),
            leadership: Mutex::default(),
            leadership_changed: Condvar::new(),
            serving: AtomicBool::new(false),
            lease: Lease::default(),
            tso: Tso::new(options.tso_save_interval),
            ids,
            ended: OnceLock::new(),
            disk_job: Busy::default(),
            state_write: Busy::default(),
            group: ArcSwap::default(),
            peers: PeerCounts::default(),
            messages_waiting: Waiting::default(),
            proposals_waiting: Waiting::default(),
            committed: AtomicU64::new(0),
            hashes_compared: AtomicU64::new(0),
            hashes_differ: AtomicU64::new(0),
            outvoted: AtomicBool::new(false),
            bugs,
            observers: RwLock::default(),
            queue,
            next_ticket: AtomicU64::new(1),
            tso_gate: AsyncMutex::new(()),
            ids_gate: AsyncMutex::new(()),
            tso_ahead: AtomicBool::new(false),
            ids_ahead: AtomicBool::new(false),
            ids_lifting: AtomicBool::new(false),
        }
    }

    /// Calls every observer.
    pub(super) fn tell(&self, change: &Change) {
        // A copy, so that an observer may add another.
        let observers = self.observers.read().clone();
        for observer in &observers {
            observer(change);
        }
    }

    pub(super) fn next_ticket(&self) -> u64 {
        self.next_ticket.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn not_leader(&self) -> MetaError {
        let leader = self.leadership.lock().leader;
        let state = self.state.load();
        MetaError::NotLeader { leader: leader.and_then(|id| state.members.get(&id).cloned()) }
    }

    pub(super) fn ended_error(&self) -> Option<MetaError> {
        Some(match self.ended.get()? {
            Ended::Stopped => MetaError::Stopped,
            Ended::Failed(what) => MetaError::Disk(what.clone()),
        })
    }

    /// What is told when nobody is left to answer.
    fn why_ended(&self) -> MetaError {
        self.ended_error().unwrap_or(MetaError::Stopped)
    }

    fn rejected(&self, rejected: &Rejected) -> MetaError {
        match rejected {
            Rejected::Full(_) => MetaError::Busy,
            Rejected::Ended(_) => self.why_ended(),
        }
    }

    /// Whether the lease is held; see [`Bug::StaleLeader`].
    fn holds(&self, now: Mono) -> bool {
        self.lease.held(now) || (self.bugs.has(Bug::StaleLeader) && self.serving.load(Ordering::Acquire))
    }

    /// The bytes of a command, stamped. Whatever could not be read back never gets into the log.
    pub(super) fn encode(&self, ticket: u64, command: Command) -> Result<Vec<u8>, MetaError> {
        let envelope = Envelope { origin: self.origin, ticket, now: self.clock.now().wall, command };
        let data = envelope.encode().map_err(|e| MetaError::Malformed(e.to_string()))?;
        if data.len() > MAX_COMMAND_BYTES {
            return Err(MetaError::TooLarge { size: data.len(), max: MAX_COMMAND_BYTES });
        }
        Envelope::decode(&data).map_err(|e| MetaError::Malformed(e.to_string()))?;
        Ok(data)
    }

    /// Puts a command into the queue; the outcome goes to `answer`.
    fn submit(&self, command: Command, answer: Answer) {
        let (ticket, data) = match self.admit(command) {
            Ok(admitted) => admitted,
            Err(e) => return answer(Err(e)),
        };
        let size = data.len();
        if !self.proposals_waiting.enter(size) {
            return answer(Err(MetaError::Busy));
        }
        if let Err(rejected) = self.queue.try_send(Event::Propose { ticket, data, answer }) {
            self.proposals_waiting.leave(size);
            let error = self.rejected(&rejected);
            let (Rejected::Full(event) | Rejected::Ended(event)) = rejected;
            refuse(*event, error);
        }
    }

    /// Checks what can be checked before the log is bothered. The state includes all that was acknowledged, so that a refusal here is as
    /// good as one after agreeing.
    fn admit(&self, command: Command) -> Result<(u64, Vec<u8>), MetaError> {
        if let Some(ended) = self.ended_error() {
            return Err(ended);
        }
        if !self.serving.load(Ordering::Acquire) {
            return Err(self.not_leader());
        }
        plan(&self.state.load(), self.clock.now().wall, &command)?;
        let ticket = self.next_ticket();
        Ok((ticket, self.encode(ticket, command)?))
    }

    /// Proposes without waiting; `flag` is true while it is under way, and then nothing is done.
    fn fetch_ahead(self: &Arc<Self>, flag: fn(&Shared) -> &AtomicBool, command: Command) {
        if !flag(self).swap(true, Ordering::AcqRel) {
            let shared = self.clone();
            self.submit(command, Box::new(move |_| flag(&shared).store(false, Ordering::Release)));
        }
    }

    /// Has the sequence of ids lifted above what nodes show (D2): one proposal at a time, for the highest id shown until then.
    fn lift_ids(self: &Arc<Self>) {
        let Some(above) = self.ids.lift() else { return };
        if self.ids_lifting.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.clone();
        let then = move |outcome: Result<Reply, MetaError>| {
            shared.ids_lifting.swap(false, Ordering::AcqRel);
            // What was shown meanwhile. After a failure the next report asks again.
            if outcome.is_ok() {
                shared.lift_ids();
            }
        };
        self.submit(Command::RebaseIds { above }, Box::new(then));
    }

    /// Nothing is handed out from here on.
    pub(super) fn close(&self) {
        self.serving.store(false, Ordering::Release);
        self.lease.revoke();
        self.tso.close();
        self.ids.clear();
    }

    fn may_serve(&self, now: Mono) -> Result<(), MetaError> {
        if self.holds(now) { Ok(()) } else { Err(self.ended_error().unwrap_or_else(|| self.not_leader())) }
    }
}

fn refuse(event: Event, error: MetaError) {
    if let Event::Propose { answer, .. } = event {
        answer(Err(error));
    }
}

/// A handle on what is agreed; clones are cheap and mean the same. All methods may be called from any thread.
#[derive(Clone)]
pub struct Meta {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meta").field("owner", &self.shared.owner).finish_non_exhaustive()
    }
}

impl Meta {
    /// Opens the data folder, or makes a new cluster of one in an empty one. Nothing runs until the [`Host`] does.
    ///
    /// # Errors
    /// The folder is in use, or holds what cannot be used; see [`OpenError`].
    pub fn open(options: Options, clock: Arc<dyn Clock>, log: slog::Logger) -> Result<(Meta, Host), OpenError> {
        Self::open_member(options, Founding::Alone, Arc::new(NoTransport), clock, log)
    }

    /// Opens the data folder as one of several members. `founding` says how it begins when the folder is empty; what it sends to others
    /// goes to `transport`, and what they send comes by [`Self::receive`].
    ///
    /// # Errors
    /// As [`Self::open`], and [`OpenError::Founding`].
    pub fn open_member(
        options: Options,
        founding: Founding,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        log: slog::Logger,
    ) -> Result<(Meta, Host), OpenError> {
        let (shared, host) = Host::open(options, founding, transport, clock, log)?;
        Ok((Meta { shared }, host))
    }

    /// The handle of a core that somebody else drives.
    #[cfg(test)]
    pub(super) fn of(shared: Arc<Shared>) -> Meta {
        Meta { shared }
    }

    /// Agrees on `command`. Returns when it is on disk here and at a quorum, applied, and all observers have been told.
    ///
    /// # Errors
    /// [`MetaError::Refused`] when the machine refuses; then nothing has changed. [`MetaError::Unknown`] and [`MetaError::Stopped`] leave
    /// open whether it was done.
    pub async fn propose(&self, command: Command) -> Result<Reply, MetaError> {
        let (send, receive) = oneshot::channel();
        // The caller may be gone by then.
        self.shared.submit(command, Box::new(move |outcome| drop(send.send(outcome))));
        receive.await.unwrap_or_else(|_| Err(self.shared.why_ended()))
    }

    /// [`Self::propose`] for threads that may block. Not for observers: they are called by the thread that would have to answer.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub fn propose_blocking(&self, command: Command) -> Result<Reply, MetaError> {
        let (send, receive) = sync_channel(1);
        self.shared.submit(command, Box::new(move |outcome| drop(send.send(outcome))));
        receive.recv().unwrap_or_else(|_| Err(self.shared.why_ended()))
    }

    /// The applied state. It does not change under the caller's hands; the next call may return a newer one.
    pub fn state(&self) -> Arc<State> {
        self.shared.state.load_full()
    }

    /// The applied state on its way out. Taking it stops nobody, and what is written while it goes out is not in it.
    pub fn backup(&self) -> BackupParts {
        let Latest { state, index, term } = Latest::clone(&self.shared.latest.load());
        let (owner, made) = (self.shared.owner, self.shared.clock.now().wall);
        BackupParts::new(state, About { cluster: owner.cluster, member: owner.member, index, term, made, rows: 0 })
    }

    /// Has `observer` told of every change from now on, in the order of the log, before the proposer gets its answer. It is called by the
    /// thread that applies: it must be quick and must not wait for another proposal.
    pub fn observe(&self, observer: Box<dyn Fn(&Change) + Send + Sync>) {
        self.shared.observers.write().push(Arc::from(observer));
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.owner.cluster
    }

    /// Id of this member.
    pub fn member_id(&self) -> MemberId {
        self.shared.owner.member
    }

    /// Whether this member leads, has applied all that was agreed before, and holds its lease.
    pub fn is_leader(&self) -> bool {
        self.shared.serving.load(Ordering::Acquire) && self.shared.holds(self.shared.clock.now().mono)
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<Member> {
        let id = self.shared.leadership.lock().leader?;
        self.shared.state.load().members.get(&id).map(|m| Member::clone(m))
    }

    /// All members, by id.
    pub fn members(&self) -> Vec<Member> {
        self.shared.state.load().members.values().map(|m| Member::clone(m)).collect()
    }

    /// Since when this member leads; `None`: it does not.
    pub fn leader_since(&self) -> Option<Mono> {
        let leadership = self.shared.leadership.lock();
        leadership.serving.then_some(leadership.since)
    }

    /// Whether this member is the leader that the group has elected, whether it serves or not: also while it applies what was agreed
    /// before its term, and while it hands over. Of what is committed meanwhile nobody else learns first.
    pub fn is_elected(&self) -> bool {
        self.shared.leadership.lock().leader == Some(self.shared.owner.member)
    }

    /// The term of the group, as this member last saw it lead or be led.
    pub fn term(&self) -> u64 {
        self.shared.leadership.lock().term
    }

    /// Waits until this member leads and may serve; false after `timeout`, or when the host has ended.
    pub fn wait_until_leader(&self, timeout: Duration) -> bool {
        let mut leadership = self.shared.leadership.lock();
        let ended = |s: &Shared| s.ended.get().is_some();
        self.shared.leadership_changed.wait_while_for(&mut leadership, |l| !l.serving && !ended(&self.shared), timeout);
        leadership.serving
    }

    /// Why the disk is not to be trusted any more; the process should end when there is something here.
    pub fn failure(&self) -> Option<Arc<str>> {
        match self.shared.ended.get()? {
            Ended::Failed(what) => Some(what.clone()),
            Ended::Stopped => None,
        }
    }

    /// How long the disk has not answered; zero when nothing is asked of it.
    pub fn disk_stall(&self) -> Duration {
        let now = self.shared.clock.now().mono;
        self.shared.disk_job.lasts(now).max(self.shared.state_write.lasts(now))
    }

    /// Nothing is acknowledged or handed out from here on; [`Self::failure`] tells `why`. For a disk that hangs: the threads that wait
    /// for it cannot say so themselves.
    pub fn give_up(&self, why: &str) {
        if self.shared.ended.set(Ended::Failed(why.into())).is_ok() {
            self.shared.close();
            self.shared.leadership.lock().serving = false;
            self.shared.leadership_changed.notify_all();
        }
    }

    /// Takes `count` ids (0 counts as 1) and returns the last: the caller has `last - count + 1 ..= last`.
    ///
    /// # Errors
    /// [`MetaError::TooManyIds`] above [`MAX_IDS_AT_ONCE`], and those of [`Self::propose`].
    pub async fn alloc_ids(&self, count: u32) -> Result<u64, MetaError> {
        let shared = &self.shared;
        if count > MAX_IDS_AT_ONCE {
            return Err(MetaError::TooManyIds { count, max: MAX_IDS_AT_ONCE });
        }
        let count = u64::from(count);
        for _ in 0..MAX_ROUNDS {
            shared.may_serve(shared.clock.now().mono)?;
            if let Some(id) = self.take_ids(count) {
                return Ok(id);
            }
            let _first = shared.ids_gate.lock().await;
            if let Some(id) = self.take_ids(count) {
                return Ok(id);
            }
            shared.lift_ids();
            self.propose(Command::AllocIdWindow { size: ID_WINDOW.max(count) }).await?;
        }
        Err(MetaError::Busy)
    }

    /// Has ids in hand, for those who cannot wait for one. Done also before nodes are heard: tools number the first stores and
    /// regions of a cluster themselves, from 1 up, and ask for ids afterwards as if those were none; PD gives them the same numbers
    /// again.
    ///
    /// # Errors
    /// Those of [`Self::propose`].
    pub async fn fill_ids(&self) -> Result<(), MetaError> {
        for _ in 0..MAX_ROUNDS {
            if !self.shared.ids.is_empty() {
                return Ok(());
            }
            self.shared.lift_ids();
            self.propose(Command::AllocIdWindow { size: ID_WINDOW }).await?;
        }
        Err(MetaError::Busy)
    }

    /// A node uses ids up to `highest`. When that lies above all that was agreed to be taken, the sequence is lifted above it: an id in
    /// use is never given out (D2). Does not wait, and locks nothing in the common case.
    pub fn show_id(&self, highest: u64) {
        if self.shared.ids.show(highest) {
            self.shared.lift_ids();
        }
    }

    /// One id without waiting; `None` when there is none in hand (one will be, soon) or this member may not serve.
    pub fn try_alloc_id(&self) -> Option<u64> {
        self.shared.may_serve(self.shared.clock.now().mono).ok()?;
        self.take_ids(1)
    }

    fn take_ids(&self, count: u64) -> Option<u64> {
        let (id, low) = self.shared.ids.take(count);
        // With none in hand the caller fetches a window itself, or asks again.
        if low {
            self.shared.fetch_ahead(|s| &s.ids_ahead, Command::AllocIdWindow { size: ID_WINDOW });
        }
        id
    }

    /// `count` timestamps; the result is the last of them.
    ///
    /// # Errors
    /// [`MetaError::Timestamp`] for 0 and for more than a millisecond holds, with PD's texts, and those of [`Self::propose`].
    pub async fn tso(&self, count: u32) -> Result<Timestamp, MetaError> {
        let shared = &self.shared;
        if count == 0 {
            return Err(MetaError::Timestamp("tso count should be positive"));
        }
        if i64::from(count) >= MAX_LOGICAL {
            return Err(MetaError::Timestamp("generate tso maximum number of retries exceeded"));
        }
        for _ in 0..MAX_ROUNDS {
            if let Some(ts) = self.take_timestamps(count)? {
                return Ok(ts);
            }
            let _first = shared.tso_gate.lock().await;
            match shared.tso.take(count, shared.clock.now().wall.unix_millis()) {
                Grant::Given { ts, .. } => {
                    shared.may_serve(shared.clock.now().mono)?;
                    return Ok(ts);
                }
                Grant::Window(upper_ms) if shared.bugs.has(Bug::WindowNotSaved) => shared.tso.lifted(upper_ms),
                Grant::Window(upper_ms) => drop(self.propose(Command::SaveTsoWindow { upper_ms }).await?),
                Grant::Closed => return Err(shared.not_leader()),
            }
        }
        Err(MetaError::Timestamp("generate tso maximum number of retries exceeded"))
    }

    /// The path without waiting; `None`: the window has to be lifted first.
    fn take_timestamps(&self, count: u32) -> Result<Option<Timestamp>, MetaError> {
        let shared = &self.shared;
        let now = shared.clock.now();
        shared.may_serve(now.mono)?;
        match shared.tso.take(count, now.wall.unix_millis()) {
            Grant::Given { ts, low } => {
                if low {
                    let upper_ms = shared.tso.next_upper(now.wall.unix_millis());
                    shared.fetch_ahead(|s| &s.tso_ahead, Command::SaveTsoWindow { upper_ms });
                }
                // Again: the process may have been stopped in between, and another leader may have begun (T4).
                shared.may_serve(shared.clock.now().mono)?;
                Ok(Some(ts))
            }
            Grant::Window(_) => Ok(None),
            Grant::Closed => Err(shared.ended_error().unwrap_or_else(|| shared.not_leader())),
        }
    }

    /// Milliseconds of the last timestamp given, 0 before the first.
    pub fn tso_last_physical(&self) -> i64 {
        self.shared.tso.last_physical()
    }

    /// Makes all later timestamps greater than `to` (`reset-ts`). `skip_gap_check` allows more than a day ahead (`force-use-larger`).
    ///
    /// # Errors
    /// [`MetaError::ResetTimestamp`] with PD's texts when `to` is too low or too high, and those of [`Self::propose`].
    pub async fn reset_ts(&self, to: Timestamp, skip_gap_check: bool) -> Result<(), MetaError> {
        let shared = &self.shared;
        let now = shared.clock.now();
        shared.may_serve(now.mono)?;
        let upper_ms =
            shared.tso.check_reset(to, now.wall.unix_millis(), skip_gap_check).map_err(MetaError::ResetTimestamp)?;
        self.propose(Command::SaveTsoWindow { upper_ms }).await?;
        shared.tso.jump(to).map_err(MetaError::ResetTimestamp)
    }
}
