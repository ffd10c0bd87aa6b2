//! Three members on threads of their own, with what they send handed over in memory.

use std::{collections::BTreeMap, time::Instant};

use parking_lot::RwLock;

use super::*;
use crate::{meta::host::HostHandle, model::MemberId};

/// The clocks of this machine.
#[derive(Debug)]
pub(super) struct RealClock(Instant);

impl RealClock {
    #[allow(clippy::disallowed_methods)] // members on threads need time that passes
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealClock {
    fn now(&self) -> Now {
        let passed = u64::try_from(self.0.elapsed().as_nanos()).unwrap();
        Now { mono: Mono(1 + passed), wall: Wall(1_795_358_338_040_000_000 + passed.cast_signed()) }
    }
}

/// Hands over what members send, as long as the receiver is there.
#[derive(Clone, Default)]
struct Switch(Arc<RwLock<BTreeMap<MemberId, Meta>>>);

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switch")
    }
}

impl Transport for Switch {
    fn send(&self, to: MemberId, bytes: Vec<u8>) {
        if let Some(meta) = self.0.read().get(&to) {
            drop(meta.receive(&bytes));
        }
    }
}

pub(super) fn leader(group: &[(Meta, HostHandle)]) -> Meta {
    for _ in 0..6000 {
        if let Some((meta, _)) = group.iter().find(|(m, _)| m.is_leader()) {
            return meta.clone();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody leads");
}

/// Three members that make a cluster together.
pub(super) struct Three {
    switch: Switch,
    disks: Vec<FaultDisk>,
    pub(super) group: Vec<(Meta, HostHandle)>,
}

impl Three {
    pub(super) fn start() -> Self {
        let (switch, clock) = (Switch::default(), RealClock::new());
        let name = |n: u32| format!("berth-{n}");
        let urls = |n: u32| vec![format!("http://10.0.0.{n}:2380")];
        let members: Vec<Founder> = (1..=3).map(|n| Founder { name: name(n), peer_urls: urls(n) }).collect();
        let disks = vec![FaultDisk::default(), FaultDisk::default(), FaultDisk::default()];
        let group = (1..=3)
            .zip(&disks)
            .map(|(n, disk)| {
                let founding = Founding::Initial { members: members.clone(), token: "t".into() };
                let member = MemberInfo { name: name(n), peer_urls: urls(n), ..member() };
                let options = Options { member, ..options(disk, u64::from(n)) };
                let transport = Arc::new(switch.clone());
                let (meta, host) = Meta::open_member(options, founding, transport, clock.clone(), logger()).unwrap();
                switch.0.write().insert(meta.member_id(), meta.clone());
                (meta, host.spawn().unwrap())
            })
            .collect();
        Self { switch, disks, group }
    }

    /// Waits until it holds.
    pub(super) fn until(&self, holds: impl Fn(&[(Meta, HostHandle)]) -> bool) {
        Self::wait(|| holds(&self.group));
    }

    fn wait(holds: impl Fn() -> bool) {
        for _ in 0..6000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not come to hold");
    }

    /// Stops all of them; their disks.
    pub(super) fn stop(self) -> Vec<FaultDisk> {
        self.switch.0.write().clear();
        self.group.into_iter().for_each(|(_, host)| host.stop());
        self.disks
    }
}

#[test]
fn r8_t1_three_members_on_threads_go_on_without_one() {
    let Three { switch, mut group, .. } = Three::start();
    let first = leader(&group);
    first.propose_blocking(mark(0)).unwrap();
    let before = block_on(first.tso(10)).unwrap();
    assert_eq!(first.group().voters.len(), 3);
    assert!(first.receive(b"not a message").is_err() && first.group_counts().refused == 1);
    // To another member, in order; the first serves no longer.
    let successor = first.group().voters.iter().copied().find(|id| *id != first.member_id()).unwrap();
    // (Not before it has been heard to have what the leader has.)
    Three::wait(|| block_on(first.transfer_leader(successor)).is_ok());
    assert!(!first.is_leader() && block_on(first.tso(1)).is_err());
    let second = leader(&group);
    assert!(block_on(second.tso(1)).unwrap() > before);
    second.propose_blocking(mark(1)).unwrap();
    // The leader goes for good.
    let at = group.iter().position(|(m, _)| m.member_id() == second.member_id()).unwrap();
    switch.0.write().remove(&second.member_id());
    group.remove(at).1.stop();
    let third = leader(&group);
    third.propose_blocking(mark(2)).unwrap();
    assert_eq!(marks(&third), 3);
    for (_, host) in group {
        host.stop();
    }
}
