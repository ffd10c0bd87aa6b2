//! What must hold after every step, under the names of the invariants. Whatever does not is an error with its name.

use std::collections::{BTreeMap, BTreeSet};

use super::{machine::Machine, world::Counts};
use crate::{
    meta::{Timestamp, machine::State},
    model::MemberId,
};

/// What was seen so far, by all members.
#[derive(Default)]
pub(super) struct Checks {
    /// Term and its leader.
    leaders: BTreeMap<u64, MemberId>,
    /// Committed entries: term and a sum of the bytes.
    committed: BTreeMap<u64, (u64, u32)>,
    /// Applied entries: hash of the state and the members.
    states: BTreeMap<u64, (u64, Vec<u64>, Vec<u64>)>,
    /// Timestamps and ids that were given: first and last of each run.
    timestamps: BTreeMap<u64, u64>,
    ids: BTreeMap<u64, u64>,
    /// The highest timestamp that somebody has.
    pub(super) latest: u64,
    /// Marks that were acknowledged.
    pub(super) acked: BTreeSet<u64>,
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// Takes `first..=last` out of what is left; false when some of it was taken before.
fn take(runs: &mut BTreeMap<u64, u64>, first: u64, last: u64) -> bool {
    let overlaps = runs.range(..=last).next_back().is_some_and(|(_, end)| *end >= first);
    runs.insert(first, last);
    !overlaps
}

pub(super) fn mark_id(n: u64) -> String {
    format!("{n:06}")
}

impl Checks {
    /// After a step of machine `at`.
    pub(super) fn after_step(
        &mut self,
        machines: &mut [Machine],
        at: usize,
        counts: &mut Counts,
    ) -> Result<(), String> {
        counts.checks += 1;
        Self::one_lease(machines)?;
        let Some(run) = &mut machines[at].run else { return Ok(()) };
        let (core, meta) = (&run.core, &run.meta);
        let node = core.node();
        if node.is_leader() {
            let leader = *self.leaders.entry(node.term()).or_insert(core.id());
            if leader != core.id() {
                return Err(format!("R8: {leader} and {} both lead in term {}", core.id(), node.term()));
            }
        }
        let committed = node.committed_index();
        for index in run.checked + 1..=committed {
            let Some((term, data)) = node.entry(index) else { continue };
            let entry = (term, crc32fast::hash(&data));
            let first = *self.committed.entry(index).or_insert(entry);
            if first != entry {
                return Err(format!("R8: entry {index} is committed as {first:?} and as {entry:?}"));
            }
        }
        run.checked = run.checked.max(committed);
        let (applied, hash) = (core.applied(), core.state_hash());
        if applied.index > 0 {
            let state = (hash, sorted(&applied.conf.voters), sorted(&applied.conf.learners));
            let first = self.states.entry(applied.index).or_insert_with(|| state.clone());
            if *first != state {
                return Err(format!("R6: after entry {} the state is {first:x?} and {state:x?}", applied.index));
            }
        }
        let differ = meta.group_counts().hashes_differ;
        if differ > 0 {
            return Err(format!("R6: {} has found {differ} states of others that differ", core.id()));
        }
        if meta.is_leader() && run.served != node.term() {
            run.served = node.term();
            counts.leaders += 1;
            self.holds_all(&meta.state(), core.id())?;
        }
        Ok(())
    }

    fn one_lease(machines: &[Machine]) -> Result<(), String> {
        let holders: Vec<MemberId> = machines
            .iter()
            .filter_map(|m| m.run.as_ref())
            .filter(|r| r.meta.is_leader())
            .map(|r| r.meta.member_id())
            .collect();
        if holders.len() > 1 { Err(format!("L1: {holders:?} hold a lease")) } else { Ok(()) }
    }

    /// Nothing that was acknowledged is missing in the state of who serves.
    pub(super) fn holds_all(&self, state: &State, member: MemberId) -> Result<(), String> {
        let missing = self.acked.iter().find(|n| !state.label_rules.contains_key(&mark_id(**n)));
        match missing {
            Some(n) => Err(format!("R1: {member} does not have write {n}, which was acknowledged")),
            None => Ok(()),
        }
    }

    /// Timestamps were given to somebody who asked when `asked` was the latest.
    pub(super) fn timestamps(&mut self, last: Timestamp, count: u32, asked: u64) -> Result<(), String> {
        let first = Timestamp { logical: last.logical - i64::from(count) + 1, ..last }.composed();
        if first <= asked {
            return Err(format!("T1: {first} was given after {asked}"));
        }
        if !take(&mut self.timestamps, first, last.composed()) {
            return Err(format!("T1: of {count} timestamps up to {last:?} one was given twice"));
        }
        self.latest = self.latest.max(last.composed());
        Ok(())
    }

    /// Timestamps were moved: never back, and all later ones are above.
    pub(super) fn reset(&mut self, to: Timestamp, asked: u64) -> Result<(), String> {
        if to.composed() <= asked {
            return Err(format!("T5: timestamps were moved to {to:?}, {asked} had been given"));
        }
        self.latest = self.latest.max(to.composed());
        Ok(())
    }

    /// Ids were given by a member that had been shown `shown` before it was asked.
    pub(super) fn ids(&mut self, last: u64, count: u32, shown: u64) -> Result<(), String> {
        let first = last + 1 - u64::from(count.max(1));
        if first <= shown {
            return Err(format!("D2: ids {first} to {last} were given, a node uses {shown}"));
        }
        if first == 0 || !take(&mut self.ids, first, last) {
            return Err(format!("D1: of the ids {first} to {last} one was given twice"));
        }
        Ok(())
    }
}
