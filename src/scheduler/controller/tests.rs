//! The controller on virtual time; the recorded walks stand in `walks`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod walks;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    model::{KeyRange, Peer, Region, RegionLabel, RegionLabelRule, Role, StoreState, names::desc, store::UNLIMITED},
    scheduler::{
        effect::DispatchSource,
        operator::{
            Builder, Priority, Status,
            testing::{World, region},
        },
        region_label::LabelIndex,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

fn three(id: u64) -> Region {
    region(id, (1, 1), &[Peer::voter(id * 10 + 1, 1), Peer::voter(id * 10 + 2, 2), Peer::voter(id * 10 + 3, 3)])
}

/// Five stores, `regions` regions, default limits, one minute after the start.
fn world(regions: u64) -> (World, Controller) {
    let mut world = World::new(5, 10_000);
    let mut controller = Controller::new(world.now);
    for store in 1..=5 {
        controller.set_limits(StoreId(store), StoreLimits { add_peer: 15.0, remove_peer: 15.0 }, world.now);
    }
    for id in 1..=regions {
        world.put(three(id));
    }
    world.pass(MINUTE);
    (world, controller)
}

fn mv(world: &World, id: u64, from: u64, to: u64, priority: Priority) -> Operator {
    let region = world.regions.get(RegionId(id)).unwrap();
    Builder::new(world.view(), &region, desc::REPLACE_RULE_OFFLINE_PEER)
        .remove_peer(StoreId(from))
        .add_peer(Peer { store: StoreId(to), ..Peer::default() })
        .priority(priority)
        .build(Kind::REPLICA)
        .unwrap()
}

fn lead(world: &World, id: u64, to: u64, kind: Kind) -> Operator {
    let region = world.regions.get(RegionId(id)).unwrap();
    Operator::transfer_leader(world.view(), &region, "x", StoreId(to), kind).unwrap()
}

/// The effects as short words.
fn told(effects: &[Effect]) -> Vec<String> {
    let word = |e: &Effect| match e {
        Effect::Send(command) => format!("send {}", command.region),
        Effect::Tell(Event::OperatorAdded { op }) => format!("added {}", op.region),
        Effect::Tell(Event::CommandSent { region, source, .. }) => format!("command {region} {}", source.name()),
        Effect::Tell(Event::OperatorEnded { op, .. }) => {
            format!("{} {} {}", op.status.word(), op.region, op.info.get("cancel-reason").unwrap())
        }
        Effect::Tell(Event::OperatorRemoved { op, .. }) => format!("removed {}", op.region),
        Effect::CacheRegion(region) => format!("cache {}", region.id()),
        Effect::ForgetRegion(id) => format!("forget {id}"),
        Effect::Tell(other) => format!("{other:?}").split([' ', '{']).next().unwrap().to_owned(),
    };
    effects.iter().map(word).collect()
}

#[test]
fn an_operator_is_admitted_started_and_sent() {
    let (world, mut controller) = world(1);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![mv(&world, 1, 3, 4, Priority::High)], &By::checker(), &mut out).unwrap();
    assert_eq!(told(&out), ["added 1", "command 1 create", "send 1"]);
    assert_eq!(controller.count(Kind::REPLICA), 1);
    let influence = controller.influence();
    assert_eq!(influence[&StoreId(4)].region_count, 1);
    assert_eq!(influence[&StoreId(3)].region_size, -96);
    assert!(controller.by_id(controller.running(RegionId(1)).unwrap().id).is_some());
}

#[test]
fn a_region_has_one_operator_and_only_a_higher_one_replaces_it() {
    let (world, mut controller) = world(1);
    let mut out = Vec::new();
    let view = world.view();
    controller.add(&view, vec![lead(&world, 1, 2, Kind::LEADER)], &By::checker(), &mut out).unwrap();
    out.clear();
    let again = controller.add(&view, vec![lead(&world, 1, 3, Kind::LEADER)], &By::checker(), &mut out);
    assert_eq!(again, Err(Reason::OperatorRunning(RegionId(1))));
    assert_eq!(told(&out), ["CANCEL 1 already exist"]);
    out.clear();
    controller.add(&view, vec![lead(&world, 1, 3, Kind::ADMIN)], &By::checker(), &mut out).unwrap();
    assert_eq!(told(&out), ["REPLACE 1 ", "added 1", "command 1 create", "send 1"]);
    assert_eq!((controller.count(Kind::LEADER), controller.count(Kind::ADMIN)), (0, 1));
}

