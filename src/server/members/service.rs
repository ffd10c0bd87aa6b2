//! The peer port's service: takes messages of other members, and says who is here.
//!
//! Owns: who may call, and what is checked before a message is passed on. Must not know: what a message says; who leads.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::{Request as HttpRequest, State},
    middleware::{Next, from_fn_with_state},
    response::Response as HttpResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    mail::{CLUSTER_ID, MEMBER_ID, Mail, PEER_URLS},
    warm,
};
use crate::{
    api::{
        App,
        roles::{self, Role},
    },
    config::{BerthConfig, Config},
    meta::{MAX_PEER_MESSAGE, Meta, PeerError},
    model::MemberId,
    proto::{
        berth_peer::{
            Delivered, Parcel, ProbeAnswer, ProbeRequest,
            peer_server::{Peer, PeerServer},
        },
        berth_warm::warm_server::WarmServer,
    },
    server::REMOVED,
    telemetry::log::Logger,
};

/// Longest parcel: the longest message, beside shorter ones.
const MAX_PARCEL: usize = MAX_PEER_MESSAGE + (2 << 20);
/// Longest list of URLs that a member may say about itself.
const MAX_URLS: usize = 4096;

/// What the peer port answers from. It is there before this member has state: those who begin together ask each other.
pub(in crate::server) struct Here {
    name: String,
    berth: BerthConfig,
    log: Logger,
    meta: OnceLock<(Meta, Mail)>,
    app: OnceLock<Arc<App>>,
    ended: CancellationToken,
}

impl std::fmt::Debug for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Here").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Here {
    pub(super) fn new(config: &Config, log: Logger, ended: CancellationToken) -> Self {
        let (name, berth) = (config.name.clone(), config.berth.clone());
        Self { name, berth, log, meta: OnceLock::new(), app: OnceLock::new(), ended }
    }

    /// This member has state from here on.
    pub(super) fn open(&self, meta: Meta, mail: Mail) {
        // A second one would be the same.
        drop(self.meta.set((meta, mail)));
    }

    /// What there is to tell others is here from now on.
    pub(super) fn show(&self, app: Arc<App>) {
        // A second one would be the same.
        drop(self.app.set(app));
    }

    pub(super) fn app(&self) -> Option<&Arc<App>> {
        self.app.get()
    }

    pub(super) fn mail(&self) -> Option<&Mail> {
        self.meta.get().map(|(_, mail)| mail)
    }

    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn probe(&self, asker: &str) -> ProbeAnswer {
        let Some((meta, _)) = self.meta.get() else {
            return ProbeAnswer { name: self.name.clone(), ..ProbeAnswer::default() };
        };
        let (leader, mut members) = (meta.leader().map(|l| l.id), meta.members());
        members.sort_by_key(|m| Some(m.id) != leader);
        ProbeAnswer {
            name: self.name.clone(),
            running: true,
            cluster_id: meta.cluster_id().0,
            member_id: meta.member_id().0,
            // A member says where clients reach it as soon as it takes part; before, its row has only what founders know.
            knows_asker: members.iter().any(|m| m.name == asker && !m.client_urls.is_empty()),
            client_urls: members.into_iter().flat_map(|m| m.client_urls).collect(),
        }
    }
}

/// The routes of the peer port.
pub(super) fn router(here: Arc<Here>) -> axum::Router {
    let warm = WarmServer::new(warm::Service(here.clone()));
    let service = PeerServer::new(Service(here.clone())).max_decoding_message_size(MAX_PARCEL);
    let routes = tonic::service::Routes::new(service).add_service(warm).into_axum_router();
    routes.layer(from_fn_with_state(here, members_only))
}

/// Refuses who is no member, where roles are in force: messages of the group are believed, and the warm copy holds all regions.
async fn members_only(State(here): State<Arc<Here>>, request: HttpRequest, next: Next) -> HttpResponse {
    match roles::admit_grpc(&here.berth, &here.log, &request, Role::Admin) {
        Ok(()) => next.run(request).await,
        Err(denied) => Status::permission_denied(denied.to_string()).into_http(),
    }
}

#[derive(Debug)]
struct Service(Arc<Here>);

#[tonic::async_trait]
impl Peer for Service {
    async fn deliver(&self, request: Request<Streaming<Parcel>>) -> Result<Response<Delivered>, Status> {
        let Some((meta, mail)) = self.0.meta.get() else {
            return Err(Status::unavailable("this member has not begun yet"));
        };
        let sender = sender(meta, request.metadata())?;
        if let Some((member, urls)) = &sender {
            mail.meet(*member, urls.clone());
        }
        let mut parcels = request.into_inner();
        loop {
            let parcel = tokio::select! {
                biased;
                () = self.0.ended.cancelled() => return Err(Status::unavailable("server is closing")),
                parcel = parcels.message() => parcel?,
            };
            let Some(parcel) = parcel else { return Ok(Response::new(Delivered {})) };
            if sender.as_ref().is_some_and(|(member, _)| was_removed(meta, *member)) {
                return Err(Status::failed_precondition(REMOVED));
            }
            for message in parcel.messages {
                // The others are counted, and what matters is sent again.
                if meta.receive(&message) == Err(PeerError::Stopped) {
                    return Err(Status::unavailable(PeerError::Stopped.to_string()));
                }
            }
        }
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeAnswer>, Status> {
        Ok(Response::new(self.0.probe(&request.into_inner().name)))
    }
}

/// Whether a member that sends messages is none any more. Only the leader knows; others may not have heard of those that are new.
fn was_removed(meta: &Meta, member: MemberId) -> bool {
    let group = meta.group();
    meta.is_leader() && !group.voters.contains(&member) && !group.learners.contains(&member)
}

/// Who calls, and where it is reached, if it says so.
fn sender(meta: &Meta, head: &MetadataMap) -> Result<Option<(MemberId, Vec<String>)>, Status> {
    let text = |key: &str| head.get(key).and_then(|value| value.to_str().ok());
    let number = |key: &str| text(key).and_then(|value| value.parse::<u64>().ok());
    let (need, got) = (meta.cluster_id().0, number(CLUSTER_ID).unwrap_or_default());
    if got != need {
        return Err(Status::failed_precondition(format!("mismatch cluster id, need {need} but got {got}")));
    }
    let urls = text(PEER_URLS).filter(|urls| urls.len() <= MAX_URLS);
    Ok(number(MEMBER_ID).zip(urls).map(|(id, urls)| (MemberId(id), urls.split(',').map(str::to_owned).collect())))
}
