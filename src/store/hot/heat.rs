//! How hot one peer is: it warms up and cools down by whole periods.

use super::{
    rates::{Rates, Traffic},
    smooth::Smooth,
};
use crate::model::{Mono, Wall};

/// One peer's heat in one way.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Heat {
    pub(super) smooth: Smooth,
    /// Hot periods so far, less the cold ones.
    pub(super) degree: i64,
    /// Cold periods that it still stands.
    pub(super) anti: u64,
    /// Its store's last report did not tell of it.
    pub(super) silent: bool,
    pub(super) is_leader: bool,
    /// A peer that takes this one's place may go on with what is known (not before the first whole period).
    pub(super) heritable: bool,
    pub(super) heard: Mono,
    pub(super) at: Wall,
}

impl Heat {
    /// A peer that is hot by its first report.
    pub(super) fn first(traffic: Traffic, rates: Rates, seconds: u64) -> Self {
        let mut smooth = Smooth::new(traffic.period());
        smooth.add(rates, seconds);
        let whole = smooth.judge().is_some();
        Self {
            smooth,
            degree: i64::from(whole),
            anti: if whole { most(traffic) } else { 0 },
            silent: false,
            is_leader: false,
            heritable: whole,
            heard: Mono::default(),
            at: Wall::default(),
        }
    }

    /// Takes a report in; false when the peer is cold from now on. `None`: its store told nothing of it.
    pub(super) fn add(&mut self, traffic: Traffic, rates: Option<Rates>, seconds: u64, bound: Rates) -> bool {
        self.silent = rates.is_none();
        self.smooth.add(rates.unwrap_or_default(), seconds);
        let Some(mean) = self.smooth.judge() else { return true };
        self.heritable = true;
        if rates.is_some() && mean.reaches(bound) {
            self.degree += 1;
            self.anti = (self.anti + 1).min(most(traffic));
            return true;
        }
        self.degree -= 1;
        self.anti = self.anti.saturating_sub(1);
        self.anti > 0
    }

    /// Whether it stands as many cold periods as any: one that cools is hot no more for whoever asks.
    pub(super) fn is_settled(&self, traffic: Traffic) -> bool {
        !self.silent && self.anti == most(traffic)
    }
}

/// Cold periods that a hot peer stands: two minutes of them (PD's numbers).
pub(super) fn most(traffic: Traffic) -> u64 {
    120 / traffic.period()
}
