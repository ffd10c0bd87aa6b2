//! What a leader writes down for those after it: how far stores have come on their way, and the operators that have ended.
//!
//! Owns: the keys of these rows, how many there are, and what becomes counts. Must not know: what is in the rows, but for the two
//! words of an operator by which it is counted later.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{Action, Plan, Refusal, Row, RowKey, State, bounded};
use crate::model::{OperatorId, StoreId};

/// How many operators of one drain are kept whole; older ones are counts.
pub const KEPT_OF_A_DRAIN: usize = 10_000;
/// How many that belong to no drain.
pub const KEPT_OF_NO_DRAIN: usize = 2_000;
/// How many of all drains together: some 45 MiB. Of more, the oldest become counts, whichever drain they belong to: of up to four
/// drains, however long, each keeps its last [`KEPT_OF_A_DRAIN`], and so do more of them that are shorter.
pub const KEPT_OF_ALL_DRAINS: usize = 4 * KEPT_OF_A_DRAIN;
/// How many drains are remembered at all.
pub const DRAINS: usize = 256;
/// Descriptions that are counted by themselves for one drain; a client may invent more.
const DESCRIPTIONS: usize = 64;
/// The stead of those that are not.
const OTHERS: &str = "others";
/// Operators that become counts with one command because there are too many of all drains. One command brings no more.
const FADE_AT_ONCE: usize = 2_000;
/// The drain of operators that belong to none: no store has this id.
pub const NO_DRAIN: StoreId = StoreId(0);

/// An operator that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndedRow {
    /// The store that it helped to empty, or [`NO_DRAIN`].
    pub drain: StoreId,
    /// Its id: later ones have higher ones.
    pub id: OperatorId,
    /// All about it. Under `desc` and `status` stands what it is counted by later.
    pub json: String,
}

/// What is kept of the operators of one drain beside those that are kept whole.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Older {
    /// How many are kept whole.
    pub kept: usize,
    /// Those before: description, status, how many.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What an operator is counted by.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Words {
    desc: String,
    status: String,
}

impl Older {
    /// One that was kept whole is counted from here on.
    fn fade(&mut self, json: &str) {
        let Words { desc, status } = serde_json::from_str(json).unwrap_or_default();
        let known = self.counts.contains_key(&desc) || self.counts.len() < DESCRIPTIONS;
        let desc = if known { desc } else { OTHERS.to_owned() };
        *self.counts.entry(desc).or_default().entry(status).or_default() += 1;
        self.kept = self.kept.saturating_sub(1);
    }
}

// Numbers as wide as any of them, so that the order of keys is that of numbers.
fn progress_key(store: StoreId) -> String {
    format!("progress/{:020}", store.0)
}

fn ended_key(drain: StoreId, id: OperatorId) -> String {
    format!("ended/{:020}/{:020}", drain.0, id.0)
}

fn older_key(drain: StoreId) -> String {
    format!("older/{:020}", drain.0)
}

/// All keys that begin so: none has a character above `~`.
fn beginning(prefix: &str) -> Range<String> {
    prefix.to_owned()..format!("{prefix}~")
}

impl State {
    fn records_of(&self, keys: Range<String>) -> impl Iterator<Item = (&String, &str)> {
        let Range { start, end } = keys;
        self.records.from(&start).take_while(move |(key, _)| **key < end).map(|(key, json)| (key, &**json))
    }

    /// How far stores have come, as it was written down.
    pub fn progress_records(&self) -> impl Iterator<Item = (StoreId, &str)> {
        self.records_of(beginning("progress/")).filter_map(|(key, json)| Some((number(key, 1)?, json)))
    }

    /// The operators that have ended, by drain and id; those of several drains come several times.
    pub fn ended_records(&self) -> impl Iterator<Item = &str> {
        self.records_of(beginning("ended/")).map(|(_, json)| json)
    }

    /// What is counted, by drain.
    pub fn older_records(&self) -> impl Iterator<Item = (StoreId, Older)> {
        let rows = self.records_of(beginning("older/"));
        rows.filter_map(|(key, json)| Some((number(key, 1)?, serde_json::from_str(json).ok()?)))
    }

    fn older(&self, drain: StoreId) -> Older {
        self.records.get(&older_key(drain)).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }
}

fn number(key: &str, part: usize) -> Option<StoreId> {
    key.split('/').nth(part)?.parse().ok().map(StoreId)
}

/// The operators of a drain that are kept whole, oldest first.
fn whole(state: &State, drain: StoreId) -> impl Iterator<Item = (&String, &str)> {
    state.records_of(beginning(&format!("ended/{:020}/", drain.0)))
}

fn put_record(key: String, json: &str) -> Action {
    Action::Put(Row::Record(key, json.into()))
}

