//! Operator kinds and priorities.
//!
//! Owns: the bits, their names and which one counts against a limit. Must not know: the limits.

use std::fmt;

/// A set of kinds; the bits are PD's, printed from the lowest up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Kind(pub u32);

impl Kind {
    /// Made by a person.
    pub const ADMIN: Kind = Kind(1);
    /// Affinity.
    pub const AFFINITY: Kind = Kind(2);
    /// Merge.
    pub const MERGE: Kind = Kind(4);
    /// Range.
    pub const RANGE: Kind = Kind(8);
    /// Keeps replicas where rules want them.
    pub const REPLICA: Kind = Kind(16);
    /// Split.
    pub const SPLIT: Kind = Kind(32);
    /// Hot region.
    pub const HOT_REGION: Kind = Kind(64);
    /// Moves peers.
    pub const REGION: Kind = Kind(128);
    /// Moves the leader.
    pub const LEADER: Kind = Kind(256);
    /// Witness leader.
    pub const WITNESS_LEADER: Kind = Kind(512);
    /// Witness.
    pub const WITNESS: Kind = Kind(1024);
    /// Split and scatter.
    pub const SPLIT_SCATTER: Kind = Kind(2048);

    /// Every kind with the name that logs and REST print.
    const NAMES: [(Kind, &'static str); 12] = [
        (Kind::ADMIN, "admin"),
        (Kind::AFFINITY, "affinity"),
        (Kind::MERGE, "merge"),
        (Kind::RANGE, "range"),
        (Kind::REPLICA, "replica"),
        (Kind::SPLIT, "split"),
        (Kind::HOT_REGION, "hot-region"),
        (Kind::REGION, "region"),
        (Kind::LEADER, "leader"),
        (Kind::WITNESS_LEADER, "witness-leader"),
        (Kind::WITNESS, "witness"),
        (Kind::SPLIT_SCATTER, "split-scatter"),
    ];

    /// Whether all of `other` is in the set.
    pub fn has(self, other: Kind) -> bool {
        self.0 & other.0 == other.0
    }

    /// The one kind that an operator counts under: the lowest bit. A repair (`replica,region,leader`) uses up the replica
    /// limit only, a balance move that takes the leader along (`region,leader`) the region limit only.
    #[must_use]
    pub fn counted_as(self) -> Kind {
        Kind(self.0 & self.0.wrapping_neg())
    }
}

impl std::ops::BitOr for Kind {
    type Output = Kind;
    fn bitor(self, other: Kind) -> Kind {
        Kind(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Kind {
    fn bitor_assign(&mut self, other: Kind) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Kind {
    /// The names, with commas between; `unknown` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (kind, name) in Kind::NAMES {
            if self.has(kind) {
                write!(f, "{}{name}", if first { "" } else { "," })?;
                first = false;
            }
        }
        if first { f.write_str("unknown") } else { Ok(()) }
    }
}

/// Who gives way to whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Low.
    Low,
    /// Medium.
    #[default]
    Medium,
    /// High.
    High,
    /// Urgent: bypasses store limits.
    Urgent,
}

impl Priority {
    /// All of them, lowest first.
    pub const ALL: [Priority; 4] = [Priority::Low, Priority::Medium, Priority::High, Priority::Urgent];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_print_from_the_lowest_bit_up() {
        assert_eq!((Kind::LEADER | Kind::REPLICA | Kind::REGION).to_string(), "replica,region,leader");
        assert_eq!((Kind::REGION | Kind::ADMIN).to_string(), "admin,region");
        assert_eq!(Kind::default().to_string(), "unknown");
    }

    #[test]
    fn the_lowest_bit_counts() {
        assert_eq!((Kind::LEADER | Kind::REPLICA | Kind::REGION).counted_as(), Kind::REPLICA);
        assert_eq!((Kind::LEADER | Kind::REGION).counted_as(), Kind::REGION);
        assert_eq!(Kind::default().counted_as(), Kind::default());
    }
}
