//! The fleet: all simulated nodes with their regions, as one pure state machine.
//!
//! Owns: what happens when. [`Fleet::receive`] takes what came from the server, [`Fleet::step`] lets time pass and returns what is
//! to be sent. Must not know sockets, tasks or clocks; the only randomness is a generator seeded from the options, so that two
//! runs with equal input give equal output. `execute` carries out commands, `faults` breaks things, `nodes` holds the stores
//! and `regions` the regions; what may happen to one region is decided in [`crate::sim::region`].

mod execute;
mod faults;
mod nodes;
mod regions;
mod steer;
mod timers;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::{
    nodes::{Liveness, SimStore},
    regions::{Regions, Slot},
    timers::{Event, Timers},
};
pub use self::{
    steer::{Flow, Snapshots},
    view::{FleetView, StoreView},
};
use crate::{
    model::{Key, Mono, Now, Peer, PeerId, RegionId, StoreId},
    proto::{metapb, pdpb},
    sim::{
        command::{Order, Rejection},
        layout::{self, IdSpans, LayoutError},
        options::{FaultOptions, FleetOptions},
        region::SimRegion,
        report::{Counters, Violations},
        safety::Violation,
        wire,
    },
};

/// Most region heartbeats that one store sends in one step: a first report of a million regions must not starve the others.
const MAX_HEARTBEATS_A_STEP: usize = 512;
/// Old heartbeats kept for the stale-heartbeat fault.
const MAX_REMEMBERED: usize = 64;
/// Time from the report that took the last peer off a store to the store's own heartbeat: the two travel on different streams, and
/// the second must not overtake the first.
const EMPTY_REPORT_DELAY: Duration = Duration::from_millis(100);

/// What came from the server, or from the connection to it.
#[derive(Clone, PartialEq, Debug)]
pub enum Incoming {
    /// The region-heartbeat stream of a store is open: all its regions are reported anew.
    Connected {
        /// The store.
        store: StoreId,
    },
    /// The stream is closed; nothing is sent until it is open again.
    Disconnected {
        /// The store.
        store: StoreId,
    },
    /// A message on the stream.
    Region {
        /// The store whose stream it came on.
        store: StoreId,
        /// The message.
        message: Box<pdpb::RegionHeartbeatResponse>,
    },
    /// The answer to a store heartbeat; `None` when none came.
    Store {
        /// The store.
        store: StoreId,
        /// The answer.
        response: Option<Box<pdpb::StoreHeartbeatResponse>>,
    },
    /// The answer to a request for split ids; `None` when none came.
    SplitIds {
        /// The region to be split.
        region: RegionId,
        /// The answer.
        response: Option<Box<pdpb::AskBatchSplitResponse>>,
    },
}

/// What is to be sent, or done to the connection.
#[derive(Clone, PartialEq, Debug)]
pub enum Outgoing {
    /// A region heartbeat on the stream of a store.
    Region {
        /// The store that leads the region.
        store: StoreId,
        /// The heartbeat.
        request: Box<pdpb::RegionHeartbeatRequest>,
    },
    /// A store heartbeat.
    Store {
        /// The store.
        store: StoreId,
        /// The heartbeat.
        request: Box<pdpb::StoreHeartbeatRequest>,
    },
    /// A request for the ids of new regions.
    AskSplit {
        /// The store that asks.
        store: StoreId,
        /// The region to be split.
        region: RegionId,
        /// The request.
        request: Box<pdpb::AskBatchSplitRequest>,
    },
    /// The report of a split.
    ReportSplit {
        /// The store that reports.
        store: StoreId,
        /// The report.
        request: Box<pdpb::ReportBatchSplitRequest>,
    },
    /// The store has stopped: its connection ends.
    Stop {
        /// The store.
        store: StoreId,
    },
    /// The store is back: it connects again.
    Start {
        /// The store.
        store: StoreId,
    },
}

/// What a region is busy with; it takes no other command meanwhile.
#[derive(Clone, PartialEq, Debug)]
enum Busy {
    /// A command on its way through the log. `token` tells this attempt from later ones.
    Order { order: Order, token: u64 },
    /// A split that waits for ids.
    Splitting { points: Vec<Key>, token: u64 },
    /// A merge that is prepared and will be committed.
    Merging { target: RegionId, order: Order },
}

/// The fleet.
pub struct Fleet {
    options: FleetOptions,
    faults: FaultOptions,
    cluster: u64,
    rng: ChaCha8Rng,
    stores: Vec<SimStore>,
    by_id: HashMap<StoreId, usize>,
    regions: Regions,
    busy: HashMap<RegionId, Busy>,
    leaderless: BTreeSet<RegionId>,
    /// Traffic of single regions, on top of that of all.
    flows: BTreeMap<RegionId, Flow>,
    timers: Timers,
    out: Vec<Outgoing>,
    remembered: VecDeque<Outgoing>,
    counters: Counters,
    violations: Violations,
    tokens: u64,
    started: Mono,
}

