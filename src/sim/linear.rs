//! Whether what clients saw could have come from one thing that does one operation after the other: each takes effect at some moment
//! between its call and its answer.
//!
//! Owns: that search and the models of what is searched. Must not know: servers, clocks; moments are plain numbers. Histories of things
//! that have nothing to do with each other (keys) are looked at one by one, which is what keeps the search short.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
};

/// One operation of a client. What is not known to have been done may have been, at any moment after its call, or never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timed<T> {
    /// When it was asked for.
    pub call: u64,
    /// When the answer came; `None`: none did.
    pub answer: Option<u64>,
    /// What was asked and answered.
    pub what: T,
}

/// A thing that does one operation after the other.
pub trait Model {
    /// What it remembers.
    type State: Clone + Eq + Hash;
    /// What is asked of it, with the answer.
    type Op;
    /// The state afterwards; `None`: such an answer cannot come from this state. `known` is false for an operation without an answer.
    fn step(state: &Self::State, op: &Self::Op, known: bool) -> Option<Self::State>;
}

/// What came of a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is an order that explains all answers.
    Explained,
    /// There is none; no order got further than so many operations.
    Impossible(usize),
    /// The search was given up.
    GivenUp,
}

/// Which operations have been done: all before `low`, and these.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    low: usize,
    beyond: Vec<usize>,
}

impl Done {
    fn has(&self, at: usize) -> bool {
        at < self.low || self.beyond.binary_search(&at).is_ok()
    }

    fn with(&self, at: usize) -> Self {
        let mut next = self.clone();
        if let Err(place) = next.beyond.binary_search(&at) {
            next.beyond.insert(place, at);
        }
        let run = next.beyond.iter().zip(next.low..).take_while(|(done, at)| *done == at).count();
        next.beyond.drain(..run);
        next.low += run;
        next
    }
}

/// Those that may be next: nothing that is left was answered before they were asked for.
fn candidates<T>(history: &[&Timed<T>], done: &Done) -> Vec<usize> {
    let (mut found, mut first_answer) = (vec![], u64::MAX);
    for (at, op) in history.iter().enumerate().skip(done.low) {
        if op.call > first_answer {
            break;
        }
        if !done.has(at) {
            first_answer = first_answer.min(op.answer.unwrap_or(u64::MAX));
            found.push(at);
        }
    }
    found
}

/// Looks for an order that explains `history`, beginning with `state`; gives up after so many `steps`.
pub fn explain<M: Model>(history: &[Timed<M::Op>], state: M::State, steps: usize) -> Verdict {
    let mut ops: Vec<&Timed<M::Op>> = history.iter().collect();
    ops.sort_by_key(|op| op.call);
    let known = ops.iter().filter(|op| op.answer.is_some()).count();
    let begin = (Done { low: 0, beyond: vec![] }, state);
    let (mut seen, mut open) = (HashSet::from([begin.clone()]), vec![(begin, 0)]);
    let mut furthest = 0;
    while let Some(((done, state), answered)) = open.pop() {
        furthest = furthest.max(answered);
        if answered == known {
            return Verdict::Explained;
        }
        if seen.len() > steps {
            return Verdict::GivenUp;
        }
        // In this order the one that was answered first is tried first.
        let mut next = candidates(&ops, &done);
        next.sort_by_key(|at| std::cmp::Reverse(ops[*at].answer.unwrap_or(u64::MAX)));
        for at in next {
            let is_known = ops[at].answer.is_some();
            let Some(state) = M::step(&state, &ops[at].what, is_known) else { continue };
            let position = (done.with(at), state);
            if seen.insert(position.clone()) {
                open.push((position, answered + usize::from(is_known)));
            }
        }
    }
    Verdict::Impossible(furthest)
}

/// A value that is written and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register<V> {
    /// This was written.
    Write(V),
    /// This was read.
    Read(V),
}

