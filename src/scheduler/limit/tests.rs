//! Rates on virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::scheduler::operator::step::SMALL_COST;

const STORE: StoreId = StoreId(1);
/// An hour after the start.
const HOUR: Mono = Mono(3_600_000_000_000);

fn both(rate: f64) -> StoreLimits {
    StoreLimits { add_peer: rate, remove_peer: rate }
}

fn cost(cost: u64) -> Costs {
    Costs::from([((STORE, LimitKind::AddPeer), cost)])
}

/// Asks at each of `times` (nanoseconds) and says when it got one.
fn admitted(limits: &mut Limits, times: impl Iterator<Item = u64>, cost_of: impl Fn(usize) -> u64) -> Vec<(u64, u64)> {
    let asked = times.enumerate().map(|(i, at)| (at, cost_of(i)));
    asked.filter(|(at, price)| limits.take(&cost(*price), Mono(*at)).is_ok()).collect()
}

/// The most operators in any minute.
fn worst_minute(times: &[(u64, u64)]) -> usize {
    let in_minute = |from: u64| times.iter().filter(|(at, _)| *at >= from && *at - from < 60_000_000_000).count();
    times.iter().map(|(at, _)| in_minute(*at)).max().unwrap_or(0)
}

#[test]
fn default_limits_give_exactly_their_number_evenly() {
    let mut limits = Limits::new(Mono(0));
    limits.set(STORE, both(15.0), Mono(0));
    let ticks = (0..60_000).map(|t| t * 10_000_000);
    let got: Vec<_> = admitted(&mut limits, ticks, |_| FULL_COST).into_iter().map(|(at, _)| at).collect();
    // Ten minutes, the first interval spent waiting: a new leader starts with empty buckets.
    assert_eq!(got.len(), 149);
    assert_eq!(got[0], 4_000_000_000);
    assert!(got.windows(2).all(|w| w[1] - w[0] == 4_000_000_000));
}

#[test]
fn idle_time_saves_nothing_up() {
    let mut limits = Limits::new(Mono(0));
    limits.set(STORE, both(60.0), Mono(0));
    let hour = 3_600_000_000_000;
    assert!(limits.take(&cost(FULL_COST), Mono(hour)).is_ok());
    assert_eq!(limits.take(&cost(FULL_COST), Mono(hour)), Err((STORE, LimitKind::AddPeer)));
    assert_eq!(limits.next(STORE, LimitKind::AddPeer, Mono(hour)), Some(Mono(hour + 1_000_000_000)));
    assert_eq!(limits.next(STORE, LimitKind::RemovePeer, Mono(hour)), None);
}

#[test]
fn fast_rates_do_not_lose_to_slow_ticks() {
    let mut limits = Limits::new(Mono(0));
    limits.set(STORE, both(7200.0), Mono(0));
    // Five asked for in each tick of 25 ms: 8.3 ms each, so three a tick.
    let asked = (0..2400).flat_map(|t| [t * 25_000_000; 5]);
    let got = admitted(&mut limits, asked, |_| FULL_COST);
    assert!((7150..=7200).contains(&got.len()), "{}", got.len());
}

/// Asks every one of `stores` in each tick of a time that begins an hour after the start, and says when something was taken.
fn asked_always(limits: &mut Limits, stores: std::ops::RangeInclusive<u64>, lasts: Duration) -> Vec<Duration> {
    let mut got = Vec::new();
    for tick in 0..lasts.as_millis() as u64 / 10 {
        let now = Mono(HOUR.0 + tick * 10_000_000);
        for id in stores.clone() {
            let one = Costs::from([((StoreId(id), LimitKind::AddPeer), FULL_COST)]);
            if limits.take(&one, now).is_ok() {
                got.push(now.since(HOUR));
            }
        }
    }
    got
}

fn longest_gap(got: &[Duration]) -> Duration {
    got.windows(2).map(|w| w[1] - w[0]).max().unwrap()
}

fn stores_at_default(stores: u64) -> Limits {
    let mut limits = Limits::new(Mono(0));
    (1..=stores).for_each(|id| limits.set(StoreId(id), both(15.0), Mono(0)));
    limits
}

#[test]
fn stores_take_turns_after_a_quiet_time() {
    let mut limits = stores_at_default(9);
    let got = asked_always(&mut limits, 1..=9, Duration::from_secs(180));
    assert_eq!(got[0], Duration::ZERO, "the first does not wait");
    assert_eq!(got.len(), 3 * 135);
    let gaps: Vec<_> = got.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
    assert!(gaps.iter().all(|gap| (400..=460).contains(gap)), "one every 4 s / 9: {gaps:?}");
}

