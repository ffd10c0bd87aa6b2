#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    Dice, Kind, Memory, PauseError, ScatterError, Scatterer, Schedulers, Spec, Updated, Why,
    hot::tests::{tell_regions, tell_stores},
    round::Input,
    run, specs,
};
use crate::{
    config::SchedulerConfig,
    model::{
        LabelConstraint, LabelOp, Now, RegionLabel, RegionLabelRule, Rule, RuleRole, StoreId, StoreLabel, StoreState,
        StoreStats,
    },
    scheduler::{
        controller::journal::By,
        filter::Refusal,
        operator::{Kind as OperatorKind, Operator, Priority},
        outcome::Reason,
        placement::{RuleSet, fit},
        region_label::LabelIndex,
        testing::World,
    },
    store::hot::HotPeers,
};

pub(super) fn spec(kind: Kind, args: &[&str], change: Value) -> Spec {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let entry = SchedulerConfig { kind: kind.short_name().into(), args: Some(args), ..SchedulerConfig::default() };
    let mut spec = Spec::read(&entry, |_| None).unwrap().unwrap();
    let Value::Object(change) = change else { panic!("an object") };
    if let Ok(Updated::To(config)) = spec.config.update(&change) {
        spec.config = config;
    }
    spec
}

pub(super) fn plain(kind: Kind) -> Spec {
    spec(kind, &[], json!({}))
}

/// What one scheduler proposes, and what stood against each store.
pub(super) fn once(world: &mut World, spec: &Spec, seed: u64) -> (Vec<Operator>, BTreeMap<StoreId, Why>) {
    let mut found = None;
    let mut hot = HotPeers::default();
    for _ in 0..3 {
        tell_regions(world, |region| hot.on_region(region, world.now));
        tell_stores(world, |store, stats| hot.on_store(store, stats, &world.regions, world.now));
    }
    world.with_view(|view, controller, _, _| {
        let input =
            Input { view, budget: &*controller, hot: &hot, name: &spec.name, cause: spec.config.kind().cause() };
        found = Some(run(&input, spec, &mut Memory::default(), &mut Dice::new(seed)));
    });
    let round = found.unwrap();
    (round.ops, round.refused)
}

/// Three stores; all leaders on store 1.
fn led_by_one(regions: u64) -> World {
    let mut world = World::new(3);
    world.fill(regions, |_| vec![1, 2, 3]);
    world
}

/// Four stores; store 4 is empty.
pub(super) fn one_empty(regions: u64) -> World {
    let mut world = World::new(4);
    unlimited(&mut world, 4);
    world.fill(regions, |at| match at % 3 {
        0 => vec![1, 2, 3],
        1 => vec![2, 3, 1],
        _ => vec![3, 1, 2],
    });
    world
}

pub(super) fn unlimited(world: &mut World, stores: u64) {
    for store in 1..=stores {
        world.set_limits(store, 1e9, 1e9);
    }
}

