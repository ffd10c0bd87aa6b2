//! grant-leader: gathers the leaders of regions with a peer there on stores, and keeps them there. As with evict-leader, no label
//! holds it: a person asks for it.

use super::{
    config::Grant,
    dice::Dice,
    leader::{TRIES, candidates, choice, transfer},
    pick::{draw, is_calm},
    round::{Input, Round, Why},
    weigh::{Measure, Scale},
};
use crate::{
    scheduler::operator::{Kind, Operator, Priority},
    store::Held,
};

/// One transfer to each of its stores.
pub(super) fn leaders(input: &Input<'_>, config: &Grant, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let scale = Scale::new(*input, Measure::Leaders);
    for (store, ranges) in &config.stores {
        for _ in 0..TRIES {
            let Some(region) = draw(input, dice, *store, Held::Follower, &ranges.0) else {
                round.events.push("no-follower");
                round.refuse(*store, Why::NoRegion);
                break;
            };
            // What another such store has gathered stays there.
            let kept = region.leader_store().is_some_and(|leader| config.stores.contains_key(&leader));
            if kept || round.has(region.id()) {
                continue;
            }
            let found = is_calm(input, &region).and_then(|()| {
                if !candidates(input, &region).iter().any(|s| s.id() == *store) {
                    return Err(Why::NoTarget);
                }
                let op = transfer(input, &region, *store, Kind::LEADER, Priority::High)?;
                Ok(Operator { choice: Some(choice(input, &scale, &region, *store)), ..op })
            });
            match found {
                Ok(op) => {
                    round.propose(op);
                    break;
                }
                Err(why) => round.refuse(*store, why),
            }
        }
    }
    round
}
