//! The open heartbeat streams by store, and the sending of commands on them.
//!
//! Owns: which stream of a store is the newest, keepalives, what happens to a command that finds no room. Must not know: what a
//! command is for; whether the node obeys.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::mpsc::{Sender, error::TrySendError};
use tonic::Status;

use crate::{
    api::{HeartbeatStreams, app::StreamItem, convert},
    model::{ClusterId, StoreId},
    pdlog,
    proto::pdpb,
    scheduler::{cluster::Cluster, effect::Command},
    telemetry::{log::Logger, metrics::Metrics},
};

/// How often an empty answer is sent on each stream, so that both sides notice a dead connection (PD's interval).
pub const KEEPALIVE: Duration = Duration::from_secs(60);

struct Bound {
    stream: u64,
    queue: Sender<StreamItem>,
}

/// See the module's comment.
pub struct Streams {
    cluster_id: ClusterId,
    cluster: Arc<Cluster>,
    metrics: Arc<Metrics>,
    log: Logger,
    next: AtomicU64,
    by_store: RwLock<HashMap<StoreId, Bound>>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("stores", &self.by_store.read().len()).finish_non_exhaustive()
    }
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It waits for the stream.
    Queued,
    /// The store has no stream.
    NoStream,
    /// The stream's queue is full: the message is gone, and will be made again.
    Full,
}

impl Sent {
    /// PD's word for it in `pd_hbstream_region_message`.
    fn status(self) -> &'static str {
        match self {
            Sent::Queued => "ok",
            Sent::NoStream => "skip",
            Sent::Full => "err",
        }
    }
}

impl Streams {
    /// No stream yet.
    pub fn new(cluster_id: ClusterId, cluster: Arc<Cluster>, metrics: Arc<Metrics>, log: Logger) -> Self {
        Self { cluster_id, cluster, metrics, log, next: AtomicU64::new(1), by_store: RwLock::default() }
    }

    /// Sends a command to the newest stream of its store. Never waits.
    pub fn send(&self, command: &Command) -> Sent {
        let mut message = convert::command_to_wire(command);
        message.header = Some(self.header());
        let sent = self.put(command.store, message);
        self.count(command.store, "push", sent);
        if sent == Sent::Full {
            pdlog!(
                self.log, Warn, "send heartbeat message fail",
                "region-id" => command.region, "error" => "the queue of the heartbeat stream is full",
            );
        }
        sent
    }

    /// Sends an empty answer on every stream; forgets those that have ended. The shell calls it each [`KEEPALIVE`].
    pub fn keepalive(&self) {
        self.by_store.write().retain(|_, bound| !bound.queue.is_closed());
        let stores: Vec<StoreId> = self.by_store.read().keys().copied().collect();
        for store in stores {
            let message = pdpb::RegionHeartbeatResponse { header: Some(self.header()), ..Default::default() };
            let sent = self.put(store, message);
            self.count(store, "keepalive", sent);
            if sent != Sent::Queued {
                pdlog!(
                    self.log, Warn, "send keepalive message fail, store maybe disconnected",
                    "target-store-id" => store, "error" => "the heartbeat stream takes no message",
                );
            }
        }
    }

    /// Ends every stream, for instance because this member no longer leads.
    pub fn close_all(&self, status: &Status) {
        for (_, bound) in self.by_store.write().drain() {
            // A full queue ends with the connection.
            _ = bound.queue.try_send(Err(status.clone()));
        }
    }

    /// How many stores have a stream.
    pub fn len(&self) -> usize {
        self.by_store.read().len()
    }

    /// Whether no store has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn header(&self) -> pdpb::ResponseHeader {
        pdpb::ResponseHeader { cluster_id: self.cluster_id.0, error: None }
    }

    fn put(&self, store: StoreId, message: pdpb::RegionHeartbeatResponse) -> Sent {
        let by_store = self.by_store.read();
        let Some(bound) = by_store.get(&store) else { return Sent::NoStream };
        match bound.queue.try_send(Ok(message)) {
            Ok(()) => Sent::Queued,
            Err(TrySendError::Full(_)) => Sent::Full,
            Err(TrySendError::Closed(_)) => Sent::NoStream,
        }
    }

    fn count(&self, store: StoreId, kind: &str, sent: Sent) {
        let info = self.cluster.stores().get(store);
        let address = info.as_ref().map_or("", |info| info.record.address.as_str());
        let labels = [address, &store.to_string(), kind, sent.status()];
        self.metrics.heartbeats.stream_message.with_label_values(&labels).inc();
    }
}

impl HeartbeatStreams for Streams {
    fn next_stream(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn bind(&self, store: StoreId, stream: u64, queue: &Sender<StreamItem>) {
        let mut by_store = self.by_store.write();
        if by_store.get(&store).is_none_or(|bound| bound.stream <= stream || bound.queue.is_closed()) {
            by_store.insert(store, Bound { stream, queue: queue.clone() });
        }
    }

    fn unbind(&self, store: StoreId, stream: u64) {
        let mut by_store = self.by_store.write();
        if by_store.get(&store).is_some_and(|bound| bound.stream == stream) {
            by_store.remove(&store);
        }
    }
}
