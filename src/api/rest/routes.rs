//! The route table: one row for each route of PD that is built.
//!
//! Owns: method, path, service label, audit, preconditions and handler of each route. Must not know: what handlers do. The test
//! holds every row against the recorded list of PD's routes.

use axum::http::Method;
use futures::future::BoxFuture;

use super::{
    Answer, admin, berth, checkers, config, gc, hot_buckets, hot_history, hotspot, label_owners, labels, members,
    min_resolved_ts, operators, region_checks, region_labels, region_lists, regions, request::Request, rule_bundles,
    rules, rules_unmet, scatter, schedulers, stats, status, store_limits, stores, v2,
};
use crate::{
    api::roles::{self, Role},
    scheduler::region_state::Flag,
    store::hot::Traffic,
};

/// Which methods a route answers: one by name, or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Methods(Option<&'static str>);

impl Methods {
    /// Whether `method` is among them.
    pub(super) fn has(self, method: &Method) -> bool {
        self.0.is_none_or(|one| one == method.as_str())
    }
}

const GET: Methods = Methods(Some("GET"));
const POST: Methods = Methods(Some("POST"));
const DELETE: Methods = Methods(Some("DELETE"));
const PATCH: Methods = Methods(Some("PATCH"));
const ANY: Methods = Methods(None);

/// What is kept of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audit {
    /// Nothing.
    None,
    /// `pd_service_audit_*`, after it.
    Metrics,
    /// A line in the log before it, too.
    LogAndMetrics,
}

/// What answers a request.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// At once.
    Now(fn(&Request) -> Answer),
    /// When what it changes is agreed.
    Later(for<'a> fn(&'a Request) -> BoxFuture<'a, Answer>),
}

/// One route.
pub(super) struct Route {
    /// Methods.
    pub(super) methods: Methods,
    /// Path with its variables.
    pub(super) path: &'static str,
    /// Service label.
    pub(super) label: &'static str,
    /// Audit.
    pub(super) audit: Audit,
    /// Whether it needs a bootstrapped cluster.
    pub(super) bootstrapped: bool,
    /// Whether a member that does not lead answers it itself.
    pub(super) local: bool,
    /// Handler.
    pub(super) handler: Handler,
}

impl Route {
    const fn new(methods: Methods, path: &'static str, label: &'static str, handler: Handler) -> Self {
        Self { methods, path, label, audit: Audit::Metrics, bootstrapped: false, local: false, handler }
    }

    /// A route beside v1.
    const fn bare(path: &'static str, handler: Handler) -> Self {
        Self { audit: Audit::None, local: true, ..Self::new(GET, path, "", handler) }
    }

    /// A route of Berth's own.
    const fn berth(path: &'static str, handler: Handler) -> Self {
        Self { audit: Audit::None, bootstrapped: true, ..Self::new(GET, path, "", handler) }
    }

    /// What a caller must be allowed to do.
    pub(super) fn role(&self) -> Role {
        roles::of_rest(self.path, self.methods != GET && self.methods != ANY)
    }

    const fn logged(self) -> Self {
        Self { audit: Audit::LogAndMetrics, ..self }
    }

    const fn bootstrapped(self) -> Self {
        Self { bootstrapped: true, ..self }
    }

    const fn local(self) -> Self {
        Self { local: true, ..self }
    }
}

macro_rules! now {
    ($handler:expr) => {
        Handler::Now($handler)
    };
}

macro_rules! later {
    ($handler:expr) => {
        Handler::Later(|request| Box::pin($handler(request)))
    };
}

