//! What a fleet counted and what it found at the end.
//!
//! Owns: the counters and their printing. Must not know how they come about.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::sim::{
    command::{CommandKind, Rejection},
    safety::Violation,
};

/// Most violations kept with their text; the rest are only counted. The first few tell the story.
const MAX_VIOLATIONS: usize = 20;

/// Counts since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// Commands that came in, repeats included.
    pub commands: BTreeMap<CommandKind, u64>,
    /// Commands that were carried out.
    pub executed: BTreeMap<CommandKind, u64>,
    /// Commands that came again while the same one was being carried out.
    pub repeated: u64,
    /// Commands that were refused.
    pub rejected: BTreeMap<Rejection, u64>,
    /// Region heartbeats sent.
    pub region_heartbeats: u64,
    /// Of these, repeats of old ones (a fault).
    pub stale_heartbeats: u64,
    /// Store heartbeats sent.
    pub store_heartbeats: u64,
    /// Store heartbeats that the server refused or did not answer.
    pub store_heartbeat_errors: u64,
    /// Messages of the server that say it could not take a region heartbeat.
    pub region_errors: u64,
    /// Leader changes that nobody asked for.
    pub elections: u64,
    /// Snapshots that arrived.
    pub snapshots: u64,
    /// New regions by splits.
    pub splits: u64,
    /// Merges carried out.
    pub merges: u64,
    /// Times that a store stopped.
    pub store_stops: u64,
    /// Streams opened to the server.
    pub connects: u64,
    /// Safety violations.
    pub violations: u64,
}

impl Counters {
    /// Counts one more of `kind` in `map`.
    pub(super) fn bump<K: Ord>(map: &mut BTreeMap<K, u64>, kind: K) {
        *map.entry(kind).or_default() += 1;
    }

    /// All refused commands.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// All commands carried out.
    pub fn executed_total(&self) -> u64 {
        self.executed.values().sum()
    }
}

/// Violations, the first ones in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn push(&mut self, violation: Violation) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(violation);
        }
    }

    pub(super) fn first(&self) -> &[Violation] {
        &self.0
    }
}

/// One thing that is looked at when the run ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FinalCheck {
    /// What was asked.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

/// What a run ended with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FleetReport {
    /// Counts.
    pub counters: Counters,
    /// Regions at the end.
    pub regions: u64,
    /// Peers on each store at the end, by store id.
    pub peers: BTreeMap<u64, u32>,
    /// The first safety violations, in words.
    pub violations: Vec<String>,
    /// The final checks.
    pub checks: Vec<FinalCheck>,
    /// Length of the run, seconds.
    pub seconds: f64,
}

impl FleetReport {
    /// Whether nothing unsafe happened and every check holds.
    pub fn passed(&self) -> bool {
        self.counters.violations == 0 && self.checks.iter().all(|c| c.passed)
    }
}

impl fmt::Display for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        writeln!(f, "fleet: {} regions on {} stores after {:.1} s", self.regions, self.peers.len(), self.seconds)?;
        writeln!(
            f,
            "  sent      {} region heartbeats ({} of them stale on purpose), {} store heartbeats ({} failed), {} connects",
            c.region_heartbeats, c.stale_heartbeats, c.store_heartbeats, c.store_heartbeat_errors, c.connects
        )?;
        let list = |map: Vec<String>| if map.is_empty() { "none".into() } else { map.join(", ") };
        let done = c.executed.iter().map(|(k, n)| format!("{} {n}", kebab(k))).collect();
        writeln!(f, "  commands  {} carried out ({}), {} repeated", c.executed_total(), list(done), c.repeated)?;
        let no = c.rejected.iter().map(|(k, n)| format!("{} {n}", kebab(k))).collect();
        writeln!(f, "  refused   {} ({})", c.rejected_total(), list(no))?;
        writeln!(
            f,
            "  nodes     {} snapshots, {} splits, {} merges, {} unasked elections, {} store stops",
            c.snapshots, c.splits, c.merges, c.elections, c.store_stops
        )?;
        for check in &self.checks {
            writeln!(f, "  check     {}: {} ({})", check.name, pass(check.passed), check.detail)?;
        }
        write!(f, "  safety    {} ({} violations)", pass(c.violations == 0), c.violations)?;
        for violation in &self.violations {
            write!(f, "\n            {violation}")?;
        }
        Ok(())
    }
}

fn pass(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

/// The name of an enum value as its JSON has it.
fn kebab(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
