//! What is committed becomes state: state file first, then the state that others see, then observers, then answers.
//!
//! Owns: that order, flush before cut, the comparison of state hashes. Must not know: what commands mean.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use raft::eraftpb::ConfState;

use super::Core;
use crate::{
    meta::{
        MetaError,
        bugs::Bug,
        disk::{Applied, DiskError},
        handle::Latest,
        machine::{Action, Change, Command, Envelope, Reply, Row, RowKey, changes, difference, execute},
        membership::Note,
        peer::Body,
        queue::{Answer, Ended},
        raft::{Committed, Input, Wanted},
        writer::Install,
    },
    model::MemberId,
};

/// Hashes that are remembered, of this member and of others, for members that are ahead or behind.
const MAX_HASHES: usize = 64;

/// What is applied of one round: written to the state file in one transaction.
#[derive(Default)]
struct Batch {
    actions: Vec<Action>,
    changes: Vec<Change>,
    answers: Vec<Outcome>,
    /// The group has changed.
    members: bool,
}

/// What the proposer of a ticket gets, once what it proposed is in the state file.
struct Outcome {
    ticket: u64,
    answer: Answer,
    outcome: Result<Reply, MetaError>,
}

/// Hashes of the state at certain entries.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    /// Here: entry and hash, ascending.
    own: VecDeque<(u64, u64)>,
    /// As others say, of entries that are not applied here yet.
    others: BTreeMap<(u64, MemberId), u64>,
    /// To be told to others.
    to_tell: Vec<(u64, u64)>,
}

impl Core {
    pub(super) fn apply(&mut self) -> Result<Vec<Input>, Ended> {
        if self.flushing.is_some() || self.installing || self.committed.is_empty() {
            return Ok(vec![]);
        }
        let mut batch = Batch::default();
        if let Err(ended) = self.execute_all(&mut batch).and_then(|()| self.write_state(&batch)) {
            // They wait for the end like everybody else, and are told its reason there.
            self.pending.extend(batch.answers.into_iter().map(|o| (o.ticket, o.answer)));
            return Err(ended);
        }
        self.publish(&batch.changes);
        if batch.members {
            self.show_group();
        }
        for Outcome { answer, outcome, .. } in batch.answers {
            answer(outcome);
        }
        for (index, hash) in std::mem::take(&mut self.hashes.to_tell) {
            self.tell_members(&Body::StateHash { index, hash });
        }
        let mut inputs = vec![Input::Applied(self.applied.clone())];
        inputs.extend(self.cut_if_due());
        Ok(inputs)
    }

    /// Shows others the new state, and tells what is different in it.
    fn publish(&self, changes: &[Change]) {
        let state = Arc::new(self.state.clone());
        let Applied { index, term, .. } = self.applied;
        self.shared.latest.store(Arc::new(Latest { state: state.clone(), index, term }));
        self.shared.state.store(state);
        for change in changes {
            if let Change::TsoWindow(upper) = change {
                self.shared.tso.lifted(*upper);
            }
            self.shared.tell(change);
        }
    }

    /// Begins to cut the log when it has grown long: first the state has to be on disk.
    fn cut_if_due(&mut self) -> Option<Input> {
        let due =
            self.applied.index.saturating_sub(self.cut_at) >= self.timings.compact_every + self.timings.compact_keep;
        let cut = self.node.cut_point(self.applied.index, self.timings.compact_keep).filter(|_| due)?;
        // What follows a state that is being sent has to be there when it has arrived.
        if self.peers.sending.values().any(|s| s.index() < cut.index) {
            return None;
        }
        if self.bugs.has(Bug::CutBeforeFlush) {
            self.cut_at = cut.index;
            return Some(Input::Cut(cut));
        }
        self.flushing = Some(cut);
        self.flush_wanted = true;
        None
    }

    fn execute_all(&mut self, batch: &mut Batch) -> Result<(), Ended> {
        while let Some(entry) = self.committed.pop_front() {
            self.apply_entry(entry, batch)?;
            if self.applied.index.is_multiple_of(self.timings.hash_every.max(1)) {
                self.note_hash();
            }
        }
        Ok(())
    }

    fn write_state(&self, batch: &Batch) -> Result<(), Ended> {
        let mut applied = self.applied.clone();
        if self.bugs.has(Bug::MembersNotSaved) {
            applied.conf.learners.clear();
        }
        self.shared.state_write.begin(self.now());
        let written = if self.bugs.has(Bug::IndexApart) {
            self.state_file.write(&[], &applied, self.state.hash).and_then(|()| self.state_file.flush())
        } else {
            Ok(())
        };
        let written = written.and_then(|()| self.state_file.write(&batch.actions, &applied, self.state.hash));
        self.shared.state_write.end();
        written.map_err(|e| failed(&e))
    }

