#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{RegionId, RegionMeta};
use proptest::prelude::*;

fn rule(group: &str, id: &str, index: i64, start: &str, end: &str, role: RuleRole) -> Rule {
    let range = KeyRange::new(start.as_bytes(), end.as_bytes());
    Rule { group_id: group.into(), id: id.into(), index, range, role, count: 1, ..Rule::default() }
}

fn set(rules: &[Rule], groups: &[RuleGroup]) -> Result<RuleSet, RuleError> {
    RuleSet::new(rules.iter().cloned().map(Arc::new).collect(), groups.to_vec())
}

fn names(rules: &[Arc<Rule>]) -> Vec<String> {
    rules.iter().map(|r| format!("{}/{}", r.group_id, r.id)).collect()
}

fn region(start: &str, end: &str) -> Region {
    let range = KeyRange::new(start.as_bytes(), end.as_bytes());
    Region { meta: Arc::new(RegionMeta { id: RegionId(1), range, ..RegionMeta::default() }), ..Region::default() }
}

const V: RuleRole = RuleRole::Voter;
const L: RuleRole = RuleRole::Learner;

#[test]
fn rules_stand_by_group_index_group_index_and_id() {
    let groups = [RuleGroup { id: "z".into(), index: -1, override_: false }];
    let rules = [
        rule("pd", "b", 2, "", "", V),
        rule("pd", "c", 1, "", "", V),
        rule("pd", "a", 2, "", "", V),
        rule("a", "x", 9, "", "", V),
        rule("z", "x", 9, "", "", V),
    ];
    let set = set(&rules, &groups).unwrap();
    assert_eq!(names(&set.all()), ["z/x", "a/x", "pd/c", "pd/a", "pd/b"]);
    assert_eq!(set.groups().iter().map(|g| g.id.as_str()).collect::<Vec<_>>(), ["z", "a", "pd"]);
}

#[test]
fn an_overriding_rule_drops_those_before_it_in_its_group_an_overriding_group_all_before_it() {
    let mut second = rule("pd", "b", 2, "k", "", V);
    second.override_ = true;
    let rules = [rule("a", "x", 0, "", "", V), rule("pd", "a", 1, "", "", V), second, rule("q", "y", 0, "p", "", V)];
    let groups = [RuleGroup { id: "q".into(), index: 5, override_: true }];
    let set = set(&rules, &groups).unwrap();
    assert_eq!(names(set.for_region(&region("", "k"))), ["a/x", "pd/a"]);
    assert_eq!(names(set.for_region(&region("k", "p"))), ["a/x", "pd/b"]);
    assert_eq!(names(set.for_region(&region("q", ""))), ["q/y"]);
    assert_eq!(names(set.by_key(b"z")), ["a/x", "pd/a", "pd/b", "q/y"], "by key overridden ones show too");
    assert!(set.for_region(&region("a", "l")).is_empty(), "a region across a border has no rules");
    let keys: Vec<_> = set.split_keys(&KeyRange::all()).iter().map(|k| k.as_bytes().to_vec()).collect();
    assert_eq!(keys, [b"k".to_vec(), b"p".to_vec()]);
    assert!(set.split_keys(&KeyRange::new(&b"k"[..], &b"p"[..])).is_empty());
}

#[test]
fn c4_the_last_voter_rule_cannot_go() {
    let text = |rules: &[Rule]| set(rules, &[]).unwrap_err().to_string();
    assert_eq!(
        set(&[], &[]).unwrap_err().to_string(),
        "[PD:placement:ErrBuildRuleList]build rule list failed, no rule left"
    );
    let mut flash = rule("tiflash", "table-30", 120, "", "", L);
    let key = |text: &str| Key::from(hex::decode(text).unwrap());
    flash.range.start = key("7480000000000000ff1e00000000000000f8");
    flash.range.end = key("7480000000000000ff2800000000000000f8");
    assert_eq!(
        text(&[flash]),
        "[PD:placement:ErrBuildRuleList]build rule list failed, needs at least one leader or voter for range \
         {7480000000000000FF1E00000000000000F8, 7480000000000000FF2800000000000000F8}"
    );
    let two_leaders = [rule("a", "1", 0, "", "", RuleRole::Leader), rule("a", "2", 0, "m", "", RuleRole::Leader)];
    assert!(text(&two_leaders).ends_with("multiple leader replicas for range {6D, }"));
    assert!(text(&[rule("a", "1", 0, "b", "", V)]).ends_with("needs at least one leader or voter for range {, 62}"));
    assert!(text(&[rule("a", "1", 0, "", "b", V)]).ends_with("needs at least one leader or voter for range {62, }"));
}

#[test]
fn the_default_rule_is_the_replication_configuration() {
    let rule = RuleSet::default_rule(3, &["zone".into()], "zone");
    assert_eq!((rule.group_id.as_str(), rule.id.as_str(), rule.count, rule.role), ("pd", "default", 3, V));
    assert_eq!((rule.location_labels.len(), rule.isolation_level.as_str()), (1, "zone"));
    let set = set(&[rule], &[]).unwrap();
    assert_eq!(set.for_region(&region("a", "b")).len(), 1);
    assert!(set.get("pd", "default").is_some() && set.get("pd", "x").is_none());
}

