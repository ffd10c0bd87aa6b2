//! Who is in the group: how it begins, what of a change is refused, how ids come about.
//!
//! Owns: those rules. Must not know: raft, disk. The members themselves are agreed state: who votes lies beside the applied index, names
//! and addresses are rows, and one entry of the log changes both.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Member, MemberInfo, MetaError};
use crate::model::{ClusterId, MemberId};

/// Most members: each more costs the leader, and none of them makes losing data less likely.
pub const MAX_MEMBERS: usize = 15;

/// A member of a group that begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founder {
    /// Its name.
    pub name: String,
    /// Where members reach it.
    pub peer_urls: Vec<String>,
}

/// How a member with an empty data folder begins. With data in the folder it does not matter any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Founding {
    /// It makes a cluster of its own.
    Alone,
    /// It makes a cluster together with others, each of which is started with the same list and token. It finds itself by name.
    Initial {
        /// All of them.
        members: Vec<Founder>,
        /// What tells this cluster from another of the same names and addresses.
        token: String,
    },
    /// It joins a cluster that has added it (`Meta::add_member`).
    Join {
        /// The cluster.
        cluster: ClusterId,
        /// The id that it was given.
        member: MemberId,
    },
}

/// Why the list of a group's first members cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FoundingError {
    /// This member is not in it.
    #[error("the initial cluster does not name this member, {0:?}")]
    NotNamed(String),
    /// Two of one name or address.
    #[error("the initial cluster names {0:?} twice")]
    Twice(String),
    /// No member, or too many.
    #[error("the initial cluster has {0} members, 1 to {MAX_MEMBERS} are possible")]
    Count(usize),
}

/// Why the group is not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MemberError {
    /// Leadership, or the log.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// There is one like it.
    #[error("there is a member with the name or a peer URL {0:?} already")]
    Exists(String),
    /// There is none.
    #[error("member {0} not found")]
    Unknown(MemberId),
    /// What is left could not agree on anything.
    #[error("{reachable} of the {voters} voters that would be left can be reached, that is no quorum")]
    NoQuorum {
        /// How many can be reached.
        reachable: usize,
        /// How many voters there would be.
        voters: usize,
    },
    /// It leads: leadership has to go elsewhere first.
    #[error("member {0} leads, leadership has to be transferred first")]
    Leads(MemberId),
    /// Another change is under way.
    #[error("another change of the members is under way")]
    UnderWay,
    /// As many as there may be.
    #[error("there are {MAX_MEMBERS} members already")]
    TooMany,
    /// Nobody could lead.
    #[error("no other member can lead now")]
    NoSuccessor,
    /// The chosen member did not take over in time.
    #[error("leadership was not taken over")]
    NotTaken,
}

/// What is asked of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum MemberAsk {
    Add(Member),
    Remove(MemberId),
}

/// What an entry that changes the group brings along.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// Who waits for it.
    pub(super) origin: u64,
    pub(super) ticket: u64,
    /// The row of the member that is added.
    pub(super) member: Option<Member>,
    /// The member that is removed.
    pub(super) removed: Option<MemberId>,
}

/// FNV-1a over the parts and their lengths, finished so that similar parts give unlike numbers. Never 0.
fn number_of(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        let length = (part.len() as u64).to_le_bytes();
        for byte in length.iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)).max(1)
}

/// The id of a member: the same wherever it is computed. `salt` is the token of the first members, the moment of a later one.
pub(super) fn member_id(name: &str, peer_urls: &[String], salt: &[u8]) -> MemberId {
    let mut urls: Vec<&[u8]> = peer_urls.iter().map(String::as_bytes).collect();
    urls.sort_unstable();
    let parts: Vec<&[u8]> = [name.as_bytes(), salt].into_iter().chain(urls).collect();
    MemberId(number_of(&parts))
}

/// A group that begins, as all its members compute it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FirstGroup {
    pub(super) cluster: ClusterId,
    /// By id.
    pub(super) members: Vec<Member>,
}

