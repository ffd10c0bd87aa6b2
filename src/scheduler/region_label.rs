//! Region labels by key.
//!
//! Owns: which label holds for a range now, and which rule gives it. Must not know: what labels mean (`schedule=deny` is the
//! checkers' matter), how rules come in.

use std::sync::Arc;

use super::segments::Segments;
use crate::model::{KeyRange, RegionLabel, RegionLabelRule, Wall};

/// All label rules, ready for look-up.
#[derive(Debug, Default)]
pub struct LabelIndex {
    /// In order of id.
    rules: Vec<Arc<RegionLabelRule>>,
    /// The rules of each stretch of keys: those of the highest index first, equal ones by id.
    segments: Segments<Vec<Arc<RegionLabelRule>>>,
}

impl LabelIndex {
    /// From the agreed rules.
    pub fn new(mut rules: Vec<Arc<RegionLabelRule>>) -> Self {
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let ranges: Vec<(&Arc<RegionLabelRule>, &KeyRange)> =
            rules.iter().flat_map(|rule| rule.ranges.iter().map(move |range| (rule, range))).collect();
        let segments = Segments::new(ranges.iter().map(|(_, range)| *range), |covering| {
            let mut here: Vec<_> = covering.iter().map(|at| Arc::clone(ranges[*at].0)).collect();
            here.dedup_by(|a, b| Arc::ptr_eq(a, b));
            here.sort_by_key(|rule| std::cmp::Reverse(rule.index));
            here
        });
        Self { rules, segments }
    }

    /// The value of label `key` for a region of this range (the whole range must be covered), and the rule that gives it. Of
    /// several rules the highest index wins, of equal ones the lowest id. A label that has expired does not hold.
    pub fn value(&self, range: &KeyRange, key: &str, now: Wall) -> Option<(String, Arc<RegionLabelRule>)> {
        let here = self.segments.over(range)?;
        here.iter().find_map(|rule| {
            let label = rule.labels.iter().find(|l| l.key == key && holds(l, now))?;
            Some((label.value.clone(), Arc::clone(rule)))
        })
    }

    /// All labels of a region of this range, by name.
    pub fn labels(&self, range: &KeyRange, now: Wall) -> Vec<(String, String)> {
        let Some(here) = self.segments.over(range) else { return Vec::new() };
        let mut labels: Vec<(String, String)> = Vec::new();
        for label in here.iter().flat_map(|rule| &rule.labels).filter(|l| holds(l, now)) {
            if labels.iter().all(|(key, _)| *key != label.key) {
                labels.push((label.key.clone(), label.value.clone()));
            }
        }
        labels.sort();
        labels
    }

    /// Where a region of this range would have to be split so that each label holds for the whole of a part or not at all.
    pub fn split_keys(&self, range: &KeyRange) -> Vec<crate::model::Key> {
        self.segments.cuts(range).cloned().collect()
    }

    /// All rules in order of id.
    pub fn all(&self) -> Vec<Arc<RegionLabelRule>> {
        self.rules.clone()
    }
}

/// Whether the label has not expired.
fn holds(label: &RegionLabel, now: Wall) -> bool {
    label.expires.is_none_or(|end| now < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, index: i64, value: &str, expires: Option<i64>, ranges: &[(&str, &str)]) -> Arc<RegionLabelRule> {
        let label = RegionLabel {
            key: "schedule".into(),
            value: value.into(),
            expires: expires.map(Wall),
            ..RegionLabel::default()
        };
        let ranges = ranges.iter().map(|(s, e)| KeyRange::new(s.as_bytes(), e.as_bytes())).collect();
        Arc::new(RegionLabelRule { id: id.into(), index, labels: vec![label], ranges })
    }

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange::new(start.as_bytes(), end.as_bytes())
    }

    #[test]
    fn the_highest_index_wins_until_it_expires() {
        let index = LabelIndex::new(vec![
            rule("low", 1, "allow", None, &[("", "")]),
            rule("high", 5, "deny", Some(100), &[("b", "d"), ("x", "y")]),
        ]);
        let value = |r: &KeyRange, now| index.value(r, "schedule", Wall(now)).map(|(v, rule)| (v, rule.id.clone()));
        assert_eq!(value(&range("b", "c"), 99), Some(("deny".into(), "high".into())));
        assert_eq!(value(&range("x", "y"), 99), Some(("deny".into(), "high".into())));
        assert_eq!(value(&range("b", "c"), 100), Some(("allow".into(), "low".into())));
        assert_eq!(value(&range("a", "b"), 0), Some(("allow".into(), "low".into())));
        assert_eq!(value(&range("a", "c"), 0), None, "a label holds only for ranges that it covers whole");
        assert_eq!(index.value(&range("a", "b"), "other", Wall(0)).map(|(v, _)| v), None);
        assert_eq!(index.labels(&range("b", "c"), Wall(0)), [("schedule".to_owned(), "deny".to_owned())]);
    }

    #[test]
    fn of_equal_indexes_the_lowest_id_wins_and_no_rules_give_no_labels() {
        let index = LabelIndex::new(vec![rule("b", 0, "2", None, &[("", "")]), rule("a", 0, "1", None, &[("", "")])]);
        assert_eq!(index.value(&KeyRange::all(), "schedule", Wall(0)).map(|(v, _)| v), Some("1".into()));
        assert_eq!(index.all().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let none = LabelIndex::default();
        assert!(
            none.value(&KeyRange::all(), "schedule", Wall(0)).is_none()
                && none.labels(&KeyRange::all(), Wall(0)).is_empty()
        );
    }
}
