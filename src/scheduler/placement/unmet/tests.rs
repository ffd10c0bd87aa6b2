#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::{
    model::{LabelOp, Now, StoreLabel},
    store::StoreTable,
};

const DOWN: &str = "store-state-down-filter";
const LABEL: &str = "label-constraint-filter";

fn stores(zones: &[&str]) -> BTreeMap<StoreId, Arc<StoreInfo>> {
    let all = StoreTable::default();
    for (id, zone) in (1..).zip(zones) {
        let labels = vec![StoreLabel { key: "zone".into(), value: (*zone).into() }];
        let record = StoreRecord { id: StoreId(id), labels, ..StoreRecord::default() };
        all.put_record(Arc::new(record), Now::default());
    }
    all.snapshot().as_ref().clone()
}

fn rule(id: &str, count: u32, zones: &[&str], isolation: &str) -> Arc<Rule> {
    let values: Vec<String> = zones.iter().map(|z| (*z).to_owned()).collect();
    let constraint = LabelConstraint { key: "zone".into(), op: LabelOp::In, values };
    Arc::new(Rule {
        group_id: "pd".into(),
        id: id.into(),
        count,
        constraints: if zones.is_empty() { vec![] } else { vec![constraint] },
        location_labels: vec!["zone".into()],
        isolation_level: isolation.into(),
        ..Rule::default()
    })
}

/// Store 9 is down; else labels decide.
fn refuse(store: &StoreInfo, constraints: &[LabelConstraint]) -> Option<&'static str> {
    if store.id() == StoreId(9) {
        return Some(DOWN);
    }
    (!labels::matches(&store.record, constraints)).then_some(LABEL)
}

fn look(rules: &[Arc<Rule>], stores: &BTreeMap<StoreId, Arc<StoreInfo>>) -> Vec<Unmet> {
    unmet([(&KeyRange::all(), rules)].into_iter(), stores, &refuse)
}

#[test]
fn the_words_name_each_store_and_its_filter() {
    let all = stores(&["a", "a", "b", "c", "c", "c", "c", "c", "b"]);
    assert_eq!(look(&[rule("r", 3, &[], "")], &all), []);
    let found = look(&[rule("r", 3, &["a", "b"], ""), rule("s", 3, &["b"], "")], &all);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "rule pd/s asks for 3 peers, the stores can take 1; label-constraint-filter: store 1, 2, 4, 5, 6, 7, 8; \
         store-state-down-filter: store 9"
    );
    assert_eq!(found[0].refused[DOWN], [StoreId(9)]);
    let many = stores(&["z"; 30]);
    let text = look(&[rule("r", 1, &["a"], "")], &many)[0].to_string();
    assert!(
        text.starts_with("rule pd/r asks for 1 peer, the stores can take 0; ") && text.contains("17 and 13 more"),
        "{text}"
    );
}

#[test]
fn the_isolation_level_counts_places() {
    let all = stores(&["a", "a", "b", "b", ""]);
    assert_eq!(look(&[rule("r", 2, &[], "zone")], &all), []);
    let found = look(&[rule("r", 3, &[], "zone")], &all);
    assert_eq!((found[0].can, found[0].refused["isolation-filter"].len()), (2, 5));
    assert_eq!(look(&[rule("r", 3, &[], "host")], &all), [], "a level that is not among the labels forbids nothing");
}

#[test]
fn rules_that_share_stores_are_looked_at_together() {
    let all = stores(&["a", "b", "c"]);
    let found = look(&[rule("r", 2, &[], ""), rule("s", 2, &["a", "b"], "")], &all);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule.id.as_str(), found[0].can), ("s", 1));
    assert_eq!(found[0].refused["exclude-filter"], [StoreId(1), StoreId(2)]);
    assert_eq!(look(&[rule("r", 1, &[], ""), rule("s", 2, &["a", "b"], "")], &all), [], "the first rule makes way");
}

#[test]
fn many_rules_that_differ_in_their_keys_only_are_looked_at_once() {
    let all = stores(&["a", "b", "c"]);
    let asked = std::cell::Cell::new(0);
    let count = |store: &StoreInfo, constraints: &[LabelConstraint]| {
        asked.set(asked.get() + 1);
        refuse(store, constraints)
    };
    let tables: Vec<[Arc<Rule>; 2]> =
        (0..10_000).map(|n| [rule("all", 1, &[], ""), rule(&format!("t{n}"), 3, &["a", "b"], "zone")]).collect();
    let range = KeyRange::all();
    let found = unmet(tables.iter().map(|rules| (&range, &rules[..])), &all, &count);
    assert_eq!((found.len(), asked.get()), (10_000, 6));
}

/// Whether peers for all rules can be placed, by trying everything.
fn can_place(rules: &[Arc<Rule>], all: &BTreeMap<StoreId, Arc<StoreInfo>>, used: &mut Vec<(usize, StoreId)>) -> bool {
    let Some(at) =
        (0..rules.len()).find(|at| used.iter().filter(|(of, _)| of == at).count() < rules[*at].count as usize)
    else {
        return true;
    };
    let rule = &rules[at];
    for store in all.values() {
        let free = used.iter().all(|(_, id)| *id != store.id());
        let beside = used.iter().filter(|(of, _)| *of == at).map(|(_, id)| &*all[id].record);
        let apart = labels::isolated_at(beside, &store.record, &rule.location_labels, &rule.isolation_level);
        if free && apart && refuse(store, &rule.constraints).is_none() {
            used.push((at, store.id()));
            if can_place(rules, all, used) {
                return true;
            }
            used.pop();
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is named cannot be placed; for one rule, and for rules without isolation levels, what cannot be placed is named.
    #[test]
    fn named_exactly_when_no_placement_is_found(
        zones in prop::collection::vec(0..4usize, 1..7),
        asked in prop::collection::vec((1..4u32, prop::collection::btree_set(0..3usize, 0..3), any::<bool>()), 1..4),
    ) {
        let names = ["a", "b", "c", ""];
        let all = stores(&zones.iter().map(|z| names[*z]).collect::<Vec<_>>());
        let rules: Vec<_> = asked.iter().enumerate().map(|(i, (count, zones, apart))| {
            let zones: Vec<&str> = zones.iter().map(|z| names[*z]).collect();
            rule(&i.to_string(), *count, &zones, if *apart { "zone" } else { "" })
        }).collect();
        let found = look(&rules, &all);
        let possible = can_place(&rules, &all, &mut Vec::new());
        prop_assert!(found.is_empty() || !possible, "{found:?}");
        if rules.len() == 1 || asked.iter().all(|(_, _, apart)| !apart) {
            prop_assert_eq!(found.is_empty(), possible);
        }
    }
}
