//! Which stores may take a peer or a leader, and which of them is best.
//!
//! Owns: the filters, each refusal by PD's name, and the choice among what is left. Must not know: why a peer is wanted, operators,
//! how limits are counted ([`Budget`] tells).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use super::{
    controller::Controller,
    operator::StoreInfluence,
    outcome::{LimitKind, Reason, ScheduleLimit},
    placement::labels,
    score::region_score,
    view::ClusterView,
};
use crate::{
    model::{LabelConstraint, Mono, Now, Region, RegionId, StoreId, StoreState},
    store::{Liveness, StoreInfo},
};

/// Below this many regions a store with free space does not count as full: its disk may be small, its load is smaller (PD).
const FEW_REGIONS: u64 = 100;
/// The free space meant by [`FEW_REGIONS`].
const ENOUGH_FOR_FEW: u64 = 8 << 30;
/// The label that keeps ordinary regions away from a store, and the uses that do.
const SPECIAL_USE: (&str, [&str; 2]) = ("specialUse", ["hotRegion", "reserved"]);
/// Regions up to this size (MiB) are moved without a token.
const FREE_SIZE_MIB: u64 = 1;

/// Why a filter refuses a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// It has a peer of the region already.
    Excluded,
    /// Its disk is nearly full (`low-space-ratio`).
    StorageThreshold,
    /// It is kept for something else.
    SpecialUse,
    /// It is gone.
    Tombstone,
    /// It is being emptied.
    Offline,
    /// It has been silent for longer than `max-store-down-time`.
    Down,
    /// Leaders may not move there now.
    PauseLeader,
    /// Its labels are not what the rule asks for.
    LabelConstraint,
    /// It would lie too near to another peer (`isolation-level`).
    Isolation,
    /// It would lie no further apart than the store that it would stand in for.
    Distinct,
    /// It has been silent for more than 20 s.
    Disconnected,
    /// It asks for less work.
    Busy,
    /// No add-peer tokens.
    ExceedAddLimit,
    /// No remove-peer tokens.
    ExceedRemoveLimit,
    /// More than `max-snapshot-count` snapshots are under way.
    TooManySnapshots,
    /// More than `max-pending-peer-count` peers lag behind.
    TooManyPendingPeers,
}

impl Refusal {
    /// PD's name: the value of label `type` in `pd_schedule_target_filter`.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Excluded => "exclude-filter",
            Refusal::StorageThreshold => "storage-threshold-filter",
            Refusal::SpecialUse => "special-use-filter",
            Refusal::Tombstone => "store-state-tombstone-filter",
            Refusal::Offline => "store-state-offline-filter",
            Refusal::Down => "store-state-down-filter",
            Refusal::PauseLeader => "store-state-pause-leader-filter",
            Refusal::LabelConstraint => "label-constraint-filter",
            Refusal::Isolation => "isolation-filter",
            Refusal::Distinct => "distinct-filter",
            Refusal::Disconnected => "store-state-disconnect-filter",
            Refusal::Busy => "store-state-busy-filter",
            Refusal::ExceedAddLimit => "store-state-exceed-add-limit-filter",
            Refusal::ExceedRemoveLimit => "store-state-exceed-remove-limit-filter",
            Refusal::TooManySnapshots => "store-state-too-many-snapshots-filter",
            Refusal::TooManyPendingPeers => "store-state-too-many-pending-peers-filter",
        }
    }

    /// Whether it will pass by itself before long.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Refusal::Disconnected
                | Refusal::Busy
                | Refusal::ExceedAddLimit
                | Refusal::ExceedRemoveLimit
                | Refusal::TooManySnapshots
                | Refusal::TooManyPendingPeers
        )
    }
}

/// What is under way, as far as deciding needs it.
pub trait Budget {
    /// Whether the region has a running operator.
    fn is_running(&self, region: RegionId) -> bool;
    /// Whether a schedule limit leaves room.
    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool;
    /// Whether a store has tokens now.
    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool;
    /// When a store will next have a token; `None` when it has one or has no limit.
    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono>;
    /// What running operators will change on a store.
    fn influence_on(&self, store: StoreId) -> StoreInfluence;
    /// Hears of each choice of a store, for whoever keeps or explains it.
    fn note(&self, _view: &ClusterView<'_>, _wanted: &Wanted<'_>, _choice: &Choice) {}
}

