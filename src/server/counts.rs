//! Metrics: the counters that events move, and the gauges that are worked out now and then.
//!
//! Owns: which figure stands under which of PD's names. Must not know: how figures come to be.

mod checks;
mod hot;
mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::drains;
use crate::{
    api::{App, rows},
    meta::Change,
    model::{KeyRange, Mono, NodeState, Region, RegionLabelRule, StoreId, StoreRecord, StoreState},
    scheduler::{
        balance::Kind,
        checker::deny,
        effect::Event,
        operator::{CancelReason, Operator, Status, Step},
        outcome::ScheduleLimit,
        progress,
        region_label::{LabelIndex, holds},
        region_state::{self, Flag},
        score,
        view::ClusterView,
    },
    store::{Liveness, StoreInfo, StoreSummary},
    telemetry::metrics::{
        Metrics, OperatorMetrics,
        values::{
            Allowance, ClusterStatus, ConfigStatus, IdKind, LimitType, LogState, OperatorEvent, ProgressAction,
            StepType, StoreStatus, TsoEvent,
        },
    },
};

/// Regions looked at in one go when unusual ones are counted: no lock is held from one batch to the next.
const BATCH: usize = 1024;

/// Counts one event.
pub(super) fn count(metrics: &Metrics, event: &Event) {
    match event {
        Event::OperatorAdded { op } => {
            count_operator(&metrics.operators, op, OperatorEvent::Create);
            count_operator(&metrics.operators, op, OperatorEvent::Start);
            checks::admitted(metrics, op);
            metrics.operators.region_size.with_label_values(&[&op.desc]).observe(op.size_mib as f64);
            count_direction(metrics, op);
        }
        Event::OperatorEnded { op, takes } => {
            count_end(&metrics.operators, op, takes.as_secs_f64());
            checks::ended(metrics, op);
        }
        Event::CommandSent { desc, .. } => count_desc(&metrics.operators, desc, OperatorEvent::Check),
        Event::OperatorWaits { desc } => {
            count_desc(&metrics.operators, desc, OperatorEvent::Put);
            count_desc(&metrics.operators, desc, OperatorEvent::PromoteAdd);
        }
        Event::OperatorsTurn { desc } => count_desc(&metrics.operators, desc, OperatorEvent::Get),
        Event::OperatorRegionGone { op } => count_operator(&metrics.operators, op, OperatorEvent::Disappear),
        Event::OperatorRemoved { op, .. } => count_operator(&metrics.operators, op, OperatorEvent::Remove),
        Event::Blocked { region, missing, reason } => checks::blocked(metrics, region, *missing, reason),
        Event::SchedulerCounted { name, event } => {
            metrics.schedulers.event.with_label_values(&[*name, *event]).inc();
        }
        Event::SchedulerLimited { name, limit } => {
            let limit = match limit {
                ScheduleLimit::Region => "region",
                ScheduleLimit::HotRegion => "hot-region",
                _ => "leader",
            };
            metrics.operators.limit.with_label_values(&[*name, limit]).inc();
        }
        Event::SchedulerDenied { regions } => {
            metrics.operators.label_denied.with_label_values(&["schedulers", "deny"]).inc_by(*regions);
        }
        Event::PatrolRound { took, regions } => {
            metrics.patrol.round_seconds.set(took.as_secs_f64());
            checks::round(metrics, *regions);
        }
        Event::OperatorStale { .. }
        | Event::OperatorStepStale { .. }
        | Event::SchedulerCreated { .. }
        | Event::RegionChanged { .. }
        | Event::DownPeerOnConnectedStore { .. }
        | Event::Prepared { .. } => {}
    }
}

/// Counts one agreed change. Every member is told of it, but only one has made it: PD's alerts take a member that saves windows for
/// one that leads.
pub(super) fn count_change(metrics: &Metrics, change: &Change, leads: bool) {
    match change {
        Change::TsoWindow(_) if leads => count_tso(metrics, TsoEvent::Save),
        Change::LeaderChanged { is_self: true, .. } => count_opened(metrics),
        _ => {}
    }
}

