//! Two recorded conversations between a real PD and its nodes: PD's simulator (`talk`) and four nodes with real Raft groups
//! (`talk-raft`). Every message must be understood; what the nodes said must be accepted and lead to the state that PD showed; and
//! nodes must be told what PD told them.

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
    #[allow(dead_code, reason = "other tests use the rest of it")]
    pub(crate) mod facts;
    pub(crate) mod http;
    pub(crate) mod server;
}
mod conversation {
    pub mod compare;
    pub mod nodes;
    pub mod recording;
    pub mod replay;
    pub mod wire;
}

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    time::Duration,
};

use berth::{
    model::{Clock as _, RegionId, StoreId, Wall},
    proto::pdpb,
    scheduler::life::Unburied,
    store::Held,
};
use common::facts;
use conversation::{
    compare,
    nodes::Nodes,
    recording::{self, Call, Line},
    replay::{self, Replay, Said},
    wire,
};
use prost::Message;
use serde_json::Value;

/// A recording.
struct Recording {
    folder: PathBuf,
    /// Wall time of its start: that of a store's last heartbeat in `stores-end.json` less the time of that message.
    began: Wall,
    lines: Vec<Line>,
    calls: Vec<Call>,
    /// The store that is taken out.
    drained: u64,
}

/// Where every list of stores is asked for, as for the recording.
const STORES: &str = "/pd/api/v1/stores?state=0&state=1&state=2";
/// Where every list of regions is asked for.
const REGIONS: &str = "/pd/api/v1/regions";

impl Recording {
    fn open(name: &str, log: &str, began: Wall, drained: u64) -> Option<Self> {
        let folder = facts::folder("compat")?.join(name);
        let lines = recording::lines(&folder);
        let calls = recording::calls(&recording::text(&folder.join(log)), began);
        Some(Self { folder, began, lines, calls, drained })
    }

    fn simulator() -> Option<Self> {
        Self::open("talk", "pd-log.gz", Wall(1_795_354_151_175_900_000), 2)
    }

    fn raft() -> Option<Self> {
        Self::open("talk-raft", "pd.log", Wall(1_795_356_699_696_000_000), 1)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&recording::text(&self.folder.join(name))).unwrap()
    }

    /// When the store was taken out.
    fn delete(&self) -> &Call {
        self.calls.iter().find(|c| c.method == "DELETE").expect("a DELETE")
    }

    /// When the first region had split: halted scheduling refuses to give ids for that, here as in PD.
    fn split(&self) -> Duration {
        self.lines.iter().rfind(|l| l.method.ends_with("/ReportBatchSplit")).expect("a split").at
    }

    /// The answers of PD by stream, for the methods with one answer.
    fn answers(&self) -> HashMap<u64, &Line> {
        self.lines.iter().filter(|l| !l.to_server).map(|l| (l.stream, l)).collect()
    }

    /// What PD told the nodes from `from` on, by region, without what it only sent again.
    fn commands(&self, from: Duration) -> BTreeMap<u64, Vec<String>> {
        let mut out: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let told = |l: &&Line| !l.to_server && l.method.ends_with("/RegionHeartbeat") && l.at >= from;
        for line in self.lines.iter().filter(told) {
            let message = pdpb::RegionHeartbeatResponse::decode(&line.body[..]).unwrap();
            let Some(shape) = wire::shape(&message) else { continue };
            let list = out.entry(message.region_id).or_default();
            if list.last() != Some(&shape) {
                list.push(shape);
            }
        }
        out
    }
}

/// The error in the header of an answer; any answer begins with its header.
fn error_of(answer: &Line) -> Option<pdpb::Error> {
    pdpb::ReportBatchSplitResponse::decode(&answer.body[..]).unwrap().header.unwrap().error
}

/// What a replay found.
#[derive(Default, Debug)]
struct Found {
    sent: usize,
    wrong: Vec<String>,
    /// Each time PD was asked for its regions: regions and stores of this server.
    shown: Vec<(Value, Value)>,
}

/// Sends all messages before `end`, and makes the HTTP calls for which `makes` says so, in the order of their times.
async fn replay(replay: &mut Replay, what: &Recording, end: Duration, makes: impl Fn(&Call) -> bool) -> Found {
    let answers = what.answers();
    let mut found = Found::default();
    let mut calls = what.calls.iter().filter(|c| c.at < end && makes(c)).peekable();
    for line in what.lines.iter().filter(|l| l.to_server && l.at < end) {
        while let Some(call) = calls.next_if(|c| c.at <= line.at) {
            make(replay, call, &mut found).await;
        }
        found.sent += 1;
        if let Err(wrong) = send(replay, line, answers.get(&line.stream).copied()).await {
            found.wrong.push(format!("{} at {:?}: {wrong}", line.method, line.at));
        }
    }
    for call in calls {
        make(replay, call, &mut found).await;
    }
    found
}

