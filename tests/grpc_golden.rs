//! Replays the recorded gRPC calls of a real PD against a real server on a real port with real files, and compares code, message and
//! answer. What does not hold stands in a list with its reason; an entry that begins to hold fails the test too.

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
    pub(crate) mod facts;
    pub(crate) mod raw;
}

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth::{
    api::compact_text::compact,
    config::Config,
    model::KeyRange,
    proto::pdpb,
    server::{Server, clock::SystemClock},
    telemetry::Logger,
};
use bytes::Bytes;
use common::{facts, raw::Raw};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, client::Grpc, transport::Channel};

/// An answer that does not come within this never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls whose answer differs from the recorded one: (file, case, what Berth answers, why).
const DIFFERENT: &[(&str, &str, &str, &str)] = &[
    ("grpc-golden.jsonl", "external ts", "Unimplemented", "external timestamps are not built"),
    ("grpc-golden.jsonl", "set external ts, far future", "Unimplemented", "external timestamps are not built"),
    ("grpc-golden.jsonl", "dc locations", "Unimplemented", "local timestamps do not exist any more"),
    ("grpc-golden.jsonl", "sync max ts", "Unimplemented", "local timestamps do not exist any more"),
    ("grpc-golden.jsonl", "load keyspace DEFAULT", "Unimplemented", "the keyspace service is not built"),
    ("grpc-golden.jsonl", "load keyspace, unknown", "Unimplemented", "the keyspace service is not built"),
    ("grpc-golden.jsonl", "all keyspaces", "Unimplemented", "the keyspace service is not built"),
    (
        "grpc-risky.jsonl",
        "region heartbeat, start above end/0",
        "invalid region, start key is not below end key: id:40 ",
        "PD takes it, and it pushes other regions out of the index",
    ),
    (
        "grpc-risky.jsonl",
        "get region m, after start above end",
        "region:<id:20 start_key:\"m\" ",
        "the heartbeat before was refused, so the region is still there",
    ),
    (
        "grpc-risky.jsonl",
        "region heartbeat, no region/0",
        "error:<type:UNKNOWN message:\"invalid request region, ",
        "PD's process ends",
    ),
    ("grpc-risky.jsonl", "advance gc safe point, nothing", "Unimplemented", "the newer GC calls are not built"),
];

/// Calls that set a server up for the risky ones: as many as were made before each of them.
const SET_UP: u64 = 75;

#[derive(Clone, Debug, serde::Deserialize)]
struct Call {
    n: u64,
    case: String,
    code: String,
    message: String,
    method: String,
    request: String,
    request_b64: String,
    response_b64: Option<String>,
}

impl Call {
    fn request_bytes(&self) -> Bytes {
        BASE64_STANDARD.decode(&self.request_b64).expect("base64").into()
    }

    fn method_name(&self) -> &str {
        self.method.rsplit('/').next().unwrap_or_default()
    }

    /// The case without the mark that no answer came, and the stream it belongs to (`name/0` is the first message of `name`).
    fn name(&self) -> &str {
        self.case.split(" (no answer").next().unwrap_or_default()
    }

    fn stream(&self) -> Option<&str> {
        let (stream, number) = self.name().rsplit_once('/')?;
        number.parse::<u32>().is_ok().then_some(stream)
    }

    /// Whether PD answered with an error.
    fn is_refused(&self) -> bool {
        self.code != "OK" || (self.response_b64.is_some() && expected(self).contains("error:<"))
    }

    fn is_silent(&self) -> bool {
        self.case.contains("(no answer within")
    }
}

fn recorded(file: &str) -> Option<Vec<Call>> {
    let text = std::fs::read_to_string(facts::folder("compat")?.join(file)).expect("a recording");
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a call")).collect())
}

macro_rules! requests {
    ($($method:literal $Request:ident)*) => {
        /// The request with the cluster id of the server under test where the recorded one stands.
        fn for_cluster(method: &str, bytes: &Bytes, recorded: u64, live: u64) -> Bytes {
            match method {
                $($method => {
                    let mut request = pdpb::$Request::decode(bytes.clone()).expect("a recorded request");
                    if let Some(header) = request.header.as_mut().filter(|h| h.cluster_id == recorded) {
                        header.cluster_id = live;
                    }
                    request.encode_to_vec().into()
                })*
                "PutClusterConfig" => {
                    let mut request = pdpb::PutClusterConfigRequest::decode(bytes.clone()).expect("a recorded request");
                    if let Some(header) = request.header.as_mut() {
                        header.cluster_id = live;
                    }
                    if let Some(cluster) = request.cluster.as_mut() {
                        cluster.id = live;
                    }
                    request.encode_to_vec().into()
                }
                _ => bytes.clone(),
            }
        }
    };
}

