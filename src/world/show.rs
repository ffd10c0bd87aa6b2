//! Views of a world as lines of text: what scenarios are compared with, and people look at.
//!
//! Owns: the texts. Shows only what a run repeats: no ids of operators, no times but virtual ones.

use std::collections::BTreeMap;

use super::world::{World, operator_text};
use crate::{
    config::{schedule_json, section::Section as _},
    model::{Role, StoreState},
    sim::SimRegion,
};

/// The view that these words name.
///
/// # Errors
/// There is no such view.
pub fn view(world: &World, words: &[String]) -> Result<Vec<String>, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["stores"] => Ok(stores(world)),
        ["regions"] => Ok(regions(world)),
        ["operators"] => Ok(operators(world)),
        ["ended"] => Ok(world.tally.ended.iter().map(|((desc, status), n)| format!("{desc} {status} {n}")).collect()),
        ["events"] => Ok(events(world, "")),
        ["events", word] => Ok(events(world, word)),
        ["config", key] => Ok(vec![format!("{key} = {}", config_value(world, key))]),
        ["progress"] => Ok(progress(world)),
        _ => Err(format!("`{}` is no view", words.join(" "))),
    }
}

fn stores(world: &World) -> Vec<String> {
    let cluster = world.control.cluster();
    let line = |info: &crate::store::StoreInfo| {
        let (id, s) = (info.id(), cluster.regions().summary(info.id()));
        let record = &info.record;
        let labels: String = record.labels.iter().map(|l| format!(" {}={}", l.key, l.value)).collect();
        let state = match record.state {
            StoreState::Tombstone => "Tombstone".to_owned(),
            state => format!("{} {}", state.name(), record.node_state.name()),
        };
        format!("store {id} {state}: {} peers, {} leaders{labels}", s.region_count, s.leader_count)
    };
    cluster.stores().snapshot().values().map(|info| line(info)).collect()
}

fn peer_mark(role: Role) -> &'static str {
    match role {
        Role::Voter => "",
        Role::Learner => "l",
        Role::IncomingVoter => "+",
        Role::DemotingVoter => "-",
    }
}

fn regions(world: &World) -> Vec<String> {
    let mut all: Vec<&SimRegion> = world.fleet.regions().collect();
    all.sort_by(|a, b| a.range.start.cmp(&b.range.start));
    let line = |r: &SimRegion| {
        let mut peers: Vec<_> = r.peers.iter().collect();
        peers.sort_by_key(|p| p.store);
        let peers: Vec<String> = peers
            .iter()
            .map(|p| {
                let lead = if r.leader == Some(p.id) { "*" } else { "" };
                let waits = if r.waits_for_snapshot(p.id) { "?" } else { "" };
                format!("{}{}{lead}{waits}", p.store, peer_mark(p.role))
            })
            .collect();
        format!("region {}: {}", r.id, peers.join(" "))
    };
    all.into_iter().map(line).collect()
}

fn operators(world: &World) -> Vec<String> {
    let mut running = world.control.cluster().operators();
    running.sort_by_key(|op| op.region);
    running.iter().map(|op| format!("{}, step {} of {}", operator_text(op), op.current + 1, op.steps.len())).collect()
}

/// The lines of the trace but for the commands.
fn events(world: &World, word: &str) -> Vec<String> {
    let lines = world.trace().lines().filter(|l| !l.contains("s send region") && l.contains(word));
    lines.map(str::to_owned).collect()
}

fn progress(world: &World) -> Vec<String> {
    let cluster = world.control.cluster();
    let line = |p: &crate::scheduler::progress::Progress| format!("store {}: {:.2}", p.store, p.progress);
    cluster.progress().iter().map(line).collect()
}

/// A schedule or replication item in force, as text.
pub(super) fn config_value(world: &World, key: &str) -> String {
    let settings = world.control.cluster().settings();
    let limits = BTreeMap::new();
    let (section, item) = key.split_once('.').unwrap_or(("schedule", key));
    let shown = match section {
        "replication" => serde_json::Value::Object(settings.replication.show()),
        _ => schedule_json(&settings.schedule, &limits),
    };
    match shown.get(item) {
        None => "nothing".into(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}
