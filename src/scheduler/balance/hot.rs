//! balance-hot-region: evens out what is read from and written to stores, by the traffic of hot regions.
//!
//! Owns: which regions are hot, what each store bears of them, and which of them moves where. Must not know: cold traffic, which
//! no single move can even out.
//!
//! What a store bears is worked out from the regions as they stand now, so that a move counts from the report on that shows it.
//! A region moves only where the busier of the two stores is clearly less busy afterwards: no later look would take it back.

use std::{collections::BTreeMap, time::Duration};

use super::{
    config::Hot,
    dice::Dice,
    leader::{candidates, transfer},
    pick::{is_idle, whole_fit},
    region::{Heir, move_peer, target_refusal},
    round::{Input, Round, Why, leader_source_refusal, peer_source_refusal},
};
use crate::{
    model::{Mono, Region, RegionId, StoreId, names::desc},
    scheduler::{
        checker::deny::{Cause, denied},
        filter,
        operator::{Kind, Operator, Priority},
    },
    store::StoreInfo,
};

/// Most regions that are kept as hot: the coldest go first.
const MAX_HOT: usize = 10_000;
/// Cold reports in a row after which a region is no longer hot.
const COLD_REPORTS: u32 = 2;
/// A region that was not heard for so long is not hot any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// The longest time that a report may be about: traffic over longer ones tells nothing about now.
const LONGEST_REPORT: u64 = 600;

/// What is done to a region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Traffic {
    /// Read.
    Read,
    /// Written.
    Write,
}

/// Traffic a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Bytes.
    pub bytes: f64,
    /// Keys.
    pub keys: f64,
    /// Queries.
    pub query: f64,
}

impl Rates {
    /// By PD's name of the dimension.
    fn of(self, dimension: &str) -> f64 {
        match dimension {
            "byte" => self.bytes,
            "key" => self.keys,
            "query" => self.query,
            _ => 0.0,
        }
    }

    /// How often the dimension that is highest above its bound holds that bound.
    fn times(self, bound: Rates) -> f64 {
        (self.bytes / bound.bytes).max(self.keys / bound.keys).max(self.query / bound.query)
    }
}

impl Traffic {
    /// From where on a region is hot (PD's lowest bounds).
    fn bound(self) -> Rates {
        match self {
            Traffic::Read => Rates { bytes: 8.0 * 1024.0, keys: 128.0, query: 128.0 },
            Traffic::Write => Rates { bytes: 1024.0, keys: 32.0, query: 32.0 },
        }
    }

    /// What a region's last report says; `None` when it tells no time, or one that is too long.
    fn rates(self, region: &Region) -> Option<Rates> {
        let flow = &region.flow;
        let seconds = flow.interval.1.checked_sub(flow.interval.0)?;
        if seconds == 0 || seconds > LONGEST_REPORT {
            return None;
        }
        let rate = |total: u64| total as f64 / seconds as f64;
        Some(match self {
            Traffic::Read => {
                Rates { bytes: rate(flow.bytes_read), keys: rate(flow.keys_read), query: rate(flow.read_query) }
            }
            Traffic::Write => {
                Rates { bytes: rate(flow.bytes_written), keys: rate(flow.keys_written), query: rate(flow.write_query) }
            }
        })
    }
}

/// How hot a region is in one way.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Heat {
    rates: Rates,
    /// Hot reports so far.
    degree: u64,
    /// Cold reports in a row.
    cold: u32,
    heard: Mono,
}

/// The regions that are hot, the hottest [`MAX_HOT`] of them.
#[derive(Debug, Default)]
pub struct HotRegions {
    regions: BTreeMap<(Traffic, RegionId), Heat>,
    /// What a region must have, in times of its bound, while there are too many.
    floor: f64,
}

