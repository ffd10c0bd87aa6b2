//! What members say to each other: opaque bytes with cluster, sender, receiver and checksum.
//!
//! Owns: that form, what is refused on the way in and how it is counted. Must not know: how bytes travel, what raft makes of them.

use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Message};

use super::disk::{Owner, RecordError, seal, unseal};
use crate::model::{ClusterId, MemberId};

/// Longest message: the longest command in an entry, and some.
pub const MAX_PEER_MESSAGE: usize = super::MAX_COMMAND_BYTES + (1 << 20);

/// What the checksum of a message is made with, so that none is taken for a record of a file.
const PLACE: &[u8] = b"peer";

const RAFT: u8 = 1;
const CHUNK: u8 = 2;
const CHUNK_TAKEN: u8 = 3;
const STATE_HASH: u8 = 4;

/// How members reach each other.
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// Sends, or drops. It must not block: a message that cannot be taken at once is lost, and what matters is sent again.
    fn send(&self, to: MemberId, bytes: Vec<u8>);
}

/// Nobody to talk to.
#[derive(Debug)]
pub(super) struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _to: MemberId, _bytes: Vec<u8>) {}
}

/// Why bytes from another member were refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeerError {
    /// Longer than any message is.
    #[error("message of {0} bytes, the most is {MAX_PEER_MESSAGE}")]
    TooLong(usize),
    /// Not as it was sent.
    #[error("message is damaged: {0}")]
    Damaged(String),
    /// From another cluster.
    #[error("message of cluster {found}, this is cluster {expected}")]
    OtherCluster {
        /// Its cluster.
        found: ClusterId,
        /// This one.
        expected: ClusterId,
    },
    /// For another member.
    #[error("message for member {found}, this is member {expected}")]
    OtherMember {
        /// Whom it is for.
        found: MemberId,
        /// This one.
        expected: MemberId,
    },
    /// Too much is waiting.
    #[error("too many messages are waiting")]
    Busy,
    /// The server has ended.
    #[error("server is shutting down")]
    Stopped,
}

/// A part of a state on its way to a member whose entries were cut.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Chunk {
    /// What tells one attempt to send a state from another.
    pub(super) session: u64,
    /// The leader's term.
    pub(super) leader_term: u64,
    /// The last entry applied in this state, and its term.
    pub(super) index: u64,
    pub(super) term: u64,
    /// Hash of the whole state.
    pub(super) hash: u64,
    /// Number of this part, from 0.
    pub(super) number: u64,
    pub(super) last: bool,
    /// Checksum over all parts up to and with this one.
    pub(super) checksum: u32,
    /// The members at that entry.
    pub(super) conf: ConfState,
    /// Rows, each as its length and its text.
    pub(super) rows: Vec<u8>,
}

/// What one member tells another.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Body {
    /// For raft.
    Raft(Box<Message>),
    /// A part of a state.
    Chunk(Box<Chunk>),
    /// Of the state that is sent in this session the part `wanted` is wanted next; when that is one after the last, all of it is here.
    ChunkTaken { session: u64, wanted: u64 },
    /// The hash of the state once `index` was applied.
    StateHash { index: u64, hash: u64 },
}

/// A message that arrived whole.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PeerMessage {
    pub(super) from: MemberId,
    pub(super) body: Body,
}

/// What was refused, by reason.
#[derive(Debug, Default)]
pub(super) struct PeerCounts {
    /// Damaged, too long or for somebody else.
    pub(super) refused: AtomicU64,
    /// Of members that are unknown or were removed.
    pub(super) unknown: AtomicU64,
    /// For want of room.
    pub(super) dropped: AtomicU64,
}

