//! When labels end that hold sleeping regions.
//!
//! Owns: the first end of each rule, and its bound. Must not know: who sleeps.

use std::collections::BTreeMap;

use crate::model::Wall;

/// Rules that are known by themselves. The end of any other wakes all that wait for the end of a label.
const MOST_RULES: usize = 1024;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    rules: BTreeMap<String, Wall>,
    others: Option<Wall>,
    /// The first of all.
    next: Option<Wall>,
}

/// What has ended.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Labels of these rules, if any.
    Rules(Vec<String>),
    /// It may be any.
    Any,
}

impl Expiries {
    /// A label of `rule` ends then, or of any rule when none is named.
    pub(super) fn note(&mut self, rule: Option<&str>, end: Wall) {
        let first = |known: Option<Wall>| known.map_or(end, |first| first.min(end));
        self.next = Some(first(self.next));
        match rule {
            // A label that was made to last longer is noted again when its regions are looked at.
            Some(rule) if self.rules.contains_key(rule) || self.rules.len() < MOST_RULES => {
                let known = self.rules.get(rule).copied();
                self.rules.insert(rule.to_owned(), first(known));
            }
            _ => self.others = Some(first(self.others)),
        }
    }

    /// What has ended by now; it is forgotten.
    pub(super) fn ended(&mut self, now: Wall) -> Ended {
        if self.next.is_none_or(|end| now < end) {
            return Ended::Rules(Vec::new());
        }
        let others = self.others.take_if(|end| *end <= now).is_some();
        let over = self.rules.iter().filter(|(_, end)| **end <= now).map(|(rule, _)| rule.clone()).collect();
        self.rules.retain(|_, end| *end > now);
        self.next = self.rules.values().copied().chain(self.others).min();
        if others { Ended::Any } else { Ended::Rules(over) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_ends_by_itself_and_only_once() {
        let mut expiries = Expiries::default();
        for (rule, end) in [("a", 5), ("b", 3), ("a", 4), ("c", 9), ("a", 8)] {
            expiries.note(Some(rule), Wall(end));
        }
        let rules = |names: &[&str]| Ended::Rules(names.iter().map(ToString::to_string).collect());
        assert_eq!(expiries.ended(Wall(2)), rules(&[]));
        assert_eq!(expiries.ended(Wall(4)), rules(&["a", "b"]));
        assert_eq!(expiries.ended(Wall(8)), rules(&[]));
        expiries.note(None, Wall(10));
        assert_eq!(expiries.ended(Wall(9)), rules(&["c"]));
        assert_eq!((expiries.ended(Wall(10)), expiries.ended(Wall(11)), expiries.next), (Ended::Any, rules(&[]), None));
    }

    #[test]
    fn more_rules_than_are_known_end_together() {
        let mut expiries = Expiries::default();
        (0..=MOST_RULES).for_each(|n| expiries.note(Some(&n.to_string()), Wall(100 + n as i64)));
        assert_eq!((expiries.rules.len(), expiries.others), (MOST_RULES, Some(Wall(100 + MOST_RULES as i64))));
        assert_eq!(expiries.ended(Wall(100)), Ended::Rules(vec!["0".to_owned()]));
        assert_eq!(expiries.ended(Wall(5000)), Ended::Any);
        assert!(expiries.rules.is_empty());
    }
}
