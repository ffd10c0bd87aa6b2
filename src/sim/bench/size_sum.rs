//! Look-ups while others ask for the size of the whole key space.
//!
//! Owns: the row `size-sum`.

use std::time::Duration;

use hyper::Method;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError, Histogram, Table, Unit,
    rig::{Rig, Target, pause},
};
use crate::{
    proto::pdpb,
    sim::{
        FleetOptions,
        driver::{Endpoints, PdClient},
        layout, parse_duration,
    },
};

/// The request for the sum over all keys.
const SUM: &str = "/pd/api/v1/stats/region?start_key=&end_key=";

/// The flags of `size-sum`.
#[derive(Clone, Debug, clap::Args)]
pub struct SizeSumOptions {
    /// Number of stores.
    #[arg(long, default_value_t = 6)]
    pub stores: u32,
    /// Number of regions (not a multiple of 1000: PD's sum would never end).
    #[arg(long, default_value_t = 300_007)]
    pub regions: u32,
    /// Clients that ask for the sum.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub clients: u32,
    /// How often each asks, a second, at most.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rate: u32,
    /// Length of each of the two measurements.
    #[arg(long, default_value = "15s", value_parser = parse_duration)]
    pub window: Duration,
    /// Rest between the load and the measurements.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub settle: Duration,
    /// Give up when the load takes longer.
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub give_up: Duration,
}

pub(super) async fn run(
    target: &Target,
    row: &SizeSumOptions,
    shutdown: CancellationToken,
) -> Result<Table, BenchError> {
    let options = FleetOptions { stores: row.stores, regions: row.regions, ..FleetOptions::default() };
    let mut rig = Rig::start(target, options, &shutdown);
    rig.loaded(row.give_up).await?;
    pause(row.settle, &shutdown).await?;

    let quiet = look_ups(target, row, &shutdown).await?;
    let stop = shutdown.child_token();
    let mut askers = JoinSet::new();
    for _ in 0..row.clients {
        askers.spawn(ask_sums(target.http.clone(), row.rate, row.regions, stop.clone()));
    }
    let busy = look_ups(target, row, &shutdown).await;
    stop.cancel();
    let mut sums = Histogram::default();
    while let Some(asked) = askers.join_next().await {
        sums.merge(&asked.map_err(|_| BenchError::Stopped)??);
    }
    let busy = busy?;
    rig.finish().await?;

    let mut table = Table::new(format!(
        "size-sum: GetRegion over {} regions, alone and beside {} clients that ask for the whole size",
        row.regions, row.clients
    ));
    table.latencies("GetRegion alone", &quiet);
    table.latencies("GetRegion beside sums", &busy);
    table.latencies("sum", &sums);
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    table.add("look-ups beside sums / alone", ratio(busy.count() as f64, quiet.count() as f64), Unit::Count);
    let p99 = |h: &Histogram| h.quantile(0.99).as_secs_f64();
    table.add("p99 beside sums / alone", ratio(p99(&busy), p99(&quiet)), Unit::Count);
    Ok(table)
}

/// Looks up random keys, one after the other, for the length of the window.
async fn look_ups(
    target: &Target,
    row: &SizeSumOptions,
    shutdown: &CancellationToken,
) -> Result<Histogram, BenchError> {
    let (mut client, cluster) = connect(target).await?;
    let header = Some(pdpb::RequestHeader { cluster_id: cluster, ..Default::default() });
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut latencies = Histogram::default();
    let start = Instant::now();
    while start.elapsed() < row.window && !shutdown.is_cancelled() {
        let key = layout::row_key(1, i64::from(rng.random_range(0..row.regions)));
        let request = pdpb::GetRegionRequest { header: header.clone(), region_key: key.into(), need_buckets: false };
        let asked = Instant::now();
        let answer = client.get_region(request).await;
        latencies.record(asked.elapsed());
        let found = answer.map_err(|s| BenchError::Call { call: "GetRegion", message: s.to_string() })?;
        if found.into_inner().region.is_none() {
            return Err(BenchError::Wrong("GetRegion does not know a region that was reported".into()));
        }
    }
    Ok(latencies)
}

pub(super) async fn connect(target: &Target) -> Result<(PdClient, u64), BenchError> {
    let found = Endpoints::new(std::slice::from_ref(&target.addr)).leader().await;
    found.ok_or_else(|| BenchError::Call { call: "GetMembers", message: format!("no leader at {}", target.addr) })
}

/// Asks for the sum at a fixed rate; a slow answer delays the next request.
async fn ask_sums(
    http: crate::sim::http::HttpClient,
    rate: u32,
    regions: u32,
    stop: CancellationToken,
) -> Result<Histogram, BenchError> {
    let mut latencies = Histogram::default();
    let mut connection = http.connect().await?;
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(latencies),
            _ = ticks.tick() => {}
        }
        let asked = Instant::now();
        let answer = connection.request(Method::GET, SUM, None).await?;
        latencies.record(asked.elapsed());
        let count = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let count = count.and_then(|v| v.get("count").and_then(serde_json::Value::as_u64));
        // Splits at keyspace borders may add a few.
        if !answer.status.is_success() || count.is_none_or(|c| c < u64::from(regions)) {
            return Err(BenchError::Wrong(format!("{SUM}: {}: {}", answer.status, answer.text())));
        }
    }
}
