//! What Berth adds to placement rules and region labels, against a whole server: rules that cannot be met are named, or refused when
//! asked for; label rules tell who set them and how long they hold; PD's answers keep their shape.

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
    pub(crate) mod server;
}

use std::time::Duration;

use berth::{
    meta::AskedBy,
    proto::{metapb, pdpb},
};
use common::{
    facts::{Answer, unrecorded},
    http,
    server::Running,
};
use serde_json::{Value, json};

struct Cluster(Running);

impl Cluster {
    /// One store, in zone z1.
    async fn start() -> Self {
        let running = Running::start().await;
        let app = &running.server.app;
        let peer = metapb::Peer { id: 3, store_id: 1, ..Default::default() };
        let epoch = metapb::RegionEpoch { conf_ver: 1, version: 1 };
        let region = metapb::Region { id: 2, region_epoch: Some(epoch), peers: vec![peer], ..Default::default() };
        let request =
            pdpb::BootstrapRequest { store: Some(store(1, "z1")), region: Some(region), ..Default::default() };
        app.bootstrap(&request).await.unwrap();
        Self(running)
    }

    async fn join(&self, id: u64, zone: &str) {
        let app = &self.0.server.app;
        app.put_store(app.record_of(&store(id, zone))).await.unwrap();
    }

    async fn ask(&self, line: &str) -> Answer {
        self.ask_as("", line).await
    }

