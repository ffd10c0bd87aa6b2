//! Metrics, with PD's names, labels and buckets; what PD does not have starts with `berth_`.
//!
//! Owns: the families, in groups that are made and registered together, and the text of `/metrics`. Must not know: who counts.
//! Label values that PD fixes are the enums of [`values`]; free ones (store, address, operator description) are texts.

pub mod process;
pub mod values;

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

/// Why metrics could not be made, registered or shown.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Content type of the text exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `/metrics` answers.
pub fn exposition(registry: &Registry) -> Result<String, MetricsError> {
    Ok(TextEncoder::new().encode_to_string(&registry.gather())?)
}

/// The bounds of a histogram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Buckets {
    /// The Prometheus library's own.
    Default,
    /// From `start`, each `factor` times the one before.
    Exponential {
        /// First bound.
        start: f64,
        /// Ratio of two bounds.
        factor: f64,
        /// How many.
        count: usize,
    },
    /// As given.
    List(&'static [f64]),
    /// Not a histogram.
    None,
}

impl Buckets {
    /// The bounds, lowest first.
    pub fn bounds(self) -> Vec<f64> {
        match self {
            Buckets::Default => prometheus::DEFAULT_BUCKETS.to_vec(),
            Buckets::Exponential { start, factor, count } => {
                std::iter::successors(Some(start), |bound| Some(bound * factor)).take(count).collect()
            }
            Buckets::List(list) => list.to_vec(),
            Buckets::None => Vec::new(),
        }
    }
}

/// One family, as the test compares it with what was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
    /// Bounds of a histogram.
    pub buckets: Buckets,
}

/// A kind of metric that a group can hold.
trait Kind: Collector + Clone + Sized + 'static {
    const WORD: &'static str;

    fn make(family: &Family, help: &str) -> Result<Self, prometheus::Error>;

    /// Forgets what it shows, if that is a state and not a count.
    fn forget(&self);
}

macro_rules! kinds {
    ($($ty:ty = $word:literal, |$family:ident, $help:ident| $make:expr $(, |$it:ident| $forget:expr)?;)*) => {
        $(impl Kind for $ty {
            const WORD: &'static str = $word;

            fn make($family: &Family, $help: &str) -> Result<Self, prometheus::Error> {
                $make
            }

            fn forget(&self) {
                $(let $it = self;
                $forget;)?
            }
        })*
    };
}

/// Options of a family that is no histogram.
fn opts(family: &Family, help: &str) -> Opts {
    Opts::new(family.name, help)
}

/// Options of a histogram.
fn histogram(family: &Family, help: &str) -> HistogramOpts {
    HistogramOpts::new(family.name, help).buckets(family.buckets.bounds())
}

kinds! {
    Counter = "counter", |f, help| Counter::with_opts(opts(f, help));
    IntCounter = "counter", |f, help| IntCounter::with_opts(opts(f, help));
    CounterVec = "counter", |f, help| CounterVec::new(opts(f, help), f.labels);
    IntCounterVec = "counter", |f, help| IntCounterVec::new(opts(f, help), f.labels);
    Gauge = "gauge", |f, help| Gauge::with_opts(opts(f, help)), |g| g.set(0.0);
    IntGauge = "gauge", |f, help| IntGauge::with_opts(opts(f, help)), |g| g.set(0);
    GaugeVec = "gauge", |f, help| GaugeVec::new(opts(f, help), f.labels), |g| g.reset();
    IntGaugeVec = "gauge", |f, help| IntGaugeVec::new(opts(f, help), f.labels), |g| g.reset();
    Histogram = "histogram", |f, help| Histogram::with_opts(histogram(f, help));
    HistogramVec = "histogram", |f, help| HistogramVec::new(histogram(f, help), f.labels);
}

