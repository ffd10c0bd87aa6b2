#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{reader::Next, *};
use crate::{
    model::{Epoch, Flow, KeyRange, Mono, Now, Peer, PeerId, PeerTraffic, RegionMeta, StoreRecord},
    store::{RegionIndex, StoreTable},
};

/// Keys are numbers below this.
const KEYS: u64 = 64;
const TERM: u64 = 7;

fn key(n: u64) -> Vec<u8> {
    if n == 0 || n >= KEYS { vec![] } else { n.to_be_bytes().to_vec() }
}

fn region(id: u64, from: u64, to: u64, version: u64, conf_ver: u64) -> Region {
    let meta = RegionMeta {
        id: RegionId(id),
        range: KeyRange::new(key(from), key(to)),
        epoch: Epoch::new(conf_ver, version),
        peers: vec![Peer::voter(id * 10 + 1, 1), Peer::voter(id * 10 + 2, 2)],
    };
    let (leader, heard) = (Some(PeerId(id * 10 + 1)), Some(Mono(1)));
    Region { meta: Arc::new(meta), leader, heard, size_mib: 1, size_known: true, term: 5, ..Region::default() }
}

/// A leader with its index, and what its nodes do to it.
struct Leader {
    feed: Arc<Feed>,
    regions: RegionIndex,
    stores: StoreTable,
    now: Now,
    version: u64,
}

impl Leader {
    fn new(capacity: usize) -> Self {
        let feed = Arc::new(Feed::with_capacity(capacity));
        feed.begin_term(TERM);
        let leader = Self {
            feed,
            regions: RegionIndex::default(),
            stores: table(),
            now: Now::default().plus(Duration::from_secs(100)),
            version: 1,
        };
        leader.report(region(1, 0, KEYS, 1, 1));
        leader
    }

    fn report(&self, region: Region) {
        if let Ok(applied) = self.regions.apply(region) {
            self.feed.note_applied(&applied);
        }
    }

    fn change(&mut self, rng: &mut ChaCha8Rng) {
        self.version += 1;
        self.now = self.now.plus(Duration::from_millis(10));
        let (a, b) = (rng.random_range(0..KEYS), rng.random_range(1..=KEYS));
        let id = rng.random_range(1..40);
        let all = self.regions.iter_from(&[], usize::MAX);
        let known = (!all.is_empty()).then(|| Region::clone(&all[rng.random_range(0..all.len())]));
        match (rng.random_range(0..7), known) {
            (0 | 1, _) if a < b => self.report(region(id, a, b, self.version, 1)),
            (2, Some(mut known)) => {
                known.size_mib = rng.random_range(1..1000);
                known.flow.bytes_written += 1;
                known.pending = vec![known.peers()[1].id];
                self.report(known);
            }
            (3, Some(mut known)) => {
                Arc::make_mut(&mut known.meta).epoch.conf_ver += 1;
                known.leader = Some(known.peers()[rng.random_range(0..2)].id);
                self.report(known);
            }
            (4, Some(known)) if rng.random_bool(0.3) => {
                self.regions.remove(known.id());
                self.feed.note_gone(known.id());
            }
            (5, _) => {
                let id = StoreId(rng.random_range(1..4));
                let stats = StoreStats { available: rng.random_range(1..1000), ..StoreStats::default() };
                self.stores.heartbeat(id, stats, self.regions.moved_mib(id), self.now);
                self.feed.note_store(id, vec![]);
            }
            (6, Some(mut known)) => {
                known.flow =
                    Flow { bytes_written: self.version % 3, interval: (self.version, self.version + 60), ..known.flow };
                self.report(known);
            }
            _ => {}
        }
    }
}

fn table() -> StoreTable {
    table_of(3)
}

fn table_of(count: u64) -> StoreTable {
    let stores = StoreTable::default();
    for id in 1..=count {
        stores.put_record(Arc::new(StoreRecord { id: StoreId(id), ..StoreRecord::default() }), Now::default());
    }
    stores
}

struct Follower {
    copy: Copy,
    regions: RegionIndex,
    stores: StoreTable,
}

impl Follower {
    fn new() -> Self {
        Self { copy: Copy::default(), regions: RegionIndex::default(), stores: table() }
    }

    fn take(&mut self, part: &Part, now: Now) -> Result<Taken, CopyError> {
        assert!(part.regions.len() <= MAX_REGIONS && part.gone.len() <= MAX_REGIONS);
        self.copy.take(part, &self.regions, &self.stores, now)
    }
}

