//! label: takes leaders off stores whose labels the label property `reject-leader` names.

use super::{
    config::RejectLabel,
    dice::Dice,
    leader::{TRIES, candidates, choice, transfer},
    pick::{draw, may_balance},
    round::{Input, Round, Why},
    weigh::{Measure, Scale},
};
use crate::{
    scheduler::operator::{Kind, Operator, Priority},
    store::{Held, StoreInfo},
};

/// The description of its operators: not its name, as with the others.
const DESC: &str = "label-reject-leader";

/// One transfer from the first store that has something to give.
pub(super) fn reject_leaders(input: &Input<'_>, config: &RejectLabel, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let rejected = |store: &StoreInfo| input.view.settings.rejects_leaders(&store.record);
    let scale = Scale::new(*input, Measure::Leaders);
    let input = &Input { name: DESC, ..*input };
    for store in input.view.stores.values().filter(|s| rejected(s)) {
        for _ in 0..TRIES {
            let Some(region) = draw(input, dice, store.id(), Held::Leader, &config.ranges.0) else {
                round.events.push("no-region");
                round.refuse(store.id(), Why::NoRegion);
                break;
            };
            let found = may_balance(input, &region).and_then(|()| {
                // No rejected store is among them: the leader filter refuses it.
                let targets = candidates(input, &region).into_iter();
                let target = targets.min_by_key(|s| (scale.rank(s), s.id())).ok_or(Why::NoTarget)?;
                let op = transfer(input, &region, target.id(), Kind::LEADER, Priority::Medium)?;
                Ok(Operator { choice: Some(choice(input, &scale, &region, target.id())), ..op })
            });
            match found {
                Ok(op) => {
                    round.propose(op);
                    return round;
                }
                Err(why) => round.refuse(store.id(), why),
            }
        }
    }
    if round.ops.is_empty() {
        round.events.push("skip");
    }
    round
}
