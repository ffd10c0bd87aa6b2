//! scatter-range: evens leaders and peers out within one key range, by turns.

use super::{
    config::ScatterRange,
    dice::Dice,
    leader::{LOOKS, Leaders},
    region::{Peers, only},
    round::{Input, Round},
    slow::Memory,
    weigh::{Measure, Scale},
};
use crate::scheduler::operator::Kind;

/// Leaders and peers take turns; the one that has nothing to do lets the other go on.
pub(super) fn balance(input: &Input<'_>, config: &ScatterRange, memory: &mut Memory, dice: &mut Dice) -> Round {
    memory.turn = !memory.turn;
    let first = one(input, config, memory.turn, dice);
    if first.ops.is_empty() { one(input, config, !memory.turn, dice) } else { first }
}

fn one(input: &Input<'_>, config: &ScatterRange, peers: bool, dice: &mut Dice) -> Round {
    let range = config.range();
    let (ranges, name) = (only(&range), &config.range_name);
    if peers {
        let name = format!("scatter-range-region-{name}");
        let input = Input { name: &name, ..*input };
        let scale = Scale::of_range(input, Measure::Peers, &range);
        let kind = Kind::RANGE | Kind::REGION;
        return Peers { input: &input, ranges: &ranges, kind, round: Round::default(), scale }.run(dice);
    }
    let name = format!("scatter-range-leader-{name}");
    let input = Input { name: &name, ..*input };
    let scale = Scale::of_range(input, Measure::Leaders, &range);
    let kind = Kind::RANGE | Kind::LEADER;
    Leaders { input: &input, ranges: &ranges, kind, round: Round::default(), scale, looks: LOOKS }.run(1, dice)
}
