//! Small regions and the neighbour that each could become one with.
//!
//! Owns: who may be merged, into whom, and each refusal by PD's name. Must not know: how two operators run as one
//! (`controller`), what a merge costs a store. A region that cannot be merged is not ill: nothing here blocks anything else, and
//! what stands against a merge is a value only for those who ask ([`target`]).

use std::sync::Arc;

use super::{
    deny::{Cause, denied},
    memory::Memory,
    parts,
    pause::CheckerName,
};
use crate::{
    config::ScheduleConfig,
    model::{Key, KeyRange, Peer, Region, StoreId, StoreState, names::desc},
    scheduler::{
        filter::{self, Budget, Choice},
        operator::{Kind, Operator},
        outcome::{LimitKind, ScheduleLimit},
        view::ClusterView,
    },
};

/// The size (MiB) from which nodes split a region, and the size of the parts: the defaults of TiKV that PD knows, since no node
/// reports its own.
const REGION_MAX_MIB: u64 = 144;
const REGION_SPLIT_MIB: u64 = 96;
/// The same in keys.
const REGION_MAX_KEYS: u64 = 1_440_000;
const REGION_SPLIT_KEYS: u64 = 960_000;
/// Nothing is merged into a region that is larger (MiB): it would be split at once.
const MAX_TARGET_MIB: u64 = 4 * REGION_MAX_MIB;

/// The label that keeps a range from being merged, and its value.
const LABEL: (&str, &str) = ("merge_option", "deny");

/// Why a region is not merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoMerge {
    /// The checker is paused.
    Paused,
    /// `max-merge-region-size` is 0, `merge-schedule-limit` is reached.
    NoRoom,
    /// This leader does not yet know which regions were split lately.
    RecentlyStarted,
    /// It came out of a split less than `split-merge-interval` ago.
    RecentlySplit,
    /// Its size is not known.
    UnknownSize,
    /// It is large enough.
    NoNeed,
    /// It has no leader.
    NoLeader,
    /// A peer is down or lags behind.
    Unhealthy,
    /// It lacks a peer, or has one too many.
    NotReplicated,
    /// `schedule=deny` holds it.
    Denied,
    /// Neither neighbour will do: for the next and the previous one why.
    NoTarget(NotThere, NotThere),
    /// The neighbour is so large that it would be split at once.
    TargetTooLarge,
    /// What comes of it would be split, and a part of that merged again: by size.
    SizeSplitAgain,
    /// The same by the number of keys.
    KeysSplitAgain,
    /// A store has no token for the peer that has to be moved there, or away from there, before.
    NoToken(StoreId),
    /// The operators could not be built.
    NotBuilt,
}

/// Why a neighbour is no target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotThere {
    /// There is none, or merging that way is switched off (`enable-one-way-merge`).
    None,
    /// It has an operator.
    Busy,
    /// It came out of a split lately.
    RecentlySplit,
    /// A border of rules or labels, the label `merge_option=deny`, `schedule=deny` or the table forbids it.
    Disallowed,
    /// It has a peer on a store that is being emptied, where the region has none.
    OnLeavingStore,
    /// A peer is down or lags behind, or nobody leads it.
    Unhealthy,
    /// It lacks a peer, or has one too many.
    NotReplicated,
}

impl NoMerge {
    /// PD's name: the value of label `name` in `pd_checker_event_count`; Berth's own begin with `berth_`.
    pub fn name(self) -> &'static str {
        match self {
            NoMerge::Paused => "paused",
            NoMerge::NoRoom => "berth_no-room",
            NoMerge::RecentlyStarted => "recently-start",
            NoMerge::RecentlySplit => "recently-split",
            NoMerge::UnknownSize => "berth_unknown-size",
            NoMerge::NoNeed => "no-need",
            NoMerge::NoLeader => "no-leader",
            NoMerge::Unhealthy => "unhealthy-region",
            NoMerge::NotReplicated => "abnormal-replica",
            NoMerge::Denied => "berth_denied",
            NoMerge::NoTarget(..) => "no-target",
            NoMerge::TargetTooLarge => "target-too-large",
            NoMerge::SizeSplitAgain => "split-size-after-merge",
            NoMerge::KeysSplitAgain => "split-keys-after-merge",
            NoMerge::NoToken(_) => "berth_no-token",
            NoMerge::NotBuilt => "berth_not-built",
        }
    }
}

impl NotThere {
    /// PD's name, as [`NoMerge::name`].
    pub fn name(self) -> &'static str {
        match self {
            NotThere::None => "adj-not-exist",
            NotThere::Busy => "berth_adj-busy",
            NotThere::RecentlySplit => "adj-recently-split",
            NotThere::Disallowed => "adj-disallow-merge",
            NotThere::OnLeavingStore => "adj-abnormal-peerstore",
            NotThere::Unhealthy => "adj-special-peer",
            NotThere::NotReplicated => "adj-abnormal-replica",
        }
    }
}

