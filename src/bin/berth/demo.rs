//! `berth demo`: a server on a free port, a fleet of simulated nodes that talk to it over gRPC, and one store that is taken out
//! through the REST interface, as a person would.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use berth::{
    config::{Flags, Host, load},
    model::{RegionId, StoreId},
    server::{Server, clock::SystemClock},
    sim::{
        FleetOptions, FleetReport,
        demo::{self, DrainState, Ended, Place, Summary},
        http::HttpClient,
    },
    store::RegionIndex,
    telemetry::log::{Level, Logger, Sink, Style},
};
use clap::Args;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Lines of the server's log that wait to be looked at; more are dropped, the file has them all.
const LINES: usize = 8192;
/// How long the fleet may take to report all of its regions.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The flags of `berth demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoOptions {
    /// Number of storage nodes.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(4..=100))]
    stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    regions: u32,
    /// Store limits for the demo, peers a minute (PD's default is 15: a drain of hours).
    #[arg(long, default_value_t = 3_000.0)]
    limit: f64,
    /// Where the server keeps its state; default: a temporary folder that is removed at the end.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Keep the server and the fleet running afterwards, until Ctrl-C.
    #[arg(long)]
    stay: bool,
}

/// A folder that is removed when the demo ends.
struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let keep = given.is_some();
        let path = given.unwrap_or_else(|| std::env::temp_dir().join(format!("berth-demo-{}", std::process::id())));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs the demo; exit code 0 when the store is Tombstone and the fleet found nothing wrong.
pub(crate) async fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
    let shutdown = crate::interrupt()?;
    let scratch = Scratch::new(options.data_dir.clone())?;
    let (log, lines) = open_log(&scratch)?;
    let server = start_server(&scratch, log).await?;
    if server.app.is_bootstrapped() {
        server.stop().await;
        bail!("{} holds a cluster already; the demo wants an empty folder", scratch.path.display());
    }
    let url = format!("http://{}", server.addr());
    let fleet_end = CancellationToken::new();
    let fleet = tokio::spawn(berth::sim::run(fleet_options(&options, &url), fleet_end.clone(), ()));
    let result = show(&options, &server, &url, &scratch, lines, &shutdown).await;
    if options.stay && !shutdown.is_cancelled() && result.is_ok() {
        demo::print("\nThe server and the fleet keep running; Ctrl-C ends them.\n")?;
        shutdown.cancelled().await;
    }
    fleet_end.cancel();
    let report = fleet.await?;
    server.stop().await;
    finish(&result?, &report?)
}

/// What a watched drain came to.
struct Drained {
    ended: Ended,
    victim: StoreId,
    moved: u64,
    empty_after: Duration,
    tombstone_after: Duration,
    operators: u64,
    whole: u64,
    regions: u64,
}

fn finish(drained: &Drained, report: &FleetReport) -> anyhow::Result<ExitCode> {
    if drained.ended == Ended::Interrupted {
        demo::print("\nInterrupted; server and fleet have ended in order.\n")?;
        return Ok(ExitCode::from(130));
    }
    let summary = Summary {
        store: drained.victim.0,
        moved: drained.moved,
        empty_after: drained.empty_after,
        tombstone_after: drained.tombstone_after,
        operators: drained.operators,
        regions: drained.regions,
        whole: drained.whole,
        violations: report.counters.violations,
    };
    demo::print(&demo::summary(&summary))?;
    Ok(if summary.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every line goes to a file and, when there is room, to the demo's view.
fn open_log(scratch: &Scratch) -> anyhow::Result<(Logger, mpsc::Receiver<String>)> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(scratch.path.join("berth.log")).context("cannot make the log file")?;
    let (sender, lines) = mpsc::channel(LINES);
    let sink = Sink::Call(Box::new(move |line| {
        let _ = file.write_all(line.as_bytes());
        let _ = sender.try_send(line.to_owned());
    }));
    let clock = SystemClock::new();
    let now = move || berth::model::Clock::now(&clock).wall;
    Ok((Logger::new(sink, Level::Info, Style::default(), 0, now), lines))
}

async fn start_server(scratch: &Scratch, log: Logger) -> anyhow::Result<Server> {
    let flags = Flags {
        name: "demo".into(),
        data_dir: scratch.path.join("data").display().to_string(),
        client_urls: "http://127.0.0.1:0".into(),
        log_file: scratch.path.join("berth.log").display().to_string(),
        ..Flags::default()
    };
    let host = Host { name: "demo".into(), directory: std::env::current_dir()? };
    let loaded = load(&flags, None, &host)?;
    Ok(Server::start(loaded.config, log).await?)
}

fn fleet_options(options: &DemoOptions, url: &str) -> FleetOptions {
    FleetOptions {
        pd: vec![url.to_owned()],
        stores: options.stores,
        regions: options.regions,
        store_heartbeat: Duration::from_secs(1),
        step_delay: Duration::from_millis(50),
        ..FleetOptions::default()
    }
}

async fn show(
    options: &DemoOptions,
    server: &Server,
    url: &str,
    scratch: &Scratch,
    lines: mpsc::Receiver<String>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Drained> {
    let api = format!("{url}/pd/api/v1");
    demo::print(&demo::heading(
        &format!("berth demo: {} stores, {} regions, 3 replicas each", options.stores, options.regions),
        &[
            Place::new("stores", format!("{api}/stores")),
            Place::new("operators", format!("{api}/operators")),
            Place::new("metrics", format!("{url}/metrics")),
            Place::new("log", scratch.path.join("berth.log").display().to_string()),
        ],
    ))?;
    let http = HttpClient::new(url)?;
    let regions = u64::from(options.regions);
    if !wait_loaded(server, regions, shutdown).await? {
        return Ok(interrupted());
    }
    // The highest store, so that the first one stays the one that bootstrapped the cluster.
    let victim = server.app.cluster.stores().snapshot().keys().max().copied().context("no store has registered")?;
    http.post("/pd/api/v1/stores/limit", &json!({ "rate": options.limit })).await?;
    http.delete(&format!("/pd/api/v1/store/{victim}")).await?;
    watch(server, victim, lines, shutdown).await
}

fn interrupted() -> Drained {
    Drained {
        ended: Ended::Interrupted,
        victim: StoreId(0),
        moved: 0,
        empty_after: Duration::ZERO,
        tombstone_after: Duration::ZERO,
        operators: 0,
        whole: 0,
        regions: 0,
    }
}

/// Waits until every region was heard and scheduling may begin; false when interrupted.
async fn wait_loaded(server: &Server, regions: u64, shutdown: &CancellationToken) -> anyhow::Result<bool> {
    let end = Instant::now() + LOAD_TIMEOUT;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            _ = ticks.tick() => {}
        }
        if server.app.cluster.regions().heard_count() >= regions && server.app.cluster.is_prepared() {
            return Ok(true);
        }
        if Instant::now() > end {
            bail!("the fleet did not report its regions within {LOAD_TIMEOUT:?}");
        }
    }
}

