//! The life of a store, as far as it is agreed: put, offline, up, bury, remove, labels, weights, limits.
//!
//! Owns: which change of state is allowed (S1 to S8), the serialised check before a removal, the memory of the limits that a removal
//! changes, addresses used once, the version fence. Must not know: heartbeats and regions; what depends on them stands in the command.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Action, Bootstrap, Cluster, Drain, LimitKind, Plan, Refusal, Reply, Row, RowKey, State, bounded, room, settings,
};
use crate::model::{
    ClusterVersion, NodeState, StoreId, StoreLabel, StoreLimits, StoreRecord, StoreState, Wall, store::UNLIMITED,
};

/// What must hold before a store may be taken out.
pub(super) struct UpCheck<'a> {
    /// TiKV stores that must stay up.
    pub(super) need_up: u64,
    /// Stores without leaders.
    pub(super) evict_leader: &'a [StoreId],
}

/// Makes the cluster: store, first region, rules and keyspace together (L7).
pub(super) fn bootstrap(state: &State, now: Wall, b: &Bootstrap) -> Result<Plan, Refusal> {
    if state.is_bootstrapped() {
        return Err(Refusal::AlreadyBootstrapped);
    }
    bounded(b.rules.len() + b.label_rules.len() + b.keyspaces.len())?;
    let id = state.cluster.as_ref().map(|c| c.id).unwrap_or_default();
    let cluster = Cluster { id, bootstrapped: Some(now), first_region: b.region.clone() };
    let mut actions = vec![Action::Put(Row::Cluster(Arc::new(cluster)))];
    let put = new_store(state, &b.store, b.limits)?;
    actions.extend(put);
    actions.extend(b.rules.iter().map(settings::rule));
    actions.extend(b.label_rules.iter().map(settings::label_rule));
    actions.extend(b.keyspaces.iter().map(settings::keyspace));
    Ok(Plan::done(actions))
}

/// Adds a store or updates what it says about itself.
pub(super) fn put_store(state: &State, record: &StoreRecord, limits: StoreLimits) -> Result<Plan, Refusal> {
    if !state.is_bootstrapped() {
        return Err(Refusal::NotBootstrapped);
    }
    let (actions, previous) = match state.stores.get(&record.id) {
        Some(old) if old.state == StoreState::Tombstone => return Err(Refusal::StoreTombstone(record.id)),
        Some(old) => (update_store(state, old, record)?, Some(old.clone())),
        None => (new_store(state, record, limits)?, None),
    };
    let record = actions.iter().find_map(|a| match a {
        Action::Put(Row::Store(s)) => Some(s.clone()),
        _ => None,
    });
    let record = record.or_else(|| previous.clone()).unwrap_or_default();
    Ok(Plan::new(actions, Reply::StorePut { record, previous }))
}

fn new_store(state: &State, record: &StoreRecord, limits: StoreLimits) -> Result<Vec<Action>, Refusal> {
    check_id_version_address(state, record)?;
    if state.dead_stores.contains(&record.id) {
        return Err(Refusal::StoreTombstone(record.id));
    }
    check_limits(limits)?;
    room(state.stores.len(), 1)?;
    let record = StoreRecord { leader_weight: 1.0, region_weight: 1.0, ..record.clone() };
    let mut actions = vec![];
    if record.state != StoreState::Tombstone {
        actions.push(Action::Put(Row::Limits(record.id, limits)));
    }
    actions.insert(0, Action::Put(Row::Store(Arc::new(record.clone()))));
    actions.extend(raised_version(state, Some(&record)));
    Ok(actions)
}

/// What a store says about itself replaces what it said before; what others decided about it stays.
fn update_store(state: &State, old: &StoreRecord, new: &StoreRecord) -> Result<Vec<Action>, Refusal> {
    check_id_version_address(state, new)?;
    let record = StoreRecord {
        address: new.address.clone(),
        peer_address: new.peer_address.clone(),
        status_address: new.status_address.clone(),
        labels: merged_labels(&old.labels, &new.labels),
        version: new.version.clone(),
        git_hash: new.git_hash.clone(),
        start_timestamp: new.start_timestamp,
        deploy_path: new.deploy_path.clone(),
        ..old.clone()
    };
    if record == *old {
        return Ok(vec![]);
    }
    let raised = raised_version(state, Some(&record));
    Ok([Action::Put(Row::Store(Arc::new(record)))].into_iter().chain(raised).collect())
}

