//! Sums over regions: of one chunk, of one store, of everything.
//!
//! Owns: what one region adds to a sum, and how a sum moves from one version of a region to the next. Must not know: keys, order.
//! Sums are exact because each region's part is taken out with the very values it was put in with, under the region's lock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::values::{Held, RangeStats, StoreRange, StoreSummary};
use crate::model::{Peer, Region, StoreId};

/// A region that is known to hold no more than this counts as empty, MiB (PD's number: nodes report at least 1).
const EMPTY_SIZE_MIB: u64 = 1;

/// Ways that the sums by store are split up, so that heartbeats about different stores rarely meet.
const SUM_SHARDS: usize = 16;

/// Stores whose moves are summed up, in each of these: far above any real cluster.
const MOST_MOVED: usize = 4096;

/// One store's part of a set of regions. Sizes in MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct StoreTotals {
    peers: u32,
    leaders: u32,
    followers: u32,
    learners: u32,
    witnesses: u32,
    pending: u32,
    heard: u32,
    leader_size: u64,
    leader_keys: u64,
    peer_size: u64,
    peer_keys: u64,
}

impl StoreTotals {
    /// What `peer` of `region` adds for its store.
    fn of(region: &Region, peer: &Peer) -> Self {
        let leads = region.leader == Some(peer.id);
        let votes = peer.role.votes();
        let led = |value: u64| if leads { value } else { 0 };
        Self {
            peers: 1,
            leaders: u32::from(leads),
            followers: u32::from(votes && !leads),
            learners: u32::from(!votes),
            witnesses: u32::from(peer.is_witness),
            pending: u32::from(region.is_pending(peer.id)),
            heard: u32::from(region.heard.is_some()),
            leader_size: led(region.size_mib),
            leader_keys: led(region.keys),
            peer_size: region.size_mib,
            peer_keys: region.keys,
        }
    }

    fn add(&mut self, other: &Self) {
        self.peers += other.peers;
        self.leaders += other.leaders;
        self.followers += other.followers;
        self.learners += other.learners;
        self.witnesses += other.witnesses;
        self.pending += other.pending;
        self.heard += other.heard;
        self.leader_size += other.leader_size;
        self.leader_keys += other.leader_keys;
        self.peer_size += other.peer_size;
        self.peer_keys += other.peer_keys;
    }

    fn sub(&mut self, other: &Self) {
        self.peers -= other.peers;
        self.leaders -= other.leaders;
        self.followers -= other.followers;
        self.learners -= other.learners;
        self.witnesses -= other.witnesses;
        self.pending -= other.pending;
        self.heard -= other.heard;
        self.leader_size -= other.leader_size;
        self.leader_keys -= other.leader_keys;
        self.peer_size -= other.peer_size;
        self.peer_keys -= other.peer_keys;
    }

    /// How many regions of this sort.
    pub(super) fn held(&self, held: Held) -> u64 {
        u64::from(match held {
            Held::Leader => self.leaders,
            Held::Follower => self.followers,
            Held::Learner => self.learners,
            Held::Pending => self.pending,
            Held::Witness => self.witnesses,
            Held::Any => self.peers,
        })
    }

    fn summary(&self) -> StoreSummary {
        StoreSummary {
            leader_count: u64::from(self.leaders),
            region_count: u64::from(self.peers),
            learner_count: u64::from(self.learners),
            witness_count: u64::from(self.witnesses),
            pending_count: u64::from(self.pending),
            leader_size_mib: self.leader_size,
            region_size_mib: self.peer_size,
        }
    }

    fn range(&self) -> StoreRange {
        StoreRange {
            leader_count: u64::from(self.leaders),
            peer_count: u64::from(self.peers),
            leader_size_mib: self.leader_size,
            leader_keys: self.leader_keys,
            peer_size_mib: self.peer_size,
            peer_keys: self.peer_keys,
        }
    }
}

/// Store totals in order of the store: a cluster has few stores, and sorted rows add up in one pass.
#[derive(Clone, Debug, Default)]
struct StoreRows(Vec<(StoreId, StoreTotals)>);

