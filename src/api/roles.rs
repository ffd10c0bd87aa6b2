//! Who may do what, by the common name of a client's certificate.
//!
//! Owns: the three roles, what each call needs, and the refusal. Must not know: certificates and sockets; the listener puts an
//! [`Identity`] into each request. Without `berth.role-*` everybody who may connect may do everything, as in PD.

use std::sync::Arc;

use axum::http::Extensions;

use super::App;
use crate::config::BerthConfig;

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

/// [`check`] for a request, with a line in the log when it is refused. `call` names it: `/pdpb.PD/PutClusterConfig`.
pub(super) fn admit(app: &App, extensions: &Extensions, needs: Role, call: &str) -> Result<(), Denied> {
    let unknown = Identity::default();
    let identity = extensions.get::<Identity>().unwrap_or(&unknown);
    check(&app.config.berth, identity, needs).inspect_err(|denied| {
        crate::pdlog!(app.log, Warn, "a call was denied", "call" => call, "error" => denied.to_string());
    })
}

/// Methods of gRPC that change more than a storage node or a client has to.
const GRPC_OPERATE: &[&str] = &[
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
