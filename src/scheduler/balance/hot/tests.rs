#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    model::{Flow, PeerTraffic, Region, StoreId, StoreState, StoreStats},
    scheduler::{
        balance::{
            Config, Kind, Schedulers, Spec, Updated,
            dice::Dice,
            tests::{once, one_empty, plain, run_for, spec, unlimited},
        },
        operator::{Kind as OperatorKind, Priority},
        testing::World,
    },
};

const TEN: Duration = Duration::from_secs(10);

/// Reports of all regions with the flow of a minute that they have now.
pub(in crate::scheduler::balance) fn tell_regions(world: &World, mut region: impl FnMut(&Region)) {
    for known in world.regions.iter_from(&[], usize::MAX) {
        let mut report = (*known).clone();
        report.flow.interval = (1000, 1060);
        region(&report);
    }
}

/// Reports of all stores about ten seconds of that flow: leaders serve all reads.
pub(in crate::scheduler::balance) fn tell_stores(world: &World, mut store: impl FnMut(StoreId, &StoreStats)) {
    let mut stores: BTreeMap<StoreId, StoreStats> = BTreeMap::new();
    for (id, info) in world.stores.snapshot().iter() {
        let silent = StoreStats { interval: (1000, 1010), ..StoreStats::clone(&info.stats) };
        let (bytes_read, keys_read, read_query, bytes_written, keys_written, write_query) = (0, 0, 0, 0, 0, 0);
        let disk = StoreStats {
            bytes_read,
            keys_read,
            read_query,
            bytes_written,
            keys_written,
            write_query,
            peers: vec![],
            ..silent
        };
        stores.insert(*id, disk);
    }
    for region in world.regions.iter_from(&[], usize::MAX) {
        let flow = region.flow;
        for peer in region.peers() {
            let Some(stats) = stores.get_mut(&peer.store) else { continue };
            stats.bytes_written += flow.bytes_written / 6;
            stats.keys_written += flow.keys_written / 6;
        }
        let Some(stats) = region.leader_store().and_then(|leader| stores.get_mut(&leader)) else { continue };
        let (bytes_read, keys_read, read_query) = (flow.bytes_read / 6, flow.keys_read / 6, flow.read_query / 6);
        stats.bytes_read += bytes_read;
        stats.keys_read += keys_read;
        stats.read_query += read_query;
        stats.write_query += flow.write_query / 6;
        if bytes_read + keys_read + read_query > 0 {
            stats.peers.push(PeerTraffic { region: region.id(), bytes_read, keys_read, read_query, cpu: 0 });
        }
    }
    for (id, stats) in &stores {
        store(*id, stats);
        world.hear_store(*id, stats.clone());
    }
}

/// Traffic a second.
#[derive(Clone, Copy, Default)]
struct Traffic {
    read: u64,
    read_keys: u64,
    written: u64,
    written_keys: u64,
}

fn heat(world: &mut World, at: u64, traffic: Traffic) {
    let flow = Flow {
        bytes_read: traffic.read * 60,
        keys_read: traffic.read_keys * 60,
        bytes_written: traffic.written * 60,
        keys_written: traffic.written_keys * 60,
        ..Flow::default()
    };
    let region = Region { flow, ..(*world.get(at * 10)).clone() };
    world.report(region);
}

/// Lets nodes report as they do and schedulers work; how many operators came in each minute.
fn minutes(world: &mut World, schedulers: &mut Schedulers, minutes: usize) -> Vec<usize> {
    let mut moved = Vec::new();
    for _ in 0..minutes {
        let mut count = 0;
        tell_regions(world, |region| schedulers.on_heartbeat(region, world.now));
        for _ in 0..6 {
            tell_stores(world, |store, stats| {
                schedulers.on_store_heartbeat(store, stats, &world.regions, world.now);
            });
            count += run_for(world, schedulers, TEN).values().sum::<usize>();
        }
        moved.push(count);
    }
    moved
}

