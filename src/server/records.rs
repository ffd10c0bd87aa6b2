//! What a leader knows and the next one could not find out goes into the agreed state, in one entry a second at most, and none while
//! nothing new has happened; a new leader takes it from there.
//!
//! Owns: when. Must not know: what is kept and how much of it (`meta::machine::records`, `scheduler::cluster::records`).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    api::App,
    meta::{
        Command, State,
        machine::records::{EndedRow, NO_DRAIN},
    },
    model::{OperatorId, StoreId},
    pdlog,
    scheduler::{
        cluster::{Cluster, records::KeptOperator},
        progress::Kept,
    },
};

/// Operators read at once; in between, others get at what is being decided.
const READ_AT_ONCE: usize = 500;

/// Keeps and recalls.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// The term in which this member has read what earlier leaders kept.
    recalled: AtomicU64,
}

impl Keeper {
    /// One turn of a leader.
    pub(super) async fn turn(self: Arc<Self>, app: Arc<App>) {
        let term = app.meta.term();
        if self.recalled.load(Ordering::Acquire) != term {
            let (state, of) = (app.meta.state(), app.clone());
            if tokio::task::spawn_blocking(move || recall_operators(&of.cluster, &state)).await.is_err() {
                return;
            }
            self.recalled.store(term, Ordering::Release);
        }
        let progress = new_progress(&app.cluster.kept_progress(), &app.meta.state());
        let operators = app.cluster.take_unkept_operators();
        if progress.is_empty() && operators.is_empty() {
            return;
        }
        let ids: Vec<OperatorId> = operators.iter().map(|op| op.id).collect();
        let ended = operators.into_iter().flat_map(rows).collect();
        if let Err(error) = app.meta.propose(Command::PutRecords { progress, ended }).await {
            // Another leader does not need them from here; this one tries again.
            app.cluster.put_back_operators(&ids);
            pdlog!(app.log, Warn, "ended operators and progress cannot be kept yet", "operators" => ids.len(), "error" => error.to_string());
        }
    }
}

/// An operator of several drains is kept with each.
fn rows(op: KeptOperator) -> Vec<EndedRow> {
    let KeptOperator { mut drains, id, text } = op;
    if drains.is_empty() {
        drains.push(NO_DRAIN);
    }
    drains.into_iter().map(|drain| EndedRow { drain, id, json: text.clone() }).collect()
}

/// What is not in the agreed state as it is now.
fn new_progress(now: &[(StoreId, Kept)], state: &State) -> Vec<(StoreId, Option<String>)> {
    let gone = state.progress_records().map(|(store, _)| store).filter(|store| now.iter().all(|(s, _)| s != store));
    let mut changes: Vec<_> = gone.map(|store| (store, None)).collect();
    for (store, kept) in now {
        let Ok(text) = serde_json::to_string(kept) else { continue };
        if state.progress_records().all(|(s, was)| s != *store || was != text) {
            changes.push((*store, Some(text)));
        }
    }
    changes
}

/// Progress goes on from what earlier leaders have kept; to be called before it is first looked at in a term.
pub(super) fn recall_progress(cluster: &Cluster, state: &State) {
    cluster.recall_progress(progress(state));
}

fn progress(state: &State) -> impl Iterator<Item = (StoreId, Kept)> {
    state.progress_records().filter_map(|(store, text)| Some((store, serde_json::from_str(text).ok()?)))
}

fn recall_operators(cluster: &Cluster, state: &State) {
    let texts: Vec<&str> = state.ended_records().collect();
    for part in texts.chunks(READ_AT_ONCE) {
        cluster.recall_operators(part.iter().copied());
    }
    for (drain, older) in state.older_records().filter(|(drain, _)| *drain != NO_DRAIN) {
        let counts = older.counts.into_iter().flat_map(|(desc, by_status)| {
            by_status.into_iter().map(move |(status, count)| (desc.clone(), status, count))
        });
        cluster.recall_counts(drain, counts);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{meta::machine::execute, model::Wall, scheduler::progress::Action};

    #[test]
    fn progress_is_kept_when_it_is_new() {
        let mut state = State::default();
        assert!(new_progress(&[], &state).is_empty());
        let now = [(StoreId(2), Kept { action: Action::Removing, target_mib: 90.0, left_mib: 60.0 })];
        let changes = new_progress(&now, &state);
        assert_eq!(changes.len(), 1);
        execute(&mut state, Wall(0), &Command::PutRecords { progress: changes, ended: vec![] }).unwrap();
        assert!(new_progress(&now, &state).is_empty(), "nothing is written twice");
        assert_eq!(progress(&state).collect::<Vec<_>>(), now);
        assert_eq!(new_progress(&[], &state), [(StoreId(2), None)], "it is not on its way any more");
    }

    #[test]
    fn an_operator_of_several_drains_is_kept_with_each_and_one_of_none_apart() {
        let kept = |drains: &[u64]| {
            let drains = drains.iter().copied().map(StoreId).collect();
            rows(KeptOperator { drains, id: OperatorId(7), text: "x".into() })
        };
        assert_eq!(kept(&[3, 4]).iter().map(|row| row.drain.0).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(kept(&[]), [EndedRow { drain: NO_DRAIN, id: OperatorId(7), json: "x".into() }]);
    }
}
