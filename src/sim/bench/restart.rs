//! A server that is ended and started again: when it answers, and when it knows the regions that its files kept.
//!
//! Owns: the row `restart`. Needs a group of one and `--pid`: that process is ended and started again by what /proc says of it, in its
//! own folder and environment; the new one ends with the measurement.

use std::{
    collections::HashSet,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError, Process, Table, Unit,
    lookup::Lookup,
    rig::{Rig, Target, pause},
};
use crate::sim::{FleetOptions, parse_duration};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// The flags of `restart`.
#[derive(Clone, Debug, clap::Args)]
pub struct RestartOptions {
    /// Number of stores.
    #[arg(long, default_value_t = 10)]
    pub stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub regions: u32,
    /// How many regions are looked up, spread over all of them.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,
    /// How long the server gets to write its cache before it ends.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub settle: Duration,
    /// End it with SIGKILL instead of SIGTERM.
    #[arg(long)]
    pub kill: bool,
    /// Give up after this time.
    #[arg(long, default_value = "15m", value_parser = parse_duration)]
    pub give_up: Duration,
}

/// The server that was started again; it ends with this.
struct Again(Child);

impl Again {
    fn start(mut command: Command) -> Result<Self, BenchError> {
        // What this program prints is its own.
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        spawned.map(Self).map_err(|e| BenchError::Wrong(format!("{command:?} does not start: {e}")))
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) async fn run(
    target: &Target,
    row: &RestartOptions,
    shutdown: CancellationToken,
) -> Result<Table, BenchError> {
    let process = target.process()?;
    let command = process.command()?;
    let options = FleetOptions { stores: row.stores, regions: row.regions, ..FleetOptions::default() };
    let mut rig = Rig::start(target, options, &shutdown);
    rig.loaded(row.give_up).await?;
    let wait = Wait { within: row.give_up, shutdown: shutdown.clone() };
    // All were sent; some may still be under way.
    let all_known = async || (known(target).await.ok()? >= u64::from(row.regions)).then_some(());
    wait.until("the server to know all regions", all_known).await?;
    // From here on no node reports: what is known afterwards comes from the files.
    rig.finish().await?;
    pause(row.settle, &shutdown).await?;

    let end = Instant::now();
    process.signal(if row.kill { Signal::KILL } else { Signal::TERM })?;
    wait.until("the server to end", async || process.is_gone().then_some(())).await?;
    let ended = end.elapsed();

    let start = Instant::now();
    let again = Again::start(command)?;
    let mut lookup = wait.until("the server to answer", async || Lookup::connect(&target.addr).await).await?;
    let answers = start.elapsed();
    let mut found_ids = HashSet::new();
    for at in sample(row.regions, row.sample) {
        let found = wait.until("a region of the sample", async || lookup.behind(at).await).await?;
        found_ids.extend(found.region.map(|r| r.id));
    }
    let answered = start.elapsed();
    let usage = Process::new(again.0.id()).usage()?;
    let count = known(target).await?;
    let looked_up = sample(row.regions, row.sample).count();
    if found_ids.len() < looked_up || count < u64::from(row.regions) {
        let text =
            format!("{} of {looked_up} look-ups found a region of their own, {count} are known", found_ids.len());
        return Err(BenchError::Wrong(text));
    }

    let how = if row.kill { "killed" } else { "stopped" };
    let mut table = Table::new(format!("restart at {} regions on {} stores: {how}", row.regions, row.stores));
    table.seconds("ended after", ended);
    table.seconds("answers, from its start", answers);
    table.seconds("GetRegion for the whole sample, from its start", answered);
    table.add("regions looked up", looked_up as f64, Unit::Count);
    table.add("regions known", count as f64, Unit::Count);
    table.seconds("server CPU until then", usage.cpu);
    table.add("server memory", usage.resident as f64 / f64::from(1 << 20), Unit::MiB);
    Ok(table)
}

/// How many regions the server knows.
async fn known(target: &Target) -> Result<u64, BenchError> {
    let answer = target.http.get_json("/pd/api/v1/regions/count").await?;
    Ok(answer.get("count").and_then(serde_json::Value::as_u64).unwrap_or(0))
}

/// Rows whose regions are looked up: each a region of its own.
fn sample(regions: u32, wanted: u32) -> impl Iterator<Item = u32> {
    // The first region lies before the first row.
    let rows = u64::from(regions.saturating_sub(1));
    let count = rows.min(u64::from(wanted));
    (0..count).map(move |n| u32::try_from(n * rows / count).unwrap_or(u32::MAX))
}

struct Wait {
    within: Duration,
    shutdown: CancellationToken,
}

impl Wait {
    /// Looks until there is something.
    async fn until<T>(&self, what: &'static str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, BenchError> {
        let start = Instant::now();
        while start.elapsed() < self.within {
            if let Some(found) = look().await {
                return Ok(found);
            }
            if self.shutdown.is_cancelled() {
                return Err(BenchError::Stopped);
            }
            sleep(LOOK).await;
        }
        Err(BenchError::TimedOut { what, seconds: self.within.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_spread_and_names_no_region_twice() {
        let rows = |regions, wanted| sample(regions, wanted).collect::<Vec<_>>();
        assert_eq!(rows(101, 4), [0, 25, 50, 75]);
        assert_eq!(rows(4, 1000), [0, 1, 2]);
        assert_eq!(rows(u32::MAX, 2), [0, 2_147_483_647]);
    }
}
