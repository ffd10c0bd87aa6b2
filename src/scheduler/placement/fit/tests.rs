#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::model::{DownPeer, LabelConstraint, LabelOp, RegionId, RegionMeta, Role, StoreLabel, StoreRecord};
use crate::store::StoreTable;

fn stores(labels: &[&[(&str, &str)]]) -> BTreeMap<StoreId, Arc<StoreInfo>> {
    let all = StoreTable::default();
    for (at, labels) in labels.iter().enumerate() {
        let labels = labels.iter().map(|(k, v)| StoreLabel { key: (*k).into(), value: (*v).into() }).collect();
        let id = StoreId(at as u64 + 1);
        let record = Arc::new(StoreRecord { id, labels, ..StoreRecord::default() });
        all.put_record(record, crate::model::Now::default());
    }
    all.snapshot().as_ref().clone()
}

fn region(peers: Vec<Peer>, leader: u64) -> Region {
    Region {
        meta: Arc::new(RegionMeta { id: RegionId(1), peers, ..RegionMeta::default() }),
        leader: Some(PeerId(leader)),
        ..Region::default()
    }
}

fn rule(id: &str, role: RuleRole, count: u32, constraints: Vec<LabelConstraint>, levels: &[&str]) -> Arc<Rule> {
    Arc::new(Rule {
        group_id: "pd".into(),
        id: id.into(),
        role,
        count,
        constraints,
        location_labels: levels.iter().map(|l| (*l).into()).collect(),
        ..Rule::default()
    })
}

fn within(key: &str, value: &str) -> LabelConstraint {
    LabelConstraint { key: key.into(), op: LabelOp::In, values: vec![value.into()] }
}

fn ids(peers: &[Peer]) -> Vec<u64> {
    peers.iter().map(|p| p.id.0).collect()
}

#[test]
fn a_fourth_voter_is_an_orphan_and_the_ailing_one_first() {
    let stores = stores(&[&[], &[], &[], &[]]);
    let mut r = region((1..=4).map(|i| Peer::voter(i, i)).collect(), 1);
    let rules = [rule("default", RuleRole::Voter, 3, vec![], &[])];
    let found = fit(&r, &rules, &stores);
    assert_eq!((ids(&found.rules[0].peers), ids(&found.orphans)), (vec![1, 2, 3], vec![4]));
    assert!(!found.is_satisfied());
    assert_eq!(found.extra(), 1);
    r.down = vec![DownPeer { peer: PeerId(2), seconds: 60 }];
    assert_eq!(ids(&fit(&r, &rules, &stores).orphans), [2]);
    r.pending = vec![PeerId(3)];
    assert_eq!(ids(&fit(&r, &rules, &stores).orphans), [2], "a pending peer is worth more than a down one");
}

#[test]
fn a_learner_stands_in_for_a_missing_voter_in_the_wrong_role() {
    let stores = stores(&[&[], &[], &[]]);
    let r = region(vec![Peer::voter(1, 1), Peer::voter(2, 2), Peer::learner(3, 3)], 1);
    let found = fit(&r, &[rule("default", RuleRole::Voter, 3, vec![], &[])], &stores);
    assert_eq!(ids(&found.rules[0].different_role), [3]);
    assert!(found.orphans.is_empty() && !found.is_satisfied());
}

#[test]
fn the_column_store_serves_only_the_rule_that_names_it() {
    let stores = stores(&[&[], &[], &[], &[("engine", "tiflash")]]);
    let r = region(vec![Peer::voter(1, 1), Peer::voter(2, 2), Peer::voter(3, 3), Peer::learner(4, 4)], 1);
    let default = rule("default", RuleRole::Voter, 3, vec![], &[]);
    assert_eq!(ids(&fit(&r, std::slice::from_ref(&default), &stores).orphans), [4]);
    let flash = rule("table-30", RuleRole::Learner, 1, vec![within("engine", "tiflash")], &["zone"]);
    let found = fit(&r, &[default, flash], &stores);
    assert!(found.is_satisfied());
    assert_eq!(ids(&found.rules[1].peers), [4]);
}

#[test]
fn the_leader_rule_takes_the_leader_and_followers_are_others() {
    let stores = stores(&[&[("zone", "a")], &[("zone", "a")], &[("zone", "b")]]);
    let r = region((1..=3).map(|i| Peer::voter(i, i)).collect(), 2);
    let rules =
        [rule("l", RuleRole::Leader, 1, vec![within("zone", "a")], &[]), rule("f", RuleRole::Follower, 2, vec![], &[])];
    let found = fit(&r, &rules, &stores);
    assert_eq!((ids(&found.rules[0].peers), ids(&found.rules[1].peers)), (vec![2], vec![1, 3]));
    assert!(found.is_satisfied());
}

#[test]
fn of_four_the_three_that_lie_furthest_apart_stay() {
    let stores = stores(&[&[("zone", "a")], &[("zone", "a")], &[("zone", "b")], &[("zone", "c")]]);
    let r = region((1..=4).map(|i| Peer::voter(i, i)).collect(), 1);
    let found = fit(&r, &[rule("default", RuleRole::Voter, 3, vec![], &["zone"])], &stores);
    assert_eq!((ids(&found.rules[0].peers), found.rules[0].isolation_score), (vec![1, 3, 4], 3.0));
}

