//! What every method has in common: the checks before a handler and the header of each answer.
//!
//! Owns: PD's order of checks (leader, cluster id, then the handler's own; forwarding comes before, see `api::forward`) and how an error gets into an answer.
//! Must not know: what a method does.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{Answers, audited::audited};
use crate::{
    api::{
        App,
        error::{ApiError, Wire},
    },
    proto::pdpb,
};

/// With this a client lets any member answer.
const ALLOW_FOLLOWER: &str = "pd-allow-follower-handle";
/// On a follower's answer: how long ago its copy was last known to be whole, milliseconds.
const FOLLOWER_AGE: &str = "berth-follower-age-ms";

/// A request of `pdpb`.
pub(super) trait HasClusterId {
    /// Whether the method is served by the leader only and checks the cluster id.
    const CHECKED: bool = true;
    /// Whether a member that follows may answer it when the client allows that.
    const FOLLOWERS: bool = false;
    /// The method's name, when what it asks for changes what is agreed or moves data: such calls leave an audit line.
    const CHANGES: Option<&'static str> = None;
    /// The header, if there is one.
    fn head(&self) -> Option<&pdpb::RequestHeader>;
    /// The cluster id in the header; 0 without one.
    fn cluster_id(&self) -> u64 {
        self.head().map_or(0, |head| head.cluster_id)
    }
}

/// An answer of `pdpb`.
pub(super) trait TakesHeader: Default {
    /// Puts the header in. The few answers without one keep what they can of the error.
    fn put_header(&mut self, header: pdpb::ResponseHeader);
}

macro_rules! requests {
    ($($Request:ident)*) => {
        $(impl HasClusterId for pdpb::$Request {
            fn head(&self) -> Option<&pdpb::RequestHeader> {
                self.header.as_ref()
            }
        })*
    };
}

macro_rules! changes {
    ($($Request:ident = $method:literal)*) => {
        $(impl HasClusterId for pdpb::$Request {
            const CHANGES: Option<&'static str> = Some($method);
            fn head(&self) -> Option<&pdpb::RequestHeader> {
                self.header.as_ref()
            }
        })*
    };
}

macro_rules! region_reads {
    ($($Request:ident)*) => {
        $(impl HasClusterId for pdpb::$Request {
            const FOLLOWERS: bool = true;
            fn head(&self) -> Option<&pdpb::RequestHeader> {
                self.header.as_ref()
            }
        })*
    };
}

macro_rules! unchecked_requests {
    ($($Request:ident = $changes:expr;)*) => {
        $(impl HasClusterId for pdpb::$Request {
            const CHECKED: bool = false;
            const CHANGES: Option<&'static str> = $changes;
            fn head(&self) -> Option<&pdpb::RequestHeader> {
                None
            }
        })*
    };
}

macro_rules! answers {
    ($($Answer:ident)*) => {
        $(impl TakesHeader for pdpb::$Answer {
            fn put_header(&mut self, header: pdpb::ResponseHeader) {
                self.header = Some(header);
            }
        })*
    };
}

requests! {
    IsBootstrappedRequest AllocIdRequest IsSnapshotRecoveringRequest GetClusterConfigRequest GetStoreRequest
    GetAllStoresRequest StoreHeartbeatRequest ReportMinResolvedTsRequest
    AskSplitRequest AskBatchSplitRequest ReportSplitRequest ReportBatchSplitRequest GetOperatorRequest GetMinTsRequest
    GetGcSafePointRequest TsoRequest QueryRegionRequest RegionHeartbeatRequest ReportBucketsRequest
}

changes! {
    BootstrapRequest = "Bootstrap"
    PutClusterConfigRequest = "PutClusterConfig"
    PutStoreRequest = "PutStore"
    ScatterRegionRequest = "ScatterRegion"
    SplitRegionsRequest = "SplitRegions"
    SplitAndScatterRegionsRequest = "SplitAndScatterRegions"
    UpdateGcSafePointRequest = "UpdateGCSafePoint"
    UpdateServiceGcSafePointRequest = "UpdateServiceGCSafePoint"
}

// Followers have these from the leader, as of a moment ago.
region_reads! { GetRegionRequest GetRegionByIdRequest ScanRegionsRequest BatchScanRegionsRequest }

// A client learns the cluster id from the first two; the others have no header.
unchecked_requests! {
    GetMembersRequest = None;
    GetClusterInfoRequest = None;
    StoreGlobalConfigRequest = Some("StoreGlobalConfig");
    LoadGlobalConfigRequest = None;
}

answers! {
    GetClusterInfoResponse GetMembersResponse BootstrapResponse IsBootstrappedResponse AllocIdResponse
    IsSnapshotRecoveringResponse GetClusterConfigResponse PutClusterConfigResponse GetStoreResponse PutStoreResponse
    GetAllStoresResponse StoreHeartbeatResponse ReportMinResolvedTsResponse GetRegionResponse ScanRegionsResponse
    BatchScanRegionsResponse AskSplitResponse AskBatchSplitResponse ReportSplitResponse ReportBatchSplitResponse
    ScatterRegionResponse SplitRegionsResponse SplitAndScatterRegionsResponse GetOperatorResponse GetMinTsResponse GetGcSafePointResponse UpdateGcSafePointResponse
    UpdateServiceGcSafePointResponse TsoResponse QueryRegionResponse RegionHeartbeatResponse ReportBucketsResponse
    WatchGlobalConfigResponse
}

