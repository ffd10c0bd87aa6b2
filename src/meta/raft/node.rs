//! [`Node`]: one member of the group as a step function.

use std::mem;

use protobuf::Message as _;
use raft::{
    Config, ProgressState, RawNode, ReadOnlyOption, StateRole,
    eraftpb::{ConfChange, ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType},
};

use super::{
    guard::{Guard, Verdict},
    view::{LogView, mark},
};
use crate::{
    meta::{
        bugs::{Bug, Bugs},
        disk::{Applied, HardMark, LoadedLog, LogWrite, Truncated},
    },
    model::MemberId,
};

/// Most bytes of entries that are proposed and not yet applied; beyond it proposals are dropped. Bounds the memory that a slow disk
/// can cost.
const MAX_UNCOMMITTED_BYTES: u64 = 64 << 20;

/// Most bytes of entries in one message.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;

/// Most messages under way to one follower.
const MAX_INFLIGHT: usize = 256;

/// By how many ticks the first of those who campaign waits longer than votes are refused: their ticks are not in step.
const CAMPAIGN_AFTER: usize = 2;

/// Fewest different waiting times to draw from; with fewer, two campaign at once too often.
const MIN_SPREAD: usize = 4;

/// How often a waiting time doubles at most after campaigns that a quorum wanted and that came to nothing.
const MAX_DOUBLINGS: u32 = 3;

/// A learner that lacks no more entries than this has caught up.
const CAUGHT_UP: u64 = 64;

/// What a node needs to begin.
pub(in crate::meta) struct NodeOptions {
    pub(in crate::meta) id: MemberId,
    pub(in crate::meta) log: LoadedLog,
    /// Last applied entry and the members then.
    pub(in crate::meta) applied: Applied,
    /// For so many ticks after hearing a leader no other is voted for.
    pub(in crate::meta) election_ticks: usize,
    /// For so many ticks after the start nobody is voted for: at least as many as above, more if more was promised before it.
    pub(in crate::meta) start_ticks: usize,
    /// Election timeouts are drawn from it.
    pub(in crate::meta) seed: u64,
    pub(in crate::meta) bugs: Bugs,
}

/// Something that happened.
#[derive(Debug)]
pub(in crate::meta) enum Input {
    /// A tick of the clock.
    Tick,
    /// Try to lead now (a group of one need not wait).
    Campaign,
    /// Agree on these bytes; `ticket` comes back if they are dropped.
    Propose { ticket: u64, data: Vec<u8> },
    /// Have the leader propose these bytes, if one is known. Nobody waits for them.
    Forward(Vec<u8>),
    /// Agree on another group; `ticket` comes back if that is dropped.
    ChangeMembers { ticket: u64, change: Box<ConfChange> },
    /// Have this member lead.
    Transfer(MemberId),
    /// Lead no longer.
    StepDown,
    /// Have a quorum confirm the leader; the bytes come back in `Output::confirmed`.
    Confirm(Vec<u8>),
    /// Another member sent this.
    Message(Box<Message>),
    /// The state was sent to a member whose entries were cut, or could not be.
    SnapshotSent { to: MemberId, arrived: bool },
    /// The write of this number, and all before it, are on disk.
    Persisted(u64),
    /// Entries up to this one are applied.
    Applied(Applied),
    /// Forget entries up to here; the caller has flushed what they led to.
    Cut(Truncated),
}

/// What a committed entry asks for.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::meta) enum Wanted {
    /// Nothing: a new leader's first entry.
    Nothing,
    /// These bytes, agreed.
    Data(Vec<u8>),
    /// The group has other members now.
    Members {
        conf: ConfState,
        /// What its proposer added.
        note: Vec<u8>,
    },
}

/// A committed entry.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::meta) struct Committed {
    pub(in crate::meta) index: u64,
    pub(in crate::meta) term: u64,
    pub(in crate::meta) wanted: Wanted,
}

