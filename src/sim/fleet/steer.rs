//! Faults and changes on request: what a scenario does to single nodes and regions, where `faults` draws from a seed.
//!
//! Owns: the handles. Must not know why they are pulled.

use std::time::Duration;

use super::{
    Fleet,
    nodes::{Liveness, SimStore},
    timers::Event,
};
use crate::{
    model::{Now, RegionId, StoreId},
    proto::metapb,
    sim::{command::SplitAt, region::keys_of},
};

/// How a store receives snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Snapshots {
    /// As the options say.
    #[default]
    Normal,
    /// This many times as slowly, and no faster than a second each.
    Slow(u32),
    /// Not at all: they are tried again until this ends.
    Failing,
}

/// Traffic of one region, KiB a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// What is written to each of its peers.
    pub write: u64,
    /// What is read from its leader.
    pub read: u64,
}

/// The shortest time of a slow snapshot before it is made slow.
const SLOW_AT_LEAST: Duration = Duration::from_secs(1);

impl Snapshots {
    /// How long a transfer takes that takes `normal` otherwise.
    pub(super) fn takes(self, normal: Duration) -> Duration {
        match self {
            Snapshots::Slow(factor) => normal.max(SLOW_AT_LEAST).saturating_mul(factor),
            Snapshots::Normal | Snapshots::Failing => normal,
        }
    }
}

impl Fleet {
    /// Stops a store now, for a time or for good; `false` when it does not run.
    pub fn stop(&mut self, store: StoreId, lasts: Option<Duration>, now: Now) -> bool {
        let running = self.by_id.get(&store).copied().filter(|at| self.stores[*at].live == Liveness::Up);
        if let Some(at) = running {
            self.stop_store(at, lasts, now);
        }
        running.is_some()
    }

    /// Starts a store that was stopped; `false` when it was not.
    pub fn start(&mut self, store: StoreId, now: Now) -> bool {
        let stopped = |at: &usize| matches!(self.stores[*at].live, Liveness::Stopped { .. });
        let found = self.by_id.get(&store).copied().filter(stopped);
        if let Some(at) = found {
            self.start_store(at, now);
        }
        found.is_some()
    }

    /// From now on `store` receives snapshots so.
    pub fn set_snapshots(&mut self, store: StoreId, how: Snapshots) -> bool {
        let at = self.by_id.get(&store).copied();
        if let Some(at) = at {
            self.stores[at].snapshots = how;
        }
        at.is_some()
    }

    /// From now on `store` says that it is this slow, from 1 (well) to 100.
    pub fn set_slow_score(&mut self, store: StoreId, score: u64) -> bool {
        let at = self.by_id.get(&store).copied();
        if let Some(at) = at {
            self.stores[at].slow_score = score;
        }
        at.is_some()
    }

    /// From now on `region` has this traffic on top of that of all regions.
    pub fn set_flow(&mut self, region: RegionId, flow: Flow) -> bool {
        let known = self.regions.find(region).is_some();
        if flow == Flow::default() {
            self.flows.remove(&region);
        } else if known {
            self.flows.insert(region, flow);
        }
        known
    }

    /// The traffic of `region` on top of that of all.
    pub fn flow(&self, region: RegionId) -> Flow {
        self.flows.get(&region).copied().unwrap_or_default()
    }

    /// The share of heartbeats after which an old one is sent once more, per cent.
    pub fn set_stale_heartbeats(&mut self, percent: f64) {
        self.faults.stale_heartbeats = percent;
    }

    /// The nodes elect the peer on `store` as leader of `region`; `false` when it cannot lead.
    pub fn elect_on(&mut self, region: RegionId, store: StoreId) -> bool {
        let Some(slot) = self.regions.find(region) else { return false };
        let Some(found) = self.regions.get(slot).map(|s| &s.region) else { return false };
        let able = found.peer_on(store).filter(|p| found.may_lead(p.id) && self.holds(&found.waiting, p));
        let Some(peer) = able.map(|p| p.id) else { return false };
        self.counters.elections += 1;
        self.set_leader(slot, Some(peer));
        true
    }

    /// The nodes split `region` in its middle by themselves; `false` when they cannot now.
    pub fn split_now(&mut self, region: RegionId, now: Now) -> bool {
        let free = !self.busy.contains_key(&region);
        let slot = self.regions.find(region).filter(|_| free);
        slot.is_some_and(|slot| self.begin_split(slot, &SplitAt::Middle, now).is_ok())
    }

    /// Makes `region` this many MiB large.
    pub fn resize(&mut self, region: RegionId, mib: u64) -> bool {
        let Some(slot) = self.regions.find(region) else { return false };
        self.count_out(slot);
        if let Some(s) = self.regions.get_mut(slot) {
            s.region.size = mib.saturating_mul(1 << 20);
            s.region.keys = keys_of(s.region.size);
        }
        self.count_in(slot);
        self.report(slot);
        true
    }

    /// Changes what a store says about itself; the server learns it with the next registration.
    pub fn describe(&mut self, store: StoreId, change: impl FnOnce(&mut metapb::Store)) -> bool {
        let at = self.by_id.get(&store).copied();
        if let Some(at) = at {
            change(&mut self.stores[at].record);
        }
        at.is_some()
    }

    /// What a store says about itself.
    pub fn record(&self, store: StoreId) -> Option<&metapb::Store> {
        self.by_id.get(&store).map(|at| &self.stores[*at].record)
    }

    /// A new, empty store; it connects when its stream is opened.
    pub fn join(&mut self, id: StoreId, now: Now) {
        let at = self.stores.len();
        if self.by_id.insert(id, at).is_none() {
            self.stores.push(SimStore::new(id, at, &self.options, now));
        }
    }

    /// Peers on a store, those without data included, as the nodes know it.
    pub fn peers_on(&self, store: StoreId) -> u32 {
        self.by_id.get(&store).map_or(0, |at| self.stores[*at].peers)
    }

    /// Lets a store report again at once.
    pub fn report_store(&mut self, store: StoreId, now: Now) {
        if let Some(at) = self.by_id.get(&store).copied() {
            self.timers.push(now.mono, Event::ReportEmpty(at));
        }
    }
}
