//! What the index hands out beside regions: answers to a report, sums, and the words to ask for a store's regions with.
//!
//! Owns: the shapes that the rest of Berth sees. Must not know: how the index keeps them.

use std::{collections::BTreeMap, sync::Arc};

use super::text::meta_text;
use crate::model::{Region, StoreId};

/// Why a report changed nothing. The text is PD's.
#[derive(Clone, Debug, thiserror::Error)]
#[error("region is stale: region {} origin {}", meta_text(&region.meta), meta_text(&origin.meta))]
pub struct Stale {
    /// The report.
    pub region: Box<Region>,
    /// What it is older than (the report itself when its range holds no key).
    pub origin: Arc<Region>,
}

/// What a report changed, beside the numbers. For a region that was not known only `is_new` and `save` are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// The region was not known.
    pub is_new: bool,
    /// Another leader (also the first one of a region that came from disk).
    pub leader: bool,
    /// `conf_ver` moved.
    pub conf_ver: bool,
    /// `version` moved.
    pub version: bool,
    /// The peers, their roles, pending or down sets differ.
    pub peers: bool,
    /// The row in the disk cache has to be written: new, or range, epoch or peers differ.
    pub save: bool,
}

impl Changes {
    /// Of a region that was not known.
    pub(super) fn of_new() -> Self {
        Self { is_new: true, save: true, ..Self::default() }
    }

    /// From one version of a region to the next.
    pub(super) fn between(origin: &Region, region: &Region) -> Self {
        let same_meta = Arc::ptr_eq(&origin.meta, &region.meta);
        let (was, is) = (origin.epoch(), region.epoch());
        let down = || origin.down.iter().map(|d| d.peer).ne(region.down.iter().map(|d| d.peer));
        Self {
            is_new: false,
            leader: origin.leader != region.leader,
            conf_ver: was.conf_ver != is.conf_ver,
            version: was.version != is.version,
            peers: (!same_meta && origin.peers() != region.peers()) || origin.pending != region.pending || down(),
            save: !same_meta && origin.meta != region.meta,
        }
    }
}

/// An accepted report.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The region as it is in the index now.
    pub region: Arc<Region>,
    /// What was there under its id before.
    pub origin: Option<Arc<Region>>,
    /// Other regions that left because they overlapped, in key order.
    pub removed: Vec<Arc<Region>>,
    /// What changed.
    pub changes: Changes,
}

/// Counts and sizes of one store over the whole key space. Sizes in MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreSummary {
    /// Regions it leads.
    pub leader_count: u64,
    /// Regions with any peer there.
    pub region_count: u64,
    /// Regions with a learner there.
    pub learner_count: u64,
    /// Regions with a witness there.
    pub witness_count: u64,
    /// Regions whose peer there is pending.
    pub pending_count: u64,
    /// Size of the regions it leads.
    pub leader_size_mib: u64,
    /// Size of the regions with a peer there.
    pub region_size_mib: u64,
}

/// One store's part of [`RangeStats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreRange {
    /// Leaders there.
    pub leader_count: u64,
    /// Peers there.
    pub peer_count: u64,
    /// Size led there, MiB.
    pub leader_size_mib: u64,
    /// Keys led there.
    pub leader_keys: u64,
    /// Size of peers there, MiB.
    pub peer_size_mib: u64,
    /// Keys of peers there.
    pub peer_keys: u64,
}

/// Sums over a key range.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeStats {
    /// Regions that lie in or touch the range.
    pub count: u64,
    /// Regions that are known to hold at most 1 MiB. A region of unknown size is not among them.
    pub empty_count: u64,
    /// Their size, MiB.
    pub size_mib: u64,
    /// Their size as `approximate_kv_size` counts it, MiB.
    pub kv_size_mib: u64,
    /// Their keys.
    pub keys: u64,
    /// The same by store; only stores with a peer in the range.
    pub stores: BTreeMap<StoreId, StoreRange>,
}

/// Which of a store's regions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Led there.
    Leader,
    /// With a voter there that does not lead.
    Follower,
    /// With a learner there.
    Learner,
    /// With a pending peer there.
    Pending,
    /// With a witness there.
    Witness,
    /// With any peer there.
    Any,
}

impl Held {
    /// Whether `region` is one of these for `store`.
    pub fn matches(self, region: &Region, store: StoreId) -> bool {
        region.peers().iter().any(|peer| {
            peer.store == store
                && match self {
                    Held::Leader => region.leader == Some(peer.id),
                    Held::Follower => peer.role.votes() && region.leader != Some(peer.id),
                    Held::Learner => !peer.role.votes(),
                    Held::Pending => region.is_pending(peer.id),
                    Held::Witness => peer.is_witness,
                    Held::Any => true,
                }
        })
    }
}
