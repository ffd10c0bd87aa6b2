//! The server that is sent bad input, the small cluster on it, and what must not change.

use std::{net::SocketAddr, time::Duration};

use berth::{
    api::compact_text::compact,
    proto::{metapb, pdpb, pdpb::pd_client::PdClient},
};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, client::Grpc, transport::Channel};

use super::grpc;
use crate::common::{
    facts::{Answer, Request},
    http,
    raw::Raw,
    server::Running,
};

/// An answer that does not come within this never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What people see of the state.
const SHOWN: &[&str] = &[
    "/pd/api/v1/stores",
    "/pd/api/v1/stores?state=2",
    "/pd/api/v1/stores/limit",
    "/pd/api/v1/regions",
    "/pd/api/v1/operators",
    "/pd/api/v1/labels",
    "/pd/api/v1/config",
    "/pd/api/v1/config/label-property",
    "/pd/api/v1/config/rules",
    "/pd/api/v1/config/rule_groups",
    "/pd/api/v1/config/region-label/rules",
    "/pd/api/v1/gc/safepoint",
    "/pd/api/v1/members",
    "/pd/api/v1/schedulers",
    "/pd/api/v1/schedulers?status=paused",
    "/pd/api/v1/checker/replica",
];

/// What changes by itself.
const MOVING: &[&str] = &["last_heartbeat", "last_heartbeat_ts", "uptime", "start_ts", "state_name", "left_seconds"];

/// Nothing is to move by itself.
const STILL: &str = r#"{"leader-schedule-limit":0,"region-schedule-limit":0,"replica-schedule-limit":0,
    "merge-schedule-limit":0,"hot-region-schedule-limit":0}"#;

/// A server with three TiKV stores that are up (1, 2, 3), one whose machine is gone (4), a Tombstone (7), and regions 2 and 3.
pub(crate) struct Cluster {
    running: Running,
    raw: Grpc<Channel>,
    client: PdClient<Channel>,
    /// Cluster id.
    pub(crate) id: u64,
    state: String,
    /// Not before it was made: stores report.
    bootstrapped: bool,
    wrong: Vec<String>,
}

fn store(id: u64, state: metapb::StoreState) -> metapb::Store {
    metapb::Store {
        id,
        address: format!("t{id}:1"),
        version: "8.5.0".into(),
        state: state.into(),
        ..metapb::Store::default()
    }
}

/// What was refused in the header of an answer.
fn accepted(header: Option<pdpb::ResponseHeader>) {
    assert_eq!(header.and_then(|h| h.error), None);
}

