//! balance-region: evens out what stores hold.
//!
//! Owns: which peer goes where. From the fullest store on, a peer that does not lead is tried before one that leads and before a
//! learner; it goes to the emptiest store that the rules allow and that keeps the peers as far apart as they are.

use std::sync::Arc;

use super::{
    config::Balance,
    dice::Dice,
    leader::{LOOKS, TRIES, candidates},
    pick::{draw, may_balance, whole_fit},
    round::{Input, Round, Why, peer_source_refusal},
    weigh::{Measure, Scale},
};
use crate::{
    model::{KeyRange, Peer, PeerId, Region, RuleRole, StoreId},
    scheduler::{
        filter::{self, Choice, Refusal, Wanted},
        operator::{Kind, Operator},
        outcome::Reason,
        placement::{RegionFit, labels},
        score::Score,
    },
    store::{Held, StoreInfo},
};

/// Below this many regions empty ones are moved too (PD's number).
const FEW_REGIONS: usize = 100;
/// A region up to this size (MiB) is empty.
const EMPTY_MIB: u64 = 1;

/// See the module's comment.
pub(super) fn balance(input: &Input<'_>, config: &Balance, dice: &mut Dice) -> Round {
    let scale = Scale::new(*input, Measure::Peers);
    Peers { input, ranges: &config.ranges, kind: Kind::REGION, round: Round::default(), scale }.run(dice)
}

/// One round of evening peers out, over all keys or a part of them.
pub(super) struct Peers<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) ranges: &'a [KeyRange],
    pub(super) kind: Kind,
    pub(super) round: Round,
    pub(super) scale: Scale<'a>,
}

impl<'a> Peers<'a> {
    pub(super) fn run(mut self, dice: &mut Dice) -> Round {
        let mut sources = self.ranked();
        let least = sources.iter().min_by_key(|(_, s)| (self.scale.taking(s, None), s.id())).cloned();
        sources.retain(|(_, store)| match peer_source_refusal(self.input.view, self.input.budget, store) {
            None => true,
            Some(why) => {
                self.round.refuse(store.id(), Why::Filter(why));
                false
            }
        });
        let mut looks = LOOKS;
        for (_, source) in sources {
            // When the first to take would not take a mean region from here, nobody would take one from a later store.
            if least.as_ref().is_none_or(|(_, least)| !self.scale.differs(&source, least)) {
                self.round.refuse(source.id(), Why::Score);
                break;
            }
            if let Some(op) = self.give(&source, &mut looks, dice) {
                self.round.propose(op);
                return self.round;
            }
            if looks == 0 {
                break;
            }
        }
        self.round
    }

    /// The stores that hold something or could, the first to give first.
    fn ranked(&self) -> Vec<(Score, Arc<StoreInfo>)> {
        let live = self.input.view.stores.values().filter(|s| filter::state_refusal(self.input.view, s).is_none());
        let mut ranked: Vec<_> = live.map(|s| (self.scale.giving(s), s.clone())).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.id().cmp(&b.1.id())));
        ranked
    }

    /// A peer of `source` for another store.
    fn give(&mut self, source: &StoreInfo, looks: &mut usize, dice: &mut Dice) -> Option<Operator> {
        for _ in 0..TRIES {
            let mut met = false;
            for held in [Held::Follower, Held::Leader, Held::Learner] {
                if *looks == 0 {
                    return None;
                }
                let Some(region) = draw(self.input, dice, source.id(), held, self.ranges) else { continue };
                *looks -= 1;
                met = true;
                match self.movable(&region).and_then(|fit| self.transfer(&region, &fit, source)) {
                    Ok(op) => return Some(op),
                    Err(why) => self.round.refuse(source.id(), why),
                }
            }
            if !met {
                self.round.events.push("no-region");
                self.round.refuse(source.id(), Why::NoRegion);
                return None;
            }
        }
        None
    }

    /// Whether the region is whole and worth moving.
    fn movable(&self, region: &Region) -> Result<Arc<RegionFit>, Why> {
        may_balance(self.input, region)?;
        let empty = region.size_known && region.size_mib <= EMPTY_MIB;
        if empty && self.input.view.regions.len() >= FEW_REGIONS {
            return Err(Why::Empty);
        }
        whole_fit(self.input, region)
    }

    /// The move of one region's peer from `source` to the store that may take it and is the emptiest with it.
    fn transfer(&mut self, region: &Region, fit: &RegionFit, source: &StoreInfo) -> Result<Operator, Why> {
        let view = self.input.view;
        let old = region.meta.peer_on(source.id()).ok_or(Why::NoRegion)?;
        let mut best: Option<((Score, StoreId), &StoreInfo)> = None;
        for store in view.stores.values().map(AsRef::as_ref).filter(|s| s.id() != source.id()) {
            let rank = (self.scale.taking(store, Some(region)), store.id());
            if best.as_ref().is_some_and(|(least, _)| *least <= rank) {
                continue;
            }
            match target_refusal(self.input, region, fit, source, store) {
                None => best = Some((rank, store)),
                Some(why) => self.round.refuse(store.id(), Why::Filter(why)),
            }
        }
        let (_, target) = best.ok_or(Why::NoTarget)?;
        let (from, to) = self.scale.weigh(region, source, target)?;
        let mut op = move_peer(self.input, region, fit, (old, target.id()), self.kind, Heir::Any)?;
        op.info.insert("sourceScore".to_owned(), from.text());
        op.info.insert("targetScore".to_owned(), to.text());
        let score = |store: &StoreInfo| self.scale.rank(store).points();
        op.choice = Some(choice_by(self.input, (region, fit), source, target.id(), score));
        Ok(op)
    }
}

