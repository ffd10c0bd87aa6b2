//! Calls that must be refused, or answered as if they were nothing.

use berth::proto::{metapb, pdpb};
use bytes::Bytes;

use super::cluster::show;

/// Methods with a stream of requests or of answers.
pub(crate) const STREAMS: &[&str] = &["Tso", "RegionHeartbeat", "QueryRegion", "ReportBuckets", "WatchGlobalConfig"];

/// One call.
pub(crate) struct Row {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// Method.
    pub(crate) method: &'static str,
    /// Bytes of the message.
    pub(crate) request: Bytes,
    /// What the answer holds, as text: of the message or of the status.
    pub(crate) text: &'static str,
}

/// The header of every request.
pub(crate) fn header(cluster_id: u64) -> Option<pdpb::RequestHeader> {
    Some(pdpb::RequestHeader { cluster_id, ..pdpb::RequestHeader::default() })
}

/// A report of a region: the first of its peers (id, store) leads.
pub(crate) fn region(
    cluster: u64,
    id: u64,
    (conf_ver, version): (u64, u64),
    start: &str,
    end: &str,
    peers: &[(u64, u64)],
) -> pdpb::RegionHeartbeatRequest {
    let peers: Vec<_> =
        peers.iter().map(|&(id, store_id)| metapb::Peer { id, store_id, ..metapb::Peer::default() }).collect();
    pdpb::RegionHeartbeatRequest {
        header: header(cluster),
        leader: peers.first().copied(),
        region: Some(metapb::Region {
            id,
            start_key: start.to_owned().into(),
            end_key: end.to_owned().into(),
            region_epoch: Some(metapb::RegionEpoch { conf_ver, version }),
            peers,
            ..metapb::Region::default()
        }),
        approximate_size: 96 << 20,
        approximate_keys: 1000,
        term: 6,
        ..pdpb::RegionHeartbeatRequest::default()
    }
}

/// Bytes of an answer as text.
pub(crate) fn text(method: &str, bytes: &Bytes) -> String {
    match method {
        "Tso" => show::<pdpb::TsoResponse>("pdpb.TsoResponse", bytes),
        "RegionHeartbeat" => show::<pdpb::RegionHeartbeatResponse>("pdpb.RegionHeartbeatResponse", bytes),
        "Bootstrap" => show::<pdpb::BootstrapResponse>("pdpb.BootstrapResponse", bytes),
        "ScanRegions" => show::<pdpb::ScanRegionsResponse>("pdpb.ScanRegionsResponse", bytes),
        "AskBatchSplit" => show::<pdpb::AskBatchSplitResponse>("pdpb.AskBatchSplitResponse", bytes),
        "QueryRegion" => show::<pdpb::QueryRegionResponse>("pdpb.QueryRegionResponse", bytes),
        "GetMembers" => show::<pdpb::GetMembersResponse>("pdpb.GetMembersResponse", bytes),
        "StoreGlobalConfig" => show::<pdpb::StoreGlobalConfigResponse>("pdpb.StoreGlobalConfigResponse", bytes),
        "LoadGlobalConfig" => show::<pdpb::LoadGlobalConfigResponse>("pdpb.LoadGlobalConfigResponse", bytes),
        "UpdateServiceGCSafePoint" => {
            show::<pdpb::UpdateServiceGcSafePointResponse>("pdpb.UpdateServiceGCSafePointResponse", bytes)
        }
        // All that is looked for in the others is their header, which has the same place everywhere.
        _ => show::<pdpb::GetStoreResponse>("pdpb.GetStoreResponse", bytes),
    }
}

/// Collects rows.
struct Rows {
    cluster: u64,
    rows: Vec<Row>,
}

impl Rows {
    fn add(&mut self, method: &'static str, name: &'static str, request: &impl prost::Message, text: &'static str) {
        self.bytes(method, name, request.encode_to_vec(), text);
    }

    fn bytes(&mut self, method: &'static str, name: &'static str, request: Vec<u8>, text: &'static str) {
        self.rows.push(Row { name, method, request: request.into(), text });
    }

    fn header(&self) -> Option<pdpb::RequestHeader> {
        header(self.cluster)
    }
}

