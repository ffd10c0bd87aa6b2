//! The storage nodes of cluster D: what `stub-cluster.json` says, over gRPC. Nothing moves unless a test says so.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use berth::{
    model::Clock as _,
    proto::{metapb, pdpb, pdpb::pd_client::PdClient},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::clock::TestClock;

/// How long a store heartbeat says it covers, seconds.
const STORE_INTERVAL: u64 = 10;
/// How long a region heartbeat says it covers, seconds.
const REGION_INTERVAL: u64 = 60;
/// How long the server may take to show what a heartbeat changed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A region as its nodes know it.
#[derive(Clone, Debug)]
pub(crate) struct StubRegion {
    /// What is sent with each heartbeat, but for the interval.
    pub(crate) report: pdpb::RegionHeartbeatRequest,
}

impl StubRegion {
    /// Its description.
    pub(crate) fn meta(&mut self) -> &mut metapb::Region {
        self.report.region.get_or_insert_default()
    }

    /// Its epoch.
    pub(crate) fn epoch(&mut self) -> &mut metapb::RegionEpoch {
        self.meta().region_epoch.get_or_insert_default()
    }

    /// The peer on a store.
    pub(crate) fn peer_on(&mut self, store: u64) -> Option<&mut metapb::Peer> {
        self.meta().peers.iter_mut().find(|p| p.store_id == store)
    }

    /// Whether a peer is on a store.
    pub(crate) fn is_on(&self, store: u64) -> bool {
        self.report.region.iter().flat_map(|r| &r.peers).any(|p| p.store_id == store)
    }

    /// Takes the peer on a store out: `conf_ver` grows by one, another peer leads if it led.
    pub(crate) fn drop_peer(&mut self, store: u64) {
        let Some(gone) = self.peer_on(store).cloned() else { return };
        self.meta().peers.retain(|p| p.id != gone.id);
        self.epoch().conf_ver += 1;
        self.report.down_peers.retain(|d| d.peer.as_ref().is_none_or(|p| p.id != gone.id));
        self.report.pending_peers.retain(|p| p.id != gone.id);
        if self.report.leader.as_ref().is_some_and(|l| l.id == gone.id) {
            self.report.leader = self.meta().peers.first().cloned();
            self.report.term += 1;
        }
    }
}

type Commands = Arc<Mutex<HashMap<u64, Vec<pdpb::RegionHeartbeatResponse>>>>;

