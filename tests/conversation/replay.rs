//! A fresh server without timers, on virtual time, to which recorded messages are sent over its socket.

use std::{collections::HashMap, sync::Arc, time::Duration};

use berth::{
    model::{Clock as _, RegionId, Wall},
    proto::pdpb::{self, pd_client::PdClient},
    server::Server,
    telemetry::log::Logger,
};
use parking_lot::Mutex;
use prost::Message;
use serde_json::Value;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::recording::{Call, Line};
use crate::common::{clock::TestClock, facts, http, server::config};

/// Virtual time between two ticks of the server, unless a test wants others.
const TICK: Duration = Duration::from_millis(100);
/// How long, on the real clock, the server may take for one message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ids that may have been handed out between two recorded calls.
const MAX_UNRECORDED_IDS: u64 = 10_000;

/// One heartbeat stream.
struct Stream {
    requests: mpsc::Sender<pdpb::RegionHeartbeatRequest>,
    answers: Arc<Mutex<Vec<Result<pdpb::RegionHeartbeatResponse, Status>>>>,
}

/// What the server answered to one message.
#[derive(Default, Debug)]
pub(crate) struct Answer {
    /// The error in its header.
    pub(crate) error: Option<pdpb::Error>,
    /// What it is made of, for the methods of which a test wants to know.
    pub(crate) said: Said,
}

/// See [`Answer::said`].
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// Nothing to compare.
    #[default]
    Nothing,
    /// `AllocID`: the id.
    Id(u64),
    /// `AskBatchSplit`: new region and its peers.
    Split(Vec<(u64, Vec<u64>)>),
    /// `StoreHeartbeat`: the store's node state.
    State(i32),
}

/// See the module's comment.
pub(crate) struct Replay {
    /// The server.
    pub(crate) server: Server,
    /// Its clock.
    pub(crate) clock: Arc<TestClock>,
    /// A client of it.
    pub(crate) pd: PdClient<Channel>,
    health: HealthClient<Channel>,
    streams: HashMap<u64, Stream>,
    /// Virtual time between two ticks of the server.
    pub(crate) period: Duration,
    ticked: Duration,
    /// The last id that was handed out.
    last_id: u64,
    _folder: tempfile::TempDir,
}

/// Decodes a recorded request for this cluster, sends it and takes the error out of the answer's header.
macro_rules! call {
    ($replay:ident, $line:ident, $method:ident: $Request:ident) => {{
        let mut request = pdpb::$Request::decode(&$line.body[..]).unwrap();
        if let Some(header) = request.header.as_mut() {
            header.cluster_id = $replay.cluster_id();
        }
        let answer = $replay.pd.$method(request).await?.into_inner();
        (answer.header.clone().expect("a header").error, answer)
    }};
}

