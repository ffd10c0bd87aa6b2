//! Carrying out commands: from their arrival to the heartbeat that shows the effect.
//!
//! Owns: delays, snapshots, the two halves of splits and merges, and the safety checks around membership changes. What a change
//! means for one region is decided in [`crate::sim::region`].

use std::time::Duration;

use rand::Rng;

use super::{Busy, Fleet, Outgoing, Snapshots, nodes::Liveness, regions::Slot, timers::Event};
use crate::{
    model::{Epoch, Key, Mono, Now, Peer, PeerId, RegionId, StoreId},
    proto::pdpb,
    sim::{
        command::{self, Command, Order, Rejection, SplitAt},
        layout,
        options::LayoutKind,
        region::{self, Membership, SimRegion, keys_of},
        report::Counters,
        safety, wire,
    },
};

/// How long a node waits for split ids before it gives up.
const SPLIT_TIMEOUT: Duration = Duration::from_secs(10);
/// New regions that a growing fleet asks for at once.
const GROW_BATCH: u32 = 16;
/// Time between two tries of a growing fleet while it is held up.
const GROW_RETRY: Duration = Duration::from_millis(100);
/// How much longer a slow snapshot takes.
const SLOW_SNAPSHOT_FACTOR: u32 = 10;

impl Fleet {
    /// A message on the stream of `store`.
    pub(super) fn on_command(&mut self, store: StoreId, message: &pdpb::RegionHeartbeatResponse, now: Now) {
        if message.header.as_ref().is_some_and(|h| h.error.is_some()) {
            self.counters.region_errors += 1;
            return;
        }
        let order = match command::decode(message) {
            Ok(Some(order)) => order,
            Ok(None) => return,
            Err(reason) => return self.bump_rejected(reason),
        };
        Counters::bump(&mut self.counters.commands, order.command.kind());
        if let Some(busy) = self.busy.get(&order.region) {
            let same = match busy {
                Busy::Order { order: known, .. } | Busy::Merging { order: known, .. } => *known == order,
                Busy::Splitting { .. } => matches!(order.command, Command::Split(_)),
            };
            if same {
                self.counters.repeated += 1;
            } else {
                self.bump_rejected(Rejection::Busy);
            }
            return;
        }
        match self.check_address(&order, Some(store)) {
            Err(reason) => self.bump_rejected(reason),
            Ok(_) => {
                let token = self.next_token();
                let region = order.region;
                self.timers.push(now.mono.plus(self.options.step_delay), Event::Execute { region, token });
                self.busy.insert(region, Busy::Order { order, token });
            }
        }
    }

    /// Whether the order still fits its region: led by the target (on `store`, when it came on a stream), epoch unchanged.
    fn check_address(&self, order: &Order, store: Option<StoreId>) -> Result<u32, Rejection> {
        let slot = self.regions.find(order.region).ok_or(Rejection::UnknownRegion)?;
        let region = self.regions.get(slot).map(|s| &s.region).ok_or(Rejection::UnknownRegion)?;
        let leader = region.leader_peer().ok_or(Rejection::NotLeader)?;
        if leader.id != order.target || store.is_some_and(|s| s != leader.store) {
            return Err(Rejection::NotLeader);
        }
        if region.epoch != order.epoch {
            return Err(Rejection::StaleEpoch);
        }
        Ok(slot)
    }

    /// The log has agreed on the command of `region`.
    pub(super) fn execute(&mut self, region: RegionId, token: u64, now: Now) {
        if !matches!(self.busy.get(&region), Some(Busy::Order { token: t, .. }) if *t == token) {
            return;
        }
        let Some(Busy::Order { order, .. }) = self.busy.remove(&region) else { return };
        let kind = order.command.kind();
        let done = self.check_address(&order, None).and_then(|slot| {
            let leader = self.regions.get(slot).and_then(|s| s.region.leader_store());
            let live = leader.and_then(|id| self.by_id.get(&id)).map(|at| self.stores[*at].live);
            if live != Some(Liveness::Up) {
                return Err(Rejection::NotLeader);
            }
            match &order.command {
                Command::ChangePeers(changes) => self.change_peers(slot, |region| region.plan_change(changes), now),
                Command::SwitchWitnesses(list) => self.change_peers(slot, |region| region.plan_switch(list), now),
                Command::TransferLeader(peers) => self.transfer_leader(slot, peers),
                Command::Split(at) => self.begin_split(slot, at, now),
                Command::Merge { target, epoch } => {
                    let (target, epoch) = (*target, *epoch);
                    self.prepare_merge(slot, target, epoch, &order, now)
                }
            }
        });
        match done {
            Ok(()) => Counters::bump(&mut self.counters.executed, kind),
            Err(reason) => self.bump_rejected(reason),
        }
    }

