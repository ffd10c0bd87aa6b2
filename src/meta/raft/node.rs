//! [`Node`]: one member of the group as a step function.

use std::mem;

use protobuf::Message as _;
use raft::{
    Config, RawNode, ReadOnlyOption, StateRole,
    eraftpb::{ConfChange, ConfChangeV2, ConfState, Entry, EntryType, Message},
};

use super::view::{LogView, mark};
use crate::{
    meta::disk::{LoadedLog, LogWrite, Truncated},
    model::MemberId,
};

/// Most bytes of entries that are proposed and not yet applied; beyond it proposals are dropped. Bounds the memory that a slow disk
/// can cost.
const MAX_UNCOMMITTED_BYTES: u64 = 64 << 20;

/// Most bytes of entries in one message.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;

/// Most messages under way to one follower.
const MAX_INFLIGHT: usize = 256;

/// What a node needs to begin.
pub(in crate::meta) struct NodeOptions {
    pub(in crate::meta) id: MemberId,
    pub(in crate::meta) log: LoadedLog,
    /// Last applied entry and the members then.
    pub(in crate::meta) applied: u64,
    pub(in crate::meta) conf: ConfState,
    /// Shortest election timeout in ticks.
    pub(in crate::meta) election_ticks: usize,
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
    /// Have a quorum confirm the leader; the bytes come back in `Output::confirmed`.
    Confirm(Vec<u8>),
    /// Another member sent this.
    #[cfg_attr(not(test), allow(dead_code, reason = "the stream between members comes with groups of three"))]
    Message(Box<Message>),
    /// The write of this number, and all before it, are on disk.
    Persisted(u64),
    /// Entries up to this one are applied.
    Applied(u64),
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
    Members(ConfState),
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
    #[cfg_attr(not(test), allow(dead_code, reason = "the stream between members comes with groups of three"))]
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

/// See the module.
pub(in crate::meta) struct Node {
    raw: RawNode<LogView>,
}

impl Node {
    pub(in crate::meta) fn new(options: NodeOptions, log: &slog::Logger) -> raft::Result<Self> {
        let NodeOptions { id, log: loaded, applied, conf, election_ticks } = options;
        let config = Config {
            id: id.0,
            election_tick: election_ticks,
            heartbeat_tick: 1,
            applied,
            max_size_per_msg: MAX_MESSAGE_BYTES,
            max_inflight_msgs: MAX_INFLIGHT,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            ..Config::default()
        };
        config.validate()?;
        Ok(Self { raw: RawNode::new(&config, LogView::new(loaded, conf), log)? })
    }

    /// Whether it leads, as raft sees it.
    pub(in crate::meta) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Who leads.
    pub(in crate::meta) fn leader(&self) -> Option<MemberId> {
        Some(MemberId(self.raw.raft.leader_id)).filter(|id| id.0 != 0)
    }

    /// The term.
    pub(in crate::meta) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether it is the only voter.
    pub(in crate::meta) fn is_alone(&self) -> bool {
        let conf = self.raw.raft.prs().conf().to_conf_state();
        conf.voters_outgoing.is_empty() && conf.voters == [self.raw.raft.id]
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
        }
        while self.raw.has_ready() {
            self.collect(&mut out);
        }
        out
    }

    fn take(&mut self, input: Input, out: &mut Output) {
        match input {
            Input::Tick => _ = self.raw.tick(),
            // Refused only by a member that may not vote; it stays a follower.
            Input::Campaign => _ = self.raw.campaign(),
            Input::Propose { ticket, data } => {
                if self.raw.propose(vec![], data).is_err() {
                    out.dropped.push(ticket);
                }
            }
            Input::Confirm(context) => self.raw.read_index(context),
            // Messages of members that were removed are of no use, and no error of ours.
            Input::Message(message) => _ = self.raw.step(*message),
            Input::Persisted(number) => self.raw.on_persist_ready(number),
            Input::Applied(index) => self.raw.advance_apply_to(index),
            Input::Cut(cut) => {
                self.raw.mut_store().cut(cut);
                out.persist
                    .push(Persist { write: LogWrite { cut: Some(cut), ..LogWrite::default() }, ..Persist::default() });
            }
        }
    }

    /// One round of the crate's own protocol: the order of these steps is its documentation's.
    fn collect(&mut self, out: &mut Output) {
        let mut ready = self.raw.ready();
        out.send.extend(ready.take_messages());
        let committed = ready.take_committed_entries();
        out.confirmed.extend(ready.take_read_states().into_iter().map(|r| r.request_ctx));
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        let hard = ready.hs().cloned();
        if let Some(hard) = &hard {
            self.raw.mut_store().set_hard(hard.clone());
        }
        let write = LogWrite { entries, hard: hard.as_ref().map(mark), cut: None, sync: ready.must_sync() };
        let then_send = ready.take_persisted_messages();
        out.persist.push(Persist { number: ready.number(), write, then_send });
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
                let conf = change.and_then(|c| self.raw.apply_conf_change(&c).ok());
                self.members(conf)
            }
            EntryType::EntryConfChangeV2 => {
                let change = ConfChangeV2::parse_from_bytes(&data).ok();
                let conf = change.and_then(|c| self.raw.apply_conf_change(&c).ok());
                self.members(conf)
            }
        };
        Committed { index: entry.index, term: entry.term, wanted }
    }

    /// A change of members that cannot be read or made is passed over, by all members alike.
    fn members(&mut self, conf: Option<ConfState>) -> Wanted {
        let Some(conf) = conf else { return Wanted::Nothing };
        self.raw.mut_store().set_conf(conf.clone());
        Wanted::Members(conf)
    }
}
