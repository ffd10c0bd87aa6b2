//! The raft log on disk: entries by index, the hard state, and where the log was cut.
//!
//! Owns: their form, group commits, and the rule about damage (R5): a bad record at the very end that nobody can rely on is cut off with
//! a log line, any other is fatal. Must not know: what entries mean.

use std::time::Duration;

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Applied, Backends, DiskError, LOG_FILE, Owner, record};
use crate::meta::OpenError;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("marks");

/// Term, vote and commit index, as raft keeps them.
const HARD: &str = "hard-state";
/// Index and term of the entry before the first.
const CUT: &str = "cut";
/// For how long this member may have promised to vote for nobody but a leader that it hears, nanoseconds.
const PROMISE: &str = "promise";
/// The members that the group began with.
const FOUNDERS: &str = "founders";

/// Raft's hard state as plain numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::meta) struct HardMark {
    pub(in crate::meta) term: u64,
    pub(in crate::meta) vote: u64,
    pub(in crate::meta) commit: u64,
}

/// The entry before the first that the log still has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::meta) struct Truncated {
    pub(in crate::meta) index: u64,
    pub(in crate::meta) term: u64,
}

/// One write: all of it is there afterwards, or nothing.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::meta) struct LogWrite {
    /// In order and without gaps; what the log had from the first of them on is replaced.
    pub(in crate::meta) entries: Vec<Entry>,
    pub(in crate::meta) hard: Option<HardMark>,
    /// Entries up to and with this one go.
    pub(in crate::meta) cut: Option<Truncated>,
    /// All entries from before this write go: the log begins anew after this one, up to which the state was received.
    pub(in crate::meta) reset: Option<Truncated>,
    /// See [`LogFile::promise`].
    pub(in crate::meta) promise: Option<Duration>,
    /// Whether it must be on disk when the write returns.
    pub(in crate::meta) sync: bool,
}

impl LogWrite {
    /// Adds a later write to this one: one fsync for both.
    pub(in crate::meta) fn merge(&mut self, later: LogWrite) {
        if later.reset.is_some() {
            self.entries.clear();
            (self.reset, self.cut) = (later.reset, None);
        }
        if let Some(first) = later.entries.first() {
            let keep = self.entries.partition_point(|e| e.index < first.index);
            self.entries.truncate(keep);
        }
        self.entries.extend(later.entries);
        self.hard = later.hard.or(self.hard);
        self.cut = later.cut.or(self.cut);
        self.promise = later.promise.or(self.promise);
        self.sync |= later.sync;
    }
}

/// What was in the file.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::meta) struct Loaded {
    pub(in crate::meta) hard: HardMark,
    pub(in crate::meta) cut: Truncated,
    /// From `cut.index + 1` on, without gaps.
    pub(in crate::meta) entries: Vec<Entry>,
}

/// The file.
#[derive(Debug)]
pub(in crate::meta) struct LogFile {
    db: Database,
}

fn place(index: u64) -> [u8; 8] {
    index.to_le_bytes()
}

fn numbers<const N: usize>(values: [u64; N]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn parse_numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut values = [0; N];
    let (words, rest) = bytes.as_chunks::<8>();
    if words.len() != N || !rest.is_empty() {
        return None;
    }
    for (value, word) in values.iter_mut().zip(words) {
        *value = u64::from_le_bytes(*word);
    }
    Some(values)
}

fn damaged(what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: LOG_FILE.into(), what: what.into() }
}

fn fail(e: impl Into<redb::Error>) -> OpenError {
    damaged(e.into().to_string())
}

impl LogFile {
    pub(super) fn open(backends: &dyn Backends, cache: usize) -> Result<(Self, Owner), OpenError> {
        let (db, owner) = super::open(backends, LOG_FILE, cache)?;
        Ok((Self { db }, owner))
    }

    pub(super) fn create(
        backends: &dyn Backends,
        cache: usize,
        owner: Owner,
        founders: &ConfState,
    ) -> Result<(Self, Owner), OpenError> {
        let db = super::create(backends, LOG_FILE, cache, owner, |txn| begin(txn, founders))?;
        Ok((Self { db }, owner))
    }

