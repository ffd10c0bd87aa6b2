//! Operators that a person asks for (`POST /operators`).
//!
//! Owns: PD's checks of each request, in its order and words. Must not know: JSON, admission (the controller's), logs.

use std::collections::BTreeMap;

use super::{
    checker::{merge::are_adjacent, parts},
    operator::{Builder, Kind, Operator},
    view::ClusterView,
};
use crate::model::{Key, Peer, PeerId, Region, RegionId, Role, RuleRole, StoreId, StoreState, names::desc};
use crate::store::stores::UNHEALTHY_AFTER;

/// A request.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Request {
    /// `transfer-leader`
    TransferLeader {
        /// Region.
        region: RegionId,
        /// New leader's store.
        to: StoreId,
    },
    /// `transfer-region`
    TransferRegion {
        /// Region.
        region: RegionId,
        /// Stores, each with the role asked for (when given).
        to: Vec<(StoreId, Option<RuleRole>)>,
    },
    /// `transfer-peer`
    TransferPeer {
        /// Region.
        region: RegionId,
        /// From.
        from: StoreId,
        /// To.
        to: StoreId,
    },
    /// `add-peer`
    AddPeer {
        /// Region.
        region: RegionId,
        /// Where.
        store: StoreId,
    },
    /// `add-learner`
    AddLearner {
        /// Region.
        region: RegionId,
        /// Where.
        store: StoreId,
    },
    /// `remove-peer`
    RemovePeer {
        /// Region.
        region: RegionId,
        /// Where.
        store: StoreId,
    },
    /// `split-region`
    SplitRegion {
        /// Region.
        region: RegionId,
        /// 0 scan, 1 approximate, 2 use keys.
        policy: i32,
        /// Where.
        keys: Vec<Key>,
    },
    /// `merge-region`
    MergeRegion {
        /// The region that goes.
        source: RegionId,
        /// The region that stays.
        target: RegionId,
    },
}

/// Why a request is refused: PD's texts.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdminError {
    /// `[PD:region:ErrRegionNotFound]region N not found`
    #[error("[PD:region:ErrRegionNotFound]region {0} not found")]
    RegionNotFound(RegionId),
    /// `[PD:core:ErrStoreNotFound]store N not found` and the like, PD's words whole.
    #[error("{0}")]
    Refused(String),
    /// `[PD:operator:ErrAddOperator]failed to add operator, maybe already have one`
    #[error("[PD:operator:ErrAddOperator]failed to add operator, maybe already have one")]
    NotAdded,
    /// The region has no operator (`operator not found`).
    #[error("operator not found")]
    OperatorNotFound,
}

/// Checks a request and builds its operator, or the two of a merge.
///
/// # Errors
/// What stands against it, in PD's words and in the order in which PD looks.
pub fn build(view: &ClusterView<'_>, request: &Request) -> Result<Vec<Operator>, AdminError> {
    let region = view.regions.get(request.region()).ok_or(AdminError::RegionNotFound(request.region()))?;
    build_for(view, &region, request)
}

impl Request {
    /// The region that it is about.
    pub fn region(&self) -> RegionId {
        match self {
            Request::TransferLeader { region, .. }
            | Request::TransferRegion { region, .. }
            | Request::TransferPeer { region, .. }
            | Request::AddPeer { region, .. }
            | Request::AddLearner { region, .. }
            | Request::RemovePeer { region, .. }
            | Request::SplitRegion { region, .. } => *region,
            Request::MergeRegion { source, .. } => *source,
        }
    }
}

/// The same for a region that was looked up.
fn build_for(view: &ClusterView<'_>, region: &Region, request: &Request) -> Result<Vec<Operator>, AdminError> {
    let voter_at = |store: StoreId| region.meta.peer_on(store).filter(|p| p.role.votes());
    let built = match request {
        Request::TransferLeader { to, .. } => {
            voter_at(*to).ok_or_else(|| refused(format!("region has no voter in store {to}")))?;
            Operator::transfer_leader(*view, region, desc::ADMIN_TRANSFER_LEADER, *to, Kind::ADMIN)
        }
        Request::TransferRegion { to, .. } => return transfer_region(view, region, to).map(|op| vec![op]),
        Request::TransferPeer { from, to, .. } => {
            let old = peer_at(region, *from)?;
            check_store(view, *to)?;
            let new = Peer { id: PeerId(0), store: *to, ..*old };
            Operator::move_peer(*view, region, desc::ADMIN_MOVE_PEER, *from, new, None, Kind::ADMIN)
        }
        Request::AddPeer { store, .. } => {
            let new = new_peer(view, region, *store, Role::Voter)?;
            Operator::add_peer(*view, region, desc::ADMIN_ADD_PEER, new, Kind::ADMIN)
        }
        Request::AddLearner { store, .. } => {
            let new = new_peer(view, region, *store, Role::Learner)?;
            Operator::add_peer(*view, region, desc::ADMIN_ADD_LEARNER, new, Kind::ADMIN)
        }
        Request::RemovePeer { store, .. } => {
            peer_at(region, *store)?;
            Operator::remove_peer(*view, region, desc::ADMIN_REMOVE_PEER, *store, Kind::ADMIN)
        }
        Request::SplitRegion { policy, keys, .. } => {
            Operator::split(*view, region, desc::ADMIN_SPLIT_REGION, *policy, keys.clone(), Kind::ADMIN)
        }
        Request::MergeRegion { target, .. } => {
            let target = view.regions.get(*target).ok_or(AdminError::RegionNotFound(*target))?;
            return merge(view, region, &target);
        }
    };
    built.map(|op| vec![op]).map_err(|e| refused(e.to_string()))
}

