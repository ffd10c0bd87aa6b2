//! One key of `POST /config`: which section it belongs to, and what that section makes of it.
//!
//! Owns: the dispatch by section and the sections with rules of their own. Must not know: bodies or statuses.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Context, Update};
use crate::{
    config::{
        codec::{Codec, GoDuration},
        gojson,
        section::{Nested, Section, read_object},
        sections::{ControllerConfig, DrAutoSyncConfig, ReplicationModeConfig, RequestUnitConfig},
    },
    model::ClusterVersion,
};

/// Sets one key. The error is PD's text.
pub(super) fn set(update: &mut Update, key: &str, value: &Value, ctx: &Context<'_>) -> Result<(), String> {
    let not_found = |key: &str| format!("config item {key} not found");
    let path = if key.contains('.') { key.to_owned() } else { super::find(key).ok_or_else(|| not_found(key))? };
    let parts: Vec<&str> = path.split('.').collect();
    let (section, item) = (parts[0], parts[parts.len() - 1]);
    let next = &mut update.next;
    let known = match section {
        "schedule" => {
            refuse_ttl(item, ctx)?;
            super::set_schedule(update, item, value)
        }
        "replication" => next.replication.read_key(item, value, ""),
        "pd-server" => next.pd_server.read_key(item, value, ""),
        "keyspace" => next.keyspace.read_key(item, value, ""),
        "micro-service" => next.micro_service.read_key(item, value, ""),
        "replication-mode" => return set_replication_mode(&mut next.replication_mode, &parts[1..], value),
        "controller" => return set_controller(&mut next.controller, item, value),
        "log" => {
            update.log_level = Some(log_level(&parts, value)?);
            return Ok(());
        }
        "cluster-version" => {
            next.cluster_version = parse_version(text_of(value)?)?;
            return Ok(());
        }
        _ => return Err(format!("config prefix {section} not found")),
    };
    if known.map_err(|bad| bad.to_string())? { Ok(()) } else { Err(not_found(item)) }
}

/// Refuses a plain change of a key that is set for a time.
pub(super) fn refuse_ttl(item: &str, ctx: &Context<'_>) -> Result<(), String> {
    let key = format!("schedule.{item}");
    if ctx.ttl.is_alive(&key, ctx.now) { Err(format!("need to clean up TTL first for {key}")) } else { Ok(()) }
}

/// A value as Go prints it with `%v`.
fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(v) => v.to_string(),
        Value::Number(n) => gojson::number(n),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let pairs: Vec<_> = sorted.iter().map(|(key, value)| format!("{key}:{}", go_print(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn text_of(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("input value {} is illegal", go_print(value)))
}

fn log_level(parts: &[&str], value: &Value) -> Result<String, String> {
    if parts != ["log", "level"] {
        return Err("only support changing log level".to_owned());
    }
    let text = text_of(value)?;
    let legal = ["fatal", "error", "warn", "warning", "debug", "info"].contains(&text.to_lowercase().as_str());
    if legal { Ok(text.to_owned()) } else { Err(format!("log level {text} is illegal")) }
}

/// A version as PD reads it: a leading `v` is dropped, an empty text is 1.0.0.
pub(super) fn parse_version(text: &str) -> Result<ClusterVersion, String> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let bare = if bare.is_empty() { "1.0.0" } else { bare };
    bare.parse().map_err(|e: semver::Error| {
        let numbers = bare.split(['-', '+']).next().unwrap_or("").split('.').count();
        let reason = if numbers == 3 { e.to_string() } else { format!("{bare} is not in dotted-tri format") };
        format!("[PD:semver:ErrSemverNewVersion]{reason}: {reason}")
    })
}

fn set_replication_mode(mode: &mut ReplicationModeConfig, path: &[&str], value: &Value) -> Result<(), String> {
    let known = match path {
        [] => return Err("cannot update config prefix replication-mode".to_owned()),
        [item] => ReplicationModeConfig::default().show().contains_key(*item),
        ["dr-auto-sync", item] => DrAutoSyncConfig::default().show().contains_key(*item),
        _ => false,
    };
    if !known {
        return Err(format!("config item [{}] not found", path.join(" ")));
    }
    let nested =
        path.iter().rev().fold(value.clone(), |inner, key| Map::from_iter([((*key).to_owned(), inner)]).into());
    match nested {
        Value::Object(map) => read_object(mode, &map, "").map_err(|bad| bad.to_string()),
        _ => Ok(()),
    }
}

fn set_controller(controller: &mut ControllerConfig, item: &str, value: &Value) -> Result<(), String> {
    let failed = |text: String| format!("failed to update controller config: {text}");
    if <Nested as Codec<RequestUnitConfig>>::find(item).is_some() {
        return Err(format!("can't update controller child item {item}, only top-level items are allowed"));
    }
    if item == "request-unit" {
        return Err(failed(format!("config item {item} not found")));
    }
    match controller.read_key(item, value, "") {
        Ok(true) => {}
        Ok(false) => return Err(format!("controller config item {item} not found")),
        Err(bad) => return Err(failed(bad.to_string())),
    }
    check_unit_versions(&controller.ru_version_policy)?;
    // Without an interval nothing could be pushed: PD clears the address.
    if controller.push_metrics_interval <= GoDuration(0) {
        controller.push_metrics_address.clear();
    }
    Ok(())
}

fn check_unit_versions(policy: &Value) -> Result<(), String> {
    let refused = |version: &Value| version.as_i64().is_none_or(|v| v <= 0);
    if let Some(default) = policy.get("default").filter(|v| refused(v)) {
        return Err(format!("ru-version-policy default must be positive, got {}", go_print(default)));
    }
    let overrides = policy.get("overrides").and_then(Value::as_object);
    for (keyspace, version) in overrides.into_iter().flatten() {
        if refused(version) {
            let version = go_print(version);
            return Err(format!("ru-version-policy override for keyspace {keyspace} must be positive, got {version}"));
        }
    }
    Ok(())
}

/// The dashboard stands on a member, or nowhere, or where the members decide.
pub(super) fn check_dashboard(address: &str, member_urls: &[String]) -> Result<(), String> {
    if matches!(address, "auto" | "none") {
        return Ok(());
    }
    let scheme = address.split_once(':').map(|(scheme, _)| scheme).filter(|s| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    if scheme.is_none() && !address.starts_with('/') {
        return Err(format!("parse {}: invalid URI for request", gojson::quote(address)));
    }
    let host = address.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    if scheme.is_none() || host.is_empty() {
        return Err(format!("{address} has no scheme"));
    }
    if member_urls.iter().any(|url| url == address) {
        Ok(())
    } else {
        Err(format!("dashboard address {address} is not the client url of any member"))
    }
}