    /// Creates the file for a state that came from elsewhere: the log begins after the entry applied last.
    pub(super) fn plant(
        backends: &dyn Backends,
        cache: usize,
        owner: Owner,
        applied: &Applied,
    ) -> Result<(), OpenError> {
        let cut = Truncated { index: applied.index, term: applied.term };
        let hard = HardMark { term: applied.term, vote: 0, commit: applied.index };
        let write = LogWrite { hard: Some(hard), reset: Some(cut), ..LogWrite::default() };
        let fill = |txn: &redb::WriteTransaction| {
            begin(txn, &applied.conf)?;
            put(txn, &write)
        };
        super::create(backends, LOG_FILE, cache, owner, fill).map(drop)
    }

    /// The members that the group began with; `None` in a file from before groups of several: it was alone.
    pub(super) fn founders(&self) -> Result<Option<ConfState>, OpenError> {
        let Some(bytes) = self.mark_bytes(FOUNDERS)? else { return Ok(None) };
        let conf = ConfState::parse_from_bytes(&bytes).map_err(|e| damaged(format!("{FOUNDERS}: {e}")))?;
        Ok(Some(conf))
    }

    /// The longest promise not to vote that this member may have given before it was started and that may still hold; `None`: nothing is
    /// known of any.
    pub(in crate::meta) fn promise(&self) -> Result<Option<Duration>, OpenError> {
        Ok(self.mark(PROMISE)?.map(|[nanos]| Duration::from_nanos(nanos)))
    }

    fn mark_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let txn = self.db.begin_read().map_err(fail)?;
        let marks = txn.open_table(MARKS).map_err(fail)?;
        let Some(sealed) = marks.get(name).map_err(fail)? else { return Ok(None) };
        let bytes = record::unseal(name.as_bytes(), sealed.value()).map_err(|e| damaged(format!("{name}: {e}")))?;
        Ok(Some(bytes.to_vec()))
    }

    fn mark<const N: usize>(&self, name: &str) -> Result<Option<[u64; N]>, OpenError> {
        let Some(bytes) = self.mark_bytes(name)? else { return Ok(None) };
        parse_numbers(&bytes).map(Some).ok_or_else(|| damaged(format!("{name}: not {N} numbers")))
    }

    /// Where the log was cut.
    pub(super) fn cut(&self) -> Result<Truncated, OpenError> {
        let [index, term] = self.mark(CUT)?.unwrap_or_default();
        Ok(Truncated { index, term })
    }

    /// Whether entries were cut off its front.
    pub(super) fn is_cut(&self) -> Result<bool, OpenError> {
        Ok(self.cut()?.index > 0)
    }

    /// Reads everything. `applied` is what the state file has applied.
    pub(super) fn load(&self, applied: u64, logger: &slog::Logger) -> Result<Loaded, OpenError> {
        let cut = self.cut()?;
        let [term, vote, commit] = self.mark(HARD)?.unwrap_or_default();
        let mut hard = HardMark { term, vote, commit };
        let entries = self.load_entries(cut, commit.max(applied), logger)?;
        let last = entries.last().map_or(cut.index, |e| e.index);
        let known = commit.max(applied);
        if last < known || applied < cut.index {
            return Err(damaged(format!(
                "entries {}..={last} are there, {known} was committed, {applied} applied",
                cut.index + 1
            )));
        }
        // The commit index is not synced by itself; whatever was applied had been committed.
        hard.commit = known.max(cut.index);
        Ok(Loaded { hard, cut, entries })
    }

    fn load_entries(&self, cut: Truncated, relied_on: u64, logger: &slog::Logger) -> Result<Vec<Entry>, OpenError> {
        let txn = self.db.begin_read().map_err(fail)?;
        let table = txn.open_table(ENTRIES).map_err(fail)?;
        let mut entries: Vec<Entry> = vec![];
        let mut bad: Option<(u64, String)> = None;
        for row in table.iter().map_err(fail)? {
            let (index, sealed) = row.map_err(fail)?;
            let (index, next) = (index.value(), cut.index + 1 + entries.len() as u64);
            let entry = parse_entry(index, sealed.value());
            match (&bad, entry) {
                (None, Ok(entry)) if index == next => entries.push(entry),
                (None, Ok(_)) => return Err(damaged(format!("entry {index} where {next} should be"))),
                (None, Err(what)) => bad = Some((index, what)),
                // A good record after a bad one: the middle is damaged, not the end.
                (Some((bad, what)), Ok(_)) => return Err(damaged(format!("entry {bad}: {what}"))),
                (Some(_), Err(_)) => {}
            }
        }
        if let Some((index, what)) = bad {
            if index <= relied_on {
                return Err(damaged(format!("entry {index}, which was committed: {what}")));
            }
            slog::warn!(logger, "cut a damaged end off the raft log"; "first-damaged" => index, "error" => what);
        }
        Ok(entries)
    }

    /// Writes; when it returns and `sync` was set, it is on disk.
    pub(in crate::meta) fn write(&self, write: &LogWrite) -> Result<(), DiskError> {
        self.try_write(write).map_err(|e| DiskError::new(LOG_FILE, e))
    }

    fn try_write(&self, write: &LogWrite) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(if write.sync { Durability::Immediate } else { Durability::None })?;
        put(&txn, write)?;
        txn.commit()?;
        Ok(())
    }
}

