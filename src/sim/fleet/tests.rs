//! The fleet on virtual time, without a server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod talk;
mod text;
mod walk;

use super::*;
use crate::{
    model::{Epoch, Role},
    proto::eraftpb::ConfChangeType,
    sim::{StopStore, layout::IdSpan},
};

pub(super) const CLUSTER: u64 = 7;

fn ids() -> IdSpans {
    let mut ids = IdSpans::default();
    ids.push(IdSpan { first: 1, last: 100_000 });
    ids
}

fn fleet(options: FleetOptions) -> Fleet {
    Fleet::new(options, CLUSTER, ids(), Now::default()).unwrap()
}

/// Runs a fleet on virtual time and plays the connection: streams open at once and again after a stop, split ids are handed out.
struct Bench {
    fleet: Fleet,
    now: Now,
    next_id: u64,
    trace: Vec<Outgoing>,
}

impl Bench {
    fn new(options: FleetOptions) -> Self {
        let mut bench = Self { fleet: fleet(options), now: Now::default(), next_id: 1_000_000, trace: Vec::new() };
        for store in bench.fleet.view().stores {
            bench.fleet.receive(Incoming::Connected { store: store.id }, bench.now);
        }
        bench
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.mono.plus(time);
        while self.now.mono < end {
            for message in self.fleet.step(self.now) {
                self.answer(&message);
                self.trace.push(message);
            }
            self.now = self.now.plus(Duration::from_millis(10));
        }
    }

    fn answer(&mut self, message: &Outgoing) {
        let answer = match message {
            Outgoing::Store { store, .. } => {
                let response = Some(Box::new(pdpb::StoreHeartbeatResponse { state: 1, ..Default::default() }));
                Incoming::Store { store: *store, response }
            }
            Outgoing::Start { store } => Incoming::Connected { store: *store },
            Outgoing::AskSplit { region, request, .. } => {
                let mut id = || {
                    self.next_id += 1;
                    self.next_id
                };
                let peers = request.region.as_ref().map_or(0, |r| r.peers.len());
                let ids = (0..request.split_count)
                    .map(|_| pdpb::SplitId { new_region_id: id(), new_peer_ids: (0..peers).map(|_| id()).collect() });
                let response = pdpb::AskBatchSplitResponse { header: None, ids: ids.collect() };
                Incoming::SplitIds { region: *region, response: Some(Box::new(response)) }
            }
            Outgoing::Region { .. } | Outgoing::ReportSplit { .. } | Outgoing::Stop { .. } => return,
        };
        self.fleet.receive(answer, self.now);
    }

    /// Region heartbeats since the last call.
    fn heartbeats(&mut self) -> Vec<(StoreId, pdpb::RegionHeartbeatRequest)> {
        let region = |m| match m {
            Outgoing::Region { store, request } => Some((store, *request)),
            _ => None,
        };
        std::mem::take(&mut self.trace).into_iter().filter_map(region).collect()
    }

    fn command(&mut self, region: u64, change: impl FnOnce(&mut pdpb::RegionHeartbeatResponse)) {
        let r = self.fleet.region(RegionId(region)).unwrap();
        let leader = r.leader_peer().unwrap();
        let mut message = pdpb::RegionHeartbeatResponse {
            region_id: region,
            region_epoch: Some(metapb::RegionEpoch { conf_ver: r.epoch.conf_ver, version: r.epoch.version }),
            target_peer: Some(wire::peer(leader)),
            ..Default::default()
        };
        change(&mut message);
        let store = leader.store;
        self.fleet.receive(Incoming::Region { store, message: Box::new(message) }, self.now);
    }

    /// Totals kept by deltas against a recount.
    fn check_totals(&self) {
        for store in &self.fleet.stores {
            let on = |r: &&SimRegion| r.peer_on(store.id).is_some_and(|p| !r.waits_for_snapshot(p.id));
            let peers = self.fleet.regions().filter(|r| r.peer_on(store.id).is_some()).count();
            let used: u64 = self.fleet.regions().filter(on).map(|r| r.size).sum();
            let led = self.fleet.regions().filter(|r| r.leader_store() == Some(store.id)).count();
            assert_eq!((store.peers as usize, store.used, store.led.len()), (peers, used, led), "{}", store.id);
        }
        let without = self.fleet.regions().filter(|r| r.leader.is_none()).count();
        assert_eq!(self.fleet.leaderless.len(), without);
    }
}

