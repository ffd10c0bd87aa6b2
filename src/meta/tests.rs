//! Tests of the whole of `meta`, on a disk in memory. They carry the names of the invariants that they are about.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod durability;
mod group;
mod recovery;
mod refused;
mod serving;
mod windows;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{disk::faults::FaultDisk, *};
use crate::model::{Mono, Now, Wall};

/// Long enough for any machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that stands until it is moved.
#[derive(Debug)]
struct TestClock {
    wall_ns: AtomicI64,
    mono_ns: AtomicU64,
}

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { wall_ns: AtomicI64::new(1_795_358_338_040_000_000), mono_ns: AtomicU64::new(1) })
    }

    fn jump_wall(&self, by: i64) {
        self.wall_ns.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        Now { mono: Mono(self.mono_ns.load(Ordering::Relaxed)), wall: Wall(self.wall_ns.load(Ordering::Relaxed)) }
    }
}

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

fn member() -> MemberInfo {
    MemberInfo {
        name: "berth-1".into(),
        client_urls: vec!["http://127.0.0.1:2379".into()],
        peer_urls: vec!["http://127.0.0.1:2380".into()],
        ..MemberInfo::default()
    }
}

fn options(disk: &FaultDisk, entropy: u64) -> Options {
    Options {
        dir: "memory".into(),
        member: member(),
        raft: RaftTimings::default(),
        caches: CacheSizes { log: 1 << 20, state: 1 << 20 },
        tso_save_interval: tso::DEFAULT_SAVE_INTERVAL,
        entropy,
        backend: Arc::new(disk.clone()),
        force_new: false,
    }
}

/// A running member.
struct Running {
    meta: Meta,
    host: HostHandle,
}

fn start_with(options: Options, clock: &Arc<TestClock>) -> Result<Running, OpenError> {
    let (meta, host) = Meta::open(options, clock.clone(), logger())?;
    let host = host.spawn()?;
    Ok(Running { meta, host })
}

fn start(disk: &FaultDisk, entropy: u64, clock: &Arc<TestClock>) -> Running {
    let running = start_with(options(disk, entropy), clock).expect("opens");
    assert!(running.meta.wait_until_leader(PATIENCE), "leads");
    running
}

/// A command that leaves a mark which can be looked for: label rule `i`.
fn mark(i: usize) -> Command {
    Command::PutLabelRules {
        rules: vec![NamedRow { id: format!("{i:04}"), json: format!("{{\"n\":{i}}}") }],
        delete: vec![],
    }
}

/// How many marks are there; they must be 0, 1, 2 … without a gap.
fn marks(meta: &Meta) -> usize {
    let state = meta.state();
    for (i, id) in state.label_rules.keys().enumerate() {
        assert_eq!(*id, format!("{i:04}"), "a mark is missing though a later one is there");
    }
    state.label_rules.len()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
