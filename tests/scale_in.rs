//! A store is taken out: a real server on a real port with real files, a fleet of nodes over gRPC, and the log that tells it.
//!
//! The log is held against that of a real PD (`compat/scale-in-story.log`), line by line; the fleet checks each change for safety.

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
    pub mod facts;
    pub mod http;
    pub mod logs;
    pub mod nodes;
}

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use berth::{
    config::{
        flags::Flags,
        load::{self, Host},
    },
    model::{Clock, Now, StoreId, StoreState},
    scheduler::{
        checker::pause::CheckerName,
        cluster::tap::{Input, Tap},
        operator::Operator,
    },
    server::{Server, clock::SystemClock},
    sim::{FaultOptions, FleetOptions, FleetReport, FleetView, StopStore},
    telemetry::log::{Level, Logger, Sink, Style},
};
use common::{
    facts::{self, Answer, Request},
    http,
    logs::{self, Line},
    nodes::{Nodes, eventually},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long any step of a drain may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// The store that is taken out, as in the recording.
const VICTIM: u64 = 2;
/// `metapb.NodeState` as JSON shows it.
const NODE_SERVING: u64 = 1;
const NODE_REMOVING: u64 = 2;

/// A server with a fleet.
struct Site {
    server: Server,
    log: Arc<Mutex<Vec<u8>>>,
    nodes: Nodes,
    _folder: tempfile::TempDir,
}

impl Site {
    /// Starts both on an empty folder and waits until every region is reported and scheduling may begin.
    async fn start(options: FleetOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags = Flags {
            name: "pd-1".into(),
            data_dir: "./data".into(),
            client_urls: "http://127.0.0.1:0".into(),
            peer_urls: "http://127.0.0.1:0".into(),
            ..Flags::default()
        };
        let host = Host { name: "vm".into(), directory: folder.path().to_owned() };
        let config = load::load(&flags, None, &host).unwrap().config;
        let log = Arc::new(Mutex::new(Vec::new()));
        let clock = SystemClock::new();
        let now = move || clock.now().wall;
        let logger = Logger::new(Sink::Buffer(log.clone()), Level::Info, Style::default(), 0, now);
        let server = Server::start(config, logger).await.unwrap();
        // The fleet begins with regions that a border of labels cuts. The nodes of the recordings never split them; these would.
        let cluster = server.app.cluster.clone();
        cluster.pause_checker(CheckerName::Split, Duration::from_secs(3600), server.app.now());
        let options = FleetOptions { pd: vec![format!("http://{}", server.addr())], check_replicas: true, ..options };
        let mut nodes = Nodes::start(options);
        nodes.loaded().await;
        let site = Self { server, log, nodes, _folder: folder };
        eventually("prepared", PATIENCE, || async { cluster.is_prepared().then_some(()) }).await;
        site
    }

    /// One request, made as `pd-ctl` makes it.
    async fn ask(&self, method: &str, target: &str, body: Option<Value>) -> Answer {
        let request = Request {
            method: method.into(),
            target: target.into(),
            headers: vec![("component".into(), "pd-ctl".into()), ("Content-Type".into(), "application/json".into())],
            body: body.map(|b| b.to_string().into_bytes()).unwrap_or_default(),
        };
        http::send(self.server.addr(), &request).await
    }

    /// The same; anything but 200 is a failure of the test.
    async fn must(&self, method: &str, target: &str, body: Option<Value>) -> Value {
        let answer = self.ask(method, target, body).await;
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    async fn limit_all(&self, rate: u32) {
        self.must("POST", "/pd/api/v1/stores/limit", Some(json!({ "rate": rate }))).await;
    }

    /// Pauses all schedulers: what they move, by the score of the moment, would stand between what is compared.
    async fn without_balance(&self) {
        self.must("POST", "/pd/api/v1/schedulers/all", Some(json!({ "delay": 3600 }))).await;
    }

    async fn store(&self, id: u64) -> Value {
        self.must("GET", &format!("/pd/api/v1/store/{id}"), None).await
    }

    /// `add-peer` and `remove-peer` of a store.
    async fn limits(&self, id: u64) -> (f64, f64) {
        let all = self.must("GET", "/pd/api/v1/stores/limit", None).await;
        let of = |kind: &str| all[id.to_string()][kind].as_f64().unwrap();
        (of("add-peer"), of("remove-peer"))
    }

    async fn until_state(&self, id: u64, state: &str) {
        let what = format!("store {id} to be {state}");
        eventually(
            &what,
            PATIENCE,
            || async move { (self.store(id).await["store"]["state_name"] == state).then_some(()) },
        )
        .await;
    }

    /// Waits until no operator is under way.
    async fn until_idle(&self) {
        let cluster = &self.server.app.cluster;
        eventually("no operator under way", PATIENCE, || async move { cluster.operators().is_empty().then_some(()) })
            .await;
    }

    fn lines(&self) -> Vec<Line> {
        let text = String::from_utf8(self.log.lock().clone()).unwrap();
        text.lines().map(|l| logs::parse(l).unwrap_or_else(|| panic!("unreadable: {l}"))).collect()
    }

    /// Waits until the fleet's stores have reported so many more times: the time in which whatever was to happen would have begun.
    async fn some_heartbeats(&mut self, count: u64) {
        let until = self.nodes.view().counters.store_heartbeats + count;
        self.nodes.until("store heartbeats", PATIENCE, |v| v.counters.store_heartbeats >= until).await;
    }

    async fn end(self) -> (FleetReport, Vec<Line>) {
        let report = self.nodes.end().await;
        self.server.stop().await;
        let text = String::from_utf8(self.log.lock().clone()).unwrap();
        println!("{report}");
        (report, text.lines().filter_map(logs::parse).collect())
    }
}

/// A small fleet with quick nodes.
fn small(stores: u32, regions: u32) -> FleetOptions {
    FleetOptions {
        stores,
        regions,
        step_delay: Duration::from_millis(10),
        store_heartbeat: Duration::from_millis(200),
        election_timeout: Duration::from_millis(300),
        ..FleetOptions::default()
    }
}

/// The recorded log; `None`, with a word about it, when it is not there.
fn recording() -> Option<Vec<Line>> {
    let text = std::fs::read_to_string(facts::folder("compat")?.join("scale-in-story.log")).unwrap();
    let lines: Vec<_> = text.lines().map(|l| logs::parse(l).unwrap_or_else(|| panic!("unreadable: {l}"))).collect();
    assert_eq!(lines.len(), 88);
    Some(lines)
}

/// Whether a line is about what happens to store `id` as a whole.
fn is_about(line: &Line, id: u64) -> bool {
    let says = |key: &str, text: &str| line.field(key).is_some_and(|v| v.contains(text));
    line.field("store-id").is_some_and(|v| v == id.to_string())
        || says("service-info", &format!("/store/{id},"))
        || says("service-info", "remove-tombstone")
        || says("store", &format!("id:{id} "))
}

/// What happens to store `id` from its DELETE on.
fn store_story(lines: &[Line], id: u64) -> Vec<String> {
    let of = lines.iter().filter(|l| is_about(l, id)).skip_while(|l| l.message != "audit log");
    of.map(logs::store_line).collect()
}

/// The forms that the story of a drained region may have: the recorded ones, each with the last observation that the recording
/// leaves out, and the leader's under the name that region 3086 has there.
fn allowed_stories(recorded: &[Line]) -> BTreeMap<Vec<String>, &'static str> {
    let regions = logs::by_region(recorded);
    let whole = |id: u64| {
        let mut story = logs::region_story(&regions[&id], "2");
        let finish = story.pop().unwrap();
        assert!(finish.starts_with("INFO operator finish"), "{finish}");
        // Of the peers renamed, the one of the store that is left is the second: the first is the new one.
        story.push(
            "INFO region ConfVer changed [region-id=R] [detail=Remove peer:{id:P2 store_id:victim role:Learner }] \
             [old-confver=6] [new-confver=7]"
                .into(),
        );
        story.push(finish);
        story
    };
    let leader = whole(3110);
    let same_leader = leader.iter().map(|l| l.replace("replace-rule-offline-leader-peer", "replace-rule-offline-peer"));
    BTreeMap::from([(same_leader.collect(), "leader, any"), (leader, "leader, chosen"), (whole(3082), "follower")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_scale_in_tells_what_pds_tells() {
    let Some(recorded) = recording() else { return };
    let options = FleetOptions {
        step_delay: Duration::from_millis(20),
        store_heartbeat: Duration::from_secs(1),
        check_empty: Some(VICTIM),
        ..FleetOptions::default()
    };
    let mut site = Site::start(options).await;
    site.without_balance().await;
    let (drained, led) = {
        let view = site.nodes.view();
        let victim = view.store(StoreId(VICTIM)).unwrap();
        (victim.peers as usize, victim.leaders as usize)
    };
    assert_eq!(drained, 1001, "the layout of the recording");
    site.limit_all(2000).await;
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    site.nodes.until("an empty store", PATIENCE, |v| v.store(StoreId(VICTIM)).unwrap().peers == 0).await;
    site.until_state(VICTIM, "Tombstone").await;
    site.must("DELETE", "/pd/api/v1/stores/remove-tombstone", None).await;
    assert_eq!(site.ask("GET", &format!("/pd/api/v1/store/{VICTIM}"), None).await.status, 404);
    let (report, lines) = site.end().await;

    assert_eq!(store_story(&lines, VICTIM), store_story(&recorded, VICTIM));
    check_start(&lines, &recorded);
    check_regions(&lines, &recorded, drained, led);

    assert!(report.passed(), "{report}");
    assert_eq!((report.regions, report.peers[&VICTIM]), (2000, 0));
    assert_eq!(report.peers.values().sum::<u32>(), 6000, "three voters everywhere");
    let done = report.counters.executed_total();
    assert_eq!(done as usize, 4 * drained + led, "steps carried out");
    // Each region once at the start, once a change; the peers' leader does not report what it has reported.
    assert!(report.counters.region_heartbeats >= 2000 + done, "{}", report.counters.region_heartbeats);
    assert_eq!(report.counters.store_heartbeat_errors, 0);
    assert_eq!(report.counters.rejected_total(), 0);
}

/// The lines of the start: each store's, then the end of the preparation.
fn check_start(lines: &[Line], recorded: &[Line]) {
    const START: [&str; 5] = [
        "store limit added",
        "put store ok",
        "store has changed to serving",
        "not loaded from storage region number is satisfied, finish prepare checker",
        "coordinator has finished cluster information preparation",
    ];
    for message in START {
        let find = |lines: &[Line]| {
            let line = lines.iter().find(|l| l.message == message && l.field("store-id").is_none_or(|id| id != "2"));
            line.unwrap_or_else(|| panic!("no line {message:?}")).clone()
        };
        let (ours, pds) = (find(lines), find(recorded));
        let names = |l: &Line| l.fields.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>();
        assert_eq!((&ours.level, names(&ours)), (&pds.level, names(&pds)), "{message}");
    }
    let count = |message: &str| lines.iter().filter(|l| l.message == message).count();
    assert_eq!((count(START[0]), count(START[1])), (6, 6));
    assert_eq!((count(START[3]), count(START[4])), (1, 1));
    let at = |message: &str| lines.iter().position(|l| l.message == message).unwrap();
    assert!(START[3..].windows(2).all(|w| at(w[0]) < at(w[1])));
    assert!(at(START[4]) < at("add operator"));
    let prepared = &lines[at(START[3])];
    let number = |key: &str| prepared.field(key).unwrap().parse::<f64>().unwrap();
    assert!(number("not-from-storage-region") >= 0.9 * number("total-region") && number("total-region") <= 2000.0);
}

fn check_regions(lines: &[Line], recorded: &[Line], drained: usize, led: usize) {
    let allowed = allowed_stories(recorded);
    let offline = lines.iter().position(|l| l.message == "store has been offline").unwrap();
    let regions = logs::by_region(&lines[offline..]);
    assert_eq!(regions.len(), drained, "only regions of the store are touched");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, lines) in &regions {
        let story = logs::region_story(lines, "2");
        let Some(form) = allowed.get(&story) else {
            panic!("region {id}: {story:#?}\nnone of {:#?}", allowed.keys());
        };
        *seen.entry(form).or_default() += 1;
        let wanted = match id {
            3082 => *form == "follower",
            3110 => form.starts_with("leader"),
            _ => true,
        };
        assert!(wanted, "region {id}: {form}");
    }
    println!("{seen:?}");
    assert_eq!(seen["follower"], drained - led);
    assert!(seen["leader, chosen"] > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_cancel_half_way_brings_back_what_was_and_stops_the_moves() {
    let mut site = Site::start(small(5, 400)).await;
    site.without_balance().await;
    let before = site.nodes.peers(VICTIM);
    site.limit_all(600).await;
    let limit = json!({ "rate": 77, "type": "remove-peer" });
    site.must("POST", &format!("/pd/api/v1/store/{VICTIM}/limit"), Some(limit)).await;
    assert_eq!(site.limits(VICTIM).await, (600.0, 77.0));
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    assert_eq!(site.limits(VICTIM).await, (600.0, 100_000_000.0));
    assert_eq!(site.store(VICTIM).await["store"]["node_state"], NODE_REMOVING);
    site.nodes.until("half of it", PATIENCE, |v| v.store(StoreId(VICTIM)).unwrap().peers <= before / 2).await;

    site.must("POST", &format!("/pd/api/v1/store/{VICTIM}/state?state=Up"), None).await;
    assert_eq!(site.limits(VICTIM).await, (600.0, 77.0));
    let store = site.store(VICTIM).await["store"].clone();
    assert_eq!((&store["state_name"], &store["node_state"]), (&json!("Up"), &json!(NODE_SERVING)));
    site.until_idle().await;
    let (peers, lines) = (site.nodes.peers(VICTIM), site.lines().len());
    assert!(peers > 0);
    site.some_heartbeats(25).await;
    assert_eq!(site.nodes.peers(VICTIM), peers);
    let told = site.nodes.view().store(StoreId(VICTIM)).unwrap().node_state;
    assert_eq!(told, Some(berth::model::NodeState::Serving), "the node hears it");
    let (report, all) = site.end().await;
    let since: Vec<_> = all[lines..].iter().filter(|l| l.message == "add operator").collect();
    assert!(since.is_empty(), "{since:#?}");
    let story: Vec<_> = store_story(&all, VICTIM).into_iter().filter(|l| !l.contains("audit log")).collect();
    assert_eq!(
        story,
        [
            "WARN store has been offline [store-id=2] [region-count=*] [store-address=*] [physically-destroyed=false]",
            "INFO store limit changed [store-id=2] [type=remove-peer] [rate-per-min=100000000]",
            "WARN store has been up [store-id=2] [store-address=*]",
            "INFO store limit changed [store-id=2] [type=add-peer] [rate-per-min=600]",
            "INFO store limit changed [store-id=2] [type=remove-peer] [rate-per-min=77]",
        ]
    );
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_border_of_labels_splits_regions_when_the_split_checker_may_run() {
    let mut site = Site::start(small(4, 20)).await;
    assert_eq!(site.must("GET", "/pd/api/v1/checker/split", None).await["paused"], json!(true));
    let said = site.must("POST", "/pd/api/v1/checker/split", Some(json!({ "delay": 0 }))).await;
    assert_eq!(said, json!("Resume the checker successfully."));
    // Keyspace 0 has a range of its own within the last region.
    site.nodes.until("both borders", PATIENCE, |v| v.counters.splits == 2).await;
    site.until_idle().await;
    let (report, lines) = site.end().await;
    assert_eq!(report.regions, 22);
    let added: Vec<_> = lines.iter().filter(|l| l.message == "add operator").collect();
    assert!(added.iter().all(|l| l.field("operator").unwrap().contains("labeler-split-region")), "{added:#?}");
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_of_two_removals_that_cannot_both_pass_one_is_refused() {
    const ROUNDS: usize = 8;
    let site = Site::start(small(4, 20)).await;
    site.must("POST", "/pd/api/v1/config", Some(json!({ "schedule.halt-scheduling": "true" }))).await;
    for _ in 0..ROUNDS {
        let (one, two) = tokio::join!(
            site.ask("DELETE", "/pd/api/v1/store/3", None),
            site.ask("DELETE", "/pd/api/v1/store/4", None)
        );
        let (taken, refused, lost) = if one.status == 200 { (3, two, 4) } else { (4, one, 3) };
        assert_eq!(refused.status, 400, "{}", refused.text());
        let text = format!(
            "\"[PD:core:ErrStoresNotEnough]can not remove store {lost} since the number of up stores would be 2 while need 3\"\n"
        );
        assert_eq!(refused.text(), text);
        assert_eq!(site.store(lost).await["store"]["state_name"], "Up");
        assert_eq!(site.store(taken).await["store"]["state_name"], "Offline");
        site.must("POST", &format!("/pd/api/v1/store/{taken}/state?state=Up"), None).await;
    }
    let (report, lines) = site.end().await;
    let count = |message: &str| lines.iter().filter(|l| l.message == message).count();
    assert_eq!((count("store has been offline"), count("store has been up")), (ROUNDS, ROUNDS));
    assert_eq!(report.counters.commands.len(), 0, "halted");
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s9_a_store_that_dies_in_its_drain_is_emptied_and_buried_when_it_is_given_up() {
    let mut options = small(5, 300);
    let after = Duration::from_secs(4);
    options.fault.stop_store = vec![StopStore { ordinal: VICTIM as u32, after, lasts: None }];
    let mut site = Site::start(options).await;
    // About twenty seconds for the whole drain, so that the store stops within it.
    site.limit_all(120).await;
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    let view = site.nodes.until("the outage", PATIENCE, |v| !v.store(StoreId(VICTIM)).unwrap().up).await;
    assert!(view.store(StoreId(VICTIM)).unwrap().peers > 0, "it stops before it is empty");
    site.limit_all(3000).await;
    site.nodes.until("an empty store", PATIENCE, |v| v.store(StoreId(VICTIM)).unwrap().peers == 0).await;
    site.some_heartbeats(20).await;
    assert_eq!(site.store(VICTIM).await["store"]["state_name"], "Offline", "it has not said that it is empty");
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}?force"), None).await;
    site.until_state(VICTIM, "Tombstone").await;
    let again = site.ask("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    assert_eq!((again.status, again.text().as_str()), (410, "\"[PD:core:ErrStoreRemoved]store 2 has been removed\"\n"));
    let (report, lines) = site.end().await;
    assert!(report.passed(), "{report}");
    let tombstone = lines.iter().find(|l| l.message == "store has been Tombstone").unwrap();
    assert_eq!((tombstone.field("state"), tombstone.field("physically-destroyed")), (Some("Offline"), Some("true")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_for_a_while_is_drained_all_the_same() {
    let mut options = small(5, 300);
    options.check_empty = Some(VICTIM);
    let (after, lasts) = (Duration::from_secs(4), Some(Duration::from_secs(3)));
    options.fault.stop_store = vec![StopStore { ordinal: VICTIM as u32, after, lasts }];
    let mut site = Site::start(options).await;
    site.limit_all(300).await;
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    site.nodes.until("the outage", PATIENCE, |v| !v.store(StoreId(VICTIM)).unwrap().up).await;
    site.nodes.until("the return", PATIENCE, |v| v.store(StoreId(VICTIM)).unwrap().connected).await;
    site.until_state(VICTIM, "Tombstone").await;
    let (report, _) = site.end().await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.counters.store_stops, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_safely_among_nodes_that_go_wrong_in_every_way() {
    let mut options = small(5, 200);
    options.check_empty = Some(VICTIM);
    // The mix of `berth sim --faults`, more often than there, and an outage that surely falls into the drain.
    let lasts = Some(Duration::from_secs(3));
    options.fault = FaultOptions {
        faults: true,
        leader_changes: 600.0,
        splits: 120.0,
        slow_snapshots: 30.0,
        stale_heartbeats: 20.0,
        stop_store: vec![StopStore { ordinal: 3, after: Duration::from_secs(4), lasts }],
        ..FaultOptions::default()
    };
    let mut site = Site::start(options).await;
    site.without_balance().await;
    site.limit_all(200).await;
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    let view = site.nodes.until("the outage", PATIENCE, |v| v.counters.store_stops > 0).await;
    assert!(view.store(StoreId(VICTIM)).unwrap().peers > 0, "it falls into the drain");
    site.limit_all(3000).await;
    site.until_state(VICTIM, "Tombstone").await;
    let back = |v: &FleetView| v.stores.iter().all(|s| s.buried || s.connected);
    site.nodes.until("all stores that are left", PATIENCE, back).await;
    site.until_idle().await;
    let (report, _) = site.end().await;
    assert!(report.passed(), "{report}");
    let c = &report.counters;
    assert!(c.elections > 20 && c.splits > 5 && c.snapshots > 100 && c.stale_heartbeats > 20, "{report}");
}

/// What was decided from the moment that a store is Offline: each input, whether it is a tick, and how many operators it started.
#[derive(Default)]
struct Decided(Mutex<Option<Vec<(bool, usize)>>>);

impl Tap for Decided {
    fn input(&self, _: Option<Now>, input: Input<'_>) {
        let mut decided = self.0.lock();
        match (input, decided.as_mut()) {
            (Input::PutStore(record), None) if record.state == StoreState::Offline => *decided = Some(vec![(false, 0)]),
            (input, Some(decided)) => decided.push((matches!(input, Input::Tick), 0)),
            _ => {}
        }
    }

    fn started(&self, _: &Operator) {
        if let Some(last) = self.0.lock().as_mut().and_then(|decided| decided.last_mut()) {
            last.1 += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_tick_after_the_delete_starts_operators_and_so_does_each_one_until_all_are_under_way() {
    // Nodes that do nothing: what is started stays under way, and no limit but the given ones can bind.
    let idle = Duration::from_secs(3600);
    let options = FleetOptions { step_delay: idle, region_size: 24, ..small(6, 20_000) };
    let site = Site::start(options).await;
    site.without_balance().await;
    site.limit_all(200_000_000).await;
    site.must("POST", "/pd/api/v1/config", Some(json!({ "replica-schedule-limit": 100_000 }))).await;
    let cluster = site.server.app.cluster.clone();
    cluster.cancel_all_operators(site.server.app.now());
    let drained = cluster.regions().summary(StoreId(VICTIM)).region_count;
    assert!(drained >= 10_000, "{drained}");
    let decided = Arc::new(Decided::default());
    cluster.listen(decided.clone());
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    let all = || async { (cluster.operators().len() as u64 == drained).then_some(()) };
    eventually("an operator for every region", PATIENCE, all).await;
    let inputs = decided.0.lock().clone().unwrap();
    let last = inputs.iter().rposition(|(_, started)| *started > 0).unwrap();
    let ticks: Vec<usize> = inputs[..=last].iter().filter(|(is_tick, _)| *is_tick).map(|(_, n)| *n).collect();
    println!("{} operators in {} ticks: {ticks:?}", ticks.iter().sum::<usize>(), ticks.len());
    assert_eq!(ticks.iter().sum::<usize>() as u64, drained, "ticks start them");
    assert!(ticks.iter().all(|started| *started > 0), "no tick is idle while limits allow: {ticks:?}");
    let (report, _) = site.end().await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn force_says_that_the_machine_is_gone() {
    let mut options = small(4, 100);
    options.fault.stop_store = vec![StopStore { ordinal: VICTIM as u32, after: Duration::from_secs(3), lasts: None }];
    let mut site = Site::start(options).await;
    site.limit_all(6000).await;
    site.nodes.until("the outage", PATIENCE, |v| !v.store(StoreId(VICTIM)).unwrap().up).await;
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}?force=true"), None).await;
    let store = site.store(VICTIM).await["store"].clone();
    assert_eq!((&store["state_name"], &store["physically_destroyed"]), (&json!("Offline"), &json!(true)));
    let back = site.ask("POST", &format!("/pd/api/v1/store/{VICTIM}/state?state=Up"), None).await;
    let text = "\"[PD:core:ErrStoreDestroyed]store 2 has been physically destroyed\"\n";
    assert_eq!((back.status, back.text().as_str()), (400, text));
    let plain = site.ask("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    assert_eq!((plain.status, plain.text().as_str()), (400, text));
    site.until_state(VICTIM, "Tombstone").await;
    let (report, _) = site.end().await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rule_denies_stays_until_the_rule_goes() {
    /// Regions from the second on that the rule covers: rows 0 to 0x3b.
    const HELD: usize = 0x3b;
    let mut options = small(5, 200);
    options.check_empty = Some(VICTIM);
    let mut site = Site::start(options).await;
    site.without_balance().await;
    site.limit_all(6000).await;
    let rule = json!({
        "id": "keep-still", "labels": [{ "key": "schedule", "value": "deny" }], "rule_type": "key-range",
        "data": [{
            "start_key": "7480000000000000FF015F728000000000FF000000FF00000000FB",
            "end_key": "7480000000000000FF015F728000000000FF00003BFF00000000FB",
        }],
    });
    site.must("POST", "/pd/api/v1/config/region-label/rule", Some(rule)).await;
    let on_victim = |site: &Site| {
        let regions = site.server.app.cluster.regions();
        let all = regions.scan(&berth::model::KeyRange::all(), 1000);
        let holds: Vec<bool> = all.iter().map(|r| r.peers().iter().any(|p| p.store == StoreId(VICTIM))).collect();
        (holds[1..=HELD].iter().filter(|h| **h).count(), holds.iter().filter(|h| **h).count())
    };
    let (held, all) = on_victim(&site);
    assert!(held > 20 && all > held);
    site.must("DELETE", &format!("/pd/api/v1/store/{VICTIM}"), None).await;
    let left = u32::try_from(held).unwrap();
    site.nodes.until("all but the held", PATIENCE, |v| v.store(StoreId(VICTIM)).unwrap().peers == left).await;
    site.until_idle().await;
    site.some_heartbeats(25).await;
    assert_eq!(on_victim(&site), (held, held));
    assert_eq!(site.store(VICTIM).await["store"]["state_name"], "Offline");
    let adds = |lines: &[Line]| lines.iter().filter(|l| l.message == "add operator").count();
    assert_eq!(adds(&site.lines()), all - held);

    site.must("DELETE", "/pd/api/v1/config/region-label/rule/keep-still", None).await;
    site.until_state(VICTIM, "Tombstone").await;
    let (report, lines) = site.end().await;
    assert_eq!(adds(&lines), all);
    assert!(report.passed(), "{report}");
}