fn check_id_version_address(state: &State, record: &StoreRecord) -> Result<(), Refusal> {
    if record.id.0 == 0 {
        return Err(Refusal::InvalidStore(Box::new(record.clone())));
    }
    let version = store_version(record)?;
    if let Some(cluster) = &state.cluster_version {
        let same_minor = (cluster.0.major, cluster.0.minor) == (version.0.major, version.0.minor);
        if !(cluster < &version || same_minor) {
            return Err(Refusal::Incompatible { cluster: cluster.to_string(), got: version.to_string() });
        }
    }
    let live = |s: &&Arc<StoreRecord>| s.id != record.id && s.state != StoreState::Tombstone && !s.physically_destroyed;
    for other in state.stores.values().filter(live) {
        if same_address(&other.address, &record.address) {
            return Err(Refusal::DuplicateAddress { store: Box::new(record.clone()), by: other.clone() });
        }
        if !record.peer_address.is_empty() && same_address(&other.peer_address, &record.peer_address) {
            return Err(Refusal::DuplicatePeerAddress { store: Box::new(record.clone()), by: other.clone() });
        }
    }
    Ok(())
}

/// Host names do not care for case (S4).
fn same_address(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The version of a store; none told is 1.0.0, as in PD. The texts of what is wrong are those of PD's version parser.
fn store_version(record: &StoreRecord) -> Result<ClusterVersion, Refusal> {
    if record.version.is_empty() {
        return Ok(ClusterVersion(semver::Version::new(1, 0, 0)));
    }
    record.version.parse().map_err(|e: semver::Error| {
        let text = version_problem(&record.version).unwrap_or_else(|| e.to_string());
        Refusal::BadVersion { store: Box::new(record.clone()), text }
    })
}

/// What Go's version parser says about a text that is no version.
fn version_problem(version: &str) -> Option<String> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let core = version.split('+').next()?.split('-').next()?;
    let parts: Vec<&str> = core.splitn(3, '.').collect();
    if parts.len() < 3 {
        return Some(format!("{version} is not in dotted-tri format"));
    }
    let bad = parts.iter().find(|p| p.parse::<i64>().is_err())?;
    Some(format!("strconv.ParseInt: parsing {bad:?}: invalid syntax"))
}

/// The cluster version follows the lowest version of its stores upwards, never downwards. `changed` is a store as it will be.
fn raised_version(state: &State, changed: Option<&StoreRecord>) -> Option<Action> {
    let others = state.stores.values().map(|s| &**s).filter(|s| changed.is_none_or(|c| c.id != s.id));
    let lowest = others
        .chain(changed)
        .filter(|s| s.state != StoreState::Tombstone)
        .filter_map(|s| store_version(s).ok())
        .min()?;
    let raise = state.cluster_version.as_ref().is_none_or(|v| *v < lowest);
    raise.then_some(Action::Put(Row::ClusterVersion(lowest)))
}

/// Saves when stores were last heard.
pub(super) fn save_heartbeats(state: &State, heard: &[(StoreId, Wall)]) -> Result<Plan, Refusal> {
    bounded(heard.len())?;
    let latest: BTreeMap<StoreId, Wall> = heard.iter().copied().collect();
    let mut actions = vec![];
    for (id, at) in latest {
        match state.stores.get(&id) {
            Some(store) if store.state != StoreState::Tombstone && store.last_heartbeat < at => {
                actions.push(put(StoreRecord { last_heartbeat: at, ..StoreRecord::clone(store) }));
            }
            _ => {}
        }
    }
    Ok(Plan::done(actions))
}

fn put(record: StoreRecord) -> Action {
    Action::Put(Row::Store(Arc::new(record)))
}

fn known(state: &State, id: StoreId) -> Result<&Arc<StoreRecord>, Refusal> {
    state.stores.get(&id).ok_or(Refusal::StoreNotFound(id))
}