    fn apply_entry(&mut self, entry: Committed, batch: &mut Batch) -> Result<(), Ended> {
        (self.applied.index, self.applied.term) = (entry.index, entry.term);
        let unreadable = |what: String| Ended::Failed(format!("entry {} of the log: {what}", entry.index).into());
        match entry.wanted {
            Wanted::Nothing => self.begun_term = entry.term,
            Wanted::Members { conf, note } => {
                let note = match note.as_slice() {
                    [] => None,
                    bytes => Some(serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))?),
                };
                self.apply_members(conf, note, batch);
            }
            Wanted::Data(data) => {
                let envelope = Envelope::decode(&data).map_err(|e| unreadable(e.to_string()))?;
                self.apply_command(envelope, batch);
            }
        }
        Ok(())
    }

    /// Who votes and the rows about members change together.
    fn apply_members(&mut self, conf: ConfState, note: Option<Note>, batch: &mut Batch) {
        self.applied.conf = conf;
        batch.members = true;
        let Some(Note { origin, ticket, member, removed }) = note else { return };
        let mut actions = vec![];
        actions.extend(member.map(|m| Action::Put(Row::Member(Arc::new(m)))));
        actions.extend(removed.map(|id| Action::Delete(RowKey::Member(id))));
        for action in &actions {
            self.state.apply(action);
        }
        batch.changes.extend(changes(&self.state, &actions));
        batch.actions.extend(actions);
        self.answer(origin, ticket, Ok(Reply::Done), batch);
    }

    fn apply_command(&mut self, envelope: Envelope, batch: &mut Batch) {
        let Envelope { origin, ticket, now, command } = envelope;
        if self.is_stranger(&command) {
            let error = MetaError::Malformed("only members of the group have a place in it".into());
            return self.answer(origin, ticket, Err(error), batch);
        }
        let outcome = match execute(&mut self.state, now, &command) {
            Ok((plan, changes)) => {
                batch.actions.extend(plan.actions);
                batch.changes.extend(changes);
                self.shared.ids.agreed(self.state.id_end);
                match &plan.reply {
                    // Only who took them, and still leads, may hand them out.
                    Reply::Ids { first, last }
                        if origin == self.shared.origin && self.shared.serving.load(Ordering::Acquire) =>
                    {
                        self.shared.ids.add(*first, *last);
                    }
                    _ if matches!(command, Command::RebaseIds { .. }) => self.shared.ids.clear(),
                    _ => {}
                }
                Ok(plan.reply)
            }
            Err(refusal) => Err(MetaError::Refused(refusal)),
        };
        if self.bugs.has(Bug::AppliesDifferently) && self.this.id.0.is_multiple_of(2) {
            self.state.apply(&Action::Put(Row::MinResolvedTs(self.this.id.0)));
        }
        self.answer(origin, ticket, outcome, batch);
    }

    /// A member that was removed does not come back by what it says about itself.
    fn is_stranger(&self, command: &Command) -> bool {
        let Command::UpdateMember(member) = command else { return false };
        let ConfState { voters, learners, .. } = &self.applied.conf;
        !voters.iter().chain(learners).any(|id| *id == member.id.0)
    }

    fn answer(&mut self, origin: u64, ticket: u64, outcome: Result<Reply, MetaError>, batch: &mut Batch) {
        if origin == self.shared.origin
            && let Some(answer) = self.pending.remove(&ticket)
        {
            batch.answers.push(Outcome { ticket, answer, outcome });
        }
    }

    /// A received state is on disk: from here on it is the state.
    pub(super) fn installed(&mut self, install: Install, inputs: &mut Vec<Input>) {
        let Install { state, applied, number, .. } = install;
        let changes = difference(&self.state, &state);
        (self.state, self.applied, self.installing) = (state, applied, false);
        self.cut_at = self.applied.index;
        self.committed.retain(|entry| entry.index > self.applied.index);
        slog::info!(self.log, "the state was received whole"; "index" => self.applied.index);
        self.shared.ids.agreed(self.state.id_end);
        self.publish(&changes);
        self.show_group();
        inputs.push(Input::Persisted(number));
        inputs.push(Input::Applied(self.applied.clone()));
    }

    /// Remembers the hash of the state as it is, and holds it against what others said.
    fn note_hash(&mut self) {
        let (index, hash) = (self.applied.index, self.state.hash);
        self.hashes.own.push_back((index, hash));
        if self.hashes.own.len() > MAX_HASHES {
            self.hashes.own.pop_front();
        }
        self.hashes.to_tell.push((index, hash));
        let later = self.hashes.others.split_off(&(index + 1, MemberId(0)));
        for ((at, member), theirs) in std::mem::replace(&mut self.hashes.others, later) {
            if at == index {
                self.compare(index, hash, member, theirs);
            }
        }
    }

    /// Another member says what its state sums up to.
    pub(super) fn hear_hash(&mut self, from: MemberId, index: u64, theirs: u64) {
        if index > self.applied.index {
            if self.hashes.others.len() < MAX_HASHES {
                self.hashes.others.insert((index, from), theirs);
            }
        } else if let Some((_, own)) = self.hashes.own.iter().find(|(at, _)| *at == index) {
            self.compare(index, *own, from, theirs);
        }
    }

    fn compare(&self, index: u64, own: u64, member: MemberId, theirs: u64) {
        self.shared.hashes_compared.fetch_add(1, Ordering::Relaxed);
        if own != theirs {
            self.shared.hashes_differ.fetch_add(1, Ordering::Relaxed);
            slog::error!(self.log, "two members have different states at the same entry";
                "index" => index, "member" => member.0,
                "own-hash" => format!("{own:016x}"), "its-hash" => format!("{theirs:016x}"));
        }
    }
}

pub(super) fn failed(e: &DiskError) -> Ended {
    Ended::Failed(e.to_string().into())
}
