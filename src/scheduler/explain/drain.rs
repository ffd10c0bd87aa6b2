//! One draining store: what is left, why, and which limit binds.
//!
//! Owns: the report. Must not know: how it is shown (`text`), who asked for the drain (that is agreed state).

use std::collections::BTreeSet;

use super::{
    Known,
    why::{Group, Groups, Why, store_list, why},
};
use crate::{
    model::{Now, RegionId, StoreId, StoreState},
    scheduler::{
        filter::Refusal,
        life::Unburied,
        outcome::{LimitKind, Reason, ScheduleLimit},
        progress::Progress,
    },
};

/// What the speed of a drain depends on right now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Binding {
    /// Nothing is left.
    Done,
    /// `halt-scheduling`
    Halted,
    /// This leader knows too little yet.
    NotPrepared,
    /// A schedule limit of the configuration.
    ScheduleLimit {
        /// Which.
        limit: ScheduleLimit,
        /// How many operators run under it.
        running: u64,
        /// How many may.
        most: u64,
    },
    /// Store limits.
    StoreLimit {
        /// Of which kind.
        kind: LimitKind,
        /// Of which stores.
        stores: BTreeSet<StoreId>,
    },
    /// Storage nodes carry out what they were told.
    Nodes,
    /// Nothing can be done for what is left: the largest group's name.
    Blocked(&'static str),
    /// Operators are being started.
    Starting,
    /// The store's report.
    Report,
}

impl Binding {
    /// Its short name: the label `limit` of `berth_drain_binding_limit`.
    pub fn name(&self) -> &'static str {
        match self {
            Binding::Done => "none",
            Binding::Halted => "halt-scheduling",
            Binding::NotPrepared => "not-prepared",
            Binding::ScheduleLimit { limit, .. } => limit.key(),
            Binding::StoreLimit { kind: LimitKind::AddPeer, .. } => "store-limit-add-peer",
            Binding::StoreLimit { kind: LimitKind::RemovePeer, .. } => "store-limit-remove-peer",
            Binding::StoreLimit { kind: LimitKind::SendSnapshot, .. } => "store-limit-send-snapshot",
            Binding::Nodes => "storage-nodes",
            Binding::Blocked(name) => name,
            Binding::Starting => "starting",
            Binding::Report => "waiting-for-report",
        }
    }

    /// Whether nothing moves until something else changes, so that no time left can be told.
    pub fn is_standstill(&self) -> bool {
        matches!(self, Binding::Halted | Binding::NotPrepared | Binding::Blocked(_))
    }

    /// One sentence.
    pub fn says(&self) -> String {
        match self {
            Binding::Done => "nothing is left".to_owned(),
            Binding::Halted => "scheduling is halted (halt-scheduling)".to_owned(),
            Binding::NotPrepared => "too little is known since this leader started".to_owned(),
            Binding::ScheduleLimit { limit, running, most } => {
                format!("{}: {running} of {most} operators run", limit.key())
            }
            Binding::StoreLimit { kind, stores } => format!("the {} limit of {}", kind.name(), store_list(stores)),
            Binding::Nodes => "the storage nodes: all that is left is being moved".to_owned(),
            Binding::Blocked(name) => format!("no limit: what is left cannot be moved now ({name})"),
            Binding::Starting => "none: operators are being started".to_owned(),
            Binding::Report => "the store's own report that it is empty".to_owned(),
        }
    }
}

/// A draining store, explained.
#[derive(Clone, Debug)]
pub struct DrainReport {
    /// The store.
    pub store: StoreId,
    /// Its address.
    pub address: String,
    /// Its state.
    pub state: StoreState,
    /// When this was looked at.
    pub at: Now,
    /// Regions left. The groups add up to it.
    pub regions_left: u64,
    /// Their size, bytes.
    pub bytes_left: u64,
    /// How far it is, as `/stores/progress` tells it.
    pub progress: Option<Progress>,
    /// What its speed depends on.
    pub binding: Binding,
    /// What is left, by reason, the largest group first.
    pub groups: Vec<Group>,
    /// What keeps the store from being buried.
    pub unburied: Option<Unburied>,
}

