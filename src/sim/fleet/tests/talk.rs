//! The recorded conversations: what the recorded nodes made of each command is what a region here makes of it.

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use base64::Engine;
use prost::Message;

use super::*;
use crate::{
    model::KeyRange,
    sim::command::{self, Command, CommandKind},
};

/// What was found in one recording.
#[derive(Default, Debug)]
struct Found {
    /// Reports that show the effect of a command, by kind.
    by_command: BTreeMap<CommandKind, u64>,
    /// Reports that differ from the one before without a command: elections and splits.
    by_itself: u64,
    reports: u64,
}

fn recording(folder: &str) -> Option<String> {
    let shared = std::env::var_os("BERTH_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(packed) = std::fs::read(shared.join("compat").join(folder).join("talk.jsonl.gz")) else {
        println!("skipped: the recorded conversation {folder} is not there");
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    Some(text)
}

/// The region of a report; peers in the order of their ids.
fn region_of(beat: &pdpb::RegionHeartbeatRequest) -> SimRegion {
    let r = beat.region.as_ref().unwrap();
    let mut peers: Vec<Peer> = r.peers.iter().map(wire::peer_from).collect();
    peers.sort();
    SimRegion {
        id: RegionId(r.id),
        range: KeyRange::new(r.start_key.to_vec(), r.end_key.to_vec()),
        epoch: wire::epoch_from(r.region_epoch.as_ref()),
        peers,
        leader: beat.leader.as_ref().map(|p| PeerId(p.id)),
        ..SimRegion::default()
    }
}

/// What the command makes of the region, if a node would take it.
fn after(region: &SimRegion, order: &Order) -> Option<SimRegion> {
    let mut next = region.clone();
    if order.epoch != region.epoch || Some(order.target) != region.leader {
        return None;
    }
    match &order.command {
        Command::ChangePeers(changes) => next.adopt(next.plan_change(changes).ok()?),
        Command::TransferLeader(peers) => next.lead(peers.iter().find(|p| next.may_lead(p.id))?.id),
        Command::Split(_) | Command::Merge { .. } | Command::SwitchWitnesses(_) => return None,
    }
    next.term = 0;
    next.waiting.clear();
    next.peers.sort();
    Some(next)
}

fn replay(text: &str) -> Found {
    let mut found = Found::default();
    let mut regions: BTreeMap<u64, SimRegion> = BTreeMap::new();
    let mut orders: BTreeMap<u64, Vec<Order>> = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["method"] != "/pdpb.PD/RegionHeartbeat" {
            continue;
        }
        let body = base64::engine::general_purpose::STANDARD.decode(line["body"].as_str().unwrap()).unwrap();
        if line["dir"] == "to-client" {
            let message = pdpb::RegionHeartbeatResponse::decode(&body[..]).unwrap();
            if let Some(order) = command::decode(&message).expect("a command that the fleet does not know") {
                orders.entry(order.region.0).or_default().push(order);
            }
            continue;
        }
        let reported = region_of(&pdpb::RegionHeartbeatRequest::decode(&body[..]).unwrap());
        found.reports += 1;
        let Some(known) = regions.insert(reported.id.0, reported.clone()) else { continue };
        if known == reported {
            continue;
        }
        let given = orders.get(&reported.id.0).map_or(&[][..], |o| o);
        match given.iter().rev().find(|o| after(&known, o).as_ref() == Some(&reported)) {
            Some(order) => *found.by_command.entry(order.command.kind()).or_default() += 1,
            None => found.by_itself += 1,
        }
    }
    found
}

#[test]
fn every_change_in_the_recorded_scale_in_is_what_a_command_makes_of_a_region() {
    let Some(text) = recording("talk") else { return };
    let found = replay(&text);
    println!("{found:?}");
    assert_eq!(found.by_itself, 0, "{found:?}");
    let kinds = [CommandKind::AddLearner, CommandKind::EnterJoint, CommandKind::LeaveJoint, CommandKind::RemovePeer];
    for kind in kinds {
        assert!(found.by_command.get(&kind).is_some_and(|n| *n >= 250), "{kind:?} in {found:?}");
    }
    assert!(found.by_command.contains_key(&CommandKind::TransferLeader), "{found:?}");
}

#[test]
fn real_raft_nodes_take_single_changes_as_the_fleet_does() {
    let Some(text) = recording("talk-raft") else { return };
    let found = replay(&text);
    println!("{found:?}");
    for kind in [CommandKind::AddLearner, CommandKind::AddVoter, CommandKind::RemovePeer] {
        assert!(found.by_command.contains_key(&kind), "{kind:?} in {found:?}");
    }
}
