//! Tests of the machine: PD's texts with literal inputs, and properties over any commands (rejection is a no-op, deterministic, replay).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

use std::sync::Arc;

use proptest::prelude::*;

use super::{records::EndedRow, *};
use crate::model::{
    NodeState, OperatorId, StoreId, StoreLabel, StoreLimits, StoreRecord, StoreState, store::UNLIMITED,
};

const LIMITS: StoreLimits = StoreLimits { add_peer: 15.0, remove_peer: 15.0 };
const NOW: Wall = Wall(1_795_358_340_000_000_000);

fn store(id: u64) -> StoreRecord {
    StoreRecord { id: StoreId(id), address: format!("t{id}:1"), version: "8.5.0".into(), ..StoreRecord::default() }
}

fn put(record: StoreRecord) -> Command {
    Command::PutStore { record: Box::new(record), limits: LIMITS }
}

fn bootstrap() -> Command {
    Command::Bootstrap(Box::new(Bootstrap {
        store: store(1),
        limits: LIMITS,
        region: vec![8, 2],
        rules: vec![RuleRow { group: "pd".into(), id: "default".into(), json: "{}".into() }],
        label_rules: vec![NamedRow { id: "keyspaces/0".into(), json: "{}".into() }],
        keyspaces: vec![NamedRow { id: "0".into(), json: "{}".into() }],
    }))
}

fn offline(id: u64) -> Command {
    Command::OfflineStore {
        id: StoreId(id),
        physically_destroyed: false,
        need_up: 3,
        tikv_up_check: true,
        evict_leader: vec![],
    }
}

fn destroy(id: u64) -> Command {
    Command::OfflineStore {
        id: StoreId(id),
        physically_destroyed: true,
        need_up: 3,
        tikv_up_check: true,
        evict_leader: vec![],
    }
}

fn up(id: u64) -> Command {
    Command::UpStore { id: StoreId(id) }
}

fn bury(id: u64) -> Command {
    Command::BuryStore { id: StoreId(id), force: false, connected: false, heard: NOW }
}

fn run(state: &mut State, command: Command) -> Result<Reply, Refusal> {
    execute(state, NOW, &command).map(|(plan, _)| plan.reply)
}

#[track_caller]
fn refused(state: &mut State, command: Command, text: &str) {
    let before = state.clone();
    let refusal = run(state, command).expect_err("refused");
    assert_eq!(refusal.to_string(), text);
    assert_eq!(*state, before, "a refusal is a no-op");
}

/// A bootstrapped cluster with stores 1 to `n`.
fn cluster(n: u64) -> State {
    let mut state = State::default();
    run(&mut state, Command::InitCluster { cluster_id: 7.into() }).unwrap();
    run(&mut state, bootstrap()).unwrap();
    for id in 2..=n {
        run(&mut state, put(store(id))).unwrap();
    }
    state
}

fn state_of(state: &State, id: u64) -> (StoreState, NodeState) {
    let store = &state.stores[&StoreId(id)];
    (store.state, store.node_state)
}

fn limits_of(state: &State, id: u64) -> StoreLimits {
    state.limits[&StoreId(id)]
}

#[test]
fn l7_bootstrap_happens_once_and_whole() {
    let mut state = State::default();
    refused(&mut state, put(store(1)), "cluster is not bootstrapped");
    run(&mut state, Command::InitCluster { cluster_id: 7.into() }).unwrap();
    refused(&mut state, Command::InitCluster { cluster_id: 8.into() }, "mismatch cluster id, need 7 but got 8");
    let (_, changes) = execute(&mut state, NOW, &bootstrap()).unwrap();
    assert!(matches!(changes[0], Change::Bootstrapped(_)));
    assert!(state.is_bootstrapped() && state.cluster.as_ref().unwrap().id.0 == 7);
    assert_eq!((state.stores.len(), state.rules.len(), state.label_rules.len(), state.keyspaces.len()), (1, 1, 1, 1));
    assert_eq!(limits_of(&state, 1), LIMITS);
    assert_eq!(state.cluster_version.as_ref().unwrap().to_string(), "8.5.0");
    refused(&mut state, bootstrap(), "cluster is already bootstrapped");
}

