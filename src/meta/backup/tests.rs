#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::{
    meta::machine::{Action, Barrier, Cluster, Drain, Member, Row},
    model::{StoreId, StoreLimits, StoreRecord},
};

const CLUSTER: ClusterId = ClusterId(77);

fn base() -> State {
    let mut state = State::default();
    state.apply(&Action::Put(Row::Cluster(Arc::new(Cluster { id: CLUSTER, ..Cluster::default() }))));
    state
}

fn parts(state: State) -> BackupParts {
    let about = About { cluster: CLUSTER, member: MemberId(5), index: 9, term: 2, made: Wall(7), rows: 0 };
    BackupParts::new(Arc::new(state), about)
}

fn bytes(state: State) -> Vec<u8> {
    parts(state).flatten().collect()
}

fn refusal(bytes: &[u8]) -> String {
    Backup::read(bytes).unwrap_err().to_string()
}

fn small() -> State {
    let mut state = base();
    state.apply(&Action::Put(Row::IdEnd(4000)));
    state.apply(&Action::Put(Row::LabelRule("a".into(), "{}".into())));
    state
}

fn row() -> impl Strategy<Value = Row> {
    let text = "[a-z\"\\\\{}]{0,40}";
    let id = (1..50u64).prop_map(StoreId);
    prop_oneof![
        (1..9u64, text).prop_map(|(id, name)| Row::Member(Arc::new(Member {
            id: MemberId(id),
            name,
            ..Member::default()
        }))),
        (id.clone(), text).prop_map(|(id, address)| Row::Store(Arc::new(StoreRecord {
            id,
            address,
            ..StoreRecord::default()
        }))),
        id.clone().prop_map(|id| Row::Limits(id, StoreLimits { add_peer: 15.0, remove_peer: 0.5 })),
        id.clone().prop_map(|store| Row::Drain(Arc::new(Drain { store, since: Wall(1), previous: None, by: None }))),
        id.prop_map(Row::DeadStore),
        text.prop_map(|json| Row::Config(json.into())),
        ("[a-c]", "[a-z]{1,3}", text).prop_map(|(group, id, json)| Row::Rule(group, id, json.into())),
        ("[a-z]{1,3}", text).prop_map(|(id, json)| Row::RuleGroup(id, json.into())),
        ("[a-z]{1,3}", text).prop_map(|(id, json)| Row::LabelRule(id, json.into())),
        ("[a-z]{1,3}", text).prop_map(|(id, json)| Row::Keyspace(id, json.into())),
        ("[a-z]{1,3}", text).prop_map(|(id, json)| Row::Scheduler(id, json.into())),
        any::<u64>().prop_map(Row::IdEnd),
        any::<i64>().prop_map(Row::TsoUpper),
        ("[a-z]{1,3}", any::<u64>()).prop_map(|(id, ts)| Row::Barrier(Arc::new(Barrier { id, ts, expires: 5 }))),
        any::<u32>().prop_map(Row::MaxPeerCount),
        any::<u64>().prop_map(Row::MinResolvedTs),
        any::<u64>().prop_map(Row::GlobalRevision),
    ]
}

proptest! {
    #[test]
    fn r12_any_state_comes_back_with_the_same_hash(rows in proptest::collection::vec(row(), 0..120)) {
        let mut state = base();
        rows.into_iter().for_each(|row| state.apply(&Action::Put(row)));
        let backup = Backup::read(bytes(state.clone()).as_slice()).unwrap();
        prop_assert_eq!(backup.about.rows, state.rows_from(None).count() as u64);
        prop_assert_eq!((backup.about.index, backup.about.term, backup.about.made), (9, 2, Wall(7)));
        prop_assert_eq!(backup.state.hash, state.hash);
        prop_assert_eq!(backup.state, state);
    }
}

#[test]
fn r12_a_large_state_goes_out_in_parts() {
    let mut state = base();
    for i in 0..3000 {
        state.apply(&Action::Put(Row::LabelRule(format!("{i:05}"), "x".repeat(500).into())));
    }
    let all: Vec<Vec<u8>> = parts(state.clone()).collect();
    assert!(all.len() > 6, "{} parts", all.len());
    assert!(all.iter().all(|part| part.len() < 2 * PART_BYTES));
    assert_eq!(Backup::read(all.concat().as_slice()).unwrap().state, state);
    // Parts that changed places.
    let mut turned = all;
    turned.swap(2, 3);
    assert!(refusal(&turned.concat()).starts_with("the backup is damaged: part 2: checksum is"));
    // One that is not there.
    turned.remove(2);
    assert!(refusal(&turned.concat()).starts_with("the backup is damaged: part 3: checksum is"));
}

#[test]
fn r5_every_damaged_byte_is_noticed() {
    let good = bytes(small());
    assert!(good.len() < 1000 && Backup::read(good.as_slice()).is_ok());
    for at in 0..good.len() {
        for flip in 1..=255 {
            let mut bad = good.clone();
            bad[at] ^= flip;
            assert!(Backup::read(bad.as_slice()).is_err(), "byte {at} changed by {flip}");
        }
    }
}

#[test]
fn r5_every_truncation_is_noticed_and_named() {
    let good = bytes(small());
    for length in 0..good.len() {
        let error = refusal(&good[..length]);
        assert!(error.starts_with("the backup is not complete: it breaks off in "), "{length}: {error}");
    }
    let mut longer = good;
    longer.push(0);
    assert_eq!(refusal(&longer), "the backup is damaged: something follows its end");
}

#[test]
fn r5_what_is_no_backup_is_refused_by_name() {
    assert_eq!(refusal(b"redb and more"), "this is not a backup of Berth: it does not begin as one");
    let mut newer = bytes(small());
    newer[8] = 9;
    let text = "the backup has form 9, this binary knows forms up to 1: read it with the newer binary";
    assert_eq!(refusal(&newer), text);
    let good = bytes(small());
    for limit in [4, 11, 40, good.len() as u64 - 1, good.len() as u64] {
        let error = Backup::read_within(good.as_slice(), limit).unwrap_err();
        assert!(matches!(error, BackupError::TooLong(at) if at == limit), "{limit}: {error}");
    }
    assert!(Backup::read_within(good.as_slice(), good.len() as u64 + 1).is_ok());
    // Good parts that do not belong together.
    let (mut a, mut b) = (parts(small()), parts(base()));
    let mixed = [a.next(), a.next(), {
        b.by_ref().take(2).for_each(drop);
        b.next()
    }]
    .into_iter()
    .flatten();
    let error = refusal(&mixed.flatten().collect::<Vec<u8>>());
    assert_eq!(error, "the backup is damaged: it has 3 rows, should have 3 by its header and 1");
}
