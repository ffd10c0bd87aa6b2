//! The ways in: gRPC and REST (later etcd and the console). Wire types stop here.
//!
//! Owns: decoding requests, calling what answers them, encoding answers, and the one map each from errors to gRPC and HTTP.
//! Must not know: tasks, sockets, how effects are carried out. Start at [`App`], then [`grpc`] or [`rest`].

pub mod app;
pub mod compact_text;
pub mod convert;
pub mod error;
pub mod forward;
pub mod grpc;
pub(crate) mod keyspace;
pub(crate) mod lines;
pub mod rest;
pub mod roles;
pub mod rows;

pub use app::{App, EffectSink, HeartbeatStreams, ServerInfo};
pub use error::ApiError;
pub use keyspace::keyspace_zero;
