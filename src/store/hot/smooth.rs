//! Traffic without noise: what short reports say is put together to whole periods, and of five periods the middle one counts.
//!
//! Owns: PD's average over time and its median of five. Must not know: peers, stores, what is hot.

use std::collections::VecDeque;

use super::rates::Rates;

/// Periods of which the middle one counts (PD's number).
const PERIODS: usize = 5;
/// Most reports that make up one period: shorter ones than three seconds do not come in.
const MAX_REPORTS: usize = 32;

/// See the module's comment.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Smooth {
    period: u64,
    /// The latest reports that fill a period: traffic a second, and seconds.
    window: VecDeque<(Rates, u64)>,
    /// The latest periods, oldest first.
    periods: VecDeque<Rates>,
    /// What came since the last whole period was judged: sums and seconds.
    fresh: (Rates, u64),
}

impl Smooth {
    /// Nothing yet; `period` in seconds.
    pub(crate) fn new(period: u64) -> Self {
        Self { period, window: VecDeque::new(), periods: VecDeque::new(), fresh: (Rates::default(), 0) }
    }

    /// Takes a report about so many seconds in (more than none).
    pub(crate) fn add(&mut self, rates: Rates, seconds: u64) {
        self.fresh = (self.fresh.0.plus(rates.times(seconds as f64)), self.fresh.1 + seconds);
        self.window.push_back((rates, seconds));
        let mut span: u64 = self.window.iter().map(|(_, seconds)| seconds).sum();
        while let Some((_, oldest)) = self.window.front()
            && (span - oldest >= self.period || self.window.len() > MAX_REPORTS)
        {
            span -= oldest;
            self.window.pop_front();
        }
        if span >= self.period {
            let sum = self.window.iter().fold(Rates::default(), |sum, (rates, s)| sum.plus(rates.times(*s as f64)));
            self.periods.push_back(sum.times(1.0 / span as f64));
            if self.periods.len() > PERIODS {
                self.periods.pop_front();
            }
        }
    }

    /// The mean since the last call that had an answer, once a whole period has come.
    pub(crate) fn judge(&mut self) -> Option<Rates> {
        let (sum, seconds) = self.fresh;
        if seconds < self.period {
            return None;
        }
        self.fresh = (Rates::default(), 0);
        Some(sum.times(1.0 / seconds as f64))
    }

    /// The smoothed rates, whole numbers; before the first whole period the mean of what came.
    pub(crate) fn rates(&self) -> Rates {
        if self.periods.is_empty() {
            return match self.fresh {
                (_, 0) => Rates::default(),
                (sum, seconds) => {
                    let mean = sum.times(1.0 / seconds as f64);
                    Rates::each(|dim| mean.of(dim).round())
                }
            };
        }
        Rates::each(|dim| {
            let mut values: Vec<f64> = self.periods.iter().map(|rates| rates.of(dim)).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            let median =
                if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
            median.round()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: f64) -> Rates {
        Rates { bytes, ..Rates::default() }
    }

    #[test]
    fn one_wild_report_of_five_says_nothing() {
        let mut smooth = Smooth::new(10);
        for value in [100.0, 100.0, 9e9, 100.0, 100.0] {
            smooth.add(bytes(value), 10);
        }
        assert_eq!(smooth.rates().bytes, 100.0);
        smooth.add(bytes(300.0), 10);
        smooth.add(bytes(300.0), 10);
        assert_eq!(smooth.rates().bytes, 300.0, "three of five are above");
    }

    #[test]
    fn short_reports_make_up_a_period() {
        let mut smooth = Smooth::new(60);
        for (value, seconds) in [(10.0, 20), (40.0, 20)] {
            smooth.add(bytes(value), seconds);
            assert_eq!(smooth.judge(), None);
        }
        assert_eq!(smooth.rates().bytes, 25.0, "no whole period yet");
        smooth.add(bytes(70.0), 20);
        assert_eq!(smooth.judge(), Some(bytes(40.0)));
        assert_eq!(smooth.judge(), None);
        assert_eq!(smooth.rates().bytes, 40.0);
        for _ in 0..1000 {
            smooth.add(bytes(1.0), 3);
            assert!(smooth.window.len() <= MAX_REPORTS && smooth.periods.len() <= PERIODS);
        }
        assert_eq!(smooth.rates().bytes, 1.0);
    }
}
