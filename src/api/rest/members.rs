//! `/members`, `/leader`, `/health`: the group that agrees.
//!
//! Owns: the JSON shape of members. Must not know: how members are found or asked.

use serde::Serialize;

use super::{Answer, render::Reply, request::Request};
use crate::{
    meta::Member,
    model::{ClusterId, MemberId},
};

#[derive(Serialize)]
struct HeaderJson {
    cluster_id: ClusterId,
}

/// A member in PD's key order.
#[derive(Serialize)]
struct MemberJson<'a> {
    name: &'a str,
    member_id: MemberId,
    peer_urls: &'a [String],
    client_urls: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    leader_priority: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    deploy_path: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    binary_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    git_hash: &'a str,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(n: &i32) -> bool {
    *n == 0
}

impl<'a> From<&'a Member> for MemberJson<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            name: &member.name,
            member_id: member.id,
            peer_urls: &member.peer_urls,
            client_urls: &member.client_urls,
            leader_priority: member.leader_priority,
            deploy_path: &member.deploy_path,
            binary_version: &member.binary_version,
            git_hash: &member.git_hash,
        }
    }
}

/// `GET /members`
pub(super) fn all(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Members<'a> {
        header: HeaderJson,
        members: Vec<MemberJson<'a>>,
        leader: Option<MemberJson<'a>>,
        etcd_leader: Option<MemberJson<'a>>,
    }
    let meta = &request.app.meta;
    let (members, leader) = (meta.members(), meta.leader());
    let leads = || leader.as_ref().map(MemberJson::from);
    Ok(Reply::ok(&Members {
        header: HeaderJson { cluster_id: meta.cluster_id() },
        members: members.iter().map(MemberJson::from).collect(),
        leader: leads(),
        // The group that agrees has one leader; PD shows that of its etcd beside its own.
        etcd_leader: leads(),
    }))
}

/// `GET /leader`: without what the leader says of its binary.
pub(super) fn leader(request: &Request) -> Answer {
    let leader = request.app.meta.leader();
    let shown = leader.as_ref().map(|member| MemberJson {
        deploy_path: "",
        binary_version: "",
        git_hash: "",
        ..MemberJson::from(member)
    });
    Ok(Reply::ok(&shown))
}

/// `GET /health`, `GET /pd/health`
pub(super) fn health(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Health<'a> {
        name: &'a str,
        member_id: MemberId,
        client_urls: &'a [String],
        health: bool,
    }
    let app = &request.app;
    // This member is asked, so it answers; of others only the leader is known to be well until members speak to each other.
    let well = |m: &Member| m.id == app.meta.member_id() || app.meta.leader().is_some_and(|l| l.id == m.id);
    let members = app.meta.members();
    let shown = members.iter().map(|m| Health {
        name: &m.name,
        member_id: m.id,
        client_urls: &m.client_urls,
        health: well(m) && app.meta.failure().is_none(),
    });
    Ok(Reply::ok(&shown.collect::<Vec<_>>()))
}
