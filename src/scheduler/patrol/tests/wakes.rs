//! For each reason: what is blocked costs nothing, and its event wakes it.

use std::collections::BTreeSet;

use super::*;
use crate::{
    model::{RegionLabel, RegionLabelRule, StoreStats},
    scheduler::{checker::pause::CheckerName, outcome::tests::all, region_label::LabelIndex},
};

const REGIONS: u64 = 20;
/// Between an event that only a look at the stores shows and what follows from it: ten ticks and one to act.
const WATCHED: usize = 11;

/// `REGIONS` regions on stores 1, 2 and 3 led by 3, a free store 4, no limits. Store 3 is not Offline yet.
fn drained() -> World {
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    for at in 1..=REGIONS {
        w.report(World::region(at, &[3, 1, 2]));
    }
    w.tick();
    w
}

fn ticks(w: &mut World, count: usize) -> usize {
    (0..count).map(|_| w.tick()).sum()
}

/// A report of store `id` that the filters see something in. It stays silent then, so that no other report comes.
fn reports(w: &mut World, id: u64, available: u64, snapshots: u32) {
    w.silent.push(StoreId(id));
    let stats = StoreStats {
        capacity: 1 << 40,
        used_size: 1 << 38,
        available,
        receiving_snap_count: snapshots,
        ..StoreStats::default()
    };
    w.hear_store(StoreId(id), stats);
}

fn denied(w: &mut World, expires: Option<Duration>) {
    let label = RegionLabel {
        key: "schedule".into(),
        value: "deny".into(),
        expires: expires.map(|after| w.now.plus(after).wall),
        ..RegionLabel::default()
    };
    let rule = RegionLabelRule { id: "keep".into(), index: 0, labels: vec![label], ranges: vec![KeyRange::all()] };
    w.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(rule)]));
    w.patrol.on_settings_changed(w.now.mono);
}

fn pause_rules(w: &mut World, length: Duration) {
    w.with_view(|view, _, patrol, _| patrol.pause(CheckerName::Rule, length, view.now));
}

fn pause_leaders(w: &mut World, pauses: u32) {
    for id in [1, 2, 4] {
        w.stores.update(StoreId(id), |store| store.pause_leader_in = pauses);
    }
}

fn labelled(w: &mut World, value: &str) {
    w.put_store(4, StoreState::Up, &[("disk", value)]);
    w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(4)));
}

fn only_on(value: &str) -> Rule {
    let constraint = LabelConstraint { key: "disk".into(), op: LabelOp::NotIn, values: vec![value.into()] };
    Rule { constraints: vec![constraint], ..RuleSet::default_rule(3, &[], "") }
}

/// One reason: how it comes about, the event that ends it, and within how many ticks work begins then.
struct Case {
    reason: &'static str,
    plant: fn(&mut World),
    event: fn(&mut World),
    within: usize,
}

const NEARLY_FULL: u64 = 1 << 30;

