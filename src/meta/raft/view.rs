//! The log as the crate `raft` reads it: entirely in memory, since it is cut every few thousand entries.
//!
//! Owns: the entries after the cut. Must not know: when they get to disk.

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

use crate::meta::disk::{Applied, HardMark, LoadedLog, Truncated};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LogView {
    hard: HardState,
    conf: ConfState,
    cut: Truncated,
    /// From `cut.index + 1` on, without gaps.
    entries: Vec<Entry>,
    /// What the machine has applied: where a follower that is behind the cut would begin.
    applied: Applied,
}

pub(super) fn mark(hard: &HardState) -> HardMark {
    HardMark { term: hard.term, vote: hard.vote, commit: hard.commit }
}

impl LogView {
    pub(super) fn new(loaded: LoadedLog, applied: Applied) -> Self {
        let HardMark { term, vote, commit } = loaded.hard;
        let hard = HardState { term, vote, commit, ..HardState::default() };
        Self { hard, conf: applied.conf.clone(), cut: loaded.cut, entries: loaded.entries, applied }
    }

    /// The entry before the first.
    pub(super) fn cut_index(&self) -> u64 {
        self.cut.index
    }

    fn first(&self) -> u64 {
        self.cut.index + 1
    }

    fn last(&self) -> u64 {
        self.cut.index + self.entries.len() as u64
    }

    fn at(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first())?).ok()
    }

    /// Adds entries; what was there from the first of them on is replaced.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        if let Some(keep) = entries.first().and_then(|e| self.at(e.index)) {
            self.entries.truncate(keep);
            self.entries.extend_from_slice(entries);
        }
    }

    pub(super) fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub(super) fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    pub(super) fn set_applied(&mut self, applied: Applied) {
        self.applied = applied;
    }

    /// Begins anew after a state that was received from another member.
    pub(super) fn reset(&mut self, cut: Truncated, conf: ConfState) {
        self.entries.clear();
        (self.cut, self.conf) = (cut, conf);
        self.hard.commit = self.hard.commit.max(cut.index);
    }

    /// Where a cut that keeps `keep` entries before `applied` would be; `None`: nothing to cut.
    pub(super) fn cut_point(&self, applied: u64, keep: u64) -> Option<Truncated> {
        let index = applied.saturating_sub(keep).min(self.last());
        if index <= self.cut.index {
            return None;
        }
        Some(Truncated { index, term: self.term(index).ok()? })
    }

    /// Forgets everything up to and with `cut`; false when the log begins later already: a whole state came meanwhile.
    #[must_use]
    pub(super) fn cut(&mut self, cut: Truncated) -> bool {
        let Some(at) = self.at(cut.index + 1).filter(|_| cut.index > self.cut.index) else { return false };
        self.entries.drain(..at.min(self.entries.len()));
        self.cut = cut;
        true
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let from = self.at(low).ok_or(StorageError::Compacted)?;
        let to = self.at(high).ok_or(StorageError::Compacted)?;
        let mut entries = self.entries.get(from..to).ok_or(StorageError::Unavailable)?.to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.cut.index {
            return Ok(self.cut.term);
        }
        let at = self.at(index).ok_or(StorageError::Compacted)?;
        Ok(self.entries.get(at).ok_or(StorageError::Unavailable)?.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Says which state a follower behind the cut needs; the state itself is sent by the stream between members, not by raft. One that is
    /// not among the applied members yet would not take it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let Applied { index, term, conf } = &self.applied;
        let known = conf.voters.iter().chain(&conf.learners).any(|id| *id == to);
        if !known || *index == 0 || *index < request_index.max(self.cut.index) {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        (meta.index, meta.term) = (*index, *term);
        meta.set_conf_state(conf.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_a_cut_that_was_meant_before_a_whole_state_came_is_none() {
        let entry = |index| Entry { index, term: 1, ..Entry::default() };
        let loaded = LoadedLog { entries: (1..=130).map(entry).collect(), ..LoadedLog::default() };
        let mut view = LogView::new(loaded, Applied::default());
        let meant = Truncated { index: 120, term: 1 };
        view.reset(Truncated { index: 145, term: 2 }, ConfState::default());
        assert!(!view.cut(meant));
        assert_eq!((view.cut_index(), view.last()), (145, 145));
        view.append(&(146..=160).map(entry).collect::<Vec<_>>());
        assert!(view.cut(Truncated { index: 150, term: 1 }));
        assert_eq!((view.cut_index(), view.entries.len()), (150, 10));
    }
}
