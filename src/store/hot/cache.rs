//! The peers that are hot in one way.
//!
//! Owns: which peers are known, what each must have to be so, the bound on their number. Must not know: where reports come from.

use std::collections::BTreeMap;

use super::{
    heat::Heat,
    rates::{Dim, Rates, Traffic},
};
use crate::model::{Mono, Now, Region, RegionId, StoreId, Wall};

/// Most peers that are kept: the coldest go first.
const MAX_PEERS: usize = 30_000;
/// From so many hot peers of a store on, others must keep up with them (PD's number).
const TOP: usize = 60;
/// What a peer must have of what the last of the [`TOP`] has (PD's number).
const TOP_SHARE: f64 = 0.8;
/// For how long what a peer must have holds, seconds (PD's number).
const BOUND_HOLDS: u64 = 8;
/// Periods without a word after which a peer is forgotten (PD's number).
const FORGOTTEN_AFTER: u64 = 3;

/// One report about one peer.
pub(super) struct Report<'a> {
    pub(super) region: &'a Region,
    pub(super) store: StoreId,
    pub(super) rates: Rates,
    pub(super) seconds: u64,
    pub(super) now: Now,
    /// The time that is shown for it.
    pub(super) at: Wall,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Cache {
    traffic: Traffic,
    peers: BTreeMap<(StoreId, RegionId), Heat>,
    stores_of: BTreeMap<RegionId, Vec<StoreId>>,
    /// What a peer of the store must have, and since when.
    bounds: BTreeMap<StoreId, (Mono, Rates)>,
    /// What a peer must have, in times of the lowest bound, while there are too many.
    floor: f64,
    swept: Mono,
}

