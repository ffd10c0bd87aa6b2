//! `schedule`: what the scheduler may do and how fast.
//!
//! Owns: [`ScheduleConfig`] and its checks. Must not know: the limits of single stores (they are agreed state of their own).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    codec::{Bad, Codec, Float64, GoDuration, Int, Int64, Place, Rates, Span, StringBool, Text, TomlBad, Uint64},
    section::{Section, section},
};
use crate::model::{StoreId, StoreLimits};

/// Keys of a region for each MiB that it may have: what `max-merge-region-keys` means while it is 0.
const KEYS_PER_MIB: u64 = 10_000;

/// Worker counts of the patrol that PD takes.
const PATROL_WORKERS: std::ops::RangeInclusive<i64> = 1..=8;

/// A scheduler that runs, or that was removed on purpose.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SchedulerConfig {
    /// Its short name, `balance-region`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it was made with.
    pub args: Option<Vec<String>>,
    /// A default scheduler that was removed stays here, disabled.
    pub disable: bool,
    /// Its own configuration; always empty in answers.
    pub args_payload: String,
}

impl SchedulerConfig {
    /// A scheduler without arguments.
    fn plain(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }
}

/// The list of schedulers.
enum Schedulers {}

impl Codec<Vec<SchedulerConfig>> for Schedulers {
    fn show(value: &Vec<SchedulerConfig>) -> Value {
        serde_json::to_value(value).unwrap_or(Value::Null)
    }

    fn read_json(slot: &mut Vec<SchedulerConfig>, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => slot.clear(),
            Value::Array(_) => {
                *slot =
                    serde_json::from_value(value.clone()).map_err(|_| at.wrong("object", "config.SchedulerConfig"))?;
            }
            other => return Err(at.wrong(super::codec::json_kind(other), "config.SchedulerConfigs")),
        }
        Ok(())
    }

    fn read_toml(
        slot: &mut Vec<SchedulerConfig>,
        value: &toml::Value,
        _: &str,
        _: &mut Vec<String>,
    ) -> Result<(), TomlBad> {
        *slot = value.clone().try_into().map_err(|e: toml::de::Error| e.message().to_owned())?;
        Ok(())
    }

    fn is_zero(value: &Vec<SchedulerConfig>) -> bool {
        value.is_empty()
    }
}