#[test]
fn put_store_answers_as_recorded() {
    let mut state = cluster(4);
    let nameless = StoreRecord { address: "t7:1".into(), ..store(0) };
    refused(&mut state, put(nameless), "invalid put store address:\"t7:1\" version:\"8.5.0\" ");
    refused(
        &mut state,
        put(StoreRecord { address: "t4:1".into(), ..store(7) }),
        "duplicated store address: id:7 address:\"t4:1\" version:\"8.5.0\" , already registered by id:4 address:\"t4:1\" version:\"8.5.0\" ",
    );
    let version = |v: &str| put(StoreRecord { version: v.into(), ..store(8) });
    refused(&mut state, version(""), "version should compatible with version  8.5.0, got 1.0.0");
    refused(&mut state, version("2.0.0"), "version should compatible with version  8.5.0, got 2.0.0");
    refused(
        &mut state,
        version("eight"),
        "invalid put store id:8 address:\"t8:1\" version:\"eight\" , error: [PD:semver:ErrSemverNewVersion]eight is not in dotted-tri format: eight is not in dotted-tri format",
    );
    run(&mut state, version("9.9.9")).unwrap();
    assert_eq!(state.cluster_version.as_ref().unwrap().to_string(), "8.5.0", "the lowest of all");
}

#[test]
fn put_store_keeps_what_others_decided() {
    let mut state = cluster(4);
    run(&mut state, Command::SetStoreWeight { id: 4.into(), leader: 2.0, region: 3.0 }).unwrap();
    run(&mut state, offline(4)).unwrap();
    run(&mut state, Command::SaveHeartbeats { heard: vec![(4.into(), NOW), (99.into(), NOW)] }).unwrap();
    let again = StoreRecord {
        address: "t4:2".into(),
        labels: vec![StoreLabel { key: "Zone".into(), value: "z1".into() }],
        ..store(4)
    };
    let Reply::StorePut { record, previous } = run(&mut state, put(again.clone())).unwrap() else { panic!() };
    assert_eq!((record.address.as_str(), record.label("zone")), ("t4:2", "z1"));
    assert_eq!(previous.unwrap().address, "t4:1");
    assert_eq!(state_of(&state, 4), (StoreState::Offline, NodeState::Removing));
    assert_eq!((record.leader_weight, record.region_weight, record.last_heartbeat), (2.0, 3.0, NOW));
    assert_eq!(limits_of(&state, 4).remove_peer, UNLIMITED, "not reset by a restart of the store");
    let before = state.clone();
    run(&mut state, put(again)).unwrap();
    assert_eq!(state, before, "the same again writes nothing");
}

#[test]
fn the_cluster_version_follows_the_lowest_store_upwards() {
    let mut state = cluster(2);
    let version = |id, v: &str| put(StoreRecord { version: v.into(), ..store(id) });
    run(&mut state, version(1, "8.5.1")).unwrap();
    assert_eq!(state.cluster_version.as_ref().unwrap().to_string(), "8.5.0");
    let (_, changes) = execute(&mut state, NOW, &version(2, "8.6.0")).unwrap();
    assert!(changes.iter().any(|c| matches!(c, Change::ClusterVersion(v) if v.to_string() == "8.5.1")));
}

#[test]
fn s1_s2_a_tombstone_never_revives() {
    let mut state = cluster(5);
    run(&mut state, offline(4)).unwrap();
    run(&mut state, bury(4)).unwrap();
    assert_eq!(state_of(&state, 4), (StoreState::Tombstone, NodeState::Removed));
    assert!(!state.limits.contains_key(&StoreId(4)) && state.drains.is_empty());
    refused(&mut state, put(store(4)), "store is tombstone");
    refused(&mut state, up(4), "[PD:core:ErrStoreRemoved]store 4 has been removed");
    refused(&mut state, offline(4), "[PD:core:ErrStoreRemoved]store 4 has been removed");
    refused(&mut state, Command::ServingStore { id: 4.into() }, "[PD:core:ErrStoreRemoved]store 4 has been removed");
    assert!(matches!(run(&mut state, bury(4)), Ok(Reply::Store { changed: false, .. })));
    refused(&mut state, Command::RemoveTombstone { id: 1.into() }, "store 1 is not tombstone");
    run(&mut state, Command::RemoveTombstone { id: 4.into() }).unwrap();
    refused(&mut state, put(store(4)), "store is tombstone");
    run(&mut state, put(StoreRecord { address: "t4:1".into(), ..store(6) })).unwrap();
}

