//! PD's HTTP interface on the client port.
//!
//! Owns: the route table, decoding requests, calling [`App`], rendering answers exactly as PD does. Must not know: tasks,
//! sockets, how effects are carried out. Start at [`routes`]: each row names its handler; the rest of the files are one
//! resource each. [`router`] is what the server listens with.

mod admin;
mod berth;
mod body;
mod checkers;
mod config;
mod error;
mod gc;
mod go;
mod hot_buckets;
mod hot_history;
mod hotspot;
mod label_owners;
mod labels;
mod matcher;
mod members;
mod min_resolved_ts;
mod operators;
mod region_checks;
mod region_json;
mod region_labels;
mod region_lists;
mod regions;
mod render;
mod request;
mod routes;
mod rule_bundles;
mod rule_json;
mod rules;
mod rules_unmet;
mod scatter;
mod schedulers;
mod stats;
mod status;
mod store_json;
mod store_limits;
mod stores;
mod v2;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request as HttpRequest, State},
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, request::Parts},
};
use tokio::sync::Mutex;

pub(in crate::api) use self::render::Reply;
use self::{
    error::{NOT_BOOTSTRAPPED, Problem},
    matcher::Found,
    request::{MAX_BODY_BYTES, Query, Request},
    routes::{Audit, Handler, Route},
};
use super::{
    App,
    forward::{self, Way},
    roles::{self, Asked, Caller},
};
use crate::telemetry::audit::{self, Outcome, ServiceInfo};

/// What a handler comes to.
type Answer = Result<Reply, Problem>;

/// PD's text when nobody leads.
const NO_LEADER: &str = "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader";

/// Longest path that is looked at. Keys travel in paths, twice escaped: nine bytes for one.
const MAX_PATH_BYTES: usize = 64 << 10;

/// How long a body may take to come: 8 MiB pass over any line that a cluster has. Without a bound a client that never ends its body
/// keeps a connection for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// What all requests share.
struct Shared {
    app: Arc<App>,
    /// Held while a change of the configuration is worked out and agreed: the next one starts from what it left.
    config_writes: Arc<Mutex<()>>,
}

/// All of PD's HTTP interface, as the fallback of a router: gRPC routes are added to it by the caller.
pub fn router(app: Arc<App>) -> Router {
    Router::new().fallback(serve).with_state(Arc::new(Shared { app, config_writes: Arc::default() }))
}

/// Answers one request.
async fn serve(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response<Body> {
    let (route, params) = match find(&shared, &request) {
        Ok(found) => found,
        Err(reply) => return (*reply).into_response(),
    };
    let (led, reads) = (shared.app.meta.is_leader(), request.method() == Method::GET);
    let (request, fresh) = match redirect(&shared.app, route, request).await {
        Ok(stays) => stays,
        Err(answer) => return *answer,
    };
    let (parts, body) = match whole(request).await {
        Ok(request) => request,
        Err(reply) => return reply.into_response(),
    };
    let reply = dispatch(&shared, route, params, parts.clone(), body.clone()).await;
    // What was read as the leader may be another leader's past by now (L6).
    let past = led && reads && !shared.app.meta.is_leader();
    if !route.local && (past || reply.not_leader) {
        let request = HttpRequest::from_parts(parts, Body::from(body));
        let refused = if past { Reply::text(StatusCode::SERVICE_UNAVAILABLE, NO_LEADER) } else { reply };
        return forward::next_leader(&shared.app, request).await.unwrap_or_else(|| refused.into_response());
    }
    let mut answer = reply.into_response();
    answer.headers_mut().extend(fresh.into_iter().flatten());
    answer
}

/// A request with all of its body.
async fn whole(request: HttpRequest) -> Result<(Parts, Bytes), Reply> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => Ok((parts, body)),
        Ok(Err(_)) => Err(Reply::go_error(StatusCode::PAYLOAD_TOO_LARGE, "http: request body too large")),
        Err(_) => Err(Reply::go_error(StatusCode::REQUEST_TIMEOUT, "http: request body came too slowly")),
    }
}

