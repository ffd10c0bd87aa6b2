//! Look-ups of regions by key, as clients make them.
//!
//! Owns: one connection to one server and the header of its cluster. Must not know what the answers are compared with.

use super::BenchError;
use crate::{
    proto::pdpb,
    sim::{
        driver::{PdClient, connect},
        layout,
    },
};

/// A connection for look-ups.
#[derive(Clone)]
pub(super) struct Lookup {
    client: PdClient,
    header: pdpb::RequestHeader,
}

impl Lookup {
    /// Connects to the server at `url`; `None`: nobody answers there.
    pub(super) async fn connect(url: &str) -> Option<Self> {
        let mut client = connect(url).await?;
        let head = client.get_members(pdpb::GetMembersRequest::default()).await.ok()?.into_inner().header?;
        Some(Self { client, header: pdpb::RequestHeader { cluster_id: head.cluster_id, ..Default::default() } })
    }

    /// The same, for a server that must be there.
    pub(super) async fn must(url: &str) -> Result<Self, BenchError> {
        let error = || BenchError::Call { call: "connect", message: url.to_owned() };
        Self::connect(url).await.ok_or_else(error)
    }

    /// The region behind a row of the fleet's layout; `None`: the server does not know one, or does not answer.
    pub(super) async fn behind(&mut self, row: u32) -> Option<pdpb::GetRegionResponse> {
        let request = pdpb::GetRegionRequest {
            header: Some(self.header.clone()),
            region_key: layout::row_key(1, i64::from(row)).into(),
            need_buckets: false,
        };
        let found = self.client.get_region(request).await.ok()?.into_inner();
        found.region.is_some().then_some(found)
    }
}
