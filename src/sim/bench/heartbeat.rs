//! What a region heartbeat costs the server.
//!
//! Owns: the row `heartbeat`. First every region is reported once, as after a restart; then regions are reported at a steady rate,
//! some of them with another size, epoch or leader. The nodes here only talk: they carry nothing out, so that nothing but
//! heartbeats is measured.

use std::{collections::HashMap, time::Duration};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    BenchError, Table, Unit,
    rig::{Span, Target, pause},
    size_sum::connect,
};
use crate::{
    model::{Role, StoreId},
    proto::pdpb,
    sim::{FleetOptions, SimRegion, driver, parse_duration, region::keys_of, wire},
};

/// Heartbeats of one store that wait for the network.
const QUEUE: usize = 1_024;
/// The server counts as done when it has used less than this share of a core for one [`QUIET`].
const QUIET_CORES: f64 = 0.05;
/// See [`QUIET_CORES`].
const QUIET: Duration = Duration::from_secs(1);
/// Longest wait for the server to be done.
const MAX_DRAIN: Duration = Duration::from_secs(120);
/// How often heartbeats are sent in the steady part; each time as many as are due.
const PULSE: Duration = Duration::from_millis(5);

/// The flags of `heartbeat`.
#[derive(Clone, Debug, clap::Args)]
pub struct HeartbeatOptions {
    /// Number of stores.
    #[arg(long, default_value_t = 20)]
    pub stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 1_000_000)]
    pub regions: u32,
    /// Steady heartbeats, a second.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Length of the steady part.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub window: Duration,
    /// Steady heartbeats with another size, per cent.
    #[arg(long, default_value_t = 15.0)]
    pub size_changes: f64,
    /// Steady heartbeats with another epoch, per cent.
    #[arg(long, default_value_t = 4.0)]
    pub epoch_changes: f64,
    /// Steady heartbeats from another leader, per cent.
    #[arg(long, default_value_t = 6.0)]
    pub leader_changes: f64,
    /// Seed of the changes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The nodes' streams.
struct Streams {
    header: Option<pdpb::RequestHeader>,
    open: HashMap<StoreId, mpsc::Sender<pdpb::RegionHeartbeatRequest>>,
    tasks: JoinSet<()>,
}

impl Streams {
    async fn open(target: &Target, stores: &[StoreId], peers: u32) -> Result<Self, BenchError> {
        let mut streams = Self { header: None, open: HashMap::new(), tasks: JoinSet::new() };
        for store in stores {
            let (mut client, cluster) = connect(target).await?;
            let header = Some(pdpb::RequestHeader { cluster_id: cluster, ..Default::default() });
            streams.header.clone_from(&header);
            let (to, queue) = mpsc::channel(QUEUE);
            streams.open.insert(*store, to);
            let beat = pdpb::StoreStats {
                store_id: store.0,
                capacity: 1 << 40,
                available: 1 << 39,
                region_count: peers,
                ..Default::default()
            };
            let mut beats = client.clone();
            streams.tasks.spawn(async move {
                let mut ticks = interval(Duration::from_secs(10));
                loop {
                    ticks.tick().await;
                    let request = pdpb::StoreHeartbeatRequest {
                        header: header.clone(),
                        stats: Some(beat.clone()),
                        ..Default::default()
                    };
                    // A beat that is lost is made up for by the next one.
                    let _ = beats.store_heartbeat(request).await;
                }
            });
            streams.tasks.spawn(async move {
                let Ok(answer) = client.region_heartbeat(ReceiverStream::new(queue)).await else { return };
                let mut commands = answer.into_inner();
                while let Ok(Some(_)) = commands.message().await {}
            });
        }
        Ok(streams)
    }

    async fn send(&self, region: &SimRegion) -> Result<(), BenchError> {
        let lost = || BenchError::Call { call: "RegionHeartbeat", message: "the stream has ended".into() };
        let stream = region.leader_store().and_then(|s| self.open.get(&s)).ok_or_else(lost)?;
        let request = pdpb::RegionHeartbeatRequest { header: self.header.clone(), ..wire::heartbeat(region) };
        stream.send(request).await.map_err(|_| lost())
    }
}

