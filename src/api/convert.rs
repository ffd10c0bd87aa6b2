//! Wire ↔ model, and the checks that belong to it: what comes out of here is well formed.
//!
//! Owns: every mapping between `metapb`/`pdpb` and `model`, and PD's texts for messages that cannot be mapped. Must not know:
//! what is done with the values.

mod report;
pub mod warm;

pub use report::{region_report, store_report};

use std::{collections::HashSet, sync::Arc};

use prost::bytes::Bytes;

use super::{compact_text::compact, error::ApiError};
use crate::{
    meta::LimitKind,
    model::{
        ClusterId, DownPeer, Epoch, Flow, Key, KeyRange, Mono, NodeState, Peer, PeerId, PeerTraffic, RareFields,
        Region, RegionId, RegionMeta, Role, StoreId, StoreLabel, StoreRecord, StoreState, StoreStats, Wall,
        bucket::{Bucket, Buckets},
    },
    proto::{encryptionpb, eraftpb, metapb, pdpb},
    scheduler::effect::{Command, CommandKind, PeerChange},
    store::StoreInfo,
};

/// Most replicas of a region. Placement asks for a handful; a report with more is damaged or hostile.
pub const MAX_PEERS: usize = 1024;

/// Longest description of a region's encryption that is kept, bytes: it names a key and a file or two.
const MAX_ENCRYPTION_META: usize = 4 << 10;

/// Most peers whose reads are taken from one report: nodes tell of their busiest, far fewer.
const MAX_PEER_STATS: usize = 10_000;

/// How the names of the threads begin that serve reads.
pub(crate) const READ_THREADS: &str = "unified-read-po";

const MIB: u64 = 1 << 20;

/// PD's name of a limit.
pub fn limit_name(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::AddPeer => "add-peer",
        LimitKind::RemovePeer => "remove-peer",
    }
}