impl TakesHeader for pdpb::StoreGlobalConfigResponse {
    fn put_header(&mut self, header: pdpb::ResponseHeader) {
        if let Some(error) = header.error {
            self.error = Some(error);
        }
    }
}

impl TakesHeader for pdpb::LoadGlobalConfigResponse {
    /// It has no place for a header; loading has no error but those of single items.
    fn put_header(&mut self, _: pdpb::ResponseHeader) {}
}

/// The header of an answer, with an error or without.
pub(super) fn header(app: &App, error: Option<pdpb::Error>) -> pdpb::ResponseHeader {
    pdpb::ResponseHeader { cluster_id: app.meta.cluster_id().0, error }
}

/// An answer that holds nothing but its header.
pub(super) fn refusal<A: TakesHeader>(app: &App, error: pdpb::Error) -> A {
    let mut answer = A::default();
    answer.put_header(header(app, Some(error)));
    answer
}

/// The checks of a request that only the leader of the right cluster answers.
pub(super) fn check_request(app: &App, request: &impl HasClusterId) -> Result<(), Status> {
    check_leader(app)?;
    check_cluster_id(app, request.cluster_id())
}

/// Refuses when this member does not lead: before a handler, and again before what it read leaves.
pub(super) fn check_leader(app: &App) -> Result<(), Status> {
    app.require_leader().map_err(ApiError::into_status)
}

/// Refuses a request for another cluster.
pub(super) fn check_cluster_id(app: &App, got: u64) -> Result<(), Status> {
    let need = app.meta.cluster_id().0;
    if got == need {
        return Ok(());
    }
    Err(Status::failed_precondition(format!("mismatch cluster id, need {need} but got {got}")))
}

/// Who answers a request.
enum Answerer {
    Leader,
    /// A follower whose copy was whole so long ago.
    Follower(Duration),
}

/// Who answers on this member: the leader everything, a follower that hears the leader and has a fresh copy the reads of a client
/// that allows it (L6). Without a leader to hear nobody knows what the copy lacks.
fn answerer<Q: HasClusterId>(app: &App, head: &MetadataMap) -> Result<Answerer, Status> {
    let Err(error) = app.require_leader() else { return Ok(Answerer::Leader) };
    if !Q::FOLLOWERS || app.meta.is_outvoted() {
        return Err(error.into_status());
    }
    if !head.contains_key(ALLOW_FOLLOWER) {
        return Err(Status::unavailable("not leader and follower handling not allowed"));
    }
    let (copy, now) = (app.cluster.copy(), app.now().mono);
    let age = copy.whole_at().filter(|_| copy.is_connected(now) && copy.is_fresh(now)).map(|at| now.since(at));
    age.map(Answerer::Follower).ok_or_else(|| error.into_status())
}

/// Checks a request, runs its handler, and gives the answer its header.
pub(super) async fn unary<Q: HasClusterId + prost::Message, A: TakesHeader>(
    app: &Arc<App>,
    request: Request<Q>,
    handler: impl AsyncFnOnce(&App, Q) -> Result<A, ApiError>,
) -> Result<Response<A>, Status> {
    if !Q::CHECKED {
        return answer(app, audited(app, request, handler).await).map(Response::new);
    }
    let answerer = answerer::<Q>(app, request.metadata())?;
    check_cluster_id(app, request.get_ref().cluster_id())?;
    let mut answer = Response::new(answer(app, audited(app, request, handler).await)?);
    match answerer {
        // Again: what was read may be another leader's past by now (L6). A write that was agreed is told as unknown then.
        Answerer::Leader => check_leader(app)?,
        Answerer::Follower(age) => {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            answer.metadata_mut().insert(FOLLOWER_AGE, age.into());
        }
    }
    Ok(answer)
}

/// What a handler's result is on the wire.
pub(super) fn answer<A: TakesHeader>(app: &App, result: Result<A, ApiError>) -> Result<A, Status> {
    match result {
        Ok(mut answer) => {
            answer.put_header(header(app, None));
            Ok(answer)
        }
        Err(error) => match error.into_wire() {
            Wire::Header(error) => Ok(refusal(app, error)),
            Wire::Status(status) => Err(*status),
        },
    }
}

/// How streams end when the server does: clients go elsewhere or come back.
pub(super) fn closing() -> Status {
    Status::unavailable("server is closing")
}

/// One answer for each message, in order; ends with the client's side, with the first status, or with the server.
pub(super) fn one_by_one<Q, A, F, Fut>(app: Arc<App>, requests: Streaming<Q>, handler: F) -> Answers<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Fn(Arc<App>, Q) -> Fut + Send + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    Box::pin(futures::stream::unfold(Some((app, requests, handler)), async |state| {
        let (app, mut requests, handler) = state?;
        let request = tokio::select! {
            biased;
            () = app.closing.cancelled() => Err(closing()),
            request = requests.message() => request,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return None,
            Err(status) => return Some((Err(status), None)),
        };
        match handler(app.clone(), request).await {
            Ok(answer) => Some((Ok(answer), Some((app, requests, handler)))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}
