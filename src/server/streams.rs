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
    telemetry::{
        log::Logger,
        metrics::{
            Metrics,
            values::{StreamMessage, StreamStatus},
        },
    },
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
    /// Grows whenever a store loses its stream.
    losses: AtomicU64,
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
    fn status(self) -> StreamStatus {
        match self {
            Sent::Queued => StreamStatus::Ok,
            Sent::NoStream => StreamStatus::Skip,
            Sent::Full => StreamStatus::Err,
        }
    }
}

impl Streams {
    /// No stream yet.
    pub fn new(cluster_id: ClusterId, cluster: Arc<Cluster>, metrics: Arc<Metrics>, log: Logger) -> Self {
        let (next, losses) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { cluster_id, cluster, metrics, log, next, losses, by_store: RwLock::default() }
    }

    /// Sends a command to the newest stream of its store. Never waits.
    pub fn send(&self, command: &Command) -> Sent {
        let mut message = convert::command_to_wire(command);
        message.header = Some(self.header());
        let sent = self.put(command.store, message);
        self.count(command.store, StreamMessage::Push, sent);
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
        let stores: Vec<StoreId> = {
            let mut by_store = self.by_store.write();
            let before = by_store.len();
            by_store.retain(|_, bound| !bound.queue.is_closed());
            if by_store.len() < before {
                self.losses.fetch_add(1, Ordering::Relaxed);
            }
            by_store.keys().copied().collect()
        };
        for store in stores {
            let message = pdpb::RegionHeartbeatResponse { header: Some(self.header()), ..Default::default() };
            let sent = self.put(store, message);
            self.count(store, StreamMessage::Keepalive, sent);
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

    fn count(&self, store: StoreId, kind: StreamMessage, sent: Sent) {
        let info = self.cluster.stores().get(store);
        let address = info.as_ref().map_or("", |info| info.record.address.as_str());
        let labels = [address, &store.to_string(), kind.as_str(), sent.status().as_str()];
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
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::{
        config::Dynamic,
        meta::State,
        model::{Epoch, Now, Peer, PeerId, RegionId, StoreRecord},
        scheduler::{effect::CommandKind, view::IdSource},
        server::settings::Kept,
        telemetry::metrics::exposition,
    };

    const STORE: StoreId = StoreId(4);

    struct NoIds;

    impl IdSource for NoIds {
        fn next_peer_id(&self) -> Option<PeerId> {
            None
        }
    }

    /// No streams, a store that is known, and where what they count is shown.
    fn streams() -> (Streams, prometheus::Registry) {
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::new(&registry).unwrap());
        let (log, state, now) = (Logger::none(), State::default(), Now::default());
        let settings = Kept::load(&state, &log).settings(&state, &Dynamic::default(), &Arc::default(), now.wall);
        let cluster = Arc::new(Cluster::new(settings, Arc::new(NoIds), now));
        let record = StoreRecord { id: STORE, address: "t4:1".into(), ..StoreRecord::default() };
        cluster.put_store(Arc::new(record), now);
        (Streams::new(ClusterId(77), cluster, metrics, log), registry)
    }

    fn command(region: u64) -> Command {
        Command {
            store: STORE,
            region: RegionId(region),
            epoch: Epoch::new(5, 6),
            target_peer: Peer::voter(41, 4),
            kind: CommandKind::TransferLeader { to: Peer::voter(42, 5) },
        }
    }

    /// The regions of the commands that wait on a stream; 0 for an empty message.
    fn waiting(stream: &mut Receiver<StreamItem>) -> Vec<u64> {
        std::iter::from_fn(|| stream.try_recv().ok()).map(|item| item.unwrap().region_id).collect()
    }

    /// A stream with room for so many messages, bound to the store.
    fn open(streams: &Streams, room: usize) -> (u64, Sender<StreamItem>, Receiver<StreamItem>) {
        let (queue, commands) = channel(room);
        let stream = streams.next_stream();
        streams.bind(STORE, stream, &queue);
        (stream, queue, commands)
    }

    #[test]
    fn commands_go_to_the_newest_stream_and_say_what_they_are_for() {
        let (streams, _) = streams();
        assert_eq!(streams.send(&command(1)), Sent::NoStream);
        let (old, old_queue, mut old_commands) = open(&streams, 8);
        let (_, _queue, mut commands) = open(&streams, 8);
        // The older one claims the store again, as each does from time to time.
        streams.bind(STORE, old, &old_queue);
        assert_eq!(streams.send(&command(2)), Sent::Queued);
        let message = commands.try_recv().unwrap().unwrap();
        assert_eq!(message.header.unwrap().cluster_id, 77);
        assert_eq!((message.region_id, message.target_peer.unwrap().id), (2, 41));
        assert_eq!(message.region_epoch.map(|e| (e.conf_ver, e.version)), Some((5, 6)));
        assert_eq!(message.transfer_leader.unwrap().peer.unwrap().id, 42);
        assert_eq!(waiting(&mut old_commands), Vec::<u64>::new());
    }

    #[test]
    fn a_stream_that_is_left_takes_over_when_the_newest_ends() {
        let (streams, _) = streams();
        let (old, old_queue, mut old_commands) = open(&streams, 8);
        let (new, queue, commands) = open(&streams, 8);
        let before = streams.losses();
        // One that is not the newest may end without anybody's notice.
        streams.unbind(STORE, old);
        assert_eq!((streams.losses(), streams.len()), (before, 1));
        drop((queue, commands));
        streams.unbind(STORE, new);
        assert!(streams.losses() > before, "those that are left are told");
        assert_eq!(streams.send(&command(1)), Sent::NoStream);
        streams.bind(STORE, old, &old_queue);
        assert_eq!(streams.send(&command(2)), Sent::Queued);
        assert_eq!(waiting(&mut old_commands), [2]);
    }

    #[test]
    fn a_full_queue_loses_the_new_command_and_keeps_the_old_ones() {
        let (streams, registry) = streams();
        let (_, _queue, mut commands) = open(&streams, 2);
        let sent: Vec<Sent> = (1..=3).map(|region| streams.send(&command(region))).collect();
        assert_eq!(sent, [Sent::Queued, Sent::Queued, Sent::Full]);
        assert_eq!(waiting(&mut commands), [1, 2]);
        assert_eq!(streams.send(&command(4)), Sent::Queued);
        assert_eq!(waiting(&mut commands), [4]);
        let text = exposition(&registry).unwrap();
        for (status, count) in [("ok", 3), ("err", 1)] {
            let labels = format!("{{address=\"t4:1\",status=\"{status}\",store=\"4\",type=\"push\"}}");
            assert!(text.contains(&format!("pd_hbstream_region_message{labels} {count}\n")), "{status} in {text}");
        }
    }

    #[test]
    fn keepalives_are_empty_and_forget_streams_that_have_ended() {
        let (streams, registry) = streams();
        let (_, queue, mut commands) = open(&streams, 8);
        streams.keepalive();
        let message = commands.try_recv().unwrap().unwrap();
        let header = Some(pdpb::ResponseHeader { cluster_id: 77, error: None });
        assert_eq!(message, pdpb::RegionHeartbeatResponse { header, ..Default::default() });
        let before = streams.losses();
        streams.keepalive();
        assert_eq!((streams.len(), streams.losses()), (1, before));
        drop((queue, commands));
        streams.keepalive();
        assert!(streams.is_empty());
        assert!(streams.losses() > before, "another stream of the store may take over");
        let text = exposition(&registry).unwrap();
        let labels = r#"{address="t4:1",status="ok",store="4",type="keepalive"}"#;
        assert!(text.contains(&format!("pd_hbstream_region_message{labels} 2\n")), "{text}");
    }

    #[test]
    fn all_streams_end_with_the_reason() {
        let (streams, _) = streams();
        let (_, _queue, mut commands) = open(&streams, 8);
        assert_eq!(streams.send(&command(1)), Sent::Queued);
        streams.close_all(&Status::unavailable("not leader"));
        assert!(commands.try_recv().unwrap().is_ok(), "what waited comes before");
        assert_eq!(commands.try_recv().unwrap().unwrap_err().message(), "not leader");
        assert_eq!(streams.send(&command(2)), Sent::NoStream);
    }
}
