//! Witnesses: peers that vote and keep the log only.
//!
//! Owns: what rules and lost peers mean for them. All of it holds only where the configuration and every store allow witnesses
//! (`enable-witness`); elsewhere every peer has data. Must not know: the order of repairs.

use super::{Checker, Loss, new_peer};
use crate::{
    model::{Peer, Rule, RuleRole, StoreId, names::desc},
    scheduler::{
        checker::{
            Found,
            deny::{Cause, denied},
            joint,
        },
        operator::{Kind, Operator, witnesses},
        placement::RuleFit,
    },
};

impl Checker<'_> {
    /// The name under which a lost peer is replaced by a witness first, since that needs no data, and so is a witness on a store that
    /// is being emptied. It gets its data afterwards if the rule wants data.
    pub(super) fn fast(&self, peer: &Peer, rule: &RuleFit, loss: Loss) -> Option<&'static str> {
        let is_column = self.view.stores.get(&peer.store).is_some_and(|s| s.record.is_tiflash());
        match loss {
            _ if is_column || !witnesses(self.view.settings) => None,
            Loss::Down => Some(desc::FAST_REPLACE_RULE_DOWN_PEER),
            Loss::Offline => rule.rule.is_witness.then_some(desc::FAST_REPLACE_RULE_OFFLINE_PEER),
        }
    }

    /// `promote-witness-for-down`: while a voter of the rule is silent, but not yet lost, a healthy witness gets data, so that as many
    /// peers have it as before.
    pub(super) fn promote_witness(&self, rule: &RuleFit) -> Option<Operator> {
        let is_silent = |p: &Peer| p.role.votes() && self.region.is_down(p.id) && !self.is_lost(p, Loss::Down);
        if !witnesses(self.view.settings) || !rule.peers.iter().any(is_silent) {
            return None;
        }
        denied(self.view, self.region, Cause::Repair).ok()?;
        let is_well = |p: &Peer| !self.region.is_down(p.id) && !self.region.is_pending(p.id);
        let witness = self.region.peers().iter().find(|p| p.is_witness && p.role.votes() && is_well(p))?;
        let (name, kind) = (desc::PROMOTE_WITNESS_FOR_DOWN, Kind::WITNESS | Kind::REGION);
        self.builder(name).switch_witness(witness.store, false).build(kind).ok()
    }

    /// `fix-witness-peer`, `fix-non-witness-peer`. A leader that shall be a witness hands over first (PD refuses, at every look).
    pub(super) fn fix_witness(&self, rule: &RuleFit) -> Found {
        let wanted = rule.rule.is_witness && witnesses(self.view.settings);
        let leads = |p: &Peer| self.region.leader == Some(p.id);
        // The leader last, so that it hands over once only.
        let wrong = rule.peers.iter().filter(|p| p.is_witness != wanted).min_by_key(|p| leads(p));
        let Some(peer) = wrong else { return Ok(None) };
        let interval = self.view.settings.schedule.switch_witness_interval.get();
        // A peer that has just got its data keeps it for a while, and nothing becomes a witness while another peer lags.
        let waits = wanted
            && (self.memory.was_filled(self.region.id(), interval, self.view.now)
                || !self.region.pending.is_empty()
                || !self.region.down.is_empty());
        if waits {
            return Ok(None);
        }
        denied(self.view, self.region, Cause::Repair)?;
        let name = if wanted { desc::FIX_WITNESS_PEER } else { desc::FIX_NON_WITNESS_PEER };
        let mut builder = self.builder(name).switch_witness(peer.store, wanted);
        if wanted && leads(peer) {
            builder =
                builder.set_leader(self.heir(rule, peer).ok_or_else(|| self.no_leader_among(self.region.peers()))?);
        }
        builder.build(Kind::WITNESS).map(Some).map_err(joint::reason)
    }

    /// Who leads instead of a leader that shall be a witness: a healthy peer whose own rule wants data and lets it lead. Nobody when it
    /// is the leader itself that the rule asks for.
    fn heir(&self, rule: &RuleFit, leader: &Peer) -> Option<StoreId> {
        if rule.rule.role == RuleRole::Leader {
            return None;
        }
        let stays = |r: &&RuleFit| matches!(r.rule.role, RuleRole::Leader | RuleRole::Voter) && !r.rule.is_witness;
        let well = |p: &&Peer| !self.region.is_down(p.id) && !self.region.is_pending(p.id);
        let mut peers = self.fit.rules.iter().filter(stays).flat_map(|r| &r.peers).filter(well);
        peers.find(|p| p.id != leader.id && self.may_lead(p)).map(|p| p.store)
    }

    /// The peer that a rule wants on a store; its id is filled in when the operator is built.
    pub(super) fn new_peer(&self, rule: &Rule, store: StoreId) -> Peer {
        let is_witness = rule.is_witness && witnesses(self.view.settings);
        Peer { is_witness, ..new_peer(rule, store) }
    }
}
