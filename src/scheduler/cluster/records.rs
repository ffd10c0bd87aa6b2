//! What a leader hands to the agreed state for those after it, and what it takes from there: progress and ended operators.
//!
//! Owns: which of it, and how much at once. Must not know: how it is agreed on.

use std::collections::BTreeMap;

use super::Cluster;
use crate::{
    model::{OperatorId, StoreId},
    scheduler::{
        controller::{archive, journal::Past},
        operator::Status,
        progress::Kept,
    },
};

/// Most operators handed over at once.
const MOST: usize = 2_000;
/// About the most bytes of them; one is handed over at least.
const MOST_BYTES: usize = 1 << 20;

/// An ended operator as it is kept: the drains that it belongs to, its id and all about it.
#[derive(Clone, PartialEq, Debug)]
pub struct KeptOperator {
    /// None: it belongs to no drain.
    pub drains: Vec<StoreId>,
    /// Its id.
    pub id: OperatorId,
    /// See [`archive`].
    pub text: String,
}

impl Cluster {
    /// The oldest ended operators that were not handed over yet. Who cannot keep them gives them back.
    pub fn take_unkept_operators(&self) -> Vec<KeptOperator> {
        let (mut taken, mut bytes) = (vec![], 0);
        let mut take = |past: &Past| {
            if taken.len() >= MOST || bytes >= MOST_BYTES {
                return false;
            }
            if let Some(text) = archive::write(past) {
                bytes += text.len() * past.journal.drains.len().max(1);
                taken.push(KeptOperator { drains: past.journal.drains.clone(), id: past.op.id, text });
            }
            true
        };
        self.deciding.lock().controller.take_unkept(&mut take);
        taken
    }

    /// See [`Self::take_unkept_operators`].
    pub fn put_back_operators(&self, ids: &[OperatorId]) {
        self.deciding.lock().controller.put_back(ids);
    }

    /// How far the stores have come that are on their way.
    pub fn kept_progress(&self) -> Vec<(StoreId, Kept)> {
        self.deciding.lock().progress.kept()
    }

    /// Goes on with the progress of an earlier leader.
    pub fn recall_progress(&self, kept: impl IntoIterator<Item = (StoreId, Kept)>) {
        let mut deciding = self.deciding.lock();
        for (store, kept) in kept {
            deciding.progress.recall(store, &kept);
        }
    }

    /// Takes in ended operators of earlier leaders; what is of another version and cannot be read is left out.
    pub fn recall_operators<'a>(&self, texts: impl IntoIterator<Item = &'a str>) {
        let all = texts.into_iter().filter_map(archive::read).collect();
        self.deciding.lock().controller.recall(all);
    }

    /// Takes in how many operators of a drain are not kept whole: description, status, how many.
    pub fn recall_counts(&self, store: StoreId, counts: impl IntoIterator<Item = (String, String, u64)>) {
        let known =
            |(desc, status, count): (String, String, u64)| Some(((desc, Status::of_word(&status)?.word()), count));
        let counts: BTreeMap<_, _> = counts.into_iter().filter_map(known).collect();
        self.deciding.lock().controller.recall_counts(store, counts);
    }
}
