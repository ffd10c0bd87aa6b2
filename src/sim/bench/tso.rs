//! Timestamps: how many, how fast, at what price, and in order.
//!
//! Owns: the row `tso`. One client with one stream, as PD's Go client has: callers queue, and what has queued while a request was
//! under way goes into the next one.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{
    BenchError, Histogram, Table, Unit,
    rig::{Span, Target},
    size_sum::connect,
};
use crate::{proto::pdpb, sim::parse_duration};

/// Most callers that one request serves, as in PD's client.
const MAX_BATCH: usize = 10_000;
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The flags of `tso`.
#[derive(Clone, Debug, clap::Args)]
pub struct TsoOptions {
    /// Callers that share the client.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub callers: u32,
    /// Length of each of the two measurements.
    #[arg(long, default_value = "15s", value_parser = parse_duration)]
    pub window: Duration,
}

/// A timestamp stream that checks what it gets.
struct Stream {
    header: Option<pdpb::RequestHeader>,
    requests: mpsc::Sender<pdpb::TsoRequest>,
    answers: Streaming<pdpb::TsoResponse>,
    order: Order,
}

/// The last timestamp seen: each new one must be greater.
#[derive(Default)]
struct Order {
    last: (i64, i64),
}

impl Order {
    /// Takes an answer to a request for `count` timestamps.
    fn check(&mut self, answer: &pdpb::TsoResponse, count: u32) -> Result<(), BenchError> {
        let ts = answer.timestamp.unwrap_or_default();
        let first = (ts.physical, ts.logical - i64::from(count) + 1);
        if answer.count != count || first.1 < 0 || first <= self.last {
            let last = self.last;
            return Err(BenchError::Wrong(format!("{count} timestamps up to {ts:?} after {last:?}")));
        }
        self.last = (ts.physical, ts.logical);
        Ok(())
    }
}

impl Stream {
    async fn open(target: &Target) -> Result<Self, BenchError> {
        let (mut client, cluster) = connect(target).await?;
        let header = Some(pdpb::RequestHeader { cluster_id: cluster, ..Default::default() });
        let (requests, queue) = mpsc::channel(1);
        // The headers of the answer may come with the first answer only: ask before waiting for them.
        let first = pdpb::TsoRequest { header: header.clone(), count: 1, dc_location: "global".into() };
        requests.send(first).await.map_err(|_| BenchError::Stopped)?;
        let opened = timeout(ANSWER_TIMEOUT, client.tso(ReceiverStream::new(queue))).await;
        let answers = opened.map_err(|e| failed(&e))?.map_err(|s| failed(&s))?.into_inner();
        let mut stream = Self { header, requests, answers, order: Order::default() };
        stream.answer(1).await?;
        Ok(stream)
    }

    /// Asks for `count` timestamps and waits for them.
    async fn get(&mut self, count: u32) -> Result<(), BenchError> {
        let request = pdpb::TsoRequest { header: self.header.clone(), count, dc_location: "global".into() };
        self.requests.send(request).await.map_err(|e| failed(&e))?;
        self.answer(count).await
    }

    async fn answer(&mut self, count: u32) -> Result<(), BenchError> {
        let answer = timeout(ANSWER_TIMEOUT, self.answers.message()).await.map_err(|e| failed(&e))?;
        let answer = answer.map_err(|s| failed(&s))?.ok_or_else(|| failed(&"the stream has ended"))?;
        self.order.check(&answer, count)
    }
}

fn failed(error: &dyn std::fmt::Display) -> BenchError {
    BenchError::Call { call: "Tso", message: error.to_string() }
}

pub(super) async fn run(target: &Target, row: &TsoOptions, shutdown: CancellationToken) -> Result<Table, BenchError> {
    let mut stream = Stream::open(target).await?;
    let mut table = Table::new(format!("tso: one client, {} callers, and one request in flight", row.callers));

    let span = Span::begin(target)?;
    let many = many_callers(&mut stream, row, &shutdown).await?;
    table.add("timestamps", many.count() as f64 / span.elapsed().as_secs_f64(), Unit::PerSecond);
    if let Some(cpu) = span.cpu(target)? {
        table.add("server CPU", cpu.as_secs_f64() / span.elapsed().as_secs_f64(), Unit::Cores);
        table.add("server CPU a timestamp", cpu.as_secs_f64() * 1e6 / many.count().max(1) as f64, Unit::Micros);
    }
    table.latencies("many callers", &many);

    let mut one = Histogram::default();
    let start = Instant::now();
    while start.elapsed() < row.window && !shutdown.is_cancelled() {
        let asked = Instant::now();
        stream.get(1).await?;
        one.record(asked.elapsed());
    }
    table.latencies("one in flight", &one);
    Ok(table)
}

/// A caller that waits, and since when.
type Waiting = (Instant, oneshot::Sender<()>);

/// Many callers, each asking again as soon as it has its timestamp.
async fn many_callers(
    stream: &mut Stream,
    row: &TsoOptions,
    shutdown: &CancellationToken,
) -> Result<Histogram, BenchError> {
    let (queue, mut waiting) = mpsc::channel::<Waiting>(MAX_BATCH);
    let mut callers = JoinSet::new();
    for _ in 0..row.callers {
        let queue = queue.clone();
        callers.spawn(async move {
            loop {
                let (done, answer) = oneshot::channel();
                if queue.send((Instant::now(), done)).await.is_err() || answer.await.is_err() {
                    return;
                }
            }
        });
    }
    drop(queue);
    let mut latencies = Histogram::default();
    let start = Instant::now();
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while start.elapsed() < row.window && !shutdown.is_cancelled() {
        if waiting.recv_many(&mut batch, MAX_BATCH).await == 0 {
            break;
        }
        stream.get(batch.len() as u32).await?;
        for (since, done) in batch.drain(..) {
            latencies.record(since.elapsed());
            // A caller that is gone does not mind.
            let _ = done.send(());
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_out_of_order_are_found() {
        let answer = |physical, logical, count| pdpb::TsoResponse {
            header: None,
            count,
            timestamp: Some(pdpb::Timestamp { physical, logical, suffix_bits: 0 }),
        };
        let mut order = Order::default();
        assert!(order.check(&answer(10, 5, 5), 5).is_ok());
        assert!(order.check(&answer(10, 8, 3), 3).is_ok());
        assert!(order.check(&answer(10, 9, 2), 2).is_err(), "9 is new, 8 is not");
        assert!(order.check(&answer(9, 500, 1), 1).is_err(), "back in time");
        assert!(order.check(&answer(11, 1, 3), 3).is_err(), "the logical part starts below 0");
        assert!(order.check(&answer(11, 3, 2), 3).is_err(), "fewer than asked for");
        assert!(order.check(&answer(11, 3, 3), 3).is_ok());
    }
}
