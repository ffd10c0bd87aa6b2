//! What must hold for operators: one a region, none while halted, none towards a store that is going.

use std::collections::BTreeMap;

use super::{At, Check, Moment, Verdict, is_asked_for, is_by_hand};
use crate::{
    model::{OperatorId, RegionId, StoreState, names::desc},
    scheduler::operator::Step,
};

/// O4: one operator a region.
#[derive(Default)]
pub(super) struct OneARegion {
    running: BTreeMap<RegionId, OperatorId>,
}

impl Check for OneARegion {
    fn name(&self) -> &'static str {
        "o4_one_operator"
    }

    fn says(&self) -> &'static str {
        "a region has at most one operator, and each ends once"
    }

    fn on(&mut self, moment: &Moment<'_>, _: &At<'_>) -> Verdict {
        match moment {
            Moment::Added { op, .. } => match self.running.insert(op.region, op.id) {
                Some(other) => Err(format!("region {} had operator {other} when {} came", op.region, op.id)),
                None => Ok(1),
            },
            Moment::Ended { op } => {
                // One that never started ends too.
                if self.running.get(&op.region) == Some(&op.id) {
                    self.running.remove(&op.region);
                }
                Ok(0)
            }
            Moment::Restarted { .. } => {
                self.running.clear();
                Ok(0)
            }
            _ => Ok(0),
        }
    }
}

/// O7: halted means halted.
pub(super) struct Halted;

impl Check for Halted {
    fn name(&self) -> &'static str {
        "o7_halted"
    }

    fn says(&self) -> &'static str {
        "while scheduling is halted nothing starts but what a person asks for"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        let Moment::Added { op, .. } = moment else { return Ok(0) };
        let allowed = is_asked_for(op) || op.desc == desc::LEAVE_JOINT_STATE;
        if at.control.cluster().settings().schedule.halt_scheduling && !allowed {
            return Err(format!("{} of region {} started", op.desc, op.region));
        }
        Ok(1)
    }
}

/// O2: nothing is moved to a store that is going or gone.
pub(super) struct Targets;

impl Check for Targets {
    fn name(&self) -> &'static str {
        "o2_targets"
    }

    fn says(&self) -> &'static str {
        "no operator moves a peer or a leader to a store that is not Up"
    }

    fn on(&mut self, moment: &Moment<'_>, at: &At<'_>) -> Verdict {
        let Moment::Added { op, .. } = moment else { return Ok(0) };
        if is_by_hand(op) {
            return Ok(0);
        }
        for step in op.steps.iter() {
            let to = match step {
                Step::AddPeer(at) | Step::AddLearner(at) => at.store,
                Step::TransferLeader { to, .. } => *to,
                _ => continue,
            };
            if at.state.stores.get(&to).is_none_or(|s| s.state != StoreState::Up) {
                return Err(format!("{} of region {}: {step}", op.desc, op.region));
            }
        }
        Ok(1)
    }
}
