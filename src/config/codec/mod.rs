//! How one configuration value is read and shown: JSON as Go's `encoding/json` reads it (with its error texts), TOML as the
//! file has it, and the JSON that PD's answers hold.
//!
//! Owns: the [`Codec`]s and the Go value types behind them. Must not know: which keys exist, or where a value comes from.

mod lists;
mod size;
mod span;

use std::fmt;

use serde_json::Value;

pub use self::{
    lists::{CommaList, LabelProperty, MaybeTextMap, Opaque, Properties, Rates, TextList, TextMap},
    size::ByteSize,
    span::{GoDuration, Span},
};
use super::gojson;

/// Why a value was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Bad {
    /// The value has the wrong JSON type: Go's `UnmarshalTypeError`. The only failure that PD answers with an object.
    #[error("json: cannot unmarshal {value} into Go {} of type {go_type}", TypeTarget(structure, field))]
    Type {
        /// `string`, `number -1`, `bool`, `array`, `object`.
        value: String,
        /// The Go type that was wanted.
        go_type: String,
        /// Go name of the structure that holds the field; empty at the top.
        structure: String,
        /// Path of the field, joined by dots.
        field: String,
    },
    /// Any other refusal of a value; the text is PD's.
    #[error("{0}")]
    Text(String),
}

/// `struct field A.b` or, at the top, `value`.
struct TypeTarget<'a>(&'a str, &'a str);

impl fmt::Display for TypeTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("value") } else { write!(f, "struct field {}.{}", self.0, self.1) }
    }
}

/// Where a value stands: the innermost Go structure and the path of keys from the value that is decoded as a whole.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Go name of the structure.
    pub structure: &'a str,
    /// Path of the field, joined by dots.
    pub field: &'a str,
}

impl Place<'_> {
    /// The type error for `value` here.
    pub fn wrong(self, value: &str, go_type: &str) -> Bad {
        Bad::Type {
            value: value.into(),
            go_type: go_type.into(),
            structure: self.structure.into(),
            field: self.field.into(),
        }
    }
}

/// A value of the file that was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("(last key {path:?}): {message}")]
pub struct TomlBad {
    /// Path of the key, joined by dots; empty while it is on its way up to the section that knows it.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl From<String> for TomlBad {
    fn from(message: String) -> Self {
        Self { path: String::new(), message }
    }
}

/// Go's word for the type of a JSON value.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The text for a TOML value of the wrong type.
pub fn toml_mismatch(value: &toml::Value, wanted: &str) -> String {
    format!("incompatible types: TOML value has type {}; destination has type {wanted}", value.type_str())
}

/// How a field of type `T` is read and shown.
pub trait Codec<T> {
    /// The JSON that PD shows.
    fn show(value: &T) -> Value;
    /// Reads JSON as Go does. `null` changes nothing, except where PD's own type refuses it.
    fn read_json(slot: &mut T, value: &Value, at: Place<'_>) -> Result<(), Bad>;
    /// Reads a TOML value. Paths of unknown keys go to `unknown`; an error without path gets that of the field.
    fn read_toml(slot: &mut T, value: &toml::Value, path: &str, unknown: &mut Vec<String>) -> Result<(), TomlBad>;
    /// Whether the value counts as "not given": Go's zero value, and durations below zero.
    fn is_zero(value: &T) -> bool;
    /// Path of `key` below this field, for look-ups without a section name.
    fn find(_key: &str) -> Option<String> {
        None
    }
}

/// Unsigned 64 bit numbers.
pub enum Uint64 {}

impl Codec<u64> for Uint64 {
    fn show(value: &u64) -> Value {
        (*value).into()
    }

    fn read_json(slot: &mut u64, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => {}
            Value::Number(n) => match n.as_u64() {
                Some(v) => *slot = v,
                None => return Err(at.wrong(&format!("number {}", gojson::number(n)), "uint64")),
            },
            other => return Err(at.wrong(json_kind(other), "uint64")),
        }
        Ok(())
    }

    fn read_toml(slot: &mut u64, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        let v = value.as_integer().ok_or_else(|| toml_mismatch(value, "integer"))?;
        *slot = u64::try_from(v).map_err(|_| format!("{v} is out of range for uint64"))?;
        Ok(())
    }

    fn is_zero(value: &u64) -> bool {
        *value == 0
    }
}

