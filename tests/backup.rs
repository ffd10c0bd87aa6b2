//! Backup, restore and recovery with the real binary: under writes, into new folders, with others joining, and refused by name.

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
    pub mod load;
    pub mod nodes;
    pub mod process;
}

use std::{
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::{FleetOptions, http::HttpClient},
};
use common::{
    load::Load,
    nodes::{Nodes, eventually},
    process::{BERTH, Home, free_port},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

/// How long any step may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command of the binary.
fn berth(args: &[&str]) -> Output {
    Command::new(BERTH).args(args).output().unwrap()
}

/// What a command says when it is refused.
fn refusal(args: &[&str]) -> String {
    let output = berth(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// What a command prints.
fn printed(args: &[&str]) -> String {
    let output = berth(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A client of one server.
struct Asking {
    grpc: PdClient<Channel>,
    cluster: u64,
}

impl Asking {
    async fn new(home: &Home) -> Self {
        let mut grpc = PdClient::connect(home.url()).await.unwrap();
        let members = grpc.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
        Self { grpc, cluster: members.header.unwrap().cluster_id }
    }

    fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader { cluster_id: self.cluster, ..pdpb::RequestHeader::default() })
    }

    async fn id(&mut self) -> u64 {
        let request = pdpb::AllocIdRequest { header: self.header(), count: 1 };
        self.grpc.alloc_id(request).await.unwrap().into_inner().id
    }

    async fn timestamp(&mut self) -> (i64, i64) {
        let request = pdpb::TsoRequest { header: self.header(), count: 1, ..pdpb::TsoRequest::default() };
        let mut answers = self.grpc.tso(tokio_stream::once(request)).await.unwrap().into_inner();
        let ts = answers.message().await.unwrap().unwrap().timestamp.unwrap();
        (ts.physical, ts.logical)
    }

    async fn is_bootstrapped(&mut self) -> bool {
        let request = pdpb::IsBootstrappedRequest { header: self.header() };
        self.grpc.is_bootstrapped(request).await.unwrap().into_inner().bootstrapped
    }
}

async fn schedule(http: &HttpClient, item: &str) -> u64 {
    http.get_json("/pd/api/v1/config/schedule").await.unwrap()[item].as_u64().unwrap()
}

/// What was set up before the backup and has to be there after it.
async fn agreed(http: &HttpClient) -> Vec<Value> {
    let mut all = vec![];
    for path in [
        "config/rules/group/pd",
        "config/region-label/rules",
        "stores?state=0&state=1",
        "stores/limit",
        "cluster",
        "config/replicate",
    ] {
        all.push(http.get_json(&format!("/pd/api/v1/{path}")).await.unwrap());
    }
    // What the stores report, and what the clients under way change, is not the same again.
    let stores = all[2]["stores"].as_array().unwrap().iter();
    let stores: Vec<Value> =
        stores.map(|s| json!([s["store"]["id"], s["store"]["address"], s["store"]["state_name"]])).collect();
    all[2] = Value::Array(stores);
    all[3]["1"] = Value::Null;
    all
}

async fn set_up(home: &Home) {
    let http = home.http();
    let fleet = FleetOptions {
        pd: vec![home.url()],
        stores: 4,
        regions: 40,
        store_heartbeat: Duration::from_millis(200),
        ..FleetOptions::default()
    };
    let mut nodes = Nodes::start(fleet);
    nodes.loaded().await;
    nodes.end().await;
    let rule = json!({
        "group_id": "pd", "id": "more", "start_key": "", "end_key": "", "role": "learner", "count": 1,
    });
    http.post("/pd/api/v1/config/rule", &rule).await.unwrap();
    let label = json!({
        "id": "held", "labels": [{ "key": "schedule", "value": "deny" }], "rule_type": "key-range",
        "data": [{ "start_key": "7480", "end_key": "7481" }],
    });
    http.post("/pd/api/v1/config/region-label/rule", &label).await.unwrap();
    http.post("/pd/api/v1/store/2/limit", &json!({ "rate": 77.5, "type": "add-peer" })).await.unwrap();
    http.delete("/pd/api/v1/store/4").await.unwrap();
}

/// Writes one value after the other until it is dropped; the last that was acknowledged and the last that was tried.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    tried: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(http: HttpClient) -> Self {
        let (acknowledged, tried): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let (done, begun) = (acknowledged.clone(), tried.clone());
        let task = tokio::spawn(async move {
            for n in 1.. {
                begun.store(n, Ordering::SeqCst);
                http.post("/pd/api/v1/config", &json!({ "schedule.region-schedule-limit": n })).await.unwrap();
                done.store(n, Ordering::SeqCst);
            }
        });
        Self { acknowledged, tried, task }
    }

    async fn at_least(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + more;
        eventually("writes", PATIENCE, || async { (self.acknowledged.load(Ordering::SeqCst) >= goal).then_some(()) })
            .await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Peer URLs of its own for a member.
fn peer_flags() -> [String; 2] {
    let url = format!("http://127.0.0.1:{}", free_port());
    [format!("--peer-urls={url}"), format!("--advertise-peer-urls={url}")]
}

async fn members(http: &HttpClient) -> Vec<(String, u64)> {
    let Ok(all) = http.get_json("/pd/api/v1/members").await else { return vec![] };
    let all = all["members"].as_array().cloned().unwrap_or_default();
    all.iter().map(|m| (m["name"].as_str().unwrap().to_owned(), m["member_id"].as_u64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r12_t1_t2_d2_a_backup_under_writes_becomes_a_cluster_that_goes_on() {
    let home = Home::new();
    let process = home.start().await;
    set_up(&home).await;
    let (load, writer) = (Load::start(&home.url()).await, Writer::start(home.http()));
    writer.at_least(20).await;
    let file = home.path().join("berth.backup");
    let before = writer.acknowledged.load(Ordering::SeqCst);
    let said = printed(&["backup", "--pd", &home.url(), text(&file)]);
    let after = writer.tried.load(Ordering::SeqCst);
    writer.at_least(20).await;
    drop(writer);
    let (totals, ids) = load.end().await;
    assert!(totals.timestamps > 20 && totals.writes > 20, "{totals:?}");
    let mut old = Asking::new(&home).await;
    let (highest_id, last_ts) = (old.id().await.max(*ids.last().unwrap()), old.timestamp().await);
    let set = agreed(&home.http()).await;
    assert!(said.contains(&format!("backup of cluster {} ", old.cluster)), "{said}");
    assert!(said.contains("4 stores, 2 rules, 2 region label rules"), "{said}");
    assert!(said.ends_with(&format!("written to {}\n", file.display())), "{said}");
    assert!(!home.path().join("berth.backup.part").exists());
    assert!(said.starts_with(&printed(&["backup", "--check", text(&file)])), "the same file says the same");
    refusals(&home, &file);
    let old_members = members(&home.http()).await;
    process.kill();

    let new = Home::new();
    let said = printed(&["restore", text(&file), "--data-dir", text(&new.data())]);
    assert!(said.contains(&format!("alone in cluster {}\n", old.cluster)), "{said}");
    let again = refusal(&["restore", text(&file), "--data-dir", text(&new.data())]);
    assert!(again.contains(" is not empty, it has ") && again.contains("restore only into an empty"), "{again}");
    let peers = peer_flags();
    let mut process = new.spawn_with(&[&peers[0], &peers[1]]);
    new.ready(&mut process).await;
    let http = new.http();
    assert_eq!(agreed(&http).await, set);
    let value = schedule(&http, "region-schedule-limit").await;
    assert!((before..=after).contains(&value), "{before} was acknowledged, {after} tried: {value}");
    let mut asking = Asking::new(&new).await;
    assert_eq!(asking.cluster, old.cluster);
    assert!(asking.is_bootstrapped().await);
    assert!(asking.id().await > highest_id, "D2: an id again");
    assert!(asking.timestamp().await > last_ts, "T1: a timestamp again");
    let new_members = members(&http).await;
    assert!(new_members.len() == 1 && new_members[0].1 != old_members[0].1, "{old_members:?} {new_members:?}");
    // Writes are taken, and are there after a kill.
    http.post("/pd/api/v1/config", &json!({ "schedule.region-schedule-limit": 4321 })).await.unwrap();
    let (id, ts) = (asking.id().await, asking.timestamp().await);
    process.kill();
    let mut process = new.spawn_with(&[&peers[0], &peers[1]]);
    new.ready(&mut process).await;
    assert_eq!(schedule(&http, "region-schedule-limit").await, 4321);
    let mut asking = Asking::new(&new).await;
    assert!(asking.id().await > id && asking.timestamp().await > ts);
    one_of_two_goes_on(&new, process, asking).await;
}

/// A second member joins; then the first is lost, and the second goes on alone.
async fn one_of_two_goes_on(first: &Home, process: common::process::Process, mut asking: Asking) {
    let second = Home::new();
    let (join, peers) = (format!("--join={}", first.url()), peer_flags());
    let joining = second.spawn_with(&["--name=pd-2", &join, &peers[0], &peers[1]]);
    // It votes, as it sees it: it has the whole state.
    eventually("two voters", PATIENCE, || async {
        let group = second.http().get_json("/berth/v1/group").await.ok()?;
        (group["voters"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let (id, ts) = (asking.id().await, asking.timestamp().await);
    let own = members(&first.http()).await.into_iter().find(|(name, _)| name == "pd-2").unwrap();
    process.kill();
    joining.kill();
    let mut alone = second.spawn_with(&["--name=pd-2", "--force-new-cluster", &peers[0], &peers[1]]);
    second.ready(&mut alone).await;
    assert_eq!(members(&second.http()).await, [own]);
    assert_eq!(schedule(&second.http(), "region-schedule-limit").await, 4321);
    let mut asking = Asking::new(&second).await;
    assert!(asking.id().await > id && asking.timestamp().await > ts);
    second.http().post("/pd/api/v1/config", &json!({ "schedule.region-schedule-limit": 5 })).await.unwrap();
    assert!(second.log().contains("this member goes on as the only one of its group"), "{}", second.log());
}

/// What `berth backup` and `berth restore` do not do, and what they leave alone.
fn refusals(home: &Home, file: &Path) {
    let whole = std::fs::read(file).unwrap();
    let url = home.url();
    let said = refusal(&["backup", "--pd", &url, text(file)]);
    assert!(said.ends_with(" is there already; --overwrite replaces it\n"), "{said}");
    assert_eq!(std::fs::read(file).unwrap(), whole);
    let other = home.path().join("other");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    assert!(refusal(&["backup", "--pd", &nobody, text(&other)]).contains("Connection refused"));
    assert!(std::fs::read_dir(home.path()).unwrap().all(|e| !text(&e.unwrap().path()).contains("other")));
    std::fs::write(&other, "old").unwrap();
    printed(&["backup", "--overwrite", "--pd", &url, text(&other)]);
    assert!(printed(&["backup", "--check", text(&other)]).contains(", whole\n"));

    let folder = home.path().join("from-damaged");
    let refused = |bytes: &[u8], why: &str| {
        std::fs::write(&other, bytes).unwrap();
        let said = refusal(&["restore", text(&other), "--data-dir", text(&folder)]);
        assert!(said.contains(why), "{said}");
        assert!(refusal(&["backup", "--check", text(&other)]).contains(why));
        assert!(!folder.exists(), "nothing is made from it");
    };
    refused(b"something else", "this is not a backup of Berth");
    refused(&whole[..whole.len() / 2], "the backup is not complete: it breaks off in part 1");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    refused(&damaged, "the backup is damaged: part 1: checksum is ");
    let mut newer = whole;
    newer[8] = 200;
    refused(&newer, "the backup has form 200, this binary knows forms up to 1");
    let low = ["restore", text(file), "--data-dir", text(&folder), "--alloc-id", "1"];
    assert!(refusal(&low).contains("--alloc-id 1 would give some of them out again"));
    let data = home.data();
    assert!(refusal(&["restore", text(file), "--data-dir", text(&data)]).contains(" is not empty, it has "));
}

#[test]
fn options_of_pd_recover_name_what_stands_in_for_them() {
    let home = Home::new();
    let data = home.data();
    let connects = ["--endpoints=http://127.0.0.1:2379", "--cacert=ca.pem", "--cert=c.pem", "--key=k.pem"];
    for option in connects {
        let said = refusal(&["recover", option]);
        assert!(said.contains("berth recover --data-dir DIR --cluster-id ID --alloc-id ID"), "{option}: {said}");
        let all = ["recover", option, "--data-dir", text(&data), "--cluster-id", "1", "--alloc-id", "2"];
        assert_eq!(refusal(&all), said, "with all that is needed as well");
    }
    let said = refusal(&["recover", "--from-old-member", "--endpoints", "http://127.0.0.1:2379"]);
    assert!(said.contains("berth server --force-new-cluster"), "{said}");
    assert!(!data.exists(), "nothing was made");
    let said = String::from_utf8(berth(&["recover", "--cluster-id", "1"]).stderr).unwrap();
    assert!(said.contains("--data-dir") && said.contains("--alloc-id"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_lost_cluster_is_recovered_under_its_id() {
    const CLUSTER: u64 = 7_303_600_000_000_000_001;
    let home = Home::new();
    let (id, data) = (CLUSTER.to_string(), home.data());
    let args = ["recover", "--data-dir", text(&data), "--cluster-id", &id, "--alloc-id", "5000"];
    assert!(printed(&args).contains("new ids are above 5000"));
    assert!(refusal(&args).contains(" is not empty"));
    let _process = home.start().await;
    let mut asking = Asking::new(&home).await;
    assert_eq!(asking.cluster, CLUSTER);
    assert!(asking.is_bootstrapped().await, "its nodes must not bootstrap it again");
    assert!(asking.id().await > 5000);
    asking.timestamp().await;
    assert_eq!(home.http().get_json("/pd/api/v1/regions").await.unwrap()["count"], json!(0));
    assert_eq!(home.http().get_json("/pd/api/v1/stores").await.unwrap()["count"], json!(0));
    // A store comes back under its old id.
    let store = berth::proto::metapb::Store {
        id: 4,
        address: "127.0.0.1:20160".into(),
        version: "8.5.0".into(),
        ..berth::proto::metapb::Store::default()
    };
    let request = pdpb::PutStoreRequest { header: asking.header(), store: Some(store) };
    let answer = asking.grpc.put_store(request).await.unwrap().into_inner();
    assert!(answer.header.unwrap().error.is_none());
    assert_eq!(home.http().get_json("/pd/api/v1/store/4").await.unwrap()["store"]["state_name"], json!("Up"));
}
