//! Configurations of the schedulers for labels, for one key range, and of those that move things about by chance.

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::model::KeyRange;

/// `label`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RejectLabel {
    /// Where it works.
    pub ranges: Ranges,
}

/// `shuffle-leader`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ShuffleLeader {
    /// Where it works.
    pub ranges: Ranges,
}

/// `shuffle-region`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ShuffleRegion {
    /// Where it works.
    pub ranges: Ranges,
    /// Peers in which roles: `leader`, `follower`, `learner`.
    pub roles: Vec<String>,
}

/// The roles that shuffle-region knows.
pub(in super::super) const ROLES: [&str; 3] = ["leader", "follower", "learner"];

impl Default for ShuffleRegion {
    fn default() -> Self {
        Self { ranges: Ranges::default(), roles: ROLES.map(str::to_owned).to_vec() }
    }
}

/// `scatter-range`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ScatterRange {
    /// Its name.
    pub range_name: String,
    /// First key.
    pub start_key: String,
    /// First key after it.
    pub end_key: String,
}

impl ScatterRange {
    /// The range.
    pub fn range(&self) -> KeyRange {
        KeyRange::new(self.start_key.as_bytes(), self.end_key.as_bytes())
    }
}