/// Signed numbers; `GO` names the Go type (`int` or `int64`).
pub enum Int {}
/// Signed 64 bit numbers.
pub enum Int64 {}

macro_rules! signed {
    ($codec:ty, $go:literal) => {
        impl Codec<i64> for $codec {
            fn show(value: &i64) -> Value {
                (*value).into()
            }

            fn read_json(slot: &mut i64, value: &Value, at: Place<'_>) -> Result<(), Bad> {
                match value {
                    Value::Null => {}
                    Value::Number(n) => match n.as_i64() {
                        Some(v) => *slot = v,
                        None => return Err(at.wrong(&format!("number {}", gojson::number(n)), $go)),
                    },
                    other => return Err(at.wrong(json_kind(other), $go)),
                }
                Ok(())
            }

            fn read_toml(slot: &mut i64, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
                *slot = value.as_integer().ok_or_else(|| toml_mismatch(value, "integer"))?;
                Ok(())
            }

            fn is_zero(value: &i64) -> bool {
                *value == 0
            }
        }
    };
}
signed!(Int, "int");
signed!(Int64, "int64");

/// 64 bit floats.
pub enum Float64 {}

impl Codec<f64> for Float64 {
    fn show(value: &f64) -> Value {
        gojson::float(*value)
    }

    fn read_json(slot: &mut f64, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => {}
            Value::Number(n) => *slot = n.as_f64().unwrap_or(f64::INFINITY),
            other => return Err(at.wrong(json_kind(other), "float64")),
        }
        Ok(())
    }

    fn read_toml(slot: &mut f64, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = match value {
            toml::Value::Float(v) => *v,
            #[allow(clippy::cast_precision_loss)] // as Go's decoder
            toml::Value::Integer(v) => *v as f64,
            other => return Err(toml_mismatch(other, "float").into()),
        };
        Ok(())
    }

    fn is_zero(value: &f64) -> bool {
        *value == 0.0
    }
}

/// Bare booleans.
pub enum Bool {}
/// Booleans that JSON holds as the texts `"true"` and `"false"` (and TOML bare).
pub enum StringBool {}

fn toml_bool(slot: &mut bool, value: &toml::Value) -> Result<(), String> {
    *slot = value.as_bool().ok_or_else(|| toml_mismatch(value, "bool"))?;
    Ok(())
}

impl Codec<bool> for Bool {
    fn show(value: &bool) -> Value {
        (*value).into()
    }

    fn read_json(slot: &mut bool, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => {}
            Value::Bool(v) => *slot = *v,
            other => return Err(at.wrong(json_kind(other), "bool")),
        }
        Ok(())
    }

    fn read_toml(slot: &mut bool, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        toml_bool(slot, value)?;
        Ok(())
    }

    fn is_zero(value: &bool) -> bool {
        !*value
    }
}

impl Codec<bool> for StringBool {
    fn show(value: &bool) -> Value {
        if *value { "true".into() } else { "false".into() }
    }

    fn read_json(slot: &mut bool, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        const TAG: &str = "json: invalid use of ,string struct tag, trying to unmarshal";
        match value {
            Value::Null => {}
            Value::String(text) if text == "true" => *slot = true,
            Value::String(text) if text == "false" => *slot = false,
            Value::String(text) => return Err(Bad::Text(format!("{TAG} {} into bool", gojson::quote(text)))),
            _ => return Err(Bad::Text(format!("{TAG} unquoted value into bool"))),
        }
        Ok(())
    }

    fn read_toml(slot: &mut bool, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        toml_bool(slot, value)?;
        Ok(())
    }

    fn is_zero(value: &bool) -> bool {
        !*value
    }
}

/// Texts.
pub enum Text {}

impl Codec<String> for Text {
    fn show(value: &String) -> Value {
        value.as_str().into()
    }

    fn read_json(slot: &mut String, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => {}
            Value::String(v) => slot.clone_from(v),
            other => return Err(at.wrong(json_kind(other), "string")),
        }
        Ok(())
    }

    fn read_toml(slot: &mut String, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = value.as_str().ok_or_else(|| toml_mismatch(value, "string"))?.to_owned();
        Ok(())
    }

    fn is_zero(value: &String) -> bool {
        value.is_empty()
    }
}

#[cfg(test)]
mod tests;
