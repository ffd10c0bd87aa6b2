//! The shell: builds, runs and drains everything. The only place that spawns tasks or reads real clocks.
//!
//! Owns: sockets ([`listener`]), heartbeat streams ([`streams`]), tasks ([`tasks`]), the way from agreed changes to the observed
//! side ([`observer`]) and from effects to streams, log and metrics ([`effects`]). Must not know: what requests mean, how anything
//! is decided. Start at [`Server::start`].

pub mod clock;
mod counts;
mod drains;
mod effects;
mod gated_disk;
mod health;
pub mod listener;
pub mod logging;
mod members;
mod observer;
mod pace;
mod ports;
mod priority;
pub mod record;
mod records;
pub(crate) mod settings;
pub mod streams;
mod tasks;
mod watchdog;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, response::IntoResponse as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::{Health, HealthServer};

use self::{
    clock::SystemClock,
    effects::Effects,
    members::{
        Dialer,
        founding::{self, Beginning},
        lead,
    },
    observer::Observer,
    record::{RecordedIds, Recorder},
    settings::Kept,
    streams::Streams,
    tasks::Tasks,
};
use crate::{
    api::{App, ServerInfo, app::MinResolved, grpc, rest},
    config::{Config, Dynamic, Shared},
    meta::{self, CacheSizes, HostHandle, MemberInfo, Meta, MetaError, OpenError, RaftTimings},
    model::{Clock, PeerId},
    pdlog, pdsay,
    scheduler::{cluster::Cluster, view::IdSource},
    store::cache::{CacheError, Origin, RegionCache},
    telemetry::{
        log::{Logger, RaftDrain},
        metrics::{Metrics, MetricsError, process},
    },
    tls::TlsError,
};

/// How long a start waits for this member to lead. A group of one leads as soon as its files are read.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long calls that run may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a leader that ends tries to keep what it knows.
const LAST_TURN: Duration = Duration::from_millis(500);
/// How long an orderly end waits for tasks and for the disk beyond that. A disk that hangs must not keep the process.
const END: Duration = Duration::from_secs(3);

