//! Berth: a placement control plane for range-partitioned storage clusters.
//!
//! Dependencies point one way: `bin → server → api → scheduler → store → model` and `server, api → meta → model`; `config`, `telemetry`
//! and `tls` stand beside and know only `model` and each other. ARCHITECTURE.md is the map; a test in `tests/tidy.rs` reads the `use` lines.

pub mod api;
pub mod config;
pub mod ctl;
pub mod meta;
pub mod model;
pub mod proto;
pub mod scheduler;
pub mod server;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod world;
