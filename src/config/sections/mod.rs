//! The sections of the configuration other than `schedule`.
//!
//! Owns: their structures, defaults and checks. Must not know: how they are changed or where they are kept.

mod berth;
mod security;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::Value;

pub use self::{
    berth::{BerthConfig, DenyScope},
    security::{EncryptionConfig, MasterKeyConfig, Redact, SecurityConfig},
};
use super::{
    codec::{
        Bool, CommaList, Float64, GoDuration, Int, MaybeTextMap, Opaque, Span, StringBool, Text, TextList, Uint64,
    },
    section::{Nested, section},
};

/// What a label key must look like; it stands in an error text.
const LABEL_FORMAT: &str = "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$";

section! {
    /// How many replicas there are and where they stand, as far as rules do not say otherwise.
    pub struct ReplicationConfig ("ReplicationConfig") {
        /// Replicas of a region.
        max_replicas: u64 as Uint64, "max-replicas" = 3;
        /// Store labels that describe a place, the widest first.
        location_labels: Vec<String> as CommaList, "location-labels" = Vec::new();
        /// A store must have exactly the location labels to register.
        strictly_match_label: bool as StringBool, "strictly-match-label" = false;
        /// Placement rules decide.
        enable_placement_rules: bool as StringBool, "enable-placement-rules" = true;
        /// Remember which regions fit their rules.
        enable_placement_rules_cache: bool as StringBool, "enable-placement-rules-cache" = false;
        /// The location label within which no two replicas may stand; empty: none.
        isolation_level: String as Text, "isolation-level" = String::new();
    }
}

impl ReplicationConfig {
    /// What PD checks at every change. The texts are PD's.
    pub fn validate(&self) -> Result<(), String> {
        for label in &self.location_labels {
            check_label_key(label)?;
        }
        if !self.isolation_level.is_empty() && !self.location_labels.contains(&self.isolation_level) {
            return Err("isolation-level must be one of location-labels or empty".to_owned());
        }
        Ok(())
    }

    /// Whether what the default rule is made of differs.
    pub fn rule_differs(&self, other: &Self) -> bool {
        self.max_replicas != other.max_replicas
            || self.location_labels != other.location_labels
            || self.isolation_level != other.isolation_level
    }
}

/// Checks a label key as PD does for store labels and location labels.
pub fn check_label_key(key: &str) -> Result<(), String> {
    static FORMAT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(LABEL_FORMAT).ok());
    match FORMAT.as_ref() {
        Some(format) if !format.is_match(key) => Err(format!("{key} does not match format \"{LABEL_FORMAT}\"")),
        _ => Ok(()),
    }
}

section! {
    /// Behaviour of the server itself.
    pub struct PdServerConfig ("PDServerConfig") {
        /// Keep regions on disk for a warm start.
        use_region_storage: bool as StringBool, "use-region-storage" = true;
        /// How far the timestamp may be moved by hand.
        max_gap_reset_ts: GoDuration as Span, "max-gap-reset-ts" = GoDuration::from_secs(24 * 3600);
        /// What keys look like: `table`, `raw` or `txn`.
        key_type: String as Text, "key-type" = "table".to_owned();
        /// Unused.
        runtime_services: Vec<String> as CommaList, "runtime-services" = Vec::new();
        /// Where metric queries are sent.
        metric_storage: String as Text, "metric-storage" = String::new();
        /// `auto`, `none` or the client URL of a member.
        dashboard_address: String as Text, "dashboard-address" = "auto".to_owned();
        /// Flow numbers of regions are rounded to this many digits.
        flow_round_by_digit: i64 as Int, "flow-round-by-digit" = 3, [KEEP];
        /// How often the lowest resolved timestamp is saved; zero turns it off.
        min_resolved_ts_persistence_interval: GoDuration as Span,
            "min-resolved-ts-persistence-interval" = GoDuration::from_secs(1), [KEEP];
        /// Share of memory that PD may take. Berth has no collector to tune; kept for its answers.
        server_memory_limit: f64 as Float64, "server-memory-limit" = 0.0;
        /// Kept for its answers.
        server_memory_limit_gc_trigger: f64 as Float64, "server-memory-limit-gc-trigger" = 0.7;
        /// Kept for its answers.
        enable_gogc_tuner: bool as StringBool, "enable-gogc-tuner" = true;
        /// Kept for its answers.
        gc_tuner_threshold: f64 as Float64, "gc-tuner-threshold" = 0.6;
        /// Refuse the old ways to write GC safe points.
        block_safe_point_v1: bool as StringBool, "block-safe-point-v1" = false;
    }
}

