//! The real clocks. Nothing else in the crate reads one, but for the drivers of simulations and load.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Clock, Mono, Now, Wall};

/// The system's clocks; monotonic time counts from this value's creation, as PD's `m=+` does from the start of its process.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Monotonic time starts now.
    #[allow(clippy::disallowed_methods)] // the one place
    pub fn new() -> Self {
        Self { start: Instant::now() }
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
        let mono = Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        };
        Now { mono, wall: Wall(wall) }
    }
}