/// A plan that leaves a store with this record.
fn store_plan(state: &State, record: StoreRecord, limits: Option<StoreLimits>, mut more: Vec<Action>) -> Plan {
    let changed = state.stores.get(&record.id).is_none_or(|old| **old != record);
    let record = Arc::new(record);
    if changed {
        more.insert(0, Action::Put(Row::Store(record.clone())));
    }
    let changed = !more.is_empty();
    Plan::new(more, Reply::Store { changed, record, limits })
}

fn unchanged(state: &State, record: &Arc<StoreRecord>) -> Plan {
    let limits = state.limits.get(&record.id).copied();
    Plan::new(vec![], Reply::Store { changed: false, record: record.clone(), limits })
}

/// Begins to take a store out (S6, S7). The log is one: of two removals that would leave too few stores, the second sees the first.
pub(super) fn offline(
    state: &State,
    now: Wall,
    id: StoreId,
    destroyed: bool,
    check: Option<UpCheck<'_>>,
) -> Result<Plan, Refusal> {
    let store = known(state, id)?;
    let drain = state.drains.get(&id);
    if store.state == StoreState::Offline && store.physically_destroyed == destroyed {
        let reply = Reply::Offline { changed: false, record: store.clone(), drain: drain.cloned() };
        return Ok(Plan::new(vec![], reply));
    }
    if store.state == StoreState::Tombstone {
        return Err(Refusal::StoreRemoved(id));
    }
    if store.physically_destroyed {
        return Err(Refusal::StoreDestroyed(id));
    }
    if let Some(check) = check
        && store.state == StoreState::Up
        && !destroyed
        && !store.is_tiflash()
    {
        check_enough_left(state, id, &check)?;
    }
    let record = Arc::new(StoreRecord {
        state: StoreState::Offline,
        node_state: NodeState::Removing,
        physically_destroyed: destroyed,
        ..StoreRecord::clone(store)
    });
    let mut actions = vec![Action::Put(Row::Store(record.clone()))];
    let drain = if let Some(drain) = drain {
        drain.clone()
    } else {
        let previous = state.limits.get(&id).copied();
        let drain = Arc::new(Drain { store: id, since: now, previous, by: None });
        actions.push(Action::Put(Row::Drain(drain.clone())));
        if let Some(limits) = previous {
            actions.push(Action::Put(Row::Limits(id, StoreLimits { remove_peer: UNLIMITED, ..limits })));
        }
        drain
    };
    Ok(Plan::new(actions, Reply::Offline { changed: true, record, drain: Some(drain) }))
}

fn check_enough_left(state: &State, id: StoreId, check: &UpCheck<'_>) -> Result<(), Refusal> {
    let up = |s: &&Arc<StoreRecord>| s.id != id && s.state == StoreState::Up && !s.is_tiflash();
    let left = state.stores.values().filter(up).count() as u64;
    if left < check.need_up {
        return Err(Refusal::StoresNotEnough { store: id, left, need: check.need_up });
    }
    if state.stores.values().filter(up).all(|s| check.evict_leader.contains(&s.id)) {
        return Err(Refusal::NoStoreForLeader(id));
    }
    Ok(())
}

/// Takes a removal back (S8).
pub(super) fn up(state: &State, id: StoreId) -> Result<Plan, Refusal> {
    let store = known(state, id)?;
    if store.state == StoreState::Tombstone {
        return Err(Refusal::StoreRemoved(id));
    }
    if store.physically_destroyed {
        return Err(Refusal::StoreDestroyed(id));
    }
    if store.state == StoreState::Up {
        return Ok(unchanged(state, store));
    }
    let mut actions = vec![];
    let mut limits = state.limits.get(&id).copied();
    if let Some(drain) = state.drains.get(&id) {
        if let (Some(limits), Some(previous)) = (limits.as_mut(), drain.previous) {
            limits.remove_peer = previous.remove_peer;
            actions.push(Action::Put(Row::Limits(id, *limits)));
        }
        actions.push(Action::Delete(RowKey::Drain(id)));
    }
    let record = StoreRecord { state: StoreState::Up, node_state: NodeState::Serving, ..StoreRecord::clone(store) };
    Ok(store_plan(state, record, limits, actions))
}

