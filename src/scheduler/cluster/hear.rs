//! The way of one region heartbeat.
//!
//! Owns: that two reports of one region pass one after the other, from the index to their effects, and that a report with nothing
//! to tell passes without waiting for anyone's effects. Must not know: how effects are carried out.
//!
//! Locks are taken in one order: the region's turn, the caller's own lock around effects (in `carry`), the deciding lock.

use std::cell::Cell;

use parking_lot::{Mutex, MutexGuard};

use super::{Cluster, HeartbeatError, cache_changes, tap::Input, tell_changes};
use crate::{
    model::{Now, Region, RegionId},
    scheduler::effect::Effect,
    store::{Applied, Changes},
};

/// Locks for regions. Reports of two regions that share one wait for each other for some microseconds: with so many it is rare.
const TURNS: usize = 256;

/// One lock, alone on its cache line: neighbours must not slow each other down.
#[derive(Default)]
#[repr(align(64))]
struct Turn(Mutex<()>);

/// Whose turn it is, by region.
pub(super) struct Turns(Vec<Turn>);

impl Default for Turns {
    fn default() -> Self {
        Self(std::iter::repeat_with(Turn::default).take(TURNS).collect())
    }
}

impl Turns {
    fn take(&self, region: RegionId) -> MutexGuard<'_, ()> {
        // Ids come from one counter: neighbours get different locks.
        let at = usize::try_from(region.0 % TURNS as u64).unwrap_or(0);
        self.0[at].0.lock()
    }
}

impl Cluster {
    /// Takes a region heartbeat in. When something is to be told or decided, `carry` is called once with what decides; it takes
    /// its lock, decides and carries the effects out before it returns. Nobody else's report of the region comes in between.
    ///
    /// # Errors
    /// The report is refused; nothing has changed.
    pub fn hear(
        &self,
        mut region: Region,
        now: Now,
        carry: impl FnOnce(&dyn Fn() -> Vec<Effect>),
    ) -> Result<Changes, HeartbeatError> {
        if region.range().is_empty() {
            return Err(HeartbeatError::Invalid(format!("invalid region range, region id: {}", region.id())));
        }
        if !self.is_leading() {
            return Err(HeartbeatError::NotLeading);
        }
        region.heard = Some(now.mono);
        if self.taps.is_listening() {
            return self.hear_in_order(region, now, carry);
        }
        let _turn = self.turns.take(region.id());
        let applied = self.regions.apply(region)?;
        self.feed.note_applied(&applied);
        if !(is_silent(&applied) && self.takes_note(&applied, now)) {
            carry(&|| self.follow(&applied, now));
        }
        Ok(applied.changes)
    }

    /// The same while inputs are recorded: then all are taken in one order, and the caller's lock comes before the tap's, as it does
    /// for ticks.
    fn hear_in_order(
        &self,
        region: Region,
        now: Now,
        carry: impl FnOnce(&dyn Fn() -> Vec<Effect>),
    ) -> Result<Changes, HeartbeatError> {
        let (report, result) = (Cell::new(Some(region)), Cell::new(Ok(Changes::default())));
        carry(&|| {
            let Some(region) = report.take() else { return Vec::new() };
            let _turn = self.taps.input(Some(now), Input::Region(&region));
            match self.regions.apply(region) {
                Ok(applied) => {
                    self.feed.note_applied(&applied);
                    result.set(Ok(applied.changes));
                    self.follow(&applied, now)
                }
                Err(stale) => {
                    result.set(Err(stale.into()));
                    Vec::new()
                }
            }
        });
        result.into_inner()
    }

    /// Tells the patrol of a report without anything to tell; false when the region's operator has to see it.
    fn takes_note(&self, applied: &Applied, now: Now) -> bool {
        let mut deciding = self.deciding.lock();
        let is_free = !deciding.controller.is_running(applied.region.id());
        if is_free {
            deciding.patrol.on_region_reported(applied);
            deciding.schedulers.on_heartbeat(&applied.region, now);
        }
        is_free
    }

    /// What follows from a report that was taken in.
    pub(super) fn follow(&self, applied: &Applied, now: Now) -> Vec<Effect> {
        let ((), out) = self.decide(now, |view, d, out| {
            tell_changes(view, applied, out);
            cache_changes(view, applied, out);
            for gone in &applied.removed {
                d.controller.on_region_gone(view, gone.id(), out);
            }
            d.controller.on_heartbeat(view, &applied.region, out);
            d.patrol.on_region_reported(applied);
            d.schedulers.on_heartbeat(&applied.region, now);
        });
        out
    }
}

/// Whether a report has nothing that a log line, the cache or an operator of another region would want to know.
fn is_silent(applied: &Applied) -> bool {
    let changes = applied.changes;
    let says = changes.is_new || changes.leader || changes.conf_ver || changes.version || changes.save;
    !says && applied.removed.is_empty() && applied.region.down.is_empty()
}

#[cfg(test)]
mod tests;
