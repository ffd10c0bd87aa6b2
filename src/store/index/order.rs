//! Key order: who may change it and how readers notice.
//!
//! Owns: the lock for changes of order, the generation, the sizes of chunks. Must not know: what a report means.
//!
//! Only splits, merges, new and leaving regions change the order. They take one lock, and count the generation up to an odd
//! number before their first change and to an even one after their last. A reader of more than one region looks at the
//! generation before and after, and reads again when it moved; after a few tries it takes the lock for itself. Heartbeats that
//! keep a region's range never come here.
//!
//! Locks are taken in this order: changes → leaves of a chunk → a region → sums.

use std::{
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::{
    chunk::{Chunk, Directory, Entry, Leaf, lower_bound},
    slot::Slot,
};
use crate::model::{Key, KeyRange, key::before_end};

/// How long chunks may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A chunk that grew beyond this is split.
    pub(super) max: usize,
    /// What a chunk is filled to when it is split.
    pub(super) fill: usize,
    /// A chunk that shrank below this is joined to a neighbour, so that merges do not leave many small chunks behind.
    pub(super) min: usize,
}

impl Default for Limits {
    /// A million regions make some 2,000 chunks to add up, and an insertion moves only some kilobytes.
    fn default() -> Self {
        Self { max: 768, fill: 512, min: 128 }
    }
}

/// Room that a full chunk is given at a time: doubling would leave a third of all leaves unused.
const LEAVES_STEP: usize = 64;

/// Reads without a lock before a reader takes the lock for changes: more would only burn time under a storm of splits.
const OPTIMISTIC_READS: usize = 3;

/// The order of all regions.
#[derive(Debug, Default)]
pub(super) struct Order {
    directory: ArcSwap<Directory>,
    /// Odd while the order is being changed.
    generation: AtomicU64,
    changes: Mutex<()>,
    pub(super) limits: Limits,
}

impl Order {
    /// Runs `read`, which may run more than once, so that no change of order falls into its last run.
    pub(super) fn stable<T>(&self, mut read: impl FnMut(&Directory) -> T) -> T {
        for _ in 0..OPTIMISTIC_READS {
            let before = self.generation.load(Ordering::SeqCst);
            if before.is_multiple_of(2) {
                let answer = read(&self.directory.load());
                // What `read` saw was behind locks: had it met a change, that change's odd generation would be visible here.
                if self.generation.load(Ordering::SeqCst) == before {
                    return answer;
                }
            }
            std::hint::spin_loop();
        }
        let _no_changes = self.changes.lock();
        read(&self.directory.load())
    }

    /// Runs `read` once, whatever changes meanwhile.
    pub(super) fn once<T>(&self, read: impl FnOnce(&Directory) -> T) -> T {
        read(&self.directory.load())
    }

    /// Starts a change of order.
    pub(super) fn edit(&self) -> Edit<'_> {
        let guard = self.changes.lock();
        Edit { order: self, directory: self.directory.load_full(), touched: None, changed: false, _guard: guard }
    }
}

/// Where in the directory a chunk stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

/// A change of order under way. Nobody else changes the order, or a region's range or version, while it lives.
pub(super) struct Edit<'a> {
    order: &'a Order,
    directory: Arc<Directory>,
    /// First and last place in the directory whose chunks were changed.
    touched: Option<(usize, usize)>,
    changed: bool,
    _guard: MutexGuard<'a, ()>,
}