/// This member hands out timestamps from now on: it has read the bound of those before it and begun above it.
pub(super) fn count_opened(metrics: &Metrics) {
    count_tso(metrics, TsoEvent::Sync);
    count_tso(metrics, TsoEvent::SyncOk);
}

/// Counts once for each look at a clock that lies behind the last timestamp, as PD does: timestamps then go on without it. Not in
/// the first window of a term, which begins above those before it, wherever the clock stands.
pub(super) fn look_at_clock(app: &App) {
    let now = app.now();
    let first_window = app.config.tso_save_interval.get();
    if app.meta.leader_since().is_some_and(|since| now.mono.since(since) > first_window)
        && now.wall.unix_millis() < app.meta.tso_last_physical()
    {
        count_tso(&app.metrics, TsoEvent::SystemTimeSlow);
    }
}

fn count_tso(metrics: &Metrics, event: TsoEvent) {
    metrics.tso.events.with_label_values(&[event.as_str(), "0"]).inc();
}

/// Out of which store and into which a balancing operator moves something.
fn count_direction(metrics: &Metrics, op: &Operator) {
    let leader = op.desc == Kind::BalanceLeader.name();
    if !leader && op.desc != Kind::BalanceRegion.name() {
        return;
    }
    let count = |store: StoreId, direction: &str| {
        metrics.schedulers.direction.with_label_values(&[op.desc.as_str(), &store.to_string(), direction]).inc();
    };
    for step in op.steps.iter() {
        match step {
            Step::TransferLeader { from, to } if leader => {
                count(*from, "out");
                count(*to, "in");
            }
            Step::RemovePeer { store, .. } if !leader => count(*store, "out"),
            Step::AddLearner(peer) | Step::AddPeer(peer) if !leader => count(peer.store, "in"),
            _ => {}
        }
    }
}

/// Which schedulers may run.
fn schedulers(app: &App) {
    let (status, now) = (&app.metrics.schedulers.status, app.now());
    status.reset();
    let paused = app.cluster.paused_schedulers(now);
    for name in app.cluster.scheduler_names() {
        let allowed = paused.iter().all(|(other, _)| *other != name);
        status.with_label_values(&[name.as_str(), "allow"]).set(f64::from(u8::from(allowed)));
    }
}

fn count_operator(metrics: &OperatorMetrics, op: &Operator, event: OperatorEvent) {
    count_desc(metrics, &op.desc, event);
}

fn count_desc(metrics: &OperatorMetrics, desc: &str, event: OperatorEvent) {
    metrics.count.with_label_values(&[desc, event.as_str()]).inc();
}

/// What PD counts beside the end itself: why an operator was not admitted, or what its end let others do.
fn end_detail(op: &Operator) -> Option<OperatorEvent> {
    use CancelReason::{
        AlreadyExist, EpochNotMatch, ExceedStoreLimit, ExceedWaitLimit, NotInCreateStatus, NotInRunningState,
        RegionNotFound, StaleStatus,
    };
    let because = |reason: &CancelReason| op.info.get("cancel-reason").is_some_and(|why| why == reason.name());
    let first = |table: &[(CancelReason, OperatorEvent)]| {
        table.iter().find(|(reason, _)| because(reason)).map(|(_, event)| *event)
    };
    match (op.status, op.started) {
        (Status::Success, _) => Some(OperatorEvent::PromoteSuccess),
        (Status::Timeout, _) => Some(OperatorEvent::PromoteTimeout),
        (Status::Expired, _) => Some(OperatorEvent::Expired),
        (_, None) => first(&[
            (AlreadyExist, OperatorEvent::AlreadyHave),
            (EpochNotMatch, OperatorEvent::EpochNotMatch),
            (ExceedStoreLimit, OperatorEvent::ExceedLimit),
            (ExceedWaitLimit, OperatorEvent::ExceedMaxWaiting),
            (NotInCreateStatus, OperatorEvent::UnexpectedStatus),
            (RegionNotFound, OperatorEvent::NotFound),
        ]),
        (_, Some(_)) => first(&[
            (EpochNotMatch, OperatorEvent::PromoteStale),
            (StaleStatus, OperatorEvent::PromoteStale),
            (NotInRunningState, OperatorEvent::PromoteUnexpected),
            (RegionNotFound, OperatorEvent::NotFound),
        ]),
    }
}

