//! Protobuf text of heartbeats and commands, as the walks write it: one line, keys as octal escapes, zero values left out.

use berth::proto::{metapb, pdpb};
use bytes::Bytes;

/// A message: names and values in their order.
pub(crate) type Message = Vec<(String, Value)>;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    /// A number or the name of an enum's value.
    Word(String),
    /// A text of bytes.
    Bytes(Vec<u8>),
    /// A message.
    Message(Message),
}

/// Reads a line.
pub(crate) fn parse(line: &str) -> Message {
    let mut rest = line.trim().as_bytes();
    let message = fields(&mut rest);
    assert!(rest.is_empty(), "left over: {}", String::from_utf8_lossy(rest));
    message
}

fn skip(rest: &mut &[u8]) {
    while let [b' ', tail @ ..] = *rest {
        *rest = tail;
    }
}

fn word(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|b| matches!(b, b' ' | b':' | b'{' | b'}')).unwrap_or(rest.len());
    let (word, tail) = rest.split_at(end);
    *rest = tail;
    String::from_utf8_lossy(word).into_owned()
}

fn fields(rest: &mut &[u8]) -> Message {
    let mut out = Message::new();
    loop {
        skip(rest);
        if rest.is_empty() || rest[0] == b'}' {
            return out;
        }
        let name = word(rest);
        skip(rest);
        let (mark, tail) = rest.split_first().expect("a value");
        *rest = tail;
        skip(rest);
        let value = match mark {
            b'{' => {
                let message = fields(rest);
                *rest = rest.strip_prefix(b"}").expect("an end");
                Value::Message(message)
            }
            b':' if rest.first() == Some(&b'"') => Value::Bytes(quoted(rest)),
            b':' => Value::Word(word(rest)),
            other => panic!("unexpected {}", char::from(*other)),
        };
        out.push((name, value));
    }
}

fn quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 1;
    while rest[at] != b'"' {
        if rest[at] == b'\\' {
            at += 1;
            match rest[at] {
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'0'..=b'7' => {
                    let digits = std::str::from_utf8(&rest[at..at + 3]).expect("digits");
                    out.push(u8::from_str_radix(digits, 8).expect("octal"));
                    at += 2;
                }
                other => out.push(other),
            }
        } else {
            out.push(rest[at]);
        }
        at += 1;
    }
    *rest = &rest[at + 1..];
    out
}

fn get<'a>(message: &'a Message, name: &str) -> Option<&'a Value> {
    message.iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

fn all<'a>(message: &'a Message, name: &'a str) -> impl Iterator<Item = &'a Message> {
    message.iter().filter_map(move |(n, value)| match value {
        Value::Message(inner) if n == name => Some(inner),
        _ => None,
    })
}

fn number(message: &Message, name: &str) -> u64 {
    match get(message, name) {
        Some(Value::Word(text)) => text.parse().expect("a number"),
        _ => 0,
    }
}

fn bytes(message: &Message, name: &str) -> Bytes {
    match get(message, name) {
        Some(Value::Bytes(bytes)) => bytes.clone().into(),
        _ => Bytes::new(),
    }
}

fn peer(message: &Message) -> metapb::Peer {
    let role = match get(message, "role") {
        Some(Value::Word(name)) => metapb::PeerRole::from_str_name(name).expect("a role") as i32,
        _ => 0,
    };
    metapb::Peer { id: number(message, "id"), store_id: number(message, "store_id"), role, ..metapb::Peer::default() }
}

