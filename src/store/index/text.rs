//! A region's identity as PD prints it in errors: protobuf's compact text form of `metapb.Region`.
//!
//! Owns: that form. Must not know: the index.

use std::fmt::Write;

use crate::model::{Epoch, Key, Peer, RegionMeta, Role};

/// `id:2 end_key:"m" region_epoch:<conf_ver:3 version:2 > peers:<id:3 store_id:1 > `: fields that are zero are left out, and a
/// blank follows every field.
pub fn meta_text(meta: &RegionMeta) -> String {
    let mut out = String::with_capacity(64 + 32 * meta.peers.len());
    number(&mut out, "id", meta.id.0);
    key(&mut out, "start_key", &meta.range.start);
    key(&mut out, "end_key", &meta.range.end);
    // The model does not tell an epoch of zeros from none; nodes send none.
    if meta.epoch != Epoch::default() {
        out.push_str("region_epoch:<");
        number(&mut out, "conf_ver", meta.epoch.conf_ver);
        number(&mut out, "version", meta.epoch.version);
        out.push_str("> ");
    }
    for peer in &meta.peers {
        out.push_str("peers:<");
        peer_fields(&mut out, peer);
        out.push_str("> ");
    }
    out
}

fn peer_fields(out: &mut String, peer: &Peer) {
    number(out, "id", peer.id.0);
    number(out, "store_id", peer.store.0);
    if peer.role != Role::Voter {
        out.push_str("role:");
        out.push_str(peer.role.name());
        out.push(' ');
    }
    if peer.is_witness {
        out.push_str("is_witness:true ");
    }
}

fn number(out: &mut String, name: &str, value: u64) {
    if value != 0 {
        // Writing to a String cannot fail.
        let _ = write!(out, "{name}:{value} ");
    }
}

fn key(out: &mut String, name: &str, key: &Key) {
    if key.is_empty() {
        return;
    }
    out.push_str(name);
    out.push_str(":\"");
    for &byte in key.as_bytes() {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push_str("\" ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyRange, PeerId, RegionId, StoreId};

    #[test]
    fn prints_as_the_recorded_refusals_do() {
        let peers = vec![Peer::voter(3, 1), Peer::voter(11, 4), Peer::voter(12, 5)];
        let mut meta =
            RegionMeta { id: RegionId(2), range: KeyRange::new(&b""[..], &b"m"[..]), epoch: Epoch::new(3, 2), peers };
        assert_eq!(
            meta_text(&meta),
            "id:2 end_key:\"m\" region_epoch:<conf_ver:3 version:2 > peers:<id:3 store_id:1 > \
             peers:<id:11 store_id:4 > peers:<id:12 store_id:5 > "
        );
        meta.epoch = Epoch::default();
        meta.peers.truncate(1);
        assert_eq!(meta_text(&meta), "id:2 end_key:\"m\" peers:<id:3 store_id:1 > ");
    }

    #[test]
    fn escapes_keys_and_names_roles() {
        let peer = Peer { id: PeerId(7), store: StoreId(8), role: Role::DemotingVoter, is_witness: true };
        let meta = RegionMeta {
            id: RegionId(1),
            range: KeyRange::new(&b"t\x80\x00\"\\\n\r\t~\x7f"[..], &b"\xff"[..]),
            epoch: Epoch::new(0, 5),
            peers: vec![peer],
        };
        assert_eq!(
            meta_text(&meta),
            "id:1 start_key:\"t\\200\\000\\\"\\\\\\n\\r\\t~\\177\" end_key:\"\\377\" region_epoch:<version:5 > \
             peers:<id:7 store_id:8 role:DemotingVoter is_witness:true > "
        );
    }
}
