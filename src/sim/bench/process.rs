//! CPU time and memory of the server process, read from /proc.
//!
//! Owns: the reading and the differences. Linux only, as the measurements are.

use std::time::Duration;

use super::BenchError;

/// Ticks a second in `/proc/PID/stat`: Linux gives user space 100 on every platform Berth runs on.
const TICKS: u64 = 100;
/// Where the user-mode ticks stand after the command name, counted from the state.
const UTIME_FIELD: usize = 11;

/// What a process has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// CPU time, user and system, of all its threads.
    pub cpu: Duration,
    /// Resident memory now, bytes.
    pub resident: u64,
    /// Resident memory at most, bytes.
    pub peak: u64,
}

/// A process to watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process of this id.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// What it has used up to now.
    ///
    /// # Errors
    /// It is gone, or /proc is not readable.
    pub fn usage(&self) -> Result<Usage, BenchError> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).map_err(|e| self.error(&e.to_string()))
        };
        let cpu = cpu_of(&read("stat")?).ok_or_else(|| self.error("stat has an unknown form"))?;
        let status = read("status")?;
        let kib = |name| field_kib(&status, name).unwrap_or(0).saturating_mul(1024);
        Ok(Usage { cpu, resident: kib("VmRSS:"), peak: kib("VmHWM:") })
    }

    fn error(&self, message: &str) -> BenchError {
        BenchError::Process { pid: self.pid, message: message.to_owned() }
    }
}

/// The CPU time in a line of `/proc/PID/stat`. The command name may hold spaces and brackets: it ends at the last bracket.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(UTIME_FIELD);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS))
}

fn field_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn stat_and_status_are_read() {
        let stat = "4242 (a) b (c)) S 1 1 1 0 -1 4194560 900 0 0 0 1234 66 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(13)));
        assert_eq!(cpu_of("1 (x) S"), None);
        assert_eq!(field_kib("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
    }

    #[test]
    fn this_process_uses_something_and_a_missing_one_is_an_error() {
        let usage = Process::new(std::process::id()).usage().unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident);
        assert!(Process::new(u32::MAX).usage().is_err());
    }
}
