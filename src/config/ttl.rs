//! Values of the schedule section that are set for a time (`POST /config?ttlSecond=N`).
//!
//! Owns: [`TtlItems`], which items may be set so, and what is in force at a time. Must not know: how they are agreed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    gojson,
    schedule::ScheduleConfig,
    section::Section,
    update::{ConfigError, plain_map},
};
use crate::model::Wall;

/// Answer when values were set.
pub const UPDATED: &str = "The ttl config is updated.";
/// Answer when values were taken back.
pub const DELETED: &str = "The ttl config is deleted.";

/// What may be set for a time.
const SUPPORTED: [&str; 13] = [
    "schedule.max-snapshot-count",
    "schedule.max-merge-region-size",
    "schedule.max-pending-peer-count",
    "schedule.max-merge-region-keys",
    "schedule.leader-schedule-limit",
    "schedule.region-schedule-limit",
    "schedule.replica-schedule-limit",
    "schedule.merge-schedule-limit",
    "schedule.hot-region-schedule-limit",
    "schedule.split-scatter-schedule-limit",
    "schedule.scheduler-max-waiting-operator",
    "schedule.enable-location-replacement",
    "schedule.enable-tikv-split-region",
];

/// A value and when it ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Item {
    /// The value as text; nobody checks it when it is set.
    text: String,
    /// From here on it is gone.
    until: Wall,
}

/// Values that are set for a time. At most one for each item that PD supports.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TtlItems(BTreeMap<String, Item>);

impl TtlItems {
    /// `POST /config?ttlSecond=N`: the next items, and the answer.
    pub fn post(&self, body: &[u8], ttl_second: &str, now: Wall) -> Result<(TtlItems, &'static str), ConfigError> {
        let seconds: i64 = ttl_second.parse().map_err(|_| {
            ConfigError::BadRequest(format!("strconv.Atoi: parsing {}: invalid syntax", gojson::quote(ttl_second)))
        })?;
        let (_, map) = plain_map(body)?;
        if let Some(key) = map.keys().find(|key| !SUPPORTED.contains(&key.as_str())) {
            return Err(ConfigError::BadRequest(format!("unsupported ttl config {key}")));
        }
        let mut next = self.clone();
        next.0.retain(|_, item| item.until > now);
        let until = Wall(now.0.saturating_add(seconds.saturating_mul(1_000_000_000)));
        for (key, value) in map {
            if seconds <= 0 {
                next.0.remove(&key);
            } else {
                let text = match value {
                    Value::String(text) => text,
                    Value::Number(n) => gojson::number(&n),
                    other => other.to_string(),
                };
                next.0.insert(key, Item { text, until });
            }
        }
        Ok((next, if seconds == 0 { DELETED } else { UPDATED }))
    }

    /// Whether `key` (with its section) is set now.
    pub fn is_alive(&self, key: &str, now: Wall) -> bool {
        self.0.get(key).is_some_and(|item| item.until > now)
    }

    /// All of them, ended ones too: item, value as text, end.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Wall)> {
        self.0.iter().map(|(key, item)| (key.as_str(), item.text.as_str(), item.until))
    }

    /// When the next value ends.
    pub fn next_end(&self, now: Wall) -> Option<Wall> {
        self.0.values().map(|item| item.until).filter(|until| *until > now).min()
    }

    /// What is in force now. A text that does not fit its item is passed over, as PD does.
    pub fn effective(&self, config: &ScheduleConfig, now: Wall) -> ScheduleConfig {
        let mut out = config.clone();
        for (key, item) in self.0.iter().filter(|(_, item)| item.until > now) {
            let key = key.strip_prefix("schedule.").unwrap_or(key);
            let value = match item.text.parse::<u64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(item.text.as_str()),
            };
            // The only failure is a text of the wrong type, and that one does not count.
            let _ = out.read_key(key, &value, "");
        }
        out
    }
}

impl FromIterator<(String, String, Wall)> for TtlItems {
    /// From items as they are agreed: item, value as text, end.
    fn from_iter<I: IntoIterator<Item = (String, String, Wall)>>(items: I) -> Self {
        Self(items.into_iter().map(|(key, text, until)| (key, Item { text, until })).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn at(seconds: i64) -> Wall {
        Wall(seconds * 1_000_000_000)
    }

    #[test]
    fn values_count_until_their_end() {
        let body = br#"{"schedule.max-snapshot-count":10,"schedule.enable-location-replacement":"false"}"#;
        let (items, answer) = TtlItems::default().post(body, "30", at(100)).unwrap();
        assert_eq!(answer, UPDATED);
        let config = ScheduleConfig::default();
        let during = items.effective(&config, at(129));
        assert_eq!((during.max_snapshot_count, during.enable_location_replacement), (10, false));
        assert_eq!(items.effective(&config, at(130)), config);
        assert!(items.is_alive("schedule.max-snapshot-count", at(129)));
        assert!(!items.is_alive("schedule.max-snapshot-count", at(130)));
        assert_eq!((items.next_end(at(100)), items.next_end(at(130))), (Some(at(130)), None));
    }

    #[test]
    fn zero_takes_a_value_back_and_nonsense_does_not_count() {
        let config = ScheduleConfig::default();
        let (items, _) = TtlItems::default().post(br#"{"schedule.max-snapshot-count":"abc"}"#, "30", at(0)).unwrap();
        assert_eq!(items.effective(&config, at(1)), config);
        assert!(items.is_alive("schedule.max-snapshot-count", at(1)));
        let (items, answer) = items.post(br#"{"schedule.max-snapshot-count":0}"#, "0", at(1)).unwrap();
        assert_eq!((items, answer), (TtlItems::default(), DELETED));
    }

    #[test]
    fn items_survive_being_kept() {
        let (items, _) = TtlItems::default().post(br#"{"schedule.merge-schedule-limit":1}"#, "60", at(7)).unwrap();
        let text = serde_json::to_string(&items).unwrap();
        assert_eq!(serde_json::from_str::<TtlItems>(&text).unwrap(), items);
    }
}
