//! [`Host`]: the threads that a [`Core`] runs on, one that decides and one that waits for the disk.
//!
//! Owns: queues, the tick's timer, beginning and end of the threads. Must not know: what is decided.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use super::{Core, Todo, core::CoreOptions};
use crate::meta::{
    Clock, OpenError, Options,
    bugs::Bugs,
    handle::Shared,
    membership::Founding,
    peer::Transport,
    queue::{Channel, Ended, Event, MAX_QUEUE},
    writer::{Job, write_to_disk},
};

/// Most events taken in one round. A bound on how long one round keeps the tick waiting.
const MAX_BATCH: usize = 1024;

/// Runs raft and the machine. See [`crate::meta::Meta::open`].
pub struct Host {
    core: Core,
    transport: Arc<dyn Transport>,
    events: Receiver<Event>,
    /// For the disk thread.
    sender: SyncSender<Event>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("core", &self.core).finish_non_exhaustive()
    }
}

/// A running [`Host`]. Dropping it stops the host.
#[derive(Debug)]
pub struct HostHandle {
    sender: SyncSender<Event>,
    thread: Option<JoinHandle<()>>,
}

impl HostHandle {
    /// Ends the host in order: waiting callers are answered, what was applied is put on disk. Returns when it is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Errors mean that it has ended already.
        drop(self.sender.send(Event::Stop));
        drop(thread.join());
    }
}

impl Drop for HostHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl Host {
    pub(in crate::meta) fn open(
        options: Options,
        founding: Founding,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        log: slog::Logger,
    ) -> Result<(Arc<Shared>, Host), OpenError> {
        let (sender, events) = sync_channel(MAX_QUEUE);
        let core = CoreOptions { options, founding, bugs: Bugs::default() };
        let core = Core::open(core, clock, Box::new(Channel(sender.clone())), log)?;
        Ok((core.shared.clone(), Host { core, transport, events, sender }))
    }

    /// Runs on threads of its own.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn spawn(self) -> Result<HostHandle, OpenError> {
        let sender = self.sender.clone();
        let thread = std::thread::Builder::new()
            .name("meta-raft".into())
            .spawn(move || self.run())
            .map_err(OpenError::Thread)?;
        Ok(HostHandle { sender, thread: Some(thread) })
    }

    fn run(mut self) {
        let _guard = HostGuard(self.core.shared.clone());
        // One job is under way and one waits, so that handing one over never blocks.
        let (jobs, todo) = sync_channel(2);
        let (log_file, state_file, sender) =
            (self.core.log_file.clone(), self.core.state_file.clone(), self.sender.clone());
        let disk = std::thread::Builder::new()
            .name("meta-disk".into())
            .spawn(move || write_to_disk(&todo, &log_file, &state_file, &sender));
        match disk {
            Ok(disk) => {
                let end = self.drive(&jobs);
                drop(jobs);
                self.core.end(&end, self.events.try_iter());
                // It may be waiting for room in the queue; without a queue it stops waiting.
                drop(self.events);
                drop(disk.join());
            }
            Err(e) => self.core.end(&Ended::Failed(e.to_string().into()), self.events.try_iter()),
        }
    }

    /// The loop. Returns why it ended.
    fn drive(&mut self, jobs: &SyncSender<Job>) -> Ended {
        let todo = self.core.start();
        if let Err(ended) = self.carry_out(todo, jobs) {
            return ended;
        }
        loop {
            let patience = self.core.wake_at().since(self.core.shared.clock.now().mono);
            let first = match self.events.recv_timeout(patience) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ended::Stopped,
            };
            let more = if first.is_some() { MAX_BATCH } else { 0 };
            let todo = self.core.step(first.into_iter().chain(self.events.try_iter().take(more)));
            if let Err(ended) = self.carry_out(todo, jobs) {
                return ended;
            }
        }
    }

    fn carry_out(&self, todo: Todo, jobs: &SyncSender<Job>) -> Result<(), Ended> {
        let Todo { job, send, ended } = todo;
        if let Some(job) = job {
            // A disk thread that is gone has told why in an event.
            drop(jobs.try_send(job));
        }
        for (to, bytes) in send {
            self.transport.send(to, bytes);
        }
        ended.map_or(Ok(()), Err)
    }
}

/// Ends serving also when the host's thread panics: an observer did, or there is a fault here.
struct HostGuard(Arc<Shared>);

impl Drop for HostGuard {
    fn drop(&mut self) {
        let ended = Ended::Failed("the thread that applies the log has ended unexpectedly".into());
        if self.0.ended.set(ended).is_ok() {
            self.0.close();
            self.0.leadership.lock().serving = false;
            self.0.leadership_changed.notify_all();
        }
    }
}
