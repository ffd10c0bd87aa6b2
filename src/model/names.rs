//! Texts that outsiders see and compare: operator descriptions and cancel reasons. Metric names stand in `telemetry`, error
//! texts beside their errors, configuration keys in `config`.

/// Operator descriptions. Scripts and dashboards look for them in logs and in `/operators`.
pub mod desc {
    /// A person moves a leader.
    pub const ADMIN_TRANSFER_LEADER: &str = "admin-transfer-leader";
    /// A person moves a whole region.
    pub const ADMIN_MOVE_REGION: &str = "admin-move-region";
    /// A person moves a peer.
    pub const ADMIN_MOVE_PEER: &str = "admin-move-peer";
    /// A person adds a voter.
    pub const ADMIN_ADD_PEER: &str = "admin-add-peer";
    /// A person adds a learner.
    pub const ADMIN_ADD_LEARNER: &str = "admin-add-learner";
    /// A person removes a peer.
    pub const ADMIN_REMOVE_PEER: &str = "admin-remove-peer";
    /// A person splits a region.
    pub const ADMIN_SPLIT_REGION: &str = "admin-split-region";
    /// A person merges two regions.
    pub const ADMIN_MERGE_REGION: &str = "admin-merge-region";
    /// The leader of a region that is read much moves.
    pub const TRANSFER_HOT_READ_LEADER: &str = "transfer-hot-read-leader";
    /// The leader of a region that is written much moves.
    pub const TRANSFER_HOT_WRITE_LEADER: &str = "transfer-hot-write-leader";
    /// The leading peer of a region that is read much moves.
    pub const MOVE_HOT_READ_LEADER: &str = "move-hot-read-leader";
    /// The leading peer of a region that is written much moves.
    pub const RANDOM_MOVE_HOT_LEADER: &str = "random-move-hot-leader";
    /// See PD.
    pub const GRANT_HOT_LEADER: &str = "grant-hot-region-scheduler-leader";
    /// See PD.
    pub const GRANT_HOT_MOVE: &str = "grant-hot-region-scheduler-move";
    /// See PD.
    pub const MOVE_HOT_READ_PEER: &str = "move-hot-read-peer";
    /// See PD.
    pub const MOVE_HOT_WRITE_LEADER: &str = "move-hot-write-leader";
    /// A peer of a region that is written much moves.
    pub const MOVE_HOT_WRITE_PEER: &str = "move-hot-write-peer";
    /// A region is spread over the stores.
    pub const SCATTER_REGION: &str = "scatter-region";
    /// A region is split at keys that a person gives.
    pub const REGION_SPLITTER: &str = "region-splitter";
    /// A joint state that nobody leaves is left.
    pub const LEAVE_JOINT_STATE: &str = "leave-joint-state";
    /// A rule lacks a peer.
    pub const ADD_RULE_PEER: &str = "add-rule-peer";
    /// A peer is down for too long.
    pub const REPLACE_RULE_DOWN_PEER: &str = "replace-rule-down-peer";
    /// A peer is down for too long, and the leader moves to a chosen store first.
    pub const REPLACE_RULE_DOWN_LEADER_PEER: &str = "replace-rule-down-leader-peer";
    /// A peer is on a store that is being emptied.
    pub const REPLACE_RULE_OFFLINE_PEER: &str = "replace-rule-offline-peer";
    /// A peer is on a store that is being emptied, and the leader moves to a chosen store first.
    pub const REPLACE_RULE_OFFLINE_LEADER_PEER: &str = "replace-rule-offline-leader-peer";
    /// A learner should be a voter.
    pub const FIX_PEER_ROLE: &str = "fix-peer-role";
    /// A peer should lead.
    pub const FIX_LEADER_ROLE: &str = "fix-leader-role";
    /// A peer must not lead.
    pub const FIX_FOLLOWER_ROLE: &str = "fix-follower-role";
    /// A voter should be a learner.
    pub const FIX_DEMOTE_VOTER: &str = "fix-demote-voter";
    /// A peer should be a witness.
    pub const FIX_WITNESS_PEER: &str = "fix-witness-peer";
    /// A witness should have data.
    pub const FIX_NON_WITNESS_PEER: &str = "fix-non-witness-peer";
    /// A voter is down, and a witness gets data in its place.
    pub const PROMOTE_WITNESS_FOR_DOWN: &str = "promote-witness-for-down";
    /// A peer is down, and a witness takes its place first, as it needs no data.
    pub const FAST_REPLACE_RULE_DOWN_PEER: &str = "fast-replace-rule-down-peer";
    /// The same for a witness on a store that is being emptied.
    pub const FAST_REPLACE_RULE_OFFLINE_PEER: &str = "fast-replace-rule-offline-peer";
    /// A peer could be further away from the others.
    pub const MOVE_TO_BETTER_LOCATION: &str = "move-to-better-location";
    /// No rule wants this peer.
    pub const REMOVE_ORPHAN_PEER: &str = "remove-orphan-peer";
    /// A peer that no rule wants takes the place of one that is down.
    pub const REPLACE_DOWN_PEER_WITH_ORPHAN_PEER: &str = "replace-down-peer-with-orphan-peer";
    /// A peer whose place was taken.
    pub const REMOVE_REPLACED_ORPHAN_PEER: &str = "remove-replaced-orphan-peer";
    /// No rule wants this peer, and it is down.
    pub const REMOVE_UNHEALTHY_ORPHAN_PEER: &str = "remove-unhealthy-orphan-peer";
    /// Rules are off: there are fewer replicas than `max-replicas`.
    pub const MAKE_UP_REPLICA: &str = "make-up-replica";
    /// Rules are off: there are more.
    pub const REMOVE_EXTRA_REPLICA: &str = "remove-extra-replica";
    /// Rules are off: there are more, and this one is down.
    pub const REMOVE_EXTRA_DOWN_REPLICA: &str = "remove-extra-down-replica";
    /// Rules are off: there are more, and this one is on a store that is being emptied.
    pub const REMOVE_EXTRA_OFFLINE_REPLICA: &str = "remove-extra-offline-replica";
    /// Rules are off: a replica is down.
    pub const REPLACE_DOWN_REPLICA: &str = "replace-down-replica";
    /// Rules are off: a replica is on a store that is being emptied.
    pub const REPLACE_OFFLINE_REPLICA: &str = "replace-offline-replica";
    /// Rules are off: every peer votes.
    pub const PROMOTE_LEARNER: &str = "promote-learner";
    /// Two small regions become one; one operator for each.
    pub const MERGE_REGION: &str = "merge-region";
    /// A border of region labels lies inside.
    pub const LABELER_SPLIT_REGION: &str = "labeler-split-region";
    /// A border of placement rules lies inside.
    pub const RULE_SPLIT_REGION: &str = "rule-split-region";
}

