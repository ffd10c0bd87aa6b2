//! What has to wait for a disk happens here, on a thread of its own, so that the host never does.
//!
//! Owns: the order of writes (one at a time) and what follows a failed one. Must not know: what is written.

use std::sync::mpsc::{Receiver, SyncSender};

use super::{
    disk::{Applied, DiskError, HardMark, LogFile, LogWrite, StateFile},
    machine::State,
    queue::Event,
};

/// Work for the disk.
#[derive(Debug)]
pub(super) enum Job {
    /// Write to the log; `number` comes back.
    Write { write: LogWrite, number: u64 },
    /// Put the state on disk.
    FlushState,
    /// Put a state that was received in the place of the own.
    Install(Box<Install>),
}

/// A state that was received, and the beginning of the log after it.
#[derive(Debug)]
pub(super) struct Install {
    pub(super) state: State,
    pub(super) applied: Applied,
    pub(super) write: LogWrite,
    pub(super) number: u64,
    /// See [`Bug::SnapshotNotAtomic`](super::bugs::Bug::SnapshotNotAtomic).
    pub(super) log_first: bool,
}

impl Install {
    /// The term first, since no log may end in a later one; then the state, which is there whole or not at all; then the log. When the
    /// power goes after the state, the next start does what is missing.
    fn perform(&self, log_file: &LogFile, state_file: &StateFile) -> Result<(), DiskError> {
        if self.log_first {
            log_file.write(&self.write)?;
        }
        let hard: Option<HardMark> = self.write.hard.map(|hard| HardMark { commit: 0, ..hard });
        log_file.write(&LogWrite { hard, sync: true, ..LogWrite::default() })?;
        state_file.install(&self.state, &self.applied)?;
        log_file.write(&self.write)
    }
}

/// Does one job; says what came of it.
pub(super) fn perform(job: Job, log_file: &LogFile, state_file: &StateFile) -> Event {
    let done = match job {
        Job::Write { write, number } => log_file.write(&write).map(|()| Event::Persisted(number)),
        Job::FlushState => state_file.flush().map(|()| Event::Flushed),
        Job::Install(install) => install.perform(log_file, state_file).map(|()| Event::Installed(install)),
    };
    done.unwrap_or_else(|e| Event::DiskFailed(e.to_string().into()))
}

/// Tells the host when the disk thread panics.
struct DiskGuard<'a>(&'a SyncSender<Event>);

impl Drop for DiskGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "the thread that writes the log has ended unexpectedly".into();
            drop(self.0.send(Event::DiskFailed(what)));
        }
    }
}

/// The disk thread: one job after the other. It ends when the host does, or when a write failed; a failed sync is never tried again,
/// for what it did not write may be gone from the cache as well (R7).
pub(super) fn write_to_disk(
    todo: &Receiver<Job>,
    log_file: &LogFile,
    state_file: &StateFile,
    events: &SyncSender<Event>,
) {
    let _guard = DiskGuard(events);
    for job in todo {
        let event = perform(job, log_file, state_file);
        let failed = matches!(event, Event::DiskFailed(_));
        if events.send(event).is_err() || failed {
            return;
        }
    }
}
