#![allow(clippy::unwrap_used)]
use super::{
    history::{History, Wanted},
    loads::{Role, loads},
    *,
};
use crate::{
    model::{Flow, KeyRange, Peer, RegionMeta, StoreRecord},
    store::StoreTable,
};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// Region `id` on stores 1 to 3, led by the first, with so many bytes a second written in the last minute.
fn region(id: u64, written: u64) -> Region {
    on(id, &[1, 2, 3], written)
}

fn on(id: u64, stores: &[u64], written: u64) -> Region {
    let peers: Vec<Peer> = stores.iter().map(|store| Peer::voter(id * 10 + store, *store)).collect();
    let leader = peers.first().map(|p| p.id);
    let range = KeyRange::new(id.to_be_bytes().to_vec(), (id + 1).to_be_bytes().to_vec());
    let meta = RegionMeta { id: RegionId(id), range, peers, ..RegionMeta::default() };
    let flow = Flow { bytes_written: written * 60, interval: (100, 160), ..Flow::default() };
    Region { meta: meta.into(), leader, flow, ..Region::default() }
}

fn at(minutes: u32) -> Now {
    Now::default().plus(MINUTE * minutes)
}

fn degree(hot: &HotPeers, traffic: Traffic, store: u64) -> Option<i64> {
    hot.peer(traffic, StoreId(store), RegionId(1)).map(|peer| peer.degree)
}

#[test]
fn a_written_region_is_hot_after_some_reports_and_cold_after_two() {
    let (mut hot, id) = (HotPeers::default(), RegionId(1));
    for minute in 1..=3 {
        assert!(!hot.is_hot(id, 3), "before report {minute}");
        hot.on_region(&region(1, 1024), at(minute));
    }
    assert!(hot.is_hot(id, 3));
    assert_eq!(
        hot.hot(Traffic::Write, 3).map(|p| (p.store.0, p.is_leader)).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, false)]
    );
    hot.on_region(&region(1, 1023), at(4));
    assert_eq!(hot.hot(Traffic::Write, 1).count(), 0, "it cools down");
    hot.on_region(&region(1, 1024), at(5));
    assert_eq!(hot.hot(Traffic::Write, 3).count(), 3, "one cold report of four is none");
    hot.on_region(&region(1, 0), at(6));
    hot.on_region(&region(1, 0), at(7));
    assert!(hot.is_empty());
    for interval in [(0, 601), (0, 2), (5, 5), (9, 1)] {
        let flow = Flow { bytes_written: 1 << 40, interval, ..Flow::default() };
        hot.on_region(&Region { flow, ..region(1, 0) }, at(8));
        assert!(hot.is_empty(), "{interval:?} tells nothing about now");
    }
}

#[test]
fn reads_come_from_stores_and_cool_down_when_they_are_not_told() {
    let regions = RegionIndex::default();
    regions.apply(region(1, 0)).unwrap();
    let mut hot = HotPeers::default();
    let told = PeerTraffic { region: RegionId(1), bytes_read: 1 << 20, ..PeerTraffic::default() };
    let report = |peers: Vec<PeerTraffic>| StoreStats { peers, interval: (0, 10), ..StoreStats::default() };
    let ten = |n: u32| Now::default().plus(MINUTE / 6 * n);
    for n in 1..=4 {
        hot.on_store(StoreId(1), &report(vec![told]), &regions, ten(n));
        hot.on_store(StoreId(9), &report(vec![told]), &regions, ten(n));
    }
    assert_eq!((degree(&hot, Traffic::Read, 1), degree(&hot, Traffic::Read, 9)), (Some(4), None));
    hot.on_store(StoreId(1), &report(vec![]), &regions, ten(5));
    assert_eq!(hot.hot(Traffic::Read, 0).count(), 0);
    hot.on_store(StoreId(1), &report(vec![told]), &regions, ten(6));
    assert_eq!(hot.hot(Traffic::Read, 3).count(), 1, "a gap of ten seconds is nothing");
    for n in 7..=17 {
        hot.on_store(StoreId(1), &report(vec![]), &regions, ten(n));
        assert_eq!(hot.len(Traffic::Read), 1, "{n}");
    }
    hot.on_store(StoreId(1), &report(vec![]), &regions, ten(18));
    assert!(hot.is_empty(), "two minutes of silence");
}

#[test]
fn a_peer_that_moves_stays_hot_and_what_is_not_heard_is_forgotten() {
    let mut hot = HotPeers::default();
    (1..=3).for_each(|minute| hot.on_region(&region(1, 5000), at(minute)));
    hot.on_region(&on(1, &[1, 2, 4], 5000), at(4));
    assert_eq!((degree(&hot, Traffic::Write, 4), degree(&hot, Traffic::Write, 3)), (Some(4), None));
    // The first report of a new leader is about a time when another one led.
    hot.on_region(&on(1, &[2, 1, 4], 0), at(5));
    assert_eq!(degree(&hot, Traffic::Write, 2), Some(4));
    assert!(hot.peer(Traffic::Write, StoreId(2), RegionId(1)).unwrap().is_leader);
    hot.on_region(&region(2, 0), at(9));
    assert!(hot.is_empty());
}