fn count_end(metrics: &OperatorMetrics, op: &Operator, seconds: f64) {
    let event = match op.status {
        Status::Success => OperatorEvent::Finish,
        Status::Timeout => OperatorEvent::Timeout,
        Status::Replaced => OperatorEvent::Replace,
        Status::Expired => OperatorEvent::Expire,
        Status::Canceled | Status::Created | Status::Started => OperatorEvent::Cancel,
    };
    count_operator(metrics, op, event);
    if let Some(detail) = end_detail(op) {
        count_operator(metrics, op, detail);
    }
    if op.status != Status::Success {
        return;
    }
    metrics.seconds.with_label_values(&[&op.desc]).observe(seconds);
    let mut before = op.started.map_or(Mono(0), |n| n.mono);
    for (step, at) in op.steps.iter().zip(&op.step_times) {
        if let Some(kind) = step_type(step) {
            metrics.step_seconds.with_label_values(&[kind.as_str()]).observe(at.since(before).as_secs_f64());
        }
        before = *at;
    }
}

/// PD's name of a step's type, for the types that its dashboard knows.
fn step_type(step: &Step) -> Option<StepType> {
    match step {
        Step::TransferLeader { .. } => Some(StepType::TransferLeader),
        Step::AddLearner(_) => Some(StepType::AddLearner),
        Step::RemovePeer { .. } => Some(StepType::RemovePeer),
        Step::ChangePeerV2Enter { .. } => Some(StepType::ChangePeerV2Enter),
        Step::ChangePeerV2Leave { .. } => Some(StepType::ChangePeerV2Leave),
        Step::AddPeer(_)
        | Step::PromoteLearner(_)
        | Step::SwitchWitness(_)
        | Step::SplitRegion { .. }
        | Step::MergeRegion { .. } => None,
    }
}

/// Works all gauges out but those that look at every region.
pub(super) fn refresh(app: &App) {
    server(app);
    config(app);
    if !app.meta.is_leader() {
        return app.metrics.forget_cluster();
    }
    app.cluster.with_view(app.now(), |view| {
        stores(app, view);
        places::stores(&app.metrics, view);
    });
    progress_figures(app);
    drains::refresh(app);
    schedulers(app);
    hot::refresh(app);
    rules(app);
}

fn rules(app: &App) {
    let (settings, metrics) = (app.cluster.settings(), &app.metrics);
    let ranges: usize = settings.labels.from("").map(|rule| rule.ranges.len()).sum();
    for (gauge, kind, value) in [
        (&metrics.server.rules, "rule_count", settings.rules.len()),
        (&metrics.server.rules, "group_count", settings.rules.groups().len()),
        (&metrics.server.label_rules, "rule_count", settings.labels.len()),
        (&metrics.server.label_rules, "range_count", ranges),
    ] {
        gauge.with_label_values(&[kind]).set(value as f64);
    }
    metrics.patrol.unmet_rules.set(app.cluster.unmet_rules(app.now()).len() as f64);
    metrics.patrol.deny_age.set(oldest_deny(app, &settings.labels).as_secs_f64());
}

