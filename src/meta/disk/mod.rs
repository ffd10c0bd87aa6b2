//! The files of a member: the raft log ([`LogFile`]) and the state ([`StateFile`]), each a `redb` file that says whose it is.
//!
//! Owns: opening and creating them, their headers, what is refused and how that is said (R3, R5). Must not know: raft's rules, commands.

mod backends;
#[cfg(test)]
pub(super) mod faults;
mod log;
mod record;
mod state;

pub use backends::{Backends, FileBackends, Held, LOCK_FILE};
pub(super) use log::{HardMark, Loaded as LoadedLog, LogFile, LogWrite, Truncated};
use raft::eraftpb::ConfState;
pub(super) use record::{RecordError, seal, unseal};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
pub(super) use state::{Applied, Loaded as LoadedState, StateFile};

use super::OpenError;
use crate::model::{ClusterId, MemberId};

/// Name of the raft log in the data folder.
pub const LOG_FILE: &str = "raft-log.redb";

/// Name of the state in the data folder.
pub const STATE_FILE: &str = "state.redb";

/// The format of both files. A higher one was written by a newer Berth and is not touched.
pub(super) const FORMAT: u32 = 1;

/// How every `redb` file begins.
const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// What stands under `magic` in the header of every file of Berth.
const MAGIC: &[u8] = b"berth";

const HEADER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("berth");

/// Whose a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
}

impl Owner {
    fn text(self) -> String {
        format!("member {} of cluster {}", self.member, self.cluster)
    }
}

/// An error while a file is being used (not while it is opened): nothing more may be acknowledged after one.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub(super) struct DiskError {
    pub(super) file: &'static str,
    pub(super) what: String,
}

impl DiskError {
    fn new(file: &'static str, e: impl Into<redb::Error>) -> Self {
        Self { file, what: e.into().to_string() }
    }
}

/// Opens a file, which must exist, and reads whose it is.
fn open(backends: &dyn Backends, name: &'static str, cache: usize) -> Result<(Database, Owner), OpenError> {
    let io = |source| OpenError::Io { file: name.into(), source };
    let backend = backends.open(name).map_err(io)?;
    let mut magic = [0; REDB_MAGIC.len()];
    let long_enough = backend.len().map_err(io)? >= REDB_MAGIC.len() as u64;
    if !long_enough || backend.read(0, &mut magic).is_err() || magic != REDB_MAGIC {
        return Err(OpenError::Foreign { file: name.into(), why: "it does not begin as one".into() });
    }
    let db = builder(cache).create_with_backend(backends::Boxed(backend)).map_err(|e| refused(name, e))?;
    let owner = read_header(&db, name)?;
    Ok((db, owner))
}

/// Creates a file with its header and with what `fill` writes, and gives it its name once all that is on disk.
fn create(
    backends: &dyn Backends,
    name: &'static str,
    cache: usize,
    owner: Owner,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<Database, OpenError> {
    let io = |source| OpenError::Io { file: name.into(), source };
    let backend = backends.create(name).map_err(io)?;
    let db = builder(cache).create_with_backend(backends::Boxed(backend)).map_err(|e| refused(name, e))?;
    write_header(&db, name, owner, fill).map_err(|e| io(std::io::Error::other(e)))?;
    backends.publish(name).map_err(io)?;
    Ok(db)
}

fn builder(cache: usize) -> redb::Builder {
    let mut builder = redb::Builder::new();
    // The check reads the whole file; both are small. Without it a page that was changed from outside may end the process later.
    builder.set_cache_size(cache).set_check_integrity_on_open(true);
    builder
}

fn refused(name: &str, e: redb::DatabaseError) -> OpenError {
    let file = name.to_owned();
    match e {
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData =>
        {
            OpenError::Io { file, source }
        }
        redb::DatabaseError::UpgradeRequired(version) => {
            OpenError::Foreign { file, why: format!("redb file format {version}") }
        }
        other => OpenError::Damaged { file, what: other.to_string() },
    }
}

fn write_header(
    db: &Database,
    name: &str,
    owner: Owner,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        let mut header = txn.open_table(HEADER)?;
        header.insert("magic", MAGIC)?;
        header.insert("file", name.as_bytes())?;
        for (key, number) in [("cluster", owner.cluster.0), ("member", owner.member.0), ("format", u64::from(FORMAT))] {
            header.insert(key, record::seal(key.as_bytes(), &number.to_le_bytes()).as_slice())?;
        }
    }
    fill(&txn)?;
    txn.commit()?;
    Ok(())
}

fn read_header(db: &Database, name: &str) -> Result<Owner, OpenError> {
    let file = || name.to_owned();
    let foreign = |why: &str| OpenError::Foreign { file: file(), why: why.into() };
    let damaged = |what: String| OpenError::Damaged { file: file(), what };
    let txn = db.begin_read().map_err(|e| damaged(e.to_string()))?;
    let header = match txn.open_table(HEADER) {
        Ok(table) => table,
        Err(redb::TableError::Storage(e)) => return Err(damaged(e.to_string())),
        Err(_) => return Err(foreign("it has no header")),
    };
    let field = |key: &str| -> Result<Vec<u8>, OpenError> {
        let value = header.get(key).map_err(|e| damaged(e.to_string()))?;
        Ok(value.ok_or_else(|| foreign("its header is not complete"))?.value().to_vec())
    };
    if field("magic")? != MAGIC {
        return Err(foreign("its header is that of something else"));
    }
    if field("file")? != name.as_bytes() {
        return Err(foreign("it is another file of Berth under this name"));
    }
    let number = |key: &str| -> Result<u64, OpenError> {
        let sealed = field(key)?;
        let bytes = record::unseal(key.as_bytes(), &sealed).map_err(|e| damaged(format!("header, {key}: {e}")))?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| damaged(format!("header, {key}: not a number")))?))
    };
    let format = u32::try_from(number("format")?).unwrap_or(u32::MAX);
    if format > FORMAT {
        return Err(OpenError::Newer { file: file(), found: format, known: FORMAT });
    }
    Ok(Owner { cluster: ClusterId(number("cluster")?), member: MemberId(number("member")?) })
}

