//! Tasks that run beside the requests: each is a timer and one call.
//!
//! Owns: how often. Must not know: what the calls do.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    counts,
    observer::Observer,
    pace::Pace,
    priority,
    records::Keeper,
    streams::{KEEPALIVE, Streams},
    watchdog::{self, Say, Watchdog},
};
use crate::{
    api::{App, rows},
    meta::{Command, LabelRuleReplacement},
    model::{StoreState, Wall},
    pdlog,
    store::cache::RegionCache,
    tls::{Refresh, Tls},
};

/// How often operators are pushed and timed out, stores and the preparation are watched, and it is asked whether the patrol or a
/// scheduler is due. A `patrol-region-interval` below that makes it shorter.
const TICK: Duration = Duration::from_millis(10);
/// Shortest patrol interval. Shorter ones would only find the same regions again.
const MIN_PATROL: Duration = Duration::from_millis(1);
/// How often stores are looked at for what they may become: a Tombstone is to follow within a second of the report it waits for.
const STORES: Duration = Duration::from_millis(200);
/// How often progress figures are fed (PD's step).
const PROGRESS: Duration = Duration::from_secs(10);
/// How often the region cache is written.
const FLUSH: Duration = Duration::from_secs(3);
/// How often heartbeat times are saved: what a restart may be wrong about in a store's silence.
const SAVE_HEARTBEATS: Duration = Duration::from_secs(60);
/// How often gauges are worked out.
const COUNT: Duration = Duration::from_secs(10);
/// How often unusual regions are counted, which looks at every region.
const COUNT_REGIONS: Duration = Duration::from_secs(30);
/// How often the system's time is looked at for a jump back (PD's step).
const CLOCK: Duration = Duration::from_millis(100);
/// How often temporary settings are looked at for their end.
const SETTINGS: Duration = Duration::from_secs(1);
/// How often label rules whose labels have ended are removed (PD's interval): nobody sees them any more, they only take room.
const ENDED_LABELS: Duration = Duration::from_secs(3600);
/// Label rules removed in one change.
const LABELS_AT_ONCE: usize = 1024;
/// How often the files of TLS are read for something new.
const TLS_FILES: Duration = Duration::from_secs(5);
/// How often progress and ended operators go into the agreed state, when there is something new.
const RECORDS: Duration = Duration::from_secs(1);
/// How often old Tombstones are looked for.
const OLD_TOMBSTONES: Duration = Duration::from_secs(3600);
/// Age at which the record of a Tombstone is removed (PD's 30 days).
const TOMBSTONE_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the tasks work on.
#[derive(Clone)]
pub(super) struct Tasks {
    pub(super) app: Arc<App>,
    pub(super) streams: Arc<Streams>,
    pub(super) observer: Arc<Observer>,
    pub(super) cache: Arc<RegionCache>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) keeper: Arc<Keeper>,
}

impl Tasks {
    /// Starts all of them; they end with `shutdown`.
    pub(super) fn spawn(self, into: &mut JoinSet<()>, shutdown: &CancellationToken) {
        into.spawn(follow(Tasks::tick_interval, shutdown.clone(), self.clone(), |t| {
            Box::pin(async move {
                t.decide();
                t.schedule();
            })
        }));
        into.spawn(follow(Tasks::resolved_interval, shutdown.clone(), self.clone(), |t| {
            Box::pin(t.save_min_resolved_ts())
        }));
        into.spawn(follow(Tasks::hot_interval, shutdown.clone(), self.clone(), |t| {
            Box::pin(async move { t.app.cluster.note_hot_peers(t.app.now()) })
        }));
        into.spawn(watch_clock(self.app.clone(), shutdown.clone()));
        into.spawn(watch_disk(self.app.clone(), shutdown.clone()));
        into.spawn(priority::follow(self.app.clone(), shutdown.clone()));
        let mut every = |period: Duration, who: Who, run: fn(Tasks) -> Run| {
            into.spawn(repeat(period, who, shutdown.clone(), self.clone(), run));
        };
        every(STORES, Who::Leader, |t| Box::pin(t.settle_stores()));
        every(PROGRESS, Who::Leader, |t| Box::pin(async move { t.app.cluster.update_progress(t.app.now()) }));
        every(KEEPALIVE, Who::Leader, |t| Box::pin(async move { t.streams.keepalive() }));
        every(FLUSH, Who::All, |t| Box::pin(t.flush_cache()));
        every(SAVE_HEARTBEATS, Who::Leader, |t| Box::pin(t.save_heartbeats()));
        every(COUNT, Who::All, |t| Box::pin(async move { counts::refresh(&t.app) }));
        every(COUNT_REGIONS, Who::All, |t| Box::pin(async move { counts::refresh_regions(&t.app) }));
        every(SETTINGS, Who::All, |t| Box::pin(async move { t.end_temporary_settings() }));
        every(TLS_FILES, Who::All, |t| Box::pin(t.read_tls_files()));
        every(ENDED_LABELS, Who::Leader, |t| Box::pin(t.remove_ended_labels()));
        every(RECORDS, Who::Leader, |t| Box::pin(t.keeper.turn(t.app)));
        every(OLD_TOMBSTONES, Who::Leader, |t| Box::pin(t.remove_old_tombstones()));
    }

