//! What must be refused, refused: each row of a catalogue of bad requests is sent to a real server on a real port. After each the
//! server is alive, and what it shows of its stores, regions, configuration, rules and labels is as it was before.
//!
//! `rest.tsv` holds the HTTP rows, `grpc.rs` the calls, `stages.rs` what is refused only in a certain state, `fuzz.rs` bodies of every wrong shape for every route that takes one, and
//! `wire.rs` what is wrong below requests: endless, huge, cut and slow ones.

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
    pub(crate) mod clock;
    pub(crate) mod facts;
    pub(crate) mod http;
    pub(crate) mod raw;
    pub(crate) mod server;
}
mod refused {
    pub(crate) mod cluster;
    pub(crate) mod fuzz;
    pub(crate) mod grpc;
    pub(crate) mod stages;
    pub(crate) mod wire;
}

use common::facts::Request;
use refused::{cluster::Cluster, fuzz, grpc, stages, wire};

/// Fewer rows than this: somebody lost some.
const REST_ROWS: usize = 280;
const GRPC_ROWS: usize = 102;
const EARLY_ROWS: usize = 40;
const FUZZ_ROWS: usize = 700;
const WIRE_ROWS: usize = 22;

/// One HTTP row.
struct Row<'a> {
    section: &'a str,
    request: Request,
    status: u16,
    text: &'a str,
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let row = |line| {
        let cells: Vec<&str> = str::split(line, '\t').collect();
        let [section, method, path, body, status, text] = cells[..] else { panic!("six cells: {line}") };
        let target = if path.starts_with("/pd/") { path.to_owned() } else { format!("/pd/api/v1{path}") };
        let request = Request { method: method.into(), target, headers: vec![], body: body.into() };
        Row { section, request, status: status.parse().expect("a status"), text }
    };
    table.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_http_requests_are_refused_and_change_nothing() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refused/rest.tsv");
    let table = std::fs::read_to_string(table).expect("the table");
    let (mut cluster, rows) = (Cluster::start().await, rows(&table));
    for row in &rows {
        let answer = cluster.http(&row.request).await;
        let what = format!(
            "{} {} {} {}",
            row.section,
            row.request.method,
            row.request.target,
            String::from_utf8_lossy(&row.request.body)
        );
        let text = answer.text();
        if answer.status != row.status || !text.contains(row.text) || text.contains("panicked") {
            cluster.wrong(format!("{what}\n  want {} {}\n  got  {} {text}", row.status, row.text, answer.status));
        }
        cluster.check(&what).await;
    }
    cluster.end("HTTP", rows.len(), REST_ROWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_calls_are_refused_and_change_nothing() {
    let mut cluster = Cluster::start().await;
    let rows = grpc::rows(cluster.id);
    for row in &rows {
        let got = cluster.call(row.method, &row.request).await;
        if !got.contains(row.text) {
            cluster.wrong(format!("{} {}\n  want {}\n  got  {got}", row.method, row.name, row.text));
        }
        cluster.check(&format!("{} {}", row.method, row.name)).await;
    }
    cluster.end("gRPC", rows.len(), GRPC_ROWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_there_is_a_cluster_calls_are_refused_and_make_none() {
    let mut cluster = Cluster::empty().await;
    let rows = grpc::early_rows(cluster.id);
    for row in &rows {
        let got = cluster.call(row.method, &row.request).await;
        if !got.contains(row.text) {
            cluster.wrong(format!("{} {}\n  want {}\n  got  {got}", row.method, row.name, row.text));
        }
        cluster.check(&format!("{} {}", row.method, row.name)).await;
    }
    for (method, path, body) in stages::EARLY {
        stages::refuse(&mut cluster, "74", method, path, body, 500, stages::NOT_BOOTSTRAPPED).await;
    }
    cluster.end("before the cluster", rows.len() + stages::EARLY.len(), EARLY_ROWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_state_forbids_is_refused_and_changes_nothing() {
    for stage in stages::STAGES {
        let mut cluster = Cluster::start().await;
        stages::play(&mut cluster, stage).await;
        let count = stage.http.len() + stage.grpc.len();
        cluster.end(stage.name, count, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_a_wrong_shape_are_refused_and_change_nothing() {
    let mut cluster = Cluster::start().await;
    let rows = fuzz::rows();
    for (at, (request, may_fail)) in rows.iter().enumerate() {
        let answer = cluster.http(request).await;
        let body = String::from_utf8_lossy(&request.body[..request.body.len().min(80)]).into_owned();
        let what = format!("{} {} {body}", request.method, request.target);
        let text = answer.text();
        if text.contains("panicked") || (answer.status >= 500 && !may_fail) {
            cluster.wrong(format!("{what}\n  got {} {text}", answer.status));
        }
        cluster.check_alive(&what).await;
        if rows.get(at + 1).is_none_or(|(next, _)| next.target != request.target) {
            cluster.check(&format!("the bodies for {}", request.target)).await;
        }
    }
    cluster.end("fuzz", rows.len(), FUZZ_ROWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_below_requests_hurts_nobody_else() {
    let mut cluster = Cluster::start().await;
    // The slow ones take as long as they are given, so they go on beside the others.
    let slow = wire::slow(cluster.addr());
    let mut count = 0;
    for row in wire::rows() {
        let outcome = (row.send)(cluster.addr()).await;
        if let Err(why) = outcome {
            cluster.wrong(format!("{}: {why}", row.name));
        }
        cluster.check(row.name).await;
        count += 1;
    }
    for (name, outcome) in slow.await {
        if let Err(why) = outcome {
            cluster.wrong(format!("{name}: {why}"));
        }
        cluster.check(name).await;
        count += 1;
    }
    cluster.end("wire", count, WIRE_ROWS).await;
}

/// D2: a report that shows an id above all that was agreed lifts the sequence, for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_ids_that_a_heartbeat_shows_are_never_given_out() {
    let mut cluster = Cluster::start().await;
    let before = cluster.alloc_id().await;
    cluster.heartbeat(&grpc::region(cluster.id, 3, (5, 5), "p", "", &[(7_000, 1), (7_001, 2), (7_002, 3)])).await;
    let shown = cluster.alloc_id().await;
    assert!(before < 7_000 && shown > 7_002, "{before} before, {shown} after");
    // An id that no sequence reaches is passed over, and hides no other.
    let huge = u64::MAX;
    cluster.heartbeat(&grpc::region(cluster.id, 3, (6, 6), "p", "", &[(huge, 1), (90_001, 2), (90_002, 3)])).await;
    let last = cluster.alloc_id().await;
    assert!(last > 90_002 && last < 1_000_000, "{last}");
    cluster.heartbeat(&grpc::region(cluster.id, 3, (7, 7), "p", "", &[(900_003, 1), (90_001, 2), (90_002, 3)])).await;
    // A restart must not forget it, though nobody has reported yet.
    let mut cluster = cluster.restart().await;
    assert!(cluster.alloc_id().await > 900_003);
    cluster.end("ids", 1, 1).await;
}
