//! What happened in a run, as one number: two runs are the same when their numbers are.
//!
//! Owns: the hash, the last lines for people. Must not know what the lines are about.

use std::{collections::VecDeque, time::Duration};

/// The last lines that are kept; all are hashed.
const KEPT: usize = 4_000;

/// See the module's comment.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: VecDeque<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: VecDeque::new() }
    }
}

impl Trace {
    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// An event that is not worth a line.
    pub fn numbers(&mut self, kind: u8, numbers: &[u64]) {
        self.events += 1;
        self.mix(&[kind]);
        for number in numbers {
            self.mix(&number.to_le_bytes());
        }
    }

    /// An event with a line, at this time since the start.
    pub fn line(&mut self, at: Duration, text: &str) {
        self.events += 1;
        let line = format!("{:>8.1}s {text}", at.as_secs_f64());
        self.mix(line.as_bytes());
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The number of all that happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
