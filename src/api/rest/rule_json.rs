//! Placement rules and their groups in PD's JSON, and back.
//!
//! Owns: the JSON shape. Must not know: whether a rule is allowed (`scheduler::placement`), routes.

use serde::Serialize;

use super::{
    body::{Fields, Node},
    error::Problem,
    go,
};
use crate::{
    model::{Key, KeyRange, LabelConstraint, Rule, RuleGroup},
    scheduler::placement::{RuleError, validate},
};

#[derive(Serialize)]
struct ConstraintJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    values: &'a [String],
}

/// A rule in PD's key order; what is zero does not show.
#[derive(Serialize)]
pub(super) struct RuleJson<'a> {
    group_id: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    index: i64,
    #[serde(rename = "override", skip_serializing_if = "is_false")]
    override_: bool,
    start_key: String,
    end_key: String,
    role: &'static str,
    is_witness: bool,
    count: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    label_constraints: Vec<ConstraintJson<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    location_labels: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    isolation_level: &'a str,
    #[serde(skip_serializing_if = "is_zero_u64")]
    version: u64,
    #[serde(skip_serializing_if = "is_zero_u64")]
    create_timestamp: u64,
}

/// A group in PD's key order.
#[derive(Serialize)]
pub(super) struct GroupJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    index: i64,
    #[serde(rename = "override", skip_serializing_if = "is_false")]
    override_: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl<'a> From<&'a Rule> for RuleJson<'a> {
    fn from(rule: &'a Rule) -> Self {
        let constraint =
            |c: &'a LabelConstraint| ConstraintJson { key: &c.key, op: validate::op_name(c.op), values: &c.values };
        Self {
            group_id: &rule.group_id,
            id: &rule.id,
            index: rule.index,
            override_: rule.override_,
            start_key: hex::encode(&*rule.range.start),
            end_key: hex::encode(&*rule.range.end),
            role: validate::role_name(rule.role),
            is_witness: rule.is_witness,
            count: rule.count,
            label_constraints: rule.constraints.iter().map(constraint).collect(),
            location_labels: &rule.location_labels,
            isolation_level: &rule.isolation_level,
            version: rule.version,
            create_timestamp: rule.create_timestamp,
        }
    }
}

impl<'a> From<&'a RuleGroup> for GroupJson<'a> {
    fn from(group: &'a RuleGroup) -> Self {
        Self { id: &group.id, index: group.index, override_: group.override_ }
    }
}

/// A bound of a range as bodies give it.
pub(super) fn key(text: &str) -> Result<Key, Problem> {
    let bytes = go::decode_hex(text.as_bytes());
    bytes.map(Key::from).map_err(|_| Problem::bad(format!("[PD:hex:ErrHexDecodingString]decode string {text} error")))
}

impl From<RuleError> for Problem {
    fn from(error: RuleError) -> Self {
        match &error {
            RuleError::Content(_) => Self::bad(error.to_string()),
            RuleError::BuildList(_) => Self::failed(error.to_string()),
        }
    }
}

/// A number that does not fit becomes the text that PD has for a wrong count.
fn count(number: i64) -> Result<u32, Problem> {
    u32::try_from(number).map_err(|_| RuleError::Content(format!("invalid count {number}")).into())
}

/// A rule as a body gives it, its values not looked at further than needed to read them.
pub(super) fn rule(fields: &Fields<'_>) -> Result<Rule, Problem> {
    rule_in_group(fields, "")
}

/// The same for a rule that need not name its group.
pub(super) fn rule_in_group(fields: &Fields<'_>, group: &str) -> Result<Rule, Problem> {
    let mut constraints = Vec::new();
    if let Some(node) = fields.node("label_constraints") {
        for item in node.items("[]placement.LabelConstraint")? {
            let fields = item.fields("LabelConstraint", "placement.LabelConstraint")?;
            constraints.push(LabelConstraint {
                key: fields.text("key")?,
                op: validate::parse_op(&fields.text("op")?)?,
                values: fields.texts("values")?,
            });
        }
    }
    let (start, end) = (fields.text("start_key")?, fields.text("end_key")?);
    let role = fields.text("role")?;
    let number = fields.int("count")?;
    let rule = Rule {
        group_id: Some(fields.text("group_id")?).filter(|id| !id.is_empty()).unwrap_or_else(|| group.to_owned()),
        id: fields.text("id")?,
        index: fields.int("index")?,
        override_: fields.flag("override")?,
        range: KeyRange { start: key(&start)?, end: key(&end)? },
        is_witness: fields.flag("is_witness")?,
        constraints,
        location_labels: fields.texts("location_labels")?,
        isolation_level: fields.text("isolation_level")?,
        ..Rule::default()
    };
    // PD tests ids before roles and counts.
    if rule.group_id.is_empty() {
        return Err(RuleError::Content("group ID should not be empty".into()).into());
    }
    if rule.id.is_empty() {
        return Err(RuleError::Content("ID should not be empty".into()).into());
    }
    Ok(Rule { role: validate::parse_role(&role)?, count: count(number)?, ..rule })
}

/// A rule group as a body gives it.
pub(super) fn group(node: &Node<'_>) -> Result<RuleGroup, Problem> {
    let fields = node.fields("RuleGroup", "placement.RuleGroup")?;
    Ok(RuleGroup { id: fields.text("id")?, index: fields.int("index")?, override_: fields.flag("override")? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::{
        super::{body, render::compact},
        *,
    };

    const FULL: &str = r#"{"group_id":"tiflash","id":"table-30","index":120,"override":true,"start_key":"7480","end_key":"74ff","role":"learner","is_witness":false,"count":1,"label_constraints":[{"key":"engine","op":"in","values":["tiflash"]}],"location_labels":["zone"],"isolation_level":"zone"}"#;

    fn read(text: &str) -> Result<Rule, Problem> {
        let parsed = body::parse(text.as_bytes()).unwrap();
        rule(&Node::root(&parsed).fields("Rule", "placement.Rule")?)
    }

    #[test]
    fn a_rule_comes_back_as_it_was_given() {
        let rule = read(FULL).unwrap();
        assert_eq!(compact(&RuleJson::from(&rule)), FULL);
        let short = r#"{"group_id":"pd","id":"default","start_key":"","end_key":"","role":"voter","is_witness":false,"count":3}"#;
        assert_eq!(compact(&RuleJson::from(&read(short).unwrap())), short);
    }

    #[test]
    fn unreadable_rules_are_refused_in_pd_words() {
        for (text, said) in [
            (
                r#"{"group_id": "x", "id": "1", "role": "boss", "count": 1}"#,
                "[PD:placement:ErrRuleContent]invalid rule content, invalid role boss",
            ),
            (
                r#"{"group_id": "x", "id": "", "role": "voter"}"#,
                "[PD:placement:ErrRuleContent]invalid rule content, ID should not be empty",
            ),
            (
                r#"{"group_id": "x", "id": "1", "role": "voter", "start_key": "zz"}"#,
                "[PD:hex:ErrHexDecodingString]decode string zz error",
            ),
            (
                r#"{"group_id": "x", "id": "1", "role": "voter", "count": -1}"#,
                "[PD:placement:ErrRuleContent]invalid rule content, invalid count -1",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), Problem::bad(said), "{text}");
        }
    }
}
