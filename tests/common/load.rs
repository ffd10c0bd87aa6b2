//! Clients that never stop asking: each remembers what it was told, over every crash of the server, and checks it.
//!
//! A write is acknowledged when its answer has come. The value read back afterwards must be the last acknowledged one, or one
//! that got no answer: such a try may have been made or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::http::HttpClient,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Time between two requests of one client: the server shares two cores with everything else.
const PACE: Duration = Duration::from_millis(4);
/// Time between two tries to reach a server that is down.
const RETRY: Duration = Duration::from_millis(20);
/// How long a client waits for one answer before it looks for another leader.
const CALL: Duration = Duration::from_secs(1);
/// How long clients may be without an answer on a slow machine.
const SERVED: Duration = Duration::from_secs(60);
/// Timestamps and ids asked for at once.
const AT_ONCE: u32 = 10;
/// Beyond all safe points that are set.
const FREE: u64 = 1 << 60;
/// Bits of the logical part of a timestamp.
const LOGICAL_BITS: u32 = 18;

/// One answer with timestamps.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    asked: Instant,
    answered: Instant,
    first: u64,
    last: u64,
}

/// What the clients were told.
#[derive(Default)]
struct History {
    stamps: Vec<Stamp>,
    ids: Vec<u64>,
    writes: BTreeMap<Kind, u64>,
    reads: u64,
    errors: u64,
    most_tries: u32,
}

/// Longest time in which no client got a timestamp; only times between two answers count.
fn longest_silence(stamps: &[Stamp]) -> Duration {
    let mut answers: Vec<Instant> = stamps.iter().map(|s| s.answered).collect();
    answers.sort_unstable();
    answers.windows(2).map(|w| w[1] - w[0]).max().unwrap_or_default()
}

/// How much was asked, for the test to see that it was enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Answers with timestamps.
    pub timestamps: usize,
    /// Ids.
    pub ids: usize,
    /// Acknowledged writes.
    pub writes: u64,
    /// Values read back and found right.
    pub reads: u64,
    /// Tries that failed since no server was there to answer.
    pub errors: u64,
    /// How many tries failed before one call was answered, at most.
    pub most_tries: u32,
    /// Longest time in which no client got a timestamp.
    pub silence: Duration,
}

/// Running clients.
pub struct Load {
    kinds: Vec<Kind>,
    history: Arc<Mutex<History>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What one client needs.
#[derive(Clone)]
struct Client {
    /// All members.
    urls: Vec<String>,
    cluster: u64,
    history: Arc<Mutex<History>>,
    stop: CancellationToken,
    /// Tries of the present call that failed.
    tries: u32,
}

/// A kind of write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Config,
    Label,
    Limit,
    SafePoint,
}

impl Load {
    /// Starts the clients on a server that is alone.
    pub async fn start(url: &str) -> Self {
        Self::start_on(&[url.to_owned()]).await
    }

    /// Starts two clients for timestamps, one for ids, and one for each kind of write. The cluster must have a store 1. Each asks the
    /// member that leads, and looks for it among `urls`.
    pub async fn start_on(urls: &[String]) -> Self {
        Self::start_with(urls, &[Kind::Config, Kind::Label, Kind::Limit, Kind::SafePoint]).await
    }

    /// As [`Self::start_on`], but the GC safe point is left to others: there is only one.
    pub async fn start_without_safe_point(urls: &[String]) -> Self {
        Self::start_with(urls, &[Kind::Config, Kind::Label, Kind::Limit]).await
    }

