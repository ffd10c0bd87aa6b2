#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod obstacles;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use obstacles::explain;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Known,
    drain::Binding,
    preview::{Load, Preview, preview},
    region::{RegionReport, Said, region},
    remedy::remedy,
    text,
    why::{Groups, Why},
};
use crate::{
    model::{
        KeyRange, Mono, Now, Region, RegionId, RegionLabel, RegionLabelRule, StoreId, StoreLimits, StoreState,
        store::UNLIMITED,
    },
    scheduler::{
        controller::journal::{Maker, Past},
        operator::Status,
        outcome::Reason,
        placement::RuleSet,
        region_label::LabelIndex,
        testing::World,
    },
    store::index::Held,
};

fn known<R>(w: &mut World, f: impl FnOnce(&Known<'_>) -> R) -> R {
    let mut answer = None;
    w.with_view(|view, controller, patrol, _| {
        answer = Some(f(&Known { view, controller, patrol, prepared: true }));
    });
    answer.unwrap()
}

fn explain_region(w: &mut World, id: u64) -> RegionReport {
    known(w, |known| region(known, RegionId(id))).unwrap()
}

fn deny(w: &mut World, from: u64, to: u64) {
    let label = RegionLabel { key: "schedule".into(), value: "deny".into(), ..RegionLabel::default() };
    let key = |n: u64| n.to_be_bytes().to_vec();
    let ranges = vec![KeyRange::new(key(from), key(to))];
    let rule = RegionLabelRule { id: "part".into(), index: 0, labels: vec![label], ranges };
    w.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(rule)]));
    w.patrol.on_settings_changed(w.now.mono);
}

/// Random clusters, random obstacles, random moments: every region on the draining stores stands in one group.
#[test]
fn groups_add_up_whatever_happens() {
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let stores = rng.random_range(4..8);
        let mut w = World::new(stores);
        for id in 1..=stores {
            let rate = [0.0, 6.0, 600.0, UNLIMITED][rng.random_range(0..4)];
            w.set_limits(id, rate, UNLIMITED);
        }
        for at in 1..=rng.random_range(5..80) {
            let mut all: Vec<u64> = (1..=stores).collect();
            let on: Vec<u64> =
                (0..rng.random_range(2..5)).map(|_| all.remove(rng.random_range(0..all.len()))).collect();
            let mut region = World::region(at, &on);
            if rng.random_ratio(1, 10) {
                region.leader = None;
            }
            if rng.random_ratio(1, 10) {
                region.pending = vec![region.peers()[1].id];
            }
            w.report(region);
        }
        for step in 0..30 {
            match rng.random_range(0..9) {
                0 => w.set_state(rng.random_range(1..=stores), StoreState::Offline),
                1 => w.set_state(rng.random_range(1..=stores), StoreState::Up),
                2 => {
                    let from = rng.random_range(0..50);
                    deny(&mut w, from, from + 20);
                }
                3 => {
                    let limit = rng.random_range(0..4);
                    w.set_schedule(|s| s.replica_schedule_limit = limit);
                }
                4 => {
                    let halt = rng.random();
                    w.set_schedule(|s| s.halt_scheduling = halt);
                }
                5 => w.silent = vec![StoreId(rng.random_range(1..=stores))],
                6 => w.pass(Duration::from_secs(rng.random_range(1..40))),
                7 => w.node_takes = Duration::from_millis([20, 500, 90_000][rng.random_range(0..3)]),
                _ => w.set_schedule(|s| s.replica_schedule_limit = 64),
            }
            for _ in 0..rng.random_range(1..40) {
                w.tick();
            }
            let draining: Vec<StoreId> = w.stores.snapshot().values().map(|s| s.id()).collect();
            for store in draining {
                let report = explain(&mut w, store);
                names.extend(report.groups.iter().map(|g| g.why.name()));
                assert!(!text::drain(&report, None, &|_| None).is_empty(), "seed {seed} step {step}");
            }
        }
    }
    for name in ["moving", "in-line", "denied", "schedule-limit", "halted", "no-leader", "no-target", "store-limit"] {
        assert!(names.contains(name), "the worlds are too tame: no {name} in {names:?}");
    }
}

