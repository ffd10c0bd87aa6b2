//! `/config` and its sections.
//!
//! Owns: having a change of the configuration agreed, all of it in one entry of the log, and its log lines. Must not know: keys and checks
//! (`crate::config::update`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    Answer,
    error::{NOT_BOOTSTRAPPED, Problem},
    render::{Reply, compact},
    request::Request,
    rule_json::RuleJson,
    rules_unmet,
};
use crate::{
    api::{ApiError, App, convert::limit_name, lines, rows},
    config::{
        Dynamic,
        flags::Flags,
        load::{self, Host},
        schedule_json,
        section::Section,
        ttl::TtlItems,
        update::{self, ConfigError, Context, DefaultRule, Part, RulesSummary, Update},
    },
    meta::{Command, ConfigChange, LimitKind, RuleRow, TtlItem},
    model::{Rule, StoreState, Wall},
    pdlog,
    scheduler::placement::{DEFAULT_GROUP, DEFAULT_ID, RuleSet, RulesChange},
    telemetry::log::Level,
};

/// The agreed configuration, with the cluster version as it is agreed.
fn present(app: &App) -> Dynamic {
    let mut dynamic = (*app.dynamic.load()).clone();
    dynamic.cluster_version = app.meta.state().cluster_version.clone().unwrap_or_default();
    dynamic
}

/// The name of the log level as the configuration has it.
fn level_name(app: &App) -> String {
    app.log.level().name().to_ascii_lowercase()
}

/// `GET /config`
pub(super) fn get(request: &Request) -> Answer {
    let app = &request.app;
    let limits = &app.meta.state().limits;
    Ok(Reply::ok(&app.config.shown(&present(app), limits, &level_name(app))))
}

/// `GET /config/default`: what a server started here without a file or flags would have.
pub(super) fn default(_: &Request) -> Answer {
    let host = Host {
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        directory: std::env::current_dir().map_err(|e| Problem::failed(e.to_string()))?,
    };
    let loaded = load::load(&Flags::default(), None, &host).map_err(|e| Problem::failed(e.to_string()))?;
    Ok(Reply::ok(&loaded.config.shown_default()))
}

/// `GET /config/schedule`
pub(super) fn schedule(request: &Request) -> Answer {
    let app = &request.app;
    Ok(Reply::ok(&schedule_json(&app.dynamic.load().schedule, &app.meta.state().limits)))
}

/// `GET /config/pd-server`
pub(super) fn pd_server(request: &Request) -> Answer {
    Ok(Reply::ok(&request.app.dynamic.load().pd_server.show()))
}

/// `GET /config/replicate`
pub(super) fn replicate(request: &Request) -> Answer {
    Ok(Reply::ok(&request.app.dynamic.load().replication.show()))
}

/// `GET /config/label-property`
pub(super) fn label_property(request: &Request) -> Answer {
    Ok(Reply::ok(&label_property_json(&request.app.dynamic.load())))
}

fn label_property_json(dynamic: &Dynamic) -> Value {
    let types = dynamic.label_property.iter();
    types.map(|(name, labels)| (name.clone(), json!(labels))).collect::<serde_json::Map<_, _>>().into()
}

/// `GET /config/cluster-version`
pub(super) fn cluster_version(request: &Request) -> Answer {
    Ok(Reply::ok(&present(&request.app).cluster_version.to_string()))
}

/// `GET /config/replication-mode`
pub(super) fn replication_mode(request: &Request) -> Answer {
    Ok(Reply::ok(&request.app.dynamic.load().replication_mode.show()))
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::BadRequest(text) => Self::bad(text),
            ConfigError::Internal(text) => Self::failed(text),
            ConfigError::Input { message, data } => Self::Input { msg: message, data },
            ConfigError::InternalObject(text) => Self::Internal(text),
        }
    }
}

/// What checks of a change look at.
struct Surroundings {
    rules: Option<RulesSummary>,
    has_tiflash: bool,
    member_urls: Vec<String>,
    ttl: TtlItems,
    now: Wall,
}

impl Surroundings {
    fn of(app: &App) -> Self {
        let state = app.meta.state();
        let replication = &app.dynamic.load().replication;
        let rules = &app.cluster.settings().rules;
        let default =
            RuleSet::default_rule(replication.max_replicas, &replication.location_labels, &replication.isolation_level);
        let consistent = rules.get(DEFAULT_GROUP, DEFAULT_ID).is_some_and(|rule| {
            rule.count == default.count
                && rule.location_labels == default.location_labels
                && rule.isolation_level == default.isolation_level
        });
        let summary = RulesSummary { only_default: rules.len() == 1, default_consistent: consistent };
        Self {
            rules: state.is_bootstrapped().then_some(summary),
            has_tiflash: state.stores.values().any(|s| s.is_tiflash() && s.state != StoreState::Tombstone),
            member_urls: app.meta.members().into_iter().flat_map(|m| m.client_urls).collect(),
            ttl: ttl_items(app),
            now: app.now().wall,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            rules: self.rules,
            has_tiflash: self.has_tiflash,
            member_urls: &self.member_urls,
            ttl: &self.ttl,
            now: self.now,
        }
    }
}

