//! Explanations as text, for a person who has been woken up: what, since when, why, what to do, in this order and in short lines.
//!
//! Owns: the words around what reports say of themselves. Must not know: how reports are made.

use std::{fmt::Write as _, time::Duration};

use super::{
    drain::DrainReport,
    preview::Preview,
    region::{RegionReport, Said},
    remedy::remedy,
    why::{Group, store_list},
};
use crate::{
    model::{Mono, Now},
    scheduler::{
        controller::journal::{DrainHistory, Past},
        filter::Candidate,
        life::Unburied,
        operator::Operator,
    },
};

/// `2h 5m`, `5m 20s`, `20.3s`.
pub fn span(d: Duration) -> String {
    let seconds = d.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", d.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Bytes in the unit that fits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// What keeps a store without regions from being buried.
pub fn unburied(what: &Unburied) -> String {
    match what {
        Unburied::Regions { left, such_as } => format!("{left} regions are still on it, such as {such_as}"),
        Unburied::NotPrepared => "too little is known since this leader started".to_owned(),
        Unburied::Unheard(left) => format!(
            "it is down, and nobody has reported some keys, whose regions may have peers on it; the index decides in {} s",
            left.as_secs()
        ),
        Unburied::Awaits(region) => format!("the operator of region {region} is still to bring a peer to it"),
        Unburied::NoReport => "it is empty; waiting for its next report to say so too".to_owned(),
        Unburied::Reports(count, left) => format!(
            "no region is known on it, but its last report counts {count}; the index decides in {}",
            span(*left)
        ),
    }
}

/// What else is known of what holds a group, as one line: what is agreed of label rules is not known here.
pub type Notes<'a> = &'a dyn Fn(&Group) -> Option<String>;

fn groups(out: &mut String, groups: &[Group], now: Mono, notes: Notes<'_>) {
    for group in groups {
        let title = if group.detail.is_empty() {
            group.why.name().to_owned()
        } else {
            format!("{} ({})", group.why.name(), group.detail)
        };
        let samples: Vec<String> = group.samples.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "  {:>7}  {title}, oldest {}", group.regions, span(now.since(group.oldest)));
        let _ = writeln!(out, "           why: {}", group.says());
        if let Some(note) = notes(group) {
            let _ = writeln!(out, "           {note}");
        }
        let _ = writeln!(out, "           do:  {}", remedy(group));
        if !samples.is_empty() {
            let _ = writeln!(out, "           such as region {}", samples.join(", "));
        }
    }
}

/// A draining store. `asked`: who asked for it and when, as one phrase.
pub fn drain(report: &DrainReport, asked: Option<&str>, notes: Notes<'_>) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "store {} ({}) is {}", report.store, report.address, report.state.name());
    if let Some(asked) = asked {
        let _ = writeln!(out, "asked for by {asked}");
    }
    let _ = writeln!(out, "left: {} regions, {}", report.regions_left, size(report.bytes_left));
    if let Some(progress) = &report.progress {
        let left = report.seconds_left().and_then(|left| Duration::try_from_secs_f64(left).ok());
        let left = left.map_or_else(|| "no end in sight".to_owned(), |left| format!("about {} left", span(left)));
        let (done, speed) = (progress.progress * 100.0, progress.current_speed);
        let _ = writeln!(out, "progress: {done:.1} %, {speed:.1} MiB/s, {left}");
    }
    let _ = writeln!(out, "limited by: {}", report.binding.says());
    if let Some(what) = report.unburied.as_ref().filter(|_| report.regions_left == 0) {
        let _ = writeln!(out, "not Tombstone yet: {}", unburied(what));
    }
    groups(&mut out, &report.groups, report.at.mono, notes);
    out
}

/// A drain before it is asked for.
pub fn preview(preview: &Preview, now: Mono, notes: Notes<'_>) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "store {}: {} regions, {}", preview.store, preview.regions, size(preview.bytes));
    match &preview.allowed {
        Ok(()) => _ = writeln!(out, "a DELETE would be accepted"),
        Err(error) => _ = writeln!(out, "a DELETE would be refused: {error}"),
    }
    let what = if preview.holds.is_empty() { "it" } else { "what can be moved" };
    match preview.takes {
        Some(takes) => _ = writeln!(out, "{what} would take about {}", span(takes)),
        None => _ = writeln!(out, "{what} would never end under the limits as they are"),
    }
    if let Some(after) = preview.tombstone_after {
        let _ = writeln!(out, "Tombstone after {} at the latest", span(after));
    }
    let _ = writeln!(out, "limited by: {}", preview.limit.says());
    let (takes, measured) = preview.move_takes;
    let how = if measured { "measured" } else { "assumed" };
    let _ = writeln!(out, "one move takes {} ({how})", span(takes));
    if !preview.holds.is_empty() {
        let _ = writeln!(out, "would be held:");
        groups(&mut out, &preview.holds, now, notes);
    }
    out
}

