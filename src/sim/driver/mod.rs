//! Runs a fleet against a server: the only place of the fleet that has tasks, sockets and clocks.
//!
//! Owns: finding the leader, founding the cluster, one connection and one heartbeat stream a store, and the loop that carries
//! messages between them and the [`Fleet`]. Must not know what the messages mean.

mod link;

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub(super) use self::link::{Endpoints, PdClient, connect};
use self::link::{Link, LinkEvent};
use crate::{
    model::{Mono, Now, StoreId, Wall},
    proto::pdpb,
    sim::{
        fleet::{Fleet, FleetView, Incoming, Outgoing},
        layout::{IdSpan, IdSpans, LayoutError},
        options::FleetOptions,
        report::FleetReport,
    },
};

/// Longest time between two steps: the clock of the fleet ticks at least this often.
const MAX_STEP: Duration = Duration::from_millis(10);
/// Shortest time between two steps: below it the loop would spin.
const MIN_STEP: Duration = Duration::from_millis(1);
/// Time between two views for the observer.
const VIEW_PERIOD: Duration = Duration::from_millis(20);
/// How long a server may take to appear.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long one unary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a full stream may stay full before it is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Ids asked for at once: PD's own window.
const IDS_A_CALL: u64 = 1_000;
/// Messages from all links that wait for the loop.
const EVENT_QUEUE: usize = 4_096;
/// Unary calls under way at most: one store heartbeat a store and some splits.
const MAX_CALLS: usize = 2_048;

/// Why a fleet could not run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// No server answered in time.
    #[error("no server answers at {0}")]
    NoServer(String),
    /// The cluster has stores already.
    #[error("the cluster is bootstrapped already: a fleet needs a fresh one")]
    AlreadyBootstrapped,
    /// The server refused a call.
    #[error("{call}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// What it said.
        message: String,
    },
    /// The options make no fleet.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Ended before it was set up.
    #[error("stopped before the fleet was set up")]
    Stopped,
}

/// Looks at a running fleet, some fifty times a second.
pub trait Observer: Send {
    /// The totals at `now`.
    fn look(&mut self, view: &FleetView, now: Now);
}

impl Observer for () {
    fn look(&mut self, _view: &FleetView, _now: Now) {}
}

impl<F: FnMut(&FleetView, Now) + Send> Observer for F {
    fn look(&mut self, view: &FleetView, now: Now) {
        self(view, now);
    }
}

/// The clock of one run.
struct Clock {
    start: Instant,
}

impl Clock {
    #[allow(clippy::disallowed_methods)] // the driver is where the fleet's clock is read
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mono = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now { mono: Mono(mono), wall: Wall(i64::try_from(wall).unwrap_or(i64::MAX)) }
    }

    fn instant(&self, at: Mono) -> Instant {
        self.start + Duration::from_nanos(at.0)
    }
}

/// Sets up a fleet on a fresh cluster and runs it until `shutdown` is cancelled or the duration of the options has passed.
///
/// # Errors
/// No server answers, the cluster is bootstrapped already, or the options are impossible. Later failures of the connection are
/// no errors: the nodes try again.
pub async fn run(
    options: FleetOptions,
    shutdown: CancellationToken,
    observer: impl Observer,
) -> Result<FleetReport, SimError> {
    let clock = Clock { start: Instant::now() };
    let endpoints = Endpoints::new(&options.pd);
    let set_up = set_up(&options, &endpoints, &clock);
    let fleet = tokio::select! {
        fleet = set_up => fleet?,
        () = shutdown.cancelled() => return Err(SimError::Stopped),
    };
    let mut driver = Driver::new(fleet, &options, endpoints, clock, shutdown);
    driver.drive(options.duration, observer).await;
    Ok(driver.fleet.report_at(driver.clock.now().mono))
}

/// Founds the cluster for a fleet that somebody else will drive.
///
/// # Errors
/// As [`run`].
pub(super) async fn found(options: &FleetOptions) -> Result<Fleet, SimError> {
    set_up(options, &Endpoints::new(&options.pd), &Clock { start: Instant::now() }).await
}