/// A key for the wire.
pub fn key_to_wire(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn role(peer: &metapb::Peer) -> Role {
    // An unknown number reads as Voter, as in every proto3 decoder with closed enums.
    match metapb::PeerRole::try_from(peer.role).unwrap_or_default() {
        metapb::PeerRole::Voter => Role::Voter,
        metapb::PeerRole::Learner => Role::Learner,
        metapb::PeerRole::IncomingVoter => Role::IncomingVoter,
        metapb::PeerRole::DemotingVoter => Role::DemotingVoter,
    }
}

/// A peer from the wire.
pub fn peer(peer: &metapb::Peer) -> Peer {
    Peer { id: PeerId(peer.id), store: StoreId(peer.store_id), role: role(peer), is_witness: peer.is_witness }
}

/// A peer for the wire.
pub fn peer_to_wire(peer: &Peer) -> metapb::Peer {
    metapb::Peer { id: peer.id.0, store_id: peer.store.0, role: peer.role as i32, is_witness: peer.is_witness }
}

/// An epoch for the wire.
pub fn epoch_to_wire(epoch: Epoch) -> metapb::RegionEpoch {
    metapb::RegionEpoch { conf_ver: epoch.conf_ver, version: epoch.version }
}

/// An epoch from the wire; a missing one is (0, 0).
pub fn epoch(epoch: Option<&metapb::RegionEpoch>) -> Epoch {
    epoch.map_or_else(Epoch::default, |e| Epoch::new(e.conf_ver, e.version))
}

/// A region's identity, range, epoch and peers. Does not check them.
pub fn region_meta(region: &metapb::Region) -> RegionMeta {
    RegionMeta {
        id: RegionId(region.id),
        range: KeyRange::new(&region.start_key[..], &region.end_key[..]),
        epoch: epoch(region.region_epoch.as_ref()),
        peers: region.peers.iter().map(peer).collect(),
    }
}

/// The same for the wire.
pub fn region_meta_to_wire(meta: &RegionMeta) -> metapb::Region {
    metapb::Region {
        id: meta.id.0,
        start_key: key_to_wire(&meta.range.start),
        end_key: key_to_wire(&meta.range.end),
        region_epoch: Some(epoch_to_wire(meta.epoch)),
        peers: meta.peers.iter().map(peer_to_wire).collect(),
        ..metapb::Region::default()
    }
}

/// A region as texts show it, keys in hex; without the blank at the end.
pub fn hex_region_text(region: &metapb::Region) -> String {
    let shown = metapb::Region {
        start_key: hex::encode_upper(&region.start_key).into(),
        end_key: hex::encode_upper(&region.end_key).into(),
        ..region.clone()
    };
    compact("metapb.Region", &shown).trim_end().to_owned()
}

/// Several regions in one text, as PD joins them.
pub fn hex_regions_text(regions: &[metapb::Region]) -> String {
    regions.iter().map(|r| hex_region_text(r) + " ").collect::<String>().trim_end().to_owned()
}

/// Checks a heartbeat and takes what Berth keeps of it. `now` is when it came.
///
/// # Errors
/// [`ApiError::Invalid`] with the text for the header, when the region cannot go into the index.
pub fn region_from_heartbeat(request: &pdpb::RegionHeartbeatRequest, now: Mono) -> Result<Region, ApiError> {
    let whole =
        || ApiError::Invalid(format!("invalid request region, {}", compact("pdpb.RegionHeartbeatRequest", request)));
    let Some(region) = request.region.as_ref().filter(|r| r.id != 0) else { return Err(whole()) };
    let why = |what: &str| Err(ApiError::Invalid(format!("invalid region, {what}: {}", hex_region_text(region))));
    if region.peers.is_empty() {
        return why("zero region peer count");
    }
    let meta = region_meta(region);
    if let Some(what) = malformed(&meta) {
        return why(what);
    }
    let leader = request.leader.as_ref().map(|p| PeerId(p.id));
    if leader.is_none_or(|id| meta.peer(id).is_none()) {
        return why("leader is not one of its peers");
    }
    let known = |p: &&metapb::Peer| meta.peer(PeerId(p.id)).is_some();
    let pending = request.pending_peers.iter().filter(known).map(|p| PeerId(p.id)).collect();
    let down = request.down_peers.iter().filter_map(|d| {
        let peer = PeerId(d.peer.as_ref()?.id);
        meta.peer(peer)?;
        Some(DownPeer { peer, seconds: d.down_seconds })
    });
    let down = down.collect();
    let replication = request.replication_status.as_ref().map_or((0, 0), |r| (r.state, r.state_id));
    Ok(Region {
        leader,
        term: request.term,
        size_mib: mib(request.approximate_size),
        size_known: request.approximate_size > 0,
        keys: request.approximate_keys,
        kv_size_mib: request.approximate_kv_size / MIB,
        down,
        pending,
        flow: flow(request),
        heard: Some(now),
        replication,
        rare: rare(request, region),
        meta: Arc::new(meta),
    })
}

/// What few regions report.
fn rare(request: &pdpb::RegionHeartbeatRequest, region: &metapb::Region) -> Option<Box<RareFields>> {
    let encryption = region.encryption_meta.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
    let rare = RareFields {
        encryption: if encryption.len() > MAX_ENCRYPTION_META { vec![] } else { encryption },
        in_flashback: region.is_in_flashback,
        flashback_start_ts: region.flashback_start_ts,
        columnar_kv_size_mib: request.approximate_columnar_kv_size / MIB,
        buckets: None,
    };
    (rare != RareFields::default()).then(|| Box::new(rare))
}

/// Buckets as their node reports them; `None` when there are none. Traffic that is missing is none.
pub fn buckets(report: &metapb::Buckets) -> Option<Buckets> {
    let count = report.keys.len().checked_sub(1)?;
    let stats = report.stats.clone().unwrap_or_default();
    let at = |list: &[u64], i: usize| list.get(i).copied().unwrap_or(0);
    let bucket = |i| Bucket {
        read_bytes: at(&stats.read_bytes, i),
        write_bytes: at(&stats.write_bytes, i),
        read_qps: at(&stats.read_qps, i),
        write_qps: at(&stats.write_qps, i),
        read_keys: at(&stats.read_keys, i),
        write_keys: at(&stats.write_keys, i),
        hot_degree: 0,
    };
    Some(Buckets {
        version: report.version,
        period_ms: report.period_in_ms,
        keys: report.keys.iter().map(|key| Key::from(&key[..])).collect(),
        buckets: (0..count).map(bucket).collect(),
    })
}

/// The buckets of a region for the wire, if it has some.
pub fn buckets_to_wire(region: &Region) -> Option<metapb::Buckets> {
    let buckets = region.buckets()?;
    let each = |of: fn(&Bucket) -> u64| buckets.buckets.iter().map(of).collect();
    Some(metapb::Buckets {
        region_id: region.id().0,
        version: buckets.version,
        keys: buckets.keys.iter().map(key_to_wire).collect(),
        stats: Some(metapb::BucketStats {
            read_bytes: each(|b| b.read_bytes),
            write_bytes: each(|b| b.write_bytes),
            read_qps: each(|b| b.read_qps),
            write_qps: each(|b| b.write_qps),
            read_keys: each(|b| b.read_keys),
            write_keys: each(|b| b.write_keys),
        }),
        period_in_ms: buckets.period_ms,
    })
}

/// What makes a region unfit for the index; `None` when it is fit.
fn malformed(meta: &RegionMeta) -> Option<&'static str> {
    if meta.range.is_empty() {
        return Some("start key is not below end key");
    }
    if meta.peers.len() > MAX_PEERS {
        return Some("too many peers");
    }
    // Nearly every region has a few peers: pairs are faster than a set.
    let twice = |same: fn(&Peer, &Peer) -> bool| {
        meta.peers.iter().enumerate().any(|(i, a)| meta.peers[..i].iter().any(|b| same(a, b)))
    };
    if meta.peers.len() <= 16 {
        if twice(|a, b| a.store == b.store) {
            return Some("two peers on one store");
        }
        return twice(|a, b| a.id == b.id).then_some("two peers with one id");
    }
    let stores: HashSet<_> = meta.peers.iter().map(|p| p.store).collect();
    let ids: HashSet<_> = meta.peers.iter().map(|p| p.id).collect();
    if stores.len() < meta.peers.len() {
        return Some("two peers on one store");
    }
    (ids.len() < meta.peers.len()).then_some("two peers with one id")
}