impl<V: Clone + Eq + Hash> Model for Register<V> {
    type State = V;
    type Op = Self;
    fn step(state: &V, op: &Self, known: bool) -> Option<V> {
        match op {
            Self::Write(value) => Some(value.clone()),
            Self::Read(value) => (!known || value == state).then(|| state.clone()),
        }
    }
}

/// A value that only rises (a GC safe point): somebody asks for `asked` and is told what holds from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raise {
    /// Wanted.
    pub asked: u64,
    /// Told.
    pub told: u64,
}

impl Model for Raise {
    type State = u64;
    type Op = Self;
    fn step(state: &u64, op: &Self, known: bool) -> Option<u64> {
        let value = op.asked.max(*state);
        (!known || value == op.told).then_some(value)
    }
}

/// Looks at each key by itself. The result names the first that cannot be explained, or whose search was given up.
///
/// # Errors
/// The key, and why.
pub fn explain_each<K: Ord + Clone, M: Model>(
    history: impl IntoIterator<Item = (K, Timed<M::Op>)>,
    state: &M::State,
    steps: usize,
) -> Result<(), (K, Verdict)> {
    let mut keys: BTreeMap<K, Vec<Timed<M::Op>>> = BTreeMap::new();
    for (key, op) in history {
        keys.entry(key).or_default().push(op);
    }
    for (key, ops) in keys {
        match explain::<M>(&ops, state.clone(), steps) {
            Verdict::Explained => {}
            verdict => return Err((key, verdict)),
        }
    }
    Ok(())
}

