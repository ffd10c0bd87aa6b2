//! The real clocks. Nothing else in the crate reads one, but for the drivers of simulations and load.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::{Clock, Mono, Now, Wall};

/// The system's clocks; monotonic time counts from this value's creation, as PD's `m=+` does from the start of its process. It goes on
/// while the machine sleeps: others do, and a lease must not outlive that.
#[derive(Debug)]
pub struct SystemClock {
    start: Duration,
}

/// Time since the machine was started, suspended or not.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl SystemClock {
    /// Monotonic time starts now.
    pub fn new() -> Self {
        Self { start: since_boot() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place
    fn now(&self) -> Now {
        let passed = since_boot().saturating_sub(self.start);
        let mono = Mono(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        };
        Now { mono, wall: Wall(wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_monotonic_time_is_that_which_goes_on_while_the_machine_sleeps() {
        let clock = SystemClock::new();
        let before = since_boot();
        let now = Duration::from_nanos(clock.now().mono.0);
        let after = since_boot();
        assert!(clock.start + now >= before && clock.start + now <= after);
        let mut last = clock.now().mono;
        for _ in 0..1000 {
            let next = clock.now().mono;
            assert!(next >= last);
            last = next;
        }
    }
}
