//! The warm copy of followers: what a leader tells, what a follower takes in.
//!
//! Owns: that only a leader tells and only others take in. Must not know: connections.

use std::sync::Arc;

use super::{Cluster, tap::Input};
use crate::{
    model::Now,
    scheduler::effect::Effect,
    store::warm::{Copy, CopyError, Feed, Part, Position, Reader, reader::Next},
};

impl Cluster {
    /// What changed, for followers.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Begins to tell a follower that is at `position`; `None`: this member does not lead.
    pub fn open_reader(&self, position: Option<Position>) -> Option<Reader> {
        self.is_leading().then(|| Reader::new(&self.feed, position))
    }

    /// What a follower is told next.
    pub fn next_part(&self, reader: &mut Reader, now: Now) -> Next {
        reader.next(&self.regions, &self.stores, now)
    }

    /// How far this member's copy is.
    pub fn copy(&self) -> Copy {
        self.copy.lock().clone()
    }

    /// Takes in what the leader tells; gives what the cache on disk has to write.
    ///
    /// # Errors
    /// This member leads, or the part does not follow on what is there.
    pub fn take_copy(&self, part: &Part, now: Now) -> Result<Vec<Effect>, CopyError> {
        let _turn = self.taps.input(Some(now), Input::Copied(part));
        let mut copy = self.copy.lock();
        if self.is_leading() {
            return Err(CopyError::Leads);
        }
        let taken = copy.take(part, &self.regions, &self.stores, now)?;
        let saved = taken.saved.into_iter().map(Effect::CacheRegion);
        Ok(saved.chain(taken.gone.into_iter().map(Effect::ForgetRegion)).collect())
    }
}
