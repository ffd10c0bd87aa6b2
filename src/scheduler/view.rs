//! What deciders may see: borrowed, without setters.

use std::{collections::BTreeMap, sync::Arc};

use super::{placement::RuleSet, region_label::LabelIndex};
use crate::{
    config::{BerthConfig, ReplicationConfig, ScheduleConfig},
    model::{ClusterVersion, Mono, Now, PeerId, StoreId, StoreLabel},
    store::{RegionIndex, StoreInfo},
};

/// Gives ids for new peers; `None` when none is at hand (the window is being renewed).
pub trait IdSource: Send + Sync {
    /// One id from the cluster's only sequence.
    fn next_peer_id(&self) -> Option<PeerId>;
}

/// The settings that deciders read, as one version.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `schedule.*`, with temporary (TTL) values in force.
    pub schedule: Arc<ScheduleConfig>,
    /// `replication.*`
    pub replication: Arc<ReplicationConfig>,
    /// `[berth]`
    pub berth: Arc<BerthConfig>,
    /// Placement rules, ready for look-up.
    pub rules: Arc<RuleSet>,
    /// Region label rules, ready for look-up.
    pub labels: Arc<LabelIndex>,
    /// Cluster version.
    pub version: ClusterVersion,
    /// Labels of stores that shall not lead (label property `reject-leader`).
    pub reject_leader: Arc<[StoreLabel]>,
    /// Whether keys are those of tables (`pd-server.key-type`).
    pub table_keys: bool,
}

/// The world at one moment.
#[derive(Clone, Copy)]
pub struct ClusterView<'a> {
    /// All regions.
    pub regions: &'a RegionIndex,
    /// All stores.
    pub stores: &'a BTreeMap<StoreId, Arc<StoreInfo>>,
    /// Settings.
    pub settings: &'a Settings,
    /// Present time.
    pub now: Now,
    /// When this leader started: silence is not counted from before it.
    pub leader_since: Mono,
    /// Ids for new peers.
    pub ids: &'a dyn IdSource,
}

impl std::fmt::Debug for ClusterView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterView").field("now", &self.now).finish_non_exhaustive()
    }
}
