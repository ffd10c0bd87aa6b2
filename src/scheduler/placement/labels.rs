//! Store labels against the conditions of rules, and how far apart stores are.
//!
//! Owns: constraint matching, exclusive labels, the isolation score. Must not know: regions, rules as a set, store states.

use crate::model::{LabelConstraint, LabelOp, StoreRecord};

/// What one label level is worth against the next finer one: a difference at the zone level outweighs up to a hundred
/// differences at the host level (PD's base).
const LEVEL_BASE: f64 = 100.0;

/// Labels that were exclusive before the `$` prefix came up.
const EXCLUSIVE: [&str; 2] = ["engine", "exclusive"];

/// Whether stores with this label take peers only of rules that name it.
pub fn is_exclusive(key: &str) -> bool {
    key.starts_with('$') || EXCLUSIVE.contains(&key)
}

/// Whether the store satisfies one condition. Values compare by byte, names without regard to case (as PD).
fn satisfies(store: &StoreRecord, constraint: &LabelConstraint) -> bool {
    let value = store.label(&constraint.key);
    let listed = || constraint.values.iter().any(|v| v == value);
    match constraint.op {
        LabelOp::In => !value.is_empty() && listed(),
        LabelOp::NotIn => value.is_empty() || !listed(),
        LabelOp::Exists => !value.is_empty(),
        LabelOp::NotExists => value.is_empty(),
    }
}

/// Whether a rule with these constraints may place a peer on the store: all conditions hold, and each exclusive label of the
/// store (`$…`, `engine`, `exclusive`) is named by one of them.
pub fn matches(store: &StoreRecord, constraints: &[LabelConstraint]) -> bool {
    let unnamed = |key: &str| constraints.iter().all(|c| c.key != key);
    if store.labels.iter().any(|l| is_exclusive(&l.key) && unnamed(&l.key)) {
        return false;
    }
    constraints.iter().all(|c| satisfies(store, c))
}

/// The first level (widest first) at which two stores lie apart; `None` when they are at the same place. A missing label
/// counts as "the same place", since nothing says otherwise.
pub fn first_difference(a: &StoreRecord, b: &StoreRecord, levels: &[String]) -> Option<usize> {
    levels.iter().position(|level| {
        let (va, vb) = (a.label(level), b.label(level));
        !va.is_empty() && !vb.is_empty() && !va.eq_ignore_ascii_case(vb)
    })
}

/// What it is worth that two stores lie apart; 0 when they do not.
pub fn distance(a: &StoreRecord, b: &StoreRecord, levels: &[String]) -> f64 {
    match first_difference(a, b, levels) {
        Some(at) => LEVEL_BASE.powi(i32::try_from(levels.len() - at - 1).unwrap_or(i32::MAX)),
        None => 0.0,
    }
}

/// The sum of the distances of every pair of stores.
pub fn isolation_score<'a>(stores: impl Iterator<Item = &'a StoreRecord> + Clone, levels: &[String]) -> f64 {
    if levels.is_empty() {
        return 0.0;
    }
    let mut score = 0.0;
    let mut rest = stores;
    while let Some(a) = rest.next() {
        score += distinct_score(rest.clone(), a, levels);
    }
    score
}

/// How far `store` lies from each of `others`, summed; itself among them does not count.
pub fn distinct_score<'a>(
    others: impl Iterator<Item = &'a StoreRecord>,
    store: &StoreRecord,
    levels: &[String],
) -> f64 {
    others.filter(|o| o.id != store.id).map(|o| distance(o, store, levels)).sum()
}

