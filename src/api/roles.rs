//! Who may do what, by the common name of a client's certificate.
//!
//! Owns: the three roles, what each call needs, whose name counts when a member passes a call on, and the refusal with its lines in
//! the log. Must not know: certificates and sockets; the listener puts an [`Identity`] into each request. Without `berth.role-*`
//! everybody who may connect may do everything, as in PD.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    config::BerthConfig,
    pdlog,
    telemetry::{
        audit::{self, Outcome, ServiceInfo, Standing},
        log::Logger,
    },
};

/// What a caller may do; each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Read, take timestamps and ids, and do what a storage node does: register, report, ask for splits.
    Read,
    /// Move data and take stores out: operators, schedulers, checkers, stores, limits, placement rules, labels, safe points.
    Operate,
    /// Everything: configuration, members, repairs.
    Admin,
}

impl Role {
    /// As the configuration and refusals call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// The common name in the certificate that the caller showed; `None`: it showed none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity(pub Option<Arc<str>>);

/// A call that the caller's role does not allow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} may not do this: it needs the role {}, and has {}", who(.identity), .needs.name(), .has.map_or("none", Role::name))]
pub struct Denied {
    /// Who called.
    pub identity: Identity,
    /// What it may do; `None`: nothing.
    pub has: Option<Role>,
    /// What the call needs.
    pub needs: Role,
}

/// The caller, for people.
fn who(identity: &Identity) -> String {
    identity.0.as_ref().map_or_else(|| "a client without a certificate".to_owned(), |name| format!("{name:?}"))
}

/// Whether roles are in force.
pub fn in_force(berth: &BerthConfig) -> bool {
    [&berth.role_read, &berth.role_operate, &berth.role_admin].into_iter().any(Option::is_some)
}

/// The role of a caller; `None`: none.
fn role_of(berth: &BerthConfig, identity: &Identity) -> Option<Role> {
    let name = identity.0.as_deref()?;
    let lists =
        [(Role::Admin, &berth.role_admin), (Role::Operate, &berth.role_operate), (Role::Read, &berth.role_read)];
    let is_listed = |list: &Option<Vec<String>>| list.iter().flatten().any(|listed| listed == name);
    lists.into_iter().find(|(_, list)| is_listed(list)).map(|(role, _)| role)
}

/// Whether a caller may do what needs `needs`.
///
/// # Errors
/// It may not.
pub fn check(berth: &BerthConfig, identity: &Identity, needs: Role) -> Result<(), Denied> {
    if !in_force(berth) {
        return Ok(());
    }
    let has = role_of(berth, identity);
    if has >= Some(needs) { Ok(()) } else { Err(Denied { identity: identity.clone(), has, needs }) }
}

/// On a call that a member passes on: the common name of who asked it; empty: of somebody without a certificate.
const CALLER: HeaderName = HeaderName::from_static("berth-caller");

/// Whose call it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// Who asks.
    pub identity: Identity,
    /// The member that passed the call on.
    pub passed_on_by: Option<Arc<str>>,
}

impl Caller {
    /// Of a request. A member that passes a call on shows its own certificate and names whose call it is: then that name counts, not
    /// the member's. Nobody gains by naming somebody else: only who may do everything is believed, and audit lines have both names.
    pub fn of(berth: &BerthConfig, extensions: &Extensions, headers: &HeaderMap) -> Self {
        let shown = extensions.get::<Identity>().cloned().unwrap_or_default();
        let speaks_for_others =
            if in_force(berth) { role_of(berth, &shown) == Some(Role::Admin) } else { shown.0.is_some() };
        match headers.get(CALLER).filter(|_| speaks_for_others) {
            Some(named) => {
                let named = std::str::from_utf8(named.as_bytes()).ok().filter(|name| !name.is_empty());
                Self { identity: Identity(named.map(Into::into)), passed_on_by: shown.0 }
            }
            None => Self { identity: shown, passed_on_by: None },
        }
    }

    /// For an audit line.
    pub fn standing<'a>(&'a self, outcome: Outcome<'a>) -> Standing<'a> {
        Standing { name: self.identity.0.as_deref(), passed_on_by: self.passed_on_by.as_deref(), outcome }
    }
}

