//! How a member with an empty data folder begins: alone, together with others, or as a new member of a cluster that is there.
//!
//! Owns: which of these, and the questions to others that tell it. Must not know: what a group is; `meta` founds it.
//!
//! A member of the first list that lost its disk must not begin as if it were the first time: it has voted, and answered for
//! entries that it no longer has. So it asks the others before it begins, and begins only with so many that a quorum of the list is
//! there and none of them knows it; if one does, it is taken out and joins as a new member.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::{Dialer, mail};
use crate::{
    config::Config,
    ctl::{
        client::{ClientError, send},
        command::{Call, Render},
    },
    meta::{Founder, Founding, Member, MemberInfo, founders},
    model::{ClusterId, MemberId},
    pdlog,
    proto::berth_peer::{ProbeAnswer, ProbeRequest, peer_client::PeerClient},
    server::StartError,
    telemetry::log::Logger,
};

/// How long a member may take to say who it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before the others are asked again.
const AGAIN: Duration = Duration::from_millis(300);
/// How often it is told that a start waits for others.
const TELL: Duration = Duration::from_secs(10);
/// Where members are added.
pub(in crate::server) const JOIN_PATH: &str = "/berth/v1/members";

/// What a member says about itself when it wants to be added.
#[derive(Serialize)]
struct JoinRequest<'a> {
    name: &'a str,
    peer_urls: &'a [String],
    client_urls: &'a [String],
    deploy_path: &'a str,
    binary_version: &'a str,
    git_hash: &'a str,
}

/// What it is told.
#[derive(Deserialize)]
struct JoinAnswer {
    cluster_id: u64,
    member_id: u64,
    members: Vec<Peer>,
}

#[derive(Deserialize)]
struct Peer {
    member_id: u64,
    peer_urls: Vec<String>,
}

/// How a member begins, and where the others are.
#[derive(Debug)]
pub(in crate::server) struct Beginning {
    pub(in crate::server) founding: Founding,
    pub(in crate::server) others: Vec<Member>,
}

impl Beginning {
    /// Of a member that has its state: where the members of the first list are, until the state names them.
    pub(in crate::server) fn remembered(config: &Config) -> Self {
        let list = listed(config).unwrap_or_default();
        let others = founders(&list, &config.initial_cluster_token, &config.name).unwrap_or_default();
        Self { founding: Founding::Alone, others }
    }
}

/// The members of `--initial-cluster`.
fn listed(config: &Config) -> Result<Vec<Founder>, StartError> {
    let mut members: Vec<Founder> = vec![];
    for item in config.initial_cluster.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let wrong = || StartError::Founding(format!("initial-cluster: {item:?} is not name=peer-url"));
        let (name, url) = item.split_once('=').ok_or_else(wrong)?;
        if name.is_empty() || crate::config::Place::of(url).is_none() {
            return Err(wrong());
        }
        match members.iter_mut().find(|m| m.name == name) {
            Some(member) => member.peer_urls.push(url.to_owned()),
            None => members.push(Founder { name: name.to_owned(), peer_urls: vec![url.to_owned()] }),
        }
    }
    Ok(members)
}

/// Whether a member with an empty folder waits for others before it begins.
pub(in crate::server) fn waits(config: &Config) -> bool {
    !config.join.is_empty() || listed(config).is_ok_and(|list| list.len() > 1)
}

