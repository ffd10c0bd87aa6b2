//! `/berth/v1/region-labels`: who set a label rule, when, how long it still holds, and what it holds.
//!
//! Owns: the JSON shape. Must not know: what `schedule=deny` means (`scheduler::checker::deny` tells).

use std::{fmt::Write, time::Duration};

use serde::Serialize;

use super::{Answer, berth::answer, error::Problem, request::Request};
use crate::{
    api::rows::{self, SetBy},
    model::{RegionLabel, RegionLabelRule, Wall},
    scheduler::{
        checker::deny::{self, Scope},
        explain::text::span,
        region_label::holds,
    },
};

/// Rules in one answer, unless `limit` asks for fewer; `next` tells where the following one goes on.
const MAX_LISTED: i64 = 1000;

#[derive(Serialize)]
struct LabelJson<'a> {
    key: &'a str,
    value: &'a str,
    /// Seconds until it ends; absent: it holds until it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// What it keeps from being done, if anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<&'static str>,
}

#[derive(Serialize)]
struct SetByJson {
    component: String,
    ip: String,
    at: String,
}

#[derive(Serialize)]
struct RangeJson {
    start_key: String,
    end_key: String,
}

#[derive(Serialize)]
struct OwnedJson<'a> {
    id: &'a str,
    index: i64,
    labels: Vec<LabelJson<'a>>,
    /// `null`: it came with the cluster, or before Berth kept it.
    set_by: Option<SetByJson>,
    data: Vec<RangeJson>,
}

#[derive(Serialize)]
struct ListJson<'a> {
    /// Rules that are wanted, in all pages.
    count: usize,
    rules: Vec<OwnedJson<'a>>,
    /// The last id listed, when there are more: the next `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// A time as ISO 8601 prints it, UTC, to the second.
pub(super) fn date(at: Wall) -> String {
    const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let at = time::OffsetDateTime::from_unix_timestamp(at.unix_seconds());
    // The format has only parts that every time has.
    at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH).format(FORM).unwrap_or_default()
}

fn label(label: &RegionLabel, now: Wall, scope: Scope) -> LabelJson<'_> {
    LabelJson {
        key: &label.key,
        value: &label.value,
        seconds_left: label.expires.map(|end| end.unix_seconds() - now.unix_seconds()),
        expires_at: label.expires.map(date),
        holds: if deny::is_deny(&label.key, &label.value) { deny::held_by(scope) } else { Vec::new() },
    }
}

fn show<'a>(rule: &'a RegionLabelRule, by: Option<SetBy>, now: Wall, scope: Scope) -> Option<OwnedJson<'a>> {
    let labels: Vec<_> = rule.labels.iter().filter(|l| holds(l, now)).map(|l| label(l, now, scope)).collect();
    (!labels.is_empty()).then(|| OwnedJson {
        id: &rule.id,
        index: rule.index,
        labels,
        set_by: by.map(|by| SetByJson { at: date(by.at()), component: by.component, ip: by.ip }),
        data: rule
            .ranges
            .iter()
            .map(|r| RangeJson { start_key: hex::encode(&*r.start), end_key: hex::encode(&*r.end) })
            .collect(),
    })
}

/// Whether a label of the rule holds now (`deny_only`: one that holds scheduling).
fn is_wanted(rule: &RegionLabelRule, deny_only: bool, now: Wall) -> bool {
    rule.labels.iter().any(|l| holds(l, now) && (!deny_only || deny::is_deny(&l.key, &l.value)))
}

/// `GET /berth/v1/region-labels`, with `after` (an id), `limit`, and `deny=true` for those only that hold scheduling.
pub(super) fn list(request: &Request) -> Answer {
    let limit = request.query.int("limit", MAX_LISTED)?;
    let limit = usize::try_from(limit.clamp(1, MAX_LISTED)).map_err(|_| Problem::bad("limit"))?;
    let (after, deny_only) = (request.query.text("after"), request.query.text("deny") == "true");
    let (settings, state, now) = (request.app.cluster.settings(), request.app.meta.state(), request.app.now().wall);
    let scope = settings.berth.region_label_deny_scope;
    let is_wanted = |rule: &RegionLabelRule| is_wanted(rule, deny_only, now);
    let count = settings.labels.from("").filter(|rule| is_wanted(rule)).count();
    let mut rules = settings.labels.from(&after).filter(|rule| rule.id != after && is_wanted(rule));
    let by = |id: &str| state.label_rules.get(id).and_then(|json| rows::label_set_by(json));
    let shown: Vec<_> = rules.by_ref().filter_map(|rule| show(rule, by(&rule.id), now, scope)).take(limit).collect();
    let next = shown.last().map(|rule| rule.id).filter(|_| rules.next().is_some());
    let list = ListJson { count, rules: shown, next };
    answer(request, || text(&list), || &list)
}

