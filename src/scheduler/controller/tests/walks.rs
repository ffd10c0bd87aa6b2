//! The recorded conversations of `heartbeat-walk.txt`, driven through the index, the requests of people and the controller.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::{
    model::{DownPeer, Epoch, Key, KeyRange, PeerId, RegionMeta, Role, RuleRole, StoreStats},
    scheduler::{
        admin::{self, Request},
        effect::{Command, CommandKind, PeerChange},
        operator::testing::{shared, without_times},
    },
};

/// A message in the text form of protobuf: names with values, in order.
#[derive(Clone, Debug)]
enum Field {
    Word(String),
    Bytes(Vec<u8>),
    Message(Vec<(String, Field)>),
}

struct Parser<'a> {
    text: std::iter::Peekable<std::str::Bytes<'a>>,
}

impl Parser<'_> {
    fn fields(&mut self) -> Vec<(String, Field)> {
        let mut fields = Vec::new();
        loop {
            let name = self.word();
            if name.is_empty() {
                return fields;
            }
            let field = match self.text.peek() {
                Some(b':') => {
                    self.text.next();
                    self.spaces();
                    if self.text.peek() == Some(&b'"') { Field::Bytes(self.bytes()) } else { Field::Word(self.word()) }
                }
                _ => {
                    self.spaces();
                    assert_eq!(self.text.next(), Some(b'{'));
                    let inner = self.fields();
                    assert_eq!(self.text.next(), Some(b'}'));
                    Field::Message(inner)
                }
            };
            fields.push((name, field));
        }
    }

    fn spaces(&mut self) {
        while self.text.next_if_eq(&b' ').is_some() {}
    }

    fn word(&mut self) -> String {
        self.spaces();
        let mut word = String::new();
        while let Some(b) = self.text.next_if(|b| b.is_ascii_alphanumeric() || *b == b'_') {
            word.push(char::from(b));
        }
        word
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.text.next();
        let mut bytes = Vec::new();
        loop {
            match self.text.next().unwrap() {
                b'"' => return bytes,
                b'\\' => match self.text.next().unwrap() {
                    b'n' => bytes.push(b'\n'),
                    b'r' => bytes.push(b'\r'),
                    b't' => bytes.push(b'\t'),
                    first @ b'0'..=b'7' => {
                        let mut byte = u32::from(first - b'0');
                        for _ in 0..2 {
                            byte = byte * 8 + u32::from(self.text.next().unwrap() - b'0');
                        }
                        bytes.push(u8::try_from(byte).unwrap());
                    }
                    other => bytes.push(other),
                },
                other => bytes.push(other),
            }
        }
    }
}

type Fields = [(String, Field)];

fn parse(text: &str) -> Vec<(String, Field)> {
    Parser { text: text.bytes().peekable() }.fields()
}

fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a Field> {
    fields.iter().filter(|(n, _)| n == name).map(|(_, f)| f).collect()
}

fn message<'a>(fields: &'a Fields, name: &str) -> &'a Fields {
    match all(fields, name).first() {
        Some(Field::Message(inner)) => inner,
        _ => &[],
    }
}

fn number(fields: &Fields, name: &str) -> u64 {
    match all(fields, name).first() {
        Some(Field::Word(word)) => word.parse().unwrap(),
        _ => 0,
    }
}

fn key(fields: &Fields, name: &str) -> Key {
    match all(fields, name).first() {
        Some(Field::Bytes(bytes)) => bytes.clone().into(),
        _ => Key::empty(),
    }
}

fn role(name: &str) -> Role {
    match name {
        "Learner" => Role::Learner,
        "IncomingVoter" => Role::IncomingVoter,
        "DemotingVoter" => Role::DemotingVoter,
        _ => Role::Voter,
    }
}

fn peer(field: &Field) -> Peer {
    let Field::Message(fields) = field else { panic!("{field:?}") };
    let role = match all(fields, "role").first() {
        Some(Field::Word(word)) => role(word),
        _ => Role::Voter,
    };
    Peer { role, ..Peer::voter(number(fields, "id"), number(fields, "store_id")) }
}

/// A heartbeat as recorded; it carries no size.
fn heartbeat(text: &str) -> Region {
    let fields = parse(text);
    let region = message(&fields, "region");
    let epoch = message(region, "region_epoch");
    let down = all(&fields, "down_peers").into_iter().map(|field| {
        let Field::Message(stats) = field else { panic!("{field:?}") };
        DownPeer { peer: PeerId(number(message(stats, "peer"), "id")), seconds: number(stats, "down_seconds") }
    });
    Region {
        meta: Arc::new(RegionMeta {
            id: RegionId(number(region, "id")),
            range: KeyRange::new(key(region, "start_key"), key(region, "end_key")),
            epoch: Epoch::new(number(epoch, "conf_ver"), number(epoch, "version")),
            peers: all(region, "peers").into_iter().map(peer).collect(),
        }),
        leader: Some(PeerId(number(message(&fields, "leader"), "id"))),
        down: down.collect(),
        pending: all(&fields, "pending_peers").into_iter().map(|p| peer(p).id).collect(),
        ..Region::default()
    }
}

