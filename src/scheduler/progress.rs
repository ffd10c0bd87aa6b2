//! Progress of draining and preparing stores (`/stores/progress`, `pd_cluster_progress`).
//!
//! Owns: targets, samples, speed. Must not know: where sizes come from, who asks.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::model::{Mono, StoreId};

/// Speed is the mean over this time (PD's shortest window).
const WINDOW: Duration = Duration::from_secs(600);
/// The most samples kept of one store; at one in ten seconds the window has 61.
const MAX_SAMPLES: usize = 128;
/// How long the end of a progress can be asked for.
const KEPT: Duration = Duration::from_secs(30);

/// What a store is on its way to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// `removing`
    Removing,
    /// `preparing`
    Preparing,
}

impl Action {
    /// PD's word.
    pub fn name(self) -> &'static str {
        match self {
            Action::Removing => "removing",
            Action::Preparing => "preparing",
        }
    }
}

/// How far a store has come.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress {
    /// The store.
    pub store: StoreId,
    /// Where to.
    pub action: Action,
    /// 0 to 1.
    pub progress: f64,
    /// MiB a second.
    pub current_speed: f64,
    /// Seconds; `f64::MAX` when nothing moves.
    pub left_seconds: f64,
}

/// A store's way as the next leader has to know it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Where to.
    pub action: Action,
    /// What there is to move in all, MiB.
    pub target_mib: f64,
    /// What was left when it was last looked at, MiB.
    pub left_mib: f64,
}

/// One store's way.
#[derive(Clone, Debug)]
struct Track {
    action: Action,
    /// What there is to move in all, MiB.
    target: f64,
    /// What is left, MiB.
    left_now: f64,
    /// What was left in the last ten minutes of this leader, MiB, oldest first.
    left: VecDeque<(Mono, f64)>,
    ended: Option<Mono>,
}

impl Track {
    fn new(action: Action, target: f64, left_now: f64) -> Self {
        Self { action, target, left_now, left: VecDeque::new(), ended: None }
    }

    fn note(&mut self, left: f64, now: Mono) {
        self.left_now = left;
        self.left.push_back((now, left));
    }

    fn progress(&self, store: StoreId) -> Progress {
        let left = self.left_now;
        let current_speed = self.speed();
        let (progress, left_seconds) = if self.ended.is_some() {
            (1.0, 0.0)
        } else if current_speed > 0.0 {
            (self.part(left), left / current_speed)
        } else {
            (self.part(left), f64::MAX)
        };
        Progress { store, action: self.action, progress, current_speed, left_seconds }
    }

    fn part(&self, left: f64) -> f64 {
        if self.target > 0.0 { (1.0 - left / self.target).clamp(0.0, 1.0) } else { 1.0 }
    }

    fn speed(&self) -> f64 {
        let (Some((from, most)), Some((to, least))) = (self.left.front(), self.left.back()) else { return 0.0 };
        let seconds = to.since(*from).as_secs_f64();
        if seconds > 0.0 { ((most - least) / seconds).max(0.0) } else { 0.0 }
    }
}

/// Follows all stores that drain or are being filled. Fed every ten seconds.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: BTreeMap<StoreId, Track>,
}

impl Tracker {
    /// Nothing is followed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A draining store has `left_mib` to give away. Its target is what it had when it was first seen.
    pub fn removing(&mut self, store: StoreId, left_mib: f64, now: Mono) {
        self.feed(store, Action::Removing, left_mib, None, now);
    }

    /// A store that is being filled has `size_mib` of the `target_mib` that it should have; that may change meanwhile.
    pub fn preparing(&mut self, store: StoreId, size_mib: f64, target_mib: f64, now: Mono) {
        self.feed(store, Action::Preparing, (target_mib - size_mib).max(0.0), Some(target_mib), now);
    }

    /// The store got there.
    pub fn end(&mut self, store: StoreId, now: Mono) {
        if let Some(track) = self.tracks.get_mut(&store) {
            track.ended.get_or_insert(now);
        }
    }