/// The nodes.
pub(crate) struct Stub {
    client: PdClient<Channel>,
    cluster_id: u64,
    clock: Arc<TestClock>,
    stores: BTreeMap<u64, (metapb::Store, Value)>,
    silent: Vec<u64>,
    /// Regions by id.
    pub(crate) regions: BTreeMap<u64, StubRegion>,
    streams: HashMap<u64, mpsc::Sender<pdpb::RegionHeartbeatRequest>>,
    commands: Commands,
    buckets: Value,
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn query_stats(value: &Value) -> Option<pdpb::QueryStats> {
    let stats = value.get("query_stats")?;
    Some(pdpb::QueryStats {
        get: number(stats, "Get"),
        scan: number(stats, "Scan"),
        coprocessor: number(stats, "Coprocessor"),
        put: number(stats, "Put"),
        prewrite: number(stats, "Prewrite"),
        commit: number(stats, "Commit"),
        ..pdpb::QueryStats::default()
    })
}

fn cpu_usage(value: &Value) -> pdpb::RecordPair {
    pdpb::RecordPair { key: text(value, "key"), value: number(value, "value") }
}

fn peer_stat(value: &Value) -> pdpb::PeerStat {
    pdpb::PeerStat {
        region_id: number(value, "region_id"),
        read_keys: number(value, "read_keys"),
        read_bytes: number(value, "read_bytes"),
        query_stats: query_stats(value),
        ..pdpb::PeerStat::default()
    }
}

fn store(value: &Value) -> metapb::Store {
    let meta = &value["meta"];
    let label = |l: &Value| metapb::StoreLabel { key: text(l, "key"), value: text(l, "value") };
    metapb::Store {
        id: number(meta, "id"),
        address: text(meta, "address"),
        labels: meta["labels"].as_array().into_iter().flatten().map(label).collect(),
        version: text(meta, "version"),
        peer_address: text(meta, "peer_address"),
        status_address: text(meta, "status_address"),
        git_hash: text(meta, "git_hash"),
        start_timestamp: i64::try_from(number(meta, "start_timestamp")).expect("a time"),
        deploy_path: text(meta, "deploy_path"),
        ..metapb::Store::default()
    }
}

fn region(value: &Value) -> StubRegion {
    let key = |name: &str| hex::decode(text(value, name)).expect("hex").into();
    let peer = |p: &Value| metapb::Peer {
        id: number(p, "id"),
        store_id: number(p, "store_id"),
        role: i32::from(p["role"] == "Learner"),
        ..metapb::Peer::default()
    };
    let peers: Vec<metapb::Peer> = value["peers"].as_array().into_iter().flatten().map(peer).collect();
    let by_id = |id: u64| peers.iter().find(|p| p.id == id).cloned();
    let down =
        |d: &Value| pdpb::PeerStats { peer: by_id(number(d, "peer_id")), down_seconds: number(d, "down_seconds") };
    let cpu = value
        .get("cpu_stats")
        .map(|c| pdpb::CpuStats { unified_read: number(c, "UnifiedRead"), scheduler: number(c, "Scheduler") });
    #[allow(deprecated)] // nodes still send it
    let report = pdpb::RegionHeartbeatRequest {
        region: Some(metapb::Region {
            id: number(value, "id"),
            start_key: key("start_key"),
            end_key: key("end_key"),
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: number(&value["region_epoch"], "conf_ver"),
                version: number(&value["region_epoch"], "version"),
            }),
            peers: peers.clone(),
            ..metapb::Region::default()
        }),
        leader: by_id(number(value, "leader")),
        term: number(value, "term"),
        down_peers: value["down_peers"].as_array().into_iter().flatten().map(down).collect(),
        pending_peers: value["pending_peers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|id| by_id(id.as_u64().unwrap_or(0)))
            .collect(),
        approximate_size: number(value, "approximate_size"),
        approximate_keys: number(value, "approximate_keys"),
        approximate_kv_size: number(value, "approximate_kv_size"),
        bytes_written: number(value, "bytes_written"),
        keys_written: number(value, "keys_written"),
        bytes_read: number(value, "bytes_read"),
        keys_read: number(value, "keys_read"),
        query_stats: query_stats(value),
        cpu_stats: cpu,
        cpu_usage: number(value, "cpu_usage"),
        ..pdpb::RegionHeartbeatRequest::default()
    };
    StubRegion { report }
}

impl Stub {
    /// Connects to a server and knows what the nodes know; nothing is sent yet.
    pub(crate) async fn connect(addr: SocketAddr, clock: Arc<TestClock>, compat: &Path) -> Self {
        let text = std::fs::read_to_string(compat.join("stub-cluster.json")).expect("stub-cluster.json");
        let input: Value = serde_json::from_str(&text).expect("JSON");
        let mut client = PdClient::connect(format!("http://{addr}")).await.expect("the server listens");
        let members = client.get_members(pdpb::GetMembersRequest::default()).await.expect("members").into_inner();
        let list = |key: &str| input[key].as_array().cloned().unwrap_or_default();
        Self {
            client,
            cluster_id: members.header.map(|h| h.cluster_id).unwrap_or_default(),
            clock,
            stores: list("stores")
                .iter()
                .map(|s| (number(&s["meta"], "id"), (store(s), s["heartbeat"].clone())))
                .collect(),
            silent: Vec::new(),
            regions: list("regions").iter().map(|r| (number(r, "id"), region(r))).collect(),
            streams: HashMap::new(),
            commands: Commands::default(),
            buckets: input["buckets"].clone(),
        }
    }

