//! `/berth/v1/regions/{id}/explain`: one region, every store, every filter.
//!
//! Owns: its JSON. Must not know: how it is explained.

use serde_json::{Value, json};

use super::{
    super::{Answer, regions::not_found, request::Request},
    answer, operators,
    owners::Owner,
    wall,
};
use crate::{
    api::App,
    model::{Now, StoreId},
    scheduler::{
        explain::{
            region::{RegionReport, Said},
            remedy::remedy,
            text,
            why::Group,
        },
        filter::Candidate,
    },
};

/// `GET /berth/v1/regions/{id}/explain`
pub(in crate::api::rest) fn explain(request: &Request) -> Answer {
    let (app, id) = (&request.app, request.region_param()?);
    let now = app.now();
    let report = app.cluster.explain_region(id, now).ok_or_else(|| not_found(id))?;
    let notes = |group: &Group| Owner::of(app, group, now.wall).map(|owner| owner.text());
    answer(request, || text::region(&report, now, &notes), || show(app, &report, now))
}

fn show(app: &App, report: &RegionReport, now: Now) -> Value {
    let waits = report.waits.as_ref().map(|waits| {
        json!({
            "asleep": waits.asleep,
            "since": wall(now, waits.since),
            "reason": waits.why.as_ref().map(|why| why.name()),
        })
    });
    let choices = report.choices.iter().map(|(choice, candidates)| {
        json!({
            "chosen": choice.chosen.map(|s| s.0),
            "stores": candidates.iter().map(|c| candidate(c, choice.chosen)).collect::<Vec<_>>(),
        })
    });
    json!({
        "region": report.region.id().0,
        "stores": report.region.peers().iter().map(|p| p.store.0).collect::<Vec<_>>(),
        "leader_store": report.region.leader_store().map(|s| s.0),
        "outcome": outcome(app, report, now),
        "waits": waits,
        "operator": report.running.as_ref().map(|past| operators::show(past, now)),
        "as_if_nothing_held_it": report.as_if_free,
        "choices": choices.collect::<Vec<_>>(),
    })
}

fn outcome(app: &App, report: &RegionReport, now: Now) -> Value {
    match &report.said {
        Said::Healthy => json!({ "kind": "healthy" }),
        Said::WouldRun(ops) => json!({
            "kind": "operator",
            "operators": ops.iter().map(|(desc, steps)| json!({ "desc": desc, "steps": steps })).collect::<Vec<_>>(),
        }),
        Said::Blocked(reason) => {
            let group = report.refusal();
            json!({
                "kind": "blocked",
                "reason": reason.name(),
                "why": group.as_ref().map(|g| g.says()),
                "rule": group.as_ref().and_then(|g| Owner::of(app, g, now.wall)).map(|owner| owner.json()),
                "remedy": group.as_ref().map(remedy),
                "ended_by": reason.wakes().iter().map(|wake| wake.name()).collect::<Vec<_>>(),
            })
        }
    }
}

fn candidate(candidate: &Candidate, chosen: Option<StoreId>) -> Value {
    json!({
        "store": candidate.store.0,
        "chosen": chosen == Some(candidate.store),
        "refused_by": candidate.refused.iter().map(|refusal| refusal.name()).collect::<Vec<_>>(),
        "score": candidate.score,
        "apart": candidate.apart,
    })
}
