//! One region as the nodes hold it, and what each command does to it.
//!
//! Owns: membership changes (single and joint), leadership, splits and merges of one region, with the rules by which a TiKV
//! node takes or refuses them. Must not know stores, time or messages. Everything is checked before anything is changed.

use crate::{
    model::{Epoch, Key, KeyRange, Peer, PeerId, RegionId, Role, StoreId},
    sim::command::{Change, ChangeKind, Rejection},
};

/// Size of one row that `keys` is derived from, bytes: what PD's simulator assumes (96 MiB hold 960,000 keys).
const ROW_BYTES: u64 = 104;

/// A region. Kept small: a fleet holds a million of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SimRegion {
    /// Its id.
    pub id: RegionId,
    /// Its keys.
    pub range: KeyRange,
    /// Counts of its changes.
    pub epoch: Epoch,
    /// Its replicas, in the order in which they joined.
    pub peers: Vec<Peer>,
    /// The replica that leads; `None` while too few are alive to elect one.
    pub leader: Option<PeerId>,
    /// Raft term: grows with each new leader.
    pub term: u64,
    /// Size, bytes.
    pub size: u64,
    /// Number of keys.
    pub keys: u64,
    /// Replicas that have no data yet.
    pub waiting: Vec<PeerId>,
}

/// The outcome of a membership change, before it is taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The replicas afterwards.
    pub peers: Vec<Peer>,
    /// By how much `conf_ver` grows.
    pub conf_ver: u64,
    /// Replicas that are new and have no data.
    pub added: Vec<Peer>,
    /// Replicas that are gone.
    pub removed: Vec<Peer>,
}

/// Number of keys in `size` bytes.
pub(super) fn keys_of(size: u64) -> u64 {
    // Written so that 96 MiB give the 960,000 of the recordings exactly.
    const MIB: u64 = 1 << 20;
    size / MIB * 10_000 + size % MIB / ROW_BYTES
}

impl SimRegion {
    /// The leader's peer.
    pub fn leader_peer(&self) -> Option<&Peer> {
        self.leader.and_then(|id| self.peer(id))
    }

    /// The store that leads.
    pub fn leader_store(&self) -> Option<StoreId> {
        self.leader_peer().map(|p| p.store)
    }

