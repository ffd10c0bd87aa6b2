//! `/berth/v1/drains`: draining stores, and what a drain would be like.
//!
//! Owns: their JSON. Must not know: how they are explained.

use serde_json::{Value, json};

use super::{
    super::{Answer, error::Problem, go::rfc3339_nano, request::Request},
    answer, groups,
    owners::Owner,
};
use crate::{
    api::{ApiError, App},
    model::{Now, StoreId, StoreState},
    scheduler::explain::{drain::DrainReport, preview::Preview, text, why::Group},
};

/// `GET /berth/v1/drains`
pub(in crate::api::rest) fn all(request: &Request) -> Answer {
    let app = &request.app;
    let reports = app.cluster.explain_drains(app.now());
    let as_text = || match reports.as_slice() {
        [] => "no store is being drained\n".to_owned(),
        some => some.iter().map(|r| drain_text(app, r)).collect::<Vec<_>>().join("\n"),
    };
    let as_json =
        || json!({ "count": reports.len(), "drains": reports.iter().map(|r| show(app, r)).collect::<Vec<_>>() });
    answer(request, as_text, as_json)
}

/// `GET /berth/v1/drains/{id}`
pub(in crate::api::rest) fn one(request: &Request) -> Answer {
    let (app, id) = (&request.app, request.store_param()?);
    let report = app.cluster.explain_drain(id, app.now()).ok_or(ApiError::StoreNotFound(id))?;
    if report.state == StoreState::Up {
        let text = format!(
            "store {id} is not being drained; GET /berth/v1/drains/{id}/preview says what a drain would be like"
        );
        return Err(Problem::not_found(text));
    }
    answer(request, || drain_text(app, &report), || show(app, &report))
}

/// `GET /berth/v1/drains/{id}/preview`
pub(in crate::api::rest) fn preview(request: &Request) -> Answer {
    let (app, id) = (&request.app, request.store_param()?);
    let now = app.now();
    let preview = app.cluster.preview_drain(id, now).ok_or(ApiError::StoreNotFound(id))?;
    let notes = |group: &Group| Owner::of(app, group, now.wall).map(|owner| owner.text());
    answer(request, || text::preview(&preview, now.mono, &notes), || show_preview(app, &preview, now))
}

fn drain_text(app: &App, report: &DrainReport) -> String {
    let notes = |group: &Group| Owner::of(app, group, report.at.wall).map(|owner| owner.text());
    text::drain(report, asked_text(app, report.store).as_deref(), &notes)
}

/// `pd-ctl from 10.0.0.7 at 2026-11-22T13:04:11Z`
fn asked_text(app: &App, store: StoreId) -> Option<String> {
    let drain = app.meta.state().drains.get(&store).cloned()?;
    let by = drain.by.as_ref().map_or_else(|| "somebody".to_owned(), |by| format!("{} from {}", by.component, by.ip));
    Some(format!("{by} at {}", rfc3339_nano(drain.since)))
}

fn show(app: &App, report: &DrainReport) -> Value {
    let drain = app.meta.state().drains.get(&report.store).cloned();
    let asked = drain.map(|drain| {
        json!({
            "component": drain.by.as_ref().map(|by| &by.component),
            "ip": drain.by.as_ref().map(|by| &by.ip),
            "time": rfc3339_nano(drain.since),
        })
    });
    json!({
        "store": report.store.0,
        "address": report.address,
        "state": report.state.name(),
        "asked_by": asked,
        "regions_left": report.regions_left,
        "bytes_left": report.bytes_left,
        "progress": report.progress.as_ref().map(|p| p.progress),
        "bytes_per_second": report.progress.as_ref().map(|p| p.current_speed * f64::from(1 << 20)),
        "seconds_left": report.seconds_left(),
        "limited_by": { "limit": report.binding.name(), "why": report.binding.says() },
        "not_tombstone": report.unburied.as_ref().map(text::unburied),
        "groups": groups(&report.groups, report.at, |group| Owner::of(app, group, report.at.wall)),
    })
}

fn show_preview(app: &App, preview: &Preview, now: Now) -> Value {
    let (takes, measured) = preview.move_takes;
    json!({
        "store": preview.store.0,
        "allowed": preview.allowed.is_ok(),
        "refusal": preview.allowed.as_ref().err().map(ToString::to_string),
        "regions": preview.regions,
        "bytes": preview.bytes,
        "movable_regions": preview.movable,
        "seconds": preview.takes.map(|t| t.as_secs_f64()),
        "tombstone_after_seconds": preview.tombstone_after.map(|t| t.as_secs_f64()),
        "limited_by": { "limit": preview.limit.name(), "why": preview.limit.says() },
        "move_seconds": takes.as_secs_f64(),
        "move_seconds_measured": measured,
        "held": preview.is_held(),
        "targets": preview.targets.iter().map(|(store, regions)| json!({ "store": store.0, "regions": regions }))
            .collect::<Vec<_>>(),
        "would_hold": groups(&preview.holds, now, |group| Owner::of(app, group, now.wall)),
    })
}
