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
    macro_rules! held {
        ($($values:ident: $family:literal $label:literal;)*) => {
            $(check($family, $label, $values::ALL.iter().map(|v| v.as_str()).collect());)*
        };
    }
    held! {
        ClusterStatus: "pd_cluster_status" "type";
        StoreStatus: "pd_scheduler_store_status" "type";
        RegionStatus: "pd_regions_status" "type";
        AbnormalPeer: "pd_regions_abnormal_peer_duration_seconds" "type";
        RegionEvent: "pd_cluster_region_event" "event";
        OperatorEvent: "pd_schedule_operators_count" "event";
        StepType: "pd_schedule_finish_operator_steps_duration_seconds" "type";
        HeartbeatStatus: "pd_scheduler_region_heartbeat" "status";
        StreamMessage: "pd_hbstream_region_message" "type";
        StreamStatus: "pd_hbstream_region_message" "status";
        ProgressAction: "pd_cluster_progress" "action";
        LimitType: "pd_cluster_store_limit" "type";
        RegionList: "pd_checker_region_list" "type";
        Checker: "pd_checker_check_region_duration_seconds" "checker";
        PatrolPhase: "pd_checker_patrol_phase_duration_seconds" "phase";
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