/// The items that hold for a time, as agreed.
fn ttl_items(app: &App) -> TtlItems {
    rows::ttl_items(&app.meta.state())
}

/// `POST /config`
pub(super) async fn set(request: &Request) -> Answer {
    if request.query.has("ttlSecond") {
        return set_for_a_time(request).await;
    }
    change(request, |present, around| update::post_config(present, &request.body, &around.context())).await?;
    Ok(Reply::ok(&update::UPDATED))
}

/// `POST /config?ttlSecond=N`
async fn set_for_a_time(request: &Request) -> Answer {
    let app = &request.app;
    let _one_at_a_time = request.config_writes.lock().await;
    let old = ttl_items(app);
    let (next, said) = old.post(&request.body, &request.query.text("ttlSecond"), app.now().wall)?;
    let gone =
        old.iter().filter(|(key, ..)| next.iter().all(|(k, ..)| k != *key)).map(|(key, ..)| (key.to_owned(), None));
    let set =
        next.iter().map(|(key, value, expires)| (key.to_owned(), Some(TtlItem { value: value.to_owned(), expires })));
    app.propose(Command::SaveTtlConfig { items: gone.chain(set).collect() }).await?;
    Ok(Reply::ok(&said))
}

/// `POST /config/schedule`
pub(super) async fn set_schedule(request: &Request) -> Answer {
    change(request, |present, around| update::post_schedule(present, &request.body, &around.context())).await?;
    Ok(Reply::ok(&update::UPDATED))
}

/// `POST /config/replicate`
pub(super) async fn set_replicate(request: &Request) -> Answer {
    // The placement rules come with the cluster, and this changes them.
    if !request.app.is_bootstrapped() {
        return Err(Problem::failed(NOT_BOOTSTRAPPED));
    }
    change(request, |present, around| update::post_replicate(present, &request.body, &around.context())).await?;
    Ok(Reply::ok(&update::UPDATED))
}

/// `POST /config/replication-mode`
pub(super) async fn set_replication_mode(request: &Request) -> Answer {
    change(request, |present, around| update::replication_mode(present, &request.body, &around.context())).await?;
    Ok(Reply::ok(&update::REPLICATION_MODE_UPDATED))
}

/// `POST /config/cluster-version`
pub(super) async fn set_cluster_version(request: &Request) -> Answer {
    change(request, |present, _| update::cluster_version(present, &request.body)).await?;
    Ok(Reply::ok(&update::CLUSTER_VERSION_UPDATED))
}

/// `POST /config/label-property`
pub(super) async fn set_label_property(request: &Request) -> Answer {
    change(request, |present, _| update::label_property(present, &request.body)).await?;
    Ok(Reply::ok(&update::UPDATED))
}

/// `POST /admin/log`
pub(super) fn set_log_level(request: &Request) -> Answer {
    let word = super::body::text(&request.body).map_err(super::body::plain)?;
    change_log_level(&request.app, read_level(&word)?, &word);
    Ok(Reply::ok(&"The log level is updated."))
}

fn read_level(word: &str) -> Result<Level, Problem> {
    Level::parse(word).ok_or_else(|| Problem::bad(format!("log level {word} is illegal")))
}

fn change_log_level(app: &App, level: Level, word: &str) {
    app.log.set_level(level);
    pdlog!(app.log, Warn, "log level changed", "level" => word);
}

/// Has the whole of the agreed configuration saved.
pub(super) async fn save(app: &App, next: &Dynamic) -> Result<(), ApiError> {
    let json = next.to_json().map_err(|e| ApiError::Invalid(e.to_string()))?;
    app.propose(Command::SaveDynamicConfig { json }).await?;
    Ok(())
}

