//! A cluster of nodes over changes of the leader: a drain goes on, and no node is left down.

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

use std::time::Duration;

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::FleetOptions,
};
use common::{
    group::{Group, PATIENCE},
    nodes::{Nodes, eventually},
};
use serde_json::{Value, json};
use tokio::time::timeout;

const STORES: u32 = 6;
const REGIONS: u32 = 180;
/// The last of them is split at both borders of keyspace 0.
const PEERS: u32 = 3 * (REGIONS + 2);
/// The store that is taken out.
const VICTIM: u64 = 6;
/// Leaders that are killed meanwhile.
const KILLS: u32 = 3;
/// A store that is silent for so long is down; a question about it takes less, on a slow machine too.
const DOWN_AFTER: &str = "5s";
/// How long a member may take to answer before another is asked.
const ANSWER: Duration = Duration::from_secs(4);

fn fleet(group: &Group) -> FleetOptions {
    FleetOptions {
        pd: group.urls(),
        stores: STORES,
        regions: REGIONS,
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(200),
        check_replicas: true,
        ..FleetOptions::default()
    }
}

/// What any member that runs answers: each passes on what it does not know itself.
async fn ask(group: &Group, path: &str) -> Option<Value> {
    for seat in group.seats.iter().filter(|seat| seat.process.is_some()) {
        if let Ok(Ok(answer)) = timeout(ANSWER, seat.home.http().get_json(path)).await {
            return Some(answer);
        }
    }
    None
}

async fn store_state(group: &Group, id: u64) -> Option<String> {
    let store = ask(group, &format!("/pd/api/v1/store/{id}")).await?;
    store["store"]["state_name"].as_str().map(str::to_owned)
}

/// What a leader knows of the drain: how far it is, and the latest operator that ended long enough ago to be kept.
struct Known {
    progress: f64,
    operator: Value,
}

/// Whether it ended more than two seconds ago: a leader hands what ended over within one.
fn is_kept(operator: &Value, now: &str) -> bool {
    let parse = |text: &str| time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap();
    operator["ended"].as_str().is_some_and(|ended| parse(now) - parse(ended) > time::Duration::seconds(2))
}

async fn kept(group: &Group, leader: usize) -> Known {
    let http = group.seats[leader].home.http();
    eventually("an operator that is kept", PATIENCE, || async {
        let drain = http.get_json(&format!("/berth/v1/drains/{VICTIM}")).await.ok()?;
        let operators = http.get_json(&format!("/berth/v1/operators?drain={VICTIM}&limit=1000")).await.ok()?;
        let latest = operators["operators"].as_array()?.first()?["ended"].as_str()?.to_owned();
        let operator = operators["operators"].as_array()?.iter().find(|op| is_kept(op, &latest))?.clone();
        Some(Known { progress: drain["progress"].as_f64()?, operator })
    })
    .await
}

