//! Hot peers: what is read from and written to which peers, without noise.
//!
//! Owns: PD's way of telling hot from cold (bounds, warming up, cooling down), fed by region heartbeats (writes) and by what
//! stores tell of their peers (reads), which peers are hot, and a history of them. Must not know: what is moved, wire types,
//! clocks. Start at [`HotPeers`].

mod cache;
mod heat;
pub mod history;
pub mod loads;
mod rates;
mod smooth;
#[cfg(test)]
mod tests;

pub use rates::{Dim, Rates, Traffic};
pub(crate) use smooth::Smooth;

use self::cache::{Cache, Report};
use super::RegionIndex;
use crate::model::{Now, PeerTraffic, Region, RegionId, StoreId, StoreStats, Wall};

/// Reports about less time say nothing (PD's number), seconds.
const SHORTEST_REPORT: u64 = 3;
/// Reports about more time tell nothing about now, seconds.
const LONGEST_REPORT: u64 = 600;

/// A peer that is hot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HotPeer {
    /// Its store.
    pub store: StoreId,
    /// Its region.
    pub region: RegionId,
    /// Whether it leads.
    pub is_leader: bool,
    /// Its traffic.
    pub rates: Rates,
    /// Hot periods so far, less cold ones.
    pub degree: i64,
    /// Cold periods that it stands.
    pub anti: u64,
    /// When it was last heard of.
    pub at: Wall,
}

/// See the module's comment.
#[derive(Debug)]
pub struct HotPeers {
    read: Cache,
    write: Cache,
}

impl Default for HotPeers {
    fn default() -> Self {
        Self { read: Cache::new(Traffic::Read), write: Cache::new(Traffic::Write) }
    }
}

/// The seconds that a report is about, when it says something.
fn seconds(interval: (u64, u64)) -> Option<u64> {
    let seconds = interval.1.checked_sub(interval.0)?;
    (SHORTEST_REPORT..=LONGEST_REPORT).contains(&seconds).then_some(seconds)
}

impl HotPeers {
    fn cache(&self, traffic: Traffic) -> &Cache {
        match traffic {
            Traffic::Read => &self.read,
            Traffic::Write => &self.write,
        }
    }

    /// Takes a region's report in: what is written to it, and where its peers are. One of a region that is cold and was so before
    /// costs a few comparisons and look-ups.
    pub fn on_region(&mut self, region: &Region, now: Now) {
        self.on_writes(region, now);
        self.follow(region);
        self.read.sweep(now.mono);
        self.write.sweep(now.mono);
    }

    /// Takes in where a region's peers are, without traffic.
    pub fn follow(&mut self, region: &Region) {
        self.read.follow(region);
        self.write.follow(region);
    }

    fn on_writes(&mut self, region: &Region, now: Now) {
        let flow = &region.flow;
        let Some(seconds) = seconds(flow.interval) else { return };
        let rate = |total: u64| total as f64 / seconds as f64;
        let rates = Rates {
            bytes: rate(flow.bytes_written),
            keys: rate(flow.keys_written),
            query: rate(flow.write_query),
            cpu: 0.0,
        };
        if !self.write.wants(region.id(), rates) || self.just_led_elsewhere(region) {
            return;
        }
        let at = Wall(i64::try_from(flow.interval.1).unwrap_or(0).saturating_mul(1_000_000_000));
        let heritage = self.write.heritage(region.id()).cloned();
        for peer in region.peers() {
            let report = Report { region, store: peer.store, rates, seconds, now, at };
            self.write.take_in(&report, heritage.as_ref());
        }
    }

    /// Whether another peer led when the region was last heard of: the first report of a new leader counts from long ago.
    fn just_led_elsewhere(&self, region: &Region) -> bool {
        let leader = self.write.stores_of(region.id()).iter().find(|store| {
            let heat = self.write.get(**store, region.id());
            heat.is_some_and(|heat| heat.is_leader)
        });
        leader.is_some_and(|store| region.leader_store() != Some(*store))
    }

    /// Takes a store's report in: what is read from its peers. Those that it does not tell of cool down.
    pub fn on_store(&mut self, store: StoreId, stats: &StoreStats, regions: &RegionIndex, now: Now) {
        let Some(seconds) = seconds(stats.interval) else { return };
        self.read.sweep(now.mono);
        let mut silent = self.read.regions_on(store);
        for told in &stats.peers {
            if let Ok(at) = silent.binary_search(&told.region) {
                silent.remove(at);
            }
            let rates = read_rates(told, seconds);
            if !self.read.wants(told.region, rates) {
                continue;
            }
            let Some(region) = regions.get(told.region).filter(|r| r.meta.peer_on(store).is_some()) else { continue };
            let heritage = self.read.heritage(told.region).cloned();
            let report = Report { region: &region, store, rates, seconds, now, at: now.wall };
            self.read.take_in(&report, heritage.as_ref());
        }
        for region in silent {
            self.read.silence(store, region, seconds, now);
        }
    }

    /// Whether any peer of the region was hot in `hits` periods at least.
    pub fn is_hot(&self, region: RegionId, hits: u64) -> bool {
        let hits = i64::try_from(hits).unwrap_or(i64::MAX);
        let hot = |cache: &Cache| {
            let mut heats = cache.stores_of(region).iter().filter_map(|store| cache.get(*store, region));
            heats.any(|heat| heat.degree >= hits)
        };
        hot(&self.read) || hot(&self.write)
    }

    /// Peers with this traffic, hot in `hits` periods at least and not cooling down; by store and region.
    pub fn hot(&self, traffic: Traffic, hits: u64) -> impl Iterator<Item = HotPeer> {
        let hits = i64::try_from(hits).unwrap_or(i64::MAX);
        let cache = self.cache(traffic).iter();
        cache
            .filter(move |(_, heat)| heat.degree >= hits && heat.is_settled(traffic))
            .map(|(key, heat)| shown(key, heat))
    }

    /// What is known of one peer, hot or nearly so.
    pub fn peer(&self, traffic: Traffic, store: StoreId, region: RegionId) -> Option<HotPeer> {
        self.cache(traffic).get(store, region).map(|heat| shown(&(store, region), heat))
    }

    /// Peers that are known, hot or nearly so.
    pub fn len(&self, traffic: Traffic) -> usize {
        self.cache(traffic).len()
    }

    /// The same on one store.
    pub fn count_on(&self, traffic: Traffic, store: StoreId) -> usize {
        self.cache(traffic).regions_on(store).len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.read.len() + self.write.len() == 0
    }

    /// What a peer must have to be hot, by store; only of stores that reported lately.
    pub fn bounds(&self, traffic: Traffic) -> impl Iterator<Item = (StoreId, Rates)> {
        self.cache(traffic).bounds()
    }
}

fn shown(key: &(StoreId, RegionId), heat: &heat::Heat) -> HotPeer {
    HotPeer {
        store: key.0,
        region: key.1,
        is_leader: heat.is_leader,
        rates: heat.smooth.rates(),
        degree: heat.degree,
        anti: heat.anti,
        at: heat.at,
    }
}

fn read_rates(told: &PeerTraffic, seconds: u64) -> Rates {
    let rate = |total: u64| total as f64 / seconds as f64;
    Rates {
        bytes: rate(told.bytes_read),
        keys: rate(told.keys_read),
        query: rate(told.read_query),
        cpu: told.cpu as f64,
    }
}
