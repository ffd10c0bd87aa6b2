//! Costs of rules and labels: a fit that is remembered and one that is not, changes among many rules, look-ups. `cargo bench --bench
//! placement` prints one line a figure. One thread, so the figures are CPU time too.

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

fn timed(name: &str, times: u64, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!("{name}: {:.3} µs each", start.elapsed().as_secs_f64() * 1e6 / times as f64);
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
    timed("fit worked out", REGIONS, || {
        regions.iter().for_each(|r| drop(black_box(fit(r, rules.for_region(r), &all))));
    });
    timed("fit worked out and kept", REGIONS, || regions.iter().for_each(|r| drop(black_box(rules.fit(r, &all)))));
    for _ in 0..3 {
        timed("fit of an unchanged region", REGIONS, || {
            regions.iter().for_each(|r| drop(black_box(rules.fit(r, &all))));
        });
    }
}

fn changes() {
    let default = Arc::new(RuleSet::default_rule(3, &[], ""));
    let all: Vec<_> = (0..10_000).map(|n| table_rule(n, 3)).chain([default]).collect();
    let mut rules = RuleSet::default();
    timed("10,000 rules from scratch", 1, || rules = RuleSet::new(all, vec![]).unwrap());
    timed("change of one of 10,000 rules", 1000, || {
        for n in 0..1000 {
            let change = RulesChange { rules: vec![table_rule(n * 10, 5)], ..RulesChange::default() };
            rules = rules.changed(&change).unwrap().0;
        }
    });
    let all: Vec<_> = (0..100_000).map(|n| label_rule(n, "deny")).collect();
    let mut labels = LabelIndex::default();
    timed("100,000 label rules from scratch", 1, || labels = LabelIndex::new(all));
    timed("change of one of 100,000 label rules", 1000, || {
        for n in 0..1000 {
            let rule = label_rule(n * 100, "allow");
            labels = labels.changed(&[(rule.id.clone(), Some(rule))]).0;
        }
    });
    timed("label of a region among 100,000 rules", 100_000, || {
        for n in 0..100_000 {
            let range = KeyRange { start: key(n * 2), end: key(n * 2 + 1) };
            black_box(labels.value(&range, "schedule", Wall(0)));
        }
    });
}

fn main() {
    fits();
    changes();
}
