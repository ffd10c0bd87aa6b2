//! Filters on a store that would take a peer of a region.
//!
//! Owns: the wish, and what labels, places and tokens say of a store for it. Must not know: the order of the filters (`table`).

use super::{Budget, Refusal, kinds::refuse, store::state_refusal};
use crate::{
    model::{LabelConstraint, Region},
    scheduler::{outcome::LimitKind, placement::labels, view::ClusterView},
    store::StoreInfo,
};

/// The label that keeps ordinary regions away from a store, and the uses that do.
const SPECIAL_USE: (&str, [&str; 2]) = ("specialUse", ["hotRegion", "reserved"]);

/// Regions up to this size (MiB) are moved without a token.
const FREE_SIZE_MIB: u64 = 1;

/// A wish for a store that takes a new peer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The region.
    pub region: &'a Region,
    /// What the rule asks of the store.
    pub constraints: &'a [LabelConstraint],
    /// The rule's location labels.
    pub location_labels: &'a [String],
    /// The rule's isolation level.
    pub isolation_level: &'a str,
    /// The stores that the new peer should lie apart from.
    pub beside: &'a [&'a StoreInfo],
    /// Only a store that lies further apart from `beside` than this one will do.
    pub better_than: Option<&'a StoreInfo>,
}

impl Wanted<'_> {
    pub(super) fn distinct(&self, store: &StoreInfo) -> f64 {
        labels::distinct_score(self.beside.iter().map(|s| &*s.record), &store.record, self.location_labels)
    }
}

/// Why a store takes no peer of a rule with these constraints, whatever the region and however much it holds.
pub fn standing_refusal(view: &ClusterView<'_>, constraints: &[LabelConstraint], store: &StoreInfo) -> Option<Refusal> {
    state_refusal(view, store).or_else(|| label_refusal(constraints, store)).or_else(|| special_use_refusal(store))
}

pub(super) fn label_refusal(constraints: &[LabelConstraint], store: &StoreInfo) -> Option<Refusal> {
    refuse(Refusal::LabelConstraint, !labels::matches(&store.record, constraints))
}

pub(super) fn special_use_refusal(store: &StoreInfo) -> Option<Refusal> {
    refuse(Refusal::SpecialUse, SPECIAL_USE.1.contains(&store.record.label(SPECIAL_USE.0)))
}

/// One store, looked at for one wish.
pub(super) struct Judged<'a> {
    pub(super) view: &'a ClusterView<'a>,
    pub(super) budget: &'a dyn Budget,
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) store: &'a StoreInfo,
}

impl Judged<'_> {
    pub(super) fn is_isolated(&self) -> bool {
        let beside = self.wanted.beside.iter().map(|s| &*s.record);
        labels::isolated_at(beside, &self.store.record, self.wanted.location_labels, self.wanted.isolation_level)
    }

    pub(super) fn is_better(&self) -> bool {
        self.wanted.better_than.is_none_or(|old| self.wanted.distinct(self.store) > self.wanted.distinct(old))
    }

    pub(super) fn lacks_tokens(&self) -> bool {
        needs_tokens(self.wanted.region) && !self.budget.has_tokens(self.store.id(), LimitKind::AddPeer, self.view.now)
    }
}

/// Whether moving a peer of the region costs tokens: an empty region moves for nothing, an unknown size is not "empty".
pub fn needs_tokens(region: &Region) -> bool {
    !region.size_known || region.size_mib > FREE_SIZE_MIB
}
