//! The store life cycle: what a store may become.
//!
//! Owns: when a draining store is empty for certain, when a new one is filled, what speaks against a removal. Must not know: how
//! records change (that is agreed elsewhere) and who asks.

use std::{collections::BTreeMap, time::Duration};

use super::{
    filter,
    placement::labels::{self, first_difference},
    view::ClusterView,
};
use crate::{
    model::{KeyRange, Mono, NodeState, RegionId, Rule, StoreId, StoreState},
    store::{StoreInfo, index::Held},
};

/// After an index without the store's regions for this long, a report of the store that says otherwise counts no more.
const INDEX_DECIDES_AFTER: Duration = Duration::from_secs(600);
/// A cluster with fewer regions is filled at once (PD's number).
const FEW_REGIONS: usize = 100;
/// A new store that has not reported is left alone for so long. PD asks for no report, but looks at stores every ten seconds only: this
/// is how long a store waits for that on average, so that it serves by the time of its first report, as in PD.
const UNHEARD_FOR: Duration = Duration::from_secs(5);
/// The part of its share that a store must hold to be filled (PD's number).
const FILLED: f64 = 0.9;

/// A change of a store that the observed state allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreChange {
    /// An Offline store is empty: bury it.
    Bury(StoreId),
    /// A Preparing store is filled.
    Serve(StoreId),
}

/// Why a store may not be removed: PD's texts.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RemovalError {
    /// Unknown.
    #[error("[PD:core:ErrStoreNotFound]store {0} not found")]
    NotFound(StoreId),
    /// Gone already.
    #[error("[PD:core:ErrStoreRemoved]store {0} has been removed")]
    Removed(StoreId),
    /// It was declared destroyed before and cannot be drained any more.
    #[error("[PD:core:ErrStoreDestroyed]store {0} has been physically destroyed")]
    Destroyed(StoreId),
    /// Too few stores would be left for the replicas.
    #[error(
        "[PD:core:ErrStoresNotEnough]can not remove store {store} since the number of up stores would be {left} while need {need}"
    )]
    NotEnough {
        /// The store.
        store: StoreId,
        /// Stores that would be left.
        left: u64,
        /// `replication.max-replicas`
        need: u64,
    },
    /// All that would be left give their leaders away.
    #[error(
        "[PD:core:ErrNoStoreForRegionLeader]can not remove store {0} since there are no extra up store to store the leader"
    )]
    NoLeaderStore(StoreId),
}

/// Whether a store may be made Offline. `destroyed` is the `force` of the request. A store that is Offline already may be asked for
/// again; the tests for what would be left are skipped for column stores and destroyed ones, as in PD. Whoever calls makes sure
/// that no second removal comes between this answer and its effect.
pub fn may_remove(view: &ClusterView<'_>, store: StoreId, destroyed: bool) -> Result<(), RemovalError> {
    let info = view.stores.get(&store).ok_or(RemovalError::NotFound(store))?;
    match info.record.state {
        StoreState::Tombstone => return Err(RemovalError::Removed(store)),
        StoreState::Offline if info.record.physically_destroyed && !destroyed => {
            return Err(RemovalError::Destroyed(store));
        }
        StoreState::Offline => return Ok(()),
        StoreState::Up => {}
    }
    if destroyed || info.record.is_tiflash() {
        return Ok(());
    }
    let is_up = |s: &&StoreInfo| s.record.state == StoreState::Up && !s.record.is_tiflash() && s.id() != store;
    let left: Vec<&StoreInfo> = view.stores.values().map(AsRef::as_ref).filter(is_up).collect();
    let need = view.settings.replication.max_replicas;
    if (left.len() as u64) < need {
        return Err(RemovalError::NotEnough { store, left: left.len() as u64, need });
    }
    if left.iter().all(|s| s.pause_leader_in > 0) {
        return Err(RemovalError::NoLeaderStore(store));
    }
    Ok(())
}

/// Why an Offline store is not buried yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unburied {
    /// It still has regions in the index.
    Regions {
        /// How many.
        left: u64,
        /// One of them.
        such_as: RegionId,
    },
    /// Too little is known after this leader's start.
    NotPrepared,
    /// It has not reported since the index became empty.
    NoReport,
    /// It is down, and nobody has reported some keys: their regions may have peers on it. The index decides in so long a time.
    Unheard(Duration),
    /// It reports regions that the index does not know; the index decides in so long a time.
    Reports(u32, Duration),
    /// The operator of this region is still to bring a peer to it (one of a person; others end at their next look).
    Awaits(RegionId),
}

/// Follows Offline stores to the moment when they are empty for certain. Sizes are never asked: an unknown size is no emptiness.
#[derive(Debug, Default)]
pub struct Burying {
    /// Since when the index knows no region of a store.
    empty_since: BTreeMap<StoreId, Mono>,
}

