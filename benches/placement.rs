//! Costs of rules and labels: a fit that is remembered and one that is not, changes among many rules, look-ups. `cargo bench --bench
//! placement` prints one line a figure; every call is timed by itself. One thread, so the figures are CPU time too.

// A driver reads the clock and prints.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, sync::Arc, time::Instant};

use berth::{
    model::{
        Key, KeyRange, Now, Peer, PeerId, Region, RegionId, RegionLabel, RegionLabelRule, RegionMeta, Rule, StoreId,
        StoreLabel, StoreRecord, Wall,
    },
    scheduler::{
        placement::{RuleSet, RulesChange, fit},
        region_label::LabelIndex,
    },
    store::{StoreTable, Stores},
};

const REGIONS: u64 = 50_000;

fn key(n: u64) -> Key {
    Key::from(format!("t{n:016x}").into_bytes())
}

/// Times one piece of work.
fn once(name: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!("{name}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}

/// Times each call by itself. The clock's own cost, some 25 ns, is in each.
fn each(name: &str, times: u64, mut call: impl FnMut(u64)) {
    let mut took: Vec<f64> = Vec::with_capacity(usize::try_from(times).unwrap());
    for n in 0..times {
        let start = Instant::now();
        call(n);
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    let at = |part: usize| took[took.len() * part / 100];
    println!("{name}: mean {mean:.3} µs, p50 {:.3}, p99 {:.3} ({times} calls)", at(50), at(99));
}

/// Thirty stores on ten hosts of three zones.
fn stores() -> Arc<Stores> {
    let all = StoreTable::default();
    for id in 1..=30 {
        let label = |key: &str, value: u64| StoreLabel { key: key.into(), value: value.to_string() };
        let labels = vec![label("zone", id % 3), label("host", id % 10)];
        all.put_record(Arc::new(StoreRecord { id: StoreId(id), labels, ..StoreRecord::default() }), Now::default());
    }
    all.snapshot()
}

fn region(n: u64) -> Region {
    let peers = (0..3).map(|at| Peer::voter(n * 4 + at + 1, (n + at * 7) % 30 + 1)).collect();
    let range = KeyRange { start: key(n), end: key(n + 1) };
    let meta = RegionMeta { id: RegionId(n * 4 + 4), range, peers, ..RegionMeta::default() };
    Region { meta: Arc::new(meta), leader: Some(PeerId(n * 4 + 1)), ..Region::default() }
}

fn table_rule(n: u64, count: u32) -> Arc<Rule> {
    let range = KeyRange { start: key(n * 4), end: key(n * 4 + 2) };
    Arc::new(Rule { group_id: "tables".into(), id: format!("t{n}"), count, range, ..Rule::default() })
}

fn label_rule(n: u64, value: &str) -> Arc<RegionLabelRule> {
    let label = RegionLabel { key: "schedule".into(), value: value.into(), ..RegionLabel::default() };
    let ranges = vec![KeyRange { start: key(n * 2), end: key(n * 2 + 1) }];
    Arc::new(RegionLabelRule { id: format!("r{n}"), labels: vec![label], ranges, ..RegionLabelRule::default() })
}

fn fits() {
    let all = stores();
    let default = Arc::new(RuleSet::default_rule(3, &["zone".into(), "host".into()], ""));
    let rules = RuleSet::new(vec![default], vec![]).unwrap();
    let regions: Vec<Region> = (0..REGIONS).map(region).collect();
    let fits =
        |name: &str, work: &dyn Fn(&Region)| each(name, REGIONS, |n| work(&regions[usize::try_from(n).unwrap()]));
    fits("fit worked out", &|r| drop(black_box(fit(r, rules.for_region(r), &all))));
    fits("fit worked out and kept", &|r| drop(black_box(rules.fit(r, &all))));
    for _ in 0..3 {
        fits("fit of an unchanged region", &|r| drop(black_box(rules.fit(r, &all))));
    }
}

fn rule_changes() {
    let default = Arc::new(RuleSet::default_rule(3, &[], ""));
    let all: Vec<_> = (0..10_000).map(|n| table_rule(n, 3)).chain([default]).collect();
    let mut rules = RuleSet::default();
    once("10,000 rules from scratch", || rules = RuleSet::new(all, vec![]).unwrap());
    each("change of one of 10,000 rules", 1000, |n| {
        let change = RulesChange { rules: vec![table_rule(n * 10, 5)], ..RulesChange::default() };
        rules = rules.changed(&change).unwrap().0;
    });
    let regions: Vec<Region> = (0..40_000).map(region).collect();
    each("rules of a region among 10,000", 40_000, |n| {
        black_box(rules.for_region(&regions[usize::try_from(n).unwrap()]));
    });
}

fn label_changes() {
    let all: Vec<_> = (0..100_000).map(|n| label_rule(n, "deny")).collect();
    let mut labels = LabelIndex::default();
    once("100,000 label rules from scratch", || labels = LabelIndex::new(all));
    each("change of one of 100,000 label rules", 1000, |n| {
        let rule = label_rule(n * 100, "allow");
        labels = labels.changed(&[(rule.id.clone(), Some(rule))]).0;
    });
    let ranges: Vec<KeyRange> = (0..100_000).map(|n| KeyRange { start: key(n * 2), end: key(n * 2 + 1) }).collect();
    each("label of a region among 100,000 rules", 100_000, |n| {
        black_box(labels.value(&ranges[usize::try_from(n).unwrap()], "schedule", Wall(0)));
    });
}

fn main() {
    fits();
    rule_changes();
    label_changes();
}
