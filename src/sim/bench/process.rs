//! The server process: its CPU time and memory, and what it was started with, read from /proc; its end.
//!
//! Owns: the reading and the signals. Linux only, as the measurements are.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

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

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone, or belongs to somebody else.
    pub fn signal(&self, signal: Signal) -> Result<(), BenchError> {
        let raw = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(|| self.error("no such process"))?;
        kill_process(raw, signal).map_err(|e| self.error(&e.to_string()))
    }

    /// Whether it has ended with all that it held; nobody need have asked for its exit code.
    pub fn is_gone(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        match state_of(&stat) {
            None | Some('X') => true,
            // Its first thread has ended. Files and ports are free with the last one.
            Some('Z') => {
                std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(true, |threads| threads.count() <= 1)
            }
            Some(_) => false,
        }
    }

    /// What starts the same program again: with its arguments, in its folder and environment.
    ///
    /// # Errors
    /// It is gone, or belongs to somebody else.
    pub fn command(&self) -> Result<Command, BenchError> {
        let path = |file: &str| format!("/proc/{}/{file}", self.pid);
        let link = |file: &str| std::fs::read_link(path(file)).map_err(|e| self.error(&e.to_string()));
        let read = |file: &str| std::fs::read(path(file)).map_err(|e| self.error(&e.to_string()));
        let (line, environment) = (read("cmdline")?, read("environ")?);
        let mut words = texts(&line);
        let mut command = Command::new(link("exe")?);
        // The name under which it was started may say what it is.
        command.arg0(words.next().ok_or_else(|| self.error("it has no command line"))?);
        command.args(words).current_dir(link("cwd")?).env_clear();
        let pair = |text: &'_ OsStr| {
            let at = text.as_bytes().iter().position(|b| *b == b'=')?;
            let (name, value) = text.as_bytes().split_at(at);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value.get(1..)?).to_owned()))
        };
        command.envs(texts(&environment).filter_map(pair));
        Ok(command)
    }

    fn error(&self, message: &str) -> BenchError {
        BenchError::Process { pid: self.pid, message: message.to_owned() }
    }
}

/// Texts that each end with a zero byte.
fn texts(bytes: &[u8]) -> impl Iterator<Item = &OsStr> {
    bytes.strip_suffix(b"\0").unwrap_or(bytes).split(|b| *b == 0).map(OsStr::from_bytes)
}

/// The state in a line of `/proc/PID/stat`.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
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
        assert_eq!((state_of(stat), state_of("")), (Some('S'), None));
        assert_eq!(field_kib("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
    }

    #[test]
    fn a_process_is_started_again_as_it_was_and_one_that_has_ended_is_gone() {
        let mut first = Command::new("sleep").arg("600").env("MARK", "a=b").current_dir("/").spawn().unwrap();
        let process = Process::new(first.id());
        // Until it is another program it is a copy of this one, and for a moment one without arguments.
        let is_there = |command: &Command| command.get_args().eq(["600"]) && command.get_envs().next().is_some();
        let command = loop {
            match process.command().unwrap() {
                command if is_there(&command) => break command,
                _ => std::thread::yield_now(),
            }
        };
        assert_eq!(command.get_current_dir(), Some(std::path::Path::new("/")));
        assert!(command.get_envs().any(|pair| pair == (OsStr::new("MARK"), Some(OsStr::new("a=b")))));
        assert!(!process.is_gone());
        process.signal(Signal::KILL).unwrap();
        while !process.is_gone() {
            std::thread::yield_now();
        }
        first.wait().unwrap();
        assert!(process.is_gone() && process.command().is_err());
    }

    #[test]
    fn this_process_uses_something_and_a_missing_one_is_an_error() {
        let usage = Process::new(std::process::id()).usage().unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident);
        assert!(Process::new(u32::MAX).usage().is_err());
    }
}
