//! What a preview of a drain says, against the drain: random clusters in the deterministic simulator, from the question to Tombstone.

// What tests may and the crate may not: panic, print.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, unreachable_pub)]
mod common {
    pub mod told;
}

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use berth::{
    config::{
        Config,
        flags::Flags,
        load::{self, Host},
    },
    meta::LimitKind,
    model::{StoreId, StoreState},
    sim::Snapshots,
    world::{
        plan::{Plan, RegionPlan, StorePlan},
        world::{STEP, World},
    },
};
use common::told::tell;
use rand::{Rng, SeedableRng, seq::IteratorRandom};
use rand_chacha::ChaCha8Rng;

/// Clusters that are compared, unless `BERTH_PREVIEWS` says how many.
const CLUSTERS: u64 = 30;
/// How far a preview may be off, as a share of what the drain takes.
const MAY_MISS: f64 = 0.2;
/// The store that the preview is about.
const VICTIM: StoreId = StoreId(2);
/// The store that is drained before, so that moves have been measured.
const EARLIER: StoreId = StoreId(1);
/// No drain here takes longer, in virtual time.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// A rate that holds nothing back.
const FREE: f64 = 20_000.0;

/// A step of the simulator is its tick.
fn config() -> Config {
    let file = format!("[schedule]\npatrol-region-interval = \"{}ms\"\n", STEP.as_millis());
    let host = Host { name: "sim".into(), directory: PathBuf::from("/") };
    load::load(&Flags::default(), Some(&file), &host).unwrap().config
}

fn until(world: &mut World, what: &str, done: impl Fn(&World) -> bool) -> Duration {
    let began = world.elapsed();
    while !done(world) {
        world.step();
        assert!(world.elapsed() - began < PATIENCE, "{what} never comes");
        assert!(world.broken().is_empty(), "{}", world.broken()[0]);
    }
    world.elapsed() - began
}

fn pass(world: &mut World, time: Duration) {
    (0..time.as_millis() / STEP.as_millis()).for_each(|_| world.step());
}

fn state(world: &World, store: StoreId) -> StoreState {
    world.control.cluster().stores().get(store).unwrap().record.state
}

/// Deletes a store: when it is empty, and when it is Tombstone.
fn drain(world: &mut World, store: StoreId) -> (f64, f64) {
    world.call(|control, now| control.offline(store, false, now)).unwrap();
    let empty = until(world, "an empty store", |w| w.fleet.peers_on(store) == 0);
    let buried = until(world, "Tombstone", |w| state(w, store) == StoreState::Tombstone);
    (empty.as_secs_f64(), (empty + buried).as_secs_f64())
}

/// A cluster of this seed, ready to be asked, and what it is like in words.
fn cluster(seed: u64, measured: bool) -> (World, String) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let stores = rng.random_range(6..=9);
    let (count, size) = (rng.random_range(60..=300), *[4, 10, 96, 96, 300].iter().choose(&mut rng).unwrap());
    let zones = rng.random_ratio(1, 4);
    let store = |id: u64| {
        let labels = if zones { vec![("zone".to_owned(), format!("z{}", id % 3))] } else { vec![] };
        (StoreId(id), StorePlan { labels, ..StorePlan::default() })
    };
    let plan = Plan {
        seed,
        stores: (1..=stores).map(store).collect(),
        regions: vec![RegionPlan { count, size_mib: size, on: vec![], replicas: 3 }],
        schedulers: false,
    };
    let mut world = World::new(&plan, &config(), None).unwrap();
    let slots: u64 = rng.random_range(1..64);
    let labels = if zones { "zone" } else { "" };
    let items = serde_json::json!({ "replica-schedule-limit": slots, "location-labels": labels }).to_string();
    world.call(|control, now| control.post_config(items.as_bytes(), now)).unwrap();
    let rates = match rng.random_range(0..3) {
        0 => None,
        1 => Some(10..60_u32),
        _ => Some(60..240),
    };
    for id in (1..=stores).map(StoreId) {
        let rate = rates.clone().map_or(FREE, |rates| f64::from(rng.random_range(rates)));
        world.call(|control, now| control.set_limit(id, LimitKind::AddPeer, rate, now)).unwrap();
        world.call(|control, now| control.set_limit(id, LimitKind::RemovePeer, FREE, now)).unwrap();
    }
    // Nodes that receive snapshots at once, or one after another in some seconds each.
    let slow = if rng.random() { rng.random_range(1..8) } else { 0 };
    if slow > 0 {
        (1..=stores).for_each(|id| _ = world.fleet.set_snapshots(StoreId(id), Snapshots::Slow(slow)));
    }
    until(&mut world, "prepared", |w| w.control.cluster().is_prepared());
    pass(&mut world, Duration::from_secs(90));
    if measured {
        drain(&mut world, EARLIER);
        pass(&mut world, Duration::from_secs(120));
    }
    let words = format!(
        "{stores} stores{}, {count} regions of {size} MiB, {slots} slots, rates {rates:?}, snapshots {slow} s",
        if zones { " in zones" } else { "" },
    );
    (world, words)
}

