//! Recordings: all inputs of a running server's deciding code and the operators that it started, one JSON line each, so that
//! `berth sim replay` can see whether the same inputs give the same operators.
//!
//! Owns: the form of a recording, its bound. Must not know: how it is replayed (`world::replay`). Only for finding bugs: while it
//! records, inputs are decided one after the other.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    api::convert,
    config::{BerthConfig, Dynamic, section::Section as _},
    meta::{State, machine::Row},
    model::{Key, KeyRange, Mono, Now, RegionId, StoreId, StoreLimits, StoreRecord, Wall},
    scheduler::{
        admin::Request,
        cluster::tap::{Input, Tap},
        operator::Operator,
        view::IdSource,
    },
};

/// Version of the form; the first line of each recording names it.
pub const FORMAT: u32 = 2;
/// A recording is no longer than this; what comes later is not recorded.
pub const MAX_BYTES: u64 = 1 << 30;

/// One line of a recording.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// The first line: when this leader started, and under which settings.
    Start {
        /// [`FORMAT`]
        format: u32,
        /// The time.
        now: At,
        /// `[berth]` as JSON.
        berth: String,
        /// What is agreed, as far as settings depend on it.
        settings: Settings,
    },
    /// An input.
    Input {
        /// The time; `None`: it has none.
        now: Option<At>,
        /// What came in.
        what: What,
    },
    /// An id was given out; `None`: there was none at hand.
    Id(Option<u64>),
    /// An operator started: its region and its text without times.
    Operator(u64, String),
    /// The bound was reached.
    Full,
}

/// Both clocks, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct At(pub u64, pub i64);

impl From<Now> for At {
    fn from(now: Now) -> Self {
        At(now.mono.0, now.wall.0)
    }
}

impl From<At> for Now {
    fn from(at: At) -> Self {
        Now { mono: Mono(at.0), wall: Wall(at.1) }
    }
}

/// What settings are put together from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The configuration.
    pub dynamic: String,
    /// Agreed rows: rules, groups, label rules, timed items, the cluster version.
    pub rows: Vec<Row>,
}

impl Settings {
    /// Those of `state`.
    pub fn of(state: &State, dynamic: &Dynamic) -> Self {
        let version = state.cluster_version.clone().map(Row::ClusterVersion);
        let ttl = state.ttl_config.iter().map(|(key, item)| Row::TtlConfig(key.clone(), item.clone()));
        let rules = state.rules.iter().map(|((group, id), json)| Row::Rule(group.clone(), id.clone(), json.clone()));
        let groups = state.rule_groups.iter().map(|(id, json)| Row::RuleGroup(id.clone(), json.clone()));
        let labels = state.label_rules.iter().map(|(id, json)| Row::LabelRule(id.clone(), json.clone()));
        let rows = version.into_iter().chain(ttl).chain(rules).chain(groups).chain(labels).collect();
        Self { dynamic: dynamic.to_json().unwrap_or_default(), rows }
    }
}

/// An input as a recording keeps it; messages are those of the wire, in base64.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum What {
    /// A region's heartbeat.
    Region(String),
    /// A region from the cache on disk.
    Loaded(String),
    /// A region was taken out.
    Dropped(RegionId),
    /// A store's heartbeat.
    Store(String),
    /// A store record.
    PutStore(Box<StoreRecord>),
    /// A record was deleted.
    RemoveStore(StoreId),
    /// Limits.
    Limits(StoreId, Option<StoreLimits>),
    /// Settings.
    Settings(Settings),
    /// A person's operator.
    Admin(Request),
    /// A person cancels.
    Cancel(RegionId),
    /// A person cancels all.
    CancelAll,
    /// A tick.
    Tick,
    /// A term of this member begins; whether what was heard counts.
    BeginTerm(bool),
    /// It ends.
    EndTerm,
    /// A part of the leader's copy.
    Copied(String),
    /// The list of schedulers.
    Schedulers(Settings),
    /// Schedulers look.
    TickSchedulers,
    /// A person pauses a scheduler.
    PauseScheduler(String, Duration),
    /// A person pauses a checker, by its name.
    PauseChecker(String, Duration),
    /// Regions to be looked at next.
    Accelerate(Vec<KeyRange>, usize),
    /// Ranges to be looked at.
    Suspect(Vec<KeyRange>),
    /// Regions that come out of a split.
    Split(Vec<RegionId>),
    /// Regions that are scattered.
    Scatter(Vec<RegionId>, String, bool),
    /// Keys at which regions are split.
    SplitAt(Vec<Key>),
}

