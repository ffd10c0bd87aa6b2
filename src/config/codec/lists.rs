//! Lists, maps and small objects as values of one key.
//!
//! Owns: their codecs. Must not know: which keys hold them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Bad, Codec, Float64, Place, Text, TomlBad, json_kind, toml_mismatch};
use crate::{
    config::gojson,
    model::{StoreLabel, StoreLimits},
};

/// Lists of texts that JSON holds as one text, joined by commas (and TOML as an array).
pub enum CommaList {}
/// Lists of texts that are `null` when empty.
pub enum TextList {}

fn toml_texts(value: &toml::Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or_else(|| toml_mismatch(value, "slice"))?;
    items.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(|| toml_mismatch(v, "string"))).collect()
}

impl Codec<Vec<String>> for CommaList {
    fn show(value: &Vec<String>) -> Value {
        value.join(",").into()
    }

    fn read_json(slot: &mut Vec<String>, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        let text = value.as_str().ok_or_else(|| Bad::Text("invalid syntax".into()))?;
        *slot = if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() };
        Ok(())
    }

    fn read_toml(slot: &mut Vec<String>, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = toml_texts(value)?;
        Ok(())
    }

    fn is_zero(value: &Vec<String>) -> bool {
        value.is_empty()
    }
}

impl Codec<Option<Vec<String>>> for TextList {
    fn show(value: &Option<Vec<String>>) -> Value {
        value.as_ref().map_or(Value::Null, |items| items.iter().map(String::as_str).collect())
    }

    fn read_json(slot: &mut Option<Vec<String>>, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => *slot = None,
            Value::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for item in items {
                    let mut text = String::new();
                    Text::read_json(&mut text, item, at)?;
                    out.push(text);
                }
                *slot = Some(out);
            }
            other => return Err(at.wrong(json_kind(other), "[]string")),
        }
        Ok(())
    }

    fn read_toml(
        slot: &mut Option<Vec<String>>,
        value: &toml::Value,
        _: &str,
        _: &mut Vec<String>,
    ) -> Result<(), TomlBad> {
        *slot = Some(toml_texts(value)?);
        Ok(())
    }

    fn is_zero(value: &Option<Vec<String>>) -> bool {
        value.is_none()
    }
}

/// Maps of text to text.
pub enum TextMap {}
/// Maps of text to text that are `null` when never set.
pub enum MaybeTextMap {}

fn json_text_map(value: &Map<String, Value>, at: Place<'_>) -> Result<BTreeMap<String, String>, Bad> {
    let mut out = BTreeMap::new();
    for (key, value) in value {
        let mut text = String::new();
        Text::read_json(&mut text, value, at)?;
        out.insert(key.clone(), text);
    }
    Ok(out)
}

fn toml_text_map(value: &toml::Value) -> Result<BTreeMap<String, String>, String> {
    let table = value.as_table().ok_or_else(|| toml_mismatch(value, "map"))?;
    let pair = |(key, value): (&String, &toml::Value)| {
        let text = value.as_str().ok_or_else(|| toml_mismatch(value, "string"))?;
        Ok((key.clone(), text.to_owned()))
    };
    table.iter().map(pair).collect()
}

fn show_text_map(map: &BTreeMap<String, String>) -> Value {
    map.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect::<Map<_, _>>().into()
}

impl Codec<BTreeMap<String, String>> for TextMap {
    fn show(value: &BTreeMap<String, String>) -> Value {
        show_text_map(value)
    }

    fn read_json(slot: &mut BTreeMap<String, String>, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => {}
            // Go keeps the entries that the new map does not name.
            Value::Object(map) => slot.extend(json_text_map(map, at)?),
            other => return Err(at.wrong(json_kind(other), "map[string]string")),
        }
        Ok(())
    }

    fn read_toml(
        slot: &mut BTreeMap<String, String>,
        value: &toml::Value,
        _: &str,
        _: &mut Vec<String>,
    ) -> Result<(), TomlBad> {
        *slot = toml_text_map(value)?;
        Ok(())
    }

    fn is_zero(value: &BTreeMap<String, String>) -> bool {
        value.is_empty()
    }
}

impl Codec<Option<BTreeMap<String, String>>> for MaybeTextMap {
    fn show(value: &Option<BTreeMap<String, String>>) -> Value {
        value.as_ref().map_or(Value::Null, show_text_map)
    }

