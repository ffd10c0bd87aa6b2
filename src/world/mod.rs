//! The deterministic simulator: the real deciding code and the real state machine, simulated storage nodes, one thread, virtual
//! time, everything random from one seed.
//!
//! Owns: the wiring of those parts ([`control`], [`world`]), the scenario language ([`script`], [`run`]), what must hold after each
//! step ([`checks`]), random scenarios ([`random`]), replaying recordings of live servers ([`replay`]). Must not know: tasks, sockets, real clocks. No other module may use it but the
//! binary. Start at [`world::World::step`], then [`run`].

pub mod bugs;
pub mod checks;
pub mod command;
pub mod control;
pub mod error;
pub mod plan;
pub mod random;
pub mod replay;
pub mod run;
pub mod script;
pub mod show;
pub mod test;
pub mod trace;
#[expect(clippy::module_inception, reason = "the world is what this module is about")]
pub mod world;
