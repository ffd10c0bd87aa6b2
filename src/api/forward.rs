//! Members that do not lead: what they pass on to the one that does, and what they refuse.
//!
//! Owns: whom a call may be passed on to, and the texts when it is not. Must not know: connections ([`Onward`] does).
//!
//! gRPC is passed on when the client asks for it with `pd-forwarded-host`; REST always. A call that was passed on once is not
//! passed on again, but by a member that led until a moment ago: whoever passed it on did not know yet. A call goes on in its caller's
//! name ([`roles::name_caller`]), not in that of the member that passes it on.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Response},
    middleware::Next,
};
use futures::future::BoxFuture;
use tonic::Status;

use super::{
    App,
    rest::Reply,
    roles::{self, Identity},
};

/// gRPC: where a client asks a member to pass a call on.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("pd-forwarded-host");
/// REST: who passed a request on.
const REDIRECTOR: HeaderName = HeaderName::from_static("pd-redirector");
/// REST: that any member may answer.
const ALLOW_FOLLOWER: HeaderName = HeaderName::from_static("pd-allow-follower-handle");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// On a follower's own answer: its name.
const FOLLOWER: HeaderName = HeaderName::from_static("berth-follower");
/// On a follower's own answer: the last agreed entry that it has applied.
const APPLIED: HeaderName = HeaderName::from_static("berth-follower-applied");
/// On a follower's own answer: the leader that it hears, or `none`.
const HEARS: HeaderName = HeaderName::from_static("berth-follower-leader");
/// Reads that a follower can answer: they show agreed state only. What stores and regions report is known to the leader alone.
pub(super) const AGREED: [&str; 12] = [
    "/pd/api/v1/members",
    "/pd/api/v1/leader",
    "/pd/api/v1/config/schedule",
    "/pd/api/v1/config/replicate",
    "/pd/api/v1/config/pd-server",
    "/pd/api/v1/config/label-property",
    "/pd/api/v1/config/cluster-version",
    "/pd/api/v1/config/replication-mode",
    "/pd/api/v1/config/rules",
    "/pd/api/v1/config/rule_groups",
    "/pd/api/v1/config/placement-rule",
    "/pd/api/v1/config/region-label/rules",
];
/// How long a request waits for a leader (PD's time).
const LEADER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a member that is well takes to say so.
const ANSWERS: Duration = Duration::from_secs(1);
/// Longest answer that is taken whole.
const MAX_ANSWER: usize = 1 << 20;
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// Passes calls on. Implemented by the shell.
pub trait Onward: Send + Sync {
    /// Sends `request` to the server at the first of `urls` that can be reached, and returns its answer while it comes.
    fn pass_on(&self, urls: Vec<String>, request: Request) -> BoxFuture<'static, io::Result<Response<Body>>>;
}

/// What becomes of a REST request on this member.
pub(super) enum Way {
    /// It is answered here.
    Here,
    /// It is answered here by a member that does not lead, because the caller asked for that.
    Follower,
    /// The leader answers it.
    To(Vec<String>),
    /// It was passed on to a member that does not lead, and did not until a moment ago.
    Twice,
    /// Nobody leads.
    NoLeader,
}

