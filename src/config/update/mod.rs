//! Changes of the agreed configuration, as pure functions: the present value and a body in, the next value or PD's refusal out.
//!
//! Owns: the routes' rules (look-up of keys, order of checks, texts, statuses). Must not know: HTTP, or how a change is agreed.
//! One deviation from PD: a body with several keys is applied whole or not at all (PD stops half way, in random order).

mod error;
mod items;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value, json};

pub use self::error::ConfigError;
use super::{
    codec::{Bad, Codec, Float64, Place, json_kind},
    dynamic::Dynamic,
    gojson::{self, Parsed},
    schedule::ScheduleConfig,
    section::{Section, join, read_object},
    sections::{ReplicationConfig, ReplicationModeConfig},
    tree::Config,
    ttl::TtlItems,
};
use crate::model::{StoreId, StoreLabel, StoreLimits, Wall};

/// Answer of a change.
pub const UPDATED: &str = "The config is updated.";
/// Answer of a change of the cluster version.
pub const CLUSTER_VERSION_UPDATED: &str = "The cluster version is updated.";
/// Answer of a change of the replication mode.
pub const REPLICATION_MODE_UPDATED: &str = "The replication mode config is updated.";

/// PD's refusal before a cluster exists.
const NOT_BOOTSTRAPPED: &str = "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first";

/// What the placement rules are like, as far as the configuration depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RulesSummary {
    /// There is no rule besides `pd/default`.
    pub only_default: bool,
    /// Count, location labels and isolation level of `pd/default` are those of the configuration.
    pub default_consistent: bool,
}

/// What checks need to know from outside.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The placement rules; `None` before the cluster is bootstrapped.
    pub rules: Option<RulesSummary>,
    /// There is a TiFlash store that is not Tombstone.
    pub has_tiflash: bool,
    /// Client URLs of the members.
    pub member_urls: &'a [String],
    /// Values that are set for a time.
    pub ttl: &'a TtlItems,
    /// The present.
    pub now: Wall,
}

/// The new content of rule `pd/default`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DefaultRule {
    /// Replicas.
    pub count: u64,
    /// Location labels.
    pub location_labels: Vec<String>,
    /// Isolation level.
    pub isolation_level: String,
}

/// A part of the configuration: each has its own message in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// `schedule`
    Schedule,
    /// `replication`
    Replication,
    /// `pd-server`
    PdServer,
    /// `replication-mode`
    ReplicationMode,
    /// `label-property`
    LabelProperty,
    /// `keyspace`
    Keyspace,
    /// `micro-service`
    MicroService,
    /// `controller`
    Controller,
    /// `cluster-version`
    ClusterVersion,
}

/// What a change comes to. Everything in it is to be agreed in one step.
#[derive(Clone, PartialEq, Debug)]
pub struct Update {
    /// The next agreed configuration.
    pub next: Dynamic,
    /// Limits of single stores; other stores keep theirs.
    pub store_limits: BTreeMap<StoreId, StoreLimits>,
    /// Rule `pd/default` becomes this.
    pub default_rule: Option<DefaultRule>,
    /// The log level becomes this (of the member that was asked; it is not agreed).
    pub log_level: Option<String>,
}

impl Update {
    fn new(present: &Dynamic) -> Self {
        Self { next: present.clone(), store_limits: BTreeMap::new(), default_rule: None, log_level: None }
    }

    /// The parts that differ from `present`: nothing is logged or agreed when there is none and no limit was given.
    pub fn changed(&self, present: &Dynamic) -> BTreeSet<Part> {
        let (a, b) = (present, &self.next);
        let differs = [
            (Part::Schedule, a.schedule != b.schedule),
            (Part::Replication, a.replication != b.replication),
            (Part::PdServer, a.pd_server != b.pd_server),
            (Part::ReplicationMode, a.replication_mode != b.replication_mode),
            (Part::LabelProperty, a.label_property != b.label_property),
            (Part::Keyspace, a.keyspace != b.keyspace),
            (Part::MicroService, a.micro_service != b.micro_service),
            (Part::Controller, a.controller != b.controller),
            (Part::ClusterVersion, a.cluster_version != b.cluster_version),
        ];
        differs.into_iter().filter_map(|(part, differs)| differs.then_some(part)).collect()
    }