#[test]
fn moves_shortly_before_do_not_bring_stores_into_step() {
    for before in (50..12_000).step_by(370) {
        for moves in 1..4 {
            let mut limits = stores_at_default(10);
            for id in 1..=moves {
                let at = Mono(HOUR.0 - (before * 1_000_000) * id / moves);
                let one = Costs::from([((StoreId(id), LimitKind::AddPeer), FULL_COST)]);
                assert!(limits.take(&one, at).is_ok() || moves > 1, "{before} ms before");
            }
            // Store 10 is the one that is drained.
            let got = asked_always(&mut limits, 1..=9, Duration::from_secs(60));
            let longest = longest_gap(&got);
            // As many places stay empty as stores had begun on their own.
            let bound = Duration::from_millis(400 * (2 + moves) + 50);
            assert!(got.len() >= 134 && longest <= bound, "{moves} moves, {before} ms: {} {longest:?}", got.len());
            let at_once = got.windows(2).filter(|w| w[1] == w[0]).count();
            assert!(at_once <= moves as usize * 15, "{moves} moves, {before} ms: {at_once}");
        }
    }
}

#[test]
fn all_stores_free_at_a_leaders_start_do_not_start_at_once() {
    let mut limits = stores_at_default(9);
    let ticks = (0..1200).map(|tick| Mono(tick * 10_000_000));
    let mut firsts = BTreeMap::new();
    for now in ticks {
        for id in 1..=9 {
            let one = Costs::from([((StoreId(id), LimitKind::AddPeer), FULL_COST)]);
            if limits.take(&one, now).is_ok() {
                firsts.entry(id).or_insert(now.0 / 10_000_000);
            }
        }
    }
    let firsts: Vec<u64> = firsts.into_values().collect();
    assert_eq!(
        firsts,
        [400, 445, 490, 535, 580, 625, 670, 715, 760],
        "in ticks: one interval first, then 4 s / 9 apart"
    );
}

#[test]
fn slow_and_quick_stores_do_not_wait_for_each_other() {
    let mut limits = Limits::new(Mono(0));
    limits.set(StoreId(1), both(1.0), Mono(0));
    (2..=4).for_each(|id| limits.set(StoreId(id), both(15.0), Mono(0)));
    let one = |id| Costs::from([((StoreId(id), LimitKind::AddPeer), FULL_COST)]);
    assert!(limits.take(&one(1), HOUR).is_ok());
    let soon = HOUR.plus(Duration::from_secs(1));
    assert!(limits.take(&one(2), soon).is_ok(), "a slow store has started: a quick one waits for its own part only");
    let mut limits = Limits::new(Mono(0));
    limits.set(StoreId(1), both(1.0), Mono(0));
    (2..=4).for_each(|id| limits.set(StoreId(id), both(15.0), Mono(0)));
    // Quick stores that start now and then do not keep the slow one from starting.
    assert!(limits.take(&one(2), HOUR).is_ok());
    assert!(limits.take(&one(1), soon).is_ok());
}

#[test]
fn two_stores_that_an_operator_needs_together_are_free_together() {
    let mut limits = Limits::new(Mono(0));
    (1..=4).for_each(|id| limits.set(StoreId(id), both(15.0), Mono(0)));
    let pair = |add, remove| {
        let one = |id, kind| ((StoreId(id), kind), FULL_COST);
        Costs::from([one(add, LimitKind::AddPeer), one(remove, LimitKind::RemovePeer)])
    };
    let mut got = [0; 3];
    for tick in 0..6000 {
        let now = Mono(60_000_000_000 + tick * 10_000_000);
        for (i, (add, remove)) in [(1, 2), (3, 4), (2, 1)].into_iter().enumerate() {
            got[i] += usize::from(limits.take(&pair(add, remove), now).is_ok());
        }
    }
    assert!(got.iter().all(|n| (14..=15).contains(n)), "a minute of three pairs that share nothing: {got:?}");
}

#[test]
fn all_or_nothing() {
    let mut limits = Limits::new(Mono(0));
    limits.set(STORE, both(60.0), Mono(0));
    limits.set(StoreId(2), both(0.0), Mono(0));
    let now = Mono(10_000_000_000);
    let pair = Costs::from([((STORE, LimitKind::AddPeer), 1000), ((StoreId(2), LimitKind::RemovePeer), 1000)]);
    assert_eq!(limits.take(&pair, now), Err((StoreId(2), LimitKind::RemovePeer)));
    assert!(limits.take(&cost(FULL_COST), now).is_ok(), "nothing was taken from store 1");
}

