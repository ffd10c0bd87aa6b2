//! What leaves the core: writes for the disk, messages for others, states for those whose entries were cut.
//!
//! Owns: what may be sent when. Must not know: what is in a message.

use raft::eraftpb::{Message, MessageType};

use super::Core;
use crate::{
    meta::{
        bugs::Bug,
        disk::{Applied, LogWrite},
        peer::{Body, Chunk, encode},
        queue::Ended,
        raft::{Input, Persist},
        snapshot::{Next, Sending},
        writer::{Install, Job},
    },
    model::{MemberId, Mono},
};

/// A write that waits for the disk.
#[derive(Debug, Default)]
pub(super) struct Queued {
    write: LogWrite,
    number: u64,
    /// The state that was received goes with it.
    install: Option<Applied>,
    then_send: Vec<Message>,
}

impl Queued {
    /// Whether it has to be written before long: a commit index alone can wait for the next entries.
    fn is_due(&self) -> bool {
        self.write.sync || self.write.cut.is_some() || self.install.is_some() || !self.then_send.is_empty()
    }
}

impl Core {
    /// Queues a write; one that follows another goes with it, in one fsync.
    pub(super) fn queue_write(&mut self, persist: Persist, inputs: &mut Vec<Input>) -> Result<(), Ended> {
        let Persist { number, write, install, mut then_send } = persist;
        if self.bugs.has(Bug::SendBeforeWrite) {
            self.send_raft(std::mem::take(&mut then_send), inputs);
        }
        if write == LogWrite::default() && install.is_none() && self.queued.is_empty() && !self.disk_busy {
            self.send_raft(then_send, inputs);
            inputs.push(Input::Persisted(number));
            return Ok(());
        }
        if let Some(applied) = &install {
            let here = self.received.as_ref().is_some_and(|r| r.applied.index == applied.index);
            if !here {
                return Err(Ended::Failed("raft has taken a state that did not arrive".into()));
            }
            self.installing = true;
        }
        match self.queued.back_mut() {
            Some(last) if last.install.is_none() && install.is_none() => {
                last.write.merge(write);
                last.number = number.max(last.number);
                last.then_send.extend(then_send);
            }
            _ => self.queued.push_back(Queued { write, number, install, then_send }),
        }
        Ok(())
    }

    /// Gives the disk its next job, if it has none.
    pub(super) fn give_job(&mut self) {
        if self.disk_busy {
            return;
        }
        let job = if std::mem::take(&mut self.flush_wanted) {
            Job::FlushState
        } else {
            // What waits behind it is due, or it is itself.
            let due = self.queued.iter().any(Queued::is_due);
            let next = if due { self.queued.pop_front() } else { None };
            let Some(Queued { mut write, number, install, then_send }) = next else { return };
            self.then_send = then_send;
            match install.and_then(|applied| Some((applied, self.received.take()?))) {
                Some((applied, received)) => {
                    let log_first = self.bugs.has(Bug::SnapshotNotAtomic);
                    Job::Install(Box::new(Install { state: received.state, applied, write, number, log_first }))
                }
                None => {
                    write.promise = self.shorter_promise();
                    Job::Write { write, number }
                }
            }
        };
        self.disk_busy = true;
        self.shared.disk_job.begin(self.now());
        self.out.job = Some(job);
    }

    /// The job is done, and what waited for it may be sent.
    pub(super) fn disk_is_free(&mut self) {
        self.disk_busy = false;
        self.shared.disk_job.end();
        for message in std::mem::take(&mut self.then_send) {
            self.send_body(MemberId(message.to), &Body::Raft(Box::new(message)));
        }
    }

    /// Sends what raft says. Where it wants a state to be sent, its parts are.
    pub(super) fn send_raft(&mut self, messages: Vec<Message>, inputs: &mut Vec<Input>) {
        for mut message in messages {
            let to = MemberId(message.to);
            self.promise(&mut message);
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.begin_sending(to, &message, inputs);
            } else {
                self.send_body(to, &Body::Raft(Box::new(message)));
            }
        }
    }

    pub(super) fn send_body(&mut self, to: MemberId, body: &Body) {
        // One too long to be sent is lost like any other; raft bounds what it sends.
        if let Some(bytes) = encode(self.shared.owner, to, body) {
            self.out.send.push((to, bytes));
        }
    }

    fn begin_sending(&mut self, to: MemberId, message: &Message, inputs: &mut Vec<Input>) {
        // Between raft's answer and this nothing is applied, so that the state is the one that raft means.
        if message.get_snapshot().get_metadata().index != self.applied.index {
            inputs.push(Input::SnapshotSent { to, arrived: false });
            return;
        }
        slog::info!(self.log, "a member needs the whole state"; "member" => to.0, "index" => self.applied.index);
        let sending = Sending::new(message.term, self.applied.clone(), self.state.clone(), self.now());
        let first = sending.first();
        self.peers.sending.insert(to, sending);
        self.send_body(to, &Body::Chunk(first));
    }

    /// A member wants the next part.
    pub(super) fn chunk_taken(&mut self, from: MemberId, session: u64, wanted: u64, inputs: &mut Vec<Input>) {
        let now = self.now();
        if let Some(sending) = self.peers.sending.get_mut(&from) {
            let next = sending.wanted(session, wanted, now);
            self.follow_sending(from, next, inputs);
        }
    }

    pub(super) fn tick_sending(&mut self, now: Mono, inputs: &mut Vec<Input>) {
        if !self.node.is_leader() {
            self.peers.sending.clear();
        }
        let next: Vec<(MemberId, Next)> = self.peers.sending.iter_mut().map(|(to, s)| (*to, s.tick(now))).collect();
        for (to, next) in next {
            self.follow_sending(to, next, inputs);
        }
    }

    fn follow_sending(&mut self, to: MemberId, next: Next, inputs: &mut Vec<Input>) {
        let arrived = match next {
            Next::Wait => return,
            Next::Send(chunk) => return self.send_body(to, &Body::Chunk(chunk)),
            Next::Arrived => true,
            Next::GivenUp => false,
        };
        self.peers.sending.remove(&to);
        inputs.push(Input::SnapshotSent { to, arrived });
    }

    /// A part of a state has come.
    pub(super) fn take_chunk(&mut self, from: MemberId, chunk: &Chunk, inputs: &mut Vec<Input>) {
        let (wanted, received) = self.peers.receiving.take(from, chunk);
        self.send_body(from, &Body::ChunkTaken { session: chunk.session, wanted });
        // While one is on its way to raft and to disk, another one is not wanted.
        if let Some(received) = received.filter(|_| !self.installing && self.received.is_none()) {
            let mut message = Message { from: from.0, to: self.this.id.0, ..Message::default() };
            message.set_msg_type(MessageType::MsgSnapshot);
            message.term = received.leader_term;
            let meta = message.mut_snapshot().mut_metadata();
            (meta.index, meta.term) = (received.applied.index, received.applied.term);
            meta.set_conf_state(received.applied.conf.clone());
            self.received = Some(received);
            inputs.push(Input::Message(Box::new(message)));
        }
    }
}
