//! The first placement of a fleet: ids, keys and replicas of its regions.
//!
//! Owns: how ids that the server handed out are given to stores, peers and regions, and where the first replicas lie. The order
//! (stores, then for each region its peers and itself) and the keys are those of PD's simulator, so that a recorded run can be
//! repeated. Must not know time or messages.

use crate::{
    model::{Epoch, Key, KeyRange, Peer, PeerId, RegionId, StoreId},
    sim::{
        options::FleetOptions,
        region::{SimRegion, keys_of},
    },
};

/// Table that the rows of the key space belong to.
const TABLE: i64 = 1;

/// A run of ids, all inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdSpan {
    /// First id.
    pub first: u64,
    /// Last id.
    pub last: u64,
}

/// Ids handed out by the server, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdSpans {
    spans: std::collections::VecDeque<IdSpan>,
}

impl IdSpans {
    /// Adds a run; neighbours are joined.
    pub fn push(&mut self, span: IdSpan) {
        match self.spans.back_mut() {
            Some(back) if back.last.checked_add(1) == Some(span.first) => back.last = span.last,
            _ => self.spans.push_back(span),
        }
    }

    /// Ids left.
    pub fn len(&self) -> u64 {
        self.spans.iter().map(|s| (s.last - s.first).saturating_add(1)).sum()
    }

    /// Whether no id is left.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The next id.
    fn take(&mut self) -> Result<u64, LayoutError> {
        let span = self.spans.front_mut().ok_or(LayoutError::TooFewIds)?;
        let id = span.first;
        if span.first == span.last {
            self.spans.pop_front();
        } else {
            span.first += 1;
        }
        Ok(id)
    }
}

/// Why a placement cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LayoutError {
    /// More replicas than stores that may hold them.
    #[error("{replicas} replicas need as many stores, {stores} may hold regions")]
    TooFewStores {
        /// Replicas wanted.
        replicas: u32,
        /// Stores there are.
        stores: u32,
    },
    /// The first store cannot hold as many peers as were asked for.
    #[error(
        "store 1 cannot hold {0} peers: it holds at most one of each region, and the other stores must hold the rest"
    )]
    FirstStore(u32),
    /// The server gave fewer ids than were asked for.
    #[error("the server handed out too few ids")]
    TooFewIds,
}

/// Ids that the first placement needs.
pub(super) fn ids_needed(options: &FleetOptions) -> u64 {
    let regions = match options.layout {
        super::LayoutKind::Spread => u64::from(options.regions) * (u64::from(options.replicas) + 1),
        super::LayoutKind::Grow => 2,
    };
    u64::from(options.stores) + regions
}

/// The stores and regions at the start.
pub(super) fn build(options: &FleetOptions, mut ids: IdSpans) -> Result<(Vec<StoreId>, Vec<SimRegion>), LayoutError> {
    let stores = (0..options.stores).map(|_| ids.take().map(StoreId)).collect::<Result<Vec<_>, _>>()?;
    let (regions, replicas) = match options.layout {
        super::LayoutKind::Spread => (options.regions, options.replicas),
        super::LayoutKind::Grow => (1, 1),
    };
    let mut plan = Placement::new(options, replicas, regions)?;
    let size = options.region_size.saturating_mul(1 << 20);
    let mut start = Key::empty();
    let mut made = Vec::with_capacity(regions as usize);
    for index in 0..regions {
        let end = if index + 1 == regions { Key::empty() } else { Key::from(row_key(TABLE, i64::from(index))) };
        let mut peers = Vec::with_capacity(replicas as usize);
        for at in plan.stores_of(index) {
            peers.push(Peer { id: PeerId(ids.take()?), store: stores[at as usize], ..Peer::default() });
        }
        made.push(SimRegion {
            id: RegionId(ids.take()?),
            range: KeyRange { start, end: end.clone() },
            epoch: Epoch::new(1, 1),
            leader: peers.first().map(|p| p.id),
            peers,
            term: 1,
            size,
            keys: keys_of(size),
            waiting: Vec::new(),
        });
        start = end;
    }
    Ok((stores, made))
}