    /// The header of every request.
    pub(crate) fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader { cluster_id: self.cluster_id, ..pdpb::RequestHeader::default() })
    }

    /// A client of its own.
    pub(crate) fn client(&self) -> PdClient<Channel> {
        self.client.clone()
    }

    /// The set-up steps up to the first heartbeats; halting the schedulers is an HTTP request and the caller's.
    pub(crate) async fn bootstrap(&mut self) {
        let header = self.header();
        for _ in 0..200 {
            let request = pdpb::AllocIdRequest { header: header.clone(), ..pdpb::AllocIdRequest::default() };
            self.client.alloc_id(request).await.expect("an id");
        }
        let peer = metapb::Peer { id: 11, store_id: 1, ..metapb::Peer::default() };
        let first = metapb::Region {
            id: 10,
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
            peers: vec![peer],
            ..metapb::Region::default()
        };
        let request = pdpb::BootstrapRequest { header, store: Some(self.stores[&1].0.clone()), region: Some(first) };
        let answer = self.client.bootstrap(request).await.expect("a bootstrap").into_inner();
        assert_eq!(answer.header.and_then(|h| h.error), None);
    }

    /// Registers the stores and sends every first heartbeat.
    pub(crate) async fn join(&mut self) {
        for (store, _) in self.stores.values() {
            let request = pdpb::PutStoreRequest { header: self.header(), store: Some(store.clone()) };
            let answer = self.client.clone().put_store(request).await.expect("a store").into_inner();
            assert_eq!(answer.header.and_then(|h| h.error), None);
        }
        self.store_heartbeats().await;
        self.all_regions().await;
    }

    /// Sends a heartbeat of every store that is not silent.
    pub(crate) async fn store_heartbeats(&mut self) {
        let now = u64::try_from(self.clock.now().wall.unix_seconds()).expect("after 1970");
        for (id, (_, said)) in self.stores.clone() {
            if self.silent.contains(&id) {
                continue;
            }
            let regions = self.regions.values().filter(|r| r.is_on(id)).count();
            let small = |key: &str| u32::try_from(number(&said, key)).expect("a small number");
            let stats = pdpb::StoreStats {
                store_id: id,
                capacity: number(&said, "capacity"),
                available: number(&said, "available"),
                used_size: number(&said, "used_size"),
                region_count: u32::try_from(regions).expect("a small number"),
                start_time: small("start_time"),
                sending_snap_count: small("sending_snap_count"),
                receiving_snap_count: small("receiving_snap_count"),
                is_busy: said["is_busy"] == true,
                slow_score: number(&said, "slow_score"),
                bytes_written: number(&said, "bytes_written"),
                keys_written: number(&said, "keys_written"),
                bytes_read: number(&said, "bytes_read"),
                keys_read: number(&said, "keys_read"),
                query_stats: query_stats(&said),
                cpu_usages: said["cpu_usages"].as_array().into_iter().flatten().map(cpu_usage).collect(),
                peer_stats: said["peer_stats"].as_array().into_iter().flatten().map(peer_stat).collect(),
                interval: Some(pdpb::TimeInterval { start_timestamp: now - STORE_INTERVAL, end_timestamp: now }),
                ..pdpb::StoreStats::default()
            };
            let request = pdpb::StoreHeartbeatRequest {
                header: self.header(),
                stats: Some(stats),
                ..pdpb::StoreHeartbeatRequest::default()
            };
            // A store whose record was removed is refused, which is the server's matter.
            _ = self.client.store_heartbeat(request).await;
        }
    }

    /// A store stops its heartbeats.
    pub(crate) fn silence(&mut self, store: u64) {
        self.silent.push(store);
    }

    /// Sends the heartbeats of all regions in order of id.
    pub(crate) async fn all_regions(&mut self) {
        let ids: Vec<u64> = self.regions.keys().copied().collect();
        for id in ids {
            self.region(id).await;
        }
    }

    /// Sends a region's heartbeat on the stream of its leader's store.
    pub(crate) async fn region(&mut self, id: u64) {
        let report = self.regions[&id].report.clone();
        self.send(report).await;
    }

    /// Sends a heartbeat and waits until the server has taken it in, or has had time to refuse it.
    pub(crate) async fn send(&mut self, mut report: pdpb::RegionHeartbeatRequest) {
        let now = u64::try_from(self.clock.now().wall.unix_seconds()).expect("after 1970");
        report.header = self.header();
        report.interval = Some(pdpb::TimeInterval { start_timestamp: now - REGION_INTERVAL, end_timestamp: now });
        let store = report.leader.as_ref().map_or(0, |l| l.store_id);
        let stream = self.stream(store).await;
        stream.send(report).await.expect("the stream is open");
    }

    async fn stream(&mut self, store: u64) -> mpsc::Sender<pdpb::RegionHeartbeatRequest> {
        if let Some(stream) = self.streams.get(&store) {
            return stream.clone();
        }
        let (sender, receiver) = mpsc::channel(64);
        let mut client = self.client.clone();
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let Ok(answers) = client.region_heartbeat(ReceiverStream::new(receiver)).await else { return };
            let mut answers = answers.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                if answer.region_id != 0 {
                    commands.lock().entry(answer.region_id).or_default().push(answer);
                }
            }
        });
        self.streams.insert(store, sender.clone());
        sender
    }

    /// The commands that came for a region since the last look.
    pub(crate) fn take_commands(&self, region: u64) -> Vec<pdpb::RegionHeartbeatResponse> {
        self.commands.lock().remove(&region).unwrap_or_default()
    }

    /// Forgets all commands that came.
    pub(crate) fn forget_commands(&self) {
        self.commands.lock().clear();
    }

    /// The last command that came for a region.
    pub(crate) fn last_command(&self, region: u64) -> Option<pdpb::RegionHeartbeatResponse> {
        self.commands.lock().get(&region).and_then(|list| list.last().cloned())
    }

    /// Waits until the server shows a region as the nodes have it.
    pub(crate) async fn settled(&mut self, id: u64) {
        let wanted = self.regions[&id].report.region.clone().expect("a region");
        let leader = self.regions[&id].report.leader;
        self.until(&format!("region {id} is as reported"), async |stub: &mut Self| {
            let request = pdpb::GetRegionByIdRequest {
                header: stub.header(),
                region_id: id,
                ..pdpb::GetRegionByIdRequest::default()
            };
            let answer = stub.client.get_region_by_id(request).await.expect("an answer").into_inner();
            answer.region.is_some_and(|r| r.region_epoch == wanted.region_epoch && r.peers == wanted.peers)
                && answer.leader == leader
        })
        .await;
    }

    /// Reports the buckets of region 80.
    pub(crate) async fn report_buckets(&mut self, version: u64) {
        let said = &self.buckets;
        let list = |key: &str| said["stats"][key].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let key = |key: &Value| hex::decode(key.as_str().expect("hex")).expect("hex").into();
        let stats = metapb::BucketStats {
            read_bytes: list("read_bytes"),
            write_bytes: list("write_bytes"),
            read_qps: list("read_qps"),
            write_qps: list("write_qps"),
            read_keys: list("read_keys"),
            write_keys: list("write_keys"),
        };
        let buckets = metapb::Buckets {
            region_id: 80,
            version,
            keys: said["keys"].as_array().into_iter().flatten().map(key).collect(),
            stats: Some(stats),
            period_in_ms: number(said, "period_in_ms"),
        };
        let report = pdpb::ReportBucketsRequest { header: self.header(), buckets: Some(buckets), ..Default::default() };
        self.client.report_buckets(tokio_stream::iter([report])).await.expect("an answer");
    }

    /// Waits for a condition.
    pub(crate) async fn until(&mut self, what: &str, mut is_so: impl AsyncFnMut(&mut Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !is_so(self).await {
            assert!(tokio::time::Instant::now() < end, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
