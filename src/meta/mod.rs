//! What is **agreed**: a raft group (of one or several members) with its log and state on disk, the state machine on top of it, and
//! the windows of ids and timestamps that it hands out.
//!
//! Owns: the log, the state, their files, leadership and its lease. Must not know: what is observed (`store`), how it is scheduled,
//! and who asks by which protocol. Start at [`Meta`]; [`machine`] decides, `raft` agrees, `disk` keeps, `host`
//! drives.
//!
//! ```text
//!  propose ─▶ queue ─▶ Host ─▶ raft::Node::step ─▶ disk thread (log, fsync) ─▶ committed ─▶ machine ─▶ state file
//!                                                                                        └▶ observers ─▶ proposer
//! ```

mod backup;
mod bugs;
mod busy;
mod disk;
mod error;
mod force;
mod handle;
mod host;
mod ids;
mod lease;
pub mod machine;
mod membership;
mod parts;
mod peer;
mod queue;
mod raft;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;
mod tso;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use backup::{About, BACKUP_FORM, Backup, BackupError, BackupParts, MAX_BACKUP_BYTES};
pub use disk::{Backends, FileBackends, Held, LOCK_FILE, LOG_FILE, STATE_FILE};
pub use error::{MetaError, OpenError};
pub use handle::{Group, GroupCounts, Meta};
pub use host::{Host, HostHandle};
pub use ids::{ID_WINDOW, MAX_IDS_AT_ONCE};
pub use machine::{
    AskedBy, Barrier, Bootstrap, Change, Cluster, Command, ConfigChange, Drain, GC_WORKER, GcPoints,
    GlobalConfigChange, GlobalConfigItem, LabelRows, LabelRuleReplacement, LimitKind, MAX_COMMAND_BYTES,
    MAX_ROWS_A_COMMAND, Member, NamedRow, Refusal, Reply, RuleRow, RuleRows, State, TtlItem, proto_text,
};
pub use membership::{Founder, Founding, FoundingError, MAX_MEMBERS, MemberError, founders};
pub use peer::{MAX_PEER_MESSAGE, PeerError, Transport};
pub use restore::{Ahead, ID_MARGIN, Lost, Planted, RestoreError, TSO_AHEAD, recover, restore};
pub use tso::{MAX_LOGICAL, Timestamp};

use crate::model::Clock;

/// What this member says about itself; its id is in its files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberInfo {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where members reach it.
    pub peer_urls: Vec<String>,
    /// Where it is installed.
    pub deploy_path: String,
    /// Version of its binary.
    pub binary_version: String,
    /// Git hash of its binary.
    pub git_hash: String,
}

/// The beat of raft.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RaftTimings {
    /// One tick, and the distance of heartbeats.
    pub tick: Duration,
    /// For so many ticks after hearing a leader a member votes for no other. It campaigns two ticks later at the earliest, and half as
    /// many later again at the latest.
    pub election_ticks: u32,
    /// The log is cut each time this many entries have been applied since the last cut.
    pub compact_every: u64,
    /// How many applied entries stay in the log for followers that lag.
    pub compact_keep: u64,
    /// The hash of the state is compared between members each time this many entries have been applied; 0: never.
    pub hash_every: u64,
    /// And this long after the last time, whatever was applied.
    pub hash_period: Duration,
    /// A leader whose disk does not answer for longer leads no more, and nobody whose disk does not answer tries to.
    pub disk_patience: Duration,
}

impl RaftTimings {
    /// The shortest time after hearing a leader in which a member with these timings votes for no other. The first tick may come at once.
    fn promise(&self) -> Duration {
        self.tick * self.election_ticks.saturating_sub(1)
    }

    /// As many ticks as a promise of this length needs.
    fn ticks_for(&self, promise: Duration) -> u32 {
        let ticks = promise.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1)
    }
}

impl Default for RaftTimings {
    /// Followers of a leader that is gone campaign after 1.0 to 1.4 s, so that clients are served again within 2 s; the defaults of the
    /// configuration are the same. Logs of some thousand entries are replayed in milliseconds.
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            election_ticks: 8,
            compact_every: 4096,
            compact_keep: 1024,
            hash_every: 256,
            hash_period: Duration::from_secs(15),
            disk_patience: Duration::from_secs(3),
        }
    }
}

/// Memory that the files may use for their caches, bytes. Both files are small; redb would take 1 GiB each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheSizes {
    /// Of the raft log: it is written, and read only at the start.
    pub log: usize,
    /// Of the state: the same.
    pub state: usize,
}

impl Default for CacheSizes {
    fn default() -> Self {
        Self { log: 8 << 20, state: 8 << 20 }
    }
}

/// What [`Meta::open`] needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder, for messages; the files come from `backend`.
    pub dir: PathBuf,
    /// This member.
    pub member: MemberInfo,
    /// The beat of raft.
    pub raft: RaftTimings,
    /// Memory for the files.
    pub caches: CacheSizes,
    /// How far ahead of the clock timestamps may go without asking the log (`tso-save-interval`).
    pub tso_save_interval: Duration,
    /// Random bits: on the first start the ids of cluster and member come from these and the clock; on each, the mark of this run.
    pub entropy: u64,
    /// The files.
    pub backend: Arc<dyn Backends>,
    /// Starts a member that has data as the only one of its group (`--force-new-cluster`): all others go. Nothing happens when it is
    /// the only one already.
    pub force_new: bool,
}

impl Options {
    /// Files in `dir` and defaults for all else.
    pub fn in_folder(dir: impl Into<PathBuf>, member: MemberInfo, entropy: u64) -> std::io::Result<Self> {
        let dir = dir.into();
        Ok(Self {
            backend: Arc::new(FileBackends::new(dir.clone())?),
            dir,
            member,
            raft: RaftTimings::default(),
            caches: CacheSizes::default(),
            tso_save_interval: tso::DEFAULT_SAVE_INTERVAL,
            entropy,
            force_new: false,
        })
    }
}
