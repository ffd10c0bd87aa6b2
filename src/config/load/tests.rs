#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use super::*;
use crate::{
    config::{BerthConfig, DenyScope, gojson},
    model::testing::shared_file,
};

fn host() -> Host {
    Host { name: "vm".to_owned(), directory: "/srv/pd/pd-1".into() }
}

fn from_file(text: &str) -> Result<Loaded, LoadError> {
    let flags = Flags { config: "pd.toml".to_owned(), ..Flags::default() };
    load(&flags, Some(text), &host())
}

fn refused(text: &str) -> String {
    from_file(text).unwrap_err().to_string()
}

#[test]
fn nothing_given_is_what_pd_shows_as_its_default() {
    let loaded = load(&Flags::default(), None, &host()).unwrap();
    assert_eq!(loaded.check_report(), "config check successful\n");
    let Some(recording) = shared_file("compat/rest-golden/unboot-config-default.http.txt") else { return };
    let (_, body) = recording.rsplit_once("\n\n").unwrap();
    assert_eq!(gojson::to_string_pretty(&loaded.config.shown_default()), body.trim_end());
}

#[test]
fn the_file_changes_defaults_and_flags_change_the_file() {
    let text = r#"
name = "pd-7"
data-dir = "./data/../state"
lease = 0
[log.file]
filename = "log/pd.log"
[schedule]
max-snapshot-count = 0
patrol-region-interval = "-1s"
low-space-ratio = 0
enable-make-up-replica = false
default-store-limit = { add-peer = 30.0 }
[[schedule.schedulers]]
type = "hot-region"
disable = true
[replication]
max-replicas = 0
location-labels = ["zone", "host"]
[pd-server]
server-memory-limit = 7.5
min-resolved-ts-persistence-interval = "0s"
[replication-mode]
replication-mode = "nonsense"
[berth]
region-label-deny-scope = "all"
state-cache-size = "1GiB"
"#;
    let flags = Flags { name: "pd-1".to_owned(), log_level: "warn".to_owned(), ..Flags::default() };
    let config = load(&flags, Some(text), &host()).unwrap().config;
    assert_eq!((config.name.as_str(), config.data_dir.as_str()), ("pd-1", "/srv/pd/pd-1/state"));
    assert_eq!(config.initial_cluster, "pd-1=http://127.0.0.1:2380");
    assert_eq!((config.log.level.as_str(), config.log.file.max_size, config.lease), ("warn", 300, 5));
    let schedule = &config.schedule;
    assert_eq!((schedule.max_snapshot_count, schedule.low_space_ratio), (0, 0.8));
    assert_eq!(schedule.patrol_region_interval, GoDuration::from_millis(10));
    assert!(!schedule.enable_make_up_replica);
    assert_eq!((schedule.default_store_limit.add_peer, schedule.default_store_limit.remove_peer), (30.0, 15.0));
    let kinds: Vec<_> = schedule.schedulers_v2.iter().map(|s| (s.kind.as_str(), s.disable)).collect();
    assert_eq!(kinds.len(), 5);
    assert_eq!(kinds[0], ("hot-region", true));
    assert_eq!(
        (config.replication.max_replicas, config.replication.location_labels.join(",")),
        (3, "zone,host".to_owned())
    );
    assert_eq!(config.pd_server.server_memory_limit, 0.99);
    assert_eq!(config.pd_server.min_resolved_ts_persistence_interval, GoDuration(0));
    assert_eq!(config.replication_mode.replication_mode, "majority");
    let berth =
        BerthConfig { region_label_deny_scope: DenyScope::All, state_cache_size: 1 << 30, ..BerthConfig::default() };
    assert_eq!(config.berth, berth);
    let shown = gojson::to_string_pretty(&config.shown_default());
    assert!(!shown.contains("berth") && !shown.contains("deny-scope"));
}

