//! What is refused only in a certain state of the cluster: each stage is a cluster of its own, brought into that state by requests
//! that must succeed.

use berth::proto::{metapb, pdpb};
use prost::Message as _;

use super::{
    cluster::Cluster,
    grpc::{header, region},
};
use crate::common::facts::Request;

/// What every REST route that needs a cluster says before there is one.
pub(crate) const NOT_BOOTSTRAPPED: &str =
    "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first";

/// Routes that need a cluster.
pub(crate) const EARLY: &[Ask] = &[
    ("GET", "/stores", ""),
    ("GET", "/store/1", ""),
    ("DELETE", "/store/1", ""),
    ("POST", "/store/1/state?state=Up", ""),
    ("POST", "/store/1/limit", r#"{"rate":1,"type":"add-peer"}"#),
    ("POST", "/stores/limit", r#"{"rate":1}"#),
    ("GET", "/regions", ""),
    ("GET", "/region/id/2", ""),
    ("POST", "/regions/split", r#"{"split_keys":["61"]}"#),
];

/// Method, path, body.
pub(crate) type Ask = (&'static str, &'static str, &'static str);
/// Section of the catalogue, method, path, body, status, a text that the answer holds.
pub(crate) type Http = (&'static str, &'static str, &'static str, &'static str, u16, &'static str);
/// Section, method, the message for a cluster, a text that the answer holds.
pub(crate) type Grpc = (&'static str, &'static str, fn(u64) -> Vec<u8>, &'static str);

/// A state and what it forbids.
pub(crate) struct Stage {
    /// Which state.
    pub(crate) name: &'static str,
    /// What brings it about.
    set_up: &'static [Ask],
    /// A report that belongs to it.
    report: Option<fn(u64) -> pdpb::RegionHeartbeatRequest>,
    /// What is refused over HTTP.
    pub(crate) http: &'static [Http],
    /// What is refused over gRPC.
    pub(crate) grpc: &'static [Grpc],
}

const OFF: &str = "[PD:placement:ErrPlacementDisabled]placement rules feature is disabled";
const HALTED: &str = "message:\"[PD:cluster:ErrSchedulingIsHalted]scheduling is halted\"";

/// All of them.
pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "all other stores give their leaders away",
        set_up: &[
            ("POST", "/config", r#"{"replication.max-replicas":2}"#),
            ("POST", "/schedulers", r#"{"name":"evict-leader-scheduler","store_id":2}"#),
            ("POST", "/schedulers", r#"{"name":"evict-leader-scheduler","store_id":3}"#),
        ],
        report: None,
        http: &[(
            "6",
            "DELETE",
            "/store/1",
            "",
            400,
            "[PD:core:ErrNoStoreForRegionLeader]can not remove store 1 since there are no extra up store to store the leader",
        )],
        grpc: &[],
    },
    Stage {
        name: "labels must match, and there are none",
        set_up: &[("POST", "/config", r#"{"replication.strictly-match-label":"true"}"#)],
        report: None,
        http: &[(
            "14",
            "POST",
            "/store/1/label",
            r#"{"rack":"r"}"#,
            500,
            "key matching the label was not found in the PD, store label key: rack ",
        )],
        grpc: &[(
            "14",
            "PutStore",
            |id| put(id, &[("rack", "r")]),
            "message:\"key matching the label was not found in the PD, store label key: rack \"",
        )],
    },
    Stage {
        name: "labels must match the locations",
        set_up: &[(
            "POST",
            "/config",
            r#"{"replication.strictly-match-label":"true","replication.location-labels":"zone"}"#,
        )],
        report: None,
        http: &[
            (
                "14",
                "POST",
                "/store/1/label",
                r#"{"rack":"r"}"#,
                500,
                "label configuration is incorrect, need to specify the key: zone ",
            ),
            (
                "14",
                "POST",
                "/store/1/label",
                r#"{"zone":"z","rack":"r"}"#,
                500,
                "key matching the label was not found in the PD, store label key: rack ",
            ),
        ],
        grpc: &[
            (
                "14",
                "PutStore",
                |id| put(id, &[("rack", "r")]),
                "message:\"label configuration is incorrect, need to specify the key: zone \"",
            ),
            (
                "14",
                "PutStore",
                |id| put(id, &[("zone", "z"), ("rack", "r")]),
                "message:\"key matching the label was not found in the PD, store label key: rack \"",
            ),
        ],
    },
    Stage {
        name: "store limits of another version",
        set_up: &[("POST", "/config", r#"{"schedule.store-limit-version":"v2"}"#)],
        report: None,
        http: &[(
            "20",
            "POST",
            "/store/1/limit",
            r#"{"rate":1,"type":"add-peer"}"#,
            400,
            "current store limit version:v2 not support set limit",
        )],
        grpc: &[],
    },
    Stage {
        name: "a region on a buried store",
        set_up: &[],
        report: Some(|id| region(id, 3, (5, 2), "m", "p", &[(31, 1), (32, 2), (34, 4), (37, 7)])),
        http: &[("26", "DELETE", "/stores/remove-tombstone", "", 500, "failed stores: 7")],
        grpc: &[],
    },
    Stage {
        name: "no placement rules",
        set_up: &[("POST", "/config", r#"{"replication.enable-placement-rules":"false"}"#)],
        report: None,
        http: &[
            ("48", "GET", "/config/rules", "", 412, OFF),
            ("48", "GET", "/config/rule/pd/default", "", 412, OFF),
            ("48", "POST", "/config/rule", r#"{"group_id":"pd","id":"a","role":"voter","count":3}"#, 412, OFF),
            ("48", "POST", "/config/rules", "[]", 412, OFF),
            ("48", "POST", "/config/rules/batch", "[]", 412, OFF),
            ("48", "DELETE", "/config/rule/pd/default", "", 412, OFF),
            ("48", "GET", "/config/rules/group/pd", "", 412, OFF),
            ("48", "GET", "/config/rules/region/2", "", 412, OFF),
            ("48", "GET", "/config/rule_groups", "", 412, OFF),
            ("48", "GET", "/config/placement-rule", "", 412, OFF),
        ],
        grpc: &[("91", "PutStore", |id| put(id, &[("engine", "tiflash")]), "message:\"placement rules is disabled\"")],
    },
    Stage {
        name: "an operator at work",
        set_up: &[("POST", "/operators", r#"{"name":"transfer-leader","region_id":2,"to_store_id":2}"#)],
        report: None,
        http: &[(
            "59",
            "POST",
            "/operators",
            r#"{"name":"transfer-leader","region_id":2,"to_store_id":3}"#,
            500,
            "failed to add operator, maybe already have one",
        )],
        grpc: &[],
    },
    Stage {
        name: "scheduling is halted",
        set_up: &[("POST", "/config", r#"{"schedule.halt-scheduling":"true"}"#)],
        report: None,
        http: &[],
        grpc: &[
            (
                "95",
                "AskSplit",
                |id| pdpb::AskSplitRequest { header: header(id), region: known(id) }.encode_to_vec(),
                HALTED,
            ),
            (
                "95",
                "AskBatchSplit",
                |id| {
                    let (header, region) = (header(id), known(id));
                    pdpb::AskBatchSplitRequest { header, region, split_count: 1, ..Default::default() }.encode_to_vec()
                },
                HALTED,
            ),
        ],
    },
];

/// Region 2 as it is.
fn known(cluster: u64) -> Option<metapb::Region> {
    region(cluster, 2, (4, 2), "", "m", &[(21, 1), (22, 2), (23, 3)]).region
}

/// A new store with labels.
fn put(cluster: u64, labels: &[(&str, &str)]) -> Vec<u8> {
    let label = |(key, value): &(&str, &str)| metapb::StoreLabel { key: (*key).into(), value: (*value).into() };
    let store = metapb::Store {
        id: 8,
        address: "t8:1".into(),
        version: "8.5.0".into(),
        labels: labels.iter().map(label).collect(),
        ..metapb::Store::default()
    };
    pdpb::PutStoreRequest { header: header(cluster), store: Some(store) }.encode_to_vec()
}

fn request(method: &str, path: &str, body: &str) -> Request {
    Request { method: method.into(), target: format!("/pd/api/v1{path}"), headers: vec![], body: body.into() }
}

/// Sends a request that must be refused so.
pub(crate) async fn refuse(
    cluster: &mut Cluster,
    section: &str,
    method: &str,
    path: &str,
    body: &str,
    status: u16,
    text: &str,
) {
    let answer = cluster.http(&request(method, path, body)).await;
    let what = format!("{section} {method} {path} {body}");
    let got = answer.text();
    if answer.status != status || !got.contains(text) {
        cluster.wrong(format!("{what}\n  want {status} {text}\n  got  {} {got}", answer.status));
    }
    cluster.check(&what).await;
}

/// Brings the state about and sends what it forbids.
pub(crate) async fn play(cluster: &mut Cluster, stage: &Stage) {
    for (method, path, body) in stage.set_up {
        let answer = cluster.http(&request(method, path, body)).await;
        assert_eq!(answer.status, 200, "{}: {path} {body}: {}", stage.name, answer.text());
    }
    if let Some(report) = stage.report {
        cluster.heartbeat(&report(cluster.id)).await;
    }
    cluster.settle().await;
    for (section, method, path, body, status, text) in stage.http {
        refuse(cluster, section, method, path, body, *status, text).await;
    }
    for (section, method, message, text) in stage.grpc {
        let got = cluster.call(method, &message(cluster.id).into()).await;
        if !got.contains(text) {
            cluster.wrong(format!("{section} {method}\n  want {text}\n  got  {got}"));
        }
        cluster.check(&format!("{section} {method}, {}", stage.name)).await;
    }
}
