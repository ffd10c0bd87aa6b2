//! Clusters that are not alike all over: disks, weights, regions, places, rules. Balance converges there too, and ends.
//!
//! What it converges to: no peer and no leader is left of which a move that the rules allow would leave the store that gives, less
//! the tolerance, with the higher score than the one that takes with as much more. Then nothing moves.

use super::*;
use crate::{
    model::Region,
    scheduler::score::{Space, leader_score, region_score},
};

const REGIONS: u64 = 150;
/// Stores, in four zones. The last one is not for data in clusters with a rule.
const STORES: u64 = 8;
/// PD's tolerances: of leaders, and of peers in regions (with so few regions).
const LEADERS: i64 = 5;
const PEERS: u64 = 1;

/// A way to be uneven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Uneven {
    Disks,
    /// Disks that have less left than v2 keeps in reserve: there the free space decides, which stores tell each ten seconds only.
    Full,
    Weights,
    Regions,
    Zones,
    Rule,
    Everything,
    EverythingAndFull,
}

const ALL: [Uneven; 8] = [
    Uneven::Disks,
    Uneven::Full,
    Uneven::Weights,
    Uneven::Regions,
    Uneven::Zones,
    Uneven::Rule,
    Uneven::Everything,
    Uneven::EverythingAndFull,
];

impl Uneven {
    fn has(self, one: Self) -> bool {
        match self {
            Self::Everything => one != Self::Full,
            Self::EverythingAndFull => one != Self::Disks,
            _ => self == one,
        }
    }
}

fn zone(store: u64) -> &'static str {
    ["z1", "z2", "z3", "z4"][(store as usize - 1) / 2]
}

fn cluster(uneven: Uneven, start: u64) -> World {
    let mut world = World::new(STORES);
    unlimited(&mut world, STORES);
    // Small regions stay: merging is another matter.
    world.set_schedule(|s| s.max_merge_region_size = 0);
    let mut rule = RuleSet::default_rule(3, &[], "");
    if uneven.has(Uneven::Zones) {
        rule.location_labels = vec!["zone".into()];
    }
    if uneven.has(Uneven::Rule) {
        rule.constraints = vec![LabelConstraint { key: "disk".into(), op: LabelOp::NotIn, values: vec!["hdd".into()] }];
    }
    world.set_rules(vec![rule]);
    for id in 1..=STORES {
        world.put_store(id, StoreState::Up, &[("zone", zone(id)), ("disk", if id == STORES { "hdd" } else { "ssd" })]);
        let third = (id % 3) as usize;
        let gib = match uneven {
            _ if uneven.has(Uneven::Disks) => [100, 200, 400][third],
            _ if uneven.has(Uneven::Full) => [30, 32, 35][third],
            _ => 1024,
        };
        // All fill up with what they hold.
        world.disks.insert(id, gib << 30);
        if uneven.has(Uneven::Weights) {
            world.set_weights(id, [1.0, 2.0][(id % 2) as usize], [1.0, 1.5, 3.0][third]);
        }
    }
    let usable = if uneven.has(Uneven::Rule) { STORES - 1 } else { STORES };
    for at in 1..=REGIONS {
        let mut places = skewed(start, usable, at);
        places.truncate(3);
        let size_mib = if uneven.has(Uneven::Regions) { [8, 40, 96, 96, 140, 220][(at * at % 6) as usize] } else { 96 };
        world.report(Region { size_mib, ..World::region(at, &places) });
    }
    // They have told of what they hold before anything is moved.
    (0..60).for_each(|_| world.pass(Duration::from_secs(10)));
    world
}

