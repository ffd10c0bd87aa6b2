//! The gRPC service `pdpb.PD`.
//!
//! Owns: which handler answers which method, the bounds on messages, what unknown methods get. One file an area:
//! [`cluster`], [`store`], [`region`], [`heartbeat`], [`split`], [`tso`], [`gc`], [`global_config`], [`operator`]. Every handler is
//! decode → check → one call into `meta` or the cluster → encode; [`header`] does what all of them have in common, [`audited`] tells who changed what, [`counted`] counts. Must not know:
//! sockets and tasks. A method that is not built answers Unimplemented, as PD does for methods that it does not know.

mod audited;
mod cluster;
mod counted;
mod gc;
pub mod global_config;
mod header;
pub mod heartbeat;
mod operator;
mod region;
mod scatter;
mod split;
mod store;
mod tso;

use std::{pin::Pin, sync::Arc};

use axum::{
    extract::{Request as HttpRequest, State},
    middleware::Next,
    response::Response as HttpResponse,
};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::tokio_stream::Stream,
    service::{Routes, RoutesBuilder},
};

use super::{
    App, compact_text,
    roles::{self, Role},
};
use crate::proto::pdpb::{
    self,
    pd_server::{Pd, PdServer},
};

/// What a streaming method answers with.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; cheap to clone.
#[derive(Clone, Debug)]
pub struct PdService {
    app: Arc<App>,
}

