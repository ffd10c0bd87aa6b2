//! Witnesses: never the leader, at no moment of any plan.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

/// Carries out `step` where some peers are witnesses.
fn apply(step: &Step, group: &mut Group, witnesses: &mut BTreeSet<u64>) {
    let as_it_is = |at: &PeerAt| assert_eq!(at.is_witness, witnesses.contains(&at.store.0), "{step}");
    match step {
        Step::SwitchWitness(at) => {
            assert!(group.roles.contains_key(&at.store.0));
            let changed = if at.is_witness { witnesses.insert(at.store.0) } else { witnesses.remove(&at.store.0) };
            assert!(changed, "{step}");
        }
        Step::AddLearner(at) if at.is_witness => assert!(witnesses.insert(at.store.0)),
        Step::RemovePeer { store, .. } => drop(witnesses.remove(&store.0)),
        Step::PromoteLearner(at) => as_it_is(at),
        Step::ChangePeerV2Enter { promote, demote } => promote.iter().chain(demote).for_each(as_it_is),
        _ => {}
    }
    if !matches!(step, Step::SwitchWitness(_)) {
        group.apply(step);
    }
    assert!(!witnesses.contains(&group.leader), "the leader is a witness: {step}");
}

/// Every way to give four stores nothing, a voter, a learner or a voting witness.
fn layouts() -> Vec<BTreeMap<u64, (Role, bool)>> {
    let kinds = [None, Some((Role::Voter, false)), Some((Role::Learner, false)), Some((Role::Voter, true))];
    let all = (0..4usize.pow(4)).map(|code| {
        let at = |store: u64| kinds[code >> (2 * (store - 1)) & 3];
        (1..=4).filter_map(|store| Some((store, at(store)?))).collect()
    });
    all.collect()
}

#[test]
fn o5_no_plan_lets_a_witness_lead() {
    let voters = |layout: &BTreeMap<u64, (Role, bool)>| -> Vec<u64> {
        layout.iter().filter(|(_, at)| **at == (Role::Voter, false)).map(|(s, _)| *s).collect()
    };
    let roles = |layout: &BTreeMap<u64, (Role, bool)>| layout.iter().map(|(s, (role, _))| (*s, *role)).collect();
    let witnesses = |layout: &BTreeMap<u64, (Role, bool)>| -> BTreeSet<u64> {
        layout.iter().filter(|(_, at)| at.1).map(|(s, _)| *s).collect()
    };
    let peer = |(store, (role, is_witness)): (&u64, &(Role, bool))| Peer {
        role: *role,
        is_witness: *is_witness,
        ..Peer::voter(store + 10, *store)
    };
    let layouts = layouts();
    let (mut switched, mut refused) = (0, 0);
    for joint in [true, false] {
        let mut world = World::new(4, 100);
        world.change_schedule(|s| s.enable_joint_consensus = joint);
        for (from, to) in layouts.iter().flat_map(|from| layouts.iter().map(move |to| (from, to))) {
            let Some(leader) = voters(from).pop().filter(|_| from != to) else { continue };
            let mut region = region(1, (1, 1), &from.iter().map(peer).collect::<Vec<_>>());
            region.leader = Some(PeerId(leader + 10));
            let target = to.iter().map(peer).map(|p| (p.store, Peer { id: PeerId(0), ..p })).collect();
            let built = Builder::new(world.view(), &region, "x").set_peers(&target).build(Kind::default());
            assert_eq!(built.is_ok(), !voters(to).is_empty(), "{from:?} to {to:?}: {built:?}");
            let Ok(op) = built else {
                refused += 1;
                continue;
            };
            let (mut group, mut now) = (Group { roles: roles(from), leader }, witnesses(from));
            op.steps.iter().for_each(|step| apply(step, &mut group, &mut now));
            assert_eq!((group.roles, now), (roles(to), witnesses(to)), "{from:?} to {to:?}");
            switched += u64::from(op.steps.iter().any(|s| matches!(s, Step::SwitchWitness(_))));
        }
    }
    assert!(switched > 10_000 && refused > 1_000, "{switched} {refused}");
}

#[test]
fn a_merge_makes_the_witnesses_alike_and_the_lead_goes_to_a_peer_with_data() {
    let mut world = World::new(4, 100);
    let peers = |id: u64, witness: u64| [1, 2, 3].map(|s| Peer { is_witness: s == witness, ..Peer::voter(id + s, s) });
    let (source, target) = (region(10, (1, 1), &peers(10, 3)), region(20, (1, 1), &peers(20, 1)));
    let merge = |world: &World| Operator::merge(world.view(), &source, &target, desc::MERGE_REGION, Kind::MERGE);
    let refused = merge(&world).unwrap_err().to_string();
    assert_eq!(refused, "cannot merge into region with witness peers: witnesses are not allowed");

    world.change_schedule(|s| s.enable_witness = true);
    let [active, _] = merge(&world).unwrap();
    let steps: Vec<_> = active.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "switch peer 13 on store 3 to non-witness",
            "transfer leader from store 1 to store 2",
            "switch peer 11 on store 1 to witness",
            "merge region 10 into region 20"
        ]
    );
    for store in [2, 3] {
        world.change_store(store, |s| Arc::make_mut(&mut s.stats).is_busy = true);
    }
    assert_eq!(merge(&world).unwrap_err().to_string(), "no valid leader");
}
