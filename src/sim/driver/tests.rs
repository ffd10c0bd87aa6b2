//! The driver over real connections, against a server made for the purpose.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::{
    proto::{eraftpb::ConfChangeType, metapb},
    sim::{
        FaultOptions,
        fake::{CLUSTER, Fake, Heard},
    },
};

struct Running {
    shutdown: CancellationToken,
    view: Arc<Mutex<FleetView>>,
    task: tokio::task::JoinHandle<Result<FleetReport, SimError>>,
}

fn start(fake: &Fake, options: FleetOptions) -> Running {
    let options = FleetOptions {
        pd: vec![format!("http://{}", fake.addr)],
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(200),
        ..options
    };
    let (shutdown, view) = (CancellationToken::new(), Arc::<Mutex<FleetView>>::default());
    let seen = view.clone();
    let observer = move |view: &FleetView, _: Now| *seen.lock() = view.clone();
    let task = tokio::spawn(run(options, shutdown.clone(), observer));
    Running { shutdown, view, task }
}

impl Running {
    async fn end(self) -> FleetReport {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap()
    }
}

fn small() -> FleetOptions {
    FleetOptions { stores: 4, regions: 40, check_replicas: true, ..FleetOptions::default() }
}

#[tokio::test]
async fn a_fleet_founds_a_cluster_reports_and_obeys() {
    let fake = Fake::start();
    let running = start(&fake, small());
    fake.state.wait(|h| h.regions.len() == 40 && h.store_heartbeats.len() == 4).await;
    {
        let heard = fake.state.heard.lock();
        assert!(heard.bootstrapped);
        assert_eq!(heard.stores.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(heard.stores[&3].version, "v8.5.7");
        assert!(heard.regions.values().all(|r| r.header.as_ref().unwrap().cluster_id == CLUSTER));
    }
    // One operator's worth of commands, step by step: region 8 has peers on stores 1, 2 and 3.
    let peer = |id, store_id, role| Some(metapb::Peer { id, store_id, role, is_witness: false });
    let change = |peer, kind: ConfChangeType| pdpb::ChangePeer { peer, change_type: kind as i32 };
    let v2 = |changes| Some(pdpb::ChangePeerV2 { changes });
    let conf_ver = |wanted: u64| {
        move |h: &Heard| {
            let region = h.regions[&8].region.as_ref().unwrap();
            region.region_epoch.as_ref().unwrap().conf_ver == wanted
        }
    };
    let learner = change(peer(900, 4, 1), ConfChangeType::AddLearnerNode);
    fake.state.send(8, |m| m.change_peer_v2 = v2(vec![learner])).await;
    fake.state.wait(conf_ver(2)).await;
    let promote = change(peer(900, 4, 0), ConfChangeType::AddNode);
    let demote = change(peer(6, 2, 1), ConfChangeType::AddLearnerNode);
    fake.state.send(8, |m| m.change_peer_v2 = v2(vec![promote, demote])).await;
    fake.state.wait(conf_ver(4)).await;
    fake.state.send(8, |m| m.change_peer_v2 = v2(Vec::new())).await;
    fake.state.wait(conf_ver(6)).await;
    let remove = change(peer(6, 2, 1), ConfChangeType::RemoveNode);
    fake.state.send(8, |m| m.change_peer_v2 = v2(vec![remove])).await;
    fake.state.wait(conf_ver(7)).await;
    fake.state.send(8, |m| m.split_region = Some(pdpb::SplitRegion { policy: 1, keys: Vec::new() })).await;
    fake.state.wait(|h| h.regions.len() == 41).await;
    let report = running.end().await;
    assert!(report.passed(), "{report}");
    assert_eq!((report.counters.executed_total(), report.counters.splits), (5, 1));
    assert_eq!(report.regions, 41);
}

#[tokio::test]
async fn after_a_restart_of_the_server_every_region_is_reported_again() {
    let fake = Fake::start();
    let running = start(&fake, small());
    fake.state.wait(|h| h.regions.len() == 40).await;
    let fake = fake.restart().await;
    fake.state.wait(|h| h.regions.len() == 40).await;
    let report = running.end().await;
    assert!(report.passed() && report.counters.connects >= 8, "{report}");
    // A second fleet does not mix in.
    let second = start(&fake, small());
    assert!(matches!(second.task.await.unwrap(), Err(SimError::AlreadyBootstrapped)));
}

#[tokio::test]
async fn a_store_that_stops_closes_its_stream_and_connects_again() {
    let fake = Fake::start();
    let stop = "2@500ms+500ms".parse().unwrap();
    let fault = FaultOptions { stop_store: vec![stop], ..FaultOptions::default() };
    let options = FleetOptions { fault, election_timeout: Duration::from_millis(100), ..small() };
    let running = start(&fake, options);
    fake.state.wait(|h| h.regions.len() == 40).await;
    fake.state.wait(|h| h.regions.values().all(|r| r.leader.as_ref().unwrap().store_id != 2)).await;
    let view = running.view.clone();
    let back = async {
        while !(view.lock().counters.store_stops == 1 && view.lock().counters.connects == 5) {
            sleep(VIEW_PERIOD).await;
        }
    };
    timeout(Duration::from_secs(30), back).await.expect("it does not come back");
    let report = running.end().await;
    assert_eq!(report.counters.elections, 10);
    assert!(report.passed(), "{report}");
}

#[tokio::test]
#[ignore = "takes a second core"]
async fn a_large_fleet_is_reported_quickly() {
    let fake = Fake::start();
    let running = start(&fake, FleetOptions { stores: 20, regions: 200_000, ..FleetOptions::default() });
    let begun = Instant::now();
    fake.state.wait(|h| h.regions.len() == 200_000).await;
    println!("200,000 regions after {:.1} s", begun.elapsed().as_secs_f64());
    let report = running.end().await;
    assert_eq!(report.counters.connects, 20, "{report}");
}

#[tokio::test]
async fn without_a_server_a_fleet_waits_and_ends_when_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pd = vec![listener.local_addr().unwrap().to_string()];
    drop(listener);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(FleetOptions { pd, ..small() }, shutdown.clone(), ()));
    shutdown.cancel();
    assert!(matches!(running.await.unwrap(), Err(SimError::Stopped)));
}
