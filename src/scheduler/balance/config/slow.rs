//! Configurations of the schedulers that take leaders off stores by what these report.

use serde::{Deserialize, Serialize};

use super::leaders::EVICT_BATCH;

/// Seconds for which a slow store must have recovered (PD's number).
const RECOVERY_SECONDS: u64 = 600;

/// `evict-slow-store`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SlowStore {
    /// Seconds for which a slow store must have recovered before leaders come back.
    pub recovery_duration: u64,
    /// Operators a round.
    pub batch: usize,
}

impl Default for SlowStore {
    fn default() -> Self {
        Self { recovery_duration: RECOVERY_SECONDS, batch: EVICT_BATCH }
    }
}

/// `evict-stopping-store`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct StoppingStore {
    /// Operators a round.
    pub batch: usize,
}

impl Default for StoppingStore {
    fn default() -> Self {
        Self { batch: EVICT_BATCH }
    }
}
