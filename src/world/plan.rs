//! What a world is made of before its start, and its nodes made from that.
//!
//! Owns: the shape of a plan, the ids and keys that are given by hand (stores from 1, regions from 101, peers from 1001). Must not
//! know: what happens then.

use std::collections::{BTreeMap, BTreeSet};

use super::{control::CLUSTER, error::CallError};
use crate::{
    model::{Epoch, Key, KeyRange, Now, Peer, PeerId, RegionId, StoreId},
    proto::metapb,
    sim::{Fleet, FleetOptions, SimRegion, row_key},
};

/// Most stores and regions of a world: it is made for many small runs.
pub const MAX_STORES: u64 = 64;
/// See [`MAX_STORES`].
pub const MAX_REGIONS: u64 = 2_000;

/// A store before the start.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StorePlan {
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Its version; empty: that of the others.
    pub version: String,
}

/// Some regions before the start.
#[derive(Clone, PartialEq, Debug)]
pub struct RegionPlan {
    /// How many.
    pub count: u64,
    /// Size of each, MiB.
    pub size_mib: u64,
    /// The stores of each region's replicas, the leader's first; empty: dealt round all stores.
    pub on: Vec<StoreId>,
    /// Replicas when they are dealt.
    pub replicas: u64,
}

/// A world before its start.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Of everything random.
    pub seed: u64,
    /// Stores by id.
    pub stores: BTreeMap<StoreId, StorePlan>,
    /// Regions in the order of their keys; ids count from 101.
    pub regions: Vec<RegionPlan>,
    /// Whether the schedulers of a fresh cluster run; without them nothing moves that is not wrong where it is.
    pub schedulers: bool,
}

/// The first key of the region at this place.
pub fn region_key(at: u64) -> Key {
    if at == 0 { Key::empty() } else { Key::from(row_key(1, 100 + at as i64)) }
}

/// The nodes of `plan` at `now`.
///
/// # Errors
/// Regions on stores that are not there, or two peers of one on a store.
pub(super) fn new_fleet(plan: &Plan, now: Now) -> Result<Fleet, CallError> {
    let options =
        FleetOptions { stores: plan.stores.len() as u32, seed: plan.seed, replicas: 3, ..FleetOptions::default() };
    let stores: Vec<StoreId> = plan.stores.keys().copied().collect();
    let total: u64 = plan.regions.iter().map(|r| r.count).sum();
    let (mut made, mut peer) = (Vec::new(), 1_000);
    for part in &plan.regions {
        for _ in 0..part.count {
            let at = made.len() as u64;
            let on = if part.on.is_empty() { dealt(&stores, at, part.replicas)? } else { part.on.clone() };
            let peers: Vec<Peer> = on
                .iter()
                .map(|store| {
                    peer += 1;
                    Peer::voter(peer, store.0)
                })
                .collect();
            if let Some(unknown) = on.iter().find(|s| !plan.stores.contains_key(s)) {
                return Err(CallError::Text(format!("there is no store {unknown}")));
            }
            if on.iter().collect::<BTreeSet<_>>().len() != on.len() {
                return Err(CallError::Text("a store holds one peer of a region".into()));
            }
            let end = if at + 1 == total { Key::empty() } else { region_key(at + 1) };
            made.push(SimRegion {
                id: RegionId(101 + at),
                range: KeyRange { start: region_key(at), end },
                epoch: Epoch::new(5, 5),
                leader: peers.first().map(|p| p.id),
                peers,
                term: 5,
                size: part.size_mib.saturating_mul(1 << 20),
                keys: part.size_mib.saturating_mul(10_000),
                waiting: Vec::<PeerId>::new(),
            });
        }
    }
    let mut fleet = Fleet::with_regions(options, CLUSTER.0, &stores, made, now);
    for (id, store) in &plan.stores {
        describe(&mut fleet, *id, store);
    }
    Ok(fleet)
}

/// Gives a node the labels and the version of its plan.
pub fn describe(fleet: &mut Fleet, id: StoreId, plan: &StorePlan) {
    fleet.describe(id, |record| {
        let label = |(key, value): &(String, String)| metapb::StoreLabel { key: key.clone(), value: value.clone() };
        record.labels = plan.labels.iter().map(label).collect();
        if !plan.version.is_empty() {
            record.version.clone_from(&plan.version);
        }
    });
}

/// The next stores round the ring.
fn dealt(stores: &[StoreId], at: u64, replicas: u64) -> Result<Vec<StoreId>, CallError> {
    if (stores.len() as u64) < replicas {
        return Err(CallError::Text(format!("{replicas} replicas need as many stores")));
    }
    Ok((0..replicas).map(|r| stores[((at + r) % stores.len() as u64) as usize]).collect())
}
