//! Leading: when this member begins and ceases to serve, its lease, and how leadership is handed over.
//!
//! Owns: the rule that nothing is served without a lease, and that none is held while another may be elected. Must not know: raft's
//! messages.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::Core;
use crate::{
    meta::{
        MetaError,
        bugs::Bug,
        handle::{Group, Leadership},
        machine::{Change, Command, Member},
        membership::MemberError,
        queue::MemberAnswer,
        raft::{Follower, Input},
    },
    model::{MemberId, Mono},
};

/// Leadership that is being handed over. The lease is gone, and in this term it does not come back: the successor's votes count whatever
/// voters promised, and they may be late.
pub(super) struct Transfer {
    term: u64,
    since: Mono,
    pub(super) answer: Option<MemberAnswer>,
}

impl Core {
    pub(super) fn election(&self) -> Duration {
        self.timings.tick * self.timings.election_ticks
    }

    /// Whether a member was heard lately.
    pub(super) fn reaches(&self, id: MemberId, now: Mono) -> bool {
        id == self.this.id || self.peers.heard.get(&id).is_some_and(|at| now.since(*at) <= self.election())
    }

    /// What a leader does with each tick.
    pub(super) fn lead_on(&mut self, now: Mono, inputs: &mut Vec<Input>) {
        self.watch_followers(now);
        if !self.node.is_leader() {
            return;
        }
        if !self.node.is_alone() {
            inputs.push(self.confirmation(now));
        }
        let unfit = self.unfit(now);
        match &mut self.transfer {
            Some(transfer) if now.since(transfer.since) > self.timings.tick * self.timings.election_ticks => {
                if let Some(answer) = transfer.answer.take() {
                    answer(Err(MemberError::NotTaken));
                }
                inputs.push(Input::StepDown);
            }
            Some(_) => {}
            None => match unfit {
                Some(why) => self.leave(why, inputs),
                None => self.promote(now, inputs),
            },
        }
    }

