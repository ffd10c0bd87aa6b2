//! Which stores may take a peer or a leader, and which of them is best.
//!
//! Owns: the filters, each refusal by PD's name, and the choice among what is left. Must not know: why a peer is wanted, operators,
//! how limits are counted ([`Budget`] tells).

use std::{
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
    let mut refused: BTreeMap<&'static str, Vec<StoreId>> = BTreeMap::new();
    let mut refuse = |why: Refusal, store: &StoreInfo| refused.entry(why.name()).or_default().push(store.id());
    let mut best: Vec<&StoreInfo> = Vec::new();
    let mut best_apart = f64::NEG_INFINITY;
    for store in view.stores.values().map(AsRef::as_ref) {
        if let Some(why) = lasting_refusal(view, wanted, store) {
            refuse(why, store);
            continue;
        }
        let apart = wanted.distinct(store);
        if apart > best_apart {
            best_apart = apart;
            best.clear();
        }
        if apart >= best_apart {
            best.push(store);
        }
    }
    if best.is_empty() {
        return Err(Reason::NoTarget { refused });
    }
    let mut chosen: Option<((f64, i64, u64), StoreId)> = None;
    for store in best {
        if let Some(why) = passing_refusal(view, budget, wanted.region, store) {
            refuse(why, store);
            continue;
        }
        let rank = rank(view, budget, wanted.region, store);
        if chosen.as_ref().is_none_or(|(least, _)| less(rank, *least)) {
            chosen = Some((rank, store.id()));
        }
    }
    chosen.map(|(_, store)| store).ok_or(Reason::TargetBusy { refused })
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

fn state_refusal(view: &ClusterView<'_>, store: &StoreInfo) -> Option<Refusal> {
    match store.record.state {
        StoreState::Tombstone => Some(Refusal::Tombstone),
        StoreState::Offline => Some(Refusal::Offline),
        StoreState::Up => is_down(view, store).then_some(Refusal::Down),
    }
}

fn lasting_refusal(view: &ClusterView<'_>, wanted: &Wanted<'_>, store: &StoreInfo) -> Option<Refusal> {
    if wanted.region.meta.peer_on(store.id()).is_some() {
        return Some(Refusal::Excluded);
    }
    if let Some(why) = state_refusal(view, store) {
        return Some(why);
    }
    if !labels::matches(&store.record, wanted.constraints) {
        return Some(Refusal::LabelConstraint);
    }
    if SPECIAL_USE.1.contains(&store.record.label(SPECIAL_USE.0)) {
        return Some(Refusal::SpecialUse);
    }
    if is_low_on_space(view, store) {
        return Some(Refusal::StorageThreshold);
    }
    let beside = wanted.beside.iter().map(|s| &*s.record);
    if !labels::isolated_at(beside, &store.record, wanted.location_labels, wanted.isolation_level) {
        return Some(Refusal::Isolation);
    }
    let better = wanted.better_than.is_none_or(|old| wanted.distinct(store) > wanted.distinct(old));
    (!better).then_some(Refusal::Distinct)
}

fn passing_refusal(view: &ClusterView<'_>, budget: &dyn Budget, region: &Region, store: &StoreInfo) -> Option<Refusal> {
    if is_disconnected(view, store) {
        return Some(Refusal::Disconnected);
    }
    if store.stats.is_busy {
        return Some(Refusal::Busy);
    }
    if needs_tokens(region) && !budget.has_tokens(store.id(), LimitKind::AddPeer, view.now) {
        return Some(Refusal::ExceedAddLimit);
    }
    if has_many_snapshots(view, store) {
        return Some(Refusal::TooManySnapshots);
    }
    let most = view.settings.schedule.max_pending_peer_count;
    let lagging = most > 0 && view.regions.summary(store.id()).pending_count > most;
    lagging.then_some(Refusal::TooManyPendingPeers)
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

/// Lower is better: score with what is under way, regions with what is under way, then chance that is the same each time.
fn rank(view: &ClusterView<'_>, budget: &dyn Budget, region: &Region, store: &StoreInfo) -> (f64, i64, u64) {
    let coming = budget.influence_on(store.id());
    let count = i64::try_from(view.regions.summary(store.id()).region_count).unwrap_or(i64::MAX);
    let mut hasher = std::hash::DefaultHasher::new();
    (region.id(), store.id()).hash(&mut hasher);
    (score_of(view, store, coming.region_size), count.saturating_add(coming.region_count), hasher.finish())
}

fn less(a: (f64, i64, u64), b: (f64, i64, u64)) -> bool {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)).is_lt()
}
