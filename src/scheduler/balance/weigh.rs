//! How full stores are against each other, and whether a move would even them out.
//!
//! Owns: PD's tolerance, and what moves under way and moves of this round add to a store. Must not know: which region is moved.
//!
//! A move is worth it when the giving store, less the region and the tolerance, still has the higher score than the taking one
//! with both added. Then no later look would take it back, whatever else happens to be equal: this is what keeps a balanced
//! cluster still.

use std::collections::BTreeMap;

use super::round::{Input, Why};
use crate::{
    model::{KeyRange, Region, StoreId},
    scheduler::{
        operator::{Operator, StoreInfluence},
        score::{Score, Space, leader_score, region_score},
        view::ClusterView,
    },
    store::StoreInfo,
};

/// Leaders that stores may differ by, twice over, when leaders are counted and `tolerant-size-ratio` is 0 (PD's number).
const LEADER_TOLERANCE: f64 = 5.0;
/// What the tolerance grows by with each region of the fullest store, in regions (PD's number).
const TOLERANCE_A_REGION: f64 = 0.005;
/// The least tolerance, in regions (PD's number).
const LEAST_TOLERANCE: f64 = 1.0;
/// How much more than itself a peer that is on its way counts, so that many moves at once do not overshoot (PD's number).
const UNDER_WAY: i64 = 3;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measure {
    /// Leaders, by number or size.
    Leaders,
    /// Peers, by size and space.
    Peers,
}

/// What one store holds.
#[derive(Clone, Copy, Default, Debug)]
struct Load {
    leaders: u64,
    leader_mib: u64,
    peers: u64,
    peer_mib: u64,
    space: Space,
}

impl Load {
    /// Sets the disk as it is by now, the share of what counts here in it.
    fn see_disk(&mut self, view: &ClusterView<'_>, store: &StoreInfo) {
        let size = view.regions.summary(store.id()).region_size_mib;
        let space = Space::now(store, size, view.regions.moved_mib(store.id()));
        self.space = space.of_part(self.peer_mib, size);
    }
}

/// The scale of one round.
pub(super) struct Scale<'a> {
    input: Input<'a>,
    measure: Measure,
    loads: BTreeMap<StoreId, Load>,
    /// What waits for tokens or room, and what this round proposes so far.
    proposed: BTreeMap<StoreId, StoreInfluence>,
    /// Mean size of a region, MiB.
    mean_mib: i64,
    /// Tolerance in regions.
    tolerance: f64,
    /// Whether leaders are counted rather than measured.
    counts: bool,
}

impl<'a> Scale<'a> {
    /// Over the whole key space.
    pub(super) fn new(input: Input<'a>, measure: Measure) -> Self {
        let (view, mut loads) = (input.view, BTreeMap::new());
        for id in view.stores.keys() {
            let s = view.regions.summary(*id);
            let load = Load {
                leaders: s.leader_count,
                leader_mib: s.leader_size_mib,
                peers: s.region_count,
                peer_mib: s.region_size_mib,
                ..Load::default()
            };
            loads.insert(*id, load);
        }
        Self::of(input, measure, loads)
    }

    /// Over one key range.
    pub(super) fn of_range(input: Input<'a>, measure: Measure, range: &KeyRange) -> Self {
        let stats = input.view.regions.stats(range);
        let load = |id: &StoreId| {
            let s = stats.stores.get(id).copied().unwrap_or_default();
            Load {
                leaders: s.leader_count,
                leader_mib: s.leader_size_mib,
                peers: s.peer_count,
                peer_mib: s.peer_size_mib,
                ..Load::default()
            }
        };
        Self::of(input, measure, input.view.stores.keys().map(|id| (*id, load(id))).collect())
    }

    fn of(input: Input<'a>, measure: Measure, mut loads: BTreeMap<StoreId, Load>) -> Self {
        if measure == Measure::Peers {
            for (id, load) in &mut loads {
                input.view.stores.get(id).inspect(|store| load.see_disk(input.view, store));
            }
        }
        let schedule = &input.view.settings.schedule;
        let counts = measure == Measure::Leaders && schedule.leader_schedule_policy == "count";
        let most = loads.values().map(|l| l.peers).max().unwrap_or(0);
        let tolerance = match schedule.tolerant_size_ratio {
            ratio if ratio > 0.0 => ratio,
            _ if counts => LEADER_TOLERANCE,
            _ => (most as f64 * TOLERANCE_A_REGION).max(LEAST_TOLERANCE),
        };
        let (size, count) = loads.values().fold((0, 0), |(size, count), l| (size + l.peer_mib, count + l.peers));
        let mean_mib = i64::try_from(size.checked_div(count).unwrap_or(0)).unwrap_or(0).max(1);
        Self { input, measure, loads, proposed: input.budget.waiting_influence(), mean_mib, tolerance, counts }
    }

