//! What is agreed on after its caller has gone: it is told in the log as if somebody had waited for it.

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
    pub mod logs;
    pub mod nodes;
    pub mod process;
}

use std::{process::Command, time::Duration};

use berth::sim::FleetOptions;
use common::{
    logs,
    nodes::{Nodes, eventually},
    process::{BERTH, Home},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// How long any step may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_whose_caller_has_gone_is_in_the_log() {
    let home = Home::new();
    let gate = home.path().join("gate");
    let mut command = Command::new(BERTH);
    command.arg("server").args(home.flags()).env("BERTH_TEST_DISK_HANGS_WHILE", &gate);
    let mut process = home.spawn_as(command);
    home.ready(&mut process).await;
    let mut nodes = Nodes::start(FleetOptions {
        pd: vec![home.url()],
        stores: 4,
        regions: 20,
        store_heartbeat: Duration::from_millis(200),
        ..FleetOptions::default()
    });
    nodes.loaded().await;
    let http = home.http();
    http.post("/pd/api/v1/config", &json!({ "schedule.halt-scheduling": "true" })).await.unwrap();

    std::fs::write(&gate, "").unwrap();
    let mut caller = TcpStream::connect(home.url().replace("http://", "")).await.unwrap();
    caller.write_all(b"DELETE /pd/api/v1/store/2 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually("the call has come", PATIENCE, || async {
        home.log().contains("ServiceLabel:DeleteStore").then_some(())
    })
    .await;
    drop(caller);
    std::fs::remove_file(&gate).unwrap();
    eventually("the store is Offline", PATIENCE, || async {
        let store = http.get_json("/pd/api/v1/store/2").await.ok()?;
        (store["store"]["state_name"] == "Offline").then_some(())
    })
    .await;
    let log = home.log();
    let told: Vec<_> = log.lines().filter_map(logs::parse).map(|line| line.message).collect();
    let place = |wanted: &str| told.iter().position(|message| message == wanted);
    let (Some(offline), Some(limit)) = (place("store has been offline"), place("store limit changed")) else {
        panic!("no line about the removal: {log}");
    };
    assert!(place("audit log") < Some(offline) && offline < limit, "{told:#?}");
    nodes.end().await;
}
