//! What hot moves that are under way, or ended lately, will change in what stores report.
//!
//! Owns: for how long a move counts. Must not know: which moves are worth it.

use std::{collections::BTreeMap, time::Duration};

use super::field::Field;
use crate::{
    model::{Mono, Region, RegionId, StoreId},
    scheduler::balance::round::Input,
    store::hot::Rates,
};

/// Most moves that are remembered; far more than may run at once.
const MAX_MOVES: usize = 1024;
/// A move that waits to be started is given up after this.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Seconds between two reports of a store.
const REPORT: u64 = 10;

/// What one move takes from a store and brings to another.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shift {
    pub(super) from: StoreId,
    pub(super) to: StoreId,
    /// Whether the leader goes.
    pub(super) leader: bool,
    /// What goes, by field.
    pub(super) rates: BTreeMap<Field, Rates>,
}

#[derive(Clone, Debug)]
struct Move {
    shift: Shift,
    since: Mono,
    ran: bool,
    /// Since when it is done.
    done: Option<Mono>,
}

/// The moves that still count.
#[derive(Clone, Debug, Default)]
pub(in crate::scheduler::balance) struct Pending(BTreeMap<RegionId, Move>);

impl Pending {
    /// Forgets moves that came to nothing, and those that stores have reported since: `rounds` reports, and one more that is partly
    /// about the time before.
    pub(super) fn refresh(&mut self, input: &Input<'_>, rounds: u64) {
        let now = input.view.now.mono;
        let reported = Duration::from_secs(rounds.saturating_add(1).saturating_mul(REPORT));
        self.0.retain(|region, known| {
            if let Some(done) = known.done {
                return now.since(done) < reported;
            }
            if input.budget.is_running(*region) {
                known.ran = true;
                return true;
            }
            if input.view.regions.get(*region).is_some_and(|region| has_moved(&region, &known.shift)) {
                known.done = Some(now);
                return true;
            }
            !known.ran && now.since(known.since) < START_WITHIN
        });
    }

    pub(super) fn note(&mut self, region: RegionId, shift: Shift, now: Mono) {
        if self.0.len() < MAX_MOVES {
            self.0.insert(region, Move { shift, since: now, ran: false, done: None });
        }
    }

    pub(super) fn has(&self, region: RegionId) -> bool {
        self.0.contains_key(&region)
    }

    /// What all moves change in one field, by store: what comes less what goes.
    pub(super) fn sums(&self, field: Field) -> BTreeMap<StoreId, Rates> {
        let mut sums = BTreeMap::<StoreId, Rates>::new();
        for shift in self.0.values().map(|known| &known.shift) {
            let Some(rates) = shift.rates.get(&field) else { continue };
            for (store, sign) in [(shift.from, -1.0), (shift.to, 1.0)] {
                let sum = sums.entry(store).or_default();
                *sum = sum.plus(rates.times(sign));
            }
        }
        sums
    }
}

fn has_moved(region: &Region, shift: &Shift) -> bool {
    if shift.leader && region.leader_store() != Some(shift.to) {
        return false;
    }
    region.meta.peer_on(shift.to).is_some()
}
