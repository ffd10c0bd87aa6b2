//! A run of regions that follow each other in key order, with its sums, and the published list of all such runs.
//!
//! Owns: order inside a chunk and the search for a key. Must not know: who may change it (see [`super::order`]).

use std::{ops::Bound, sync::Arc};

use parking_lot::{Mutex, RwLock};

use super::{slot::Slot, totals::Totals};
use crate::model::{Key, Region};

/// One region in key order. Its start key stands here too, so that a search does not touch the regions.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) start: Key,
    pub(super) slot: Arc<Slot>,
}

/// The regions whose start keys lie between this chunk's lower bound and the next one's. A region may reach beyond its chunk.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// By start key, all different.
    pub(super) leaves: RwLock<Vec<Leaf>>,
    /// Sums over the regions whose home this is.
    pub(super) totals: Mutex<Totals>,
}

impl Chunk {
    /// Goes on from the sums of `old` to those of `new`.
    pub(super) fn shift(&self, old: Option<&Region>, new: Option<&Region>) {
        self.totals.lock().shift(old, new);
    }
}

/// Where leaves that start at or after `bound` begin.
pub(super) fn lower_bound(leaves: &[Leaf], bound: Bound<&[u8]>) -> usize {
    leaves.partition_point(|leaf| match bound {
        Bound::Included(key) => &*leaf.start < key,
        Bound::Excluded(key) => &*leaf.start <= key,
        Bound::Unbounded => false,
    })
}

/// A chunk and the least start key that belongs in it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) low: Key,
    pub(super) chunk: Arc<Chunk>,
}

/// All chunks in key order. Never changed once published; never empty; the first lower bound is the empty key.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { entries: vec![Entry { low: Key::empty(), chunk: Arc::default() }] }
    }
}

impl Directory {
    /// Which chunk a region that starts at `key` belongs in.
    pub(super) fn position(&self, key: &[u8]) -> usize {
        self.entries.partition_point(|entry| &*entry.low <= key).saturating_sub(1)
    }

    /// The last region that starts at or (for `Excluded`) before the key.
    pub(super) fn last_until(&self, bound: Bound<&[u8]>) -> Option<Arc<Slot>> {
        let (key, after) = match bound {
            Bound::Included(key) => (key, Bound::Excluded(key)),
            Bound::Excluded(key) => (key, Bound::Included(key)),
            Bound::Unbounded => return None,
        };
        let position = self.position(key);
        self.entries[..=position].iter().rev().find_map(|entry| {
            let leaves = entry.chunk.leaves.read();
            let at = lower_bound(&leaves, after).checked_sub(1)?;
            leaves.get(at).map(|leaf| leaf.slot.clone())
        })
    }

    /// Calls `f` for each region that starts in `from..end` (an empty `end` is no bound) in key order until it returns `false`.
    pub(super) fn each_start(&self, from: Bound<&[u8]>, end: &[u8], mut f: impl FnMut(&Leaf) -> bool) {
        let first = match from {
            Bound::Included(key) | Bound::Excluded(key) => self.position(key),
            Bound::Unbounded => 0,
        };
        for entry in &self.entries[first..] {
            let leaves = entry.chunk.leaves.read();
            for leaf in &leaves[lower_bound(&leaves, from)..] {
                if !crate::model::key::before_end(&leaf.start, end) || !f(leaf) {
                    return;
                }
            }
        }
    }
}
