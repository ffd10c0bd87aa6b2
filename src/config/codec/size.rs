//! Sizes in bytes.
//!
//! Owns: how they are read and shown. Must not know: which keys hold sizes.

use serde_json::Value;

use super::{Bad, Codec, Place, TomlBad, toml_mismatch};

/// Sizes in bytes, as texts such as `8GiB`.
pub enum ByteSize {}

/// Reads a size: a number and one of B, K(i)B, M(i)B, G(i)B, T(i)B, P(i)B in any case; all count by 1024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.len() - lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let number: f64 = lower[..digits].parse().map_err(|_| invalid())?;
    let power = match lower[digits..].trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let bytes = number * 1024f64.powi(power);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked: finite, below 2^63
    if bytes.is_finite() && (0.0..9.2e18).contains(&bytes) { Ok(bytes as u64) } else { Err(invalid()) }
}

/// Four significant digits and a unit by 1024, as PD shows sizes.
pub(super) fn show_size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // shown with four digits
    let mut number = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    while number >= 1024.0 {
        number /= 1024.0;
        unit = units.next().unwrap_or(unit);
    }
    let places = match number {
        n if n >= 1000.0 => 0,
        n if n >= 100.0 => 1,
        n if n >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

impl Codec<u64> for ByteSize {
    fn show(value: &u64) -> Value {
        show_size(*value).into()
    }

    fn read_json(slot: &mut u64, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        let text = value.as_str().ok_or_else(|| Bad::Text("invalid syntax".into()))?;
        *slot = parse_size(text).map_err(Bad::Text)?;
        Ok(())
    }

    fn read_toml(slot: &mut u64, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = match value {
            toml::Value::String(text) => parse_size(text)?,
            toml::Value::Integer(v) => u64::try_from(*v).map_err(|_| format!("invalid size: '{v}'"))?,
            other => return Err(toml_mismatch(other, "string").into()),
        };
        Ok(())
    }

    fn is_zero(value: &u64) -> bool {
        *value == 0
    }
}