/// What an empty file holds.
fn begin(txn: &redb::WriteTransaction, founders: &ConfState) -> Result<(), redb::Error> {
    txn.open_table(ENTRIES)?;
    let bytes = founders.write_to_bytes().map_err(std::io::Error::other)?;
    txn.open_table(MARKS)?.insert(FOUNDERS, record::seal(FOUNDERS.as_bytes(), &bytes).as_slice())?;
    Ok(())
}

fn put(txn: &redb::WriteTransaction, write: &LogWrite) -> Result<(), redb::Error> {
    let mut entries = txn.open_table(ENTRIES)?;
    if write.reset.is_some() {
        entries.retain(|_, _| false)?;
    }
    if let Some(first) = write.entries.first() {
        entries.retain_in(first.index.., |_, _| false)?;
    }
    for entry in &write.entries {
        let bytes = entry.write_to_bytes().map_err(std::io::Error::other)?;
        entries.insert(entry.index, record::seal(&place(entry.index), &bytes).as_slice())?;
    }
    let mut marks = txn.open_table(MARKS)?;
    if let Some(hard) = write.hard {
        let bytes = numbers([hard.term, hard.vote, hard.commit]);
        marks.insert(HARD, record::seal(HARD.as_bytes(), &bytes).as_slice())?;
    }
    if let Some(promise) = write.promise {
        let nanos = u64::try_from(promise.as_nanos()).unwrap_or(u64::MAX);
        marks.insert(PROMISE, record::seal(PROMISE.as_bytes(), &numbers([nanos])).as_slice())?;
    }
    if let Some(cut) = write.cut.or(write.reset) {
        entries.retain_in(..=cut.index, |_, _| false)?;
        marks.insert(CUT, record::seal(CUT.as_bytes(), &numbers([cut.index, cut.term])).as_slice())?;
    }
    Ok(())
}

