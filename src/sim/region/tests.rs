//! One region against the recorded walks, and against brute force.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::sim::safety;

fn change(kind: ChangeKind, peer: Peer) -> Change {
    Change { kind, peer }
}

fn region() -> SimRegion {
    SimRegion {
        id: RegionId(1),
        range: KeyRange::new(&b"b"[..], &b"d"[..]),
        epoch: Epoch::new(5, 20),
        peers: vec![Peer::voter(11, 1), Peer::voter(12, 2), Peer::voter(13, 3)],
        leader: Some(PeerId(11)),
        term: 6,
        size: 96 << 20,
        keys: 960_000,
        waiting: Vec::new(),
    }
}

#[test]
fn commands_that_would_break_the_region_are_refused() {
    use ChangeKind::{AddLearner, AddVoter, Remove};
    let check = |changes: &[Change], reason| assert_eq!(region().plan_change(changes), Err(reason));
    check(&[change(Remove, Peer::voter(11, 1))], Rejection::RemovesLeader);
    check(&[change(AddLearner, Peer::voter(11, 1))], Rejection::RemovesLeader);
    check(&[change(AddLearner, Peer::learner(20, 2))], Rejection::SecondPeerOnStore);
    check(&[change(AddVoter, Peer::voter(12, 4))], Rejection::SecondPeerOnStore);
    check(&[change(Remove, Peer::voter(14, 4))], Rejection::UnknownPeer);
    check(&[change(AddVoter, Peer::voter(12, 2))], Rejection::NothingToDo);
    check(&[], Rejection::NotInJointState);
    let two = [change(AddVoter, Peer::voter(14, 4)), change(Remove, Peer::voter(12, 2))];
    check(&two, Rejection::RemovesVoterInJoint);
    let all = [1, 2, 3].map(|n| change(AddLearner, Peer::learner(10 + n, n)));
    check(&all, Rejection::NoVoterLeft);
    let demote_leader = [change(AddVoter, Peer::voter(14, 4)), change(AddLearner, Peer::learner(11, 1))];
    let mut joint = region();
    joint.adopt(joint.plan_change(&demote_leader).unwrap());
    assert_eq!(joint.plan_change(&[]), Err(Rejection::RemovesLeader), "the leader hands over first");
    assert_eq!(joint.plan_change(&[change(Remove, Peer::voter(12, 2))]), Err(Rejection::InJointState));
    assert!(!joint.may_lead(PeerId(14)), "it has no data yet");
    assert!(joint.fill(PeerId(14)) && joint.may_lead(PeerId(14)));
    joint.lead(PeerId(14));
    joint.adopt(joint.plan_change(&[]).unwrap());
    assert_eq!(joint.epoch, Epoch::new(9, 20));
    assert_eq!((joint.peers[0].role, joint.peers[3].role), (Role::Learner, Role::Voter));
}

#[test]
fn a_split_keeps_the_right_part_and_loses_nothing() {
    let mut whole = region();
    let key = |k: &[u8]| Key::from(k);
    let wanted = [key(b"c5"), key(b"c"), key(b"b"), key(b"d"), key(b"a"), key(b"c")];
    let points = whole.split_points(&wanted).unwrap();
    assert_eq!(points, [key(b"c"), key(b"c5")]);
    let ids = |n: u64| (RegionId(n), vec![PeerId(n + 1), PeerId(n + 2), PeerId(n + 3)]);
    assert_eq!(whole.clone().split(&points, &[ids(100)]), Err(Rejection::NoSplitIds));
    let short = (RegionId(9), vec![PeerId(10)]);
    assert_eq!(whole.clone().split(&points, &[ids(100), short]), Err(Rejection::NoSplitIds));
    let made = whole.split(&points, &[ids(100), ids(200)]).unwrap();
    assert_eq!(made[0].range, KeyRange::new(&b"b"[..], &b"c"[..]));
    assert_eq!(made[1].range, KeyRange::new(&b"c"[..], &b"c5"[..]));
    assert_eq!(whole.range, KeyRange::new(&b"c5"[..], &b"d"[..]));
    assert_eq!(made[1].leader_peer(), Some(&Peer::voter(201, 1)));
    assert!(made.iter().all(|r| r.epoch == Epoch::new(5, 22)) && whole.epoch == Epoch::new(5, 22));
    assert_eq!(made.iter().map(|r| r.size).sum::<u64>() + whole.size, 96 << 20);
    assert_eq!(whole.split_points(&[key(b"c5")]), Err(Rejection::BadSplitKey));
}

