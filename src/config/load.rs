//! From defaults, file and flags to one member's configuration: read, derive what is missing, check.
//!
//! Owns: the order of the layers, PD's warnings and refusals. Must not know: the disk (texts are passed in) or a running server.
//! PD has no environment variables for its keys, and neither has Berth.

use std::{
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use super::{
    Place,
    codec::{GoDuration, TomlBad},
    flags::Flags,
    schedule::{ScheduleConfig, SchedulerConfig},
    section::read_table,
    tree::Config,
};

/// Why there is no configuration. PD prints the text to stdout and ends with exit code 0.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// The system's words, as Go prints them.
        reason: String,
    },
    /// The file holds a wrong value, or is no TOML.
    #[error("toml: line {line}{bad}")]
    File {
        /// Line of the key, from 1.
        line: usize,
        /// ` (last key "a.b"): what is wrong`
        bad: String,
    },
    /// Values that do not go together; PD's text.
    #[error("{0}")]
    Value(String),
}

impl LoadError {
    /// The error for a file that could not be opened.
    pub fn open(path: &str, error: &std::io::Error) -> Self {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        LoadError::Open { path: path.to_owned(), reason }
    }
}

/// Where the process runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Name of the machine.
    pub name: String,
    /// Working directory.
    pub directory: PathBuf,
}

/// A configuration and what to say about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Each is one WARN line of the log and one line of `--config-check`.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// What `--config-check` prints.
    pub fn check_report(&self) -> String {
        match self.warnings.as_slice() {
            [] => "config check successful\n".to_owned(),
            warnings => warnings.iter().map(|w| format!("{w}\n")).collect(),
        }
    }
}

/// Builds the configuration. `file` is the text of the file that [`Flags::config`] names.
pub fn load(flags: &Flags, file: Option<&str>, host: &Host) -> Result<Loaded, LoadError> {
    let mut config = Config::default();
    let mut warnings = Vec::new();
    let table = match file {
        Some(text) => read_file(&mut config, text, &mut warnings)?,
        None => toml::Table::new(),
    };
    deprecated(&mut config, &table, &flags.config, &mut warnings).map_err(LoadError::Value)?;
    overlay(&mut config, flags);
    derive(&mut config, host, &mut warnings);
    validate(&config, host).map_err(LoadError::Value)?;
    Ok(Loaded { config, warnings })
}

/// Reads the file over the defaults; unknown keys are warned about.
fn read_file(config: &mut Config, text: &str, warnings: &mut Vec<String>) -> Result<toml::Table, LoadError> {
    // Windows editors put a mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_at = |offset: usize| text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| LoadError::File {
        line: line_at(e.span().map_or(0, |s| s.start)),
        bad: format!(": {}", e.message()),
    })?;
    let mut unknown = Vec::new();
    let offsets = offsets(text);
    let offset_of = |path: &str| offsets.iter().find(|(p, _)| p == path).map_or(usize::MAX, |(_, at)| *at);
    read_table(config, &table, "", &mut unknown)
        .map_err(|bad: TomlBad| LoadError::File { line: line_at(offset_of(&bad.path)), bad: format!(" {bad}") })?;
    // Items that are gone but still have a meaning, or whose values are kept elsewhere.
    let has_meaning = |path: &str| path == "pd-server.trace-region-flow" || path.starts_with("schedule.store-limit");
    unknown.retain(|path| !has_meaning(path));
    unknown.sort_by_key(|path| offset_of(path));
    if !unknown.is_empty() {
        warnings.push(format!("Config contains undefined item: {}", unknown.join(", ")));
    }
    Ok(table)
}

