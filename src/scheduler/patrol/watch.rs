//! What changes on stores without anybody telling: reports and silence, as the filters see them.
//!
//! Owns: the last [`Standing`] of each store. Must not know: who waits for stores.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    model::{Mono, StoreId, StoreState},
    scheduler::{
        filter::{Standing, standing},
        outcome::Wake,
        view::ClusterView,
    },
};

/// How often stores are compared with what was last seen: an event is told this late at the most.
const EVERY: Duration = Duration::from_millis(100);

/// Compares each store with what the filters saw of it before. The cost is one look at each store, ten times a second, however
/// many regions wait.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: BTreeMap<StoreId, Standing>,
    looked: Option<Mono>,
}

impl Watch {
    /// The events since the last look, at most ten times a second.
    pub(super) fn events(&mut self, view: &ClusterView<'_>) -> Vec<Wake> {
        let now = view.now.mono;
        if self.looked.is_some_and(|at| now.since(at) < EVERY) {
            return Vec::new();
        }
        self.looked = Some(now);
        let live = view.stores.values().filter(|s| s.record.state != StoreState::Tombstone);
        let present: BTreeMap<StoreId, Standing> = live.map(|s| (s.id(), standing(view, s))).collect();
        let before = std::mem::replace(&mut self.seen, present);
        let differs = |part: fn(&Standing, &Standing) -> bool| {
            self.seen.iter().any(|(id, is)| before.get(id).is_none_or(|was| part(was, is)))
        };
        let mut events = Vec::new();
        if differs(|was, is| was.lasting != is.lasting) || before.len() != self.seen.len() {
            events.push(Wake::Store);
        }
        if differs(|was, is| was.passing != is.passing) {
            events.push(Wake::Load);
        }
        events
    }
}
