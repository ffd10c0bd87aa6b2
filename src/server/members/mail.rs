//! Messages to other members: a bounded queue and a connection each.
//!
//! Owns: where members are reached, queues, connections, pauses between attempts. Must not know: what a message says. What cannot be
//! carried at once is dropped: the group sends again what matters.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::stream::unfold;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, mpsc},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::Dialer;
use crate::{
    meta::{MAX_MEMBERS, Member, Meta, Transport},
    model::MemberId,
    pdlog,
    proto::berth_peer::{Parcel, peer_client::PeerClient},
    server::REMOVED,
    telemetry::log::Logger,
};

/// Head of a call that carries messages: the sender's cluster …
pub(super) const CLUSTER_ID: &str = "berth-cluster-id";
/// … its id …
pub(super) const MEMBER_ID: &str = "berth-member-id";
/// … and where it is reached.
pub(super) const PEER_URLS: &str = "berth-peer-urls";

/// Messages that wait for one member.
const MAX_MESSAGES: usize = 4096;
/// Bytes of messages that wait for one member.
const MAX_BYTES: usize = 64 << 20;
/// Messages that travel together, and their bytes (but for a single long one).
const PARCEL_MESSAGES: usize = 64;
const PARCEL_BYTES: usize = 1 << 20;
/// Members that are written to. Some room for those that were removed.
const MAX_BOXES: usize = 4 * MAX_MEMBERS;
/// Pause after an attempt that failed; it doubles up to the second.
const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(800);
/// A connection is pinged this often, and given up when no answer comes within the second.
const PING: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module. Clones mean the same.
#[derive(Clone)]
pub(in crate::server) struct Mail(Arc<Office>);

struct Office {
    runtime: Handle,
    dialer: Dialer,
    /// Where this member is reached, for those who do not know it yet.
    urls: String,
    /// Members that the agreed state does not name yet.
    met: RwLock<BTreeMap<MemberId, Vec<String>>>,
    meta: OnceLock<Meta>,
    boxes: Mutex<BTreeMap<MemberId, Outbox>>,
    ended: CancellationToken,
    log: Logger,
}

struct Outbox {
    sender: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// The other end of an [`Outbox`].
struct Letters {
    to: MemberId,
    queue: mpsc::Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("urls", &self.0.urls).finish_non_exhaustive()
    }
}

impl Mail {
    /// Must be called inside a runtime. `met` are members known from outside; `urls` is where this one is reached.
    pub(super) fn new(
        dialer: Dialer,
        urls: String,
        met: impl IntoIterator<Item = Member>,
        ended: CancellationToken,
        log: Logger,
    ) -> Self {
        let met = met.into_iter().map(|member| (member.id, member.peer_urls)).collect();
        Self(Arc::new(Office {
            runtime: Handle::current(),
            dialer,
            urls,
            met: RwLock::new(met),
            meta: OnceLock::new(),
            boxes: Mutex::default(),
            ended,
            log,
        }))
    }

    /// What is agreed is known from here on, also where members are.
    pub(super) fn open(&self, meta: Meta) {
        // A second one would be the same.
        drop(self.0.meta.set(meta));
    }

    /// A connection to a member.
    pub(super) async fn connect(&self, to: MemberId) -> io::Result<Channel> {
        self.0.connect(to).await
    }

    /// A member says where it is; what is agreed about it wins over that.
    pub(super) fn meet(&self, member: MemberId, urls: Vec<String>) {
        let mut met = self.0.met.write();
        if met.len() < MAX_BOXES || met.contains_key(&member) {
            met.insert(member, urls);
        }
    }
}

impl Transport for Mail {
    fn send(&self, to: MemberId, bytes: Vec<u8>) {
        let mut boxes = self.0.boxes.lock();
        if boxes.len() >= MAX_BOXES && !boxes.contains_key(&to) {
            // Members that are gone; the others get new ones.
            boxes.clear();
        }
        let outbox = boxes.entry(to).or_insert_with(|| self.0.clone().open_box(to));
        let size = bytes.len();
        if outbox.bytes.fetch_add(size, Ordering::Relaxed) + size > MAX_BYTES || outbox.sender.try_send(bytes).is_err()
        {
            outbox.bytes.fetch_sub(size, Ordering::Relaxed);
        }
    }
}

impl Letters {
    async fn next(&mut self) -> Option<Vec<u8>> {
        let letter = self.queue.recv().await?;
        self.bytes.fetch_sub(letter.len(), Ordering::Relaxed);
        Some(letter)
    }

