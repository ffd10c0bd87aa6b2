//! Folders that cannot be used are refused by name, and damage is never passed over (R5).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn used_disk() -> FaultDisk {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let running = start(&disk, 1, &clock);
    for i in 0..5 {
        running.meta.propose_blocking(mark(i)).unwrap();
    }
    running.host.stop();
    disk
}

fn refusal(disk: &FaultDisk) -> OpenError {
    match Meta::open(options(disk, 3), TestClock::new(), logger()) {
        Ok(_) => panic!("opened"),
        Err(e) => e,
    }
}

#[test]
fn two_servers_on_one_folder() {
    let disk = FaultDisk::default();
    let running = start(&disk, 1, &TestClock::new());
    let e = refusal(&disk);
    assert!(matches!(e, OpenError::Locked(_)));
    assert_eq!(e.to_string(), "another server is using the data directory memory");
    running.host.stop();
    start(&disk, 1, &TestClock::new()).host.stop();
}

#[test]
fn two_servers_on_one_folder_of_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not").join("there");
    let open =
        |entropy| Meta::open(Options::in_folder(&folder, member(), entropy).unwrap(), TestClock::new(), logger());
    let (meta, host) = open(1).unwrap();
    let handle = host.spawn().unwrap();
    assert!(meta.wait_until_leader(PATIENCE));
    assert!(matches!(open(2), Err(OpenError::Locked(_))));
    meta.propose_blocking(mark(0)).unwrap();
    handle.stop();
    let (meta, host) = open(3).unwrap();
    let handle = host.spawn().unwrap();
    assert!(meta.wait_until_leader(PATIENCE));
    assert_eq!(marks(&meta), 1);
    handle.stop();
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["LOCK", "raft-log.redb", "state.redb"]);
}

#[test]
fn r5_foreign_empty_and_swapped_files() {
    for name in [LOG_FILE, STATE_FILE] {
        for content in [vec![], b"hello".to_vec(), vec![0; 1 << 16]] {
            let disk = used_disk();
            disk.place(name, content);
            let e = refusal(&disk);
            assert!(matches!(&e, OpenError::Foreign { file, .. } if file == name), "{e}");
        }
    }
    let disk = used_disk();
    disk.place(STATE_FILE, disk.bytes(LOG_FILE));
    assert!(matches!(refusal(&disk), OpenError::Foreign { .. }));
}

#[test]
fn r5_files_of_another_member() {
    let (disk, other) = (used_disk(), FaultDisk::default());
    start(&other, 99, &TestClock::new()).host.stop();
    disk.place(STATE_FILE, other.bytes(STATE_FILE));
    let e = refusal(&disk);
    assert!(matches!(e, OpenError::Mixed { .. }), "{e}");
}

#[test]
fn r5_a_missing_file() {
    let disk = used_disk();
    disk.remove(LOG_FILE);
    assert!(matches!(refusal(&disk), OpenError::Missing { file, .. } if file == LOG_FILE));
    // The state can be made again from a log that was never cut.
    let disk = used_disk();
    disk.remove(STATE_FILE);
    let running = start(&disk, 3, &TestClock::new());
    assert_eq!(marks(&running.meta), 5);
    running.host.stop();
}

#[test]
fn r5_a_flipped_bit_is_never_accepted_as_another_state() {
    let disk = used_disk();
    let running = start(&disk, 1, &TestClock::new());
    let good = running.meta.state();
    running.host.stop();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut refused = 0;
    for _ in 0..300 {
        let copy = disk.copy();
        let name = if rng.random_bool(0.5) { LOG_FILE } else { STATE_FILE };
        let mut at = 0;
        copy.edit(name, |bytes| {
            // Where something is written; the rest of the file is room.
            let used: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != 0).collect();
            at = used[rng.random_range(0..used.len())];
            bytes[at] ^= 1 << rng.random_range(0..8);
        });
        match start_with(options(&copy, 4), &TestClock::new()) {
            Err(e) => {
                refused += 1;
                assert!(e.to_string().contains(name), "{e}");
            }
            Ok(running) => {
                assert!(running.meta.wait_until_leader(PATIENCE));
                let state = running.meta.state();
                assert_eq!(state.label_rules, good.label_rules, "{name} changed at {at}");
                assert_eq!(state.cluster, good.cluster);
                running.host.stop();
            }
        }
    }
    // Most of what is written in the files are pages that nothing refers to any more.
    assert!(refused > 5, "only {refused} of 300 were noticed");
}
