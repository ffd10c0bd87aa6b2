//! What one follower is told next.
//!
//! Owns: how far a follower is, in the changes and in a full copy. Must not know: how parts travel.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    FlowRow, MAX_BYTES, MAX_REGIONS, MAX_STORES, Part, Position, Span, StoreRow,
    feed::{Changed, Feed, Following, Since},
};
use crate::{
    model::{Key, Now, Region, StoreId, StoreStats},
    store::{RegionIndex, StoreInfo, StoreTable},
};

/// Bytes of a region beside its keys and peers, about.
const REGION_BYTES: usize = 128;
/// Bytes of a peer, about; of what is read from it, too.
const PEER_BYTES: usize = 24;
/// Bytes of a region's traffic, about.
const FLOW_BYTES: usize = 64;

/// See the module's comment.
#[derive(Debug)]
pub struct Reader {
    feed: Following,
    term: u64,
    next: u64,
    /// Where a full copy goes on.
    full: Option<Key>,
    /// The first store that a full copy has yet to tell.
    stores_from: Option<StoreId>,
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
        let mut reader = Self { feed, term, next: 0, full: None, stores_from: None };
        match position.filter(|at| at.term == term) {
            Some(at) => reader.next = at.next,
            None => reader.begin_full(),
        }
        reader
    }

    fn begin_full(&mut self) {
        // The number is taken before the first look: what changes during the copy is told after it.
        self.next = self.feed.0.begin_full();
        (self.full, self.stores_from) = (Some(Key::empty()), Some(StoreId(0)));
    }

    /// The next part. One without anything in it says how far the follower is.
    pub fn next(&mut self, regions: &RegionIndex, stores: &StoreTable, now: Now) -> Next {
        if let Since::Ended = self.feed.0.since(self.term, self.next, 0) {
            return Next::Ended;
        }
        if let Some(from) = self.full.clone() {
            return self.full_part(from, regions, stores, now);
        }
        if self.stores_from.is_some() {
            let part = Part { stores: self.next_stores(stores, now), ..Part::default() };
            return self.copied(part);
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
        self.full.clone_from(&until);
        let span = Span { from, until: until.unwrap_or_else(Key::empty) };
        let part = Part { span: Some(span), regions: found, stores: self.next_stores(stores, now), ..Part::default() };
        self.copied(part)
    }

    /// The next stores of a full copy.
    fn next_stores(&mut self, stores: &StoreTable, now: Now) -> Vec<StoreRow> {
        let Some(from) = self.stores_from else { return vec![] };
        let snapshot = stores.snapshot();
        let mut left = snapshot.range(from..).map(|(_, store)| store);
        let told = left.by_ref().take(MAX_STORES).filter_map(|store| row(store, now)).collect();
        self.stores_from = left.next().map(|store| store.id());
        told
    }

    /// A part of a full copy: it is the last one when no region and no store is left.
    fn copied(&self, part: Part) -> Next {
        let (head, more_stores) = (self.feed.0.head(), self.stores_from.is_some());
        let whole = self.full.is_none() && !more_stores && self.next == head;
        let part = Part { term: self.term, next: self.next, head, whole, more_stores, ..part };
        Next::Part(Box::new(part), !whole)
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
                Changed::Store(id) => {
                    let Some(mut row) = stores.get(id).and_then(|store| row(&store, now)) else { continue };
                    if let Some(reads) = self.feed.0.reads(id) {
                        bytes += reads.len() * PEER_BYTES;
                        row.stats = Arc::new(StoreStats { peers: reads.to_vec(), ..StoreStats::clone(&row.stats) });
                    }
                    part.stores.push(row);
                }
                // One that is gone is told as such.
                Changed::Flow(id) => {
                    bytes += FLOW_BYTES;
                    part.flows.extend(regions.get(id).map(|region| FlowRow { id, flow: region.flow }));
                }
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
