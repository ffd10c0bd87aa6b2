//! What reaches a member's [`Core`](super::host::Core), and the bounded queue in which it waits.
//!
//! Owns: the events, and who gets the answer to one. Must not know: what follows from them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc::{SyncSender, TrySendError},
};

use super::{
    MetaError,
    machine::Reply,
    membership::{MemberAsk, MemberError},
    peer::PeerMessage,
    writer::Install,
};
use crate::model::MemberId;

/// Most requests that wait in the queue of the host. At the speed of a disk that syncs in a millisecond these are a fraction of a second
/// of work; who comes later is told so at once.
pub(super) const MAX_QUEUE: usize = 4096;

/// Most bytes that wait of messages from other members, which are sent again, and of proposals, whose callers are told.
pub(super) const MAX_WAITING_BYTES: usize = 64 << 20;

/// Bytes of one kind that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

impl Waiting {
    /// So many more want to wait; false: there is no room.
    #[must_use]
    pub(super) fn enter(&self, size: usize) -> bool {
        let fits = self.0.fetch_add(size, Ordering::AcqRel).saturating_add(size) <= MAX_WAITING_BYTES;
        if !fits {
            self.leave(size);
        }
        fits
    }

    /// They wait no more.
    pub(super) fn leave(&self, size: usize) {
        self.0.fetch_sub(size, Ordering::AcqRel);
    }
}

/// Gets the outcome of a proposal.
pub(super) type Answer = Box<dyn FnOnce(Result<Reply, MetaError>) + Send>;

/// Gets the outcome of a change of the group, or of leadership.
pub(super) type MemberAnswer = Box<dyn FnOnce(Result<(), MemberError>) + Send>;

/// What reaches the host.
pub(super) enum Event {
    /// Agree on this.
    Propose { ticket: u64, data: Vec<u8>, answer: Answer },
    /// Agree on another group.
    Members { ask: MemberAsk, answer: MemberAnswer },
    /// Hand leadership over, to this member or to the best.
    Transfer { to: Option<MemberId>, answer: MemberAnswer },
    /// Another member says something, in so many bytes.
    Peer { message: PeerMessage, size: usize },
    /// The log is on disk up to the write of this number.
    Persisted(u64),
    /// The state is on disk; the log may be cut.
    Flushed,
    /// A received state is on disk.
    Installed(Box<Install>),
    /// A write failed.
    DiskFailed(Arc<str>),
    /// End in order.
    Stop,
}

/// Why an event was not taken; it comes back.
pub(super) enum Rejected {
    /// Too many wait.
    Full(Box<Event>),
    /// Nobody takes them any more.
    Ended(Box<Event>),
}

/// The way to the host.
pub(super) trait Queue: Send + Sync {
    /// Hands an event over, without waiting.
    fn try_send(&self, event: Event) -> Result<(), Rejected>;
}

/// To a host on a thread.
pub(super) struct Channel(pub(super) SyncSender<Event>);

impl Queue for Channel {
    fn try_send(&self, event: Event) -> Result<(), Rejected> {
        self.0.try_send(event).map_err(|e| match e {
            TrySendError::Full(event) => Rejected::Full(Box::new(event)),
            TrySendError::Disconnected(event) => Rejected::Ended(Box::new(event)),
        })
    }
}

/// Why nothing is accepted any more.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Stopped,
    Failed(Arc<str>),
}
