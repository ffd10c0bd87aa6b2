//! Time as plain numbers. Deciding code gets a [`Now`] passed in; only `server/` (and the simulator) make one.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Monotonic time: nanoseconds since this process (or this simulation) started. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// The time after `d`.
    #[must_use]
    pub fn plus(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall-clock time: nanoseconds since the Unix epoch. May jump; never used to measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

impl Wall {
    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Whole milliseconds since the Unix epoch.
    pub fn unix_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

/// The present: both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For measuring.
    pub mono: Mono,
    /// For showing.
    pub wall: Wall,
}

impl Now {
    /// The present after `d` (for simulations and tests).
    #[must_use]
    pub fn plus(self, d: Duration) -> Now {
        let nanos = i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        Now { mono: self.mono.plus(d), wall: Wall(self.wall.0.saturating_add(nanos)) }
    }
}

/// Where the present comes from: the system's clocks in a server, a counter in simulations and tests.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Both clocks, read together.
    fn now(&self) -> Now;
}

/// A duration as Go prints it (`1m0.838686353s`, `899.481292ms`, `17m0s`, `0s`): PD's texts hold such.
pub fn go_duration(d: Duration) -> String {
    struct Frac(u128, u32);
    impl fmt::Display for Frac {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let unit = 10u128.pow(self.1);
            write!(f, "{}", self.0 / unit)?;
            let rest = self.0 % unit;
            if rest > 0 {
                let digits = format!("{rest:0width$}", width = self.1 as usize);
                write!(f, ".{}", digits.trim_end_matches('0'))?;
            }
            Ok(())
        }
    }
    let nanos = d.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", Frac(nanos, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", Frac(nanos, 6)),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let (hours, minutes) = (minutes / 60, minutes % 60);
            match (hours, minutes) {
                (0, 0) => format!("{}s", Frac(rest, 9)),
                (0, m) => format!("{m}m{}s", Frac(rest, 9)),
                (h, m) => format!("{h}h{m}m{}s", Frac(rest, 9)),
            }
        }
    }
}

/// What Go prints for a time that was never set.
pub const GO_ZERO_TIME: &str = "0001-01-01 00:00:00 +0000 UTC";

/// A time as Go's `Time.String` prints it: `2026-11-22 13:04:11.06638644 +0000 UTC m=+80.828607559`; without a reading of the
/// monotonic clock the last part is missing. `offset`: seconds that local time is ahead of UTC. Go shows the zone's letters
/// where it knows them; away from UTC Berth shows the offset a second time, as Go does for a zone without letters.
pub fn go_time(wall: Wall, mono: Option<Mono>, offset: i32) -> String {
    let local = i128::from(wall.0) + i128::from(offset) * 1_000_000_000;
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(local).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let fraction = match at.nanosecond() {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    let ahead = offset.unsigned_abs() / 60;
    let zone = format!("{}{:02}{:02}", if offset < 0 { '-' } else { '+' }, ahead / 60, ahead % 60);
    let name = if offset == 0 { "UTC" } else { &zone };
    let mono = mono.map_or_else(String::new, |m| format!(" m=+{}.{:09}", m.0 / 1_000_000_000, m.0 % 1_000_000_000));
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{fraction} {zone} {name}{mono}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_go_prints_them() {
        let at = Wall(1_795_352_651_066_386_440);
        let mono = Mono(80_828_607_559);
        assert_eq!(go_time(at, Some(mono), 0), "2026-11-22 13:04:11.06638644 +0000 UTC m=+80.828607559");
        assert_eq!(go_time(Wall(1_795_352_651_000_000_000), None, 0), "2026-11-22 13:04:11 +0000 UTC");
        assert_eq!(go_time(at, None, -9000), "2026-11-22 10:34:11.06638644 -0230 -0230");
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (261, "261ns"),
            (652_800, "652.8µs"),
            (899_481_292, "899.481292ms"),
            (1_099_082_586, "1.099082586s"),
            (60_838_686_353, "1m0.838686353s"),
            (1_020_000_000_000, "17m0s"),
            (5_100_000_000_000, "1h25m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }
}