/// What stores bear: of all regions what `of` says, for leaders or for all peers.
fn bear(world: &World, stores: u64, leaders: bool, of: impl Fn(Flow) -> u64) -> Vec<u64> {
    let mut sums = vec![0; usize::try_from(stores).unwrap()];
    for region in world.regions.iter_from(&[], usize::MAX) {
        for peer in region.peers().iter().filter(|p| !leaders || region.leader == Some(p.id)) {
            sums[usize::try_from(peer.store.0).unwrap() - 1] += of(region.flow) / 60;
        }
    }
    sums
}

/// The busiest in hundredths of the mean.
fn peak(loads: &[u64]) -> u64 {
    let mean = loads.iter().sum::<u64>() / loads.len() as u64;
    loads.iter().max().unwrap() * 100 / mean.max(1)
}

fn hot_only(config: &Value) -> Vec<Spec> {
    let mut spec = plain(Kind::HotRegion);
    let Value::Object(config) = config else { panic!("an object") };
    if let Updated::To(next) = spec.config.update(config).unwrap() {
        spec.config = next;
    }
    assert!(matches!(spec.config, Config::HotRegion(_)));
    vec![spec]
}

/// `stores` stores and `regions` regions, placed and heated as told; then balanced for an hour: (world, schedulers, operators in
/// each minute).
fn balanced(
    (stores, regions): (u64, u64),
    config: &Value,
    place: impl Fn(u64) -> Vec<u64>,
    traffic: impl Fn(u64) -> Traffic,
) -> (World, Schedulers, Vec<usize>) {
    let mut world = World::new(stores);
    unlimited(&mut world, stores);
    world.fill(regions, place);
    (1..=regions).for_each(|at| heat(&mut world, at, traffic(at)));
    let mut schedulers = Schedulers::new(stores + regions);
    schedulers.set(hot_only(config), world.now);
    let moved = minutes(&mut world, &mut schedulers, 40);
    (world, schedulers, moved)
}

/// Nothing moves any more, for twenty minutes.
fn assert_still(world: &mut World, schedulers: &mut Schedulers, what: &str) {
    let moved = minutes(world, schedulers, 20);
    assert!(moved.iter().all(|count| *count == 0), "{what}: {moved:?}");
}

#[test]
fn hot_leaders_and_peers_move_to_where_less_is_done() {
    let mut world = one_empty(30);
    for at in [3, 6, 9] {
        heat(&mut world, at, Traffic { read: 1 << 20, ..Traffic::default() });
    }
    let (ops, _) = once(&mut world, &plain(Kind::HotRegion), 1);
    let [op] = &ops[..] else { panic!("one operator") };
    let leads = op.desc == "transfer-hot-read-leader";
    assert!(leads || op.desc == "move-hot-read-leader", "{}", op.text());
    let choice = op.choice.as_deref().expect("a choice");
    let [(to, least), ..] = choice.scores[..] else { panic!("{choice:?}") };
    assert_eq!(Some(to), choice.chosen, "to the one that bears least");
    assert!(choice.scores.iter().all(|(_, borne)| *borne >= least), "{choice:?}");
    let kind = if leads { OperatorKind::LEADER } else { OperatorKind::REGION };
    assert!(op.kind.has(OperatorKind::HOT_REGION | kind) && op.priority == Priority::High);
    let leaders = once(&mut world, &plain(Kind::BalanceLeader), 1).0;
    assert!(leaders.iter().all(|op| ![30, 60, 90].contains(&op.region.0)), "others leave hot regions alone");
    // One hot region alone on its store can only change places.
    let mut world = one_empty(30);
    heat(&mut world, 3, Traffic { read: 1 << 20, ..Traffic::default() });
    assert!(once(&mut world, &plain(Kind::HotRegion), 1).0.is_empty());
    // Writes are borne by all peers: store 4 takes some.
    let mut world = one_empty(30);
    for at in [1, 2, 4, 5] {
        heat(&mut world, at, Traffic { written: 1 << 20, ..Traffic::default() });
    }
    let (ops, _) = once(&mut world, &plain(Kind::HotRegion), 2);
    assert!(ops[0].desc.starts_with("move-hot-write-") && ops[0].brief.ends_with("to [4]"), "{}", ops[0].text());
    let choice = ops[0].choice.as_deref().expect("a choice");
    assert_eq!((choice.chosen, &choice.scores[..]), (Some(StoreId(4)), &[(StoreId(4), 0.0)][..]));
    assert_eq!(choice.refused["exclude-filter"].len(), 2, "{choice:?}");
    assert!(ops[0].kind.has(OperatorKind::HOT_REGION | OperatorKind::REGION));
}

