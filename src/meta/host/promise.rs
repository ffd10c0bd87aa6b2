//! Promises between members: who hears a leader votes for nobody else for a while. A lease is as long as the shortest promise that it
//! leans on.
//!
//! Each member promises by its own settings, which may differ while a change of them is rolled out. An acknowledgement says for how long
//! it is one, and the log file keeps what may have been promised before a start with other settings.
//!
//! Owns: what was promised by whom and to whom, the lease that follows. Must not know: when leadership begins and ends.

use std::{collections::BTreeMap, time::Duration};

use raft::eraftpb::{Message, MessageType};

use super::Core;
use crate::{
    meta::{
        OpenError, RaftTimings,
        bugs::{Bug, Bugs},
        disk::{LOG_FILE, LogFile, LogWrite},
        membership::MAX_MEMBERS,
        raft::Input,
    },
    model::{MemberId, Mono},
};

/// What a voter has promised last.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// Of the confirmation that it answered.
    stamp: Mono,
    /// Zero when it did not say.
    lasts: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Promises {
    /// Of others to this member as a leader.
    heard: BTreeMap<MemberId, Promise>,
    /// The longest that this member may have given and that is not over, as the log file has it.
    kept: Duration,
    /// When those from before the start are over.
    over_at: Mono,
}

impl Promises {
    /// Reads what was promised before this start, and puts on disk what may be promised from here on.
    pub(super) fn open(log: &LogFile, timings: &RaftTimings, bugs: Bugs, now: Mono) -> Result<Self, OpenError> {
        let own = timings.promise();
        let before = log.promise()?.filter(|_| !bugs.has(Bug::PromiseForgotten));
        let kept = own.max(before.unwrap_or_default());
        if before.is_none_or(|before| before < own) {
            let write = LogWrite { promise: Some(own), sync: true, ..LogWrite::default() };
            let io = |e| OpenError::Io { file: LOG_FILE.into(), source: std::io::Error::other(e) };
            log.write(&write).map_err(io)?;
        }
        Ok(Self { heard: BTreeMap::new(), kept, over_at: now.plus(kept) })
    }

    /// For how long nobody may be voted for after the start.
    pub(super) fn kept(&self) -> Duration {
        self.kept
    }
}

/// What a confirmation is made of: when it was asked for, and in which term.
fn confirmation(stamp: Mono, term: u64) -> Vec<u8> {
    [stamp.0, term].iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn parse(context: &[u8]) -> Option<(Mono, u64)> {
    match context.as_chunks::<8>() {
        ([stamp, term], []) => Some((Mono(u64::from_le_bytes(*stamp)), u64::from_le_bytes(*term))),
        _ => None,
    }
}

impl Core {
    /// Asks a quorum whether this member still leads; the answer counts from now.
    pub(super) fn confirmation(&self, now: Mono) -> Input {
        Input::Confirm(confirmation(now, self.node.term()))
    }

    /// An acknowledgement says how long it holds, in a field that raft does not use in it.
    pub(super) fn promise(&self, message: &mut Message) {
        if message.get_msg_type() == MessageType::MsgHeartbeatResponse && !self.bugs.has(Bug::PromiseNotSaid) {
            message.reject_hint = u64::try_from(self.timings.promise().as_nanos()).unwrap_or(u64::MAX);
        }
    }

    /// Takes note of that. An older one that comes late changes nothing: what was promised for longer than is said later is kept by
    /// whoever promised it.
    pub(super) fn note_promise(&mut self, from: MemberId, message: &Message) {
        let term = self.node.term();
        let Some((stamp, _)) = parse(&message.context).filter(|(_, of)| (*of, message.term) == (term, term)) else {
            return;
        };
        if message.get_msg_type() != MessageType::MsgHeartbeatResponse || !self.node.knows(from) {
            return;
        }
        let lasts = Duration::from_nanos(message.reject_hint);
        let heard = &mut self.promises.heard;
        if heard.get(&from).is_none_or(|before| before.stamp <= stamp) {
            heard.insert(from, Promise { stamp, lasts });
        }
        if heard.len() > 2 * MAX_MEMBERS {
            let node = &self.node;
            self.promises.heard.retain(|id, _| node.knows(*id));
        }
    }

    /// For how long after a confirmation nobody else is elected: the shortest of what voters promise. Who has not answered yet has not
    /// confirmed anything either, so that nothing leans on it.
    fn promised(&self) -> Duration {
        if self.bugs.has(Bug::OwnTimeout) {
            return self.timings.promise();
        }
        let voters = self.node.followers().into_iter().filter(|f| f.voter);
        voters.filter_map(|f| self.promises.heard.get(&f.id)).map(|p| p.lasts).min().unwrap_or_default()
    }

    pub(super) fn confirm_lease(&self, confirmed: &[Vec<u8>]) {
        // Others may be well and confirm it; that says nothing about the disk and the state here.
        if confirmed.is_empty() || self.unfit(self.now()).is_some() {
            return;
        }
        let promised = self.promised();
        for (stamp, term) in confirmed.iter().filter_map(|context| parse(context)) {
            if self.leading == Some(term) && self.transfer.is_none() {
                self.shared.lease.confirm(stamp, promised);
            }
        }
    }

    /// What the log file is to have in place of a longer promise, once that is over.
    pub(super) fn shorter_promise(&mut self) -> Option<Duration> {
        let own = self.timings.promise();
        let due = self.promises.kept > own && self.now() >= self.promises.over_at;
        due.then(|| {
            self.promises.kept = own;
            own
        })
    }
}
