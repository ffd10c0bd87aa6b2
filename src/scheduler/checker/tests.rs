#![allow(clippy::unwrap_used, clippy::expect_used)]

mod merge;
mod replica;
mod split;
mod targets;
mod witness;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    config::{BerthConfig, DenyScope},
    model::{
        LabelConstraint, LabelOp, Peer, PeerId, Region, RegionLabel, RegionLabelRule, Role, Rule, RuleRole, StoreId,
        StoreLabel, StoreState,
    },
    scheduler::{
        controller::journal::By,
        operator::{Kind, Priority},
        placement::{RuleSet, fit},
        region_label::LabelIndex,
        testing::{World, wall, with_down},
    },
};

/// What a check says, in one line: `desc (kind)`, `healthy`, or the reason's name.
fn say(world: &mut World, region: &Region) -> String {
    let mut said = String::new();
    world.with_view(|view, controller, _, _| {
        said = match check(view, controller, region) {
            Outcome::Healthy => "healthy".into(),
            Outcome::Propose(ops) => format!("{} ({})", ops[0].desc, ops[0].kind),
            Outcome::Blocked(reason) => reason.name().into(),
        };
    });
    said
}

fn propose(world: &mut World, region: &Region) -> Operator {
    let mut found = None;
    world.with_view(|view, controller, _, _| match check(view, controller, region) {
        Outcome::Propose(mut ops) => found = ops.pop(),
        other => panic!("{other:?}"),
    });
    found.unwrap()
}

/// A world whose limits have had time to fill up.
fn world(stores: u64) -> World {
    let mut world = World::new(stores);
    world.now = world.now.plus(Duration::from_secs(3600));
    (1..=stores).for_each(|id| world.report_store(id));
    world
}

fn roles(region: &mut Region, of: impl Fn(&Peer) -> Role) {
    let meta = Arc::make_mut(&mut region.meta);
    for peer in &mut meta.peers {
        peer.role = of(peer);
    }
}

fn rule(id: &str, role: RuleRole, count: u32, zone: Option<&str>) -> Rule {
    let constraints = zone
        .map(|z| LabelConstraint { key: "zone".into(), op: LabelOp::In, values: vec![z.into()] })
        .into_iter()
        .collect();
    Rule { group_id: "pd".into(), id: id.into(), role, count, constraints, ..Rule::default() }
}

#[test]
fn a_healthy_region_is_left_alone_and_a_headless_one_named() {
    let mut w = world(4);
    let mut r = World::region(1, &[1, 2, 3]);
    assert_eq!(say(&mut w, &r), "healthy");
    r.leader = None;
    assert_eq!(say(&mut w, &r), "no-leader");
    w.set_schedule(|s| s.halt_scheduling = true);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2])), "halted", "O7: nothing new while scheduling is halted");
}

#[test]
fn a_missing_peer_is_added() {
    let mut w = world(4);
    let op = propose(&mut w, &World::region(1, &[1, 2]));
    assert_eq!((op.desc.as_str(), op.priority), ("add-rule-peer", Priority::High));
    assert!(op.kind.has(Kind::REPLICA | Kind::REGION));
    assert_eq!(say(&mut world(2), &World::region(1, &[1, 2])), "no-target");
    w.set_schedule(|s| s.enable_make_up_replica = false);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2])), "switched-off");
}

#[test]
fn a_down_peer_is_replaced_when_its_store_is_down_too() {
    let mut w = world(5);
    let r = with_down(&World::region(1, &[1, 2, 3]), 3, 4000);
    assert_eq!(say(&mut w, &r), "healthy", "its leader alone may be cut off");
    let later = |w: &mut World, by: u64| {
        w.now = w.now.plus(Duration::from_secs(by));
        [1, 2, 4, 5].into_iter().for_each(|id| w.report_store(id));
    };
    later(&mut w, 1799);
    assert_eq!(say(&mut w, &r), "healthy");
    later(&mut w, 1);
    assert_eq!(say(&mut w, &r), "replace-rule-down-peer (replica,region)");
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "healthy", "not reported down");
}

#[test]
fn the_peer_on_an_offline_store_is_replaced() {
    let mut w = world(5);
    w.set_state(3, StoreState::Offline);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "replace-rule-offline-peer (replica,region)");
    w.set_schedule(|s| s.enable_replace_offline_replica = false);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "switched-off");
}

#[test]
fn leaders_of_a_draining_store_go_round_the_stores_of_their_regions() {
    let mut w = world(6);
    w.set_state(1, StoreState::Offline);
    let mut memory = Memory::default();
    let mut names = Vec::new();
    for at in 1..=6 {
        let r = World::region(at, &[1, 2, 3]);
        w.with_view(|view, controller, _, _| {
            let Outcome::Propose(ops) = check_with(view, controller, &memory, &r) else { panic!() };
            assert!(ops[0].kind.has(Kind::LEADER));
            memory.spread.count_turn(LeaderSpread::turn(&r, &ops[0]).unwrap());
            names.push(ops[0].desc.clone());
        });
    }
    let (plain, leader) = ("replace-rule-offline-peer", "replace-rule-offline-leader-peer");
    assert_eq!(names, [plain, leader, leader, plain, leader, leader]);
    assert_eq!([1, 2, 3].map(|s| memory.spread.count(StoreId(s))), [2, 2, 2]);
}

