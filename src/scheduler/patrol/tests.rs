#![allow(clippy::unwrap_used, clippy::expect_used)]

mod wakes;

use super::*;
use crate::{
    model::{LabelConstraint, LabelOp, Role, Rule, RuleRole, store::UNLIMITED},
    scheduler::{
        placement::RuleSet,
        testing::{World, with_down},
    },
};

const TICK: Duration = Duration::from_millis(10);
const FULL: u64 = 64;

/// `regions` regions on stores 1 to 9, the last `last` of them with a peer on store 10 instead of the first of their three; none
/// of the limits of the stores is in the way.
fn big(regions: u64, last: u64) -> World {
    let mut w = World::new(10);
    (1..=10).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    for at in 1..=regions {
        let mut stores = [1 + at % 9, 1 + (at + 3) % 9, 1 + (at + 6) % 9];
        if at > regions - last {
            // Half of them are led by store 10.
            stores[if at % 2 == 0 { 0 } else { 1 }] = 10;
        }
        w.regions.apply(World::region(at, &stores)).unwrap();
    }
    w
}

fn left_on(w: &World, store: u64) -> u64 {
    w.regions.count_of_store(StoreId(store), Held::Any)
}

/// Ticks until store 10 is empty; while less than the limit runs and a region without an operator is left each tick must start one.
fn drain_without_a_gap(w: &mut World) {
    for ticks in 0.. {
        let running = w.controller.count(crate::scheduler::operator::Kind::REPLICA);
        let untouched = left_on(w, 10) - running;
        let started = w.tick();
        let may = running < FULL && untouched > 0;
        assert!(!may || started > 0, "tick {ticks}: {running} of {FULL} run, {untouched} wait, none was started");
        assert!(w.controller.count(crate::scheduler::operator::Kind::REPLICA) <= FULL);
        assert!(ticks < 10_000, "{} regions left", left_on(w, 10));
        if left_on(w, 10) == 0 {
            return;
        }
    }
}

#[test]
fn an_offline_store_at_the_far_end_of_the_key_space_is_drained_without_a_gap_from_the_next_tick_on() {
    let mut w = big(200_000, 1000);
    w.set_state(10, StoreState::Offline);
    let started = w.tick();
    assert_eq!(started as u64, FULL, "the first tick starts all that the limit allows");
    drain_without_a_gap(&mut w);
    let ops = w.added.len();
    assert!((1000..1010).contains(&ops), "{ops} operators for 1000 regions");
    let led = w.added.iter().filter(|(_, op)| op.desc == "replace-rule-offline-leader-peer").count();
    assert!(
        (440..=460).contains(&led),
        "500 led regions go round ten stores, store 10 among them: {led} move their leader first"
    );
    let targets: Vec<u64> = (1..=9).map(|s| left_on(&w, s)).collect();
    let (least, most) = (targets.iter().min().unwrap(), targets.iter().max().unwrap());
    assert!(most - least < 400, "a drain spreads over all targets: {targets:?}");
    for at in 199_001..=200_000 {
        let r = w.get(at * 10);
        assert!(r.peers().len() == 3 && r.peers().iter().all(|p| p.role == Role::Voter));
    }
}

#[test]
fn a_lost_store_at_the_far_end_is_repaired_without_a_gap_from_the_tick_in_which_it_is_down() {
    let mut w = big(200_000, 1000);
    w.silent = vec![StoreId(10)];
    w.pass(Duration::from_secs(1799));
    for at in 199_001..=200_000 {
        let r = w.get(at * 10);
        let mut r = with_down(&r, 10, 1799);
        // Its other peers have chosen another leader.
        r.leader = r.peers().iter().find(|p| p.store != StoreId(10)).map(|p| p.id);
        w.report(r);
    }
    for _ in 0..99 {
        assert_eq!(w.tick(), 0, "not down yet");
    }
    assert_eq!(w.tick() as u64, FULL, "down now, and its regions say so");
    drain_without_a_gap(&mut w);
    assert!(w.added.iter().all(|(_, op)| op.desc == "replace-rule-down-peer"));
}

