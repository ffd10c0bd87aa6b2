//! `/berth/v1/backup`: the agreed state as a file (`docs/backup.md`).
//!
//! Owns: the route. Must not know: the form of the file (`meta::BackupParts`).

use super::super::{Answer, render::Reply, request::Request};

/// `GET /berth/v1/backup`
pub(in crate::api::rest) fn download(request: &Request) -> Answer {
    Ok(Reply::backup(request.app.meta.backup()))
}
