//! Who is merged with whom.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::{
    model::{Key, KeyRange, RegionId},
    scheduler::checker::merge::{NoMerge, NotThere, target},
};

/// A small region at position `at`.
fn small(at: u64, stores: &[u64]) -> Region {
    Region { size_mib: 10, keys: 1000, ..World::region(at, stores) }
}

/// A world in which merging has begun: the leader is there for longer than `split-merge-interval`.
fn merging(stores: u64, regions: &[Region]) -> World {
    let w = world(stores);
    for region in regions {
        w.regions.apply(region.clone()).unwrap();
    }
    w
}

/// Nothing is heard of this store any more, for longer than stores may be silent.
fn lose(w: &mut World, store: u64) {
    w.silent = vec![StoreId(store)];
    w.set_schedule(|s| s.max_store_down_time = Duration::from_secs(60).into());
    w.pass(Duration::from_secs(80));
}

fn into(w: &mut World, at: u64) -> Result<u64, NoMerge> {
    let region = w.get(at * 10);
    let mut found = Err(NoMerge::Paused);
    w.with_view(|view, controller, patrol, _| {
        found = target(view, controller, patrol.memory(), &region).map(|t| t.id().0 / 10);
    });
    found
}

#[test]
fn a_small_region_goes_into_the_next_or_the_smaller_of_its_neighbours() {
    let three = [1, 2, 3];
    let sized = |at, size_mib| Region { size_mib, ..small(at, &three) };
    let mut w = merging(4, &[sized(1, 90), sized(2, 10), sized(3, 80), sized(5, 10)]);
    assert_eq!(into(&mut w, 2), Ok(3), "the smaller one");
    w.regions.apply(sized(1, 80)).unwrap();
    assert_eq!(into(&mut w, 2), Ok(3), "of equal ones the next");
    w.regions.apply(sized(1, 79)).unwrap();
    assert_eq!(into(&mut w, 2), Ok(1));
    w.set_schedule(|s| s.enable_one_way_merge = true);
    assert_eq!(into(&mut w, 2), Ok(3));
    assert_eq!(into(&mut w, 5), Err(NoMerge::NoTarget(NotThere::None, NotThere::None)), "a hole on both sides");
}

#[test]
fn what_stands_against_a_merge_is_named_as_pd_names_it() {
    let three = [1, 2, 3];
    let refused = |change: &dyn Fn(&mut World, &mut Region, &mut Region)| {
        let mut w = merging(4, &[]);
        let (mut a, mut b) = (small(1, &three), small(2, &three));
        change(&mut w, &mut a, &mut b);
        w.regions.apply(a).unwrap();
        w.regions.apply(b).unwrap();
        match into(&mut w, 1) {
            Ok(_) => "merged",
            Err(NoMerge::NoTarget(next, NotThere::None)) => next.name(),
            Err(why) => why.name(),
        }
    };
    let with_role = |r: &mut Region, role| Arc::make_mut(&mut r.meta).peers[2].role = role;
    type Change<'a> = &'a dyn Fn(&mut World, &mut Region, &mut Region);
    let cases: &[(&str, Change<'_>)] = &[
        ("merged", &|_, _, _| {}),
        ("merged", &|_, a, _| a.size_mib = 54),
        ("no-need", &|_, a, _| a.size_mib = 55),
        ("no-need", &|_, a, _| a.keys = 540_001),
        ("berth_unknown-size", &|_, a, _| (a.size_mib, a.size_known) = (0, false)),
        ("berth_no-room", &|w, _, _| w.set_schedule(|s| s.merge_schedule_limit = 0)),
        ("recently-start", &|w, _, _| w.set_schedule(|s| s.split_merge_interval = Duration::from_secs(4601).into())),
        ("recently-split", &|w, _, _| w.patrol.regions_split([RegionId(10)], w.now)),
        ("adj-recently-split", &|w, _, _| w.patrol.regions_split([RegionId(20)], w.now)),
        ("no-leader", &|_, a, _| a.leader = None),
        ("unhealthy-region", &|_, a, _| a.pending = vec![PeerId(12)]),
        ("adj-special-peer", &|_, _, b| b.pending = vec![PeerId(22)]),
        ("adj-special-peer", &|_, _, b| b.leader = None),
        ("abnormal-replica", &|_, a, _| with_role(a, Role::Learner)),
        ("adj-abnormal-replica", &|_, _, b| with_role(b, Role::Learner)),
        ("paused", &|w, _, _| w.patrol.pause(CheckerName::Merge, Duration::from_secs(9), w.now)),
        ("split-size-after-merge", &|_, _, b| b.size_mib = 134),
        ("merged", &|_, _, b| b.size_mib = 133),
        ("split-keys-after-merge", &|_, _, b| b.keys = 1_439_000),
        ("target-too-large", &|_, _, b| b.size_mib = 577),
        ("adj-abnormal-peerstore", &|w, _, b| {
            w.put_store(4, StoreState::Offline, &[]);
            *b = small(2, &[1, 2, 4]);
        }),
        ("adj-abnormal-peerstore", &|w, _, b| {
            lose(w, 4);
            *b = small(2, &[1, 2, 4]);
        }),
        ("merged", &|w, a, b| {
            lose(w, 4);
            (*a, *b) = (small(1, &[1, 2, 4]), small(2, &[1, 2, 4]));
        }),
    ];
    for (at, (wanted, change)) in cases.iter().enumerate() {
        assert_eq!(refused(*change), *wanted, "case {at}");
    }
}

fn label(w: &mut World, key: &str, value: &str, start: u64, end: u64) {
    let label = RegionLabel { key: key.into(), value: value.into(), ..RegionLabel::default() };
    let bound = |n: u64| Key::from(n.to_be_bytes().to_vec());
    let ranges = vec![KeyRange { start: bound(start), end: bound(end) }];
    let rule = RegionLabelRule { id: "r".into(), index: 0, labels: vec![label], ranges };
    w.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(rule)]));
}