#[test]
fn regions_that_report_a_lost_store_after_it_is_down_are_repaired_in_the_next_tick() {
    let mut w = big(2000, 100);
    w.silent = vec![StoreId(10)];
    w.pass(Duration::from_secs(1800));
    assert_eq!((w.tick(), w.tick()), (0, 0), "nobody has missed it");
    let r = w.get(19_990);
    let mut r = with_down(&r, 10, 1800);
    r.leader = r.peers().iter().find(|p| p.store != StoreId(10)).map(|p| p.id);
    w.report(r);
    assert_eq!(w.tick(), 1);
}

#[test]
fn default_limits_give_exactly_the_peers_a_minute_that_they_allow_evenly() {
    let mut w = big(1500, 600);
    (1..=9).for_each(|id| w.set_limits(id, 15.0, 15.0));
    w.set_limits(10, 15.0, UNLIMITED);
    w.set_state(10, StoreState::Offline);
    let minutes = 4;
    for _ in 0..minutes * 6000 {
        w.tick();
    }
    let first = w.added[0].0;
    // Nine targets take fifteen a minute each.
    for minute in 0..minutes {
        let of = |from: Duration, long: Duration| {
            let from = first.plus(from);
            w.added.iter().filter(|(at, _)| *at >= from && *at < from.plus(long)).count()
        };
        let start = Duration::from_secs(60 * minute);
        assert_eq!(of(start, Duration::from_secs(60)), 135, "minute {minute}");
        for part in 0..5 {
            let got = of(start + Duration::from_secs(12 * part), Duration::from_secs(12));
            assert!((26..=28).contains(&got), "{got} in a fifth of a minute");
        }
    }
    let gaps = w.added.windows(2).map(|two| two[1].0.since(two[0].0));
    let longest = gaps.max().unwrap();
    // Ten stores take turns; that of the store that is emptied passes unused.
    assert!(longest <= Duration::from_millis(810), "one every 0.4 s, not nine every four seconds: {longest:?}");
    assert!(w.ids_taken() <= w.added.len() as u64 + 2, "a list that waits takes no ids");
}

#[test]
fn o9_what_cannot_move_says_why_and_moves_when_that_ends() {
    let mut w = World::new(3);
    (1..=3).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    for at in 1..=50 {
        w.report(World::region(at, &[1, 2, 3]));
    }
    w.set_state(3, StoreState::Offline);
    for _ in 0..5 {
        assert_eq!(w.tick(), 0);
    }
    let told = w.patrol.blocked(StoreId(3)).unwrap();
    assert_eq!((told.class, told.in_line, told.asleep["no-target"].0), (Class::Offline, 0, 50));
    w.put_store(4, StoreState::Up, &[]);
    w.set_limits(4, UNLIMITED, UNLIMITED);
    w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(4)));
    assert_eq!(w.tick(), 50);
    for _ in 0..100 {
        w.tick();
    }
    assert_eq!(left_on(&w, 3), 0);
    w.set_state(3, StoreState::Tombstone);
    w.tick();
    assert_eq!(w.patrol.blocked(StoreId(3)), None);
}

#[test]
fn a_store_without_tokens_holds_the_line_until_the_next_one_is_due() {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, 1.0, UNLIMITED));
    for at in 1..=50 {
        w.report(World::region(at, &[1, 2, 3]));
    }
    w.set_state(3, StoreState::Offline);
    let started: usize = (0..12_000).map(|_| w.tick()).sum();
    assert!((1..=2).contains(&started), "{started} in two minutes");
    let told = w.patrol.blocked(StoreId(3)).unwrap();
    let (reason, until) = told.held.unwrap();
    assert_eq!(reason.name(), "target-busy");
    assert!(until > w.now.mono && until <= w.now.mono.plus(Duration::from_secs(61)));
    assert_eq!(w.ids_taken(), started as u64);
}