/// Which stores hold the replicas of a region: the next ones round the ring. When store 1 has a number of peers of its own, it
/// takes part in regions at an even distance only, and the ring is made of the others.
struct Placement {
    holders: u32,
    replicas: u32,
    regions: u32,
    first: Option<u32>,
    /// Regions that each store leads so far.
    leads: Vec<u32>,
}

impl Placement {
    fn new(options: &FleetOptions, replicas: u32, regions: u32) -> Result<Self, LayoutError> {
        let holders = options.stores.saturating_sub(options.empty_stores);
        if holders < replicas {
            return Err(LayoutError::TooFewStores { replicas, stores: holders });
        }
        let first = options.first_store_peers;
        if let Some(wanted) = first {
            // Without store 1 the others must be able to hold a whole region.
            if wanted > regions || (wanted < regions && holders <= replicas) {
                return Err(LayoutError::FirstStore(wanted));
            }
        }
        Ok(Self { holders, replicas, regions, first, leads: vec![0; holders as usize] })
    }

    /// Store indexes of a region's replicas, the leader's first.
    fn stores_of(&mut self, index: u32) -> Vec<u32> {
        let Some(wanted) = self.first else {
            return (0..self.replicas).map(|r| (index + r) % self.holders).collect();
        };
        let (index, wanted, regions) = (u64::from(index), u64::from(wanted), u64::from(self.regions));
        let ring = u64::from(self.holders) - 1;
        // The n-th region with a peer on store 1 is where n/wanted of all regions lie behind.
        let nth = |i: u64| i * wanted / regions;
        let on_first = nth(index + 1) > nth(index);
        let others = if on_first { self.replicas - 1 } else { self.replicas };
        // Where the regions before this one have left off.
        let begin = index * u64::from(self.replicas) - nth(index);
        let mut stores: Vec<u32> = (0..u64::from(others)).map(|r| (1 + (begin + r) % ring) as u32).collect();
        if on_first {
            stores.push(0);
        }
        // Store 1 leads its fair share of its regions; of the others, the one that leads fewest.
        let first_leads = on_first && (nth(index) % u64::from(self.replicas) == 0 || stores.len() == 1);
        let leads = &self.leads;
        let fewest = |at: &usize| if stores[*at] == 0 { u32::MAX } else { leads[stores[*at] as usize] };
        let leader = if first_leads { stores.len() - 1 } else { (0..stores.len()).min_by_key(fewest).unwrap_or(0) };
        self.leads[stores[leader] as usize] += 1;
        stores.swap(0, leader);
        stores
    }
}

/// The encoded key just behind a row, as storage nodes have it: `t` table `_r` row, one byte 0xff, in groups of eight bytes with
/// a marker after each.
pub(crate) fn row_key(table: i64, row: i64) -> Vec<u8> {
    let mut raw = Vec::with_capacity(20);
    raw.push(b't');
    raw.extend((table as u64 ^ (1 << 63)).to_be_bytes());
    raw.extend(b"_r");
    raw.extend((row as u64 ^ (1 << 63)).to_be_bytes());
    raw.push(0xff);
    encode(&raw)
}

