//! A disk that a test can make hang or fill up: while a file exists, writes wait, or are refused when it says `full`; when it says
//! `state`, those of the state file wait. Off in normal use.
//!
//! Owns: the waiting and the refusing. Must not know: what is written. A real server meets this with network disks and full controllers, and a test
//! of the whole process cannot put a failing disk in by any other way.

use std::{io, ops::Bound, path::PathBuf, sync::Arc, thread, time::Duration};

use redb::{BackendError, StorageBackend};
use rustix::io::Errno;

use crate::meta::{Backends, FileBackends, Held, STATE_FILE};

/// The environment variable that names the file. Not for use: it is read by Berth's own tests.
const GATE: &str = "BERTH_TEST_DISK_HANGS_WHILE";
/// What the file says when the disk is full; with anything else in it the disk hangs.
const FULL: &[u8] = b"full";
/// What it says when the state file alone hangs.
const STATE: &[u8] = b"state";
/// How often a waiting write looks whether the file is gone.
const LOOK: Duration = Duration::from_millis(5);

/// The files of the data folder; behind a gate when a test asks for it.
pub(super) fn gated(files: FileBackends) -> Arc<dyn Backends> {
    match std::env::var_os(GATE) {
        Some(path) => Arc::new(Gated { files, gate: PathBuf::from(path) }),
        None => Arc::new(files),
    }
}

#[derive(Debug)]
struct Gate {
    path: PathBuf,
    /// Of the state file.
    of_state: bool,
}

impl Gate {
    fn pass(&self) -> io::Result<()> {
        loop {
            match std::fs::read(&self.path) {
                Ok(text) if text == FULL => return Err(Errno::NOSPC.into()),
                Ok(text) if text == STATE && !self.of_state => return Ok(()),
                Ok(_) => thread::sleep(LOOK),
                Err(_) => return Ok(()),
            }
        }
    }
}

#[derive(Debug)]
struct Gated {
    files: FileBackends,
    gate: PathBuf,
}

impl Gated {
    fn wrap(&self, name: &str, file: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        let gate = Gate { path: self.gate.clone(), of_state: name == STATE_FILE };
        Box::new(GatedFile { file, gate })
    }
}

impl Backends for Gated {
    fn lock(&self) -> io::Result<Option<Box<dyn Held>>> {
        self.files.lock()
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.files.exists(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.wrap(name, self.files.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.wrap(name, self.files.create(name)?))
    }

    fn publish(&self, name: &str) -> io::Result<()> {
        self.files.publish(name)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Box<dyn StorageBackend>,
    gate: Gate,
}

impl StorageBackend for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.gate.pass()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gate.pass()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
