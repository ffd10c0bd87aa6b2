//! Whether an answer is the recorded one, but for what varies from run to run.
//!
//! Masked is only what the README of the recordings names: times, ids that were given out, floats to 1e-6, the order of lists that
//! are kept in maps. Layout, key order and everything else count byte for byte.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::facts::Answer;

/// Keys with scalar values that differ from run to run.
const VARYING: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_bootstrap_time",
    "start_ts",
    "last_heartbeat",
    "last_heartbeat_ts",
    "uptime",
    "created_at",
    "paused_at",
    "resume_at",
    "expired_at",
    "create_timestamp",
    "left_seconds",
    "current_speed",
    "progress",
    "last_update_time",
    "timestamp",
    "start_at",
    "state_id",
    "build_ts",
];

/// Ids of peers from here on were given out by the server.
const FIRST_GIVEN_ID: u64 = 201;

/// Relative difference that scores may have.
const SCORE_TOLERANCE: f64 = 1e-6;

/// Headers that count.
const HEADERS: &[&str] = &[
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "content-type",
    "tidb-error-code",
    "x-content-type-options",
    "location",
];

/// Paths whose answers hold lists that are kept in maps.
const UNORDERED: &[&str] = &[
    "/pd/api/v1/operators",
    "/pd/api/v1/stores",
    "/pd/api/v1/labels",
    "/pd/api/v1/regions",
    "/pd/api/v1/schedulers",
    "/pd/api/v1/config/rules",
    "/pd/api/v1/config/rule_groups",
    "/pd/api/v1/gc/safepoint",
    "/pd/api/v1/stats/region",
    "/pd/api/v1/hotspot/regions",
];

/// What is known of this server and stands for what the recorded one showed.
pub(crate) struct Masks {
    /// Text of this server, text of the recorded one.
    pub(crate) words: Vec<(String, String)>,
}

/// Compares; `Err` says what differs first.
pub(crate) fn compare(target: &str, recorded: &Answer, got: &Answer, masks: &Masks) -> Result<(), String> {
    if recorded.status != got.status {
        return Err(format!("status {} instead of {}: {}", got.status, recorded.status, short(&got.text())));
    }
    for name in HEADERS {
        if recorded.header(name) != got.header(name) {
            return Err(format!("{name}: {:?} instead of {:?}", got.header(name), recorded.header(name)));
        }
    }
    let mut body = got.text();
    for (here, there) in &masks.words {
        body = body.replace(here, there);
    }
    let path = target.split('?').next().unwrap_or(target);
    let unordered = UNORDERED.iter().any(|p| path.starts_with(p));
    let (mut wanted, body) = (masked(&recorded.text(), target, unordered), masked(&body, target, unordered));
    // The file of a recording ends with a newline; only a known length tells whether the body did.
    if chunked(recorded) && !body.ends_with('\n') && wanted.ends_with('\n') {
        wanted.pop();
    }
    if wanted == body {
        return Ok(());
    }
    let (Ok(a), Ok(b)) = (serde_json::from_str::<Value>(&wanted), serde_json::from_str::<Value>(&body)) else {
        return Err(difference(&wanted, &body));
    };
    let (a, mut b) = (canonical(a, unordered), canonical(b, unordered));
    level_scores(&a, &mut b);
    let (a, b) = (a.to_string(), b.to_string());
    if a == b && layout(&wanted) == layout(&body) {
        return Ok(());
    }
    Err(difference(&a, &b))
}

fn chunked(recorded: &Answer) -> bool {
    recorded.header("content-length").is_none()
}

fn short(text: &str) -> String {
    text.trim_end().chars().take(300).collect()
}

fn difference(wanted: &str, got: &str) -> String {
    let at = wanted.bytes().zip(got.bytes()).position(|(a, b)| a != b).unwrap_or(wanted.len().min(got.len()));
    let around = |text: &str| {
        let bytes = &text.as_bytes()[at.saturating_sub(60).min(text.len())..(at + 90).min(text.len())];
        String::from_utf8_lossy(bytes).replace('\n', "\\n")
    };
    format!("…{}… instead of …{}…", around(got), around(wanted))
}

