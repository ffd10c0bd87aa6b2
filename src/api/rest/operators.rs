//! `/operators`: what is being moved, asked for by people, taken back.
//!
//! Owns: reading requests for operators and listing operators. Must not know: how operators are built and run.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Answer, body,
    error::{OPERATOR_NOT_FOUND, Problem},
    go, regions,
    render::Reply,
    request::Request,
    scatter,
};
use crate::{
    api::{ApiError, app::in_time},
    model::{Key, RegionId, RuleRole, StoreId, time::go_duration},
    scheduler::{
        admin,
        operator::{Kind, Operator},
    },
};

/// Most split keys and target stores that one request may name.
const MAX_ITEMS: usize = 1024;

#[derive(Serialize)]
struct EpochJson {
    conf_ver: u64,
    version: u64,
}

#[derive(Serialize)]
struct OperatorJson<'a> {
    desc: &'a str,
    brief: &'a str,
    region_id: RegionId,
    region_epoch: EpochJson,
    kind: u32,
    timeout: String,
    status: u8,
}

impl<'a> From<&'a Operator> for OperatorJson<'a> {
    fn from(op: &'a Operator) -> Self {
        Self {
            desc: &op.desc,
            brief: &op.brief,
            region_id: op.region,
            region_epoch: EpochJson { conf_ver: op.epoch.conf_ver, version: op.epoch.version },
            kind: op.kind.0,
            timeout: go_duration(op.timeout),
            status: op.status.number(),
        }
    }
}

/// `GET /operators`
pub(super) fn list(request: &Request) -> Answer {
    let cluster = &request.app.cluster;
    let kinds = request.query.all("kind");
    let (mut found, mut last): (Vec<Arc<Operator>>, Vec<Arc<Operator>>) = (Vec::new(), Vec::new());
    if kinds.is_empty() {
        found = cluster.operators();
    }
    for kind in &kinds {
        let of = |kind| cluster.operators().into_iter().filter(|op| op.kind.has(kind)).collect();
        match kind.as_str() {
            "admin" => last = of(Kind::ADMIN),
            "leader" => last = of(Kind::LEADER),
            "region" => last = of(Kind::REGION),
            "waiting" => last = cluster.waiting_operators(),
            // PD lists the operators of the kind before once more.
            _ => {}
        }
        found.extend(last.iter().cloned());
    }
    if found.is_empty() && !kinds.is_empty() {
        return Ok(Reply::ok(&Value::Null));
    }
    if request.query.has("object") {
        return Ok(Reply::ok(&found.iter().map(|op| OperatorJson::from(&**op)).collect::<Vec<_>>()));
    }
    Ok(Reply::ok(&found.iter().map(|op| op.text()).collect::<Vec<_>>()))
}

/// `GET /operators/{region_id}`
pub(super) fn one(request: &Request) -> Answer {
    let region = RegionId(request.uint_param("region_id")?);
    let op = request.app.cluster.operator_status(region).ok_or_else(|| Problem::failed(OPERATOR_NOT_FOUND))?;
    Ok(Reply::ok(&op.status_text()))
}

/// `GET /operators/records`
pub(super) fn records(request: &Request) -> Answer {
    let from = match request.query.text("from") {
        text if text.is_empty() => 0,
        text => go::parse_int(&text)?,
    };
    let records = request.app.cluster.operator_records(from);
    if records.is_empty() {
        return Err(Problem::failed(OPERATOR_NOT_FOUND));
    }
    Ok(Reply::ok(&records.iter().map(|op| op.record_text()).collect::<Vec<_>>()))
}

/// `DELETE /operators/{region_id}`
pub(super) fn cancel(request: &Request) -> Answer {
    let region = RegionId(request.uint_param("region_id")?);
    let app = &request.app;
    app.act(|cluster| cluster.cancel_operator(region, app.now()))?;
    Ok(Reply::ok(&"The pending operator is canceled."))
}

/// `DELETE /operators`
pub(super) fn cancel_all(request: &Request) -> Answer {
    let app = &request.app;
    app.act(|cluster| Ok::<_, Problem>(cluster.cancel_all_operators(app.now())))?;
    Ok(Reply::ok(&"All pending operators are canceled."))
}

