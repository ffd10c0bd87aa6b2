//! Regions: what a leader peer reports of its key range.
//!
//! [`RegionMeta`] (identity, range, epoch, peers) changes only on splits, merges and membership changes and is shared between
//! versions of a [`Region`]; the rest of a region changes with every heartbeat.

use std::sync::Arc;

use super::{KeyRange, PeerId, RegionId, StoreId, bucket::Buckets, ids::MAX_ID};

/// What a peer may do. The numbers are those of `metapb.PeerRole`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Role {
    /// Votes and may lead.
    #[default]
    Voter = 0,
    /// Receives the log, does not vote.
    Learner = 1,
    /// In a joint state: a learner that becomes a voter.
    IncomingVoter = 2,
    /// In a joint state: a voter that becomes a learner.
    DemotingVoter = 3,
}

impl Role {
    /// The name that `metapb` gives the role: logs and REST print it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Voter => "Voter",
            Role::Learner => "Learner",
            Role::IncomingVoter => "IncomingVoter",
            Role::DemotingVoter => "DemotingVoter",
        }
    }

    /// Whether the peer has a vote in the present configuration or in the one that is being left or entered.
    pub fn votes(self) -> bool {
        self != Role::Learner
    }

    /// Whether the peer is in the middle of a joint change.
    pub fn in_joint_state(self) -> bool {
        matches!(self, Role::IncomingVoter | Role::DemotingVoter)
    }
}

/// One replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Peer {
    /// Id of the peer, never used again.
    pub id: PeerId,
    /// The store it lives on.
    pub store: StoreId,
    /// What it may do.
    pub role: Role,
    /// Keeps the log only, no data.
    pub is_witness: bool,
}

impl Peer {
    /// A peer with a vote.
    pub fn voter(id: u64, store: u64) -> Self {
        Self { id: PeerId(id), store: StoreId(store), ..Self::default() }
    }

    /// A peer without a vote.
    pub fn learner(id: u64, store: u64) -> Self {
        Self { role: Role::Learner, ..Self::voter(id, store) }
    }
}

/// Counts of the changes of a region: `version` grows with splits and merges, `conf_ver` with membership changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Epoch {
    /// Membership changes.
    pub conf_ver: u64,
    /// Splits and merges.
    pub version: u64,
}

impl Epoch {
    /// The pair.
    pub fn new(conf_ver: u64, version: u64) -> Self {
        Self { conf_ver, version }
    }

    /// Whether either count is lower than in `other`.
    pub fn is_older_than(self, other: Epoch) -> bool {
        self.version < other.version || self.conf_ver < other.conf_ver
    }
}

/// The part of a region that changes rarely.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegionMeta {
    /// Id of the region.
    pub id: RegionId,
    /// Its key range; never empty in the index.
    pub range: KeyRange,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its replicas, in the order of the leader's report; at most one a store.
    pub peers: Vec<Peer>,
}

impl RegionMeta {
    /// The peer on `store`, whatever its role.
    pub fn peer_on(&self, store: StoreId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.store == store)
    }

    /// The peer of this id.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.id == id)
    }

    /// The highest of its own id and those of its peers: they come from one sequence. One that cannot come from it does not count, and
    /// hides no other.
    pub fn highest_id(&self) -> u64 {
        let all = self.peers.iter().map(|p| p.id.0).chain([self.id.0]);
        all.filter(|id| *id <= MAX_ID).max().unwrap_or(0)
    }

    /// Peers with role `Voter`, `IncomingVoter` or `DemotingVoter` (PD calls these voters).
    pub fn voters(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|p| p.role.votes())
    }

    /// Peers with role `Learner`.
    pub fn learners(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|p| !p.role.votes())
    }

    /// Whether a joint change is under way.
    pub fn in_joint_state(&self) -> bool {
        self.peers.iter().any(|p| p.role.in_joint_state())
    }
}

