//! Planted obstacles on virtual time: each is named within a second of the call, report or missed deadline that shows it, the
//! groups add up, and the remedy works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    model::{
        KeyRange, LabelConstraint, LabelOp, Region, RegionId, RegionLabel, RegionLabelRule, Rule, StoreId, StoreState,
        StoreStats, store::UNLIMITED,
    },
    scheduler::{
        balance::{Config, Kind, Schedulers, Spec, Updated},
        checker::pause::CheckerName,
        explain::{
            Known,
            drain::{DrainReport, Tally},
            remedy::remedy,
            text,
        },
        placement::RuleSet,
        region_label::LabelIndex,
        testing::World,
    },
    store::index::Held,
};

const REGIONS: u64 = 30;
const SECOND: usize = 100;
const DRAINED: StoreId = StoreId(3);

/// Regions on stores 1, 2 and 3 led by 3, and a free store 4.
fn world() -> World {
    led_by_the_first([3, 1, 2])
}

fn led_by_the_first(stores: [u64; 3]) -> World {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    for at in 1..=REGIONS {
        w.report(World::region(at, &stores));
    }
    w
}

pub(super) fn explain(w: &mut World, store: StoreId) -> DrainReport {
    let mut report = None;
    w.with_view(|view, controller, patrol, _| {
        let known = Known { view, controller, patrol, prepared: true };
        let mut tally = Tally::new(store);
        for batch in view.regions.of_store(store, Held::Any, usize::MAX).chunks(7) {
            tally.add(&known, batch);
        }
        report = tally.finish(&known, (None, None));
    });
    let report: DrainReport = report.unwrap();
    let sum: u64 = report.groups.iter().map(|group| group.regions).sum();
    assert_eq!(sum, report.regions_left, "the groups add up: {:?}", report.groups);
    assert_eq!(sum, w.regions.count_of_store(store, Held::Any));
    report
}

fn run(w: &mut World, ticks: usize) {
    (0..ticks).for_each(|_| _ = w.tick());
}

/// What an obstacle is called, for how many regions, and what a person is told to do.
struct Obstacle {
    reason: &'static str,
    detail: &'static str,
    limit: &'static str,
    remedy: &'static str,
}

/// Plants, drains, waits for at most a second after `shows`, compares, applies the remedy and drains to the end.
fn obstacle(mut w: World, shows: Duration, wanted: &Obstacle, apply: impl FnOnce(&mut World)) {
    w.set_state(DRAINED.0, StoreState::Offline);
    run(&mut w, usize::try_from(shows.as_millis() / 10).unwrap());
    run(&mut w, SECOND);
    let report = explain(&mut w, DRAINED);
    let text = text::drain(&report, Some("a test"), &|_| None);
    let group = report.groups.iter().find(|g| g.why.name() == wanted.reason).unwrap_or_else(|| panic!("{text}"));
    assert_eq!((group.regions, group.detail.as_str()), (REGIONS, wanted.detail), "{text}");
    assert_eq!(report.binding.name(), wanted.limit, "{text}");
    assert_eq!(group.samples.len(), 3);
    let told = remedy(group);
    assert!(told.contains(wanted.remedy), "{told}");
    assert!(text.contains(&told) && text.contains(wanted.reason), "{text}");
    assert_eq!(w.regions.count_of_store(DRAINED, Held::Any), REGIONS, "nothing moves before the remedy");
    apply(&mut w);
    for _ in 0..20 {
        run(&mut w, SECOND);
        if explain(&mut w, DRAINED).regions_left == 0 {
            return;
        }
    }
    panic!("the remedy does not help:\n{}", text::drain(&explain(&mut w, DRAINED), None, &|_| None));
}

fn labels(w: &mut World, rules: Vec<RegionLabelRule>) {
    w.settings.labels = Arc::new(LabelIndex::new(rules.into_iter().map(Arc::new).collect()));
    w.patrol.on_settings_changed(w.now.mono);
}

