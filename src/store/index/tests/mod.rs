//! The index against a list that is searched from end to end, and against itself under threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod model;
mod rules;
mod threads;

use std::sync::Arc;

use super::{order::Limits, *};
use crate::model::{DownPeer, Key, KeyRange, Mono, Peer, PeerId, RegionMeta};

const STORES: u64 = 5;
const KEYS: u16 = 60;
const HELD: [Held; 6] = [Held::Leader, Held::Follower, Held::Learner, Held::Pending, Held::Witness, Held::Any];

/// Small chunks, so that a few dozen regions already split and join them.
fn small() -> RegionIndex {
    RegionIndex::with_limits(Limits { max: 6, fill: 4, min: 2 })
}

/// Key number `n`; 0 and `KEYS` are the ends of the key space.
fn key(n: u16) -> Key {
    if n == 0 || n >= KEYS { Key::empty() } else { Key::from(n.to_be_bytes().as_slice()) }
}

fn range(start: u16, end: u16) -> KeyRange {
    KeyRange::new(key(start), key(end))
}

fn region(id: u64, start: u16, end: u16, conf_ver: u64, version: u64) -> Region {
    let peers = (1..=3).map(|at| Peer::voter(id * 100 + at, (id + at) % STORES + 1)).collect();
    let meta = RegionMeta { id: RegionId(id), range: range(start, end), epoch: Epoch::new(conf_ver, version), peers };
    Region {
        leader: Some(PeerId(id * 100 + 1)),
        meta: Arc::new(meta),
        size_mib: 10,
        size_known: true,
        keys: 100,
        heard: Some(Mono(1)),
        ..Region::default()
    }
}

/// The same rules over a list in key order.
#[derive(Default)]
struct Naive(Vec<Region>);

impl Naive {
    /// Ids that left, or `Err` for a stale report.
    fn apply(&mut self, mut report: Region) -> Result<Vec<RegionId>, ()> {
        if report.range().is_empty() {
            return Err(());
        }
        let all = report.range().start.is_empty() && report.range().end.is_empty();
        let recreated = report.epoch() == Epoch::new(1, 1) && !all;
        let range = report.range().clone();
        let touches = |r: &Region| r.range().overlaps(&range);
        let origin = self.0.iter().find(|r| r.id() == report.id()).cloned();
        if !recreated {
            if self.0.iter().any(|r| touches(r) && r.epoch().version > report.epoch().version) {
                return Err(());
            }
            if let Some(origin) = &origin
                && (report.epoch().is_older_than(origin.epoch()) || (report.term != 0 && report.term < origin.term))
            {
                return Err(());
            }
        }
        report.size_known |= report.size_mib > 0;
        if let Some(origin) = &origin
            && report.size_mib == 0
        {
            (report.size_mib, report.size_known) = (origin.size_mib, origin.size_known);
        }
        if origin.is_none() && report.size_mib == 0 && report.heard.is_some() {
            report.size_mib = 1;
        }
        let left: Vec<_> = self.0.iter().filter(|r| r.id() != report.id() && touches(r)).map(Region::id).collect();
        self.0.retain(|r| r.id() != report.id() && !left.contains(&r.id()));
        self.0.push(report);
        self.0.sort_by(|a, b| a.range().start.cmp(&b.range().start));
        Ok(left)
    }

    fn in_range(&self, range: &KeyRange) -> Vec<&Region> {
        self.0.iter().filter(|r| r.range().overlaps(range)).collect()
    }

    fn stats(&self, range: &KeyRange) -> RangeStats {
        let mut stats = RangeStats::default();
        for region in self.in_range(range) {
            stats.count += 1;
            stats.empty_count += u64::from(region.size_known && region.size_mib <= 1);
            stats.size_mib += region.size_mib;
            stats.kv_size_mib += region.kv_size_mib;
            stats.keys += region.keys;
            for peer in region.peers() {
                let store: &mut StoreRange = stats.stores.entry(peer.store).or_default();
                store.peer_count += 1;
                store.peer_size_mib += region.size_mib;
                store.peer_keys += region.keys;
                if region.leader == Some(peer.id) {
                    store.leader_count += 1;
                    store.leader_size_mib += region.size_mib;
                    store.leader_keys += region.keys;
                }
            }
        }
        stats
    }

    fn held(&self, store: StoreId, held: Held) -> Vec<RegionId> {
        self.0.iter().filter(|r| held.matches(r, store)).map(Region::id).collect()
    }