#[test]
fn admission_is_all_or_nothing() {
    let (mut world, mut controller) = world(4);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![mv(&world, 1, 3, 4, Priority::High)], &By::checker(), &mut out).unwrap();
    // Store 5 has had its turn, and has a token now; store 3 has none left for a removal.
    world.pass(Duration::from_millis(3500));
    let refused = controller.add(&world.view(), vec![mv(&world, 2, 3, 5, Priority::High)], &By::checker(), &mut out);
    assert_eq!(refused, Err(Reason::StoreLimit { store: StoreId(3), kind: LimitKind::RemovePeer }));
    assert!(controller.store_has_tokens(StoreId(5), LimitKind::AddPeer, world.now));
    assert!(controller.may_add(&world.view(), &[mv(&world, 2, 2, 5, Priority::High)]).is_ok());
    // Only urgent operators pass.
    assert!(
        controller.add(&world.view(), vec![mv(&world, 2, 3, 5, Priority::Urgent)], &By::checker(), &mut out).is_ok()
    );
    world.pass(Duration::from_millis(500));
    assert!(controller.add(&world.view(), vec![mv(&world, 3, 3, 4, Priority::High)], &By::checker(), &mut out).is_ok());
}

#[test]
fn limits_by_kind_hold_at_admission() {
    let (mut world, mut controller) = world(9);
    let mut out = Vec::new();
    for id in 1..=4 {
        controller
            .add_waiting(
                &world.view(),
                vec![lead(&world, id, 2, Kind::default())],
                &By::scheduler("balance"),
                None,
                &mut out,
            )
            .unwrap();
    }
    assert_eq!((controller.count(Kind::LEADER), controller.all_waiting().len()), (4, 0));
    assert!(!controller.has_room(&world.view(), ScheduleLimit::Leader));
    assert!(controller.add(&world.view(), vec![lead(&world, 6, 2, Kind::ADMIN)], &By::checker(), &mut out).is_ok());
    // The fifth waits for the end of one, and a sixth of its sort would not wait for ever either.
    out.clear();
    controller
        .add_waiting(
            &world.view(),
            vec![lead(&world, 5, 2, Kind::default())],
            &By::scheduler("balance"),
            None,
            &mut out,
        )
        .unwrap();
    assert_eq!((controller.all_waiting().len(), told(&out)), (1, vec!["OperatorWaits".to_owned()]));
    out.clear();
    let mut moved = three(1);
    moved.leader = Some(12.into());
    let moved = world.put(moved);
    controller.on_heartbeat(&world.view(), &moved, &mut out);
    assert_eq!(told(&out), ["SUCCESS 1 ", "OperatorsTurn", "added 5", "command 5 create", "send 5"]);
    out.clear();
    controller
        .add_waiting(
            &world.view(),
            vec![lead(&world, 7, 2, Kind::default())],
            &By::scheduler("balance"),
            None,
            &mut out,
        )
        .unwrap();
    world.pass(Duration::from_secs(3));
    controller.tick(&world.view(), &mut out);
    assert!(told(&out).contains(&"CANCEL 7 expired".to_owned()), "{:?}", told(&out));
}

