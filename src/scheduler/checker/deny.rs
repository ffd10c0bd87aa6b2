//! What a `schedule=deny` label holds.

use crate::{
    config::DenyScope,
    model::Region,
    scheduler::{outcome::Reason, view::ClusterView},
};

/// Name and value of the label that keeps a range as it is.
const LABEL: (&str, &str) = ("schedule", "deny");

/// Why something would be done to a region. Leaving a joint state, evict-leader and a person's operators are never asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Balancing, merging, scattering by schedulers.
    Balance,
    /// A peer would stand better elsewhere.
    BetterLocation,
    /// A peer is on a store that is being emptied.
    Offline,
    /// A rule lacks a peer, or a peer is down, left over or in the wrong role.
    Repair,
    /// A border of rules or labels lies inside.
    Split,
}

/// Whether a label rule keeps `region` from being touched for this cause; `[berth] region-label-deny-scope` says which causes
/// one can hold.
pub fn denied(view: &ClusterView<'_>, region: &Region, cause: Cause) -> Result<(), Reason> {
    let held = match view.settings.berth.region_label_deny_scope {
        DenyScope::Balance => cause == Cause::Balance,
        DenyScope::Moves => matches!(cause, Cause::Balance | Cause::BetterLocation | Cause::Offline),
        DenyScope::All => true,
    };
    if !held {
        return Ok(());
    }
    match view.settings.labels.value(region.range(), LABEL.0, view.now.wall) {
        Some((value, rule)) if value == LABEL.1 => Err(Reason::Denied { rule: rule.id.clone() }),
        _ => Ok(()),
    }
}
