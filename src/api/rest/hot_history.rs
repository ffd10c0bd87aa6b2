//! `/hotspot/regions/history`: who was hot when.
//!
//! Owns: the request, a GET with a body, and the JSON of entries. Must not know: how the history is kept.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Answer, body, error::Problem, render::Reply, request::Request};
use crate::store::hot::{
    Traffic,
    history::{Entry, Wanted},
};

#[derive(Serialize)]
struct EntryJson {
    hot_region_type: &'static str,
    end_key: String,
    start_key: String,
    store_id: u64,
    hot_degree: i64,
    flow_bytes: f64,
    key_rate: f64,
    query_rate: f64,
    update_time: i64,
    peer_id: u64,
    region_id: u64,
    is_learner: bool,
    is_leader: bool,
}

impl From<&Entry> for EntryJson {
    fn from(entry: &Entry) -> Self {
        Self {
            hot_region_type: entry.traffic.name(),
            end_key: entry.range.end.hex(),
            start_key: entry.range.start.hex(),
            store_id: entry.store.0,
            hot_degree: entry.degree,
            flow_bytes: entry.rates.bytes,
            key_rate: entry.rates.keys,
            query_rate: entry.rates.query,
            update_time: entry.at.unix_millis(),
            peer_id: entry.peer.0,
            region_id: entry.region.0,
            is_learner: entry.is_learner,
            is_leader: entry.is_leader,
        }
    }
}

#[derive(Serialize)]
struct HistoryJson {
    history_hot_region: Option<Vec<EntryJson>>,
}

/// `GET /hotspot/regions/history`
pub(super) fn find(request: &Request) -> Answer {
    let input = body::object(&request.body).map_err(Problem::into_text)?;
    let wanted = wanted(&input)?;
    let found: Vec<_> = request.app.cluster.hot_history(&wanted).iter().map(EntryJson::from).collect();
    Ok(Reply::ok(&HistoryJson { history_hot_region: Some(found).filter(|list| !list.is_empty()) }))
}

fn wanted(input: &Map<String, Value>) -> Result<Wanted, Problem> {
    let types: Vec<String> = list(input, "hot_region_type", |v| v.as_str().map(str::to_ascii_lowercase))?;
    let named = |traffic: &Traffic| types.is_empty() || types.iter().any(|name| name == traffic.name());
    Ok(Wanted {
        start: time(input, "start_time")?,
        end: time(input, "end_time")?,
        traffic: Traffic::ALL.into_iter().filter(named).collect(),
        regions: list(input, "region_ids", Value::as_u64)?,
        stores: list(input, "store_ids", Value::as_u64)?,
        peers: list(input, "peer_ids", Value::as_u64)?,
        is_learner: list(input, "is_learners", Value::as_bool)?,
        is_leader: list(input, "is_leaders", Value::as_bool)?,
    })
}

fn time(input: &Map<String, Value>, name: &str) -> Result<i64, Problem> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or_else(|| wrong(name)),
    }
}

/// A list; one that is missing is empty.
fn list<T>(input: &Map<String, Value>, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, Problem> {
    match input.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|item| read(item).ok_or_else(|| wrong(name))).collect(),
        Some(_) => Err(wrong(name)),
    }
}

fn wrong(name: &str) -> Problem {
    Problem::bad(format!("json: cannot unmarshal {name} into Go struct field HistoryHotRegionsRequest.{name}"))
}