/// Bytes to MiB; a region that holds anything has at least 1.
fn mib(bytes: u64) -> u64 {
    if bytes == 0 { 0 } else { (bytes / MIB).max(1) }
}

fn sum(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |sum, n| sum.saturating_add(*n))
}

fn read_queries(queries: Option<&pdpb::QueryStats>) -> u64 {
    queries.map_or(0, |q| sum(&[q.get, q.scan, q.coprocessor]))
}

fn write_queries(queries: Option<&pdpb::QueryStats>) -> u64 {
    queries.map_or(0, |q| {
        sum(&[q.put, q.delete, q.delete_range, q.prewrite, q.acquire_pessimistic_lock, q.commit, q.rollback])
    })
}

fn peer_traffic(told: &pdpb::PeerStat) -> PeerTraffic {
    PeerTraffic {
        region: RegionId(told.region_id),
        bytes_read: told.read_bytes,
        keys_read: told.read_keys,
        read_query: read_queries(told.query_stats.as_ref()),
        cpu: told.cpu_stats.as_ref().map_or(0, |cpu| cpu.unified_read),
    }
}

/// What the threads for reads use: each is told for itself.
fn read_cpu(stats: &pdpb::StoreStats) -> u64 {
    let threads = stats.cpu_usages.iter().filter(|thread| thread.key.starts_with(READ_THREADS));
    threads.fold(0, |sum, thread| sum.saturating_add(thread.value))
}

fn flow(request: &pdpb::RegionHeartbeatRequest) -> Flow {
    Flow {
        bytes_written: request.bytes_written,
        bytes_read: request.bytes_read,
        keys_written: request.keys_written,
        keys_read: request.keys_read,
        read_query: read_queries(request.query_stats.as_ref()),
        write_query: write_queries(request.query_stats.as_ref()),
        cpu_usage: request.cpu_stats.as_ref().map_or(0, |c| c.unified_read),
        interval: request.interval.as_ref().map_or((0, 0), |i| (i.start_timestamp, i.end_timestamp)),
    }
}

/// What look-ups answer about a region: (meta, leader, down peers, pending peers).
pub fn region_parts(
    region: &Region,
) -> (metapb::Region, Option<metapb::Peer>, Vec<pdpb::PeerStats>, Vec<metapb::Peer>) {
    let down = region.down.iter().filter_map(|d| {
        let peer = region.meta.peer(d.peer).map(peer_to_wire);
        peer.is_some().then_some(pdpb::PeerStats { peer, down_seconds: d.seconds })
    });
    let pending = region.pending.iter().filter_map(|id| region.meta.peer(*id)).map(peer_to_wire);
    let mut meta = region_meta_to_wire(&region.meta);
    if let Some(rare) = &region.rare {
        meta.is_in_flashback = rare.in_flashback;
        meta.flashback_start_ts = rare.flashback_start_ts;
        let read = |bytes| <encryptionpb::EncryptionMeta as prost::Message>::decode(bytes).ok();
        meta.encryption_meta = Some(rare.encryption.as_slice()).filter(|bytes| !bytes.is_empty()).and_then(read);
    }
    (meta, region.leader_peer().map(peer_to_wire), down.collect(), pending.collect())
}

