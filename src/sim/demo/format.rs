//! The lines of the demo.
//!
//! Owns: words and numbers of the view, as functions of plain values. Prints nothing.

use std::{fmt::Write, time::Duration};

use super::DrainState;

/// Width of a plain progress bar, characters.
const BAR: u64 = 24;

/// One thing to look at while the demo runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// What is there.
    pub what: String,
    /// Its URL, or a command.
    pub at: String,
}

impl Place {
    /// A place.
    pub fn new(what: impl Into<String>, at: impl Into<String>) -> Self {
        Self { what: what.into(), at: at.into() }
    }
}

/// What the demo ended with.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Summary {
    /// The store that was drained.
    pub store: u64,
    /// Regions that were moved off it.
    pub moved: u64,
    /// Of these, regions that a rule held for a while.
    pub held: u64,
    /// From the DELETE to the last region.
    pub empty_after: Duration,
    /// From the DELETE to Tombstone.
    pub tombstone_after: Duration,
    /// Operators that worked on it.
    pub operators: u64,
    /// Regions of the whole cluster.
    pub regions: u64,
    /// Of these, regions with their full number of voters.
    pub whole: u64,
    /// Safety violations that the nodes saw.
    pub violations: u64,
}

impl Summary {
    /// Whether it went as it should.
    pub fn passed(&self) -> bool {
        self.whole == self.regions && self.violations == 0
    }
}

/// The first lines: what runs, and where to look.
pub fn heading(title: &str, places: &[Place]) -> String {
    let width = places.iter().map(|p| p.what.chars().count()).max().unwrap_or(0);
    let mut text = format!("{title}\n");
    for place in places {
        let _ = writeln!(text, "  {:width$}  {}", place.what, place.at);
    }
    text
}

/// The part of a progress line that says how fast it goes.
pub(super) fn pace(state: &DrainState) -> String {
    let mut text = format!("{} operators, {:.1}/s", state.operators, state.rate);
    if state.is_held() {
        let _ = write!(text, ", waits: {}", state.waits_for);
    } else if let Some(eta) = state.eta.filter(|_| state.left > 0) {
        let _ = write!(text, ", {} to go", time(eta));
    }
    text
}

/// One line that tells all, for output that is no terminal.
pub fn plain_line(state: &DrainState) -> String {
    let done = state.total.saturating_sub(state.left);
    let filled = (done * BAR).checked_div(state.total).unwrap_or(0);
    let bar: String = (0..BAR).map(|i| if i < filled { '=' } else { ' ' }).collect();
    let (store, name, total) = (state.store, &state.state, state.total);
    format!("  store {store} {name} [{bar}] {done}/{total} regions  {}", pace(state))
}

/// The last lines.
pub fn summary(s: &Summary) -> String {
    let verdict = if s.passed() { "passed" } else { "FAILED" };
    let held = if s.held > 0 { format!("; {} of them had to wait for the rule", s.held) } else { String::new() };
    format!(
        "store {} is Tombstone: {} regions moved in {} by {} operators, buried {} after the DELETE{held}\n\
         check {verdict}: {} of {} regions have all their voters, {} safety violations\n",
        s.store,
        s.moved,
        time(s.empty_after),
        s.operators,
        time(s.tombstone_after),
        s.whole,
        s.regions,
        s.violations
    )
}

/// A time for people: `0.4s`, `12.3s`, `4m05s`, `2h10m`.
pub(super) fn time(d: Duration) -> String {
    let seconds = d.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", d.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_state_progress_and_pace() {
        let mut state = DrainState {
            store: 2,
            state: "Offline".into(),
            total: 1000,
            left: 250,
            operators: 64,
            rate: 41.26,
            eta: Some(Duration::from_millis(6_060)),
            waits_for: String::new(),
        };
        let line = plain_line(&state);
        assert_eq!(
            line,
            "  store 2 Offline [==================      ] 750/1000 regions  64 operators, 41.3/s, 6.1s to go"
        );
        state.waits_for = "store limit of store 5".into();
        assert!(plain_line(&state).ends_with("41.3/s, waits: store limit of store 5"));
        assert!(plain_line(&DrainState::default()).contains("] 0/0 regions"));
    }

    #[test]
    fn the_places_stand_in_a_column() {
        let places = [Place::new("metrics", "http://a/metrics"), Place::new("log", "a.log")];
        assert_eq!(heading("Berth", &places), "Berth\n  metrics  http://a/metrics\n  log      a.log\n");
    }

    #[test]
    fn the_summary_says_whether_all_is_well() {
        let mut s = Summary {
            store: 2,
            moved: 1001,
            held: 0,
            empty_after: Duration::from_secs(12),
            tombstone_after: Duration::from_millis(12_400),
            operators: 1001,
            regions: 2000,
            whole: 2000,
            violations: 0,
        };
        let text = summary(&s);
        assert!(text.starts_with("store 2 is Tombstone: 1001 regions moved in 12.0s by 1001 operators, buried 12.4s"));
        assert!(text.contains("check passed: 2000 of 2000"));
        s.held = 50;
        assert!(summary(&s).contains(" after the DELETE; 50 of them had to wait for the rule\n"));
        s.whole = 1999;
        assert!(summary(&s).contains("check FAILED: 1999 of 2000"));
    }

    #[test]
    fn times_are_short() {
        let texts = [400, 59_900, 245_000, 7_800_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(texts, ["0.4s", "59.9s", "4m05s", "2h10m"]);
    }
}