impl StoreRows {
    fn get(&self, store: StoreId) -> Option<&StoreTotals> {
        let at = self.0.binary_search_by_key(&store, |row| row.0).ok()?;
        self.0.get(at).map(|row| &row.1)
    }

    /// Moves one store's row; a row without peers goes.
    fn shift(&mut self, store: StoreId, minus: Option<&StoreTotals>, plus: Option<&StoreTotals>) {
        let at = match self.0.binary_search_by_key(&store, |row| row.0) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (store, StoreTotals::default()));
                at
            }
        };
        let row = &mut self.0[at].1;
        // Addition first: the row never goes below zero in between.
        if let Some(plus) = plus {
            row.add(plus);
        }
        if let Some(minus) = minus {
            row.sub(minus);
        }
        if row.peers == 0 {
            self.0.remove(at);
        }
    }

    fn absorb(&mut self, other: &StoreRows) {
        let mut at = 0;
        for (store, totals) in &other.0 {
            while self.0.get(at).is_some_and(|row| row.0 < *store) {
                at += 1;
            }
            match self.0.get_mut(at) {
                Some(row) if row.0 == *store => row.1.add(totals),
                _ => self.0.insert(at, (*store, *totals)),
            }
        }
    }
}

/// Calls `f(store, minus, plus)` for each peer whose part differs between two versions of a region. Peers are matched by their
/// place in the list, which heartbeats keep; where they do not match, the old part goes and the new one comes on its own.
fn each_change(
    old: Option<&Region>,
    new: Option<&Region>,
    mut f: impl FnMut(StoreId, Option<&StoreTotals>, Option<&StoreTotals>),
) {
    let (was, is) = (old.map_or(&[][..], Region::peers), new.map_or(&[][..], Region::peers));
    for at in 0..was.len().max(is.len()) {
        let minus = old.zip(was.get(at)).map(|(region, peer)| (peer.store, StoreTotals::of(region, peer)));
        let plus = new.zip(is.get(at)).map(|(region, peer)| (peer.store, StoreTotals::of(region, peer)));
        match (&minus, &plus) {
            (Some((a, minus)), Some((b, plus))) if a == b => {
                if minus != plus {
                    f(*a, Some(minus), Some(plus));
                }
            }
            _ => {
                if let Some((store, minus)) = &minus {
                    f(*store, Some(minus), None);
                }
                if let Some((store, plus)) = &plus {
                    f(*store, None, Some(plus));
                }
            }
        }
    }
}

/// Calls `f(store, mib)` for each store that a region came to between two versions of it, and less than nothing for one that it left.
fn each_move(old: &Region, new: &Region, mut f: impl FnMut(StoreId, i64)) {
    if Arc::ptr_eq(&old.meta, &new.meta) {
        return;
    }
    let mib = |region: &Region| i64::try_from(region.size_mib).unwrap_or(i64::MAX);
    for left in old.peers().iter().filter(|p| new.meta.peer_on(p.store).is_none()) {
        f(left.store, mib(old).saturating_neg());
    }
    for came in new.peers().iter().filter(|p| old.meta.peer_on(p.store).is_none()) {
        f(came.store, mib(new));
    }
}

/// Whether every sum stays as it is between two versions of a region.
pub(super) fn same_numbers(old: &Region, new: &Region) -> bool {
    (Arc::ptr_eq(&old.meta, &new.meta) || old.peers() == new.peers())
        && old.leader == new.leader
        && old.size_mib == new.size_mib
        && old.size_known == new.size_known
        && old.kv_size_mib == new.kv_size_mib
        && old.keys == new.keys
        && old.heard.is_some() == new.heard.is_some()
        && old.pending == new.pending
}

fn is_empty(region: &Region) -> bool {
    region.size_known && region.size_mib <= EMPTY_SIZE_MIB
}

/// Sums over a set of regions.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    count: u64,
    empty: u64,
    size: u64,
    kv_size: u64,
    keys: u64,
    stores: StoreRows,
}

