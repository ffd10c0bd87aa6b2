//! Running and waiting operators.
//!
//! Owns: the running set, the waiting queue, records of ended operators, admission under limits, dispatch. Must not know: how
//! an operator came to be; streams.
//!
//! A heartbeat of a region without an operator costs one look-up; a tick costs what is due in it.

mod admission;
pub mod archive;
mod dispatch;
pub mod journal;
mod records;
pub mod typical;
mod waiting;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
};

use journal::{By, Journal, Journals, Maker};
use records::Records;
use waiting::Waiting;

use super::{
    checker::deny::Cause,
    effect::{Effect, Event},
    limit::Limits,
    operator::{CancelReason, Kind, Operator, StoreInfluence},
    outcome::{LimitKind, Reason, ScheduleLimit},
    view::ClusterView,
};
use crate::model::{Mono, Now, OperatorId, RegionId, StoreId, StoreLimits};

/// See the module's comment. All methods are synchronous and take the present in `view.now`.
#[derive(Debug, Default)]
pub struct Controller {
    running: HashMap<RegionId, Arc<Operator>>,
    /// Running operators by the kind that they count under.
    counts: BTreeMap<Kind, u64>,
    influence: BTreeMap<StoreId, StoreInfluence>,
    limits: Limits,
    waiting: Waiting,
    records: Records,
    /// What running operators went through so far.
    journals: Journals,
    /// When each running operator is looked at again without a heartbeat. An entry whose operator has ended is dropped when its
    /// time comes.
    pushes: BinaryHeap<Reverse<(Mono, RegionId, OperatorId)>>,
    next_poll: Mono,
    next_id: u64,
}

/// Operator ids start at the milliseconds of the leader's start, shifted by this many bits: unique over restarts for as long as
/// fewer than a million operators a millisecond are made.
const ID_TIME_SHIFT: u32 = 20;

impl Controller {
    /// Nothing runs; buckets are empty (`now` starts their refill).
    pub fn new(now: Now) -> Self {
        Self {
            limits: Limits::new(now.mono),
            next_poll: now.mono,
            next_id: u64::try_from(now.wall.unix_millis()).unwrap_or(0) << ID_TIME_SHIFT,
            ..Self::default()
        }
    }

    /// Another term: what runs and waits is dropped without a trace, and buckets are empty again. Records of what ended stay.
    pub fn begin_term(&mut self, now: Now) {
        let before = std::mem::take(self);
        let mut fresh = Self::new(now);
        fresh.limits = before.limits.restarted(now.mono);
        fresh.records = before.records;
        fresh.records.begin_term();
        fresh.next_id = fresh.next_id.max(before.next_id);
        *self = fresh;
    }

    /// Ended operators that are not in the agreed state yet, oldest first, while `wanted` takes them.
    pub fn take_unkept(&mut self, wanted: impl FnMut(&journal::Past) -> bool) {
        self.records.take_unkept(wanted);
    }

    /// They could not be kept: they come first the next time.
    pub fn put_back(&mut self, ids: &[OperatorId]) {
        self.records.put_back(ids);
    }

    /// Takes in the ended operators of earlier leaders. Later operators have higher ids than any of them.
    pub fn recall(&mut self, all: Vec<journal::Past>) {
        let highest = all.iter().map(|past| past.op.id.0).max().unwrap_or_default();
        self.next_id = self.next_id.max(highest);
        self.records.recall(all);
    }

