//! All placement rules, ready for look-up.
//!
//! Owns: the order of rules, overriding, and the split of the key space into segments within which the same rules apply.
//! Must not know: stores, regions beyond their range.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use super::{RegionFit, RuleError, fit_cache::FitCache, validate};
use crate::{
    config::ReplicationConfig,
    model::{Key, KeyRange, PersistentMap, Region, Rule, RuleGroup, RuleRole, StoreId},
    scheduler::segments::{Edit, Part, Segments},
    store::StoreInfo,
};

/// Group and id of the rule that stands for `replication.*`.
pub const DEFAULT_GROUP: &str = "pd";
/// See [`DEFAULT_GROUP`].
pub const DEFAULT_ID: &str = "default";

/// What names a rule: its group and its id in it.
pub type RuleKey = (String, String);

/// The rules that are left where groups and rules have overridden the ones before them.
type Applied = Arc<[Arc<Rule>]>;

/// A change of rules and groups: deletes first, then puts, all in one.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RulesChange {
    /// Rules to write.
    pub rules: Vec<Arc<Rule>>,
    /// Groups to write.
    pub groups: Vec<RuleGroup>,
    /// Rules to delete; unknown ones are passed over.
    pub delete_rules: Vec<RuleKey>,
    /// Groups to delete; their rules stay.
    pub delete_groups: Vec<String>,
}

/// All rules: who applies where is worked out for the keys that a change touches; a look-up is a search in a tree. A clone costs
/// some pointers, and shares the remembered fits.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: PersistentMap<RuleKey, Arc<Rule>>,
    groups: PersistentMap<String, RuleGroup>,
    segments: Segments<Rule, Applied>,
    fits: Arc<FitCache>,
}

impl RuleSet {
    /// From the agreed rules and groups. Refused with PD's text when a key would be left without a voter or with two leaders.
    pub fn new(rules: Vec<Arc<Rule>>, groups: Vec<RuleGroup>) -> Result<Self, RuleError> {
        Self::default().changed(&RulesChange { rules, groups, ..RulesChange::default() }).map(|(set, _)| set)
    }

    /// The rules after `change`, and the ranges in which other rules apply or the same in another order. Costs what lies in those
    /// ranges. Refused as [`RuleSet::new`] is.
    pub fn changed(&self, change: &RulesChange) -> Result<(Self, Vec<KeyRange>), RuleError> {
        let mut next = self.clone();
        // What each named rule was and becomes; of two puts the later one counts.
        let mut named: BTreeMap<&RuleKey, Option<&Arc<Rule>>> = change.delete_rules.iter().map(|k| (k, None)).collect();
        let put: Vec<(RuleKey, &Arc<Rule>)> =
            change.rules.iter().map(|r| ((r.group_id.clone(), r.id.clone()), r)).collect();
        named.extend(put.iter().map(|(key, rule)| (key, Some(*rule))));
        let mut edit = Edit { removed: Vec::new(), added: Vec::new(), touched: Vec::new() };
        for (key, now) in named {
            if let Some(rule) = self.rules.get(key) {
                edit.removed.push((&rule.range, rule));
            }
            match now {
                Some(rule) => {
                    edit.added.push((&rule.range, rule));
                    next.rules.insert(key.clone(), Arc::clone(rule));
                }
                None => _ = next.rules.remove(key),
            }
        }
        if next.rules.is_empty() {
            return Err(RuleError::BuildList("no rule left".into()));
        }
        let groups = next.change_groups(change);
        edit.touched = groups.iter().flat_map(|g| rules_of(&self.rules, g)).map(|rule| &rule.range).collect();
        let (segments, touched) = self.segments.changed(&edit, |here| {
            here.sort_by(|a, b| order(a, b, &next.groups));
            apply(here, &next.groups)
        });
        check(&segments, &touched)?;
        next.segments = segments;
        Ok((next, touched))
    }

