//! The rule that holds a part of the demo's drain, as an importer would set one, and what is done about it.
//!
//! Owns: the calls, all through the REST interface. Must not know: how the drain is watched.

use anyhow::Context as _;
use berth::{
    model::{Key, KeyRange, StoreId},
    sim::http::HttpClient,
    store::RegionIndex,
};
use serde_json::{Value, json};

/// The name of the rule.
const RULE: &str = "demo-import";
/// One region of so many on the store is held, and at least one.
const SHARE: u64 = 20;

/// Neighbouring regions that hold about a twentieth of the store's peers; `None` when the store has none.
pub(super) fn range(regions: &RegionIndex, store: StoreId) -> Option<KeyRange> {
    let wanted = (regions.summary(store).region_count / SHARE).max(1);
    let all = regions.scan(&KeyRange::all(), usize::MAX);
    let mut there = all.iter().filter(|r| r.meta.peer_on(store).is_some());
    let first = there.next()?;
    let last = there.take(usize::try_from(wanted - 1).unwrap_or(0)).last().unwrap_or(first);
    Some(KeyRange { start: first.meta.range.start.clone(), end: last.meta.range.end.clone() })
}

/// Sets the rule over `range`; returns its name.
pub(super) async fn set(http: &HttpClient, range: &KeyRange) -> anyhow::Result<&'static str> {
    let hex = |key: &Key| key.hex();
    let rule = json!({
        "id": RULE, "labels": [{ "key": "schedule", "value": "deny" }], "rule_type": "key-range",
        "data": [{ "start_key": hex(&range.start), "end_key": hex(&range.end) }],
    });
    http.post("/pd/api/v1/config/region-label/rule", &rule).await.context("cannot set the rule")?;
    Ok(RULE)
}

/// The rule that all that is left of a drain waits for, in the words of `GET /berth/v1/drains/{store}`; empty: something goes on.
pub(super) fn waits_for(drain: &Value) -> String {
    let groups = drain["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let denied = groups.iter().all(|group| group["reason"] == "denied");
    let first = groups.first().filter(|_| denied).and_then(|group| group["why"].as_str());
    first.unwrap_or_default().to_owned()
}

/// The `DELETE` that an explanation names as what a person can do.
pub(super) fn remedy(explanation: &str) -> anyhow::Result<&str> {
    let line = explanation.lines().find(|line| line.trim_start().starts_with("do:"));
    let path = line.and_then(|line| line.split_once("DELETE ")).map(|(_, rest)| rest);
    let end = |c: char| c == ';' || c.is_whitespace();
    path.and_then(|path| path.split(end).next()).with_context(|| format!("no call is named in:\n{explanation}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_drain_is_held_when_a_rule_denies_all_that_is_left() {
        let group = |reason: &str| json!({ "reason": reason, "why": format!("says {reason}") });
        let of = |reasons: &[&str]| {
            let groups: Vec<_> = reasons.iter().map(|r| group(r)).collect();
            waits_for(&json!({ "groups": groups }))
        };
        assert_eq!(of(&["denied"]), "says denied");
        assert_eq!(of(&["denied", "moving"]), "");
        assert_eq!((of(&[]), waits_for(&Value::Null)), (String::new(), String::new()));
    }

    #[test]
    fn the_call_is_taken_from_the_text() {
        let text = "  3  denied (r), oldest 1.0s\n  why: a rule\n  do:  remove it: DELETE /a/b/r; or wait\n";
        assert_eq!(remedy(text).unwrap(), "/a/b/r");
        assert!(remedy("do: wait").is_err());
    }
}
