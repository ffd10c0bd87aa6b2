//! What a drain would be like, before anybody asks for it.
//!
//! Owns: what would be moved and what would be held; [`model`] says when it would end. Must not know: who asks, running operators
//! beyond what [`Load`] sums up.
//!
//! Every region of the store is checked as it would be checked if the store were Offline, with tokens for everybody: that gives
//! what holds a region, and which stores could take its peer. The moves are then given to stores in turn, each to the one of its
//! possible stores that is the first to have a token, no more at a time than `replica-schedule-limit` allows, and no faster than stores
//! were seen to fill new peers. That is how the work lists spend tokens, without the ticks in between. A large store is sampled.

mod model;

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use model::Model;

use super::{
    Known,
    drain::Binding,
    why::{Group, Groups, Why, silent_leader},
};
use crate::{
    model::{
        Mono, NodeState, Now, PeerId, Region, RegionId, StoreId, StoreLimits, StoreRecord, StoreState, store::UNLIMITED,
    },
    scheduler::{
        checker::{Memory, check_with, pause::Pauses},
        controller::typical::Paces,
        filter::{Budget, Candidate, Lens, score_of},
        life::{RemovalError, may_remove},
        limit::Limits,
        operator::{Operator, StoreInfluence, step::FULL_COST},
        outcome::{LimitKind, Outcome, Reason, ScheduleLimit},
        view::{ClusterView, IdSource},
    },
    store::{StoreInfo, index::Held},
};

/// At most so many regions are checked; of a larger store a part stands for all.
const CHECKED_AT_MOST: usize = 20_000;
/// A store is asked for no more regions than this.
const MAX_REGIONS: usize = 1 << 20;
/// What a move costs when none was measured yet.
const ASSUMED_MOVE: Paces = Paces { fill: Duration::from_secs(5), between: Duration::ZERO, rest: Duration::ZERO };
/// The interval of store heartbeats: the store is buried with the first report after its last region has left.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What is under way and what limits leave, as far as the model needs it.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Store limits, peers a minute.
    pub limits: BTreeMap<StoreId, StoreLimits>,
    /// The same, with what is used up.
    pub tokens: Limits,
    /// What running operators will change.
    pub influence: BTreeMap<StoreId, StoreInfluence>,
    /// Operators that count against `replica-schedule-limit`.
    pub running: u64,
    /// What a move usually costs, when it was measured.
    pub paces: Option<Paces>,
    /// Which checkers are paused.
    pub pauses: Pauses,
    /// Whether enough was heard to schedule.
    pub prepared: bool,
}

impl Load {
    /// Of the deciding code at one moment.
    pub fn of(known: &Known<'_>, limits: &BTreeMap<StoreId, StoreLimits>) -> Self {
        let (view, controller) = (known.view, known.controller);
        Self {
            limits: limits.clone(),
            tokens: controller.limits().clone(),
            influence: controller.influence().clone(),
            running: controller.under_limit(view, ScheduleLimit::Replica).0,
            paces: controller.typical().paces(),
            pauses: known.patrol.memory().pauses,
            prepared: known.prepared,
        }
    }
}

/// A drain that nobody has asked for yet.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The store.
    pub store: StoreId,
    /// Whether the DELETE would be accepted, or why not.
    pub allowed: Result<(), RemovalError>,
    /// Regions to move.
    pub regions: u64,
    /// Their size, bytes.
    pub bytes: u64,
    /// What would hold regions.
    pub holds: Vec<Group>,
    /// Regions that nothing would hold.
    pub movable: u64,
    /// When the last movable region has left; `None`: never, under the limits as they are.
    pub takes: Option<Duration>,
    /// Until when the store is Tombstone at the latest; `None` when something holds regions.
    pub tombstone_after: Option<Duration>,
    /// Which limit decides.
    pub limit: Binding,
    /// How long one move takes alone in the model, and whether that was measured.
    pub move_takes: (Duration, bool),
    /// Movable regions by the store that would take them, in the model.
    pub targets: BTreeMap<StoreId, u64>,
}

