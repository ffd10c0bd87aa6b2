//! Many threads at once: what they leave behind equals a fresh index, and a reader never sees sums that cannot be.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

const THREADS: u64 = 4;
const ROUNDS: u64 = 4_000;
/// The largest size that a report of these tests gives.
const MAX_SIZE: u64 = 100;

/// The sums of a list equal those of the index that it was read from.
fn assert_sums_fit(index: &RegionIndex) {
    let list = index.scan(&KeyRange::all(), usize::MAX);
    let naive = Naive(list.iter().map(|r| Region::clone(r)).collect());
    assert_same(index, &naive, (7, 31));
}

/// A thread's share of the key space, which it splits, merges and reports over and over, as one raft leader would.
fn churn(index: &RegionIndex, thread: u64) {
    let width = KEYS / u16::try_from(THREADS).unwrap();
    let first = width * u16::try_from(thread).unwrap();
    let last = if thread + 1 == THREADS { KEYS } else { first + width };
    let mut random = SmallRng::seed_from_u64(thread);
    let mut version = 1;
    for round in 0..ROUNDS {
        version += 1;
        let cut = random.random_range(first + 1..last);
        let id = 1000 * (thread + 1);
        let parts = if round % 3 == 0 { vec![(id, first, last)] } else { vec![(id + 1, cut, last), (id, first, cut)] };
        for (id, start, end) in parts {
            let mut report = region(id, start, end, 1, version);
            report.size_mib = random.random_range(0..=MAX_SIZE);
            report.leader = Some(report.peers()[random.random_range(0..3)].id);
            report.heard = random.random_bool(0.9).then_some(Mono(1));
            index.apply(report.clone()).unwrap();
            report.size_mib = random.random_range(0..=MAX_SIZE);
            report.leader = Some(report.peers()[random.random_range(0..3)].id);
            index.apply(report).unwrap();
        }
    }
}

/// Reads everything until `stop`; every answer must be one that a moment could give.
fn watch(index: &RegionIndex, stop: &AtomicBool) -> u64 {
    let mut reads = 0;
    let most = 2 * THREADS;
    while !stop.load(Ordering::Relaxed) {
        let stats = index.stats(&KeyRange::all());
        assert!(stats.count <= most && stats.empty_count <= stats.count, "{stats:?}");
        assert!(stats.size_mib <= most * MAX_SIZE, "{stats:?}");
        for store in stats.stores.values() {
            assert!(store.peer_count <= most && store.peer_size_mib <= most * MAX_SIZE, "{stats:?}");
            assert!(store.leader_count <= store.peer_count);
        }
        let list = index.scan(&KeyRange::all(), usize::MAX);
        for pair in list.windows(2) {
            assert!(pair[0].range().end <= pair[1].range().start, "H2: {pair:?}");
        }
        for n in 0..KEYS {
            if let Some(region) = index.by_key(&key(n)) {
                assert!(region.range().contains(&key(n)));
            }
        }
        for store in (1..=STORES).map(StoreId) {
            let summary = index.summary(store);
            assert!(summary.region_count <= most && summary.leader_count <= most, "{summary:?}");
            assert!(index.of_store(store, Held::Any, 3).len() <= 3);
            let _ = index.random_of_store(store, Held::Leader, reads);
        }
        reads += 1;
    }
    reads
}

#[test]
fn h7_a_reader_never_sees_a_sum_that_cannot_be_and_the_rest_is_exact() {
    let index = small();
    let (stop, writers) = (AtomicBool::new(false), AtomicU64::new(THREADS));
    let reads = thread::scope(|scope| {
        let reader = scope.spawn(|| watch(&index, &stop));
        for thread in 0..THREADS {
            let (index, stop, writers) = (&index, &stop, &writers);
            scope.spawn(move || {
                churn(index, thread);
                if writers.fetch_sub(1, Ordering::Relaxed) == 1 {
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
        reader.join().unwrap()
    });
    assert!(reads > 10, "the reader has to have met the writers: {reads}");
    assert!(index.len() as u64 >= THREADS);
    assert_sums_fit(&index);
}

#[test]
fn h3_heartbeats_of_one_region_at_once_end_as_some_serial_order_would() {
    for seed in 0..40 {
        let index = small();
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (index, barrier) = (&index, &barrier);
                scope.spawn(move || {
                    let mut random = SmallRng::seed_from_u64(seed * 100 + thread);
                    barrier.wait();
                    for _ in 0..50 {
                        let (conf_ver, version) = (random.random_range(2..20), random.random_range(2..20));
                        // The range follows from the version, as it does in a real cluster.
                        let end = u16::try_from(10 + version).unwrap();
                        let _ = index.apply(region(1, 5, end, conf_ver, version));
                        let _ = index.apply(region(2 + thread, 5 + end, 40 + end, conf_ver, version));
                    }
                    // Whatever came before, the newest wins in every order.
                    let _ = index.apply(region(1, 5, 40, 20 + thread, 30));
                    let _ = index.apply(region(1, 5, 40, 20, 30));
                });
            }
        });
        let region = index.get(RegionId(1)).unwrap();
        assert_eq!(region.epoch(), Epoch::new(27, 30), "H1 under threads: the greatest accepted epoch stays");
        assert_eq!(index.by_key(&key(20)).unwrap().id(), RegionId(1));
        assert_sums_fit(&index);
    }
}
