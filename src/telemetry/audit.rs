//! The audit line: who asked for what.
//!
//! Owns: the text of `service-info`, which header names the caller, and what Berth adds to PD's line. Must not know: HTTP.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use super::log::{Level, Logger, Value};
use crate::model::Wall;

/// Bytes of a body that the line shows. PD shows all of it; one line of the log must stay readable and bounded.
pub const MAX_BODY: usize = 64 << 10;

/// What an audit line tells.
#[derive(Clone, Debug, Default)]
pub struct ServiceInfo<'a> {
    /// Label of the route, `DeleteStore`.
    pub service: &'a str,
    /// `HTTP/1.1/DELETE:/pd/api/v1/store/2` or `gRPC:StoreHeartbeat`; see [`http_method`].
    pub method: &'a str,
    /// Who calls; see [`caller_id`].
    pub caller: &'a str,
    /// Where from.
    pub ip: &'a str,
    /// Its port; may be empty.
    pub port: &'a str,
    /// When the request came.
    pub start: Wall,
    /// The query, each key with its values in order.
    pub query: BTreeMap<String, Vec<String>>,
    /// The body as it was sent.
    pub body: &'a str,
}

/// What came of a call: `outcome` and `error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Outcome<'a> {
    /// Not said: the line is written before it is known.
    #[default]
    Open,
    /// Done.
    Done,
    /// Not let in, and why.
    Denied(&'a str),
    /// Not done, and why.
    Failed(&'a str),
    /// It may have been done or not, and why nobody knows.
    Unknown(&'a str),
}

impl<'a> Outcome<'a> {
    fn fields(self) -> impl Iterator<Item = (&'static str, Value<'a>)> {
        let (word, error) = match self {
            Self::Open => (None, None),
            Self::Done => (Some("done"), None),
            Self::Denied(why) => (Some("denied"), Some(why)),
            Self::Failed(why) => (Some("failed"), Some(why)),
            Self::Unknown(why) => (Some("unknown"), Some(why)),
        };
        let outcome = word.map(|word| ("outcome", word.into()));
        outcome.into_iter().chain(error.map(|why| ("error", why.into())))
    }
}

/// What certificates say about the caller, and what came of the call: Berth's fields beside PD's `service-info`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing<'a> {
    /// Common name of the caller's certificate, if it has one: `common-name`.
    pub name: Option<&'a str>,
    /// Common name of the member that passed the call on: `passed-on-by`.
    pub passed_on_by: Option<&'a str>,
    /// What came of it.
    pub outcome: Outcome<'a>,
}

/// Writes an audit line.
pub fn write(log: &Logger, info: &ServiceInfo<'_>, standing: Standing<'_>) {
    if !log.enabled(Level::Info) {
        return;
    }
    let Standing { name, passed_on_by, outcome } = standing;
    let mut fields: Vec<(&str, Value<'_>)> = vec![("service-info", service_info(info).into())];
    fields.extend(name.map(|name| ("common-name", name.into())));
    fields.extend(passed_on_by.map(|name| ("passed-on-by", name.into())));
    fields.extend(outcome.fields());
    log.write(Level::Info, file!(), line!(), "audit log", &fields);
}

/// `HTTP/1.1/POST:/pd/api/v1/config`.
pub fn http_method(protocol: &str, method: &str, path: &str) -> String {
    format!("{protocol}/{method}:{path}")
}

/// The caller: header `X-Caller-ID`, else header `component`, else `anonymous`.
pub fn caller_id<'a>(x_caller_id: Option<&'a str>, component: Option<&'a str>) -> &'a str {
    let given = |header: Option<&'a str>| header.filter(|text| !text.is_empty());
    given(x_caller_id).or(given(component)).unwrap_or("anonymous")
}

/// Where a call comes from, address and port: what a proxy says goes before the peer's address. `header` gives the text of one.
pub fn origin<'a>(header: impl Fn(&str) -> Option<&'a str>, peer: Option<SocketAddr>) -> (String, String) {
    let header = |name| header(name).filter(|text| !text.is_empty());
    if let Some(forwarded) = header("x-forwarded-for") {
        let first = forwarded.split(',').next().unwrap_or(forwarded).trim();
        return (first.to_owned(), header("x-forwarded-port").unwrap_or("").to_owned());
    }
    match (header("x-real-ip"), peer) {
        (Some(ip), _) => (ip.to_owned(), String::new()),
        (None, Some(peer)) => (peer.ip().to_string(), peer.port().to_string()),
        (None, None) => (String::new(), String::new()),
    }
}

/// A text of at most `most` bytes, and behind what was cut how long `whole` is.
pub fn cut(text: &str, most: usize, whole: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...({whole} bytes)", &text[..end]).into()
}

/// The value of field `service-info` of message `audit log`.
pub fn service_info(info: &ServiceInfo<'_>) -> String {
    let start = time::OffsetDateTime::from_unix_timestamp(info.start.unix_seconds());
    let start = start.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let query = serde_json::to_string(&info.query).unwrap_or_default();
    let mut out = format!(
        "{{ServiceLabel:{}, Method:{}, CallerID:{}, IP:{}, Port:{}, StartTime:",
        info.service, info.method, info.caller, info.ip, info.port
    );
    let _ = write!(
        out,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} +0000 UTC, URLParam:{query}, BodyParam:",
        start.year(),
        u8::from(start.month()),
        start.day(),
        start.hour(),
        start.minute(),
        start.second(),
    );
    out.push_str(&cut(info.body, MAX_BODY, info.body.len()));
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::testing::shared_file;

    /// 2026-11-22 13:04:11 UTC.
    const START: Wall = Wall(1_795_352_651_000_000_000);

    #[test]
    fn a_delete_and_a_query() {
        let method = http_method("HTTP/1.1", "DELETE", "/pd/api/v1/store/2");
        let info = ServiceInfo {
            service: "DeleteStore",
            method: &method,
            caller: caller_id(Some("pd-ctl"), None),
            ip: "127.0.0.1",
            port: "50918",
            start: START,
            ..ServiceInfo::default()
        };
        let text = "{ServiceLabel:DeleteStore, Method:HTTP/1.1/DELETE:/pd/api/v1/store/2, CallerID:pd-ctl, IP:127.0.0.1, \
                    Port:50918, StartTime:2026-11-22 13:04:11 +0000 UTC, URLParam:{}, BodyParam:}";
        assert_eq!(service_info(&info), text);
        let query = BTreeMap::from([("kind".to_owned(), vec!["region".to_owned()])]);
        let info = ServiceInfo { query, ..info };
        assert!(service_info(&info).contains("URLParam:{\"kind\":[\"region\"]}"));
    }

    #[test]
    fn an_outcome_is_a_word_and_why() {
        let of = |outcome: Outcome<'_>| {
            let texts = outcome.fields().map(|(key, value)| match value {
                Value::Text(text) => format!("{key}={text}"),
                other => panic!("{other:?}"),
            });
            texts.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(Outcome::Open), "");
        assert_eq!(of(Outcome::Done), "outcome=done");
        assert_eq!(of(Outcome::Denied("a")), "outcome=denied error=a");
        assert_eq!(of(Outcome::Failed("b")), "outcome=failed error=b");
        assert_eq!(of(Outcome::Unknown("c")), "outcome=unknown error=c");
    }

    #[test]
    fn the_caller_has_a_name_or_none() {
        assert_eq!(caller_id(None, Some("pd-http-client")), "pd-http-client");
        assert_eq!(caller_id(Some(""), None), "anonymous");
    }

    #[test]
    fn a_long_body_is_cut_at_a_character() {
        let body = "é".repeat(MAX_BODY);
        let text = service_info(&ServiceInfo { body: &body, ..ServiceInfo::default() });
        assert!(text.ends_with(&format!("...({} bytes)}}", body.len())));
        assert!(text.len() < MAX_BODY + 300);
    }

    /// Takes every recorded line apart and builds it again.
    #[test]
    fn recorded_lines_are_built_the_same() {
        let Some(story) = shared_file("compat/scale-in-story.log") else { return };
        let mut seen = 0;
        for line in story.lines().filter(|l| l.contains("audit log")) {
            let (_, quoted) = line.split_once("service-info=").unwrap();
            let text: String = serde_json::from_str(quoted.strip_suffix(']').unwrap()).unwrap();
            let between = |from: &str, to: &str| {
                let rest = &text[text.find(from).unwrap() + from.len()..];
                rest[..rest.find(to).unwrap()].to_owned()
            };
            let clock: Vec<i64> =
                between("StartTime:2026-11-22 ", " +0000").split(':').map(|n| n.parse().unwrap()).collect();
            let seconds = 1_795_305_600 + clock[0] * 3600 + clock[1] * 60 + clock[2];
            let info = ServiceInfo {
                service: &between("ServiceLabel:", ", "),
                method: &between("Method:", ", "),
                caller: &between("CallerID:", ", "),
                ip: &between("IP:", ", "),
                port: &between("Port:", ", "),
                start: Wall(seconds * 1_000_000_000),
                query: serde_json::from_str(&between("URLParam:", ", BodyParam")).unwrap(),
                body: text.split_once("BodyParam:").unwrap().1.strip_suffix('}').unwrap(),
            };
            assert_eq!(service_info(&info), text);
            seen += 1;
        }
        assert!(seen >= 8, "{seen}");
    }
}
