//! Where files come from ([`Backends`]), so that tests can put failing disks in their place.
//!
//! Owns: names in the data folder, its lock, atomic creation. Must not know: what is in the files.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io,
    ops::Bound,
    path::{Path, PathBuf},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// Name of the file whose lock stands for the folder.
pub const LOCK_FILE: &str = "LOCK";

/// Something that is held until it is dropped.
pub trait Held: Send + Sync + fmt::Debug {}

impl Held for File {}

/// The files of one data folder.
pub trait Backends: Send + Sync + fmt::Debug {
    /// Takes the folder for this process alone, until the result is dropped; `None`: someone else has it.
    fn lock(&self) -> io::Result<Option<Box<dyn Held>>>;

    /// Whether a published file of this name exists.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Opens a published file.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Starts a new, empty file, which [`Self::publish`] makes visible under its name. One that was never published is overwritten.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Gives a created file its name, so that it is there after a power cut too.
    fn publish(&self, name: &str) -> io::Result<()>;
}

/// Files in a folder of the file system.
#[derive(Debug)]
pub struct FileBackends {
    dir: PathBuf,
}

impl FileBackends {
    /// The files in `dir`, which is made if it is not there, and is there after a power cut too (R3).
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        let made: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
        std::fs::create_dir_all(&dir)?;
        for parent in made.iter().filter_map(|d| d.parent()) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn unpublished(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.new"))
    }
}

fn read_write(path: &Path) -> io::Result<OpenOptions> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    Ok(options)
}

impl Backends for FileBackends {
    fn lock(&self) -> io::Result<Option<Box<dyn Held>>> {
        let path = self.path(LOCK_FILE);
        let file = read_write(&path)?.create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.path(name).try_exists()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.path(name);
        Ok(Box::new(FileBackend::new(read_write(&path)?.open(path)?).map_err(io::Error::other)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.unpublished(name);
        let file = read_write(&path)?.create(true).truncate(true).open(path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn publish(&self, name: &str) -> io::Result<()> {
        std::fs::rename(self.unpublished(name), self.path(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Lets a boxed backend be given to `redb`, which wants a type of its own.
#[derive(Debug)]
pub(super) struct Boxed(pub(super) Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
