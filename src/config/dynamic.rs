//! The part of the configuration that members agree on and can change online.
//!
//! Owns: [`Dynamic`], its text in the agreed state, and the place it is published from. Must not know: how it is changed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::{
    codec::LabelProperty,
    schedule::ScheduleConfig,
    sections::{
        ControllerConfig, KeyspaceConfig, MicroServiceConfig, PdServerConfig, ReplicationConfig, ReplicationModeConfig,
    },
    tree::Config,
};
use crate::model::ClusterVersion;

/// What is agreed. Texts of a newer version may hold more keys, of an older one fewer: both are read.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Dynamic {
    /// What the scheduler may do.
    pub schedule: ScheduleConfig,
    /// How many replicas, and where.
    pub replication: ReplicationConfig,
    /// Behaviour of the server.
    pub pd_server: PdServerConfig,
    /// How replicas agree.
    pub replication_mode: ReplicationModeConfig,
    /// Label properties.
    pub label_property: LabelProperty,
    /// Keyspaces.
    pub keyspace: KeyspaceConfig,
    /// Kept for PD's answers.
    pub micro_service: MicroServiceConfig,
    /// What clients' resource control is told.
    pub controller: ControllerConfig,
    /// The cluster version: what every store can do.
    pub cluster_version: ClusterVersion,
}

impl Dynamic {
    /// What a fresh cluster agrees on: the file's values.
    pub fn from_config(config: &Config) -> Self {
        Self {
            schedule: config.schedule.clone(),
            replication: config.replication.clone(),
            pd_server: config.pd_server.clone(),
            replication_mode: config.replication_mode.clone(),
            label_property: config.label_property.clone().unwrap_or_default(),
            keyspace: config.keyspace.clone(),
            micro_service: config.micro_service.clone(),
            controller: config.controller.clone(),
            cluster_version: config.cluster_version.clone(),
        }
    }

    /// The text that is kept.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads a kept text.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// The agreed configuration as everyone reads it: a load is one atomic operation, and what was loaded does not change.
#[derive(Debug, Default)]
pub struct Shared(ArcSwap<Dynamic>);

impl Shared {
    /// Publishes the first value.
    pub fn new(first: Dynamic) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The present value.
    pub fn load(&self) -> Arc<Dynamic> {
        self.0.load_full()
    }

    /// Publishes the next value.
    pub fn store(&self, next: Dynamic) {
        self.0.store(Arc::new(next));
    }
}
