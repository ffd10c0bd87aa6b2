//! Which rules cannot be met, asked of the present world.

use super::Cluster;
use crate::{
    model::{KeyRange, LabelConstraint, Now},
    scheduler::{
        filter,
        placement::{
            RuleSet,
            unmet::{Unmet, unmet},
        },
        view::ClusterView,
    },
    store::StoreInfo,
};

impl Cluster {
    /// The rules in force that cannot be met now: while placement rules are off, the one that stands in for them.
    pub fn unmet_rules(&self, now: Now) -> Vec<Unmet> {
        self.with_view(now, |view| {
            let segments: Vec<_> = view.settings.placement().segments().collect();
            find(view, segments.iter().map(|(range, rules)| (range, *rules)))
        })
    }

    /// Those of `rules` that could not be met now in the segments that begin in `ranges` (see [`RuleSet::changed`]).
    pub fn unmet_of(&self, rules: &RuleSet, ranges: &[KeyRange], now: Now) -> Vec<Unmet> {
        self.with_view(now, |view| find(view, rules.segments_at(ranges)))
    }
}

fn find<'a>(
    view: &ClusterView<'_>,
    segments: impl Iterator<Item = (&'a KeyRange, &'a [std::sync::Arc<crate::model::Rule>])>,
) -> Vec<Unmet> {
    let refuse = |store: &StoreInfo, constraints: &[LabelConstraint]| {
        filter::standing_refusal(view, constraints, store).map(filter::Refusal::name)
    };
    unmet(segments, view.stores, &refuse)
}
