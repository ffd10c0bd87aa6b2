//! `/berth/v1/rules/unmet`, and what is said of a change of rules that cannot be met now.
//!
//! Owns: the JSON shape, the line in the log, `berth-strict`. Must not know: when a rule can be met (`scheduler::placement::unmet`).

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use super::{Answer, berth::answer, error::Problem, request::Request};
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
    let rules = || unmet.iter().take(MAX_LISTED);
    answer(request, || text(&unmet), || ListJson { count: unmet.len(), rules: rules().map(UnmetJson::from).collect() })
}

/// A line for each rule, as many as are listed.
fn text(unmet: &[Unmet]) -> String {
    let mut out = match unmet.len() {
        0 => "all placement rules can be met\n".to_owned(),
        1 => "1 placement rule cannot be met now:\n".to_owned(),
        many => format!("{many} placement rules cannot be met now:\n"),
    };
    for one in unmet.iter().take(MAX_LISTED) {
        _ = writeln!(out, "  {one} (first in {})", keys(&one.range));
    }
    if unmet.len() > MAX_LISTED {
        _ = writeln!(out, "  and {} more", unmet.len() - MAX_LISTED);
    }
    out
}

/// `keys 7480 to 7580`, in hex; an empty end is said in words.
fn keys(range: &KeyRange) -> String {
    let or = |key: &[u8], word: &str| if key.is_empty() { word.to_owned() } else { hex::encode(key) };
    format!("keys {} to {}", or(&range.start, "from the first"), or(&range.end, "the last"))
}

/// Whether a change that cannot be met now shall be refused.
///
/// # Errors
/// The query says neither yes nor no.
pub(super) fn is_strict(request: &Request) -> Result<bool, Problem> {
    match request.query.text("berth-strict").as_str() {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        other => Err(Problem::bad(format!("unknown berth-strict {other:?}: true or false"))),
    }
}

/// The rules that `next` could not meet in the ranges that a change touches; with `berth-strict=true` they refuse it.
pub(super) fn check(request: &Request, next: &RuleSet, touched: &[KeyRange]) -> Result<Vec<Unmet>, Problem> {
    let is_strict = is_strict(request)?;
    let unmet = request.app.cluster.unmet_of(next, touched, request.app.now());
    if !unmet.is_empty() && is_strict {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rule, StoreId};

    #[test]
    fn the_text_names_each_rule_and_where() {
        let rule = Rule { group_id: "pd".into(), id: "near".into(), count: 2, ..Rule::default() };
        let range = KeyRange::new(vec![0x74, 0x80], vec![]);
        let refused = BTreeMap::from([("label-constraint-filter", vec![StoreId(4), StoreId(5)])]);
        let one = Unmet { rule: rule.into(), range, can: 1, refused };
        assert_eq!(text(&[]), "all placement rules can be met\n");
        assert_eq!(
            text(std::slice::from_ref(&one)),
            "1 placement rule cannot be met now:\n  rule pd/near asks for 2 peers, the stores can take 1; \
             label-constraint-filter: store 4, 5 (first in keys 7480 to the last)\n"
        );
        assert!(text(&vec![one; MAX_LISTED + 1]).ends_with("\n  and 1 more\n"));
    }
}
