//! Stores that shall not lead: the label property `reject-leader`, the label scheduler, and what else moves leaders.

use super::*;

/// Stores that bear the label `zone=far` shall not lead.
fn reject(world: &mut World, stores: impl IntoIterator<Item = u64>) {
    stores.into_iter().for_each(|id| world.put_store(id, StoreState::Up, &[("zone", "far")]));
    world.settings.reject_leader = [StoreLabel { key: "zone".into(), value: "far".into() }].into();
}

fn with_label() -> Schedulers {
    let mut schedulers = Schedulers::new(3);
    let mut specs = defaults();
    specs.push(plain(Kind::Label));
    schedulers.set(specs, Now::default());
    schedulers
}

fn leaders(world: &World, store: u64) -> u64 {
    world.regions.summary(StoreId(store)).leader_count
}

#[test]
fn label_and_balance_leader_empty_a_store_together_and_end() {
    let mut world = World::new(4);
    unlimited(&mut world, 4);
    world.fill(120, |at| (0..3).map(|n| (at + n) % 4 + 1).collect());
    reject(&mut world, [3]);
    let (ops, refused) = once(&mut world, &plain(Kind::BalanceLeader), 1);
    assert!(ops.is_empty(), "they are even: {ops:?}");
    assert_eq!(refused[&StoreId(3)], Why::Filter(Refusal::RejectLeader));
    assert_eq!(Refusal::RejectLeader.name(), "store-state-reject-leader-filter");
    let mut schedulers = with_label();
    let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(600));
    assert_eq!(leaders(&world, 3), 0, "{moved:?}");
    assert_eq!(moved.get("label-reject-leader").copied().unwrap_or(0), 30, "each of its leaders is moved once");
    let others = [1, 2, 4].map(|store| leaders(&world, store));
    assert!(others.iter().max().unwrap() - others.iter().min().unwrap() <= 10, "{others:?}");
    let still = run_for(&mut world, &mut schedulers, Duration::from_secs(3600));
    assert!(still.is_empty(), "{still:?}");
}

#[test]
fn a_label_of_another_value_or_none_rejects_nothing() {
    let mut world = led_by_one(10);
    reject(&mut world, []);
    world.put_store(1, StoreState::Up, &[("zone", "near")]);
    assert!(once(&mut world, &plain(Kind::Label), 1).0.is_empty());
    world.settings.reject_leader = [StoreLabel { key: "disk".into(), value: String::new() }].into();
    assert!(once(&mut world, &plain(Kind::Label), 1).0.is_empty(), "a label that a store does not have");
}

/// Empties store 1, which leads all regions; how many regions each store leads then.
fn drained(rejecting: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let mut world = World::new(5);
    unlimited(&mut world, 5);
    world.fill(30, |_| vec![1, 2, 3]);
    reject(&mut world, rejecting);
    let mut schedulers = with_label();
    world.set_state(1, StoreState::Offline);
    let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(600));
    assert_eq!(world.regions.summary(StoreId(1)).region_count, 0, "{moved:?}");
    let still = run_for(&mut world, &mut schedulers, Duration::from_secs(600));
    assert!(still.is_empty(), "{still:?}");
    (1..=5).map(|store| leaders(&world, store)).collect()
}

#[test]
fn a_drain_leaves_leaders_where_they_are_not_rejected_and_is_never_held_by_it() {
    let led = drained(2..=3);
    assert_eq!((led[..3].iter().sum::<u64>(), led[3..].iter().sum::<u64>()), (0, 30), "{led:?}");
    let led = drained(2..=5);
    assert_eq!((led[0], led.iter().sum::<u64>()), (0, 30), "{led:?}");
}