macro_rules! group {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $( $(#[doc = $help:literal])+ $field:ident : $ty:ty = $family:literal [$($label:literal)*] $(, $buckets:expr)?; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: $ty, )*
        }

        impl $name {
            /// What the group exports.
            pub const FAMILIES: &'static [Family] = &[$(Family {
                name: $family,
                kind: <$ty as Kind>::WORD,
                labels: &[$($label),*],
                buckets: group!(@buckets $($buckets)?),
            }),*];

            /// Makes the metrics.
            pub fn new() -> Result<Self, MetricsError> {
                let mut families = Self::FAMILIES.iter();
                let mut next = || families.next().ok_or_else(|| prometheus::Error::Msg("no family left".to_owned()));
                Ok(Self { $( $field: <$ty as Kind>::make(next()?, concat!($($help),+).trim())?, )* })
            }

            /// Puts the metrics where `/metrics` finds them.
            pub fn register(&self, registry: &Registry) -> Result<(), MetricsError> {
                $( registry.register(Box::new(self.$field.clone()))?; )*
                Ok(())
            }

            /// Forgets what the gauges show; counts stay.
            pub fn forget(&self) {
                $( self.$field.forget(); )*
            }
        }
    };
    (@buckets) => { Buckets::None };
    (@buckets $buckets:expr) => { $buckets };
}

/// Seconds that operators and their steps take.
const OPERATOR_SECONDS: Buckets = Buckets::List(&[
    0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 40.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 480.0, 600.0, 720.0, 900.0,
    1200.0, 1800.0, 3600.0,
]);
/// Seconds that heartbeats take.
const HEARTBEAT_SECONDS: Buckets = Buckets::Exponential { start: 0.0001, factor: 2.0, count: 29 };
/// Seconds that short requests take.
const REQUEST_SECONDS: Buckets = Buckets::Exponential { start: 0.0005, factor: 2.0, count: 13 };

group! {
    /// Stores and the cluster as a whole.
    pub struct StoreMetrics {
        /// Status of the cluster.
        cluster_status: GaugeVec = "pd_cluster_status" ["type" "engine" "store"];
        /// Store status for schedule.
        store_status: GaugeVec = "pd_scheduler_store_status" ["address" "store" "type"];
        /// Status of the store limit.
        store_limit: GaugeVec = "pd_cluster_store_limit" ["store" "type"];
        /// Status of the cluster placement.
        placement_status: GaugeVec = "pd_cluster_placement_status" ["type" "name" "store"];
        /// Metadata of the cluster.
        metadata: GaugeVec = "pd_cluster_metadata" ["type"];
        /// Bucketed time of a store heartbeat.
        heartbeat_seconds: HistogramVec = "pd_scheduler_handle_store_heartbeat_duration_seconds" ["address" "store"],
            HEARTBEAT_SECONDS;
        /// Status of the scheduling allowance.
        allowance: GaugeVec = "pd_scheduling_allowance_status" ["kind"];
    }
}

group! {
    /// Regions.
    pub struct RegionMetrics {
        /// Status of the regions.
        status: GaugeVec = "pd_regions_status" ["type"];
        /// Number of regions in the different label level.
        label_level: GaugeVec = "pd_regions_label_level" ["type"];
        /// Counter of the region event.
        event: IntCounterVec = "pd_cluster_region_event" ["event"];
        /// Look-ups of regions by kind.
        query: IntCounterVec = "pd_core_query_region_count" ["type"];
        /// Counter of reports of buckets.
        bucket_report: IntCounterVec = "pd_server_bucket_report" ["address" "store" "type" "status"];
        /// Counter of bucket events.
        bucket_event: IntCounterVec = "pd_cluster_bucket_event" ["event"];
    }
}

group! {
    /// Operators: what became of them and how long they took.
    pub struct OperatorMetrics {
        /// Counter of schedule operators.
        count: IntCounterVec = "pd_schedule_operators_count" ["type" "event"];
        /// Counter of operators meeting limit.
        limit: IntCounterVec = "pd_schedule_operator_limit" ["type" "name"];
        /// Counter of operators exceeding the store limit.
        exceeded_store_limit: IntCounterVec = "pd_schedule_operator_exceeded_store_limit" ["desc"];
        /// Bucketed time of finished operators.
        seconds: HistogramVec = "pd_schedule_finish_operators_duration_seconds" ["type"], OPERATOR_SECONDS;
        /// Bucketed time of finished operator steps.
        step_seconds: HistogramVec = "pd_schedule_finish_operator_steps_duration_seconds" ["type"], OPERATOR_SECONDS;
        /// Bucketed size of the regions of operators.
        region_size: HistogramVec = "pd_schedule_operator_region_size" ["type"],
            Buckets::Exponential { start: 1.0, factor: 2.0, count: 20 };
        /// Counter of operators kept back by a region label.
        label_denied: IntCounterVec = "pd_schedule_labeler_event_counter" ["type" "event"];
    }
}