/// Groups of eight bytes, the last filled with zeros; after each a byte: 0xff less the number of zeros.
fn encode(raw: &[u8]) -> Vec<u8> {
    const GROUP: usize = 8;
    let mut out = Vec::with_capacity((raw.len() / GROUP + 1) * (GROUP + 1));
    for start in (0..=raw.len()).step_by(GROUP) {
        let group = &raw[start..raw.len().min(start + GROUP)];
        out.extend(group);
        out.resize(out.len() + GROUP - group.len(), 0);
        out.push(0xff - (GROUP - group.len()) as u8);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::sim::options::LayoutKind;

    fn ids(last: u64) -> IdSpans {
        let mut ids = IdSpans::default();
        ids.push(IdSpan { first: 1, last });
        ids
    }

    fn counts(options: &FleetOptions) -> (Vec<usize>, Vec<usize>) {
        let (stores, regions) = build(options, ids(ids_needed(options))).unwrap();
        let peers = |s: &StoreId| regions.iter().filter(|r| r.peer_on(*s).is_some()).count();
        let leads = |s: &StoreId| regions.iter().filter(|r| r.leader_store() == Some(*s)).count();
        assert!(regions.iter().all(|r| r.peers.len() == options.replicas as usize));
        (stores.iter().map(peers).collect(), stores.iter().map(leads).collect())
    }

    #[test]
    fn the_placement_is_that_of_the_recorded_cluster() {
        let (_, regions) = build(&FleetOptions::default(), ids(8_006)).unwrap();
        let region = regions.iter().find(|r| r.id.0 == 3110).unwrap();
        assert_eq!(region.peers, [Peer::voter(3107, 2), Peer::voter(3108, 3), Peer::voter(3109, 4)]);
        assert_eq!(region.leader_store(), Some(StoreId(2)));
        assert_eq!(regions[0].id.0, 10);
        assert_eq!(regions.last().unwrap().id.0, 8_006);
        assert!(regions[0].range.start.is_empty() && regions.last().unwrap().range.end.is_empty());
        assert!(regions.windows(2).all(|w| w[0].range.end == w[1].range.start && !w[0].range.is_empty()));
        // Region 1382 of the recorded conversation.
        let recorded = b"t\x80\0\0\0\0\0\0\xff\x01_r\x80\0\0\0\0\xff\0\x01V\xff\0\0\0\0\xfb";
        assert_eq!(row_key(1, 0x156), recorded);
    }

    #[test]
    fn the_first_store_gets_what_was_asked_for() {
        let options =
            FleetOptions { regions: 2_000, stores: 6, first_store_peers: Some(300), ..FleetOptions::default() };
        let (peers, leads) = counts(&options);
        assert_eq!((peers[0], leads[0]), (300, 100));
        assert!(peers[1..].iter().all(|p| *p == 1_140), "{peers:?}");
        assert!(leads[1..].iter().all(|l| *l == 380), "{leads:?}");
        let seven = FleetOptions { stores: 7, ..options.clone() };
        assert!(counts(&seven).1[1..].iter().all(|l| (315..=318).contains(l)), "{:?}", counts(&seven));
        let (peers, _) = counts(&FleetOptions { first_store_peers: Some(2_000), ..options.clone() });
        assert_eq!(peers[0], 2_000);
        let (peers, _) = counts(&FleetOptions { first_store_peers: None, empty_stores: 2, ..options.clone() });
        assert_eq!(peers, [1500, 1500, 1500, 1500, 0, 0]);
        let bad = FleetOptions { first_store_peers: Some(2_001), ..options };
        assert_eq!(build(&bad, ids(100_000)).unwrap_err(), LayoutError::FirstStore(2_001));
    }

    #[test]
    fn a_grown_fleet_starts_with_one_peer() {
        let options = FleetOptions { layout: LayoutKind::Grow, ..FleetOptions::default() };
        let (_, regions) = build(&options, ids(ids_needed(&options))).unwrap();
        assert_eq!(regions.len(), 1);
        assert_eq!(regions[0].peers, [Peer::voter(7, 1)]);
    }

    #[test]
    fn ids_come_in_the_order_they_were_given() {
        let mut spans = IdSpans::default();
        spans.push(IdSpan { first: 1, last: 2 });
        spans.push(IdSpan { first: 3, last: 3 });
        spans.push(IdSpan { first: 1001, last: 1001 });
        assert_eq!(spans.len(), 4);
        let taken: Vec<_> = std::iter::from_fn(|| spans.take().ok()).collect();
        assert_eq!(taken, [1, 2, 3, 1001]);
        assert!(spans.is_empty());
    }
}