/// Writes the whole implementation of the service from the tables below. (One macro for all: the attribute that makes the methods
/// `async` has to see them.)
macro_rules! service {
    (
        unary { $($unary:ident: $Request:ident -> $Answer:ident = $handler:path;)* }
        streaming { $($stream:ident, $Stream:ident: $StreamRequest:ident -> $StreamAnswer:ident = $stream_handler:path;)* }
        watching { $($watch:ident, $Watch:ident: $WatchRequest:ident -> $WatchAnswer:ident = $watch_handler:path;)* }
        upload { $($upload:ident: $UploadRequest:ident -> $UploadAnswer:ident = $upload_handler:path;)* }
        unbuilt { $($no:ident = $no_name:literal: $NoRequest:ident -> $NoAnswer:ident;)* }
        unbuilt_watching { $($now:ident, $NoStream:ident = $now_name:literal: $NowRequest:ident -> $NowAnswer:ident;)* }
        unbuilt_streaming { $($nos:ident, $NosStream:ident = $nos_name:literal: $NosRequest:ident -> $NosAnswer:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl Pd for PdService {
            $(async fn $unary(&self, request: Request<pdpb::$Request>) -> Result<Response<pdpb::$Answer>, Status> {
                header::unary(&self.app, request, $handler).await
            })*
            $(type $Stream = Answers<pdpb::$StreamAnswer>;
            async fn $stream(
                &self,
                request: Request<Streaming<pdpb::$StreamRequest>>,
            ) -> Result<Response<Self::$Stream>, Status> {
                Ok(Response::new($stream_handler(self.app.clone(), request.into_inner())))
            })*
            $(type $Watch = Answers<pdpb::$WatchAnswer>;
            async fn $watch(&self, request: Request<pdpb::$WatchRequest>) -> Result<Response<Self::$Watch>, Status> {
                Ok(Response::new($watch_handler(self.app.clone(), request.get_ref())?))
            })*
            $(async fn $upload(
                &self,
                request: Request<Streaming<pdpb::$UploadRequest>>,
            ) -> Result<Response<pdpb::$UploadAnswer>, Status> {
                $upload_handler(&self.app, request.into_inner()).await.map(Response::new)
            })*
            $(async fn $no(&self, _: Request<pdpb::$NoRequest>) -> Result<Response<pdpb::$NoAnswer>, Status> {
                Err(unknown_method("pdpb.PD", $no_name))
            })*
            $(type $NoStream = Answers<pdpb::$NowAnswer>;
            async fn $now(&self, _: Request<pdpb::$NowRequest>) -> Result<Response<Self::$NoStream>, Status> {
                Err(unknown_method("pdpb.PD", $now_name))
            })*
            $(type $NosStream = Answers<pdpb::$NosAnswer>;
            async fn $nos(
                &self,
                _: Request<Streaming<pdpb::$NosRequest>>,
            ) -> Result<Response<Self::$NosStream>, Status> {
                Err(unknown_method("pdpb.PD", $nos_name))
            })*
        }

        /// The unary methods that are built, as Rust spells them, and what they say that they change.
        #[cfg(test)]
        const UNARY: &[(&str, Option<&str>)] =
            &[$((stringify!($unary), <pdpb::$Request as header::HasClusterId>::CHANGES)),*];
    };
}

service! {
    unary {
        get_cluster_info: GetClusterInfoRequest -> GetClusterInfoResponse = cluster::info;
        get_members: GetMembersRequest -> GetMembersResponse = cluster::members;
        bootstrap: BootstrapRequest -> BootstrapResponse = cluster::bootstrap;
        is_bootstrapped: IsBootstrappedRequest -> IsBootstrappedResponse = cluster::is_bootstrapped;
        alloc_id: AllocIdRequest -> AllocIdResponse = cluster::alloc_id;
        is_snapshot_recovering: IsSnapshotRecoveringRequest -> IsSnapshotRecoveringResponse = cluster::is_snapshot_recovering;
        get_cluster_config: GetClusterConfigRequest -> GetClusterConfigResponse = cluster::get_config;
        put_cluster_config: PutClusterConfigRequest -> PutClusterConfigResponse = cluster::put_config;
        get_store: GetStoreRequest -> GetStoreResponse = store::get;
        put_store: PutStoreRequest -> PutStoreResponse = store::put;
        get_all_stores: GetAllStoresRequest -> GetAllStoresResponse = store::all;
        store_heartbeat: StoreHeartbeatRequest -> StoreHeartbeatResponse = store::heartbeat;
        report_min_resolved_ts: ReportMinResolvedTsRequest -> ReportMinResolvedTsResponse = store::min_resolved_ts;
        get_region: GetRegionRequest -> GetRegionResponse = region::by_key;
        get_prev_region: GetRegionRequest -> GetRegionResponse = region::before_key;
        get_region_by_id: GetRegionByIdRequest -> GetRegionResponse = region::by_id;
        scan_regions: ScanRegionsRequest -> ScanRegionsResponse = region::scan;
        batch_scan_regions: BatchScanRegionsRequest -> BatchScanRegionsResponse = region::batch_scan;
        ask_split: AskSplitRequest -> AskSplitResponse = split::ask;
        ask_batch_split: AskBatchSplitRequest -> AskBatchSplitResponse = split::ask_batch;
        report_split: ReportSplitRequest -> ReportSplitResponse = split::report;
        report_batch_split: ReportBatchSplitRequest -> ReportBatchSplitResponse = split::report_batch;
        get_operator: GetOperatorRequest -> GetOperatorResponse = operator::get;
        scatter_region: ScatterRegionRequest -> ScatterRegionResponse = scatter::scatter;
        split_regions: SplitRegionsRequest -> SplitRegionsResponse = scatter::split;
        split_and_scatter_regions: SplitAndScatterRegionsRequest -> SplitAndScatterRegionsResponse = scatter::split_and_scatter;
        get_min_ts: GetMinTsRequest -> GetMinTsResponse = tso::min_ts;
        get_gc_safe_point: GetGcSafePointRequest -> GetGcSafePointResponse = gc::get;
        update_gc_safe_point: UpdateGcSafePointRequest -> UpdateGcSafePointResponse = gc::update;
        update_service_gc_safe_point: UpdateServiceGcSafePointRequest -> UpdateServiceGcSafePointResponse = gc::update_service;
        store_global_config: StoreGlobalConfigRequest -> StoreGlobalConfigResponse = global_config::store;
        load_global_config: LoadGlobalConfigRequest -> LoadGlobalConfigResponse = global_config::load;
    }
    streaming {
        tso, TsoStream: TsoRequest -> TsoResponse = tso::serve;
        region_heartbeat, RegionHeartbeatStream: RegionHeartbeatRequest -> RegionHeartbeatResponse = heartbeat::serve;
        query_region, QueryRegionStream: QueryRegionRequest -> QueryRegionResponse = region::query;
    }
    watching {
        watch_global_config, WatchGlobalConfigStream:
            WatchGlobalConfigRequest -> WatchGlobalConfigResponse = global_config::watch;
    }
    upload {
        report_buckets: ReportBucketsRequest -> ReportBucketsResponse = heartbeat::report_buckets;
    }
    unbuilt {
        get_gc_safe_point_v2 = "GetGCSafePointV2": GetGcSafePointV2Request -> GetGcSafePointV2Response;
        update_gc_safe_point_v2 = "UpdateGCSafePointV2": UpdateGcSafePointV2Request -> UpdateGcSafePointV2Response;
        update_service_safe_point_v2 = "UpdateServiceSafePointV2":
            UpdateServiceSafePointV2Request -> UpdateServiceSafePointV2Response;
        get_all_gc_safe_point_v2 = "GetAllGCSafePointV2": GetAllGcSafePointV2Request -> GetAllGcSafePointV2Response;
        advance_gc_safe_point = "AdvanceGCSafePoint": AdvanceGcSafePointRequest -> AdvanceGcSafePointResponse;
        advance_txn_safe_point = "AdvanceTxnSafePoint": AdvanceTxnSafePointRequest -> AdvanceTxnSafePointResponse;
        set_gc_barrier = "SetGCBarrier": SetGcBarrierRequest -> SetGcBarrierResponse;
        delete_gc_barrier = "DeleteGCBarrier": DeleteGcBarrierRequest -> DeleteGcBarrierResponse;
        set_global_gc_barrier = "SetGlobalGCBarrier": SetGlobalGcBarrierRequest -> SetGlobalGcBarrierResponse;
        delete_global_gc_barrier = "DeleteGlobalGCBarrier":
            DeleteGlobalGcBarrierRequest -> DeleteGlobalGcBarrierResponse;
        get_gc_state = "GetGCState": GetGcStateRequest -> GetGcStateResponse;
        get_all_keyspaces_gc_states = "GetAllKeyspacesGCStates":
            GetAllKeyspacesGcStatesRequest -> GetAllKeyspacesGcStatesResponse;
        sync_max_ts = "SyncMaxTS": SyncMaxTsRequest -> SyncMaxTsResponse;
        get_dc_location_info = "GetDCLocationInfo": GetDcLocationInfoRequest -> GetDcLocationInfoResponse;
        set_external_timestamp = "SetExternalTimestamp": SetExternalTimestampRequest -> SetExternalTimestampResponse;
        get_external_timestamp = "GetExternalTimestamp": GetExternalTimestampRequest -> GetExternalTimestampResponse;
    }
    unbuilt_watching {
        watch_gc_safe_point_v2, WatchGCSafePointV2Stream = "WatchGCSafePointV2":
            WatchGcSafePointV2Request -> WatchGcSafePointV2Response;
    }
    unbuilt_streaming {
        sync_regions, SyncRegionsStream = "SyncRegions": SyncRegionRequest -> SyncRegionResponse;
    }
}

/// What PD answers for a method that it does not have.
fn unknown_method(service: &str, method: &str) -> Status {
    Status::unimplemented(format!("unknown method {method} for service {service}"))
}

/// The gRPC half of the client port, ready to be merged with the REST router. `health` is the service of `tonic-health`.
/// Messages may be as large as `max-request-bytes` allows: split reports and heartbeats of wide regions pass tonic's 4 MiB.
pub fn router<H>(app: Arc<App>, health: H) -> axum::Router
where
    H: tower::Service<tonic::codegen::http::Request<tonic::body::Body>, Error = std::convert::Infallible>
        + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    H::Response: axum::response::IntoResponse,
    H::Future: Send + 'static,
{
    let limit = usize::try_from(app.config.max_request_bytes).unwrap_or(usize::MAX);
    let service = PdServer::new(PdService { app: app.clone() })
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let mut routes: RoutesBuilder = Routes::builder();
    routes.add_service(service).add_service(health);
    let counted = axum::middleware::from_fn_with_state(app.clone(), counted::counted);
    let forward = axum::middleware::from_fn_with_state(app.clone(), crate::api::forward::forward_grpc);
    let allowed = axum::middleware::from_fn_with_state(app, allowed);
    let routes = routes.routes().into_axum_router().reset_fallback();
    routes
        .route_layer(forward)
        .route_layer(allowed)
        .route_layer(counted)
        .route_layer(axum::middleware::from_fn(known_method))
}

/// Refuses what the caller's role does not allow.
async fn allowed(State(app): State<Arc<App>>, request: HttpRequest, next: Next) -> HttpResponse {
    let path = request.uri().path();
    let needs = split_path(path).map_or(Role::Read, |(_, method)| roles::of_grpc(method));
    match roles::admit_grpc(&app.config.berth, &app.log, &request, needs) {
        Ok(()) => next.run(request).await,
        Err(denied) => Status::permission_denied(denied.to_string()).into_http(),
    }
}

/// Whether a request is gRPC: what no route answers must then be refused in gRPC's way.
pub fn is_grpc(request: &HttpRequest) -> bool {
    let kind = request.headers().get(axum::http::header::CONTENT_TYPE);
    kind.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Names an unknown method of a known service, as PD does.
async fn known_method(request: HttpRequest, next: Next) -> HttpResponse {
    match split_path(request.uri().path()) {
        Some((service, method)) if compact_text::has_method(service, method) == Some(false) => {
            unknown_method(service, method).into_http()
        }
        _ => next.run(request).await,
    }
}

/// The answer to a gRPC request that no route takes; the router that merges gRPC and REST calls it from its fallback.
pub fn unknown_service(path: &str) -> HttpResponse {
    let status = match split_path(path) {
        Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
        None => Status::unimplemented(format!("malformed method name: {path:?}")),
    };
    status.into_http()
}

/// `/package.Service/Method`.
fn split_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}