#[test]
fn roles_are_mended_by_pds_names() {
    let mut w = world(4);
    for id in 1..=4 {
        let zone = if id == 1 { "z1" } else { "z2" };
        w.put_store(id, StoreState::Up, &[("zone", zone)]);
    }
    let mut r = World::region(1, &[1, 2, 3]);
    roles(&mut r, |p| if p.store.0 == 3 { Role::Learner } else { Role::Voter });
    assert_eq!(say(&mut w, &r), "fix-peer-role (unknown)");
    r.pending = vec![PeerId(13)];
    assert_eq!(say(&mut w, &r), "pending-peer", "a learner that lags must not vote");
    w.set_rules(vec![rule("l", RuleRole::Leader, 1, Some("z2")), rule("v", RuleRole::Voter, 2, None)]);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "fix-leader-role (leader)");
    w.set_rules(vec![rule("f", RuleRole::Follower, 1, Some("z1")), rule("v", RuleRole::Voter, 2, Some("z2"))]);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "fix-follower-role (leader)");
    w.settings.reject_leader = [StoreLabel { key: "zone".into(), value: "z2".into() }].into();
    w.with_view(|view, controller, _, _| {
        let outcome = check(view, controller, &World::region(1, &[1, 2, 3]));
        let Outcome::Blocked(Reason::NoLeaderTarget { rejecting }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejecting, [2, 3].map(StoreId), "what keeps them from it is told");
    });
    w.settings.reject_leader = Arc::default();
    w.set_rules(vec![rule("n", RuleRole::Learner, 1, Some("z1")), rule("v", RuleRole::Voter, 2, Some("z2"))]);
    assert_eq!(say(&mut w, &World::region(1, &[2, 3, 1])), "fix-demote-voter (unknown)");
}

#[test]
fn a_joint_state_is_left_before_all_else() {
    let mut w = world(4);
    w.set_schedule(|s| s.replica_schedule_limit = 0);
    let mut r = World::region(1, &[1, 2, 3, 4]);
    roles(&mut r, |p| match p.store.0 {
        3 => Role::DemotingVoter,
        4 => Role::IncomingVoter,
        _ => Role::Voter,
    });
    let op = propose(&mut w, &r);
    assert_eq!((op.desc.as_str(), op.priority), ("leave-joint-state", Priority::High));
}

#[test]
fn a_left_over_peer_goes_when_nothing_else_is_wrong() {
    let mut w = world(5);
    let r = World::region(1, &[1, 2, 3, 4]);
    assert_eq!(say(&mut w, &r), "remove-orphan-peer (region)");
    let down = with_down(&r, 2, 100);
    assert_eq!(say(&mut w, &down), "remove-orphan-peer (region)", "the fit keeps the healthy ones");
    let mut lagging = r.clone();
    lagging.pending = vec![PeerId(13), PeerId(14)];
    assert_eq!(say(&mut w, &lagging), "pending-peer", "one of three lags: nothing may go");
    lagging.meta = World::region(1, &[1, 2, 3, 4, 5]).meta;
    lagging.pending = vec![PeerId(13), PeerId(14), PeerId(15)];
    assert_eq!(say(&mut w, &lagging), "remove-unhealthy-orphan-peer (region)");
    w.set_schedule(|s| s.enable_remove_extra_replica = false);
    assert_eq!(say(&mut w, &r), "switched-off");
}

#[test]
fn a_left_over_learner_stands_in_for_a_lost_voter() {
    let mut w = world(4);
    w.now = w.now.plus(Duration::from_secs(60));
    [1, 2, 4].into_iter().for_each(|id| w.report_store(id));
    let mut r = with_down(&World::region(1, &[1, 2, 3, 4]), 3, 60);
    roles(&mut r, |p| if p.store.0 == 4 { Role::Learner } else { Role::Voter });
    assert_eq!(say(&mut w, &r), "replace-down-peer-with-orphan-peer (region)");
    w.report_store(3);
    assert_eq!(say(&mut w, &r), "pending-peer", "its store is there: the voter may come back");
}

#[test]
fn a_peer_moves_to_a_better_location_only_when_one_is_there() {
    let mut w = world(4);
    for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        w.put_store(id, StoreState::Up, &[("zone", zone)]);
    }
    w.set_rules(vec![Rule { location_labels: vec!["zone".into()], ..rule("default", RuleRole::Voter, 3, None) }]);
    let r = World::region(1, &[1, 2, 3]);
    assert!(say(&mut w, &r).starts_with("move-to-better-location (replica,region"));
    assert_eq!(say(&mut w, &World::region(1, &[1, 4, 3])), "healthy");
    w.put_store(4, StoreState::Up, &[("zone", "b")]);
    assert_eq!(say(&mut w, &r), "healthy", "nothing lies further apart");
}

