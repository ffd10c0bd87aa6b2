//! The recorded walks of operators: HTTP requests, region heartbeats, and the commands that PD sent to each, replayed over real gRPC
//! and HTTP against a server with cluster D.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub(crate) mod clock;
    pub(crate) mod facts;
    pub(crate) mod http;
    pub(crate) mod proto_text;
    pub(crate) mod server;
    pub(crate) mod stub;
}

use std::time::Duration;

use berth::proto::pdpb;
use common::{
    facts::{self, Request},
    http, proto_text,
    server::Running,
    stub::Stub,
};
use regex::Regex;

/// How long a command may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing must come where nothing is recorded.
const SILENCE: Duration = Duration::from_millis(300);

/// One thing that happens in a walk.
#[derive(Debug)]
enum Event {
    /// A request and the answer: status, JSON text.
    Http(Request, String),
    /// A heartbeat.
    Heartbeat(Box<pdpb::RegionHeartbeatRequest>),
    /// Commands that come for a region.
    Commands(u64, Vec<String>),
}

fn read(text: &str) -> Vec<(String, Vec<Event>)> {
    let mut walks: Vec<(String, Vec<Event>)> = Vec::new();
    let mut region = 0;
    let number = Regex::new(r"region (\d+)").unwrap();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        if let Some(title) = line.strip_prefix("=== ") {
            walks.push((title.to_owned(), Vec::new()));
            // The region of the walk's first command, where no heartbeat names it before.
            region = number.captures(title).map_or(0, |c| c[1].parse().unwrap());
            continue;
        }
        let events = &mut walks.last_mut().expect("a title").1;
        if let Some(request) = line.strip_prefix("HTTP ") {
            events.push(Event::Http(facts::unrecorded(request), String::new()));
        } else if let Some(answer) = line.strip_prefix("  -> ") {
            let Some(Event::Http(_, wanted)) = events.last_mut() else { panic!("an answer to nothing: {line}") };
            answer.clone_into(wanted);
        } else if let Some(heartbeat) = line.strip_prefix("  store->PD  ") {
            let report = proto_text::heartbeat(heartbeat);
            region = report.region.as_ref().map_or(0, |r| r.id);
            events.push(Event::Heartbeat(Box::new(report)));
        } else if let Some(command) = line.strip_prefix("  PD->store  ") {
            let commands = if command.starts_with("(no message") { Vec::new() } else { vec![command.to_owned()] };
            match events.last_mut() {
                Some(Event::Commands(_, list)) => list.extend(commands),
                _ => events.push(Event::Commands(region, commands)),
            }
        } else {
            assert!(line.starts_with("HB "), "unknown line: {line}");
        }
    }
    walks
}

/// Replaces times, and the two new peers of the walk that has two: which of them comes first is free.
fn masked(text: &str) -> String {
    let times = Regex::new(r"(createAt|startAt|finishAt):[^,)]* m=\+[0-9.]+").unwrap();
    let text = times.replace_all(text, "$1:0");
    let new_peer = Regex::new(r"(peer |id: )20[78]( on store | store_id: )[25]").unwrap();
    new_peer.replace_all(&text, "${1}NEW${2}NEW").into_owned()
}

struct Walk {
    running: Running,
    stub: Stub,
}

impl Walk {
    async fn set_up(compat: &std::path::Path) -> Self {
        let running = Running::start().await;
        let mut stub = Stub::connect(running.addr(), running.clock.clone(), compat).await;
        stub.bootstrap().await;
        let halt = facts::unrecorded(r#"POST /pd/api/v1/config {"schedule.halt-scheduling":"true"}"#);
        assert_eq!(http::send(running.addr(), &halt).await.status, 200);
        stub.join().await;
        for id in stub.regions.keys().copied().collect::<Vec<_>>() {
            stub.settled(id).await;
        }
        Self { running, stub }
    }

    /// Does one thing; `Err` says what is not as recorded.
    async fn take(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Http(request, wanted) => {
                let answer = http::send(self.running.addr(), request).await;
                let got = format!("{} {}", answer.status, answer.text().trim_end());
                if masked(&got) == masked(wanted) {
                    Ok(())
                } else {
                    Err(format!("answer {got}\n  instead of {wanted}"))
                }
            }
            Event::Heartbeat(report) => {
                let id = report.region.as_ref().map_or(0, |r| r.id);
                // Sizes and traffic are those of the cluster's description; the walks leave them out.
                let mut whole = self.stub.regions[&id].report.clone();
                whole.region.clone_from(&report.region);
                whole.leader.clone_from(&report.leader);
                whole.pending_peers.clone_from(&report.pending_peers);
                whole.down_peers.clone_from(&report.down_peers);
                self.stub.send(whole).await;
                Ok(())
            }
            Event::Commands(region, wanted) => self.expect(*region, wanted).await,
        }
    }

    /// Waits for the recorded commands. Sending one again is free.
    async fn expect(&mut self, region: u64, wanted: &[String]) -> Result<(), String> {
        let mut got: Vec<String> = Vec::new();
        let end = tokio::time::Instant::now() + if wanted.is_empty() { SILENCE } else { PATIENCE };
        while tokio::time::Instant::now() < end && (wanted.is_empty() || got.len() < wanted.len()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            got.extend(self.stub.take_commands(region).iter().map(proto_text::command));
            got.dedup();
        }
        let same = got.iter().map(|c| masked(c)).eq(wanted.iter().map(|c| masked(c)));
        if same { Ok(()) } else { Err(format!("commands {got:#?}\n  instead of {wanted:#?}")) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_those_of_pd() {
    let Some(compat) = facts::folder("compat") else { return };
    let text = std::fs::read_to_string(compat.join("heartbeat-walk.txt")).unwrap();
    let walks = read(&text);
    assert_eq!(walks.len(), 13);
    let mut walk = Walk::set_up(&compat).await;
    let (mut done, mut wrong) = (0, Vec::new());
    for (title, events) in &walks {
        for (at, event) in events.iter().enumerate() {
            if let Err(why) = walk.take(event).await {
                wrong.push(format!("walk {title}, event {at}: {why}"));
            }
        }
        done += 1;
    }
    walk.running.server.stop().await;
    println!("walks: {done} of {}", walks.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
