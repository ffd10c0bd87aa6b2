//! Answers ([`Reply`]) and how they become bytes: PD's content types, its two JSON layouts, Go's way with floats and markup.
//!
//! Owns: status, headers and body of an answer. Must not know: what is answered.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::region_json;
use crate::{config::gojson::float_text, meta::BackupParts, model::Region};

/// `Access-Control-*` headers that every answer carries.
const CORS: [(&str, &str); 3] = [
    ("access-control-allow-headers", "accept, content-type, authorization"),
    ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("access-control-allow-origin", "*"),
];

/// The body of an answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Content {
    /// As it is.
    Bytes(Vec<u8>),
    /// A list of regions, rendered while it is sent.
    Regions(Arc<[Arc<Region>]>),
    /// The agreed state, written while it is sent: one part of it is in memory at a time.
    Backup(Box<BackupParts>),
}

/// One answer.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::api) struct Reply {
    /// Status code.
    pub(super) status: StatusCode,
    /// `Content-Type`; `None`: no such header (PD sends none with an empty body).
    pub(super) content_type: Option<&'static str>,
    /// `Tidb-Error-Code`.
    pub(super) error_code: Option<&'static str>,
    /// `X-Content-Type-Options: nosniff`, which Go's own error answers carry.
    pub(super) nosniff: bool,
    /// `Location`.
    pub(super) location: Option<String>,
    /// This member does not lead and has done nothing: the next leader can be asked the same.
    pub(super) not_leader: bool,
    /// The body.
    pub(super) body: Content,
}

/// Content type of v1's JSON.
pub(super) const JSON: &str = "application/json; charset=UTF-8";
/// Content type of v2's JSON.
const JSON_V2: &str = "application/json; charset=utf-8";
/// Content type of regions, and of what is nothing but bytes.
const OCTETS: &str = "application/octet-stream";
/// Content type of v1's plain texts.
const TEXT: &str = "text/plain; charset=UTF-8";
/// Content type of Go's own plain texts, and of v2's.
const GO_TEXT: &str = "text/plain; charset=utf-8";
/// Content type of the text format of metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Reply {
    fn new(status: StatusCode, content_type: Option<&'static str>, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            error_code: None,
            nosniff: false,
            location: None,
            not_leader: false,
            body: Content::Bytes(body),
        }
    }

    /// v1's JSON: indented by two blanks, a newline at the end.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = to_json(value, Indent::Two);
        body.push(b'\n');
        Self::new(status, Some(JSON), body)
    }

    /// The same with status 200.
    pub(super) fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// Regions: JSON in one line under a content type that hides it.
    pub(super) fn regions(value: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, Some(OCTETS), to_json(value, Indent::None))
    }

    /// The agreed state as a file.
    pub(super) fn backup(parts: BackupParts) -> Self {
        let body = Content::Backup(Box::new(parts));
        Self { body, ..Self::new(StatusCode::OK, Some(OCTETS), vec![]) }
    }

    /// v2's JSON: indented by four blanks, no newline at the end.
    pub(super) fn v2(status: StatusCode, value: &impl Serialize) -> Self {
        Self::new(status, Some(JSON_V2), to_json(value, Indent::Four))
    }

    /// The JSON answer of another member.
    pub(in crate::api) fn passed(status: StatusCode, body: Vec<u8>) -> Self {
        Self::new(status, Some(JSON), body)
    }

    /// v1's plain text.
    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, Some(TEXT), text.into().into_bytes())
    }

    /// A plain text of v2 or of Go's own handlers.
    pub(super) fn go_text(text: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, Some(GO_TEXT), text.into().into_bytes())
    }

    /// An answer of Go's `http.Error`: a newline at the end, and nobody may guess the type.
    pub(super) fn go_error(status: StatusCode, text: &str) -> Self {
        Self { nosniff: true, ..Self::new(status, Some(GO_TEXT), format!("{text}\n").into_bytes()) }
    }

    /// No body and no content type.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self::new(status, None, Vec::new())
    }

    /// Text exposition of metrics.
    pub(super) fn metrics(text: String) -> Self {
        Self::new(StatusCode::OK, Some(METRICS), text.into_bytes())
    }

    /// An unknown path of v2.
    pub(super) fn not_found_v2() -> Self {
        Self::new(StatusCode::NOT_FOUND, Some("text/plain"), b"404 page not found".to_vec())
    }

    /// Sends a client to the clean form of its path.
    pub(super) fn redirect(to: String, with_body: bool) -> Self {
        let escaped = html_escape(&to);
        let body = if with_body { format!("<a href=\"{escaped}\">Temporary Redirect</a>.\n\n") } else { String::new() };
        Self {
            location: Some(to),
            ..Self::new(
                StatusCode::TEMPORARY_REDIRECT,
                with_body.then_some("text/html; charset=utf-8"),
                body.into_bytes(),
            )
        }
    }

    /// As an HTTP response, with the headers that every answer carries.
    pub(super) fn into_response(self) -> Response<Body> {
        let body = match self.body {
            Content::Bytes(bytes) => Body::from(bytes),
            Content::Regions(regions) => region_json::body(&regions),
            Content::Backup(parts) => Body::from_stream(futures::stream::iter(parts.map(Ok::<_, Infallible>))),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in CORS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(code) = self.error_code {
            headers.insert("tidb-error-code", HeaderValue::from_static(code));
        }
        if self.nosniff {
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        if let Some(location) = self.location.and_then(|l| HeaderValue::from_str(&l).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}

/// Go's `html.EscapeString`.
fn html_escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

#[derive(Clone, Copy)]
enum Indent {
    None,
    Two,
    Four,
}

/// JSON in one line.
pub(super) fn compact(value: &impl Serialize) -> String {
    String::from_utf8(to_json(value, Indent::None)).unwrap_or_default()
}

/// JSON as Go writes it.
fn to_json(value: &impl Serialize, indent: Indent) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let written = match indent {
        Indent::None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoJson(CompactFormatter)))
        }
        Indent::Two => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out,
            GoJson(PrettyFormatter::with_indent(b"  ")),
        )),
        Indent::Four => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out,
            GoJson(PrettyFormatter::with_indent(b"    ")),
        )),
    };
    // Only a map with keys that are no texts can fail, and no answer holds one.
    debug_assert!(written.is_ok());
    out
}