group! {
    /// Schedulers.
    pub struct SchedulerMetrics {
        /// Counter of scheduler events.
        event: IntCounterVec = "pd_scheduler_event_count" ["type" "name"];
        /// Status of the schedulers: whether each may run.
        status: GaugeVec = "pd_scheduler_status" ["kind" "type"];
        /// Counter of direction of balance related schedulers.
        direction: IntCounterVec = "pd_scheduler_balance_direction" ["type" "store" "direction"];
        /// Number and traffic of hot peers by store.
        hotspot: GaugeVec = "pd_hotspot_status" ["address" "store" "type"];
        /// What peers must have to be hot, and how many are known, by store.
        hotcache: GaugeVec = "pd_hotcache_status" ["name" "store" "type"];
        /// 1 for a store that loses its leaders for being slow.
        evicted_slow: GaugeVec = "pd_scheduler_evicted_slow_store_status" ["store" "slow_type"];
        /// 1 for a store that loses its leaders for stopping.
        evicted_stopping: GaugeVec = "pd_scheduler_evicted_stopping_store_status" ["store"];
    }
}

group! {
    /// Patrol, checkers and filters.
    pub struct PatrolMetrics {
        /// Time spent of patrol checks region.
        round_seconds: Gauge = "pd_checker_patrol_regions_time" [];
        /// Counter of checker events.
        event: IntCounterVec = "pd_checker_event_count" ["type" "name"];
        /// Counter of stores refused as source.
        source_filter: IntCounterVec = "pd_schedule_source_filter" ["scope" "type" "source"];
        /// Counter of stores refused as target.
        target_filter: IntCounterVec = "pd_schedule_target_filter" ["scope" "type" "target"];
        /// Placement rules that cannot be met by the stores there are.
        unmet_rules: Gauge = "berth_unmet_rules" [];
        /// Seconds since when the oldest region label rule that holds scheduling (schedule=deny) was set; 0 when none does.
        deny_age: Gauge = "berth_region_label_deny_age_seconds" [];
        /// Regions on stores that are being emptied, by what they wait for.
        blocked: GaugeVec = "berth_drain_blocked_regions" ["store" "reason"];
        /// Regions left on stores that are being emptied.
        drain_regions: GaugeVec = "berth_drain_regions_left" ["store"];
        /// Bytes left on stores that are being emptied.
        drain_bytes: GaugeVec = "berth_drain_bytes_left" ["store"];
        /// Seconds since when the oldest region waits, by what it waits for.
        drain_oldest: GaugeVec = "berth_drain_oldest_blocked_seconds" ["store" "reason"];
        /// 1 for the limit that the speed of a drain depends on now.
        drain_binding: GaugeVec = "berth_drain_binding_limit" ["store" "limit"];
    }
}

group! {
    /// Heartbeats and the streams they come on.
    pub struct HeartbeatMetrics {
        /// Counter of region heartbeats.
        region: IntCounterVec = "pd_scheduler_region_heartbeat" ["address" "store" "type" "status"];
        /// Bucketed time of a region heartbeat.
        region_seconds: HistogramVec = "pd_scheduler_handle_region_heartbeat_duration_seconds" ["address" "store"],
            HEARTBEAT_SECONDS;
        /// Bucketed age of a region heartbeat when it arrives.
        region_age_seconds: HistogramVec = "pd_scheduler_region_heartbeat_latency_seconds" ["address" "store"],
            REQUEST_SECONDS;
        /// Counter of messages on heartbeat streams.
        stream_message: IntCounterVec = "pd_hbstream_region_message" ["address" "store" "type" "status"];
    }
}

group! {
    /// Stores that are being filled or emptied.
    pub struct ProgressMetrics {
        /// Progress of the cluster.
        progress: GaugeVec = "pd_cluster_progress" ["address" "store" "action"];
        /// Speed of the cluster progress.
        speed: GaugeVec = "pd_cluster_speed" ["address" "store" "action"];
        /// Seconds that are left.
        eta: GaugeVec = "pd_cluster_eta" ["address" "store" "action"];
    }
}

