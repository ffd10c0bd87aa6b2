//! Where log lines go: stderr, a file that is rotated, or a buffer.
//!
//! Owns: rotation by size and the removal of old files. Must not know: the form of a line.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::model::Wall;

/// Size (MiB) at which a file is rotated while the configuration says 0.
const DEFAULT_MAX_SIZE_MIB: u64 = 300;

/// Old files that are looked at in one rotation; a folder with more is somebody else's problem.
const MAX_LISTED: usize = 100_000;

/// When a file is rotated and what happens to the old ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotation {
    /// Size in MiB; 0 means 300.
    pub max_size_mib: u64,
    /// Days that old files are kept; 0: for ever.
    pub max_days: u64,
    /// Old files that are kept; 0: all.
    pub max_backups: u64,
}

/// Where log lines go.
pub enum Sink {
    /// Nowhere.
    None,
    /// The process's stderr.
    Stderr,
    /// A file.
    File(FileSink),
    /// A buffer, for tests and for programs that show the lines themselves.
    Buffer(Arc<Mutex<Vec<u8>>>),
    /// Whatever is called with each line. It must not wait: the writer holds the log's lock.
    Call(Box<dyn FnMut(&str) + Send>),
}

impl Sink {
    /// Writes one line.
    pub(super) fn write(&mut self, line: &str, now: Wall, offset: i32) -> io::Result<()> {
        match self {
            Sink::None => Ok(()),
            Sink::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Sink::File(file) => file.write(line, now, offset),
            Sink::Buffer(buffer) => {
                buffer.lock().extend_from_slice(line.as_bytes());
                Ok(())
            }
            Sink::Call(take) => {
                take(line);
                Ok(())
            }
        }
    }

    /// Opens the file again under its name.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Sink::File(file) => file.open(),
            Sink::None | Sink::Stderr | Sink::Buffer(_) | Sink::Call(_) => Ok(()),
        }
    }
}

/// A log file.
pub struct FileSink {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
}

impl FileSink {
    /// Opens a file to append to; its folder is made when missing.
    pub fn open_at(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self { path: path.to_owned(), rotation, file, size })
    }

    fn open(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    fn max_size(&self) -> u64 {
        let mib = if self.rotation.max_size_mib == 0 { DEFAULT_MAX_SIZE_MIB } else { self.rotation.max_size_mib };
        mib.saturating_mul(1 << 20)
    }

    fn write(&mut self, line: &str, now: Wall, offset: i32) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.max_size() {
            self.rotate(now, offset)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.size += length;
        Ok(())
    }

    /// Moves the file away under a name with the time, opens a new one, removes what is too old or too much.
    fn rotate(&mut self, now: Wall, offset: i32) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_file_name(self.backup_name(now, offset)))?;
        self.open()?;
        self.prune(now)
    }

    fn stem_and_extension(&self) -> (String, String) {
        let part = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        (part(self.path.file_stem()), extension)
    }

    /// `base-2006-01-02T15-04-05.000.ext`, local time.
    fn backup_name(&self, now: Wall, offset: i32) -> String {
        let mut time = String::new();
        super::line::push_time(&mut time, now, offset);
        let stamp: String = time.chars().take("2006/01/02 15:04:05.000".len()).collect();
        let stamp = stamp.replace(['/', ':'], "-").replace(' ', "T");
        let (stem, extension) = self.stem_and_extension();
        format!("{stem}-{stamp}{extension}")
    }

    fn prune(&self, now: Wall) -> io::Result<()> {
        let Rotation { max_days, max_backups, .. } = self.rotation;
        if max_days == 0 && max_backups == 0 {
            return Ok(());
        }
        let (stem, extension) = self.stem_and_extension();
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut old: Vec<(String, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)?.take(MAX_LISTED) {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamp = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
            if let Some(stamp) = stamp.filter(|s| s.len() == "2006-01-02T15-04-05.000".len() && s.starts_with('2')) {
                old.push((stamp.to_owned(), entry.path()));
            }
        }
        // The name holds the time, so the order of names is the order of time; the newest first.
        old.sort_by(|a, b| b.cmp(a));
        let kept_for = Duration::from_secs(max_days.saturating_mul(24 * 3600));
        for (position, (_, path)) in old.iter().enumerate() {
            let too_many = max_backups != 0 && position as u64 >= max_backups;
            let modified = fs::metadata(path)?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let age = Duration::from_nanos(u64::try_from(now.0).unwrap_or(0)).saturating_sub(modified);
            if too_many || (max_days != 0 && age > kept_for) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