fn change(kind: ConfChangeType, id: u64, store: u64, role: Role) -> pdpb::ChangePeer {
    let peer = metapb::Peer { id, store_id: store, role: role as i32, is_witness: false };
    pdpb::ChangePeer { peer: Some(peer), change_type: kind as i32 }
}

fn small(regions: u32) -> FleetOptions {
    FleetOptions { regions, step_delay: Duration::from_millis(20), ..FleetOptions::default() }
}

#[test]
fn every_region_is_reported_on_connect_and_then_once_a_period() {
    let mut bench = Bench::new(small(600));
    bench.run(Duration::from_secs(1));
    let first: BTreeSet<u64> = bench.heartbeats().iter().map(|(_, h)| h.region.as_ref().unwrap().id).collect();
    assert_eq!(first.len(), 600);
    assert!(bench.fleet.view().loaded);
    bench.run(Duration::from_secs(60));
    let round = bench.heartbeats();
    assert!((594..=606).contains(&round.len()), "{}", round.len());
    let regions: BTreeSet<u64> = round.iter().map(|(_, h)| h.region.as_ref().unwrap().id).collect();
    assert!(regions.len() >= 594, "{}", regions.len());
    // A new stream hears everything again.
    let store = StoreId(2);
    bench.fleet.receive(Incoming::Disconnected { store }, bench.now);
    bench.fleet.receive(Incoming::Connected { store }, bench.now);
    bench.run(Duration::from_millis(100));
    let again = bench.heartbeats().into_iter().filter(|(s, _)| *s == store).count();
    assert!((100..=102).contains(&again), "{again}");
}

#[test]
fn a_snapshot_takes_its_time_and_the_peer_is_pending_meanwhile() {
    let mut bench = Bench::new(FleetOptions { snapshot_rate: 96, ..small(12) });
    bench.run(Duration::from_secs(1));
    bench.heartbeats();
    let add = change(ConfChangeType::AddLearnerNode, 900, 4, Role::Learner);
    bench.command(10, |m| m.change_peer = Some(add));
    bench.run(Duration::from_millis(100));
    let pending: Vec<_> = bench.heartbeats().into_iter().map(|(_, h)| h).collect();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].pending_peers[0].id, 900);
    assert_eq!(bench.fleet.stores[3].receiving, 1);
    bench.run(Duration::from_secs(1));
    let filled: Vec<_> = bench.heartbeats().into_iter().map(|(_, h)| h).collect();
    assert!(filled.len() == 1 && filled[0].pending_peers.is_empty());
    bench.check_totals();
    // Promoting peers without data is carried out, and found.
    for (id, store) in [(910, 5), (911, 6)] {
        bench.command(10, |m| m.change_peer = Some(change(ConfChangeType::AddLearnerNode, id, store, Role::Learner)));
        bench.run(Duration::from_millis(100));
    }
    assert_eq!(bench.fleet.counters().violations, 0);
    let promote = [(910, 5), (911, 6)].map(|(id, store)| change(ConfChangeType::AddNode, id, store, Role::Voter));
    let demote = [(8, 2), (9, 3)].map(|(id, store)| change(ConfChangeType::AddLearnerNode, id, store, Role::Learner));
    let changes = promote.into_iter().chain(demote).collect();
    bench.command(10, |m| m.change_peer_v2 = Some(pdpb::ChangePeerV2 { changes }));
    bench.run(Duration::from_millis(100));
    assert_eq!(bench.fleet.violations(), [Violation::QuorumLost { region: RegionId(10) }]);
    assert!(!bench.fleet.report_at(bench.now.mono).passed());
}

#[test]
fn commands_for_others_and_of_old_times_are_refused() {
    let mut bench = Bench::new(small(12));
    bench.run(Duration::from_secs(1));
    let transfer = |id, store_id| {
        Some(pdpb::TransferLeader {
            peer: Some(metapb::Peer { id, store_id, ..Default::default() }),
            peers: Vec::new(),
        })
    };
    bench.command(10, |m| m.region_epoch = Some(metapb::RegionEpoch { conf_ver: 0, version: 1 }));
    assert_eq!(bench.fleet.counters().commands.len(), 0, "an empty message is no command");
    bench.command(10, |m| {
        m.transfer_leader = transfer(8, 2);
        m.region_epoch = None;
    });
    bench.command(10, |m| {
        m.transfer_leader = transfer(8, 2);
        m.target_peer = Some(metapb::Peer { id: 8, store_id: 2, ..Default::default() });
    });
    bench.command(10, |m| m.transfer_leader = transfer(8, 2));
    bench.command(10, |m| m.transfer_leader = transfer(8, 2));
    bench.command(10, |m| m.transfer_leader = transfer(9, 3));
    bench.command(14, |m| m.change_split = Some(Default::default()));
    bench.run(Duration::from_millis(100));
    let c = bench.fleet.counters();
    let expected = [Rejection::NotLeader, Rejection::StaleEpoch, Rejection::Busy, Rejection::Unsupported];
    assert_eq!(c.rejected, expected.into_iter().map(|r| (r, 1)).collect());
    assert_eq!((c.repeated, c.executed_total()), (1, 1));
    assert_eq!(bench.fleet.region(RegionId(10)).unwrap().leader, Some(PeerId(8)));
}

