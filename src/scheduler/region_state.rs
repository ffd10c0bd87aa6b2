//! What is unusual about a region: the lists of `/regions/check/*` and the counts of `pd_regions_status`.
//!
//! Owns: the flags and PD's names for them. Must not know: who counts or lists, repairs.

use super::view::ClusterView;
use crate::model::{Region, StoreState};

/// A region of at most this size (MiB) is empty.
const EMPTY_MIB: u64 = 1;
/// Sizes (MiB) and keys above which a region should have been split, when the nodes do not tell theirs (their defaults).
const OVERSIZED: (u64, u64) = (144, 1_440_000);

/// One thing that is unusual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flag {
    /// Fewer peers than the rules ask for.
    MissPeer,
    /// More peers than the rules ask for.
    ExtraPeer,
    /// A peer that its leader has lost touch with.
    DownPeer,
    /// A peer that lags behind.
    PendingPeer,
    /// A peer on a store that is being emptied.
    OfflinePeer,
    /// A peer without a vote.
    LearnerPeer,
    /// Hardly any data.
    Empty,
    /// Large enough to be split.
    Oversized,
    /// Small enough to be merged.
    Undersized,
}

/// A set of flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u16);

impl Flag {
    /// All flags.
    pub const ALL: [Flag; 9] = [
        Flag::MissPeer,
        Flag::ExtraPeer,
        Flag::DownPeer,
        Flag::PendingPeer,
        Flag::OfflinePeer,
        Flag::LearnerPeer,
        Flag::Empty,
        Flag::Oversized,
        Flag::Undersized,
    ];

    /// The value of label `type` in `pd_regions_status`.
    pub fn metric(self) -> &'static str {
        match self {
            Flag::MissPeer => "miss-peer-region-count",
            Flag::ExtraPeer => "extra-peer-region-count",
            Flag::DownPeer => "down-peer-region-count",
            Flag::PendingPeer => "pending-peer-region-count",
            Flag::OfflinePeer => "offline-peer-region-count",
            Flag::LearnerPeer => "learner-peer-region-count",
            Flag::Empty => "empty-region-count",
            Flag::Oversized => "oversized-region-count",
            Flag::Undersized => "undersized-region-count",
        }
    }

    /// The last part of the path under `/regions/check/`.
    pub fn route(self) -> &'static str {
        match self {
            Flag::MissPeer => "miss-peer",
            Flag::ExtraPeer => "extra-peer",
            Flag::DownPeer => "down-peer",
            Flag::PendingPeer => "pending-peer",
            Flag::OfflinePeer => "offline-peer",
            Flag::LearnerPeer => "learner-peer",
            Flag::Empty => "empty-region",
            Flag::Oversized => "oversized-region",
            Flag::Undersized => "undersized-region",
        }
    }
}

impl Flags {
    /// Whether `flag` is in the set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & 1 << flag as u16 != 0
    }

    /// Whether nothing is unusual.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags in the set.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.into_iter().filter(move |f| self.has(*f))
    }

    fn set(&mut self, flag: Flag, when: bool) {
        self.0 |= u16::from(when) << flag as u16;
    }
}

/// What is unusual about `region`.
pub fn flags(view: &ClusterView<'_>, region: &Region) -> Flags {
    let schedule = &view.settings.schedule;
    let mut flags = Flags::default();
    let rules = view.settings.placement().for_region(region);
    let wanted: u64 = rules.iter().map(|r| u64::from(r.count)).sum();
    let peers = region.peers().len() as u64;
    flags.set(Flag::MissPeer, peers < wanted);
    // A region across a rule border has no rules, which says nothing about its peers.
    flags.set(Flag::ExtraPeer, peers > wanted && !rules.is_empty());
    flags.set(Flag::DownPeer, !region.down.is_empty());
    flags.set(Flag::PendingPeer, !region.pending.is_empty());
    let is_offline = |s| view.stores.get(&s).is_some_and(|s| s.record.state == StoreState::Offline);
    flags.set(Flag::OfflinePeer, region.peers().iter().any(|p| is_offline(p.store)));
    flags.set(Flag::LearnerPeer, region.meta.learners().next().is_some());
    if region.size_known {
        flags.set(Flag::Empty, region.size_mib <= EMPTY_MIB);
        flags.set(Flag::Oversized, region.size_mib >= OVERSIZED.0 || region.keys >= OVERSIZED.1);
        flags.set(Flag::Undersized, is_mergeable(schedule, region));
    }
    flags
}

/// Whether both size and keys are below what merging takes; 0 for the keys means ten thousand for each MiB (PD).
fn is_mergeable(schedule: &crate::config::ScheduleConfig, region: &Region) -> bool {
    let keys = match schedule.max_merge_region_keys {
        0 => schedule.max_merge_region_size.saturating_mul(10_000),
        keys => keys,
    };
    region.size_mib <= schedule.max_merge_region_size && region.keys <= keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{DownPeer, PeerId, Role},
        scheduler::testing::World,
    };

    fn flags_of(world: &mut World, region: &Region) -> Vec<Flag> {
        let mut found = Vec::new();
        world.with_view(|view, _, _, _| found = flags(view, region).iter().collect());
        found
    }

    #[test]
    fn each_flag_tells_one_thing() {
        let mut world = World::new(5);
        assert_eq!(flags_of(&mut world, &World::region(1, &[1, 2, 3])), []);
        assert_eq!(flags_of(&mut world, &World::region(1, &[1, 2])), [Flag::MissPeer]);
        assert_eq!(flags_of(&mut world, &World::region(1, &[1, 2, 3, 4])), [Flag::ExtraPeer]);
        let mut r = World::region(1, &[1, 2, 3]);
        r.down = vec![DownPeer { peer: PeerId(12), seconds: 5 }];
        r.pending = vec![PeerId(13)];
        assert_eq!(flags_of(&mut world, &r), [Flag::DownPeer, Flag::PendingPeer]);
        let mut r = World::region(1, &[1, 2, 3]);
        std::sync::Arc::make_mut(&mut r.meta).peers[2].role = Role::Learner;
        r.size_mib = 1;
        assert_eq!(flags_of(&mut world, &r), [Flag::LearnerPeer, Flag::Empty, Flag::Undersized]);
        r.size_known = false;
        assert_eq!(flags_of(&mut world, &r), [Flag::LearnerPeer], "an unknown size is not an empty region");
        world.set_state(3, StoreState::Offline);
        let mut r = World::region(1, &[1, 2, 3]);
        r.size_mib = 500;
        assert_eq!(flags_of(&mut world, &r), [Flag::OfflinePeer, Flag::Oversized]);
        assert_eq!((Flag::MissPeer.metric(), Flag::MissPeer.route()), ("miss-peer-region-count", "miss-peer"));
    }
}
