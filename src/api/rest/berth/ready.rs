//! `GET /berth/v1/ready`: what this member waits for before it schedules and buries, or how warm its copy is. Every member answers
//! for itself.
//!
//! Owns: the shape of the answer. Must not know: what is enough (`scheduler::prepare`), what is fresh (`store::warm`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::answer;
use crate::{
    api::{
        App,
        rest::{Answer, request::Request},
    },
    model::{Mono, Now},
    scheduler::prepare::Readiness,
    store::warm::Copy,
};

/// Most stores that are named as missing in one line of text.
const NAMED: usize = 20;

/// `GET /berth/v1/ready`
pub(in crate::api::rest) fn ready(request: &Request) -> Answer {
    let app = &request.app;
    let now = app.now();
    if app.cluster.is_leading() {
        let known = app.cluster.readiness(now);
        answer(request, || leader_text(app, &known), || leader_json(app, &known))
    } else {
        let copy = app.cluster.copy();
        answer(request, || copy_text(app, &copy, now), || copy_json(app, &copy, now))
    }
}

fn leader_json(app: &App, known: &Readiness) -> Value {
    let store = |s: &crate::scheduler::prepare::StoreHeard| json!({ "store": s.store.0, "heard": s.heard, "reports": s.reports, "enough": s.is_enough });
    json!({
        "leads": true,
        "term": app.meta.term(),
        "schedules": known.done,
        "buries": known.done,
        "waits_for": (!known.done).then(|| json!({
            "regions_heard": known.heard,
            "regions_known": known.total,
            "enough": known.is_enough,
            "seconds_left": known.left.as_secs_f64(),
            "stores_missing": known.missing().map(|s| s.store.0).collect::<Vec<_>>(),
        })),
        "stores": known.stores.iter().map(store).collect::<Vec<_>>(),
        "followers": app.cluster.feed().followers(),
    })
}

fn leader_text(app: &App, known: &Readiness) -> String {
    let mut text = format!("leads in term {}\n", app.meta.term());
    if known.done {
        text.push_str("schedules and buries\n");
        return text;
    }
    // Writing into a text cannot fail.
    let _ = writeln!(
        text,
        "waits before it schedules or buries: {} of {} regions heard, 90 % are enough; in {:.0} s what is known has to do",
        known.heard,
        known.total,
        known.left.as_secs_f64(),
    );
    for store in known.missing().take(NAMED) {
        let _ =
            writeln!(text, "store {}: {} of the {} regions that it reports", store.store, store.heard, store.reports);
    }
    text
}

/// Seconds since then, if it ever was.
fn age(at: Option<Mono>, now: Now) -> Option<f64> {
    at.map(|at| now.mono.since(at).as_secs_f64())
}

fn copy_json(app: &App, copy: &Copy, now: Now) -> Value {
    let at = copy.position();
    json!({
        "leads": false,
        "schedules": false,
        "buries": false,
        "leader": app.meta.leader().map(|leader| leader.id),
        "copy": {
            "connected": copy.is_connected(now.mono),
            "fresh": copy.is_fresh(now.mono),
            "term": at.map(|at| at.term),
            "next": at.map(|at| at.next),
            "lag": copy.lag(),
            "age_seconds": age(copy.whole_at(), now),
            "last_part_seconds_ago": age(copy.heard_at(), now),
            "full_copies": copy.full_copies(),
            "regions": app.cluster.regions().len(),
        },
    })
}

fn copy_text(app: &App, copy: &Copy, now: Now) -> String {
    let leader = app.meta.leader().map_or_else(|| "nobody".to_owned(), |leader| leader.name);
    let connected = if copy.is_connected(now.mono) { "connected" } else { "not connected" };
    let age = match age(copy.whole_at(), now) {
        Some(age) => format!("was whole {age:.1} s ago"),
        None => "is not whole yet".to_owned(),
    };
    let fresh = if copy.is_fresh(now.mono) { "" } else { "; it would hear regions anew before it schedules" };
    let (regions, lag) = (app.cluster.regions().len(), copy.lag());
    format!("follows {leader}, {connected}\nthe copy of {regions} regions {age}, {lag} changes behind{fresh}\n")
}