impl Cluster {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::on(Running::start().await).await;
        cluster.bootstrapped = true;
        cluster.set_up().await;
        cluster.state = cluster.shown().await;
        cluster
    }

    /// Starts a server on which no cluster was made yet.
    pub(crate) async fn empty() -> Self {
        let mut cluster = Self::on(Running::start().await).await;
        cluster.state = cluster.shown().await;
        cluster
    }

    /// Takes what is now for the state that must not change.
    pub(crate) async fn settle(&mut self) {
        self.state = self.shown().await;
    }

    async fn on(running: Running) -> Self {
        let endpoint = Channel::from_shared(format!("http://{}", running.addr())).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        let mut client = PdClient::new(channel.clone());
        let members = client.get_members(pdpb::GetMembersRequest::default()).await.expect("members").into_inner();
        let id = members.header.map(|h| h.cluster_id).unwrap_or_default();
        Self { running, raw: Grpc::new(channel), client, id, state: String::new(), bootstrapped: false, wrong: vec![] }
    }

    /// Ends the server and starts another on its folder.
    pub(crate) async fn restart(self) -> Self {
        let Running { server, clock, folder } = self.running;
        server.stop().await;
        let mut cluster = Self::on(Running::start_in(folder, clock).await).await;
        cluster.bootstrapped = true;
        cluster.state = cluster.shown().await;
        cluster
    }

    async fn set_up(&mut self) {
        let header = grpc::header(self.id);
        let first = pdpb::BootstrapRequest {
            header: header.clone(),
            store: Some(store(1, metapb::StoreState::Up)),
            region: Some(metapb::Region {
                id: 2,
                region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
                peers: vec![metapb::Peer { id: 21, store_id: 1, ..metapb::Peer::default() }],
                ..metapb::Region::default()
            }),
        };
        accepted(self.client.bootstrap(first).await.expect("a bootstrap").into_inner().header);
        for (id, state) in [(2, 0), (3, 0), (4, 0), (7, 2)] {
            let state = metapb::StoreState::try_from(state).expect("a state");
            let request = pdpb::PutStoreRequest { header: header.clone(), store: Some(store(id, state)) };
            accepted(self.client.put_store(request).await.expect("a store").into_inner().header);
        }
        self.store_heartbeats().await;
        let still = Request { method: "POST".into(), target: "/pd/api/v1/config".into(), ..Request::default() };
        let answer = self.http(&Request { body: STILL.into(), ..still }).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for _ in 0..100 {
            self.alloc_id().await;
        }
        self.heartbeat(&grpc::region(self.id, 2, (4, 2), "", "m", &[(21, 1), (22, 2), (23, 3)])).await;
        self.heartbeat(&grpc::region(self.id, 3, (4, 2), "m", "p", &[(31, 1), (32, 2), (34, 4)])).await;
        let gone = Request { method: "DELETE".into(), target: "/pd/api/v1/store/4?force".into(), ..Request::default() };
        let answer = self.http(&gone).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let stores = Request { method: "GET".into(), target: "/pd/api/v1/stores".into(), ..Request::default() };
        let end = tokio::time::Instant::now() + PATIENCE;
        // A store that is Preparing shows no state of its node.
        while self.http(&stores).await.text().matches("\"node_state\"").count() < 4 {
            assert!(tokio::time::Instant::now() < end, "stores come to serve by themselves");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn store_heartbeats(&mut self) {
        for store_id in [1, 2, 3] {
            let stats = pdpb::StoreStats {
                store_id,
                capacity: 1 << 40,
                available: 1 << 39,
                region_count: 2,
                ..pdpb::StoreStats::default()
            };
            let request = pdpb::StoreHeartbeatRequest {
                header: grpc::header(self.id),
                stats: Some(stats),
                ..pdpb::StoreHeartbeatRequest::default()
            };
            accepted(self.client.store_heartbeat(request).await.expect("an answer").into_inner().header);
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    /// One HTTP request.
    pub(crate) async fn http(&self, request: &Request) -> Answer {
        tokio::time::timeout(PATIENCE, http::send(self.addr(), request)).await.expect("an answer in time")
    }

    /// One new id.
    pub(crate) async fn alloc_id(&mut self) -> u64 {
        let request = pdpb::AllocIdRequest { header: grpc::header(self.id), count: 1 };
        self.client.alloc_id(request).await.expect("an id").into_inner().id
    }

    /// Reports a region, and waits until it is taken in.
    pub(crate) async fn heartbeat(&mut self, report: &pdpb::RegionHeartbeatRequest) {
        let got = self.call("RegionHeartbeat", &report.encode_to_vec().into()).await;
        assert_eq!(got, "(no answer)");
    }

    /// One call with these bytes; what comes back as text. Calls with a stream get one message and its end.
    pub(crate) async fn call(&mut self, method: &str, request: &Bytes) -> String {
        let path = format!("/pdpb.PD/{method}").parse().expect("a path");
        self.raw.ready().await.expect("a connection");
        let outcome = async {
            if !grpc::STREAMS.contains(&method) {
                let answer = self.raw.unary(tonic::Request::new(request.clone()), path, Raw).await?;
                return Ok(Some(answer.into_inner()));
            }
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.try_send(request.clone()).expect("room for one");
            drop(sender);
            let call = self.raw.streaming(tonic::Request::new(ReceiverStream::new(receiver)), path, Raw).await?;
            call.into_inner().message().await
        };
        let outcome: Result<Option<Bytes>, Status> =
            tokio::time::timeout(PATIENCE, outcome).await.expect("an answer in time");
        match outcome {
            Ok(Some(bytes)) => grpc::text(method, &bytes),
            Ok(None) => "(no answer)".into(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        }
    }

    /// Something that is not as it should be.
    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// What people see of the state, but for what moves by itself.
    async fn shown(&mut self) -> String {
        if self.bootstrapped {
            self.store_heartbeats().await;
        }
        let mut out = String::new();
        for target in SHOWN {
            let request = Request { method: "GET".into(), target: (*target).into(), ..Request::default() };
            let answer = self.http(&request).await;
            let mut value: Value = serde_json::from_slice(&answer.body)
                .unwrap_or_else(|_| panic!("{target}: {} {}", answer.status, answer.text()));
            still(&mut value);
            out += &format!("{target} {}\n{value:#}\n", answer.status);
        }
        out
    }

    /// The server must be alive.
    pub(crate) async fn check_alive(&mut self, after: &str) {
        let ping = Request { method: "GET".into(), target: "/pd/api/v1/ping".into(), ..Request::default() };
        assert_eq!(self.http(&ping).await.status, 200, "after {after}");
        let members = self.client.get_members(pdpb::GetMembersRequest::default());
        let members = tokio::time::timeout(PATIENCE, members).await.expect("an answer in time");
        assert!(members.is_ok(), "after {after}: {members:?}");
    }

    /// The server must be alive, and its state as it was.
    pub(crate) async fn check(&mut self, after: &str) {
        self.check_alive(after).await;
        let now = self.shown().await;
        if now != self.state {
            let differs = self.state.lines().zip(now.lines()).find(|(a, b)| a != b);
            self.wrong.push(format!("{after}: the state has changed: {differs:?}"));
            self.state = now;
        }
    }

    /// Ends it and judges.
    pub(crate) async fn end(self, what: &str, count: usize, least: usize) {
        self.running.server.stop().await;
        println!("{what}: {count} rows, {} wrong", self.wrong.len());
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        assert!(count >= least, "only {count} of {least} rows");
    }
}

fn still(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !MOVING.contains(&key.as_str()));
            map.values_mut().for_each(still);
        }
        Value::Array(items) => {
            items.iter_mut().for_each(still);
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}

/// An answer of a known kind as text.
pub(crate) fn show<M: prost::Message + Default>(name: &str, bytes: &Bytes) -> String {
    M::decode(bytes.clone()).map_or_else(|e| e.to_string(), |answer| compact(name, &answer))
}
