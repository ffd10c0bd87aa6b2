//! Gauges of hot peers: how many, what they bear, what a peer must have to be hot; stores that lose their leaders for being slow or
//! stopping.

use crate::{
    api::App,
    model::StoreId,
    scheduler::balance::Kind,
    store::hot::{Dim, Traffic, loads::Role},
};

/// Works all of them out.
pub(super) fn refresh(app: &App) {
    let metrics = &app.metrics.schedulers;
    metrics.hotspot.reset();
    metrics.hotcache.reset();
    for traffic in Traffic::ALL {
        peers(app, traffic, Role::Leader, "leader");
        peers(app, traffic, Role::Peer, "peer");
        bounds(app, traffic);
    }
    metrics.evicted_slow.reset();
    for store in app.cluster.evicting(Kind::EvictSlowStore) {
        metrics.evicted_slow.with_label_values(&[store.to_string().as_str(), SLOW_TYPE]).set(1.0);
    }
    metrics.evicted_stopping.reset();
    for store in app.cluster.evicting(Kind::EvictStoppingStore) {
        metrics.evicted_stopping.with_label_values(&[&store.to_string()]).set(1.0);
    }
}

/// What a store is slow by: the score that it reports is about its disk.
const SLOW_TYPE: &str = "disk";

/// PD's word of a dimension where it names sums.
fn plural(dim: Dim) -> &'static str {
    match dim {
        Dim::Byte => "bytes",
        Dim::Key => "keys",
        Dim::Query => "query",
        Dim::Cpu => "cpu",
    }
}

fn peers(app: &App, traffic: Traffic, role: Role, word: &str) {
    let stores = app.cluster.stores();
    for (id, load) in app.cluster.hot_loads(traffic, role) {
        let Some(store) = stores.get(id) else { continue };
        let set = |what: &str, value: f64| {
            let labels = [store.record.address.as_str(), &id.to_string(), what];
            app.metrics.schedulers.hotspot.with_label_values(&labels).set(value);
        };
        set(&format!("hot_{}_region_as_{word}", traffic.name()), load.peers.len() as f64);
        for dim in Dim::ALL {
            set(&format!("total_{}_{}_as_{word}", traffic.name(), plural(dim)), load.flow.of(dim));
        }
    }
}

fn bounds(app: &App, traffic: Traffic) {
    let known: Vec<(StoreId, _, usize)> = app.cluster.with_hot(|hot| {
        let bounds = hot.bounds(traffic);
        bounds.map(|(store, bound)| (store, bound, hot.count_on(traffic, store))).collect()
    });
    for (store, bound, count) in known {
        let set = |what: &str, value: f64| {
            let labels = [what, &format!("store-{store}"), traffic.name()];
            app.metrics.schedulers.hotcache.with_label_values(&labels).set(value);
        };
        set("total_length", count as f64);
        for dim in Dim::ALL.into_iter().filter(|dim| bound.of(*dim).is_finite()) {
            set(&format!("{}-rate-threshold", dim.name()), bound.of(dim));
        }
    }
}