    /// A proposal of this round counts from here on.
    pub(super) fn count(&mut self, op: &Operator) {
        for (store, part) in op.steps.iter().flat_map(|step| step.influence(op.size_mib)) {
            self.proposed.entry(store).or_default().add(part);
        }
    }

    /// What is on its way to (or from) a store, in the unit of the measure.
    fn coming(&self, store: StoreId) -> i64 {
        let mut sum = self.input.budget.influence_on(store);
        sum.add(self.proposed.get(&store).copied().unwrap_or_default());
        match self.measure {
            Measure::Leaders if self.counts => sum.leader_count,
            Measure::Leaders => sum.leader_size,
            Measure::Peers => sum.region_size,
        }
    }

    /// The score of a store with `delta` more.
    fn score(&self, store: &StoreInfo, delta: i64) -> Score {
        let (load, record) = (self.loads.get(&store.id()).copied().unwrap_or_default(), &store.record);
        let schedule = &self.input.view.settings.schedule;
        Score::new(match self.measure {
            Measure::Leaders => {
                let policy = &schedule.leader_schedule_policy;
                leader_score(policy, load.leaders, load.leader_mib, record.leader_weight, delta)
            }
            Measure::Peers => region_score(schedule, load.space, record.region_weight, load.peer_mib, delta),
        })
    }

    /// The score of a store as it will be.
    pub(super) fn rank(&self, store: &StoreInfo) -> Score {
        self.score(store, self.coming(store.id()))
    }

    /// The score of a store as it will be when it gives a region of the mean size: who has the highest is the first to give. (With weights
    /// and disks that differ, that need not be the fullest.)
    pub(super) fn giving(&self, store: &StoreInfo) -> Score {
        self.score(store, self.coming(store.id()).saturating_sub(self.tolerated(self.mean_mib)))
    }

    /// The same when it takes `region`, or one of the mean size: who has the lowest is the first to take.
    pub(super) fn taking(&self, store: &StoreInfo, region: Option<&Region>) -> Score {
        let size_mib = region.map_or(self.mean_mib, |region| self.size_of(region));
        self.score(store, self.coming(store.id()).saturating_add(self.tolerated(size_mib)))
    }

    /// Whether taking a region of at least the mean size from one store to the other would be worth it: when not, no region is.
    pub(super) fn differs(&self, source: &StoreInfo, target: &StoreInfo) -> bool {
        self.compare(self.mean_mib, source, target).is_ok()
    }

    /// The scores between which `region` would move, when that is worth it.
    pub(super) fn weigh(&self, region: &Region, source: &StoreInfo, target: &StoreInfo) -> Result<(Score, Score), Why> {
        self.compare(self.size_of(region), source, target)
    }

    fn size_of(&self, region: &Region) -> i64 {
        i64::try_from(region.size_mib).unwrap_or(i64::MAX).max(self.mean_mib)
    }

    /// By how much more or less stores may hold before a region of this size moves.
    fn tolerated(&self, size_mib: i64) -> i64 {
        #[allow(clippy::cast_possible_truncation)] // saturates, as wanted
        let tolerated = if self.counts { self.tolerance as i64 } else { (size_mib as f64 * self.tolerance) as i64 };
        // With less than half of what moves (a `tolerant-size-ratio` may be that small) it would move to and fro.
        tolerated.max(if self.counts { 1 } else { size_mib / 2 + 1 })
    }

    fn compare(&self, size_mib: i64, source: &StoreInfo, target: &StoreInfo) -> Result<(Score, Score), Why> {
        let tolerated = self.tolerated(size_mib);
        let amplified = if self.measure == Measure::Peers { UNDER_WAY } else { 1 };
        let coming = |store: &StoreInfo| self.coming(store.id()).saturating_abs().saturating_mul(amplified);
        let from = self.score(source, coming(source).saturating_add(tolerated).saturating_neg());
        let to = self.score(target, coming(target).saturating_add(tolerated));
        if from > to { Ok((from, to)) } else { Err(Why::Score) }
    }
}