    /// The same from a component that tells its name.
    async fn ask_as(&self, component: &str, line: &str) -> Answer {
        let mut request = unrecorded(line);
        request.headers.push(("component".into(), component.into()));
        http::send(self.0.addr(), &request).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.ask(&format!("GET {path}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The rules that cannot be met, as `group/id: why`.
    async fn unmet(&self) -> Vec<String> {
        let list = self.get("/berth/v1/rules/unmet").await;
        let rules = list["rules"].as_array().unwrap();
        assert_eq!(list["count"], json!(rules.len()));
        rules.iter().map(|rule| rule["why"].as_str().unwrap().to_owned()).collect()
    }
}

fn store(id: u64, zone: &str) -> metapb::Store {
    let label = metapb::StoreLabel { key: "zone".into(), value: zone.into() };
    let address = format!("store-{id}:20160");
    metapb::Store { id, address, version: "8.5.0".into(), labels: vec![label], ..Default::default() }
}

const RULE: &str = r#"{"group_id":"pd","id":"near","role":"follower","count":2,"label_constraints":[{"key":"zone","op":"in","values":["z1"]}]}"#;

/// Every way to write rules knows `berth-strict`, and changes nothing when it refuses.
async fn refuses_what_cannot_be_met(cluster: &Cluster) {
    let rule = r#"{"group_id":"x","id":"x","role":"learner","count":9}"#;
    let (api, all) = ("POST /pd/api/v1/config", cluster.ask("GET /pd/api/v1/config/placement-rule").await.text());
    let bundle = format!(r#"{{"group_id":"x","rules":[{rule}]}}"#);
    let batch = rule.replacen('{', r#"{"action":"add","#, 1);
    for (path, body) in [
        ("rule", rule),
        ("rules", &format!("[{rule}]")),
        ("rules/batch", &format!("[{batch}]")),
        ("rule_group", r#"{"id":"pd","index":1}"#),
        ("placement-rule/x", &bundle),
        ("placement-rule?partial=true", &format!("[{bundle}]")),
    ] {
        let path = format!("{path}{}berth-strict", if path.contains('?') { '&' } else { '?' });
        let odd = cluster.ask(&format!("{api}/{path}=yes {body}")).await;
        assert_eq!((odd.status, odd.text().contains("unknown berth-strict")), (400, true), "{path}: {}", odd.text());
        let strict = cluster.ask(&format!("{api}/{path}=true {body}")).await;
        assert_eq!((strict.status, strict.text().contains("asks for")), (400, true), "{path}: {}", strict.text());
    }
    for path in ["rule/pd/near", "rule_group/pd", "placement-rule/pd"] {
        let odd = cluster.ask(&format!("DELETE /pd/api/v1/config/{path}?berth-strict=1")).await;
        assert_eq!((odd.status, odd.text().contains("unknown berth-strict")), (400, true), "{path}: {}", odd.text());
    }
    assert_eq!(cluster.ask("GET /pd/api/v1/config/placement-rule").await.text(), all, "a refusal changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_cannot_be_met_are_named_as_long_as_it_is_so() {
    let cluster = Cluster::start().await;
    let default = "rule pd/default asks for 3 peers, the stores can take 1";
    assert_eq!(cluster.unmet().await, [default], "one store cannot hold three peers");
    for (id, zone) in [(4, "z2"), (5, "z2"), (6, "z2")] {
        cluster.join(id, zone).await;
    }
    assert!(cluster.unmet().await.is_empty(), "stores came");
    for (strict, why) in [("true", "rule pd/default asks for 9 peers, the stores can take 4"), ("x", "berth-strict")] {
        let more = r#"{"max-replicas":9}"#;
        let answer = cluster.ask(&format!("POST /pd/api/v1/config/replicate?berth-strict={strict} {more}")).await;
        assert_eq!((answer.status, answer.text().contains(why)), (400, true), "{}", answer.text());
    }
    assert_eq!(cluster.get("/pd/api/v1/config/replicate").await["max-replicas"], json!(3), "a refusal changes nothing");

    let why = "rule pd/near asks for 2 peers, the stores can take 1; label-constraint-filter: store 4, 5, 6";
    let strict = cluster.ask(&format!("POST /pd/api/v1/config/rule?berth-strict=true {RULE}")).await;
    assert_eq!((strict.status, serde_json::from_slice::<String>(&strict.body).unwrap()), (400, why.to_owned()));
    assert_eq!(cluster.ask("GET /pd/api/v1/config/rule/pd/near").await.status, 404, "a refusal changes nothing");
    let set = cluster.ask(&format!("POST /pd/api/v1/config/rule {RULE}")).await;
    assert_eq!((set.status, set.text().as_str()), (200, "\"Update rule successfully.\"\n"), "as PD");
    assert_eq!(cluster.unmet().await, [why]);
    assert!(cluster.ask("GET /metrics").await.text().contains("\nberth_unmet_rules 1\n"));
    let other = r#"{"group_id":"pd","id":"default","role":"voter","count":2}"#;
    let strict = cluster.ask(&format!("POST /pd/api/v1/config/rule?berth-strict=true {other}")).await;
    assert_eq!(strict.status, 400, "the other rule of the same keys is in the way");
    refuses_what_cannot_be_met(&cluster).await;
    let text = cluster.ask("GET /berth/v1/rules/unmet?format=text").await.text();
    assert_eq!(
        text,
        format!("1 placement rule cannot be met now:\n  {why} (first in keys from the first to the last)\n")
    );
    // What is kept counts for nothing while rules are off.
    let switch = |on: bool| format!("POST /pd/api/v1/config {{\"enable-placement-rules\":\"{on}\"}}");
    assert_eq!(cluster.ask(&switch(false)).await.status, 200);
    assert!(cluster.unmet().await.is_empty(), "{:?}", cluster.unmet().await);
    assert_eq!(cluster.ask(&switch(true)).await.status, 200);
    assert_eq!(cluster.unmet().await, [why]);

    cluster.join(7, "z1").await;
    assert!(cluster.unmet().await.is_empty());
    cluster
        .0
        .server
        .app
        .offline_store(7.into(), false, AskedBy { component: "test".into(), ip: "127.0.0.1".into() })
        .await
        .unwrap();
    let why = cluster.unmet().await.join("");
    assert!(why.ends_with("label-constraint-filter: store 4, 5, 6; store-state-offline-filter: store 7"), "{why}");
    assert_eq!(cluster.ask("DELETE /pd/api/v1/config/rule/pd/near").await.status, 200);
    assert!(cluster.unmet().await.is_empty());
    cluster.0.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_rule_tells_who_set_it_and_how_long_it_holds() {
    let cluster = Cluster::start().await;
    let rule = r#"{"id":"keep-still","labels":[{"key":"schedule","value":"deny","ttl":"1m30s"}],"rule_type":"key-range","data":[{"start_key":"74","end_key":"75"}]}"#;
    let set = cluster.ask_as("lightning", &format!("POST /pd/api/v1/config/region-label/rule {rule}")).await;
    assert_eq!(set.status, 200);
    let patch = r#"{"sets":[{"id":"other","labels":[{"key":"x","value":"y"}],"rule_type":"key-range","data":[{"start_key":"","end_key":"61"}]}],"deletes":[]}"#;
    assert_eq!(cluster.ask(&format!("PATCH /pd/api/v1/config/region-label/rules {patch}")).await.status, 200);

    let shown = cluster.ask("GET /pd/api/v1/config/region-label/rule/keep-still").await.text();
    assert!(
        shown.contains("\"ttl\": \"1m30s\"") && !shown.contains("berth") && !shown.contains("lightning"),
        "{shown}"
    );

    let list = cluster.get("/berth/v1/region-labels").await;
    assert_eq!(list["count"], 3);
    let ids: Vec<&str> = list["rules"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["keep-still", "keyspaces/0", "other"]);
    let [still, keyspace, other] = [0, 1, 2].map(|at| &list["rules"][at]);
    assert_eq!((&still["set_by"]["component"], &still["set_by"]["ip"]), (&json!("lightning"), &json!("127.0.0.1")));
    let label = &still["labels"][0];
    assert!((80..=90).contains(&label["seconds_left"].as_i64().unwrap()), "{label}");
    assert_eq!(label["holds"], json!(["balance", "merge", "scatter", "better-location", "offline"]));
    assert_eq!((&keyspace["set_by"], &other["set_by"]["component"]), (&Value::Null, &json!("anonymous")));
    let first = cluster.get("/berth/v1/region-labels?limit=1").await;
    assert_eq!((first["rules"].as_array().unwrap().len(), &first["next"]), (1, &json!("keep-still")));
    let rest = cluster.get("/berth/v1/region-labels?after=keep-still").await;
    assert_eq!((rest["rules"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));
    let text = cluster.ask("GET /berth/v1/region-labels?deny=true&format=text").await.text();
    assert!(
        text.starts_with("1 region label rule\n  keep-still (index 0): keys 74 to 75; set by lightning from "),
        "{text}"
    );
    assert!(text.contains("\n    schedule=deny: ends in 1m ") && text.ends_with("offline\n"), "{text}");
    assert_eq!(cluster.ask("GET /berth/v1/region-labels?format=xml").await.status, 400);
    let holding = cluster.get("/berth/v1/region-labels?deny=true").await;
    assert_eq!((holding["rules"].as_array().unwrap().len(), &holding["count"]), (1, &json!(1)));

    cluster.0.clock.skip(Duration::from_secs(90));
    assert_eq!(cluster.ask("GET /pd/api/v1/config/region-label/rule/keep-still").await.status, 404);
    let holding = cluster.get("/berth/v1/region-labels?deny=true").await;
    assert_eq!((&holding["rules"], &holding["count"]), (&json!([]), &json!(0)));
    cluster.0.server.stop().await;
}
