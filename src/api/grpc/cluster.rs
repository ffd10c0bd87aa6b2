//! The cluster as a whole: members, bootstrap, ids, its one configuration value.

use crate::{
    api::{ApiError, App, app::in_time, compact_text::compact_opt, lines},
    meta::{Command, Member},
    proto::{metapb, pdpb},
};

fn member_to_wire(member: &Member) -> pdpb::Member {
    pdpb::Member {
        name: member.name.clone(),
        member_id: member.id.0,
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        leader_priority: member.leader_priority,
        ..pdpb::Member::default()
    }
}

/// `GetMembers`: also from followers, and whatever cluster the client thinks it talks to.
pub(super) async fn members(app: &App, _: pdpb::GetMembersRequest) -> Result<pdpb::GetMembersResponse, ApiError> {
    let leader = app.meta.leader().map(|m| member_to_wire(&m));
    Ok(pdpb::GetMembersResponse {
        members: app.meta.members().iter().map(member_to_wire).collect(),
        etcd_leader: leader.clone(),
        leader,
        ..Default::default()
    })
}

/// `GetClusterInfo`: timestamps come from this service itself.
pub(super) async fn info(_: &App, _: pdpb::GetClusterInfoRequest) -> Result<pdpb::GetClusterInfoResponse, ApiError> {
    let service_modes = vec![pdpb::ServiceMode::PdSvcMode.into()];
    Ok(pdpb::GetClusterInfoResponse { service_modes, ..Default::default() })
}

/// `Bootstrap`.
pub(super) async fn bootstrap(app: &App, request: pdpb::BootstrapRequest) -> Result<pdpb::BootstrapResponse, ApiError> {
    app.bootstrap(&request).await?;
    Ok(pdpb::BootstrapResponse { replication_status: Some(app.replication_status()), ..Default::default() })
}

/// `IsBootstrapped`.
pub(super) async fn is_bootstrapped(
    app: &App,
    _: pdpb::IsBootstrappedRequest,
) -> Result<pdpb::IsBootstrappedResponse, ApiError> {
    Ok(pdpb::IsBootstrappedResponse { bootstrapped: app.is_bootstrapped(), ..Default::default() })
}

/// `AllocID`: the last of `count` ids; a count of 0 is 1 id, and comes back as it was asked.
pub(super) async fn alloc_id(app: &App, request: pdpb::AllocIdRequest) -> Result<pdpb::AllocIdResponse, ApiError> {
    let id = in_time(app.meta.alloc_ids(request.count)).await?;
    Ok(pdpb::AllocIdResponse { id, count: request.count, ..Default::default() })
}

/// `IsSnapshotRecovering`: the mark is set over a route that is not built, so it never is.
pub(super) async fn is_snapshot_recovering(
    _: &App,
    _: pdpb::IsSnapshotRecoveringRequest,
) -> Result<pdpb::IsSnapshotRecoveringResponse, ApiError> {
    Ok(pdpb::IsSnapshotRecoveringResponse::default())
}

/// `GetClusterConfig`: from old clients; what replicas are made of stands in the configuration.
pub(super) async fn get_config(
    app: &App,
    _: pdpb::GetClusterConfigRequest,
) -> Result<pdpb::GetClusterConfigResponse, ApiError> {
    app.require_bootstrapped()?;
    let agreed = app.meta.state().max_peer_count;
    let max_replicas = app.dynamic.load().replication.max_replicas;
    let cluster = metapb::Cluster {
        id: app.meta.cluster_id().0,
        max_peer_count: agreed.unwrap_or(u32::try_from(max_replicas).unwrap_or(u32::MAX)),
    };
    Ok(pdpb::GetClusterConfigResponse { cluster: Some(cluster), ..Default::default() })
}

/// `PutClusterConfig`.
pub(super) async fn put_config(
    app: &App,
    request: pdpb::PutClusterConfigRequest,
) -> Result<pdpb::PutClusterConfigResponse, ApiError> {
    app.require_bootstrapped()?;
    let need = app.meta.cluster_id().0;
    let Some(cluster) = request.cluster.filter(|c| c.id == need) else {
        let got = compact_opt("metapb.Cluster", request.cluster.as_ref());
        return Err(ApiError::Invalid(format!("invalid cluster {got}, mismatch cluster id {need}")));
    };
    app.propose(Command::SetMaxPeerCount { count: cluster.max_peer_count }).await?;
    lines::cluster_config_ok(&app.log, &cluster);
    Ok(pdpb::PutClusterConfigResponse::default())
}
