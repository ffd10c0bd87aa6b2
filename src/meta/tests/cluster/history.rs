//! What clients saw of a few values that they write and read, and whether one server without faults could have answered like that.

use rand::Rng;

use super::world::World;
use crate::{
    meta::{Command, Meta, NamedRow},
    sim::linear::{self, Register, Timed, Verdict},
};

/// How many values there are.
const VALUES: usize = 3;
/// Bound on the search for an order of what was done with one value.
const STEPS: usize = 100_000;

/// See the module. Moments are counted, not timed: two things never happen at the same one.
#[derive(Debug, Default)]
pub(super) struct History {
    moment: u64,
    /// Values are numbered from 1; 0 was there in the beginning.
    next: u64,
    ops: Vec<(usize, Timed<Register<u64>>)>,
}

fn row_id(value: usize) -> String {
    format!("value-{value}")
}

impl History {
    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// A write is asked for; its place.
    fn put(&mut self, value: usize) -> (usize, u64) {
        self.next += 1;
        let call = self.now();
        self.ops.push((value, Timed { call, answer: None, what: Register::Write(self.next) }));
        (self.ops.len() - 1, self.next)
    }

    /// It was acknowledged.
    pub(super) fn put_done(&mut self, place: usize) {
        self.ops[place].1.answer = Some(self.now());
    }

    fn read(&mut self, value: usize, seen: u64) {
        let call = self.now();
        let answer = Some(self.now());
        self.ops.push((value, Timed { call, answer, what: Register::Read(seen) }));
    }
}

impl World {
    pub(super) fn put(&mut self, at: usize, meta: Meta) -> Result<(), String> {
        let value = self.rng.random_range(0..VALUES);
        let (place, written) = self.history.put(value);
        let rows = vec![NamedRow { id: row_id(value), json: format!("{{\"n\":{written}}}") }];
        let command = Command::PutLabelRules { rules: rows, delete: vec![] };
        self.ask(at, async move { super::client::Outcome::Put(place, meta.propose(command).await.map(drop)) })
    }

    /// Reads as the server does: from the agreed state, if this member serves before and after.
    pub(super) fn read(&mut self, at: usize) {
        let value = self.rng.random_range(0..VALUES);
        let Some(meta) = self.machines[at].run.as_ref().map(|r| r.meta.clone()).filter(Meta::is_leader) else { return };
        let state = meta.state();
        let seen = state.label_rules.get(&row_id(value)).map_or(0, |rule| number_in(rule));
        if meta.is_leader() {
            self.history.read(value, seen);
        }
    }

    /// Whether there is an order of all that clients asked for that explains what they were answered.
    pub(super) fn is_explained(&mut self) -> Result<(), String> {
        let ops = &self.history.ops;
        self.counts.recorded += ops.len() as u64;
        self.counts.histories += 1;
        match linear::explain_each::<_, Register<u64>>(ops.iter().copied(), &0, STEPS) {
            Ok(()) => Ok(()),
            Err((_, Verdict::GivenUp)) => {
                self.counts.given_up += 1;
                Ok(())
            }
            Err((value, verdict)) => Err(format!("linear: value {value}: {verdict:?}")),
        }
    }
}

fn number_in(json: &str) -> u64 {
    json.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}