    /// Checks the parts that changed. The order is that of the sections.
    fn check(mut self, present: &Dynamic, ctx: &Context<'_>) -> Result<Self, String> {
        let changed = self.changed(present);
        if changed.contains(&Part::Schedule) {
            self.next.schedule.validate()?;
            self.next.schedule.check_deprecated()?;
        }
        if changed.contains(&Part::Replication) {
            self.next.replication.validate()?;
            self.default_rule = default_rule(&present.replication, &self.next.replication, ctx)?;
        }
        if changed.contains(&Part::PdServer) {
            self.next.pd_server.validate()?;
            items::check_dashboard(&self.next.pd_server.dashboard_address, ctx.member_urls)?;
        }
        if changed.contains(&Part::ReplicationMode) {
            self.next.replication_mode.normalize()?;
        }
        if changed.contains(&Part::Keyspace) {
            self.next.keyspace.validate()?;
        }
        if present.micro_service.enable_resource_manager_fallback
            != self.next.micro_service.enable_resource_manager_fallback
        {
            return Err("cannot update config item enable-resource-manager-fallback dynamically".to_owned());
        }
        Ok(self)
    }
}

/// What becomes of rule `pd/default` when the replication section changes.
fn default_rule(
    old: &ReplicationConfig,
    new: &ReplicationConfig,
    ctx: &Context<'_>,
) -> Result<Option<DefaultRule>, String> {
    if ctx.rules.is_none() && (new.enable_placement_rules || old.enable_placement_rules) {
        return Err(NOT_BOOTSTRAPPED.to_owned());
    }
    if old.enable_placement_rules && !new.enable_placement_rules && ctx.has_tiflash {
        return Err("cannot disable placement rules with TiFlash nodes".to_owned());
    }
    if !new.rule_differs(old) {
        return Ok(None);
    }
    if let (true, Some(rules)) = (new.enable_placement_rules, ctx.rules) {
        if !rules.only_default {
            return Err("cannot update MaxReplicas, LocationLabels or IsolationLevel when placement rules feature is \
                        enabled and not only default rule exists, please update rule instead"
                .to_owned());
        }
        if !rules.default_consistent {
            return Err("cannot to update replication config, the default rules do not consistent with replication \
                        config, please update rule instead"
                .to_owned());
        }
    }
    if new.max_replicas == 0 {
        return Err("[PD:placement:ErrRuleContent]invalid rule content, invalid count 0".to_owned());
    }
    Ok(new.enable_placement_rules.then(|| DefaultRule {
        count: new.max_replicas,
        location_labels: new.location_labels.clone(),
        isolation_level: new.isolation_level.clone(),
    }))
}

/// `POST /config`: any keys, with or without their section.
pub fn post_config(present: &Dynamic, body: &[u8], ctx: &Context<'_>) -> Result<Update, ConfigError> {
    let (_, map) = plain_map(body)?;
    let mut update = Update::new(present);
    for (key, value) in &map {
        items::set(&mut update, key, &through_float(value), ctx).map_err(ConfigError::BadRequest)?;
    }
    update.check(present, ctx).map_err(ConfigError::BadRequest)
}

/// `POST /config/schedule`: keys of the section; unknown ones are passed over.
pub fn post_schedule(present: &Dynamic, body: &[u8], ctx: &Context<'_>) -> Result<Update, ConfigError> {
    let (parsed, map) = plain_map(body)?;
    for key in map.keys() {
        items::refuse_ttl(key, ctx).map_err(ConfigError::BadRequest)?;
    }
    let mut update = Update::new(present);
    for (key, value) in &map {
        set_schedule(&mut update, key, value).map_err(|bad| {
            ConfigError::wrong_type(&bad, &parsed).unwrap_or_else(|| ConfigError::Internal(bad.to_string()))
        })?;
    }
    update.check(present, ctx).map_err(ConfigError::Internal)
}

/// `POST /config/replicate`: keys of the section; unknown ones are passed over. `null` is refused (PD ends in a panic).
pub fn post_replicate(present: &Dynamic, body: &[u8], ctx: &Context<'_>) -> Result<Update, ConfigError> {
    let mut update = Update::new(present);
    read_section(&mut update.next.replication, body)?;
    update.check(present, ctx).map_err(ConfigError::Internal)
}

/// `POST /config/replication-mode`: the section or a part of it.
pub fn replication_mode(present: &Dynamic, body: &[u8], ctx: &Context<'_>) -> Result<Update, ConfigError> {
    let mut update = Update::new(present);
    read_section::<ReplicationModeConfig>(&mut update.next.replication_mode, body)?;
    update.check(present, ctx).map_err(ConfigError::Internal)
}

/// `POST /config/cluster-version`: `{"cluster-version": "8.5.0"}`.
pub fn cluster_version(present: &Dynamic, body: &[u8]) -> Result<Update, ConfigError> {
    let map = text_map(body)?;
    let Some(text) = map.get("cluster-version") else {
        return Err(ConfigError::Input { message: "not set cluster-version".to_owned(), data: json!({}) });
    };
    let mut update = Update::new(present);
    update.next.cluster_version = items::parse_version(text).map_err(ConfigError::InternalObject)?;
    Ok(update)
}

