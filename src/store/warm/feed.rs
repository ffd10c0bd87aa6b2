//! The leader's list of what changed.
//!
//! Owns: which changes followers are told, the bound of the list, its numbers. Must not know: who reads it, what things look like now.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    model::{PeerTraffic, Region, RegionId, StoreId},
    store::Applied,
};

use super::MAX_READS;

/// The most changes that are kept for followers that lag: 16 MiB. It holds the reports of a minute of a million busy regions.
pub const MAX_CHANGES: usize = 1 << 20;

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Changed {
    Region(RegionId),
    /// Nothing but its traffic.
    Flow(RegionId),
    Store(StoreId),
}

/// The last changes, numbered one after the other under a term.
#[derive(Debug, Default)]
struct Changes {
    term: u64,
    /// The number of the first one that is kept.
    first: u64,
    kept: VecDeque<Changed>,
    /// What was read from peers by the last report of each store that tells of any.
    reads: BTreeMap<StoreId, Arc<[PeerTraffic]>>,
}

impl Changes {
    fn head(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Forgets all, and leaves a number out: nobody can go on from before.
    fn cut(&mut self) {
        self.first = self.head() + 1;
        self.kept.clear();
        self.reads.clear();
    }
}

/// What a reader gets from the list.
pub(super) enum Since {
    /// Changes, and the number of the one that comes next for this reader; whether these are all.
    Changes { changed: Vec<Changed>, next: u64, head: u64 },
    /// They are not kept any more (or never were).
    Lost,
    /// Another term has begun.
    Ended,
}

/// See the module's comment. While nobody follows nothing is kept, and a change costs one atomic read.
#[derive(Debug)]
pub struct Feed {
    followers: AtomicUsize,
    changes: Mutex<Changes>,
    capacity: usize,
    full_copies: AtomicU64,
}

impl Default for Feed {
    fn default() -> Self {
        Self::with_capacity(MAX_CHANGES)
    }
}

impl Feed {
    /// Keeps fewer changes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let (followers, changes, full_copies) = (AtomicUsize::new(0), Mutex::default(), AtomicU64::new(0));
        Self { followers, changes, capacity, full_copies }
    }

    /// This member leads in `term`: what was numbered before means nothing any more.
    pub fn begin_term(&self, term: u64) {
        let mut changes = self.changes.lock();
        changes.term = term;
        changes.cut();
    }

    /// How many follow.
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::SeqCst)
    }

    /// The term whose changes are listed.
    pub fn term(&self) -> u64 {
        self.changes.lock().term
    }

    /// The number of the next change.
    pub fn head(&self) -> u64 {
        self.changes.lock().head()
    }

    /// How many full copies were begun.
    pub fn full_copies(&self) -> u64 {
        self.full_copies.load(Ordering::Relaxed)
    }

    /// A report was taken into the index. To be called after that.
    pub fn note_applied(&self, applied: &Applied) {
        if self.followers() == 0 {
            return;
        }
        if matters(applied) {
            let gone = applied.removed.iter().map(|gone| gone.id());
            self.push(gone.chain([applied.region.id()]).map(Changed::Region));
        } else if flows(applied) {
            self.push([Changed::Flow(applied.region.id())]);
        }
    }

    /// A region was taken out of the index.
    pub fn note_gone(&self, region: RegionId) {
        if self.followers() > 0 {
            self.push([Changed::Region(region)]);
        }
    }

    /// A store reported, and what is read from its peers.
    pub fn note_store(&self, store: StoreId, mut reads: Vec<PeerTraffic>) {
        if self.followers() == 0 {
            return;
        }
        reads.truncate(MAX_READS);
        let mut changes = self.changes.lock();
        if reads.is_empty() {
            changes.reads.remove(&store);
        } else {
            changes.reads.insert(store, reads.into());
        }
        self.push_to(&mut changes, [Changed::Store(store)]);
    }

    /// What a store last told of reads.
    pub(super) fn reads(&self, store: StoreId) -> Option<Arc<[PeerTraffic]>> {
        self.changes.lock().reads.get(&store).cloned()
    }

    fn push(&self, changed: impl IntoIterator<Item = Changed>) {
        self.push_to(&mut self.changes.lock(), changed);
    }

    fn push_to(&self, changes: &mut Changes, changed: impl IntoIterator<Item = Changed>) {
        for one in changed {
            changes.kept.push_back(one);
            if changes.kept.len() > self.capacity {
                changes.kept.pop_front();
                changes.first += 1;
            }
        }
    }

    /// The changes from number `next` of `term` on, at most `limit`.
    pub(super) fn since(&self, term: u64, next: u64, limit: usize) -> Since {
        let changes = self.changes.lock();
        if changes.term != term {
            return Since::Ended;
        }
        let head = changes.head();
        let Some(skip) = next.checked_sub(changes.first).filter(|_| next <= head) else { return Since::Lost };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let changed: Vec<Changed> = changes.kept.iter().skip(skip).take(limit).copied().collect();
        Since::Changes { next: next + changed.len() as u64, changed, head }
    }

    /// Begins a full copy: its number and the present head.
    pub(super) fn begin_full(&self) -> u64 {
        self.full_copies.fetch_add(1, Ordering::Relaxed);
        self.head()
    }

    /// One more follows. From here on changes are kept.
    pub(super) fn join(self: &Arc<Self>) -> Following {
        let mut changes = self.changes.lock();
        if self.followers.fetch_add(1, Ordering::SeqCst) == 0 {
            // What changed until now was not noted.
            changes.cut();
        }
        drop(changes);
        Following(self.clone())
    }
}

/// One that follows; ends with its drop.
#[derive(Debug)]
pub(super) struct Following(pub(super) Arc<Feed>);

impl Drop for Following {
    fn drop(&mut self) {
        let mut changes = self.0.changes.lock();
        if self.0.followers.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Numbers never go back: who was told some of these may not find others under them later.
            changes.cut();
            changes.kept = VecDeque::new();
        }
    }
}

/// Whether there is traffic to tell of, or was until now: a report of a region that nothing is done to costs a comparison.
fn flows(applied: &Applied) -> bool {
    let flow = &applied.region.flow;
    let before = applied.origin.as_ref().map(|origin| origin.flow).unwrap_or_default();
    !(flow.is_idle() && before.is_idle()) && *flow != before
}

/// Whether a report tells of more than traffic.
fn matters(applied: &Applied) -> bool {
    let changes = applied.changes;
    let numbers = |r: &Region| (r.size_mib, r.keys, r.kv_size_mib, r.term, r.heard.is_some());
    let differs = |origin: &Region| numbers(origin) != numbers(&applied.region);
    changes != crate::store::Changes::default()
        || !applied.removed.is_empty()
        || applied.origin.as_ref().is_none_or(|origin| differs(origin))
}
