//! Look-ups of regions by key, id and range.

use std::{collections::HashMap, sync::Arc};

use tonic::Streaming;

use super::{Answers, header};
use crate::{
    api::{ApiError, App, convert, error::header_error},
    model::{KeyRange, Region, RegionId, key::before_end},
    proto::{metapb, pdpb},
    telemetry::metrics::values::RegionQuery,
};

/// Most regions in one answer. Clients page; a limit of 0 or less means as many as this.
const MAX_SCAN: usize = 10_240;
/// Most look-ups in one message of `QueryRegion`: PD's client batches 10,000.
const MAX_QUERIES: usize = 10_240;
/// Most ranges in one `BatchScanRegions`.
const MAX_RANGES: usize = 10_240;

fn found(region: Option<Arc<Region>>, need_buckets: bool) -> pdpb::GetRegionResponse {
    let Some(region) = region else { return pdpb::GetRegionResponse::default() };
    let buckets = buckets(&region, need_buckets);
    let (region, leader, down_peers, pending_peers) = convert::region_parts(&region);
    pdpb::GetRegionResponse { region: Some(region), leader, down_peers, pending_peers, buckets, ..Default::default() }
}

/// The buckets of a region, for who asked for them.
fn buckets(region: &Region, need_buckets: bool) -> Option<metapb::Buckets> {
    need_buckets.then(|| convert::buckets_to_wire(region)).flatten()
}

/// `GetRegion`.
pub(super) async fn by_key(app: &App, request: pdpb::GetRegionRequest) -> Result<pdpb::GetRegionResponse, ApiError> {
    app.require_bootstrapped()?;
    Ok(found(app.cluster.regions().by_key(&request.region_key), request.need_buckets))
}

/// `GetPrevRegion`.
pub(super) async fn before_key(
    app: &App,
    request: pdpb::GetRegionRequest,
) -> Result<pdpb::GetRegionResponse, ApiError> {
    app.require_bootstrapped()?;
    Ok(found(app.cluster.regions().prev_of_key(&request.region_key), request.need_buckets))
}

/// `GetRegionByID`.
pub(super) async fn by_id(app: &App, request: pdpb::GetRegionByIdRequest) -> Result<pdpb::GetRegionResponse, ApiError> {
    app.require_bootstrapped()?;
    Ok(found(app.cluster.regions().get(RegionId(request.region_id)), request.need_buckets))
}

/// A limit as clients give it.
fn bounded(limit: i32) -> usize {
    match usize::try_from(limit) {
        Ok(limit @ 1..) => limit.min(MAX_SCAN),
        _ => MAX_SCAN,
    }
}

/// A region in a list: a missing leader is an empty peer there.
fn listed(region: &Region, need_buckets: bool) -> pdpb::Region {
    let buckets = buckets(region, need_buckets);
    let (region, leader, down_peers, pending_peers) = convert::region_parts(region);
    pdpb::Region { region: Some(region), leader: Some(leader.unwrap_or_default()), down_peers, pending_peers, buckets }
}

/// `ScanRegions`. Old clients read the first two lists, newer ones the third.
pub(super) async fn scan(app: &App, request: pdpb::ScanRegionsRequest) -> Result<pdpb::ScanRegionsResponse, ApiError> {
    app.require_bootstrapped()?;
    let range = KeyRange::new(&request.start_key[..], &request.end_key[..]);
    if range.is_empty() {
        return Ok(pdpb::ScanRegionsResponse::default());
    }
    let regions = app.cluster.regions().scan(&range, bounded(request.limit));
    let regions: Vec<pdpb::Region> = regions.iter().map(|r| listed(r, false)).collect();
    Ok(pdpb::ScanRegionsResponse {
        region_metas: regions.iter().filter_map(|r| r.region.clone()).collect(),
        leaders: regions.iter().map(|r| r.leader.unwrap_or_default()).collect::<Vec<metapb::Peer>>(),
        regions,
        ..Default::default()
    })
}