/// The next leader goes on with both.
async fn still_known(group: &Group, known: &Known) {
    let drain = ask(group, &format!("/berth/v1/drains/{VICTIM}")).await.unwrap();
    let progress = drain["progress"].as_f64().unwrap();
    // Some that have left may not have reported to it yet. Without the target it would begin at nothing.
    assert!(known.progress > 0.0 && progress > known.progress / 2.0, "{} and then {drain}", known.progress);
    assert!(drain["bytes_per_second"].as_f64().unwrap() < 1e11, "{drain}");
    let id = known.operator["id"].as_u64().unwrap();
    let again = eventually("the operator of the leader before", PATIENCE, || async {
        ask(group, &format!("/berth/v1/operators/{id}")).await
    })
    .await;
    for field in ["region", "desc", "brief", "kind", "status", "cause", "choice", "drains", "ended", "steps"] {
        assert_eq!(again[field], known.operator[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_s8_a_drain_goes_on_while_leaders_are_killed() {
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let follower = (group.leader().await + 1) % 3;
    let http = group.seats[follower].home.http();
    http.post("/pd/api/v1/stores/limit", &json!({ "rate": 120 })).await.unwrap();
    http.delete(&format!("/pd/api/v1/store/{VICTIM}")).await.unwrap();
    let mut left = nodes.peers(VICTIM);
    for _ in 0..KILLS {
        // Each leader has moved some and has some under way when it is killed.
        eventually("the drain goes on", PATIENCE, || async { (nodes.peers(VICTIM) + 8 <= left).then_some(()) }).await;
        let leader = group.leader().await;
        let known = kept(&group, leader).await;
        group.kill(leader);
        left = nodes.peers(VICTIM);
        assert!(left > 0, "the drain was over before the leader was killed");
        group.spawn(leader);
        let next = group.leader().await;
        assert_eq!(store_state(&group, VICTIM).await.as_deref(), Some("Offline"), "leader is now {next}");
        still_known(&group, &known).await;
    }
    eventually("Tombstone", PATIENCE, || async { (store_state(&group, VICTIM).await? == "Tombstone").then_some(()) })
        .await;
    // Some regions were left half way: they are put right too.
    let peers = || nodes.view().stores.iter().map(|s| s.peers).sum::<u32>();
    eventually("three peers everywhere", PATIENCE, || async {
        let idle = ask(&group, "/pd/api/v1/operators").await? == json!([]);
        (idle && peers() == PEERS).then_some(())
    })
    .await;
    let report = nodes.end().await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.peers[&VICTIM], 0);
    assert_eq!(report.peers.values().sum::<u32>(), PEERS);
    group.same().await;
}

/// Ids of the drain's operators that have ended.
async fn ended(group: &Group, seat: usize) -> Option<Vec<u64>> {
    let path = format!("/berth/v1/operators?drain={VICTIM}&limit=1000");
    let operators = group.seats[seat].home.http().get_json(&path).await.ok()?;
    let ended = operators["operators"].as_array()?.iter().filter(|op| op["ended"].is_string());
    Some(ended.filter_map(|op| op["id"].as_u64()).collect())
}

/// A leader writes once a second what has ended; one that is stopped in order, before it hands over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_what_ended_just_before_an_orderly_stop_is_known_to_the_next_leader() {
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let leader = group.leader().await;
    let http = group.seats[leader].home.http();
    http.post("/pd/api/v1/stores/limit", &json!({ "rate": 600 })).await.unwrap();
    http.delete(&format!("/pd/api/v1/store/{VICTIM}")).await.unwrap();
    let before = eventually("the drain is under way", PATIENCE, || async {
        ended(&group, leader).await.filter(|ended| ended.len() >= 10)
    })
    .await;
    group.stop(leader).await;
    let next = group.leader().await;
    eventually("all that had ended", PATIENCE, || async {
        let known = ended(&group, next).await?;
        before.iter().all(|id| known.contains(id)).then_some(())
    })
    .await;
    nodes.end().await;
}

/// One heartbeat of a store, to the member that leads.
async fn heartbeat(group: &Group, leader: usize, id: u64) {
    let mut client = PdClient::connect(group.seats[leader].home.url()).await.unwrap();
    let members = client.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
    let cluster_id = members.header.unwrap().cluster_id;
    let request = pdpb::StoreHeartbeatRequest {
        header: Some(pdpb::RequestHeader { cluster_id, ..Default::default() }),
        stats: Some(pdpb::StoreStats { store_id: id, capacity: 100 << 30, available: 90 << 30, ..Default::default() }),
        ..Default::default()
    };
    let answer = client.store_heartbeat(request).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().error, None, "store {id}");
}

async fn until_all_are_down(group: &Group) {
    eventually("all stores are down", PATIENCE, || async {
        let stores = ask(group, "/pd/api/v1/stores").await?;
        let down = |store: &&Value| store["store"]["state_name"] == "Down";
        (stores["stores"].as_array()?.iter().filter(down).count() == STORES as usize).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_all_members_one_heartbeat_brings_a_store_up() {
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(FleetOptions { check_replicas: false, ..fleet(&group) });
    nodes.loaded().await;
    let leader = group.leader().await;
    let http = group.seats[leader].home.http();
    http.post("/pd/api/v1/config", &json!({ "max-store-down-time": DOWN_AFTER })).await.unwrap();
    // From here on nobody reports but this test.
    assert!(nodes.end().await.passed());
    until_all_are_down(&group).await;
    let mut brought_up = 0;
    // Heard at once after the restart, and after a silence that the next leader too calls down.
    for silent in [false, true] {
        (0..3).for_each(|seat| group.kill(seat));
        (0..3).for_each(|seat| group.spawn(seat));
        let leader = group.leader().await;
        if silent {
            until_all_are_down(&group).await;
        }
        for id in 1..=u64::from(STORES) {
            if silent {
                assert_eq!(store_state(&group, id).await.as_deref(), Some("Down"), "store {id} before its heartbeat");
            }
            heartbeat(&group, leader, id).await;
            assert_eq!(store_state(&group, id).await.as_deref(), Some("Up"), "store {id} after its heartbeat");
            brought_up += u32::from(silent);
        }
    }
    assert_eq!(brought_up, STORES);
}
