//! The server on a disk that is full, hangs or cannot be written, among clients that hang, and with a clock that is far off.

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
    pub(crate) mod clock;
    pub mod logs;
    pub mod nodes;
    pub mod process;
    pub(crate) mod server;
}

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use berth::{
    model::{Clock, Now, Wall},
    proto::{
        metapb,
        pdpb::{self, pd_client::PdClient},
    },
    server::{Server, clock::SystemClock},
    sim::{FleetOptions, http::HttpClient},
    telemetry::log::Logger,
};
use common::{
    logs,
    nodes::{Nodes, eventually},
    process::{BERTH, Home, Process},
};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

/// How long any step may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a read may take while the disk hangs or clients do: well below the time for which they do.
const READ: Duration = Duration::from_secs(6);
/// How long an orderly end may take among clients that hang: five seconds for calls, and what a slow machine adds.
const END: Duration = Duration::from_secs(8);
/// Bytes of one written value.
const VALUE: usize = 16 << 10;

const RULE: &str = "/pd/api/v1/config/region-label/rule";

/// Writes a label rule that takes some room on the disk.
async fn write(http: &HttpClient, id: &str) -> Result<(), String> {
    let rule = json!({
        "id": id,
        "labels": [{ "key": "filler", "value": "x".repeat(VALUE) }],
        "rule_type": "key-range",
        "data": [{ "start_key": "61", "end_key": "62" }],
    });
    http.post(RULE, &rule).await.map(drop).map_err(|e| e.to_string())
}

/// Ids of all label rules.
async fn rules(http: &HttpClient) -> Vec<String> {
    let rules = http.get_json("/pd/api/v1/config/region-label/rules").await.unwrap();
    rules.as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap().to_owned()).collect()
}

fn fleet(home: &Home) -> FleetOptions {
    FleetOptions {
        pd: vec![home.url()],
        stores: 3,
        regions: 20,
        store_heartbeat: Duration::from_millis(200),
        ..FleetOptions::default()
    }
}