#[test]
fn down_offline_missing_and_misplaced_each_get_a_share() {
    let mut w = World::new(12);
    (1..=12).for_each(|id| w.set_limits(id, if id == 12 { 60.0 } else { 0.0001 }, UNLIMITED));
    w.set_schedule(|s| s.replica_schedule_limit = 1000);
    w.put_store(11, StoreState::Up, &[("disk", "old")]);
    let disk = |op| LabelConstraint { key: "disk".into(), op, values: vec!["old".into()] };
    let rule = Rule { constraints: vec![disk(LabelOp::NotIn)], ..RuleSet::default_rule(3, &[], "") };
    w.set_rules(vec![rule]);
    w.silent = vec![StoreId(10)];
    w.pass(Duration::from_secs(1800));
    for at in 1..=100 {
        w.report(with_down(&World::region(at, &[1, 2, 10]), 10, 1800));
        w.report(World::region(at + 100, &[1, 2, 9]));
        w.report(World::region(at + 200, &[1, 2]));
    }
    w.set_state(9, StoreState::Offline);
    // One token a second, all on store 12.
    for _ in 0..11_000 {
        w.tick();
    }
    let of = |part: &str| w.added.iter().filter(|(_, op)| op.desc.contains(part)).count();
    let (down, offline, missing) = (of("down"), of("offline"), of("add-rule-peer"));
    assert!((100..=112).contains(&w.added.len()), "{} tokens", w.added.len());
    assert!(
        (40..=48).contains(&down) && (28..=38).contains(&offline) && (28..=38).contains(&missing),
        "{down} down, {offline} offline, {missing} missing"
    );
}

#[test]
fn the_walk_meets_what_nobody_announced_and_ends_its_round_in_time() {
    let mut w = big(200_000, 0);
    let mut began = None;
    let mut rounds = Vec::new();
    for tick in 0..3200 {
        w.now = w.now.plus(TICK);
        if w.now.mono.0.is_multiple_of(10_000_000_000) {
            w.pass(Duration::ZERO);
        }
        let out = w.with_view(|view, controller, patrol, out| patrol.tick(view, controller, out));
        for effect in out {
            match effect {
                Effect::Tell(Event::PatrolRound { took, .. }) => rounds.push(took),
                Effect::Tell(Event::OperatorAdded { .. }) => began = began.or(Some(tick)),
                _ => {}
            }
        }
        if tick == 1000 {
            let mut lacking = World::region(190_000, &[1, 2]);
            Arc::make_mut(&mut lacking.meta).epoch.conf_ver = 2;
            w.regions.apply(lacking).unwrap();
        }
    }
    assert_eq!(rounds.len(), 2);
    assert!(rounds.iter().all(|took| *took <= Duration::from_secs(16)), "{rounds:?}");
    let began = began.unwrap();
    assert!((1000..=2600).contains(&began), "within a round: tick {began}");
}

/// Schedulers are often kept still with limits of 0: that is no matter of repairs, and one that counts as a move must not hold all
/// others up.
#[test]
fn a_left_over_peer_holds_no_drain_up_where_the_limits_of_balancing_are_0() {
    let mut w = World::new(5);
    (1..=5).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.set_schedule(|s| {
        s.region_schedule_limit = 0;
        s.leader_schedule_limit = 0;
    });
    w.report(World::region(1, &[1, 2, 4, 5]));
    for at in 2..=40 {
        w.report(World::region(at, &[3, 1, 2]));
    }
    w.set_state(3, StoreState::Offline);
    for _ in 0..200 {
        w.tick();
    }
    assert_eq!(left_on(&w, 3), 0);
    assert!(w.added.iter().any(|(_, op)| op.desc == "remove-orphan-peer"));
}

/// Fewer replicas for all regions at once: the left-over peers go as fast as the stores' remove-peer limits allow.
#[test]
fn left_over_peers_wait_in_line_for_their_stores_tokens() {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, 60.0));
    for at in 1..=40 {
        let led = 1 + at % 4;
        let stores: Vec<u64> = (0..4).map(|n| 1 + (led - 1 + n) % 4).collect();
        w.regions.apply(World::region(at, &stores)).unwrap();
    }
    let left = |w: &World| (1..=4).map(|store| left_on(w, store)).sum::<u64>() - 120;
    assert_eq!(left(&w), 40);
    // At worst one store gives all of them away, one a second.
    let mut ticks = 0;
    while left(&w) > 0 {
        w.tick();
        ticks += 1;
        assert!(ticks < 4500, "{} peers are left after {ticks} ticks", left(&w));
    }
}