/// Names whose call it is, on one that is passed on. What a client has put there itself is replaced.
pub fn name_caller(berth: &BerthConfig, request: &mut Request) {
    let caller = Caller::of(berth, request.extensions(), request.headers());
    let name = caller.identity.0.as_deref().unwrap_or_default();
    // A name that no header can hold is nobody's there.
    let name = HeaderValue::from_bytes(name.as_bytes()).unwrap_or(HeaderValue::from_static(""));
    request.headers_mut().insert(CALLER, name);
}

/// What a call asks for, as refusals name it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What it needs.
    pub needs: Role,
    /// Its path.
    pub path: &'a str,
    /// Its name in an audit line …
    pub service: &'a str,
    /// … and how it came, as there.
    pub method: &'a str,
}

/// [`check`] for a request, with lines in the log when it is refused.
///
/// # Errors
/// The caller may not.
pub fn admit(berth: &BerthConfig, log: &Logger, request: &Request, asked: Asked<'_>) -> Result<(), Denied> {
    if !in_force(berth) {
        return Ok(());
    }
    let caller = Caller::of(berth, request.extensions(), request.headers());
    check(berth, &caller.identity, asked.needs).inspect_err(|denied| {
        let error = denied.to_string();
        // What proxies say may be made up; of who is refused the connection's address counts.
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let info = ServiceInfo {
            service: asked.service,
            method: asked.method,
            caller: audit::caller_id(header("x-caller-id"), header("component")),
            ip: &peer.map_or_else(String::new, |peer| peer.ip().to_string()),
            port: &peer.map_or_else(String::new, |peer| peer.port().to_string()),
            start: log.now(),
            ..ServiceInfo::default()
        };
        audit::write(log, &info, caller.standing(Outcome::Denied(&error)));
        pdlog!(log, Warn, "a call was denied", "call" => asked.path, "error" => error);
    })
}

/// [`admit`] for a call of gRPC.
///
/// # Errors
/// The caller may not.
pub fn admit_grpc(berth: &BerthConfig, log: &Logger, request: &Request, needs: Role) -> Result<(), Denied> {
    let path = request.uri().path();
    let service = path.rsplit('/').next().unwrap_or(path);
    admit(berth, log, request, Asked { needs, path, service, method: &format!("gRPC:{service}") })
}

/// Methods of gRPC that change more than a storage node or a client has to.
pub(super) const GRPC_OPERATE: &[&str] = &[
    "ScatterRegion",
    "SplitRegions",
    "SplitAndScatterRegions",
    "UpdateGCSafePoint",
    "UpdateServiceGCSafePoint",
    "UpdateGCSafePointV2",
    "UpdateServiceSafePointV2",
    "AdvanceGCSafePoint",
    "AdvanceTxnSafePoint",
    "SetGCBarrier",
    "DeleteGCBarrier",
    "SetGlobalGCBarrier",
    "DeleteGlobalGCBarrier",
    "StoreGlobalConfig",
    "SetExternalTimestamp",
];

/// What a method of gRPC needs.
pub(super) fn of_grpc(method: &str) -> Role {
    match method {
        "PutClusterConfig" => Role::Admin,
        method if GRPC_OPERATE.contains(&method) => Role::Operate,
        _ => Role::Read,
    }
}

/// Beginnings of the paths of REST that operators change things under; what else is changed is the administrators'.
const REST_OPERATE: &[&str] = &[
    "/pd/api/v1/operators",
    "/pd/api/v1/checker",
    "/pd/api/v1/scheduler",
    "/pd/api/v1/region",
    "/pd/api/v1/store",
    "/pd/api/v1/labels",
    "/pd/api/v1/hotspot",
    "/pd/api/v1/config/rule",
    "/pd/api/v1/config/placement-rule",
    "/pd/api/v1/config/region-label",
];