/// All rows for a cluster of this id.
pub(crate) fn rows(cluster: u64) -> Vec<Row> {
    let mut rows = Rows { cluster, rows: vec![] };
    other_clusters(&mut rows);
    bootstraps(&mut rows);
    stores(&mut rows);
    heartbeats(&mut rows);
    splits(&mut rows);
    look_ups(&mut rows);
    counts(&mut rows);
    others(&mut rows);
    damaged(&mut rows);
    rows.rows
}

/// L5: no header is the header of cluster 0.
fn other_clusters(rows: &mut Rows) {
    for method in [
        "IsBootstrapped",
        "Bootstrap",
        "AllocID",
        "GetStore",
        "GetAllStores",
        "PutStore",
        "StoreHeartbeat",
        "GetRegion",
        "GetPrevRegion",
        "GetRegionByID",
        "ScanRegions",
        "BatchScanRegions",
        "GetClusterConfig",
        "PutClusterConfig",
        "AskSplit",
        "AskBatchSplit",
        "ReportSplit",
        "ReportBatchSplit",
        "GetOperator",
        "GetGCSafePoint",
        "UpdateGCSafePoint",
        "UpdateServiceGCSafePoint",
        "ReportMinResolvedTS",
        "GetMinTS",
        "IsSnapshotRecovering",
        "Tso",
        "RegionHeartbeat",
        "QueryRegion",
        "ReportBuckets",
    ] {
        rows.bytes(method, "no header", vec![], "FailedPrecondition: mismatch cluster id, need ");
    }
    let other = pdpb::GetStoreRequest { header: header(rows.cluster ^ 1), store_id: 1 };
    rows.add("GetStore", "another cluster", &other, "FailedPrecondition: mismatch cluster id, need ");
}

/// Rows for a server on which no cluster was made yet.
pub(crate) fn early_rows(cluster: u64) -> Vec<Row> {
    let mut rows = Rows { cluster, rows: vec![] };
    bad_bootstraps(&mut rows);
    not_bootstrapped(&mut rows);
    rows.rows
}

/// The first store and region must be what a cluster can begin with.
fn bad_bootstraps(rows: &mut Rows) {
    let store = metapb::Store { id: 1, address: "t1:1".into(), version: "8.5.0".into(), ..metapb::Store::default() };
    let peer = metapb::Peer { id: 21, store_id: 1, ..metapb::Peer::default() };
    let region = metapb::Region {
        id: 2,
        region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
        peers: vec![peer],
        ..metapb::Region::default()
    };
    let with = |change: fn(&mut metapb::Region)| {
        let mut region = region.clone();
        change(&mut region);
        Some(region)
    };
    for (name, store, region, text) in [
        ("no store", None, Some(region.clone()), "message:\"missing store meta for bootstrap "),
        (
            "store 0",
            Some(metapb::Store { id: 0, ..store.clone() }),
            Some(region.clone()),
            "message:\"invalid zero store id\"",
        ),
        ("no region", Some(store.clone()), None, "message:\"missing region meta for bootstrap "),
        (
            "a start key",
            Some(store.clone()),
            with(|r| r.start_key = "a".into()),
            "message:\"invalid first region key range, must all be empty for bootstrap ",
        ),
        (
            "an end key",
            Some(store.clone()),
            with(|r| r.end_key = "a".into()),
            "message:\"invalid first region key range, must all be empty for bootstrap ",
        ),
        ("region 0", Some(store.clone()), with(|r| r.id = 0), "message:\"invalid zero region id\""),
        (
            "no peers",
            Some(store.clone()),
            with(|r| r.peers.clear()),
            "message:\"invalid first region peer count 0, must be 1 for bootstrap ",
        ),
        (
            "two peers",
            Some(store.clone()),
            with(|r| r.peers.push(metapb::Peer { id: 22, store_id: 2, ..metapb::Peer::default() })),
            "message:\"invalid first region peer count 2, must be 1 for bootstrap ",
        ),
        (
            "a peer elsewhere",
            Some(store.clone()),
            with(|r| r.peers[0].store_id = 2),
            "message:\"invalid peer store id 2 != 1 for bootstrap ",
        ),
        ("peer 0", Some(store), with(|r| r.peers[0].id = 0), "message:\"invalid zero peer id\""),
    ] {
        let header = rows.header();
        rows.add("Bootstrap", name, &pdpb::BootstrapRequest { header, store, region }, text);
    }
}

