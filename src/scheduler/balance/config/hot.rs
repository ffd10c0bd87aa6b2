//! Configurations of the schedulers for hot regions.

use serde::{Deserialize, Serialize};

use serde_json::{Map, Value};

use super::ConfigError;
use crate::{
    model::StoreId,
    store::hot::{Dim, Rates},
};

/// Stores that one configuration may name.
const MAX_STORES: usize = 1024;

/// `shuffle-hot-region`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ShuffleHot {
    /// It is not asked while so many operators for hot regions run.
    pub limit: u64,
}

impl Default for ShuffleHot {
    fn default() -> Self {
        Self { limit: 1 }
    }
}

impl ShuffleHot {
    pub(super) fn update(input: &Map<String, Value>) -> Result<Self, ConfigError> {
        let limit = input.get("limit").and_then(Value::as_f64).and_then(super::leaders::whole);
        limit.map(|limit| Self { limit }).ok_or(ConfigError::Limit)
    }
}

/// `grant-hot-region`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct GrantHot {
    /// Where hot peers shall stand; that of the leaders among them.
    #[serde(rename = "store-id")]
    pub stores: Vec<StoreId>,
    /// Where hot leaders shall stand.
    #[serde(rename = "store-leader-id")]
    pub leader: StoreId,
}

impl GrantHot {
    /// From texts: an id, and ids with commas between.
    ///
    /// # Errors
    /// When they do not read.
    pub fn read(leader: &str, stores: &str) -> Result<Self, ConfigError> {
        let id = |text: &str| text.parse().map(StoreId).map_err(|_| ConfigError::Wrong("store id".to_owned()));
        let leader = id(leader)?;
        let mut stores: Vec<StoreId> = stores.split(',').take(MAX_STORES).map(id).collect::<Result<_, _>>()?;
        if !stores.contains(&leader) {
            stores.push(leader);
        }
        Ok(Self { stores, leader })
    }

    pub(super) fn update(input: &Map<String, Value>) -> Result<Self, ConfigError> {
        let text =
            |name: &str| input.get(name).and_then(Value::as_str).ok_or_else(|| ConfigError::Wrong(name.to_owned()));
        Self::read(text("store-leader-id")?, text("store-id")?)
    }
}

/// `balance-hot-region`. All that PD knows is kept and shown. Not read: `count-rank-step-ratio`, `enable-for-tiflash` (column
/// stores keep their peers), `split-thresholds` and the history samples (smoothing serves for them).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Hot {
    /// Bytes a second from which a region is worth a move.
    pub min_hot_byte_rate: f64,
    /// The same for keys.
    pub min_hot_key_rate: f64,
    /// The same for queries.
    pub min_hot_query_rate: f64,
    /// The same for CPU.
    pub min_hot_cpu_rate: f64,
    /// Reports of a store after which a move that is done shows in them.
    pub max_zombie_rounds: u64,
    /// How much a move under way counts, in times of itself.
    pub pending_weight: f64,
    /// Regions that are looked at, the hottest first.
    pub max_peer_number: usize,
    /// Up to which share of the largest load stores count as equally busy.
    pub byte_rate_rank_step_ratio: f64,
    /// Up to which share of the largest load stores count as equally busy.
    pub key_rate_rank_step_ratio: f64,
    /// Up to which share of the largest load stores count as equally busy.
    pub query_rate_rank_step_ratio: f64,
    /// Up to which share of the largest load stores count as equally busy.
    pub cpu_rate_rank_step_ratio: f64,
    /// Kept.
    pub count_rank_step_ratio: f64,
    /// What the busier store may bear after a move, as a share of what it bore before.
    pub great_dec_ratio: f64,
    /// First formula: what the taking store may bear after a move, as a share of what the giving one does, for the move not to be
    /// bad.
    pub minor_dec_ratio: f64,
    /// How far above the mean a store must be to give.
    pub src_tolerance_ratio: f64,
    /// How far below the mean a store must be to take.
    pub dst_tolerance_ratio: f64,
    /// By what leaders' writes are measured.
    pub write_leader_priorities: Vec<String>,
    /// By what peers' writes are measured.
    pub write_peer_priorities: Vec<String>,
    /// By what reads are measured.
    pub read_priorities: Vec<String>,
    /// First formula: whether stores must stand out in both dimensions.
    pub strict_picking_store: String,
    /// Kept.
    pub enable_for_tiflash: String,
    /// Which formula says what a move is worth.
    pub rank_formula_version: String,
    /// Kept.
    pub split_thresholds: f64,
    /// Kept.
    pub history_sample_duration: String,
    /// Kept.
    pub history_sample_interval: String,
}

impl Default for Hot {
    fn default() -> Self {
        let list = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        Self {
            min_hot_byte_rate: 100.0,
            min_hot_key_rate: 10.0,
            min_hot_query_rate: 10.0,
            min_hot_cpu_rate: 10.0,
            max_zombie_rounds: 3,
            pending_weight: 1.0,
            max_peer_number: 1000,
            byte_rate_rank_step_ratio: 0.05,
            key_rate_rank_step_ratio: 0.05,
            query_rate_rank_step_ratio: 0.05,
            cpu_rate_rank_step_ratio: 0.05,
            count_rank_step_ratio: 0.01,
            great_dec_ratio: 0.95,
            minor_dec_ratio: 0.99,
            src_tolerance_ratio: 1.05,
            dst_tolerance_ratio: 1.05,
            write_leader_priorities: list(["key", "byte"]),
            write_peer_priorities: list(["byte", "key"]),
            read_priorities: list(["byte", "key"]),
            strict_picking_store: "true".to_owned(),
            enable_for_tiflash: "true".to_owned(),
            rank_formula_version: "v2".to_owned(),
            split_thresholds: 0.2,
            history_sample_duration: "5m0s".to_owned(),
            history_sample_interval: "30s".to_owned(),
        }
    }
}

impl Hot {
    /// From where on a region is worth a move.
    pub(in super::super) fn lowest(&self) -> Rates {
        Rates {
            bytes: self.min_hot_byte_rate,
            keys: self.min_hot_key_rate,
            query: self.min_hot_query_rate,
            cpu: self.min_hot_cpu_rate,
        }
    }

    /// Whether the second rank formula is asked for.
    pub(in super::super) fn is_v2(&self) -> bool {
        self.rank_formula_version == "v2"
    }

    /// Whether stores must stand out in both dimensions (first formula only).
    pub(in super::super) fn is_strict(&self) -> bool {
        self.strict_picking_store == "true"
    }

    /// Up to which share of the largest load two stores count as equally busy.
    pub(in super::super) fn step(&self, dim: Dim) -> f64 {
        match dim {
            Dim::Byte => self.byte_rate_rank_step_ratio,
            Dim::Key => self.key_rate_rank_step_ratio,
            Dim::Query => self.query_rate_rank_step_ratio,
            Dim::Cpu => self.cpu_rate_rank_step_ratio,
        }
    }

    /// Whether all numbers are such that balancing ends.
    pub(super) fn is_sound(&self) -> bool {
        let names = [&self.write_leader_priorities, &self.write_peer_priorities, &self.read_priorities];
        let known = |name: &String| Dim::of_name(name).is_some();
        (0.0..1.0).contains(&self.great_dec_ratio)
            && (0.0..=1.0).contains(&self.minor_dec_ratio)
            && self.src_tolerance_ratio >= 1.0
            && self.dst_tolerance_ratio >= 1.0
            && names.iter().all(|list| !list.is_empty() && list.len() <= Dim::ALL.len() && list.iter().all(known))
    }
}
