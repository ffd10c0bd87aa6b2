//! What a fresh cluster begins with beside its store and region: keyspace 0, its label rule, the default placement rule.
//!
//! Owns: the rows in the form that `meta` keeps (JSON texts). Must not know: how they are matched.

use serde_json::json;

use crate::{
    config::ReplicationConfig,
    meta::{NamedRow, RuleRow},
    model::Wall,
};

/// Id of the keyspace that always exists.
pub(crate) const DEFAULT_ID: u32 = 0;
/// Its name.
const DEFAULT_NAME: &str = "DEFAULT";
/// Mode byte before the three id bytes of keys written through transactions.
const TXN_MODE: u8 = b'x';
/// Bytes in one group of a memory-comparable key.
const GROUP: usize = 8;

/// A key as nodes encode it: groups of eight bytes, each followed by 0xFF less the number of padding bytes.
fn encode_key(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity((raw.len() / GROUP + 1) * (GROUP + 1));
    for group in raw.chunks(GROUP) {
        out.extend_from_slice(group);
        let padding = GROUP - group.len();
        out.resize(out.len() + padding, 0);
        out.push(0xFF - u8::try_from(padding).unwrap_or(0));
    }
    if raw.len().is_multiple_of(GROUP) {
        out.extend_from_slice(&[0; GROUP]);
        out.push(0xFF - 8);
    }
    out
}

/// The first key of a keyspace: the mode byte and the lower three bytes of its id.
fn bound(id: u32) -> String {
    let [_, a, b, c] = id.to_be_bytes();
    hex::encode(encode_key(&[TXN_MODE, a, b, c]))
}

/// The region label rule that keeps a keyspace in regions of its own.
pub(crate) fn label_rule(id: u32) -> NamedRow {
    let name = format!("keyspaces/{id}");
    let rule = json!({
        "id": name,
        "index": 0,
        "labels": [{ "key": "id", "value": id.to_string() }],
        "rule_type": "key-range",
        "data": [{ "start_key": bound(id), "end_key": bound(id.saturating_add(1)) }],
    });
    NamedRow { id: name, json: rule.to_string() }
}

/// The record of keyspace 0, made at `now`.
pub(crate) fn default_record(now: Wall) -> NamedRow {
    let at = now.unix_seconds();
    let record = json!({
        "id": DEFAULT_ID,
        "name": DEFAULT_NAME,
        "created_at": at,
        "state_changed_at": at,
        "config": { "region_bound_type": "txn" },
    });
    NamedRow { id: DEFAULT_ID.to_string(), json: record.to_string() }
}

/// Keyspace 0 and its label rule, which every cluster has.
pub fn keyspace_zero(now: Wall) -> (Vec<NamedRow>, Vec<NamedRow>) {
    (vec![label_rule(DEFAULT_ID)], vec![default_record(now)])
}

/// The rule that `replication` stands for: `max-replicas` voters over all keys.
pub(crate) fn default_rules(replication: &ReplicationConfig) -> Vec<RuleRow> {
    let mut rule = json!({
        "group_id": "pd",
        "id": "default",
        "start_key": "",
        "end_key": "",
        "role": "voter",
        "is_witness": false,
        "count": replication.max_replicas,
    });
    if let Some(rule) = rule.as_object_mut() {
        if !replication.location_labels.is_empty() {
            rule.insert("location_labels".into(), replication.location_labels.clone().into());
        }
        if !replication.isolation_level.is_empty() {
            rule.insert("isolation_level".into(), replication.isolation_level.clone().into());
        }
    }
    vec![RuleRow { group: "pd".into(), id: "default".into(), json: rule.to_string() }]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn keyspace_0_spans_the_recorded_keys() {
        assert_eq!(bound(0), "7800000000000000fb");
        assert_eq!(bound(1), "7800000100000000fb");
        assert_eq!(bound(0x00ff_ffff), "78ffffff00000000fb");
    }

    #[test]
    fn a_full_group_is_followed_by_an_empty_one() {
        assert_eq!(hex::encode(encode_key(b"12345678")), "3132333435363738ff0000000000000000f7");
        assert_eq!(hex::encode(encode_key(b"")), "0000000000000000f7");
    }
}
