//! The log lines of the ways in: one function a message, PD's words and field order (`telemetry::names`).
//!
//! Must not know: when a line is due. Messages print as protobuf compact text, as PD prints them.

use std::fmt::Display;

use super::{compact_text::compact, convert};
use crate::{
    model::{ClusterId, StoreId, StoreRecord, StoreState},
    pdlog, pdsay,
    proto::{metapb, pdpb},
    telemetry::log::{Logger, UserData},
};

/// Bootstrap was asked for.
pub(crate) fn try_to_bootstrap(log: &Logger, cluster: ClusterId, request: &pdpb::BootstrapRequest) {
    pdsay!(log, TRY_TO_BOOTSTRAP_RAFT_CLUSTER, cluster.0, compact("pdpb.BootstrapRequest", request));
}

/// The cluster is made.
pub(crate) fn bootstrap_ok(log: &Logger, cluster: ClusterId) {
    pdsay!(log, BOOTSTRAP_CLUSTER_OK, cluster.0);
}

/// It was made before.
pub(crate) fn already_bootstrapped(log: &Logger, cluster: ClusterId) {
    pdsay!(log, CLUSTER_ALREADY_BOOTSTRAPPED, cluster.0);
}

/// `PutClusterConfig` took.
pub(crate) fn cluster_config_ok(log: &Logger, cluster: &metapb::Cluster) {
    let config = format!("{{\"id\":{},\"max_peer_count\":{}}}", cluster.id, cluster.max_peer_count);
    pdlog!(log, Info, "put cluster config ok", "config" => config);
}

/// A store registered or restarted.
pub(crate) fn put_store_ok(log: &Logger, store: &metapb::Store) {
    pdsay!(log, PUT_STORE_OK, convert::store_text(store));
}

/// A live store id registers from a new address.
pub(crate) fn address_changed(log: &Logger, old: &StoreRecord, new: &StoreRecord) {
    pdlog!(
        log, Warn, "store address has been changed",
        "store-id" => new.id, "old-address" => &old.address, "new-address" => &new.address,
    );
}

/// A label that locations need is missing.
pub(crate) fn label_incorrect(log: &Logger, store: &str, key: &str) {
    pdlog!(log, Warn, "label configuration is incorrect", "store" => store, "label-key" => key);
}

/// A label that no location uses.
pub(crate) fn label_unknown(log: &Logger, store: &str, key: &str) {
    pdlog!(log, Warn, "not found the key match with the store label", "store" => store, "label-key" => key);
}

/// A new store got its limits.
pub(crate) fn limit_added(log: &Logger, id: StoreId) {
    pdsay!(log, STORE_LIMIT_ADDED, id);
}

/// A buried store lost them.
pub(crate) fn limit_removed(log: &Logger, id: StoreId) {
    pdsay!(log, STORE_LIMIT_REMOVED, id);
}

/// One limit of a store was set.
pub(crate) fn limit_changed(log: &Logger, id: StoreId, kind: &str, rate: f64) {
    pdsay!(log, STORE_LIMIT_CHANGED, id, kind, rate);
}

/// A store is being taken out.
pub(crate) fn store_offline(log: &Logger, store: &StoreRecord, regions: u64) {
    pdsay!(log, STORE_HAS_BEEN_OFFLINE, store.id, regions, &store.address, store.physically_destroyed);
}

/// A removal was taken back.
pub(crate) fn store_up(log: &Logger, store: &StoreRecord) {
    pdsay!(log, STORE_HAS_BEEN_UP, store.id, &store.address);
}

/// A store was buried; `before` is the state it was in.
pub(crate) fn store_tombstone(log: &Logger, store: &StoreRecord, before: StoreState) {
    pdsay!(log, STORE_HAS_BEEN_TOMBSTONE, store.id, &store.address, before.name(), store.physically_destroyed);
}

/// Preparing ended.
pub(crate) fn store_serving(log: &Logger, store: &StoreRecord) {
    pdsay!(log, STORE_HAS_CHANGED_TO_SERVING, store.id, &store.address);
}

/// A store's disk is nearly full.
pub(crate) fn low_space(log: &Logger, id: StoreId, capacity: u64, available: u64) {
    pdsay!(log, STORE_DOES_NOT_HAVE_ENOUGH_DISK_SPACE, id, capacity, available);
}

/// A Tombstone store still has regions.
pub(crate) fn skip_tombstone(log: &Logger, store: &str) {
    pdsay!(log, SKIP_REMOVING_TOMBSTONE, store);
}

/// The record of a Tombstone store was removed.
pub(crate) fn store_deleted(log: &Logger, store: &str) {
    pdsay!(log, DELETE_STORE_SUCCEEDED, store);
}

