//! Heartbeat streams of regions, and bucket reports.
//!
//! A stream carries the heartbeats of all regions that a store leads; commands go back on the newest stream of a store. One task
//! (the connection's) reads heartbeats and sends commands, so a stream costs no task of its own. A bad heartbeat gets an error in
//! a header and ends nothing but itself; only an unknown leader store ends the stream, as in PD.

use std::{pin::pin, sync::Arc, time::Duration};

use prometheus::{Histogram, IntCounter};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{Answers, header};
use crate::{
    api::{ApiError, App, app::StreamItem, compact_text::compact, convert, error::header_error, lines},
    model::{Mono, RegionId, StoreId},
    proto::{metapb, pdpb},
    scheduler::cluster::HeartbeatError,
    store::{Changes, index::BucketReport},
    telemetry::metrics::values::{HeartbeatStatus, RegionEvent},
};

/// Most commands that wait for one stream. A full queue drops the new command: it is made again at the region's next heartbeat or
/// push, and an older one must not be lost for it.
pub const COMMAND_QUEUE: usize = 4096;

/// How often a living stream claims its store again (PD's `heartbeat-stream-bind-interval`). When a newer stream came and went it
/// does so with its next report.
const REBIND: Duration = Duration::from_secs(60);

/// Most keys in one report of buckets; a region has a few hundred at most.
const MAX_BUCKET_KEYS: usize = 16_384;
/// Most bytes of keys in one report of buckets.
const MAX_BUCKET_BYTES: usize = 1 << 20;

/// The metrics of one store's heartbeats, looked up once.
struct Counters {
    received: IntCounter,
    ok: IntCounter,
    refused: IntCounter,
    bound: IntCounter,
    no_peer: IntCounter,
    no_leader: IntCounter,
    invalid: IntCounter,
    seconds: Histogram,
    age: Histogram,
    /// Of all stores: reports that changed the index, and those that changed the cache on disk.
    updates: [IntCounter; 2],
}

impl Counters {
    fn new(app: &App, address: &str, store: StoreId) -> Self {
        let metrics = &app.metrics.heartbeats;
        let store = store.to_string();
        let count =
            |status: HeartbeatStatus| metrics.region.with_label_values(&[address, &store, "report", status.as_str()]);
        Self {
            received: count(HeartbeatStatus::Recv),
            ok: count(HeartbeatStatus::Ok),
            refused: count(HeartbeatStatus::Err),
            bound: count(HeartbeatStatus::Bind),
            no_peer: count(HeartbeatStatus::NoPeer),
            no_leader: count(HeartbeatStatus::InvalidLeader),
            invalid: count(HeartbeatStatus::InvalidRegion),
            seconds: metrics.region_seconds.with_label_values(&[address, &store]),
            age: metrics.region_age_seconds.with_label_values(&[address, &store]),
            updates: [RegionEvent::UpdateCache, RegionEvent::UpdateKv]
                .map(|event| app.metrics.regions.event.with_label_values(&[event.as_str()])),
        }
    }
}

/// A store whose leaders report on this stream.
struct Bound {
    store: StoreId,
    since: Mono,
    /// Streams that stores had lost by then, see [`crate::api::HeartbeatStreams::losses`].
    losses: u64,
    counters: Counters,
}

/// One open stream.
struct Heartbeats {
    app: Arc<App>,
    requests: Streaming<pdpb::RegionHeartbeatRequest>,
    stream: u64,
    queue: mpsc::Sender<StreamItem>,
    commands: mpsc::Receiver<StreamItem>,
    /// Nearly always one.
    bound: Vec<Bound>,
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        for bound in &self.bound {
            self.app.streams.unbind(bound.store, self.stream);
        }
    }
}

/// What a heartbeat comes to.
enum Next {
    /// Nothing to say.
    Silent,
    /// An answer, and the stream goes on.
    Answer(Box<pdpb::RegionHeartbeatResponse>),
    /// An answer, and the stream ends.
    Last(Box<pdpb::RegionHeartbeatResponse>),
}

