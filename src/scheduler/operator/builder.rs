//! From wanted peers to steps.
//!
//! Owns: what may be wished for, which peers are new, which leader is chosen, the operator's kind and short text. The order of
//! steps stands in `plan`, the choice of the leader in `leader`. Must not know: limits, who asks.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Kind, Operator, Priority, Step,
    leader::Candidates,
    plan::{Change, joint_steps, single_steps},
};
use crate::{
    model::{Feature, Peer, PeerId, Region, Role, RuleRole, StoreId, StoreState},
    scheduler::{
        placement::labels,
        view::{ClusterView, Settings},
    },
};

/// Why no operator could be built; PD's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    /// Any of PD's builder errors.
    #[error("{0}")]
    Refused(String),
    /// No id for a new peer.
    #[error("no id at hand for a new peer")]
    NoId,
}

impl BuildError {
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

/// Whether membership changes go through joint consensus: every store knows it and the configuration wants it.
pub fn joint_consensus(settings: &Settings) -> bool {
    settings.schedule.enable_joint_consensus && settings.version.supports(Feature::JointConsensus)
}

/// Whether peers may be witnesses: every store knows them and the configuration wants them.
pub fn witnesses(settings: &Settings) -> bool {
    settings.schedule.enable_witness && settings.version.supports(Feature::Witness)
}

/// Builds an operator for one region: name the peers that are wanted, then [`Builder::build`]. The first wish that cannot be
/// granted is what `build` answers.
#[derive(Debug)]
pub struct Builder<'a> {
    view: ClusterView<'a>,
    region: &'a Region,
    desc: String,
    priority: Option<Priority>,
    info: BTreeMap<String, String>,
    origin: BTreeMap<StoreId, Peer>,
    target: BTreeMap<StoreId, Peer>,
    unhealthy: BTreeSet<StoreId>,
    leader: Option<StoreId>,
    roles: BTreeMap<StoreId, RuleRole>,
    error: Option<BuildError>,
}

impl<'a> Builder<'a> {
    /// For `region`, with the peers it has now as the wish. `desc` as the operator will show it.
    pub fn new(view: ClusterView<'a>, region: &'a Region, desc: &str) -> Self {
        let origin: BTreeMap<_, _> = region.peers().iter().map(|p| (p.store, *p)).collect();
        let ailing = |p: &&Peer| region.is_down(p.id) || region.is_pending(p.id);
        let error = if region.peers().iter().any(|p| p.store == StoreId(0)) {
            Some("cannot build operator for region with nil peer")
        } else if region.leader_peer().is_none() {
            Some("cannot build operator for region with no leader")
        } else if region.meta.in_joint_state() {
            Some("cannot build operator for region which is in joint state")
        } else {
            None
        };
        Self {
            view,
            region,
            desc: desc.to_owned(),
            priority: None,
            info: BTreeMap::new(),
            target: origin.clone(),
            unhealthy: region.peers().iter().filter(ailing).map(|p| p.store).collect(),
            origin,
            leader: None,
            roles: BTreeMap::new(),
            error: error.map(BuildError::refused),
        }
    }

    /// Runs `wish` unless one before it was refused.
    fn wish(mut self, wish: impl FnOnce(&mut Self) -> Result<(), String>) -> Self {
        if self.error.is_none() {
            self.error = wish(&mut self).err().map(BuildError::Refused);
        }
        self
    }

    /// Wants a new peer (an id of 0 is filled in).
    #[must_use]
    pub fn add_peer(self, peer: Peer) -> Self {
        self.wish(|b| {
            if peer.store == StoreId(0) {
                return Err("cannot add nil peer".into());
            }
            if b.target.contains_key(&peer.store) {
                return Err(format!("cannot add peer to {}: already exists", peer.store));
            }
            b.target.insert(peer.store, peer);
            Ok(())
        })
    }

    /// Wants the peer on `store` gone.
    #[must_use]
    pub fn remove_peer(self, store: StoreId) -> Self {
        self.wish(|b| {
            if !b.target.contains_key(&store) {
                return Err(format!("cannot remove peer from {store}: not found"));
            }
            if b.leader == Some(store) {
                return Err(format!("cannot remove peer from {store}: is target leader"));
            }
            b.target.remove(&store);
            Ok(())
        })
    }

