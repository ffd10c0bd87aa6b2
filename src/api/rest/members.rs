//! `/members`, `/leader`, `/health`: the group that agrees.
//!
//! Owns: the JSON shape of members, PD's texts about them. Must not know: how members are found or asked, how the group is changed.

use axum::http::StatusCode;
use futures::future::join_all;
use serde::Serialize;
use serde_json::Value;

use super::{Answer, body, error::Problem, go, render::Reply, request::Request};
use crate::{
    api::forward,
    meta::{Member, MemberError},
    model::{ClusterId, MemberId},
};

/// PD's text for a member that is not there, by id.
const NO_SUCH_ID: &str = "[PD:etcd:ErrEtcdMemberRemove]etcdserver: member not found: etcdserver: member not found";
/// PD's text when nobody of that name can lead.
const NO_SUCH_LEADER: &str = "no valid pd to transfer etcd leader";

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

/// `GET /health`, `GET /pd/health`: every other member is asked whether it answers.
pub(super) async fn health(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Health<'a> {
        name: &'a str,
        member_id: MemberId,
        client_urls: &'a [String],
        health: bool,
    }
    let app = &request.app;
    let members = app.meta.members();
    let shown = members.iter().map(async |m| {
        let own = m.id == app.meta.member_id();
        let health = match own {
            true => app.meta.failure().is_none() && !app.meta.is_outvoted(),
            false => forward::answers(app, &m.client_urls).await,
        };
        Health { name: &m.name, member_id: m.id, client_urls: &m.client_urls, health }
    });
    Ok(Reply::ok(&join_all(shown).await))
}

/// The member of the name in the path.
fn named(request: &Request, parameter: &str) -> Result<Member, Problem> {
    let name = request.param(parameter);
    let found = request.app.meta.members().into_iter().find(|m| m.name == name);
    found.ok_or_else(|| Problem::Said(StatusCode::NOT_FOUND, format!("not found, pd: {name}")))
}

/// `DELETE /members/name/{name}`
pub(super) async fn delete_by_name(request: &Request) -> Answer {
    let member = named(request, "name")?;
    remove(request, member.id, &member.name).await
}

/// `DELETE /members/id/{id}`
pub(super) async fn delete_by_id(request: &Request) -> Answer {
    let id = go::parse_uint(&request.param("id"))?;
    if !request.app.meta.members().iter().any(|m| m.id.0 == id) {
        return Err(Problem::failed(NO_SUCH_ID));
    }
    remove(request, MemberId(id), &id.to_string()).await
}

/// Refuses what would leave too few that answer now. (`meta` looks too, but believes in a member for an election time after it was
/// heard.)
async fn can_agree_without(request: &Request, id: MemberId) -> Result<(), Problem> {
    let (app, group) = (&request.app, request.app.meta.group());
    if !group.voters.contains(&id) {
        return Ok(());
    }
    let left: Vec<Member> =
        app.meta.members().into_iter().filter(|m| m.id != id && group.voters.contains(&m.id)).collect();
    let own = app.meta.member_id();
    let asked = left.iter().map(async |m| m.id == own || forward::answers(app, &m.client_urls).await);
    let reachable = join_all(asked).await.into_iter().filter(|answers| *answers).count();
    if reachable < left.len() / 2 + 1 {
        return Err(MemberError::NoQuorum { reachable, voters: left.len() }.into());
    }
    Ok(())
}

/// Removes a member. One that leads hands leadership over first, and the next leader removes it.
async fn remove(request: &Request, id: MemberId, said: &str) -> Answer {
    let meta = &request.app.meta;
    can_agree_without(request, id).await?;
    match meta.remove_member(id).await {
        Ok(()) => Ok(Reply::ok(&format!("removed, pd: {said}"))),
        Err(MemberError::Leads(_)) => {
            meta.resign().await?;
            forward::again(&request.app, "DELETE", &request.uri, &request.named.identity).await.map_err(Problem::failed)
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /members/name/{name}`
pub(super) async fn set_priority(request: &Request) -> Answer {
    let member = named(request, "name")?;
    let fields = body::object(&request.body)?;
    if let Some(value) = fields.get("leader-priority") {
        let priority = value.as_f64().ok_or_else(|| Problem::bad("bad format leader priority"))?;
        #[allow(clippy::cast_possible_truncation)] // as Go does, but without going round
        request.app.set_leader_priority(member.id, priority as i32).await?;
    }
    Ok(Reply::ok(&Value::from("success")))
}

/// `POST /leader/resign`. One that is alone goes on leading.
pub(super) async fn resign(request: &Request) -> Answer {
    let meta = &request.app.meta;
    if meta.group().voters.len() > 1 {
        meta.resign().await?;
    }
    Ok(Reply::ok(&Value::from("The resign command is submitted.")))
}

/// `POST /leader/transfer/{next_leader}`
pub(super) async fn transfer(request: &Request) -> Answer {
    let meta = &request.app.meta;
    let next = named(request, "next_leader").map_err(|_| Problem::failed(NO_SUCH_LEADER))?;
    if next.id != meta.member_id() {
        meta.transfer_leader(next.id).await?;
    }
    Ok(Reply::ok(&Value::from("The transfer command is submitted.")))
}