/// Works a change out from the present configuration and has it agreed. Changes come one after the other: each is worked out
/// from what the one before left.
async fn change(
    request: &Request,
    work_out: impl FnOnce(&Dynamic, &Surroundings) -> Result<Update, ConfigError>,
) -> Result<(), Problem> {
    let app = &request.app;
    rules_unmet::is_strict(request)?;
    let _one_at_a_time = request.config_writes.lock().await;
    let old = present(app);
    let update = work_out(&old, &Surroundings::of(app))?;
    let level = update.log_level.as_ref().map(|word| Ok::<_, Problem>((read_level(word)?, word))).transpose()?;
    let changed = update.changed(&old);
    check_default_rule(request, &update)?;
    let wanted = parts(app, &update, &changed)?;
    if wanted != ConfigChange::default() {
        app.propose(Command::ChangeConfig(Box::new(wanted.clone()))).await?;
    }
    if !wanted.rules.is_empty() {
        rules_unmet::tell_of_default(app);
    }
    if let Some((level, word)) = level {
        change_log_level(app, level, word);
    }
    for part in changed {
        tell(app, part, &old, &update.next);
    }
    for rule in wanted.rules {
        pdlog!(app.log, Info, "placement rule updated", "rule" => rule.json);
    }
    for (id, limits) in wanted.limits {
        lines::limit_changed(&app.log, id, limit_name(LimitKind::AddPeer), limits.add_peer);
        lines::limit_changed(&app.log, id, limit_name(LimitKind::RemovePeer), limits.remove_peer);
    }
    Ok(())
}

/// What has to be agreed so that `update` holds.
fn parts(app: &App, update: &Update, changed: &BTreeSet<Part>) -> Result<ConfigChange, ApiError> {
    let config = changed.iter().any(|part| *part != Part::ClusterVersion);
    let config = config.then(|| update.next.to_json()).transpose().map_err(|e| ApiError::Invalid(e.to_string()))?;
    let version = changed.contains(&Part::ClusterVersion).then(|| update.next.cluster_version.clone());
    let rules = update.default_rule.iter().map(|wanted| rule_row(&default_rule(app, wanted))).collect();
    let limits = update.store_limits.iter().map(|(id, limits)| (*id, *limits)).collect();
    Ok(ConfigChange { config, version, rules, limits, ..ConfigChange::default() })
}

/// With `berth-strict=true` a change of rule `pd/default` is refused when it cannot be met.
fn check_default_rule(request: &Request, update: &Update) -> Result<(), Problem> {
    let Some(wanted) = &update.default_rule else { return Ok(()) };
    let rules = vec![Arc::new(default_rule(&request.app, wanted))];
    let (next, touched) =
        request.app.cluster.settings().rules.changed(&RulesChange { rules, ..RulesChange::default() })?;
    rules_unmet::check(request, &next, &touched).map(|_| ())
}

/// Rule `pd/default` as it is to be after a change of `replication`.
fn default_rule(app: &App, wanted: &DefaultRule) -> Rule {
    let made = RuleSet::default_rule(wanted.count, &wanted.location_labels, &wanted.isolation_level);
    let rules = app.cluster.settings().rules.clone();
    match rules.get(DEFAULT_GROUP, DEFAULT_ID) {
        Some(old) => Rule {
            count: made.count,
            location_labels: made.location_labels,
            isolation_level: made.isolation_level,
            version: old.version + 1,
            ..Rule::clone(old)
        },
        None => made,
    }
}

fn rule_row(rule: &Rule) -> RuleRow {
    RuleRow { group: rule.group_id.clone(), id: rule.id.clone(), json: compact(&RuleJson::from(rule)) }
}

/// The log line of one part.
fn tell(app: &App, part: Part, old: &Dynamic, new: &Dynamic) {
    let limits = Arc::new(BTreeMap::new());
    let (message, new_text, old_text) = match part {
        Part::Schedule => (
            "schedule config is updated",
            compact(&schedule_json(&new.schedule, &limits)),
            compact(&schedule_json(&old.schedule, &limits)),
        ),
        Part::Replication => {
            ("replication config is updated", compact(&new.replication.show()), compact(&old.replication.show()))
        }
        Part::PdServer => {
            ("PD server config is updated", compact(&new.pd_server.show()), compact(&old.pd_server.show()))
        }
        Part::ReplicationMode => (
            "replication mode config is updated",
            compact(&new.replication_mode.show()),
            compact(&old.replication_mode.show()),
        ),
        Part::Keyspace => ("keyspace config is updated", compact(&new.keyspace.show()), compact(&old.keyspace.show())),
        Part::MicroService => {
            ("microservice config is updated", compact(&new.micro_service.show()), compact(&old.micro_service.show()))
        }
        Part::LabelProperty => {
            let config = compact(&label_property_json(new));
            pdlog!(app.log, Info, "label property config is updated", "config" => config);
            return;
        }
        Part::ClusterVersion => {
            let version = new.cluster_version.to_string();
            pdlog!(app.log, Info, "cluster version is updated", "new-version" => version);
            return;
        }
        // PD says nothing about it.
        Part::Controller => return,
    };
    pdlog!(app.log, Info, message, "new" => new_text, "old" => old_text);
}
