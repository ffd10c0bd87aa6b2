//! Buckets of regions: kept with the region, so that they leave with it.

use std::sync::Arc;

use super::RegionIndex;
use crate::model::{Region, RegionId, bucket::Buckets};

/// What a report of buckets came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BucketReport {
    /// No such region.
    Unknown,
    /// Of an older version than those that are there: nothing has changed.
    Stale,
    /// The borders are as before; the traffic is new.
    SameBorders,
    /// They are there now.
    Taken,
}

impl RegionIndex {
    /// Takes the buckets of a region in.
    pub fn put_buckets(&self, id: RegionId, buckets: Buckets) -> BucketReport {
        let Some(slot) = self.ids.get(id) else { return BucketReport::Unknown };
        let mut state = slot.lock();
        if state.home.is_none() {
            return BucketReport::Unknown;
        }
        let before = state.region.buckets();
        let same = match before {
            Some(old) if buckets.version < old.version => return BucketReport::Stale,
            Some(old) => buckets.version == old.version,
            None => false,
        };
        let buckets = Arc::new(buckets.after(before.map(|b| &**b)));
        let mut region = Region::clone(&state.region);
        region.rare.get_or_insert_default().buckets = Some(buckets);
        state.region = Arc::new(region);
        if same { BucketReport::SameBorders } else { BucketReport::Taken }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{Epoch, KeyRange, Peer, PeerId, RegionMeta};

    fn region(version: u64) -> Region {
        let meta = RegionMeta {
            id: RegionId(2),
            range: KeyRange::new(&b"a"[..], &b"m"[..]),
            epoch: Epoch::new(1, version),
            peers: vec![Peer::voter(3, 1)],
        };
        Region { meta: Arc::new(meta), leader: Some(PeerId(3)), size_mib: 10, ..Region::default() }
    }

    #[test]
    fn buckets_stay_with_their_region_and_never_get_older() {
        let index = RegionIndex::default();
        let buckets = |version| Buckets { version, ..Buckets::default() };
        assert_eq!(index.put_buckets(RegionId(2), buckets(1)), BucketReport::Unknown);
        index.apply(region(2)).unwrap();
        assert_eq!(index.put_buckets(RegionId(2), buckets(5)), BucketReport::Taken);
        assert_eq!(index.put_buckets(RegionId(2), buckets(4)), BucketReport::Stale);
        assert_eq!(index.put_buckets(RegionId(2), buckets(5)), BucketReport::SameBorders);
        // A heartbeat tells none, and takes none away.
        index.apply(region(3)).unwrap();
        let kept = index.get(RegionId(2)).unwrap();
        assert_eq!((kept.buckets().unwrap().version, kept.epoch().version), (5, 3));
        index.remove(RegionId(2));
        index.apply(region(4)).unwrap();
        assert!(index.get(RegionId(2)).unwrap().buckets().is_none());
    }
}
