//! Groups of one and of three in one thread, from a seed: messages lost, delayed and reordered, disks that are slow, members that are
//! killed. Nothing in `meta` may assume a group of one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    meta::{
        bugs::Bugs,
        disk::{Applied, HardMark, LoadedLog, LogWrite},
    },
    model::MemberId,
};

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// A log on a disk that never fails; what was not synced is not here.
#[derive(Clone, Default)]
struct Disk {
    hard: HardMark,
    entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, write: &LogWrite) {
        if let Some(first) = write.entries.first() {
            self.entries.truncate(first.index as usize - 1);
            self.entries.extend(write.entries.iter().cloned());
        }
        self.hard = write.hard.unwrap_or(self.hard);
    }
}

struct Peer {
    node: Node,
    disk: Disk,
    /// Handed to the disk, not yet on it.
    writing: Vec<Persist>,
    applied: Vec<Vec<u8>>,
}

struct Group {
    peers: BTreeMap<u64, Peer>,
    /// On the way: from, to, message.
    network: Vec<(u64, Message)>,
    rng: ChaCha8Rng,
    /// Term and leader, for "one leader a term".
    leaders: BTreeMap<u64, u64>,
    next: u64,
}

fn node(id: u64, size: u64, disk: &Disk, election_ticks: usize) -> Node {
    let conf = ConfState { voters: (1..=size).collect(), ..ConfState::default() };
    let log = LoadedLog { hard: disk.hard, entries: disk.entries.clone(), ..LoadedLog::default() };
    let applied = Applied { conf, ..Applied::default() };
    let bugs = Bugs::default();
    Node::new(
        NodeOptions { id: MemberId(id), log, applied, election_ticks, start_ticks: election_ticks, seed: id, bugs },
        &logger(),
    )
    .unwrap()
}

impl Group {
    fn new(size: u64, seed: u64) -> Self {
        let peer = |id| Peer {
            node: node(id, size, &Disk::default(), 5),
            disk: Disk::default(),
            writing: vec![],
            applied: vec![],
        };
        Self {
            peers: (1..=size).map(|id| (id, peer(id))).collect(),
            network: vec![],
            rng: ChaCha8Rng::seed_from_u64(seed),
            leaders: BTreeMap::new(),
            next: 0,
        }
    }

    fn step(&mut self, id: u64, input: Input) {
        let peer = self.peers.get_mut(&id).unwrap();
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let out = peer.node.step(std::mem::take(&mut inputs));
            self.network.extend(out.send.into_iter().map(|m| (id, m)));
            peer.writing.extend(out.persist);
            for entry in &out.committed {
                assert_eq!(entry.index as usize, peer.applied.len() + 1, "applied in order, none left out");
                let Wanted::Data(data) = &entry.wanted else {
                    peer.applied.push(vec![]);
                    continue;
                };
                peer.applied.push(data.clone());
            }
            if let Some(last) = out.committed.last() {
                inputs.push(Input::Applied(Applied { index: last.index, term: last.term, conf: peer.node.members() }));
            }
        }
        if peer.node.is_leader() {
            let leader = *self.leaders.entry(peer.node.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", peer.node.term());
        }
        self.check_agreement();
    }

    /// All applied the same in the same order, as far as they are.
    fn check_agreement(&self) {
        let longest = self.peers.values().max_by_key(|p| p.applied.len()).unwrap();
        for peer in self.peers.values() {
            assert_eq!(peer.applied, longest.applied[..peer.applied.len()], "members disagree");
        }
    }

    /// The disk of `id` finishes what it has.
    fn sync(&mut self, id: u64) {
        let peer = self.peers.get_mut(&id).unwrap();
        let Some(last) = peer.writing.last().map(|p| p.number) else { return };
        for persist in std::mem::take(&mut peer.writing) {
            peer.disk.write(&persist.write);
            self.network.extend(persist.then_send.into_iter().map(|m| (id, m)));
        }
        self.step(id, Input::Persisted(last));
    }

