//! Why a call on the simulated control plane is refused.
//!
//! Owns: the list of what can refuse, each in its own words. Must not know: what was asked.

use crate::{
    api::{ApiError, rows::RowError},
    config::update::ConfigError,
    meta::Refusal,
    scheduler::{admin::AdminError, placement::RuleError},
};

/// See the module's comment.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The state machine.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The way in.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The configuration.
    #[error("{}", .0.body())]
    Config(ConfigError),
    /// A row that cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Placement rules.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// An operator that a person asked for.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Text(String),
}

impl From<ConfigError> for CallError {
    fn from(error: ConfigError) -> Self {
        CallError::Config(error)
    }
}