/// `POST /operators`
pub(super) async fn create(request: &Request) -> Answer {
    let input = body::object(&request.body)?;
    if let Some(answer) = scatter::operator(request, &input).await {
        return answer;
    }
    let app = &request.app;
    let known = |id| app.cluster.regions().get(id).is_some();
    let wanted = read(&input, known)?;
    // Nobody makes a person's operator again when there is no id for its new peer just now.
    in_time(app.meta.fill_ids()).await.map_err(ApiError::from)?;
    app.act(|cluster| cluster.admin(&wanted, &request.named(), app.now()))?;
    Ok(Reply::ok(&"The operator is created."))
}

/// An id as PD reads it: any JSON number.
fn id(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, as wanted
    value.as_u64().or_else(|| value.as_f64().map(|number| number as u64))
}

/// What a body asks for. `known` tells whether a region is there: PD looks before it reads what a split needs.
fn read(input: &Map<String, Value>, known: impl Fn(RegionId) -> bool) -> Result<admin::Request, Problem> {
    let Some(Value::String(name)) = input.get("name") else { return Err(Problem::bad("missing operator name")) };
    let number = |key: &str, missing: &str| id(input.get(key)).ok_or_else(|| Problem::bad(missing));
    let region = || number("region_id", "missing region id").map(RegionId);
    let to_store = |key| number(key, "invalid store id to transfer peer to").map(StoreId);
    Ok(match name.as_str() {
        "transfer-leader" => admin::Request::TransferLeader {
            region: region()?,
            to: StoreId(number("to_store_id", "missing store id to transfer leader to")?),
        },
        "transfer-region" => admin::Request::TransferRegion { region: region()?, to: targets(input)? },
        "transfer-peer" => admin::Request::TransferPeer {
            region: region()?,
            from: StoreId(number("from_store_id", "invalid store id to transfer peer from")?),
            to: to_store("to_store_id")?,
        },
        "add-peer" => admin::Request::AddPeer { region: region()?, store: to_store("store_id")? },
        "add-learner" => admin::Request::AddLearner { region: region()?, store: to_store("store_id")? },
        "remove-peer" => admin::Request::RemovePeer { region: region()?, store: to_store("store_id")? },
        "split-region" => split(input, region()?, known)?,
        "merge-region" => admin::Request::MergeRegion {
            source: RegionId(number("source_region_id", "missing region id")?),
            target: RegionId(number("target_region_id", "invalid target region id to merge to")?),
        },
        _ => return Err(Problem::bad("unknown operator")),
    })
}

/// The stores of `transfer-region`, each with its role when roles are given.
fn targets(input: &Map<String, Value>) -> Result<Vec<(StoreId, Option<RuleRole>)>, Problem> {
    let invalid = || Problem::bad("invalid store ids to transfer region to");
    let Some(Value::Array(ids)) = input.get("to_store_ids") else { return Err(invalid()) };
    if ids.is_empty() {
        return Err(Problem::bad("missing store ids to transfer region to"));
    }
    if ids.len() > MAX_ITEMS {
        return Err(invalid());
    }
    let roles: Vec<Option<RuleRole>> = match input.get("peer_roles") {
        None | Some(Value::Null) => vec![None; ids.len()],
        Some(Value::Array(roles)) if roles.len() == ids.len() => {
            let roles = roles.iter().map(|role| role.as_str().and_then(role_named).map(Some));
            roles.collect::<Option<_>>().ok_or_else(invalid)?
        }
        Some(_) => return Err(invalid()),
    };
    let stores = ids.iter().map(|store| id(Some(store)).map(StoreId)).collect::<Option<Vec<_>>>();
    Ok(stores.ok_or_else(invalid)?.into_iter().zip(roles).collect())
}

fn role_named(name: &str) -> Option<RuleRole> {
    crate::scheduler::placement::validate::parse_role(name).ok()
}

