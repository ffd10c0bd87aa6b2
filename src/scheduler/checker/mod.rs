//! The checkers, in PD's order.
//!
//! Owns: what is wrong with one region and which operator would mend it. Must not know: which region is looked at when
//! (`patrol`), how operators run. A check changes nothing; ids for new peers are taken only for an operator that the limits
//! allow. Start at [`check`], then [`rule`].

pub mod deny;
mod joint;
mod orphan;
mod rule;
mod spread;

#[cfg(test)]
mod tests;

pub(super) use rule::is_plainly_healthy;
pub use spread::LeaderSpread;

use super::{
    controller::Controller,
    filter::Budget,
    operator::{Operator, StoreInfluence},
    outcome::{LimitKind, Outcome, Reason, ScheduleLimit},
    view::ClusterView,
};
use crate::model::{Mono, Now, Region, RegionId, StoreId};

/// What one checker found, before it is told to others: an operator, or why there is none; `Ok(None)` when nothing is wrong.
type Found = Result<Option<Operator>, Reason>;

/// What is wrong with `region`, if anything, and what to do: joint state first, then rules. A region that a label border should
/// split is checked all the same: waiting for a split must not hold a repair.
pub fn check(view: &ClusterView<'_>, controller: &Controller, region: &Region) -> Outcome {
    check_with(view, controller, &LeaderSpread::default(), region)
}

/// As [`check`], with what the caller remembers of leaders moved off draining stores.
pub fn check_with(view: &ClusterView<'_>, budget: &dyn Budget, spread: &LeaderSpread, region: &Region) -> Outcome {
    if !rule::is_plainly_healthy(view, region) {
        return match find(view, budget, spread, region) {
            Ok(None) => Outcome::Healthy,
            Ok(Some(operator)) => Outcome::Propose(vec![operator]),
            Err(reason) => Outcome::Blocked(reason),
        };
    }
    Outcome::Healthy
}

fn find(view: &ClusterView<'_>, budget: &dyn Budget, spread: &LeaderSpread, region: &Region) -> Found {
    if view.settings.schedule.halt_scheduling {
        return Err(Reason::Halted);
    }
    if budget.is_running(region.id()) {
        return Err(Reason::OperatorRunning(region.id()));
    }
    if region.leader_peer().is_none() {
        return Err(Reason::NoLeader);
    }
    if let Some(operator) = joint::find(view, region)? {
        return Ok(Some(operator));
    }
    rule::find(view, budget, spread, region)
}

/// As [`check_with`], but where an operator would be built that has to share the limits with others, the answer is
/// `Blocked(ScheduleLimit(Replica))`: for sorting regions by need without taking anything.
pub(super) fn look(view: &ClusterView<'_>, budget: &dyn Budget, spread: &LeaderSpread, region: &Region) -> Outcome {
    check_with(view, &NoRoom(budget), spread, region)
}

/// A budget with nothing left of the replica limit.
struct NoRoom<'a>(&'a dyn Budget);

impl Budget for NoRoom<'_> {
    fn is_running(&self, region: RegionId) -> bool {
        self.0.is_running(region)
    }

    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        limit != ScheduleLimit::Replica && self.0.has_room(view, limit)
    }

    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool {
        self.0.has_tokens(store, kind, now)
    }

    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono> {
        self.0.next_token(store, kind, now)
    }

    fn influence_on(&self, store: StoreId) -> StoreInfluence {
        self.0.influence_on(store)
    }
}