/// Indentation and final newline: two texts of the same JSON with the same layout are the same but for order and masks.
fn layout(text: &str) -> (usize, bool) {
    let first = text.lines().nth(1).map_or(0, |line| line.len() - line.trim_start().len());
    (first, text.ends_with('\n'))
}

/// Replaces what varies by fixed words.
fn masked(text: &str, target: &str, unordered: bool) -> String {
    let mut out = text.to_owned();
    let mut patterns: Vec<(String, String)> = Vec::new();
    let mut replace = |pattern: &str, with: &str| patterns.push((pattern.to_owned(), with.to_owned()));
    for key in VARYING {
        replace(&format!(r#""{key}": ?("[^"]*"|[-+.0-9eE]+)"#), &format!("\"{key}\": 0"));
    }
    if target.contains("/hotspot/regions/") {
        // It counts reports, and time that is skipped brings fewer.
        replace(r#""hot_degree": ?-?[0-9]+"#, "\"hot_degree\": 0");
    }
    if target.ends_with("/status") || target.contains("config") {
        replace(r#""start_timestamp": \d+"#, "\"start_timestamp\": 0");
    }
    if target == "/pd/api/v1/cluster" {
        replace(r#""id": \d+"#, "\"id\": 0");
    }
    if target.contains("rule") {
        // Of rules only: versions of nodes are texts.
        replace(r#",?\n +"version": \d+"#, "");
        replace(r#",?\n +"create_timestamp": \d+"#, "");
    }
    replace(r#""git_hash": "None""#, "\"git_hash\": \"\"");
    replace(r"(createAt|startAt|finishAt):[^,)]* m=\+[0-9.]+", "$1:0");
    replace(r"duration:[^)]*\)", "duration:0)");
    if text.contains("\"code\": \"internal\"") {
        replace(r#"(?s),\n  "data": \{\}.*\}"#, "\n}");
    }
    for (pattern, with) in &patterns {
        out = Regex::new(pattern).expect("a pattern").replace_all(&out, with).into_owned();
    }
    renumbered(&out, unordered)
}

/// Numbers ids of peers that the server gave out in the order of their first appearance; all alike where order does not count.
fn renumbered(text: &str, unordered: bool) -> String {
    let ids = Regex::new(r#"(peer |"id":)(\d{3,})\b"#).expect("a pattern");
    let mut seen = BTreeMap::new();
    let replaced = ids.replace_all(text, |found: &regex::Captures<'_>| {
        let id: u64 = found[2].parse().unwrap_or(0);
        if !(FIRST_GIVEN_ID..=10_000).contains(&id) {
            return found[0].to_owned();
        }
        let next = if unordered { 0 } else { seen.len() + 1 };
        format!("{}{}", &found[1], 900_000 + *seen.entry(id).or_insert(next))
    });
    replaced.into_owned()
}

/// Sorts lists when their order does not count.
fn canonical(value: Value, unordered: bool) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(|item| canonical(item, unordered)).collect();
            if unordered {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, canonical(v, unordered))).collect(),
        other => other,
    }
}

/// Gives scores that are close enough the recorded value.
fn level_scores(wanted: &Value, got: &mut Value) {
    match (wanted, got) {
        (Value::Array(a), Value::Array(b)) => a.iter().zip(b).for_each(|(a, b)| level_scores(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            for (key, wanted) in a {
                let Some(got) = b.get_mut(key) else { continue };
                if matches!(key.as_str(), "leader_score" | "region_score") {
                    let (x, y) = (wanted.as_f64().unwrap_or(f64::NAN), got.as_f64().unwrap_or(f64::NAN));
                    if (x - y).abs() <= SCORE_TOLERANCE * x.abs() {
                        *got = wanted.clone();
                    }
                } else {
                    level_scores(wanted, got);
                }
            }
        }
        _ => {}
    }
}
