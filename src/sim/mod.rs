//! A fleet of simulated storage nodes, the text view of `berth demo`, and the load driver `berth bench`.
//!
//! Owns: what nodes do with scheduling commands, the faults they have, and the clients that measure a server. Speaks plain `pdpb`
//! over gRPC and plain HTTP to any address, so it runs against Berth and against PD alike; it must not know any other part of
//! the server. [`Fleet`] is pure: time is passed in and randomness comes from a seed; only `driver`, `http`, `demo` and `bench`
//! touch a runtime or a clock. Start at [`Fleet`], then [`run`].

pub mod bench;
mod command;
pub mod demo;
mod driver;
#[cfg(test)]
mod fake;
mod fleet;
pub mod http;
mod layout;
pub mod linear;
mod options;
mod region;
mod report;
mod safety;
mod wire;

pub use command::{Change, ChangeKind, Command, CommandKind, Order, Rejection, SplitAt};
pub use driver::{Observer, SimError, run};
pub use fleet::{Fleet, FleetView, Flow, Incoming, Outgoing, Snapshots, StoreView};
pub(crate) use layout::row_key;
pub use layout::{IdSpan, IdSpans, LayoutError};
pub use options::{FaultOptions, FleetOptions, LayoutKind, StopStore, parse_duration};
pub use region::SimRegion;
pub use report::{Counters, FinalCheck, FleetReport};
pub use safety::Violation;
