//! What a fleet is like: the flags of `berth sim`, which `berth demo` and `berth bench` fill in themselves.
//!
//! Owns: names, defaults and bounds of the settings. Must not know how they are carried out.

use std::{str::FromStr, time::Duration};

/// Most storage nodes in one fleet: each has its own connection and tasks.
pub(super) const MAX_STORES: u32 = 1_000;
/// Most regions in one fleet: at about 400 bytes each they must fit into a test machine.
pub(super) const MAX_REGIONS: u32 = 10_000_000;
/// Most replicas of a region: PD allows more, no cluster uses them.
pub(super) const MAX_REPLICAS: u32 = 9;

/// How the regions come to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum LayoutKind {
    /// All regions are there from the start, their replicas dealt round the stores, as in PD's simulator.
    #[default]
    Spread,
    /// One region with one replica is bootstrapped; it splits until there are enough, and the server adds the replicas.
    Grow,
}

/// A planned outage: `3@10s` (store 3 stops after ten seconds, for ever) or `3@10s+30s` (and comes back after thirty).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopStore {
    /// Which store, counted from 1 in the order of their making (on a fresh cluster this is its id).
    pub ordinal: u32,
    /// When, after the start.
    pub after: Duration,
    /// For how long; `None`: for good.
    pub lasts: Option<Duration>,
}

impl FromStr for StopStore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ordinal, times) = text.split_once('@').ok_or("expected STORE@AFTER or STORE@AFTER+LASTS")?;
        let (after, lasts) = match times.split_once('+') {
            Some((after, lasts)) => (after, Some(parse_duration(lasts)?)),
            None => (times, None),
        };
        let ordinal: u32 = ordinal.parse().map_err(|_| format!("`{ordinal}` is not a store number"))?;
        if ordinal == 0 {
            return Err("stores are counted from 1".into());
        }
        Ok(Self { ordinal, after: parse_duration(after)?, lasts })
    }
}

/// Faults of the nodes, drawn from the seed. All are off by default.
#[derive(Clone, PartialEq, Debug, Default, clap::Args)]
pub struct FaultOptions {
    /// Switch on a mild mix of all faults (flags given beside it win).
    #[arg(long)]
    pub faults: bool,
    /// Leader changes that nobody asked for, a minute.
    #[arg(long, default_value_t = 0.0, value_name = "PER_MINUTE")]
    pub leader_changes: f64,
    /// Region splits by load, a minute.
    #[arg(long, default_value_t = 0.0, value_name = "PER_MINUTE")]
    pub splits: f64,
    /// Stores that stop and come back, a minute (never two at once).
    #[arg(long, default_value_t = 0.0, value_name = "PER_MINUTE")]
    pub store_stops: f64,
    /// Snapshots that take ten times as long, per cent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub slow_snapshots: f64,
    /// Heartbeats after which an old one is sent once more, per cent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub stale_heartbeats: f64,
    /// A planned outage: STORE@AFTER or STORE@AFTER+LASTS, such as 3@10s+30s; may be repeated.
    #[arg(long, value_name = "STOP")]
    pub stop_store: Vec<StopStore>,
}

impl FaultOptions {
    /// The settings in force: those of `--faults` where nothing else was given.
    #[must_use]
    pub fn effective(&self) -> Self {
        let or = |given: f64, mild: f64| if self.faults && given == 0.0 { mild } else { given };
        Self {
            faults: self.faults,
            leader_changes: or(self.leader_changes, 30.0),
            splits: or(self.splits, 6.0),
            store_stops: or(self.store_stops, 1.0),
            slow_snapshots: or(self.slow_snapshots, 5.0),
            stale_heartbeats: or(self.stale_heartbeats, 2.0),
            stop_store: self.stop_store.clone(),
        }
    }
}

