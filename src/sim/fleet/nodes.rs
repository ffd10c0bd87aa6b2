//! The storage nodes: their totals, their lists of regions to report, and their heartbeats.
//!
//! Owns: what a node reports and how it spreads its reports over time. Must not know commands.

use std::{collections::VecDeque, time::Duration};

use rand::Rng;

use super::{Fleet, Flow, MAX_HEARTBEATS_A_STEP, MAX_REMEMBERED, Outgoing, Snapshots, regions::Slot, timers::Event};
use crate::{
    model::{Epoch, Mono, Now, Peer, RegionId, StoreId},
    proto::{metapb, pdpb},
    sim::{
        command::Rejection,
        options::FleetOptions,
        report::Counters,
        safety::{self, Violation},
        wire,
    },
};

/// Bytes of one written row, for the flow that is reported.
const ROW_BYTES: u64 = 100;

/// Whether a node runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Liveness {
    /// It runs.
    Up,
    /// It does not.
    Stopped {
        /// Since when.
        since: Mono,
    },
    /// The server has declared it gone; it never runs again.
    Buried,
}

/// A storage node.
pub(super) struct SimStore {
    pub(super) id: StoreId,
    /// What it tells the server about itself.
    pub(super) record: metapb::Store,
    pub(super) live: Liveness,
    /// Whether its stream to the server is open.
    pub(super) connected: bool,
    /// Replicas on it, those without data included.
    pub(super) peers: u32,
    /// Bytes that its replicas take.
    pub(super) used: u64,
    /// Regions that it leads.
    pub(super) led: Vec<u32>,
    /// Regions that changed and are reported first.
    pub(super) urgent: VecDeque<u32>,
    /// Of `led`, how many from the front are still to be reported after a connect.
    pub(super) resync: usize,
    /// The next region of the regular round.
    cursor: usize,
    /// Nanoseconds times regions that the regular round is behind.
    credit: u128,
    /// Up to when the regular round has been counted.
    paced: Mono,
    pub(super) next_heartbeat: Mono,
    last_heartbeat: Mono,
    awaits_answer: bool,
    start_time: u32,
    /// Until when its snapshot transfer is busy.
    pub(super) snapshot_free: Mono,
    pub(super) receiving: u32,
    /// How it receives snapshots.
    pub(super) snapshots: Snapshots,
    /// How slow it says it is, from 1 (well) to 100.
    pub(super) slow_score: u64,
    /// The life-cycle state that the server told it last.
    pub(super) node_state: Option<metapb::NodeState>,
    /// The cluster version that the server told it last.
    pub(super) cluster_version: String,
}

impl SimStore {
    pub(super) fn new(id: StoreId, at: usize, options: &FleetOptions, now: Now) -> Self {
        let zone = |zones: u32| metapb::StoreLabel { key: "zone".into(), value: format!("z{}", at as u32 % zones + 1) };
        let record = metapb::Store {
            id: id.0,
            // The form that PD's simulator gives addresses, colons included: recorded runs can be compared to the letter.
            address: format!("mock:://tikv-{id}:{id}"),
            version: options.store_version.clone(),
            labels: (options.zones > 0).then(|| zone(options.zones)).into_iter().collect(),
            ..metapb::Store::default()
        };
        // Nodes do not beat in step: the first heartbeats are spread over a tenth of the period.
        let spread = options.store_heartbeat / 10 * at as u32 / options.stores.max(1);
        Self {
            id,
            record,
            live: Liveness::Up,
            connected: false,
            peers: 0,
            used: 0,
            led: Vec::new(),
            urgent: VecDeque::new(),
            resync: 0,
            cursor: 0,
            credit: 0,
            paced: now.mono,
            next_heartbeat: now.mono.plus(spread),
            last_heartbeat: now.mono,
            awaits_answer: false,
            start_time: u32::try_from(now.wall.unix_seconds()).unwrap_or(0),
            snapshot_free: now.mono,
            receiving: 0,
            snapshots: Snapshots::default(),
            slow_score: 1,
            node_state: None,
            cluster_version: String::new(),
        }
    }

    pub(super) fn enlist(&mut self, place: u32, slot: &mut Slot) {
        slot.led_at = self.led.len() as u32;
        self.led.push(place);
    }

