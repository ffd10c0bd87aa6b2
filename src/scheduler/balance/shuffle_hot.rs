//! shuffle-hot-region: moves hot leaders about by chance, for tests of clusters.

use super::{
    dice::Dice,
    pick::{is_idle, is_let, whole_fit},
    region::{Heir, choice_by_chance, move_peer, target_refusal},
    round::{Input, Round, Why, peer_source_refusal},
};
use crate::{
    model::{RegionId, StoreId, names::desc},
    scheduler::operator::{Kind, Operator, Priority},
    store::hot::{
        Traffic,
        loads::{Role, loads},
    },
};

/// One hot leader of any store to any store that may take its peer.
pub(super) fn leaders(input: &Input<'_>, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let traffic = dice.one(&Traffic::ALL).copied().unwrap_or(Traffic::Read);
    let hits = input.view.settings.schedule.hot_region_cache_hits_threshold;
    let all = loads(input.hot, traffic, Role::Leader, hits, input.view.stores);
    let mut stores: Vec<_> = all.iter().filter(|(_, store)| !store.peers.is_empty()).collect();
    dice.shuffle(&mut stores);
    for (id, store) in stores {
        let Some(peer) = dice.one(&store.peers) else { continue };
        match shuffle(input, *id, peer.region, dice) {
            Ok(op) => {
                round.propose(op);
                return round;
            }
            Err(why) => round.refuse(*id, why),
        }
    }
    round.events.push("skip");
    round
}

fn shuffle(input: &Input<'_>, source: StoreId, region: RegionId, dice: &mut Dice) -> Result<Operator, Why> {
    let view = input.view;
    let region = view.regions.get(region).ok_or(Why::NoRegion)?;
    let source = view.stores.get(&source).ok_or(Why::NoRegion)?;
    is_idle(input, &region)?;
    if !region.down.is_empty() || !region.pending.is_empty() {
        return Err(Why::NotReplicated);
    }
    is_let(input, &region)?;
    if let Some(why) = peer_source_refusal(view, input.budget, source) {
        return Err(Why::Filter(why));
    }
    let fit = whole_fit(input, &region)?;
    let old = region.meta.peer_on(source.id()).ok_or(Why::NoRegion)?;
    let others = view.stores.values().filter(|s| region.meta.peer_on(s.id()).is_none());
    let fitting: Vec<StoreId> =
        others.filter(|s| target_refusal(input, &region, &fit, source, s).is_none()).map(|s| s.id()).collect();
    let target = dice.one(&fitting).ok_or(Why::NoTarget)?;
    let input = &Input { name: desc::RANDOM_MOVE_HOT_LEADER, ..*input };
    let mut op = move_peer(input, &region, &fit, (old, *target), Kind::REGION | Kind::LEADER, Heir::Successor)?;
    op.priority = Priority::Low;
    op.choice = Some(choice_by_chance(input, (&region, &fit), source, *target));
    Ok(op)
}
