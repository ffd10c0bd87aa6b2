//! What clients saw of a few values that they write and read at the same time, for the question whether one server without faults
//! could have answered like that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::linear::{self, Register, Timed, Verdict},
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::load::leader;

/// Values.
const KEYS: usize = 4;
/// Clients: some at each value at any moment.
const CLIENTS: u64 = 5;
/// Time between two operations of one client.
const PACE: Duration = Duration::from_millis(15);
/// How long a client waits for an answer; after that nobody knows.
const CALL: Duration = Duration::from_secs(1);
/// Bound on the search: positions looked at for one value.
const STEPS: usize = 4_000_000;

type Op = Timed<Register<u64>>;

/// Running clients.
pub struct Readers {
    history: Arc<Mutex<Vec<(usize, Op)>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Reads that were answered.
    pub reads: usize,
    /// Writes that were.
    pub writes: usize,
    /// Writes of which nobody knows.
    pub unknown: usize,
}

impl Readers {
    /// Starts clients that ask whichever of `urls` leads.
    pub fn start(urls: &[String], seed: u64) -> Self {
        let (history, stop, mut tasks) = (Arc::default(), CancellationToken::new(), JoinSet::new());
        let began = Instant::now();
        for number in 0..CLIENTS {
            let client = Client {
                urls: urls.to_vec(),
                rng: ChaCha8Rng::seed_from_u64(seed ^ number),
                next: number + 1,
                began,
                history: Arc::clone(&history),
                stop: stop.clone(),
            };
            tasks.spawn(client.run());
        }
        Self { history, stop, tasks }
    }

    /// Ends them; every answer must be one that a single server could have given.
    pub async fn end(mut self) -> Seen {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.expect("a client");
        }
        let history = std::mem::take(&mut *self.history.lock());
        let count = |f: fn(&Op) -> bool| history.iter().filter(|(_, op)| f(op)).count();
        let seen = Seen {
            reads: count(|op| matches!(op.what, Register::Read(_))),
            writes: count(|op| matches!(op.what, Register::Write(_)) && op.answer.is_some()),
            unknown: count(|op| op.answer.is_none()),
        };
        match linear::explain_each::<_, Register<u64>>(history, &0, STEPS) {
            Ok(()) => {}
            Err((key, Verdict::GivenUp)) => println!("value {key}: too many orders to look at them all"),
            Err((key, verdict)) => panic!("value {key} was seen as no single server shows it: {verdict:?}"),
        }
        seen
    }
}

struct Client {
    urls: Vec<String>,
    rng: ChaCha8Rng,
    /// The next value to write: no two clients write the same.
    next: u64,
    began: Instant,
    history: Arc<Mutex<Vec<(usize, Op)>>>,
    stop: CancellationToken,
}

impl Client {
    async fn run(mut self) {
        let mut grpc = None;
        while !self.stop.is_cancelled() {
            sleep(PACE).await;
            let Some(mut client) = grpc.take() else {
                grpc = self.find().await;
                continue;
            };
            let key = self.rng.random_range(0..KEYS);
            let going = if self.rng.random_ratio(1, 3) {
                self.write(&mut client, key).await
            } else {
                self.read(&mut client, key).await
            };
            grpc = going.then_some(client);
        }
    }

    async fn find(&self) -> Option<PdClient<Channel>> {
        for url in &self.urls {
            if let Ok(Some((client, _))) = timeout(CALL, leader(url)).await {
                return Some(client);
            }
        }
        None
    }

    fn moment(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    fn note(&self, key: usize, call: u64, answer: Option<u64>, what: Register<u64>) {
        self.history.lock().push((key, Timed { call, answer, what }));
    }

    async fn write(&mut self, grpc: &mut PdClient<Channel>, key: usize) -> bool {
        let value = self.next;
        self.next += CLIENTS;
        let change = pdpb::GlobalConfigItem {
            name: format!("key-{key}"),
            payload: value.to_string().into_bytes().into(),
            ..pdpb::GlobalConfigItem::default()
        };
        let request =
            pdpb::StoreGlobalConfigRequest { changes: vec![change], ..pdpb::StoreGlobalConfigRequest::default() };
        let call = self.moment();
        let answer = timeout(CALL, grpc.store_global_config(request)).await;
        let done = matches!(&answer, Ok(Ok(answer)) if answer.get_ref().error.is_none());
        self.note(key, call, done.then(|| self.moment()), Register::Write(value));
        done
    }

    async fn read(&self, grpc: &mut PdClient<Channel>, key: usize) -> bool {
        let request = pdpb::LoadGlobalConfigRequest {
            names: vec![format!("key-{key}")],
            ..pdpb::LoadGlobalConfigRequest::default()
        };
        let call = self.moment();
        let Ok(Ok(answer)) = timeout(CALL, grpc.load_global_config(request)).await else { return false };
        let item = answer.into_inner().items.into_iter().next().expect("an item");
        let value =
            if item.error.is_some() { 0 } else { String::from_utf8(item.payload.to_vec()).unwrap().parse().unwrap() };
        self.note(key, call, Some(self.moment()), Register::Read(value));
        true
    }
}
