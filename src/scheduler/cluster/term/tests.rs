#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    model::{
        Flow, Peer, PeerTraffic, Region, RegionId, Role, StoreId, StoreLimits, StoreRecord, StoreState, StoreStats,
    },
    scheduler::{
        admin::Request,
        cluster::HeartbeatError,
        effect::{CommandKind, Effect, Event},
        testing::{Ids, World, carry_out},
        view::IdSource,
    },
    store::{
        RegionIndex,
        hot::{HotPeer, Traffic},
        warm::{Reader, reader::Next},
    },
};

const REGIONS: u64 = 24;
const LIMITS: StoreLimits = StoreLimits { add_peer: 600.0, remove_peer: 600.0 };

/// Members with the same agreed state, and nodes that report to the one that leads.
struct Group {
    members: Vec<Cluster>,
    leads: usize,
    truth: RegionIndex,
    records: Vec<StoreRecord>,
    now: Now,
    told: Vec<Effect>,
}

impl Group {
    fn new(members: usize) -> Self {
        let world = World::new(5);
        let ids: Arc<dyn IdSource> = Arc::new(Ids::default());
        let now = world.now;
        let records: Vec<StoreRecord> =
            world.stores.snapshot().values().map(|s| StoreRecord::clone(&s.record)).collect();
        let new = |_| {
            let cluster = Cluster::new(world.settings.clone(), ids.clone(), now);
            cluster.end_term(now);
            for record in &records {
                cluster.put_store(Arc::new(record.clone()), now);
                cluster.set_limits(record.id, LIMITS, now);
            }
            cluster
        };
        let members = (0..members).map(new).collect();
        let truth = RegionIndex::default();
        for at in 1..=REGIONS {
            truth.apply(World::region(at, &[1, 2, 3])).unwrap();
        }
        let mut group = Self { members, leads: 0, truth, records, now, told: vec![] };
        group.elect(0);
        group
    }

    fn leader(&self) -> &Cluster {
        &self.members[self.leads]
    }

    fn elect(&mut self, member: usize) {
        for other in &self.members {
            other.end_term(self.now);
        }
        self.leads = member;
        self.leader().begin_term(false, self.now);
    }

    fn drain(&mut self, store: u64) {
        let record = self.records.iter_mut().find(|r| r.id == StoreId(store)).unwrap();
        record.state = StoreState::Offline;
        for member in &self.members {
            member.put_store(Arc::new(record.clone()), self.now);
        }
    }

    fn report_stores(&self) {
        for record in &self.records {
            let region_count = u32::try_from(self.truth.summary(record.id).region_count).unwrap();
            let stats = StoreStats { capacity: 1 << 40, available: 1 << 39, region_count, ..StoreStats::default() };
            self.leader().store_heartbeat(record.id, stats, self.now);
        }
    }

    fn report_regions(&mut self) {
        for region in self.truth.iter_from(&[], usize::MAX) {
            let out = self.leader().region_heartbeat(Region::clone(&region), self.now).unwrap();
            self.told.extend(out);
        }
    }

