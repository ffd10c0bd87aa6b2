//! Placement rules off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

/// Rules off, with these location labels.
fn without_rules(stores: u64, labels: &[&str]) -> World {
    let mut w = world(stores);
    w.set_replication(|r| {
        r.enable_placement_rules = false;
        r.location_labels = labels.iter().map(|l| (*l).to_owned()).collect();
    });
    // What the rules say must not matter.
    w.set_rules(vec![rule("five", RuleRole::Voter, 5, None)]);
    w
}

#[test]
fn the_number_of_replicas_is_kept_under_pds_names() {
    let mut w = without_rules(6, &[]);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "healthy");
    let op = propose(&mut w, &World::region(1, &[1, 2]));
    assert_eq!((op.desc.as_str(), op.priority), ("make-up-replica", Priority::High));
    assert_eq!(op.kind.to_string(), "replica,region");
    let op = propose(&mut w, &World::region(1, &[1, 2, 3, 4]));
    assert_eq!((op.desc.as_str(), op.priority), ("remove-extra-replica", Priority::Medium));
    let mut learner = World::region(1, &[1, 2, 3]);
    roles(&mut learner, |p| if p.store.0 == 3 { Role::Learner } else { Role::Voter });
    assert_eq!(say(&mut w, &learner), "promote-learner (unknown)");
    learner.pending = vec![PeerId(13)];
    assert_eq!(say(&mut w, &learner), "pending-peer");
    w.set_schedule(|s| (s.enable_make_up_replica, s.enable_remove_extra_replica) = (false, false));
    assert_eq!(say(&mut w, &World::region(1, &[1, 2])), "switched-off");
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3, 4])), "switched-off");
}

#[test]
fn peers_on_lost_and_leaving_stores_are_replaced_or_removed() {
    let mut w = without_rules(6, &[]);
    w.set_state(3, StoreState::Offline);
    let op = propose(&mut w, &World::region(1, &[1, 2, 3]));
    assert_eq!((op.desc.as_str(), op.priority), ("replace-offline-replica", Priority::High));
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3, 4])), "remove-extra-offline-replica (replica,region)");
    let mut moving = World::region(1, &[1, 2, 3, 4]);
    roles(&mut moving, |p| if p.store.0 == 4 { Role::Learner } else { Role::Voter });
    moving.pending = vec![PeerId(14)];
    assert_eq!(say(&mut w, &moving), "pending-peer", "a move is under way");
    w.set_schedule(|s| s.enable_replace_offline_replica = false);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "switched-off");

    let mut w = without_rules(6, &[]);
    w.now = w.now.plus(Duration::from_secs(1800));
    [1, 2, 4, 5, 6].into_iter().for_each(|id| w.report_store(id));
    let down = |stores: &[u64]| with_down(&World::region(1, stores), 3, 1800);
    assert_eq!(say(&mut w, &down(&[1, 2, 3])), "replace-down-replica (replica,region)");
    assert_eq!(say(&mut w, &down(&[3, 1, 2])), "replace-down-replica (replica,region,leader)");
    assert_eq!(say(&mut w, &down(&[1, 2, 3, 4])), "remove-extra-down-replica (replica,region)");
    w.report_store(3);
    assert_eq!(say(&mut w, &down(&[1, 2, 3])), "healthy", "its store is there");
}

#[test]
fn limits_labels_and_pauses_hold_it_as_they_hold_the_rule_checker() {
    let mut w = without_rules(6, &[]);
    w.set_schedule(|s| s.replica_schedule_limit = 0);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2])), "schedule-limit");
    w.set_schedule(|s| s.replica_schedule_limit = 1);
    let now = w.now;
    w.patrol.pause(CheckerName::Replica, Duration::from_secs(60), now);
    w.with_view(|view, controller, patrol, _| {
        let outcome = check_with(view, controller, patrol.memory(), &World::region(1, &[1, 2]));
        assert!(matches!(outcome, Outcome::Blocked(Reason::CheckerPaused("replica"))));
        let outcome = check_with(view, controller, patrol.memory(), &World::region(1, &[1, 2, 3]));
        assert!(matches!(outcome, Outcome::Healthy));
    });
    assert_eq!(w.ids_taken(), 0);
}

#[test]
fn a_replica_moves_to_a_better_location_only_when_one_is_there() {
    let mut w = without_rules(4, &["zone"]);
    for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        w.put_store(id, StoreState::Up, &[("zone", zone)]);
    }
    assert!(say(&mut w, &World::region(1, &[1, 2, 3])).starts_with("move-to-better-location (replica,region"));
    assert_eq!(say(&mut w, &World::region(1, &[1, 4, 3])), "healthy");
    w.put_store(4, StoreState::Up, &[("zone", "b")]);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "healthy", "nothing lies further apart");
}

/// Random regions over random stores: after as many operators as it takes the region has three voters on stores that are Up, apart
/// as far as they can be, and then nothing moves any more.
#[test]
fn every_region_ends_whole_and_as_far_apart_as_the_stores_allow() {
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(23);
    for _ in 0..150 {
        let mut w = without_rules(7, &["zone"]);
        let mut zones = std::collections::BTreeMap::new();
        for id in 1..=7 {
            let zone = ["a", "b", "c", "d"][rng.random_range(0..4)];
            let state = if id > 4 && rng.random_range(0..3) == 0 { StoreState::Offline } else { StoreState::Up };
            if state == StoreState::Up {
                zones.insert(id, zone);
            }
            w.put_store(id, state, &[("zone", zone)]);
        }
        let mut stores: Vec<u64> = (1..=7).collect();
        stores.shuffle(&mut rng);
        stores.truncate(rng.random_range(1..=5));
        let mut region = World::region(1, &stores);
        let lags = rng.random_range(1..=5);
        roles(&mut region, |p| if p.id.0 == 10 + lags && lags > 1 { Role::Learner } else { Role::Voter });
        w.report(region);
        for _ in 0..20 {
            w.pass(Duration::from_secs(60));
            for _ in 0..30 {
                w.tick();
            }
        }
        let end = w.get(10);
        assert!(end.peers().len() == 3 && end.peers().iter().all(|p| p.role == Role::Voter), "{:?}", end.peers());
        let of: std::collections::BTreeSet<_> = end.peers().iter().map(|p| zones[&p.store.0]).collect();
        let all: std::collections::BTreeSet<_> = zones.values().collect();
        assert_eq!(of.len(), all.len().min(3), "{zones:?} {:?}", end.peers());
        let made = w.added.len();
        (0..300).for_each(|_| _ = w.tick());
        assert_eq!(w.added.len(), made, "it is at rest");
    }
}
