//! Region labels by key.
//!
//! Owns: which label holds for a range now, which rule gives it, and when labels end. Must not know: what labels mean
//! (`schedule=deny` is the checkers' matter), how rules come in, who set them.

use std::{collections::BTreeMap, sync::Arc};

use super::segments::{Edit, Segments};
use crate::model::{Key, KeyRange, PersistentMap, RegionLabel, RegionLabelRule, Wall};

/// A range with more borders inside is not looked through: it is split at them first.
const MOST_PARTS: usize = 1024;

/// All label rules, ready for look-up. A clone costs some pointers.
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    rules: PersistentMap<String, Arc<RegionLabelRule>>,
    /// The rules of each stretch of keys: those of the highest index first, equal ones by id.
    segments: Segments<RegionLabelRule, ()>,
    /// When labels end, with the rules that give them.
    ends: PersistentMap<(Wall, String), ()>,
}

impl LabelIndex {
    /// From the agreed rules.
    pub fn new(rules: Vec<Arc<RegionLabelRule>>) -> Self {
        let named: Vec<_> = rules.into_iter().map(|rule| (rule.id.clone(), Some(rule))).collect();
        Self::default().changed(&named).0
    }

    /// The index after these rules were set (`None`: deleted; of two with one id the later counts), and the ranges in which other
    /// rules hold. Costs what lies in those ranges.
    pub fn changed(&self, rules: &[(String, Option<Arc<RegionLabelRule>>)]) -> (Self, Vec<KeyRange>) {
        let mut next = self.clone();
        let named: BTreeMap<&String, Option<&Arc<RegionLabelRule>>> =
            rules.iter().map(|(id, rule)| (id, rule.as_ref())).collect();
        let mut edit = Edit { removed: Vec::new(), added: Vec::new(), touched: Vec::new() };
        for (id, now) in named {
            if let Some(rule) = self.rules.get(id) {
                edit.removed.extend(rule.ranges.iter().map(|range| (range, rule)));
                ends(rule).for_each(|end| _ = next.ends.remove(&end));
            }
            match now {
                Some(rule) => {
                    edit.added.extend(rule.ranges.iter().map(|range| (range, rule)));
                    ends(rule).for_each(|end| _ = next.ends.insert(end, ()));
                    next.rules.insert(id.clone(), Arc::clone(rule));
                }
                None => _ = next.rules.remove(id),
            }
        }
        let (segments, touched) = self.segments.changed(&edit, |here| {
            here.sort_by(|a, b| b.index.cmp(&a.index).then_with(|| a.id.cmp(&b.id)));
        });
        next.segments = segments;
        (next, touched)
    }

    /// The key ranges of the rules that came, went or changed from here to `new`. What both share is not looked at.
    pub fn changed_ranges(&self, new: &Self) -> Vec<KeyRange> {
        let mut ranges: Vec<KeyRange> = Vec::new();
        self.rules.changes(&new.rules, |_, was, is| {
            ranges.extend(was.into_iter().chain(is).flat_map(|rule| rule.ranges.iter().cloned()));
        });
        KeyRange::joined(ranges)
    }

    /// The value of label `key` for a region of this range (the whole range must be covered), and the rule that gives it. Of
    /// several rules the highest index wins, of equal ones the lowest id. A label that has expired does not hold.
    pub fn value(&self, range: &KeyRange, key: &str, now: Wall) -> Option<(String, Arc<RegionLabelRule>)> {
        let here = self.segments.over(range)?;
        here.items.iter().find_map(|rule| {
            let label = label_of(rule, key, now)?;
            Some((label.value.clone(), Arc::clone(rule)))
        })
    }

    /// Whether label `key` has a value that `is` what is asked for at each key of the range, be it by one rule or by several, also
    /// when borders of rules lie inside: the label that ends first, and the rule that gives it. At each key [`LabelIndex::value`]
    /// says what holds.
    pub fn throughout(
        &self,
        range: &KeyRange,
        key: &str,
        now: Wall,
        is: impl Fn(&str) -> bool,
    ) -> Option<(&RegionLabel, &Arc<RegionLabelRule>)> {
        let mut first: Option<(&RegionLabel, &Arc<RegionLabelRule>)> = None;
        for (place, part) in self.segments.within(range).enumerate() {
            let found = part.items.iter().find_map(|rule| Some((label_of(rule, key, now)?, rule)));
            let found = found.filter(|(label, _)| place < MOST_PARTS && is(&label.value))?;
            // One without an end ends last; of equal ones the first by key is told.
            let ends = |label: &RegionLabel| (label.expires.is_none(), label.expires);
            if first.is_none_or(|(label, _)| ends(found.0) < ends(label)) {
                first = Some(found);
            }
        }
        first
    }

    /// All labels of a region of this range, by name.
    pub fn labels(&self, range: &KeyRange, now: Wall) -> Vec<(String, String)> {
        let Some(here) = self.segments.over(range) else { return Vec::new() };
        let mut labels: Vec<(String, String)> = Vec::new();
        for label in here.items.iter().flat_map(|rule| &rule.labels).filter(|l| holds(l, now)) {
            if labels.iter().all(|(key, _)| *key != label.key) {
                labels.push((label.key.clone(), label.value.clone()));
            }
        }
        labels.sort();
        labels
    }

    /// Where a region of this range would have to be split so that each label holds for the whole of a part or not at all.
    pub fn split_keys(&self, range: &KeyRange) -> Vec<Key> {
        self.segments.cuts(range)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// One rule.
    pub fn get(&self, id: &str) -> Option<&Arc<RegionLabelRule>> {
        self.rules.get(id)
    }

    /// All rules in order of id.
    pub fn all(&self) -> Vec<Arc<RegionLabelRule>> {
        self.rules.values().cloned().collect()
    }

    /// The rules from `id` on, in order of id.
    pub fn from(&self, id: &str) -> impl Iterator<Item = &Arc<RegionLabelRule>> {
        self.rules.from(id).map(|(_, rule)| rule)
    }

    /// The rules with a label that has ended by `now`, each once, in order of id.
    pub fn ended(&self, now: Wall) -> Vec<Arc<RegionLabelRule>> {
        let ids: std::collections::BTreeSet<&String> =
            self.ends.keys().take_while(|(end, _)| *end <= now).map(|(_, id)| id).collect();
        ids.into_iter().filter_map(|id| self.rules.get(id).cloned()).collect()
    }
}

/// The label of this name that a rule gives now.
fn label_of<'a>(rule: &'a RegionLabelRule, key: &str, now: Wall) -> Option<&'a RegionLabel> {
    rule.labels.iter().find(|l| l.key == key && holds(l, now))
}

/// When the labels of a rule end, as keys of [`LabelIndex::ends`].
fn ends(rule: &RegionLabelRule) -> impl Iterator<Item = (Wall, String)> {
    rule.labels.iter().filter_map(|label| Some((label.expires?, rule.id.clone())))
}

/// Whether the label has not expired.
pub fn holds(label: &RegionLabel, now: Wall) -> bool {
    label.expires.is_none_or(|end| now < end)
}

#[cfg(test)]
mod tests;