impl Burying {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes which Offline stores have no region in the index now. Costs a look-up for each Offline store; to be called with each
    /// tick, since a report counts only when it came after the index was empty.
    pub fn watch(&mut self, view: &ClusterView<'_>) {
        let is_offline = |s: StoreId| view.stores.get(&s).is_some_and(|s| s.record.state == StoreState::Offline);
        self.empty_since.retain(|store, _| is_offline(*store));
        for store in view.stores.values().filter(|s| s.record.state == StoreState::Offline) {
            if view.regions.count_of_store(store.id(), Held::Any) > 0 {
                self.empty_since.remove(&store.id());
            } else {
                self.empty_since.entry(store.id()).or_insert(view.now.mono);
            }
        }
    }

    /// What keeps an Offline store from being buried; `None`: nothing. `prepared`: whether scheduling may act.
    ///
    /// It is empty for certain when the index knows no region of it and a report of the store itself, made after that, says the same.
    /// A store that is Down will not report, and need not when the index knows the regions of all keys; one that is destroyed need not
    /// either.
    pub fn obstacle(&self, view: &ClusterView<'_>, store: &StoreInfo, prepared: bool) -> Option<Unburied> {
        if let Some(such_as) = view.regions.of_store(store.id(), Held::Any, 1).first().copied() {
            let left = view.regions.count_of_store(store.id(), Held::Any);
            return Some(Unburied::Regions { left, such_as });
        }
        if !prepared {
            return Some(Unburied::NotPrepared);
        }
        if store.record.physically_destroyed {
            return None;
        }
        let Some(since) = self.empty_since.get(&store.id()) else { return Some(Unburied::NoReport) };
        let empty_for = view.now.mono.since(*since);
        if empty_for >= INDEX_DECIDES_AFTER {
            return None;
        }
        if filter::is_down(view, store) {
            let unheard = view.regions.holes(&KeyRange::default(), 1);
            return (!unheard.is_empty()).then(|| Unburied::Unheard(INDEX_DECIDES_AFTER - empty_for));
        }
        if store.last_heartbeat.is_none_or(|at| at <= *since) {
            return Some(Unburied::NoReport);
        }
        let reports = store.stats.region_count;
        (reports > 0).then(|| Unburied::Reports(reports, INDEX_DECIDES_AFTER - empty_for))
    }

    /// The stores that can be buried and those that are filled.
    pub fn changes(&self, view: &ClusterView<'_>, prepared: bool) -> Vec<StoreChange> {
        let mut changes = Vec::new();
        for store in view.stores.values() {
            match store.record.state {
                StoreState::Offline if self.obstacle(view, store, prepared).is_none() => {
                    changes.push(StoreChange::Bury(store.id()));
                }
                StoreState::Up if store.record.node_state == NodeState::Preparing && is_filled(view, store) => {
                    changes.push(StoreChange::Serve(store.id()));
                }
                _ => {}
            }
        }
        changes
    }
}

/// Whether a Preparing store is done: old enough, filled to 0.9 of its share, or in a cluster with hardly any regions.
pub fn is_filled(view: &ClusterView<'_>, store: &StoreInfo) -> bool {
    if store.last_heartbeat.is_none() && view.now.mono.since(store.since) < UNHEARD_FOR {
        return false;
    }
    let up_seconds = store.last_heartbeat_wall.unix_seconds().saturating_sub(store.record.start_timestamp);
    let up = Duration::from_secs(u64::try_from(up_seconds).unwrap_or(0));
    if up >= view.settings.schedule.max_store_preparing_time.get() || view.regions.len() < FEW_REGIONS {
        return true;
    }
    view.regions.summary(store.id()).region_size_mib as f64 >= filled_size(view, store)
}

/// The size in MiB from which a Preparing store counts as filled: 0.9 of its share of what the rules place on stores like it. From
/// the aggregate: no region is looked at.
pub fn filled_size(view: &ClusterView<'_>, store: &StoreInfo) -> f64 {
    let mut share = 0.0;
    for (range, rules) in view.settings.placement().segments() {
        let mine: Vec<&Rule> =
            rules.iter().map(AsRef::as_ref).filter(|r| labels::matches(&store.record, &r.constraints)).collect();
        if mine.is_empty() {
            continue;
        }
        let size = view.regions.stats(&range).size_mib as f64;
        share += mine.iter().map(|rule| size * f64::from(rule.count) * weight(view, store, rule)).sum::<f64>();
    }
    share * FILLED
}