#[test]
fn borders_labels_and_tables_keep_regions_apart() {
    let three = [1, 2, 3];
    let mut w = merging(4, &[small(1, &three), small(2, &three)]);
    let disallowed = Err(NoMerge::NoTarget(NotThere::Disallowed, NotThere::None));
    label(&mut w, "any", "thing", 2, 3);
    assert_eq!(into(&mut w, 1), disallowed, "a border of labels lies between them");
    label(&mut w, "any", "thing", 0, 9);
    assert_eq!(into(&mut w, 1), Ok(2));
    label(&mut w, "merge_option", "deny", 0, 9);
    assert_eq!(into(&mut w, 1), disallowed);
    label(&mut w, "schedule", "deny", 0, 9);
    assert_eq!(into(&mut w, 1), Err(NoMerge::Denied));
    w.settings.labels = Arc::default();
    let mut border = rule("b", RuleRole::Voter, 3, None);
    border.range = KeyRange { start: Key::from(2u64.to_be_bytes().to_vec()), end: Key::empty() };
    w.set_rules(vec![RuleSet::default_rule(3, &[], ""), Rule { override_: true, index: 1, ..border }]);
    assert_eq!(into(&mut w, 1), disallowed, "a border of rules");

    // Keys as table rows have them: `t`, the table's id, and a row, in groups of eight bytes.
    let table = |id: u8, row: &[u8]| {
        let mut plain = vec![b't', 0x80, 0, 0, 0, 0, 0, 0, id];
        plain.extend_from_slice(row);
        let mut key = Vec::new();
        for group in plain.chunks(8) {
            key.extend_from_slice(group);
            key.resize(key.len() + 8 - group.len(), 0);
            key.push(0xFF - (8 - group.len() as u8));
        }
        Key::from(key)
    };
    let region = |at: u64, start: &Key, end: &Key| {
        let mut region = small(at, &three);
        Arc::make_mut(&mut region.meta).range = KeyRange { start: start.clone(), end: end.clone() };
        region
    };
    let (a, b, c, d) = (table(1, b""), table(1, b"_r5"), table(2, b""), table(3, b""));
    let mut w = merging(4, &[region(1, &a, &b), region(2, &b, &c), region(3, &c, &d)]);
    assert_eq!((into(&mut w, 1), into(&mut w, 3)), (Ok(2), Ok(2)));
    w.set_schedule(|s| s.enable_cross_table_merge = false);
    assert_eq!(into(&mut w, 1), Ok(2), "the same table");
    assert_eq!(into(&mut w, 3), Err(NoMerge::NoTarget(NotThere::None, NotThere::Disallowed)));
    w.settings.table_keys = false;
    assert_eq!(into(&mut w, 3), Ok(2), "raw keys belong to no table");
}

