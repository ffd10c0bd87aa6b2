//! What is committed becomes state: state file first, then the state that others see, then observers, then answers.
//!
//! Owns: that order, flush before cut. Must not know: what commands mean.

use std::sync::{Arc, atomic::Ordering};

use raft::eraftpb::ConfState;

use super::Core;
use crate::meta::{
    MetaError,
    bugs::Bug,
    disk::{Applied, DiskError},
    handle::Latest,
    machine::{Action, Change, Command, Envelope, Reply, Row, RowKey, changes, difference, execute},
    membership::Note,
    queue::{Answer, Ended},
    raft::{Committed, Input, Wanted},
    writer::Install,
};

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
        self.tell_hashes();
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
            self.note_hash_if_due();
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
        if self.bugs.has(Bug::AppliesDifferently) {
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
        self.forget_hashes();
        self.committed.retain(|entry| entry.index > self.applied.index);
        slog::info!(self.log, "the state was received whole"; "index" => self.applied.index);
        self.shared.ids.agreed(self.state.id_end);
        self.publish(&changes);
        self.show_group();
        inputs.push(Input::Persisted(number));
        inputs.push(Input::Applied(self.applied.clone()));
    }
}

pub(super) fn failed(e: &DiskError) -> Ended {
    Ended::Failed(e.to_string().into())
}