#[test]
fn s4_an_address_is_free_again_after_its_store_is_gone() {
    let mut state = cluster(5);
    let taken = |id, address: &str| put(StoreRecord { address: address.into(), ..store(id) });
    assert!(run(&mut state, taken(9, "T5:1")).is_err(), "host names do not care for case");
    run(&mut state, destroy(5)).unwrap();
    run(&mut state, taken(9, "t5:1")).unwrap();
    let peer = |id: u64, peer: &str| put(StoreRecord { peer_address: peer.into(), ..store(id) });
    run(&mut state, peer(10, "p:1")).unwrap();
    let text = run(&mut state, peer(11, "p:1")).unwrap_err().to_string();
    assert!(text.starts_with("duplicated store peer address: id:11 "), "{text}");
}

#[test]
fn s6_a_delete_never_starts_what_cannot_be_finished() {
    let mut state = cluster(3);
    refused(
        &mut state,
        offline(1),
        "[PD:core:ErrStoresNotEnough]can not remove store 1 since the number of up stores would be 2 while need 3",
    );
    refused(&mut state, offline(999), "[PD:core:ErrStoreNotFound]store 999 not found");
    let mut state = cluster(4);
    run(&mut state, offline(1)).unwrap();
    refused(
        &mut state,
        offline(2),
        "[PD:core:ErrStoresNotEnough]can not remove store 2 since the number of up stores would be 2 while need 3",
    );
    let mut state = cluster(4);
    let Command::OfflineStore { id, physically_destroyed, need_up, tikv_up_check, .. } = offline(1) else { panic!() };
    let evict_leader = vec![2.into(), 3.into(), 4.into()];
    let evicted = Command::OfflineStore { id, physically_destroyed, need_up, tikv_up_check, evict_leader };
    refused(
        &mut state,
        evicted,
        "[PD:core:ErrNoStoreForRegionLeader]can not remove store 1 since there are no extra up store to store the leader",
    );
    // TiFlash and `force` are not checked.
    let engine = StoreLabel { key: "engine".into(), value: "tiflash".into() };
    let mut state = cluster(3);
    run(&mut state, put(StoreRecord { labels: vec![engine], ..store(4) })).unwrap();
    run(&mut state, offline(4)).unwrap();
    run(&mut state, destroy(1)).unwrap();
}

#[test]
fn s7_delete_is_idempotent_and_force_does_not_go_back() {
    let mut state = cluster(4);
    for i in 0..3 {
        let Reply::Offline { changed, drain, .. } = run(&mut state, offline(1)).unwrap() else { panic!() };
        assert_eq!((changed, drain.unwrap().previous), (i == 0, Some(LIMITS)));
    }
    let Reply::Offline { changed, drain, .. } = run(&mut state, destroy(1)).unwrap() else { panic!() };
    assert_eq!((changed, drain.unwrap().previous), (true, Some(LIMITS)), "force keeps what the drain remembers");
    refused(&mut state, offline(1), "[PD:core:ErrStoreDestroyed]store 1 has been physically destroyed");
    refused(&mut state, up(1), "[PD:core:ErrStoreDestroyed]store 1 has been physically destroyed");
}

