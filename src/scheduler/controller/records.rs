//! Operators that have ended, by region, by id and by drain, with their journals; how long their steps usually take.
//!
//! Owns: what is kept, for how long, and what becomes counts. Must not know: why operators end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    journal::{DrainHistory, Journal, Past},
    typical::Typical,
};
use crate::{
    model::{Mono, Now, OperatorId, RegionId, StoreId},
    scheduler::operator::{Operator, Status},
};

/// For how long `/operators/records` and `/operators/{id}` remember.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// How many ends of regions are remembered at most.
const KEPT_AT_MOST: usize = 65_536;

/// How many operators of one drain are kept whole; older ones are counts.
const KEPT_OF_A_DRAIN: usize = 10_000;
/// How many of all drains together; of more, the oldest become counts. As many as the agreed state keeps, at some 1.5 KiB each 60 MiB.
const KEPT_OF_ALL_DRAINS: usize = 4 * KEPT_OF_A_DRAIN;
/// How many that belong to no drain: however many there are, they push out none that does.
const KEPT_OF_NO_DRAIN: usize = 25_536;
/// How many operators wait at most for being kept in the agreed state; of more, the oldest are known to this member only.
const UNKEPT: usize = 20_000;
/// How many drains are remembered; of more, those of the lowest store ids are forgotten.
const DRAINS: usize = 256;

/// The last end of each region for ten minutes, and the last operators by id.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_region: HashMap<RegionId, (Mono, Arc<Operator>)>,
    /// Ends in order of time; an entry is out of date when the region has had another end since.
    order: VecDeque<(Mono, RegionId)>,
    by_id: BTreeMap<OperatorId, Past>,
    /// Those of them that belong to a drain, and those that do not.
    drained: BTreeSet<OperatorId>,
    others: BTreeSet<OperatorId>,
    drains: BTreeMap<StoreId, OfDrain>,
    typical: Typical,
    /// Those that are not in the agreed state yet, oldest first.
    unkept: VecDeque<OperatorId>,
}

/// The operators of one drain.
#[derive(Debug, Default)]
struct OfDrain {
    /// Those that are kept whole, oldest first.
    whole: VecDeque<OperatorId>,
    /// Those before them: description and result to how many.
    older: BTreeMap<(String, &'static str), u64>,
}

impl OfDrain {
    fn drop_first(&mut self, past: Option<&Past>) {
        self.whole.pop_front();
        if let Some(past) = past {
            *self.older.entry((past.op.desc.clone(), past.op.status.word())).or_default() += 1;
        }
    }
}

impl Records {
    pub(super) fn push(&mut self, op: Arc<Operator>, journal: Option<Journal>, now: Now) {
        // One that was refused never got an id of its own.
        if op.id != OperatorId(0) {
            if op.status == Status::Success {
                self.typical.learn(&op);
            }
            self.unkept.push_back(op.id);
            if self.unkept.len() > UNKEPT {
                self.unkept.pop_front();
            }
            self.keep(Past { op: op.clone(), journal: journal.unwrap_or_default() });
        }
        self.order.push_back((now.mono, op.region));
        self.by_region.insert(op.region, (now.mono, op));
        while self.order.len() > KEPT_AT_MOST {
            self.drop_first();
        }
    }

    fn keep(&mut self, past: Past) {
        for store in &past.journal.drains {
            let drain = self.drains.entry(*store).or_default();
            drain.whole.push_back(past.op.id);
            if drain.whole.len() > KEPT_OF_A_DRAIN {
                let oldest = drain.whole.front().and_then(|id| self.by_id.get(id));
                drain.drop_first(oldest);
            }
        }
        self.insert(past);
        self.trim();
    }

    fn insert(&mut self, past: Past) {
        let of = if past.journal.drains.is_empty() { &mut self.others } else { &mut self.drained };
        of.insert(past.op.id);
        self.by_id.insert(past.op.id, past);
    }

    /// Forgets what is too much.
    fn trim(&mut self) {
        while self.drains.len() > DRAINS {
            self.drains.pop_first();
        }
        while self.others.len() > KEPT_OF_NO_DRAIN {
            let Some(id) = self.others.pop_first() else { break };
            self.by_id.remove(&id);
        }
        while self.drained.len() > KEPT_OF_ALL_DRAINS {
            let Some(id) = self.drained.pop_first() else { break };
            let Some(past) = self.by_id.remove(&id) else { continue };
            for store in &past.journal.drains {
                if let Some(drain) = self.drains.get_mut(store).filter(|d| d.whole.front() == Some(&id)) {
                    drain.drop_first(Some(&past));
                }
            }
        }
    }

    /// Takes those out that are to be kept in the agreed state, oldest first, while `wanted` takes them.
    pub(super) fn take_unkept(&mut self, mut wanted: impl FnMut(&Past) -> bool) {
        while let Some(id) = self.unkept.front() {
            if self.by_id.get(id).is_some_and(|past| !wanted(past)) {
                return;
            }
            self.unkept.pop_front();
        }
    }

