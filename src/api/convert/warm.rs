//! Parts of the warm copy on their way between members.

use std::{sync::Arc, time::Duration};

use super::{region_from_heartbeat, region_meta, region_report, store_report, store_stats};
use crate::{
    model::{Flow, Key, Mono, Region, RegionId, StoreId, Wall},
    proto::berth_warm,
    store::warm::{FlowRow, Part, Span, StoreRow},
};

/// A part for the wire.
pub fn part_to_wire(part: &Part) -> berth_warm::Part {
    let (from, until) = part.span.as_ref().map_or((&[][..], &[][..]), |span| (&span.from[..], &span.until[..]));
    berth_warm::Part {
        term: part.term,
        next: part.next,
        head: part.head,
        whole: part.whole,
        full: part.span.is_some(),
        from: from.to_vec().into(),
        until: until.to_vec().into(),
        regions: part.regions.iter().map(|region| region_to_wire(region)).collect(),
        gone: part.gone.iter().map(|id| id.0).collect(),
        stores: part.stores.iter().map(store_to_wire).collect(),
        more_stores: part.more_stores,
        flows: part.flows.iter().map(flow_to_wire).collect(),
    }
}

/// A part from the wire, which came at `now`.
pub fn part_from_wire(part: &berth_warm::Part, now: Mono) -> Part {
    let span = || Span { from: Key::from(&part.from[..]), until: Key::from(&part.until[..]) };
    Part {
        term: part.term,
        next: part.next,
        head: part.head,
        whole: part.whole,
        span: part.full.then(span),
        regions: part.regions.iter().filter_map(|row| region_from_wire(row, now)).map(Arc::new).collect(),
        gone: part.gone.iter().map(|id| RegionId(*id)).collect(),
        stores: part.stores.iter().filter_map(store_from_wire).collect(),
        more_stores: part.more_stores,
        flows: part.flows.iter().map(flow_from_wire).collect(),
    }
}

fn region_to_wire(region: &Region) -> berth_warm::Region {
    berth_warm::Region { report: Some(region_report(region)), heard: region.heard.is_some() }
}

fn region_from_wire(row: &berth_warm::Region, now: Mono) -> Option<Region> {
    let report = row.report.as_ref()?;
    match region_from_heartbeat(report, now) {
        Ok(region) => Some(Region { heard: row.heard.then_some(now), ..region }),
        // One that was not reported yet has no leader: only what it is, is known.
        Err(_) => {
            let meta = Arc::new(region_meta(report.region.as_ref()?));
            Some(Region { meta, ..Region::default() })
        }
    }
}

fn flow_to_wire(row: &FlowRow) -> berth_warm::Flow {
    let FlowRow { id, flow } = row;
    berth_warm::Flow {
        region_id: id.0,
        bytes_written: flow.bytes_written,
        bytes_read: flow.bytes_read,
        keys_written: flow.keys_written,
        keys_read: flow.keys_read,
        read_query: flow.read_query,
        write_query: flow.write_query,
        cpu_usage: flow.cpu_usage,
        from: flow.interval.0,
        until: flow.interval.1,
    }
}

fn flow_from_wire(row: &berth_warm::Flow) -> FlowRow {
    let flow = Flow {
        bytes_written: row.bytes_written,
        bytes_read: row.bytes_read,
        keys_written: row.keys_written,
        keys_read: row.keys_read,
        read_query: row.read_query,
        write_query: row.write_query,
        cpu_usage: row.cpu_usage,
        interval: (row.from, row.until),
    };
    FlowRow { id: RegionId(row.region_id), flow }
}

fn store_to_wire(row: &StoreRow) -> berth_warm::Store {
    berth_warm::Store {
        stats: Some(store_report(row.id, &row.stats)),
        silent_millis: u64::try_from(row.silent.as_millis()).unwrap_or(u64::MAX),
        at: row.at.0,
    }
}

fn store_from_wire(row: &berth_warm::Store) -> Option<StoreRow> {
    let stats = row.stats.as_ref()?;
    Some(StoreRow {
        id: StoreId(stats.store_id),
        stats: Arc::new(store_stats(stats)),
        silent: Duration::from_millis(row.silent_millis),
        at: Wall(row.at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, KeyRange, Peer, PeerId, PeerTraffic, RegionMeta, StoreStats};

    #[test]
    fn a_part_comes_back_as_it_was() {
        let meta = RegionMeta {
            id: RegionId(3),
            range: KeyRange::new(&b"a"[..], &b"c"[..]),
            epoch: Epoch::new(4, 5),
            peers: vec![Peer::voter(6, 1), Peer::learner(7, 2)],
        };
        let heard = Region {
            meta: Arc::new(meta.clone()),
            leader: Some(PeerId(6)),
            size_mib: 96,
            size_known: true,
            keys: 11,
            pending: vec![PeerId(7)],
            heard: Some(Mono(9)),
            ..Region::default()
        };
        let from_disk = Region { meta: Arc::new(RegionMeta { id: RegionId(4), ..meta }), ..Region::default() };
        let peers = vec![PeerTraffic { region: RegionId(3), bytes_read: 8, keys_read: 9, read_query: 10, cpu: 11 }];
        let stats = Arc::new(StoreStats { capacity: 5, available: 4, region_count: 3, peers, ..StoreStats::default() });
        let flow = Flow {
            bytes_written: 1,
            bytes_read: 2,
            keys_written: 3,
            keys_read: 4,
            read_query: 5,
            write_query: 6,
            cpu_usage: 7,
            interval: (8, 9),
        };
        let part = Part {
            term: 1,
            next: 2,
            head: 3,
            whole: true,
            span: Some(Span { from: Key::from(&b"a"[..]), until: Key::empty() }),
            regions: vec![Arc::new(heard), Arc::new(from_disk)],
            gone: vec![RegionId(8)],
            stores: vec![StoreRow { id: StoreId(9), stats, silent: Duration::from_millis(7), at: Wall(77) }],
            more_stores: true,
            flows: vec![FlowRow { id: RegionId(3), flow }],
        };
        assert_eq!(part_from_wire(&part_to_wire(&part), Mono(9)), part);
        let changes = Part { span: None, ..part };
        assert_eq!(part_from_wire(&part_to_wire(&changes), Mono(9)), changes);
    }
}
