//! The state on disk: its rows, and up to which entry of the log they are applied, written in one transaction (R4).
//!
//! Writes are not synced: after a crash the log is applied again from where the last flush was. The state is flushed before the log is
//! cut. Owns: that file. Must not know: commands, raft's rules.

use protobuf::Message as _;
use raft::eraftpb::ConfState;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Backends, DiskError, Owner, STATE_FILE, Truncated, record};
use crate::meta::{
    OpenError,
    machine::{Action, Row, RowKey, State},
};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const MARKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("marks");
const APPLIED: &str = "applied";
/// Index and term up to which the whole state was received from another member, when it last was.
const INSTALLED: &str = "installed";

/// How far the state is, and who votes there.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::meta) struct Applied {
    /// Last entry applied.
    pub(in crate::meta) index: u64,
    /// Its term.
    pub(in crate::meta) term: u64,
    /// The members of the group as of that entry.
    pub(in crate::meta) conf: ConfState,
}

/// What was in the file.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::meta) struct Loaded {
    pub(in crate::meta) applied: Applied,
    pub(in crate::meta) state: State,
    /// Where the state begins that was received whole.
    pub(super) installed: Option<Truncated>,
}

/// The file.
#[derive(Debug)]
pub(in crate::meta) struct StateFile {
    db: Database,
}

fn damaged(what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: STATE_FILE.into(), what: what.into() }
}

fn fail(e: impl Into<redb::Error>) -> OpenError {
    damaged(e.into().to_string())
}

impl StateFile {
    pub(super) fn open(backends: &dyn Backends, cache: usize) -> Result<(Self, Owner), OpenError> {
        let (db, owner) = super::open(backends, STATE_FILE, cache)?;
        Ok((Self { db }, owner))
    }

    pub(super) fn create(backends: &dyn Backends, cache: usize, owner: Owner) -> Result<Self, OpenError> {
        let db = super::create(backends, STATE_FILE, cache, owner, |txn| {
            txn.open_table(ROWS)?;
            txn.open_table(MARKS)?;
            Ok(())
        })?;
        Ok(Self { db })
    }

    /// Creates the file with a whole state in it; it has its name once all of that is on disk.
    pub(super) fn plant(
        backends: &dyn Backends,
        cache: usize,
        owner: Owner,
        state: &State,
        applied: &Applied,
    ) -> Result<(), OpenError> {
        super::create(backends, STATE_FILE, cache, owner, |txn| put_whole(txn, state, applied)).map(drop)
    }

    /// Reads everything, and holds the rows against the hash that was written with them. `founders` are the members before the first
    /// entry.
    pub(super) fn load(&self, founders: ConfState) -> Result<Loaded, OpenError> {
        let txn = self.db.begin_read().map_err(fail)?;
        let mut state = State::default();
        for row in txn.open_table(ROWS).map_err(fail)?.iter().map_err(fail)? {
            let (key, sealed) = row.map_err(fail)?;
            let name = || String::from_utf8_lossy(key.value()).into_owned();
            let bytes =
                record::unseal(key.value(), sealed.value()).map_err(|e| damaged(format!("row {}: {e}", name())))?;
            let row: Row = serde_json::from_slice(bytes).map_err(|e| damaged(format!("row {}: {e}", name())))?;
            state.apply(&Action::Put(row));
        }
        let marks = txn.open_table(MARKS).map_err(fail)?;
        let Some(sealed) = marks.get(APPLIED).map_err(fail)? else {
            if state != State::default() {
                return Err(damaged("it has rows, but does not say up to which entry"));
            }
            return Ok(Loaded { applied: Applied { conf: founders, ..Applied::default() }, state, installed: None });
        };
        let bytes =
            record::unseal(APPLIED.as_bytes(), sealed.value()).map_err(|e| damaged(format!("{APPLIED}: {e}")))?;
        let (hash, applied) = parse_applied(bytes).ok_or_else(|| damaged(format!("{APPLIED}: not in its form")))?;
        if hash != state.hash {
            return Err(damaged(format!("its rows sum up to {:016x}, should be {hash:016x}", state.hash)));
        }
        let installed = match marks.get(INSTALLED).map_err(fail)? {
            Some(sealed) => {
                let bytes = record::unseal(INSTALLED.as_bytes(), sealed.value())
                    .map_err(|e| damaged(format!("{INSTALLED}: {e}")))?;
                let (index, term) =
                    parse_pair(bytes).ok_or_else(|| damaged(format!("{INSTALLED}: not in its form")))?;
                Some(Truncated { index, term })
            }
            None => None,
        };
        Ok(Loaded { applied, state, installed })
    }

