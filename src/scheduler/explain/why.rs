//! Why one region is still on a draining store, and the groups that regions with the same answer fall into.
//!
//! Owns: the order in which answers are looked for, names and sentences of the groups. Must not know: remedies (`remedy`), which
//! store is explained (`drain`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::Known;
use crate::{
    model::{Mono, Region, RegionId, StoreId},
    scheduler::{
        controller::journal::{empties, step_began},
        filter::{self, Refusal},
        operator::Operator,
        outcome::{LimitKind, Reason, ScheduleLimit, Wake},
        view::ClusterView,
    },
};

/// A new peer that takes longer than this to be filled is slow, whatever is usual.
const SLOW_AT_LEAST: Duration = Duration::from_secs(30);
/// Slow is what takes this many times as long as usual.
const SLOW_FACTOR: u32 = 3;
/// The most groups that are told apart; what comes after falls into one group for each name.
const MAX_GROUPS: usize = 64;
/// Regions named of each group.
pub const SAMPLES: usize = 3;

/// Why a region is still there.
#[derive(Clone, PartialEq, Debug)]
pub enum Why {
    /// Its operator is at work.
    Moving,
    /// Its operator waits for a new peer that takes longer than usual to be filled.
    SnapshotSlow {
        /// Where the new peer is.
        to: StoreId,
    },
    /// An operator for something else holds it.
    OtherOperator,
    /// The store of its leader is silent.
    LeaderSilent {
        /// That store.
        store: StoreId,
    },
    /// It is in line and will be tried in its turn.
    InLine,
    /// It is refused for now.
    Blocked(Arc<Reason>),
    /// The index knows no such region, but the store still reports some.
    WaitingForReport,
}

/// After how long without progress a new peer's filling counts as slow.
pub fn slow_after(usual: Option<Duration>) -> Duration {
    usual.map_or(SLOW_AT_LEAST, |usual| (usual * SLOW_FACTOR).max(SLOW_AT_LEAST))
}

/// Why `region` still has its peer on the draining `store`, and since when.
pub fn why(known: &Known<'_>, region: &Region, store: StoreId) -> (Why, Mono) {
    let now = known.view.now.mono;
    if let Some(silent) = silent_leader(known.view, region) {
        return (Why::LeaderSilent { store: silent }, region.heard.unwrap_or(now));
    }
    if let Some(operator) = known.controller.running(region.id()) {
        return at_work(known, &operator, region, store);
    }
    let waits = known.patrol.waits(region, now);
    let since = waits.as_ref().map_or(now, |w| w.since);
    let blocked = |reason: Reason, since: Mono| (Why::Blocked(Arc::new(reason)), since);
    // What holds everything keeps lists from being made: a region that none knows has waited for as long as this member leads.
    let began = waits.as_ref().map_or(known.view.leader_since, |w| w.since);
    if known.view.settings.schedule.halt_scheduling {
        return blocked(Reason::Halted, known.patrol.halted_since().map_or(began, |halted| halted.max(began)));
    }
    if !known.prepared {
        return blocked(Reason::NotPrepared, began);
    }
    let asleep = waits.as_ref().is_some_and(|w| w.asleep);
    if !asleep && !known.controller.has_room(known.view, ScheduleLimit::Replica) {
        return blocked(Reason::ScheduleLimit(ScheduleLimit::Replica), since);
    }
    match waits.and_then(|w| w.why) {
        Some(reason) => (Why::Blocked(reason), since),
        None => (Why::InLine, since),
    }
}

/// The store of the region's leader, when nothing is heard of it: commands would go nowhere.
pub(super) fn silent_leader(view: &ClusterView<'_>, region: &Region) -> Option<StoreId> {
    let store = view.stores.get(&region.leader_store()?)?;
    filter::is_disconnected(view, store).then(|| store.id())
}

fn at_work(known: &Known<'_>, operator: &Operator, region: &Region, store: StoreId) -> (Why, Mono) {
    let began = step_began(operator);
    let took = known.view.now.mono.since(began);
    let slow = took >= slow_after(known.controller.typical().snapshot());
    if let Some(to) = operator.step().and_then(|step| step.new_peer_store()).filter(|_| slow) {
        return (Why::SnapshotSlow { to }, began);
    }
    let started = operator.started.map_or(began, |at| at.mono);
    let why = if empties(operator, region, store) { Why::Moving } else { Why::OtherOperator };
    (why, started)
}

