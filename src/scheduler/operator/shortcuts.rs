//! The operators that are asked for by name.
//!
//! Owns: their wishes to the builder, and those that no builder makes: a split, a merge, the leaving of a joint state.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BuildError, Builder, Kind, Operator, PeerAt, Priority, Step, builder::witnesses, leader::Candidates,
    step::split_policy_name,
};
use crate::{
    model::{
        Key, Peer, PeerId, Region, Role, StoreId,
        names::{desc, info},
    },
    scheduler::view::ClusterView,
};

impl Operator {
    /// Moves the leader to `to`.
    ///
    /// # Errors
    /// When the peer there must not lead.
    pub fn transfer_leader(
        view: ClusterView<'_>,
        region: &Region,
        desc: &str,
        to: StoreId,
        kind: Kind,
    ) -> Result<Operator, BuildError> {
        Builder::new(view, region, desc).set_leader(to).build(kind)
    }

    /// Removes the peer on `store`.
    ///
    /// # Errors
    /// When there is none, or nobody could lead afterwards.
    pub fn remove_peer(
        view: ClusterView<'_>,
        region: &Region,
        desc: &str,
        store: StoreId,
        kind: Kind,
    ) -> Result<Operator, BuildError> {
        Builder::new(view, region, desc).remove_peer(store).build(kind)
    }

    /// Adds `peer`.
    ///
    /// # Errors
    /// When the store has one.
    pub fn add_peer(
        view: ClusterView<'_>,
        region: &Region,
        desc: &str,
        peer: Peer,
        kind: Kind,
    ) -> Result<Operator, BuildError> {
        Builder::new(view, region, desc).add_peer(peer).build(kind)
    }

    /// Moves the peer on `from` to the store of `new` (id 0: a new one), with the leader to `leader` when one is named.
    ///
    /// # Errors
    /// When the region has no peer on `from`, has one on the new store, or nobody could lead.
    pub fn move_peer(
        view: ClusterView<'_>,
        region: &Region,
        desc: &str,
        from: StoreId,
        new: Peer,
        leader: Option<StoreId>,
        kind: Kind,
    ) -> Result<Operator, BuildError> {
        let builder = Builder::new(view, region, desc).remove_peer(from).add_peer(new);
        match leader {
            Some(store) => builder.set_leader(store),
            None => builder,
        }
        .build(kind)
    }

    /// Splits the region: `policy` 0 scan, 1 approximate, 2 at `keys`.
    ///
    /// # Errors
    /// When the region is in a joint state.
    pub fn split(
        view: ClusterView<'_>,
        region: &Region,
        desc: &str,
        policy: i32,
        keys: Vec<Key>,
        kind: Kind,
    ) -> Result<Operator, BuildError> {
        if region.meta.in_joint_state() {
            return Err(BuildError::refused("cannot split region which is in joint state"));
        }
        let mut brief = format!("split: region {} use policy {}", region.id(), split_policy_name(policy));
        if !keys.is_empty() {
            let hex: Vec<_> = keys.iter().map(Key::hex).collect();
            brief.push_str(&format!(" and keys [{}]", hex.join(" ")));
        }
        let step = Step::SplitRegion { policy, keys, range: region.range().clone() };
        let mut op = Operator::new(desc, brief, region, kind, vec![step], view.now);
        op.info.insert(info::REGION_START_KEY.to_owned(), region.range().start.hex());
        op.info.insert(info::REGION_END_KEY.to_owned(), region.range().end.hex());
        Ok(op)
    }

