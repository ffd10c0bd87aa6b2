//! Who leads, what observers see and when, and what callers get when the host ends.

use parking_lot::Mutex;

use super::*;

#[test]
fn a_group_of_one_leads_at_once_and_makes_itself_known() {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let running = start(&disk, 0x1234_5678, &clock);
    let meta = &running.meta;
    assert!(meta.is_leader());
    assert_eq!(meta.cluster_id().0 >> 32, 1_795_358_338, "seconds above random bits, as PD makes it");
    assert_eq!(meta.cluster_id().0 & 0xffff_ffff, 0x1234_5678);
    let leader = meta.leader().unwrap();
    assert_eq!((leader.id, leader.name.as_str()), (meta.member_id(), "berth-1"));
    assert_eq!(meta.members().len(), 1);
    assert!(meta.leader_since().is_some());
    let ids = (meta.cluster_id(), meta.member_id());
    running.host.stop();
    assert!(!running.meta.is_leader());
    assert!(matches!(running.meta.propose_blocking(mark(0)), Err(MetaError::Stopped)));
    let running = start(&disk, 0x9999, &clock);
    assert_eq!((running.meta.cluster_id(), running.meta.member_id()), ids, "L8: ids are for ever");
    assert_eq!(running.meta.term(), 2);
    running.host.stop();
}

#[test]
fn observers_are_told_in_order_before_the_proposer() {
    let running = start(&FaultDisk::default(), 1, &TestClock::new());
    let seen = Arc::new(Mutex::new(vec![]));
    let (into, meta) = (seen.clone(), running.meta.clone());
    running.meta.observe(Box::new(move |change| {
        if matches!(change, Change::LabelRulesChanged(_)) {
            // The state shows what the change is about.
            into.lock().push(meta.state().label_rules.len());
        }
    }));
    for i in 0..20 {
        running.meta.propose_blocking(mark(i)).unwrap();
        assert_eq!(seen.lock().len(), i + 1);
    }
    assert_eq!(*seen.lock(), (1..=20).collect::<Vec<_>>());
    running.host.stop();
}

#[test]
fn a_refusal_changes_nothing_and_is_told() {
    let running = start(&FaultDisk::default(), 1, &TestClock::new());
    let before = running.meta.state();
    let e = running.meta.propose_blocking(Command::UpStore { id: 999.into() }).unwrap_err();
    assert_eq!(e.to_string(), "[PD:core:ErrStoreNotFound]store 999 not found");
    let weight = Command::SetStoreWeight { id: 1.into(), leader: f64::NAN, region: 1.0 };
    assert!(running.meta.propose_blocking(weight).is_err());
    let config = Command::SaveDynamicConfig { json: "x".repeat(MAX_COMMAND_BYTES) };
    assert!(matches!(running.meta.propose_blocking(config), Err(MetaError::TooLarge { .. })));
    assert_eq!(*running.meta.state(), *before);
    running.host.stop();
}

#[test]
fn many_proposers_at_once_are_written_together() {
    let disk = FaultDisk::default();
    let running = start(&disk, 1, &TestClock::new());
    let before = disk.moment();
    block_on(async {
        let all = (0..300).map(|i| {
            let meta = running.meta.clone();
            async move { meta.propose(mark(i)).await }
        });
        for outcome in futures::future::join_all(all).await {
            outcome.unwrap();
        }
    });
    assert_eq!(marks(&running.meta), 300);
    let syncs = disk.syncs_since(before);
    assert!(syncs < 300, "{syncs} syncs for 300 proposals: no group commit");
    running.host.stop();
}

#[test]
fn the_log_is_cut_and_the_state_survives() {
    let disk = FaultDisk::default();
    let clock = TestClock::new();
    let raft = RaftTimings { compact_every: 8, compact_keep: 4, ..RaftTimings::default() };
    let running = start_with(Options { raft, ..options(&disk, 1) }, &clock).unwrap();
    assert!(running.meta.wait_until_leader(PATIENCE));
    for i in 0..100 {
        running.meta.propose_blocking(mark(i)).unwrap();
    }
    running.host.stop();
    // A cut log cannot make a lost state again, and says so.
    let copy = disk.copy();
    copy.remove(STATE_FILE);
    assert!(matches!(start_with(options(&copy, 2), &clock), Err(OpenError::Missing { .. })));
    let running = start(&disk, 2, &clock);
    assert_eq!(marks(&running.meta), 100);
    running.host.stop();
}

#[test]
fn a_panic_of_an_observer_ends_serving() {
    let running = start(&FaultDisk::default(), 1, &TestClock::new());
    running.meta.observe(Box::new(|change| assert!(!matches!(change, Change::LabelRulesChanged(_)), "on purpose")));
    assert!(running.meta.propose_blocking(mark(0)).is_err());
    running.host.stop();
    assert!(!running.meta.is_leader() && running.meta.failure().is_some());
    assert!(block_on(running.meta.tso(1)).is_err() && running.meta.try_alloc_id().is_none());
}

#[test]
fn callers_that_wait_are_answered_when_the_host_ends() {
    let disk = FaultDisk::default();
    let running = start(&disk, 1, &TestClock::new());
    let (meta, host) = (running.meta.clone(), running.host);
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let meta = meta.clone();
            std::thread::spawn(move || {
                // Until the end; each of them gets an answer to everything it asked.
                (0..1_000_000).find_map(|i| {
                    let id = format!("{caller}-{i}");
                    let command = Command::PutKeyspace(NamedRow { id, json: "{}".into() });
                    meta.propose_blocking(command).err()
                })
            })
        })
        .collect();
    while meta.state().keyspaces.len() < 50 {
        std::thread::yield_now();
    }
    host.stop();
    for caller in callers {
        let error = caller.join().unwrap().expect("an error at the end");
        assert!(matches!(error, MetaError::Stopped | MetaError::NotLeader { .. }), "{error}");
    }
}