/// What the two must agree on: all but the times of hearing, and of the traffic of regions that have none.
fn shown(regions: &RegionIndex) -> Vec<Region> {
    let strip = |r: &Arc<Region>| {
        let heard = r.heard.map(|_| Mono(0));
        let flow = if r.flow.is_idle() { Flow::default() } else { r.flow };
        Region { heard, flow, ..Region::clone(r) }
    };
    regions.iter_from(&[], usize::MAX).iter().map(strip).collect()
}

fn part(reader: &mut Reader, leader: &Leader) -> (Part, bool) {
    match reader.next(&leader.regions, &leader.stores, leader.now) {
        Next::Part(part, more) => (*part, more),
        Next::Ended => panic!("the term goes on"),
    }
}

fn catch_up(reader: &mut Reader, leader: &Leader, follower: &mut Follower) {
    loop {
        let (part, more) = part(reader, leader);
        follower.take(&part, leader.now).unwrap();
        if !more {
            return;
        }
    }
}

#[test]
fn whatever_changes_and_whatever_is_lost_a_follower_that_caught_up_has_what_the_leader_has() {
    let (mut incremental, mut full) = (0, 0);
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut leader = Leader::new([4, 40, 1000][usize::try_from(seed % 3).unwrap()]);
        let mut follower = Follower::new();
        // What it knew before may be old, and may stand where nothing is any more.
        follower.regions.apply(region(77, 3, 9, 1, 1)).unwrap();
        let mut reader = Reader::new(&leader.feed, None);
        for _ in 0..rng.random_range(1..120) {
            match rng.random_range(0..10) {
                0 => {
                    // The connection breaks; on the way a part is lost.
                    part(&mut reader, &leader);
                    let at = follower.copy.position();
                    reader = Reader::new(&leader.feed, at);
                }
                1 => {
                    drop(reader);
                    (0..rng.random_range(0..5)).for_each(|_| leader.change(&mut rng));
                    reader = Reader::new(&leader.feed, follower.copy.position());
                }
                2..=4 => {
                    let (part, _) = part(&mut reader, &leader);
                    follower.take(&part, leader.now).unwrap();
                    if part.span.is_some() { full += 1 } else { incremental += part.regions.len() }
                }
                _ => leader.change(&mut rng),
            }
        }
        catch_up(&mut reader, &leader, &mut follower);
        assert_eq!(shown(&follower.regions), shown(&leader.regions), "seed {seed}");
        assert_eq!(follower.regions.heard_count(), leader.regions.heard_count(), "seed {seed}");
        for (id, store) in leader.stores.snapshot().iter() {
            let copied = follower.stores.get(*id).unwrap();
            assert_eq!((&copied.stats, copied.last_heartbeat), (&store.stats, store.last_heartbeat), "seed {seed}");
        }
        assert!(follower.copy.is_fresh(leader.now.mono));
    }
    assert!(incremental > 500 && full > 500, "{incremental} {full}: both ways are gone");
}

#[test]
fn a_full_copy_comes_in_parts_and_what_changes_meanwhile_comes_after_it() {
    let mut leader = Leader::new(1000);
    leader.regions.clear();
    let wide = |n: u64| KeyRange::new(n.to_be_bytes().to_vec(), (n + 1).to_be_bytes().to_vec());
    for n in 1..=2500 {
        let mut region = region(n, 0, 1, 1, 1);
        Arc::make_mut(&mut region.meta).range = wide(n);
        leader.report(region);
    }
    let (mut reader, mut follower) = (Reader::new(&leader.feed, None), Follower::new());
    let mut sizes = Vec::new();
    for at in 0..3 {
        let (part, more) = part(&mut reader, &leader);
        assert!(!part.whole, "part {at}");
        assert!(more && follower.copy.position().is_none() && !follower.copy.is_fresh(leader.now.mono));
        follower.take(&part, leader.now).unwrap();
        sizes.push(part.regions.len());
        // Merged behind the cursor, and one before it.
        if at == 1 {
            leader.regions.remove(RegionId(2400));
            leader.feed.note_gone(RegionId(2400));
            let mut grown = region(3, 0, 1, 2, 1);
            Arc::make_mut(&mut grown.meta).range.start = Key::from(&3_u64.to_be_bytes()[..]);
            Arc::make_mut(&mut grown.meta).range.end = Key::from(&9_u64.to_be_bytes()[..]);
            leader.report(grown);
            leader.version += 1;
        }
    }
    assert_eq!(sizes, [1000, 1000, 499]);
    catch_up(&mut reader, &leader, &mut follower);
    assert_eq!(shown(&follower.regions), shown(&leader.regions));
    assert_eq!((follower.copy.full_copies(), follower.copy.lag()), (1, 0));
}