/// Makes a store Tombstone: its limits and its drain go with it.
pub(super) fn bury(state: &State, id: StoreId, force: bool, connected: bool, heard: Wall) -> Result<Plan, Refusal> {
    let store = known(state, id)?;
    match store.state {
        StoreState::Tombstone => return Ok(unchanged(state, store)),
        StoreState::Up if !force => return Err(Refusal::StoreIsUp(id)),
        StoreState::Up if connected => return Err(Refusal::StoreConnected(id)),
        StoreState::Up | StoreState::Offline => {}
    }
    let record = StoreRecord {
        state: StoreState::Tombstone,
        node_state: NodeState::Removed,
        last_heartbeat: store.last_heartbeat.max(heard),
        ..StoreRecord::clone(store)
    };
    let mut actions = vec![];
    if state.drains.contains_key(&id) {
        actions.push(Action::Delete(RowKey::Drain(id)));
    }
    if state.limits.contains_key(&id) {
        actions.push(Action::Delete(RowKey::Limits(id)));
    }
    actions.extend(raised_version(state, Some(&record)));
    Ok(store_plan(state, record, None, actions))
}

/// Ends Preparing.
pub(super) fn serving(state: &State, id: StoreId) -> Result<Plan, Refusal> {
    let store = known(state, id)?;
    if store.state == StoreState::Tombstone {
        return Err(Refusal::StoreRemoved(id));
    }
    if store.physically_destroyed {
        return Err(Refusal::StoreDestroyed(id));
    }
    match store.node_state {
        NodeState::Serving => Err(Refusal::StoreServing(id)),
        // It is being taken out: that it was filled enough does not matter any more.
        NodeState::Removing | NodeState::Removed => Ok(unchanged(state, store)),
        NodeState::Preparing => {
            let record = StoreRecord { node_state: NodeState::Serving, ..StoreRecord::clone(store) };
            Ok(store_plan(state, record, state.limits.get(&id).copied(), vec![]))
        }
    }
}

/// Forgets a Tombstone store but for its id, which is never accepted again (S2).
pub(super) fn remove_tombstone(state: &State, id: StoreId) -> Result<Plan, Refusal> {
    if known(state, id)?.state != StoreState::Tombstone {
        return Err(Refusal::NotTombstone(id));
    }
    let mut actions = vec![Action::Delete(RowKey::Store(id)), Action::Put(Row::DeadStore(id))];
    if state.limits.contains_key(&id) {
        actions.push(Action::Delete(RowKey::Limits(id)));
    }
    Ok(Plan::done(actions))
}

/// `new` over `old`: keys compare without regard to case, an empty value removes.
fn merged_labels(old: &[StoreLabel], new: &[StoreLabel]) -> Vec<StoreLabel> {
    let mut labels = old.to_vec();
    for label in new {
        match labels.iter_mut().find(|l| l.key.eq_ignore_ascii_case(&label.key)) {
            Some(known) => known.value.clone_from(&label.value),
            None => labels.push(label.clone()),
        }
    }
    labels.retain(|l| !l.value.is_empty());
    labels
}

/// Sets labels.
pub(super) fn set_labels(state: &State, id: StoreId, labels: &[StoreLabel], force: bool) -> Result<Plan, Refusal> {
    bounded(labels.len())?;
    let store = state.stores.get(&id).ok_or(Refusal::InvalidStoreId(id))?;
    let labels = merged_labels(if force { &[] } else { &store.labels }, labels);
    let record = StoreRecord { labels, ..StoreRecord::clone(store) };
    Ok(store_plan(state, record, state.limits.get(&id).copied(), vec![]))
}

/// Removes a label.
pub(super) fn delete_label(state: &State, id: StoreId, key: &str) -> Result<Plan, Refusal> {
    let store = state.stores.get(&id).ok_or(Refusal::InvalidStoreId(id))?;
    let mut record = StoreRecord::clone(store);
    record.labels.retain(|l| !l.key.eq_ignore_ascii_case(key));
    if record.labels.len() == store.labels.len() {
        return Err(Refusal::NoSuchLabel(key.into()));
    }
    Ok(store_plan(state, record, state.limits.get(&id).copied(), vec![]))
}