/// How a store was chosen, or why none was.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Choice {
    /// The store.
    pub chosen: Option<StoreId>,
    /// Stores that could take the peer now, with their region scores, best first; the first [`SCORES_KEPT`].
    pub scores: Vec<(StoreId, f64)>,
    /// Filter name to the stores that it refused.
    pub refused: BTreeMap<&'static str, Vec<StoreId>>,
    /// Whether a store was left after the filters for what lasts.
    pub is_temporary: bool,
}

/// How many of the stores that could have been chosen a [`Choice`] keeps.
pub const SCORES_KEPT: usize = 5;

impl Choice {
    fn into_result(self) -> Result<StoreId, Reason> {
        match self.chosen {
            Some(store) => Ok(store),
            None if self.is_temporary => Err(Reason::TargetBusy { refused: self.refused }),
            None => Err(Reason::NoTarget { refused: self.refused }),
        }
    }
}

/// How one store was judged for a peer, by every filter.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// The store.
    pub store: StoreId,
    /// All filters that refuse it; none: it could take the peer.
    pub refused: Vec<Refusal>,
    /// How far it lies from the other peers (more is better).
    pub apart: f64,
    /// Its region score with what is under way (less is better).
    pub score: f64,
}

impl Budget for Controller {
    fn is_running(&self, region: RegionId) -> bool {
        self.running(region).is_some()
    }

    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        Controller::has_room(self, view, limit)
    }

    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool {
        self.store_has_tokens(store, kind, now)
    }

    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono> {
        Controller::next_token(self, store, kind, now)
    }

    fn influence_on(&self, store: StoreId) -> StoreInfluence {
        self.influence().get(&store).copied().unwrap_or_default()
    }
}

/// A budget seen with some things set aside, which remembers the choices that were made with it.
pub struct Lens<'a> {
    base: &'a dyn Budget,
    /// What the replica limit says, whatever it really says.
    replica_room: Option<bool>,
    /// Whether regions count as idle although their operator runs.
    as_idle: bool,
    /// Whether every store's verdict under every filter is kept, for explanations.
    in_full: bool,
    choices: RefCell<Vec<Choice>>,
    judged: RefCell<Vec<Vec<Candidate>>>,
}

impl std::fmt::Debug for Lens<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lens").field("replica_room", &self.replica_room).finish_non_exhaustive()
    }
}

impl<'a> Lens<'a> {
    /// The budget as it is.
    pub fn new(base: &'a dyn Budget) -> Self {
        Self {
            base,
            replica_room: None,
            as_idle: false,
            in_full: false,
            choices: RefCell::default(),
            judged: RefCell::default(),
        }
    }

    /// As if the replica limit had (or had not) room.
    #[must_use]
    pub fn with_replica_room(self, room: bool) -> Self {
        Self { replica_room: Some(room), ..self }
    }

    /// As if no operator ran.
    #[must_use]
    pub fn as_idle(self) -> Self {
        Self { as_idle: true, ..self }
    }

    /// Keeps what every filter says of every store.
    #[must_use]
    pub fn in_full(self) -> Self {
        Self { in_full: true, ..self }
    }

    /// The choices that were made, in order.
    pub fn into_choices(self) -> Vec<Choice> {
        self.choices.into_inner()
    }

    /// The choices that were made and, for each, every store under every filter.
    pub fn into_judged(self) -> Vec<(Choice, Vec<Candidate>)> {
        self.choices.into_inner().into_iter().zip(self.judged.into_inner()).collect()
    }
}

impl Budget for Lens<'_> {
    fn is_running(&self, region: RegionId) -> bool {
        !self.as_idle && self.base.is_running(region)
    }

    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        match self.replica_room {
            Some(room) if limit == ScheduleLimit::Replica => room,
            _ => self.base.has_room(view, limit),
        }
    }

    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool {
        self.base.has_tokens(store, kind, now)
    }

    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono> {
        self.base.next_token(store, kind, now)
    }

    fn influence_on(&self, store: StoreId) -> StoreInfluence {
        self.base.influence_on(store)
    }

    fn note(&self, view: &ClusterView<'_>, wanted: &Wanted<'_>, choice: &Choice) {
        if self.in_full {
            self.judged.borrow_mut().push(candidates(view, self.base, wanted));
        } else if choice.chosen.is_none() {
            return; // a refusal carries its own reason
        }
        self.choices.borrow_mut().push(choice.clone());
    }
}