/// One region.
pub fn region(report: &RegionReport, now: Now, notes: Notes<'_>) -> String {
    let mut out = String::new();
    let stores: Vec<_> = report.region.peers().iter().map(|p| p.store).collect();
    let _ = write!(out, "region {} on {}", report.region.id(), store_list(&stores));
    let _ = match report.region.leader_store() {
        Some(store) => writeln!(out, ", led by store {store}"),
        None => writeln!(out, ", without leader"),
    };
    if let Some(past) = &report.running {
        let _ = writeln!(
            out,
            "operator {} runs: {}, step {} of {}",
            past.op.id,
            past.op.desc,
            past.op.current + 1,
            past.op.steps.len()
        );
    }
    match &report.said {
        Said::Healthy => _ = writeln!(out, "nothing is wrong with it"),
        Said::WouldRun(ops) => {
            for (desc, steps) in ops {
                let _ = writeln!(out, "would run now: {desc}: {}", steps.join("; "));
            }
        }
        Said::Blocked(_) => {
            if let Some(group) = report.refusal() {
                let _ = writeln!(out, "refused: {} ({})", group.says(), group.why.name());
                if let Some(note) = notes(&group) {
                    let _ = writeln!(out, "         {note}");
                }
                let _ = writeln!(out, "do:      {}", remedy(&group));
                let _ = writeln!(out, "ended by: {}", group.why.wakes().join(", "));
            }
        }
    }
    if let Some(waits) = &report.waits {
        let how = if waits.asleep { "sleeps until an event" } else { "stands in line" };
        let _ = writeln!(out, "it {how}, for {}", span(now.mono.since(waits.since)));
    }
    if report.as_if_free && !report.choices.is_empty() {
        let _ = writeln!(out, "if nothing held it, stores would be judged so:");
    }
    for (choice, candidates) in &report.choices {
        for candidate in candidates {
            let _ = writeln!(out, "  {}", candidate_line(candidate, choice.chosen == Some(candidate.store)));
        }
    }
    out
}

fn candidate_line(candidate: &Candidate, chosen: bool) -> String {
    let refused: Vec<&str> = candidate.refused.iter().map(|refusal| refusal.name()).collect();
    let verdict = match (chosen, refused.is_empty()) {
        (true, _) => "chosen".to_owned(),
        (false, true) => "could take it".to_owned(),
        (false, false) => format!("refused by {}", refused.join(", ")),
    };
    format!("store {:<6} score {:<12.3} apart {:<8} {verdict}", candidate.store, candidate.score, candidate.apart)
}

/// One operator from its cause to its result.
pub fn operator(past: &Past) -> String {
    let (op, journal) = (&past.op, &past.journal);
    let mut out = String::new();
    let _ =
        writeln!(out, "operator {} of region {}: {} ({}), {}", op.id, op.region, op.desc, op.kind, op.status.word());
    let cause = &journal.cause;
    let from: Vec<String> = cause.from.iter().map(|(s, state)| format!("store {s} is {}", state.name())).collect();
    let caller = if cause.caller.is_empty() { String::new() } else { format!(" of {}", cause.caller) };
    let _ = write!(out, "made by {} {}{caller}", cause.maker.name(), cause.name);
    let _ = if from.is_empty() { writeln!(out) } else { writeln!(out, ", since {}", from.join(", ")) };
    if !cause.rules.is_empty() {
        let _ = writeln!(out, "rules: {}", cause.rules.join(", "));
    }
    if let Some(choice) = &journal.choice {
        let scores: Vec<String> = choice.scores.iter().map(|(s, score)| format!("store {s} ({score:.3})")).collect();
        if let Some(chosen) = choice.chosen {
            let _ = writeln!(out, "chosen: store {chosen}");
        }
        if !scores.is_empty() {
            let _ = writeln!(out, "could take the peer or the leader, best first: {}", scores.join(", "));
        }
        for (region, said) in &choice.neighbours {
            let _ = writeln!(out, "neighbour {region}: {said}");
        }
        for (filter, stores) in &choice.refused {
            let _ = writeln!(out, "refused by {filter}: {}", store_list(stores));
        }
    }
    for (key, value) in told(op) {
        let _ = writeln!(out, "{key}: {value}");
    }
    for (at, step) in op.steps.iter().enumerate() {
        let log = journal.steps.get(at).cloned().unwrap_or_default();
        let began = op.started.map_or(Mono::default(), |n| n.mono);
        let after = |when: Option<Now>| when.map_or_else(|| "-".to_owned(), |n| span(n.mono.since(began)));
        let _ = writeln!(
            out,
            "  {}. {step}: sent {} times (first {}), answered {}, done {}",
            at + 1,
            log.sends,
            after(log.first_sent),
            after(log.answered),
            after(log.done),
        );
    }
    if let (Some(started), Some(ended)) = (op.started, op.ended) {
        let reason = op.info.get(crate::model::names::info::CANCEL_REASON).filter(|text| !text.is_empty());
        let why = reason.map(|text| format!(": {text}")).unwrap_or_default();
        let _ = writeln!(out, "ended after {}{why}", span(ended.mono.since(started.mono)));
    }
    out
}

/// What the operator tells of itself beside its steps (`sourceScore`, `targetScore`, `group` …), without the reason of its end.
pub fn told(op: &Operator) -> impl Iterator<Item = (String, String)> + '_ {
    let all = op.info.iter().filter(|(key, _)| *key != crate::model::names::info::CANCEL_REASON);
    all.map(|(key, value)| (key.clone(), value.clone()))
}

/// Several operators.
pub fn operators(all: &[Past]) -> String {
    if all.is_empty() {
        return "no operator\n".to_owned();
    }
    all.iter().map(operator).collect::<Vec<_>>().join("\n")
}

/// The operators of a drain.
pub fn drain_history(running: &[Past], history: &DrainHistory) -> String {
    let mut out = format!("{} run, {} ended and are kept whole\n", running.len(), history.kept);
    for (desc, result, count) in &history.older {
        let _ = writeln!(out, "before those: {count} x {desc} {result}");
    }
    for past in running.iter().chain(&history.whole) {
        out.push('\n');
        out.push_str(&operator(past));
    }
    out
}
