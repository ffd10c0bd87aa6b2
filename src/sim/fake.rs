//! A server made for tests: it founds a cluster, takes heartbeats, sends the commands it is told to, hands out timestamps, and empties
//! a store in the simplest way that can be.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Path, routing::any};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, server::Grpc};
use tonic_prost::ProstCodec;

use crate::proto::{eraftpb::ConfChangeType, metapb, pdpb};

pub(super) const CLUSTER: u64 = 77;
type Commands = mpsc::Sender<Result<pdpb::RegionHeartbeatResponse, Status>>;

/// What the server has heard. It outlives the server, as the disk of a real one would.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) bootstrapped: bool,
    pub(super) next_id: u64,
    pub(super) stores: BTreeMap<u64, metapb::Store>,
    pub(super) store_heartbeats: BTreeMap<u64, u64>,
    pub(super) regions: BTreeMap<u64, pdpb::RegionHeartbeatRequest>,
    pub(super) region_heartbeats: u64,
    streams: BTreeMap<u64, Commands>,
    /// The store that is to be emptied.
    leaving: Option<u64>,
    timestamp: (i64, i64),
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) heard: Arc<Mutex<Heard>>,
    /// Counts region heartbeats, so that tests can wait for one.
    changed: Arc<watch::Sender<u64>>,
    url: Arc<str>,
}

impl State {
    fn header(&self) -> Option<pdpb::ResponseHeader> {
        Some(pdpb::ResponseHeader { cluster_id: CLUSTER, error: None })
    }

    /// Waits until what was heard satisfies `happened`.
    pub(super) async fn wait(&self, mut happened: impl FnMut(&Heard) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            while !happened(&self.heard.lock()) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it does not happen");
    }

    /// Sends a command to the leader of its region.
    pub(super) async fn send(&self, region: u64, change: impl FnOnce(&mut pdpb::RegionHeartbeatResponse)) {
        let (mut command, stream) = {
            let heard = self.heard.lock();
            let last = &heard.regions[&region];
            let stream = heard.streams[&last.leader.as_ref().unwrap().store_id].clone();
            let command = pdpb::RegionHeartbeatResponse {
                header: self.header(),
                region_id: region,
                region_epoch: last.region.as_ref().unwrap().region_epoch,
                target_peer: last.leader,
                ..Default::default()
            };
            (command, stream)
        };
        change(&mut command);
        stream.send(Ok(command)).await.unwrap();
    }

    fn take(&self, beat: pdpb::RegionHeartbeatRequest, commands: &Commands) {
        let mut heard = self.heard.lock();
        heard.streams.insert(beat.leader.as_ref().unwrap().store_id, commands.clone());
        heard.region_heartbeats += 1;
        heard.regions.insert(beat.region.as_ref().unwrap().id, beat);
        drop(heard);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The next command for a region with a peer on the store that leaves: hand over the lead, then remove the peer.
    fn drain(&self, beat: &pdpb::RegionHeartbeatRequest) -> Option<pdpb::RegionHeartbeatResponse> {
        let leaving = self.heard.lock().leaving?;
        let region = beat.region.as_ref()?;
        let peer = region.peers.iter().find(|p| p.store_id == leaving)?;
        let mut command = pdpb::RegionHeartbeatResponse {
            header: self.header(),
            region_id: region.id,
            region_epoch: region.region_epoch,
            target_peer: beat.leader,
            ..Default::default()
        };
        if beat.leader.as_ref() == Some(peer) {
            let other = region.peers.iter().find(|p| p.store_id != leaving).copied();
            command.transfer_leader = Some(pdpb::TransferLeader { peer: other, peers: Vec::new() });
        } else {
            let kind = ConfChangeType::RemoveNode as i32;
            command.change_peer = Some(pdpb::ChangePeer { peer: Some(*peer), change_type: kind });
        }
        Some(command)
    }

    /// DELETE of a store: every region with a peer there gets its first command.
    async fn delete(self, store: u64) -> &'static str {
        let all: Vec<_> = {
            let mut heard = self.heard.lock();
            heard.leaving = Some(store);
            let stream = |b: &pdpb::RegionHeartbeatRequest| heard.streams[&b.leader.as_ref().unwrap().store_id].clone();
            heard.regions.values().map(|b| (b.clone(), stream(b))).collect()
        };
        for (beat, stream) in all {
            if let Some(command) = self.drain(&beat) {
                stream.send(Ok(command)).await.unwrap();
            }
        }
        "\"The store is set as Offline.\""
    }

