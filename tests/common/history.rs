//! What clients saw of a few values that they write and read at the same time, for the question whether one server without faults
//! could have answered like that: settings and the GC safe point over gRPC, region labels over REST.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use berth::{
    proto::pdpb::{self, pd_client::PdClient},
    sim::{
        http::{HttpClient, HttpError},
        linear::{self, Raise, Register, Timed, Verdict},
    },
};
use hyper::StatusCode;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::load::{free_safe_point, leader};

/// What is written and read.
const THINGS: [Thing; 7] = [
    Thing::Setting(0),
    Thing::Setting(1),
    Thing::Setting(2),
    Thing::Setting(3),
    Thing::Label(0),
    Thing::Label(1),
    Thing::SafePoint,
];
/// Clients: some at each value at any moment.
const CLIENTS: u64 = 5;
/// Time between two operations of one client.
const PACE: Duration = Duration::from_millis(15);
/// How long a client waits for an answer; after that nobody knows.
const CALL: Duration = Duration::from_secs(1);
/// Bound on the search: positions looked at for one value.
const STEPS: usize = 1_000_000;

/// One value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Thing {
    /// An item of the global configuration.
    Setting(usize),
    /// The label of a region label rule.
    Label(usize),
    /// The GC safe point, which only rises.
    SafePoint,
}

type Op = Timed<Register<u64>>;

/// What was asked and answered. No value is written twice.
#[derive(Default)]
struct History {
    /// Of all but the safe point.
    registers: Vec<(Thing, Op)>,
    /// Of the safe point; who only asks for it wants no more than nothing.
    raises: Vec<Timed<Raise>>,
}

/// Running clients.
pub struct Readers {
    history: Arc<Mutex<History>>,
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
    /// Answers about labels among them.
    pub labels: usize,
    /// Safe points that were set.
    pub safe_points: usize,
    /// Writes of which nobody knows.
    pub unknown: usize,
}

impl Seen {
    /// So much that it shows something.
    pub fn enough(&self, rounds: usize) {
        assert!(self.reads > 8 * rounds && self.writes > 4 * rounds, "{self:?}");
        assert!(self.labels > 2 * rounds && self.safe_points > rounds, "{self:?}");
    }
}

impl History {
    fn seen(&self) -> Seen {
        let count = |f: fn(&(Thing, Op)) -> bool| self.registers.iter().filter(|row| f(row)).count();
        let raised = |op: &&Timed<Raise>| op.what.asked > 0 && op.answer.is_some();
        Seen {
            reads: count(|(_, op)| matches!(op.what, Register::Read(_))),
            writes: count(|(_, op)| matches!(op.what, Register::Write(_)) && op.answer.is_some()),
            labels: count(|(thing, op)| matches!(thing, Thing::Label(_)) && op.answer.is_some()),
            safe_points: self.raises.iter().filter(raised).count(),
            unknown: count(|(_, op)| op.answer.is_none()) + self.raises.iter().filter(|op| op.answer.is_none()).count(),
        }
    }

    /// Every answer must be one that a single server could have given.
    fn check(self, steps: usize) {
        let given_up = "the search was given up, which shows nothing";
        match linear::explain_each::<_, Register<u64>>(settled(self.registers), &0, steps) {
            Ok(()) => {}
            Err((thing, Verdict::GivenUp)) => panic!("{thing:?}: {given_up}"),
            Err((thing, verdict)) => panic!("{thing:?} was seen as no single server shows it: {verdict:?}"),
        }
        match linear::explain::<Raise>(&settled_raises(self.raises), 0, steps) {
            Verdict::Explained => {}
            Verdict::GivenUp => panic!("the safe point: {given_up}"),
            verdict => panic!("the safe point was seen as no single server shows it: {verdict:?}"),
        }
    }
}

/// The first answer that showed each value.
fn first_shown<K: Eq + std::hash::Hash>(shown: impl Iterator<Item = (K, u64)>) -> HashMap<K, u64> {
    let mut first = HashMap::new();
    for (value, answer) in shown {
        first.entry(value).and_modify(|at: &mut u64| *at = answer.min(*at)).or_insert(answer);
    }
    first
}

/// The same with writes without an answer made as certain as the reads make them: what nobody saw may as well not have been done, and
/// what was seen had been done by then. As no value is written twice nothing is lost by it, and the search stays short.
fn settled(history: Vec<(Thing, Op)>) -> Vec<(Thing, Op)> {
    let shown = first_shown(history.iter().filter_map(|(thing, op)| match op.what {
        Register::Read(value) => Some(((*thing, value), op.answer?)),
        Register::Write(_) => None,
    }));
    let settle = |(thing, op): (Thing, Op)| {
        let answer = match (op.what, op.answer) {
            (Register::Write(value), None) => Some(*shown.get(&(thing, value))?),
            (_, answer) => answer,
        };
        Some((thing, Timed { answer, ..op }))
    };
    history.into_iter().filter_map(settle).collect()
}