    /// The store will not get there: its removal was taken back, or it left.
    pub fn cancel(&mut self, store: StoreId) {
        self.tracks.remove(&store);
    }

    /// Forgets what ended a while ago.
    pub fn forget_ended(&mut self, now: Mono) {
        self.tracks.retain(|_, t| t.ended.is_none_or(|at| now.since(at) < KEPT));
    }

    /// One store's progress.
    pub fn get(&self, store: StoreId) -> Option<Progress> {
        self.tracks.get(&store).map(|t| t.progress(store))
    }

    /// The progress of a store that has `left_mib` to give away now; a drain may be nearly over when it is fed a second time.
    pub fn removing_now(&self, store: StoreId, left_mib: f64, now: Mono) -> Option<Progress> {
        let track = self.tracks.get(&store)?;
        if track.action != Action::Removing || track.ended.is_some() {
            return Some(track.progress(store));
        }
        let mut track = track.clone();
        track.note(left_mib, now);
        Some(track.progress(store))
    }

    /// All progress under way, by store.
    pub fn all(&self) -> Vec<Progress> {
        self.tracks.iter().map(|(store, t)| t.progress(*store)).collect()
    }

    /// The mean over all stores with this action (progress, speed, seconds left), as PD gives it; `None` when there is none.
    pub fn mean(&self, action: Action) -> Option<(f64, f64, f64)> {
        let all: Vec<Progress> = self.all().into_iter().filter(|p| p.action == action).collect();
        let mean = |value: fn(&Progress) -> f64| all.iter().map(|p| value(p) / all.len() as f64).sum::<f64>();
        (!all.is_empty()).then(|| (mean(|p| p.progress), mean(|p| p.current_speed), mean(|p| p.left_seconds)))
    }

    /// What is kept of those under way, for the next leader.
    pub fn kept(&self) -> Vec<(StoreId, Kept)> {
        let under_way = self.tracks.iter().filter(|(_, track)| track.ended.is_none());
        let kept = |track: &Track| Kept { action: track.action, target_mib: track.target, left_mib: track.left_now };
        under_way.map(|(store, track)| (*store, kept(track))).collect()
    }

    /// Goes on where an earlier leader was. Speed is measured anew: nobody knows how long nobody led.
    pub fn recall(&mut self, store: StoreId, kept: &Kept) {
        let sound = |mib: f64| mib.is_finite() && mib >= 0.0;
        if sound(kept.target_mib) && sound(kept.left_mib) {
            let track = Track::new(kept.action, kept.target_mib, kept.left_mib);
            self.tracks.entry(store).or_insert(track);
        }
    }

