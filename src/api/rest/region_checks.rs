//! `/regions/check/…`: regions that are unusual in some way, and how sizes are spread; `/regions/replicated`.
//!
//! Owns: which check a route asks for. Must not know: how regions are shown.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{Answer, error::Problem, go, region_json, render::Reply, request::Request};
use crate::{
    model::{KeyRange, Region},
    scheduler::region_state::{self, Flag},
};

/// Lists the regions with a flag, in key order.
pub(super) fn flagged(request: &Request, flag: Flag) -> Answer {
    let app = &request.app;
    let mut regions = app.cluster.regions().scan(&KeyRange::all(), usize::MAX);
    app.cluster.with_view(app.now(), |view| regions.retain(|region| region_state::flags(view, region).has(flag)));
    Ok(region_json::list(regions))
}

#[derive(Serialize, PartialEq, Debug)]
struct BucketJson {
    start: u64,
    end: u64,
    count: u64,
}

/// How many regions lie in each step of `bound`; empty steps do not show.
fn histogram(regions: &[Arc<Region>], bound: u64, value: fn(&Region) -> u64) -> Vec<BucketJson> {
    let mut counts = BTreeMap::<u64, u64>::new();
    for region in regions {
        *counts.entry(value(region) / bound).or_default() += 1;
    }
    let step = |(at, count): (u64, u64)| {
        let start = at.saturating_mul(bound);
        BucketJson { start, end: start.saturating_add(bound - 1), count }
    };
    counts.into_iter().map(step).collect()
}

fn spread(request: &Request, least: i64, value: fn(&Region) -> u64) -> Answer {
    let bound = u64::try_from(request.query.int("bound", least)?.max(least)).unwrap_or(1);
    let regions = request.app.cluster.regions().scan(&KeyRange::all(), usize::MAX);
    Ok(Reply::ok(&histogram(&regions, bound, value)))
}

/// Least step of the histogram of keys.
const LEAST_KEYS: i64 = 1000;

/// `GET /regions/check/hist-size`: MiB.
pub(super) fn hist_size(request: &Request) -> Answer {
    spread(request, 1, |region| region.size_mib)
}

/// `GET /regions/check/hist-keys`
pub(super) fn hist_keys(request: &Request) -> Answer {
    spread(request, LEAST_KEYS, |region| region.keys)
}

/// `GET /regions/replicated`: whether the regions of a range answer their rules. PD's route needs both bounds.
pub(super) fn replicated(request: &Request) -> Answer {
    if !request.query.has("startKey") || !request.query.has("endKey") {
        let reply = Reply::go_error(axum::http::StatusCode::NOT_FOUND, "404 page not found");
        return Err(Problem::Other(Box::new(reply)));
    }
    let bound = |name| go::decode_hex(request.query.bytes(name)).map_err(|e| Problem::bad(e.to_string()));
    let range = KeyRange::new(bound("startKey")?, bound("endKey")?);
    let cluster = &request.app.cluster;
    let (settings, stores) = (cluster.settings(), cluster.stores().snapshot());
    let regions = cluster.regions().scan(&range, usize::MAX);
    let done = |region: &Arc<Region>| settings.placement().fit(region, &stores).is_some_and(|fit| fit.is_satisfied());
    Ok(Reply::ok(if regions.iter().all(done) { &"REPLICATED" } else { &"INPROGRESS" }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_histogram_has_no_empty_steps() {
        let region = |size_mib| Arc::new(Region { size_mib, ..Region::default() });
        let regions: Vec<_> = [96, 96, 1, 500].into_iter().map(region).collect();
        let bucket = |start, end, count| BucketJson { start, end, count };
        assert_eq!(histogram(&regions, 1, |r| r.size_mib), [bucket(1, 1, 1), bucket(96, 96, 2), bucket(500, 500, 1)]);
        assert_eq!(histogram(&regions, 100, |r| r.size_mib), [bucket(0, 99, 3), bucket(500, 599, 1)]);
        assert!(histogram(&[], 1, |r| r.keys).is_empty());
    }
}
