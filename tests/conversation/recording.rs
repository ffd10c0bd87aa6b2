//! A recorded conversation: its messages in order, and the HTTP calls that the log beside it tells of.

use std::{io::Read, path::Path, time::Duration};

use base64::Engine;
use berth::model::Wall;
use regex::Regex;
use time::{PrimitiveDateTime, macros::format_description};

/// One recorded message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// Since the start of the recording.
    pub(crate) at: Duration,
    /// Which gRPC call it belongs to.
    pub(crate) stream: u64,
    /// `/package.Service/Method`
    pub(crate) method: String,
    /// Whether a node sent it (else PD did).
    pub(crate) to_server: bool,
    /// The protobuf message.
    pub(crate) body: Vec<u8>,
}

/// One HTTP call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Call {
    /// Since the start of the recording.
    pub(crate) at: Duration,
    /// `GET`, `POST`, …
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// JSON, or nothing.
    pub(crate) body: String,
}

/// Reads a file, unpacked if its name ends with `.gz`.
pub(crate) fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.extension().is_none_or(|e| e != "gz") {
        return String::from_utf8(bytes).unwrap();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    text
}

/// The messages of a recording, in order.
pub(crate) fn lines(folder: &Path) -> Vec<Line> {
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let body = line["body"].as_str().unwrap();
        Line {
            at: Duration::from_micros(line["t_us"].as_u64().unwrap()),
            stream: line["stream"].as_u64().unwrap(),
            method: line["method"].as_str().unwrap().to_owned(),
            to_server: line["dir"] == "to-server",
            body: base64::engine::general_purpose::STANDARD.decode(body).unwrap(),
        }
    };
    text(&folder.join("talk.jsonl.gz")).lines().map(line).collect()
}

/// The HTTP calls in PD's log: it writes an audit line for each. `began` is the wall time of the recording's start.
pub(crate) fn calls(log: &str, began: Wall) -> Vec<Call> {
    let form = r#"^\[([^\]]+) \+00:00\].*\["audit log"\].* Method:HTTP/1.1/(\w+):([^,]+), .* BodyParam:(.*)\}"\]$"#;
    let audit = Regex::new(form).unwrap();
    let day_time = format_description!("[year]/[month]/[day] [hour]:[minute]:[second].[subsecond digits:3]");
    let call = |line: &str| {
        let found = audit.captures(line)?;
        let at = PrimitiveDateTime::parse(&found[1], day_time).unwrap().assume_utc().unix_timestamp_nanos();
        let since = u64::try_from(at - i128::from(began.0)).expect("nobody calls before the recording starts");
        Some(Call {
            at: Duration::from_nanos(since),
            method: found[2].to_owned(),
            target: found[3].to_owned(),
            body: found[4].replace("\\\"", "\""),
        })
    };
    log.lines().filter_map(call).collect()
}
