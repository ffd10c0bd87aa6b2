//! What each store bears, and by which hot peers.
//!
//! Owns: which figure counts for which sort of traffic (PD's choice). Must not know: what is moved.

use std::collections::BTreeMap;

use super::{HotPeer, HotPeers, Rates, Traffic};
use crate::{
    model::{StoreId, StoreState},
    store::{StoreInfo, Stores},
};

/// Which peers bear a traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Leaders only.
    Leader,
    /// All of them.
    Peer,
}

/// What one store bears.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StoreLoad {
    /// What counts as its traffic.
    pub load: Rates,
    /// The sum over its hot peers.
    pub flow: Rates,
    /// Its hot peers, by region.
    pub peers: Vec<HotPeer>,
}

/// All stores that can bear the traffic, with what they bear. Column stores have no leaders.
pub fn loads(hot: &HotPeers, traffic: Traffic, role: Role, hits: u64, stores: &Stores) -> BTreeMap<StoreId, StoreLoad> {
    let bears = |s: &&std::sync::Arc<StoreInfo>| {
        s.record.state != StoreState::Tombstone && (role == Role::Peer || !s.record.is_tiflash())
    };
    let mut all: BTreeMap<StoreId, StoreLoad> =
        stores.values().filter(bears).map(|s| (s.id(), StoreLoad::default())).collect();
    for peer in hot.hot(traffic, hits).filter(|peer| role == Role::Peer || peer.is_leader) {
        let Some(store) = all.get_mut(&peer.store) else { continue };
        store.flow = store.flow.plus(peer.rates);
        store.peers.push(peer);
    }
    for (id, store) in &mut all {
        let Some(info) = stores.get(id) else { continue };
        store.load = load(traffic, role, info, store.flow);
    }
    all
}

/// What counts: what the store tells; for written leaders, of whom it tells nothing, the sum over the hot ones. Only leaders take
/// write queries, so these are not counted for peers. Of a column store PD counts what is written to its hot peers.
fn load(traffic: Traffic, role: Role, info: &StoreInfo, flow: Rates) -> Rates {
    let (read, written) = info.rates();
    match (traffic, role) {
        (Traffic::Read, _) => read,
        (Traffic::Write, Role::Leader) => Rates { query: written.query, cpu: 0.0, ..flow },
        (Traffic::Write, Role::Peer) if info.record.is_tiflash() => Rates { query: 0.0, cpu: 0.0, ..flow },
        (Traffic::Write, Role::Peer) => Rates { query: 0.0, cpu: 0.0, ..written },
    }
}
