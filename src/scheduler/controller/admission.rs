//! Who may start: everything is looked at and taken in one step, so that no two operators can share the last token.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use super::{
    Controller,
    journal::{By, Journal, Maker},
};
use crate::{
    model::{OperatorId, RegionId},
    scheduler::{
        effect::{DispatchSource, Effect, Event},
        limit::Costs,
        operator::{CancelReason, Kind, Operator, Priority, Status},
        outcome::{Reason, ScheduleLimit},
        view::ClusterView,
    },
};

/// Why operators are not admitted: for whoever asked, and for the record.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) cancel: CancelReason,
}

impl Refusal {
    fn new(reason: Reason, cancel: CancelReason) -> Self {
        Self { reason, cancel }
    }

    /// A refusal that follows from the operator itself, in PD's words.
    fn plain(cancel: CancelReason) -> Self {
        Self::new(Reason::Build(cancel.name().to_owned()), cancel)
    }

    /// Whether it may pass by itself while the operator waits.
    pub(super) fn passes(&self) -> bool {
        matches!(self.reason, Reason::StoreLimit { .. } | Reason::ScheduleLimit(_))
    }
}

/// The limit that operators of `kind` (as counted) fall under. Operators of people, splits and role repairs have none. The limits of
/// balancing hold for schedulers only: they are none of a repair, whatever kind it counts under, so that a left-over peer goes and a role
/// is mended also where `region-schedule-limit` or `leader-schedule-limit` is 0 (as in PD).
fn limit_of(kind: Kind, maker: Maker) -> Option<ScheduleLimit> {
    let limit = match kind {
        Kind::REPLICA => ScheduleLimit::Replica,
        Kind::REGION => ScheduleLimit::Region,
        Kind::LEADER => ScheduleLimit::Leader,
        Kind::MERGE => ScheduleLimit::Merge,
        Kind::HOT_REGION => ScheduleLimit::HotRegion,
        _ => return None,
    };
    let applies = maker == Maker::Scheduler || matches!(limit, ScheduleLimit::Replica | ScheduleLimit::Merge);
    applies.then_some(limit)
}

/// What counts against `limit`, and how many may; `None` for the waiting queue, which is bounded by description.
pub(super) fn limit_value(view: &ClusterView<'_>, limit: ScheduleLimit) -> Option<(Kind, u64)> {
    let schedule = &view.settings.schedule;
    match limit {
        ScheduleLimit::Replica => Some((Kind::REPLICA, schedule.replica_schedule_limit)),
        ScheduleLimit::Region => Some((Kind::REGION, schedule.region_schedule_limit)),
        ScheduleLimit::Leader => Some((Kind::LEADER, schedule.leader_schedule_limit)),
        ScheduleLimit::Merge => Some((Kind::MERGE, schedule.merge_schedule_limit)),
        ScheduleLimit::HotRegion => Some((Kind::HOT_REGION, schedule.hot_region_schedule_limit)),
        ScheduleLimit::Waiting => None,
    }
}

/// What an operator takes from store limits.
fn costs<'a>(ops: impl Iterator<Item = &'a Operator>) -> Costs {
    let mut costs = Costs::new();
    for op in ops {
        for key in op.steps.iter().filter_map(|step| step.limited_by()) {
            *costs.entry(key).or_default() += op.move_cost;
        }
    }
    costs
}

impl Controller {
    /// Whether all of `ops`, which `maker` has made, may start now.
    pub(super) fn admissible(&self, view: &ClusterView<'_>, ops: &[Operator], maker: Maker) -> Result<(), Refusal> {
        for op in ops {
            self.check_one(view, op)?;
        }
        let mut starting: BTreeMap<Kind, u64> = BTreeMap::new();
        // Nothing else can be done for a region before it has left its joint state.
        for op in ops.iter().filter(|op| !op.only_leaves_joint_state()) {
            let kind = op.kind.counted_as();
            let replaced = self.running.get(&op.region).is_some_and(|old| old.kind.counted_as() == kind);
            let more = starting.entry(kind).or_default();
            *more += u64::from(!replaced);
            let Some(limit) = limit_of(kind, maker) else { continue };
            let Some((_, most)) = limit_value(view, limit) else { continue };
            if !replaced && self.count(kind) + *more > most {
                // PD checks these limits before it makes an operator, so that it has no word for this.
                return Err(Refusal::new(Reason::ScheduleLimit(limit), CancelReason::ExceedWaitLimit));
            }
        }
        let patient = ops.iter().filter(|op| op.priority != Priority::Urgent);
        match self.limits.first_exceeded(&costs(patient), view.now.mono) {
            Some((store, kind)) => {
                Err(Refusal::new(Reason::StoreLimit { store, kind }, CancelReason::ExceedStoreLimit))
            }
            None => Ok(()),
        }
    }