async fn set_up(options: &FleetOptions, endpoints: &Endpoints, clock: &Clock) -> Result<Fleet, SimError> {
    let (mut client, cluster) = first_connection(endpoints).await?;
    let header = Some(pdpb::RequestHeader { cluster_id: cluster, ..pdpb::RequestHeader::default() });
    let asked = client.is_bootstrapped(pdpb::IsBootstrappedRequest { header: header.clone() }).await;
    let answer = accept("IsBootstrapped", asked, |r| r.header.as_ref())?;
    if answer.bootstrapped {
        return Err(SimError::AlreadyBootstrapped);
    }
    let ids = alloc_ids(&mut client, header, Fleet::ids_needed(options)).await?;
    let fleet = Fleet::new(options.clone(), cluster, ids, clock.now())?;
    if let Some(request) = fleet.bootstrap() {
        accept("Bootstrap", client.bootstrap(request).await, |r| r.header.as_ref())?;
    }
    for request in fleet.put_stores() {
        accept("PutStore", client.put_store(request).await, |r| r.header.as_ref())?;
    }
    Ok(fleet)
}

async fn first_connection(endpoints: &Endpoints) -> Result<(PdClient, u64), SimError> {
    let found = timeout(START_WAIT, async {
        let mut backoff = link::Backoff::new(0);
        loop {
            match endpoints.leader().await {
                Some(found) => return found,
                None => sleep(backoff.next()).await,
            }
        }
    });
    found.await.map_err(|_| SimError::NoServer(endpoints.to_string()))
}

async fn alloc_ids(
    client: &mut PdClient,
    header: Option<pdpb::RequestHeader>,
    wanted: u64,
) -> Result<IdSpans, SimError> {
    let mut ids = IdSpans::default();
    let mut left = wanted;
    while left > 0 {
        let count = left.min(IDS_A_CALL);
        let request = pdpb::AllocIdRequest { header: header.clone(), count: count as u32 };
        let answer = accept("AllocID", client.alloc_id(request).await, |r| r.header.as_ref())?;
        // A server that does not know the count hands out one id and says nothing of a number.
        let given = u64::from(answer.count.max(1)).min(count).min(answer.id);
        if given == 0 {
            return Err(SimError::Refused { call: "AllocID", message: "the id is 0".into() });
        }
        ids.push(IdSpan { first: answer.id - given + 1, last: answer.id });
        left -= given;
    }
    Ok(ids)
}

/// The answer of a call, unless the call or its header says that it failed.
fn accept<T>(
    call: &'static str,
    answer: Result<tonic::Response<T>, tonic::Status>,
    header: impl Fn(&T) -> Option<&pdpb::ResponseHeader>,
) -> Result<T, SimError> {
    let refused = |message: String| SimError::Refused { call, message };
    let answer = answer.map_err(|s| refused(format!("{:?}: {}", s.code(), s.message())))?.into_inner();
    match header(&answer).and_then(|h| h.error.as_ref()) {
        Some(error) => Err(refused(error.message.clone())),
        None => Ok(answer),
    }
}

/// An open connection of one store.
struct Open {
    client: PdClient,
    regions: mpsc::Sender<pdpb::RegionHeartbeatRequest>,
}

struct Driver {
    fleet: Fleet,
    clock: Clock,
    links: HashMap<StoreId, Link>,
    open: HashMap<StoreId, Open>,
    events: mpsc::Receiver<LinkEvent>,
    calls: JoinSet<Option<Incoming>>,
    shutdown: CancellationToken,
}

impl Driver {
    fn new(
        fleet: Fleet,
        options: &FleetOptions,
        endpoints: Endpoints,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Self {
        let (to_loop, events) = mpsc::channel(EVENT_QUEUE);
        let endpoints = std::sync::Arc::new(endpoints);
        let stores: Vec<StoreId> = fleet.view().stores.iter().map(|s| s.id).collect();
        let link = |store: StoreId| {
            let seed = options.seed ^ store.0.rotate_left(32);
            (store, Link::spawn(store, seed, endpoints.clone(), to_loop.clone(), shutdown.child_token()))
        };
        let links = stores.into_iter().map(link).collect();
        Self { fleet, clock, links, open: HashMap::new(), events, calls: JoinSet::new(), shutdown }
    }

    async fn drive(&mut self, duration: Option<Duration>, mut observer: impl Observer) {
        let end = duration.map(|d| Instant::now() + d);
        let mut next_view = Instant::now();
        while !self.shutdown.is_cancelled() && end.is_none_or(|end| Instant::now() < end) {
            let now = self.clock.now();
            for message in self.fleet.step(now) {
                self.send(message).await;
                if self.shutdown.is_cancelled() {
                    break;
                }
            }
            if Instant::now() >= next_view {
                next_view = Instant::now() + VIEW_PERIOD;
                observer.look(&self.fleet.view(), now);
            }
            self.wait().await;
        }
        observer.look(&self.fleet.view(), self.clock.now());
        self.calls.abort_all();
        for (_, link) in self.links.drain() {
            link.close().await;
        }
    }

    /// Waits until something comes in or the fleet has something to do, and takes all that has come.
    async fn wait(&mut self) {
        let asked = self.fleet.next_wake().map(|at| self.clock.instant(at));
        let now = Instant::now();
        let wake = asked.unwrap_or(now + MAX_STEP).clamp(now + MIN_STEP, now + MAX_STEP);
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = sleep_until(wake) => {}
            Some(event) = self.events.recv() => self.on_event(event),
            Some(done) = self.calls.join_next() => self.on_call(done.ok().flatten()),
        }
        for _ in 0..EVENT_QUEUE {
            match self.events.try_recv() {
                Ok(event) => self.on_event(event),
                Err(_) => break,
            }
        }
        while let Some(done) = self.calls.try_join_next() {
            self.on_call(done.ok().flatten());
        }
    }

