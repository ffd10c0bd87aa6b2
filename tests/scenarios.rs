//! The scenarios of `tests/scenarios/` and of the first seeds, on virtual time.
//!
//! `BERTH_REWRITE=1 cargo test --test scenarios` writes the views that scenarios show into their files.

// What tests may and the crate may not: panic, print, read the environment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, unreachable_pub)]
#[path = "common/told.rs"]
mod told;

use std::{fs, path::PathBuf};

use berth::world::{
    bugs::Bug,
    command::{Sum, failure},
    random, run,
};
use told::tell;

/// Fewer files would mean that some were lost.
const MIN_FILES: usize = 112;
/// Seeds of each run; more are run by `berth sim seeds --count 10000`.
const SEEDS: u64 = 300;

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some()).collect();
    files.sort();
    files
}

/// All counts where passing tests print, the totals where everybody sees them.
fn counted(what: &str, sum: &Sum) {
    let text = sum.to_string();
    print!("{text}");
    let totals: Vec<&str> = text.lines().take(2).map(str::trim).collect();
    tell(&format!("{what}: {}", totals.join("; ")));
}

#[test]
fn every_scenario_ends_as_it_says() {
    let rewrite = std::env::var_os("BERTH_REWRITE").is_some();
    let (mut sum, mut wrong) = (Sum::default(), String::new());
    for file in files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let script = fs::read_to_string(&file).unwrap();
        let read = if rewrite { run::without_views(&script) } else { script.clone() };
        let outcome = run::run(&read, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        sum.add(&outcome);
        if let Some(why) = &outcome.failure {
            wrong += &failure(&name, &format!("berth sim run tests/scenarios/{name}"), &outcome, why);
        } else if outcome.expected == 0 && outcome.shown.is_empty() {
            wrong += &format!("{name} expects nothing\n");
        } else if rewrite {
            fs::write(&file, run::rewrite(&read, &outcome.shown)).unwrap();
        }
    }
    counted("scenarios", &sum);
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(sum.runs as usize >= MIN_FILES, "{} files", sum.runs);
}

#[test]
fn the_first_seeds_break_nothing() {
    let (mut sum, mut wrong) = (Sum::default(), String::new());
    for seed in 1..=SEEDS {
        let outcome = run::run(&random::scenario(seed), None).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        sum.add(&outcome);
        if let Some(why) = &outcome.failure {
            wrong +=
                &failure(&format!("seed {seed}"), &format!("berth sim seeds --from {seed} --count 1"), &outcome, why);
        }
    }
    counted("seeds", &sum);
    assert!(wrong.is_empty(), "\n{wrong}");
    // A run in which nothing happens proves nothing.
    let t = &sum.tally;
    assert!(t.operators > 2_000 && t.faults > 300 && t.burials > 100 && t.lost > 300, "{sum}");
    // What operators of these names were for, and how many of them must have ended well.
    for (desc, least) in [
        ("merge-region", 100),
        ("balance-region-scheduler", 100),
        ("evict-leader-scheduler", 5),
        ("grant-leader-scheduler", 10),
        ("evict-slow-store-scheduler", 5),
        ("label-reject-leader", 5),
        ("scatter-range-", 10),
        ("scatter-region", 50),
        // Rules off; leader and follower rules; witnesses; column stores.
        ("replace-offline-replica", 100),
        ("fix-follower-role", 5),
        ("fix-witness-peer", 100),
        ("fast-replace-rule-offline-peer", 20),
        ("add-rule-peer", 100),
    ] {
        let ended: u64 =
            t.ended.iter().filter(|((d, s), _)| d.starts_with(desc) && *s == "success").map(|(_, n)| n).sum();
        println!("{ended} operators {desc} ended well");
        assert!(ended >= least, "{ended} operators {desc}");
    }
    for (name, count) in &sum.checks {
        assert!(*count > 20, "{name} had {count} things to look at");
    }
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in [3, 17, 42] {
        let script = random::scenario(seed);
        let (a, b) = (run::run(&script, None).unwrap(), run::run(&script, None).unwrap());
        assert_eq!(a.hash, b.hash, "seed {seed}");
        assert_eq!((a.tally, a.trace), (b.tally, b.trace), "seed {seed}");
    }
    let hash = |seed| run::run(&random::scenario(seed), None).unwrap().hash;
    assert_ne!(hash(3), hash(4), "the trace must depend on what happens");
}

/// Each bug is found by the check that is there for it, in one of the first seeds.
#[test]
fn bugs_put_back_are_found() {
    const TRIES: u64 = 40;
    for (bug, check) in Bug::ALL {
        let found = (1..=TRIES).find(|seed| {
            let outcome = run::run(&random::scenario(*seed), Some(bug)).unwrap();
            outcome.broken.iter().any(|b| b.check == check)
        });
        let seed = found.unwrap_or_else(|| panic!("{bug:?} was not found by {check} in {TRIES} seeds"));
        println!("{bug:?}: found by {check} in seed {seed}");
    }
}
