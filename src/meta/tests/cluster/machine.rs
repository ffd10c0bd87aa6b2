//! A machine of the simulated cluster: a disk, two clocks, and perhaps a member that runs on it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    meta::{
        CacheSizes, MemberInfo, Meta, OpenError, Options, RaftTimings,
        bugs::{Bug, Bugs},
        disk::faults::FaultDisk,
        host::{Core, CoreOptions},
        membership::Founding,
        queue::{Event, Queue, Rejected},
        tests::logger,
        tso,
    },
    model::{Clock, Mono, Now, Wall},
};

/// The clocks of one machine. The world sets them.
#[derive(Debug, Default)]
pub(super) struct MachineClock {
    mono: AtomicU64,
    wall: AtomicI64,
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        Now { mono: Mono(self.mono.load(Ordering::Relaxed)), wall: Wall(self.wall.load(Ordering::Relaxed)) }
    }
}

/// How the clocks of one machine differ from true time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Thousandths by which its monotonic clock runs fast or slow.
    pub(super) mono_permille: i64,
    /// Its wall clock's error, nanoseconds.
    pub(super) wall_off: i64,
    /// Its wall clock stands at this time.
    pub(super) wall_stands: Option<i64>,
}

/// When the world begins, Unix nanoseconds.
pub(super) const BEGINNING: i64 = 1_795_358_338_040_000_000;

impl Rate {
    fn mono(self, now: u64) -> u64 {
        (1_000_000_000 + now).saturating_add_signed(now as i64 / 1000 * self.mono_permille)
    }

    /// The first true time at which the monotonic clock shows `mono`.
    pub(super) fn true_time(self, mono: u64) -> u64 {
        let mut low = mono.saturating_sub(1_000_000_000) / 2;
        let mut high = mono * 2;
        while low < high {
            let middle = (low + high) / 2;
            if self.mono(middle) >= mono { high = middle } else { low = middle + 1 }
        }
        low
    }
}

/// The queue of a member that is stepped by the world.
#[derive(Clone, Default)]
pub(super) struct Inbox(pub(super) Arc<Mutex<VecDeque<Event>>>);

impl Queue for Inbox {
    fn try_send(&self, event: Event) -> Result<(), Rejected> {
        self.0.lock().push_back(event);
        Ok(())
    }
}

/// A write under way.
pub(super) struct Job {
    /// What will have come of it.
    pub(super) event: Option<Event>,
    /// The moment of the disk at which it began.
    pub(super) begun: usize,
}

/// A member that runs.
pub(super) struct Run {
    pub(super) core: Core,
    pub(super) meta: Meta,
    pub(super) inbox: Inbox,
    pub(super) job: Option<Job>,
    /// Committed entries up to here were compared with those of others.
    pub(super) checked: u64,
    /// It was seen to serve in this term.
    pub(super) served: u64,
    /// The highest id that a node has shown to it.
    pub(super) shown: u64,
    pub(super) wake_at: u64,
}

pub(super) struct Machine {
    pub(super) info: MemberInfo,
    pub(super) founding: Founding,
    pub(super) disk: FaultDisk,
    pub(super) clock: Arc<MachineClock>,
    pub(super) rate: Rate,
    /// In place of those of the plan.
    pub(super) timings: Option<RaftTimings>,
    /// A fault that this one has.
    pub(super) bug: Option<Bug>,
    pub(super) run: Option<Run>,
    /// Counts starts, so that what was meant for an earlier run is not taken for the present one.
    pub(super) starts: u64,
    pub(super) paused: bool,
    /// It was removed from the group and switched off for good.
    pub(super) gone: bool,
    /// Its disk takes this much longer, nanoseconds.
    pub(super) slow_disk: u64,
    /// Writes that were begun.
    pub(super) jobs: u64,
    /// The power goes in its next step.
    pub(super) doomed: bool,
}

impl Machine {
    pub(super) fn new(number: usize, founding: Founding, mono_permille: i64) -> Self {
        Self {
            info: info(number),
            founding,
            disk: FaultDisk::default(),
            clock: Arc::default(),
            rate: Rate { mono_permille, wall_off: 0, wall_stands: None },
            timings: None,
            bug: None,
            run: None,
            starts: 0,
            paused: false,
            gone: false,
            slow_disk: 0,
            jobs: 0,
            doomed: false,
        }
    }

    pub(super) fn set_clock(&self, now: u64) {
        self.clock.mono.store(self.rate.mono(now), Ordering::Relaxed);
        let wall = self.rate.wall_stands.unwrap_or(BEGINNING + now as i64) + self.rate.wall_off;
        self.clock.wall.store(wall, Ordering::Relaxed);
    }

    pub(super) fn is_up(&self) -> bool {
        self.run.is_some()
    }

    /// Opens the folder and makes a member of it.
    pub(super) fn open(&mut self, raft: RaftTimings, seed: u64, bugs: Bugs) -> Result<(), OpenError> {
        self.starts += 1;
        let options = Options {
            dir: "memory".into(),
            member: self.info.clone(),
            raft,
            caches: CacheSizes { log: 1 << 20, state: 1 << 20 },
            tso_save_interval: tso::DEFAULT_SAVE_INTERVAL,
            entropy: seed.wrapping_mul(1_000_003).wrapping_add(self.starts),
            backend: Arc::new(self.disk.clone()),
            force_new: false,
        };
        let inbox = Inbox::default();
        let core = CoreOptions { options, founding: self.founding.clone(), bugs };
        let core = Core::open(core, self.clock.clone(), Box::new(inbox.clone()), logger())?;
        let meta = Meta::of(core.shared.clone());
        self.run = Some(Run { core, meta, inbox, job: None, checked: 0, served: 0, shown: 0, wake_at: 0 });
        Ok(())
    }
}

pub(super) fn info(number: usize) -> MemberInfo {
    MemberInfo {
        name: format!("berth-{number}"),
        peer_urls: vec![format!("http://10.0.0.{number}:2380")],
        client_urls: vec![format!("http://10.0.0.{number}:2379")],
        ..MemberInfo::default()
    }
}
