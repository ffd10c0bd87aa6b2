//! Rules that no placement of peers could satisfy now.
//!
//! Owns: whether the stores that a rule admits are enough for it, beside the other rules of its keys and at its isolation level, and
//! which store is refused by which filter. Must not know: why a store takes no peer (it is told), regions, who asks.
//!
//! What is named here cannot be met for certain. The reverse does not hold: isolation levels of several rules that share stores are
//! looked at one by one, and a store that is full or busy for the moment counts as able.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use super::{RuleKey, labels};
use crate::{
    model::{KeyRange, LabelConstraint, Rule, StoreId, StoreRecord},
    store::StoreInfo,
};

/// Filters that only a whole placement can tell: PD's names.
const ISOLATION: &str = "isolation-filter";
const EXCLUDED: &str = "exclude-filter";
/// Stores that the text names for each filter.
const STORES_IN_TEXT: usize = 16;
/// Steps of the search for stores that lie apart; when it is longer the rule counts as met.
const MAX_STEPS: usize = 10_000;

/// Why a store takes no peer of a rule with these constraints, as PD names the filter; `None`: it would take one.
pub type Refuse<'a> = dyn Fn(&StoreInfo, &[LabelConstraint]) -> Option<&'static str> + 'a;

/// A rule that cannot be met, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct Unmet {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The first stretch of keys where it is so.
    pub range: KeyRange,
    /// How many peers of it could be placed there.
    pub can: u32,
    /// Filter name to the stores that it refuses.
    pub refused: BTreeMap<&'static str, Vec<StoreId>>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { group_id, id, count, .. } = &*self.rule;
        let peers = if *count == 1 { "peer" } else { "peers" };
        write!(f, "rule {group_id}/{id} asks for {count} {peers}, the stores can take {}", self.can)?;
        for (filter, stores) in &self.refused {
            let named: Vec<String> = stores.iter().take(STORES_IN_TEXT).map(StoreId::to_string).collect();
            write!(f, "; {filter}: store {}", named.join(", "))?;
            if stores.len() > STORES_IN_TEXT {
                write!(f, " and {} more", stores.len() - STORES_IN_TEXT)?;
            }
        }
        Ok(())
    }
}

/// The rules that cannot be met in any of `segments` (ranges with what applies there), each once, in order of group and id.
pub fn unmet<'a>(
    segments: impl Iterator<Item = (&'a KeyRange, &'a [Arc<Rule>])>,
    stores: &BTreeMap<StoreId, Arc<StoreInfo>>,
    refuse: &Refuse<'_>,
) -> Vec<Unmet> {
    let mut look = Look { stores, refuse, able: HashMap::new(), apart: HashMap::new(), shared: HashMap::new() };
    let mut found: BTreeMap<RuleKey, Unmet> = BTreeMap::new();
    for (range, rules) in segments {
        for (at, can, refused) in look.segment(rules) {
            let rule = &rules[at];
            let key = (rule.group_id.clone(), rule.id.clone());
            found.entry(key).or_insert_with(|| Unmet { rule: Arc::clone(rule), range: range.clone(), can, refused });
        }
    }
    found.into_values().collect()
}

/// The stores that one set of constraints admits.
struct Able {
    stores: Vec<Arc<StoreInfo>>,
    refused: BTreeMap<&'static str, Vec<StoreId>>,
}

