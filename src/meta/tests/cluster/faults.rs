//! Faults: which one comes next, and what it does.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};

use super::{
    plan::{Fault, MS, SECOND},
    world::{Happening, World},
};
use crate::{
    meta::{disk::faults::Unsynced, host::Todo},
    model::MemberId,
};

/// Most members that the group is made to have.
const MAX_MEMBERS: usize = 6;

const DAY: i64 = 86_400_000_000_000;

impl World {
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let gap = self.rng.random_range(1..=2 * self.plan.fault_gap);
        self.after(gap, Happening::Fault);
        let Some(at) = self.any_up() else { return Ok(()) };
        // The leader is what most depends on.
        let at = self.leader().filter(|_| self.rng.random_bool(0.4)).unwrap_or(at);
        let Some(fault) = self.plan.faults.clone().choose(&mut self.rng).copied() else { return Ok(()) };
        match fault {
            Fault::Crash if self.rng.random_bool(0.5) => {
                self.machines[at].doomed = true;
                Ok(())
            }
            Fault::Crash => {
                self.fall(at, false);
                Ok(())
            }
            Fault::Kill => {
                self.fall(at, true);
                Ok(())
            }
            Fault::CrashAll => {
                if self.rng.random_bool(0.3) {
                    (0..self.machines.len()).for_each(|at| self.fall(at, false));
                }
                Ok(())
            }
            Fault::Pause => {
                self.counts.pauses += 1;
                self.machines[at].paused = true;
                let lasts = self.rng.random_range(50..4000) * MS;
                self.after(lasts, Happening::Resume(at));
                Ok(())
            }
            Fault::Partition => {
                self.partition();
                Ok(())
            }
            Fault::Ambush => {
                self.lie_in_wait();
                Ok(())
            }
            Fault::Clock => {
                self.jump(at);
                Ok(())
            }
            Fault::SlowDisk => {
                self.counts.disks += 1;
                let slow = if self.rng.random_bool(0.3) { 15 * SECOND } else { self.rng.random_range(20..400) * MS };
                self.machines[at].slow_disk = slow;
                let lasts = self.rng.random_range(500..5000) * MS;
                self.after(lasts, Happening::DiskHeals(at));
                Ok(())
            }
            Fault::BadDisk => {
                self.counts.disks += 1;
                let disk = &self.machines[at].disk;
                match self.rng.random_bool(0.5) {
                    true => disk.fill_up_after(self.rng.random_range(0..50_000)),
                    false => disk.fail_syncs_after(self.rng.random_range(0..5)),
                }
                Ok(())
            }
            Fault::Transfer | Fault::Add | Fault::Remove => self.change_group(fault),
        }
    }

    fn change_group(&mut self, fault: Fault) -> Result<(), String> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(run) = &self.machines[leader].run else { return Ok(()) };
        let group = run.meta.group();
        let others: Vec<MemberId> =
            group.voters.iter().chain(&group.learners).copied().filter(|id| *id != run.meta.member_id()).collect();
        match (fault, others.choose(&mut self.rng).copied()) {
            (Fault::Add, _) if others.len() < MAX_MEMBERS => self.add_member(leader),
            // Two are left at least.
            (Fault::Remove, Some(id)) if others.len() > 1 => self.remove_member(leader, id),
            (Fault::Transfer, to) => {
                // Who hands over does not hear what comes of it.
                if self.plan.faults.contains(&Fault::Partition) && self.rng.random_bool(0.3) {
                    let deaf = (0..self.machines.len()).map(|m| (m, leader)).collect();
                    let lasts = self.rng.random_range(200..1500) * MS;
                    self.block(deaf, lasts);
                }
                let to = to.filter(|_| self.rng.random_bool(0.7));
                self.transfer(leader, to)
            }
            _ => Ok(()),
        }
    }

    /// The power of a machine goes, or only its process.
    fn fall(&mut self, at: usize, process_only: bool) {
        let unsynced = self.unsynced();
        let machine = &mut self.machines[at];
        let Some(run) = machine.run.take() else { return };
        let end = machine.disk.moment();
        // A write that was not confirmed may have got anywhere.
        let moment = match &run.job {
            Some(job) if job.begun <= end => self.rng.random_range(job.begun..=end),
            _ => end,
        };
        drop(run);
        let unsynced = if process_only { Unsynced::Kept } else { unsynced };
        self.replace_disk(at, moment, unsynced, process_only);
    }

    /// The power goes while a member takes its step: nobody hears of what it decided.
    pub(super) fn fall_in_step(&mut self, at: usize, before: usize, todo: Todo) -> Result<(), String> {
        let unsynced = self.unsynced();
        let machine = &mut self.machines[at];
        let Some(run) = machine.run.take() else { return Ok(()) };
        let begun = run.job.as_ref().map_or(before, |job| job.begun.min(before));
        if let Some(job) = todo.job {
            drop(crate::meta::writer::perform(job, &run.core.log_file, &run.core.state_file));
        }
        let end = machine.disk.moment();
        let moment = self.rng.random_range(begun.min(end)..=end);
        drop(run);
        self.replace_disk(at, moment, unsynced, false);
        Ok(())
    }

    fn unsynced(&mut self) -> Unsynced {
        match self.rng.random_range(0..4) {
            0 => Unsynced::Lost,
            1 => Unsynced::Torn,
            _ => Unsynced::Mixed(self.rng.random()),
        }
    }

    pub(super) fn replace_disk(&mut self, at: usize, moment: usize, unsynced: Unsynced, process_only: bool) {
        match process_only {
            true => self.counts.kills += 1,
            false => self.counts.crashes += 1,
        }
        let machine = &mut self.machines[at];
        machine.disk = machine.disk.after_power_cut(moment, unsynced);
        machine.doomed = false;
        self.forget_requests(at);
        let quick = self.rng.random_bool(0.5);
        let delay = self.rng.random_range(1..if quick { 100 } else { 3000 }) * MS;
        self.after(delay, Happening::Start(at));
    }

    fn partition(&mut self) {
        self.counts.partitions += 1;
        let count = self.machines.len();
        let lasts = self.rng.random_range(100..5000) * MS;
        if self.rng.random_bool(0.3) {
            // Only these two; the others reach both.
            let (a, b) = (self.rng.random_range(0..count), self.rng.random_range(0..count));
            self.block([(a, b), (b, a)].into(), lasts);
            return;
        }
        let one_way = self.rng.random_bool(0.3);
        let alone = self.rng.random_bool(0.4).then(|| self.rng.random_range(0..count));
        let here: Vec<bool> = (0..count).map(|m| alone.map_or_else(|| self.rng.random_bool(0.5), |a| a == m)).collect();
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        let cut = pairs.filter(|(a, b)| here[*a] != here[*b] && (!one_way || here[*a])).collect();
        self.block(cut, lasts);
    }

    /// One follower is kept from the leader, so that it campaigns; later another one is restarted and does not hear the leader again.
    fn lie_in_wait(&mut self) {
        let Some(leader) = self.leader() else { return };
        let mut others: Vec<usize> =
            (0..self.machines.len()).filter(|m| *m != leader && self.machines[*m].is_up()).collect();
        others.shuffle(&mut self.rng);
        let [candidate, voter, ..] = others[..] else { return };
        self.counts.partitions += 1;
        self.block([(leader, candidate), (candidate, leader)].into(), 8 * SECOND);
        let delay = self.rng.random_range(1500..6000) * MS;
        self.after(delay, Happening::Strike { leader, voter });
    }

    pub(super) fn strike(&mut self, leader: usize, voter: usize) {
        self.block([(leader, voter), (voter, leader)].into(), 2 * SECOND);
        self.fall(voter, true);
        self.after(MS, Happening::Start(voter));
    }

    fn jump(&mut self, at: usize) {
        self.counts.clocks += 1;
        let by = match self.rng.random_range(0..5) {
            0 => DAY,
            1 => -DAY,
            2 => self.rng.random_range(-5_000_000_000..5_000_000_000),
            3 => -3_600_000_000_000,
            _ => 0,
        };
        let now = self.now;
        let rate = &mut self.machines[at].rate;
        rate.wall_off += by;
        if by == 0 {
            rate.wall_stands = match rate.wall_stands {
                Some(_) => None,
                None => Some(super::machine::BEGINNING + now as i64),
            };
        }
    }
}