#[test]
fn a_deny_rule() {
    let mut w = world();
    let label = RegionLabel { key: "schedule".into(), value: "deny".into(), ..RegionLabel::default() };
    let rule = RegionLabelRule { id: "keep".into(), index: 0, labels: vec![label], ranges: vec![KeyRange::all()] };
    labels(&mut w, vec![rule]);
    let wanted = Obstacle {
        reason: "denied",
        detail: "keep",
        limit: "denied",
        remedy: "DELETE /pd/api/v1/config/region-label/rule/keep",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| labels(w, vec![]));
}

#[test]
fn full_targets() {
    let mut w = world();
    w.silent.push(StoreId(4));
    let full = StoreStats { capacity: 1 << 40, available: 1 << 30, used_size: 1 << 39, ..StoreStats::default() };
    w.hear_store(StoreId(4), full);
    let wanted = Obstacle {
        reason: "no-target",
        detail: "storage-threshold-filter",
        limit: "no-target",
        remedy: "free space on store 4",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| {
        w.silent.clear();
        w.report_store(4);
    });
}

#[test]
fn an_isolation_label() {
    let mut w = world();
    for (id, zone) in [(1, "z1"), (2, "z2"), (3, "z3"), (4, "z1")] {
        w.put_store(id, StoreState::Up, &[("zone", zone)]);
    }
    w.set_rules(vec![RuleSet::default_rule(3, &["zone".to_owned()], "zone")]);
    let wanted = Obstacle {
        reason: "no-target",
        detail: "isolation-filter",
        limit: "no-target",
        remedy: "add a store in another location",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| {
        w.put_store(5, StoreState::Up, &[("zone", "z3")]);
        w.set_limits(5, UNLIMITED, UNLIMITED);
        w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(5)));
    });
}

#[test]
fn a_replica_schedule_limit_of_nothing() {
    let mut w = world();
    w.set_schedule(|s| s.replica_schedule_limit = 0);
    let wanted = Obstacle {
        reason: "schedule-limit",
        detail: "replica-schedule-limit",
        limit: "replica-schedule-limit",
        remedy: "POST /pd/api/v1/config {\"replica-schedule-limit\": N}",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| w.set_schedule(|s| s.replica_schedule_limit = 64));
}

#[test]
fn a_repair_that_is_switched_off() {
    let mut w = world();
    w.set_schedule(|s| s.enable_replace_offline_replica = false);
    let wanted = Obstacle {
        reason: "switched-off",
        detail: "enable-replace-offline-replica",
        limit: "switched-off",
        remedy: "POST /pd/api/v1/config {\"enable-replace-offline-replica\": \"true\"}",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| w.set_schedule(|s| s.enable_replace_offline_replica = true));
}

#[test]
fn halted_scheduling() {
    let mut w = world();
    w.set_schedule(|s| s.halt_scheduling = true);
    let wanted = Obstacle {
        reason: "halted",
        detail: "",
        limit: "halt-scheduling",
        remedy: "POST /pd/api/v1/config {\"halt-scheduling\": \"false\"}",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| w.set_schedule(|s| s.halt_scheduling = false));
}

#[test]
fn regions_whose_leader_is_silent() {
    let mut w = led_by_the_first([2, 1, 3]);
    w.silent.push(StoreId(2));
    w.pass(Duration::from_secs(20));
    let wanted =
        Obstacle { reason: "no-leader", detail: "store 2 is silent", limit: "no-leader", remedy: "bring store 2 back" };
    // Nodes of a silent store carry nothing out.
    w.node_takes = Duration::from_secs(3600);
    obstacle(w, Duration::from_millis(10), &wanted, |w| {
        w.node_takes = Duration::from_millis(20);
        w.silent.clear();
        w.report_store(2);
        // The commands are pushed again: to nodes that live.
        for at in 1..=REGIONS {
            let region = w.get(at * 10);
            w.report(Region::clone(&region));
        }
    });
}

#[test]
fn regions_without_a_leader() {
    let mut w = world();
    for at in 1..=REGIONS {
        w.report(Region { leader: None, ..World::region(at, &[3, 1, 2]) });
    }
    let wanted = Obstacle { reason: "no-leader", detail: "", limit: "no-leader", remedy: "a majority of the peers" };
    obstacle(w, Duration::ZERO, &wanted, |w| {
        for at in 1..=REGIONS {
            w.report(World::region(at, &[3, 1, 2]));
        }
    });
}

