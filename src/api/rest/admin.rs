//! `/admin/cache/…`, `/admin/storage/region/{id}`: forgetting regions, which their next heartbeats bring back.
//!
//! Owns: those requests. Must not know: the index.

use super::{Answer, error::Problem, render::Reply, request::Request};
use crate::model::KeyRange;

/// `DELETE /admin/cache/region/{id}`: also of one that is not there.
pub(super) fn forget_region(request: &Request) -> Answer {
    let (app, id) = (&request.app, request.region_param()?);
    app.act(|cluster| Ok::<_, Problem>(cluster.drop_region(id, app.now())))?;
    Ok(Reply::ok(&"The region is removed from server cache."))
}

/// `DELETE /admin/storage/region/{id}`: the cache on disk follows the index.
pub(super) fn forget_stored_region(request: &Request) -> Answer {
    let (app, id) = (&request.app, request.region_param()?);
    if app.cluster.regions().get(id).is_none() {
        return Err(Problem::bad("failed to get target region from cache"));
    }
    app.act(|cluster| Ok::<_, Problem>(cluster.drop_region(id, app.now())))?;
    Ok(Reply::ok(&"The region is removed from server cache and region meta storage."))
}

/// `DELETE /admin/cache/regions`
pub(super) fn forget_all_regions(request: &Request) -> Answer {
    let app = &request.app;
    for region in app.cluster.regions().scan(&KeyRange::all(), usize::MAX) {
        app.act(|cluster| Ok::<_, Problem>(cluster.drop_region(region.id(), app.now())))?;
    }
    Ok(Reply::ok(&"All regions are removed from server cache."))
}
