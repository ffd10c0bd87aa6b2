#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// An item with its ranges.
#[derive(PartialEq, Debug)]
struct Item {
    name: usize,
    ranges: Vec<KeyRange>,
}

type Cut = Segments<Item, Vec<usize>>;

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::new(start.as_bytes(), end.as_bytes())
}

fn named(items: &mut [Arc<Item>]) -> Vec<usize> {
    items.sort_by_key(|item| item.name);
    items.iter().map(|item| item.name).collect()
}

fn pairs<'a>(items: &[&'a Arc<Item>]) -> Vec<(&'a KeyRange, &'a Arc<Item>)> {
    items.iter().flat_map(|item| item.ranges.iter().map(move |range| (range, *item))).collect()
}

fn change(before: &Cut, removed: &[&Arc<Item>], added: &[&Arc<Item>]) -> (Cut, Vec<KeyRange>) {
    let edit = Edit { removed: pairs(removed), added: pairs(added), touched: Vec::new() };
    before.changed(&edit, named)
}

/// The same from nothing but the ranges.
fn by_hand(items: &[&Arc<Item>]) -> Vec<(KeyRange, Vec<usize>)> {
    let ranges = || items.iter().flat_map(|item| &item.ranges).filter(|r| !r.is_empty());
    let cuts: BTreeSet<Key> = ranges().flat_map(|r| [r.start.clone(), r.end.clone()]).chain([Key::empty()]).collect();
    let cuts: Vec<Key> = cuts.into_iter().collect();
    let ends = cuts.iter().skip(1).cloned().chain([Key::empty()]);
    cuts.iter()
        .zip(ends)
        .map(|(start, end)| {
            let covers = |item: &&&Arc<Item>| item.ranges.iter().any(|r| r.contains(start));
            let mut here: Vec<usize> = items.iter().filter(covers).map(|item| item.name).collect();
            here.sort_unstable();
            (KeyRange { start: start.clone(), end }, here)
        })
        .collect()
}

fn shown(cut: &Cut) -> Vec<(KeyRange, Vec<usize>)> {
    cut.iter()
        .map(|(range, part)| {
            assert_eq!(part.items.iter().map(|i| i.name).collect::<Vec<_>>(), part.value);
            (range, part.value.clone())
        })
        .collect()
}

fn item(name: usize, ranges: &[(&str, &str)]) -> Arc<Item> {
    Arc::new(Item { name, ranges: ranges.iter().map(|(s, e)| range(s, e)).collect() })
}

#[test]
fn parts_hold_what_covers_them() {
    let items = [item(0, &[("b", "d")]), item(1, &[("", "c")]), item(2, &[("x", "x")]), item(3, &[("d", "")])];
    let (cut, touched) = change(&Cut::default(), &[], &items.iter().collect::<Vec<_>>());
    let wanted = [
        (range("", "b"), vec![1]),
        (range("b", "c"), vec![0, 1]),
        (range("c", "d"), vec![0]),
        (range("d", ""), vec![3]),
    ];
    assert_eq!((shown(&cut), touched.len()), (wanted.to_vec(), 4));
    let value = |part: Option<&Part<Item, Vec<usize>>>| part.map(|p| p.value.clone());
    assert_eq!(value(cut.at(b"c")), Some(vec![0]));
    assert_eq!(value(cut.over(&range("b", "c"))), Some(vec![0, 1]));
    assert_eq!(value(cut.over(&range("b", "cc"))), None);
    assert_eq!(value(cut.over(&range("d", ""))), Some(vec![3]));
    assert_eq!(cut.cuts(&range("b", "d")), [Key::from(&b"c"[..])]);
    assert_eq!(cut.cuts(&KeyRange::all()).len(), 3);
    assert!(Cut::default().at(b"k").is_none() && Cut::default().cuts(&KeyRange::all()).is_empty());
}

#[test]
fn one_of_a_hundred_thousand_costs_what_it_touches() {
    let key = |n: usize| format!("{n:08}");
    let items: Vec<Arc<Item>> = (0..100_000).map(|n| item(n, &[(&key(n * 2), &key(n * 2 + 1))])).collect();
    let (all, touched) = change(&Cut::default(), &[], &items.iter().collect::<Vec<_>>());
    assert_eq!(touched.len(), 200_001);
    for (removed, added, parts) in [
        (vec![], vec![item(1_000_000, &[("k", "l")])], 1),
        (vec![&items[500]], vec![], 0),
        (vec![&items[500]], vec![item(1_000_000, &[(&key(1000), &key(1001))])], 1),
        (vec![], vec![item(1_000_000, &[(&key(100), &key(200))])], 100),
        (vec![&items[9], &items[90_000]], vec![item(1_000_000, &[("a", "b"), (&key(7), &key(8))])], 2),
    ] {
        let (next, touched) = change(&all, &removed, &added.iter().collect::<Vec<_>>());
        assert_eq!(touched.len(), parts, "{added:?}");
        let copied = next.parts.own_nodes(&all.parts);
        assert!(copied <= 200 + parts, "{copied} nodes copied for {added:?}");
        let now = items.iter().filter(|i| !removed.iter().any(|r| Arc::ptr_eq(r, i))).chain(&added);
        assert_eq!(next.parts.len(), by_hand_cuts(now));
    }
}

fn by_hand_cuts<'a>(items: impl Iterator<Item = &'a Arc<Item>>) -> usize {
    let bounds = items.flat_map(|i| i.ranges.iter().flat_map(|r| [r.start.clone(), r.end.clone()]));
    bounds.chain([Key::empty()]).collect::<BTreeSet<_>>().len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// After any changes the parts are those that the ranges give from scratch, and only what was told has changed.
    #[test]
    fn a_changed_version_is_one_from_scratch(
        steps in prop::collection::vec(
            (prop::collection::vec((0..9u8, 0..9u8), 1..4), prop::collection::vec(any::<prop::sample::Index>(), 0..3)), 1..12),
    ) {
        let key = |n: u8| if n == 0 { vec![] } else { vec![b'a' + n] };
        let (mut cut, mut items) = (Cut::default(), Vec::<Arc<Item>>::new());
        for (name, (ranges, gone)) in steps.into_iter().enumerate() {
            let ranges = ranges.into_iter().map(|(s, e)| KeyRange::new(key(s), key(e))).collect();
            let mut removed = Vec::new();
            for at in gone {
                if !items.is_empty() {
                    removed.push(items.swap_remove(at.index(items.len())));
                }
            }
            items.push(Arc::new(Item { name, ranges }));
            let before = shown(&cut);
            let (next, touched) = change(&cut, &removed.iter().collect::<Vec<_>>(), &[items.last().unwrap()]);
            cut = next;
            prop_assert_eq!(shown(&cut), by_hand(&items.iter().collect::<Vec<_>>()));
            for (range, value) in shown(&cut) {
                let same = before.iter().any(|(old, was)| old.contains(&range.start) && *was == value);
                prop_assert!(same || touched.contains(&range), "{range:?} changed and was not told");
            }
        }
    }
}