#[test]
fn skewed_reads_become_even_and_then_rest() {
    for version in ["v1", "v2"] {
        let config = json!({ "rank-formula-version": version });
        let read = |at: u64| Traffic { read: (at % 7 + 1) << 20, read_keys: (at % 7 + 1) << 10, ..Traffic::default() };
        let place = |at: u64| vec![at % 2 + 1, at % 3 + 3, (at + 1) % 3 + 3];
        let (mut world, mut schedulers, moved) = balanced((5, 40), &config, place, read);
        let loads = bear(&world, 5, true, |flow| flow.bytes_read);
        assert!(peak(&loads) <= 125, "{version}: {loads:?} after {moved:?}");
        assert_still(&mut world, &mut schedulers, version);
    }
}

#[test]
fn skewed_writes_become_even_and_then_rest() {
    for version in ["v1", "v2"] {
        let config = json!({ "rank-formula-version": version });
        let written = |at: u64| {
            let size = if at.is_multiple_of(2) { at % 5 + 1 } else { 0 };
            Traffic { written: size << 20, written_keys: size << 10, ..Traffic::default() }
        };
        let place = |at: u64| if at.is_multiple_of(2) { vec![1, 2, 3] } else { vec![4, 5, 6] };
        let (mut world, mut schedulers, moved) = balanced((6, 80), &config, place, written);
        let loads = bear(&world, 6, false, |flow| flow.bytes_written);
        assert!(peak(&loads) <= 125, "{version}: {loads:?} after {moved:?}");
        assert_still(&mut world, &mut schedulers, version);
    }
}

#[test]
fn two_dimensions_at_odds_come_to_an_end() {
    for version in ["v1", "v2"] {
        let config = json!({ "rank-formula-version": version, "strict-picking-store": "false" });
        // Bytes on the first stores, keys on the others.
        let read = |at: u64| {
            let many = (at % 4 + 1) * 4;
            match at % 2 {
                0 => Traffic { read: many << 20, read_keys: 200, ..Traffic::default() },
                _ => Traffic { read: 60, read_keys: many << 10, ..Traffic::default() },
            }
        };
        let place = |at: u64| if at.is_multiple_of(2) { vec![1, 2, 3] } else { vec![4, 3, 5] };
        let (mut world, mut schedulers, moved) = balanced((5, 40), &config, place, read);
        let bytes = bear(&world, 5, true, |flow| flow.bytes_read);
        let keys = bear(&world, 5, true, |flow| flow.keys_read);
        assert!(peak(&bytes) <= 150, "{version}: bytes {bytes:?} after {moved:?}");
        if version == "v2" {
            assert!(peak(&keys) <= 200, "{version}: keys {keys:?} after {moved:?}");
        }
        assert_still(&mut world, &mut schedulers, version);
    }
}