    /// Whether all of `ops` may wait: nothing but limits stands against them, and the queue has room.
    pub(super) fn may_wait(&self, view: &ClusterView<'_>, ops: &[Operator], maker: Maker) -> Result<(), Refusal> {
        match self.admissible(view, ops, maker) {
            Ok(()) => Ok(()),
            Err(refusal) if !refusal.passes() => Err(refusal),
            Err(_) if self.waiting.takes(ops, view.settings.schedule.scheduler_max_waiting_operator) => Ok(()),
            Err(_) => {
                let reason = Reason::ScheduleLimit(ScheduleLimit::Waiting);
                Err(Refusal::new(reason, CancelReason::ExceedWaitLimit))
            }
        }
    }

    /// Everything but limits: the region is there and as the operator knows it, and nobody of equal rank is at it.
    fn check_one(&self, view: &ClusterView<'_>, op: &Operator) -> Result<(), Refusal> {
        let Some(region) = view.regions.get(op.region) else {
            return Err(Refusal::plain(CancelReason::RegionNotFound));
        };
        if region.epoch() != op.epoch {
            return Err(Refusal::plain(CancelReason::EpochNotMatch));
        }
        if self.running.get(&op.region).is_some_and(|old| old.priority >= op.priority) {
            return Err(Refusal::new(Reason::OperatorRunning(op.region), CancelReason::AlreadyExist));
        }
        if op.status != Status::Created {
            return Err(Refusal::plain(CancelReason::NotInCreateStatus));
        }
        if op.is_expired(view.now) {
            return Err(Refusal::plain(CancelReason::Expired));
        }
        Ok(())
    }

    /// Starts operators that [`Controller::admissible`] has let through.
    pub(super) fn admit(&mut self, view: &ClusterView<'_>, ops: Vec<Operator>, by: &By, out: &mut Vec<Effect>) {
        let patient = ops.iter().filter(|op| op.priority != Priority::Urgent);
        let taken = self.limits.take(&costs(patient), view.now.mono);
        debug_assert!(taken.is_ok(), "admission was checked in the same step");
        for op in ops.iter().filter(|op| op.priority == Priority::Urgent) {
            // An urgent operator does not wait for a token, but uses one up when there is one.
            let _ = self.limits.take(&costs(std::iter::once(op)), view.now.mono);
        }
        // Both halves of a merge run before either is looked at: one that turns out impossible at once takes the other along.
        let regions: Vec<RegionId> = ops.into_iter().map(|op| self.start(view, op, by, out)).collect();
        for region in regions.into_iter().filter_map(|id| view.regions.get(id)) {
            self.dispatch(view, &region, DispatchSource::Create, out);
        }
    }

    fn start(&mut self, view: &ClusterView<'_>, mut op: Operator, by: &By, out: &mut Vec<Effect>) -> RegionId {
        self.replace(op.region, view, out);
        self.next_id += 1;
        op.id = OperatorId(self.next_id);
        op.start(view.now);
        let (region, id) = (op.region, op.id);
        *self.counts.entry(op.kind.counted_as()).or_default() += 1;
        self.count_influence(&op, op.current..op.steps.len(), true);
        self.journals.insert(region, Journal::new(view, &mut op, by));
        let op = Arc::new(op);
        out.push(Effect::Tell(Event::OperatorAdded { op: op.clone() }));
        let push = op.step().map(|step| view.now.mono.plus(step.push_interval()));
        self.running.insert(region, op);
        if let Some(at) = push {
            self.pushes.push(Reverse((at, region, id)));
        }
        region
    }

    /// An operator of lower priority gives way.
    fn replace(&mut self, region: RegionId, view: &ClusterView<'_>, out: &mut Vec<Effect>) {
        let partner = self.running.get(&region).and_then(|op| op.merges_with());
        if let Some(mut old) = self.take_out(region) {
            old.end(Status::Replaced, "", view.now);
            self.bury(old, view.now, out);
            self.remove_partner(region, partner, view.now, out);
        }
    }
}
