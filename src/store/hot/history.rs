//! The history of hot peers: who was hot when, for people who look back.
//!
//! Owns: a bounded list in memory, what is looked for in it. Must not know: clocks, JSON. A restart starts it anew.

use std::collections::VecDeque;

use super::{HotPeers, Traffic};
use crate::{
    model::{KeyRange, Now, PeerId, RegionId, StoreId, Wall},
    store::RegionIndex,
};

/// Most entries that are kept: the oldest go first. A week of a look each ten minutes with fifty hot peers.
pub const MAX_ENTRIES: usize = 50_000;

/// A peer that was hot.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// When it was last heard of.
    pub at: Wall,
    /// In which way.
    pub traffic: Traffic,
    /// Its region.
    pub region: RegionId,
    /// Its store.
    pub store: StoreId,
    /// The peer.
    pub peer: PeerId,
    /// Whether it led.
    pub is_leader: bool,
    /// Whether it was a learner.
    pub is_learner: bool,
    /// Hot periods until then.
    pub degree: i64,
    /// Its traffic.
    pub rates: super::Rates,
    /// The region's keys.
    pub range: KeyRange,
}

/// What is looked for. An empty list of ids stands for all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// From when on, milliseconds since 1970.
    pub start: i64,
    /// Until when, milliseconds since 1970; not itself in it.
    pub end: i64,
    /// In which ways.
    pub traffic: Vec<Traffic>,
    /// Of these regions.
    pub regions: Vec<u64>,
    /// On these stores.
    pub stores: Vec<u64>,
    /// These peers.
    pub peers: Vec<u64>,
    /// Learners, others, or both; none finds nothing, as in PD.
    pub is_learner: Vec<bool>,
    /// Leaders, others, or both; none finds nothing, as in PD.
    pub is_leader: Vec<bool>,
}

impl Wanted {
    fn has(&self, entry: &Entry) -> bool {
        let any = |list: &[u64], id: u64| list.is_empty() || list.contains(&id);
        let at = entry.at.unix_millis();
        self.start <= at
            && at < self.end
            && self.traffic.contains(&entry.traffic)
            && any(&self.regions, entry.region.0)
            && any(&self.stores, entry.store.0)
            && any(&self.peers, entry.peer.0)
            && self.is_learner.contains(&entry.is_learner)
            && self.is_leader.contains(&entry.is_leader)
    }
}

/// See the module's comment.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
}

impl History {
    /// Notes who is hot now; what is older than `days` goes.
    pub fn note(&mut self, hot: &HotPeers, hits: u64, regions: &RegionIndex, days: u64, now: Now) {
        for traffic in Traffic::ALL {
            for peer in hot.hot(traffic, hits) {
                let Some(region) = regions.get(peer.region) else { continue };
                let Some(held) = region.meta.peer_on(peer.store) else { continue };
                self.entries.push_back(Entry {
                    at: peer.at,
                    traffic,
                    region: peer.region,
                    store: peer.store,
                    peer: held.id,
                    is_leader: peer.is_leader,
                    is_learner: !held.role.votes(),
                    degree: peer.degree,
                    rates: peer.rates,
                    range: region.range().clone(),
                });
            }
        }
        let kept = i64::try_from(days.saturating_mul(86_400)).unwrap_or(i64::MAX);
        let oldest = now.wall.unix_seconds().saturating_sub(kept);
        let surplus = self.entries.len().saturating_sub(MAX_ENTRIES);
        self.entries.drain(..surplus);
        self.entries.retain(|entry| entry.at.unix_seconds() >= oldest);
    }

    /// What is wanted: reads before writes in the order asked for, older before newer.
    pub fn find(&self, wanted: &Wanted) -> Vec<Entry> {
        let of = |traffic: &Traffic| {
            let traffic = *traffic;
            self.entries.iter().filter(move |e| e.traffic == traffic && wanted.has(e)).cloned()
        };
        let mut found: Vec<Entry> = wanted.traffic.iter().flat_map(of).collect();
        // Entries of one look come by store; a look back goes by time.
        found.sort_by_key(|e| (wanted.traffic.iter().position(|t| *t == e.traffic), e.at, e.region));
        found
    }
}
