//! `berth sim run`, `berth sim seeds` and `berth sim replay`: scenarios from files and from seeds, and recordings.
//!
//! Owns: their flags and their reports. Must not know: what scenarios do.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use super::{
    bugs::Bug,
    checks::Checks,
    random, replay,
    run::{self, Outcome},
    world::Tally,
};

/// Lines of the trace that a failure shows.
const SHOWN_TRACE: usize = 30;

/// What to run on virtual time.
#[derive(Clone, PartialEq, Debug, clap::Subcommand)]
pub enum SimCommand {
    /// Run scenario files on virtual time (docs/scenarios.md).
    Run {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the views that the files ask for into them.
        #[arg(long)]
        rewrite: bool,
        /// Show what happened.
        #[arg(long)]
        trace: bool,
        /// Put this bug back first, to see that it is found.
        #[arg(long, value_enum)]
        bug: Option<Bug>,
    },
    /// Run random scenarios, one a seed, on virtual time.
    Seeds {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 300)]
        count: u64,
        /// Show the scenarios instead of running them.
        #[arg(long)]
        print: bool,
        /// Show what happened.
        #[arg(long)]
        trace: bool,
        /// Put this bug back first, to see that it is found.
        #[arg(long, value_enum)]
        bug: Option<Bug>,
    },
    /// Replay a recording (`berth server --record FILE`): the same inputs must start the same operators.
    Replay {
        /// The recording.
        file: PathBuf,
    },
    /// List what is checked after each step.
    Checks,
}

/// What was said, and whether all was well.
pub struct Report {
    /// For standard output.
    pub text: String,
    /// Whether all was well.
    pub passed: bool,
}

/// Runs what was asked for.
///
/// # Errors
/// A file that cannot be read or written.
pub fn run(command: &SimCommand) -> std::io::Result<Report> {
    match command {
        SimCommand::Run { files, rewrite, trace, bug } => run_files(files, *rewrite, *trace, *bug),
        SimCommand::Seeds { from, count, print, trace, bug } => {
            if *print {
                let texts = (*from..from.saturating_add(*count))
                    .map(|seed| format!("# seed {seed}\n{}", random::scenario(seed)));
                return Ok(Report { text: texts.collect(), passed: true });
            }
            Ok(seeds(*from, *count, *trace, *bug))
        }
        SimCommand::Replay { file } => {
            let recording = std::io::BufReader::new(std::fs::File::open(file)?);
            let found = replay::replay(recording).map_err(std::io::Error::other)?;
            Ok(Report { text: found.to_string(), passed: found.differences == 0 })
        }
        SimCommand::Checks => {
            let text = Checks::list().iter().map(|(name, says)| format!("{name:<24}{says}\n")).collect();
            Ok(Report { text, passed: true })
        }
    }
}

/// What many runs counted together.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sum {
    /// Runs.
    pub runs: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Counts.
    pub tally: Tally,
    /// How often each check had something to look at.
    pub checks: BTreeMap<&'static str, u64>,
    /// Expectations that held.
    pub expected: u64,
    /// Virtual seconds.
    pub seconds: u64,
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failed += u64::from(outcome.failure.is_some());
        self.tally.add(&outcome.tally);
        for (name, n) in &outcome.checks {
            *self.checks.entry(name).or_default() += n;
        }
        self.expected += outcome.expected;
        self.seconds += outcome.took.as_secs();
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let t = &self.tally;
        writeln!(
            f,
            "{} runs, {} failed, {} virtual seconds in {} steps",
            self.runs, self.failed, self.seconds, t.steps
        )?;
        writeln!(
            f,
            "  {} operators, {} commands, {} faults, {} messages lost, {} burials, {} expectations",
            t.operators, t.commands, t.faults, t.lost, t.burials, self.expected
        )?;
        for (name, n) in &self.checks {
            writeln!(f, "  {name:<24}{n}")?;
        }
        Ok(())
    }
}

/// A failure for people: what, where, how to see it again.
pub fn failure(name: &str, again: &str, outcome: &Outcome, why: &str) -> String {
    let mut text = format!(
        "{name}: {why}\n  after {} steps, {:.1} virtual seconds; again: {again}\n",
        outcome.tally.steps,
        outcome.took.as_secs_f64()
    );
    let from = outcome.trace.len().saturating_sub(SHOWN_TRACE);
    for line in outcome.trace.iter().skip(from) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn run_files(files: &[PathBuf], rewrite: bool, trace: bool, bug: Option<Bug>) -> std::io::Result<Report> {
    let (mut text, mut sum) = (String::new(), Sum::default());
    let mut unread = 0;
    for file in files {
        let name = file.display().to_string();
        let script = std::fs::read_to_string(file)?;
        let script = if rewrite { run::without_views(&script) } else { script };
        let outcome = match run::run(&script, bug) {
            Ok(outcome) => outcome,
            Err(error) => {
                unread += 1;
                let _ = writeln!(text, "{name}: {error}");
                continue;
            }
        };
        sum.add(&outcome);
        if trace {
            outcome.trace.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
        }
        if rewrite {
            std::fs::write(file, run::rewrite(&script, &outcome.shown))?;
        }
        if let Some(why) = &outcome.failure {
            text.push_str(&failure(&name, &format!("berth sim run {name}"), &outcome, why));
        }
    }
    let passed = sum.failed == 0 && unread == 0;
    Ok(Report { text: format!("{text}{sum}"), passed })
}

/// Runs the scenarios of these seeds.
pub fn seeds(from: u64, count: u64, trace: bool, bug: Option<Bug>) -> Report {
    let (mut text, mut sum) = (String::new(), Sum::default());
    for seed in from..from.saturating_add(count) {
        let name = format!("seed {seed}");
        let outcome = match run::run(&random::scenario(seed), bug) {
            Ok(outcome) => outcome,
            Err(error) => return Report { text: format!("{name}: {error}\n"), passed: false },
        };
        sum.add(&outcome);
        if trace {
            outcome.trace.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
        }
        if let Some(why) = &outcome.failure {
            text.push_str(&failure(&name, &format!("berth sim seeds --from {seed} --count 1"), &outcome, why));
        }
    }
    Report { text: format!("{text}{sum}"), passed: sum.failed == 0 }
}