/// `RegionHeartbeat`.
pub(super) fn serve(
    app: Arc<App>,
    requests: Streaming<pdpb::RegionHeartbeatRequest>,
) -> Answers<pdpb::RegionHeartbeatResponse> {
    let (queue, commands) = mpsc::channel(COMMAND_QUEUE);
    let stream = app.streams.next_stream();
    let open = Heartbeats { app, requests, stream, queue, commands, bound: vec![] };
    Box::pin(futures::stream::unfold(Some(open), async |open| {
        let mut open = open?;
        match open.next().await? {
            (Ok(answer), false) => Some((Ok(answer), Some(open))),
            (last, _) => Some((last, None)),
        }
    }))
}

impl Heartbeats {
    /// The next message for the node and whether it is the last; `None` when the node has ended its side.
    async fn next(&mut self) -> Option<(StreamItem, bool)> {
        let closing = self.app.closing.clone();
        let mut closed = pin!(closing.cancelled());
        loop {
            // One node that talks without a pause must not keep others from the thread.
            tokio::task::consume_budget().await;
            let request = tokio::select! {
                biased;
                () = &mut closed => return Some((Err(header::closing()), true)),
                Some(item) = self.commands.recv() => {
                    let last = item.is_err();
                    return Some((item, last));
                }
                request = self.requests.message() => request,
            };
            let next = match request {
                Ok(Some(request)) => self.handle(&request),
                Ok(None) => return None,
                Err(status) => Err(status),
            };
            match next {
                Ok(Next::Silent) => {}
                Ok(Next::Answer(answer)) => return Some((Ok(*answer), false)),
                Ok(Next::Last(answer)) => return Some((Ok(*answer), true)),
                Err(status) => return Some((Err(status), true)),
            }
        }
    }

    /// One heartbeat, in PD's order of checks.
    fn handle(&mut self, request: &pdpb::RegionHeartbeatRequest) -> Result<Next, Status> {
        if !self.app.is_bootstrapped() {
            let error = header_error(pdpb::ErrorType::NotBootstrapped, ApiError::NotBootstrapped.to_string());
            return Ok(Next::Last(Box::new(header::refusal(&self.app, error))));
        }
        header::check_request(&self.app, request)?;
        let app = self.app.clone();
        let now = app.now();
        let counters = self.bind(StoreId(request.leader.as_ref().map_or(0, |l| l.store_id)), now.mono)?;
        counters.received.inc();
        let ended = request.interval.as_ref().map_or(0, |i| i.end_timestamp);
        counters.age.observe(age_seconds(now.wall.unix_seconds(), ended));
        let region = match convert::region_from_heartbeat(request, now.mono) {
            Ok(region) => region,
            Err(error) => {
                let leads = |peer: &metapb::Peer| request.leader.as_ref().is_some_and(|leader| leader.id == peer.id);
                match request.region.as_ref().filter(|r| r.id != 0) {
                    Some(region) if region.peers.is_empty() => {
                        counters.no_peer.inc();
                        lines::no_peers(&app.log, region);
                    }
                    Some(region) if !region.peers.iter().any(leads) => counters.no_leader.inc(),
                    Some(_) | None => counters.invalid.inc(),
                }
                return Ok(refused(&app, request, error.to_string()));
            }
        };
        let highest = region.meta.highest_id();
        match app.hear(region, now) {
            Ok(changes) => {
                app.meta.show_id(highest);
                counters.ok.inc();
                let changed = [changes != Changes::default(), changes.save];
                counters.updates.iter().zip(changed).filter(|(_, counts)| *counts).for_each(|(c, _)| c.inc());
                counters.seconds.observe(app.now().mono.since(now.mono).as_secs_f64());
                Ok(Next::Silent)
            }
            // The node finds who leads, and reports there.
            Err(error @ HeartbeatError::NotLeading) => {
                counters.refused.inc();
                Err(Status::unavailable(error.to_string()))
            }
            Err(error) => {
                counters.refused.inc();
                Ok(refused(&app, request, heartbeat_error(request, &error)))
            }
        }
    }

