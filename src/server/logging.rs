//! Opens the log as the configuration says.

use std::{path::Path, sync::Arc};

use crate::{
    config::Config,
    model::Clock,
    telemetry::log::{FileSink, Level, Logger, Rotation, Sink, Style},
};

/// Why there is no log; PD's texts.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A level that nobody knows.
    #[error("[PD:log:ErrInitLogger]init logger error: unrecognized level: \"{0}\"")]
    Level(String),
    /// The file cannot be opened.
    #[error("[PD:log:ErrInitLogger]init logger error: {file}: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A logger to the configured file, or to stderr when there is none.
pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Logger, LogError> {
    let log = &config.log;
    let level = if log.level.is_empty() { "info" } else { &log.level };
    let level = Level::parse(level).ok_or_else(|| LogError::Level(level.to_owned()))?;
    let sink = if log.file.filename.is_empty() {
        Sink::Stderr
    } else {
        let rotation = Rotation {
            max_size_mib: u64::try_from(log.file.max_size).unwrap_or(0),
            max_days: u64::try_from(log.file.max_days).unwrap_or(0),
            max_backups: u64::try_from(log.file.max_backups).unwrap_or(0),
        };
        let file = FileSink::open_at(Path::new(&log.file.filename), rotation)
            .map_err(|source| LogError::File { file: log.file.filename.clone(), source })?;
        Sink::File(file)
    };
    let style = Style {
        json: log.format == "json",
        no_time: log.disable_timestamp,
        no_source: log.disable_caller,
        redact: config.security.redact_info_log,
    };
    Ok(Logger::new(sink, level, style, local_offset(), move || clock.now().wall))
}

/// Seconds that local time is ahead of UTC; 0 where the system does not tell.
fn local_offset() -> i32 {
    time::UtcOffset::current_local_offset().map_or(0, time::UtcOffset::whole_seconds)
}
