//! What must hold for limits, counted from what was started and not from what the limiter says.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{At, Check, Moment, Verdict};
use crate::{
    meta::Change,
    model::{Mono, StoreId, StoreLimits, store::UNLIMITED},
    scheduler::{
        controller::journal::Maker,
        operator::{Kind, Priority, Step, step::FULL_COST},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// What was taken from one store's limit of one kind.
#[derive(Default)]
struct Taken {
    /// Time and cost, of the last minute.
    last: VecDeque<(Mono, u64)>,
}

/// O6: store limits.
#[derive(Default)]
pub(super) struct StoreLimit {
    /// By store and whether peers come (else they go).
    taken: BTreeMap<(StoreId, bool), Taken>,
    /// The limits in force and until when each that was replaced still counts: work of its time may stand in the last minute.
    rates: BTreeMap<StoreId, VecDeque<(Mono, StoreLimits)>>,
}

impl StoreLimit {
    /// The highest rate that was in force in the last minute.
    fn rate(&mut self, store: StoreId, comes: bool, at: &At<'_>) -> f64 {
        let now = at.now.mono;
        let of = |l: &StoreLimits| if comes { l.add_peer } else { l.remove_peer };
        let present = at.state.limits.get(&store).map_or(0.0, of);
        let Some(past) = self.rates.get_mut(&store) else { return present };
        past.retain(|(until, _)| now.since(*until) < MINUTE);
        past.iter().map(|(_, l)| of(l)).fold(present, f64::max)
    }
}

impl Check for StoreLimit {
    fn name(&self) -> &'static str {
        "o6_store_limits"
    }

    fn says(&self) -> &'static str {
        "in no minute more operators start at a store than its limit allows"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        match moment {
            Moment::Agreed(Change::LimitsChanged { id, limits: Some(limits) }) => {
                // The new limits stand for themselves until they are replaced: their end is what counts.
                let past = self.rates.entry(*id).or_default();
                if let Some(last) = past.back_mut() {
                    last.0 = at.now.mono;
                }
                past.push_back((Mono(u64::MAX), *limits));
                Ok(0)
            }
            Moment::Restarted { .. } => {
                self.taken.clear();
                Ok(0)
            }
            Moment::Added { op, .. } if op.priority != Priority::Urgent => {
                let mut costs: BTreeMap<(StoreId, bool), u64> = BTreeMap::new();
                for step in op.steps.iter() {
                    match step {
                        Step::AddPeer(at) | Step::AddLearner(at) => {
                            *costs.entry((at.store, true)).or_default() += op.move_cost;
                        }
                        Step::RemovePeer { store, .. } => *costs.entry((*store, false)).or_default() += op.move_cost,
                        _ => {}
                    }
                }
                for ((store, comes), cost) in costs.into_iter().filter(|(_, cost)| *cost > 0) {
                    let rate = self.rate(store, comes, at);
                    let taken = self.taken.entry((store, comes)).or_default();
                    let now = at.now.mono;
                    taken.last.retain(|(when, _)| now.since(*when) < MINUTE);
                    let before: u64 = taken.last.iter().map(|(_, cost)| cost).sum();
                    taken.last.push_back((now, cost));
                    // The last one may begin a moment before the minute's share is used up.
                    if rate < UNLIMITED
                        && before as f64 >= rate.max(0.0) * FULL_COST as f64
                        && (before > 0 || rate <= 0.0)
                    {
                        let kind = if comes { "add-peer" } else { "remove-peer" };
                        let text = format!(
                            "store {store} {kind}: {:.1} in a minute before {} of region {}, the limit is {rate}",
                            before as f64 / FULL_COST as f64,
                            op.desc,
                            op.region
                        );
                        return Err(text);
                    }
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

/// O6: the limits of the configuration.
pub(super) struct ScheduleLimit;

impl Check for ScheduleLimit {
    fn name(&self) -> &'static str {
        "o6_schedule_limits"
    }

    fn says(&self) -> &'static str {
        "no more operators of a kind start than its schedule limit allows; repairs know no limits of balancing"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        let Moment::Added { op, .. } = moment else { return Ok(0) };
        let cluster = at.control.cluster();
        let schedule = &cluster.settings().schedule;
        let balances = || {
            let history = cluster.operator_history(op.id);
            history.is_none_or(|past| past.journal.cause.maker == Maker::Scheduler)
        };
        let limit = match op.kind.counted_as() {
            Kind::REPLICA => schedule.replica_schedule_limit,
            Kind::REGION | Kind::LEADER if !balances() => return Ok(0),
            Kind::REGION => schedule.region_schedule_limit,
            Kind::LEADER => schedule.leader_schedule_limit,
            Kind::MERGE => schedule.merge_schedule_limit,
            Kind::HOT_REGION => schedule.hot_region_schedule_limit,
            _ => return Ok(0),
        };
        let same =
            |o: &&std::sync::Arc<crate::scheduler::operator::Operator>| o.kind.counted_as() == op.kind.counted_as();
        let running = cluster.operators().iter().filter(same).count() as u64;
        if running > limit {
            return Err(format!("{running} operators of kind {} run, the limit is {limit}", op.kind.counted_as()));
        }
        Ok(1)
    }
}