/// A wish for a store that takes a new peer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The region.
    pub region: &'a Region,
    /// What the rule asks of the store.
    pub constraints: &'a [LabelConstraint],
    /// The rule's location labels.
    pub location_labels: &'a [String],
    /// The rule's isolation level.
    pub isolation_level: &'a str,
    /// The stores that the new peer should lie apart from.
    pub beside: &'a [&'a StoreInfo],
    /// Only a store that lies further apart from `beside` than this one will do.
    pub better_than: Option<&'a StoreInfo>,
}

impl Wanted<'_> {
    fn distinct(&self, store: &StoreInfo) -> f64 {
        labels::distinct_score(self.beside.iter().map(|s| &*s.record), &store.record, self.location_labels)
    }
}

/// The silence of a store, classed.
pub fn liveness(view: &ClusterView<'_>, store: &StoreInfo) -> Liveness {
    store.liveness(view.leader_since, view.now.mono, view.settings.schedule.max_store_down_time.get())
}

/// Whether nothing was heard of the store for `max-store-down-time` (or longer), whatever its state.
pub fn is_down(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    store.silence(view.leader_since, view.now.mono) >= view.settings.schedule.max_store_down_time.get()
}

/// Whether nothing was heard of the store for 20 s, whatever its state.
pub fn is_disconnected(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    store.silence(view.leader_since, view.now.mono) > DISCONNECTED_AFTER
}

/// See [`is_disconnected`] (PD's number; twice the interval of store heartbeats).
const DISCONNECTED_AFTER: std::time::Duration = std::time::Duration::from_secs(20);

/// Chooses the store for a new peer.
///
/// In two steps, as PD: first by what lasts (state, space, labels, isolation), keeping the stores that lie furthest apart; among
/// those by what passes (tokens, snapshots …), so that a store that is busy for a moment does not lead to a worse placement that
/// would have to be mended later. Of what is left the store with the lowest region score wins. Unlike PD, Berth counts what
/// running operators will bring to a store into its score, so that a thousand regions drained at once spread over all targets;
/// equal scores are settled by the number of regions, then by a hash of region and store.
pub fn choose_target(view: &ClusterView<'_>, budget: &dyn Budget, wanted: &Wanted<'_>) -> Result<StoreId, Reason> {
    let choice = choose(view, budget, wanted);
    budget.note(view, wanted, &choice);
    choice.into_result()
}

fn choose(view: &ClusterView<'_>, budget: &dyn Budget, wanted: &Wanted<'_>) -> Choice {
    let mut choice = Choice::default();
    let mut best: Vec<Judged<'_>> = Vec::new();
    let mut best_apart = f64::NEG_INFINITY;
    for store in view.stores.values().map(AsRef::as_ref) {
        let judged = Judged { view, budget, wanted, store };
        if let Some(why) = judged.first_refusal(LASTING) {
            choice.refused.entry(why.name()).or_default().push(store.id());
            continue;
        }
        let apart = wanted.distinct(store);
        if apart > best_apart {
            best_apart = apart;
            best.clear();
        }
        if apart >= best_apart {
            best.push(judged);
        }
    }
    choice.is_temporary = !best.is_empty();
    let mut ranked: Vec<(Rank, StoreId)> = Vec::with_capacity(best.len());
    for judged in best {
        match judged.first_refusal(PASSING) {
            Some(why) => choice.refused.entry(why.name()).or_default().push(judged.store.id()),
            None => ranked.push((judged.rank(), judged.store.id())),
        }
    }
    ranked.sort_by(|(a, _), (b, _)| compare(*a, *b));
    choice.chosen = ranked.first().map(|(_, store)| *store);
    choice.scores = ranked.iter().take(SCORES_KEPT).map(|(rank, store)| (*store, rank.0)).collect();
    choice
}

