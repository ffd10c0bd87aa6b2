//! Calls with streams, over the wire: to which of a store's streams commands go, look-ups of many regions at once, watching the
//! global configuration.

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
    pub(crate) mod facts;
    pub(crate) mod http;
    pub(crate) mod raw;
    pub(crate) mod server;
}
mod refused {
    pub(crate) mod cluster;
    pub(crate) mod grpc;
}

use std::time::Duration;

use berth::proto::{
    metapb,
    pdpb::{self, pd_client::PdClient},
};
use common::facts::Request;
use refused::{
    cluster::Cluster,
    grpc::{header, region},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

/// An answer that does not come within this never comes. Shorter than the minute after which a stream claims its store anyway.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often something is tried again.
const AGAIN: Duration = Duration::from_millis(20);

async fn connect(cluster: &Cluster) -> PdClient<Channel> {
    PdClient::connect(format!("http://{}", cluster.addr())).await.expect("a connection")
}

/// The stream of a node.
struct Node {
    reports: mpsc::Sender<pdpb::RegionHeartbeatRequest>,
    commands: Streaming<pdpb::RegionHeartbeatResponse>,
}

impl Node {
    async fn open(client: &mut PdClient<Channel>) -> Self {
        let (reports, receiver) = mpsc::channel(16);
        let commands = client.region_heartbeat(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Self { reports, commands }
    }

    async fn report(&self, report: pdpb::RegionHeartbeatRequest) {
        self.reports.send(report).await.expect("an open stream");
    }

    /// The next command, if one comes so soon.
    async fn command(&mut self, within: Duration) -> Option<pdpb::RegionHeartbeatResponse> {
        Some(timeout(within, self.commands.message()).await.ok()?.expect("no error").expect("no end"))
    }
}

/// Waits until the server shows the region with this size.
async fn taken_in(cluster: &Cluster, id: u64, mib: u64) {
    let get = Request { method: "GET".into(), target: format!("/pd/api/v1/region/id/{id}"), ..Request::default() };
    let (end, want) = (Instant::now() + PATIENCE, format!("\"approximate_size\":{mib},"));
    while !cluster.http(&get).await.text().contains(&want) {
        assert!(Instant::now() < end, "region {id} is never {mib} MiB");
        sleep(AGAIN).await;
    }
}

fn sized(mut report: pdpb::RegionHeartbeatRequest, mib: u64) -> pdpb::RegionHeartbeatRequest {
    report.approximate_size = mib << 20;
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_go_to_the_newest_stream_of_a_store_and_to_the_one_that_is_left() {
    let mut cluster = Cluster::start().await;
    let id = cluster.id;
    let two = |mib| sized(region(id, 2, (4, 2), "", "m", &[(21, 1), (22, 2), (23, 3)]), mib);
    let three = |mib| sized(region(id, 3, (4, 2), "m", "p", &[(31, 1), (32, 2), (34, 4)]), mib);
    let (mut first, mut second) = (connect(&cluster).await, connect(&cluster).await);
    let mut old = Node::open(&mut first).await;
    old.report(two(50)).await;
    taken_in(&cluster, 2, 50).await;
    let mut new = Node::open(&mut second).await;
    new.report(three(51)).await;
    taken_in(&cluster, 3, 51).await;
    // The older stream goes on reporting; commands go to the newer one all the same.
    old.report(two(52)).await;
    taken_in(&cluster, 2, 52).await;
    let move_leader = Request {
        method: "POST".into(),
        target: "/pd/api/v1/operators".into(),
        body: br#"{"name":"transfer-leader","region_id":2,"to_store_id":2}"#.to_vec(),
        ..Request::default()
    };
    let answer = cluster.http(&move_leader).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let command = new.command(PATIENCE).await.expect("a command on the newest stream");
    assert_eq!(command.header.unwrap().cluster_id, id);
    assert_eq!((command.region_id, command.target_peer.unwrap().id), (2, 21));
    assert_eq!(command.region_epoch.map(|e| (e.conf_ver, e.version)), Some((4, 2)));
    assert_eq!(command.transfer_leader.unwrap().peer.unwrap().id, 22);
    assert_eq!(old.command(AGAIN).await, None, "the older stream gets none");
    // The newest ends. The one that is left takes the store over with its next report, and the command is sent again.
    drop((new, second));
    let end = Instant::now() + PATIENCE;
    let command = loop {
        old.report(two(52)).await;
        if let Some(command) = old.command(AGAIN).await {
            break command;
        }
        assert!(Instant::now() < end, "no command on the stream that is left");
    };
    assert_eq!((command.region_id, command.transfer_leader.unwrap().peer.unwrap().id), (2, 22));
    cluster.settle().await;
    cluster.end("streams", 1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn query_region_answers_by_key_by_the_key_before_and_by_id() {
    let cluster = Cluster::start().await;
    let mut client = connect(&cluster).await;
    let buckets = metapb::Buckets {
        region_id: 2,
        version: 7,
        keys: vec!["".into(), "g".into(), "m".into()],
        period_in_ms: 10_000,
        ..metapb::Buckets::default()
    };
    let report =
        pdpb::ReportBucketsRequest { header: header(cluster.id), buckets: Some(buckets), ..Default::default() };
    client.report_buckets(tokio_stream::once(report)).await.expect("an answer");

    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned().into()).collect::<Vec<_>>();
    let first = pdpb::QueryRegionRequest {
        header: header(cluster.id),
        need_buckets: true,
        ids: vec![3, 999],
        keys: keys(&["n", "a", "z", "b"]),
        prev_keys: keys(&["n", "a", "m"]),
    };
    let second = pdpb::QueryRegionRequest { header: header(cluster.id), ids: vec![2], ..Default::default() };
    let third = pdpb::QueryRegionRequest { header: header(cluster.id), ..Default::default() };
    let mut answers = client.query_region(tokio_stream::iter([first, second, third])).await.unwrap().into_inner();
    let mut next = async || timeout(PATIENCE, answers.message()).await.expect("in time").expect("no error");

    let answer = next().await.expect("the first answer");
    assert_eq!(answer.header.as_ref().map(|h| (h.cluster_id, h.error.is_some())), Some((cluster.id, false)));
    // In the order of the keys; 0: no region has it.
    assert_eq!(answer.key_id_map, [3, 2, 0, 2]);
    assert_eq!(answer.prev_key_id_map, [2, 0, 2]);
    let mut found: Vec<_> = answer.regions_by_id.into_iter().collect();
    found.sort_by_key(|(id, _)| *id);
    let [(2, two), (3, three)] = &found[..] else { panic!("{found:?}") };
    let meta = two.region.as_ref().unwrap();
    assert_eq!((meta.id, &meta.end_key[..], meta.peers.len()), (2, &b"m"[..], 3));
    assert_eq!(two.leader.map(|leader| (leader.id, leader.store_id)), Some((21, 1)));
    let told = two.buckets.as_ref().expect("they were asked for");
    assert_eq!((told.version, told.keys.len()), (7, 3));
    assert_eq!(three.region.as_ref().map(|meta| meta.id), Some(3));

    let answer = next().await.expect("the second answer");
    assert!(answer.key_id_map.is_empty() && answer.prev_key_id_map.is_empty());
    assert_eq!(answer.regions_by_id.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(answer.regions_by_id[&2].buckets, None, "they were not asked for");
    let answer = next().await.expect("the third answer");
    assert!(answer.regions_by_id.is_empty() && answer.header.is_some());
    assert_eq!(next().await, None, "the stream ends with the client's side");
    cluster.end("look-ups", 1, 1).await;
}

/// Changes the global configuration; an item without a value is deleted.
async fn write(client: &mut PdClient<Channel>, path: &str, items: &[(&str, Option<&str>)]) {
    let item = |(name, value): &(&str, Option<&str>)| pdpb::GlobalConfigItem {
        name: (*name).to_owned(),
        payload: value.unwrap_or_default().to_owned().into(),
        kind: if value.is_some() { pdpb::EventType::Put } else { pdpb::EventType::Delete }.into(),
        ..pdpb::GlobalConfigItem::default()
    };
    let changes = items.iter().map(item).collect();
    let request = pdpb::StoreGlobalConfigRequest { changes, config_path: path.to_owned() };
    let answer = client.store_global_config(request).await.expect("an answer").into_inner();
    assert_eq!(answer.error, None);
}

async fn watch(
    client: &mut PdClient<Channel>,
    path: &str,
    revision: i64,
) -> Result<Streaming<pdpb::WatchGlobalConfigResponse>, tonic::Status> {
    let request = pdpb::WatchGlobalConfigRequest { config_path: path.to_owned(), revision };
    client.watch_global_config(request).await.map(tonic::Response::into_inner)
}

/// The next changes: name, value, kind.
async fn changes(
    stream: &mut Streaming<pdpb::WatchGlobalConfigResponse>,
) -> (i64, Vec<(String, String, pdpb::EventType)>) {
    let answer = timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error").expect("no end");
    assert_eq!(answer.header.and_then(|header| header.error), None);
    let text = |item: &pdpb::GlobalConfigItem| String::from_utf8(item.payload.to_vec()).unwrap();
    let changes = answer.changes.iter().map(|item| (item.name.clone(), text(item), item.kind())).collect();
    (answer.revision, changes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_of_the_global_configuration_miss_nothing_or_are_told() {
    const PATH: &str = "/global/config/";
    let put = |name: &str, value: &str| (format!("{PATH}{name}"), value.to_owned(), pdpb::EventType::Put);
    let mut cluster = Cluster::start().await;
    let mut client = connect(&cluster).await;
    let refused = watch(&mut client, "/pd/", 0).await.expect_err("not its business");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "global config path \"/pd/\" is not allowed");

    write(&mut client, PATH, &[("a", Some("1"))]).await;
    let load = pdpb::LoadGlobalConfigRequest { config_path: PATH.into(), ..Default::default() };
    let loaded = client.load_global_config(load).await.unwrap().into_inner();
    assert_eq!(loaded.items.len(), 1);
    // From the revision that was loaded, and from now on.
    let mut past = watch(&mut client, PATH, loaded.revision).await.expect("a stream");
    assert_eq!(changes(&mut past).await, (loaded.revision, vec![put("a", "1")]));
    let mut present = watch(&mut client, PATH, 0).await.expect("a stream");
    write(&mut client, "resource_group/", &[("other", Some("2"))]).await;
    write(&mut client, PATH, &[("b", Some("3"))]).await;
    write(&mut client, PATH, &[("a", None)]).await;
    for stream in [&mut past, &mut present] {
        let mut seen = vec![];
        while seen.len() < 2 {
            let (revision, more) = changes(stream).await;
            assert!(revision > loaded.revision);
            seen.extend(more);
        }
        let gone = (format!("{PATH}a"), "1".to_owned(), pdpb::EventType::Delete);
        assert_eq!(seen, [put("b", "3"), gone], "and nothing of another path");
    }

    // More than is kept for those who are behind.
    let names: Vec<String> = (0..1024).map(|n| format!("n{n}")).collect();
    let many: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), Some("x"))).collect();
    write(&mut client, PATH, &many).await;
    cluster.settle().await;
    let mut late = watch(&mut client, PATH, 1).await.expect("a stream");
    let answer = timeout(PATIENCE, late.message()).await.expect("in time").expect("no error").expect("an answer");
    let error = answer.header.and_then(|header| header.error).expect("an error");
    assert_eq!(error.r#type(), pdpb::ErrorType::DataCompacted);
    let text = "required watch revision: 1 is smaller than current compact/min revision ";
    assert!(error.message.starts_with(text) && error.message.ends_with('.'), "{}", error.message);
    assert_eq!(timeout(PATIENCE, late.message()).await.expect("in time").expect("no error"), None, "it has ended");
    cluster.check("a watch of what is gone").await;
    drop((past, present));
    cluster.end("watches", 1, 1).await;
}
