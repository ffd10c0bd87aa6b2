//! Regions against `max-replicas` and the location labels, when placement rules are off.
//!
//! Owns: the order of repairs and their names, for learners and for the number and place of replicas. Must not know: which store is
//! best (`filter`), which steps an operator needs (`operator::builder`).

use super::{
    Found,
    deny::{Cause, denied},
    joint,
    memory::Memory,
    parts,
    pause::CheckerName,
    peek,
};
use crate::{
    model::{Peer, Region, StoreId, StoreState, names::desc},
    scheduler::{
        filter::{self, Budget, Wanted, choose_target},
        operator::{Builder, Kind, Operator, Priority},
        outcome::Reason,
        view::ClusterView,
    },
    store::StoreInfo,
};

/// The learner checker, then the replica checker.
pub(super) fn find(view: &ClusterView<'_>, budget: &dyn Budget, memory: &Memory, region: &Region) -> Found {
    let paused = |checker| memory.pauses.is_paused(checker, view.now);
    let learners = peek(paused(CheckerName::Learner), CheckerName::Learner, || promote(view, region));
    if let Ok(Some(operator)) = learners {
        return Ok(Some(operator));
    }
    let replicas = if paused(CheckerName::Replica) {
        let look = Checker { view, budget: &super::without_room(budget), region };
        peek(true, CheckerName::Replica, || look.find())
    } else {
        Checker { view, budget, region }.find()
    };
    match replicas {
        Ok(None) => learners,
        found => found,
    }
}

/// `promote-learner`: without rules every peer is a voter; one that lags must not vote yet.
fn promote(view: &ClusterView<'_>, region: &Region) -> Found {
    let mut lagging = None;
    for peer in region.meta.learners() {
        if region.is_down(peer.id) || region.is_pending(peer.id) {
            lagging = lagging.or(Some(Reason::PendingPeer(peer.id)));
            continue;
        }
        denied(view, region, Cause::Repair)?;
        let builder = Builder::new(*view, region, desc::PROMOTE_LEARNER).promote_learner(peer.store);
        return builder.build(Kind::default()).map(Some).map_err(joint::reason);
    }
    lagging.map_or(Ok(None), Err)
}

/// Why a peer has to go, with the names of the operator that takes another in its place and of the one that only removes it.
struct Loss {
    replace: &'static str,
    remove: &'static str,
    cause: Cause,
}

const DOWN: Loss =
    Loss { replace: desc::REPLACE_DOWN_REPLICA, remove: desc::REMOVE_EXTRA_DOWN_REPLICA, cause: Cause::Repair };
const OFFLINE: Loss =
    Loss { replace: desc::REPLACE_OFFLINE_REPLICA, remove: desc::REMOVE_EXTRA_OFFLINE_REPLICA, cause: Cause::Offline };

/// The arguments of all parts of a check.
struct Checker<'a> {
    view: &'a ClusterView<'a>,
    budget: &'a dyn Budget,
    region: &'a Region,
}

