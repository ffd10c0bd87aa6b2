//! The store table: records as agreed, statistics as reported, and what follows from the time of the last heartbeat.
//!
//! Owns: one version of every store, replaced as a whole. Must not know: regions, clocks (the time is passed in), what is decided.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    hot::{Rates, Smooth, Traffic},
    smooth::Space,
};
use crate::model::{Mono, Now, StoreId, StoreRecord, StoreState, StoreStats, Wall};

/// Silence after which a store is Disconnected (PD's number).
pub const DISCONNECTED_AFTER: Duration = Duration::from_secs(20);

/// Silence after which a store is Unhealthy (PD's number).
pub const UNHEALTHY_AFTER: Duration = Duration::from_secs(600);

/// A store as known here. Cheap to clone; a reader keeps its version.
#[derive(Clone, Debug, Default)]
pub struct StoreInfo {
    /// What is agreed.
    pub record: Arc<StoreRecord>,
    /// What it last reported.
    pub stats: Arc<StoreStats>,
    /// When it last reported, by this process; `None`: not yet.
    pub last_heartbeat: Option<Mono>,
    /// The same on the wall clock (from the record until it reports).
    pub last_heartbeat_wall: Wall,
    /// Its first report here: when its record was put or read.
    pub since: Mono,
    /// Schedulers that keep leaders from being moved in or out (evict-leader, grant-leader): counts.
    pub pause_leader_in: u32,
    /// See `pause_leader_in`.
    pub pause_leader_out: u32,
    /// Free space without sudden jumps, bytes: what PD's region score is computed from. 0 until it reports.
    pub avg_available: u64,
    /// What had come to it less what had gone when it last reported, MiB (see [`super::RegionIndex::moved_mib`]).
    pub moved_mib: i64,
    /// The same at the time that `avg_available` tells of: an average lags behind.
    pub avg_moved_mib: i64,
    /// The reports behind the averages.
    pub(super) space: Arc<Space>,
    /// What it tells of its traffic, without noise: reads, writes.
    pub(super) traffic: Arc<StoreTraffic>,
}

/// A store's traffic as it tells it, without noise.
#[derive(Clone, Debug)]
pub(super) struct StoreTraffic {
    read: Smooth,
    write: Smooth,
}

/// A store with this slow score or more is slow (scores go from 1 to 100; PD's number).
const SLOW: u64 = 80;

/// Store reports about more time tell nothing about now, seconds.
const LONGEST_REPORT: u64 = 600;

impl Default for StoreTraffic {
    fn default() -> Self {
        // Stores report both at once, as often as they report reads.
        let smooth = Smooth::new(Traffic::Read.period());
        Self { read: smooth.clone(), write: smooth }
    }
}

impl StoreTraffic {
    fn add(&mut self, stats: &StoreStats) {
        if let Some((read, write, seconds)) = told(stats) {
            self.read.add(read, seconds);
            self.write.add(write, seconds);
        }
    }
}

/// What a report says of reads and writes, a second, and about how many seconds; `None`: nothing that can be used.
fn told(stats: &StoreStats) -> Option<(Rates, Rates, u64)> {
    let seconds = stats.interval.1.checked_sub(stats.interval.0)?;
    if seconds == 0 || seconds > LONGEST_REPORT {
        return None;
    }
    let rate = |total: u64| total as f64 / seconds as f64;
    let (bytes, keys, query) = (rate(stats.bytes_read), rate(stats.keys_read), rate(stats.read_query));
    let read = Rates { bytes, keys, query, cpu: stats.read_cpu as f64 };
    let (bytes, keys, query) = (rate(stats.bytes_written), rate(stats.keys_written), rate(stats.write_query));
    Some((read, Rates { bytes, keys, query, cpu: 0.0 }, seconds))
}

/// How a store's silence counts, whatever its state: see [`StoreInfo::state_name`] for what is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// Heard within 20 s.
    Connected,
    /// Silent for more than 20 s.
    Disconnected,
    /// Silent for more than 10 minutes.
    Unhealthy,
    /// Silent for longer than `max-store-down-time`.
    Down,
}

impl StoreInfo {
    /// Id of the store.
    pub fn id(&self) -> StoreId {
        self.record.id
    }

    /// What is read from it and written to it, as it tells, without noise: of five reports the middle one.
    pub fn rates(&self) -> (Rates, Rates) {
        (self.traffic.read.rates(), self.traffic.write.rates())
    }

    /// The same as its last report alone tells it.
    pub fn rates_told(&self) -> (Rates, Rates) {
        told(&self.stats).map_or_else(Default::default, |(read, write, _)| (read, write))
    }

