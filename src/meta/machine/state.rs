//! The agreed state ([`State`]) and its rows.
//!
//! A state is nothing but a set of rows: the same [`Row`]s lie in the state file, come back from it, and are what an applied command
//! writes. Owns: rows, their keys, the state's maps and its hash. Must not know: commands, disk, raft.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    TtlItem,
    encoding::{base64_bytes, shared},
};
use crate::model::{ClusterId, ClusterVersion, MemberId, PersistentMap, StoreId, StoreLimits, StoreRecord, Wall};

/// The cluster as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id, never changed once set.
    pub id: ClusterId,
    /// When it was bootstrapped; `None`: not yet.
    pub bootstrapped: Option<Wall>,
    /// The first region as an encoded `metapb.Region`.
    #[serde(with = "base64_bytes")]
    pub first_region: Vec<u8>,
}

/// A member of the group that agrees.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where members reach it.
    pub peer_urls: Vec<String>,
    /// Where it is installed.
    pub deploy_path: String,
    /// Version of its binary.
    pub binary_version: String,
    /// Git hash of its binary.
    pub git_hash: String,
    /// Who should rather lead: higher first.
    pub leader_priority: i32,
}

/// Who asked for a change, as the audit line shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AskedBy {
    /// What the caller calls itself.
    pub component: String,
    /// Where it called from.
    pub ip: String,
}

/// What is remembered of a store that is being taken out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Drain {
    /// The store.
    pub store: StoreId,
    /// When it began.
    pub since: Wall,
    /// The limits before; `remove_peer` comes back on cancel. `None`: the store had none.
    pub previous: Option<StoreLimits>,
    /// Who asked for it, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AskedBy>,
}

/// The two points that GC moves. `gc <= txn` always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GcPoints {
    /// Data before it may be gone.
    pub gc: u64,
    /// Snapshots from it on can be read.
    pub txn: u64,
}

/// Who a service safe point of the GC worker belongs to.
pub const GC_WORKER: &str = "gc_worker";

/// Holds the transaction safe point back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Barrier {
    /// Who set it.
    pub id: String,
    /// Where GC may not go past.
    pub ts: u64,
    /// Until when, Unix seconds; `i64::MAX`: for ever.
    pub expires: i64,
}

/// An item of the global configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GlobalConfigItem {
    /// Whole key.
    pub key: String,
    /// Value.
    #[serde(with = "base64_bytes")]
    pub value: Vec<u8>,
    /// Revision of its last change.
    pub revision: u64,
}