impl Checker<'_> {
    /// PD's order: down, offline, missing, left over, better location. A part that cannot help does not keep the next one from
    /// helping; what kept the first one is told if nothing else is done.
    fn find(&self) -> Found {
        let parts: [fn(&Self) -> Found; 5] =
            [Self::down, Self::offline, Self::missing, Self::left_over, Self::better_location];
        let mut blocked = None;
        for part in parts {
            match part(self) {
                Ok(Some(operator)) => return Ok(Some(operator)),
                Ok(None) => {}
                Err(reason) => blocked = blocked.or(Some(reason)),
            }
        }
        blocked.map_or(Ok(None), Err)
    }

    fn down(&self) -> Found {
        let lost = |p: &&Peer| {
            self.region.is_down(p.id) && self.view.stores.get(&p.store).is_some_and(|s| filter::is_down(self.view, s))
        };
        let Some(peer) = self.region.peers().iter().find(lost) else { return Ok(None) };
        if !self.view.settings.schedule.enable_remove_down_replica {
            return Err(Reason::SwitchedOff("enable-remove-down-replica"));
        }
        self.fix(peer, &DOWN).map(Some)
    }

    fn offline(&self) -> Found {
        let leaves = |p: &&Peer| self.view.stores.get(&p.store).is_some_and(|s| s.record.state != StoreState::Up);
        let Some(peer) = self.region.peers().iter().find(leaves) else { return Ok(None) };
        if !self.view.settings.schedule.enable_replace_offline_replica {
            return Err(Reason::SwitchedOff("enable-replace-offline-replica"));
        }
        // A new peer of an earlier move is still a learner: the move goes on, or the learner checker ends it.
        if let Some(learner) = self.region.meta.learners().next() {
            return Err(Reason::PendingPeer(learner.id));
        }
        self.fix(peer, &OFFLINE).map(Some)
    }

    /// Removes the peer if there are enough others, else moves it.
    fn fix(&self, peer: &Peer, loss: &Loss) -> Result<Operator, Reason> {
        denied(self.view, self.region, loss.cause)?;
        parts::room(self.view, self.budget)?;
        let builder = if self.voters() > self.max_replicas() {
            self.builder(loss.remove).remove_peer(peer.store)
        } else {
            let beside = self.stores(Some(peer.store));
            let target = choose_target(self.view, self.budget, &self.wanted(&beside))?;
            parts::may_give(self.view, self.budget, self.region, peer.store)?;
            self.builder(loss.replace).remove_peer(peer.store).add_peer(new_peer(target))
        };
        builder.priority(Priority::High).build(Kind::REPLICA).map_err(joint::reason)
    }

    fn missing(&self) -> Found {
        if self.region.peers().len() as u64 >= self.max_replicas() {
            return Ok(None);
        }
        if !self.view.settings.schedule.enable_make_up_replica {
            return Err(Reason::SwitchedOff("enable-make-up-replica"));
        }
        denied(self.view, self.region, Cause::Repair)?;
        parts::room(self.view, self.budget)?;
        let target = choose_target(self.view, self.budget, &self.wanted(&self.stores(None)))?;
        let builder = self.builder(desc::MAKE_UP_REPLICA).add_peer(new_peer(target)).priority(Priority::High);
        builder.build(Kind::REPLICA).map(Some).map_err(joint::reason)
    }

    /// Only voters count: a learner may be the new peer of a move under way.
    fn left_over(&self) -> Found {
        if self.voters() <= self.max_replicas() {
            return Ok(None);
        }
        if !self.view.settings.schedule.enable_remove_extra_replica {
            return Err(Reason::SwitchedOff("enable-remove-extra-replica"));
        }
        denied(self.view, self.region, Cause::Repair)?;
        parts::room(self.view, self.budget)?;
        let Some(worst) = self.worst_placed() else { return Ok(None) };
        parts::may_improve(self.view, self.budget, worst)?;
        let builder = self.builder(desc::REMOVE_EXTRA_REPLICA).remove_peer(worst.id());
        builder.build(Kind::REPLICA).map(Some).map_err(joint::reason)
    }

    fn better_location(&self) -> Found {
        if self.location_labels().is_empty() {
            return Ok(None);
        }
        let Some(old) = self.worst_placed() else { return Ok(None) };
        let beside = self.stores(Some(old.id()));
        let wanted = Wanted { better_than: Some(old), ..self.wanted(&beside) };
        let Some(target) = parts::better_target(self.view, self.budget, self.region, &wanted, old)? else {
            return Ok(None);
        };
        let builder = self.builder(desc::MOVE_TO_BETTER_LOCATION).remove_peer(old.id()).add_peer(new_peer(target));
        builder.build(Kind::REPLICA).map(Some).map_err(joint::reason)
    }

    fn worst_placed(&self) -> Option<&StoreInfo> {
        parts::worst_placed(self.view, &self.stores(None), self.location_labels())
    }

    fn stores(&self, without: Option<StoreId>) -> Vec<&StoreInfo> {
        parts::stores_of(self.view, self.region.peers(), without)
    }

    fn voters(&self) -> u64 {
        self.region.meta.voters().count() as u64
    }

    fn max_replicas(&self) -> u64 {
        self.view.settings.replication.max_replicas
    }

    fn location_labels(&self) -> &[String] {
        &self.view.settings.replication.location_labels
    }

    fn wanted<'b>(&'b self, beside: &'b [&'b StoreInfo]) -> Wanted<'b> {
        Wanted {
            region: self.region,
            constraints: &[],
            location_labels: self.location_labels(),
            isolation_level: &self.view.settings.replication.isolation_level,
            beside,
            better_than: None,
        }
    }

    fn builder(&self, desc: &str) -> Builder<'_> {
        Builder::new(*self.view, self.region, desc)
    }
}

/// A voter on this store; its id is filled in when the operator is built.
fn new_peer(store: StoreId) -> Peer {
    Peer { store, ..Peer::default() }
}
