//! What must hold for regions: quorum, one peer a store, epochs, ranges.

use std::collections::{BTreeMap, BTreeSet};

use super::{At, Check, Moment, Verdict};
use crate::{
    model::{Epoch, Peer, RegionId},
    scheduler::effect::{CommandKind, PeerChange},
};

/// O1: the nodes hold each change of membership against the rules of raft with the replicas that are alive then.
#[derive(Default)]
pub(super) struct Quorum {
    seen: usize,
    commands: u64,
}

impl Check for Quorum {
    fn name(&self) -> &'static str {
        "o1_quorum"
    }

    fn says(&self) -> &'static str {
        "no operator costs a region the majority that it had"
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        let all = at.fleet.violations();
        let new = all.get(self.seen..).unwrap_or_default();
        self.seen = all.len();
        if let Some(first) = new.first() {
            return Err(first.to_string());
        }
        let done = at.fleet.counters().executed_total();
        let more = done - self.commands;
        self.commands = done;
        Ok(more)
    }
}

/// O5: no region has two peers on a store, and none is asked for.
pub(super) struct OnePeerAStore;

fn doubled(peers: &[Peer]) -> Option<Peer> {
    peers.iter().enumerate().find(|(i, a)| peers[..*i].iter().any(|b| b.store == a.store)).map(|(_, p)| *p)
}

impl Check for OnePeerAStore {
    fn name(&self) -> &'static str {
        "o5_one_peer_a_store"
    }

    fn says(&self) -> &'static str {
        "a store holds one peer of a region, and no command asks for a second"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        let Moment::Sent { command, region: Some(region) } = moment else { return Ok(0) };
        let one;
        let changes: &[(PeerChange, Peer)] = match &command.kind {
            CommandKind::ChangePeerV2 { changes } => changes,
            CommandKind::ChangePeer { change, peer } => {
                one = [(*change, *peer)];
                &one
            }
            _ => return Ok(0),
        };
        for (change, peer) in changes {
            let there = region.peers().iter().find(|p| p.store == peer.store);
            if *change != PeerChange::RemoveNode && there.is_some_and(|p| p.id != peer.id) {
                return Err(format!("region {}: a second peer for store {}", region.id(), peer.store));
            }
        }
        Ok(1)
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        for region in at.fleet.regions() {
            if let Some(peer) = doubled(&region.peers) {
                return Err(format!("region {} has two peers on store {}", region.id, peer.store));
            }
        }
        Ok(0)
    }
}

/// H1: what is known of a region never becomes older.
#[derive(Default)]
pub(super) struct Epochs {
    known: BTreeMap<RegionId, Epoch>,
}

impl Check for Epochs {
    fn name(&self) -> &'static str {
        "h1_epochs"
    }

    fn says(&self) -> &'static str {
        "the epoch of a region in the index never goes back"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        // Without its cache a new process knows nothing, and may learn of an old state first.
        if matches!(moment, Moment::Restarted { with_cache: false }) {
            self.known.clear();
        }
        Ok(0)
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        let mut looked = 0;
        for region in at.control.cluster().regions().iter_from(b"", usize::MAX) {
            let (id, epoch) = (region.id(), region.epoch());
            let known = self.known.insert(id, epoch).unwrap_or(epoch);
            if epoch.is_older_than(known) {
                return Err(format!(
                    "region {id} went from ({}, {}) back to ({}, {})",
                    known.conf_ver, known.version, epoch.conf_ver, epoch.version
                ));
            }
            looked += 1;
        }
        Ok(looked)
    }
}

/// H2: ranges in the index.
pub(super) struct Ranges;

impl Check for Ranges {
    fn name(&self) -> &'static str {
        "h2_ranges"
    }

    fn says(&self) -> &'static str {
        "the ranges of known regions do not overlap, at the control plane and among the nodes"
    }

    fn after_step(&mut self, at: &At<'_>) -> Verdict {
        let regions = at.control.cluster().regions().iter_from(b"", usize::MAX);
        for pair in regions.windows(2) {
            let (a, b) = (pair[0].range(), pair[1].range());
            if a.end.is_empty() || a.end > b.start {
                return Err(format!("regions {} and {} overlap", pair[0].id(), pair[1].id()));
            }
        }
        let starts: BTreeSet<&[u8]> = at.fleet.regions().map(|r| r.range.start.as_bytes()).collect();
        if starts.len() != at.fleet.regions().count() {
            return Err("two regions of the nodes begin at the same key".into());
        }
        Ok(regions.len() as u64)
    }
}