impl Replay {
    /// A fresh server; `began` is the wall time at which the recording starts.
    pub(crate) async fn start(began: Wall) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::standing(began));
        let server = Server::start_untimed(config(folder.path()), Logger::none(), clock.clone()).await.unwrap();
        let channel = Channel::from_shared(format!("http://{}", server.addr())).unwrap().connect().await.unwrap();
        Self {
            server,
            clock,
            pd: PdClient::new(channel.clone()),
            health: HealthClient::new(channel),
            streams: HashMap::new(),
            period: TICK,
            ticked: Duration::ZERO,
            last_id: 0,
            _folder: folder,
        }
    }

    /// The id of its cluster.
    pub(crate) fn cluster_id(&self) -> u64 {
        self.server.app.meta.cluster_id().0
    }

    /// Lets virtual time pass, with the ticks that are due. No two moments are the same, so that each report can be told from the one
    /// before.
    pub(crate) async fn advance(&mut self, to: Duration) {
        while self.ticked + self.period <= to {
            self.ticked += self.period;
            self.clock.move_to(self.ticked.max(self.clock.moved()));
            self.server.tick().await;
        }
        self.clock.move_to(to.max(self.clock.moved() + Duration::from_nanos(1)));
    }

    /// Makes an HTTP call at its time; returns the answer's JSON.
    pub(crate) async fn http(&mut self, call: &Call) -> Value {
        self.advance(call.at).await;
        let request = facts::unrecorded(&format!("{} {} {}", call.method, call.target, call.body));
        let answer = http::send(self.server.addr(), &request).await;
        assert_eq!(answer.status, 200, "{call:?}: {}", answer.text());
        serde_json::from_str(&answer.text()).unwrap_or_default()
    }

    /// Sends a message at its time and waits until it is answered or taken in.
    pub(crate) async fn send(&mut self, line: &Line) -> Result<Answer, Status> {
        self.advance(line.at).await;
        let plain = |error| Answer { error, said: Said::Nothing };
        Ok(match line.method.rsplit('/').next().unwrap() {
            "Check" => {
                let request = HealthCheckRequest::decode(&line.body[..]).unwrap();
                self.health.check(request).await?;
                Answer::default()
            }
            "AllocID" => {
                let (error, answer) = call!(self, line, alloc_id: AllocIdRequest);
                self.last_id = answer.id;
                Answer { error, said: Said::Id(answer.id) }
            }
            "AskBatchSplit" => {
                let (error, answer) = call!(self, line, ask_batch_split: AskBatchSplitRequest);
                let given = answer.ids.iter().flat_map(|ids| ids.new_peer_ids.iter().chain([&ids.new_region_id]));
                self.last_id = given.copied().fold(self.last_id, u64::max);
                Answer { error, said: split_ids(&answer) }
            }
            "StoreHeartbeat" => {
                let (error, answer) = call!(self, line, store_heartbeat: StoreHeartbeatRequest);
                Answer { error, said: Said::State(answer.state) }
            }
            "Bootstrap" => plain(call!(self, line, bootstrap: BootstrapRequest).0),
            "GetClusterInfo" => plain(call!(self, line, get_cluster_info: GetClusterInfoRequest).0),
            "GetGCSafePoint" => plain(call!(self, line, get_gc_safe_point: GetGcSafePointRequest).0),
            "GetMembers" => plain(call!(self, line, get_members: GetMembersRequest).0),
            "GetRegion" => plain(call!(self, line, get_region: GetRegionRequest).0),
            "GetStore" => plain(call!(self, line, get_store: GetStoreRequest).0),
            "IsBootstrapped" => plain(call!(self, line, is_bootstrapped: IsBootstrappedRequest).0),
            "PutStore" => plain(call!(self, line, put_store: PutStoreRequest).0),
            "ReportBatchSplit" => plain(call!(self, line, report_batch_split: ReportBatchSplitRequest).0),
            "Tso" => plain(self.tso(line).await?),
            "RegionHeartbeat" => plain(self.heartbeat(line).await?),
            other => panic!("{other} is not among the methods of this test"),
        })
    }

    async fn tso(&mut self, line: &Line) -> Result<Option<pdpb::Error>, Status> {
        let mut request = pdpb::TsoRequest::decode(&line.body[..]).unwrap();
        request.header.as_mut().unwrap().cluster_id = self.cluster_id();
        let mut answers = self.pd.tso(tokio_stream::once(request)).await?.into_inner();
        let answer = answers.message().await?.expect("an answer");
        assert_eq!(answer.count, 1);
        Ok(answer.header.unwrap().error)
    }

    /// A heartbeat is not answered: it is over when the index shows it, or the stream tells of an error.
    async fn heartbeat(&mut self, line: &Line) -> Result<Option<pdpb::Error>, Status> {
        let mut request = pdpb::RegionHeartbeatRequest::decode(&line.body[..]).unwrap();
        request.header.as_mut().unwrap().cluster_id = self.cluster_id();
        let (now, id) = (self.clock.now().mono, RegionId(request.region.as_ref().unwrap().id));
        if !self.streams.contains_key(&line.stream) {
            let stream = open(self.pd.clone());
            self.streams.insert(line.stream, stream);
        }
        let stream = &self.streams[&line.stream];
        stream.requests.send(request).await.map_err(|_| Status::unavailable("the stream has ended"))?;
        let end = Instant::now() + PATIENCE;
        loop {
            if self.server.app.cluster.regions().get(id).is_some_and(|r| r.heard == Some(now)) {
                return Ok(None);
            }
            for answer in std::mem::take(&mut *stream.answers.lock()) {
                if let Some(error) = answer?.header.unwrap().error {
                    return Ok(Some(error));
                }
            }
            assert!(Instant::now() < end, "the report of region {id} at {:?} was not taken in", line.at);
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    /// Takes the ids that others took before the recorded answer `next` was given: they are left out of the recording.
    pub(crate) async fn skip_ids(&mut self, next: u64) {
        assert!(next < self.last_id + MAX_UNRECORDED_IDS, "too many ids before {next}");
        while self.last_id + 1 < next {
            let header = pdpb::RequestHeader { cluster_id: self.cluster_id(), ..pdpb::RequestHeader::default() };
            let request = pdpb::AllocIdRequest { header: Some(header), ..pdpb::AllocIdRequest::default() };
            self.last_id = self.pd.alloc_id(request).await.unwrap().into_inner().id;
        }
    }
}

fn open(mut pd: PdClient<Channel>) -> Stream {
    let (requests, receiver) = mpsc::channel(64);
    let answers = Arc::<Mutex<Vec<_>>>::default();
    let taken = answers.clone();
    tokio::spawn(async move {
        let mut stream = match pd.region_heartbeat(ReceiverStream::new(receiver)).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return taken.lock().push(Err(status)),
        };
        while let Some(answer) = stream.message().await.transpose() {
            taken.lock().push(answer);
        }
    });
    Stream { requests, answers }
}

/// What an `AskBatchSplit` was given.
pub(crate) fn split_ids(answer: &pdpb::AskBatchSplitResponse) -> Said {
    Said::Split(answer.ids.iter().map(|id| (id.new_region_id, id.new_peer_ids.clone())).collect())
}
