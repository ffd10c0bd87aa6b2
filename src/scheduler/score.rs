//! How full a store is, as one number: what balancing and target choice compare.
//!
//! Owns: PD's region score (formulas v1 and v2) and leader score, and what is reckoned in between two reports of a store. Must not
//! know: which store is compared with which.

use std::cmp::Ordering;

use crate::{config::ScheduleConfig, store::StoreInfo};

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

/// The most bytes of disk that a byte of regions is reckoned to take: what a store uses beyond that is taken for its own (logs),
/// and neither comes nor goes with regions.
const MOST_DISK_A_BYTE: f64 = 2.0;

/// The disk of a store, bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Space {
    capacity: f64,
    available: f64,
    /// What is available, without sudden jumps: what v2 uses, because free space jumps with compactions.
    steady: f64,
    used: f64,
}

impl Space {
    /// As the store told it: what outsiders see scored.
    pub fn reported(store: &StoreInfo) -> Self {
        let stats = &store.stats;
        Self {
            capacity: stats.capacity as f64,
            available: stats.available as f64,
            steady: store.avg_available as f64,
            used: stats.used_size as f64,
        }
    }

    /// As it is by now, when the store holds regions of `size_mib` and `moved_mib` have come to it so far
    /// (see [`crate::store::RegionIndex::moved_mib`]).
    ///
    /// A store tells its free space each ten seconds, and the average of that is minutes old, while regions count for where they are
    /// at once. Where free space decides, a full store would go on giving until its reports have caught up, and get back what was too
    /// much from the ones that it filled, for ever.
    pub fn now(store: &StoreInfo, size_mib: u64, moved_mib: i64) -> Self {
        let told = Self::reported(store);
        let since = |then: i64| moved_mib.saturating_sub(then) as f64 * MIB;
        let (last, mean) = (since(store.moved_mib), since(store.avg_moved_mib));
        let size = (size_mib as f64 * MIB - last).max(0.0);
        let used = told.used.min(MOST_DISK_A_BYTE * size);
        let ratio = if size > 0.0 { used / size } else { 1.0 };
        // v2 leaves the space of a disk that is free altogether out of account: a small one would score least while it is empty, and
        // most as soon as it is not.
        let most = (told.capacity - MIB).max(0.0);
        Self {
            capacity: told.capacity,
            available: (told.available - last * ratio).max(0.0),
            steady: (told.steady - mean * ratio).clamp(0.0, most),
            used: (used + last * ratio).max(0.0),
        }
    }

    /// The same disk, with only `part_mib` of the `size_mib` there looked at.
    #[must_use]
    pub fn of_part(self, part_mib: u64, size_mib: u64) -> Self {
        let share = if size_mib == 0 { 0.0 } else { part_mib as f64 / size_mib as f64 };
        Self { used: self.used * share, ..self }
    }
}

