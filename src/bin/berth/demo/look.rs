//! What the demo's view is told of the drain: counts from the server of the same process, the reason why it waits from its REST
//! interface.
//!
//! Owns: the look at the drain, and its pace. Must not know: what is printed.

use std::{sync::Arc, time::Duration};

use berth::{
    model::{KeyRange, Region, StoreId},
    scheduler::cluster::Cluster,
    server::Server,
    sim::{
        demo::{DrainState, Source},
        http::HttpClient,
    },
    store::RegionIndex,
};
use tokio::time::Instant;

use super::hold;

/// Looks at one drain.
pub(super) struct Look {
    cluster: Arc<Cluster>,
    http: HttpClient,
    victim: StoreId,
    /// The most regions that were to be moved at any look.
    total: u64,
    start: Instant,
    rate: Rate,
    /// When no region was left, from the start.
    pub(super) empty_after: Option<Duration>,
}

impl Look {
    /// The drain of `victim` begins now.
    pub(super) fn new(server: &Server, http: HttpClient, victim: StoreId) -> Self {
        let cluster = server.app.cluster.clone();
        let (total, start) = (cluster.regions().summary(victim).region_count, Instant::now());
        Self { cluster, http, victim, total, start, rate: Rate::new(start, total), empty_after: None }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Source for Look {
    async fn poll(&mut self) -> Option<DrainState> {
        let waits = self.http.get_json(&format!("/berth/v1/drains/{}", self.victim)).await;
        let left = self.cluster.regions().summary(self.victim).region_count;
        if left == 0 {
            self.empty_after.get_or_insert(self.start.elapsed());
        }
        // A region that splits while it waits makes two to move.
        self.total = self.total.max(left);
        let rate = self.rate.at(Instant::now(), left);
        Some(DrainState {
            store: self.victim.0,
            state: self.cluster.stores().get(self.victim).map_or("gone", |s| s.record.state.name()).to_owned(),
            total: self.total,
            left,
            operators: self.cluster.operators().len() as u64,
            rate,
            eta: (rate > 0.0).then(|| Duration::from_secs_f64(left as f64 / rate)),
            waits_for: waits.map(|drain| hold::waits_for(&drain)).unwrap_or_default(),
        })
    }
}

/// Regions with exactly three voters and nothing else.
pub(super) fn whole_regions(regions: &RegionIndex) -> u64 {
    let whole = |r: &Region| r.peers().len() == 3 && r.meta.voters().count() == 3 && !r.meta.in_joint_state();
    regions.scan(&KeyRange::all(), usize::MAX).iter().filter(|r| whole(r)).count() as u64
}

/// Regions a second, smoothed over the last moments.
struct Rate {
    at: Instant,
    left: u64,
    value: f64,
}

impl Rate {
    /// Time over which an old value loses most of its weight, seconds.
    const MEMORY: f64 = 2.0;

    fn new(at: Instant, left: u64) -> Self {
        Self { at, left, value: 0.0 }
    }

    fn at(&mut self, now: Instant, left: u64) -> f64 {
        let passed = now.duration_since(self.at).as_secs_f64();
        if passed > 0.05 {
            let moved = self.left.saturating_sub(left) as f64 / passed;
            let weight = 1.0 - (-passed / Self::MEMORY).exp();
            self.value += (moved - self.value) * if self.value == 0.0 { 1.0 } else { weight };
            (self.at, self.left) = (now, left);
        }
        self.value
    }
}