/// Whether the region alone, at a glance, rules a merge out.
pub(super) fn is_out_of_question(view: &ClusterView<'_>, memory: &Memory, region: &Region) -> bool {
    at_a_glance(view, memory, region).is_err()
}

/// What can be told without looking at anything but numbers.
fn at_a_glance(view: &ClusterView<'_>, memory: &Memory, region: &Region) -> Result<(), NoMerge> {
    let schedule = &view.settings.schedule;
    // A size of 0 is "unknown", not "empty".
    if !region.size_known || region.size_mib == 0 {
        return Err(NoMerge::UnknownSize);
    }
    if region.size_mib > schedule.max_merge_region_size || region.keys > schedule.merge_keys() {
        return Err(NoMerge::NoNeed);
    }
    if schedule.max_merge_region_size == 0 || schedule.merge_schedule_limit == 0 {
        return Err(NoMerge::NoRoom);
    }
    let interval = schedule.split_merge_interval.get();
    if view.now.mono.since(view.leader_since) < interval {
        return Err(NoMerge::RecentlyStarted);
    }
    if memory.was_split(region.id(), interval, view.now) {
        return Err(NoMerge::RecentlySplit);
    }
    Ok(())
}

/// `merge-region`, one operator for each of the two; nothing when the region is not to be merged now.
pub(super) fn find(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region) -> Vec<Operator> {
    let found = target(view, budget, memory, region).and_then(|target| {
        tokens(view, budget, region, &target)?;
        let built = Operator::merge(*view, region, &target, desc::MERGE_REGION, Kind::MERGE);
        let built = built.map_err(|_| NoMerge::NotBuilt)?;
        let choice = Box::new(choice(view, budget, memory, region, &target));
        Ok(built.map(|op| Operator { choice: Some(choice.clone()), ..op }))
    });
    found.map_or_else(|_| Vec::new(), Vec::from)
}

/// The neighbour that the region should become a part of, or why there is none.
///
/// # Errors
/// The first thing that stands against it, in PD's order.
pub fn target(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    memory: &Memory,
    region: &Region,
) -> Result<Arc<Region>, NoMerge> {
    if memory.pauses.is_paused(CheckerName::Merge, view.now) {
        return Err(NoMerge::Paused);
    }
    at_a_glance(view, memory, region)?;
    if !budget.has_room(view, ScheduleLimit::Merge) {
        return Err(NoMerge::NoRoom);
    }
    if region.leader_peer().is_none() {
        return Err(NoMerge::NoLeader);
    }
    if !parts::is_healthy(region) {
        return Err(NoMerge::Unhealthy);
    }
    if !parts::is_replicated(view, region) {
        return Err(NoMerge::NotReplicated);
    }
    if denied(view, region, Cause::Merge).is_err() {
        return Err(NoMerge::Denied);
    }
    let (prev, next) = view.regions.neighbours(region);
    let next = next.ok_or(NotThere::None).and_then(|n| will_do(view, budget, memory, region, n));
    let prev = match prev {
        Some(prev) if !view.settings.schedule.enable_one_way_merge => will_do(view, budget, memory, region, prev),
        _ => Err(NotThere::None),
    };
    let target = match (prev, next) {
        (Ok(prev), Ok(next)) if prev.size_mib < next.size_mib => prev,
        (_, Ok(next)) => next,
        (Ok(prev), Err(_)) => prev,
        (Err(prev), Err(next)) => return Err(NoMerge::NoTarget(next, prev)),
    };
    stays_whole(&view.settings.schedule, region, &target).map(|()| target)
}

/// What was said of either neighbour when `target` was chosen, for whoever asks about the operators.
fn choice(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region, target: &Region) -> Choice {
    let (prev, next) = view.regions.neighbours(region);
    let said = |adjacent: Arc<Region>| {
        let id = adjacent.id();
        let said = match will_do(view, budget, memory, region, adjacent) {
            Ok(_) if id == target.id() => "chosen",
            Ok(_) => "could take it in",
            Err(why) => why.name(),
        };
        (id, said.to_owned())
    };
    Choice { neighbours: prev.into_iter().chain(next).map(said).collect(), is_temporary: true, ..Choice::default() }
}

/// Whether `adjacent` may take `region` in.
fn will_do(
    view: &ClusterView<'_>,
    budget: &dyn Budget,
    memory: &Memory,
    region: &Region,
    adjacent: Arc<Region>,
) -> Result<Arc<Region>, NotThere> {
    let interval = view.settings.schedule.split_merge_interval.get();
    if memory.was_split(adjacent.id(), interval, view.now) {
        return Err(NotThere::RecentlySplit);
    }
    if !is_allowed(view, region, &adjacent) {
        return Err(NotThere::Disallowed);
    }
    if brings_to_leaving_store(view, region, &adjacent) {
        return Err(NotThere::OnLeavingStore);
    }
    if adjacent.leader_peer().is_none() || !parts::is_healthy(&adjacent) {
        return Err(NotThere::Unhealthy);
    }
    if !parts::is_replicated(view, &adjacent) {
        return Err(NotThere::NotReplicated);
    }
    if budget.is_running(adjacent.id()) {
        return Err(NotThere::Busy);
    }
    Ok(adjacent)
}

