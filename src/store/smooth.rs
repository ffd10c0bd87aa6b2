//! Smoothing of the free space that stores report, so that a compaction does not set balancing off.
//!
//! Owns: the average that PD's region score is computed from (a Hull moving average over sixty entries, thirty reports, five minutes).
//! Must not know: stores.

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
pub(super) struct HullAverage {
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
    /// Adds a report, bytes.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn add(&mut self, bytes: u64) {
        let value = bytes as f64;
        for _ in 0..ENTRIES {
            self.half.add(value);
            self.whole.add(value);
            self.root.add(2.0 * self.half.value() - self.whole.value());
        }
    }

    /// The average, bytes. It may overshoot after a jump; never below zero.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn value(&self) -> u64 {
        self.root.value().max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_value_is_its_own_average_from_the_first_report_on() {
        let mut average = HullAverage::default();
        assert_eq!(average.value(), 0);
        for _ in 0..200 {
            average.add(1_072_668_082_176);
            let off = average.value().abs_diff(1_072_668_082_176);
            assert!(off <= 1, "{off}");
        }
    }

    #[test]
    fn a_jump_is_followed_as_in_the_recorded_scale_in() {
        // The free space of store 2 in the recording; PD's score there implies that 8.4117 GiB were missing.
        let (capacity, full) = (1_u64 << 40, 30_198_988_800);
        let mut average = HullAverage::default();
        for used in [full; 11].into_iter().chain([96 << 20; 6]) {
            average.add(capacity - used);
        }
        let missing = (capacity - average.value()) as f64 / (1_u64 << 30) as f64;
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
        let mut average = HullAverage::default();
        for _ in 0..60 {
            average.add(1 << 40);
        }
        for _ in 0..60 {
            average.add(0);
            assert!(average.value() <= 1 << 40);
        }
        assert_eq!(average.value(), 0);
    }
}