    fn read_json(slot: &mut Option<BTreeMap<String, String>>, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => *slot = None,
            Value::Object(map) => slot.get_or_insert_default().extend(json_text_map(map, at)?),
            other => return Err(at.wrong(json_kind(other), "map[string]string")),
        }
        Ok(())
    }

    fn read_toml(
        slot: &mut Option<BTreeMap<String, String>>,
        value: &toml::Value,
        _: &str,
        _: &mut Vec<String>,
    ) -> Result<(), TomlBad> {
        *slot = Some(toml_text_map(value)?);
        Ok(())
    }

    fn is_zero(value: &Option<BTreeMap<String, String>>) -> bool {
        value.is_none()
    }
}

/// Rates of a store, `{"add-peer":15,"remove-peer":15}`. A half given object leaves the other rate as it is.
pub enum Rates {}

impl Rates {
    const STRUCTURE: &'static str = "StoreLimitConfig";
}

impl Codec<StoreLimits> for Rates {
    fn show(value: &StoreLimits) -> Value {
        serde_json::json!({
            "add-peer": gojson::float(value.add_peer),
            "remove-peer": gojson::float(value.remove_peer),
        })
    }

    fn read_json(slot: &mut StoreLimits, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        let map = match value {
            Value::Null => return Ok(()),
            Value::Object(map) => map,
            other => return Err(at.wrong(json_kind(other), "config.StoreLimitConfig")),
        };
        for (key, value) in map {
            let field = format!("{}.{key}", at.field);
            let inner = Place { structure: Self::STRUCTURE, field: &field };
            match key.as_str() {
                "add-peer" => Float64::read_json(&mut slot.add_peer, value, inner)?,
                "remove-peer" => Float64::read_json(&mut slot.remove_peer, value, inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_toml(
        slot: &mut StoreLimits,
        value: &toml::Value,
        path: &str,
        unknown: &mut Vec<String>,
    ) -> Result<(), TomlBad> {
        let table = value.as_table().ok_or_else(|| toml_mismatch(value, "map"))?;
        for (key, value) in table {
            match key.as_str() {
                "add-peer" => Float64::read_toml(&mut slot.add_peer, value, path, unknown)?,
                "remove-peer" => Float64::read_toml(&mut slot.remove_peer, value, path, unknown)?,
                _ => unknown.push(format!("{path}.{key}")),
            }
        }
        Ok(())
    }

    fn is_zero(value: &StoreLimits) -> bool {
        value.add_peer == 0.0 && value.remove_peer == 0.0
    }

    fn find(key: &str) -> Option<String> {
        matches!(key, "add-peer" | "remove-peer").then(|| key.to_owned())
    }
}

/// Label properties: a property with the labels of the stores that have it.
pub type LabelProperty = BTreeMap<String, Vec<StoreLabel>>;

/// The JSON of [`LabelProperty`]; `null` when never set.
pub enum Properties {}

impl Codec<Option<LabelProperty>> for Properties {
    fn show(value: &Option<LabelProperty>) -> Value {
        value.as_ref().map_or(Value::Null, |map| serde_json::to_value(map).unwrap_or(Value::Null))
    }

    fn read_json(slot: &mut Option<LabelProperty>, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        if !value.is_null() {
            let wrong = |_| at.wrong(json_kind(value), "config.LabelPropertyConfig");
            *slot = Some(serde_json::from_value(value.clone()).map_err(wrong)?);
        }
        Ok(())
    }

    fn read_toml(
        slot: &mut Option<LabelProperty>,
        value: &toml::Value,
        _: &str,
        _: &mut Vec<String>,
    ) -> Result<(), TomlBad> {
        *slot = Some(value.clone().try_into().map_err(|e: toml::de::Error| e.message().to_owned())?);
        Ok(())
    }

    fn is_zero(value: &Option<LabelProperty>) -> bool {
        value.is_none()
    }
}

/// Anything that is kept but not looked into: shown as it was given.
pub enum Opaque {}

impl Codec<Value> for Opaque {
    fn show(value: &Value) -> Value {
        value.clone()
    }

    fn read_json(slot: &mut Value, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        slot.clone_from(value);
        Ok(())
    }

    fn read_toml(slot: &mut Value, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = serde_json::to_value(value).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn is_zero(value: &Value) -> bool {
        value.is_null()
    }
}
