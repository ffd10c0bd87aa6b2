//! GC safe points. PD keeps two points and barriers: GC may remove what lies before the GC safe point, readers may rely on all from the
//! transaction safe point on, a barrier stops the latter. The calls of older clients (`UpdateGCSafePoint`, `UpdateServiceGCSafePoint`) are
//! mapped onto these as PD 9 does.
//!
//! Owns: their rules: neither point ever falls, `gc <= txn <= every live barrier` (G1, G2). Must not know: clocks; `now` comes in.

use std::sync::Arc;

use super::{Action, Barrier, GC_WORKER, GcPoints, Plan, Refusal, Reply, Row, RowKey, State};
use crate::model::Wall;

/// Most barriers that are kept. Services are few (backup, change feeds); a client that makes up a name for each call must not fill
/// the state.
pub const MAX_BARRIERS: usize = 100_000;

/// From this many seconds on a time to live is for ever: PD's durations end there.
const FOR_EVER_SECONDS: i64 = i64::MAX / 1_000_000_000;

/// Moves the GC safe point; a lower value than before is passed over.
pub(super) fn update_gc(state: &State, value: u64) -> Result<Plan, Refusal> {
    let GcPoints { gc, txn } = state.gc;
    if value <= gc {
        return Ok(Plan::new(vec![], Reply::GcSafePoint { points: state.gc, previous: gc }));
    }
    if value > txn {
        return Err(Refusal::GcExceedsTxn { current: gc, given: value, txn });
    }
    let points = GcPoints { gc: value, txn };
    Ok(Plan::new(vec![Action::Put(Row::Gc(points))], Reply::GcSafePoint { points, previous: gc }))
}

/// Moves the transaction safe point (service `gc_worker`), or sets or removes a barrier.
pub(super) fn update_service(state: &State, now: Wall, service: &str, ttl: i64, point: u64) -> Result<Plan, Refusal> {
    if service == GC_WORKER {
        return if ttl == i64::MAX { advance_txn(state, now, point) } else { Err(Refusal::GcWorkerTtl) };
    }
    if service.is_empty() {
        return Err(Refusal::InvalidBarrier(service.into()));
    }
    let mut actions = vec![];
    let updated = ttl > 0 && point >= state.gc.txn;
    if ttl <= 0 {
        if state.barriers.contains_key(service) {
            actions.push(Action::Delete(RowKey::Barrier(service.into())));
        }
    } else if updated {
        if !state.barriers.contains_key(service) && state.barriers.len() >= MAX_BARRIERS {
            return Err(Refusal::TooManyBarriers(MAX_BARRIERS));
        }
        let barrier = Barrier { id: service.into(), ts: point, expires: expiry(now, ttl) };
        actions.push(Action::Put(Row::Barrier(Arc::new(barrier))));
    }
    let lowest = Barrier { id: GC_WORKER.into(), ts: state.gc.txn, expires: i64::MAX };
    Ok(Plan::new(actions, Reply::ServiceSafePoint { lowest, updated }))
}

/// End of a barrier set now, rounded up to seconds: it never ends early.
fn expiry(now: Wall, ttl: i64) -> i64 {
    if ttl >= FOR_EVER_SECONDS {
        return i64::MAX;
    }
    now.0.div_euclid(1_000_000_000).saturating_add(1).saturating_add(ttl)
}

/// Moves the transaction safe point as far as the barriers let it. Expired ones are deleted on the way: one that was passed once must
/// not hold again after a clock went back.
fn advance_txn(state: &State, now: Wall, target: u64) -> Result<Plan, Refusal> {
    let GcPoints { gc, txn } = state.gc;
    if target < txn {
        return Err(Refusal::DecreasingTxn { current: txn, given: target });
    }
    let mut actions = vec![];
    let mut blocker: Option<&Barrier> = None;
    for barrier in state.barriers.values() {
        if barrier.expires != i64::MAX && now.unix_seconds() > barrier.expires {
            actions.push(Action::Delete(RowKey::Barrier(barrier.id.clone())));
        } else if barrier.ts < blocker.map_or(target, |b| b.ts) {
            blocker = Some(barrier);
        }
    }
    let reached = blocker.map_or(target, |b| b.ts).max(txn);
    if reached != txn {
        actions.push(Action::Put(Row::Gc(GcPoints { gc, txn: reached })));
    }
    let id = blocker.map_or(GC_WORKER, |b| b.id.as_str()).to_owned();
    let lowest = Barrier { id, ts: reached, expires: i64::MAX };
    Ok(Plan::new(actions, Reply::ServiceSafePoint { lowest, updated: reached != txn }))
}
