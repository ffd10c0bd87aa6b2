//! Three members as processes on real disks: killed, paused, stopped, with a disk that hangs, cut off, while clients never stop asking.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub mod group;
    pub mod history;
    pub mod load;
    pub mod nodes;
    pub mod process;
}

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use berth::sim::FleetOptions;
use common::{
    group::{Group, stands},
    history::Readers,
    load::Load,
    nodes::Nodes,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use tokio::time::sleep;

/// How long a leader is paused: longer than any election takes.
const PAUSE: Duration = Duration::from_secs(3);

/// What can happen to a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    KillLeader,
    KillFollower,
    KillTwo,
    KillAll,
    PauseLeader,
    StopLeader,
    HangLeader,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::KillTwo,
        Self::KillAll,
        Self::PauseLeader,
        Self::StopLeader,
        Self::HangLeader,
    ];
}

fn rounds(otherwise: usize) -> usize {
    std::env::var("BERTH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn rng() -> ChaCha8Rng {
    let seed = std::env::var("BERTH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_123);
    println!("BERTH_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Small and quick, with a store 1 to write to.
fn fleet(group: &Group) -> FleetOptions {
    FleetOptions {
        pd: group.urls(),
        stores: 4,
        regions: 20,
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(200),
        ..FleetOptions::default()
    }
}

async fn strike(group: &mut Group, fault: Fault, rng: &mut ChaCha8Rng) {
    let leader = group.leader().await;
    let members = group.seats.len();
    let follower = (leader + rng.random_range(1..members)) % members;
    let down: Vec<usize> = match fault {
        Fault::KillLeader => vec![leader],
        Fault::KillFollower => vec![follower],
        Fault::KillTwo => vec![leader, follower],
        Fault::KillAll => (0..members).collect(),
        Fault::StopLeader => {
            group.stop(leader).await;
            group.spawn(leader);
            return;
        }
        Fault::HangLeader => {
            let gate = group.seats[leader].gate();
            std::fs::write(&gate, "").unwrap();
            Group::until("another leads than the one whose disk hangs", async || {
                for seat in group.seats.iter().enumerate().filter(|(seat, _)| *seat != leader).map(|(_, seat)| seat) {
                    if stands(seat).await.is_some_and(|stands| stands["leads"] == true) {
                        return true;
                    }
                }
                false
            })
            .await;
            std::fs::remove_file(gate).unwrap();
            return;
        }
        Fault::PauseLeader => {
            group.signal(leader, Signal::STOP);
            sleep(PAUSE).await;
            group.signal(leader, Signal::CONT);
            return;
        }
    };
    for seat in &down {
        group.kill(*seat);
    }
    sleep(Duration::from_millis(rng.random_range(0..1500))).await;
    for seat in down {
        group.spawn(seat);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_t1_d1_l6_three_members_lose_nothing_over_kills_and_pauses() {
    let (rounds, mut rng) = (rounds(10), rng());
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let load = Load::start_on(&group.urls()).await;
    let readers = Readers::start(&group.urls(), rng.random());
    let mut faults: BTreeMap<Fault, u32> = BTreeMap::new();
    for round in 0..rounds {
        // Each of them at least once, and after that as it comes.
        let fault = Fault::ALL.get(round).copied().unwrap_or_else(|| Fault::ALL[rng.random_range(0..Fault::ALL.len())]);
        let from = Instant::now();
        load.served().await;
        strike(&mut group, fault, &mut rng).await;
        load.served().await;
        *faults.entry(fault).or_default() += 1;
        println!("{fault:?}: {:?} without a timestamp", load.silence_since(from));
    }
    group.leader().await;
    let (totals, ids) = load.end().await;
    let seen = readers.end().await;
    group.same().await;
    println!("{faults:?}; {totals:?}; {seen:?}");
    assert!(seen.reads > 8 * rounds && seen.writes > 4 * rounds, "{seen:?}");
    assert_eq!(faults.values().sum::<u32>() as usize, rounds);
    assert!(totals.timestamps > 10 * rounds && ids.len() > 50 * rounds, "{totals:?}");
    assert!(totals.writes > 8 * rounds as u64 && totals.reads > 8 * rounds as u64, "{totals:?}");
    nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_joins_votes_and_comes_back_when_its_disk_is_lost() {
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let load = Load::start_on(&group.urls()).await;
    let voters = async |group: &Group, seat: usize, count: usize| {
        let stands = stands(&group.seats[seat]).await;
        stands.is_some_and(|s| s["voters"].as_array().is_some_and(|v| v.len() == count))
    };

    let fourth = group.add("pd-4");
    group.spawn(fourth);
    Group::until("the fourth votes", async || voters(&group, fourth, 4).await).await;
    group.leader().await;

    // A founder and the one that joined: both have voted, and may not begin as if they never had.
    for lost in [0, fourth] {
        if group.leader().await == lost {
            group.stop(lost).await;
        } else {
            group.kill(lost);
        }
        let member = |s: serde_json::Value| s["member_id"].as_u64().unwrap();
        load.served().await;
        group.seats[lost].home.lose_disk();
        group.spawn(lost);
        Group::until("it votes again", async || voters(&group, lost, 4).await).await;
        group.leader().await;
        let again = member(stands(&group.seats[lost]).await.unwrap());
        let leader = group.leader().await;
        let rows = group.seats[leader].home.http().get_json("/pd/api/v1/members").await.unwrap();
        let rows = rows["members"].as_array().unwrap();
        assert_eq!(rows.len(), 4, "the one that was lost is gone");
        assert!(rows.iter().any(|row| row["member_id"].as_u64() == Some(again)), "{rows:?}");
    }

    let (totals, _) = load.end().await;
    group.same().await;
    assert!(totals.writes > 10, "{totals:?}");
    nodes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_fail_no_call_for_good() {
    let rounds = rounds(3);
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let load = Load::start_on(&group.urls()).await;
    let from = Instant::now();
    for _ in 0..rounds {
        for seat in 0..3 {
            load.served().await;
            group.stop(seat).await;
            group.spawn(seat);
            group.leader().await;
        }
    }
    let silence = load.silence_since(from);
    let (totals, _) = load.end().await;
    group.same().await;
    println!("{rounds} rounds of restarts: longest silence {silence:?}; {totals:?}");
    // Every call was answered when it was tried again: what is bounded is how long that took.
    assert!(silence < Duration::from_secs(20), "{silence:?}");
    assert!(totals.timestamps > 40 && totals.writes > 20, "{totals:?}");
    nodes.end().await;
}

/// How long clients get no timestamp when so many leaders are killed, and so many stopped. By command only: it takes minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release --test members silence -- --ignored --nocapture"]
async fn silence_of_timestamps_when_the_leader_goes() {
    let rounds = rounds(20);
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let load = Load::start_on(&group.urls()).await;
    for orderly in [false, true] {
        let mut silences = vec![];
        for _ in 0..rounds {
            let leader = group.leader().await;
            load.served().await;
            let from = Instant::now();
            if orderly {
                group.stop(leader).await;
            } else {
                group.kill(leader);
            }
            load.served().await;
            silences.push(load.silence_since(from));
            group.spawn(leader);
        }
        silences.sort_unstable();
        let how = if orderly { "SIGTERM" } else { "kill -9" };
        println!("{how}, {rounds} runs: median {:?}, longest {:?}", silences[rounds / 2], silences[rounds - 1]);
        println!("  {silences:?}");
    }
    load.end().await;
    nodes.end().await;
}
