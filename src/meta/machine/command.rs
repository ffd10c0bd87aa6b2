//! What can be asked of the agreed state ([`Command`]), what the asker gets ([`Reply`]) and the form in which both travel through
//! the log ([`Envelope`]).
//!
//! Owns: the shapes and their encoding. Must not know: how a command is decided (`stores`, `settings`, `gc`), disk, raft.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AskedBy, Barrier, Drain, GcPoints, Member, encoding::base64_bytes, records::EndedRow};
use crate::model::{ClusterId, ClusterVersion, MemberId, StoreId, StoreLabel, StoreLimits, StoreRecord, Wall};
/// Version of the encoding of an [`Envelope`]; the first byte of each. A higher one comes from a newer Berth.
pub const ENVELOPE_VERSION: u8 = 1;

/// Longest encoded command. A whole rule bundle or configuration stays far below it; without a bound one request could fill the
/// log and the memory of every member.
pub const MAX_COMMAND_BYTES: usize = 8 << 20;

/// Most rows that one command may carry (rules, label rules, heartbeats, global configuration items): an entry is applied in one
/// go, and must not hold up the others for long.
pub const MAX_ROWS_A_COMMAND: usize = 16_384;

/// Most rows of one kind (stores, rules, label rules, items of the global or timed configuration) that are kept: far above what
/// clusters have, so that only a client gone wild meets it.
pub const MAX_ROWS_KEPT: usize = 1_000_000;

/// Which of a store's two limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LimitKind {
    /// `add-peer`.
    AddPeer,
    /// `remove-peer`.
    RemovePeer,
}

/// A placement rule as a row: its key and its JSON text, which only `scheduler` reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RuleRow {
    /// Group.
    pub group: String,
    /// Id in the group.
    pub id: String,
    /// The rule.
    pub json: String,
}

/// A rule group, region label rule or keyspace as a row: its id and its JSON text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamedRow {
    /// Id.
    pub id: String,
    /// The text.
    pub json: String,
}

/// A label rule that is to be replaced if its text is still `was`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LabelRuleReplacement {
    /// Id.
    pub id: String,
    /// Its text as it was seen.
    pub was: String,
    /// Its new text; `None` deletes it.
    pub becomes: Option<String>,
}

/// A configuration item that holds for a time only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TtlItem {
    /// Its value as text.
    pub value: String,
    /// When it ends.
    pub expires: Wall,
}

/// One change of the global configuration: the whole key, and its value or `None` to delete it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GlobalConfigChange {
    /// Whole key, path included.
    pub key: String,
    /// New value; `None` deletes.
    #[serde(with = "base64_bytes::option")]
    pub value: Option<Vec<u8>>,
}

/// What makes a cluster: all of it is there afterwards, or nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The first store.
    pub store: StoreRecord,
    /// The limits it gets.
    pub limits: StoreLimits,
    /// The first region, as an encoded `metapb.Region`.
    #[serde(with = "base64_bytes")]
    pub region: Vec<u8>,
    /// Rules to begin with.
    pub rules: Vec<RuleRow>,
    /// Label rules to begin with (that of keyspace 0).
    pub label_rules: Vec<NamedRow>,
    /// Keyspaces to begin with (keyspace 0).
    pub keyspaces: Vec<NamedRow>,
}

/// The parts of one change of the configuration: refused as a whole when one of them is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The whole of the configuration that can change while running.
    pub config: Option<String>,
    /// The cluster version.
    pub version: Option<ClusterVersion>,
    /// Placement rules to write.
    pub rules: Vec<RuleRow>,
    /// Rule groups to write.
    pub groups: Vec<NamedRow>,
    /// Rules to delete, before any is written: group and id.
    pub delete_rules: Vec<(String, String)>,
    /// Groups to delete, before any is written.
    pub delete_groups: Vec<String>,
    /// Limits of single stores.
    pub limits: Vec<(StoreId, StoreLimits)>,
}

