//! shuffle-leader and shuffle-region: move leaders and peers about by chance, for tests of clusters.

use super::{
    config::{ROLES, ShuffleLeader, ShuffleRegion},
    dice::Dice,
    leader::{TRIES, candidates, choice, transfer},
    pick::{draw, may_balance, whole_fit},
    region::{Heir, choice_by_chance, move_peer, target_refusal},
    round::{Input, Round, Why, peer_source_refusal},
    weigh::{Measure, Scale},
};
use crate::{
    model::{Region, StoreId},
    scheduler::{
        filter,
        operator::{Kind, Operator, Priority},
    },
    store::{Held, StoreInfo},
};

/// One leader to a store drawn by chance.
pub(super) fn leaders(input: &Input<'_>, config: &ShuffleLeader, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let stores = input.view.stores.values();
    let fit: Vec<_> = stores.filter(|s| filter::leader_refusal(input.view, s).is_none()).collect();
    let Some(target) = dice.one(&fit).map(|s| s.id()) else {
        round.events.push("no-target-store");
        return round;
    };
    for _ in 0..TRIES {
        let Some(region) = draw(input, dice, target, Held::Follower, &config.ranges.0) else {
            round.events.push("no-follower");
            round.refuse(target, Why::NoRegion);
            break;
        };
        let found = may_balance(input, &region).and_then(|()| {
            if !candidates(input, &region).iter().any(|s| s.id() == target) {
                return Err(Why::NoTarget);
            }
            let op = transfer(input, &region, target, Kind::ADMIN | Kind::LEADER, Priority::Low)?;
            let scale = Scale::new(*input, Measure::Leaders);
            Ok(Operator { choice: Some(choice(input, &scale, &region, target)), ..op })
        });
        match found {
            Ok(op) => {
                round.propose(op);
                break;
            }
            Err(why) => round.refuse(target, why),
        }
    }
    round
}

/// One peer from a store drawn by chance to another one.
pub(super) fn regions(input: &Input<'_>, config: &ShuffleRegion, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let stores = input.view.stores.values();
    let mut sources: Vec<_> = stores.filter(|s| peer_source_refusal(input.view, input.budget, s).is_none()).collect();
    dice.shuffle(&mut sources);
    if sources.is_empty() {
        round.events.push("no-source-store");
    }
    for source in sources {
        for held in wanted_roles(config) {
            let Some(region) = draw(input, dice, source.id(), held, &config.ranges.0) else { continue };
            match transfer_peer(input, &region, source, dice) {
                Ok(op) => {
                    round.propose(op);
                    return round;
                }
                Err(why) => round.refuse(source.id(), why),
            }
        }
    }
    round.events.push("no-region");
    round
}

fn wanted_roles(config: &ShuffleRegion) -> impl Iterator<Item = Held> + '_ {
    let all = ROLES.into_iter().zip([Held::Leader, Held::Follower, Held::Learner]);
    all.filter(|(name, _)| config.roles.iter().any(|role| role == name)).map(|(_, held)| held)
}

/// The move of the region's peer on `source` to any store that may take it.
fn transfer_peer(input: &Input<'_>, region: &Region, source: &StoreInfo, dice: &mut Dice) -> Result<Operator, Why> {
    may_balance(input, region)?;
    let fit = whole_fit(input, region)?;
    let old = region.meta.peer_on(source.id()).ok_or(Why::NoRegion)?;
    let stores = input.view.stores.values();
    let fitting: Vec<StoreId> = stores
        .filter(|s| s.id() != source.id() && target_refusal(input, region, &fit, source, s).is_none())
        .map(|s| s.id())
        .collect();
    let target = dice.one(&fitting).ok_or(Why::NoTarget)?;
    let mut op = move_peer(input, region, &fit, (old, *target), Kind::REGION, Heir::Any)?;
    op.priority = Priority::Low;
    op.choice = Some(choice_by_chance(input, (region, &fit), source, *target));
    Ok(op)
}
