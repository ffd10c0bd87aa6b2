//! What the recorded messages are: their types, and what counts when two are compared.

use berth::proto::{
    eraftpb::ConfChangeType,
    metapb::PeerRole,
    pdpb::{self, RegionHeartbeatResponse},
};
use prost::Message;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::recording::Line;

/// Decodes, encodes again, and compares byte for byte.
fn same<M: Message + Default + std::fmt::Debug>(line: &Line) -> Result<(), String> {
    let message = M::decode(&line.body[..]).map_err(|e| format!("{} at {:?}: {e}", line.method, line.at))?;
    let again = message.encode_to_vec();
    if again == line.body {
        return Ok(());
    }
    Err(format!("{} at {:?}: {message:?} is {again:?} instead of {:?}", line.method, line.at, line.body))
}

macro_rules! types {
    ($($path:literal: $Request:path => $Answer:path;)*) => {
        /// Whether a message of the recording is what this crate makes of it: nothing is lost, nothing is added.
        pub(crate) fn is_kept(line: &Line) -> Result<(), String> {
            match (line.method.as_str(), line.to_server) {
                $(($path, true) => same::<$Request>(line), ($path, false) => same::<$Answer>(line),)*
                (method, _) => Err(format!("{method} is not among the methods of this test")),
            }
        }
    };
}

types! {
    "/grpc.health.v1.Health/Check": HealthCheckRequest => HealthCheckResponse;
    "/pdpb.PD/AllocID": pdpb::AllocIdRequest => pdpb::AllocIdResponse;
    "/pdpb.PD/AskBatchSplit": pdpb::AskBatchSplitRequest => pdpb::AskBatchSplitResponse;
    "/pdpb.PD/Bootstrap": pdpb::BootstrapRequest => pdpb::BootstrapResponse;
    "/pdpb.PD/GetClusterInfo": pdpb::GetClusterInfoRequest => pdpb::GetClusterInfoResponse;
    "/pdpb.PD/GetGCSafePoint": pdpb::GetGcSafePointRequest => pdpb::GetGcSafePointResponse;
    "/pdpb.PD/GetMembers": pdpb::GetMembersRequest => pdpb::GetMembersResponse;
    "/pdpb.PD/GetRegion": pdpb::GetRegionRequest => pdpb::GetRegionResponse;
    "/pdpb.PD/GetStore": pdpb::GetStoreRequest => pdpb::GetStoreResponse;
    "/pdpb.PD/IsBootstrapped": pdpb::IsBootstrappedRequest => pdpb::IsBootstrappedResponse;
    "/pdpb.PD/PutStore": pdpb::PutStoreRequest => pdpb::PutStoreResponse;
    "/pdpb.PD/RegionHeartbeat": pdpb::RegionHeartbeatRequest => RegionHeartbeatResponse;
    "/pdpb.PD/ReportBatchSplit": pdpb::ReportBatchSplitRequest => pdpb::ReportBatchSplitResponse;
    "/pdpb.PD/StoreHeartbeat": pdpb::StoreHeartbeatRequest => pdpb::StoreHeartbeatResponse;
    "/pdpb.PD/Tso": pdpb::TsoRequest => pdpb::TsoResponse;
}

fn change(change: &pdpb::ChangePeer) -> String {
    let role = change.peer.as_ref().map_or("nobody", |p| PeerRole::try_from(p.role).unwrap().as_str_name());
    let kind = ConfChangeType::try_from(change.change_type).unwrap().as_str_name();
    format!("{kind} {role}")
}

/// A command without its ids: which fields are there and what they ask for. `None` for a message that commands nothing.
pub(crate) fn shape(message: &RegionHeartbeatResponse) -> Option<String> {
    assert_eq!(message.header.as_ref().and_then(|h| h.error.as_ref()), None);
    if message.region_id == 0 {
        return None;
    }
    assert!(message.region_epoch.is_some() && message.target_peer.is_some(), "{message:?}");
    let mut parts = Vec::new();
    parts.extend(message.change_peer.as_ref().map(|c| format!("change_peer {}", change(c))));
    parts.extend(message.change_peer_v2.as_ref().map(|v2| {
        let changes: Vec<String> = v2.changes.iter().map(change).collect();
        format!("change_peer_v2 [{}]", changes.join(", "))
    }));
    parts.extend(
        message
            .transfer_leader
            .as_ref()
            .map(|t| format!("transfer_leader to {} or {}", t.peer.iter().count(), t.peers.len())),
    );
    parts.extend(message.split_region.as_ref().map(|s| format!("split_region at {}", s.keys.len())));
    parts.extend(message.merge.as_ref().map(|_| "merge".to_owned()));
    (!parts.is_empty()).then(|| parts.join(" and "))
}
