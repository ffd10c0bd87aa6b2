//! Between the fleet's plain values and the messages of `pdpb` and `metapb`.
//!
//! Owns: the field-by-field translation. Must not know when or to whom a message is sent.

use crate::{
    model::{Epoch, Peer, PeerId, Role, StoreId},
    proto::{metapb, pdpb},
    sim::region::SimRegion,
};

/// A peer for the wire.
pub(super) fn peer(p: &Peer) -> metapb::Peer {
    metapb::Peer { id: p.id.0, store_id: p.store.0, role: p.role as i32, is_witness: p.is_witness }
}

/// A peer from the wire; an unknown role reads as a voter's.
pub(super) fn peer_from(p: &metapb::Peer) -> Peer {
    let role = match metapb::PeerRole::try_from(p.role) {
        Ok(metapb::PeerRole::Learner) => Role::Learner,
        Ok(metapb::PeerRole::IncomingVoter) => Role::IncomingVoter,
        Ok(metapb::PeerRole::DemotingVoter) => Role::DemotingVoter,
        Ok(metapb::PeerRole::Voter) | Err(_) => Role::Voter,
    };
    Peer { id: PeerId(p.id), store: StoreId(p.store_id), role, is_witness: p.is_witness }
}

/// An epoch from the wire; a missing one is (0, 0).
pub(super) fn epoch_from(e: Option<&metapb::RegionEpoch>) -> Epoch {
    e.map_or_else(Epoch::default, |e| Epoch::new(e.conf_ver, e.version))
}

/// The description of a region.
pub(super) fn region(r: &SimRegion) -> metapb::Region {
    metapb::Region {
        id: r.id.0,
        start_key: r.range.start.to_vec().into(),
        end_key: r.range.end.to_vec().into(),
        region_epoch: Some(metapb::RegionEpoch { conf_ver: r.epoch.conf_ver, version: r.epoch.version }),
        peers: r.peers.iter().map(peer).collect(),
        ..metapb::Region::default()
    }
}

/// A region's heartbeat without header, flow, interval and down peers.
pub(super) fn heartbeat(r: &SimRegion) -> pdpb::RegionHeartbeatRequest {
    let pending = r.peers.iter().filter(|p| r.waits_for_snapshot(p.id));
    pdpb::RegionHeartbeatRequest {
        region: Some(region(r)),
        leader: r.leader_peer().map(peer),
        pending_peers: pending.map(peer).collect(),
        approximate_size: r.size,
        approximate_keys: r.keys,
        term: r.term,
        ..pdpb::RegionHeartbeatRequest::default()
    }
}