#[test]
fn the_limits_of_balancing_are_none_of_a_repair() {
    let (mut world, mut controller) = world(9);
    for store in 1..=5 {
        controller.set_limits(StoreId(store), StoreLimits { add_peer: UNLIMITED, remove_peer: UNLIMITED }, world.now);
    }
    world.change_schedule(|s| {
        s.leader_schedule_limit = 0;
        s.region_schedule_limit = 0;
        s.replica_schedule_limit = 1;
    });
    let mut out = Vec::new();
    let remove = |world: &World, id: u64| {
        let region = world.regions.get(RegionId(id)).unwrap();
        Builder::new(world.view(), &region, "remove-orphan-peer")
            .remove_peer(StoreId(3))
            .build(Kind::default())
            .unwrap()
    };
    assert_eq!(remove(&world, 1).kind.counted_as(), Kind::REGION);
    controller.add(&world.view(), vec![remove(&world, 1)], &By::checker(), &mut out).unwrap();
    controller.add(&world.view(), vec![lead(&world, 2, 2, Kind::default())], &By::checker(), &mut out).unwrap();
    controller.add(&world.view(), vec![mv(&world, 3, 2, 4, Priority::High)], &By::checker(), &mut out).unwrap();
    let second = controller.add(&world.view(), vec![mv(&world, 4, 1, 5, Priority::High)], &By::checker(), &mut out);
    assert_eq!(second, Err(Reason::ScheduleLimit(ScheduleLimit::Replica)));
    // What schedulers propose waits.
    for op in [lead(&world, 5, 2, Kind::default()), remove(&world, 6)] {
        controller.add_waiting(&world.view(), vec![op], &By::scheduler("balance"), None, &mut out).unwrap();
    }
    assert_eq!(controller.all_waiting().len(), 2);
}

#[test]
fn leaving_a_joint_state_is_never_limited() {
    let (world, mut controller) = world(4);
    let mut out = Vec::new();
    for id in 1..=4 {
        controller.add(&world.view(), vec![lead(&world, id, 2, Kind::default())], &By::checker(), &mut out).unwrap();
    }
    assert!(!controller.has_room(&world.view(), ScheduleLimit::Leader));
    // The leader itself is to go, so that the operator begins with a transfer and counts as one.
    for id in 5..=15 {
        let mut joint = three(id);
        let peers = &mut Arc::make_mut(&mut joint.meta).peers;
        peers[0].role = Role::DemotingVoter;
        peers.push(Peer { role: Role::IncomingVoter, ..Peer::voter(id * 10 + 4, 4) });
        let joint = world.put(joint);
        let leave = Operator::leave_joint_state(world.view(), &joint).unwrap();
        assert_eq!(leave.kind.counted_as(), Kind::LEADER);
        controller.add(&world.view(), vec![leave], &By::checker(), &mut out).unwrap();
    }
}

#[test]
fn o7_a_label_that_comes_while_an_operator_waits_holds_it() {
    for (cause, wanted) in [(Some(Cause::Balance), "CANCEL 5 stale status"), (None, "added 5")] {
        let (mut world, mut controller) = world(9);
        let mut out = Vec::new();
        for id in 1..=4 {
            controller
                .add(&world.view(), vec![lead(&world, id, 2, Kind::default())], &By::checker(), &mut out)
                .unwrap();
        }
        let waits = vec![lead(&world, 5, 2, Kind::default())];
        controller.add_waiting(&world.view(), waits, &By::scheduler("balance"), cause, &mut out).unwrap();
        assert_eq!(controller.all_waiting().len(), 1);
        let deny = RegionLabel { key: "schedule".into(), value: "deny".into(), ..RegionLabel::default() };
        let keep = RegionLabelRule { id: "keep".into(), index: 0, labels: vec![deny], ranges: vec![KeyRange::all()] };
        world.settings.labels = Arc::new(LabelIndex::new(vec![Arc::new(keep)]));
        out.clear();
        controller.cancel(&world.view(), 1.into(), &mut out);
        assert!(told(&out).contains(&wanted.to_owned()), "{cause:?}: {:?}", told(&out));
        assert_eq!(controller.all_waiting().len(), 0);
    }
}