    /// Makes this the stream of `store` when it was not, and from time to time again; an unknown store ends the stream.
    fn bind(&mut self, store: StoreId, now: Mono) -> Result<&Counters, Status> {
        let known = self.bound.iter().position(|b| b.store == store);
        let losses = self.app.streams.losses();
        let holds = |bound: &Bound| bound.losses == losses && now.since(bound.since) < REBIND;
        let at = match known {
            Some(at) if holds(&self.bound[at]) => return Ok(&self.bound[at].counters),
            other => other,
        };
        let Some(info) = self.app.cluster.stores().get(store) else {
            return Err(Status::unknown(format!("invalid store ID {store}, not found")));
        };
        let counters = Counters::new(&self.app, &info.record.address, store);
        counters.bound.inc();
        self.app.streams.bind(store, self.stream, &self.queue);
        let bound = Bound { store, since: now, losses, counters };
        let at = match at {
            Some(at) => {
                self.bound[at] = bound;
                at
            }
            None => {
                self.bound.push(bound);
                self.bound.len() - 1
            }
        };
        Ok(&self.bound[at].counters)
    }
}

/// The age of a report made at `ended` (Unix seconds).
fn age_seconds(now: i64, ended: u64) -> f64 {
    let age = now.saturating_sub(i64::try_from(ended).unwrap_or(i64::MAX));
    // Seconds are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let age = age as f64;
    age
}

/// An error for one heartbeat; the stream goes on.
fn refused(app: &App, request: &pdpb::RegionHeartbeatRequest, text: String) -> Next {
    let header = header::header(app, Some(header_error(pdpb::ErrorType::Unknown, text)));
    Next::Answer(Box::new(pdpb::RegionHeartbeatResponse {
        header: Some(header),
        target_peer: request.leader,
        ..Default::default()
    }))
}

/// PD's text; what the node sent prints as it was sent.
fn heartbeat_error(request: &pdpb::RegionHeartbeatRequest, error: &HeartbeatError) -> String {
    match (error, &request.region) {
        (HeartbeatError::Stale(stale), Some(region)) => {
            let origin = compact("metapb.Region", &convert::region_meta_to_wire(&stale.origin.meta));
            format!("region is stale: region {} origin {origin}", compact("metapb.Region", region))
        }
        _ => error.to_string(),
    }
}

/// `ReportBuckets`. (PD shows buckets only where the nodes' own configuration turns them on; elsewhere nodes report none.)
pub(super) async fn report_buckets(
    app: &App,
    mut requests: Streaming<pdpb::ReportBucketsRequest>,
) -> Result<pdpb::ReportBucketsResponse, Status> {
    while let Some(request) = requests.message().await? {
        if !app.is_bootstrapped() {
            let error = header_error(pdpb::ErrorType::NotBootstrapped, ApiError::NotBootstrapped.to_string());
            return Ok(header::refusal(app, error));
        }
        header::check_request(app, &request)?;
        if let Some(report) = &request.buckets {
            take_buckets(app, report)?;
        }
    }
    header::answer(app, Ok(pdpb::ReportBucketsResponse::default()))
}

/// Takes one report of buckets in.
fn take_buckets(app: &App, report: &metapb::Buckets) -> Result<(), Status> {
    let too_many = |what: &str, count: usize, most: usize| {
        Err(Status::invalid_argument(format!("too many bucket {what}: {count}, the most is {most}")))
    };
    let bytes = report.keys.iter().map(|key| key.len()).sum();
    if report.keys.len() > MAX_BUCKET_KEYS {
        return too_many("keys", report.keys.len(), MAX_BUCKET_KEYS);
    }
    if bytes > MAX_BUCKET_BYTES {
        return too_many("bytes", bytes, MAX_BUCKET_BYTES);
    }
    let id = RegionId(report.region_id);
    let Some(buckets) = convert::buckets(report) else { return Ok(()) };
    let metrics = &app.metrics.regions;
    let index = app.cluster.regions();
    let info = index.get(id).and_then(|r| r.leader_store()).and_then(|store| app.cluster.stores().get(store));
    let count = |status| {
        if let Some(info) = &info {
            let store = info.id().to_string();
            metrics.bucket_report.with_label_values(&[info.record.address.as_str(), &store, "report", status]).inc();
        }
    };
    count("recv");
    let event = match index.put_buckets(id, buckets) {
        BucketReport::Unknown => "region_cache_miss",
        BucketReport::Stale => "version_stale",
        BucketReport::SameBorders => "version_no_change",
        BucketReport::Taken => "update_success",
    };
    metrics.bucket_event.with_label_values(&[event]).inc();
    count("ok");
    Ok(())
}