#[test]
fn parts_are_bounded_by_bytes_too() {
    let leader = Leader::new(1000);
    leader.regions.clear();
    for n in 1..=8_u8 {
        let mut long = region(u64::from(n), 0, 1, 1, 1);
        let bound = |n: u8| vec![n; 200_000];
        Arc::make_mut(&mut long.meta).range = KeyRange::new(bound(n), bound(n + 1));
        leader.report(long);
    }
    let mut reader = Reader::new(&leader.feed, None);
    assert_eq!(part(&mut reader, &leader).0.regions.len(), 2);
}

#[test]
fn without_followers_nothing_is_kept_and_who_comes_back_gets_a_full_copy() {
    let leader = Leader::new(1000);
    let head = leader.feed.head();
    leader.report(region(2, 1, 9, 3, 1));
    assert_eq!(leader.feed.head(), head);
    let mut follower = Follower::new();
    let mut reader = Reader::new(&leader.feed, None);
    catch_up(&mut reader, &leader, &mut follower);
    drop(reader);
    let mut reader = Reader::new(&leader.feed, follower.copy.position());
    assert!(part(&mut reader, &leader).0.span.is_some(), "what changed meanwhile was not noted");
    let other = Reader::new(&leader.feed, None);
    catch_up(&mut reader, &leader, &mut follower);
    drop(reader);
    leader.report(region(3, 9, 12, 4, 1));
    let mut reader = Reader::new(&leader.feed, follower.copy.position());
    let (next, _) = part(&mut reader, &leader);
    assert_eq!((next.span.is_none(), next.regions.len()), (true, 1), "the other one followed meanwhile");
    drop(other);
}

#[test]
fn a_report_that_changes_nothing_is_not_told() {
    let leader = Leader::new(1000);
    let _reader = Reader::new(&leader.feed, None);
    let head = leader.feed.head();
    let mut same = region(1, 0, KEYS, 1, 1);
    same.flow.interval = (60, 120);
    leader.report(same.clone());
    assert_eq!(leader.feed.head(), head, "an idle region");
    same.size_mib = 5;
    leader.report(same.clone());
    assert_eq!(leader.feed.head(), head + 1);
    same.flow = Flow { bytes_written: 4711, interval: (120, 180), ..Flow::default() };
    leader.report(same.clone());
    leader.report(same);
    assert_eq!(leader.feed.head(), head + 2, "the second time it is known");
}

#[test]
fn traffic_alone_is_told_as_numbers_and_counts_once() {
    let leader = Leader::new(1000);
    let (mut reader, mut follower) = (Reader::new(&leader.feed, None), Follower::new());
    catch_up(&mut reader, &leader, &mut follower);
    let mut busy = region(1, 0, KEYS, 1, 1);
    for (minute, bytes) in [(1, 5), (2, 7), (3, 0)] {
        busy.flow = Flow { bytes_written: bytes, interval: (minute * 60 - 60, minute * 60), ..Flow::default() };
        leader.report(busy.clone());
        let at = follower.copy.position();
        let (told, more) = part(&mut reader, &leader);
        assert_eq!(
            (told.regions.len(), &*told.flows, more),
            (0, &[FlowRow { id: RegionId(1), flow: busy.flow }][..], false)
        );
        let taken = follower.take(&told, leader.now).unwrap();
        assert_eq!(taken.told.iter().map(|(r, new)| (r.flow, *new)).collect::<Vec<_>>(), [(busy.flow, true)]);
        // The connection breaks before the follower could say how far it is.
        let (again, _) = part(&mut Reader::new(&leader.feed, at), &leader);
        let taken = follower.take(&again, leader.now).unwrap();
        assert_eq!(taken.told.iter().map(|(r, new)| (r.flow, *new)).collect::<Vec<_>>(), [(busy.flow, false)]);
        assert_eq!(follower.regions.get(RegionId(1)).unwrap().flow, busy.flow);
    }
}

