//! Timestamps.

use std::sync::Arc;

use tonic::Streaming;

use super::{Answers, header};
use crate::{
    api::{ApiError, App, app::in_time},
    meta::MetaError,
    proto::pdpb,
    telemetry::metrics::values::TsoEvent,
};

/// `Tso`: one answer for each request of the stream, in order; the logical part is that of the last of `count`. `dc_location` is not
/// looked at: all timestamps are global.
pub(super) fn serve(app: Arc<App>, requests: Streaming<pdpb::TsoRequest>) -> Answers<pdpb::TsoResponse> {
    header::one_by_one(app, requests, |app: Arc<App>, request: pdpb::TsoRequest| async move {
        let cluster_id = request.header.as_ref().map_or(0, |h| h.cluster_id);
        header::check_cluster_id(&app, cluster_id)?;
        let start = app.now().mono;
        let timestamp = timestamp(&app, request.count).await.map_err(ApiError::into_status)?;
        app.metrics.tso.request_seconds.observe(app.now().mono.since(start).as_secs_f64());
        app.metrics.tso.batch_size.observe(f64::from(request.count));
        let mut answer = pdpb::TsoResponse { count: request.count, timestamp: Some(timestamp), ..Default::default() };
        answer.header = Some(header::header(&app, None));
        Ok(answer)
    })
}

async fn timestamp(app: &App, count: u32) -> Result<pdpb::Timestamp, ApiError> {
    let ts = in_time(app.meta.tso(count)).await.inspect_err(|error| count_refusal(app, error))?;
    Ok(pdpb::Timestamp { physical: ts.physical_ms, logical: ts.logical, suffix_bits: 0 })
}

fn count_refusal(app: &App, error: &MetaError) {
    let event = match error {
        MetaError::NotLeader { .. } => TsoEvent::NotLeader,
        MetaError::Timestamp(text) if text.ends_with("retries exceeded") => TsoEvent::ExceededMaxRetry,
        _ => return,
    };
    app.metrics.tso.events.with_label_values(&[event.as_str(), "0"]).inc();
}

/// `GetMinTS`: with all timestamps from one place, the least is the next.
pub(super) async fn min_ts(app: &App, _: pdpb::GetMinTsRequest) -> Result<pdpb::GetMinTsResponse, ApiError> {
    Ok(pdpb::GetMinTsResponse { timestamp: Some(timestamp(app, 1).await?), ..Default::default() })
}
