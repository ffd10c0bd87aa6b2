//! The whole state on its way to a member whose entries were cut: in parts, each asked for once the one before is there.
//!
//! Owns: what is sent next, what is taken, when it is begun anew or given up. Must not know: raft, disk, how parts travel. The sender holds
//! one version of the state (which shares what did not change) and one part; the receiver holds the state that is coming into being.

use std::time::Duration;

use super::{
    disk::Applied,
    machine::{RowKey, State},
    parts::{self, PART_BYTES, Part},
    peer::Chunk,
};
use crate::model::{MemberId, Mono};

/// A part that was not confirmed for so long is sent again.
const PATIENCE: Duration = Duration::from_millis(500);

/// So often without anything new from the receiver; then raft tries the member itself again.
const MAX_TRIES: u32 = 8;

/// What the sender does next.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Next {
    /// Nothing.
    Wait,
    /// Sends this part.
    Send(Box<Chunk>),
    /// All of it arrived.
    Arrived,
    /// The receiver does not answer.
    GivenUp,
}

/// A state that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    session: u64,
    leader_term: u64,
    applied: Applied,
    state: State,
    /// The first row after the current part.
    next_row: Option<RowKey>,
    chunk: Chunk,
    sent_at: Mono,
    tries: u32,
}

impl Sending {
    /// Begins to send `state`, in which `applied` was applied last.
    pub(super) fn new(leader_term: u64, applied: Applied, state: State, now: Mono) -> Self {
        let mut sending = Self {
            session: now.0,
            leader_term,
            applied,
            state,
            next_row: None,
            chunk: Chunk::default(),
            sent_at: now,
            tries: 0,
        };
        sending.begin();
        sending
    }

    /// The last entry applied in it.
    pub(super) fn index(&self) -> u64 {
        self.applied.index
    }

    /// The first part.
    pub(super) fn first(&self) -> Box<Chunk> {
        Box::new(self.chunk.clone())
    }

    fn begin(&mut self) {
        self.next_row = None;
        self.chunk = self.cut(None, 0, 0);
    }

    /// The part of this number that begins with this row.
    fn cut(&mut self, from: Option<&RowKey>, number: u64, checksum: u32) -> Chunk {
        let Part { bytes: rows, next, .. } = parts::cut(&self.state, from, PART_BYTES);
        self.next_row = next;
        Chunk {
            session: self.session,
            leader_term: self.leader_term,
            index: self.applied.index,
            term: self.applied.term,
            hash: self.state.hash,
            number,
            last: self.next_row.is_none(),
            checksum: extend(checksum, &rows),
            conf: self.applied.conf.clone(),
            rows,
        }
    }

    /// The receiver wants the part of this number.
    pub(super) fn wanted(&mut self, session: u64, number: u64, now: Mono) -> Next {
        let current = self.chunk.number;
        if session != self.session || (number <= current && number != 0) {
            return Next::Wait;
        }
        if number == current + 1 {
            (self.tries, self.sent_at) = (0, now);
            if self.chunk.last {
                return Next::Arrived;
            }
            let from = self.next_row.take();
            self.chunk = self.cut(from.as_ref(), number, self.chunk.checksum);
            return Next::Send(self.first());
        }
        if number == 0 && current > 0 {
            // It lost what it had. Tries go on, so that this cannot go round for ever.
            self.tries += 1;
            self.sent_at = now;
            self.begin();
            return if self.tries > MAX_TRIES { Next::GivenUp } else { Next::Send(self.first()) };
        }
        Next::Wait
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Mono) -> Next {
        if now.since(self.sent_at) < PATIENCE {
            return Next::Wait;
        }
        (self.tries, self.sent_at) = (self.tries + 1, now);
        if self.tries > MAX_TRIES { Next::GivenUp } else { Next::Send(self.first()) }
    }
}

/// A state that has arrived.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) leader_term: u64,
    pub(super) applied: Applied,
    pub(super) state: State,
}

/// A state that is arriving.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    /// Sender and session; `None`: nothing has come yet.
    of: Option<(MemberId, u64)>,
    /// Number of the next part.
    next: u64,
    checksum: u32,
    state: State,
}

impl Receiving {
    /// Takes a part. Says which is wanted next, and returns the state if it is complete.
    pub(super) fn take(&mut self, from: MemberId, chunk: &Chunk) -> (u64, Option<Received>) {
        if self.of != Some((from, chunk.session)) {
            if chunk.number != 0 {
                return (0, None);
            }
            *self = Self { of: Some((from, chunk.session)), ..Self::default() };
        }
        if chunk.number != self.next {
            return (self.next, None);
        }
        let checksum = extend(self.checksum, &chunk.rows);
        if checksum != chunk.checksum || parts::read(&chunk.rows, &mut self.state).is_none() {
            *self = Self::default();
            return (0, None);
        }
        (self.checksum, self.next) = (checksum, self.next + 1);
        if !chunk.last {
            return (self.next, None);
        }
        let state = std::mem::take(&mut self.state);
        if state.hash != chunk.hash {
            *self = Self::default();
            return (0, None);
        }
        let applied = Applied { index: chunk.index, term: chunk.term, conf: chunk.conf.clone() };
        (self.next, Some(Received { leader_term: chunk.leader_term, applied, state }))
    }
}

fn extend(checksum: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(checksum);
    hasher.update(bytes);
    hasher.finalize()
}