    async fn start_with(urls: &[String], kinds: &[Kind]) -> Self {
        let mut client = Client {
            urls: urls.to_vec(),
            cluster: 0,
            history: Arc::default(),
            stop: CancellationToken::new(),
            tries: 0,
        };
        let (mut grpc, _) = client.connect().await.expect("a server that leads");
        let members = grpc.get_members(pdpb::GetMembersRequest::default()).await.expect("members").into_inner();
        client.cluster = members.header.expect("a header").cluster_id;
        if kinds.contains(&Kind::SafePoint) {
            free_safe_point(&mut grpc, client.cluster).await.expect("a safe point that may be raised");
        }
        let (history, stop) = (client.history.clone(), client.stop.clone());
        let mut tasks = JoinSet::new();
        for _ in 0..2 {
            tasks.spawn(client.clone().ask_timestamps());
        }
        tasks.spawn(client.clone().ask_ids());
        for kind in kinds {
            tasks.spawn(client.clone().write(*kind));
        }
        Self { kinds: kinds.to_vec(), history, stop, tasks }
    }

    /// Waits until clients were answered once more from here on: with timestamps, ids and writes.
    pub async fn served(&self) {
        let before = self.totals();
        let answered = async {
            loop {
                let now = self.totals();
                if now.timestamps > before.timestamps && now.ids > before.ids && now.writes > before.writes {
                    return;
                }
                sleep(RETRY).await;
            }
        };
        timeout(SERVED, answered).await.expect("clients are served");
    }

    /// How much was asked so far.
    pub fn totals(&self) -> Totals {
        let history = self.history.lock();
        totals(&history)
    }

    /// Longest time since `moment` in which no client got a timestamp.
    pub fn silence_since(&self, moment: Instant) -> Duration {
        let history = self.history.lock();
        let mut stamps: Vec<Stamp> = history.stamps.iter().filter(|s| s.answered >= moment).copied().collect();
        stamps.sort_unstable_by_key(|s| s.answered);
        let first = stamps.first().map(|s| s.answered - moment).unwrap_or_default();
        longest_silence(&stamps).max(first)
    }

    /// Ends the clients and checks what they were told. Returns the totals and all ids.
    pub async fn end(mut self) -> (Totals, BTreeSet<u64>) {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.expect("a client found nothing wrong");
        }
        let history = std::mem::take(&mut *self.history.lock());
        for kind in &self.kinds {
            assert!(history.writes.contains_key(kind), "no write of {kind:?} was acknowledged");
        }
        check_timestamps(history.stamps.clone());
        let ids: BTreeSet<u64> = history.ids.iter().copied().collect();
        assert_eq!(ids.len(), history.ids.len(), "D1: an id was given twice");
        (totals(&history), ids)
    }
}

fn totals(history: &History) -> Totals {
    Totals {
        timestamps: history.stamps.len(),
        ids: history.ids.len(),
        writes: history.writes.values().sum(),
        reads: history.reads,
        errors: history.errors,
        most_tries: history.most_tries,
        silence: longest_silence(&history.stamps),
    }
}

/// T1: every timestamp is greater than each that was answered before it was asked for.
fn check_timestamps(mut stamps: Vec<Stamp>) {
    let mut by_answer = stamps.clone();
    by_answer.sort_by_key(|s| s.answered);
    stamps.sort_by_key(|s| s.asked);
    let mut before = by_answer.into_iter().peekable();
    let mut highest = 0;
    for stamp in &stamps {
        while let Some(old) = before.next_if(|old| old.answered < stamp.asked) {
            highest = highest.max(old.last);
        }
        assert!(stamp.first > highest, "T1: {stamp:?} comes after {highest}");
    }
    stamps.sort_by_key(|s| s.first);
    assert!(stamps.windows(2).all(|w| w[0].last < w[1].first), "T1: two clients got the same timestamp");
}

/// Who leads, as the member at `url` says.
pub async fn leader(url: &str) -> Option<(PdClient<Channel>, String)> {
    let mut grpc = PdClient::connect(url.to_owned()).await.ok()?;
    let members = grpc.get_members(pdpb::GetMembersRequest::default()).await.ok()?.into_inner();
    let leads = members.leader?.client_urls.into_iter().next()?;
    if leads == url {
        return Some((grpc, leads));
    }
    Some((PdClient::connect(leads.clone()).await.ok()?, leads))
}

