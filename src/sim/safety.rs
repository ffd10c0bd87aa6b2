//! What must never happen to a region, whatever the server asks for.
//!
//! Owns: the rules, as functions of the membership before and after a change. Must not know why a change was made. A violation
//! is counted and makes the run fail: it is the server's fault, not the node's.

use crate::model::{Peer, RegionId, Role, StoreId};

/// Something that must not happen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// More than a minority of the voters went at once, without a joint state.
    #[error("region {region}: {removed} of {voters} voters removed at once")]
    TooManyRemoved {
        /// The region.
        region: RegionId,
        /// Voters that went.
        removed: usize,
        /// Voters before.
        voters: usize,
    },
    /// A change left the region without a majority of live voters that hold the data.
    #[error("region {region}: no quorum of live voters with data after a change")]
    QuorumLost {
        /// The region.
        region: RegionId,
    },
    /// A store was declared gone while it still holds replicas.
    #[error("store {store} was buried with {peers} peers on it")]
    BuriedWithPeers {
        /// The store.
        store: StoreId,
        /// Replicas that it holds.
        peers: u32,
    },
}

/// Whether a majority of the voters can answer, in the configuration that is left and in the one that is entered.
pub(super) fn has_quorum(peers: &[Peer], holds: impl Fn(&Peer) -> bool) -> bool {
    let majority = |in_config: fn(Role) -> bool| {
        let voters = peers.iter().filter(|p| in_config(p.role)).count();
        let alive = peers.iter().filter(|p| in_config(p.role) && holds(p)).count();
        voters > 0 && alive > voters / 2
    };
    majority(|r| matches!(r, Role::Voter | Role::DemotingVoter))
        && majority(|r| matches!(r, Role::Voter | Role::IncomingVoter))
}

/// Holds a change of membership against the rules. `holds` says whether a replica is alive and has the data (asked of the
/// replicas after the change); `had` the same for those before; `replicas` is how many the cluster wants.
pub(super) fn check_change(
    region: RegionId,
    (before, had): (&[Peer], impl Fn(&Peer) -> bool),
    (after, holds): (&[Peer], impl Fn(&Peer) -> bool),
    replicas: usize,
) -> Option<Violation> {
    let joint = |peers: &[Peer]| peers.iter().any(|p| p.role.in_joint_state());
    if !joint(before) && !joint(after) {
        let votes_after = |id| after.iter().any(|p| p.id == id && p.role.votes());
        let voters = before.iter().filter(|p| p.role.votes()).count();
        let removed = before.iter().filter(|p| p.role.votes() && !votes_after(p.id)).count();
        let left = after.iter().filter(|p| p.role.votes()).count();
        if removed > voters.saturating_sub(1) / 2 && left < replicas {
            return Some(Violation::TooManyRemoved { region, removed, voters });
        }
    }
    (has_quorum(before, had) && !has_quorum(after, holds)).then_some(Violation::QuorumLost { region })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: RegionId = RegionId(1);

    fn three() -> Vec<Peer> {
        vec![Peer::voter(1, 1), Peer::voter(2, 2), Peer::voter(3, 3)]
    }

    fn check(before: &[Peer], after: &[Peer], dead: &[u64]) -> Option<Violation> {
        let holds = |p: &Peer| !dead.contains(&p.store.0);
        check_change(REGION, (before, holds), (after, holds), 3)
    }

    fn role(peer: Peer, role: Role) -> Peer {
        Peer { role, ..peer }
    }

    #[test]
    fn one_of_three_may_go_but_not_two() {
        assert_eq!(check(&three(), &three()[..2], &[]), None);
        let two = Violation::TooManyRemoved { region: REGION, removed: 2, voters: 3 };
        assert_eq!(check(&three(), &three()[..1], &[]), Some(two));
        let of_two = Violation::TooManyRemoved { region: REGION, removed: 1, voters: 2 };
        assert_eq!(check(&three()[..2], &three()[..1], &[]), Some(of_two));
    }

    #[test]
    fn a_change_must_not_cost_the_quorum() {
        // Store 3 is dead: taking a live voter leaves one of two.
        let after = [Peer::voter(1, 1), Peer::voter(3, 3)];
        assert_eq!(check(&three(), &after, &[3]), Some(Violation::QuorumLost { region: REGION }));
        // Taking the dead one is right.
        assert_eq!(check(&three(), &three()[..2], &[3]), None);
        // What was lost before is not the change's fault.
        assert_eq!(check(&three(), &three()[..2], &[2, 3]), None);
    }

    #[test]
    fn a_joint_state_needs_both_majorities() {
        let [a, b, c] = [Peer::voter(1, 1), Peer::voter(2, 2), Peer::voter(3, 3)];
        let (d, e) = (role(Peer::voter(4, 4), Role::IncomingVoter), role(Peer::voter(5, 5), Role::IncomingVoter));
        let joint = [a, role(b, Role::DemotingVoter), role(c, Role::DemotingVoter), d, e];
        assert!(has_quorum(&joint, |_| true));
        assert!(!has_quorum(&joint, |p| p.store.0 < 4), "two of three new voters have no data");
        assert!(!has_quorum(&joint, |p| p.store.0 > 3), "two of three old voters are dead");
        // Two voters promoted before their data came.
        let without_data = |p: &Peer| p.store.0 < 4;
        let found = check_change(REGION, (&[a, b, c], without_data), (&joint, without_data), 3);
        assert_eq!(found, Some(Violation::QuorumLost { region: REGION }));
    }
}