    /// Takes the entry at `led_at` off the list; returns the place of the region that now stands there.
    pub(super) fn delist(&mut self, led_at: u32) -> Option<u32> {
        let at = led_at as usize;
        if at >= self.led.len() {
            return None;
        }
        self.led.swap_remove(at);
        self.resync = self.resync.min(self.led.len());
        self.led.get(at).copied()
    }

    fn reports(&self) -> bool {
        self.connected && self.live == Liveness::Up
    }

    /// When it has something to send.
    pub(super) fn next_wake(&self, region_heartbeat: Duration) -> Option<Mono> {
        if !self.reports() {
            return None;
        }
        if !self.urgent.is_empty() || self.resync > 0 {
            return Some(Mono(0));
        }
        let regular = region_heartbeat.checked_div(u32::try_from(self.led.len()).unwrap_or(u32::MAX));
        let heartbeat = (!self.awaits_answer).then_some(self.next_heartbeat);
        regular.map(|gap| self.paced.plus(gap)).into_iter().chain(heartbeat).min()
    }

    /// The next region to report, if any is due: changed ones, then those after a connect, then the regular round.
    fn next_due(&mut self, period: u128) -> Option<u32> {
        if let Some(place) = self.urgent.pop_front() {
            return Some(place);
        }
        if self.resync > 0 {
            self.resync -= 1;
            return self.led.get(self.resync).copied();
        }
        if self.credit < period || self.led.is_empty() {
            return None;
        }
        self.credit -= period;
        self.cursor = if self.cursor >= self.led.len() { 0 } else { self.cursor };
        self.cursor += 1;
        self.led.get(self.cursor - 1).copied()
    }
}

impl Fleet {
    pub(super) fn on_connected(&mut self, store: StoreId, now: Now) {
        let Some(at) = self.by_id.get(&store).copied() else { return };
        self.counters.connects += 1;
        let s = &mut self.stores[at];
        s.connected = true;
        s.awaits_answer = false;
        s.resync = s.led.len();
        s.paced = now.mono;
        s.credit = 0;
    }

    pub(super) fn on_disconnected(&mut self, store: StoreId) {
        let Some(at) = self.by_id.get(&store).copied() else { return };
        let s = &mut self.stores[at];
        s.connected = false;
        s.awaits_answer = false;
        s.resync = 0;
        for place in std::mem::take(&mut s.urgent) {
            if let Some(slot) = self.regions.get_mut(place) {
                slot.queued = false;
            }
        }
    }

