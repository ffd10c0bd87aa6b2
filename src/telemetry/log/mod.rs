//! The log, in the format of PD's: `[time] [LEVEL] [file.rs:line] [message] [key=value] …`.
//!
//! Owns: the [`Logger`], its levels, and the `pdlog!` macro. Must not know: what is logged; the clock is passed in.
//! The form of a line is in [`mod@line`], files and their rotation in [`sink`], raft's lines in [`raft_drain`].

pub mod line;
pub mod raft_drain;
pub mod sink;

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use parking_lot::Mutex;

pub use self::{
    line::{UserData, Value, redacted, reflect},
    raft_drain::RaftDrain,
    sink::{FileSink, Rotation, Sink},
};
use crate::{config::Redact, model::Wall};

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// Someone may have to act.
    Warn,
    /// Something went wrong.
    Error,
    /// The process ends.
    Fatal,
}

impl Level {
    /// The word in the line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    /// The level of a configured word, in any case.
    pub fn parse(word: &str) -> Option<Level> {
        match word.to_ascii_lowercase().as_str() {
            "debug" => Some(Level::Debug),
            "info" => Some(Level::Info),
            "warn" | "warning" => Some(Level::Warn),
            "error" => Some(Level::Error),
            "fatal" => Some(Level::Fatal),
            _ => None,
        }
    }

    fn from_raw(raw: u8) -> Level {
        match raw {
            0 => Level::Debug,
            1 => Level::Info,
            2 => Level::Warn,
            3 => Level::Error,
            _ => Level::Fatal,
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    /// One JSON object a line.
    pub json: bool,
    /// Leave the time out.
    pub no_time: bool,
    /// Leave the source out.
    pub no_source: bool,
    /// What is shown of user data.
    pub redact: Redact,
}

/// Writes the log. Clones write to the same place.
#[derive(Clone)]
pub struct Logger(Arc<Inner>);

struct Inner {
    level: AtomicU8,
    style: Style,
    clock: Box<dyn Fn() -> Wall + Send + Sync>,
    /// Seconds that local time is ahead of UTC.
    offset: i32,
    sink: Mutex<Sink>,
    lost: AtomicU64,
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logger").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl Logger {
    /// A logger. `offset`: seconds that local time is ahead of UTC.
    pub fn new(
        sink: Sink,
        level: Level,
        style: Style,
        offset: i32,
        clock: impl Fn() -> Wall + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            level: AtomicU8::new(level as u8),
            style,
            clock: Box::new(clock),
            offset,
            sink: Mutex::new(sink),
            lost: AtomicU64::new(0),
        }))
    }

    /// A logger that writes nothing.
    pub fn none() -> Self {
        Self::new(Sink::None, Level::Fatal, Style::default(), 0, Wall::default)
    }

    /// The time that a line written now would show.
    pub fn now(&self) -> Wall {
        (self.0.clock)()
    }

    /// The lowest level that is written.
    pub fn level(&self) -> Level {
        Level::from_raw(self.0.level.load(Ordering::Relaxed))
    }

    /// Changes the lowest level that is written.
    pub fn set_level(&self, level: Level) {
        self.0.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether a line of `level` is written.
    pub fn enabled(&self, level: Level) -> bool {
        level >= self.level()
    }

    /// Lines that could not be written (a full disk, say).
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Writes a line; `pdlog!` is the short way. `file` and `line` name the place in the source.
    pub fn write(&self, level: Level, file: &str, line: u32, message: &str, fields: &[(&str, Value<'_>)]) {
        if !self.enabled(level) {
            return;
        }
        let now = (self.0.clock)();
        let head = line::Head { at: now, offset: self.0.offset, level: level.name(), file, line };
        let text = line::render(&head, self.0.style, message, fields);
        if self.0.sink.lock().write(&text, now, self.0.offset).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the file and opens it again under its name (after somebody moved it away).
    pub fn reopen(&self) -> std::io::Result<()> {
        self.0.sink.lock().reopen()
    }
}

/// Writes a line of the log: `pdlog!(log, Info, "store limit added", "store-id" => id)`. The fields are worked out only when the
/// line is written.
#[macro_export]
macro_rules! pdlog {
    ($log:expr, $level:ident, $message:expr $(, $key:expr => $value:expr)* $(,)?) => {{
        let log: &$crate::telemetry::log::Logger = &$log;
        if log.enabled($crate::telemetry::log::Level::$level) {
            log.write(
                $crate::telemetry::log::Level::$level,
                file!(),
                line!(),
                $message,
                &[$(($key, $crate::telemetry::log::Value::from($value))),*],
            );
        }
    }};
}

#[cfg(test)]
mod tests;
