//! `berth demo` as a person runs it: the whole program, its output through a pipe, its exit code, Ctrl-C.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub mod nodes;
    pub mod process;
}

use std::{process::Command, time::Duration};

use common::{
    nodes::eventually,
    process::{BERTH, Home, Process},
};
use rustix::process::Signal;

/// How long the demo may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts a small demo; its scratch folder lies within the home.
fn start(home: &Home, more: &[&str]) -> Process {
    let mut command = Command::new(BERTH);
    command.args(["demo", "--stores=4", "--regions=200"]).args(more).env("TMPDIR", home.path());
    home.spawn_as(command)
}

/// Where `text` stands, at or after `from`.
fn find(printed: &str, from: usize, text: &str) -> usize {
    let at = printed[from..].find(text).unwrap_or_else(|| panic!("{text:?} does not follow in:\n{printed}"));
    from + at
}

/// Whether the folder of the server's files is gone.
fn is_clean(home: &Home) -> bool {
    std::fs::read_dir(home.path()).unwrap().all(|e| e.unwrap().file_name() == "printed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_holds_a_part_of_the_drain_and_what_the_answer_names_lets_it_go() {
    let home = Home::new();
    let status = start(&home, &[]).ended(PATIENCE).await;
    let printed = home.printed();
    println!("{printed}");
    assert_eq!(status.code(), Some(0));
    let story = [
        "berth demo: 4 stores, 200 regions, 3 replicas each\n",
        "  region label rule \"demo-import\": schedule=deny",
        "  audit: DELETE of the store was asked for\n",
        "  store 4 is Offline, ",
        "  the rest waits. GET /berth/v1/drains/4?format=text says:\n",
        "\n    left: ",
        "  denied (demo-import), oldest ",
        "why: region label rule \"demo-import\" says schedule=deny\n",
        "do:  remove the rule when what it protects is over: DELETE /pd/api/v1/config/region-label/rule/demo-import;",
        "\n  as it says: DELETE /pd/api/v1/config/region-label/rule/demo-import\n",
        "  100 % moved, 0 regions left\n",
        "  store 4 is Tombstone\n",
        "\nstore 4 is Tombstone: ",
        " of them had to wait for the rule",
        "\ncheck passed: ",
        ", 0 safety violations\n",
    ];
    story.iter().fold(0, |from, text| find(&printed, from, text) + text.len());
    // All that is left waits, and it is that many that the end names.
    let word = |after: &str| {
        let at = find(&printed, 0, after) + after.len();
        printed[at..].split_whitespace().next().unwrap().to_owned()
    };
    let left = word("\n    left: ");
    assert!(printed.contains(&format!("{left}  denied (demo-import)")), "{printed}");
    assert_eq!(word("after the DELETE;"), left);
    assert!(!printed.contains('\u{1b}') && !printed.contains('\r'), "no terminal codes in a pipe");
    assert!(is_clean(&home), "the scratch folder is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_it_in_order_wherever_it_is() {
    for moment in ["berth demo: ", "audit: DELETE", "the rest waits."] {
        let home = Home::new();
        let process = start(&home, &[]);
        let shows = || async { home.printed().contains(moment).then_some(()) };
        eventually(moment, PATIENCE, shows).await;
        process.signal(Signal::INT);
        let status = process.ended(PATIENCE).await;
        let printed = home.printed();
        assert_eq!(status.code(), Some(130), "{printed}");
        assert!(printed.ends_with("Interrupted; server and fleet have ended in order.\n"), "{printed}");
        assert!(!printed.contains("as it says") && !printed.contains("is Tombstone"), "{printed}");
        assert!(is_clean(&home), "the scratch folder is removed");
    }
}
