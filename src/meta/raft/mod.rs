//! Raft as a step function ([`Node`]): inputs in, what to send, to persist and to apply out. No threads, no clocks, no disk: a whole
//! group can be run in one thread from a seed.
//!
//! Owns: the rules of the crate `raft` about the order of things. Must not know: files, the machine, who waits for what.

mod guard;
mod node;
#[cfg(test)]
mod tests;
mod view;

pub(super) use node::{Committed, Follower, Input, Node, NodeOptions, Output, Persist, Wanted};