fn cases() -> Vec<Case> {
    let case = |reason, plant, event, within| Case { reason, plant, event, within };
    vec![
        case(
            "halted",
            |w| w.set_schedule(|s| s.halt_scheduling = true),
            |w| w.set_schedule(|s| s.halt_scheduling = false),
            1,
        ),
        case(
            "switched-off",
            |w| w.set_schedule(|s| s.enable_replace_offline_replica = false),
            |w| w.set_schedule(|s| s.enable_replace_offline_replica = true),
            1,
        ),
        case(
            "no-target",
            |w| {
                w.set_rules(vec![only_on("old")]);
                labelled(w, "old");
            },
            |w| labelled(w, "new"),
            1,
        ),
        case(
            "no-target",
            |w| {
                w.set_rules(vec![only_on("old")]);
                labelled(w, "old");
            },
            |w| w.set_rules(vec![only_on("nothing")]),
            1,
        ),
        case("no-target", |w| reports(w, 4, NEARLY_FULL, 0), |w| reports(w, 4, 1 << 39, 0), WATCHED),
        case("target-busy", |w| reports(w, 4, 1 << 39, 99), |w| reports(w, 4, 1 << 39, 0), WATCHED),
        case(
            "target-busy",
            |w| w.set_limits(4, 0.0, UNLIMITED),
            |w| {
                w.set_limits(4, UNLIMITED, UNLIMITED);
                w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(4)));
            },
            1,
        ),
        case(
            "store-limit",
            |w| w.set_limits(3, UNLIMITED, 0.0),
            |w| {
                w.set_limits(3, UNLIMITED, UNLIMITED);
                w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(3)));
            },
            1,
        ),
        case("no-leader-target", |w| pause_leaders(w, 1), |w| pause_leaders(w, 0), WATCHED),
        case(
            "denied",
            |w| denied(w, None),
            |w| {
                w.settings.labels = Arc::new(LabelIndex::default());
                w.patrol.on_settings_changed(w.now.mono);
            },
            1,
        ),
        case("checker-paused", |w| pause_rules(w, Duration::from_secs(3600)), |w| pause_rules(w, Duration::ZERO), 1),
        case(
            "schedule-limit",
            |w| w.set_schedule(|s| s.replica_schedule_limit = 0),
            |w| w.set_schedule(|s| s.replica_schedule_limit = 64),
            1,
        ),
        case(
            "no-leader",
            |w| {
                for at in 1..=REGIONS {
                    let region = Region { leader: None, ..World::region(at, &[3, 1, 2]) };
                    w.report(region);
                }
            },
            |w| {
                for at in 1..=REGIONS {
                    w.report(World::region(at, &[3, 1, 2]));
                }
            },
            1,
        ),
    ]
}

/// Why the regions of store 3 are not moved, by the patrol's own word.
fn told(w: &mut World) -> &'static str {
    if w.settings.schedule.halt_scheduling {
        return Reason::Halted.name();
    }
    let mut room = true;
    w.with_view(|view, controller, _, _| room = controller.has_room(view, ScheduleLimit::Replica));
    let region = w.get(10);
    match w.patrol.waits(&region, w.now.mono).and_then(|w| w.why) {
        Some(why) => why.name(),
        None if !room => "schedule-limit",
        None => "in-line",
    }
}

#[test]
fn o9_what_is_blocked_costs_nothing_and_its_event_wakes_it() {
    for (at, case) in cases().into_iter().enumerate() {
        let mut w = drained();
        (case.plant)(&mut w);
        w.set_state(3, StoreState::Offline);
        assert_eq!(ticks(&mut w, 20), 0, "case {at} {}", case.reason);
        assert_eq!(told(&mut w), case.reason, "case {at}");
        let before = w.patrol.checks();
        assert_eq!(ticks(&mut w, 400), 0, "case {at} {}", case.reason);
        assert_eq!(w.patrol.checks(), before, "case {at} {}: four seconds of sleep are no work", case.reason);
        (case.event)(&mut w);
        assert_eq!(ticks(&mut w, case.within) as u64, REGIONS, "case {at} {}", case.reason);
    }
}

/// Whether [`cases`] brings the reason about. The others stand in tests of their own below, or need no waking: the patrol is not asked
/// before the preparation has ended, and what lacks an id goes back in line.
fn has_case(reason: &Reason) -> bool {
    match reason {
        Reason::Halted
        | Reason::StoreLimit { .. }
        | Reason::ScheduleLimit(_)
        | Reason::NoTarget { .. }
        | Reason::TargetBusy { .. }
        | Reason::NoLeaderTarget { .. }
        | Reason::NoLeader
        | Reason::Denied { .. }
        | Reason::SwitchedOff(_)
        | Reason::CheckerPaused(_) => true,
        Reason::NotPrepared
        | Reason::OperatorRunning(_)
        | Reason::PendingPeer(_)
        | Reason::NoId
        | Reason::Build(_)
        | Reason::NoRule => false,
    }
}

#[test]
fn each_reason_has_its_case() {
    let shown: BTreeSet<&str> = cases().iter().map(|case| case.reason).collect();
    let wanted: BTreeSet<&str> = all().iter().filter(|reason| has_case(reason)).map(Reason::name).collect();
    assert_eq!(shown, wanted);
}

