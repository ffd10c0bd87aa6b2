//! Audit lines of gRPC: who changed what, and what came of it.
//!
//! Owns: which calls are told ([`HasClusterId::CHANGES`]), what of a request is shown. Must not know: what methods do. A call that this
//! member passes on, or cannot answer, is not told here: who carries it out tells it.

use std::{net::SocketAddr, sync::Arc};

use axum::extract::ConnectInfo;
use tonic::Request;

use super::header::HasClusterId;
use crate::{
    api::{ApiError, App, compact_text, roles},
    model::Wall,
    telemetry::{
        audit::{self, Outcome, ServiceInfo},
        log::Level,
    },
};

/// Most bytes of a request that a line shows.
const MAX_SHOWN: usize = 4 << 10;
/// Most bytes of what a client calls itself.
const MAX_NAME: usize = 128;

/// Runs a handler. When the call changes something, the audit log is told of it afterwards; one whose caller goes away before that is
/// told as unknown, since what it has proposed may be agreed on all the same.
pub(super) async fn audited<Q: HasClusterId + prost::Message, A>(
    app: &Arc<App>,
    request: Request<Q>,
    handler: impl AsyncFnOnce(&App, Q) -> Result<A, ApiError>,
) -> Result<A, ApiError> {
    let line = Line::begin(app, &request);
    let result = handler(app, request.into_inner()).await;
    if let Some(line) = line {
        line.end(&result);
    }
    result
}

/// The line of a call under way. It is written once, when it is dropped at the latest.
struct Line {
    app: Arc<App>,
    method: &'static str,
    caller: roles::Caller,
    called: String,
    origin: (String, String),
    start: Wall,
    body: String,
    told: bool,
}

impl Line {
    /// `None`: the call changes nothing, or nobody reads the line.
    fn begin<Q: HasClusterId + prost::Message>(app: &Arc<App>, request: &Request<Q>) -> Option<Self> {
        let method = Q::CHANGES.filter(|_| app.log.enabled(Level::Info))?;
        let (headers, message) = (request.metadata().as_ref(), request.get_ref());
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        // PD's clients name themselves in the message.
        let named = message.head().map(|head| head.caller_id.as_str());
        let called = audit::caller_id(header("x-caller-id").or(named), header("component"));
        let redact = app.config.security.redact_info_log;
        Some(Self {
            app: app.clone(),
            method,
            caller: roles::Caller::of(&app.config.berth, request.extensions(), headers),
            called: audit::cut(called, MAX_NAME, called.len()).into_owned(),
            origin: audit::origin(header, peer),
            start: app.now().wall,
            body: compact_text::shown(&format!("pdpb.{method}Request"), message, redact, MAX_SHOWN),
            told: false,
        })
    }

    fn end<A>(mut self, result: &Result<A, ApiError>) {
        match result {
            Ok(_) => self.tell(Outcome::Done),
            Err(error) if error.leaves_open() => self.tell(Outcome::Unknown(&error.to_string())),
            Err(error) => self.tell(Outcome::Failed(&error.to_string())),
        }
    }

    fn tell(&mut self, outcome: Outcome<'_>) {
        self.told = true;
        let info = ServiceInfo {
            service: self.method,
            method: &format!("gRPC:{}", self.method),
            caller: &self.called,
            ip: &self.origin.0,
            port: &self.origin.1,
            start: self.start,
            body: &self.body,
            ..ServiceInfo::default()
        };
        audit::write(&self.app.log, &info, self.caller.standing(outcome));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Outcome::Unknown("the caller has gone"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::UNARY;
    use crate::api::roles::{GRPC_OPERATE, Role, of_grpc};

    /// As Rust spells a method.
    fn plain(method: &str) -> String {
        method.replace('_', "").to_ascii_lowercase()
    }

    #[test]
    fn what_needs_more_than_reading_is_told_and_under_its_own_name() {
        let changes: BTreeMap<String, Option<&str>> = UNARY.iter().map(|(name, what)| (plain(name), *what)).collect();
        for (name, told) in &changes {
            assert!(told.is_none_or(|told| plain(told) == *name), "{name} is told as {told:?}");
        }
        let built = GRPC_OPERATE.iter().filter_map(|method| Some((*method, *changes.get(&plain(method))?)));
        let built: Vec<_> = built.collect();
        assert!(built.len() >= 6, "{built:?}");
        assert!(built.iter().all(|(method, told)| *told == Some(method)), "{built:?}");
        assert_eq!((of_grpc("PutClusterConfig"), changes["putclusterconfig"]), (Role::Admin, Some("PutClusterConfig")));
        // What every node does each few seconds is not.
        for often in ["storeheartbeat", "allocid", "askbatchsplit", "reportbatchsplit", "reportminresolvedts"] {
            assert_eq!(changes[often], None, "{often}");
        }
        for rare in ["bootstrap", "putstore"] {
            assert!(changes[rare].is_some(), "{rare}");
        }
    }
}
