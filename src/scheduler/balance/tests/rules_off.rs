//! Placement rules switched off: what schedulers go by then.

use super::*;

#[test]
fn without_rules_schedulers_go_by_max_replicas_and_not_by_the_kept_rule() {
    let mut world = World::new(6);
    unlimited(&mut world, 6);
    world.fill(30, |at| (0..5).map(|n| (at + n) % 5 + 1).collect());
    world.set_replication(|r| (r.enable_placement_rules, r.max_replicas) = (false, 5));
    assert_eq!(world.settings.rules.all()[0].count, 3, "what is kept asks for less");
    let (ops, _) = once(&mut world, &plain(Kind::BalanceRegion), 1);
    let [op] = &ops[..] else { panic!("one operator") };
    assert!(op.brief.ends_with("to [6]"), "{}", op.brief);
    let region = world.get(10);
    let scatter = |world: &mut World| {
        let mut found = None;
        world.with_view(|view, controller, _, _| {
            let under_way = (&*controller as _, &HotPeers::default());
            found = Some(Scatterer::default().scatter(view, under_way, &region, "t", false).map(|_| ()));
        });
        found.unwrap()
    };
    assert_eq!(scatter(&mut world), Ok(()));
    // A region with more peers than are wanted is the checker's business first.
    world.set_replication(|r| r.max_replicas = 3);
    let (ops, refused) = once(&mut world, &plain(Kind::BalanceRegion), 1);
    assert!(ops.is_empty() && refused.values().any(|why| *why == Why::NotReplicated), "{refused:?}");
    assert_eq!(scatter(&mut world), Err(ScatterError::NotReplicated(10)));
}

#[test]
fn without_rules_balance_keeps_to_the_location_labels_and_ends() {
    let mut world = World::new(6);
    unlimited(&mut world, 6);
    let zone = |store: u64| ["a", "b", "c"][(store as usize - 1) / 2];
    (1..=6).for_each(|id| world.put_store(id, StoreState::Up, &[("zone", zone(id))]));
    world.fill(90, |_| vec![1, 3, 5]);
    world.set_replication(|r| (r.enable_placement_rules, r.location_labels) = (false, vec!["zone".into()]));
    let mut schedulers = Schedulers::new(5);
    schedulers.set(defaults(), world.now);
    let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(600));
    assert!(!moved.contains_key("move-to-better-location"), "{moved:?}");
    let peers = spread(&world, 6, |w, s| w.regions.summary(s).region_count);
    assert!(peers.1 - peers.0 <= 6, "peers {peers:?} after {moved:?}");
    for at in 1..=90 {
        let region = world.get(at * 10);
        let zones: std::collections::BTreeSet<_> = region.peers().iter().map(|p| zone(p.store.0)).collect();
        assert_eq!(zones.len(), 3, "{:?}", region.peers());
    }
    let still = run_for(&mut world, &mut schedulers, Duration::from_secs(3600));
    assert!(still.is_empty(), "{still:?}");
}
