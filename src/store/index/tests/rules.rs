//! PD's rules for reports, one by one.

use super::*;

fn meta(region: &mut Region) -> &mut RegionMeta {
    Arc::make_mut(&mut region.meta)
}

/// Region 2 over `..20` and region 3 over `20..`, both of epoch (3, 2), term 6.
fn two() -> RegionIndex {
    let index = small();
    for mut report in [region(2, 0, 20, 3, 2), region(3, 20, KEYS, 3, 2)] {
        report.term = 6;
        index.apply(report).unwrap();
    }
    index
}

/// Everything that can be read of the index.
fn all(index: &RegionIndex) -> (Vec<Arc<Region>>, RangeStats, Vec<StoreSummary>) {
    let stores = (0..=STORES).map(|store| index.summary(StoreId(store))).collect();
    (index.scan(&KeyRange::all(), usize::MAX), index.stats(&KeyRange::all()), stores)
}

fn refused(index: &RegionIndex, report: Region) -> String {
    let before = all(index);
    let stale = index.apply(report).expect_err("a stale report");
    assert_eq!(all(index), before, "H1: a refused report changes nothing");
    stale.to_string()
}

#[test]
fn h1_an_older_epoch_or_term_changes_nothing() {
    let index = two();
    let mut report = region(2, 0, 20, 3, 2);
    for (epoch, term) in [((3, 1), 7), ((2, 2), 7), ((2, 9), 7), ((9, 1), 7), ((3, 2), 5), ((4, 3), 5)] {
        meta(&mut report).epoch = Epoch::new(epoch.0, epoch.1);
        report.term = term;
        let text = refused(&index, report.clone());
        assert!(text.starts_with("region is stale: region id:2 ") && text.contains(">  origin id:2 "), "{text}");
    }
    meta(&mut report).epoch = Epoch::new(3, 2);
    for term in [6, 0, 0, 7] {
        report.term = term;
        index.apply(report.clone()).expect("equal epochs replace, and a term of 0 is not compared");
    }
}

#[test]
fn h1_a_split_child_is_stale_against_any_newer_overlap() {
    let index = two();
    let text = refused(&index, region(50, 5, 6, 2, 1));
    assert!(text.contains("region id:50 ") && text.contains(" origin id:2 "), "{text}");
    let text = refused(&index, region(50, 25, KEYS, 9, 1));
    assert!(text.contains(" origin id:3 "), "{text}");
    refused(&index, region(2, 0, 30, 3, 1));
}

