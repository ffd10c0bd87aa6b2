//! Stores: registration, look-ups, heartbeats.

use crate::{
    api::{ApiError, App, compact_text::compact, convert, lines},
    model::{StoreId, StoreState},
    proto::pdpb,
    store::StoreInfo,
};

/// A cluster this small counts no store as low on space while it has [`ROOMY`] left: the first regions would find no place.
const FEW_REGIONS: u64 = 100;
/// See [`FEW_REGIONS`]; bytes.
const ROOMY: u64 = 8 << 30;
/// Label that tells what a store runs.
const ENGINE: &str = "engine";
/// What a store may run; none told is TiKV.
const ENGINES: [&str; 4] = ["", "tikv", "tiflash", "tiflash_compute"];

/// `GetStore`.
pub(super) async fn get(app: &App, request: pdpb::GetStoreRequest) -> Result<pdpb::GetStoreResponse, ApiError> {
    app.require_bootstrapped()?;
    let id = request.store_id;
    let info = app.cluster.stores().get(StoreId(id));
    let info = info.ok_or_else(|| ApiError::Invalid(format!("invalid store ID {id}, not found")))?;
    Ok(pdpb::GetStoreResponse {
        store: Some(convert::store_to_wire(&info)),
        stats: Some(convert::store_stats_to_wire(&info)),
        ..Default::default()
    })
}

/// `GetAllStores`.
pub(super) async fn all(app: &App, request: pdpb::GetAllStoresRequest) -> Result<pdpb::GetAllStoresResponse, ApiError> {
    app.require_bootstrapped()?;
    let wanted =
        |s: &&std::sync::Arc<StoreInfo>| !request.exclude_tombstone_stores || s.record.state != StoreState::Tombstone;
    let stores = app.cluster.stores().snapshot();
    let stores = stores.values().filter(wanted).map(|s| convert::store_to_wire(s)).collect();
    Ok(pdpb::GetAllStoresResponse { stores, ..Default::default() })
}

/// `PutStore`.
pub(super) async fn put(app: &App, request: pdpb::PutStoreRequest) -> Result<pdpb::PutStoreResponse, ApiError> {
    app.require_bootstrapped()?;
    let Some(store) = request.store else { return Err(ApiError::Invalid("invalid put store <nil>".into())) };
    refuse_tombstone(app, StoreId(store.id))?;
    let record = convert::store_record(&store);
    let engine = record.label(ENGINE).to_ascii_lowercase();
    if !ENGINES.contains(&engine.as_str()) {
        let text = format!(
            "invalid store engine label value: {:?}, valid values are \"tikv\", \"tiflash\", \"tiflash_compute\" or empty",
            record.label(ENGINE)
        );
        return Err(ApiError::Coded(pdpb::ErrorType::InvalidValue, text));
    }
    if record.is_tiflash() && !app.dynamic.load().replication.enable_placement_rules {
        return Err(ApiError::Invalid("placement rules is disabled".into()));
    }
    app.put_store(record).await?;
    lines::put_store_ok(&app.log, &store);
    Ok(pdpb::PutStoreResponse { replication_status: Some(app.replication_status()), ..Default::default() })
}

/// S1: a buried store has no say any more.
fn refuse_tombstone(app: &App, id: StoreId) -> Result<(), ApiError> {
    match app.cluster.stores().get(id) {
        Some(info) if info.record.state == StoreState::Tombstone => {
            Err(crate::meta::Refusal::StoreTombstone(id).into())
        }
        _ => Ok(()),
    }
}

/// `StoreHeartbeat`.
pub(super) async fn heartbeat(
    app: &App,
    request: pdpb::StoreHeartbeatRequest,
) -> Result<pdpb::StoreHeartbeatResponse, ApiError> {
    let Some(stats) = &request.stats else {
        let text = compact("pdpb.StoreHeartbeatRequest", &request);
        return Err(ApiError::Bare(format!("invalid store heartbeat command, but {text}")));
    };
    app.require_bootstrapped()?;
    let id = StoreId(stats.store_id);
    refuse_tombstone(app, id)?;
    let now = app.now();
    let info = app.cluster.store_heartbeat(id, convert::store_stats(stats), now);
    let info = info.ok_or_else(|| ApiError::Invalid(format!("store {id} not found")))?;
    if is_low_on_space(app, &info) {
        lines::low_space(&app.log, id, info.stats.capacity, info.stats.available);
    }
    let labels = [info.record.address.as_str(), &id.to_string()];
    let seconds = app.metrics.stores.heartbeat_seconds.with_label_values(&labels);
    seconds.observe(app.now().mono.since(now.mono).as_secs_f64());
    Ok(pdpb::StoreHeartbeatResponse {
        replication_status: Some(app.replication_status()),
        cluster_version: app.cluster_version(),
        state: info.record.node_state as i32,
        ..Default::default()
    })
}

fn is_low_on_space(app: &App, info: &StoreInfo) -> bool {
    let stats = &info.stats;
    if stats.capacity == 0 {
        return false;
    }
    if stats.available > ROOMY && app.cluster.regions().summary(info.id()).region_count < FEW_REGIONS {
        return false;
    }
    // Sizes of disks are far below 2^53 bytes: the ratio is exact enough.
    #[allow(clippy::cast_precision_loss)]
    let free = stats.available as f64 / stats.capacity as f64;
    free < 1.0 - app.dynamic.load().schedule.low_space_ratio
}

/// `ReportMinResolvedTS`.
pub(super) async fn min_resolved_ts(
    app: &App,
    request: pdpb::ReportMinResolvedTsRequest,
) -> Result<pdpb::ReportMinResolvedTsResponse, ApiError> {
    app.require_bootstrapped()?;
    let id = StoreId(request.store_id);
    app.store(id).map_err(|e| ApiError::Bare(e.to_string()))?;
    app.min_resolved.put(id, request.min_resolved_ts);
    Ok(pdpb::ReportMinResolvedTsResponse::default())
}
