//! Refused changes, with the status and the body that PD answers.
//!
//! Owns: [`ConfigError`]. Must not know: HTTP beyond a status number.

use serde_json::{Value, json};

use crate::config::{codec::Bad, gojson};

/// Why a change of the configuration was refused.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// 400 with a plain text.
    #[error("{0}")]
    BadRequest(String),
    /// 500 with a plain text: PD answers so where a checked value is refused by the routes of one section.
    #[error("{0}")]
    Internal(String),
    /// 400 with an object `{code:"input",msg,data}`.
    #[error("{message}")]
    Input {
        /// The text.
        message: String,
        /// What Go's error holds.
        data: Value,
    },
    /// 500 with an object `{code:"internal",msg,data,stack}`; Berth's stack is empty, PD's are addresses of its code.
    #[error("{0}")]
    InternalObject(String),
}

impl ConfigError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            ConfigError::BadRequest(_) | ConfigError::Input { .. } => 400,
            ConfigError::Internal(_) | ConfigError::InternalObject(_) => 500,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Value {
        match self {
            ConfigError::BadRequest(text) | ConfigError::Internal(text) => text.as_str().into(),
            ConfigError::Input { message, data } => json!({ "code": "input", "msg": message, "data": data }),
            ConfigError::InternalObject(text) => json!({ "code": "internal", "msg": text, "data": {}, "stack": [] }),
        }
    }

    /// A body that is not JSON, as the routes of one section answer.
    pub(super) fn syntax(error: &gojson::SyntaxError) -> Self {
        ConfigError::Input { message: error.message.clone(), data: json!({ "Offset": error.offset }) }
    }

    /// A value of the wrong type, as the routes of one section answer; `None` when it was refused for another reason.
    pub(super) fn wrong_type(bad: &Bad, parsed: &gojson::Parsed) -> Option<Self> {
        let Bad::Type { value, structure, field, .. } = bad else { return None };
        let offset = parsed.offsets.get(field).copied().unwrap_or(0);
        let data = json!({
            "Value": value, "Type": {}, "Offset": offset, "Struct": structure, "Field": field,
        });
        Some(ConfigError::Input { message: bad.to_string(), data })
    }
}