#[test]
fn the_waiting_queue_is_bounded_by_description() {
    let (world, mut controller) = world(20);
    let mut out = Vec::new();
    for id in 1..=9 {
        controller
            .add_waiting(
                &world.view(),
                vec![lead(&world, id, 2, Kind::default())],
                &By::scheduler("balance"),
                None,
                &mut out,
            )
            .unwrap();
    }
    let tenth = controller.add_waiting(
        &world.view(),
        vec![lead(&world, 10, 2, Kind::default())],
        &By::scheduler("balance"),
        None,
        &mut out,
    );
    assert_eq!(tenth, Err(Reason::ScheduleLimit(ScheduleLimit::Waiting)));
    assert_eq!(told(&out).last().unwrap(), "CANCEL 10 exceed wait limit");
}

#[test]
fn silent_regions_are_pushed_and_time_out() {
    let (mut world, mut controller) = world(1);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![lead(&world, 1, 2, Kind::LEADER)], &By::checker(), &mut out).unwrap();
    out.clear();
    let mut pushed_at = Vec::new();
    let start = world.now.mono;
    for _ in 0..6200 {
        world.pass(Duration::from_millis(10));
        controller.tick(&world.view(), &mut out);
        if told(&out).contains(&"command 1 active push".to_owned()) {
            pushed_at.push(world.now.mono.since(start).as_millis());
        }
        if controller.running(RegionId(1)).is_none() {
            break;
        }
        out.clear();
    }
    assert_eq!(pushed_at[..3], [2000, 4000, 6000]);
    assert_eq!(told(&out), ["TIMEOUT 1 timeout"]);
    let record = controller.status(RegionId(1)).unwrap();
    assert!(record.text().ends_with("timeout:[1m0s]) timeout"));
    assert!(controller.influence().is_empty());
    // It is forgotten after ten minutes.
    world.pass(Duration::from_secs(601));
    controller.tick(&world.view(), &mut out);
    assert!(controller.status(RegionId(1)).is_none() && controller.records(0).is_empty());
}

#[test]
fn a_region_that_leaves_takes_its_operator_along() {
    let (world, mut controller) = world(1);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![mv(&world, 1, 3, 4, Priority::High)], &By::checker(), &mut out).unwrap();
    world.regions.remove(RegionId(1));
    out.clear();
    controller.on_region_gone(&world.view(), RegionId(1), &mut out);
    assert_eq!(told(&out), ["OperatorRegionGone", "removed 1", "CANCEL 1 region not found"]);
    assert!(controller.all_running().is_empty() && controller.influence().is_empty());
}

#[test]
fn a_person_can_stop_an_operator_once() {
    let (world, mut controller) = world(1);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![lead(&world, 1, 2, Kind::ADMIN)], &By::checker(), &mut out).unwrap();
    out.clear();
    assert!(controller.cancel(&world.view(), RegionId(1), &mut out));
    assert_eq!(told(&out), ["removed 1", "CANCEL 1 admin stop"]);
    assert!(!controller.cancel(&world.view(), RegionId(1), &mut out));
}

#[test]
fn a_target_store_that_goes_down_makes_the_operator_stale() {
    let (mut world, mut controller) = world(1);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![mv(&world, 1, 3, 4, Priority::High)], &By::checker(), &mut out).unwrap();
    world.change_schedule(|s| s.max_store_down_time = Duration::from_secs(30).into());
    let heard = world.now.mono;
    world.pass(MINUTE);
    world.change_store(4, |info| info.last_heartbeat = Some(heard));
    out.clear();
    let region = world.regions.get(RegionId(1)).unwrap();
    controller.on_heartbeat(&world.view(), &region, &mut out);
    assert_eq!(told(&out), ["OperatorStepStale", "removed 1", "CANCEL 1 stale status"]);
}

