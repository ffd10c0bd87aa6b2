//! The whole configuration, in the order and with the keys of `GET /pd/api/v1/config`.
//!
//! Owns: [`Config`] and how it is shown. Must not know: files, flags, or how a value changes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    codec::{Bool, ByteSize, Codec, GoDuration, Int, LabelProperty, Opaque, Properties, Span, Text, TextMap},
    dynamic::Dynamic,
    schedule::{ScheduleConfig, schedule_json, with_store_limits},
    section::{Nested, Section, section},
    sections::{
        BerthConfig, ControllerConfig, DashboardConfig, KeyspaceConfig, LogConfig, MetricConfig, MicroServiceConfig,
        PdServerConfig, ReplicationConfig, ReplicationModeConfig, SecurityConfig,
    },
};
use crate::model::{ClusterVersion, StoreId, StoreLimits};

/// Cluster versions; the file does not have them.
enum Version {}

impl Codec<ClusterVersion> for Version {
    fn show(value: &ClusterVersion) -> Value {
        value.to_string().into()
    }

    fn read_json(
        slot: &mut ClusterVersion,
        value: &Value,
        at: super::codec::Place<'_>,
    ) -> Result<(), super::codec::Bad> {
        let mut text = String::new();
        Text::read_json(&mut text, value, at)?;
        *slot = text.parse().map_err(|e: semver::Error| super::codec::Bad::Text(e.to_string()))?;
        Ok(())
    }

    fn read_toml(
        slot: &mut ClusterVersion,
        value: &toml::Value,
        _: &str,
        _: &mut Vec<String>,
    ) -> Result<(), super::codec::TomlBad> {
        let text = value.as_str().ok_or_else(|| super::codec::toml_mismatch(value, "string"))?;
        *slot = text.parse().map_err(|e: semver::Error| e.to_string())?;
        Ok(())
    }

    fn is_zero(_: &ClusterVersion) -> bool {
        false
    }
}

