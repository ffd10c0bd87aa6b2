//! What must hold, whatever happens: asked at each moment that matters and after every step.
//!
//! Owns: the list of checks and how they are asked. Each check has a name, a sentence, a memory of its own, and does not use the
//! code that it checks. Must not know: scenarios. A check that finds nothing for a whole run proves little: its count says how
//! often it had something to look at.

mod commands;
mod limits;
mod operators;
mod regions;
mod rules;
mod stores;

pub(super) use rules::meets;

use std::{collections::BTreeMap, fmt, time::Duration};

use super::control::Control;
use crate::{
    meta::{Change, State},
    model::{Now, Region, StoreId, names::desc},
    scheduler::{
        effect::Command,
        operator::{Kind, Operator},
    },
    sim::Fleet,
};

/// Something that happened.
#[derive(Debug)]
pub enum Moment<'a> {
    /// An operator started; its region as it was known.
    Added {
        /// The operator.
        op: &'a Operator,
        /// The region.
        region: Option<&'a Region>,
    },
    /// An operator ended.
    Ended {
        /// The operator.
        op: &'a Operator,
    },
    /// A command left for a node; its region as it was known.
    Sent {
        /// The command.
        command: &'a Command,
        /// The region.
        region: Option<&'a Region>,
    },
    /// The agreed state changed.
    Agreed(&'a Change),
    /// A store's report was taken in.
    Reported {
        /// The store.
        store: StoreId,
        /// Regions that it says it has.
        regions: u32,
    },
    /// The control plane started anew.
    Restarted {
        /// Whether the region cache was there.
        with_cache: bool,
    },
}

/// The world as checks see it.
pub struct At<'a> {
    /// The present.
    pub now: Now,
    /// When the run began.
    pub began: Now,
    /// What is agreed.
    pub state: &'a State,
    /// The control plane.
    pub control: &'a Control,
    /// The nodes.
    pub fleet: &'a Fleet,
}

/// A check that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its name.
    pub check: &'static str,
    /// What was found.
    pub text: String,
    /// When, since the start.
    pub at: Duration,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.1} s: {}", self.check, self.at.as_secs_f64(), self.text)
    }
}

/// What a check answers: what it looked at (0: nothing of its own), or what is wrong.
pub type Verdict = Result<u64, String>;

/// One thing that must hold.
pub trait Check: Send {
    /// Its name: the id of the invariant and what it is about.
    fn name(&self) -> &'static str;

    /// It in one sentence.
    fn says(&self) -> &'static str;

    /// Looks at a moment.
    fn on(&mut self, _moment: &Moment<'_>, _at: &At<'_>) -> Verdict {
        Ok(0)
    }

    /// Looks at the world after a step.
    fn after_step(&mut self, _at: &At<'_>) -> Verdict {
        Ok(0)
    }
}

/// Whether a person asks for this operator by naming its stores: nothing is checked for them then.
fn is_by_hand(op: &Operator) -> bool {
    op.kind.has(Kind::ADMIN) && op.desc.starts_with("admin-")
}

/// Whether a person asks for this operator, with stores that Berth picks or without. (Shuffling goes by the same kind.)
fn is_asked_for(op: &Operator) -> bool {
    is_by_hand(op) || op.desc == desc::SCATTER_REGION || op.desc == desc::REGION_SPLITTER
}

/// All checks, fresh.
fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(regions::Quorum::default()),
        Box::new(regions::OnePeerAStore),
        Box::new(regions::Epochs::default()),
        Box::new(regions::Ranges),
        Box::new(commands::Fresh),
        Box::new(commands::Leaders),
        Box::new(commands::SingleSteps),
        Box::new(commands::PeerIds::default()),
        Box::new(operators::OneARegion::default()),
        Box::new(operators::Halted),
        Box::new(operators::Targets),
        Box::new(limits::StoreLimit::default()),
        Box::new(limits::ScheduleLimit),
        Box::new(rules::Deny),
        Box::new(rules::RulesHold::default()),
        Box::new(stores::Burial::default()),
        Box::new(stores::Tombstones::default()),
        Box::new(stores::LimitsComeBack::default()),
    ]
}

/// See the module's comment.
pub struct Checks {
    all: Vec<Box<dyn Check>>,
    counts: BTreeMap<&'static str, u64>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { all: all(), counts: BTreeMap::new() }
    }
}

impl Checks {
    /// Names and sentences of all checks.
    pub fn list() -> Vec<(&'static str, &'static str)> {
        all().iter().map(|c| (c.name(), c.says())).collect()
    }

    /// How often each check had something to look at.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }

    /// Asks all about a moment.
    pub fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Vec<Broken> {
        self.ask(at, |check| check.on(moment, at))
    }

    /// Asks all about the world.
    pub fn after_step(&mut self, at: &At<'_>) -> Vec<Broken> {
        self.ask(at, |check| check.after_step(at))
    }

    fn ask(&mut self, at: &At<'_>, ask: impl Fn(&mut dyn Check) -> Verdict) -> Vec<Broken> {
        let mut broken = Vec::new();
        for check in &mut self.all {
            let name = check.name();
            match ask(check.as_mut()) {
                Ok(looked) => *self.counts.entry(name).or_default() += looked,
                Err(text) => broken.push(Broken { check: name, text, at: at.now.mono.since(at.began.mono) }),
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own_and_says_what_it_is() {
        let list = Checks::list();
        let names: std::collections::BTreeSet<_> = list.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), list.len());
        for (name, says) in list {
            let (id, what) = name.split_once('_').unwrap_or_default();
            let numbered = id.len() == 2 && id.ends_with(|c: char| c.is_ascii_digit());
            assert!(numbered && !what.is_empty() && !says.is_empty(), "{name}");
        }
    }

    #[test]
    fn each_bug_names_a_check() {
        for (bug, check) in crate::world::bugs::Bug::ALL {
            assert!(Checks::list().iter().any(|(name, _)| *name == check), "{bug:?}: {check}");
        }
    }
}
