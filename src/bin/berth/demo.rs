//! `berth demo`: a server on a free port, a fleet of simulated nodes that talk to it over gRPC, and one store that is taken out
//! through the REST interface, as a person would. `look` tells how far it is, `hold` is the rule that holds some of its regions.

mod hold;
mod look;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use berth::{
    config::{Flags, Host, load},
    model::StoreId,
    server::{Server, clock::SystemClock},
    sim::{
        FleetOptions, FleetReport,
        demo::{self, DrainState, Ended, Place, Summary, View},
        http::HttpClient,
    },
    telemetry::log::{Level, Logger, Sink, Style},
};
use clap::Args;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::look::Look;

/// Lines of the server's log that wait to be looked at; more are dropped, the file has them all.
const LINES: usize = 8192;
/// How long the fleet may take to report all of its regions.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an explanation stands before something is done about it, for whoever reads along.
const READ: Duration = Duration::from_secs(2);

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
    let drained = result?;
    if drained.ended == Ended::Interrupted {
        // Whatever the fleet says of its end: it may have been interrupted before it was set up.
        demo::print("\nInterrupted; server and fleet have ended in order.\n")?;
        return Ok(ExitCode::from(130));
    }
    finish(&drained, &report?)
}

/// What a watched drain came to.
struct Drained {
    ended: Ended,
    victim: StoreId,
    moved: u64,
    held: u64,
    empty_after: Duration,
    tombstone_after: Duration,
    operators: u64,
    whole: u64,
    regions: u64,
}

fn finish(drained: &Drained, report: &FleetReport) -> anyhow::Result<ExitCode> {
    let summary = Summary {
        store: drained.victim.0,
        moved: drained.moved,
        held: drained.held,
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
        peer_urls: "http://127.0.0.1:0".into(),
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
            Place::new("drains", format!("{url}/berth/v1/drains?format=text")),
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
    drain(server, &http, victim, lines, shutdown).await
}

fn interrupted() -> Drained {
    Drained {
        ended: Ended::Interrupted,
        victim: StoreId(0),
        moved: 0,
        held: 0,
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

/// Takes the store out while a rule holds some of its regions; when all that is left waits for the rule, asks why and does what
/// the answer names.
async fn drain(
    server: &Server,
    http: &HttpClient,
    victim: StoreId,
    lines: mpsc::Receiver<String>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Drained> {
    let mut view = View::new(lines);
    if let Some(range) = hold::range(server.app.cluster.regions(), victim) {
        let rule = hold::set(http, &range).await?;
        view.line(&format!("region label rule {rule:?}: schedule=deny, as an import would set it"))?;
    }
    http.delete(&format!("/pd/api/v1/store/{victim}")).await?;
    let mut look = Look::new(server, http.clone(), victim);
    let mut ended = view.until(&mut look, shutdown, |state| state.is_held() || state.done()).await?;
    let held = if view.state().is_held() { view.state().left } else { 0 };
    if ended == Ended::Reached && held > 0 {
        let call = explain(http, &view, victim).await?;
        tokio::select! { () = shutdown.cancelled() => {}, () = tokio::time::sleep(READ) => {} }
        if !shutdown.is_cancelled() {
            view.line(&format!("as it says: DELETE {call}"))?;
            http.delete(&call).await?;
        }
        ended = view.until(&mut look, shutdown, DrainState::done).await?;
    }
    let (state, regions) = (view.finish(), server.app.cluster.regions());
    let (_, history) = server.app.cluster.drain_history(victim, 0);
    Ok(Drained {
        ended,
        victim,
        moved: state.total - state.left,
        held,
        empty_after: look.empty_after.unwrap_or_default(),
        tombstone_after: look.elapsed(),
        operators: history.kept as u64 + history.older.iter().map(|(.., count)| count).sum::<u64>(),
        whole: look::whole_regions(regions),
        regions: regions.len() as u64,
    })
}

/// Shows why the rest waits; returns the path of the DELETE that would let it go.
async fn explain(http: &HttpClient, view: &View, victim: StoreId) -> anyhow::Result<String> {
    let path = format!("/berth/v1/drains/{victim}?format=text");
    let text = http.get(&path).await?;
    view.line(&format!("the rest waits. GET {path} says:"))?;
    view.block(&text)?;
    Ok(hold::remedy(&text)?.to_owned())
}