/// Whether rules, labels and tables let the two be one region.
fn is_allowed(view: &ClusterView<'_>, region: &Region, adjacent: &Region) -> bool {
    let settings = view.settings;
    let both = joined(region.range(), adjacent.range());
    if !settings.labels.split_keys(&both).is_empty()
        || settings.replication.enable_placement_rules && !settings.rules.split_keys(&both).is_empty()
    {
        return false;
    }
    let is_held = |region: &Region| {
        let label = settings.labels.value(region.range(), LABEL.0, view.now.wall);
        label.is_some_and(|(value, _)| value == LABEL.1) || denied(view, region, Cause::Merge).is_err()
    };
    if is_held(region) || is_held(adjacent) {
        return false;
    }
    settings.schedule.enable_cross_table_merge
        || !settings.table_keys
        || table_id(&region.range().start) == table_id(&adjacent.range().start)
}

/// The range of two neighbours.
fn joined(a: &KeyRange, b: &KeyRange) -> KeyRange {
    let (first, second) = if a.start < b.start { (a, b) } else { (b, a) };
    KeyRange { start: first.start.clone(), end: second.end.clone() }
}

/// Whether the region would have to get a peer on a store that is being emptied, lost or gone.
fn brings_to_leaving_store(view: &ClusterView<'_>, region: &Region, adjacent: &Region) -> bool {
    let leaves = |store: StoreId| {
        view.stores.get(&store).is_none_or(|s| s.record.state != StoreState::Up || filter::is_down(view, s))
    };
    adjacent.peers().iter().any(|p| region.meta.peer_on(p.store).is_none() && leaves(p.store))
}

/// Whether what comes of the two would not be split again into parts of which one is merged again.
fn stays_whole(schedule: &ScheduleConfig, region: &Region, target: &Region) -> Result<(), NoMerge> {
    if target.size_mib > MAX_TARGET_MIB {
        return Err(NoMerge::TargetTooLarge);
    }
    let comes_back = |whole: u64, most: u64, part: u64, small: u64| {
        let rest = whole % part;
        whole >= most && rest != 0 && rest <= small
    };
    let size = region.size_mib.saturating_add(target.size_mib);
    if comes_back(size, REGION_MAX_MIB, REGION_SPLIT_MIB, schedule.max_merge_region_size) {
        return Err(NoMerge::SizeSplitAgain);
    }
    let keys = region.keys.saturating_add(target.keys);
    if comes_back(keys, REGION_MAX_KEYS, REGION_SPLIT_KEYS, schedule.merge_keys()) {
        return Err(NoMerge::KeysSplitAgain);
    }
    Ok(())
}

/// Whether the stores that a peer of the region has to be moved to, or from, have tokens for it: asked before the operators are
/// built, so that no peer id is wasted.
fn tokens(view: &ClusterView<'_>, budget: &dyn Budget, region: &Region, target: &Region) -> Result<(), NoMerge> {
    if !filter::needs_tokens(region) {
        return Ok(());
    }
    let only_in = |a: &Region, b: &Region, kind: LimitKind| {
        // A witness that gets data, and the other way round, costs what a peer costs.
        let has = |p: &Peer| b.meta.peer_on(p.store).is_some_and(|q| p.is_witness || !q.is_witness);
        let stores = a.peers().iter().filter(|p| !has(p)).map(|p| p.store);
        let mut dry = stores.filter(|s| !budget.has_tokens(*s, kind, view.now));
        dry.next().map_or(Ok(()), |store| Err(NoMerge::NoToken(store)))
    };
    only_in(target, region, LimitKind::AddPeer)?;
    only_in(region, target, LimitKind::RemovePeer)
}

/// The id of the table that a key belongs to, as bytes: the eight that follow a `t` in the key that the memcomparable groups of
/// eight bytes (each with a marker) hold.
fn table_id(key: &Key) -> Option<[u8; 8]> {
    const GROUP: usize = 8;
    const WHOLE: u8 = 0xFF;
    let mut plain = Vec::with_capacity(2 * GROUP);
    for group in key.chunks_exact(GROUP + 1).take(2) {
        let padding = usize::from(WHOLE - group[GROUP]);
        plain.extend_from_slice(&group[..GROUP.checked_sub(padding)?]);
        if padding > 0 {
            break;
        }
    }
    let (first, rest) = plain.split_first()?;
    let id = rest.first_chunk::<8>()?;
    (*first == b't').then_some(*id)
}

/// A region and its neighbour may become one when a person asks for it.
pub(in crate::scheduler) fn are_adjacent(a: &KeyRange, b: &KeyRange) -> bool {
    let meets = |left: &Key, right: &Key| !left.is_empty() && left == right;
    meets(&a.end, &b.start) || meets(&b.end, &a.start)
}
