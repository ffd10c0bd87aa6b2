//! Replays the recorded HTTP requests of a real PD, in the order of the recording and with the stub's actions between them,
//! against a real server with cluster D, and compares status, headers and body. What does not hold yet stands in
//! `rest_golden_pending.tsv` with its reason; an entry that begins to hold fails the test too.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub(crate) mod clock;
    pub(crate) mod compare;
    pub(crate) mod facts;
    pub(crate) mod http;
    pub(crate) mod server;
    pub(crate) mod stub;
}

use std::{collections::BTreeMap, path::Path, time::Duration};

use berth::proto::{metapb, pdpb};
use common::{
    compare::{Masks, compare},
    facts::{self, Request, Step},
    http,
    server::Running,
    stub::Stub,
};

/// How often the nodes report while time is skipped.
const STORE_PERIOD: Duration = Duration::from_secs(5);
/// Real time that a step of skipped time gets, for the server's tasks.
const BREATH: Duration = Duration::from_millis(30);

/// Cases that want regions to have been hot for some reports: while time is skipped, regions do not report.
const HOT: [&str; 3] = ["hotspot-regions-read", "hotspot-regions-write", "stats-region-use-hot"];
/// Reports that make a region hot.
const HOT_REPORTS: usize = 3;

/// A cluster under replay.
struct Replay {
    running: Running,
    stub: Option<Stub>,
    masks: Masks,
}

impl Replay {
    async fn start(cluster: &str, compat: &Path) -> Self {
        let running = Running::start().await;
        let word = |here: String, there: &str| (here, there.to_owned());
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let masks = Masks {
            words: vec![
                word(running.addr().to_string(), "127.0.0.1:2379"),
                word(running.server.app.config.peer_urls.replace("http://", ""), "127.0.0.1:2380"),
                word(running.folder.path().display().to_string(), "/srv/pd/pd-1"),
                word(running.server.app.info.deploy_path.clone(), "/opt/pd/bin"),
                word(std::env::current_dir().unwrap().display().to_string(), "/srv/pd/pd-1"),
                word(format!("pd-{machine}"), "pd-vm"),
                // The server of a test writes no log.
                word("\"level\": \"fatal\"".to_owned(), "\"level\": \"info\""),
            ],
        };
        let mut replay = Self { running, stub: None, masks };
        if cluster != "U" {
            replay.set_up(compat).await;
        }
        replay
    }