/// Checks the ranges of a `BatchScanRegions`: each in order, none over the one before.
fn ranges(request: &pdpb::BatchScanRegionsRequest) -> Result<Vec<KeyRange>, ApiError> {
    let bad = |text: String| Err(ApiError::Invalid(text));
    if request.ranges.len() > MAX_RANGES {
        return bad(format!("too many key ranges: {}, the most is {MAX_RANGES}", request.ranges.len()));
    }
    let mut before: Option<&pdpb::KeyRange> = None;
    for range in &request.ranges {
        if before.is_some_and(|b| range.start_key < b.end_key) {
            return bad("invalid key range, ranges overlapped".into());
        }
        if !range.end_key.is_empty() && range.start_key > range.end_key {
            return bad("invalid key range, start key > end key".into());
        }
        before = Some(range);
    }
    Ok(request.ranges.iter().map(|r| KeyRange::new(&r.start_key[..], &r.end_key[..])).collect())
}

/// `BatchScanRegions`: the regions that touch the ranges, each once.
pub(super) async fn batch_scan(
    app: &App,
    request: pdpb::BatchScanRegionsRequest,
) -> Result<pdpb::BatchScanRegionsResponse, ApiError> {
    app.require_bootstrapped()?;
    let limit = bounded(request.limit);
    let mut regions: Vec<Arc<Region>> = vec![];
    for mut range in ranges(&request)? {
        if regions.len() >= limit {
            break;
        }
        // The last region of the range before may reach into this one; it stands in the answer already.
        if let Some(last) = regions.last().map(|r| r.range()).filter(|last| before_end(&range.start, &last.end)) {
            if last.end.is_empty() || (!range.end.is_empty() && range.end <= last.end) {
                continue;
            }
            range.start = last.end.clone();
        }
        let part = app.cluster.regions().scan(&range, limit - regions.len());
        if request.contain_all_key_range && has_hole(&range, &part, limit - regions.len()) {
            let text = "[PD:region:ErrRegionNotAdjacent]two regions are not adjacent".to_owned();
            return Err(ApiError::Coded(pdpb::ErrorType::RegionsNotContainAllKeyRange, text));
        }
        regions.extend(part);
    }
    let regions = regions.iter().map(|r| listed(r, request.need_buckets)).collect();
    Ok(pdpb::BatchScanRegionsResponse { regions, ..Default::default() })
}

/// Whether a key of `range` lies in none of `regions`, as far as the limit let them be read.
fn has_hole(range: &KeyRange, regions: &[Arc<Region>], limit: usize) -> bool {
    let (Some(first), Some(last)) = (regions.first(), regions.last()) else { return !range.is_empty() };
    let gap = regions.windows(2).any(|pair| pair[0].range().end != pair[1].range().start);
    let reaches_end = last.range().end.is_empty() || (!range.end.is_empty() && last.range().end >= range.end);
    gap || first.range().start > range.start || (!reaches_end && regions.len() < limit)
}

/// `QueryRegion`: many look-ups in one message, one answer each.
pub(super) fn query(
    app: Arc<App>,
    requests: Streaming<pdpb::QueryRegionRequest>,
) -> Answers<pdpb::QueryRegionResponse> {
    header::one_by_one(app, requests, |app: Arc<App>, request: pdpb::QueryRegionRequest| async move {
        header::check_request(&app, &request)?;
        if app.require_bootstrapped().is_err() {
            let error = header_error(pdpb::ErrorType::NotBootstrapped, ApiError::NotBootstrapped.to_string());
            return Ok(header::refusal(&app, error));
        }
        let answer = header::answer(&app, query_one(&app, &request))?;
        // Again: what was looked up may be another leader's past by now (L6).
        header::check_leader(&app)?;
        Ok(answer)
    })
}

