//! Regions and stores as their nodes would report them: for recordings and for other members.

use std::sync::Arc;

use super::{READ_THREADS, region_parts, store_stats_to_wire};
use crate::{
    model::{Mono, PeerTraffic, Region, StoreId, StoreStats},
    proto::pdpb,
    store::StoreInfo,
};

/// A region as its leader would report it.
pub fn region_report(region: &Region) -> pdpb::RegionHeartbeatRequest {
    let (meta, leader, down_peers, pending_peers) = region_parts(region);
    let flow = &region.flow;
    pdpb::RegionHeartbeatRequest {
        region: Some(meta),
        leader,
        down_peers,
        pending_peers,
        term: region.term,
        approximate_size: region.size_mib << 20,
        approximate_keys: region.keys,
        approximate_kv_size: region.kv_size_mib << 20,
        bytes_written: flow.bytes_written,
        bytes_read: flow.bytes_read,
        keys_written: flow.keys_written,
        keys_read: flow.keys_read,
        query_stats: Some(pdpb::QueryStats { get: flow.read_query, put: flow.write_query, ..Default::default() }),
        cpu_stats: Some(pdpb::CpuStats { unified_read: flow.cpu_usage, ..Default::default() }),
        interval: Some(pdpb::TimeInterval { start_timestamp: flow.interval.0, end_timestamp: flow.interval.1 }),
        ..Default::default()
    }
}

/// A store's report as the store would send it.
pub fn store_report(id: StoreId, stats: &StoreStats) -> pdpb::StoreStats {
    let mut info = StoreInfo::default();
    info.stats = Arc::new(stats.clone());
    // Of a store that was never heard nothing is told.
    info.last_heartbeat = Some(Mono(0));
    let queries = |get, put| (get + put > 0).then(|| pdpb::QueryStats { get, put, ..pdpb::QueryStats::default() });
    let peer = |told: &PeerTraffic| pdpb::PeerStat {
        region_id: told.region.0,
        read_bytes: told.bytes_read,
        read_keys: told.keys_read,
        query_stats: queries(told.read_query, 0),
        cpu_stats: (told.cpu > 0).then(|| pdpb::CpuStats { unified_read: told.cpu, ..pdpb::CpuStats::default() }),
        ..pdpb::PeerStat::default()
    };
    let cpu = (stats.read_cpu > 0)
        .then(|| pdpb::RecordPair { key: READ_THREADS.to_owned(), value: stats.read_cpu })
        .into_iter();
    pdpb::StoreStats {
        store_id: id.0,
        // One sort of query stands for all that count as reads, one for all that count as writes.
        query_stats: queries(stats.read_query, stats.write_query),
        cpu_usages: cpu.collect(),
        peer_stats: stats.peers.iter().map(peer).collect(),
        ..store_stats_to_wire(&info)
    }
}