    async fn set_up(&mut self, compat: &Path) {
        let mut stub = Stub::connect(self.running.addr(), self.running.clock.clone(), compat).await;
        stub.bootstrap().await;
        let halt = facts::unrecorded(r#"POST /pd/api/v1/config {"schedule.halt-scheduling":"true"}"#);
        assert_eq!(http::send(self.running.addr(), &halt).await.status, 200);
        stub.join().await;
        for id in stub.regions.keys().copied().collect::<Vec<_>>() {
            stub.settled(id).await;
        }
        let (addr, get) = (self.running.addr(), facts::unrecorded("GET /pd/api/v1/stores"));
        stub.until("all stores serve", async |stub: &mut Stub| {
            stub.store_heartbeats().await;
            http::send(addr, &get).await.text().matches("\"node_state\": 1,").count() == 6
        })
        .await;
        self.stub = Some(stub);
    }

    async fn send(&self, request: &Request) -> facts::Answer {
        http::send(self.running.addr(), request).await
    }

    /// Lets time pass: the clock jumps, the nodes report on time.
    async fn pass(&mut self, span: Duration) {
        let mut left = span;
        while left > Duration::ZERO {
            let step = left.min(STORE_PERIOD);
            self.running.clock.skip(step);
            if let Some(stub) = &mut self.stub {
                stub.store_heartbeats().await;
            }
            tokio::time::sleep(BREATH).await;
            left -= step;
        }
    }

    /// All nodes and the busy regions report some times.
    async fn warm_up(&mut self) {
        let Some(stub) = &mut self.stub else { return };
        for _ in 0..HOT_REPORTS {
            for region in [80, 120] {
                stub.region(region).await;
                stub.settled(region).await;
            }
            stub.store_heartbeats().await;
        }
    }

    /// Waits until a store shows as Tombstone; its nodes go on reporting.
    async fn until_tombstone(&mut self, store: u64) {
        let get = facts::unrecorded(&format!("GET /pd/api/v1/store/{store}"));
        let stub = self.stub.as_mut().expect("cluster D");
        let addr = self.running.addr();
        stub.until(&format!("store {store} is Tombstone"), async |stub: &mut Stub| {
            stub.store_heartbeats().await;
            http::send(addr, &get).await.text().contains("\"Tombstone\"")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_pd() {
    let Some(compat) = facts::folder("compat") else { return };
    let pending = pending();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let (mut held, mut skipped) = (0, 0);
    let mut replay: Option<Replay> = None;
    for step in facts::steps(&compat) {
        match step.kind.as_str() {
            // Cluster M was a real drain under a simulator: nothing of it can be replayed step by step.
            _ if step.cluster == "M" => skipped += usize::from(step.kind == "case"),
            "setup" => {
                if let Some(old) = replay.take() {
                    old.running.server.stop().await;
                }
                replay = Some(Replay::start(&step.cluster, &compat).await);
            }
            _ => {
                let replay = replay.as_mut().expect("a set-up first");
                if let Err(why) = take(replay, &step, &compat).await {
                    found.insert(step.case.clone(), why);
                } else {
                    held += usize::from(step.kind == "case");
                }
            }
        }
    }
    if let Some(old) = replay.take() {
        old.running.server.stop().await;
    }
    println!("rest golden: {held} hold, {} do not, {skipped} cannot be replayed", found.len());
    let mut wrong = Vec::new();
    for (case, why) in &found {
        if !pending.contains_key(case) {
            wrong.push(format!("{case}: {why}"));
        }
    }
    for case in pending.keys().filter(|case| !found.contains_key(*case)) {
        wrong.push(format!("{case}: holds now, take it off the list"));
    }
    assert!(wrong.is_empty(), "{} recordings:\n{}", wrong.len(), wrong.join("\n"));
}

/// Cases that do not hold yet, with the reason of each.
fn pending() -> BTreeMap<String, String> {
    include_str!("rest_golden_pending.tsv")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (case, reason) = line.split_once('\t').expect("a case, a tab, a reason");
            (case.to_owned(), reason.to_owned())
        })
        .collect()
}

async fn take(replay: &mut Replay, step: &Step, compat: &Path) -> Result<(), String> {
    match step.kind.as_str() {
        "case" => {
            let (request, recorded) = facts::recording(compat, &step.case);
            if HOT.contains(&step.case.as_str()) {
                replay.warm_up().await;
            }
            let got = replay.send(&request).await;
            if step.case == "store-delete-no-leader-store" && got.status == 200 {
                // Without evict-leader schedulers the store goes; it is needed again.
                replay.send(&facts::unrecorded("POST /pd/api/v1/store/4/state?state=Up")).await;
            }
            return compare(&request.target, &recorded, &got, &replay.masks);
        }
        "request" => {
            // Only commands that come from here on count.
            if let Some(stub) = &replay.stub {
                stub.forget_commands();
            }
            replay.send(&facts::unrecorded(&step.detail)).await;
        }
        "wait" => {
            let seconds: f64 = step.detail.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds");
            replay.pass(Duration::from_secs_f64(seconds)).await;
        }
        "stub" => act(replay, &step.detail).await,
        other => panic!("unknown step {other}"),
    }
    Ok(())
}

/// What the stub did, by the words of the recording.
async fn act(replay: &mut Replay, detail: &str) {
    let region_number = |text: &str| text.split([':', ' ']).nth(1).and_then(|n| n.parse::<u64>().ok());
    if let Some(id) = detail.strip_prefix("store ").and_then(|rest| rest.split(' ').next()) {
        let id = id.parse().expect("a store");
        if detail.contains("Tombstone") {
            // Berth buries a store that has told of its emptiness; PD does not ask for it.
            replay.until_tombstone(id).await;
        }
        replay.stub.as_mut().unwrap().silence(id);
    } else if detail.starts_with("every region with a peer on store 5") {
        let stub = replay.stub.as_mut().unwrap();
        for id in on_store(stub, 5) {
            stub.regions.get_mut(&id).unwrap().drop_peer(5);
            stub.region(id).await;
            stub.settled(id).await;
        }
        replay.until_tombstone(5).await;
    } else if detail.starts_with("send the heartbeats of all regions") {
        let stub = replay.stub.as_mut().unwrap();
        stub.all_regions().await;
        for id in stub.regions.keys().copied().collect::<Vec<_>>() {
            stub.settled(id).await;
        }
    } else if detail.starts_with("send the heartbeat of region 130") {
        let stub = replay.stub.as_mut().unwrap();
        stub.region(130).await;
        stub.settled(130).await;
    } else if detail.starts_with("Report") || detail.starts_with("Update") {
        report(replay.stub.as_mut().unwrap(), detail).await;
    } else if let Some(id) = region_number(detail).filter(|_| detail.starts_with("region ")) {
        let stub = replay.stub.as_mut().unwrap();
        if detail.contains("take the id of the new peer") {
            stub.until("the command for the new peer is there", async |s: &mut Stub| s.last_command(id).is_some())
                .await;
        }
        change_region(stub, id, detail);
        stub.region(id).await;
        stub.settled(id).await;
    } else {
        panic!("unknown action: {detail}");
    }
}

fn on_store(stub: &Stub, store: u64) -> Vec<u64> {
    stub.regions.iter().filter(|(_, r)| r.is_on(store)).map(|(id, _)| *id).collect()
}

/// Changes of single regions.
fn change_region(stub: &mut Stub, id: u64, detail: &str) {
    const VOTER: i32 = metapb::PeerRole::Voter as i32;
    const LEARNER: i32 = metapb::PeerRole::Learner as i32;
    let given = stub.last_command(id).and_then(|c| {
        let changes = c.change_peer_v2.map(|v2| v2.changes).unwrap_or_default();
        changes.into_iter().chain(c.change_peer).filter_map(|c| c.peer).find(|p| p.store_id == 1)
    });
    let region = stub.regions.get_mut(&id).expect("a region");
    let set_role = |region: &mut common::stub::StubRegion, store, role| {
        if let Some(peer) = region.peer_on(store) {
            peer.role = role;
        }
    };
    if detail.contains("leader becomes peer 22, term 7") {
        region.report.leader = region.peer_on(3).cloned();
        region.report.term = 7;
    } else if detail.contains("take the id of the new peer") {
        let mut peer = given.expect("a command with a new peer");
        peer.role = LEARNER;
        region.meta().peers.push(peer);
        region.report.pending_peers = vec![peer];
        region.epoch().conf_ver = 6;
    } else if detail.contains("no pending peers") {
        region.report.pending_peers.clear();
    } else if detail.contains("DemotingVoter") {
        set_role(region, 4, metapb::PeerRole::DemotingVoter as i32);
        set_role(region, 1, metapb::PeerRole::IncomingVoter as i32);
        region.epoch().conf_ver = 8;
    } else if detail.contains("32@4 Learner") {
        set_role(region, 4, LEARNER);
        set_role(region, 1, VOTER);
        region.epoch().conf_ver = 10;
    } else if detail.contains("peers 31@2, 33@5, new@1; conf_ver 11") {
        region.meta().peers.retain(|p| p.store_id != 4);
        region.epoch().conf_ver = 11;
    } else if detail.contains("add peer 143 as Learner on store 5") {
        region.meta().peers.push(metapb::Peer { id: 1143, store_id: 5, role: LEARNER, ..metapb::Peer::default() });
        region.epoch().conf_ver += 1;
    } else if detail.contains("drop the peer on store 5") {
        region.drop_peer(5);
    } else if detail.contains("drop the learner on store 6") {
        region.drop_peer(6);
    } else if detail.contains("conf_ver +1 (peers unchanged)") {
        region.epoch().conf_ver += 1;
    } else {
        panic!("unknown change: {detail}");
    }
}

/// Reports that are not heartbeats.
async fn report(stub: &mut Stub, detail: &str) {
    let (mut client, header) = (stub.client(), stub.header());
    if detail.starts_with("ReportMinResolvedTS") {
        for store_id in 1..=5 {
            let min_resolved_ts = 463_000_000_000_000_000 + store_id;
            let request = pdpb::ReportMinResolvedTsRequest { header: header.clone(), store_id, min_resolved_ts };
            client.report_min_resolved_ts(request).await.expect("an answer");
        }
    } else if detail.starts_with("UpdateServiceGCSafePoint") {
        for (service_id, ttl, safe_point) in [
            ("gc_worker", i64::MAX, 462_000_000_000_000_000),
            ("ticdc-default-123", 86_400, 462_500_000_000_000_000),
            ("br-1", 3_600, 462_600_000_000_000_000),
        ] {
            let request = pdpb::UpdateServiceGcSafePointRequest {
                header: header.clone(),
                service_id: service_id.as_bytes().to_vec().into(),
                ttl,
                safe_point,
            };
            client.update_service_gc_safe_point(request).await.expect("an answer");
        }
    } else if detail.starts_with("UpdateGCSafePoint") {
        let safe_point = 461_900_000_000_000_000;
        client.update_gc_safe_point(pdpb::UpdateGcSafePointRequest { header, safe_point }).await.expect("an answer");
    } else {
        assert!(detail.starts_with("ReportBuckets"), "unknown report: {detail}");
        let versions = if detail.contains("once") { 7..=7 } else { 10..=19 };
        for version in versions {
            stub.report_buckets(version).await;
        }
    }
}