/// The first move of a peer or a leader that would still be worth it, looked for among all.
fn worth_it(world: &mut World, uneven: Uneven) -> Option<String> {
    let mut found = None;
    world.with_view(|view, _, _, _| {
        let held = |store: u64| view.regions.summary(StoreId(store));
        let sum = (1..=STORES).map(held).fold((0, 0), |sum, s| (sum.0 + s.region_size_mib, sum.1 + s.region_count));
        let peer_score = |store: u64, delta: i64| {
            let (info, schedule) = (&view.stores[&StoreId(store)], &view.settings.schedule);
            let (size, weight) = (held(store).region_size_mib, info.record.region_weight);
            region_score(schedule, Space::now(info, size, view.regions.moved_mib(info.id())), weight, size, delta)
        };
        let lead_score = |store: u64, delta: i64| {
            let weight = view.stores[&StoreId(store)].record.leader_weight;
            leader_score("count", held(store).leader_count, 0, weight, delta)
        };
        let takes = |store: u64| {
            let stats = &view.stores[&StoreId(store)].stats;
            let low = (stats.available as f64) < 0.2 * stats.capacity as f64;
            !(low || store == STORES && uneven.has(Uneven::Rule))
        };
        for region in (1..=REGIONS).map(|at| view.regions.get(crate::model::RegionId(at * 10)).unwrap()) {
            let stores: Vec<u64> = region.peers().iter().map(|p| p.store.0).collect();
            let leader = region.leader_store().unwrap().0;
            let zones = |without: u64, with: u64| {
                let of = stores.iter().copied().filter(|s| *s != without).chain([with]);
                of.map(zone).collect::<std::collections::BTreeSet<_>>().len()
            };
            let tolerated = (region.size_mib.max(sum.0 / sum.1) * PEERS) as i64;
            for from in &stores {
                for to in (1..=STORES).filter(|to| !stores.contains(to) && takes(*to)) {
                    let apart = !uneven.has(Uneven::Zones) || zones(*from, to) >= zones(*from, *from);
                    if apart && peer_score(*from, -tolerated) > peer_score(to, tolerated) {
                        found = Some(format!("a peer of region {} from {from} to {to}", region.id()));
                    }
                }
                if lead_score(leader, -LEADERS) > lead_score(*from, LEADERS) {
                    found = Some(format!("the leader of region {} from {leader} to {from}", region.id()));
                }
            }
        }
    });
    found
}

/// A region that has not what its rule asks for, or has it in fewer zones than there could be.
fn broken_rule(world: &World, uneven: Uneven) -> Option<u64> {
    let stores = world.stores.snapshot();
    (1..=REGIONS).find(|at| {
        let region = world.get(at * 10);
        let zones: std::collections::BTreeSet<_> = region.peers().iter().map(|p| zone(p.store.0)).collect();
        let apart = !uneven.has(Uneven::Zones) || zones.len() == 3;
        let fit = world.settings.placement().fit(&region, &stores);
        !apart || !fit.is_some_and(|fit| fit.is_satisfied())
    })
}

/// What is wrong with the end of balance in a cluster that has been scheduled for long enough.
fn wrong_end(world: &mut World, schedulers: &mut Schedulers, uneven: Uneven) -> Vec<String> {
    let mut wrong: Vec<String> = worth_it(world, uneven).into_iter().collect();
    wrong.extend(broken_rule(world, uneven).map(|region| format!("region {region} breaks its rule")));
    let still = run_for(world, schedulers, Duration::from_secs(3600));
    if !still.is_empty() {
        wrong.push(format!("an hour later: {still:?}"));
    }
    wrong
}