    /// Wants the learner on `store` as a voter.
    #[must_use]
    pub fn promote_learner(self, store: StoreId) -> Self {
        self.wish(|b| {
            let unhealthy = b.unhealthy.contains(&store);
            match b.target.get_mut(&store) {
                None => Err(format!("cannot promote peer {store}: not found")),
                Some(peer) if peer.role != Role::Learner => Err(format!("cannot promote peer {store}: is not learner")),
                Some(_) if unhealthy => Err(format!("cannot promote peer {store}: unhealthy")),
                Some(peer) => {
                    peer.role = Role::Voter;
                    Ok(())
                }
            }
        })
    }

    /// Wants the voter on `store` as a learner.
    #[must_use]
    pub fn demote_voter(self, store: StoreId) -> Self {
        self.wish(|b| match b.target.get_mut(&store) {
            None => Err(format!("cannot demote voter {store}: not found")),
            Some(peer) if peer.role == Role::Learner => Err(format!("cannot demote voter {store}: is already learner")),
            Some(peer) => {
                peer.role = Role::Learner;
                Ok(())
            }
        })
    }

    /// Wants the peer on `store` as a witness, or with data.
    #[must_use]
    pub fn switch_witness(self, store: StoreId, is_witness: bool) -> Self {
        self.wish(|b| match b.target.get_mut(&store) {
            None => Err(format!("cannot switch peer {store}: not found")),
            Some(peer) => {
                peer.is_witness = is_witness;
                Ok(())
            }
        })
    }

    /// Wants the leader on `store`.
    #[must_use]
    pub fn set_leader(self, store: StoreId) -> Self {
        self.wish(|b| match b.target.get(&store) {
            None => Err(format!("cannot transfer leader to {store}: not found")),
            Some(peer) if peer.role == Role::Learner => Err(format!("cannot transfer leader to {store}: not voter")),
            Some(_) if b.unhealthy.contains(&store) => Err(format!("cannot transfer leader to {store}: unhealthy")),
            Some(_) => {
                b.leader = Some(store);
                Ok(())
            }
        })
    }

    /// Wants exactly these peers.
    #[must_use]
    pub fn set_peers(self, peers: &BTreeMap<StoreId, Peer>) -> Self {
        self.wish(|b| {
            if peers.iter().any(|(store, peer)| *store != peer.store || peer.role.in_joint_state()) {
                return Err("setPeers with mismatch peers".into());
            }
            if b.leader.is_some_and(|leader| !peers.contains_key(&leader)) {
                b.leader = None;
            }
            b.target = peers.clone();
            Ok(())
        })
    }

    /// What the rules expect of the peer on each store: a follower must not lead (`transfer-region` with roles).
    #[must_use]
    pub fn set_expected_roles(mut self, roles: BTreeMap<StoreId, RuleRole>) -> Self {
        let leaders: Vec<_> = roles.iter().filter(|(_, r)| **r == RuleRole::Leader).map(|(s, _)| *s).collect();
        let may_lead = roles.values().any(|r| matches!(r, RuleRole::Leader | RuleRole::Voter));
        self = self.wish(|b| match leaders.len() {
            0 if !may_lead => Err("region need at least 1 voter or leader".into()),
            0 | 1 => {
                b.roles = roles;
                Ok(())
            }
            _ => Err("region cannot have multiple leaders".into()),
        });
        match leaders.first() {
            Some(store) => self.set_leader(*store),
            None => self,
        }
    }

    /// Sets the priority (else urgent for kind `ADMIN`, medium for any other).
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Adds a line of additional info.
    #[must_use]
    pub fn info(mut self, key: &str, value: String) -> Self {
        self.info.insert(key.to_owned(), value);
        self
    }

