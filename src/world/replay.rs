//! Replays a recording of a live server: the same inputs at the same times through the same deciding code must start the same
//! operators.
//!
//! Owns: reading a recording, comparing. Must not know: how it was recorded (`server::record` has the form).

use std::{collections::VecDeque, io::BufRead, sync::Arc};

use parking_lot::Mutex;

use crate::{
    api::convert,
    config::{BerthConfig, Dynamic, section::Section as _},
    meta::{State, machine::Action},
    model::{Now, PeerId, Region, StoreId},
    proto::pdpb,
    scheduler::{
        checker::pause::CheckerName,
        cluster::{Cluster, tap::Tap},
        operator::Operator,
        view::IdSource,
    },
    server::{
        record::{Entry, FORMAT, Settings, What, operator_text, unpacked},
        settings,
    },
    telemetry::log::Logger,
};

/// Differences that are told in words; the rest are counted.
const TOLD: usize = 20;

/// A recording that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {why}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// What a replay came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Inputs.
    pub inputs: u64,
    /// Operators that were recorded.
    pub operators: u64,
    /// Differences.
    pub differences: u64,
    /// The first of them.
    pub told: Vec<String>,
    /// The recording does not go to the end: it reached its bound, or the process was killed in the middle of a line.
    pub cut: bool,
}

impl std::fmt::Display for Replayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { inputs, operators, differences, cut, .. } = self;
        writeln!(f, "{inputs} inputs, {operators} operators, {differences} differences")?;
        for told in &self.told {
            writeln!(f, "  {told}")?;
        }
        if *cut { writeln!(f, "the recording does not go to the end") } else { Ok(()) }
    }
}

/// The ids that were given out during the present input.
#[derive(Default)]
struct Ids(Mutex<VecDeque<Option<u64>>>);

impl IdSource for Ids {
    fn next_peer_id(&self) -> Option<PeerId> {
        self.0.lock().pop_front().flatten().map(PeerId)
    }
}

/// The operators that started during the present input.
#[derive(Default)]
struct Started(Mutex<Vec<(u64, String)>>);

impl Tap for Started {
    fn input(&self, _: Option<Now>, _: crate::scheduler::cluster::tap::Input<'_>) {}

    fn started(&self, op: &Operator) {
        self.0.lock().push((op.region.0, operator_text(op)));
    }
}

/// A recorded input with what belongs to it.
struct Turn {
    line: usize,
    now: Option<Now>,
    what: What,
    ids: VecDeque<Option<u64>>,
    operators: Vec<(u64, String)>,
}

struct Player {
    cluster: Cluster,
    ids: Arc<Ids>,
    started: Arc<Started>,
    berth: Arc<BerthConfig>,
    found: Replayed,
}

/// Replays a recording.
///
/// # Errors
/// It cannot be read.
pub fn replay(recording: impl BufRead) -> Result<Replayed, ReplayError> {
    let mut player: Option<Player> = None;
    let mut turn: Option<Turn> = None;
    let mut lines = recording.lines().enumerate().peekable();
    while let Some((at, text)) = lines.next() {
        let (text, line) = (text?, at + 1);
        let wrong = |why: String| ReplayError::Line { line, why };
        let entry: Entry = match (serde_json::from_str(&text), &mut player) {
            (Ok(entry), _) => entry,
            (Err(_), Some(player)) if lines.peek().is_none() => {
                player.found.cut = true;
                break;
            }
            (Err(error), _) => return Err(wrong(error.to_string())),
        };
        let early = || wrong("stands before the start".into());
        match entry {
            Entry::Start { format, now, berth, settings } => {
                if format != FORMAT {
                    return Err(wrong(format!("form {format}, this binary knows {FORMAT}")));
                }
                player = Some(Player::new(now.into(), &berth, &settings).map_err(wrong)?);
            }
            Entry::Input { now, what } => {
                let player = player.as_mut().ok_or_else(early)?;
                let next = Turn { line, now: now.map(Now::from), what, ids: VecDeque::new(), operators: vec![] };
                if let Some(done) = turn.replace(next) {
                    player.play(done)?;
                }
            }
            Entry::Id(id) => turn.as_mut().ok_or_else(early)?.ids.push_back(id),
            Entry::Operator(region, text) => turn.as_mut().ok_or_else(early)?.operators.push((region, text)),
            Entry::Full => player.as_mut().ok_or_else(early)?.found.cut = true,
        }
    }
    let mut player = player.ok_or_else(|| ReplayError::Line { line: 1, why: "an empty recording".into() })?;
    if let Some(done) = turn {
        player.play(done)?;
    }
    Ok(player.found)
}

/// What the settings of a recording are put together from.
fn agreed(settings: &Settings) -> Result<(State, Dynamic), String> {
    let mut state = State::default();
    for row in &settings.rows {
        state.apply(&Action::Put(row.clone()));
    }
    Ok((state, Dynamic::from_json(&settings.dynamic).map_err(|e| e.to_string())?))
}

impl Player {
    fn new(now: Now, berth: &str, recorded: &Settings) -> Result<Self, String> {
        let mut own = BerthConfig::default();
        let items: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(berth).map_err(|e| e.to_string())?;
        for (key, value) in &items {
            own.read_key(key, value, "").map_err(|e| format!("{key}: {e}"))?;
        }
        let (state, dynamic) = agreed(recorded)?;
        let berth = Arc::new(own);
        let under = settings::build(&state, &dynamic, &berth, &Logger::none(), now.wall);
        let (ids, started) = (Arc::new(Ids::default()), Arc::new(Started::default()));
        let cluster = Cluster::new(under, ids.clone(), now);
        cluster.listen(started.clone());
        Ok(Self { cluster, ids, started, berth, found: Replayed::default() })
    }