/// A write, and what may be sent only once it is on disk.
#[derive(Debug, Default)]
pub(in crate::meta) struct Persist {
    /// Goes back in `Input::Persisted`.
    pub(in crate::meta) number: u64,
    pub(in crate::meta) write: LogWrite,
    /// The state that was received goes to disk with this write: this entry was the last applied there, with these members.
    pub(in crate::meta) install: Option<Applied>,
    pub(in crate::meta) then_send: Vec<Message>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(in crate::meta) struct Output {
    /// To be sent at once.
    pub(in crate::meta) send: Vec<Message>,
    /// To be written, in this order.
    pub(in crate::meta) persist: Vec<Persist>,
    /// To be applied, in this order.
    pub(in crate::meta) committed: Vec<Committed>,
    /// Tickets of proposals that were dropped: this member does not lead, or too much is under way.
    pub(in crate::meta) dropped: Vec<u64>,
    /// Confirmations of leadership.
    pub(in crate::meta) confirmed: Vec<Vec<u8>>,
}

/// How far a follower is, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::meta) struct Follower {
    pub(in crate::meta) id: MemberId,
    pub(in crate::meta) voter: bool,
    /// The last entry that it is known to have.
    pub(in crate::meta) matched: u64,
    /// It lacks next to nothing.
    pub(in crate::meta) caught_up: bool,
}

/// See the module.
pub(in crate::meta) struct Node {
    raw: RawNode<LogView>,
    guard: Guard,
    seed: u64,
    /// Campaigns so far, so that each waits for another time.
    campaigns: u64,
    /// Of those, how many in a row a quorum wanted and that came to nothing. Two at once are one; more of them are disks that take
    /// longer for a vote than a campaign lasts.
    failed: u32,
    /// To be sent with what follows the next write.
    after_write: Vec<Message>,
    /// It does not try to lead.
    held_back: bool,
    /// Nor for so many ticks more, since it may have promised to vote for nobody, and that goes for itself.
    start_ticks: usize,
    bugs: Bugs,
}

impl Node {
    pub(in crate::meta) fn new(options: NodeOptions, log: &slog::Logger) -> raft::Result<Self> {
        let NodeOptions { id, log: loaded, applied, election_ticks, start_ticks, seed, bugs } = options;
        let (first, spread) = waits(election_ticks);
        let config = Config {
            id: id.0,
            election_tick: election_ticks,
            min_election_tick: first,
            max_election_tick: (first + spread) << MAX_DOUBLINGS,
            heartbeat_tick: 1,
            applied: applied.index,
            max_size_per_msg: MAX_MESSAGE_BYTES,
            max_inflight_msgs: MAX_INFLIGHT,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            ..Config::default()
        };
        config.validate()?;
        let raw = RawNode::new(&config, LogView::new(loaded, applied), log)?;
        let guard = Guard::new(election_ticks, start_ticks, bugs);
        // What is promised for one election timeout its own timer keeps.
        let start_ticks = start_ticks.saturating_sub(election_ticks);
        let (campaigns, failed, after_write, held_back) = (0, 0, vec![], false);
        let mut node = Self { raw, guard, seed, campaigns, failed, after_write, held_back, start_ticks, bugs };
        node.draw_timeout();
        Ok(node)
    }

    /// From here on it does, or does not, try to lead by itself or when it is asked to.
    pub(in crate::meta) fn hold_back(&mut self, held_back: bool) {
        self.held_back = held_back;
    }

    /// Whether it leads.
    pub(in crate::meta) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Who leads.
    pub(in crate::meta) fn leader(&self) -> Option<MemberId> {
        Some(MemberId(self.raw.raft.leader_id)).filter(|id| id.0 != 0)
    }

    /// The last entry that is known to be committed.
    pub(in crate::meta) fn committed_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The term.
    pub(in crate::meta) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether it is the only voter.
    pub(in crate::meta) fn is_alone(&self) -> bool {
        let conf = self.members();
        conf.voters_outgoing.is_empty() && conf.voters == [self.raw.raft.id]
    }

