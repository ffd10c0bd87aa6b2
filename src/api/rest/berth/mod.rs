//! `/berth/v1`: what PD cannot say. Explanations as JSON, or as text with `?format=text`.
//!
//! Owns: the shape of the JSON (documented in `docs/explain.md`). Must not know: how explanations come to be (`scheduler::explain`).

pub(super) mod backup;
pub(super) mod drains;
pub(super) mod members;
pub(super) mod operators;
mod owners;
pub(super) mod ready;
pub(super) mod regions;

use axum::http::StatusCode;
use owners::Owner;
use serde::Serialize;
use serde_json::{Value, json};

use super::{error::Problem, go::rfc3339_nano, render::Reply, request::Request};
use crate::{
    model::{Mono, Now, Wall},
    scheduler::explain::{remedy::remedy, why::Group},
};

/// Answers in the form that was asked for. Only the one that is asked for is made.
pub(super) fn answer<T: Serialize>(
    request: &Request,
    text: impl FnOnce() -> String,
    json: impl FnOnce() -> T,
) -> Result<Reply, Problem> {
    match request.query.text("format").as_str() {
        "" | "json" => Ok(Reply::ok(&json())),
        "text" => Ok(Reply::text(StatusCode::OK, text())),
        other => Err(Problem::bad(format!("unknown format {other:?}: json or text"))),
    }
}

/// A moment of the monotonic clock on the wall clock.
fn wall(now: Now, at: Mono) -> String {
    let ago = i64::try_from(now.mono.since(at).as_nanos()).unwrap_or(i64::MAX);
    rfc3339_nano(Wall(now.wall.0.saturating_sub(ago)))
}

/// Groups of regions. `owner` tells of the label rule that holds one.
fn groups(groups: &[Group], now: Now, owner: impl Fn(&Group) -> Option<Owner>) -> Value {
    let one = |group: &Group| {
        json!({
            "reason": group.why.name(),
            "detail": group.detail,
            "regions": group.regions,
            "oldest_since": wall(now, group.oldest),
            "oldest_seconds": now.mono.since(group.oldest).as_secs_f64(),
            "samples": group.samples.iter().map(|id| id.0).collect::<Vec<_>>(),
            "why": group.says(),
            "rule": owner(group).map(|owner| owner.json()),
            "remedy": remedy(group),
            "ended_by": group.why.wakes(),
            "refused": group.refused.iter().map(|(filter, stores)| {
                ((*filter).to_owned(), json!(stores.iter().map(|s| s.0).collect::<Vec<_>>()))
            }).collect::<serde_json::Map<_, _>>(),
        })
    };
    Value::Array(groups.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{
        model::{RegionId, StoreId},
        scheduler::explain::why::{Groups, Why},
    };

    #[test]
    fn a_group_has_the_documented_fields() {
        let now = Now { mono: Mono(60_000_000_000), wall: Wall(1_795_352_651_000_000_000) };
        let mut all = Groups::default();
        (1..=5).for_each(|id| all.add(RegionId(id), &Why::LeaderSilent { store: StoreId(2) }, Mono(50_000_000_000)));
        let shown = groups(&all.into_sorted(), now, |_| None);
        let group = &shown[0];
        assert_eq!((&group["reason"], &group["regions"]), (&json!("no-leader"), &json!(5)));
        assert_eq!((&group["oldest_since"], &group["oldest_seconds"]), (&json!("2026-11-22T13:04:01Z"), &json!(10.0)));
        assert_eq!(group["samples"], json!([1, 2, 3]));
        let doc = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explain.md")).unwrap();
        let fields: Vec<&String> = group.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 11);
        assert!(fields.iter().all(|field| doc.contains(&format!("\"{field}\":"))), "{fields:?}");
    }
}
