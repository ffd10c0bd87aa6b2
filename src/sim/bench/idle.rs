//! Healthy regions, nothing to do: what it costs.
//!
//! Owns: the row `idle`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    BenchError, Table, Unit,
    rig::{Rig, Span, Target, pause},
};
use crate::sim::{FleetOptions, parse_duration};

/// PD's gauge of the last patrol round, seconds.
const PATROL: &str = "pd_checker_patrol_regions_time";

/// The flags of `idle`.
#[derive(Clone, Debug, clap::Args)]
pub struct IdleOptions {
    /// Number of stores.
    #[arg(long, default_value_t = 6)]
    pub stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 200_000)]
    pub regions: u32,
    /// Time between two heartbeats of a region.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub region_heartbeat: Duration,
    /// Rest between the load and the measurement.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub settle: Duration,
    /// Length of the measurement.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub window: Duration,
    /// Give up when the load takes longer.
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub give_up: Duration,
}

pub(super) async fn run(target: &Target, row: &IdleOptions, shutdown: CancellationToken) -> Result<Table, BenchError> {
    let options = FleetOptions {
        stores: row.stores,
        regions: row.regions,
        region_heartbeat: row.region_heartbeat.max(Duration::from_millis(1)),
        ..FleetOptions::default()
    };
    let mut rig = Rig::start(target, options, &shutdown);
    rig.loaded(row.give_up).await?;
    pause(row.settle, &shutdown).await?;
    let before = rig.view().counters;
    let span = Span::begin(target)?;
    pause(row.window, &shutdown).await?;
    let (cores, usage) = (span.cores(target)?, target.usage()?);
    let after = rig.view().counters;
    let patrol = metric(&target.http.get("/metrics").await?, PATROL);
    rig.finish().await?;

    let seconds = span.elapsed().as_secs_f64();
    let mut table = Table::new(format!("idle: {} healthy regions on {} stores", row.regions, row.stores));
    let rate = (after.region_heartbeats - before.region_heartbeats) as f64 / seconds;
    table.add("region heartbeats", rate, Unit::PerSecond);
    table.add("commands sent", (after.executed_total() - before.executed_total()) as f64, Unit::Count);
    if let Some(cores) = cores {
        table.add("server CPU", cores, Unit::Cores);
    }
    if let Some(usage) = usage {
        table.add("server memory", usage.resident as f64 / f64::from(1 << 20), Unit::MiB);
    }
    if let Some(seconds) = patrol {
        table.add("patrol round", seconds, Unit::Seconds);
    }
    Ok(table)
}

/// The value of a metric without labels in a text exposition.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE a gauge\npd_checker_patrol_regions_time_x 1\npd_checker_patrol_regions_time 10.25\n";
        assert_eq!(metric(text, PATROL), Some(10.25));
        assert_eq!(metric("", PATROL), None);
    }
}