    /// Writes row changes and how far they go, as one. `hash` is that of the state after them. Not synced.
    pub(in crate::meta) fn write(&self, actions: &[Action], applied: &Applied, hash: u64) -> Result<(), DiskError> {
        self.try_write(actions, applied, hash).map_err(|e| DiskError::new(STATE_FILE, e))
    }

    fn try_write(&self, actions: &[Action], applied: &Applied, hash: u64) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::None)?;
        {
            let mut rows = txn.open_table(ROWS)?;
            for action in actions {
                match action {
                    Action::Put(row) => put_row(&mut rows, row)?,
                    Action::Delete(key) => {
                        rows.remove(encode_key(key)?.as_slice())?;
                    }
                }
            }
            put_applied(&mut txn.open_table(MARKS)?, applied, hash)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Replaces everything by a state received from another member: all of it is on disk afterwards, or what was there before.
    pub(in crate::meta) fn install(&self, state: &State, applied: &Applied) -> Result<(), DiskError> {
        self.try_install(state, applied).map_err(|e| DiskError::new(STATE_FILE, e))
    }

    fn try_install(&self, state: &State, applied: &Applied) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        put_whole(&txn, state, applied)?;
        txn.commit()?;
        Ok(())
    }

    /// Puts all that was written on disk.
    pub(in crate::meta) fn flush(&self) -> Result<(), DiskError> {
        let flush = || -> Result<(), redb::Error> {
            let mut txn = self.db.begin_write()?;
            txn.set_durability(Durability::Immediate)?;
            txn.commit()?;
            Ok(())
        };
        flush().map_err(|e| DiskError::new(STATE_FILE, e))
    }
}

/// A state that came from elsewhere, in the place of all that is there.
fn put_whole(txn: &redb::WriteTransaction, state: &State, applied: &Applied) -> Result<(), redb::Error> {
    let mut rows = txn.open_table(ROWS)?;
    rows.retain(|_, _| false)?;
    for row in state.rows_from(None) {
        put_row(&mut rows, &row)?;
    }
    let mut marks = txn.open_table(MARKS)?;
    put_applied(&mut marks, applied, state.hash)?;
    let installed: Vec<u8> = [applied.index, applied.term].iter().flat_map(|v| v.to_le_bytes()).collect();
    marks.insert(INSTALLED, record::seal(INSTALLED.as_bytes(), &installed).as_slice())?;
    Ok(())
}

fn put_row(rows: &mut redb::Table<'_, &'static [u8], &'static [u8]>, row: &Row) -> Result<(), redb::Error> {
    let key = encode_key(&row.key())?;
    let value = serde_json::to_vec(row).map_err(std::io::Error::from)?;
    rows.insert(key.as_slice(), record::seal(&key, &value).as_slice())?;
    Ok(())
}

fn put_applied(
    marks: &mut redb::Table<'_, &'static str, &'static [u8]>,
    applied: &Applied,
    hash: u64,
) -> Result<(), redb::Error> {
    let bytes = encode_applied(hash, applied)?;
    marks.insert(APPLIED, record::seal(APPLIED.as_bytes(), &bytes).as_slice())?;
    Ok(())
}

fn encode_key(key: &RowKey) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(key).map_err(|e| redb::Error::from(std::io::Error::from(e)))
}

/// Hash, index, term (eight bytes each), then the configuration as raft encodes it.
fn encode_applied(hash: u64, applied: &Applied) -> Result<Vec<u8>, redb::Error> {
    let mut bytes: Vec<u8> = [hash, applied.index, applied.term].iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes.extend(applied.conf.write_to_bytes().map_err(std::io::Error::other)?);
    Ok(bytes)
}

fn parse_pair(bytes: &[u8]) -> Option<(u64, u64)> {
    let (words, rest) = bytes.as_chunks::<8>();
    match words {
        [first, second] if rest.is_empty() => Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second))),
        _ => None,
    }
}

fn parse_applied(bytes: &[u8]) -> Option<(u64, Applied)> {
    let mut rest = bytes;
    let mut next = || -> Option<u64> {
        let (word, tail) = rest.split_first_chunk::<8>()?;
        rest = tail;
        Some(u64::from_le_bytes(*word))
    };
    let (hash, index, term) = (next()?, next()?, next()?);
    let conf = ConfState::parse_from_bytes(rest).ok()?;
    Some((hash, Applied { index, term, conf }))
}
