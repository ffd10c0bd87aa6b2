//! What can be asked about the group, and what other members say.
//!
//! Owns: these calls. Must not know: raft, and how bytes travel.

use std::sync::{Arc, atomic::Ordering};

use futures::channel::oneshot;

use super::Meta;
use crate::{
    meta::{
        Member, MemberInfo, PeerError,
        membership::{MemberAsk, MemberError, new_member},
        peer::decode,
        queue::{Event, MemberAnswer, Rejected},
    },
    model::MemberId,
};

/// Who is in the group, by the last entry that was applied here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// Those that vote.
    pub voters: Vec<MemberId>,
    /// Those that do not yet.
    pub learners: Vec<MemberId>,
}

/// How far this member is, what was refused of what others sent, and what was compared with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupCounts {
    /// The last entry that was applied here.
    pub applied: u64,
    /// The last entry that is known to be agreed on.
    pub committed: u64,
    /// Messages that were damaged, too long, or for another cluster or member.
    pub refused: u64,
    /// Messages of members that are unknown or were removed.
    pub unknown: u64,
    /// Messages for which there was no room.
    pub dropped: u64,
    /// Comparisons of a state hash with that of another member.
    pub hashes_compared: u64,
    /// Those in which the two differed: what the members agreed on is not the same.
    pub hashes_differ: u64,
}

impl Meta {
    /// Takes what another member sent. Does not wait; what is not taken is sent again by raft.
    ///
    /// # Errors
    /// [`PeerError`]; it is counted as well.
    pub fn receive(&self, bytes: &[u8]) -> Result<(), PeerError> {
        let shared = &self.shared;
        let outcome = decode(shared.owner, bytes).and_then(|message| {
            let size = bytes.len();
            if !shared.messages_waiting.enter(size) {
                return Err(PeerError::Busy);
            }
            shared.queue.try_send(Event::Peer { message, size }).map_err(|rejected| {
                shared.messages_waiting.leave(size);
                match rejected {
                    Rejected::Full(_) => PeerError::Busy,
                    Rejected::Ended(_) => PeerError::Stopped,
                }
            })
        });
        if let Err(e) = &outcome {
            shared.peers.count(e);
        }
        outcome
    }

    /// Adds a member. It votes once it has everything the others have. The result is what it has to be started with: its id.
    ///
    /// # Errors
    /// [`MemberError`]; this member must lead.
    pub async fn add_member(&self, info: &MemberInfo) -> Result<Member, MemberError> {
        let shared = &self.shared;
        let member = new_member(info, shared.owner.cluster, shared.clock.now().wall.0);
        let ask = MemberAsk::Add(member.clone());
        self.ask(|answer| Event::Members { ask, answer }).await?;
        Ok(member)
    }

    /// Removes a member, if those that are left can be expected to agree.
    ///
    /// # Errors
    /// [`MemberError`]; this member must lead, and cannot remove itself.
    pub async fn remove_member(&self, id: MemberId) -> Result<(), MemberError> {
        self.ask(|answer| Event::Members { ask: MemberAsk::Remove(id), answer }).await
    }

    /// Hands leadership over to a member. Returns when this one does not lead any more.
    ///
    /// # Errors
    /// [`MemberError`]; this member must lead.
    pub async fn transfer_leader(&self, to: MemberId) -> Result<(), MemberError> {
        self.ask(|answer| Event::Transfer { to: Some(to), answer }).await
    }

    /// Hands leadership over to the member that is furthest.
    ///
    /// # Errors
    /// As [`Self::transfer_leader`].
    pub async fn resign(&self) -> Result<(), MemberError> {
        self.ask(|answer| Event::Transfer { to: None, answer }).await
    }

    async fn ask(&self, event: impl FnOnce(MemberAnswer) -> Event) -> Result<(), MemberError> {
        let shared = &self.shared;
        if let Some(ended) = shared.ended_error() {
            return Err(ended.into());
        }
        let (send, receive) = oneshot::channel();
        // The caller may be gone by then.
        let event = event(Box::new(move |outcome| drop(send.send(outcome))));
        shared.queue.try_send(event).map_err(|rejected| shared.rejected(&rejected))?;
        receive.await.unwrap_or_else(|_| Err(shared.why_ended().into()))
    }

    /// Whether the state here is not that of the majority of the members. It is not to be read from then on; a state that is received
    /// whole from another member ends it.
    pub fn is_outvoted(&self) -> bool {
        self.shared.outvoted.load(Ordering::Acquire)
    }

    /// Who is in the group.
    pub fn group(&self) -> Arc<Group> {
        self.shared.group.load_full()
    }

    /// How far this member is, what was refused and compared.
    pub fn group_counts(&self) -> GroupCounts {
        let shared = &self.shared;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        GroupCounts {
            applied: shared.latest.load().index,
            committed: read(&shared.committed),
            refused: read(&shared.peers.refused),
            unknown: read(&shared.peers.unknown),
            dropped: read(&shared.peers.dropped),
            hashes_compared: read(&shared.hashes_compared),
            hashes_differ: read(&shared.hashes_differ),
        }
    }
}