section! {
    /// The configuration of one member. What is agreed between members ([`Dynamic`]) starts from it once, at the very first
    /// start; from then on the agreed values win.
    pub struct Config ("Config") {
        /// URLs to listen on for clients, joined by commas.
        client_urls: String as Text, "client-urls" = "http://127.0.0.1:2379".to_owned();
        /// URLs to listen on for members, joined by commas.
        peer_urls: String as Text, "peer-urls" = "http://127.0.0.1:2380".to_owned();
        /// URLs that clients are told; [`Self::client_urls`] when empty.
        advertise_client_urls: String as Text, "advertise-client-urls" = String::new();
        /// URLs that members are told; [`Self::peer_urls`] when empty.
        advertise_peer_urls: String as Text, "advertise-peer-urls" = String::new();
        /// Name of this member; `pd-` and the host's name when empty.
        name: String as Text, "name" = String::new();
        /// Where everything is kept; `default.` and the name when empty.
        data_dir: String as Text, "data-dir" = String::new();
        /// Make a cluster of one out of what this member has.
        force_new_cluster: bool as Bool, "force-new-cluster" = false, [SHOWN];
        /// Kept for its answers.
        enable_grpc_gateway: bool as Bool, "enable-grpc-gateway" = true, [SHOWN];
        /// `name=url,…` of the first members.
        initial_cluster: String as Text, "initial-cluster" = String::new();
        /// `new` or `existing`.
        initial_cluster_state: String as Text, "initial-cluster-state" = "new".to_owned();
        /// Kept for its answers.
        initial_cluster_token: String as Text, "initial-cluster-token" = "pd-cluster".to_owned();
        /// Client URLs of a cluster to join.
        join: String as Text, "join" = String::new();
        /// Seconds of the leader's lease.
        lease: i64 as Int, "lease" = 5;
        /// The log.
        log: LogConfig as Nested, "log" = LogConfig::default();
        /// Deprecated.
        log_file: String as Text, "log-file" = String::new(), [OMIT];
        /// Deprecated.
        log_level: String as Text, "log-level" = String::new(), [OMIT];
        /// Forwarded timestamp streams at once; negative: no limit.
        max_concurrent_tso_proxy_streamings: i64 as Int, "max-concurrent-tso-proxy-streamings" = 5000;
        /// How long a forwarded timestamp stream may be silent.
        tso_proxy_recv_from_client_timeout: GoDuration as Span,
            "tso-proxy-recv-from-client-timeout" = GoDuration::from_secs(3600);
        /// Length of a timestamp window.
        tso_save_interval: GoDuration as Span, "tso-save-interval" = GoDuration::from_secs(5);
        /// How often the physical part of timestamps moves on.
        tso_update_physical_interval: GoDuration as Span,
            "tso-update-physical-interval" = GoDuration::from_millis(50);
        /// Deprecated.
        enable_local_tso: bool as Bool, "enable-local-tso" = false;
        /// Pushing of metrics.
        metric: MetricConfig as Nested, "metric" = MetricConfig::default();
        /// What the scheduler may do.
        schedule: ScheduleConfig as Nested, "schedule" = ScheduleConfig::default();
        /// How many replicas, and where.
        replication: ReplicationConfig as Nested, "replication" = ReplicationConfig::default();
        /// Behaviour of the server.
        pd_server: PdServerConfig as Nested, "pd-server" = PdServerConfig::default();
        /// The cluster version.
        cluster_version: ClusterVersion as Version, "cluster-version" = ClusterVersion::default();
        /// Labels of this member.
        labels: BTreeMap<String, String> as TextMap, "labels" = BTreeMap::new();
        /// Kept for its answers.
        quota_backend_bytes: u64 as ByteSize, "quota-backend-bytes" = 8 << 30;
        /// Kept for its answers.
        auto_compaction_mode: String as Text, "auto-compaction-mode" = "periodic".to_owned();
        /// Kept for its answers.
        auto_compaction_retention: String as Text, "auto-compaction-retention-v2" = "1h".to_owned();
        /// Kept for its answers; Berth's own are in [`BerthConfig`].
        tick_interval: GoDuration as Span, "tick-interval" = GoDuration::from_millis(500);
        /// Kept for its answers; Berth's own are in [`BerthConfig`].
        election_interval: GoDuration as Span, "election-interval" = GoDuration::from_secs(3);
        /// Kept for its answers: Berth always votes twice.
        enable_prevote: bool as Bool, "enable-prevote" = true;
        /// Largest request, bytes.
        max_request_bytes: u64 as super::codec::Uint64, "max-request-bytes" = 150 << 20;
        /// TLS and more.
        security: SecurityConfig as Nested, "security" = SecurityConfig::default();
        /// Label properties.
        label_property: Option<LabelProperty> as Properties, "label-property" = None;
        /// Kept for its answers.
        dashboard: DashboardConfig as Nested, "dashboard" = DashboardConfig::default();
        /// How replicas agree.
        replication_mode: ReplicationModeConfig as Nested, "replication-mode" = ReplicationModeConfig::default();
        /// Keyspaces.
        keyspace: KeyspaceConfig as Nested, "keyspace" = KeyspaceConfig::default();
        /// Kept for its answers.
        micro_service: MicroServiceConfig as Nested, "micro-service" = MicroServiceConfig::default();
        /// What clients' resource control is told.
        controller: ControllerConfig as Nested, "controller" = ControllerConfig::default();
        /// Kept for its answers.
        metering: Value as Opaque, "metering" = Value::Object(Map::new());
        /// Berth's own settings; never shown.
        berth: BerthConfig as Nested, "berth" = BerthConfig::default(), [HIDDEN];
    }
}

impl Config {
    /// `GET /config/default`: this configuration without any store, as it stands.
    pub fn shown_default(&self) -> Value {
        let mut shown = self.show();
        if let Some(schedule) = shown.get_mut("schedule") {
            *schedule = with_store_limits(self.schedule.show(), &BTreeMap::new());
        }
        Value::Object(shown)
    }

    /// `GET /config`: the member's own part, with the agreed values and the limits of the stores. `log_level` is the text that
    /// the level was last set to.
    pub fn shown(&self, agreed: &Dynamic, limits: &BTreeMap<StoreId, StoreLimits>, log_level: &str) -> Value {
        let mut shown = self.show();
        let agreed_parts = [
            ("schedule", schedule_json(&agreed.schedule, limits)),
            ("replication", Nested::show(&agreed.replication)),
            ("pd-server", Nested::show(&agreed.pd_server)),
            ("cluster-version", Version::show(&agreed.cluster_version)),
            ("label-property", Properties::show(&Some(agreed.label_property.clone()))),
            ("replication-mode", Nested::show(&agreed.replication_mode)),
            ("keyspace", Nested::show(&agreed.keyspace)),
            ("micro-service", Nested::show(&agreed.micro_service)),
            ("controller", Nested::show(&agreed.controller)),
        ];
        for (key, value) in agreed_parts {
            shown.insert(key.to_owned(), value);
        }
        if let Some(Value::Object(log)) = shown.get_mut("log") {
            log.insert("level".to_owned(), log_level.into());
        }
        Value::Object(shown)
    }
}
