//! A small world for tests: stores, regions, settings and ids without a server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    config::{BerthConfig, ReplicationConfig, ScheduleConfig},
    model::{
        Epoch, KeyRange, Mono, NodeState, Now, Peer, PeerId, Region, RegionId, RegionMeta, StoreId, StoreRecord,
        StoreStats, Wall,
    },
    scheduler::{
        placement::RuleSet,
        region_label::LabelIndex,
        view::{ClusterView, IdSource, Settings},
    },
    store::{RegionIndex, StoreInfo},
};

/// Ids in order.
#[derive(Debug)]
pub(crate) struct Ids(pub(crate) AtomicU64);

impl IdSource for Ids {
    fn next_peer_id(&self) -> Option<PeerId> {
        Some(PeerId(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Everything that a view borrows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) regions: RegionIndex,
    pub(crate) stores: BTreeMap<StoreId, Arc<StoreInfo>>,
    pub(crate) settings: Settings,
    pub(crate) now: Now,
    pub(crate) ids: Ids,
}

impl World {
    /// `stores` stores in service, one voter rule for all, new peers from `first_id` on.
    pub(crate) fn new(stores: u64, first_id: u64) -> Self {
        let rules = Arc::new(RuleSet::of_replicas(&ReplicationConfig::default()));
        let mut world = Self {
            regions: RegionIndex::default(),
            stores: BTreeMap::new(),
            settings: Settings {
                schedule: Arc::new(ScheduleConfig::default()),
                replication: Arc::new(ReplicationConfig::default()),
                berth: Arc::new(BerthConfig::default()),
                rules: Arc::clone(&rules),
                replicas: rules,
                labels: Arc::new(LabelIndex::default()),
                version: "8.5.0".parse().unwrap(),
                reject_leader: Arc::default(),
                table_keys: true,
            },
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000_000_000) },
            ids: Ids(AtomicU64::new(first_id)),
        };
        for id in 1..=stores {
            world.put_store(StoreId(id), StoreStats::default());
        }
        world
    }

    pub(crate) fn put_store(&mut self, id: StoreId, stats: StoreStats) {
        let record = StoreRecord {
            id,
            node_state: NodeState::Serving,
            leader_weight: 1.0,
            region_weight: 1.0,
            ..StoreRecord::default()
        };
        let mut info = StoreInfo::default();
        info.record = Arc::new(record);
        info.stats = Arc::new(stats);
        info.last_heartbeat = Some(self.now.mono);
        self.stores.insert(id, Arc::new(info));
    }

    pub(crate) fn change_store(&mut self, id: u64, change: impl FnOnce(&mut StoreInfo)) {
        change(Arc::make_mut(self.stores.get_mut(&StoreId(id)).unwrap()));
    }

    pub(crate) fn change_schedule(&mut self, change: impl FnOnce(&mut ScheduleConfig)) {
        change(Arc::make_mut(&mut self.settings.schedule));
    }

    /// Time passes, and every store goes on reporting.
    pub(crate) fn pass(&mut self, d: Duration) {
        self.now = self.now.plus(d);
        for info in self.stores.values_mut() {
            Arc::make_mut(info).last_heartbeat = Some(self.now.mono);
        }
    }

    pub(crate) fn view(&self) -> ClusterView<'_> {
        ClusterView {
            regions: &self.regions,
            stores: &self.stores,
            settings: &self.settings,
            now: self.now,
            leader_since: Mono(0),
            ids: &self.ids,
        }
    }

    pub(crate) fn put(&self, region: Region) -> Arc<Region> {
        self.regions.apply(region).unwrap().region
    }
}

/// A region of 96 MiB over a thousandth of the key space; the first peer leads.
pub(crate) fn region(id: u64, epoch: (u64, u64), peers: &[Peer]) -> Region {
    let key = |n: u64| format!("k{n:08}").into_bytes();
    Region {
        meta: Arc::new(RegionMeta {
            id: RegionId(id),
            range: KeyRange::new(key(id), key(id + 1)),
            epoch: Epoch::new(epoch.1, epoch.0),
            peers: peers.to_vec(),
        }),
        leader: peers.first().map(|p| p.id),
        size_mib: 96,
        size_known: true,
        ..Region::default()
    }
}

/// A file of the shared facts; `None` (and a word) when they are not there.
pub(crate) fn shared(path: &str) -> Option<String> {
    let root = std::env::var_os("BERTH_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let text = std::fs::read_to_string(root.join(path)).ok();
    if text.is_none() {
        eprintln!("skipped: no shared facts at hand ({path})");
    }
    text
}

/// An operator text without its times.
pub(crate) fn without_times(text: &str) -> String {
    match (text.find("createAt:"), text.find("currentStep:")) {
        (Some(from), Some(to)) => format!("{}{}", &text[..from], &text[to..]),
        _ => text.to_owned(),
    }
}
