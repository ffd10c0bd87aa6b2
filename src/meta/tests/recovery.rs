//! Backups become members again, and a member goes on without the others (R12, D2, T1).

use super::{
    group::{Three, leader},
    *,
};
use crate::{
    meta::{
        disk::faults::Unsynced,
        restore::{plant, restored},
    },
    model::MemberId,
};

/// A backup of a member that has `count` marks, an id that was handed out, and a timestamp; and the member's id.
fn backed_up(count: usize) -> (Backup, u64, Timestamp, MemberId) {
    let clock = TestClock::new();
    let running = start(&FaultDisk::default(), 1, &clock);
    for i in 0..count {
        running.meta.propose_blocking(mark(i)).unwrap();
    }
    let (id, ts) = block_on(async { (running.meta.alloc_ids(10).await.unwrap(), running.meta.tso(10).await.unwrap()) });
    let parts = running.meta.backup();
    // What is written while it goes out is not in it.
    running.meta.propose_blocking(mark(count)).unwrap();
    let bytes: Vec<u8> = parts.flatten().collect();
    let member = running.meta.member_id();
    running.host.stop();
    (Backup::read(bytes.as_slice()).unwrap(), id, ts, member)
}

#[test]
fn r12_t1_d2_a_backup_becomes_a_member_that_goes_on() {
    let (backup, id, ts, old) = backed_up(5);
    let (cluster, index) = (backup.about.cluster, backup.about.index);
    let (disk, clock) = (FaultDisk::default(), TestClock::new());
    // The clock of the new machine is behind.
    clock.jump_wall(-3_600_000_000_000);
    let begin = restored(backup, Ahead::default(), clock.now().wall).unwrap();
    let planted = plant(&disk, std::path::Path::new("memory"), begin, clock.now().wall, 7).unwrap();
    assert_ne!(planted.member, old);
    for start_number in 0..2 {
        let running = start(&disk, 20 + start_number, &clock);
        let meta = &running.meta;
        assert_eq!((meta.cluster_id(), meta.member_id()), (cluster, planted.member));
        assert_eq!(marks(meta), 5 + start_number as usize);
        assert_eq!(meta.members().iter().map(|m| m.id).collect::<Vec<_>>(), [planted.member]);
        assert!(block_on(meta.alloc_ids(1)).unwrap() > id.max(planted.id_end));
        assert!(block_on(meta.tso(1)).unwrap() > ts);
        assert!(meta.backup().about().index > index);
        meta.propose_blocking(mark(5 + start_number as usize)).unwrap();
        running.host.stop();
    }
}

#[test]
fn r3_r12_a_restore_that_is_cut_short_is_never_taken_for_a_member() {
    let (backup, ..) = backed_up(3);
    let (disk, clock) = (FaultDisk::default(), TestClock::new());
    let cluster = backup.about.cluster;
    let begin = restored(backup, Ahead::default(), clock.now().wall).unwrap();
    plant(&disk, std::path::Path::new("memory"), begin, clock.now().wall, 7).unwrap();
    let (mut refused, mut whole) = (0, 0);
    for moment in 0..=disk.moment() {
        for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Mixed(moment as u64), Unsynced::Kept] {
            let image = disk.after_power_cut(moment, unsynced);
            let there = [STATE_FILE, LOG_FILE].map(|name| image.exists(name).unwrap());
            match there {
                [false, false] => continue,
                [true, false] => {
                    let e = Meta::open(options(&image, 3), clock.clone(), logger()).expect_err("refused");
                    assert_eq!(e.to_string(), "raft-log.redb is missing, but state.redb is there");
                    refused += 1;
                }
                [true, true] => {
                    let running = start(&image, 3, &clock);
                    assert_eq!((running.meta.cluster_id(), marks(&running.meta)), (cluster, 3));
                    running.host.stop();
                    whole += 1;
                }
                [false, true] => panic!("the log is there before the state: power cut at {moment}, {unsynced:?}"),
            }
        }
    }
    assert!(refused > 0 && whole > 0, "{refused} refused, {whole} whole");
}