fn refused(text: String) -> AdminError {
    AdminError::Refused(text)
}

fn peer_at(region: &Region, store: StoreId) -> Result<&Peer, AdminError> {
    region.meta.peer_on(store).ok_or_else(|| refused(format!("region has no peer in store {store}")))
}

fn new_peer(view: &ClusterView<'_>, region: &Region, store: StoreId, role: Role) -> Result<Peer, AdminError> {
    if region.meta.peer_on(store).is_some() {
        return Err(refused(format!("region already has peer in store {store}")));
    }
    check_store(view, store)?;
    Ok(Peer { store, role, ..Peer::default() })
}

/// Whether a store may get a peer from a person: it is known, not gone, and was heard of within ten minutes. An Offline store
/// may, as in PD.
fn check_store(view: &ClusterView<'_>, store: StoreId) -> Result<(), AdminError> {
    let Some(info) = view.stores.get(&store) else {
        return Err(refused(format!("[PD:core:ErrStoreNotFound]store {store} not found")));
    };
    if info.record.state == StoreState::Tombstone {
        return Err(refused(format!("[PD:core:ErrStoreRemoved]store {store} has been removed")));
    }
    if info.silence(view.leader_since, view.now.mono) > UNHEALTHY_AFTER {
        return Err(refused(format!("[PD:core:ErrStoreUnhealthy]store {store} is unhealthy")));
    }
    Ok(())
}

/// Merges a region into its neighbour. Both must be whole, so that no peer is lost on the way.
fn merge(view: &ClusterView<'_>, source: &Region, target: &Region) -> Result<Vec<Operator>, AdminError> {
    for region in [source, target] {
        if !parts::is_healthy(region) || !parts::is_replicated(view, region) {
            let text = format!("[PD:region:ErrRegionAbnormalPeer]region {} has abnormal peer", region.id());
            return Err(refused(text));
        }
    }
    if !are_adjacent(source.range(), target.range()) {
        return Err(refused("[PD:region:ErrRegionNotAdjacent]two regions are not adjacent".to_owned()));
    }
    let built = Operator::merge(*view, source, target, desc::ADMIN_MERGE_REGION, Kind::ADMIN);
    built.map(Vec::from).map_err(|e| refused(e.to_string()))
}

/// Moves a whole region to `to`. With placement rules on, every store needs a role, so that nobody leads against the rules.
fn transfer_region(
    view: &ClusterView<'_>,
    region: &Region,
    to: &[(StoreId, Option<RuleRole>)],
) -> Result<Operator, AdminError> {
    let rules = view.settings.replication.enable_placement_rules;
    if rules && to.iter().any(|(_, role)| role.is_none()) {
        let text = "transfer region without peer role is not supported when placement rules enabled";
        return Err(refused(text.to_owned()));
    }
    let mut peers = BTreeMap::new();
    let mut roles = BTreeMap::new();
    for (store, role) in to {
        check_store(view, *store)?;
        let learner = *role == Some(RuleRole::Learner);
        let wanted = if learner { Role::Learner } else { Role::Voter };
        let old = region.meta.peer_on(*store).copied().unwrap_or_default();
        peers.insert(*store, Peer { id: old.id, store: *store, role: wanted, is_witness: old.is_witness });
        if let Some(role) = role {
            roles.insert(*store, *role);
        }
    }
    let mut builder = Builder::new(*view, region, desc::ADMIN_MOVE_REGION).set_peers(&peers);
    if !roles.is_empty() {
        builder = builder.set_expected_roles(roles);
    }
    builder.build(Kind::ADMIN).map_err(|e| refused(e.to_string()))
}

#[cfg(test)]
mod tests;