impl DrainReport {
    /// Seconds until it is empty at the speed of the last minutes; `None` when nothing moves.
    pub fn seconds_left(&self) -> Option<f64> {
        let moves = |p: &&Progress| p.current_speed > 0.0 && !self.binding.is_standstill();
        self.progress.as_ref().filter(moves).map(|p| p.left_seconds)
    }
}

/// Collects the regions of a store, in parts if need be, so that the deciding lock is not held for long.
#[derive(Clone, Debug)]
pub struct Tally {
    store: StoreId,
    groups: Groups,
    left: u64,
}

impl Tally {
    /// Nothing is counted yet.
    pub fn new(store: StoreId) -> Self {
        Self { store, groups: Groups::default(), left: 0 }
    }

    /// Looks at these regions; those that have left the store meanwhile are not counted.
    pub fn add(&mut self, known: &Known<'_>, regions: &[RegionId]) {
        let here = regions.iter().filter_map(|id| known.view.regions.get(*id));
        for region in here.filter(|region| region.meta.peer_on(self.store).is_some()) {
            let (why, since) = why(known, &region, self.store);
            self.left += 1;
            self.groups.add(region.id(), &why, since);
        }
    }

    /// The report, when all regions were looked at. `None` for an unknown store.
    pub fn finish(mut self, known: &Known<'_>, life: (Option<Unburied>, Option<Progress>)) -> Option<DrainReport> {
        let (unburied, progress) = life;
        let store = known.view.stores.get(&self.store)?;
        if let Some(Unburied::Reports(count, _)) = unburied
            && self.left == 0
        {
            self.left = u64::from(count);
            let since = store.last_heartbeat.unwrap_or(known.view.now.mono);
            self.groups.add_unknown(self.left, Why::WaitingForReport, since);
        }
        debug_assert_eq!(self.groups.total(), self.left, "each region stands in one group");
        let groups = self.groups.into_sorted();
        Some(DrainReport {
            store: self.store,
            address: store.record.address.clone(),
            state: store.record.state,
            at: known.view.now,
            regions_left: self.left,
            bytes_left: known.view.regions.summary(self.store).region_size_mib << 20,
            progress,
            binding: binding(known, &groups, unburied.as_ref()),
            groups,
            unburied,
        })
    }
}

/// What binds, by the groups: what holds everything first, then what holds the line, then the work itself.
fn binding(known: &Known<'_>, groups: &[Group], unburied: Option<&Unburied>) -> Binding {
    let reasons = || groups.iter().filter_map(|group| group.why.reason());
    if reasons().any(|r| *r == Reason::Halted) {
        return Binding::Halted;
    }
    if reasons().any(|r| *r == Reason::NotPrepared) {
        return Binding::NotPrepared;
    }
    if let Some(limit) = reasons().find_map(|r| if let Reason::ScheduleLimit(limit) = r { Some(*limit) } else { None })
    {
        let (running, most) = known.controller.under_limit(known.view, limit);
        return Binding::ScheduleLimit { limit, running, most };
    }
    if let Some((kind, stores)) = limited_stores(groups) {
        return Binding::StoreLimit { kind, stores };
    }
    let has = |wanted: fn(&Why) -> bool| groups.iter().any(|group| wanted(&group.why));
    if has(|why| *why == Why::InLine) {
        return Binding::Starting;
    }
    if has(|why| matches!(why, Why::Moving)) {
        return Binding::Nodes;
    }
    match (groups.first(), unburied) {
        (Some(group), _) if group.why == Why::WaitingForReport => Binding::Report,
        (Some(group), _) => Binding::Blocked(group.why.name()),
        (None, Some(_)) => Binding::Report,
        (None, None) => Binding::Done,
    }
}

/// The stores whose tokens some group waits for.
fn limited_stores(groups: &[Group]) -> Option<(LimitKind, BTreeSet<StoreId>)> {
    let mut stores = BTreeSet::new();
    for group in groups {
        match group.why.reason() {
            Some(Reason::StoreLimit { store, kind }) if *kind != LimitKind::AddPeer => {
                return Some((*kind, [*store].into()));
            }
            Some(Reason::StoreLimit { store, .. }) => _ = stores.insert(*store),
            Some(Reason::TargetBusy { .. }) => {
                stores.extend(group.refused.get(Refusal::ExceedAddLimit.name()).into_iter().flatten());
            }
            _ => {}
        }
    }
    (!stores.is_empty()).then_some((LimitKind::AddPeer, stores))
}