/// Lets an event come that concerns region 10; false for what is no event: tokens come at times that lines know, and the next tick by
/// itself.
fn fire(w: &mut World, event: Wake) -> bool {
    match event {
        Wake::Tokens | Wake::Tick => return false,
        Wake::OperatorEnd => w.patrol.on_operator_ended(RegionId(9990)),
        Wake::OwnOperatorEnd => w.patrol.on_operator_ended(RegionId(10)),
        Wake::Store => _ = w.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(4))),
        Wake::Load => reports(w, 4, 1 << 39, 99),
        Wake::Settings => w.patrol.on_settings_changed(w.now.mono),
        Wake::Expiry => w.patrol.wake_at(w.now.wall),
        Wake::Heartbeat => _ = w.report(World::region(1, &[3, 1, 2])),
    }
    true
}

/// A region that sleeps for any reason is looked at when an event comes that the reason names, and at no other event.
#[test]
fn o9_each_reason_ends_by_each_event_that_it_names_and_by_no_other() {
    let events: BTreeSet<Wake> = all().iter().flat_map(|reason| reason.wakes().iter().copied()).collect();
    let mut woken = 0;
    for reason in all() {
        for event in &events {
            // Whatever a region waits for, the end of its own operator is worth a look.
            let wakes = reason.wakes().contains(event) || *event == Wake::OwnOperatorEnd;
            let mut w = drained();
            // The first look at the stores has passed.
            ticks(&mut w, WATCHED);
            let region = w.get(10);
            w.with_view(|view, _, patrol, _| patrol.sleep(view, At::Misplaced, &region, reason.clone()));
            if !fire(&mut w, *event) {
                continue;
            }
            ticks(&mut w, WATCHED);
            // Nothing is wrong with it: whoever looks at it forgets it.
            assert_eq!(w.patrol.waits(&region, w.now.mono).is_none(), wakes, "{reason:?} and {event:?}");
            woken += usize::from(wakes);
        }
    }
    assert!(woken >= all().len(), "{woken}");
}

/// After a minute the net under missed events looks at sleepers once more: a few in each tick, however many fell asleep at once.
#[test]
fn o9_blocked_regions_cost_one_look_a_minute_and_never_many_at_once() {
    const MANY: u64 = 300;
    let mut w = World::new(4);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    for at in 1..=MANY {
        w.report(World::region(at, &[3, 1, 2]));
    }
    denied(&mut w, None);
    w.set_state(3, StoreState::Offline);
    assert_eq!(ticks(&mut w, 10), 0);
    let before = w.patrol.checks();
    assert!(before >= MANY, "all are asleep");
    let (mut last, mut most) = (before, 0);
    for _ in 0..12_000 {
        assert_eq!(w.tick(), 0);
        most = most.max(w.patrol.checks() - last);
        last = w.patrol.checks();
    }
    assert!(last - before <= 2 * MANY && last - before >= MANY, "{} looks in two minutes", last - before);
    assert!(most <= sleepers::TRICKLE as u64, "{most} looks in one tick");
}

/// A lost store whose regions are all held does not keep the tick from a drain.
#[test]
fn o9_blocked_regions_of_one_class_leave_checks_for_the_others() {
    let mut w = World::new(6);
    (1..=6).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.set_schedule(|s| s.enable_remove_down_replica = false);
    w.silent = vec![StoreId(5)];
    w.pass(Duration::from_secs(1900));
    for at in 1..=3000 {
        w.report(with_down(&World::region(at, &[1, 2, 5]), 5, 1900));
    }
    for at in 3001..=3020 {
        w.report(World::region(at, &[1, 2, 3]));
    }
    w.set_state(3, StoreState::Offline);
    let before = w.patrol.checks();
    let started = w.tick();
    assert!(w.patrol.checks() - before >= 500, "there is more than one tick's work: {}", w.patrol.checks() - before);
    assert!(started >= 5, "{started} operators of the drain");
}

