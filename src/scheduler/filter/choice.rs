//! The choice of a store for a new peer.
//!
//! Owns: the two steps, the ranking of what is left, and what is told of it. Must not know: what each filter looks at (`target`).

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use super::{
    Budget, Refusal,
    table::{LASTING, PASSING, first_refusal},
    target::{Judged, Wanted},
};
use crate::{
    model::{RegionId, StoreId},
    scheduler::{
        outcome::Reason,
        score::{Space, region_score},
        view::ClusterView,
    },
    store::StoreInfo,
};

/// How a store was chosen, or why none was.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Choice {
    /// The store.
    pub chosen: Option<StoreId>,
    /// Stores that could take the peer now, with their region scores, best first; the first [`SCORES_KEPT`].
    pub scores: Vec<(StoreId, f64)>,
    /// Filter name to the stores that it refused.
    pub refused: BTreeMap<&'static str, Vec<StoreId>>,
    /// Whether a store was left after the filters for what lasts.
    pub is_temporary: bool,
    /// For a merge: the neighbours, and what was said of each.
    pub neighbours: Vec<(RegionId, String)>,
}

/// How many of the stores that could have been chosen a [`Choice`] keeps.
pub const SCORES_KEPT: usize = 5;

/// Stores kept of those that one filter refused: tens of thousands of operators are kept.
const REFUSED_KEPT: usize = 16;

impl Choice {
    /// The choice of `chosen` among stores that a filter refuses or that have a score (less is better).
    pub fn of(chosen: StoreId, judged: impl Iterator<Item = (StoreId, Result<f64, Refusal>)>) -> Self {
        let mut choice = Self { chosen: Some(chosen), is_temporary: true, ..Self::default() };
        for (store, verdict) in judged {
            match verdict {
                Ok(score) => choice.scores.push((store, score)),
                Err(why) => choice.refused.entry(why.name()).or_default().push(store),
            }
        }
        choice.scores.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        // Chance, a person or weights may have chosen one that is none of the best: it is told all the same.
        if let Some(at) = choice.scores.iter().position(|(store, _)| *store == chosen).filter(|at| *at >= SCORES_KEPT) {
            choice.scores.swap(at, SCORES_KEPT - 1);
        }
        choice.trim();
        choice
    }

    /// Leaves no more than is kept for each operator.
    pub fn trim(&mut self) {
        self.scores.truncate(SCORES_KEPT);
        self.refused.values_mut().for_each(|stores| stores.truncate(REFUSED_KEPT));
    }

    fn into_result(self) -> Result<StoreId, Reason> {
        match self.chosen {
            Some(store) => Ok(store),
            None if self.is_temporary => Err(Reason::TargetBusy { refused: self.refused }),
            None => Err(Reason::NoTarget { refused: self.refused }),
        }
    }
}

/// How one store was judged for a peer, by every filter.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// The store.
    pub store: StoreId,
    /// All filters that refuse it; none: it could take the peer.
    pub refused: Vec<Refusal>,
    /// How far it lies from the other peers (more is better).
    pub apart: f64,
    /// Its region score with what is under way (less is better).
    pub score: f64,
}

/// Chooses the store for a new peer.
///
/// In two steps, as PD: first by what lasts (state, space, labels, isolation), keeping the stores that lie furthest apart; among
/// those by what passes (tokens, snapshots …), so that a store that is busy for a moment does not lead to a worse placement that
/// would have to be mended later. Of what is left the store with the lowest region score wins. Unlike PD, Berth counts what
/// running operators will bring to a store into its score, so that a thousand regions drained at once spread over all targets;
/// equal scores are settled by the number of regions, then by a hash of region and store.
pub fn choose_target(view: &ClusterView<'_>, budget: &dyn Budget, wanted: &Wanted<'_>) -> Result<StoreId, Reason> {
    let choice = choose(view, budget, wanted);
    budget.note(view, wanted, &choice);
    choice.into_result()
}

fn choose(view: &ClusterView<'_>, budget: &dyn Budget, wanted: &Wanted<'_>) -> Choice {
    let mut choice = Choice::default();
    let mut best: Vec<Judged<'_>> = Vec::new();
    let mut best_apart = f64::NEG_INFINITY;
    for store in view.stores.values().map(AsRef::as_ref) {
        let judged = Judged { view, budget, wanted, store };
        if let Some(why) = first_refusal(LASTING, &judged) {
            choice.refused.entry(why.name()).or_default().push(store.id());
            continue;
        }
        let apart = wanted.distinct(store);
        if apart > best_apart {
            best_apart = apart;
            best.clear();
        }
        if apart >= best_apart {
            best.push(judged);
        }
    }
    choice.is_temporary = !best.is_empty();
    let mut ranked: Vec<(Rank, StoreId)> = Vec::with_capacity(best.len());
    for judged in best {
        match first_refusal(PASSING, &judged) {
            Some(why) => choice.refused.entry(why.name()).or_default().push(judged.store.id()),
            None => ranked.push((rank(&judged), judged.store.id())),
        }
    }
    ranked.sort_by(|(a, _), (b, _)| compare(*a, *b));
    choice.chosen = ranked.first().map(|(_, store)| *store);
    choice.scores = ranked.iter().take(SCORES_KEPT).map(|(rank, store)| (*store, rank.0)).collect();
    choice
}

/// Every store under every filter, for explanations: the same filters as [`choose_target`], all of them.
pub fn candidates(view: &ClusterView<'_>, budget: &dyn Budget, wanted: &Wanted<'_>) -> Vec<Candidate> {
    let judge = |store| {
        let judged = Judged { view, budget, wanted, store };
        let refused = LASTING.iter().chain(PASSING).filter_map(|filter| filter(&judged)).collect();
        Candidate { store: store.id(), refused, apart: wanted.distinct(store), score: rank(&judged).0 }
    };
    view.stores.values().map(AsRef::as_ref).map(judge).collect()
}

/// Why this one store may not take the new peer; see [`choose_target`].
pub fn target_refusal(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    wanted: &Wanted<'_>,
    store: &StoreInfo,
) -> Option<Refusal> {
    let judged = Judged { view, budget, wanted, store };
    first_refusal(LASTING, &judged).or_else(|| first_refusal(PASSING, &judged))
}

/// The region score of a store, if `delta_mib` were added to it.
pub fn score_of(view: &ClusterView<'_>, store: &StoreInfo, delta_mib: i64) -> f64 {
    let size = view.regions.summary(store.id()).region_size_mib;
    let space = Space::now(store, size, view.regions.moved_mib(store.id()));
    region_score(&view.settings.schedule, space, store.record.region_weight, size, delta_mib)
}

/// Lower is better: score with what is under way, regions with what is under way, then chance that is the same each time.
type Rank = (f64, i64, u64);

fn rank(judged: &Judged<'_>) -> Rank {
    let Judged { view, budget, wanted, store } = judged;
    let coming = budget.influence_on(store.id());
    let count = i64::try_from(view.regions.summary(store.id()).region_count).unwrap_or(i64::MAX);
    let mut hasher = std::hash::DefaultHasher::new();
    (wanted.region.id(), store.id()).hash(&mut hasher);
    (score_of(view, store, coming.region_size), count.saturating_add(coming.region_count), hasher.finish())
}

fn compare(a: Rank, b: Rank) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
}
