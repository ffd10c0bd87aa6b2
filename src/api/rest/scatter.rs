//! `/regions/scatter`, `/regions/split` and the operators that scatter.
//!
//! Owns: reading such requests and PD's answers. Must not know: which stores regions get.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Answer, body, error::Problem, go, regions, render::Reply, request::Request};
use crate::{
    api::{App, app::EMPTY_REGIONS},
    model::{Key, KeyRange, RegionId},
};

/// Tries more of a request that names no number (PD's).
const RETRIES: u64 = 5;

#[derive(Serialize)]
struct ShareJson {
    #[serde(rename = "processed-percentage")]
    percent: u64,
}

#[derive(Serialize)]
struct OperatorsJson {
    #[serde(rename = "processed-percentage")]
    percent: u64,
    error: String,
}

#[derive(Serialize)]
struct SplitJson {
    #[serde(rename = "processed-percentage")]
    percent: u64,
    #[serde(rename = "regions-id")]
    regions: Vec<RegionId>,
}

fn text<'a>(input: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    input.get(key).and_then(Value::as_str)
}

fn retries(input: &Map<String, Value>) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, as wanted
    input.get("retry_limit").and_then(Value::as_f64).map_or(RETRIES, |n| n as u64)
}

/// A list of region ids, whatever their numbers look like.
fn ids(value: Option<&Value>) -> Option<Vec<RegionId>> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, as wanted
    let id = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|n| n as u64)).map(RegionId);
    value?.as_array()?.iter().map(id).collect()
}

/// The regions that a request names, one by one or by their range.
fn wanted(app: &App, input: &Map<String, Value>, list: &str) -> Result<Vec<RegionId>, Problem> {
    if let (Some(start), Some(end)) = (text(input, "start_key"), text(input, "end_key")) {
        let key = |text: &str| go::decode_hex(text.as_bytes()).map_err(|e| Problem::failed(e.to_string()));
        let found = app.region_ids(&KeyRange::new(key(start)?, key(end)?));
        if found.is_empty() {
            return Err(Problem::failed(EMPTY_REGIONS));
        }
        return Ok(found);
    }
    ids(input.get(list)).ok_or_else(|| Problem::failed(format!("{list} is invalid")))
}

/// `POST /regions/scatter`
pub(super) async fn scatter(request: &Request) -> Answer {
    let (app, input) = (&request.app, body::object(&request.body)?);
    let regions = wanted(app, &input, "regions_id")?;
    let group = text(&input, "group").unwrap_or_default();
    let scattered = app.scatter(&regions, group, retries(&input), false, &request.named()).await?;
    Ok(Reply::ok(&ShareJson { percent: scattered.percent() }))
}

/// `POST /regions/split`
pub(super) async fn split(request: &Request) -> Answer {
    let (app, input) = (&request.app, body::object(&request.body)?);
    let Some(keys) = input.get("split_keys") else { return Err(Problem::bad("split_keys should be provided.")) };
    let keys = keys.as_array().ok_or_else(|| Problem::bad("split_keys should be an array."))?;
    if keys.is_empty() {
        return Err(Problem::bad("empty split keys."));
    }
    let key = |value: &Value| {
        let text = value.as_str().ok_or_else(|| Problem::bad("split_keys should contain only strings."))?;
        go::decode_hex(text.as_bytes()).map(Key::from).map_err(|e| Problem::bad(e.to_string()))
    };
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let (percent, regions) = app.split_regions(&keys, retries(&input), &request.named()).await?;
    Ok(Reply::ok(&SplitJson { percent, regions }))
}

/// `POST /operators` with `scatter-region` or `scatter-regions`; `None` for any other operator.
pub(super) async fn operator(request: &Request, input: &Map<String, Value>) -> Option<Answer> {
    match text(input, "name") {
        Some("scatter-region") => Some(scatter_one(request, input).await),
        Some("scatter-regions") => Some(scatter_many(request, input).await),
        _ => None,
    }
}

async fn scatter_one(request: &Request, input: &Map<String, Value>) -> Answer {
    let region = input.get("region_id").and_then(Value::as_f64).ok_or_else(|| Problem::bad("missing region id"))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, as wanted
    let region = RegionId(region as u64);
    if request.app.cluster.regions().get(region).is_none() {
        return Err(regions::not_found(region).into_failure());
    }
    let group = text(input, "group").unwrap_or_default();
    let scattered = request.app.scatter(&[region], group, 0, false, &request.named()).await?;
    match scattered.failed.into_iter().next() {
        Some((_, text)) => Err(Problem::failed(text)),
        None => Ok(Reply::ok(&"The operator is created.")),
    }
}

async fn scatter_many(request: &Request, input: &Map<String, Value>) -> Answer {
    let app = &request.app;
    let regions = wanted(app, input, "region_ids").map_err(|problem| match problem {
        Problem::Said(_, text) if text == "region_ids is invalid" => Problem::bad(text),
        other => other,
    })?;
    let group = text(input, "group").unwrap_or_default();
    let scattered = app.scatter(&regions, group, retries(input), false, &request.named()).await?;
    Ok(Reply::ok(&OperatorsJson { percent: scattered.percent(), error: String::new() }))
}
