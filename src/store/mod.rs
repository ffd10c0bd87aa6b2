//! What is observed of the cluster: the region index, sizes and counts at any key bounds, the store table, the region cache on
//! disk, the warm copy of followers.
//!
//! Owns: every region and store as last reported. Must not know: what is agreed (`meta`), what should be done (`scheduler`),
//! clocks, wire types. Start at [`index::RegionIndex`].

pub mod cache;
pub mod hot;
pub mod index;
mod smooth;
pub mod stores;
pub mod warm;

pub use index::{Applied, Changes, Held, RangeStats, RegionIndex, Stale, StoreRange, StoreSummary};
pub use stores::{Liveness, StoreInfo, StoreTable, Stores};