/// Why a server ends whose member is not one any more ([`Server::failure`]).
pub const REMOVED: &str = "this member was removed from the cluster";

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A client URL that cannot be listened on.
    #[error("{url}: {why}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address is taken, or not one of this machine.
    #[error("listen on {addr}: {why}")]
    Listen {
        /// Where.
        addr: String,
        /// What the system said.
        why: std::io::Error,
    },
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data folder cannot be made.
    #[error("data directory {dir}: {why}")]
    DataDir {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The agreed state cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The region cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// This member cannot begin as it was told to.
    #[error("{0}")]
    Founding(String),
    /// This member did not come to lead.
    #[error("{0}")]
    NotLeading(String),
    /// The recording cannot be written.
    #[error("recording {path}: {why}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The first configuration was not agreed on.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The agreed configuration cannot be read.
    #[error("the agreed configuration cannot be read: {0}")]
    Config(#[from] serde_json::Error),
    /// Metrics that clash.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A running server. Dropping it without [`Server::stop`] leaves its tasks running.
pub struct Server {
    /// What its handlers share.
    pub app: Arc<App>,
    addr: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    host: HostHandle,
    background: Tasks,
    /// `[berth] stop-delay`.
    stop_delay: Duration,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Ids for new peers come from the windows that `meta` agrees on.
#[derive(Debug)]
struct MetaIds(Meta);

impl IdSource for MetaIds {
    fn next_peer_id(&self) -> Option<PeerId> {
        self.0.try_alloc_id().map(PeerId)
    }
}

impl Server {
    /// Starts a server with the system's clocks, which must run inside a tokio runtime; returns once it serves.
    pub async fn start(config: Config, log: Logger) -> Result<Server, StartError> {
        Self::start_with(config, log, Arc::new(SystemClock::new())).await
    }

    /// The same with another clock.
    pub async fn start_with(config: Config, log: Logger, clock: Arc<dyn Clock>) -> Result<Server, StartError> {
        Self::start_recorded(config, log, clock, None).await
    }

    /// The same; what the deciding code is told and what it starts is written into `recording` (see [`record`]).
    pub async fn start_recorded(
        config: Config,
        log: Logger,
        clock: Arc<dyn Clock>,
        recording: Option<PathBuf>,
    ) -> Result<Server, StartError> {
        let recorder = match recording {
            None => None,
            Some(path) => Some(Arc::new(Recorder::create(&path).map_err(|why| StartError::Record { path, why })?)),
        };
        let mut server = Self::start_quiet(config, log, clock, recorder).await?;
        server.background.clone().spawn(&mut server.tasks, &server.shutdown);
        Ok(server)
    }

    /// The same without timers: between requests nothing happens but what [`Server::tick`] does. For a replay on virtual time, in
    /// which timers of the real clock would act at moments that no run repeats.
    pub async fn start_untimed(config: Config, log: Logger, clock: Arc<dyn Clock>) -> Result<Server, StartError> {
        Self::start_quiet(config, log, clock, None).await
    }

    async fn start_quiet(
        mut config: Config,
        log: Logger,
        clock: Arc<dyn Clock>,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<Server, StartError> {
        let ports = ports::open(&mut config, &log).await?;
        let dir = PathBuf::from(&config.data_dir);
        std::fs::create_dir_all(&dir).map_err(|why| StartError::DataDir { dir: dir.clone(), why })?;
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let not_yet = shutdown.child_token();
        // A start that waits for nobody is quicker than any answer.
        if founding::waits(&config) && !dir.join(meta::LOG_FILE).exists() {
            for port in ports.doubles().map_err(|why| StartError::Listen { addr: config.client_urls.clone(), why })? {
                tasks.spawn(listener::serve(port, not_started(), not_yet.clone(), Duration::ZERO));
            }
        }
        // The members that begin together ask each other before any of them has state.
        let desk = members::Desk::open(&config, &log, shutdown.clone());
        for port in ports.peers {
            tasks.spawn(listener::serve(port, desk.router(), shutdown.clone(), DRAIN));
        }

        let (meta, host) = open_meta(&config, &dir, &clock, &desk, &log).await?;
        let cache = open_cache(&dir, &meta, &log)?;
        let stop_delay = config.berth.stop_delay.get();
        let Built { app, streams, observer } = build(config, &meta, &clock, &log, &cache, &shutdown, recorder.clone())?;
        let begun = meta.leader_since();
        if begun.is_some() {
            lead::begin(&app).await?;
        }
        load_regions(&app, &cache);

        not_yet.cancel();
        let (reporter, health) = tonic_health::server::health_reporter();
        let router = routes(&app, health);
        let addr = ports.first;
        for port in ports.clients {
            tasks.spawn(listener::serve(port, router.clone(), shutdown.clone(), DRAIN));
        }
        if begun.is_some() {
            lead::ready(&app, begun, app.info.started);
        }
        tasks.spawn(lead::follow(
            app.clone(),
            streams.clone(),
            observer.leader_changed.clone(),
            begun,
            shutdown.clone(),
        ));
        tasks.spawn(desk.stay_warm(app.clone()));
        tasks.spawn(health::tell(app.clone(), reporter, shutdown.clone()));
        let background = Tasks { app: app.clone(), streams, observer, cache, tls: ports.tls, keeper: Arc::default() };
        Ok(Server { app, addr, shutdown, tasks, host, background, stop_delay })
    }

    /// What the timers do most often, once: a tick of the deciding code without its schedulers, then what stores may become.
    pub async fn tick(&self) {
        self.background.clone().tick().await;
    }

    /// Where it listens (the first client URL; a port of 0 was replaced by the one that the system gave).
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Why it cannot go on, once its disk has failed or it is no member any more.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.app.meta.failure()
    }

    /// Waits until it cannot go on.
    pub async fn failed(&self) -> Arc<str> {
        loop {
            if let Some(what) = self.failure() {
                return what;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The last turn of a leader that hands over: the next one goes on from there. A disk that hangs does not hold it up.
    async fn keep_records(&self) {
        if self.app.meta.is_leader() && self.app.meta.group().voters.len() > 1 {
            let turn = self.background.keeper.clone().turn(self.app.clone());
            if tokio::time::timeout(LAST_TURN, turn).await.is_err() {
                pdlog!(self.app.log, Warn, "ended operators and progress of the last second are not kept");
            }
        }
    }

    /// Ends it in order: it is not ready any more, what a leader has kept in its memory is agreed on, leadership goes to another
    /// member, load balancers get time to see that, no new calls, running ones end, what is cached is written, the log is closed.
    pub async fn stop(mut self) {
        let log = self.app.log.clone();
        pdsay!(log, CLOSING_SERVER);
        self.app.leaving.cancel();
        self.keep_records().await;
        lead::hand_over(&self.app).await;
        if self.app.meta.group().voters.len() > 1 {
            tokio::time::sleep(self.stop_delay).await;
        }
        self.background.streams.close_all(&tonic::Status::unavailable("server is closing"));
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN + END, all).await.is_err() {
            self.tasks.abort_all();
        }
        pdsay!(log, HEARTBEAT_STREAMS_CLOSED);
        pdsay!(log, COORDINATOR_IS_STOPPING);
        pdsay!(log, COORDINATOR_HAS_BEEN_STOPPED);
        if let Some(recorder) = &self.background.observer.recorder {
            recorder.flush();
        }
        match tokio::time::timeout(END, close_files(self.background.cache, self.host)).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => {
                pdlog!(log, Error, "the region cache was not written", "error" => error.to_string());
            }
            Ok(Err(_)) | Err(_) => {
                pdlog!(log, Error, "the disk does not answer, the server ends without it");
            }
        }
        pdsay!(log, CLOSE_SERVER);
    }
}

/// Writes what is cached and ends the host, on a thread of its own: one that hangs must not keep the runtime from ending.
fn close_files(cache: Arc<RegionCache>, host: HostHandle) -> tokio::sync::oneshot::Receiver<Result<usize, CacheError>> {
    let (done, closed) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let written = cache.flush();
        host.stop();
        // Who waited may have given up.
        drop(done.send(written));
    });
    closed
}

/// What a start has put together.
struct Built {
    app: Arc<App>,
    streams: Arc<Streams>,
    observer: Arc<Observer>,
}

fn build(
    config: Config,
    meta: &Meta,
    clock: &Arc<dyn Clock>,
    log: &Logger,
    cache: &Arc<RegionCache>,
    shutdown: &CancellationToken,
    recorder: Option<Arc<Recorder>>,
) -> Result<Built, StartError> {
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(Metrics::new(&registry)?);
    let (state, now) = (meta.state(), clock.now());
    process::register(&registry, now.wall)?;
    let dynamic = match &state.config {
        Some(json) => Dynamic::from_json(json)?,
        None => Dynamic::from_config(&config),
    };
    let berth = Arc::new(config.berth.clone());
    let kept = Kept::load(&state, log);
    let settings = kept.settings(&state, &dynamic, &berth, now.wall);
    let mut ids: Arc<dyn IdSource> = Arc::new(MetaIds(meta.clone()));
    if let Some(recorder) = &recorder {
        recorder.start(&state, &dynamic, &berth, now);
        ids = Arc::new(RecordedIds { ids, recorder: recorder.clone() });
    }
    let dynamic = Arc::new(Shared::new(dynamic));
    let cluster = Arc::new(Cluster::new(settings, ids, now));
    if let Some(recorder) = &recorder {
        cluster.listen(recorder.clone());
    }
    let streams = Arc::new(Streams::new(meta.cluster_id(), cluster.clone(), metrics.clone(), log.clone()));
    let effects =
        Effects { streams: streams.clone(), log: log.clone(), metrics: metrics.clone(), cache: cache.clone() };
    let observer = Arc::new(Observer {
        meta: meta.clone(),
        cluster: cluster.clone(),
        dynamic: dynamic.clone(),
        berth,
        kept: parking_lot::Mutex::new(kept),
        clock: clock.clone(),
        log: log.clone(),
        recorder,
        leader_changed: Arc::default(),
    });
    let probe = Arc::new(founding::Prober::new(&config));
    let onward = Arc::new(Dialer::new(&config.security).forwarder());
    let app = Arc::new(App {
        meta: meta.clone(),
        cluster,
        info: ServerInfo::new(&config, now),
        config: Arc::new(config),
        dynamic,
        clock: clock.clone(),
        effects: Arc::new(effects),
        order: parking_lot::Mutex::default(),
        streams: streams.clone(),
        log: log.clone(),
        metrics,
        registry,
        min_resolved: MinResolved::default(),
        watch: grpc::global_config::Watch::new(&state),
        onward,
        probe,
        leaving: CancellationToken::new(),
        closing: shutdown.clone(),
    });
    let (weak, told) = (Arc::downgrade(&app), observer.clone());
    // One that leads already began with its cluster.
    let led = meta.leader_since().is_some();
    if led {
        counts::count_opened(&app.metrics);
    } else {
        observer.follow_leadership(None);
    }
    meta.observe(Box::new(move |change| {
        told.on_change(change);
        if let Some(app) = weak.upgrade() {
            app.watch.on_change(change);
            counts::count_change(&app.metrics, change, app.meta.leader_since().is_some());
        }
    }));
    if !led && meta.leader_since().is_some() {
        // It came to lead before anybody was told of it.
        counts::count_opened(&app.metrics);
        observer.follow_leadership(Some(meta.term()));
    }
    observer.load();
    Ok(Built { app, streams, observer })
}

/// Opens the agreed state; the state of a new member is founded. One that is alone leads when this returns.
async fn open_meta(
    config: &Config,
    dir: &std::path::Path,
    clock: &Arc<dyn Clock>,
    desk: &members::Desk,
    log: &Logger,
) -> Result<(Meta, HostHandle), StartError> {
    let info = ServerInfo::new(config, clock.now());
    let member = MemberInfo {
        name: info.name,
        client_urls: info.client_urls,
        peer_urls: info.peer_urls,
        deploy_path: info.deploy_path,
        binary_version: info.release_version.to_owned(),
        git_hash: info.git_hash.to_owned(),
    };
    let beginning = if dir.join(meta::LOG_FILE).exists() {
        Beginning::remembered(config)
    } else {
        founding::begin(config, &member, log).await?
    };
    let tick = config.berth.raft_heartbeat_interval.get();
    let election = config.berth.raft_election_timeout.get();
    let timings = RaftTimings::default();
    let backend = meta::FileBackends::new(dir).map_err(|why| StartError::DataDir { dir: dir.to_owned(), why })?;
    let options = meta::Options {
        dir: dir.to_owned(),
        member,
        raft: RaftTimings {
            tick,
            election_ticks: u32::try_from(election.as_nanos() / tick.as_nanos().max(1)).unwrap_or(u32::MAX),
            hash_every: if config.berth.state_hash_check { timings.hash_every } else { 0 },
            ..timings
        },
        caches: CacheSizes {
            log: usize::try_from(config.berth.log_cache_size).unwrap_or(usize::MAX),
            state: usize::try_from(config.berth.state_cache_size).unwrap_or(usize::MAX),
        },
        tso_save_interval: config.tso_save_interval.get(),
        entropy: rand::random(),
        backend: gated_disk::gated(backend),
        force_new: config.force_new_cluster,
    };
    pdsay!(log, START_TO_CAMPAIGN_PD_LEADER, &config.name);
    let mail = desk.mail(config, beginning.others, log);
    let transport = Arc::new(mail.clone());
    let raft_log = RaftDrain::slog(log.clone());
    let (meta, host) = Meta::open_member(options, beginning.founding, transport, clock.clone(), raft_log)?;
    let (group, own) = (meta.group(), meta.member_id());
    if !group.voters.is_empty() && !group.voters.contains(&own) && !group.learners.contains(&own) {
        let text = format!("{REMOVED}; to have it back, start it with --join and an empty data directory");
        return Err(StartError::Founding(text));
    }
    let host = host.spawn()?;
    desk.serve(&meta, &mail);
    // Who leads a group of several is up to all of them.
    if config.force_new_cluster || group.voters == [own] {
        if !meta.wait_until_leader(LEAD_TIMEOUT) {
            let why = meta.failure().map_or_else(|| "no leader was elected".to_owned(), |f| f.to_string());
            return Err(StartError::NotLeading(why));
        }
        pdsay!(log, LEADER_ELECTED);
    }
    Ok((meta, host))
}

fn open_cache(dir: &std::path::Path, meta: &Meta, log: &Logger) -> Result<Arc<RegionCache>, StartError> {
    let cache = RegionCache::open(dir, meta.cluster_id())?;
    if let Origin::Recreated(why) = cache.origin() {
        pdlog!(log, Warn, "the region cache was made anew; heartbeats fill it", "why" => why);
    }
    Ok(Arc::new(cache))
}

/// A warm start: regions as the cache has them, not heard yet; the first region of a fresh cluster if there is no other.
fn load_regions(app: &App, cache: &RegionCache) {
    let start = app.now();
    let mut count = 0_usize;
    match cache.load() {
        Ok(rows) => count = rows.filter(|region| app.load_region(region.clone())).count(),
        Err(error) => pdlog!(app.log, Warn, "the region cache cannot be read", "error" => error.to_string()),
    }
    let state = app.meta.state();
    if !state.is_bootstrapped() {
        pdsay!(app.log, CLUSTER_IS_NOT_BOOTSTRAPPED, app.now().mono.since(start.mono));
        return;
    }
    if count == 0
        && let Some(region) = app.first_region()
    {
        count += usize::from(app.load_region(region));
    }
    let took = app.now().mono.since(start.mono);
    pdsay!(app.log, LOAD_STORES, state.stores.len(), took);
    pdsay!(app.log, LOAD_REGIONS, count, took);
    pdsay!(app.log, COORDINATOR_COLLECTS);
}

/// What is answered while this member waits for others to begin with.
fn not_started() -> Router {
    Router::new().fallback(async |request: axum::extract::Request| {
        if grpc::is_grpc(&request) {
            return tonic::Status::unavailable("server not started").into_http();
        }
        (StatusCode::INTERNAL_SERVER_ERROR, "[PD:server:ErrServerNotStarted]server not started").into_response()
    })
}

/// gRPC and HTTP on one port: what no gRPC route takes is REST's, unless it is a gRPC call of a service that is not there.
fn routes(app: &Arc<App>, health: HealthServer<impl Health>) -> Router {
    let rest = rest::router(app.clone());
    grpc::router(app.clone(), health).fallback(move |request: axum::extract::Request| {
        let rest = rest.clone();
        async move {
            if grpc::is_grpc(&request) {
                return grpc::unknown_service(request.uri().path());
            }
            match tower::ServiceExt::oneshot(rest, request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        }
    })
}
