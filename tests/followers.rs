//! What members that do not lead answer: they pass on what PD's followers pass on, and never answer for the leader unasked (L6).

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

use axum::body::{Body, to_bytes};
use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::FleetOptions,
    store::warm::FRESH_FOR,
};
use common::{
    group::{Group, PATIENCE},
    nodes::{Nodes, eventually},
};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, client::Grpc, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_prost::ProstCodec;

const FORWARDED_HOST: &str = "pd-forwarded-host";
/// How long a stream may take to end after the leader that it was passed on to.
const ENDS: Duration = Duration::from_secs(10);

/// Three members, a fleet, and who is who.
struct Trio {
    group: Group,
    nodes: Nodes,
    leader: usize,
    follower: usize,
}

impl Trio {
    async fn start() -> Self {
        let group = Group::start(3, &[]).await;
        let mut nodes = Nodes::start(FleetOptions {
            pd: group.urls(),
            stores: 4,
            regions: 20,
            store_heartbeat: Duration::from_millis(200),
            ..FleetOptions::default()
        });
        nodes.loaded().await;
        let leader = group.leader().await;
        Self { group, nodes, leader, follower: (leader + 1) % 3 }
    }

    fn url(&self, seat: usize) -> String {
        self.group.seats[seat].home.url()
    }

    async fn channel(&self, seat: usize) -> Channel {
        Channel::from_shared(self.url(seat)).unwrap().connect().await.unwrap()
    }