/// As [`settled`]: one that was seen was told its own value.
fn settled_raises(history: Vec<Timed<Raise>>) -> Vec<Timed<Raise>> {
    let shown = first_shown(history.iter().filter_map(|op| Some((op.what.told, op.answer?))));
    let settle = |op: Timed<Raise>| match op.answer {
        Some(_) => Some(op),
        None => {
            let asked = op.what.asked;
            Some(Timed { answer: Some(*shown.get(&asked)?), what: Raise { asked, told: asked }, ..op })
        }
    };
    history.into_iter().filter_map(settle).collect()
}

impl Readers {
    /// Starts clients that ask whichever of `urls` leads. Nobody else may set the GC safe point.
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

    /// Ends them and looks at what they were told.
    pub async fn end(mut self) -> Seen {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.expect("a client");
        }
        let history = std::mem::take(&mut *self.history.lock());
        let seen = history.seen();
        history.check(STEPS);
        seen
    }
}

/// The member that leads.
struct Leader {
    grpc: PdClient<Channel>,
    http: HttpClient,
    header: Option<pdpb::RequestHeader>,
}

struct Client {
    urls: Vec<String>,
    rng: ChaCha8Rng,
    /// The next value to write: no two clients write the same.
    next: u64,
    began: Instant,
    history: Arc<Mutex<History>>,
    stop: CancellationToken,
}

impl Client {
    async fn run(mut self) {
        let mut found = None;
        while !self.stop.is_cancelled() {
            sleep(PACE).await;
            let Some(mut leader) = found.take() else {
                found = self.find().await;
                continue;
            };
            let thing = *THINGS.choose(&mut self.rng).expect("a thing");
            let writes = self.rng.random_ratio(1, 3);
            let going = match thing {
                Thing::SafePoint => self.raise(&mut leader, writes).await,
                _ if writes => self.write(&mut leader, thing).await,
                _ => self.read(&mut leader, thing).await,
            };
            found = going.then_some(leader);
        }
    }

    async fn find(&self) -> Option<Leader> {
        for url in &self.urls {
            if let Ok(Some(found)) = timeout(CALL, Leader::find(url)).await {
                return Some(found);
            }
        }
        None
    }

    fn moment(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    fn value(&mut self) -> u64 {
        let value = self.next;
        self.next += CLIENTS;
        value
    }

    fn note(&self, thing: Thing, call: u64, answer: Option<u64>, what: Register<u64>) {
        self.history.lock().registers.push((thing, Timed { call, answer, what }));
    }

    /// Whether the leader answered.
    async fn write(&mut self, leader: &mut Leader, thing: Thing) -> bool {
        let value = self.value();
        let call = self.moment();
        let answer = timeout(CALL, leader.write(thing, value)).await;
        let done = matches!(answer, Ok(Some(())));
        self.note(thing, call, done.then(|| self.moment()), Register::Write(value));
        done
    }

    async fn read(&self, leader: &mut Leader, thing: Thing) -> bool {
        let call = self.moment();
        let Ok(Some(value)) = timeout(CALL, leader.read(thing)).await else { return false };
        self.note(thing, call, Some(self.moment()), Register::Read(value));
        true
    }

    async fn raise(&mut self, leader: &mut Leader, writes: bool) -> bool {
        let asked = if writes { self.value() } else { 0 };
        let call = self.moment();
        let answer = timeout(CALL, leader.raise(asked)).await;
        let told = answer.ok().flatten();
        if told.is_some() || writes {
            let what = Raise { asked, told: told.unwrap_or(0) };
            self.history.lock().raises.push(Timed { call, answer: told.map(|_| self.moment()), what });
        }
        told.is_some()
    }
}

impl Leader {
    /// As the member at `url` names it.
    async fn find(url: &str) -> Option<Self> {
        let (mut grpc, url) = leader(url).await?;
        let members = grpc.get_members(pdpb::GetMembersRequest::default()).await.ok()?.into_inner();
        let cluster_id = members.header?.cluster_id;
        free_safe_point(&mut grpc, cluster_id).await?;
        let header = Some(pdpb::RequestHeader { cluster_id, ..Default::default() });
        Some(Self { grpc, http: HttpClient::new(&url).expect("an address"), header })
    }

