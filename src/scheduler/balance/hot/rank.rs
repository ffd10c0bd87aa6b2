//! What a move is worth: PD's two formulas over two dimensions.
//!
//! Owns: the formulas (`rank-formula-version`; PD's `hot_region_rank_v1.go` and `hot_region_rank_v2.go` are where the numbers come
//! from). Must not know: which stores and regions there are.
//!
//! Both look at two stores before and after. The first asks whether the taking store stays clearly below the giving one
//! (`great-dec-ratio`, `minor-dec-ratio`). The second tells balanced from nearly balanced and unbalanced pairs, and a move is good
//! when it brings the pair nearer to balance, best when it gets there.

use super::super::config::Hot;

/// One dimension of a pair of stores and of what would move.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Pair {
    /// What the giving store bears, at least.
    pub(super) from: f64,
    /// What the taking store bears, at most.
    pub(super) to: f64,
    /// What is under way from or to the two.
    pub(super) under_way: (f64, f64),
    /// What would move.
    pub(super) moved: f64,
    /// Less than this is nothing.
    pub(super) least: f64,
    /// What the tenth busiest peer of the busier store has; a move of less is a small one.
    pub(super) tenth: f64,
}

/// How good a move is: 4 (both dimensions gain), 3 (the first gains, the second does not lose), then 2 and 1: one gains, in which
/// order depends on the formula. `first` tells whether it is for the first dimension's sake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    pub(super) rank: u8,
    /// How good in the dimension that counts: 3 best.
    pub(super) score: i8,
    pub(super) first: bool,
}

/// The rank of a move; `None` when it is worth nothing. `only_first`: the second dimension does not count.
pub(super) fn rank(config: &Hot, [first, second]: [Pair; 2], only_first: bool) -> Option<Rank> {
    if first.moved < first.least && second.moved < second.least {
        return None;
    }
    let (a, b) = if config.is_v2() {
        let ratios = Ratios::first(config.great_dec_ratio);
        (ratios.score(first), ratios.second().score(second))
    } else {
        (dec_score(config, first), dec_score(config, second))
    };
    let (rank, is_first) = match (a.signum(), b.signum()) {
        (1, _) if only_first => (3, true),
        (1, 1) => (4, true),
        (1, 0) => (3, true),
        (1, _) => (if config.is_v2() { 2 } else { 1 }, true),
        (0, 1) if !only_first => (if config.is_v2() { 1 } else { 2 }, false),
        _ => return None,
    };
    Some(Rank { rank, score: if is_first { a } else { b }, first: is_first })
}

/// The first formula: 1 better, 0 not worse, -1 worse.
fn dec_score(config: &Hot, pair: Pair) -> i8 {
    let ratio = (pair.to + pair.moved) / (pair.from - pair.moved).max(1.0);
    match pair.moved >= pair.least {
        true if ratio <= config.great_dec_ratio && is_tolerable(pair) => 1,
        false => 0,
        true if ratio <= config.minor_dec_ratio => 0,
        true => -1,
    }
}

/// How much more than itself counts what is under way, the nearer the two stores are (PD's number).
const UNDER_WAY: f64 = 2.0;

/// Whether the busier store stays so even if all that is under way counts some times over.
fn is_tolerable(pair: Pair) -> bool {
    let (high, low) = (pair.from.max(pair.to), pair.from.min(pair.to));
    if high <= low {
        return false;
    }
    let times = 1.0 + UNDER_WAY * high / (high - low);
    let (from, to) = pair.under_way;
    high - times * from.abs().max(to.abs()) > low || (from == 0.0 && to == 0.0)
}

/// Bounds of the second formula for one dimension.
#[derive(Clone, Copy, Debug)]
struct Ratios {
    /// A pair at this ratio or above is balanced after a move.
    balanced: f64,
    /// The same, nearly.
    nearly: f64,
    /// How much of the way to balance a move must at least go, and how far beyond it may.
    perceived: f64,
    /// What a move must have of what the less busy store bears.
    hot: f64,
}

/// How much less than after a move is asked for before it (PD's numbers).
const EASED: f64 = 0.02;
/// The same for nearly balanced.
const EASED_NEARLY: f64 = 0.03;

impl Ratios {
    /// Of the first dimension.
    fn first(balanced: f64) -> Self {
        let balanced = balanced.clamp(0.7, 0.95);
        Self { balanced, nearly: (2.0 * balanced - 1.0).max(balanced - 0.1), perceived: 0.2, hot: 0.02 }
    }

    /// Of the second one: nearly balanced is enough.
    fn second(self) -> Self {
        Self { perceived: 0.3, hot: 0.03, ..Self::first(self.nearly) }
    }

