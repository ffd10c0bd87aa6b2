//! Members that are added and removed, and where leadership should be.
//!
//! Owns: what becomes of a member that lost its state, whom priority chooses. Must not know: how the group is changed (`meta`), the
//! caller's protocol.

use super::App;
use crate::{
    api::error::ApiError,
    meta::{Command, Member, MemberError, MemberInfo},
    model::MemberId,
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

    /// Sets where leadership should be; see [`preferred`].
    pub async fn set_leader_priority(&self, id: MemberId, priority: i32) -> Result<(), ApiError> {
        self.propose(Command::SetLeaderPriority { id, priority }).await.map(drop)
    }

    /// The member that should lead in place of this one, if there is one that votes.
    pub fn preferred_leader(&self) -> Option<Member> {
        let (members, group) = (self.meta.members(), self.meta.group());
        preferred(&members, self.meta.member_id()).filter(|to| group.voters.contains(&to.id)).cloned()
    }
}

/// Who should lead rather than `leader`: the member of the highest priority, if that is higher than the leader's.
fn preferred(members: &[Member], leader: MemberId) -> Option<&Member> {
    let own = members.iter().find(|m| m.id == leader)?.leader_priority;
    members.iter().filter(|m| m.leader_priority > own).max_by_key(|m| (m.leader_priority, std::cmp::Reverse(m.id)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn leadership_belongs_to_the_highest_priority() {
        let member = |id: u64, leader_priority: i32| Member { id: MemberId(id), leader_priority, ..Member::default() };
        let chosen = |members: &[Member], leader| preferred(members, MemberId(leader)).map(|m| m.id.0);
        let members = [member(1, 0), member(2, 5), member(3, 5), member(4, -1)];
        assert_eq!(chosen(&members, 1), Some(2));
        assert_eq!(chosen(&members, 4), Some(2));
        assert_eq!(chosen(&members, 3), None);
        assert_eq!(chosen(&members[..1], 1), None);
        assert_eq!(chosen(&members, 9), None);
    }
}
