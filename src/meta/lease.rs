//! Whether this member may act as leader at this instant.
//!
//! Raft's leadership alone does not say so: a paused process believes in it for a while after others have elected another. A lease is a
//! stamp of the monotonic clock that a quorum has confirmed afterwards (read index), plus the time for which its members vote for nobody
//! else, minus drift.
//! In a group of one nobody else can be elected, and it is held as long as the member leads.
//!
//! Owns: that arithmetic. Must not know: raft's messages, clocks.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::model::Mono;

/// No lease. Also the value at the very start of the monotonic clock, when none can have been granted yet.
const NONE: u64 = 0;

/// Held while leading.
const UNBOUNDED: u64 = u64::MAX;

/// Share of that time that clocks of two members may drift apart in it: one part in so many.
const DRIFT_SHARE: u32 = 10;

/// The lease of this member. Reading it takes no lock.
#[derive(Debug, Default)]
pub(super) struct Lease {
    until: AtomicU64,
}

impl Lease {
    /// Whether it is held at `now`. To be asked again before an answer leaves.
    pub(super) fn held(&self, now: Mono) -> bool {
        match self.until.load(Ordering::Acquire) {
            NONE => false,
            UNBOUNDED => true,
            until => now.0 < until,
        }
    }

    /// A group of one has elected itself.
    pub(super) fn grant_alone(&self) {
        self.until.store(UNBOUNDED, Ordering::Release);
    }

    /// A quorum has confirmed the leader after `stamp`, and votes for nobody else for the time of `promise`. An older confirmation that
    /// comes late changes nothing.
    pub(super) fn confirm(&self, stamp: Mono, promise: Duration) {
        self.until.fetch_max(until(stamp, promise), Ordering::AcqRel);
    }

    /// The group has other voters from here on. None of them was asked yet, but nobody is elected without this member's vote.
    pub(super) fn bound(&self, now: Mono, promise: Duration) {
        // Anything else is a lease with an end, or none.
        _ = self.until.compare_exchange(UNBOUNDED, until(now, promise), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// It ends now: leadership was lost or is being handed over.
    pub(super) fn revoke(&self) {
        self.until.store(NONE, Ordering::Release);
    }
}

fn until(stamp: Mono, promise: Duration) -> u64 {
    stamp.plus(promise.saturating_sub(promise / DRIFT_SHARE)).0.clamp(NONE + 1, UNBOUNDED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_before_another_can_be_elected() {
        let (lease, stamp, election) = (Lease::default(), Mono(5_000_000_000), Duration::from_secs(3));
        assert!(!lease.held(stamp));
        lease.confirm(stamp, election);
        assert!(lease.held(stamp.plus(Duration::from_millis(2699))));
        assert!(!lease.held(stamp.plus(Duration::from_millis(2700))));
        lease.confirm(Mono(0), election);
        assert!(lease.held(stamp.plus(Duration::from_millis(2699))), "a late confirmation does not shorten it");
        lease.revoke();
        assert!(!lease.held(stamp));
        lease.grant_alone();
        assert!(lease.held(Mono(u64::MAX)));
        lease.bound(stamp, election);
        assert!(lease.held(stamp) && !lease.held(stamp.plus(Duration::from_millis(2700))));
        lease.revoke();
        lease.bound(stamp, election);
        assert!(!lease.held(stamp), "what is gone does not come back");
    }
}