fn not_bootstrapped(rows: &mut Rows) {
    const TEXT: &str = "type:NOT_BOOTSTRAPPED message:\"cluster is not bootstrapped\"";
    // Only a header, which has the same place in all of them.
    let header = pdpb::GetAllStoresRequest { header: rows.header(), ..Default::default() };
    for method in [
        "GetStore",
        "GetAllStores",
        "PutStore",
        "RegionHeartbeat",
        "GetRegion",
        "GetPrevRegion",
        "GetRegionByID",
        "ScanRegions",
        "BatchScanRegions",
        "QueryRegion",
        "GetClusterConfig",
        "PutClusterConfig",
        "AskSplit",
        "AskBatchSplit",
        "ReportSplit",
        "ReportBatchSplit",
        "ScatterRegion",
        "SplitRegions",
        "GetOperator",
        "ReportBuckets",
        "ReportMinResolvedTS",
        "UpdateServiceGCSafePoint",
    ] {
        rows.add(method, "no cluster yet", &header, TEXT);
    }
    let stats = Some(pdpb::StoreStats { store_id: 1, ..pdpb::StoreStats::default() });
    let report = pdpb::StoreHeartbeatRequest { header: rows.header(), stats, ..Default::default() };
    rows.add("StoreHeartbeat", "no cluster yet", &report, TEXT);
}

fn bootstraps(rows: &mut Rows) {
    let request = pdpb::BootstrapRequest { header: rows.header(), ..Default::default() };
    rows.add("Bootstrap", "twice", &request, "type:ALREADY_BOOTSTRAPPED message:\"cluster is already bootstrapped\"");
}

fn stores(rows: &mut Rows) {
    let put = |id: u64, address: &str, version: &str| metapb::Store {
        id,
        address: address.into(),
        version: version.into(),
        ..metapb::Store::default()
    };
    let engine = metapb::StoreLabel { key: "engine".into(), value: "x".into() };
    for (name, store, text) in [
        ("none", None, "invalid put store <nil>"),
        ("a tombstone", Some(put(7, "t7:1", "8.5.0")), "type:STORE_TOMBSTONE message:\"store is tombstone\""),
        ("id 0", Some(put(0, "t8:1", "8.5.0")), "message:\"invalid put store "),
        ("the address of another", Some(put(8, "t1:1", "8.5.0")), "message:\"duplicated store address: "),
        ("the address of another, in capitals", Some(put(8, "T1:1", "8.5.0")), "message:\"duplicated store address: "),
        ("an old version", Some(put(8, "t8:1", "2.0.0")), "version should compatible with version  8.5.0, got 2.0.0"),
        ("no version", Some(put(8, "t8:1", "")), "version should compatible with version  8.5.0, got 1.0.0"),
        ("a bad version", Some(put(8, "t8:1", "eight")), "eight is not in dotted-tri format"),
        (
            "a bad engine",
            Some(metapb::Store { labels: vec![engine], ..put(8, "t8:1", "8.5.0") }),
            "type:INVALID_VALUE message:\"invalid store engine label value: ",
        ),
    ] {
        let header = rows.header();
        rows.add("PutStore", name, &pdpb::PutStoreRequest { header, store }, text);
    }
    let beat = |store_id| Some(pdpb::StoreStats { store_id, ..pdpb::StoreStats::default() });
    for (name, stats, text) in [
        ("no stats", None, "Unknown: invalid store heartbeat command, but "),
        ("unknown store", beat(99), "message:\"store 99 not found\""),
        ("store 0", beat(0), "message:\"store 0 not found\""),
        ("the highest id", beat(u64::MAX), "message:\"store 18446744073709551615 not found\""),
        ("a tombstone", beat(7), "type:STORE_TOMBSTONE"),
    ] {
        let request = pdpb::StoreHeartbeatRequest { header: rows.header(), stats, ..Default::default() };
        rows.add("StoreHeartbeat", name, &request, text);
    }
    let request = pdpb::GetStoreRequest { header: rows.header(), store_id: 999 };
    rows.add("GetStore", "unknown", &request, "message:\"invalid store ID 999, not found\"");
}

