//! balance-hot-region: evens out what is read from and written to stores, by moving hot peers and their leaders.
//!
//! Owns: which hot peer goes where. Must not know: what is hot (`store::hot`). Start at [`balance`], then `field` (who bears
//! what), `rank` (PD's two formulas), `moves` (the operators), `pending` (what is under way).
//!
//! PD's formulas alone may move the same peer to and fro: what is good for one dimension, or for writes, may be bad for another,
//! or for reads. Here a move must also pass `Look::ends`: it takes from a store that has too much of something, leaves the other
//! clearly below what the first had, and makes no store have too much of anything that comes before it (reads, then what peers
//! write, then what leaders write; of each the first dimension, then the second). So the busy stores' loads, in that order, only
//! fall while traffic stays the same, and balancing ends.

mod field;
mod moves;
mod pending;
mod rank;
#[cfg(test)]
pub(super) mod tests;

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

pub(super) use self::pending::Pending;
use self::{
    field::{Field, Load, Loads},
    pending::Shift,
    rank::{Pair, Rank, rank},
};
use super::{
    config::Hot,
    dice::Dice,
    round::{Input, Round, Why},
};
use crate::{
    model::{Region, Role, StoreId},
    store::hot::{Dim, HotPeer, Rates, Traffic},
};

/// Stores that are looked at as givers, the busiest first: when these have nothing to give, the next look is soon.
const MAX_SOURCES: usize = 16;
/// Pairs of a peer and a store that one look weighs at most: its time must not grow with the cluster.
const MAX_WEIGHED: usize = 50_000;
/// Moves that are tried to be made, the best first.
const TRIES: usize = 32;
/// A move of less than the peer at this place among the busiest of its store is a small one (PD's number).
const TENTH: usize = 10;

/// A way to even something out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    field: Field,
    /// By moving leadership only.
    transfers: bool,
}

/// What is looked at together; in one group the better move wins.
const GROUPS: [&[Way]; 3] = [
    &[Way { field: Field::Read, transfers: true }, Way { field: Field::Read, transfers: false }],
    &[Way { field: Field::WritePeer, transfers: false }],
    &[Way { field: Field::WriteLeader, transfers: true }],
];

/// A move that would be worth it.
struct Candidate {
    way: Way,
    rank: Rank,
    region: Arc<Region>,
    shift: Shift,
    /// Load of the giver and of the taker in the dimension that counts, in steps, and what moves in it.
    order: (u64, u64, f64),
}

impl Candidate {
    /// The better one is greater: better rank, busier giver, idler taker, better score; on the way to balance the larger move, else
    /// the smaller.
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self, other);
        let larger = a.order.2.total_cmp(&b.order.2);
        a.rank
            .rank
            .cmp(&b.rank.rank)
            .then(a.order.0.cmp(&b.order.0))
            .then(b.order.1.cmp(&a.order.1))
            .then(a.rank.score.cmp(&b.rank.score))
            .then(if a.rank.score == 2 { larger } else { larger.reverse() })
            .then(a.way.transfers.cmp(&b.way.transfers))
            .then(b.region.id().cmp(&a.region.id()))
    }
}

/// See the module's comment. Any group comes first, by chance; one that has nothing to do lets the next go on.
pub(super) fn balance(input: &Input<'_>, config: &Hot, pending: &mut Pending, dice: &mut Dice) -> Round {
    pending.refresh(input, config.max_zombie_rounds);
    let mut round = Round::default();
    let mut groups = GROUPS;
    dice.shuffle(&mut groups);
    let fields = Field::ALL.map(|field| Loads::new(input, config, field, pending));
    let look = Look { input, config, pending, fields };
    let found = groups.into_iter().find_map(|ways| look.find(ways, &mut round));
    match found {
        Some((op, shift)) => {
            round.events.push("new_operator");
            let region = op.region;
            round.ops.push(op);
            pending.note(region, shift, input.view.now.mono);
        }
        None => round.events.push("skip"),
    }
    round
}

/// One look.
struct Look<'a> {
    input: &'a Input<'a>,
    config: &'a Hot,
    pending: &'a Pending,
    fields: [Loads; 3],
}