    /// Why this member is not to lead, if there is a reason.
    pub(super) fn unfit(&self, now: Mono) -> Option<&'static str> {
        match (self.hashes.is_outvoted(self.this.id), self.is_stalled(now)) {
            (true, _) => Some("the state of this member is not that of the majority, it leads no more"),
            (false, true) => Some("the disk does not answer, this member leads no more"),
            (false, false) => None,
        }
    }

    /// Whether the disk has not answered for too long to lead. A group of one has nobody else who could.
    fn is_stalled(&self, now: Mono) -> bool {
        self.shared.disk_job.lasts(now) > self.timings.disk_patience && !self.node.is_alone()
    }

    /// Leads no more, since what it is asked to keep it may not be able to: another member takes over, or it just ceases.
    fn leave(&mut self, why: &str, inputs: &mut Vec<Input>) {
        slog::warn!(self.log, "{}", why; "term" => self.node.term());
        self.begin_transfer(None, None, inputs);
        if self.transfer.is_none() {
            inputs.push(Input::StepDown);
        }
    }

    /// Gives the lease up when leadership is lost, and bounds it when others may vote.
    pub(super) fn follow_lease(&mut self) {
        let Some(term) = self.leading else { return };
        if !self.node.is_leader() || self.node.term() != term {
            self.leading = None;
            self.shared.close();
            for (_, answer) in std::mem::take(&mut self.pending) {
                answer(Err(MetaError::Unknown));
            }
            if let Some(answer) = self.transfer.take().and_then(|t| t.answer) {
                answer(Ok(()));
            }
            let (leader, term, since) = (self.node.leader(), self.node.term(), self.now());
            self.set_leadership(Leadership { leader, serving: false, term, since });
        } else if self.transfer.is_none() {
            match self.node.is_alone() {
                true => self.shared.lease.grant_alone(),
                false => self.shared.lease.bound(self.now(), self.timings.promise()),
            }
        }
    }

    /// Begins to serve when this member leads and has applied everything before its term.
    pub(super) fn follow_leadership(&mut self, inputs: &mut Vec<Input>) {
        self.follow_lease();
        let (leads, term) = (self.node.is_leader(), self.node.term());
        let before = *self.shared.leadership.lock();
        if leads && self.leading.is_none() && self.begun_term == term && self.committed.is_empty() {
            if self.introduced_term != term {
                self.introduced_term = term;
                inputs.extend(self.introduction());
            }
            if self.state.cluster.is_some() && self.is_known() && self.unfit(self.now()).is_none() {
                self.begin_serving(term);
                inputs.push(self.confirmation(self.now()));
            }
        } else if self.leading.is_none() && (before.leader, before.term) != (self.node.leader(), term) {
            self.set_leadership(Leadership { leader: self.node.leader(), serving: false, term, since: self.now() });
        }
    }

    /// What this member says about itself; who should rather lead is not for it to say.
    fn own_row(&self) -> Member {
        let leader_priority = self.state.members.get(&self.this.id).map_or(0, |m| m.leader_priority);
        Member { leader_priority, ..self.this.clone() }
    }

    pub(super) fn is_known(&self) -> bool {
        self.state.members.get(&self.this.id).is_some_and(|m| **m == self.own_row())
    }

    /// Proposals that make the cluster, this member and those that it began with known, as far as they are not.
    fn introduction(&self) -> Vec<Input> {
        let cluster_id = self.shared.owner.cluster;
        let mut commands = vec![];
        if self.state.cluster.is_none() {
            commands.push(Command::InitCluster { cluster_id });
        }
        if !self.is_known() {
            commands.push(Command::UpdateMember(self.own_row()));
        }
        let missing = |m: &&Member| m.id != self.this.id && !self.state.members.contains_key(&m.id);
        commands.extend(self.founders.iter().filter(missing).cloned().map(Command::UpdateMember));
        let input = |command| {
            let ticket = self.shared.next_ticket();
            self.shared.encode(ticket, command).map(|data| Input::Propose { ticket, data })
        };
        let inputs: Result<Vec<_>, _> = commands.into_iter().map(input).collect();
        inputs.unwrap_or_else(|e| {
            slog::error!(self.log, "this member cannot be made known"; "error" => %e);
            vec![]
        })
    }

    /// Has the leader make known what this member says about itself, when that is different.
    pub(super) fn make_known(&mut self, now: Mono, inputs: &mut Vec<Input>) {
        let member = self.applied.conf.voters.iter().chain(&self.applied.conf.learners).any(|id| *id == self.this.id.0);
        let asked = self.peers.introduced_at.is_some_and(|at| now.since(at) < self.election());
        if !member || asked || self.node.is_leader() || self.node.leader().is_none() || self.is_known() {
            return;
        }
        self.peers.introduced_at = Some(now);
        let command = Command::UpdateMember(self.own_row());
        // One that cannot be written down is told when this member leads.
        inputs.extend(self.shared.encode(self.shared.next_ticket(), command).map(Input::Forward));
    }

    fn begin_serving(&mut self, term: u64) {
        self.leading = Some(term);
        self.shared.ids.clear();
        self.shared.tso.open_above(if self.bugs.has(Bug::WindowIgnored) { 0 } else { self.state.tso_upper_ms });
        if self.node.is_alone() {
            self.shared.lease.grant_alone();
        }
        self.set_leadership(Leadership { leader: Some(self.this.id), serving: true, term, since: self.now() });
        slog::info!(self.log, "this member leads"; "term" => term, "applied" => self.applied.index);
    }

    fn set_leadership(&self, leadership: Leadership) {
        let Leadership { leader, serving, term, since } = leadership;
        *self.shared.leadership.lock() = leadership;
        self.shared.serving.store(serving, Ordering::Release);
        self.shared.leadership_changed.notify_all();
        self.shared.tell(&Change::LeaderChanged { leader, is_self: serving, term, since });
    }

    pub(super) fn nobody_leads(&mut self) {
        self.leading = None;
        self.set_leadership(Leadership { leader: None, serving: false, term: self.node.term(), since: self.now() });
    }

    /// Hands leadership over: to this member, or to the one that is furthest. Nothing is served from here on.
    pub(super) fn begin_transfer(
        &mut self,
        to: Option<MemberId>,
        answer: Option<MemberAnswer>,
        inputs: &mut Vec<Input>,
    ) {
        let now = self.now();
        let chosen = self.successor(to, now);
        match (chosen, self.leading) {
            (Ok(to), Some(term)) => {
                if !self.bugs.has(Bug::LeaseKeptAtTransfer) {
                    self.shared.close();
                    self.set_leadership(Leadership { leader: Some(self.this.id), serving: false, term, since: now });
                    self.transfer = Some(Transfer { term, since: now, answer });
                }
                slog::info!(self.log, "leadership is handed over"; "to" => to.0, "term" => term);
                inputs.push(Input::Transfer(to));
            }
            (chosen, _) => {
                let error = chosen.err().unwrap_or_else(|| self.shared.not_leader().into());
                if let Some(answer) = answer {
                    answer(Err(error));
                }
            }
        }
    }

    fn successor(&self, to: Option<MemberId>, now: Mono) -> Result<MemberId, MemberError> {
        if self.leading.is_none() {
            return Err(self.shared.not_leader().into());
        }
        if self.transfer.as_ref().is_some_and(|t| Some(t.term) == self.leading) {
            return Err(MemberError::UnderWay);
        }
        let voters = self.node.followers().into_iter().filter(|f| f.voter);
        let sound = |f: &Follower| self.reaches(f.id, now) && !self.hashes.is_outvoted(f.id);
        match to {
            Some(to) if to == self.this.id => Err(MemberError::NoSuccessor),
            Some(to) => {
                // While it is waited for nobody serves: it is asked only if it can be expected to take over.
                let chosen = { voters }.find(|f| f.id == to).ok_or(MemberError::Unknown(to))?;
                let able = sound(&chosen) && self.keeps_up(&chosen, now);
                if able { Ok(to) } else { Err(MemberError::NoSuccessor) }
            }
            None => {
                let best = voters.filter(sound).max_by_key(|f| f.matched);
                best.map(|f| f.id).ok_or(MemberError::NoSuccessor)
            }
        }
    }

    /// The group as others see it.
    pub(in crate::meta) fn show_group(&self) {
        let ids = |ids: &[u64]| ids.iter().map(|id| MemberId(*id)).collect();
        let conf = &self.applied.conf;
        let group = Group { voters: ids(&conf.voters), learners: ids(&conf.learners) };
        self.shared.group.store(Arc::new(group));
    }
}
