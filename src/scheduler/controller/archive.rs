//! Ended operators as text, so that they can be kept where the next leader finds them.
//!
//! Owns: that form. Must not know: where it is kept.
//!
//! Times are those of the wall clock: monotonic clocks of two members have nothing in common. What is read back counts from the making
//! of the operator; only differences of it mean anything.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::journal::{Cause, Journal, Maker, Past, StepLog};
use crate::{
    model::{Epoch, Mono, Now, OperatorId, RegionId, StoreId, StoreState, Wall},
    scheduler::{
        filter::{Choice, Refusal},
        operator::{Kind, Operator, Priority, Status, Step},
    },
};

/// See the module. `desc` and `status` are what it is counted by when it is not kept any more.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: OperatorId,
    desc: String,
    status: String,
    brief: String,
    region: RegionId,
    epoch: (u64, u64),
    kind: u32,
    priority: usize,
    steps: Vec<Step>,
    current: usize,
    size_mib: u64,
    move_cost: u64,
    timeout_ms: u64,
    created: Wall,
    started: Option<Wall>,
    ended: Option<Wall>,
    reached: Vec<Wall>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    info: BTreeMap<String, String>,
    maker: Maker,
    cause: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    caller: String,
    from: Vec<(StoreId, StoreState)>,
    rules: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    choice: Option<KeptChoice>,
    log: Vec<KeptStep>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drains: Vec<StoreId>,
}

#[derive(Serialize, Deserialize)]
struct KeptChoice {
    chosen: Option<StoreId>,
    scores: Vec<(StoreId, f64)>,
    refused: BTreeMap<String, Vec<StoreId>>,
    is_temporary: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    neighbours: Vec<(RegionId, String)>,
}

/// Sends, first and last sent, answered, done.
type KeptStep = (u32, Option<Wall>, Option<Wall>, Option<Wall>, Option<Wall>);

/// The text of an operator that has ended; `None` if it cannot be written, which does not happen.
pub fn write(past: &Past) -> Option<String> {
    let (op, journal) = (&past.op, &past.journal);
    let wall = |at: Option<Now>| at.map(|at| at.wall);
    let kept = Kept {
        id: op.id,
        desc: op.desc.clone(),
        status: op.status.word().to_owned(),
        brief: op.brief.clone(),
        region: op.region,
        epoch: (op.epoch.conf_ver, op.epoch.version),
        kind: op.kind.0,
        priority: Priority::ALL.iter().position(|p| *p == op.priority).unwrap_or_default(),
        steps: op.steps.to_vec(),
        current: op.current,
        size_mib: op.size_mib,
        move_cost: op.move_cost,
        timeout_ms: u64::try_from(op.timeout.as_millis()).unwrap_or(u64::MAX),
        created: op.created.wall,
        started: wall(op.started),
        ended: wall(op.ended),
        reached: op.step_times.iter().map(|at| later(op.created.wall, at.since(op.created.mono))).collect(),
        info: op.info.clone(),
        maker: journal.cause.maker,
        cause: journal.cause.name.clone(),
        caller: journal.cause.caller.clone(),
        from: journal.cause.from.clone(),
        rules: journal.cause.rules.clone(),
        choice: journal.choice.as_ref().map(|choice| KeptChoice {
            chosen: choice.chosen,
            scores: choice.scores.clone(),
            refused: choice.refused.iter().map(|(name, stores)| ((*name).to_owned(), stores.clone())).collect(),
            is_temporary: choice.is_temporary,
            neighbours: choice.neighbours.clone(),
        }),
        log: journal
            .steps
            .iter()
            .map(|s| (s.sends, wall(s.first_sent), wall(s.last_sent), wall(s.answered), wall(s.done)))
            .collect(),
        drains: journal.drains.clone(),
    };
    serde_json::to_string(&kept).ok()
}

/// The operator of a text; `None` if it is not one, or of a version that wrote other words.
pub fn read(text: &str) -> Option<Past> {
    let kept: Kept = serde_json::from_str(text).ok()?;
    let created = kept.created;
    let at = |wall: Wall| Now { mono: since(created, wall), wall };
    let steps: Vec<StepLog> = kept
        .log
        .into_iter()
        .map(|(sends, first, last, answered, done)| StepLog {
            sends,
            first_sent: first.map(at),
            last_sent: last.map(at),
            answered: answered.map(at),
            done: done.map(at),
        })
        .collect();
    let refused = |stores: BTreeMap<String, Vec<StoreId>>| {
        stores.into_iter().filter_map(|(name, stores)| Some((Refusal::of_name(&name)?.name(), stores))).collect()
    };
    let op = Operator {
        id: kept.id,
        desc: kept.desc,
        brief: kept.brief,
        region: kept.region,
        epoch: Epoch { conf_ver: kept.epoch.0, version: kept.epoch.1 },
        kind: Kind(kept.kind),
        priority: Priority::ALL.get(kept.priority).copied().unwrap_or_default(),
        current: kept.current.min(kept.steps.len()),
        steps: kept.steps.into(),
        size_mib: kept.size_mib,
        move_cost: kept.move_cost,
        created: at(created),
        started: kept.started.map(at),
        ended: kept.ended.map(at),
        status: Status::of_word(&kept.status)?,
        timeout: Duration::from_millis(kept.timeout_ms),
        step_times: kept.reached.into_iter().map(|wall| since(created, wall)).collect(),
        info: kept.info,
        choice: None,
    };
    let cause = Cause { maker: kept.maker, name: kept.cause, caller: kept.caller, from: kept.from, rules: kept.rules };
    let choice = kept.choice.map(|c| Choice {
        chosen: c.chosen,
        scores: c.scores,
        refused: refused(c.refused),
        is_temporary: c.is_temporary,
        neighbours: c.neighbours,
    });
    Some(Past { op: op.into(), journal: Journal { cause, choice, steps, drains: kept.drains } })
}

