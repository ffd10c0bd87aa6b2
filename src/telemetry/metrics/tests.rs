#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::{values::*, *};
use crate::model::testing::shared_file;

/// Label names of a recorded family, with the values that PD fixes.
fn recorded_labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    if let Some((names, pairs)) = text.split_once(" pairs: ") {
        let mut names = names.split(',');
        let (first, second) = (names.next().unwrap(), names.next().unwrap());
        let mut values = (BTreeSet::new(), BTreeSet::new());
        for pair in pairs.split(" ; ") {
            let (of, words) = pair.split_once(": ").unwrap();
            values.0.insert(of.to_owned());
            values.1.extend(words.split('|').map(str::to_owned));
        }
        out.insert(first.to_owned(), values.0);
        out.insert(second.to_owned(), values.1);
        return out;
    }
    for label in text.split("; ").filter(|l| !l.is_empty()) {
        let (name, values) = label.split_once('=').unwrap_or((label, ""));
        out.insert(name.to_owned(), values.split('|').map(str::to_owned).collect());
    }
    out
}

fn recorded_bounds(text: &str) -> Vec<f64> {
    let text = text.trim_end_matches(", +Inf");
    if let Some(rest) = text.strip_prefix("start ") {
        let numbers: Vec<f64> =
            rest.split(", ").map(|part| part.split(' ').find_map(|word| word.parse().ok()).unwrap()).collect();
        let bounds = Buckets::Exponential { start: numbers[0], factor: numbers[1], count: numbers[2] as usize };
        return bounds.bounds();
    }
    text.split(' ').filter_map(|n| n.parse().ok()).collect()
}

#[test]
fn families_have_pds_names_labels_and_buckets() {
    let Some(table) = shared_file("compat/metrics.tsv") else { return };
    let rows: BTreeMap<&str, Vec<&str>> = table
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| (l.split('\t').next().unwrap(), l.split('\t').collect()))
        .collect();
    let mut seen = BTreeSet::new();
    for family in Metrics::families() {
        assert!(seen.insert(family.name), "{} twice", family.name);
        if family.name.starts_with("berth_") {
            continue;
        }
        let row = rows.get(family.name).unwrap_or_else(|| panic!("{} is not PD's", family.name));
        assert_eq!(family.kind, row[1], "{}", family.name);
        let labels: BTreeSet<&str> = family.labels.iter().copied().collect();
        let recorded = recorded_labels(row[2]);
        assert_eq!(labels, recorded.keys().map(String::as_str).collect(), "{}", family.name);
        if family.kind == "histogram" && family.name != "grpc_server_handling_seconds" {
            let (ours, theirs) = (family.buckets.bounds(), recorded_bounds(row[3]));
            assert_eq!(ours.len(), theirs.len(), "{}", family.name);
            assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= a * 1e-9), "{}", family.name);
        }
    }
}

