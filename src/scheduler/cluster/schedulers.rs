//! The cluster's schedulers: the list in force, their turns, what people ask and tell them.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use super::{Cluster, tap::Input};
use crate::{
    model::{Mono, Now, StoreId},
    scheduler::{
        balance::{Config, Diagnosis, Kind, PauseError, Paused, Spec},
        effect::Effect,
    },
};

impl Cluster {
    /// Makes these the schedulers that run. Those that ran before keep their pauses.
    pub fn set_schedulers(&self, specs: Vec<Spec>, now: Now) {
        let _turn = self.taps.input(Some(now), Input::Schedulers);
        self.decide(now, |_, d, _| d.schedulers.set(specs, now));
        self.pause_leaders(now);
        self.scheduler_due.store(0, Ordering::Release);
    }

    /// Lets the schedulers that are due look at the world (every few milliseconds: it costs one load when none is due).
    pub fn tick_schedulers(&self, now: Now) -> Vec<Effect> {
        if now.mono.0 < self.scheduler_due.load(Ordering::Acquire) || !self.is_prepared() {
            return Vec::new();
        }
        let _turn = self.taps.input(Some(now), Input::TickSchedulers);
        let (changed, out) = self.decide(now, |view, d, out| {
            if !self.is_leading() {
                return false;
            }
            let before = d.schedulers.leader_pauses();
            d.schedulers.tick(view, &mut d.controller, out);
            self.scheduler_due.store(d.schedulers.next_due().map_or(u64::MAX, |Mono(at)| at), Ordering::Release);
            before != d.schedulers.leader_pauses()
        });
        if changed {
            self.pause_leaders(now);
        }
        out
    }

    /// Writes what schedulers keep leaders off into the store table, where filters and people see it, and wakes what waited for
    /// such a store.
    pub(super) fn pause_leaders(&self, now: Now) {
        let mut changed = Vec::new();
        let deciding = self.deciding.lock();
        let pauses = deciding.schedulers.leader_pauses();
        for (id, store) in self.stores.snapshot().iter() {
            let (into, out) = pauses.get(id).copied().unwrap_or_default();
            if (store.pause_leader_in, store.pause_leader_out) != (into, out) {
                self.stores.update(*id, |s| (s.pause_leader_in, s.pause_leader_out) = (into, out));
                changed.push(*id);
            }
        }
        drop(deciding);
        if !changed.is_empty() && self.is_leading() {
            self.decide(now, |view, d, _| changed.iter().for_each(|id| d.patrol.on_store_changed(view, *id)));
        }
    }

    /// Names of the schedulers that run, in order.
    pub fn scheduler_names(&self) -> Vec<String> {
        self.deciding.lock().schedulers.names()
    }

    /// The configuration of a scheduler that runs.
    pub fn scheduler_config(&self, name: &str) -> Option<Config> {
        self.deciding.lock().schedulers.get(name).cloned()
    }

    /// The schedulers that are paused, since when and until when.
    pub fn paused_schedulers(&self, now: Now) -> Vec<(String, Paused)> {
        self.deciding.lock().schedulers.paused(now)
    }

    /// Pauses a scheduler (`all`: every one), or lets it go on when `span` is zero.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn pause_scheduler(&self, name: &str, span: Duration, now: Now) -> Result<(), PauseError> {
        let _turn = self.taps.input(Some(now), Input::PauseScheduler(name, span));
        self.deciding.lock().schedulers.pause(name, span, now)?;
        self.scheduler_due.store(0, Ordering::Release);
        Ok(())
    }

    /// What a scheduler is at. `None` before its first look.
    pub fn scheduler_diagnosis(&self, name: &str, now: Now) -> Option<Diagnosis> {
        let halted = self.settings().schedule.halt_scheduling;
        self.deciding.lock().schedulers.diagnosis(name, halted, now)
    }

    /// The stores that a scheduler of this kind found by itself and takes leaders off.
    pub fn evicting(&self, kind: Kind) -> BTreeSet<StoreId> {
        self.deciding.lock().schedulers.evicting(kind)
    }

    /// The stores of evict-leader.
    pub fn evict_leader_stores(&self) -> BTreeSet<StoreId> {
        self.deciding.lock().schedulers.evict_leader_stores()
    }
}
