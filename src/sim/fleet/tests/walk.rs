//! The recorded walks: given the same commands, the nodes report what the recording shows.

use std::path::PathBuf;

use super::*;
use crate::model::KeyRange;

/// Walks that need nothing but the commands; of the others, 7 and 8 are reports made by hand, 9 and 12 faults, 11 has no report.
const STRAIGHT: [&str; 7] = ["1", "2", "3", "4", "5", "6", "10"];
const STEP: Duration = Duration::from_secs(1);
const SNAPSHOT: Duration = Duration::from_secs(5);

struct Walk {
    number: String,
    title: String,
    lines: Vec<String>,
}

fn walks() -> Option<Vec<Walk>> {
    let shared = std::env::var_os("BERTH_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(shared.join("compat/heartbeat-walk.txt")) else {
        println!("skipped: the recorded walks are not there");
        return None;
    };
    let mut walks: Vec<Walk> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== ") {
            let (number, title) = title.split_once(' ').unwrap();
            walks.push(Walk { number: number.into(), title: title.into(), lines: Vec::new() });
        } else if let Some(walk) = walks.last_mut() {
            walk.lines.push(line.trim().to_owned());
        }
    }
    Some(walks)
}

/// The region as the title and the first report tell it: `region 30 (31@2 leader, 32@4, 33@5)`.
fn region_of(walk: &Walk) -> SimRegion {
    let (_, list) = walk.title.split_once('(').unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let list = list.trim_start_matches("peers ");
    let peer = |text: &str| {
        let (id, store) = text.split(' ').next().unwrap().split_once('@').unwrap();
        Peer::voter(id.parse().unwrap(), store.parse().unwrap())
    };
    let peers: Vec<Peer> = list.split(", ").map(peer).collect();
    let leader = list.split(", ").position(|p| p.contains("leader")).unwrap();
    let report = walk.lines.iter().find_map(|l| l.strip_prefix("store->PD")).unwrap();
    let first = text::Fields::parse(report).heartbeat().region.unwrap();
    let command = walk.lines.iter().find_map(|l| l.strip_prefix("PD->store")).unwrap();
    let epoch = text::Fields::parse(command).command().region_epoch;
    SimRegion {
        id: RegionId(first.id),
        range: KeyRange::new(first.start_key.to_vec(), first.end_key.to_vec()),
        epoch: wire::epoch_from(epoch.as_ref()),
        leader: Some(peers[leader].id),
        peers,
        size: 96 << 20,
        ..SimRegion::default()
    }
}

/// What the recording keeps of a heartbeat.
fn bare(h: pdpb::RegionHeartbeatRequest) -> pdpb::RegionHeartbeatRequest {
    let pdpb::RegionHeartbeatRequest { region, leader, down_peers, pending_peers, .. } = h;
    pdpb::RegionHeartbeatRequest { region, leader, down_peers, pending_peers, ..Default::default() }
}

struct Replay {
    fleet: Fleet,
    now: Now,
    region: RegionId,
    last: Option<pdpb::RegionHeartbeatRequest>,
}

impl Replay {
    fn new(region: SimRegion) -> Self {
        let options =
            FleetOptions { stores: 5, step_delay: STEP, snapshot_latency: SNAPSHOT, ..FleetOptions::default() };
        let stores: Vec<StoreId> = (1..=5).map(StoreId).collect();
        let (id, now) = (region.id, Now::default());
        let mut fleet = Fleet::with_regions(options, CLUSTER, &stores, vec![region], now);
        for store in stores {
            fleet.receive(Incoming::Connected { store }, now);
        }
        let mut replay = Self { fleet, now, region: id, last: None };
        replay.step();
        replay
    }

    /// One step; whether a report differs from the one before.
    fn step(&mut self) -> bool {
        let before = self.last.clone();
        for message in self.fleet.step(self.now) {
            if let Outgoing::Region { store, request } = message {
                assert_eq!(request.leader.unwrap().store_id, store.0, "the leader's store reports");
                self.last = Some(bare(*request));
            }
        }
        self.last != before
    }

    /// Goes on until the next report that differs.
    fn next_report(&mut self) {
        for _ in 0..100 {
            self.now = self.now.plus(Duration::from_millis(100));
            if self.step() {
                return;
            }
        }
        panic!("nothing changes after {:?}", self.last);
    }

    fn expect(&mut self, wanted: &pdpb::RegionHeartbeatRequest, by_command: bool) {
        if self.last.as_ref() == Some(wanted) {
            return;
        }
        if !by_command {
            let slot = self.fleet.regions.find(self.region).unwrap();
            self.fleet.set_leader(slot, wanted.leader.as_ref().map(|p| PeerId(p.id)));
        }
        self.next_report();
        // The recording shows the pending peer in walk 2 only.
        if self.last.as_ref().is_some_and(|h| !h.pending_peers.is_empty()) && wanted.pending_peers.is_empty() {
            self.next_report();
        }
        assert_eq!(self.last.as_ref(), Some(wanted));
    }
}

#[test]
fn the_nodes_report_what_the_recorded_walks_show() {
    let Some(walks) = walks() else { return };
    let mut reports = 0;
    for walk in walks.iter().filter(|w| STRAIGHT.contains(&w.number.as_str())) {
        println!("walk {} {}", walk.number, walk.title);
        let mut replay = Replay::new(region_of(walk));
        let mut sent = 0;
        for line in &walk.lines {
            if let Some(text) = line.strip_prefix("PD->store").filter(|t| !t.contains("(no message")) {
                let message = text::Fields::parse(text).command();
                let store = StoreId(message.target_peer.as_ref().unwrap().store_id);
                replay.fleet.receive(Incoming::Region { store, message: Box::new(message) }, replay.now);
                sent += 1;
            } else if let Some(text) = line.strip_prefix("store->PD") {
                let wanted = text::Fields::parse(text).heartbeat();
                replay.expect(&wanted, walk.number != "10");
                reports += 1;
            }
        }
        let c = replay.fleet.counters();
        // In walk 10 the leader changes by itself and takes the first command with it; the second is cancelled by a person.
        let (done, lost) = if walk.number == "10" { (0, 1) } else { (sent - c.repeated, 0) };
        assert_eq!((c.executed_total(), c.rejected_total(), c.violations), (done, lost, 0), "walk {}", walk.number);
    }
    assert_eq!(reports, 19, "all reports of the straight walks");
}