/// Whether `store` may join `others` at this isolation level: it must lie apart from each of them at that level or a wider one.
/// An empty level, or one that is not among the labels, forbids nothing.
pub fn isolated_at<'a>(
    mut others: impl Iterator<Item = &'a StoreRecord>,
    store: &StoreRecord,
    levels: &[String],
    isolation_level: &str,
) -> bool {
    if isolation_level.is_empty() {
        return true;
    }
    let Some(level) = levels.iter().position(|l| l == isolation_level) else {
        return true;
    };
    others.all(|o| o.id == store.id || first_difference(o, store, &levels[..=level]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{StoreId, StoreLabel};

    fn store(id: u64, labels: &[(&str, &str)]) -> StoreRecord {
        let labels = labels.iter().map(|(k, v)| StoreLabel { key: (*k).into(), value: (*v).into() }).collect();
        StoreRecord { id: StoreId(id), labels, ..StoreRecord::default() }
    }

    fn constraint(key: &str, op: LabelOp, values: &[&str]) -> LabelConstraint {
        LabelConstraint { key: key.into(), op, values: values.iter().map(|v| (*v).into()).collect() }
    }

    #[test]
    fn conditions_compare_as_pd_compares() {
        let s = store(1, &[("Zone", "z1"), ("disk", "ssd")]);
        for (c, holds) in [
            (constraint("zone", LabelOp::In, &["z1", "z2"]), true),
            (constraint("zone", LabelOp::In, &["Z1"]), false),
            (constraint("rack", LabelOp::In, &["r1"]), false),
            (constraint("zone", LabelOp::NotIn, &["z1"]), false),
            (constraint("rack", LabelOp::NotIn, &["r1"]), true),
            (constraint("disk", LabelOp::Exists, &[]), true),
            (constraint("rack", LabelOp::Exists, &[]), false),
            (constraint("rack", LabelOp::NotExists, &[]), true),
        ] {
            assert_eq!(matches(&s, std::slice::from_ref(&c)), holds, "{c:?}");
        }
    }

    #[test]
    fn exclusive_labels_must_be_named() {
        let tiflash = constraint("engine", LabelOp::In, &["tiflash"]);
        let flash = store(1, &[("engine", "tiflash")]);
        assert!(!matches(&flash, &[]) && matches(&flash, std::slice::from_ref(&tiflash)));
        let own = store(2, &[("$mode", "import")]);
        assert!(!matches(&own, &[]));
        assert!(matches(&own, &[constraint("$mode", LabelOp::Exists, &[])]));
        assert!(!matches(&store(3, &[("exclusive", "x")]), &[tiflash]));
    }

    #[test]
    fn the_widest_difference_counts() {
        let levels = ["zone".to_owned(), "host".to_owned()];
        let (a, b) = (store(1, &[("zone", "z1"), ("host", "h1")]), store(2, &[("zone", "z1"), ("host", "h2")]));
        let c = store(3, &[("zone", "z2"), ("host", "h1")]);
        let bare = store(4, &[("host", "h9")]);
        assert_eq!(distance(&a, &b, &levels), 1.0);
        assert_eq!(distance(&a, &c, &levels), 100.0);
        assert_eq!(distance(&c, &bare, &levels), 1.0, "a missing zone is no difference");
        assert_eq!(isolation_score([&a, &b, &c].into_iter(), &levels), 201.0);
        assert_eq!(isolation_score([&a, &b].into_iter(), &[]), 0.0);
    }

    #[test]
    fn an_isolation_level_asks_for_a_difference_at_that_level_or_wider() {
        let levels = ["zone".to_owned(), "host".to_owned()];
        let a = store(1, &[("zone", "z1"), ("host", "h1")]);
        let same_zone = store(2, &[("zone", "z1"), ("host", "h2")]);
        let other_zone = store(3, &[("zone", "z2"), ("host", "h1")]);
        assert!(isolated_at([&a].into_iter(), &same_zone, &levels, "host"));
        assert!(!isolated_at([&a].into_iter(), &same_zone, &levels, "zone"));
        assert!(isolated_at([&a].into_iter(), &other_zone, &levels, "zone"));
        assert!(isolated_at([&a].into_iter(), &other_zone, &levels, "host"), "apart by zone is apart by host");
        assert!(isolated_at([&a].into_iter(), &same_zone, &levels, ""));
    }
}