#[test]
fn o9_a_region_wakes_at_the_end_of_its_label_and_not_before() {
    let mut w = drained();
    denied(&mut w, Some(Duration::from_secs(30)));
    w.set_state(3, StoreState::Offline);
    let end = w.now.plus(Duration::from_secs(30)).mono;
    assert_eq!(ticks(&mut w, 10), 0);
    let before = w.patrol.checks();
    while w.now.mono.plus(TICK) < end {
        assert_eq!(w.tick(), 0);
    }
    assert_eq!(w.patrol.checks(), before);
    assert_eq!(w.tick() as u64, REGIONS);
}

#[test]
fn o9_the_end_of_a_label_wakes_only_what_its_rule_holds() {
    let mut w = drained();
    let end = |seconds| w.now.plus(Duration::from_secs(seconds)).wall;
    let key = |at: u64| at.to_be_bytes().to_vec();
    // The first five regions are held for 10 s, the others for 20 s.
    let rules = [("few", 10, KeyRange::new(vec![], key(6))), ("many", 20, KeyRange::new(key(6), vec![]))];
    let rules = rules.map(|(id, seconds, range)| {
        let label = RegionLabel {
            key: "schedule".into(),
            value: "deny".into(),
            expires: Some(end(seconds)),
            ..RegionLabel::default()
        };
        Arc::new(RegionLabelRule { id: id.into(), index: 0, labels: vec![label], ranges: vec![range] })
    });
    w.settings.labels = Arc::new(LabelIndex::new(rules.to_vec()));
    w.patrol.on_settings_changed(w.now.mono);
    w.set_state(3, StoreState::Offline);
    assert_eq!(ticks(&mut w, 10), 0);
    let before = w.patrol.checks();
    assert_eq!((ticks(&mut w, 1000), w.patrol.checks() - before), (5, 5), "the others are not looked at");
    let before = w.patrol.checks();
    assert_eq!((ticks(&mut w, 1000), w.patrol.checks() - before), (15, 15));
}

#[test]
fn o9_the_pause_of_a_checker_wakes_at_its_end() {
    let mut w = drained();
    w.set_state(3, StoreState::Offline);
    let now = w.now;
    w.with_view(|view, _, patrol, _| {
        for at in 1..=REGIONS {
            let region = view.regions.get(RegionId(at * 10)).unwrap();
            patrol.sleep(view, At::Store(StoreId(3)), &region, Reason::CheckerPaused("rule"));
        }
    });
    w.patrol.wake_at(now.plus(Duration::from_secs(5)).wall);
    assert_eq!(ticks(&mut w, 499), 0);
    assert_eq!(w.tick() as u64, REGIONS);
}

#[test]
fn o9_a_line_without_tokens_is_looked_at_when_the_next_one_is_due() {
    let mut w = drained();
    w.set_limits(4, 2.0, UNLIMITED);
    w.set_state(3, StoreState::Offline);
    ticks(&mut w, 3000);
    let (ops, checks) = (w.added.len() as u64, w.patrol.checks());
    ticks(&mut w, 6000);
    let (ops, checks) = (w.added.len() as u64 - ops, w.patrol.checks() - checks);
    assert_eq!(ops, 2, "two a minute");
    assert!(checks <= 2 * ops, "{checks} checks for {ops} operators");
}

/// Stores 1 to 4 have tokens that no region of the line can use, store 5 has one now and then.
#[test]
fn o9_tokens_of_stores_that_cannot_help_keep_nothing_busy() {
    let mut w = World::new(5);
    (1..=4).for_each(|id| w.set_limits(id, UNLIMITED, UNLIMITED));
    w.set_limits(5, 2.0, UNLIMITED);
    w.put_store(4, StoreState::Up, &[("disk", "old")]);
    w.set_rules(vec![only_on("old")]);
    for at in 1..=300 {
        w.report(World::region(at, &[3, 1, 2]));
    }
    w.set_state(3, StoreState::Offline);
    ticks(&mut w, 3000);
    let (ops, checks) = (w.added.len() as u64, w.patrol.checks());
    ticks(&mut w, 6000);
    let (ops, checks) = (w.added.len() as u64 - ops, w.patrol.checks() - checks);
    assert_eq!(ops, 2);
    assert!(checks <= 2 * ops, "{checks} checks for {ops} operators");
}

