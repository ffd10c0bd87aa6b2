//! `/schedulers`, `/scheduler-config`: which schedulers run, pauses, their own configuration, what they are at.
//!
//! Owns: reading requests, PD's texts and status codes. Must not know: what schedulers do, how a change is agreed
//! (`api::app::schedulers`).

use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Answer, body,
    error::{NOT_BOOTSTRAPPED, Problem},
    go,
    render::Reply,
    request::Request,
};
use crate::{
    api::{App, app::SCHEDULER_NOT_FOUND, lines},
    model::{StoreId, Wall},
    scheduler::balance::{Config, ConfigError, Kind, Paused, Updated},
};

/// What the scheduler has taken in for one store.
const APPLIED: &str = "The scheduler has been applied to the store.";

#[derive(Serialize)]
struct PausedJson {
    name: String,
    paused_at: String,
    resume_at: String,
}

impl From<(String, Paused)> for PausedJson {
    fn from((name, paused): (String, Paused)) -> Self {
        let seconds = |at: Wall| go::rfc3339_nano(Wall(at.unix_seconds() * 1_000_000_000));
        Self { name, paused_at: seconds(paused.at), resume_at: seconds(paused.until) }
    }
}

#[derive(Serialize)]
struct DiagnosisJson<'a> {
    name: &'a str,
    status: &'a str,
    summary: &'a str,
    timestamp: i64,
}

fn require_bootstrapped(app: &App) -> Result<(), Problem> {
    if app.is_bootstrapped() { Ok(()) } else { Err(Problem::failed(NOT_BOOTSTRAPPED)) }
}

/// `GET /schedulers`
pub(super) fn list(request: &Request) -> Answer {
    let app = &request.app;
    require_bootstrapped(app)?;
    Ok(match request.query.text("status").as_str() {
        "paused" if request.query.has("timestamp") => {
            let paused = app.cluster.paused_schedulers(app.now());
            Reply::ok(&paused.into_iter().map(PausedJson::from).collect::<Vec<_>>())
        }
        "paused" => {
            let paused = app.cluster.paused_schedulers(app.now());
            Reply::ok(&paused.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        }
        "disabled" => {
            let dynamic = app.dynamic.load();
            let off = dynamic.schedule.schedulers_v2.iter().filter(|entry| entry.disable);
            Reply::ok(&off.filter_map(|entry| Kind::of_short_name(&entry.kind)).map(Kind::name).collect::<Vec<_>>())
        }
        _ => Reply::ok(&app.cluster.scheduler_names()),
    })
}

/// `POST /schedulers`
pub(super) async fn add(request: &Request) -> Answer {
    let input = body::object(&request.body)?;
    let Some(Value::String(name)) = input.get("name") else { return Err(Problem::bad("missing scheduler name")) };
    let name = if name == "scatter-range" { Kind::ScatterRange.name() } else { name };
    let app = &request.app;
    let hot = Kind::HotRegion.name();
    let grant_hot = Kind::GrantHotRegion.name();
    for (wanted, other) in [(grant_hot, hot), (hot, grant_hot)] {
        if name == wanted && app.cluster.scheduler_config(other).is_some() {
            return Err(Problem::bad(format!("{other} is running, please remove it first")));
        }
    }
    let kind = Kind::of_name(name).ok_or_else(|| refused_kind(name))?;
    let _one_at_a_time = request.config_writes.lock().await;
    if matches!(kind, Kind::EvictLeader | Kind::GrantLeader) {
        return add_store(app, kind, &input).await;
    }
    if !app.is_bootstrapped() {
        let status =
            if kind == Kind::ScatterRange { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST };
        return Err(Problem::Said(status, NOT_BOOTSTRAPPED.to_owned()));
    }
    let args = match kind {
        Kind::ScatterRange => {
            vec![option(&input, "start_key")?, option(&input, "end_key")?, option(&input, "range_name")?]
        }
        Kind::ShuffleHotRegion => vec![input.get("limit").and_then(number).unwrap_or(1).to_string()],
        Kind::GrantHotRegion => {
            let text = |name: &str| input.get(name).and_then(Value::as_str).map(str::to_owned);
            let leader = text("store-leader-id").ok_or_else(|| Problem::bad("missing leader id"))?;
            vec![leader, text("store-id").ok_or_else(|| Problem::bad("missing store id"))?]
        }
        _ => vec![],
    };
    app.add_scheduler(kind, &args, None).await.map_err(|e| Problem::bad(e.to_string()))?;
    Ok(Reply::ok(&"The scheduler is created."))
}

/// Kinds that PD has and Berth has not are told apart from words that mean nothing.
fn refused_kind(name: &str) -> Problem {
    const OTHERS: [&str; 5] = [
        "balance-range-scheduler",
        "balance-witness-scheduler",
        "evict-slow-trend-scheduler",
        "random-merge-scheduler",
        "transfer-witness-leader-scheduler",
    ];
    if OTHERS.contains(&name) {
        return Problem::Said(StatusCode::NOT_IMPLEMENTED, format!("scheduler {name} is not supported yet"));
    }
    Problem::bad("unknown scheduler")
}

/// A key or a name: escaped as in a query.
fn option(input: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    match input.get(name) {
        Some(Value::String(text)) => {
            let bytes = go::query_unescape(text.as_bytes()).map_err(|e| Problem::failed(e.to_string()))?;
            String::from_utf8(bytes).map_err(|_| type_invalid(name))
        }
        Some(_) => Err(type_invalid(name)),
        None => Err(Problem::failed(format!("[PD:apiutil:ErrOptionNotExist]the option {name} does not exist"))),
    }
}

fn type_invalid(name: &str) -> Problem {
    Problem::failed(format!("[PD:apiutil:ErrOptionTypeInvalid]the type of option {name} is invalid"))
}

/// evict-leader and grant-leader: the first store makes the scheduler, the others join it.
async fn add_store(app: &App, kind: Kind, input: &Map<String, Value>) -> Answer {
    let store = match input.get("store_id") {
        None | Some(Value::Null) => return Err(Problem::bad("missing store id")),
        Some(value) => number(value).ok_or_else(|| Problem::bad("please input a right store id"))?,
    };
    require_bootstrapped(app)?;
    if app.cluster.stores().get(StoreId(store)).is_none() {
        return Err(Problem::bad(no_store(StoreId(store))));
    }
    let only_store = Map::from_iter([("store_id".to_owned(), Value::from(store))]);
    if let Some(old) = app.cluster.scheduler_config(kind.name()) {
        if let Updated::To(new) = old.update(&only_store)? {
            app.configure_scheduler(kind.name(), &old, &new).await?;
            lines::scheduler_store_added(&app.log, kind.name(), StoreId(store));
        }
        return Ok(Reply::ok(&APPLIED));
    }
    let args = vec![store.to_string()];
    let fresh = Config::read(kind, &[], None)?;
    let Updated::To(own) = fresh.update(&only_store)? else {
        return Err(Problem::bad("please input a right store id"));
    };
    app.add_scheduler(kind, &args, Some(own)).await.map_err(|e| Problem::bad(e.to_string()))?;
    Ok(Reply::ok(&"The scheduler is created."))
}

fn no_store(store: StoreId) -> String {
    format!("[PD:core:ErrStoreNotFound]store {store} not found")
}

/// A whole number that JSON may write with a fraction of nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // looked at first
fn number(value: &Value) -> Option<u64> {
    let whole = |n: &f64| n.fract() == 0.0 && (0.0..9e15).contains(n);
    value.as_u64().or_else(|| value.as_f64().filter(whole).map(|n| n as u64))
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        Self::bad(error.to_string())
    }
}

