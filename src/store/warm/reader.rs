//! What one follower is told next.
//!
//! Owns: how far a follower is, in the changes and in a full copy. Must not know: how parts travel.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    MAX_BYTES, MAX_REGIONS, MAX_STORES, Part, Position, Span, StoreRow,
    feed::{Changed, Feed, Following, Since},
};
use crate::{
    model::{Key, Now, Region, StoreId},
    store::{RegionIndex, StoreInfo, StoreTable},
};

/// Bytes of a region beside its keys and peers, about.
const REGION_BYTES: usize = 128;
/// Bytes of a peer, about.
const PEER_BYTES: usize = 24;

/// See the module's comment.
#[derive(Debug)]
pub struct Reader {
    feed: Following,
    term: u64,
    next: u64,
    /// Where a full copy goes on.
    full: Option<Key>,
}

/// What a reader has to say.
#[derive(Debug)]
pub enum Next {
    /// A part, and whether more waits already.
    Part(Box<Part>, bool),
    /// The term has ended, and the reader with it.
    Ended,
}

impl Reader {
    /// One that goes on where the follower is, as far as the changes since are kept.
    pub fn new(feed: &Arc<Feed>, position: Option<Position>) -> Self {
        let feed = feed.join();
        let term = feed.0.term();
        let mut reader = Self { feed, term, next: 0, full: None };
        match position.filter(|at| at.term == term) {
            Some(at) => reader.next = at.next,
            None => reader.begin_full(),
        }
        reader
    }

    fn begin_full(&mut self) {
        // The number is taken before the first look: what changes during the copy is told after it.
        self.next = self.feed.0.begin_full();
        self.full = Some(Key::empty());
    }

    /// The next part. One without anything in it says how far the follower is.
    pub fn next(&mut self, regions: &RegionIndex, stores: &StoreTable, now: Now) -> Next {
        if let Since::Ended = self.feed.0.since(self.term, self.next, 0) {
            return Next::Ended;
        }
        if let Some(from) = self.full.clone() {
            return self.full_part(from, regions, stores, now);
        }
        match self.feed.0.since(self.term, self.next, MAX_REGIONS) {
            Since::Ended => Next::Ended,
            Since::Lost => {
                self.begin_full();
                self.full_part(Key::empty(), regions, stores, now)
            }
            Since::Changes { changed, next, head } => self.changes(changed, (next, head), regions, stores, now),
        }
    }

    fn full_part(&mut self, from: Key, regions: &RegionIndex, stores: &StoreTable, now: Now) -> Next {
        let mut found = regions.iter_from(&from, MAX_REGIONS + 1);
        let mut bytes = 0;
        let fits = found.iter().take(MAX_REGIONS).take_while(|region| {
            bytes += weight(region);
            bytes <= MAX_BYTES
        });
        let fits = fits.count().max(1);
        let until = found.get(fits).map(|region| region.range().start.clone());
        found.truncate(fits);
        let first = from.is_empty();
        let snapshot = stores.snapshot();
        let told = snapshot.values().filter(|_| first).take(MAX_STORES).filter_map(|s| row(s, now)).collect();
        // Of a cluster with more stores the rest is told as they report.
        self.full.clone_from(&until);
        let span = Span { from, until: until.unwrap_or_else(Key::empty) };
        let head = self.feed.0.head();
        let part = Part {
            term: self.term,
            next: self.next,
            head,
            whole: self.full.is_none() && self.next == head,
            span: Some(span),
            regions: found,
            gone: vec![],
            stores: told,
        };
        let more = !part.whole;
        Next::Part(Box::new(part), more)
    }

    fn changes(
        &mut self,
        mut changed: Vec<Changed>,
        (mut next, head): (u64, u64),
        regions: &RegionIndex,
        stores: &StoreTable,
        now: Now,
    ) -> Next {
        let (mut part, mut seen, mut bytes) = (Part { term: self.term, head, ..Part::default() }, BTreeSet::new(), 0);
        for (at, one) in changed.drain(..).enumerate() {
            if bytes > MAX_BYTES {
                next = self.next + at as u64;
                break;
            }
            if !seen.insert(one) {
                continue;
            }
            match one {
                Changed::Store(id) => part.stores.extend(stores.get(id).and_then(|store| row(&store, now))),
                Changed::Region(id) => match regions.get(id) {
                    Some(region) => {
                        bytes += weight(&region);
                        part.regions.push(region);
                    }
                    None => part.gone.push(id),
                },
            }
        }
        (part.next, part.whole, self.next) = (next, next == head, next);
        let more = !part.whole;
        Next::Part(Box::new(part), more)
    }
}

/// About how many bytes a region takes on its way.
fn weight(region: &Region) -> usize {
    let range = region.range();
    let peers = region.peers().len() + region.down.len() + region.pending.len();
    REGION_BYTES + range.start.len() + range.end.len() + peers * PEER_BYTES
}

/// What a store has reported here, if it has.
fn row(store: &StoreInfo, now: Now) -> Option<StoreRow> {
    let (id, at): (StoreId, _) = (store.id(), store.last_heartbeat?);
    let silent = now.mono.since(at);
    Some(StoreRow { id, stats: store.stats.clone(), silent, at: store.last_heartbeat_wall })
}
