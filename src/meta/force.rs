//! A lost majority: a member goes on from its own data as the only one of its group (`--force-new-cluster`).
//!
//! Owns: what is written into the log for that. Must not know: raft's rounds, who else is there.
//!
//! The entries that remove all others are put behind what the log has, and all of it is marked as committed, in one write: a crash
//! leaves the group as it was, or the new one. The start then applies them like any other. Entries of which nobody knows whether they
//! were committed stay: whoever was told of one keeps it, and the others were never told that theirs had failed.

use std::collections::BTreeSet;

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType};

use super::{
    Command, OpenError,
    disk::{Files, HardMark, LogWrite},
    machine::Envelope,
    membership::Note,
    restore::{ID_MARGIN, TSO_AHEAD, tso_above},
};
use crate::model::{MemberId, Wall, ids::MAX_ID};

/// Makes the member whose files these are the only one of its group; whether anything had to be done for it.
pub(super) fn alone(files: &mut Files, origin: u64, now: Wall) -> Result<bool, OpenError> {
    let this = files.owner.member.0;
    let group = Seen::of(files)?;
    if files.loaded_state.state.cluster.is_none() && group.applies_nothing {
        return Err(OpenError::NoCluster);
    }
    if group.others.is_empty() && group.votes {
        return Ok(false);
    }
    let mut entries = Entries::behind(files);
    if !group.votes {
        entries.change(this, ConfChangeType::AddNode, vec![])?;
    }
    for other in group.others {
        let note = Note { origin, ticket: 0, member: None, removed: Some(MemberId(other)) };
        let note = serde_json::to_vec(&note).map_err(|e| unwritable(&e.to_string()))?;
        entries.change(other, ConfChangeType::RemoveNode, note)?;
    }
    // This member may have lagged behind those that are lost: what they gave out is not given out again.
    let state = &files.loaded_state.state;
    let above = state.id_end.saturating_add(ID_MARGIN).min(MAX_ID.max(state.id_end));
    let upper_ms = tso_above(state.tso_upper_ms, now, now, TSO_AHEAD);
    for command in [Command::RebaseIds { above }, Command::SaveTsoWindow { upper_ms }] {
        let envelope = Envelope { origin, ticket: 0, now, command };
        entries.add(EntryType::EntryNormal, envelope.encode().map_err(|e| unwritable(&e.to_string()))?);
    }
    let Entries { term, last, list } = entries;
    let hard = HardMark { term, vote: this, commit: last };
    let write = LogWrite { entries: list, hard: Some(hard), sync: true, ..LogWrite::default() };
    files.log.write(&write).map_err(|e| unwritable(&e.to_string()))?;
    files.loaded_log.entries.extend(write.entries);
    files.loaded_log.hard = hard;
    Ok(true)
}

fn unwritable(what: &str) -> OpenError {
    let source = std::io::Error::other(what.to_owned());
    OpenError::Io { file: super::LOG_FILE.into(), source }
}

/// The group as it is when all is applied that the log has.
struct Seen {
    /// All but this member that are in it, or may have been.
    others: BTreeSet<u64>,
    /// Whether this member votes.
    votes: bool,
    /// The log has nothing that is not applied.
    applies_nothing: bool,
}

impl Seen {
    fn of(files: &Files) -> Result<Self, OpenError> {
        let (this, applied) = (files.owner.member.0, &files.loaded_state.applied);
        let conf = &applied.conf;
        let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
        let mut others: BTreeSet<u64> = lists.into_iter().flatten().copied().collect();
        others.extend(files.loaded_state.state.members.keys().map(|id| id.0));
        let mut votes = conf.voters.contains(&this);
        let waiting = files.loaded_log.entries.iter().filter(|e| e.index > applied.index);
        let mut applies_nothing = true;
        for entry in waiting {
            applies_nothing &= entry.data.is_empty();
            if entry.entry_type != EntryType::EntryConfChange {
                continue;
            }
            let change = ConfChange::parse_from_bytes(&entry.data).map_err(|e| OpenError::Damaged {
                file: super::LOG_FILE.into(),
                what: format!("entry {}: {e}", entry.index),
            })?;
            others.insert(change.node_id);
            if change.node_id == this {
                votes = change.get_change_type() == ConfChangeType::AddNode;
            }
        }
        others.remove(&this);
        Ok(Self { others, votes, applies_nothing })
    }
}

/// Entries that go behind those of the log, in a term of their own.
struct Entries {
    term: u64,
    last: u64,
    list: Vec<Entry>,
}

impl Entries {
    fn behind(files: &Files) -> Self {
        let log = &files.loaded_log;
        let last = log.entries.last().map_or(log.cut.index, |e| e.index);
        Self { term: log.hard.term + 1, last, list: vec![] }
    }

    fn add(&mut self, kind: EntryType, data: Vec<u8>) {
        self.last += 1;
        let mut entry = Entry { term: self.term, index: self.last, data: data.into(), ..Entry::default() };
        entry.set_entry_type(kind);
        self.list.push(entry);
    }

    fn change(&mut self, id: u64, kind: ConfChangeType, note: Vec<u8>) -> Result<(), OpenError> {
        let mut change = ConfChange { node_id: id, context: note.into(), ..ConfChange::default() };
        change.set_change_type(kind);
        let bytes = change.write_to_bytes().map_err(|e| unwritable(&e.to_string()))?;
        self.add(EntryType::EntryConfChange, bytes);
        Ok(())
    }
}