/// S9: its command must not reach a leader that was silent after the store is buried.
#[test]
fn s9_a_target_store_that_leaves_makes_the_operator_stale_unless_a_person_wants_it() {
    for (state, kind, goes_on) in [
        (StoreState::Up, Kind::REGION, true),
        (StoreState::Offline, Kind::REGION, false),
        (StoreState::Tombstone, Kind::REGION, false),
        (StoreState::Offline, Kind::ADMIN, true),
        (StoreState::Tombstone, Kind::ADMIN, false),
    ] {
        let (mut world, mut controller) = world(1);
        let mut out = Vec::new();
        let mut op = mv(&world, 1, 3, 4, Priority::High);
        op.kind |= kind;
        controller.add(&world.view(), vec![op], &By::checker(), &mut out).unwrap();
        assert_eq!((controller.brings_peer(StoreId(4)), controller.brings_peer(StoreId(3))), (Some(RegionId(1)), None));
        world.change_store(4, |info| Arc::make_mut(&mut info.record).state = state);
        let region = world.regions.get(RegionId(1)).unwrap();
        controller.on_heartbeat(&world.view(), &region, &mut out);
        assert_eq!(controller.is_running(RegionId(1)), goes_on, "{state:?} {kind}");
        assert_eq!(controller.brings_peer(StoreId(4)).is_some(), goes_on);
    }
}

/// What a random user of the controller does.
#[derive(Clone, Debug)]
enum Act {
    Add { region: u64, to: u64, priority: u8 },
    Wait { region: u64, to: u64 },
    Heartbeat { region: u64, bump: u64, leader: u64 },
    Cancel(u64),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let id = 1u64..6;
    prop_oneof![
        4 => (id.clone(), 4u64..6, 0u8..4).prop_map(|(region, to, priority)| Act::Add { region, to, priority }),
        1 => (id.clone(), 4u64..6).prop_map(|(region, to)| Act::Wait { region, to }),
        3 => (id.clone(), 0u64..3, 1u64..4).prop_map(|(region, bump, leader)| Act::Heartbeat { region, bump, leader }),
        1 => id.prop_map(Act::Cancel),
        2 => (1u64..5000).prop_map(Act::Pass),
    ]
}

proptest! {
    /// O3: an operator that starts has the epoch of the region at that moment; one whose region changed otherwise ends.
    /// O4: at most one operator a region; one ends before another starts. Counts and influence follow.
    #[test]
    fn o3_o4_one_operator_a_region_for_the_epoch_it_was_made_for(acts in prop::collection::vec(act(), 1..120)) {
        let (mut world, mut controller) = world(5);
        // Operators that were made earlier and come late.
        let mut stock: Vec<Operator> = (1..6).map(|id| mv(&world, id, 3, 4, Priority::High)).collect();
        for act in acts {
            let mut out = Vec::new();
            let before: Vec<_> = (1..6).map(|id| controller.running(RegionId(id))).collect();
            match act {
                Act::Add { region, to, priority } => {
                    let priority = Priority::ALL[priority as usize];
                    let fresh = world.regions.get(RegionId(region)).unwrap();
                    let op = if to == 4 { stock[region as usize - 1].clone() } else {
                        match Builder::new(world.view(), &fresh, "x").remove_peer(StoreId(3))
                            .add_peer(Peer { store: StoreId(to), ..Peer::default() }).priority(priority).build(Kind::REPLICA) {
                            Ok(op) => op,
                            Err(_) => continue,
                        }
                    };
                    let _ = controller.add(&world.view(), vec![op], &By::checker(), &mut out);
                }
                Act::Wait { region, to } => {
                    let op = mv(&world, region, 3, to, Priority::Medium);
                    stock[region as usize - 1] = op.clone();
                    let _ = controller.add_waiting(&world.view(), vec![op], &By::scheduler("balance"), None, &mut out);
                }
                Act::Heartbeat { region: id, bump, leader } => {
                    let old = world.regions.get(RegionId(id)).unwrap();
                    let mut new = region(id, (1, old.epoch().conf_ver + bump), old.peers());
                    new.leader = Some((id * 10 + leader).into());
                    let new = world.put(new);
                    controller.on_heartbeat(&world.view(), &new, &mut out);
                    if bump > 0 {
                        prop_assert!(controller.running(RegionId(id)).is_none(), "conf_ver moved by another hand");
                    }
                }
                Act::Cancel(region) => {
                    controller.cancel(&world.view(), RegionId(region), &mut out);
                }
                Act::Pass(ms) => {
                    world.pass(Duration::from_millis(ms));
                    controller.tick(&world.view(), &mut out);
                }
            }
            let mut running: Vec<bool> = before.iter().map(Option::is_some).collect();
            for effect in &out {
                match effect {
                    Effect::Tell(Event::OperatorAdded { op }) => {
                        let i = op.region.0 as usize - 1;
                        prop_assert!(!running[i], "two at once");
                        running[i] = true;
                        prop_assert_eq!(op.epoch, world.regions.get(op.region).unwrap().epoch());
                    }
                    Effect::Tell(Event::OperatorEnded { op, .. }) if op.id.0 != 0 => running[op.region.0 as usize - 1] = false,
                    _ => {}
                }
            }
            for id in 1..6 {
                prop_assert_eq!(controller.running(RegionId(id)).is_some(), running[id as usize - 1]);
            }
            check_sums(&controller);
        }
    }
}