type Params = Vec<(&'static str, String)>;

/// The route of a request that may be answered; otherwise what it gets instead.
fn find(shared: &Shared, request: &HttpRequest) -> Result<(&'static Route, Params), Box<Reply>> {
    let (method, uri) = (request.method(), request.uri());
    if method == Method::OPTIONS {
        return Err(Box::new(Reply::empty(StatusCode::OK)));
    }
    let path = uri.path();
    if path.len() > MAX_PATH_BYTES {
        return Err(Box::new(Reply::go_error(StatusCode::URI_TOO_LONG, "URI Too Long")));
    }
    if let Some(clean) = matcher::clean(path) {
        let to = uri.query().map_or_else(|| clean.clone(), |query| format!("{clean}?{query}"));
        return Err(Box::new(Reply::redirect(to, method == Method::GET)));
    }
    let (route, params) = match matcher::find(routes::TABLE, method, path) {
        Found::Route(route, params) => (route, params),
        Found::OtherMethod => return Err(Box::new(Reply::empty(StatusCode::METHOD_NOT_ALLOWED))),
        Found::Nothing if path.starts_with("/pd/api/v2/") => return Err(Box::new(Reply::not_found_v2())),
        Found::Nothing => return Err(Box::new(Reply::go_error(StatusCode::NOT_FOUND, "404 page not found"))),
    };
    let asked = Asked {
        needs: route.role(),
        path,
        service: route.label,
        method: &audit::http_method("HTTP/1.1", method.as_str(), path),
    };
    if let Err(denied) = roles::admit(&shared.app.config.berth, &shared.app.log, request, asked) {
        return Err(Box::new(Reply::text(StatusCode::FORBIDDEN, denied.to_string())));
    }
    Ok((route, params))
}

async fn dispatch(shared: &Shared, route: &Route, params: Params, parts: Parts, body: Bytes) -> Reply {
    let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let named = Caller::of(&shared.app.config.berth, &parts.extensions, &parts.headers);
    let request = Request {
        app: shared.app.clone(),
        config_writes: shared.config_writes.clone(),
        query: Query::parse(parts.uri.query().unwrap_or("")),
        uri: parts.uri.to_string(),
        method: parts.method,
        params,
        headers: parts.headers,
        remote,
        named,
        body,
    };
    audited(route, &request).await
}

/// Headers that tell how fresh a follower's own answer is.
type Fresh = Option<[(HeaderName, HeaderValue); 3]>;

/// What a member that does not lead does with a request: most routes are the leader's to answer. The request comes back when it is
/// to be answered here.
async fn redirect(app: &App, route: &Route, request: HttpRequest) -> Result<(HttpRequest, Fresh), Box<Response<Body>>> {
    if route.local {
        return Ok((request, None));
    }
    let agreed = request.method() == Method::GET && forward::AGREED.contains(&route.path);
    let refuse = |status, text: &str| Err(Box::new(Reply::text(status, text).into_response()));
    match forward::way(app, request.headers(), agreed).await {
        Way::Here => Ok((request, None)),
        Way::Follower => Ok((request, Some(forward::freshness(app)))),
        Way::To(urls) => match forward::pass_on(app, urls, request).await {
            Ok(answer) => Err(Box::new(answer)),
            Err(error) => {
                crate::pdlog!(app.log, Warn, "the leader cannot be asked", "error" => error.to_string());
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "[PD:apiutil:ErrRedirect]redirect failed")
            }
        },
        Way::Twice => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "[PD:apiutil:ErrRedirectToNotLeader]redirect to not leader")
        }
        Way::NoLeader => refuse(StatusCode::SERVICE_UNAVAILABLE, NO_LEADER),
    }
}

/// Runs a handler between the audit line and the audit metrics.
async fn audited(route: &Route, request: &Request) -> Reply {
    let app = &request.app;
    let begun = app.now().wall;
    let caller = request.caller();
    if route.audit == Audit::LogAndMetrics {
        let (ip, port) = request.origin();
        let info = ServiceInfo {
            service: route.label,
            method: &audit::http_method("HTTP/1.1", request.method.as_str(), path_of(&request.uri)),
            caller,
            ip: &ip,
            port: &port,
            start: begun,
            query: request.query.lists(),
            body: &String::from_utf8_lossy(&request.body),
        };
        audit::write(&app.log, &info, request.named.standing(Outcome::Open));
    }
    let _running = app.metrics.requests.running(crate::telemetry::metrics::values::ApiKind::Http, route.label);
    let reply = answer(route, request).await.unwrap_or_else(Problem::into_reply);
    if route.audit != Audit::None {
        let metrics = &app.metrics.requests;
        // PD counts whole seconds, as the difference of two clocks read in seconds.
        let spent = app.now().wall.unix_seconds().saturating_sub(begun.unix_seconds());
        let spent = f64::from(u32::try_from(spent).unwrap_or(0));
        metrics.audit_seconds.with_label_values(&[route.label, "HTTP"]).observe(spent);
        metrics.audit.with_label_values(&[route.label, "HTTP", caller]).inc();
    }
    reply
}

async fn answer(route: &Route, request: &Request) -> Answer {
    if route.bootstrapped && !request.app.is_bootstrapped() {
        return Err(Problem::failed(NOT_BOOTSTRAPPED));
    }
    match route.handler {
        Handler::Now(handler) => handler(request),
        Handler::Later(handler) => handler(request).await,
    }
}

fn path_of(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}
