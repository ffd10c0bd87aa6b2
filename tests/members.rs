//! Three members as processes on real disks: killed, paused, stopped, with a disk that hangs or is full, while clients never stop asking.

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
    group::{Disk, Group, stands},
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

/// How many tries may fail before a call is answered when members are stopped in order. Clients try again each 20 ms, so that who has to
/// wait for an election (a second) needs more; PD's own client tries six times, half a second apart.
const TRIES: u32 = 30;
/// How long nobody may get a timestamp then, on a machine that does much else.
const SILENCE: Duration = Duration::from_secs(5);

/// What can happen to a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    KillLeader,
    KillFollower,
    KillTwo,
    KillAll,
    PauseLeader,
    StopLeader,
    /// Its disk hangs for some seconds.
    HangLeader,
    /// The same of its state file, which it writes on the thread that tells the others that it leads.
    HangLeadersState,
    /// Its disk hangs until the process gives up.
    HangLeaderForGood,
    FillLeadersDisk,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::KillTwo,
        Self::KillAll,
        Self::PauseLeader,
        Self::StopLeader,
        Self::HangLeader,
        Self::HangLeadersState,
        Self::HangLeaderForGood,
        Self::FillLeadersDisk,
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

async fn another_leads(group: &Group, than: usize) {
    Group::until("another leads", async || {
        for seat in group.seats.iter().enumerate().filter(|(seat, _)| *seat != than).map(|(_, seat)| seat) {
            if stands(seat).await.is_some_and(|stands| stands["leads"] == true) {
                return true;
            }
        }
        false
    })
    .await;
}

/// How often a member has said this, over all its starts.
fn said(group: &Group, seat: usize, text: &str) -> usize {
    group.seats[seat].home.log().matches(text).count()
}

/// The disk of the leader breaks so that its process ends by itself, with these words. Others lead and acknowledge meanwhile; with a
/// disk that is well again it comes back.
async fn break_disk(group: &mut Group, load: &Load, leader: usize, disk: Disk, words: &str) {
    let before = said(group, leader, words);
    group.seats[leader].set_disk(disk);
    another_leads(group, leader).await;
    load.served().await;
    assert_eq!(group.ended(leader).await, Some(1), "{disk:?}");
    assert!(said(group, leader, words) > before, "{disk:?}: {}", group.seats[leader].home.log());
    load.served().await;
    group.seats[leader].set_disk(Disk::Well);
    group.spawn(leader);
    group.leader().await;
}

async fn strike(group: &mut Group, load: &Load, fault: Fault, rng: &mut ChaCha8Rng) {
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
        Fault::HangLeader | Fault::HangLeadersState => {
            let disk = if fault == Fault::HangLeader { Disk::Hangs } else { Disk::StateHangs };
            group.seats[leader].set_disk(disk);
            another_leads(group, leader).await;
            group.seats[leader].set_disk(Disk::Well);
            return;
        }
        Fault::HangLeaderForGood => {
            break_disk(group, load, leader, Disk::Hangs, "it has not answered for 20s").await;
            return;
        }
        Fault::FillLeadersDisk => {
            break_disk(group, load, leader, Disk::Full, "No space left on device").await;
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
    // What is applied is written to the file soon, not kept in memory.
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("berth.toml");
    std::fs::write(&config, "[berth]\nstate-cache-size = \"64KiB\"\n").unwrap();
    let mut group = Group::start(3, &[&format!("--config={}", config.display())]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let load = Load::start_without_safe_point(&group.urls()).await;
    let readers = Readers::start(&group.urls(), rng.random());
    let mut faults: BTreeMap<Fault, u32> = BTreeMap::new();
    for round in 0..rounds {
        // Each of them at least once, and after that as it comes.
        let fault = Fault::ALL.get(round).copied().unwrap_or_else(|| Fault::ALL[rng.random_range(0..Fault::ALL.len())]);
        let from = Instant::now();
        load.served().await;
        strike(&mut group, &load, fault, &mut rng).await;
        load.served().await;
        *faults.entry(fault).or_default() += 1;
        println!("{fault:?}: {:?} without a timestamp", load.silence_since(from));
    }
    group.leader().await;
    let (totals, ids) = load.end().await;
    let seen = readers.end().await;
    group.same().await;
    println!("{faults:?}; {totals:?}; {seen:?}");
    seen.enough(rounds);
    assert_eq!(faults.values().sum::<u32>() as usize, rounds);
    assert_eq!(faults.len(), rounds.min(Fault::ALL.len()), "{faults:?}");
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
    // Every call was answered when it was tried again: what is bounded is how often that took.
    assert!(totals.most_tries <= TRIES, "a call was tried {} times in vain; {totals:?}", totals.most_tries);
    assert!(silence < SILENCE, "{silence:?}");
    assert!(totals.errors >= rounds as u64, "no call met a leader that was stopped: {totals:?}");
    assert!(totals.timestamps > 40 && totals.writes > 20, "{totals:?}");
    nodes.end().await;
}

/// How long clients get no timestamp when so many leaders are killed, and so many stopped. By command only: it takes minutes.
///
/// `BERTH_ROUNDS=20 cargo test --release --test members silence -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release --test members silence -- --ignored --nocapture"]
async fn silence_of_timestamps_when_the_leader_goes() {
    const MOST: [(&str, Duration); 2] = [("kill -9", Duration::from_secs(2)), ("SIGTERM", Duration::from_millis(100))];
    let rounds = rounds(20).max(1);
    let mut group = Group::start(3, &[]).await;
    let mut nodes = Nodes::start(fleet(&group));
    nodes.loaded().await;
    let load = Load::start_on(&group.urls()).await;
    let mut table =
        format!("{:>8} {:>5} {:>9} {:>9} {:>9} {:>9}\n", "leader", "runs", "min", "median", "max", "at most");
    let mut missed = vec![];
    for (how, most) in MOST {
        let mut silences = vec![];
        for _ in 0..rounds {
            let leader = group.leader().await;
            load.served().await;
            let from = Instant::now();
            if how == "SIGTERM" {
                group.stop(leader).await;
            } else {
                group.kill(leader);
            }
            load.served().await;
            silences.push(load.silence_since(from));
            group.spawn(leader);
        }
        silences.sort_unstable();
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let (min, median, max) = (silences[0], silences[rounds / 2], silences[rounds - 1]);
        let [min, median, longest, bound] = [min, median, max, most].map(ms);
        table += &format!("{how:>8} {rounds:>5} {min:>9} {median:>9} {longest:>9} {bound:>9}\n");
        if max > most {
            missed.push(format!("{how}: {silences:?}"));
        }
    }
    println!("longest silence in timestamps\n{table}");
    load.end().await;
    nodes.end().await;
    assert!(missed.is_empty(), "longer than at most: {missed:#?}");
}