    fn kill(&mut self, id: u64) {
        let size = self.peers.len() as u64;
        let peer = self.peers.get_mut(&id).unwrap();
        peer.writing.clear();
        peer.applied.clear();
        peer.node = node(id, size, &peer.disk, 5);
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.network.len());
        let (_, message) = self.network.swap_remove(at);
        self.step(message.to, Input::Message(Box::new(message)));
    }

    fn propose(&mut self, id: u64) {
        self.next += 1;
        let data = self.next.to_le_bytes().to_vec();
        self.step(id, Input::Propose { ticket: self.next, data });
    }

    fn random_step(&mut self) {
        let ids: Vec<u64> = self.peers.keys().copied().collect();
        let id = *ids.choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..100) {
            0..25 => self.step(id, Input::Tick),
            25..60 => self.deliver(),
            60..80 => self.sync(id),
            80..90 => self.propose(id),
            90..96 => {
                if !self.network.is_empty() {
                    let at = self.rng.random_range(0..self.network.len());
                    self.network.swap_remove(at);
                }
            }
            96..98 => self.kill(id),
            _ => self.step(id, Input::Confirm(vec![1])),
        }
    }

    /// No more faults: everything moves on until a leader has been agreed with.
    fn settle(&mut self) -> u64 {
        for _ in 0..400 {
            for id in self.peers.keys().copied().collect::<Vec<_>>() {
                self.step(id, Input::Tick);
                self.sync(id);
                while !self.network.is_empty() {
                    self.deliver();
                }
                self.sync(id);
            }
            let leader = self.peers.iter().find(|(_, p)| p.node.is_leader()).map(|(id, _)| *id);
            if let Some(leader) = leader {
                self.propose(leader);
                let wanted = self.next.to_le_bytes().to_vec();
                for _ in 0..10 {
                    for id in self.peers.keys().copied().collect::<Vec<_>>() {
                        self.sync(id);
                        while !self.network.is_empty() {
                            self.deliver();
                        }
                    }
                }
                if self.peers.values().any(|p| p.applied.contains(&wanted)) {
                    return leader;
                }
            }
        }
        panic!("no leader that gets anything agreed");
    }
}

#[test]
fn r8_three_members_agree_whatever_happens() {
    for seed in 0..60 {
        let mut group = Group::new(3, seed);
        for _ in 0..1500 {
            group.random_step();
        }
        group.settle();
        assert!(group.peers.values().any(|p| p.applied.len() > 1), "seed {seed}: nothing was agreed");
    }
}

#[test]
fn a_group_of_one_campaigns_at_once_and_commits_only_what_is_on_disk() {
    let mut group = Group::new(1, 0);
    group.step(1, Input::Campaign);
    assert!(group.peers[&1].node.is_leader() && group.peers[&1].node.is_alone());
    group.propose(1);
    assert!(group.peers[&1].applied.is_empty(), "nothing is on disk yet");
    group.sync(1);
    assert_eq!(group.peers[&1].applied.len(), 2);
    group.propose(1);
    group.kill(1);
    group.step(1, Input::Campaign);
    group.sync(1);
    assert_eq!(
        group.peers[&1].applied.len(),
        3,
        "two entries of the first term, the third was never on disk; one of the second"
    );
}

#[test]
fn a_follower_drops_proposals_and_says_which() {
    let mut one = node(1, 3, &Disk::default(), 5);
    let out = one.step([Input::Propose { ticket: 9, data: vec![1] }]);
    assert_eq!(out.dropped, [9]);
    assert!(out.committed.is_empty() && one.leader().is_none() && !one.is_alone());
}

#[test]
fn a_member_without_state_answers_entries_with_nothing_but_its_question() {
    let mut joiner = node(4, 0, &Disk::default(), 5);
    let mut append = Message { from: 1, to: 4, term: 2, index: 49, log_term: 2, commit: 50, ..Message::default() };
    append.set_msg_type(MessageType::MsgAppend);
    append.entries = vec![Entry { term: 2, index: 50, data: vec![1].into(), ..Entry::default() }].into();
    let (mut at_once, mut asked) = (vec![], vec![]);
    for _ in 0..3 {
        let out = joiner.step([Input::Message(Box::new(append.clone()))]);
        at_once.extend(out.send);
        for persist in out.persist {
            asked.extend(persist.then_send);
            at_once.extend(joiner.step([Input::Persisted(persist.number)]).send);
        }
    }
    let questions = at_once.iter().chain(&asked);
    assert!(questions.clone().all(|m| m.get_msg_type() == MessageType::MsgAppendResponse && m.reject), "{at_once:?}");
    assert!(questions.clone().any(|m| m.request_snapshot == 1), "it asks for the state");
    assert_eq!(joiner.leader(), Some(MemberId(1)));
}