    /// 1 to 3: better (3 gets to balance, 2 stays before it, 1 goes beyond it); 0: not worse; below: worse.
    fn score(self, pair: Pair) -> i8 {
        let reversed = pair.from < pair.to;
        let (high, low) = (pair.from.max(pair.to), pair.from.min(pair.to));
        let moved = if reversed { -pair.moved } else { pair.moved };
        // What must move for the pair to stand at `ratio`, with the busier store still so, and with the two swapped.
        let until = |ratio: f64| (high * ratio - low) / (1.0 + ratio);
        let beyond = |ratio: f64| (high - low * ratio) / (1.0 + ratio);
        let within = |least: f64, most: f64| (least..=most).contains(&moved);
        if high * (self.balanced - EASED) <= low {
            let not_worse = within(until(self.balanced).min(-pair.least), beyond(self.balanced));
            return if not_worse { 0 } else { -2 };
        }
        let (balanced, too_much) = (until(self.balanced), beyond(self.balanced));
        let nearly = high * (self.nearly - EASED_NEARLY) <= low;
        let (good, not_worse, waits) = if nearly {
            let not_worse = (until(self.nearly).min(-pair.least), beyond(self.nearly));
            ((balanced, too_much), not_worse, pair.under_way.0.abs() + pair.under_way.1.abs() >= 1.0)
        } else {
            let least = (balanced * self.perceived).min(low * self.hot).min(pair.tenth);
            let further = |from: f64| too_much + self.perceived * (high - low - too_much - from);
            ((least, further(least)), (-pair.least, further(0.0)), false)
        };
        if within(good.0, good.1) {
            return match moved {
                _ if moved < pair.least || waits || !is_tolerable(pair) => 0,
                _ if moved < balanced => 2,
                _ if moved > too_much => 1,
                _ => 3,
            };
        }
        match moved {
            _ if within(not_worse.0, good.0) => 0,
            _ if within(good.1, not_worse.1) => -1,
            _ => -2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(from: f64, to: f64, moved: f64) -> Pair {
        Pair { from, to, moved, least: 1.0, tenth: f64::MAX, under_way: (0.0, 0.0) }
    }

    /// The examples that PD's comments work out.
    #[test]
    fn the_second_formula_has_pds_bounds() {
        let score = |from, to, moved| Ratios::first(0.95).score(pair(from, to, moved));
        // 94 and 101 are balanced: moves of 1 to 6 keep them so.
        assert_eq!([0.5, 1.0, 5.9, 6.1].map(|moved| score(101.0, 94.0, moved)), [0, 0, 0, -2]);
        // 93 and 102 are nearly balanced: 2 to 7 balances them, up to 9 keeps them nearly so.
        assert_eq!([1.5, 2.5, 6.5, 9.0, 10.1].map(|moved| score(102.0, 93.0, moved)), [0, 3, 3, -1, -2]);
        // 75 and 120 are not: 20 to 25 balances them.
        assert_eq!([1.2, 3.0, 19.0, 21.0, 24.9, 27.0, 28.9].map(|m| score(120.0, 75.0, m)), [0, 2, 2, 3, 3, 1, -1]);
        // From the less busy store: worse, but for next to nothing.
        assert_eq!([0.5, 5.0].map(|moved| score(75.0, 120.0, moved)), [0, -2]);
        let waits = Pair { under_way: (0.0, 5.0), ..pair(102.0, 93.0, 4.0) };
        assert_eq!(Ratios::first(0.95).score(waits), 0, "nearly there, and something is under way");
    }

    #[test]
    fn ranks_are_those_of_the_tables() {
        let (good, none, bad) = (pair(100.0, 10.0, 40.0), pair(100.0, 99.0, 0.0), pair(10.0, 100.0, 40.0));
        let of = |version: &str, pairs, only| {
            let config = Hot { rank_formula_version: version.to_owned(), ..Hot::default() };
            rank(&config, pairs, only).map_or(0, |r| r.rank)
        };
        for (version, one, other) in [("v1", 1, 2), ("v2", 2, 1)] {
            assert_eq!(of(version, [good, good], false), 4);
            assert_eq!(of(version, [good, none], false), 3);
            assert_eq!(of(version, [good, bad], false), one);
            assert_eq!(of(version, [none, good], false), other);
            assert_eq!(of(version, [bad, good], false), 0);
            assert_eq!(of(version, [none, none], false), 0);
            assert_eq!(of(version, [good, bad], true), 3, "only the first counts");
            assert_eq!(of(version, [none, good], true), 0);
        }
    }

    #[test]
    fn what_is_under_way_counts_more_between_near_stores() {
        let config = Hot { rank_formula_version: "v1".to_owned(), ..Hot::default() };
        assert_eq!(dec_score(&config, Pair { under_way: (-5.0, 5.0), ..pair(100.0, 10.0, 20.0) }), 1);
        assert_eq!(dec_score(&config, Pair { under_way: (-5.0, 5.0), ..pair(100.0, 80.0, 5.0) }), 0);
        assert_eq!(dec_score(&config, pair(100.0, 80.0, 5.0)), 1);
    }
}
