//! Taking a store out: how long, how evenly, at what price.
//!
//! Owns: the row `scale-in`. The store is the fleet's first; its peers are `--peers` regions spread evenly over the key space.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError, Table, Unit,
    rig::{Rig, Span, Target, pause},
};
use crate::{
    model::StoreId,
    sim::{CommandKind, FleetOptions, http::HttpError, parse_duration},
};

/// How often the state of the emptied store is asked for.
const STATE_POLL: Duration = Duration::from_millis(20);
/// How long a server may refuse the DELETE because it does not know enough stores to be up yet.
const DELETE_RETRY: Duration = Duration::from_secs(30);

/// The flags of `scale-in`.
#[derive(Clone, Debug, clap::Args)]
pub struct ScaleInOptions {
    /// Number of stores.
    #[arg(long, default_value_t = 6)]
    pub stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 20_000)]
    pub regions: u32,
    /// Peers on the store that is taken out.
    #[arg(long, default_value_t = 3_000)]
    pub peers: u32,
    /// Time that a node takes for a step.
    #[arg(long, default_value = "20ms", value_parser = parse_duration)]
    pub step_delay: Duration,
    /// Store limit of all stores, a minute; 0: leave the defaults.
    #[arg(long, default_value_t = 0.0)]
    pub store_limit: f64,
    /// Value of `replica-schedule-limit`; default: leave it.
    #[arg(long)]
    pub replica_schedule_limit: Option<u64>,
    /// Rest between the load and the DELETE.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub settle: Duration,
    /// Give up after this time.
    #[arg(long, default_value = "30m", value_parser = parse_duration)]
    pub give_up: Duration,
    /// Seed of the fleet.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Counts new peers second by second.
#[derive(Default)]
struct Pulse {
    seconds: Vec<u64>,
    seen: u64,
}

impl Pulse {
    /// `added` peers have been added in all, `at` this time after the start.
    fn note(&mut self, at: Duration, added: u64) {
        let second = at.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, 0);
        }
        self.seconds[second] += added.saturating_sub(self.seen);
        self.seen = added;
    }

    /// Whole seconds before `end` in which nothing new was begun.
    fn silent(&self, end: Duration) -> usize {
        let whole = end.as_secs() as usize;
        (0..whole).filter(|s| self.seconds.get(*s).copied().unwrap_or(0) == 0).count()
    }
}

pub(super) async fn run(
    target: &Target,
    row: &ScaleInOptions,
    shutdown: CancellationToken,
) -> Result<Table, BenchError> {
    let options = FleetOptions {
        stores: row.stores,
        regions: row.regions,
        first_store_peers: Some(row.peers),
        step_delay: row.step_delay,
        seed: row.seed,
        ..FleetOptions::default()
    };
    let mut rig = Rig::start(target, options, &shutdown);
    rig.loaded(row.give_up).await?;
    set_limits(target, row).await?;
    pause(row.settle, &shutdown).await?;

    let store = rig.view().stores.first().map(|s| s.id).ok_or(BenchError::Stopped)?;
    let adds = |v: &crate::sim::FleetView| v.counters.executed.get(&CommandKind::AddLearner).copied().unwrap_or(0);
    let before = adds(&rig.view());
    delete(target, store).await?;
    let (start, span) = (Instant::now(), Span::begin(target)?);
    let mut pulse = Pulse::default();
    let emptied = rig
        .wait("the store to become empty", row.give_up, |v| {
            pulse.note(start.elapsed(), adds(v).saturating_sub(before));
            v.store(store).is_some_and(|s| s.peers == 0)
        })
        .await?;
    let empty = emptied - start;
    let cores = span.cores(target)?;
    until_tombstone(target, store, row.give_up).await?;
    let tombstone = start.elapsed();
    let report = rig.finish().await?;

    let mut table = Table::new(format!(
        "scale-in of a store with {} peers, {} stores, {} regions, {} ms a step",
        row.peers,
        row.stores,
        row.regions,
        row.step_delay.as_millis()
    ));
    table.seconds("empty after", empty);
    table.seconds("Tombstone after", tombstone);
    table.add("peers moved a minute", f64::from(row.peers) / empty.as_secs_f64().max(1e-9) * 60.0, Unit::PerMinute);
    table.add("seconds without a new operator", pulse.silent(empty) as f64, Unit::Count);
    if let Some(cores) = cores {
        table.add("server CPU", cores, Unit::Cores);
    }
    table.add("commands refused by nodes", report.counters.rejected_total() as f64, Unit::Count);
    Ok(table)
}

async fn set_limits(target: &Target, row: &ScaleInOptions) -> Result<(), BenchError> {
    if row.store_limit > 0.0 {
        target.http.post("/pd/api/v1/stores/limit", &json!({ "rate": row.store_limit })).await?;
    }
    if let Some(limit) = row.replica_schedule_limit {
        target.http.post("/pd/api/v1/config", &json!({ "replica-schedule-limit": limit })).await?;
    }
    Ok(())
}

/// Asks for the store to be taken out; a server that has just started may need a moment until it counts the others as up.
pub(super) async fn delete(target: &Target, store: StoreId) -> Result<(), BenchError> {
    let start = Instant::now();
    loop {
        match target.http.delete(&format!("/pd/api/v1/store/{store}")).await {
            Ok(_) => return Ok(()),
            Err(HttpError::Status { status: StatusCode::BAD_REQUEST, .. }) if start.elapsed() < DELETE_RETRY => {
                sleep(STATE_POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn until_tombstone(target: &Target, store: StoreId, within: Duration) -> Result<(), BenchError> {
    let start = Instant::now();
    while start.elapsed() < within {
        let answer = target.http.get_json(&format!("/pd/api/v1/store/{store}")).await?;
        if answer.pointer("/store/state_name").and_then(|s| s.as_str()) == Some("Tombstone") {
            return Ok(());
        }
        sleep(STATE_POLL).await;
    }
    Err(BenchError::TimedOut { what: "the store to become Tombstone", seconds: within.as_secs() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_seconds_are_those_without_a_new_peer() {
        let mut pulse = Pulse::default();
        for (ms, added) in [(100, 1), (900, 4), (1_500, 4), (2_100, 5), (3_900, 5), (4_200, 5)] {
            pulse.note(Duration::from_millis(ms), added);
        }
        assert_eq!(pulse.seconds, [4, 0, 1, 0, 0]);
        assert_eq!(pulse.silent(Duration::from_millis(4_300)), 2);
        assert_eq!(pulse.silent(Duration::from_millis(900)), 0);
    }
}
