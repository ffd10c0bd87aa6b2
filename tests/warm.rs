//! Followers that know what the leader knows: three members as processes, nodes that report to the leader only.

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
    pub mod group;
    pub mod nodes;
    pub mod process;
}

use std::time::{Duration, Instant};

use berth::sim::FleetOptions;
use common::{
    group::{Group, PATIENCE},
    nodes::{Nodes, eventually},
    process::{BERTH, Home},
};
use serde_json::Value;

const REGIONS: u32 = 2000;
/// Within so long a new leader schedules, on a machine that does much else; cold it would wait for five minutes.
const SOON: Duration = Duration::from_secs(20);

fn fleet(group: &Group) -> FleetOptions {
    FleetOptions {
        pd: group.urls(),
        stores: 4,
        regions: REGIONS,
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(500),
        ..FleetOptions::default()
    }
}

async fn ready(group: &Group, seat: usize) -> Option<Value> {
    group.seats[seat].home.http().get_json("/berth/v1/ready").await.ok()
}

/// Waits until all followers have all regions that the leader has, and all of them as heard as there.
async fn warm(group: &Group, leader: usize) {
    let runs = |seat: &usize| *seat != leader && group.seats[*seat].process.is_some();
    for follower in (0..group.seats.len()).filter(runs) {
        eventually("a warm copy", PATIENCE, || async {
            let says = ready(group, follower).await?;
            let copy = &says["copy"];
            let whole = copy["fresh"] == true && copy["connected"] == true && copy["lag"] == 0;
            (whole && copy["regions"].as_u64()? >= u64::from(REGIONS)).then_some(())
        })
        .await;
    }
}

async fn schedules(group: &Group, leader: usize) -> Duration {
    let from = Instant::now();
    eventually("the leader schedules", PATIENCE, || async {
        (ready(group, leader).await?["schedules"] == true).then_some(())
    })
    .await;
    from.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_a_new_leader_knows_regions_and_schedules_though_no_node_reports_to_it() {
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let old = group.leader().await;
    schedules(&group, old).await;
    warm(&group, old).await;
    // From here on nobody reports anything.
    nodes.end().await;
    warm(&group, old).await;
    group.kill(old);
    let new = group.leader().await;
    assert_ne!(new, old);
    let http = group.seats[new].home.http();
    let all = http.get_json("/pd/api/v1/regions").await.unwrap();
    let regions = all["regions"].as_array().unwrap();
    assert!(regions.len() >= REGIONS as usize, "{}", regions.len());
    let known = |r: &&Value| r["leader"]["store_id"].as_u64().is_some() && r["approximate_size"].as_u64() > Some(0);
    assert_eq!(regions.iter().filter(known).count(), regions.len(), "each with its leader and size");
    let took = schedules(&group, new).await;
    println!("schedules {took:?} after it was seen to lead");
    assert!(took < SOON, "{took:?}");
    // Who comes back is told by the new leader.
    group.spawn(old);
    warm(&group, new).await;
}

/// What `berth bench` says, as JSON.
async fn bench(args: &[&str]) -> Value {
    let mut bench = std::process::Command::new(BERTH);
    bench.args(["bench", "--json"]).args(args);
    let ends = tokio::task::spawn_blocking(move || bench.output());
    let out = tokio::time::timeout(PATIENCE, ends).await.expect("it ends").unwrap().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(&text).unwrap()
}

/// `berth bench leader-change`, small: the leader resigns in the middle of a drain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_is_measured() {
    let group = Group::start(3, &[]).await;
    let url = group.seats[group.leader().await].home.url();
    let args = ["--stores", "4", "--regions", "500", "--settle", "100ms", "--store-limit", "60"];
    let table = bench(&[&["--addr", &url, "leader-change"], &args[..]].concat()).await;
    for name in ["leads after", "GetRegion, from its election", "first operator, from its election"] {
        assert!(table["values"][name]["value"].as_f64().is_some_and(|s| s < 20.0), "{name}: {table}");
    }
}

/// `berth bench restart`, small: the regions come from the files, as no node reports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_measured() {
    let home = Home::new();
    let (process, url) = (home.start().await, home.url());
    let pid = process.id().to_string();
    let args = ["--stores", "4", "--regions", "500", "--sample", "100", "--settle", "100ms"];
    let table = bench(&[&["--addr", &url, "--pid", &pid, "restart"], &args[..]].concat()).await;
    let value = |name: &str| table["values"][name]["value"].as_f64();
    assert_eq!(value("regions looked up"), Some(100.0), "{table}");
    assert!(value("regions known") >= Some(500.0), "{table}");
    let (answers, all) = (value("answers, from its start"), value("GetRegion for the whole sample, from its start"));
    assert!(answers > Some(0.0) && all >= answers && all < Some(20.0), "{table}");
    assert_eq!(process.ended(PATIENCE).await.code(), Some(0), "it was stopped in order");
    assert!(home.http().get("/pd/api/v1/version").await.is_err(), "the one that was started again has ended too");
}
