//! `/hotspot/regions/read`, `/hotspot/regions/write`, `/hotspot/stores`: which peers are hot, and what stores bear.
//!
//! Owns: the JSON shapes. Must not know: what is hot, and why.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Answer,
    error::{NOT_BOOTSTRAPPED, Problem},
    go,
    render::Reply,
    request::Request,
};
use crate::{
    api::App,
    model::{StoreId, StoreState},
    store::hot::{
        HotPeer, Rates, Traffic,
        loads::{Role, StoreLoad},
    },
};

#[derive(Serialize)]
struct PeerJson {
    store_id: u64,
    stores: Vec<u64>,
    is_leader: bool,
    is_learner: bool,
    region_id: u64,
    hot_degree: i64,
    flow_bytes: f64,
    flow_keys: f64,
    flow_query: f64,
    flow_cpu: f64,
    anti_count: u64,
    last_update_time: String,
}

impl PeerJson {
    fn new(app: &App, peer: &HotPeer) -> Self {
        let region = app.cluster.regions().get(peer.region);
        let peers = region.as_ref().map_or(&[][..], |r| r.peers());
        Self {
            store_id: peer.store.0,
            stores: peers.iter().map(|p| p.store.0).collect(),
            is_leader: peer.is_leader,
            is_learner: peers.iter().any(|p| p.store == peer.store && !p.role.votes()),
            region_id: peer.region.0,
            hot_degree: peer.degree,
            flow_bytes: peer.rates.bytes,
            flow_keys: peer.rates.keys,
            flow_query: peer.rates.query,
            flow_cpu: peer.rates.cpu,
            anti_count: peer.anti,
            last_update_time: go::rfc3339_nano(peer.at),
        }
    }
}

#[derive(Serialize)]
struct StoreJson {
    store_bytes: f64,
    store_keys: f64,
    store_query: f64,
    store_cpu: f64,
    total_flow_bytes: f64,
    total_flow_keys: f64,
    total_flow_query: f64,
    total_flow_cpu: f64,
    regions_count: usize,
    statistics: Vec<PeerJson>,
}

impl StoreJson {
    fn new(app: &App, store: &StoreLoad) -> Self {
        Self {
            store_bytes: store.load.bytes,
            store_keys: store.load.keys,
            store_query: store.load.query,
            store_cpu: store.load.cpu,
            total_flow_bytes: store.flow.bytes,
            total_flow_keys: store.flow.keys,
            total_flow_query: store.flow.query,
            total_flow_cpu: store.flow.cpu,
            regions_count: store.peers.len(),
            statistics: store.peers.iter().map(|peer| PeerJson::new(app, peer)).collect(),
        }
    }
}

/// By store id; PD sorts these keys as texts. `None` for a store that was asked for and does not take part.
type ByStore = BTreeMap<String, Option<StoreJson>>;

#[derive(Serialize)]
struct RegionsJson {
    as_peer: ByStore,
    as_leader: ByStore,
}

/// `GET /hotspot/regions/read`, `GET /hotspot/regions/write`
pub(super) fn regions(request: &Request, traffic: Traffic) -> Answer {
    let app = &request.app;
    require_bootstrapped(app)?;
    let mut wanted = Vec::new();
    for text in request.query.all("store_id") {
        let id = go::parse_uint(&text).map_err(|_| Problem::bad(format!("invalid store id: {text}")))?;
        let Some(store) = app.cluster.stores().get(StoreId(id)) else {
            return Err(Problem::failed(format!("[PD:core:ErrStoreNotFound]store {id} not found")));
        };
        wanted.push(store.id());
    }
    let part = |role| {
        let all = app.cluster.hot_loads(traffic, role);
        let json = |id: &StoreId| all.get(id).map(|store| StoreJson::new(app, store));
        let ids: Vec<StoreId> = if wanted.is_empty() { all.keys().copied().collect() } else { wanted.clone() };
        ids.iter().map(|id| (id.to_string(), json(id))).collect::<ByStore>()
    };
    Ok(Reply::ok(&RegionsJson { as_peer: part(Role::Peer), as_leader: part(Role::Leader) }))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StoresJson {
    bytes_write_rate: BTreeMap<String, f64>,
    bytes_read_rate: BTreeMap<String, f64>,
    keys_write_rate: BTreeMap<String, f64>,
    keys_read_rate: BTreeMap<String, f64>,
    query_write_rate: BTreeMap<String, f64>,
    query_read_rate: BTreeMap<String, f64>,
    cpu_read_rate: BTreeMap<String, f64>,
}

/// `GET /hotspot/stores`
pub(super) fn stores(request: &Request) -> Answer {
    let app = &request.app;
    require_bootstrapped(app)?;
    let stores = app.cluster.stores().snapshot();
    let live = || stores.values().filter(|s| s.record.state != StoreState::Tombstone);
    let each = |rate: fn((Rates, Rates)) -> f64| live().map(|s| (s.id().to_string(), rate(s.rates()))).collect();
    Ok(Reply::ok(&StoresJson {
        bytes_write_rate: each(|(_, write)| write.bytes),
        bytes_read_rate: each(|(read, _)| read.bytes),
        keys_write_rate: each(|(_, write)| write.keys),
        keys_read_rate: each(|(read, _)| read.keys),
        query_write_rate: each(|(_, write)| write.query),
        query_read_rate: each(|(read, _)| read.query),
        cpu_read_rate: each(|(read, _)| read.cpu),
    }))
}

fn require_bootstrapped(app: &App) -> Result<(), Problem> {
    if app.is_bootstrapped() { Ok(()) } else { Err(Problem::failed(NOT_BOOTSTRAPPED)) }
}
