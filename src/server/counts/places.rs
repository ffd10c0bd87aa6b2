//! Where stores and replicas stand, by location labels.
//!
//! Owns: `pd_cluster_placement_status`, `pd_regions_label_level`. Must not know: which placement is wanted.

use std::collections::BTreeMap;

use crate::{
    model::{Region, StoreRecord, StoreState},
    scheduler::view::ClusterView,
    telemetry::metrics::Metrics,
};

/// What PD shows for a store without the label.
const UNKNOWN: &str = "unknown";
/// What it shows for a region whose replicas no label keeps apart.
const NONE: &str = "none";

/// One series for each store and location label, value 1.
pub(super) fn stores(metrics: &Metrics, view: &ClusterView<'_>) {
    let gauge = &metrics.stores.placement_status;
    gauge.reset();
    for store in view.stores.values().filter(|s| s.record.state != StoreState::Tombstone) {
        for key in &view.settings.replication.location_labels {
            let value = Some(store.record.label(key)).filter(|v| !v.is_empty()).unwrap_or(UNKNOWN);
            gauge.with_label_values(&["label", &format!("{key}:{value}"), &store.id().to_string()]).set(1.0);
        }
    }
}

/// Regions by the label that keeps their replicas apart.
#[derive(Default)]
pub(super) struct Levels(BTreeMap<String, u64>);

impl Levels {
    /// Counts a region.
    pub(super) fn add(&mut self, view: &ClusterView<'_>, region: &Region) {
        let labels = &view.settings.replication.location_labels;
        let stores: Vec<&StoreRecord> =
            region.peers().iter().filter_map(|p| view.stores.get(&p.store)).map(|s| &*s.record).collect();
        let level = level(&stores, labels).unwrap_or(NONE);
        match self.0.get_mut(level) {
            Some(count) => *count += 1,
            None => _ = self.0.insert(level.to_owned(), 1),
        }
    }

    /// Shows the counts; a label that no region has any more is shown as 0.
    pub(super) fn show(mut self, metrics: &Metrics, view: &ClusterView<'_>) {
        for label in view.settings.replication.location_labels.iter().map(String::as_str).chain([NONE]) {
            self.0.entry(label.to_owned()).or_default();
        }
        metrics.regions.label_level.reset();
        for (label, count) in self.0 {
            metrics.regions.label_level.with_label_values(&[&label]).set(count as f64);
        }
    }
}

/// The first label, from the widest on, that tells every two stores apart together with those before it. A store without a label
/// is told apart from nobody by it.
fn level<'a>(stores: &[&StoreRecord], labels: &'a [String]) -> Option<&'a str> {
    if stores.is_empty() {
        return None;
    }
    let mut together: Vec<Vec<&StoreRecord>> = vec![stores.to_vec()];
    for label in labels {
        together = together.iter().flat_map(|group| alike(group, label)).collect();
        if together.is_empty() {
            return Some(label);
        }
    }
    None
}

/// The groups of two and more that a label does not tell apart.
fn alike<'s>(group: &[&'s StoreRecord], label: &str) -> Vec<Vec<&'s StoreRecord>> {
    if group.iter().any(|store| store.label(label).is_empty()) {
        return vec![group.to_vec()];
    }
    let mut by_value: BTreeMap<&str, Vec<&StoreRecord>> = BTreeMap::new();
    for store in group {
        by_value.entry(store.label(label)).or_default().push(store);
    }
    by_value.into_values().filter(|alike| alike.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{StoreId, StoreLabel};

    fn store(id: u64, labels: &[(&str, &str)]) -> StoreRecord {
        let labels = labels.iter().map(|(k, v)| StoreLabel { key: (*k).into(), value: (*v).into() }).collect();
        StoreRecord { id: StoreId(id), labels, ..StoreRecord::default() }
    }

    #[test]
    fn the_widest_label_that_keeps_all_apart_counts() {
        let labels = ["zone".to_owned(), "host".to_owned()];
        let of = |stores: &[StoreRecord]| level(&stores.iter().collect::<Vec<_>>(), &labels).map(str::to_owned);
        let at = |id, zone, host| store(id, &[("zone", zone), ("host", host)]);
        assert_eq!(of(&[at(1, "a", "1"), at(2, "b", "1"), at(3, "c", "1")]).as_deref(), Some("zone"));
        assert_eq!(of(&[at(1, "a", "1"), at(2, "a", "2"), at(3, "c", "1")]).as_deref(), Some("host"));
        assert_eq!(of(&[at(1, "a", "1"), at(2, "a", "1"), at(3, "c", "1")]), None);
        assert_eq!(of(&[store(1, &[("zone", "a")]), at(2, "a", "2"), at(3, "c", "1")]), None, "a host is not known");
        assert_eq!(of(&[at(1, "a", "1")]).as_deref(), Some("zone"));
        assert_eq!(of(&[]), None);
        assert_eq!(level(&[&at(1, "a", "1")], &[]), None);
    }
}