pub(super) async fn run(
    target: &Target,
    row: &HeartbeatOptions,
    shutdown: CancellationToken,
) -> Result<Table, BenchError> {
    let options = FleetOptions {
        pd: vec![target.addr.clone()],
        stores: row.stores,
        regions: row.regions,
        ..FleetOptions::default()
    };
    let fleet = driver::found(&options).await?;
    let stores: Vec<StoreId> = fleet.view().stores.iter().map(|s| s.id).collect();
    let peers = fleet.view().stores.iter().map(|s| s.peers).max().unwrap_or(0);
    let mut regions: Vec<SimRegion> = fleet.regions().cloned().collect();
    drop(fleet);
    let streams = Streams::open(target, &stores, peers).await?;
    let mut table = Table::new(format!("heartbeat: {} regions on {} stores", row.regions, row.stores));

    let span = Span::begin(target)?;
    for region in &regions {
        tokio::select! {
            () = shutdown.cancelled() => return Err(BenchError::Stopped),
            sent = streams.send(region) => sent?,
        }
    }
    drain(target, &shutdown).await?;
    add_cost(&mut table, "first", &span, target, regions.len() as u64)?;
    check_count(target, row.regions).await?;

    let span = Span::begin(target)?;
    let sent = steady(&streams, row, &mut regions, &shutdown).await?;
    drain(target, &shutdown).await?;
    add_cost(&mut table, "steady", &span, target, sent)?;
    if let Some(usage) = target.usage()? {
        table.add("server memory", usage.resident as f64 / f64::from(1 << 20), Unit::MiB);
        table.add("server memory, peak", usage.peak as f64 / f64::from(1 << 20), Unit::MiB);
    }
    Ok(table)
}

/// Sends at the steady rate for the length of the window; returns how many were sent.
async fn steady(
    streams: &Streams,
    row: &HeartbeatOptions,
    regions: &mut [SimRegion],
    shutdown: &CancellationToken,
) -> Result<u64, BenchError> {
    let mut rng = ChaCha8Rng::seed_from_u64(row.seed);
    let mut ticks = interval(PULSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < row.window {
        tokio::select! {
            () = shutdown.cancelled() => return Err(BenchError::Stopped),
            _ = ticks.tick() => {}
        }
        let due = (start.elapsed().as_secs_f64() * f64::from(row.rate)) as u64;
        while sent < due && start.elapsed() < row.window {
            let at = rng.random_range(0..regions.len());
            change(&mut regions[at], row, &mut rng);
            streams.send(&regions[at]).await?;
            sent += 1;
        }
    }
    Ok(sent)
}

/// Changes a region as the row asks for.
fn change(region: &mut SimRegion, row: &HeartbeatOptions, rng: &mut ChaCha8Rng) {
    let mut chance = |percent: f64| rng.random_bool((percent / 100.0).clamp(0.0, 1.0));
    if chance(row.size_changes) {
        region.size += 1 << 20;
        region.keys = keys_of(region.size);
    }
    if chance(row.epoch_changes) {
        region.epoch.version += 1;
    }
    if chance(row.leader_changes) {
        let next = region.peers.iter().find(|p| p.role == Role::Voter && Some(p.id) != region.leader).map(|p| p.id);
        if let Some(next) = next {
            region.lead(next);
        }
    }
}

/// Waits until the server has worked off what it was sent.
async fn drain(target: &Target, shutdown: &CancellationToken) -> Result<(), BenchError> {
    let start = Instant::now();
    while start.elapsed() < MAX_DRAIN {
        let span = Span::begin(target)?;
        pause(QUIET, shutdown).await?;
        // Without a process id there is nothing to look at: one pause must do.
        if span.cores(target)?.is_none_or(|cores| cores < QUIET_CORES) {
            return Ok(());
        }
    }
    Ok(())
}

fn add_cost(table: &mut Table, name: &str, span: &Span, target: &Target, sent: u64) -> Result<(), BenchError> {
    table.add(format!("{name} heartbeats"), sent as f64, Unit::Count);
    table.seconds(format!("{name}, until worked off"), span.elapsed());
    if let Some(cpu) = span.cpu(target)? {
        let each = cpu.as_secs_f64() * 1e6 / (sent as f64).max(1.0);
        table.add(format!("{name}, server CPU each"), each, Unit::Micros);
    }
    Ok(())
}

/// The server must know every region by now.
async fn check_count(target: &Target, regions: u32) -> Result<(), BenchError> {
    let start = Instant::now();
    loop {
        let answer = target.http.get_json("/pd/api/v1/regions/count").await?;
        let count = answer.get("count").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if count >= u64::from(regions) {
            return Ok(());
        }
        if start.elapsed() > QUIET * 10 {
            return Err(BenchError::Wrong(format!("{count} of {regions} reported regions are known")));
        }
        sleep(QUIET).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Peer, PeerId};

    #[test]
    fn changes_come_at_the_rates_asked_for() {
        let row = HeartbeatOptions {
            stores: 3,
            regions: 1,
            rate: 1,
            window: Duration::ZERO,
            size_changes: 15.0,
            epoch_changes: 4.0,
            leader_changes: 6.0,
            seed: 1,
        };
        let mut region = SimRegion {
            peers: vec![Peer::voter(1, 1), Peer::voter(2, 2)],
            leader: Some(PeerId(1)),
            ..SimRegion::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        (0..100_000).for_each(|_| change(&mut region, &row, &mut rng));
        let near = |n: u64, wanted: u64| n.abs_diff(wanted) < wanted / 10;
        assert!(near(region.size >> 20, 15_000) && near(region.epoch.version, 4_000) && near(region.term, 6_000));
    }
}