/// A heartbeat: the parts that the walks write.
pub(crate) fn heartbeat(line: &str) -> pdpb::RegionHeartbeatRequest {
    let message = parse(line);
    let region = all(&message, "region").next().map(|region| metapb::Region {
        id: number(region, "id"),
        start_key: bytes(region, "start_key"),
        end_key: bytes(region, "end_key"),
        region_epoch: all(region, "region_epoch")
            .next()
            .map(|e| metapb::RegionEpoch { conf_ver: number(e, "conf_ver"), version: number(e, "version") }),
        peers: all(region, "peers").map(peer).collect(),
        ..metapb::Region::default()
    });
    pdpb::RegionHeartbeatRequest {
        region,
        leader: all(&message, "leader").next().map(peer),
        pending_peers: all(&message, "pending_peers").map(peer).collect(),
        down_peers: all(&message, "down_peers")
            .map(|down| pdpb::PeerStats {
                peer: all(down, "peer").next().map(peer),
                down_seconds: number(down, "down_seconds"),
            })
            .collect(),
        ..pdpb::RegionHeartbeatRequest::default()
    }
}

fn show_peer(name: &str, peer: &metapb::Peer) -> String {
    let role = metapb::PeerRole::try_from(peer.role).expect("a role");
    let role = if peer.role == 0 { String::new() } else { format!(" role: {}", role.as_str_name()) };
    format!("{name} {{ id: {} store_id: {}{role} }}", peer.id, peer.store_id)
}

/// Bytes as a text: what is not printed stands as an octal escape.
fn show_bytes(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'"' | b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\{byte:03o}"),
    };
    format!("\"{}\"", bytes.iter().map(one).collect::<String>())
}

fn show_epoch(epoch: &metapb::RegionEpoch) -> String {
    format!("region_epoch {{ conf_ver: {} version: {} }}", epoch.conf_ver, epoch.version)
}

fn show_region(region: &metapb::Region) -> String {
    let key = |name: &str, key: &[u8]| (!key.is_empty()).then(|| format!("{name}: {}", show_bytes(key)));
    let mut parts = vec![format!("id: {}", region.id)];
    parts.extend(key("start_key", &region.start_key));
    parts.extend(key("end_key", &region.end_key));
    parts.extend(region.region_epoch.as_ref().map(show_epoch));
    parts.extend(region.peers.iter().map(|p| show_peer("peers", p)));
    parts.join(" ")
}

/// A command, fields in the order of their numbers.
pub(crate) fn command(command: &pdpb::RegionHeartbeatResponse) -> String {
    let mut parts = Vec::new();
    if let Some(transfer) = &command.transfer_leader {
        let to = transfer.peer.as_ref().map(|p| show_peer("peer", p)).unwrap_or_default();
        parts.push(format!("transfer_leader {{ {to} }}"));
    }
    parts.push(format!("region_id: {}", command.region_id));
    if let Some(epoch) = &command.region_epoch {
        parts.push(show_epoch(epoch));
    }
    parts.extend(command.target_peer.as_ref().map(|p| show_peer("target_peer", p)));
    if let Some(target) = command.merge.as_ref().and_then(|merge| merge.target.as_ref()) {
        parts.push(format!("merge {{ target {{ {} }} }}", show_region(target)));
    }
    if let Some(split) = &command.split_region {
        let policy = pdpb::CheckPolicy::try_from(split.policy).expect("a policy");
        let policy = (split.policy != 0).then(|| format!("policy: {}", policy.as_str_name()));
        let keys = split.keys.iter().map(|key| format!("keys: {}", show_bytes(key)));
        let fields: Vec<_> = policy.into_iter().chain(keys).collect();
        parts.push(format!("split_region {{ {} }}", fields.join(" ")));
    }
    if let Some(v2) = &command.change_peer_v2 {
        let change = |c: &pdpb::ChangePeer| {
            let kind = berth::proto::eraftpb::ConfChangeType::try_from(c.change_type).expect("a kind");
            let kind = if c.change_type == 0 { String::new() } else { format!(" change_type: {}", kind.as_str_name()) };
            let peer = c.peer.as_ref().map(|p| show_peer("peer", p)).unwrap_or_default();
            format!("changes {{ {peer}{kind} }} ")
        };
        let changes: String = v2.changes.iter().map(change).collect();
        parts.push(format!("change_peer_v2 {{ {changes}}}"));
    }
    parts.join(" ")
}
