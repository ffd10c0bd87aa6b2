//! The warm copy: what followers know of regions and stores, so that whoever leads next knows it at once.
//!
//! Owns: what of a leader's changes followers are told ([`feed`]), in which parts ([`reader`]), and how a follower takes parts in
//! ([`copy`]). Must not know: sockets, wire types, who leads, clocks.
//!
//! The leader keeps a bounded list of which regions and stores changed, not of how: a reader looks up what they are when it makes a
//! part. So nothing old is ever told after something new, a region that changes often costs once, and a list that ran over, or
//! that lacks what a follower has missed, is made good by a full copy in key order with the changes since its beginning after it.
//!
//! A report that tells of other traffic only, which nearly all of a busy cluster are, is listed too, and told as a row of numbers
//! ([`FlowRow`]): a follower feeds its own hot peers with it, so that they are as hot to it as to the leader. One without traffic, as
//! there was none before, is not listed.

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
use crate::model::{Flow, Key, Region, RegionId, StoreId, StoreStats, Wall};

/// The most regions in one part.
pub const MAX_REGIONS: usize = 1000;
/// About the most bytes of regions in one part; a part has one region at least.
pub const MAX_BYTES: usize = 1 << 20;
/// The most stores in one part.
pub const MAX_STORES: usize = 1000;
/// The most peers of a store of which a follower is told what is read from them.
pub const MAX_READS: usize = 1000;
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
    /// Its last report; what is read from its peers is in it only when it is told as a change.
    pub stats: Arc<StoreStats>,
    /// How long ago it came.
    pub silent: Duration,
    /// When it came.
    pub at: Wall,
}

/// The traffic of a region of which nothing else is different.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowRow {
    /// Which.
    pub id: RegionId,
    /// Its traffic.
    pub flow: Flow,
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
    /// Of a full copy: whether stores are still to be told after the last run.
    pub more_stores: bool,
    /// Traffic of regions.
    pub flows: Vec<FlowRow>,
}