#[test]
fn o9_an_operators_end_makes_room_and_frees_its_region() {
    let mut w = drained();
    w.set_schedule(|s| s.replica_schedule_limit = 1);
    w.set_state(3, StoreState::Offline);
    assert_eq!(w.tick(), 1);
    let checks = w.patrol.checks();
    while w.added.len() == 1 {
        assert!(w.controller.count(crate::scheduler::operator::Kind::REPLICA) <= 1);
        w.tick();
    }
    assert!(w.patrol.checks() - checks <= 4, "the ended one, and the next");
    // A region that is busy with something else is taken up when that has ended.
    let mut w = drained();
    w.node_takes = Duration::from_secs(2);
    let out = w.with_view(|view, controller, _, out| {
        let wanted = crate::scheduler::admin::Request::TransferLeader { region: RegionId(10), to: StoreId(1) };
        controller.add(view, crate::scheduler::admin::build(view, &wanted).unwrap(), &By::checker(), out).unwrap();
    });
    w.start(&out);
    w.set_state(3, StoreState::Offline);
    assert_eq!(ticks(&mut w, 150) as u64, REGIONS - 1);
    ticks(&mut w, 60);
    assert!(w.added.iter().any(|(_, op)| op.region == RegionId(10) && op.desc.starts_with("replace-rule-")));
}

#[test]
fn o9_a_lagging_peer_wakes_its_region_when_it_has_caught_up() {
    let mut w = drained();
    let mut lagging = World::region(50, &[1, 2, 3, 4]);
    // The one that goes lags too: nobody knows which of them holds the data.
    lagging.pending = vec![lagging.peers()[1].id, lagging.peers()[2].id];
    w.report(lagging.clone());
    ticks(&mut w, 20);
    let waits = w.patrol.waits(&lagging, w.now.mono).unwrap();
    assert_eq!((waits.asleep, waits.why.unwrap().name()), (true, "pending-peer"));
    let before = w.patrol.checks();
    let unchanged = lagging.clone();
    w.report(unchanged);
    ticks(&mut w, 400);
    assert!(w.patrol.checks() - before <= 2, "one look sorts it in, one tries");
    w.report(Region { pending: vec![], ..lagging });
    assert_eq!(ticks(&mut w, 2), 1);
    assert_eq!(w.added.last().unwrap().1.desc, "remove-orphan-peer");
}

#[test]
fn o9_regions_across_a_border_wake_when_rules_change() {
    let mut w = drained();
    let first = |n: u64| KeyRange::new(vec![], n.to_be_bytes().to_vec());
    let rest = |n: u64| KeyRange::new(n.to_be_bytes().to_vec(), vec![]);
    // Region 50 lies across the border of two rules, and nobody may split it: none covers it whole.
    w.with_view(|view, _, patrol, _| patrol.pause(CheckerName::Split, Duration::from_secs(3600), view.now));
    let mut wide = World::region(50, &[3, 1, 2]);
    Arc::make_mut(&mut wide.meta).range = KeyRange::new(50u64.to_be_bytes().to_vec(), 52u64.to_be_bytes().to_vec());
    w.report(wide.clone());
    let rule = |id: &str, range| Rule { id: id.into(), range, ..RuleSet::default_rule(3, &[], "") };
    w.set_rules(vec![rule("a", first(51)), rule("b", rest(51))]);
    w.set_state(3, StoreState::Offline);
    ticks(&mut w, 20);
    assert_eq!(w.patrol.waits(&wide, w.now.mono).unwrap().why.unwrap().name(), "checker-paused");
    let ops = w.added.len();
    w.set_rules(vec![RuleSet::default_rule(3, &[], "")]);
    ticks(&mut w, 2);
    assert!(w.added[ops..].iter().any(|(_, op)| op.region == RegionId(500)));
}
