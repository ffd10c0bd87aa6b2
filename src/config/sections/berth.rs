//! `[berth]`: Berth's own settings. PD's answers never show them.
//!
//! Owns: the section. Must not know: what its settings do elsewhere.

use serde_json::Value;

use crate::config::{
    codec::{Bad, Bool, ByteSize, Codec, GoDuration, Place, Span, TextList, TomlBad, toml_mismatch},
    section::section,
};

/// What `schedule=deny` of a region label holds back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DenyScope {
    /// Balancing, merging, scattering by schedulers, moves to better locations, and replacing peers on offline stores.
    #[default]
    Moves,
    /// Balancing, merging and scattering only (PD from 6.5.3 on).
    Balance,
    /// Repairs and splits too (PD up to 6.5.2).
    All,
}

/// The words for [`DenyScope`].
enum DenyScopeCodec {}

impl Codec<DenyScope> for DenyScopeCodec {
    fn show(value: &DenyScope) -> Value {
        match value {
            DenyScope::Moves => "moves",
            DenyScope::Balance => "balance",
            DenyScope::All => "all",
        }
        .into()
    }

    fn read_json(slot: &mut DenyScope, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        *slot = match value.as_str() {
            Some("moves") => DenyScope::Moves,
            Some("balance") => DenyScope::Balance,
            Some("all") => DenyScope::All,
            _ => return Err(Bad::Text(format!("{value} is not one of moves, balance, all"))),
        };
        Ok(())
    }

    fn read_toml(slot: &mut DenyScope, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        let text = value.as_str().ok_or_else(|| toml_mismatch(value, "string"))?;
        let at = Place { structure: "", field: "" };
        Self::read_json(slot, &text.into(), at).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn is_zero(_: &DenyScope) -> bool {
        false
    }
}

section! {
    /// Berth's own settings: the `[berth]` table of the file. PD's answers never show them.
    pub struct BerthConfig ("BerthConfig") {
        /// What `schedule=deny` holds back.
        region_label_deny_scope: DenyScope as DenyScopeCodec, "region-label-deny-scope" = DenyScope::Moves;
        /// Refuse to listen without TLS.
        require_tls: bool as Bool, "require-tls" = false;
        /// Common names of clients that may read and do what a storage node does. With any of the three lists set, who is in none
        /// may do nothing.
        role_read: Option<Vec<String>> as TextList, "role-read" = None;
        /// Common names of clients that may also move data and take stores out.
        role_operate: Option<Vec<String>> as TextList, "role-operate" = None;
        /// Common names of clients that may do everything.
        role_admin: Option<Vec<String>> as TextList, "role-admin" = None;
        /// How often the leader of the members sends a heartbeat.
        raft_heartbeat_interval: GoDuration as Span, "raft-heartbeat-interval" = GoDuration::from_millis(100);
        /// Silence of the leader after which a member stands for election.
        raft_election_timeout: GoDuration as Span, "raft-election-timeout" = GoDuration::from_millis(800);
        /// How long a member that is stopped still answers after it has said that it is not ready, when there are others: the time
        /// in which a load balancer has to see it.
        stop_delay: GoDuration as Span, "stop-delay" = GoDuration::from_millis(1000);
        /// Memory for the pages of the log file.
        log_cache_size: u64 as ByteSize, "log-cache-size" = 16 << 20;
        /// Memory for the pages of the state file.
        state_cache_size: u64 as ByteSize, "state-cache-size" = 64 << 20;
        /// Memory for the pages of the region cache.
        region_cache_size: u64 as ByteSize, "region-cache-size" = 32 << 20;
        /// Compare the hash of the state between members.
        state_hash_check: bool as Bool, "state-hash-check" = true;
    }
}

impl BerthConfig {
    /// Fewer heartbeats than this in an election timeout would make a delayed packet an election.
    const LEAST_HEARTBEATS: i64 = 3;

    /// Nanoseconds: a service manager gives up on a process that does not end.
    const LONGEST_STOP_DELAY: i64 = 60_000_000_000;

    /// Checks the settings against each other.
    pub fn validate(&self) -> Result<(), String> {
        let (heartbeat, election) = (self.raft_heartbeat_interval.0, self.raft_election_timeout.0);
        if heartbeat <= 0 || election < heartbeat.saturating_mul(Self::LEAST_HEARTBEATS) {
            return Err(format!(
                "berth.raft-election-timeout should be at least {} times berth.raft-heartbeat-interval",
                Self::LEAST_HEARTBEATS
            ));
        }
        if !(0..=Self::LONGEST_STOP_DELAY).contains(&self.stop_delay.0) {
            return Err("berth.stop-delay should be between 0s and 1m".into());
        }
        Ok(())
    }
}