async fn make(replay: &mut Replay, call: &Call, found: &mut Found) {
    let answer = replay.http(call).await;
    if call.target == REGIONS {
        let stores = Call { target: STORES.into(), ..call.clone() };
        found.shown.push((answer, replay.http(&stores).await));
    }
}

/// Sends one message; `Err` says what is not as PD answered it.
async fn send(replay: &mut Replay, line: &Line, recorded: Option<&Line>) -> Result<(), String> {
    let recorded = recorded.filter(|_| !line.method.ends_with("/RegionHeartbeat") && !line.method.ends_with("/Check"));
    let body = recorded.map_or(&[][..], |r| &r.body);
    if line.method.ends_with("/AllocID") {
        replay.skip_ids(pdpb::AllocIdResponse::decode(body).unwrap().id).await;
    }
    let answer = replay.send(line).await.map_err(|status| status.to_string())?;
    let refused = |e: &Option<pdpb::Error>| e.as_ref().map(|e| (e.r#type, e.message.clone()));
    let wanted = recorded.and_then(error_of);
    // PD had buried a store that still held a region; it is refused there and not here.
    let buried = wanted.as_ref().is_some_and(|e| e.r#type == pdpb::ErrorType::StoreTombstone as i32);
    if refused(&answer.error) != refused(&wanted) && !(buried && answer.error.is_none()) {
        return Err(format!("{:?} instead of {wanted:?}", answer.error));
    }
    let wanted = match answer.said {
        Said::Id(_) => Said::Id(pdpb::AllocIdResponse::decode(body).unwrap().id),
        Said::Split(_) => replay::split_ids(&pdpb::AskBatchSplitResponse::decode(body).unwrap()),
        Said::State(_) if !buried => Said::State(pdpb::StoreHeartbeatResponse::decode(body).unwrap().state),
        _ => return Ok(()),
    };
    if answer.said == wanted { Ok(()) } else { Err(format!("{:?} instead of {wanted:?}", answer.said)) }
}

fn is_unhalting(call: &Call) -> bool {
    call.body.contains("halt-scheduling") && call.body.contains("false")
}

fn halting(at: Duration, on: bool) -> Call {
    let body = format!(r#"{{"schedule.halt-scheduling":"{on}"}}"#);
    Call { at, method: "POST".into(), target: "/pd/api/v1/config".into(), body }
}

#[test]
fn every_message_is_understood() {
    let (Some(simulator), Some(raft)) = (Recording::simulator(), Recording::raft()) else { return };
    for (what, total) in [(simulator, 7390), (raft, 772)] {
        assert_eq!(what.lines.len(), total);
        let wrong: Vec<String> = what.lines.iter().filter_map(|line| wire::is_kept(line).err()).collect();
        assert!(wrong.is_empty(), "{} of {total}, the first:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_scale_in_leads_to_the_recorded_state() {
    let Some(what) = Recording::simulator() else { return };
    let mut server = Replay::start(what.began).await;
    let found = replay(&mut server, &what, Duration::MAX, |call| !is_unhalting(call)).await;
    assert_eq!((found.sent, what.lines.iter().filter(|l| l.to_server).count()), (4459, 4459));
    println!("sent {} of {} lines", found.sent, what.lines.len());
    assert!(found.wrong.is_empty(), "{}: {}", found.wrong.len(), found.wrong.join("\n"));
    let [(regions, stores)] = &found.shown[..] else { panic!("asked {} times", found.shown.len()) };
    let mut wrong = compare::differences("stores", &what.json("stores-end.json"), stores, &[]);
    wrong.extend(compare::differences("regions", &what.json("regions-end.json.gz"), regions, &[]));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
    server.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_an_empty_region_is_not_buried() {
    let Some(mut what) = Recording::raft() else { return };
    what.calls.insert(0, halting(what.split(), true));
    let mut server = Replay::start(what.began).await;
    let found = replay(&mut server, &what, Duration::MAX, |_| true).await;
    assert_eq!((found.sent, what.lines.iter().filter(|l| l.to_server).count()), (409, 409));
    println!("sent {} of {} lines", found.sent, what.lines.len());
    assert!(found.wrong.is_empty(), "{}: {}", found.wrong.len(), found.wrong.join("\n"));
    let [(before, _), (regions, stores)] = &found.shown[..] else { panic!("asked {} times", found.shown.len()) };
    let mut wrong = compare::differences("regions", &what.json("regions-before.json"), before, &[]);
    wrong.extend(compare::differences("regions", &what.json("regions-end.json"), regions, &[]));
    wrong.extend(compare::differences("stores", &what.json("stores-end.json"), stores, &[what.drained]));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));

    // PD buried store 1 while region 2 was on it and nowhere else.
    let stores = stores["stores"].as_array().unwrap();
    let store = stores.iter().find(|s| s["store"]["id"] == what.drained).unwrap();
    assert_eq!(store["store"]["state_name"], "Offline", "{store}");
    let (app, now) = (&server.server.app, server.clock.now());
    let why = app.cluster.unburied(StoreId(what.drained), now);
    assert_eq!(why, Some(Unburied::Regions { left: 1, such_as: RegionId(2) }));
    server.server.stop().await;
}

/// Regions with a peer on a store: those that it leads, and the others.
#[derive(Debug)]
struct OnStore {
    led: BTreeSet<u64>,
    followed: BTreeSet<u64>,
}

impl OnStore {
    fn new(server: &Replay, store: u64) -> Self {
        let ids = |held| {
            let regions = server.server.app.cluster.regions().of_store(StoreId(store), held, usize::MAX);
            regions.into_iter().map(|id| id.0).collect::<BTreeSet<u64>>()
        };
        let led = ids(Held::Leader);
        Self { followed: ids(Held::Any).difference(&led).copied().collect(), led }
    }
}

/// What a region was told until the peer was off the store: PD balanced leaders afterwards.
fn drain_part(told: &[String]) -> Vec<String> {
    let end = told.iter().position(|shape| shape.contains("RemoveNode")).map_or(told.len(), |at| at + 1);
    told[..end].to_vec()
}

/// The different stories of some regions.
fn stories(commands: &BTreeMap<u64, Vec<String>>, regions: &BTreeSet<u64>) -> BTreeMap<Vec<String>, Vec<u64>> {
    let mut out: BTreeMap<Vec<String>, Vec<u64>> = BTreeMap::new();
    for region in regions {
        out.entry(drain_part(commands.get(region).map_or(&[][..], |c| c))).or_default().push(*region);
    }
    out
}

/// Replays up to the DELETE, lets nodes that obey answer from there, and compares what they are told with what PD told the recorded
/// ones. `odd` is the region that PD wanted to split and left where it was. Returns what all regions were told.
async fn drain(what: &Recording, before: Vec<Call>, odd: u64) -> BTreeMap<u64, Vec<String>> {
    let end = what.delete().at;
    let mut calls = before;
    calls.extend(what.calls.iter().cloned());
    let what_first = Recording { folder: what.folder.clone(), lines: what.lines.clone(), calls, ..*what };
    let mut server = Replay::start(what.began).await;
    let found = replay(&mut server, &what_first, end, |_| true).await;
    assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n"));
    let on_store = OnStore::new(&server, what.drained);
    println!("store {} leads {} regions and follows {}", what.drained, on_store.led.len(), on_store.followed.len());

    let mut nodes = Nodes::take_over(&mut server);
    server.http(&halting(end, false)).await;
    server.http(what.delete()).await;
    let done = nodes.drain(&mut server, StoreId(what.drained), Duration::from_secs(300)).await;
    assert!(done, "{:?}", server.server.app.cluster.unburied(StoreId(what.drained), server.clock.now()));
    println!("buried after {:?}", server.clock.moved() - end);

    let recorded = what.commands(end);
    for regions in [&on_store.led, &on_store.followed] {
        let regions: BTreeSet<u64> = regions.iter().copied().filter(|id| *id != odd).collect();
        assert!(!regions.is_empty());
        let (wanted, got) = (stories(&recorded, &regions), stories(&nodes.commands, &regions));
        for (story, regions) in &got {
            assert!(
                wanted.contains_key(story),
                "regions {regions:?}: {story:#?}\n  instead of one of {:#?}",
                wanted.keys()
            );
        }
    }
    for id in on_store.led.union(&on_store.followed) {
        let voters = nodes.voters(*id);
        assert!(voters.len() == 3 && !voters.contains(&what.drained), "region {id}: {voters:?}");
    }
    server.server.stop().await;
    nodes.commands
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_told_what_pd_told_them() {
    let Some(what) = Recording::simulator() else { return };
    let commands = drain(&what, Vec::new(), 2406).await;
    assert_eq!(commands.len(), 300, "every region of the store, and no other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_before_joint_consensus_get_single_steps() {
    let Some(what) = Recording::raft() else { return };
    let commands = drain(&what, vec![halting(what.split(), true)], 2).await;
    let joint: Vec<_> = commands.iter().filter(|(_, told)| told.iter().any(|c| c.contains("v2"))).collect();
    assert!(joint.is_empty(), "{joint:#?}");
    assert_eq!(commands.keys().copied().collect::<Vec<_>>(), [2, 5, 7, 9, 11]);
}
