//! Several members as processes: started together, killed, paused, stopped one by one.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    nodes::eventually,
    process::{BERTH, Home, Process, free_port},
};

/// How long anything of the group may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one member may take to answer before it counts as away.
const ANSWER: Duration = Duration::from_millis(500);

/// What a member's disk does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disk {
    /// What it is asked.
    Well,
    /// Nothing: writes wait.
    Hangs,
    /// Writes of the state file wait: those that the thread that leads does itself.
    StateHangs,
    /// It has no room: writes are refused.
    Full,
}

/// A member and its process, while it has one.
pub struct Seat {
    /// Its folder, ports and flags.
    pub home: Home,
    /// `None`: it does not run.
    pub process: Option<Process>,
}

impl Seat {
    /// While this file is there, its disk hangs, or is full.
    fn gate(&self) -> PathBuf {
        self.home.path().join("gate")
    }

    /// What its disk does from now on.
    pub fn set_disk(&self, disk: Disk) {
        match disk {
            Disk::Well => std::fs::remove_file(self.gate()),
            Disk::Hangs => std::fs::write(self.gate(), ""),
            Disk::StateHangs => std::fs::write(self.gate(), "state"),
            Disk::Full => std::fs::write(self.gate(), "full"),
        }
        .expect("a file");
    }
}

/// A group.
pub struct Group {
    /// By number, from 0.
    pub seats: Vec<Seat>,
}

impl Group {
    /// Starts so many members together, with further flags, and waits until one leads and all are known.
    pub async fn start(members: usize, more: &[&str]) -> Self {
        let ports: Vec<u16> = (0..members).map(|_| free_port()).collect();
        Self::start_between(&ports, &ports, more).await
    }

    /// As [`Self::start`]: each listens for the others on the port of the first list, and is reached on that of the second.
    pub async fn start_between(listen: &[u16], reached: &[u16], more: &[&str]) -> Self {
        let members = listen.len();
        let list = reached.iter().enumerate().map(|(i, port)| format!("pd-{}={}", i + 1, url(*port)));
        let list = format!("--initial-cluster={}", list.collect::<Vec<_>>().join(","));
        let seat = |(i, (listen, reached)): (usize, (&u16, &u16))| {
            let (listen, reached) = (url(*listen), url(*reached));
            let mut flags =
                vec![format!("--peer-urls={listen}"), format!("--advertise-peer-urls={reached}"), list.clone()];
            flags.extend(more.iter().map(|flag| (*flag).to_owned()));
            Seat { home: Home::member(&format!("pd-{}", i + 1), free_port(), flags), process: None }
        };
        let mut group = Self { seats: listen.iter().zip(reached).enumerate().map(seat).collect() };
        for seat in 0..members {
            group.spawn(seat);
        }
        let leader = group.leader().await;
        let http = group.seats[leader].home.http();
        eventually("all members have said where clients reach them", PATIENCE, || async {
            let answer = timeout(ANSWER, http.get_json("/pd/api/v1/members")).await.ok()?.ok()?;
            let said = |row: &&Value| row["client_urls"].as_array().is_some_and(|urls| !urls.is_empty());
            (answer["members"].as_array()?.iter().filter(said).count() == members).then_some(())
        })
        .await;
        group
    }

    /// Adds a seat for a member that joins; it is not started.
    pub fn add(&mut self, name: &str) -> usize {
        let flags =
            vec![format!("--peer-urls=http://127.0.0.1:{}", free_port()), format!("--join={}", self.urls().join(","))];
        self.seats.push(Seat { home: Home::member(name, free_port(), flags), process: None });
        self.seats.len() - 1
    }

    /// Client URLs of all seats.
    pub fn urls(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.home.url()).collect()
    }

    /// Starts a member.
    pub fn spawn(&mut self, seat: usize) {
        let seat = &mut self.seats[seat];
        assert!(seat.process.is_none(), "it runs already");
        let mut command = Command::new(BERTH);
        command.arg("server").args(seat.home.flags()).env("BERTH_TEST_DISK_HANGS_WHILE", seat.gate());
        seat.process = Some(seat.home.spawn_as(command));
    }

    /// `kill -9`
    pub fn kill(&mut self, seat: usize) {
        self.seats[seat].process.take().expect("it runs").kill();
    }

    /// SIGTERM; returns when the process has ended, which must be in order.
    pub async fn stop(&mut self, seat: usize) {
        let process = self.seats[seat].process.take().expect("it runs");
        process.signal(Signal::TERM);
        let status = process.ended(PATIENCE).await;
        assert_eq!(status.code(), Some(0), "{}", self.seats[seat].home.printed());
    }

    /// Waits until a member's process has ended by itself; returns its exit code.
    pub async fn ended(&mut self, seat: usize) -> Option<i32> {
        self.seats[seat].process.take().expect("it runs").ended(PATIENCE).await.code()
    }

    /// Sends a signal.
    pub fn signal(&self, seat: usize, signal: Signal) {
        self.seats[seat].process.as_ref().expect("it runs").signal(signal);
    }

    /// Waits until all that run name the same leader, which serves; returns its seat.
    pub async fn leader(&self) -> usize {
        eventually("a leader that all name", PATIENCE, || async {
            let (mut named, mut leads) = (vec![], None);
            for (number, seat) in self.running() {
                let stands = stands(seat).await?;
                named.push(stands["leader"].as_u64()?);
                leads = leads.or(stands["leads"].as_bool()?.then_some(number));
            }
            named.windows(2).all(|w| w[0] == w[1]).then_some(leads?)
        })
        .await
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Seat)> {
        self.seats.iter().enumerate().filter(|(_, seat)| seat.process.is_some())
    }

    /// Waits until all members that run have applied the same entries, and compares what they hold.
    pub async fn same(&self) {
        eventually("the same state everywhere", PATIENCE, || async {
            let mut states = vec![];
            for (_, seat) in self.running() {
                let stands = stands(seat).await?;
                assert_eq!(stands["hashes_differ"], 0, "R: members that agreed on the same hold the same");
                states.push((stands["applied"].clone(), stands["state_hash"].clone()));
            }
            (!states.is_empty() && states.windows(2).all(|w| w[0] == w[1])).then_some(())
        })
        .await;
    }

    /// Time that passes until `done` holds, looked at often.
    pub async fn until(what: &str, done: impl AsyncFn() -> bool) -> Duration {
        let from = Instant::now();
        eventually(what, PATIENCE, || async { done().await.then_some(()) }).await;
        from.elapsed()
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// How a member says that it stands.
pub async fn stands(seat: &Seat) -> Option<Value> {
    let http = seat.home.http();
    timeout(ANSWER, http.get_json("/berth/v1/group")).await.ok()?.ok()
}
