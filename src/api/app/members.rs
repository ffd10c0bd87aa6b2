//! Members that are added.
//!
//! Owns: what becomes of one that lost its state. Must not know: how the group is changed (`meta`), the caller's protocol.

use super::App;
use crate::{
    api::error::ApiError,
    meta::{Member, MemberError, MemberInfo},
};

impl App {
    /// Adds a member; returns its row, with the id that it gets. One of the same name and addresses that answers from there with an
    /// empty folder has lost what it had: it is taken out first.
    pub async fn add_member(&self, info: &MemberInfo) -> Result<Member, ApiError> {
        self.require_leader()?;
        match self.meta.add_member(info).await {
            Err(MemberError::Exists(_)) if self.is_lost(info).await => {}
            other => return Ok(other?),
        }
        let is_same = |m: &Member| m.name == info.name && m.peer_urls == info.peer_urls;
        if let Some(old) = self.meta.members().into_iter().find(is_same) {
            crate::pdlog!(self.log, Warn, "a member lost its state and is replaced", "member-name" => &old.name, "member" => old.id.0);
            self.meta.remove_member(old.id).await?;
        }
        Ok(self.meta.add_member(info).await?)
    }

    async fn is_lost(&self, info: &MemberInfo) -> bool {
        let known = self.meta.members().iter().any(|m| m.name == info.name && m.peer_urls == info.peer_urls);
        known && self.probe.is_blank(&info.name, &info.peer_urls).await
    }
}
