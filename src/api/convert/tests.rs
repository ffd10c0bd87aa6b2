#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

fn heartbeat() -> pdpb::RegionHeartbeatRequest {
    let peers: Vec<_> = [(3, 1), (11, 4), (12, 5)]
        .into_iter()
        .map(|(id, store_id)| metapb::Peer { id, store_id, ..Default::default() })
        .collect();
    pdpb::RegionHeartbeatRequest {
        leader: Some(peers[0]),
        region: Some(metapb::Region {
            id: 2,
            end_key: "m".into(),
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 3, version: 2 }),
            peers,
            ..Default::default()
        }),
        approximate_size: 100_663_296,
        approximate_keys: 1000,
        term: 6,
        ..Default::default()
    }
}

fn refusal(change: impl FnOnce(&mut pdpb::RegionHeartbeatRequest)) -> String {
    let mut request = heartbeat();
    change(&mut request);
    region_from_heartbeat(&request, Mono(1)).unwrap_err().to_string()
}

#[test]
fn a_heartbeat_becomes_a_region() {
    let mut request = heartbeat();
    request.pending_peers =
        vec![metapb::Peer { id: 12, ..Default::default() }, metapb::Peer { id: 99, ..Default::default() }];
    let region = region_from_heartbeat(&request, Mono(7)).unwrap();
    assert_eq!((region.id(), region.epoch(), region.size_mib, region.keys), (RegionId(2), Epoch::new(3, 2), 96, 1000));
    assert_eq!(region.leader_store(), Some(StoreId(1)));
    assert_eq!(region.pending, [PeerId(12)], "peers that the region does not have are left out");
    assert_eq!(region_meta_to_wire(&region.meta), request.region.unwrap());
}

#[test]
fn sizes_keep_unknown_and_empty_apart() {
    for (bytes, size_mib, known) in [(0, 0, false), (1, 1, true), (MIB, 1, true), (3 * MIB + 1, 3, true)] {
        let mut request = heartbeat();
        request.approximate_size = bytes;
        let region = region_from_heartbeat(&request, Mono(1)).unwrap();
        assert_eq!((region.size_mib, region.size_known), (size_mib, known), "{bytes} bytes");
    }
}

#[test]
fn malformed_heartbeats_are_refused_in_pds_words() {
    assert_eq!(
        refusal(|r| r.region = None),
        "invalid request region, leader:<id:3 store_id:1 > approximate_size:100663296 approximate_keys:1000 term:6 "
    );
    assert!(
        refusal(|r| r.region.as_mut().unwrap().id = 0).starts_with("invalid request region, region:<end_key:\"m\" ")
    );
    assert_eq!(
        refusal(|r| r.region.as_mut().unwrap().peers.clear()),
        "invalid region, zero region peer count: id:2 end_key:\"6D\" region_epoch:<conf_ver:3 version:2 >"
    );
}

/// H4: each of these would leave the index or its counts wrong.
#[test]
fn what_would_damage_the_index_is_refused() {
    let region = |r: &mut pdpb::RegionHeartbeatRequest, f: fn(&mut metapb::Region)| f(r.region.as_mut().unwrap());
    for (text, got) in [
        ("start key is not below end key", refusal(|r| region(r, |m| m.start_key = "q".into()))),
        ("start key is not below end key", refusal(|r| region(r, |m| m.start_key = "m".into()))),
        ("two peers on one store", refusal(|r| region(r, |m| m.peers[1].store_id = 1))),
        ("two peers with one id", refusal(|r| region(r, |m| m.peers[1].id = 12))),
        ("leader is not one of its peers", refusal(|r| r.leader = None)),
        ("leader is not one of its peers", refusal(|r| r.leader.as_mut().unwrap().id = 77)),
        (
            "too many peers",
            refusal(|r| {
                region(r, |m| {
                    m.peers = (1..=MAX_PEERS as u64 + 1)
                        .map(|n| metapb::Peer { id: n, store_id: n, ..Default::default() })
                        .collect();
                });
            }),
        ),
        (
            "two peers with one id",
            refusal(|r| {
                region(r, |m| {
                    m.peers =
                        (1..=20).map(|n| metapb::Peer { id: n % 19, store_id: n, ..Default::default() }).collect();
                });
            }),
        ),
    ] {
        assert!(got.starts_with(&format!("invalid region, {text}: ")), "{got}");
    }
}