fn peer_text(peer: &Peer) -> String {
    let role = if peer.role == Role::Voter { String::new() } else { format!(" role: {}", peer.role.name()) };
    format!("{{ id: {} store_id: {}{role} }}", peer.id, peer.store)
}

/// Bytes as the text form of protobuf shows them.
fn bytes_text(bytes: &[u8]) -> String {
    let text = |b: &u8| match b {
        b' '..=b'~' => char::from(*b).to_string(),
        _ => format!("\\{b:03o}"),
    };
    bytes.iter().map(text).collect()
}

/// A command in the text form of protobuf, as the recordings show it.
fn command_text(command: &Command) -> String {
    let head = format!(
        "region_id: {} region_epoch {{ conf_ver: {} version: {} }} target_peer {}",
        command.region,
        command.epoch.conf_ver,
        command.epoch.version,
        peer_text(&command.target_peer)
    );
    match &command.kind {
        CommandKind::TransferLeader { to } => format!("transfer_leader {{ peer {} }} {head}", peer_text(to)),
        CommandKind::ChangePeerV2 { changes } => {
            let change = |(change, peer): &(PeerChange, Peer)| {
                let kind = match change {
                    PeerChange::AddNode => "",
                    PeerChange::RemoveNode => " change_type: RemoveNode",
                    PeerChange::AddLearnerNode => " change_type: AddLearnerNode",
                };
                format!("changes {{ peer {}{kind} }} ", peer_text(peer))
            };
            format!("{head} change_peer_v2 {{ {}}}", changes.iter().map(change).collect::<String>())
        }
        CommandKind::Split { policy: 2, keys } => {
            format!("{head} split_region {{ policy: USEKEY keys: \"{}\" }}", bytes_text(&keys[0]))
        }
        CommandKind::Merge { target } => {
            let peers = target.peers().iter().map(|p| format!("peers {} ", peer_text(p)));
            format!(
                "{head} merge {{ target {{ id: {} start_key: \"{}\" end_key: \"{}\" region_epoch {{ conf_ver: {} version: {} }} {}}} }}",
                target.id(),
                bytes_text(&target.range().start),
                bytes_text(&target.range().end),
                target.epoch().conf_ver,
                target.epoch().version,
                peers.collect::<String>()
            )
        }
        CommandKind::Split { .. } => format!("{head} split_region {{ policy: APPROXIMATE }}"),
        other => panic!("unexpected {other:?}"),
    }
}

/// The stub's cluster as `stub-cluster.json` describes it.
fn stub_cluster(text: &str) -> World {
    let stub: Value = serde_json::from_str(text).unwrap();
    let mut world = World::new(0, 201);
    for store in stub["stores"].as_array().unwrap() {
        let beat = &store["heartbeat"];
        let stats = StoreStats { is_busy: beat["is_busy"].as_bool().unwrap_or(false), ..StoreStats::default() };
        world.put_store(StoreId(beat["store_id"].as_u64().unwrap()), stats);
    }
    for region in stub["regions"].as_array().unwrap() {
        let number = |value: &Value| value.as_u64().unwrap();
        let bytes = |name: &str| hex::decode(region[name].as_str().unwrap()).unwrap();
        let peer = |p: &Value| Peer {
            role: role(p["role"].as_str().unwrap()),
            ..Peer::voter(number(&p["id"]), number(&p["store_id"]))
        };
        let list = |name: &str| region[name].as_array().cloned().unwrap_or_default();
        world.put(Region {
            meta: Arc::new(RegionMeta {
                id: RegionId(number(&region["id"])),
                range: KeyRange::new(bytes("start_key"), bytes("end_key")),
                epoch: Epoch::new(
                    number(&region["region_epoch"]["conf_ver"]),
                    number(&region["region_epoch"]["version"]),
                ),
                peers: list("peers").iter().map(peer).collect(),
            }),
            leader: Some(PeerId(number(&region["leader"]))),
            term: number(&region["term"]),
            size_mib: number(&region["approximate_size"]) >> 20,
            size_known: true,
            down: list("down_peers")
                .iter()
                .map(|d| DownPeer { peer: PeerId(number(&d["peer_id"])), seconds: number(&d["down_seconds"]) })
                .collect(),
            pending: list("pending_peers").iter().map(|p| PeerId(number(p))).collect(),
            ..Region::default()
        });
    }
    world
}

