//! `/store/{id}/limit`, `/stores/limit`: how many peers may be moved to and from stores a minute.
//!
//! Owns: reading and showing limits. Must not know: how they are kept to.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Answer, body, config::save, error::Problem, go, labels, render::Reply, request::Request};
use crate::{
    api::ApiError,
    meta::{Command, LimitKind},
    model::{StoreId, StoreLabel, StoreRecord, StoreState},
};

/// The version of store limits that these routes are about.
const V1: &str = "v1";

#[derive(Serialize)]
struct LimitsJson {
    #[serde(rename = "add-peer")]
    add_peer: f64,
    #[serde(rename = "remove-peer")]
    remove_peer: f64,
}

/// Refuses when limits of another version are in force. PD says "get" also where it sets.
fn require_v1(request: &Request, verb: &str) -> Result<(), Problem> {
    match request.app.dynamic.load().schedule.store_limit_version.as_str() {
        V1 => Ok(()),
        other => Err(Problem::bad(format!("current store limit version:{other} not support {verb} limit"))),
    }
}

fn refuse_ttl(request: &Request) -> Result<(), Problem> {
    if request.query.has("ttlSecond") { Err(Problem::bad("ttlSecond is deprecated")) } else { Ok(()) }
}

/// `GET /stores/limit`
pub(super) fn get(request: &Request) -> Answer {
    require_v1(request, "get")?;
    let tombstones = match request.query.text("include_tombstone") {
        text if text.is_empty() => false,
        text => go::parse_bool(&text)?,
    };
    let state = request.app.meta.state();
    let dead = |id: &StoreId| state.store(*id).is_some_and(|s| s.state == StoreState::Tombstone);
    let shown: BTreeMap<String, LimitsJson> = state
        .limits
        .iter()
        .filter(|(id, _)| tombstones || !dead(id))
        .map(|(id, l)| (id.to_string(), LimitsJson { add_peer: l.add_peer, remove_peer: l.remove_peer }))
        .collect();
    Ok(Reply::ok(&shown))
}

/// The rate and the kinds that a body asks for.
fn rate_and_kinds(input: &Map<String, Value>) -> Result<(f64, &'static [LimitKind]), Problem> {
    let rate = input.get("rate").ok_or_else(|| Problem::bad("rate unset"))?;
    let rate = rate.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0);
    let rate = rate.ok_or_else(|| Problem::bad("invalid rate which should be larger than 0"))?;
    let kinds: &[LimitKind] = match input.get("type") {
        None => &[LimitKind::AddPeer, LimitKind::RemovePeer],
        Some(Value::String(name)) => match name.as_str() {
            "" | "add-peer" => &[LimitKind::AddPeer],
            "remove-peer" => &[LimitKind::RemovePeer],
            _ => return Err(Problem::bad("unknown type")),
        },
        Some(_) => return Err(Problem::bad("bad format type")),
    };
    Ok((rate, kinds))
}

/// `POST /store/{id}/limit`
pub(super) async fn set(request: &Request) -> Answer {
    refuse_ttl(request)?;
    require_v1(request, "set")?;
    let id = request.store_param()?;
    request.app.store(id).map_err(|e| Problem::from(e).into_failure())?;
    let input = body::object(&request.body)?;
    let (rate, kinds) = rate_and_kinds(&input)?;
    for kind in kinds {
        request.app.set_limit(id, *kind, rate).await.map_err(|e| Problem::from(e).into_failure())?;
    }
    Ok(Reply::ok(&"The store's limit is updated."))
}

/// `POST /stores/limit`: of the stores with all of the given labels, or of all stores and of those to come.
pub(super) async fn set_all(request: &Request) -> Answer {
    refuse_ttl(request)?;
    require_v1(request, "get")?;
    let input = body::object(&request.body)?;
    let (rate, kinds) = rate_and_kinds(&input)?;
    match input.get("labels") {
        None => {
            set_default(request, rate, kinds).await?;
            for kind in kinds {
                let command = Command::SetAllStoreLimits { kind: *kind, rate, stores: None };
                request.app.propose(command).await?;
                let name = match kind {
                    LimitKind::AddPeer => "add-peer",
                    LimitKind::RemovePeer => "remove-peer",
                };
                crate::pdlog!(request.app.log, Info, "all store limit changed", "type" => name, "rate-per-min" => rate);
            }
        }
        Some(Value::Object(wanted)) => {
            let wanted = wanted_labels(wanted)?;
            let stores = request.app.cluster.stores().snapshot();
            for info in stores.values().filter(|s| has_labels(&s.record, &wanted)) {
                for kind in kinds {
                    request.app.set_limit(info.id(), *kind, rate).await?;
                }
            }
        }
        // PD panics here and answers with its call stack.
        Some(_) => return Err(Problem::bad("bad format labels")),
    }
    Ok(Reply::ok(&"Set store limit successfully."))
}

fn wanted_labels(labels: &Map<String, Value>) -> Result<Vec<StoreLabel>, Problem> {
    let read = |(key, value): (&String, &Value)| match value {
        Value::String(value) => Ok(StoreLabel { key: key.clone(), value: value.clone() }),
        _ => Err(Problem::bad("bad format labels")),
    };
    let wanted = labels.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    labels::check_format(&wanted)?;
    Ok(wanted)
}

fn has_labels(store: &StoreRecord, wanted: &[StoreLabel]) -> bool {
    store.state != StoreState::Tombstone
        && wanted.iter().all(|w| store.labels.iter().any(|l| l.key == w.key && l.value == w.value))
}

/// Changes what stores get that register later.
async fn set_default(request: &Request, rate: f64, kinds: &[LimitKind]) -> Result<(), Problem> {
    let _one_at_a_time = request.config_writes.lock().await;
    let mut next = (*request.app.dynamic.load()).clone();
    for kind in kinds {
        match kind {
            LimitKind::AddPeer => next.schedule.default_store_limit.add_peer = rate,
            LimitKind::RemovePeer => next.schedule.default_store_limit.remove_peer = rate,
        }
    }
    save(&request.app, &next).await.map_err(|e: ApiError| e.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(text: &str) -> Result<(f64, &'static [LimitKind]), Problem> {
        rate_and_kinds(&body::object(text.as_bytes()).unwrap())
    }

    #[test]
    fn rates_and_kinds_are_read_as_pd_reads_them() {
        assert_eq!(read(r#"{"rate": 30}"#).unwrap(), (30.0, &[LimitKind::AddPeer, LimitKind::RemovePeer][..]));
        assert_eq!(read(r#"{"rate": 1.5, "type": ""}"#).unwrap(), (1.5, &[LimitKind::AddPeer][..]));
        assert_eq!(read(r#"{"rate": 40, "type": "remove-peer"}"#).unwrap().1, [LimitKind::RemovePeer]);
        for (text, said) in [
            ("{}", "rate unset"),
            (r#"{"rate": 0}"#, "invalid rate which should be larger than 0"),
            (r#"{"rate": -1}"#, "invalid rate which should be larger than 0"),
            (r#"{"rate": "x"}"#, "invalid rate which should be larger than 0"),
            (r#"{"rate": 1, "type": 3}"#, "bad format type"),
            (r#"{"rate": 1, "type": "foo"}"#, "unknown type"),
        ] {
            assert_eq!(read(text).unwrap_err(), Problem::bad(said), "{text}");
        }
    }
}