impl Fleet {
    /// A fleet with the first placement that `options` ask for, made with `ids` that the server handed out ([`Fleet::ids_needed`]).
    ///
    /// # Errors
    /// The placement is impossible or the ids are too few.
    pub fn new(options: FleetOptions, cluster: u64, ids: IdSpans, now: Now) -> Result<Self, LayoutError> {
        let (stores, made) = layout::build(&options, ids)?;
        Ok(Self::with_regions(options, cluster, &stores, made, now))
    }

    /// A fleet of these stores and regions; every peer lives on one of the stores.
    pub fn with_regions(
        options: FleetOptions,
        cluster: u64,
        store_ids: &[StoreId],
        made: Vec<SimRegion>,
        now: Now,
    ) -> Self {
        let stores: Vec<SimStore> =
            store_ids.iter().enumerate().map(|(i, id)| SimStore::new(*id, i, &options, now)).collect();
        let by_id = store_ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut fleet = Self {
            faults: options.fault.effective(),
            cluster,
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            stores,
            by_id,
            regions: Regions::with_capacity(made.len()),
            busy: HashMap::new(),
            leaderless: BTreeSet::new(),
            flows: BTreeMap::new(),
            timers: Timers::default(),
            out: Vec::new(),
            remembered: VecDeque::new(),
            counters: Counters::default(),
            violations: Violations::default(),
            tokens: 0,
            started: now.mono,
            options,
        };
        for region in made {
            let slot = fleet.regions.insert(Slot::new(region, now.mono));
            fleet.count_in(slot);
            fleet.enlist(slot);
        }
        fleet.plan_faults(now);
        fleet
    }

    /// How many ids the first placement takes.
    pub fn ids_needed(options: &FleetOptions) -> u64 {
        layout::ids_needed(options)
    }

    /// The request that founds the cluster: the first store, and one region over all keys with one peer there.
    pub fn bootstrap(&self) -> Option<pdpb::BootstrapRequest> {
        let (store, first) = (self.stores.first()?, self.regions.get(0)?);
        let peer = first.region.peers.iter().find(|p| p.store == store.id).or(first.region.peers.first())?;
        let region = metapb::Region {
            id: first.region.id.0,
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
            peers: vec![metapb::Peer { store_id: store.id.0, ..wire::peer(peer) }],
            ..metapb::Region::default()
        };
        Some(pdpb::BootstrapRequest { header: self.header(), store: Some(store.record.clone()), region: Some(region) })
    }

    /// The requests that make the stores known, in order.
    pub fn put_stores(&self) -> Vec<pdpb::PutStoreRequest> {
        let put = |s: &SimStore| pdpb::PutStoreRequest { header: self.header(), store: Some(s.record.clone()) };
        self.stores.iter().map(put).collect()
    }

    /// Takes what came in.
    pub fn receive(&mut self, message: Incoming, now: Now) {
        match message {
            Incoming::Connected { store } => self.on_connected(store, now),
            Incoming::Disconnected { store } => self.on_disconnected(store),
            Incoming::Region { store, message } => self.on_command(store, &message, now),
            Incoming::Store { store, response } => self.on_store_answer(store, response.as_deref()),
            Incoming::SplitIds { region, response } => self.on_split_ids(region, response.as_deref(), now),
        }
    }

    /// Lets time pass up to `now` and returns what is to be sent, in order.
    pub fn step(&mut self, now: Now) -> Vec<Outgoing> {
        while let Some(event) = self.timers.pop_due(now.mono) {
            self.on_event(event, now);
        }
        for at in 0..self.stores.len() {
            self.send_store_heartbeat(at, now);
            self.send_region_heartbeats(at, now);
        }
        std::mem::take(&mut self.out)
    }