/// A message in base64.
fn packed(message: &impl prost::Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}

/// Reads a message back.
///
/// # Errors
/// The text is no such message.
pub fn unpacked<M: prost::Message + Default>(text: &str) -> Result<M, String> {
    let bytes = STANDARD.decode(text).map_err(|e| e.to_string())?;
    M::decode(bytes.as_slice()).map_err(|e| e.to_string())
}

/// An operator without its times, which depend on nothing that is compared.
pub fn operator_text(op: &Operator) -> String {
    let steps: Vec<String> = op.steps.iter().map(ToString::to_string).collect();
    format!("{} {{{}}} [{}]", op.desc, op.brief, steps.join(", "))
}

/// Writes a recording. A disk that fails ends it without a word to the server: it must not suffer from being watched.
pub(crate) struct Recorder {
    out: Mutex<Out>,
    /// Settings that are about to be put in force.
    next: Mutex<Settings>,
    /// Schedulers that are about to run.
    next_schedulers: Mutex<Settings>,
}

struct Out {
    file: Option<BufWriter<File>>,
    left: u64,
}

impl Recorder {
    /// A new recording, over whatever `path` holds.
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        let file = Some(BufWriter::new(File::create(path)?));
        Ok(Self {
            out: Mutex::new(Out { file, left: MAX_BYTES }),
            next: Mutex::default(),
            next_schedulers: Mutex::default(),
        })
    }

    /// The first line.
    pub(crate) fn start(&self, state: &State, dynamic: &Dynamic, berth: &BerthConfig, now: Now) {
        let berth = serde_json::Value::Object(berth.show()).to_string();
        self.write(&Entry::Start { format: FORMAT, now: now.into(), berth, settings: Settings::of(state, dynamic) });
    }

    /// The settings made from these are put in force next.
    pub(crate) fn announce(&self, state: &State, dynamic: &Dynamic) {
        *self.next.lock() = Settings::of(state, dynamic);
    }

    /// The schedulers made from these run next.
    pub(crate) fn announce_schedulers(&self, state: &State, dynamic: &Dynamic) {
        let kept = state.schedulers.iter().map(|(name, json)| Row::Scheduler(name.clone(), json.clone()));
        let dynamic = dynamic.to_json().unwrap_or_default();
        *self.next_schedulers.lock() = Settings { dynamic, rows: kept.collect() };
    }

    /// Writes what is still in memory.
    pub(crate) fn flush(&self) {
        if let Some(file) = &mut self.out.lock().file {
            let _ = file.flush();
        }
    }

    fn write(&self, entry: &Entry) {
        let Ok(mut line) = serde_json::to_string(entry) else { return };
        line.push('\n');
        let mut out = self.out.lock();
        let room = out.left.checked_sub(line.len() as u64);
        let Some(file) = &mut out.file else { return };
        let written = match room {
            Some(_) => file.write_all(line.as_bytes()),
            None => file.write_all(b"\"Full\"\n").and_then(|()| file.flush()),
        };
        match (room, written) {
            (Some(left), Ok(())) => out.left = left,
            _ => out.file = None,
        }
    }
}

