//! The operators of hot moves, and what stands against them.

use super::{Candidate, Field, Look};
use crate::{
    model::names::desc,
    scheduler::{
        balance::{
            leader::{self, candidates, transfer},
            pick::{is_idle, is_let, whole_fit},
            region::{self, Heir, move_peer, target_refusal},
            round::{Input, Why, leader_source_refusal, peer_source_refusal},
        },
        operator::{Kind, Operator, Priority},
    },
    store::StoreInfo,
};

impl Look<'_> {
    /// The operator of a move. What is being emptied is never a part of it: such stores are in no load.
    pub(super) fn operator(&self, candidate: &Candidate) -> Result<Operator, Why> {
        let (input, region) = (self.input, &*candidate.region);
        is_idle(input, region)?;
        if !region.down.is_empty() || !region.pending.is_empty() {
            return Err(Why::NotReplicated);
        }
        is_let(input, region)?;
        let source = input.view.stores.get(&candidate.shift.from).ok_or(Why::NoRegion)?;
        if candidate.way.transfers {
            return self.transfer(candidate, source);
        }
        self.peer_move(candidate, source)
    }

    fn transfer(&self, candidate: &Candidate, source: &StoreInfo) -> Result<Operator, Why> {
        let (input, region, to) = (self.input, &*candidate.region, candidate.shift.to);
        if let Some(why) = leader_source_refusal(input.view, source) {
            return Err(Why::Filter(why));
        }
        if !candidates(input, region).iter().any(|store| store.id() == to) {
            return Err(Why::NoTarget);
        }
        let name = match candidate.way.field {
            Field::Read => desc::TRANSFER_HOT_READ_LEADER,
            Field::WritePeer | Field::WriteLeader => desc::TRANSFER_HOT_WRITE_LEADER,
        };
        let kind = Kind::HOT_REGION | Kind::LEADER;
        let op = transfer(&Input { name, ..*input }, region, to, kind, Priority::High)?;
        let choice = leader::choice_by(input, region, to, |store| self.bears(candidate, store));
        Ok(Operator { choice: Some(choice), ..op })
    }

    /// What the store bears of what the move evens out, with what is under way: the score that choices tell.
    fn bears(&self, candidate: &Candidate, store: &StoreInfo) -> f64 {
        let loads = self.loads(candidate.way.field);
        let dim = if candidate.rank.first { loads.dims[0] } else { loads.dims[1] };
        loads.stores.get(&store.id()).map_or(0.0, |load| load.most.of(dim))
    }

    fn peer_move(&self, candidate: &Candidate, source: &StoreInfo) -> Result<Operator, Why> {
        let (input, region, view) = (self.input, &*candidate.region, self.input.view);
        let too_large = u64::try_from(view.settings.schedule.max_movable_hot_peer_size).unwrap_or(0);
        if region.size_mib > too_large {
            return Err(Why::NoRegion);
        }
        if let Some(why) = peer_source_refusal(view, input.budget, source) {
            return Err(Why::Filter(why));
        }
        let fit = whole_fit(input, region)?;
        let old = region.meta.peer_on(source.id()).ok_or(Why::NoRegion)?;
        let target = view.stores.get(&candidate.shift.to).ok_or(Why::NoTarget)?;
        if let Some(why) = target_refusal(input, region, &fit, source, target) {
            return Err(Why::Filter(why));
        }
        let name = match (candidate.way.field, candidate.shift.leader) {
            (Field::Read, true) => desc::MOVE_HOT_READ_LEADER,
            (Field::Read, false) => desc::MOVE_HOT_READ_PEER,
            (_, true) => desc::MOVE_HOT_WRITE_LEADER,
            (_, false) => desc::MOVE_HOT_WRITE_PEER,
        };
        let (input, kind) = (&Input { name, ..*input }, Kind::HOT_REGION | Kind::REGION);
        let mut op = move_peer(input, region, &fit, (old, target.id()), kind, Heir::Successor)?;
        op.priority = Priority::High;
        let score = |store: &StoreInfo| self.bears(candidate, store);
        op.choice = Some(region::choice_by(input, (region, &fit), source, target.id(), score));
        Ok(op)
    }
}