fn request(body: &str) -> Request {
    let body: Value = serde_json::from_str(body).unwrap();
    let id = |name: &str| body[name].as_u64().unwrap();
    let store = |name: &str| StoreId(id(name));
    let region = RegionId(body["region_id"].as_u64().unwrap_or(0));
    match body["name"].as_str().unwrap() {
        "transfer-leader" => Request::TransferLeader { region, to: store("to_store_id") },
        "transfer-peer" => Request::TransferPeer { region, from: store("from_store_id"), to: store("to_store_id") },
        "add-peer" => Request::AddPeer { region, store: store("store_id") },
        "add-learner" => Request::AddLearner { region, store: store("store_id") },
        "remove-peer" => Request::RemovePeer { region, store: store("store_id") },
        "split-region" => Request::SplitRegion {
            region,
            policy: if body["policy"] == "usekey" { 2 } else { 1 },
            keys: body["keys"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|k| hex::decode(k.as_str().unwrap()).unwrap().into())
                .collect(),
        },
        "merge-region" => {
            Request::MergeRegion { source: RegionId(id("source_region_id")), target: RegionId(id("target_region_id")) }
        }
        "transfer-region" => {
            let roles: BTreeMap<&str, RuleRole> = BTreeMap::from([
                ("voter", RuleRole::Voter),
                ("leader", RuleRole::Leader),
                ("follower", RuleRole::Follower),
                ("learner", RuleRole::Learner),
            ]);
            let roles = body["peer_roles"].as_array().unwrap().iter().map(|r| Some(roles[r.as_str().unwrap()]));
            let stores = body["to_store_ids"].as_array().unwrap().iter().map(|s| StoreId(s.as_u64().unwrap()));
            Request::TransferRegion { region, to: stores.zip(roles).collect() }
        }
        other => panic!("unexpected {other}"),
    }
}

/// One step of a walk: what happens, and what follows from it.
struct Act {
    call: String,
    report: Option<String>,
    answer: Option<String>,
    commands: Vec<String>,
}

fn acts(section: &str) -> Vec<Act> {
    let mut acts: Vec<Act> = Vec::new();
    for line in section.lines() {
        if line.starts_with("HTTP ") || line.starts_with("HB ") {
            acts.push(Act { call: line.to_owned(), report: None, answer: None, commands: Vec::new() });
            continue;
        }
        let Some(act) = acts.last_mut() else { continue };
        if let Some(report) = line.strip_prefix("  store->PD  ") {
            act.report = Some(report.to_owned());
        } else if let Some(answer) = line.strip_prefix("  -> ") {
            act.answer = Some(answer.to_owned());
        } else if let Some(command) = line.strip_prefix("  PD->store  ")
            && !command.starts_with("(no message")
        {
            act.commands.push(command.to_owned());
        }
    }
    acts
}

fn sent(effects: &[Effect]) -> Vec<String> {
    let command = |e: &Effect| if let Effect::Send(c) = e { Some(command_text(c)) } else { None };
    effects.iter().filter_map(command).collect()
}

/// Carries out one act and gives the answer and the effects.
fn carry_out(world: &World, controller: &mut Controller, act: &Act) -> (Option<String>, Vec<Effect>) {
    let mut out = Vec::new();
    let view = world.view();
    if let Some(report) = &act.report {
        if let Ok(applied) = world.regions.apply(heartbeat(report)) {
            for gone in &applied.removed {
                controller.on_region_gone(&view, gone.id(), &mut out);
            }
            controller.on_heartbeat(&view, &applied.region, &mut out);
        }
        return (None, out);
    }
    let mut words = act.call.splitn(4, ' ').skip(1);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let region = || RegionId(path.rsplit('/').next().unwrap().parse().unwrap());
    let not_added = "500 \"[PD:operator:ErrAddOperator]failed to add operator, maybe already have one\"";
    let answer = match method {
        "POST" => {
            let ops = admin::build(&view, &request(words.next().unwrap())).unwrap();
            match controller.add(&view, ops, &By::checker(), &mut out) {
                Ok(()) => "200 \"The operator is created.\"".to_owned(),
                Err(_) => not_added.to_owned(),
            }
        }
        "DELETE" => {
            assert!(controller.cancel(&view, region(), &mut out));
            "200 \"The pending operator is canceled.\"".to_owned()
        }
        _ if path.contains("/region/id/") => {
            assert!(world.regions.get(region()).is_none());
            format!("404 \"[PD:region:ErrRegionNotFound]region {} not found\"", region())
        }
        _ => format!("200 \"{}\"", controller.status(region()).unwrap().status_text()),
    };
    (Some(answer), out)
}

#[test]
fn the_recorded_walks_go_as_recorded() {
    let (Some(walks), Some(stub)) = (shared("compat/heartbeat-walk.txt"), shared("compat/stub-cluster.json")) else {
        return;
    };
    let mut world = stub_cluster(&stub);
    let mut controller = Controller::new(world.now);
    let mut seen = 0;
    for section in walks.split("\n=== ").skip(1) {
        // Which of the two new peers of walk 11 gets which id is chance.
        let swap = |text: &str| {
            if !section.starts_with("11 ") {
                return text.to_owned();
            }
            text.replace("208", "#").replace("207", "208").replace('#', "207")
        };
        for act in acts(section) {
            world.pass(Duration::from_millis(100));
            let (answer, effects) = carry_out(&world, &mut controller, &act);
            let expected: Vec<_> = act.commands.iter().map(|c| swap(c)).collect();
            assert_eq!(sent(&effects), expected, "{}\n{:?}", act.call, told(&effects));
            let bare = |text: &Option<String>| text.as_deref().map(without_times);
            assert_eq!(bare(&answer), bare(&act.answer.as_deref().map(swap)), "{}", act.call);
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}
