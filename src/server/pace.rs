//! When a task runs whose period is a setting.
//!
//! Owns: the sum. Must not know: clocks, what the task is. Time is given as the span since any fixed moment.

use std::time::Duration;

/// How long a change of a period may go unnoticed.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// See the module's comment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    ran: Duration,
}

impl Pace {
    /// The first run is due one period after `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { ran: now }
    }

    /// `None`: a run is due, and counted as done. Else how long to wait before asking again, at most [`LOOK`]. Runs that were
    /// missed are not made up for; `period` is that in force now, `None` while there are to be no runs.
    pub(super) fn wait(&mut self, period: Option<Duration>, now: Duration) -> Option<Duration> {
        let Some(period) = period else {
            self.ran = now;
            return Some(LOOK);
        };
        let due = self.ran.saturating_add(period);
        if now < due {
            return Some((due - now).min(LOOK));
        }
        // A little late keeps step; very late begins anew.
        self.ran = if now - due < period { due } else { now };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Runs within the span after `now`, when each wait ends `late` after it should.
    fn runs(pace: &mut Pace, now: &mut Duration, span: Duration, period: Option<Duration>, late: Duration) -> usize {
        let (end, mut runs) = (*now + span, 0);
        while *now < end {
            match pace.wait(period, *now) {
                None => runs += 1,
                Some(wait) => *now += wait + late,
            }
        }
        runs
    }

    #[test]
    fn a_period_is_kept_and_a_new_one_followed() {
        let (mut now, mut pace) = (ms(7), Pace::new(ms(7)));
        let mut within = |span, period| runs(&mut pace, &mut now, span, period, Duration::ZERO);
        assert_eq!(within(ms(1000), Some(ms(10))), 99, "the hundredth is due at the end");
        assert_eq!(within(ms(1000), Some(ms(100))), 10);
        assert_eq!(within(ms(10_000), Some(ms(60_000))), 0);
        // The minute that was under way does not hold the shorter period back.
        assert!(within(ms(1000), Some(ms(10))) >= 50);
        assert_eq!(within(ms(3000), None), 0, "switched off");
        assert!((8..=10).contains(&within(ms(1000), Some(ms(100)))), "and on again");
    }

    #[test]
    fn timers_that_are_a_little_late_do_not_add_up() {
        let (mut now, mut pace) = (ms(0), Pace::new(ms(0)));
        let n = runs(&mut pace, &mut now, ms(10_000), Some(ms(10)), ms(1));
        assert!(n >= 995, "{n} of a thousand");
        let n = runs(&mut pace, &mut now, ms(10_000), Some(ms(10)), ms(1000));
        assert!(n <= 21, "{n}: what a pause missed is not made up for");
    }
}
