//! `/min-resolved-ts`: how far replication has come everywhere.
//!
//! Owns: which stores are asked about. Must not know: how reports come in.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, error::Problem, go, render::Reply, request::Request};
use crate::{
    api::App,
    model::{StoreId, StoreState},
};

/// Most stores that one request may name.
const MAX_STORES: usize = 10_240;

#[derive(Serialize)]
struct MinResolvedJson {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_real_time: bool,
    min_resolved_ts: u64,
    persist_interval: String,
    stores_min_resolved_ts: Option<BTreeMap<String, u64>>,
}

fn answer(app: &App, lowest: u64, stores: Option<BTreeMap<String, u64>>) -> Answer {
    let interval = app.dynamic.load().pd_server.min_resolved_ts_persistence_interval;
    Ok(Reply::ok(&MinResolvedJson {
        is_real_time: interval.get() > std::time::Duration::ZERO,
        min_resolved_ts: lowest,
        persist_interval: interval.to_string(),
        stores_min_resolved_ts: stores,
    }))
}

/// What a store reported; PD shows the highest number for one that is unknown, gone, a column store, or silent.
fn of_store(app: &App, id: StoreId) -> u64 {
    let counts = |id: &StoreId| {
        let info = app.cluster.stores().get(*id);
        info.is_some_and(|s| s.record.state != StoreState::Tombstone && !s.record.is_tiflash())
    };
    Some(id).filter(counts).and_then(|id| app.min_resolved.get(id)).unwrap_or(u64::MAX)
}

/// The lowest over the stores that count; PD shows 0 while one of them has not reported.
fn of_cluster(app: &App) -> u64 {
    let stores = app.cluster.stores().snapshot();
    let counting = stores.values().filter(|s| s.record.state != StoreState::Tombstone && !s.record.is_tiflash());
    app.min_resolved.lowest(counting.map(|s| s.id())).unwrap_or(0)
}

/// `GET /min-resolved-ts`
pub(super) fn cluster(request: &Request) -> Answer {
    let app = &request.app;
    match request.query.text("scope").as_str() {
        "" => answer(app, of_cluster(app), None),
        "cluster" => {
            let all = app.cluster.stores().snapshot();
            let stores = all.keys().map(|id| (id.to_string(), of_store(app, *id))).collect();
            answer(app, of_cluster(app), Some(stores))
        }
        list => {
            let ids = list.split(',').take(MAX_STORES).map(|id| Ok(StoreId(go::parse_uint(id)?)));
            let ids = ids.collect::<Result<Vec<_>, Problem>>()?;
            let stores: BTreeMap<_, _> = ids.iter().map(|id| (id.to_string(), of_store(app, *id))).collect();
            let lowest = stores.values().min().copied().unwrap_or(u64::MAX);
            answer(app, lowest, Some(stores))
        }
    }
}

/// `GET /min-resolved-ts/{store_id}`
pub(super) fn store(request: &Request) -> Answer {
    let id = StoreId(request.uint_param("store_id")?);
    answer(&request.app, of_store(&request.app, id), None)
}