/// Decides how a member with an empty folder begins. Waits until enough others are there; a start that waits is ended by whoever
/// drops this.
pub(in crate::server) async fn begin(
    config: &Config,
    this: &MemberInfo,
    log: &Logger,
) -> Result<Beginning, StartError> {
    let dialer = Dialer::new(&config.security);
    if !config.join.is_empty() {
        let urls: Vec<String> = config.join.split(',').map(|url| url.trim().to_owned()).collect();
        return join(&dialer, &urls, this, log).await;
    }
    let list = listed(config)?;
    if list.len() < 2 {
        return Ok(Beginning { founding: Founding::Alone, others: vec![] });
    }
    let members = founders(&list, &config.initial_cluster_token, &config.name)
        .map_err(|why| StartError::Founding(format!("initial-cluster: {why}")))?;
    let mut told = Instant::now();
    loop {
        match decide(&ask_all(&dialer, &list, &config.name).await) {
            Step::Found => {
                let founding = Founding::Initial { members: list, token: config.initial_cluster_token.clone() };
                return Ok(Beginning { founding, others: members });
            }
            Step::Rejoin(urls) => {
                let text = "this member's state is gone, it joins its cluster again as a new member";
                pdlog!(log, Warn, text, "member-name" => &config.name);
                return join(&dialer, &urls, this, log).await;
            }
            Step::Wait => {}
        }
        if told.elapsed() > TELL {
            pdlog!(log, Warn, "waiting for the other members of initial-cluster", "members" => &config.initial_cluster);
            told = Instant::now();
        }
        sleep(AGAIN).await;
    }
}

/// What one of the other founders said; `None`: nothing.
type Said = Option<ProbeAnswer>;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Found,
    Rejoin(Vec<String>),
    Wait,
}

/// What the answers of the other founders tell.
fn decide(others: &[Said]) -> Step {
    let answered = || others.iter().flatten();
    if let Some(cluster) = answered().find(|answer| answer.running && answer.knows_asker) {
        return Step::Rejoin(cluster.client_urls.clone());
    }
    let founders = others.len() + 1;
    if answered().count() + 1 > founders / 2 { Step::Found } else { Step::Wait }
}

async fn ask_all(dialer: &Dialer, list: &[Founder], this: &str) -> Vec<Said> {
    let others = list.iter().filter(|founder| founder.name != this);
    join_all(others.map(|founder| async {
        let mut said = None;
        for url in &founder.peer_urls {
            // Whoever answers under another name is somebody else.
            said = said.or(ask(dialer, url, this).await.filter(|answer| answer.name == founder.name));
        }
        said
    }))
    .await
}

/// Asks whoever is at a peer URL who it is.
pub(in crate::server) async fn ask(dialer: &Dialer, url: &str, this: &str) -> Said {
    let asked = async {
        let channel = mail::channel(dialer, url).await.ok()?;
        let answer = PeerClient::new(channel).probe(ProbeRequest { name: this.to_owned() }).await;
        answer.ok().map(tonic::Response::into_inner)
    };
    timeout(PROBE_TIMEOUT, asked).await.ok().flatten()
}

/// Has the cluster at `urls` add this member. A refusal ends it; who cannot be reached, or has no leader, is asked again.
async fn join(dialer: &Dialer, urls: &[String], this: &MemberInfo, log: &Logger) -> Result<Beginning, StartError> {
    let body = serde_json::to_value(JoinRequest {
        name: &this.name,
        peer_urls: &this.peer_urls,
        client_urls: &this.client_urls,
        deploy_path: &this.deploy_path,
        binary_version: &this.binary_version,
        git_hash: &this.git_hash,
    })?;
    let call = Call { method: "POST", path: JOIN_PATH.to_owned(), body: Some(body), render: Render::Json };
    let mut told: Option<Instant> = None;
    loop {
        let mut last = String::new();
        for url in urls {
            match ask_to_join(dialer, url, &call).await {
                Ok(beginning) => return Ok(beginning),
                Err(Refused::Never(why)) => return Err(StartError::Founding(format!("join {url}: {why}"))),
                Err(Refused::Now(why)) => last = format!("{url}: {why}"),
            }
        }
        if told.is_none_or(|at| at.elapsed() > TELL) {
            pdlog!(log, Warn, "the cluster to join does not answer, trying again", "error" => last);
            told = Some(Instant::now());
        }
        sleep(AGAIN).await;
    }
}