#[test]
fn a_region_shows_every_store_with_every_filter_and_takes_nothing() {
    let mut w = World::new(6);
    w.put_store(5, StoreState::Up, &[("specialUse", "reserved")]);
    w.set_limits(5, 0.0, UNLIMITED);
    [1, 2, 3, 4, 6].into_iter().for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.report(World::region(1, &[3, 1, 2]));
    assert_eq!(explain_region(&mut w, 10).said, Said::Healthy);
    w.set_state(3, StoreState::Offline);
    let ids = w.ids_taken();
    let report = explain_region(&mut w, 10);
    assert_eq!(w.ids_taken(), ids);
    let Said::WouldRun(ops) = &report.said else { panic!("{report:?}") };
    assert!(ops[0].0.starts_with("replace-rule-offline-"), "{ops:?}");
    let [(choice, candidates)] = report.choices.as_slice() else { panic!("{report:?}") };
    let by_store: BTreeMap<u64, Vec<&str>> =
        candidates.iter().map(|c| (c.store.0, c.refused.iter().map(|r| r.name()).collect())).collect();
    assert_eq!(by_store[&1], ["exclude-filter"]);
    assert_eq!(by_store[&3], ["exclude-filter", "store-state-offline-filter"]);
    assert_eq!(by_store[&5], ["special-use-filter", "store-state-exceed-add-limit-filter"], "all, not only the first");
    assert!(by_store[&4].is_empty() && by_store[&6].is_empty());
    assert!(choice.chosen == Some(StoreId(4)) || choice.chosen == Some(StoreId(6)));
    // What is chosen is what is then done.
    w.tick();
    assert_eq!(w.added[0].1.steps.iter().find_map(|s| s.new_peer_store()), choice.chosen);
}

