//! `GET /stats/region`: sums over a key range, from the aggregate of the region index.
//!
//! Owns: the JSON shape of the sums. Must not know: how they are kept.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, render::Reply, request::Request};
use crate::{
    model::KeyRange,
    store::{RangeStats, StoreRange},
};

/// Sums by store id; PD sorts these keys as texts.
type ByStore = Option<BTreeMap<String, u64>>;

#[derive(Serialize, Default)]
struct StatsJson {
    count: u64,
    empty_count: u64,
    storage_size: u64,
    user_storage_size: u64,
    user_columnar_storage_size: u64,
    storage_keys: u64,
    store_leader_count: ByStore,
    store_peer_count: ByStore,
    store_leader_size: ByStore,
    store_leader_keys: ByStore,
    store_peer_size: ByStore,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_peer_keys: ByStore,
}

impl From<&RangeStats> for StatsJson {
    fn from(stats: &RangeStats) -> Self {
        let led = |sum: fn(&StoreRange) -> u64| by_store(stats, |s| s.leader_count > 0, sum);
        let held = |sum: fn(&StoreRange) -> u64| by_store(stats, |s| s.peer_count > 0, sum);
        Self {
            count: stats.count,
            empty_count: stats.empty_count,
            storage_size: stats.size_mib,
            user_storage_size: stats.kv_size_mib,
            user_columnar_storage_size: 0,
            storage_keys: stats.keys,
            store_leader_count: led(|s| s.leader_count),
            store_peer_count: held(|s| s.peer_count),
            store_leader_size: led(|s| s.leader_size_mib),
            store_leader_keys: led(|s| s.leader_keys),
            store_peer_size: held(|s| s.peer_size_mib),
            store_peer_keys: held(|s| s.peer_keys),
        }
    }
}

fn by_store(stats: &RangeStats, shown: fn(&StoreRange) -> bool, sum: fn(&StoreRange) -> u64) -> ByStore {
    let stores = stats.stores.iter().filter(|(_, s)| shown(s));
    Some(stores.map(|(id, s)| (id.to_string(), sum(s))).collect())
}

/// `GET /stats/region`
pub(super) fn region(request: &Request) -> Answer {
    let range = KeyRange::new(request.query.bytes("start_key"), request.query.bytes("end_key"));
    let stats = request.app.cluster.regions().stats(&range);
    if request.query.has("count") {
        return Ok(Reply::ok(&StatsJson { count: stats.count, ..StatsJson::default() }));
    }
    Ok(Reply::ok(&StatsJson::from(&stats)))
}
