//! Watches the disk of the agreed state: a leader that waits for it acknowledges nothing, and must not look alive for ever.
//!
//! Owns: how long is too long, and what is said. Must not know: what the disk is asked.

use std::time::Duration;

/// How often it looks.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// A stall as long as this is told.
const SLOW: Duration = Duration::from_secs(3);
/// After this the process ends, so that another member or another start can serve.
const HUNG: Duration = Duration::from_secs(20);
/// What is written when it ends.
pub(super) const GIVE_UP: &str = "it has not answered for 20s";

/// What to do after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Say {
    /// Nothing.
    Nothing,
    /// The disk does not answer.
    Slow,
    /// It answers again, after so long.
    Over(Duration),
    /// Nothing can be hoped for.
    GiveUp,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// The stall that was told.
    told: Option<Duration>,
}

impl Watchdog {
    /// Takes note of how long the disk has not answered (zero: it has).
    pub(super) fn look(&mut self, stall: Duration) -> Say {
        if stall >= HUNG {
            return Say::GiveUp;
        }
        match self.told {
            None if stall >= SLOW => {
                self.told = Some(stall);
                Say::Slow
            }
            // Less than before: another job is under way, or none.
            Some(before) if stall < before => {
                self.told = None;
                Say::Over(before)
            }
            Some(_) => {
                self.told = Some(stall);
                Say::Nothing
            }
            None => Say::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r7_a_stall_is_told_once_and_ends_the_process_when_it_lasts() {
        let (mut dog, mut said) = (Watchdog::default(), vec![]);
        let stall = |seconds: &[u64]| seconds.iter().map(|s| Duration::from_secs(*s)).collect::<Vec<_>>();
        for span in stall(&[0, 1, 2, 0, 2, 3, 4, 9, 0, 0, 3, 1, 19, 20, 21]) {
            match dog.look(span) {
                Say::Nothing => {}
                other => said.push((span.as_secs(), other)),
            }
        }
        let over = |s| Say::Over(Duration::from_secs(s));
        let want = [(3, Say::Slow), (0, over(9)), (3, Say::Slow), (1, over(3)), (19, Say::Slow), (20, Say::GiveUp)];
        assert_eq!(said[..6], want);
        assert_eq!(said[6], (21, Say::GiveUp));
    }
}