    /// The peer of this id.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.id == id)
    }

    /// The peer on `store`.
    pub fn peer_on(&self, store: StoreId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.store == store)
    }

    /// Whether the peer has no data yet.
    pub fn waits_for_snapshot(&self, peer: PeerId) -> bool {
        self.waiting.contains(&peer)
    }

    /// Whether a joint change is under way.
    pub fn in_joint_state(&self) -> bool {
        self.peers.iter().any(|p| p.role.in_joint_state())
    }

    /// What these changes would make of the membership: one change is simple, several are joint, none leaves the joint state.
    ///
    /// # Errors
    /// The reason why a node would refuse.
    pub fn plan_change(&self, changes: &[Change]) -> Result<Membership, Rejection> {
        match changes {
            [] => self.plan_leave(),
            _ if self.in_joint_state() => Err(Rejection::InJointState),
            _ => {
                let mut plan =
                    Membership { peers: self.peers.clone(), conf_ver: 0, added: Vec::new(), removed: Vec::new() };
                for change in changes {
                    self.plan_one(&mut plan, change, changes.len() > 1)?;
                    plan.conf_ver += 1;
                }
                let stays = |p: &Peer| matches!(p.role, Role::Voter | Role::IncomingVoter);
                if plan.peers.iter().any(stays) { Ok(plan) } else { Err(Rejection::NoVoterLeft) }
            }
        }
    }

    fn plan_leave(&self) -> Result<Membership, Rejection> {
        if !self.in_joint_state() {
            return Err(Rejection::NotInJointState);
        }
        if self.leader_peer().is_some_and(|p| p.role == Role::DemotingVoter) {
            return Err(Rejection::RemovesLeader);
        }
        let mut conf_ver = 0;
        let leave = |p: &Peer| {
            let role = match p.role {
                Role::IncomingVoter => Role::Voter,
                Role::DemotingVoter => Role::Learner,
                role @ (Role::Voter | Role::Learner) => return Peer { role, ..*p },
            };
            conf_ver += 1;
            Peer { role, ..*p }
        };
        let peers = self.peers.iter().map(leave).collect();
        Ok(Membership { peers, conf_ver, added: Vec::new(), removed: Vec::new() })
    }

    fn plan_one(&self, plan: &mut Membership, change: &Change, joint: bool) -> Result<(), Rejection> {
        let Change { kind, peer } = *change;
        let found = plan.peers.iter().position(|p| p.id == peer.id && p.store == peer.store);
        if found.is_none() && kind != ChangeKind::Remove {
            // An id is never used twice, and a store holds one peer of a region.
            if plan.peers.iter().any(|p| p.store == peer.store || p.id == peer.id) {
                return Err(Rejection::SecondPeerOnStore);
            }
            let role = match (kind, joint) {
                (ChangeKind::AddVoter, true) => Role::IncomingVoter,
                (ChangeKind::AddVoter, false) => Role::Voter,
                (ChangeKind::AddLearner | ChangeKind::Remove, _) => Role::Learner,
            };
            let new = Peer { role, ..peer };
            plan.peers.push(new);
            plan.added.push(new);
            return Ok(());
        }
        let at = found.ok_or(Rejection::UnknownPeer)?;
        let leads = self.leader == Some(peer.id);
        let old = plan.peers[at];
        let role = match (kind, old.role) {
            (ChangeKind::Remove, _) if leads => return Err(Rejection::RemovesLeader),
            (ChangeKind::Remove, Role::Learner) => None,
            (ChangeKind::Remove, _) if joint => return Err(Rejection::RemovesVoterInJoint),
            (ChangeKind::Remove, _) => None,
            (ChangeKind::AddVoter, Role::Learner) => Some(if joint { Role::IncomingVoter } else { Role::Voter }),
            (ChangeKind::AddLearner, Role::Voter) if joint => Some(Role::DemotingVoter),
            (ChangeKind::AddLearner, Role::Voter) if leads => return Err(Rejection::RemovesLeader),
            (ChangeKind::AddLearner, Role::Voter) => Some(Role::Learner),
            (ChangeKind::AddVoter | ChangeKind::AddLearner, _) => return Err(Rejection::NothingToDo),
        };
        match role {
            Some(role) => plan.peers[at].role = role,
            None => plan.removed.push(plan.peers.remove(at)),
        }
        Ok(())
    }

    /// Takes over a membership; new replicas wait for their snapshot.
    pub fn adopt(&mut self, plan: Membership) {
        self.peers = plan.peers;
        self.epoch.conf_ver += plan.conf_ver;
        self.waiting.extend(plan.added.iter().map(|p| p.id));
        let peers = &self.peers;
        self.waiting.retain(|id| peers.iter().any(|p| p.id == *id));
        if self.waiting.is_empty() {
            // A million regions should not each keep the room of a list they need once.
            self.waiting = Vec::new();
        }
    }

    /// The data of `peer` has arrived. Says whether it was waited for.
    pub fn fill(&mut self, peer: PeerId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|id| *id != peer);
        let arrived = self.waiting.len() != before;
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        arrived
    }

    /// What switching these peers to witnesses, or back, would make of the membership. One that gets data waits for it.
    ///
    /// # Errors
    /// The reason why a node would refuse.
    pub fn plan_switch(&self, switches: &[(PeerId, bool)]) -> Result<Membership, Rejection> {
        if self.in_joint_state() {
            return Err(Rejection::InJointState);
        }
        let mut plan = Membership { peers: self.peers.clone(), conf_ver: 0, added: Vec::new(), removed: Vec::new() };
        for (id, is_witness) in switches {
            let peer = plan.peers.iter_mut().find(|p| p.id == *id).ok_or(Rejection::UnknownPeer)?;
            if *is_witness && self.leader == Some(*id) {
                return Err(Rejection::RemovesLeader);
            }
            if peer.is_witness == *is_witness {
                return Err(Rejection::NothingToDo);
            }
            peer.is_witness = *is_witness;
            plan.conf_ver += 1;
            if !is_witness {
                plan.added.push(*peer);
            }
        }
        Ok(plan)
    }

    /// Whether `peer` may lead: it votes, will still vote after a joint state, and has the data.
    pub fn may_lead(&self, peer: PeerId) -> bool {
        let votes = |p: &Peer| matches!(p.role, Role::Voter | Role::IncomingVoter) && !p.is_witness;
        self.peer(peer).is_some_and(votes) && !self.waits_for_snapshot(peer)
    }

    /// Makes `peer` the leader.
    pub fn lead(&mut self, peer: PeerId) {
        self.leader = Some(peer);
        self.term += 1;
    }

    /// The keys at which it can be split, sorted, each once.
    ///
    /// # Errors
    /// No key lies inside the region (its first key is a border already).
    pub fn split_points(&self, keys: &[Key]) -> Result<Vec<Key>, Rejection> {
        let inside = |k: &&Key| self.range.contains(k) && **k != self.range.start;
        let mut points: Vec<Key> = keys.iter().filter(inside).cloned().collect();
        points.sort();
        points.dedup();
        if points.is_empty() { Err(Rejection::BadSplitKey) } else { Ok(points) }
    }

    /// Splits at `points` (from [`SimRegion::split_points`]); the parts on the left are new regions with the ids of `ids` (region,
    /// then one a peer), and this region keeps the last part, as TiKV does. Returns the new regions in key order.
    ///
    /// # Errors
    /// The ids are too few.
    pub fn split(&mut self, points: &[Key], ids: &[(RegionId, Vec<PeerId>)]) -> Result<Vec<SimRegion>, Rejection> {
        let fits = |(_, peers): &(RegionId, Vec<PeerId>)| peers.len() == self.peers.len();
        if ids.len() < points.len() || !ids.iter().all(fits) {
            return Err(Rejection::NoSplitIds);
        }
        let parts = points.len() as u64 + 1;
        let size = self.size / parts;
        self.epoch.version += points.len() as u64;
        let mut start = self.range.start.clone();
        let mut made = Vec::with_capacity(points.len());
        for (point, (id, peers)) in points.iter().zip(ids) {
            let same = |old: PeerId| self.peers.iter().position(|p| p.id == old).map(|at| peers[at]);
            made.push(SimRegion {
                id: *id,
                range: KeyRange { start, end: point.clone() },
                epoch: self.epoch,
                peers: self.peers.iter().zip(peers).map(|(p, id)| Peer { id: *id, ..*p }).collect(),
                leader: self.leader.and_then(same),
                term: self.term,
                size,
                keys: keys_of(size),
                waiting: self.waiting.iter().filter_map(|w| same(*w)).collect(),
            });
            start = point.clone();
        }
        self.range.start = start;
        self.size -= size * points.len() as u64;
        self.keys = keys_of(self.size);
        Ok(made)
    }

    /// Whether `self` can be merged into `target`: neighbours, all peers with data, the same stores and roles, no joint state.
    pub fn can_merge_into(&self, target: &SimRegion) -> bool {
        let touches = |a: &KeyRange, b: &KeyRange| !a.end.is_empty() && a.end == b.start;
        let calm = |r: &SimRegion| !r.in_joint_state() && r.waiting.is_empty() && r.leader.is_some();
        let stands = |r: &SimRegion| {
            let mut all: Vec<_> = r.peers.iter().map(|p| (p.store, p.role, p.is_witness)).collect();
            all.sort();
            all
        };
        (touches(&self.range, &target.range) || touches(&target.range, &self.range))
            && calm(self)
            && calm(target)
            && stands(self) == stands(target)
    }

    /// The first half of a merge: the source takes no more writes, and both its counts grow.
    pub fn prepare_merge(&mut self) {
        self.epoch.conf_ver += 1;
        self.epoch.version += 1;
    }

    /// Gives up a prepared merge.
    pub fn roll_back_merge(&mut self) {
        self.epoch.version += 1;
    }

    /// The second half: this region takes over the range of `source`.
    pub fn absorb(&mut self, source: &SimRegion) {
        if source.range.end == self.range.start && !source.range.end.is_empty() {
            self.range.start = source.range.start.clone();
        } else {
            self.range.end = source.range.end.clone();
        }
        self.epoch.version = self.epoch.version.max(source.epoch.version) + 1;
        self.size += source.size;
        self.keys += source.keys;
    }
}

/// A key between the two bounds of `range`, about its middle; `None` when there is none (an empty range).
pub(super) fn middle(range: &KeyRange) -> Option<Key> {
    if range.is_empty() {
        return None;
    }
    // The bounds as binary fractions; an empty end is 1. One more byte makes room for a middle.
    let len = range.start.len().max(range.end.len()) + 1;
    let digit = |key: &[u8], i: usize| u32::from(key.get(i).copied().unwrap_or(0));
    let mut sum = vec![0_u8; len];
    let mut carry = 0;
    for i in (0..len).rev() {
        let total = digit(&range.start, i) + digit(&range.end, i) + carry;
        sum[i] = (total & 0xff) as u8;
        carry = total >> 8;
    }
    carry += u32::from(range.end.is_empty());
    for byte in &mut sum {
        let total = (carry << 8) | u32::from(*byte);
        *byte = (total / 2) as u8;
        carry = total % 2;
    }
    while sum.last() == Some(&0) && sum.len() > 1 {
        sum.pop();
    }
    let key = Key::from(sum);
    (range.contains(&key) && key != range.start).then_some(key)
}

#[cfg(test)]
mod tests;
