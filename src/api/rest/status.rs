//! `/version`, `/status`, `/ping`, `/cluster`, `/cluster/status`, `/metrics` and what lies outside PD's API.
//!
//! Owns: what this server says about itself. Must not know: stores and regions.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::{Answer, error::Problem, go, render::Reply, request::Request};
use crate::{
    api::app::KERNEL_TYPE,
    model::{ClusterId, Wall},
    telemetry::metrics::exposition,
};

/// What PD shows where its build left nothing.
const UNKNOWN: &str = "None";

/// A value of the build where PD's own build shows an empty text.
fn or_empty(text: &'static str) -> &'static str {
    if text == UNKNOWN { "" } else { text }
}

/// `GET /version`
pub(super) fn version(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Version {
        version: &'static str,
        build_time: &'static str,
        hash: &'static str,
        branch: &'static str,
    }
    let info = &request.app.info;
    Ok(Reply::ok(&Version {
        version: info.release_version,
        build_time: or_empty(info.build_time),
        hash: or_empty(info.git_hash),
        branch: or_empty(info.git_branch),
    }))
}

/// `GET /status`
pub(super) fn status(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Status {
        build_ts: &'static str,
        version: &'static str,
        git_hash: &'static str,
        start_timestamp: i64,
        kernel_type: &'static str,
    }
    let info = &request.app.info;
    Ok(Reply::ok(&Status {
        build_ts: info.build_time,
        version: info.release_version,
        git_hash: info.git_hash,
        start_timestamp: info.started.wall.unix_seconds(),
        kernel_type: KERNEL_TYPE,
    }))
}

/// `GET /ping`, `GET /pd/ping`
pub(super) fn ping(_: &Request) -> Answer {
    Ok(Reply::empty(StatusCode::OK))
}

/// `GET /cluster`
pub(super) fn cluster(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Cluster {
        id: ClusterId,
        max_peer_count: u64,
    }
    let app = &request.app;
    let max_peer_count = app.dynamic.load().replication.max_replicas;
    Ok(Reply::ok(&Cluster { id: app.meta.cluster_id(), max_peer_count }))
}

/// `/cluster/status`
pub(super) fn cluster_status(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Status {
        raft_bootstrap_time: String,
        is_initialized: bool,
        replication_status: &'static str,
    }
    let app = &request.app;
    let made: Option<Wall> = app.meta.state().cluster.as_ref().and_then(|c| c.bootstrapped);
    Ok(Reply::ok(&Status {
        raft_bootstrap_time: made.map_or_else(|| go::GO_ZERO_TIME.to_owned(), go::rfc3339_nano),
        is_initialized: made.is_some() && is_initialized(request),
        replication_status: "",
    }))
}

/// PD calls a cluster initialized when one of its regions has all the peers that it should have.
fn is_initialized(request: &Request) -> bool {
    /// Regions that are looked at: the first ones tell.
    const LOOKED_AT: usize = 16;
    let app = &request.app;
    let wanted = app.dynamic.load().replication.max_replicas;
    let first = app.cluster.regions().scan(&crate::model::KeyRange::all(), LOOKED_AT);
    first.len() > 1 || first.iter().any(|region| region.meta.voters().count() as u64 >= wanted)
}

/// `GET /metrics`
pub(super) fn metrics(request: &Request) -> Answer {
    let text = exposition(&request.app.registry).map_err(|e| Problem::failed(e.to_string()))?;
    Ok(Reply::metrics(text))
}

/// `GET /health` beside PD's API: whether this member can agree to anything, in etcd's shape.
pub(super) fn etcd_health(request: &Request) -> Answer {
    let (status, health, reason) = match request.app.unwell() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, "false", why),
        None => (StatusCode::OK, "true", String::new()),
    };
    let body = super::render::compact(&json!({ "health": health, "reason": reason }));
    Ok(Reply { status, ..Reply::go_text(body) })
}

/// `GET /dashboard/`: in no build.
pub(super) fn dashboard(_: &Request) -> Answer {
    Ok(Reply::go_text("Dashboard is not built.\n"))
}
