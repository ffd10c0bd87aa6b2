//! `berth bench`: measures a server from outside, over plain `pdpb` and HTTP, so that Berth and PD can be held side by side.
//!
//! Owns: the rows, one file each, and what they have in common: the fleet they run against (`rig`), the server process's CPU time
//! (`process`), latencies (`histogram`) and the table (`table`). Must not know anything of the server but its address and its
//! process id. A row needs a fresh server; the fleet is built by the row itself.

mod heartbeat;
mod histogram;
mod idle;
mod leader_change;
mod lookup;
mod process;
mod restart;
mod rig;
mod scale_in;
mod size_sum;
mod table;
mod tso;

use tokio_util::sync::CancellationToken;

pub use self::{
    heartbeat::HeartbeatOptions,
    histogram::Histogram,
    idle::IdleOptions,
    leader_change::LeaderChangeOptions,
    process::{Process, Usage},
    restart::RestartOptions,
    scale_in::ScaleInOptions,
    size_sum::SizeSumOptions,
    table::{Table, Unit},
    tso::TsoOptions,
};
use crate::sim::{SimError, http::HttpError};

/// The flags of `berth bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchOptions {
    /// Client address of the server.
    #[arg(long, global = true, default_value = "http://127.0.0.1:2379")]
    pub addr: String,
    /// Process id of the server: its CPU time and memory are read from /proc.
    #[arg(long, global = true)]
    pub pid: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to measure.
    #[command(subcommand)]
    pub row: Row,
}

/// What can be measured.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Row {
    /// Take a store out: time until it is empty and until it is Tombstone, evenness, CPU.
    ScaleIn(ScaleInOptions),
    /// Healthy regions: CPU and the length of a patrol round.
    Idle(IdleOptions),
    /// Look-ups while the size of the whole key space is asked for.
    SizeSum(SizeSumOptions),
    /// CPU of a region heartbeat, first and steady.
    Heartbeat(HeartbeatOptions),
    /// Timestamps: many callers of one client, and one request at a time.
    Tso(TsoOptions),
    /// The leader of a group goes in the middle of a drain: when the next one answers and schedules.
    LeaderChange(LeaderChangeOptions),
    /// A server is ended and started again: when it answers and knows its regions.
    Restart(RestartOptions),
}

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The fleet could not run.
    #[error(transparent)]
    Fleet(#[from] SimError),
    /// A REST call failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A gRPC call failed.
    #[error("{call}: {message}")]
    Call {
        /// The call.
        call: &'static str,
        /// What happened.
        message: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s in vain for: {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// The process of the server cannot be read.
    #[error("process {pid}: {message}")]
    Process {
        /// Its id.
        pid: u32,
        /// What happened.
        message: String,
    },
    /// The server broke a promise while it was measured.
    #[error("the server is wrong: {0}")]
    Wrong(String),
    /// Ended from outside.
    #[error("stopped")]
    Stopped,
}

/// Measures one row.
///
/// # Errors
/// The server cannot be reached, refuses, does not get done, or breaks a promise.
pub async fn run(options: &BenchOptions, shutdown: CancellationToken) -> Result<Table, BenchError> {
    let target = rig::Target::new(&options.addr, options.pid)?;
    match &options.row {
        Row::ScaleIn(row) => scale_in::run(&target, row, shutdown).await,
        Row::Idle(row) => idle::run(&target, row, shutdown).await,
        Row::SizeSum(row) => size_sum::run(&target, row, shutdown).await,
        Row::Heartbeat(row) => heartbeat::run(&target, row, shutdown).await,
        Row::Tso(row) => tso::run(&target, row, shutdown).await,
        Row::LeaderChange(row) => leader_change::run(&target, row, shutdown).await,
        Row::Restart(row) => restart::run(&target, row, shutdown).await,
    }
}

#[cfg(test)]
mod tests;