    fn feed(&mut self, store: StoreId, action: Action, left: f64, target: Option<f64>, now: Mono) {
        if !left.is_finite() || left < 0.0 {
            return;
        }
        if self.tracks.get(&store).is_some_and(|t| t.action != action || t.ended.is_some()) {
            self.tracks.remove(&store);
        }
        let track = self.tracks.entry(store).or_insert_with(|| Track::new(action, left, left));
        track.target = target.unwrap_or(track.target);
        track.note(left, now);
        let too_old = |track: &Track| track.left.front().is_some_and(|(at, _)| now.since(*at) > WINDOW);
        while track.left.len() > MAX_SAMPLES || too_old(track) {
            track.left.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const STORE: StoreId = StoreId(2);

    fn at(seconds: u64) -> Mono {
        Mono::default().plus(Duration::from_secs(seconds))
    }

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-12
    }

    #[test]
    fn the_numbers_are_those_that_pd_gave() {
        let mut tracker = Tracker::new();
        // 996 regions of 96 MiB when first seen; 15 of them gone ten seconds later, 89 after a minute.
        tracker.removing(STORE, 996.0 * 96.0, at(0));
        let first = tracker.get(STORE).unwrap();
        assert_eq!((first.progress, first.current_speed, first.left_seconds), (0.0, 0.0, f64::MAX));
        let meanwhile = tracker.removing_now(STORE, 981.0 * 96.0, at(5)).unwrap();
        assert_eq!((meanwhile.current_speed, tracker.get(STORE).unwrap()), (288.0, first));
        tracker.removing(STORE, 981.0 * 96.0, at(10));
        let p = tracker.get(STORE).unwrap();
        assert!(close(p.progress, 0.015060240963855422) && p.current_speed == 144.0 && p.left_seconds == 654.0);
        assert_eq!(tracker.mean(Action::Removing), Some((p.progress, 144.0, 654.0)));
        tracker.removing(STORE, 907.0 * 96.0, at(60));
        let p = tracker.get(STORE).unwrap();
        assert!(close(p.progress, 0.0893574297188755) && close(p.current_speed, 142.4));
        assert!(close(p.left_seconds, 611.4606741573034));
        assert_eq!(tracker.mean(Action::Preparing), None);
        tracker.end(STORE, at(70));
        let p = tracker.get(STORE).unwrap();
        assert_eq!((p.progress, p.left_seconds), (1.0, 0.0));
        tracker.forget_ended(at(99));
        assert!(tracker.get(STORE).is_some());
        tracker.forget_ended(at(100));
        assert!(tracker.get(STORE).is_none());
    }

    #[test]
    fn a_store_that_grows_is_at_nothing_and_speed_is_of_the_last_ten_minutes() {
        let mut tracker = Tracker::new();
        tracker.removing(STORE, 100.0, at(0));
        tracker.removing(STORE, 150.0, at(10));
        let p = tracker.get(STORE).unwrap();
        assert_eq!((p.progress, p.current_speed, p.left_seconds), (0.0, 0.0, f64::MAX));
        for i in 0..200 {
            tracker.removing(STORE, 10_000.0 - if i > 100 { 10.0 * f64::from(i) } else { 0.0 }, at(20 + 10 * i as u64));
        }
        assert_eq!(tracker.get(STORE).unwrap().current_speed, 1.0);
        tracker.cancel(STORE);
        assert!(tracker.all().is_empty());
    }

    #[test]
    fn the_next_leader_goes_on_where_the_last_one_was() {
        let mut tracker = Tracker::new();
        tracker.removing(STORE, 1000.0, at(0));
        tracker.removing(STORE, 600.0, at(10));
        tracker.removing(StoreId(3), 5.0, at(10));
        tracker.end(StoreId(3), at(11));
        let kept = tracker.kept();
        assert_eq!(kept, [(STORE, Kept { action: Action::Removing, target_mib: 1000.0, left_mib: 600.0 })]);
        let text = serde_json::to_string(&kept[0].1).unwrap();
        let mut next = Tracker::new();
        next.recall(STORE, &serde_json::from_str(&text).unwrap());
        let p = next.get(STORE).unwrap();
        assert!(close(p.progress, 0.4) && p.current_speed == 0.0, "{p:?}");
        next.removing(STORE, 600.0, at(3));
        assert_eq!(next.get(STORE).unwrap().current_speed, 0.0, "nobody knows how long nobody led");
        next.removing(STORE, 500.0, at(13));
        let p = next.get(STORE).unwrap();
        assert!(close(p.progress, 0.5) && p.current_speed == 10.0, "{p:?}");
        let broken = Kept { left_mib: f64::NAN, ..kept[0].1 };
        next.recall(StoreId(9), &broken);
        assert!(next.get(StoreId(9)).is_none());
    }

    #[test]
    fn a_store_that_is_filled_follows_its_target() {
        let mut tracker = Tracker::new();
        tracker.preparing(STORE, 0.0, 1000.0, at(0));
        tracker.preparing(STORE, 100.0, 1000.0, at(10));
        let p = tracker.get(STORE).unwrap();
        assert_eq!((p.action, p.current_speed, p.left_seconds), (Action::Preparing, 10.0, 90.0));
        assert!(close(p.progress, 0.1));
        tracker.preparing(STORE, 100.0, 400.0, at(20));
        assert!(close(tracker.get(STORE).unwrap().progress, 0.25));
    }
}
