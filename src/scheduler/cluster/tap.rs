//! A tap on the inputs of the deciding code, for recordings.
//!
//! Owns: what an input is, and that inputs are told in the order in which they are decided while somebody listens. Must not know:
//! who listens, how inputs are written down. Without a listener an input costs one atomic read.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

use crate::{
    model::{Key, KeyRange, Now, Region, RegionId, StoreId, StoreLimits, StoreRecord, StoreStats},
    scheduler::{
        admin::Request,
        checker::pause::CheckerName,
        effect::{Effect, Event},
        operator::Operator,
    },
    store::warm::Part,
};

/// Something that came in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A region's heartbeat.
    Region(&'a Region),
    /// A region from the cache on disk.
    Loaded(&'a Region),
    /// A region was taken out of the index.
    Dropped(RegionId),
    /// A store's heartbeat.
    Store(StoreId, &'a StoreStats),
    /// An agreed store record.
    PutStore(&'a StoreRecord),
    /// A store's record was deleted.
    RemoveStore(StoreId),
    /// A store's limits; `None`: it has none any more.
    Limits(StoreId, Option<StoreLimits>),
    /// Other settings are in force: who wants to know which asks where they are agreed.
    Settings,
    /// A person asks for an operator.
    Admin(&'a Request),
    /// A person cancels a region's operator.
    Cancel(RegionId),
    /// A person cancels all operators.
    CancelAll,
    /// A tick.
    Tick,
    /// This member leads from now on; whether what was heard counts as heard by it.
    BeginTerm(bool),
    /// This member does not lead any more.
    EndTerm,
    /// A part of the leader's copy.
    Copied(&'a Part),
    /// Other schedulers run: who wants to know which asks where they are agreed.
    Schedulers,
    /// The schedulers that are due look at the world.
    TickSchedulers,
    /// A person pauses a scheduler.
    PauseScheduler(&'a str, Duration),
    /// A person pauses a checker.
    PauseChecker(CheckerName, Duration),
    /// So many regions of each range are to be looked at next.
    Accelerate(&'a [KeyRange], usize),
    /// All regions of these ranges are to be looked at.
    Suspect(&'a [KeyRange]),
    /// Regions come out of a split.
    Split(&'a [RegionId]),
    /// Regions are scattered: as ones of a group, and whether past the store limits.
    Scatter(&'a [RegionId], &'a str, bool),
    /// Regions are to be split at these keys.
    SplitAt(&'a [Key]),
}

/// Listens. Told of each input before it is decided, and of each operator that starts before the next input.
pub trait Tap: Send + Sync {
    /// An input, and its time; one that has none of its own is told without.
    fn input(&self, now: Option<Now>, input: Input<'_>);
    /// An operator started.
    fn started(&self, op: &Operator);
}

/// Where a listener is kept, and whose turn it is.
#[derive(Default)]
pub(super) struct Taps {
    listener: OnceLock<Arc<dyn Tap>>,
    turn: ReentrantMutex<()>,
}

impl Taps {
    /// Lets `tap` listen; the first one stays.
    pub(super) fn set(&self, tap: Arc<dyn Tap>) {
        let _ = self.listener.set(tap);
    }

    /// Whether somebody listens.
    pub(super) fn is_listening(&self) -> bool {
        self.listener.get().is_some()
    }

    /// Tells an input; nothing else is decided until the guard is dropped.
    pub(super) fn input(&self, now: Option<Now>, input: Input<'_>) -> Option<ReentrantMutexGuard<'_, ()>> {
        let listener = self.listener.get()?;
        let turn = self.turn.lock();
        listener.input(now, input);
        Some(turn)
    }

    /// Tells which operators started.
    pub(super) fn effects(&self, effects: &[Effect]) {
        let Some(listener) = self.listener.get() else { return };
        for effect in effects {
            if let Effect::Tell(Event::OperatorAdded { op }) = effect {
                listener.started(op);
            }
        }
    }
}
