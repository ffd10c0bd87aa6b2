//! `/config/region-label/…`, `/region/id/{id}/label…`: labels of key ranges.
//!
//! Owns: the JSON shape of label rules, PD's checks of them, ends of labels that hold for a time. Must not know: what labels mean.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Answer, body,
    body::Node,
    error::Problem,
    render::{Reply, compact},
    request::Request,
    rule_json::key,
};
use crate::{
    api::rows::{self, SetBy},
    config::GoDuration,
    meta::{Command, NamedRow},
    model::{KeyRange, Region, RegionLabel, RegionLabelRule, Wall},
    scheduler::region_label::{LabelIndex, holds},
};

/// The one type of rule that there is.
const KEY_RANGE: &str = "key-range";

#[derive(Serialize)]
struct LabelJson<'a> {
    key: &'a str,
    value: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ttl: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    start_at: &'a str,
}

#[derive(Serialize)]
struct RangeJson {
    start_key: String,
    end_key: String,
}

/// A rule in PD's key order.
#[derive(Serialize)]
struct RuleJson<'a> {
    id: &'a str,
    index: i64,
    labels: Vec<LabelJson<'a>>,
    rule_type: &'static str,
    data: Vec<RangeJson>,
}

/// A rule with the labels that still hold; `None` when none does.
fn show(rule: &RegionLabelRule, now: Wall) -> Option<RuleJson<'_>> {
    let labels: Vec<_> = rule
        .labels
        .iter()
        .filter(|label| holds(label, now))
        .map(|l| LabelJson { key: &l.key, value: &l.value, ttl: &l.ttl, start_at: &l.start_at })
        .collect();
    if labels.is_empty() {
        return None;
    }
    let range = |r: &KeyRange| RangeJson { start_key: hex::encode(&*r.start), end_key: hex::encode(&*r.end) };
    Some(RuleJson {
        id: &rule.id,
        index: rule.index,
        labels,
        rule_type: KEY_RANGE,
        data: rule.ranges.iter().map(range).collect(),
    })
}

fn content(why: impl std::fmt::Display) -> Problem {
    Problem::bad(format!("[PD:region:ErrRegionRuleContent]invalid region rule content, {why}"))
}

/// Reads a new rule. A label for a time starts now if it does not say when, and must not be over already.
fn read(node: &Node<'_>, now: Wall) -> Result<RegionLabelRule, Problem> {
    let fields = node.fields("LabelRule", "labeler.LabelRule")?;
    let mut rule =
        RegionLabelRule { id: fields.text("id")?, index: fields.int("index")?, ..RegionLabelRule::default() };
    if let Some(labels) = fields.node("labels") {
        for label in labels.items("[]labeler.RegionLabel")? {
            let fields = label.fields("RegionLabel", "labeler.RegionLabel")?;
            rule.labels.push(RegionLabel {
                key: fields.text("key")?,
                value: fields.text("value")?,
                ttl: fields.text("ttl")?,
                start_at: fields.text("start_at")?,
                expires: None,
            });
        }
    }
    let kind = fields.text("rule_type")?;
    if rule.id.is_empty() {
        return Err(content("empty rule id"));
    }
    if rule.labels.is_empty() {
        return Err(content("no region labels"));
    }
    for label in &mut rule.labels {
        check_label(label, now)?;
    }
    if kind != KEY_RANGE {
        return Err(content(format!("invalid rule type: {kind}")));
    }
    rule.ranges = read_ranges(fields.node("data").as_ref().map(Node::value))?;
    Ok(rule)
}

fn check_label(label: &mut RegionLabel, now: Wall) -> Result<(), Problem> {
    if label.key.is_empty() {
        return Err(content("empty region label key"));
    }
    if label.value.is_empty() {
        return Err(content("empty region label value"));
    }
    if label.ttl.is_empty() {
        return Ok(());
    }
    let wrong = |why: String| content(format!("region label with invalid ttl info {why}"));
    label.ttl.parse::<GoDuration>().map_err(wrong)?;
    if label.start_at.is_empty() {
        label.start_at = unix_date(now);
    }
    label.expires = rows::expiry(&label.ttl, &label.start_at);
    if !holds(label, now) {
        return Err(content("region label with expired ttl"));
    }
    Ok(())
}

/// Go's names for JSON values of the wrong kind.
fn go_type(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "<nil>",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(_)) => "float64",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "[]interface {}",
        Some(Value::Object(_)) => "map[string]interface {}",
    }
}

