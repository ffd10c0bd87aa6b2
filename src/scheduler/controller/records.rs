//! Operators that have ended.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    model::{Mono, Now, OperatorId, RegionId},
    scheduler::operator::Operator,
};

/// For how long `/operators/records` and `/operators/{id}` remember.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// How many ended operators are remembered at most: at some 1.5 KiB each about 100 MiB.
const KEPT_AT_MOST: usize = 65_536;

/// The last end of each region for ten minutes, and the last operators by id.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_region: HashMap<RegionId, (Mono, Arc<Operator>)>,
    /// Ends in order of time; an entry is out of date when the region has had another end since.
    order: VecDeque<(Mono, RegionId)>,
    by_id: BTreeMap<OperatorId, Arc<Operator>>,
}

impl Records {
    pub(super) fn push(&mut self, op: Arc<Operator>, now: Now) {
        // One that was refused never got an id of its own.
        if op.id != OperatorId(0) {
            self.by_id.insert(op.id, op.clone());
            while self.by_id.len() > KEPT_AT_MOST {
                self.by_id.pop_first();
            }
        }
        self.order.push_back((now.mono, op.region));
        self.by_region.insert(op.region, (now.mono, op));
        while self.order.len() > KEPT_AT_MOST {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((at, region)) = self.order.pop_front() else { return };
        if self.by_region.get(&region).is_some_and(|(kept, _)| *kept == at) {
            self.by_region.remove(&region);
        }
    }

    pub(super) fn forget_old(&mut self, now: Now) {
        while self.order.front().is_some_and(|(at, _)| now.mono.since(*at) > KEPT_FOR) {
            self.drop_first();
        }
    }

    pub(super) fn of_region(&self, region: RegionId) -> Option<Arc<Operator>> {
        self.by_region.get(&region).map(|(_, op)| op.clone())
    }

    pub(super) fn by_id(&self, id: OperatorId) -> Option<Arc<Operator>> {
        self.by_id.get(&id).cloned()
    }

    pub(super) fn since(&self, from: i64) -> Vec<Arc<Operator>> {
        let mut found: Vec<_> = self
            .by_region
            .values()
            .filter(|(_, op)| op.ended.is_some_and(|at| at.wall.unix_seconds() >= from))
            .collect();
        found.sort_by_key(|(at, op)| (*at, op.region));
        found.into_iter().map(|(_, op)| op.clone()).collect()
    }
}
