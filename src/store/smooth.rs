//! Smoothing of the free space that stores report, so that a compaction does not set balancing off.
//!
//! Owns: the average that PD's region score is computed from (a Hull moving average over sixty entries, thirty reports, five minutes),
//! of the free space and of what had come to the store by then. Must not know: stores.

use std::collections::VecDeque;

/// Entries that count.
const WINDOW: usize = 60;
/// Entries that one report makes: PD takes each report in twice, and its scores are known so.
const ENTRIES: usize = 2;

/// A moving average in which the newest value weighs most: `size`, the one before it `size - 1`, and so on.
#[derive(Clone, Debug)]
struct WeightedAverage {
    size: usize,
    values: VecDeque<f64>,
}

impl WeightedAverage {
    fn new(size: usize) -> Self {
        Self { size, values: VecDeque::with_capacity(size) }
    }

    fn add(&mut self, value: f64) {
        if self.values.len() == self.size {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    fn value(&self) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (age, value) in self.values.iter().rev().enumerate() {
            #[allow(clippy::cast_precision_loss)]
            let weight = (self.size - age) as f64;
            sum += value * weight;
            weights += weight;
        }
        if weights > 0.0 { sum / weights } else { 0.0 }
    }
}

/// A Hull moving average: follows a trend without lagging behind it as a plain average does.
#[derive(Clone, Debug)]
struct HullAverage {
    half: WeightedAverage,
    whole: WeightedAverage,
    root: WeightedAverage,
}

impl Default for HullAverage {
    fn default() -> Self {
        Self {
            half: WeightedAverage::new(WINDOW / 2),
            whole: WeightedAverage::new(WINDOW),
            root: WeightedAverage::new(WINDOW.isqrt()),
        }
    }
}

impl HullAverage {
    /// Adds a value.
    fn add(&mut self, value: f64) {
        for _ in 0..ENTRIES {
            self.half.add(value);
            self.whole.add(value);
            self.root.add(2.0 * self.half.value() - self.whole.value());
        }
    }

    /// The average. It may overshoot after a jump.
    fn value(&self) -> f64 {
        self.root.value()
    }
}

/// The free space of a store without sudden jumps, and how old a state of the store that is: both are averages over the same
/// reports, so that what moved since can be reckoned in.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    available: HullAverage,
    moved: HullAverage,
}

impl Space {
    /// Adds a report: free bytes, and what had come to the store by then less what had gone, MiB.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn add(&mut self, available: u64, moved_mib: i64) {
        self.available.add(available as f64);
        self.moved.add(moved_mib as f64);
    }

    /// Free bytes, never below zero.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn available(&self) -> u64 {
        self.available.value().max(0.0) as u64
    }

    /// What had come to the store by the time of that, MiB.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn moved_mib(&self) -> i64 {
        self.moved.value().round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_value_is_its_own_average_from_the_first_report_on() {
        let mut space = Space::default();
        assert_eq!((space.available(), space.moved_mib()), (0, 0));
        for _ in 0..200 {
            space.add(1_072_668_082_176, -123_456_789);
            let off = space.available().abs_diff(1_072_668_082_176);
            assert!(off <= 1, "{off}");
            assert_eq!(space.moved_mib(), -123_456_789);
        }
    }

    #[test]
    fn a_jump_is_followed_as_in_the_recorded_scale_in() {
        // The free space of store 2 in the recording; PD's score there implies that 8.4117 GiB were missing.
        let (capacity, full) = (1_u64 << 40, 30_198_988_800);
        let mut space = Space::default();
        for used in [full; 11].into_iter().chain([96 << 20; 6]) {
            space.add(capacity - used, 0);
        }
        let missing = (capacity - space.available()) as f64 / (1_u64 << 30) as f64;
        assert!((missing - 8.4117).abs() < 1e-4, "{missing}");
    }

    #[test]
    fn weights_fall_by_one_with_age() {
        let mut average = WeightedAverage::new(3);
        average.add(1.0);
        average.add(2.0);
        assert!((average.value() - (2.0 * 3.0 + 1.0 * 2.0) / 5.0).abs() < 1e-12);
        average.add(4.0);
        average.add(8.0);
        assert!((average.value() - (8.0 * 3.0 + 4.0 * 2.0 + 2.0) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_fall_to_nothing_never_reads_below_zero() {
        let mut space = Space::default();
        for _ in 0..60 {
            space.add(1 << 40, 0);
        }
        for _ in 0..60 {
            space.add(0, 0);
            assert!(space.available() <= 1 << 40);
        }
        assert_eq!(space.available(), 0);
    }

    #[test]
    fn both_averages_are_of_the_same_age() {
        // A store of which half goes away while it reports, at one byte a MiB.
        let mut space = Space::default();
        for at in 0..60_i64 {
            let moved = -at.clamp(20, 40) * 1000;
            space.add((1_000_000 - moved).unsigned_abs(), moved);
            let off = (1_000_000 - space.moved_mib()).unsigned_abs().abs_diff(space.available());
            assert!(off <= 1, "report {at}: {off}");
        }
    }
}