    /// The operator. `REGION` and `LEADER` are added to `kind` by what the steps do.
    ///
    /// # Errors
    /// The first wish that was refused, or what stands against the whole; `NoId` when new peers cannot be named now.
    pub fn build(mut self, mut kind: Kind) -> Result<Operator, BuildError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if !self.target.values().any(|p| p.role.votes()) {
            return Err(BuildError::refused("cannot create operator: target peers have no voter"));
        }
        self.keep_ids();
        let (mut change, joint) = self.change();
        let from = self
            .region
            .leader_store()
            .ok_or_else(|| BuildError::refused("cannot build operator for region with no leader"))?;
        let to = self.new_leader(&change, from, joint)?;
        let brief = change.brief(from, Some(to));
        self.name_new_peers(&mut change)?;
        let moves = if joint {
            joint_steps(&change, &self.origin, from, to)
        } else {
            // Dead peers go first: each removal then leaves the rest with a better majority than before.
            change.remove.sort_by_key(|p| (!self.unhealthy.contains(&p.store), p.store));
            let early = self.leads_early(&change, from, to);
            single_steps(&change, from, to, early, |new, gone| {
                (self.unhealthy.contains(&gone), self.nearness(new, gone))
            })
        };
        let steps = change.with_switches(moves);
        if steps.is_empty() {
            return Err(BuildError::refused("no operator step is built"));
        }
        if !change.add.is_empty() || !change.remove.is_empty() {
            kind |= Kind::REGION;
        }
        if steps.iter().any(|s| matches!(s, Step::TransferLeader { .. })) {
            kind |= Kind::LEADER;
        }
        let mut op = Operator::new(&self.desc, brief, self.region, kind, steps, self.view.now);
        op.priority = self.priority.unwrap_or(op.priority);
        op.info = self.info;
        Ok(op)
    }

    /// Whether the leader moves before a peer is added: PD wants it on a store that stays while the new peer is filled.
    fn leads_early(&self, change: &Change, from: StoreId, to: StoreId) -> bool {
        let stays = self.view.stores.get(&from).is_some_and(|s| s.record.state == StoreState::Up);
        !stays && !change.add.is_empty() && self.origin.get(&to).is_some_and(|p| p.role.votes())
    }

    /// At how many location levels, widest first, two stores are in the same place: a peer had best be replaced by one nearby.
    fn nearness(&self, a: StoreId, b: StoreId) -> usize {
        let levels = &self.view.settings.replication.location_labels;
        let (Some(a), Some(b)) = (self.view.stores.get(&a), self.view.stores.get(&b)) else { return 0 };
        labels::first_difference(&a.record, &b.record, levels).unwrap_or(levels.len())
    }

    /// A peer that stays keeps its id, whatever the wish says.
    fn keep_ids(&mut self) {
        for (store, peer) in &mut self.target {
            if let Some(old) = self.origin.get(store) {
                peer.id = old.id;
            }
        }
    }

    /// What has to change, and whether jointly.
    fn change(&self) -> (Change, bool) {
        let joint = joint_consensus(self.view.settings);
        let change = Change::between(&self.origin, &self.target, joint);
        let joint = joint && !change.is_single(self.target.len());
        (change, joint)
    }

    /// Who leads at the end.
    fn new_leader(&self, change: &Change, from: StoreId, joint: bool) -> Result<StoreId, BuildError> {
        let candidates = Candidates {
            view: self.view,
            region: self.region,
            origin: &self.origin,
            target: &self.target,
            unhealthy: &self.unhealthy,
            roles: &self.roles,
        };
        // A wish for a leader that is a learner or gone in the end was overtaken by a later wish.
        let wanted = self.leader.filter(|store| self.target.get(store).is_some_and(|p| p.role.votes()));
        if let Some(store) = wanted {
            return if candidates.allows(store) {
                Ok(store)
            } else {
                Err(BuildError::refused("cannot create operator: target leader is not allowed"))
            };
        }
        let stays = self.target.get(&from).is_some_and(|p| p.role.votes() && !p.is_witness);
        let peers_change = !change.promote.is_empty() || !change.add.is_empty() || !change.remove.is_empty();
        if stays && (!joint || !peers_change) && self.roles.is_empty() {
            return Ok(from);
        }
        candidates.choose().ok_or_else(|| BuildError::refused("no valid leader"))
    }

    /// Gives every new peer an id, in the order of stores. Only now: a refused operator uses up no id.
    fn name_new_peers(&self, change: &mut Change) -> Result<(), BuildError> {
        for peer in change.add.iter_mut().filter(|p| p.id == PeerId(0)) {
            peer.id = self.view.ids.next_peer_id().ok_or(BuildError::NoId)?;
        }
        Ok(())
    }
}
