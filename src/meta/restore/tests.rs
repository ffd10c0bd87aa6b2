#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::{
    meta::backup::About,
    model::{StoreId, StoreRecord},
};

const NOW: Wall = Wall(1_795_358_338_040_000_000);
const MS: i64 = 1_000_000;
const DAY: i64 = 86_400_000;

fn backup(id_end: u64, tso_upper: i64, made: Wall) -> Backup {
    let mut state = State::default();
    let cluster = Cluster { id: ClusterId(77), ..Cluster::default() };
    let store = StoreRecord { id: StoreId(50), ..StoreRecord::default() };
    for row in [
        Row::Cluster(Arc::new(cluster)),
        Row::Store(Arc::new(store)),
        Row::Member(Arc::default()),
        Row::IdEnd(id_end),
        Row::TsoUpper(tso_upper),
    ] {
        state.apply(&Action::Put(row));
    }
    let about = About { cluster: ClusterId(77), member: MemberId(0), index: 30, term: 4, made, rows: 5 };
    Backup { about, state }
}

fn begun(backup: Backup, alloc_id: Option<u64>) -> Result<State, String> {
    let ahead = Ahead { alloc_id, ..Ahead::default() };
    restored(backup, ahead, NOW).map(|b| b.state).map_err(|e| e.to_string())
}

#[test]
fn d2_ids_begin_above_all_that_may_be_taken() {
    let id_end = |taken, alloc_id| begun(backup(taken, 0, NOW), alloc_id).map(|s| s.id_end);
    assert_eq!(id_end(4000, None), Ok(4000 + ID_MARGIN));
    assert_eq!(id_end(4000, Some(9000)), Ok(9000));
    let text = "ids up to 4000 are taken, --alloc-id 3999 would give some of them out again";
    assert_eq!(id_end(4000, Some(3999)), Err(text.into()));
    // A store that brought its id along.
    let text = "ids up to 50 are taken, --alloc-id 49 would give some of them out again";
    assert_eq!(id_end(10, Some(49)), Err(text.into()));
    assert!(id_end(10, Some(MAX_ID + 1)).unwrap_err().starts_with("--alloc-id 4611686018427387905 is above "));
    assert_eq!(id_end(MAX_ID - 5, None), Ok(MAX_ID));
}

#[test]
fn t1_t2_timestamps_begin_above_the_clock_and_above_what_was_saved() {
    let now_ms = NOW.unix_millis();
    let upper = |saved, made| begun(backup(0, saved, made), None).unwrap().tso_upper_ms;
    let ahead = i64::try_from(TSO_AHEAD.as_millis()).unwrap();
    // A day old: what was given out since lies below the clock of today, and as far ahead of it as then.
    let then = Wall(NOW.0 - DAY * MS);
    assert_eq!(upper(now_ms - DAY + 3000, then), now_ms + 3000 + ahead);
    // This machine's clock is a day behind.
    let then = Wall(NOW.0 + DAY * MS);
    assert_eq!(upper(now_ms + DAY + 3000, then), now_ms + DAY + 3000 + ahead);
    assert_eq!(upper(i64::MAX, then), i64::MAX);
}

#[test]
fn nobody_of_the_old_group_is_in_the_new_one() {
    assert!(begun(backup(1, 1, NOW), None).unwrap().members.is_empty());
}

#[test]
fn only_a_folder_with_nothing_in_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    let first = restore(backup(10, 0, NOW), &folder, Ahead::default(), NOW, 1).unwrap();
    assert_eq!((first.cluster, first.id_end), (ClusterId(77), 50 + ID_MARGIN));
    let again = restore(backup(10, 0, NOW), &folder, Ahead::default(), NOW, 2).unwrap_err().to_string();
    assert!(again.contains(" is not empty, it has ") && again.contains(".redb: restore only into an empty"), "{again}");
    let other = dir.path().join("other");
    let second = restore(backup(10, 0, NOW), &other, Ahead::default(), NOW, 2).unwrap();
    assert_ne!(first.member, second.member, "two restores are not the same member");
    let lost = |id| Lost {
        cluster: ClusterId(id),
        alloc_id: 900,
        tso_ahead: TSO_AHEAD,
        label_rules: vec![],
        keyspaces: vec![],
    };
    assert_eq!(recover(lost(0), &other, NOW, 1).unwrap_err().to_string(), "a cluster id is not 0");
    assert!(recover(lost(5), &other, NOW, 1).unwrap_err().to_string().contains(" is not empty"));
    let made = recover(lost(5), &dir.path().join("third"), NOW, 1).unwrap();
    assert_eq!((made.cluster, made.id_end), (ClusterId(5), 900));
}
