//! Regions as PD shows them: one line of JSON, keys in upper-case hex.
//!
//! Owns: the JSON shape of regions and lists of them, and writing long lists piece by piece. Must not know: which regions are
//! asked for.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use serde::Serialize;

use super::render::{Content, Reply, compact};
use crate::model::{Peer, PeerId, Region, Role};

/// Regions that are rendered at once: a list of a million is sent in pieces of about half a megabyte, so that it never lies in
/// memory as text as a whole.
const PIECE: usize = 1024;

#[derive(Serialize)]
struct EpochJson {
    #[serde(skip_serializing_if = "is_zero")]
    conf_ver: u64,
    #[serde(skip_serializing_if = "is_zero")]
    version: u64,
}

#[derive(Serialize, Default)]
struct PeerJson {
    role_name: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    store_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    role: u64,
    #[serde(skip_serializing_if = "is_false")]
    is_witness: bool,
}

#[derive(Serialize)]
struct DownPeerJson {
    peer: PeerJson,
    #[serde(skip_serializing_if = "is_zero")]
    down_seconds: u64,
}

#[derive(Serialize)]
struct ReplicationJson {
    state: &'static str,
    state_id: u64,
}

/// A region in PD's key order.
#[derive(Serialize)]
pub(super) struct RegionJson {
    id: u64,
    start_key: String,
    end_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<EpochJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerJson>,
    leader: PeerJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    down_peers: Vec<DownPeerJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pending_peers: Vec<PeerJson>,
    cpu_usage: u64,
    written_bytes: u64,
    read_bytes: u64,
    written_keys: u64,
    read_keys: u64,
    approximate_size: u64,
    approximate_keys: u64,
    approximate_kv_size: u64,
    approximate_columnar_kv_size: u64,
    /// Borders of its buckets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buckets: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    bucket_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication_status: Option<ReplicationJson>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl From<&Peer> for PeerJson {
    fn from(peer: &Peer) -> Self {
        Self {
            role_name: peer.role.name(),
            is_learner: peer.role == Role::Learner,
            id: peer.id.0,
            store_id: peer.store.0,
            role: peer.role as u64,
            is_witness: peer.is_witness,
        }
    }
}

impl From<&Region> for RegionJson {
    fn from(region: &Region) -> Self {
        let peer = |id: PeerId| region.meta.peer(id).map(PeerJson::from);
        let flow = &region.flow;
        Self {
            id: region.id().0,
            start_key: region.range().start.hex(),
            end_key: region.range().end.hex(),
            epoch: Some(EpochJson { conf_ver: region.epoch().conf_ver, version: region.epoch().version }),
            peers: region.peers().iter().map(PeerJson::from).collect(),
            leader: region.leader_peer().map(PeerJson::from).unwrap_or_default(),
            down_peers: region
                .down
                .iter()
                .filter_map(|d| Some(DownPeerJson { peer: peer(d.peer)?, down_seconds: d.seconds }))
                .collect(),
            pending_peers: region.pending.iter().filter_map(|id| peer(*id)).collect(),
            cpu_usage: flow.cpu_usage,
            written_bytes: flow.bytes_written,
            read_bytes: flow.bytes_read,
            written_keys: flow.keys_written,
            read_keys: flow.keys_read,
            approximate_size: region.size_mib,
            approximate_keys: region.keys,
            approximate_kv_size: region.kv_size_mib,
            approximate_columnar_kv_size: region.rare.as_ref().map_or(0, |r| r.columnar_kv_size_mib),
            buckets: region.buckets().map(|b| b.keys.iter().map(|key| key.hex()).collect()).unwrap_or_default(),
            bucket_version: region.buckets().map_or(0, |b| b.version),
            replication_status: match region.replication {
                (0, 0) => None,
                (state, state_id) => Some(ReplicationJson { state: replication_state(state), state_id }),
            },
        }
    }
}

/// `replication_modepb.RegionReplicationState` by name.
fn replication_state(state: i32) -> &'static str {
    match state {
        1 => "SIMPLE_MAJORITY",
        2 => "INTEGRITY_OVER_LABEL",
        _ => "UNKNOWN",
    }
}

/// The region before the first one, as PD shows it among siblings: all zero.
fn nothing() -> RegionJson {
    RegionJson { epoch: None, ..RegionJson::from(&Region::default()) }
}

/// One region.
pub(super) fn one(region: &Region) -> Reply {
    Reply::regions(&RegionJson::from(region))
}

/// A region's neighbours in key order. PD shows nothing where there is no left one and repeats the left one on the right.
pub(super) fn siblings(left: Option<&Region>, right: Option<&Region>) -> Reply {
    #[derive(Serialize)]
    struct List {
        count: usize,
        regions: [RegionJson; 2],
    }
    let show = |region: Option<&Region>| region.map_or_else(nothing, RegionJson::from);
    Reply::regions(&List { count: 2, regions: [show(left), show(right.or(left))] })
}