    /// Whether it says that it is slow.
    pub fn is_slow(&self) -> bool {
        self.stats.slow_score >= SLOW
    }

    fn take_report(&mut self, stats: StoreStats, moved_mib: i64, heard: Mono, at: Wall) {
        let space = Arc::make_mut(&mut self.space);
        space.add(stats.available, moved_mib);
        (self.avg_available, self.avg_moved_mib, self.moved_mib) = (space.available(), space.moved_mib(), moved_mib);
        Arc::make_mut(&mut self.traffic).add(&stats);
        self.stats = Arc::new(stats);
        self.last_heartbeat = Some(heard);
        self.last_heartbeat_wall = at;
    }

    /// The same store with another record: what would be.
    #[must_use]
    pub fn with_record(&self, record: StoreRecord) -> Self {
        Self { record: Arc::new(record), ..self.clone() }
    }

    /// How long it has been silent: since the later of its last heartbeat (or, before its first one, since it is known here)
    /// and `leader_since`. An outage of the control plane is no silence of the stores.
    pub fn silence(&self, leader_since: Mono, now: Mono) -> Duration {
        now.since(self.last_heartbeat.unwrap_or(self.since).max(leader_since))
    }

    /// Whether that silence has reached `max_down` (`max-store-down-time`), whatever its state.
    pub fn is_down(&self, leader_since: Mono, now: Mono, max_down: Duration) -> bool {
        self.silence(leader_since, now) >= max_down
    }

    /// What that silence means, for a store of any state.
    pub fn liveness(&self, leader_since: Mono, now: Mono, max_down: Duration) -> Liveness {
        match self.silence(leader_since, now) {
            _ if self.is_down(leader_since, now, max_down) => Liveness::Down,
            silence if silence > UNHEALTHY_AFTER => Liveness::Unhealthy,
            silence if silence > DISCONNECTED_AFTER => Liveness::Disconnected,
            _ => Liveness::Connected,
        }
    }

    /// The state as PD shows it: only an Up store is called Disconnected or Down.
    pub fn state_name(&self, leader_since: Mono, now: Mono, max_down: Duration) -> &'static str {
        match (self.record.state, self.liveness(leader_since, now, max_down)) {
            (StoreState::Up, Liveness::Down) => "Down",
            (StoreState::Up, Liveness::Disconnected | Liveness::Unhealthy) => "Disconnected",
            (state, _) => state.name(),
        }
    }
}

/// Versions of all stores by id.
pub type Stores = BTreeMap<StoreId, Arc<StoreInfo>>;

/// All stores. A change copies the map of pointers: stores are few and report each ten seconds, while readers are many.
#[derive(Debug, Default)]
pub struct StoreTable {
    stores: ArcSwap<Stores>,
    /// Held during a change, so that none is lost.
    changes: Mutex<()>,
}

impl StoreTable {
    /// One store.
    pub fn get(&self, id: StoreId) -> Option<Arc<StoreInfo>> {
        self.stores.load().get(&id).cloned()
    }

    /// All stores by id (tombstones too). The snapshot is shared: taking it costs one pointer.
    pub fn snapshot(&self) -> Arc<Stores> {
        self.stores.load_full()
    }

    /// Takes an agreed record in.
    pub fn put_record(&self, record: Arc<StoreRecord>, now: Now) {
        self.change(|stores| {
            let id = record.id;
            let info = match stores.get(&id) {
                Some(known) => StoreInfo { record, ..StoreInfo::clone(known) },
                None => StoreInfo {
                    last_heartbeat_wall: record.last_heartbeat,
                    since: now.mono,
                    record,
                    ..StoreInfo::default()
                },
            };
            stores.insert(id, Arc::new(info));
        });
    }

    /// Forgets a store whose record was deleted.
    pub fn remove(&self, id: StoreId) {
        self.change(|stores| stores.remove(&id));
    }

    /// Takes a heartbeat in; `None` for an unknown store. `moved_mib`: what has come to it so far less what has gone.
    pub fn heartbeat(&self, id: StoreId, stats: StoreStats, moved_mib: i64, now: Now) -> Option<Arc<StoreInfo>> {
        self.update(id, |info| info.take_report(stats, moved_mib, now.mono, now.wall))
    }

    /// Takes in what another member knows of a store: its report, how long ago that came, and when. Nothing happens when the store is
    /// unknown, or has reported here since; gives whether it was taken.
    pub fn copy_report(
        &self,
        id: StoreId,
        (stats, moved_mib): (&StoreStats, i64),
        (silent, at): (Duration, Wall),
        now: Now,
    ) -> bool {
        let known = self.get(id);
        if known.is_none_or(|info| info.last_heartbeat.is_some() && info.last_heartbeat_wall >= at) {
            return false;
        }
        let heard = Mono(now.mono.0.saturating_sub(u64::try_from(silent.as_nanos()).unwrap_or(u64::MAX)));
        // What is read from its peers is for who follows them.
        let stats = StoreStats { peers: Vec::new(), ..stats.clone() };
        self.update(id, |info| info.take_report(stats, moved_mib, heard, at)).is_some()
    }

