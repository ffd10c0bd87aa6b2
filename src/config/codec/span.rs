//! Spans of time, read and shown as Go does.
//!
//! Owns: [`GoDuration`]. Must not know: which keys hold spans.

use std::{fmt, time::Duration};

use serde_json::Value;

use super::{Bad, Codec, Place, TomlBad, toml_mismatch};
use crate::{config::gojson, model::time::go_duration};

/// A span of time as Go counts it: signed nanoseconds. PD takes zero and negative spans online, so std's type is too narrow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration(pub i64);

impl GoDuration {
    /// From whole milliseconds.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms * 1_000_000)
    }

    /// From whole seconds.
    pub const fn from_secs(s: i64) -> Self {
        Self(s * 1_000_000_000)
    }

    /// The span; a negative one is zero.
    pub fn get(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for GoDuration {
    fn from(d: Duration) -> Self {
        Self(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl From<GoDuration> for Duration {
    fn from(d: GoDuration) -> Self {
        d.get()
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        f.write_str(&go_duration(Duration::from_nanos(self.0.unsigned_abs())))
    }
}

impl fmt::Debug for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for GoDuration {
    type Err = String;

    /// Go's `time.ParseDuration`, with its error texts.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("time: invalid duration {}", gojson::quote(text));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let whole = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let after = &rest[whole..];
            let fraction = after.strip_prefix('.').map_or("", |f| {
                let n = f.len() - f.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                &f[..n]
            });
            if whole == 0 && fraction.is_empty() {
                return Err(invalid());
            }
            let number_len = whole + if after.starts_with('.') { 1 + fraction.len() } else { 0 };
            let tail = &rest[number_len..];
            let unit_len = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
            let unit = &tail[..unit_len];
            let scale: i128 = match unit {
                "" => return Err(format!("time: missing unit in duration {}", gojson::quote(text))),
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => {
                    let (unit, text) = (gojson::quote(unit), gojson::quote(text));
                    return Err(format!("time: unknown unit {unit} in duration {text}"));
                }
            };
            let number = if whole == 0 { 0 } else { rest[..whole].parse::<i64>().map_err(|_| invalid())? };
            total += i128::from(number) * scale;
            // More than 18 digits of a fraction are below a nanosecond of any unit.
            let digits = &fraction[..fraction.len().min(18)];
            if let (Ok(n), Ok(len)) = (digits.parse::<i128>(), u32::try_from(digits.len())) {
                total += n * scale / 10i128.pow(len);
            }
            rest = &tail[unit_len..];
            if total > i128::from(i64::MAX) {
                return Err(invalid());
            }
        }
        i64::try_from(if negative { -total } else { total }).map(Self).map_err(|_| invalid())
    }
}

/// Spans of time, as Go duration texts.
pub enum Span {}

impl Codec<GoDuration> for Span {
    fn show(value: &GoDuration) -> Value {
        value.to_string().into()
    }

    fn read_json(slot: &mut GoDuration, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        let text = value.as_str().ok_or_else(|| Bad::Text("invalid syntax".into()))?;
        *slot = text.parse().map_err(Bad::Text)?;
        Ok(())
    }

    fn read_toml(slot: &mut GoDuration, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = match value {
            toml::Value::String(text) => text.parse()?,
            other => return Err(toml_mismatch(other, "string").into()),
        };
        Ok(())
    }

    fn is_zero(value: &GoDuration) -> bool {
        value.0 <= 0
    }
}