/// Every store under every filter, for explanations: the same filters as [`choose_target`], all of them.
pub fn candidates(view: &ClusterView<'_>, budget: &dyn Budget, wanted: &Wanted<'_>) -> Vec<Candidate> {
    let judge = |store| {
        let judged = Judged { view, budget, wanted, store };
        let refused = LASTING.iter().chain(PASSING).filter_map(|filter| filter(&judged)).collect();
        Candidate { store: store.id(), refused, apart: wanted.distinct(store), score: judged.rank().0 }
    };
    view.stores.values().map(AsRef::as_ref).map(judge).collect()
}

/// Why this one store may not take the new peer; see [`choose_target`].
pub fn target_refusal(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    wanted: &Wanted<'_>,
    store: &StoreInfo,
) -> Option<Refusal> {
    let judged = Judged { view, budget, wanted, store };
    judged.first_refusal(LASTING).or_else(|| judged.first_refusal(PASSING))
}

/// Whether the leadership of a region may move to this store now.
pub fn leader_refusal(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Refusal> {
    state_refusal(view, store)
        .or_else(|| (store.pause_leader_in > 0).then_some(Refusal::PauseLeader))
        .or_else(|| is_disconnected(view, store).then_some(Refusal::Disconnected))
        .or_else(|| store.stats.is_busy.then_some(Refusal::Busy))
}

/// Why a store may not give a peer away just now.
pub fn source_refusal(view: &ClusterView<'_>, budget: &dyn Budget, store: &StoreInfo) -> Option<Refusal> {
    if store.stats.is_busy {
        return Some(Refusal::Busy);
    }
    if !budget.has_tokens(store.id(), LimitKind::RemovePeer, view.now) {
        return Some(Refusal::ExceedRemoveLimit);
    }
    has_many_snapshots(view, store).then_some(Refusal::TooManySnapshots)
}

/// The region score of a store, if `delta_mib` were added to it.
pub fn score_of(view: &ClusterView<'_>, store: &StoreInfo, delta_mib: i64) -> f64 {
    let size = view.regions.summary(store.id()).region_size_mib;
    region_score(
        &view.settings.schedule,
        &store.stats,
        store.avg_available,
        store.record.region_weight,
        size,
        delta_mib,
    )
}

/// Why a store in its state takes nothing.
pub fn state_refusal(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Refusal> {
    match store.record.state {
        StoreState::Tombstone => Some(Refusal::Tombstone),
        StoreState::Offline => Some(Refusal::Offline),
        StoreState::Up => is_down(view, store).then_some(Refusal::Down),
    }
}

/// Why a store takes no peer of a rule with these constraints, whatever the region and however much it holds.
pub fn standing_refusal(view: &ClusterView<'_>, constraints: &[LabelConstraint], store: &StoreInfo) -> Option<Refusal> {
    state_refusal(view, store).or_else(|| label_refusal(constraints, store)).or_else(|| special_use_refusal(store))
}

fn label_refusal(constraints: &[LabelConstraint], store: &StoreInfo) -> Option<Refusal> {
    refuse(Refusal::LabelConstraint, !labels::matches(&store.record, constraints))
}

fn special_use_refusal(store: &StoreInfo) -> Option<Refusal> {
    refuse(Refusal::SpecialUse, SPECIAL_USE.1.contains(&store.record.label(SPECIAL_USE.0)))
}

/// One store, looked at for one wish.
struct Judged<'a> {
    view: &'a ClusterView<'a>,
    budget: &'a dyn Budget,
    wanted: &'a Wanted<'a>,
    store: &'a StoreInfo,
}

/// A filter: why it refuses the store, if it does.
type Filter = fn(&Judged<'_>) -> Option<Refusal>;

/// What lasts, in the order in which a store is told its first refusal.
const LASTING: &[Filter] = &[
    |j| j.wanted.region.meta.peer_on(j.store.id()).map(|_| Refusal::Excluded),
    |j| state_refusal(j.view, j.store),
    |j| label_refusal(j.wanted.constraints, j.store),
    |j| special_use_refusal(j.store),
    |j| refuse(Refusal::StorageThreshold, is_low_on_space(j.view, j.store)),
    |j| refuse(Refusal::Isolation, !j.is_isolated()),
    |j| refuse(Refusal::Distinct, !j.is_better()),
];

/// What passes.
const PASSING: &[Filter] = &[
    |j| refuse(Refusal::Disconnected, is_disconnected(j.view, j.store)),
    |j| refuse(Refusal::Busy, j.store.stats.is_busy),
    |j| refuse(Refusal::ExceedAddLimit, j.lacks_tokens()),
    |j| refuse(Refusal::TooManySnapshots, has_many_snapshots(j.view, j.store)),
    |j| refuse(Refusal::TooManyPendingPeers, has_many_pending(j.view, j.store)),
];

fn refuse(why: Refusal, is_so: bool) -> Option<Refusal> {
    is_so.then_some(why)
}

impl Judged<'_> {
    fn first_refusal(&self, filters: &[Filter]) -> Option<Refusal> {
        filters.iter().find_map(|filter| filter(self))
    }

    fn is_isolated(&self) -> bool {
        let beside = self.wanted.beside.iter().map(|s| &*s.record);
        labels::isolated_at(beside, &self.store.record, self.wanted.location_labels, self.wanted.isolation_level)
    }

    fn is_better(&self) -> bool {
        self.wanted.better_than.is_none_or(|old| self.wanted.distinct(self.store) > self.wanted.distinct(old))
    }

    fn lacks_tokens(&self) -> bool {
        needs_tokens(self.wanted.region) && !self.budget.has_tokens(self.store.id(), LimitKind::AddPeer, self.view.now)
    }

    fn rank(&self) -> Rank {
        rank(self.view, self.budget, self.wanted.region, self.store)
    }
}

/// What the filters see of a store whatever the region and whatever the tokens: when it changes, regions for which the store was
/// refused are worth another look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What lasts: state, and whether space is short.
    pub lasting: (Option<Refusal>, bool),
    /// What passes: for peers, and for leaders.
    pub passing: ([bool; 4], Option<Refusal>),
}

