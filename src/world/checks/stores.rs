//! What must hold for the life of stores: burial, tombstones, limits that come back.

use std::collections::BTreeMap;

use super::{At, Check, Moment, Verdict};
use crate::{
    meta::Change,
    model::{Mono, StoreId, StoreLimits, StoreState},
};

/// S9: only an empty store is buried.
#[derive(Default)]
pub(super) struct Burial {
    /// When each store last reported, and how many regions.
    reports: BTreeMap<StoreId, (Mono, u32)>,
    /// When the nodes last had a peer there.
    held: BTreeMap<StoreId, Mono>,
}

impl Check for Burial {
    fn name(&self) -> &'static str {
        "s9_burial"
    }

    fn says(&self) -> &'static str {
        "a store is buried only when it is empty, and after it has said so itself if it can"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        match moment {
            Moment::Reported { store, regions } => {
                self.reports.insert(*store, (at.now.mono, *regions));
                Ok(0)
            }
            Moment::Agreed(Change::StorePut(record)) if record.state == StoreState::Tombstone => {
                let id = record.id;
                let peers = at.fleet.peers_on(id);
                if peers > 0 && !record.physically_destroyed {
                    return Err(format!("store {id} was buried with {peers} peers on it"));
                }
                let known = at.control.cluster().regions().summary(id).region_count;
                if known > 0 {
                    return Err(format!("store {id} was buried with {known} regions in the index"));
                }
                let silent = at.control.cluster().stores().get(id).is_none_or(|info| {
                    let max = at.control.cluster().settings().schedule.max_store_down_time.get();
                    info.silence(at.control.cluster().leader_since(), at.now.mono) >= max
                });
                if record.physically_destroyed || silent {
                    return Ok(1);
                }
                let held = self.held.get(&id).copied().unwrap_or_default();
                match self.reports.get(&id) {
                    Some((when, 0)) if *when >= held => Ok(1),
                    _ => Err(format!("store {id} was buried before it reported that it is empty")),
                }
            }
            _ => Ok(0),
        }
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        for id in at.state.stores.keys().filter(|id| at.fleet.peers_on(**id) > 0) {
            self.held.insert(*id, at.now.mono);
        }
        Ok(0)
    }
}

/// S1, S2: a tombstone stays one, and its id is never used again.
#[derive(Default)]
pub(super) struct Tombstones {
    dead: BTreeMap<StoreId, ()>,
}

impl Check for Tombstones {
    fn name(&self) -> &'static str {
        "s1_tombstones"
    }

    fn says(&self) -> &'static str {
        "a tombstone never revives, also when its record is gone"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        match moment {
            Moment::Agreed(Change::StorePut(record)) if record.state == StoreState::Tombstone => {
                self.dead.insert(record.id, ());
                Ok(1)
            }
            Moment::Agreed(Change::StorePut(record)) if self.dead.contains_key(&record.id) => {
                Err(format!("store {} is {} again", record.id, record.state.name()))
            }
            _ => Ok(0),
        }
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        for id in self.dead.keys() {
            let there = at.state.stores.get(id).is_some_and(|s| s.state == StoreState::Tombstone);
            if !there && !at.state.dead_stores.contains(id) {
                return Err(format!("store {id} is forgotten"));
            }
        }
        Ok(self.dead.len() as u64)
    }
}

/// S8: what a drain changes comes back with its end.
#[derive(Default)]
pub(super) struct LimitsComeBack {
    /// States and limits as last agreed.
    states: BTreeMap<StoreId, StoreState>,
    limits: BTreeMap<StoreId, StoreLimits>,
    /// Limits before a drain that is under way.
    before: BTreeMap<StoreId, StoreLimits>,
    /// Drains that were just taken back: looked at after the step, when all rows are written.
    back: Vec<StoreId>,
    /// Stores whose limits were set by hand during the drain: what comes back is theirs to say.
    touched: Vec<StoreId>,
}

impl Check for LimitsComeBack {
    fn name(&self) -> &'static str {
        "s8_limits_come_back"
    }

    fn says(&self) -> &'static str {
        "a drain that is taken back leaves the store's limits as they were"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        match moment {
            Moment::Agreed(Change::StorePut(record)) => {
                let old = self.states.insert(record.id, record.state);
                match (old, record.state) {
                    (Some(StoreState::Up), StoreState::Offline) => {
                        self.touched.retain(|id| *id != record.id);
                        if let Some(limits) = self.limits.get(&record.id) {
                            self.before.insert(record.id, *limits);
                        }
                    }
                    (Some(StoreState::Offline), StoreState::Up) => self.back.push(record.id),
                    _ => {}
                }
            }
            Moment::Agreed(Change::LimitsChanged { id, limits: Some(limits) }) => {
                if self.before.contains_key(id)
                    && self.limits.get(id).is_some_and(|old| limits.add_peer.to_bits() != old.add_peer.to_bits())
                {
                    self.touched.push(*id);
                }
                self.limits.insert(*id, *limits);
            }
            _ => {}
        }
        Ok(0)
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        let mut looked = 0;
        for id in std::mem::take(&mut self.back) {
            let Some(before) = self.before.remove(&id) else { continue };
            if self.touched.contains(&id) {
                continue;
            }
            looked += 1;
            let now = at.state.limits.get(&id);
            if now.is_none_or(|now| now.remove_peer.to_bits() != before.remove_peer.to_bits()) {
                return Err(format!("store {id}: remove-peer was {}, is {now:?}", before.remove_peer));
            }
        }
        Ok(looked)
    }
}