section! {
    /// What the scheduler may do and how fast. Counts unless a unit is named.
    pub struct ScheduleConfig ("ScheduleConfig") {
        /// Snapshots a store may send and receive at once to take part in a move.
        max_snapshot_count: u64 as Uint64, "max-snapshot-count" = 64, [KEEP];
        /// Pending peers a store may have to take another one.
        max_pending_peer_count: u64 as Uint64, "max-pending-peer-count" = 64, [KEEP];
        /// Regions up to this size (MiB) are merged; 0 turns merging off.
        max_merge_region_size: u64 as Uint64, "max-merge-region-size" = 54, [KEEP];
        /// Regions up to this many keys are merged; 0: by size, see [`ScheduleConfig::merge_keys`].
        max_merge_region_keys: u64 as Uint64, "max-merge-region-keys" = 0, [KEEP];
        /// How long after a split a region is not merged.
        split_merge_interval: GoDuration as Span, "split-merge-interval" = GoDuration::from_secs(3600);
        /// How long after a promotion a peer does not become a witness again.
        switch_witness_interval: GoDuration as Span, "switch-witness-interval" = GoDuration::from_secs(3600);
        /// Merge only into the next region, never into the one before.
        enable_one_way_merge: bool as StringBool, "enable-one-way-merge" = false;
        /// Merge regions of two tables.
        enable_cross_table_merge: bool as StringBool, "enable-cross-table-merge" = true;
        /// Length of a patrol tick.
        patrol_region_interval: GoDuration as Span, "patrol-region-interval" = GoDuration::from_millis(10);
        /// A store that has been silent this long is Down.
        max_store_down_time: GoDuration as Span, "max-store-down-time" = GoDuration::from_secs(30 * 60);
        /// Preparing ends after this at the latest.
        max_store_preparing_time: GoDuration as Span, "max-store-preparing-time" = GoDuration::from_secs(48 * 3600), [KEEP];
        /// Leader transfers at once.
        leader_schedule_limit: u64 as Uint64, "leader-schedule-limit" = 4, [KEEP];
        /// What leaders are balanced by: `count` or `size`.
        leader_schedule_policy: String as Text, "leader-schedule-policy" = "count".to_owned();
        /// Balance moves at once.
        region_schedule_limit: u64 as Uint64, "region-schedule-limit" = 2048, [KEEP];
        /// Witness moves at once.
        witness_schedule_limit: u64 as Uint64, "witness-schedule-limit" = 4, [KEEP];
        /// Repairs at once.
        replica_schedule_limit: u64 as Uint64, "replica-schedule-limit" = 64, [KEEP];
        /// Merges at once.
        merge_schedule_limit: u64 as Uint64, "merge-schedule-limit" = 8, [KEEP];
        /// Hot moves at once.
        hot_region_schedule_limit: u64 as Uint64, "hot-region-schedule-limit" = 4, [KEEP];
        /// Affinity moves at once.
        affinity_schedule_limit: u64 as Uint64, "affinity-schedule-limit" = 0, [KEEP];
        /// Scatters after a split at once; 0 turns them off.
        split_scatter_schedule_limit: u64 as Uint64, "split-scatter-schedule-limit" = 4, [KEEP];
        /// Reports in a row that make a peer hot.
        hot_region_cache_hits_threshold: u64 as Uint64, "hot-region-cache-hits-threshold" = 3, [KEEP];
        /// Deprecated: in the file it gives both values of [`Self::default_store_limit`].
        store_balance_rate: f64 as Float64, "store-balance-rate" = 0.0, [OMIT];
        /// Rates of stores that come later, peers a minute.
        default_store_limit: StoreLimits as Rates, "default-store-limit" = StoreLimits { add_peer: 15.0, remove_peer: 15.0 };
        /// Score difference that balancing leaves alone; 0: worked out.
        tolerant_size_ratio: f64 as Float64, "tolerant-size-ratio" = 0.0;
        /// Share of a disk above which it is low on space.
        low_space_ratio: f64 as Float64, "low-space-ratio" = 0.8;
        /// Share of a disk up to which it has plenty.
        high_space_ratio: f64 as Float64, "high-space-ratio" = 0.7;
        /// `v1` or `v2`.
        region_score_formula_version: String as Text, "region-score-formula-version" = "v2".to_owned();
        /// Operators of one kind in the waiting queue.
        scheduler_max_waiting_operator: u64 as Uint64, "scheduler-max-waiting-operator" = 5, [KEEP];
        /// Deprecated.
        disable_raft_learner: bool as StringBool, "disable-raft-learner" = false, [OMIT];
        /// Deprecated: the opposite of [`Self::enable_remove_down_replica`].
        disable_remove_down_replica: bool as StringBool, "disable-remove-down-replica" = false, [OMIT];
        /// Deprecated: the opposite of [`Self::enable_replace_offline_replica`].
        disable_replace_offline_replica: bool as StringBool, "disable-replace-offline-replica" = false, [OMIT];
        /// Deprecated: the opposite of [`Self::enable_make_up_replica`].
        disable_make_up_replica: bool as StringBool, "disable-make-up-replica" = false, [OMIT];
        /// Deprecated: the opposite of [`Self::enable_remove_extra_replica`].
        disable_remove_extra_replica: bool as StringBool, "disable-remove-extra-replica" = false, [OMIT];
        /// Deprecated: the opposite of [`Self::enable_location_replacement`].
        disable_location_replacement: bool as StringBool, "disable-location-replacement" = false, [OMIT];
        /// Replace peers on stores that are down.
        enable_remove_down_replica: bool as StringBool, "enable-remove-down-replica" = true;
        /// Replace peers on stores that are Offline.
        enable_replace_offline_replica: bool as StringBool, "enable-replace-offline-replica" = true;
        /// Add missing peers.
        enable_make_up_replica: bool as StringBool, "enable-make-up-replica" = true;
        /// Remove peers that no rule asks for.
        enable_remove_extra_replica: bool as StringBool, "enable-remove-extra-replica" = true;
        /// Move peers to better locations.
        enable_location_replacement: bool as StringBool, "enable-location-replacement" = true;
        /// More metrics of balancing.
        enable_debug_metrics: bool as StringBool, "enable-debug-metrics" = false;
        /// Change several peers in one step.
        enable_joint_consensus: bool as StringBool, "enable-joint-consensus" = true;
        /// Let storage nodes split regions by themselves.
        enable_tikv_split_region: bool as StringBool, "enable-tikv-split-region" = true;
        /// Metrics of the parts of heartbeat handling.
        enable_heartbeat_breakdown_metrics: bool as StringBool, "enable-heartbeat-breakdown-metrics" = true;
        /// Handle heartbeats on several threads. Berth always does.
        enable_heartbeat_concurrent_runner: bool as StringBool, "enable-heartbeat-concurrent-runner" = true;
        /// The schedulers, by their short names.
        schedulers_v2: Vec<SchedulerConfig> as Schedulers, "schedulers-v2" = default_schedulers();
        /// How often hot regions are written to history.
        hot_regions_write_interval: GoDuration as Span, "hot-regions-write-interval" = GoDuration::from_secs(600);
        /// Days of that history; 0 turns it off.
        hot_regions_reserved_days: u64 as Uint64, "hot-regions-reserved-days" = 7, [KEEP];
        /// Largest peer (MiB) that the hot scheduler moves.
        max_movable_hot_peer_size: i64 as Int64, "max-movable-hot-peer-size" = 512, [OMIT];
        /// Record why a scheduler makes no operators.
        enable_diagnostic: bool as StringBool, "enable-diagnostic" = true;
        /// Allow peers that keep only the log.
        enable_witness: bool as StringBool, "enable-witness" = false;
        /// Share of stores that must see a store slow before its leaders are evicted.
        slow_store_evicting_affected_store_ratio_threshold: f64 as Float64,
            "slow-store-evicting-affected-store-ratio-threshold" = 0.3;
        /// `v1` (rates a minute) or `v2` (windows).
        store_limit_version: String as Text, "store-limit-version" = "v1".to_owned(), [OMIT];
        /// Make no operators at all.
        halt_scheduling: bool as StringBool, "halt-scheduling" = false, [OMIT];
        /// Threads of PD's patrol, 1 to 8.
        patrol_region_worker_count: i64 as Int, "patrol-region-worker-count" = 1;
        /// Regions up to this size (MiB) are merged inside an affinity group; 0 turns it off.
        max_affinity_merge_region_size: u64 as Uint64, "max-affinity-merge-region-size" = 256, [KEEP];
    }
}

