//! The kinds of schedulers, by PD's names.

use std::time::Duration;

use crate::scheduler::{checker::deny::Cause, outcome::ScheduleLimit};

/// A kind of scheduler that Berth runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Spreads leaders.
    BalanceLeader,
    /// Spreads peers.
    BalanceRegion,
    /// Spreads traffic.
    HotRegion,
    /// Takes leaders off stores.
    EvictLeader,
    /// Gathers leaders on stores.
    GrantLeader,
    /// Takes leaders off stores with a label property.
    Label,
    /// Moves leaders about, for tests.
    ShuffleLeader,
    /// Moves peers about, for tests.
    ShuffleRegion,
    /// Spreads the leaders and peers of one key range.
    ScatterRange,
    /// Takes leaders off a store that is slow.
    EvictSlowStore,
    /// Takes leaders off stores that are being shut down.
    EvictStoppingStore,
    /// Moves hot leaders about, for tests.
    ShuffleHotRegion,
    /// Gathers hot leaders on one store and hot peers on some.
    GrantHotRegion,
}

impl Kind {
    /// Every kind with its name in `schedulers-v2` and its name in the scheduler API.
    const NAMES: [(Kind, &'static str, &'static str); 13] = [
        (Kind::BalanceLeader, "balance-leader", "balance-leader-scheduler"),
        (Kind::BalanceRegion, "balance-region", "balance-region-scheduler"),
        (Kind::HotRegion, "hot-region", "balance-hot-region-scheduler"),
        (Kind::EvictLeader, "evict-leader", "evict-leader-scheduler"),
        (Kind::GrantLeader, "grant-leader", "grant-leader-scheduler"),
        (Kind::Label, "label", "label-scheduler"),
        (Kind::ShuffleLeader, "shuffle-leader", "shuffle-leader-scheduler"),
        (Kind::ShuffleRegion, "shuffle-region", "shuffle-region-scheduler"),
        (Kind::ScatterRange, "scatter-range", "scatter-range-scheduler"),
        (Kind::EvictSlowStore, "evict-slow-store", "evict-slow-store-scheduler"),
        (Kind::EvictStoppingStore, "evict-stopping-store", "evict-stopping-store-scheduler"),
        (Kind::ShuffleHotRegion, "shuffle-hot-region", "shuffle-hot-region-scheduler"),
        (Kind::GrantHotRegion, "grant-hot-region", "grant-hot-region-scheduler"),
    ];

    /// All of them.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Kind> {
        Self::NAMES.into_iter().map(|(kind, ..)| kind)
    }

    fn row(self) -> (&'static str, &'static str) {
        Self::NAMES.iter().find(|(kind, ..)| *kind == self).map_or(("", ""), |(_, short, name)| (short, name))
    }

    /// The name in `schedulers-v2`.
    pub fn short_name(self) -> &'static str {
        self.row().0
    }

    /// The name in the scheduler API: also the description of its operators. (A scheduler for a range adds the range's name.)
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The kind of this name in `schedulers-v2`.
    pub fn of_short_name(short: &str) -> Option<Kind> {
        Self::NAMES.iter().find(|(_, known, _)| *known == short).map(|(kind, ..)| *kind)
    }

    /// The kind of this name in the scheduler API.
    pub fn of_name(name: &str) -> Option<Kind> {
        Self::NAMES.iter().find(|(.., known)| *known == name).map(|(kind, ..)| *kind)
    }

    /// The limit under which its operators run: it is not asked while this leaves no room.
    pub fn limit(self) -> ScheduleLimit {
        match self {
            Kind::HotRegion => ScheduleLimit::HotRegion,
            Kind::BalanceRegion
            | Kind::ShuffleRegion
            | Kind::ScatterRange
            | Kind::ShuffleHotRegion
            | Kind::GrantHotRegion => ScheduleLimit::Region,
            Kind::BalanceLeader
            | Kind::EvictLeader
            | Kind::GrantLeader
            | Kind::Label
            | Kind::ShuffleLeader
            | Kind::EvictSlowStore
            | Kind::EvictStoppingStore => ScheduleLimit::Leader,
        }
    }

    /// Why its operators touch a region, for labels that may hold them; `None`: a person or a store's trouble asks, and no label
    /// holds it.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Kind::EvictLeader | Kind::GrantLeader | Kind::EvictSlowStore | Kind::EvictStoppingStore => None,
            Kind::BalanceLeader
            | Kind::BalanceRegion
            | Kind::HotRegion
            | Kind::Label
            | Kind::ShuffleLeader
            | Kind::ShuffleRegion
            | Kind::ShuffleHotRegion
            | Kind::GrantHotRegion => Some(Cause::Balance),
            Kind::ScatterRange => Some(Cause::Scatter),
        }
    }

    /// The shortest and the longest time between two looks (PD's numbers).
    pub fn intervals(self) -> (Duration, Duration) {
        match self {
            Kind::HotRegion | Kind::ShuffleHotRegion | Kind::GrantHotRegion => {
                (Duration::from_secs(1), Duration::from_secs(20))
            }
            _ => (Duration::from_millis(10), Duration::from_secs(5)),
        }
    }

    /// Whether PD keeps a diagnosis of it.
    pub fn has_diagnosis(self) -> bool {
        matches!(self, Kind::BalanceLeader | Kind::BalanceRegion)
    }
}
