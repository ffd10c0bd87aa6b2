//! One region's place in the index, and the sharded map from ids to places.
//!
//! Owns: the lock of a region and the lookup by id. Must not know: key order, sums.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use parking_lot::{RwLock, RwLockWriteGuard};

use super::chunk::Chunk;
use crate::model::{Region, RegionId};

/// Ways that the map by id is split up: heartbeats of new regions lock one of them for writing. A power of two.
const ID_SHARDS: usize = 256;

/// A region's place. Whoever changes the region or its home holds its lock, also while the sums are moved along.
#[derive(Debug)]
pub(super) struct Slot {
    state: RwLock<SlotState>,
}

/// What the lock of a [`Slot`] guards.
#[derive(Debug)]
pub(super) struct SlotState {
    /// The region as last accepted.
    pub(super) region: Arc<Region>,
    /// The chunk whose sums it is part of; `None` once it left the index.
    pub(super) home: Option<Arc<Chunk>>,
}

impl Slot {
    pub(super) fn new(region: Arc<Region>, home: Arc<Chunk>) -> Self {
        Self { state: RwLock::new(SlotState { region, home: Some(home) }) }
    }

    /// The region as it is now.
    pub(super) fn region(&self) -> Arc<Region> {
        self.state.read().region.clone()
    }

    /// Looks at the region without sharing it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Arc<Region>) -> T) -> T {
        look(&self.state.read().region)
    }

    /// Locks it for a change.
    pub(super) fn lock(&self) -> RwLockWriteGuard<'_, SlotState> {
        self.state.write()
    }
}

/// Spreads ids, which come from one counter, over all bits. Ids are given out by the control plane itself, so nobody can aim
/// for collisions.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value);
    }
}

/// A multiplicative mix with the high half folded down.
fn mix(value: u64) -> u64 {
    let wide = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    let (low, high) = (wide & u128::from(u64::MAX), wide >> 64);
    u64::try_from(low ^ high).unwrap_or_default()
}

type Shard = RwLock<HashMap<RegionId, Arc<Slot>, BuildHasherDefault<IdHasher>>>;

/// Places by region id.
#[derive(Debug)]
pub(super) struct IdMap {
    shards: Box<[Shard]>,
}

impl Default for IdMap {
    fn default() -> Self {
        Self { shards: (0..ID_SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl IdMap {
    #[allow(clippy::cast_possible_truncation)]
    fn shard(&self, id: RegionId) -> &Shard {
        // The map inside a shard uses the lowest and the highest bits of the same hash.
        &self.shards[(mix(id.0) >> 32) as usize % ID_SHARDS]
    }

    pub(super) fn get(&self, id: RegionId) -> Option<Arc<Slot>> {
        self.shard(id).read().get(&id).cloned()
    }

    /// The region of this id.
    pub(super) fn region(&self, id: RegionId) -> Option<Arc<Region>> {
        self.shard(id).read().get(&id).map(|slot| slot.region())
    }

    pub(super) fn insert(&self, id: RegionId, slot: Arc<Slot>) {
        self.shard(id).write().insert(id, slot);
    }

    pub(super) fn remove(&self, id: RegionId) {
        self.shard(id).write().remove(&id);
    }
}