/// The budget of the model: nothing is used up, and what was given to a store counts for its score.
struct Open<'a> {
    load: &'a Load,
    given: RefCell<BTreeMap<StoreId, StoreInfluence>>,
}

impl Budget for Open<'_> {
    fn is_running(&self, _: RegionId) -> bool {
        false
    }

    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        limit != ScheduleLimit::Replica || view.settings.schedule.replica_schedule_limit > 0
    }

    fn has_tokens(&self, store: StoreId, kind: LimitKind, _: Now) -> bool {
        kind != LimitKind::AddPeer || rate(self.load, store) > 0.0
    }

    fn next_token(&self, _: StoreId, _: LimitKind, _: Now) -> Option<Mono> {
        None
    }

    fn influence_on(&self, store: StoreId) -> StoreInfluence {
        let mut sum = self.load.influence.get(&store).copied().unwrap_or_default();
        sum.add(self.given.borrow().get(&store).copied().unwrap_or_default());
        sum
    }
}

/// Ids for operators that are never started.
struct Unnumbered;

impl IdSource for Unnumbered {
    fn next_peer_id(&self) -> Option<PeerId> {
        Some(PeerId(0))
    }
}

fn rate(load: &Load, store: StoreId) -> f64 {
    load.limits.get(&store).map_or(UNLIMITED, |limits| limits.add_peer)
}

/// One region's move: the stores that could take it, best first, and what it costs of a store limit.
struct Move {
    targets: Vec<StoreId>,
    cost: u64,
    size_mib: i64,
}

/// Works out what a drain of `store` would be like. `None` for an unknown store.
pub fn preview(view: &ClusterView<'_>, load: &Load, store: StoreId) -> Option<Preview> {
    let stores = as_offline(view, store)?;
    let view_then = ClusterView { stores: &stores, ids: &Unnumbered, ..*view };
    let mut ids = view.regions.of_store(store, Held::Any, MAX_REGIONS);
    ids.sort_unstable();
    let every = ids.len().div_ceil(CHECKED_AT_MOST).max(1);
    let (moves, holds) = check_all(&view_then, load, ids.iter().step_by(every).copied());
    let scale = |count: u64| (count * every as u64).min(ids.len() as u64);
    let mut holds = holds.into_sorted();
    holds.iter_mut().for_each(|group| group.regions = scale(group.regions));
    let paces = load.paces.unwrap_or(ASSUMED_MOVE);
    let tick = view.settings.schedule.patrol_region_interval.get();
    let score = |store: StoreId, given: i64| {
        let coming = load.influence.get(&store).map_or(0, |influence| influence.region_size);
        view.stores.get(&store).map_or(0.0, |info| score_of(view, info, coming.saturating_add(given)))
    };
    let weight = u32::try_from(every).unwrap_or(u32::MAX);
    let model = Model { load, now: view.now.mono, weight, paces, tick, score: &score };
    let most = view.settings.schedule.replica_schedule_limit;
    let outcome = model.run(&moves, most);
    // When nothing can be moved there is no end to tell.
    let told = outcome.as_ref().filter(|_| ids.is_empty() || !moves.is_empty());
    let takes = told.map(|outcome| outcome.ends.since(view.now.mono));
    let limit = match (&outcome, holds.first()) {
        _ if ids.is_empty() => Binding::Done,
        (_, Some(group)) if moves.is_empty() => match group.why.reason() {
            Some(Reason::Halted) => Binding::Halted,
            Some(Reason::NotPrepared) => Binding::NotPrepared,
            _ => Binding::Blocked(group.why.name()),
        },
        (Some(outcome), _) => outcome.limit(load, most),
        (None, _) => Binding::Blocked("no-target"),
    };
    Some(Preview {
        store,
        allowed: may_remove(view, store, false),
        regions: ids.len() as u64,
        bytes: view.regions.summary(store).region_size_mib << 20,
        movable: scale(moves.len() as u64),
        takes,
        tombstone_after: takes.filter(|_| holds.is_empty()).map(|takes| takes + REPORT_EVERY),
        holds,
        limit,
        move_takes: (paces.fill + paces.rest, load.paces.is_some()),
        targets: outcome.map(|o| o.given).unwrap_or_default(),
    })
}