#[test]
fn a_store_that_stops_is_reported_down_and_comes_back() {
    let stop = StopStore { ordinal: 2, after: Duration::from_secs(5), lasts: Some(Duration::from_secs(100)) };
    let options = FleetOptions { fault: FaultOptions { stop_store: vec![stop], ..Default::default() }, ..small(60) };
    let mut bench = Bench::new(options);
    bench.run(Duration::from_secs(9));
    bench.heartbeats();
    assert_eq!((bench.fleet.view().stores[1].leaders, bench.fleet.leaderless.len()), (0, 0));
    bench.run(Duration::from_secs(70));
    let down: Vec<u64> =
        bench.heartbeats().iter().flat_map(|(_, h)| h.down_peers.clone()).map(|d| d.down_seconds).collect();
    assert!(down.len() >= 30 && down.iter().all(|s| (10..80).contains(s)), "{down:?}");
    bench.run(Duration::from_secs(40));
    bench.heartbeats();
    bench.run(Duration::from_secs(60));
    assert!(bench.heartbeats().iter().all(|(_, h)| h.down_peers.is_empty()));
    assert!(bench.fleet.check_replicas().passed);
    bench.check_totals();
}

#[test]
fn without_a_quorum_nobody_leads_until_a_store_is_back() {
    let stop = |ordinal, lasts| StopStore { ordinal, after: Duration::from_secs(1), lasts };
    let stops = vec![stop(1, None), stop(2, Some(Duration::from_secs(20)))];
    let options =
        FleetOptions { stores: 3, fault: FaultOptions { stop_store: stops, ..Default::default() }, ..small(30) };
    let mut bench = Bench::new(options);
    bench.run(Duration::from_secs(10));
    assert_eq!(bench.fleet.leaderless.len(), 20, "the regions of the stopped stores");
    bench.check_totals();
    bench.run(Duration::from_secs(15));
    assert_eq!(bench.fleet.leaderless.len(), 0);
    bench.check_totals();
}

#[test]
fn a_store_that_becomes_empty_says_so_at_once_and_a_buried_one_is_silent() {
    let options = FleetOptions { stores: 4, first_store_peers: Some(1), ..small(3) };
    let mut bench = Bench::new(options);
    bench.run(Duration::from_secs(2));
    let region = bench.fleet.regions().find(|r| r.peer_on(StoreId(1)).is_some()).unwrap().clone();
    let (id, old) = (region.id.0, *region.peer_on(StoreId(1)).unwrap());
    let other = *region.peers.iter().find(|p| p.store != StoreId(1)).unwrap();
    if region.leader_store() == Some(StoreId(1)) {
        let peer = Some(wire::peer(&other));
        bench.command(id, |m| m.transfer_leader = Some(pdpb::TransferLeader { peer, peers: Vec::new() }));
        bench.run(Duration::from_millis(100));
    }
    let remove = change(ConfChangeType::RemoveNode, old.id.0, 1, Role::Voter);
    bench.command(id, |m| m.change_peer = Some(remove));
    bench.trace.clear();
    bench.run(Duration::from_millis(500));
    let place = |wanted: fn(&Outgoing) -> bool| bench.trace.iter().position(wanted);
    let empty = |m: &Outgoing| matches!(m, Outgoing::Store { store: StoreId(1), request } if request.stats.as_ref().is_some_and(|s| s.region_count == 0));
    let gone = place(|m| matches!(m, Outgoing::Region { .. })).unwrap();
    assert!(place(empty).unwrap() > gone, "after the region's report");
    assert!(bench.fleet.check_empty(StoreId(1)).passed && !bench.fleet.check_replicas().passed);
    let buried = |state| Some(Box::new(pdpb::StoreHeartbeatResponse { state, ..Default::default() }));
    bench.fleet.receive(Incoming::Store { store: StoreId(1), response: buried(3) }, bench.now);
    assert_eq!(bench.fleet.counters().violations, 0);
    // Store 2 still holds regions.
    bench.fleet.receive(Incoming::Store { store: StoreId(2), response: buried(3) }, bench.now);
    let peers = bench.fleet.view().stores[1].peers;
    assert_eq!(bench.fleet.violations(), [Violation::BuriedWithPeers { store: StoreId(2), peers }]);
    bench.trace.clear();
    bench.run(Duration::from_secs(30));
    assert!(!bench.trace.iter().any(|m| matches!(m, Outgoing::Store { store: StoreId(1 | 2), .. })));
}

