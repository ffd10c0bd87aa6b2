#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Heights are right and within one of each other everywhere.
fn assert_balanced<K, V>(link: &Link<K, V>) {
    if let Some(node) = link {
        assert!(node.lean().abs() <= 1 && node.height == 1 + height(&node.left).max(height(&node.right)));
        assert_balanced(&node.left);
        assert_balanced(&node.right);
    }
}

#[test]
fn a_change_copies_the_way_to_the_entry_and_nothing_else() {
    let all: PersistentMap<u32, u32> = (0..100_000).map(|n| (n * 2, n)).collect();
    assert_balanced(&all.root);
    for key in [0, 99_998, 99_999, 300_000] {
        let mut changed = all.clone();
        changed.insert(key, 7);
        assert!(changed.own_nodes(&all) <= 40, "insert of {key}: {}", changed.own_nodes(&all));
        let mut less = all.clone();
        less.remove(&key);
        assert!(less.own_nodes(&all) <= 40, "removal of {key}: {}", less.own_nodes(&all));
        assert_eq!(less.own_nodes(&all) == 0, key % 2 == 1 || key == 300_000, "an absent key costs nothing");
        let mut told = Vec::new();
        all.changes(&changed, |key, old, new| told.push((*key, old.copied(), new.copied())));
        assert_eq!(told, [(key, all.get(&key).copied(), Some(7))]);
    }
}

/// Compares what both hold, and every way of reading it.
fn assert_same(map: &PersistentMap<u8, u8>, model: &BTreeMap<u8, u8>) {
    assert_balanced(&map.root);
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model.iter()));
    for key in 0..=u8::MAX {
        assert_eq!(map.get(&key), model.get(&key));
        let around =
            (model.range(..=key).next_back(), model.range(key.saturating_add(1)..).next().filter(|_| key < 255));
        assert_eq!(map.around(&key), around);
        assert!(map.from(&key).eq(model.range(key..)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_version_is_what_an_ordinary_map_would_be(steps in prop::collection::vec((any::<bool>(), 0..40u8, any::<u8>()), 0..120)) {
        let (mut map, mut model) = (PersistentMap::default(), BTreeMap::new());
        let mut versions = Vec::new();
        for (put, key, value) in steps {
            versions.push((map.clone(), model.clone()));
            if put {
                prop_assert_eq!(map.insert(key, value), model.insert(key, value));
            } else {
                prop_assert_eq!(map.remove(&key), model.remove(&key));
            }
        }
        assert_same(&map, &model);
        for (before, before_model) in versions.iter().step_by(7) {
            assert_same(before, before_model);
            let mut told = BTreeMap::new();
            before.changes(&map, |key, old, new| _ = told.insert(*key, (old.copied(), new.copied())));
            let keys = before_model.keys().chain(model.keys());
            let wanted: BTreeMap<_, _> = keys.map(|k| (*k, (before_model.get(k).copied(), model.get(k).copied())))
                .filter(|(_, (old, new))| old != new).collect();
            prop_assert_eq!(told, wanted);
        }
    }
}
