//! The disk thread: whatever has to wait for a disk happens here, so that the host never does.
//!
//! Owns: the order of writes (one at a time) and what follows a failed one. Must not know: what is written.

use std::sync::mpsc::{Receiver, SyncSender};

use super::{
    disk::{LogFile, LogWrite, StateFile},
    handle::Event,
};

/// Work for the disk thread.
pub(super) enum Job {
    /// Write to the log; `number` comes back.
    Write { write: LogWrite, number: u64 },
    /// Put the state on disk.
    FlushState,
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
        let event = match job {
            Job::Write { write, number } => log_file.write(&write).map(|()| Event::Persisted(number)),
            Job::FlushState => state_file.flush().map(|()| Event::Flushed),
        };
        let failed = event.is_err();
        let event = event.unwrap_or_else(|e| Event::DiskFailed(e.to_string().into()));
        if events.send(event).is_err() || failed {
            return;
        }
    }
}
