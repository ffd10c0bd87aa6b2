#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::{
    config::{Shared, schedule_json},
    model::testing::shared_file,
};

/// Rows that are answered elsewhere or on purpose differently, with the reason.
const ELSEWHERE: [(u32, &str); 4] = [
    (145, "the rule itself is another module's"),
    (147, "the rule itself is another module's"),
    (265, "a method that the route does not have"),
    (268, "PD panics; Berth answers 400"),
];

/// Undoes the escapes of the table.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next().unwrap() {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// A cluster as the table was recorded on: five TiKV stores and one TiFlash store, scheduling halted.
struct Cluster {
    config: Dynamic,
    limits: BTreeMap<StoreId, StoreLimits>,
    ttl: TtlItems,
    urls: Vec<String>,
}

impl Cluster {
    fn new() -> Self {
        let mut config = Dynamic::default();
        config.schedule.halt_scheduling = true;
        config.cluster_version = "8.5.0".parse().unwrap();
        let rate = |id| if id == 6 { 30.0 } else { 15.0 };
        let limit = |id| (StoreId(id), StoreLimits { add_peer: rate(id), remove_peer: rate(id) });
        let urls = vec!["http://127.0.0.1:2379".to_owned()];
        Self { config, limits: (1..=6).map(limit).collect(), ttl: TtlItems::default(), urls }
    }

    fn context<'a>(ttl: &'a TtlItems, urls: &'a [String]) -> Context<'a> {
        let rules = Some(RulesSummary { only_default: true, default_consistent: true });
        Context { rules, has_tiflash: true, member_urls: urls, ttl, now: Wall(0) }
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<&'static str, ConfigError> {
        let ctx = Self::context(&self.ttl, &self.urls);
        let update = match path.strip_prefix("/pd/api/v1/config").unwrap() {
            "" => post_config(&self.config, body, &ctx)?,
            "/schedule" => post_schedule(&self.config, body, &ctx)?,
            "/replicate" => post_replicate(&self.config, body, &ctx)?,
            ttl => {
                let seconds = ttl.strip_prefix("?ttlSecond=").unwrap();
                let (next, answer) = self.ttl.post(body, seconds, Wall(0))?;
                self.ttl = next;
                return Ok(answer);
            }
        };
        self.config = update.next;
        self.limits.extend(update.store_limits);
        Ok(UPDATED)
    }