#[test]
fn s8_cancel_restores_the_limit_that_delete_changed() {
    let mut state = cluster(4);
    let rate = Command::SetStoreLimit { id: 1.into(), kind: LimitKind::RemovePeer, rate: 7.5 };
    run(&mut state, rate).unwrap();
    run(&mut state, offline(1)).unwrap();
    assert_eq!(limits_of(&state, 1), StoreLimits { add_peer: 15.0, remove_peer: UNLIMITED });
    let add = Command::SetStoreLimit { id: 1.into(), kind: LimitKind::AddPeer, rate: 20.0 };
    run(&mut state, add).unwrap();
    let Reply::Store { changed, limits, .. } = run(&mut state, up(1)).unwrap() else { panic!() };
    assert_eq!((changed, limits), (true, Some(StoreLimits { add_peer: 20.0, remove_peer: 7.5 })));
    assert_eq!(limits_of(&state, 1), limits.unwrap());
    assert_eq!(state_of(&state, 1), (StoreState::Up, NodeState::Serving));
    assert!(state.drains.is_empty());
    assert!(matches!(run(&mut state, up(1)), Ok(Reply::Store { changed: false, .. })));
    // A wish for all stores that came during the drain is younger than what the drain remembers.
    run(&mut state, offline(1)).unwrap();
    let all = Command::SetAllStoreLimits { kind: LimitKind::RemovePeer, rate: 40.0, stores: None };
    run(&mut state, all).unwrap();
    run(&mut state, up(1)).unwrap();
    assert_eq!(limits_of(&state, 1).remove_peer, 40.0);
}

#[test]
fn s10_bury_of_a_live_store_is_refused() {
    let mut state = cluster(4);
    refused(&mut state, bury(1), "[PD:cluster:ErrStoreIsUp]store is still up, please remove store gracefully");
    let forced = |connected| Command::BuryStore { id: 1.into(), force: true, connected, heard: NOW };
    refused(&mut state, forced(true), "The store 1 is not offline nor disconnected");
    run(&mut state, forced(false)).unwrap();
    assert_eq!(state.stores[&StoreId(1)].last_heartbeat, NOW, "its age as a Tombstone is counted from here");
}

#[test]
fn serving_labels_weights_limits() {
    let mut state = cluster(1);
    let serving = || Command::ServingStore { id: 1.into() };
    run(&mut state, serving()).unwrap();
    refused(&mut state, serving(), "[PD:core:ErrStoreServing]store 1 has been serving");
    let label = |key: &str, value: &str| StoreLabel { key: key.into(), value: value.into() };
    let set = |labels, force| Command::SetStoreLabels { id: 1.into(), labels, force };
    run(&mut state, set(vec![label("zone", "z1"), label("host", "h1")], false)).unwrap();
    run(&mut state, set(vec![label("ZONE", "z2"), label("disk", "ssd")], false)).unwrap();
    let labels = |state: &State| state.stores[&StoreId(1)].labels.clone();
    assert_eq!(labels(&state), [label("zone", "z2"), label("host", "h1"), label("disk", "ssd")]);
    run(&mut state, Command::DeleteStoreLabel { id: 1.into(), key: "HOST".into() }).unwrap();
    run(&mut state, set(vec![label("disk", "")], false)).unwrap();
    assert_eq!(labels(&state), [label("zone", "z2")]);
    run(&mut state, set(vec![label("rack", "r1")], true)).unwrap();
    assert_eq!(labels(&state), [label("rack", "r1")]);
    let delete = Command::DeleteStoreLabel { id: 1.into(), key: "x".into() };
    refused(&mut state, delete, "the label key x does not exist");
    let unknown = Command::DeleteStoreLabel { id: 999.into(), key: "x".into() };
    refused(&mut state, unknown, "[PD:cluster:ErrInvalidStoreID]invalid store id 999, not found");
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let limit = Command::SetStoreLimit { id: 1.into(), kind: LimitKind::AddPeer, rate };
        refused(&mut state, limit, "invalid rate which should be larger than 0");
    }
    let weight = Command::SetStoreWeight { id: 1.into(), leader: -1.0, region: 1.0 };
    refused(&mut state, weight, "bad format leader weight");
}

fn service(id: &str, ttl: i64, safe_point: u64) -> Command {
    Command::UpdateServiceGcSafePoint { service_id: id.into(), ttl, safe_point }
}

