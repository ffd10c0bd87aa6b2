//! Borders of rules and labels, and splits that nobody carries out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::{
    model::{Key, KeyRange},
    scheduler::{effect::Effect, operator::Status},
};

fn key(at: u64) -> Key {
    Key::from(at.to_be_bytes().to_vec())
}

/// Cuts the key space at these positions with a label.
fn label_borders(w: &mut World, at: &[u64]) {
    let label = RegionLabel { key: "id".into(), value: "1".into(), ..RegionLabel::default() };
    let ranges = at.windows(2).map(|pair| KeyRange { start: key(pair[0]), end: key(pair[1]) }).collect();
    let cuts = RegionLabelRule { id: "cuts".into(), index: 0, labels: vec![label], ranges };
    w.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(cuts)]));
}

/// A region over the positions from `from` to before `to`.
fn wide(from: u64, to: u64, stores: &[u64]) -> Region {
    let mut region = World::region(from, stores);
    Arc::make_mut(&mut region.meta).range = KeyRange { start: key(from), end: key(to) };
    region
}

#[test]
fn a_region_across_a_border_is_split_there_and_its_operator_says_for_what() {
    let mut w = world(4);
    label_borders(&mut w, &[0, 5, 7]);
    let region = wide(1, 9, &[1, 2, 3]);
    let op = propose(&mut w, &region);
    assert_eq!(
        (op.desc.as_str(), op.kind.to_string().as_str(), op.priority),
        ("labeler-split-region", "split", Priority::Medium)
    );
    let hex = |at: u64| key(at).hex();
    assert_eq!(op.brief, format!("split: region 10 use policy USEKEY and keys [{} {}]", hex(5), hex(7)));
    assert_eq!(op.info_text(), format!(r#"{{"region-end-key":"{}","region-start-key":"{}"}}"#, hex(9), hex(1)));
    assert_eq!(say(&mut w, &wide(5, 7, &[1, 2, 3])), "healthy", "a region that ends at the borders is left alone");

    let mut border = rule("b", RuleRole::Voter, 3, None);
    border.range = KeyRange { start: key(4), end: Key::empty() };
    let all = RuleSet::default_rule(3, &[], "");
    w.set_rules(vec![all, Rule { override_: true, index: 1, ..border }]);
    assert_eq!(say(&mut w, &region), "labeler-split-region (split)", "labels come first");
    w.settings.labels = Arc::default();
    assert_eq!(say(&mut w, &region), "rule-split-region (split)");
    w.settings.replication =
        Arc::new(crate::config::ReplicationConfig { enable_placement_rules: false, ..Default::default() });
    assert_eq!(say(&mut w, &region), "healthy", "without rules their borders mean nothing");
}

#[test]
fn a_split_is_made_once_and_all_its_parts_are_then_left_alone() {
    let mut w = world(4);
    label_borders(&mut w, &[0, 5, 7]);
    w.report(wide(1, 9, &[1, 2, 3]));
    for _ in 0..20 {
        w.tick();
    }
    let names: Vec<_> = w.added.iter().map(|(_, op)| op.desc.as_str()).collect();
    assert_eq!(names, ["labeler-split-region"]);
    let parts = w.regions.scan(&KeyRange::all(), 10);
    assert_eq!(parts.iter().map(|r| r.range().start.clone()).collect::<Vec<_>>(), [key(1), key(5), key(7)]);
}

/// Lets time pass until the running operator has ended, without the nodes doing anything.
fn time_out(w: &mut World) -> Vec<(String, Status)> {
    let mut ended = Vec::new();
    for _ in 0..70 {
        w.pass(Duration::from_secs(1));
        let out = w.with_view(|view, controller, _, out| controller.tick(view, out));
        for effect in &out {
            if let Effect::Tell(crate::scheduler::effect::Event::OperatorEnded { op, .. }) = effect {
                ended.push((op.desc.clone(), op.status));
            }
        }
        w.start(&out);
    }
    ended
}

#[test]
fn o8_a_split_that_nobody_carries_out_does_not_hold_a_drain() {
    let mut w = world(5);
    w.node_takes = Duration::from_secs(1_000_000);
    label_borders(&mut w, &[0, 5]);
    w.report(wide(1, 9, &[1, 2, 3]));
    w.set_state(3, StoreState::Offline);
    w.tick();
    let names = |w: &World| w.added.iter().map(|(_, op)| op.desc.clone()).collect::<Vec<_>>();
    assert_eq!(names(&w), ["labeler-split-region"]);
    assert_eq!(time_out(&mut w), [("labeler-split-region".to_owned(), Status::Timeout)]);
    w.tick();
    assert_eq!(names(&w), ["labeler-split-region", "replace-rule-offline-peer"], "the drain comes next");
}

#[test]
fn a_split_that_timed_out_is_tried_again_after_a_while_when_nothing_else_is_wrong() {
    let mut w = world(4);
    w.node_takes = Duration::from_secs(1_000_000);
    label_borders(&mut w, &[0, 5]);
    w.report(wide(1, 9, &[1, 2, 3]));
    w.tick();
    time_out(&mut w);
    w.tick();
    assert_eq!(w.added.len(), 1, "not at once");
    w.pass(Duration::from_secs(600));
    w.tick();
    assert_eq!(w.added.len(), 2);
}

#[test]
fn a_region_that_no_rule_covers_whole_can_only_be_split_so_the_split_is_tried_at_once_again() {
    let mut w = world(4);
    w.node_takes = Duration::from_secs(1_000_000);
    let mut border = rule("b", RuleRole::Voter, 3, None);
    border.range = KeyRange { start: key(4), end: Key::empty() };
    w.set_rules(vec![RuleSet::default_rule(3, &[], ""), Rule { override_: true, index: 1, ..border }]);
    w.report(wide(1, 9, &[1, 2, 3]));
    w.tick();
    time_out(&mut w);
    w.tick();
    let names: Vec<_> = w.added.iter().map(|(_, op)| op.desc.as_str()).collect();
    assert_eq!(names, ["rule-split-region", "rule-split-region"]);
}

#[test]
fn a_paused_split_checker_lets_repairs_through_and_is_named_when_there_are_none() {
    let mut w = world(4);
    label_borders(&mut w, &[0, 5]);
    let now = w.now;
    w.patrol.pause(CheckerName::Split, Duration::from_secs(60), now);
    let says = |w: &mut World, region: &Region| {
        let mut said = String::new();
        w.with_view(|view, controller, patrol, _| {
            said = match check_with(view, controller, patrol.memory(), region) {
                Outcome::Propose(ops) => ops[0].desc.clone(),
                Outcome::Blocked(reason) => format!("{reason:?}"),
                Outcome::Healthy => "healthy".into(),
            };
        });
        said
    };
    assert_eq!(says(&mut w, &wide(1, 9, &[1, 2])), "add-rule-peer");
    assert_eq!(says(&mut w, &wide(1, 9, &[1, 2, 3])), r#"CheckerPaused("split")"#);
    assert_eq!(says(&mut w, &wide(5, 9, &[1, 2, 3])), "healthy");
    w.pass(Duration::from_secs(60));
    assert_eq!(says(&mut w, &wide(1, 9, &[1, 2, 3])), "labeler-split-region");
}

#[test]
fn a_paused_rule_checker_holds_what_needs_it_takes_no_ids_and_wakes_when_the_pause_ends() {
    let mut w = world(4);
    let now = w.now;
    w.patrol.pause(CheckerName::Rule, Duration::from_secs(57), now);
    w.patrol.pause(CheckerName::JointState, Duration::from_secs(57), now);
    w.report(World::region(1, &[1, 2]));
    w.report(World::region(2, &[1, 2, 3]));
    // The net under missed events wakes every ten seconds, so 57 s tell the event from the net.
    for _ in 0..5699 {
        w.tick();
    }
    assert_eq!((w.added.len(), w.ids_taken()), (0, 0));
    let mut joint = World::region(3, &[1, 2, 3]);
    roles(&mut joint, |p| if p.store.0 == 3 { Role::DemotingVoter } else { Role::Voter });
    w.with_view(|view, controller, patrol, _| {
        let outcome = |r: &Region| check_with(view, controller, patrol.memory(), r);
        assert!(matches!(outcome(&World::region(1, &[1, 2])), Outcome::Blocked(Reason::CheckerPaused("rule"))));
        assert!(matches!(outcome(&World::region(2, &[1, 2, 3])), Outcome::Healthy));
        assert!(matches!(outcome(&joint), Outcome::Blocked(Reason::CheckerPaused("joint-state"))));
    });
    w.tick();
    w.tick();
    assert_eq!(w.added.len(), 1, "the end of the pause is an event");
}

#[test]
fn suspect_ranges_are_worked_off_in_ticks() {
    let mut w = world(5);
    for at in 1..=3000 {
        w.regions.apply(World::region(at, &[1, 2])).unwrap();
    }
    // The walk alone would reach the last of them only after many ticks.
    w.patrol.suspect_ranges([KeyRange { start: key(2990), end: Key::empty() }, KeyRange::all()]);
    w.tick();
    assert!(w.added.iter().any(|(_, op)| op.region.0 >= 29_900), "{:?}", w.added.len());
    for _ in 0..20 {
        w.tick();
    }
    assert_eq!(w.patrol.suspect_len(), 0);
}