#[test]
fn balance_leader_says_what_pd_says() {
    let mut world = led_by_one(40);
    let (ops, _) = once(&mut world, &plain(Kind::BalanceLeader), 1);
    assert_eq!(ops.len(), 4, "a batch");
    let op = &ops[0];
    assert_eq!(
        (op.desc.as_str(), op.kind, op.priority),
        ("balance-leader-scheduler", OperatorKind::LEADER, Priority::Medium)
    );
    assert_eq!(op.brief, "transfer leader: store 1 to 2");
    assert_eq!(op.info_text(), r#"{"sourceScore":"35.00","targetScore":"5.00"}"#);
    let mut regions: Vec<_> = ops.iter().map(|op| op.region).collect();
    regions.sort_unstable();
    regions.dedup();
    assert_eq!(regions.len(), 4, "no region twice");
}

#[test]
fn leaders_within_the_tolerance_stay() {
    let mut world = World::new(3);
    world.fill(20, |at| if at <= 10 { vec![1, 2, 3] } else { vec![2, 3, 1] });
    let (ops, refused) = once(&mut world, &plain(Kind::BalanceLeader), 1);
    assert!(ops.is_empty(), "10 leaders, 10 and none: twice the tolerance of 5 is not passed");
    assert_eq!(refused[&StoreId(3)], Why::Score);
    world.report(World::region(21, &[1, 2, 3]));
    let (ops, _) = once(&mut world, &plain(Kind::BalanceLeader), 1);
    assert_eq!(ops.len(), 1, "11 and none passes it, for one leader");
    assert_eq!(ops[0].brief, "transfer leader: store 1 to 3");
}

#[test]
fn balance_region_says_what_pd_says() {
    let mut world = one_empty(30);
    let (ops, _) = once(&mut world, &plain(Kind::BalanceRegion), 1);
    let [op] = &ops[..] else { panic!("one operator") };
    assert_eq!((op.desc.as_str(), op.priority), ("balance-region-scheduler", Priority::Medium));
    assert_eq!(op.kind, OperatorKind::REGION);
    assert!(op.brief.starts_with("mv peer: store [") && op.brief.ends_with("] to [4]"), "{}", op.brief);
    let keys: Vec<_> = op.info.keys().map(String::as_str).collect();
    assert_eq!(keys, ["sourceScore", "targetScore"]);
}

#[test]
fn every_refusal_names_the_store_and_the_cause() {
    let refusal = |change: &dyn Fn(&mut World), kind: Kind| {
        let mut world = one_empty(30);
        change(&mut world);
        let (ops, refused) = once(&mut world, &plain(kind), 1);
        assert!(ops.iter().all(|op| !op.brief.contains("to [4]")), "{kind:?}");
        refused[&StoreId(4)].clone()
    };
    let report = |world: &World, change: &dyn Fn(&mut StoreStats)| {
        let mut stats =
            StoreStats { capacity: 1 << 40, available: 1 << 39, used_size: 1 << 38, ..StoreStats::default() };
        change(&mut stats);
        world.hear_store(StoreId(4), stats);
    };
    let region = Kind::BalanceRegion;
    let filter = Why::Filter;
    assert_eq!(refusal(&|w| w.set_limits(4, 0.0, 1e9), region), filter(Refusal::ExceedAddLimit));
    assert_eq!(refusal(&|w| report(w, &|s| s.is_busy = true), region), filter(Refusal::Busy));
    assert_eq!(refusal(&|w| report(w, &|s| s.receiving_snap_count = 65), region), filter(Refusal::TooManySnapshots));
    assert_eq!(
        refusal(&|w| w.put_store(4, StoreState::Up, &[("$mode", "x")]), region),
        filter(Refusal::LabelConstraint)
    );
    assert_eq!(
        refusal(&|w| w.put_store(4, StoreState::Up, &[("specialUse", "reserved")]), region),
        filter(Refusal::SpecialUse)
    );
    let leader = Kind::BalanceLeader;
    assert_eq!(refusal(&|w| w.set_state(4, StoreState::Offline), leader), filter(Refusal::Offline));
    assert_eq!(refusal(&|w| w.set_state(4, StoreState::Tombstone), leader), filter(Refusal::Tombstone));
    assert_eq!(
        refusal(&|w| drop(w.stores.update(StoreId(4), |s| s.pause_leader_in = 1)), leader),
        filter(Refusal::PauseLeader)
    );
    let hdd = || StoreLabel { key: "disk".into(), value: "hdd".into() };
    let rejecting = |w: &mut World| {
        w.put_store(4, StoreState::Up, &[("disk", "hdd")]);
        w.settings.reject_leader = [hdd()].into();
    };
    assert_eq!(refusal(&rejecting, leader), filter(Refusal::RejectLeader));
}

#[test]
fn a_deny_label_holds_balance_but_not_evict_leader() {
    let mut world = led_by_one(40);
    let label = RegionLabel { key: "schedule".into(), value: "deny".into(), ..RegionLabel::default() };
    let rule = RegionLabelRule {
        id: "import".into(),
        labels: vec![label],
        ranges: vec![crate::model::KeyRange::default()],
        ..RegionLabelRule::default()
    };
    world.settings.labels = LabelIndex::new(vec![rule.into()]).into();
    let (ops, refused) = once(&mut world, &plain(Kind::BalanceLeader), 1);
    assert!(ops.is_empty());
    assert_eq!(refused[&StoreId(1)], Why::Region(Reason::Denied { rule: "import".into() }));
    let (ops, _) = once(&mut world, &spec(Kind::EvictLeader, &[], json!({"store_id": 1})), 1);
    assert_eq!(ops.len(), 3);
}

#[test]
fn evict_leader_spreads_what_it_takes_and_is_urgent() {
    let mut world = led_by_one(40);
    let (ops, _) = once(&mut world, &spec(Kind::EvictLeader, &[], json!({"store_id": 1, "batch": 10})), 1);
    assert_eq!(ops.len(), 10);
    assert!(ops.iter().all(|op| op.desc == "evict-leader-scheduler" && op.priority == Priority::Urgent));
    assert!(ops.iter().all(|op| op.kind == OperatorKind::LEADER));
    let to_two = ops.iter().filter(|op| op.brief == "transfer leader: store 1 to 2").count();
    assert_eq!(to_two, 5, "by turns");
    // Only what starts in the ranges goes.
    let key = |n: u64| String::from_utf8(n.to_be_bytes().to_vec()).unwrap();
    let part = json!({"store_id": 1, "batch": 100, "ranges": [key(5), key(8)]});
    let (ops, refused) = once(&mut world, &spec(Kind::EvictLeader, &[], part), 1);
    assert!(!ops.is_empty() && ops.iter().all(|op| (50..80).contains(&op.region.0)), "{ops:?}");
    assert!(refused.contains_key(&StoreId(1)));
}

#[test]
fn grant_leader_gathers_and_two_of_them_do_not_fight() {
    let mut world = led_by_one(10);
    let (ops, _) = once(&mut world, &spec(Kind::GrantLeader, &[], json!({"store_id": 2})), 1);
    let [op] = &ops[..] else { panic!("one operator") };
    assert_eq!((op.desc.as_str(), op.priority), ("grant-leader-scheduler", Priority::High));
    assert_eq!(op.brief, "transfer leader: store 1 to 2");
    let Spec { config, .. } = spec(Kind::GrantLeader, &[], json!({"store_id": 1}));
    let both = Spec { name: Kind::GrantLeader.name().into(), config };
    let Updated::To(config) = both.config.update(&object(&json!({"store_id": 2}))).unwrap() else { panic!("two") };
    let (ops, _) = once(&mut world, &Spec { config, ..both }, 1);
    assert!(ops.is_empty(), "what store 1 leads stays there");
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn the_label_scheduler_empties_rejected_stores() {
    let mut world = led_by_one(10);
    world.put_store(1, StoreState::Up, &[("zone", "far")]);
    let label = plain(Kind::Label);
    assert!(once(&mut world, &label, 1).0.is_empty());
    world.settings.reject_leader = [StoreLabel { key: "zone".into(), value: "far".into() }].into();
    let (ops, _) = once(&mut world, &label, 1);
    assert_eq!((ops.len(), ops[0].desc.as_str()), (1, "label-reject-leader"));
}

#[test]
fn shufflers_move_one_thing() {
    let mut world = one_empty(30);
    let (ops, _) = once(&mut world, &plain(Kind::ShuffleRegion), 5);
    assert_eq!((ops.len(), ops[0].desc.as_str(), ops[0].priority), (1, "shuffle-region-scheduler", Priority::Low));
    assert!(ops[0].brief.ends_with("to [4]"));
    let found = (0..20).find_map(|seed| once(&mut world, &plain(Kind::ShuffleLeader), seed).0.pop()).unwrap();
    assert_eq!((found.kind, found.priority), (OperatorKind::ADMIN | OperatorKind::LEADER, Priority::Low));
    let leaders = spec(Kind::ShuffleRegion, &[], json!({"roles": ["leader"]}));
    let (ops, _) = once(&mut world, &leaders, 5);
    assert_eq!(ops[0].kind, OperatorKind::REGION | OperatorKind::LEADER);
}

#[test]
fn scatter_range_looks_at_its_range_only() {
    let mut world = World::new(4);
    unlimited(&mut world, 4);
    world.fill(60, |at| if at <= 30 { vec![1, 2, 3] } else { vec![4, 2, 3] });
    let key = |n: u64| String::from_utf8(n.to_be_bytes().to_vec()).unwrap();
    let range = spec(Kind::ScatterRange, &[&key(1), &key(31), "t1"], json!({}));
    assert_eq!(range.name, "scatter-range-scheduler-t1");
    let (ops, _) = once(&mut world, &range, 1);
    let [op] = &ops[..] else { panic!("one operator") };
    assert_eq!(op.desc, "scatter-range-region-t1");
    assert!(op.kind.has(OperatorKind::RANGE | OperatorKind::REGION) && op.region.0 <= 300);
    assert!(op.brief.ends_with("to [4]"), "{}: all four lead or hold as much over all keys", op.brief);
}

#[test]
fn slow_and_stopping_stores_lose_their_leaders() {
    let mut world = led_by_one(20);
    let report = |world: &World, id: u64, slow_score: u64, is_stopping: bool| {
        let stats =
            StoreStats { capacity: 1 << 40, available: 1 << 39, slow_score, is_stopping, ..StoreStats::default() };
        world.hear_store(StoreId(id), stats);
    };
    report(&world, 1, 79, false);
    assert!(once(&mut world, &plain(Kind::EvictSlowStore), 1).0.is_empty());
    report(&world, 1, 80, false);
    assert_eq!(once(&mut world, &plain(Kind::EvictSlowStore), 1).0[0].desc, "evict-slow-store-scheduler");
    report(&world, 2, 80, false);
    assert!(once(&mut world, &plain(Kind::EvictSlowStore), 1).0.is_empty(), "two at once");
    report(&world, 1, 1, true);
    assert_eq!(once(&mut world, &plain(Kind::EvictStoppingStore), 1).0[0].desc, "evict-stopping-store-scheduler");
}

#[test]
fn a_slow_store_gets_its_leaders_back_after_it_was_well_for_long() {
    let mut world = led_by_one(3);
    let mut schedulers = Schedulers::new(1);
    schedulers.set(vec![plain(Kind::EvictSlowStore)], world.now);
    let mut at = |world: &mut World, seconds: u64, slow_score: u64| {
        world.now = world.now.plus(Duration::from_secs(seconds));
        for id in 1..=3 {
            let slow_score = if id == 1 { slow_score } else { 1 };
            let stats = StoreStats { capacity: 1 << 40, available: 1 << 39, slow_score, ..StoreStats::default() };
            world.hear_store(StoreId(id), stats);
        }
        world.schedule(&mut schedulers);
        schedulers.leader_pauses().contains_key(&StoreId(1))
    };
    assert!(at(&mut world, 10, 100));
    assert!(at(&mut world, 10, 1));
    assert!(at(&mut world, 599, 1));
    assert!(at(&mut world, 1, 5), "not well for ten minutes");
    assert!(at(&mut world, 600, 1));
    assert!(!at(&mut world, 600, 1));
}

/// A list of the fresh cluster.
fn defaults() -> Vec<Spec> {
    specs(&crate::config::ScheduleConfig::default().schedulers_v2, |_| None).0
}

#[test]
fn the_list_is_kept_and_pauses_end() {
    let now = Now::default().plus(Duration::from_secs(100));
    let mut schedulers = Schedulers::new(1);
    schedulers.set(defaults(), now);
    let pause = Duration::from_secs(30);
    assert_eq!(schedulers.pause("nosuch", pause, now), Err(PauseError::NotFound));
    schedulers.pause("balance-region-scheduler", pause, now).unwrap();
    let mut more = defaults();
    more.push(spec(Kind::EvictLeader, &["3"], json!({"store_id": 3})));
    schedulers.set(more, now);
    let paused = schedulers.paused(now.plus(Duration::from_secs(29)));
    assert_eq!(paused.len(), 1, "a change of the list ends no pause");
    assert_eq!((paused[0].0.as_str(), paused[0].1.until), ("balance-region-scheduler", now.plus(pause).wall));
    assert!(schedulers.paused(now.plus(pause)).is_empty());
    assert_eq!(schedulers.leader_pauses(), BTreeMap::from([(StoreId(3), (1, 0))]));
    assert_eq!(schedulers.diagnosis("balance-region-scheduler", true, now).unwrap().status, "paused");
    assert_eq!(schedulers.diagnosis("balance-leader-scheduler", true, now).unwrap().status, "halted");
    assert_eq!(schedulers.diagnosis("label-scheduler", false, now).unwrap().status, "disabled");
    schedulers.pause("all", Duration::ZERO, now).unwrap();
    assert!(schedulers.paused(now).is_empty());
}

#[test]
fn looks_come_less_often_while_nothing_is_found() {
    let mut world = led_by_one(3);
    let mut schedulers = Schedulers::new(1);
    schedulers.set(vec![plain(Kind::BalanceLeader)], world.now);
    let mut looks = Vec::new();
    for _ in 0..6000 {
        world.pass(Duration::from_millis(10));
        let due = schedulers.next_due().unwrap();
        if due <= world.now.mono {
            looks.push(world.now.mono);
            world.schedule(&mut schedulers);
        }
    }
    let gaps: Vec<u128> = looks.windows(2).map(|w| w[1].since(w[0]).as_millis()).collect();
    assert!(gaps.windows(2).all(|w| w[0] <= w[1]), "{gaps:?}");
    assert_eq!(gaps.last(), Some(&5000));
    let diagnosis = schedulers.diagnosis("balance-leader-scheduler", false, world.now).unwrap();
    assert_eq!((diagnosis.status, diagnosis.summary.as_str()), ("pending", "2 store(s) StoreScoreDisallowed; "));
    // The limit is asked first.
    world.set_schedule(|s| s.leader_schedule_limit = 0);
    world.pass(Duration::from_secs(5));
    let out = world.with_view(|view, controller, _, out| schedulers.tick(view, controller, out));
    assert!(format!("{out:?}").contains("SchedulerLimited"));
}

/// Lets schedulers and nodes work for `span`; operators that came, by description.
pub(super) fn run_for(world: &mut World, schedulers: &mut Schedulers, span: Duration) -> BTreeMap<String, usize> {
    let before = world.added.len();
    let end = world.now.plus(span).mono;
    while world.now.mono < end {
        let quiet = world.controller.running_len() == 0;
        // Nothing happens between two looks of the schedulers when nothing is under way.
        let next = schedulers.next_due().unwrap_or(end).min(end);
        if quiet && next > world.now.mono {
            let gap = next.since(world.now.mono).as_nanos() as u64;
            let step = Duration::from_nanos(gap - gap % 10_000_000);
            world.pass(step.saturating_sub(Duration::from_millis(10)));
        }
        world.tick();
        world.schedule(schedulers);
    }
    let mut counts = BTreeMap::new();
    for (_, op) in &world.added[before..] {
        *counts.entry(op.desc.clone()).or_default() += 1;
    }
    counts
}

fn spread(world: &World, stores: u64, of: impl Fn(&World, StoreId) -> u64) -> (u64, u64) {
    let all: Vec<u64> = (1..=stores).map(|id| of(world, StoreId(id))).collect();
    (*all.iter().min().unwrap(), *all.iter().max().unwrap())
}

/// Ten ways to begin: which three stores hold a region, the first leading.
fn skewed(start: u64, stores: u64, at: u64) -> Vec<u64> {
    let nth = |n: u64| n % stores + 1;
    let mut dice = Dice::new(start * 1000 + at);
    let mut any = || dice.below(stores as usize) as u64 + 1;
    let mut found = match start {
        0 => vec![1, 2, 3],
        1 => vec![1, nth(at), nth(at + 1)],
        2 => vec![nth(at % 2), nth(2), nth(3)],
        3 => vec![stores, stores - 1, stores - 2],
        4 => vec![nth(at % 3), nth(at % 3 + 1), nth(at % 3 + 2)],
        5 if at.is_multiple_of(3) => vec![1, 2, 3],
        6 => vec![2, nth(at), 1],
        7 => vec![nth(at * at), nth(at), 1],
        8 => vec![nth(at / 50), nth(at / 50 + 1), nth(at / 50 + 2)],
        _ => vec![any(), any(), any()],
    };
    let leader = found[0];
    found.sort_by_key(|s| (*s != leader, *s));
    found.dedup();
    for extra in 1..=stores {
        if found.len() < 3 && !found.contains(&extra) {
            found.push(extra);
        }
    }
    found
}

#[test]
fn ten_skewed_starts_become_even_and_then_nothing_moves_for_an_hour() {
    for start in 0..10 {
        let stores = 5 + start % 3;
        let mut world = World::new(stores);
        unlimited(&mut world, stores);
        let regions = 150;
        world.fill(regions, |at| skewed(start, stores, at));
        let mut schedulers = Schedulers::new(start);
        schedulers.set(defaults(), world.now);
        let moved = run_for(&mut world, &mut schedulers, Duration::from_secs(600));
        let leaders = spread(&world, stores, |w, s| w.regions.summary(s).leader_count);
        let peers = spread(&world, stores, |w, s| w.regions.summary(s).region_count);
        assert!(leaders.1 - leaders.0 <= 15, "start {start}: leaders {leaders:?} after {moved:?}");
        assert!(peers.1 - peers.0 <= 3, "start {start}: peers {peers:?} after {moved:?}");
        for at in 1..=regions {
            let region = world.get(at * 10);
            // Twice the tolerance at most lies between a leader's store and those that have a voter of its region.
            let led = |store: StoreId| world.regions.summary(store).leader_count;
            let most = led(region.leader_store().unwrap());
            let least = region.peers().iter().map(|p| led(p.store)).min().unwrap();
            assert!(most - least.min(most) <= 10, "start {start}, region {at}: {least} and {most} after {moved:?}");
            let rules = world.settings.rules.for_region(&region);
            assert!(fit(&region, rules, &world.stores.snapshot()).is_satisfied(), "start {start}, region {at}");
        }
        let still = run_for(&mut world, &mut schedulers, Duration::from_secs(3600));
        assert!(still.is_empty(), "start {start}: {still:?}");
    }
}

/// A random world: labels, rules, states, limits and loads by chance.
fn random_world(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let stores = 4 + dice.below(5) as u64;
    let mut world = World::new(stores);
    for id in 1..=stores {
        let zone = format!("z{}", dice.below(4));
        let state = if dice.below(6) == 0 { StoreState::Offline } else { StoreState::Up };
        world.put_store(id, state, &[("zone", &zone)]);
        let limit = if dice.below(5) == 0 { 0.0 } else { 1e9 };
        world.set_limits(id, limit, 1e9);
        if dice.below(8) == 0 {
            world.stores.update(StoreId(id), |s| s.pause_leader_in = 1);
        }
    }
    let mut rules = vec![RuleSet::default_rule(3, &["zone".to_owned()], "")];
    if dice.below(3) == 0 {
        let zone = LabelConstraint { key: "zone".into(), op: LabelOp::NotIn, values: vec!["z0".into()] };
        let leader =
            Rule { role: RuleRole::Leader, count: 1, constraints: vec![zone], id: "l".into(), ..rules[0].clone() };
        let follower = Rule { role: RuleRole::Voter, count: 2, id: "v".into(), constraints: vec![], ..leader.clone() };
        rules = vec![leader, follower];
    }
    world.set_rules(rules);
    for at in 1..=60 {
        let mut places: Vec<u64> = (1..=stores).collect();
        if dice.below(2) == 0 {
            dice.shuffle(&mut places);
        }
        world.report(World::region(at, &places[..3]));
    }
    world
}

#[test]
fn no_proposal_breaks_a_rule_or_goes_where_nothing_may_go() {
    let all = [
        plain(Kind::BalanceLeader),
        plain(Kind::BalanceRegion),
        spec(Kind::EvictLeader, &[], json!({"store_id": 1})),
        spec(Kind::GrantLeader, &[], json!({"store_id": 2})),
        plain(Kind::ShuffleLeader),
        plain(Kind::ShuffleRegion),
        spec(Kind::ScatterRange, &["", "", "all"], json!({})),
    ];
    let mut proposed = 0;
    for seed in 0..150 {
        let mut world = random_world(seed);
        for spec in &all {
            let (ops, _) = once(&mut world, spec, seed);
            for op in ops {
                proposed += 1;
                check_proposal(&mut world, &op, seed);
            }
        }
    }
    assert!(proposed > 500, "{proposed} proposals are too few to show anything");
}

/// Starts a proposal, lets the nodes carry it out, and compares what was with what is.
fn check_proposal(world: &mut World, op: &Operator, seed: u64) {
    let before = world.get(op.region.0);
    let rules = world.settings.rules.clone();
    let stores = world.stores.snapshot();
    let satisfied = |r: &crate::model::Region| {
        let fit = fit(r, rules.for_region(r), &stores);
        (
            fit.rules.iter().filter(|r| r.is_satisfied()).count(),
            fit.rules.iter().map(|r| r.isolation_score).sum::<f64>(),
        )
    };
    let was = satisfied(&before);
    let added = world.with_view(|view, controller, _, out| {
        controller
            .add(view, vec![op.clone()], &By::checker(), out)
            .unwrap_or_else(|why| panic!("seed {seed}: {}: {why:?}", op.text()));
    });
    world.start(&added);
    world.finish_commands();
    let after = world.get(op.region.0);
    assert_ne!((before.leader, before.peers()), (after.leader, after.peers()), "seed {seed}: {}", op.text());
    let is = satisfied(&after);
    assert!(is.0 >= was.0 && is.1 >= was.1, "seed {seed}: {}: {was:?} became {is:?}", op.text());
    for peer in after.peers().iter().filter(|p| before.meta.peer_on(p.store).is_none()) {
        let store = &stores[&peer.store];
        assert_eq!(store.record.state, StoreState::Up, "seed {seed}: {}", op.text());
    }
    if before.leader_store() != after.leader_store() {
        let store = &stores[&after.leader_store().unwrap()];
        assert_eq!((store.record.state, store.pause_leader_in), (StoreState::Up, 0), "seed {seed}: {}", op.text());
    }
    assert_eq!(after.peers().len(), before.peers().len());
}

#[test]
fn equal_seeds_schedule_alike() {
    let trace = || {
        let mut world = one_empty(60);
        let mut schedulers = Schedulers::new(7);
        schedulers.set(defaults(), world.now);
        run_for(&mut world, &mut schedulers, Duration::from_secs(30));
        world.added.iter().map(|(at, op)| (*at, op.brief.clone(), op.region)).collect::<Vec<_>>()
    };
    let first = trace();
    assert!(first.len() > 20);
    assert_eq!(first, trace());
}

#[test]
fn balance_never_refills_a_store_that_is_being_emptied() {
    let mut world = World::new(5);
    unlimited(&mut world, 5);
    world.fill(100, |at| vec![at % 5 + 1, (at + 1) % 5 + 1, (at + 2) % 5 + 1]);
    let mut schedulers = Schedulers::new(3);
    schedulers.set(defaults(), world.now);
    world.set_state(2, StoreState::Offline);
    let mut last = world.regions.summary(StoreId(2)).region_count;
    for _ in 0..3000 {
        world.tick();
        world.schedule(&mut schedulers);
        let held = world.regions.summary(StoreId(2)).region_count;
        assert!(held <= last, "{held} after {last}");
        last = held;
    }
    assert_eq!(last, 0);
    let scheduled = world.added.iter().filter(|(_, op)| op.desc == "balance-region-scheduler");
    assert!(scheduled.clone().all(|(_, op)| !op.brief.contains("[2]")));
}

#[test]
fn scattering_spreads_a_group_over_all_stores() {
    let mut world = World::new(6);
    unlimited(&mut world, 6);
    world.fill(60, |_| vec![1, 2, 3]);
    let mut scatterer = Scatterer::default();
    for at in 1..=60 {
        let region = world.get(at * 10);
        let out = world.with_view(|view, controller, _, out| {
            if let Some(op) =
                scatterer.scatter(view, (&*controller, &HotPeers::default()), &region, "t", false).unwrap()
            {
                assert!(op.desc == "scatter-region" && op.kind.has(OperatorKind::ADMIN));
                assert_eq!((op.priority, op.info["group"].as_str()), (Priority::High, "t"));
                controller.add(view, vec![op], &By::checker(), out).unwrap();
            }
        });
        world.start(&out);
        world.finish_commands();
    }
    let peers = spread(&world, 6, |w, s| w.regions.summary(s).region_count);
    let leaders = spread(&world, 6, |w, s| w.regions.summary(s).leader_count);
    assert!(peers.1 - peers.0 <= 2, "{peers:?}");
    assert!(leaders.1 - leaders.0 <= 2, "{leaders:?}");
    let pending = crate::model::Region { pending: vec![crate::model::PeerId(101)], ..(*world.get(100)).clone() };
    world.with_view(|view, controller, _, _| {
        let refused = scatterer.scatter(view, (&*controller, &HotPeers::default()), &pending, "t", false).unwrap_err();
        assert_eq!(refused, ScatterError::NotReplicated(100));
    });
}

#[test]
fn scattering_breaks_no_rule() {
    for seed in 0..60 {
        let mut world = random_world(seed);
        let mut scatterer = Scatterer::default();
        for at in 1..=60 {
            let region = world.get(at * 10);
            let mut found = None;
            world.with_view(|view, controller, _, _| {
                found =
                    scatterer.scatter(view, (&*controller, &HotPeers::default()), &region, "g", true).ok().flatten();
            });
            if let Some(op) = found {
                check_proposal(&mut world, &op, seed);
            }
        }
    }
}

mod deny;
mod history;
mod reject_leader;
mod rules_off;
mod uneven;
