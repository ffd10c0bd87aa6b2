//! Configurations of the schedulers that even leaders and peers out, or gather leaders and take them off.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ConfigError,
    ranges::{Ranges, everything, hex_ranges},
};
use crate::model::{KeyRange, StoreId};

/// Operators a round of balance-leader (PD's number).
const LEADER_BATCH: usize = 4;
/// Operators a round of the evicting schedulers (PD's number).
pub(super) const EVICT_BATCH: usize = 3;

/// `balance-leader`, `balance-region`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Balance {
    /// Where it works.
    #[serde(with = "hex_ranges")]
    pub ranges: Vec<KeyRange>,
    /// Operators a round.
    pub batch: usize,
}

impl Default for Balance {
    fn default() -> Self {
        Self { ranges: everything(), batch: LEADER_BATCH }
    }
}

/// `evict-leader`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Evict {
    /// Which stores, and which of their regions.
    #[serde(rename = "store-id-ranges")]
    pub stores: BTreeMap<StoreId, Ranges>,
    /// Operators a round.
    pub batch: usize,
}

impl Default for Evict {
    fn default() -> Self {
        Self { stores: BTreeMap::new(), batch: EVICT_BATCH }
    }
}

/// `grant-leader`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Grant {
    /// Which stores, and which of their regions.
    #[serde(rename = "store-id-ranges")]
    pub stores: BTreeMap<StoreId, Ranges>,
}

impl Evict {
    pub(super) fn update(&self, input: &Map<String, Value>) -> Result<Self, ConfigError> {
        let batch = match input.get("batch") {
            None => self.batch,
            Some(value) => value
                .as_u64()
                .or_else(|| whole(value.as_f64()?))
                .and_then(|batch| usize::try_from(batch).ok())
                .ok_or(ConfigError::EvictBatch)?,
        };
        Ok(Self { stores: with_store(&self.stores, input)?, batch })
    }
}

/// A number without a fraction.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // looked at first
pub(super) fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
}

/// `stores` with the one that `store_id` names, and its `ranges` (start and end by turns) when they are given.
pub(super) fn with_store(
    stores: &BTreeMap<StoreId, Ranges>,
    input: &Map<String, Value>,
) -> Result<BTreeMap<StoreId, Ranges>, ConfigError> {
    let mut next = stores.clone();
    let ranges = match input.get("ranges") {
        Some(Value::Array(keys)) => {
            let keys: Option<Vec<&str>> = keys.iter().map(Value::as_str).collect();
            let keys = keys.filter(|k| k.len() % 2 == 0).ok_or(ConfigError::Wrong("ranges".to_owned()))?;
            let pair = |pair: &[&str]| KeyRange::new(pair[0].as_bytes(), pair[1].as_bytes());
            Some(Ranges(keys.chunks(2).map(pair).collect()))
        }
        _ => None,
    };
    match (input.get("store_id").and_then(Value::as_f64).and_then(whole), ranges) {
        (Some(id), Some(ranges)) => drop(next.insert(StoreId(id), ranges)),
        (Some(id), None) => drop(next.entry(StoreId(id)).or_default()),
        (None, Some(_)) => return Err(ConfigError::Wrong("id".to_owned())),
        (None, None) => {}
    }
    Ok(next)
}