/// See [`super::Command::PutRecords`].
pub(super) fn put(state: &State, progress: &[(StoreId, Option<String>)], ended: &[EndedRow]) -> Result<Plan, Refusal> {
    bounded(progress.len() + ended.len())?;
    let progress = progress.iter().map(|(store, json)| match json {
        Some(json) => put_record(progress_key(*store), json),
        None => Action::Delete(RowKey::Record(progress_key(*store))),
    });
    let mut actions: Vec<Action> = progress.collect();
    let mut drains: BTreeMap<StoreId, Older> = BTreeMap::new();
    for row in ended {
        let older = drains.entry(row.drain).or_insert_with(|| state.older(row.drain));
        let key = ended_key(row.drain, row.id);
        older.kept += usize::from(!state.records.contains_key(&key));
        actions.push(put_record(key, &row.json));
    }
    if !ended.is_empty() {
        fade_surplus(state, &mut drains, &mut actions);
        forget_old_drains(state, &drains, &mut actions);
    }
    // What cannot be written as JSON does not exist here: texts and numbers.
    let older =
        drains.iter().filter_map(|(drain, older)| Some((older_key(*drain), serde_json::to_string(older).ok()?)));
    actions.extend(older.map(|(key, json)| put_record(key, &json)));
    Ok(Plan::done(actions))
}

/// All drains, as they are with what this command brings.
fn with_touched(state: &State, touched: &BTreeMap<StoreId, Older>) -> BTreeMap<StoreId, Older> {
    let mut all: BTreeMap<StoreId, Older> = state.older_records().collect();
    all.extend(touched.iter().map(|(drain, older)| (*drain, older.clone())));
    all.remove(&NO_DRAIN);
    all
}

/// What is too much becomes counts: of a drain, and of all drains together. What this command brings is not looked at: the next one
/// finds it.
fn fade_surplus(state: &State, touched: &mut BTreeMap<StoreId, Older>, actions: &mut Vec<Action>) {
    let limit = |drain: &StoreId| if *drain == NO_DRAIN { KEPT_OF_NO_DRAIN } else { KEPT_OF_A_DRAIN };
    let surplus = |(drain, older): (&StoreId, &Older)| (*drain, older.kept.saturating_sub(limit(drain)));
    let mut fading: BTreeMap<StoreId, usize> = touched.iter().map(surplus).collect();
    let all = with_touched(state, touched);
    let fades = |fading: &BTreeMap<StoreId, usize>, drain: &StoreId| fading.get(drain).copied().unwrap_or(0);
    let left: usize = all.iter().map(|(drain, older)| older.kept - fades(&fading, drain)).sum();
    let mut over = left.saturating_sub(KEPT_OF_ALL_DRAINS).min(FADE_AT_ONCE);
    // Those drains first whose first operator is the oldest: ids grow with time, whoever gave them.
    let first = |drain: &StoreId| {
        let key = whole(state, *drain).nth(fades(&fading, drain))?.0;
        Some((key.rsplit('/').next()?.to_owned(), *drain))
    };
    let mut oldest: Vec<(String, StoreId)> = all.keys().filter(|_| over > 0).filter_map(first).collect();
    oldest.sort_unstable();
    for (_, drain) in oldest {
        let there = state.older(drain).kept.saturating_sub(fades(&fading, &drain)).min(over);
        if there > 0 {
            *fading.entry(drain).or_default() += there;
            touched.entry(drain).or_insert_with(|| state.older(drain));
            over -= there;
        }
    }
    for (drain, older) in touched {
        for (key, json) in whole(state, *drain).take(fading.get(drain).copied().unwrap_or(0)) {
            older.fade(json);
            actions.push(Action::Delete(RowKey::Record(key.clone())));
        }
    }
}

