//! Faults put back on purpose: a check that never fails has shown nothing. Each has to be noticed, and under the right name.

use super::{
    plan::{Fault, Plan},
    staged::{self, Play},
    world::{Counts, World},
};
use crate::meta::bugs::Bug;

/// Most seeds that one may need.
const MAX_SEEDS: u64 = 40;

/// Long leases, so that there is time to break them.
fn long_leases(plan: Plan) -> Plan {
    let mut timings = plan.timings;
    (timings.tick, timings.election_ticks) = (std::time::Duration::from_millis(100), 10);
    Plan { timings, ..plan }
}

/// The log is cut after a few entries already.
fn short_log(plan: Plan) -> Plan {
    let mut timings = plan.timings;
    (timings.compact_every, timings.compact_keep) = (8, 4);
    Plan { timings, ..plan }
}

/// A world that brings a fault to light, and the invariants that it may break there.
fn world_for(bug: Bug, seed: u64) -> (Plan, &'static [&'static str]) {
    use Fault::{Add, Clock, Crash, CrashAll, Kill, Partition, Transfer};
    let only = |faults: &[Fault]| Plan::only(seed, faults);
    let (plan, names): (Plan, &[&str]) = match bug {
        Bug::NoSync => (only(&[Crash, CrashAll]), &["R1", "R2", "R6", "R8", "T1", "D1", "panic"]),
        Bug::IndexApart => (only(&[Crash]), &["R2"]),
        Bug::WindowNotSaved => (only(&[Clock, Kill]), &["T1"]),
        Bug::LeaseKeptAtTransfer => (long_leases(only(&[Transfer, Partition])), &["L1", "T1"]),
        Bug::AppliesDifferently => (only(&[Kill]), &["R6"]),
        Bug::AnswerBeforeCommit => (only(&[Crash, Partition]), &["R1"]),
        Bug::CutBeforeFlush => (short_log(only(&[Crash])), &["R2"]),
        Bug::MembersNotSaved => (only(&[Add, Kill]), &["R6"]),
        // Played, see `STAGED`.
        Bug::SnapshotNotAtomic
        | Bug::VoteAfterRestart
        | Bug::SendBeforeWrite
        | Bug::VoteNotSaved
        | Bug::PromiseForgotten
        // No fault, see `silent`.
        | Bug::PromiseNotSaid
        | Bug::StaleLeader
        | Bug::OwnTimeout
        | Bug::WindowIgnored => (only(&[]), &[]),
    };
    (Plan { bug: Some(bug), ..plan }, names)
}

const ALL: [Bug; 8] = [
    Bug::NoSync,
    Bug::IndexApart,
    Bug::WindowNotSaved,
    Bug::LeaseKeptAtTransfer,
    Bug::AppliesDifferently,
    Bug::AnswerBeforeCommit,
    Bug::CutBeforeFlush,
    Bug::MembersNotSaved,
];

/// Those that chance hardly brings to light: what is played, whether with few requests, and what it may break.
const STAGED: [(Bug, Play, bool, &[&str]); 8] = [
    (Bug::SnapshotNotAtomic, World::power_goes_while_a_state_is_taken, false, &["R2"]),
    (Bug::VoteAfterRestart, World::a_voter_is_restarted, true, &["L1"]),
    (Bug::SendBeforeWrite, World::power_goes_after_an_acknowledgement, false, &["R1", "R8"]),
    (Bug::VoteNotSaved, World::a_voter_is_asked_twice, true, &["R8"]),
    (Bug::PromiseForgotten, World::a_voter_is_restarted_with_a_shorter_timeout, true, &["L1"]),
    (Bug::StaleLeader, World::a_leader_is_left_alone, false, &["L1", "T1"]),
    (Bug::OwnTimeout, World::a_patient_leader_is_left_alone, false, &["L1", "T1"]),
    (Bug::WindowIgnored, World::the_next_clock_is_behind, false, &["T1"]),
];

/// The first seed that shows one of these invariants broken, and what was said.
#[allow(clippy::print_stdout)]
fn first_shown(bug: Bug, names: &[&str], run: impl Fn(u64) -> Result<Counts, String>) -> bool {
    let found = (0..MAX_SEEDS).find_map(|seed| {
        let error = run(seed).err()?;
        names.iter().any(|name| error.starts_with(name)).then_some((seed, error))
    });
    if let Some((seed, error)) = &found {
        println!("{bug:?}: seed {seed}: {}", error.chars().take(200).collect::<String>());
    }
    found.is_some()
}

#[test]
fn faults_put_back_on_purpose_are_noticed() {
    let missed: Vec<Bug> = ALL
        .into_iter()
        .filter(|bug| {
            let names = world_for(*bug, 0).1;
            !first_shown(*bug, names, |seed| World::outcome(world_for(*bug, seed).0))
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn faults_that_show_themselves_rarely_are_noticed_where_they_are_lured_out() {
    for (bug, play, quiet, names) in STAGED {
        let run = |bug, seed| World::outcome_of(|| play(World::new(staged::plan(seed, bug, quiet))));
        assert!(first_shown(bug, names, |seed| run(Some(bug), seed)), "not noticed: {bug:?}");
        for seed in 0..6 {
            assert!(run(None, seed).is_ok(), "without {bug:?}, seed {seed}: {:?}", run(None, seed));
        }
    }
}

/// The checks of every step are off: what clients saw is enough.
#[test]
fn l1_a_leader_that_serves_without_a_lease_shows_in_what_clients_saw() {
    let plan = |seed, bug| Plan { by_history: true, ..staged::plan(seed, bug, false) };
    let run = |seed, bug| World::outcome_of(|| World::new(plan(seed, bug)).a_leader_is_left_alone());
    assert!(first_shown(Bug::StaleLeader, &["linear"], |seed| run(seed, Some(Bug::StaleLeader))));
    for seed in 0..4 {
        let counts = run(seed, None).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(counts.recorded > 50 && counts.given_up == 0, "{counts:?}");
    }
}