/// A change of the agreed state. What depends on a clock or on what is observed stands in the command: applying it is the same
/// everywhere.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Gives the cluster its id; done once, by the first leader.
    InitCluster {
        /// The id.
        cluster_id: ClusterId,
    },
    /// Makes the cluster.
    Bootstrap(Box<Bootstrap>),
    /// Adds a store or updates what it says about itself. States, weights and last heartbeat of a known store stay.
    PutStore {
        /// What the store says.
        record: Box<StoreRecord>,
        /// Limits that a new store gets.
        limits: StoreLimits,
    },
    /// Saves when stores were last heard; unknown and removed ones are passed over.
    SaveHeartbeats {
        /// Store and time.
        heard: Vec<(StoreId, Wall)>,
    },
    /// Begins to take a store out.
    OfflineStore {
        /// The store.
        id: StoreId,
        /// Its machine is gone (`force`): nothing is checked.
        physically_destroyed: bool,
        /// How many TiKV stores must stay up (`max-replicas`).
        need_up: u64,
        /// Whether to check that (PD does not for TiFlash, and neither does the machine).
        tikv_up_check: bool,
        /// Stores that hold no leaders (evict-leader): a leader must have somewhere to go.
        evict_leader: Vec<StoreId>,
    },
    /// Takes the removal back; the limit that it changed comes back.
    UpStore {
        /// The store.
        id: StoreId,
    },
    /// Makes a store Tombstone.
    BuryStore {
        /// The store.
        id: StoreId,
        /// Also from Up.
        force: bool,
        /// Whether it was heard from lately: then not even `force` buries it from Up.
        connected: bool,
        /// When it was last heard. The record keeps it: the age of a Tombstone is counted from here.
        heard: Wall,
    },
    /// Ends Preparing.
    ServingStore {
        /// The store.
        id: StoreId,
    },
    /// Forgets a Tombstone store; its id stays dead for ever.
    RemoveTombstone {
        /// The store.
        id: StoreId,
    },
    /// Sets labels of a store.
    SetStoreLabels {
        /// The store.
        id: StoreId,
        /// The labels; one with an empty value is removed.
        labels: Vec<StoreLabel>,
        /// Whether these replace all others.
        force: bool,
    },
    /// Removes a label.
    DeleteStoreLabel {
        /// The store.
        id: StoreId,
        /// Its key.
        key: String,
    },
    /// Sets the weights of a store.
    SetStoreWeight {
        /// The store.
        id: StoreId,
        /// For leaders.
        leader: f64,
        /// For regions.
        region: f64,
    },
    /// Sets one limit of a store.
    SetStoreLimit {
        /// The store.
        id: StoreId,
        /// Which.
        kind: LimitKind,
        /// Peers a minute.
        rate: f64,
    },
    /// Sets one limit of all stores, or of those named.
    SetAllStoreLimits {
        /// Which.
        kind: LimitKind,
        /// Peers a minute.
        rate: f64,
        /// Only these; `None`: all that are not Tombstone.
        stores: Option<Vec<StoreId>>,
    },
    /// Saves the configuration that can change while running.
    SaveDynamicConfig {
        /// The whole of it.
        json: String,
    },
    /// Saves configuration items that hold for a time; `None` ends one.
    SaveTtlConfig {
        /// Item and value.
        items: Vec<(String, Option<TtlItem>)>,
    },
    /// Sets the cluster version.
    SetClusterVersion {
        /// It.
        version: ClusterVersion,
    },
    /// Changes placement rules and groups in one step: first deletes, then puts.
    PutRules {
        /// Rules to write.
        rules: Vec<RuleRow>,
        /// Groups to write.
        groups: Vec<NamedRow>,
        /// Rules to delete: group and id.
        delete_rules: Vec<(String, String)>,
        /// Groups to delete.
        delete_groups: Vec<String>,
    },
    /// Changes region label rules in one step: first deletes, then puts.
    PutLabelRules {
        /// To write.
        rules: Vec<NamedRow>,
        /// Ids to delete.
        delete: Vec<String>,
    },
    /// Takes the next ids for the leader to hand out.
    AllocIdWindow {
        /// How many.
        size: u64,
    },
    /// Makes every id handed out later higher than this one (`base-alloc-id`).
    RebaseIds {
        /// The id.
        above: u64,
    },
    /// Allows timestamps below this bound.
    SaveTsoWindow {
        /// The bound, Unix milliseconds.
        upper_ms: i64,
    },
    /// Moves the GC safe point.
    UpdateGcSafePoint {
        /// Where to.
        value: u64,
    },
    /// Moves, sets or removes a service safe point (a GC barrier; that of `gc_worker` is the transaction safe point).
    UpdateServiceGcSafePoint {
        /// Who.
        service_id: String,
        /// For how many seconds; not positive: remove.
        ttl: i64,
        /// Where to.
        safe_point: u64,
    },
    /// Changes the global configuration.
    ChangeGlobalConfig {
        /// What.
        changes: Vec<GlobalConfigChange>,
    },
    /// Writes a keyspace record.
    PutKeyspace(NamedRow),
    /// Saves the lowest resolved timestamp of the cluster; a lower one than before is passed over.
    SaveMinResolvedTs {
        /// It.
        value: u64,
    },
    /// Keeps what an old client set as the number of replicas; only the same clients read it.
    SetMaxPeerCount {
        /// It.
        count: u32,
    },
    /// Adds a member or updates what it says about itself; its priority stays as it was set.
    UpdateMember(Member),
    /// Sets where leadership should be: with the member of the highest priority that can lead.
    SetLeaderPriority {
        /// The member.
        id: MemberId,
        /// 0 when it was never set.
        priority: i32,
    },
    /// Changes all that one request for a change of the configuration comes to, or nothing (C1).
    ChangeConfig(Box<ConfigChange>),
    /// Replaces label rules that are still as they were seen: whoever has set one again meanwhile keeps what he set.
    ReplaceLabelRules {
        /// What.
        changes: Vec<LabelRuleReplacement>,
    },
    /// Another command, and who asked for it: a drain that begins by it remembers that.
    Asked {
        /// Who.
        by: AskedBy,
        /// What.
        command: Box<Command>,
    },
    /// Changes schedulers in one step: the list, which is part of the dynamic configuration, and what is kept for each by name.
    PutSchedulers {
        /// The whole dynamic configuration; `None`: the list stays.
        config: Option<String>,
        /// To write.
        put: Vec<NamedRow>,
        /// Names to delete.
        delete: Vec<String>,
    },
    /// Keeps what this leader knows and those after it could not find out.
    PutRecords {
        /// How far stores have come, by store; `None`: it is not on its way any more.
        progress: Vec<(StoreId, Option<String>)>,
        /// Operators that have ended.
        ended: Vec<EndedRow>,
    },
}

