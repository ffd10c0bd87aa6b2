//! The server as a process: killed at any moment of a drain and started again, ended by signals, refused what it must refuse.

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
    pub mod logs;
    pub mod nodes;
    pub mod process;
}

use std::{
    collections::BTreeSet,
    process::{Command, Output},
    time::{Duration, Instant},
};

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::{FleetOptions, http::HttpClient},
};
use common::{
    load::Load,
    logs,
    nodes::{Nodes, eventually},
    process::{BERTH, Home, Process, free_port},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

/// How long any step may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(5);
/// The rate of a limit that is off.
const UNLIMITED: f64 = 100_000_000.0;

fn fleet(home: &Home, stores: u32, regions: u32) -> FleetOptions {
    FleetOptions {
        pd: vec![home.url()],
        stores,
        regions,
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(200),
        check_replicas: true,
        ..FleetOptions::default()
    }
}

async fn store(http: &HttpClient, id: u64) -> Value {
    http.get_json(&format!("/pd/api/v1/store/{id}")).await.unwrap()["store"].clone()
}

async fn state(http: &HttpClient, id: u64) -> String {
    store(http, id).await["state_name"].as_str().unwrap().to_owned()
}

/// `add-peer` and `remove-peer` of a store.
async fn limits(http: &HttpClient, id: u64) -> (f64, f64) {
    let all = http.get_json("/pd/api/v1/stores/limit").await.unwrap();
    let of = |kind: &str| all[id.to_string()][kind].as_f64().unwrap();
    (of("add-peer"), of("remove-peer"))
}

/// A member that is killed again and again.
struct Doomed {
    home: Home,
    http: HttpClient,
    process: Process,
    rng: ChaCha8Rng,
    /// Kills so far.
    kills: usize,
    /// Those in the middle of a drain.
    in_drain: usize,
}

impl Doomed {
    async fn start(seed: u64) -> Self {
        let home = Home::new();
        let process = home.start().await;
        let http = home.http();
        Self { home, http, process, rng: ChaCha8Rng::seed_from_u64(seed), kills: 0, in_drain: 0 }
    }

    /// `kill -9` and a new start; one start in three is killed before it serves.
    async fn kill(mut self) -> Self {
        self.process.kill();
        self.kills += 1;
        self.process = self.home.spawn();
        if self.rng.random_ratio(1, 3) {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..60))).await;
            self.process.kill();
            self.kills += 1;
            self.process = self.home.spawn();
        }
        self.home.ready(&mut self.process).await;
        self
    }

    /// Takes a store out and kills the server `kills` times meanwhile; ends with the store Tombstone.
    async fn drain(mut self, nodes: &Nodes, victim: u64, kills: usize) -> Self {
        self.http.delete(&format!("/pd/api/v1/store/{victim}")).await.unwrap();
        for _ in 0..kills {
            let moment = Duration::from_millis(self.rng.random_range(50..2500));
            tokio::time::sleep(moment).await;
            let (left, before) = (nodes.peers(victim), self.kills);
            let was = state(&self.http, victim).await;
            self = self.kill().await;
            let now = state(&self.http, victim).await;
            // An acknowledged removal is never forgotten, a burial never taken back.
            assert!(now == "Tombstone" || (was == "Offline" && now == "Offline"), "{was} became {now}");
            if now == "Offline" {
                assert_eq!(limits(&self.http, victim).await.1, UNLIMITED, "the drain's own limit");
                self.in_drain += if left > 0 { self.kills - before } else { 0 };
            }
        }
        let http = self.http.clone();
        eventually("Tombstone", PATIENCE, || async { (state(&http, victim).await == "Tombstone").then_some(()) }).await;
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_t1_d1_s8_nothing_acknowledged_is_lost_by_kills_in_drains() {
    const STORES: u32 = 7;
    const REGIONS: u32 = 210;
    // The last of them is split at both borders of keyspace 0.
    const PEERS: u32 = 3 * (REGIONS + 2);
    let seed = std::env::var("BERTH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_122);
    println!("BERTH_SEED={seed}");
    let mut doomed = Doomed::start(seed).await;
    let mut nodes = Nodes::start(fleet(&doomed.home, STORES, REGIONS));
    nodes.loaded().await;
    // Ninety peers to five stores: some four seconds of work for each drain.
    doomed.http.post("/pd/api/v1/stores/limit", &json!({ "rate": 240 })).await.unwrap();
    let load = Load::start(&doomed.home.url()).await;
    doomed = doomed.drain(&nodes, 7, 4).await;
    doomed = doomed.drain(&nodes, 6, 4).await;
    doomed = doomed.kill().await;
    assert_eq!(state(&doomed.http, 7).await, "Tombstone");
    doomed = cancel_after_restart(doomed, 5).await;
    let (totals, ids) = load.end().await;
    println!("{totals:?}, {} kills, {} of them in a drain", doomed.kills, doomed.in_drain);
    assert!(doomed.kills >= 10 && doomed.in_drain >= 4, "{} {}", doomed.kills, doomed.in_drain);
    assert!(totals.timestamps > 1_000 && totals.ids > 1_000, "{totals:?}");
    assert!(totals.writes > 300 && totals.reads > 300 && totals.errors > 0, "{totals:?}");

    // The last kills have left regions half way: they are put right too.
    let (http, peers) = (&doomed.http, || nodes.view().stores.iter().map(|s| s.peers).sum::<u32>());
    let idle = || async move { http.get_json("/pd/api/v1/operators").await.unwrap() == json!([]) };
    let whole = || async { (peers() == PEERS && idle().await && peers() == PEERS).then_some(()) };
    eventually("three peers everywhere", PATIENCE, whole).await;
    check_ids(&doomed, &ids).await;
    let report = nodes.end().await;
    println!("{report}");
    assert!(report.passed(), "{report}");
    assert_eq!((report.peers[&7], report.peers[&6]), (0, 0));
    assert_eq!(report.peers.values().sum::<u32>(), PEERS);
    assert!(report.counters.connects as usize >= STORES as usize * 3, "the nodes came back");
}

/// S8: the limits that a removal changed come back, whatever was killed between; the state too.
async fn cancel_after_restart(mut doomed: Doomed, id: u64) -> Doomed {
    let path = format!("/pd/api/v1/store/{id}");
    doomed.http.post(&format!("{path}/limit"), &json!({ "rate": 55.5, "type": "remove-peer" })).await.unwrap();
    doomed.http.delete(&path).await.unwrap();
    doomed = doomed.kill().await;
    assert_eq!(limits(&doomed.http, id).await, (240.0, UNLIMITED));
    doomed.http.post(&format!("{path}/state?state=Up"), &Value::Null).await.unwrap();
    assert_eq!(limits(&doomed.http, id).await, (240.0, 55.5));
    doomed = doomed.kill().await;
    assert_eq!(limits(&doomed.http, id).await, (240.0, 55.5));
    let store = store(&doomed.http, id).await;
    assert_eq!((&store["state_name"], &store["node_state"]), (&json!("Up"), &json!(1)), "Up and Serving");
    doomed
}

/// D1: what clients were given, what regions and peers have, and what operators planned with are different ids.
async fn check_ids(doomed: &Doomed, given: &BTreeSet<u64>) {
    let mut seen = given.clone();
    let regions = doomed.http.get_json("/pd/api/v1/regions").await.unwrap();
    let mut peers = BTreeSet::new();
    for region in regions["regions"].as_array().unwrap() {
        assert!(seen.insert(region["id"].as_u64().unwrap()), "D1: region {region}");
        for peer in region["peers"].as_array().unwrap() {
            let id = peer["id"].as_u64().unwrap();
            assert!(seen.insert(id), "D1: peer {id}");
            peers.insert(id);
        }
    }
    let mut planned = 0;
    for line in doomed.home.log().lines().filter_map(logs::parse).filter(|l| l.message == "add operator") {
        let text = line.field("operator").unwrap();
        // After a restart some operators only end what was begun.
        let Some((_, rest)) = text.split_once("add learner peer ") else { continue };
        let id: u64 = rest.split_once(' ').unwrap().0.parse().unwrap();
        planned += 1;
        assert!(seen.insert(id) || peers.remove(&id), "D1: planned twice: {id}");
    }
    assert!(planned >= 180, "{planned}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_end_it_in_order() {
    const CLOSING: [&str; 5] = [
        "closing server",
        "heartbeat stream is closed, stop running",
        "coordinator is stopping",
        "coordinator has been stopped",
        "close server",
    ];
    let home = Home::new();
    let mut process = home.start().await;
    let mut nodes = Nodes::start(fleet(&home, 4, 40));
    nodes.loaded().await;
    for (round, (signal, name)) in [(Signal::TERM, "terminated"), (Signal::INT, "interrupt")].into_iter().enumerate() {
        let asked = Instant::now();
        process.signal(signal);
        let status = process.ended(END).await;
        assert_eq!(status.code(), Some(0), "{}", home.printed());
        assert!(asked.elapsed() < END);
        let lines: Vec<_> = home.log().lines().filter_map(logs::parse).collect();
        let got = lines.iter().rposition(|l| l.message == "got signal to exit").unwrap();
        assert_eq!(lines[got].field("signal"), Some(name));
        let after: Vec<_> = lines[got..].iter().filter(|l| CLOSING.contains(&&*l.message)).collect();
        assert_eq!(after.iter().map(|l| &*l.message).collect::<Vec<_>>(), CLOSING);
        assert_eq!(lines.last().unwrap().message, "close server");
        process = home.start().await;
        let log = home.log();
        let loaded = log.lines().filter_map(logs::parse).rfind(|l| l.message == "load regions").unwrap();
        // The last region may have been split at the two borders of keyspace 0's label by now.
        let count: u64 = loaded.field("count").unwrap().parse().unwrap();
        assert!((40..=42).contains(&count), "a warm start, round {round}: {count}");
    }
    drop(process);
    let report = nodes.end().await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_left_alone() {
    let home = Home::new();
    let first = home.start().await;
    // A second server on the folder.
    let second = Home::new();
    let mut command = Command::new(BERTH);
    command.arg("server").args(second.flags());
    command.arg(format!("--data-dir={}", home.data().display()));
    let status = second.spawn_as(command).ended(PATIENCE).await;
    let said = format!("berth: another server is using the data directory {}\n", home.data().display());
    assert_eq!((status.code(), second.printed()), (Some(1), said));
    home.http().get("/pd/api/v1/version").await.expect("the first one serves on");

    // An address that is taken.
    let taken = Home::on(home.port);
    let printed = taken.refused(1).await;
    assert!(
        printed.starts_with(&format!("berth: listen on 127.0.0.1:{}: Address already in use", home.port)),
        "{printed}"
    );
    assert!(taken.log().contains("run server failed"), "{}", taken.log());
    first.signal(Signal::TERM);
    assert_eq!(first.ended(END).await.code(), Some(0));

    // A damaged file: all behind its first page.
    let log = home.data().join("raft-log.redb");
    for file in [&log, &home.data().join("state.redb")] {
        let whole = std::fs::read(file).unwrap();
        let mut damaged = whole.clone();
        damaged[4096..].fill(0xa5);
        std::fs::write(file, &damaged).unwrap();
        let printed = home.refused(1).await;
        let name = file.file_name().unwrap().to_string_lossy();
        assert!(printed.starts_with(&format!("berth: {name} is damaged: ")), "{printed}");
        std::fs::write(file, &whole).unwrap();
        home.start().await.kill();
    }

    // A file that is gone.
    std::fs::rename(&log, home.path().join("aside")).unwrap();
    assert_eq!(home.refused(1).await, "berth: raft-log.redb is missing, but state.redb is there\n");

    // Somebody else's file, which is not touched.
    std::fs::write(&log, b"precious notes").unwrap();
    let printed = home.refused(1).await;
    assert_eq!(
        printed,
        "berth: raft-log.redb is not a file of Berth (it does not begin as one); it is left as it is\n"
    );
    assert_eq!(std::fs::read(&log).unwrap(), b"precious notes");

    // One that a newer Berth has written.
    std::fs::rename(home.path().join("aside"), &log).unwrap();
    set_format(&log, 9);
    let printed = home.refused(1).await;
    let said = "berth: raft-log.redb has format 9, this binary knows formats up to 1: start it with the newer binary\n";
    assert_eq!(printed, said);
}

/// Writes another format into the header of a file, framed as Berth frames its records.
fn set_format(file: &std::path::Path, format: u64) {
    let header: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("berth");
    let mut body = vec![1]; // version of the frame
    body.extend(format.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&6_u64.to_le_bytes());
    crc.update(b"format");
    crc.update(&body);
    let sealed = [&crc.finalize().to_le_bytes()[..], &body].concat();
    let db = redb::Database::open(file).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(header).unwrap().insert("format", &*sealed).unwrap();
    txn.commit().unwrap();
}

/// The sum of a family's series whose labels hold all of `labels`; `None` when there is none.
fn sum(scrape: &str, family: &str, labels: &[&str]) -> Option<f64> {
    let is_meant =
        |l: &&str| l.split(['{', ' ']).next() == Some(family) && labels.iter().all(|label| l.contains(label));
    let values = scrape.lines().filter(is_meant).map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// Families without a series in [`the_patrol_follows_its_interval_and_metrics_are_fed`], and what would make one.
const UNUSED: &[(&str, &str)] = &[
    ("pd_scheduler_balance_direction", "stores that are not level"),
    ("pd_hotcache_status", "a hot peer"),
    ("pd_scheduler_evicted_slow_store_status", "a slow store"),
    ("pd_scheduler_evicted_stopping_store_status", "a store that is stopping"),
    ("pd_core_query_region_count", "QueryRegion"),
    ("pd_server_bucket_report", "ReportBuckets"),
    ("pd_cluster_bucket_event", "ReportBuckets"),
    ("pd_schedule_labeler_event_counter", "a schedule=deny rule"),
    ("pd_schedule_operator_limit", "more regions than replica-schedule-limit"),
    ("pd_schedule_operator_exceeded_store_limit", "an operator that a store limit refuses"),
    ("pd_cluster_placement_status", "location labels"),
    ("pd_schedule_source_filter", "a store that cannot give a peer away"),
    ("pd_schedule_target_filter", "a region that no store can take a peer of"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_patrol_follows_its_interval_and_metrics_are_fed() {
    const CHECKS: (&str, [&str; 2]) = ("pd_checker_event_count", ["type=\"rule_checker\"", "name=\"check\""]);
    let home = Home::new();
    let _process = home.start().await;
    let mut nodes = Nodes::start(fleet(&home, 4, 40));
    nodes.loaded().await;
    let http = home.http();
    let scrape = || async { http.get("/metrics").await.unwrap() };
    let checks = || async { sum(&scrape().await, CHECKS.0, &CHECKS.1).unwrap_or(0.0) };
    let more_than = |least: f64| {
        let checks = &checks;
        async move { eventually("regions are checked", PATIENCE, || async { (checks().await > least).then_some(()) }).await }
    };
    more_than(0.0).await;
    let interval = |text: &str| json!({ "patrol-region-interval": text });
    http.post("/pd/api/v1/config", &interval("1h0m0s")).await.unwrap();
    let told = |text: &str| {
        let lines: Vec<_> = home.log().lines().filter_map(logs::parse).collect();
        let mut lines = lines.iter().filter(|l| l.message == "checkers starts patrol regions with new interval");
        lines.any(|l| l.field("interval") == Some(text))
    };
    assert!(told("1h0m0s"), "{}", home.log());
    // A tick may have been under way; then there is none for an hour.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = checks().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!((checks().await - before).abs() < 0.5, "it stands still");
    http.post("/pd/api/v1/config", &interval("20ms")).await.unwrap();
    assert!(told("20ms"));
    // The hour that had begun is not waited for.
    more_than(before).await;

    let mut client = PdClient::connect(home.url()).await.unwrap();
    let members = client.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
    let header = pdpb::RequestHeader { cluster_id: members.header.unwrap().cluster_id, ..Default::default() };
    client.get_min_ts(pdpb::GetMinTsRequest { header: Some(header) }).await.unwrap();
    http.post("/pd/api/v1/stores/limit", &json!({ "rate": 40 })).await.unwrap();
    http.delete("/pd/api/v1/store/4").await.unwrap();
    // Gauges are worked out every ten seconds, and some are only there while the store drains.
    let families: Vec<&str> = berth::telemetry::metrics::Metrics::families().map(|f| f.name).collect();
    let mut missing: BTreeSet<&str> = families.into_iter().filter(|f| !UNUSED.iter().any(|(u, _)| u == f)).collect();
    let end = Instant::now() + PATIENCE;
    while !missing.is_empty() || state(&http, 4).await != "Tombstone" {
        assert!(Instant::now() < end, "registered, but without a series in a drain: {missing:?}");
        let text = scrape().await;
        missing.retain(|name| !text.contains(&format!("# TYPE {name} ")));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let moved =
        [("pd_checker_event_count", "replace-offline"), ("pd_schedule_finish_operators_duration_seconds_count", "")];
    for (family, label) in moved {
        assert!(sum(&scrape().await, family, &[label]) > Some(0.0), "{family}");
    }
    nodes.end().await;
}

fn run(program: &std::path::Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn started_as_pd_server_it_takes_pds_flags() {
    let home = Home::new();
    let pd = home.path().join("pd-server");
    std::os::unix::fs::symlink(BERTH, &pd).unwrap();
    for version in ["--version", "-V"] {
        let out = run(&pd, &[version]);
        assert_eq!(out.status.code(), Some(0));
        let words: Vec<_> = text(&out.stdout).lines().map(|l| l.split_once(": ").unwrap().0.to_owned()).collect();
        let pds = ["Release Version", "Edition", "Kernel Type", "Git Commit Hash", "Git Branch", "UTC Build Time"];
        assert_eq!(words, pds);
    }
    let out = run(&pd, &["--nope"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stdout);
    assert!(said.starts_with("Error: unknown flag: --nope\nUsage:\n  pd-server [flags]\n\nFlags:\n"), "{said}");
    assert!(said.ends_with("\n\nunknown flag: --nope\n"), "{said}");
    let same = run(BERTH.as_ref(), &["server", "--nope"]);
    assert_eq!((same.status.code(), same.stdout), (Some(1), out.stdout), "under both names");

    let mut command = Command::new(&pd);
    command.args(home.flags());
    let mut process = home.spawn_as(command);
    home.ready(&mut process).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended(END).await.code(), Some(0));
}

#[tokio::test]
async fn a_configuration_is_checked_and_what_nobody_knows_is_told() {
    let home = Home::new();
    let file = home.path().join("pd.toml");
    let config = format!("--config={}", file.display());
    let pd = |args: &[&str]| {
        let out = run(BERTH.as_ref(), &[&["server"], args].concat());
        (out.status.code(), text(&out.stdout))
    };
    std::fs::write(&file, "[schedule]\nleader-schedule-limit = 7\n").unwrap();
    assert_eq!(pd(&[&config, "--config-check"]), (Some(0), "config check successful\n".into()));
    let warning = "Config contains undefined item: schedule.no-such-item, nonsense, nonsense.a";
    std::fs::write(&file, "[schedule]\nno-such-item = 7\n[nonsense]\na = 1\n").unwrap();
    assert_eq!(pd(&[&config, "--config-check"]), (Some(0), format!("{warning}\n")));
    let mut process = home.spawn_with(&[&config]);
    home.ready(&mut process).await;
    process.kill();
    let line = home.log().lines().filter_map(logs::parse).find(|l| l.message == warning);
    assert_eq!(line.map(|l| l.level), Some("WARN".to_owned()), "{}", home.log());

    // As PD: what is wrong is printed, the exit code is 0.
    std::fs::write(&file, "[schedule]\nleader-schedule-limit = \"x\"\n").unwrap();
    let (code, said) = pd(&[&config]);
    assert!(
        code == Some(0) && said.starts_with("toml: line 2 (last key \"schedule.leader-schedule-limit\")"),
        "{said}"
    );
    std::fs::remove_file(&file).unwrap();
    let (code, said) = pd(&[&config]);
    assert_eq!((code, said), (Some(0), format!("open {}: no such file or directory\n", file.display())));
    let (code, said) = pd(&[&format!("--client-urls=http://127.0.0.1:{}", free_port()), "--log-level=loud"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(1), ""),
        "the log cannot be opened, and there is no other place to say it but stderr"
    );
}
