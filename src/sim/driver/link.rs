//! The connection of one store: found, kept, lost, found again.
//!
//! Owns: which member leads, the back-off between tries, and the region-heartbeat stream. Must not know what is sent.

use std::{fmt, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{
    model::StoreId,
    proto::pdpb::{self, pd_client},
};

/// The client of one connection.
pub(crate) type PdClient = pd_client::PdClient<Channel>;

/// First wait after a failed try.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// Longest wait between two tries: a server that comes back is found within this time.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that has lived this long counts as good: the back-off starts anew.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// Region heartbeats of one store that wait for the network.
const REGION_QUEUE: usize = 1_024;
/// Most member addresses looked at.
const MAX_ADDRESSES: usize = 64;
/// Largest message taken: a scan of many regions fits.
const MAX_MESSAGE: usize = 64 << 20;

/// Waits that double, with a random part, up to a bound.
pub(crate) struct Backoff {
    next: Duration,
    rng: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: MIN_BACKOFF, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next wait: between half of and the whole present bound.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next.mul_f64(self.rng.random_range(0.5..=1.0));
        self.next = (self.next * 2).min(MAX_BACKOFF);
        wait
    }

    pub(crate) fn reset(&mut self) {
        self.next = MIN_BACKOFF;
    }
}

/// Where the members of the server may be found.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    urls: Vec<String>,
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.urls.join(","))
    }
}

impl Endpoints {
    /// These URLs; a bare `host:port` is taken for plain HTTP.
    pub(crate) fn new(urls: &[String]) -> Self {
        let whole = |u: &String| if u.contains("://") { u.clone() } else { format!("http://{u}") };
        Self { urls: urls.iter().take(MAX_ADDRESSES).map(whole).collect() }
    }

    /// A connection to the leading member, and the cluster id; `None` while there is none.
    pub(crate) async fn leader(&self) -> Option<(PdClient, u64)> {
        for url in &self.urls {
            let Some(mut client) = connect(url).await else { continue };
            let asked = timeout(CONNECT_TIMEOUT, client.get_members(pdpb::GetMembersRequest::default())).await;
            let Ok(Ok(answer)) = asked else { continue };
            let answer = answer.into_inner();
            let cluster = answer.header.as_ref().map_or(0, |h| h.cluster_id);
            let Some(leader) = answer.leader.filter(|_| cluster != 0) else { continue };
            // Usually the member that was asked leads: then its connection is as good as any.
            if leader.client_urls.iter().any(|u| u == url) {
                return Some((client, cluster));
            }
            for url in leader.client_urls.iter().take(MAX_ADDRESSES) {
                if let Some(client) = connect(url).await {
                    return Some((client, cluster));
                }
            }
            // The leader may be known under a name that does not lead there from here: the way that was given does.
            return Some((client, cluster));
        }
        None
    }
}

/// Connects to one address.
pub(crate) async fn connect(url: &str) -> Option<PdClient> {
    let endpoint = Endpoint::from_shared(url.to_owned()).ok()?.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    let channel = timeout(CONNECT_TIMEOUT, endpoint.connect()).await.ok()?.ok()?;
    Some(pd_client::PdClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

/// What a link tells the loop.
pub(super) enum LinkEvent {
    /// The stream is open.
    Up { store: StoreId, client: PdClient, regions: mpsc::Sender<pdpb::RegionHeartbeatRequest> },
    /// The stream is closed.
    Down { store: StoreId },
    /// A message came.
    Message { store: StoreId, message: Box<pdpb::RegionHeartbeatResponse> },
}

/// A running link.
pub(super) struct Link {
    /// Whether the store runs, and how often its stream was given up.
    wanted: watch::Sender<(bool, u64)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts the link of `store`.
    pub(super) fn spawn(
        store: StoreId,
        seed: u64,
        endpoints: Arc<Endpoints>,
        events: mpsc::Sender<LinkEvent>,
        stop: CancellationToken,
    ) -> Self {
        let (wanted, watched) = watch::channel((true, 0));
        let worker = Worker { store, endpoints, events, wanted: watched, backoff: Backoff::new(seed) };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = worker.run() => {}
            }
        });
        Self { wanted, stop, task }
    }

    /// Lets the link connect, or keeps it closed.
    pub(super) fn allow(&self, allowed: bool) {
        self.wanted.send_modify(|w| w.0 = allowed);
    }

    /// Gives up the present stream.
    pub(super) fn reset(&self) {
        self.wanted.send_modify(|w| w.1 += 1);
    }

    /// Ends it.
    pub(super) async fn close(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

struct Worker {
    store: StoreId,
    endpoints: Arc<Endpoints>,
    events: mpsc::Sender<LinkEvent>,
    wanted: watch::Receiver<(bool, u64)>,
    backoff: Backoff,
}

impl Worker {
    /// Connects again and again, until the loop is gone.
    async fn run(mut self) {
        loop {
            if self.wanted.wait_for(|w| w.0).await.is_err() {
                return;
            }
            if let Some((client, _)) = self.endpoints.leader().await {
                let opened = Instant::now();
                if self.stream(client).await.is_err() {
                    return;
                }
                if opened.elapsed() >= GOOD_AFTER {
                    self.backoff.reset();
                }
            }
            let wait = self.backoff.next();
            sleep(wait).await;
        }
    }

    /// Keeps one stream until it ends; an error says that nobody listens any more.
    async fn stream(&mut self, mut client: PdClient) -> Result<(), mpsc::error::SendError<LinkEvent>> {
        let store = self.store;
        let (regions, queue) = mpsc::channel(REGION_QUEUE);
        self.events.send(LinkEvent::Up { store, client: client.clone(), regions }).await?;
        let events = self.events.clone();
        let talk = async {
            // Go's servers send the headers of a stream with their first message only: this may wait as long as it likes.
            let Ok(answer) = client.region_heartbeat(ReceiverStream::new(queue)).await else { return Ok(()) };
            let mut messages = answer.into_inner();
            while let Ok(Some(message)) = messages.message().await {
                events.send(LinkEvent::Message { store, message: Box::new(message) }).await?;
            }
            Ok(())
        };
        let done = tokio::select! {
            done = talk => done,
            _ = self.wanted.changed() => Ok(()),
        };
        self.events.send(LinkEvent::Down { store }).await?;
        done
    }
}
