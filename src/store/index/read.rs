//! Reading the index: by key, by range, by store.
//!
//! Owns: every read that meets more than one region. Must not know: how reports change the index.

use std::{ops::Bound, sync::Arc};

use super::{
    RegionIndex,
    chunk::Directory,
    totals::Totals,
    values::{Held, RangeStats},
};
use crate::model::{
    Key, KeyRange, Region, RegionId, StoreId,
    key::{before_end, cmp_ends},
};

impl RegionIndex {
    /// The region that holds `key`.
    pub fn by_key(&self, key: &[u8]) -> Option<Arc<Region>> {
        // A region that was met holds the key whatever moves meanwhile; only "none" has to be made sure of.
        self.order
            .once(|directory| holder(directory, key))
            .or_else(|| self.order.stable(|directory| holder(directory, key)))
    }

    /// The region just before the one that holds `key`; `None` when either is missing or there is a hole between them.
    pub fn prev_of_key(&self, key: &[u8]) -> Option<Arc<Region>> {
        self.order.stable(|directory| holder(directory, key).and_then(|region| before(directory, &region)))
    }

    /// The neighbours before and after, when they are adjacent.
    pub fn neighbours(&self, region: &Region) -> (Option<Arc<Region>>, Option<Arc<Region>>) {
        self.order.stable(|directory| (before(directory, region), after(directory, region)))
    }

    /// The regions that touch `range`, in key order, at most `limit`. As in PD a range without keys still touches the region
    /// that holds both its bounds, unless it starts there.
    pub fn scan(&self, range: &KeyRange, limit: usize) -> Vec<Arc<Region>> {
        self.collect(&range.start, &range.end, limit)
    }

    /// The region that holds `key` and those after it, at most `limit`: what a patrol goes through.
    pub fn iter_from(&self, key: &[u8], limit: usize) -> Vec<Arc<Region>> {
        self.collect(key, &[], limit)
    }

    fn collect(&self, start: &[u8], end: &[u8], limit: usize) -> Vec<Arc<Region>> {
        if limit == 0 {
            return Vec::new();
        }
        self.order.stable(|directory| {
            let mut found: Vec<_> = reaching_in(directory, start, end).into_iter().collect();
            if found.len() < limit {
                directory.each_start(from(start, &found), end, |leaf| {
                    found.push(leaf.slot.region());
                    found.len() < limit
                });
            }
            found
        })
    }

    /// Sums over `range`, from the aggregate: no scan over regions but for the chunks at both ends.
    pub fn stats(&self, range: &KeyRange) -> RangeStats {
        self.order.stable(|directory| {
            let mut sum = Totals::default();
            add_up(directory, range, &mut |part| match part {
                Part::Chunk(totals) => sum.absorb(totals),
                Part::Region(region) => sum.shift(None, Some(region)),
            });
            sum.stats()
        })
    }

    /// How many regions touch `range`.
    pub fn count(&self, range: &KeyRange) -> u64 {
        self.order.stable(|directory| {
            let mut count = 0;
            add_up(directory, range, &mut |part| match part {
                Part::Chunk(totals) => count += totals.count(),
                Part::Region(_) => count += 1,
            });
            count
        })
    }

    /// The parts of `range` that no region holds, in key order, at most `limit`.
    pub fn holes(&self, range: &KeyRange, limit: usize) -> Vec<KeyRange> {
        if range.is_empty() || limit == 0 {
            return Vec::new();
        }
        self.order.stable(|directory| {
            let mut holes = Vec::new();
            // `None` once the covered part reaches the end of the key space.
            let mut covered = Some(range.start.clone());
            let mut see = |region: &Region| {
                let Some(until) = covered.take() else { return false };
                if *until < *region.range().start {
                    holes.push(KeyRange { start: until, end: region.range().start.clone() });
                }
                covered = Some(region.range().end.clone()).filter(|end| !end.is_empty());
                covered.is_some() && holes.len() < limit
            };
            let first = reaching_in(directory, &range.start, &range.end);
            if first.as_ref().is_none_or(|region| see(region)) {
                directory
                    .each_start(from(&range.start, first.as_slice()), &range.end, |leaf| leaf.slot.with(|r| see(r)));
            }
            if let Some(until) = covered.filter(|key| before_end(key, &range.end) && holes.len() < limit) {
                holes.push(KeyRange { start: until, end: range.end.clone() });
            }
            holes
        })
    }

    /// Ids of a store's regions, at most `limit`, in no order that callers may rely on.
    pub fn of_store(&self, store: StoreId, held: Held, limit: usize) -> Vec<RegionId> {
        self.of_store_from(store, held, &[], limit).0
    }

