//! Plain values that every part of Berth speaks about: ids, keys and ranges, regions, stores, sizes, time, versions.
//!
//! Owns: the shapes and their own arithmetic. Must not know: locks, I/O, clocks, wire types, or any other module of the crate.
//! Start at [`region`] and [`store`].

pub mod bucket;
pub mod features;
pub mod ids;
pub mod key;
pub mod names;
pub mod persistent;
pub mod region;
pub mod rule;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;

pub use features::{ClusterVersion, Feature};
pub use ids::{ClusterId, MemberId, OperatorId, PeerId, RegionId, StoreId};
pub use key::{Key, KeyRange};
pub use persistent::PersistentMap;
pub use region::{DownPeer, Epoch, Flow, Peer, RareFields, Region, RegionMeta, Role};
pub use rule::{LabelConstraint, LabelOp, RegionLabel, RegionLabelRule, Rule, RuleGroup, RuleRole};
pub use store::{NodeState, PeerTraffic, StoreLabel, StoreLimits, StoreRecord, StoreState, StoreStats};
pub use time::{Clock, Mono, Now, Wall};
