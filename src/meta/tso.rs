//! Timestamps: a wall-clock part in milliseconds and a counter, handed out below a bound that was agreed through the log (T1 to T4).
//!
//! Owns: the arithmetic that makes every timestamp greater than all before it, whatever the clock does. Must not know: the log, leases;
//! `handle` asks for a higher bound and checks the lease.

use std::time::Duration;

use parking_lot::Mutex;

/// The counter of a timestamp stays below this (18 bits).
pub const MAX_LOGICAL: i64 = 1 << 18;

/// PD's default of `tso-save-interval`.
pub(super) const DEFAULT_SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// How far `reset-ts` may go ahead of the clock, milliseconds (PD's 24 hours).
const MAX_RESET_GAP_MS: i64 = 24 * 60 * 60 * 1000;

/// A timestamp. With a count of n it stands for the n timestamps `logical - n + 1 ..= logical` of this millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Unix milliseconds.
    pub physical_ms: i64,
    /// Counter in that millisecond, from 1.
    pub logical: i64,
}

impl Timestamp {
    /// The 64-bit form: milliseconds above 18 bits of counter.
    pub fn composed(self) -> u64 {
        (self.physical_ms.cast_unsigned() << 18) | self.logical.cast_unsigned()
    }

    /// From the 64-bit form.
    pub fn from_composed(ts: u64) -> Self {
        Self { physical_ms: (ts >> 18).cast_signed(), logical: (ts & ((1 << 18) - 1)).cast_signed() }
    }
}

/// What asking for timestamps came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Grant {
    /// The last of those asked for; `low`: the bound should be lifted soon.
    Given {
        /// It.
        ts: Timestamp,
        /// Whether less than half of the window is left.
        low: bool,
    },
    /// The bound must be lifted to this first, Unix milliseconds.
    Window(i64),
    /// This member has no timestamps to give (it does not lead).
    Closed,
}

#[derive(Debug, Default)]
struct Inner {
    /// Milliseconds of the last timestamp.
    physical: i64,
    /// Its counter.
    logical: i64,
    /// The agreed bound: `physical` stays below it.
    upper: i64,
    /// Whether this member leads and started above the bound of those before it.
    open: bool,
}

/// The timestamps of this member.
#[derive(Debug)]
pub(super) struct Tso {
    inner: Mutex<Inner>,
    /// Width of a window, milliseconds.
    window_ms: i64,
}

impl Tso {
    /// `save_interval` is how far ahead of the clock a window goes.
    pub(super) fn new(save_interval: Duration) -> Self {
        let window_ms = i64::try_from(save_interval.as_millis()).unwrap_or(i64::MAX).clamp(1, MAX_RESET_GAP_MS);
        Self { inner: Mutex::default(), window_ms }
    }

    /// `count` timestamps at wall time `now_ms`. A count that no millisecond can hold must have been refused before.
    pub(super) fn take(&self, count: u32, now_ms: i64) -> Grant {
        let mut t = self.inner.lock();
        if !t.open {
            return Grant::Closed;
        }
        let count = i64::from(count);
        let (mut physical, mut logical) = (t.physical, t.logical);
        if now_ms > physical {
            (physical, logical) = (now_ms, 0);
        }
        // The counter is full, or the clock stands or went back: the next millisecond is as good.
        if logical + count >= MAX_LOGICAL {
            (physical, logical) = (physical + 1, 0);
        }
        if physical >= t.upper {
            return Grant::Window(physical + self.window_ms);
        }
        logical += count;
        (t.physical, t.logical) = (physical, logical);
        let ts = Timestamp { physical_ms: physical, logical };
        // With 5 s a disk that hangs for 3 s, for which leadership stays, is bridged.
        Grant::Given { ts, low: t.upper - physical < self.window_ms / 10 * 7 }
    }

    /// The bound after this one, for lifting it ahead of need.
    pub(super) fn next_upper(&self, now_ms: i64) -> i64 {
        self.inner.lock().physical.max(now_ms) + self.window_ms
    }

    /// This member leads from here on; no timestamp of an earlier leader was at or above `upper`.
    pub(super) fn open_above(&self, upper: i64) {
        let mut t = self.inner.lock();
        let physical = upper.max(t.physical + 1);
        *t = Inner { physical, logical: 0, upper, open: true };
    }

    /// The bound was lifted by the log.
    pub(super) fn lifted(&self, upper: i64) {
        let mut t = self.inner.lock();
        if t.open {
            t.upper = t.upper.max(upper);
        }
    }

    /// This member does not lead any more.
    pub(super) fn close(&self) {
        self.inner.lock().open = false;
    }

    /// Milliseconds of the last timestamp given.
    pub(super) fn last_physical(&self) -> i64 {
        self.inner.lock().physical
    }

