//! What this member does when it begins to lead, and when it does not lead any more.
//!
//! Owns: the order of these steps. Must not know: who is elected and why (`meta`), what a term means for what is observed
//! (`scheduler::cluster`; the observer tells it in the order of the log).

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    api::App,
    meta::{Command, MemberError},
    model::{Mono, Now},
    pdlog, pdsay,
    server::{StartError, streams::Streams},
};

/// Waits for terms of this member to begin and to end, until `shutdown`. `begun` is the beginning of the term that has begun already;
/// `changed` is notified when who leads is different.
pub(in crate::server) async fn follow(
    app: Arc<App>,
    streams: Arc<Streams>,
    changed: Arc<Notify>,
    mut begun: Option<Mono>,
    shutdown: CancellationToken,
) {
    loop {
        let since = app.meta.leader_since();
        if since != begun {
            if begun.is_some() {
                streams.close_all(&Status::unavailable("not leader"));
                pdsay!(app.log, EXIT_PD_LEADER);
            }
            if since.is_some() {
                tell_begin(&app, since, app.now()).await;
            }
            begun = since;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => {}
        }
    }
}

async fn tell_begin(app: &App, since: Option<Mono>, now: Now) {
    pdsay!(app.log, LEADER_ELECTED);
    // Either can fail only because this member does not lead any more, or its disk is gone; both are told by others.
    if let Err(error) = begin(app).await {
        pdlog!(app.log, Warn, "the term of this leader does not begin", "error" => error.to_string());
        return;
    }
    ready(app, since, now);
}

/// What the first calls of a term need: ids in hand, and an agreed configuration.
pub(in crate::server) async fn begin(app: &App) -> Result<(), StartError> {
    app.meta.fill_ids().await?;
    // What the file says holds until the members have agreed on a configuration.
    if app.meta.state().config.is_none() {
        let json = app.dynamic.load().to_json()?;
        app.meta.propose(Command::SaveDynamicConfig { json }).await?;
    }
    Ok(())
}

/// The line that scripts wait for.
pub(in crate::server) fn ready(app: &App, since: Option<Mono>, from: Now) {
    let now = app.now().mono;
    let cost = since.map_or(Duration::ZERO, |since| now.since(since));
    pdsay!(app.log, PD_LEADER_IS_READY_TO_SERVE, &app.info.name, now.since(from.mono), cost);
}

/// How long another member may take to lead before this one ends without waiting for it.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(2);

/// Has another member lead, if there is one that can; returns when it does.
pub(in crate::server) async fn hand_over(app: &App) {
    let meta = &app.meta;
    if meta.leader_since().is_none() || meta.group().voters.len() < 2 {
        return;
    }
    let other_leads = || meta.leader().is_some_and(|leader| leader.id != meta.member_id());
    let handed = async {
        meta.resign().await?;
        while !other_leads() {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<_, MemberError>(())
    };
    match tokio::time::timeout(HAND_OVER, handed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            pdlog!(app.log, Warn, "no other member takes over", "error" => error.to_string());
        }
        Err(_) => pdlog!(app.log, Warn, "no other member takes over", "error" => "none leads yet"),
    }
}
