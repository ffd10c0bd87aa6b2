//! The observed state and the deciding code tied together.
//!
//! Owns: the locks around the deciding code, the order in which a heartbeat passes through it. Must not know: streams, tasks,
//! clocks, `meta`: agreed changes are handed in (`put_store`, `set_settings`, `set_limits`). The ways in call it, the shell
//! ticks it and carries out the effects that it returns.

mod checks;
mod hear;
mod hot;
pub mod records;
mod rules;
mod scatter;
mod schedulers;
pub mod tap;
mod term;
mod warm;

pub use scatter::Scattered;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tap::{Input, Tap, Taps};

use super::{
    admin::{self, AdminError, Request},
    balance::{Scatterer, Schedulers},
    controller::{Controller, journal::By},
    effect::{Effect, Event},
    life::{self, Burying, StoreChange, Unburied},
    operator::Operator,
    patrol::Patrol,
    prepare::Prepare,
    progress::{self, Progress, Tracker},
    view::{ClusterView, IdSource, Settings},
};
use crate::{
    model::{NodeState, Now, Region, RegionId, StoreId, StoreLimits, StoreRecord, StoreState, StoreStats},
    store::{
        Applied, Liveness, RegionIndex, Stale, StoreInfo, StoreTable,
        hot::history::History,
        warm::{Copy, Feed},
    },
};

mod explain;

/// Why a region heartbeat is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// Older than what is known.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// PD's words for anything malformed.
    #[error("{0}")]
    Invalid(String),
    /// This member does not lead (any more): who does takes it in.
    #[error("not leader")]
    NotLeading,
}

/// What is decided with, under one lock: held for one heartbeat's operator or one tick's batch, never for a scan.
struct Deciding {
    controller: Controller,
    patrol: Patrol,
    prepare: Prepare,
    progress: Tracker,
    burying: Burying,
    schedulers: Schedulers,
    scatterer: Scatterer,
    hot_history: History,
    /// Events of refused requests, told with the next tick.
    untold: Vec<Effect>,
}

impl Deciding {
    /// Feeds one store's progress: what a draining store still holds, what a preparing one holds of its share.
    fn follow_progress(&mut self, view: &ClusterView<'_>, id: StoreId) {
        let Some(store) = view.stores.get(&id) else { return self.progress.cancel(id) };
        let size = view.regions.summary(id).region_size_mib as f64;
        match (store.record.state, store.record.node_state) {
            (StoreState::Offline, _) => self.progress.removing(id, size, view.now.mono),
            (StoreState::Up, NodeState::Preparing) => {
                self.progress.preparing(id, size, life::filled_size(view, store), view.now.mono);
            }
            (StoreState::Up, NodeState::Serving) if self.is_removing(id) => self.progress.cancel(id),
            (StoreState::Up | StoreState::Tombstone, _) => self.progress.end(id, view.now.mono),
        }
    }

    fn is_removing(&self, id: StoreId) -> bool {
        self.progress.get(id).is_some_and(|p| p.action == progress::Action::Removing)
    }
}