/// How long ago the oldest of the rules that say `schedule=deny` now was set. Only their rows are read: importers set some, not the
/// rules by the thousand that databases keep for other labels.
fn oldest_deny(app: &App, labels: &LabelIndex) -> Duration {
    let (state, now) = (app.meta.state(), app.now().wall);
    let denies =
        |rule: &&Arc<RegionLabelRule>| rule.labels.iter().any(|l| holds(l, now) && deny::is_deny(&l.key, &l.value));
    let set_at = |rule: &Arc<RegionLabelRule>| rows::label_set_by(state.label_rules.get(&rule.id)?).map(|by| by.at());
    let oldest = labels.from("").filter(denies).filter_map(set_at).min();
    let age = oldest.map_or(0, |at| now.0.saturating_sub(at.0));
    Duration::from_nanos(u64::try_from(age).unwrap_or(0))
}

/// Which of the counts of `pd_cluster_status` a store belongs to.
fn classes(view: &ClusterView<'_>, store: &StoreInfo) -> BTreeSet<ClusterStatus> {
    let mut out = BTreeSet::new();
    match store.record.state {
        StoreState::Up => {
            let max_down = view.settings.schedule.max_store_down_time.get();
            out.insert(match store.liveness(view.leader_since, view.now.mono, max_down) {
                Liveness::Down => ClusterStatus::StoreDown,
                Liveness::Unhealthy => ClusterStatus::StoreUnhealthy,
                Liveness::Disconnected => ClusterStatus::StoreDisconnected,
                Liveness::Connected => ClusterStatus::StoreUp,
            });
            if store.is_slow() {
                out.insert(ClusterStatus::StoreSlow);
            }
        }
        StoreState::Offline => _ = out.insert(ClusterStatus::StoreOffline),
        StoreState::Tombstone => _ = out.insert(ClusterStatus::StoreTombstone),
    }
    out.insert(match store.record.node_state {
        NodeState::Preparing => ClusterStatus::StorePreparing,
        NodeState::Serving => ClusterStatus::StoreServing,
        NodeState::Removing => ClusterStatus::StoreRemoving,
        NodeState::Removed => ClusterStatus::StoreRemoved,
    });
    let (stats, ratio) = (&store.stats, view.settings.schedule.low_space_ratio);
    if stats.capacity > 0 && (stats.available as f64) < stats.capacity as f64 * (1.0 - ratio) {
        out.insert(ClusterStatus::StoreLowSpace);
    }
    out
}

const COUNTED: [ClusterStatus; 12] = [
    ClusterStatus::StoreUp,
    ClusterStatus::StoreDisconnected,
    ClusterStatus::StoreUnhealthy,
    ClusterStatus::StoreDown,
    ClusterStatus::StoreOffline,
    ClusterStatus::StoreTombstone,
    ClusterStatus::StorePreparing,
    ClusterStatus::StoreServing,
    ClusterStatus::StoreRemoving,
    ClusterStatus::StoreRemoved,
    ClusterStatus::StoreLowSpace,
    ClusterStatus::StoreSlow,
];

fn stores(app: &App, view: &ClusterView<'_>) {
    let metrics = &app.metrics.stores;
    metrics.cluster_status.reset();
    metrics.store_limit.reset();
    for store in view.stores.values() {
        let id = store.id().to_string();
        let engine = if store.record.is_tiflash() { "tiflash" } else { "tikv" };
        let set = |what: ClusterStatus, value: f64| {
            metrics.cluster_status.with_label_values(&[what.as_str(), engine, &id]).set(value);
        };
        let classes = classes(view, store);
        for class in COUNTED {
            set(class, f64::from(u8::from(classes.contains(&class))));
        }
        if store.record.state == StoreState::Tombstone {
            continue;
        }
        let sums = view.regions.summary(store.id());
        set(ClusterStatus::StorageCapacity, store.stats.capacity as f64);
        set(ClusterStatus::StorageSize, store.stats.used_size as f64);
        set(ClusterStatus::LeaderCount, sums.leader_count as f64);
        set(ClusterStatus::RegionCount, sums.region_count as f64);
        set(ClusterStatus::LearnerCount, sums.learner_count as f64);
        set(ClusterStatus::WitnessCount, sums.witness_count as f64);
        store_figures(app, view, store, &sums);
        limits(app, store.id(), &id);
    }
}

