//! The form of a log line: quoting, escapes and the text of each kind of value.
//!
//! Owns: [`render`] and [`Value`]. Must not know: where lines go.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use super::Style;
use crate::{
    config::Redact,
    model::{OperatorId, PeerId, RegionId, StoreId, Wall, time::go_duration},
};

/// The value of a field.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// Text: quoted when it has to be.
    Text(Cow<'a, str>),
    /// Text with keys or values of users: as `security.redact-info-log` says.
    User(String),
    /// A number or a truth value, written as it is.
    Plain(String),
    /// A point of time: written bare although it holds blanks.
    Time(Wall, i32),
    /// No error: an empty pair of brackets, without the key.
    NoError,
}

impl<'a> Value<'a> {
    /// An error: its message.
    pub fn error(error: &dyn std::fmt::Display) -> Value<'a> {
        Value::Text(error.to_string().into())
    }
}

/// A text with keys or values of users, for [`Value::User`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserData(pub String);

impl From<UserData> for Value<'_> {
    fn from(data: UserData) -> Self {
        Value::User(data.0)
    }
}

/// What is shown of user data. A guillemet in it is doubled, so that the end can be told.
pub fn redacted(data: &str, redact: Redact) -> Cow<'_, str> {
    match redact {
        Redact::Off => data.into(),
        Redact::On => "?".into(),
        Redact::Marker => format!(
            "\u{2039}{}\u{203a}",
            data.replace('\u{2039}', "\u{2039}\u{2039}").replace('\u{203a}', "\u{203a}\u{203a}")
        )
        .into(),
    }
}

/// A value as JSON text: how PD logs structures, and texts that hold an operator (so that its quotes are doubled).
pub fn reflect<T: serde::Serialize + ?Sized>(value: &T) -> Value<'static> {
    Value::Text(serde_json::to_string(value).unwrap_or_default().into())
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<Duration> for Value<'_> {
    fn from(span: Duration) -> Self {
        Value::Text(go_duration(span).into())
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Value::Plain(match number {
            n if n.is_nan() => "NaN".to_owned(),
            n if n.is_infinite() => if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
            n => n.to_string(),
        })
    }
}

macro_rules! plain {
    ($($ty:ty),*) => {
        $(impl From<$ty> for Value<'_> {
            fn from(value: $ty) -> Self {
                Value::Plain(value.to_string())
            }
        })*
    };
}
plain!(bool, u8, u16, u32, u64, usize, i32, i64, StoreId, RegionId, PeerId, OperatorId);

/// What stands before the message.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// When.
    pub at: Wall,
    /// Seconds that local time is ahead of UTC.
    pub offset: i32,
    /// The word for the level.
    pub level: &'a str,
    /// Source file; only its base name is shown. Empty: unknown.
    pub file: &'a str,
    /// Line in it.
    pub line: u32,
}

/// A whole line with its newline.
pub fn render(head: &Head<'_>, style: Style, message: &str, fields: &[(&str, Value<'_>)]) -> String {
    if style.json {
        return render_json(head, style, message, fields);
    }
    let mut out = String::with_capacity(160);
    if !style.no_time {
        out.push('[');
        push_time(&mut out, head.at, head.offset);
        out.push_str("] ");
    }
    let _ = write!(out, "[{}] ", head.level);
    if !style.no_source {
        push_source(&mut out, head);
        out.push(' ');
    }
    out.push('[');
    push_text(&mut out, message);
    out.push(']');
    for (key, value) in fields {
        out.push_str(" [");
        if *value != Value::NoError {
            push_text(&mut out, key);
            out.push('=');
        }
        match value {
            Value::Text(text) => push_text(&mut out, text),
            Value::User(data) => push_text(&mut out, &redacted(data, style.redact)),
            Value::Plain(text) => out.push_str(text),
            Value::Time(at, offset) => push_time(&mut out, *at, *offset),
            Value::NoError => {}
        }
        out.push(']');
    }
    out.push('\n');
    out
}

fn render_json(head: &Head<'_>, style: Style, message: &str, fields: &[(&str, Value<'_>)]) -> String {
    let time = |at, offset| {
        let mut text = String::new();
        push_time(&mut text, at, offset);
        text
    };
    let mut map = serde_json::Map::new();
    map.insert("level".into(), head.level.into());
    if !style.no_time {
        map.insert("time".into(), time(head.at, head.offset).into());
    }
    if !style.no_source {
        map.insert("caller".into(), format!("{}:{}", base_name(head.file), head.line).into());
    }
    map.insert("message".into(), message.into());
    for (key, value) in fields {
        let value = match value {
            Value::Text(text) => text.as_ref().into(),
            Value::User(data) => redacted(data, style.redact).into(),
            Value::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            Value::Time(at, offset) => time(*at, *offset).into(),
            Value::NoError => serde_json::Value::Null,
        };
        map.insert((*key).to_owned(), value);
    }
    let mut out = serde_json::Value::Object(map).to_string();
    out.push('\n');
    out
}

/// The last part of a path.
fn base_name(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or(file)
}

fn push_source(out: &mut String, head: &Head<'_>) {
    out.push('[');
    if head.file.is_empty() {
        out.push_str("<unknown>");
    } else {
        let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        out.extend(base_name(head.file).chars().filter(kept));
        let _ = write!(out, ":{}", head.line);
    }
    out.push(']');
}

/// `2006/01/02 15:04:05.000 -07:00` in local time.
pub(super) fn push_time(out: &mut String, at: Wall, offset: i32) {
    let local = at.0.saturating_add(i64::from(offset) * 1_000_000_000);
    let date =
        time::OffsetDateTime::from_unix_timestamp_nanos(local.into()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let sign = if offset < 0 { '-' } else { '+' };
    let ahead = offset.unsigned_abs() / 60;
    let _ = write!(
        out,
        "{:04}/{:02}/{:02} {:02}:{:02}:{:02}.{:03} {sign}{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second(),
        date.millisecond(),
        ahead / 60,
        ahead % 60,
    );
}

/// A text, in quotes when one of its characters asks for them.
fn push_text(out: &mut String, text: &str) {
    let needs_quotes = |b: u8| b <= 0x20 || matches!(b, b'\\' | b'"' | b'[' | b']' | b'=');
    if !text.bytes().any(needs_quotes) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out.push('"');
}
