//! The rules, groups and label rules that `meta` keeps as JSON texts, read back into the model. The texts are those that the REST
//! routes took in, in PD's form.
//!
//! Owns: that reading. Must not know: who wrote the rows, what rules mean.

use serde::{Deserialize, Serialize};

use crate::{
    config::{GoDuration, TtlItems},
    meta::State,
    model::{KeyRange, LabelConstraint, LabelOp, RegionLabel, RegionLabelRule, Rule, RuleGroup, RuleRole, Wall},
};

/// A time as `date` prints it, UTC: `Sun Nov 22 12:54:16 UTC 2026`. Labels that end keep their beginning so.
pub const UNIX_DATE: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] UTC [year]"
);

/// A kept row that cannot be read: written by a newer version, or damaged.
#[derive(Debug, thiserror::Error)]
#[error("row {id} cannot be read: {why}")]
pub struct RowError {
    id: String,
    why: String,
}

#[derive(Deserialize)]
struct ConstraintRow {
    key: String,
    op: String,
    #[serde(default)]
    values: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(default)]
struct RuleRow {
    group_id: String,
    id: String,
    index: i64,
    #[serde(rename = "override")]
    override_: bool,
    start_key: String,
    end_key: String,
    role: String,
    is_witness: bool,
    count: u32,
    label_constraints: Option<Vec<ConstraintRow>>,
    location_labels: Option<Vec<String>>,
    isolation_level: String,
    version: u64,
    create_timestamp: u64,
}

impl Default for RuleRow {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            id: String::new(),
            index: 0,
            override_: false,
            start_key: String::new(),
            end_key: String::new(),
            role: "voter".into(),
            is_witness: false,
            count: 0,
            label_constraints: None,
            location_labels: None,
            isolation_level: String::new(),
            version: 0,
            create_timestamp: 0,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupRow {
    id: String,
    index: i64,
    #[serde(rename = "override")]
    override_: bool,
}

#[derive(Deserialize)]
struct RangeRow {
    start_key: String,
    end_key: String,
}

#[derive(Deserialize)]
struct LabelRow {
    id: String,
    #[serde(default)]
    index: i64,
    labels: Vec<RegionLabel>,
    #[serde(default)]
    data: Vec<RangeRow>,
}

fn read<'a, T: Deserialize<'a>>(id: &str, json: &'a str) -> Result<T, RowError> {
    serde_json::from_str(json).map_err(|e| RowError { id: id.to_owned(), why: e.to_string() })
}

fn range(id: &str, start: &str, end: &str) -> Result<KeyRange, RowError> {
    let key = |text: &str| hex::decode(text).map_err(|e| RowError { id: id.to_owned(), why: e.to_string() });
    Ok(KeyRange::new(key(start)?, key(end)?))
}

/// The configuration values that hold for a time.
pub fn ttl_items(state: &State) -> TtlItems {
    state.ttl_config.iter().map(|(key, item)| (key.clone(), item.value.clone(), item.expires)).collect()
}

/// A placement rule.
pub fn rule(json: &str) -> Result<Rule, RowError> {
    let row: RuleRow = read("rule", json)?;
    let unknown = |what: &str, word: &str| RowError { id: row.id.clone(), why: format!("unknown {what} {word}") };
    let role = match row.role.as_str() {
        "voter" => RuleRole::Voter,
        "leader" => RuleRole::Leader,
        "follower" => RuleRole::Follower,
        "learner" => RuleRole::Learner,
        other => return Err(unknown("role", other)),
    };
    let constraints = row.label_constraints.iter().flatten().map(|c| {
        let op = match c.op.as_str() {
            "in" => LabelOp::In,
            "notIn" => LabelOp::NotIn,
            "exists" => LabelOp::Exists,
            "notExists" => LabelOp::NotExists,
            other => return Err(unknown("op", other)),
        };
        Ok(LabelConstraint { key: c.key.clone(), op, values: c.values.clone().unwrap_or_default() })
    });
    Ok(Rule {
        constraints: constraints.collect::<Result<_, _>>()?,
        range: range(&row.id, &row.start_key, &row.end_key)?,
        role,
        group_id: row.group_id,
        id: row.id,
        index: row.index,
        override_: row.override_,
        is_witness: row.is_witness,
        count: row.count,
        location_labels: row.location_labels.unwrap_or_default(),
        isolation_level: row.isolation_level,
        version: row.version,
        create_timestamp: row.create_timestamp,
    })
}

/// A rule group.
pub fn rule_group(json: &str) -> Result<RuleGroup, RowError> {
    let row: GroupRow = read("rule group", json)?;
    Ok(RuleGroup { id: row.id, index: row.index, override_: row.override_ })
}

/// Who set a label rule, and when: kept in its row beside PD's fields, which no route of PD's shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetBy {
    /// What calls itself so (header `X-Caller-ID` or `component`).
    pub component: String,
    /// Where from.
    pub ip: String,
    /// Unix milliseconds.
    at_ms: i64,
}

/// Longest name of a component or an address that is kept: headers can be long.
const MAX_NAME: usize = 128;