#[test]
fn the_two_operators_of_a_merge_are_admitted_run_and_end_together() {
    let mut w = merging(5, &[small(1, &[1, 2, 3]), small(2, &[1, 3, 5])]);
    w.tick();
    let ops: Vec<_> = w.added.iter().map(|(_, op)| op.clone()).collect();
    let kinds: Vec<_> = ops.iter().map(|op| (op.desc.as_str(), op.kind.to_string())).collect();
    assert_eq!(kinds, [("merge-region", "merge,region".to_owned()), ("merge-region", "merge,region".to_owned())]);
    assert_eq!((ops[0].region.0, ops[1].region.0), (10, 20));
    assert_eq!((ops[0].timeout, ops[1].timeout), (ops[0].timeout, ops[0].timeout));
    assert_eq!(ops[0].info_text(), r#"{"related merge region":"20"}"#);
    let last = ops[0].steps.last().unwrap().to_string();
    assert_eq!((last.as_str(), ops[1].steps.len()), ("merge region 10 into region 20", 1));
    for _ in 0..50 {
        w.tick();
    }
    assert!(w.regions.get(RegionId(10)).is_none());
    let merged = w.get(20);
    assert_eq!((merged.range().start.clone(), merged.size_mib), (Key::from(1u64.to_be_bytes().to_vec()), 20));
    assert_eq!(w.controller.running_len(), 0);
    let status = |id: u64| w.controller.status(RegionId(id)).unwrap().status.word();
    assert_eq!((status(10), status(20)), ("CANCEL", "SUCCESS"));
}

#[test]
fn a_merge_is_admitted_whole_or_not_at_all_and_one_half_takes_the_other_with_it() {
    let mut w = merging(5, &[small(1, &[1, 2, 3]), small(2, &[1, 2, 3]), small(3, &[1, 2, 3])]);
    w.node_takes = Duration::from_secs(1_000_000);
    w.set_schedule(|s| s.merge_schedule_limit = 1);
    w.tick();
    assert_eq!(w.added.len(), 0, "one of two is no merge");
    assert!(w.controller.records(0).is_empty(), "and what cannot be is not tried");
    w.set_schedule(|s| s.merge_schedule_limit = 3);
    for _ in 0..3 {
        w.tick();
    }
    assert_eq!(w.added.len(), 2);
    w.with_view(|view, controller, _, out| assert!(controller.cancel(view, RegionId(20), out)));
    assert_eq!(w.controller.running_len(), 0);
    let reason = |id: u64| w.controller.status(RegionId(id)).unwrap().info["cancel-reason"].clone();
    assert_eq!((reason(20).as_str(), reason(10).as_str()), ("admin stop", "related merge region"));
}

/// A half that cannot begin, or that ends before its region is taken in, leaves no other half that would wait for a merge that nobody
/// makes: its region would be nobody's, also not a drain's, until the merge has timed out.
#[test]
fn o4_no_half_of_a_merge_is_left_alone() {
    let mut w = merging(5, &[small(1, &[1, 2, 3]), small(2, &[1, 2, 4])]);
    lose(&mut w, 4);
    let (source, target) = (w.get(10), w.get(20));
    let merge = |view: &ClusterView<'_>| Operator::merge(*view, &source, &target, "merge-region", Kind::MERGE).unwrap();
    w.with_view(|view, controller, _, out| controller.add(view, merge(view).into(), &By::checker(), out).unwrap());
    let reason = |w: &World, id: u64| w.controller.status(RegionId(id)).unwrap().info["cancel-reason"].clone();
    assert_eq!((reason(&w, 10).as_str(), reason(&w, 20).as_str()), ("stale status", "related merge region"));
    assert_eq!(w.controller.running_len(), 0);
    // A call forgets the source.
    w.silent.clear();
    w.pass(Duration::from_secs(10));
    w.with_view(|view, controller, _, out| controller.add(view, merge(view).into(), &By::checker(), out).unwrap());
    assert_eq!(w.controller.running_len(), 2);
    w.regions.remove(RegionId(10));
    w.with_view(|view, controller, _, out| controller.on_region_gone(view, RegionId(10), out));
    assert_eq!((w.controller.running_len(), reason(&w, 20).as_str()), (0, "related merge region"));
}

/// When the target changes its range in another way than by taking the source in, the source's half has nothing to wait for.
#[test]
fn a_target_that_is_split_meanwhile_frees_the_source() {
    let mut w = merging(5, &[small(1, &[1, 2, 3]), small(2, &[1, 2, 3])]);
    w.node_takes = Duration::from_secs(1_000_000);
    w.tick();
    assert_eq!(w.controller.running_len(), 2);
    let mut shrunk = Region::clone(&w.get(20));
    let meta = Arc::make_mut(&mut shrunk.meta);
    meta.range.end = Key::from([&2u64.to_be_bytes()[..], b"m"].concat());
    meta.epoch.version += 1;
    w.report(shrunk);
    assert_eq!(w.controller.running_len(), 0);
}

/// Against an oracle that looks at all pairs: random sizes, peers, health and borders.
#[test]
fn the_target_is_the_one_that_a_look_at_everything_finds() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let (mut merged, mut left) = (0, 0);
    for _ in 0..400 {
        let mut w = merging(5, &[]);
        if rng.random_range(0..3) == 0 {
            w.put_store(5, StoreState::Offline, &[]);
        }
        let gone = w.stores.snapshot()[&StoreId(5)].record.state != StoreState::Up;
        let cut = rng.random_range(0..8);
        label(&mut w, "any", "thing", cut, 100);
        let one_way = rng.random_range(0..4) == 0;
        w.set_schedule(|s| s.enable_one_way_merge = one_way);
        let there: Vec<u64> = (1..=6).filter(|_| rng.random_range(0..10) > 0).collect();
        let row: Vec<Region> = there
            .into_iter()
            .map(|at| {
                let stores = [[1, 2, 3], [1, 2, 4], [2, 3, 5]][rng.random_range(0..3)];
                let size_mib = [5, 40, 54, 55, 90, 100, 140, 600][rng.random_range(0..8)];
                let pending = if rng.random_range(0..8) == 0 { vec![PeerId(at * 10 + 1)] } else { vec![] };
                Region { size_mib, pending, ..small(at, &stores) }
            })
            .collect();
        row.iter().for_each(|r| _ = w.regions.apply(r.clone()).unwrap());
        for a in &row {
            let at = a.id().0 / 10;
            let fits = |b: &&Region| {
                let other = b.id().0 / 10;
                let new_store = b.peers().iter().any(|p| p.store.0 == 5) && a.meta.peer_on(StoreId(5)).is_none();
                let on_border = cut == at.max(other);
                (other == at + 1 || !one_way && other + 1 == at)
                    && b.pending.is_empty()
                    && !on_border
                    && !(gone && new_store)
            };
            let best = row.iter().filter(fits).min_by_key(|b| (b.size_mib, b.id() < a.id()));
            let sum = best.map_or(0, |b| a.size_mib + b.size_mib);
            let wanted = best.filter(|b| {
                a.size_mib <= 54
                    && a.pending.is_empty()
                    && b.size_mib <= 576
                    && !(sum >= 144 && (1..=54).contains(&(sum % 96)))
            });
            // A region on a store that is being emptied is still "replicated": its drain comes first, but that is not the matter here.
            assert_eq!(into(&mut w, at).ok(), wanted.map(|b| b.id().0 / 10), "{at} of {row:#?}");
            merged += usize::from(wanted.is_some());
            left += usize::from(wanted.is_none());
        }
    }
    assert!(merged > 100 && left > 100, "{merged} {left}");
}