fn heartbeats(rows: &mut Rows) {
    let cluster = rows.cluster;
    let good = |id, epoch, start, end| region(cluster, id, epoch, start, end, &[(21, 1), (22, 2), (23, 3)]);
    let with_peers = |peers: &[(u64, u64)]| region(cluster, 2, (9, 9), "", "m", peers);
    let many: Vec<(u64, u64)> = (0..2000).map(|i| (1000 + i, 1 + i)).collect();
    let mut no_region = good(2, (4, 2), "", "m");
    no_region.region = None;
    let mut no_leader = good(2, (9, 9), "", "m");
    no_leader.leader = None;
    let mut foreign_leader = good(2, (9, 9), "", "m");
    foreign_leader.leader = Some(metapb::Peer { id: 77, store_id: 1, ..metapb::Peer::default() });
    let mut no_peers = good(2, (9, 9), "", "m");
    no_peers.region.get_or_insert_default().peers.clear();
    let mut no_epoch = good(2, (9, 9), "", "m");
    no_epoch.region.get_or_insert_default().region_epoch = None;
    let mut older_term = good(2, (4, 2), "", "m");
    older_term.term = 5;
    for (name, request, text) in [
        ("no region", no_region, "message:\"invalid request region, "),
        ("region 0", good(0, (9, 9), "", "m"), "message:\"invalid request region, "),
        ("no peers", no_peers, "message:\"invalid region, zero region peer count: "),
        ("no leader", no_leader, "Unknown: invalid store ID 0, not found"),
        (
            "a leader on an unknown store",
            region(cluster, 2, (9, 9), "", "m", &[(21, 99)]),
            "Unknown: invalid store ID 99, not found",
        ),
        ("a leader that is none of its peers", foreign_leader, "leader is not one of its peers"),
        ("an older version", good(2, (4, 1), "", "m"), "message:\"region is stale: region "),
        ("an older conf version", good(2, (3, 2), "", "m"), "message:\"region is stale: region "),
        ("a newer version and an older conf version", good(2, (3, 3), "", "m"), "message:\"region is stale: region "),
        ("an older term", older_term, "message:\"region is stale: region "),
        ("no epoch", no_epoch, "message:\"region is stale: region "),
        ("over another, and older", good(50, (2, 1), "a", "b"), "message:\"region is stale: region "),
        ("start above end", good(2, (9, 9), "z", "a"), "message:\"invalid region, start key is not below end key: "),
        ("start as end", good(2, (9, 9), "a", "a"), "message:\"invalid region, start key is not below end key: "),
        ("two peers on one store", with_peers(&[(21, 1), (22, 1)]), "two peers on one store"),
        ("two peers of one id", with_peers(&[(21, 1), (21, 2)]), "two peers with one id"),
        ("two thousand peers", with_peers(&many), "too many peers"),
    ] {
        rows.add("RegionHeartbeat", name, &request, text);
    }
}

fn splits(rows: &mut Rows) {
    let known = region(rows.cluster, 2, (4, 2), "", "m", &[(21, 1), (22, 2), (23, 3)]).region;
    let stale = region(rows.cluster, 2, (1, 1), "", "m", &[(21, 1)]).region;
    let header = rows.header();
    let batch = |region: &Option<metapb::Region>, split_count| pdpb::AskBatchSplitRequest {
        header: header.clone(),
        region: region.clone(),
        split_count,
        ..Default::default()
    };
    rows.add(
        "AskSplit",
        "no region",
        &pdpb::AskSplitRequest { header: header.clone(), region: None },
        "type:REGION_NOT_FOUND message:\"missing region for split\"",
    );
    rows.add(
        "AskSplit",
        "a stale epoch",
        &pdpb::AskSplitRequest { header: header.clone(), region: stale.clone() },
        "message:\"invalid region epoch, request: ",
    );
    rows.add(
        "AskBatchSplit",
        "no region",
        &batch(&None, 1),
        "type:REGION_NOT_FOUND message:\"missing region for split\"",
    );
    rows.add("AskBatchSplit", "a stale epoch", &batch(&stale, 1), "message:\"invalid region epoch, request: ");
    rows.add("AskBatchSplit", "a huge count", &batch(&known, u32::MAX), "message:\"too many regions to split into: ");
    let report = pdpb::ReportSplitRequest { header: header.clone(), ..Default::default() };
    rows.add("ReportSplit", "nothing", &report, "message:\"invalid split region\"");
    let report = pdpb::ReportSplitRequest { left: known.clone(), ..report };
    rows.add("ReportSplit", "left only", &report, "message:\"invalid split region\"");
    let report = pdpb::ReportSplitRequest { right: stale, ..report };
    rows.add("ReportSplit", "parts that do not meet", &report, "message:\"invalid split region\"");
    let report = pdpb::ReportBatchSplitRequest { header: header.clone(), regions: vec![] };
    rows.add("ReportBatchSplit", "none", &report, "message:\"invalid split region\"");
    let report = pdpb::ReportBatchSplitRequest { regions: known.into_iter().collect(), header };
    rows.add("ReportBatchSplit", "one", &report, "message:\"invalid split region\"");
}

