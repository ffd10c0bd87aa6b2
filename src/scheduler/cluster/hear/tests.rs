#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    model::{DownPeer, Epoch, PeerId, StoreId},
    scheduler::{admin::Request, effect::Event, testing::World, view::IdSource},
};

#[derive(Debug)]
struct NoIds;

impl IdSource for NoIds {
    fn next_peer_id(&self) -> Option<PeerId> {
        None
    }
}

fn cluster() -> (Cluster, Now) {
    let world = World::new(4);
    let cluster = Cluster::new(world.settings.clone(), Arc::new(NoIds), world.now);
    for store in world.stores.snapshot().values() {
        cluster.put_store(store.record.clone(), world.now);
        cluster.store_heartbeat(store.id(), crate::model::StoreStats::clone(&store.stats), world.now);
    }
    (cluster, world.now)
}

/// Whether a report has anybody wait for others' effects.
fn is_carried(cluster: &Cluster, region: Region, now: Now) -> bool {
    let mut carried = false;
    cluster.hear(region, now, |decide| carried = !decide().is_empty() || carried).unwrap();
    carried
}

#[test]
fn a_report_with_nothing_to_tell_waits_for_nobody() {
    let (cluster, now) = cluster();
    let region = World::region(1, &[1, 2, 3]);
    assert!(is_carried(&cluster, region.clone(), now), "a new region goes into the cache");
    let quiet = |region: Region| cluster.hear(region, now, |_| panic!("it waits for the effects of others")).unwrap();
    quiet(region.clone());
    quiet(Region { size_mib: 97, pending: vec![PeerId(12)], ..region.clone() });
    let loud = Region { leader: Some(PeerId(12)), term: 6, ..region.clone() };
    assert!(is_carried(&cluster, loud.clone(), now), "another leader");
    let down = vec![DownPeer { peer: PeerId(13), seconds: 5 }];
    assert!(is_carried(&cluster, Region { down, ..loud.clone() }, now), "a peer that is down on a living store");
    cluster.admin(&Request::TransferLeader { region: region.id(), to: StoreId(1) }, "", now).unwrap();
    assert!(is_carried(&cluster, loud, now), "the operator has to see it");
}

/// What a cache and a log would hold of effects, in the order in which they came.
#[derive(Default)]
struct Told {
    cached: BTreeMap<RegionId, Arc<Region>>,
    changes: Vec<(Arc<Region>, Arc<Region>)>,
}

impl Told {
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::CacheRegion(region) => _ = self.cached.insert(region.id(), region),
                Effect::ForgetRegion(id) => _ = self.cached.remove(&id),
                Effect::Tell(Event::RegionChanged { origin: Some(origin), region }) => {
                    self.changes.push((origin, region));
                }
                Effect::Send(_) | Effect::Tell(_) => {}
            }
        }
    }
}

/// The next report of the region at `at`, by any of its peers; if `pushes`, now and then one that pushes its neighbour out.
fn report(cluster: &Cluster, at: u64, pushes: bool, rng: &mut ChaCha8Rng) -> Region {
    let known = cluster.regions().get(RegionId(at * 10));
    let mut region = known.map_or_else(|| World::region(at, &[1, 2, 3]), |r| Region::clone(&r));
    if region.epoch() == Epoch::new(1, 1) {
        // An epoch that counts as made anew would let the region go back.
        Arc::make_mut(&mut region.meta).epoch = Epoch::new(2, 2);
    }
    region.term += 1;
    region.leader = Some(PeerId(at * 10 + rng.random_range(1..=3)));
    let meta = Arc::make_mut(&mut region.meta);
    match rng.random_range(0..8) {
        0 => meta.epoch.conf_ver += 1,
        1 => meta.epoch.version += 1,
        2 if pushes => {
            meta.epoch.version += 2;
            meta.range.end = (at + 2).to_be_bytes().to_vec().into();
        }
        3 if pushes => {
            meta.epoch.version += 2;
            meta.range.end = (at + 1).to_be_bytes().to_vec().into();
        }
        _ => {}
    }
    region
}

/// Reports of a few regions from many threads, and ticks.
fn storm(seed: u64, count: usize, pushes: bool) -> (Cluster, Told) {
    const REGIONS: u64 = 4;
    let (cluster, now) = cluster();
    let (told, done) = (Mutex::new(Told::default()), AtomicBool::new(false));
    let reports = &|thread: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | thread);
        for _ in 0..count {
            let region = report(&cluster, rng.random_range(1..=REGIONS), pushes, &mut rng);
            // Many are stale by then, as reports of two stores about one region are.
            _ = cluster.hear(region, now, |decide| {
                // Others run meanwhile: without the region's turn its next report would overtake this one here.
                std::thread::sleep(Duration::from_micros(20));
                let mut told = told.lock();
                told.take(decide());
            });
        }
    };
    std::thread::scope(|scope| {
        let ticks = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut told = told.lock();
                told.take(cluster.tick(now));
                drop(told);
                std::thread::yield_now();
            }
        });
        let reporters: Vec<_> = (0..6).map(|thread| scope.spawn(move || reports(thread))).collect();
        reporters.into_iter().for_each(|r| r.join().unwrap());
        done.store(true, Ordering::Relaxed);
        ticks.join().unwrap();
    });
    (cluster, told.into_inner())
}

#[test]
fn changes_are_told_in_their_order_under_threads() {
    let (_, told) = storm(0, 2500, false);
    assert!(told.changes.len() > 1000, "{}", told.changes.len());
    let mut last: BTreeMap<RegionId, u64> = BTreeMap::new();
    for (origin, region) in &told.changes {
        let before = last.insert(region.id(), region.term).unwrap_or(0);
        assert!(origin.term >= before, "region {} is told out of order", region.id());
    }
}

#[test]
fn the_cache_holds_what_the_index_holds_under_threads() {
    // Short ones, for what went wrong is put right by later reports.
    for seed in 0..200 {
        let (cluster, told) = storm(seed, 20, true);
        let index = cluster.regions().scan(&crate::model::KeyRange::all(), 100);
        let held: BTreeSet<RegionId> = index.iter().map(|r| r.id()).collect();
        assert_eq!(told.cached.keys().copied().collect::<BTreeSet<_>>(), held, "seed {seed}");
        for (id, cached) in told.cached {
            assert_eq!(cached.meta, cluster.regions().get(id).unwrap().meta, "seed {seed}: the newest of region {id}");
        }
    }
}
