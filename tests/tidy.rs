//! Rules about the source tree that no compiler checks: layering, purity of the deciding code, module comments, file sizes.

// What tests may and the crate may not: panic, print, read the clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Module and what it may use of the crate. `proto`, `model`, `config` and `telemetry` stand below or beside everything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("telemetry", &["model", "config"]),
    ("store", &["model"]),
    ("scheduler", &["store", "model", "config"]),
    ("meta", &["model"]),
    ("sim", &["model", "proto", "telemetry"]),
    ("tls", &["config"]),
    ("ctl", &["model", "config", "telemetry", "tls"]),
    ("api", &["scheduler", "store", "meta", "model", "proto", "config", "telemetry"]),
    ("world", &["api", "scheduler", "store", "meta", "sim", "server", "model", "proto", "config", "telemetry"]),
];

/// Modules that decide or keep state as pure code: no runtime, no network, no clocks, no thread-local randomness.
const PURE: &[&str] = &["src/model", "src/store", "src/scheduler", "src/meta/machine", "src/world"];
const IMPURE_WORDS: &[&str] =
    &["tokio::", "tonic::", "axum::", "prometheus::", "SystemTime::now", "Instant::now", "thread_rng", "rand::rng()"];

/// Hard bound on a file's lines of code and tests.
const MAX_LINES: usize = 1000;

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<_> = fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                out.push((path, text));
            }
        }
    }
    let mut out = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    walk(&root.join(dir), &mut out);
    for (path, _) in &mut out {
        *path = path.strip_prefix(root).expect("inside the package").to_owned();
    }
    assert!(!out.is_empty(), "{dir} holds no source file");
    out
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|s| s == "tests") || path.components().any(|c| c.as_os_str() == "tests")
}

/// The code before the file's test module.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn dependencies_point_one_way() {
    let all: Vec<&str> = MAY_USE.iter().map(|(m, _)| *m).chain(["proto", "server"]).collect();
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_USE {
        for (path, text) in
            sources(&format!("src/{module}")).iter().filter(|(p, _)| *module != "proto" && !is_test_file(p))
        {
            for other in all.iter().filter(|o| *o != module && !allowed.contains(o)) {
                let used = code(text).lines().any(|l| {
                    let l = l.split("//").next().unwrap_or(l);
                    l.contains(&format!("crate::{other}::")) || names_in_use_list(l, other)
                });
                if used {
                    wrong.push(format!("{}: {module} must not use {other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a line of a grouped `use crate::{…}` names the module.
fn names_in_use_list(line: &str, module: &str) -> bool {
    line.contains("use crate::{")
        && line.split(['{', ',', '}']).any(|part| {
            let part = part.trim();
            part == module || part.starts_with(&format!("{module}::"))
        })
}

#[test]
fn deciding_code_is_pure() {
    let mut wrong = Vec::new();
    for (path, text) in PURE.iter().flat_map(|dir| sources(dir)).filter(|(p, _)| !is_test_file(p)) {
        for word in IMPURE_WORDS.iter().filter(|w| code(&text).contains(**w)) {
            wrong.push(format!("{}: {word}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_owns_and_stays_small() {
    let architecture =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("a map");
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !text.starts_with("//! ") && !is_test_file(&path) {
            wrong.push(format!("{}: no module comment", path.display()));
        }
        if text.lines().count() > MAX_LINES {
            wrong.push(format!("{}: {} lines", path.display(), text.lines().count()));
        }
        if let Some(folder) = path.parent().filter(|p| *p != Path::new("src")) {
            let name = folder.components().nth(1).expect("below src").as_os_str().to_string_lossy().into_owned();
            if !architecture.contains(&format!("{name}/")) {
                wrong.push(format!("ARCHITECTURE.md does not name {name}/"));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
