//! The region index: every region by id, by key and by store, with sums at any key bounds.
//!
//! Owns: PD's rules for reports (stale epochs and terms, overlaps, unknown sizes), the regions, their order and their sums. Must
//! not know: stores beyond their ids, time, disk.
//!
//! A region has a place ([`slot`]) with a lock of its own; places hang in a sharded map by id and in chunks of some 512 by key
//! ([`chunk`]). A report that keeps the range and the version, which nearly all do, takes the region's lock, and the locks of
//! a few sums when a number changed ([`totals`]). Other reports change the order under one lock, which readers do not take
//! ([`order`]).

mod buckets;
mod chunk;
mod order;
mod read;
mod slot;
#[cfg(test)]
mod tests;
mod text;
mod totals;
mod values;

use std::sync::Arc;

pub use self::{
    buckets::BucketReport,
    text::meta_text,
    values::{Applied, Changes, Held, RangeStats, Stale, StoreRange, StoreSummary},
};
use self::{
    chunk::Chunk,
    order::{Edit, Order, Place},
    slot::{IdMap, Slot, SlotState},
    totals::{Sums, same_numbers},
};
use crate::model::{Epoch, Key, Region, RegionId, Role, StoreId};

/// Sizes (MiB) and key counts above this are taken as this: far above any real region, and so low that the sum over 16 million
/// regions still fits into 64 bits.
pub const MAX_REGION_NUMBER: u64 = 1 << 40;

/// What a region counts for that is reported for the first time, and without a size, MiB: more than nothing (PD's number).
const FIRST_SIZE_MIB: u64 = 1;

/// Regions by id, by key and by store.
#[derive(Debug, Default)]
pub struct RegionIndex {
    ids: IdMap,
    order: Order,
    sums: Sums,
}

impl RegionIndex {
    /// With chunks of other lengths, so that tests meet splits and joins among few regions.
    #[cfg(test)]
    fn with_limits(limits: order::Limits) -> Self {
        let mut index = Self::default();
        index.order.limits = limits;
        index
    }

    /// Takes a report in. PD's rules for stale epochs, terms and overlaps hold; overlapped regions leave whole. A report whose
    /// range holds no key changes nothing.
    ///
    /// # Errors
    /// [`Stale`], when something newer is known; nothing is changed then.
    pub fn apply(&self, mut report: Region) -> Result<Applied, Stale> {
        report.size_mib = report.size_mib.min(MAX_REGION_NUMBER);
        report.kv_size_mib = report.kv_size_mib.min(MAX_REGION_NUMBER);
        report.keys = report.keys.min(MAX_REGION_NUMBER);
        report.size_known |= report.size_mib > 0;
        if report.range().is_empty() {
            let origin = self.get(report.id()).unwrap_or_else(|| Arc::new(report.clone()));
            return Err(Stale { region: Box::new(report), origin });
        }
        if let Some(slot) = self.ids.get(report.id()) {
            let mut state = slot.lock();
            if state.home.is_some() && keeps_order(&state.region, &report) {
                return self.replace(&mut state, report, None);
            }
        }
        self.reorder(self.order.edit(), report)
    }

    /// Takes a region from the disk cache in. What is known under its id stays, and so does a region heard from its leader
    /// that overlaps: this may go on while heartbeats come. Gives whether it was taken.
    pub fn load(&self, region: Region) -> bool {
        let edit = self.order.edit();
        if region.range().is_empty() || self.ids.get(region.id()).is_some() {
            return false;
        }
        let near = Near::look(&edit, edit.place(&region.range().start), &region);
        let heard = |slot: &Arc<Slot>| slot.with(|known| known.heard.is_some());
        !near.others.iter().any(heard) && self.reorder(edit, region).is_ok()
    }