/// Any layout of serde_json, with Go's floats and with the characters escaped that mean something in HTML.
struct GoJson<F>(F);

impl<F: Formatter> Formatter for GoJson<F> {
    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        writer.write_all(float_text(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            let special = chars.next().map_or(0, u32::from);
            write!(writer, "\\u{special:04x}")?;
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.begin_array(w)
    }

    fn end_array<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.end_array(w)
    }

    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        self.0.begin_array_value(w, first)
    }

    fn end_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.end_array_value(w)
    }

    fn begin_object<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.begin_object(w)
    }

    fn end_object<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.end_object(w)
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        self.0.begin_object_key(w, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.begin_object_value(w)
    }

    fn end_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        self.0.end_object_value(w)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    fn text(value: &impl Serialize, indent: Indent) -> String {
        String::from_utf8(to_json(value, indent)).unwrap()
    }

    #[test]
    fn floats_and_markup_are_written_as_go_writes_them() {
        assert_eq!(text(&f64::MAX, Indent::None), "1.7976931348623157e+308");
        assert_eq!(text(&100_000_000.0_f64, Indent::None), "100000000");
        assert_eq!(text(&0.01506, Indent::None), "0.01506");
        assert_eq!(text(&"a<b>&c\u{2028}", Indent::None), r#""a\u003cb\u003e\u0026c\u2028""#);
        assert_eq!(text(&"say \"hi\"\n", Indent::None), r#""say \"hi\"\n""#);
    }

    #[test]
    fn layouts_are_those_of_pd() {
        let value = json!({"a": [1, {"b": null}], "c": [], "d": {}});
        assert_eq!(text(&value, Indent::None), r#"{"a":[1,{"b":null}],"c":[],"d":{}}"#);
        assert_eq!(
            text(&value, Indent::Two),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": null\n    }\n  ],\n  \"c\": [],\n  \"d\": {}\n}"
        );
        let reply = Reply::ok(&"x");
        assert_eq!(reply.body, Content::Bytes(b"\"x\"\n".to_vec()));
        let reply = Reply::v2(StatusCode::OK, &json!({"a": true}));
        assert_eq!(reply.body, Content::Bytes(b"{\n    \"a\": true\n}".to_vec()));
    }
}