    /// The members by the last entry that was committed here.
    pub(in crate::meta) fn members(&self) -> ConfState {
        self.raw.raft.prs().conf().to_conf_state()
    }

    /// Whether this one is a member, as far as is known here.
    pub(in crate::meta) fn knows(&self, id: MemberId) -> bool {
        self.raw.raft.prs().get(id.0).is_some()
    }

    /// Whether what this one says is heard at all. Who is no member is a stranger only to those who have a leader: a member that was
    /// away does not know who has joined meanwhile, and may lead by now.
    pub(in crate::meta) fn listens_to(&self, id: MemberId) -> bool {
        let has_leader = self.is_leader() || self.guard.is_quiet();
        self.knows(id) || !has_leader || self.leader() == Some(id) || self.raw.raft.prs().iter().len() == 0
    }

    /// The followers; none unless it leads.
    pub(in crate::meta) fn followers(&self) -> Vec<Follower> {
        if !self.is_leader() {
            return vec![];
        }
        let (progress, last) = (self.raw.raft.prs(), self.raw.raft.raft_log.last_index());
        let mut followers: Vec<Follower> = progress
            .iter()
            .filter(|(id, _)| **id != self.raw.raft.id)
            .map(|(id, p)| Follower {
                id: MemberId(*id),
                voter: progress.conf().voters().contains(*id),
                matched: p.matched,
                caught_up: p.state == ProgressState::Replicate && p.matched + CAUGHT_UP >= last,
            })
            .collect();
        followers.sort_by_key(|f| f.id);
        followers
    }

    /// The last entry that it has, on disk or not.
    pub(in crate::meta) fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Where the log could be cut; to be given back as [`Input::Cut`] once the state is flushed.
    pub(in crate::meta) fn cut_point(&self, applied: u64, keep: u64) -> Option<Truncated> {
        self.raw.store().cut_point(applied, keep)
    }

    /// Takes in what happened and says what is to be done about it.
    pub(in crate::meta) fn step(&mut self, inputs: impl IntoIterator<Item = Input>) -> Output {
        let mut out = Output::default();
        for input in inputs {
            self.take(input, &mut out);
            self.draw_timeout();
        }
        while self.raw.has_ready() {
            self.collect(&mut out);
        }
        out
    }

    fn take(&mut self, input: Input, out: &mut Output) {
        match input {
            Input::Tick => self.tick(),
            // Refused only by a member that may not vote; it stays a follower.
            Input::Campaign => _ = self.raw.campaign(),
            Input::Propose { ticket, data } => {
                if !self.is_leader() || self.raw.propose(vec![], data).is_err() {
                    out.dropped.push(ticket);
                }
            }
            // Without a leader it is dropped, and its sender tries again.
            Input::Forward(data) => _ = self.raw.propose(vec![], data),
            Input::ChangeMembers { ticket, change } => {
                // A second change while one is under way would be agreed on as nothing, and nobody told.
                let busy = !self.is_leader() || self.raw.raft.has_pending_conf();
                if busy || self.raw.propose_conf_change(vec![], *change).is_err() {
                    out.dropped.push(ticket);
                }
            }
            Input::Transfer(to) => self.raw.transfer_leader(to.0),
            Input::StepDown => {
                if self.is_leader() {
                    let term = self.term();
                    self.raw.raft.become_follower(term, 0);
                }
            }
            Input::Confirm(context) => self.raw.read_index(context),
            Input::Message(message) => self.hear(*message),
            Input::SnapshotSent { to, arrived } => {
                let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
                self.raw.report_snapshot(to.0, status);
            }
            Input::Persisted(number) => self.raw.on_persist_ready(number),
            Input::Applied(applied) => {
                self.raw.advance_apply_to(applied.index);
                self.raw.mut_store().set_applied(applied);
            }
            Input::Cut(cut) => {
                // Written after a whole state that came while the own was flushed, an older cut would hide that the log begins anew.
                if self.raw.mut_store().cut(cut) {
                    let write = LogWrite { cut: Some(cut), ..LogWrite::default() };
                    out.persist.push(Persist { write, ..Persist::default() });
                }
            }
        }
    }

