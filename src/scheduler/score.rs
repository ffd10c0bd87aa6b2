//! How full a store is, as one number: what balancing and target choice compare.
//!
//! Owns: PD's region score (formulas v1 and v2) and leader score. Must not know: which store is compared with which.

use std::cmp::Ordering;

use crate::{config::ScheduleConfig, model::StoreStats};

/// A score that can be ordered: two stores always compare, and always the same way. Lower is emptier.
#[derive(Clone, Copy, Debug)]
pub struct Score(f64);

impl Score {
    /// From a number; what is none counts as nothing.
    pub fn new(points: f64) -> Self {
        Self(if points.is_nan() { 0.0 } else { points })
    }

    /// The number.
    pub fn points(self) -> f64 {
        self.0
    }

    /// As operators show it.
    pub fn text(self) -> String {
        format!("{:.2}", self.0)
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

/// A weight of nothing would make the score infinite (PD's floor).
const MIN_WEIGHT: f64 = 1e-6;
/// v1: the score of a store without space, in MiB (PD's number: 1 PiB).
const FULL_V1: f64 = 1024.0 * 1024.0 * 1024.0;
/// v2: how strongly missing space weighs while there is plenty (PD's experience value).
const SPACE_WEIGHT: f64 = 256.0;
/// v2: the space in GiB below which a store counts as nearly full, at the least.
const MIN_RESERVE_GIB: f64 = 50.0;
/// v2: what the last of the reserve is worth.
const FULL_V2: f64 = 1e10;

/// The region score of a store that holds regions of `size_mib`, if `delta_mib` were added (or, below 0, taken away). Lower is
/// emptier. `available` is the smoothed free space in bytes, for v2: free space jumps with compactions.
pub fn region_score(
    config: &ScheduleConfig,
    stats: &StoreStats,
    available: u64,
    weight: f64,
    size_mib: u64,
    delta_mib: i64,
) -> f64 {
    let score = if config.region_score_formula_version == "v2" {
        score_v2(stats, available, config.low_space_ratio, size_mib as f64, delta_mib as f64)
    } else {
        score_v1(stats, config.high_space_ratio, config.low_space_ratio, size_mib as f64, delta_mib as f64)
    };
    score / weight.max(MIN_WEIGHT)
}

/// The leader score of a store by `schedule.leader-schedule-policy`: leaders counted, or their size in MiB.
pub fn leader_score(policy: &str, count: u64, size_mib: u64, weight: f64, delta: i64) -> f64 {
    let base = match policy {
        "size" => size_mib as f64,
        "count" => count as f64,
        _ => return 0.0,
    };
    (base + delta as f64) / weight.max(MIN_WEIGHT)
}

fn score_v2(stats: &StoreStats, available: u64, low_space_ratio: f64, size: f64, delta: f64) -> f64 {
    let capacity = stats.capacity as f64 / GIB;
    let mut available = available as f64 / GIB;
    let mut used = stats.used_size as f64 / GIB;
    // Files that are not the store's own take the rest.
    let foreign = capacity - available - used;
    let regions = if size + delta < 0.0 { size } else { size + delta };
    if size != 0.0 {
        used += used * delta / size;
        let then = capacity - used - foreign;
        if then > 0.0 && then < capacity {
            available = then;
        }
    }
    let reserve = MIN_RESERVE_GIB.max(capacity * (1.0 - low_space_ratio));
    if available >= capacity || capacity < 1.0 {
        regions
    } else if available > reserve {
        let spent = capacity - available + reserve - 1.0;
        (1.0 + SPACE_WEIGHT * (capacity.ln() - (available - reserve + 1.0).ln()) / spent) * regions
    } else {
        (1.0 + SPACE_WEIGHT * capacity.ln() / capacity) * regions + FULL_V2 * (reserve - available) / reserve
    }
}

fn score_v1(stats: &StoreStats, high_space_ratio: f64, low_space_ratio: f64, size: f64, delta: f64) -> f64 {
    let capacity = stats.capacity as f64 / MIB;
    let available = stats.available as f64 / MIB;
    let used = stats.used_size as f64 / MIB;
    // How many MiB of regions one MiB of disk holds (compression).
    let ratio = if size == 0.0 || used == 0.0 { 1.0 } else { size / used };
    let high = (1.0 - high_space_ratio) * capacity;
    let low = (1.0 - low_space_ratio) * capacity;
    let then = available - delta / ratio;
    if then >= high {
        size + delta
    } else if then <= low {
        FULL_V1 - then
    } else {
        // A straight line between the two regimes, so that the score has no jump.
        let (x1, x2) = ((used + available - high) * ratio, (used + available - low) * ratio);
        let (y1, y2) = (x1, FULL_V1 - low);
        let slope = (y2 - y1) / (x2 - x1);
        slope * (size + delta) + y1 - slope * x1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIB: u64 = 1 << 40;

    /// Available bytes and used bytes of the stub's stores 1 to 6, all of 1 TiB.
    const STUB: [(u64, u64); 6] = [
        (1_072_668_082_176, 22_548_578_304),
        (1_071_594_340_352, 23_622_320_128),
        (1_070_520_598_528, 24_696_061_952),
        (1_069_446_856_704, 25_769_803_776),
        (1_068_373_114_880, 26_843_545_600),
        (1_067_299_373_056, 27_917_287_424),
    ];

    fn stats(capacity: u64, available: u64, used_size: u64) -> StoreStats {
        StoreStats { capacity, available, used_size, ..StoreStats::default() }
    }

    #[test]
    fn the_scores_are_those_that_pd_gave() {
        let config = ScheduleConfig::default();
        for (store, size, wanted) in [
            (1, 683, 876.2484213992632),
            (2, 1172, 1503.8062595225038),
            (3, 683, 876.4815914764133),
            (4, 1076, 1380.9955311687131),
            (4, 980, 1257.7840339640695),
            (5, 1461, 1875.3753874365123),
            (6, 96, 123.2444330284101),
            (1, 779, 999.4107178184861),
        ] {
            let (available, used) = STUB[store - 1];
            let score = region_score(&config, &stats(TIB, available, used), available, 1.0, size, 0);
            assert!((score / wanted - 1.0).abs() < 1e-6, "store {store}: {score} is not {wanted}");
        }
        assert_eq!(leader_score("count", 6, 490, 1.0, 0), 6.0);
        assert_eq!(leader_score("size", 6, 490, 2.0, 10), 250.0);
    }

    #[test]
    fn more_data_and_less_space_never_score_lower() {
        for version in ["v1", "v2"] {
            let config = ScheduleConfig { region_score_formula_version: version.into(), ..ScheduleConfig::default() };
            let mut last = 0.0;
            for percent in 1..100u64 {
                let used = TIB / 100 * percent;
                let score = region_score(&config, &stats(TIB, TIB - used, used), TIB - used, 1.0, used >> 20, 0);
                assert!(score >= last && score.is_finite(), "{version} at {percent} %");
                last = score;
            }
        }
    }

    #[test]
    fn what_is_added_raises_the_score_and_weight_lowers_it() {
        let config = ScheduleConfig::default();
        let s = stats(TIB, TIB / 2, TIB / 2);
        let score = |weight, delta| region_score(&config, &s, TIB / 2, weight, 400_000, delta);
        assert!(score(1.0, 96) > score(1.0, 0) && score(1.0, -96) < score(1.0, 0));
        assert!((score(2.0, 0) * 2.0 - score(1.0, 0)).abs() < 1e-6);
        assert!(score(0.0, 0).is_finite());
        assert!(
            region_score(&config, &StoreStats::default(), 0, 1.0, 5, -10).is_finite(),
            "a store that reported nothing"
        );
    }
}
