//! Whether every region stands as its rules say, worked out from the agreed texts by trying out.
//!
//! Owns: the sense of `placed`. Must not know: how the deciding code fits peers to rules.

use crate::{
    api::rows,
    model::{KeyRange, Peer, Role, Rule, RuleRole},
    sim::SimRegion,
    world::{checks::meets, world::World},
};

/// Whether every region has a leader, data everywhere and exactly the peers that the rules ask for (`max-replicas` voters where
/// there are no rules), and what was found. Overriding rules and isolation are not looked at.
pub(super) fn ask(world: &World) -> (bool, String) {
    let dynamic = world.control.dynamic();
    let rules: Option<Vec<Rule>> = dynamic
        .replication
        .enable_placement_rules
        .then(|| world.control.state().rules.values().filter_map(|json| rows::rule(json).ok()).collect());
    let stands = |region: &SimRegion| {
        let calm = region.leader.is_some() && region.waiting.is_empty() && !region.in_joint_state();
        calm && match &rules {
            Some(rules) => fits(world, rules, region),
            None => {
                let wanted = dynamic.replication.max_replicas == region.peers.len() as u64;
                wanted && region.peers.iter().all(|p| p.role == Role::Voter && !p.is_witness)
            }
        }
    };
    let bad: Vec<u64> = world.fleet.regions().filter(|r| !stands(r)).map(|r| r.id.0).collect();
    let found = match bad.first() {
        None => "everywhere".to_owned(),
        Some(first) => format!("not so for {} regions, the first is {first}", bad.len()),
    };
    (bad.is_empty(), found)
}

fn covers(rule: &KeyRange, region: &KeyRange) -> bool {
    rule.start <= region.start && (rule.end.is_empty() || !region.end.is_empty() && region.end <= rule.end)
}

/// Whether the peers of a region can be dealt to its rules so that each is used and each rule has what it asks for.
fn fits(world: &World, rules: &[Rule], region: &SimRegion) -> bool {
    let mut open: Vec<(&Rule, u32)> =
        rules.iter().filter(|rule| covers(&rule.range, &region.range)).map(|rule| (rule, rule.count)).collect();
    let wanted: u32 = open.iter().map(|(_, count)| count).sum();
    wanted as usize == region.peers.len() && deal(world, &mut open, region, &region.peers)
}

fn deal(world: &World, open: &mut [(&Rule, u32)], region: &SimRegion, peers: &[Peer]) -> bool {
    let Some((peer, rest)) = peers.split_first() else { return true };
    (0..open.len()).any(|at| {
        let (rule, left) = open[at];
        if left == 0 || !serves(world, rule, region, peer) {
            return false;
        }
        open[at].1 -= 1;
        let dealt = deal(world, open, region, rest);
        open[at].1 += 1;
        dealt
    })
}

fn serves(world: &World, rule: &Rule, region: &SimRegion, peer: &Peer) -> bool {
    let leads = region.leader == Some(peer.id);
    let role = match rule.role {
        RuleRole::Voter => peer.role == Role::Voter,
        RuleRole::Leader => peer.role == Role::Voter && leads,
        RuleRole::Follower => peer.role == Role::Voter && !leads,
        RuleRole::Learner => peer.role == Role::Learner,
    };
    let witness = rule.is_witness && world.control.dynamic().schedule.enable_witness;
    let store = world.control.state().stores.get(&peer.store);
    role && peer.is_witness == witness && store.is_some_and(|store| meets(rule, store))
}
