//! Beginning anew: a data folder made from a backup, or from nothing but the id of a cluster that is lost.
//!
//! Owns: what the new member begins with, so that nothing is given out twice. Must not know: networks, the form of backups and of files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Backends, CacheSizes, FileBackends, OpenError,
    backup::Backup,
    disk::{self, Applied, LOCK_FILE, Owner},
    machine::{Action, Cluster, NamedRow, Row, RowKey, State},
    membership::member_id,
};
use crate::model::{ClusterId, MemberId, Wall, ids::MAX_ID};

/// How far ids jump when nobody says how far: nobody takes so many between a backup and its restore.
pub const ID_MARGIN: u64 = 100_000_000;

/// How far timestamps go ahead of this machine's clock when nobody says how far: clocks of machines differ by less.
pub const TSO_AHEAD: Duration = Duration::from_secs(10);

/// What a folder may hold and still be empty: what a file system puts there itself, and what was never finished.
const NOTHING: [&str; 2] = ["lost+found", LOCK_FILE];

/// Above what new ids and timestamps are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    /// All ids are above this one; `None`: [`ID_MARGIN`] above those in the backup.
    pub alloc_id: Option<u64>,
    /// How far timestamps go ahead of the clock and of the bound in the backup.
    pub tso: Duration,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { alloc_id: None, tso: TSO_AHEAD }
    }
}

/// A folder that a member can be started on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planted {
    /// Id of its cluster.
    pub cluster: ClusterId,
    /// Id of the member, the only one of its group.
    pub member: MemberId,
    /// All ids will be above this one.
    pub id_end: u64,
    /// All timestamps will be at or above this, Unix milliseconds.
    pub tso_upper_ms: i64,
}

/// Why no folder was made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the folder.
    #[error("{dir} is not empty, it has {entry}: restore only into an empty or missing folder")]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// What is there.
        entry: String,
    },
    /// The folder cannot be looked at or made.
    #[error("{dir}: {why}")]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// Ids would be given out again.
    #[error("ids up to {taken} are taken, --alloc-id {given} would give some of them out again")]
    Taken {
        /// What was asked for.
        given: u64,
        /// The highest taken.
        taken: u64,
    },
    /// No ids would be left.
    #[error("--alloc-id {given} is above {MAX_ID}, the highest id that there is")]
    TooHigh {
        /// What was asked for.
        given: u64,
    },
    /// The cluster has no id.
    #[error("a cluster id is not 0")]
    NoCluster,
    /// The files.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Makes the data folder `dir` from a backup: a group of one with the backup's cluster id and state, and a member id of its own.
///
/// # Errors
/// [`RestoreError`]; there is nothing in the folder then that a server would start on.
pub fn restore(backup: Backup, dir: &Path, ahead: Ahead, now: Wall, entropy: u64) -> Result<Planted, RestoreError> {
    let begin = restored(backup, ahead, now)?;
    plant(&*files_in(dir)?, dir, begin, now, entropy)
}

/// A cluster of which nothing is left but its id and its data on the storage nodes.
#[derive(Clone, PartialEq, Debug)]
pub struct Lost {
    /// Its id.
    pub cluster: ClusterId,
    /// All new ids are above this one.
    pub alloc_id: u64,
    /// How far timestamps go ahead of the clock.
    pub tso_ahead: Duration,
    /// Region label rules that every cluster has.
    pub label_rules: Vec<NamedRow>,
    /// Keyspaces that every cluster has.
    pub keyspaces: Vec<NamedRow>,
}

/// Makes the data folder `dir` for a lost cluster: it counts as bootstrapped and has no stores, which come back by themselves.
///
/// # Errors
/// As [`restore`].
pub fn recover(lost: Lost, dir: &Path, now: Wall, entropy: u64) -> Result<Planted, RestoreError> {
    let Lost { cluster, alloc_id, tso_ahead, label_rules, keyspaces } = lost;
    if cluster.0 == 0 {
        return Err(RestoreError::NoCluster);
    }
    let row = Cluster { id: cluster, bootstrapped: Some(now), first_region: vec![] };
    let mut state = State::default();
    state.apply(&Action::Put(Row::Cluster(Arc::new(row))));
    for NamedRow { id, json } in label_rules {
        state.apply(&Action::Put(Row::LabelRule(id, json.into())));
    }
    for NamedRow { id, json } in keyspaces {
        state.apply(&Action::Put(Row::Keyspace(id, json.into())));
    }
    let state = jump(state, Ahead { alloc_id: Some(alloc_id), tso: tso_ahead }, now, now)?;
    plant(&*files_in(dir)?, dir, Begin { cluster, state, index: 1, term: 1 }, now, entropy)
}

