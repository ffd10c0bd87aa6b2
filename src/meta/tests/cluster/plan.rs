//! What a seed stands for: size, timing, network, and which faults there are.

use std::time::Duration;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::meta::{RaftTimings, bugs::Bug};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;

/// Something bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fault {
    /// Power goes at some operation of the disk.
    Crash,
    /// The process is killed.
    Kill,
    /// All at once.
    CrashAll,
    /// A process stands still for a while.
    Pause,
    /// Some cannot reach others, perhaps one way only.
    Partition,
    /// A member that has a leader is restarted while another one, which has none, campaigns.
    Ambush,
    /// A wall clock jumps, or stands.
    Clock,
    /// A disk is slow, or hangs.
    SlowDisk,
    /// A disk is full, or a sync fails.
    BadDisk,
    /// Leadership is handed over.
    Transfer,
    /// A member is added.
    Add,
    /// A member is removed.
    Remove,
}

pub(super) const ALL: [Fault; 12] = [
    Fault::Crash,
    Fault::Kill,
    Fault::CrashAll,
    Fault::Pause,
    Fault::Partition,
    Fault::Ambush,
    Fault::Clock,
    Fault::SlowDisk,
    Fault::BadDisk,
    Fault::Transfer,
    Fault::Add,
    Fault::Remove,
];

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) members: usize,
    pub(super) timings: RaftTimings,
    /// Election timeouts differ by machine, and change with starts: a change of the setting is being rolled out.
    pub(super) mixed: bool,
    pub(super) faults: Vec<Fault>,
    /// Mean time between faults and between requests of clients.
    pub(super) fault_gap: u64,
    pub(super) request_gap: u64,
    /// Shares of messages, in thousandths.
    pub(super) lost: u32,
    pub(super) doubled: u32,
    /// Longest way of a message, and of one in twenty.
    pub(super) delay: u64,
    pub(super) long_delay: u64,
    /// How long there are faults.
    pub(super) lasts: u64,
    pub(super) bug: Option<Bug>,
    /// Only what clients saw is looked at, and only in the end.
    pub(super) by_history: bool,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x70_6c_61_6e);
        // Not all at once, so that each also meets a world that is otherwise quiet.
        let faults: Vec<Fault> = ALL.into_iter().filter(|_| rng.random_bool(0.45)).collect();
        let quiet_network = rng.random_bool(0.3);
        let compact = [(8, 4), (30, 10), (400, 50)].choose(&mut rng).copied().unwrap_or((30, 10));
        Self {
            seed,
            members: if rng.random_bool(0.6) { 3 } else { 5 },
            timings: RaftTimings {
                tick: Duration::from_millis(rng.random_range(40..=100)),
                election_ticks: rng.random_range(5..=10),
                compact_every: compact.0,
                compact_keep: compact.1,
                hash_every: rng.random_range(3..=20),
                hash_period: Duration::from_secs(2),
                ..RaftTimings::default()
            },
            faults: if faults.is_empty() { vec![Fault::Crash] } else { faults },
            fault_gap: rng.random_range(100..1500) * MS,
            request_gap: rng.random_range(5..40) * MS,
            lost: if quiet_network { 0 } else { rng.random_range(0..150) },
            doubled: if quiet_network { 0 } else { rng.random_range(0..100) },
            delay: rng.random_range(1..20) * MS,
            long_delay: if quiet_network { MS } else { rng.random_range(20..3000) * MS },
            lasts: rng.random_range(8..16) * SECOND,
            bug: None,
            by_history: false,
            mixed: rng.random_bool(0.3),
        }
    }

    /// A world in which little is left to chance but these faults, one soon after the other, on a quick network.
    pub(super) fn only(seed: u64, faults: &[Fault]) -> Self {
        let plan = Self::of(seed);
        Self {
            members: 3,
            faults: faults.to_vec(),
            fault_gap: 200 * MS,
            request_gap: 10 * MS,
            lost: 0,
            doubled: 0,
            delay: 3 * MS,
            long_delay: 3 * MS,
            lasts: 25 * SECOND,
            mixed: false,
            ..plan
        }
    }
}
