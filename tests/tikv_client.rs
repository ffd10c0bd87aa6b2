//! A client that somebody else wrote: crate `tikv-client` finds the cluster, takes timestamps and looks regions up.

// What tests may and the crate may not: panic, print, read the clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::{collections::BTreeSet, time::Duration};

use berth::{
    config::Config,
    server::Server,
    sim::{FleetOptions, run},
    telemetry::Logger,
};
use tikv_client::{TimestampExt as _, TransactionClient};
use tokio_util::sync::CancellationToken;

/// Timestamps that each caller takes.
const EACH: usize = 200;
/// Callers at once.
const CALLERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t1_timestamps_rise_over_all_callers_of_a_foreign_client() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        name: "pd-1".into(),
        data_dir: dir.path().display().to_string(),
        client_urls: "http://127.0.0.1:0".into(),
        advertise_client_urls: "http://127.0.0.1:0".into(),
        peer_urls: "http://127.0.0.1:0".into(),
        advertise_peer_urls: "http://127.0.0.1:2380".into(),
        ..Config::default()
    };
    let server = Server::start(config, Logger::none()).await.unwrap();
    let url = format!("http://{}", server.addr());
    let end = CancellationToken::new();
    let options = FleetOptions { pd: vec![url.clone()], stores: 3, regions: 10, ..FleetOptions::default() };
    let fleet = tokio::spawn(run(options, end.clone(), ()));
    let loaded = async {
        while server.app.cluster.regions().heard_count() < 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), loaded).await.expect("the fleet reports its regions");

    let client = TransactionClient::new(vec![url.trim_start_matches("http://").to_owned()]).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let mut taken = vec![];
            for _ in 0..EACH {
                taken.push(client.current_timestamp().await.unwrap().version());
            }
            taken
        });
    }
    let taken: Vec<Vec<u64>> = callers.join_all().await;
    for one in &taken {
        assert!(one.windows(2).all(|w| w[0] < w[1]), "a caller saw time stand still or go back");
    }
    let all: BTreeSet<u64> = taken.iter().flatten().copied().collect();
    assert_eq!(all.len(), CALLERS * EACH, "a timestamp was given twice");
    let later = client.current_timestamp().await.unwrap().version();
    assert!(all.last().is_some_and(|last| *last < later));

    end.cancel();
    assert!(fleet.await.unwrap().unwrap().passed());
    server.stop().await;
}
