//! The schedulers that run: when each has its turn, pauses, what its last look came to.
//!
//! Owns: PD's back-off, pausing, diagnosis, handing proposals to the controller under the limits. Must not know: where the list
//! comes from (it is set), timers (it is ticked).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Config, Dice, Kind, Memory, Spec,
    round::{Input, Round, Why},
    run,
};
use crate::{
    model::{Mono, Now, Region, StoreId, StoreStats, Wall},
    scheduler::{
        controller::{Controller, journal::By},
        effect::{Effect, Event},
        operator::Kind as OperatorKind,
        outcome::ScheduleLimit,
        view::ClusterView,
    },
    store::{RegionIndex, hot::HotPeers},
};

/// What the time grows by when a look finds nothing, in tenths (PD's number).
const GROWTH_TENTHS: u32 = 13;

/// Since when and until when a scheduler is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paused {
    /// Since when.
    pub at: Wall,
    /// Until when.
    pub until: Wall,
    resume: Mono,
}

/// Why a scheduler cannot be paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PauseError {
    /// There is none of this name.
    #[error("[PD:scheduler:ErrSchedulerNotFound]scheduler not found")]
    NotFound,
}

/// What a scheduler is at, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// `normal`, `scheduling`, `pending`, `paused`, `halted`, `disabled`.
    pub status: &'static str,
    /// What keeps stores from taking part, counted.
    pub summary: String,
    /// When it last looked.
    pub at: Wall,
    /// What stood against each store.
    pub refused: BTreeMap<StoreId, Why>,
}

/// One scheduler that runs.
#[derive(Debug)]
struct Running {
    spec: Spec,
    paused: Option<Paused>,
    interval: Duration,
    next: Mono,
    memory: Memory,
    last: Option<Diagnosis>,
}

impl Running {
    fn new(spec: Spec, now: Mono) -> Self {
        let (interval, _) = spec.config.kind().intervals();
        Self { spec, paused: None, interval, next: now.plus(interval), memory: Memory::default(), last: None }
    }

    fn kind(&self) -> Kind {
        self.spec.config.kind()
    }

    fn is_paused(&self, now: Mono) -> bool {
        self.paused.is_some_and(|p| p.resume > now)
    }
}

/// How often the leaders of a store are kept from coming in and from going out.
pub type LeaderPauses = BTreeMap<StoreId, (u32, u32)>;

/// See the module's comment.
#[derive(Debug)]
pub struct Schedulers {
    running: BTreeMap<String, Running>,
    hot: HotPeers,
    dice: Dice,
    /// Whether it was told which ones run from the start.
    announced: bool,
}

impl Schedulers {
    /// None runs. `seed` starts the source of chance.
    pub fn new(seed: u64) -> Self {
        Self { running: BTreeMap::new(), hot: HotPeers::default(), dice: Dice::new(seed), announced: false }
    }

    /// Makes these the schedulers that run. One that ran before keeps its pause and what it remembers.
    pub fn set(&mut self, specs: Vec<Spec>, now: Now) {
        let mut before = std::mem::take(&mut self.running);
        for spec in specs {
            let name = spec.name.clone();
            let running = match before.remove(&name) {
                Some(mut known) => {
                    if known.spec != spec {
                        known.spec = spec;
                        known.interval = known.kind().intervals().0;
                        known.next = now.mono;
                    }
                    known
                }
                None => Running::new(spec, now.mono),
            };
            self.running.insert(name, running);
        }
    }

    /// Another term: the same ones run, from their beginning; pauses go.
    pub fn begin_term(&mut self, now: Now) {
        let specs = std::mem::take(&mut self.running).into_values().map(|r| r.spec);
        let specs = specs.collect();
        self.set(specs, now);
        self.announced = false;
    }

    /// Nothing is known of hot peers any more.
    pub fn forget_hot(&mut self) {
        self.hot = HotPeers::default();
    }

    /// Takes a region in as another member knows it; `is_new`: its traffic is of a report that was not taken in yet.
    pub fn on_copied(&mut self, region: &Region, is_new: bool, now: Now) {
        match is_new {
            true => self.hot.on_region(region, now),
            false => self.hot.follow(region),
        }
    }

