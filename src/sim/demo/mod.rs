//! The text view of `berth demo`: a store on its way from DELETE to Tombstone.
//!
//! Owns: what is printed while a store drains. Where the state comes from is the caller's business: it gives a [`Source`], and
//! the server's log lines if it likes. Must not know the server. `format` makes the lines, `sampler` picks the telling ones of the
//! log; both are plain functions. `canvas` writes.

mod canvas;
mod format;
mod sampler;

use std::{io::Write, time::Duration};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    format::{Place, Summary, heading, plain_line, summary},
    sampler::Sampler,
};

/// How often the state is asked for.
const POLL: Duration = Duration::from_millis(100);
/// Log lines taken between two looks at the state: a burst of them must not hold up the bar.
const LINES_A_TURN: usize = 256;

/// How far the drain is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DrainState {
    /// The store.
    pub store: u64,
    /// Its state as people know it (`Up`, `Offline`, `Tombstone`).
    pub state: String,
    /// Regions with a peer there when the drain began.
    pub total: u64,
    /// Regions that still have one.
    pub left: u64,
    /// Operators under way.
    pub operators: u64,
    /// Regions a second, lately.
    pub rate: f64,
    /// Time until it is empty, if that can be said.
    pub eta: Option<Duration>,
    /// Why nothing is being done for all that is left, in the server's words; empty: it goes on.
    pub waits_for: String,
}

impl DrainState {
    /// Whether it is over.
    pub fn done(&self) -> bool {
        self.state == "Tombstone"
    }

    /// Whether it waits for a person: something is left, and all of it is held.
    pub fn is_held(&self) -> bool {
        self.left > 0 && !self.waits_for.is_empty()
    }
}

/// Where the state comes from: a look into the server of the same process, or its REST interface.
pub trait Source: Send {
    /// The state now; `None` while it cannot be had.
    fn poll(&mut self) -> impl Future<Output = Option<DrainState>> + Send;
}

impl<F, R> Source for F
where
    F: FnMut() -> R + Send,
    R: Future<Output = Option<DrainState>> + Send,
{
    fn poll(&mut self) -> impl Future<Output = Option<DrainState>> + Send {
        self()
    }
}

/// How a watch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// What was waited for has come.
    Reached,
    /// Somebody ended it first.
    Interrupted,
}

/// The view of one drain; it may be watched in several parts.
pub struct View {
    canvas: canvas::Canvas,
    sampler: Sampler,
    log: mpsc::Receiver<String>,
    state: DrainState,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("state", &self.state).finish_non_exhaustive()
    }
}

impl View {
    /// A view that has shown nothing yet. `log` carries the server's log lines; the telling ones are printed. The channel is the
    /// caller's and bounded: a caller that must not wait drops lines instead.
    pub fn new(log: mpsc::Receiver<String>) -> Self {
        Self { canvas: canvas::Canvas::new(), sampler: Sampler::default(), log, state: DrainState::default() }
    }

    /// The state that was shown last.
    pub fn state(&self) -> &DrainState {
        &self.state
    }

    /// Shows the drain until `reached` holds or `shutdown` is cancelled.
    ///
    /// # Errors
    /// Standard output is closed.
    pub async fn until(
        &mut self,
        source: &mut impl Source,
        shutdown: &CancellationToken,
        reached: impl Fn(&DrainState) -> bool,
    ) -> std::io::Result<Ended> {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Ended::Interrupted),
                _ = ticks.tick() => {}
            }
            if let Some(new) = source.poll().await {
                self.state = new;
            }
            // What was logged last tells of the burial: nothing of it is left out in the end.
            self.lines(if self.state.done() { usize::MAX } else { LINES_A_TURN })?;
            if let Some(text) = self.sampler.progress(self.state.total, self.state.left) {
                self.canvas.line(&text)?;
            }
            self.canvas.show(&self.state)?;
            if reached(&self.state) {
                return Ok(Ended::Reached);
            }
        }
    }

    /// A line of the caller's own.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn line(&self, text: &str) -> std::io::Result<()> {
        self.canvas.line(text)
    }

    /// A text of several lines, set off from the lines around it.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn block(&self, text: &str) -> std::io::Result<()> {
        self.canvas.block(text)
    }

    /// Leaves the last state on the screen.
    pub fn finish(self) -> DrainState {
        self.canvas.finish();
        self.state
    }

    fn lines(&mut self, most: usize) -> std::io::Result<()> {
        for _ in 0..most {
            let Ok(line) = self.log.try_recv() else { break };
            if let Some(text) = self.sampler.take(&line) {
                self.canvas.line(&text)?;
            }
        }
        Ok(())
    }
}

/// Prints a block of text made by [`heading`] or [`summary`].
///
/// # Errors
/// Standard output is closed.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn state(left: u64, state: &str) -> DrainState {
        DrainState { store: 2, state: state.into(), total: 4, left, ..DrainState::default() }
    }

    /// A view without log lines, and a source that gives these states in turn.
    fn of(states: &[DrainState]) -> (View, impl Source + use<>) {
        let (_lines, log) = mpsc::channel(1);
        let mut states: Vec<_> = states.iter().rev().cloned().collect();
        let source = move || {
            let next = states.pop();
            async move { next }
        };
        (View::new(log), source)
    }

    #[tokio::test]
    async fn it_watches_until_the_store_is_a_tombstone() {
        let (mut view, mut source) = of(&[state(3, "Offline"), state(0, "Offline"), state(0, "Tombstone")]);
        let ended = view.until(&mut source, &CancellationToken::new(), DrainState::done).await.unwrap();
        assert_eq!((ended, view.finish()), (Ended::Reached, state(0, "Tombstone")));
    }

    #[tokio::test]
    async fn it_stops_where_all_that_is_left_is_held_and_goes_on_from_there() {
        let held = DrainState { waits_for: "a rule".into(), ..state(1, "Offline") };
        assert!(held.is_held() && !state(1, "Offline").is_held());
        let (mut view, mut source) = of(&[state(3, "Offline"), held.clone(), state(0, "Tombstone")]);
        let shutdown = CancellationToken::new();
        view.until(&mut source, &shutdown, |s| s.is_held() || s.done()).await.unwrap();
        assert_eq!(view.state(), &held);
        view.until(&mut source, &shutdown, DrainState::done).await.unwrap();
        assert!(view.finish().done());
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let (_lines, log) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let mut polls = 0;
        let mut source = move || {
            polls += 1;
            if polls == 2 {
                stop.cancel();
            }
            async { Some(state(3, "Offline")) }
        };
        let mut view = View::new(log);
        let ended = view.until(&mut source, &shutdown, DrainState::done).await.unwrap();
        assert_eq!((ended, view.finish()), (Ended::Interrupted, state(3, "Offline")));
    }
}
