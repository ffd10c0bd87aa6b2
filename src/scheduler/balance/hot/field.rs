//! What is evened out: reads, what leaders write, what peers write; and how much of it each store bears.
//!
//! Owns: the loads with what is under way, the means, who gives and who takes. Must not know: regions, operators.

use std::collections::BTreeMap;

use super::pending::Pending;
use crate::{
    model::StoreId,
    scheduler::{
        balance::{config::Hot, round::Input},
        filter,
    },
    store::hot::{
        Dim, HotPeer, Rates, Traffic,
        loads::{Role, loads},
    },
};

/// Something that stores bear. The order is that of importance: evening one out must not upset those before it, or the two
/// would take turns for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Field {
    /// Reads.
    Read,
    /// What peers write.
    WritePeer,
    /// What leaders write.
    WriteLeader,
}

impl Field {
    pub(super) const ALL: [Field; 3] = [Field::Read, Field::WritePeer, Field::WriteLeader];

    pub(super) fn traffic(self) -> Traffic {
        match self {
            Field::Read => Traffic::Read,
            Field::WritePeer | Field::WriteLeader => Traffic::Write,
        }
    }

    /// The first and the second dimension in which it is evened out; the same when only one is configured.
    pub(super) fn dims(self, config: &Hot) -> [Dim; 2] {
        let names = match self {
            Field::Read => &config.read_priorities,
            Field::WritePeer => &config.write_peer_priorities,
            Field::WriteLeader => &config.write_leader_priorities,
        };
        let dim = |at: usize| names.get(at).and_then(|name| Dim::of_name(name));
        let first = dim(0).unwrap_or(Dim::Byte);
        [first, dim(1).unwrap_or(first)]
    }
}

/// What one store bears in one field.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Load {
    /// As it is reported.
    pub(super) now: Rates,
    /// As it will be reported at least, whatever becomes of the moves under way.
    pub(super) least: Rates,
    /// The same at most.
    pub(super) most: Rates,
    /// Its hot peers.
    pub(super) peers: Vec<HotPeer>,
}

impl Load {
    /// What is under way to the store less what is under way from it.
    pub(super) fn under_way(&self, dim: Dim) -> f64 {
        (self.most.of(dim) - self.now.of(dim)) - (self.now.of(dim) - self.least.of(dim))
    }
}

/// One field over all stores that take part.
pub(super) struct Loads {
    pub(super) field: Field,
    pub(super) dims: [Dim; 2],
    pub(super) stores: BTreeMap<StoreId, Load>,
    pub(super) mean: Rates,
    /// From here on a store has too much.
    pub(super) high: Rates,
}

impl Loads {
    pub(super) fn new(input: &Input<'_>, config: &Hot, field: Field, pending: &Pending) -> Self {
        let (view, hits) = (input.view, input.view.settings.schedule.hot_region_cache_hits_threshold);
        let role = if field == Field::WriteLeader { Role::Leader } else { Role::Peer };
        let mut all = loads(input.hot, field.traffic(), role, hits, view.stores);
        // Stores that are being emptied or do not answer neither give nor take; column stores have no leaders to share.
        let takes_part = |id: &StoreId| {
            let store = view.stores.get(id);
            store.is_some_and(|s| filter::state_refusal(view, s).is_none() && !s.record.is_tiflash())
        };
        all.retain(|id, _| takes_part(id));
        let sums = pending.sums(field);
        let weight = config.pending_weight.max(0.0);
        let mut stores = BTreeMap::new();
        for (id, store) in all {
            // A store that tells less than what its hot peers bear has not told everything.
            let now = Rates::each(|dim| store.load.of(dim).max(store.flow.of(dim)));
            let coming = sums.get(&id).copied().unwrap_or_default().times(weight);
            let then = Rates::each(|dim| (now.of(dim) + coming.of(dim)).max(0.0));
            let least = Rates::each(|dim| now.of(dim).min(then.of(dim)));
            let most = Rates::each(|dim| now.of(dim).max(then.of(dim)));
            stores.insert(id, Load { now, least, most, peers: store.peers });
        }
        let count = stores.len().max(1) as f64;
        let mean = stores.values().fold(Rates::default(), |sum, load| sum.plus(load.now)).times(1.0 / count);
        let high = mean.times(config.src_tolerance_ratio);
        Self { field, dims: field.dims(config), stores, mean, high }
    }

    /// Whether `check` holds in the dimensions that count: for what leaders write, only the first; by the first formula in all of
    /// them, or in the first when stores are not picked strictly; by the second formula in any.
    fn by_priority(&self, config: &Hot, check: impl Fn(Dim) -> bool) -> bool {
        let [first, second] = self.dims;
        match (self.field, config.is_v2()) {
            (Field::WriteLeader, _) => check(first),
            (_, true) => check(first) || check(second),
            (_, false) => check(first) && (!config.is_strict() || check(second)),
        }
    }

    /// Whether the store bears so much that it should give.
    pub(super) fn gives(&self, load: &Load, config: &Hot) -> bool {
        self.by_priority(config, |dim| load.least.of(dim) > self.high.of(dim))
    }

    /// Whether the store bears so little that it may take.
    pub(super) fn takes(&self, load: &Load, config: &Hot) -> bool {
        self.by_priority(config, |dim| load.most.of(dim) * config.dst_tolerance_ratio < self.mean.of(dim))
    }

    /// Whether so much more on `to` leaves no store above the mean that was not, or not more so than `from` was.
    pub(super) fn stands(&self, (from, to): (StoreId, StoreId), shift: Rates, dim: Dim, ratio: f64) -> bool {
        if shift.of(dim) <= 0.0 {
            return true;
        }
        let Some(target) = self.stores.get(&to) else { return true };
        let after = target.most.of(dim) + shift.of(dim);
        after <= self.high.of(dim) || self.relieves((from, to), shift, dim, ratio)
    }

    /// Whether `from` has too much, and the move leaves `to` clearly below what `from` has now.
    pub(super) fn relieves(&self, (from, to): (StoreId, StoreId), shift: Rates, dim: Dim, ratio: f64) -> bool {
        let (Some(source), Some(target)) = (self.stores.get(&from), self.stores.get(&to)) else { return false };
        let before = source.least.of(dim);
        shift.of(dim) > 0.0 && before > self.high.of(dim) && target.most.of(dim) + shift.of(dim) <= before * ratio
    }
}
