//! Clusters of three and five members in one thread on virtual time, from seeds: messages lost, late, doubled and out of order, partitions,
//! crashes at any operation of a disk, pauses, clocks that jump, slow and hanging and full disks, changes of the group. After every step
//! the invariants are looked at, and once the faults are over everything has to be well.
//!
//! `BERTH_CLUSTER_SEEDS=1000` runs so many, `BERTH_CLUSTER_SEED=17` only that one.

mod checks;
mod client;
mod faults;
mod machine;
mod plan;
mod world;

use crate::meta::bugs::Bug;

use self::{
    plan::{Fault, Plan},
    world::{Counts, World},
};

/// How many seeds a test run takes when nobody says.
const SEEDS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Prints what a run of many seeds did, and fails when it did not do enough to have shown anything.
#[allow(clippy::print_stdout)]
fn report(seeds: u64, all: &Counts) {
    println!("{seeds} seeds: {all:?}");
    let enough = [
        ("checks", all.checks, 1000),
        ("leaders", all.leaders, 1),
        ("writes", all.writes, 10),
        ("timestamps", all.timestamps, 1000),
        ("ids", all.ids, 100),
        ("comparisons of state hashes", all.hashes, 1),
        ("lost messages", all.lost, 1),
        ("crashes", all.crashes, 1),
        ("kills", all.kills, 1),
        ("pauses", all.pauses, 1),
        ("partitions", all.partitions, 1),
        ("clock jumps", all.clocks, 1),
        ("disk faults", all.disks, 1),
        ("transfers", all.transfers, 1),
        ("states sent", all.states_sent, 1),
        ("members added", all.added, 1),
        ("members removed", all.removed, 1),
    ];
    for (what, count, each) in enough {
        let need = each * seeds / 4;
        assert!(count >= need, "{what}: {count} in {seeds} seeds, {need} is the least that shows anything");
    }
}

#[test]
fn t_d_r_l_clusters_keep_their_promises_whatever_happens() {
    let seeds = match number("BERTH_CLUSTER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BERTH_CLUSTER_SEEDS").unwrap_or(SEEDS),
    };
    let (mut all, mut wrong, count) = (Counts::default(), vec![], seeds.end - seeds.start);
    for seed in seeds {
        match World::outcome(Plan::of(seed)) {
            Ok(counts) => all.add(&counts),
            Err(e) => wrong.push(format!("BERTH_CLUSTER_SEED={seed}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {count} seeds: {wrong:#?}", wrong.len());
    if count > 1 {
        report(count, &all);
    }
}

#[test]
fn the_same_seed_does_the_same_again() {
    for seed in [3, 15] {
        assert_eq!(World::outcome(Plan::of(seed)), World::outcome(Plan::of(seed)), "seed {seed}");
    }
}

/// Most seeds that a fault put back on purpose may need until it is noticed.
const BUG_SEEDS: u64 = 60;

/// Faults put back on purpose, what they need to come to light, and the names of the invariants that they break.
const BUGS: &[(Bug, &[Fault], &[&str])] = &[
    (Bug::NoSync, &[], &[]),
    (Bug::IndexApart, &[], &[]),
    (Bug::WindowNotSaved, &[], &[]),
    (Bug::StaleLeader, &[], &[]),
    (Bug::VoteAfterRestart, &[], &[]),
    (Bug::LeaseKeptAtTransfer, &[], &[]),
    (Bug::SendBeforeWrite, &[], &[]),
    (Bug::SnapshotNotAtomic, &[], &[]),
    (Bug::LeaseFromConfirmation, &[], &[]),
    (Bug::TicksBurst, &[], &[]),
    (Bug::AppliesDifferently, &[], &[]),
    (Bug::AnswerBeforeCommit, &[], &[]),
    (Bug::WindowIgnored, &[], &[]),
    (Bug::CutBeforeFlush, &[], &[]),
    (Bug::MembersNotSaved, &[], &[]),
    (Bug::VoteNotSaved, &[], &[]),
];

#[test]
#[allow(clippy::print_stdout)]
fn faults_put_back_on_purpose_are_noticed() {
    let mut missed = vec![];
    for (bug, faults, _names) in BUGS {
        let found = (0..BUG_SEEDS).find_map(|seed| Some((seed, World::outcome(Plan::with(*bug, faults, seed)).err()?)));
        match found {
            Some((seed, error)) => println!("{bug:?}: seed {seed}: {error}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