/// All routes.
pub(super) static TABLE: &[Route] = &[
    // Operators.
    Route::new(GET, "/pd/api/v1/operators", "GetOperators", now!(operators::list)).bootstrapped(),
    Route::new(POST, "/pd/api/v1/operators", "CreateOperator", later!(operators::create)).logged().bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/operators", "DeleteOperators", now!(operators::cancel_all)).logged().bootstrapped(),
    Route::new(GET, "/pd/api/v1/operators/records", "GetOperatorRecords", now!(operators::records)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/operators/{region_id}", "GetOperatorsByRegion", now!(operators::one)).bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/operators/{region_id}", "DeleteOperatorByRegion", now!(operators::cancel))
        .logged()
        .bootstrapped(),
    // Checkers.
    Route::new(POST, "/pd/api/v1/checker/{name}", "PauseOrResumeChecker", now!(checkers::pause)).logged(),
    Route::new(GET, "/pd/api/v1/checker/{name}", "GetCheckerStatus", now!(checkers::status)),
    Route::new(
        POST,
        "/pd/api/v1/regions/accelerate-schedule",
        "AccelerateRegionsScheduleInRange",
        now!(checkers::accelerate),
    )
    .logged()
    .bootstrapped(),
    Route::new(
        POST,
        "/pd/api/v1/regions/accelerate-schedule/batch",
        "AccelerateRegionsScheduleInRanges",
        now!(checkers::accelerate_batch),
    )
    .logged()
    .bootstrapped(),
    // Scattering and splitting.
    Route::new(POST, "/pd/api/v1/regions/scatter", "ScatterRegions", later!(scatter::scatter)).logged().bootstrapped(),
    Route::new(POST, "/pd/api/v1/regions/split", "SplitRegions", later!(scatter::split)).logged().bootstrapped(),
    // Schedulers.
    Route::new(GET, "/pd/api/v1/schedulers", "GetSchedulers", now!(schedulers::list)),
    Route::new(POST, "/pd/api/v1/schedulers", "CreateScheduler", later!(schedulers::add)).logged(),
    Route::new(DELETE, "/pd/api/v1/schedulers/{name}", "DeleteScheduler", later!(schedulers::remove)).logged(),
    Route::new(POST, "/pd/api/v1/schedulers/{name}", "PauseOrResumeScheduler", now!(schedulers::pause)).logged(),
    Route::new(GET, "/pd/api/v1/schedulers/diagnostic/{name}", "getDiagnosticResult", now!(schedulers::diagnostic))
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/scheduler-config/{*rest}", "GetSchedulerConfig", now!(schedulers::show_config)),
    Route::new(POST, "/pd/api/v1/scheduler-config/{*rest}", "HandleSchedulerConfig", later!(schedulers::change_config))
        .logged(),
    Route::new(
        DELETE,
        "/pd/api/v1/scheduler-config/{*rest}",
        "HandleSchedulerConfig",
        later!(schedulers::change_config),
    )
    .logged(),
    // Cluster and configuration.
    Route::new(GET, "/pd/api/v1/cluster", "GetCluster", now!(status::cluster)),
    Route::new(ANY, "/pd/api/v1/cluster/status", "GetClusterStatus", now!(status::cluster_status)),
    Route::new(GET, "/pd/api/v1/config", "GetConfig", now!(config::get)).local(),
    Route::new(POST, "/pd/api/v1/config", "SetConfig", later!(config::set)).logged(),
    Route::new(GET, "/pd/api/v1/config/default", "GetDefaultConfig", now!(config::default)),
    Route::new(GET, "/pd/api/v1/config/schedule", "GetScheduleConfig", now!(config::schedule)),
    Route::new(POST, "/pd/api/v1/config/schedule", "SetScheduleConfig", later!(config::set_schedule)).logged(),
    Route::new(GET, "/pd/api/v1/config/pd-server", "GetPDServerConfig", now!(config::pd_server)),
    Route::new(GET, "/pd/api/v1/config/replicate", "GetReplicationConfig", now!(config::replicate)),
    Route::new(POST, "/pd/api/v1/config/replicate", "SetReplicationConfig", later!(config::set_replicate)).logged(),
    Route::new(GET, "/pd/api/v1/config/label-property", "GetLabelPropertyConfig", now!(config::label_property)),
    Route::new(POST, "/pd/api/v1/config/label-property", "SetLabelPropertyConfig", later!(config::set_label_property))
        .logged(),
    Route::new(GET, "/pd/api/v1/config/cluster-version", "GetClusterVersion", now!(config::cluster_version)),
    Route::new(POST, "/pd/api/v1/config/cluster-version", "SetClusterVersion", later!(config::set_cluster_version))
        .logged(),
    Route::new(GET, "/pd/api/v1/config/replication-mode", "GetReplicationModeConfig", now!(config::replication_mode)),
    Route::new(
        POST,
        "/pd/api/v1/config/replication-mode",
        "SetReplicationModeConfig",
        later!(config::set_replication_mode),
    )
    .logged(),
    // Placement rules.
    Route::new(GET, "/pd/api/v1/config/rules", "GetAllRules", now!(rules::all)).bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/rules", "SetAllRules", later!(rules::set_all)).logged().bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/rules/batch", "BatchRules", later!(rules::batch)).logged().bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/rules/group/{group}", "GetRuleByGroup", now!(rules::by_group)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/rules/region/{region}", "GetRulesByRegion", now!(rules::by_region))
        .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/config/rules/region/{region}/detail",
        "CheckRegionPlacementRule",
        now!(rules::fit_of_region),
    )
    .bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/rules/key/{key}", "GetRulesByKey", now!(rules::by_key)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/rule/{group}/{id}", "GetRuleByGroupAndID", now!(rules::one)).bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/rule", "SetRule", later!(rules::set)).logged().bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/config/rule/{group}/{id}", "DeleteRuleByGroup", later!(rules::delete))
        .logged()
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/rule_group/{id}", "GetGroupConfig", now!(rules::group)).bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/rule_group", "SetGroupConfig", later!(rules::set_group))
        .logged()
        .bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/config/rule_group/{id}", "DeleteGroupConfig", later!(rules::delete_group))
        .logged()
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/rule_groups", "GetAllGroupConfigs", now!(rules::groups)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/placement-rule", "GetPlacementRules", now!(rule_bundles::all)).bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/placement-rule", "SetPlacementRules", later!(rule_bundles::set_all))
        .logged()
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/placement-rule/{group}", "GetPlacementRuleByGroup", now!(rule_bundles::one))
        .bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/placement-rule/{group}", "SetPlacementRuleByGroup", later!(rule_bundles::set))
        .logged()
        .bootstrapped(),
    Route::new(
        DELETE,
        "/pd/api/v1/config/placement-rule/{group}",
        "DeletePlacementRuleByGroup",
        later!(rule_bundles::delete),
    )
    .logged()
    .bootstrapped(),
    // Region labels.
    Route::new(GET, "/pd/api/v1/config/region-label/rules", "GetAllRegionLabelRules", now!(region_labels::all))
        .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/config/region-label/rules/ids",
        "GetRegionLabelRulesByIDs",
        now!(region_labels::by_ids),
    )
    .bootstrapped(),
    Route::new(GET, "/pd/api/v1/config/region-label/rule/{id}", "GetRegionLabelRuleByID", now!(region_labels::one))
        .bootstrapped(),
    Route::new(
        DELETE,
        "/pd/api/v1/config/region-label/rule/{id}",
        "DeleteRegionLabelRule",
        later!(region_labels::delete),
    )
    .logged()
    .bootstrapped(),
    Route::new(POST, "/pd/api/v1/config/region-label/rule", "SetRegionLabelRule", later!(region_labels::set))
        .logged()
        .bootstrapped(),
    Route::new(PATCH, "/pd/api/v1/config/region-label/rules", "PatchRegionLabelRules", later!(region_labels::patch))
        .logged()
        .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/region/id/{id}/label/{key}",
        "GetRegionLabelByKey",
        now!(region_labels::of_region_by_key),
    )
    .bootstrapped(),
    Route::new(GET, "/pd/api/v1/region/id/{id}/labels", "GetRegionLabels", now!(region_labels::of_region))
        .bootstrapped(),
    // Stores.
    Route::new(GET, "/pd/api/v1/store/{id}", "GetStore", now!(stores::one)).bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/store/{id}", "DeleteStore", later!(stores::delete)).logged().bootstrapped(),
    Route::new(POST, "/pd/api/v1/store/{id}/state", "SetStoreState", later!(stores::set_state)).logged().bootstrapped(),
    Route::new(POST, "/pd/api/v1/store/{id}/label", "SetStoreLabel", later!(labels::set)).logged().bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/store/{id}/label", "DeleteStoreLabel", later!(labels::delete))
        .logged()
        .bootstrapped(),
    Route::new(POST, "/pd/api/v1/store/{id}/weight", "SetStoreWeight", later!(stores::set_weight))
        .logged()
        .bootstrapped(),
    Route::new(POST, "/pd/api/v1/store/{id}/limit", "SetStoreLimit", later!(store_limits::set)).logged().bootstrapped(),
    Route::new(GET, "/pd/api/v1/stores", "GetAllStores", now!(stores::all)).bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/stores/remove-tombstone", "RemoveTombStone", later!(stores::remove_tombstones))
        .logged()
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/stores/limit", "GetAllStoresLimit", now!(store_limits::get)).bootstrapped(),
    Route::new(POST, "/pd/api/v1/stores/limit", "SetAllStoresLimit", later!(store_limits::set_all))
        .logged()
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/stores/progress", "GetStoresProgress", now!(stores::progress)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/stores/check", "GetStoresByState", now!(stores::by_state)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/labels", "GetLabels", now!(labels::all)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/labels/stores", "GetStoresByLabel", now!(labels::stores)).bootstrapped(),
    // Regions.
    Route::new(GET, "/pd/api/v1/region/id/{id}", "GetRegionByID", now!(regions::by_id)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/region/key/{key}", "GetRegion", now!(regions::by_key)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions", "GetRegions", now!(region_lists::all)).logged().bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/key", "ScanRegions", now!(region_lists::by_key)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/count", "GetRegionCount", now!(region_lists::count)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/store/{id}", "GetStoreRegions", now!(region_lists::by_store)).bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/writeflow",
        "GetTopWriteFlowRegions",
        now!(|r| region_lists::top(r, |region| region.flow.bytes_written)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/writequery",
        "GetTopWriteQueryRegions",
        now!(|r| region_lists::top(r, |region| region.flow.write_query)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/readflow",
        "GetTopReadFlowRegions",
        now!(|r| region_lists::top(r, |region| region.flow.bytes_read)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/readquery",
        "GetTopReadQueryRegions",
        now!(|r| region_lists::top(r, |region| region.flow.read_query)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/confver",
        "GetTopConfVerRegions",
        now!(|r| region_lists::top(r, |region| region.epoch().conf_ver)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/version",
        "GetTopVersionRegions",
        now!(|r| region_lists::top(r, |region| region.epoch().version)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/size",
        "GetTopSizeRegions",
        now!(|r| region_lists::top(r, |region| region.size_mib)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/keys",
        "GetTopKeysRegions",
        now!(|r| region_lists::top(r, |region| region.keys)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/cpu",
        "GetTopCPURegions",
        now!(|r| region_lists::top(r, |region| region.flow.cpu_usage)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/miss-peer",
        "GetMissPeerRegions",
        now!(|r| region_checks::flagged(r, Flag::MissPeer)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/extra-peer",
        "GetExtraPeerRegions",
        now!(|r| region_checks::flagged(r, Flag::ExtraPeer)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/pending-peer",
        "GetPendingPeerRegions",
        now!(|r| region_checks::flagged(r, Flag::PendingPeer)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/down-peer",
        "GetDownPeerRegions",
        now!(|r| region_checks::flagged(r, Flag::DownPeer)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/learner-peer",
        "GetLearnerPeerRegions",
        now!(|r| region_checks::flagged(r, Flag::LearnerPeer)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/empty-region",
        "GetEmptyRegions",
        now!(|r| region_checks::flagged(r, Flag::Empty)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/offline-peer",
        "GetOfflinePeerRegions",
        now!(|r| region_checks::flagged(r, Flag::OfflinePeer)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/oversized-region",
        "GetOverSizedRegions",
        now!(|r| region_checks::flagged(r, Flag::Oversized)),
    )
    .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/regions/check/undersized-region",
        "GetUndersizedRegions",
        now!(|r| region_checks::flagged(r, Flag::Undersized)),
    )
    .bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/check/hist-size", "GetSizeHistogram", now!(region_checks::hist_size))
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/check/hist-keys", "GetKeysHistogram", now!(region_checks::hist_keys))
        .bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/sibling/{id}", "GetRegionSiblings", now!(regions::siblings)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/range-holes", "GetRangeHoles", now!(region_lists::range_holes)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/regions/replicated", "CheckRegionsReplicated", now!(region_checks::replicated))
        .bootstrapped(),
    Route::new(
        GET,
        "/pd/api/v1/hotspot/regions/read",
        "GetHotReadRegions",
        now!(|r| hotspot::regions(r, Traffic::Read)),
    ),
    Route::new(
        GET,
        "/pd/api/v1/hotspot/regions/write",
        "GetHotWriteRegions",
        now!(|r| hotspot::regions(r, Traffic::Write)),
    ),
    Route::new(GET, "/pd/api/v1/hotspot/regions/history", "GetHistoryHotRegions", now!(hot_history::find)),
    Route::new(GET, "/pd/api/v1/hotspot/stores", "GetHotStores", now!(hotspot::stores)),
    Route::new(GET, "/pd/api/v1/hotspot/buckets", "GetHotBuckets", now!(hot_buckets::list)),
    Route::new(GET, "/pd/api/v1/stats/region", "GetRegionStatus", now!(stats::region)).bootstrapped(),
    // Berth's own: explanations.
    Route::new(GET, "/berth/v1/drains", "BerthDrains", now!(berth::drains::all)).bootstrapped(),
    Route::new(GET, "/berth/v1/drains/{id}", "BerthDrain", now!(berth::drains::one)).bootstrapped(),
    Route::new(GET, "/berth/v1/drains/{id}/preview", "BerthDrainPreview", now!(berth::drains::preview)).bootstrapped(),
    Route::new(GET, "/berth/v1/regions/{id}/explain", "BerthRegionExplain", now!(berth::regions::explain))
        .bootstrapped(),
    Route::new(GET, "/berth/v1/operators", "BerthOperators", now!(berth::operators::list)).bootstrapped(),
    Route::new(GET, "/berth/v1/operators/{id}", "BerthOperator", now!(berth::operators::one)).bootstrapped(),
    // Members and this server.
    Route::new(GET, "/pd/api/v1/version", "GetVersion", now!(status::version)).local(),
    Route::new(GET, "/pd/api/v1/status", "GetPDStatus", now!(status::status)).local(),
    Route::new(GET, "/pd/api/v1/members", "GetMembers", now!(members::all)),
    Route::new(DELETE, "/pd/api/v1/members/name/{name}", "DeleteMemberByName", later!(members::delete_by_name))
        .logged(),
    Route::new(DELETE, "/pd/api/v1/members/id/{id}", "DeleteMemberByID", later!(members::delete_by_id)).logged(),
    Route::new(POST, "/pd/api/v1/members/name/{name}", "SetMemberPropertyByName", later!(members::set_priority))
        .logged(),
    Route::new(POST, "/pd/api/v1/leader/resign", "ResignLeader", later!(members::resign)).logged(),
    Route::new(POST, "/pd/api/v1/leader/transfer/{next_leader}", "TransferLeader", later!(members::transfer)).logged(),
    Route::new(GET, "/pd/api/v1/leader", "GetLeader", now!(members::leader)),
    Route::new(GET, "/pd/api/v1/health", "GetHealthStatus", later!(members::health)).local(),
    Route::new(GET, "/pd/api/v1/ping", "Ping", now!(status::ping)).local(),
    Route::new(POST, "/pd/api/v1/admin/log", "SetLogLevel", now!(config::set_log_level)).logged().local(),
    Route::new(DELETE, "/pd/api/v1/admin/cache/region/{id}", "DeleteRegionCache", now!(admin::forget_region))
        .logged()
        .bootstrapped(),
    Route::new(
        DELETE,
        "/pd/api/v1/admin/storage/region/{id}",
        "DeleteRegionStorage",
        now!(admin::forget_stored_region),
    )
    .logged()
    .bootstrapped(),
    Route::new(DELETE, "/pd/api/v1/admin/cache/regions", "DeleteAllRegionCache", now!(admin::forget_all_regions))
        .logged()
        .bootstrapped(),
    // Garbage collection and replication.
    Route::new(GET, "/pd/api/v1/gc/safepoint", "GetGCSafePoint", now!(gc::get)),
    Route::new(DELETE, "/pd/api/v1/gc/safepoint/{service_id}", "DeleteGCSafePoint", later!(gc::delete)).logged(),
    Route::new(GET, "/pd/api/v1/min-resolved-ts", "GetMinResolvedTS", now!(min_resolved_ts::cluster)).bootstrapped(),
    Route::new(GET, "/pd/api/v1/min-resolved-ts/{store_id}", "GetStoreMinResolvedTS", now!(min_resolved_ts::store))
        .bootstrapped(),
    // Berth's own.
    Route::new(POST, "/berth/v1/members", "BerthJoin", later!(berth::members::join)).logged(),
    Route::bare("/berth/v1/group", now!(berth::members::group)),
    Route::new(GET, "/berth/v1/backup", "BerthBackup", now!(berth::backup::download)).logged(),
    Route::bare("/berth/v1/ready", now!(berth::ready::ready)),
    Route::berth("/berth/v1/rules/unmet", now!(rules_unmet::list)),
    Route::berth("/berth/v1/region-labels", now!(label_owners::list)),
    // Without label, audit or rate limit.
    Route::bare("/pd/health", later!(members::health)),
    Route::bare("/pd/ping", now!(status::ping)),
    Route::bare("/pd/api/v2/ready", now!(v2::ready)),
    Route::bare("/pd/api/v2/livez", now!(v2::livez)),
    Route::bare("/pd/api/v2/livez/{check}", now!(v2::livez)),
    Route::bare("/pd/api/v2/readyz", now!(v2::readyz)),
    Route::bare("/pd/api/v2/readyz/{check}", now!(v2::readyz)),
    Route::bare("/metrics", now!(status::metrics)),
    Route::bare("/health", now!(status::etcd_health)),
    Route::bare("/dashboard/{*path}", now!(status::dashboard)),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::collections::HashMap;

    use super::*;
    use crate::model::testing::shared_file;

    #[test]
    fn every_route_is_one_of_pd_with_its_label_and_audit() {
        let Some(text) = shared_file("compat/rest-routes.tsv") else { return };
        let mut recorded = HashMap::new();
        for line in text.lines().filter(|l| !l.starts_with('#')).skip(1) {
            let cells: Vec<&str> = line.split('\t').collect();
            if let [methods, path, _, _, _, _, label, audit, needs, ..] = cells[..] {
                for method in methods.split(',') {
                    recorded.insert((method.to_owned(), path.to_owned()), (label, audit, needs));
                }
            }
        }
        for route in TABLE.iter().filter(|r| r.path.starts_with("/pd/api/v1/")) {
            let method = route.methods.0.unwrap_or("ANY").to_owned();
            let (label, audit, needs) = recorded[&(method, route.path.trim_end_matches("/{*rest}").to_owned())];
            assert_eq!(route.label, label, "{}", route.path);
            assert_eq!(route.audit == Audit::LogAndMetrics, audit.contains("local-log"), "{}", route.path);
            // PD panics where the handlers of operators meet no cluster.
            let operators = route.path.starts_with("/pd/api/v1/operators");
            assert_eq!(route.bootstrapped, operators || needs.starts_with("bootstrapped"), "{}", route.path);
        }
    }
    #[test]
    fn what_followers_may_answer_are_reads_that_others_would_pass_on() {
        for path in crate::api::forward::AGREED {
            let row = TABLE.iter().find(|r| r.path == path && r.methods == GET);
            assert!(row.is_some_and(|r| !r.local), "{path}");
        }
    }
}
