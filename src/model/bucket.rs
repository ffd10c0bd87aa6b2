//! Buckets: the parts that a node cuts a region into, with the traffic of each.
//!
//! Owns: [`Buckets`] and how hot each is, as PD counts it. Must not know: the region's own epoch, who asks.

use super::Key;

/// How hot a bucket can get; the other way it goes as far.
const MAX_DEGREE: i32 = 20;
/// Bytes read a second from which a bucket is hot, when its keys are too; PD's numbers, as the three that follow.
const HOT_READ_BYTES: u64 = 8 << 10;
const HOT_READ_KEYS: u64 = 128;
const HOT_WRITE_BYTES: u64 = 1 << 10;
const HOT_WRITE_KEYS: u64 = 32;

/// One bucket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// Bytes read in the period.
    pub read_bytes: u64,
    /// Bytes written in the period.
    pub write_bytes: u64,
    /// Reads in the period.
    pub read_qps: u64,
    /// Writes in the period.
    pub write_qps: u64,
    /// Keys read in the period.
    pub read_keys: u64,
    /// Keys written in the period.
    pub write_keys: u64,
    /// For how many reports it has been hot, less those for which it was not.
    pub hot_degree: i32,
}

/// All buckets of a region, as its leader last reported them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Buckets {
    /// Grows when the borders change.
    pub version: u64,
    /// Milliseconds that the traffic is of.
    pub period_ms: u64,
    /// Borders, one more than there are buckets; the first and the last are those of the region.
    pub keys: Vec<Key>,
    /// The buckets in order.
    pub buckets: Vec<Bucket>,
}

impl Buckets {
    /// What was counted in the period, a second.
    pub fn a_second(&self, count: u64) -> u64 {
        let each = u128::from(count) * 1000 / u128::from(self.period_ms.max(1));
        u64::try_from(each).unwrap_or(u64::MAX)
    }

    /// Each bucket with its borders.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Key, &Bucket)> {
        self.keys.windows(2).zip(&self.buckets).map(|(ends, bucket)| (&ends[0], &ends[1], bucket))
    }

    fn is_hot(&self, bucket: &Bucket) -> bool {
        let above = |count, least| self.a_second(count) > least;
        above(bucket.read_bytes, HOT_READ_BYTES) && above(bucket.read_keys, HOT_READ_KEYS)
            || above(bucket.write_bytes, HOT_WRITE_BYTES) && above(bucket.write_keys, HOT_WRITE_KEYS)
    }

    /// Counts how long each has been hot: on from the buckets before whose keys it shares, from the hottest of them, or from the coldest when
    /// none is hot.
    #[must_use]
    pub fn after(mut self, before: Option<&Buckets>) -> Self {
        let mut degrees = Vec::with_capacity(self.buckets.len());
        for (start, end, bucket) in self.iter() {
            let shared = before
                .into_iter()
                .flat_map(Buckets::iter)
                .filter(|(from, to, _)| (end.is_empty() || *from < end) && (to.is_empty() || *to > start));
            let shared: Vec<i32> = shared.map(|(.., old)| old.hot_degree).collect();
            let hottest = shared.iter().copied().max().unwrap_or(0);
            let degree = if hottest > 0 { hottest } else { shared.into_iter().min().unwrap_or(0) };
            let step = if self.is_hot(bucket) { 1 } else { -1 };
            degrees.push((degree + step).clamp(-MAX_DEGREE, MAX_DEGREE));
        }
        for (bucket, degree) in self.buckets.iter_mut().zip(degrees) {
            bucket.hot_degree = degree;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(keys: &[&str], read: &[u64]) -> Buckets {
        let bucket = |keys: &u64| Bucket { read_bytes: 1 << 30, read_keys: *keys, ..Bucket::default() };
        Buckets {
            version: 1,
            period_ms: 10_000,
            keys: keys.iter().map(|k| Key::from(k.as_bytes())).collect(),
            buckets: read.iter().map(bucket).collect(),
        }
    }

    fn degrees(buckets: &Buckets) -> Vec<i32> {
        buckets.buckets.iter().map(|b| b.hot_degree).collect()
    }

    #[test]
    fn heat_goes_on_from_the_buckets_before() {
        let mut now = buckets(&["a", "g", "m"], &[2000, 10]).after(None);
        assert_eq!(degrees(&now), [1, -1]);
        for _ in 0..30 {
            now = buckets(&["a", "g", "m"], &[2000, 10]).after(Some(&now));
        }
        assert_eq!(degrees(&now), [MAX_DEGREE, -MAX_DEGREE]);
        // The borders move: what lies over a hot one and a cold one goes on from the hot one.
        let moved = buckets(&["a", "d", "j", "m"], &[10, 10, 2000]).after(Some(&now));
        assert_eq!(degrees(&moved), [MAX_DEGREE - 1, MAX_DEGREE - 1, 1 - MAX_DEGREE]);
        assert_eq!(degrees(&buckets(&["", ""], &[10]).after(Some(&now))), [MAX_DEGREE - 1]);
    }

    #[test]
    fn traffic_is_told_a_second() {
        let buckets = buckets(&["a", "b"], &[1]);
        assert_eq!(buckets.a_second(1_048_576), 104_857);
        assert_eq!(Buckets { period_ms: 0, ..buckets }.a_second(u64::MAX), u64::MAX);
    }
}
