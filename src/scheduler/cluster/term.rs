//! Terms: what begins and what ends when this member begins and ceases to lead.
//!
//! Owns: which of the observed state belongs to a term. Must not know: who is elected and why.
//!
//! What is agreed (stores, limits, settings, the list of schedulers) and what is known of regions outlives a term. What one leader had
//! under way does not: the next leader finds what is to be done in the agreed state and in the regions, so that a drain goes on
//! although nobody tells it of the operators of the one before.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Burying, Cluster, Deciding, Patrol, Prepare, Scatterer, Tracker, tap::Input};
use crate::{
    model::{Mono, Now},
    scheduler::prepare::Readiness,
};

impl Deciding {
    /// Forgets what belongs to a term. Ended operators and the history of hot peers stay: they are records of what was. Hot peers stay,
    /// too: the copy of what the next leader hears goes on from there.
    fn forget_term(&mut self, now: Now) {
        self.controller.begin_term(now);
        self.schedulers.begin_term(now);
        self.patrol = Patrol::new();
        self.prepare = Prepare::new();
        self.progress = Tracker::new();
        self.burying = Burying::new();
        self.scatterer = Scatterer::default();
        self.untold.clear();
    }
}

impl Cluster {
    /// This member leads from `now` on. Nothing is under way, the buckets of store limits are empty, stores are silent from `now` on at
    /// the earliest, and no region counts as heard, unless `keep_heard` says that what is known is as fresh as if it were.
    pub fn begin_term(&self, keep_heard: bool, now: Now) {
        let _turn = self.taps.input(Some(now), Input::BeginTerm(keep_heard));
        // Whatever the last leader told is taken in before, or not any more.
        let mut copy = self.copy.lock();
        let mut deciding = self.deciding.lock();
        copy.reset();
        if !keep_heard {
            self.regions.forget_heard();
            deciding.schedulers.forget_hot();
        }
        deciding.forget_term(now);
        self.leader_since.store(now.mono.0, Ordering::Release);
        self.led_until.store(u64::MAX, Ordering::Release);
        self.prepared.store(false, Ordering::Release);
        self.tells_of_reads.store(false, Ordering::Relaxed);
        self.scheduler_due.store(0, Ordering::Release);
        self.leads.store(true, Ordering::Release);
        drop((deciding, copy));
        self.pause_leaders(now);
    }

    /// This member does not lead any more: all that was under way is dropped without a word to anyone, and nothing is begun.
    pub fn end_term(&self, now: Now) {
        let _turn = self.taps.input(Some(now), Input::EndTerm);
        let mut deciding = self.deciding.lock();
        self.leads.store(false, Ordering::Release);
        if self.led_until.load(Ordering::Acquire) == u64::MAX {
            self.led_until.store(now.mono.0, Ordering::Release);
        }
        self.prepared.store(false, Ordering::Release);
        deciding.forget_term(now);
        // Who was told of this term's changes hears no more.
        self.feed.begin_term(0);
    }

    /// Whether this member leads, as far as it was told. While it does not, nothing is scheduled and heartbeats are not taken in.
    pub fn is_leading(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// Whether this member leads or did within this time: others may not know yet that it ceased to.
    pub fn led_within(&self, time: Duration, now: Now) -> bool {
        let until = self.led_until.load(Ordering::Acquire);
        until != 0 && now.mono.since(Mono(until)) < time
    }

    /// What this leader knows, and what it still waits for before it schedules and buries.
    pub fn readiness(&self, now: Now) -> Readiness {
        self.decide(now, |view, d, _| d.prepare.readiness(view)).0
    }

    /// Since when this member leads.
    pub fn leader_since(&self) -> Mono {
        Mono(self.leader_since.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests;