fn parse_entry(index: u64, sealed: &[u8]) -> Result<Entry, String> {
    let bytes = record::unseal(&place(index), sealed).map_err(|e| e.to_string())?;
    let entry = Entry::parse_from_bytes(bytes).map_err(|e| e.to_string())?;
    if entry.index != index {
        return Err(format!("says it is entry {}", entry.index));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::{
        meta::disk::faults::FaultDisk,
        model::{ClusterId, MemberId},
    };

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![7; 20].into(), ..Entry::default() }
    }

    fn logger() -> slog::Logger {
        slog::Logger::root(slog::Discard, slog::o!())
    }

    /// A log with the entries 1 to 5, of which the first `commit` are committed.
    fn log(commit: u64) -> LogFile {
        let owner = Owner { cluster: ClusterId(1), member: MemberId(2) };
        let (log, _) = LogFile::create(&FaultDisk::default(), 1 << 20, owner, &ConfState::default()).unwrap();
        let hard = Some(HardMark { term: 1, vote: 2, commit });
        log.write(&LogWrite {
            entries: (1..=5).map(|i| entry(i, 1)).collect(),
            hard,
            cut: None,
            reset: None,
            promise: None,
            sync: true,
        })
        .unwrap();
        log
    }

    fn edit(log: &LogFile, index: u64, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let txn = log.db.begin_write().unwrap();
        {
            let mut entries = txn.open_table(ENTRIES).unwrap();
            let bytes = entries.get(index).unwrap().unwrap().value().to_vec();
            entries.insert(index, edit(bytes).as_slice()).unwrap();
        }
        txn.commit().unwrap();
    }

    fn flip(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[9] ^= 4;
        bytes
    }

    fn last(log: &LogFile, applied: u64) -> Result<u64, String> {
        let loaded = log.load(applied, &logger()).map_err(|e| e.to_string())?;
        Ok(loaded.entries.last().unwrap().index)
    }

    #[test]
    fn r5_a_damaged_end_is_cut_only_if_nobody_relies_on_it() {
        let damaged = log(3);
        edit(&damaged, 5, flip);
        edit(&damaged, 4, |bytes| bytes[..3].to_vec());
        assert_eq!(last(&damaged, 3), Ok(3));
        // What comes next replaces it for good.
        damaged.write(&LogWrite { entries: vec![entry(4, 2)], sync: true, ..LogWrite::default() }).unwrap();
        assert_eq!(last(&damaged, 3), Ok(4));
        for (commit, applied) in [(5, 0), (3, 5)] {
            let damaged = log(commit);
            edit(&damaged, 5, flip);
            let e = last(&damaged, applied).unwrap_err();
            assert!(e.starts_with("raft-log.redb is damaged: entry 5, which was committed: checksum is"), "{e}");
        }
    }

    #[test]
    fn r5_damage_in_the_middle_is_fatal_and_named() {
        let damaged = log(1);
        edit(&damaged, 3, flip);
        assert!(last(&damaged, 1).unwrap_err().starts_with("raft-log.redb is damaged: entry 3: checksum is"));
        // A good record in the place of another.
        let damaged = log(1);
        edit(&damaged, 3, |_| record::seal(&place(2), &entry(2, 1).write_to_bytes().unwrap()));
        assert!(last(&damaged, 1).unwrap_err().starts_with("raft-log.redb is damaged: entry 3: checksum is"));
        // A hole.
        let damaged = log(1);
        let txn = damaged.db.begin_write().unwrap();
        txn.open_table(ENTRIES).unwrap().remove(3).unwrap();
        txn.commit().unwrap();
        assert_eq!(last(&damaged, 1).unwrap_err(), "raft-log.redb is damaged: entry 4 where 3 should be");
        // Entries that were applied are not there.
        let e = last(&log(1), 9).unwrap_err();
        assert_eq!(e, "raft-log.redb is damaged: entries 1..=5 are there, 9 was committed, 9 applied");
    }

    #[test]
    fn writes_merge_into_one() {
        let mut first = LogWrite { entries: vec![entry(1, 1), entry(2, 1)], sync: true, ..LogWrite::default() };
        let hard = Some(HardMark { term: 2, vote: 1, commit: 1 });
        first.merge(LogWrite {
            entries: vec![entry(2, 2), entry(3, 2)],
            hard,
            cut: None,
            reset: None,
            promise: None,
            sync: false,
        });
        let terms: Vec<_> = first.entries.iter().map(|e| (e.index, e.term)).collect();
        assert_eq!((terms, first.hard, first.sync), (vec![(1, 1), (2, 2), (3, 2)], hard, true));
    }
}
