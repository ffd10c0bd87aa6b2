//! Splits: ids for new regions, and reports of splits that were made.

use crate::{
    api::{ApiError, App, app::in_time, compact_text::compact_opt, convert, lines},
    model::{Feature, RegionId, key::before_end},
    proto::{metapb, pdpb},
};

/// Most regions that one region is split into at once. Nodes split into a few; each part takes an id and one for each peer.
const MAX_SPLITS: u32 = 1024;
/// Most ids in one answer: what `meta` gives at once.
const MAX_IDS: usize = 10_000;

fn missing() -> ApiError {
    ApiError::Coded(pdpb::ErrorType::RegionNotFound, "missing region for split".into())
}

/// Whether `region` may be split now: scheduling is not halted, and the asker is not behind.
fn check(app: &App, region: &metapb::Region) -> Result<(), ApiError> {
    let schedule = &app.cluster.settings().schedule;
    if schedule.halt_scheduling {
        return Err(ApiError::Invalid("[PD:cluster:ErrSchedulingIsHalted]scheduling is halted".into()));
    }
    if !schedule.enable_tikv_split_region {
        return Err(ApiError::Invalid("[PD:scheduler:ErrSchedulerTiKVSplitDisabled]tikv split region disabled".into()));
    }
    let Some(known) = app.cluster.regions().by_key(&region.start_key) else {
        return Err(ApiError::Invalid(format!("region not found, request: {}", convert::hex_region_text(region))));
    };
    if convert::epoch(region.region_epoch.as_ref()).is_older_than(known.epoch()) {
        let asked = compact_opt("metapb.RegionEpoch", region.region_epoch.as_ref());
        let current = compact_opt("metapb.RegionEpoch", Some(&convert::epoch_to_wire(known.epoch())));
        return Err(ApiError::Invalid(format!("invalid region epoch, request: {asked}, current: {current}")));
    }
    Ok(())
}

/// New ids for `count` regions that `region` is split into, with `peers` peers each: of the region first, then of its peers.
async fn split_ids(app: &App, region: RegionId, count: u32, peers: usize) -> Result<Vec<pdpb::SplitId>, ApiError> {
    let each = peers + 1;
    let total = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(each);
    if count > MAX_SPLITS || total > MAX_IDS {
        return Err(ApiError::Invalid(format!(
            "too many regions to split into: {count} with {peers} peers each, the most is {MAX_SPLITS} and {MAX_IDS} ids"
        )));
    }
    if count == 0 {
        return Ok(vec![]);
    }
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    let last = in_time(app.meta.alloc_ids(total)).await?;
    let mut next = last + 1 - u64::from(total);
    let mut take = || {
        next += 1;
        next - 1
    };
    let ids =
        (0..count).map(|_| pdpb::SplitId { new_region_id: take(), new_peer_ids: (0..peers).map(|_| take()).collect() });
    let ids: Vec<_> = ids.collect();
    app.cluster.regions_split(ids.iter().map(|id| RegionId(id.new_region_id)).chain([region]).collect(), app.now());
    for id in &ids {
        lines::split_ids(&app.log, id.new_region_id, &id.new_peer_ids);
    }
    Ok(ids)
}

/// `AskSplit`, from old nodes.
pub(super) async fn ask(app: &App, request: pdpb::AskSplitRequest) -> Result<pdpb::AskSplitResponse, ApiError> {
    app.require_bootstrapped()?;
    let region = request.region.ok_or_else(missing)?;
    check(app, &region)?;
    let id = split_ids(app, RegionId(region.id), 1, region.peers.len()).await?.pop().unwrap_or_default();
    Ok(pdpb::AskSplitResponse { new_region_id: id.new_region_id, new_peer_ids: id.new_peer_ids, ..Default::default() })
}

/// `AskBatchSplit`. An unknown region gets ids all the same: it may be newer than what is known.
pub(super) async fn ask_batch(
    app: &App,
    request: pdpb::AskBatchSplitRequest,
) -> Result<pdpb::AskBatchSplitResponse, ApiError> {
    app.require_bootstrapped()?;
    let version = app.cluster.settings().version.clone();
    if !version.supports(Feature::BatchSplit) {
        let text = format!("batch_split incompatible with current cluster version {version}");
        return Err(ApiError::Coded(pdpb::ErrorType::IncompatibleVersion, text));
    }
    let region = request.region.ok_or_else(missing)?;
    check(app, &region)?;
    let ids = split_ids(app, RegionId(region.id), request.split_count, region.peers.len()).await?;
    Ok(pdpb::AskBatchSplitResponse { ids, ..Default::default() })
}

/// Whether regions follow each other without a gap and none is empty.
fn in_a_row(regions: &[metapb::Region]) -> bool {
    let meet = regions.windows(2).all(|pair| pair[0].end_key == pair[1].start_key);
    regions.len() > 1 && meet && regions.iter().skip(1).all(|r| before_end(&r.start_key, &r.end_key))
}

fn invalid_split() -> ApiError {
    ApiError::Invalid("invalid split region".into())
}

/// `ReportSplit`, from old nodes. Heartbeats bring the regions; the report is only told.
pub(super) async fn report(
    app: &App,
    request: pdpb::ReportSplitRequest,
) -> Result<pdpb::ReportSplitResponse, ApiError> {
    app.require_bootstrapped()?;
    let (Some(left), Some(right)) = (request.left, request.right) else { return Err(invalid_split()) };
    if left.end_key != right.start_key || !before_end(&left.start_key, &right.end_key) {
        return Err(invalid_split());
    }
    lines::region_split(&app.log, right.id, &left);
    Ok(pdpb::ReportSplitResponse::default())
}

/// `ReportBatchSplit`. Heartbeats bring the regions; the report is only told.
pub(super) async fn report_batch(
    app: &App,
    request: pdpb::ReportBatchSplitRequest,
) -> Result<pdpb::ReportBatchSplitResponse, ApiError> {
    app.require_bootstrapped()?;
    if !in_a_row(&request.regions) {
        return Err(invalid_split());
    }
    if let Some((origin, new)) = request.regions.split_last() {
        lines::region_batch_split(&app.log, origin.id, new);
    }
    Ok(pdpb::ReportBatchSplitResponse::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_regions_must_follow_each_other() {
        let region = |start: &str, end: &str| metapb::Region {
            start_key: start.to_owned().into(),
            end_key: end.to_owned().into(),
            ..Default::default()
        };
        assert!(in_a_row(&[region("", "g"), region("g", "m")]));
        assert!(in_a_row(&[region("", "g"), region("g", "m"), region("m", "")]));
        assert!(!in_a_row(&[region("", "")]));
        assert!(!in_a_row(&[]));
        assert!(!in_a_row(&[region("", "g"), region("h", "m")]));
        assert!(!in_a_row(&[region("", "g"), region("g", "g")]));
    }
}