    /// Changes one store (pauses of leader moves); `None` for an unknown store.
    pub fn update(&self, id: StoreId, change: impl FnOnce(&mut StoreInfo)) -> Option<Arc<StoreInfo>> {
        self.change(|stores| {
            let info = stores.get_mut(&id)?;
            let mut next = StoreInfo::clone(info);
            change(&mut next);
            *info = Arc::new(next);
            Some(info.clone())
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Stores) -> T) -> T {
        let _guard = self.changes.lock();
        let mut next = Stores::clone(&self.stores.load());
        let answer = change(&mut next);
        self.stores.store(Arc::new(next));
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MAX_DOWN: Duration = Duration::from_secs(1800);

    fn at(seconds: u64) -> Now {
        Now::default().plus(SECOND * u32::try_from(seconds).unwrap())
    }

    fn table() -> StoreTable {
        let table = StoreTable::default();
        let record = StoreRecord { id: StoreId(1), last_heartbeat: Wall(77), ..StoreRecord::default() };
        table.put_record(Arc::new(record), at(100));
        table
    }

    #[test]
    fn silence_counts_from_the_later_of_heartbeat_and_leadership() {
        let table = table();
        let info = table.get(StoreId(1)).unwrap();
        assert_eq!(info.silence(Mono(0), at(110).mono), SECOND * 10, "before its first heartbeat: since it is known");
        assert_eq!(info.last_heartbeat_wall, Wall(77));
        let info = table.heartbeat(StoreId(1), StoreStats::default(), 0, at(200)).unwrap();
        assert_eq!(info.silence(Mono(0), at(260).mono), SECOND * 60);
        assert_eq!(info.silence(at(250).mono, at(260).mono), SECOND * 10);
        assert_eq!(info.silence(at(250).mono, at(240).mono), Duration::ZERO);
    }

    #[test]
    fn liveness_has_pds_bounds_and_one_heartbeat_ends_it() {
        let table = table();
        let info = table.heartbeat(StoreId(1), StoreStats::default(), 0, at(0)).unwrap();
        let live = |info: &StoreInfo, seconds: u64| info.liveness(Mono(0), at(seconds).mono, MAX_DOWN);
        for (seconds, wanted, shown) in [
            (20, Liveness::Connected, "Up"),
            (21, Liveness::Disconnected, "Disconnected"),
            (600, Liveness::Disconnected, "Disconnected"),
            (601, Liveness::Unhealthy, "Disconnected"),
            (1799, Liveness::Unhealthy, "Disconnected"),
            (1800, Liveness::Down, "Down"),
        ] {
            assert_eq!(live(&info, seconds), wanted, "{seconds}");
            assert_eq!(info.state_name(Mono(0), at(seconds).mono, MAX_DOWN), shown, "{seconds}");
        }
        let info = table.heartbeat(StoreId(1), StoreStats::default(), 0, at(5000)).unwrap();
        assert_eq!(live(&info, 5001), Liveness::Connected);
        let record = StoreRecord { state: StoreState::Offline, ..StoreRecord::clone(&info.record) };
        table.put_record(Arc::new(record), at(5001));
        let info = table.get(StoreId(1)).unwrap();
        assert_eq!(live(&info, 9000), Liveness::Down);
        assert_eq!(info.state_name(Mono(0), at(9000).mono, MAX_DOWN), "Offline");
    }

    #[test]
    fn a_record_keeps_what_was_reported_and_a_snapshot_stays_as_it_was() {
        let table = table();
        let stats = StoreStats { available: 1 << 30, region_count: 5, ..StoreStats::default() };
        table.heartbeat(StoreId(1), stats.clone(), 0, at(100)).unwrap();
        let before = table.snapshot();
        let record = StoreRecord { id: StoreId(1), address: "a:1".into(), ..StoreRecord::default() };
        table.put_record(Arc::new(record), at(110));
        let info = table.get(StoreId(1)).unwrap();
        assert_eq!((info.stats.region_count, info.avg_available, info.record.address.as_str()), (5, 1 << 30, "a:1"));
        assert_eq!(before[&StoreId(1)].record.address, "");
        assert!(table.heartbeat(StoreId(9), stats, 0, at(120)).is_none());
        table.remove(StoreId(1));
        assert!(table.get(StoreId(1)).is_none() && before.len() == 1);
    }
}
