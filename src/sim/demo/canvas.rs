//! Where the demo is drawn: a bar on a terminal, else a line a second.
//!
//! Owns: how output looks on each. Must not know: what is worth showing.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::{DrainState, format, plain_line};

/// How often a plain line is written when there is no terminal.
const PLAIN_PERIOD: Duration = Duration::from_secs(1);

/// Where it is drawn: a bar on a terminal, else a line a second.
pub(super) enum Canvas {
    Bar(ProgressBar),
    Plain { next: Instant },
}

impl Canvas {
    pub(super) fn new() -> Self {
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

    pub(super) fn show(&mut self, state: &DrainState) -> std::io::Result<()> {
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

    pub(super) fn line(&self, text: &str) -> std::io::Result<()> {
        match self {
            Canvas::Bar(bar) => bar.suspend(|| writeln!(std::io::stdout(), "  {text}")),
            Canvas::Plain { .. } => writeln!(std::io::stdout(), "  {text}"),
        }
    }

    pub(super) fn finish(&self) {
        if let Canvas::Bar(bar) = self {
            bar.finish();
        }
    }

    /// A text of several lines, indented below what it belongs to.
    pub(super) fn block(&self, text: &str) -> std::io::Result<()> {
        text.lines().try_for_each(|line| self.line(&format!("  {line}")))
    }
}