#[test]
fn a_rule_among_ten_thousand_costs_what_it_touches() {
    let key = |n: usize| format!("{n:06}");
    let table = |n: usize, count: u32| {
        Arc::new(Rule { count, ..rule("tables", &format!("t{n}"), 0, &key(n * 2), &key(n * 2 + 1), V) })
    };
    let default = Arc::new(RuleSet::default_rule(3, &[], ""));
    let all = RuleSet::new((0..10_000).map(|n| table(n, 1)).chain([default]).collect(), vec![]).unwrap();
    let change = |rules: Vec<Arc<Rule>>, delete: &[usize]| RulesChange {
        rules,
        delete_rules: delete.iter().map(|n| ("tables".to_owned(), format!("t{n}"))).collect(),
        ..RulesChange::default()
    };
    for (change, parts) in [
        (change(vec![table(77, 2)], &[]), 1),
        (change(vec![], &[5]), 0),
        (change(vec![Arc::new(rule("x", "wide", 0, &key(100), &key(120), L))], &[1, 2]), 20),
        (
            RulesChange {
                groups: vec![RuleGroup { id: "unused".into(), index: 7, override_: true }],
                ..RulesChange::default()
            },
            0,
        ),
        (
            RulesChange {
                groups: vec![RuleGroup { id: "tables".into(), index: 0, override_: false }],
                ..RulesChange::default()
            },
            0,
        ),
        (
            RulesChange {
                groups: vec![RuleGroup { id: "tables".into(), index: 7, override_: true }],
                ..RulesChange::default()
            },
            10_000,
        ),
    ] {
        let (next, touched) = all.changed(&change).unwrap();
        assert_eq!(touched.len(), parts, "{change:?}");
        assert!(next.rules.own_nodes(&all.rules) <= 100, "entries copied for {change:?}");
        let from_scratch = RuleSet::new(next.all(), next.groups()).unwrap();
        assert!(shown(&next).eq(shown(&from_scratch)));
    }
}

/// All segments with what applies there.
fn shown(set: &RuleSet) -> impl Iterator<Item = (KeyRange, Vec<Arc<Rule>>)> {
    set.segments().map(|(range, rules)| (range, rules.to_vec()))
}

