//! Forwards the log lines of crate `raft` to the log.
//!
//! Owns: the way from `slog` records to lines. Must not know: raft.

use std::{fmt, panic::AssertUnwindSafe};

use slog::{Drain, KV, OwnedKVList, Record, Serializer};

use super::{Level, Logger, Value};

/// Fields that are taken from one record; raft never has more than a handful.
const MAX_FIELDS: usize = 32;

/// A drain that writes to a [`Logger`].
#[derive(Debug)]
pub struct RaftDrain {
    /// A panic while a line is written leaves at worst half a line behind.
    log: AssertUnwindSafe<Logger>,
}

impl RaftDrain {
    /// A `slog` logger whose lines go to `log`.
    pub fn slog(log: Logger) -> slog::Logger {
        slog::Logger::root(RaftDrain { log: AssertUnwindSafe(log) }.ignore_res(), slog::o!())
    }
}

impl Drain for RaftDrain {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let level = match record.level() {
            slog::Level::Critical | slog::Level::Error => Level::Error,
            slog::Level::Warning => Level::Warn,
            slog::Level::Info => Level::Info,
            slog::Level::Debug | slog::Level::Trace => Level::Debug,
        };
        if !self.log.enabled(level) {
            return Ok(());
        }
        let mut fields = Fields(Vec::new());
        // A value that cannot be shown is left out: a log line is worth more than its last field.
        let _ = record.kv().serialize(record, &mut fields);
        let _ = values.serialize(record, &mut fields);
        // slog hands the fields out last first.
        fields.0.reverse();
        let shown: Vec<_> = fields.0.iter().map(|(key, value)| (key.as_str(), Value::from(value))).collect();
        self.log.write(level, record.file(), record.line(), &record.msg().to_string(), &shown);
        Ok(())
    }
}

struct Fields(Vec<(String, String)>);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if self.0.len() < MAX_FIELDS {
            self.0.push((key.to_string(), value.to_string()));
        }
        Ok(())
    }
}