    /// Takes the traffic of a region's report in.
    pub fn on_heartbeat(&mut self, region: &Region, now: Now) {
        self.hot.on_region(region, now);
    }

    /// Takes in what a store tells of its peers.
    pub fn on_store_heartbeat(&mut self, store: StoreId, stats: &StoreStats, regions: &RegionIndex, now: Now) {
        self.hot.on_store(store, stats, regions, now);
    }

    /// The peers that are hot.
    pub fn hot(&self) -> &HotPeers {
        &self.hot
    }

    /// Names of all, in order.
    pub fn names(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Config> {
        self.running.get(name).map(|r| &r.spec.config)
    }

    /// Those that are paused.
    pub fn paused(&self, now: Now) -> Vec<(String, Paused)> {
        let paused = self.running.iter().filter(|(_, r)| r.is_paused(now.mono));
        paused.filter_map(|(name, r)| Some((name.clone(), r.paused?))).collect()
    }

    /// Pauses the one of this name (`all`: every one), or lets it go on when `span` is zero.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn pause(&mut self, name: &str, span: Duration, now: Now) -> Result<(), PauseError> {
        let pause = (!span.is_zero()).then(|| {
            let until = now.plus(span);
            Paused { at: now.wall, until: until.wall, resume: until.mono }
        });
        let mut found = name == "all";
        for (_, running) in self.running.iter_mut().filter(|(known, _)| name == "all" || known.as_str() == name) {
            running.paused = pause;
            running.next = pause.map_or(now.mono, |p| p.resume);
            found = true;
        }
        if found { Ok(()) } else { Err(PauseError::NotFound) }
    }

    /// When the next one is due; `None` when none runs.
    pub fn next_due(&self) -> Option<Mono> {
        self.running.values().map(|r| r.next).min()
    }

    /// What the one of this name is at. `None` before its first look.
    pub fn diagnosis(&self, name: &str, halted: bool, now: Now) -> Option<Diagnosis> {
        let plain = |status| Diagnosis { status, summary: String::new(), at: now.wall, refused: BTreeMap::new() };
        match self.running.get(name) {
            None => Some(plain("disabled")),
            Some(running) if running.is_paused(now.mono) => Some(plain("paused")),
            Some(_) if halted => Some(plain("halted")),
            Some(running) => running.last.clone(),
        }
    }

    /// The stores that schedulers keep leaders off, or keep them on.
    pub fn leader_pauses(&self) -> LeaderPauses {
        let mut pauses = LeaderPauses::new();
        for running in self.running.values() {
            for store in evicted(running) {
                pauses.entry(store).or_default().0 += 1;
            }
            if let Config::GrantLeader(grant) = &running.spec.config {
                for store in grant.stores.keys() {
                    pauses.entry(*store).or_default().1 += 1;
                }
            }
        }
        pauses
    }

    /// The stores that a scheduler of this kind found by itself and takes leaders off.
    pub fn evicting(&self, kind: Kind) -> BTreeSet<StoreId> {
        let running = self.running.values().filter(|r| r.kind() == kind);
        running.flat_map(|r| r.memory.evicting.iter().copied()).collect()
    }

    /// The stores of evict-leader: nothing that happens by itself takes them off its list.
    pub fn evict_leader_stores(&self) -> BTreeSet<StoreId> {
        let evict = |r: &Running| match &r.spec.config {
            Config::EvictLeader(evict) => evict.stores.keys().copied().collect(),
            _ => Vec::new(),
        };
        self.running.values().flat_map(evict).collect()
    }

    /// Lets every scheduler that is due look at the world, and hands what they propose to the controller.
    pub fn tick(&mut self, view: &ClusterView<'_>, controller: &mut Controller, out: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.announced, true) {
            let created = |name: &String| Effect::Tell(Event::SchedulerCreated { name: name.clone() });
            out.extend(self.running.keys().map(created));
        }
        if view.settings.schedule.halt_scheduling {
            for running in self.running.values_mut() {
                running.next = view.now.mono.plus(running.interval);
            }
            return;
        }
        let now = view.now.mono;
        for running in self.running.values_mut().filter(|r| r.next <= now) {
            if running.is_paused(now) {
                running.next = running.paused.map_or(now, |p| p.resume);
                continue;
            }
            running.paused = None;
            look(running, view, controller, (&self.hot, &mut self.dice), out);
        }
    }
}