/// The schedulers of a fresh cluster.
fn default_schedulers() -> Vec<SchedulerConfig> {
    ["balance-region", "balance-leader", "hot-region", "evict-slow-store", "evict-stopping-store"]
        .map(SchedulerConfig::plain)
        .to_vec()
}

impl ScheduleConfig {
    /// The keys up to which regions are merged: as set, or worked out from the size.
    pub fn merge_keys(&self) -> u64 {
        match self.max_merge_region_keys {
            0 => self.max_merge_region_size.saturating_mul(KEYS_PER_MIB),
            keys => keys,
        }
    }

    /// What PD checks at every change. The texts are PD's.
    pub fn validate(&self) -> Result<(), String> {
        let ratio = 0.0..=1.0;
        let finite = |rate: f64| rate.is_finite() && rate >= 0.0;
        let refused = if self.tolerant_size_ratio < 0.0 {
            "tolerant-size-ratio should be non-negative"
        } else if !ratio.contains(&self.low_space_ratio) {
            "low-space-ratio should between 0 and 1"
        } else if !ratio.contains(&self.high_space_ratio) {
            "high-space-ratio should between 0 and 1"
        } else if self.low_space_ratio <= self.high_space_ratio {
            "low-space-ratio should be larger than high-space-ratio"
        } else if !matches!(self.leader_schedule_policy.as_str(), "count" | "size") {
            return Err(format!("leader-schedule-policy {} is invalid", self.leader_schedule_policy));
        } else if self.slow_store_evicting_affected_store_ratio_threshold == 0.0 {
            "slow-store-evicting-affected-store-ratio-threshold is not set"
        } else if !PATROL_WORKERS.contains(&self.patrol_region_worker_count) {
            "patrol-region-worker-count should be between 1 and 8"
        } else if !finite(self.default_store_limit.add_peer) {
            "default-store-limit.add-peer should be finite and non-negative"
        } else if !finite(self.default_store_limit.remove_peer) {
            "default-store-limit.remove-peer should be finite and non-negative"
        } else {
            return Ok(());
        };
        Err(refused.to_owned())
    }

    /// What PD refuses online: items that are gone.
    pub fn check_deprecated(&self) -> Result<(), String> {
        let gone = [
            ("disable-raft-learner", self.disable_raft_learner),
            ("disable-remove-down-replica", self.disable_remove_down_replica),
            ("disable-replace-offline-replica", self.disable_replace_offline_replica),
            ("disable-make-up-replica", self.disable_make_up_replica),
            ("disable-remove-extra-replica", self.disable_remove_extra_replica),
            ("disable-location-replacement", self.disable_location_replacement),
            ("store-balance-rate", self.store_balance_rate != 0.0),
        ];
        match gone.iter().find(|(_, used)| *used) {
            Some((key, _)) => Err(format!("{key} has already been deprecated")),
            None => Ok(()),
        }
    }
}

/// `schedule` as GET /config shows it: with the limits of the stores, and with the merge keys worked out.
pub fn schedule_json(config: &ScheduleConfig, limits: &BTreeMap<StoreId, StoreLimits>) -> Value {
    let mut config = config.clone();
    config.max_merge_region_keys = config.merge_keys();
    with_store_limits(config.show(), limits)
}

/// Puts `store-limit` behind `default-store-limit`, where PD has it.
pub(super) fn with_store_limits(shown: Map<String, Value>, limits: &BTreeMap<StoreId, StoreLimits>) -> Value {
    let limits: Map<_, _> = limits.iter().map(|(id, limit)| (id.to_string(), Rates::show(limit))).collect();
    let mut out = Map::new();
    for (key, value) in shown {
        let last = key == "default-store-limit";
        out.insert(key, value);
        if last {
            out.insert("store-limit".to_owned(), Value::Object(limits.clone()));
        }
    }
    Value::Object(out)
}