/// Both files of a member, opened or created.
pub(super) struct Files {
    pub(super) owner: Owner,
    pub(super) log: LogFile,
    pub(super) loaded_log: LoadedLog,
    pub(super) state: StateFile,
    pub(super) loaded_state: LoadedState,
}

/// The configuration of a group that consists of one member.
pub(super) fn alone(owner: Owner) -> ConfState {
    ConfState { voters: vec![owner.member.0], ..ConfState::default() }
}

/// Opens the two files, or creates them for `fresh` in a group of `founders` when neither is there. The state is created last: a log alone means that the first
/// start did not end, or that the state was lost; from an uncut log it can be made again.
pub(super) fn open_files(
    backends: &dyn Backends,
    caches: super::CacheSizes,
    fresh: Owner,
    founders: &ConfState,
    logger: &slog::Logger,
) -> Result<Files, OpenError> {
    let exists = |name: &str| backends.exists(name).map_err(|source| OpenError::Io { file: name.into(), source });
    let (has_log, has_state) = (exists(LOG_FILE)?, exists(STATE_FILE)?);
    if has_state && !has_log {
        return Err(OpenError::Missing { file: LOG_FILE.into(), other: STATE_FILE.into() });
    }
    let (log, owner) = if has_log {
        LogFile::open(backends, caches.log)?
    } else {
        LogFile::create(backends, caches.log, fresh, founders)?
    };
    let state = if has_state {
        let (state, state_owner) = StateFile::open(backends, caches.state)?;
        if state_owner != owner {
            return Err(OpenError::Mixed {
                file: STATE_FILE.into(),
                found: state_owner.text(),
                expected: owner.text(),
            });
        }
        state
    } else {
        if log.is_cut()? {
            return Err(OpenError::Missing { file: STATE_FILE.into(), other: LOG_FILE.into() });
        }
        StateFile::create(backends, caches.state, owner)?
    };
    let loaded_state = state.load(log.founders()?.unwrap_or_else(|| alone(owner)))?;
    finish_install(&log, &loaded_state)?;
    let loaded_log = log.load(loaded_state.applied.index, logger)?;
    Ok(Files { owner, log, loaded_log, state, loaded_state })
}

/// Makes the files of a member that begins with this state. A folder with the state and without the log is not started on.
pub(super) fn plant(
    backends: &dyn Backends,
    caches: super::CacheSizes,
    owner: Owner,
    state: &crate::meta::machine::State,
    applied: &Applied,
) -> Result<(), OpenError> {
    StateFile::plant(backends, caches.state, owner, state, applied)?;
    LogFile::plant(backends, caches.log, owner, applied)
}

/// A received state is put on disk first, then the log begins anew after it. If only the first was done, this does the second.
fn finish_install(log: &LogFile, state: &LoadedState) -> Result<(), OpenError> {
    let unfinished = state.installed.filter(|i| i.index == state.applied.index);
    if let Some(installed) = unfinished
        && log.cut()?.index < installed.index
    {
        let reset = LogWrite { reset: Some(installed), sync: true, ..LogWrite::default() };
        log.write(&reset).map_err(|e| OpenError::Damaged { file: LOG_FILE.into(), what: e.to_string() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::{faults::FaultDisk, *};

    const OWNER: Owner = Owner { cluster: ClusterId(11), member: MemberId(22) };

    fn file_with(change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>)) -> Result<Owner, String> {
        let disk = FaultDisk::default();
        let db = create(&disk, LOG_FILE, 1 << 20, OWNER, |_| Ok(())).unwrap();
        let txn = db.begin_write().unwrap();
        change(&mut txn.open_table(HEADER).unwrap());
        txn.commit().unwrap();
        drop(db);
        open(&disk, LOG_FILE, 1 << 20).map(|(_, owner)| owner).map_err(|e| e.to_string())
    }

    #[test]
    fn r5_headers_say_whose_a_file_is() {
        assert_eq!(file_with(|_| {}), Ok(OWNER));
        let newer = file_with(|header| {
            header.insert("format", record::seal(b"format", &9u64.to_le_bytes()).as_slice()).unwrap();
        });
        let text = "raft-log.redb has format 9, this binary knows formats up to 1: start it with the newer binary";
        assert_eq!(newer, Err(text.into()));
        let foreign = |why: &str| Err(format!("raft-log.redb is not a file of Berth ({why}); it is left as it is"));
        let magic = file_with(|header| _ = header.insert("magic", b"other".as_slice()).unwrap());
        assert_eq!(magic, foreign("its header is that of something else"));
        let half = file_with(|header| _ = header.remove("cluster").unwrap());
        assert_eq!(half, foreign("its header is not complete"));
        let flipped = file_with(|header| _ = header.insert("member", b"\0\0\0\0\x01abcdefgh".as_slice()).unwrap());
        assert!(flipped.unwrap_err().starts_with("raft-log.redb is damaged: header, member: checksum is"));
    }
}
