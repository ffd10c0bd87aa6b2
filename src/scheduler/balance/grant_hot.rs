//! grant-hot-region: gathers hot peers on the stores that are named, and hot leaders on one of them.
//!
//! Owns: which hot peer or leader goes there next. Each move brings one more to where it shall be, so that it ends. PD looks only
//! at leaders outside the named stores and moves peers among them; here leaders come from all others, and peers from outside.

use super::{
    config::GrantHot,
    dice::Dice,
    leader::{candidates, choice, transfer},
    pick::{is_idle, is_let, whole_fit},
    region::{Heir, choice_by_chance, move_peer, target_refusal},
    round::{Input, Round, Why, leader_source_refusal, peer_source_refusal},
    weigh::{Measure, Scale},
};
use crate::{
    model::{Region, StoreId, names::desc},
    scheduler::operator::{Kind, Operator, Priority},
    store::{
        StoreInfo,
        hot::{
            HotPeer, Traffic,
            loads::{Role, StoreLoad, loads},
        },
    },
};

/// Peers that one look tries at most.
const TRIES: usize = 256;

/// One hot leader, or one hot peer, by chance.
pub(super) fn peers(input: &Input<'_>, config: &GrantHot, dice: &mut Dice) -> Round {
    let mut round = Round::default();
    let traffic = dice.one(&Traffic::ALL).copied().unwrap_or(Traffic::Read);
    let role = dice.one(&[Role::Leader, Role::Peer]).copied().unwrap_or(Role::Leader);
    let hits = input.view.settings.schedule.hot_region_cache_hits_threshold;
    let all = loads(input.hot, traffic, role, hits, input.view.stores);
    let elsewhere = |id: &StoreId| match role {
        Role::Leader => *id != config.leader,
        Role::Peer => !config.stores.contains(id),
    };
    let mut stores: Vec<(StoreId, StoreLoad)> = all.into_iter().filter(|(id, _)| elsewhere(id)).collect();
    stores.sort_by(|a, b| b.1.load.bytes.total_cmp(&a.1.load.bytes).then(a.0.cmp(&b.0)));
    for peer in stores.iter().flat_map(|(_, store)| &store.peers).take(TRIES) {
        match grant(input, config, role, peer, dice) {
            Ok(op) => {
                round.propose(op);
                return round;
            }
            Err(why) => round.refuse(peer.store, why),
        }
    }
    round.events.push("skip");
    round
}

fn grant(input: &Input<'_>, config: &GrantHot, role: Role, peer: &HotPeer, dice: &mut Dice) -> Result<Operator, Why> {
    let view = input.view;
    let region = view.regions.get(peer.region).ok_or(Why::NoRegion)?;
    let source = view.stores.get(&peer.store).ok_or(Why::NoRegion)?;
    is_idle(input, &region)?;
    if !region.down.is_empty() || !region.pending.is_empty() {
        return Err(Why::NotReplicated);
    }
    is_let(input, &region)?;
    match role {
        Role::Leader => lead(input, config.leader, &region, source),
        Role::Peer => bring(input, config, &region, source, dice),
    }
}

fn lead(input: &Input<'_>, to: StoreId, region: &Region, source: &StoreInfo) -> Result<Operator, Why> {
    if let Some(why) = leader_source_refusal(input.view, source) {
        return Err(Why::Filter(why));
    }
    if !candidates(input, region).iter().any(|store| store.id() == to) {
        return Err(Why::NoTarget);
    }
    let input = &Input { name: desc::GRANT_HOT_LEADER, ..*input };
    let op = transfer(input, region, to, Kind::LEADER, Priority::High)?;
    let scale = Scale::new(*input, Measure::Leaders);
    Ok(Operator { choice: Some(choice(input, &scale, region, to)), ..op })
}

fn bring(
    input: &Input<'_>,
    config: &GrantHot,
    region: &Region,
    source: &StoreInfo,
    dice: &mut Dice,
) -> Result<Operator, Why> {
    let view = input.view;
    if let Some(why) = peer_source_refusal(view, input.budget, source) {
        return Err(Why::Filter(why));
    }
    let fit = whole_fit(input, region)?;
    let old = region.meta.peer_on(source.id()).ok_or(Why::NoRegion)?;
    let named = config.stores.iter().filter_map(|id| view.stores.get(id));
    let free = named.filter(|s| region.meta.peer_on(s.id()).is_none());
    let fitting: Vec<StoreId> =
        free.filter(|s| target_refusal(input, region, &fit, source, s).is_none()).map(|s| s.id()).collect();
    let target = dice.one(&fitting).ok_or(Why::NoTarget)?;
    let input = &Input { name: desc::GRANT_HOT_MOVE, ..*input };
    let mut op = move_peer(input, region, &fit, (old, *target), Kind::REGION | Kind::LEADER, Heir::Any)?;
    op.priority = Priority::High;
    op.choice = Some(choice_by_chance(input, (region, &fit), source, *target));
    Ok(op)
}
