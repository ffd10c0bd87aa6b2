//! Leadership goes where priority wants it.
//!
//! Owns: how often that is tried, and for how long a member is left alone that did not take it. Must not know: who is preferred, who can
//! lead (`api::app`, `meta`).

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    api::App,
    meta::MemberError,
    model::{MemberId, Mono},
    pdlog,
};

/// How often it is looked whether another member should lead. (PD: a minute.)
const LOOK: Duration = Duration::from_secs(5);
/// How long a member that was to lead and did not is left alone: each time costs an election, in which nobody is served. It doubles.
const REST: Duration = Duration::from_secs(60);
/// The longest of these.
const LONGEST_REST: Duration = Duration::from_secs(32 * 60);

/// What came of attempts to have one member lead.
#[derive(Debug, Default)]
struct Tries {
    whom: MemberId,
    /// How often it did not take over.
    not_taken: u32,
    /// Until when it is left alone.
    rests_until: Mono,
    /// What was said last, so that it is said once.
    said: Option<String>,
}

impl Tries {
    /// Whether this member is to be asked now.
    fn is_due(&self, whom: MemberId, now: Mono) -> bool {
        whom != self.whom || now >= self.rests_until
    }

    /// Takes note of what came of asking it; true when that is new.
    fn note(&mut self, whom: MemberId, outcome: &Result<(), MemberError>, now: Mono) -> bool {
        if whom != self.whom {
            *self = Self { whom, ..Self::default() };
        }
        match outcome {
            Ok(()) => *self = Self::default(),
            Err(MemberError::NotTaken) => {
                let rest = REST.saturating_mul(1 << self.not_taken.min(16)).min(LONGEST_REST);
                self.not_taken = self.not_taken.saturating_add(1);
                self.rests_until = now.plus(rest);
            }
            // Nothing was tried, and nothing lost.
            Err(_) => {}
        }
        let said = outcome.as_ref().err().map(ToString::to_string);
        let new = said.is_none() || said != self.said;
        self.said = said;
        new
    }
}

/// While this member leads: hands leadership to the member that should have it, whenever that one can take it.
pub(super) async fn follow(app: Arc<App>, shutdown: CancellationToken) {
    let mut tries = Tries::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(LOOK) => {}
        }
        if !app.meta.is_leader() {
            continue;
        }
        let Some(to) = app.preferred_leader() else {
            tries = Tries::default();
            continue;
        };
        if !tries.is_due(to.id, app.now().mono) {
            continue;
        }
        let outcome = app.meta.transfer_leader(to.id).await;
        let new = tries.note(to.id, &outcome, app.now().mono);
        match outcome {
            Ok(()) => {
                pdlog!(app.log, Info, "leadership goes to a member of higher priority", "member-name" => &to.name);
            }
            Err(error) if new => {
                let text = "a member of higher priority cannot lead now";
                pdlog!(app.log, Warn, text, "member-name" => &to.name, "error" => error.to_string());
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l4_a_member_that_does_not_take_over_is_asked_less_and_less() {
        let (one, other) = (MemberId(7), MemberId(8));
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let not_taken = || Err(MemberError::NotTaken);
        let mut tries = Tries::default();
        assert!(tries.is_due(one, at(5)) && tries.note(one, &not_taken(), at(5)));
        assert!(!tries.is_due(one, at(64)) && tries.is_due(other, at(64)) && tries.is_due(one, at(65)));
        assert!(!tries.note(one, &not_taken(), at(65)), "the same again is not said again");
        assert!(!tries.is_due(one, at(184)) && tries.is_due(one, at(185)));
        for _ in 0..40 {
            tries.note(one, &not_taken(), at(200));
        }
        assert!(!tries.is_due(one, at(200 + 32 * 60 - 1)) && tries.is_due(one, at(200 + 32 * 60)));
        // What cost nothing is tried again at once, and keeps what is known.
        assert!(tries.note(one, &Err(MemberError::NoSuccessor), at(5000)) && tries.is_due(one, at(5000)));
        assert!(!tries.note(one, &Err(MemberError::NoSuccessor), at(5005)));
        tries.note(one, &Ok(()), at(5010));
        tries.note(one, &not_taken(), at(5015));
        assert!(!tries.is_due(one, at(5015 + 59)) && tries.is_due(one, at(5015 + 60)), "it begins anew");
    }
}