    /// Takes in how many operators of a drain are not kept whole: by description and status.
    pub fn recall_counts(&mut self, store: StoreId, counts: BTreeMap<(String, &'static str), u64>) {
        self.records.recall_counts(store, counts);
    }

    /// Puts a store's limits in force (operators a minute).
    pub fn set_limits(&mut self, store: StoreId, limits: StoreLimits, now: Now) {
        self.limits.set(store, limits, now.mono);
    }

    /// A store is gone.
    pub fn remove_limits(&mut self, store: StoreId) {
        self.limits.remove(store);
    }

    /// Whether `ops` of a checker would be admitted now; takes nothing.
    ///
    /// # Errors
    /// What stands against it.
    pub fn may_add(&self, view: &ClusterView<'_>, ops: &[Operator]) -> Result<(), Reason> {
        self.admissible(view, ops, Maker::Checker).map_err(|refusal| refusal.reason)
    }

    /// Admits and starts operators of a checker or a person: limits, epoch, duplicates, priority in one step; nothing is taken when refused.
    /// The effects hold the refusal's events too (`operator canceled` with `already exist` …).
    ///
    /// # Errors
    /// What stands against it. All of `ops` are then cancelled and recorded.
    pub fn add(
        &mut self,
        view: &ClusterView<'_>,
        ops: Vec<Operator>,
        by: &By,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reason> {
        if let Err(refusal) = self.admissible(view, &ops, by.maker) {
            self.give_up(view, ops, refusal.cancel, out);
            return Err(refusal.reason);
        }
        self.admit(view, ops, by, out);
        Ok(())
    }

    /// Puts operators of a scheduler into the waiting queue and promotes what can run. What cannot run yet for want of tokens or
    /// room waits until it expires, or until a label holds its region for this cause.
    ///
    /// # Errors
    /// What stands against it for good; all of `ops` are then cancelled and recorded.
    pub fn add_waiting(
        &mut self,
        view: &ClusterView<'_>,
        ops: Vec<Operator>,
        by: &By,
        cause: Option<Cause>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reason> {
        if let Err(refusal) = self.may_wait(view, &ops, by.maker) {
            self.give_up(view, ops, refusal.cancel, out);
            return Err(refusal.reason);
        }
        // The two of a merge wait as one.
        out.extend(ops.first().map(|op| Effect::Tell(Event::OperatorWaits { desc: op.desc.clone() })));
        self.waiting.push(ops, by.clone(), cause);
        self.promote(view, out);
        Ok(())
    }

    /// Cancels operators that were not started.
    fn give_up(&mut self, view: &ClusterView<'_>, ops: Vec<Operator>, why: CancelReason, out: &mut Vec<Effect>) {
        for mut op in ops {
            op.cancel(why, view.now);
            self.bury(op, view.now, out);
        }
    }

    /// A region left the index. The other half of a merge ends well when it has the range; else (the region was forgotten by a call)
    /// it has nothing to wait for.
    pub fn on_region_gone(&mut self, view: &ClusterView<'_>, region: RegionId, out: &mut Vec<Effect>) {
        let Some(op) = self.running.get(&region).cloned() else { return };
        let partner = op.merges_with();
        out.push(Effect::Tell(Event::OperatorRegionGone { op }));
        self.remove_running(region, CancelReason::RegionNotFound, view.now, out);
        let target = partner.and_then(|id| view.regions.get(id).zip(self.running.get(&id)));
        let is_done = target.is_some_and(|(found, op)| op.step().is_some_and(|step| step.is_finish(&found)));
        if !is_done {
            self.remove_partner(region, partner, view.now, out);
        }
        self.promote(view, out);
    }

    /// Cancels the operator of `region` (`admin stop`); false when there is none.
    pub fn cancel(&mut self, view: &ClusterView<'_>, region: RegionId, out: &mut Vec<Effect>) -> bool {
        let removed = self.remove_with_partner(region, CancelReason::AdminStop, view.now, out);
        if removed {
            self.promote(view, out);
        }
        removed
    }

    /// Cancels every running operator (`admin stop`).
    pub fn cancel_all(&mut self, view: &ClusterView<'_>, out: &mut Vec<Effect>) {
        let mut regions: Vec<_> = self.running.keys().copied().collect();
        regions.sort_unstable();
        for region in regions {
            self.remove_running(region, CancelReason::AdminStop, view.now, out);
        }
    }

    /// The running operator of a region.
    pub fn running(&self, region: RegionId) -> Option<Arc<Operator>> {
        self.running.get(&region).cloned()
    }

    /// Whether a region has a running operator.
    pub fn is_running(&self, region: RegionId) -> bool {
        self.running.contains_key(&region)
    }

    /// All running operators.
    pub fn all_running(&self) -> Vec<Arc<Operator>> {
        self.running.values().cloned().collect()
    }

    /// How many operators run.
    pub fn running_len(&self) -> usize {
        self.running.len()
    }

    /// All waiting operators.
    pub fn all_waiting(&self) -> Vec<Arc<Operator>> {
        self.waiting.iter().cloned().map(Arc::new).collect()
    }

    /// The running operator of a region, else its record (10 minutes).
    pub fn status(&self, region: RegionId) -> Option<Arc<Operator>> {
        self.running(region).or_else(|| self.records.of_region(region))
    }

    /// Records of operators that ended at or after `from` (Unix seconds), oldest first.
    pub fn records(&self, from: i64) -> Vec<Arc<Operator>> {
        self.records.since(from)
    }

    /// An operator by its id: running, or one of the last that ended.
    pub fn by_id(&self, id: OperatorId) -> Option<Arc<Operator>> {
        self.history_by_id(id).map(|past| past.op)
    }

    /// How many running operators count under `kind` (see [`Kind::counted_as`]).
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Whether `limit` leaves room.
    pub fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        match admission::limit_value(view, limit) {
            Some((kind, most)) => self.count(kind) < most,
            None => self.waiting.has_room(),
        }
    }

    /// How many operators count against `limit`, and how many may.
    pub fn under_limit(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> (u64, u64) {
        match admission::limit_value(view, limit) {
            Some((kind, most)) => (self.count(kind), most),
            None => (self.waiting.iter().count() as u64, view.settings.schedule.scheduler_max_waiting_operator),
        }
    }

    /// Whether a store admits an operator of this kind now.
    pub fn store_has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool {
        self.limits.is_free(store, kind, now.mono)
    }

    /// When a store will next have a token; `None` when it has one or has no limit, `Mono(u64::MAX)` when it never will.
    pub fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono> {
        self.limits.next(store, kind, now.mono)
    }

    /// A region whose operator is still to bring a peer to this store.
    pub fn brings_peer(&self, store: StoreId) -> Option<RegionId> {
        let to_come = |op: &Operator| {
            let left = op.steps.get(op.current..).unwrap_or_default();
            left.iter().any(|step| step.new_peer_store() == Some(store))
        };
        self.running.values().filter(|op| to_come(op)).map(|op| op.region).min()
    }

    /// The store limits with what is used up, for working out what would come.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What running operators will change, by store; kept as operators start, move on and end.
    pub fn influence(&self) -> &BTreeMap<StoreId, StoreInfluence> {
        &self.influence
    }

    /// What waiting operators will change, by store: they are few.
    pub fn waiting_influence(&self) -> BTreeMap<StoreId, StoreInfluence> {
        let mut sums: BTreeMap<StoreId, StoreInfluence> = BTreeMap::new();
        for op in self.waiting.iter() {
            for (store, part) in op.steps.iter().flat_map(|step| step.influence(op.size_mib)) {
                sums.entry(store).or_default().add(part);
            }
        }
        sums
    }

    /// Adds (or takes away) what the steps of `op` from `first` to before `end` change.
    fn count_influence(&mut self, op: &Operator, steps: std::ops::Range<usize>, add: bool) {
        for step in op.steps.get(steps).unwrap_or_default() {
            for (store, part) in step.influence(op.size_mib) {
                let sum = self.influence.entry(store).or_default();
                if add {
                    sum.add(part);
                } else {
                    sum.subtract(part);
                }
                if *sum == StoreInfluence::default() {
                    self.influence.remove(&store);
                }
            }
        }
    }

    /// Takes a region's operator out of the running set, with its counts and its influence.
    fn take_out(&mut self, region: RegionId) -> Option<Operator> {
        let op = self.running.remove(&region)?;
        let kind = op.kind.counted_as();
        if let Some(count) = self.counts.get_mut(&kind) {
            *count = count.saturating_sub(1);
        }
        self.count_influence(&op, op.current..op.steps.len(), false);
        Some(Arc::unwrap_or_clone(op))
    }

    /// Takes an operator out, cancels it and records it.
    fn remove_running(&mut self, region: RegionId, reason: CancelReason, now: Now, out: &mut Vec<Effect>) -> bool {
        let Some(mut op) = self.take_out(region) else { return false };
        let before = op.clone();
        if op.cancel(reason, now) {
            let takes = before.runs_for(now);
            out.push(Effect::Tell(Event::OperatorRemoved { op: Arc::new(before), takes }));
        }
        self.bury(op, now, out);
        true
    }

    /// The same, and the other half of a merge with it.
    fn remove_with_partner(&mut self, region: RegionId, reason: CancelReason, now: Now, out: &mut Vec<Effect>) -> bool {
        let partner = self.running.get(&region).and_then(|op| op.merges_with());
        let removed = self.remove_running(region, reason, now, out);
        self.remove_partner(region, partner, now, out);
        removed
    }

    /// Cancels `partner` if it runs the other half of a merge with `region`.
    fn remove_partner(&mut self, region: RegionId, partner: Option<RegionId>, now: Now, out: &mut Vec<Effect>) {
        let Some(partner) = partner else { return };
        if self.running.get(&partner).is_some_and(|op| op.merges_with() == Some(region)) {
            self.remove_running(partner, CancelReason::RelatedMergeRegion, now, out);
        }
    }

    /// Takes the journal of an operator that ran out of the running ones; a refused one has none.
    fn running_journal(&mut self, op: &Operator) -> Option<Journal> {
        if op.started.is_some() { self.journals.remove(&op.region) } else { None }
    }

    /// Tells that an operator has ended and records it.
    fn bury(&mut self, op: Operator, now: Now, out: &mut Vec<Effect>) {
        let takes = op.runs_for(now);
        let op = Arc::new(op);
        out.push(Effect::Tell(Event::OperatorEnded { op: op.clone(), takes }));
        let journal = self.running_journal(&op);
        self.records.push(op, journal, now);
    }
}

#[cfg(test)]
mod tests;