/// What a command came to.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Done.
    Done,
    /// [`Command::PutStore`].
    StorePut {
        /// As it is now.
        record: Arc<StoreRecord>,
        /// As it was; `None`: it is new.
        previous: Option<Arc<StoreRecord>>,
    },
    /// [`Command::OfflineStore`].
    Offline {
        /// False: it was so before.
        changed: bool,
        /// As it is now.
        record: Arc<StoreRecord>,
        /// What its drain remembers.
        drain: Option<Arc<Drain>>,
    },
    /// [`Command::UpStore`], [`Command::BuryStore`] and other changes of one store.
    Store {
        /// False: it was so before.
        changed: bool,
        /// As it is now.
        record: Arc<StoreRecord>,
        /// Its limits now.
        limits: Option<StoreLimits>,
    },
    /// [`Command::AllocIdWindow`]: the ids `first..=last`.
    Ids {
        /// First.
        first: u64,
        /// Last.
        last: u64,
    },
    /// [`Command::UpdateGcSafePoint`].
    GcSafePoint {
        /// As they are now.
        points: GcPoints,
        /// The GC safe point before.
        previous: u64,
    },
    /// [`Command::UpdateServiceGcSafePoint`].
    ServiceSafePoint {
        /// The lowest of all, as PD's callers expect it.
        lowest: Barrier,
        /// Whether something moved.
        updated: bool,
    },
    /// [`Command::ChangeGlobalConfig`].
    Revision(u64),
}

/// A command with what its proposer stamped on it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Which run of which member proposed it; with `ticket` it finds the waiting caller.
    pub origin: u64,
    /// The proposer's number for it.
    pub ticket: u64,
    /// The proposer's wall clock: the only time that deciding may look at.
    pub now: Wall,
    /// What to do.
    pub command: Command,
}

/// Why bytes are no [`Envelope`].
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// No bytes, or not what they should be.
    #[error("not a command: {0}")]
    Malformed(String),
    /// Written by a newer Berth.
    #[error("command of format {0}, this binary knows up to {ENVELOPE_VERSION}")]
    Newer(u8),
}

impl Envelope {
    /// Its bytes for the log.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        let mut bytes = vec![ENVELOPE_VERSION];
        serde_json::to_writer(&mut bytes, self).map_err(|e| EnvelopeError::Malformed(e.to_string()))?;
        Ok(bytes)
    }

    /// Back from the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let (version, json) = bytes.split_first().ok_or_else(|| EnvelopeError::Malformed("empty".into()))?;
        if *version > ENVELOPE_VERSION {
            return Err(EnvelopeError::Newer(*version));
        }
        serde_json::from_slice(json).map_err(|e| EnvelopeError::Malformed(e.to_string()))
    }
}