/// The disk of one of three that followed, after marks were written and ids and timestamps given out by the leader.
fn one_of_three() -> (FaultDisk, MemberId, u64, Timestamp) {
    let three = Three::start();
    let first = leader(&three.group);
    for i in 0..4 {
        first.propose_blocking(mark(i)).unwrap();
    }
    let (id, ts) = block_on(async { (first.alloc_ids(10).await.unwrap(), first.tso(10).await.unwrap()) });
    assert_eq!(first.members().len(), 3);
    // Until a follower has applied what is acknowledged.
    let follower = three.group.iter().position(|(m, _)| m.member_id() != first.member_id()).unwrap();
    three.until(|group| marks(&group[follower].0) == 4 && group[follower].0.state().id_end >= id);
    let member = three.group[follower].0.member_id();
    (three.stop().swap_remove(follower), member, id, ts)
}

fn forced(disk: &FaultDisk, entropy: u64) -> Options {
    let raft = RaftTimings { tick: Duration::from_millis(10), ..RaftTimings::default() };
    Options { force_new: true, raft, ..options(disk, entropy) }
}

/// Starts a member that used to be one of three, with clocks that pass.
fn start_real(options: Options) -> Running {
    let (meta, host) = Meta::open(options, group::RealClock::new(), logger()).unwrap();
    Running { meta, host: host.spawn().unwrap() }
}

#[test]
fn r8_t1_d2_one_of_three_goes_on_alone_when_it_is_told_to() {
    let (disk, member, id, ts) = one_of_three();
    let running = start_real(forced(&disk, 9));
    let meta = &running.meta;
    assert!(meta.wait_until_leader(PATIENCE));
    assert_eq!((meta.member_id(), marks(meta)), (member, 4));
    assert_eq!(meta.group().voters, [member]);
    assert_eq!(meta.members().iter().map(|m| m.id).collect::<Vec<_>>(), [member], "the rows of the others go");
    assert!(block_on(meta.alloc_ids(1)).unwrap() > id + ID_MARGIN);
    assert!(block_on(meta.tso(1)).unwrap() > ts);
    meta.propose_blocking(mark(4)).unwrap();
    let written = meta.backup().about().index;
    running.host.stop();
    // Told again, nothing happens any more; not told, it stays alone.
    for (entropy, force_new) in [(10, true), (11, false)] {
        let running = start_real(Options { force_new, ..options(&disk, entropy) });
        assert!(running.meta.wait_until_leader(PATIENCE));
        assert_eq!((marks(&running.meta), running.meta.members().len()), (5, 1));
        let more = running.meta.backup().about().index - written;
        assert!(more <= 10, "{more} entries more");
        running.host.stop();
    }
}

#[test]
fn r2_r8_a_crash_while_the_others_are_removed_leaves_three_or_one() {
    let (disk, member, ..) = one_of_three();
    disk.forget_history();
    let before = disk.moment();
    let running = start_real(forced(&disk, 9));
    assert!(running.meta.wait_until_leader(PATIENCE));
    running.host.stop();
    let (mut three, mut one) = (0, 0);
    for moment in (before..=disk.moment()).step_by(2) {
        for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Mixed(moment as u64)] {
            let image = disk.after_power_cut(moment, unsynced);
            // Not told again: what it is now.
            let core = Meta::open(options(&image.copy(), 12), TestClock::new(), logger()).unwrap().0;
            match core.group().voters.len() {
                3 => three += 1,
                1 => one += 1,
                other => panic!("{other} voters: power cut at {moment}, {unsynced:?}"),
            }
            if moment % 16 != 0 {
                continue;
            }
            let running = start_real(forced(&image, 13));
            assert!(running.meta.wait_until_leader(PATIENCE), "power cut at {moment}, {unsynced:?}");
            assert_eq!((running.meta.member_id(), marks(&running.meta)), (member, 4));
            assert_eq!(running.meta.group().voters, [member]);
            running.host.stop();
        }
    }
    assert!(three > 0 && one > 0, "{three} times three, {one} times one");
}

#[test]
fn a_member_without_a_cluster_has_nothing_to_go_on_from() {
    let disk = FaultDisk::default();
    let join = Founding::Join { cluster: crate::model::ClusterId(5), member: MemberId(6) };
    let (meta, host) =
        Meta::open_member(options(&disk, 1), join, Arc::new(peer::NoTransport), TestClock::new(), logger()).unwrap();
    drop((meta, host));
    let e = Meta::open(forced(&disk, 2), TestClock::new(), logger()).expect_err("refused").to_string();
    assert_eq!(e, "--force-new-cluster: there is no cluster in the data directory to go on from");
    // An empty folder is founded as always.
    let fresh = FaultDisk::default();
    let running = start_with(forced(&fresh, 3), &TestClock::new()).unwrap();
    assert!(running.meta.wait_until_leader(PATIENCE));
    running.host.stop();
}
