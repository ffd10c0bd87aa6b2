//! GC safe points: the calls of older clients, mapped onto the two points and the barriers that `meta` keeps.

use crate::{
    api::{ApiError, App, lines},
    meta::{Command, Reply},
    proto::pdpb,
};

/// `GetGCSafePoint`.
pub(super) async fn get(app: &App, _: pdpb::GetGcSafePointRequest) -> Result<pdpb::GetGcSafePointResponse, ApiError> {
    app.require_bootstrapped()?;
    Ok(pdpb::GetGcSafePointResponse { safe_point: app.meta.state().gc.gc, ..Default::default() })
}

/// `UpdateGCSafePoint`: a lower value changes nothing and gets the present one.
pub(super) async fn update(
    app: &App,
    request: pdpb::UpdateGcSafePointRequest,
) -> Result<pdpb::UpdateGcSafePointResponse, ApiError> {
    app.require_bootstrapped()?;
    let value = request.safe_point;
    lines::old_gc_call(&app.log, value);
    let reply = app.propose(Command::UpdateGcSafePoint { value }).await.map_err(ApiError::bare)?;
    let Reply::GcSafePoint { points, previous } = reply else { return Err(ApiError::unexpected("UpdateGCSafePoint")) };
    if points.gc > previous {
        lines::gc_moved(&app.log, points.gc);
    } else if value < previous {
        lines::gc_not_moved(&app.log, previous, value);
    }
    Ok(pdpb::UpdateGcSafePointResponse { new_safe_point: points.gc, ..Default::default() })
}

/// `UpdateServiceGCSafePoint`: answers with the lowest of all.
pub(super) async fn update_service(
    app: &App,
    request: pdpb::UpdateServiceGcSafePointRequest,
) -> Result<pdpb::UpdateServiceGcSafePointResponse, ApiError> {
    app.require_bootstrapped()?;
    let invalid = |_| ApiError::Bare("[PD:common:ErrInvalidArgument]invalid argument for barrierID: not a text".into());
    let service_id = String::from_utf8(request.service_id.to_vec()).map_err(invalid)?;
    let (ttl, safe_point) = (request.ttl, request.safe_point);
    lines::old_service_gc_call(&app.log, &service_id, ttl, safe_point);
    let command = Command::UpdateServiceGcSafePoint { service_id: service_id.clone(), ttl, safe_point };
    let reply = app.propose(command).await.map_err(ApiError::bare)?;
    let Reply::ServiceSafePoint { lowest, updated } = reply else {
        return Err(ApiError::unexpected("UpdateServiceGCSafePoint"));
    };
    let now = app.now().wall.unix_seconds();
    if updated {
        lines::service_gc(&app.log, &service_id, now.saturating_add(ttl), safe_point);
    }
    Ok(pdpb::UpdateServiceGcSafePointResponse {
        service_id: lowest.id.into_bytes().into(),
        ttl: lowest.expires.saturating_sub(now),
        min_safe_point: lowest.ts,
        ..Default::default()
    })
}