    /// That of the patrol when it is short: longer ones are the patrol's own matter, and nothing else waits for them.
    fn tick_interval(&self) -> Option<Duration> {
        Some(self.app.cluster.settings().schedule.patrol_region_interval.get().clamp(MIN_PATROL, TICK))
    }

    /// PD's `min-resolved-ts-persistence-interval`; 0 switches the saving off.
    fn resolved_interval(&self) -> Option<Duration> {
        Some(self.app.dynamic.load().pd_server.min_resolved_ts_persistence_interval.get()).filter(|i| !i.is_zero())
    }

    /// PD's `hot-regions-write-interval`; nothing or less switches the history off.
    fn hot_interval(&self) -> Option<Duration> {
        Some(self.app.cluster.settings().schedule.hot_regions_write_interval.get()).filter(|i| !i.is_zero())
    }

    /// One run of the two tasks on which a drain depends.
    pub(super) async fn tick(self) {
        self.decide();
        self.settle_stores().await;
    }

    fn leads(&self) -> bool {
        self.app.meta.is_leader()
    }

    fn decide(&self) {
        if !self.leads() {
            return;
        }
        let Ok(()) = self.app.act(|cluster| Ok::<_, std::convert::Infallible>(cluster.tick(self.app.now())));
    }

    fn schedule(&self) {
        if self.leads() {
            let now = self.app.now();
            let Ok(()) = self.app.act(|cluster| Ok::<_, std::convert::Infallible>(cluster.tick_schedulers(now)));
        }
    }

    async fn settle_stores(self) {
        for change in self.app.cluster.store_changes(self.app.now()) {
            if let Err(error) = self.app.settle(&change).await {
                pdlog!(self.app.log, Error, "change of a store failed", "change" => format!("{change:?}"), "error" => error.to_string());
            }
        }
    }

    async fn flush_cache(self) {
        let (cache, log) = (self.cache, self.app.log.clone());
        let written = tokio::task::spawn_blocking(move || (cache.dropped(), cache.flush())).await;
        let Ok((dropped, written)) = written else { return };
        if dropped > 0 {
            pdlog!(log, Warn, "too many regions wait for the region cache's disk, some are missing after a restart", "count" => dropped);
        }
        if let Err(error) = written {
            pdlog!(log, Warn, "the region cache cannot be written", "error" => error.to_string());
        }
    }

    async fn read_tls_files(self) {
        let Some(tls) = self.tls else { return };
        let log = self.app.log.clone();
        match tokio::task::spawn_blocking(move || tls.refresh()).await {
            Ok(Refresh::Loaded) => pdlog!(log, Info, "the certificates were read again, new connections see them"),
            Ok(Refresh::Failed(error)) => {
                pdlog!(log, Error, "changed certificates cannot be used, those read before stay", "error" => error.to_string());
            }
            Ok(Refresh::Same) | Err(_) => {}
        }
    }

    /// Saves the heartbeat times that moved since the last save.
    async fn save_heartbeats(self) {
        let stores = self.app.cluster.stores().snapshot();
        let heard: Vec<_> = stores
            .values()
            .filter(|s| s.record.state != StoreState::Tombstone && s.last_heartbeat_wall > s.record.last_heartbeat)
            .map(|s| (s.id(), s.last_heartbeat_wall))
            .collect();
        if !heard.is_empty() {
            self.propose(Command::SaveHeartbeats { heard }).await;
        }
    }

    async fn save_min_resolved_ts(self) {
        if !self.leads() {
            return;
        }
        let stores = self.app.cluster.stores().snapshot();
        let live = stores.values().filter(|s| s.record.state == StoreState::Up && !s.record.is_tiflash());
        if let Some(value) = self.app.min_resolved.lowest(live.map(|s| s.id()))
            && value > self.app.meta.state().min_resolved_ts
        {
            self.propose(Command::SaveMinResolvedTs { value }).await;
        }
    }