group! {
    /// Timestamps.
    pub struct TsoMetrics {
        /// Counter of timestamp events.
        events: IntCounterVec = "pd_tso_events" ["type" "group"];
        /// Whether this member hands out timestamps.
        role: GaugeVec = "pd_tso_role" ["group"];
        /// Physical part of the last timestamp, milliseconds.
        physical: GaugeVec = "pd_cluster_tso" ["type" "group"];
        /// Bucketed time of a timestamp request.
        request_seconds: Histogram = "pd_server_handle_tso_duration_seconds" [], REQUEST_SECONDS;
        /// Bucketed number of timestamps of a request.
        batch_size: Histogram = "pd_server_handle_tso_batch_size" [],
            Buckets::Exponential { start: 1.0, factor: 2.0, count: 13 };
    }
}

group! {
    /// Requests.
    pub struct RequestMetrics {
        /// Counter of RPCs completed, by code.
        grpc_handled: IntCounterVec = "grpc_server_handled_total" ["grpc_code" "grpc_method" "grpc_service" "grpc_type"];
        /// Bucketed time of RPCs.
        grpc_seconds: HistogramVec = "grpc_server_handling_seconds" ["grpc_method" "grpc_service" "grpc_type"],
            Buckets::Default;
        /// Counter of messages received.
        grpc_received: IntCounterVec = "grpc_server_msg_received_total" ["grpc_method" "grpc_service" "grpc_type"];
        /// Counter of messages sent.
        grpc_sent: IntCounterVec = "grpc_server_msg_sent_total" ["grpc_method" "grpc_service" "grpc_type"];
        /// Counter of RPCs started.
        grpc_started: IntCounterVec = "grpc_server_started_total" ["grpc_method" "grpc_service" "grpc_type"];
        /// Requests that run now.
        concurrency: GaugeVec = "pd_server_api_concurrency" ["kind" "api"];
        /// Bucketed time of QueryRegion.
        query_region_seconds: Histogram = "pd_server_query_region_duration_seconds" [], REQUEST_SECONDS;
        /// Bucketed time of audited requests.
        audit_seconds: HistogramVec = "pd_service_audit_handling_seconds" ["service" "method"], Buckets::Default;
        /// Counter of audited requests.
        audit: IntCounterVec = "pd_service_audit_requests_total" ["service" "method" "caller_component"];
    }
}

group! {
    /// The server and what it runs with.
    pub struct ServerMetrics {
        /// Indicate the server info; the value is the start time, Unix seconds.
        info: GaugeVec = "pd_server_info" ["version" "hash"];
        /// Upper end of the allocated ids.
        id_alloc: GaugeVec = "pd_cluster_id" ["type"];
        /// Status of the scheduling configurations.
        config: GaugeVec = "pd_config_status" ["type"];
        /// Term, committed and applied index of the log of agreed changes.
        log_state: GaugeVec = "pd_server_etcd_state" ["type"];
        /// Whether this member leads.
        role: GaugeVec = "service_member_role" ["service"];
        /// Whether this member leads, under the name that PD's alerts join with.
        is_leader: IntGauge = "etcd_server_is_leader" [];
        /// Placement rules and their groups.
        rules: GaugeVec = "pd_rule_manager_status" ["type"];
        /// Region label rules and their ranges.
        label_rules: GaugeVec = "pd_region_label_status" ["type"];
        /// GC safe point.
        gc: GaugeVec = "pd_gc_gc_safepoint" ["type"];
        /// Health of the members.
        health: GaugeVec = "pd_cluster_health_status" ["name"];
        /// Processors the process may use.
        max_procs: Gauge = "pd_service_maxprocs" [];
        /// Memory the process sees, bytes.
        memory_quota: Gauge = "pd_service_memory_quota_bytes" [];
        /// Counter of backward jumps of the system time.
        time_jump_back: IntCounter = "pd_monitor_time_jump_back_total" [];
        /// Log lines that could not be written.
        log_lines_lost: IntGauge = "berth_log_lines_lost" [];
        /// State hashes compared with those of other members; any that differ mean that members hold different states.
        state_hashes: IntGaugeVec = "berth_group_state_hashes" ["result"];
        /// Messages of other members that were not taken.
        messages_lost: IntGaugeVec = "berth_group_messages_lost" ["reason"];
        /// Seconds since a follower's copy of regions and stores was whole; -1 while it never was, and on the leader.
        warm_age: Gauge = "berth_warm_age_seconds" [];
        /// Changes that a follower's copy was behind the leader when it was last told something.
        warm_lag: IntGauge = "berth_warm_lag_changes" [];
        /// Full copies that this member has begun as a leader and ended as a follower.
        warm_full: IntGaugeVec = "berth_warm_full_copies" ["side"];
        /// Members that follow this leader's regions and stores.
        warm_followers: IntGauge = "berth_warm_followers" [];
    }
}