#[test]
fn failing_snapshots() {
    let mut w = led_by_the_first([1, 2, 3]);
    w.node_takes = Duration::from_secs(3600);
    let wanted = Obstacle {
        reason: "snapshot-slow",
        detail: "to store 4",
        limit: "snapshot-slow",
        remedy: "POST /pd/api/v1/store/4/limit {\"type\":\"add-peer\",\"rate\":0}",
    };
    // The deadline is half a minute as long as nothing was measured.
    obstacle(w, Duration::from_secs(30), &wanted, |w| {
        w.node_takes = Duration::from_millis(20);
        w.put_store(5, StoreState::Up, &[]);
        w.set_limits(5, UNLIMITED, UNLIMITED);
        w.set_limits(4, 0.0, UNLIMITED);
        w.with_view(|view, _, patrol, _| {
            patrol.on_store_changed(view, StoreId(5));
            patrol.on_store_changed(view, StoreId(4));
        });
        for at in 1..=REGIONS {
            let out = w.with_view(|view, controller, _, out| assert!(controller.cancel(view, RegionId(at * 10), out)));
            w.start(&out);
        }
    });
}

#[test]
fn a_paused_checker() {
    let pause = |w: &mut World, length| {
        w.with_view(|view, _, patrol, _| patrol.pause(CheckerName::Rule, length, view.now));
    };
    let mut w = world();
    pause(&mut w, Duration::from_secs(3600));
    let wanted = Obstacle {
        reason: "checker-paused",
        detail: "rule",
        limit: "checker-paused",
        remedy: "POST /pd/api/v1/checker/rule {\"delay\": 0}",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| pause(w, Duration::ZERO));
}

/// Has evict-leader run on these stores; as in the cluster, filters see whom it keeps leaders off.
fn evict_leaders(w: &mut World, stores: &[u64]) {
    let mut config = Config::read(Kind::EvictLeader, &[], None).unwrap();
    for store in stores {
        let Ok(Updated::To(more)) = config.update(json!({ "store_id": store }).as_object().unwrap()) else { panic!() };
        config = more;
    }
    let mut schedulers = Schedulers::new(1);
    schedulers.set(vec![Spec { name: Kind::EvictLeader.name().to_owned(), config }], w.now);
    w.schedule(&mut schedulers);
    let pauses = schedulers.leader_pauses();
    assert_eq!(pauses.len(), stores.len());
    for id in w.stores.snapshot().keys() {
        let (into, _) = pauses.get(id).copied().unwrap_or_default();
        w.stores.update(*id, |store| store.pause_leader_in = into);
        w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, *id));
    }
}

#[test]
fn evict_leader_everywhere() {
    let mut w = world();
    evict_leaders(&mut w, &[1, 2, 3, 4]);
    let wanted = Obstacle {
        reason: "no-leader-target",
        detail: "",
        limit: "no-leader-target",
        remedy: "DELETE /pd/api/v1/schedulers/evict-leader-scheduler",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| evict_leaders(w, &[]));
}

#[test]
fn a_rule_that_cannot_be_met() {
    let mut w = world();
    let fast = LabelConstraint { key: "disk".into(), op: LabelOp::In, values: vec!["fast".into()] };
    w.set_rules(vec![Rule { constraints: vec![fast], ..RuleSet::default_rule(3, &[], "") }]);
    let wanted = Obstacle {
        reason: "no-target",
        detail: "label-constraint-filter",
        limit: "no-target",
        remedy: "give store 4 the labels that the placement rule asks for",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| w.set_rules(vec![RuleSet::default_rule(3, &[], "")]));
}

#[test]
fn targets_without_tokens() {
    let mut w = world();
    w.set_limits(4, 0.0, UNLIMITED);
    let wanted = Obstacle {
        reason: "store-limit",
        detail: "add-peer",
        limit: "store-limit-add-peer",
        remedy: "/limit {\"type\":\"add-peer\"",
    };
    obstacle(w, Duration::ZERO, &wanted, |w| {
        w.set_limits(4, UNLIMITED, UNLIMITED);
        w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(4)));
    });
}