impl SetBy {
    /// Who asked `at` that time.
    pub fn new(component: &str, ip: &str, at: Wall) -> Self {
        let short = |text: &str| text.chars().take(MAX_NAME).collect();
        Self { component: short(component), ip: short(ip), at_ms: at.unix_millis() }
    }

    /// When.
    pub fn at(&self) -> Wall {
        Wall(self.at_ms.saturating_mul(1_000_000))
    }
}

/// Who set a label rule; `None` for those that came with the cluster.
pub fn label_set_by(json: &str) -> Option<SetBy> {
    #[derive(Deserialize)]
    struct Row {
        berth: SetBy,
    }
    read::<Row>("label rule", json).ok().map(|row| row.berth)
}

/// The row of a label rule without the labels that have ended by `now`; `None` when none is left.
pub fn label_rule_left(json: &str, now: Wall) -> Result<Option<String>, RowError> {
    let mut row: serde_json::Map<String, serde_json::Value> = read("label rule", json)?;
    let known = label_rule(json)?;
    let Some(serde_json::Value::Array(labels)) = row.get_mut("labels") else { return Ok(None) };
    let mut holds = known.labels.iter().map(|label| label.expires.is_none_or(|end| now < end));
    labels.retain(|_| holds.next().unwrap_or(true));
    Ok((!labels.is_empty()).then(|| serde_json::Value::Object(row).to_string()))
}

/// A region label rule, with the end of each label worked out.
pub fn label_rule(json: &str) -> Result<RegionLabelRule, RowError> {
    let row: LabelRow = read("label rule", json)?;
    let ranges = row.data.iter().map(|r| range(&row.id, &r.start_key, &r.end_key)).collect::<Result<_, _>>()?;
    let mut labels = row.labels;
    for label in labels.iter_mut().filter(|l| !l.ttl.is_empty()) {
        label.expires = expiry(&label.ttl, &label.start_at);
    }
    Ok(RegionLabelRule { id: row.id, index: row.index, labels, ranges })
}

/// When a label with this `ttl` (a Go duration) that began at `start_at` (`Sun Nov 22 12:54:16 UTC 2026`) ends. A text that cannot
/// be read ends the label at once: it was refused when it came in, and a label must not hold for ever by mistake.
pub fn expiry(ttl: &str, start_at: &str) -> Option<Wall> {
    let start = time::PrimitiveDateTime::parse(start_at, UNIX_DATE).ok().map(|t| t.assume_utc().unix_timestamp_nanos());
    let span = ttl.parse::<GoDuration>().ok().map(|d| i128::from(d.0));
    let end = start.zip(span).map_or(0, |(start, span)| start.saturating_add(span));
    Some(Wall(i64::try_from(end).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kept_rows_come_back() {
        let rule = rule(
            r#"{"group_id":"g","id":"r","start_key":"61","end_key":"62","role":"learner","count":2,
                "label_constraints":[{"key":"zone","op":"notIn","values":["z1"]}],"location_labels":["zone"]}"#,
        )
        .unwrap();
        assert_eq!((rule.role, rule.count, rule.range), (RuleRole::Learner, 2, KeyRange::new(&b"a"[..], &b"b"[..])));
        assert_eq!(rule.constraints[0].op, LabelOp::NotIn);
        assert!(super::rule(r#"{"id":"r","role":"x"}"#).is_err());
    }

    #[test]
    fn a_label_ends_when_its_time_is_over() {
        assert_eq!(expiry("2s", "Sun Nov 22 12:54:16 UTC 2026"), Some(Wall(1_795_352_058_000_000_000)));
        assert_eq!(expiry("2s", "never"), Some(Wall(0)));
        let rule = label_rule(
            r#"{"id":"a","labels":[{"key":"schedule","value":"deny"}],"data":[{"start_key":"","end_key":"62"}]}"#,
        );
        assert_eq!(rule.unwrap().labels[0].expires, None);
    }

    #[test]
    fn ended_labels_are_taken_out_of_a_row() {
        let row = r#"{"id":"a","index":2,"labels":[{"key":"schedule","value":"deny","ttl":"2s","start_at":"Sun Nov 22 12:54:16 UTC 2026"},{"key":"x","value":"y"}],"rule_type":"key-range","data":[{"start_key":"","end_key":"62"}],"berth":{"component":"tool","ip":"10.0.0.9","at_ms":7}}"#;
        let end = Wall(1_795_352_058_000_000_000);
        assert_eq!(label_rule_left(row, Wall(end.0 - 1)).unwrap().as_deref(), Some(row));
        let left = label_rule_left(row, end).unwrap().unwrap();
        assert_eq!(
            left,
            row.replace(
                r#"{"key":"schedule","value":"deny","ttl":"2s","start_at":"Sun Nov 22 12:54:16 UTC 2026"},"#,
                ""
            )
        );
        assert_eq!(label_set_by(&left), Some(SetBy::new("tool", "10.0.0.9", Wall(7_000_000))));
        assert_eq!(label_rule_left(&row.replace(r#",{"key":"x","value":"y"}"#, ""), end).unwrap(), None);
        assert_eq!(SetBy::new(&"é".repeat(1000), "", end).component.chars().count(), MAX_NAME);
        assert!(label_set_by(r#"{"id":"a","labels":[]}"#).is_none());
    }
}