#[test]
fn leaving_a_joint_state_is_an_empty_change_peer_v2() {
    let command = Command {
        store: StoreId(1),
        region: RegionId(2),
        epoch: Epoch::new(3, 2),
        target_peer: Peer::voter(3, 1),
        kind: CommandKind::ChangePeerV2 { changes: vec![] },
    };
    let wire = command_to_wire(&command);
    assert_eq!(wire.change_peer_v2, Some(pdpb::ChangePeerV2 { changes: vec![] }));
    assert_eq!((wire.region_id, wire.target_peer.unwrap().store_id), (2, 1));
    assert!(wire.change_peer.is_none() && wire.transfer_leader.is_none());
}

#[test]
fn numbers_that_are_none_become_zero() {
    let trend =
        pdpb::SlowTrend { cause_value: f64::NAN, result_rate: f64::INFINITY, cause_rate: 2.0, ..Default::default() };
    let stats = store_stats(&pdpb::StoreStats { slow_trend: Some(trend), ..Default::default() });
    assert_eq!(stats.slow_trend, Some((0.0, 2.0, 0.0, 0.0)));
}

#[test]
fn what_few_regions_have_comes_back_as_it_was_told() {
    let common = region_from_heartbeat(&heartbeat(), Mono(1)).unwrap();
    assert!(common.rare.is_none(), "most regions carry nothing for it");
    let mut request = heartbeat();
    request.approximate_columnar_kv_size = 5 * MIB;
    let told = request.region.get_or_insert_default();
    told.is_in_flashback = true;
    told.flashback_start_ts = 77;
    told.encryption_meta = Some(encryptionpb::EncryptionMeta { key_id: 9, iv: vec![1, 2].into() });
    let region = region_from_heartbeat(&request, Mono(1)).unwrap();
    assert_eq!(region.rare.as_ref().map(|r| r.columnar_kv_size_mib), Some(5));
    assert_eq!(region_parts(&region).0, request.region.clone().unwrap());
    let huge = vec![0; MAX_ENCRYPTION_META + 1];
    request.region.get_or_insert_default().encryption_meta =
        Some(encryptionpb::EncryptionMeta { key_id: 9, iv: huge.into() });
    let region = region_from_heartbeat(&request, Mono(1)).unwrap();
    assert_eq!(region_parts(&region).0.encryption_meta, None, "too long to be one");
}

#[test]
fn buckets_come_back_as_they_were_told() {
    let told = metapb::Buckets {
        region_id: 2,
        version: 3,
        keys: vec!["".into(), "g".into(), "m".into()],
        stats: Some(metapb::BucketStats {
            read_bytes: vec![1, 2],
            write_bytes: vec![3, 4],
            read_qps: vec![5, 6],
            write_qps: vec![7, 8],
            read_keys: vec![9, 10],
            write_keys: vec![11, 12],
        }),
        period_in_ms: 10_000,
    };
    let mut region = region_from_heartbeat(&heartbeat(), Mono(1)).unwrap();
    assert_eq!(buckets_to_wire(&region), None);
    let kept = buckets(&told).map(Arc::new);
    region.rare = Some(Box::new(RareFields { buckets: kept, ..RareFields::default() }));
    assert_eq!(buckets_to_wire(&region), Some(told.clone()));
    // Traffic that is not told is none; without keys there are no buckets.
    let short = metapb::Buckets { stats: None, ..told.clone() };
    assert_eq!(buckets(&short).unwrap().buckets, [Bucket::default(), Bucket::default()]);
    assert_eq!(buckets(&metapb::Buckets { keys: vec![], ..told }), None);
}
