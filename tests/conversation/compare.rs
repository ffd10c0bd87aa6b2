//! Whether two answers of `/stores` or `/regions` say the same, but for the order of the list and what no two servers have equal.

use serde_json::Value;

/// Relative difference that scores may have.
const SCORE_TOLERANCE: f64 = 1e-6;
/// What a heartbeat may have taken from the recorder to PD's clock, nanoseconds.
const CLOCK_TOLERANCE: i64 = 50_000_000;

/// What traffic is rounded to before PD asks whether a report says anything new; one that does not leaves the older figures in place.
const FLOW_UNIT: u64 = 1000;

/// The items of a list by id.
fn by_id(answer: &Value, list: &str) -> Vec<(u64, Value)> {
    let id = |item: &Value| item["id"].as_u64().or_else(|| item["store"]["id"].as_u64()).expect("an id");
    let items = answer[list].as_array().unwrap_or_else(|| panic!("no {list} in {answer}"));
    assert_eq!(answer["count"].as_u64(), Some(items.len() as u64));
    let mut items: Vec<(u64, Value)> = items.iter().map(|item| (id(item), item.clone())).collect();
    items.sort_by_key(|(id, _)| *id);
    items
}

/// Gives what is close enough the recorded value; what shows the time of the last heartbeat goes with it.
fn level(wanted: &Value, got: &mut Value) {
    let time = |v: &Value| v["store"]["last_heartbeat"].as_i64();
    if let (Some(a), Some(b)) = (time(wanted), time(got))
        && (a - b).abs() <= CLOCK_TOLERANCE
    {
        got["store"]["last_heartbeat"] = wanted["store"]["last_heartbeat"].clone();
        for key in ["last_heartbeat_ts", "uptime"] {
            if got["status"].get(key).is_some() {
                got["status"][key] = wanted["status"][key].clone();
            }
        }
    }
    for (bytes, keys) in [("written_bytes", "written_keys"), ("read_bytes", "read_keys")] {
        if let (Some(a), Some(b)) = (wanted[bytes].as_u64(), got[bytes].as_u64())
            && (a + FLOW_UNIT / 2) / FLOW_UNIT == (b + FLOW_UNIT / 2) / FLOW_UNIT
        {
            got[bytes] = wanted[bytes].clone();
            got[keys] = wanted[keys].clone();
        }
    }
    for key in ["leader_score", "region_score"] {
        if let (Some(a), Some(b)) = (wanted["status"][key].as_f64(), got["status"][key].as_f64())
            && (a - b).abs() <= SCORE_TOLERANCE * a.abs()
        {
            got["status"][key] = wanted["status"][key].clone();
        }
    }
}

/// What differs between the `list` of the recorded answer and that of this server, one line an item. Items whose id is in `but` are not
/// looked at.
pub(crate) fn differences(list: &str, wanted: &Value, got: &Value, but: &[u64]) -> Vec<String> {
    let (wanted, got) = (by_id(wanted, list), by_id(got, list));
    let ids = |items: &[(u64, Value)]| items.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    if ids(&wanted) != ids(&got) {
        return vec![format!("{list} {:?} instead of {:?}", ids(&got), ids(&wanted))];
    }
    let mut out = Vec::new();
    for ((id, wanted), (_, mut got)) in wanted.into_iter().zip(got) {
        level(&wanted, &mut got);
        // As texts: the order of keys counts as well.
        let (wanted, got) = (wanted.to_string(), got.to_string());
        if !but.contains(&id) && wanted != got {
            out.push(format!("{got}\n  instead of\n{wanted}"));
        }
    }
    out
}
