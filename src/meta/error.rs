//! What can go wrong: at the start ([`OpenError`]) and in a call ([`MetaError`]).
//!
//! Owns: the texts, PD's where PD has one. Must not know: status codes; `api` maps these enums onto them.

use std::{io, path::PathBuf, sync::Arc};

use super::{Member, Refusal, membership::FoundingError};

/// Why a data folder cannot be used. Each is final: the process should end and say it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder.
    #[error("another server is using the data directory {0}")]
    Locked(PathBuf),
    /// The operating system refused something.
    #[error("{file}: {source}")]
    Io {
        /// File or folder.
        file: String,
        /// What it said.
        source: io::Error,
    },
    /// Not one of Berth's files.
    #[error("{file} is not a file of Berth ({why}); it is left as it is")]
    Foreign {
        /// File.
        file: String,
        /// How that is known.
        why: String,
    },
    /// Written by a newer Berth.
    #[error("{file} has format {found}, this binary knows formats up to {known}: start it with the newer binary")]
    Newer {
        /// File.
        file: String,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// Files of different clusters or members in one folder.
    #[error("{file} belongs to {found}, the other files to {expected}")]
    Mixed {
        /// File.
        file: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Damaged where nothing may be cut off. Never repaired by leaving something out.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// File.
        file: String,
        /// Which record, and how.
        what: String,
    },
    /// One of the files is gone.
    #[error("{file} is missing, but {other} is there")]
    Missing {
        /// The file that is gone.
        file: String,
        /// One that is there.
        other: String,
    },
    /// A member that never had the state cannot go on without the others.
    #[error("--force-new-cluster: there is no cluster in the data directory to go on from")]
    NoCluster,
    /// The list of the first members.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// Raft did not like what it was given.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetaError {
    /// This member does not lead (or may not serve yet).
    #[error("not leader")]
    NotLeader {
        /// Who does, if known.
        leader: Option<Arc<Member>>,
    },
    /// The machine refused; nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Leadership was lost while waiting: the change may have been made, or not.
    #[error("leadership lost while waiting, the outcome is unknown")]
    Unknown,
    /// The disk has not answered for so long that the caller is not kept waiting: the change may still be made, or not.
    #[error("the disk does not answer, the outcome is unknown")]
    TimedOut,
    /// Too much is waiting already; nothing has changed.
    #[error("too many requests are waiting for the log")]
    Busy,
    /// The command is longer than an entry may be.
    #[error("request of {size} bytes, the most is {max}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most.
        max: usize,
    },
    /// The command cannot be written down.
    #[error("{0}")]
    Malformed(String),
    /// More ids at once than are given.
    #[error("too many ids asked for at once: {count}, the most is {max}")]
    TooManyIds {
        /// How many.
        count: u32,
        /// The most.
        max: u32,
    },
    /// No timestamp.
    #[error("[PD:tso:ErrGenerateTimestamp]generate timestamp failed, {0}")]
    Timestamp(&'static str),
    /// Timestamps cannot be moved there.
    #[error("[PD:tso:ErrResetUserTimestamp]reset user timestamp failed, {0}")]
    ResetTimestamp(&'static str),
    /// The disk failed: nothing is acknowledged any more.
    #[error("the disk failed: {0}")]
    Disk(Arc<str>),
    /// The server is ending.
    #[error("server is shutting down")]
    Stopped,
}