/// Numbers that are given out in runs, first and last, each above all that had been given before it was asked for, none twice.
///
/// # Errors
/// Two runs that contradict each other.
pub fn rising(history: &[Timed<(u64, u64)>]) -> Result<(), [Timed<(u64, u64)>; 2]> {
    let given: Vec<&Timed<(u64, u64)>> = history.iter().filter(|op| op.answer.is_some()).collect();
    let mut by_value = given.clone();
    by_value.sort_by_key(|op| op.what.0);
    if let Some(pair) = by_value.windows(2).find(|pair| pair[0].what.1 >= pair[1].what.0) {
        return Err([*pair[0], *pair[1]]);
    }
    // From the highest down: nobody who got a higher one may have had the answer before this one was asked for.
    let mut earliest: Option<&Timed<(u64, u64)>> = None;
    for op in by_value.into_iter().rev() {
        if let Some(higher) = earliest.filter(|higher| higher.answer < Some(op.call)) {
            return Err([*higher, *op]);
        }
        if earliest.is_none_or(|e| op.answer < e.answer) {
            earliest = Some(op);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Op = Timed<Register<u64>>;

    /// Numbers that look random.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// Every order of every selection, tried one by one.
    fn by_force(left: &[Op], state: u64) -> bool {
        if left.iter().all(|op| op.answer.is_none()) {
            return true;
        }
        (0..left.len()).any(|at| {
            let mut rest = left.to_vec();
            let op = rest.remove(at);
            let too_late = rest.iter().any(|other| other.answer.is_some_and(|answer| answer < op.call));
            let next = Register::step(&state, &op.what, op.answer.is_some());
            !too_late && next.is_some_and(|next| by_force(&rest, next))
        })
    }

    fn history(dice: &mut Dice) -> Vec<Op> {
        let op = |dice: &mut Dice| {
            let call = dice.roll(12);
            let answer = (dice.roll(5) > 0).then(|| call + 1 + dice.roll(6));
            let value = dice.roll(3);
            let what = if dice.roll(2) == 0 { Register::Write(value) } else { Register::Read(value) };
            Timed { call, answer, what }
        };
        (0..1 + dice.roll(6)).map(|_| op(dice)).collect()
    }

    #[test]
    fn the_search_finds_what_trying_everything_finds() {
        let (mut dice, mut explained) = (Dice(7), 0);
        for _ in 0..4000 {
            let history = history(&mut dice);
            let verdict = explain::<Register<u64>>(&history, 0, 100_000);
            let want = by_force(&history, 0);
            assert_eq!(verdict == Verdict::Explained, want, "{history:?}: {verdict:?}");
            assert_ne!(verdict, Verdict::GivenUp);
            explained += usize::from(want);
        }
        assert!((400..3600).contains(&explained), "{explained} of 4000 could be explained, which shows little");
    }

    fn op<T>(call: u64, answer: Option<u64>, what: T) -> Timed<T> {
        Timed { call, answer, what }
    }

    #[test]
    fn a_stale_read_is_seen_and_an_unknown_write_may_have_been_done_late() {
        let (write, read) = (Register::Write::<u64>, Register::Read::<u64>);
        let stale = [op(0, Some(1), write(5)), op(2, Some(3), read(0))];
        assert_eq!(explain::<Register<u64>>(&stale, 0, 100), Verdict::Impossible(1));
        let late = [op(0, None, write(5)), op(2, Some(3), read(0)), op(4, Some(5), read(5))];
        assert_eq!(explain::<Register<u64>>(&late, 0, 100), Verdict::Explained);
        let back = [op(0, None, write(5)), op(2, Some(3), read(5)), op(4, Some(5), read(0))];
        assert_eq!(explain::<Register<u64>>(&back, 0, 100), Verdict::Impossible(1));
        let keys = [("a", stale[0]), ("b", stale[1]), ("b", op(9, Some(10), read(5)))];
        let wrong = explain_each::<_, Register<u64>>(keys, &0, 100);
        assert_eq!(wrong, Err(("b", Verdict::Impossible(1))));
    }

    #[test]
    fn long_histories_of_many_clients_are_searched_quickly_or_given_up() {
        let turns = (0..3000_u64).flat_map(|n| {
            let (call, answer) = (10 * n, Some(10 * n + 15));
            [op(call, answer, Register::Write(n)), op(call + 16, Some(call + 17), Register::Read(n))]
        });
        let history: Vec<Op> = turns.filter(|op| !matches!(op.what, Register::Read(n) if n % 3 > 0)).collect();
        assert_ne!(explain::<Register<u64>>(&history, 0, 100_000), Verdict::GivenUp);
        let crowd: Vec<Op> = (0..40).map(|n| op(0, Some(100), Register::Write(n))).collect();
        let crowd: Vec<Op> = crowd.into_iter().chain([op(101, Some(102), Register::Read(99))]).collect();
        assert_eq!(explain::<Register<u64>>(&crowd, 0, 1000), Verdict::GivenUp);
    }

    #[test]
    fn g1_a_value_that_only_rises_is_never_told_lower() {
        let raise = |asked, told| Raise { asked, told };
        let good = [op(0, Some(1), raise(5, 5)), op(2, Some(3), raise(3, 5)), op(4, None, raise(9, 0))];
        assert_eq!(explain::<Raise>(&good, 0, 100), Verdict::Explained);
        let bad = [op(0, Some(1), raise(5, 5)), op(2, Some(3), raise(3, 3))];
        assert_eq!(explain::<Raise>(&bad, 0, 100), Verdict::Impossible(1));
    }

    #[test]
    fn t1_d1_numbers_rise_with_real_time_and_none_is_given_twice() {
        let good = [op(0, Some(9), (5, 7)), op(1, Some(8), (1, 4)), op(9, Some(10), (8, 8)), op(2, None, (8, 8))];
        assert_eq!(rising(&good), Ok(()));
        let twice = [op(0, Some(1), (1, 4)), op(2, Some(3), (4, 6))];
        assert_eq!(rising(&twice), Err([twice[0], twice[1]]));
        let back = [op(0, Some(1), (5, 6)), op(2, Some(3), (1, 2))];
        assert_eq!(rising(&back), Err([back[0], back[1]]));
    }
}