fn store_figures(app: &App, view: &ClusterView<'_>, store: &StoreInfo, sums: &StoreSummary) {
    let (schedule, record, stats) = (&view.settings.schedule, &store.record, &store.stats);
    let leaders = score::leader_score(
        &schedule.leader_schedule_policy,
        sums.leader_count,
        sums.leader_size_mib,
        record.leader_weight,
        0,
    );
    for (what, value) in [
        (StoreStatus::LeaderCount, sums.leader_count as f64),
        (StoreStatus::LeaderSize, sums.leader_size_mib as f64),
        (StoreStatus::LeaderScore, leaders),
        (StoreStatus::RegionCount, sums.region_count as f64),
        (StoreStatus::RegionSize, sums.region_size_mib as f64),
        (
            StoreStatus::RegionScore,
            score::region_score(schedule, score::Space::reported(store), record.region_weight, sums.region_size_mib, 0),
        ),
        (StoreStatus::LearnerCount, sums.learner_count as f64),
        (StoreStatus::WitnessCount, sums.witness_count as f64),
        (StoreStatus::Available, stats.available as f64),
        (StoreStatus::Used, stats.used_size as f64),
        (StoreStatus::Capacity, stats.capacity as f64),
    ] {
        show(app, record, what, value);
    }
    flows(app, store);
}

fn show(app: &App, record: &StoreRecord, what: StoreStatus, value: f64) {
    let labels = [record.address.as_str(), &record.id.to_string(), what.as_str()];
    app.metrics.stores.store_status.with_label_values(&labels).set(value);
}

/// What a store tells of its traffic, without noise and as last told; how slow it says that it becomes.
fn flows(app: &App, store: &StoreInfo) {
    for ((read, write), [bytes, keys, query, cpu, written, keys_written, writes]) in [
        (
            store.rates(),
            [
                StoreStatus::ReadBytes,
                StoreStatus::ReadKeys,
                StoreStatus::ReadQuery,
                StoreStatus::ReadCpu,
                StoreStatus::WriteBytes,
                StoreStatus::WriteKeys,
                StoreStatus::WriteQuery,
            ],
        ),
        (
            store.rates_told(),
            [
                StoreStatus::ReadBytesNow,
                StoreStatus::ReadKeysNow,
                StoreStatus::ReadQueryNow,
                StoreStatus::ReadCpuNow,
                StoreStatus::WriteBytesNow,
                StoreStatus::WriteKeysNow,
                StoreStatus::WriteQueryNow,
            ],
        ),
    ] {
        for (what, value) in [
            (bytes, read.bytes),
            (keys, read.keys),
            (query, read.query),
            (cpu, read.cpu),
            (written, write.bytes),
            (keys_written, write.keys),
            (writes, write.query),
        ] {
            show(app, &store.record, what, value);
        }
    }
    if let Some((cause, cause_rate, result, result_rate)) = store.stats.slow_trend {
        show(app, &store.record, StoreStatus::SlowTrendCause, cause);
        show(app, &store.record, StoreStatus::SlowTrendCauseRate, cause_rate);
        show(app, &store.record, StoreStatus::SlowTrendResult, result);
        show(app, &store.record, StoreStatus::SlowTrendResultRate, result_rate);
    }
}

fn limits(app: &App, store: StoreId, id: &str) {
    if let Some(limits) = app.cluster.limits(store) {
        let gauge = &app.metrics.stores.store_limit;
        gauge.with_label_values(&[id, LimitType::AddPeer.as_str()]).set(limits.add_peer);
        gauge.with_label_values(&[id, LimitType::RemovePeer.as_str()]).set(limits.remove_peer);
    }
}

/// Counts unusual regions.
pub(super) fn refresh_regions(app: &App) {
    if !app.meta.is_leader() {
        return;
    }
    app.cluster.with_view(app.now(), |view| regions(app, view));
}