async fn watch(
    server: &Server,
    victim: StoreId,
    lines: mpsc::Receiver<String>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Drained> {
    let cluster = server.app.cluster.clone();
    let total = cluster.regions().summary(victim).region_count;
    let start = Instant::now();
    let mut empty_after = None;
    let seen = Arc::new(parking_lot::Mutex::new((Duration::ZERO, 0_u64)));
    let told = seen.clone();
    let mut rate = Rate::new(start, total);
    let (ended, state) = demo::watch(
        move || {
            let left = cluster.regions().summary(victim).region_count;
            let operators = cluster.operators().len() as u64;
            let state = cluster.stores().get(victim).map_or("gone", |s| s.record.state.name());
            if left == 0 && empty_after.is_none() {
                empty_after = Some(start.elapsed());
                told.lock().0 = start.elapsed();
            }
            let rate = rate.at(Instant::now(), left);
            let state = DrainState {
                store: victim.0,
                state: state.to_owned(),
                total,
                left,
                operators,
                rate,
                eta: (rate > 0.0).then(|| Duration::from_secs_f64(left as f64 / rate)),
                waits_for: String::new(),
            };
            async move { Some(state) }
        },
        lines,
        shutdown,
    )
    .await?;
    let (empty_after, _) = *seen.lock();
    let records = server.app.cluster.operator_records(0);
    let regions = server.app.cluster.regions();
    Ok(Drained {
        ended,
        victim,
        moved: total - state.left,
        empty_after,
        tombstone_after: start.elapsed(),
        operators: records.iter().filter(|op| op.desc.starts_with("replace-rule-offline")).count() as u64,
        whole: whole_regions(regions),
        regions: regions.len() as u64,
    })
}

/// Regions with exactly three voters and nothing else.
fn whole_regions(regions: &RegionIndex) -> u64 {
    let all = regions.scan(&berth::model::KeyRange::all(), usize::MAX);
    let whole = |id: RegionId| {
        regions
            .get(id)
            .is_some_and(|r| r.peers().len() == 3 && r.meta.voters().count() == 3 && !r.meta.in_joint_state())
    };
    all.iter().filter(|r| whole(r.id())).count() as u64
}

/// Regions a second, smoothed over the last moments.
struct Rate {
    at: Instant,
    left: u64,
    value: f64,
}

impl Rate {
    /// Time over which an old value loses most of its weight, seconds.
    const MEMORY: f64 = 2.0;

    fn new(at: Instant, left: u64) -> Self {
        Self { at, left, value: 0.0 }
    }

    fn at(&mut self, now: Instant, left: u64) -> f64 {
        let passed = now.duration_since(self.at).as_secs_f64();
        if passed > 0.05 {
            let moved = self.left.saturating_sub(left) as f64 / passed;
            let weight = 1.0 - (-passed / Self::MEMORY).exp();
            self.value += (moved - self.value) * if self.value == 0.0 { 1.0 } else { weight };
            (self.at, self.left) = (now, left);
        }
        self.value
    }
}
