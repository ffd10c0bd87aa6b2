//! A recording of a live server replays to the same operators: a real server on a real port, a fleet over gRPC, its schedulers, a drain,
//! a cancel, a changed configuration, paused checkers and schedulers, scattered and split regions, and then the same inputs through the same deciding code in one thread.

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
    pub mod nodes;
}

use std::{path::Path, sync::Arc, time::Duration};

use berth::{
    config::{
        flags::Flags,
        load::{self, Host},
    },
    model::StoreId,
    server::{Server, clock::SystemClock},
    sim::{FaultOptions, FleetOptions, http::HttpClient},
    telemetry::log::Logger,
    world::replay::{Replayed, replay},
};
use common::nodes::{Nodes, eventually};
use serde_json::json;

/// How long any step may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

async fn record(folder: &Path, recording: &Path) {
    let flags = Flags {
        name: "pd-1".into(),
        data_dir: "./data".into(),
        client_urls: "http://127.0.0.1:0".into(),
        peer_urls: "http://127.0.0.1:0".into(),
        ..Flags::default()
    };
    let config = load::load(&flags, None, &Host { name: "vm".into(), directory: folder.to_owned() }).unwrap().config;
    let clock = Arc::new(SystemClock::new());
    let server = Server::start_recorded(config, Logger::none(), clock, Some(recording.to_owned())).await.unwrap();
    let url = format!("http://{}", server.addr());
    let fault = FaultOptions { leader_changes: 60.0, splits: 20.0, ..FaultOptions::default() };
    let options = FleetOptions {
        pd: vec![url.clone()],
        stores: 5,
        regions: 40,
        step_delay: Duration::from_millis(20),
        store_heartbeat: Duration::from_secs(1),
        region_heartbeat: Duration::from_secs(2),
        fault,
        ..FleetOptions::default()
    };
    let mut nodes = Nodes::start(options);
    nodes.loaded().await;
    let cluster = server.app.cluster.clone();
    eventually("prepared", PATIENCE, || async { cluster.is_prepared().then_some(()) }).await;
    let http = HttpClient::new(&url).unwrap();
    http.post("/pd/api/v1/schedulers", &json!({ "name": "shuffle-region-scheduler" })).await.unwrap();
    http.post("/pd/api/v1/schedulers", &json!({ "name": "evict-leader-scheduler", "store_id": 4 })).await.unwrap();
    http.post("/pd/api/v1/regions/scatter", &json!({ "start_key": "", "end_key": "" })).await.unwrap();
    http.post("/pd/api/v1/regions/split", &json!({ "split_keys": ["7480000000000000ff0100000000000000f8"] }))
        .await
        .unwrap();
    eventually("leaders to leave store 4", PATIENCE, || async {
        let leaders = cluster.regions().summary(StoreId(4)).leader_count;
        (leaders == 0).then_some(())
    })
    .await;
    eventually("a shuffled region", PATIENCE, || async {
        let past = cluster.operators_history(None, None, 1000);
        past.iter().any(|one| one.op.desc.contains("shuffle-region")).then_some(())
    })
    .await;
    http.post("/pd/api/v1/schedulers/shuffle-region-scheduler", &json!({ "delay": 3600 })).await.unwrap();
    http.post("/pd/api/v1/checker/rule", &json!({ "delay": 1 })).await.unwrap();
    http.post("/pd/api/v1/regions/accelerate-schedule", &json!({ "start_key": "", "end_key": "" })).await.unwrap();
    http.post("/pd/api/v1/stores/limit", &json!({ "rate": 2000 })).await.unwrap();
    http.delete("/pd/api/v1/store/2").await.unwrap();
    eventually("operators", PATIENCE, || async { (!cluster.operators().is_empty()).then_some(()) }).await;
    // Cancelled in the middle, and begun again under another limit.
    http.post("/pd/api/v1/store/2/state?state=Up", &json!({})).await.unwrap();
    http.post("/pd/api/v1/config", &json!({ "replica-schedule-limit": 3 })).await.unwrap();
    http.delete("/pd/api/v1/store/2").await.unwrap();
    nodes.until("store 2 to be buried", PATIENCE, |v| v.store(StoreId(2)).is_some_and(|s| s.buried)).await;
    nodes.end().await;
    server.stop().await;
}

fn play(recording: &str) -> Replayed {
    replay(recording.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_run_replays_to_the_same_operators() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    record(folder.path(), &file).await;
    let recording = std::fs::read_to_string(&file).unwrap();
    let found = play(&recording);
    println!("{found}");
    assert_eq!(found.differences, 0, "{found}");
    assert!(found.inputs > 300 && found.operators >= 24 && !found.cut, "{found}");

    for input in
        ["Schedulers", "TickSchedulers", "PauseScheduler", "PauseChecker", "Accelerate", "Scatter", "SplitAt", "Split"]
    {
        let count = recording.matches(&format!("\"{input}\"")).count();
        println!("{count} inputs {input}");
        assert!(count > 0, "{input} was not recorded");
    }
    for desc in ["shuffle-region", "evict-leader", "replace-rule-offline"] {
        let count = recording.lines().filter(|line| line.contains("\"Operator\"") && line.contains(desc)).count();
        println!("{count} operators {desc}");
        assert!(count > 0, "no {desc} was recorded");
    }
    // A replay that could not differ would prove nothing.
    let fewer: String = recording
        .lines()
        .enumerate()
        .filter(|(at, line)| at % 2 == 0 || !line.contains("\"Region\""))
        .flat_map(|(_, line)| [line, "\n"])
        .collect();
    assert!(play(&fewer).differences > 0, "half of the heartbeats are missing");
    let torn = play(&recording[..recording.len() - 5]);
    assert!(torn.cut && torn.differences <= 1, "{torn}");
    let other = recording.replacen("replace-rule-offline", "replace-rule-online", 1);
    assert_eq!(play(&other).differences, 1, "one operator is another one");
}

#[test]
fn what_is_no_recording_is_refused_with_its_line() {
    for (text, why) in [
        ("", "line 1: an empty recording"),
        ("{\"Input\":{\"now\":null,\"what\":\"Tick\"}}\n", "line 1: stands before the start"),
        ("\"Full\"\n", "line 1: stands before the start"),
    ] {
        assert_eq!(replay(text.as_bytes()).unwrap_err().to_string(), why);
    }
    assert!(replay("nonsense\n".as_bytes()).unwrap_err().to_string().starts_with("line 1: "));
}