#[test]
fn an_abandoned_joint_state_is_left_even_when_the_limits_are_used_up() {
    let mut w = World::new(4);
    w.set_schedule(|s| s.replica_schedule_limit = 0);
    let mut r = World::region(1, &[1, 2, 3, 4]);
    let meta = Arc::make_mut(&mut r.meta);
    meta.peers[2].role = Role::DemotingVoter;
    meta.peers[3].role = Role::IncomingVoter;
    w.report(r);
    assert_eq!(w.tick(), 1);
    assert_eq!(w.added[0].1.desc, "leave-joint-state");
}

#[test]
fn nothing_is_started_while_scheduling_is_halted() {
    let mut w = big(100, 50);
    w.set_state(10, StoreState::Offline);
    w.set_schedule(|s| s.halt_scheduling = true);
    assert_eq!((0..50).map(|_| w.tick()).sum::<usize>(), 0, "O7");
    w.set_schedule(|s| s.halt_scheduling = false);
    assert_eq!(w.tick(), 50);
}

#[test]
fn column_learners_of_a_draining_store_are_moved_among_column_stores() {
    let mut w = World::new(3);
    for id in [4, 5] {
        w.put_store(id, StoreState::Up, &[("engine", "tiflash")]);
    }
    (1..=5).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    let engine = LabelConstraint { key: "engine".into(), op: LabelOp::In, values: vec!["tiflash".into()] };
    let column = Rule {
        group_id: "tiflash".into(),
        id: "all".into(),
        role: RuleRole::Learner,
        count: 1,
        constraints: vec![engine],
        ..Rule::default()
    };
    w.set_rules(vec![RuleSet::default_rule(3, &[], ""), column]);
    let mut r = World::region(1, &[1, 2, 3, 4]);
    Arc::make_mut(&mut r.meta).peers[3].role = Role::Learner;
    w.report(r);
    w.set_state(4, StoreState::Offline);
    (0..50).for_each(|_| {
        w.tick();
    });
    let r = w.get(10);
    assert_eq!(r.meta.peer_on(StoreId(5)).map(|p| p.role), Some(Role::Learner));
    assert_eq!((r.peers().len(), left_on(&w, 4)), (4, 0));
}

#[test]
fn each_tick_is_a_turn_however_late_the_one_before_came() {
    let mut w = World::new(3);
    let mut patrol = Patrol::default();
    let start = w.now.mono;
    let mut turns = |w: &mut World, micros: u64| {
        w.now.mono = start.plus(Duration::from_micros(micros));
        let mut due = false;
        w.with_view(|view, _, _, _| due = patrol.is_due(view));
        due
    };
    for micros in [300, 10_010, 20_005, 37_900, 40_001, 75_000, 80_000, 90_001] {
        assert!(turns(&mut w, micros), "{micros}");
    }
    assert!(!turns(&mut w, 92_000), "none between two ticks");
    w.set_schedule(|s| s.patrol_region_interval = crate::config::GoDuration::from_secs(60));
    assert!(!turns(&mut w, 100_000));
    assert!(turns(&mut w, 60_090_301));
    assert!(!turns(&mut w, 60_100_000));
}

#[test]
fn suspects_are_worked_off_in_the_order_of_keys() {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.fill(40, |_| vec![1, 2]);
    w.patrol = Patrol::new();
    w.set_schedule(|s| s.replica_schedule_limit = 10);
    w.with_view(|view, _, patrol, _| {
        patrol.suspect_regions(view.regions.scan(&KeyRange::all(), 30).iter().map(|r| r.id()));
    });
    w.tick();
    let started: Vec<u64> = w.added.iter().map(|(_, op)| op.region.0 / 10).collect();
    assert_eq!(started, (1..=10).collect::<Vec<_>>(), "in reverse order it was: 30, 29 and so on");
}
