//! Reads the text form of the recorded messages, as far as the walks use it.

use bytes::Bytes;

use crate::proto::{eraftpb::ConfChangeType, metapb, pdpb};

/// A field's value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Word(String),
    Bytes(Vec<u8>),
    Message(Fields),
}

/// The fields of a message, in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    pub(super) fn parse(text: &str) -> Fields {
        let mut rest = text.as_bytes();
        let fields = fields(&mut rest);
        assert!(rest.is_empty(), "left over: {}", String::from_utf8_lossy(rest));
        fields
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v)
    }

    fn messages<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Fields> {
        self.all(name).map(move |v| match v {
            Value::Message(m) => m,
            other => panic!("{name} is no message: {other:?}"),
        })
    }

    fn message<'a>(&'a self, name: &'a str) -> Option<&'a Fields> {
        self.messages(name).next()
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| match v {
            Value::Word(w) => w.as_str(),
            other => panic!("{name} is no word: {other:?}"),
        })
    }

    fn number(&self, name: &str) -> u64 {
        self.word(name).map_or(0, |w| w.parse().unwrap())
    }

    fn bytes(&self, name: &str) -> Bytes {
        match self.all(name).next() {
            Some(Value::Bytes(b)) => Bytes::from(b.clone()),
            None => Bytes::new(),
            Some(other) => panic!("{name} is no text: {other:?}"),
        }
    }

    fn peer(&self) -> metapb::Peer {
        let role = self.word("role").map_or(0, |r| metapb::PeerRole::from_str_name(r).unwrap() as i32);
        metapb::Peer { id: self.number("id"), store_id: self.number("store_id"), role, is_witness: false }
    }

    fn epoch(&self) -> metapb::RegionEpoch {
        metapb::RegionEpoch { conf_ver: self.number("conf_ver"), version: self.number("version") }
    }

    fn region(&self) -> metapb::Region {
        metapb::Region {
            id: self.number("id"),
            start_key: self.bytes("start_key"),
            end_key: self.bytes("end_key"),
            region_epoch: self.message("region_epoch").map(Fields::epoch),
            peers: self.messages("peers").map(Fields::peer).collect(),
            ..Default::default()
        }
    }

    fn change(&self) -> pdpb::ChangePeer {
        let kind = self.word("change_type").map_or(0, |k| ConfChangeType::from_str_name(k).unwrap() as i32);
        pdpb::ChangePeer { peer: self.message("peer").map(Fields::peer), change_type: kind }
    }

    /// As a region heartbeat.
    pub(super) fn heartbeat(&self) -> pdpb::RegionHeartbeatRequest {
        let down = |d: &Fields| pdpb::PeerStats {
            peer: d.message("peer").map(Fields::peer),
            down_seconds: d.number("down_seconds"),
        };
        pdpb::RegionHeartbeatRequest {
            region: self.message("region").map(Fields::region),
            leader: self.message("leader").map(Fields::peer),
            pending_peers: self.messages("pending_peers").map(Fields::peer).collect(),
            down_peers: self.messages("down_peers").map(down).collect(),
            ..Default::default()
        }
    }

    /// As a command.
    pub(super) fn command(&self) -> pdpb::RegionHeartbeatResponse {
        let transfer = |t: &Fields| pdpb::TransferLeader {
            peer: t.message("peer").map(Fields::peer),
            peers: t.messages("peers").map(Fields::peer).collect(),
        };
        let v2 = |c: &Fields| pdpb::ChangePeerV2 { changes: c.messages("changes").map(Fields::change).collect() };
        pdpb::RegionHeartbeatResponse {
            region_id: self.number("region_id"),
            region_epoch: self.message("region_epoch").map(Fields::epoch),
            target_peer: self.message("target_peer").map(Fields::peer),
            change_peer: self.message("change_peer").map(Fields::change),
            transfer_leader: self.message("transfer_leader").map(transfer),
            change_peer_v2: self.message("change_peer_v2").map(v2),
            ..Default::default()
        }
    }
}

fn skip_space(rest: &mut &[u8]) {
    *rest = rest.trim_ascii_start();
}

fn fields(rest: &mut &[u8]) -> Fields {
    let mut out = Vec::new();
    loop {
        skip_space(rest);
        if rest.is_empty() || rest[0] == b'}' {
            return Fields(out);
        }
        let name = word(rest);
        skip_space(rest);
        if rest.first() == Some(&b':') {
            *rest = &rest[1..];
            skip_space(rest);
        }
        let value = match rest[0] {
            b'{' => {
                *rest = &rest[1..];
                let inner = fields(rest);
                assert_eq!(rest.first(), Some(&b'}'));
                *rest = &rest[1..];
                Value::Message(inner)
            }
            b'"' => Value::Bytes(quoted(rest)),
            _ => Value::Word(word(rest)),
        };
        out.push((name, value));
    }
}

fn word(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(rest.len());
    assert!(end > 0, "a word was expected at {}", String::from_utf8_lossy(rest));
    let (word, after) = rest.split_at(end);
    *rest = after;
    String::from_utf8(word.to_vec()).unwrap()
}

fn quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 1;
    while rest[at] != b'"' {
        if rest[at] != b'\\' {
            out.push(rest[at]);
            at += 1;
        } else if rest[at + 1].is_ascii_digit() {
            let octal = std::str::from_utf8(&rest[at + 1..at + 4]).unwrap();
            out.push(u8::from_str_radix(octal, 8).unwrap());
            at += 4;
        } else {
            out.push(match rest[at + 1] {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => other,
            });
            at += 2;
        }
    }
    *rest = &rest[at + 1..];
    out
}
