//! A clock that a test moves.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use berth::{
    model::{Clock, Mono, Now, Wall},
    server::clock::SystemClock,
};

/// What it shows while nobody moves it.
#[derive(Debug)]
enum Base {
    /// The system's clock.
    Runs(SystemClock),
    /// It stands.
    Stands(Now),
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct TestClock {
    base: Base,
    moved: AtomicU64,
}

impl TestClock {
    /// The system's clock, to be moved on.
    pub(crate) fn running() -> Self {
        Self { base: Base::Runs(SystemClock::new()), moved: AtomicU64::new(0) }
    }

    /// One that stands at `began` until it is moved.
    pub(crate) fn standing(began: Wall) -> Self {
        Self { base: Base::Stands(Now { mono: Mono(0), wall: began }), moved: AtomicU64::new(0) }
    }

    /// How far it was moved.
    pub(crate) fn moved(&self) -> Duration {
        Duration::from_nanos(self.moved.load(Ordering::SeqCst))
    }

    /// Moves it on.
    pub(crate) fn skip(&self, span: Duration) {
        self.move_to(self.moved() + span);
    }

    /// Moves it on to where it would be after `span` in all.
    pub(crate) fn move_to(&self, span: Duration) {
        self.moved.store(u64::try_from(span.as_nanos()).expect("a short span"), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let base = match &self.base {
            Base::Runs(clock) => clock.now(),
            Base::Stands(now) => *now,
        };
        base.plus(self.moved())
    }
}
