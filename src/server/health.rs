//! Health as gRPC tells it (`grpc.health.v1`), for load balancers that ask that way.
//!
//! Owns: when it is told. Must not know: what makes a member unwell ([`App::unwell`]).

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::api::App;

/// How often it is looked whether there is a leader, and a disk. That the end was asked for is told at once.
const LOOK: Duration = Duration::from_millis(100);
/// The whole server, as the protocol names it.
const ALL: &str = "";

/// Tells how this member is, until `shutdown`.
pub(super) async fn tell(app: Arc<App>, reporter: HealthReporter, shutdown: CancellationToken) {
    let mut told = true;
    loop {
        let well = app.unwell().is_none();
        if well != told {
            let status = if well { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(ALL, status).await;
            told = well;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.leaving.cancelled(), if well => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