requests! {
    "GetMembers" GetMembersRequest "IsBootstrapped" IsBootstrappedRequest "AllocID" AllocIdRequest "Tso" TsoRequest
    "GetStore" GetStoreRequest "GetAllStores" GetAllStoresRequest "PutStore" PutStoreRequest
    "StoreHeartbeat" StoreHeartbeatRequest "GetRegion" GetRegionRequest "GetPrevRegion" GetRegionRequest
    "GetRegionByID" GetRegionByIdRequest "ScanRegions" ScanRegionsRequest "BatchScanRegions" BatchScanRegionsRequest
    "GetClusterConfig" GetClusterConfigRequest "AskSplit" AskSplitRequest "AskBatchSplit" AskBatchSplitRequest
    "ReportSplit" ReportSplitRequest "ReportBatchSplit" ReportBatchSplitRequest "RegionHeartbeat" RegionHeartbeatRequest
    "ScatterRegion" ScatterRegionRequest "SplitRegions" SplitRegionsRequest
    "SplitAndScatterRegions" SplitAndScatterRegionsRequest
    "GetOperator" GetOperatorRequest "GetGCSafePoint" GetGcSafePointRequest "UpdateGCSafePoint" UpdateGcSafePointRequest
    "UpdateServiceGCSafePoint" UpdateServiceGcSafePointRequest "Bootstrap" BootstrapRequest
    "ReportMinResolvedTS" ReportMinResolvedTsRequest "GetMinTS" GetMinTsRequest
    "IsSnapshotRecovering" IsSnapshotRecoveringRequest
}

macro_rules! answers {
    ($($($method:literal)|+ => $Answer:ident $name:literal;)*) => {
        /// An answer as text; what is not known here as bytes.
        fn show(method: &str, bytes: &Bytes) -> String {
            match method {
                $($($method)|+ => {
                    let answer = pdpb::$Answer::decode(bytes.clone()).expect("an answer");
                    compact(concat!("pdpb.", $name), &answer)
                })*
                _ => format!("{bytes:?}"),
            }
        }
    };
}

answers! {
    "GetMembers" => GetMembersResponse "GetMembersResponse";
    "GetClusterInfo" => GetClusterInfoResponse "GetClusterInfoResponse";
    "Tso" => TsoResponse "TsoResponse";
    "Bootstrap" => BootstrapResponse "BootstrapResponse";
    "IsBootstrapped" => IsBootstrappedResponse "IsBootstrappedResponse";
    "AllocID" => AllocIdResponse "AllocIDResponse";
    "GetStore" => GetStoreResponse "GetStoreResponse";
    "GetAllStores" => GetAllStoresResponse "GetAllStoresResponse";
    "PutStore" => PutStoreResponse "PutStoreResponse";
    "StoreHeartbeat" => StoreHeartbeatResponse "StoreHeartbeatResponse";
    "RegionHeartbeat" => RegionHeartbeatResponse "RegionHeartbeatResponse";
    "GetRegion" | "GetPrevRegion" | "GetRegionByID" => GetRegionResponse "GetRegionResponse";
    "ScanRegions" => ScanRegionsResponse "ScanRegionsResponse";
    "BatchScanRegions" => BatchScanRegionsResponse "BatchScanRegionsResponse";
    "GetClusterConfig" => GetClusterConfigResponse "GetClusterConfigResponse";
    "PutClusterConfig" => PutClusterConfigResponse "PutClusterConfigResponse";
    "AskSplit" => AskSplitResponse "AskSplitResponse";
    "AskBatchSplit" => AskBatchSplitResponse "AskBatchSplitResponse";
    "ReportSplit" => ReportSplitResponse "ReportSplitResponse";
    "ReportBatchSplit" => ReportBatchSplitResponse "ReportBatchSplitResponse";
    "GetOperator" => GetOperatorResponse "GetOperatorResponse";
    "ScatterRegion" => ScatterRegionResponse "ScatterRegionResponse";
    "SplitRegions" => SplitRegionsResponse "SplitRegionsResponse";
    "GetGCSafePoint" => GetGcSafePointResponse "GetGCSafePointResponse";
    "UpdateGCSafePoint" => UpdateGcSafePointResponse "UpdateGCSafePointResponse";
    "UpdateServiceGCSafePoint" => UpdateServiceGcSafePointResponse "UpdateServiceGCSafePointResponse";
    "ReportMinResolvedTS" => ReportMinResolvedTsResponse "ReportMinResolvedTsResponse";
    "GetMinTS" => GetMinTsResponse "GetMinTSResponse";
    "StoreGlobalConfig" => StoreGlobalConfigResponse "StoreGlobalConfigResponse";
    "LoadGlobalConfig" => LoadGlobalConfigResponse "LoadGlobalConfigResponse";
    "IsSnapshotRecovering" => IsSnapshotRecoveringResponse "IsSnapshotRecoveringResponse";
}

