//! What a `schedule=deny` label holds.
//!
//! Owns: the table of causes and scopes, and the one question that everything asks before it touches a region. Must not know: how
//! labels are looked up, who asks. `docs/deny-scopes.md` shows the same table to people; a test holds the two together.

use std::sync::Arc;

pub use crate::config::DenyScope as Scope;
use crate::{
    model::{Region, RegionLabel, RegionLabelRule, Wall},
    scheduler::{outcome::Reason, region_label::LabelIndex, view::ClusterView},
};

/// Name and value of the label that keeps a range as it is.
const LABEL: (&str, &str) = ("schedule", "deny");

/// Why something would be done to a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A scheduler would even out leaders, regions or load.
    Balance,
    /// Two small neighbours would become one.
    Merge,
    /// The regions of one key range would be spread by a scheduler.
    Scatter,
    /// A peer would stand better elsewhere.
    BetterLocation,
    /// A peer is on a store that is being emptied.
    Offline,
    /// A rule lacks a peer, or a peer is down, left over or in the wrong role.
    Repair,
    /// A border of rules or labels lies inside.
    Split,
}

/// One kind of work and the scopes under which a label holds it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is asked before such work is begun; `None`: nothing is, so no label holds it.
    pub cause: Option<Cause>,
    /// A short name.
    pub name: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// Under `balance`, `moves` (the default) and `all`.
    pub held: [bool; 3],
}

/// What each scope holds.
pub const TABLE: [Row; 11] = [
    row(
        Cause::Balance,
        "balance",
        "schedulers that balance, shuffle, or gather hot regions; label",
        [true, true, true],
    ),
    row(Cause::Merge, "merge", "merging", [true, true, true]),
    row(Cause::Scatter, "scatter", "scatter-range schedulers", [true, true, true]),
    row(Cause::BetterLocation, "better-location", "moves to a better location", [false, true, true]),
    row(Cause::Offline, "offline", "replacing peers on stores that are being emptied", [false, true, true]),
    row(Cause::Repair, "repair", "down, missing and left-over peers, wrong roles", [false, false, true]),
    row(Cause::Split, "split", "splitting at borders of rules and labels", [false, false, true]),
    never("evict-leader", "evict-leader and grant-leader schedulers"),
    never("slow-store", "evict-slow-store and evict-stopping-store schedulers"),
    never("joint-state", "leaving a joint state"),
    never("person", "operators, scattering and splits that a call asks for"),
];

const fn row(cause: Cause, name: &'static str, what: &'static str, held: [bool; 3]) -> Row {
    Row { cause: Some(cause), name, what, held }
}

const fn never(name: &'static str, what: &'static str) -> Row {
    Row { cause: None, name, what, held: [false; 3] }
}

impl Row {
    /// Whether a label holds it under this scope.
    pub fn is_held(&self, scope: Scope) -> bool {
        let [balance, moves, all] = self.held;
        match scope {
            Scope::Balance => balance,
            Scope::Moves => moves,
            Scope::All => all,
        }
    }
}

/// Whether a label rule keeps `region` from being touched for this cause; `[berth] region-label-deny-scope` says which causes
/// one can hold.
pub fn denied(view: &ClusterView<'_>, region: &Region, cause: Cause) -> Result<(), Reason> {
    let scope = view.settings.berth.region_label_deny_scope;
    if !TABLE.iter().any(|row| row.cause == Some(cause) && row.is_held(scope)) {
        return Ok(());
    }
    match holding(view, region) {
        Some((_, rule)) => Err(Reason::Denied { rule: rule.id.clone() }),
        None => Ok(()),
    }
}

/// When the label that holds the region ends; `None`: for ever, or nothing holds it.
pub fn ends(view: &ClusterView<'_>, region: &Region) -> Option<Wall> {
    holding(view, region).and_then(|(label, _)| label.expires)
}

/// What holds the whole region. The border of another rule inside changes nothing (PD has no label for such a region).
fn holding<'a>(view: &ClusterView<'a>, region: &Region) -> Option<(&'a RegionLabel, &'a Arc<RegionLabelRule>)> {
    let labels: &'a LabelIndex = &view.settings.labels;
    labels.throughout(region.range(), LABEL.0, view.now.wall, |value| is_deny(LABEL.0, value))
}

/// Whether a label is the one that holds scheduling (its value without regard to case, as PD).
pub fn is_deny(key: &str, value: &str) -> bool {
    key == LABEL.0 && value.eq_ignore_ascii_case(LABEL.1)
}

/// What a label holds under this scope, by the short names of the table.
pub fn held_by(scope: Scope) -> Vec<&'static str> {
    TABLE.iter().filter(|row| row.is_held(scope)).map(|row| row.name).collect()
}

#[cfg(test)]
mod tests;