/// `POST /config/label-property`: `{"type","action":"set"|"delete","label-key","label-value"}`.
pub fn label_property(present: &Dynamic, body: &[u8]) -> Result<Update, ConfigError> {
    let map = text_map(body)?;
    let word = |key: &str| map.get(key).cloned().unwrap_or_default();
    let label = StoreLabel { key: word("label-key"), value: word("label-value") };
    let mut update = Update::new(present);
    let properties = &mut update.next.label_property;
    match word("action").as_str() {
        "set" => {
            let labels = properties.entry(word("type")).or_default();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        "delete" => {
            if let Some(labels) = properties.get_mut(&word("type")) {
                labels.retain(|l| *l != label);
            }
            properties.retain(|_, labels| !labels.is_empty());
        }
        other => return Err(ConfigError::Internal(format!("unknown action {other}"))),
    }
    Ok(update)
}

/// A body that must be an object or null; refusals are plain texts.
pub(super) fn plain_map(body: &[u8]) -> Result<(Parsed, Map<String, Value>), ConfigError> {
    let mut parsed = gojson::parse(body).map_err(|e| ConfigError::BadRequest(e.to_string()))?;
    match parsed.value.take() {
        Value::Null => Ok((parsed, Map::new())),
        Value::Object(map) => Ok((parsed, map)),
        other => {
            let kind = json_kind(&other);
            let text = format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}");
            Err(ConfigError::BadRequest(text))
        }
    }
}

/// Reads a body into a section; refusals are objects.
fn read_section<S: Section>(section: &mut S, body: &[u8]) -> Result<(), ConfigError> {
    let parsed = gojson::parse(body).map_err(|e| ConfigError::syntax(&e))?;
    let at = Place { structure: "", field: "" };
    let read = match &parsed.value {
        Value::Null => return Err(ConfigError::BadRequest("the body is null".to_owned())),
        Value::Object(map) => read_object(section, map, ""),
        other => Err(at.wrong(json_kind(other), &format!("config.{}", S::GO_NAME))),
    };
    let refused = |bad: Bad| {
        ConfigError::wrong_type(&bad, &parsed).unwrap_or_else(|| ConfigError::InternalObject(bad.to_string()))
    };
    read.map_err(refused)
}

/// A body that must be an object of texts; refusals are objects.
fn text_map(body: &[u8]) -> Result<BTreeMap<String, String>, ConfigError> {
    let parsed = gojson::parse(body).map_err(|e| ConfigError::syntax(&e))?;
    let wrong = |value: &Value, go_type: &str, field: &str| {
        let bad = Place { structure: "", field }.wrong(json_kind(value), go_type);
        ConfigError::wrong_type(&bad, &parsed).unwrap_or_else(|| ConfigError::Internal(bad.to_string()))
    };
    match &parsed.value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| match value {
                Value::String(text) => Ok((key.clone(), text.clone())),
                other => Err(wrong(other, "string", key)),
            })
            .collect(),
        other => Err(wrong(other, "map[string]string", "")),
    }
}

/// Sets one key of the schedule section; unknown keys are passed over. Whether it was known is the answer.
fn set_schedule(update: &mut Update, key: &str, value: &Value) -> Result<bool, Bad> {
    if key != "store-limit" {
        return update.next.schedule.read_key(key, value, "");
    }
    let at = Place { structure: ScheduleConfig::GO_NAME, field: key };
    let map = match value {
        Value::Null => return Ok(true),
        Value::Object(map) => map,
        other => return Err(at.wrong(json_kind(other), "map[uint64]config.StoreLimitConfig")),
    };
    for (id, rates) in map {
        let store: u64 = id.parse().map_err(|_| at.wrong(&format!("number {id}"), "uint64"))?;
        // PD reads each entry into a fresh one: a rate that is not given becomes 0.
        let mut limits = StoreLimits { add_peer: 0.0, remove_peer: 0.0 };
        super::codec::Rates::read_json(&mut limits, rates, Place { field: &join(key, id), ..at })?;
        update.store_limits.insert(StoreId(store), limits);
    }
    Ok(true)
}

/// A value as it is after PD has held its numbers as 64 bit floats.
fn through_float(value: &Value) -> Value {
    match value {
        Value::Number(n) => {
            let mut float = 0.0;
            // A number always reads as a float.
            let _ = Float64::read_json(&mut float, value, Place { structure: "", field: "" });
            gojson::float_text(float).parse::<Number>().unwrap_or_else(|_| n.clone()).into()
        }
        Value::Array(items) => items.iter().map(through_float).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), through_float(v))).collect::<Map<_, _>>().into(),
        other => other.clone(),
    }
}

/// Path of a key that was given without its section.
fn find(key: &str) -> Option<String> {
    if key == "store-limit" { Some("schedule.store-limit".to_owned()) } else { Config::find(key) }
}

#[cfg(test)]
mod tests;
