//! `/berth/v1/rules/unmet`, and what is said of a change of rules that cannot be met now.
//!
//! Owns: the JSON shape, the line in the log, `berth-strict`. Must not know: when a rule can be met (`scheduler::placement::unmet`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, error::Problem, render::Reply, request::Request};
use crate::{
    api::App,
    model::KeyRange,
    scheduler::placement::{DEFAULT_GROUP, DEFAULT_ID, RuleSet, unmet::Unmet},
};

/// Rules listed in one answer, and lines written about one change.
const MAX_LISTED: usize = 1000;
/// See [`MAX_LISTED`].
const MAX_LINES: usize = 16;

#[derive(Serialize)]
struct UnmetJson<'a> {
    group_id: &'a str,
    id: &'a str,
    count: u32,
    can: u32,
    start_key: String,
    end_key: String,
    /// By filter.
    refused: BTreeMap<&'static str, Vec<u64>>,
    why: String,
}

#[derive(Serialize)]
struct ListJson<'a> {
    count: usize,
    rules: Vec<UnmetJson<'a>>,
}

impl<'a> From<&'a Unmet> for UnmetJson<'a> {
    fn from(unmet: &'a Unmet) -> Self {
        let refused = unmet.refused.iter().map(|(filter, stores)| (*filter, stores.iter().map(|s| s.0).collect()));
        Self {
            group_id: &unmet.rule.group_id,
            id: &unmet.rule.id,
            count: unmet.rule.count,
            can: unmet.can,
            start_key: hex::encode(&*unmet.range.start),
            end_key: hex::encode(&*unmet.range.end),
            refused: refused.collect(),
            why: unmet.to_string(),
        }
    }
}

/// `GET /berth/v1/rules/unmet`: worked out from the stores as they are now.
pub(super) fn list(request: &Request) -> Answer {
    let unmet = request.app.cluster.unmet_rules(request.app.now());
    Ok(Reply::ok(&ListJson { count: unmet.len(), rules: unmet.iter().take(MAX_LISTED).map(UnmetJson::from).collect() }))
}

/// The rules that `next` could not meet in the ranges that a change touches; with `berth-strict=true` they refuse it.
pub(super) fn check(request: &Request, next: &RuleSet, touched: &[KeyRange]) -> Result<Vec<Unmet>, Problem> {
    let unmet = request.app.cluster.unmet_of(next, touched, request.app.now());
    if !unmet.is_empty() && request.query.text("berth-strict") == "true" {
        let words: Vec<String> = unmet.iter().take(MAX_LINES).map(ToString::to_string).collect();
        return Err(Problem::bad(words.join(". ")));
    }
    Ok(unmet)
}

/// Says whether PD's default rule, which a change of `replication.*` changes, cannot be met.
pub(super) fn tell_of_default(app: &App) {
    let mut unmet = app.cluster.unmet_rules(app.now());
    unmet.retain(|unmet| unmet.rule.group_id == DEFAULT_GROUP && unmet.rule.id == DEFAULT_ID);
    tell(app, &unmet);
}

/// Says of an agreed change what cannot be met.
pub(super) fn tell(app: &App, unmet: &[Unmet]) {
    for unmet in unmet.iter().take(MAX_LINES) {
        crate::pdlog!(app.log, Warn, "placement rule cannot be met now", "group" => &unmet.rule.group_id,
            "id" => &unmet.rule.id, "why" => unmet.to_string());
    }
    if unmet.len() > MAX_LINES {
        crate::pdlog!(app.log, Warn, "more placement rules cannot be met now", "count" => unmet.len() - MAX_LINES);
    }
    if !unmet.is_empty() {
        // Else with the next round of gauges.
        app.metrics.patrol.unmet_rules.set(app.cluster.unmet_rules(app.now()).len() as f64);
    }
}