/// What came back, as text: `code: message`, the answer, or nothing.
fn outcome(method: &str, result: Result<Option<Bytes>, Status>) -> String {
    match result {
        Ok(Some(bytes)) => show(method, &bytes),
        Ok(None) => "(no answer)".into(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

fn expected(call: &Call) -> String {
    if call.code != "OK" {
        return format!("{}: {}", call.code, call.message);
    }
    match &call.response_b64 {
        Some(text) if !call.is_silent() => {
            show(call.method_name(), &BASE64_STANDARD.decode(text).expect("base64").into())
        }
        _ => "(no answer)".into(),
    }
}

/// Takes out what differs between any two runs.
fn masked(text: &str, cluster_id: u64) -> String {
    let mut text = text.replace(&cluster_id.to_string(), "CLUSTER");
    for pattern in [
        r"member_id:\d+",
        r#"(peer|client)_urls:"[^"]*""#,
        r"physical:\d+",
        r"logical:\d+",
        r"TTL:\d+",
        r"revision:\d+",
        r"last_heartbeat:\d+",
    ] {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        text = pattern
            .replace_all(&text, |found: &regex::Captures<'_>| {
                found[0].split(':').next().unwrap_or_default().to_owned() + ":*"
            })
            .into_owned();
    }
    // When Preparing ends depends on when stores are looked at: each ten seconds in PD, each 0.2 seconds in Berth.
    let serving = regex::Regex::new(r"(node_)?state:Serving ").expect("a pattern");
    let text = serving.replace_all(&text, "").into_owned();
    // PD keeps stores in a map.
    let (head, stores) = text.split_once("stores:<").map_or((text.as_str(), None), |(h, s)| (h, Some(s)));
    match stores {
        Some(stores) => {
            let mut stores: Vec<&str> = stores.split("stores:<").collect();
            stores.sort_unstable();
            format!("{head}stores:<{}", stores.join("stores:<"))
        }
        None => text,
    }
}

/// A server under test with a raw client.
struct Live {
    server: Server,
    client: Grpc<Channel>,
    cluster_id: u64,
    _dir: tempfile::TempDir,
}

impl Live {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config {
            name: "pd-1".into(),
            data_dir: dir.path().display().to_string(),
            client_urls: "http://127.0.0.1:0".into(),
            advertise_client_urls: "http://127.0.0.1:0".into(),
            peer_urls: "http://127.0.0.1:0".into(),
            advertise_peer_urls: "http://127.0.0.1:2380".into(),
            ..Config::default()
        };
        // Without timers: nothing is scheduled between two calls, however slow the machine is.
        let clock = Arc::new(SystemClock::new());
        let server = Server::start_untimed(config, Logger::none(), clock).await.expect("a server");
        let endpoint = Channel::from_shared(format!("http://{}", server.addr())).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        let mut live = Self { server, client: Grpc::new(channel), cluster_id: 0, _dir: dir };
        let members = live.unary("/pdpb.PD/GetMembers", Bytes::new()).await.expect("members");
        let members = pdpb::GetMembersResponse::decode(members).expect("members");
        live.cluster_id = members.header.expect("a header").cluster_id;
        live
    }

    /// What is agreed, and the regions, but for what moves by itself (windows of ids and timestamps, heartbeat times, the end of Preparing).
    fn state(&self) -> String {
        let (app, state) = (&self.server.app, self.server.app.meta.state());
        let stores: Vec<_> =
            state.stores.values().map(|s| (s.id, &s.address, &s.labels, s.state, &s.version)).collect();
        let regions = app.cluster.regions().scan(&KeyRange::all(), usize::MAX);
        let regions: Vec<_> = regions.iter().map(|r| (r.meta.clone(), r.leader)).collect();
        let rules = (&state.rules, &state.rule_groups, &state.label_rules, &state.keyspaces);
        let gc = (&state.gc, &state.barriers, &state.global_config, &state.limits, &state.config);
        format!("{stores:#?}\n{regions:#?}\n{rules:#?}\n{gc:#?}")
    }

    async fn unary(&mut self, method: &str, request: Bytes) -> Result<Bytes, Status> {
        self.client.ready().await.expect("a connection");
        let path = method.parse().expect("a path");
        let call = self.client.unary(Request::new(request), path, Raw);
        let answer = tokio::time::timeout(PATIENCE, call).await.expect("an answer in time")?;
        Ok(answer.into_inner())
    }

    fn request_of(&self, call: &Call) -> Bytes {
        for_cluster(call.method_name(), &call.request_bytes(), cluster_of(call), self.cluster_id)
    }

    /// Makes the calls of one stream, or the one call, and gives back what each came to.
    async fn make(&mut self, calls: &[Call]) -> Vec<String> {
        let [only] = calls else { return self.stream(calls).await };
        if only.stream().is_some() {
            return self.stream(calls).await;
        }
        let answer = self.unary(&only.method, self.request_of(only)).await;
        vec![outcome(only.method_name(), answer.map(Some))]
    }

    async fn stream(&mut self, calls: &[Call]) -> Vec<String> {
        let (sender, receiver) = mpsc::channel(calls.len());
        let method = calls[0].method.clone();
        self.client.ready().await.expect("a connection");
        let call =
            self.client.streaming(Request::new(ReceiverStream::new(receiver)), method.parse().expect("a path"), Raw);
        let answers = tokio::time::timeout(PATIENCE, call).await.expect("a stream in time");
        let mut answers: Streaming<Bytes> = match answers {
            Ok(answers) => answers.into_inner(),
            Err(status) => return vec![outcome("", Err(status)); calls.len()],
        };
        let mut outcomes = vec![];
        for call in calls {
            // A stream that has ended takes no more; what it ended with is the outcome.
            _ = sender.send(self.request_of(call)).await;
            if call.is_silent() {
                outcomes.push("(no answer)".into());
                continue;
            }
            let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer in time");
            outcomes.push(outcome(call.method_name(), answer));
        }
        // The server ends its side once it has read everything; whatever comes until then was not asked for.
        drop(sender);
        while let Ok(Some(more)) = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an end in time") {
            outcomes.push(outcome(calls[0].method_name(), Ok(Some(more))));
        }
        outcomes
    }
}

