//! `/hotspot/buckets`: the buckets that are hot, or as often hot as not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, render::Reply, request::Request};
use crate::model::{KeyRange, Region, RegionId};

#[derive(Serialize)]
struct BucketJson {
    start_key: String,
    end_key: String,
    hot_degree: i32,
    read_bytes: u64,
    read_keys: u64,
    write_bytes: u64,
    write_keys: u64,
}

/// `GET /hotspot/buckets`: of the regions named, or of all. A number that cannot be read names region 0, as in PD.
pub(super) fn list(request: &Request) -> Answer {
    let index = request.app.cluster.regions();
    let regions: Vec<_> = match request.query.lists().get("region_id") {
        Some(ids) => ids.iter().filter_map(|id| index.get(RegionId(id.parse().unwrap_or(0)))).collect(),
        None => index.scan(&KeyRange::all(), usize::MAX),
    };
    let shown = regions.iter().filter_map(|region| Some((region.id().0.to_string(), hot(region)?)));
    Ok(Reply::ok(&shown.collect::<BTreeMap<_, _>>()))
}

/// What is shown of a region; `None` when that is nothing.
fn hot(region: &Region) -> Option<Vec<BucketJson>> {
    let buckets = region.buckets()?;
    let shown = buckets.iter().filter(|(.., bucket)| bucket.hot_degree >= 0).map(|(start, end, bucket)| BucketJson {
        start_key: start.hex(),
        end_key: end.hex(),
        hot_degree: bucket.hot_degree,
        read_bytes: buckets.a_second(bucket.read_bytes),
        read_keys: buckets.a_second(bucket.read_keys),
        write_bytes: buckets.a_second(bucket.write_bytes),
        write_keys: buckets.a_second(bucket.write_keys),
    });
    Some(shown.collect::<Vec<_>>()).filter(|list| !list.is_empty())
}