enum Refused {
    /// Try again.
    Now(String),
    /// Trying again changes nothing.
    Never(String),
}

async fn ask_to_join(dialer: &Dialer, url: &str, call: &Call) -> Result<Beginning, Refused> {
    let tls = dialer.tls().map_err(|e| Refused::Never(e.to_string()))?;
    let answer = send(url, tls.as_ref(), call).await.map_err(|e| match e {
        ClientError::Url(_) | ClientError::Trust(_) => Refused::Never(e.to_string()),
        other => Refused::Now(other.to_string()),
    })?;
    match answer.status {
        200 => {}
        400..500 => return Err(Refused::Never(answer.text.trim().to_owned())),
        _ => return Err(Refused::Now(answer.text.trim().to_owned())),
    }
    let joined: JoinAnswer = serde_json::from_str(&answer.text).map_err(|e| Refused::Never(e.to_string()))?;
    let member = |peer: Peer| Member { id: MemberId(peer.member_id), peer_urls: peer.peer_urls, ..Member::default() };
    Ok(Beginning {
        founding: Founding::Join { cluster: ClusterId(joined.cluster_id), member: MemberId(joined.member_id) },
        others: joined.members.into_iter().map(member).collect(),
    })
}

/// Tells whether somebody who is to be added has an empty folder (see `api::app::PeerProbe`).
#[derive(Debug)]
pub(in crate::server) struct Prober {
    dialer: Arc<Dialer>,
}

impl Prober {
    pub(in crate::server) fn new(config: &Config) -> Self {
        Self { dialer: Arc::new(Dialer::new(&config.security)) }
    }
}

impl crate::api::app::PeerProbe for Prober {
    fn is_blank(&self, name: &str, urls: &[String]) -> futures::future::BoxFuture<'static, bool> {
        let (dialer, name, urls) = (self.dialer.clone(), name.to_owned(), urls.to_vec());
        Box::pin(async move {
            let answers = join_all(urls.iter().map(|url| ask(&dialer, url, &name))).await;
            answers.into_iter().flatten().any(|answer| answer.name == name && !answer.running)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn fresh() -> Said {
        Some(ProbeAnswer { name: "pd-2".into(), ..ProbeAnswer::default() })
    }

    fn running(knows_asker: bool) -> Said {
        Some(ProbeAnswer { running: true, knows_asker, client_urls: vec!["http://a:1".into()], ..fresh().unwrap() })
    }

    #[test]
    fn founders_begin_with_a_quorum_and_never_twice() {
        assert_eq!(decide(&[None, None]), Step::Wait);
        assert_eq!(decide(&[fresh(), None]), Step::Found);
        assert_eq!(decide(&[running(false), None]), Step::Found);
        assert_eq!(decide(&[None, None, fresh(), None]), Step::Wait);
        assert_eq!(decide(&[None, None, fresh(), running(false)]), Step::Found);
        let again = Step::Rejoin(vec!["http://a:1".into()]);
        assert_eq!(decide(&[fresh(), running(true)]), again);
        assert_eq!(decide(&[None, None, None, running(true)]), again);
        // Two know that one of them must be another than before.
        assert_eq!(decide(&[None]), Step::Wait);
    }

    #[test]
    fn the_list_is_names_and_urls() {
        let list = |text: &str| listed(&Config { initial_cluster: text.into(), ..Config::default() });
        let founders = list("a=http://h:1,b=http://h:2, a=http://h:3").unwrap();
        assert_eq!(
            founders[0],
            Founder { name: "a".into(), peer_urls: vec!["http://h:1".into(), "http://h:3".into()] }
        );
        assert_eq!((founders.len(), founders[1].name.as_str()), (2, "b"));
        for wrong in ["a", "=http://h:1", "a=h:1"] {
            assert!(list(wrong).unwrap_err().to_string().contains("is not name=peer-url"), "{wrong}");
        }
    }
}
