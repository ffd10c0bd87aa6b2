//! Which regions schedulers touch: drawn by chance, and only such as nothing is wrong with.

use std::sync::Arc;

use super::{
    dice::Dice,
    round::{Input, Why},
};
use crate::{
    model::{KeyRange, Region, StoreId},
    scheduler::{checker::deny::denied, outcome::Reason, placement::RegionFit},
    store::Held,
};

/// Regions that a draw from a part of the key space chooses among.
const DRAW_FROM: usize = 256;

/// One of a store's regions that start in `ranges`.
pub(super) fn draw(
    input: &Input<'_>,
    dice: &mut Dice,
    store: StoreId,
    held: Held,
    ranges: &[KeyRange],
) -> Option<Arc<Region>> {
    let regions = input.view.regions;
    let range = dice.one(ranges)?;
    if range.start.is_empty() && range.end.is_empty() {
        return regions.random_of_store(store, held, dice.roll());
    }
    let (ids, _) = regions.of_store_from(store, held, &range.start, DRAW_FROM);
    let inside = |region: &Arc<Region>| crate::model::key::before_end(&region.range().start, &range.end);
    let found: Vec<_> = ids.into_iter().filter_map(|id| regions.get(id)).filter(inside).collect();
    dice.one(&found).cloned()
}

/// Whether a scheduler may touch the region: it is calm, and no label holds it.
pub(super) fn may_balance(input: &Input<'_>, region: &Region) -> Result<(), Why> {
    is_calm(input, region)?;
    is_let(input, region)
}

/// Whether no label keeps the scheduler from touching the region.
pub(super) fn is_let(input: &Input<'_>, region: &Region) -> Result<(), Why> {
    input.cause.map_or(Ok(()), |cause| denied(input.view, region, cause)).map_err(Why::Region)
}

/// Whether the region has a leader and no operator, nobody lags, and it is not hot.
pub(super) fn is_calm(input: &Input<'_>, region: &Region) -> Result<(), Why> {
    is_idle(input, region)?;
    if let Some(peer) = region.down.first().map(|d| d.peer).or(region.pending.first().copied()) {
        return Err(Why::Region(Reason::PendingPeer(peer)));
    }
    if input.hot.is_hot(region.id(), input.view.settings.schedule.hot_region_cache_hits_threshold) {
        return Err(Why::Hot);
    }
    Ok(())
}

/// Whether the region has a leader, no operator and no joint state to leave.
pub(super) fn is_idle(input: &Input<'_>, region: &Region) -> Result<(), Why> {
    if input.budget.is_running(region.id()) {
        return Err(Why::Region(Reason::OperatorRunning(region.id())));
    }
    if region.leader_peer().is_none() {
        return Err(Why::Region(Reason::NoLeader));
    }
    if region.meta.in_joint_state() {
        return Err(Why::NotReplicated);
    }
    Ok(())
}

/// How the region serves its rules, when it serves all of them.
pub(super) fn whole_fit(input: &Input<'_>, region: &Region) -> Result<Arc<RegionFit>, Why> {
    let fit = input.view.settings.placement().fit(region, input.view.stores);
    fit.filter(|fit| fit.is_satisfied()).ok_or(Why::NotReplicated)
}