impl Cache {
    pub(super) fn new(traffic: Traffic) -> Self {
        Self {
            traffic,
            peers: BTreeMap::new(),
            stores_of: BTreeMap::new(),
            bounds: BTreeMap::new(),
            floor: 0.0,
            swept: Mono::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The stores on which the region is known here.
    pub(super) fn stores_of(&self, region: RegionId) -> &[StoreId] {
        self.stores_of.get(&region).map_or(&[], Vec::as_slice)
    }

    pub(super) fn get(&self, store: StoreId, region: RegionId) -> Option<&Heat> {
        self.peers.get(&(store, region))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&(StoreId, RegionId), &Heat)> {
        self.peers.iter()
    }

    /// Regions that are known on a store.
    pub(super) fn regions_on(&self, store: StoreId) -> Vec<RegionId> {
        let range = (store, RegionId(0))..=(store, RegionId(u64::MAX));
        self.peers.range(range).map(|((_, region), _)| *region).collect()
    }

    /// Whether a report could matter: it is hot by itself, or the region is known.
    pub(super) fn wants(&self, region: RegionId, rates: Rates) -> bool {
        self.is_warm(rates) || (!self.stores_of.is_empty() && self.stores_of.contains_key(&region))
    }

    fn is_warm(&self, rates: Rates) -> bool {
        let lowest = self.traffic.lowest();
        rates.reaches(lowest) && (self.floor == 0.0 || rates.above(lowest) >= self.floor)
    }

    /// Takes a report in. A peer that is new goes on with what its `heritage` knew.
    pub(super) fn take_in(&mut self, report: &Report<'_>, heritage: Option<&Heat>) {
        let (key, leads) = ((report.store, report.region.id()), report.region.leader_store() == Some(report.store));
        let bound = self.bound(report.store, report.now.mono);
        let mut heat = match self.peers.get(&key).or(heritage) {
            Some(known) => {
                let mut heat = known.clone();
                if !heat.add(self.traffic, Some(report.rates), report.seconds, bound) {
                    return self.remove(key);
                }
                heat
            }
            None if self.is_warm(report.rates) && report.rates.reaches(bound) => {
                Heat::first(self.traffic, report.rates, report.seconds)
            }
            None => return,
        };
        (heat.is_leader, heat.heard, heat.at) = (leads, report.now.mono, report.at);
        if self.peers.insert(key, heat).is_none() {
            self.stores_of.entry(key.1).or_default().push(key.0);
        }
        if self.peers.len() > MAX_PEERS {
            self.shed(report.now.mono);
        }
    }

    /// What a new peer of a region starts with: what is known of another one.
    pub(super) fn heritage(&self, region: RegionId) -> Option<&Heat> {
        self.stores_of(region).iter().find_map(|store| self.peers.get(&(*store, region)).filter(|heat| heat.heritable))
    }

    /// A store's report of so many seconds told nothing of this peer.
    pub(super) fn silence(&mut self, store: StoreId, region: RegionId, seconds: u64, now: Now) {
        let bound = self.bound(store, now.mono);
        let Some(heat) = self.peers.get_mut(&(store, region)) else { return };
        heat.heard = now.mono;
        if !heat.add(self.traffic, None, seconds, bound) {
            self.remove((store, region));
        }
    }

    /// Forgets peers that the region does not have any more, and follows its leader.
    pub(super) fn follow(&mut self, region: &Region) {
        let Some(stores) = self.stores_of.get(&region.id()) else { return };
        for store in stores.clone() {
            if region.meta.peer_on(store).is_none() {
                self.remove((store, region.id()));
            } else if let Some(heat) = self.peers.get_mut(&(store, region.id())) {
                heat.is_leader = region.leader_store() == Some(store);
            }
        }
    }

    fn remove(&mut self, key: (StoreId, RegionId)) {
        self.peers.remove(&key);
        if let Some(stores) = self.stores_of.get_mut(&key.1) {
            stores.retain(|store| *store != key.0);
            if stores.is_empty() {
                self.stores_of.remove(&key.1);
            }
        }
        if self.peers.len() < MAX_PEERS / 2 {
            self.floor = 0.0;
        }
    }

    /// What a peer of the store must have to be hot. Worked out anew every few seconds.
    fn bound(&mut self, store: StoreId, now: Mono) -> Rates {
        if let Some((since, bound)) = self.bounds.get(&store)
            && now.since(*since).as_secs() <= BOUND_HOLDS
        {
            return *bound;
        }
        let range = (store, RegionId(0))..=(store, RegionId(u64::MAX));
        let all: Vec<Rates> = self.peers.range(range).map(|(_, heat)| heat.smooth.rates()).collect();
        let lowest = self.traffic.lowest();
        let bound =
            if all.len() < TOP { lowest } else { Rates::each(|dim| (top(&all, dim) * TOP_SHARE).max(lowest.of(dim))) };
        self.bounds.insert(store, (now, bound));
        bound
    }

    /// What a peer of the store must have, and how many of its peers are known: for people who ask.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (StoreId, Rates)> {
        self.bounds.iter().map(|(store, (_, bound))| (*store, *bound))
    }

    /// Forgets what was not heard for long, once in a while.
    pub(super) fn sweep(&mut self, now: Mono) {
        let patience = FORGOTTEN_AFTER * self.traffic.period();
        if now.since(self.swept).as_secs() < patience {
            return;
        }
        self.swept = now;
        let silent = |heat: &Heat| now.since(heat.heard).as_secs() > patience;
        let gone: Vec<_> = self.peers.iter().filter(|(_, heat)| silent(heat)).map(|(key, _)| *key).collect();
        gone.into_iter().for_each(|key| self.remove(key));
        self.bounds.retain(|_, (since, _)| now.since(*since).as_secs() <= patience);
    }

    /// Drops the coldest quarter. The floor keeps as cold ones from coming in its place, so that this is not done again before
    /// many have come: on the whole a report costs the same however many are hot.
    fn shed(&mut self, now: Mono) {
        self.swept = Mono::default();
        self.sweep(now);
        let lowest = self.traffic.lowest();
        let mut ranked: Vec<_> =
            self.peers.iter().map(|(key, heat)| (heat.smooth.rates().above(lowest), *key)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let kept = MAX_PEERS / 4 * 3;
        ranked.iter().skip(kept).for_each(|(_, key)| self.remove(*key));
        self.floor = ranked.get(kept).map_or(0.0, |(times, _)| *times);
    }
}

/// What the last of the [`TOP`] has in one dimension.
fn top(all: &[Rates], dim: Dim) -> f64 {
    let mut values: Vec<f64> = all.iter().map(|rates| rates.of(dim)).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values.get(TOP - 1).copied().unwrap_or(0.0)
}
