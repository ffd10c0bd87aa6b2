//! Since when a thread waits for the disk.
//!
//! Owns: the mark. Must not know: what is written, how long is too long.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::model::Mono;

/// Set by the thread that gives the disk work, read by whoever watches.
#[derive(Debug, Default)]
pub(super) struct Busy(AtomicU64);

impl Busy {
    /// Work was given at `now`.
    pub(super) fn begin(&self, now: Mono) {
        // 0 stands for idle.
        self.0.store(now.0.max(1), Ordering::Relaxed);
    }

    /// It is done.
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// How long it has been under way.
    pub(super) fn lasts(&self, now: Mono) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.since(Mono(since)),
        }
    }
}