/// `DELETE /schedulers/{name}`; a name with a store at its end takes the store out.
pub(super) async fn remove(request: &Request) -> Answer {
    let (app, name) = (&request.app, request.param("name"));
    require_bootstrapped(app)?;
    let _one_at_a_time = request.config_writes.lock().await;
    for kind in [Kind::EvictLeader, Kind::GrantLeader] {
        if let Some(store) = name.strip_prefix(kind.name()).and_then(|rest| rest.strip_prefix('-')) {
            return take_store(app, kind.name(), store).await;
        }
    }
    app.remove_scheduler(&name).await.map_err(|e| match e.to_string() {
        text if text == SCHEDULER_NOT_FOUND => Problem::not_found(text),
        text => Problem::failed(text),
    })?;
    Ok(Reply::ok(&"The scheduler is removed."))
}

async fn take_store(app: &App, name: &str, store: &str) -> Answer {
    if app.cluster.scheduler_config(name).is_none() {
        return Err(Problem::not_found(SCHEDULER_NOT_FOUND));
    }
    let store = go::parse_uint(store)?;
    if app.take_scheduler_store(name, StoreId(store)).await? {
        Ok(Reply::ok(&Value::Null))
    } else {
        Err(Problem::null())
    }
}

/// `POST /schedulers/{name}`
pub(super) fn pause(request: &Request) -> Answer {
    let (app, name) = (&request.app, request.param("name"));
    let input = body::int_map(&request.body)?;
    let Some((_, delay)) = input.into_iter().find(|(key, _)| key == "delay") else {
        return Err(Problem::bad("missing pause time"));
    };
    require_bootstrapped(app)?;
    let span = Duration::from_secs(u64::try_from(delay).unwrap_or(0));
    match app.cluster.pause_scheduler(&name, span, app.now()) {
        Ok(()) => lines::scheduler_paused(&app.log, &name, delay),
        Err(error) => {
            lines::scheduler_not_paused(&app.log, &name, &error);
            return Err(Problem::failed(error.to_string()));
        }
    }
    Ok(Reply::ok(&"Pause or resume the scheduler successfully."))
}

