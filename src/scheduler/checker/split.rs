//! Regions that a border of labels or rules cuts.
//!
//! Owns: where such a region has to be split. Must not know: what labels and rules say, when a split is tried again.

use super::{
    deny::{Cause, denied},
    joint,
    memory::Memory,
    pause::CheckerName,
};
use crate::{
    model::{Key, Region, names::desc},
    scheduler::{
        operator::{Kind, Operator},
        outcome::Reason,
        view::ClusterView,
    },
};

/// The policy that splits at given keys (`pdpb.CheckPolicy`).
const USE_KEYS: i32 = 2;
/// The most keys of one split; what is left is cut in the next ones.
const MOST_KEYS: usize = 1024;

/// Where a region is to be split, and for what.
pub(super) struct Cut {
    desc: &'static str,
    keys: Vec<Key>,
}

/// The borders inside a region: those of labels first, as in PD, so that the operator's name tells what asks for the split.
pub(super) fn wanted(view: &ClusterView<'_>, region: &Region) -> Option<Cut> {
    let settings = view.settings;
    let by_labels = settings.labels.split_keys(region.range());
    let (desc, mut keys) = if !by_labels.is_empty() {
        (desc::LABELER_SPLIT_REGION, by_labels)
    } else if settings.replication.enable_placement_rules {
        (desc::RULE_SPLIT_REGION, settings.rules.split_keys(region.range()))
    } else {
        return None;
    };
    keys.truncate(MOST_KEYS);
    (!keys.is_empty()).then_some(Cut { desc, keys })
}

/// The operator that makes the cut. Never limited, as in PD: it moves nothing.
pub(super) fn operator(
    view: &ClusterView<'_>,
    memory: &Memory,
    region: &Region,
    cut: &Cut,
) -> Result<Operator, Reason> {
    if memory.pauses.is_paused(CheckerName::Split, view.now) {
        return Err(Reason::CheckerPaused(CheckerName::Split.name()));
    }
    denied(view, region, Cause::Split)?;
    Operator::split(*view, region, cut.desc, USE_KEYS, cut.keys.clone(), Kind::SPLIT).map_err(joint::reason)
}
