//! `/berth/v1/operators`: from cause to result.
//!
//! Owns: their JSON, how many are shown. Must not know: how long they are kept.

use serde_json::{Value, json};

use super::{
    super::{
        Answer,
        error::Problem,
        go::{parse_uint, rfc3339_nano},
        request::Request,
    },
    answer,
};
use crate::{
    model::{Now, OperatorId, RegionId, StoreId, names::info},
    scheduler::{
        controller::journal::{Past, StepLog},
        explain::text,
    },
};

/// Operators shown when nobody says how many.
const SHOWN: i64 = 100;
/// Operators shown at most.
const SHOWN_AT_MOST: i64 = 10_000;

/// `GET /berth/v1/operators/{id}`
pub(in crate::api::rest) fn one(request: &Request) -> Answer {
    let id = OperatorId(request.uint_param("id")?);
    let past = request.app.cluster.operator_history(id);
    let past = past.ok_or_else(|| Problem::not_found(format!("operator {id} is not known, or not any more")))?;
    let now = request.app.now();
    answer(request, || text::operator(&past), || show(&past, now))
}

/// `GET /berth/v1/operators?region=`, `?store=`, `?drain=`
pub(in crate::api::rest) fn list(request: &Request) -> Answer {
    let number = |name: &str| match request.query.text(name) {
        text if text.is_empty() => Ok(None),
        text => parse_uint(&text).map(Some),
    };
    let limit = usize::try_from(request.query.int("limit", SHOWN)?.clamp(0, SHOWN_AT_MOST)).unwrap_or(0);
    let (cluster, now) = (&request.app.cluster, request.app.now());
    if let Some(store) = number("drain")? {
        let (running, history) = cluster.drain_history(StoreId(store), limit);
        let older = || {
            let one =
                |(desc, result, count): &(String, &str, u64)| json!({ "desc": desc, "result": result, "count": count });
            history.older.iter().map(one).collect::<Vec<_>>()
        };
        let as_json = || {
            json!({
                "running": running.iter().map(|past| show(past, now)).collect::<Vec<_>>(),
                "kept": history.kept,
                "operators": history.whole.iter().map(|past| show(past, now)).collect::<Vec<_>>(),
                "older": older(),
            })
        };
        return answer(request, || text::drain_history(&running, &history), as_json);
    }
    let all = cluster.operators_history(number("region")?.map(RegionId), number("store")?.map(StoreId), limit);
    let as_json = || json!({ "operators": all.iter().map(|past| show(past, now)).collect::<Vec<_>>() });
    answer(request, || text::operators(&all), as_json)
}

/// One operator.
pub(super) fn show(past: &Past, now: Now) -> Value {
    let (op, journal) = (&past.op, &past.journal);
    let cause = &journal.cause;
    let time = |at: Option<Now>| at.map(|at| rfc3339_nano(at.wall));
    let steps = op.steps.iter().enumerate().map(|(at, step)| {
        let log = journal.steps.get(at).cloned().unwrap_or_default();
        show_step(&step.to_string(), &log)
    });
    json!({
        "id": op.id.0,
        "region": op.region.0,
        "desc": op.desc,
        "brief": op.brief,
        "kind": op.kind.to_string(),
        "status": op.status.word(),
        "cause": {
            "maker": cause.maker.name(),
            "name": cause.name,
            "caller": Some(&cause.caller).filter(|caller| !caller.is_empty()),
            "from": cause.from.iter().map(|(s, state)| json!({ "store": s.0, "state": state.name() })).collect::<Vec<_>>(),
            "rules": cause.rules,
        },
        "choice": journal.choice.as_ref().map(|choice| json!({
            "chosen": choice.chosen.map(|s| s.0),
            "scores": choice.scores.iter().map(|(s, score)| json!({ "store": s.0, "score": score })).collect::<Vec<_>>(),
            "refused": choice.refused.iter().map(|(filter, stores)| {
                ((*filter).to_owned(), json!(stores.iter().map(|s| s.0).collect::<Vec<_>>()))
            }).collect::<serde_json::Map<_, _>>(),
            "neighbours": choice.neighbours.iter().map(|(r, said)| json!({ "region": r.0, "said": said })).collect::<Vec<_>>(),
        })),
        "info": text::told(op).map(|(key, value)| (key, json!(value))).collect::<serde_json::Map<_, _>>(),
        "drains": journal.drains.iter().map(|s| s.0).collect::<Vec<_>>(),
        "created": rfc3339_nano(op.created.wall),
        "started": time(op.started),
        "ended": time(op.ended),
        "seconds": op.ended.map_or_else(|| op.runs_for(now), |at| op.runs_for(at)).as_secs_f64(),
        "cancel_reason": op.info.get(info::CANCEL_REASON).filter(|text| !text.is_empty()),
        "current_step": op.current,
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn show_step(step: &str, log: &StepLog) -> Value {
    let time = |at: Option<Now>| at.map(|at| rfc3339_nano(at.wall));
    json!({
        "step": step,
        "sends": log.sends,
        "first_sent": time(log.first_sent),
        "last_sent": time(log.last_sent),
        "answered": time(log.answered),
        "done": time(log.done),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        model::Region,
        scheduler::{
            controller::journal::{Cause, Journal, Maker},
            filter::Choice,
            operator::{Kind, Operator},
        },
    };

    #[test]
    fn an_operator_tells_its_caller_its_choice_and_its_scores_as_json_and_as_text() {
        let now = Now::default();
        let mut op = Operator::new("merge-region", String::new(), &Region::default(), Kind::MERGE, vec![], now);
        op.info.insert("sourceScore".into(), "35.00".into());
        op.info.insert(info::CANCEL_REASON.into(), "timeout".into());
        let (name, caller) = ("operators".to_owned(), "pd-ctl (10.0.0.7)".to_owned());
        let cause = Cause { maker: Maker::Call, name, caller, ..Cause::default() };
        let choice = Choice {
            chosen: Some(StoreId(4)),
            scores: vec![(StoreId(4), 12.5)],
            neighbours: vec![(RegionId(9), "adj-recently-split".into())],
            ..Choice::default()
        };
        let past = Past { op: op.into(), journal: Journal { cause, choice: Some(choice), ..Journal::default() } };
        let json = show(&past, now);
        assert_eq!(
            (&json["cause"]["caller"], &json["info"]),
            (&json!("pd-ctl (10.0.0.7)"), &json!({"sourceScore": "35.00"}))
        );
        assert_eq!(json["choice"]["neighbours"], json!([{"region": 9, "said": "adj-recently-split"}]));
        let text = text::operator(&past);
        for part in [
            "made by call operators of pd-ctl (10.0.0.7)",
            "sourceScore: 35.00",
            "chosen: store 4",
            "neighbour 9: adj-recently-split",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let unnamed = Past { op: past.op, journal: Journal::default() };
        assert_eq!(show(&unnamed, now)["cause"]["caller"], Value::Null);
    }
}