/// What was said and what came: seconds until the store is empty, and until it is Tombstone.
struct Compared {
    said: (f64, f64),
    came: (f64, f64),
    limit: &'static str,
    measured: bool,
}

impl Compared {
    fn of(seed: u64, measured: bool) -> Self {
        let (mut world, words) = cluster(seed, measured);
        let told = world.control.cluster().preview_drain(VICTIM, world.now()).unwrap();
        assert!(told.allowed.is_ok() && !told.is_held(), "seed {seed}: {told:?}");
        let said = (told.takes.unwrap().as_secs_f64(), told.tombstone_after.unwrap().as_secs_f64());
        let came = drain(&mut world, VICTIM);
        let found = Self { said, came, limit: told.limit.name(), measured: told.move_takes.1 };
        println!(
            "seed {seed}: empty {:.1} s of {:.1} s said: {:.2}; Tombstone after {:.1} s, {:.1} s said at the latest; {}; {words}",
            came.0,
            said.0,
            found.ratio(),
            came.1,
            said.1,
            found.limit,
        );
        found
    }

    fn ratio(&self) -> f64 {
        self.said.0 / self.came.0
    }

    /// The time of the last move is told, and the latest time of the burial, which depends on when the store reports. A drain of less
    /// than a second cannot be told more finely than the simulator's steps: from the call to the first look, from the end to its report.
    fn holds(&self, may_miss: f64) -> bool {
        let may = (self.came.0 * may_miss).max(2.0 * STEP.as_secs_f64());
        let buried = self.came.1;
        (self.said.0 - self.came.0).abs() <= may && self.said.0 - may <= buried && buried <= self.said.1 + may
    }
}

/// How many clusters are compared.
fn clusters() -> u64 {
    std::env::var("BERTH_PREVIEWS").ok().and_then(|text| text.parse().ok()).unwrap_or(CLUSTERS)
}

/// What so many of the misses (a share) are not larger than, as a percentage; they are in order.
fn percentile(misses: &[f64], share: f64) -> f64 {
    misses[((misses.len() - 1) as f64 * share).round() as usize] * 100.0
}

#[test]
fn a_preview_is_within_a_fifth_of_what_the_drain_takes_in_the_simulator() {
    let found: BTreeMap<u64, Compared> = (1..=clusters()).map(|seed| (seed, Compared::of(seed, true))).collect();
    let missed: Vec<u64> = found.iter().filter(|(_, one)| !one.holds(MAY_MISS)).map(|(seed, _)| *seed).collect();
    let limits: BTreeSet<&str> = found.values().map(|one| one.limit).collect();
    let mut misses: Vec<f64> = found.values().map(|one| (one.ratio() - 1.0).abs()).collect();
    misses.sort_by(f64::total_cmp);
    tell(&format!(
        "previews: {} compared with their drains, off by {:.1} % (median), {:.1} % (nine of ten), {:.1} % (the worst); \
         {} by more than may be: {missed:?}; limits: {limits:?}",
        found.len(),
        percentile(&misses, 0.5),
        percentile(&misses, 0.9),
        percentile(&misses, 1.0),
        missed.len(),
    ));
    assert!(found.values().all(|one| one.measured), "moves were measured before each question");
    assert!(missed.iter().all(|seed| *seed > CLUSTERS), "{missed:?}");
    assert!(found.len() as u64 >= CLUSTERS && missed.len() * 10 <= found.len(), "{missed:?}");
    assert!(limits.len() >= 3, "{limits:?}");
}

/// What nobody has measured nobody can foretell: without a move before, the answer goes by an assumption and says so. No ratio is
/// asked for: nodes may be ten times as quick as assumed, or as slow.
#[test]
fn a_preview_before_the_first_move_says_that_nothing_was_measured() {
    let found: Vec<Compared> = (31..=36).map(|seed| Compared::of(seed, false)).collect();
    let held = found.iter().filter(|one| one.holds(MAY_MISS)).count();
    println!("{held} of {} within a fifth", found.len());
    assert!(found.iter().all(|one| !one.measured));
}