/// The part of a rule's data that belongs on `store` when it lies evenly: each location at a level gets the same, each store of one
/// location too, and no store more than one replica.
fn weight(view: &ClusterView<'_>, store: &StoreInfo, rule: &Rule) -> f64 {
    let takes_part = |s: &&StoreInfo| s.record.state == StoreState::Up && labels::matches(&s.record, &rule.constraints);
    let mut near: Vec<&StoreInfo> = view.stores.values().map(AsRef::as_ref).filter(takes_part).collect();
    let mut weight = 1.0;
    for (at, level) in rule.location_labels.iter().enumerate() {
        if store.record.label(level).is_empty() {
            break;
        }
        let mut places: Vec<String> = near.iter().map(|s| s.record.label(level).to_ascii_lowercase()).collect();
        places.retain(|p| !p.is_empty());
        places.sort();
        places.dedup();
        weight /= places.len().max(1) as f64;
        let levels = &rule.location_labels[..=at];
        near.retain(|s| first_difference(&s.record, &store.record, levels).is_none());
    }
    (weight / near.len().max(1) as f64).min(1.0 / f64::from(rule.count.max(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Now, StoreRecord, StoreStats},
        scheduler::testing::World,
    };

    const ONE_LEFT: Unburied = Unburied::Regions { left: 1, such_as: RegionId(10) };

    fn reports(world: &World, id: u64, region_count: u32) {
        world.hear_store(StoreId(id), StoreStats { region_count, ..StoreStats::default() });
    }

    fn pass(world: &mut World, seconds: u64) {
        world.now = world.now.plus(Duration::from_secs(seconds));
    }

    fn obstacle(world: &mut World, burying: &mut Burying, prepared: bool) -> Option<Unburied> {
        let mut found = None;
        world.with_view(|view, _, _, _| {
            burying.watch(view);
            found = burying.obstacle(view, &view.stores[&StoreId(4)], prepared);
        });
        found
    }

    fn remove(world: &mut World, store: u64, force: bool) -> Result<(), String> {
        let mut answer = Ok(());
        world.with_view(|view, _, _, _| {
            answer = may_remove(view, StoreId(store), force).map_err(|e| e.to_string());
        });
        answer
    }

    #[test]
    fn s9_a_store_is_buried_only_when_index_and_store_say_empty_in_this_order() {
        let (mut w, mut b) = (World::new(4), Burying::new());
        w.set_state(4, StoreState::Offline);
        w.report(World::region(1, &[1, 2, 4]));
        assert_eq!(obstacle(&mut w, &mut b, true), Some(ONE_LEFT));
        reports(&w, 4, 0);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(ONE_LEFT), "an early report proves nothing");
        let mut moved = World::region(1, &[1, 2, 3]);
        Arc::make_mut(&mut moved.meta).epoch.conf_ver = 9;
        w.report(moved);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(Unburied::NoReport));
        pass(&mut w, 1);
        reports(&w, 4, 1);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(Unburied::Reports(1, Duration::from_secs(599))));
        reports(&w, 4, 0);
        assert_eq!(obstacle(&mut w, &mut b, false), Some(Unburied::NotPrepared));
        assert_eq!(obstacle(&mut w, &mut b, true), None);
        w.with_view(|view, _, _, _| {
            assert!(b.changes(view, true).contains(&StoreChange::Bury(StoreId(4))));
            assert!(!b.changes(view, false).contains(&StoreChange::Bury(StoreId(4))));
        });
    }

    #[test]
    fn s9_an_empty_region_counts_as_a_region() {
        let (mut w, mut b) = (World::new(4), Burying::new());
        w.set_state(4, StoreState::Offline);
        let mut empty = World::region(1, &[4]);
        (empty.size_mib, empty.size_known) = (0, false);
        w.report(empty);
        reports(&w, 4, 0);
        pass(&mut w, 3600);
        reports(&w, 4, 0);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(ONE_LEFT));
    }

    #[test]
    fn s9_after_ten_minutes_the_index_decides_and_the_dead_need_no_report() {
        let (mut w, mut b) = (World::new(4), Burying::new());
        w.set_state(4, StoreState::Offline);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(Unburied::NoReport));
        pass(&mut w, 599);
        reports(&w, 4, 3);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(Unburied::Reports(3, Duration::from_secs(1))));
        pass(&mut w, 1);
        assert_eq!(obstacle(&mut w, &mut b, true), None);
        let (mut w, mut b) = (World::new(4), Burying::new());
        w.set_state(4, StoreState::Offline);
        let mut record = StoreRecord::clone(&w.stores.get(StoreId(4)).unwrap().record);
        record.physically_destroyed = true;
        w.stores.put_record(Arc::new(record), w.now);
        assert_eq!(obstacle(&mut w, &mut b, true), None);
        assert_eq!(obstacle(&mut w, &mut b, false), Some(Unburied::NotPrepared));
    }

    #[test]
    fn s9_a_store_that_is_down_is_not_buried_while_regions_are_unknown() {
        let (mut w, mut b) = (World::new(4), Burying::new());
        w.set_state(4, StoreState::Offline);
        let range = |start: &[u8], end: &[u8]| KeyRange { start: start.to_vec().into(), end: end.to_vec().into() };
        let mut half = World::region(1, &[1, 2, 3]);
        Arc::make_mut(&mut half.meta).range = range(b"", b"m");
        w.report(half);
        pass(&mut w, 1800);
        let left = Duration::from_secs(600);
        assert_eq!(obstacle(&mut w, &mut b, true), Some(Unburied::Unheard(left)), "who knows where the other half is");
        let mut other = World::region(2, &[1, 2, 3]);
        Arc::make_mut(&mut other.meta).range = range(b"m", b"");
        w.report(other);
        assert_eq!(obstacle(&mut w, &mut b, true), None);
    }

    #[test]
    fn removals_are_refused_with_pds_words() {
        let mut w = World::new(4);
        assert_eq!(remove(&mut w, 99, false).unwrap_err(), "[PD:core:ErrStoreNotFound]store 99 not found");
        assert_eq!(remove(&mut w, 4, false), Ok(()));
        for id in 1..=3 {
            w.stores.update(StoreId(id), |s| s.pause_leader_in = 1);
        }
        assert_eq!(
            remove(&mut w, 4, false).unwrap_err(),
            "[PD:core:ErrNoStoreForRegionLeader]can not remove store 4 since there are no extra up store to store the leader"
        );
        assert_eq!(remove(&mut w, 4, true), Ok(()), "a destroyed store is not coming back whatever is left");
        w.set_state(4, StoreState::Offline);
        assert_eq!(remove(&mut w, 4, false), Ok(()), "twice is once");
        assert_eq!(
            remove(&mut w, 3, false).unwrap_err(),
            "[PD:core:ErrStoresNotEnough]can not remove store 3 since the number of up stores would be 2 while need 3"
        );
        let mut record = StoreRecord::clone(&w.stores.get(StoreId(4)).unwrap().record);
        record.physically_destroyed = true;
        w.stores.put_record(Arc::new(record), w.now);
        assert_eq!(
            remove(&mut w, 4, false).unwrap_err(),
            "[PD:core:ErrStoreDestroyed]store 4 has been physically destroyed"
        );
        w.set_state(4, StoreState::Tombstone);
        assert_eq!(remove(&mut w, 4, true).unwrap_err(), "[PD:core:ErrStoreRemoved]store 4 has been removed");
    }

    #[test]
    fn a_new_store_serves_before_its_first_report() {
        let mut w = World::new(3);
        let record = StoreRecord { id: StoreId(5), ..StoreRecord::default() };
        w.stores.put_record(Arc::new(record), w.now);
        let filled = |w: &mut World| {
            let mut answer = false;
            w.with_view(|view, _, _, _| answer = is_filled(view, &view.stores[&StoreId(5)]));
            answer
        };
        assert!(!filled(&mut w), "it was put just now");
        pass(&mut w, 5);
        assert!(filled(&mut w), "PD asks for no report");
    }

    #[test]
    fn a_store_serves_when_it_holds_nine_tenths_of_its_share() {
        let mut w = World::new(4);
        w.now = Now::default().plus(Duration::from_secs(100));
        w.report_store(4);
        let filled = |w: &mut World| {
            let mut answer = false;
            w.with_view(|view, _, _, _| answer = is_filled(view, &view.stores[&StoreId(4)]));
            answer
        };
        assert!(filled(&mut w), "a cluster with hardly any regions");
        // 400 regions of 96 MiB, three replicas on four stores: a share is 300 regions, filled is 270.
        for at in 1..=400 {
            let stores: &[u64] = if at <= 269 { &[1, 2, 4] } else { &[1, 2, 3] };
            w.regions.apply(World::region(at, stores)).unwrap();
        }
        assert!(!filled(&mut w));
        let mut moved = World::region(270, &[1, 2, 4]);
        Arc::make_mut(&mut moved.meta).epoch.conf_ver = 9;
        w.regions.apply(moved).unwrap();
        assert!(filled(&mut w));
        w.regions.apply(World::region(401, &[1, 2, 3])).unwrap();
        w.set_schedule(|s| s.max_store_preparing_time = Duration::from_secs(100).into());
        assert!(filled(&mut w), "old enough");
    }

    #[test]
    fn shares_follow_locations() {
        let mut w = World::new(4);
        for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
            w.put_store(id, StoreState::Up, &[("zone", zone)]);
        }
        let rule = Rule { count: 3, location_labels: vec!["zone".into()], ..Rule::default() };
        w.with_view(|view, _, _, _| {
            let of = |id| weight(view, &view.stores[&StoreId(id)], &rule);
            assert_eq!([of(1), of(2), of(3), of(4)], [1.0 / 6.0, 1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0]);
        });
    }
}