impl PdServerConfig {
    /// What PD checks at every change, but for the dashboard address. The texts are PD's.
    pub fn validate(&self) -> Result<(), String> {
        let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
        if !matches!(self.key_type.as_str(), "table" | "raw" | "txn") {
            return Err(format!("key-type {} is invalid", self.key_type));
        }
        let refused = if self.flow_round_by_digit < 0 {
            "[PD:server:ErrConfiguration]flow round by digit cannot be negative number"
        } else if !within(self.server_memory_limit, 0.0, 0.99) {
            "server-memory-limit should between 0 and 0.99"
        } else if !within(self.server_memory_limit_gc_trigger, 0.5, 0.99) {
            "server-memory-limit-gc-trigger should between 0.5 and 0.99"
        } else if !within(self.gc_tuner_threshold, 0.0, 0.9) {
            "gc-tuner-threshold should between 0 and 0.9"
        } else {
            return Ok(());
        };
        Err(refused.to_owned())
    }

    /// Pulls the values of the file into their bounds, without a word, as PD does.
    pub(in crate::config) fn clamp(&mut self) {
        self.server_memory_limit = self.server_memory_limit.clamp(0.0, 0.99);
        self.server_memory_limit_gc_trigger = self.server_memory_limit_gc_trigger.clamp(0.5, 0.99);
        self.gc_tuner_threshold = self.gc_tuner_threshold.clamp(0.0, 0.9);
    }
}

section! {
    /// Replication over two data centres.
    pub struct DrAutoSyncConfig ("DRAutoSyncReplicationConfig") {
        /// The label that tells the centres apart.
        label_key: String as Text, "label-key" = String::new();
        /// Its value in the primary centre.
        primary: String as Text, "primary" = String::new();
        /// Its value in the other one.
        dr: String as Text, "dr" = String::new();
        /// Replicas in the primary centre.
        primary_replicas: i64 as Int, "primary-replicas" = 0;
        /// Replicas in the other one.
        dr_replicas: i64 as Int, "dr-replicas" = 0;
        /// How long to wait for stores before the mode changes.
        wait_store_timeout: GoDuration as Span, "wait-store-timeout" = GoDuration::from_secs(60);
        /// How long to wait before recovery.
        wait_recover_timeout: GoDuration as Span, "wait-recover-timeout" = GoDuration(0);
        /// No splits while recovering.
        pause_region_split: bool as StringBool, "pause-region-split" = false;
    }
}

section! {
    /// How replicas agree.
    pub struct ReplicationModeConfig ("ReplicationModeConfig") {
        /// `majority` or `dr-auto-sync`.
        replication_mode: String as Text, "replication-mode" = MAJORITY.to_owned();
        /// For `dr-auto-sync`.
        dr_auto_sync: DrAutoSyncConfig as Nested, "dr-auto-sync" = DrAutoSyncConfig::default();
    }
}

/// The usual mode.
const MAJORITY: &str = "majority";

impl ReplicationModeConfig {
    /// Case and underscores do not matter; an unknown mode is `None`.
    fn known(mode: &str) -> Option<String> {
        let mode = mode.to_lowercase().replace('_', "-");
        matches!(mode.as_str(), MAJORITY | "dr-auto-sync").then_some(mode)
    }

    /// Brings the mode into its usual spelling, or refuses it with PD's text.
    pub fn normalize(&mut self) -> Result<(), String> {
        match Self::known(&self.replication_mode) {
            Some(mode) => self.replication_mode = mode,
            None => return Err(format!("invalid replication mode: {}", self.replication_mode)),
        }
        Ok(())
    }

