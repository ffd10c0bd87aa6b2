//! Bodies of every wrong shape for every route that takes one: each is refused, or means nothing.

use crate::common::facts::Request;

/// Routes that take a body, with a field of theirs. (Of a rule group nothing is checked, in PD either: any object makes one.)
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/config", "schedule.leader-schedule-limit"),
    ("POST", "/config?ttlSecond=1", "schedule.leader-schedule-limit"),
    ("POST", "/config/schedule", "leader-schedule-limit"),
    ("POST", "/config/replicate", "location-labels"),
    ("POST", "/config/cluster-version", "cluster-version"),
    ("POST", "/config/replication-mode", "replication-mode"),
    ("POST", "/config/label-property", "action"),
    ("POST", "/config/rule", "group_id"),
    ("POST", "/config/rules", "group_id"),
    ("POST", "/config/rules/batch", "action"),
    ("POST", "/config/placement-rule", "group_id"),
    ("POST", "/config/placement-rule/pd", "rules"),
    ("POST", "/config/region-label/rule", "labels"),
    ("PATCH", "/config/region-label/rules", "sets"),
    ("POST", "/store/1/label", "zone"),
    ("DELETE", "/store/1/label", "zone"),
    ("POST", "/store/1/weight", "leader"),
    ("POST", "/store/1/limit", "type"),
    ("POST", "/stores/limit", "labels"),
    ("POST", "/operators", "name"),
    ("POST", "/admin/log", "level"),
];

/// Routes on which PD itself answers some malformed bodies with 500, and is recorded to.
const FAIL_AS_PD: &[&str] = &[
    "/config/schedule",
    "/config/replicate",
    "/config/replication-mode",
    "/config/label-property",
    "/config/cluster-version",
    "/config/placement-rule/pd",
    "/store/1/label",
];

/// Means something to its route, as in PD: no version is 1.0.0.
const TAKEN: (&str, &str) = ("/config/cluster-version", "\"\"");

/// Values that a field may hold though it should not.
const VALUES: &[&str] = &[
    "null",
    "true",
    "-1",
    "1.5",
    "1e400",
    "-0",
    "NaN",
    "\"\"",
    "\"\\ud800\"",
    "[]",
    "[null]",
    "{}",
    "{\"a\":{\"b\":[]}}",
    "18446744073709551616",
];

/// Bodies that are nothing by themselves. (A text alone, `"x"`, means something to some.)
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "{",
        "[",
        "\"",
        "nul",
        "1",
        "true",
        "[1]",
        "[[]]",
        "{\"\":null}",
        "{\"a\":1}}",
        "{\"a\" 1}",
        "{'a':1}",
        "\u{feff}{}",
    ]
    .iter()
    .map(|b| b.as_bytes().to_vec())
    .collect();
    bodies.push(vec![0xff, 0xfe, b'{', b'}']);
    bodies.push(vec![0; 64]);
    bodies.push(vec![b'['; 100_000]);
    // As deep as may be, and closed: what reads it must not run out of stack.
    bodies.push([vec![b'['; 9_999], vec![b']'; 9_999]].concat());
    bodies.push("{\"a\":".repeat(100_000).into_bytes());
    bodies
}

/// Requests, each with whether the route may answer 500 to it.
pub(crate) fn rows() -> Vec<(Request, bool)> {
    let mut rows = vec![];
    for &(method, path, field) in ROUTES {
        let may_fail = FAIL_AS_PD.contains(&path);
        let mut add = |body: Vec<u8>| {
            let target = format!("/pd/api/v1{path}");
            rows.push((Request { method: method.into(), target, headers: vec![], body }, may_fail));
        };
        for value in VALUES.iter().filter(|value| TAKEN != (path, **value)) {
            add(format!("{{\"{field}\":{value}}}").into_bytes());
        }
        bodies().into_iter().for_each(add);
    }
    rows
}
