#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn rule(id: &str, index: i64, value: &str, expires: Option<i64>, ranges: &[(&str, &str)]) -> Arc<RegionLabelRule> {
    let label = RegionLabel {
        key: "schedule".into(),
        value: value.into(),
        expires: expires.map(Wall),
        ..RegionLabel::default()
    };
    let ranges = ranges.iter().map(|(s, e)| range(s, e)).collect();
    Arc::new(RegionLabelRule { id: id.into(), index, labels: vec![label], ranges })
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::new(start.as_bytes(), end.as_bytes())
}

#[test]
fn the_highest_index_wins_until_it_expires() {
    let index = LabelIndex::new(vec![
        rule("low", 1, "allow", None, &[("", "")]),
        rule("high", 5, "deny", Some(100), &[("b", "d"), ("x", "y")]),
    ]);
    let value = |r: &KeyRange, now| index.value(r, "schedule", Wall(now)).map(|(v, rule)| (v, rule.id.clone()));
    assert_eq!(value(&range("b", "c"), 99), Some(("deny".into(), "high".into())));
    assert_eq!(value(&range("x", "y"), 99), Some(("deny".into(), "high".into())));
    assert_eq!(value(&range("b", "c"), 100), Some(("allow".into(), "low".into())));
    assert_eq!(value(&range("a", "b"), 0), Some(("allow".into(), "low".into())));
    assert_eq!(value(&range("a", "c"), 0), None, "a label holds only for ranges that it covers whole");
    assert_eq!(index.value(&range("a", "b"), "other", Wall(0)).map(|(v, _)| v), None);
    assert_eq!(index.labels(&range("b", "c"), Wall(0)), [("schedule".to_owned(), "deny".to_owned())]);
}