impl HotRegions {
    /// Takes a report in. One of a region that is cold and was so before costs a few comparisons and look-ups.
    pub fn take_in(&mut self, region: &Region, now: Mono) {
        for traffic in [Traffic::Read, Traffic::Write] {
            let Some(rates) = traffic.rates(region) else { continue };
            let key = (traffic, region.id());
            if rates.times(traffic.bound()) >= self.floor.max(1.0) {
                let heat = self.regions.entry(key).or_insert(Heat { rates, degree: 0, cold: 0, heard: now });
                *heat = Heat { rates, degree: heat.degree + 1, cold: 0, heard: now };
                if self.regions.len() > MAX_HOT {
                    self.shed(now);
                }
            } else if !self.regions.is_empty() {
                self.cool(key, rates);
            }
        }
    }

    fn cool(&mut self, key: (Traffic, RegionId), rates: Rates) {
        let Some(heat) = self.regions.get_mut(&key) else { return };
        heat.cold += 1;
        heat.rates = rates;
        if heat.cold >= COLD_REPORTS {
            self.regions.remove(&key);
            if self.regions.len() < MAX_HOT / 2 {
                self.floor = 0.0;
            }
        }
    }

    /// Drops what was not heard for long and then the coldest quarter. The floor keeps as cold ones from coming in its place, so
    /// that this is not done again before many have come: on the whole a report costs the same however many are hot.
    fn shed(&mut self, now: Mono) {
        self.regions.retain(|_, heat| now.since(heat.heard) < FORGOTTEN_AFTER);
        let times = |key: &(Traffic, RegionId), heat: &Heat| heat.rates.times(key.0.bound());
        let mut ranked: Vec<_> = self.regions.iter().map(|(key, heat)| (times(key, heat), *key)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, key) in ranked.iter().skip(MAX_HOT / 4 * 3) {
            self.regions.remove(key);
        }
        self.floor = ranked.get(MAX_HOT / 4 * 3).map_or(0.0, |(times, _)| *times);
    }

    /// Whether the region was hot in `hits` reports at least.
    pub fn is_hot(&self, region: RegionId, hits: u64) -> bool {
        let hot = |traffic| self.regions.get(&(traffic, region)).is_some_and(|heat| heat.degree >= hits);
        !self.regions.is_empty() && (hot(Traffic::Read) || hot(Traffic::Write))
    }

    /// Regions with this traffic, hot in `hits` reports at least and heard lately.
    fn of(&self, traffic: Traffic, hits: u64, now: Mono) -> impl Iterator<Item = (RegionId, Rates)> {
        let all = self.regions.iter().filter(move |((t, _), heat)| {
            *t == traffic && heat.degree >= hits && now.since(heat.heard) < FORGOTTEN_AFTER
        });
        all.map(|((_, id), heat)| (*id, heat.rates))
    }
}

/// Which peers bear a sort of traffic, and what may be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bearer {
    /// Reads are served by leaders.
    ReadLeader,
    /// Leaders bear writes more than others.
    WriteLeader,
    /// All peers bear writes.
    WritePeer,
}

/// See the module's comment. Any of the three sorts of traffic comes first; one that has nothing to do lets the next go on.
pub(super) fn balance(input: &Input<'_>, config: &Hot, dice: &mut Dice) -> Round {
    let mut order = [Bearer::ReadLeader, Bearer::WriteLeader, Bearer::WritePeer];
    dice.shuffle(&mut order);
    let mut round = Round::default();
    for bearer in order {
        if let Some(op) = Look::new(input, config, bearer).find(&mut round) {
            round.propose(op);
            return round;
        }
    }
    round.events.push("skip");
    round
}

/// One look at one sort of traffic.
struct Look<'a> {
    input: &'a Input<'a>,
    config: &'a Hot,
    bearer: Bearer,
    /// What each store bears; only stores that may take part.
    loads: BTreeMap<StoreId, f64>,
    /// Hot regions with what one of their peers bears, the hottest first.
    regions: Vec<(f64, std::sync::Arc<Region>)>,
}