fn regions(app: &App, view: &ClusterView<'_>) {
    let mut found: BTreeMap<&str, u64> = Flag::ALL.iter().map(|flag| (flag.metric(), 0)).collect();
    let mut levels = places::Levels::default();
    let mut written: BTreeMap<StoreId, (f64, f64)> = BTreeMap::new();
    let mut from = KeyRange::all();
    loop {
        let batch = view.regions.scan(&from, BATCH);
        for region in &batch {
            levels.add(view, region);
            if let Some(store) = region.leader_store() {
                let (bytes, keys) = written_a_second(region);
                let sums = written.entry(store).or_default();
                *sums = (sums.0 + bytes, sums.1 + keys);
            }
            for flag in region_state::flags(view, region).iter() {
                *found.entry(flag.metric()).or_default() += 1;
            }
        }
        match batch.last() {
            Some(last) if batch.len() == BATCH && !last.range().end.is_empty() => from.start = last.range().end.clone(),
            _ => break,
        }
    }
    levels.show(&app.metrics, view);
    // Forgets stores that are gone, with what they were shown as.
    app.metrics.stores.store_status.reset();
    stores(app, view);
    for store in view.stores.values().filter(|store| store.record.state != StoreState::Tombstone) {
        let (bytes, keys) = written.get(&store.id()).copied().unwrap_or_default();
        show(app, &store.record, StoreStatus::RegionsWriteBytes, bytes);
        show(app, &store.record, StoreStatus::RegionsWriteKeys, keys);
    }
    for (status, count) in found {
        app.metrics.regions.status.with_label_values(&[status]).set(count as f64);
    }
}

/// Bytes and keys that a region's last report says were written, a second.
fn written_a_second(region: &Region) -> (f64, f64) {
    let flow = &region.flow;
    match flow.interval.1.saturating_sub(flow.interval.0) {
        0 => (0.0, 0.0),
        seconds => (flow.bytes_written as f64 / seconds as f64, flow.keys_written as f64 / seconds as f64),
    }
}

fn progress_figures(app: &App) {
    let metrics = &app.metrics.progress;
    metrics.progress.reset();
    metrics.speed.reset();
    metrics.eta.reset();
    for p in app.cluster.progress() {
        let Some(store) = app.cluster.stores().get(p.store) else { continue };
        let action = match p.action {
            progress::Action::Removing => ProgressAction::Removing,
            progress::Action::Preparing => ProgressAction::Preparing,
        };
        let labels = [store.record.address.as_str(), &p.store.to_string(), action.as_str()];
        metrics.progress.with_label_values(&labels).set(p.progress);
        metrics.speed.with_label_values(&labels).set(p.current_speed);
        metrics.eta.with_label_values(&labels).set(p.left_seconds);
    }
}

fn server(app: &App) {
    let (metrics, state) = (&app.metrics.server, app.meta.state());
    metrics
        .info
        .with_label_values(&[app.info.release_version, app.info.git_hash])
        .set(app.info.started.wall.unix_seconds() as f64);
    metrics.id_alloc.with_label_values(&[IdKind::Ids.as_str()]).set(state.id_end as f64);
    metrics.health.with_label_values(&[app.info.name.as_str()]).set(1.0);
    metrics.max_procs.set(std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64));
    let leads = app.meta.is_leader();
    metrics.role.with_label_values(&["PD"]).set(f64::from(u8::from(leads)));
    metrics.is_leader.set(i64::from(leads));
    metrics.gc.with_label_values(&["gc_safepoint"]).set(state.gc.gc as f64);
    let settings = app.cluster.settings();
    metrics.memory_quota.set(memory_quota());
    metrics.log_lines_lost.set(i64::try_from(app.log.lost()).unwrap_or(i64::MAX));
    let counts = app.meta.group_counts();
    for (what, value) in [
        (LogState::Term, app.meta.term()),
        (LogState::CommittedIndex, counts.committed),
        (LogState::AppliedIndex, counts.applied),
    ] {
        metrics.log_state.with_label_values(&[what.as_str()]).set(value as f64);
    }
    let show = |gauge: &prometheus::IntGaugeVec, label: &str, value: u64| {
        gauge.with_label_values(&[label]).set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    show(&metrics.state_hashes, "same", counts.hashes_compared.saturating_sub(counts.hashes_differ));
    show(&metrics.state_hashes, "differ", counts.hashes_differ);
    show(&metrics.messages_lost, "refused", counts.refused);
    show(&metrics.messages_lost, "unknown", counts.unknown);
    show(&metrics.messages_lost, "dropped", counts.dropped);
    refresh_warm(app);
    let halted = settings.schedule.halt_scheduling;
    app.metrics
        .stores
        .allowance
        .with_label_values(&[Allowance::HaltScheduling.as_str()])
        .set(f64::from(u8::from(halted)));
    app.metrics.stores.metadata.with_label_values(&[&format!("cluster{}", app.meta.cluster_id())]).set(0.0);
    app.metrics.tso.physical.with_label_values(&["tso", "0"]).set(app.meta.tso_last_physical() as f64);
    app.metrics.tso.role.with_label_values(&["0"]).set(f64::from(u8::from(leads)));
}