    /// Checks a jump of `reset-ts` and returns the bound that it needs. PD's rules and texts (T5): never back, and not more than a day
    /// ahead of the clock unless forced.
    pub(super) fn check_reset(&self, to: Timestamp, now_ms: i64, skip_gap_check: bool) -> Result<i64, &'static str> {
        let t = self.inner.lock();
        let current = Timestamp { physical_ms: t.physical, logical: t.logical };
        if to <= current {
            return Err("the specified ts is smaller than now");
        }
        if !skip_gap_check && to.physical_ms.saturating_sub(now_ms.max(t.physical)) >= MAX_RESET_GAP_MS {
            return Err("the specified ts is too larger than now");
        }
        Ok(to.physical_ms.saturating_add(self.window_ms))
    }

    /// Jumps to `to`, after its bound was agreed; not if others were faster.
    pub(super) fn jump(&self, to: Timestamp) -> Result<(), &'static str> {
        let mut t = self.inner.lock();
        let current = Timestamp { physical_ms: t.physical, logical: t.logical };
        if !t.open || to <= current || to.physical_ms >= t.upper {
            return Err("the specified ts is smaller than now");
        }
        (t.physical, t.logical) = (to.physical_ms, to.logical);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(3);

    const DAY_MS: i64 = 86_400_000;

    #[derive(Clone, Debug)]
    enum Step {
        Ask(u32),
        Clock(i64),
        /// A crash between a saved window and its use, then a new leader.
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..5u32).prop_map(Step::Ask),
            2 => (200_000..262_144u32).prop_map(Step::Ask),
            2 => (-20i64..20).prop_map(Step::Clock),
            1 => prop_oneof![Just(-DAY_MS), Just(DAY_MS), Just(-3_600_000), Just(3_600_000)].prop_map(Step::Clock),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn t1_t2_t3_timestamps_ascend_whatever_the_clock_does(steps in proptest::collection::vec(step(), 1..200)) {
            let mut now = 1_795_358_338_040i64;
            let mut saved = 0i64;
            let mut tso = Tso::new(WINDOW);
            tso.open_above(saved);
            let mut last = Timestamp::default();
            for step in steps {
                match step {
                    Step::Clock(by) => now += by,
                    Step::Restart => {
                        tso = Tso::new(WINDOW);
                        tso.open_above(saved);
                    }
                    Step::Ask(count) => {
                        let mut grant = tso.take(count, now);
                        if let Grant::Window(upper) = grant {
                            saved = saved.max(upper);
                            tso.lifted(saved);
                            grant = tso.take(count, now);
                        }
                        let Grant::Given { ts, .. } = grant else { panic!("no timestamp after a new window: {grant:?}") };
                        let first = Timestamp { logical: ts.logical - i64::from(count) + 1, ..ts };
                        prop_assert!(first.logical >= 1 && ts.logical < MAX_LOGICAL);
                        prop_assert!(first > last, "{first:?} after {last:?}");
                        prop_assert!(first.composed() > last.composed());
                        prop_assert!(ts.physical_ms < saved, "T4: below the agreed bound");
                        prop_assert_eq!(Timestamp::from_composed(ts.composed()), ts);
                        last = ts;
                    }
                }
            }
        }
    }

    #[test]
    fn t4_nothing_without_leadership() {
        let tso = Tso::new(WINDOW);
        assert_eq!(tso.take(1, 100), Grant::Closed);
        tso.lifted(1000);
        assert_eq!(tso.take(1, 100), Grant::Closed);
        tso.open_above(50);
        assert_eq!(tso.take(1, 100), Grant::Window(3100));
        tso.lifted(3100);
        assert_eq!(tso.take(1, 100), Grant::Given { ts: Timestamp { physical_ms: 100, logical: 1 }, low: false });
        assert_eq!(tso.take(10, 100), Grant::Given { ts: Timestamp { physical_ms: 100, logical: 11 }, low: false });
        tso.close();
        assert_eq!(tso.take(1, 100), Grant::Closed);
    }

    #[test]
    fn t5_a_reset_never_lowers_and_is_bounded() {
        let tso = Tso::new(WINDOW);
        tso.open_above(1000);
        tso.lifted(5000);
        let at = |physical_ms| Timestamp { physical_ms, logical: 0 };
        assert_eq!(tso.check_reset(at(1000), 900, false), Err("the specified ts is smaller than now"));
        assert_eq!(tso.check_reset(at(1000 + DAY_MS), 900, false), Err("the specified ts is too larger than now"));
        assert_eq!(tso.check_reset(at(1000 + DAY_MS), 900, true), Ok(4000 + DAY_MS));
        assert_eq!(tso.jump(at(4000)), Ok(()));
        assert_eq!(tso.jump(at(3000)), Err("the specified ts is smaller than now"));
        assert_eq!(tso.last_physical(), 4000);
    }
}