    /// When the next step has something to do; `None`: not before something comes in.
    pub fn next_wake(&self) -> Option<Mono> {
        let stores = self.stores.iter().filter_map(|s| s.next_wake(self.options.region_heartbeat));
        stores.chain(self.timers.next()).min()
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The first safety violations.
    pub fn violations(&self) -> &[Violation] {
        self.violations.first()
    }

    fn on_event(&mut self, event: Event, now: Now) {
        match event {
            Event::Execute { region, token } => self.execute(region, token, now),
            Event::Snapshot { region, peer, store } => self.on_snapshot(region, peer, store, now),
            Event::CommitMerge(source) => self.commit_merge(source),
            Event::SplitTimeout { region, token } => self.on_split_timeout(region, token),
            Event::Elect(at) => self.elect_for(at),
            Event::ReportEmpty(at) => self.stores[at].next_heartbeat = now.mono,
            Event::Stop { store, lasts } => self.stop_store(store, lasts, now),
            Event::Start(at) => self.start_store(at, now),
            Event::LeaderChange => self.fault_leader_change(now),
            Event::SplitByLoad => self.fault_split(now),
            Event::RandomStop => self.fault_stop(now),
            Event::Grow => self.grow(now),
        }
    }

    fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader { cluster_id: self.cluster, ..pdpb::RequestHeader::default() })
    }

    fn violate(&mut self, violation: Violation) {
        self.counters.violations += 1;
        self.violations.push(violation);
    }

    /// Whether the store of `peer` is alive and the peer has its data.
    fn holds(&self, waiting: &[PeerId], peer: &Peer) -> bool {
        let alive = self.by_id.get(&peer.store).is_some_and(|at| self.stores[*at].live == Liveness::Up);
        alive && !waiting.contains(&peer.id)
    }

    /// Adds the peers of a region to the totals of their stores.
    fn count_in(&mut self, slot: u32) {
        self.count(slot, true);
    }

    /// Takes the peers of a region out of the totals of their stores, before the region changes.
    fn count_out(&mut self, slot: u32) {
        self.count(slot, false);
    }

    fn count(&mut self, slot: u32, in_: bool) {
        let Some(s) = self.regions.get(slot) else { return };
        for peer in &s.region.peers {
            let Some(at) = self.by_id.get(&peer.store) else { continue };
            let store = &mut self.stores[*at];
            let has_data = !peer.is_witness && !s.region.waits_for_snapshot(peer.id);
            let size = if has_data { s.region.size } else { 0 };
            if in_ {
                store.peers += 1;
                store.used += size;
            } else {
                store.peers = store.peers.saturating_sub(1);
                store.used = store.used.saturating_sub(size);
            }
        }
    }

    /// After changes: a store that has just lost its last peer says so soon.
    fn notice_empty(&mut self, stores: impl Iterator<Item = StoreId>, now: Now) {
        for id in stores {
            let Some(at) = self.by_id.get(&id) else { continue };
            if self.stores[*at].peers == 0 && self.stores[*at].live == Liveness::Up {
                self.timers.push(now.mono.plus(EMPTY_REPORT_DELAY), Event::ReportEmpty(*at));
            }
        }
    }

    /// Puts a region on the list of the store that leads it.
    fn enlist(&mut self, slot: u32) {
        let Some(s) = self.regions.get_mut(slot) else { return };
        match s.region.leader_store().and_then(|id| self.by_id.get(&id)) {
            Some(at) => self.stores[*at].enlist(slot, s),
            None => {
                self.leaderless.insert(s.region.id);
            }
        }
    }

    /// Takes a region off the list of the store that leads it, before its leader changes.
    fn delist(&mut self, slot: u32) {
        let Some(s) = self.regions.get(slot) else { return };
        let (id, led_at) = (s.region.id, s.led_at);
        match s.region.leader_store().and_then(|id| self.by_id.get(&id)) {
            Some(at) => {
                let moved = self.stores[*at].delist(led_at);
                if let Some(m) = moved.and_then(|place| self.regions.get_mut(place)) {
                    m.led_at = led_at;
                }
            }
            None => {
                self.leaderless.remove(&id);
            }
        }
    }

    /// Makes `leader` lead the region in `slot` (`None`: nobody can), and reports it.
    fn set_leader(&mut self, slot: u32, leader: Option<PeerId>) {
        self.delist(slot);
        if let Some(s) = self.regions.get_mut(slot) {
            // What the old leader has proposed is lost with its lead.
            if let Some(Busy::Order { .. }) = self.busy.get(&s.region.id) {
                self.busy.remove(&s.region.id);
                Counters::bump(&mut self.counters.rejected, Rejection::NotLeader);
            }
            match leader {
                Some(peer) => s.region.lead(peer),
                None => s.region.leader = None,
            }
            s.queued = false;
        }
        self.enlist(slot);
        self.report(slot);
    }

    /// Queues a heartbeat of the region in `slot`, ahead of the regular ones.
    fn report(&mut self, slot: u32) {
        let Some(s) = self.regions.get_mut(slot) else { return };
        let Some(at) = s.region.leader_store().and_then(|id| self.by_id.get(&id)) else { return };
        let store = &mut self.stores[*at];
        if !s.queued && store.connected {
            s.queued = true;
            store.urgent.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests;
