//! Each row once, small, against a server made for tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use clap::{Args, FromArgMatches};

use super::*;
use crate::sim::fake::Fake;

/// Runs a row as the command line would.
async fn measure(args: &[&str]) -> Result<Table, BenchError> {
    let fake = Fake::start();
    let (addr, pid) = (format!("http://{}", fake.addr), std::process::id().to_string());
    let command = BenchOptions::augment_args(clap::Command::new("bench"));
    let all = ["bench", "--addr", addr.as_str(), "--pid", pid.as_str()].into_iter().chain(args.iter().copied());
    let options = BenchOptions::from_arg_matches(&command.try_get_matches_from(all).unwrap()).unwrap();
    tokio::time::timeout(Duration::from_secs(60), run(&options, CancellationToken::new())).await.expect("too slow")
}

#[tokio::test]
async fn a_scale_in_is_measured_to_its_end() {
    let args = ["scale-in", "--regions", "200", "--peers", "60", "--settle", "100ms", "--store-limit", "1000"];
    let table = measure(&args).await.unwrap();
    let (empty, tombstone) = (table.get("empty after").unwrap(), table.get("Tombstone after").unwrap());
    assert!(empty > 0.02 && tombstone >= empty && tombstone < 10.0, "{table}");
    assert!(table.get("peers moved a minute").unwrap() > 360.0 && table.get("server CPU").is_some(), "{table}");
}

#[tokio::test]
async fn an_idle_server_is_measured() {
    let args = ["idle", "--regions", "300", "--region-heartbeat", "1s", "--settle", "10ms", "--window", "1s"];
    let table = measure(&args).await.unwrap();
    assert!((250.0..=350.0).contains(&table.get("region heartbeats").unwrap()), "{table}");
    assert_eq!((table.get("patrol round"), table.get("commands sent")), (Some(1.5), Some(0.0)));
}

#[tokio::test]
async fn look_ups_are_measured_alone_and_beside_sums() {
    let args = ["size-sum", "--regions", "50", "--settle", "10ms", "--window", "500ms", "--rate", "20"];
    let table = measure(&args).await.unwrap();
    for name in ["GetRegion alone, number", "GetRegion beside sums, number"] {
        assert!(table.get(name).unwrap() > 10.0, "{table}");
    }
    assert!((4.0..=24.0).contains(&table.get("sum, number").unwrap()), "{table}");
}

#[tokio::test]
async fn heartbeats_are_measured_first_and_steady() {
    let args = ["heartbeat", "--stores", "3", "--regions", "100", "--rate", "1000", "--window", "300ms"];
    let table = measure(&args).await.unwrap();
    assert_eq!(table.get("first heartbeats"), Some(100.0));
    assert!((150.0..=300.0).contains(&table.get("steady heartbeats").unwrap()), "{table}");
}

#[tokio::test]
async fn timestamps_are_measured_and_checked() {
    let table = measure(&["tso", "--callers", "50", "--window", "300ms"]).await.unwrap();
    assert!(table.get("timestamps").unwrap() > 100.0 && table.get("one in flight, number").unwrap() > 10.0, "{table}");
}

#[tokio::test]
async fn a_wrong_process_is_refused_at_once() {
    let options = BenchOptions {
        addr: "127.0.0.1:1".into(),
        pid: Some(u32::MAX),
        json: false,
        row: Row::Tso(TsoOptions { callers: 1, window: Duration::ZERO }),
    };
    assert!(matches!(run(&options, CancellationToken::new()).await, Err(BenchError::Process { .. })));
}