/// A list of regions; a long one is sent piece by piece.
pub(super) fn list(regions: Vec<Arc<Region>>) -> Reply {
    let mut reply = Reply::regions(&());
    reply.body = Content::Regions(regions.into());
    reply
}

/// The text of a list, as the body of a response.
pub(super) fn body(regions: &Arc<[Arc<Region>]>) -> Body {
    if regions.len() <= PIECE {
        return Body::from(head(regions) + &piece(regions, 0) + TAIL);
    }
    let shared = regions.clone();
    let pieces = (0..regions.len()).step_by(PIECE).map(move |from| piece(&shared, from));
    let all = std::iter::once(head(regions)).chain(pieces).chain(std::iter::once(TAIL.to_owned()));
    Body::from_stream(futures::stream::iter(all.map(|text| Ok::<_, std::convert::Infallible>(Bytes::from(text)))))
}

const TAIL: &str = "]}";

fn head(regions: &[Arc<Region>]) -> String {
    format!("{{\"count\":{},\"regions\":[", regions.len())
}

fn piece(regions: &[Arc<Region>], from: usize) -> String {
    let mut text = String::new();
    for (at, region) in regions.iter().enumerate().skip(from).take(PIECE) {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&compact(&RegionJson::from(&**region)));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::{DownPeer, Epoch, Flow, KeyRange, RegionId, RegionMeta};

    fn region(id: u64) -> Region {
        Region {
            meta: Arc::new(RegionMeta {
                id: RegionId(id),
                range: KeyRange::new(&b"\x74\x80"[..], &b"\xff"[..]),
                epoch: Epoch::new(5, 20),
                peers: vec![Peer::voter(51, 2), Peer::voter(52, 3), Peer::learner(53, 6)],
            }),
            leader: Some(PeerId(51)),
            size_mib: 96,
            keys: 960_000,
            ..Region::default()
        }
    }

    #[test]
    fn a_region_shows_what_pd_shows() {
        let mut region = region(50);
        region.down = vec![DownPeer { peer: PeerId(52), seconds: 620 }];
        region.pending = vec![PeerId(53)];
        region.flow = Flow { bytes_written: 1, cpu_usage: 35, ..Flow::default() };
        assert_eq!(
            compact(&RegionJson::from(&region)),
            "{\"id\":50,\"start_key\":\"7480\",\"end_key\":\"FF\",\"epoch\":{\"conf_ver\":5,\"version\":20},\"peers\":[\
             {\"role_name\":\"Voter\",\"id\":51,\"store_id\":2},{\"role_name\":\"Voter\",\"id\":52,\"store_id\":3},\
             {\"role_name\":\"Learner\",\"is_learner\":true,\"id\":53,\"store_id\":6,\"role\":1}],\
             \"leader\":{\"role_name\":\"Voter\",\"id\":51,\"store_id\":2},\
             \"down_peers\":[{\"peer\":{\"role_name\":\"Voter\",\"id\":52,\"store_id\":3},\"down_seconds\":620}],\
             \"pending_peers\":[{\"role_name\":\"Learner\",\"is_learner\":true,\"id\":53,\"store_id\":6,\"role\":1}],\
             \"cpu_usage\":35,\"written_bytes\":1,\"read_bytes\":0,\"written_keys\":0,\"read_keys\":0,\
             \"approximate_size\":96,\"approximate_keys\":960000,\"approximate_kv_size\":0,\
             \"approximate_columnar_kv_size\":0}"
        );
    }

    #[test]
    fn the_place_before_the_first_region_shows_as_pd_shows_it() {
        assert_eq!(
            compact(&nothing()),
            "{\"id\":0,\"start_key\":\"\",\"end_key\":\"\",\"leader\":{\"role_name\":\"\"},\"cpu_usage\":0,\
             \"written_bytes\":0,\"read_bytes\":0,\"written_keys\":0,\"read_keys\":0,\"approximate_size\":0,\
             \"approximate_keys\":0,\"approximate_kv_size\":0,\"approximate_columnar_kv_size\":0}"
        );
    }

    #[tokio::test]
    async fn a_long_list_in_pieces_is_the_same_text() {
        for count in [0, 1, PIECE, PIECE + 1, 2 * PIECE + 7] {
            let regions: Arc<[Arc<Region>]> = (1..=count as u64).map(|id| Arc::new(region(id))).collect();
            let bytes = axum::body::to_bytes(body(&regions), usize::MAX).await.unwrap();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["count"], count);
            let ids: Vec<u64> =
                value["regions"].as_array().unwrap().iter().map(|r| r["id"].as_u64().unwrap()).collect();
            assert_eq!(ids, (1..=count as u64).collect::<Vec<_>>());
        }
    }
}