#[test]
fn replacing_keeps_constraints_and_distance() {
    let stores = stores(&[&[("zone", "a")], &[("zone", "b")], &[("zone", "c")], &[("zone", "c")], &[("zone", "b")]]);
    let r = region((1..=3).map(|i| Peer::voter(i, i)).collect(), 1);
    let found = fit(&r, &[rule("default", RuleRole::Voter, 3, vec![], &["zone"])], &stores);
    assert!(found.allows_replacing(StoreId(3), &stores[&StoreId(4)], &stores));
    assert!(!found.allows_replacing(StoreId(3), &stores[&StoreId(5)], &stores));
    assert!(!found.allows_replacing(StoreId(4), &stores[&StoreId(5)], &stores), "no peer there");
}

#[test]
fn absurd_reports_end_the_search() {
    let zone: &[(&str, &str)] = &[("zone", "a")];
    let stores = stores(&[zone; 40]);
    let r = region((1..=40).map(|i| Peer::voter(i, i)).collect(), 1);
    let rules: Vec<_> = (0..4).map(|i| rule(&format!("r{i}"), RuleRole::Voter, 5, vec![], &["zone"])).collect();
    let found = fit(&r, &rules, &stores);
    let peers: usize = found.rules.iter().map(|f| f.peers.len()).sum();
    assert_eq!(peers + found.orphans.len(), 40);
}

/// One rule's worth: peers, minus those in the wrong role, isolation.
type Worth = (usize, i64, i64);

/// The worth of an assignment, rule by rule.
fn worth(
    assigned: &[Option<usize>],
    r: &Region,
    rules: &[Arc<Rule>],
    all: &BTreeMap<StoreId, Arc<StoreInfo>>,
) -> Vec<Worth> {
    let of_rule = |at: usize, rule: &Rule| {
        let peers: Vec<&Peer> =
            r.peers().iter().enumerate().filter(|(i, _)| assigned[*i] == Some(at)).map(|(_, p)| p).collect();
        let wrong = peers.iter().filter(|p| !has_role(p, Some(p.id) == r.leader, rule.role)).count();
        let score = labels::isolation_score(peers.iter().map(|p| &*all[&p.store].record), &rule.location_labels);
        (peers.len(), -(wrong as i64), score as i64)
    };
    rules.iter().enumerate().map(|(at, rule)| of_rule(at, rule)).collect()
}

/// Every assignment of peers to rules (or to none), best worth.
fn brute_force(r: &Region, rules: &[Arc<Rule>], all: &BTreeMap<StoreId, Arc<StoreInfo>>) -> Vec<Worth> {
    let peers = r.peers().len();
    let options = rules.len() + 1;
    let mut best = Vec::new();
    for code in 0..options.pow(peers as u32) {
        let mut rest = code;
        let mut assigned = Vec::with_capacity(peers);
        for _ in 0..peers {
            assigned.push((rest % options).checked_sub(1));
            rest /= options;
        }
        let legal = rules.iter().enumerate().all(|(at, rule)| {
            let mine = assigned.iter().enumerate().filter(|(_, a)| **a == Some(at));
            mine.clone().count() <= rule.count as usize
                && mine.clone().all(|(i, _)| labels::matches(&all[&r.peers()[i].store].record, &rule.constraints))
        });
        if legal {
            best = best.max(worth(&assigned, r, rules, all));
        }
    }
    best
}

fn any_role() -> impl Strategy<Value = RuleRole> {
    prop_oneof![Just(RuleRole::Voter), Just(RuleRole::Leader), Just(RuleRole::Follower), Just(RuleRole::Learner)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fit_is_the_best_of_all_assignments(
        places in prop::collection::vec((0..3usize, 0..3usize), 5),
        learners in prop::collection::vec(any::<bool>(), 1..=5),
        leader in 0..5usize,
        asked in prop::collection::vec((any_role(), 1..4u32, 0..4usize, 0..3usize), 1..=3),
    ) {
        let zones = ["a", "b", "c"];
        let labels: Vec<Vec<(&str, &str)>> =
            places.iter().map(|(z, h)| vec![("zone", zones[*z]), ("host", zones[*h])]).collect();
        let all = stores(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let peers: Vec<Peer> = learners.iter().enumerate().map(|(i, learner)| {
            let id = i as u64 + 1;
            Peer { role: if *learner { Role::Learner } else { Role::Voter }, ..Peer::voter(id, id) }
        }).collect();
        let r = region(peers, leader as u64 + 1);
        let rules: Vec<_> = asked.iter().enumerate().map(|(i, (role, count, zone, levels))| {
            let constraints = zones.get(*zone).map(|z| within("zone", z)).into_iter().collect();
            rule(&i.to_string(), *role, *count, constraints, &["zone", "host"][..*levels])
        }).collect();
        let found = fit(&r, &rules, &all);
        let got: Vec<Worth> = found.rules.iter()
            .map(|f| (f.peers.len(), -(f.different_role.len() as i64), f.isolation_score as i64)).collect();
        prop_assert_eq!(got, brute_force(&r, &rules, &all));
        let mut seen: Vec<u64> = found.rules.iter().flat_map(|f| ids(&f.peers)).chain(ids(&found.orphans)).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (1..=r.peers().len() as u64).collect::<Vec<_>>(), "each peer stands in one place");
    }
}
