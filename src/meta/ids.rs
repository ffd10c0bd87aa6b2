//! Ids handed out from windows that were agreed through the log (D1): no id twice, also over crashes; at worst some are left out.
//!
//! Owns: the windows in hand. Must not know: the log; who asks for a window and when is decided in `handle`.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How many ids one entry of the log takes.
pub const ID_WINDOW: u64 = 1000;

/// Most ids in one call (D3): a region split asks for some dozens; PD's loop for 2^32 of them holds everybody up.
pub const MAX_IDS_AT_ONCE: u32 = 10_000;

/// With fewer ids in hand than this the next window is fetched ahead of need.
const LOW_WATERMARK: u64 = ID_WINDOW / 2;

/// Most windows kept in hand; more can only come from callers that asked for more at once than was used.
const MAX_WINDOWS: usize = 16;

/// Ids in hand.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// (next, last), each with `next <= last`, ascending.
    windows: Mutex<VecDeque<(u64, u64)>>,
}

impl Ids {
    /// Takes `count` ids in a row and returns the last; `None`: a window has to be fetched. Says as well whether it is time to fetch
    /// one ahead.
    pub(super) fn take(&self, count: u64) -> (Option<u64>, bool) {
        let count = count.max(1);
        let mut windows = self.windows.lock();
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
        let mut windows = self.windows.lock();
        match windows.back_mut() {
            Some(back) if back.1 + 1 == first => back.1 = last,
            _ => windows.push_back((first, last)),
        }
        if windows.len() > MAX_WINDOWS {
            windows.pop_front();
        }
    }

    /// Forgets all: another leader hands out ids now, or the sequence was lifted.
    pub(super) fn clear(&self) {
        self.windows.lock().clear();
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
}