    fn next_token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn change_peers(
        &mut self,
        slot: u32,
        plan: impl FnOnce(&SimRegion) -> Result<Membership, Rejection>,
        now: Now,
    ) -> Result<(), Rejection> {
        let region = &self.regions.get(slot).ok_or(Rejection::UnknownRegion)?.region;
        let plan = plan(region)?;
        if plan.added.iter().any(|p| !self.by_id.contains_key(&p.store)) {
            return Err(Rejection::UnknownStore);
        }
        self.check_safety(slot, &plan);
        let (added, removed) = (plan.added.clone(), plan.removed.clone());
        self.count_out(slot);
        if let Some(s) = self.regions.get_mut(slot) {
            s.region.adopt(plan);
        }
        self.count_in(slot);
        for peer in &added {
            self.send_snapshot(slot, peer, now);
        }
        self.notice_empty(removed.iter().map(|p| p.store), now);
        self.report(slot);
        Ok(())
    }

    /// Holds a planned change against the safety rules; it is carried out all the same, as a node would.
    fn check_safety(&mut self, slot: u32, plan: &Membership) {
        let Some(s) = self.regions.get(slot) else { return };
        let region = &s.region;
        let had = |p: &Peer| self.holds(&region.waiting, p);
        // A witness that gets data has kept the log all the time, and goes on to vote.
        let is_new = |p: &Peer| region.peer(p.id).is_none();
        let holds = |p: &Peer| had(p) && !plan.added.iter().any(|a| a.id == p.id && is_new(a));
        let wanted = self.options.replicas as usize;
        let found = safety::check_change(region.id, (&region.peers, had), (&plan.peers, holds), wanted);
        if let Some(violation) = found {
            self.violate(violation);
        }
    }

    /// Starts the transfer of a region's data to a new peer. A store receives one snapshot after the other.
    fn send_snapshot(&mut self, slot: u32, peer: &Peer, now: Now) {
        let Some(region) = self.regions.get(slot).map(|s| (s.region.id, s.region.size)) else { return };
        // A witness keeps no data: what it needs comes with the log.
        let region = if peer.is_witness { (region.0, 0) } else { region };
        let Some(at) = self.by_id.get(&peer.store).copied() else { return };
        let (id, size) = region;
        let mut takes = self.options.snapshot_latency;
        if self.options.snapshot_rate > 0 {
            let rate = self.options.snapshot_rate as f64 * (1 << 20) as f64;
            takes += Duration::try_from_secs_f64(size as f64 / rate).unwrap_or(Duration::MAX);
        }
        let slow = self.faults.slow_snapshots > 0.0
            && self.rng.random_bool((self.faults.slow_snapshots / 100.0).clamp(0.0, 1.0));
        if slow {
            takes = takes.max(self.options.step_delay).saturating_mul(SLOW_SNAPSHOT_FACTOR);
        }
        let store = &mut self.stores[at];
        takes = store.snapshots.takes(takes);
        store.receiving += 1;
        if takes.is_zero() {
            return self.on_snapshot(id, peer.id, at, now);
        }
        let done = store.snapshot_free.max(now.mono).plus(takes);
        store.snapshot_free = done;
        self.timers.push(done, Event::Snapshot { region: id, peer: peer.id, store: at });
    }

    /// A snapshot has arrived, if its region and peer are still there; a store that is stopped or takes none gets it later.
    pub(super) fn on_snapshot(&mut self, region: RegionId, peer: PeerId, store: usize, now: Now) {
        let held = matches!(self.stores[store].live, Liveness::Stopped { .. });
        let gone = self
            .regions
            .find(region)
            .and_then(|slot| self.regions.get(slot))
            .is_none_or(|s| s.region.peer(peer).is_none());
        // A transfer for a peer that is gone ends whatever the store does.
        if held || (self.stores[store].snapshots == Snapshots::Failing && !gone) {
            let again = now.mono.plus(self.options.election_timeout.max(Duration::from_millis(1)));
            return self.timers.push(again, Event::Snapshot { region, peer, store });
        }
        self.stores[store].receiving = self.stores[store].receiving.saturating_sub(1);
        let Some(slot) = self.regions.find(region) else { return };
        self.count_out(slot);
        let arrived = self.regions.get_mut(slot).is_some_and(|s| s.region.fill(peer));
        self.count_in(slot);
        if arrived {
            self.counters.snapshots += 1;
            self.report(slot);
        }
    }