    /// Merges `source` into its neighbour `target`: two operators that belong together. The source first gets the stores of the
    /// target, and its witnesses, if it has others; the target's operator only waits until it has the range.
    ///
    /// # Errors
    /// When one is in a joint state, or the source cannot get the target's stores: nobody could lead there, or one of its peers would
    /// be a witness where none is allowed.
    pub fn merge(
        view: ClusterView<'_>,
        source: &Region,
        target: &Region,
        desc: &str,
        mut kind: Kind,
    ) -> Result<[Operator; 2], BuildError> {
        if source.meta.in_joint_state() || target.meta.in_joint_state() {
            return Err(BuildError::refused("cannot merge regions which are in joint state"));
        }
        let mut steps = Vec::new();
        if !lie_alike(source, target) {
            let has_witness = |at: &Peer| source.meta.peer_on(at.store).is_some_and(|p| p.is_witness);
            if !witnesses(view.settings) && target.peers().iter().any(|p| p.is_witness && !has_witness(p)) {
                return Err(BuildError::refused(
                    "cannot merge into region with witness peers: witnesses are not allowed",
                ));
            }
            let wanted = target.peers().iter().map(|p| (p.store, Peer { id: PeerId(0), ..*p })).collect();
            let moved = Builder::new(view, source, desc).set_peers(&wanted).build(kind)?;
            kind = moved.kind;
            steps.extend_from_slice(&moved.steps);
        }
        let (from, to, to_range) = (source.id(), target.id(), target.range().clone());
        let merge = |passive| Step::MergeRegion { from, to, to_range: to_range.clone(), passive };
        steps.push(merge(false));
        let brief = format!("merge: region {from} to {to}");
        let mut active = Operator::new(desc, brief.clone(), source, kind, steps, view.now);
        let mut passive = Operator::new(desc, brief, target, kind, vec![merge(true)], view.now);
        // The target waits for all that the source does.
        passive.timeout = active.timeout;
        active.info.insert(info::RELATED_MERGE_REGION.to_owned(), to.to_string());
        passive.info.insert(info::RELATED_MERGE_REGION.to_owned(), from.to_string());
        Ok([active, passive])
    }

    /// Leaves a joint state that nobody else leaves. A leader that is being demoted hands over first, because the nodes refuse
    /// to leave while it leads; when no fit store is found any voter will do.
    ///
    /// # Errors
    /// When the region is in no joint state, or has no leader.
    pub fn leave_joint_state(view: ClusterView<'_>, region: &Region) -> Result<Operator, BuildError> {
        if !region.meta.in_joint_state() {
            let text = "cannot build leave joint state operator for region which is not in joint state";
            return Err(BuildError::refused(text));
        }
        let Some(from) = region.leader_store() else {
            return Err(BuildError::refused("cannot build operator for region with no leader"));
        };
        let origin: BTreeMap<_, _> = region.peers().iter().map(|p| (p.store, *p)).collect();
        let target: BTreeMap<_, _> =
            origin.iter().map(|(store, p)| (*store, Peer { role: after(p.role), ..*p })).collect();
        let ailing = |p: &&Peer| region.is_down(p.id) || region.is_pending(p.id);
        let unhealthy: BTreeSet<_> = region.peers().iter().filter(ailing).map(|p| p.store).collect();
        let roles = BTreeMap::new();
        let to = if target.get(&from).is_some_and(|p| p.role.votes()) {
            Some(from)
        } else {
            let candidates =
                Candidates { view, region, origin: &origin, target: &target, unhealthy: &unhealthy, roles: &roles };
            candidates.choose_any()
        };
        let to = to.ok_or_else(|| BuildError::refused("no valid leader"))?;

        let named =
            |role: Role| -> Vec<PeerAt> { origin.values().filter(|p| p.role == role).map(PeerAt::from).collect() };
        let (promote, demote) = (named(Role::IncomingVoter), named(Role::DemotingVoter));
        let stores = |peers: &[PeerAt]| peers.iter().map(|at| at.store.to_string()).collect::<Vec<_>>().join(" ");
        let brief = if promote.is_empty() {
            format!("demote peer: store [{}]", stores(&demote))
        } else {
            format!("promote peer: store [{}]", stores(&promote))
        };
        let mut kind = Kind::default();
        let mut steps = Vec::new();
        if to != from {
            kind |= Kind::LEADER;
            steps.push(Step::TransferLeader { from, to });
        }
        steps.push(Step::ChangePeerV2Leave { promote, demote });
        let mut op = Operator::new(desc::LEAVE_JOINT_STATE, brief, region, kind, steps, view.now);
        op.priority = Priority::High;
        Ok(op)
    }
}

/// Whether two regions have like peers on the same stores: nodes merge only such.
fn lie_alike(a: &Region, b: &Region) -> bool {
    let alike = |p: &Peer, q: &Peer| p.role == q.role && p.is_witness == q.is_witness;
    a.peers().len() == b.peers().len() && a.peers().iter().all(|p| b.meta.peer_on(p.store).is_some_and(|q| alike(p, q)))
}

/// The role when the joint state is left.
fn after(role: Role) -> Role {
    match role {
        Role::IncomingVoter | Role::Voter => Role::Voter,
        Role::DemotingVoter | Role::Learner => Role::Learner,
    }
}