impl Edit<'_> {
    /// Which chunk a region that starts at `key` belongs in; holds while this change lives.
    pub(super) fn place(&self, key: &[u8]) -> Place {
        Place(self.directory.position(key))
    }

    /// Calls `f` for the region before `range` (or that reaches into it), for those that start in it, and for the first one
    /// after it, until it returns `false`. `place` is that of the start of `range`.
    pub(super) fn each_near(&self, place: Place, range: &KeyRange, mut f: impl FnMut(&Arc<Slot>) -> bool) {
        let entries = &self.directory.entries;
        let mut see = |leaf: &Leaf| f(&leaf.slot) && before_end(&leaf.start, &range.end);
        let mut begin = {
            let leaves = entries[place.0].chunk.leaves.read();
            let at = lower_bound(&leaves, Bound::Included(&range.start));
            if at > 0 && !see(&leaves[at - 1]) {
                return;
            }
            at
        };
        if begin == 0 {
            let before = entries[..place.0].iter().rev().find_map(|entry| entry.chunk.leaves.read().last().cloned());
            if before.is_some_and(|leaf| !see(&leaf)) {
                return;
            }
        }
        for entry in &entries[place.0..] {
            let leaves = entry.chunk.leaves.read();
            if !leaves[begin..].iter().all(&mut see) {
                return;
            }
            begin = 0;
        }
    }

    /// All regions in key order.
    pub(super) fn each(&self, mut f: impl FnMut(&Arc<Slot>)) {
        for entry in &self.directory.entries {
            entry.chunk.leaves.read().iter().for_each(|leaf| f(&leaf.slot));
        }
    }

    /// Tells readers that what they read from here on may not fit together.
    pub(super) fn begin(&mut self) {
        if !self.changed {
            self.changed = true;
            self.order.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Puts a region in its place; its home is [`Edit::home`] of the same place.
    pub(super) fn link(&mut self, place: Place, start: &Key, slot: &Arc<Slot>) {
        let chunk = self.touch(place);
        let mut leaves = chunk.leaves.write();
        let at = lower_bound(&leaves, Bound::Included(start));
        if leaves.len() == leaves.capacity() {
            leaves.reserve_exact(LEAVES_STEP);
        }
        leaves.insert(at, Leaf { start: start.clone(), slot: slot.clone() });
    }

    /// Takes a region out of its place.
    pub(super) fn unlink(&mut self, start: &Key, slot: &Arc<Slot>) {
        let chunk = self.touch(self.place(start));
        let mut leaves = chunk.leaves.write();
        let at = lower_bound(&leaves, Bound::Included(start));
        if leaves.get(at).is_some_and(|leaf| Arc::ptr_eq(&leaf.slot, slot)) {
            leaves.remove(at);
        }
    }

    /// The chunk at a place.
    pub(super) fn home(&self, place: Place) -> &Arc<Chunk> {
        &self.directory.entries[place.0].chunk
    }

    fn touch(&mut self, place: Place) -> Arc<Chunk> {
        self.begin();
        let at = place.0;
        self.touched = Some(self.touched.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        self.directory.entries[at].chunk.clone()
    }

    /// Splits chunks that grew too long, joins those that became too short, and publishes the new directory.
    fn settle(&mut self) {
        let Some((first, last)) = self.touched.take() else { return };
        let limits = self.order.limits;
        let length = |entry: &Entry| entry.chunk.leaves.read().len();
        let entries = &self.directory.entries;
        let fits = |entry: &Entry| (limits.min..=limits.max).contains(&length(entry));
        if entries[first..=last].iter().all(fits) || (entries.len() == 1 && length(&entries[0]) <= limits.max) {
            return;
        }
        // A short chunk is joined to a neighbour, so the neighbours take part.
        let (first, end) = (first.saturating_sub(1), (last + 2).min(entries.len()));
        let appending = end == entries.len();
        let mut settled: Vec<Entry> = Vec::with_capacity(end - first + 1);
        let mut changed = false;
        for entry in &entries[first..end] {
            match settled.last() {
                Some(before) if limits.joins(length(before), length(entry)) => {
                    rehome(&entry.chunk, 0, &before.chunk);
                    changed = true;
                }
                _ => settled.push(entry.clone()),
            }
            if let Some(long) =
                settled.last().filter(|entry| length(entry) > limits.max).map(|entry| entry.chunk.clone())
            {
                settled.extend(limits.split(&long, appending));
                changed = true;
            }
        }
        if !changed {
            return;
        }
        let mut next = Vec::with_capacity(entries.len() + settled.len());
        next.extend_from_slice(&entries[..first]);
        next.append(&mut settled);
        next.extend_from_slice(&entries[end..]);
        self.directory = Arc::new(Directory { entries: next });
        self.order.directory.store(self.directory.clone());
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        self.settle();
        if self.changed {
            self.order.generation.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Limits {
    /// Whether two neighbours of these lengths become one: when one is short and the sum is not about to be split again.
    fn joins(self, a: usize, b: usize) -> bool {
        a.min(b) == 0 || (a.min(b) < self.min && a + b <= self.fill + self.min)
    }

    /// Cuts chunks off a long one. At the end of the key space regions come in order, so there the front stays nearly full;
    /// elsewhere both halves get room.
    fn split(self, chunk: &Arc<Chunk>, appending: bool) -> Vec<Entry> {
        let mut rest = chunk.clone();
        let mut cut = Vec::new();
        loop {
            let length = rest.leaves.read().len();
            if length <= self.max {
                return cut;
            }
            let at = if appending { self.fill + self.min } else { (length / 2).min(self.fill) };
            let low = rest.leaves.read()[at].start.clone();
            let next = Arc::<Chunk>::default();
            rehome(&rest, at, &next);
            cut.push(Entry { low, chunk: next.clone() });
            rest = next;
        }
    }
}

/// Moves the leaves of `from`, from place `at` on, to the end of `to`, each region's sums under its own lock.
fn rehome(from: &Chunk, at: usize, to: &Arc<Chunk>) {
    let mut leaves = from.leaves.write();
    let tail = leaves.split_off(at);
    let mut target = to.leaves.write();
    for leaf in &tail {
        let mut state = leaf.slot.lock();
        from.shift(Some(&state.region), None);
        to.shift(None, Some(&state.region));
        state.home = Some(to.clone());
    }
    target.reserve_exact(tail.len());
    target.extend(tail);
    leaves.shrink_to_fit();
}