    fn transfer_leader(&mut self, slot: u32, peers: &[Peer]) -> Result<(), Rejection> {
        let region = &self.regions.get(slot).ok_or(Rejection::UnknownRegion)?.region;
        let able = |p: &&Peer| {
            region.may_lead(p.id)
                && region.leader != Some(p.id)
                && region.peer(p.id).is_some_and(|p| self.holds(&region.waiting, p))
        };
        let next = peers.iter().find(able).map(|p| p.id).ok_or(Rejection::NoSuchLeader)?;
        self.set_leader(slot, Some(next));
        Ok(())
    }

    /// Asks the server for the ids of the new regions.
    pub(super) fn begin_split(&mut self, slot: u32, at: &SplitAt, now: Now) -> Result<(), Rejection> {
        let header = self.header();
        let region = &self.regions.get(slot).ok_or(Rejection::UnknownRegion)?.region;
        let store = region.leader_store().ok_or(Rejection::NotLeader)?;
        let points = match at {
            SplitAt::Keys(keys) => region.split_points(keys)?,
            SplitAt::Middle => vec![region::middle(&region.range).ok_or(Rejection::BadSplitKey)?],
        };
        let request = pdpb::AskBatchSplitRequest {
            header,
            region: Some(wire::region(region)),
            split_count: points.len() as u32,
            ..pdpb::AskBatchSplitRequest::default()
        };
        let id = region.id;
        let token = self.next_token();
        self.busy.insert(id, Busy::Splitting { points, token });
        self.timers.push(now.mono.plus(SPLIT_TIMEOUT), Event::SplitTimeout { region: id, token });
        self.out.push(Outgoing::AskSplit { store, region: id, request: Box::new(request) });
        Ok(())
    }

    pub(super) fn on_split_timeout(&mut self, region: RegionId, token: u64) {
        if matches!(self.busy.get(&region), Some(Busy::Splitting { token: t, .. }) if *t == token) {
            self.busy.remove(&region);
            self.bump_rejected(Rejection::NoSplitIds);
        }
    }

    /// The ids are here (or not): the region is split.
    pub(super) fn on_split_ids(&mut self, region: RegionId, response: Option<&pdpb::AskBatchSplitResponse>, now: Now) {
        if !matches!(self.busy.get(&region), Some(Busy::Splitting { .. })) {
            return;
        }
        let Some(Busy::Splitting { points, .. }) = self.busy.remove(&region) else { return };
        let usable = response.filter(|r| r.header.as_ref().is_none_or(|h| h.error.is_none()));
        let Some(response) = usable else { return self.bump_rejected(Rejection::NoSplitIds) };
        let pair = |id: &pdpb::SplitId| {
            (RegionId(id.new_region_id), id.new_peer_ids.iter().map(|p| PeerId(*p)).collect::<Vec<_>>())
        };
        let ids: Vec<_> = response.ids.iter().map(pair).collect();
        if let Err(reason) = self.split(region, &points, &ids, now) {
            self.bump_rejected(reason);
        }
    }

    fn split(
        &mut self,
        id: RegionId,
        points: &[Key],
        ids: &[(RegionId, Vec<PeerId>)],
        now: Now,
    ) -> Result<(), Rejection> {
        let slot = self.regions.find(id).ok_or(Rejection::UnknownRegion)?;
        if ids.iter().any(|(new, _)| self.regions.find(*new).is_some()) {
            return Err(Rejection::NoSplitIds);
        }
        let growing = self.growing();
        self.count_out(slot);
        let region = self.regions.get_mut(slot).map(|s| &mut s.region).ok_or(Rejection::UnknownRegion)?;
        let store = region.leader_store();
        // The region may have changed its borders while the ids were on their way.
        let done = region.split_points(points).and_then(|points| region.split(&points, ids));
        let mut made = match done {
            Ok(made) => made,
            Err(reason) => {
                self.count_in(slot);
                return Err(reason);
            }
        };
        if growing {
            let size = self.options.region_size.saturating_mul(1 << 20);
            for part in made.iter_mut().chain([region]) {
                (part.size, part.keys) = (size, keys_of(size));
            }
        }
        self.counters.splits += made.len() as u64;
        let mut all: Vec<_> = made.iter().map(wire::region).collect();
        let mut places = vec![slot];
        self.count_in(slot);
        for part in made {
            let waiting: Vec<Peer> = part.peers.iter().filter(|p| part.waits_for_snapshot(p.id)).copied().collect();
            let place = self.regions.insert(Slot::new(part, now.mono));
            self.count_in(place);
            self.enlist(place);
            places.push(place);
            for peer in &waiting {
                self.send_snapshot(place, peer, now);
            }
        }
        if let Some(s) = self.regions.get(slot) {
            all.push(wire::region(&s.region));
        }
        if let Some(store) = store {
            let request = pdpb::ReportBatchSplitRequest { header: self.header(), regions: all };
            self.out.push(Outgoing::ReportSplit { store, request: Box::new(request) });
        }
        places.into_iter().for_each(|place| self.report(place));
        Ok(())
    }

