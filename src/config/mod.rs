//! Configuration: PD's keys, defaults, checks and texts, and Berth's own `[berth]` table.
//!
//! Owns: what a configuration is ([`Config`], one member's; [`Dynamic`], what members agree on), how it is read from files,
//! flags and the environment, and how it is changed online. Must not know: who uses it. Start at [`tree`].

pub mod codec;
pub mod dynamic;
pub mod flags;
pub mod gojson;
pub mod load;
pub mod schedule;
pub mod section;
pub mod sections;
pub mod tree;
pub mod ttl;
pub mod update;
mod url;

pub use codec::{GoDuration, LabelProperty};
pub use dynamic::{Dynamic, Shared};
pub use flags::{BuildInfo, FlagError, Flags};
pub use load::{Host, LoadError, Loaded, load};
pub use schedule::{ScheduleConfig, SchedulerConfig, schedule_json};
pub use sections::{
    BerthConfig, ControllerConfig, DenyScope, KeyspaceConfig, LogConfig, LogFileConfig, MicroServiceConfig,
    PdServerConfig, Redact, ReplicationConfig, ReplicationModeConfig, SecurityConfig,
};
pub use tree::Config;
pub use ttl::TtlItems;
pub use update::{ConfigError, Update};
pub use url::Place;