/// See the module's comment. All methods take `&self`: locks are inside.
pub struct Cluster {
    regions: RegionIndex,
    stores: StoreTable,
    settings: ArcSwap<Settings>,
    limits: RwLock<BTreeMap<StoreId, StoreLimits>>,
    ids: Arc<dyn IdSource>,
    /// Nanoseconds of the monotonic clock.
    leader_since: AtomicU64,
    /// When this member last ceased to lead; 0: it never led in a term, `u64::MAX`: it has not ceased to.
    led_until: AtomicU64,
    /// Changed under the lock of the deciding code only.
    leads: AtomicBool,
    prepared: AtomicBool,
    /// When the next scheduler is due, so that a tick without one costs nothing.
    scheduler_due: AtomicU64,
    /// Whether any store ever told what is read from its peers.
    tells_of_reads: AtomicBool,
    deciding: Mutex<Deciding>,
    turns: hear::Turns,
    taps: Taps,
    /// What followers are told while this member leads.
    feed: Arc<Feed>,
    /// What this member was told by the leader. Locked before the deciding code.
    copy: Mutex<Copy>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("regions", &self.regions.len()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// An empty cluster under these settings; `now` is this leader's start. One that does not lead yet is told so with
    /// [`Cluster::end_term`].
    pub fn new(settings: Settings, ids: Arc<dyn IdSource>, now: Now) -> Self {
        Self {
            regions: RegionIndex::default(),
            stores: StoreTable::default(),
            settings: ArcSwap::from_pointee(settings),
            limits: RwLock::default(),
            ids,
            leader_since: AtomicU64::new(now.mono.0),
            led_until: AtomicU64::new(0),
            leads: AtomicBool::new(true),
            prepared: AtomicBool::new(false),
            scheduler_due: AtomicU64::new(0),
            tells_of_reads: AtomicBool::new(false),
            deciding: Mutex::new(Deciding {
                controller: Controller::new(now),
                patrol: Patrol::new(),
                prepare: Prepare::new(),
                progress: Tracker::new(),
                burying: Burying::new(),
                schedulers: Schedulers::new(now.wall.0.unsigned_abs()),
                scatterer: Scatterer::default(),
                hot_history: History::default(),
                untold: Vec::new(),
            }),
            turns: hear::Turns::default(),
            taps: Taps::default(),
            feed: Arc::default(),
            copy: Mutex::default(),
        }
    }

    /// From now on `tap` is told of all inputs (see [`tap`]).
    pub fn listen(&self, tap: Arc<dyn Tap>) {
        self.taps.set(tap);
    }

    /// The region index.
    pub fn regions(&self) -> &RegionIndex {
        &self.regions
    }

    /// The store table.
    pub fn stores(&self) -> &StoreTable {
        &self.stores
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// How a store's silence counts now.
    pub fn liveness(&self, store: &StoreInfo, now: Now) -> Liveness {
        store.liveness(self.leader_since(), now.mono, self.settings.load().schedule.max_store_down_time.get())
    }

    /// Runs `f` on the world at `now` with the deciding code locked, and collects what it wants done.
    fn decide<R>(
        &self,
        now: Now,
        f: impl FnOnce(&ClusterView<'_>, &mut Deciding, &mut Vec<Effect>) -> R,
    ) -> (R, Vec<Effect>) {
        let settings = self.settings.load();
        let stores = self.stores.snapshot();
        let view = ClusterView {
            regions: &self.regions,
            stores: &stores,
            settings: &settings,
            now,
            leader_since: self.leader_since(),
            ids: &*self.ids,
        };
        let mut out = Vec::new();
        let mut deciding = self.deciding.lock();
        let result = f(&view, &mut deciding, &mut out);
        for effect in &out {
            if let Effect::Tell(Event::OperatorEnded { op, .. }) = effect {
                deciding.patrol.note_ended(op, now);
                deciding.patrol.on_operator_ended(op.region);
            }
        }
        self.taps.effects(&out);
        (result, out)
    }

    /// Puts new settings in force and wakes what waited for a change of them: everything that waits for settings when the configuration
    /// changed, else the regions in the ranges whose rules or labels are others now.
    pub fn set_settings(&self, settings: Settings, now: Now) -> Vec<Effect> {
        let _turn = self.taps.input(Some(now), Input::Settings);
        let settings = Arc::new(settings);
        let old = self.settings.swap(Arc::clone(&settings));
        let changed = checks::changed_ranges(&old, &settings);
        let told = |view: &ClusterView<'_>, d: &mut Deciding, _: &mut Vec<Effect>| {
            if !self.is_leading() {
                return;
            }
            if checks::configured_otherwise(&old, &settings) {
                d.patrol.on_settings_changed(now.mono);
            }
            d.patrol.note_halt(view);
            d.patrol.suspect_ranges(changed);
        };
        self.decide(now, told).1
    }

    /// Takes an agreed store record in; a store that becomes Offline has its regions queued at once.
    pub fn put_store(&self, record: Arc<StoreRecord>, now: Now) {
        let _turn = self.taps.input(Some(now), Input::PutStore(&record));
        let id = record.id;
        self.stores.put_record(record, now);
        self.decide(now, |view, d, _| {
            if !self.is_leading() {
                return;
            }
            d.patrol.on_store_changed(view, id);
            // A new store that is filled at once never shows progress: only the regular look begins to follow Preparing.
            let is_new = view.stores.get(&id).is_some_and(|s| s.record.node_state == NodeState::Preparing);
            if !is_new {
                d.follow_progress(view, id);
            }
        });
    }

    /// A store's record was deleted.
    pub fn remove_store(&self, id: StoreId) {
        let _turn = self.taps.input(None, Input::RemoveStore(id));
        self.stores.remove(id);
        self.remove_limits(id);
    }

    /// Puts a store's limits in force.
    pub fn set_limits(&self, id: StoreId, limits: StoreLimits, now: Now) {
        let _turn = self.taps.input(Some(now), Input::Limits(id, Some(limits)));
        self.limits.write().insert(id, limits);
        self.decide(now, |view, d, _| {
            d.controller.set_limits(id, limits, now);
            if self.is_leading() {
                d.patrol.on_store_changed(view, id);
            }
        });
    }

    /// A store has no limits any more.
    pub fn remove_limits(&self, id: StoreId) {
        let _turn = self.taps.input(None, Input::Limits(id, None));
        self.limits.write().remove(&id);
        self.deciding.lock().controller.remove_limits(id);
    }

    /// A store's limits as they are in force.
    pub fn limits(&self, id: StoreId) -> Option<StoreLimits> {
        self.limits.read().get(&id).copied()
    }

    /// Takes a store heartbeat in; `None` for an unknown store.
    pub fn store_heartbeat(&self, id: StoreId, mut stats: StoreStats, now: Now) -> Option<Arc<StoreInfo>> {
        let _turn = self.taps.input(Some(now), Input::Store(id, &stats));
        let mut reads = Vec::new();
        if self.stores.get(id).is_some() && (!stats.peers.is_empty() || self.tells_of_reads.load(Ordering::Relaxed)) {
            // A store that told of reads once is asked every time: what it does not tell of cools down.
            self.tells_of_reads.store(true, Ordering::Relaxed);
            self.deciding.lock().schedulers.on_store_heartbeat(id, &stats, &self.regions, now);
            reads = std::mem::take(&mut stats.peers);
        }
        let heard = self.stores.heartbeat(id, stats, self.regions.moved_mib(id), now);
        self.feed.note_store(id, reads);
        heard
    }

    /// [`Cluster::hear`] for callers that are alone with it: tests and replays.
    ///
    /// # Errors
    /// The report is refused; nothing has changed.
    pub fn region_heartbeat(&self, region: Region, now: Now) -> Result<Vec<Effect>, HeartbeatError> {
        let mut out = Vec::new();
        self.hear(region, now, |decide| out = decide())?;
        Ok(out)
    }

    /// Puts a region from the disk cache in, as not heard yet. A row that contradicts one already there is left out.
    pub fn load_region(&self, region: Region) -> bool {
        let _turn = self.taps.input(None, Input::Loaded(&region));
        if region.range().is_empty() {
            return false;
        }
        self.regions.apply(region).inspect(|applied| self.feed.note_applied(applied)).is_ok()
    }

    /// Takes a region out of the index (a person's `DELETE /admin/cache/region`); it comes back with its next heartbeat.
    pub fn drop_region(&self, id: RegionId, now: Now) -> Vec<Effect> {
        let _turn = self.taps.input(Some(now), Input::Dropped(id));
        let removed = self.regions.remove(id).is_some();
        self.feed.note_gone(id);
        let ((), out) = self.decide(now, |view, d, out| {
            if removed {
                d.controller.on_region_gone(view, id, out);
                d.patrol.on_region_gone(id);
            }
        });
        out
    }

    /// One tick (every 10 ms): pushes and time-outs of operators, burials, the preparation; and the patrol with its work lists when
    /// `patrol-region-interval` has passed since its last turn. Nothing but the patrol follows that setting.
    pub fn tick(&self, now: Now) -> Vec<Effect> {
        let _turn = self.taps.input(Some(now), Input::Tick);
        let ((), out) = self.decide(now, |view, d, out| {
            if !self.is_leading() {
                return;
            }
            out.append(&mut d.untold);
            d.burying.watch(view);
            d.controller.tick(view, out);
            if d.prepare.check(view, out) {
                self.prepared.store(true, Ordering::Relaxed);
                if d.patrol.is_due(view) {
                    d.patrol.tick(view, &mut d.controller, out);
                }
            }
        });
        out
    }

    /// Whether scheduling may act: enough was heard.
    pub fn is_prepared(&self) -> bool {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Makes and starts an operator for a person. `caller`: what it calls itself, empty if it is not known.
    pub fn admin(&self, request: &Request, caller: &str, now: Now) -> Result<Vec<Effect>, AdminError> {
        let _turn = self.taps.input(Some(now), Input::Admin(request));
        let (result, out) = self.decide(now, |view, d, out| {
            if !self.is_leading() {
                return Err(AdminError::NotAdded);
            }
            let operators = admin::build(view, request)?;
            d.controller.add(view, operators, &By::call("operators", caller), out).map_err(|_| AdminError::NotAdded)
        });
        if result.is_err() {
            // The refusal's own events (`operator canceled`) are told with the next tick.
            self.deciding.lock().untold.extend(out);
            return result.map(|()| Vec::new());
        }
        Ok(out)
    }

    /// Cancels a region's operator (`admin stop`).
    pub fn cancel_operator(&self, region: RegionId, now: Now) -> Result<Vec<Effect>, AdminError> {
        let _turn = self.taps.input(Some(now), Input::Cancel(region));
        match self.decide(now, |view, d, out| d.controller.cancel(view, region, out)) {
            (true, out) => Ok(out),
            (false, _) => Err(AdminError::OperatorNotFound),
        }
    }

    /// Cancels every running operator (`admin stop`).
    pub fn cancel_all_operators(&self, now: Now) -> Vec<Effect> {
        let _turn = self.taps.input(Some(now), Input::CancelAll);
        self.decide(now, |view, d, out| d.controller.cancel_all(view, out)).1
    }

    /// Running operators.
    pub fn operators(&self) -> Vec<Arc<Operator>> {
        self.deciding.lock().controller.all_running()
    }

    /// Waiting operators.
    pub fn waiting_operators(&self) -> Vec<Arc<Operator>> {
        self.deciding.lock().controller.all_waiting()
    }

    /// A region's running operator or its record.
    pub fn operator_status(&self, region: RegionId) -> Option<Arc<Operator>> {
        self.deciding.lock().controller.status(region)
    }

    /// Records of ended operators since `from`, Unix seconds.
    pub fn operator_records(&self, from: i64) -> Vec<Arc<Operator>> {
        self.deciding.lock().controller.records(from)
    }

    /// Progress of the drains and preparations under way, by store.
    pub fn progress(&self) -> Vec<Progress> {
        self.deciding.lock().progress.all()
    }

    /// Feeds the progress figures (every 10 s, and once when a drain starts or is cancelled).
    pub fn update_progress(&self, now: Now) {
        self.decide(now, |view, d, _| {
            let followed = view.stores.keys().filter(|_| self.is_leading());
            for id in followed {
                d.follow_progress(view, *id);
            }
            d.progress.forget_ended(now.mono);
        });
    }

    /// Which stores may be buried now, and which Preparing ones serve (see DESIGN: burying, end of Preparing). The shell
    /// proposes the change to `meta` and hands the new records back in.
    pub fn store_changes(&self, now: Now) -> Vec<StoreChange> {
        let prepared = self.is_prepared();
        if !self.is_leading() {
            return Vec::new();
        }
        let changes = |view: &ClusterView<'_>, d: &mut Deciding, _: &mut Vec<Effect>| {
            let mut changes = d.burying.changes(view, prepared);
            changes.retain(|change| match change {
                StoreChange::Bury(id) => d.controller.brings_peer(*id).is_none(),
                StoreChange::Serve(_) => true,
            });
            changes
        };
        self.decide(now, changes).0
    }

    /// What keeps an Offline store from being buried; `None` for a store that is not Offline, or when nothing does.
    pub fn unburied(&self, id: StoreId, now: Now) -> Option<Unburied> {
        let prepared = self.is_prepared();
        let obstacle = |view: &ClusterView<'_>, d: &mut Deciding, _: &mut Vec<Effect>| {
            let store = view.stores.get(&id).filter(|s| s.record.state == StoreState::Offline)?;
            let awaited = || d.controller.brings_peer(id).map(Unburied::Awaits);
            d.burying.obstacle(view, store, prepared).or_else(awaited)
        };
        self.decide(now, obstacle).0
    }

    /// Runs `f` on the world at `now`, for reads that need more than one part of it (statistics, lists of unusual regions).
    pub fn with_view<R>(&self, now: Now, f: impl FnOnce(&ClusterView<'_>) -> R) -> R {
        let settings = self.settings.load();
        let stores = self.stores.snapshot();
        f(&ClusterView {
            regions: &self.regions,
            stores: &stores,
            settings: &settings,
            now,
            leader_since: self.leader_since(),
            ids: &*self.ids,
        })
    }
}

/// What the region cache on disk has to write: what the index holds now. (Another region's report may have pushed this one out in
/// the meantime, and its order to forget may have gone out already; or a region that this one pushed out is back.)
fn cache_changes(view: &ClusterView<'_>, applied: &Applied, out: &mut Vec<Effect>) {
    let region = &applied.region;
    if applied.changes.save && view.regions.get(region.id()).is_some_and(|r| Arc::ptr_eq(&r, region)) {
        out.push(Effect::CacheRegion(Arc::clone(region)));
    }
    let gone = applied.removed.iter().map(|gone| gone.id()).filter(|id| view.regions.get(*id).is_none());
    out.extend(gone.map(Effect::ForgetRegion));
}

/// The events of an accepted report that people look for in the log.
fn tell_changes(view: &ClusterView<'_>, applied: &Applied, out: &mut Vec<Effect>) {
    let changes = applied.changes;
    if !changes.is_new && (changes.leader || changes.conf_ver || changes.version) {
        let (origin, region) = (applied.origin.clone(), Arc::clone(&applied.region));
        out.push(Effect::Tell(Event::RegionChanged { origin, region }));
    }
    for down in &applied.region.down {
        let Some(peer) = applied.region.meta.peer(down.peer).copied() else { continue };
        if applied.origin.as_ref().is_some_and(|o| o.is_down(peer.id)) {
            continue; // said when it was first reported
        }
        let max_down = view.settings.schedule.max_store_down_time.get();
        let connected = view
            .stores
            .get(&peer.store)
            .is_some_and(|s| s.liveness(view.leader_since, view.now.mono, max_down) == Liveness::Connected);
        if connected {
            let (region, seconds) = (applied.region.id(), down.seconds);
            out.push(Effect::Tell(Event::DownPeerOnConnectedStore { region, peer, seconds }));
        }
    }
}
