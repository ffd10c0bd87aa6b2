//! The other members: what comes from them, and how the group changes.
//!
//! Owns: who is listened to, what is asked of a change before it is proposed, when a learner becomes a voter. Must not know: how rows about
//! members look, raft's rules.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use raft::eraftpb::{ConfChange, ConfChangeType};

use super::Core;
use crate::{
    meta::{
        MetaError,
        machine::Member,
        membership::{MAX_MEMBERS, MemberAsk, MemberError, Note},
        peer::{Body, PeerMessage},
        queue::MemberAnswer,
        raft::{Follower, Input},
        snapshot::{Receiving, Sending},
    },
    model::{MemberId, Mono},
};

/// What a follower was last seen to lack, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacks {
    /// Once it has acknowledged this entry, it is looked at anew.
    index: u64,
    since: Mono,
}

/// What is known of the others.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// When each was heard last.
    pub(super) heard: BTreeMap<MemberId, Mono>,
    /// How far followers are; empty unless this member leads.
    pub(super) lacks: BTreeMap<MemberId, Lacks>,
    /// States that are being sent, by receiver.
    pub(super) sending: BTreeMap<MemberId, Sending>,
    pub(super) receiving: Receiving,
    /// When the leader was last asked to make this member known.
    pub(super) introduced_at: Option<Mono>,
}

impl Core {
    /// Another member says something.
    pub(super) fn hear(&mut self, message: PeerMessage, inputs: &mut Vec<Input>) {
        let PeerMessage { from, body } = message;
        if !self.node.listens_to(from) || from == self.this.id {
            self.shared.peers.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let now = self.now();
        if self.peers.heard.len() > 2 * MAX_MEMBERS {
            self.peers.heard.clear();
        }
        self.peers.heard.insert(from, now);
        match body {
            // The state itself comes in parts.
            Body::Raft(message) if message.has_snapshot() => {}
            Body::Raft(message) => {
                self.note_promise(from, &message);
                inputs.push(Input::Message(message));
            }
            Body::Chunk(chunk) => self.take_chunk(from, &chunk, inputs),
            Body::ChunkTaken { session, wanted } => self.chunk_taken(from, session, wanted, inputs),
            Body::StateHash { index, hash } => self.hear_hash(from, index, hash),
        }
    }

    /// Notes which entries followers have yet to acknowledge.
    pub(super) fn watch_followers(&mut self, now: Mono) {
        let (followers, last) = (self.node.followers(), self.node.last_index());
        self.peers.lacks.retain(|id, _| followers.iter().any(|f| f.id == *id));
        for follower in followers {
            let lacks = self.peers.lacks.entry(follower.id).or_insert(Lacks { index: last, since: now });
            if follower.matched >= lacks.index {
                *lacks = Lacks { index: last, since: now };
            }
        }
    }

    /// Whether a follower has next to everything, and its disk lets it acknowledge more. (It answers heartbeats also when its disk hangs.)
    pub(super) fn keeps_up(&self, follower: &Follower, now: Mono) -> bool {
        let waits = |lacks: &Lacks| follower.matched < lacks.index && now.since(lacks.since) > self.election();
        follower.caught_up && !self.peers.lacks.get(&follower.id).is_some_and(waits)
    }

    /// Proposes a change of the group, unless something speaks against it.
    pub(super) fn change_members(&mut self, ask: MemberAsk, answer: MemberAnswer, inputs: &mut Vec<Input>) {
        if let Err(error) = self.check_change(&ask) {
            answer(Err(error));
            return;
        }
        let (id, kind) = match &ask {
            MemberAsk::Add(member) => (member.id, ConfChangeType::AddLearnerNode),
            MemberAsk::Remove(id) => (*id, ConfChangeType::RemoveNode),
        };
        let ticket = self.shared.next_ticket();
        let (member, removed) = match ask {
            MemberAsk::Add(member) => (Some(member), None),
            MemberAsk::Remove(id) => (None, Some(id)),
        };
        let note = serde_json::to_vec(&Note { origin: self.shared.origin, ticket, member, removed });
        let Ok(note) = note else {
            answer(Err(MetaError::Malformed("the member cannot be written down".into()).into()));
            return;
        };
        let answer = move |outcome: Result<_, MetaError>| {
            answer(match outcome {
                Ok(_) => Ok(()),
                Err(MetaError::Busy) => Err(MemberError::UnderWay),
                Err(e) => Err(e.into()),
            });
        };
        self.pending.insert(ticket, Box::new(answer));
        inputs.push(Input::ChangeMembers { ticket, change: Box::new(change(id, kind, note)) });
    }

    fn check_change(&self, ask: &MemberAsk) -> Result<(), MemberError> {
        if self.leading.is_none() || self.transfer.is_some() {
            return Err(self.shared.not_leader().into());
        }
        match ask {
            MemberAsk::Add(member) => self.check_new(member),
            MemberAsk::Remove(id) => self.check_removal(*id),
        }
    }

    fn check_new(&self, member: &Member) -> Result<(), MemberError> {
        let conf = self.node.members();
        if conf.voters.len() + conf.learners.len() >= MAX_MEMBERS {
            return Err(MemberError::TooMany);
        }
        for other in self.state.members.values() {
            if other.name == member.name || other.id == member.id {
                return Err(MemberError::Exists(other.name.clone()));
            }
            if let Some(url) = other.peer_urls.iter().find(|url| member.peer_urls.contains(url)) {
                return Err(MemberError::Exists(url.clone()));
            }
        }
        if self.node.knows(member.id) { Err(MemberError::Exists(member.name.clone())) } else { Ok(()) }
    }

    /// What is left must be able to agree, as far as can be seen.
    fn check_removal(&self, id: MemberId) -> Result<(), MemberError> {
        let conf = self.node.members();
        if !conf.voters.iter().chain(&conf.learners).any(|m| *m == id.0) {
            return Err(MemberError::Unknown(id));
        }
        if id == self.this.id {
            return Err(MemberError::Leads(id));
        }
        if conf.learners.contains(&id.0) {
            return Ok(());
        }
        let now = self.now();
        let left: Vec<MemberId> = conf.voters.iter().map(|v| MemberId(*v)).filter(|v| *v != id).collect();
        let reachable = left.iter().filter(|v| self.reaches(**v, now)).count();
        if reachable < left.len() / 2 + 1 {
            return Err(MemberError::NoQuorum { reachable, voters: left.len() });
        }
        Ok(())
    }

    /// Has a learner vote once it has what the others have.
    pub(super) fn promote(&self, now: Mono, inputs: &mut Vec<Input>) {
        if self.leading.is_none() {
            return;
        }
        let sound = |f: &Follower| self.reaches(f.id, now) && !self.hashes.is_outvoted(f.id);
        let ready = self.node.followers().into_iter().find(|f| !f.voter && f.caught_up && sound(f));
        if let Some(learner) = ready {
            slog::info!(self.log, "a learner has caught up and votes from here on"; "member" => learner.id.0);
            // Nobody waits for it; when it is dropped, the next tick tries again.
            let change = Box::new(change(learner.id, ConfChangeType::AddNode, vec![]));
            inputs.push(Input::ChangeMembers { ticket: 0, change });
        }
    }
}

fn change(id: MemberId, kind: ConfChangeType, note: Vec<u8>) -> ConfChange {
    let mut change = ConfChange { node_id: id.0, context: note.into(), ..ConfChange::default() };
    change.set_change_type(kind);
    change
}