    /// The same for the file, where an unknown mode silently becomes `majority`.
    pub(in crate::config) fn adjust(&mut self) {
        self.replication_mode = Self::known(&self.replication_mode).unwrap_or_else(|| MAJORITY.to_owned());
    }
}

section! {
    /// Keyspaces.
    pub struct KeyspaceConfig ("KeyspaceConfig") {
        /// Keyspaces that are made at the start.
        pre_alloc: Option<Vec<String>> as TextList, "pre-alloc" = None;
        /// Making a keyspace waits until its regions are split.
        wait_region_split: bool as Bool, "wait-region-split" = true;
        /// How long.
        wait_region_split_timeout: GoDuration as Span, "wait-region-split-timeout" = GoDuration::from_secs(30);
        /// How often that is looked at.
        check_region_split_interval: GoDuration as Span, "check-region-split-interval" = GoDuration::from_millis(50);
        /// Group id → addresses.
        meta_service_groups: Option<BTreeMap<String, String>> as MaybeTextMap, "meta-service-groups" = None;
    }
}

impl KeyspaceConfig {
    /// What PD checks at every change. The texts are PD's.
    pub fn validate(&self) -> Result<(), String> {
        let check = self.check_region_split_interval;
        if !(GoDuration::from_millis(1)..=GoDuration::from_millis(100)).contains(&check) {
            return Err("[keyspace] check-region-split-interval should between 1ms and 100ms".to_owned());
        }
        if check >= self.wait_region_split_timeout {
            let text = "[keyspace] check-region-split-interval should be less than wait-region-split-timeout";
            return Err(text.to_owned());
        }
        let mut seen = BTreeSet::new();
        for (id, addresses) in self.meta_service_groups.iter().flatten() {
            if id.trim().is_empty() {
                return Err("[keyspace] meta-service group ID cannot be empty".to_owned());
            }
            if id.contains('/') {
                return Err(format!("[keyspace] meta-service group ID cannot contain '/': {id}"));
            }
            if addresses.trim().is_empty() {
                return Err("[keyspace] meta-service group addresses cannot be empty".to_owned());
            }
            if !seen.insert(id.trim()) {
                return Err(format!("[keyspace] meta-service group ID cannot be duplicated: {}", id.trim()));
            }
        }
        Ok(())
    }
}

section! {
    /// What happens when PD's separate services are not there. Kept for its answers.
    pub struct MicroServiceConfig ("MicroServiceConfig") {
        /// Kept for its answers.
        enable_scheduling_fallback: bool as StringBool, "enable-scheduling-fallback" = true;
        /// Kept for its answers.
        enable_tso_dynamic_switching: bool as StringBool, "enable-tso-dynamic-switching" = false;
        /// Kept for its answers; cannot be changed online.
        enable_resource_manager_fallback: bool as StringBool, "enable-resource-manager-fallback" = true;
    }
}

section! {
    /// Costs of requests in request units.
    pub struct RequestUnitConfig ("RequestUnitConfig") {
        /// A read.
        read_base_cost: f64 as Float64, "read-base-cost" = 1.0 / 8.0;
        /// A batch of reads.
        read_per_batch_base_cost: f64 as Float64, "read-per-batch-base-cost" = 1.0 / 2.0;
        /// A byte read.
        read_cost_per_byte: f64 as Float64, "read-cost-per-byte" = 1.0 / 65_536.0;
        /// A write.
        write_base_cost: f64 as Float64, "write-base-cost" = 1.0;
        /// A batch of writes.
        write_per_batch_base_cost: f64 as Float64, "write-per-batch-base-cost" = 1.0;
        /// A byte written.
        write_cost_per_byte: f64 as Float64, "write-cost-per-byte" = 1.0 / 1024.0;
        /// A millisecond of CPU.
        read_cpu_ms_cost: f64 as Float64, "read-cpu-ms-cost" = 1.0 / 3.0;
    }
}

