#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{KeyRange, LabelConstraint, StoreLabel, StoreRecord};

fn stores() -> BTreeMap<StoreId, Arc<StoreInfo>> {
    let labels = vec![StoreLabel { key: "zone".into(), value: "z1".into() }];
    let record = Arc::new(StoreRecord { id: StoreId(1), labels, ..StoreRecord::default() });
    let all = crate::store::StoreTable::default();
    all.put_record(record, crate::model::Now::default());
    all.snapshot().as_ref().clone()
}

fn base() -> Rule {
    Rule { group_id: "x".into(), id: "1".into(), count: 1, ..Rule::default() }
}

fn refused(change: impl FnOnce(&mut Rule)) -> String {
    let mut changed = base();
    change(&mut changed);
    rule(&changed, &stores()).unwrap_err().to_string()
}

#[test]
fn c4_bad_rules_are_refused_with_pds_words() {
    let key = |text: &str| Key::from(hex::decode(text).unwrap());
    let (low, high) = (key("7480000000000000ff1400000000000000f8"), key("7480000000000000ff1e00000000000000f8"));
    let cases = [
        (refused(|r| r.id.clear()), "ID should not be empty"),
        (refused(|r| r.group_id.clear()), "group ID should not be empty"),
        (refused(|r| r.count = 0), "invalid count 0"),
        (
            refused(|r| {
                r.role = RuleRole::Leader;
                r.count = 2;
            }),
            "define multiple leaders by count 2",
        ),
        (
            refused(|r| r.range = KeyRange { start: high.clone(), end: low.clone() }),
            "endKey should be greater than startKey",
        ),
        (
            refused(|r| r.range = KeyRange { start: key("61"), end: key("62") }),
            "start key should be encoded in table mode: insufficient bytes to decode value",
        ),
        (
            refused(|r| {
                r.constraints =
                    vec![LabelConstraint { key: "zone".into(), op: LabelOp::In, values: vec!["z9".into()] }];
            }),
            "rule '1' from rule group 'x' can not match any store",
        ),
        (parse_role("boss").unwrap_err().to_string(), "invalid role boss"),
        (parse_op("like").unwrap_err().to_string(), "invalid op like"),
    ];
    for (got, wanted) in cases {
        assert_eq!(got, format!("[PD:placement:ErrRuleContent]invalid rule content, {wanted}"));
    }
    let mut good = base();
    good.range = KeyRange { start: low, end: high };
    assert!(rule(&good, &stores()).is_ok());
    assert!(rule(&base(), &BTreeMap::new()).is_ok(), "with no store known nothing can be said");
}

#[test]
fn names_go_there_and_back() {
    for role in ["voter", "leader", "follower", "learner"] {
        assert_eq!(role_name(parse_role(role).unwrap()), role);
    }
    for op in ["in", "notIn", "exists", "notExists"] {
        assert_eq!(op_name(parse_op(op).unwrap()), op);
    }
}

#[test]
fn table_keys_are_memcomparable() {
    for (hex_key, good) in [
        ("", true),
        ("7800000000000000FB", true),
        ("7480000000000000FF1E00000000000000F8", true),
        ("7480000000000000FF", false),
        ("7800000000000001FB", false),
        ("780000000000000001", false),
    ] {
        assert_eq!(table_key(&Key::from(hex::decode(hex_key).unwrap())).is_ok(), good, "{hex_key}");
    }
}