    fn tick(&mut self) {
        self.guard.tick();
        let log = &self.raw.raft.raft_log;
        // The only voter elects itself on the spot, which raft allows only once all it has is on disk.
        let unready = self.is_alone() && log.persisted < log.last_index();
        let promised = self.start_ticks > 0 && !self.is_alone();
        self.start_ticks = self.start_ticks.saturating_sub(1);
        if !self.is_leader() && (unready || promised || self.is_installing() || self.held_back) {
            return;
        }
        let was = self.raw.raft.state;
        self.raw.tick();
        let campaigns = matches!(self.raw.raft.state, StateRole::PreCandidate | StateRole::Candidate);
        let begins = campaigns && self.raw.raft.election_elapsed == 0;
        self.campaigns += u64::from(begins);
        self.failed += u32::from(begins && was == StateRole::Candidate);
    }

    /// A received state is not applied yet. Raft would look for entries before it if it campaigned now.
    fn is_installing(&self) -> bool {
        self.raw.raft.raft_log.applied < self.raw.store().cut_index()
    }

    fn hear(&mut self, mut message: Message) {
        let cannot_lead = self.held_back || self.is_installing();
        if cannot_lead && message.get_msg_type() == MessageType::MsgTimeoutNow {
            return;
        }
        let raft = &self.raw.raft;
        let empty = raft.prs().iter().len() == 0;
        match self.guard.judge(&message, raft.term, raft.raft_log.last_index(), empty) {
            Verdict::Take => {}
            Verdict::Refuse => return,
            Verdict::AskForState => {
                let mut ask = Message { to: message.from, from: raft.id, ..Message::default() };
                ask.set_msg_type(MessageType::MsgAppendResponse);
                (ask.index, ask.reject, ask.request_snapshot) = (message.index, true, 1);
                message.set_msg_type(MessageType::MsgHeartbeat);
                message.clear_entries();
                message.commit = 0;
                self.after_write.clear();
                self.after_write.push(ask);
                let said = self.raw.raft.msgs.len();
                _ = self.raw.step(message);
                // Raft would acknowledge a heartbeat that nobody sent, and the leader would answer with the same entries, on and on
                // until the disk lets the question out.
                self.raw.raft.msgs.truncate(said);
                return;
            }
        }
        // Messages of members that were removed are of no use, and no error of ours.
        _ = self.raw.step(message);
    }

    /// Raft draws its election timeouts from the thread's randomness. Drawn here instead, the same seed does the same again.
    fn draw_timeout(&mut self) {
        let raft = &mut self.raw.raft;
        let (first, spread) = waits(raft.election_timeout());
        let drawn = mix(self.seed ^ mix(raft.term ^ mix(self.campaigns))) % spread as u64;
        if raft.leader_id != 0 {
            self.failed = 0;
        }
        let doublings = self.failed.saturating_sub(1).min(MAX_DOUBLINGS);
        raft.set_randomized_election_timeout((first + drawn as usize) << doublings);
    }