/// The stores that a scheduler takes leaders off.
fn evicted(running: &Running) -> Vec<StoreId> {
    match &running.spec.config {
        Config::EvictLeader(evict) => evict.stores.keys().copied().collect(),
        Config::EvictSlowStore(_) | Config::EvictStoppingStore(_) => running.memory.evicting.iter().copied().collect(),
        _ => Vec::new(),
    }
}

/// Whether the limit that a scheduler runs under leaves room. Operators that count under a kind without a limit of its own are
/// counted here.
fn has_room(config: &Config, view: &ClusterView<'_>, controller: &Controller) -> bool {
    let kind = config.kind();
    let leaders = || controller.has_room(view, ScheduleLimit::Leader);
    match config {
        Config::ShuffleHotRegion(own) if controller.count(OperatorKind::HOT_REGION) >= own.limit || !leaders() => {
            return false;
        }
        Config::GrantHotRegion(_) if !leaders() => return false,
        _ => {}
    }
    let schedule = &view.settings.schedule;
    controller.has_room(view, kind.limit())
        && match kind {
            Kind::ScatterRange => controller.count(OperatorKind::RANGE) < schedule.region_schedule_limit,
            Kind::ShuffleLeader => controller.count(OperatorKind::ADMIN) < schedule.leader_schedule_limit,
            _ => true,
        }
}

/// One look of one scheduler.
fn look(
    running: &mut Running,
    view: &ClusterView<'_>,
    controller: &mut Controller,
    (hot, dice): (&HotPeers, &mut Dice),
    out: &mut Vec<Effect>,
) {
    let (kind, now) = (running.kind(), view.now);
    let tell = |event: &'static str| Effect::Tell(Event::SchedulerCounted { name: kind.name(), event });
    // A store that became slow or well again is noticed although nothing could be moved now.
    if !has_room(&running.spec.config, view, controller)
        && !matches!(kind, Kind::EvictSlowStore | Kind::EvictStoppingStore)
    {
        let limit = BTreeMap::new();
        running.last = Some(Diagnosis { status: "pending", summary: String::new(), at: now.wall, refused: limit });
        out.push(Effect::Tell(Event::SchedulerLimited { name: kind.name(), limit: kind.limit() }));
        running.next = now.mono.plus(running.interval);
        return;
    }
    out.push(tell("schedule"));
    let input = Input { view, budget: &*controller, hot, name: &running.spec.name, cause: kind.cause() };
    let round = run(&input, &running.spec, &mut running.memory, dice);
    out.extend(round.events.iter().map(|event| tell(event)));
    if round.denied > 0 {
        out.push(Effect::Tell(Event::SchedulerDenied { regions: round.denied }));
    }
    let Round { ops, refused, .. } = round;
    let (mut added, by) = (false, By::scheduler(&running.spec.name));
    for op in ops {
        if !has_room(&running.spec.config, view, controller) {
            break;
        }
        added |= controller.add_waiting(view, vec![op], &by, kind.cause(), out).is_ok();
    }
    let (shortest, longest) = kind.intervals();
    running.interval = if added { shortest } else { (running.interval * GROWTH_TENTHS / 10).min(longest) };
    running.next = now.mono.plus(running.interval);
    let status = match (added, refused.is_empty()) {
        (true, _) => "scheduling",
        (false, true) => "normal",
        (false, false) => "pending",
    };
    let summary = if added { String::new() } else { summary(&refused) };
    running.last = Some(Diagnosis { status, summary, at: now.wall, refused });
}

/// `2 store(s) StoreScoreDisallowed; 1 store(s) StoreDown; `
fn summary(refused: &BTreeMap<StoreId, Why>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for why in refused.values() {
        *counts.entry(why.status()).or_default() += 1;
    }
    counts.iter().map(|(status, count)| format!("{count} store(s) {status}; ")).collect()
}