    fn get(&self, path: &str) -> Value {
        match path.strip_prefix("/pd/api/v1").unwrap() {
            "/config/schedule" => schedule_json(&self.config.schedule, &self.limits),
            "/config/replicate" => serde_json::to_value(&self.config.replication).unwrap(),
            "/stores/limit" => schedule_json(&self.config.schedule, &self.limits)["store-limit"].clone(),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_recorded_request_is_answered_as_recorded() {
    let Some(table) = shared_file("compat/config-probes.tsv") else { return };
    let mut cluster = Cluster::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<String> = row.split('\t').map(unescape).collect();
        let number: u32 = cells[0].parse().unwrap();
        if ELSEWHERE.iter().any(|(n, _)| *n == number) {
            continue;
        }
        let (status, body) = match cells[1].as_str() {
            "GET" => (200, cluster.get(&cells[2])),
            _ => match cluster.post(&cells[2], cells[3].as_bytes()) {
                Ok(answer) => (200, answer.into()),
                Err(error) => (error.status(), error.body()),
            },
        };
        let text = gojson::to_string_pretty(&body) + "\n";
        let recorded = cells[6].replace("\"<numbers>\"", "").replace("[\n    \n  ]", "[]");
        if (status.to_string(), &text) != (cells[4].clone(), &recorded) {
            wrong.push(format!(
                "{number} {} {}\n  recorded {} {recorded}  answered {status} {text}",
                cells[2], cells[3], cells[4]
            ));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 270, "{checked}");
}

#[test]
fn many_keys_are_applied_whole_or_not_at_all() {
    let mut cluster = Cluster::new();
    let before = cluster.config.clone();
    let body = br#"{"leader-schedule-limit":8,"max-replicas":5,"low-space-ratio":2,"key-type":"raw"}"#;
    let error = cluster.post("/pd/api/v1/config", body).unwrap_err();
    assert_eq!(error, ConfigError::BadRequest("low-space-ratio should between 0 and 1".to_owned()));
    assert_eq!(cluster.config, before);
    // Two values that only fit together are taken together.
    let body = br#"{"high-space-ratio":0.5,"low-space-ratio":0.6}"#;
    assert_eq!(cluster.post("/pd/api/v1/config", body), Ok(UPDATED));
    assert_eq!(cluster.config.schedule.low_space_ratio, 0.6);
}

#[test]
fn replication_edits_the_default_rule_or_is_refused() {
    let cluster = Cluster::new();
    let with = |rules, body: &str| {
        let ctx = Context { rules, ..Cluster::context(&cluster.ttl, &cluster.urls) };
        post_replicate(&cluster.config, body.as_bytes(), &ctx)
    };
    let fit = RulesSummary { only_default: true, default_consistent: true };
    let body = r#"{"max-replicas":5,"location-labels":"zone,host"}"#;
    let rule = with(Some(fit), body).unwrap().default_rule.unwrap();
    assert_eq!((rule.count, rule.location_labels.join("/")), (5, "zone/host".to_owned()));
    let same = with(Some(fit), r#"{"max-replicas":3}"#).unwrap();
    assert_eq!((same.default_rule, same.next == cluster.config), (None, true));

    let error = with(Some(RulesSummary { only_default: false, ..fit }), body).unwrap_err();
    assert!(error.to_string().starts_with("cannot update MaxReplicas, LocationLabels or IsolationLevel when"));
    let error = with(Some(RulesSummary { default_consistent: false, ..fit }), body).unwrap_err();
    assert!(error.to_string().starts_with("cannot to update replication config, the default rules do not"));
    let error = with(None, body).unwrap_err();
    assert_eq!(error.body(), "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first");
    // What does not touch the rule is taken in any case.
    let other = with(Some(RulesSummary { only_default: false, ..fit }), r#"{"strictly-match-label":"true"}"#);
    assert!(other.unwrap().next.replication.strictly_match_label);
}

/// The status, headers and body of a recording of one request, with the body that was sent.
fn recording(name: &str) -> Option<(u16, String, String)> {
    let text = shared_file(&format!("compat/rest-golden/{name}.http.txt"))?;
    let (request, answer) = text.split_once("<<< response\n").unwrap();
    let sent = request.rsplit_once("\n\n").map_or("", |(_, body)| body.strip_suffix('\n').unwrap_or(body));
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, sent.to_owned(), answer.split_once("\n\n").unwrap().1.trim_end().to_owned()))
}

#[test]
fn single_section_routes_answer_as_recorded() {
    type Change = fn(&Dynamic, &[u8]) -> Result<Update, ConfigError>;
    let mode: Change = |present, body| {
        let ttl = TtlItems::default();
        replication_mode(present, body, &Cluster::context(&ttl, &[]))
    };
    let table: [(&str, Change, &str); 9] = [
        ("config-cluster-version-bad", cluster_version, ""),
        ("config-cluster-version-missing", cluster_version, ""),
        ("config-cluster-version-set", cluster_version, CLUSTER_VERSION_UPDATED),
        ("config-label-property-bad-action", label_property, ""),
        ("config-label-property-set", label_property, UPDATED),
        ("config-label-property-delete", label_property, UPDATED),
        ("config-replication-mode-bad", mode, ""),
        ("config-replication-mode-dr", mode, REPLICATION_MODE_UPDATED),
        ("config-replication-mode-majority", mode, REPLICATION_MODE_UPDATED),
    ];
    let mut config = Dynamic::default();
    for (name, change, answer) in table {
        let Some((status, sent, recorded)) = recording(name) else { return };
        let recorded: Value = serde_json::from_str(&recorded).unwrap();
        let (ours, mut body) = match change(&config, sent.as_bytes()) {
            Ok(update) => {
                config = update.next;
                (200, Value::from(answer))
            }
            Err(error) => (error.status(), error.body()),
        };
        if let Some(stack) = recorded.get("stack") {
            body["stack"] = stack.clone();
        }
        assert_eq!((ours, &body), (status, &recorded), "{name}");
        let golden = match name {
            "config-replication-mode-dr" => {
                ("config-replication-mode-after", serde_json::to_value(&config.replication_mode))
            }
            "config-label-property-set" => ("config-label-property", serde_json::to_value(&config.label_property)),
            "config-label-property-delete" => {
                ("config-label-property-empty", serde_json::to_value(&config.label_property))
            }
            _ => continue,
        };
        assert_eq!(gojson::to_string_pretty(&golden.1.unwrap()), recording(golden.0).unwrap().2, "{}", golden.0);
    }
}

#[test]
fn the_whole_configuration_is_shown_as_recorded() {
    let Some((_, _, recorded)) = recording("config-all") else { return };
    let mut cluster = Cluster::new();
    cluster.config.schedule.schedulers_v2.push(crate::config::SchedulerConfig {
        kind: "scatter-range".to_owned(),
        args: Some(["a", "b", "t1"].map(str::to_owned).to_vec()),
        ..Default::default()
    });
    let mut config = Config {
        name: "pd-1".to_owned(),
        data_dir: "/srv/pd/pd-1/data".to_owned(),
        advertise_client_urls: "http://127.0.0.1:2379".to_owned(),
        advertise_peer_urls: "http://127.0.0.1:2380".to_owned(),
        initial_cluster: "pd-1=http://127.0.0.1:2380".to_owned(),
        ..Config::default()
    };
    config.metric.job = "pd-1".to_owned();
    config.log.file.filename = "pd.log".to_owned();
    config.log.file.max_size = 300;
    let shown = gojson::to_string_pretty(&config.shown(&cluster.config, &cluster.limits, "info"));
    assert_eq!(shown, recorded);

    let (_, _, recorded) = recording("unboot-config-default").unwrap();
    config.name = "pd-vm".to_owned();
    config.data_dir = "/srv/pd/pd-1/default.pd-vm".to_owned();
    config.initial_cluster = "pd-vm=http://127.0.0.1:2380".to_owned();
    config.metric.job = "pd-vm".to_owned();
    config.log.file = crate::config::LogFileConfig::default();
    assert_eq!(gojson::to_string_pretty(&config.shown_default()), recorded);
}

#[test]
fn what_is_agreed_survives_being_kept() {
    let mut config = Dynamic::default();
    config.schedule.split_merge_interval = crate::config::GoDuration::from_secs(-60);
    config.schedule.halt_scheduling = true;
    config.replication.location_labels = vec!["zone".to_owned(), "host".to_owned()];
    config.controller.request_unit.read_cpu_ms_cost = 1.0 / 3.0;
    let text = config.to_json().unwrap();
    assert_eq!(Dynamic::from_json(&text).unwrap(), config);

    let newer = r#"{"schedule":{"leader-schedule-limit":9,"of-tomorrow":{}},"tomorrow":1}"#;
    let read = Dynamic::from_json(newer).unwrap();
    assert_eq!((read.schedule.leader_schedule_limit, read.schedule.region_schedule_limit), (9, 2048));

    let shared = Shared::new(config.clone());
    let held = shared.load();
    shared.store(read.clone());
    assert_eq!((&*held, &*shared.load()), (&config, &read));
}

#[test]
fn bodies_that_are_not_json_have_gos_texts() {
    for (body, text) in [
        ("{a", "invalid character 'a' looking for beginning of object key string"),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("nul", "unexpected end of JSON input"),
        ("nulx", "invalid character 'x' in literal null (expecting 'l')"),
        ("\"\\q\"", "invalid character 'q' in string escape code"),
        ("-", "unexpected end of JSON input"),
        ("'", "invalid character '\\'' looking for beginning of value"),
    ] {
        let error = gojson::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), text, "{body}");
    }
    let deep = "[".repeat(100_000);
    assert!(gojson::parse(deep.as_bytes()).is_err());
}