/// Sets both weights.
pub(super) fn set_weight(state: &State, id: StoreId, leader: f64, region: f64) -> Result<Plan, Refusal> {
    let store = state.stores.get(&id).ok_or(Refusal::StoreNotFound(id))?;
    for (weight, text) in [(leader, "bad format leader weight"), (region, "bad format region weight")] {
        if !weight.is_finite() || weight < 0.0 {
            return Err(Refusal::InvalidNumber(text));
        }
    }
    let record = StoreRecord { leader_weight: leader, region_weight: region, ..StoreRecord::clone(store) };
    Ok(store_plan(state, record, state.limits.get(&id).copied(), vec![]))
}

/// Limits that come from the configuration may be 0, as in PD; JSON cannot carry what is not finite.
fn check_limits(limits: StoreLimits) -> Result<(), Refusal> {
    let ok = |rate: f64| rate.is_finite() && rate >= 0.0;
    if ok(limits.add_peer) && ok(limits.remove_peer) {
        return Ok(());
    }
    Err(Refusal::InvalidNumber("store limits should be finite and non-negative"))
}

/// A limit of 0 would stop a store for good: who sets one limit cannot mean that.
fn check_rate(rate: f64) -> Result<(), Refusal> {
    if rate.is_finite() && rate > 0.0 {
        return Ok(());
    }
    Err(Refusal::InvalidNumber("invalid rate which should be larger than 0"))
}

fn with_limit(limits: StoreLimits, kind: LimitKind, rate: f64) -> StoreLimits {
    match kind {
        LimitKind::AddPeer => StoreLimits { add_peer: rate, ..limits },
        LimitKind::RemovePeer => StoreLimits { remove_peer: rate, ..limits },
    }
}

/// Sets both limits of one store, as a change of the configuration does.
pub(super) fn put_limits(state: &State, id: StoreId, limits: StoreLimits) -> Result<Option<Action>, Refusal> {
    check_limits(limits)?;
    known(state, id)?;
    let old = state.limits.get(&id).ok_or(Refusal::StoreRemoved(id))?;
    Ok((*old != limits).then_some(Action::Put(Row::Limits(id, limits))))
}

/// Sets one limit of one store.
pub(super) fn set_limit(state: &State, id: StoreId, kind: LimitKind, rate: f64) -> Result<Plan, Refusal> {
    check_rate(rate)?;
    let store = known(state, id)?;
    let Some(old) = state.limits.get(&id) else {
        // Only a Tombstone has none.
        return Err(Refusal::StoreRemoved(id));
    };
    let limits = with_limit(*old, kind, rate);
    let actions = if limits == *old { vec![] } else { vec![Action::Put(Row::Limits(id, limits))] };
    let changed = !actions.is_empty();
    Ok(Plan::new(actions, Reply::Store { changed, record: store.clone(), limits: Some(limits) }))
}

/// Sets one limit of many stores, draining ones among them. For these it is also what a cancel goes back to: a wish for all stores is
/// younger than what the drain remembers.
pub(super) fn set_all_limits(
    state: &State,
    kind: LimitKind,
    rate: f64,
    only: Option<&[StoreId]>,
) -> Result<Plan, Refusal> {
    check_rate(rate)?;
    bounded(only.map_or(0, <[StoreId]>::len))?;
    let mut actions = vec![];
    for (id, old) in state.limits.iter().filter(|(id, _)| only.is_none_or(|o| o.contains(id))) {
        let limits = with_limit(*old, kind, rate);
        if limits != *old {
            actions.push(Action::Put(Row::Limits(*id, limits)));
        }
        if let Some(drain) = state.drains.get(id) {
            let previous = drain.previous.map(|p| with_limit(p, kind, rate));
            actions.push(Action::Put(Row::Drain(Arc::new(Drain { previous, ..Drain::clone(drain) }))));
        }
    }
    Ok(Plan::done(actions))
}
