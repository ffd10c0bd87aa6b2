//! The hash of the state, held against those of the other members: at certain entries, and from time to time where nothing happens.
//!
//! Owns: what is told to whom, whose state is not that of the majority, what is said about it. Must not know: what a state is, what
//! becomes of leadership (`lead`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::Ordering,
    time::Duration,
};

use super::Core;
use crate::{
    meta::peer::Body,
    model::{MemberId, Mono},
};

/// Own hashes that are remembered, for members that are behind.
const MAX_OWN: usize = 64;
/// Hashes of others that are remembered.
const MAX_TOLD: usize = 256;
/// How often a difference with one member is said at most.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    /// Here: entry and hash, ascending.
    own: VecDeque<(u64, u64)>,
    /// As others say, by entry. Those of entries that are not applied here yet wait for them.
    others: BTreeMap<(u64, MemberId), u64>,
    /// To be told to others.
    to_tell: Vec<(u64, u64)>,
    /// When to tell the present one whatever happens.
    tell_at: Mono,
    /// Members whose state was not that of the majority, and the entry after which that was seen last.
    outvoted: BTreeMap<MemberId, u64>,
    /// When a difference with a member was said.
    said: BTreeMap<MemberId, Mono>,
}

impl Hashes {
    /// Whether the state of this one was seen not to be that of the majority.
    pub(super) fn is_outvoted(&self, id: MemberId) -> bool {
        self.outvoted.contains_key(&id)
    }

    fn own_at(&self, index: u64) -> Option<u64> {
        self.own.iter().find(|(at, _)| *at == index).map(|(_, hash)| *hash)
    }

    fn others_at(&self, index: u64) -> impl Iterator<Item = (MemberId, u64)> {
        self.others.range((index, MemberId(0))..=(index, MemberId(u64::MAX))).map(|((_, id), hash)| (*id, *hash))
    }
}

impl Core {
    fn compares_hashes(&self) -> bool {
        self.timings.hash_every > 0
    }

    /// After each entry: is this one of those after which hashes are compared, or one that another member has asked about?
    pub(super) fn note_hash_if_due(&mut self) {
        let index = self.applied.index;
        let every = self.timings.hash_every;
        if self.compares_hashes() && (index.is_multiple_of(every) || self.hashes.others_at(index).next().is_some()) {
            self.note_hash();
        }
    }

    /// From time to time, so that members that do nothing are compared, too. What was lost on the way is told again by it.
    pub(super) fn tick_hashes(&mut self, now: Mono) {
        if !self.compares_hashes() || now < self.hashes.tell_at || self.applied.index == 0 {
            return;
        }
        self.hashes.tell_at = now.plus(self.timings.hash_period);
        self.note_hash();
        let present = (self.applied.index, self.state.hash);
        if !self.hashes.to_tell.contains(&present) {
            self.hashes.to_tell.push(present);
        }
        self.tell_hashes();
    }

    /// Remembers the hash of the state as it is, and holds it against what others said.
    fn note_hash(&mut self) {
        let (index, hash) = (self.applied.index, self.state.hash);
        if self.hashes.own_at(index).is_some() {
            return;
        }
        self.hashes.own.push_back((index, hash));
        if self.hashes.own.len() > MAX_OWN {
            self.hashes.own.pop_front();
        }
        self.hashes.to_tell.push((index, hash));
        let others: Vec<(MemberId, u64)> = self.hashes.others_at(index).collect();
        for (member, theirs) in others {
            self.compare(index, hash, member, theirs);
        }
    }

    /// Tells what was noted, once it is safe that it stays.
    pub(super) fn tell_hashes(&mut self) {
        for (index, hash) in std::mem::take(&mut self.hashes.to_tell) {
            self.tell_members(&Body::StateHash { index, hash });
        }
    }

    /// Another member says what its state sums up to.
    pub(super) fn hear_hash(&mut self, from: MemberId, index: u64, theirs: u64) {
        if !self.compares_hashes() || self.hashes.others.insert((index, from), theirs) == Some(theirs) {
            return;
        }
        if self.hashes.others.len() > MAX_TOLD {
            self.hashes.others.pop_first();
        }
        match self.hashes.own_at(index) {
            Some(own) => self.compare(index, own, from, theirs),
            None if index == self.applied.index => {
                self.note_hash();
                self.tell_hashes();
            }
            None => {}
        }
    }

    fn compare(&mut self, index: u64, own: u64, member: MemberId, theirs: u64) {
        self.shared.hashes_compared.fetch_add(1, Ordering::Relaxed);
        if own != theirs {
            self.shared.hashes_differ.fetch_add(1, Ordering::Relaxed);
            let now = self.now();
            if self.hashes.said.get(&member).is_none_or(|at| now.since(*at) >= SAY_AGAIN) {
                self.hashes.said.insert(member, now);
                slog::error!(self.log, "two members have different states at the same entry";
                    "index" => index, "member" => member.0,
                    "own-hash" => format!("{own:016x}"), "its-hash" => format!("{theirs:016x}"));
            }
        }
        self.count_votes(index, own);
    }

    /// Who is not of the majority's opinion, if there is a majority.
    fn count_votes(&mut self, index: u64, own: u64) {
        let voters = &self.applied.conf.voters;
        let said: Vec<(MemberId, u64)> = self.hashes.others_at(index).chain([(self.this.id, own)]).collect();
        let votes = |hash| said.iter().filter(|(id, of)| *of == hash && voters.contains(&id.0)).count();
        let Some(agreed) = said.iter().map(|(_, hash)| *hash).find(|hash| votes(*hash) > voters.len() / 2) else {
            return;
        };
        for (id, hash) in said {
            let before = self.hashes.outvoted.get(&id).copied();
            if hash != agreed {
                self.hashes.outvoted.insert(id, before.unwrap_or(0).max(index));
                if before.is_none() {
                    self.say_outvoted(id, index);
                }
            } else if id != self.this.id && before.is_some_and(|before| before < index) {
                // It was given the state anew.
                self.hashes.outvoted.remove(&id);
            }
        }
    }

    fn say_outvoted(&self, id: MemberId, index: u64) {
        let name = self.state.members.get(&id).map_or("", |m| m.name.as_str());
        let what = if id == self.this.id {
            // At once; leadership goes with the next tick.
            self.shared.outvoted.store(true, Ordering::Release);
            self.shared.lease.revoke();
            "the state of this member is not that of the majority, it serves and leads no more: keep a copy of its data directory, \
             remove the member, empty the directory and start it with --join"
        } else {
            "the state of a member is not that of the majority: keep a copy of its data directory, remove the member, empty the \
             directory and start it with --join"
        };
        slog::error!(self.log, "{}", what; "member" => id.0, "member-name" => name, "index" => index);
    }

    /// The state came from another member: what was said about the one before does not matter any more.
    pub(super) fn forget_hashes(&mut self) {
        self.hashes = Hashes { tell_at: self.hashes.tell_at, ..Hashes::default() };
        self.shared.outvoted.store(false, Ordering::Release);
    }
}