/// The group of this list.
pub(super) fn first_group(founders: &[Founder], token: &str, this: &str) -> Result<FirstGroup, FoundingError> {
    if founders.is_empty() || founders.len() > MAX_MEMBERS {
        return Err(FoundingError::Count(founders.len()));
    }
    let mut seen = BTreeSet::new();
    for text in founders.iter().flat_map(|f| std::iter::once(&f.name).chain(&f.peer_urls)) {
        if !seen.insert(text) {
            return Err(FoundingError::Twice(text.clone()));
        }
    }
    if !founders.iter().any(|f| f.name == this) {
        return Err(FoundingError::NotNamed(this.into()));
    }
    let mut members: Vec<Member> = founders
        .iter()
        .map(|f| Member {
            id: member_id(&f.name, &f.peer_urls, token.as_bytes()),
            name: f.name.clone(),
            peer_urls: f.peer_urls.clone(),
            ..Member::default()
        })
        .collect();
    members.sort_by_key(|m| m.id);
    let ids: Vec<[u8; 8]> = members.iter().map(|m| m.id.0.to_le_bytes()).collect();
    let parts: Vec<&[u8]> = ids.iter().map(<[u8; 8]>::as_slice).chain([token.as_bytes()]).collect();
    Ok(FirstGroup { cluster: ClusterId(number_of(&parts)), members })
}

/// The members of the group that this list makes, by id.
///
/// # Errors
/// [`FoundingError`].
pub fn founders(list: &[Founder], token: &str, this: &str) -> Result<Vec<Member>, FoundingError> {
    first_group(list, token, this).map(|group| group.members)
}

/// A member that is to be added, with the id that it gets.
pub(super) fn new_member(info: &MemberInfo, cluster: ClusterId, moment: i64) -> Member {
    let salt: Vec<u8> = cluster.0.to_le_bytes().into_iter().chain(moment.to_le_bytes()).collect();
    Member {
        id: member_id(&info.name, &info.peer_urls, &salt),
        name: info.name.clone(),
        client_urls: info.client_urls.clone(),
        peer_urls: info.peer_urls.clone(),
        deploy_path: info.deploy_path.clone(),
        binary_version: info.binary_version.clone(),
        git_hash: info.git_hash.clone(),
        leader_priority: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn founder(n: u32) -> Founder {
        Founder { name: format!("pd-{n}"), peer_urls: vec![format!("http://10.0.0.{n}:2380")] }
    }

    #[test]
    fn l8_all_founders_compute_the_same_group() {
        let list: Vec<Founder> = (1..=3).map(founder).collect();
        let group = first_group(&list, "token", "pd-1").unwrap();
        let turned: Vec<Founder> = list.iter().rev().cloned().collect();
        assert_eq!(first_group(&turned, "token", "pd-3"), Ok(group.clone()));
        let ids: BTreeSet<MemberId> = group.members.iter().map(|m| m.id).collect();
        assert_eq!(ids.len(), 3);
        let other = first_group(&list, "other", "pd-1").unwrap();
        assert!(other.cluster != group.cluster && other.members.iter().all(|m| !ids.contains(&m.id)));
    }

    #[test]
    fn lists_that_make_no_group() {
        let list: Vec<Founder> = (1..=3).map(founder).collect();
        let error = |list: &[Founder], this: &str| first_group(list, "", this).unwrap_err().to_string();
        assert_eq!(error(&list, "pd-9"), "the initial cluster does not name this member, \"pd-9\"");
        assert_eq!(error(&[], "pd-1"), "the initial cluster has 0 members, 1 to 15 are possible");
        let same_url = [founder(1), Founder { name: "pd-2".into(), ..founder(1) }];
        assert_eq!(error(&same_url, "pd-1"), "the initial cluster names \"http://10.0.0.1:2380\" twice");
    }
}