    /// They could not be kept: they wait again, before all others.
    pub(super) fn put_back(&mut self, ids: &[OperatorId]) {
        ids.iter().rev().for_each(|id| self.unkept.push_front(*id));
        self.unkept.truncate(UNKEPT);
    }

    /// Another term: what was not kept is not this member's to keep any more.
    pub(super) fn begin_term(&mut self) {
        self.unkept.clear();
    }

    /// Takes in what an earlier leader kept; those that are known stay as they are.
    pub(super) fn recall(&mut self, all: Vec<Past>) {
        for past in all {
            if self.by_id.contains_key(&past.op.id) {
                continue;
            }
            if past.op.status == Status::Success {
                self.typical.learn(&past.op);
            }
            for store in &past.journal.drains {
                let drain = self.drains.entry(*store).or_default();
                let place = drain.whole.partition_point(|id| *id < past.op.id);
                drain.whole.insert(place, past.op.id);
            }
            self.insert(past);
        }
        self.trim();
    }

    /// What an earlier leader counted of a drain takes the place of what was counted here: both counted the same operators.
    pub(super) fn recall_counts(&mut self, store: StoreId, older: BTreeMap<(String, &'static str), u64>) {
        self.drains.entry(store).or_default().older = older;
        self.trim();
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

    pub(super) fn by_id(&self, id: OperatorId) -> Option<&Past> {
        self.by_id.get(&id)
    }

    /// Those that `wanted` takes, the latest first.
    pub(super) fn latest(&self, limit: usize, wanted: impl Fn(&Past) -> bool) -> Vec<Past> {
        self.by_id.values().rev().filter(|past| wanted(past)).take(limit).cloned().collect()
    }

    /// The operators that a drain has had.
    pub(super) fn of_drain(&self, store: StoreId, limit: usize) -> DrainHistory {
        let Some(drain) = self.drains.get(&store) else { return DrainHistory::default() };
        let whole = drain.whole.iter().rev().filter_map(|id| self.by_id.get(id)).take(limit).cloned().collect();
        let older = drain.older.iter().map(|((desc, result), count)| (desc.clone(), *result, *count)).collect();
        DrainHistory { kept: drain.whole.len(), whole, older }
    }

    pub(super) fn typical(&self) -> &Typical {
        &self.typical
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Region, scheduler::operator::Kind};

    fn ended(id: u64) -> Arc<Operator> {
        let region = Region::default();
        let mut op =
            Operator::new("replace-rule-offline-peer", String::new(), &region, Kind::REPLICA, vec![], Now::default());
        op.id = OperatorId(id);
        op.start(Now::default());
        op.check(&region, Now::default());
        Arc::new(op)
    }

    fn push(records: &mut Records, id: u64, drain: u64) {
        let journal = Journal { drains: vec![StoreId(drain)], ..Journal::default() };
        records.push(ended(id), Some(journal), Now::default());
    }

    #[test]
    fn the_last_operators_of_a_drain_are_kept_whole_and_older_ones_as_counts() {
        let mut records = Records::default();
        for id in 1..=KEPT_OF_A_DRAIN as u64 + 7 {
            push(&mut records, id, 3);
        }
        let told = records.of_drain(StoreId(3), 5);
        assert_eq!((told.kept, told.whole.len(), told.whole[0].op.id), (KEPT_OF_A_DRAIN, 5, OperatorId(10_007)));
        assert_eq!(told.older, [("replace-rule-offline-peer".to_owned(), "SUCCESS", 7)]);
        assert!(records.by_id(OperatorId(1)).is_some(), "by its id it is still known");
    }

    #[test]
    fn what_is_kept_in_all_is_bounded_and_the_sums_hold() {
        let mut records = Records::default();
        let drains = 8;
        for id in 1..=80_000 {
            push(&mut records, id, 1 + id % drains);
        }
        assert_eq!(records.by_id.len(), KEPT_OF_ALL_DRAINS);
        for store in 1..=drains {
            let told = records.of_drain(StoreId(store), usize::MAX);
            let older: u64 = told.older.iter().map(|(.., count)| count).sum();
            assert_eq!((told.kept as u64 + older, told.whole.len()), (10_000, told.kept));
        }
    }

    #[test]
    fn operators_of_no_drain_push_out_none_of_a_drain() {
        let mut records = Records::default();
        (1..=100).for_each(|id| push(&mut records, id, 3));
        let all = KEPT_AT_MOST as u64;
        (101..=all).for_each(|id| records.push(ended(id), None, Now::default()));
        assert_eq!(records.by_id.len(), 100 + KEPT_OF_NO_DRAIN);
        let told = records.of_drain(StoreId(3), usize::MAX);
        assert_eq!((told.kept, told.whole.len(), told.older.len()), (100, 100, 0));
        assert!(records.by_id(OperatorId(101)).is_none() && records.by_id(OperatorId(all)).is_some());
    }
}