#[test]
fn unknown_items_are_named_in_the_order_of_the_file() {
    let text = "zzz = 1\nabc = 2\n[schedule]\nnope = 1\nschedulers-v2 = []\n[later]\nx = 1\n";
    let loaded = from_file(text).unwrap();
    let text = "Config contains undefined item: zzz, abc, schedule.nope, schedule.schedulers-v2, later, later.x";
    assert_eq!(loaded.warnings, [text]);
    assert_eq!(loaded.check_report(), format!("{text}\n"));
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    for (text, error) in [
        ("quota-backend-bytes = \"8XB\"", "toml: line 1 (last key \"quota-backend-bytes\"): invalid size: '8XB'"),
        (
            "[security]\nredact-info-log = \"x\"",
            "toml: line 2 (last key \"security.redact-info-log\"): the \"redact-info-log\" value is invalid; it should be \
             either false, true, or \"MARKER\"",
        ),
        (
            "\n\n[schedule]\nsplit-merge-interval = \"1x\"",
            "toml: line 4 (last key \"schedule.split-merge-interval\"): time: unknown unit \"x\" in duration \"1x\"",
        ),
        (
            "lease = \"x\"",
            "toml: line 1 (last key \"lease\"): incompatible types: TOML value has type string; destination has type integer",
        ),
        (
            "[security.encryption]\ndata-key-rotation-period = \"-1h\"",
            "[PD:encryption:ErrEncryptionInvalidConfig]negative data-key-rotation-period -3600000000000",
        ),
        ("client-urls = \"127.0.0.1:2379\"", "[PD:url:ErrURLParse]parse url error"),
        ("[schedule]\nlow-space-ratio = 0.5", "low-space-ratio should be larger than high-space-ratio"),
        (
            "[schedule]\nenable-make-up-replica = true\ndisable-make-up-replica = true",
            "config item enable-make-up-replica and disable-make-up-replica(deprecated) are conflict",
        ),
        (
            "[pd-server]\nflow-round-by-digit = 1\ntrace-region-flow = true",
            "config item flow-round-by-digit and trace-region-flow(deprecated) are conflict",
        ),
        (
            "join = \"http://a:1\"\ninitial-cluster = \"x=http://b:1\"",
            "-initial-cluster and -join can not be provided at the same time",
        ),
        ("data-dir = \"/srv\"", "log directory shouldn't be the subdirectory of data directory"),
        ("[berth]\nrequire-tls = true", "berth.require-tls is set, but client-urls holds http://127.0.0.1:2379"),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    assert!(refused("lease = 5\na = = 1").starts_with("toml: line 2: "));
    let twice = refused("[schedule]\nleader-schedule-limit = 1\n[replication]\n[schedule]\nregion-schedule-limit = 2");
    assert!(twice.starts_with("toml: line 4: ") && twice.contains("duplicate"), "{twice}");
    let missing = LoadError::open("x.toml", &std::io::Error::from(std::io::ErrorKind::NotFound));
    assert_eq!(missing.to_string(), "open x.toml: no such file or directory");
}

#[test]
fn older_items_are_translated_and_warned_about() {
    let text = "log-file = \"old.log\"\nlog-level = \"debug\"\n[schedule]\nstore-balance-rate = 60.0\n\
                disable-make-up-replica = true\ndisable-raft-learner = true\n[pd-server]\ntrace-region-flow = false";
    let Loaded { config, warnings } = from_file(text).unwrap();
    assert_eq!((config.log.file.filename.as_str(), config.log.level.as_str()), ("old.log", "debug"));
    assert!(!config.schedule.enable_make_up_replica && !config.schedule.disable_make_up_replica);
    assert_eq!(config.schedule.default_store_limit.remove_peer, 60.0);
    assert_eq!(config.pd_server.flow_round_by_digit, 127);
    let expected = [
        "log-file in pd.toml is deprecated, use [log.file] instead",
        "log-level in pd.toml is deprecated, use [log] instead",
        "disable-raft-learner in pd.toml is deprecated",
    ];
    assert_eq!(warnings, expected);
}

/// Every item of the table is a key of the file with the default that the table names.
#[test]
fn every_item_of_pd_is_known() {
    let Some(table) = shared_file("compat/config.tsv") else { return };
    let shown = Config::default().shown_default();
    let mut missing = BTreeSet::new();
    let mut seen = 0;
    for row in table.lines().skip(1).map(|l| l.split('\t').collect::<Vec<_>>()).filter(|r| !r[0].starts_with('#')) {
        let key = row[1].split(' ').next().unwrap();
        let parts: Vec<&str> = key.split('.').collect();
        let omitted = row[1].contains("omitted") || row[3].contains("omitted") || row[3] == "absent";
        let elsewhere = ["audit", "rate-limit", "grpc-rate-limit"].contains(&parts[0]) || key == "-";
        if omitted || elsewhere || parts.iter().any(|p| p.is_empty()) {
            continue;
        }
        let value = parts.iter().try_fold(&shown, |value, part| value.get(part));
        match value {
            Some(value) => {
                let word = row[3].split(' ').next().unwrap();
                if let Ok(default) = serde_json::from_str::<serde_json::Value>(word) {
                    let same = default == *value || default.as_f64().is_some_and(|d| value.as_f64() == Some(d));
                    assert!(same || value == "", "{key}: {value}, recorded {default}");
                }
            }
            None => drop(missing.insert(key.to_owned())),
        }
        seen += 1;
    }
    // It shows nothing of the kind while it is unset.
    missing.remove("controller.ru-version-policy");
    assert_eq!(missing, BTreeSet::new());
    assert!(seen > 150, "{seen}");
}

#[test]
fn a_mark_of_byte_order_is_no_part_of_the_file() {
    assert_eq!(from_file("\u{feff}name = \"pd-7\"\nlease = 5").unwrap().config.name, "pd-7");
    // Lines are counted without it.
    assert!(
        refused("\u{feff}lease = 5\nname = 3").starts_with("toml: line 2 "),
        "{}",
        refused("\u{feff}lease = 5\nname = 3")
    );
    assert!(refused("lease = 5\n\u{feff}name = \"pd-7\"").starts_with("toml: line 2: "), "inside it is none");
}

/// A file whose four URL settings are https, but for those that are given.
fn urls(section: &str, other: &[(&str, &str)]) -> String {
    let keys = ["client-urls", "peer-urls", "advertise-client-urls", "advertise-peer-urls"];
    let url = |key: &&str| other.iter().find(|(k, _)| k == key).map_or("https://10.0.0.1:2379", |(_, url)| *url);
    let lines: String = keys.iter().map(|key| format!("{key} = \"{}\"\n", url(key))).collect();
    let more: String =
        other.iter().filter(|(k, _)| !keys.contains(k)).map(|(k, v)| format!("{k} = \"{v}\"\n")).collect();
    format!("{lines}{more}{section}")
}

#[test]
fn urls_without_tls_are_refused_by_name_where_tls_is_required() {
    let required = "[berth]\nrequire-tls = true";
    assert!(from_file(&urls(required, &[])).is_ok());
    for key in ["client-urls", "peer-urls", "advertise-client-urls", "advertise-peer-urls", "join", "initial-cluster"] {
        let plain =
            if key == "initial-cluster" { "a=https://10.0.0.1:1,b=http://10.0.0.2:1" } else { "http://127.0.0.1:1" };
        let holds = plain.rsplit(',').next().unwrap();
        let text = format!("berth.require-tls is set, but {key} holds {holds}");
        assert_eq!(refused(&urls(required, &[(key, plain)])), text);
        assert!(from_file(&urls("", &[(key, plain)])).is_ok(), "{key}: http:// is permission enough otherwise");
    }
}

#[test]
fn roles_need_names_on_every_port() {
    let roles = "[security]\ncacert-path = \"ca.pem\"\n[berth]\nrole-admin = [\"ops\"]";
    let no_name = |key: &str, url: &str| {
        format!("berth.role-* needs https:// URLs, but {key} holds {url}: who shows no certificate has no name")
    };
    assert!(from_file(&urls(roles, &[])).is_ok());
    assert_eq!(
        refused(&urls("[berth]\nrole-read = []", &[])),
        "berth.role-* needs security.cacert-path: who shows no certificate has no name"
    );
    let (loopback, outside) = ("http://127.0.0.1:2380", "http://10.0.0.1:2380");
    assert_eq!(refused(&urls(roles, &[("client-urls", loopback)])), no_name("client-urls", loopback));
    for key in ["peer-urls", "advertise-peer-urls"] {
        assert_eq!(refused(&urls(roles, &[(key, outside)])), no_name(key, outside));
        // Among others, also on one machine: they could not talk to each other.
        let others = ("initial-cluster", "a=http://127.0.0.1:1,b=http://127.0.0.1:2");
        assert_eq!(refused(&urls(roles, &[(key, loopback), others])), no_name(key, loopback));
        let join = ("join", "https://10.0.0.2:2379");
        assert_eq!(refused(&urls(roles, &[(key, loopback), join])), no_name(key, loopback));
    }
    // Alone, with the peer URLs that PD has by default, nobody is let in there anyway.
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let url = format!("http://{host}:2380");
        assert!(from_file(&urls(roles, &[("peer-urls", &url), ("advertise-peer-urls", &url)])).is_ok(), "{host}");
    }
}