/// Of very many drains those that have nothing whole any more are forgotten. Store ids grow, so that the lowest is the oldest.
fn forget_old_drains(state: &State, touched: &BTreeMap<StoreId, Older>, actions: &mut Vec<Action>) {
    let all = with_touched(state, touched);
    let nothing_whole = all.iter().filter(|(drain, older)| older.kept == 0 && !touched.contains_key(drain));
    let forgotten = nothing_whole.map(|(drain, _)| *drain).take(all.len().saturating_sub(DRAINS));
    actions.extend(forgotten.map(|drain| Action::Delete(RowKey::Record(older_key(drain)))));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        meta::machine::{Command, execute},
        model::Wall,
    };

    fn row(drain: u64, id: u64, desc: &str) -> EndedRow {
        let json = format!("{{\"desc\":\"{desc}\",\"status\":\"SUCCESS\",\"more\":{id}}}");
        EndedRow { drain: StoreId(drain), id: OperatorId(id), json }
    }

    fn keep(state: &mut State, ended: Vec<EndedRow>) {
        execute(state, Wall(0), &Command::PutRecords { progress: vec![], ended }).unwrap();
    }

    fn whole(state: &State, drain: u64) -> usize {
        super::whole(state, StoreId(drain)).count()
    }

    /// The hash that the rows have when they are written one by one.
    fn hash_anew(state: &State) -> u64 {
        let mut copy = State::default();
        state.rows_from(None).for_each(|row| copy.apply(&Action::Put(row)));
        copy.hash
    }

    #[test]
    fn the_last_operators_of_a_drain_are_whole_and_the_others_are_counts() {
        let mut state = State::default();
        for batch in 0..11 {
            keep(&mut state, (1..=1000).map(|n| row(3, batch * 1000 + n, "replace-rule-offline-peer")).collect());
        }
        // What comes twice counts once.
        keep(&mut state, vec![row(3, 11_000, "replace-rule-offline-peer"), row(0, 5, "balance-region")]);
        assert_eq!((whole(&state, 3), whole(&state, 0)), (KEPT_OF_A_DRAIN, 1));
        assert!(state.ended_records().all(|json| !json.contains("\"more\":1000}")), "the oldest went first");
        let older = state.older(StoreId(3));
        assert_eq!((older.kept, older.counts["replace-rule-offline-peer"]["SUCCESS"]), (KEPT_OF_A_DRAIN, 1000));
        assert_eq!(state.hash, hash_anew(&state));
    }

    #[test]
    fn very_many_short_drains_at_once_have_the_same_bound() {
        let (mut state, drains) = (State::default(), DRAINS as u64);
        for batch in 0..60 {
            let rows = (0..2000).map(|n| row(1 + n % drains, batch * 2000 + n, "x"));
            keep(&mut state, rows.collect());
            let kept = (1..=drains).map(|drain| whole(&state, drain)).sum::<usize>();
            assert!(kept <= KEPT_OF_ALL_DRAINS + FADE_AT_ONCE, "{kept}");
        }
    }

    /// Sixteen drains at once that none is done with: what is kept of all is shared by time.
    #[test]
    fn of_many_long_drains_together_the_last_operators_are_whole() {
        const EACH: u64 = 6_000;
        let (mut state, mut id) = (State::default(), 0);
        while id < 16 * EACH {
            let rows = (0..2000).map(|n| row(1 + (id + n) % 16, id + n, "x"));
            keep(&mut state, rows.collect());
            id += 2000;
            let kept = (1..=16).map(|drain| whole(&state, drain)).sum::<usize>();
            assert!(kept <= KEPT_OF_ALL_DRAINS + FADE_AT_ONCE, "{kept}");
        }
        for drain in 1..=16 {
            let older = state.older(StoreId(drain));
            assert_eq!((older.kept, older.kept as u64 + older.counts["x"]["SUCCESS"]), (whole(&state, drain), EACH));
            let share = KEPT_OF_ALL_DRAINS / 16;
            assert!(older.kept.abs_diff(share) <= FADE_AT_ONCE, "drain {drain}: {}", older.kept);
        }
        assert_eq!(state.hash, hash_anew(&state));
    }

    #[test]
    fn drains_that_are_short_are_whole_however_many_and_of_very_many_the_oldest_are_forgotten() {
        let mut state = State::default();
        let (each, drains) = (KEPT_OF_ALL_DRAINS as u64 / 100, DRAINS as u64 + 200);
        for drain in 1..=drains {
            keep(&mut state, (0..each).map(|n| row(drain, drain * each + n, "x")).collect());
            let first = drain.saturating_sub(99).max(1);
            assert!((first..=drain).all(|d| whole(&state, d) as u64 == each), "of a hundred drains each, at {drain}");
            assert!(state.older_records().count() <= DRAINS + 1, "at {drain}");
        }
        assert_eq!(whole(&state, drains - 150), 0, "older ones are counts");
        assert_eq!(state.older(StoreId(drains - 150)).counts["x"]["SUCCESS"], each);
        assert_eq!(state.older(StoreId(1)), Older::default(), "forgotten");
        assert_eq!(state.hash, hash_anew(&state));
    }

    #[test]
    fn descriptions_are_bounded_and_what_is_no_json_is_counted_too() {
        let mut older = Older::default();
        (0..200).for_each(|n| older.fade(&row(1, 1, &format!("d{n}")).json));
        older.fade("no json");
        assert_eq!(older.counts.len(), DESCRIPTIONS + 1);
        assert_eq!(older.counts.values().flat_map(BTreeMap::values).sum::<u64>(), 201);
    }

    #[test]
    fn progress_is_written_and_ends() {
        let mut state = State::default();
        let put = |at: &str| Command::PutRecords { progress: vec![(StoreId(4), Some(at.into()))], ended: vec![] };
        execute(&mut state, Wall(0), &put("1")).unwrap();
        execute(&mut state, Wall(0), &put("2")).unwrap();
        assert_eq!(state.progress_records().collect::<Vec<_>>(), [(StoreId(4), "2")]);
        let end = Command::PutRecords { progress: vec![(StoreId(4), None)], ended: vec![] };
        execute(&mut state, Wall(0), &end).unwrap();
        assert_eq!((state.progress_records().count(), state.hash), (0, 0));
    }
}