#[test]
fn a_merge_joins_the_ranges_from_either_side() {
    let mut left = region();
    left.id = RegionId(2);
    left.range = KeyRange::new(&b"a"[..], &b"b"[..]);
    for (mut source, mut target) in [(left.clone(), region()), (region(), left.clone())] {
        assert!(source.can_merge_into(&target));
        source.prepare_merge();
        target.absorb(&source);
        assert_eq!(target.range, KeyRange::new(&b"a"[..], &b"d"[..]));
        assert_eq!((target.epoch, target.size), (Epoch::new(5, 22), 192 << 20));
    }
    let mut moved = region();
    moved.peers[2].store = StoreId(4);
    assert!(!left.can_merge_into(&moved), "other stores");
    let mut far = region();
    far.range = KeyRange::new(&b"c"[..], &b""[..]);
    assert!(!left.can_merge_into(&far), "not neighbours");
}

proptest! {
    #[test]
    fn the_middle_lies_inside(a in prop::collection::vec(any::<u8>(), 0..6), b in prop::collection::vec(any::<u8>(), 0..6)) {
        let range = KeyRange::new(a, b);
        match middle(&range) {
            Some(key) => prop_assert!(range.contains(&key) && key != range.start),
            // Nothing lies between a key and the same key with zero bytes behind it, as a fraction.
            None => prop_assert!(range.is_empty() || range.end.starts_with(&range.start)
                && range.end[range.start.len()..].iter().all(|b| *b == 0)),
        }
    }

    #[test]
    fn whatever_is_asked_the_membership_stays_sound(steps in prop::collection::vec(
        prop::collection::vec((0_u8..3, 1_u64..7), 0..4), 1..40)
    ) {
        let mut region = region();
        let mut next_id = 100;
        for step in steps {
            let changes: Vec<Change> = step.iter().map(|(kind, store)| {
                let kind = [ChangeKind::AddVoter, ChangeKind::AddLearner, ChangeKind::Remove][*kind as usize];
                let peer = region.peer_on(StoreId(*store)).copied().unwrap_or_else(|| {
                    next_id += 1;
                    Peer::voter(next_id, *store)
                });
                change(kind, peer)
            }).collect();
            let before = region.clone();
            let Ok(plan) = region.plan_change(&changes) else {
                prop_assert_eq!(&before, &region);
                continue;
            };
            region.adopt(plan);
            // Oracles: one peer a store, the leader stays a voter, conf_ver grows by the peers whose role or presence changed.
            let mut stores: Vec<_> = region.peers.iter().map(|p| p.store).collect();
            stores.sort();
            stores.dedup();
            prop_assert_eq!(stores.len(), region.peers.len());
            prop_assert!(region.leader_peer().is_some_and(|p| p.role.votes()));
            let changed = |p: &&Peer| before.peer(p.id).is_none_or(|old| old.role != p.role);
            let gone = before.peers.iter().filter(|p| region.peer(p.id).is_none()).count();
            let differ = region.peers.iter().filter(changed).count() + gone;
            let grown = region.epoch.conf_ver - before.epoch.conf_ver;
            prop_assert!(grown >= differ as u64 && grown > 0, "{} {}", grown, differ);
            if changes.len() == 1 {
                let votes = |r: &SimRegion| r.peers.iter().filter(|p| p.role.votes()).count();
                prop_assert!(votes(&before).abs_diff(votes(&region)) <= 1);
            }
            prop_assert!(safety::has_quorum(&region.peers, |_| true));
        }
    }
}

#[test]
fn a_witness_votes_without_data_and_never_leads() {
    let mut region = region();
    let (leader, other) = (PeerId(11), PeerId(12));
    assert_eq!(region.plan_switch(&[(leader, true)]), Err(Rejection::RemovesLeader));
    assert_eq!(region.plan_switch(&[(PeerId(19), true)]), Err(Rejection::UnknownPeer));
    assert_eq!(region.plan_switch(&[(other, false)]), Err(Rejection::NothingToDo));
    let plan = region.plan_switch(&[(other, true)]).unwrap();
    assert_eq!((plan.conf_ver, plan.added.len()), (1, 0));
    region.adopt(plan);
    assert!(region.peers[1].is_witness && !region.may_lead(other) && region.waiting.is_empty());
    let plan = region.plan_switch(&[(other, false)]).unwrap();
    region.adopt(plan);
    assert_eq!((region.epoch.conf_ver, &region.waiting), (7, &vec![other]), "its data must come first");
    assert!(!region.may_lead(other));
    assert!(region.fill(other) && region.may_lead(other));
}