/// The stores as they would be: this one Offline.
fn as_offline(view: &ClusterView<'_>, store: StoreId) -> Option<BTreeMap<StoreId, Arc<StoreInfo>>> {
    let mut stores = view.stores.clone();
    let info = stores.get_mut(&store)?;
    let record =
        StoreRecord { state: StoreState::Offline, node_state: NodeState::Removing, ..StoreRecord::clone(&info.record) };
    *info = Arc::new(info.with_record(record));
    Some(stores)
}

/// Checks regions as the work list would, and finds what explanations find.
fn check_all(view: &ClusterView<'_>, load: &Load, ids: impl Iterator<Item = RegionId>) -> (Vec<Move>, Groups) {
    let budget = Open { load, given: RefCell::default() };
    let memory = Memory::of_pauses(load.pauses);
    let (mut moves, mut holds) = (Vec::new(), Groups::default());
    let mut hold = |region: &Region, why: Why| holds.add(region.id(), &why, view.now.mono);
    let halted = view.settings.schedule.halt_scheduling;
    for region in ids.filter_map(|id| view.regions.get(id)) {
        if let Some(store) = silent_leader(view, &region) {
            hold(&region, Why::LeaderSilent { store });
            continue;
        }
        if !load.prepared && !halted {
            hold(&region, Why::Blocked(Arc::new(Reason::NotPrepared)));
            continue;
        }
        let lens = Lens::new(&budget).in_full();
        match check_with(view, &lens, &memory, &region) {
            Outcome::Healthy => {}
            Outcome::Blocked(reason) => hold(&region, Why::Blocked(Arc::new(reason))),
            Outcome::Propose(operators) => {
                let judged = lens.into_judged().pop();
                moves.push(plan(&budget, &region, &operators, judged.map(|(_, candidates)| candidates)));
            }
        }
    }
    (moves, holds)
}

/// What an operator would take: its own target first, then the others that would have done as well.
fn plan(budget: &Open<'_>, region: &Region, operators: &[Operator], judged: Option<Vec<Candidate>>) -> Move {
    let chosen = operators.iter().flat_map(|op| op.steps.iter()).find_map(|step| step.new_peer_store());
    let cost = operators.first().map_or(FULL_COST, |op| op.move_cost);
    let Some(chosen) = chosen else {
        return Move { targets: Vec::new(), cost: 0, size_mib: 0 };
    };
    let size = i64::try_from(region.size_mib).unwrap_or(i64::MAX);
    let share = StoreInfluence { region_size: size, region_count: 1, ..StoreInfluence::default() };
    budget.given.borrow_mut().entry(chosen).or_default().add(share);
    let mut open: Vec<Candidate> = judged.unwrap_or_default();
    open.retain(|c| c.refused.is_empty());
    let best = open.iter().map(|c| c.apart).fold(f64::NEG_INFINITY, f64::max);
    open.retain(|c| c.apart >= best && c.store != chosen);
    open.sort_by(|a, b| a.score.total_cmp(&b.score).then(a.store.cmp(&b.store)));
    let targets = std::iter::once(chosen).chain(open.into_iter().map(|c| c.store)).collect();
    Move { targets, cost, size_mib: size }
}

impl Preview {
    /// Whether some refusal would not pass by itself.
    pub fn is_held(&self) -> bool {
        let passes = |group: &Group| match &group.why {
            Why::Blocked(reason) => matches!(
                **reason,
                Reason::PendingPeer(_) | Reason::NoLeader | Reason::TargetBusy { .. } | Reason::NotPrepared
            ),
            why => matches!(why, Why::LeaderSilent { .. }),
        };
        self.holds.iter().any(|group| !passes(group))
    }
}