#[test]
fn h2_overlapped_regions_leave_whole() {
    let index = two();
    let applied = index.apply(region(4, 10, 30, 1, 2)).unwrap();
    assert_eq!(applied.removed.iter().map(|r| r.id().0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(index.holes(&KeyRange::all(), 9), [range(0, 10), range(30, KEYS)]);
    assert!(index.get(RegionId(2)).is_none() && index.by_key(&key(5)).is_none());
    assert_eq!(index.len(), 1);
}

#[test]
fn h2_a_range_without_keys_is_refused() {
    let index = two();
    for (start, end) in [(10, 10), (10, 5), (25, 20)] {
        refused(&index, region(4, start, end, 9, 9));
        refused(&index, region(2, start, end, 9, 9));
    }
}

#[test]
fn h6_a_recreated_region_replaces_newer_ones_but_not_as_the_whole_key_space() {
    let index = two();
    refused(&index, region(9, 0, KEYS, 1, 1));
    let applied = index.apply(region(9, 0, 30, 1, 1)).unwrap();
    assert_eq!(applied.removed.len(), 2);
    let applied = index.apply(region(9, 0, 40, 1, 1)).unwrap();
    assert_eq!((applied.removed.len(), applied.changes.save), (0, true));
    assert_eq!(index.len(), 1);
}

#[test]
fn an_unknown_size_inherits_and_never_reads_as_empty() {
    let index = small();
    let mut report = region(2, 0, 20, 3, 2);
    (report.size_mib, report.size_known) = (0, false);
    index.apply(report.clone()).unwrap();
    let stats = index.stats(&KeyRange::all());
    assert_eq!((stats.size_mib, stats.empty_count), (1, 0), "PD counts a first report without a size as 1");
    report.size_mib = 1;
    index.apply(report.clone()).unwrap();
    assert_eq!(index.stats(&KeyRange::all()).empty_count, 1);
    report.size_mib = 64;
    index.apply(report.clone()).unwrap();
    report.size_mib = 0;
    meta(&mut report).epoch.version = 9;
    meta(&mut report).range.end = key(15);
    let applied = index.apply(report).unwrap();
    assert_eq!((applied.region.size_mib, applied.region.size_known), (64, true));
    assert_eq!(index.stats(&KeyRange::all()).size_mib, 64);
}

#[test]
fn a_row_from_disk_never_replaces_what_was_heard() {
    let index = two();
    let cached = |id, start, end, version| Region { heard: None, leader: None, ..region(id, start, end, 9, version) };
    let before = all(&index);
    assert!(!index.load(cached(2, 0, 20, 9)), "known by id");
    assert!(!index.load(cached(7, 10, 15, 9)), "overlaps a heard one");
    assert_eq!(all(&index), before);
    index.remove(RegionId(3));
    assert!(
        index.load(cached(8, 20, 40, 5)) && !index.load(cached(9, 30, KEYS, 4)) && index.load(cached(10, 30, KEYS, 6))
    );
    assert_eq!((index.len(), index.heard_count()), (2, 1), "of two rows the newer one stays");
}

#[test]
fn h7_absurd_numbers_are_bounded_and_leave_nothing_behind() {
    let index = small();
    for id in 1..40 {
        let start = u16::try_from(id).unwrap();
        let mut report = region(id, start, start + 1, 1, 2);
        (report.size_mib, report.keys, report.kv_size_mib) = (u64::MAX, u64::MAX, u64::MAX);
        index.apply(report).unwrap();
    }
    assert_eq!(index.stats(&KeyRange::all()).size_mib, 39 * MAX_REGION_NUMBER);
    for id in 1..40 {
        let start = u16::try_from(id).unwrap();
        index.apply(region(id, start, start + 1, 1, 2)).unwrap();
    }
    assert_eq!(index.stats(&KeyRange::all()).size_mib, 390);
    index.clear();
    assert_eq!(index.stats(&KeyRange::all()), RangeStats::default());
    assert_eq!(index.summary(StoreId(1)), StoreSummary::default());
}

#[test]
fn changes_name_what_changed() {
    let index = two();
    let base = index.get(RegionId(2)).map(|r| Region::clone(&r)).unwrap();
    let changes = |change: &dyn Fn(&mut Region)| {
        let mut report = base.clone();
        change(&mut report);
        let index = two();
        index.apply(report).unwrap().changes
    };
    let none = Changes::default();
    assert_eq!(changes(&|r| (r.size_mib, r.keys, r.term) = (7, 7, 7)), none);
    assert_eq!(changes(&|r| r.leader = Some(PeerId(202))), Changes { leader: true, ..none });
    assert_eq!(changes(&|r| r.pending = vec![PeerId(203)]), Changes { peers: true, ..none });
    assert_eq!(
        changes(&|r| r.down = vec![DownPeer { peer: PeerId(203), seconds: 1 }]),
        Changes { peers: true, ..none }
    );
    assert_eq!(changes(&|r| meta(r).epoch.conf_ver = 4), Changes { conf_ver: true, save: true, ..none });
    assert_eq!(changes(&|r| meta(r).epoch.version = 4), Changes { version: true, save: true, ..none });
    assert_eq!(changes(&|r| meta(r).peers[2].role = Role::Learner), Changes { peers: true, save: true, ..none });
    let mut down = base.clone();
    down.down = vec![DownPeer { peer: PeerId(203), seconds: 1 }];
    index.apply(down.clone()).unwrap();
    down.down[0].seconds = 60;
    assert_eq!(index.apply(down).unwrap().changes, none, "the seconds alone are no change");
    assert_eq!(index.apply(region(9, 40, 41, 1, 2)).unwrap().changes, Changes { is_new: true, save: true, ..none });
}

#[test]
fn unchanged_parts_are_shared_with_the_version_before_and_with_neighbours() {
    let index = two();
    let (two, three) = (index.get(RegionId(2)).unwrap(), index.get(RegionId(3)).unwrap());
    assert_eq!(two.range().end.as_ptr(), three.range().start.as_ptr());
    let mut report = region(2, 0, 20, 3, 2);
    report.term = 6;
    let again = index.apply(report).unwrap();
    assert!(Arc::ptr_eq(&again.region.meta, &two.meta));
    let grown = index.apply(region(2, 0, 20, 4, 2)).unwrap();
    assert_eq!(grown.region.range().end.as_ptr(), two.range().end.as_ptr());
}

#[test]
fn a_dropped_index_frees_its_regions() {
    let index = small();
    let held = index.apply(region(2, 0, 20, 3, 2)).unwrap().region;
    assert_eq!(Arc::strong_count(&held), 2);
    drop(index);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn what_moves_between_stores_is_summed_up_and_nothing_else_is() {
    let index = small();
    let moved = |index: &RegionIndex| [1, 2, 3, 4, 5].map(|store| index.moved_mib(StoreId(store)));
    // On the stores 4, 5 and 1; then another one, and a size that was not told before.
    index.apply(region(2, 0, 20, 3, 2)).unwrap();
    index.apply(region(3, 20, KEYS, 3, 2)).unwrap();
    index.apply(Region { size_mib: 30, ..region(2, 0, 20, 3, 2) }).unwrap();
    index.forget_heard();
    assert_eq!(moved(&index), [0; 5], "nothing has another store than it had");
    let mut report = Region { size_mib: 40, ..region(2, 0, 20, 4, 2) };
    meta(&mut report).peers[0].store = StoreId(2);
    index.apply(report.clone()).unwrap();
    index.apply(report.clone()).unwrap();
    assert_eq!(moved(&index), [0, 40, 0, -30, 0], "30 MiB went from store 4, 40 came to store 2");
    // The same stores in another order, with another range: it moves in the order of keys, not between stores.
    meta(&mut report).peers.reverse();
    meta(&mut report).range = range(10, 20);
    meta(&mut report).epoch = Epoch::new(4, 3);
    index.apply(report).unwrap();
    index.remove(RegionId(2));
    index.clear();
    assert_eq!(moved(&index), [0, 40, 0, -30, 0]);
}