/// Values of a label that PD fixes.
struct Fixed {
    /// The enum that holds them.
    name: &'static str,
    /// A family that has the label.
    family: &'static str,
    label: &'static str,
    /// Each variant with its word.
    values: Vec<(String, &'static str)>,
}

/// All of them.
fn fixed() -> Vec<Fixed> {
    macro_rules! table {
        ($($values:ident: $family:literal $label:literal;)*) => {
            vec![$(Fixed {
                name: stringify!($values),
                family: $family,
                label: $label,
                values: $values::ALL.iter().map(|v| (format!("{v:?}"), v.as_str())).collect(),
            }),*]
        };
    }
    table! {
        ClusterStatus: "pd_cluster_status" "type";
        StoreStatus: "pd_scheduler_store_status" "type";
        RegionStatus: "pd_regions_status" "type";
        RegionEvent: "pd_cluster_region_event" "event";
        OperatorEvent: "pd_schedule_operators_count" "event";
        StepType: "pd_schedule_finish_operator_steps_duration_seconds" "type";
        HeartbeatStatus: "pd_scheduler_region_heartbeat" "status";
        StreamMessage: "pd_hbstream_region_message" "type";
        StreamStatus: "pd_hbstream_region_message" "status";
        ProgressAction: "pd_cluster_progress" "action";
        LimitType: "pd_cluster_store_limit" "type";
        Checker: "pd_checker_event_count" "type";
        RegionQuery: "pd_core_query_region_count" "type";
        Allowance: "pd_scheduling_allowance_status" "kind";
        ApiKind: "pd_server_api_concurrency" "kind";
        TsoEvent: "pd_tso_events" "type";
        ConfigStatus: "pd_config_status" "type";
        LogState: "pd_server_etcd_state" "type";
        IdKind: "pd_cluster_id" "type";
    }
}

#[test]
fn label_values_are_pds() {
    let Some(table) = shared_file("compat/metrics.tsv") else { return };
    let check = |family: &str, label: &str, words: Vec<&str>| {
        let row = table.lines().find(|l| l.starts_with(&format!("{family}\t"))).unwrap();
        let recorded = recorded_labels(row.split('\t').nth(2).unwrap());
        for word in words {
            assert!(recorded[label].contains(word), "{family} {label}={word}");
        }
    };
    for Fixed { family, label, values, .. } in fixed() {
        check(family, label, values.into_iter().map(|(_, word)| word).collect());
    }
}

#[test]
fn exposition_shows_what_was_counted() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    metrics.regions.status.with_label_values(&[RegionStatus::MissPeer.as_str()]).set(3.0);
    metrics.operators.count.with_label_values(&["replace-rule-offline-peer", OperatorEvent::Finish.as_str()]).inc();
    metrics.tso.batch_size.observe(3.0);
    let text = exposition(&registry).unwrap();
    for line in [
        "pd_regions_status{type=\"miss-peer-region-count\"} 3",
        "pd_schedule_operators_count{event=\"finish\",type=\"replace-rule-offline-peer\"} 1",
        "pd_server_handle_tso_batch_size_bucket{le=\"4\"} 1",
        "# TYPE pd_server_handle_tso_batch_size histogram",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

/// Label values of PD that Berth does not show in families that it has: (family, label, values, why).
const UNMET: &[(&str, &str, &[&str], &str)] = &[
    (
        "pd_scheduler_store_status",
        "type",
        &["store_cpu_usage", "store_disk_read_rate", "store_disk_write_rate"],
        "only what threads for reads use is kept; no panel shows the others",
    ),
    (
        "pd_scheduler_store_status",
        "type",
        &["store_regions_write_rate_bytes_instant", "store_regions_write_rate_keys_instant"],
        "what regions report is shown as it is, without a smooth form beside it; no panel shows these",
    ),
    ("pd_scheduler_store_status", "type", &["windows_size"], "store limits of version 2 are not built"),
    (
        "pd_schedule_operators_count",
        "event",
        &["check-failed"],
        "what was refused when its turn came stands under why it was",
    ),
    (
        "pd_schedule_operators_count",
        "event",
        &["redundant", "unexpected"],
        "an operator that has begun cannot be offered again",
    ),
    ("pd_checker_event_count", "type", &["split_scatter_checker"], "regions are scattered when asked for"),
    ("pd_scheduling_allowance_status", "kind", &["manually"], "unsafe recovery is not built"),
    (
        "pd_tso_events",
        "type",
        &[
            "global_tso_estimate",
            "global_tso_persist",
            "global_tso_persist_err",
            "global_tso_sync",
            "precheck_logical_overflow",
        ],
        "all timestamps come from one place",
    ),
    (
        "pd_tso_events",
        "type",
        &[
            "err_lease_reset_ts",
            "err_reset_large_ts",
            "err_reset_logical_small_ts",
            "err_reset_physical_small_ts",
            "err_save_reset_ts",
            "reset_tso_ok",
        ],
        "no call resets timestamps yet",
    ),
    (
        "pd_tso_events",
        "type",
        &["err_save_sync_ts", "err_save_update_ts", "slow_save", "skip_save", "skip_sync"],
        "windows are lifted at requests, not by a timer; a disk that fails or hangs ends the term",
    ),
    ("pd_tso_events", "type", &["logical_overflow"], "the next millisecond is taken, and nobody waits"),
    (
        "pd_tso_events",
        "type",
        &["not_allowed_save_timestamp", "not_leader_anymore"],
        "who does not lead any more gets no timestamp, and is counted as not_leader",
    ),
    (
        "pd_config_status",
        "type",
        &["region-max-keys", "region-max-size", "region-split-keys", "region-split-size"],
        "the nodes' own configuration is not read yet",
    ),
    ("pd_cluster_id", "type", &["keyspace-idAlloc"], "keyspaces cannot be made yet"),
];

/// The source of what runs, without tests.
fn sources() -> String {
    fn walk(dir: &std::path::Path, out: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("telemetry") {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(path).unwrap();
                out.push_str(text.split("#[cfg(test)]").next().unwrap());
            }
        }
    }
    let mut out = String::new();
    walk(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut out);
    out
}

#[test]
fn every_label_value_is_counted_somewhere_or_has_a_reason() {
    let Some(table) = shared_file("compat/metrics.tsv") else { return };
    let (source, mut wrong, mut looked) = (sources(), vec![], 0);
    let words = |(family, label, values, _): &(&'static str, &'static str, &[&str], &str)| -> Vec<_> {
        values.iter().map(|word| (*family, *label, (*word).to_owned())).collect()
    };
    let mut unmet: BTreeSet<_> = UNMET.iter().flat_map(words).collect();
    let mut check = |name: &str, family: &'static str, label: &'static str, values: Vec<(String, &str)>| {
        let row = table.lines().find(|l| l.starts_with(&format!("{family}\t"))).unwrap();
        let recorded = recorded_labels(row.split('\t').nth(2).unwrap());
        for (variant, word) in &values {
            looked += 1;
            let named = source.contains(&format!("{name}::{variant}")) || source.contains(&format!("{name}::ALL"));
            if !named {
                wrong.push(format!("{family}{{{label}={word:?}}} is named nowhere"));
            }
        }
        for word in recorded[label].iter().filter(|word| values.iter().all(|(_, ours)| ours != word)) {
            if !unmet.remove(&(family, label, word.clone())) {
                wrong.push(format!("{family}{{{label}={word:?}}} is PD's, and nobody says why it is missing"));
            }
        }
    };
    // Those of regions come from the flags that REST lists regions by; see below.
    for Fixed { name, family, label, values } in fixed().into_iter().filter(|fixed| fixed.name != "RegionStatus") {
        check(name, family, label, values);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(unmet.is_empty(), "{unmet:?} are no values of PD, or are shown");
    assert!(looked > 100, "{looked}");
    let flags: BTreeSet<&str> = crate::scheduler::region_state::Flag::ALL.iter().map(|flag| flag.metric()).collect();
    let missing: Vec<&str> = RegionStatus::ALL.iter().map(|v| v.as_str()).filter(|v| !flags.contains(v)).collect();
    assert_eq!(missing, ["witness-leader-region-count"], "witnesses do not lead: they have no data");
}

/// Alerts that cannot fire here, and why.
const SILENT_ALERTS: &[(&str, &str)] = &[
    ("PD_etcd_write_disk_latency", "there is no etcd inside; a slow disk is told in the log and ends a term"),
    ("PD_etcd_network_peer_latency", "PD itself does not have the family"),
    ("PD_tidb_handle_requests_duration", "the family is TiDB's"),
    ("pd_etcd_quota", "there is no etcd inside, and no quota"),
];

/// What an expression reads: each family, and the `type` that it asks for.
fn reads(expression: &str) -> Vec<(String, Option<String>)> {
    let pattern = regex::Regex::new(r#"([a-z_]+_[a-z_]+)(?:\{([^}]*)\})?"#).unwrap();
    let kind = regex::Regex::new(r#"\btype="([^"]*)""#).unwrap();
    let functions = ["histogram_quantile", "min_over_time"];
    pattern
        .captures_iter(expression)
        .map(|found| (found[1].to_owned(), found.get(2).and_then(|l| Some(kind.captures(l.as_str())?[1].to_owned()))))
        .filter(|(name, _)| !functions.contains(&name.as_str()))
        .collect()
}

#[test]
fn every_alert_of_pd_reads_what_is_served() {
    let Some(table) = shared_file("compat/alerts.tsv") else { return };
    let ours: BTreeSet<&str> = Metrics::families().map(|f| f.name).collect();
    let known = |family: &str, kind: &str| match family {
        "pd_cluster_status" => ClusterStatus::ALL.iter().any(|v| v.as_str() == kind),
        // An underscore where PD has a dash: this part of the alert never was more than words.
        "pd_regions_status" => RegionStatus::ALL.iter().any(|v| v.as_str() == kind.replace('_', "-")),
        "pd_tso_events" => TsoEvent::ALL.iter().any(|v| v.as_str() == kind),
        _ => false,
    };
    let (mut silent, mut alerts) = (BTreeSet::new(), 0);
    for row in table.lines().filter(|l| !l.starts_with('#')).skip(1) {
        let mut cells = row.split('\t');
        let (name, expression) = (cells.next().unwrap(), cells.next().unwrap());
        let read = reads(expression);
        assert!(!read.is_empty(), "{name}: {expression}");
        let served = |(family, kind): &(String, Option<String>)| {
            ours.contains(family.as_str()) && kind.as_ref().is_none_or(|kind| known(family, kind))
        };
        let missing: Vec<_> = read.iter().filter(|read| !served(read)).collect();
        match SILENT_ALERTS.iter().find(|(alert, _)| *alert == name) {
            None => assert!(missing.is_empty(), "{name} reads what is not served: {missing:?}"),
            Some((_, why)) => assert!(!missing.is_empty() && silent.insert(name), "{name} is served, against: {why}"),
        }
        alerts += 1;
    }
    assert_eq!(silent.len(), SILENT_ALERTS.len());
    assert!(alerts >= 19, "{alerts}");
}

/// Families of PD that Berth does not have, by the beginning of their names, and why.
const UNSERVED: &[(&str, &str)] = &[
    ("etcd_cluster_", "there is no etcd inside"),
    ("etcd_debugging_", "there is no etcd inside"),
    ("etcd_disk_", "there is no etcd inside"),
    ("etcd_mvcc_", "there is no etcd inside"),
    ("etcd_network_", "there is no etcd inside"),
    ("etcd_server_apply_", "there is no etcd inside"),
    ("etcd_server_client_", "there is no etcd inside"),
    ("etcd_server_go_", "there is no etcd inside"),
    ("etcd_server_h", "there is no etcd inside; who leads stands in etcd_server_is_leader"),
    ("etcd_server_id", "there is no etcd inside"),
    ("etcd_server_is_learner", "there is no etcd inside; /berth/v1/group tells who votes"),
    ("etcd_server_lea", "there is no etcd inside"),
    ("etcd_server_proposals_", "there is no etcd inside; the indexes stand in pd_server_etcd_state"),
    ("etcd_server_quota_", "there is no etcd inside, and no quota"),
    ("etcd_server_read_", "there is no etcd inside"),
    ("etcd_server_slow_", "there is no etcd inside"),
    ("etcd_server_snapshot_", "there is no etcd inside"),
    ("etcd_server_version", "there is no etcd inside"),
    ("etcd_snap_", "there is no etcd inside"),
    ("pd_server_etcd_client", "there is no etcd inside"),
    ("pd_server_etcd_endpoint_", "there is no etcd inside"),
    ("pd_txn_", "there are no etcd transactions"),
    ("pd_lease_", "leadership hangs on no etcd lease"),
    ("go_", "figures of the Go runtime"),
    ("os_", "figures of the Go runtime"),
    ("process_network_", "the network is watched by its machine's own exporter; no panel shows it"),
    ("process_virtual_memory_max_bytes", "address space is not bounded; no panel shows it"),
    ("promhttp_", "figures of a Go library"),
    ("resource_manager_", "resource groups are not built"),
    ("router_server_", "a service of its own, not built"),
    ("scheduling_server_", "a service of its own, not built"),
    ("tso_", "a service of its own, not built"),
    ("pd_affinity_", "affinity groups are not built"),
    ("pd_balance_range_", "no such scheduler yet"),
    ("pd_scheduler_balance_witness", "no such scheduler yet"),
    ("pd_scheduler_hot_", "moves of hot peers stand in pd_scheduler_event_count and pd_schedule_operators_count only"),
    ("pd_scheduler_op_influence", "influence is not told apart by scheduler"),
    ("pd_scheduler_slow_store_", "an eviction is not held back by a limit; no panel shows it"),
    ("pd_scheduler_store_slow_trend_", "stores are judged by their slow score, not by its trend"),
    ("pd_scheduler_tolerant_resource", "the tolerance of a move is not kept"),
    ("pd_scheduler_bucket_task_duration", "buckets are put in at once, by no task"),
    ("pd_server_handle_bucket_report_", "the time of taking buckets in is not measured"),
    ("pd_server_bucket_report_interval_seconds", "no report of buckets is timed; no panel shows it"),
    ("pd_schedule_scatter_", "what became of scattered regions stands in pd_schedule_operators_count only"),
    ("pd_checker_split_scatter_", "regions are scattered when asked for, not after each split"),
    ("pd_checker_check_region_duration_seconds", "deciding code reads no clock; no panel shows it"),
    ("pd_checker_patrol_phase_duration_seconds", "deciding code reads no clock; no panel shows it"),
    ("pd_checker_patrol_region_channel_size", "the patrol has no workers to feed"),
    ("pd_checker_region_list", "Berth's work lists are others; no panel shows it"),
    ("pd_regions_abnormal_peer_duration_seconds", "no region remembers since when it is unusual; no panel shows it"),
    ("pd_cluster_raftcluster_start_duration_seconds", "PD's own steps of a start"),
    ("pd_cluster_store_sync", "the nodes' own configuration is not read yet"),
    ("pd_cluster_store_trigger_network_slow_evict", "stores are judged by their slow score, not by their network"),
    ("pd_cluster_tso_gap_millionseconds", "timestamps follow the clock at each request, not in steps"),
    ("pd_cluster_tso_operation_duration_seconds", "no panel shows it"),
    ("pd_cluster_update_stores_stats_time", "the sums of stores are kept, not worked out"),
    ("pd_core_acquire_regions_lock_", "there is no lock around all regions"),
    ("pd_core_query_region_duration_seconds", "a look-up takes less than reading a clock"),
    ("pd_core_region_heartbeat_breakdown_", "PD's own steps of a heartbeat"),
    ("pd_gc_gc_state_cache_access_total", "there is no such cache"),
    ("pd_keyspace_", "keyspaces cannot be made yet"),
    ("pd_maintenance_", "maintenance tasks are not built"),
    ("pd_ratelimit_runner_", "heartbeats are handled at once, not by queues of tasks"),
    ("pd_region_syncer_", "how far a follower's copy is stands in berth_warm_age_seconds and berth_warm_lag_changes"),
    ("pd_replication_dr_", "dr-auto-sync is not built"),
    ("pd_schedule_new_region_labeler_", "PD's own steps of a start"),
    ("pd_server_cluster_state_", "the state of the cluster is not judged by CPU"),
    ("pd_server_forward_", "what is passed on is counted by the member that answers"),
    ("pd_server_handle_tso_proxy_", "followers pass streams of timestamps on as they are"),
    ("pd_server_tso_", "there is no timestamp service of its own to pass requests on to"),
    ("pd_server_member_leader_priority", "priorities stand in GET /members; no panel shows it"),
    ("pd_server_region_request_cnt", "its labels are whatever callers say: they would count without bound"),
];

#[test]
fn what_is_not_served_of_pds_families_has_a_reason() {
    let Some(table) = shared_file("compat/metrics.tsv") else { return };
    let names = table.lines().filter(|l| !l.starts_with('#')).skip(1).map(|l| l.split('\t').next().unwrap());
    let ours: BTreeSet<&str> = Metrics::families().map(|f| f.name).collect();
    let mut used = BTreeSet::new();
    for name in names {
        let reason = UNSERVED.iter().find(|(start, _)| name.starts_with(start));
        match (ours.contains(name) || name.starts_with("grpc_"), reason) {
            (true, None) => {}
            (true, Some((start, why))) => panic!("{name} is served, but {start} says: {why}"),
            (false, None) => panic!("{name} is not served, and nobody says why"),
            (false, Some((start, _))) => _ = used.insert(*start),
        }
    }
    let stale: Vec<_> = UNSERVED.iter().filter(|(start, _)| !used.contains(start)).collect();
    assert!(stale.is_empty(), "{stale:?} stand for nothing");
}
