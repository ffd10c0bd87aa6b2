//! One request as handlers see it: path variables, query, body.
//!
//! Owns: taking requests apart as Go does. Must not know: what any route means.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    body::Bytes,
    http::{HeaderMap, Method},
};
use tokio::sync::Mutex;

use super::{
    error::Problem,
    go::{self, EscapeError},
};
use crate::{
    api::{App, roles::Caller},
    meta::AskedBy,
    model::{RegionId, StoreId},
    telemetry::audit,
};

/// Longest body. PD reads without a bound; a whole rule bundle stays far below this.
pub(super) const MAX_BODY_BYTES: usize = 8 << 20;

/// Most query parameters that are looked at; the rest of a longer query is ignored.
const MAX_QUERY_PARAMETERS: usize = 1024;

/// A request that found its route.
pub(super) struct Request {
    /// What answers it.
    pub(super) app: Arc<App>,
    /// Held by whoever changes the configuration.
    pub(super) config_writes: Arc<Mutex<()>>,
    /// Method.
    pub(super) method: Method,
    /// Path and query as sent.
    pub(super) uri: String,
    /// Path variables by name, as sent (escaped).
    pub(super) params: Vec<(&'static str, String)>,
    /// Query.
    pub(super) query: Query,
    /// Headers.
    pub(super) headers: HeaderMap,
    /// The peer's address.
    pub(super) remote: Option<SocketAddr>,
    /// Whose request it is, by certificates.
    pub(super) named: Caller,
    /// Body.
    pub(super) body: Bytes,
}

impl Request {
    /// A path variable as sent.
    fn raw(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// A path variable with its escapes undone, as a text.
    pub(super) fn param(&self, name: &str) -> String {
        let raw = self.raw(name).as_bytes();
        let bytes = go::path_unescape(raw).unwrap_or_else(|_| raw.to_vec());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A path variable whose escapes are undone twice, as path and then as query: how PD reads keys.
    pub(super) fn key_param(&self, name: &str) -> Result<Vec<u8>, EscapeError> {
        let raw = self.raw(name).as_bytes();
        go::query_unescape(&go::path_unescape(raw)?)
    }

    /// A path variable that is an unsigned number.
    pub(super) fn uint_param(&self, name: &str) -> Result<u64, Problem> {
        Ok(go::parse_uint(&self.param(name))?)
    }

    /// A store id in the path: PD answers a bad one with an error object.
    pub(super) fn store_param(&self) -> Result<StoreId, Problem> {
        go::parse_uint(&self.param("id")).map(StoreId).map_err(|e| Problem::input(e.to_string()))
    }

    /// Who asks, as audit lines name it.
    pub(super) fn caller(&self) -> &str {
        audit::caller_id(self.header("x-caller-id"), self.header("component"))
    }

    /// Where the request comes from, as audit lines show it: address and port.
    pub(super) fn origin(&self) -> (String, String) {
        audit::origin(|name| self.header(name), self.remote)
    }

    /// Who asks, as a drain remembers it.
    pub(super) fn asked_by(&self) -> AskedBy {
        AskedBy { component: self.caller().to_owned(), ip: self.origin().0 }
    }

    /// Who asks, in one text, as an operator's history remembers it.
    pub(super) fn named(&self) -> String {
        format!("{} ({})", self.caller(), self.origin().0)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// A region id in the path.
    pub(super) fn region_param(&self) -> Result<RegionId, Problem> {
        self.uint_param("id").map(RegionId)
    }
}

/// The query part of a URL. Values are bytes: keys travel in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// Takes a query apart as Go's `URL.Query` does: what cannot be read is left out.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty() && !p.contains(';')).take(MAX_QUERY_PARAMETERS);
        Self(
            pairs
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((go::query_unescape(name.as_bytes()).ok()?, go::query_unescape(value.as_bytes()).ok()?))
                })
                .collect(),
        )
    }

    /// Whether the parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name.as_bytes())
    }

    /// The first value; empty when there is none.
    pub(super) fn bytes(&self, name: &str) -> &[u8] {
        self.0.iter().find(|(n, _)| n == name.as_bytes()).map_or(&[], |(_, value)| value)
    }

    /// The first value as a text; empty when there is none.
    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    /// All values in their order.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(n, _)| n == name.as_bytes());
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The value as a number, or `otherwise` when there is none or it is empty.
    pub(super) fn int(&self, name: &str, otherwise: i64) -> Result<i64, Problem> {
        match self.text(name) {
            text if text.is_empty() => Ok(otherwise),
            text => Ok(go::atoi(&text)?),
        }
    }

    /// As audit lines show it: each name with its values, names in order.
    pub(super) fn lists(&self) -> BTreeMap<String, Vec<String>> {
        let mut lists = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in &self.0 {
            let list = lists.entry(String::from_utf8_lossy(name).into_owned()).or_default();
            list.push(String::from_utf8_lossy(value).into_owned());
        }
        lists
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_query_is_read_as_go_reads_it() {
        let query = Query::parse("key=t%80%00&kind=region&kind=leader&object&bad=%zz&limit=&a=b+c");
        assert_eq!(query.bytes("key"), b"t\x80\x00");
        assert_eq!(query.all("kind"), ["region", "leader"]);
        assert!(query.has("object") && !query.has("bad") && !query.has("nosuch"));
        assert_eq!(query.text("a"), "b c");
        assert_eq!(query.int("limit", 16).unwrap(), 16);
        assert_eq!(query.int("nosuch", 7).unwrap(), 7);
        assert!(query.int("kind", 7).is_err());
    }

    #[test]
    fn an_audit_line_shows_the_query_in_order_of_names() {
        let lists = Query::parse("b=2&a=1&b=3").lists();
        assert_eq!(serde_json::to_string(&lists).unwrap(), r#"{"a":["1"],"b":["2","3"]}"#);
        assert!(Query::parse("").lists().is_empty());
    }
}