    pub(super) fn on_store_answer(&mut self, store: StoreId, response: Option<&pdpb::StoreHeartbeatResponse>) {
        let Some(at) = self.by_id.get(&store).copied() else { return };
        self.stores[at].awaits_answer = false;
        let Some(response) = response else {
            self.counters.store_heartbeat_errors += 1;
            return;
        };
        let error = response.header.as_ref().and_then(|h| h.error.as_ref());
        if error.is_some() {
            self.counters.store_heartbeat_errors += 1;
        }
        let tombstone = error.is_some_and(|e| e.r#type == pdpb::ErrorType::StoreTombstone as i32);
        let state = metapb::NodeState::try_from(response.state).ok();
        let s = &mut self.stores[at];
        if error.is_none() {
            s.node_state = state;
            s.cluster_version.clone_from(&response.cluster_version);
        }
        if (tombstone || s.node_state == Some(metapb::NodeState::Removed)) && s.live == Liveness::Up {
            let peers = s.peers;
            s.live = Liveness::Buried;
            s.node_state = Some(metapb::NodeState::Removed);
            self.on_disconnected(store);
            self.out.push(Outgoing::Stop { store });
            if peers > 0 {
                self.violate(Violation::BuriedWithPeers { store, peers });
            }
        }
    }

    /// Sends the heartbeat of a store when it is due. One at a time: a slow server is not flooded.
    pub(super) fn send_store_heartbeat(&mut self, at: usize, now: Now) {
        let period = self.options.store_heartbeat;
        let capacity = self.options.capacity.saturating_mul(1 << 30);
        let rate = self.options.write_rate.saturating_mul(1 << 10);
        let (flow, reads) = self.flow_of_store(at);
        let s = &mut self.stores[at];
        if !s.reports() || s.awaits_answer || s.next_heartbeat > now.mono {
            return;
        }
        let seconds = now.mono.since(s.last_heartbeat).as_secs();
        let end = u64::try_from(now.wall.unix_seconds()).unwrap_or(0);
        let written = rate.saturating_mul(u64::from(s.peers)).saturating_add(flow.write << 10).saturating_mul(seconds);
        let read = (flow.read << 10).saturating_mul(seconds);
        let peer = |(region, kib): &(RegionId, u64)| {
            let bytes = (kib << 10).saturating_mul(seconds);
            pdpb::PeerStat {
                region_id: region.0,
                read_bytes: bytes,
                read_keys: bytes / ROW_BYTES,
                ..Default::default()
            }
        };
        let stats = pdpb::StoreStats {
            store_id: s.id.0,
            capacity,
            available: capacity.saturating_sub(s.used),
            used_size: s.used,
            region_count: s.peers,
            receiving_snap_count: s.receiving,
            start_time: s.start_time,
            bytes_written: written,
            keys_written: written / ROW_BYTES,
            bytes_read: read,
            keys_read: read / ROW_BYTES,
            peer_stats: reads.iter().map(peer).collect(),
            interval: Some(pdpb::TimeInterval { start_timestamp: end.saturating_sub(seconds), end_timestamp: end }),
            slow_score: s.slow_score,
            ..pdpb::StoreStats::default()
        };
        let store = s.id;
        s.awaits_answer = true;
        s.last_heartbeat = now.mono;
        s.next_heartbeat = now.mono.plus(period);
        self.counters.store_heartbeats += 1;
        let request = pdpb::StoreHeartbeatRequest {
            header: self.header(),
            stats: Some(stats),
            ..pdpb::StoreHeartbeatRequest::default()
        };
        self.out.push(Outgoing::Store { store, request: Box::new(request) });
    }

    /// The traffic of single regions on a store: all together, and what is read from each that it leads.
    fn flow_of_store(&self, at: usize) -> (Flow, Vec<(RegionId, u64)>) {
        let (mut sum, mut reads, store) = (Flow::default(), Vec::new(), self.stores[at].id);
        for (id, flow) in &self.flows {
            let Some(slot) = self.regions.find(*id).and_then(|slot| self.regions.get(slot)) else { continue };
            if slot.region.peer_on(store).is_some() {
                sum.write += flow.write;
            }
            if flow.read > 0 && slot.region.leader_store() == Some(store) {
                sum.read += flow.read;
                reads.push((*id, flow.read));
            }
        }
        (sum, reads)
    }

    /// Sends the region heartbeats of a store that are due.
    pub(super) fn send_region_heartbeats(&mut self, at: usize, now: Now) {
        let period = self.options.region_heartbeat.as_nanos();
        let s = &mut self.stores[at];
        let regions = s.led.len() as u128;
        let passed = now.mono.since(s.paced).as_nanos();
        s.paced = now.mono;
        if !s.reports() {
            s.credit = 0;
            return;
        }
        s.credit = (s.credit + passed * regions).min(period * regions);
        for _ in 0..MAX_HEARTBEATS_A_STEP {
            let Some(place) = self.stores[at].next_due(period) else { return };
            self.send_region_heartbeat(at, place, now);
        }
    }

    fn send_region_heartbeat(&mut self, at: usize, place: u32, now: Now) {
        let header = self.header();
        let down = self.down_peers(place, now);
        let flow = self.regions.get(place).map(|slot| self.flow(slot.region.id)).unwrap_or_default();
        let rate = self.options.write_rate.saturating_add(flow.write).saturating_mul(1 << 10);
        let store = self.stores[at].id;
        let Some(slot) = self.regions.get_mut(place) else { return };
        slot.queued = false;
        if slot.region.leader_store() != Some(store) {
            return;
        }
        let seconds = now.mono.since(slot.reported).as_secs();
        slot.reported = now.mono;
        let end = u64::try_from(now.wall.unix_seconds()).unwrap_or(0);
        let mut request = wire::heartbeat(&slot.region);
        request.header = header;
        request.down_peers = down;
        request.interval =
            Some(pdpb::TimeInterval { start_timestamp: end.saturating_sub(seconds), end_timestamp: end });
        request.bytes_written = rate.saturating_mul(seconds);
        request.keys_written = request.bytes_written / ROW_BYTES;
        let epoch = slot.region.epoch;
        self.counters.region_heartbeats += 1;
        let message = Outgoing::Region { store, request: Box::new(request) };
        self.maybe_repeat(&message, epoch);
        self.out.push(message);
    }

    /// The stale-heartbeat fault: now and then an old heartbeat is sent once more.
    fn maybe_repeat(&mut self, message: &Outgoing, epoch: Epoch) {
        if self.faults.stale_heartbeats <= 0.0 {
            return;
        }
        // A region of epoch (1, 1) counts as made anew and would replace what came after it: those are not repeated.
        if epoch != Epoch::new(1, 1) {
            if self.remembered.len() == MAX_REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back(message.clone());
        }
        let repeat = self.rng.random_bool((self.faults.stale_heartbeats / 100.0).clamp(0.0, 1.0));
        if !repeat || self.remembered.is_empty() {
            return;
        }
        let pick = self.rng.random_range(0..self.remembered.len());
        if let Some(old @ Outgoing::Region { store, .. }) = self.remembered.get(pick) {
            let alive = self.by_id.get(store).is_some_and(|at| self.stores[*at].reports());
            if alive {
                self.out.push(old.clone());
                self.counters.stale_heartbeats += 1;
                self.counters.region_heartbeats += 1;
            }
        }
    }

    /// The peers of a region on stores that have been silent for too long.
    fn down_peers(&self, place: u32, now: Now) -> Vec<pdpb::PeerStats> {
        let Some(slot) = self.regions.get(place) else { return Vec::new() };
        let silent = |p: &Peer| match self.by_id.get(&p.store).map(|at| self.stores[*at].live) {
            Some(Liveness::Stopped { since }) => {
                let silence = now.mono.since(since);
                (silence >= self.options.peer_down_after)
                    .then(|| pdpb::PeerStats { peer: Some(wire::peer(p)), down_seconds: silence.as_secs() })
            }
            Some(Liveness::Up | Liveness::Buried) | None => None,
        };
        slot.region.peers.iter().filter_map(silent).collect()
    }

    /// A store stops: its stream closes, and the survivors elect new leaders after a while.
    pub(super) fn stop_store(&mut self, at: usize, lasts: Option<Duration>, now: Now) {
        let Some(s) = self.stores.get_mut(at) else { return };
        if s.live != Liveness::Up {
            return;
        }
        s.live = Liveness::Stopped { since: now.mono };
        let store = s.id;
        self.counters.store_stops += 1;
        self.on_disconnected(store);
        self.out.push(Outgoing::Stop { store });
        self.timers.push(now.mono.plus(self.options.election_timeout), Event::Elect(at));
        if let Some(lasts) = lasts {
            self.timers.push(now.mono.plus(lasts), Event::Start(at));
        }
    }

    /// A store comes back; regions that had no quorum may elect again.
    pub(super) fn start_store(&mut self, at: usize, now: Now) {
        let Some(s) = self.stores.get_mut(at) else { return };
        if !matches!(s.live, Liveness::Stopped { .. }) {
            return;
        }
        s.live = Liveness::Up;
        s.start_time = u32::try_from(now.wall.unix_seconds()).unwrap_or(s.start_time);
        s.next_heartbeat = now.mono;
        s.last_heartbeat = now.mono;
        let store = s.id;
        self.out.push(Outgoing::Start { store });
        let waiting: Vec<_> = self.leaderless.iter().copied().collect();
        for region in waiting {
            if let Some(slot) = self.regions.find(region) {
                self.elect(slot);
            }
        }
    }

    /// New leaders for the regions of a store that stopped, unless it is back already.
    pub(super) fn elect_for(&mut self, at: usize) {
        if self.stores[at].live == Liveness::Up {
            return;
        }
        for slot in self.stores[at].led.clone() {
            self.counters.elections += 1;
            self.elect(slot);
        }
    }

    /// Elects a leader among the live voters with data, if they are a quorum; otherwise nobody leads.
    pub(super) fn elect(&mut self, slot: u32) {
        let Some(s) = self.regions.get(slot) else { return };
        let region = &s.region;
        let holds = |p: &Peer| self.holds(&region.waiting, p);
        let candidates: Vec<_> =
            region.peers.iter().filter(|p| region.may_lead(p.id) && holds(p)).map(|p| p.id).collect();
        let quorum = safety::has_quorum(&region.peers, holds);
        let leader = if quorum && !candidates.is_empty() {
            Some(candidates[self.rng.random_range(0..candidates.len())])
        } else {
            None
        };
        self.set_leader(slot, leader);
    }

    pub(super) fn bump_rejected(&mut self, reason: Rejection) {
        Counters::bump(&mut self.counters.rejected, reason);
    }
}
