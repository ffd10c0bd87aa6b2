//! One region as a row of the cache file.
//!
//! Owns: the encoding. Must not know: the file.
//!
//! A row is a version byte, a CRC-32 (little endian) over the region's id and the body, and the body: varints for the epoch, the
//! lengths of both keys before their bytes, the number of peers, and for each peer its id, its store and a byte with the role
//! (two lowest bits) and whether it is a witness (the next one).

use std::sync::Arc;

use crate::model::{Epoch, Key, KeyRange, Peer, PeerId, Region, RegionId, RegionMeta, Role, StoreId};

/// Grows when the encoding changes; rows of another version are not read.
const ROW_VERSION: u8 = 1;

/// Bytes before the body: version and CRC.
const HEAD: usize = 5;

/// The fewest bytes that a peer takes: a bound for the number of peers that a row can claim.
const PEER_BYTES_MIN: usize = 3;

const WITNESS: u8 = 0b100;

/// The row of a region; size, flow and leader are not kept.
pub(super) fn encode(meta: &RegionMeta) -> Vec<u8> {
    let keys = meta.range.start.len() + meta.range.end.len();
    let mut row = Vec::with_capacity(HEAD + 16 + keys + meta.peers.len() * 12);
    row.extend_from_slice(&[ROW_VERSION, 0, 0, 0, 0]);
    put_varint(&mut row, meta.epoch.conf_ver);
    put_varint(&mut row, meta.epoch.version);
    for key in [&meta.range.start, &meta.range.end] {
        put_varint(&mut row, key.len() as u64);
        row.extend_from_slice(key.as_bytes());
    }
    put_varint(&mut row, meta.peers.len() as u64);
    for peer in &meta.peers {
        put_varint(&mut row, peer.id.0);
        put_varint(&mut row, peer.store.0);
        row.push(peer.role as u8 | if peer.is_witness { WITNESS } else { 0 });
    }
    let crc = checksum(meta.id, &row[HEAD..]);
    row[1..HEAD].copy_from_slice(&crc.to_le_bytes());
    row
}

/// A region that nobody has been heard of yet: no leader, size unknown. `None` for a damaged row or one of another version.
pub(super) fn decode(id: RegionId, row: &[u8]) -> Option<Region> {
    let (head, body) = row.split_at_checked(HEAD)?;
    let (&version, crc) = head.split_first()?;
    if version != ROW_VERSION || crc != checksum(id, body).to_le_bytes() {
        return None;
    }
    let mut rest = body;
    let epoch = Epoch::new(take_varint(&mut rest)?, take_varint(&mut rest)?);
    let (start, end) = (take_key(&mut rest)?, take_key(&mut rest)?);
    let count = usize::try_from(take_varint(&mut rest)?).ok()?;
    if count > rest.len() / PEER_BYTES_MIN {
        return None;
    }
    let mut peers = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, store) = (PeerId(take_varint(&mut rest)?), StoreId(take_varint(&mut rest)?));
        let (&flags, tail) = rest.split_first()?;
        rest = tail;
        peers.push(Peer { id, store, role: role(flags), is_witness: flags & WITNESS != 0 });
    }
    let range = KeyRange { start, end };
    if !rest.is_empty() || range.is_empty() {
        return None;
    }
    let meta = RegionMeta { id, range, epoch, peers };
    Some(Region { meta: Arc::new(meta), ..Region::default() })
}

fn checksum(id: RegionId, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.0.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn role(flags: u8) -> Role {
    match flags & 0b11 {
        0 => Role::Voter,
        1 => Role::Learner,
        2 => Role::IncomingVoter,
        _ => Role::DemotingVoter,
    }
}

fn put_varint(row: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            row.push(low & 0x7f);
            return;
        }
        row.push(low | 0x80);
    }
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_key(rest: &mut &[u8]) -> Option<Key> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (key, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(Key::from(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn meta() -> impl Strategy<Value = RegionMeta> {
        let key = || prop::collection::vec(any::<u8>(), 0..40);
        let peer = (any::<u64>(), any::<u64>(), 0..4_u8, any::<bool>()).prop_map(|(id, store, flags, is_witness)| {
            Peer { id: PeerId(id), store: StoreId(store), role: role(flags), is_witness }
        });
        (any::<u64>(), key(), key(), any::<u64>(), any::<u64>(), prop::collection::vec(peer, 0..6)).prop_map(
            |(id, start, end, conf_ver, version, peers)| RegionMeta {
                id: RegionId(id),
                range: KeyRange::new(start, end),
                epoch: Epoch::new(conf_ver, version),
                peers,
            },
        )
    }

    proptest! {
        #[test]
        fn a_row_reads_back_as_it_was_written(meta in meta()) {
            let read = decode(meta.id, &encode(&meta));
            if meta.range.is_empty() {
                prop_assert!(read.is_none());
            } else {
                let read = read.unwrap();
                prop_assert_eq!(&*read.meta, &meta);
                prop_assert!(read.leader.is_none() && read.heard.is_none() && !read.size_known && read.size_mib == 0);
            }
        }

        #[test]
        fn a_changed_bit_a_cut_or_another_id_is_noticed(meta in meta(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let row = encode(&meta);
            let at = at.index(row.len());
            prop_assert!(decode(meta.id, &row[..at]).is_none());
            prop_assert!(decode(RegionId(meta.id.0 ^ 1), &row).is_none());
            let mut row = row;
            row[at] ^= 1_u8 << bit;
            prop_assert!(decode(meta.id, &row).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(id in any::<u64>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut row = vec![ROW_VERSION];
            row.extend_from_slice(&checksum(RegionId(id), &body).to_le_bytes());
            row.extend_from_slice(&body);
            if let Some(region) = decode(RegionId(id), &row) {
                prop_assert!(!region.range().is_empty());
            }
        }
    }
}
