//! Operators as logs and REST show them, to the letter of PD's.

use std::{fmt::Write as _, time::Duration};

use time::OffsetDateTime;

use super::{Operator, Status};
use crate::model::{Now, time::go_duration};
/// The start of an operator that never started.
const NEVER: &str = "0001-01-01 00:00:00 +0000 UTC";

/// How Go prints the longest duration that it knows: what lies between [`NEVER`] and any real time.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// A time as Go prints it: wall clock in UTC, then the seconds of the monotonic clock since the process started.
pub(super) fn go_time(now: Now) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.wall.0)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut text = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if at.nanosecond() > 0 {
        let digits = format!(".{:09}", at.nanosecond());
        text.push_str(digits.trim_end_matches('0'));
    }
    let mono = now.mono.0;
    let _ = write!(text, " +0000 UTC m=+{}.{:09}", mono / 1_000_000_000, mono % 1_000_000_000);
    text
}

impl Operator {
    /// PD's operator text, as logs and REST show it.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} {{{}}} (kind:{}, region:{}({}, {}), createAt:{}, startAt:{}, currentStep:{}, size:{}, steps:[",
            self.desc,
            self.brief,
            self.kind,
            self.region,
            self.epoch.version,
            self.epoch.conf_ver,
            go_time(self.created),
            self.started.map_or_else(|| NEVER.to_owned(), go_time),
            self.current,
            self.size_mib,
        );
        for (i, step) in self.steps.iter().enumerate() {
            let _ = write!(text, "{}{i}:{{{step}}}", if i == 0 { "" } else { ", " });
        }
        let _ = write!(text, "], timeout:[{}])", go_duration(self.timeout));
        match self.status {
            Status::Success => text.push_str(" finished"),
            Status::Timeout => text.push_str(" timeout"),
            Status::Created | Status::Started | Status::Canceled | Status::Replaced | Status::Expired => {}
        }
        text
    }

    /// The answer of `GET /operators/{id}`.
    pub fn status_text(&self) -> String {
        format!("status: {}, operator: {}", self.status.word(), self.text())
    }

    /// One entry of `GET /operators/records`. An operator that has not ended shows no end.
    pub fn record_text(&self) -> String {
        let Some(ended) = self.ended else { return self.text() };
        let took = self.started.map_or(LONGEST, |started| ended.mono.since(started.mono));
        format!("{} (finishAt:{}, duration:{})", self.text(), go_time(ended), go_duration(took))
    }

    /// The field `additional-info` of log lines: a JSON object, or nothing when there is nothing to tell.
    pub fn info_text(&self) -> String {
        if self.info.is_empty() {
            return String::new();
        }
        serde_json::to_string(&self.info).unwrap_or_default()
    }
}