fn lowest(reply: Reply) -> (String, u64, bool) {
    let Reply::ServiceSafePoint { lowest, updated } = reply else { panic!("{reply:?}") };
    (lowest.id, lowest.ts, updated)
}

#[test]
fn g1_g2_gc_answers_as_recorded() {
    let mut state = cluster(1);
    refused(
        &mut state,
        Command::UpdateGcSafePoint { value: 10 },
        "[PD:gc:ErrGCSafePointExceedsTxnSafePoint]trying to update GC safe point to a too large value that exceeds the txn safe point, current value: 0, given: 10, current txn safe point: 0",
    );
    assert_eq!(lowest(run(&mut state, service("br", 300, 20)).unwrap()), ("gc_worker".into(), 0, true));
    refused(&mut state, service("", 300, 20), "[PD:common:ErrInvalidArgument]invalid argument for barrierID: ");
    refused(&mut state, service("gc_worker", 300, 20), "TTL of gc_worker's service safe point must be infinity");
    assert_eq!(lowest(run(&mut state, service("gc_worker", i64::MAX, 30)).unwrap()), ("br".into(), 20, true));
    assert_eq!(lowest(run(&mut state, service("cdc", 300, 3)).unwrap()), ("gc_worker".into(), 20, false));
    assert!(!state.barriers.contains_key("cdc"), "behind the transaction safe point: passed over");
    run(&mut state, Command::UpdateGcSafePoint { value: 15 }).unwrap();
    let reply = run(&mut state, Command::UpdateGcSafePoint { value: 5 }).unwrap();
    assert_eq!(reply, Reply::GcSafePoint { points: GcPoints { gc: 15, txn: 20 }, previous: 15 });
    run(&mut state, service("br", 0, 20)).unwrap();
    assert_eq!(lowest(run(&mut state, service("gc_worker", i64::MAX, 30)).unwrap()), ("gc_worker".into(), 30, true));
    refused(
        &mut state,
        service("gc_worker", i64::MAX, 29),
        "[PD:gc:ErrDecreasingTxnSafePoint]trying to update txn safe point to a smaller value, current value: 30, given: 29",
    );
}

#[test]
fn global_config_has_one_revision_a_command() {
    let mut state = cluster(1);
    let change = |key: &str, value: Option<&str>| GlobalConfigChange {
        key: key.into(),
        value: value.map(|v| v.as_bytes().to_vec()),
    };
    let set = |changes| Command::ChangeGlobalConfig { changes };
    assert_eq!(run(&mut state, set(vec![change("a", Some("1")), change("b", Some("2"))])), Ok(Reply::Revision(1)));
    assert_eq!(run(&mut state, set(vec![change("c", None)])), Ok(Reply::Revision(1)));
    let (plan, changes) = execute(&mut state, NOW, &set(vec![change("a", None)])).unwrap();
    assert_eq!(plan.reply, Reply::Revision(2));
    assert_eq!(changes, [Change::GlobalConfig { key: "a".into(), item: None, revision: 2 }]);
}

#[test]
fn too_many_rows_are_refused() {
    let mut state = cluster(1);
    let heard = vec![(StoreId(1), NOW); MAX_ROWS_A_COMMAND + 1];
    refused(&mut state, Command::SaveHeartbeats { heard }, "too many rows: 16385, the most is 16384");
}

#[test]
fn an_envelope_from_a_newer_binary_is_named() {
    let envelope = Envelope { origin: 1, ticket: 2, now: NOW, command: put(store(1)) };
    let bytes = envelope.encode().unwrap();
    assert_eq!(Envelope::decode(&bytes).unwrap(), envelope);
    let mut newer = bytes.clone();
    newer[0] = ENVELOPE_VERSION + 1;
    assert_eq!(Envelope::decode(&newer).unwrap_err().to_string(), "command of format 2, this binary knows up to 1");
    assert!(Envelope::decode(&[]).is_err() && Envelope::decode(&bytes[..20]).is_err());
}

