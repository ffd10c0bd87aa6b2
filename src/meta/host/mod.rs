//! What drives a member: [`Core`] decides what follows from what happened, [`Host`] gives it threads. The same core runs in simulated
//! clusters.
//!
//! Owns: the order persist → commit → apply → tell → answer, leadership and its lease, the group. Must not know: what commands mean, who
//! waits.

mod apply;
mod core;
mod group;
mod hashes;
mod lead;
mod promise;
mod send;
mod threads;

#[cfg(test)]
pub(super) use self::core::CoreOptions;
pub(super) use self::core::{Core, Todo};
pub use self::threads::{Host, HostHandle};
