//! `schedule=deny` against everything that is not a repair, by the table of `checker::deny`.

use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::{
    config::BerthConfig,
    model::{Flow, KeyRange, Region, RegionId},
    scheduler::checker::{
        deny::{Row, Scope, TABLE},
        merge::{self, NoMerge},
    },
};

const SCOPES: [Scope; 3] = [Scope::Balance, Scope::Moves, Scope::All];

/// What `checker/deny/tests.rs` shows.
const REPAIRS: [&str; 5] = ["better-location", "offline", "repair", "split", "joint-state"];

fn row(name: &str) -> Row {
    TABLE.into_iter().find(|row| row.name == name).unwrap()
}

/// The row that a scheduler belongs to.
fn row_of(kind: Kind) -> &'static str {
    match kind {
        Kind::BalanceLeader
        | Kind::BalanceRegion
        | Kind::HotRegion
        | Kind::Label
        | Kind::ShuffleLeader
        | Kind::ShuffleRegion
        | Kind::ShuffleHotRegion
        | Kind::GrantHotRegion => "balance",
        Kind::ScatterRange => "scatter",
        Kind::EvictLeader | Kind::GrantLeader => "evict-leader",
        Kind::EvictSlowStore | Kind::EvictStoppingStore => "slow-store",
    }
}

/// Four stores, the last one empty, all leaders on the first. With a scope a label denies all keys.
fn skewed(scope: Option<Scope>) -> World {
    let mut world = World::new(4);
    unlimited(&mut world, 4);
    world.fill(40, |_| vec![1, 2, 3]);
    if let Some(scope) = scope {
        let label = RegionLabel { key: "schedule".into(), value: "deny".into(), ..RegionLabel::default() };
        let ranges = vec![KeyRange::default()];
        let rule = RegionLabelRule { id: "import".into(), labels: vec![label], ranges, ..RegionLabelRule::default() };
        world.settings.labels = LabelIndex::new(vec![rule.into()]).into();
        world.settings.berth =
            Arc::new(BerthConfig { region_label_deny_scope: scope, ..BerthConfig::clone(&world.settings.berth) });
    }
    world
}

/// Whether a scheduler of this kind would do something about the skew.
fn proposes(kind: Kind, scope: Option<Scope>) -> bool {
    let mut world = skewed(scope);
    let change = |world: &World, change: &dyn Fn(&mut StoreStats)| {
        let mut stats = StoreStats { capacity: 1 << 40, available: 1 << 39, ..StoreStats::default() };
        change(&mut stats);
        world.hear_store(StoreId(1), stats);
    };
    let with = |args: &[&str], change: Value| spec(kind, args, change);
    let wanted = match kind {
        Kind::EvictLeader => with(&[], json!({"store_id": 1})),
        Kind::GrantLeader => with(&[], json!({"store_id": 2})),
        Kind::ScatterRange => with(&["", "", "all"], json!({})),
        Kind::GrantHotRegion => with(&["2", "3,4"], json!({})),
        _ => plain(kind),
    };
    match kind {
        Kind::EvictSlowStore => change(&world, &|stats| stats.slow_score = 100),
        Kind::EvictStoppingStore => change(&world, &|stats| stats.is_stopping = true),
        Kind::Label => {
            world.put_store(1, StoreState::Up, &[("zone", "far")]);
            world.settings.reject_leader = [StoreLabel { key: "zone".into(), value: "far".into() }].into();
        }
        _ => {}
    }
    if matches!(kind, Kind::HotRegion | Kind::ShuffleHotRegion | Kind::GrantHotRegion) {
        let flow = Flow { bytes_read: 60 << 20, ..Flow::default() };
        (1..=40).for_each(|at| drop(world.report(Region { flow, ..(*world.get(at * 10)).clone() })));
    }
    (0..20).any(|seed| !once(&mut world, &wanted, seed).0.is_empty())
}

#[test]
fn o7_every_scheduler_is_held_by_the_scopes_that_its_row_names_and_by_no_other() {
    let mut seen: BTreeSet<&str> = REPAIRS.into();
    for kind in Kind::all() {
        let row = row(row_of(kind));
        seen.insert(row.name);
        assert_eq!(kind.cause(), row.cause, "{kind:?}");
        assert!(proposes(kind, None), "{kind:?} has nothing to do, so that this shows nothing");
        for scope in SCOPES {
            assert_eq!(proposes(kind, Some(scope)), !row.is_held(scope), "{kind:?} under {scope:?}");
        }
    }
    seen.extend(["merge", "person"]); // below
    assert_eq!(seen, TABLE.iter().map(|row| row.name).collect::<BTreeSet<_>>(), "each row is asked by something");
}

#[test]
fn o7_merging_is_held_and_scattering_by_a_call_is_not() {
    for scope in [None].into_iter().chain(SCOPES.map(Some)) {
        let mut world = skewed(scope);
        world.now = world.now.plus(Duration::from_secs(7200));
        (1..=4).for_each(|id| world.report_store(id));
        (1..=40).for_each(|at| {
            let region = Region { size_mib: 5, ..(*world.get(at * 10)).clone() };
            world.report(region);
        });
        let (merge_held, call_held) = match scope {
            None => (false, false),
            Some(scope) => (row("merge").is_held(scope), row("person").is_held(scope)),
        };
        let region = world.get(100);
        let mut found = (Err(NoMerge::Paused), None);
        world.with_view(|view, controller, patrol, _| {
            found.0 = merge::target(view, controller, patrol.memory(), &region).map(|target| target.id());
            let (under_way, mut scatterer) = ((&*controller as _, &HotPeers::default()), Scatterer::default());
            // The second region of a group goes where the first one is not.
            for id in [90, 100] {
                let region = view.regions.get(RegionId(id)).unwrap();
                found.1 = scatterer.scatter(view, under_way, &region, "t", false).unwrap();
            }
        });
        assert_eq!(found.0, if merge_held { Err(NoMerge::Denied) } else { Ok(RegionId(110)) }, "{scope:?}");
        assert_eq!(found.1.is_none(), call_held, "{scope:?}");
    }
}