#[test]
fn a_region_that_is_held_shows_what_would_be_without_the_hold() {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.report(World::region(1, &[3, 1, 2]));
    deny(&mut w, 0, 100);
    w.set_state(3, StoreState::Offline);
    w.tick();
    let report = explain_region(&mut w, 10);
    assert_eq!(report.said, Said::Blocked(Reason::Denied { rule: "part".into() }));
    assert!(report.as_if_free && report.waits.as_ref().is_some_and(|w| w.asleep));
    assert_eq!(report.choices[0].0.chosen, Some(StoreId(4)));
    let text = text::region(&report, w.now, &|_| None);
    for part in ["denied", "DELETE /pd/api/v1/config/region-label/rule/part", "expiry", "store 4", "chosen"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn an_operator_is_told_from_its_cause_to_its_result() {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.report(World::region(1, &[1, 2, 3]));
    w.set_state(3, StoreState::Offline);
    w.tick();
    let (running, history) = w.controller.history_of_drain(StoreId(3), 10);
    assert_eq!((running.len(), history.kept), (1, 0));
    let id = running[0].op.id;
    assert!(w.controller.history_by_id(id).is_some());
    (0..100).for_each(|_| _ = w.tick());
    let past: Past = w.controller.history_by_id(id).unwrap();
    assert_eq!(past.op.status, Status::Success);
    let cause = &past.journal.cause;
    assert_eq!((cause.maker, cause.name.as_str()), (Maker::Checker, "rule-checker"));
    assert_eq!(cause.from, [(StoreId(3), StoreState::Offline)]);
    assert_eq!(cause.rules, ["pd/default"]);
    let choice = past.journal.choice.as_ref().unwrap();
    assert_eq!((choice.chosen, choice.scores[0].0), (Some(StoreId(4)), StoreId(4)));
    assert_eq!(choice.refused["exclude-filter"], [1, 2, 3].map(StoreId));
    assert_eq!(past.journal.steps.len(), past.op.steps.len());
    for (at, step) in past.journal.steps.iter().enumerate() {
        assert!(step.done.is_some(), "step {at}: {step:?}");
        if step.sends > 0 {
            let at = |when: Option<Now>| when.unwrap().mono;
            assert!(at(step.first_sent) <= at(step.last_sent) && at(step.first_sent) <= at(step.answered));
        }
    }
    assert!(past.journal.steps[0].sends > 0);
    let (running, history) = w.controller.history_of_drain(StoreId(3), 10);
    assert_eq!((running.len(), history.kept, history.whole[0].op.id), (0, 1, id));
    assert_eq!(w.controller.history(Some(RegionId(10)), None, 5).len(), 1);
    assert_eq!(w.controller.history(None, Some(StoreId(4)), 5).len(), 1);
    assert_eq!(w.controller.history(None, Some(StoreId(9)), 5).len(), 0);
    let told = text::operator(&past);
    for part in ["made by checker rule-checker, since store 3 is Offline", "SUCCESS", "refused by exclude-filter"] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
}

fn limits(w: &mut World, all: &[(u64, f64)]) -> BTreeMap<StoreId, StoreLimits> {
    let set = |(id, add_peer): &(u64, f64)| {
        w.set_limits(*id, *add_peer, UNLIMITED);
        (StoreId(*id), StoreLimits { add_peer: *add_peer, remove_peer: UNLIMITED })
    };
    all.iter().map(set).collect()
}

fn preview_of(w: &mut World, limits: &BTreeMap<StoreId, StoreLimits>, store: u64) -> Preview {
    known(w, |known| {
        let load = Load::of(known, limits);
        preview(known.view, &load, StoreId(store)).unwrap()
    })
}

/// Ticks until the store is empty; how long that took.
fn drain(w: &mut World, store: u64) -> Duration {
    let began = w.now.mono;
    w.set_state(store, StoreState::Offline);
    while w.regions.count_of_store(StoreId(store), Held::Any) > 0 {
        w.tick();
        assert!(w.now.mono.since(began) < Duration::from_secs(3600), "it never ends");
    }
    w.now.mono.since(began)
}

/// The model against the deciding code itself on virtual time, in random clusters.
#[test]
fn a_preview_is_within_a_fifth_of_what_the_drain_takes() {
    let mut bound = std::collections::BTreeSet::new();
    let mut worst: f64 = 0.0;
    for seed in 0..30 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let stores = rng.random_range(5..10);
        let mut w = World::new(stores);
        w.node_takes = Duration::from_millis(rng.random_range(50..600));
        let fast = rng.random_ratio(1, 3);
        let rates: Vec<(u64, f64)> =
            (1..=stores).map(|id| (id, if fast { UNLIMITED } else { f64::from(rng.random_range(30..240)) })).collect();
        let limits = limits(&mut w, &rates);
        let limit = rng.random_range(4..64);
        w.set_schedule(|s| s.replica_schedule_limit = limit);
        let mut at = 0;
        // A few on store 1 alone with others, to measure moves; many on store 2.
        for (home, count) in [(1, 20), (2, rng.random_range(60..200))] {
            for _ in 0..count {
                at += 1;
                let mut others: Vec<u64> = (3..=stores).collect();
                let a = others.remove(rng.random_range(0..others.len()));
                let b = others.remove(rng.random_range(0..others.len()));
                let on = if rng.random() { [home, a, b] } else { [a, home, b] };
                w.report(World::region(at, &on));
            }
        }
        drain(&mut w, 1);
        w.set_state(1, StoreState::Tombstone);
        (0..6000).for_each(|_| _ = w.tick());
        let told = preview_of(&mut w, &limits, 2);
        assert!(told.allowed.is_ok() && told.holds.is_empty() && told.move_takes.1, "seed {seed}: {told:?}");
        assert_eq!(told.movable, told.regions);
        let said = told.takes.unwrap().as_secs_f64();
        let took = drain(&mut w, 2).as_secs_f64();
        let miss = (said - took).abs() / took;
        worst = worst.max(miss);
        bound.insert(told.limit.name());
        assert!(miss <= 0.2, "seed {seed}: said {said:.1} s, took {took:.1} s, limit {:?}", told.limit);
    }
    println!("the worst miss is {:.1} %, limits: {bound:?}", worst * 100.0);
    assert!(bound.len() >= 2, "{bound:?}");
}

#[test]
fn a_preview_says_what_would_hold_and_whether_the_call_would_be_refused() {
    let mut w = World::new(4);
    let all = limits(&mut w, &[(1, 60.0), (2, 60.0), (3, 60.0), (4, 60.0)]);
    for at in 1..=30 {
        w.report(World::region(at, &[3, 1, 2]));
    }
    deny(&mut w, 1, 11);
    let told = preview_of(&mut w, &all, 3);
    assert_eq!((told.regions, told.movable, told.holds.len()), (30, 20, 1));
    assert_eq!((told.holds[0].why.name(), told.holds[0].regions), ("denied", 10));
    assert!(told.is_held() && told.tombstone_after.is_none());
    assert_eq!(told.targets, BTreeMap::from([(StoreId(4), 20)]));
    assert_eq!(
        told.limit,
        Binding::StoreLimit { kind: crate::scheduler::outcome::LimitKind::AddPeer, stores: [StoreId(4)].into() }
    );
    let said = told.takes.unwrap();
    assert!(said > Duration::from_secs(19) && said < Duration::from_secs(30), "{said:?}");
    let text = text::preview(&told, w.now.mono, &|_| None);
    assert!(text.contains("would be accepted") && text.contains("region-label/rule/part"), "{text}");
    assert_eq!((w.ids_taken(), w.added.len()), (0, 0), "looking changes nothing");
    w.set_schedule(|s| s.replica_schedule_limit = 0);
    let told = preview_of(&mut w, &all, 3);
    assert_eq!((told.takes, told.movable), (None, 0));
    w.set_state(4, StoreState::Offline);
    let told = preview_of(&mut w, &all, 3);
    assert!(told.allowed.unwrap_err().to_string().contains("ErrStoresNotEnough"));
    assert!(known(&mut w, |k| preview(k.view, &Load::default(), StoreId(99))).is_none());
}

/// A preview names what explanations of the drain would name.
#[test]
fn a_preview_says_what_is_paused_unprepared_and_silent() {
    use crate::scheduler::checker::pause::CheckerName;
    let mut w = World::new(5);
    let all = limits(&mut w, &[(1, 60.0), (2, 60.0), (3, 60.0), (4, 60.0), (5, 60.0)]);
    for at in 1..=30 {
        let on = if at <= 10 { [2, 3, 1] } else { [1, 2, 3] };
        w.report(World::region(at, &on));
    }
    let held = |told: &Preview| -> Vec<(&'static str, u64)> {
        told.holds.iter().map(|group| (group.why.name(), group.regions)).collect()
    };
    let told = preview_of(&mut w, &all, 3);
    assert_eq!((held(&told), told.movable), (vec![], 30));
    w.with_view(|view, _, patrol, _| patrol.pause(CheckerName::Rule, Duration::from_secs(60), view.now));
    let told = preview_of(&mut w, &all, 3);
    assert_eq!((held(&told), told.movable, told.takes), (vec![("checker-paused", 30)], 0, None));
    assert!(told.is_held() && told.limit == Binding::Blocked("checker-paused"));
    w.with_view(|view, _, patrol, _| patrol.pause(CheckerName::Rule, Duration::ZERO, view.now));
    w.silent = vec![StoreId(2)];
    w.pass(Duration::from_secs(30));
    let told = preview_of(&mut w, &all, 3);
    assert_eq!((held(&told), told.movable), (vec![("no-leader", 10)], 20));
    assert!(!told.is_held() && told.tombstone_after.is_none(), "it passes when others lead");
    let told = known(&mut w, |known| {
        let load = Load::of(&Known { prepared: false, ..*known }, &all);
        preview(known.view, &load, StoreId(3)).unwrap()
    });
    assert_eq!(held(&told), [("not-prepared", 20), ("no-leader", 10)]);
    assert_eq!((told.limit.clone(), told.takes), (Binding::NotPrepared, None));
    w.set_schedule(|s| s.halt_scheduling = true);
    assert_eq!(preview_of(&mut w, &all, 3).limit, Binding::Halted);
}

/// Whoever comes to lead while all is halted, or while too little is known, has listed nothing: the wait is told all the same.
#[test]
fn what_is_halted_or_unprepared_waits_since_that_began() {
    let mut w = World::new(4);
    for at in 1..=5 {
        w.report(World::region(at, &[3, 1, 2]));
    }
    w.tick();
    w.set_schedule(|s| s.halt_scheduling = true);
    w.tick();
    let halted = w.now.mono;
    w.set_state(3, StoreState::Offline);
    w.pass(Duration::from_secs(1000));
    let age = |w: &mut World| {
        let report = explain(w, StoreId(3));
        assert_eq!(report.groups.len(), 1);
        w.now.mono.since(report.groups[0].oldest)
    };
    assert_eq!(age(&mut w), w.now.mono.since(halted));
    // Another leader, since the moment 0 of this world.
    w.patrol = crate::scheduler::patrol::Patrol::new();
    assert_eq!(age(&mut w), w.now.mono.since(Mono(0)));
    w.tick();
    assert_eq!(age(&mut w), w.now.mono.since(Mono(0)), "its first look changes nothing");
    w.set_schedule(|s| s.halt_scheduling = false);
    w.patrol = crate::scheduler::patrol::Patrol::new();
    let oldest = known(&mut w, |known| {
        let mut tally = super::drain::Tally::new(StoreId(3));
        let known = Known { prepared: false, ..*known };
        tally.add(&known, &known.view.regions.of_store(StoreId(3), Held::Any, 10));
        tally.finish(&known, (None, None)).unwrap().groups[0].oldest
    });
    assert_eq!(oldest, Mono(0));
}

#[test]
fn an_empty_store_waits_for_its_report() {
    use crate::scheduler::life::Unburied;
    let mut w = World::new(4);
    w.report(World::region(1, &[1, 2, 3]));
    w.set_state(4, StoreState::Offline);
    let told = |w: &mut World, unburied| {
        known(w, |known| super::drain::Tally::new(StoreId(4)).finish(known, (unburied, None))).unwrap()
    };
    let report = told(&mut w, Some(Unburied::NoReport));
    assert_eq!((report.regions_left, &report.binding), (0, &Binding::Report));
    let report = told(&mut w, Some(Unburied::Reports(5, Duration::from_secs(60))));
    assert_eq!(
        (report.regions_left, report.groups[0].why.name(), report.groups[0].regions),
        (5, "waiting-for-report", 5)
    );
    assert!(text::drain(&report, None, &|_| None).contains("waiting-for-report"));
    assert_eq!(told(&mut w, None).binding, Binding::Done);
}

#[test]
fn rules_of_a_region_that_changed_while_it_was_listed_do_not_count_twice() {
    let mut w = World::new(5);
    (1..=5).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.set_rules(vec![RuleSet::default_rule(3, &[], "")]);
    w.set_schedule(|s| s.replica_schedule_limit = 0);
    for at in 1..=10 {
        w.report(World::region(at, &[1, 2, 3]));
    }
    w.set_state(3, StoreState::Offline);
    w.tick();
    // Somebody else moved them.
    for at in 1..=10 {
        let mut moved = World::region(at, &[1, 2, 4]);
        Arc::make_mut(&mut moved.meta).epoch.conf_ver = 5;
        w.report(moved);
    }
    let report = explain(&mut w, StoreId(3));
    assert_eq!((report.regions_left, report.groups.len()), (0, 0));
    let region: Region = World::region(1, &[1, 2, 4]);
    assert!(w.patrol.waits(&region, w.now.mono).is_none(), "what has left is forgotten");
}

/// A new reason needs a sentence, a remedy and a row in the documentation.
#[test]
fn every_answer_has_a_sentence_a_remedy_and_a_row_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explain.md");
    let doc = std::fs::read_to_string(path).unwrap();
    let others = [
        Why::Moving,
        Why::SnapshotSlow { to: StoreId(4) },
        Why::OtherOperator,
        Why::LeaderSilent { store: StoreId(4) },
        Why::InLine,
        Why::WaitingForReport,
    ];
    let blocked = crate::scheduler::outcome::tests::all().into_iter().map(|reason| Why::Blocked(Arc::new(reason)));
    for why in blocked.chain(others) {
        let mut groups = Groups::default();
        groups.add(RegionId(1), &why, Mono::default());
        let group = groups.into_sorted().remove(0);
        assert!(!group.says().is_empty() && !remedy(&group).is_empty(), "{why:?}");
        assert!(doc.contains(&format!("`{}`", why.name())), "{} is not documented", why.name());
        for wake in why.wakes() {
            assert!(doc.contains(&format!("`{wake}`")), "{wake} is not documented");
        }
    }
}

#[test]
fn the_label_property_that_keeps_leaders_off_is_named_with_its_remedy() {
    let say = |rejecting: Vec<StoreId>| {
        let mut groups = Groups::default();
        groups.add(RegionId(1), &Why::Blocked(Reason::NoLeaderTarget { rejecting }.into()), Mono::default());
        let group = groups.into_sorted().remove(0);
        (group.detail.clone(), group.says(), remedy(&group))
    };
    let (detail, says, told) = say([2, 3].map(StoreId).into());
    assert_eq!(detail, "reject-leader");
    assert!(says.ends_with("reject-leader names stores 2, 3"), "{says}");
    assert!(told.starts_with("take a label of stores 2, 3 out of the label property reject-leader"), "{told}");
    let (detail, says, told) = say(vec![]);
    assert!(detail.is_empty() && !says.contains("reject") && !told.contains("reject"), "{says}: {told}");
}
