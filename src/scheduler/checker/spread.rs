//! Who leads the regions of a draining store while their snapshots are made.

use std::collections::BTreeMap;

use crate::{
    model::{Region, StoreId},
    scheduler::operator::{Operator, Step},
};

/// How many regions of draining stores each store was chosen to lead.
///
/// The leader of a region makes the snapshot for its new peer. If the store that is drained made them all it would be the
/// bottleneck, so leaders go round the stores of the region, the drained one among them (PD does the same). When the turn is
/// the drained store's, the operator is called `replace-rule-offline-peer` and the leader moves just before the joint step; when
/// it is another's, `replace-rule-offline-leader-peer`. In the recorded drains 34 of 100 regions that store 2 led got the former
/// name, 66 the latter: a third each with three replicas. Unlike PD, only operators that were admitted count.
#[derive(Clone, Debug, Default)]
pub struct LeaderSpread {
    led: BTreeMap<StoreId, u64>,
}

impl LeaderSpread {
    /// How many regions the store was chosen to lead.
    pub fn count(&self, store: StoreId) -> u64 {
        self.led.get(&store).copied().unwrap_or(0)
    }

    /// Whose turn to lead `operator` uses up, if it replaces the leader of `region`.
    pub fn turn(region: &Region, operator: &Operator) -> Option<StoreId> {
        if !operator.desc.starts_with("replace-rule-") {
            return None;
        }
        let leader = region.leader_store()?;
        let leaves = operator.steps.iter().any(|s| matches!(s, Step::RemovePeer { store, .. } if *store == leader));
        if !leaves {
            return None;
        }
        let next = operator.steps.iter().find_map(|s| match s {
            Step::TransferLeader { to, .. } if operator.desc.ends_with("-leader-peer") => Some(*to),
            _ => None,
        });
        Some(next.unwrap_or(leader))
    }

    /// Counts the turn of an operator that was admitted.
    pub fn count_turn(&mut self, store: StoreId) {
        *self.led.entry(store).or_default() += 1;
    }

    /// Starts over, when nothing is drained any more.
    pub fn clear(&mut self) {
        self.led.clear();
    }
}
