//! `/stores`, `/store/{id}`, its state and weight, `/stores/progress`.
//!
//! Owns: reading requests about stores. Must not know: how stores are shown (`store_json`), limits, labels.

use axum::http::StatusCode;
use serde::Serialize;

use super::{Answer, body, error::Problem, go, render::Reply, request::Request, store_json::View};
use crate::{
    meta::Command,
    model::{StoreId, StoreState},
    scheduler::progress::{Action, Progress},
};

/// `GET /store/{id}`
pub(super) fn one(request: &Request) -> Answer {
    let id = request.store_param()?;
    let info = request.app.store(id)?;
    Ok(Reply::ok(&View::new(&request.app).show(&info)))
}

/// `GET /stores`: Up and Offline ones when no state is given.
pub(super) fn all(request: &Request) -> Answer {
    let mut wanted = Vec::new();
    for text in request.query.all("state") {
        let number = go::atoi(&text).map_err(|e| Problem::failed(e.to_string()))?;
        wanted.push(match number {
            0 => StoreState::Up,
            1 => StoreState::Offline,
            2 => StoreState::Tombstone,
            _ => return Err(Problem::failed(format!("unknown StoreState: {number}"))),
        });
    }
    if wanted.is_empty() {
        wanted = vec![StoreState::Up, StoreState::Offline];
    }
    let stores = request.app.cluster.stores().snapshot();
    let chosen = stores.values().filter(|s| wanted.contains(&s.record.state)).map(|s| &**s);
    Ok(Reply::ok(&View::new(&request.app).list(chosen)))
}

/// `GET /stores/check`: by the name of the state as it is shown; all stores when none is given.
pub(super) fn by_state(request: &Request) -> Answer {
    const NAMES: [&str; 5] = ["Up", "Offline", "Tombstone", "Disconnected", "Down"];
    let mut wanted = Vec::new();
    for text in request.query.all("state") {
        let name = NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(&text));
        wanted.push(name.ok_or_else(|| Problem::bad(format!("unknown StoreState: {text}")))?);
    }
    let view = View::new(&request.app);
    let stores = request.app.cluster.stores().snapshot();
    let chosen = stores.values().filter(|s| wanted.is_empty() || wanted.contains(&view.state_name(s)));
    Ok(Reply::ok(&view.list(chosen.map(|s| &**s))))
}

/// `DELETE /store/{id}`
pub(super) async fn delete(request: &Request) -> Answer {
    let id = request.store_param()?;
    request.app.offline_store(id, request.query.has("force"), request.asked_by()).await?;
    Ok(Reply::ok(&"The store is set as Offline."))
}

/// `POST /store/{id}/state`
pub(super) async fn set_state(request: &Request) -> Answer {
    let id = request.store_param()?;
    let state = request.query.text("state");
    if state.eq_ignore_ascii_case(StoreState::Up.name()) {
        request.app.up_store(id).await?;
    } else if state.eq_ignore_ascii_case(StoreState::Offline.name()) {
        request.app.offline_store(id, false, request.asked_by()).await?;
    } else {
        return Err(Problem::bad(format!("invalid state {state}")));
    }
    Ok(Reply::ok(&"The store's state is updated."))
}

/// `POST /store/{id}/weight`
pub(super) async fn set_weight(request: &Request) -> Answer {
    let id = request.store_param()?;
    let input = body::object(&request.body)?;
    let leader = input.get("leader").ok_or_else(|| Problem::bad("leader weight unset"))?;
    let region = input.get("region").ok_or_else(|| Problem::bad("region weight unset"))?;
    let weight = |value: &serde_json::Value| value.as_f64().filter(|w| w.is_finite() && *w >= 0.0);
    let leader = weight(leader).ok_or_else(|| Problem::bad("bad format leader weight"))?;
    let region = weight(region).ok_or_else(|| Problem::bad("bad format region weight"))?;
    let command = Command::SetStoreWeight { id, leader, region };
    request.app.propose(command).await.map_err(|e| Problem::from(e).into_failure())?;
    Ok(Reply::ok(&"The store's weight is updated."))
}

/// `DELETE /stores/remove-tombstone`
pub(super) async fn remove_tombstones(request: &Request) -> Answer {
    request.app.remove_tombstones().await?;
    Ok(Reply::ok(&"Remove tombstone successfully."))
}

#[derive(Serialize)]
struct ProgressJson {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_id: Option<StoreId>,
    progress: f64,
    current_speed: f64,
    left_seconds: f64,
}

/// `GET /stores/progress`, of one store or averaged over all that are on the same way.
pub(super) fn progress(request: &Request) -> Answer {
    let (id, action) = (request.query.text("id"), request.query.text("action"));
    if !id.is_empty() {
        let id = go::parse_uint(&id).map_err(|e| Problem::Input {
            msg: e.to_string(),
            data: serde_json::json!({ "Func": e.func, "Num": e.num, "Err": {} }),
        })?;
        let all = request.app.cluster.progress();
        let found = all
            .iter()
            .find(|p| p.store == StoreId(id))
            .ok_or_else(|| no_progress("given store ID", &id.to_string()))?;
        return Ok(Reply::ok(&ProgressJson {
            action: action_name(found.action),
            store_id: Some(found.store),
            progress: found.progress,
            current_speed: found.current_speed,
            left_seconds: found.left_seconds,
        }));
    }
    if action.is_empty() {
        return Err(Problem::bad("need query parameters"));
    }
    let all = request.app.cluster.progress();
    let on_it: Vec<&Progress> = all.iter().filter(|p| action_name(p.action) == action).collect();
    let average = average(&on_it).ok_or_else(|| no_progress("action", &action))?;
    Ok(Reply::ok(&average))
}

fn no_progress(what: &str, which: &str) -> Problem {
    let text = format!("[PD:progress:ErrProgressNotFound]no progress found for the {what}: {which}");
    Problem::Said(StatusCode::NOT_FOUND, text)
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Removing => "removing",
        Action::Preparing => "preparing",
    }
}

/// The average over some stores; PD averages the time left too, and a time without end stays without end.
fn average(on_it: &[&Progress]) -> Option<ProgressJson> {
    let first = on_it.first()?;
    #[allow(clippy::cast_precision_loss)] // a number of stores
    let count = on_it.len() as f64;
    let mean = |part: fn(&Progress) -> f64| on_it.iter().map(|p| part(p) / count).sum::<f64>();
    let left = mean(|p| p.left_seconds);
    Some(ProgressJson {
        action: action_name(first.action),
        store_id: None,
        progress: mean(|p| p.progress),
        current_speed: mean(|p| p.current_speed),
        left_seconds: if left.is_finite() { left } else { f64::MAX },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn progress(store: u64, progress: f64, left_seconds: f64) -> Progress {
        Progress { store: StoreId(store), action: Action::Removing, progress, current_speed: 10.0, left_seconds }
    }

    #[test]
    fn progress_of_several_stores_is_their_average() {
        assert!(average(&[]).is_none());
        let (a, b) = (progress(1, 0.25, 100.0), progress(2, 0.75, 300.0));
        let both = average(&[&a, &b]).unwrap();
        assert_eq!((both.progress, both.current_speed, both.left_seconds), (0.5, 10.0, 200.0));
        let still = progress(3, 0.0, f64::MAX);
        assert_eq!(average(&[&still]).unwrap().left_seconds, f64::MAX);
        assert!(average(&[&still, &still, &still]).unwrap().left_seconds.is_finite());
    }
}
