//! What the words of a command mean: pd-ctl's words in, one HTTP call out.
//!
//! Owns: the words and the usage text. Must not know: connections.

use serde_json::{Map, Value, json};

/// What `berth ctl help` prints.
pub const USAGE: &str = "\
Usage: berth ctl [-u URL] COMMAND

  store [ID]                               one store or all of them
  store check STATE                        stores that are up, offline, tombstone, disconnected or down
  store delete ID [--force]                take a store out
  store cancel-delete ID                   keep it after all
  store label ID KEY=VALUE... [--force]    set labels; --force: nothing but these
  store label ID KEY --delete              take a label away
  store weight ID LEADER REGION            set weights
  store limit [ID|all RATE [TYPE]]         show or set limits, peers a minute; TYPE is add-peer or remove-peer
  stores show                              all stores
  stores show limit                        all limits
  stores remove-tombstone                  forget the stores that are gone
  operator show [KIND]                     operators; KIND is admin, leader, region or waiting
  operator check REGION                    the operator of a region
  operator remove REGION                   stop it
  operator add transfer-leader REGION STORE
  operator add transfer-region REGION STORE...
  operator add transfer-peer REGION FROM TO
  operator add add-peer|add-learner|remove-peer REGION STORE
  region [ID]                              one region or all of them
  region key KEY [--format=raw|hex]        the region of a key
  region store ID                          regions of a store
  region check STATE                       regions with a miss-peer, down-peer, offline-peer, ...
  config show [all|schedule|replication|server|label-property|cluster-version|replication-mode]
  config set KEY VALUE
  member                                   all members
  member delete name NAME | id ID          remove one
  member leader show                       who leads
  member leader resign                     have another lead
  member leader transfer NAME              have this one lead
  member leader_priority NAME PRIORITY     where leadership should be
  health, cluster, version, ping
";

/// What is printed of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Render {
    /// The answer.
    Json,
    /// That it was done.
    Success,
    /// Some fields of the answer.
    Fields(&'static [&'static str]),
}

/// One HTTP call.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// JSON body.
    pub body: Option<Value>,
    /// What is printed of the answer.
    pub render: Render,
}

fn get(path: impl AsRef<str>) -> Call {
    Call { method: "GET", path: format!("/pd/api/v1{}", path.as_ref()), body: None, render: Render::Json }
}

fn delete(path: impl AsRef<str>) -> Call {
    Call { method: "DELETE", render: Render::Success, ..get(path) }
}

fn post(path: impl AsRef<str>, body: Value) -> Call {
    Call { method: "POST", render: Render::Success, body: Some(body), ..get(path) }
}

/// Reads a command. The error says what is wrong with it.
pub fn parse(words: &[&str]) -> Result<Call, String> {
    match words {
        ["store" | "stores", rest @ ..] => store(rest),
        ["operator", rest @ ..] => operator(rest),
        ["region", rest @ ..] => region(rest),
        ["config", rest @ ..] => config(rest),
        ["member", rest @ ..] => member(rest),
        ["health"] => Ok(get("/health")),
        ["cluster"] => Ok(get("/cluster")),
        ["version"] => Ok(get("/version")),
        ["ping"] => Ok(get("/ping")),
        _ => Err(unknown(words)),
    }
}

fn unknown(words: &[&str]) -> String {
    format!("unknown command: {}\n\n{USAGE}", words.join(" "))
}

fn id(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is not an id"))
}

fn number(word: &str) -> Result<f64, String> {
    word.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(|| format!("{word} is not a number"))
}

fn store(words: &[&str]) -> Result<Call, String> {
    match words {
        [] | ["show"] => Ok(get("/stores")),
        ["limit"] | ["show", "limit"] => Ok(get("/stores/limit")),
        ["check", state] => Ok(get(format!("/stores/check?state={}", escaped(state)))),
        ["delete", store] => Ok(delete(format!("/store/{}", id(store)?))),
        ["delete", store, "--force"] => Ok(delete(format!("/store/{}?force=true", id(store)?))),
        ["cancel-delete", store] => {
            Ok(Call { body: None, ..post(format!("/store/{}/state?state=Up", id(store)?), Value::Null) })
        }
        ["label", store, key, "--delete"] => {
            Ok(Call { body: Some((*key).into()), ..delete(format!("/store/{}/label", id(store)?)) })
        }
        ["label", store, labels @ ..] if !labels.is_empty() => label(id(store)?, labels),
        ["weight", store, leader, region] => {
            let body = json!({ "leader": number(leader)?, "region": number(region)? });
            Ok(post(format!("/store/{}/weight", id(store)?), body))
        }
        ["limit", store, rate, kind @ ..] if kind.len() <= 1 => limit(store, rate, kind.first().copied()),
        ["remove-tombstone"] => Ok(delete("/stores/remove-tombstone")),
        [one] if one.bytes().all(|b| b.is_ascii_digit()) => Ok(get(format!("/store/{}", id(one)?))),
        _ => Err(unknown(&[&["store"], words].concat())),
    }
}

