//! balance-leader: evens the leaders of all stores out.
//!
//! Owns: which leader goes where. The fullest store gives or the emptiest takes, by turns, until `batch` transfers are found; what
//! a transfer of this round does to the scores counts for the next.

use std::sync::Arc;

use super::{
    config::Balance,
    dice::Dice,
    pick::{draw, may_balance},
    round::{Input, Round, Why, leader_source_refusal},
    weigh::{Measure, Scale},
};
use crate::{
    model::{KeyRange, Peer, Region, Role, RuleRole, StoreId},
    scheduler::{
        filter::{self, Choice, Refusal},
        operator::{Builder, Kind, Operator, Priority},
        outcome::Reason,
        placement::{RegionFit, fit, labels},
    },
    store::{Held, StoreInfo},
};

/// Regions that are looked at for one store (PD's number).
pub(super) const TRIES: usize = 10;
/// Regions that one round looks at in all: the time of a round must not grow with the number of stores.
pub(super) const LOOKS: usize = 256;

/// See the module's comment.
pub(super) fn balance(input: &Input<'_>, config: &Balance, dice: &mut Dice) -> Round {
    let scale = Scale::new(*input, Measure::Leaders);
    Leaders { input, ranges: &config.ranges, kind: Kind::LEADER, round: Round::default(), scale, looks: LOOKS }
        .run(config.batch, dice)
}

/// One round of evening leaders out, over all keys or a part of them.
pub(super) struct Leaders<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) ranges: &'a [KeyRange],
    pub(super) kind: Kind,
    pub(super) round: Round,
    pub(super) scale: Scale<'a>,
    pub(super) looks: usize,
}

impl Leaders<'_> {
    pub(super) fn run(mut self, batch: usize, dice: &mut Dice) -> Round {
        let (mut sources, mut targets) = self.stores();
        while self.round.ops.len() < batch && self.looks > 0 {
            let Some(source) = sources.iter().max_by_key(|s| (self.scale.giving(s), s.id())).cloned() else { break };
            let Some(target) = targets.iter().min_by_key(|s| (self.scale.taking(s, None), s.id())).cloned() else {
                break;
            };
            if !self.scale.differs(&source, &target) {
                self.round.refuse(source.id(), Why::Score);
                self.round.refuse(target.id(), Why::Score);
                break;
            }
            let found = match self.give(&source, dice) {
                Some(op) => Some(op),
                None => {
                    sources.retain(|s| s.id() != source.id());
                    self.take(&target, dice)
                }
            };
            match found {
                Some(op) => {
                    self.scale.count(&op);
                    self.round.propose(op);
                }
                None => targets.retain(|s| s.id() != target.id()),
            }
        }
        self.round
    }

    /// Who may give leaders, and who may take some.
    fn stores(&mut self) -> (Vec<Arc<StoreInfo>>, Vec<Arc<StoreInfo>>) {
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for store in self.input.view.stores.values() {
            match leader_source_refusal(self.input.view, store) {
                None => sources.push(store.clone()),
                Some(why) => self.round.refuse(store.id(), Why::Filter(why)),
            }
            match filter::leader_refusal(self.input.view, store) {
                None => targets.push(store.clone()),
                Some(why) => self.round.refuse(store.id(), Why::Filter(why)),
            }
        }
        (sources, targets)
    }

    /// A leader of `source` for another store.
    fn give(&mut self, source: &StoreInfo, dice: &mut Dice) -> Option<Operator> {
        for _ in 0..TRIES.min(self.looks) {
            self.looks -= 1;
            let Some(region) = draw(self.input, dice, source.id(), Held::Leader, self.ranges) else {
                self.round.events.push("no-leader-region");
                self.round.refuse(source.id(), Why::NoRegion);
                return None;
            };
            match self.transfer(&region, source, None) {
                Ok(op) => return Some(op),
                Err(why) => self.round.refuse(source.id(), why),
            }
        }
        None
    }

    /// A leader of another store for `target`.
    fn take(&mut self, target: &StoreInfo, dice: &mut Dice) -> Option<Operator> {
        for _ in 0..TRIES.min(self.looks) {
            self.looks -= 1;
            let Some(region) = draw(self.input, dice, target.id(), Held::Follower, self.ranges) else {
                self.round.events.push("no-follower-region");
                self.round.refuse(target.id(), Why::NoRegion);
                return None;
            };
            let source = region.leader_store().and_then(|id| self.input.view.stores.get(&id));
            let Some(source) = source.filter(|s| leader_source_refusal(self.input.view, s).is_none()) else { continue };
            match self.transfer(&region, source, Some(target.id())) {
                Ok(op) => return Some(op),
                Err(why) => self.round.refuse(target.id(), why),
            }
        }
        None
    }

    /// The transfer of one region's leader from `source`, to `only` if given.
    fn transfer(&self, region: &Region, source: &StoreInfo, only: Option<StoreId>) -> Result<Operator, Why> {
        may_balance(self.input, region)?;
        if self.round.has(region.id()) {
            return Err(Why::Region(Reason::OperatorRunning(region.id())));
        }
        let candidates = candidates(self.input, region).into_iter().filter(|s| only.is_none_or(|id| s.id() == id));
        let best = candidates.min_by_key(|s| (self.scale.taking(s, Some(region)), s.id()));
        let target = best.ok_or(Why::NoTarget)?;
        let (from, to) = self.scale.weigh(region, source, target)?;
        let mut op = transfer(self.input, region, target.id(), self.kind, Priority::Medium)?;
        op.info.insert("sourceScore".to_owned(), from.text());
        op.info.insert("targetScore".to_owned(), to.text());
        op.choice = Some(choice(self.input, &self.scale, region, target.id()));
        Ok(op)
    }
}