impl PeerCounts {
    pub(super) fn count(&self, error: &PeerError) {
        let counter = match error {
            PeerError::Busy | PeerError::Stopped => &self.dropped,
            PeerError::TooLong(_)
            | PeerError::Damaged(_)
            | PeerError::OtherCluster { .. }
            | PeerError::OtherMember { .. } => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The bytes of a message; `None` when they would be more than may be sent.
pub(super) fn encode(owner: Owner, to: MemberId, body: &Body) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    put(&mut bytes, &[owner.cluster.0, owner.member.0, to.0]);
    match body {
        Body::Raft(message) => {
            bytes.push(RAFT);
            bytes.extend(message.write_to_bytes().ok()?);
        }
        Body::Chunk(chunk) => {
            bytes.push(CHUNK);
            let Chunk { session, leader_term, index, term, hash, number, last, checksum, conf, rows } = &**chunk;
            let conf = conf.write_to_bytes().ok()?;
            let numbers = [
                *session,
                *leader_term,
                *index,
                *term,
                *hash,
                *number,
                u64::from(*last),
                u64::from(*checksum),
                conf.len() as u64,
            ];
            put(&mut bytes, &numbers);
            bytes.extend(conf);
            bytes.extend(rows);
        }
        Body::ChunkTaken { session, wanted } => {
            bytes.push(CHUNK_TAKEN);
            put(&mut bytes, &[*session, *wanted]);
        }
        Body::StateHash { index, hash } => {
            bytes.push(STATE_HASH);
            put(&mut bytes, &[*index, *hash]);
        }
    }
    let sealed = seal(PLACE, &bytes);
    (sealed.len() <= MAX_PEER_MESSAGE).then_some(sealed)
}

fn put(bytes: &mut Vec<u8>, numbers: &[u64]) {
    bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}

/// The message in these bytes, if it is for this member.
pub(super) fn decode(owner: Owner, bytes: &[u8]) -> Result<PeerMessage, PeerError> {
    if bytes.len() > MAX_PEER_MESSAGE {
        return Err(PeerError::TooLong(bytes.len()));
    }
    let payload = unseal(PLACE, bytes).map_err(|e: RecordError| PeerError::Damaged(e.to_string()))?;
    let malformed = || PeerError::Damaged("not in its form".into());
    let mut reader = Reader(payload);
    let [cluster, from, to] = reader.numbers().ok_or_else(malformed)?;
    if cluster != owner.cluster.0 {
        return Err(PeerError::OtherCluster { found: ClusterId(cluster), expected: owner.cluster });
    }
    if to != owner.member.0 {
        return Err(PeerError::OtherMember { found: MemberId(to), expected: owner.member });
    }
    let body = reader.body().filter(|body| match body {
        // Who speaks for another is not listened to.
        Body::Raft(message) => message.from == from && message.to == to,
        Body::Chunk(_) | Body::ChunkTaken { .. } | Body::StateHash { .. } => true,
    });
    Ok(PeerMessage { from: MemberId(from), body: body.ok_or_else(malformed)? })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn numbers<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            let (word, rest) = self.0.split_first_chunk::<8>()?;
            (*number, self.0) = (u64::from_le_bytes(*word), rest);
        }
        Some(numbers)
    }

    fn body(&mut self) -> Option<Body> {
        let (kind, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match *kind {
            RAFT => Body::Raft(Box::new(Message::parse_from_bytes(self.0).ok()?)),
            CHUNK => Body::Chunk(Box::new(self.chunk()?)),
            CHUNK_TAKEN => {
                let [session, wanted] = self.numbers()?;
                Body::ChunkTaken { session, wanted }
            }
            STATE_HASH => {
                let [index, hash] = self.numbers()?;
                Body::StateHash { index, hash }
            }
            _ => return None,
        })
    }

    fn chunk(&mut self) -> Option<Chunk> {
        let [session, leader_term, index, term, hash, number, last, checksum, conf] = self.numbers()?;
        let (conf, rows) = self.0.split_at_checked(usize::try_from(conf).ok()?)?;
        Some(Chunk {
            session,
            leader_term,
            index,
            term,
            hash,
            number,
            last: last == 1,
            checksum: u32::try_from(checksum).ok()?,
            conf: ConfState::parse_from_bytes(conf).ok()?,
            rows: rows.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const ONE: Owner = Owner { cluster: ClusterId(7), member: MemberId(1) };
    const TWO: Owner = Owner { cluster: ClusterId(7), member: MemberId(2) };

    fn bodies() -> Vec<Body> {
        let message = Message { from: 1, to: 2, term: 9, ..Message::default() };
        let conf = ConfState { voters: vec![1, 2], ..ConfState::default() };
        let chunk =
            Chunk { index: 5, number: 3, last: true, checksum: 77, conf, rows: vec![1, 2, 3], ..Chunk::default() };
        vec![
            Body::Raft(Box::new(message)),
            Body::Chunk(Box::new(chunk)),
            Body::ChunkTaken { session: 1, wanted: 2 },
            Body::StateHash { index: 3, hash: 4 },
        ]
    }

    #[test]
    fn messages_arrive_whole_or_not_at_all() {
        for body in bodies() {
            let bytes = encode(ONE, TWO.member, &body).unwrap();
            assert_eq!(decode(TWO, &bytes), Ok(PeerMessage { from: ONE.member, body }));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 16;
                assert!(matches!(decode(TWO, &bad), Err(PeerError::Damaged(_))));
                assert!(decode(TWO, &bytes[..at]).is_err());
            }
        }
    }

    #[test]
    fn l5_messages_of_other_clusters_and_for_other_members_are_refused() {
        let bytes = encode(ONE, TWO.member, &Body::StateHash { index: 1, hash: 1 }).unwrap();
        let elsewhere = Owner { cluster: ClusterId(8), member: TWO.member };
        assert_eq!(decode(elsewhere, &bytes).unwrap_err().to_string(), "message of cluster 7, this is cluster 8");
        assert_eq!(decode(ONE, &bytes).unwrap_err().to_string(), "message for member 2, this is member 1");
        let forged = Message { from: 3, to: 2, ..Message::default() };
        let bytes = encode(ONE, TWO.member, &Body::Raft(Box::new(forged))).unwrap();
        assert!(decode(TWO, &bytes).is_err());
        assert!(matches!(decode(TWO, &vec![0; MAX_PEER_MESSAGE + 1]), Err(PeerError::TooLong(_))));
    }
}
