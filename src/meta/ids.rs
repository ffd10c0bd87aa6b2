//! Ids handed out from windows that were agreed through the log (D1): no id twice, also over crashes; at worst some are left out. Ids
//! that nodes show above what was agreed are never handed out either (D2).
//!
//! Owns: the windows in hand. Must not know: the log; who asks for a window and when is decided in `handle`.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::model::ids::MAX_ID;

/// How many ids one entry of the log takes.
pub const ID_WINDOW: u64 = 1000;

/// Most ids in one call (D3): a region split asks for some dozens; PD's loop for 2^32 of them holds everybody up.
pub const MAX_IDS_AT_ONCE: u32 = 10_000;

/// With fewer ids in hand than this the next window is fetched ahead of need.
const LOW_WATERMARK: u64 = ID_WINDOW / 2;

/// Most windows kept in hand; more can only come from callers that asked for more at once than was used.
const MAX_WINDOWS: usize = 16;

/// When ids are shown above what was agreed, the sequence is lifted above them by this part more: a fleet that brings its own ids, each
/// higher than the one before, then asks for some hundred lifts and not for one each.
const LIFT_PART: u64 = 16;

/// Ids in hand.
#[derive(Debug, Default)]
pub(super) struct Ids {
    hand: Mutex<Hand>,
    /// The last id that was agreed to be taken. Read without the lock for each heartbeat.
    agreed: AtomicU64,
}

/// What the lock guards.
#[derive(Debug, Default)]
struct Hand {
    /// (next, last), each with `next <= last`, ascending.
    windows: VecDeque<(u64, u64)>,
    /// The highest id that was shown above what was agreed then. Nothing up to it is handed out any more.
    shown: u64,
}

impl Hand {
    /// Takes out of the windows what nodes use already.
    fn trim(&mut self) {
        while let Some((next, last)) = self.windows.front_mut() {
            if *last > self.shown {
                *next = (*next).max(self.shown + 1);
                return;
            }
            self.windows.pop_front();
        }
    }
}

impl Ids {
    /// Takes `count` ids in a row and returns the last; `None`: a window has to be fetched. Says as well whether it is time to fetch
    /// one ahead.
    pub(super) fn take(&self, count: u64) -> (Option<u64>, bool) {
        let count = count.max(1);
        let windows = &mut self.hand.lock().windows;
        let fit = windows.iter().position(|(next, last)| last - next + 1 >= count);
        let taken = fit.and_then(|at| {
            // What is too small for this call is left out, so that ids go up with time.
            windows.drain(..at);
            let (next, last) = windows.front_mut()?;
            let id = *next + count - 1;
            *next = id + 1;
            let used_up = *next > *last;
            if used_up {
                windows.pop_front();
            }
            Some(id)
        });
        let left: u64 = windows.iter().map(|(next, last)| last - next + 1).sum();
        (taken, left < LOW_WATERMARK)
    }

    /// A window was agreed for this member: `first..=last`.
    pub(super) fn add(&self, first: u64, last: u64) {
        let mut hand = self.hand.lock();
        match hand.windows.back_mut() {
            Some(back) if back.1 + 1 == first => back.1 = last,
            _ => hand.windows.push_back((first, last)),
        }
        if hand.windows.len() > MAX_WINDOWS {
            hand.windows.pop_front();
        }
        hand.trim();
    }

    /// Whether no id is in hand.
    pub(super) fn is_empty(&self) -> bool {
        self.hand.lock().windows.is_empty()
    }

    /// All ids up to `end` are agreed to be taken.
    pub(super) fn agreed(&self, end: u64) {
        self.agreed.fetch_max(end, Ordering::AcqRel);
    }

    /// A node uses `id`. Whether it lies above what was agreed, so that the sequence has to be lifted.
    pub(super) fn show(&self, id: u64) -> bool {
        if id <= self.agreed.load(Ordering::Acquire) || id > MAX_ID {
            return false;
        }
        let mut hand = self.hand.lock();
        hand.shown = hand.shown.max(id);
        hand.trim();
        true
    }

    /// Where the sequence has to be lifted to; `None`: nothing was shown above what is agreed.
    pub(super) fn lift(&self) -> Option<u64> {
        let shown = self.hand.lock().shown;
        (shown > self.agreed.load(Ordering::Acquire)).then_some(shown + shown / LIFT_PART)
    }

    /// Forgets all: another leader hands out ids now, or the sequence was lifted.
    pub(super) fn clear(&self) {
        self.hand.lock().windows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_contiguous_and_ascend() {
        let ids = Ids::default();
        assert_eq!(ids.take(1), (None, true));
        ids.add(1, 1000);
        assert_eq!(ids.take(1), (Some(1), false));
        assert_eq!(ids.take(5), (Some(6), false), "the ids 2 to 6");
        assert_eq!(ids.take(990), (Some(996), true));
        assert_eq!(ids.take(5), (None, true));
        ids.add(1001, 2000);
        assert_eq!(ids.take(5), (Some(1001), false), "windows that touch are one");
        ids.add(5001, 6000);
        assert_eq!(ids.take(1000), (Some(6000), true), "1002 to 2000 are left out");
        assert_eq!(ids.take(0), (None, true));
    }

    #[test]
    fn d2_what_nodes_show_above_the_windows_is_never_handed_out() {
        let ids = Ids::default();
        ids.agreed(1000);
        ids.add(1, 1000);
        assert!(!ids.show(700), "inside what was agreed: it was handed out, or another cluster's tool made it up");
        assert_eq!(ids.take(1), (Some(1), false));
        assert!(ids.show(1500) && ids.show(1400));
        assert_eq!(ids.lift(), Some(1500 + 1500 / LIFT_PART));
        assert_eq!(ids.take(1), (None, true), "what is in hand lies below it");
        // A window that was asked for before.
        ids.agreed(2000);
        ids.add(1001, 2000);
        assert_eq!(ids.take(1), (Some(1501), true));
        assert_eq!(ids.lift(), None);
        assert!(!ids.show(u64::MAX), "a damaged report does not use the sequence up");
    }
}
