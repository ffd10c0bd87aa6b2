//! Label values that PD fixes.
//!
//! Owns: the words. Must not know: what is counted under them.

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
            pub enum $name {
                $(#[doc = concat!("`", $word, "`")] $variant,)*
            }

            impl $name {
                /// Every value.
                pub const ALL: &'static [$name] = &[$($name::$variant),*];

                /// The word.
                pub fn as_str(self) -> &'static str {
                    match self { $($name::$variant => $word,)* }
                }
            }

            impl AsRef<str> for $name {
                fn as_ref(&self) -> &str {
                    self.as_str()
                }
            }
        )*
    };
}

values! {
    /// `type` of `pd_cluster_status`.
    ClusterStatus {
        LeaderCount = "leader_count", LearnerCount = "learner_count", RegionCount = "region_count",
        StorageCapacity = "storage_capacity", StorageSize = "storage_size",
        StoreDisconnected = "store_disconnected_count", StoreDown = "store_down_count",
        StoreLowSpace = "store_low_space_count", StoreOffline = "store_offline_count",
        StorePreparing = "store_preparing_count", StoreRemoved = "store_removed_count",
        StoreRemoving = "store_removing_count", StoreServing = "store_serving_count", StoreSlow = "store_slow_count",
        StoreTombstone = "store_tombstone_count", StoreUnhealthy = "store_unhealth_count", StoreUp = "store_up_count",
        WitnessCount = "witness_count",
    }

    /// `type` of `pd_scheduler_store_status`; `…Now` are the figures of the last report alone.
    StoreStatus {
        LeaderCount = "leader_count", LeaderScore = "leader_score", LeaderSize = "leader_size",
        LearnerCount = "learner_count", RegionCount = "region_count", RegionScore = "region_score",
        RegionSize = "region_size", Available = "store_available", Capacity = "store_capacity", Used = "store_used",
        WitnessCount = "witness_count",
        ReadBytes = "store_read_rate_bytes", ReadBytesNow = "store_read_rate_bytes_instant",
        ReadKeys = "store_read_rate_keys", ReadKeysNow = "store_read_rate_keys_instant",
        ReadQuery = "store_read_query_rate", ReadQueryNow = "store_read_query_rate_instant",
        ReadCpu = "store_read_cpu_usage", ReadCpuNow = "store_read_cpu_usage_instant",
        WriteBytes = "store_write_rate_bytes", WriteBytesNow = "store_write_rate_bytes_instant",
        WriteKeys = "store_write_rate_keys", WriteKeysNow = "store_write_rate_keys_instant",
        WriteQuery = "store_write_query_rate", WriteQueryNow = "store_write_query_rate_instant",
        RegionsWriteBytes = "store_regions_write_rate_bytes", RegionsWriteKeys = "store_regions_write_rate_keys",
        SlowTrendCause = "store_slow_trend_cause_value", SlowTrendCauseRate = "store_slow_trend_cause_rate",
        SlowTrendResult = "store_slow_trend_result_value", SlowTrendResultRate = "store_slow_trend_result_rate",
    }

    /// `type` of `pd_regions_status`.
    RegionStatus {
        DownPeer = "down-peer-region-count", Empty = "empty-region-count", ExtraPeer = "extra-peer-region-count",
        LearnerPeer = "learner-peer-region-count", MissPeer = "miss-peer-region-count",
        OfflinePeer = "offline-peer-region-count", Oversized = "oversized-region-count",
        PendingPeer = "pending-peer-region-count", Undersized = "undersized-region-count",
        WitnessLeader = "witness-leader-region-count",
    }

    /// `event` of `pd_cluster_region_event`.
    RegionEvent { UpdateCache = "update_cache", UpdateKv = "update_kv" }

    /// `event` of `pd_schedule_operators_count`.
    OperatorEvent {
        AlreadyHave = "already-have", Cancel = "cancel", Check = "check", Create = "create", Disappear = "disappear",
        EpochNotMatch = "epoch-not-match", ExceedLimit = "exceed-limit", ExceedMaxWaiting = "exceed-max-waiting",
        Expire = "expire", Expired = "expired", Finish = "finish", Get = "get", NotFound = "not-found",
        PromoteAdd = "promote-add", PromoteStale = "promote-stale", PromoteSuccess = "promote-success",
        PromoteTimeout = "promote-timeout", PromoteUnexpected = "promote-unexpected", Put = "put", Remove = "remove",
        Replace = "replace", Start = "start", Timeout = "timeout", UnexpectedStatus = "unexpected-status",
    }

    /// `type` of `pd_schedule_finish_operator_steps_duration_seconds`.
    StepType {
        AddLearner = "AddLearner", ChangePeerV2Enter = "ChangePeerV2Enter", ChangePeerV2Leave = "ChangePeerV2Leave",
        RemovePeer = "RemovePeer", TransferLeader = "TransferLeader",
    }

    /// `status` of `pd_scheduler_region_heartbeat`; its `type` is always `report`.
    HeartbeatStatus {
        Bind = "bind", Err = "err", InvalidLeader = "invalid-leader", InvalidRegion = "invalid-region",
        NoPeer = "no-peer", Ok = "ok", Recv = "recv",
    }

    /// `type` of `pd_hbstream_region_message`.
    StreamMessage { Keepalive = "keepalive", Push = "push" }

    /// `status` of `pd_hbstream_region_message`.
    StreamStatus { Err = "err", Ok = "ok", Skip = "skip" }

    /// `action` of the progress families.
    ProgressAction { Preparing = "preparing", Removing = "removing" }

    /// `type` of `pd_cluster_store_limit`.
    LimitType { AddPeer = "add-peer", RemovePeer = "remove-peer" }

    /// `type` of `pd_checker_event_count`.
    Checker {
        Affinity = "affinity_checker", JointState = "joint_state_checker", Learner = "learner_checker",
        Merge = "merge_checker", Replica = "replica_checker", Rule = "rule_checker", Split = "split_checker",
    }

    /// `type` of `pd_core_query_region_count`.
    RegionQuery { Ids = "ids", Keys = "keys", PrevKeys = "prev-keys" }

    /// `kind` of `pd_scheduling_allowance_status`.
    Allowance { HaltScheduling = "halt-scheduling" }

    /// `kind` of `pd_server_api_concurrency`.
    ApiKind { Grpc = "grpc", Http = "http" }

    /// `type` of `pd_tso_events`; the ones that Berth can meet.
    TsoEvent {
        ExceededMaxRetry = "exceeded_max_retry", NotLeader = "not_leader", Save = "save", Sync = "sync",
        SyncOk = "sync_ok", SystemTimeSlow = "system_time_slow",
    }

    /// `type` of `pd_config_status`.
    ConfigStatus {
        AffinityScheduleLimit = "affinity-schedule-limit", EnableMakeUpReplica = "enable-makeup-replica",
        EnableRemoveDownReplica = "enable-remove-down-replica",
        EnableRemoveExtraReplica = "enable-remove-extra-replica",
        EnableReplaceOfflineReplica = "enable-replace-offline-replica", HighSpaceRatio = "high-space-ratio",
        HotRegionCacheHitsThreshold = "hot-region-cache-hits-threshold",
        HotRegionScheduleLimit = "hot-region-schedule-limit", LeaderScheduleLimit = "leader-schedule-limit",
        LowSpaceRatio = "low-space-ratio", MaxAffinityMergeRegionSize = "max-affinity-merge-region-size",
        MaxMergeRegionKeys = "max-merge-region-keys", MaxMergeRegionSize = "max-merge-region-size",
        MaxPendingPeerCount = "max-pending-peer-count", MaxReplicas = "max-replicas",
        MaxSnapshotCount = "max-snapshot-count", MergeScheduleLimit = "merge-schedule-limit",
        RegionScheduleLimit = "region-schedule-limit", ReplicaScheduleLimit = "replica-schedule-limit",
        SplitScatterScheduleLimit = "split-scatter-schedule-limit", TolerantSizeRatio = "tolerant-size-ratio",
    }

    /// `type` of `pd_server_etcd_state`.
    LogState { AppliedIndex = "appliedIndex", CommittedIndex = "committedIndex", Term = "term" }

    /// `type` of `pd_cluster_id`.
    IdKind { Ids = "idalloc" }
}
