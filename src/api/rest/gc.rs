//! `/gc/safepoint`: up to where old data may go, and who holds it back.
//!
//! Owns: the JSON shape. Must not know: the rules by which safe points move (`meta`).

use serde::Serialize;

use super::{Answer, error::Problem, render::Reply, request::Request};
use crate::meta::{Command, GC_WORKER};

#[derive(Serialize)]
struct ServiceJson {
    service_id: String,
    expired_at: i64,
    safe_point: u64,
}

#[derive(Serialize)]
struct SafePointsJson {
    service_gc_safe_points: Vec<ServiceJson>,
    #[serde(skip_serializing_if = "is_zero")]
    min_service_gc_safe_point: u64,
    gc_safe_point: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// `GET /gc/safepoint`: the GC worker's own stands last, as in PD.
pub(super) fn get(request: &Request) -> Answer {
    let app = &request.app;
    let (state, now) = (app.meta.state(), app.now().wall.unix_seconds());
    let alive = state.barriers.values().filter(|b| b.id != GC_WORKER && b.expires > now);
    let mut services: Vec<_> =
        alive.map(|b| ServiceJson { service_id: b.id.clone(), expired_at: b.expires, safe_point: b.ts }).collect();
    services.push(ServiceJson { service_id: GC_WORKER.to_owned(), expired_at: i64::MAX, safe_point: state.gc.txn });
    let lowest = services.iter().map(|s| s.safe_point).min().unwrap_or(0);
    Ok(Reply::ok(&SafePointsJson {
        service_gc_safe_points: services,
        min_service_gc_safe_point: lowest,
        gc_safe_point: state.gc.gc,
    }))
}

/// `DELETE /gc/safepoint/{service_id}`: also of one that is not there.
pub(super) async fn delete(request: &Request) -> Answer {
    let service_id = request.param("service_id");
    if service_id == GC_WORKER {
        return Err(Problem::failed("TTL of gc_worker's service safe point must be infinity"));
    }
    let command = Command::UpdateServiceGcSafePoint { service_id, ttl: 0, safe_point: 0 };
    request.app.propose(command).await?;
    Ok(Reply::ok(&"Delete service GC safepoint successfully."))
}