fn read_ranges(data: Option<&Value>) -> Result<Vec<KeyRange>, Problem> {
    let wrong = |value| content(format!("invalid rule type: {}", go_type(value)));
    let Some(Value::Array(items)) = data else { return Err(wrong(data)) };
    if items.is_empty() {
        return Err(content("no key ranges"));
    }
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let Value::Object(map) = item else { return Err(wrong(Some(item))) };
        let bound = |name: &str| match map.get(name) {
            Some(Value::String(text)) => key(text),
            other => Err(content(format!("invalid {name} type: {}", go_type(other)))),
        };
        let range = KeyRange { start: bound("start_key")?, end: bound("end_key")? };
        if range.is_empty() {
            return Err(content("endKey should be greater than startKey"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// A time in the form of [`rows::UNIX_DATE`].
fn unix_date(at: Wall) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // The format has only parts that every time has.
    at.format(rows::UNIX_DATE).unwrap_or_default()
}

fn rules(request: &Request) -> (Arc<LabelIndex>, Wall) {
    (request.app.cluster.settings().labels.clone(), request.app.now().wall)
}

/// `GET /config/region-label/rules`
pub(super) fn all(request: &Request) -> Answer {
    let (rules, now) = rules(request);
    Ok(Reply::ok(&rules.all().iter().filter_map(|rule| show(rule, now)).collect::<Vec<_>>()))
}

/// `GET /config/region-label/rules/ids`, with the ids in the body; unknown ones are left out.
pub(super) fn by_ids(request: &Request) -> Answer {
    let ids = body::text_list(&request.body)?;
    let (rules, now) = rules(request);
    let found = ids.iter().filter_map(|id| rules.get(id));
    Ok(Reply::ok(&found.filter_map(|rule| show(rule, now)).collect::<Vec<_>>()))
}

/// `GET /config/region-label/rule/{id}`
pub(super) fn one(request: &Request) -> Answer {
    let (rules, now) = rules(request);
    let id = request.param("id");
    let found = rules.get(&id).and_then(|rule| show(rule, now));
    Ok(Reply::ok(&found.ok_or_else(Problem::null)?))
}

/// A rule as it is agreed on: PD's shape, and who set it.
#[derive(Serialize)]
struct RowJson<'a> {
    #[serde(flatten)]
    rule: RuleJson<'a>,
    berth: &'a SetBy,
}

fn row(rule: &RegionLabelRule, by: &SetBy) -> NamedRow {
    // A rule that was just read has labels that hold.
    let json = show(rule, Wall(i64::MIN)).map(|rule| compact(&RowJson { rule, berth: by })).unwrap_or_default();
    NamedRow { id: rule.id.clone(), json }
}

/// Who asks, for the rules that he sets.
fn set_by(request: &Request) -> SetBy {
    SetBy::new(request.caller(), &request.origin().0, request.app.now().wall)
}

/// `POST /config/region-label/rule`
pub(super) async fn set(request: &Request) -> Answer {
    let rule = {
        let parsed = body::parse(&request.body)?;
        read(&Node::root(&parsed), request.app.now().wall)?
    };
    request
        .app
        .propose(Command::PutLabelRules { rules: vec![row(&rule, &set_by(request))], delete: Vec::new() })
        .await?;
    Ok(Reply::ok(&"Update region label rule successfully."))
}

/// `DELETE /config/region-label/rule/{id}`
pub(super) async fn delete(request: &Request) -> Answer {
    let id = request.param("id");
    let (rules, now) = rules(request);
    if rules.get(&id).and_then(|rule| show(rule, now)).is_none() {
        let text = format!("[PD:region:ErrRegionRuleNotFound]region label rule not found for id {id}");
        return Err(Problem::not_found(text));
    }
    request.app.propose(Command::PutLabelRules { rules: Vec::new(), delete: vec![id] }).await?;
    Ok(Reply::text(axum::http::StatusCode::OK, "Delete rule successfully."))
}

/// `PATCH /config/region-label/rules`: sets and deletes in one step.
pub(super) async fn patch(request: &Request) -> Answer {
    let (rules, delete) = {
        let parsed = body::parse(&request.body)?;
        let fields = Node::root(&parsed).fields("LabelRulePatch", "labeler.LabelRulePatch")?;
        let now = request.app.now().wall;
        let sets = match fields.node("sets") {
            Some(list) => {
                list.items("[]*labeler.LabelRule")?.iter().map(|n| read(n, now)).collect::<Result<Vec<_>, _>>()?
            }
            None => Vec::new(),
        };
        let by = set_by(request);
        (sets.iter().map(|rule| row(rule, &by)).collect(), fields.texts("deletes")?)
    };
    request.app.propose(Command::PutLabelRules { rules, delete }).await?;
    Ok(Reply::ok(&"Update region label rules successfully."))
}

fn region_of(request: &Request) -> Result<Arc<Region>, Problem> {
    let id = request.region_param()?;
    request.app.cluster.regions().get(id).ok_or_else(Problem::null)
}

/// `GET /region/id/{id}/labels`
pub(super) fn of_region(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Label {
        key: String,
        value: String,
    }
    let region = region_of(request)?;
    let labels = request.app.cluster.settings().labels.labels(region.range(), request.app.now().wall);
    Ok(Reply::ok(&labels.into_iter().map(|(key, value)| Label { key, value }).collect::<Vec<_>>()))
}

/// `GET /region/id/{id}/label/{key}`: an empty text when there is none.
pub(super) fn of_region_by_key(request: &Request) -> Answer {
    let region = region_of(request)?;
    let settings = request.app.cluster.settings();
    let found = settings.labels.value(region.range(), &request.param("key"), request.app.now().wall);
    Ok(Reply::ok(&found.map(|(value, _)| value).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// 2026-11-22 12:54:16 UTC.
    const NOW: Wall = Wall(1_795_352_056_000_000_000);

    fn rule(text: &str) -> Result<RegionLabelRule, Problem> {
        let parsed = body::parse(text.as_bytes()).unwrap();
        read(&Node::root(&parsed), NOW)
    }

    #[test]
    fn dates_are_those_of_unix() {
        assert_eq!(unix_date(NOW), "Sun Nov 22 12:54:16 UTC 2026");
        assert_eq!(unix_date(Wall(NOW.0 - 20 * 86_400_000_000_000)), "Mon Nov  2 12:54:16 UTC 2026");
    }

    #[test]
    fn a_label_for_a_time_ends() {
        let text = r#"{"id": "deny", "labels": [{"key": "schedule", "value": "deny", "ttl": "2s"}], "rule_type": "key-range", "data": [{"start_key": "74", "end_key": "75"}]}"#;
        let rule = rule(text).unwrap();
        let end = Wall(NOW.0 + 2_000_000_000);
        assert_eq!(rule.labels[0].expires, Some(end));
        assert!(show(&rule, NOW).is_some() && show(&rule, end).is_none());
        let by = SetBy::new("lightning", "10.0.0.9", NOW);
        let kept = row(&rule, &by).json;
        assert_eq!(rows::label_rule(&kept).unwrap(), rule);
        assert_eq!(rows::label_set_by(&kept), Some(by));
    }

    #[test]
    fn wrong_rules_are_refused_in_pd_words() {
        let said = |why: &str| content(why);
        let with = |rest: &str| format!(r#"{{"id": "a", "labels": [{{"key": "a", "value": "b"}}], {rest}}}"#);
        for (text, problem) in [
            (r#"{"id": ""}"#.to_owned(), said("empty rule id")),
            (r#"{"id": "a", "labels": []}"#.to_owned(), said("no region labels")),
            (r#"{"id": "a", "labels": [{"key": "", "value": "b"}]}"#.to_owned(), said("empty region label key")),
            (r#"{"id": "a", "labels": [{"key": "a", "value": ""}]}"#.to_owned(), said("empty region label value")),
            (
                r#"{"id": "a", "labels": [{"key": "a", "value": "b", "ttl": "2x"}]}"#.to_owned(),
                said("region label with invalid ttl info time: unknown unit \"x\" in duration \"2x\""),
            ),
            (with(r#""rule_type": "foo", "data": []"#), said("invalid rule type: foo")),
            (with(r#""rule_type": "key-range", "data": []"#), said("no key ranges")),
            (with(r#""rule_type": "key-range", "data": {}"#), said("invalid rule type: map[string]interface {}")),
            (
                with(r#""rule_type": "key-range", "data": [{"start_key": "zz", "end_key": ""}]"#),
                Problem::bad("[PD:hex:ErrHexDecodingString]decode string zz error"),
            ),
            (
                with(r#""rule_type": "key-range", "data": [{"start_key": "75", "end_key": "74"}]"#),
                said("endKey should be greater than startKey"),
            ),
        ] {
            assert_eq!(rule(&text).unwrap_err(), problem, "{text}");
        }
    }
}