/// A rule by its place in the segment, what could be placed, and who refuses.
type Lack = (usize, u32, BTreeMap<&'static str, Vec<StoreId>>);

/// What is worked out once for rules that ask for the same: thousands of tables have rules that differ in their keys only.
struct Look<'a> {
    stores: &'a BTreeMap<StoreId, Arc<StoreInfo>>,
    refuse: &'a Refuse<'a>,
    able: HashMap<&'a [LabelConstraint], Arc<Able>>,
    /// How many stores of these constraints lie apart at this level.
    apart: HashMap<(&'a [LabelConstraint], &'a [String], u32), u32>,
    /// How many peers each of these rules gets when they share the stores.
    shared: HashMap<Vec<(&'a [LabelConstraint], u32)>, Vec<u32>>,
}

impl<'a> Look<'a> {
    fn segment(&mut self, rules: &'a [Arc<Rule>]) -> Vec<Lack> {
        let mut lacks = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let able = self.able(&rule.constraints);
            let can = self.alone(rule, &able);
            if can < rule.count {
                let mut refused = able.refused.clone();
                if able.stores.len() > can as usize {
                    refused.insert(ISOLATION, able.stores.iter().map(|s| s.id()).collect());
                }
                lacks.push((at, can, refused));
            }
        }
        if lacks.is_empty() && rules.len() > 1 {
            lacks = self.together(rules);
        }
        lacks
    }

    /// The stores that these constraints admit.
    fn able(&mut self, constraints: &'a [LabelConstraint]) -> Arc<Able> {
        let (stores, refuse) = (self.stores, self.refuse);
        let able = self.able.entry(constraints).or_insert_with(|| {
            let mut able = Able { stores: Vec::new(), refused: BTreeMap::new() };
            for store in stores.values() {
                match refuse(store, constraints) {
                    Some(filter) => able.refused.entry(filter).or_default().push(store.id()),
                    None => able.stores.push(Arc::clone(store)),
                }
            }
            Arc::new(able)
        });
        Arc::clone(able)
    }

    /// How many peers of the rule could be placed if there were no other rule.
    fn alone(&mut self, rule: &'a Rule, able: &Able) -> u32 {
        let count = u32::try_from(able.stores.len()).unwrap_or(u32::MAX).min(rule.count);
        let level = rule.location_labels.iter().position(|l| *l == rule.isolation_level);
        let Some(level) = level.filter(|_| !rule.isolation_level.is_empty()) else { return count };
        let levels = &rule.location_labels[..=level];
        *self.apart.entry((&rule.constraints[..], levels, rule.count)).or_insert_with(|| {
            let records: Vec<&StoreRecord> = able.stores.iter().map(|s| &*s.record).collect();
            most_apart(&records, levels, rule.count as usize).try_into().unwrap_or(u32::MAX)
        })
    }

    /// Rules that could all be met alone: what is left over when they share the stores.
    fn together(&mut self, rules: &'a [Arc<Rule>]) -> Vec<Lack> {
        let asked: Vec<_> = rules.iter().map(|r| (&*r.constraints, r.count)).collect();
        let able: Vec<Arc<Able>> = rules.iter().map(|r| self.able(&r.constraints)).collect();
        let got = self.shared.entry(asked).or_insert_with(|| share(rules, &able)).clone();
        let lacks = rules.iter().zip(&got).zip(&able).enumerate().filter(|(_, ((rule, got), _))| **got < rule.count);
        lacks
            .map(|(at, ((_, got), able))| {
                let mut refused = able.refused.clone();
                refused.insert(EXCLUDED, able.stores.iter().map(|s| s.id()).collect());
                (at, *got, refused)
            })
            .collect()
    }
}

/// Gives each rule as many of its stores as can be, no store twice: earlier rules keep what they got.
fn share(rules: &[Arc<Rule>], able: &[Arc<Able>]) -> Vec<u32> {
    let mut taken: BTreeMap<StoreId, usize> = BTreeMap::new();
    let mut got = vec![0; rules.len()];
    for (at, rule) in rules.iter().enumerate() {
        while got[at] < rule.count && take(at, able, &mut taken, &mut Vec::new()) {
            got[at] += 1;
        }
    }
    got
}

/// Finds one more store for a rule; a store that another rule has may be had if that one finds another.
fn take(at: usize, able: &[Arc<Able>], taken: &mut BTreeMap<StoreId, usize>, seen: &mut Vec<StoreId>) -> bool {
    for store in able[at].stores.iter().map(|s| s.id()) {
        if seen.contains(&store) {
            continue;
        }
        seen.push(store);
        let holder = taken.get(&store).copied();
        // A rule's own store is no gain for it.
        if holder == Some(at) {
            continue;
        }
        if holder.is_none_or(|other| take(other, able, taken, seen)) {
            taken.insert(store, at);
            return true;
        }
    }
    false
}

/// How many of the stores, up to `wanted`, can be chosen so that each two lie apart at these levels.
fn most_apart(stores: &[&StoreRecord], levels: &[String], wanted: usize) -> usize {
    let mut places: Vec<&StoreRecord> = Vec::new();
    for store in stores {
        let is_new = |p: &&StoreRecord| levels.iter().any(|l| !p.label(l).eq_ignore_ascii_case(store.label(l)));
        if places.iter().all(is_new) {
            places.push(store);
        }
    }
    let mut search = Apart { places: &places, levels, wanted, best: 0, steps: 0 };
    search.extend(&mut Vec::new(), 0);
    if search.steps > MAX_STEPS { wanted } else { search.best }
}

struct Apart<'a> {
    places: &'a [&'a StoreRecord],
    levels: &'a [String],
    wanted: usize,
    best: usize,
    steps: usize,
}

impl Apart<'_> {
    fn extend(&mut self, chosen: &mut Vec<usize>, from: usize) {
        self.best = self.best.max(chosen.len());
        for at in from..self.places.len() {
            if self.best >= self.wanted || chosen.len() + self.places.len() - at <= self.best {
                return;
            }
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return;
            }
            let apart = |c: &usize| labels::first_difference(self.places[*c], self.places[at], self.levels).is_some();
            if chosen.iter().all(apart) {
                chosen.push(at);
                self.extend(chosen, at + 1);
                chosen.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests;