    /// Lets 10 ms pass: nodes obey what was sent, and report what has changed.
    fn tick(&mut self) {
        self.now = self.now.plus(Duration::from_millis(10));
        let out = self.leader().tick(self.now);
        self.told.extend(out);
        let mut sent: Vec<Effect> = std::mem::take(&mut self.told);
        while let Some(effect) = sent.pop() {
            let Effect::Send(command) = &effect else { continue };
            let Some(region) = self.truth.get(command.region) else { continue };
            for after in carry_out(&region, command) {
                self.truth.apply(after.clone()).unwrap();
                sent.extend(self.leader().region_heartbeat(after, self.now).unwrap());
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.plus(time).mono;
        while self.now.mono < until {
            if self.now.mono.0.is_multiple_of(1_000_000_000) {
                self.report_stores();
            }
            self.tick();
        }
    }

    fn left_on(&self, store: u64) -> u64 {
        self.truth.summary(StoreId(store)).region_count
    }
}

#[test]
fn o8_a_drain_goes_on_under_the_next_leader_and_no_operator_of_the_last_does() {
    let mut group = Group::new(2);
    group.report_stores();
    group.report_regions();
    group.drain(3);
    while group.left_on(3) > REGIONS / 2 {
        group.pass(Duration::from_millis(10));
    }
    let under_way = group.leader().operators().len() + group.leader().waiting_operators().len();
    group.elect(1);
    let old = &group.members[0];
    assert_eq!((old.operators().len(), old.waiting_operators().len()), (0, 0), "of {under_way}");
    group.pass(Duration::from_secs(2));
    assert!(group.leader().operators().is_empty(), "nothing is scheduled before enough was heard");
    group.report_regions();
    group.report_stores();
    group.pass(Duration::from_secs(60));
    assert_eq!(group.left_on(3), 0, "the drain goes on to its end");
    group.report_stores();
    group.pass(Duration::from_secs(1));
    let changes = group.leader().store_changes(group.now);
    assert!(changes.contains(&crate::scheduler::life::StoreChange::Bury(StoreId(3))), "{changes:?}");
    assert!(group.members[0].store_changes(group.now).is_empty(), "who does not lead buries nobody");
}

#[test]
fn o8_a_region_in_a_joint_state_is_led_out_of_it_by_the_next_leader() {
    let mut group = Group::new(2);
    let mut joint = World::region(3, &[1, 2, 3]);
    let meta = Arc::make_mut(&mut joint.meta);
    meta.peers.push(Peer { role: Role::IncomingVoter, ..Peer::voter(9000, 4) });
    meta.peers[2].role = Role::DemotingVoter;
    meta.epoch.conf_ver += 1;
    group.truth.apply(joint).unwrap();
    group.elect(1);
    group.report_stores();
    group.report_regions();
    group.pass(Duration::from_secs(1));
    let region = group.truth.get(World::region(3, &[1]).id()).unwrap();
    assert!(!region.meta.in_joint_state(), "{region:?}");
}

#[test]
fn l1_who_does_not_lead_sends_nothing_and_takes_no_heartbeat() {
    let mut group = Group::new(1);
    group.report_stores();
    group.report_regions();
    group.drain(3);
    group.pass(Duration::from_secs(1));
    group.leader().end_term(group.now);
    let (cluster, now) = (group.leader(), group.now);
    assert!(!cluster.is_leading() && !cluster.is_prepared());
    let mut grown = World::region(1, &[1, 2, 3]);
    grown.size_mib = 4711;
    assert!(matches!(cluster.region_heartbeat(grown, now), Err(HeartbeatError::NotLeading)));
    assert_ne!(cluster.regions().iter_from(&[], 1)[0].size_mib, 4711);
    let id = cluster.regions().iter_from(&[], 1)[0].id();
    assert!(cluster.admin(&Request::TransferLeader { region: id, to: StoreId(2) }, "", now).is_err());
    assert!(cluster.scatter(&[id], "g", true, "", now).1.is_empty());
    assert!(cluster.split_at(&[crate::model::Key::from(&b"zz"[..])], "", now).1.is_empty());
    for second in 0..400 {
        let later = now.plus(Duration::from_secs(second));
        assert!(cluster.tick(later).is_empty() && cluster.tick_schedulers(later).is_empty());
        cluster.update_progress(later);
    }
    assert!(cluster.progress().is_empty() && cluster.operators().is_empty());
}

#[test]
fn h5_a_heartbeat_of_the_last_term_does_not_count_as_heard_in_the_next() {
    let mut group = Group::new(1);
    group.report_stores();
    group.report_regions();
    group.pass(Duration::from_secs(2));
    assert!(group.leader().is_prepared());
    group.elect(0);
    assert_eq!((group.leader().regions().heard_count(), group.leader().regions().len() as u64), (0, REGIONS));
    group.pass(Duration::from_secs(5));
    assert!(!group.leader().is_prepared());
    group.leader().end_term(group.now);
    group.report_stores();
    group.leader().begin_term(false, group.now);
    group.report_regions();
    group.pass(Duration::from_secs(2));
    assert!(group.leader().is_prepared());
    // Copied from the last leader a moment ago: as good as heard.
    group.leader().end_term(group.now);
    group.leader().begin_term(true, group.now);
    group.pass(Duration::from_secs(2));
    assert!(group.leader().is_prepared());
}

#[test]
fn o6_the_buckets_of_store_limits_are_empty_when_a_term_begins() {
    let mut group = Group::new(2);
    group.report_stores();
    group.report_regions();
    let slow = StoreLimits { add_peer: 1.0, remove_peer: 1.0 };
    for member in &group.members {
        for record in &group.records {
            member.set_limits(record.id, slow, group.now);
        }
    }
    group.pass(Duration::from_secs(120));
    group.drain(3);
    group.elect(1);
    group.report_stores();
    group.report_regions();
    let began = group.now.mono;
    let mut first = None;
    while first.is_none() && group.now.mono.since(began) < Duration::from_secs(300) {
        group.pass(Duration::from_millis(100));
        first = (group.left_on(3) < REGIONS).then_some(group.now.mono);
    }
    let waited = first.unwrap().since(began);
    assert!(waited >= Duration::from_secs(59), "one interval of a bucket that was never full: {waited:?}");
}

#[test]
fn s_down_times_count_from_the_beginning_of_the_term() {
    let mut group = Group::new(1);
    group.report_stores();
    group.now = group.now.plus(Duration::from_secs(7200));
    let down = |group: &Group| {
        let store = group.leader().stores().get(StoreId(1)).unwrap();
        group.leader().liveness(&store, group.now)
    };
    assert_eq!(down(&group), crate::store::Liveness::Down);
    group.elect(0);
    assert_eq!(down(&group), crate::store::Liveness::Connected, "the group was away, not the store");
}

#[test]
fn what_ended_and_the_order_of_ids_outlive_a_term() {
    let mut group = Group::new(1);
    group.report_stores();
    group.report_regions();
    group.drain(3);
    while group.left_on(3) > 0 {
        group.pass(Duration::from_millis(10));
    }
    let records = group.leader().operator_records(0);
    assert!(!records.is_empty());
    let last = records.iter().map(|op| op.id).max().unwrap();
    group.elect(0);
    assert_eq!(group.leader().operator_records(0).len(), records.len());
    group.report_regions();
    let id = group.truth.iter_from(&[], 1)[0].id();
    let region = group.truth.get(id).unwrap();
    let to = region.peers().iter().find(|p| Some(p.id) != region.leader).unwrap().store;
    let out = group.leader().admin(&Request::TransferLeader { region: id, to }, "", group.now).unwrap();
    assert!(out.iter().any(|e| matches!(e, Effect::Send(c) if matches!(c.kind, CommandKind::TransferLeader { .. }))));
    let added = out.iter().find_map(|e| match e {
        Effect::Tell(Event::OperatorAdded { op }) => Some(op.id),
        _ => None,
    });
    assert!(added.unwrap() > last);
}

/// `patrol-region-interval` slows the patrol down and nothing else.
#[test]
fn s_the_patrol_alone_follows_its_interval() {
    let mut group = Group::new(1);
    let set_interval = |group: &Group, interval: Duration| {
        let mut settings = (*group.leader().settings()).clone();
        Arc::make_mut(&mut settings.schedule).patrol_region_interval = interval.into();
        group.leader().set_settings(settings, group.now);
    };
    set_interval(&group, Duration::from_secs(3600));
    group.report_stores();
    group.report_regions();
    group.pass(Duration::from_secs(2));
    assert!(group.leader().is_prepared(), "the preparation ends");
    group.drain(3);
    group.drain(5);
    let region = group.truth.iter_from(&[], 1)[0].id();
    group.leader().admin(&Request::TransferLeader { region, to: StoreId(2) }, "", group.now).unwrap();
    // The nodes do not obey.
    let (mut pushed, mut ended) = (0, None);
    for _ in 0..6000 {
        group.now = group.now.plus(Duration::from_millis(100));
        if group.now.mono.0.is_multiple_of(10_000_000_000) {
            group.report_stores();
        }
        for effect in group.leader().tick(group.now) {
            match effect {
                Effect::Send(_) => pushed += 1,
                Effect::Tell(Event::OperatorEnded { op, .. }) => ended = Some(op.status),
                _ => {}
            }
        }
    }
    assert!(pushed > 0, "commands are pushed");
    assert_eq!(ended, Some(crate::scheduler::operator::Status::Timeout));
    let changes = group.leader().store_changes(group.now);
    assert_eq!(changes, [crate::scheduler::life::StoreChange::Bury(StoreId(5))]);
    assert_eq!(group.left_on(3), REGIONS, "the patrol stands still");
    set_interval(&group, Duration::from_millis(10));
    group.pass(Duration::from_secs(60));
    assert_eq!(group.left_on(3), 0);
}

impl Group {
    /// Lets the second member take in what the leader tells.
    fn copy(&self, reader: &mut Reader) {
        loop {
            let Next::Part(part, more) = self.leader().next_part(reader, self.now) else { panic!("the term goes on") };
            self.members[1].take_copy(&part, self.now).unwrap();
            if !more {
                return;
            }
        }
    }

    /// Ten seconds in which much is read from one peer of each of three regions.
    fn read_for_ten_seconds(&mut self) {
        let (from, ids) = (self.now.wall.unix_seconds().unsigned_abs(), self.ids());
        self.now = self.now.plus(Duration::from_secs(10));
        let read = |id: &RegionId| PeerTraffic { region: *id, bytes_read: 100 << 20, ..PeerTraffic::default() };
        let peers = ids.iter().take(3).map(read).collect();
        let stats = StoreStats {
            capacity: 1 << 40,
            available: 1 << 39,
            peers,
            interval: (from, from + 10),
            ..StoreStats::default()
        };
        self.leader().store_heartbeat(StoreId(1), stats, self.now);
    }

    /// The same minute's writes: much to three regions, little to some, nothing to the others.
    fn write_for_the_last_minute(&mut self) {
        let until = self.now.wall.unix_seconds().unsigned_abs();
        for (at, id) in self.ids().into_iter().enumerate() {
            let bytes_written = match at {
                0..3 => 600 << 20,
                3..9 => 6000,
                _ => 0,
            };
            let flow = Flow { bytes_written, interval: (until - 60, until), ..Flow::default() };
            let region = Region { flow, ..Region::clone(&self.truth.get(id).unwrap()) };
            self.truth.apply(region).unwrap();
        }
        self.report_regions();
    }

    fn ids(&self) -> Vec<RegionId> {
        self.truth.iter_from(&[], usize::MAX).iter().map(|region| region.id()).collect()
    }
}

/// Hot in three periods at least, by store and region.
fn hot(cluster: &Cluster, traffic: Traffic) -> Vec<HotPeer> {
    cluster.with_hot(|hot| hot.hot(traffic, 3).collect())
}

#[test]
fn l3_who_leads_next_knows_what_was_hot_until_then() {
    let mut group = Group::new(2);
    group.report_stores();
    let mut reader = group.leader().open_reader(None).unwrap();
    for _ in 0..4 {
        for _ in 0..6 {
            group.read_for_ten_seconds();
            group.copy(&mut reader);
        }
        group.write_for_the_last_minute();
        group.copy(&mut reader);
    }
    let known = Traffic::ALL.map(|traffic| hot(group.leader(), traffic));
    assert_eq!(known.each_ref().map(Vec::len), [3, 9], "three peers are read, three of three are written to");
    let flows = |cluster: &Cluster| -> Vec<Flow> {
        cluster.regions().iter_from(&[], usize::MAX).iter().map(|r| r.flow).filter(|flow| !flow.is_idle()).collect()
    };
    let told = flows(group.leader());
    assert_eq!(told.len(), 9);
    group.leader().end_term(group.now);
    group.members[1].begin_term(true, group.now);
    assert_eq!(Traffic::ALL.map(|traffic| hot(&group.members[1], traffic)), known);
    assert_eq!(flows(&group.members[1]), told);
    // One whose copy is old knows nothing.
    group.members[1].end_term(group.now);
    group.members[1].begin_term(false, group.now);
    assert!(Traffic::ALL.iter().all(|traffic| hot(&group.members[1], *traffic).is_empty()));
}
