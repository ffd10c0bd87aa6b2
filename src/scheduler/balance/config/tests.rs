#![allow(clippy::unwrap_used, clippy::expect_used)]
use serde_json::json;

use super::*;

fn fresh(kind: Kind) -> Config {
    Config::read(kind, &[], None).unwrap()
}

fn update(config: &Config, input: Value) -> Result<Updated, ConfigError> {
    let Value::Object(input) = input else { panic!("an object") };
    config.update(&input)
}

#[test]
fn configurations_read_as_pd_shows_them() {
    let all = json!([{"end-key": "", "start-key": ""}]);
    assert_eq!(fresh(Kind::BalanceLeader).show().to_string(), json!({"ranges": all, "batch": 4}).to_string());
    let Updated::To(evict) = update(&fresh(Kind::EvictLeader), json!({"store_id": 3})).unwrap() else {
        panic!("a store more")
    };
    assert_eq!(evict.show(), json!({"store-id-ranges": {"3": all}, "batch": 3}));
    assert_eq!(Config::read(Kind::EvictLeader, &[], Some(&evict.show().to_string())).unwrap(), evict);
    let range = ["a", "b", "t1"].map(str::to_owned);
    assert_eq!(
        Config::read(Kind::ScatterRange, &range, None).unwrap().show(),
        json!({"range-name": "t1", "start-key": "a", "end-key": "b"})
    );
    assert!(Config::read(Kind::ScatterRange, &range[..2], None).is_err());
    assert!(Config::read(Kind::BalanceLeader, &[], Some("[")).is_err());
}

#[test]
fn changes_are_refused_in_pds_words() {
    let leader = fresh(Kind::BalanceLeader);
    assert!(matches!(update(&leader, json!({"batch": 6})), Ok(Updated::To(Config::BalanceLeader(c))) if c.batch == 6));
    assert_eq!(update(&leader, json!({"batch": 4})), Ok(Updated::Same));
    assert_eq!(update(&leader, json!({"foo": 1})), Err(ConfigError::NoItem));
    for bad in [json!({"batch": 101}), json!({"batch": 0}), json!({"batch": "6"}), json!({"batch": -1})] {
        assert_eq!(update(&leader, bad), Err(ConfigError::LeaderBatch));
    }
    let evict = fresh(Kind::EvictLeader);
    for bad in [json!({"batch": 101}), json!({"batch": 1.5}), json!({"batch": "x"})] {
        assert_eq!(update(&evict, bad), Err(ConfigError::EvictBatch));
    }
    assert!(matches!(update(&evict, json!({"ranges": ["a", "b"]})), Err(ConfigError::Wrong(_))));
    assert_eq!(update(&fresh(Kind::EvictStoppingStore), json!({"batch": 11})), Err(ConfigError::OwnBatch));
    assert!(matches!(update(&fresh(Kind::ShuffleRegion), json!({"roles": ["king"]})), Err(ConfigError::Wrong(_))));
}

#[test]
fn a_store_leaves_and_comes_with_its_ranges() {
    let evict = fresh(Kind::EvictLeader);
    let Updated::To(evict) = update(&evict, json!({"store_id": 3, "ranges": ["a", "b", "c", "d"]})).unwrap() else {
        panic!("a store more")
    };
    assert_eq!(evict.show()["store-id-ranges"]["3"][1], json!({"end-key": "64", "start-key": "63"}));
    assert_eq!(update(&evict, json!({"store_id": 3})), Ok(Updated::Same), "ranges stay");
    assert!(evict.without_store(StoreId(4)).is_none());
    assert!(evict.without_store(StoreId(3)).unwrap().stores().unwrap().is_empty());
}
