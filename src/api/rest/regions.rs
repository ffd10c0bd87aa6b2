//! `/region/id/{id}`, `/region/key/{key}`: one region; `/regions/sibling/{id}`: its neighbours.
//!
//! Owns: finding one region. Must not know: how regions are shown.

use super::{Answer, error::Problem, go, region_json, request::Request};
use crate::model::RegionId;

/// `GET /region/id/{id}`
pub(super) fn by_id(request: &Request) -> Answer {
    let id = request.region_param()?;
    if id == RegionId(0) {
        return Err(Problem::Other(Box::new(super::render::Reply::json(
            axum::http::StatusCode::BAD_REQUEST,
            &serde_json::json!({}),
        ))));
    }
    let region = request.app.cluster.regions().get(id).ok_or_else(|| not_found(id))?;
    Ok(region_json::one(&region))
}

/// `GET /region/key/{key}`
pub(super) fn by_key(request: &Request) -> Answer {
    let mut key = request.key_param("key").map_err(|e| Problem::bad(e.to_string()))?;
    if request.query.text("format") == "hex" {
        key = go::decode_hex(&key).map_err(|e| Problem::bad(e.to_string()))?;
    }
    // PD leaves the template of this text unfilled.
    let region = request.app.cluster.regions().by_key(&key);
    let region = region.ok_or_else(|| Problem::not_found("[PD:region:ErrRegionNotFound]region %v not found"))?;
    Ok(region_json::one(&region))
}

/// `GET /regions/sibling/{id}`
pub(super) fn siblings(request: &Request) -> Answer {
    let id = go::atoi(&request.param("id"))?;
    let id = RegionId(u64::try_from(id).unwrap_or(0));
    let regions = request.app.cluster.regions();
    let region = regions.get(id).ok_or_else(|| not_found(id))?;
    let (left, right) = regions.neighbours(&region);
    Ok(region_json::siblings(left.as_deref(), right.as_deref()))
}

/// 404 for a region id that is not known.
pub(super) fn not_found(id: RegionId) -> Problem {
    Problem::not_found(format!("[PD:region:ErrRegionNotFound]region {id} not found"))
}