/// See [`Standing`].
pub fn standing(view: &ClusterView<'_>, store: &StoreInfo) -> Standing {
    let passing = [
        is_disconnected(view, store),
        store.stats.is_busy,
        has_many_snapshots(view, store),
        has_many_pending(view, store),
    ];
    Standing {
        lasting: (state_refusal(view, store), is_low_on_space(view, store)),
        passing: (passing, leader_refusal(view, store)),
    }
}

/// Whether moving a peer of the region costs tokens: an empty region moves for nothing, an unknown size is not "empty".
pub fn needs_tokens(region: &Region) -> bool {
    !region.size_known || region.size_mib > FREE_SIZE_MIB
}

fn is_low_on_space(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    let stats = &store.stats;
    let few = || view.regions.summary(store.id()).region_count < FEW_REGIONS;
    if stats.capacity == 0 || (stats.available > ENOUGH_FOR_FEW && few()) {
        return false;
    }
    (stats.available as f64 / stats.capacity as f64) < 1.0 - view.settings.schedule.low_space_ratio
}

fn has_many_snapshots(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    let most = view.settings.schedule.max_snapshot_count;
    u64::from(store.stats.sending_snap_count) > most || u64::from(store.stats.receiving_snap_count) > most
}

fn has_many_pending(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    let most = view.settings.schedule.max_pending_peer_count;
    most > 0 && view.regions.summary(store.id()).pending_count > most
}

/// Lower is better: score with what is under way, regions with what is under way, then chance that is the same each time.
type Rank = (f64, i64, u64);

fn rank(view: &ClusterView<'_>, budget: &dyn Budget, region: &Region, store: &StoreInfo) -> Rank {
    let coming = budget.influence_on(store.id());
    let count = i64::try_from(view.regions.summary(store.id()).region_count).unwrap_or(i64::MAX);
    let mut hasher = std::hash::DefaultHasher::new();
    (region.id(), store.id()).hash(&mut hasher);
    (score_of(view, store, coming.region_size), count.saturating_add(coming.region_count), hasher.finish())
}

fn compare(a: Rank, b: Rank) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
}