#[test]
fn c1_a_change_of_the_configuration_is_done_whole_or_not_at_all() {
    let mut state = State::default();
    execute(&mut state, NOW, &Command::InitCluster { cluster_id: 7.into() }).unwrap();
    execute(&mut state, NOW, &bootstrap()).unwrap();
    let rule = RuleRow { group: "pd".into(), id: "default".into(), json: "{\"count\":5}".into() };
    let good = ConfigChange {
        config: Some("{\"a\":1}".into()),
        version: Some("8.6.0".parse().unwrap()),
        rules: vec![rule],
        limits: vec![(StoreId(1), StoreLimits { add_peer: 7.0, remove_peer: 0.0 })],
        ..ConfigChange::default()
    };
    let before = state.clone();
    for (limits, text) in [
        ((StoreId(9), LIMITS), "[PD:core:ErrStoreNotFound]store 9 not found"),
        ((StoreId(1), StoreLimits { add_peer: -1.0, ..LIMITS }), "store limits should be finite and non-negative"),
    ] {
        let mut bad = good.clone();
        bad.limits.push(limits);
        let refusal = execute(&mut state, NOW, &Command::ChangeConfig(Box::new(bad))).unwrap_err();
        assert_eq!(refusal.to_string(), text);
        assert_eq!(state, before);
    }
    execute(&mut state, NOW, &Command::ChangeConfig(Box::new(good))).unwrap();
    assert_eq!(state.config.as_deref(), Some("{\"a\":1}"));
    assert_eq!(state.cluster_version.as_ref().unwrap().to_string(), "8.6.0");
    assert_eq!(state.limits[&StoreId(1)], StoreLimits { add_peer: 7.0, remove_peer: 0.0 });
    assert!(state.rules.values().any(|json| json.contains("5")));
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (1..7u64).prop_map(StoreId);
    let kind = || prop_oneof![Just(LimitKind::AddPeer), Just(LimitKind::RemovePeer)];
    prop_oneof![
        6 => (1..7u64, 1..7u64).prop_map(|(id, at)| put(StoreRecord { address: format!("t{at}:1"), ..store(id) })),
        2 => (1..7u64, 4..10u64).prop_map(|(id, minor)| put(StoreRecord { version: format!("8.{minor}.0"), ..store(id) })),
        6 => (id(), any::<bool>(), 0..4u64).prop_map(|(id, physically_destroyed, need_up)| Command::OfflineStore {
            id, physically_destroyed, need_up, tikv_up_check: true, evict_leader: vec![]
        }),
        6 => id().prop_map(|id| Command::UpStore { id }),
        3 => (id(), any::<bool>(), any::<bool>())
            .prop_map(|(id, force, connected)| Command::BuryStore { id, force, connected, heard: NOW }),
        2 => id().prop_map(|id| Command::RemoveTombstone { id }),
        1 => id().prop_map(|id| Command::ServingStore { id }),
        2 => (id(), kind(), 1..50u32).prop_map(|(id, kind, rate)| Command::SetStoreLimit { id, kind, rate: f64::from(rate) }),
        1 => (kind(), 1..50u32).prop_map(|(kind, rate)| Command::SetAllStoreLimits { kind, rate: f64::from(rate), stores: None }),
        1 => (id(), any::<i64>()).prop_map(|(id, at)| Command::SaveHeartbeats { heard: vec![(id, Wall(at))] }),
        2 => (0..40u64).prop_map(|value| Command::UpdateGcSafePoint { value }),
        2 => (0..40u64).prop_map(|p| service(GC_WORKER, i64::MAX, p)),
        2 => ("[ab]", -1..100i64, 0..40u64).prop_map(|(id, ttl, p)| service(&id, ttl, p)),
        1 => (0..2000u64).prop_map(|size| Command::AllocIdWindow { size }),
        1 => any::<i64>().prop_map(|upper_ms| Command::SaveTsoWindow { upper_ms }),
        1 => ("[ab]", "[ab]", proptest::option::of("[xy]")).prop_map(|(put, delete, config)| Command::PutSchedulers {
            config, put: vec![NamedRow { id: put, json: "{}".into() }], delete: vec![delete]
        }),
        1 => (0..4u64, 0..9u64, any::<bool>()).prop_map(|(drain, id, is_on_its_way)| Command::PutRecords {
            progress: vec![(StoreId(drain), is_on_its_way.then(|| "{}".into()))],
            ended: vec![EndedRow { drain: StoreId(drain), id: OperatorId(id), json: "{}".into() }],
        }),
    ]
}