fn later(wall: Wall, by: Duration) -> Wall {
    Wall(wall.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
}

/// A clock that jumped between the two counts as one that stood.
fn since(created: Wall, wall: Wall) -> Mono {
    Mono(u64::try_from(wall.0.saturating_sub(created.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        model::{Key, KeyRange, PeerId, Region},
        scheduler::operator::PeerAt,
    };

    /// With every kind of step.
    fn past() -> Past {
        let now = Now { mono: Mono(7_000_000_000), wall: Wall(1_795_358_340_000_000_000) };
        let at = PeerAt { peer: PeerId(9), store: StoreId(4), is_witness: false };
        let range = KeyRange { start: Key::from(vec![0, 255]), end: Key::empty() };
        let steps = vec![
            Step::TransferLeader { from: StoreId(1), to: StoreId(2) },
            Step::AddPeer(at),
            Step::AddLearner(at),
            Step::PromoteLearner(at),
            Step::RemovePeer { store: StoreId(1), peer: PeerId(3) },
            Step::ChangePeerV2Enter { promote: vec![at], demote: vec![] },
            Step::ChangePeerV2Leave { promote: vec![], demote: vec![at] },
            Step::SwitchWitness(at),
            Step::SplitRegion { policy: 2, keys: vec![Key::from(vec![1, 2])], range: range.clone() },
            Step::MergeRegion { from: RegionId(1), to: RegionId(2), to_range: range, passive: true },
        ];
        let logs = steps.len();
        let kind = Kind::REPLICA | Kind::REGION;
        let mut op = Operator::new("replace-rule-offline-peer", "mv".into(), &Region::default(), kind, steps, now);
        op.id = OperatorId(77);
        op.start(now.plus(Duration::from_millis(3)));
        op.current = 2;
        op.step_times = vec![now.mono.plus(Duration::from_secs(1)), now.mono.plus(Duration::from_secs(2))];
        op.status = Status::Timeout;
        op.ended = Some(now.plus(Duration::from_secs(5)));
        op.info.insert("cancel-reason".into(), "timeout".into());
        let sent = Some(now.plus(Duration::from_secs(1)));
        let log = StepLog { sends: 2, first_sent: sent, last_sent: sent, answered: None, done: sent };
        let journal = Journal {
            cause: Cause {
                maker: Maker::Checker,
                name: "rule-checker".into(),
                caller: "pd-ctl (10.0.0.7)".into(),
                from: vec![(StoreId(1), StoreState::Offline)],
                rules: vec!["pd/default".into()],
            },
            choice: Some(Choice {
                chosen: Some(StoreId(4)),
                scores: vec![(StoreId(4), 12.5)],
                refused: [("isolation-filter", vec![StoreId(5)])].into(),
                is_temporary: false,
                neighbours: vec![(RegionId(9), "chosen".into())],
            }),
            steps: vec![log; logs],
            drains: vec![StoreId(1)],
        };
        Past { op: op.into(), journal }
    }

    #[test]
    fn an_operator_is_read_as_it_was_written() {
        let past = past();
        let text = write(&past).unwrap();
        let again = read(&text).unwrap();
        assert_eq!(write(&again).unwrap(), text, "nothing is lost on the way");
        assert_eq!(again.op.steps, past.op.steps);
        assert_eq!((again.op.status, again.op.id, again.op.region), (Status::Timeout, OperatorId(77), past.op.region));
        assert_eq!((&again.journal.cause, &again.journal.choice), (&past.journal.cause, &past.journal.choice));
        let runs = |p: &Past| p.op.ended.map(|at| p.op.runs_for(at));
        assert_eq!((runs(&again), again.op.created.wall), (runs(&past), past.op.created.wall));
    }

    #[test]
    fn what_is_no_operator_is_none_and_a_clock_that_went_back_is_no_harm() {
        assert!(read("{}").is_none() && read("").is_none());
        let text = write(&past()).unwrap().replace("\"ended\":1795358345", "\"ended\":1795358331");
        let again = read(&text).unwrap();
        assert_eq!(again.op.ended.map(|at| again.op.runs_for(at)), Some(Duration::ZERO));
    }
}
