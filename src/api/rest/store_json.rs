//! Stores as PD shows them.
//!
//! Owns: the JSON shape of a store and the name of its state. Must not know: which stores are asked for.

use std::time::Duration;

use serde::Serialize;

use super::go;
use crate::{
    api::App,
    config::ScheduleConfig,
    model::{Mono, Wall, time::go_duration},
    scheduler::score,
    store::{StoreInfo, StoreSummary},
};

#[derive(Serialize)]
struct LabelJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
}

/// `metapb.Store` with the name of its state; what is zero does not show.
#[derive(Serialize)]
struct MetaJson<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    state: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<LabelJson<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    peer_address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    status_address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    git_hash: &'a str,
    #[serde(skip_serializing_if = "is_zero_i64")]
    start_timestamp: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    deploy_path: &'a str,
    #[serde(skip_serializing_if = "is_zero_i64")]
    last_heartbeat: i64,
    #[serde(skip_serializing_if = "is_false")]
    physically_destroyed: bool,
    #[serde(skip_serializing_if = "is_zero")]
    node_state: u64,
    state_name: &'static str,
}

#[derive(Serialize)]
struct SlowTrendJson {
    cause_value: f64,
    cause_rate: f64,
    result_value: f64,
    result_rate: f64,
}

#[derive(Serialize)]
struct StatusJson {
    capacity: String,
    available: String,
    used_size: String,
    leader_count: u64,
    leader_weight: f64,
    leader_score: f64,
    leader_size: u64,
    region_count: u64,
    region_weight: f64,
    region_score: f64,
    region_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    learner_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    witness_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pending_peer_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    slow_score: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_trend: Option<SlowTrendJson>,
    #[serde(skip_serializing_if = "is_zero")]
    sending_snap_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    receiving_snap_count: u64,
    #[serde(skip_serializing_if = "is_false")]
    is_busy: bool,
    start_ts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat_ts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pause_leader_transfer_in: bool,
    #[serde(skip_serializing_if = "is_false")]
    pause_leader_transfer_out: bool,
}

/// A store in PD's key order.
#[derive(Serialize)]
pub(super) struct StoreJson<'a> {
    store: MetaJson<'a>,
    status: StatusJson,
}

/// A list of stores.
#[derive(Serialize)]
pub(super) struct StoresJson<'a> {
    count: usize,
    stores: Vec<StoreJson<'a>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero_i64(n: &i64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What is needed to show a store beside the store: read once for a whole list.
pub(super) struct View<'a> {
    app: &'a App,
    schedule: ScheduleConfig,
    now: Mono,
    leader_since: Mono,
}

impl<'a> View<'a> {
    /// The present view.
    pub(super) fn new(app: &'a App) -> Self {
        Self {
            app,
            schedule: app.dynamic.load().schedule.clone(),
            now: app.now().mono,
            leader_since: app.cluster.leader_since(),
        }
    }

    /// PD's name for what a store is now.
    pub(super) fn state_name(&self, info: &StoreInfo) -> &'static str {
        info.state_name(self.leader_since, self.now, self.schedule.max_store_down_time.get())
    }

    /// One store.
    pub(super) fn show<'s>(&self, info: &'s StoreInfo) -> StoreJson<'s> {
        let summary = self.app.cluster.regions().summary(info.id());
        StoreJson { store: self.meta(info), status: self.status(info, &summary) }
    }

    /// Some stores.
    pub(super) fn list<'s>(&self, stores: impl Iterator<Item = &'s StoreInfo>) -> StoresJson<'s> {
        let stores: Vec<_> = stores.map(|info| self.show(info)).collect();
        StoresJson { count: stores.len(), stores }
    }

    fn meta<'s>(&self, info: &'s StoreInfo) -> MetaJson<'s> {
        let record = &info.record;
        MetaJson {
            id: record.id.0,
            address: &record.address,
            state: record.state as u64,
            labels: record.labels.iter().map(|l| LabelJson { key: &l.key, value: &l.value }).collect(),
            version: &record.version,
            peer_address: &record.peer_address,
            status_address: &record.status_address,
            git_hash: &record.git_hash,
            start_timestamp: record.start_timestamp,
            deploy_path: &record.deploy_path,
            last_heartbeat: info.last_heartbeat_wall.0,
            physically_destroyed: record.physically_destroyed,
            node_state: record.node_state as u64,
            state_name: self.state_name(info),
        }
    }

    fn status(&self, info: &StoreInfo, summary: &StoreSummary) -> StatusJson {
        let (record, stats) = (&info.record, &info.stats);
        let policy = &self.schedule.leader_schedule_policy;
        let (leaders, leader_size) = (summary.leader_count, summary.leader_size_mib);
        let heard = info.last_heartbeat_wall;
        let started = Wall(record.start_timestamp.saturating_mul(1_000_000_000));
        let up = u64::try_from(heard.0.saturating_sub(started.0)).unwrap_or(0);
        StatusJson {
            capacity: go::byte_size(stats.capacity),
            available: go::byte_size(stats.available),
            used_size: go::byte_size(stats.used_size),
            leader_count: leaders,
            leader_weight: record.leader_weight,
            leader_score: score::leader_score(policy, leaders, leader_size, record.leader_weight, 0),
            leader_size,
            region_count: summary.region_count,
            region_weight: record.region_weight,
            region_score: score::region_score(
                &self.schedule,
                score::Space::reported(info),
                record.region_weight,
                summary.region_size_mib,
                0,
            ),
            region_size: summary.region_size_mib,
            learner_count: summary.learner_count,
            witness_count: summary.witness_count,
            pending_peer_count: summary.pending_count,
            slow_score: stats.slow_score,
            slow_trend: stats.slow_trend.map(|(cause_value, cause_rate, result_value, result_rate)| SlowTrendJson {
                cause_value,
                cause_rate,
                result_value,
                result_rate,
            }),
            sending_snap_count: u64::from(stats.sending_snap_count),
            receiving_snap_count: u64::from(stats.receiving_snap_count),
            is_busy: stats.is_busy,
            start_ts: go::rfc3339_nano(started),
            last_heartbeat_ts: (heard.unix_seconds() > 0).then(|| go::rfc3339_nano(heard)),
            uptime: (up > 0).then(|| go_duration(Duration::from_nanos(up))),
            pause_leader_transfer_in: info.pause_leader_in > 0,
            pause_leader_transfer_out: info.pause_leader_out > 0,
        }
    }
}