/// The stores of the region's voters that could lead by themselves and do not.
fn well_voters<'a>(input: &Input<'a>, region: &Region) -> impl Iterator<Item = &'a StoreInfo> {
    let stores = input.view.stores;
    let well = move |p: &&Peer| !region.is_down(p.id) && !region.is_pending(p.id) && !p.is_witness;
    let others =
        region.peers().iter().filter(move |p| Some(p.id) != region.leader && p.role == Role::Voter).filter(well);
    others.filter_map(move |p| stores.get(&p.store)).map(AsRef::as_ref)
}

/// The stores to which a region's leader may go now.
pub(super) fn candidates<'a>(input: &Input<'a>, region: &Region) -> Vec<&'a StoreInfo> {
    well_voters(input, region).filter(|s| target_refusal(input, region, s).is_none()).collect()
}

/// Why the leader of `region` may not go to `store`, where it has a healthy voter.
pub(super) fn target_refusal(input: &Input<'_>, region: &Region, store: &StoreInfo) -> Option<Refusal> {
    filter::leader_refusal(input.view, store)
        .or_else(|| (!rules_let_lead(input, region, store)).then_some(Refusal::RuleFitLeader))
}

/// How `chosen` was found among the stores of the region's other voters, for whoever asks about the operator.
pub(super) fn choice(input: &Input<'_>, scale: &Scale<'_>, region: &Region, chosen: StoreId) -> Box<Choice> {
    choice_by(input, region, chosen, |store| scale.rank(store).points())
}

/// The same for stores that `score` puts in order; less is better.
pub(super) fn choice_by(
    input: &Input<'_>,
    region: &Region,
    chosen: StoreId,
    score: impl Fn(&StoreInfo) -> f64,
) -> Box<Choice> {
    let judged = well_voters(input, region).map(|store| {
        let refusal = target_refusal(input, region, store);
        (store.id(), refusal.map_or_else(|| Ok(score(store)), Err))
    });
    Box::new(Choice::of(chosen, judged))
}

/// Whether the rules are served as well with the leader on `store`.
pub(super) fn rules_let_lead(input: &Input<'_>, region: &Region, store: &StoreInfo) -> bool {
    let settings = input.view.settings;
    let rules = settings.rules.for_region(region);
    if !settings.replication.enable_placement_rules || rules.is_empty() {
        return true;
    }
    let leads = |role| matches!(role, RuleRole::Leader | RuleRole::Voter);
    if !rules.iter().any(|r| leads(r.role) && labels::matches(&store.record, &r.constraints)) {
        return false;
    }
    if rules.iter().all(|r| matches!(r.role, RuleRole::Voter | RuleRole::Learner)) {
        return true;
    }
    let served = |fit: &RegionFit| {
        let apart: f64 = fit.rules.iter().map(|r| r.isolation_score).sum();
        (fit.rules.iter().filter(|r| r.is_satisfied()).count(), apart)
    };
    let moved = Region { leader: region.meta.peer_on(store.id()).map(|p| p.id), ..region.clone() };
    let before = settings.rules.fit(region, input.view.stores).map_or_else(Default::default, |fit| served(&fit));
    let after = served(&fit(&moved, rules, input.view.stores));
    after.0 >= before.0 && after.1 >= before.1
}

/// The operator of a transfer.
pub(super) fn transfer(
    input: &Input<'_>,
    region: &Region,
    to: StoreId,
    kind: Kind,
    priority: Priority,
) -> Result<Operator, Why> {
    let builder = Builder::new(*input.view, region, input.name).set_leader(to).priority(priority);
    builder.build(kind).map_err(|e| Why::Region(Reason::Build(e.to_string())))
}
