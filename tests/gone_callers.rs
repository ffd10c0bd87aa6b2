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

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::FleetOptions,
};
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
async fn what_a_caller_asked_for_who_has_gone_is_in_the_log() {
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

    let mut grpc = PdClient::connect(home.url()).await.unwrap();
    let header = grpc.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner().header.unwrap();
    let header = pdpb::RequestHeader { cluster_id: header.cluster_id, ..pdpb::RequestHeader::default() };
    std::fs::write(&gate, "").unwrap();
    let safe_point = pdpb::UpdateServiceGcSafePointRequest {
        header: Some(header),
        service_id: b"br".to_vec().into(),
        ttl: 1000,
        safe_point: 4711,
    };
    let call = tokio::spawn(async move { grpc.update_service_gc_safe_point(safe_point).await });
    let told = |wanted: &str| {
        let (log, wanted) = (home.log(), wanted.to_owned());
        log.lines().find(|line| line.contains(&wanted)).map(str::to_owned)
    };
    eventually("the call of gRPC has come", PATIENCE, || async { told("deprecated API UpdateServiceGCSafePoint") })
        .await;
    call.abort();
    let line = eventually("its end is told", PATIENCE, || async { told("Method:gRPC:UpdateServiceGCSafePoint") }).await;
    assert!(
        line.contains("safe_point:4711") && line.contains("[outcome=unknown] [error=\"the caller has gone\"]"),
        "{line}"
    );
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