fn query_one(app: &App, request: &pdpb::QueryRegionRequest) -> Result<pdpb::QueryRegionResponse, ApiError> {
    let queries = request.keys.len() + request.prev_keys.len() + request.ids.len();
    if queries > MAX_QUERIES {
        return Err(ApiError::Invalid(format!("too many queries: {queries}, the most is {MAX_QUERIES}")));
    }
    let start = app.now().mono;
    let index = app.cluster.regions();
    let mut regions_by_id = HashMap::with_capacity(queries);
    // An id of 0 tells that there is no region.
    let mut take = |region: Option<Arc<Region>>| {
        region.map_or(0, |region| {
            let id = region.id().0;
            regions_by_id.entry(id).or_insert_with(|| {
                let buckets = buckets(&region, request.need_buckets);
                let (region, leader, down_peers, pending_peers) = convert::region_parts(&region);
                pdpb::RegionResponse { region: Some(region), leader, down_peers, pending_peers, buckets }
            });
            id
        })
    };
    let key_id_map = request.keys.iter().map(|key| take(index.by_key(key))).collect();
    let prev_key_id_map = request.prev_keys.iter().map(|key| take(index.prev_of_key(key))).collect();
    for id in &request.ids {
        take(index.get(RegionId(*id)));
    }
    for (kind, count) in [
        (RegionQuery::Keys, request.keys.len()),
        (RegionQuery::PrevKeys, request.prev_keys.len()),
        (RegionQuery::Ids, request.ids.len()),
    ] {
        app.metrics.regions.query.with_label_values(&[kind.as_str()]).inc_by(count as u64);
    }
    app.metrics.requests.query_region_seconds.observe(app.now().mono.since(start).as_secs_f64());
    Ok(pdpb::QueryRegionResponse { key_id_map, prev_key_id_map, regions_by_id, ..Default::default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::RegionMeta;

    fn region(start: &str, end: &str) -> Arc<Region> {
        let range = KeyRange::new(start.as_bytes(), end.as_bytes());
        Arc::new(Region { meta: Arc::new(RegionMeta { range, ..Default::default() }), ..Default::default() })
    }

    fn range(start: &str, end: &str) -> pdpb::KeyRange {
        pdpb::KeyRange { start_key: start.to_owned().into(), end_key: end.to_owned().into() }
    }

    #[test]
    fn limits_are_bounded() {
        for (given, want) in [(0, MAX_SCAN), (-1, MAX_SCAN), (1, 1), (i32::MAX, MAX_SCAN)] {
            assert_eq!(bounded(given), want);
        }
    }

    #[test]
    fn ranges_must_be_in_order() {
        let check = |list: Vec<pdpb::KeyRange>| {
            ranges(&pdpb::BatchScanRegionsRequest { ranges: list, ..Default::default() }).map_err(|e| e.to_string())
        };
        assert_eq!(check(vec![range("a", "c"), range("c", "")]).unwrap().len(), 2);
        assert_eq!(check(vec![range("a", "p"), range("n", "z")]).unwrap_err(), "invalid key range, ranges overlapped");
        assert_eq!(check(vec![range("z", "a")]).unwrap_err(), "invalid key range, start key > end key");
        assert!(check(vec![range("", ""); MAX_RANGES + 1]).is_err());
    }

    #[test]
    fn holes_are_found() {
        let whole = KeyRange::new(&b"a"[..], &b"z"[..]);
        for (regions, hole) in [
            (vec![], true),
            (vec![region("", "")], false),
            (vec![region("a", "m"), region("m", "z")], false),
            (vec![region("a", "m"), region("n", "")], true),
            (vec![region("b", "")], true),
            (vec![region("a", "m")], true),
        ] {
            assert_eq!(has_hole(&whole, &regions, 10), hole, "{regions:?}");
        }
        assert!(!has_hole(&whole, &[region("a", "m")], 1), "the limit ended the scan, not a hole");
    }
}
