//! `/pd/api/v2`: whether this member is ready.
//!
//! Owns: the checks and their texts. Must not know: v1.

use axum::http::StatusCode;
use serde::Serialize;

use super::{Answer, render::Reply, request::Request};
use crate::api::App;

/// A check by PD's name: what is wrong, if anything.
type Check = (&'static str, fn(&App) -> Option<String>);

const SERIALIZABLE_READ: Check =
    ("etcd-serializable-read", |app| app.meta.failure().map(|why| format!("etcd serializable read failed: {why}")));

const LIVE: [Check; 1] = [SERIALIZABLE_READ];

/// In PD's order, by name.
const READY: [Check; 5] = [
    ("etcd-data-corruption", |app| {
        let corrupt = app.meta.failure().is_some() || app.meta.is_outvoted();
        corrupt.then(|| "etcd data corruption alarm is active".to_owned())
    }),
    ("etcd-linearizable-read", |app| {
        let why = match app.leaving.is_cancelled() {
            true => "server is closing",
            false if app.meta.leader().is_none() => "no leader",
            false => return None,
        };
        Some(format!("etcd linearizable read failed: {why}"))
    }),
    // Every member of the group votes.
    ("etcd-non-learner", |_| None),
    SERIALIZABLE_READ,
    ("leader-promotion", |app| (app.meta.is_leader() && !regions_loaded(app)).then(|| "regions not loaded".to_owned())),
];

/// Whether what is known of regions has been read. Before bootstrap there is nothing to read, and PD says no.
fn regions_loaded(app: &App) -> bool {
    app.is_bootstrapped()
}

/// `GET /ready`
pub(super) fn ready(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Ready {
        region_loaded: bool,
        is_bootstrapped: bool,
    }
    let app = &request.app;
    let (region_loaded, is_bootstrapped) = (regions_loaded(app), app.is_bootstrapped());
    // A cluster that is yet to be bootstrapped has no regions to wait for.
    let status = if region_loaded || !is_bootstrapped { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if request.query.has("verbose") {
        return Ok(Reply::v2(status, &Ready { region_loaded, is_bootstrapped }));
    }
    Ok(Reply::empty(status))
}

/// `GET /livez`, `GET /livez/{check}`
pub(super) fn livez(request: &Request) -> Answer {
    run(request, &LIVE)
}

/// `GET /readyz`, `GET /readyz/{check}`
pub(super) fn readyz(request: &Request) -> Answer {
    run(request, &READY)
}

fn run(request: &Request, checks: &[Check]) -> Answer {
    let (only, left_out) = (request.param("check"), request.query.all("exclude"));
    let chosen =
        checks.iter().filter(|(name, _)| (only.is_empty() || only == *name) && !left_out.iter().any(|out| out == name));
    let found: Vec<_> = chosen.map(|(name, check)| (*name, check(&request.app))).collect();
    if found.is_empty() && !only.is_empty() {
        return Ok(Reply::not_found_v2());
    }
    let failed = found.iter().any(|(_, wrong)| wrong.is_some());
    let mut text = String::new();
    if failed || request.query.has("verbose") {
        for (name, wrong) in &found {
            text += &match wrong {
                Some(why) => format!("[-]{name} failed: {why}\n"),
                None => format!("[+]{name} ok\n"),
            };
        }
    }
    if !failed {
        text.push_str("ok\n");
    }
    let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok(Reply { status, ..Reply::go_text(text) })
}
