//! Latencies in few bytes: a histogram with exact buckets for small values and 128 a power of two above.
//!
//! Owns: recording and quantiles, at most 1 % off. Must not know what is measured.

use std::time::Duration;

/// Bits of precision: 128 buckets a power of two, so that a value is at most 1/128 off.
const BITS: u32 = 7;
/// Buckets of one power of two.
const SUB: usize = 1 << BITS;
/// All buckets: values below 128 one each, then 128 for each of the 57 powers up to 2^64.
const BUCKETS: usize = SUB * (64 - BITS as usize + 1);

/// Durations in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Records one duration.
    pub fn record(&mut self, duration: Duration) {
        let value = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// Adds all that another one holds.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The mean; zero when nothing was recorded.
    pub fn mean(&self) -> Duration {
        let mean = self.sum.checked_div(u128::from(self.total)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The smallest duration that at least the share `q` (0 to 1) of all do not exceed; zero when nothing was recorded.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((q.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(at).min(self.max));
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros();
    let sub = (value >> (power - BITS)) as usize & (SUB - 1);
    (power - BITS + 1) as usize * SUB + sub
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let power = (bucket / SUB - 1) as u32;
    let low = ((SUB + bucket % SUB) as u64) << power;
    low + ((1_u64 << power) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_recorded_is_zero() {
        let h = Histogram::default();
        assert_eq!(
            (h.count(), h.quantile(0.99), h.mean(), h.max()),
            (0, Duration::ZERO, Duration::ZERO, Duration::ZERO)
        );
    }

    #[test]
    fn the_ends_of_the_scale_have_buckets() {
        for value in [0, 1, 127, 128, 129, 255, 256, u64::MAX - 1, u64::MAX] {
            assert!(bucket(value) < BUCKETS && highest(bucket(value)) >= value, "{value}");
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_list(
            mut values in prop::collection::vec(0_u64..10_000_000_000, 1..400),
            q in 0.0_f64..=1.0
        ) {
            let (mut a, mut b) = (Histogram::default(), Histogram::default());
            for (i, v) in values.iter().enumerate() {
                if i % 2 == 0 { &mut a } else { &mut b }.record(Duration::from_nanos(*v));
            }
            a.merge(&b);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let found = a.quantile(q).as_nanos() as u64;
            prop_assert!(found >= exact && found - exact <= exact / 128 + 1, "{} for {}", found, exact);
            prop_assert_eq!(a.max().as_nanos() as u64, values[values.len() - 1]);
            prop_assert_eq!(a.count(), values.len() as u64);
        }
    }
}