impl Totals {
    /// Goes from the old version of a region to the new one; `None` is "not among these".
    pub(super) fn shift(&mut self, old: Option<&Region>, new: Option<&Region>) {
        if let Some(region) = new {
            self.count += 1;
            self.empty += u64::from(is_empty(region));
            self.size += region.size_mib;
            self.kv_size += region.kv_size_mib;
            self.keys += region.keys;
        }
        if let Some(region) = old {
            self.count -= 1;
            self.empty -= u64::from(is_empty(region));
            self.size -= region.size_mib;
            self.kv_size -= region.kv_size_mib;
            self.keys -= region.keys;
        }
        each_change(old, new, |store, minus, plus| self.stores.shift(store, minus, plus));
    }

    /// Adds another set's sums.
    pub(super) fn absorb(&mut self, other: &Totals) {
        self.count += other.count;
        self.empty += other.empty;
        self.size += other.size;
        self.kv_size += other.kv_size;
        self.keys += other.keys;
        self.stores.absorb(&other.stores);
    }

    /// How many regions.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many of a store's regions.
    pub(super) fn held(&self, store: StoreId, held: Held) -> u64 {
        self.stores.get(store).map_or(0, |totals| totals.held(held))
    }

    /// As others see it.
    pub(super) fn stats(&self) -> RangeStats {
        RangeStats {
            count: self.count,
            empty_count: self.empty,
            size_mib: self.size,
            kv_size_mib: self.kv_size,
            keys: self.keys,
            stores: self.stores.0.iter().map(|(store, totals)| (*store, totals.range())).collect(),
        }
    }
}

/// Sums of some stores.
#[derive(Debug, Default)]
struct Shard {
    rows: StoreRows,
    /// What came less what went, MiB. Unlike a row it outlives the last peer.
    moved: BTreeMap<StoreId, i64>,
}

impl Shard {
    fn note_move(&mut self, store: StoreId, mib: i64) {
        if self.moved.len() < MOST_MOVED || self.moved.contains_key(&store) {
            let sum = self.moved.entry(store).or_default();
            *sum = sum.saturating_add(mib);
        }
    }
}

/// Sums over all regions, by store and in all.
#[derive(Debug, Default)]
pub(super) struct Sums {
    shards: [Mutex<Shard>; SUM_SHARDS],
    count: AtomicU64,
    heard: AtomicU64,
}

impl Sums {
    #[allow(clippy::cast_possible_truncation)]
    fn shard(&self, store: StoreId) -> &Mutex<Shard> {
        &self.shards[store.0 as usize % SUM_SHARDS]
    }

    /// As [`Totals::shift`].
    pub(super) fn shift(&self, old: Option<&Region>, new: Option<&Region>) {
        let heard = |region: Option<&Region>| region.is_some_and(|r| r.heard.is_some());
        step(&self.count, old.is_some(), new.is_some());
        step(&self.heard, heard(old), heard(new));
        each_change(old, new, |store, minus, plus| self.shard(store).lock().rows.shift(store, minus, plus));
        if let (Some(old), Some(new)) = (old, new) {
            each_move(old, new, |store, mib| self.shard(store).lock().note_move(store, mib));
        }
    }

    /// How many regions.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many of them were heard from their leader.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// How many regions with a peer on `store` were heard.
    pub(super) fn heard_on(&self, store: StoreId) -> u64 {
        self.shard(store).lock().rows.get(store).map_or(0, |totals| u64::from(totals.heard))
    }

    /// How many of a store's regions.
    pub(super) fn held(&self, store: StoreId, held: Held) -> u64 {
        self.shard(store).lock().rows.get(store).map_or(0, |totals| totals.held(held))
    }

    /// What came to a store less what went from it, MiB.
    pub(super) fn moved(&self, store: StoreId) -> i64 {
        self.shard(store).lock().moved.get(&store).copied().unwrap_or(0)
    }

    /// One store.
    pub(super) fn summary(&self, store: StoreId) -> StoreSummary {
        self.shard(store).lock().rows.get(store).map(StoreTotals::summary).unwrap_or_default()
    }
}

/// Moves a count from one state of a region to the next.
fn step(count: &AtomicU64, was: bool, is: bool) {
    match (was, is) {
        (false, true) => {
            count.fetch_add(1, Ordering::Relaxed);
        }
        (true, false) => {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        (false, false) | (true, true) => {}
    }
}