/// One row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Row {
    /// The cluster.
    Cluster(#[serde(with = "shared")] Arc<Cluster>),
    /// Lowest version of its stores.
    ClusterVersion(ClusterVersion),
    /// A member.
    Member(#[serde(with = "shared")] Arc<Member>),
    /// A store.
    Store(#[serde(with = "shared")] Arc<StoreRecord>),
    /// Its limits.
    Limits(StoreId, StoreLimits),
    /// Its drain.
    Drain(#[serde(with = "shared")] Arc<Drain>),
    /// An id that was a store once and never will be again.
    DeadStore(StoreId),
    /// The dynamic configuration.
    Config(#[serde(with = "shared")] Arc<str>),
    /// An item that holds for a time.
    TtlConfig(String, #[serde(with = "shared")] Arc<TtlItem>),
    /// A placement rule: group, id, text.
    Rule(String, String, #[serde(with = "shared")] Arc<str>),
    /// A rule group.
    RuleGroup(String, #[serde(with = "shared")] Arc<str>),
    /// A region label rule.
    LabelRule(String, #[serde(with = "shared")] Arc<str>),
    /// A keyspace.
    Keyspace(String, #[serde(with = "shared")] Arc<str>),
    /// The last id that was taken for handing out.
    IdEnd(u64),
    /// Timestamps stay below this, Unix milliseconds.
    TsoUpper(i64),
    /// GC.
    Gc(GcPoints),
    /// A GC barrier.
    Barrier(#[serde(with = "shared")] Arc<Barrier>),
    /// An item of the global configuration.
    GlobalConfig(#[serde(with = "shared")] Arc<GlobalConfigItem>),
    /// Revision of the last change of the global configuration.
    GlobalRevision(u64),
    /// Lowest resolved timestamp.
    MinResolvedTs(u64),
    /// What old clients set as the number of replicas (`PutClusterConfig`).
    MaxPeerCount(u32),
    /// The own configuration of a scheduler, by its name.
    Scheduler(String, #[serde(with = "shared")] Arc<str>),
    /// What a leader wrote down for those after it; see [`super::records`].
    Record(String, #[serde(with = "shared")] Arc<str>),
}

/// What names a [`Row`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RowKey {
    /// See [`Row::Cluster`].
    Cluster,
    /// See [`Row::ClusterVersion`].
    ClusterVersion,
    /// See [`Row::Member`].
    Member(MemberId),
    /// See [`Row::Store`].
    Store(StoreId),
    /// See [`Row::Limits`].
    Limits(StoreId),
    /// See [`Row::Drain`].
    Drain(StoreId),
    /// See [`Row::DeadStore`].
    DeadStore(StoreId),
    /// See [`Row::Config`].
    Config,
    /// See [`Row::TtlConfig`].
    TtlConfig(String),
    /// See [`Row::Rule`].
    Rule(String, String),
    /// See [`Row::RuleGroup`].
    RuleGroup(String),
    /// See [`Row::LabelRule`].
    LabelRule(String),
    /// See [`Row::Keyspace`].
    Keyspace(String),
    /// See [`Row::IdEnd`].
    IdEnd,
    /// See [`Row::TsoUpper`].
    TsoUpper,
    /// See [`Row::Gc`].
    Gc,
    /// See [`Row::Barrier`].
    Barrier(String),
    /// See [`Row::GlobalConfig`].
    GlobalConfig(String),
    /// See [`Row::GlobalRevision`].
    GlobalRevision,
    /// See [`Row::MinResolvedTs`].
    MinResolvedTs,
    /// See [`Row::MaxPeerCount`].
    MaxPeerCount,
    /// See [`Row::Scheduler`].
    Scheduler(String),
    /// See [`Row::Record`].
    Record(String),
}

impl Row {
    /// What names it.
    pub fn key(&self) -> RowKey {
        match self {
            Row::Cluster(_) => RowKey::Cluster,
            Row::ClusterVersion(_) => RowKey::ClusterVersion,
            Row::Member(m) => RowKey::Member(m.id),
            Row::Store(s) => RowKey::Store(s.id),
            Row::Limits(id, _) => RowKey::Limits(*id),
            Row::Drain(d) => RowKey::Drain(d.store),
            Row::DeadStore(id) => RowKey::DeadStore(*id),
            Row::Config(_) => RowKey::Config,
            Row::TtlConfig(name, _) => RowKey::TtlConfig(name.clone()),
            Row::Rule(group, id, _) => RowKey::Rule(group.clone(), id.clone()),
            Row::RuleGroup(id, _) => RowKey::RuleGroup(id.clone()),
            Row::LabelRule(id, _) => RowKey::LabelRule(id.clone()),
            Row::Keyspace(id, _) => RowKey::Keyspace(id.clone()),
            Row::IdEnd(_) => RowKey::IdEnd,
            Row::TsoUpper(_) => RowKey::TsoUpper,
            Row::Gc(_) => RowKey::Gc,
            Row::Barrier(b) => RowKey::Barrier(b.id.clone()),
            Row::GlobalConfig(item) => RowKey::GlobalConfig(item.key.clone()),
            Row::GlobalRevision(_) => RowKey::GlobalRevision,
            Row::MinResolvedTs(_) => RowKey::MinResolvedTs,
            Row::MaxPeerCount(_) => RowKey::MaxPeerCount,
            Row::Scheduler(name, _) => RowKey::Scheduler(name.clone()),
            Row::Record(name, _) => RowKey::Record(name.clone()),
        }
    }
}

/// One change of a row. A command comes down to some of these; writing them cannot fail.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Write.
    Put(Row),
    /// Delete.
    Delete(RowKey),
}

/// What the members agree on. A clone shares all its maps; an apply copies only what it changes while someone holds the version
/// before: of the maps that can be large some nodes, of the others the whole map.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct State {
    /// The cluster; `None` until the first leader gave it its id.
    pub cluster: Option<Arc<Cluster>>,
    /// Lowest version of its stores; `None` before bootstrap.
    pub cluster_version: Option<ClusterVersion>,
    /// Members.
    pub members: Arc<BTreeMap<MemberId, Arc<Member>>>,
    /// Stores, Tombstones that were not removed yet among them.
    pub stores: Arc<BTreeMap<StoreId, Arc<StoreRecord>>>,
    /// Limits of stores.
    pub limits: Arc<BTreeMap<StoreId, StoreLimits>>,
    /// Drains under way.
    pub drains: Arc<BTreeMap<StoreId, Arc<Drain>>>,
    /// Ids of removed stores.
    pub dead_stores: Arc<BTreeSet<StoreId>>,
    /// The dynamic configuration as JSON; `None`: never changed.
    pub config: Option<Arc<str>>,
    /// Configuration items that hold for a time.
    pub ttl_config: Arc<BTreeMap<String, Arc<TtlItem>>>,
    /// Placement rules by (group, id), as JSON.
    pub rules: PersistentMap<(String, String), Arc<str>>,
    /// Rule groups, as JSON.
    pub rule_groups: PersistentMap<String, Arc<str>>,
    /// Region label rules, as JSON.
    pub label_rules: PersistentMap<String, Arc<str>>,
    /// Keyspaces, as JSON.
    pub keyspaces: PersistentMap<String, Arc<str>>,
    /// The own configuration of schedulers by name, as JSON.
    pub schedulers: PersistentMap<String, Arc<str>>,
    /// What leaders wrote down for those after them, as JSON; see [`super::records`].
    pub records: PersistentMap<String, Arc<str>>,
    /// The last id taken for handing out.
    pub id_end: u64,
    /// Timestamps stay below this, Unix milliseconds.
    pub tso_upper_ms: i64,
    /// GC.
    pub gc: GcPoints,
    /// GC barriers, expired ones among them.
    pub barriers: Arc<BTreeMap<String, Arc<Barrier>>>,
    /// Global configuration by whole key.
    pub global_config: Arc<BTreeMap<String, Arc<GlobalConfigItem>>>,
    /// Revision of its last change.
    pub global_revision: u64,
    /// Lowest resolved timestamp.
    pub min_resolved_ts: u64,
    /// What `PutClusterConfig` set; nothing reads it but `GetClusterConfig`.
    pub max_peer_count: Option<u32>,
    /// Sum of the hashes of all rows; equal on all members at the same applied index.
    pub hash: u64,
}

impl State {
    /// Whether the cluster was bootstrapped.
    pub fn is_bootstrapped(&self) -> bool {
        self.cluster.as_ref().is_some_and(|c| c.bootstrapped.is_some())
    }

    /// The store of this id.
    pub fn store(&self, id: StoreId) -> Option<&Arc<StoreRecord>> {
        self.stores.get(&id)
    }

    /// The row of this key as it is now. Numbers that were never written read as absent.
    pub fn row(&self, key: &RowKey) -> Option<Row> {
        fn text(map: &PersistentMap<String, Arc<str>>, id: &String, row: fn(String, Arc<str>) -> Row) -> Option<Row> {
            map.get(id).map(|json| row(id.clone(), json.clone()))
        }
        match key {
            RowKey::Cluster => self.cluster.clone().map(Row::Cluster),
            RowKey::ClusterVersion => self.cluster_version.clone().map(Row::ClusterVersion),
            RowKey::Member(id) => self.members.get(id).cloned().map(Row::Member),
            RowKey::Store(id) => self.stores.get(id).cloned().map(Row::Store),
            RowKey::Limits(id) => self.limits.get(id).map(|l| Row::Limits(*id, *l)),
            RowKey::Drain(id) => self.drains.get(id).cloned().map(Row::Drain),
            RowKey::DeadStore(id) => self.dead_stores.get(id).copied().map(Row::DeadStore),
            RowKey::Config => self.config.clone().map(Row::Config),
            RowKey::TtlConfig(name) => self.ttl_config.get(name).map(|i| Row::TtlConfig(name.clone(), i.clone())),
            RowKey::Rule(group, id) => self
                .rules
                .get(&(group.clone(), id.clone()))
                .map(|json| Row::Rule(group.clone(), id.clone(), json.clone())),
            RowKey::RuleGroup(id) => text(&self.rule_groups, id, Row::RuleGroup),
            RowKey::LabelRule(id) => text(&self.label_rules, id, Row::LabelRule),
            RowKey::Keyspace(id) => text(&self.keyspaces, id, Row::Keyspace),
            RowKey::IdEnd => (self.id_end != 0).then_some(Row::IdEnd(self.id_end)),
            RowKey::TsoUpper => (self.tso_upper_ms != 0).then_some(Row::TsoUpper(self.tso_upper_ms)),
            RowKey::Gc => (self.gc != GcPoints::default()).then_some(Row::Gc(self.gc)),
            RowKey::Barrier(id) => self.barriers.get(id).cloned().map(Row::Barrier),
            RowKey::GlobalConfig(key) => self.global_config.get(key).cloned().map(Row::GlobalConfig),
            RowKey::GlobalRevision => (self.global_revision != 0).then_some(Row::GlobalRevision(self.global_revision)),
            RowKey::MinResolvedTs => (self.min_resolved_ts != 0).then_some(Row::MinResolvedTs(self.min_resolved_ts)),
            RowKey::MaxPeerCount => self.max_peer_count.map(Row::MaxPeerCount),
            RowKey::Scheduler(name) => text(&self.schedulers, name, Row::Scheduler),
            RowKey::Record(name) => text(&self.records, name, Row::Record),
        }
    }

    fn put(&mut self, row: Row) {
        match row {
            Row::Cluster(cluster) => self.cluster = Some(cluster),
            Row::ClusterVersion(version) => self.cluster_version = Some(version),
            Row::Member(m) => drop(Arc::make_mut(&mut self.members).insert(m.id, m)),
            Row::Store(s) => drop(Arc::make_mut(&mut self.stores).insert(s.id, s)),
            Row::Limits(id, limits) => drop(Arc::make_mut(&mut self.limits).insert(id, limits)),
            Row::Drain(d) => drop(Arc::make_mut(&mut self.drains).insert(d.store, d)),
            Row::DeadStore(id) => _ = Arc::make_mut(&mut self.dead_stores).insert(id),
            Row::Config(json) => self.config = Some(json),
            Row::TtlConfig(name, item) => drop(Arc::make_mut(&mut self.ttl_config).insert(name, item)),
            Row::Rule(group, id, json) => drop(self.rules.insert((group, id), json)),
            Row::RuleGroup(id, json) => drop(self.rule_groups.insert(id, json)),
            Row::LabelRule(id, json) => drop(self.label_rules.insert(id, json)),
            Row::Keyspace(id, json) => drop(self.keyspaces.insert(id, json)),
            Row::IdEnd(end) => self.id_end = end,
            Row::TsoUpper(upper) => self.tso_upper_ms = upper,
            Row::Gc(points) => self.gc = points,
            Row::Barrier(b) => drop(Arc::make_mut(&mut self.barriers).insert(b.id.clone(), b)),
            Row::GlobalConfig(item) => {
                Arc::make_mut(&mut self.global_config).insert(item.key.clone(), item);
            }
            Row::GlobalRevision(revision) => self.global_revision = revision,
            Row::MinResolvedTs(ts) => self.min_resolved_ts = ts,
            Row::MaxPeerCount(count) => self.max_peer_count = Some(count),
            Row::Scheduler(name, json) => drop(self.schedulers.insert(name, json)),
            Row::Record(name, json) => drop(self.records.insert(name, json)),
        }
    }

    fn delete(&mut self, key: &RowKey) {
        match key {
            RowKey::Cluster => self.cluster = None,
            RowKey::ClusterVersion => self.cluster_version = None,
            RowKey::Member(id) => drop(Arc::make_mut(&mut self.members).remove(id)),
            RowKey::Store(id) => drop(Arc::make_mut(&mut self.stores).remove(id)),
            RowKey::Limits(id) => drop(Arc::make_mut(&mut self.limits).remove(id)),
            RowKey::Drain(id) => drop(Arc::make_mut(&mut self.drains).remove(id)),
            RowKey::DeadStore(id) => _ = Arc::make_mut(&mut self.dead_stores).remove(id),
            RowKey::Config => self.config = None,
            RowKey::TtlConfig(name) => drop(Arc::make_mut(&mut self.ttl_config).remove(name)),
            RowKey::Rule(group, id) => drop(self.rules.remove(&(group.clone(), id.clone()))),
            RowKey::RuleGroup(id) => drop(self.rule_groups.remove(id)),
            RowKey::LabelRule(id) => drop(self.label_rules.remove(id)),
            RowKey::Keyspace(id) => drop(self.keyspaces.remove(id)),
            RowKey::IdEnd => self.id_end = 0,
            RowKey::TsoUpper => self.tso_upper_ms = 0,
            RowKey::Gc => self.gc = GcPoints::default(),
            RowKey::Barrier(id) => drop(Arc::make_mut(&mut self.barriers).remove(id)),
            RowKey::GlobalConfig(key) => drop(Arc::make_mut(&mut self.global_config).remove(key)),
            RowKey::GlobalRevision => self.global_revision = 0,
            RowKey::MinResolvedTs => self.min_resolved_ts = 0,
            RowKey::MaxPeerCount => self.max_peer_count = None,
            RowKey::Scheduler(name) => drop(self.schedulers.remove(name)),
            RowKey::Record(name) => drop(self.records.remove(name)),
        }
    }

    /// Writes one change and keeps the hash. Cannot fail.
    pub fn apply(&mut self, action: &Action) {
        let key = match action {
            Action::Put(row) => row.key(),
            Action::Delete(key) => key.clone(),
        };
        if let Some(old) = self.row(&key) {
            self.hash = self.hash.wrapping_sub(row_hash(&old));
        }
        match action {
            Action::Put(row) => self.put(row.clone()),
            Action::Delete(key) => self.delete(key),
        }
        if let Some(new) = self.row(&key) {
            self.hash = self.hash.wrapping_add(row_hash(&new));
        }
    }
}

/// Hash of one row: FNV-1a over its encoding, finished so that sums of many rows do not cancel.
fn row_hash(row: &Row) -> u64 {
    // Rows hold no map with keys that are not texts, the one thing JSON cannot write; should it ever fail, all members agree on it.
    let bytes = serde_json::to_vec(row).unwrap_or_default();
    let mut hash =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