/// Everything about a fleet.
#[derive(Clone, PartialEq, Debug, clap::Args)]
pub struct FleetOptions {
    /// Client URLs of the server, comma-separated.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub pd: Vec<String>,
    /// Number of storage nodes.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STORES)))]
    pub stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REGIONS)))]
    pub regions: u32,
    /// Replicas of each region.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REPLICAS)))]
    pub replicas: u32,
    /// How the regions come to be.
    #[arg(long, value_enum, default_value_t = LayoutKind::Spread)]
    pub layout: LayoutKind,
    /// Leave this many stores, counted from the last, without regions at the start (layout `spread`).
    #[arg(long, default_value_t = 0)]
    pub empty_stores: u32,
    /// Give store 1 exactly this many peers (layout `spread`); default: its fair share.
    #[arg(long)]
    pub first_store_peers: Option<u32>,
    /// Size of a region, MiB.
    #[arg(long, default_value_t = 96)]
    pub region_size: u64,
    /// Capacity of a store, GiB.
    #[arg(long, default_value_t = 1_024)]
    pub capacity: u64,
    /// Version that the stores report.
    #[arg(long, default_value = "v8.5.7")]
    pub store_version: String,
    /// Spread the stores over this many zones, told by the label `zone` (0: no labels).
    #[arg(long, default_value_t = 0)]
    pub zones: u32,
    /// Time between the arrival of a command and its effect.
    #[arg(long, default_value = "100ms", value_parser = parse_duration)]
    pub step_delay: Duration,
    /// Time between two heartbeats of a store.
    #[arg(long, default_value = "10s", value_parser = parse_period)]
    pub store_heartbeat: Duration,
    /// Time between two heartbeats of an unchanged region.
    #[arg(long, default_value = "1m", value_parser = parse_period)]
    pub region_heartbeat: Duration,
    /// Rate at which a store receives snapshots, MiB a second (0: they arrive at once).
    #[arg(long, default_value_t = 0)]
    pub snapshot_rate: u64,
    /// Time that a snapshot takes beside its transfer.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub snapshot_latency: Duration,
    /// Time after which a silent peer is reported as down (10 minutes in TiKV).
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub peer_down_after: Duration,
    /// Time until the survivors have a new leader when a store stops.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub election_timeout: Duration,
    /// Writes to each region, KiB a second (reported as flow).
    #[arg(long, default_value_t = 0)]
    pub write_rate: u64,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Faults.
    #[command(flatten)]
    pub fault: FaultOptions,
    /// End after this time; default: run until Ctrl-C.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Check at the end that every region has its full number of voters.
    #[arg(long)]
    pub check_replicas: bool,
    /// Check at the end that no peer is left on this store (its id).
    #[arg(long, value_name = "STORE")]
    pub check_empty: Option<u64>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            pd: vec!["http://127.0.0.1:2379".into()],
            stores: 6,
            regions: 2_000,
            replicas: 3,
            layout: LayoutKind::Spread,
            empty_stores: 0,
            first_store_peers: None,
            region_size: 96,
            capacity: 1_024,
            store_version: "v8.5.7".into(),
            zones: 0,
            step_delay: Duration::from_millis(100),
            store_heartbeat: Duration::from_secs(10),
            region_heartbeat: Duration::from_secs(60),
            snapshot_rate: 0,
            snapshot_latency: Duration::ZERO,
            peer_down_after: Duration::from_secs(10),
            election_timeout: Duration::from_secs(3),
            write_rate: 0,
            seed: 1,
            fault: FaultOptions::default(),
            duration: None,
            check_replicas: false,
            check_empty: None,
        }
    }
}

/// Reads a duration such as `20ms`, `10s`, `1.5m` or `2h`.
///
/// # Errors
/// A text without a known unit, a negative number, or one that is too large.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is not a duration such as 20ms or 10s"))?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("`{text}` has no unit (us, ms, s, m, h)")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("`{text}`: {e}"))
}

/// A duration that is not zero: something is done again and again after it.
fn parse_period(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".into()),
        d => Ok(d),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse(args: &[&str]) -> Result<FleetOptions, clap::Error> {
        let command = FleetOptions::augment_args(clap::Command::new("sim"));
        command.try_get_matches_from(args).and_then(|m| FleetOptions::from_arg_matches(&m))
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_struct() {
        assert_eq!(parse(&["sim"]).unwrap(), FleetOptions::default());
    }

    #[test]
    fn durations_and_stops_are_read() {
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        for bad in ["", "5", "ms", "-1s", "1d", "1e99h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        let options = parse(&["sim", "--stop-store", "3@10s+30s", "--stop-store", "1@1m"]).unwrap();
        assert_eq!(
            options.fault.stop_store,
            [
                StopStore { ordinal: 3, after: Duration::from_secs(10), lasts: Some(Duration::from_secs(30)) },
                StopStore { ordinal: 1, after: Duration::from_secs(60), lasts: None },
            ]
        );
        assert!(parse(&["sim", "--stop-store", "0@1s"]).is_err());
        assert!(parse(&["sim", "--region-heartbeat", "0s"]).is_err());
        assert!(parse(&["sim", "--stores", "0"]).is_err());
    }

    #[test]
    fn a_given_rate_wins_over_the_mix() {
        let options = parse(&["sim", "--faults", "--splits", "60"]).unwrap().fault.effective();
        assert_eq!((options.splits, options.leader_changes), (60.0, 30.0));
        assert_eq!(FaultOptions::default().effective(), FaultOptions::default());
    }
}
