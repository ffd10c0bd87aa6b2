//! `/berth/v1` as a person asks it: the real program as a process, a fleet of nodes over gRPC, nothing known but the answers.

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
    pub mod nodes;
    pub mod process;
}

use std::{collections::BTreeMap, time::Duration};

use berth::sim::{
    FleetOptions,
    http::{Answer, HttpClient},
};
use common::{
    nodes::{Nodes, eventually},
    process::{Home, Process},
};
use hyper::Method;
use serde_json::{Value, json};

/// How long anything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The store that is taken out.
const VICTIM: u64 = 2;

/// A server process with a fleet whose regions move only when something is wrong with them.
struct Site {
    http: HttpClient,
    nodes: Nodes,
    process: Process,
    home: Home,
}

impl Site {
    async fn start(stores: u32, regions: u32) -> Self {
        let home = Home::new();
        let (process, http) = (home.start().await, home.http());
        let mut nodes = Nodes::start(FleetOptions {
            pd: vec![home.url()],
            stores,
            regions,
            step_delay: Duration::from_millis(10),
            store_heartbeat: Duration::from_millis(200),
            check_replicas: true,
            ..FleetOptions::default()
        });
        nodes.loaded().await;
        // Keyspace 0 has borders within the last region; the nodes cut it once scheduling has begun.
        nodes.until("both borders", PATIENCE, |v| v.counters.splits == 2).await;
        http.post("/pd/api/v1/schedulers/all", &json!({ "delay": 3600 })).await.unwrap();
        let idle = || async { (http.get_json("/pd/api/v1/operators").await.unwrap() == json!([])).then_some(()) };
        eventually("no operator under way", PATIENCE, idle).await;
        http.post("/pd/api/v1/stores/limit", &json!({ "rate": 6000 })).await.unwrap();
        Self { http, nodes, process, home }
    }

    async fn get(&self, path: &str) -> Value {
        self.http.get_json(path).await.unwrap()
    }

    async fn text(&self, path: &str) -> String {
        let sign = if path.contains('?') { '&' } else { '?' };
        self.http.get(&format!("{path}{sign}format=text")).await.unwrap()
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        self.http.request(method, path, None).await.unwrap()
    }

    /// All regions in the order of their keys.
    async fn regions(&self) -> Vec<Value> {
        self.get("/pd/api/v1/regions/key?limit=1000").await["regions"].as_array().unwrap().clone()
    }

    /// Sets a rule that holds the regions from the `from`th to the `to`th; the ids of those that have a peer on `store`.
    async fn deny(&self, rule: &str, (from, to): (usize, usize), store: u64) -> Vec<u64> {
        let regions = self.regions().await;
        let data = json!([{ "start_key": regions[from]["start_key"], "end_key": regions[to]["end_key"] }]);
        let labels = json!([{ "key": "schedule", "value": "deny" }]);
        let rule = json!({ "id": rule, "labels": labels, "rule_type": "key-range", "data": data });
        self.http.post("/pd/api/v1/config/region-label/rule", &rule).await.unwrap();
        let held = regions[from..=to].iter().filter(|r| stores_of(r).contains(&store));
        held.map(|r| r["id"].as_u64().unwrap()).collect()
    }

    async fn state(&self, store: u64) -> String {
        self.get(&format!("/pd/api/v1/store/{store}")).await["store"]["state_name"].as_str().unwrap().to_owned()
    }

    /// The series of one family of the metrics, by their labels.
    async fn series(&self, family: &str) -> BTreeMap<String, f64> {
        let text = self.http.get("/metrics").await.unwrap();
        let of = |line: &str| {
            let (labels, value) = line.strip_prefix(family)?.strip_prefix('{')?.split_once("} ")?;
            Some((labels.replace('"', ""), value.parse().unwrap()))
        };
        text.lines().filter_map(of).collect()
    }

    /// The age of the oldest rule that holds scheduling, as the metrics tell it.
    async fn deny_age(&self) -> f64 {
        let text = self.http.get("/metrics").await.unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix("berth_region_label_deny_age_seconds "));
        found.unwrap_or_else(|| panic!("no such metric in {text}")).parse().unwrap()
    }

    async fn end(self) {
        let report = self.nodes.end().await;
        assert!(report.passed(), "{report}");
        drop(self.process);
    }
}