    /// Changes the groups; those whose place or overriding is another one now.
    fn change_groups<'a>(&mut self, change: &'a RulesChange) -> Vec<&'a str> {
        let before = self.groups.clone();
        change.delete_groups.iter().for_each(|id| _ = self.groups.remove(id));
        for group in &change.groups {
            self.groups.insert(group.id.clone(), group.clone());
        }
        let named = change.delete_groups.iter().chain(change.groups.iter().map(|g| &g.id)).map(String::as_str);
        named.filter(|id| group_of(&before, id) != group_of(&self.groups, id)).collect()
    }

    /// PD's default rule (`pd/default`) for these settings.
    pub fn default_rule(max_replicas: u64, location_labels: &[String], isolation_level: &str) -> Rule {
        Rule {
            group_id: DEFAULT_GROUP.into(),
            id: DEFAULT_ID.into(),
            role: RuleRole::Voter,
            count: u32::try_from(max_replicas).unwrap_or(u32::MAX),
            location_labels: location_labels.to_vec(),
            isolation_level: isolation_level.into(),
            ..Rule::default()
        }
    }

    /// The default rule of these settings alone: what holds while placement rules are switched off. (The agreed `pd/default` follows
    /// `max-replicas` and the location labels only while they are on.)
    pub fn of_replicas(settings: &ReplicationConfig) -> Self {
        let rule = Self::default_rule(settings.max_replicas, &settings.location_labels, &settings.isolation_level);
        Self::new(vec![Arc::new(rule)], vec![]).unwrap_or_default()
    }

    /// The rules in force for `region`, in order; none when its range spans several segments (a split is due first).
    pub fn for_region(&self, region: &Region) -> &[Arc<Rule>] {
        self.segments.over(region.range()).map_or(&[], |here| &here.value)
    }

    /// How the region's peers serve its rules, from memory if neither has changed since the last time. `None` without rules.
    pub fn fit(&self, region: &Region, stores: &BTreeMap<StoreId, Arc<StoreInfo>>) -> Option<Arc<RegionFit>> {
        let rules = self.segments.over(region.range()).map(|here| &here.value).filter(|rules| !rules.is_empty())?;
        Some(self.fits.fit(region, rules, stores))
    }

    /// All rules that cover `key`, overridden ones too, in order.
    pub fn by_key(&self, key: &[u8]) -> &[Arc<Rule>] {
        self.segments.at(key).map_or(&[], |here| &here.items)
    }

    /// Where a region of this range would have to be split so that one set of rules holds in each part.
    pub fn split_keys(&self, range: &KeyRange) -> Vec<Key> {
        self.segments.cuts(range)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule at all (before bootstrap).
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All rules in order.
    pub fn all(&self) -> Vec<Arc<Rule>> {
        let mut all: Vec<_> = self.rules.values().cloned().collect();
        all.sort_by(|a, b| order(a, b, &self.groups));
        all
    }

    /// The rules of one group in order.
    pub fn of_group(&self, group: &str) -> Vec<Arc<Rule>> {
        let mut rules: Vec<_> = rules_of(&self.rules, group).cloned().collect();
        rules.sort_by(|a, b| (a.index, &a.id).cmp(&(b.index, &b.id)));
        rules
    }

    /// One rule.
    pub fn get(&self, group: &str, id: &str) -> Option<&Arc<Rule>> {
        self.rules.get(&(group.to_owned(), id.to_owned()))
    }

    /// One group, if it was set or a rule names it.
    pub fn group(&self, id: &str) -> Option<RuleGroup> {
        let named =
            || rules_of(&self.rules, id).next().map(|_| RuleGroup { id: id.to_owned(), ..RuleGroup::default() });
        self.groups.get(id).cloned().or_else(named)
    }

    /// All groups in order: those that were set, and one with PD's defaults for each group that only rules name.
    pub fn groups(&self) -> Vec<RuleGroup> {
        let mut groups: BTreeMap<&str, RuleGroup> =
            self.groups.iter().map(|(id, g)| (id.as_str(), g.clone())).collect();
        for (group, _) in self.rules.keys() {
            groups.entry(group).or_insert_with(|| RuleGroup { id: group.clone(), ..RuleGroup::default() });
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by(|a, b| (a.index, &a.id).cmp(&(b.index, &b.id)));
        groups
    }

    /// The key ranges in which rules of the same set hold, each with what applies there (for shares of stores).
    pub fn segments(&self) -> impl Iterator<Item = (KeyRange, &[Arc<Rule>])> {
        self.segments.iter().map(|(range, here)| (range, &*here.value))
    }

    /// What applies in the segments that begin in `ranges`, as [`RuleSet::changed`] tells them.
    pub fn segments_at<'a>(&'a self, ranges: &'a [KeyRange]) -> impl Iterator<Item = (&'a KeyRange, &'a [Arc<Rule>])> {
        ranges.iter().filter_map(|range| Some((range, &*self.segments.at(&range.start)?.value)))
    }
}

