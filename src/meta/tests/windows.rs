//! Ids are never given twice (D1, D3) and timestamps always ascend (T1, T2), over restarts, crashes and clock jumps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::meta::disk::faults::Unsynced;

#[test]
fn d1_ids_as_pd_gives_them() {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let running = start(&disk, 1, &clock);
    assert_eq!(block_on(running.meta.alloc_ids(0)).unwrap(), 1);
    assert_eq!(block_on(running.meta.alloc_ids(5)).unwrap(), 6);
    assert_eq!(block_on(running.meta.alloc_ids(2500)).unwrap(), 2506);
    running.meta.propose_blocking(Command::RebaseIds { above: 10_000 }).unwrap();
    assert_eq!(block_on(running.meta.alloc_ids(1)).unwrap(), 10_001);
    running.host.stop();
}

#[test]
fn d3_a_count_above_the_bound_is_refused() {
    let running = start(&FaultDisk::default(), 1, &TestClock::new());
    let e = block_on(running.meta.alloc_ids(u32::MAX)).unwrap_err();
    assert_eq!(e.to_string(), "too many ids asked for at once: 4294967295, the most is 10000");
    assert!(block_on(running.meta.alloc_ids(MAX_IDS_AT_ONCE)).is_ok());
    running.host.stop();
}

#[test]
#[allow(clippy::disallowed_methods)] // another thread is waited for, in real time
fn d2_ids_that_nodes_show_are_never_given_out() {
    let (disk, clock) = (FaultDisk::default(), TestClock::new());
    let running = start(&disk, 1, &clock);
    assert_eq!(block_on(running.meta.alloc_ids(1)).unwrap(), 1);
    // A storm of reports, each with a higher id: as few proposals as it can be done with.
    for id in (5_000..5_400).step_by(4) {
        running.meta.show_id(id);
    }
    running.meta.show_id(u64::MAX);
    let first = block_on(running.meta.alloc_ids(1)).unwrap();
    // How far above depends on how many windows were asked for meanwhile; one lift a report would come to far more.
    assert!((5_397..20_000).contains(&first), "{first}");
    let next = block_on(running.meta.alloc_ids(1)).unwrap();
    assert!((first + 1..20_000).contains(&next), "{next}");
    // Agreed, so that it holds before the first report after a crash as well.
    running.meta.show_id(9_000_000);
    let patience = std::time::Instant::now() + PATIENCE;
    while running.meta.state().id_end < 9_000_000 {
        assert!(std::time::Instant::now() < patience, "the sequence is lifted without anybody asking for ids");
        std::thread::yield_now();
    }
    running.host.stop();
    let running = start(&disk, 2, &clock);
    assert!(block_on(running.meta.alloc_ids(1)).unwrap() > 9_000_000);
    running.host.stop();
}

#[test]
fn d1_many_at_once_share_the_windows() {
    let running = start(&FaultDisk::default(), 1, &TestClock::new());
    let mut all = BTreeSet::new();
    let threads: Vec<_> = (0..8u32)
        .map(|i| {
            let meta = running.meta.clone();
            std::thread::spawn(move || {
                let mut ids = vec![];
                for n in 0..200 {
                    let count = 1 + (n * 7 + i) % 13;
                    let last = block_on(meta.alloc_ids(count)).unwrap();
                    ids.extend(last + 1 - u64::from(count)..=last);
                    ids.extend(meta.try_alloc_id());
                }
                ids
            })
        })
        .collect();
    for thread in threads {
        for id in thread.join().unwrap() {
            assert!(id != 0 && all.insert(id), "id {id} twice");
        }
    }
    running.host.stop();
}

#[derive(Clone, Debug)]
enum Step {
    Ids(u32),
    TryId,
    Tso(u32),
    Clock(i64),
    Restart,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    const DAY: i64 = 86_400_000_000_000;
    prop_oneof![
        4 => (1..1500u32).prop_map(Step::Ids),
        4 => Just(Step::TryId),
        6 => (1..262_143u32).prop_map(Step::Tso),
        2 => (-5_000_000_000..5_000_000_000i64).prop_map(Step::Clock),
        1 => prop_oneof![Just(-DAY), Just(DAY)].prop_map(Step::Clock),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn d1_t1_t2_over_crashes_and_clock_jumps(steps in proptest::collection::vec(step(), 1..40)) {
        let clock = TestClock::new();
        let mut disk = FaultDisk::default();
        let mut running = start(&disk, 0, &clock);
        let (mut ids, mut last_ts) = (BTreeSet::new(), Timestamp::default());
        for (run, step) in steps.into_iter().enumerate() {
            match step {
                Step::Ids(count) => {
                    let last = block_on(running.meta.alloc_ids(count)).unwrap();
                    for id in last + 1 - u64::from(count)..=last {
                        prop_assert!(ids.insert(id), "id {id} twice");
                    }
                }
                Step::TryId => {
                    if let Some(id) = running.meta.try_alloc_id() {
                        prop_assert!(ids.insert(id), "id {id} twice");
                    }
                }
                Step::Tso(count) => {
                    let ts = block_on(running.meta.tso(count)).unwrap();
                    let first = Timestamp { logical: ts.logical - i64::from(count) + 1, ..ts };
                    prop_assert!(first > last_ts, "{first:?} after {last_ts:?}");
                    last_ts = ts;
                }
                Step::Clock(by) => clock.jump_wall(by),
                Step::Restart => {
                    running.host.stop();
                    running = start(&disk, run as u64 + 1, &clock);
                }
                Step::PowerCut(seed) => {
                    let image = disk.after_power_cut(disk.moment(), Unsynced::Mixed(seed));
                    running.host.stop();
                    disk = image;
                    running = start(&disk, run as u64 + 1, &clock);
                }
            }
        }
        running.host.stop();
    }
}

#[test]
fn t3_counts_that_no_millisecond_holds() {
    let running = start(&FaultDisk::default(), 1, &TestClock::new());
    let text = |count| block_on(running.meta.tso(count)).unwrap_err().to_string();
    assert_eq!(text(0), "[PD:tso:ErrGenerateTimestamp]generate timestamp failed, tso count should be positive");
    let too_many =
        "[PD:tso:ErrGenerateTimestamp]generate timestamp failed, generate tso maximum number of retries exceeded";
    assert_eq!(text(1 << 18), too_many);
    assert_eq!(text(u32::MAX), too_many);
    assert_eq!(block_on(running.meta.tso((1 << 18) - 1)).unwrap().logical, (1 << 18) - 1);
    running.host.stop();
}

#[test]
fn t5_a_reset_holds_over_a_restart() {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let running = start(&disk, 1, &clock);
    let now = block_on(running.meta.tso(1)).unwrap();
    let to = Timestamp { physical_ms: now.physical_ms + 3_600_000, logical: 5 };
    block_on(running.meta.reset_ts(to, false)).unwrap();
    let after = block_on(running.meta.tso(1)).unwrap();
    assert!(after > to);
    let e = block_on(running.meta.reset_ts(now, false)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "[PD:tso:ErrResetUserTimestamp]reset user timestamp failed, the specified ts is smaller than now"
    );
    running.host.stop();
    let running = start(&disk, 2, &clock);
    assert!(block_on(running.meta.tso(1)).unwrap() > after);
    running.host.stop();
}