fn split(
    input: &Map<String, Value>,
    region: RegionId,
    known: impl Fn(RegionId) -> bool,
) -> Result<admin::Request, Problem> {
    let Some(Value::String(policy_name)) = input.get("policy") else {
        return Err(Problem::bad("missing split policy"));
    };
    let texts: Vec<&str> = match input.get("keys") {
        None => Vec::new(),
        Some(Value::Array(keys)) if keys.len() <= MAX_ITEMS => {
            keys.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(|| Problem::bad("bad format keys"))?
        }
        // PD panics when it is no list.
        Some(_) => return Err(Problem::bad("bad format keys")),
    };
    if !known(region) {
        return Err(regions::not_found(region).into_failure());
    }
    let policy = match policy_name.to_ascii_uppercase().as_str() {
        "SCAN" => 0,
        "APPROXIMATE" => 1,
        "USEKEY" => 2,
        "USEBUCKET" => 3,
        _ => return Err(Problem::failed(format!("check policy {policy_name} is not supported"))),
    };
    let read = |text: &str| {
        let key = go::decode_hex(text.as_bytes()).map(Key::from);
        key.map_err(|_| Problem::failed(format!("split key {text} is not in hex format")))
    };
    let keys = texts.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(admin::Request::SplitRegion { region, policy, keys })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn wanted(text: &str) -> Result<admin::Request, Problem> {
        read(&body::object(text.as_bytes()).unwrap(), |id| id.0 < 1000)
    }

    #[test]
    fn what_is_missing_is_named_as_pd_names_it() {
        for (text, said) in [
            ("{}", "missing operator name"),
            (r#"{"name": 1}"#, "missing operator name"),
            (r#"{"name": "foo"}"#, "unknown operator"),
            (r#"{"name": "transfer-leader", "to_store_id": 3}"#, "missing region id"),
            (r#"{"name": "transfer-leader", "region_id": "40", "to_store_id": 3}"#, "missing region id"),
            (r#"{"name": "transfer-leader", "region_id": 40}"#, "missing store id to transfer leader to"),
            (r#"{"name": "transfer-region", "region_id": 40}"#, "invalid store ids to transfer region to"),
            (
                r#"{"name": "transfer-region", "region_id": 40, "to_store_ids": []}"#,
                "missing store ids to transfer region to",
            ),
            (r#"{"name": "transfer-peer", "region_id": 40}"#, "invalid store id to transfer peer from"),
            (
                r#"{"name": "transfer-peer", "region_id": 40, "from_store_id": 1}"#,
                "invalid store id to transfer peer to",
            ),
            (r#"{"name": "add-peer", "region_id": 40}"#, "invalid store id to transfer peer to"),
            (r#"{"name": "split-region", "region_id": 40}"#, "missing split policy"),
            (r#"{"name": "merge-region", "target_region_id": 40}"#, "missing region id"),
            (r#"{"name": "merge-region", "source_region_id": 40}"#, "invalid target region id to merge to"),
            (r#"{"name": "split-region", "region_id": 40, "policy": "scan", "keys": 1}"#, "bad format keys"),
            (r#"{"name": "split-region", "region_id": 40, "policy": "scan", "keys": [1]}"#, "bad format keys"),
        ] {
            assert_eq!(wanted(text).unwrap_err(), Problem::bad(said), "{text}");
        }
        for (text, said) in [
            (
                r#"{"name": "split-region", "region_id": 4000, "policy": "foo"}"#,
                "[PD:region:ErrRegionNotFound]region 4000 not found",
            ),
            (r#"{"name": "split-region", "region_id": 40, "policy": "foo"}"#, "check policy foo is not supported"),
            (
                r#"{"name": "split-region", "region_id": 40, "policy": "usekey", "keys": ["zz"]}"#,
                "split key zz is not in hex format",
            ),
        ] {
            assert_eq!(wanted(text).unwrap_err(), Problem::failed(said), "{text}");
        }
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(
            wanted(r#"{"name": "transfer-region", "region_id": 150, "to_store_ids": [4, 1], "peer_roles": ["leader", "voter"]}"#)
                .unwrap(),
            admin::Request::TransferRegion {
                region: RegionId(150),
                to: vec![(StoreId(4), Some(RuleRole::Leader)), (StoreId(1), Some(RuleRole::Voter))],
            }
        );
        assert_eq!(
            wanted(r#"{"name": "split-region", "region_id": 80, "policy": "UseKey", "keys": ["7480"]}"#).unwrap(),
            admin::Request::SplitRegion { region: RegionId(80), policy: 2, keys: vec![Key::from(&b"\x74\x80"[..])] }
        );
    }
}