/// What is kept up step by step equals what a walk over all operators gives.
fn check_sums(controller: &Controller) {
    let mut influence: BTreeMap<StoreId, StoreInfluence> = BTreeMap::new();
    let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
    for op in controller.all_running() {
        assert_eq!(op.status, Status::Started);
        *counts.entry(op.kind.counted_as()).or_default() += 1;
        for (store, part) in op.steps[op.current..].iter().flat_map(|s| s.influence(op.size_mib)) {
            influence.entry(store).or_default().add(part);
        }
    }
    influence.retain(|_, sum| *sum != StoreInfluence::default());
    assert_eq!(controller.influence(), &influence);
    for kind in [Kind::REPLICA, Kind::REGION, Kind::LEADER, Kind::ADMIN] {
        assert_eq!(controller.count(kind), counts.get(&kind).copied().unwrap_or(0));
    }
}

#[test]
fn o6_store_limits_hold_through_the_controller() {
    let (mut world, mut controller) = world(200);
    world.change_schedule(|s| s.replica_schedule_limit = 1000);
    let mut started = Vec::new();
    let mut next = 1;
    for _ in 0..18_000 {
        world.pass(Duration::from_millis(10));
        let mut out = Vec::new();
        let op = mv(&world, next, 3, 4 + next % 2, Priority::High);
        if controller.may_add(&world.view(), std::slice::from_ref(&op)).is_ok() {
            controller.add(&world.view(), vec![op], &By::checker(), &mut out).unwrap();
            started.push(world.now.mono);
            next += 1;
        }
    }
    // Store 3 loses 15 a minute, however many stores could take them.
    assert_eq!(started.len(), 45);
    assert!(started.windows(2).all(|w| w[1].since(w[0]) == Duration::from_secs(4)));
}

#[test]
fn a_heartbeat_without_an_operator_does_nothing() {
    let (world, mut controller) = world(1);
    let mut out = Vec::new();
    let region = world.regions.get(RegionId(1)).unwrap();
    controller.on_heartbeat(&world.view(), &region, &mut out);
    assert!(out.is_empty());
}

#[test]
fn commands_of_a_dispatch_go_to_the_leader_that_reports() {
    let (world, mut controller) = world(1);
    let mut out = Vec::new();
    controller.add(&world.view(), vec![mv(&world, 1, 3, 4, Priority::High)], &By::checker(), &mut out).unwrap();
    let mut moved = three(1);
    moved.leader = Some(12.into());
    let moved: Arc<Region> = world.put(moved);
    out.clear();
    controller.on_heartbeat(&world.view(), &moved, &mut out);
    let Some(Effect::Send(command)) = out.last() else { panic!("{out:?}") };
    assert_eq!((command.store, command.target_peer.id), (StoreId(2), 12.into()));
    assert!(matches!(&out[0], Effect::Tell(Event::CommandSent { source: DispatchSource::Heartbeat, .. })));
}