#[test]
fn changed_ranges_are_those_of_old_and_new_rules() {
    let default = RuleSet::default_rule(3, &[], "");
    let old = set(&[default.clone(), rule("a", "1", 0, "b", "d", V), rule("a", "2", 0, "m", "p", L)], &[]).unwrap();
    let range = |s: &str, e: &str| KeyRange::new(s.as_bytes(), e.as_bytes());
    let to = |rules: &[Rule], groups: &[RuleGroup]| changed_ranges(&old, &set(rules, groups).unwrap());
    let (first, second) = (rule("a", "1", 0, "b", "d", V), rule("a", "2", 0, "m", "p", L));
    assert_eq!(to(&[default.clone(), first.clone(), second.clone()], &[]), []);
    assert_eq!(to(&[default.clone(), first.clone()], &[]), [range("m", "p")]);
    assert_eq!(to(&[default.clone(), rule("a", "1", 0, "c", "f", V), second.clone()], &[]), [range("b", "f")]);
    let moved = RuleGroup { id: "a".into(), index: 3, override_: false };
    assert_eq!(to(&[default.clone(), first.clone(), second.clone()], &[moved]), [range("b", "d"), range("m", "p")]);
    let same = RuleGroup { id: "a".into(), index: 0, override_: false };
    assert_eq!(to(&[default, first, second], &[same]), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// C4: a list is accepted exactly when each key has a voter or leader and at most one leader, and a look-up gives what a
    /// walk over all rules gives.
    #[test]
    fn c4_accepted_exactly_when_every_key_is_served(
        drawn in prop::collection::vec((0..3usize, 0..3i64, any::<bool>(), 0..6u8, 0..6u8, 0..3usize), 1..6),
        over in prop::collection::vec(any::<bool>(), 3),
    ) {
        let group_names = ["a", "b", "c"];
        let groups: Vec<RuleGroup> = group_names.iter().zip(&over)
            .map(|(id, o)| RuleGroup { id: (*id).into(), index: 0, override_: *o }).collect();
        let key = |n: u8| if n == 0 { vec![] } else { vec![b'a' + n] };
        let rules: Vec<Rule> = drawn.iter().enumerate()
            .filter(|(_, (_, _, _, s, e, _))| *e == 0 || s < e)
            .map(|(i, (g, index, o, s, e, role))| Rule {
                group_id: group_names[*g].into(), id: i.to_string(), index: *index, override_: *o,
                range: KeyRange::new(key(*s), key(*e)),
                role: [V, L, RuleRole::Leader][*role], count: 1, ..Rule::default()
            }).collect();
        // One key out of each possible stretch.
        let probes: Vec<Vec<u8>> = std::iter::once(vec![]).chain((1..6).map(key)).collect();
        let at = |probe: &[u8]| {
            let mut here: Vec<&Rule> = rules.iter().filter(|r| r.range.contains(probe)).collect();
            here.sort_by_key(|r| (r.group_id.clone(), r.index, r.id.clone()));
            let groups_here: Vec<&str> = here.iter().map(|r| r.group_id.as_str()).collect();
            let kept: Vec<String> = here.iter().enumerate().filter(|(i, r)| {
                let later_override = here[i + 1..].iter().any(|l| l.group_id == r.group_id && l.override_);
                let later_group = groups_here[i + 1..].iter()
                    .any(|g| *g != r.group_id && over[group_names.iter().position(|n| n == g).unwrap()]);
                !later_override && !later_group
            }).map(|(_, r)| format!("{}/{}", r.group_id, r.id)).collect();
            kept
        };
        let served = |probe: &[u8]| {
            let kept = at(probe);
            let of = |role| rules.iter().filter(|r| r.role == role && kept.contains(&format!("{}/{}", r.group_id, r.id))).count();
            of(RuleRole::Leader) <= 1 && of(RuleRole::Leader) + of(V) >= 1
        };
        let built = set(&rules, &groups);
        prop_assert_eq!(built.is_ok(), !rules.is_empty() && probes.iter().all(|p| served(p)));
        if let Ok(built) = built {
            for probe in &probes {
                let mut end = probe.clone();
                end.push(0);
                let range = KeyRange::new(probe.clone(), end);
                let r = Region { meta: Arc::new(RegionMeta { range, ..RegionMeta::default() }), ..Region::default() };
                prop_assert_eq!(names(built.for_region(&r)), at(probe));
            }
        }
    }

    /// A set that was changed step by step is the one from scratch, and a region outside the changed ranges keeps its rules.
    #[test]
    fn c4_a_changed_set_is_one_from_scratch(
        steps in prop::collection::vec(
            (prop::collection::vec((0..3usize, 0..4u8, 0..3i64, any::<bool>(), 0..6u8, 0..6u8, 0..4usize), 0..3),
             prop::option::of((0..3usize, -1..2i64, any::<bool>(), any::<bool>()))), 1..12),
    ) {
        let names_of_groups = ["a", "b", "pd"];
        let key = |n: u8| if n == 0 { vec![] } else { vec![b'a' + n] };
        let mut now = set(&[RuleSet::default_rule(3, &[], "")], &[]).unwrap();
        for (drawn, group) in steps {
            let mut change = RulesChange::default();
            for (group, id, index, over, start, end, role) in drawn {
                let (group, id) = (names_of_groups[group].to_owned(), id.to_string());
                if role == 3 {
                    change.delete_rules.push((group, id));
                } else if end == 0 || start < end {
                    change.rules.push(Arc::new(Rule {
                        group_id: group, id, index, override_: over, range: KeyRange::new(key(start), key(end)),
                        role: [V, L, RuleRole::Leader][role], count: 1, ..Rule::default()
                    }));
                }
            }
            if let Some((group, index, over, goes)) = group {
                let id = names_of_groups[group].to_owned();
                if goes { change.delete_groups.push(id) } else { change.groups.push(RuleGroup { id, index, override_: over }) }
            }
            // What the maps would become.
            let mut rules: BTreeMap<RuleKey, Arc<Rule>> = now.rules.iter().map(|(k, r)| (k.clone(), r.clone())).collect();
            change.delete_rules.iter().for_each(|k| _ = rules.remove(k));
            rules.extend(change.rules.iter().map(|r| ((r.group_id.clone(), r.id.clone()), r.clone())));
            let mut groups: BTreeMap<String, RuleGroup> = now.groups.iter().map(|(k, g)| (k.clone(), g.clone())).collect();
            change.delete_groups.iter().for_each(|id| _ = groups.remove(id));
            groups.extend(change.groups.iter().map(|g| (g.id.clone(), g.clone())));
            let scratch = RuleSet::new(rules.into_values().collect(), groups.into_values().collect());
            match (now.changed(&change), scratch) {
                (Ok((next, touched)), Ok(scratch)) => {
                    prop_assert!(shown(&next).eq(shown(&scratch)));
                    prop_assert_eq!(next.all(), scratch.all());
                    prop_assert_eq!(next.groups(), scratch.groups());
                    let changed = changed_ranges(&now, &next);
                    for (range, _) in shown(&next) {
                        let probe = Region { meta: Arc::new(RegionMeta { range: range.clone(), ..RegionMeta::default() }), ..Region::default() };
                        let other = now.for_region(&probe) != next.for_region(&probe) && !now.for_region(&probe).is_empty();
                        if other {
                            prop_assert!(touched.contains(&range), "{range:?} was not told");
                            prop_assert!(changed.iter().any(|c| c.covers(&range)), "{range:?} not in {changed:?}");
                        }
                    }
                    now = next;
                }
                (Err(a), Err(b)) => prop_assert_eq!(a, b),
                (a, b) => prop_assert!(false, "{:?} but from scratch {:?}", a.map(|_| ()), b.map(|_| ())),
            }
        }
    }
}