/// The region score of a store that holds regions of `size_mib`, if `delta_mib` were added (or, below 0, taken away). Lower is
/// emptier.
pub fn region_score(config: &ScheduleConfig, space: Space, weight: f64, size_mib: u64, delta_mib: i64) -> f64 {
    let score = if config.region_score_formula_version == "v2" {
        score_v2(space, config.low_space_ratio, size_mib as f64, delta_mib as f64)
    } else {
        score_v1(space, config.high_space_ratio, config.low_space_ratio, size_mib as f64, delta_mib as f64)
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

fn score_v2(space: Space, low_space_ratio: f64, size: f64, delta: f64) -> f64 {
    let capacity = space.capacity / GIB;
    let mut available = space.steady / GIB;
    let regions = (size + delta).max(0.0);
    if size != 0.0 {
        // PD takes what is available now where nothing would be left, or all: there more data would score lower.
        available = (available - space.used / GIB * (delta / size).max(-1.0)).clamp(0.0, capacity.max(available));
    }
    let reserve = MIN_RESERVE_GIB.max(capacity * (1.0 - low_space_ratio));
    if space.steady >= space.capacity || capacity < 1.0 {
        regions
    } else if available > reserve {
        let spent = capacity - available + reserve - 1.0;
        (1.0 + SPACE_WEIGHT * (capacity.ln() - (available - reserve + 1.0).ln()) / spent) * regions
    } else {
        (1.0 + SPACE_WEIGHT * capacity.ln() / capacity) * regions + FULL_V2 * (reserve - available) / reserve
    }
}

fn score_v1(space: Space, high_space_ratio: f64, low_space_ratio: f64, size: f64, delta: f64) -> f64 {
    let (capacity, available, used) = (space.capacity / MIB, space.available / MIB, space.used / MIB);
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
    use crate::model::StoreStats;

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

    fn store(capacity: u64, available: u64, used_size: u64) -> StoreInfo {
        let mut store = StoreInfo::default();
        store.stats = StoreStats { capacity, available, used_size, ..StoreStats::default() }.into();
        store.avg_available = available;
        store
    }

    fn space(capacity: u64, available: u64, used_size: u64) -> Space {
        Space::reported(&store(capacity, available, used_size))
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
            let score = region_score(&config, space(TIB, available, used), 1.0, size, 0);
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
                let score = region_score(&config, space(TIB, TIB - used, used), 1.0, used >> 20, 0);
                assert!(score >= last && score.is_finite(), "{version} at {percent} %");
                last = score;
            }
        }
    }

    #[test]
    fn what_is_added_raises_the_score_and_weight_lowers_it() {
        let config = ScheduleConfig::default();
        let half = space(TIB, TIB / 2, TIB / 2);
        let score = |weight, delta| region_score(&config, half, weight, 400_000, delta);
        assert!(score(1.0, 96) > score(1.0, 0) && score(1.0, -96) < score(1.0, 0));
        assert!((score(2.0, 0) * 2.0 - score(1.0, 0)).abs() < 1e-6);
        assert!(score(0.0, 0).is_finite());
        assert!(region_score(&config, space(0, 0, 0), 1.0, 5, -10).is_finite(), "a store that reported nothing");
    }

    #[test]
    fn a_larger_change_never_scores_lower_however_little_is_left() {
        for version in ["v1", "v2"] {
            let config = ScheduleConfig { region_score_formula_version: version.into(), ..ScheduleConfig::default() };
            for (capacity, used) in [(30, 29), (30, 5), (120, 100), (1024, 300)] {
                let disk = space(capacity << 30, (capacity - used) << 30, used << 30);
                let scores = (-40..40).map(|gib| region_score(&config, disk, 1.0, used << 10, gib << 10));
                let scores: Vec<_> = scores.collect();
                assert!(scores.is_sorted(), "{version}, {used} of {capacity} GiB: {scores:?}");
            }
        }
    }

    #[test]
    fn what_moved_since_the_report_counts_as_if_it_had_been_reported() {
        let gib = |n: u64| n << 30;
        // 10 GiB of regions take 4 GiB; a half of them has gone, or as much has come.
        for (moved, size) in [(-5120, 5120), (5120, 15360)] {
            let mut told = store(gib(60), gib(40), gib(4));
            (told.moved_mib, told.avg_moved_mib) = (7, 7);
            let then = store(gib(60), gib(40) - gib(4) * size / 10240 + gib(4), gib(4) * size / 10240);
            let config = ScheduleConfig::default();
            let score = |space, delta| region_score(&config, space, 1.0, size, delta);
            for delta in [-96, 0, 96] {
                let (now, later) =
                    (score(Space::now(&told, size, 7 + moved), delta), score(Space::reported(&then), delta));
                assert!((now / later - 1.0).abs() < 1e-9, "{now} and {later}");
            }
            let steady = Space::now(&told, size, 7);
            assert!((score(steady, 0) - score(Space::reported(&told), 0)).abs() < 1e-3, "nothing moved");
        }
        // An empty small disk scores as one that holds hardly anything, and shows what PD shows.
        let config = ScheduleConfig::default();
        let (empty, bit) = (store(gib(30), gib(30), 0), store(gib(30), gib(30) - (1 << 20), 1 << 20));
        let score = |space, size| region_score(&config, space, 1.0, size, 0);
        assert_eq!(score(Space::reported(&empty), 0), 0.0);
        assert!((score(Space::now(&empty, 0, 0), 0) / score(Space::now(&bit, 1, 0), 1) - 1.0).abs() < 1e-3);
        // A store that holds hardly anything uses its disk for itself.
        let fresh = store(gib(60), gib(59), gib(1));
        let few = Space::now(&fresh, 97, 96);
        assert!(few.steady > (gib(59) - (200 << 20)) as f64, "{few:?}");
        assert_eq!(few.of_part(97, 97).used, few.used);
        assert_eq!((few.of_part(0, 97).used, few.of_part(0, 0).used), (0.0, 0.0));
    }
}