    async fn write(&mut self, thing: Thing, value: u64) -> Option<()> {
        let name = format!("{thing:?}");
        if let Thing::Label(_) = thing {
            let rule = json!({
                "id": name,
                "labels": [{ "key": "history", "value": value.to_string() }],
                "rule_type": "key-range",
                "data": [{ "start_key": "61", "end_key": "62" }],
            });
            return self.http.post("/pd/api/v1/config/region-label/rule", &rule).await.ok().map(drop);
        }
        let change = pdpb::GlobalConfigItem { name, payload: value.to_string().into(), ..Default::default() };
        let request = pdpb::StoreGlobalConfigRequest { changes: vec![change], ..Default::default() };
        let answer = self.grpc.store_global_config(request).await.ok()?;
        answer.get_ref().error.is_none().then_some(())
    }

    /// 0 when it was never written.
    async fn read(&mut self, thing: Thing) -> Option<u64> {
        let name = format!("{thing:?}");
        if let Thing::Label(_) = thing {
            return match self.http.get_json(&format!("/pd/api/v1/config/region-label/rule/{name}")).await {
                Ok(rule) => Some(rule["labels"][0]["value"].as_str().expect("a label").parse().expect("a number")),
                Err(HttpError::Status { status: StatusCode::NOT_FOUND, .. }) => Some(0),
                Err(_) => None,
            };
        }
        let request = pdpb::LoadGlobalConfigRequest { names: vec![name], ..Default::default() };
        let answer = self.grpc.load_global_config(request).await.ok()?.into_inner();
        let item = answer.items.into_iter().next().expect("an item");
        if item.error.is_some() {
            return Some(0);
        }
        Some(String::from_utf8(item.payload.to_vec()).unwrap().parse().unwrap())
    }

    /// Sets the GC safe point if it is lower; what it is then.
    async fn raise(&mut self, asked: u64) -> Option<u64> {
        let header = self.header.clone();
        if asked == 0 {
            let answer = self.grpc.get_gc_safe_point(pdpb::GetGcSafePointRequest { header }).await.ok()?.into_inner();
            return answer.header?.error.is_none().then_some(answer.safe_point);
        }
        let request = pdpb::UpdateGcSafePointRequest { header, safe_point: asked };
        let answer = self.grpc.update_gc_safe_point(request).await.ok()?.into_inner();
        answer.header?.error.is_none().then_some(answer.new_safe_point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op<T>(call: u64, answer: Option<u64>, what: T) -> Timed<T> {
        Timed { call, answer, what }
    }

    fn registers(ops: &[Op]) -> History {
        History { registers: ops.iter().map(|op| (Thing::Label(0), *op)).collect(), raises: vec![] }
    }

    #[test]
    fn what_may_have_been_done_is_settled_by_what_was_seen() {
        let (write, read) = (Register::Write::<u64>, Register::Read::<u64>);
        let unknown = |value| op(0, None, write(value));
        let history = registers(&[unknown(1), unknown(2), op(5, Some(6), read(0)), op(7, Some(9), read(2))]);
        let rows: Vec<Op> = settled(history.registers.clone()).into_iter().map(|(_, op)| op).collect();
        assert_eq!(rows[0], op(0, Some(9), write(2)), "seen at 9");
        assert_eq!(rows.len(), 3, "1 was never seen");
        history.check(1000);
        // As many as a thousand rounds leave: the search is as short as without them.
        let many: Vec<Op> =
            (0..20_000).map(unknown).chain([op(5, Some(6), read(7)), op(7, Some(8), read(9))]).collect();
        registers(&many).check(1000);
        let raises = [op(0, None, Raise { asked: 5, told: 0 }), op(1, Some(2), Raise { asked: 0, told: 5 })];
        History { registers: vec![], raises: raises.to_vec() }.check(1000);
    }

    #[test]
    #[should_panic(expected = "Label(0) was seen as no single server shows it")]
    fn a_value_that_goes_back_is_found() {
        let (write, read) = (Register::Write, Register::Read);
        registers(&[op(0, None, write(2)), op(5, Some(6), read(2)), op(7, Some(9), read(0))]).check(1000);
    }

    #[test]
    #[should_panic(expected = "the safe point was seen as no single server shows it")]
    fn a_safe_point_that_falls_is_found() {
        let told = |asked, told| Raise { asked, told };
        let raises = vec![op(0, None, told(5, 0)), op(1, Some(2), told(0, 5)), op(3, Some(4), told(3, 3))];
        History { registers: vec![], raises }.check(1000);
    }

    #[test]
    #[should_panic(expected = "the search was given up")]
    fn a_search_that_is_given_up_is_a_failure() {
        let crowd =
            (1..40).map(|n| op(0, Some(100), Register::Write(n))).chain([op(101, Some(102), Register::Read(99))]);
        registers(&crowd.collect::<Vec<_>>()).check(1000);
    }
}