    fn on_event(&mut self, event: LinkEvent) {
        let now = self.clock.now();
        match event {
            LinkEvent::Up { store, client, regions } => {
                self.open.insert(store, Open { client, regions });
                self.fleet.receive(Incoming::Connected { store }, now);
            }
            LinkEvent::Down { store } => {
                self.open.remove(&store);
                self.fleet.receive(Incoming::Disconnected { store }, now);
            }
            LinkEvent::Message { store, message } => self.fleet.receive(Incoming::Region { store, message }, now),
        }
    }

    fn on_call(&mut self, answer: Option<Incoming>) {
        if let Some(answer) = answer {
            let now = self.clock.now();
            self.fleet.receive(answer, now);
        }
    }

    async fn send(&mut self, message: Outgoing) {
        match message {
            Outgoing::Region { store, request } => self.send_region(store, *request).await,
            Outgoing::Store { store, request } => {
                let failed = Incoming::Store { store, response: None };
                self.call(store, failed, move |mut client| async move {
                    let response = client.store_heartbeat(*request).await.ok()?.into_inner();
                    Some(Incoming::Store { store, response: Some(Box::new(response)) })
                });
            }
            Outgoing::AskSplit { store, region, request } => {
                let failed = Incoming::SplitIds { region, response: None };
                self.call(store, failed, move |mut client| async move {
                    let response = client.ask_batch_split(*request).await.ok()?.into_inner();
                    Some(Incoming::SplitIds { region, response: Some(Box::new(response)) })
                });
            }
            Outgoing::ReportSplit { store, request } => {
                // Only a hint: the heartbeats tell the same.
                let client = self.open.get(&store).map(|o| o.client.clone());
                if let Some(mut client) = client.filter(|_| self.calls.len() < MAX_CALLS) {
                    self.calls.spawn(async move {
                        let _ = timeout(CALL_TIMEOUT, client.report_batch_split(*request)).await;
                        None
                    });
                }
            }
            Outgoing::Stop { store } => {
                self.open.remove(&store);
                self.allow(store, false);
            }
            Outgoing::Start { store } => self.allow(store, true),
        }
    }

    fn allow(&self, store: StoreId, allowed: bool) {
        if let Some(link) = self.links.get(&store) {
            link.allow(allowed);
        }
    }

    /// Makes a unary call in the background; `failed` is what the fleet hears when nothing comes of it.
    fn call<F>(&mut self, store: StoreId, failed: Incoming, make: impl FnOnce(PdClient) -> F)
    where
        F: Future<Output = Option<Incoming>> + Send + 'static,
    {
        let client = self.open.get(&store).map(|o| o.client.clone());
        match client.filter(|_| self.calls.len() < MAX_CALLS) {
            Some(client) => {
                let call = make(client);
                self.calls
                    .spawn(async move { Some(timeout(CALL_TIMEOUT, call).await.ok().flatten().unwrap_or(failed)) });
            }
            None => self.on_call(Some(failed)),
        }
    }

    /// Sends a region heartbeat. While the stream is full, what comes in is taken all the same, so that neither side waits for
    /// the other; a stream that stays full is closed.
    async fn send_region(&mut self, store: StoreId, request: pdpb::RegionHeartbeatRequest) {
        let Some(open) = self.open.get(&store) else { return };
        let (request, regions) = match open.regions.try_send(request) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
            Err(mpsc::error::TrySendError::Full(request)) => (request, open.regions.clone()),
        };
        let give_up = Instant::now() + SEND_TIMEOUT;
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = sleep_until(give_up) => {
                    if let Some(link) = self.links.get(&store) {
                        link.reset();
                    }
                    return;
                }
                room = regions.reserve() => {
                    if let Ok(room) = room {
                        room.send(request);
                    }
                    return;
                }
                Some(event) = self.events.recv() => self.on_event(event),
            }
        }
    }
}

#[cfg(test)]
mod tests;
