//! What was acknowledged is there after a crash at any moment (R1 to R4).

use super::*;
use crate::meta::disk::faults::Unsynced;

/// Runs `count` marks on `disk` and says at which moment each was acknowledged.
fn run_script(disk: &FaultDisk, raft: RaftTimings, count: usize) -> Vec<usize> {
    let clock = TestClock::new();
    let running = start_with(Options { raft, ..options(disk, 1) }, &clock).unwrap();
    assert!(running.meta.wait_until_leader(PATIENCE));
    let acknowledged = (0..count)
        .map(|i| {
            running.meta.propose_blocking(mark(i)).unwrap();
            disk.moment()
        })
        .collect();
    running.host.stop();
    acknowledged
}

fn check_cut(disk: &FaultDisk, acknowledged: &[usize], moment: usize, unsynced: Unsynced) {
    let image = disk.after_power_cut(moment, unsynced);
    let context = format!("power cut at {moment}, unsynced writes {unsynced:?}");
    let clock = TestClock::new();
    let running = start_with(options(&image, 2), &clock).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert!(running.meta.wait_until_leader(PATIENCE), "{context}: {:?}", running.meta.failure());
    let promised = acknowledged.iter().filter(|at| **at <= moment).count();
    let found = marks(&running.meta);
    assert!(found >= promised && found <= acknowledged.len(), "{context}: {promised} acknowledged, {found} found");
    // And it goes on from there.
    running.meta.propose_blocking(mark(found)).unwrap();
    assert_eq!(marks(&running.meta), found + 1, "{context}");
    running.host.stop();
}

#[test]
fn r1_r2_r3_nothing_acknowledged_is_lost_by_a_power_cut_anywhere() {
    let disk = FaultDisk::default();
    let acknowledged = run_script(&disk, RaftTimings::default(), 8);
    let moments = disk.moment();
    assert!(moments > 100, "the script must write something");
    for moment in 0..=moments {
        for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Mixed(moment as u64)] {
            check_cut(&disk, &acknowledged, moment, unsynced);
        }
    }
}

#[test]
fn r2_r4_the_same_while_the_log_is_being_cut() {
    let disk = FaultDisk::default();
    let raft = RaftTimings { compact_every: 4, compact_keep: 2, ..RaftTimings::default() };
    let acknowledged = run_script(&disk, raft, 24);
    let moments = disk.moment();
    for moment in (0..=moments).step_by(3) {
        for unsynced in [Unsynced::Lost, Unsynced::Mixed(moment as u64)] {
            check_cut(&disk, &acknowledged, moment, unsynced);
        }
    }
}

#[test]
fn r1_the_same_over_many_starts() {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let mut hash = None;
    for i in 0..10 {
        let running = start(&disk, i as u64, &clock);
        assert_eq!(marks(&running.meta), i);
        if let Some(hash) = hash {
            assert_eq!(running.meta.state().hash, hash, "the state comes back as it was");
        }
        running.meta.propose_blocking(mark(i)).unwrap();
        hash = Some(running.meta.state().hash);
        running.host.stop();
    }
}

#[test]
fn r7_after_a_failed_sync_nothing_is_acknowledged() {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let running = start(&disk, 1, &clock);
    running.meta.propose_blocking(mark(0)).unwrap();
    let (told, failures) = std::sync::mpsc::sync_channel(8);
    running.meta.observe(Box::new(move |change| {
        if let Change::Failed(what) = change {
            told.send(what.clone()).unwrap();
        }
    }));
    disk.fail_syncs_after(0);
    assert!(matches!(running.meta.propose_blocking(mark(1)), Err(MetaError::Disk(_))));
    assert!(matches!(running.meta.propose_blocking(mark(2)), Err(MetaError::Disk(_) | MetaError::NotLeader { .. })));
    assert!(failures.recv_timeout(PATIENCE).unwrap().contains("raft-log.redb"));
    assert!(!running.meta.is_leader() && running.meta.failure().is_some());
    assert!(running.meta.try_alloc_id().is_none());
    assert!(block_on(running.meta.tso(1)).is_err());
    running.host.stop();
    let again = disk.after_power_cut(disk.moment(), Unsynced::Lost);
    let running = start(&again, 2, &clock);
    assert_eq!(marks(&running.meta), 1);
    running.host.stop();
}

#[test]
fn r7_a_full_disk_loses_nothing_that_was_acknowledged() {
    for room in (0..40_000).step_by(4_000) {
        let disk = FaultDisk::default();
        let clock = TestClock::new();
        let running = start(&disk, 1, &clock);
        disk.fill_up_after(room);
        let outcomes = (0..200).map(|i| running.meta.propose_blocking(mark(i)));
        let (written, refusal) =
            outcomes.enumerate().find_map(|(i, o)| Some((i, o.err()?))).expect("the disk is full at some time");
        assert!(matches!(&refusal, MetaError::Disk(_)), "after {room} bytes: {refusal}");
        running.host.stop();
        let running = start(&disk.after_power_cut(disk.moment(), Unsynced::Lost), 2, &clock);
        let found = marks(&running.meta);
        assert!(found >= written && found <= written + 1, "{written} acknowledged, {found} found");
        running.host.stop();
    }
}