#[test]
fn of_equal_indexes_the_lowest_id_wins_and_no_rules_give_no_labels() {
    let index = LabelIndex::new(vec![rule("b", 0, "2", None, &[("", "")]), rule("a", 0, "1", None, &[("", "")])]);
    assert_eq!(index.value(&KeyRange::all(), "schedule", Wall(0)).map(|(v, _)| v), Some("1".into()));
    assert_eq!(index.all().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let none = LabelIndex::default();
    assert!(
        none.value(&KeyRange::all(), "schedule", Wall(0)).is_none()
            && none.labels(&KeyRange::all(), Wall(0)).is_empty()
    );
}

#[test]
fn o7_a_label_holds_throughout_where_each_key_has_it() {
    let told = |index: &LabelIndex, start: &str, end: &str| {
        let found = index.throughout(&range(start, end), "schedule", Wall(0), |value| value == "deny");
        found.map(|(label, rule)| (rule.id.clone(), label.expires))
    };
    let whole = rule("whole", 0, "deny", None, &[("b", "h")]);
    let within = rule("within", 1, "deny", Some(50), &[("c", "d")]);
    let index = LabelIndex::new(vec![Arc::clone(&whole), within]);
    assert_eq!(index.value(&range("b", "e"), "schedule", Wall(0)), None, "PD's answer where a border lies inside");
    assert_eq!(told(&index, "b", "e"), Some(("within".into(), Some(Wall(50)))), "the label that ends first");
    assert_eq!(told(&index, "d", "h"), Some(("whole".into(), None)));
    assert_eq!((told(&index, "a", "e"), told(&index, "g", "i"), told(&index, "", "")), (None, None, None));
    assert_eq!(told(&LabelIndex::default(), "a", "b"), None);
    // Of two values at one key the one of the higher index counts.
    let allowed = LabelIndex::new(vec![whole, rule("free", 1, "allow", None, &[("c", "d")])]);
    assert_eq!((told(&allowed, "b", "e"), told(&allowed, "c", "d")), (None, None));
    assert_eq!(told(&allowed, "d", "e"), Some(("whole".into(), None)));
    // Two rules that meet, and a range that is cut too often to be looked through.
    let key = |n: usize| format!("{n:05}");
    let rows = |n: usize| (0..n).map(|n| rule(&format!("r{n}"), 0, "deny", None, &[(&key(n), &key(n + 1))])).collect();
    let (few, many) = (LabelIndex::new(rows(MOST_PARTS)), LabelIndex::new(rows(MOST_PARTS + 1)));
    assert_eq!(told(&few, &key(0), &key(MOST_PARTS)), Some(("r0".into(), None)));
    assert_eq!(told(&many, &key(0), &key(MOST_PARTS + 1)), None);
}

#[test]
fn rules_with_ended_labels_are_found_by_their_ends() {
    let index = LabelIndex::new(vec![
        rule("a", 0, "deny", Some(100), &[("a", "b")]),
        rule("b", 0, "deny", None, &[]),
        rule("c", 0, "deny", Some(300), &[]),
    ]);
    let ended = |index: &LabelIndex, now| index.ended(Wall(now)).iter().map(|r| r.id.clone()).collect::<Vec<_>>();
    assert!(ended(&index, 99).is_empty());
    assert_eq!(ended(&index, 100), ["a"]);
    assert_eq!(ended(&index, 300), ["a", "c"]);
    // Set again before its end.
    let renewed = rule("a", 0, "deny", Some(200), &[("a", "b")]);
    let (index, _) = index.changed(&[("a".into(), Some(renewed)), ("c".into(), None)]);
    assert!(ended(&index, 199).is_empty());
    assert_eq!(ended(&index, 1000), ["a"]);
}

#[test]
fn a_label_rule_among_a_hundred_thousand_costs_what_it_touches() {
    let key = |n: usize| format!("{n:08}");
    let all =
        (0..100_000).map(|n| rule(&format!("r{n}"), 0, "deny", Some(n as i64), &[(&key(n * 2), &key(n * 2 + 1))]));
    let all = LabelIndex::new(all.collect());
    for (change, parts) in [
        (vec![("r7".to_owned(), None)], 0),
        (vec![("r7".to_owned(), Some(rule("r7", 3, "allow", None, &[(&key(14), &key(15))])))], 1),
        (vec![("new".to_owned(), Some(rule("new", 3, "allow", Some(9), &[(&key(100), &key(110))])))], 10),
    ] {
        let (next, touched) = all.changed(&change);
        assert_eq!(touched.len(), parts, "{change:?}");
        let copied = next.rules.own_nodes(&all.rules) + next.ends.own_nodes(&all.ends);
        assert!(copied <= 120, "{copied} entries copied for {change:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A look-up in an index that was changed step by step gives what a walk over all rules gives.
    #[test]
    fn a_look_up_is_what_a_walk_over_all_rules_finds(
        drawn in prop::collection::vec(
            (0..6u8, 0..3i64, prop::collection::vec((0..6u8, 0..6u8), 0..3), prop::option::of(0..4i64), 0..3u8, any::<bool>()), 0..14),
        start in 0..6u8, end in 0..6u8, now in 0..4i64,
    ) {
        let key = |n: u8| if n == 0 { vec![] } else { vec![b'a' + n] };
        let (mut index, mut rules) = (LabelIndex::default(), BTreeMap::new());
        for (id, at, ranges, expires, name, goes) in drawn {
            let id = id.to_string();
            let ranges = ranges.into_iter().map(|(s, e)| KeyRange::new(key(s), key(e))).filter(|r| !r.is_empty()).collect();
            let label = RegionLabel { key: ["schedule", "merge_option", "x"][usize::from(name)].into(), value: format!("{id}-{at}"),
                expires: expires.map(Wall), ..RegionLabel::default() };
            let rule = (!goes).then(|| Arc::new(RegionLabelRule { id: id.clone(), index: at, labels: vec![label], ranges }));
            index = index.changed(&[(id.clone(), rule.clone())]).0;
            match rule {
                Some(rule) => _ = rules.insert(id, rule),
                None => _ = rules.remove(&id),
            }
        }
        let region = KeyRange::new(key(start), key(end));
        prop_assume!(!region.is_empty());
        let cut = |r: &KeyRange| (region.contains(&r.start) && r.start != region.start)
            || (!r.end.is_empty() && region.contains(&r.end) && r.end != region.start);
        let is_cut = rules.values().any(|rule| rule.ranges.iter().any(cut));
        for name in ["schedule", "merge_option", "x"] {
            let gives = |rule: &&Arc<RegionLabelRule>| rule.ranges.iter().any(|r| r.covers(&region))
                && rule.labels.iter().any(|l| l.key == name && holds(l, Wall(now)));
            let best = rules.values().filter(gives).max_by(|a, b| a.index.cmp(&b.index).then(b.id.cmp(&a.id)));
            let wanted = best.filter(|_| !is_cut).map(|rule| (rule.labels[0].value.clone(), rule.id.clone()));
            let found = index.value(&region, name, Wall(now)).map(|(value, rule)| (value, rule.id.clone()));
            prop_assert_eq!(found, wanted);
            // The same value at each key: keys are those that bounds are made of.
            let at_each = (start..6).filter(|n| region.contains(&key(*n))).map(|n| {
                let gives = |rule: &&Arc<RegionLabelRule>| rule.ranges.iter().any(|r| r.contains(&key(n)))
                    && rule.labels.iter().any(|l| l.key == name && holds(l, Wall(now)));
                rules.values().filter(gives).max_by(|a, b| a.index.cmp(&b.index).then(b.id.cmp(&a.id)))
            });
            let at_each: Option<Vec<_>> = at_each.collect();
            let even = |rule: &&&Arc<RegionLabelRule>| rule.index % 2 == 0;
            let wanted = at_each.filter(|rules| rules.iter().all(|rule| even(&rule)));
            let wanted = wanted.and_then(|rules| rules.into_iter().min_by_key(|rule| {
                let end = rule.labels[0].expires;
                (end.is_none(), end)
            }));
            let found = index.throughout(&region, name, Wall(now), |value| value.ends_with("-0") || value.ends_with("-2"));
            prop_assert_eq!(found.map(|(_, rule)| &rule.id), wanted.map(|rule| &rule.id));
        }
        prop_assert_eq!(index.split_keys(&region).is_empty(), !is_cut);
        prop_assert_eq!(index.all(), rules.values().cloned().collect::<Vec<_>>());
    }
}
