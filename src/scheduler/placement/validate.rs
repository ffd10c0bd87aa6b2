//! What makes a rule wrong, in PD's words.
//!
//! Owns: the texts and the order of the tests. Must not know: how rules come in (hex and JSON are the way in's matter).

use std::{collections::BTreeMap, sync::Arc};

use super::{RuleError, labels};
use crate::{
    model::{Key, LabelOp, Rule, RuleRole, StoreId, StoreState},
    store::StoreInfo,
};

/// The most peers that one rule may ask for. PD has no bound; more replicas than this is a slip of the hand, and the time that
/// a fit takes grows with them.
pub const MAX_COUNT: u32 = 20;

/// Length of one group of memcomparable bytes with its marker.
const ENCODED_GROUP: usize = 9;
/// The marker of a group that is followed by another.
const FULL_GROUP: u8 = 0xFF;

/// The role of this name.
pub fn parse_role(text: &str) -> Result<RuleRole, RuleError> {
    Ok(match text {
        "voter" => RuleRole::Voter,
        "leader" => RuleRole::Leader,
        "follower" => RuleRole::Follower,
        "learner" => RuleRole::Learner,
        other => return Err(RuleError::Content(format!("invalid role {other}"))),
    })
}

/// The name of a role.
pub fn role_name(role: RuleRole) -> &'static str {
    match role {
        RuleRole::Voter => "voter",
        RuleRole::Leader => "leader",
        RuleRole::Follower => "follower",
        RuleRole::Learner => "learner",
    }
}

/// The comparison of this name.
pub fn parse_op(text: &str) -> Result<LabelOp, RuleError> {
    Ok(match text {
        "in" => LabelOp::In,
        "notIn" => LabelOp::NotIn,
        "exists" => LabelOp::Exists,
        "notExists" => LabelOp::NotExists,
        other => return Err(RuleError::Content(format!("invalid op {other}"))),
    })
}

/// The name of a comparison.
pub fn op_name(op: LabelOp) -> &'static str {
    match op {
        LabelOp::In => "in",
        LabelOp::NotIn => "notIn",
        LabelOp::Exists => "exists",
        LabelOp::NotExists => "notExists",
    }
}

/// Tests one rule in PD's order. `stores` are those known now: with none known a rule cannot fail to match.
pub fn rule(rule: &Rule, stores: &BTreeMap<StoreId, Arc<StoreInfo>>) -> Result<(), RuleError> {
    let refuse = |text: String| Err(RuleError::Content(text));
    if !rule.range.end.is_empty() && *rule.range.end <= *rule.range.start {
        return refuse("endKey should be greater than startKey".into());
    }
    for (name, key) in [("start", &rule.range.start), ("end", &rule.range.end)] {
        if let Err(why) = table_key(key) {
            return refuse(format!("{name} key should be encoded in table mode: {why}"));
        }
    }
    if rule.group_id.is_empty() {
        return refuse("group ID should not be empty".into());
    }
    if rule.id.is_empty() {
        return refuse("ID should not be empty".into());
    }
    if rule.count == 0 || rule.count > MAX_COUNT {
        return refuse(format!("invalid count {}", rule.count));
    }
    if rule.role == RuleRole::Leader && rule.count > 1 {
        return refuse(format!("define multiple leaders by count {}", rule.count));
    }
    let mut live = stores.values().filter(|s| s.record.state != StoreState::Tombstone).peekable();
    if live.peek().is_some() && !live.any(|s| labels::matches(&s.record, &rule.constraints)) {
        return refuse(format!("rule '{}' from rule group '{}' can not match any store", rule.id, rule.group_id));
    }
    Ok(())
}

/// What is wrong with rules that apply to the same keys, if anything.
pub(super) fn wrong_together(rules: &[Arc<Rule>]) -> Option<&'static str> {
    let count = |role| rules.iter().filter(|r| r.role == role).map(|r| u64::from(r.count)).sum::<u64>();
    let (leaders, voters) = (count(RuleRole::Leader), count(RuleRole::Voter));
    if leaders > 1 {
        return Some("multiple leader replicas");
    }
    (leaders + voters == 0).then_some("needs at least one leader or voter")
}

/// Tests that a bound is memcomparable: groups of eight bytes, each with a marker that tells how many of them are padding.
fn table_key(key: &Key) -> Result<(), String> {
    let mut rest = key.as_bytes();
    if rest.is_empty() {
        return Ok(());
    }
    loop {
        let Some((group, after)) = rest.split_at_checked(ENCODED_GROUP) else {
            return Err("insufficient bytes to decode value".into());
        };
        let (bytes, marker) = (&group[..ENCODED_GROUP - 1], group[ENCODED_GROUP - 1]);
        let padding = usize::from(FULL_GROUP - marker);
        if padding > bytes.len() {
            return Err(format!("invalid marker byte, group bytes {}", bytes_text(group)));
        }
        if bytes[bytes.len() - padding..].iter().any(|b| *b != 0) {
            return Err(format!("invalid padding byte, group bytes {}", bytes_text(group)));
        }
        if marker != FULL_GROUP {
            return Ok(());
        }
        rest = after;
    }
}

/// Bytes as Go's `%q` prints a slice of them is not worth having; decimal in brackets says as much.
fn bytes_text(bytes: &[u8]) -> String {
    format!("{bytes:?}").replace(',', "")
}

#[cfg(test)]
mod tests;
