//! Which checkers a person has paused, and for how long.
//!
//! Owns: the checkers' names and the ends of their pauses. Must not know: what a checker does. Kept in memory only, as in PD: a new
//! leader starts with all of them running.

use std::time::Duration;

use crate::model::{Mono, Now};

/// What can be paused by name (`POST /checker/{name}`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CheckerName {
    /// Promotes learners when placement rules are off.
    Learner,
    /// Counts replicas when placement rules are off.
    Replica,
    /// Keeps placement rules.
    Rule,
    /// Splits at the borders of rules and labels.
    Split,
    /// Merges small regions.
    Merge,
    /// Leaves joint states.
    JointState,
    /// Keeps affinity groups together; the name is known although Berth has no such groups yet.
    Affinity,
}

impl CheckerName {
    /// All of them.
    pub const ALL: [CheckerName; 7] = [
        CheckerName::Learner,
        CheckerName::Replica,
        CheckerName::Rule,
        CheckerName::Split,
        CheckerName::Merge,
        CheckerName::JointState,
        CheckerName::Affinity,
    ];

    /// PD's name for it.
    pub fn name(self) -> &'static str {
        match self {
            CheckerName::Learner => "learner",
            CheckerName::Replica => "replica",
            CheckerName::Rule => "rule",
            CheckerName::Split => "split",
            CheckerName::Merge => "merge",
            CheckerName::JointState => "joint-state",
            CheckerName::Affinity => "affinity",
        }
    }

    /// The checker of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|checker| checker.name() == name)
    }
}

/// Until when each checker is paused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pauses {
    until: [Option<Mono>; CheckerName::ALL.len()],
}

impl Pauses {
    /// Pauses a checker from now on for this long, whatever pause it had; zero lets it run again.
    pub fn pause(&mut self, checker: CheckerName, length: Duration, now: Now) {
        self.until[checker as usize] = (!length.is_zero()).then(|| now.mono.plus(length));
    }

    /// Whether a checker is paused.
    pub fn is_paused(&self, checker: CheckerName, now: Now) -> bool {
        self.until[checker as usize].is_some_and(|end| now.mono < end)
    }

    /// Forgets pauses that are over; true when there were any, so that what waited for them can be woken.
    pub fn end_over(&mut self, now: Now) -> bool {
        let mut ended = false;
        for until in &mut self.until {
            if until.is_some_and(|end| end <= now.mono) {
                *until = None;
                ended = true;
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_by_itself_or_by_a_pause_of_nothing() {
        let at = |s| Now::default().plus(Duration::from_secs(s));
        let mut pauses = Pauses::default();
        pauses.pause(CheckerName::Merge, Duration::from_secs(10), at(100));
        assert!(pauses.is_paused(CheckerName::Merge, at(109)) && !pauses.is_paused(CheckerName::Rule, at(109)));
        assert!(!pauses.end_over(at(109)));
        assert!(
            !pauses.is_paused(CheckerName::Merge, at(110)) && pauses.end_over(at(110)) && !pauses.end_over(at(110))
        );
        pauses.pause(CheckerName::Rule, Duration::from_secs(10), at(200));
        pauses.pause(CheckerName::Rule, Duration::ZERO, at(201));
        assert!(!pauses.is_paused(CheckerName::Rule, at(201)));
    }

    #[test]
    fn names_are_pds() {
        for checker in CheckerName::ALL {
            assert_eq!(CheckerName::named(checker.name()), Some(checker));
        }
        assert_eq!(CheckerName::named("foo"), None);
    }
}