#[test]
fn a_label_rule_costs_what_it_is_whatever_stands_beside_it() {
    let row = |n: u32| NamedRow { id: format!("rule-{n}"), json: format!("{{\"n\":{n}}}") };
    let mut state = cluster(1);
    for n in 0..30_000 {
        state.apply(&Action::Put(Row::LabelRule(row(n).id, row(n).json.into())));
    }
    // Others hold the version before, as readers and the publisher do.
    let before = state.clone();
    let command = Command::PutLabelRules { rules: vec![row(200_000)], delete: vec![row(777).id, "unknown".into()] };
    let (plan, changes) = execute(&mut state, NOW, &command).unwrap();
    assert_eq!(plan.actions.len(), 2);
    let copied = state.label_rules.own_nodes(&before.label_rules);
    assert!(copied <= 80, "{copied} of 30,000 entries were copied");
    let rows = LabelRows::from([(row(777).id, None), (row(200_000).id, Some(row(200_000).json.as_str().into()))]);
    assert_eq!(changes, [Change::LabelRulesChanged(Arc::new(rows))], "observers get what changed");
    assert_eq!((state.rules.own_nodes(&before.rules), state.label_rules.len()), (0, before.label_rules.len()));
}

#[test]
fn a_label_rule_that_was_set_again_is_not_replaced() {
    let mut state = cluster(1);
    let row = |id: &str, json: &str| NamedRow { id: id.into(), json: json.into() };
    let set = Command::PutLabelRules { rules: vec![row("a", "1"), row("b", "1"), row("c", "1")], delete: vec![] };
    execute(&mut state, NOW, &set).unwrap();
    let replace = |id: &str, was: &str, becomes: Option<&str>| LabelRuleReplacement {
        id: id.into(),
        was: was.into(),
        becomes: becomes.map(Into::into),
    };
    let changes =
        vec![replace("a", "1", None), replace("b", "0", None), replace("c", "1", Some("2")), replace("d", "1", None)];
    let (_, told) = execute(&mut state, NOW, &Command::ReplaceLabelRules { changes }).unwrap();
    assert_eq!(
        told,
        [Change::LabelRulesChanged(Arc::new([("a".into(), None), ("c".into(), Some("2".into()))].into()))]
    );
    let get = |id: &str| state.label_rules.get(id).map(|text| text.to_string());
    assert_eq!((get("a"), get("b"), get("c"), get("d")), (None, Some("1".into()), Some("2".into()), None));
}

/// The state from its rows, as a start reads them.
fn from_rows(state: &State) -> State {
    let mut keys = vec![
        RowKey::Cluster,
        RowKey::ClusterVersion,
        RowKey::Config,
        RowKey::IdEnd,
        RowKey::TsoUpper,
        RowKey::Gc,
        RowKey::GlobalRevision,
        RowKey::MinResolvedTs,
    ];
    keys.extend(state.stores.keys().map(|id| RowKey::Store(*id)));
    keys.extend(state.limits.keys().map(|id| RowKey::Limits(*id)));
    keys.extend(state.drains.keys().map(|id| RowKey::Drain(*id)));
    keys.extend(state.dead_stores.iter().map(|id| RowKey::DeadStore(*id)));
    keys.extend(state.barriers.keys().map(|id| RowKey::Barrier(id.clone())));
    keys.extend(state.rules.keys().map(|(g, id)| RowKey::Rule(g.clone(), id.clone())));
    keys.extend(state.label_rules.keys().map(|id| RowKey::LabelRule(id.clone())));
    keys.extend(state.keyspaces.keys().map(|id| RowKey::Keyspace(id.clone())));
    keys.extend(state.schedulers.keys().map(|name| RowKey::Scheduler(name.clone())));
    keys.extend(state.records.keys().map(|name| RowKey::Record(name.clone())));
    let mut copy = State::default();
    for row in keys.iter().filter_map(|key| state.row(key)) {
        let bytes = serde_json::to_vec(&row).unwrap();
        copy.apply(&Action::Put(serde_json::from_slice(&bytes).unwrap()));
    }
    copy
}