/// A server that may write files of so many KiB.
fn limited(home: &Home, kib: u64) -> Process {
    let mut command = Command::new("sh");
    // Beyond the limit a write fails, as on a full disk, instead of ending the process by a signal.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2);
    command.args(["-c", &script, "sh", BERTH, "server"]).args(home.flags());
    home.spawn_as(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_full_disk_is_told_and_loses_nothing_acknowledged() {
    let home = Home::new();
    let process = home.start().await;
    let mut nodes = Nodes::start(fleet(&home));
    nodes.loaded().await;
    let http = home.http();
    write(&http, "before").await.unwrap();
    process.signal(Signal::TERM);
    assert_eq!(process.ended(PATIENCE).await.code(), Some(0));

    let sizes = std::fs::read_dir(home.data()).unwrap().map(|e| e.unwrap().metadata().unwrap().len());
    let largest = sizes.max().unwrap();
    let mut process = limited(&home, largest / 1024 + 256);
    home.ready(&mut process).await;
    let mut acknowledged = vec!["before".to_owned()];
    let refused = loop {
        let id = format!("full/{}", acknowledged.len());
        match write(&http, &id).await {
            Ok(()) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 5000, "the disk is never full");
    };
    println!("{} writes were acknowledged, then: {refused}", acknowledged.len());
    assert!(refused.contains("the disk failed: ") && refused.contains("File too large"), "{refused}");
    // A disk that failed is not trusted any more: the process says so and ends (what it did not write may be gone).
    assert_eq!(process.ended(PATIENCE).await.code(), Some(1));
    let log = home.log();
    let line = log.lines().filter_map(logs::parse).find(|l| l.message.contains("the disk of the agreed state failed"));
    assert!(line.is_some_and(|l| l.level == "ERROR" && l.field("error").is_some()), "{log}");

    // With room again it goes on.
    let process = home.start().await;
    let there = rules(&http).await;
    for id in &acknowledged {
        assert!(there.contains(id), "{id} was acknowledged and is gone");
    }
    write(&http, "after").await.unwrap();
    assert!(rules(&http).await.contains(&"after".to_owned()));
    process.signal(Signal::TERM);
    assert_eq!(process.ended(PATIENCE).await.code(), Some(0));
    nodes.end().await;
}

/// When a store was last heard of.
async fn heard(http: &HttpClient, id: u64) -> Value {
    let asked = tokio::time::timeout(READ, http.get_json(&format!("/pd/api/v1/store/{id}"))).await;
    asked.expect("a read in time").unwrap()["status"]["last_heartbeat_ts"].clone()
}

/// Whether the log has a line with this message.
fn told(home: &Home, message: &str) -> bool {
    home.log().lines().filter_map(logs::parse).any(|line| line.message == message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_while_the_disk_hangs_reads_go_on_and_writes_do_not_wait_for_ever() {
    const SLOW: &str = "the disk of the agreed state does not answer, changes have to wait";
    let home = Home::new();
    let gate = home.path().join("gate");
    let mut command = Command::new(BERTH);
    command.arg("server").args(home.flags()).env("BERTH_TEST_DISK_HANGS_WHILE", &gate);
    let mut process = home.spawn_as(command);
    home.ready(&mut process).await;
    let mut nodes = Nodes::start(fleet(&home));
    nodes.loaded().await;
    let http = home.http();
    write(&http, "before").await.unwrap();

    // A short stall: the write waits for it, everything else goes on.
    std::fs::write(&gate, "").unwrap();
    let waiting = tokio::spawn({
        let http = http.clone();
        async move { write(&http, "short").await }
    });
    eventually("a line about the disk", PATIENCE, || async { told(&home, SLOW).then_some(()) }).await;
    assert!(!waiting.is_finished() && !rules(&http).await.contains(&"short".to_owned()), "nothing is acknowledged");
    let before = heard(&http, 1).await;
    eventually("heartbeats are taken in", READ, || async { (heard(&http, 1).await != before).then_some(()) }).await;
    std::fs::remove_file(&gate).unwrap();
    waiting.await.unwrap().unwrap();
    eventually("a line about its end", PATIENCE, || async {
        told(&home, "the disk of the agreed state answers again").then_some(())
    })
    .await;

    // A long one: callers are told, and in the end the process gives up.
    std::fs::write(&gate, "").unwrap();
    let began = Instant::now();
    let error = write(&http, "long").await.unwrap_err();
    assert!(error.contains("the disk does not answer, the outcome is unknown"), "{error}");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    heard(&http, 1).await;
    let status = process.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", home.log());
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(19), "{took:?}");
    assert!(home.log().contains("it has not answered for 20s"), "{}", home.log());
    std::fs::remove_file(&gate).unwrap();

    let _process = home.start().await;
    let there = rules(&http).await;
    assert!(there.contains(&"before".to_owned()) && there.contains(&"short".to_owned()), "{there:?}");
    write(&http, "after").await.unwrap();
    nodes.end().await;
}

/// Resident memory of a process, KiB.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_hold_nobody_up() {
    const IDLE: usize = 1000;
    /// Requests sent on a stream whose answers nobody reads.
    const UNREAD: u32 = 200_000;
    let home = Home::new();
    let process = home.start().await;
    let mut nodes = Nodes::start(fleet(&home));
    nodes.loaded().await;
    let (http, before) = (home.http(), resident(&process));

    let address = ("127.0.0.1", home.port);
    let mut held = vec![];
    for i in 0..IDLE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let part: &[u8] = match i % 4 {
            0 => b"",
            1 => b"GET /pd/api/v1/stores HTTP/1.1\r\nhost: x\r\nx-half: ",
            2 => b"POST /pd/api/v1/config HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"half\":",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00",
        };
        stream.write_all(part).await.unwrap();
        held.push(stream);
    }
    let unread = unread_stream(&home, UNREAD).await;
    for _ in 0..20 {
        heard(&http, 1).await;
    }
    let at = heard(&http, 2).await;
    eventually("heartbeats are taken in", READ, || async { (heard(&http, 2).await != at).then_some(()) }).await;
    write(&http, "meanwhile").await.unwrap();
    let grown = resident(&process).saturating_sub(before);
    println!("{IDLE} idle connections and a stream that is not read: {grown} KiB more");
    assert!(grown < 128 << 10, "{grown} KiB");

    let asked = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.ended(END).await.code(), Some(0));
    println!("ended after {:?}", asked.elapsed());
    for mut stream in held {
        let mut rest = vec![];
        // Closed or cut; either is an end.
        let _ = tokio::time::timeout(READ, stream.read_to_end(&mut rest)).await.expect("the connection has ended");
    }
    drop(unread);
    nodes.end().await;
}

