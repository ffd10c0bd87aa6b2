//! Lists of regions: all, by key, by store, by rank; their number and the holes between them.
//!
//! Owns: which regions are listed and how many. Must not know: how they are shown.

use std::{cmp::Reverse, sync::Arc};

use serde::Serialize;

use super::{Answer, error::Problem, go, region_json, render::Reply, request::Request};
use crate::{
    model::{Key, KeyRange, Region, StoreId},
    store::index::Held,
};

/// How many regions are listed when nothing is said.
const DEFAULT_LIMIT: i64 = 16;

/// The most that a limit can ask for, as in PD.
const MAX_LIMIT: i64 = 10_240;

/// `GET /regions`
pub(super) fn all(request: &Request) -> Answer {
    Ok(region_json::list(request.app.cluster.regions().scan(&KeyRange::all(), usize::MAX)))
}

/// `GET /regions/key`: a limit of 0 means all, as in PD, where also lower ones do; the answer is sent in pieces.
pub(super) fn by_key(request: &Request) -> Answer {
    let bounds = [request.query.bytes("key"), request.query.bytes("end_key")];
    let [start, end] = if request.query.text("format") == "hex" {
        let read = |text| go::decode_hex(text).map_err(|e| Problem::bad(e.to_string()));
        [read(bounds[0])?, read(bounds[1])?]
    } else {
        bounds.map(<[u8]>::to_vec)
    };
    let limit = match request.query.int("limit", DEFAULT_LIMIT)?.min(MAX_LIMIT) {
        0 => usize::MAX,
        limit => {
            usize::try_from(limit).map_err(|_| Problem::bad(format!("limit should not be negative, but is {limit}")))?
        }
    };
    Ok(region_json::list(request.app.cluster.regions().scan(&KeyRange::new(start, end), limit)))
}

/// `GET /regions/count`
pub(super) fn count(request: &Request) -> Answer {
    #[derive(Serialize)]
    struct Count {
        count: usize,
        regions: Option<()>,
    }
    Ok(Reply::ok(&Count { count: request.app.cluster.regions().len(), regions: None }))
}

/// `GET /regions/store/{id}`
pub(super) fn by_store(request: &Request) -> Answer {
    let id = go::atoi(&request.param("id"))?;
    let held = match request.query.text("type").as_str() {
        "" | "all" => Held::Any,
        "leader" => Held::Leader,
        "follower" => Held::Follower,
        "learner" => Held::Learner,
        "witness" => Held::Witness,
        "pending" => Held::Pending,
        other => return Err(Problem::bad(format!("unknown sub tree region type {other}"))),
    };
    let regions = request.app.cluster.regions();
    let ids = regions.of_store(StoreId(u64::try_from(id).unwrap_or(0)), held, usize::MAX);
    let mut found: Vec<Arc<Region>> = ids.into_iter().filter_map(|id| regions.get(id)).collect();
    found.sort_unstable_by(|a, b| a.range().start.cmp(&b.range().start));
    Ok(region_json::list(found))
}

/// By what a list is ranked, highest first.
pub(super) type Rank = fn(&Region) -> u64;

/// A list of the regions with the highest rank; a limit of 0 or less gives none.
pub(super) fn top(request: &Request, rank: Rank) -> Answer {
    let limit = request.query.int("limit", DEFAULT_LIMIT)?.clamp(0, MAX_LIMIT);
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut regions = request.app.cluster.regions().scan(&KeyRange::all(), usize::MAX);
    let key = |region: &Arc<Region>| Reverse(rank(region));
    if limit == 0 {
        regions.clear();
    } else if limit < regions.len() {
        // Only the part that is shown needs to be in order.
        regions.select_nth_unstable_by_key(limit - 1, key);
        regions.truncate(limit);
    }
    regions.sort_by_key(key);
    Ok(region_json::list(regions))
}

/// `GET /regions/range-holes`: pairs of keys between which no region is known.
pub(super) fn range_holes(request: &Request) -> Answer {
    let regions = request.app.cluster.regions().scan(&KeyRange::all(), usize::MAX);
    Ok(Reply::ok(&holes(&regions)))
}

fn holes(regions: &[Arc<Region>]) -> Vec<[String; 2]> {
    let mut out = Vec::new();
    let mut last_end = Key::empty();
    for range in regions.iter().map(|region| region.range()) {
        if last_end != range.start {
            out.push([last_end.hex(), range.start.hex()]);
        }
        last_end = range.end.clone();
    }
    if !last_end.is_empty() {
        out.push([last_end.hex(), String::new()]);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::RegionMeta;

    fn region(start: &str, end: &str) -> Arc<Region> {
        let range = KeyRange::new(start.as_bytes(), end.as_bytes());
        Arc::new(Region { meta: Arc::new(RegionMeta { range, ..RegionMeta::default() }), ..Region::default() })
    }

    #[test]
    fn holes_are_the_keys_that_no_region_has() {
        // As in PD: with no region at all there is no hole.
        assert!(holes(&[]).is_empty());
        assert!(holes(&[region("", "")]).is_empty());
        assert!(holes(&[region("", "a"), region("a", "")]).is_empty());
        assert_eq!(holes(&[region("", "a"), region("b", "")]), [["61".to_owned(), "62".to_owned()]]);
        assert_eq!(holes(&[region("a", "b")]), [["".to_owned(), "61".to_owned()], ["62".to_owned(), "".to_owned()]]);
    }
}
