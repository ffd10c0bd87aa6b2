//! The regions of a fleet: a slab, so that lists of regions are lists of small numbers, and an index by id.
//!
//! Owns: where a region is kept. Must not know what happens to it.

use std::collections::HashMap;

use crate::{
    model::{Mono, RegionId},
    sim::region::SimRegion,
};

/// A region with what the fleet notes about it.
pub(super) struct Slot {
    /// The region.
    pub(super) region: SimRegion,
    /// Its place on the list of the store that leads it.
    pub(super) led_at: u32,
    /// Whether a heartbeat is queued already.
    pub(super) queued: bool,
    /// When it was last reported.
    pub(super) reported: Mono,
}

impl Slot {
    /// A region that was never reported.
    pub(super) fn new(region: SimRegion, now: Mono) -> Self {
        Self { region, led_at: 0, queued: false, reported: now }
    }
}

/// All regions.
pub(super) struct Regions {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_id: HashMap<RegionId, u32>,
}

impl Regions {
    /// Room for `count` regions.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { slots: Vec::with_capacity(count), free: Vec::new(), by_id: HashMap::with_capacity(count) }
    }

    /// Adds a region and says where it is.
    pub(super) fn insert(&mut self, slot: Slot) -> u32 {
        let id = slot.region.id;
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(slot);
                at
            }
            None => {
                self.slots.push(Some(slot));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_id.insert(id, at);
        at
    }

    /// Removes a region.
    pub(super) fn remove(&mut self, at: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(at as usize)?.take()?;
        self.by_id.remove(&slot.region.id);
        self.free.push(at);
        Some(slot)
    }

    /// The region at a place.
    pub(super) fn get(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)?.as_ref()
    }

    /// The region at a place.
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    /// Where the region of this id is.
    pub(super) fn find(&self, id: RegionId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Number of regions.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Number of places, empty ones included.
    pub(super) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// All regions, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SimRegion> {
        self.slots.iter().flatten().map(|s| &s.region)
    }
}
