//! What several checkers ask.
//!
//! Owns: the questions about limits, stores and whole regions that the rule, replica and merge checkers share. Must not know: what
//! any of them does about the answers.

use std::sync::Arc;

use super::deny::{Cause, denied};
use crate::{
    model::{Peer, Region, StoreId},
    scheduler::{
        filter::{self, Budget, Refusal, Wanted, choose_target},
        outcome::{LimitKind, Reason, ScheduleLimit},
        placement::labels,
        view::ClusterView,
    },
    store::StoreInfo,
};

/// Whether a repair may be started, asked before anything is built so that no peer id is wasted.
pub(super) fn room(view: &ClusterView<'_>, budget: &dyn Budget) -> Result<(), Reason> {
    if budget.has_room(view, ScheduleLimit::Replica) {
        return Ok(());
    }
    Err(Reason::ScheduleLimit(ScheduleLimit::Replica))
}

/// Whether the store may give a peer of this region away.
pub(super) fn may_give(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    region: &Region,
    from: StoreId,
) -> Result<(), Reason> {
    if filter::needs_tokens(region) && !budget.has_tokens(from, LimitKind::RemovePeer, view.now) {
        return Err(Reason::StoreLimit { store: from, kind: LimitKind::RemovePeer });
    }
    Ok(())
}

/// Whether the store may give a peer away for a better place: not while it is busy, as nothing is lost by waiting.
pub(super) fn may_improve(view: &ClusterView<'_>, budget: &dyn Budget, from: &StoreInfo) -> Result<(), Reason> {
    match filter::source_refusal(view, budget, from) {
        None => Ok(()),
        Some(Refusal::ExceedRemoveLimit) => Err(Reason::StoreLimit { store: from.id(), kind: LimitKind::RemovePeer }),
        Some(why) => Err(Reason::TargetBusy { refused: [(why.name(), vec![from.id()])].into() }),
    }
}

/// Where a peer on `old` would be further away from the others, if it may go there now; `None`: it is where it should be.
pub(super) fn better_target(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    region: &Region,
    wanted: &Wanted<'_>,
    old: &StoreInfo,
) -> Result<Option<StoreId>, Reason> {
    let target = match choose_target(view, budget, wanted) {
        Ok(target) => target,
        Err(Reason::NoTarget { .. }) => return Ok(None),
        Err(reason) => return Err(reason),
    };
    if !view.settings.schedule.enable_location_replacement {
        return Err(Reason::SwitchedOff("enable-location-replacement"));
    }
    denied(view, region, Cause::BetterLocation)?;
    room(view, budget)?;
    may_improve(view, budget, old)?;
    Ok(Some(target))
}

/// The stores of some peers that are known, without one.
pub(super) fn stores_of<'a>(view: &ClusterView<'a>, peers: &[Peer], without: Option<StoreId>) -> Vec<&'a StoreInfo> {
    let stores = view.stores;
    let peers = peers.iter().filter(|p| Some(p.store) != without);
    peers.filter_map(|p| stores.get(&p.store)).map(Arc::as_ref).collect()
}

/// The store that lies nearest to the others of them; of equal ones the fullest.
pub(super) fn worst_placed<'a>(
    view: &ClusterView<'_>,
    stores: &[&'a StoreInfo],
    location_labels: &[String],
) -> Option<&'a StoreInfo> {
    let key = |s: &&StoreInfo| {
        let apart = labels::distinct_score(stores.iter().map(|o| &*o.record), &s.record, location_labels);
        (apart, -filter::score_of(view, s, 0))
    };
    stores.iter().copied().min_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    })
}

/// Whether no peer of the region is down or lags behind.
pub(in crate::scheduler) fn is_healthy(region: &Region) -> bool {
    region.down.is_empty() && region.pending.is_empty()
}

/// Whether the region has all its peers and no other: by its rules, or by `max-replicas` when rules are off.
pub(in crate::scheduler) fn is_replicated(view: &ClusterView<'_>, region: &Region) -> bool {
    let replication = &view.settings.replication;
    if replication.enable_placement_rules {
        return view.settings.rules.fit(region, view.stores).is_some_and(|fit| fit.is_satisfied());
    }
    region.meta.learners().next().is_none() && region.peers().len() as u64 == replication.max_replicas
}

/// How many peers the region should have.
pub(in crate::scheduler) fn wanted_peers(view: &ClusterView<'_>, region: &Region) -> u64 {
    let replication = &view.settings.replication;
    if replication.enable_placement_rules {
        return view.settings.rules.for_region(region).iter().map(|r| u64::from(r.count)).sum();
    }
    replication.max_replicas
}
