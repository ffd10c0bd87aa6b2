//! `GET /stats/region`: sums over a key range, from the aggregate of the region index.
//!
//! Owns: the JSON shape of the sums. Must not know: how they are kept.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{Answer, render::Reply, request::Request};
use crate::{
    api::App,
    model::{KeyRange, Region, StoreId, key::before_end},
    store::{
        RangeStats, StoreRange,
        hot::{Dim, Rates, Traffic},
    },
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
    #[serde(flatten)]
    hot: Option<HotJson>,
}

/// What hot peers bear, and what each store runs (`use_hot`).
#[derive(Serialize)]
struct HotJson {
    store_write_bytes: ByStore,
    store_write_keys: ByStore,
    store_write_query: ByStore,
    store_leader_read_bytes: ByStore,
    store_leader_read_keys: ByStore,
    store_leader_read_query: ByStore,
    store_peer_read_bytes: ByStore,
    store_peer_read_keys: ByStore,
    store_peer_read_query: ByStore,
    store_engine: BTreeMap<String, &'static str>,
}

impl HotJson {
    fn new(app: &App, stats: &RangeStats, range: &KeyRange) -> Self {
        let read = flows(app, stats, range, Traffic::Read, false);
        let led = flows(app, stats, range, Traffic::Read, true);
        let written = flows(app, stats, range, Traffic::Write, false);
        let engine = |id: &StoreId| if is_tiflash(app, *id) { TIFLASH } else { TIKV };
        Self {
            store_write_bytes: rates(&written, Dim::Byte),
            store_write_keys: rates(&written, Dim::Key),
            store_write_query: rates(&written, Dim::Query),
            store_leader_read_bytes: rates(&led, Dim::Byte),
            store_leader_read_keys: rates(&led, Dim::Key),
            store_leader_read_query: rates(&led, Dim::Query),
            store_peer_read_bytes: rates(&read, Dim::Byte),
            store_peer_read_keys: rates(&read, Dim::Key),
            store_peer_read_query: rates(&read, Dim::Query),
            store_engine: stats.stores.keys().map(|id| (id.to_string(), engine(id))).collect(),
        }
    }
}

/// What the hot peers of regions that start in the range bear, by store.
fn flows(app: &App, stats: &RangeStats, range: &KeyRange, traffic: Traffic, led: bool) -> BTreeMap<StoreId, Rates> {
    let peers: Vec<_> = app.cluster.with_hot(|hot| hot.hot(traffic, 0).filter(|p| !led || p.is_leader).collect());
    let mut sums: BTreeMap<_, _> = stats.stores.keys().map(|id| (*id, Rates::default())).collect();
    for peer in peers {
        let inside = |r: &Arc<Region>| r.range().start >= range.start && before_end(&r.range().start, &range.end);
        if let Some(sum) = sums.get_mut(&peer.store)
            && app.cluster.regions().get(peer.region).is_some_and(|region| inside(&region))
        {
            *sum = sum.plus(peer.rates);
        }
    }
    sums
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rates are not negative, and whole numbers are shown
fn rates(flows: &BTreeMap<StoreId, Rates>, dim: Dim) -> ByStore {
    Some(flows.iter().map(|(id, rates)| (id.to_string(), rates.of(dim) as u64)).collect())
}

fn is_tiflash(app: &App, store: StoreId) -> bool {
    app.cluster.stores().get(store).is_some_and(|s| s.record.is_tiflash())
}

const TIKV: &str = "tikv";
const TIFLASH: &str = "tiflash";

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
            hot: None,
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
    if !request.query.has("use_hot") {
        return Ok(Reply::ok(&StatsJson::from(&stats)));
    }
    let (app, mut stats) = (&request.app, stats);
    match request.query.text("engine").as_str() {
        TIKV => stats.stores.retain(|id, _| !is_tiflash(app, *id)),
        TIFLASH => stats.stores.retain(|id, _| is_tiflash(app, *id)),
        _ => {}
    }
    let hot = Some(HotJson::new(app, &stats, &range));
    Ok(Reply::ok(&StatsJson { hot, ..StatsJson::from(&stats) }))
}