/// What a route of REST needs. `changes`: it is asked by another method than GET.
pub(super) fn of_rest(path: &str, changes: bool) -> Role {
    match changes {
        // All that is agreed at once, barriers and the members' addresses among it.
        false if path == "/berth/v1/backup" => Role::Admin,
        false => Role::Read,
        true if REST_OPERATE.iter().any(|begin| path.starts_with(begin)) => Role::Operate,
        true => Role::Admin,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(name: &str) -> Identity {
        Identity(Some(name.into()))
    }

    #[test]
    fn without_lists_everybody_may_do_everything() {
        let berth = BerthConfig::default();
        assert!(check(&berth, &Identity::default(), Role::Admin).is_ok());
    }

    #[test]
    fn each_role_includes_those_before_it() {
        let list = |name: &str| Some(vec![name.to_owned()]);
        let (role_read, role_operate, role_admin) = (list("tikv"), list("tidb"), list("ops"));
        let berth = BerthConfig { role_read, role_operate, role_admin, ..BerthConfig::default() };
        let roles = [Role::Read, Role::Operate, Role::Admin];
        let may = |who: &Identity| roles.map(|role| check(&berth, who, role).is_ok());
        assert_eq!(may(&named("tikv")), [true, false, false]);
        assert_eq!(may(&named("tidb")), [true, true, false]);
        assert_eq!(may(&named("ops")), [true, true, true]);
        assert_eq!(may(&named("else")), [false; 3]);
        assert_eq!(may(&Identity::default()), [false; 3]);
        let denied = check(&berth, &named("tikv"), Role::Admin).unwrap_err();
        assert_eq!(denied.to_string(), "\"tikv\" may not do this: it needs the role admin, and has read");
        let denied = check(&berth, &Identity::default(), Role::Read).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "a client without a certificate may not do this: it needs the role read, and has none"
        );
    }

    #[test]
    fn a_call_that_is_passed_on_is_its_callers_and_only_members_say_whose() {
        let list = |name: &str| Some(vec![name.to_owned()]);
        let in_force = BerthConfig { role_read: list("tikv"), role_admin: list("pd-1"), ..BerthConfig::default() };
        let of = |berth: &BerthConfig, shown: Option<&str>, named: &str| {
            let mut request = Request::new(axum::body::Body::empty());
            request.extensions_mut().insert(Identity(shown.map(Into::into)));
            request.headers_mut().insert(CALLER, HeaderValue::from_bytes(named.as_bytes()).unwrap());
            let Caller { identity, passed_on_by } = Caller::of(berth, request.extensions(), request.headers());
            (identity.0.as_deref().map(str::to_owned), passed_on_by.as_deref().map(str::to_owned))
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(of(&in_force, Some("pd-1"), "tikv"), (some("tikv"), some("pd-1")));
        assert_eq!(of(&in_force, Some("pd-1"), ""), (None, some("pd-1")), "of nobody, not of the member");
        assert_eq!(of(&in_force, Some("pd-1"), "büro"), (some("büro"), some("pd-1")));
        assert_eq!(
            of(&in_force, Some("tikv"), "pd-1"),
            (some("tikv"), None),
            "who may not do everything is not believed"
        );
        assert_eq!(of(&in_force, None, "pd-1"), (None, None));
        let open = BerthConfig::default();
        assert_eq!(of(&open, Some("pd-1"), "tikv"), (some("tikv"), some("pd-1")));
        assert_eq!(of(&open, None, "tikv"), (None, None), "without a certificate nobody is named");
    }

    #[test]
    fn a_name_that_a_client_puts_on_a_call_is_replaced() {
        let mut request = Request::new(axum::body::Body::empty());
        request.extensions_mut().insert(named("tikv"));
        request.headers_mut().insert(CALLER, HeaderValue::from_static("ops"));
        let ops = Some(vec!["ops".to_owned()]);
        name_caller(&BerthConfig { role_admin: ops, ..BerthConfig::default() }, &mut request);
        assert_eq!(request.headers().get_all(CALLER).iter().collect::<Vec<_>>(), ["tikv"]);
        for name in [Identity::default(), named("a\nb")] {
            request.extensions_mut().insert(name);
            request.headers_mut().remove(CALLER);
            name_caller(&BerthConfig::default(), &mut request);
            assert_eq!(request.headers()[CALLER], "", "nobody");
        }
    }

    #[test]
    fn what_calls_need() {
        assert_eq!(of_grpc("Tso"), Role::Read);
        assert_eq!(of_grpc("RegionHeartbeat"), Role::Read);
        assert_eq!(of_grpc("UpdateServiceGCSafePoint"), Role::Operate);
        assert_eq!(of_grpc("PutClusterConfig"), Role::Admin);
        assert_eq!(of_rest("/pd/api/v1/config", false), Role::Read);
        assert_eq!(of_rest("/berth/v1/backup", false), Role::Admin);
        assert_eq!(of_rest("/pd/api/v1/config", true), Role::Admin);
        assert_eq!(of_rest("/pd/api/v1/store/{id}", true), Role::Operate);
        assert_eq!(of_rest("/pd/api/v1/config/rules", true), Role::Operate);
        assert_eq!(of_rest("/pd/api/v1/admin/cache/regions", true), Role::Admin);
    }
}