fn rank(state: StoreState) -> u8 {
    match state {
        StoreState::Up | StoreState::Offline => 0,
        StoreState::Tombstone => 1,
    }
}

proptest! {
    #[test]
    fn s1_s2_g1_g2_hold_after_any_commands(commands in proptest::collection::vec((any_command(), 0..200i64), 1..120)) {
        let (mut state, mut twin) = (cluster(3), cluster(3));
        for (command, seconds) in commands {
            let before = state.clone();
            let now = Wall(NOW.0 + seconds * 1_000_000_000);
            let outcome = execute(&mut state, now, &command);
            // Deterministic, also through the encoding of the log.
            let entry = Envelope { origin: 0, ticket: 0, now, command: command.clone() }.encode().unwrap();
            let entry = Envelope::decode(&entry).unwrap();
            prop_assert_eq!(&execute(&mut twin, entry.now, &entry.command), &outcome);
            prop_assert_eq!(&twin, &state);
            if outcome.is_err() {
                prop_assert_eq!(&state, &before, "a refusal is a no-op");
            }
            for (id, old) in before.stores.iter() {
                match state.stores.get(id) {
                    Some(new) => prop_assert!(rank(new.state) >= rank(old.state), "store {} revived", id),
                    None => prop_assert!(old.state == StoreState::Tombstone && state.dead_stores.contains(id)),
                }
            }
            prop_assert!(before.dead_stores.is_subset(&state.dead_stores));
            prop_assert!(state.dead_stores.iter().all(|id| !state.stores.contains_key(id)));
            for store in state.stores.values() {
                let draining = store.state == StoreState::Offline;
                prop_assert_eq!(state.drains.contains_key(&store.id), draining);
                prop_assert_eq!(state.limits.contains_key(&store.id), store.state != StoreState::Tombstone);
            }
            prop_assert!(state.gc.gc >= before.gc.gc && state.gc.txn >= before.gc.txn && state.gc.gc <= state.gc.txn);
            let live = |b: &&Arc<Barrier>| now.unix_seconds() <= b.expires;
            prop_assert!(state.barriers.values().filter(live).all(|b| state.gc.txn <= b.ts), "a live barrier was passed");
            prop_assert!(state.id_end >= before.id_end && state.tso_upper_ms >= before.tso_upper_ms);
        }
        prop_assert_eq!(from_rows(&state), state);
    }
}

#[test]
fn a_drain_remembers_who_asked_for_it_first() {
    let mut state = cluster(5);
    let by = AskedBy { component: "pd-ctl".into(), ip: "10.0.0.7".into() };
    let asked = |by: &AskedBy| Command::Asked { by: by.clone(), command: Box::new(offline(1)) };
    run(&mut state, asked(&by)).unwrap();
    assert_eq!(state.drains[&StoreId(1)].by, Some(by));
    let other = AskedBy { component: "other".into(), ip: String::new() };
    run(&mut state, asked(&other)).unwrap();
    assert_eq!(state.drains[&StoreId(1)].by.as_ref().map(|by| by.component.as_str()), Some("pd-ctl"));
    // A drain without an asker is written as before.
    let mut plain = cluster(5);
    run(&mut plain, offline(1)).unwrap();
    assert!(!serde_json::to_string(&*plain.drains[&StoreId(1)]).unwrap().contains("by"));
    refused(
        &mut plain,
        Command::Asked { by: AskedBy::default(), command: Box::new(offline(999)) },
        "[PD:core:ErrStoreNotFound]store 999 not found",
    );
}