/// Which way a REST request goes. `agreed`: it reads agreed state ([`AGREED`]). One that asks for any member's answer stays only
/// then (L6).
pub(super) async fn way(app: &App, headers: &HeaderMap, agreed: bool) -> Way {
    if app.meta.is_leader() {
        return Way::Here;
    }
    let agreed = agreed && !app.meta.is_outvoted();
    if agreed && headers.get(ALLOW_FOLLOWER).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) {
        return Way::Follower;
    }
    let passed_on_by = headers.get(REDIRECTOR).map(HeaderValue::as_bytes);
    let found = async {
        loop {
            if app.meta.is_leader() {
                return Way::Here;
            }
            // Who passes on to this member while nobody else leads has heard of its election before it begins to serve.
            if let Some(urls) = leader_urls(app) {
                let again = |by: &[u8]| !by.contains(&b',') && app.cluster.led_within(LEADER_PATIENCE, app.now());
                return if passed_on_by.is_none_or(again) { Way::To(urls) } else { Way::Twice };
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(LEADER_PATIENCE, found).await.unwrap_or(Way::NoLeader)
}

/// How fresh a follower's own answer is: what it had applied before it answered, and whether it hears a leader.
pub(super) fn freshness(app: &App) -> [(HeaderName, HeaderValue); 3] {
    let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unnamed"));
    let leader = app.meta.leader().map_or_else(|| "none".to_owned(), |leader| leader.name);
    [
        (FOLLOWER, text(&app.info.name)),
        (APPLIED, HeaderValue::from(app.meta.group_counts().applied)),
        (HEARS, text(&leader)),
    ]
}

/// Client URLs of another member that leads.
fn leader_urls(app: &App) -> Option<Vec<String>> {
    let leader = app.meta.leader().filter(|leader| leader.id != app.meta.member_id())?;
    Some(leader.client_urls).filter(|urls| !urls.is_empty())
}

/// Names on a request that is passed on whose it is and where it came from.
fn name_origin(app: &App, request: &mut Request) {
    roles::name_caller(&app.config.berth, request);
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string());
    let headers = request.headers_mut();
    let before = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let chain: Vec<&str> = before.into_iter().chain(remote.as_deref()).collect();
    if let Ok(chain) = HeaderValue::from_str(&chain.join(", ")) {
        headers.insert(FORWARDED_FOR, chain);
    }
}

/// Passes a REST request on to the leader.
pub(super) async fn pass_on(app: &App, urls: Vec<String>, mut request: Request) -> io::Result<Response<Body>> {
    name_origin(app, &mut request);
    let headers = request.headers_mut();
    // Names have no comma, so that two of them tell of two members.
    let name = app.info.name.replace(',', "_");
    let by = match headers.get(REDIRECTOR).and_then(|value| value.to_str().ok()) {
        Some(before) => format!("{before}, {name}"),
        None => name,
    };
    headers.insert(REDIRECTOR, HeaderValue::from_str(&by).unwrap_or(HeaderValue::from_static("berth, berth")));
    app.onward.pass_on(urls, request).await
}

/// Whether the member at these URLs answers.
pub(super) async fn answers(app: &App, urls: &[String]) -> bool {
    let Ok(request) = Request::get("/pd/api/v1/ping").body(Body::empty()) else { return false };
    let asked = tokio::time::timeout(ANSWERS, app.onward.pass_on(urls.to_vec(), request)).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()))
}

/// Has the next leader answer a request that this member took as the leader and did not carry out, or must not answer any more. `None`:
/// there is none in time, or it is this member.
pub(super) async fn next_leader(app: &App, request: Request) -> Option<Response<Body>> {
    let found = async {
        loop {
            if let Some(urls) = leader_urls(app) {
                return Some(urls);
            }
            if app.meta.is_leader() {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let urls = tokio::time::timeout(LEADER_PATIENCE, found).await.ok()??;
    pass_on(app, urls, request).await.ok()
}

/// Has the next leader answer a request without a body that this member began to answer as the leader; `of`: whose it is.
pub(super) async fn again(app: &App, method: &str, uri: &str, of: &Identity) -> Result<Reply, String> {
    let found = async {
        loop {
            if let Some(urls) = leader_urls(app) {
                return urls;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let urls = tokio::time::timeout(LEADER_PATIENCE, found).await.map_err(|_| "nobody leads yet".to_owned())?;
    let request = Request::builder().method(method).uri(uri).extension(of.clone()).body(Body::empty());
    let request = request.map_err(|e| e.to_string())?;
    let answer = pass_on(app, urls, request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await.map_err(|e| e.to_string())?;
    Ok(Reply::passed(status, bytes.into()))
}

/// gRPC: a call that names another member's URL goes there if it leads, and nowhere else: nobody may have this server call whom he
/// likes.
pub(super) async fn forward_grpc(
    State(app): State<std::sync::Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let Some(host) = request.headers_mut().remove(FORWARDED_HOST) else { return next.run(request).await };
    let host = host.to_str().unwrap_or_default();
    if host.is_empty() || app.info.client_urls.iter().any(|url| url == host) {
        return next.run(request).await;
    }
    if !leader_urls(&app).is_some_and(|urls| urls.iter().any(|url| url == host)) {
        // The words at the end make PD's client look up the members again.
        let text = format!("forwarded host {host:?} is not a client URL of the PD leader: pd is not leader of cluster");
        return Status::invalid_argument(text).into_http();
    }
    name_origin(&app, &mut request);
    let passed = app.onward.pass_on(vec![host.to_owned()], request).await;
    passed.unwrap_or_else(|error| Status::unavailable(format!("forward to {host}: {error}")).into_http())
}