    fn store(&self, store: u64) -> String {
        let heard = self.heard.lock();
        let on =
            |b: &pdpb::RegionHeartbeatRequest| b.region.iter().any(|r| r.peers.iter().any(|p| p.store_id == store));
        let leaves = heard.leaving == Some(store);
        let state = match heard.regions.values().any(on) {
            false if leaves => "Tombstone",
            true if leaves => "Offline",
            _ => "Up",
        };
        serde_json::json!({ "store": { "id": store, "state_name": state } }).to_string()
    }

    async fn tso(
        self,
        request: Request<Streaming<pdpb::TsoRequest>>,
    ) -> Result<Response<ReceiverStream<Result<pdpb::TsoResponse, Status>>>, Status> {
        let (to, answers) = mpsc::channel(16);
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = asked.message().await {
                let (physical, logical) = {
                    let last = &mut self.heard.lock().timestamp;
                    *last = (last.0 + 1, i64::from(request.count));
                    *last
                };
                let timestamp = Some(pdpb::Timestamp { physical, logical, suffix_bits: 0 });
                let answer = pdpb::TsoResponse { header: self.header(), count: request.count, timestamp };
                if to.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn region_heartbeat(
        self,
        request: Request<Streaming<pdpb::RegionHeartbeatRequest>>,
    ) -> Result<Response<ReceiverStream<Result<pdpb::RegionHeartbeatResponse, Status>>>, Status> {
        let (to, commands) = mpsc::channel(16);
        let mut beats = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(beat)) = beats.message().await {
                let command = self.drain(&beat);
                self.take(beat, &to);
                if let Some(command) = command {
                    let _ = to.send(Ok(command)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(commands)))
    }
}

/// Adds a unary call to the routes.
fn unary<Q, A>(routes: Router, state: &State, name: &str, call: fn(&State, Q) -> A) -> Router
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    let state = state.clone();
    let handler = move |request: axum::extract::Request| {
        let state = state.clone();
        async move {
            let service = tower::service_fn(move |request: Request<Q>| {
                let answer = call(&state, request.into_inner());
                async move { Ok::<_, Status>(Response::new(answer)) }
            });
            Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await
        }
    };
    routes.route(&format!("/pdpb.PD/{name}"), any(handler))
}

fn routes(state: &State) -> Router {
    let members = |s: &State, _: pdpb::GetMembersRequest| {
        let member = pdpb::Member { name: "fake".into(), client_urls: vec![s.url.to_string()], ..Default::default() };
        pdpb::GetMembersResponse { header: s.header(), leader: Some(member), ..Default::default() }
    };
    let is_bootstrapped = |s: &State, _: pdpb::IsBootstrappedRequest| pdpb::IsBootstrappedResponse {
        header: s.header(),
        bootstrapped: s.heard.lock().bootstrapped,
    };
    let alloc = |s: &State, r: pdpb::AllocIdRequest| {
        let mut heard = s.heard.lock();
        heard.next_id += u64::from(r.count.max(1));
        pdpb::AllocIdResponse { header: s.header(), id: heard.next_id, count: r.count }
    };
    let bootstrap = |s: &State, r: pdpb::BootstrapRequest| {
        assert!(r.header.unwrap().cluster_id == CLUSTER && r.region.unwrap().peers.len() == 1);
        s.heard.lock().bootstrapped = true;
        pdpb::BootstrapResponse { header: s.header(), ..Default::default() }
    };
    let put = |s: &State, r: pdpb::PutStoreRequest| {
        let store = r.store.unwrap();
        s.heard.lock().stores.insert(store.id, store);
        pdpb::PutStoreResponse { header: s.header(), ..Default::default() }
    };
    let beat = |s: &State, r: pdpb::StoreHeartbeatRequest| {
        *s.heard.lock().store_heartbeats.entry(r.stats.unwrap().store_id).or_default() += 1;
        let cluster_version = "8.5.7".into();
        pdpb::StoreHeartbeatResponse { header: s.header(), state: 1, cluster_version, ..Default::default() }
    };
    let ask = |s: &State, r: pdpb::AskBatchSplitRequest| {
        let mut heard = s.heard.lock();
        let mut id = || {
            heard.next_id += 1;
            heard.next_id
        };
        let peers = r.region.unwrap().peers.len();
        let one = |_| pdpb::SplitId { new_region_id: id(), new_peer_ids: (0..peers).map(|_| id()).collect() };
        pdpb::AskBatchSplitResponse { header: s.header(), ids: (0..r.split_count).map(one).collect() }
    };
    let report = |s: &State, _: pdpb::ReportBatchSplitRequest| pdpb::ReportBatchSplitResponse { header: s.header() };
    let routes = unary(Router::new(), state, "GetMembers", members);
    let routes = unary(routes, state, "IsBootstrapped", is_bootstrapped);
    let routes = unary(routes, state, "AllocID", alloc);
    let routes = unary(routes, state, "Bootstrap", bootstrap);
    let routes = unary(routes, state, "PutStore", put);
    let routes = unary(routes, state, "StoreHeartbeat", beat);
    let routes = unary(routes, state, "AskBatchSplit", ask);
    let routes = unary(routes, state, "ReportBatchSplit", report);
    let routes = unary(routes, state, "GetRegion", |s, r: pdpb::GetRegionRequest| get_region(s, &r.region_key));
    let (beats, tso) = (state.clone(), state.clone());
    let beats = move |request: axum::extract::Request| {
        let state = beats.clone();
        async move {
            let service = tower::service_fn(move |request| state.clone().region_heartbeat(request));
            let codec = ProstCodec::<pdpb::RegionHeartbeatResponse, pdpb::RegionHeartbeatRequest>::default();
            Grpc::new(codec).streaming(service, request).await
        }
    };
    let tso = move |request: axum::extract::Request| {
        let state = tso.clone();
        async move {
            let service = tower::service_fn(move |request| state.clone().tso(request));
            Grpc::new(ProstCodec::<pdpb::TsoResponse, pdpb::TsoRequest>::default()).streaming(service, request).await
        }
    };
    routes.route("/pdpb.PD/RegionHeartbeat", any(beats)).route("/pdpb.PD/Tso", any(tso)).merge(rest(state))
}

fn get_region(state: &State, key: &[u8]) -> pdpb::GetRegionResponse {
    let inside = |r: &&metapb::Region| r.start_key[..] <= *key && (r.end_key.is_empty() || *key < r.end_key[..]);
    let heard = state.heard.lock();
    let region = heard.regions.values().filter_map(|b| b.region.as_ref()).find(inside).cloned();
    pdpb::GetRegionResponse { header: state.header(), region, ..Default::default() }
}

/// The REST calls that the load driver makes.
fn rest(state: &State) -> Router {
    let [delete, store, count, sum] = [(); 4].map(|()| state.clone());
    let delete = move |Path(id): Path<u64>| delete.clone().delete(id);
    let store = move |Path(id): Path<u64>| std::future::ready(store.store(id));
    let regions = |s: &State| serde_json::json!({ "count": s.heard.lock().regions.len() }).to_string();
    let count = move || std::future::ready(regions(&count));
    let sum = move || std::future::ready(regions(&sum));
    Router::new()
        .route("/pd/api/v1/store/{id}", axum::routing::delete(delete).get(store))
        .route("/pd/api/v1/stores/limit", axum::routing::post(|| async { "\"Set store limit successfully.\"" }))
        .route("/pd/api/v1/regions/count", axum::routing::get(count))
        .route("/pd/api/v1/stats/region", axum::routing::get(sum))
        .route("/metrics", axum::routing::get(|| async { "pd_checker_patrol_regions_time 1.5\n" }))
}

/// A running server. It has a runtime of its own, so that it can be torn down with all its connections.
pub(super) struct Fake {
    pub(super) state: State,
    pub(super) addr: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Fake {
    pub(super) fn start() -> Self {
        Self::listen(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), Arc::default())
    }

    fn listen(listener: std::net::TcpListener, heard: Arc<Mutex<Heard>>) -> Self {
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = State { heard, changed: Arc::new(watch::Sender::new(0)), url: format!("http://{addr}").into() };
        let routes = tonic::service::Routes::from(routes(&state));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let _ = tonic::transport::Server::builder()
                .accept_http1(true)
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await;
        });
        Self { state, addr, runtime: Some(runtime) }
    }

    /// Breaks all connections and starts again at the same address with what is known so far, less the regions.
    pub(super) async fn restart(mut self) -> Self {
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
        }
        let listener = std::net::TcpListener::bind(self.addr).unwrap();
        {
            let mut heard = self.state.heard.lock();
            heard.regions.clear();
            heard.streams.clear();
        }
        Self::listen(listener, self.state.heard.clone())
    }
}
