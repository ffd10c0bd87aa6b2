//! Regions that were left in a joint state, by an operator that ended or a leader that changed.

use super::Found;
use crate::{
    model::Region,
    scheduler::{
        operator::{BuildError, Operator},
        outcome::Reason,
        view::ClusterView,
    },
};

/// `leave-joint-state`, never limited: until a region has left its joint state nothing else can be done for it.
pub(super) fn find(view: &ClusterView<'_>, region: &Region) -> Found {
    if !region.meta.in_joint_state() {
        return Ok(None);
    }
    Operator::leave_joint_state(*view, region).map(Some).map_err(reason)
}

/// A builder's refusal as a reason.
pub(super) fn reason(error: BuildError) -> Reason {
    match error {
        BuildError::NoId => Reason::NoId,
        // The builder's words for: no peer that stays may lead.
        BuildError::Refused(text) if text == "no valid leader" || text.ends_with("target leader is not allowed") => {
            Reason::no_leader_target()
        }
        BuildError::Refused(text) => Reason::Build(text),
    }
}