fn look_ups(rows: &mut Rows) {
    let range =
        |start: &str, end: &str| pdpb::KeyRange { start_key: start.to_owned().into(), end_key: end.to_owned().into() };
    let header = rows.header();
    let batch =
        |ranges| pdpb::BatchScanRegionsRequest { header: header.clone(), ranges, limit: 10, ..Default::default() };
    rows.add(
        "BatchScanRegions",
        "start above end",
        &batch(vec![range("z", "a")]),
        "message:\"invalid key range, start key > end key\"",
    );
    rows.add(
        "BatchScanRegions",
        "ranges over each other",
        &batch(vec![range("a", "p"), range("n", "z")]),
        "message:\"invalid key range, ranges overlapped\"",
    );
    rows.add(
        "BatchScanRegions",
        "too many ranges",
        &batch(vec![pdpb::KeyRange::default(); 10_241]),
        "message:\"too many key ranges: ",
    );
    let scan = |start: &str, limit, end: &str| pdpb::ScanRegionsRequest {
        header: header.clone(),
        start_key: start.to_owned().into(),
        limit,
        end_key: end.to_owned().into(),
    };
    rows.add("ScanRegions", "start above end", &scan("z", 10, "a"), "header:<cluster_id:");
    rows.add("ScanRegions", "the lowest limit", &scan("", i32::MIN, ""), "regions:<region:<id:2 ");
    let by_id = pdpb::GetRegionByIdRequest { header: header.clone(), region_id: u64::MAX, ..Default::default() };
    rows.add("GetRegionByID", "the highest id", &by_id, "header:<cluster_id:");
    let query = pdpb::QueryRegionRequest { header: header.clone(), ids: (1..=10_241).collect(), ..Default::default() };
    rows.add("QueryRegion", "too many look-ups", &query, "message:\"too many queries: ");
    let key = pdpb::GetRegionRequest { header, region_key: vec![0xff; 1 << 20].into(), ..Default::default() };
    rows.add("GetRegion", "a key of a megabyte", &key, "header:<cluster_id:");
}

fn counts(rows: &mut Rows) {
    for (name, count, text) in [
        (
            "no count",
            0,
            "Unknown: [PD:tso:ErrGenerateTimestamp]generate timestamp failed, tso count should be positive",
        ),
        (
            "2^18",
            1 << 18,
            "Unknown: [PD:tso:ErrGenerateTimestamp]generate timestamp failed, generate tso maximum number of retries exceeded",
        ),
        ("the highest count", u32::MAX, "Unknown: [PD:tso:ErrGenerateTimestamp]"),
    ] {
        let request = pdpb::TsoRequest { header: rows.header(), count, ..Default::default() };
        rows.add("Tso", name, &request, text);
    }
    let request = pdpb::AllocIdRequest { header: rows.header(), count: u32::MAX };
    rows.add(
        "AllocID",
        "the highest count",
        &request,
        "message:\"too many ids asked for at once: 4294967295, the most is 10000\"",
    );
}