    /// Ids of a store's regions that start at `key` or after it, in key order, at most `limit`; and the start key to go on from
    /// when there are more.
    pub fn of_store_from(&self, store: StoreId, held: Held, key: &[u8], limit: usize) -> (Vec<RegionId>, Option<Key>) {
        if self.sums.held(store, held) == 0 {
            return (Vec::new(), None);
        }
        self.order.stable(|directory| {
            let mut ids = Vec::new();
            let mut more = None;
            each_held(directory, store, held, key, &mut |start, region| {
                if ids.len() == limit {
                    more = Some(start.clone());
                    return false;
                }
                ids.push(region.id());
                true
            });
            (ids, more)
        })
    }

    /// One of a store's regions, each as likely as the other; `random` is any number drawn evenly.
    pub fn random_of_store(&self, store: StoreId, held: Held, random: u64) -> Option<Arc<Region>> {
        let total = self.sums.held(store, held);
        let nth = random.checked_rem(total)?;
        self.order.stable(|directory| {
            let mut skip = nth;
            let mut last = None;
            for entry in &directory.entries {
                let here = entry.chunk.totals.lock().held(store, held);
                if skip >= here {
                    skip -= here;
                    continue;
                }
                for leaf in entry.chunk.leaves.read().iter() {
                    let Some(region) = leaf.slot.with(|r| held.matches(r, store).then(|| r.clone())) else { continue };
                    if skip == 0 {
                        return Some(region);
                    }
                    skip -= 1;
                    last = Some(region);
                }
                // Some moved away between the count and this look: go on with what was met last.
                if last.is_some() {
                    break;
                }
            }
            last
        })
    }
}

/// The region that holds `key`.
fn holder(directory: &Directory, key: &[u8]) -> Option<Arc<Region>> {
    let region = directory.last_until(Bound::Included(key))?.region();
    region.range().contains(key).then_some(region)
}

/// The region that ends where `region` starts.
fn before(directory: &Directory, region: &Region) -> Option<Arc<Region>> {
    let start = &region.range().start;
    let before = directory.last_until(Bound::Excluded(start))?.region();
    (before.range().end == *start).then_some(before)
}

/// The region that starts where `region` ends.
fn after(directory: &Directory, region: &Region) -> Option<Arc<Region>> {
    let end = &region.range().end;
    if end.is_empty() {
        return None;
    }
    let after = directory.last_until(Bound::Included(end))?.region();
    (after.range().start == *end).then_some(after)
}

/// The region that holds `start`, when it starts before `end`.
fn reaching_in(directory: &Directory, start: &[u8], end: &[u8]) -> Option<Arc<Region>> {
    holder(directory, start).filter(|region| before_end(&region.range().start, end))
}

/// Where to go on: after the region that was found, or with what starts at `start`.
fn from<'a>(start: &'a [u8], found: &[Arc<Region>]) -> Bound<&'a [u8]> {
    if found.is_empty() { Bound::Included(start) } else { Bound::Excluded(start) }
}

/// What a range consists of.
enum Part<'a> {
    /// All regions of a chunk.
    Chunk(&'a Totals),
    /// One region.
    Region(&'a Region),
}

/// Calls `f` for the parts that make up the regions that touch `range`.
fn add_up(directory: &Directory, range: &KeyRange, f: &mut impl FnMut(Part<'_>)) {
    let (start, end) = (&range.start, &range.end);
    let first = reaching_in(directory, start, end);
    if let Some(region) = first.as_ref().filter(|region| *region.range().start < **start) {
        f(Part::Region(region));
    }
    let entries = &directory.entries;
    let position = directory.position(start);
    for (at, entry) in entries.iter().enumerate().skip(position) {
        if !before_end(&entry.low, end) {
            return;
        }
        let next = entries.get(at + 1).map_or(&[][..], |next| &next.low);
        if *entry.low >= **start && cmp_ends(next, end).is_le() {
            f(Part::Chunk(&entry.chunk.totals.lock()));
            continue;
        }
        let leaves = entry.chunk.leaves.read();
        let begin = super::chunk::lower_bound(&leaves, Bound::Included(start));
        for leaf in leaves[begin..].iter().take_while(|leaf| before_end(&leaf.start, end)) {
            leaf.slot.with(|region| f(Part::Region(region)));
        }
    }
}

/// Calls `f` for each of a store's regions that starts at `key` or after it until it returns `false`. Chunks in which the store
/// has none of that sort are passed over.
fn each_held(directory: &Directory, store: StoreId, held: Held, key: &[u8], f: &mut impl FnMut(&Key, &Region) -> bool) {
    for entry in &directory.entries[directory.position(key)..] {
        if entry.chunk.totals.lock().held(store, held) == 0 {
            continue;
        }
        let leaves = entry.chunk.leaves.read();
        let begin = super::chunk::lower_bound(&leaves, Bound::Included(key));
        for leaf in &leaves[begin..] {
            if !leaf.slot.with(|region| !held.matches(region, store) || f(&leaf.start, region)) {
                return;
            }
        }
    }
}
