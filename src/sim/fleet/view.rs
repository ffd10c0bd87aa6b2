//! The fleet as an onlooker sees it: totals for progress views and load drivers, and the checks at the end.
//!
//! Owns: summing up. Changes nothing.

use super::{Fleet, nodes::Liveness};
use crate::{
    model::{Mono, NodeState, RegionId, Role, StoreId},
    proto::metapb,
    sim::{
        region::SimRegion,
        report::{Counters, FinalCheck, FleetReport},
    },
};

/// One store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreView {
    /// Its id.
    pub id: StoreId,
    /// Replicas on it.
    pub peers: u32,
    /// Regions that it leads.
    pub leaders: u32,
    /// Whether it runs.
    pub up: bool,
    /// Whether its stream is open.
    pub connected: bool,
    /// Whether the server has declared it gone.
    pub buried: bool,
    /// The life-cycle state that the server told it last.
    pub node_state: Option<NodeState>,
    /// The cluster version that the server told it last.
    pub cluster_version: String,
}

/// The whole fleet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FleetView {
    /// The stores, in the order of their making.
    pub stores: Vec<StoreView>,
    /// Number of regions.
    pub regions: u64,
    /// Whether every running store is connected and has reported all its regions, and none is still to be made.
    pub loaded: bool,
    /// Counts since the start.
    pub counters: Counters,
}

impl FleetView {
    /// The store of this id.
    pub fn store(&self, id: StoreId) -> Option<&StoreView> {
        self.stores.iter().find(|s| s.id == id)
    }
}

fn state(state: metapb::NodeState) -> NodeState {
    match state {
        metapb::NodeState::Preparing => NodeState::Preparing,
        metapb::NodeState::Serving => NodeState::Serving,
        metapb::NodeState::Removing => NodeState::Removing,
        metapb::NodeState::Removed => NodeState::Removed,
    }
}

impl Fleet {
    /// The totals now.
    pub fn view(&self) -> FleetView {
        let stores = self.stores.iter().map(|s| StoreView {
            id: s.id,
            peers: s.peers,
            leaders: s.led.len() as u32,
            up: s.live == Liveness::Up,
            connected: s.connected,
            buried: s.live == Liveness::Buried,
            node_state: s.node_state.map(state),
            cluster_version: s.cluster_version.clone(),
        });
        let told = |s: &super::SimStore| s.live != Liveness::Up || (s.connected && s.resync == 0);
        FleetView {
            stores: stores.collect(),
            regions: self.regions.len() as u64,
            loaded: self.stores.iter().all(told) && !self.growing(),
            counters: self.counters.clone(),
        }
    }

    /// The region of this id.
    pub fn region(&self, id: RegionId) -> Option<&SimRegion> {
        self.regions.find(id).and_then(|slot| self.regions.get(slot)).map(|s| &s.region)
    }

    /// All regions, in no order that means anything but always the same.
    pub fn regions(&self) -> impl Iterator<Item = &SimRegion> {
        self.regions.iter()
    }

    /// Whether each region has its full number of voters, nothing else, and a leader.
    pub fn check_replicas(&self) -> FinalCheck {
        let wanted = self.options.replicas as usize;
        let whole = |r: &&SimRegion| {
            let voters = r.peers.iter().filter(|p| p.role == Role::Voter).count();
            voters == wanted && r.peers.len() == wanted && r.leader.is_some() && r.waiting.is_empty()
        };
        let bad: Vec<u64> = self.regions.iter().filter(|r| !whole(r)).map(|r| r.id.0).collect();
        let detail = match bad.first() {
            None => format!("{} regions", self.regions.len()),
            Some(first) => format!("{} of {} regions are not, the first is {first}", bad.len(), self.regions.len()),
        };
        FinalCheck { name: format!("{wanted} voters everywhere"), passed: bad.is_empty(), detail }
    }

    /// Whether no peer is left on `store`.
    pub fn check_empty(&self, store: StoreId) -> FinalCheck {
        let left = self.regions.iter().filter(|r| r.peer_on(store).is_some()).count();
        FinalCheck {
            name: format!("no peer on store {store}"),
            passed: left == 0 && self.by_id.contains_key(&store),
            detail: format!("{left} peers left"),
        }
    }

    /// The report, with the checks that the options ask for.
    pub fn report_at(&self, now: Mono) -> FleetReport {
        let mut checks = Vec::new();
        if self.options.check_replicas {
            checks.push(self.check_replicas());
        }
        if let Some(store) = self.options.check_empty {
            checks.push(self.check_empty(StoreId(store)));
        }
        FleetReport {
            counters: self.counters.clone(),
            regions: self.regions.len() as u64,
            peers: self.stores.iter().map(|s| (s.id.0, s.peers)).collect(),
            violations: self.violations().iter().map(ToString::to_string).collect(),
            checks,
            seconds: now.since(self.started).as_secs_f64(),
        }
    }
}
