//! The warm copy on its way: the leader's side and the follower's.
//!
//! Owns: the calls, their pauses and bounds. Must not know: what a part says (`store::warm`), who is elected.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{mail::Mail, service::Here};
use crate::{
    api::{App, convert},
    meta::MAX_MEMBERS,
    model::{MemberId, Mono},
    pdlog,
    proto::berth_warm::{FollowRequest, Part, warm_client::WarmClient, warm_server::Warm},
    store::warm::{Position, Reader, reader::Next},
};

/// How often the leader looks for changes when a follower has all of them: what comes meanwhile travels together. Of a million regions
/// with traffic a part tells of some 800.
const LOOK: Duration = Duration::from_millis(50);
/// How often a part is sent although nothing has changed: a follower that hears nothing for longer is not up to date.
const BEAT: Duration = Duration::from_secs(1);
/// How long a follower waits for a part before it calls anew.
const SILENCE: Duration = Duration::from_secs(5);
/// Pause after a call that ended; it doubles up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_millis(3200);
/// Most that follow at once. Some room for calls that have ended without a word.
const MAX_FOLLOWERS: usize = 2 * MAX_MEMBERS;
/// Longest part: about 1 MiB of regions, beside stores.
const MAX_PART: usize = 8 << 20;

/// The leader's side of one call.
struct Telling {
    app: Arc<App>,
    reader: Reader,
    sent: Option<Mono>,
    /// More waits already.
    more: bool,
    ended: CancellationToken,
}

impl Telling {
    /// The next part; an error is the last word.
    async fn next(&mut self) -> Result<Part, Status> {
        loop {
            if !self.more {
                tokio::select! {
                    () = self.ended.cancelled() => return Err(Status::unavailable("server is closing")),
                    () = sleep(LOOK) => {}
                }
            }
            let now = self.app.now();
            let Next::Part(part, more) = self.app.cluster.next_part(&mut self.reader, now) else {
                return Err(Status::unavailable("not leader"));
            };
            self.more = more;
            let says =
                !(part.regions.is_empty() && part.gone.is_empty() && part.stores.is_empty() && part.flows.is_empty());
            let due = self.sent.is_none_or(|at| now.mono.since(at) >= BEAT);
            if says || due || part.span.is_some() || part.more_stores {
                self.sent = Some(now.mono);
                return Ok(convert::warm::part_to_wire(&part));
            }
        }
    }
}

/// The service of the peer port.
#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Here>);

#[tonic::async_trait]
impl Warm for Service {
    type FollowStream = BoxStream<'static, Result<Part, Status>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let Some(app) = self.0.app() else { return Err(Status::unavailable("this member has not begun yet")) };
        let FollowRequest { cluster_id, term, next, .. } = request.into_inner();
        let need = app.meta.cluster_id().0;
        if need != cluster_id {
            return Err(Status::failed_precondition(format!("mismatch cluster id, need {need} but got {cluster_id}")));
        }
        if app.cluster.feed().followers() >= MAX_FOLLOWERS {
            return Err(Status::resource_exhausted("too many follow already"));
        }
        let position = (term > 0).then_some(Position { term, next });
        let Some(reader) = app.cluster.open_reader(position) else { return Err(Status::unavailable("not leader")) };
        let telling = Telling { app: app.clone(), reader, sent: None, more: true, ended: self.0.ended().clone() };
        let parts = futures::stream::unfold(Some(telling), async |telling| {
            let mut telling = telling?;
            match telling.next().await {
                Ok(part) => Some((Ok(part), Some(telling))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(parts.boxed()))
    }
}

/// Follows whoever leads, while this member does not, until `shutdown`.
pub(in crate::server) async fn follow(app: Arc<App>, mail: Mail, shutdown: CancellationToken) {
    let (mut pause, mut told) = (PAUSE, false);
    loop {
        let leader = app.meta.leader().map(|leader| leader.id).filter(|id| *id != app.meta.member_id());
        if let Some(leader) = leader {
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = listen(&app, &mail, leader) => ended,
            };
            (pause, told) = match ended {
                // It has told something: the next call may come soon.
                Ok(()) => (PAUSE, false),
                Err(error) => {
                    if !told && !app.cluster.is_leading() {
                        pdlog!(app.log, Warn, "the leader's regions are not followed", "leader" => leader.0, "error" => error);
                    }
                    ((2 * pause).min(MAX_PAUSE), true)
                }
            };
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// One call. An error: it has told nothing.
async fn listen(app: &App, mail: &Mail, leader: MemberId) -> Result<(), String> {
    let channel = mail.connect(leader).await.map_err(|error| error.to_string())?;
    let at = app.cluster.copy().position();
    let request = FollowRequest {
        cluster_id: app.meta.cluster_id().0,
        member_id: app.meta.member_id().0,
        term: at.map_or(0, |at| at.term),
        next: at.map_or(0, |at| at.next),
    };
    let mut client = WarmClient::new(channel).max_decoding_message_size(MAX_PART);
    let call = timeout(SILENCE, client.follow(request)).await.map_err(|_| "it does not answer".to_owned())?;
    let mut parts = call.map_err(|status| status.to_string())?.into_inner();
    let mut ended = Err("it has told nothing".to_owned());
    while let Ok(Ok(Some(part))) = timeout(SILENCE, parts.message()).await {
        let now = app.now();
        let part = convert::warm::part_from_wire(&part, now.mono);
        if app.act(|cluster| cluster.take_copy(&part, now)).is_err() {
            // A gap is made good by the next call; one who leads follows nobody.
            return ended;
        }
        ended = Ok(());
        if app.meta.leader().is_none_or(|known| known.id != leader) {
            return ended;
        }
    }
    ended
}