    fn summary(&self, store: StoreId) -> StoreSummary {
        let count = |held| self.held(store, held).len() as u64;
        let size = |held: Held| self.0.iter().filter(|r| held.matches(r, store)).map(|r| r.size_mib).sum();
        StoreSummary {
            leader_count: count(Held::Leader),
            region_count: count(Held::Any),
            learner_count: count(Held::Learner),
            witness_count: count(Held::Witness),
            pending_count: count(Held::Pending),
            leader_size_mib: size(Held::Leader),
            region_size_mib: size(Held::Any),
        }
    }

    fn by_key(&self, key: &[u8]) -> Option<usize> {
        self.0.iter().position(|r| r.range().contains(key))
    }

    fn prev_of(&self, at: usize) -> Option<&Region> {
        let prev = &self.0[at.checked_sub(1)?];
        (prev.range().end == self.0[at].range().start).then_some(prev)
    }

    fn holes(&self, range: &KeyRange) -> Vec<KeyRange> {
        // Key by key: every bound is one of the numbered keys.
        let covered = |n: u16| self.by_key(&key(n)).is_some();
        let mut holes: Vec<KeyRange> = Vec::new();
        for n in (0..KEYS).filter(|&n| range.contains(&key(n)) && !covered(n)) {
            match holes.last_mut() {
                Some(last) if last.end == key(n) => last.end = key(n + 1),
                _ => holes.push(KeyRange { start: key(n), end: key(n + 1) }),
            }
        }
        holes
    }
}

/// Every read function of the index gives what the list gives.
fn assert_same(index: &RegionIndex, naive: &Naive, bounds: (u16, u16)) {
    let list = index.scan(&KeyRange::all(), usize::MAX);
    assert_eq!(list.iter().map(|r| Region::clone(r)).collect::<Vec<_>>(), naive.0);
    assert_eq!(index.len(), naive.0.len());
    for pair in list.windows(2) {
        assert!(pair[0].range().end <= pair[1].range().start && !pair[0].range().end.is_empty(), "H2: overlap");
    }
    for region in &naive.0 {
        assert_eq!(index.get(region.id()).as_deref(), Some(region));
    }
    let range = range(bounds.0, bounds.1);
    for range in [range, KeyRange::all()] {
        let wanted = naive.in_range(&range);
        for limit in [0, 1, 3, usize::MAX] {
            let found = index.scan(&range, limit);
            assert!(found.iter().map(|r| &**r).eq(wanted.iter().copied().take(limit)), "{range:?} {limit}");
        }
        assert_eq!(index.stats(&range), naive.stats(&range), "{range:?}");
        assert_eq!(index.count(&range), wanted.len() as u64);
        assert_eq!(index.holes(&range, usize::MAX), naive.holes(&range), "{range:?}");
    }
    for n in 0..KEYS {
        let at = naive.by_key(&key(n));
        assert_eq!(index.by_key(&key(n)).as_deref(), at.map(|at| &naive.0[at]));
        assert_eq!(index.prev_of_key(&key(n)).as_deref(), at.and_then(|at| naive.prev_of(at)));
    }
    for (at, region) in naive.0.iter().enumerate() {
        let next = naive.0.get(at + 1).filter(|next| next.range().start == region.range().end);
        let (before, after) = index.neighbours(region);
        assert_eq!((before.as_deref(), after.as_deref()), (naive.prev_of(at), next));
    }
    let heard = naive.0.iter().filter(|r| r.heard.is_some());
    assert_eq!(index.heard_count(), heard.clone().count() as u64);
    for store in (1..=STORES + 1).map(StoreId) {
        assert_eq!(index.summary(store), naive.summary(store));
        assert_eq!(index.heard_on(store), heard.clone().filter(|r| Held::Any.matches(r, store)).count() as u64);
        for held in HELD {
            assert_same_held(index, naive, store, held);
        }
    }
}

fn assert_same_held(index: &RegionIndex, naive: &Naive, store: StoreId, held: Held) {
    let wanted = naive.held(store, held);
    assert_eq!(index.of_store(store, held, usize::MAX), wanted);
    assert_eq!(index.of_store(store, held, 2).len(), wanted.len().min(2));
    assert_eq!(index.count_of_store(store, held), wanted.len() as u64);
    let (mut paged, mut from) = (Vec::new(), Key::empty());
    loop {
        let (ids, more) = index.of_store_from(store, held, &from, 2);
        paged.extend(ids);
        let Some(key) = more else { break };
        from = key;
    }
    assert_eq!(paged, wanted);
    let drawn: std::collections::BTreeSet<_> =
        (0..wanted.len() as u64).filter_map(|n| index.random_of_store(store, held, n)).map(|r| r.id()).collect();
    assert_eq!(drawn, wanted.into_iter().collect(), "each is drawn by one number");
}
