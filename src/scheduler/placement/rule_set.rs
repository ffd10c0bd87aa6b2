//! All placement rules, ready for look-up.
//!
//! Owns: the order of rules, overriding, and the split of the key space into segments within which the same rules apply.
//! Must not know: stores, regions beyond their range.

use std::{cmp::Ordering, sync::Arc};

use super::{RuleError, validate};
use crate::{
    model::{Key, KeyRange, Region, Rule, RuleGroup, RuleRole},
    scheduler::segments::Segments,
};

/// Group and id of the rule that stands for `replication.*`.
pub const DEFAULT_GROUP: &str = "pd";
/// See [`DEFAULT_GROUP`].
pub const DEFAULT_ID: &str = "default";

/// The rules of a stretch of keys.
#[derive(Debug)]
struct Here {
    /// All rules that cover it, in order.
    all: Arc<[Arc<Rule>]>,
    /// Those that are left when groups and rules have overridden the ones before them.
    applied: Arc<[Arc<Rule>]>,
}

/// All rules: who applies where is worked out once when a rule changes; a look-up is a binary search.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    groups: Vec<RuleGroup>,
    segments: Segments<Here>,
}

impl RuleSet {
    /// From the agreed rules and groups. Refused with PD's text when a key would be left without a voter or with two leaders.
    pub fn new(mut rules: Vec<Arc<Rule>>, mut groups: Vec<RuleGroup>) -> Result<Self, RuleError> {
        if rules.is_empty() {
            return Err(RuleError::BuildList("no rule left".into()));
        }
        groups.sort_by(|a, b| (a.index, &a.id).cmp(&(b.index, &b.id)));
        rules.sort_by(|a, b| order(a, b, &groups));
        let segments = Segments::new(rules.iter().map(|r| &r.range), |covering| {
            let all: Arc<[Arc<Rule>]> = covering.iter().map(|at| Arc::clone(&rules[*at])).collect();
            Here { applied: apply(&all, &groups), all }
        });
        check(&segments)?;
        Ok(Self { rules, groups, segments })
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

    /// The rules in force for `region`, in order; none when its range spans several segments (a split is due first).
    pub fn for_region(&self, region: &Region) -> &[Arc<Rule>] {
        self.segments.over(region.range()).map_or(&[], |here| &here.applied)
    }

    /// All rules that cover `key`, overridden ones too, in order.
    pub fn by_key(&self, key: &[u8]) -> &[Arc<Rule>] {
        self.segments.at(key).map_or(&[], |here| &here.all)
    }

    /// Where a region of this range would have to be split so that one set of rules holds in each part.
    pub fn split_keys(&self, range: &KeyRange) -> Vec<Key> {
        self.segments.cuts(range).cloned().collect()
    }

    /// All rules in order.
    pub fn all(&self) -> Vec<Arc<Rule>> {
        self.rules.clone()
    }

    /// One rule.
    pub fn get(&self, group: &str, id: &str) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|r| r.group_id == group && r.id == id)
    }

    /// All groups in order: those that were set, and one with PD's defaults for each group that only rules name.
    pub fn groups(&self) -> Vec<RuleGroup> {
        let mut groups = self.groups.clone();
        for rule in &self.rules {
            if !groups.iter().any(|g| g.id == rule.group_id) {
                groups.push(RuleGroup { id: rule.group_id.clone(), ..RuleGroup::default() });
            }
        }
        groups.sort_by(|a, b| (a.index, &a.id).cmp(&(b.index, &b.id)));
        groups
    }

    /// The key ranges in which rules of the same set hold, each with what applies there (for shares of stores).
    pub fn segments(&self) -> impl Iterator<Item = (KeyRange, &[Arc<Rule>])> {
        self.segments.iter().map(|(range, here)| (range, &*here.applied))
    }
}

/// PD's order: group index, group id, index, id.
fn order(a: &Rule, b: &Rule, groups: &[RuleGroup]) -> Ordering {
    let group_index = |rule: &Rule| groups.iter().find(|g| g.id == rule.group_id).map_or(0, |g| g.index);
    (group_index(a), &a.group_id, a.index, &a.id).cmp(&(group_index(b), &b.group_id, b.index, &b.id))
}

/// What is left of rules in order: an overriding group drops all groups before it, an overriding rule those before it in its
/// group.
fn apply(all: &[Arc<Rule>], groups: &[RuleGroup]) -> Arc<[Arc<Rule>]> {
    let mut applied: Vec<Arc<Rule>> = Vec::with_capacity(all.len());
    for in_group in all.chunk_by(|a, b| a.group_id == b.group_id) {
        if groups.iter().any(|g| g.override_ && g.id == in_group[0].group_id) {
            applied.clear();
        }
        let from = in_group.iter().rposition(|r| r.override_).unwrap_or(0);
        applied.extend_from_slice(&in_group[from..]);
    }
    applied.into()
}

/// Every key needs a voter (or leader) and at most one leader. PD leaves a gap before the first rule unchecked; here it is
/// refused too, after the others, so that PD's text for what PD refuses stays.
fn check(segments: &Segments<Here>) -> Result<(), RuleError> {
    let is_gap = |range: &KeyRange, here: &Here| range.start.is_empty() && here.all.is_empty();
    let first = segments.iter().filter(|(range, here)| !is_gap(range, here));
    let last = segments.iter().filter(|(range, here)| is_gap(range, here));
    for (range, here) in first.chain(last) {
        if let Some(what) = validate::wrong_together(&here.applied) {
            let text = format!("{what} for range {{{}, {}}}", range.start.hex(), range.end.hex());
            return Err(RuleError::BuildList(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