    /// Takes a report in that may change the order.
    fn reorder(&self, mut edit: Edit<'_>, mut report: Region) -> Result<Applied, Stale> {
        let (id, range) = (report.id(), report.range().clone());
        let place = edit.place(&range.start);
        let Near { others, newer, start, end } = Near::look(&edit, place, &report);
        if let Some(origin) = newer {
            return Err(Stale { region: Box::new(report), origin });
        }
        let Some(slot) = self.ids.get(id) else {
            // PD's rule for a first report that tells no size. (What was not reported has none: the first region of a cluster.)
            if report.size_mib == 0 && report.heard.is_some() {
                report.size_mib = FIRST_SIZE_MIB;
            }
            share_keys(&mut report, start, end);
            let removed = others.iter().filter_map(|other| self.detach(&mut edit, other)).collect();
            let region = self.attach(&mut edit, place, report);
            return Ok(Applied { region, origin: None, removed, changes: Changes::of_new() });
        };
        let mut state = slot.lock();
        check(&report, &state.region)?;
        share_keys(&mut report, start, end);
        let old_start = state.region.range().start.clone();
        let moved = old_start != range.start;
        edit.begin();
        let mut applied = self.replace(&mut state, report, moved.then(|| edit.home(place).clone()))?;
        drop(state);
        applied.removed = others.iter().filter_map(|other| self.detach(&mut edit, other)).collect();
        if moved {
            edit.unlink(&old_start, &slot);
            edit.link(place, &applied.region.range().start, &slot);
        }
        Ok(applied)
    }

    /// Puts a newer version of a region in its place, and in another home when one is given.
    fn replace(&self, state: &mut SlotState, mut report: Region, home: Option<Arc<Chunk>>) -> Result<Applied, Stale> {
        let origin = state.region.clone();
        check(&report, &origin)?;
        inherit(&mut report, &origin);
        let changes = Changes::between(&origin, &report);
        let region = Arc::new(report);
        match (&state.home, &home) {
            (Some(old), Some(new)) if !Arc::ptr_eq(old, new) => {
                old.shift(Some(&origin), None);
                new.shift(None, Some(&region));
                self.sums.shift(Some(&origin), Some(&region));
            }
            (Some(home), _) if !same_numbers(&origin, &region) => {
                home.shift(Some(&origin), Some(&region));
                self.sums.shift(Some(&origin), Some(&region));
            }
            _ => {}
        }
        state.region = region.clone();
        if home.is_some() {
            state.home = home;
        }
        Ok(Applied { region, origin: Some(origin), removed: Vec::new(), changes })
    }

    /// Puts a new region in.
    fn attach(&self, edit: &mut Edit<'_>, place: Place, report: Region) -> Arc<Region> {
        edit.begin();
        let region = Arc::new(report);
        let home = edit.home(place).clone();
        home.shift(None, Some(&region));
        self.sums.shift(None, Some(&region));
        let slot = Arc::new(Slot::new(region.clone(), home));
        edit.link(place, &region.range().start, &slot);
        self.ids.insert(region.id(), slot);
        region
    }

    /// Takes a region out as a whole; `None` when it is out already.
    fn detach(&self, edit: &mut Edit<'_>, slot: &Arc<Slot>) -> Option<Arc<Region>> {
        edit.begin();
        let region = {
            let mut state = slot.lock();
            let home = state.home.take()?;
            home.shift(Some(&state.region), None);
            self.sums.shift(Some(&state.region), None);
            state.region.clone()
        };
        self.ids.remove(region.id());
        edit.unlink(&region.range().start, slot);
        Some(region)
    }

    /// By id.
    pub fn get(&self, id: RegionId) -> Option<Arc<Region>> {
        self.ids.region(id)
    }

    /// Takes a region out.
    pub fn remove(&self, id: RegionId) -> Option<Arc<Region>> {
        let mut edit = self.order.edit();
        let slot = self.ids.get(id)?;
        self.detach(&mut edit, &slot)
    }

    /// Takes all regions out.
    pub fn clear(&self) {
        let mut edit = self.order.edit();
        let mut slots = Vec::new();
        edit.each(|slot| slots.push(slot.clone()));
        for slot in slots.iter().rev() {
            self.detach(&mut edit, slot);
        }
    }

    /// Counts every region as not heard, for a new leader: see [`RegionIndex::heard_count`].
    pub fn forget_heard(&self) {
        let edit = self.order.edit();
        edit.each(|slot| {
            let mut state = slot.lock();
            if state.region.heard.is_some() {
                let origin = state.region.clone();
                let region = Arc::new(Region { heard: None, ..Region::clone(&origin) });
                if let Some(home) = &state.home {
                    home.shift(Some(&origin), Some(&region));
                }
                self.sums.shift(Some(&origin), Some(&region));
                state.region = region;
            }
        });
    }

