//! Why things are as they are, for people: drains, regions, operators, and what a drain would be like.
//!
//! Owns: putting together what checkers, filters, lists and operators say of themselves. Must not know: HTTP, JSON. Nothing is
//! decided here: every word comes from the same [`Reason`](super::outcome::Reason), [`Choice`](super::filter::Choice) and running
//! operator that scheduling goes by. Start at [`why`], then [`drain`].

pub mod drain;
pub mod preview;
pub mod region;
pub mod remedy;
pub mod text;
pub mod why;

#[cfg(test)]
mod tests;

use super::{controller::Controller, patrol::Patrol, view::ClusterView};

/// What an explanation is read from: the deciding code at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The world.
    pub view: &'a ClusterView<'a>,
    /// Operators and limits.
    pub controller: &'a Controller,
    /// Lists.
    pub patrol: &'a Patrol,
    /// Whether enough was heard to schedule.
    pub prepared: bool,
}
