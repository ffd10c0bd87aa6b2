#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    config::BerthConfig,
    model::{KeyRange, RegionLabel, RegionLabelRule, Role, StoreId, StoreState, store::UNLIMITED},
    scheduler::{
        admin,
        checker::check,
        outcome::Outcome,
        placement::RuleSet,
        region_label::LabelIndex,
        testing::{World, wall, with_down},
    },
};

const SCOPES: [Scope; 3] = [Scope::Balance, Scope::Moves, Scope::All];

/// A world of six stores whose whole key space is denied for ninety seconds.
fn world(value: &str, scope: Scope) -> World {
    let mut w = World::new(6);
    (1..=6).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    let label = RegionLabel {
        key: "schedule".into(),
        value: value.into(),
        expires: Some(wall(&w, Duration::from_secs(90))),
        ..RegionLabel::default()
    };
    let keep = RegionLabelRule { id: "keep".into(), index: 0, labels: vec![label], ranges: vec![KeyRange::all()] };
    w.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(keep)]));
    w.settings.berth = Arc::new(BerthConfig { region_label_deny_scope: scope, ..BerthConfig::default() });
    w
}

fn held(w: &mut World, cause: Cause) -> bool {
    let mut answer = Ok(());
    w.with_view(|view, _, _, _| answer = denied(view, &World::region(1, &[1, 2, 3]), cause));
    assert!(answer.is_ok() || answer == Err(Reason::Denied { rule: "keep".into() }));
    answer.is_err()
}

#[test]
fn o7_each_scope_holds_its_causes_and_no_others() {
    for (cause, wanted) in [
        (Cause::Balance, [true, true, true]),
        (Cause::Merge, [true, true, true]),
        (Cause::Scatter, [true, true, true]),
        (Cause::BetterLocation, [false, true, true]),
        (Cause::Offline, [false, true, true]),
        (Cause::Repair, [false, false, true]),
        (Cause::Split, [false, false, true]),
    ] {
        assert_eq!(SCOPES.map(|scope| held(&mut world("deny", scope), cause)), wanted, "{cause:?}");
        assert_eq!(SCOPES.map(|scope| held(&mut world("Deny", scope), cause)), wanted, "{cause:?}");
        assert_eq!(SCOPES.map(|scope| held(&mut world("allow", scope), cause)), [false; 3], "{cause:?}");
        for scope in SCOPES {
            let mut w = world("deny", scope);
            w.pass(Duration::from_secs(90));
            assert!(!held(&mut w, cause), "{cause:?} after the end of the label");
        }
    }
    assert_eq!(held_by(Scope::Moves), ["balance", "merge", "scatter", "better-location", "offline"]);
}

#[test]
fn o7_the_border_of_another_rule_inside_a_region_frees_nothing() {
    let label = |value: &str, ends| RegionLabel {
        key: "schedule".into(),
        value: value.into(),
        expires: ends,
        ..RegionLabel::default()
    };
    let whole = World::region(1, &[1, 2, 3]).range().clone();
    let middle = [&whole.start[..], b"m"].concat();
    let (first, second) =
        (KeyRange::new(whole.start.clone(), middle.clone()), KeyRange::new(middle, whole.end.clone()));
    let mut w = world("deny", Scope::All);
    let end = Some(wall(&w, Duration::from_secs(10)));
    let rule = |id: &str, index, label, range: &KeyRange| {
        Arc::new(RegionLabelRule { id: id.into(), index, labels: vec![label], ranges: vec![range.clone()] })
    };
    let mut rules = |rules| w.settings.labels = Arc::new(LabelIndex::new(rules));
    rules(vec![rule("keep", 0, label("deny", None), &whole), rule("other", 1, label("x", end), &first)]);
    assert!(!held(&mut w, Cause::Split), "a part is asked to be let go");
    w.pass(Duration::from_secs(10));
    assert!(held(&mut w, Cause::Split), "what asked for it has ended, its border has not");
    let end = Some(wall(&w, Duration::from_secs(10)));
    let two = vec![rule("rest", 0, label("deny", None), &second), rule("keep", 1, label("Deny", end), &first)];
    w.settings.labels = Arc::new(LabelIndex::new(two));
    for cause in [Cause::Balance, Cause::Split] {
        assert!(held(&mut w, cause), "two rules cover it together");
    }
    w.with_view(|view, _, _, _| assert_eq!(ends(view, &World::region(1, &[1, 2, 3])), end));
    w.pass(Duration::from_secs(10));
    assert!(!held(&mut w, Cause::Balance), "a part is denied no longer");
}