    /// How many regions.
    pub fn len(&self) -> usize {
        usize::try_from(self.sums.count()).unwrap_or(usize::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts and sizes of one store.
    pub fn summary(&self, store: StoreId) -> StoreSummary {
        self.sums.summary(store)
    }

    /// What has come to a store less what has gone from it since this process began, MiB: by regions that were known with other
    /// peers before, not by regions that grew, split or were first heard of.
    pub fn moved_mib(&self, store: StoreId) -> i64 {
        self.sums.moved(store)
    }

    /// How many of a store's regions.
    pub fn count_of_store(&self, store: StoreId, held: Held) -> u64 {
        self.sums.held(store, held)
    }

    /// How many regions were heard from their leader since this process leads (not only known from disk).
    pub fn heard_count(&self) -> u64 {
        self.sums.heard()
    }

    /// The same, of the regions with a peer on `store`.
    pub fn heard_on(&self, store: StoreId) -> u64 {
        self.sums.heard_on(store)
    }

    /// Which role a peer has for [`Held`].
    pub fn held_by_role(role: Role) -> Held {
        match role {
            Role::Learner => Held::Learner,
            Role::Voter | Role::IncomingVoter | Role::DemotingVoter => Held::Follower,
        }
    }
}

impl Drop for RegionIndex {
    /// Places and chunks know each other: they would keep each other alive.
    fn drop(&mut self) {
        self.order.once(|directory| {
            for entry in &directory.entries {
                for leaf in std::mem::take(&mut *entry.chunk.leaves.write()) {
                    leaf.slot.lock().home = None;
                }
            }
        });
    }
}

/// Whether a report can be taken in without a look at other regions. A higher version goes the long way round although the
/// range is the same: overlap checks compare versions and must not be overtaken.
fn keeps_order(origin: &Region, report: &Region) -> bool {
    report.epoch().version <= origin.epoch().version
        && (Arc::ptr_eq(&origin.meta, &report.meta) || origin.range() == report.range())
}

/// Whether a region was made anew by unsafe recovery: PD tells by its epoch, and leaves the first region of a cluster, which
/// covers everything, out.
fn is_recreated(region: &Region) -> bool {
    let range = region.range();
    region.epoch() == Epoch::new(1, 1) && !(range.start.is_empty() && range.end.is_empty())
}

/// Whether a report may replace what is known under its id. A term of 0 is unknown.
fn check(report: &Region, origin: &Arc<Region>) -> Result<(), Stale> {
    let behind = report.term > 0 && report.term < origin.term;
    if (behind || report.epoch().is_older_than(origin.epoch())) && !is_recreated(report) {
        return Err(Stale { region: Box::new(report.clone()), origin: origin.clone() });
    }
    Ok(())
}

/// Takes over what the report does not tell (a size of 0 is unknown) and shares what did not change.
fn inherit(report: &mut Region, origin: &Region) {
    if let Some(buckets) = origin.buckets() {
        report.rare.get_or_insert_default().buckets = Some(buckets.clone());
    }
    if report.size_mib == 0 {
        report.size_mib = origin.size_mib;
        report.size_known = origin.size_known;
    }
    if report.meta == origin.meta {
        report.meta = origin.meta.clone();
    } else if report.range() == origin.range() {
        Arc::make_mut(&mut report.meta).range = origin.range().clone();
    }
}

/// What stands where a report wants to be.
#[derive(Default)]
struct Near {
    /// Regions of other ids that share a key with the report, in key order.
    others: Vec<Arc<Slot>>,
    /// The first of all that is newer than the report.
    newer: Option<Arc<Region>>,
    /// The bytes of the report's start and end where a region there has the same bound.
    start: Option<Key>,
    end: Option<Key>,
}

impl Near {
    fn look(edit: &Edit<'_>, place: Place, report: &Region) -> Self {
        let (range, recreated) = (report.range(), is_recreated(report));
        let mut near = Self::default();
        edit.each_near(place, range, |slot| {
            slot.with(|region| {
                let there = region.range();
                for bound in [&there.start, &there.end] {
                    if *bound == range.start {
                        near.start = Some(bound.clone());
                    }
                    if *bound == range.end {
                        near.end = Some(bound.clone());
                    }
                }
                if there.overlaps(range) {
                    if report.epoch().version < region.epoch().version && !recreated {
                        near.newer = Some(region.clone());
                        return false;
                    }
                    if region.id() != report.id() {
                        near.others.push(slot.clone());
                    }
                }
                true
            })
        });
        near
    }
}

/// Shares the bytes of the bounds with regions that have the same ones.
fn share_keys(report: &mut Region, start: Option<Key>, end: Option<Key>) {
    if start.is_none() && end.is_none() {
        return;
    }
    let range = &mut Arc::make_mut(&mut report.meta).range;
    if let Some(start) = start {
        range.start = start;
    }
    if let Some(end) = end {
        range.end = end;
    }
}