fn others(rows: &mut Rows) {
    let header = rows.header();
    let request = pdpb::PutClusterConfigRequest { header: header.clone(), cluster: None };
    rows.add("PutClusterConfig", "none", &request, "message:\"invalid cluster <nil>, mismatch cluster id ");
    let request = pdpb::GetOperatorRequest { header: header.clone(), region_id: 999 };
    rows.add("GetOperator", "none", &request, "type:REGION_NOT_FOUND message:\"Not Found\"");
    let request = pdpb::ReportMinResolvedTsRequest { header: header.clone(), store_id: 99, min_resolved_ts: 1 };
    rows.add("ReportMinResolvedTS", "unknown store", &request, "Unknown: [PD:core:ErrStoreNotFound]store 99 not found");
    let request = pdpb::UpdateGcSafePointRequest { header: header.clone(), safe_point: u64::MAX };
    rows.add(
        "UpdateGCSafePoint",
        "above the transaction safe point",
        &request,
        "Unknown: [PD:gc:ErrGCSafePointExceedsTxnSafePoint]",
    );
    let service = |id: &str, ttl| pdpb::UpdateServiceGcSafePointRequest {
        header: header.clone(),
        service_id: id.to_owned().into(),
        ttl,
        safe_point: 20,
    };
    rows.add(
        "UpdateServiceGCSafePoint",
        "gc_worker for a time",
        &service("gc_worker", 300),
        "Unknown: TTL of gc_worker's service safe point must be infinity",
    );
    rows.add("UpdateServiceGCSafePoint", "no name", &service("", 300), "Unknown: [PD:common:ErrInvalidArgument]");
    rows.add("UpdateServiceGCSafePoint", "the lowest time", &service("x", i64::MIN), "header:<cluster_id:");
    let path = pdpb::StoreGlobalConfigRequest { config_path: "/pd/".into(), ..Default::default() };
    rows.add(
        "StoreGlobalConfig",
        "a path of its own",
        &path,
        "InvalidArgument: global config path \"/pd/\" is not allowed",
    );
    let path = pdpb::LoadGlobalConfigRequest { config_path: "/pd/".into(), ..Default::default() };
    rows.add(
        "LoadGlobalConfig",
        "a path of its own",
        &path,
        "InvalidArgument: global config path \"/pd/\" is not allowed",
    );
    let path = pdpb::WatchGlobalConfigRequest { config_path: "/pd/".into(), ..Default::default() };
    rows.add(
        "WatchGlobalConfig",
        "a path of its own",
        &path,
        "InvalidArgument: global config path \"/pd/\" is not allowed",
    );
    for (name, keys, text) in [
        ("too many keys", vec![Bytes::from_static(b"a"); 20_000], "InvalidArgument: too many bucket keys: "),
        ("too long keys", vec![vec![b'a'; 600 << 10].into(); 2], "InvalidArgument: too many bucket bytes: 1228800, "),
    ] {
        let buckets = metapb::Buckets { region_id: 2, version: 1, keys, ..metapb::Buckets::default() };
        let request =
            pdpb::ReportBucketsRequest { header: header.clone(), buckets: Some(buckets), ..Default::default() };
        rows.add("ReportBuckets", name, &request, text);
    }
}

/// Bytes that are no message, or not the one that is expected.
fn damaged(rows: &mut Rows) {
    rows.bytes("GetMembers", "an unknown field", vec![0xfa, 0x7f, 3, 1, 2, 3], "header:<cluster_id:");
    // A header, field 1, as a number.
    rows.bytes("GetStore", "a wrong wire type", vec![0x08, 1], "failed to decode Protobuf message");
    rows.bytes("GetStore", "a length beyond the end", vec![0x0a, 0x7f, 1], "failed to decode Protobuf message");
    rows.bytes(
        "GetStore",
        "a number without an end",
        vec![0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        "failed to decode Protobuf message",
    );
    rows.bytes("GetStore", "groups in groups", vec![0x7b; 100_000], "failed to decode Protobuf message");
    rows.bytes(
        "PutStore",
        "an address that is no text",
        vec![0x12, 4, 0x12, 2, 0xff, 0xfe],
        "failed to decode Protobuf message",
    );
    rows.bytes("RegionHeartbeat", "noise", (0..255).collect(), "failed to decode Protobuf message");
    rows.bytes(
        "NoSuchMethod",
        "an unknown method",
        vec![],
        "Unimplemented: unknown method NoSuchMethod for service pdpb.PD",
    );
}
