//! Which peer leads while the others are moved.
//!
//! Owns: who may take the leadership over and who takes it best. Must not know: the order of steps.
//!
//! The rule, as recordings show it: the candidates are the voters with data that the region shall have, on stores that take
//! leaders (a busy one does not). One that is asked to lead by its role comes first, then those on stores in service, then the present
//! leader, then peers that vote already, then peers that are there already. Of what is left, recorded drains of evenly filled
//! stores show the smallest store id, and a recorded walk shows store 5 before store 3 when store 3 leads more regions. Berth
//! takes the store with the fewest leaders for its weight, then the smallest id: that agrees with both and needs no chance.
//!
//! A store that the label property `reject-leader` names takes no leader, also of a store that is being emptied, as long as another
//! can. When no other can, it does: a leader in the wrong place serves its region, a drain that waits for a store that may never
//! come serves nobody. The label scheduler moves the leader on as soon as there is a place. (PD has no valid leader then.)
//!
//! A store that is being emptied itself leads when those in service that stay reject leaders or may take none now (busy, slow, paused):
//! it serves its regions well until its own turn comes, as in PD.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    model::{NodeState, Peer, Region, Role, RuleRole, StoreId, StoreState},
    scheduler::{placement::labels, view::ClusterView},
    store::{Liveness, StoreInfo},
};

/// Weights below this count as this: a store of weight 0 should lead nothing, but division must not overflow.
const LEAST_WEIGHT: f64 = 1e-6;

/// What is known while a leader is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates<'a> {
    pub(super) view: ClusterView<'a>,
    pub(super) region: &'a Region,
    /// The peers as they are.
    pub(super) origin: &'a BTreeMap<StoreId, Peer>,
    /// The peers as they shall be.
    pub(super) target: &'a BTreeMap<StoreId, Peer>,
    /// Stores whose peer is down or pending.
    pub(super) unhealthy: &'a BTreeSet<StoreId>,
    /// Roles that a person or a rule asks for.
    pub(super) roles: &'a BTreeMap<StoreId, RuleRole>,
}

/// What is let pass in a store that shall lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mercy {
    /// Nothing.
    None,
    /// That it rejects leaders.
    Rejecting,
    /// Whatever is only better avoided.
    Any,
}

/// How well a store would lead; greater is better.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    asked_for: bool,
    in_service: bool,
    leads_now: bool,
    votes_now: bool,
    is_there: bool,
    leaders: Reverse<u64>,
    store: Reverse<StoreId>,
}

impl Candidates<'_> {
    /// The best store to lead, if any may; one that rejects leaders only for want of another.
    pub(super) fn choose(&self) -> Option<StoreId> {
        self.best(Mercy::None).or_else(|| self.best(Mercy::Rejecting))
    }

    /// The same for a joint state that cannot be left otherwise: stores that should rather not lead (busy, silent, paused) may too.
    pub(super) fn choose_any(&self) -> Option<StoreId> {
        self.choose().or_else(|| self.best(Mercy::Any))
    }

    fn best(&self, mercy: Mercy) -> Option<StoreId> {
        self.target.keys().copied().filter(|store| self.may_lead(*store, mercy)).max_by_key(|store| self.rank(*store))
    }

    /// Whether the peer that `store` shall have may lead.
    pub(super) fn allows(&self, store: StoreId) -> bool {
        self.may_lead(store, Mercy::None)
    }

    fn may_lead(&self, store: StoreId, mercy: Mercy) -> bool {
        let leads = |p: &Peer| matches!(p.role, Role::Voter | Role::IncomingVoter) && !p.is_witness;
        let votes = self.target.get(&store).is_some_and(leads);
        if !votes || matches!(self.roles.get(&store), Some(RuleRole::Follower | RuleRole::Learner)) {
            return false;
        }
        if self.region.leader_store() == Some(store) {
            return true;
        }
        let Some(info) = self.view.stores.get(&store) else { return false };
        if self.unhealthy.contains(&store) || info.record.state == StoreState::Tombstone {
            return false;
        }
        let rejects = || self.view.settings.rejects_leaders(&info.record);
        mercy == Mercy::Any
            || (self.takes_leaders(info) && self.rules_allow(info) && (mercy == Mercy::Rejecting || !rejects()))
    }

    /// Whether the store is fit to take a leader over now.
    fn takes_leaders(&self, store: &StoreInfo) -> bool {
        let down_after = self.view.settings.schedule.max_store_down_time.get();
        store.pause_leader_in == 0
            && !store.stats.is_busy
            && store.liveness(self.view.leader_since, self.view.now.mono, down_after) == Liveness::Connected
    }

    /// Whether some rule of the region lets a peer on the store lead. A region without rules asks for nothing.
    fn rules_allow(&self, store: &StoreInfo) -> bool {
        let settings = self.view.settings;
        let rules = settings.rules.for_region(self.region);
        if !settings.replication.enable_placement_rules || rules.is_empty() {
            return true;
        }
        rules.iter().any(|rule| {
            matches!(rule.role, RuleRole::Leader | RuleRole::Voter) && labels::matches(&store.record, &rule.constraints)
        })
    }

    fn rank(&self, store: StoreId) -> Rank {
        let info = self.view.stores.get(&store);
        let weight = info.map_or(1.0, |s| s.record.leader_weight);
        let weight = if weight.is_finite() { weight.max(LEAST_WEIGHT) } else { 1.0 };
        let leaders = self.view.regions.summary(store).leader_count as f64 / weight;
        Rank {
            asked_for: self.roles.get(&store) == Some(&RuleRole::Leader),
            in_service: info.is_some_and(|s| matches!(s.record.node_state, NodeState::Preparing | NodeState::Serving)),
            leads_now: self.region.leader_store() == Some(store),
            votes_now: self.origin.get(&store).is_some_and(|p| p.role.votes()),
            is_there: self.origin.contains_key(&store),
            // Thousandths are enough to tell weighted counts apart.
            leaders: Reverse((leaders * 1000.0) as u64),
            store: Reverse(store),
        }
    }
}
