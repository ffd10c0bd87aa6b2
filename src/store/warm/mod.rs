//! The warm copy: what followers know of regions and stores, so that whoever leads next knows it at once.
//!
//! Owns: what of a leader's changes followers are told ([`feed`]), in which parts ([`reader`]), and how a follower takes parts in
//! ([`copy`]). Must not know: sockets, wire types, who leads, clocks.
//!
//! The leader keeps a bounded list of which regions and stores changed, not of how: a reader looks up what they are when it makes a
//! part. So nothing old is ever told after something new, a region that changes often costs once, and a list that ran over, or
//! that lacks what a follower has missed, is made good by a full copy in key order with the changes since its beginning after it.

pub mod copy;
pub mod feed;
pub mod reader;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use self::{
    copy::{Copy, CopyError, Taken},
    feed::Feed,
    reader::Reader,
};
use crate::model::{Key, Region, RegionId, StoreId, StoreStats, Wall};

/// The most regions in one part.
pub const MAX_REGIONS: usize = 1000;
/// About the most bytes of regions in one part; a part has one region at least.
pub const MAX_BYTES: usize = 1 << 20;
/// The most stores in one part.
pub const MAX_STORES: usize = 1000;
/// What is known of other members counts as heard for this long after the copy was last whole: half the time between two reports of
/// a region that does not change.
pub const FRESH_FOR: Duration = Duration::from_secs(30);

/// A leader that said nothing for longer is not connected; it says something each second.
pub const CONNECTED_FOR: Duration = Duration::from_secs(3);

/// How far a follower is in a leader's changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The leader's term.
    pub term: u64,
    /// The number of the next change.
    pub next: u64,
}

/// What a leader knows of a store.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StoreRow {
    /// Which.
    pub id: StoreId,
    /// Its last report.
    pub stats: Arc<StoreStats>,
    /// How long ago it came.
    pub silent: Duration,
    /// When it came.
    pub at: Wall,
}

/// A run of key order, of which all regions are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// The least start key.
    pub from: Key,
    /// Where the next run begins; empty: this is the last one.
    pub until: Key,
}

/// A message to a follower.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Part {
    /// The leader's term.
    pub term: u64,
    /// The number of the next change, once this part is taken in.
    pub next: u64,
    /// The number of the next change that the leader will make.
    pub head: u64,
    /// Whether the follower then has all that there was when the part was made.
    pub whole: bool,
    /// Of a full copy: which run of key order this is.
    pub span: Option<Span>,
    /// Regions as they are.
    pub regions: Vec<Arc<Region>>,
    /// Regions that left.
    pub gone: Vec<RegionId>,
    /// Stores as they reported.
    pub stores: Vec<StoreRow>,
}