/// The cluster id that stands in a recorded call.
fn cluster_of(call: &Call) -> u64 {
    let id = regex::Regex::new(r"^header:<cluster_id:(\d{10,}) ").expect("a pattern");
    id.captures(&call.request).map_or(0, |found| found[1].parse().expect("an id"))
}

/// Calls that belong to one stream stand together.
fn grouped(calls: &[Call]) -> Vec<&[Call]> {
    calls.chunk_by(|a, b| a.stream().is_some() && a.stream() == b.stream()).collect()
}

/// What does not match: each case with what was expected and what came.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    seen: BTreeMap<(String, String), usize>,
    held: usize,
}

impl Findings {
    fn compare(&mut self, file: &str, live: u64, calls: &[Call], outcomes: &[String]) {
        for (call, got) in calls.iter().zip(outcomes) {
            let recorded = cluster_of(call).max(cluster_of(&calls[0]));
            let want = masked(&expected(call), if recorded == 0 { known_cluster(file) } else { recorded });
            let got = masked(got, live);
            let listed = DIFFERENT.iter().find(|(f, case, ..)| *f == file && *case == call.name());
            match listed {
                None if want == got => self.held += 1,
                None => self.wrong.push(format!("{file} {} {}\n  want {want}\n  got  {got}", call.n, call.case)),
                Some((.., instead, _)) => {
                    *self.seen.entry((file.into(), call.name().into())).or_default() += 1;
                    if want == got {
                        self.wrong.push(format!("{file} {} holds now: take it off the list", call.case));
                    } else if !got.contains(instead) {
                        self.wrong.push(format!("{file} {}\n  want {instead}\n  got  {got}", call.case));
                    }
                }
            }
        }
        for more in outcomes.iter().skip(calls.len()) {
            self.wrong.push(format!("{file} {}: not asked for: {more}", calls[0].case));
        }
    }