#[test]
fn reads_and_writes_of_any_shape_come_to_an_end() {
    for seed in 0..6 {
        let version = if seed % 2 == 0 { "v2" } else { "v1" };
        let config = json!({ "rank-formula-version": version, "write-leader-priorities": ["byte", "key"] });
        let any = |at: u64, most: usize| Dice::new(seed * 1000 + at).below(most) as u64;
        let traffic = |at: u64| Traffic {
            read: any(at, 9) << 18,
            read_keys: any(at + 100, 5) << 9,
            written: any(at + 200, 7) << 18,
            written_keys: any(at + 300, 5) << 8,
        };
        let place = |at: u64| {
            let first = any(at, 3) + 1;
            vec![first, first % 3 + 1, 4]
        };
        let (mut world, mut schedulers, moved) = balanced((6, 30), &config, place, traffic);
        assert!(moved.iter().sum::<usize>() > 0, "seed {seed}");
        assert_still(&mut world, &mut schedulers, &format!("seed {seed} after {moved:?}"));
    }
}

#[test]
fn what_is_being_emptied_neither_gives_nor_takes() {
    let mut world = World::new(5);
    unlimited(&mut world, 5);
    world.fill(30, |at| vec![at % 2 + 1, 3, 4]);
    (1..=30).for_each(|at| {
        heat(&mut world, at, Traffic { read: 1 << 20, written: 1 << 20, ..Traffic::default() });
    });
    world.set_state(5, StoreState::Offline);
    world.set_state(3, StoreState::Offline);
    for seed in 0..20 {
        for op in once(&mut world, &plain(Kind::HotRegion), seed).0 {
            let touched: Vec<u64> =
                op.steps.iter().flat_map(|step| step.influence(op.size_mib)).map(|(store, _)| store.0).collect();
            assert!(!touched.contains(&3) && !touched.contains(&5), "{}", op.text());
        }
    }
}

#[test]
fn by_hand_hot_leaders_are_gathered_or_moved_about() {
    let read = |world: &mut World| {
        (1..=12).for_each(|at| heat(world, at, Traffic { read: 1 << 20, written: 1 << 20, ..Traffic::default() }));
    };
    let mut world = one_empty(12);
    read(&mut world);
    let grant = spec(Kind::GrantHotRegion, &["2", "1,4"], json!({}));
    assert_eq!(grant.config.show(), json!({"store-id": [1, 4, 2], "store-leader-id": 2}));
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..30 {
        for op in once(&mut world, &grant, seed).0 {
            let to_leader = op.desc == "grant-hot-region-scheduler-leader" && op.brief.ends_with(" to 2");
            let to_named = op.desc == "grant-hot-region-scheduler-move" && op.brief.contains("[3] to [4]");
            assert!(to_leader || to_named, "{}", op.text());
            let chosen = op.choice.as_ref().and_then(|choice| choice.chosen);
            assert_eq!(chosen, Some(StoreId(if to_leader { 2 } else { 4 })), "{}", op.text());
            seen.insert(op.desc);
        }
    }
    assert_eq!(seen.len(), 2, "leaders and peers");
    let mut schedulers = Schedulers::new(3);
    schedulers.set(vec![grant], world.now);
    minutes(&mut world, &mut schedulers, 8);
    assert!((1..=12).all(|at| world.get(at * 10).leader_store() == Some(StoreId(2))));
    assert!((1..=12).all(|at| world.get(at * 10).meta.peer_on(StoreId(3)).is_none()));
    assert_still(&mut world, &mut schedulers, "all granted");

    let mut world = one_empty(12);
    read(&mut world);
    let shuffle = spec(Kind::ShuffleHotRegion, &["3"], json!({}));
    assert_eq!(shuffle.config.show(), json!({"limit": 3}));
    let (ops, _) = once(&mut world, &shuffle, 1);
    assert!(ops[0].desc == "random-move-hot-leader" && ops[0].brief.ends_with("to [4]"), "{}", ops[0].text());
    assert_eq!(ops[0].choice.as_ref().and_then(|choice| choice.chosen), Some(StoreId(4)));
    let object = |value: Value| value.as_object().unwrap().clone();
    assert!(shuffle.config.update(&object(json!({"limit": "x"}))).is_err());
    assert!(matches!(shuffle.config.update(&object(json!({"limit": 4}))), Ok(Updated::To(_))));
}