#[test]
fn where_sixty_are_hot_others_must_keep_up() {
    let mut hot = HotPeers::default();
    (1..=60).for_each(|id| hot.on_region(&region(id, 10_000), at(1)));
    hot.on_region(&region(61, 7_999), at(2));
    hot.on_region(&region(62, 8_000), at(2));
    assert_eq!(hot.len(Traffic::Write), 61 * 3);
    assert_eq!(hot.bounds(Traffic::Write).map(|(_, b)| b.bytes).collect::<Vec<_>>(), [8000.0; 3]);
    assert!(hot.peer(Traffic::Write, StoreId(1), RegionId(61)).is_none());
}

#[test]
fn the_hottest_stay_within_the_bound() {
    let mut hot = HotPeers::default();
    for id in 1..=40_000 {
        hot.on_region(&on(id, &[id], 1024 + id), at(1));
        assert!(hot.len(Traffic::Write) <= 30_000);
    }
    assert!(hot.is_hot(RegionId(40_000), 1) && !hot.is_hot(RegionId(1), 1));
}

#[test]
fn stores_bear_what_they_tell_and_leaders_what_is_hot() {
    let (stores, mut hot) = (StoreTable::default(), HotPeers::default());
    for id in 1..=3 {
        stores.put_record(StoreRecord { id: StoreId(id), ..StoreRecord::default() }.into(), at(0));
        let stats =
            StoreStats { bytes_written: 7_000_000, write_query: 500, interval: (0, 10), ..StoreStats::default() };
        stores.heartbeat(StoreId(id), stats, 0, at(0));
    }
    (1..=3).for_each(|minute| hot.on_region(&region(1, 5000), at(minute)));
    let stores = stores.snapshot();
    let peers = loads(&hot, Traffic::Write, Role::Peer, 3, &stores);
    assert_eq!((peers[&StoreId(2)].load.bytes, peers[&StoreId(2)].flow.bytes), (700_000.0, 5000.0));
    let leaders = loads(&hot, Traffic::Write, Role::Leader, 3, &stores);
    assert_eq!((leaders[&StoreId(1)].load.bytes, leaders[&StoreId(1)].load.query), (5000.0, 50.0));
    assert_eq!((leaders[&StoreId(2)].load.bytes, leaders[&StoreId(2)].peers.len()), (0.0, 0));
}

#[test]
fn the_history_is_bounded_and_finds_what_is_asked_for() {
    let (regions, mut hot, mut history) = (RegionIndex::default(), HotPeers::default(), History::default());
    regions.apply(region(1, 0)).unwrap();
    (1..=3).for_each(|minute| hot.on_region(&region(1, 5000), at(minute)));
    history.note(&hot, 3, &regions, 7, at(3));
    let all = Wanted {
        end: i64::MAX,
        traffic: Traffic::ALL.to_vec(),
        is_learner: vec![true, false],
        is_leader: vec![true, false],
        ..Wanted::default()
    };
    let peers = |wanted: &Wanted| history.find(wanted).iter().map(|e| e.peer.0).collect::<Vec<_>>();
    assert_eq!(peers(&all), [11, 12, 13]);
    assert_eq!(history.find(&all)[0].at, Wall(160_000_000_000), "the end of the report");
    for (wanted, found) in [
        (Wanted { is_leader: vec![true], ..all.clone() }, vec![11]),
        (Wanted { is_leader: vec![], ..all.clone() }, vec![]),
        (Wanted { is_learner: vec![true], ..all.clone() }, vec![]),
        (Wanted { stores: vec![2, 5], ..all.clone() }, vec![12]),
        (Wanted { peers: vec![13], regions: vec![1], ..all.clone() }, vec![13]),
        (Wanted { regions: vec![2], ..all.clone() }, vec![]),
        (Wanted { traffic: vec![Traffic::Read], ..all.clone() }, vec![]),
        (Wanted { start: 160_001, ..all.clone() }, vec![]),
        (Wanted { end: 160_000, ..all.clone() }, vec![]),
    ] {
        assert_eq!(peers(&wanted), found, "{wanted:?}");
    }
    for _ in 0..=history::MAX_ENTRIES / 3 {
        history.note(&hot, 3, &regions, 7, at(3));
    }
    assert_eq!(history.find(&all).len(), history::MAX_ENTRIES);
    history.note(&HotPeers::default(), 3, &regions, 1, at(60 * 25));
    assert!(history.find(&all).is_empty(), "older than a day");
}