impl Tap for Recorder {
    fn input(&self, now: Option<Now>, input: Input<'_>) {
        let what = match input {
            Input::Region(region) => What::Region(packed(&convert::region_report(region))),
            Input::Loaded(region) => What::Loaded(packed(&convert::region_report(region))),
            Input::Dropped(id) => What::Dropped(id),
            Input::Store(id, stats) => What::Store(packed(&convert::store_report(id, stats))),
            Input::PutStore(record) => What::PutStore(Box::new(record.clone())),
            Input::RemoveStore(id) => What::RemoveStore(id),
            Input::Limits(id, limits) => What::Limits(id, limits),
            Input::Settings => What::Settings(self.next.lock().clone()),
            Input::Admin(request) => What::Admin(request.clone()),
            Input::Cancel(id) => What::Cancel(id),
            Input::CancelAll => What::CancelAll,
            Input::Tick => What::Tick,
            Input::BeginTerm(keep_heard) => What::BeginTerm(keep_heard),
            Input::EndTerm => What::EndTerm,
            Input::Copied(part) => What::Copied(packed(&convert::warm::part_to_wire(part))),
            Input::Schedulers => What::Schedulers(self.next_schedulers.lock().clone()),
            Input::TickSchedulers => What::TickSchedulers,
            Input::PauseScheduler(name, span) => What::PauseScheduler(name.to_owned(), span),
            Input::PauseChecker(checker, span) => What::PauseChecker(checker.name().to_owned(), span),
            Input::Accelerate(ranges, limit) => What::Accelerate(ranges.to_vec(), limit),
            Input::Suspect(ranges) => What::Suspect(ranges.to_vec()),
            Input::Split(regions) => What::Split(regions.to_vec()),
            Input::Scatter(ids, group, skip) => What::Scatter(ids.to_vec(), group.to_owned(), skip),
            Input::SplitAt(keys) => What::SplitAt(keys.to_vec()),
        };
        self.write(&Entry::Input { now: now.map(At::from), what });
    }

    fn started(&self, op: &Operator) {
        self.write(&Entry::Operator(op.region.0, operator_text(op)));
    }
}

/// Ids that are written down as they are given out.
pub(crate) struct RecordedIds {
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) recorder: Arc<Recorder>,
}

impl IdSource for RecordedIds {
    fn next_peer_id(&self) -> Option<crate::model::PeerId> {
        let id = self.ids.next_peer_id();
        self.recorder.write(&Entry::Id(id.map(|id| id.0)));
        id
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        model::{DownPeer, Epoch, Flow, KeyRange, Peer, PeerId, PeerTraffic, Region, RegionMeta, StoreStats},
        proto::pdpb,
    };

    #[test]
    fn regions_come_back_as_they_were() {
        let meta = RegionMeta {
            id: RegionId(3),
            range: KeyRange::new(&b"a"[..], &b"c"[..]),
            epoch: Epoch::new(4, 5),
            peers: vec![Peer::voter(6, 1), Peer::learner(7, 2)],
        };
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
        let region = Region {
            leader: Some(PeerId(6)),
            term: 10,
            size_mib: 96,
            size_known: true,
            keys: 11,
            kv_size_mib: 12,
            down: vec![DownPeer { peer: PeerId(7), seconds: 13 }],
            pending: vec![PeerId(7)],
            flow,
            heard: Some(Mono(14)),
            meta: Arc::new(meta),
            ..Region::default()
        };
        let request: pdpb::RegionHeartbeatRequest = unpacked(&packed(&convert::region_report(&region))).unwrap();
        assert_eq!(convert::region_from_heartbeat(&request, Mono(14)).unwrap(), region);
    }

    #[test]
    fn reports_of_stores_come_back_as_they_were() {
        let stats = StoreStats {
            capacity: 1,
            available: 2,
            used_size: 3,
            region_count: 4,
            start_time: 5,
            slow_score: 6,
            slow_trend: Some((0.5, 1.5, 2.5, 3.5)),
            interval: (7, 8),
            read_query: 9,
            write_query: 10,
            read_cpu: 11,
            peers: vec![PeerTraffic { region: RegionId(12), bytes_read: 13, keys_read: 14, read_query: 15, cpu: 16 }],
            ..StoreStats::default()
        };
        let sent: pdpb::StoreStats = unpacked(&packed(&convert::store_report(StoreId(9), &stats))).unwrap();
        assert_eq!((sent.store_id, convert::store_stats(&sent)), (9, stats));
    }
}