/// The memory that the process may use: that of the machine, or less where a control group says so.
fn memory_quota() -> f64 {
    let info = rustix::system::sysinfo();
    let machine = info.totalram as f64 * f64::from(info.mem_unit);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    // `max`, or no such file, is no limit.
    group.and_then(|text| text.trim().parse::<f64>().ok()).map_or(machine, |limit| limit.min(machine))
}

fn config(app: &App) {
    let settings = app.cluster.settings();
    let (s, r) = (&settings.schedule, &settings.replication);
    let flag = |on: bool| f64::from(u8::from(on));
    for (item, value) in [
        (ConfigStatus::LeaderScheduleLimit, s.leader_schedule_limit as f64),
        (ConfigStatus::RegionScheduleLimit, s.region_schedule_limit as f64),
        (ConfigStatus::MergeScheduleLimit, s.merge_schedule_limit as f64),
        (ConfigStatus::ReplicaScheduleLimit, s.replica_schedule_limit as f64),
        (ConfigStatus::HotRegionScheduleLimit, s.hot_region_schedule_limit as f64),
        (ConfigStatus::AffinityScheduleLimit, s.affinity_schedule_limit as f64),
        (ConfigStatus::SplitScatterScheduleLimit, s.split_scatter_schedule_limit as f64),
        (ConfigStatus::HotRegionCacheHitsThreshold, s.hot_region_cache_hits_threshold as f64),
        (ConfigStatus::MaxPendingPeerCount, s.max_pending_peer_count as f64),
        (ConfigStatus::MaxSnapshotCount, s.max_snapshot_count as f64),
        (ConfigStatus::MaxMergeRegionSize, s.max_merge_region_size as f64),
        (ConfigStatus::MaxMergeRegionKeys, s.merge_keys() as f64),
        (ConfigStatus::MaxAffinityMergeRegionSize, s.max_affinity_merge_region_size as f64),
        (ConfigStatus::LowSpaceRatio, s.low_space_ratio),
        (ConfigStatus::HighSpaceRatio, s.high_space_ratio),
        (ConfigStatus::TolerantSizeRatio, s.tolerant_size_ratio),
        (ConfigStatus::MaxReplicas, r.max_replicas as f64),
        (ConfigStatus::EnableMakeUpReplica, flag(s.enable_make_up_replica)),
        (ConfigStatus::EnableRemoveDownReplica, flag(s.enable_remove_down_replica)),
        (ConfigStatus::EnableRemoveExtraReplica, flag(s.enable_remove_extra_replica)),
        (ConfigStatus::EnableReplaceOfflineReplica, flag(s.enable_replace_offline_replica)),
    ] {
        app.metrics.server.config.with_label_values(&[item.as_str()]).set(value);
    }
}