/// The GC safe point may be raised as far as transactions let it: here, without end.
pub async fn free_safe_point(grpc: &mut PdClient<Channel>, cluster_id: u64) -> Option<()> {
    let request = pdpb::UpdateServiceGcSafePointRequest {
        header: Some(pdpb::RequestHeader { cluster_id, ..pdpb::RequestHeader::default() }),
        service_id: "gc_worker".into(),
        ttl: i64::MAX,
        safe_point: FREE,
    };
    let answer = grpc.update_service_gc_safe_point(request).await.ok()?.into_inner();
    answer.header?.error.is_none().then_some(())
}

impl Client {
    fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader { cluster_id: self.cluster, ..pdpb::RequestHeader::default() })
    }

    /// Looks for the leader as often as it takes; `None` when the load ends. The second is its URL.
    async fn connect(&mut self) -> Option<(PdClient<Channel>, String)> {
        while !self.stop.is_cancelled() {
            for url in &self.urls {
                if let Ok(Some(found)) = timeout(CALL, leader(url)).await {
                    return Some(found);
                }
            }
            self.failed().await;
        }
        None
    }

    /// A try failed: the next one is made at once, those after it when some time has passed.
    async fn failed(&mut self) {
        self.tries += 1;
        {
            let mut history = self.history.lock();
            history.errors += 1;
            history.most_tries = history.most_tries.max(self.tries);
        }
        if self.tries > 1 {
            sleep(RETRY).await;
        }
    }

    async fn ask_timestamps(mut self) {
        while let Some((mut grpc, _)) = self.connect().await {
            let (requests, queue) = mpsc::channel(1);
            let request = pdpb::TsoRequest { header: self.header(), count: AT_ONCE, ..pdpb::TsoRequest::default() };
            let mut asked = Instant::now();
            let _ = requests.send(request.clone()).await;
            let Ok(Ok(answers)) = timeout(CALL, grpc.tso(ReceiverStream::new(queue))).await else {
                self.failed().await;
                continue;
            };
            let mut answers = answers.into_inner();
            while let Ok(Ok(Some(answer))) = timeout(CALL, answers.message()).await {
                let answered = Instant::now();
                let ts = answer.timestamp.expect("a timestamp");
                let last = ((ts.physical as u64) << LOGICAL_BITS) + ts.logical as u64;
                let first = last - u64::from(answer.count) + 1;
                assert_eq!(answer.count, AT_ONCE);
                self.history.lock().stamps.push(Stamp { asked, answered, first, last });
                self.tries = 0;
                if self.stop.is_cancelled() {
                    return;
                }
                sleep(PACE).await;
                asked = Instant::now();
                if requests.send(request.clone()).await.is_err() {
                    break;
                }
            }
            self.failed().await;
        }
    }

    async fn ask_ids(mut self) {
        while let Some((mut grpc, _)) = self.connect().await {
            loop {
                let request = pdpb::AllocIdRequest { header: self.header(), count: AT_ONCE };
                let Ok(Ok(answer)) = timeout(CALL, grpc.alloc_id(request)).await else { break };
                let answer = answer.into_inner();
                if answer.header.is_some_and(|h| h.error.is_some()) {
                    break;
                }
                assert_eq!(answer.count, AT_ONCE);
                self.history.lock().ids.extend(answer.id - u64::from(AT_ONCE) + 1..=answer.id);
                self.tries = 0;
                if self.stop.is_cancelled() {
                    return;
                }
                sleep(PACE).await;
            }
            self.failed().await;
        }
    }

    /// Reads a value, checks it against what was acknowledged, writes the next one.
    async fn write(mut self, kind: Kind) {
        let (mut acknowledged, mut tried) = (0, 0);
        // Those without an answer may have been made, or be made as late as they like.
        let mut unknown = BTreeSet::new();
        while let Some((mut grpc, url)) = self.connect().await {
            let http = HttpClient::new(&url).expect("an address");
            loop {
                if self.stop.is_cancelled() {
                    return;
                }
                if tried > 0 {
                    let read = timeout(CALL, self.read_one(kind, &http, &mut grpc)).await;
                    let Ok(Some(found)) = read else { break };
                    let known = found == acknowledged || unknown.contains(&found);
                    assert!(
                        known,
                        "{kind:?} is {found}, {acknowledged} was acknowledged, {unknown:?} may have been made"
                    );
                    self.history.lock().reads += 1;
                }
                tried += 1;
                let written = timeout(CALL, self.write_one(kind, tried, &http, &mut grpc)).await;
                if !matches!(written, Ok(Some(()))) {
                    unknown.insert(tried);
                    break;
                }
                acknowledged = tried;
                *self.history.lock().writes.entry(kind).or_default() += 1;
                self.tries = 0;
                sleep(PACE).await;
            }
            self.failed().await;
        }
    }

    async fn write_one(&self, kind: Kind, n: u64, http: &HttpClient, grpc: &mut PdClient<Channel>) -> Option<()> {
        let (path, body) = match kind {
            Kind::Config => ("config", json!({ "schedule.leader-schedule-limit": n })),
            Kind::Label => ("store/1/label", json!({ "mark": n.to_string() })),
            Kind::Limit => ("store/1/limit", json!({ "type": "remove-peer", "rate": n })),
            Kind::SafePoint => {
                let request = pdpb::UpdateGcSafePointRequest { header: self.header(), safe_point: n };
                let answer = grpc.update_gc_safe_point(request).await.ok()?.into_inner();
                if answer.header.is_some_and(|h| h.error.is_some()) {
                    return None;
                }
                assert_eq!(answer.new_safe_point, n, "nobody else sets it");
                return Some(());
            }
        };
        http.post(&format!("/pd/api/v1/{path}"), &body).await.ok().map(|_| ())
    }

    async fn read_one(&self, kind: Kind, http: &HttpClient, grpc: &mut PdClient<Channel>) -> Option<u64> {
        let get = |path: &'static str| async move { http.get_json(&format!("/pd/api/v1/{path}")).await.ok() };
        match kind {
            Kind::Config => get("config/schedule").await?["leader-schedule-limit"].as_u64(),
            Kind::Label => {
                let store = get("store/1").await?;
                let labels = store["store"]["labels"].as_array().cloned().unwrap_or_default();
                let mark = labels.iter().find(|l| l["key"] == "mark");
                Some(mark.and_then(|l| l["value"].as_str()).map_or(0, |v| v.parse().expect("a number")))
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small whole numbers
            Kind::Limit => get("stores/limit").await?["1"]["remove-peer"].as_f64().map(|v| v as u64),
            Kind::SafePoint => {
                let request = pdpb::GetGcSafePointRequest { header: self.header() };
                Some(grpc.get_gc_safe_point(request).await.ok()?.into_inner().safe_point)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked and answered at these seconds, with timestamps `first` to `first + 9`.
    fn stamp(asked: u64, answered: u64, first: u64) -> Stamp {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        Stamp { asked: at(asked), answered: at(answered), first, last: first + 9 }
    }

    #[test]
    fn calls_that_overlap_may_be_answered_in_any_order() {
        check_timestamps(vec![stamp(0, 5, 100), stamp(1, 4, 50), stamp(6, 7, 110)]);
    }

    #[test]
    #[should_panic(expected = "T1: Stamp")]
    fn a_timestamp_that_goes_back_is_found() {
        check_timestamps(vec![stamp(0, 5, 100), stamp(1, 4, 50), stamp(6, 7, 105)]);
    }

    #[test]
    #[should_panic(expected = "T1: two clients")]
    fn a_timestamp_that_is_given_twice_is_found() {
        check_timestamps(vec![stamp(0, 5, 100), stamp(1, 4, 105)]);
    }
}
