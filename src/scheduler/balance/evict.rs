//! evict-leader: takes the leaders off stores. A label `schedule=deny` does not hold it: people use it before maintenance.

use std::collections::BTreeMap;

use super::{
    config::Ranges,
    dice::Dice,
    leader::{TRIES, candidates, choice, transfer},
    pick::{draw, is_idle},
    round::{Input, Round, Why},
    weigh::{Measure, Scale},
};
use crate::{
    model::{KeyRange, StoreId},
    scheduler::{
        operator::{Kind, Operator, Priority},
        outcome::Reason,
    },
    store::Held,
};

/// Transfers from `stores`, at most `batch`, to the stores with the fewest leaders.
pub(super) fn leaders(input: &Input<'_>, stores: &BTreeMap<StoreId, Ranges>, batch: usize, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let mut scale = Scale::new(*input, Measure::Leaders);
    let mut left: Vec<_> = stores.iter().collect();
    dice.shuffle(&mut left);
    // By turns, so that no store waits for another one.
    while round.ops.len() < batch && !left.is_empty() {
        left.retain(|(store, ranges)| {
            if round.ops.len() >= batch {
                return true;
            }
            match one(input, &scale, &mut round, **store, &ranges.0, dice) {
                Some(op) => {
                    scale.count(&op);
                    round.propose(op);
                    true
                }
                None => false,
            }
        });
    }
    round
}

/// One leader of `store` for another store.
fn one(
    input: &Input<'_>,
    scale: &Scale<'_>,
    round: &mut Round,
    store: StoreId,
    ranges: &[KeyRange],
    dice: &mut Dice,
) -> Option<Operator> {
    for _ in 0..TRIES {
        let Some(region) = draw(input, dice, store, Held::Leader, ranges) else {
            round.events.push("no-leader");
            round.refuse(store, Why::NoRegion);
            return None;
        };
        if round.has(region.id()) {
            continue;
        }
        let found = is_idle(input, &region).and_then(|()| {
            let target = candidates(input, &region).into_iter().min_by_key(|s| (scale.rank(s), s.id()));
            let target = target.ok_or(Why::NoTarget)?.id();
            let op = transfer(input, &region, target, Kind::LEADER, Priority::Urgent)?;
            Ok(Operator { choice: Some(choice(input, scale, &region, target)), ..op })
        });
        match found {
            Ok(op) => return Some(op),
            Err(why) => {
                if why == Why::NoTarget {
                    round.events.push("no-target-store");
                }
                round.refuse(store, why);
            }
        }
    }
    round.refuse(store, Why::Region(Reason::no_leader_target()));
    None
}
