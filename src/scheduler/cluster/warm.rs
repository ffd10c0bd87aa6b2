//! The warm copy of followers: what a leader tells, what a follower takes in.
//!
//! Owns: that only a leader tells and only others take in. Must not know: connections.

use std::sync::Arc;

use super::{Cluster, tap::Input};
use crate::{
    model::Now,
    scheduler::effect::Effect,
    store::warm::{Copy, CopyError, Feed, Part, Position, Reader, Taken, reader::Next},
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
        self.follow_heat(part, &taken, now);
        let saved = taken.saved.into_iter().map(Effect::CacheRegion);
        Ok(saved.chain(taken.gone.into_iter().map(Effect::ForgetRegion)).collect())
    }
    /// Has the hot peers follow what the leader told: whoever leads next knows them.
    fn follow_heat(&self, part: &Part, taken: &Taken, now: Now) {
        let reads = part.stores.iter().filter(|row| !row.stats.peers.is_empty() && taken.reported.contains(&row.id));
        let mut reads = reads.peekable();
        if taken.told.is_empty() && reads.peek().is_none() {
            return;
        }
        let mut deciding = self.deciding.lock();
        for (region, is_new) in &taken.told {
            deciding.schedulers.on_copied(region, *is_new, now);
        }
        for row in reads {
            deciding.schedulers.on_store_heartbeat(row.id, &row.stats, &self.regions, now);
        }
    }
}