#[test]
fn strange_rates_do_no_harm() {
    for rate in [0.0, -1.0, f64::NAN, 1e-300] {
        let mut limits = Limits::new(Mono(0));
        limits.set(STORE, both(rate), Mono(0));
        assert!(limits.take(&cost(FULL_COST), Mono(u64::MAX / 2)).is_err(), "{rate}");
        assert_eq!(limits.next(STORE, LimitKind::AddPeer, Mono(1)), Some(Mono(u64::MAX)));
        assert!(limits.take(&cost(0), Mono(0)).is_ok(), "an empty region costs nothing");
    }
    for rate in [UNLIMITED, f64::INFINITY] {
        let mut limits = Limits::new(Mono(0));
        limits.set(STORE, both(rate), Mono(0));
        assert_eq!(admitted(&mut limits, [0; 1000].into_iter(), |_| FULL_COST).len(), 1000);
    }
}

#[test]
fn another_rate_forgives_nothing() {
    let mut limits = Limits::new(Mono(0));
    limits.set(STORE, both(1.0), Mono(0));
    let now = Mono(60_000_000_000);
    assert!(limits.take(&cost(FULL_COST), now).is_ok());
    limits.set(STORE, both(60.0), now);
    assert_eq!(limits.next(STORE, LimitKind::AddPeer, now), Some(Mono(61_000_000_000)));
    // The same again changes nothing.
    limits.set(STORE, both(60.0), Mono(60_500_000_000));
    assert_eq!(limits.next(STORE, LimitKind::AddPeer, now), Some(Mono(61_000_000_000)));
}

proptest! {
    /// O6: no minute, wherever it begins, sees more full-size operators than the limit, whoever asks how often.
    #[test]
    fn o6_limits_hold_in_any_minute(
        rate in prop_oneof![1u32..30, 60u32..120, 590u32..2000],
        gaps in prop::collection::vec(0u64..3_000, 1..600),
        start in 0u64..100_000,
    ) {
        let mut limits = Limits::new(Mono(start * 1_000_000));
        limits.set(STORE, both(f64::from(rate)), Mono(start * 1_000_000));
        let mut at = start * 1_000_000;
        let times: Vec<u64> = gaps.iter().flat_map(|gap| {
            at += gap * 1_000_000;
            // Asked again and again at once, as by a work list.
            [at; 12]
        }).collect();
        let got = admitted(&mut limits, times.into_iter(), |_| FULL_COST);
        prop_assert!(worst_minute(&got) <= rate as usize);
    }

    /// O6 for several stores that start one after another.
    #[test]
    fn o6_limits_hold_for_stores_in_turn(
        rates in prop::collection::vec(1u32..60, 2..6),
        asks in prop::collection::vec((0u64..8_000, 0usize..6), 1..400),
    ) {
        let mut limits = Limits::new(Mono(0));
        for (id, rate) in (1..).zip(&rates) {
            limits.set(StoreId(id), both(f64::from(*rate)), Mono(0));
        }
        let mut at = 0;
        let mut got: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
        for (gap, store) in asks {
            at += gap * 1_000_000;
            let store = store % rates.len();
            let one = Costs::from([((StoreId(store as u64 + 1), LimitKind::AddPeer), FULL_COST)]);
            if limits.take(&one, Mono(at)).is_ok() {
                got.entry(store).or_default().push((at, FULL_COST));
            }
        }
        for (store, times) in &got {
            prop_assert!(worst_minute(times) <= rates[*store] as usize);
        }
    }

    /// O6 for mixed sizes: their sum stays below the limit and one operator more.
    #[test]
    fn o6_mixed_costs_stay_within_one_operator(
        rate in 1u32..100,
        asks in prop::collection::vec((0u64..2_000, any::<bool>()), 1..400),
    ) {
        let mut limits = Limits::new(Mono(0));
        limits.set(STORE, both(f64::from(rate)), Mono(0));
        let mut at = 0;
        let times: Vec<u64> = asks.iter().map(|(gap, _)| { at += gap * 1_000_000; at }).collect();
        let got = admitted(&mut limits, times.into_iter(), |i| if asks[i].1 { FULL_COST } else { SMALL_COST });
        for (from, _) in &got {
            let sum: u64 = got.iter().filter(|(at, _)| at >= from && at - from < 60_000_000_000).map(|(_, c)| c).sum();
            prop_assert!(sum < (u64::from(rate) + 1) * FULL_COST);
        }
    }
}