/// It could not be.
pub(crate) fn delete_failed(log: &Logger, store: &str, error: &dyn Display) {
    pdlog!(log, Error, "delete store failed", "store" => store, "error" => error.to_string());
}

/// `[a b]`
fn args_text(args: &[String]) -> String {
    format!("[{}]", args.join(" "))
}

/// A scheduler was added and kept.
pub(crate) fn scheduler_added(log: &Logger, name: &str, args: &[String]) {
    let args = args_text(args);
    pdsay!(log, CREATE_SCHEDULER, name, &args);
    pdsay!(log, ADD_SCHEDULER, name, &args);
    pdsay!(log, PERSIST_SCHEDULER, name, &args);
}

/// It could not be.
pub(crate) fn scheduler_not_added(log: &Logger, name: &str, args: &[String], error: &dyn Display) {
    pdsay!(log, CAN_NOT_ADD_SCHEDULER, name, args_text(args), error.to_string());
}

/// A scheduler was removed.
pub(crate) fn scheduler_removed(log: &Logger, name: &str) {
    pdsay!(log, REMOVE_SCHEDULER, name);
}

/// It could not be.
pub(crate) fn scheduler_not_removed(log: &Logger, name: &str, error: &dyn Display) {
    pdsay!(log, CAN_NOT_REMOVE_SCHEDULER, name, error.to_string());
}

/// A scheduler was paused, or (0 seconds) let go on.
pub(crate) fn scheduler_paused(log: &Logger, name: &str, seconds: i64) {
    if seconds > 0 {
        pdsay!(log, PAUSE_SCHEDULER, name, seconds);
    } else {
        pdsay!(log, RESUME_SCHEDULER, name);
    }
}

/// It could not be.
pub(crate) fn scheduler_not_paused(log: &Logger, name: &str, error: &dyn Display) {
    pdsay!(log, CAN_NOT_PAUSE_SCHEDULER, name, error.to_string());
}

/// evict-leader or grant-leader got one store more.
pub(crate) fn scheduler_store_added(log: &Logger, name: &str, store: StoreId) {
    pdsay!(log, UPDATE_SCHEDULER, name, store);
}

/// A scheduler has another configuration.
pub(crate) fn scheduler_updated(log: &Logger, name: &str, old: &str, new: &str) {
    let message = format!("{name} config is updated");
    pdlog!(log, Info, &message, "old" => old, "new" => new);
}

/// Ids for one new region of a split.
pub(crate) fn split_ids(log: &Logger, region: u64, peers: &[u64]) {
    let peers = peers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    pdsay!(log, ALLOC_IDS_FOR_REGION_SPLIT, region, format!("[{peers}]"));
}

/// A split was made; `origin` keeps the right half.
pub(crate) fn region_split(log: &Logger, origin: u64, left: &metapb::Region) {
    pdsay!(log, REGION_SPLIT, origin, UserData(convert::hex_region_text(left)));
}

/// Splits were made; `origin` keeps the last part.
pub(crate) fn region_batch_split(log: &Logger, origin: u64, new: &[metapb::Region]) {
    pdsay!(log, REGION_BATCH_SPLIT, origin, UserData(convert::hex_regions_text(new)), new.len());
}

/// A heartbeat of a region without peers.
pub(crate) fn no_peers(log: &Logger, region: &metapb::Region) {
    pdlog!(log, Warn, "invalid region, zero region peer count", "region-meta" => UserData(convert::hex_region_text(region)));
}

/// `UpdateGCSafePoint` was called.
pub(crate) fn old_gc_call(log: &Logger, safe_point: u64) {
    pdlog!(log, Warn, "deprecated API UpdateGCSafePoint is called", "req-safe-point" => safe_point);
}

/// The GC safe point moved.
pub(crate) fn gc_moved(log: &Logger, safe_point: u64) {
    pdsay!(log, UPDATED_GC_SAFE_POINT, safe_point);
}

/// The GC safe point would have gone back.
pub(crate) fn gc_not_moved(log: &Logger, old: u64, new: u64) {
    pdlog!(log, Warn, "trying to update gc safe point", "old-safe-point" => old, "new-safe-point" => new);
}

/// `UpdateServiceGCSafePoint` was called.
pub(crate) fn old_service_gc_call(log: &Logger, service: &str, ttl: i64, safe_point: u64) {
    pdlog!(
        log, Warn, "deprecated API UpdateServiceGCSafePoint is called",
        "req-service-id" => service, "req-ttl" => ttl, "req-safe-point" => safe_point,
    );
}

/// A service safe point was set.
pub(crate) fn service_gc(log: &Logger, service: &str, expires: i64, safe_point: u64) {
    pdsay!(log, UPDATE_SERVICE_GC_SAFE_POINT, service, expires, safe_point);
}
