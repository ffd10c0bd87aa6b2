//! `/checker` and `/regions/accelerate-schedule`: people and the checkers.
//!
//! Owns: reading these requests. Must not know: what checkers do.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Answer, body,
    error::{NOT_BOOTSTRAPPED, Problem},
    go,
    render::Reply,
    request::Request,
};
use crate::{model::KeyRange, pdsay, scheduler::checker::pause::CheckerName};
use axum::http::StatusCode;

/// How many regions of a range are accelerated when nobody says.
const DEFAULT_LIMIT: i64 = 256;
/// The most regions of one request, over all its ranges.
const MAX_REGIONS: usize = 1 << 16;
/// The most ranges of one request.
const MAX_RANGES: usize = 1024;

#[derive(Serialize)]
struct Status {
    paused: bool,
}

/// The checker that the path names. PD looks for the cluster first.
fn checker(request: &Request) -> Result<CheckerName, Problem> {
    if !request.app.is_bootstrapped() {
        return Err(Problem::failed(NOT_BOOTSTRAPPED));
    }
    CheckerName::named(&request.param("name"))
        .ok_or_else(|| Problem::failed("[PD:checker:ErrCheckerNotFound]checker not found"))
}

/// `GET /checker/{name}`
pub(super) fn status(request: &Request) -> Answer {
    let app = &request.app;
    let paused = app.cluster.is_checker_paused(checker(request)?, app.now());
    Ok(Reply::ok(&Status { paused }))
}

/// `POST /checker/{name}`
pub(super) fn pause(request: &Request) -> Answer {
    let length = delay(&body::object(&request.body)?)?;
    let app = &request.app;
    let checker = checker(request).inspect_err(|problem| {
        if let Problem::Said(_, text) = problem {
            pdsay!(app.log, CAN_NOT_PAUSE_CHECKER, request.param("name").as_str(), text.as_str());
        }
    })?;
    app.cluster.pause_checker(checker, length, app.now());
    Ok(Reply::ok(&if length.is_zero() {
        "Resume the checker successfully."
    } else {
        "Pause the checker successfully."
    }))
}

/// For how long to pause: whole seconds, as PD cuts them.
fn delay(input: &Map<String, Value>) -> Result<Duration, Problem> {
    let seconds = input.get("delay").and_then(Value::as_f64).ok_or_else(|| Problem::bad("missing pause time"))?;
    #[allow(clippy::cast_possible_truncation)] // saturates, as wanted
    let seconds = seconds as i64;
    u64::try_from(seconds).map(Duration::from_secs).map_err(|_| Problem::bad("delay cannot be negative"))
}

/// `POST /regions/accelerate-schedule`
pub(super) fn accelerate(request: &Request) -> Answer {
    let input = body::object(&request.body)?;
    let (Some(Value::String(start)), Some(Value::String(end))) = (input.get("start_key"), input.get("end_key")) else {
        return Err(Problem::bad("start_key or end_key is not string"));
    };
    let key = |text: &str| go::decode_hex(text.as_bytes()).map_err(|error| Problem::failed(error.to_string()));
    let range = KeyRange::new(key(start)?, key(end)?);
    run(request, &[range])?;
    let text = format!("Accelerate regions scheduling in a given range [{start},{end})");
    Ok(Reply::text(StatusCode::OK, text))
}

/// `POST /regions/accelerate-schedule/batch`
pub(super) fn accelerate_batch(request: &Request) -> Answer {
    let inputs = body::objects(&request.body)?;
    if inputs.len() > MAX_RANGES {
        return Err(Problem::bad(format!("too many ranges: {}, the most is {MAX_RANGES}", inputs.len())));
    }
    let mut ranges = Vec::with_capacity(inputs.len());
    let mut text = "Accelerate regions scheduling in given ranges: ".to_owned();
    for input in &inputs {
        let (start, end) = (named_key(input, "start_key")?, named_key(input, "end_key")?);
        text.push_str(&format!("[{},{}), ", hex::encode(&start), hex::encode(&end)));
        ranges.push(KeyRange::new(start, end));
    }
    run(request, &ranges)?;
    Ok(Reply::text(StatusCode::OK, text))
}

/// A key in hex, with the words that PD has for each way in which it can be wrong.
fn named_key(input: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Problem> {
    match input.get(name) {
        None => Err(Problem::bad(format!("missing {name}"))),
        Some(Value::String(text)) => {
            go::decode_hex(text.as_bytes()).map_err(|_| Problem::bad(format!("split key {name} is not in hex format")))
        }
        Some(_) => Err(Problem::bad(format!("bad format {name}"))),
    }
}

/// Has the regions looked at.
fn run(request: &Request, ranges: &[KeyRange]) -> Result<(), Problem> {
    let limit = request.query.int("limit", DEFAULT_LIMIT)?;
    let most = MAX_REGIONS / ranges.len().max(1);
    // As in PD nothing below one is "all".
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(most).min(most);
    request.app.cluster.accelerate(ranges, limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn delays_and_keys_are_read_as_pd_reads_them() {
        let read = |text: &str| delay(&body::object(text.as_bytes()).unwrap());
        assert_eq!(read(r#"{"delay": 120}"#).unwrap(), Duration::from_secs(120));
        assert_eq!(read(r#"{"delay": 0.9}"#).unwrap(), Duration::ZERO);
        for text in ["{}", r#"{"delay": "1"}"#] {
            assert_eq!(read(text).unwrap_err(), Problem::bad("missing pause time"));
        }
        assert_eq!(read(r#"{"delay": -1}"#).unwrap_err(), Problem::bad("delay cannot be negative"));
        let key = |text: &str| named_key(&body::object(text.as_bytes()).unwrap(), "start_key");
        assert_eq!(key(r#"{"start_key": "7aFF"}"#).unwrap(), [0x7a, 0xff]);
        assert_eq!(key("{}").unwrap_err(), Problem::bad("missing start_key"));
        assert_eq!(key(r#"{"start_key": 1}"#).unwrap_err(), Problem::bad("bad format start_key"));
        assert_eq!(key(r#"{"start_key": "x"}"#).unwrap_err(), Problem::bad("split key start_key is not in hex format"));
    }
}
