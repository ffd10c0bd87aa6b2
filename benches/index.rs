//! Costs of the observed state: memory a region, heartbeats, reads, the region cache. `cargo bench --bench index [regions]`
//! prints one line a figure. One thread, so the figures are CPU time too.

// A driver reads the clock and prints.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use berth::{
    model::{ClusterId, Epoch, Key, KeyRange, Mono, Peer, PeerId, Region, RegionId, RegionMeta, StoreId},
    store::{Held, RegionIndex, cache::RegionCache},
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

const STORES: u64 = 20;

/// A key of a row in a table, as SQL nodes write them: 27 bytes.
fn key(n: u64, regions: u64) -> Key {
    if n == 0 || n == regions {
        return Key::empty();
    }
    Key::from(format!("t{:08x}_r{n:016x}_", n / 100).into_bytes())
}

/// The report of region `n` of `regions`, with buffers of its own as one decoded from the wire.
fn report(n: u64, regions: u64, size_mib: u64, conf_ver: u64, leader: u64) -> Region {
    let peers = (0..3).map(|at| Peer::voter(n * 4 + at + 1, (n + at * 7) % STORES + 1)).collect();
    let meta = RegionMeta {
        id: RegionId(n * 4 + 4),
        range: KeyRange { start: key(n, regions), end: key(n + 1, regions) },
        epoch: Epoch::new(conf_ver, 2),
        peers,
    };
    Region {
        meta: Arc::new(meta),
        leader: Some(PeerId(n * 4 + leader % 3 + 1)),
        term: 6,
        size_mib,
        keys: size_mib * 1000,
        heard: Some(Mono(1)),
        ..Region::default()
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn timed(name: &str, times: u64, work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    let took = start.elapsed();
    println!(
        "{name}: {:.3} µs each, {:.1} ms in all",
        took.as_secs_f64() * 1e6 / times.max(1) as f64,
        took.as_secs_f64() * 1e3
    );
    took
}

/// 15 % with another size, 4 % with another epoch, 6 % with another leader.
fn heartbeats(index: &RegionIndex, regions: u64) {
    const ROUND: u64 = 1_000_000;
    let mut random = SmallRng::seed_from_u64(1);
    let mut state = vec![(96_u64, 5_u64, 0_u64); usize::try_from(regions).unwrap()];
    // Reports are made beforehand, so few at a time that they are still warm, as just decoded: only taking them in is timed.
    let (mut spent, mut left) = (Duration::ZERO, ROUND);
    while left > 0 {
        let batch: Vec<_> = (0..left.min(200))
            .map(|_| {
                let n = random.random_range(0..regions);
                let (size, conf_ver, leader) = &mut state[usize::try_from(n).unwrap()];
                *size = if random.random_bool(0.15) { random.random_range(1..200) } else { *size };
                *conf_ver += u64::from(random.random_bool(0.04));
                *leader += u64::from(random.random_bool(0.06));
                report(n, regions, *size, *conf_ver, *leader)
            })
            .collect();
        left -= batch.len() as u64;
        let start = Instant::now();
        for report in batch {
            let _ = black_box(index.apply(report));
        }
        spent += start.elapsed();
    }
    println!("steady heartbeat: {:.3} µs each", spent.as_secs_f64() * 1e6 / ROUND as f64);
}

fn reads(index: &RegionIndex, regions: u64) {
    let mut random = SmallRng::seed_from_u64(2);
    let keys: Vec<_> = (0..200_000).map(|_| key(random.random_range(0..regions), regions)).collect();
    timed("region by key", keys.len() as u64, || keys.iter().for_each(|key| drop(black_box(index.by_key(key)))));
    timed("region by id", 200_000, || {
        for _ in 0..200_000 {
            black_box(index.get(RegionId(random.random_range(0..regions) * 4 + 4)));
        }
    });
    let all = KeyRange::all();
    timed("sum of the whole range", 100, || (0..100).for_each(|_| drop(black_box(index.stats(&all)))));
    let part = KeyRange { start: key(regions / 5, regions), end: key(regions / 2, regions) };
    timed("sum of a part", 100, || (0..100).for_each(|_| drop(black_box(index.stats(&part)))));
    timed("patrol batch of 128", 1000, || {
        for at in 0..1000 {
            black_box(index.iter_from(&key(at * regions / 1000, regions), 128));
        }
    });
    timed("random leader of a store", 1000, || {
        for _ in 0..1000 {
            black_box(index.random_of_store(StoreId(3), Held::Leader, random.random()));
        }
    });
    timed("all regions of a store", 1, || drop(black_box(index.of_store(StoreId(3), Held::Any, usize::MAX))));
}

fn cache(regions: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || RegionCache::open(dir.path(), ClusterId(1)).expect("a cache");
    let file = open();
    let mut order: Vec<_> = (0..regions).collect();
    order.shuffle(&mut SmallRng::seed_from_u64(3));
    timed("cache: write a row", regions, || {
        for batch in order.chunks(10_000) {
            for &n in batch {
                file.put(&report(n, regions, 96, 5, 0));
            }
            file.flush().expect("written");
        }
    });
    drop(file);
    let index = RegionIndex::default();
    timed("cache: open, load and index a row", regions, || {
        for region in open().load().expect("readable") {
            assert!(index.load(region), "no conflict");
        }
    });
    assert_eq!(index.len() as u64, regions);
}

fn main() {
    let regions = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let index = RegionIndex::default();
    let mut order: Vec<_> = (0..regions).collect();
    order.shuffle(&mut SmallRng::seed_from_u64(4));
    let before = resident_bytes();
    timed("first heartbeat, with the making of the report", regions, || {
        for &n in &order {
            index.apply(report(n, regions, 96, 5, 0)).expect("no conflict");
        }
    });
    println!("memory: {} bytes a region", (resident_bytes() - before) / regions.max(1));
    heartbeats(&index, regions);
    println!("memory after heartbeats: {} bytes a region", (resident_bytes() - before) / regions.max(1));
    reads(&index, regions);
    drop(index);
    cache(regions);
}
