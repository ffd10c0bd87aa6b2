//! What Berth says about itself: log lines, audit lines and metrics, with PD's words.
//!
//! Owns: formats, names and label values that outsiders see. Must not know: who says what, or when.

pub mod audit;
pub mod log;
pub mod metrics;
pub mod names;

pub use log::{Level, Logger, Value};
