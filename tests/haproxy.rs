//! Clients behind a real HAProxy with the configuration of `deploy/`: members are stopped one after the other, and no call fails.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub mod group;
    pub mod nodes;
    pub mod process;
}

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::http::HttpClient,
};
use common::{
    group::{Group, PATIENCE},
    nodes::eventually,
    process::free_port,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Time between two calls of one client.
const PACE: Duration = Duration::from_millis(5);
/// Calls for the leader that met a member which leads no more are made again after a new look for it, as PD's clients do: so often, so
/// long apart.
const TRIES: u32 = 6;
const RETRY: Duration = Duration::from_millis(500);
/// With this set to 1 there need be no haproxy where everything else must be there.
const MAY_SKIP: &str = "BERTH_SKIP_HAPROXY";
/// By this name a call asks to be passed on to the leader.
const FORWARDED_HOST: &str = "pd-forwarded-host";
/// Bits of the logical part of a timestamp.
const LOGICAL_BITS: u32 = 18;

/// The balancer; it ends with this.
struct Balancer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Balancer {
    /// Starts it before these members; `None`: it is not installed here, and need not be.
    fn start(group: &Group) -> Option<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy/haproxy.cfg");
        let mut config = std::fs::read_to_string(file).unwrap();
        let port = free_port();
        let mut put = |from: &str, to: String| {
            assert!(config.contains(from), "{from}");
            config = config.replace(from, &to);
        };
        put("bind 127.0.0.1:2379", format!("bind 127.0.0.1:{port}"));
        for (number, seat) in group.seats.iter().enumerate() {
            put(&format!("10.0.0.{}:2379", number + 1), format!("127.0.0.1:{}", seat.home.port));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(path).stdin(Stdio::null());
        match command.spawn() {
            Ok(process) => Some(Self { process, port, _folder: folder }),
            Err(error) => {
                let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
                assert!(
                    !is("CI", "true") || is(MAY_SKIP, "1"),
                    "haproxy does not start here: {error}; {MAY_SKIP}=1 goes on without it"
                );
                println!("skipped: haproxy does not start here: {error}");
                None
            }
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Clients that call without a pause, and what failed.
struct Callers {
    calls: Arc<[AtomicU64; CALLS.len()]>,
    /// Calls for the leader that were made again.
    again: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What is called: on a connection of its own each, but for `GrpcKept`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Read,
    Write,
    Grpc,
    GrpcKept,
    Timestamp,
    Id,
}

const CALLS: [Call; 6] = [Call::Read, Call::Write, Call::Grpc, Call::GrpcKept, Call::Timestamp, Call::Id];

impl Callers {
    fn start(url: &str) -> Self {
        let calls: Arc<[AtomicU64; CALLS.len()]> = Arc::default();
        let (again, failed) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<String>>>::default());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for call in CALLS {
            let (url, calls, failed, stop) = (url.to_owned(), Arc::clone(&calls), Arc::clone(&failed), stop.clone());
            let again = Arc::clone(&again);
            tasks.spawn(async move {
                let kept = PdClient::connect(url.clone()).await.unwrap();
                let (mut number, mut last) = (0, 0);
                while !stop.is_cancelled() {
                    number += 1;
                    match once(call, &url, kept.clone(), number, &again).await {
                        Ok(given) => {
                            let rises = given > last || !matches!(call, Call::Timestamp | Call::Id);
                            assert!(rises, "{call:?} {number}: {given} comes after {last}");
                            last = given;
                            calls[call as usize].fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => failed.lock().push(format!("{call:?} {number}: {error}")),
                    }
                    sleep(PACE).await;
                }
            });
        }
        Self { calls, again, failed, stop, tasks }
    }

    fn counts(&self) -> [u64; CALLS.len()] {
        std::array::from_fn(|at| self.calls[at].load(Ordering::Relaxed))
    }

    /// Waits until each has made some more calls.
    async fn some(&self) {
        let before = self.counts();
        eventually("calls are answered", PATIENCE, || async {
            self.counts().iter().zip(before).all(|(now, before)| *now > before + 20).then_some(())
        })
        .await;
    }

    async fn end(mut self) -> ([u64; CALLS.len()], Vec<String>) {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        (self.counts(), std::mem::take(&mut *self.failed.lock()))
    }
}

/// One call; of timestamps and ids what was given.
async fn once(
    call: Call,
    url: &str,
    mut kept: PdClient<Channel>,
    number: u64,
    again: &AtomicU64,
) -> Result<u64, String> {
    let http = HttpClient::new(url).unwrap();
    let members = pdpb::GetMembersRequest::default();
    match call {
        Call::Read => http.get("/pd/api/v1/config").await.map(|_| 0).map_err(|e| e.to_string()),
        Call::Write => {
            let change = json!({ "leader-schedule-limit": 4 + number % 4 });
            http.post("/pd/api/v1/config", &change).await.map(|_| 0).map_err(|e| e.to_string())
        }
        Call::Grpc => {
            let mut client = connect(url).await?;
            client.get_members(members).await.map(|_| 0).map_err(|e| format!("{e:?}"))
        }
        Call::GrpcKept => match kept.get_members(members.clone()).await {
            // It was never sent, since the connection had just ended; PD's clients try that again by themselves.
            Err(status) if status.code() == tonic::Code::Cancelled => kept.get_members(members).await,
            answer => answer,
        }
        .map(|_| 0)
        .map_err(|e| format!("{e:?}")),
        Call::Timestamp | Call::Id => {
            for _ in 1..TRIES {
                match of_leader(call, url).await {
                    Err(error) if error.contains("not leader") => _ = again.fetch_add(1, Ordering::Relaxed),
                    answer => return answer,
                }
                sleep(RETRY).await;
            }
            of_leader(call, url).await
        }
    }
}

async fn connect(url: &str) -> Result<PdClient<Channel>, String> {
    PdClient::connect(url.to_owned()).await.map_err(|e| format!("{e:?}"))
}

/// A call that the leader alone answers: whichever member the balancer finds passes it on.
async fn of_leader(call: Call, url: &str) -> Result<u64, String> {
    fn to<T>(leader: &str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert(FORWARDED_HOST, leader.parse().unwrap());
        request
    }
    let text = |e: tonic::Status| format!("{e:?}");
    let mut client = connect(url).await?;
    let members = client.get_members(pdpb::GetMembersRequest::default()).await.map_err(text)?.into_inner();
    let leader = members.leader.and_then(|m| m.client_urls.into_iter().next()).ok_or("not leader: there is none")?;
    let cluster_id = members.header.unwrap().cluster_id;
    let header = Some(pdpb::RequestHeader { cluster_id, ..pdpb::RequestHeader::default() });
    if call == Call::Id {
        let request = to(&leader, pdpb::AllocIdRequest { header, count: 1 });
        return Ok(client.alloc_id(request).await.map_err(text)?.into_inner().id);
    }
    let ask = pdpb::TsoRequest { header, count: 1, ..pdpb::TsoRequest::default() };
    let mut answers = client.tso(to(&leader, tokio_stream::once(ask))).await.map_err(text)?.into_inner();
    let answer = answers.message().await.map_err(text)?.ok_or("the stream ended without an answer")?;
    let given = answer.timestamp.unwrap();
    Ok(((given.physical as u64) << LOGICAL_BITS) + given.logical as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_behind_a_balancer_while_members_are_stopped_in_turn() {
    let mut group = Group::start(3, &[]).await;
    let Some(balancer) = Balancer::start(&group) else { return };
    let http = HttpClient::new(&balancer.url()).unwrap();
    eventually("the balancer answers", PATIENCE, || async { http.get("/pd/api/v1/version").await.ok() }).await;
    let callers = Callers::start(&balancer.url());
    callers.some().await;
    // Followers and the leader, wherever it is by then.
    for seat in [0, 1, 2, group.leader().await] {
        group.stop(seat).await;
        callers.some().await;
        group.spawn(seat);
        group.leader().await;
        let ready = group.seats[seat].home.http();
        eventually("it is ready", PATIENCE, || async { ready.get("/pd/api/v2/readyz").await.ok() }).await;
        callers.some().await;
    }
    let again = Arc::clone(&callers.again);
    let (counts, failed) = callers.end().await;
    println!(
        "{counts:?} calls ({CALLS:?}), {again:?} made again since the leader had changed, {} failed",
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}
