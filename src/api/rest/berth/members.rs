//! `POST /berth/v1/members`: how a server becomes a member (`--join`); `GET /berth/v1/group`: how a member stands.
//!
//! Owns: the JSON of these. Must not know: how the group is changed.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api::rest::{Answer, error::Problem, render::Reply, request::Request},
    meta::MemberInfo,
    model::{ClusterId, MemberId},
};

/// Longest name or URL.
const MAX_TEXT: usize = 1024;
/// Most URLs of one kind.
const MAX_URLS: usize = 16;

/// What a server says about itself.
#[derive(Deserialize)]
struct Joining {
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    #[serde(default)]
    deploy_path: String,
    #[serde(default)]
    binary_version: String,
    #[serde(default)]
    git_hash: String,
}

/// What it has to begin with.
#[derive(Serialize)]
struct Joined {
    cluster_id: ClusterId,
    member_id: MemberId,
    members: Vec<Peer>,
}

#[derive(Serialize)]
struct Peer {
    member_id: MemberId,
    name: String,
    peer_urls: Vec<String>,
}

impl Joining {
    fn check(&self) -> Result<(), Problem> {
        let texts = [&self.name, &self.deploy_path, &self.binary_version, &self.git_hash];
        let urls = || self.peer_urls.iter().chain(&self.client_urls);
        if self.name.is_empty() {
            return Err(Problem::bad("a member needs a name"));
        }
        if self.peer_urls.is_empty() || self.peer_urls.len().max(self.client_urls.len()) > MAX_URLS {
            return Err(Problem::bad(format!(
                "a member has 1 to {MAX_URLS} peer URLs, and {MAX_URLS} client URLs at most"
            )));
        }
        if texts.into_iter().chain(urls()).any(|text| text.len() > MAX_TEXT) {
            return Err(Problem::bad(format!("no text of a member is longer than {MAX_TEXT} bytes")));
        }
        match urls().find(|url| crate::config::Place::of(url).is_none()) {
            Some(url) => Err(Problem::bad(format!("{url:?} is not a URL such as http://127.0.0.1:2380"))),
            None => Ok(()),
        }
    }
}

/// How this member stands in the group; every member answers for itself. Members that applied the same entry have the same hash.
pub(in crate::api::rest) fn group(request: &Request) -> Answer {
    let meta = &request.app.meta;
    let (group, counts, state) = (meta.group(), meta.group_counts(), meta.state());
    Ok(Reply::ok(&json!({
        "cluster_id": meta.cluster_id(),
        "member_id": meta.member_id(),
        "leads": meta.is_leader(),
        "leader": meta.leader().map(|leader| leader.id),
        "term": meta.term(),
        "voters": group.voters,
        "learners": group.learners,
        "applied": counts.applied,
        "state_hash": format!("{:016x}", state.hash),
        "hashes_compared": counts.hashes_compared,
        "hashes_differ": counts.hashes_differ,
        "outvoted": meta.is_outvoted(),
        "messages_refused": counts.refused,
        "messages_of_unknown": counts.unknown,
        "messages_dropped": counts.dropped,
    })))
}

/// Adds the server that says this about itself.
pub(in crate::api::rest) async fn join(request: &Request) -> Answer {
    let joining: Joining = serde_json::from_slice(&request.body)
        .map_err(|error| Problem::bad(format!("a member to be added: {error}")))?;
    joining.check()?;
    let Joining { name, peer_urls, client_urls, deploy_path, binary_version, git_hash } = joining;
    let info = MemberInfo { name, client_urls, peer_urls, deploy_path, binary_version, git_hash };
    let member = request.app.add_member(&info).await?;
    let others = request.app.meta.members().into_iter().filter(|m| m.id != member.id);
    Ok(Reply::ok(&Joined {
        cluster_id: request.app.meta.cluster_id(),
        member_id: member.id,
        members: others.map(|m| Peer { member_id: m.id, name: m.name, peer_urls: m.peer_urls }).collect(),
    }))
}