    fn play(&mut self, turn: Turn) -> Result<(), ReplayError> {
        let Turn { line, now, what, ids, operators } = turn;
        *self.ids.0.lock() = ids;
        self.input(now.unwrap_or_default(), what).map_err(|why| ReplayError::Line { line, why })?;
        let started = std::mem::take(&mut *self.started.0.lock());
        self.found.inputs += 1;
        self.found.operators += operators.len() as u64;
        if started != operators {
            self.found.differences += 1;
            if self.found.told.len() < TOLD {
                self.found.told.push(format!("line {line}: recorded {operators:?}, now {started:?}"));
            }
        }
        Ok(())
    }

    fn input(&self, now: Now, what: What) -> Result<(), String> {
        let cluster = &self.cluster;
        match what {
            What::Region(text) => {
                let request: pdpb::RegionHeartbeatRequest = unpacked(&text)?;
                let region = convert::region_from_heartbeat(&request, now.mono).map_err(|e| e.to_string())?;
                // A refused heartbeat is refused again.
                let _ = cluster.region_heartbeat(region, now);
            }
            What::Loaded(text) => {
                let request: pdpb::RegionHeartbeatRequest = unpacked(&text)?;
                let region = match convert::region_from_heartbeat(&request, now.mono) {
                    Ok(region) => Region { heard: None, ..region },
                    // The cache may know no leader.
                    Err(_) => {
                        let meta = convert::region_meta(&request.region.unwrap_or_default());
                        Region { meta: Arc::new(meta), ..Region::default() }
                    }
                };
                cluster.load_region(region);
            }
            What::Dropped(id) => _ = cluster.drop_region(id, now),
            What::Store(text) => {
                let stats: pdpb::StoreStats = unpacked(&text)?;
                cluster.store_heartbeat(StoreId(stats.store_id), convert::store_stats(&stats), now);
            }
            What::PutStore(record) => cluster.put_store(Arc::new(*record), now),
            What::RemoveStore(id) => cluster.remove_store(id),
            What::Limits(id, Some(limits)) => cluster.set_limits(id, limits, now),
            What::Limits(id, None) => cluster.remove_limits(id),
            What::Settings(recorded) => {
                let (state, dynamic) = agreed(&recorded)?;
                cluster.set_settings(settings::build(&state, &dynamic, &self.berth, &Logger::none(), now.wall), now);
            }
            What::Admin(request) => _ = cluster.admin(&request, "", now),
            What::Cancel(id) => _ = cluster.cancel_operator(id, now),
            What::CancelAll => _ = cluster.cancel_all_operators(now),
            What::Tick => _ = cluster.tick(now),
            What::BeginTerm(keep_heard) => cluster.begin_term(keep_heard, now),
            What::EndTerm => cluster.end_term(now),
            What::Copied(text) => {
                // One that was refused is refused again.
                let _ = cluster.take_copy(&convert::warm::part_from_wire(&unpacked(&text)?, now.mono), now);
            }
            What::Schedulers(recorded) => {
                let (state, dynamic) = agreed(&recorded)?;
                cluster.set_schedulers(settings::schedulers(&state, &dynamic, &Logger::none()), now);
            }
            What::TickSchedulers => _ = cluster.tick_schedulers(now),
            // What did not know the name then does not now.
            What::PauseScheduler(name, span) => _ = cluster.pause_scheduler(&name, span, now),
            What::PauseChecker(name, span) => {
                let checker = CheckerName::named(&name).ok_or_else(|| format!("there is no checker {name}"))?;
                cluster.pause_checker(checker, span, now);
            }
            What::Accelerate(ranges, limit) => cluster.accelerate(&ranges, limit),
            What::Suspect(ranges) => cluster.suspect_ranges(ranges),
            What::Split(regions) => cluster.regions_split(regions, now),
            What::Scatter(ids, group, skip) => _ = cluster.scatter(&ids, &group, skip, "", now),
            What::SplitAt(keys) => _ = cluster.split_at(&keys, "", now),
        }
        Ok(())
    }
}
