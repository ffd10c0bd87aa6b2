//! Things that will happen: an ordered queue of events on the fleet's time.
//!
//! Owns: the order (by time, then by the order in which they were planned, so that runs repeat). Must not know what they do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use crate::model::{Mono, PeerId, RegionId};

/// Something planned. Stores are given by their place in the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The command of a region takes effect.
    Execute { region: RegionId, token: u64 },
    /// A snapshot has been received.
    Snapshot { region: RegionId, peer: PeerId, store: usize },
    /// The second half of a merge.
    CommitMerge(RegionId),
    /// No split ids came.
    SplitTimeout { region: RegionId, token: u64 },
    /// The survivors elect leaders in place of a store that stopped.
    Elect(usize),
    /// A store with nothing left on it says so.
    ReportEmpty(usize),
    /// A store stops.
    Stop { store: usize, lasts: Option<Duration> },
    /// A store comes back.
    Start(usize),
    /// Some region changes its leader by itself.
    LeaderChange,
    /// Some region is split by load.
    SplitByLoad,
    /// Some store stops.
    RandomStop,
    /// A growing fleet makes its next regions.
    Grow,
}

/// The queue. Its length is bounded by the regions (each has at most one command and a few snapshots under way) and the faults.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Mono, u64)>>,
    events: BTreeMap<u64, Event>,
    planned: u64,
}

impl Timers {
    /// Plans `event` for `at`.
    pub(super) fn push(&mut self, at: Mono, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse((at, self.planned)));
        self.events.insert(self.planned, event);
    }

    /// The next event that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<Event> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        let Reverse((_, number)) = self.heap.pop()?;
        self.events.remove(&number)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