    /// One round of the crate's own protocol: the order of these steps is its documentation's.
    fn collect(&mut self, out: &mut Output) {
        let mut ready = self.raw.ready();
        out.send.extend(ready.take_messages());
        let committed = ready.take_committed_entries();
        out.confirmed.extend(ready.take_read_states().into_iter().map(|r| r.request_ctx));
        let meta = ready.snapshot().get_metadata();
        let install = (meta.index > 0).then(|| Applied {
            index: meta.index,
            term: meta.term,
            conf: meta.get_conf_state().clone(),
        });
        let reset = install.as_ref().map(|i| Truncated { index: i.index, term: i.term });
        if let (Some(cut), Some(applied)) = (reset, &install) {
            self.raw.mut_store().reset(cut, applied.conf.clone());
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        let hard = ready.hs().cloned();
        if let Some(hard) = &hard {
            self.raw.mut_store().set_hard(hard.clone());
        }
        let sync = ready.must_sync() && !self.bugs.has(Bug::NoSync);
        let mut hard = hard.as_ref().map(mark);
        if self.bugs.has(Bug::VoteNotSaved) {
            hard = hard.map(|h| HardMark { vote: 0, ..h });
        }
        let write = LogWrite { entries, hard, reset, sync, ..LogWrite::default() };
        let (at_once, mut then_send): (Vec<_>, Vec<_>) =
            ready.take_persisted_messages().into_iter().partition(promises_nothing);
        out.send.extend(at_once);
        for mut message in self.after_write.drain(..) {
            message.term = self.raw.raft.term;
            then_send.push(message);
        }
        out.persist.push(Persist { number: ready.number(), write, install, then_send });
        self.raw.advance_append_async(ready);
        for entry in committed {
            let committed = self.committed(entry);
            out.committed.push(committed);
        }
    }

    fn committed(&mut self, mut entry: Entry) -> Committed {
        let data = mem::take(&mut entry.data);
        let wanted = match entry.entry_type {
            EntryType::EntryNormal if data.is_empty() => Wanted::Nothing,
            EntryType::EntryNormal => Wanted::Data(data.to_vec()),
            EntryType::EntryConfChange => {
                let change = ConfChange::parse_from_bytes(&data).ok();
                let conf = change.as_ref().and_then(|c| self.raw.apply_conf_change(c).ok());
                self.changed(conf, change.map(|c| c.context.to_vec()))
            }
            EntryType::EntryConfChangeV2 => {
                let change = ConfChangeV2::parse_from_bytes(&data).ok();
                let conf = change.as_ref().and_then(|c| self.raw.apply_conf_change(c).ok());
                self.changed(conf, change.map(|c| c.context.to_vec()))
            }
        };
        Committed { index: entry.index, term: entry.term, wanted }
    }

    /// A change of members that cannot be read or made is passed over, by all members alike.
    fn changed(&mut self, conf: Option<ConfState>, note: Option<Vec<u8>>) -> Wanted {
        let Some(conf) = conf else { return Wanted::Nothing };
        self.raw.mut_store().set_conf(conf.clone());
        // A change that was proposed by an earlier leader may remove the present one. Raft would have it go on, and not survive that.
        if self.is_leader() && !self.knows(MemberId(self.raw.raft.id)) {
            let term = self.term();
            self.raw.raft.become_follower(term, 0);
        }
        Wanted::Members { conf, note: note.unwrap_or_default() }
    }
}

#[cfg(test)]
impl Node {
    /// Whom it has voted for in this term, 0: nobody.
    pub(in crate::meta) fn vote(&self) -> u64 {
        self.raw.raft.vote
    }

    /// Term and bytes of an entry, if it is still there.
    pub(in crate::meta) fn entry(&self, index: u64) -> Option<(u64, Vec<u8>)> {
        let log = &self.raw.raft.raft_log;
        let context = raft::GetEntriesContext::empty(false);
        let entry = log.slice(index, index + 1, None, context).ok()?.pop()?;
        Some((entry.term, entry.data.to_vec()))
    }
}

/// The shortest time without a leader before a campaign, and how many longer ones there are to draw from; in ticks.
fn waits(election_ticks: usize) -> (usize, usize) {
    (election_ticks + CAMPAIGN_AFTER, (election_ticks / 2).max(MIN_SPREAD))
}

/// Whether a message may leave before what came before it is on disk. That a leader was heard is not forgotten by a crash: nobody is
/// voted for after a start either. To ask whether a vote could be won, and to answer that, binds nobody.
fn promises_nothing(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeatResponse | MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse
    )
}

/// A number that looks random, from another.
fn mix(number: u64) -> u64 {
    let mut n = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
