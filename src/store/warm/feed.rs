//! The leader's list of what changed.
//!
//! Owns: which changes followers are told, the bound of the list, its numbers. Must not know: who reads it, what things look like now.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    model::{Region, RegionId, StoreId},
    store::Applied,
};

/// The most changes that are kept for followers that lag: 16 MiB. Of a million regions each changes once in less.
pub const MAX_CHANGES: usize = 1 << 20;

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Changed {
    Region(RegionId),
    Store(StoreId),
}

/// The last changes, numbered one after the other under a term.
#[derive(Debug, Default)]
struct Changes {
    term: u64,
    /// The number of the first one that is kept.
    first: u64,
    kept: VecDeque<Changed>,
}

impl Changes {
    fn head(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Forgets all, and leaves a number out: nobody can go on from before.
    fn cut(&mut self) {
        self.first = self.head() + 1;
        self.kept.clear();
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
        if self.followers() == 0 || !matters(applied) {
            return;
        }
        let gone = applied.removed.iter().map(|gone| gone.id());
        self.push(gone.chain([applied.region.id()]).map(Changed::Region));
    }

    /// A region was taken out of the index.
    pub fn note_gone(&self, region: RegionId) {
        if self.followers() > 0 {
            self.push([Changed::Region(region)]);
        }
    }

    /// A store reported.
    pub fn note_store(&self, store: StoreId) {
        if self.followers() > 0 {
            self.push([Changed::Store(store)]);
        }
    }

    fn push(&self, changed: impl IntoIterator<Item = Changed>) {
        let mut changes = self.changes.lock();
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

/// Whether followers have to know of a report. Traffic alone does not matter: it is told along with the next change.
fn matters(applied: &Applied) -> bool {
    let changes = applied.changes;
    let numbers = |r: &Region| (r.size_mib, r.keys, r.kv_size_mib, r.term, r.heard.is_some());
    let differs = |origin: &Region| numbers(origin) != numbers(&applied.region);
    changes != crate::store::Changes::default()
        || !applied.removed.is_empty()
        || applied.origin.as_ref().is_none_or(|origin| differs(origin))
}