/// `GET /schedulers/diagnostic/{name}`
pub(super) fn diagnostic(request: &Request) -> Answer {
    let (app, name) = (&request.app, request.param("name"));
    if !app.dynamic.load().schedule.enable_diagnostic {
        return Err(Problem::failed("[PD:diagnostic:ErrDiagnosticDisabled]diagnostic is disabled"));
    }
    if !Kind::of_name(&name).is_some_and(Kind::has_diagnosis) {
        let text = format!("[PD:diagnostic:ErrSchedulerUndiagnosable]{name} hasn't supported diagnostic");
        return Err(Problem::failed(text));
    }
    let Some(found) = app.cluster.scheduler_diagnosis(&name, app.now()) else {
        let text = format!("[PD:diagnostic:ErrNoDiagnosticResult]{name} has no diagnostic result");
        return Err(Problem::failed(text));
    };
    let (status, summary, timestamp) = (found.status, found.summary.as_str(), found.at.unix_seconds());
    Ok(Reply::ok(&DiagnosisJson { name: &name, status, summary, timestamp }))
}

/// The scheduler that a path below `/scheduler-config` is about, its configuration, and the rest of the path.
fn configured(request: &Request) -> Result<(String, Config, Vec<String>), Problem> {
    if !request.app.is_bootstrapped() {
        return Err(Problem::Said(StatusCode::NOT_ACCEPTABLE, NOT_BOOTSTRAPPED.to_owned()));
    }
    let rest = request.param("rest");
    let mut parts = rest.split('/').map(str::to_owned);
    let name = parts.next().unwrap_or_default();
    let config = request.app.cluster.scheduler_config(&name).ok_or_else(no_page)?;
    Ok((name, config, parts.collect()))
}

fn no_page() -> Problem {
    Problem::Other(Box::new(Reply::go_error(StatusCode::NOT_FOUND, "404 page not found")))
}

/// `GET /scheduler-config/{name}/list`, `…/roles`
pub(super) fn show_config(request: &Request) -> Answer {
    let (_, config, path) = configured(request)?;
    match (path.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), &config) {
        (["list"], _) => Ok(Reply::ok(&config.show())),
        (["roles"], Config::ShuffleRegion(shuffle)) => Ok(Reply::ok(&shuffle.roles)),
        _ => Err(no_page()),
    }
}

/// `POST /scheduler-config/{name}/config`, `…/roles`; `DELETE …/delete/{store}`
pub(super) async fn change_config(request: &Request) -> Answer {
    let _one_at_a_time = request.config_writes.lock().await;
    let (name, old, path) = configured(request)?;
    let app = &request.app;
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let is = |method: &str| request.method.as_str() == method;
    match (path.as_slice(), &old) {
        (["delete", store], Config::EvictLeader(_) | Config::GrantLeader(_)) if is("DELETE") => {
            take_store(app, &name, store).await
        }
        (["roles"], Config::ShuffleRegion(_)) if is("POST") => update(request, &name, &old).await,
        (["config"], _) if is("POST") => update(request, &name, &old).await,
        _ => Err(no_page()),
    }
}

async fn update(request: &Request, name: &str, old: &Config) -> Answer {
    let (app, input) = (&request.app, body::object(&request.body)?);
    if old.stores().is_some()
        && let Some(store) = input.get("store_id").and_then(number).map(StoreId)
        && app.cluster.stores().get(store).is_none()
    {
        return Err(Problem::failed(no_store(store)));
    }
    let updated = old.update(&input)?;
    if let Updated::To(new) = &updated {
        app.configure_scheduler(name, old, new).await?;
    }
    Ok(match (old, updated) {
        (Config::HotRegion(_), _) => Reply::text(StatusCode::OK, "Config is updated."),
        (Config::BalanceLeader(_), Updated::Same) => Reply::ok(&"Config is the same with origin, so do nothing."),
        (Config::BalanceLeader(_), Updated::To(_)) => Reply::ok(&"Config is updated."),
        (Config::EvictLeader(_) | Config::GrantLeader(_), _) => Reply::ok(&APPLIED),
        (Config::EvictSlowStore(_) | Config::EvictStoppingStore(_), _) => Reply::ok(&"Config updated."),
        _ => Reply::ok(&Value::Null),
    })
}