/// A store as a node describes itself.
pub fn store_record(store: &metapb::Store) -> StoreRecord {
    StoreRecord {
        id: StoreId(store.id),
        address: store.address.clone(),
        peer_address: store.peer_address.clone(),
        status_address: store.status_address.clone(),
        labels: store.labels.iter().map(|l| StoreLabel { key: l.key.clone(), value: l.value.clone() }).collect(),
        version: store.version.clone(),
        git_hash: store.git_hash.clone(),
        start_timestamp: store.start_timestamp,
        deploy_path: store.deploy_path.clone(),
        state: match store.state() {
            metapb::StoreState::Up => StoreState::Up,
            metapb::StoreState::Offline => StoreState::Offline,
            metapb::StoreState::Tombstone => StoreState::Tombstone,
        },
        node_state: match store.node_state() {
            metapb::NodeState::Preparing => NodeState::Preparing,
            metapb::NodeState::Serving => NodeState::Serving,
            metapb::NodeState::Removing => NodeState::Removing,
            metapb::NodeState::Removed => NodeState::Removed,
        },
        physically_destroyed: store.physically_destroyed,
        last_heartbeat: Wall(store.last_heartbeat),
        ..StoreRecord::default()
    }
}

/// A store as clients see it.
pub fn store_to_wire(info: &StoreInfo) -> metapb::Store {
    let record = &info.record;
    metapb::Store {
        id: record.id.0,
        address: record.address.clone(),
        state: record.state as i32,
        labels: record
            .labels
            .iter()
            .map(|l| metapb::StoreLabel { key: l.key.clone(), value: l.value.clone() })
            .collect(),
        version: record.version.clone(),
        peer_address: record.peer_address.clone(),
        status_address: record.status_address.clone(),
        git_hash: record.git_hash.clone(),
        start_timestamp: record.start_timestamp,
        deploy_path: record.deploy_path.clone(),
        last_heartbeat: info.last_heartbeat_wall.0,
        physically_destroyed: record.physically_destroyed,
        node_state: record.node_state as i32,
    }
}

/// A store as log lines and error texts show it.
pub fn store_text(store: &metapb::Store) -> String {
    compact("metapb.Store", store)
}

/// What a store reports about itself. Numbers that are none (NaN, infinite) become 0.
pub fn store_stats(stats: &pdpb::StoreStats) -> StoreStats {
    let finite = |x: f64| if x.is_finite() { x } else { 0.0 };
    let trend = |t: &pdpb::SlowTrend| {
        (finite(t.cause_value), finite(t.cause_rate), finite(t.result_value), finite(t.result_rate))
    };
    StoreStats {
        capacity: stats.capacity,
        available: stats.available,
        used_size: stats.used_size,
        region_count: stats.region_count,
        sending_snap_count: stats.sending_snap_count,
        receiving_snap_count: stats.receiving_snap_count,
        applying_snap_count: stats.applying_snap_count,
        start_time: stats.start_time,
        is_busy: stats.is_busy,
        bytes_written: stats.bytes_written,
        keys_written: stats.keys_written,
        bytes_read: stats.bytes_read,
        keys_read: stats.keys_read,
        read_query: read_queries(stats.query_stats.as_ref()),
        write_query: write_queries(stats.query_stats.as_ref()),
        read_cpu: read_cpu(stats),
        peers: stats.peer_stats.iter().take(MAX_PEER_STATS).map(peer_traffic).collect(),
        interval: stats.interval.as_ref().map_or((0, 0), |i| (i.start_timestamp, i.end_timestamp)),
        slow_score: stats.slow_score,
        slow_trend: stats.slow_trend.as_ref().map(trend),
        is_stopping: stats.is_stopping,
    }
}