fn stores_of(region: &Value) -> Vec<u64> {
    region["peers"].as_array().unwrap().iter().map(|p| p["store_id"].as_u64().unwrap()).collect()
}

fn total(groups: &Value) -> u64 {
    groups.as_array().unwrap().iter().map(|g| g["regions"].as_u64().unwrap()).sum()
}

/// The call that a remedy names, as method and path.
fn call_in(remedy: &str) -> (Method, String) {
    let (_, path) = remedy.split_once("DELETE ").unwrap_or_else(|| panic!("no call in {remedy:?}"));
    (Method::DELETE, path.split([';', ' ']).next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_a_rule_holds_is_foreseen_explained_and_let_go() {
    let mut site = Site::start(5, 120).await;
    let before = site.nodes.peers(VICTIM).into();
    let held = site.deny("import", (20, 49), VICTIM).await;
    assert!(held.len() > 5 && (held.len() as u64) < before);
    foreseen(&site, before, held.len() as u64).await;

    assert_eq!(site.get("/berth/v1/drains").await, json!({ "count": 0, "drains": [] }));
    assert_eq!(site.text("/berth/v1/drains").await, "no store is being drained\n");
    site.http.delete(&format!("/pd/api/v1/store/{VICTIM}")).await.unwrap();
    let drain = until_only_denied(&site).await;
    explained(&site, &drain, &held).await;
    metrics_agree(&site).await;
    alerts_can_be_evaluated(&site).await;

    let (method, path) = call_in(drain["groups"][0]["remedy"].as_str().unwrap());
    assert_eq!(site.ask(method, &path).await.status, 200);
    eventually("Tombstone", PATIENCE, || async { (site.state(VICTIM).await == "Tombstone").then_some(()) }).await;
    assert_eq!(site.get("/berth/v1/drains").await["count"], 0);
    operators_agree(&site, before, held[0]).await;
    let gone = || async { site.series("berth_drain_regions_left").await.is_empty().then_some(()) };
    eventually("no metrics of the drain", PATIENCE, gone).await;
    let none = || async { (site.deny_age().await == 0.0).then_some(()) };
    eventually("no rule that holds", PATIENCE, none).await;
    site.nodes.until("an empty store", PATIENCE, |v| v.counters.executed_total() > 0).await;
    assert_eq!(site.nodes.peers(VICTIM), 0);
    site.end().await;
}

/// The preview counts every region once, and names the rule.
async fn foreseen(site: &Site, before: u64, held: u64) {
    let path = format!("/berth/v1/drains/{VICTIM}/preview");
    let preview = site.get(&path).await;
    assert_eq!(
        (&preview["store"], &preview["allowed"], &preview["refusal"]),
        (&json!(VICTIM), &json!(true), &Value::Null)
    );
    assert_eq!((&preview["regions"], &preview["movable_regions"]), (&json!(before), &json!(before - held)));
    let holds = &preview["would_hold"];
    assert_eq!(
        (total(holds), holds[0]["reason"].as_str(), holds[0]["detail"].as_str()),
        (held, Some("denied"), Some("import"))
    );
    assert_eq!(preview["held"], true);
    assert_eq!(preview["tombstone_after_seconds"], Value::Null, "it would never be empty");
    assert!(preview["seconds"].as_f64().unwrap() > 0.0);
    let targets = preview["targets"].as_array().unwrap();
    assert_eq!(targets.iter().map(|t| t["regions"].as_u64().unwrap()).sum::<u64>(), before - held);
    assert!(targets.iter().all(|t| t["store"] != VICTIM));
    let text = site.text(&path).await;
    assert!(text.contains("a DELETE would be accepted\n") && text.contains("denied (import)"), "{text}");
    assert_eq!(site.state(VICTIM).await, "Up", "a preview changes nothing");
}

/// Waits until the rule holds all that is left; on the way each answer's groups add up.
async fn until_only_denied(site: &Site) -> Value {
    let path = format!("/berth/v1/drains/{VICTIM}");
    let look = || async {
        let drain = site.get(&path).await;
        let groups = drain["groups"].as_array().unwrap();
        assert_eq!(total(&drain["groups"]), drain["regions_left"].as_u64().unwrap(), "{drain:#}");
        for group in groups {
            let said = ["reason", "why", "remedy", "oldest_since"].map(|f| group[f].as_str().unwrap_or_default());
            assert!(said.iter().all(|text| !text.is_empty()), "{group:#}");
            assert!(!group["samples"].as_array().unwrap().is_empty());
        }
        (groups.len() == 1 && groups[0]["reason"] == "denied").then_some(drain)
    };
    eventually("only the rule holds", PATIENCE, look).await
}

/// The held drain, the list of drains, a held region: JSON and text.
async fn explained(site: &Site, drain: &Value, held: &[u64]) {
    assert_eq!((&drain["store"], &drain["state"]), (&json!(VICTIM), &json!("Offline")));
    assert_eq!(drain["asked_by"]["ip"], "127.0.0.1");
    assert_eq!(
        (drain["regions_left"].as_u64(), &drain["limited_by"]["limit"]),
        (Some(held.len() as u64), &json!("denied"))
    );
    assert_eq!(drain["seconds_left"], Value::Null, "nothing moves");
    assert!(drain["progress"].as_f64().unwrap() > 0.0 && drain["bytes_left"].as_u64().unwrap() > 0);
    let group = &drain["groups"][0];
    assert_eq!((&group["detail"], &group["ended_by"]), (&json!("import"), &json!(["settings", "expiry"])));
    assert_eq!(group["why"], "region label rule \"import\" says schedule=deny");
    let rule = &group["rule"];
    assert_eq!((&rule["id"], &rule["set_by"]["ip"]), (&json!("import"), &json!("127.0.0.1")));
    assert!(rule["set_by"]["at"].is_string() && rule["seconds_left"].is_null(), "{rule}");
    let samples: Vec<u64> = group["samples"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
    assert!(samples.iter().all(|id| held.contains(id)), "{samples:?}");

    let list = site.get("/berth/v1/drains").await;
    assert_eq!((&list["count"], &list["drains"][0]["store"]), (&json!(1), &json!(VICTIM)));
    assert_eq!(total(&list["drains"][0]["groups"]), held.len() as u64);
    let text = site.text(&format!("/berth/v1/drains/{VICTIM}")).await;
    for part in [
        format!("left: {} regions", held.len()),
        "no end in sight".into(),
        "why: region label rule \"import\" says schedule=deny".into(),
        " from 127.0.0.1 at ".into(),
        "holds until it is deleted".into(),
        "do:  remove the rule".into(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }

    let path = format!("/berth/v1/regions/{}/explain", held[0]);
    let region = site.get(&path).await;
    let outcome = &region["outcome"];
    assert_eq!((&outcome["kind"], &outcome["reason"]), (&json!("blocked"), &json!("denied")));
    assert_eq!((&outcome["why"], &outcome["remedy"]), (&group["why"], &group["remedy"]));
    assert_eq!(&outcome["rule"], rule);
    assert_eq!((&region["waits"]["asleep"], &region["operator"]), (&json!(true), &Value::Null));
    assert_eq!(region["as_if_nothing_held_it"], true);
    let stores = region["choices"][0]["stores"].as_array().unwrap();
    assert_eq!(stores.len(), 5, "every store is judged");
    let peers: Vec<u64> = region["stores"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
    assert!(peers.contains(&VICTIM));
    for store in stores {
        let (id, refused) = (store["store"].as_u64().unwrap(), store["refused_by"].as_array().unwrap());
        assert_eq!(refused.contains(&json!("exclude-filter")), peers.contains(&id), "{store}");
        assert_eq!(refused.contains(&json!("store-state-offline-filter")), id == VICTIM, "{store}");
        assert_eq!(refused.is_empty(), !peers.contains(&id), "{store}");
    }
    let text = site.text(&path).await;
    assert!(
        text.contains("refused: region label rule \"import\"") && text.contains("it sleeps until an event"),
        "{text}"
    );
}

/// The figures for machines are those for people.
async fn metrics_agree(site: &Site) {
    let path = format!("/berth/v1/drains/{VICTIM}");
    let (by_store, denied) = (format!("store={VICTIM}"), format!("reason=denied,store={VICTIM}"));
    let fresh = || async {
        let series = site.series("berth_drain_blocked_regions").await;
        series.get(&denied).copied().filter(|_| series.len() == 1)
    };
    let blocked = eventually("metrics of the held drain", PATIENCE, fresh).await;
    let drain = site.get(&path).await;
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(blocked, number(&drain["groups"][0]["regions"]));
    let left = site.series("berth_drain_regions_left").await;
    assert_eq!(left, BTreeMap::from([(by_store.clone(), number(&drain["regions_left"]))]));
    let bytes = site.series("berth_drain_bytes_left").await;
    assert_eq!(bytes, BTreeMap::from([(by_store, number(&drain["bytes_left"]))]));
    let binding = site.series("berth_drain_binding_limit").await;
    assert_eq!(binding, BTreeMap::from([(format!("limit=denied,store={VICTIM}"), 1.0)]));
    let oldest = site.series("berth_drain_oldest_blocked_seconds").await[&denied];
    let age = number(&drain["groups"][0]["oldest_seconds"]);
    assert!(oldest > 0.0 && oldest <= age && age - oldest < 15.0, "{oldest} {age}");
    let label_age = || async { Some(site.deny_age().await).filter(|age| *age > 0.0) };
    let label_age = eventually("the age of the rule", PATIENCE, label_age).await;
    assert!(
        label_age >= oldest && label_age < oldest + 60.0,
        "the rule was set before the drain: {label_age} {oldest}"
    );
}

/// Every metric and label that an alert looks at is served while a drain is held.
async fn alerts_can_be_evaluated(site: &Site) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/berth.rules.yml");
    let rules = std::fs::read_to_string(path).unwrap();
    let served = site.http.get("/metrics").await.unwrap();
    // The expression of a rule stands between `expr:` and `for:`.
    let exprs: Vec<&str> = rules.split("expr:").skip(1).map(|rest| rest.split("for:").next().unwrap()).collect();
    let name = regex::Regex::new(r"\b(?:pd|berth)_[a-z_]+").unwrap();
    let selected = regex::Regex::new(r"\b((?:pd|berth)_[a-z_]+)\{([a-z_]+)").unwrap();
    let joined = regex::Regex::new(r"(?:on|group_left) \(([^)]*)\)").unwrap();
    for expr in &exprs {
        let series = |name: &str| -> Vec<&str> {
            let rest = served.lines().filter_map(|line| line.strip_prefix(name));
            rest.filter(|rest| rest.starts_with(['{', ' '])).collect()
        };
        for found in name.find_iter(expr) {
            assert!(!series(found.as_str()).is_empty(), "{} is not served: {expr}", found.as_str());
        }
        for found in selected.captures_iter(expr) {
            let label = format!("{}=\"", &found[2]);
            assert!(series(&found[1]).iter().all(|rest| rest.contains(&label)), "{} has no {}", &found[1], &found[2]);
        }
        // A label that is joined on or carried over is one of the last family's; Prometheus adds where a series was read.
        let last = name.find_iter(expr).last().unwrap().as_str();
        for label in joined.captures_iter(expr).flat_map(|c| c[1].split(", ").map(str::to_owned).collect::<Vec<_>>()) {
            let given = ["job", "instance"].contains(&label.as_str());
            let label = format!("{label}=\"");
            assert!(given || series(last).iter().all(|rest| rest.contains(&label)), "{last} has no {label}");
        }
    }
    assert!(exprs.len() >= 7, "{}", exprs.len());
}

/// The operators of the drain: as many as there were regions, and the same by id, region and store.
async fn operators_agree(site: &Site, before: u64, region: u64) {
    let drain = site.get(&format!("/berth/v1/operators?drain={VICTIM}&limit=10000")).await;
    let all = drain["operators"].as_array().unwrap();
    assert_eq!((all.len() as u64, &drain["kept"], &drain["running"]), (before, &json!(before), &json!([])));
    for op in all {
        assert_eq!((&op["status"], &op["drains"]), (&json!("SUCCESS"), &json!([VICTIM])), "{op:#}");
        assert_eq!((&op["cause"]["maker"], &op["cause"]["name"]), (&json!("checker"), &json!("rule-checker")));
        assert_eq!(op["cause"]["from"], json!([{ "store": VICTIM, "state": "Offline" }]));
        assert!(op["choice"]["chosen"].as_u64().is_some_and(|store| store != VICTIM));
        assert!(op["steps"].as_array().unwrap().iter().all(|step| step["done"].is_string()), "{op:#}");
    }
    let of_region = site.get(&format!("/berth/v1/operators?region={region}")).await;
    let found = of_region["operators"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["region"]), (1, &json!(region)));
    assert!(all.contains(&found[0]));
    let path = format!("/berth/v1/operators/{}", found[0]["id"]);
    assert_eq!(site.get(&path).await, found[0]);
    let of_store = site.get(&format!("/berth/v1/operators?store={VICTIM}&limit=10000")).await;
    assert_eq!(of_store["operators"].as_array().unwrap().len() as u64, before);
    let few = site.get(&format!("/berth/v1/operators?drain={VICTIM}&limit=3")).await;
    assert_eq!((few["operators"].as_array().unwrap().len(), &few["kept"]), (3, &json!(before)));
    let (text, list) = (site.text(&path).await, site.text(&format!("/berth/v1/operators?drain={VICTIM}")).await);
    assert!(
        text.starts_with(&format!("operator {} of region {region}: replace-rule-offline", found[0]["id"])),
        "{text}"
    );
    assert!(list.starts_with(&format!("0 run, {before} ended and are kept whole\n")), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_refuses_every_store_is_named_for_the_drain_and_for_the_region() {
    let site = Site::start(4, 40).await;
    let label = |value: &str| json!({ "specialUse": value });
    site.http.post("/pd/api/v1/store/4/label", &label("reserved")).await.unwrap();
    site.http.delete(&format!("/pd/api/v1/store/{VICTIM}")).await.unwrap();
    let path = format!("/berth/v1/drains/{VICTIM}");
    let stuck = || async {
        let drain = site.get(&path).await;
        let groups = drain["groups"].as_array().unwrap();
        let only = groups.iter().find(|g| g["reason"] == "no-target").filter(|_| groups.len() == 1)?;
        (only["regions"] == drain["regions_left"]).then_some(drain)
    };
    let drain = eventually("no store takes what is left", PATIENCE, stuck).await;
    let group = &drain["groups"][0];
    assert_eq!(
        (&group["detail"], &group["refused"]),
        (&json!("special-use-filter"), &json!({ "special-use-filter": [4] }))
    );
    assert_eq!(group["remedy"], "take the label specialUse off store 4");
    let region = site.get(&format!("/berth/v1/regions/{}/explain", group["samples"][0])).await;
    assert_eq!((&region["outcome"]["reason"], &region["as_if_nothing_held_it"]), (&json!("no-target"), &json!(false)));
    let choice = &region["choices"][0];
    assert_eq!(choice["chosen"], Value::Null);
    let last = choice["stores"].as_array().unwrap().iter().find(|s| s["store"] == 4).unwrap();
    assert_eq!(last["refused_by"], json!(["special-use-filter"]));

    site.http.post("/pd/api/v1/store/4/label", &label("")).await.unwrap();
    eventually("Tombstone", PATIENCE, || async { (site.state(VICTIM).await == "Tombstone").then_some(()) }).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_questions_get_clear_errors_and_change_nothing() {
    let site = Site::start(4, 20).await;
    site.http.post("/pd/api/v1/config", &json!({ "halt-scheduling": "true" })).await.unwrap();
    site.http.delete("/pd/api/v1/store/4").await.unwrap();
    let state = || async {
        let mut all = Vec::new();
        for path in ["/pd/api/v1/config", "/pd/api/v1/config/region-label/rules", "/pd/api/v1/operators"] {
            all.push(site.get(path).await);
        }
        for store in 1..=4 {
            all.push(json!(site.state(store).await));
        }
        all
    };
    let before = state().await;
    let region = site.regions().await[0]["id"].as_u64().unwrap();
    let wrong: &[(u16, &str, &str)] = &[
        (404, "/berth/v1/drains/99", "store 99 not found"),
        (404, "/berth/v1/drains/99/preview", "store 99 not found"),
        (404, "/berth/v1/drains/1", "GET /berth/v1/drains/1/preview"),
        (404, "/berth/v1/regions/999999/explain", "999999"),
        (404, "/berth/v1/operators/424242", "operator 424242 is not known"),
        (404, "/berth/v1/nothing", ""),
        (400, "/berth/v1/drains/x", "\\\"x\\\""),
        (400, "/berth/v1/drains/-1/preview", "\\\"-1\\\""),
        (400, "/berth/v1/drains/18446744073709551616", "out of range"),
        (400, "/berth/v1/regions/x/explain", "\\\"x\\\""),
        (400, "/berth/v1/operators/x", "\\\"x\\\""),
        (400, "/berth/v1/operators?region=x", "\\\"x\\\""),
        (400, "/berth/v1/operators?store=-1", "\\\"-1\\\""),
        (400, "/berth/v1/operators?drain=1.5", "\\\"1.5\\\""),
        (400, "/berth/v1/operators?limit=many", "\\\"many\\\""),
        (400, "/berth/v1/operators?format=xml", "unknown format \\\"xml\\\": json or text"),
        (400, "/berth/v1/drains?format=TEXT", "unknown format"),
        (400, "/berth/v1/drains/4?format=xml", "unknown format"),
        (400, "/berth/v1/drains/4/preview?format=xml", "unknown format"),
    ];
    for (status, path, part) in wrong {
        let answer = site.ask(Method::GET, path).await;
        assert_eq!(answer.status, *status, "{path}: {}", answer.text());
        assert!(answer.text().contains(part), "{path}: {part:?} is not in {}", answer.text());
    }
    let format = site.ask(Method::GET, &format!("/berth/v1/regions/{region}/explain?format=yaml")).await;
    assert_eq!(format.status, 400);
    for path in ["/berth/v1/drains", "/berth/v1/drains/4", "/berth/v1/operators/1"] {
        for method in [Method::DELETE, Method::POST, Method::PUT] {
            let answer = site.ask(method.clone(), path).await;
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(state().await, before);

    // What the preview refuses the DELETE refuses, in the same words.
    let preview = site.get("/berth/v1/drains/3/preview").await;
    assert_eq!(preview["allowed"], false);
    let refusal = preview["refusal"].as_str().unwrap();
    let delete = site.ask(Method::DELETE, "/pd/api/v1/store/3").await;
    assert_eq!(delete.status, 400);
    assert!(delete.text().contains(refusal), "{refusal} is not what {} says", delete.text());
    assert_eq!(site.state(3).await, "Up");
    let drain = site.get("/berth/v1/drains/4").await;
    let group = &drain["groups"][0];
    assert_eq!((&drain["limited_by"]["limit"], &group["reason"]), (&json!("halt-scheduling"), &json!("halted")));
    let (path, body) = group["remedy"].as_str().unwrap().strip_prefix("POST ").unwrap().split_once(' ').unwrap();
    site.http.post(path, &serde_json::from_str(body).unwrap()).await.unwrap();
    eventually("Tombstone", PATIENCE, || async { (site.state(4).await == "Tombstone").then_some(()) }).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_explained_before_there_is_a_cluster() {
    let home = Home::new();
    let _process = home.start().await;
    let refused = home.http().request(Method::GET, "/pd/api/v1/operators", None).await.unwrap();
    for path in ["drains", "drains/1", "drains/1/preview", "regions/1/explain", "operators", "operators/1"] {
        let answer = home.http().request(Method::GET, &format!("/berth/v1/{path}"), None).await.unwrap();
        assert_eq!((answer.status, answer.text()), (refused.status, refused.text()), "{path}");
        assert!(!answer.status.is_success());
    }
}
