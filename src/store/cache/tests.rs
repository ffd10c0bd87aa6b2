//! The cache file: what comes back after a restart, damage, other clusters, bounds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{Epoch, Key, KeyRange, Peer};

const CLUSTER_ID: ClusterId = ClusterId(7);

fn region(id: u64) -> Region {
    let bound = |n: u64| Key::from(n.to_be_bytes().as_slice());
    let meta = RegionMeta {
        id: RegionId(id),
        range: KeyRange { start: bound(id), end: bound(id + 1) },
        epoch: Epoch::new(3, id),
        peers: vec![Peer::voter(id * 10, 1), Peer::learner(id * 10 + 1, 2)],
    };
    Region { meta: Arc::new(meta), size_mib: 96, size_known: true, keys: 5, term: 6, ..Region::default() }
}

fn ids(cache: &RegionCache) -> Vec<u64> {
    cache.load().unwrap().map(|r| r.id().0).collect()
}

#[test]
fn what_was_flushed_comes_back_as_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    {
        let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
        assert_eq!(cache.origin(), &Origin::New);
        for id in 1..=5 {
            cache.put(&region(id));
        }
        assert_eq!((cache.flush().unwrap(), cache.flush().unwrap()), (5, 0));
        cache.remove(RegionId(2));
        cache.put(&region(9));
        cache.remove(RegionId(9));
        cache.flush().unwrap();
        cache.put(&region(8));
    }
    let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
    assert_eq!(cache.origin(), &Origin::Kept);
    let mut rows = cache.load().unwrap();
    let loaded: Vec<_> = rows.by_ref().collect();
    assert_eq!(rows.damaged(), 0);
    assert_eq!(loaded.iter().map(|r| r.id().0).collect::<Vec<_>>(), [1, 3, 4, 5]);
    for row in loaded {
        assert_eq!(row.meta, region(row.id().0).meta);
        assert!(row.leader.is_none() && row.heard.is_none() && !row.size_known && row.size_mib == 0);
    }
}

#[test]
fn the_file_of_another_cluster_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    {
        let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
        cache.put(&region(1));
        cache.flush().unwrap();
    }
    let cache = RegionCache::open(dir.path(), ClusterId(8)).unwrap();
    assert_eq!(cache.origin(), &Origin::Recreated("cluster 7 where 8 is expected".into()));
    assert!(ids(&cache).is_empty());
}

#[test]
fn a_file_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
    cache.put(&region(1));
    cache.flush().unwrap();
    assert!(matches!(RegionCache::open(dir.path(), CLUSTER_ID), Err(CacheError::InUse(_))));
    assert_eq!(ids(&cache), [1]);
}

#[test]
fn a_damaged_row_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
    for id in 1..=3 {
        cache.put(&region(id));
    }
    cache.flush().unwrap();
    let transaction = cache.database.begin_write().unwrap();
    transaction.open_table(REGIONS).unwrap().insert(2, &b"\x01garbage"[..]).unwrap();
    transaction.commit().unwrap();
    let mut rows = cache.load().unwrap();
    assert_eq!(rows.by_ref().map(|r| r.id().0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(rows.damaged(), 1);
}

#[test]
fn a_damaged_file_never_stops_a_start_and_never_gives_a_wrong_region() {
    let dir = tempfile::tempdir().unwrap();
    {
        let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
        for id in 1..=300 {
            cache.put(&region(id));
        }
        cache.flush().unwrap();
    }
    let path = dir.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    // Places all over the file: its head, trees and rows.
    let mut recreated = 0;
    for at in (0..400).map(|n| n * 97).chain((0..whole.len()).step_by(whole.len() / 200)) {
        let mut bytes = whole.clone();
        bytes[at % whole.len()] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
        recreated += usize::from(matches!(cache.origin(), Origin::Recreated(_)));
        for row in cache.load().unwrap() {
            assert_eq!(row.meta, region(row.id().0).meta, "byte {at}");
        }
    }
    assert!(recreated > 20, "the damage was not met: {recreated}");
    for length in [0, 1, 100, 4096, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
        assert!(ids(&cache).len() <= 300);
    }
}

#[test]
fn the_queue_has_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
    for id in 1..=MAX_WAITING_ROWS + 10 {
        cache.remove(RegionId(id as u64));
    }
    assert_eq!((cache.waiting(), cache.dropped()), (MAX_WAITING_ROWS, 10));
    cache.put(&region(5));
    assert_eq!((cache.waiting(), cache.dropped()), (MAX_WAITING_ROWS, 0), "a waiting row is replaced");
}

#[test]
fn more_rows_than_a_transaction_takes_are_all_written() {
    let dir = tempfile::tempdir().unwrap();
    let cache = RegionCache::open(dir.path(), CLUSTER_ID).unwrap();
    let all: Vec<_> = (1..=2 * ROWS_AT_ONCE as u64 + 1).collect();
    all.iter().rev().for_each(|id| cache.put(&region(*id)));
    assert_eq!(cache.flush().unwrap(), all.len());
    assert_eq!(ids(&cache), all);
}
