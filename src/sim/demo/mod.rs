//! The text view of `berth demo`: a store on its way from DELETE to Tombstone.
//!
//! Owns: what is printed while a store drains. Where the state comes from is the caller's business: it gives a [`Source`], and
//! the server's log lines if it likes. Must not know the server. `format` makes the lines, `sampler` picks the telling ones of the
//! log; both are plain functions.

mod format;
mod sampler;

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    format::{Place, Summary, heading, plain_line, summary},
    sampler::Sampler,
};

/// How often the state is asked for.
const POLL: Duration = Duration::from_millis(100);
/// How often a plain line is written when there is no terminal.
const PLAIN_PERIOD: Duration = Duration::from_secs(1);
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
    /// Why no more is being done, in the server's words; empty: nothing waits.
    pub waits_for: String,
}

impl DrainState {
    /// Whether it is over.
    pub fn done(&self) -> bool {
        self.state == "Tombstone"
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
    /// The store is Tombstone.
    Done,
    /// Somebody ended it first.
    Interrupted,
}

/// Where it is drawn: a bar on a terminal, else a line a second.
enum Canvas {
    Bar(ProgressBar),
    Plain { next: Instant },
}

impl Canvas {
    fn new() -> Self {
        if !std::io::stdout().is_terminal() {
            return Canvas::Plain { next: Instant::now() };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout());
        let template = "  {prefix} [{bar:32}] {pos}/{len} regions  {msg}";
        // A template with a mistake would be our own; the default bar is as true.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Canvas::Bar(bar)
    }

    fn show(&mut self, state: &DrainState) -> std::io::Result<()> {
        match self {
            Canvas::Bar(bar) => {
                bar.set_length(state.total);
                bar.set_position(state.total.saturating_sub(state.left));
                bar.set_prefix(format!("store {} {}", state.store, state.state));
                bar.set_message(format::pace(state));
                Ok(())
            }
            Canvas::Plain { next } => {
                if Instant::now() < *next && !state.done() {
                    return Ok(());
                }
                *next = Instant::now() + PLAIN_PERIOD;
                writeln!(std::io::stdout(), "{}", plain_line(state))
            }
        }
    }

    fn line(&self, text: &str) -> std::io::Result<()> {
        match self {
            Canvas::Bar(bar) => {
                bar.suspend(|| writeln!(std::io::stdout(), "  {text}"))?;
                Ok(())
            }
            Canvas::Plain { .. } => writeln!(std::io::stdout(), "  {text}"),
        }
    }

    fn finish(&self) {
        if let Canvas::Bar(bar) = self {
            bar.finish();
        }
    }
}

/// Shows the drain until the store is Tombstone or `shutdown` is cancelled. `log` carries the server's log lines; the telling
/// ones are printed. The channel is the caller's and bounded: a caller that must not wait drops lines instead.
///
/// # Errors
/// Standard output is closed.
pub async fn watch(
    mut source: impl Source,
    mut log: mpsc::Receiver<String>,
    shutdown: &CancellationToken,
) -> std::io::Result<(Ended, DrainState)> {
    let mut canvas = Canvas::new();
    let mut sampler = Sampler::default();
    let mut state = DrainState::default();
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => {
                canvas.finish();
                return Ok((Ended::Interrupted, state));
            }
            _ = ticks.tick() => {}
        }
        if let Some(new) = source.poll().await {
            state = new;
        }
        for _ in 0..LINES_A_TURN {
            let Ok(line) = log.try_recv() else { break };
            if let Some(text) = sampler.take(&line) {
                canvas.line(&text)?;
            }
        }
        if let Some(text) = sampler.progress(state.total, state.left) {
            canvas.line(&text)?;
        }
        canvas.show(&state)?;
        if state.done() {
            // What was logged last tells of the burial.
            while let Ok(line) = log.try_recv() {
                if let Some(text) = sampler.take(&line) {
                    canvas.line(&text)?;
                }
            }
            canvas.finish();
            return Ok((Ended::Done, state));
        }
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

    #[tokio::test]
    async fn it_watches_until_the_store_is_a_tombstone() {
        let (_lines, log) = mpsc::channel(1);
        let mut states = vec![state(0, "Tombstone"), state(0, "Offline"), state(3, "Offline")];
        let source = move || {
            let next = states.pop();
            async move { next }
        };
        let ended = watch(source, log, &CancellationToken::new()).await.unwrap();
        assert_eq!(ended, (Ended::Done, state(0, "Tombstone")));
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let (_lines, log) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let mut polls = 0;
        let source = move || {
            polls += 1;
            if polls == 2 {
                stop.cancel();
            }
            async { Some(state(3, "Offline")) }
        };
        let ended = watch(source, log, &shutdown).await.unwrap();
        assert_eq!(ended, (Ended::Interrupted, state(3, "Offline")));
    }
}