section! {
    /// What clients' resource control is told.
    pub struct ControllerConfig ("ControllerConfig") {
        /// How long a client waits before it goes on without the server.
        degraded_mode_wait_duration: GoDuration as Span, "degraded-mode-wait-duration" = GoDuration(0);
        /// How long a request may wait for tokens.
        ltb_max_wait_duration: GoDuration as Span, "ltb-max-wait-duration" = GoDuration::from_secs(30);
        /// How long a token request may take.
        ltb_token_rpc_max_delay: GoDuration as Span, "ltb-token-rpc-max-delay" = GoDuration::from_secs(1);
        /// Costs.
        request_unit: RequestUnitConfig as Nested, "request-unit" = RequestUnitConfig::default();
        /// Log what the controller does.
        enable_controller_trace_log: bool as StringBool, "enable-controller-trace-log" = false;
        /// Where clients push metrics.
        push_metrics_address: String as Text, "push-metrics-address" = String::new();
        /// How often.
        push_metrics_interval: GoDuration as Span, "push-metrics-interval" = GoDuration(0);
        /// Versions of request units by keyspace.
        ru_version_policy: Value as Opaque, "ru-version-policy" = Value::Null, [OMIT];
    }
}

section! {
    /// Where the log goes.
    pub struct LogFileConfig ("FileLogConfig") {
        /// Path; empty: the log goes to stderr.
        filename: String as Text, "filename" = String::new();
        /// Size (MB) at which it is rotated; 0 means 300.
        max_size: i64 as Int, "max-size" = 0;
        /// Days that old files are kept; 0: for ever.
        max_days: i64 as Int, "max-days" = 0;
        /// Old files that are kept; 0: all.
        max_backups: i64 as Int, "max-backups" = 0;
    }
}

section! {
    /// The log.
    pub struct LogConfig ("Config") {
        /// `debug`, `info`, `warn`, `error` or `fatal`, in any case.
        level: String as Text, "level" = "info".to_owned();
        /// `text` or `json`.
        format: String as Text, "format" = "text".to_owned();
        /// Leave the time out.
        disable_timestamp: bool as Bool, "disable-timestamp" = false;
        /// The file.
        file: LogFileConfig as Nested, "file" = LogFileConfig::default();
        /// Kept for its answers.
        development: bool as Bool, "development" = false;
        /// Leave the source position out.
        disable_caller: bool as Bool, "disable-caller" = false;
        /// Kept for its answers.
        disable_stacktrace: bool as Bool, "disable-stacktrace" = false;
        /// Error fields hold only the message.
        disable_error_verbose: bool as Bool, "disable-error-verbose" = true;
        /// Kept for its answers.
        sampling: Value as Opaque, "sampling" = Value::Null;
        /// Kept for its answers.
        error_output_path: String as Text, "error-output-path" = String::new();
    }
}

section! {
    /// Pushing of metrics.
    pub struct MetricConfig ("MetricConfig") {
        /// Job name; the member's name when empty.
        job: String as Text, "job" = String::new();
        /// The gateway; empty: metrics are not pushed.
        address: String as Text, "address" = String::new();
        /// How often.
        interval: GoDuration as Span, "interval" = GoDuration::from_secs(15);
    }
}

section! {
    /// PD's dashboard. Kept for its answers.
    pub struct DashboardConfig ("DashboardConfig") {
        /// Kept for its answers.
        tidb_cacert_path: String as Text, "tidb-cacert-path" = String::new();
        /// Kept for its answers.
        tidb_cert_path: String as Text, "tidb-cert-path" = String::new();
        /// Kept for its answers.
        tidb_key_path: String as Text, "tidb-key-path" = String::new();
        /// Kept for its answers.
        public_path_prefix: String as Text, "public-path-prefix" = String::new();
        /// Kept for its answers.
        temp_dir: String as Text, "temp-dir" = String::new();
        /// Kept for its answers.
        internal_proxy: bool as Bool, "internal-proxy" = false;
        /// Kept for its answers.
        enable_telemetry: bool as Bool, "enable-telemetry" = false;
        /// Kept for its answers.
        enable_experimental: bool as Bool, "enable-experimental" = false;
        /// Kept for its answers.
        disable_custom_prom_addr: bool as Bool, "disable-custom-prom-addr" = false;
    }
}