fn label(store: u64, words: &[&str]) -> Result<Call, String> {
    let mut labels = Map::new();
    let mut force = "";
    for word in words {
        if *word == "--force" {
            force = "?force=true";
            continue;
        }
        let (key, value) = word.split_once('=').ok_or_else(|| format!("{word} is not KEY=VALUE"))?;
        labels.insert(key.to_owned(), value.into());
    }
    Ok(post(format!("/store/{store}/label{force}"), labels.into()))
}

fn limit(store: &str, rate: &str, kind: Option<&str>) -> Result<Call, String> {
    let mut body = json!({ "rate": number(rate)? });
    if let Some(kind) = kind {
        if !matches!(kind, "add-peer" | "remove-peer") {
            return Err(format!("{kind} is not add-peer or remove-peer"));
        }
        body["type"] = kind.into();
    }
    match store {
        "all" => Ok(post("/stores/limit", body)),
        store => Ok(post(format!("/store/{}/limit", id(store)?), body)),
    }
}

fn operator(words: &[&str]) -> Result<Call, String> {
    match words {
        ["show"] => Ok(get("/operators")),
        ["show", kind] => Ok(get(format!("/operators?kind={}", escaped(kind)))),
        ["check", region] => Ok(get(format!("/operators/{}", id(region)?))),
        ["remove", region] => Ok(delete(format!("/operators/{}", id(region)?))),
        ["add", name, region, stores @ ..] => {
            let region = id(region)?;
            let stores = stores.iter().map(|s| id(s)).collect::<Result<Vec<_>, _>>()?;
            let body = match (*name, stores.as_slice()) {
                ("transfer-leader", [to]) => json!({ "name": name, "region_id": region, "to_store_id": to }),
                ("transfer-region", [_, ..]) => json!({ "name": name, "region_id": region, "to_store_ids": stores }),
                ("transfer-peer", [from, to]) => {
                    json!({ "name": name, "region_id": region, "from_store_id": from, "to_store_id": to })
                }
                ("add-peer" | "add-learner" | "remove-peer", [store]) => {
                    json!({ "name": name, "region_id": region, "store_id": store })
                }
                _ => return Err(unknown(&[&["operator"], words].concat())),
            };
            Ok(post("/operators", body))
        }
        _ => Err(unknown(&[&["operator"], words].concat())),
    }
}

fn region(words: &[&str]) -> Result<Call, String> {
    match words {
        [] => Ok(get("/regions")),
        ["key", key] | ["key", "--format=raw", key] | ["key", key, "--format=raw"] => {
            Ok(get(format!("/region/key/{}", escaped(key))))
        }
        ["key", "--format=hex", key] | ["key", key, "--format=hex"] => {
            Ok(get(format!("/region/key/{}?format=hex", escaped(key))))
        }
        ["store", store] => Ok(get(format!("/regions/store/{}", id(store)?))),
        ["check", state] => Ok(get(format!("/regions/check/{}", escaped(state)))),
        [one] => Ok(get(format!("/region/id/{}", id(one)?))),
        _ => Err(unknown(&[&["region"], words].concat())),
    }
}

fn config(words: &[&str]) -> Result<Call, String> {
    match words {
        ["show"] => Ok(Call { render: Render::Fields(&["schedule", "replication"]), ..get("/config") }),
        ["show", "all"] => Ok(get("/config")),
        ["show", "schedule"] => Ok(get("/config/schedule")),
        ["show", "replication"] => Ok(get("/config/replicate")),
        ["show", "server"] => Ok(get("/config/pd-server")),
        ["show", part @ ("label-property" | "cluster-version" | "replication-mode")] => {
            Ok(get(format!("/config/{part}")))
        }
        // Numbers are sent as numbers; everything else, booleans too, as text: that is how the items want them.
        ["set", key, value] => {
            let value = match (value.parse::<i64>(), number(value)) {
                (Ok(whole), _) => whole.into(),
                (_, Ok(number)) => number.into(),
                _ => Value::from(*value),
            };
            Ok(post("/config", Map::from_iter([((*key).to_owned(), value)]).into()))
        }
        _ => Err(unknown(&[&["config"], words].concat())),
    }
}

fn member(words: &[&str]) -> Result<Call, String> {
    match words {
        [] => Ok(get("/members")),
        ["delete", "name", name] => Ok(delete(format!("/members/name/{}", escaped(name)))),
        ["delete", "id", id] => Ok(delete(format!("/members/id/{}", self::id(id)?))),
        ["leader", "show"] => Ok(get("/leader")),
        ["leader", "resign"] => Ok(Call { body: None, ..post("/leader/resign", Value::Null) }),
        ["leader", "transfer", name] => {
            Ok(Call { body: None, ..post(format!("/leader/transfer/{}", escaped(name)), Value::Null) })
        }
        ["leader_priority", name, priority] => {
            let priority: i32 = priority.parse().map_err(|_| format!("{priority} is not a priority"))?;
            Ok(post(format!("/members/name/{}", escaped(name)), json!({ "leader-priority": priority })))
        }
        _ => Err(unknown(&[&["member"], words].concat())),
    }
}

/// A word as a part of a path or a query.
fn escaped(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    word.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