/// The warm copy, from both sides.
fn refresh_warm(app: &App) {
    let (metrics, copy, feed) = (&app.metrics.server, app.cluster.copy(), app.cluster.feed());
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    metrics.warm_age.set(copy.whole_at().map_or(-1.0, |at| app.now().mono.since(at).as_secs_f64()));
    metrics.warm_lag.set(number(copy.lag()));
    metrics.warm_full.with_label_values(&["told"]).set(number(feed.full_copies()));
    metrics.warm_full.with_label_values(&["taken"]).set(number(copy.full_copies()));
    metrics.warm_followers.set(number(feed.followers() as u64));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        model::{Now, RegionId, names::cancel},
        scheduler::{effect::DispatchSource, operator::Kind as OperatorKind},
        telemetry::metrics::exposition,
    };

    /// What stands in `pd_schedule_operators_count` after `events`, by event.
    fn counted(events: &[Event]) -> Vec<String> {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        events.iter().for_each(|event| count(&metrics, event));
        let text = exposition(&registry).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("pd_schedule_operators_count{event=\""));
        lines.map(|line| line.replace("\",type=\"x\"}", "")).collect()
    }

    /// What the end of an operator counts: `started` before, with this status and reason.
    fn ended(started: bool, status: Status, reason: &str) -> Vec<String> {
        let mut op =
            Operator::new("x", String::new(), &Region::default(), OperatorKind::REGION, vec![], Now::default());
        if started {
            op.start(Now::default());
        }
        op.end(status, reason, Now::default());
        counted(&[Event::OperatorEnded { op: Arc::new(op), takes: Duration::from_secs(1) }])
    }

    #[test]
    fn the_end_of_an_operator_counts_with_its_cause() {
        for (started, status, reason, wanted) in [
            (true, Status::Success, "", ["finish 1", "promote-success 1"]),
            (true, Status::Timeout, cancel::TIMEOUT, ["promote-timeout 1", "timeout 1"]),
            (true, Status::Canceled, cancel::STALE_STATUS, ["cancel 1", "promote-stale 1"]),
            (true, Status::Canceled, cancel::EPOCH_NOT_MATCH, ["cancel 1", "promote-stale 1"]),
            (false, Status::Canceled, cancel::EPOCH_NOT_MATCH, ["cancel 1", "epoch-not-match 1"]),
            (false, Status::Canceled, cancel::EXCEED_STORE_LIMIT, ["cancel 1", "exceed-limit 1"]),
            (false, Status::Canceled, cancel::EXCEED_WAIT_LIMIT, ["cancel 1", "exceed-max-waiting 1"]),
            (false, Status::Canceled, cancel::ALREADY_EXIST, ["already-have 1", "cancel 1"]),
            (false, Status::Expired, cancel::EXPIRED, ["expire 1", "expired 1"]),
        ] {
            assert_eq!(ended(started, status, reason), wanted, "{reason}");
        }
        assert_eq!(ended(true, Status::Canceled, cancel::ADMIN_STOP), ["cancel 1"]);
    }

    #[test]
    fn waiting_and_looking_are_counted() {
        let desc = || "x".to_owned();
        let sent = Event::CommandSent {
            region: RegionId(2),
            desc: desc(),
            step: "add peer".to_owned(),
            source: DispatchSource::Heartbeat,
        };
        let lines = counted(&[
            Event::OperatorWaits { desc: desc() },
            Event::OperatorsTurn { desc: desc() },
            sent.clone(),
            sent,
        ]);
        assert_eq!(lines, ["check 2", "get 1", "promote-add 1", "put 1"]);
    }

    #[test]
    fn only_the_leader_has_saved_what_all_members_apply() {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let saved = || metrics.tso.events.with_label_values(&["save", "0"]).get();
        count_change(&metrics, &Change::TsoWindow(5), false);
        assert_eq!(saved(), 0);
        count_change(&metrics, &Change::TsoWindow(5), true);
        assert_eq!(saved(), 1);
    }
}
