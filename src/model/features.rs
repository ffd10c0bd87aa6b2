//! Cluster version and the features it allows.
//!
//! The cluster version is the lowest version of the stores that are not Tombstone (PD raises it, never lowers it by itself).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A semantic version without build data, as stores report it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClusterVersion(pub semver::Version);

impl Default for ClusterVersion {
    fn default() -> Self {
        Self(semver::Version::new(0, 0, 0))
    }
}

impl FromStr for ClusterVersion {
    type Err = semver::Error;

    /// Accepts a leading `v`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        semver::Version::parse(text.strip_prefix('v').unwrap_or(text)).map(Self)
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ClusterVersion {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClusterVersion {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a cluster can do from some version on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Several membership changes at once.
    JointConsensus,
    /// `AskBatchSplit`.
    BatchSplit,
    /// Hibernated regions are woken through a store heartbeat.
    RegionMerge,
    /// Peers that keep only the log.
    Witness,
}

impl Feature {
    /// The version that brings it.
    fn since(self) -> semver::Version {
        match self {
            Feature::JointConsensus => semver::Version::new(5, 0, 0),
            Feature::BatchSplit => semver::Version::new(2, 1, 0),
            Feature::RegionMerge => semver::Version::new(2, 0, 0),
            Feature::Witness => semver::Version::new(6, 6, 0),
        }
    }
}

impl ClusterVersion {
    /// Whether every store knows `feature`. Pre-release tags do not count against a version.
    pub fn supports(&self, feature: Feature) -> bool {
        let since = feature.since();
        (self.0.major, self.0.minor, self.0.patch) >= (since.major, since.minor, since.patch)
    }
}