group! {
    /// The process, as the system sees it; see [`process`].
    pub struct ProcessMetrics {
        /// Total user and system CPU time spent in seconds.
        cpu_seconds: Counter = "process_cpu_seconds_total" [];
        /// Resident memory size in bytes.
        resident_bytes: Gauge = "process_resident_memory_bytes" [];
        /// Virtual memory size in bytes.
        virtual_bytes: Gauge = "process_virtual_memory_bytes" [];
        /// Start time of the process since unix epoch in seconds.
        start_seconds: Gauge = "process_start_time_seconds" [];
        /// Number of open file descriptors.
        open_fds: Gauge = "process_open_fds" [];
        /// Maximum number of open file descriptors.
        max_fds: Gauge = "process_max_fds" [];
    }
}

/// All groups that somebody counts; [`process`] reads its own.
#[derive(Clone)]
pub struct Metrics {
    /// Stores and the cluster.
    pub stores: StoreMetrics,
    /// Regions.
    pub regions: RegionMetrics,
    /// Operators.
    pub operators: OperatorMetrics,
    /// Patrol, checkers and filters.
    pub patrol: PatrolMetrics,
    /// Schedulers.
    pub schedulers: SchedulerMetrics,
    /// Heartbeats.
    pub heartbeats: HeartbeatMetrics,
    /// Progress.
    pub progress: ProgressMetrics,
    /// Timestamps.
    pub tso: TsoMetrics,
    /// Requests.
    pub requests: RequestMetrics,
    /// The server.
    pub server: ServerMetrics,
}

impl Metrics {
    /// Forgets what only a leader sees: a member that does not lead any more must not go on showing it beside the new leader.
    pub fn forget_cluster(&self) {
        self.stores.forget();
        self.regions.forget();
        self.patrol.forget();
        self.schedulers.forget();
        self.progress.forget();
    }
}

/// A request that runs now; it has ended when this is dropped.
#[derive(Debug)]
pub struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RequestMetrics {
    /// Counts a request as running.
    pub fn running(&self, kind: values::ApiKind, api: &str) -> Running {
        let gauge = self.concurrency.with_label_values(&[kind.as_str(), api]);
        gauge.inc();
        Running(gauge)
    }
}

impl Metrics {
    /// Makes all groups and registers them.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let all = Self {
            stores: StoreMetrics::new()?,
            regions: RegionMetrics::new()?,
            operators: OperatorMetrics::new()?,
            patrol: PatrolMetrics::new()?,
            schedulers: SchedulerMetrics::new()?,
            heartbeats: HeartbeatMetrics::new()?,
            progress: ProgressMetrics::new()?,
            tso: TsoMetrics::new()?,
            requests: RequestMetrics::new()?,
            server: ServerMetrics::new()?,
        };
        all.stores.register(registry)?;
        all.regions.register(registry)?;
        all.operators.register(registry)?;
        all.patrol.register(registry)?;
        all.schedulers.register(registry)?;
        all.heartbeats.register(registry)?;
        all.progress.register(registry)?;
        all.tso.register(registry)?;
        all.requests.register(registry)?;
        all.server.register(registry)?;
        Ok(all)
    }

    /// Every family of every group.
    pub fn families() -> impl Iterator<Item = &'static Family> {
        [
            StoreMetrics::FAMILIES,
            RegionMetrics::FAMILIES,
            OperatorMetrics::FAMILIES,
            PatrolMetrics::FAMILIES,
            SchedulerMetrics::FAMILIES,
            HeartbeatMetrics::FAMILIES,
            ProgressMetrics::FAMILIES,
            TsoMetrics::FAMILIES,
            RequestMetrics::FAMILIES,
            ServerMetrics::FAMILIES,
            ProcessMetrics::FAMILIES,
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests;
