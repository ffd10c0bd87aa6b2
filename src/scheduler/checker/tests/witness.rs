//! Witnesses: peers that vote and keep the log only.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::scheduler::effect::CommandKind;

/// Two voters with data and a witness, if `allowed`.
fn with_witness_rule(allowed: bool) -> World {
    let mut w = world(5);
    w.set_schedule(|s| s.enable_witness = allowed);
    w.set_rules(vec![
        rule("data", RuleRole::Voter, 2, None),
        Rule { is_witness: true, ..rule("log", RuleRole::Voter, 1, None) },
    ]);
    w
}

fn witness_on(region: &mut Region, store: u64) {
    Arc::make_mut(&mut region.meta).peers.iter_mut().for_each(|p| p.is_witness = p.store.0 == store);
}

#[test]
fn what_a_rule_says_of_witnesses_holds_only_where_they_are_allowed() {
    let plain = World::region(1, &[1, 2, 3]);
    let mut with = plain.clone();
    witness_on(&mut with, 3);
    let mut w = with_witness_rule(true);
    assert_eq!(say(&mut w, &with), "healthy");
    assert_eq!(say(&mut w, &plain), "fix-witness-peer (witness)");
    let op = propose(&mut w, &World::region(1, &[1, 2]));
    assert_eq!(op.desc, "add-rule-peer");
    assert!(op.steps[0].to_string().starts_with("add witness learner peer"), "{}", op.steps[0]);
    w.settings.version = "6.5.0".parse().unwrap();
    assert_eq!(say(&mut w, &plain), "healthy", "stores that do not know witnesses get none");

    let mut w = with_witness_rule(false);
    assert_eq!(say(&mut w, &plain), "healthy");
    let op = propose(&mut w, &with);
    assert_eq!((op.desc.as_str(), op.kind.to_string().as_str()), ("fix-non-witness-peer", "witness"));
    assert_eq!(op.brief, "switch peer: store [3] to non-witness");
    assert_eq!(
        (op.steps[0].to_string().as_str(), op.timeout),
        ("switch peer 13 on store 3 to non-witness", Duration::from_secs(600))
    );
    let op = propose(&mut w, &World::region(1, &[1, 2]));
    assert!(op.steps[0].to_string().starts_with("add learner peer"), "{}", op.steps[0]);
}

#[test]
fn a_region_that_lags_gets_no_witness_and_one_that_got_data_keeps_it_for_a_while() {
    let mut w = with_witness_rule(true);
    let mut region = World::region(1, &[1, 2, 3]);
    region.pending = vec![PeerId(12)];
    assert_eq!(say(&mut w, &region), "healthy");

    // Allowed, forbidden, allowed again within the interval.
    let mut with = World::region(1, &[1, 2, 3]);
    witness_on(&mut with, 3);
    w.report(with);
    w.set_schedule(|s| s.enable_witness = false);
    for _ in 0..10 {
        w.tick();
    }
    assert!(w.get(10).peers().iter().all(|p| !p.is_witness));
    w.set_schedule(|s| s.enable_witness = true);
    for _ in 0..10 {
        w.tick();
    }
    assert_eq!(w.added.len(), 1, "not at once");
    w.pass(Duration::from_secs(3600));
    for _ in 0..10 {
        w.tick();
    }
    assert!(w.get(10).peers().iter().any(|p| p.is_witness));
}

#[test]
fn a_leader_that_shall_be_a_witness_hands_over_first() {
    let mut w = with_witness_rule(true);
    let mut region = World::region(1, &[1, 2, 3]);
    region.leader = Some(PeerId(13));
    let op = propose(&mut w, &region);
    assert_eq!((op.desc.as_str(), op.kind.to_string().as_str()), ("fix-witness-peer", "leader,witness"));
    assert_eq!(op.brief, "switch peer: store [3] to witness");
    let steps = |op: &Operator| op.steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(steps(&op), ["transfer leader from store 3 to store 1", "switch peer 13 on store 3 to witness"]);
    w.report(region.clone());
    for _ in 0..10 {
        w.tick();
    }
    let now = w.get(10);
    assert_eq!(now.peers().iter().map(|p| p.is_witness).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((now.leader_store(), w.added.len()), (Some(StoreId(1)), 1));

    // Of two that shall be witnesses the leader is the last, and hands over to neither.
    let data = |role, count| rule("data", role, count, None);
    let log = |role, count| Rule { is_witness: true, ..rule("log", role, count, None) };
    w.set_rules(vec![data(RuleRole::Voter, 1), log(RuleRole::Voter, 2)]);
    let mut region = World::region(1, &[1, 2, 3]);
    region.leader = Some(PeerId(12));
    assert_eq!(steps(&propose(&mut w, &region)), ["switch peer 13 on store 3 to witness"]);
    witness_on(&mut region, 3);
    assert_eq!(
        steps(&propose(&mut w, &region)),
        ["transfer leader from store 2 to store 1", "switch peer 12 on store 2 to witness"]
    );

    // Nobody else may lead.
    w.set_rules(vec![data(RuleRole::Follower, 2), log(RuleRole::Voter, 1)]);
    let mut region = World::region(1, &[1, 2, 3]);
    region.leader = Some(PeerId(13));
    assert_eq!(say(&mut w, &region), "no-leader-target");
    w.set_rules(vec![log(RuleRole::Leader, 1), data(RuleRole::Voter, 2)]);
    assert_eq!(say(&mut w, &region), "no-leader-target");
}

#[test]
fn a_witness_helps_out_while_a_voter_is_silent_and_stands_in_first_for_a_lost_one() {
    let mut w = with_witness_rule(true);
    let mut region = World::region(1, &[1, 2, 3]);
    witness_on(&mut region, 3);
    let silent = with_down(&region, 2, 60);
    assert_eq!(say(&mut w, &silent), "promote-witness-for-down (region,witness)");
    w.now = w.now.plus(Duration::from_secs(1800));
    [1, 3, 4, 5].into_iter().for_each(|id| w.report_store(id));
    let op = propose(&mut w, &with_down(&region, 2, 1860));
    assert_eq!((op.desc.as_str(), op.priority), ("fast-replace-rule-down-peer", Priority::Urgent));
    assert!(op.steps[0].to_string().starts_with("add witness learner peer"), "{}", op.steps[0]);
    let mut w = with_witness_rule(true);
    w.set_state(3, StoreState::Offline);
    assert_eq!(say(&mut w, &region), "fast-replace-rule-offline-peer (replica,region)");
    w.set_state(3, StoreState::Up);
    w.set_state(2, StoreState::Offline);
    assert_eq!(say(&mut w, &region), "replace-rule-offline-peer (replica,region)");
}

#[test]
fn nodes_are_asked_to_switch_a_peer() {
    let mut w = with_witness_rule(true);
    w.report(World::region(1, &[1, 2, 3]));
    let mut sent = Vec::new();
    let out = w.with_view(|view, controller, patrol, out| patrol.tick(view, controller, out));
    for effect in &out {
        if let crate::scheduler::effect::Effect::Send(command) = effect {
            sent.push(command.kind.clone());
        }
    }
    assert_eq!(sent, [CommandKind::SwitchWitness { peer: PeerId(13), is_witness: true }]);
}