    fn report(self, file: &str) {
        for (_, case, ..) in DIFFERENT.iter().filter(|(f, ..)| *f == file) {
            assert!(
                self.seen.contains_key(&(file.to_owned(), (*case).to_owned())),
                "{case} is listed but not recorded"
            );
        }
        println!("{file}: {} calls as recorded, {} different for a reason", self.held, self.seen.len());
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// The id of the cluster that the first file was recorded on; answers hold it also where the request has no header.
fn known_cluster(file: &str) -> u64 {
    if file == "grpc-golden.jsonl" { 7_711_005_342_469_628_626 } else { 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_calls_are_answered_as_recorded() {
    let file = "grpc-golden.jsonl";
    let Some(calls) = recorded(file) else { return };
    let (mut live, mut findings) = (Live::start().await, Findings::default());
    let mut refused = 0;
    for group in grouped(&calls) {
        let before = group.iter().all(Call::is_refused).then(|| live.state());
        let outcomes = live.make(group).await;
        findings.compare(file, live.cluster_id, group, &outcomes);
        if let Some(before) = before {
            assert_eq!(live.state(), before, "{}: refused, and yet the state has changed", group[0].case);
            refused += 1;
        }
    }
    assert!(refused >= 50, "only {refused} calls were refused");
    live.server.stop().await;
    findings.report(file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn risky_calls_leave_the_server_alive_and_its_state_as_it_was() {
    let file = "grpc-risky.jsonl";
    let (Some(set_up), Some(calls)) = (recorded("grpc-golden.jsonl"), recorded(file)) else { return };
    let set_up: Vec<Call> = set_up.into_iter().filter(|call| call.n <= SET_UP).collect();
    let mut findings = Findings::default();
    for session in calls.chunk_by(|_, next| next.n > SET_UP + 1) {
        let mut live = Live::start().await;
        for group in grouped(&set_up) {
            live.make(group).await;
        }
        let before = live.state();
        for group in grouped(session) {
            let outcomes = live.make(group).await;
            findings.compare(file, live.cluster_id, group, &outcomes);
        }
        // A region of epoch (1, 1) is taken, as PD takes it; nothing else here may change anything.
        if !session[0].case.starts_with("region heartbeat, recreated") {
            assert_eq!(live.state(), before, "the state after {}", session[0].case);
        }
        let alive = live.unary("/pdpb.PD/GetMembers", Bytes::new()).await;
        assert!(alive.is_ok(), "the server must be alive after {}: {alive:?}", session[0].case);
        live.server.stop().await;
    }
    findings.report(file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_ends_of_streams_are_counted() {
    let mut live = Live::start().await;
    let app = live.server.app.clone();
    let labels = ["Tso", "pdpb.PD", "bidi_stream"];
    let requests = &app.metrics.requests;
    let ended = |code| requests.grpc_handled.with_label_values(&[code, labels[0], labels[1], labels[2]]).get();
    let passed = || {
        (requests.grpc_received.with_label_values(&labels).get(), requests.grpc_sent.with_label_values(&labels).get())
    };
    let header = Some(pdpb::RequestHeader { cluster_id: live.cluster_id, ..Default::default() });
    let ask = |count| pdpb::TsoRequest { header: header.clone(), count, ..Default::default() }.encode_to_vec();
    let mut open = async |counts: &[u32]| {
        let (sender, receiver) = mpsc::channel(4);
        for count in counts {
            sender.send(Bytes::from(ask(*count))).await.expect("room");
        }
        live.client.ready().await.expect("a connection");
        let path = "/pdpb.PD/Tso".parse().expect("a path");
        let answers = live.client.streaming(Request::new(ReceiverStream::new(receiver)), path, Raw).await;
        (sender, answers.expect("a stream").into_inner())
    };
    let (sender, mut answers) = open(&[1, 1, 1]).await;
    drop(sender);
    while answers.message().await.expect("an answer").is_some() {}
    assert_eq!((ended("OK"), passed()), (1, (3, 3)));
    let (_sender, mut answers) = open(&[1, 0]).await;
    while let Ok(Some(_)) = answers.message().await {}
    assert_eq!((ended("Unknown"), passed()), (1, (5, 4)));
    // A client that goes away.
    let (sender, mut answers) = open(&[1]).await;
    answers.message().await.expect("an answer");
    drop((sender, answers));
    live.client = Grpc::new(Channel::from_static("http://127.0.0.1:1").connect_lazy());
    let end = tokio::time::Instant::now() + PATIENCE;
    while ended("OK") + ended("Canceled") < 2 {
        assert!(tokio::time::Instant::now() < end, "the end is counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    live.server.stop().await;
}

#[test]
fn codes_are_written_as_recorded() {
    assert_eq!(format!("{:?}", Code::FailedPrecondition), "FailedPrecondition");
    assert_eq!(format!("{:?}", Code::Unknown), "Unknown");
}