impl Why {
    /// Its short name: the label `reason` of `berth_drain_blocked_regions`, the field `reason` of the answer.
    pub fn name(&self) -> &'static str {
        match self {
            Why::Moving => "moving",
            Why::SnapshotSlow { .. } => "snapshot-slow",
            Why::OtherOperator => "operator-running",
            Why::LeaderSilent { .. } => "no-leader",
            Why::InLine => "in-line",
            Why::Blocked(reason) if is_add_limit(reason) => STORE_LIMIT,
            Why::Blocked(reason) => reason.name(),
            Why::WaitingForReport => "waiting-for-report",
        }
    }

    /// What tells groups of one name apart.
    pub fn detail(&self) -> String {
        match self {
            Why::SnapshotSlow { to } => format!("to store {to}"),
            Why::LeaderSilent { store } => format!("store {store} is silent"),
            Why::Blocked(reason) => reason_detail(reason),
            Why::Moving | Why::OtherOperator | Why::InLine | Why::WaitingForReport => String::new(),
        }
    }

    /// Whether something is being done about it.
    pub fn is_progress(&self) -> bool {
        matches!(self, Why::Moving | Why::InLine)
    }

    /// The refusal, if it is one.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Why::Blocked(reason) => Some(reason),
            _ => None,
        }
    }

    /// The events that end it; none for what waits for its turn, or for a report of the store.
    pub fn wakes(&self) -> Vec<&'static str> {
        let wakes: &[Wake] = match self {
            Why::Blocked(reason) => reason.wakes(),
            Why::Moving | Why::SnapshotSlow { .. } | Why::OtherOperator => &[Wake::OwnOperatorEnd],
            Why::LeaderSilent { .. } => &[Wake::Heartbeat],
            Why::InLine | Why::WaitingForReport => &[],
        };
        wakes.iter().map(|wake| wake.name()).collect()
    }
}

/// The name of what waits for tokens, whether the checker met the limit itself or a filter did.
const STORE_LIMIT: &str = "store-limit";

/// Whether tokens are all that the stores lack which could take the peer.
fn is_add_limit(reason: &Reason) -> bool {
    let others = [Refusal::Disconnected, Refusal::Busy, Refusal::TooManySnapshots, Refusal::TooManyPendingPeers];
    let Reason::TargetBusy { refused } = reason else { return false };
    refused.contains_key(Refusal::ExceedAddLimit.name()) && others.iter().all(|r| !refused.contains_key(r.name()))
}

/// Filters that refuse a store for what it is, not for what the region is: a store that has a peer already is no news.
fn filters<'a>(
    refused: &'a BTreeMap<&'static str, Vec<StoreId>>,
) -> impl Iterator<Item = (&'static str, &'a Vec<StoreId>)> {
    refused.iter().filter(|(name, _)| **name != Refusal::Excluded.name()).map(|(name, stores)| (*name, stores))
}

fn reason_detail(reason: &Reason) -> String {
    match reason {
        Reason::StoreLimit { store, kind } => format!("{} of store {store}", kind.name()),
        Reason::ScheduleLimit(limit) => limit.key().to_owned(),
        Reason::TargetBusy { .. } if is_add_limit(reason) => LimitKind::AddPeer.name().to_owned(),
        Reason::NoTarget { refused } | Reason::TargetBusy { refused } => {
            filters(refused).map(|(name, _)| name).collect::<Vec<_>>().join(", ")
        }
        Reason::NoLeaderTarget { rejecting } if !rejecting.is_empty() => "reject-leader".to_owned(),
        Reason::Denied { rule } => rule.clone(),
        Reason::SwitchedOff(key) => (*key).to_owned(),
        Reason::CheckerPaused(name) => (*name).to_owned(),
        Reason::Build(text) => text.clone(),
        _ => String::new(),
    }
}

/// Regions with one answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// The answer (of the region that came first).
    pub why: Why,
    /// What tells it from others of its name.
    pub detail: String,
    /// How many regions.
    pub regions: u64,
    /// Since when the oldest waits.
    pub oldest: Mono,
    /// Some of them.
    pub samples: Vec<RegionId>,
    /// Filter name to the stores that it refused for any of them.
    pub refused: BTreeMap<&'static str, BTreeSet<StoreId>>,
}

/// Groups while they are counted. Each region is put into one group, so that they add up to what was counted.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    by_key: BTreeMap<(&'static str, String), Group>,
}

impl Groups {
    /// One region more.
    pub fn add(&mut self, region: RegionId, why: &Why, since: Mono) {
        let mut key = (why.name(), why.detail());
        if self.by_key.len() >= MAX_GROUPS && !self.by_key.contains_key(&key) {
            key.1 = "others".to_owned();
        }
        let detail = key.1.clone();
        let new = || Group {
            why: why.clone(),
            detail,
            regions: 0,
            oldest: since,
            samples: Vec::new(),
            refused: BTreeMap::new(),
        };
        let group = self.by_key.entry(key).or_insert_with(new);
        group.regions += 1;
        group.oldest = group.oldest.min(since);
        if group.samples.len() < SAMPLES {
            group.samples.push(region);
        }
        if let Some(Reason::NoTarget { refused } | Reason::TargetBusy { refused }) = why.reason() {
            for (name, stores) in filters(refused) {
                group.refused.entry(name).or_default().extend(stores);
            }
        }
    }