/// The statistics of a store that has reported, for `GetStore`; empty before its first report.
pub fn store_stats_to_wire(info: &StoreInfo) -> pdpb::StoreStats {
    if info.last_heartbeat.is_none() {
        return pdpb::StoreStats::default();
    }
    let stats = &info.stats;
    let interval = (stats.interval != (0, 0))
        .then_some(pdpb::TimeInterval { start_timestamp: stats.interval.0, end_timestamp: stats.interval.1 });
    pdpb::StoreStats {
        store_id: info.id().0,
        capacity: stats.capacity,
        available: stats.available,
        used_size: stats.used_size,
        region_count: stats.region_count,
        sending_snap_count: stats.sending_snap_count,
        receiving_snap_count: stats.receiving_snap_count,
        applying_snap_count: stats.applying_snap_count,
        start_time: stats.start_time,
        is_busy: stats.is_busy,
        bytes_written: stats.bytes_written,
        keys_written: stats.keys_written,
        bytes_read: stats.bytes_read,
        keys_read: stats.keys_read,
        interval,
        slow_score: stats.slow_score,
        slow_trend: stats.slow_trend.map(|(cause_value, cause_rate, result_value, result_rate)| pdpb::SlowTrend {
            cause_value,
            cause_rate,
            result_value,
            result_rate,
        }),
        is_stopping: stats.is_stopping,
        ..pdpb::StoreStats::default()
    }
}

/// Checks what a cluster is to be made of, in PD's order and words.
pub fn check_bootstrap(
    request: &pdpb::BootstrapRequest,
    cluster: ClusterId,
) -> Result<(StoreRecord, &metapb::Region), ApiError> {
    let bad = |text: String| Err(ApiError::Invalid(text));
    let Some(store) = &request.store else { return bad(format!("missing store meta for bootstrap {cluster}")) };
    if store.id == 0 {
        return bad("invalid zero store id".into());
    }
    let Some(region) = &request.region else { return bad(format!("missing region meta for bootstrap {cluster}")) };
    if !region.start_key.is_empty() || !region.end_key.is_empty() {
        return bad(format!("invalid first region key range, must all be empty for bootstrap {cluster}"));
    }
    if region.id == 0 {
        return bad("invalid zero region id".into());
    }
    let [first] = region.peers.as_slice() else {
        return bad(format!(
            "invalid first region peer count {}, must be 1 for bootstrap {cluster}",
            region.peers.len()
        ));
    };
    if first.store_id != store.id {
        return bad(format!("invalid peer store id {} != {} for bootstrap {cluster}", first.store_id, store.id));
    }
    if first.id == 0 {
        return bad("invalid zero peer id".into());
    }
    Ok((store_record(store), region))
}

/// A command as the heartbeat stream carries it, without its header.
pub fn command_to_wire(command: &Command) -> pdpb::RegionHeartbeatResponse {
    let mut out = pdpb::RegionHeartbeatResponse {
        region_id: command.region.0,
        region_epoch: Some(epoch_to_wire(command.epoch)),
        target_peer: Some(peer_to_wire(&command.target_peer)),
        ..Default::default()
    };
    match &command.kind {
        CommandKind::TransferLeader { to } => {
            let peer = peer_to_wire(to);
            out.transfer_leader = Some(pdpb::TransferLeader { peer: Some(peer), peers: vec![] });
        }
        CommandKind::ChangePeerV2 { changes } => {
            let changes = changes.iter().map(|(change, peer)| change_to_wire(*change, peer)).collect();
            out.change_peer_v2 = Some(pdpb::ChangePeerV2 { changes });
        }
        CommandKind::ChangePeer { change, peer } => out.change_peer = Some(change_to_wire(*change, peer)),
        CommandKind::Split { policy, keys } => {
            let keys = keys.iter().map(key_to_wire).collect();
            out.split_region = Some(pdpb::SplitRegion { policy: *policy, keys });
        }
        CommandKind::SwitchWitness { peer, is_witness } => {
            let switch = pdpb::SwitchWitness { peer_id: peer.0, is_witness: *is_witness };
            out.switch_witnesses = Some(pdpb::BatchSwitchWitness { switch_witnesses: vec![switch] });
        }
        CommandKind::Merge { target } => {
            out.merge = Some(pdpb::Merge { target: Some(region_meta_to_wire(&target.meta)) });
        }
    }
    out
}

fn change_to_wire(change: PeerChange, peer: &Peer) -> pdpb::ChangePeer {
    let change_type = match change {
        PeerChange::AddNode => eraftpb::ConfChangeType::AddNode,
        PeerChange::RemoveNode => eraftpb::ConfChangeType::RemoveNode,
        PeerChange::AddLearnerNode => eraftpb::ConfChangeType::AddLearnerNode,
    };
    pdpb::ChangePeer { peer: Some(peer_to_wire(peer)), change_type: change_type.into() }
}

#[cfg(test)]
mod tests;
