//! Refusals as recorded, by the file that shows each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use super::*;
use crate::scheduler::operator::testing::{World, region};

/// Stores 1, 3 and 5 hold region 20; store 2 has nothing, 4 is gone, 6 was not heard of for long.
fn world() -> World {
    let mut world = World::new(6, 201);
    world.put(region(20, (20, 5), &[Peer::voter(21, 1), Peer::voter(22, 3), Peer::voter(23, 5)]));
    world.pass(Duration::from_secs(700));
    world.change_store(4, |s| Arc::make_mut(&mut s.record).state = StoreState::Tombstone);
    world.change_store(5, |s| Arc::make_mut(&mut s.record).state = StoreState::Offline);
    world.change_store(6, |s| s.last_heartbeat = None);
    world
}

const R: RegionId = RegionId(20);

fn refusal(request: &Request) -> String {
    build(&world().view(), request).unwrap_err().to_string()
}

#[test]
fn refusals_are_as_recorded() {
    let missing = Request::TransferLeader { region: RegionId(9999), to: StoreId(3) };
    assert_eq!(refusal(&missing), "[PD:region:ErrRegionNotFound]region 9999 not found");
    assert_eq!(refusal(&Request::TransferLeader { region: R, to: StoreId(2) }), "region has no voter in store 2");
    let peer = |from, to| Request::TransferPeer { region: R, from: StoreId(from), to: StoreId(to) };
    assert_eq!(refusal(&peer(2, 4)), "region has no peer in store 2");
    assert_eq!(refusal(&peer(1, 99)), "[PD:core:ErrStoreNotFound]store 99 not found");
    assert_eq!(refusal(&peer(1, 3)), "cannot add peer to 3: already exists");
    let add = |store| Request::AddPeer { region: R, store: StoreId(store) };
    assert_eq!(refusal(&add(1)), "region already has peer in store 1");
    assert_eq!(refusal(&add(4)), "[PD:core:ErrStoreRemoved]store 4 has been removed");
    assert_eq!(refusal(&add(6)), "[PD:core:ErrStoreUnhealthy]store 6 is unhealthy");
    assert_eq!(refusal(&Request::RemovePeer { region: R, store: StoreId(2) }), "region has no peer in store 2");
    let bare = Request::TransferRegion { region: R, to: vec![(StoreId(1), None), (StoreId(2), None)] };
    assert_eq!(refusal(&bare), "transfer region without peer role is not supported when placement rules enabled");
}

#[test]
fn an_offline_store_may_get_a_peer_from_a_person() {
    let mut world = world();
    world.change_store(2, |s| Arc::make_mut(&mut s.record).state = StoreState::Offline);
    let op = build(&world.view(), &Request::AddPeer { region: R, store: StoreId(2) }).unwrap().remove(0);
    assert_eq!(op.brief, "add peer: store [2]");
}

#[test]
fn a_region_moves_to_the_roles_that_are_asked_for() {
    let world = world();
    let to = vec![
        (StoreId(2), Some(RuleRole::Leader)),
        (StoreId(1), Some(RuleRole::Voter)),
        (StoreId(3), Some(RuleRole::Follower)),
    ];
    let op = build(&world.view(), &Request::TransferRegion { region: R, to }).unwrap().remove(0);
    assert_eq!((op.brief.as_str(), op.kind.to_string().as_str()), ("mv peer: store [5] to [2]", "admin,region,leader"));
    let last = op.steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(last.contains(&"transfer leader from store 1 to store 2".to_owned()), "{last:?}");
}

#[test]
fn without_placement_rules_no_roles_are_needed() {
    let mut world = world();
    Arc::make_mut(&mut world.settings.replication).enable_placement_rules = false;
    let to = vec![(StoreId(1), None), (StoreId(3), None), (StoreId(2), None)];
    let op = build(&world.view(), &Request::TransferRegion { region: R, to }).unwrap().remove(0);
    assert_eq!((op.brief.as_str(), op.kind.to_string().as_str()), ("mv peer: store [5] to [2]", "admin,region"));
}
