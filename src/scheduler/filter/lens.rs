//! A [`Budget`] that sets some things aside and keeps what was chosen, for explanations and for operators' causes.
//!
//! Owns: what is set aside. Must not know: who looks through it.

use std::cell::RefCell;

use super::{Budget, Candidate, Choice, Wanted, candidates};
use crate::{
    model::{Mono, Now, RegionId, StoreId},
    scheduler::{
        operator::StoreInfluence,
        outcome::{LimitKind, ScheduleLimit},
        view::ClusterView,
    },
};

/// A budget seen with some things set aside, which remembers the choices that were made with it.
pub struct Lens<'a> {
    base: &'a dyn Budget,
    /// What the replica limit says, whatever it really says.
    replica_room: Option<bool>,
    /// Whether regions count as idle although their operator runs.
    as_idle: bool,
    /// Whether every store's verdict under every filter is kept, for explanations.
    in_full: bool,
    choices: RefCell<Vec<Choice>>,
    judged: RefCell<Vec<Vec<Candidate>>>,
}

impl std::fmt::Debug for Lens<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lens").field("replica_room", &self.replica_room).finish_non_exhaustive()
    }
}

impl<'a> Lens<'a> {
    /// The budget as it is.
    pub fn new(base: &'a dyn Budget) -> Self {
        Self {
            base,
            replica_room: None,
            as_idle: false,
            in_full: false,
            choices: RefCell::default(),
            judged: RefCell::default(),
        }
    }

    /// As if the replica limit had (or had not) room.
    #[must_use]
    pub fn with_replica_room(self, room: bool) -> Self {
        Self { replica_room: Some(room), ..self }
    }

    /// As if no operator ran.
    #[must_use]
    pub fn as_idle(self) -> Self {
        Self { as_idle: true, ..self }
    }

    /// Keeps what every filter says of every store.
    #[must_use]
    pub fn in_full(self) -> Self {
        Self { in_full: true, ..self }
    }

    /// The choices that were made, in order.
    pub fn into_choices(self) -> Vec<Choice> {
        self.choices.into_inner()
    }

    /// The choices that were made and, for each, every store under every filter.
    pub fn into_judged(self) -> Vec<(Choice, Vec<Candidate>)> {
        self.choices.into_inner().into_iter().zip(self.judged.into_inner()).collect()
    }
}

impl Budget for Lens<'_> {
    fn is_running(&self, region: RegionId) -> bool {
        !self.as_idle && self.base.is_running(region)
    }

    fn has_room(&self, view: &ClusterView<'_>, limit: ScheduleLimit) -> bool {
        match self.replica_room {
            Some(room) if limit == ScheduleLimit::Replica => room,
            _ => self.base.has_room(view, limit),
        }
    }

    fn has_tokens(&self, store: StoreId, kind: LimitKind, now: Now) -> bool {
        self.base.has_tokens(store, kind, now)
    }

    fn next_token(&self, store: StoreId, kind: LimitKind, now: Now) -> Option<Mono> {
        self.base.next_token(store, kind, now)
    }

    fn influence_on(&self, store: StoreId) -> StoreInfluence {
        self.base.influence_on(store)
    }

    fn note(&self, view: &ClusterView<'_>, wanted: &Wanted<'_>, choice: &Choice) {
        if self.in_full {
            self.judged.borrow_mut().push(candidates(view, self.base, wanted));
        } else if choice.chosen.is_none() {
            return; // a refusal carries its own reason
        }
        self.choices.borrow_mut().push(choice.clone());
    }
}