/// A stream on which `count` timestamps are asked for, as far as the server takes the requests, and no answer is read.
async fn unread_stream(home: &Home, count: u32) -> impl Sized {
    let mut client = PdClient::connect(home.url()).await.unwrap();
    let cluster_id = client.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
    let header = pdpb::RequestHeader { cluster_id: cluster_id.header.unwrap().cluster_id, ..Default::default() };
    let (requests, receiver) = mpsc::channel(16);
    let answers = client.tso(ReceiverStream::new(receiver)).await.unwrap();
    let request = pdpb::TsoRequest { header: Some(header), count: 1, ..Default::default() };
    for _ in 0..count {
        // What stands for a second is not taken any more.
        let sent = tokio::time::timeout(Duration::from_secs(1), requests.send(request.clone())).await;
        if sent.is_err() {
            return (answers, requests, true);
        }
    }
    (answers, requests, false)
}

fn permit(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Starts it as somebody whom permissions concern; it has to end by itself, and what it printed is returned.
async fn refused_unprivileged(home: &Home) -> String {
    /// Nobody's number on most systems; any that owns nothing will do.
    const NOBODY: u32 = 65_534;
    let _ = std::fs::remove_file(home.path().join("pd.log"));
    let mut command = Command::new(home.path().join("berth"));
    command.arg("server").args(home.flags());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let status = home.spawn_as(command).ended(PATIENCE).await;
    let printed = home.printed();
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
    printed
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused_by_name_and_left_alone() {
    let home = Home::new();
    permit(home.path(), 0o777);
    // Where the build lies others may not look. A program that this process has open for writing could not be started.
    assert!(Command::new("cp").args([Path::new(BERTH), home.path()]).status().unwrap().success());
    let data = home.data();
    std::fs::create_dir(&data).unwrap();
    permit(&data, 0o555);
    let printed = refused_unprivileged(&home).await;
    assert!(printed.contains("Permission denied") && printed.contains("data"), "{printed}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);

    permit(&data, 0o755);
    let process = home.start().await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended(PATIENCE).await.code(), Some(0));
    let files = || {
        let paths = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.map(|path| (std::fs::read(&path).unwrap(), path)).collect();
        files.sort_by(|a, b| a.1.cmp(&b.1));
        files
    };
    let before = files();
    assert!(before.len() >= 2);
    before.iter().for_each(|(_, path)| permit(path, 0o444));
    permit(&data, 0o555);
    let printed = refused_unprivileged(&home).await;
    assert!(printed.contains("Permission denied"), "{printed}");
    assert!(files() == before, "a file was changed");
    before.iter().for_each(|(_, path)| permit(path, 0o644));
    permit(&data, 0o755);
    let _ = std::fs::remove_file(home.path().join("pd.log"));
    home.start().await;
}

/// The system's clock, but for its date.
#[derive(Debug)]
struct Dated {
    system: SystemClock,
    by: i64,
}

impl Dated {
    /// It shows `date` now; `None`: what the system shows.
    fn new(date: Option<Wall>) -> Self {
        let system = SystemClock::new();
        let by = date.map_or(0, |date| date.0 - system.now().wall.0);
        Self { system, by }
    }
}

impl Clock for Dated {
    fn now(&self) -> Now {
        let Now { mono, wall } = self.system.now();
        Now { mono, wall: Wall(wall.0 + self.by) }
    }
}

/// What a member gives out and shows under a clock that shows `date`, on a folder that others have used under other clocks.
async fn serves_at(folder: &Path, date: Option<Wall>, last: &mut (u64, u64)) {
    let config = common::server::config(folder);
    let server = Server::start_with(config, Logger::none(), Arc::new(Dated::new(date))).await.expect("it starts");
    let url = format!("http://{}", server.addr());
    let mut client = PdClient::connect(url.clone()).await.unwrap();
    let told = client.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner().header.unwrap();
    let header = Some(pdpb::RequestHeader { cluster_id: told.cluster_id, ..Default::default() });
    let booted = client.is_bootstrapped(pdpb::IsBootstrappedRequest { header: header.clone() }).await.unwrap();
    if !booted.into_inner().bootstrapped {
        let store =
            metapb::Store { id: 1, address: "127.0.0.1:1".into(), version: "8.5.0".into(), ..Default::default() };
        let peer = metapb::Peer { id: 3, store_id: 1, ..Default::default() };
        let epoch = Some(metapb::RegionEpoch { conf_ver: 1, version: 1 });
        let region = metapb::Region { id: 2, peers: vec![peer], region_epoch: epoch, ..Default::default() };
        let request = pdpb::BootstrapRequest { header: header.clone(), store: Some(store), region: Some(region) };
        let answer = client.bootstrap(request).await.unwrap().into_inner();
        assert!(answer.header.unwrap().error.is_none());
    }
    for _ in 0..3 {
        let ask = pdpb::TsoRequest { header: header.clone(), count: 10, ..Default::default() };
        let mut answers = client.tso(tokio_stream::iter([ask])).await.unwrap().into_inner();
        let ts = answers.message().await.unwrap().unwrap().timestamp.unwrap();
        let ts = (u64::try_from(ts.physical).unwrap() << 18) + u64::try_from(ts.logical).unwrap();
        assert!(ts >= last.0 + 10, "{date:?}: ten timestamps above {}: {ts}", last.0);
        last.0 = ts;
        let id =
            client.alloc_id(pdpb::AllocIdRequest { header: header.clone(), count: 1 }).await.unwrap().into_inner().id;
        assert!(id > last.1, "{date:?}: {id} after {}", last.1);
        last.1 = id;
    }
    // One heartbeat, and the store is up, whenever the last one was.
    let seconds = Dated::new(date).now().wall.unix_seconds();
    let interval = pdpb::TimeInterval { start_timestamp: 0, end_timestamp: seconds.try_into().unwrap() };
    let stats = pdpb::StoreStats {
        store_id: 1,
        capacity: 1 << 40,
        available: 1 << 40,
        interval: Some(interval),
        ..Default::default()
    };
    let beat = pdpb::StoreHeartbeatRequest { header: header.clone(), stats: Some(stats), ..Default::default() };
    assert!(client.store_heartbeat(beat).await.unwrap().into_inner().header.unwrap().error.is_none());
    let http = HttpClient::new(&url).unwrap();
    assert_eq!(http.get_json("/pd/api/v1/store/1").await.unwrap()["store"]["state_name"], json!("Up"), "{date:?}");
    write(&http, &format!("rule/{seconds}")).await.unwrap();
    assert!(http.get("/metrics").await.unwrap().contains("pd_cluster"), "{date:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t2_a_clock_at_1970_or_2106_takes_nothing_back_and_stops_nobody() {
    // In 2106 seconds pass what 32 bits hold.
    let overflow = i64::from(u32::MAX) + 3;
    for seconds in [0, 5, overflow] {
        let (folder, mut last) = (tempfile::tempdir().unwrap(), (0, 0));
        let odd = Some(Wall(seconds * 1_000_000_000));
        for date in [odd, None, odd, None] {
            serves_at(folder.path(), date, &mut last).await;
        }
        let ahead = i64::try_from(last.0 >> 18).unwrap() / 1000;
        assert!(ahead >= seconds, "timestamps follow the clock as far as it ever was");
    }
}
