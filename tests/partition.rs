//! Three members as processes whose wires are cut, one way and both, while clients never stop asking.

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
    pub mod wires;
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
    wires::Wires,
};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// How long all wires are cut: longer than any lease.
const ALL_CUT: Duration = Duration::from_secs(3);

/// Which wires are cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Cut {
    LeaderAlone,
    FollowerAlone,
    LeaderHearsNobody,
    NobodyHearsLeader,
    FollowerHearsNobody,
    NobodyHearsFollower,
    All,
}

impl Cut {
    const ALL: [Self; 7] = [
        Self::LeaderAlone,
        Self::FollowerAlone,
        Self::LeaderHearsNobody,
        Self::NobodyHearsLeader,
        Self::FollowerHearsNobody,
        Self::NobodyHearsFollower,
        Self::All,
    ];

    fn takes_leader(self) -> bool {
        matches!(self, Self::LeaderAlone | Self::LeaderHearsNobody | Self::NobodyHearsLeader)
    }

    fn pairs(self, leader: usize, follower: usize) -> Vec<(usize, usize)> {
        let to = |seat: usize| (0..3).filter(move |s| *s != seat).map(move |s| (s, seat));
        let from = |seat: usize| to(seat).map(|(a, b)| (b, a));
        match self {
            Self::LeaderAlone => to(leader).chain(from(leader)).collect(),
            Self::FollowerAlone => to(follower).chain(from(follower)).collect(),
            Self::LeaderHearsNobody => to(leader).collect(),
            Self::NobodyHearsLeader => from(leader).collect(),
            Self::FollowerHearsNobody => to(follower).collect(),
            Self::NobodyHearsFollower => from(follower).collect(),
            Self::All => (0..3).flat_map(to).collect(),
        }
    }
}

fn rounds(otherwise: usize) -> usize {
    std::env::var("BERTH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

async fn leads(group: &Group, seat: usize) -> bool {
    stands(&group.seats[seat]).await.is_some_and(|stands| stands["leads"] == true)
}

/// Cuts, sees what has to come of it, and heals.
async fn strike(group: &Group, wires: &Wires, load: &Load, cut: Cut, follower: usize) {
    let leader = group.leader().await;
    let follower = (leader + 1 + follower) % 3;
    let held = wires.held();
    wires.cut(cut.pairs(leader, follower));
    if cut == Cut::All {
        // Nobody serves without the others: no lease outlives its end.
        Group::until("nobody leads", async || {
            let mut all = vec![];
            for seat in 0..3 {
                all.push(leads(group, seat).await);
            }
            !all.contains(&true)
        })
        .await;
        let silent = load.totals().timestamps;
        tokio::time::sleep(ALL_CUT).await;
        assert_eq!(load.totals().timestamps, silent, "a timestamp came from somebody who reached nobody");
    } else if cut.takes_leader() {
        Group::until("another leads", async || {
            let others = [(leader + 1) % 3, (leader + 2) % 3];
            !leads(group, leader).await && (leads(group, others[0]).await || leads(group, others[1]).await)
        })
        .await;
        load.served().await;
    } else {
        load.served().await;
        assert!(leads(group, leader).await, "{cut:?}: the leader reaches a quorum and stays");
        load.served().await;
    }
    Group::until("something was held up", async || wires.held() > held).await;
    wires.heal();
    group.leader().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_t1_d1_l1_members_that_do_not_reach_each_other_lose_nothing() {
    let rounds = rounds(10);
    let seed = std::env::var("BERTH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_123);
    println!("BERTH_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let wires = Wires::new(3).await;
    let group = Group::start_between(&wires.listen, &wires.reached, &[]).await;
    let fleet = FleetOptions {
        pd: group.urls(),
        stores: 4,
        regions: 20,
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(200),
        ..FleetOptions::default()
    };
    let mut nodes = Nodes::start(fleet);
    nodes.loaded().await;
    let load = Load::start_without_safe_point(&group.urls()).await;
    let readers = Readers::start(&group.urls(), rng.random());
    let mut cuts: BTreeMap<Cut, usize> = BTreeMap::new();
    for round in 0..rounds {
        // Each of them at least once, and after that as it comes.
        let cut = Cut::ALL.get(round).or_else(|| Cut::ALL.choose(&mut rng)).copied().unwrap();
        load.served().await;
        let from = Instant::now();
        strike(&group, &wires, &load, cut, rng.random_range(0..2)).await;
        load.served().await;
        *cuts.entry(cut).or_default() += 1;
        println!("{cut:?}: {:?} without a timestamp", load.silence_since(from));
    }
    let (totals, ids) = load.end().await;
    let seen = readers.end().await;
    group.same().await;
    println!("{cuts:?}; held up {} times; {totals:?}; {seen:?}", wires.held());
    assert_eq!(cuts.values().sum::<usize>(), rounds);
    assert!(wires.held() >= rounds as u64);
    seen.enough(rounds);
    assert!(totals.timestamps > 10 * rounds && ids.len() > 50 * rounds, "{totals:?}");
    assert!(totals.writes > 8 * rounds as u64, "{totals:?}");
    nodes.end().await;
}
