//! Where tests find the recorded facts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

/// A file of recorded facts: `../shared` beside the package, or where `BERTH_SHARED` says. `None`, with a word about it, when it
/// is not there.
pub(crate) fn shared_file(name: &str) -> Option<String> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("BERTH_SHARED").map_or_else(beside, PathBuf::from);
    let text = std::fs::read_to_string(folder.join(name)).ok();
    if text.is_none() {
        println!("skipped: {name} is not there");
    }
    text
}
