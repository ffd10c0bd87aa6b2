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

/// Time between two calls of one client.
const PACE: Duration = Duration::from_millis(5);

/// The balancer; it ends with this.
struct Balancer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Balancer {
    /// Starts it before these members; `None`: it is not installed here.
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
    calls: Arc<[AtomicU64; 4]>,
    failed: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What is called: on a connection of its own each, but for the last.
#[derive(Clone, Copy, Debug)]
enum Call {
    Read,
    Write,
    Grpc,
    GrpcKept,
}

impl Callers {
    fn start(url: &str) -> Self {
        let calls: Arc<[AtomicU64; 4]> = Arc::default();
        let failed: Arc<Mutex<Vec<String>>> = Arc::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for call in [Call::Read, Call::Write, Call::Grpc, Call::GrpcKept] {
            let (url, calls, failed, stop) = (url.to_owned(), Arc::clone(&calls), Arc::clone(&failed), stop.clone());
            tasks.spawn(async move {
                let kept = PdClient::connect(url.clone()).await.unwrap();
                let mut number = 0;
                while !stop.is_cancelled() {
                    number += 1;
                    match once(call, &url, kept.clone(), number).await {
                        Ok(()) => _ = calls[call as usize].fetch_add(1, Ordering::Relaxed),
                        Err(error) => failed.lock().push(format!("{call:?} {number}: {error}")),
                    }
                    sleep(PACE).await;
                }
            });
        }
        Self { calls, failed, stop, tasks }
    }

    fn counts(&self) -> [u64; 4] {
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

    async fn end(mut self) -> ([u64; 4], Vec<String>) {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        (self.counts(), std::mem::take(&mut *self.failed.lock()))
    }
}

async fn once(call: Call, url: &str, mut kept: PdClient<tonic::transport::Channel>, number: u64) -> Result<(), String> {
    let http = HttpClient::new(url).unwrap();
    let members = pdpb::GetMembersRequest::default();
    match call {
        Call::Read => http.get("/pd/api/v1/config").await.map(drop).map_err(|e| e.to_string()),
        Call::Write => {
            let change = json!({ "leader-schedule-limit": 4 + number % 4 });
            http.post("/pd/api/v1/config", &change).await.map(drop).map_err(|e| e.to_string())
        }
        Call::Grpc => {
            let mut client = PdClient::connect(url.to_owned()).await.map_err(|e| format!("{e:?}"))?;
            client.get_members(members).await.map(drop).map_err(|e| format!("{e:?}"))
        }
        Call::GrpcKept => match kept.get_members(members.clone()).await {
            // It was never sent, since the connection had just ended; PD's clients try that again by themselves.
            Err(status) if status.code() == tonic::Code::Cancelled => kept.get_members(members).await,
            answer => answer,
        }
        .map(drop)
        .map_err(|e| format!("{e:?}")),
    }
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
    let (counts, failed) = callers.end().await;
    println!("{counts:?} calls (reads, writes, gRPC, gRPC on one connection), {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}
