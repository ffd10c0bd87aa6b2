//! balance-hot-region: evens out what is read from and written to stores, by the traffic of hot regions.
//!
//! Owns: which regions are hot, what each store bears of them, and which of them moves where. Must not know: cold traffic, which
//! no single move can even out.
//!
//! What a store bears is worked out from the regions as they stand now, so that a move counts from the report on that shows it.
//! A region moves only where the busier of the two stores is clearly less busy afterwards: no later look would take it back.

use std::collections::BTreeMap;

use super::{
    config::Hot,
    dice::Dice,
    leader::{candidates, transfer},
    pick::{is_idle, whole_fit},
    region::{Heir, move_peer, target_refusal},
    round::{Input, Round, Why, leader_source_refusal, peer_source_refusal},
};
use crate::{
    model::{Region, StoreId, names::desc},
    scheduler::{
        checker::deny::{Cause, denied},
        filter,
        operator::{Kind, Operator, Priority},
    },
    store::{
        StoreInfo,
        hot::{Dim, Traffic},
    },
};

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
        let dimension = dimensions.first().and_then(|name| Dim::of_name(name)).unwrap_or(Dim::Byte);
        let (view, hits) = (input.view, input.view.settings.schedule.hot_region_cache_hits_threshold);
        let up = view.stores.values().filter(|s| filter::state_refusal(view, s).is_none() && !s.record.is_tiflash());
        let mut loads: BTreeMap<StoreId, f64> = up.map(|s| (s.id(), 0.0)).collect();
        let mut regions = Vec::new();
        let leaders = input.hot.hot(traffic, hits).filter(|peer| peer.is_leader);
        for peer in leaders {
            let Some(region) = view.regions.get(peer.region) else { continue };
            let rate = peer.rates.of(dimension);
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
