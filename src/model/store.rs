//! Stores: what is agreed about a storage node ([`StoreRecord`]) and what it reports about itself ([`StoreStats`]).

use serde::{Deserialize, Serialize};

use super::{RegionId, StoreId, Wall};

/// Operational state. The numbers are those of `metapb.StoreState`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum StoreState {
    /// Serves.
    #[default]
    Up = 0,
    /// Being emptied.
    Offline = 1,
    /// Gone; never comes back under this id.
    Tombstone = 2,
}

impl StoreState {
    /// The name that `metapb` gives the state: logs and REST print it.
    pub fn name(self) -> &'static str {
        match self {
            StoreState::Up => "Up",
            StoreState::Offline => "Offline",
            StoreState::Tombstone => "Tombstone",
        }
    }
}

/// Life-cycle state. The numbers are those of `metapb.NodeState`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum NodeState {
    /// New, still being filled.
    #[default]
    Preparing = 0,
    /// In full service.
    Serving = 1,
    /// Being emptied.
    Removing = 2,
    /// Gone.
    Removed = 3,
}

impl NodeState {
    /// The name that `metapb` gives the state.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Preparing => "Preparing",
            NodeState::Serving => "Serving",
            NodeState::Removing => "Removing",
            NodeState::Removed => "Removed",
        }
    }
}

/// A label of a store: where it is or what it is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct StoreLabel {
    /// Name, compared without regard to case.
    pub key: String,
    /// Value, compared without regard to case.
    pub value: String,
}

/// Operator tokens a minute, by kind (store limit v1).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct StoreLimits {
    /// Peers that may be added to the store a minute.
    pub add_peer: f64,
    /// Peers that may be removed from the store a minute.
    pub remove_peer: f64,
}

/// What `remove_peer` becomes while a store is drained: no limit (PD's number).
pub const UNLIMITED: f64 = 100_000_000.0;

/// What the members agree on about a store.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StoreRecord {
    /// Its id.
    pub id: StoreId,
    /// Address that clients use.
    pub address: String,
    /// Address that other stores use (TiFlash); may be empty.
    pub peer_address: String,
    /// Address of its status server.
    pub status_address: String,
    /// Labels, in the order they were given.
    pub labels: Vec<StoreLabel>,
    /// Version text as the store reports it (`8.5.0` or `v8.5.0`).
    pub version: String,
    /// Git hash of its build.
    pub git_hash: String,
    /// When its process started, Unix seconds.
    pub start_timestamp: i64,
    /// Where it is installed.
    pub deploy_path: String,
    /// Operational state.
    pub state: StoreState,
    /// Life-cycle state.
    pub node_state: NodeState,
    /// The machine is gone: its data cannot be moved off, its address may be used again.
    pub physically_destroyed: bool,
    /// Wall time of the last heartbeat that was saved (PD saves it every minute or so; used for down-time after a restart).
    pub last_heartbeat: Wall,
    /// Weight of leaders in balancing.
    pub leader_weight: f64,
    /// Weight of regions in balancing.
    pub region_weight: f64,
}

impl StoreRecord {
    /// The value of label `key`, or an empty text.
    pub fn label(&self, key: &str) -> &str {
        self.labels.iter().find(|l| l.key.eq_ignore_ascii_case(key)).map_or("", |l| &l.value)
    }

    /// Whether the store is a column store (`engine=tiflash`).
    pub fn is_tiflash(&self) -> bool {
        self.label("engine").eq_ignore_ascii_case("tiflash")
    }
}

/// What was read from one peer since its store's last heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerTraffic {
    /// The peer's region.
    pub region: RegionId,
    /// Bytes.
    pub bytes_read: u64,
    /// Keys.
    pub keys_read: u64,
    /// Queries.
    pub read_query: u64,
    /// CPU, in per cent of a core.
    pub cpu: u64,
}

/// What a store says about itself in a heartbeat, as far as Berth uses it. Bytes unless a name says otherwise.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StoreStats {
    /// Size of its disk.
    pub capacity: u64,
    /// Free space.
    pub available: u64,
    /// Space its data takes.
    pub used_size: u64,
    /// Regions with a peer there, as the store counts.
    pub region_count: u32,
    /// Snapshots it is sending.
    pub sending_snap_count: u32,
    /// Snapshots it is receiving.
    pub receiving_snap_count: u32,
    /// Snapshots it is applying.
    pub applying_snap_count: u32,
    /// When its process started, Unix seconds.
    pub start_time: u32,
    /// It asks for less work.
    pub is_busy: bool,
    /// Written since the last heartbeat.
    pub bytes_written: u64,
    /// Keys written since the last heartbeat.
    pub keys_written: u64,
    /// Read since the last heartbeat.
    pub bytes_read: u64,
    /// Keys read since the last heartbeat.
    pub keys_read: u64,
    /// Read queries since the last heartbeat.
    pub read_query: u64,
    /// Write queries since the last heartbeat.
    pub write_query: u64,
    /// What its threads for reads use, in per cent of a core.
    pub read_cpu: u64,
    /// What was read from its busier peers since the last heartbeat; not kept once it was taken in.
    pub peers: Vec<PeerTraffic>,
    /// The time the report is about, Unix seconds.
    pub interval: (u64, u64),
    /// 1 (healthy) to 100.
    pub slow_score: u64,
    /// Slow trend: (cause value, cause rate, result value, result rate).
    pub slow_trend: Option<(f64, f64, f64, f64)>,
    /// It is shutting down.
    pub is_stopping: bool,
}