    /// Regions that nobody can name: how many of them.
    pub fn add_unknown(&mut self, count: u64, why: Why, since: Mono) {
        let (detail, key) = (why.detail(), (why.name(), why.detail()));
        let refused = BTreeMap::new();
        let group = Group { why, detail, regions: count, oldest: since, samples: Vec::new(), refused };
        self.by_key.insert(key, group);
    }

    /// How many regions were counted.
    pub fn total(&self) -> u64 {
        self.by_key.values().map(|group| group.regions).sum()
    }

    /// The largest first.
    pub fn into_sorted(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.by_key.into_values().collect();
        groups.sort_by(|a, b| b.regions.cmp(&a.regions).then_with(|| a.detail.cmp(&b.detail)));
        groups
    }
}

/// `stores 4, 5`, `store 4`, `no store`.
pub fn store_list<'a>(stores: impl IntoIterator<Item = &'a StoreId>) -> String {
    let texts: Vec<String> = stores.into_iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => "no store".to_owned(),
        [one] => format!("store {one}"),
        many => format!("stores {}", many.join(", ")),
    }
}

impl Group {
    /// One sentence on what holds these regions.
    pub fn says(&self) -> String {
        match &self.why {
            Why::Moving => "an operator is moving them".to_owned(),
            Why::SnapshotSlow { to } => format!("the new peer on store {to} takes longer than usual to be filled"),
            Why::OtherOperator => "an operator for something else is at work on them".to_owned(),
            Why::LeaderSilent { store } => {
                format!("their leader is on store {store}, which is silent: no command reaches it")
            }
            Why::InLine => "they are in line and are tried in turn".to_owned(),
            Why::WaitingForReport => {
                "no region is known on the store any more, but its last report still counts some".to_owned()
            }
            Why::Blocked(reason) => self.reason_says(reason),
        }
    }

    fn reason_says(&self, reason: &Reason) -> String {
        match reason {
            Reason::Halted => "scheduling is halted (halt-scheduling)".to_owned(),
            Reason::NotPrepared => "not enough regions were heard since this leader started".to_owned(),
            Reason::OperatorRunning(_) => "an operator is at work on them".to_owned(),
            Reason::StoreLimit { store, kind } => format!("store {store} has used up its {} limit", kind.name()),
            Reason::ScheduleLimit(limit) => format!("{} is reached", limit.key()),
            Reason::NoTarget { .. } => format!("no store can take the peer: {}", refusals(&self.refused)),
            Reason::TargetBusy { .. } if is_add_limit(reason) => {
                let mut others = self.refused.clone();
                let short = others.remove(Refusal::ExceedAddLimit.name()).unwrap_or_default();
                let others = if others.is_empty() { String::new() } else { format!("; {}", refusals(&others)) };
                format!("the add-peer limit of {} is used up{others}", store_list(&short))
            }
            Reason::TargetBusy { .. } => format!("no store can take the peer just now: {}", refusals(&self.refused)),
            Reason::NoLeaderTarget { rejecting } if rejecting.is_empty() => {
                "no other peer may lead, so that the leader cannot move away".to_owned()
            }
            Reason::NoLeaderTarget { rejecting } => {
                format!("no other peer may lead: the label property reject-leader names {}", store_list(rejecting))
            }
            Reason::NoLeader => "they have no leader that reports".to_owned(),
            Reason::PendingPeer(_) => "a peer that must not be disturbed lags behind".to_owned(),
            Reason::Denied { rule } => format!("region label rule {rule:?} says schedule=deny"),
            Reason::SwitchedOff(key) => format!("{key} is false"),
            Reason::CheckerPaused(name) => format!("the {name} checker is paused"),
            Reason::NoId => "no id is at hand for a new peer".to_owned(),
            Reason::Build(text) => format!("no operator can be built: {text}"),
            Reason::NoRule => "no placement rule covers them".to_owned(),
        }
    }
}

/// `label-constraint-filter refuses stores 4, 5; …`
fn refusals(refused: &BTreeMap<&'static str, BTreeSet<StoreId>>) -> String {
    if refused.is_empty() {
        return "every store has a peer of them already".to_owned();
    }
    let one = |(name, stores): (&&str, &BTreeSet<StoreId>)| format!("{name} refuses {}", store_list(stores));
    refused.iter().map(one).collect::<Vec<_>>().join("; ")
}