/// Keys of an operator's additional information.
pub mod info {
    /// Why it ended; empty on success.
    pub const CANCEL_REASON: &str = "cancel-reason";
    /// The other region of a merge.
    pub const RELATED_MERGE_REGION: &str = "related merge region";
    /// Where a region that is split began, in upper-case hex.
    pub const REGION_START_KEY: &str = "region-start-key";
    /// Where it ended.
    pub const REGION_END_KEY: &str = "region-end-key";
}

/// Why operators are cancelled.
pub mod cancel {
    /// The region left the index.
    pub const REGION_NOT_FOUND: &str = "region not found";
    /// `conf_ver` or `version` moved without the operator's doing.
    pub const EPOCH_NOT_MATCH: &str = "epoch not match";
    /// Another operator holds the region.
    pub const ALREADY_EXIST: &str = "already exist";
    /// A person removed it.
    pub const ADMIN_STOP: &str = "admin stop";
    /// It is in the running set, but not running.
    pub const NOT_IN_RUNNING_STATE: &str = "not in running state";
    /// It ran out of time.
    pub const TIMEOUT: &str = "timeout";
    /// It was not started in time.
    pub const EXPIRED: &str = "expired";
    /// It had been started before.
    pub const NOT_IN_CREATE_STATUS: &str = "not in create status";
    /// A heartbeat shows a state that its step does not allow.
    pub const STALE_STATUS: &str = "stale status";
    /// A store has no tokens.
    pub const EXCEED_STORE_LIMIT: &str = "exceed store limit";
    /// Too many of its kind wait.
    pub const EXCEED_WAIT_LIMIT: &str = "exceed wait limit";
    /// The other operator of its merge ended.
    pub const RELATED_MERGE_REGION: &str = "related merge region";
    /// It could not be started.
    pub const START_FAILED: &str = "start failed";
    /// Anything else.
    pub const UNKNOWN: &str = "unknown";
}
