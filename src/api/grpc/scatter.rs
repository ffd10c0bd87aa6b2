//! Scattering and splitting many regions, as SQL nodes ask for it.

use crate::{
    api::{ApiError, App},
    model::{Key, RegionId},
    proto::pdpb,
};

/// Who calls: gRPC clients do not say it.
const UNNAMED: &str = "";

fn keys(raw: Vec<bytes::Bytes>) -> Vec<Key> {
    raw.into_iter().map(|key| Key::from(&key[..])).collect()
}

/// `ScatterRegion`: many regions, or (old clients) one.
pub(super) async fn scatter(
    app: &App,
    request: pdpb::ScatterRegionRequest,
) -> Result<pdpb::ScatterRegionResponse, ApiError> {
    app.require_bootstrapped()?;
    let (group, skip) = (&request.group, request.skip_store_limit);
    if !request.regions_id.is_empty() {
        let ids: Vec<_> = request.regions_id.iter().copied().map(RegionId).collect();
        let scattered = app.scatter(&ids, group, request.retry_limit, skip, UNNAMED).await?;
        let failed_regions_id = scattered.failed.iter().map(|(id, _)| id.0).collect();
        let finished_percentage = scattered.percent();
        return Ok(pdpb::ScatterRegionResponse { finished_percentage, failed_regions_id, ..Default::default() });
    }
    #[allow(deprecated)] // what old clients send
    let id = RegionId(request.region_id);
    if app.cluster.regions().get(id).is_none() {
        // PD leaves its template unfilled; a client may look for just this.
        return Err(ApiError::Coded(pdpb::ErrorType::RegionNotFound, "region %d not found".to_owned()));
    }
    let scattered = app.scatter(&[id], group, 0, skip, UNNAMED).await?;
    if let Some((_, text)) = scattered.failed.into_iter().next() {
        return Err(ApiError::Bare(text));
    }
    Ok(pdpb::ScatterRegionResponse { finished_percentage: 100, ..Default::default() })
}

/// `SplitRegions`
pub(super) async fn split(
    app: &App,
    request: pdpb::SplitRegionsRequest,
) -> Result<pdpb::SplitRegionsResponse, ApiError> {
    app.require_bootstrapped()?;
    let (finished_percentage, regions) =
        app.split_regions(&keys(request.split_keys), request.retry_limit, UNNAMED).await?;
    let regions_id = regions.iter().map(|id| id.0).collect();
    Ok(pdpb::SplitRegionsResponse { finished_percentage, regions_id, ..Default::default() })
}

/// `SplitAndScatterRegions`
pub(super) async fn split_and_scatter(
    app: &App,
    request: pdpb::SplitAndScatterRegionsRequest,
) -> Result<pdpb::SplitAndScatterRegionsResponse, ApiError> {
    app.require_bootstrapped()?;
    let (split, regions) = app.split_regions(&keys(request.split_keys), request.retry_limit, UNNAMED).await?;
    let scattered = app.scatter(&regions, &request.group, request.retry_limit, false, UNNAMED).await?;
    Ok(pdpb::SplitAndScatterRegionsResponse {
        split_finished_percentage: split,
        scatter_finished_percentage: scattered.percent(),
        regions_id: regions.iter().map(|id| id.0).collect(),
        ..Default::default()
    })
}
