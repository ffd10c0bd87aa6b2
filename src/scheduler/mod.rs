//! What should be done, as pure decisions.
//!
//! Owns: rules and their fit, filters, checkers, operators and their limits, patrol and work lists, the store life cycle.
//! Must not know: the network, the disk, clocks, wire types, `meta`. Everything it needs comes in as an argument, everything it
//! wants done leaves as an [`effect::Effect`]. Start at [`checker`], then [`controller`], then [`cluster`], which ties them to
//! the observed state.

pub mod admin;
pub mod balance;
pub mod checker;
pub mod cluster;
pub mod controller;
pub mod effect;
pub mod explain;
pub mod filter;
pub mod life;
pub mod limit;
pub mod operator;
pub mod outcome;
pub mod patrol;
pub mod placement;
pub mod prepare;
pub mod progress;
pub mod region_label;
pub mod region_state;
pub mod score;
pub mod segments;
pub mod view;

#[cfg(test)]
mod testing;