#[test]
fn all_stores_are_told_however_many() {
    let mut leader = Leader::new(1000);
    let (count, mut follower) = (2 * MAX_STORES as u64 + 7, Follower::new());
    (leader.stores, follower.stores) = (table_of(count), table_of(count));
    for id in 1..=count {
        leader.stores.heartbeat(StoreId(id), StoreStats { available: id, ..StoreStats::default() }, 0, leader.now);
    }
    let mut reader = Reader::new(&leader.feed, None);
    let (first, _) = part(&mut reader, &leader);
    follower.take(&first, leader.now).unwrap();
    assert!(first.stores.len() == MAX_STORES && first.more_stores && !first.whole);
    assert_eq!((follower.copy.position(), follower.copy.full_copies()), (None, 0), "a broken call begins anew");
    // What changes meanwhile is told after them.
    leader.report(region(2, 1, 9, 3, 1));
    let (second, _) = part(&mut reader, &leader);
    assert_eq!((second.stores.len(), second.more_stores, second.regions.len()), (MAX_STORES, true, 0));
    follower.take(&second, leader.now).unwrap();
    catch_up(&mut reader, &leader, &mut follower);
    assert_eq!((follower.copy.lag(), follower.copy.full_copies()), (0, 1));
    let known = |id: u64| follower.stores.get(StoreId(id)).is_some_and(|s| s.stats.available == id);
    assert_eq!((1..=count).filter(|id| !known(*id)).count(), 0);
    assert_eq!(shown(&follower.regions), shown(&leader.regions));
}

#[test]
fn what_is_read_from_peers_is_told_with_a_report_and_bounded() {
    let leader = Leader::new(1000);
    let (mut reader, mut follower) = (Reader::new(&leader.feed, None), Follower::new());
    catch_up(&mut reader, &leader, &mut follower);
    let peers = vec![PeerTraffic { region: RegionId(1), bytes_read: 8, ..PeerTraffic::default() }; MAX_READS + 1];
    leader.stores.heartbeat(StoreId(2), StoreStats::default(), 0, leader.now);
    leader.feed.note_store(StoreId(2), peers);
    let (told, _) = part(&mut reader, &leader);
    assert_eq!(told.stores[0].stats.peers.len(), MAX_READS);
    let taken = follower.take(&told, leader.now).unwrap();
    assert_eq!(taken.reported, [StoreId(2)]);
    assert!(follower.stores.get(StoreId(2)).unwrap().stats.peers.is_empty(), "the table keeps none of it");
    assert!(follower.take(&told, leader.now).unwrap().reported.is_empty(), "the same report again is none");
    leader.stores.heartbeat(StoreId(2), StoreStats::default(), 0, leader.now.plus(Duration::from_secs(10)));
    leader.feed.note_store(StoreId(2), vec![]);
    assert!(part(&mut reader, &leader).0.stores[0].stats.peers.is_empty(), "what an older report told is over");
}

#[test]
fn a_reader_ends_with_the_term_and_a_gap_begins_the_copy_anew() {
    let leader = Leader::new(1000);
    let (mut reader, mut follower) = (Reader::new(&leader.feed, None), Follower::new());
    catch_up(&mut reader, &leader, &mut follower);
    leader.feed.begin_term(TERM + 1);
    assert!(matches!(reader.next(&leader.regions, &leader.stores, leader.now), Next::Ended));
    let mut reader = Reader::new(&leader.feed, follower.copy.position());
    let (full, _) = part(&mut reader, &leader);
    assert!(full.span.is_some(), "numbers of another term mean nothing");
    let stray = Part { term: TERM + 1, ..Part::default() };
    assert_eq!(follower.take(&stray, leader.now).unwrap_err(), CopyError::Gap);
    assert!(follower.copy.position().is_none() && !follower.copy.is_fresh(leader.now.mono));
}

#[test]
fn h1_what_a_follower_knows_by_a_newer_epoch_stays() {
    let leader = Leader::new(1000);
    let (mut reader, mut follower) = (Reader::new(&leader.feed, None), Follower::new());
    follower.regions.apply(region(1, 0, KEYS, 9, 1)).unwrap();
    catch_up(&mut reader, &leader, &mut follower);
    assert_eq!(follower.regions.get(RegionId(1)).unwrap().epoch().version, 9);
    // The copy ages when nothing is heard any more.
    assert!(follower.copy.is_fresh(leader.now.mono.plus(FRESH_FOR)));
    assert!(!follower.copy.is_fresh(leader.now.mono.plus(FRESH_FOR + Duration::from_nanos(1))));
}