impl<'a> Look<'a> {
    fn new(input: &'a Input<'a>, config: &'a Hot, bearer: Bearer) -> Self {
        let (traffic, dimensions, lowest) = match bearer {
            Bearer::ReadLeader => (Traffic::Read, &config.read_priorities, config.lowest()),
            Bearer::WriteLeader => (Traffic::Write, &config.write_leader_priorities, config.lowest()),
            Bearer::WritePeer => (Traffic::Write, &config.write_peer_priorities, config.lowest()),
        };
        let dimension = dimensions.first().map_or("byte", String::as_str);
        let (view, hits) = (input.view, input.view.settings.schedule.hot_region_cache_hits_threshold);
        let up = view.stores.values().filter(|s| filter::state_refusal(view, s).is_none() && !s.record.is_tiflash());
        let mut loads: BTreeMap<StoreId, f64> = up.map(|s| (s.id(), 0.0)).collect();
        let mut regions = Vec::new();
        for (id, rates) in input.hot.of(traffic, hits, view.now.mono) {
            let Some(region) = view.regions.get(id) else { continue };
            let rate = rates.of(dimension);
            for store in bearers(bearer, &region) {
                loads.entry(store).and_modify(|load| *load += rate);
            }
            if rate >= lowest.of(dimension) {
                regions.push((rate, region));
            }
        }
        regions.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id().cmp(&b.1.id())));
        regions.truncate(config.max_peer_number);
        Self { input, config, bearer, loads, regions }
    }

    /// The move that helps the busiest store most.
    fn find(&self, round: &mut Round) -> Option<Operator> {
        let mean = self.loads.values().sum::<f64>() / self.loads.len().max(1) as f64;
        let (source, load) = self.loads.iter().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0)))?;
        if *load <= mean * self.config.src_tolerance_ratio {
            round.refuse(*source, Why::Score);
            return None;
        }
        let source = self.input.view.stores.get(source)?;
        for (rate, region) in &self.regions {
            if !bearers(self.bearer, region).contains(&source.id()) {
                continue;
            }
            match self.operator(region, source, *rate, *load) {
                Ok(op) => return Some(op),
                Err(why) => round.refuse(source.id(), why),
            }
        }
        None
    }

    /// Whether the busier of the two stores is clearly less busy after the move.
    fn helps(&self, rate: f64, from: f64, to: StoreId) -> bool {
        let Some(load) = self.loads.get(&to) else { return false };
        (load + rate).max(from - rate) < from * self.config.great_dec_ratio
    }

    fn operator(&self, region: &Region, source: &StoreInfo, rate: f64, load: f64) -> Result<Operator, Why> {
        let input = self.input;
        is_idle(input, region)?;
        if !region.down.is_empty() || !region.pending.is_empty() {
            return Err(Why::NotReplicated);
        }
        denied(input.view, region, Cause::Balance).map_err(Why::Region)?;
        let by_load = |a: &StoreId, b: &StoreId| self.loads[a].total_cmp(&self.loads[b]).then(a.cmp(b));
        let leads = region.leader_store() == Some(source.id());
        if leads && self.bearer != Bearer::WritePeer && leader_source_refusal(input.view, source).is_none() {
            let stores = candidates(input, region).into_iter().map(StoreInfo::id);
            let target = stores.filter(|to| self.helps(rate, load, *to)).min_by(by_load);
            if let Some(target) = target {
                let name = match self.bearer {
                    Bearer::ReadLeader => desc::TRANSFER_HOT_READ_LEADER,
                    Bearer::WriteLeader | Bearer::WritePeer => desc::TRANSFER_HOT_WRITE_LEADER,
                };
                let input = Input { name, ..*input };
                return transfer(&input, region, target, Kind::HOT_REGION | Kind::LEADER, Priority::High);
            }
        }
        // What leaders bear of writes goes along with their peers: only the leadership is moved for it.
        if self.bearer == Bearer::WriteLeader {
            return Err(Why::NoTarget);
        }
        self.peer_move(region, source, |to| self.helps(rate, load, to), by_load)
    }

    fn peer_move(
        &self,
        region: &Region,
        source: &StoreInfo,
        helps: impl Fn(StoreId) -> bool,
        by_load: impl Fn(&StoreId, &StoreId) -> std::cmp::Ordering,
    ) -> Result<Operator, Why> {
        let (input, view) = (self.input, self.input.view);
        let too_large = u64::try_from(view.settings.schedule.max_movable_hot_peer_size).unwrap_or(0);
        if region.size_mib > too_large {
            return Err(Why::NoRegion);
        }
        if let Some(why) = peer_source_refusal(view, input.budget, source) {
            return Err(Why::Filter(why));
        }
        let fit = whole_fit(input, region)?;
        let old = region.meta.peer_on(source.id()).ok_or(Why::NoRegion)?;
        let leads = region.leader == Some(old.id);
        let name = match (self.bearer, leads) {
            (Bearer::ReadLeader, _) => desc::MOVE_HOT_READ_LEADER,
            (_, true) => desc::MOVE_HOT_WRITE_LEADER,
            (_, false) => desc::MOVE_HOT_WRITE_PEER,
        };
        let input = &Input { name, ..*input };
        let stores = view.stores.values().filter(|s| s.id() != source.id() && helps(s.id()));
        let fitting = stores.filter(|s| target_refusal(input, region, &fit, source, s).is_none()).map(|s| s.id());
        let target = fitting.min_by(by_load).ok_or(Why::NoTarget)?;
        let mut op = move_peer(input, region, &fit, (old, target), Kind::HOT_REGION | Kind::REGION, Heir::Successor)?;
        op.priority = Priority::High;
        Ok(op)
    }
}