/// How `chosen` was found for the peer of `region` on `source`, for whoever asks about the operator. `score` puts stores in order;
/// less is better.
pub(super) fn choice_by(
    input: &Input<'_>,
    (region, fit): (&Region, &RegionFit),
    source: &StoreInfo,
    chosen: StoreId,
    score: impl Fn(&StoreInfo) -> f64,
) -> Box<Choice> {
    let others = input.view.stores.values().map(AsRef::as_ref).filter(|s| s.id() != source.id());
    let judged = others.map(|store| {
        let refusal = target_refusal(input, region, fit, source, store);
        (store.id(), refusal.map_or_else(|| Ok(score(store)), Err))
    });
    Box::new(Choice::of(chosen, judged))
}

/// The same for a store that chance chose: the scores tell how full the others are.
pub(super) fn choice_by_chance(
    input: &Input<'_>,
    of: (&Region, &RegionFit),
    source: &StoreInfo,
    chosen: StoreId,
) -> Box<Choice> {
    let scale = Scale::new(*input, Measure::Peers);
    choice_by(input, of, source, chosen, |store| scale.rank(store).points())
}

/// Who leads after the move of a peer that leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heir {
    /// Any peer that can.
    Any,
    /// The peer that takes its place.
    Successor,
}

/// The operator that moves a peer. Where rules tell the leader from the others, it stays, or the peer that takes its place leads.
pub(super) fn move_peer(
    input: &Input<'_>,
    region: &Region,
    fit: &RegionFit,
    (old, to): (&Peer, StoreId),
    kind: Kind,
    heir: Heir,
) -> Result<Operator, Why> {
    let new = Peer { id: PeerId(0), store: to, ..*old };
    let leads = region.leader == Some(old.id);
    let successor = leads && (heir == Heir::Successor || tells_leaders_apart(fit));
    let takes_leaders = || {
        let info = input.view.stores.get(&to);
        info.is_some_and(|info| filter::leader_refusal(input.view, info).is_none())
    };
    // A leader must not fall to a store that takes none for want of another.
    if leads && !takes_leaders() && (successor || candidates(input, region).is_empty()) {
        return Err(Why::NoTarget);
    }
    let leader =
        if successor { Some(to) } else { region.leader_store().filter(|_| !leads && tells_leaders_apart(fit)) };
    Operator::move_peer(*input.view, region, input.name, old.store, new, leader, kind)
        .map_err(|e| Why::Region(Reason::Build(e.to_string())))
}

/// Whether it matters to the rules who leads.
pub(super) fn tells_leaders_apart(fit: &RegionFit) -> bool {
    fit.rules.iter().any(|r| matches!(r.rule.role, RuleRole::Leader | RuleRole::Follower))
}

/// Why the peer of `region` on `source` may not be replaced by one on `store`.
pub(super) fn target_refusal(
    input: &Input<'_>,
    region: &Region,
    fit: &RegionFit,
    source: &StoreInfo,
    store: &StoreInfo,
) -> Option<Refusal> {
    let view = input.view;
    let Some(rule) = fit.rule_of(source.id()) else { return Some(Refusal::RuleFit) };
    let others = rule.peers.iter().filter(|p| p.store != source.id());
    let beside: Vec<&StoreInfo> = others.filter_map(|p| view.stores.get(&p.store)).map(AsRef::as_ref).collect();
    let wanted = Wanted {
        region,
        constraints: &rule.rule.constraints,
        location_labels: &rule.rule.location_labels,
        isolation_level: &rule.rule.isolation_level,
        beside: &beside,
        better_than: None,
    };
    let apart = |s: &StoreInfo| {
        labels::distinct_score(beside.iter().map(|s| &*s.record), &s.record, &rule.rule.location_labels)
    };
    // First what lasts: who may pass limits may not pass this.
    if apart(store) < apart(source) {
        return Some(Refusal::RuleFit);
    }
    filter::target_refusal(view, input.budget, &wanted, store)
}

/// A part of the key space as a list of ranges.
pub(super) fn only(range: &KeyRange) -> Vec<KeyRange> {
    vec![range.clone()]
}