#[test]
fn a_missing_column_learner_comes_before_an_offline_voter() {
    let mut w = world(6);
    w.put_store(6, StoreState::Up, &[("engine", "tiflash")]);
    let engine = LabelConstraint { key: "engine".into(), op: LabelOp::In, values: vec!["tiflash".into()] };
    let column =
        Rule { group_id: "tiflash".into(), constraints: vec![engine], ..rule("table-30", RuleRole::Learner, 1, None) };
    w.set_rules(vec![rule("default", RuleRole::Voter, 3, None), column]);
    w.set_state(3, StoreState::Offline);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "add-rule-peer (replica,region)");
    w.set_state(6, StoreState::Offline);
    assert_eq!(say(&mut w, &World::region(1, &[1, 2, 3])), "replace-rule-offline-peer (replica,region)");
}

#[test]
fn o7_a_deny_label_holds_what_its_scope_says_until_it_expires() {
    let mut w = world(5);
    w.set_state(3, StoreState::Offline);
    let label = RegionLabel {
        key: "schedule".into(),
        value: "deny".into(),
        expires: Some(wall(&w, Duration::from_secs(90))),
        ..RegionLabel::default()
    };
    let ranges = vec![crate::model::KeyRange::all()];
    let keep = RegionLabelRule { id: "keep-still".into(), index: 0, labels: vec![label], ranges };
    w.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(keep)]));
    let (drained, missing) = (World::region(1, &[1, 2, 3]), World::region(2, &[1, 2]));
    for (scope, of_drained, of_missing) in [
        (DenyScope::Moves, "denied", "add-rule-peer (replica,region)"),
        (DenyScope::All, "denied", "denied"),
        (DenyScope::Balance, "replace-rule-offline-peer (replica,region)", "add-rule-peer (replica,region)"),
    ] {
        w.settings.berth = Arc::new(BerthConfig { region_label_deny_scope: scope, ..BerthConfig::default() });
        assert_eq!(say(&mut w, &drained), of_drained, "{scope:?}");
        assert_eq!(say(&mut w, &missing), of_missing, "{scope:?}");
    }
    w.settings.berth = Arc::new(BerthConfig::default());
    w.now = w.now.plus(Duration::from_secs(90));
    (1..=5).for_each(|id| w.report_store(id));
    assert_eq!(say(&mut w, &drained), "replace-rule-offline-peer (replica,region)");
}

#[test]
fn refusals_name_the_filter_and_tell_lasting_from_passing() {
    let mut w = world(5);
    w.set_state(3, StoreState::Offline);
    w.set_state(5, StoreState::Tombstone);
    w.set_limits(4, 0.001, 15.0);
    let stats = crate::model::StoreStats { is_busy: true, capacity: 1 << 40, available: 1 << 39, ..Default::default() };
    w.hear_store(StoreId(4), stats);
    w.with_view(|view, controller, _, _| {
        let Outcome::Blocked(Reason::TargetBusy { refused }) = check(view, controller, &World::region(1, &[1, 2, 3]))
        else {
            panic!()
        };
        assert_eq!(refused["store-state-busy-filter"], [StoreId(4)]);
        assert_eq!(refused["exclude-filter"], [1, 2, 3].map(StoreId));
        assert_eq!(refused["store-state-tombstone-filter"], [StoreId(5)]);
    });
}

/// O2: no operator of the rule checker makes the fit worse, and each ends with a better one, over random regions, store states and
/// labels.
#[test]
fn o2_every_proposal_leads_to_a_better_fit() {
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut proposed = 0;
    for _ in 0..300 {
        let mut w = world(7);
        for id in 1..=7 {
            let zone = ["a", "b", "c"][rng.random_range(0..3)];
            let state = if rng.random_range(0..5) == 0 { StoreState::Offline } else { StoreState::Up };
            w.put_store(id, state, &[("zone", zone)]);
        }
        let labelled = Rule { location_labels: vec!["zone".into()], ..rule("default", RuleRole::Voter, 3, None) };
        w.set_rules(vec![labelled]);
        let mut stores: Vec<u64> = (1..=7).collect();
        stores.shuffle(&mut rng);
        stores.truncate(rng.random_range(2..=4));
        let region = World::region(1, &stores);
        w.regions.apply(region.clone()).unwrap();
        let worth = |w: &World, r: &Region| {
            let all = w.stores.snapshot();
            let found = fit(r, w.settings.rules.for_region(r), &all);
            let first = &found.rules[0];
            let up = |p: &&Peer| all[&p.store].record.state == StoreState::Up;
            let serving = first.peers.iter().filter(up).count();
            (serving.min(3), first.peers.len(), -(found.orphans.len() as i64), first.isolation_score as i64)
        };
        let before = worth(&w, &region);
        let out = w.with_view(|view, controller, _, out| {
            if let Outcome::Propose(ops) = check(view, controller, &region) {
                controller.add(view, ops, &By::checker(), out).unwrap();
            }
        });
        if out.is_empty() {
            continue;
        }
        proposed += 1;
        w.start(&out);
        w.finish_commands();
        let after = worth(&w, &w.get(10));
        assert!(after > before, "{before:?} → {after:?} from {stores:?}");
    }
    assert!(proposed > 100, "{proposed}");
}
