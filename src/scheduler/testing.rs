//! A small world for tests of deciding code: stores, regions, a controller and a patrol on virtual time, with nodes that do what
//! they are told after a while.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    balance::Schedulers,
    controller::Controller,
    effect::{Command, CommandKind, Effect, Event, PeerChange},
    operator::Operator,
    patrol::Patrol,
    placement::RuleSet,
    region_label::LabelIndex,
    view::{ClusterView, IdSource, Settings},
};
use crate::{
    config::{BerthConfig, ReplicationConfig, ScheduleConfig},
    model::{
        DownPeer, Epoch, Key, KeyRange, Mono, NodeState, Now, Peer, PeerId, Region, RegionId, RegionMeta, Role, Rule,
        StoreId, StoreLabel, StoreLimits, StoreRecord, StoreState, StoreStats, Wall,
    },
    store::{RegionIndex, StoreTable},
};

/// Ids from 1,000,000 up.
#[derive(Debug)]
pub(super) struct Ids(AtomicU64);

impl Default for Ids {
    fn default() -> Self {
        Self(AtomicU64::new(1_000_000))
    }
}

impl IdSource for Ids {
    fn next_peer_id(&self) -> Option<PeerId> {
        Some(PeerId(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// See the module's comment.
pub(super) struct World {
    pub(super) regions: RegionIndex,
    pub(super) stores: StoreTable,
    pub(super) settings: Settings,
    pub(super) now: Now,
    pub(super) controller: Controller,
    pub(super) patrol: Patrol,
    /// How long nodes take for a command.
    pub(super) node_takes: Duration,
    /// Operators admitted, with their times.
    pub(super) added: Vec<(Mono, Arc<Operator>)>,
    /// Stores that report no more.
    pub(super) silent: Vec<StoreId>,
    /// Sizes of the disks that fill up with what the store holds; others are of 1 TiB and always half full.
    pub(super) disks: BTreeMap<u64, u64>,
    /// Commands under way, by the time of their effect.
    under_way: BTreeMap<(Mono, u64), Command>,
    sent: u64,
    ids: Ids,
}

impl World {
    /// `stores` empty stores of 1 TiB under PD's defaults, three voters a region.
    pub(super) fn new(stores: u64) -> Self {
        let replication = ReplicationConfig::default();
        let now = Now::default().plus(Duration::from_secs(1000));
        let rules = Arc::new(RuleSet::of_replicas(&replication));
        let settings = Settings {
            schedule: Arc::new(ScheduleConfig::default()),
            replication: Arc::new(replication),
            berth: Arc::new(BerthConfig::default()),
            rules: rules.clone(),
            replicas: rules,
            labels: Arc::new(LabelIndex::default()),
            version: "8.5.0".parse().unwrap(),
            reject_leader: Arc::default(),
            table_keys: true,
        };
        let mut world = Self {
            regions: RegionIndex::default(),
            stores: StoreTable::default(),
            settings,
            now,
            controller: Controller::new(now),
            patrol: Patrol::new(),
            node_takes: Duration::from_millis(20),
            added: Vec::new(),
            silent: Vec::new(),
            disks: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            ids: Ids::default(),
        };
        for id in 1..=stores {
            world.put_store(id, StoreState::Up, &[]);
        }
        world
    }

    pub(super) fn put_store(&mut self, id: u64, state: StoreState, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(k, v)| StoreLabel { key: (*k).into(), value: (*v).into() }).collect();
        let record = StoreRecord {
            id: StoreId(id),
            labels,
            state,
            node_state: node_state(state),
            leader_weight: 1.0,
            region_weight: 1.0,
            ..StoreRecord::default()
        };
        self.stores.put_record(Arc::new(record), self.now);
        self.report_store(id);
    }

    /// Sets what a store should hold against others.
    pub(super) fn set_weights(&mut self, id: u64, leader_weight: f64, region_weight: f64) {
        let record = StoreRecord::clone(&self.stores.get(StoreId(id)).unwrap().record);
        self.stores.put_record(Arc::new(StoreRecord { leader_weight, region_weight, ..record }), self.now);
    }

    /// Sets the state of a store, keeping its labels, and tells the patrol.
    pub(super) fn set_state(&mut self, id: u64, state: StoreState) {
        let mut record = StoreRecord::clone(&self.stores.get(StoreId(id)).unwrap().record);
        record.state = state;
        record.node_state = node_state(state);
        self.stores.put_record(Arc::new(record), self.now);
        self.with_view(|view, _, patrol, _| patrol.on_store_changed(view, StoreId(id)));
    }

    pub(super) fn report_store(&self, id: u64) {
        let mut stats =
            StoreStats { capacity: 1 << 40, available: 1 << 39, used_size: 1 << 38, ..StoreStats::default() };
        if let Some(capacity) = self.disks.get(&id).copied() {
            let used_size = self.regions.summary(StoreId(id)).region_size_mib << 20;
            stats = StoreStats { capacity, available: capacity.saturating_sub(used_size), used_size, ..stats };
        }
        self.hear_store(StoreId(id), stats);
    }

    /// Takes a store heartbeat in, as the cluster does.
    pub(super) fn hear_store(&self, id: StoreId, stats: StoreStats) {
        self.stores.heartbeat(id, stats, self.regions.moved_mib(id), self.now);
    }

    pub(super) fn set_schedule(&mut self, change: impl FnOnce(&mut ScheduleConfig)) {
        let mut schedule = ScheduleConfig::clone(&self.settings.schedule);
        change(&mut schedule);
        self.settings.schedule = Arc::new(schedule);
        self.patrol.on_settings_changed(self.now.mono);
    }

    /// Changes `replication.*`. Kept rules stay as they are, as while they are switched off.
    pub(super) fn set_replication(&mut self, change: impl FnOnce(&mut ReplicationConfig)) {
        let mut replication = ReplicationConfig::clone(&self.settings.replication);
        change(&mut replication);
        self.settings.replicas = Arc::new(RuleSet::of_replicas(&replication));
        self.settings.replication = Arc::new(replication);
        self.patrol.on_settings_changed(self.now.mono);
    }

    pub(super) fn set_rules(&mut self, rules: Vec<Rule>) {
        let rules = rules.into_iter().map(Arc::new).collect();
        self.settings.rules = Arc::new(RuleSet::new(rules, vec![]).unwrap());
        self.patrol.on_settings_changed(self.now.mono);
    }

    pub(super) fn set_limits(&mut self, store: u64, add_peer: f64, remove_peer: f64) {
        self.controller.set_limits(StoreId(store), StoreLimits { add_peer, remove_peer }, self.now);
    }

    /// A region of 96 MiB with id `at * 10`, the key range of position `at`, voters on `stores`, led by the first.
    pub(super) fn region(at: u64, stores: &[u64]) -> Region {
        let peers = stores.iter().enumerate().map(|(i, s)| Peer::voter(at * 10 + 1 + i as u64, *s)).collect();
        let key = |n: u64| n.to_be_bytes().to_vec();
        Region {
            meta: Arc::new(RegionMeta {
                id: RegionId(at * 10),
                range: KeyRange::new(key(at), key(at + 1)),
                epoch: Epoch::new(1, 1),
                peers,
            }),
            leader: Some(PeerId(at * 10 + 1)),
            term: 5,
            size_mib: 96,
            size_known: true,
            keys: 1000,
            ..Region::default()
        }
    }

    /// Takes a region heartbeat in, as the cluster does.
    pub(super) fn report(&mut self, mut region: Region) -> Vec<Effect> {
        region.heard = Some(self.now.mono);
        let applied = self.regions.apply(region).unwrap();
        let mut out = Vec::new();
        self.with_view(|view, controller, patrol, out| {
            for gone in &applied.removed {
                controller.on_region_gone(view, gone.id(), out);
            }
            controller.on_heartbeat(view, &applied.region, out);
            patrol.on_region_reported(&applied);
        })
        .into_iter()
        .for_each(|e| out.push(e));
        self.take_in(&out);
        out
    }

    /// Lets the schedulers that are due look, and starts what they propose.
    pub(super) fn schedule(&mut self, schedulers: &mut Schedulers) {
        let out = self.with_view(|view, controller, _, out| schedulers.tick(view, controller, out));
        self.take_in(&out);
    }

    /// Fills the world with regions one after the other, each with voters on the stores that `place` names for its number.
    pub(super) fn fill(&mut self, regions: u64, place: impl Fn(u64) -> Vec<u64>) {
        for at in 1..=regions {
            self.report(Self::region(at, &place(at)));
        }
    }

    /// How many peer ids were taken.
    pub(super) fn ids_taken(&self) -> u64 {
        self.ids.0.load(Ordering::Relaxed) - 1_000_000
    }

    /// Lets `by` pass at once; every store that is not silent reports.
    pub(super) fn pass(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        for id in self.stores.snapshot().keys().filter(|id| !self.silent.contains(id)) {
            self.report_store(id.0);
        }
    }

    pub(super) fn get(&self, id: u64) -> Arc<Region> {
        self.regions.get(RegionId(id)).unwrap()
    }

    /// Calls `f` with a view of the present.
    pub(super) fn with_view(
        &mut self,
        f: impl FnOnce(&ClusterView<'_>, &mut Controller, &mut Patrol, &mut Vec<Effect>),
    ) -> Vec<Effect> {
        let stores = self.stores.snapshot();
        let view = ClusterView {
            regions: &self.regions,
            stores: &stores,
            settings: &self.settings,
            now: self.now,
            leader_since: Mono(0),
            ids: &self.ids,
        };
        let mut out = Vec::new();
        f(&view, &mut self.controller, &mut self.patrol, &mut out);
        out
    }

    /// Lets 10 ms pass: nodes finish what they were told, then patrol and controller have their tick. Returns how many operators
    /// were admitted.
    pub(super) fn tick(&mut self) -> usize {
        self.now = self.now.plus(Duration::from_millis(10));
        if self.now.mono.0.is_multiple_of(10_000_000_000) {
            for id in self.stores.snapshot().keys().filter(|id| !self.silent.contains(id)) {
                self.report_store(id.0);
            }
        }
        let due = self.under_way.split_off(&(self.now.mono, u64::MAX));
        for command in std::mem::replace(&mut self.under_way, due).into_values() {
            if let Some(region) = self.regions.get(command.region) {
                carry_out(&region, &command).into_iter().for_each(|changed| _ = self.report(changed));
            }
        }
        let before = self.added.len();
        let out = self.with_view(|view, controller, patrol, out| {
            patrol.tick(view, controller, out);
            controller.tick(view, out);
        });
        self.take_in(&out);
        self.added.len() - before
    }

    /// Sends what `effects` hold to the nodes.
    pub(super) fn start(&mut self, effects: &[Effect]) {
        self.take_in(effects);
    }

    /// Lets nodes carry commands out, without patrol, until none is under way.
    pub(super) fn finish_commands(&mut self) {
        while let Some(((at, _), command)) = self.under_way.pop_first() {
            self.now = Now { mono: self.now.mono.max(at), ..self.now };
            if let Some(region) = self.regions.get(command.region) {
                carry_out(&region, &command).into_iter().for_each(|changed| _ = self.report(changed));
            }
        }
    }

    fn take_in(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Send(command) => {
                    self.sent += 1;
                    self.under_way.insert((self.now.mono.plus(self.node_takes), self.sent), command.clone());
                }
                Effect::Tell(Event::OperatorAdded { op }) => self.added.push((self.now.mono, op.clone())),
                Effect::Tell(Event::OperatorEnded { op, .. }) => {
                    self.patrol.note_ended(op, self.now);
                    self.patrol.on_operator_ended(op.region);
                }
                Effect::Tell(_) | Effect::CacheRegion(_) | Effect::ForgetRegion(_) => {}
            }
        }
    }
}

/// The life-cycle state that goes with an operational one.
fn node_state(state: StoreState) -> NodeState {
    match state {
        StoreState::Up => NodeState::Serving,
        StoreState::Offline => NodeState::Removing,
        StoreState::Tombstone => NodeState::Removed,
    }
}

/// What is reported after a leader has done as told: the region, after a split all its parts, after a merge the one that stays;
/// nothing when the command is out of date.
pub(super) fn carry_out(region: &Region, command: &Command) -> Vec<Region> {
    if region.epoch() != command.epoch {
        return Vec::new();
    }
    let mut next = region.clone();
    match &command.kind {
        CommandKind::TransferLeader { to } => {
            next.leader = Some(to.id);
            next.term += 1;
        }
        CommandKind::ChangePeerV2 { changes } => change_peers(Arc::make_mut(&mut next.meta), changes),
        CommandKind::ChangePeer { change, peer } => {
            change_peers(Arc::make_mut(&mut next.meta), &[(*change, *peer)]);
        }
        CommandKind::SwitchWitness { peer, is_witness } => {
            let meta = Arc::make_mut(&mut next.meta);
            meta.epoch.conf_ver += 1;
            meta.peers.iter_mut().filter(|p| p.id == *peer).for_each(|p| p.is_witness = *is_witness);
        }
        CommandKind::Split { keys, .. } => return split(region, keys),
        CommandKind::Merge { target } => return vec![merge(region, target)],
    }
    let still_there = |id: PeerId| next.meta.peer(id).is_some();
    next.down = region.down.iter().copied().filter(|d| still_there(d.peer)).collect();
    vec![next]
}

fn change_peers(meta: &mut RegionMeta, changes: &[(PeerChange, Peer)]) {
    let joint = changes.len() > 1;
    if changes.is_empty() {
        for peer in &mut meta.peers {
            meta.epoch.conf_ver += u64::from(peer.role.in_joint_state());
            peer.role = match peer.role {
                Role::IncomingVoter => Role::Voter,
                Role::DemotingVoter => Role::Learner,
                role => role,
            };
        }
    }
    for (change, peer) in changes {
        meta.epoch.conf_ver += 1;
        let role = match (change, joint) {
            (PeerChange::RemoveNode, _) => {
                meta.peers.retain(|p| p.id != peer.id);
                continue;
            }
            (PeerChange::AddNode, true) => Role::IncomingVoter,
            (PeerChange::AddNode, false) => Role::Voter,
            (PeerChange::AddLearnerNode, true) => Role::DemotingVoter,
            (PeerChange::AddLearnerNode, false) => Role::Learner,
        };
        match meta.peers.iter_mut().find(|p| p.id == peer.id) {
            Some(known) => known.role = role,
            None => meta.peers.push(Peer { role, ..*peer }),
        }
    }
}

/// The region keeps its last part; the others get ids made of its own.
fn split(region: &Region, keys: &[Key]) -> Vec<Region> {
    let version = region.epoch().version + keys.len() as u64;
    let ends = keys.iter().chain([&region.range().end]);
    let starts = [&region.range().start].into_iter().chain(keys);
    let parts = starts.zip(ends).enumerate().map(|(at, (start, end))| {
        let mut part = region.clone();
        let meta = Arc::make_mut(&mut part.meta);
        meta.range = KeyRange { start: start.clone(), end: end.clone() };
        meta.epoch.version = version;
        if at < keys.len() {
            let own = |id: u64| id * 1000 + at as u64;
            meta.id = RegionId(own(meta.id.0));
            meta.peers.iter_mut().for_each(|p| p.id = PeerId(own(p.id.0)));
            part.leader = part.leader.map(|p| PeerId(own(p.0)));
        }
        part
    });
    parts.collect()
}

fn merge(source: &Region, target: &Region) -> Region {
    let mut next = target.clone();
    let meta = Arc::make_mut(&mut next.meta);
    let (a, b) = (source.range(), target.range());
    let (first, last) = if a.start < b.start { (a, b) } else { (b, a) };
    meta.range = KeyRange { start: first.start.clone(), end: last.end.clone() };
    meta.epoch.version = source.epoch().version.max(target.epoch().version) + 1;
    next.size_mib += source.size_mib;
    next
}

/// The same region with this peer reported down.
pub(super) fn with_down(region: &Region, store: u64, seconds: u64) -> Region {
    let peer = region.meta.peer_on(StoreId(store)).unwrap().id;
    Region { down: vec![DownPeer { peer, seconds }], ..region.clone() }
}

/// The wall clock at `world`'s present, for labels that expire.
pub(super) fn wall(world: &World, plus: Duration) -> Wall {
    world.now.plus(plus).wall
}