    /// What is there already goes along.
    fn parcel(&mut self, first: Vec<u8>) -> Parcel {
        let mut size = first.len();
        let mut messages = vec![first.into()];
        while size < PARCEL_BYTES && messages.len() < PARCEL_MESSAGES {
            let Ok(letter) = self.queue.try_recv() else { break };
            self.bytes.fetch_sub(letter.len(), Ordering::Relaxed);
            size += letter.len();
            messages.push(letter.into());
        }
        Parcel { messages }
    }

    /// Drops what waits: it is old by the time that there is a way.
    fn drop_all(&mut self) {
        while let Ok(letter) = self.queue.try_recv() {
            self.bytes.fetch_sub(letter.len(), Ordering::Relaxed);
        }
    }
}

impl Office {
    fn open_box(self: Arc<Self>, to: MemberId) -> Outbox {
        let (sender, queue) = mpsc::channel(MAX_MESSAGES);
        let bytes = Arc::new(AtomicUsize::new(0));
        let letters = Letters { to, queue, bytes: bytes.clone() };
        let (office, ended) = (self.clone(), self.ended.clone());
        self.runtime.spawn(async move {
            tokio::select! { () = ended.cancelled() => {}, () = office.carry_all(letters) => {} }
        });
        Outbox { sender, bytes }
    }

    /// Carries until nobody sends any more.
    async fn carry_all(&self, letters: Letters) {
        let to = letters.to;
        let letters = Arc::new(AsyncMutex::new(letters));
        let (mut pause, mut told) = (PAUSE, false);
        loop {
            let Some(first) = letters.lock().await.next().await else { return };
            let error = match self.connect(to).await {
                Ok(channel) => {
                    if told {
                        pdlog!(self.log, Info, "member is reached again", "member" => to.0);
                    }
                    (pause, told) = (PAUSE, false);
                    self.carry(channel, first, letters.clone()).await
                }
                Err(error) => error.to_string(),
            };
            if !told {
                pdlog!(self.log, Warn, "member cannot be reached", "member" => to.0, "error" => error);
                told = true;
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(MAX_PAUSE);
            letters.lock().await.drop_all();
        }
    }

    /// One connection; returns why it ended.
    async fn carry(&self, channel: Channel, first: Vec<u8>, letters: Arc<AsyncMutex<Letters>>) -> String {
        let parcels = unfold((Some(first), letters), async |(first, letters)| {
            let parcel = {
                let mut waiting = letters.lock().await;
                let first = match first {
                    Some(first) => first,
                    None => waiting.next().await?,
                };
                waiting.parcel(first)
            };
            Some((parcel, (None, letters)))
        });
        let mut request = tonic::Request::new(parcels);
        if let Some(meta) = self.meta.get() {
            request.metadata_mut().insert(CLUSTER_ID, meta.cluster_id().0.into());
            request.metadata_mut().insert(MEMBER_ID, meta.member_id().0.into());
        }
        if let Ok(urls) = self.urls.parse() {
            request.metadata_mut().insert(PEER_URLS, urls);
        }
        let answer = PeerClient::new(channel).max_encoding_message_size(usize::MAX).deliver(request).await;
        let Err(status) = answer else { return "closed by the other side".into() };
        // A removal may have been agreed without this member.
        if let Some(meta) = self.meta.get().filter(|_| status.message() == REMOVED) {
            meta.give_up(REMOVED);
        }
        status.to_string()
    }

    fn urls_of(&self, member: MemberId) -> Vec<String> {
        let agreed = self.meta.get().and_then(|meta| {
            let state = meta.state();
            state.members.get(&member).map(|row| row.peer_urls.clone()).filter(|urls| !urls.is_empty())
        });
        agreed.or_else(|| self.met.read().get(&member).cloned()).unwrap_or_default()
    }

    async fn connect(&self, to: MemberId) -> io::Result<Channel> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its address is not known");
        for url in self.urls_of(to) {
            match channel(&self.dialer, &url).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A gRPC connection to one URL. Unlike the lazy kind it is there when this returns, and it is not made again by itself.
pub(super) async fn channel(dialer: &Dialer, url: &str) -> io::Result<Channel> {
    // Before tonic sees it: an address that hangs must not hold more than the dialer's time.
    let mut stream = Some(dialer.dial(url).await?);
    // The scheme is the dialer's business.
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(io::Error::other)?;
    let endpoint =
        endpoint.http2_keep_alive_interval(PING).keep_alive_timeout(PING_TIMEOUT).keep_alive_while_idle(true);
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        async { stream.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(io::Error::other)
}