    /// A request to a member; status, headers that Berth sets, body.
    async fn rest(
        &self,
        seat: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, String) {
        let address = self.url(seat).replace("http://", "");
        let stream = TcpStream::connect(&address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").unwrap();
        let (status, body) = (answer.status(), to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap());
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What a member says about how fresh its own answer is; `None`: it was the leader's.
    async fn fresh(&self, seat: usize, path: &str) -> Option<(String, u64, String)> {
        let address = self.url(seat).replace("http://", "");
        let stream = TcpStream::connect(&address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", address).header("PD-Allow-follower-handle", "true");
        let answer = sender.send_request(request.body(Body::empty()).unwrap());
        let answer = timeout(PATIENCE, answer).await.expect("an answer").unwrap();
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let applied = header("berth-follower-applied")?.parse().unwrap();
        Some((header("berth-follower").unwrap(), applied, header("berth-follower-leader").unwrap()))
    }

    async fn json(&self, seat: usize, path: &str) -> Value {
        let (status, body) = self.rest(seat, "GET", path, &[], "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

async fn cluster(client: &mut PdClient<Channel>) -> Option<pdpb::RequestHeader> {
    let answer = client.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
    Some(pdpb::RequestHeader { cluster_id: answer.header.unwrap().cluster_id, ..pdpb::RequestHeader::default() })
}

fn to<T>(host: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(FORWARDED_HOST, host.parse().unwrap());
    request
}

/// How often a member says that it has lifted the window of timestamps.
async fn saves(trio: &Trio, seat: usize) -> u64 {
    let (status, text) = trio.rest(seat, "GET", "/metrics", &[], "").await;
    assert_eq!(status, StatusCode::OK);
    let leads = format!("etcd_server_is_leader {}", u8::from(seat == trio.leader));
    assert!(text.lines().any(|line| line == leads), "member {seat} does not say {leads}");
    let labels = "pd_tso_events{group=\"0\",type=\"save\"} ";
    text.lines().find_map(|line| line.strip_prefix(labels)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_counts_what_all_apply() {
    let trio = Trio::start().await;
    let mut client = PdClient::new(trio.channel(trio.leader).await);
    let header = cluster(&mut client).await;
    // Gauges are worked out every ten seconds.
    eventually("each member shows whether it leads", PATIENCE, || async {
        for seat in 0..3 {
            let leads = format!("etcd_server_is_leader {}", u8::from(seat == trio.leader));
            let (_, text) = trio.rest(seat, "GET", "/metrics", &[], "").await;
            text.lines().find(|line| *line == leads)?;
        }
        Some(())
    })
    .await;
    let mut before = vec![];
    for seat in 0..3 {
        before.push(saves(&trio, seat).await);
    }
    // PD's alert of a changed leader looks for two members that have saved.
    eventually("the leader lifts its window twice", PATIENCE, || async {
        let request = pdpb::TsoRequest { header: header.clone(), count: 1, ..Default::default() };
        let mut client = client.clone();
        let mut answers = client.tso(tokio_stream::once(request)).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap();
        (saves(&trio, trio.leader).await >= before[trio.leader] + 2).then_some(())
    })
    .await;
    trio.group.same().await;
    for seat in (0..3).filter(|seat| *seat != trio.leader) {
        assert_eq!(saves(&trio, seat).await, before[seat], "member {seat} follows");
    }
    assert_eq!(trio.group.leader().await, trio.leader, "the leader has changed while this test looked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_rest_goes_to_the_leader_and_not_in_circles() {
    let trio = Trio::start().await;
    let (leader, follower) = (trio.leader, trio.follower);
    // Reads and writes of the whole cluster have one answer wherever they are asked.
    let label = trio.rest(follower, "POST", "/pd/api/v1/store/1/label", &[], "{\"zone\":\"z7\"}").await;
    assert_eq!(label.0, StatusCode::OK, "{label:?}");
    for path in ["/pd/api/v1/store/1", "/pd/api/v1/members", "/pd/api/v1/leader", "/pd/api/v1/config/replicate"] {
        let mask = |mut value: Value| {
            if let Some(status) = value.get_mut("status") {
                *status = Value::Null;
            }
            value
        };
        assert_eq!(mask(trio.json(follower, path).await), mask(trio.json(leader, path).await), "{path}");
    }
    let (_, body) = trio.rest(leader, "GET", "/pd/api/v1/store/1", &[], "").await;
    assert!(body.contains("z7"), "{body}");
    // What was refused there is refused here in the same words.
    let refused = trio.rest(follower, "GET", "/pd/api/v1/store/99", &[], "").await;
    assert_eq!(refused, trio.rest(leader, "GET", "/pd/api/v1/store/99", &[], "").await);
    assert_eq!(refused.0, StatusCode::NOT_FOUND);
    // Once, not twice; and a write never stays on a follower, whatever it asks for.
    let twice = trio.rest(follower, "GET", "/pd/api/v1/stores", &[("PD-Redirector", "pd-9")], "").await;
    let words = "[PD:apiutil:ErrRedirectToNotLeader]redirect to not leader".to_owned();
    assert_eq!(twice, (StatusCode::INTERNAL_SERVER_ERROR, words));
    let headers = [("PD-Allow-follower-handle", "true")];
    let write = trio.rest(follower, "POST", "/pd/api/v1/store/1/label", &headers, "{\"zone\":\"z8\"}").await;
    assert_eq!(write.0, StatusCode::OK);
    assert!(trio.rest(leader, "GET", "/pd/api/v1/store/1", &[], "").await.1.contains("z8"));
    // Agreed state is read where it is asked for, and told to be a follower's; what stores and regions report is the leader's.
    let name = trio.group.seats[follower].home.name.clone();
    let (said, applied, hears) = trio.fresh(follower, "/pd/api/v1/members").await.expect("a follower's answer");
    assert_eq!((said, hears), (name.clone(), trio.group.seats[leader].home.name.clone()));
    assert!(applied > 0);
    for path in ["/pd/api/v1/stores", "/pd/api/v1/regions", "/pd/api/v1/store/1"] {
        assert_eq!(trio.fresh(follower, path).await, None, "{path}");
    }
    assert_eq!(trio.fresh(leader, "/pd/api/v1/members").await, None);
    // What each member answers for itself.
    assert_eq!(trio.json(follower, "/pd/api/v1/config").await["name"], Value::from(name));
    trio.nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_without_a_leader_nobody_answers_for_it() {
    let mut trio = Trio::start().await;
    let lone = trio.follower;
    let channel = trio.channel(lone).await;
    let mut client = PdClient::new(channel.clone());
    let header = cluster(&mut client).await;
    let read = || {
        let message = pdpb::GetRegionByIdRequest { header: header.clone(), region_id: 2, ..Default::default() };
        let (mut client, mut request) = (client.clone(), tonic::Request::new(message));
        request.metadata_mut().insert("pd-allow-follower-handle", "true".parse().unwrap());
        async move { client.get_region_by_id(request).await }
    };
    eventually("a follower that may answer", PATIENCE, || async { read().await.ok() }).await;
    let killed = Instant::now();
    for seat in (0..3).filter(|seat| *seat != lone) {
        trio.group.kill(seat);
    }
    // Its copy is not old yet, but nobody says what it lacks.
    let refused = eventually("no reads without a leader", PATIENCE, || async { read().await.err() }).await;
    assert!(killed.elapsed() < FRESH_FOR, "{:?}", killed.elapsed());
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "not leader"));
    let unwell = ServingStatus::NotServing as i32;
    eventually("not well without a leader", PATIENCE, || async {
        (health(channel.clone()).await == Some(unwell)).then_some(())
    })
    .await;
    let refused = client.alloc_id(pdpb::AllocIdRequest { header, count: 1 }).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "not leader"));
    let none = (StatusCode::SERVICE_UNAVAILABLE, "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader".to_owned());
    // The leader that is gone is believed in for an election time.
    eventually("no leader", PATIENCE, || async {
        (trio.rest(lone, "GET", "/pd/api/v1/stores", &[], "").await == none).then_some(())
    })
    .await;
    trio.nodes.end().await;
}

/// What gRPC's health says of the whole server; `None`: no answer.
async fn health(channel: Channel) -> Option<i32> {
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.ok()?;
    Some(answer.into_inner().status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_says_so_over_grpc_before_its_port_closes() {
    let group = Group::start(3, &[]).await;
    let leader = group.leader().await;
    let channel =
        async |seat: usize| Channel::from_shared(group.seats[seat].home.url()).unwrap().connect().await.unwrap();
    let channels = [channel(0).await, channel(1).await, channel(2).await];
    let (serving, not) = (ServingStatus::Serving as i32, ServingStatus::NotServing as i32);
    for channel in &channels {
        // A member looks now and then whether there is a leader.
        eventually("all are well", PATIENCE, || async {
            (health(channel.clone()).await == Some(serving)).then_some(())
        })
        .await;
    }
    let mut watch = HealthClient::new(channels[leader].clone());
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, serving);
    group.signal(leader, Signal::TERM);
    let told = timeout(PATIENCE, watch.message()).await.expect("it is told");
    assert_eq!(told.expect("before the port closes").unwrap().status, not);
    assert_eq!(health(channels[leader].clone()).await, Some(not), "it still answers");
    // The others are well as soon as one of them leads.
    eventually("the others are well", PATIENCE, || async {
        let others = channels.iter().enumerate().filter(|(seat, _)| *seat != leader);
        let said = futures::future::join_all(others.map(|(_, channel)| health(channel.clone()))).await;
        (said == [Some(serving); 2]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_and_members_change_by_hand() {
    let mut trio = Trio::start().await;
    let name = |seat: usize| format!("pd-{}", seat + 1);
    let (first, asked) = (trio.leader, trio.follower);
    // Asked of a follower, as everything may be.
    let said = trio.rest(asked, "POST", "/pd/api/v1/leader/transfer/nosuch", &[], "").await;
    assert_eq!(said.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(said.1.contains("no valid pd to transfer etcd leader"), "{said:?}");
    let said = trio.rest(asked, "POST", &format!("/pd/api/v1/leader/transfer/{}", name(asked)), &[], "").await;
    assert_eq!(said, (StatusCode::OK, "\"The transfer command is submitted.\"\n".to_owned()));
    assert_eq!(trio.group.leader().await, asked);
    let said = trio.rest(asked, "POST", "/pd/api/v1/leader/resign", &[], "").await;
    assert_eq!(said.0, StatusCode::OK, "{said:?}");
    Group::until("another leads", async || trio.group.leader().await != asked).await;
    // Priority brings it where it should be, and keeps it there.
    let body = "{\"leader-priority\": 7}";
    let said = trio.rest(asked, "POST", &format!("/pd/api/v1/members/name/{}", name(first)), &[], body).await;
    assert_eq!(said, (StatusCode::OK, "\"success\"\n".to_owned()));
    Group::until("the preferred one leads", async || trio.group.leader().await == first).await;

    // All are well; one that was killed is not, and can go; then no more can.
    let well = async |trio: &Trio| {
        let health = trio.json(first, "/pd/api/v1/health").await;
        health.as_array().unwrap().iter().filter(|m| m["health"] == true).count()
    };
    assert_eq!(well(&trio).await, 3);
    let third = 3 - first - asked;
    trio.group.kill(third);
    assert_eq!(well(&trio).await, 2);
    let path = format!("/pd/api/v1/members/name/{}", name(asked));
    let said = trio.rest(first, "DELETE", &path, &[], "").await;
    assert_eq!(said.0, StatusCode::SERVICE_UNAVAILABLE, "one of two that are left does not answer: {said:?}");
    let gone = trio.rest(asked, "DELETE", &format!("/pd/api/v1/members/name/{}", name(third)), &[], "").await;
    assert_eq!(gone, (StatusCode::OK, format!("\"removed, pd: {}\"\n", name(third))));
    assert_eq!(trio.json(first, "/pd/api/v1/members").await["members"].as_array().unwrap().len(), 2);
    // The leader itself: it hands over, and the next one removes it.
    let id = trio.json(first, "/berth/v1/group").await["member_id"].as_u64().unwrap();
    let gone = trio.rest(first, "DELETE", &format!("/pd/api/v1/members/id/{id}"), &[], "").await;
    assert_eq!(gone, (StatusCode::OK, format!("\"removed, pd: {id}\"\n")));
    let left = trio.json(asked, "/pd/api/v1/members").await;
    assert_eq!(left["members"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["leader"]["name"], Value::from(name(asked)));
    // It ends when it hears of it, and does not begin again by mistake.
    let ended = trio.group.seats[first].process.take().unwrap().ended(PATIENCE).await;
    assert_eq!(ended.code(), Some(1), "{}", trio.group.seats[first].home.printed());
    let said = trio.group.seats[first].home.refused(1).await;
    assert!(said.contains("this member was removed from the cluster; to have it back, start it with --join"), "{said}");
    trio.nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_preferred_member_that_is_away_costs_the_others_nothing() {
    let mut trio = Trio::start().await;
    let name = |seat: usize| format!("pd-{}", seat + 1);
    let away = trio.leader;
    let body = "{\"leader-priority\": 7}";
    let said = trio.rest(away, "POST", &format!("/pd/api/v1/members/name/{}", name(away)), &[], body).await;
    assert_eq!(said.0, StatusCode::OK, "{said:?}");
    trio.group.kill(away);
    let leader = trio.group.leader().await;
    let term = trio.json(leader, "/berth/v1/group").await["term"].clone();
    // By hand: refused at once, and by its reason.
    let path = format!("/pd/api/v1/leader/transfer/{}", name(away));
    let said = trio.rest(leader, "POST", &path, &[], "").await;
    assert_eq!(said.0, StatusCode::SERVICE_UNAVAILABLE, "{said:?}");
    assert!(said.1.contains("no other member can lead now"), "{said:?}");
    // By priority: it has been looked, and nothing was tried.
    let told = |text: &str| trio.group.seats[leader].home.log().contains(text);
    Group::until("it is told that it cannot lead", async || told("a member of higher priority cannot lead now")).await;
    assert!(!told("leadership is handed over") && !told("leadership was not taken over"));
    let stands = trio.json(leader, "/berth/v1/group").await;
    assert_eq!((&stands["term"], &stands["leads"]), (&term, &Value::from(true)), "{stands}");
    trio.nodes.end().await;
}

/// A unary call with an empty request, by name.
async fn call(channel: Channel, method: &str, host: Option<&str>) -> Result<Vec<u8>, tonic::Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = format!("/pdpb.PD/{method}").parse().unwrap();
    let mut request = tonic::Request::new(pdpb::GetMembersRequest::default());
    if let Some(host) = host {
        request.metadata_mut().insert(FORWARDED_HOST, host.parse().unwrap());
    }
    let codec: ProstCodec<pdpb::GetMembersRequest, pdpb::GetMembersResponse> = ProstCodec::default();
    grpc.unary(request, path, codec).await.map(|answer| answer.into_inner().encode_to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_grpc_on_a_follower_is_refused_or_passed_on_when_asked() {
    let trio = Trio::start().await;
    let (mut leader, mut follower) =
        (PdClient::new(trio.channel(trio.leader).await), PdClient::new(trio.channel(trio.follower).await));
    let header = cluster(&mut leader).await;
    // Every method with a leader's answer: "not leader", whatever the request.
    for method in [
        "AllocID",
        "Bootstrap",
        "IsBootstrapped",
        "GetStore",
        "PutStore",
        "GetAllStores",
        "StoreHeartbeat",
        "GetRegion",
        "GetPrevRegion",
        "GetRegionByID",
        "ScanRegions",
        "BatchScanRegions",
        "AskSplit",
        "AskBatchSplit",
        "ReportSplit",
        "ReportBatchSplit",
        "GetClusterConfig",
        "PutClusterConfig",
        "ScatterRegion",
        "GetGCSafePoint",
        "UpdateGCSafePoint",
        "UpdateServiceGCSafePoint",
        "GetOperator",
        "SplitRegions",
        "SplitAndScatterRegions",
        "ReportMinResolvedTS",
    ] {
        let refused = call(trio.channel(trio.follower).await, method, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{method}: {refused}");
        assert!(refused.message().contains("not leader"), "{method}: {refused}");
    }
    // Region reads are answered where a client allows it, from a copy that says its age.
    let read =
        pdpb::GetRegionByIdRequest { header: header.clone(), region_id: 2, ..pdpb::GetRegionByIdRequest::default() };
    let allowed = || {
        let mut request = tonic::Request::new(read.clone());
        request.metadata_mut().insert("pd-allow-follower-handle", "true".parse().unwrap());
        request
    };
    let answer = eventually("a follower that may answer", PATIENCE, || {
        let (mut follower, request) = (follower.clone(), allowed());
        async move { follower.get_region_by_id(request).await.ok() }
    })
    .await;
    assert!(answer.metadata().get("berth-follower-age-ms").is_some(), "{answer:?}");
    let told = leader.get_region_by_id(allowed()).await.unwrap();
    assert!(told.metadata().get("berth-follower-age-ms").is_none(), "the leader's own answer");
    assert_eq!(answer.into_inner().region, told.into_inner().region);
    // Passed on: the leader's answer.
    let url = trio.url(trio.leader);
    let request = pdpb::GetStoreRequest { header: header.clone(), store_id: 1 };
    let passed = follower.get_store(to(&url, request.clone())).await.unwrap().into_inner();
    assert_eq!(passed, leader.get_store(request).await.unwrap().into_inner());
    // To this member itself: as without.
    let own = trio.url(trio.follower);
    assert_eq!(
        call(trio.channel(trio.follower).await, "AllocID", Some(&own)).await.unwrap_err().message(),
        "not leader"
    );
    // To anybody else: refused by name.
    let other = trio.url((trio.follower + 1) % 3).replace(&url, "http://127.0.0.1:1");
    for host in ["evil:1", "http://127.0.0.1:1", other.as_str()].into_iter().filter(|host| *host != url) {
        let refused = call(trio.channel(trio.follower).await, "GetStore", Some(host)).await.unwrap_err();
        let text = format!("forwarded host {host:?} is not a client URL of the PD leader: pd is not leader of cluster");
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, text.as_str()));
    }
    trio.nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_were_passed_on_end_with_the_leader() {
    let mut trio = Trio::start().await;
    let mut follower = PdClient::new(trio.channel(trio.follower).await);
    let header = cluster(&mut follower).await;
    let url = trio.url(trio.leader);
    let (requests, queue) = mpsc::channel(1);
    let ask = pdpb::TsoRequest { header, count: 3, ..pdpb::TsoRequest::default() };
    requests.send(ask.clone()).await.unwrap();
    let mut answers = follower.tso(to(&url, ReceiverStream::new(queue))).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    requests.send(ask).await.unwrap();
    let second = answers.message().await.unwrap().unwrap();
    assert_eq!((first.count, second.count), (3, 3));
    let order = |answer: &pdpb::TsoResponse| answer.timestamp.map(|ts| (ts.physical, ts.logical)).unwrap();
    assert!(order(&first) < order(&second));
    trio.group.kill(trio.leader);
    let ended = timeout(ENDS, answers.message()).await.expect("the stream ends");
    assert!(ended.is_err(), "{ended:?}");
    trio.nodes.end().await;
}