/// A line for each rule, and one for each of its labels.
fn text(list: &ListJson<'_>) -> String {
    let mut out = format!("{} region label {}\n", list.count, if list.count == 1 { "rule" } else { "rules" });
    for rule in &list.rules {
        let by = rule.set_by.as_ref();
        let by = by.map(|by| format!("set by {} from {} at {}", by.component, by.ip, by.at));
        let by = by.unwrap_or_else(|| "nobody knows who set it".to_owned());
        let ranges = match rule.data.as_slice() {
            [one] => format!("keys {} to {}", or(&one.start_key, "from the first"), or(&one.end_key, "the last")),
            many => format!("{} ranges", many.len()),
        };
        _ = writeln!(out, "  {} (index {}): {ranges}; {by}", rule.id, rule.index);
        for label in &rule.labels {
            let seconds = label.seconds_left.map(|left| u64::try_from(left).unwrap_or(0));
            let ends = seconds.map_or_else(
                || "holds until it is deleted".to_owned(),
                |seconds| format!("ends in {}", span(Duration::from_secs(seconds))),
            );
            let held =
                if label.holds.is_empty() { String::new() } else { format!("; keeps from {}", label.holds.join(", ")) };
            _ = writeln!(out, "    {}={}: {ends}{held}", label.key, label.value);
        }
    }
    if let Some(next) = list.next {
        _ = writeln!(out, "  more: ?after={next}");
    }
    out
}

fn or(key: &str, word: &str) -> String {
    if key.is_empty() { word.to_owned() } else { key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_tells_who_set_it_and_how_long_it_holds() {
        // 2026-11-22 12:54:16 UTC.
        let now = Wall(1_795_352_056_000_000_000);
        let label = |key: &str, value: &str, expires| RegionLabel {
            key: key.into(),
            value: value.into(),
            expires,
            ..RegionLabel::default()
        };
        let ends = Some(Wall(now.0 + 90_000_000_000));
        let gone = Some(now);
        let labels = vec![label("schedule", "deny", ends), label("merge_option", "deny", None), label("x", "y", gone)];
        let rule = RegionLabelRule { id: "keep-still".into(), labels, ..RegionLabelRule::default() };
        let by = SetBy::new("lightning", "10.0.0.9", now);
        let shown = show(&rule, Some(by), now, Scope::Balance);
        assert_eq!(
            super::super::render::compact(&shown),
            r#"{"id":"keep-still","index":0,"labels":[{"key":"schedule","value":"deny","seconds_left":90,"expires_at":"2026-11-22T12:55:46Z","holds":["balance","merge","scatter"]},{"key":"merge_option","value":"deny"}],"set_by":{"component":"lightning","ip":"10.0.0.9","at":"2026-11-22T12:54:16Z"},"data":[]}"#
        );
        let list = ListJson { count: 2, rules: shown.into_iter().collect(), next: Some("keep-still") };
        assert_eq!(
            text(&list),
            "2 region label rules\n  keep-still (index 0): 0 ranges; set by lightning from 10.0.0.9 at 2026-11-22T12:54:16Z\n    \
             schedule=deny: ends in 1m 30s; keeps from balance, merge, scatter\n    merge_option=deny: holds until it is \
             deleted\n  more: ?after=keep-still\n"
        );
        assert!(show(&RegionLabelRule::default(), None, now, Scope::All).is_none());
        let other = RegionLabelRule { labels: rule.labels[1..].to_vec(), ..rule.clone() };
        assert!(is_wanted(&rule, true, now) && is_wanted(&other, false, now) && !is_wanted(&other, true, now));
        let ended = Wall(now.0 + 90_000_000_000);
        assert!(!is_wanted(&rule, true, ended), "its deny label has ended");
    }
}
