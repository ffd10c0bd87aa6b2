//! Picks the telling lines of the server's log: a drain writes some twenty lines a region, and nobody reads them all.
//!
//! Owns: which lines are shown, and how they are shortened. Knows PD's log format only as far as it must: the message in the first
//! bracket with quotes, fields as `[name=value]`.

use std::collections::BTreeSet;

/// Operators whose making and end are shown.
const OPERATORS: usize = 3;
/// Longest line, characters: more does not fit on a screen.
const MAX_LINE: usize = 150;
/// Kinds of steps remembered; there are fewer.
const MAX_STEP_KINDS: usize = 16;

/// Chooses lines. Every line of the log goes through [`Sampler::take`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sampler {
    made: usize,
    finished: usize,
    steps: BTreeSet<String>,
    tenths: u64,
}

impl Sampler {
    /// The line in short when it is worth showing.
    pub fn take(&mut self, line: &str) -> Option<String> {
        let message = message(line)?;
        let region = field(line, "region-id").unwrap_or_default();
        let text = match message {
            "audit log" if line.contains("DeleteStore") || line.contains("/DELETE:/pd/api/v1/store/") => {
                "audit: DELETE of the store was asked for".to_owned()
            }
            "store has been offline" => {
                format!(
                    "store {} is Offline, {} regions to move",
                    field(line, "store-id")?,
                    field(line, "region-count")?
                )
            }
            "store limit changed" => format!(
                "store {}: limit {} is now {} a minute",
                field(line, "store-id")?,
                field(line, "type")?,
                field(line, "rate-per-min")?
            ),
            "add operator" if self.made < OPERATORS => {
                self.made += 1;
                format!("region {region}: {}", operator(line))
            }
            "send schedule command" => {
                let step = field(line, "step")?;
                let kind: String = step.chars().take_while(|c| !c.is_ascii_digit()).collect();
                if self.steps.len() >= MAX_STEP_KINDS || !self.steps.insert(kind) {
                    return None;
                }
                format!("region {region}: {step}")
            }
            "operator finish" if self.finished < OPERATORS => {
                self.finished += 1;
                format!("region {region}: done after {}", field(line, "takes")?)
            }
            "operator timeout" => format!("region {region}: timed out: {}", operator(line)),
            "store has been Tombstone" => format!("store {} is Tombstone", field(line, "store-id")?),
            _ => return None,
        };
        Some(shorten(&text))
    }

    /// A line at each tenth of the way.
    pub fn progress(&mut self, total: u64, left: u64) -> Option<String> {
        let done = total.saturating_sub(left);
        let tenths = (done * 10).checked_div(total)?;
        if tenths <= self.tenths {
            return None;
        }
        self.tenths = tenths;
        Some(format!("{} % moved, {left} regions left", tenths * 10))
    }
}

/// The message of a log line: the third bracket or later, the first one that is quoted or has no `=`.
fn message(line: &str) -> Option<&str> {
    // [time] [LEVEL] [file:line] [message] [field=value] ...
    let rest = line.splitn(4, "] [").nth(3)?;
    if let Some(quoted) = rest.strip_prefix('"') {
        return quoted.split_once('"').map(|(message, _)| message);
    }
    rest.split_once(']').map(|(message, _)| message)
}

/// The value of a field, without quotes.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" [{name}="))?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once("\"]").map(|(value, _)| value),
        None => rest.split_once(']').map(|(value, _)| value),
    }
}

/// The name and brief of the operator in a line: what stands before `(kind:`.
fn operator(line: &str) -> &str {
    let text = field(line, "operator").unwrap_or_default().trim_start_matches("\\\"");
    text.split_once(" (kind:").map_or(text, |(head, _)| head)
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_LINE {
        return text.to_owned();
    }
    let head: String = text.chars().take(MAX_LINE - 1).collect();
    format!("{head}…")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_story_of_a_recorded_scale_in_is_told_in_few_lines() {
        let shared = std::env::var_os("BERTH_SHARED")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
        let Ok(log) = std::fs::read_to_string(shared.join("compat/scale-in-story.log")) else {
            println!("skipped: the recorded log is not there");
            return;
        };
        let mut sampler = Sampler::default();
        let told: Vec<String> = log.lines().filter_map(|l| sampler.take(l)).collect();
        let has = |text: &str| assert!(told.iter().any(|l| l.contains(text)), "{text} is not in {told:#?}");
        has("audit: DELETE of the store was asked for");
        has("store 2 is Offline, 1001 regions to move");
        has("store 2: limit remove-peer is now 100000000 a minute");
        has("region 3082: replace-rule-offline-peer {mv peer: store [2] to [6]}");
        has("region 3082: add learner peer 9008 on store 6");
        has("region 3110: transfer leader from store 2 to store 3");
        has("region 3082: remove peer on store 2");
        has("region 3082: done after 899.481292ms");
        has("store 2 is Tombstone");
        assert!(told.len() <= 30, "{told:#?}");
    }

    #[test]
    fn each_tenth_is_told_once() {
        let mut sampler = Sampler::default();
        let told: Vec<_> =
            [100, 95, 90, 89, 50, 50, 0].iter().filter_map(|left| sampler.progress(100, *left)).collect();
        assert_eq!(told, ["10 % moved, 90 regions left", "50 % moved, 50 regions left", "100 % moved, 0 regions left"]);
        assert_eq!(sampler.progress(0, 0), None);
    }

    #[test]
    fn other_lines_and_broken_ones_are_passed_over() {
        let mut sampler = Sampler::default();
        for line in ["", "[a] [b]", "[t] [INFO] [f:1] [\"put store ok\"] [store=x]", "[t] [INFO] [f:1] [\"add operator"]
        {
            assert_eq!(sampler.take(line), None, "{line}");
        }
        assert_eq!(shorten(&"x".repeat(500)).chars().count(), MAX_LINE);
    }
}