/// What a folder is made from.
pub(super) struct Begin {
    cluster: ClusterId,
    state: State,
    index: u64,
    term: u64,
}

/// The state of a backup as the new member begins with it.
pub(super) fn restored(backup: Backup, ahead: Ahead, now: Wall) -> Result<Begin, RestoreError> {
    let Backup { about, mut state } = backup;
    let old: Vec<MemberId> = state.members.keys().copied().collect();
    for id in old {
        state.apply(&Action::Delete(RowKey::Member(id)));
    }
    let state = jump(state, ahead, about.made, now)?;
    Ok(Begin { cluster: about.cluster, state, index: about.index.max(1), term: about.term.max(1) })
}

/// Has ids and timestamps begin above all that the cluster may have given out since `then`, when the state was as it is.
fn jump(mut state: State, ahead: Ahead, then: Wall, now: Wall) -> Result<State, RestoreError> {
    let stores = state.stores.keys().chain(state.dead_stores.iter()).map(|id| id.0).filter(|id| *id <= MAX_ID);
    let taken = stores.fold(state.id_end, u64::max);
    let id_end = match ahead.alloc_id {
        Some(given) if given < taken => return Err(RestoreError::Taken { given, taken }),
        Some(given) if given > MAX_ID => return Err(RestoreError::TooHigh { given }),
        Some(given) => given,
        None => taken.saturating_add(ID_MARGIN).min(MAX_ID.max(taken)),
    };
    let tso_upper = tso_above(state.tso_upper_ms, then, now, ahead.tso);
    state.apply(&Action::Put(Row::IdEnd(id_end)));
    state.apply(&Action::Put(Row::TsoUpper(tso_upper)));
    Ok(state)
}

/// A bound of timestamps above what the cluster can have given out. It was `saved` at `then`; who gave timestamps ahead of the clock
/// at that time may have gone on to do so.
pub(super) fn tso_above(saved: i64, then: Wall, now: Wall, ahead: Duration) -> i64 {
    let was_ahead = saved.saturating_sub(then.unix_millis()).max(0);
    let ahead = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
    now.unix_millis().saturating_add(was_ahead).max(saved).saturating_add(ahead)
}

/// The files of a folder in which there is nothing.
fn files_in(dir: &Path) -> Result<Box<dyn Backends>, RestoreError> {
    let failed = |why| RestoreError::Folder { dir: dir.to_owned(), why };
    let files = FileBackends::new(dir).map_err(failed)?;
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !NOTHING.contains(&name.as_str()) && !name.ends_with(".redb.new") {
            return Err(RestoreError::NotEmpty { dir: dir.to_owned(), entry: name });
        }
    }
    Ok(Box::new(files))
}

/// Makes the files. The log comes last: without it no server starts on the folder.
pub(super) fn plant(
    files: &dyn Backends,
    dir: &Path,
    begin: Begin,
    now: Wall,
    entropy: u64,
) -> Result<Planted, RestoreError> {
    let Begin { cluster, state, index, term } = begin;
    let io = |source| OpenError::Io { file: dir.display().to_string(), source };
    let _lock = files.lock().map_err(io)?.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
    let salt: Vec<u8> = entropy.to_le_bytes().into_iter().chain(now.0.to_le_bytes()).collect();
    let member = member_id("", &[], &salt);
    let planted = Planted { cluster, member, id_end: state.id_end, tso_upper_ms: state.tso_upper_ms };
    let applied = Applied { index, term, conf: disk::alone(Owner { cluster, member }) };
    disk::plant(files, CacheSizes::default(), Owner { cluster, member }, &state, &applied)?;
    Ok(planted)
}

#[cfg(test)]
mod tests;