    fn prepare_merge(
        &mut self,
        slot: u32,
        target: RegionId,
        epoch: Epoch,
        order: &Order,
        now: Now,
    ) -> Result<(), Rejection> {
        let source = &self.regions.get(slot).ok_or(Rejection::UnknownRegion)?.region;
        let into = self.regions.find(target).and_then(|t| self.regions.get(t)).ok_or(Rejection::CannotMerge)?;
        let free = !self.busy.contains_key(&target);
        if !free || into.region.epoch != epoch || !source.can_merge_into(&into.region) {
            return Err(Rejection::CannotMerge);
        }
        let id = source.id;
        if let Some(s) = self.regions.get_mut(slot) {
            s.region.prepare_merge();
        }
        self.busy.insert(id, Busy::Merging { target, order: order.clone() });
        self.timers.push(now.mono.plus(self.options.step_delay), Event::CommitMerge(id));
        Ok(())
    }

    /// The second half of a merge; it is rolled back when the target has changed meanwhile.
    pub(super) fn commit_merge(&mut self, source: RegionId) {
        if !matches!(self.busy.get(&source), Some(Busy::Merging { .. })) {
            return;
        }
        let Some(Busy::Merging { target, order }) = self.busy.remove(&source) else { return };
        let Some(from) = self.regions.find(source) else { return };
        let epoch = match &order.command {
            Command::Merge { epoch, .. } => *epoch,
            Command::ChangePeers(_) | Command::TransferLeader(_) | Command::Split(_) | Command::SwitchWitnesses(_) => {
                return;
            }
        };
        let into = self.regions.find(target).filter(|t| {
            let (Some(s), Some(t)) = (self.regions.get(from), self.regions.get(*t)) else { return false };
            t.region.epoch == epoch && s.region.can_merge_into(&t.region) && !self.busy.contains_key(&target)
        });
        let Some(into) = into else {
            if let Some(s) = self.regions.get_mut(from) {
                s.region.roll_back_merge();
            }
            self.bump_rejected(Rejection::CannotMerge);
            return self.report(from);
        };
        self.count_out(from);
        self.count_out(into);
        self.delist(from);
        let gone = self.regions.remove(from);
        if let (Some(gone), Some(t)) = (gone, self.regions.get_mut(into)) {
            t.region.absorb(&gone.region);
        }
        self.count_in(into);
        self.counters.merges += 1;
        self.report(into);
    }

    /// Whether regions are still missing.
    pub(super) fn growing(&self) -> bool {
        self.options.layout == LayoutKind::Grow && self.regions.len() < self.options.regions as usize
    }

    /// Splits the last region at the next rows, until there are enough.
    pub(super) fn grow(&mut self, now: Now) {
        if !self.growing() {
            return;
        }
        self.timers.push(now.mono.plus(GROW_RETRY.max(self.options.step_delay)), Event::Grow);
        let have = self.regions.len() as u32;
        let last = (have + GROW_BATCH).min(self.options.regions);
        let rows = (have..last).map(|row| Key::from(layout::row_key(1, i64::from(row) - 1))).collect();
        // The region that was bootstrapped keeps the right part of each split, so it stays the last.
        let free = self.regions.get(0).is_some_and(|s| !self.busy.contains_key(&s.region.id));
        if self.counters.connects > 0 && free && self.begin_split(0, &SplitAt::Keys(rows), now).is_err() {
            self.bump_rejected(Rejection::BadSplitKey);
        }
    }

    /// When the first event of a growing fleet is due.
    pub(super) fn plan_growth(&mut self, now: Mono) {
        if self.growing() {
            self.timers.push(now.plus(GROW_RETRY), Event::Grow);
        }
    }
}