#[test]
fn uneven_clusters_become_even_by_their_scores_and_then_nothing_moves_for_an_hour() {
    let mut wrong = Vec::new();
    for (uneven, start) in ALL.into_iter().flat_map(|uneven| [0, 3, 6, 9].map(|start| (uneven, start))) {
        let mut world = cluster(uneven, start);
        let mut schedulers = Schedulers::new(start);
        schedulers.set(defaults(), world.now);
        let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(900));
        let peers = moved.get("balance-region-scheduler").copied().unwrap_or(0);
        if peers == 0 || peers > 3 * REGIONS as usize {
            wrong.push(format!("{uneven:?}, start {start}: {peers} peers were moved"));
        }
        let end = wrong_end(&mut world, &mut schedulers, uneven).into_iter();
        wrong.extend(end.map(|what| format!("{uneven:?}, start {start}: {what}, after {moved:?}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn balance_ends_also_under_store_limits_and_with_slow_nodes() {
    let mut wrong = Vec::new();
    for (limit, takes) in [(15.0, 20), (200.0, 20), (200.0, 3000), (1e9, 3000)] {
        for (uneven, start) in [(Uneven::Full, 0), (Uneven::Weights, 6), (Uneven::Everything, 9)] {
            let mut world = cluster(uneven, start);
            (1..=STORES).for_each(|store| world.set_limits(store, limit, limit));
            world.node_takes = Duration::from_millis(takes);
            let mut schedulers = Schedulers::new(start);
            schedulers.set(defaults(), world.now);
            let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(3600));
            let end = wrong_end(&mut world, &mut schedulers, uneven).into_iter();
            wrong.extend(end.map(|what| format!("{limit} a minute, {takes} ms, {uneven:?}: {what}, after {moved:?}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_tolerance_that_is_set_too_small_moves_nothing_to_and_fro() {
    for policy in ["count", "size"] {
        let mut world = cluster(Uneven::Regions, 6);
        world.set_schedule(|s| {
            s.tolerant_size_ratio = 0.1;
            s.leader_schedule_policy = policy.into();
        });
        let mut schedulers = Schedulers::new(6);
        schedulers.set(defaults(), world.now);
        let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(900));
        assert!(moved.len() == 2, "{moved:?}");
        let still = run_for(&mut world, &mut schedulers, Duration::from_secs(3600));
        assert!(still.is_empty(), "{policy}: {still:?} after {moved:?}");
    }
}

/// Leaders are kept where schedulers want them kept, as the cluster does.
fn pause_leaders(world: &World, schedulers: &Schedulers) {
    for (store, (into, out)) in schedulers.leader_pauses() {
        world.stores.update(store, |s| (s.pause_leader_in, s.pause_leader_out) = (into, out));
    }
}

#[test]
fn schedulers_that_people_add_end_beside_the_defaults() {
    let key = |n: u64| String::from_utf8(n.to_be_bytes().to_vec()).unwrap();
    let range = |from: u64, to: u64, name: &str| spec(Kind::ScatterRange, &[&key(from), &key(to), name], json!({}));
    let added: [(&str, Vec<Spec>); 4] = [
        ("one range", vec![range(1, 60, "a")]),
        ("two ranges", vec![range(1, 60, "a"), range(60, 120, "b")]),
        ("label", vec![plain(Kind::Label)]),
        ("grant-leader", vec![spec(Kind::GrantLeader, &[], json!({"store_id": 2}))]),
    ];
    let mut wrong = Vec::new();
    for (uneven, start) in [(Uneven::Regions, 4), (Uneven::Zones, 9), (Uneven::Everything, 0), (Uneven::Full, 0)] {
        for (name, more) in &added {
            let what = format!("{name}, {uneven:?}, start {start}");
            let mut world = cluster(uneven, start);
            world.settings.reject_leader = match *name {
                "label" => [StoreLabel { key: "zone".into(), value: "z1".into() }].into(),
                _ => Default::default(),
            };
            let mut schedulers = Schedulers::new(start);
            schedulers.set(defaults().into_iter().chain(more.clone()).collect(), world.now);
            pause_leaders(&world, &schedulers);
            let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(1800));
            let own = |desc: &&String| {
                ["scatter-range-", "label-", "grant-leader"].iter().any(|begins| desc.starts_with(begins))
            };
            if !moved.keys().any(|desc| own(&desc)) {
                wrong.push(format!("{what}: nothing of its own: {moved:?}"));
            }
            let still = run_for(&mut world, &mut schedulers, Duration::from_secs(3600));
            if !still.is_empty() {
                wrong.push(format!("{what}: {still:?} after {moved:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
