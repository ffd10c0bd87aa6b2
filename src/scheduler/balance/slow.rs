//! evict-slow-store and evict-stopping-store: take leaders off stores that ask for it by what they report.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    config::{Ranges, SlowStore, StoppingStore},
    dice::Dice,
    evict,
    hot::Pending,
    round::{Input, Round},
};
use crate::{
    model::{Mono, StoreId, StoreState},
    scheduler::filter,
    store::StoreInfo,
};

/// A store with this slow score or less is well again.
const WELL: u64 = 1;

/// What a scheduler remembers from one round to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Stores that it keeps leaders off.
    pub(super) evicting: BTreeSet<StoreId>,
    /// Since when the slow store has been well.
    well_since: Option<Mono>,
    /// Hot moves that still count.
    pub(super) hot: Pending,
    /// Whose turn it is, for schedulers that do two things by turns.
    pub(super) turn: bool,
}

/// One slow store at a time: when several are slow, something else is wrong, and nothing is gained by moving leaders about.
pub(super) fn evict_slow(input: &Input<'_>, config: &SlowStore, memory: &mut Memory, dice: &mut Dice) -> Round {
    let up = |s: &&StoreInfo| s.record.state == StoreState::Up && !filter::is_down(input.view, s);
    let stores: Vec<&StoreInfo> = input.view.stores.values().map(AsRef::as_ref).filter(up).collect();
    if let Some(known) = memory.evicting.first().copied() {
        let store = stores.iter().find(|s| s.id() == known);
        if store.is_none_or(|s| is_well_again(s, config, memory, input.view.now.mono)) {
            memory.evicting.clear();
            memory.well_since = None;
        }
    } else {
        let slow: Vec<_> = stores.iter().filter(|s| s.is_slow()).collect();
        if let [one] = slow[..]
            && stores.len() > 1
        {
            memory.evicting.insert(one.id());
        }
    }
    evict_all(input, memory, config.batch, dice)
}

/// Whether the store has been well for `recovery-duration`.
fn is_well_again(store: &StoreInfo, config: &SlowStore, memory: &mut Memory, now: Mono) -> bool {
    if store.stats.slow_score > WELL {
        memory.well_since = None;
        return false;
    }
    let since = *memory.well_since.get_or_insert(now);
    now.since(since) >= Duration::from_secs(config.recovery_duration)
}

/// Every store that says it is stopping, for as long as it says so and reports.
pub(super) fn evict_stopping(input: &Input<'_>, config: &StoppingStore, memory: &mut Memory, dice: &mut Dice) -> Round {
    let stopping = |s: &StoreInfo| {
        s.stats.is_stopping && s.record.state == StoreState::Up && !filter::is_disconnected(input.view, s)
    };
    memory.evicting = input.view.stores.values().filter(|s| stopping(s)).map(|s| s.id()).collect();
    evict_all(input, memory, config.batch, dice)
}

fn evict_all(input: &Input<'_>, memory: &Memory, batch: usize, dice: &mut Dice) -> Round {
    if memory.evicting.is_empty() {
        return Round::default();
    }
    let stores: BTreeMap<StoreId, Ranges> = memory.evicting.iter().map(|id| (*id, Ranges::default())).collect();
    evict::leaders(input, &stores, batch, dice)
}