/// A peer that its leader has not heard from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DownPeer {
    /// The peer.
    pub peer: PeerId,
    /// For how many seconds, as the leader counts.
    pub seconds: u64,
}

/// Traffic since the region's previous report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Keys written.
    pub keys_written: u64,
    /// Keys read.
    pub keys_read: u64,
    /// Read queries (gets, scans, coprocessor).
    pub read_query: u64,
    /// Write queries (puts, deletes, prewrites, commits …).
    pub write_query: u64,
    /// CPU share, in per cent of a core.
    pub cpu_usage: u64,
    /// The time the report is about, Unix seconds.
    pub interval: (u64, u64),
}

impl Flow {
    /// Whether nothing was read or written.
    pub fn is_idle(&self) -> bool {
        *self == Flow { interval: self.interval, ..Flow::default() }
    }
}

/// What only few regions have: those that are being flashed back, encrypted ones, those with columns or buckets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RareFields {
    /// `encryptionpb.EncryptionMeta`, encoded; empty when there is none. Only nodes read it.
    pub encryption: Vec<u8>,
    /// Whether it is being flashed back: nothing else may be done to it then.
    pub in_flashback: bool,
    /// Where to.
    pub flashback_start_ts: u64,
    /// Approximate size of its columns in MiB.
    pub columnar_kv_size_mib: u64,
    /// Its buckets, which come in reports of their own.
    pub buckets: Option<Arc<Buckets>>,
}

/// A region as its leader last reported it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Region {
    /// Identity, range, epoch, peers.
    pub meta: Arc<RegionMeta>,
    /// The leader; `None` until one reports (a region read back from disk).
    pub leader: Option<PeerId>,
    /// Raft term of the leader; 0 from nodes that do not tell.
    pub term: u64,
    /// Approximate size in MiB. 0 is "unknown": see [`Region::size_known`].
    pub size_mib: u64,
    /// Whether `size_mib` was ever reported (an empty region reports 1).
    pub size_known: bool,
    /// Approximate number of keys.
    pub keys: u64,
    /// Approximate size in MiB as the column stores of TiFlash count it (`approximate_kv_size`).
    pub kv_size_mib: u64,
    /// Peers that the leader has not heard from.
    pub down: Vec<DownPeer>,
    /// Peers that lag behind (a new peer that has no snapshot yet among them).
    pub pending: Vec<PeerId>,
    /// Traffic.
    pub flow: Flow,
    /// When this version was heard from the leader; `None` for a region that came from the disk cache or another member.
    pub heard: Option<super::Mono>,
    /// Replication mode state (`replication_modepb.RegionReplicationState`) and its id.
    pub replication: (i32, u64),
    /// Everything that most regions do not have.
    pub rare: Option<Box<RareFields>>,
}

impl Region {
    /// Id of the region.
    pub fn id(&self) -> RegionId {
        self.meta.id
    }

    /// Its buckets, when its node tells them.
    pub fn buckets(&self) -> Option<&Arc<Buckets>> {
        self.rare.as_ref()?.buckets.as_ref()
    }

    /// Its key range.
    pub fn range(&self) -> &KeyRange {
        &self.meta.range
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.meta.epoch
    }

    /// Its replicas.
    pub fn peers(&self) -> &[Peer] {
        &self.meta.peers
    }

    /// The leader's peer.
    pub fn leader_peer(&self) -> Option<&Peer> {
        self.leader.and_then(|id| self.meta.peer(id))
    }

    /// The store that leads.
    pub fn leader_store(&self) -> Option<StoreId> {
        self.leader_peer().map(|p| p.store)
    }

    /// Whether the leader has lost touch with this peer.
    pub fn is_down(&self, peer: PeerId) -> bool {
        self.down.iter().any(|d| d.peer == peer)
    }

    /// Whether this peer lags behind.
    pub fn is_pending(&self, peer: PeerId) -> bool {
        self.pending.contains(&peer)
    }
}