    async fn remove_old_tombstones(self) {
        let kept = i64::try_from(TOMBSTONE_KEPT.as_nanos()).unwrap_or(i64::MAX);
        let before = Wall(self.app.now().wall.0.saturating_sub(kept));
        let stores = self.app.cluster.stores().snapshot();
        for store in stores.values() {
            let heard = store.last_heartbeat_wall;
            // Of one that was never heard nobody knows the age: it stays until a person removes it.
            let old = store.record.state == StoreState::Tombstone && heard < before && heard > Wall(0);
            if old && self.app.cluster.regions().summary(store.id()).region_count == 0 {
                self.propose(Command::RemoveTombstone { id: store.id() }).await;
            }
        }
    }

    async fn remove_ended_labels(self) {
        let (state, settings, now) = (self.app.meta.state(), self.app.cluster.settings(), self.app.now().wall);
        let ended: Vec<LabelRuleReplacement> = settings
            .labels
            .ended(now)
            .iter()
            .filter_map(|rule| {
                let was = state.label_rules.get(&rule.id)?.to_string();
                // One that cannot be read stays, for whoever wrote it.
                let becomes = rows::label_rule_left(&was, now).ok()?;
                Some(LabelRuleReplacement { id: rule.id.clone(), was, becomes })
            })
            .collect();
        for changes in ended.chunks(LABELS_AT_ONCE) {
            self.propose(Command::ReplaceLabelRules { changes: changes.to_vec() }).await;
        }
    }

    fn end_temporary_settings(&self) {
        let state = self.app.meta.state();
        let now = self.app.now().wall;
        let ended = |end: Wall| end <= now && end.0 > now.0 - 2 * i64::try_from(SETTINGS.as_nanos()).unwrap_or(0);
        if state.ttl_config.values().any(|item| ended(item.expires)) {
            self.observer.rebuild_settings();
        }
    }

    async fn propose(&self, command: Command) {
        if let Err(error) = self.app.propose(command).await {
            pdlog!(self.app.log, Warn, "a background change was not agreed on", "error" => error.to_string());
        }
    }
}

type Run = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// On which members a task does something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Leader,
    All,
}

/// Runs `run` every `period` until `shutdown`; a late run is not made up for.
async fn repeat(period: Duration, who: Who, shutdown: CancellationToken, tasks: Tasks, run: fn(Tasks) -> Run) {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = timer.tick() => if who == Who::All || tasks.leads() { run(tasks.clone()).await },
        }
    }
}

/// The same with a period that may change at any time, or that switches the task off.
async fn follow(
    period: fn(&Tasks) -> Option<Duration>,
    shutdown: CancellationToken,
    tasks: Tasks,
    run: fn(Tasks) -> Run,
) {
    let began = Instant::now();
    let mut pace = Pace::new(Duration::ZERO);
    while !shutdown.is_cancelled() {
        match pace.wait(period(&tasks), began.elapsed()) {
            None => {
                run(tasks.clone()).await;
                // Runs that take longer than their period must not keep others from the thread.
                tokio::task::yield_now().await;
            }
            Some(wait) => tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(wait) => {}
            },
        }
    }
}

/// Tells when the disk of the agreed state does not answer, and in the end gives up.
async fn watch_disk(app: Arc<App>, shutdown: CancellationToken) {
    let mut dog = Watchdog::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(watchdog::LOOK) => {}
        }
        match dog.look(app.meta.disk_stall()) {
            Say::Nothing => {}
            Say::Slow => pdlog!(app.log, Warn, "the disk of the agreed state does not answer, changes have to wait"),
            Say::Over(took) => {
                pdlog!(app.log, Warn, "the disk of the agreed state answers again", "takes" => took);
            }
            Say::GiveUp => return app.meta.give_up(watchdog::GIVE_UP),
        }
    }
}

/// Counts the times that the system's time has gone back, or lies behind what was handed out.
async fn watch_clock(app: Arc<App>, shutdown: CancellationToken) {
    let mut before = app.now().wall;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(CLOCK) => {}
        }
        counts::look_at_clock(&app);
        let now = app.now().wall;
        if now < before {
            pdlog!(app.log, Error, "the system's time went back", "by" => Duration::from_nanos(before.0.abs_diff(now.0)));
            app.metrics.server.time_jump_back.inc();
        }
        before = now;
    }
}