#[test]
fn a_merge_is_prepared_committed_and_reported() {
    let mut bench = Bench::new(FleetOptions { stores: 3, ..small(4) });
    bench.run(Duration::from_secs(1));
    bench.heartbeats();
    let [source, target] = [RegionId(7), RegionId(11)];
    let into = wire::region(bench.fleet.region(target).unwrap());
    bench.command(source.0, |m| m.merge = Some(pdpb::Merge { target: Some(into) }));
    bench.run(Duration::from_millis(200));
    let reports = bench.heartbeats();
    assert_eq!(reports.len(), 1);
    let region = reports[0].1.region.as_ref().unwrap();
    assert_eq!((region.id, region.start_key.len(), region.region_epoch.unwrap().version), (11, 0, 3));
    assert_eq!(reports[0].1.approximate_size, 192 << 20);
    assert_eq!((bench.fleet.region(source), bench.fleet.counters().merges), (None, 1));
    bench.check_totals();
}

#[test]
fn a_fleet_grows_from_one_region() {
    let options = FleetOptions { layout: crate::sim::LayoutKind::Grow, ..small(50) };
    let mut bench = Bench::new(options);
    bench.run(Duration::from_secs(5));
    assert_eq!(bench.fleet.view().regions, 50);
    let mut ranges: Vec<_> = bench.fleet.regions().map(|r| r.range.clone()).collect();
    ranges.sort_by(|a, b| a.start.cmp(&b.start));
    assert!(ranges[0].start.is_empty() && ranges[49].end.is_empty());
    assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
    assert!(bench.fleet.regions().all(|r| r.size == 96 << 20 && r.peers.len() == 1));
    bench.check_totals();
}

#[test]
#[ignore = "takes half a gigabyte and some seconds"]
fn a_million_regions_fit_into_a_gigabyte() {
    let options = FleetOptions { stores: 20, ..small(1_000_000) };
    let mut ids = IdSpans::default();
    ids.push(IdSpan { first: 1, last: 10_000_000 });
    let mut fleet = Fleet::new(options, CLUSTER, ids, Now::default()).unwrap();
    let stores: Vec<StoreId> = fleet.view().stores.iter().map(|s| s.id).collect();
    stores.into_iter().for_each(|store| fleet.receive(Incoming::Connected { store }, Now::default()));
    let (mut now, mut sent) = (Now::default(), 0);
    while sent < 2_000_000 {
        now = now.plus(Duration::from_millis(10));
        sent += fleet.step(now).len();
    }
    let usage = crate::sim::bench::Process::new(std::process::id()).usage().unwrap();
    println!("{} MiB, {} ms of CPU", usage.peak >> 20, usage.cpu.as_millis());
    assert!(usage.peak < 1 << 30, "{} MiB", usage.peak >> 20);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let fault =
            FaultOptions { faults: true, leader_changes: 600.0, splits: 300.0, store_stops: 6.0, ..Default::default() };
        let mut bench = Bench::new(FleetOptions { seed, fault, snapshot_rate: 50, ..small(200) });
        bench.run(Duration::from_secs(120));
        bench.check_totals();
        let c = bench.fleet.counters().clone();
        assert!(c.elections > 500 && c.splits > 200 && c.store_stops >= 3 && c.stale_heartbeats > 20, "{c:?}");
        assert_eq!(c.violations, 0);
        (bench.trace, c)
    };
    let (first, second) = (run(1), run(1));
    assert_eq!(first.1, second.1);
    assert!(first.0 == second.0, "the traces differ");
    assert!(run(2).0 != first.0, "another seed gives another run");
}

#[test]
fn a_region_in_its_first_epoch_is_never_repeated() {
    let fault = FaultOptions { stale_heartbeats: 100.0, ..Default::default() };
    let mut bench = Bench::new(FleetOptions { fault, ..small(30) });
    bench.run(Duration::from_secs(70));
    assert_eq!(bench.fleet.counters().stale_heartbeats, 0);
    assert!(bench.fleet.regions().all(|r| r.epoch == Epoch::new(1, 1)));
}
