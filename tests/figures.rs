//! What `/metrics` shows of the reports of stores and regions, and of the member itself.

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
use prost::Message as _;
use refused::{
    cluster::Cluster,
    grpc::{header, region},
};
use tokio::time::{Instant, sleep};

/// Gauges are worked out every ten seconds, those of all regions every thirty.
const PATIENCE: Duration = Duration::from_secs(60);

async fn metrics(cluster: &Cluster) -> String {
    let get = Request { method: "GET".into(), target: "/metrics".into(), ..Request::default() };
    cluster.http(&get).await.text()
}

/// The value of a line of `/metrics`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_stand_in_the_figures_that_pds_panels_and_alerts_read() {
    let mut cluster = Cluster::start().await;
    let endpoint = format!("http://{}", cluster.addr());
    let mut client = PdClient::connect(endpoint).await.expect("a connection");
    let stats = pdpb::StoreStats {
        store_id: 1,
        capacity: 1 << 40,
        available: 1 << 39,
        region_count: 2,
        interval: Some(pdpb::TimeInterval { start_timestamp: 100, end_timestamp: 110 }),
        bytes_read: 1_000,
        keys_read: 20,
        bytes_written: 5_000,
        keys_written: 70,
        slow_score: 85,
        ..pdpb::StoreStats::default()
    };
    let request = pdpb::StoreHeartbeatRequest { header: header(cluster.id), stats: Some(stats), ..Default::default() };
    client.store_heartbeat(request).await.expect("an answer");
    let mut report = region(cluster.id, 2, (4, 2), "", "m", &[(21, 1), (22, 2), (23, 3)]);
    report.interval = Some(pdpb::TimeInterval { start_timestamp: 100, end_timestamp: 160 });
    report.bytes_written = 600 << 10;
    report.keys_written = 120;
    cluster.heartbeat(&report).await;
    report.leader = Some(metapb::Peer { id: 77, store_id: 1, ..metapb::Peer::default() });
    let refused = cluster.call("RegionHeartbeat", &report.encode_to_vec().into()).await;
    assert!(refused.contains("leader is not one of its peers"), "{refused}");

    let status = |kind: &str| format!("pd_scheduler_store_status{{address=\"t1:1\",store=\"1\",type=\"{kind}\"}}");
    let slow = |store| format!("pd_cluster_status{{engine=\"tikv\",store=\"{store}\",type=\"store_slow_count\"}}");
    let end = Instant::now() + PATIENCE;
    let text = loop {
        let text = metrics(&cluster).await;
        if value(&text, &status("store_regions_write_rate_keys")).is_some_and(|keys| keys > 0.0) {
            break text;
        }
        assert!(Instant::now() < end, "{text}");
        sleep(Duration::from_millis(100)).await;
    };
    for (series, wanted) in [
        (slow(1), 1.0),
        (slow(2), 0.0),
        (status("store_read_rate_bytes_instant"), 100.0),
        (status("store_read_rate_keys_instant"), 2.0),
        (status("store_write_rate_bytes_instant"), 500.0),
        (status("store_write_rate_keys_instant"), 7.0),
        (status("store_read_rate_bytes"), 100.0),
        (status("store_write_rate_keys"), 7.0),
        (status("store_regions_write_rate_bytes"), 10_240.0),
        (status("store_regions_write_rate_keys"), 2.0),
        (status("leader_count"), 2.0),
        ("etcd_server_is_leader".to_owned(), 1.0),
        (
            "pd_scheduler_region_heartbeat{address=\"t1:1\",status=\"invalid-leader\",store=\"1\",type=\"report\"}"
                .to_owned(),
            1.0,
        ),
        ("pd_tso_events{group=\"0\",type=\"sync_ok\"}".to_owned(), 1.0),
    ] {
        assert_eq!(value(&text, &series), Some(wanted), "{series}");
    }
    let index = |kind: &str| value(&text, &format!("pd_server_etcd_state{{type=\"{kind}\"}}")).expect("an index");
    assert!(index("appliedIndex") > 5.0 && index("committedIndex") >= index("appliedIndex"), "{text}");
    assert!(value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    cluster.settle().await;
    cluster.end("figures", 1, 1).await;
}