impl Look<'_> {
    fn loads(&self, field: Field) -> &Loads {
        match field {
            Field::Read => &self.fields[0],
            Field::WritePeer => &self.fields[1],
            Field::WriteLeader => &self.fields[2],
        }
    }

    /// The best move of a group that can be made.
    fn find(&self, ways: &[Way], round: &mut Round) -> Option<(crate::scheduler::operator::Operator, Shift)> {
        let mut found = Vec::new();
        for way in ways {
            self.gather(*way, &mut found, round);
        }
        found.sort_by(|a, b| b.cmp(a));
        for candidate in found.into_iter().take(TRIES) {
            match self.operator(&candidate) {
                Ok(op) => {
                    round.events.push(match (candidate.way.transfers, candidate.shift.leader) {
                        (true, _) => "transfer-leader",
                        (false, true) => "move-leader",
                        (false, false) => "move-peer",
                    });
                    return Some((op, candidate.shift));
                }
                Err(why) => round.refuse(candidate.shift.from, why),
            }
        }
        None
    }

    /// All moves of one way that would be worth it.
    fn gather(&self, way: Way, found: &mut Vec<Candidate>, round: &mut Round) {
        let loads = self.loads(way.field);
        let [first, _] = loads.dims;
        let mut sources: Vec<_> = loads.stores.iter().filter(|(_, load)| loads.gives(load, self.config)).collect();
        sources.sort_by(|a, b| b.1.least.of(first).total_cmp(&a.1.least.of(first)).then(a.0.cmp(b.0)));
        let targets: Vec<_> = loads.stores.iter().filter(|(_, load)| loads.takes(load, self.config)).collect();
        if sources.is_empty() {
            loads.stores.keys().for_each(|store| round.refuse(*store, Why::Score));
        }
        let mut left = MAX_WEIGHED;
        for (source, load) in sources.into_iter().take(MAX_SOURCES) {
            let tenth = loads.dims.map(|dim| nth(&load.peers, dim, TENTH));
            for peer in self.busiest(way, load, loads.dims) {
                let Some(region) = self.input.view.regions.get(peer.region) else { continue };
                for (target, to) in &targets {
                    if !reaches(way, &region, **target) {
                        continue;
                    }
                    left = left.saturating_sub(1);
                    if left == 0 {
                        return;
                    }
                    let shift = self.shift(way, &peer, &region, **target);
                    found.extend(self.weigh(way, &region, shift, (*source, load), to, tenth));
                }
            }
        }
    }

    /// The busiest peers of a store in either dimension that could go.
    fn busiest(&self, way: Way, load: &Load, dims: [Dim; 2]) -> Vec<HotPeer> {
        let free = |peer: &&HotPeer| !self.pending.has(peer.region) && (!way.transfers || peer.is_leader);
        let mut peers: Vec<HotPeer> = load.peers.iter().filter(free).copied().collect();
        let most = self.config.max_peer_number;
        if peers.len() > most {
            let mut kept = BTreeMap::new();
            for dim in dims {
                peers.sort_by(|a, b| b.rates.of(dim).total_cmp(&a.rates.of(dim)).then(a.region.cmp(&b.region)));
                kept.extend(peers.iter().take(most).map(|peer| (peer.region, *peer)));
            }
            peers = kept.into_values().collect();
        }
        peers
    }

    /// What goes along with a move.
    fn shift(&self, way: Way, peer: &HotPeer, region: &Region, to: StoreId) -> Shift {
        let known = |traffic| {
            let known = self.input.hot.peer(traffic, peer.store, region.id());
            known.map_or(Rates::default(), |known| known.rates)
        };
        let (read, written) = (known(Traffic::Read), known(Traffic::Write));
        let leader = region.leader_store() == Some(peer.store);
        let mut rates = BTreeMap::from([(Field::Read, read)]);
        if leader {
            rates.insert(Field::WriteLeader, written);
        }
        if !way.transfers {
            rates.insert(Field::WritePeer, written);
        }
        Shift { from: peer.store, to, leader, rates }
    }

    /// The move, when it is worth it.
    fn weigh(
        &self,
        way: Way,
        region: &Arc<Region>,
        shift: Shift,
        (source, from): (StoreId, &Load),
        to: &Load,
        tenth: [f64; 2],
    ) -> Option<Candidate> {
        let loads = self.loads(way.field);
        let moved = shift.rates.get(&way.field).copied().unwrap_or_default();
        let pair = |at: usize| {
            let dim = loads.dims[at];
            Pair {
                from: from.least.of(dim),
                to: to.most.of(dim),
                under_way: (from.under_way(dim), to.under_way(dim)),
                moved: moved.of(dim),
                least: self.config.lowest().of(dim),
                tenth: tenth[at],
            }
        };
        let only_first = way.field == Field::WriteLeader || loads.dims[0] == loads.dims[1];
        let rank = rank(self.config, [pair(0), pair(1)], only_first)?;
        if !self.ends(way, rank, (source, shift.to), &shift) {
            return None;
        }
        let dim = if rank.first { loads.dims[0] } else { loads.dims[1] };
        let steps = |rate: f64| self.steps(loads, dim, rate);
        let order = (steps(from.least.of(dim)), steps(to.most.of(dim)), moved.of(dim));
        Some(Candidate { way, rank, region: region.clone(), shift, order })
    }

    /// Stores that differ by less than a step count as equally busy (`*-rank-step-ratio`).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, as wanted
    fn steps(&self, loads: &Loads, dim: Dim, rate: f64) -> u64 {
        let most = loads.stores.values().map(|load| load.now.of(dim)).fold(0.0, f64::max);
        (rate / (most * self.config.step(dim)).max(1.0)) as u64
    }

    /// What makes balancing end: see the module's comment.
    fn ends(&self, way: Way, rank: Rank, pair: (StoreId, StoreId), shift: &Shift) -> bool {
        let (loads, ratio) = (self.loads(way.field), self.config.great_dec_ratio);
        let moved = shift.rates.get(&way.field).copied().unwrap_or_default();
        let [first, second] = loads.dims;
        let gains = if rank.first {
            loads.relieves(pair, moved, first, ratio)
        } else {
            loads.stands(pair, moved, first, ratio) && loads.relieves(pair, moved, second, ratio)
        };
        let before = self.fields.iter().filter(|loads| loads.field < way.field);
        gains
            && before
                .filter_map(|loads| Some((loads, shift.rates.get(&loads.field)?)))
                .all(|(loads, moved)| loads.dims.into_iter().all(|dim| loads.stands(pair, *moved, dim, ratio)))
    }
}

/// Whether the region could go to the store in this way: leadership only to a voter, a peer only where there is none.
fn reaches(way: Way, region: &Region, target: StoreId) -> bool {
    match region.meta.peer_on(target) {
        Some(peer) => way.transfers && peer.role == Role::Voter && region.leader != Some(peer.id),
        None => !way.transfers,
    }
}

/// What the peer at this place among the busiest has; any is above it when there are fewer.
fn nth(peers: &[HotPeer], dim: Dim, place: usize) -> f64 {
    let mut rates: Vec<f64> = peers.iter().map(|peer| peer.rates.of(dim)).collect();
    rates.sort_by(|a, b| b.total_cmp(a));
    rates.get(place - 1).copied().unwrap_or(f64::MAX)
}