/// The key ranges in which `new` may ask for something else than `old`: those of rules that came, went or changed, and of groups
/// that did. In key order, without overlaps. What both versions share is not looked at.
pub fn changed_ranges(old: &RuleSet, new: &RuleSet) -> Vec<KeyRange> {
    let mut ranges: Vec<&KeyRange> = Vec::new();
    old.rules.changes(&new.rules, |_, was, is| ranges.extend(was.into_iter().chain(is).map(|rule| &rule.range)));
    old.groups.changes(&new.groups, |id, was, is| {
        if was.map_or(UNSET, place) != is.map_or(UNSET, place) {
            let rules = rules_of(&old.rules, id).chain(rules_of(&new.rules, id));
            ranges.extend(rules.map(|rule| &rule.range));
        }
    });
    KeyRange::joined(ranges.into_iter().cloned().collect())
}

/// Index and overriding of a group that was never set.
const UNSET: (i64, bool) = (0, false);

/// The part of a group that rules feel.
fn place(group: &RuleGroup) -> (i64, bool) {
    (group.index, group.override_)
}

/// Index and overriding of a group; PD's defaults for one that was never set.
fn group_of(groups: &PersistentMap<String, RuleGroup>, id: &str) -> (i64, bool) {
    groups.get(id).map_or(UNSET, place)
}

fn rules_of<'a>(rules: &'a PersistentMap<RuleKey, Arc<Rule>>, group: &str) -> impl Iterator<Item = &'a Arc<Rule>> {
    let group = group.to_owned();
    let first = (group.clone(), String::new());
    rules.from(&first).take_while(move |((of, _), _)| *of == group).map(|(_, rule)| rule)
}

/// PD's order: group index, group id, index, id.
fn order(a: &Rule, b: &Rule, groups: &PersistentMap<String, RuleGroup>) -> Ordering {
    let of_group = || group_of(groups, &a.group_id).0.cmp(&group_of(groups, &b.group_id).0);
    let by_group =
        if a.group_id == b.group_id { Ordering::Equal } else { of_group().then(a.group_id.cmp(&b.group_id)) };
    by_group.then_with(|| (a.index, &a.id).cmp(&(b.index, &b.id)))
}

/// What is left of rules in order: an overriding group drops all groups before it, an overriding rule those before it in its
/// group.
fn apply(all: &[Arc<Rule>], groups: &PersistentMap<String, RuleGroup>) -> Applied {
    let mut applied: Vec<Arc<Rule>> = Vec::with_capacity(all.len());
    for in_group in all.chunk_by(|a, b| a.group_id == b.group_id) {
        if group_of(groups, &in_group[0].group_id).1 {
            applied.clear();
        }
        let from = in_group.iter().rposition(|r| r.override_).unwrap_or(0);
        applied.extend_from_slice(&in_group[from..]);
    }
    applied.into()
}

/// Every key needs a voter (or leader) and at most one leader; where nothing changed this held before. PD leaves a gap before the
/// first rule unchecked; here it is refused too, after the others, so that PD's text for what PD refuses stays.
fn check(segments: &Segments<Rule, Applied>, touched: &[KeyRange]) -> Result<(), RuleError> {
    let parts = || touched.iter().filter_map(|range| Some((range, segments.at(&range.start)?)));
    let is_gap = |range: &KeyRange, here: &Part<Rule, Applied>| range.start.is_empty() && here.items.is_empty();
    let (first, last) = (parts().filter(|(r, h)| !is_gap(r, h)), parts().filter(|(r, h)| is_gap(r, h)));
    for (range, here) in first.chain(last) {
        if let Some(what) = validate::wrong_together(&here.value) {
            let text = format!("{what} for range {{{}, {}}}", range.start.hex(), range.end.hex());
            return Err(RuleError::BuildList(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
