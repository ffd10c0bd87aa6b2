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
    model::{KeyRange, Mono, NodeState, RegionLabelRule, StoreId, StoreState},
    scheduler::{
        balance::Kind,
        checker::deny,
        effect::Event,
        operator::{Operator, Status, Step},
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
            Allowance, ClusterStatus, ConfigStatus, IdKind, LimitType, LogState, OperatorEvent, StepType, StoreStatus,
            TsoEvent,
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
        | Event::OperatorRegionGone { .. }
        | Event::CommandSent { .. }
        | Event::SchedulerCreated { .. }
        | Event::RegionChanged { .. }
        | Event::DownPeerOnConnectedStore { .. }
        | Event::Prepared { .. } => {}
    }
}

/// Counts one agreed change.
pub(super) fn count_change(metrics: &Metrics, change: &Change) {
    if let Change::TsoWindow(_) = change {
        metrics.tso.events.with_label_values(&[TsoEvent::Save.as_str(), "0"]).inc();
    }
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
    metrics.count.with_label_values(&[op.desc.as_str(), event.as_str()]).inc();
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
    metrics.store_status.reset();
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
        store_figures(app, view, store, &id, &sums);
        limits(app, store.id(), &id);
    }
}

fn store_figures(app: &App, view: &ClusterView<'_>, store: &StoreInfo, id: &str, sums: &StoreSummary) {
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
            score::region_score(schedule, stats, store.avg_available, record.region_weight, sums.region_size_mib, 0),
        ),
        (StoreStatus::LearnerCount, sums.learner_count as f64),
        (StoreStatus::WitnessCount, sums.witness_count as f64),
        (StoreStatus::Available, stats.available as f64),
        (StoreStatus::Used, stats.used_size as f64),
        (StoreStatus::Capacity, stats.capacity as f64),
    ] {
        app.metrics.stores.store_status.with_label_values(&[record.address.as_str(), id, what.as_str()]).set(value);
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
    let mut from = KeyRange::all();
    loop {
        let batch = view.regions.scan(&from, BATCH);
        for region in &batch {
            levels.add(view, region);
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
    for (status, count) in found {
        app.metrics.regions.status.with_label_values(&[status]).set(count as f64);
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
            progress::Action::Removing => "removing",
            progress::Action::Preparing => "preparing",
        };
        let labels = [store.record.address.as_str(), &p.store.to_string(), action];
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
    metrics.log_state.with_label_values(&[LogState::Term.as_str()]).set(app.meta.term() as f64);
    metrics.max_procs.set(std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64));
    metrics.role.with_label_values(&["PD"]).set(f64::from(u8::from(app.meta.is_leader())));
    metrics.gc.with_label_values(&["gc_safepoint"]).set(state.gc.gc as f64);
    let settings = app.cluster.settings();
    metrics.memory_quota.set(memory_quota());
    metrics.log_lines_lost.set(i64::try_from(app.log.lost()).unwrap_or(i64::MAX));
    let counts = app.meta.group_counts();
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
    app.metrics.tso.role.with_label_values(&["0"]).set(f64::from(u8::from(app.meta.is_leader())));
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