/// The region with one thing wrong that each cause would mend, and what the checker finds where it is let.
fn cases(w: &mut World) -> Vec<(Cause, Region, &'static str)> {
    w.put_store(4, StoreState::Up, &[("zone", "a")]);
    w.put_store(5, StoreState::Up, &[("zone", "b")]);
    w.set_state(3, StoreState::Offline);
    let demoted = {
        let mut r = World::region(5, &[1, 2, 6]);
        Arc::make_mut(&mut r.meta).peers[2].role = Role::Learner;
        r
    };
    vec![
        (Cause::Offline, World::region(1, &[1, 2, 3]), "replace-rule-offline-peer"),
        (Cause::Repair, World::region(2, &[1, 2]), "add-rule-peer"),
        (Cause::Repair, World::region(3, &[1, 2, 4, 6]), "remove-orphan-peer"),
        (Cause::Repair, demoted, "fix-peer-role"),
    ]
}

fn found(w: &mut World, region: &Region) -> String {
    let mut said = String::new();
    w.with_view(|view, controller, _, _| {
        said = match check(view, controller, region) {
            Outcome::Healthy => "healthy".into(),
            Outcome::Propose(operators) => operators[0].desc.clone(),
            Outcome::Blocked(reason) => reason.name().into(),
        }
    });
    said
}

#[test]
fn o7_each_repair_asks_with_its_cause() {
    for scope in SCOPES {
        let mut w = world("deny", scope);
        for (cause, region, desc) in cases(&mut w) {
            let wanted = if held(&mut w, cause) { "denied" } else { desc };
            assert_eq!(found(&mut w, &region), wanted, "{scope:?} {cause:?}");
        }
        // A lost peer.
        let mut w = world("deny", scope);
        w.silent = vec![StoreId(3)];
        w.pass(Duration::from_secs(80));
        w.set_schedule(|s| s.max_store_down_time = crate::config::GoDuration::from_secs(60));
        let lost = with_down(&World::region(1, &[1, 2, 3]), 3, 80);
        let wanted = if held(&mut w, Cause::Repair) { "denied" } else { "replace-rule-down-peer" };
        assert_eq!(found(&mut w, &lost), wanted, "{scope:?}");
        // A better place.
        let mut w = world("deny", scope);
        for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
            w.put_store(id, StoreState::Up, &[("zone", zone)]);
        }
        w.set_rules(vec![RuleSet::default_rule(3, &["zone".into()], "")]);
        let wanted = if held(&mut w, Cause::BetterLocation) { "denied" } else { "move-to-better-location" };
        assert_eq!(found(&mut w, &World::region(1, &[1, 2, 3])), wanted, "{scope:?}");
    }
}

#[test]
fn o7_joint_states_are_left_and_people_obeyed_under_every_scope() {
    for scope in SCOPES {
        let mut w = world("deny", scope);
        let mut joint = World::region(1, &[1, 2, 3]);
        Arc::make_mut(&mut joint.meta).peers[2].role = Role::DemotingVoter;
        assert_eq!(found(&mut w, &joint), "leave-joint-state", "{scope:?}");
        w.report(World::region(2, &[1, 2, 3]));
        w.with_view(|view, _, _, _| {
            let request = admin::Request::TransferLeader { region: 20.into(), to: StoreId(2) };
            assert!(admin::build(view, &request).is_ok(), "{scope:?}");
        });
    }
    assert!(TABLE.iter().filter(|row| row.cause.is_none()).all(|row| SCOPES.iter().all(|s| !row.is_held(*s))));
}

/// The table as people read it.
fn markdown() -> String {
    let mut out =
        String::from("| kind of work | name | `balance` | `moves` (default) | `all` |\n|---|---|---|---|---|\n");
    for row in &TABLE {
        let cell = |scope| match (row.cause, row.is_held(scope)) {
            (None, _) => "never",
            (_, true) => "held",
            (_, false) => "",
        };
        let cells = SCOPES.map(|scope| format!(" {} |", cell(scope))).concat();
        out.push_str(&format!("| {} | `{}` |{cells}\n", row.what, row.name));
    }
    out
}

#[test]
fn the_documentation_shows_this_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deny-scopes.md");
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains(&markdown()), "docs/deny-scopes.md should hold\n{}", markdown());
}