/// The stores that bear the traffic of a region.
fn bearers(bearer: Bearer, region: &Region) -> Vec<StoreId> {
    match bearer {
        Bearer::ReadLeader | Bearer::WriteLeader => region.leader_store().into_iter().collect(),
        Bearer::WritePeer => region.peers().iter().map(|p| p.store).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flow, RegionMeta};

    fn region(id: u64, bytes: u64) -> Region {
        let meta = RegionMeta { id: RegionId(id), ..RegionMeta::default() };
        let flow = Flow { bytes_written: bytes * 10, interval: (100, 110), ..Flow::default() };
        Region { meta: meta.into(), flow, ..Region::default() }
    }

    #[test]
    fn a_region_is_hot_after_some_reports_and_cold_after_two() {
        let (mut hot, id, now) = (HotRegions::default(), RegionId(1), Mono(0));
        for report in 1..=3 {
            assert!(!hot.is_hot(id, 3), "before report {report}");
            hot.take_in(&region(1, 1024), now);
        }
        assert!(hot.is_hot(id, 3));
        hot.take_in(&region(1, 1023), now);
        assert!(hot.is_hot(id, 3), "one cold report is none");
        hot.take_in(&region(1, 1023), now);
        assert!(!hot.is_hot(id, 1));
        let long = Flow { bytes_written: 1 << 40, interval: (0, 601), ..Flow::default() };
        hot.take_in(&Region { flow: long, ..region(1, 0) }, now);
        assert!(!hot.is_hot(id, 1), "a report about ten minutes tells nothing about now");
    }

    #[test]
    fn the_hottest_stay_within_the_bound() {
        let mut hot = HotRegions::default();
        let (all, now) = (4 * MAX_HOT as u64, Mono(0));
        for round in 0..2 {
            for id in 1..=all {
                hot.take_in(&region(id, 1024 + id), now);
                assert!(hot.regions.len() <= MAX_HOT, "round {round}");
            }
        }
        assert!(hot.is_hot(RegionId(all), 2) && hot.is_hot(RegionId(all - MAX_HOT as u64 / 2), 2));
        assert!(!hot.is_hot(RegionId(1), 1));
        for _ in 0..2 {
            (1..=all).for_each(|id| hot.take_in(&region(id, 0), now));
        }
        assert!(hot.regions.is_empty() && hot.floor == 0.0);
    }
}
