//! Which messages of other members are taken at all.
//!
//! Raft itself forgets its leader, and with it the promise not to vote for another, as soon as it sees a higher term. A lease rests on
//! that promise, so that it is kept here: by ticks since a leader was last heard, and since the start, for what was promised before it.
//!
//! Owns: that promise, and what raft would not survive. Must not know: leases, clocks.

use raft::eraftpb::{Message, MessageType};

use crate::meta::bugs::{Bug, Bugs};

/// How raft marks the votes of a leader's chosen successor: the leader has given its lease up before.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Raft gets it.
    Take,
    /// It is dropped.
    Refuse,
    /// This member has nothing to which the entries could be added: it asks for the whole state.
    AskForState,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Guard {
    election_ticks: usize,
    /// For so many ticks more nobody is voted for.
    quiet: usize,
}

impl Guard {
    /// `start_ticks`: how long a promise from before this start may still hold.
    pub(super) fn new(election_ticks: usize, start_ticks: usize, bugs: Bugs) -> Self {
        let quiet = if bugs.has(Bug::VoteAfterRestart) { 0 } else { start_ticks };
        Self { election_ticks, quiet }
    }

    pub(super) fn tick(&mut self) {
        self.quiet = self.quiet.saturating_sub(1);
    }

    /// Whether a leader was heard lately, or this member has only just started.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet > 0
    }

    /// Looks at a message; `term` and `last` are this member's, `empty`: it knows of no members yet.
    pub(super) fn judge(&mut self, message: &Message, term: u64, last: u64, empty: bool) -> Verdict {
        let from_leader = message.term >= term;
        match message.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                let promised = self.quiet > 0 && message.context != TRANSFER;
                if promised || message.term == 0 { Verdict::Refuse } else { Verdict::Take }
            }
            MessageType::MsgAppend if from_leader => {
                self.quiet = self.election_ticks;
                if empty { Verdict::AskForState } else { Verdict::Take }
            }
            // A leader that believes entries to be here that are not: this member lost its log. It cannot be helped by heartbeats.
            MessageType::MsgHeartbeat if from_leader && message.commit > last => Verdict::Refuse,
            MessageType::MsgHeartbeat | MessageType::MsgSnapshot if from_leader => {
                self.quiet = self.election_ticks;
                Verdict::Take
            }
            MessageType::MsgPropose if message.entries.iter().any(|e| e.data.is_empty()) => Verdict::Refuse,
            MessageType::MsgPropose if message.entries.is_empty() => Verdict::Refuse,
            MessageType::MsgAppend
            | MessageType::MsgHeartbeat
            | MessageType::MsgSnapshot
            | MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgTimeoutNow
            | MessageType::MsgPropose => Verdict::Take,
            // For use inside one member, or not used here.
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp => Verdict::Refuse,
        }
    }
}