/// Path and offset of each key.
fn offsets(text: &str) -> Vec<(String, usize)> {
    fn walk(table: &toml::de::DeTable<'_>, parent: &str, out: &mut Vec<(String, usize)>) {
        for (key, value) in table {
            let path = super::section::join(parent, key.get_ref());
            out.push((path.clone(), key.span().start));
            if let toml::de::DeValue::Table(below) = value.get_ref() {
                walk(below, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    if let Ok(table) = toml::de::DeTable::parse(text) {
        walk(table.get_ref(), "", &mut out);
    }
    out
}

/// Items of older versions: warned about, translated, or refused next to their successors.
fn deprecated(config: &mut Config, table: &toml::Table, file: &str, warnings: &mut Vec<String>) -> Result<(), String> {
    let given = |section: &str, key: &str| table.get(section).and_then(|s| s.get(key)).is_some();
    for (key, successor) in [("log-file", "[log.file]"), ("log-level", "[log]")] {
        if table.contains_key(key) {
            warnings.push(format!("{key} in {file} is deprecated, use {successor} instead"));
        }
    }
    if config.log.file.filename.is_empty() {
        config.log.file.filename.clone_from(&config.log_file);
    }
    if !config.log_level.is_empty() && !given("log", "level") {
        config.log.level.clone_from(&config.log_level);
    }
    if given("schedule", "disable-raft-learner") {
        warnings.push(format!("disable-raft-learner in {file} is deprecated"));
    }
    switches(&mut config.schedule, |key| given("schedule", key))?;
    if config.schedule.store_balance_rate != 0.0 {
        let rate = config.schedule.store_balance_rate;
        config.schedule.default_store_limit = crate::model::StoreLimits { add_peer: rate, remove_peer: rate };
        config.schedule.store_balance_rate = 0.0;
    }
    let trace = table.get("pd-server").and_then(|s| s.get("trace-region-flow")).and_then(toml::Value::as_bool);
    if let Some(trace) = trace {
        if given("pd-server", "flow-round-by-digit") {
            return Err("config item flow-round-by-digit and trace-region-flow(deprecated) are conflict".to_owned());
        }
        if !trace {
            // Rounding to this many digits leaves nothing of any flow.
            config.pd_server.flow_round_by_digit = i64::from(i8::MAX);
        }
    }
    Ok(())
}

/// `disable-x` alone turns `enable-x` around; both with the same value contradict each other.
fn switches(schedule: &mut ScheduleConfig, given: impl Fn(&str) -> bool) -> Result<(), String> {
    let s = schedule;
    for (name, enable, disable) in [
        ("remove-down-replica", &mut s.enable_remove_down_replica, &mut s.disable_remove_down_replica),
        ("replace-offline-replica", &mut s.enable_replace_offline_replica, &mut s.disable_replace_offline_replica),
        ("make-up-replica", &mut s.enable_make_up_replica, &mut s.disable_make_up_replica),
        ("remove-extra-replica", &mut s.enable_remove_extra_replica, &mut s.disable_remove_extra_replica),
        ("location-replacement", &mut s.enable_location_replacement, &mut s.disable_location_replacement),
    ] {
        let (enable_key, disable_key) = (format!("enable-{name}"), format!("disable-{name}"));
        if !given(&disable_key) {
            continue;
        }
        if given(&enable_key) && enable == disable {
            return Err(format!("config item {enable_key} and {disable_key}(deprecated) are conflict"));
        }
        *enable = !*disable;
        *disable = false;
    }
    s.disable_raft_learner = false;
    Ok(())
}

/// Flags win over the file, as far as they were given.
fn overlay(config: &mut Config, flags: &Flags) {
    let pairs = [
        (&mut config.name, &flags.name),
        (&mut config.data_dir, &flags.data_dir),
        (&mut config.client_urls, &flags.client_urls),
        (&mut config.advertise_client_urls, &flags.advertise_client_urls),
        (&mut config.peer_urls, &flags.peer_urls),
        (&mut config.advertise_peer_urls, &flags.advertise_peer_urls),
        (&mut config.initial_cluster, &flags.initial_cluster),
        (&mut config.join, &flags.join),
        (&mut config.metric.address, &flags.metrics_addr),
        (&mut config.log.level, &flags.log_level),
        (&mut config.log.file.filename, &flags.log_file),
        (&mut config.security.cacert_path, &flags.cacert),
        (&mut config.security.cert_path, &flags.cert),
        (&mut config.security.key_path, &flags.key),
    ];
    for (slot, given) in pairs {
        if !given.is_empty() {
            slot.clone_from(given);
        }
    }
    config.force_new_cluster |= flags.force_new_cluster;
}

/// Size (MB) that a log file has while nothing else is said; PD shows it as soon as there is a file.
const LOG_FILE_MB: i64 = 300;

/// Fills in what follows from other values.
fn derive(config: &mut Config, host: &Host, warnings: &mut Vec<String>) {
    let or = |slot: &mut String, value: String| {
        if slot.is_empty() {
            *slot = value;
        }
    };
    or(&mut config.name, format!("pd-{}", host.name));
    or(&mut config.data_dir, format!("default.{}", config.name));
    config.data_dir = absolute(&config.data_dir, &host.directory).to_string_lossy().into_owned();
    or(&mut config.advertise_client_urls, config.client_urls.clone());
    or(&mut config.advertise_peer_urls, config.peer_urls.clone());
    if config.join.is_empty() {
        let members: Vec<_> =
            config.advertise_peer_urls.split(',').map(|url| format!("{}={url}", config.name)).collect();
        or(&mut config.initial_cluster, members.join(","));
    }
    or(&mut config.metric.job, config.name.clone());
    if !config.log.file.filename.is_empty() && config.log.file.max_size == 0 {
        config.log.file.max_size = LOG_FILE_MB;
    }
    let usual = Config::default().tso_update_physical_interval;
    let interval = &mut config.tso_update_physical_interval;
    *interval = (*interval).clamp(GoDuration::from_millis(1), GoDuration::from_secs(10));
    if *interval != usual {
        warnings.push("tso update physical interval is non-default".to_owned());
    }
    config.pd_server.clamp();
    config.replication_mode.adjust();
    // A file that lists schedulers adds to the usual ones.
    let listed: Vec<String> = config.schedule.schedulers_v2.iter().map(|s| s.kind.clone()).collect();
    let missing = |s: &SchedulerConfig| !listed.contains(&s.kind);
    config.schedule.schedulers_v2.extend(ScheduleConfig::default().schedulers_v2.into_iter().filter(missing));
}

/// A path without `.` and `..`, below `directory` when it is relative.
fn absolute(path: &str, directory: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in directory.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Checks values against each other. The texts are PD's, but for Berth's own settings.
fn validate(config: &Config, host: &Host) -> Result<(), String> {
    if !config.join.is_empty() && !config.initial_cluster.is_empty() {
        return Err("-initial-cluster and -join can not be provided at the same time".to_owned());
    }
    if !config.join.is_empty() && config.join == config.advertise_client_urls {
        return Err("join self is forbidden".to_owned());
    }
    for urls in [&config.client_urls, &config.peer_urls, &config.advertise_client_urls, &config.advertise_peer_urls] {
        if !urls.split(',').all(is_url) {
            return Err("[PD:url:ErrURLParse]parse url error".to_owned());
        }
    }
    let log_file = absolute(&config.log.file.filename, &host.directory);
    if log_file.parent().is_some_and(|folder| folder.starts_with(&config.data_dir)) {
        return Err("log directory shouldn't be the subdirectory of data directory".to_owned());
    }
    config.schedule.validate()?;
    config.replication.validate()?;
    config.pd_server.validate()?;
    config.security.encryption.validate()?;
    config.berth.validate()?;
    secured(config)
}

/// Checks that URLs are as safe as `[berth]` wants them.
fn secured(config: &Config) -> Result<(), String> {
    let berth = &config.berth;
    let plain = |urls: &str| urls.split(',').map(str::trim).find(|url| url.contains("http://")).map(str::to_owned);
    let (client, peer) = (("client-urls", &config.client_urls), ("peer-urls", &config.peer_urls));
    let told = [
        ("advertise-client-urls", &config.advertise_client_urls),
        ("advertise-peer-urls", &config.advertise_peer_urls),
    ];
    let others = [("initial-cluster", &config.initial_cluster), ("join", &config.join)];
    if berth.require_tls {
        for (key, urls) in [client, peer].into_iter().chain(told).chain(others) {
            if let Some(url) = plain(urls) {
                return Err(format!("berth.require-tls is set, but {key} holds {url}"));
            }
        }
    }
    if [&berth.role_read, &berth.role_operate, &berth.role_admin].into_iter().all(Option::is_none) {
        return Ok(());
    }
    if config.security.cacert_path.is_empty() {
        return Err("berth.role-* needs security.cacert-path: who shows no certificate has no name".to_owned());
    }
    // Who is alone needs no peer port: all that come there over loopback, without a name, are refused.
    let alone = config.join.is_empty() && !config.initial_cluster.contains(',');
    for (key, urls) in [client, peer, told[1]] {
        if let Some(url) = plain(urls).filter(|url| key == client.0 || !(alone && is_loopback(url))) {
            return Err(format!(
                "berth.role-* needs https:// URLs, but {key} holds {url}: who shows no certificate has no name"
            ));
        }
    }
    Ok(())
}

/// Whether only this machine reaches a URL.
fn is_loopback(url: &str) -> bool {
    let Some(place) = Place::of(url) else { return false };
    let host = place.host_and_port().0.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether `text` is a URL to listen on or to reach a member at: a scheme, a host and a port.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.trim().split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or("");
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
    match scheme {
        "http" | "https" => port.is_some(),
        "unix" | "unixs" => !rest.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
