//! What each scheduler can be told: its own configuration, in PD's JSON.
//!
//! Owns: the fields, defaults, bounds and texts of each. Must not know: where it is kept, HTTP.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::Kind;
use crate::{
    model::{KeyRange, StoreId, StoreLabel},
    store::hot::Rates,
};

/// Operators a round of balance-leader (PD's number).
const LEADER_BATCH: usize = 4;
/// Operators a round of the evicting schedulers (PD's number).
const EVICT_BATCH: usize = 3;
/// The largest batch of balance-leader and evict-leader.
const MAX_BATCH: usize = 100;
/// The largest batch of the schedulers that evict by themselves.
const MAX_OWN_BATCH: usize = 10;
/// Seconds for which a slow store must have recovered (PD's number).
const RECOVERY_SECONDS: u64 = 600;
/// Stores and ranges that one configuration may name.
const MAX_ITEMS: usize = 10_000;

/// Key ranges in PD's form: upper-case hex, the end first.
mod hex_ranges {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::model::{Key, KeyRange};

    #[derive(Serialize, Deserialize, Default)]
    #[serde(rename_all = "kebab-case", default)]
    struct Hex {
        end_key: String,
        start_key: String,
    }

    pub(super) fn serialize<S: Serializer>(ranges: &[KeyRange], to: S) -> Result<S::Ok, S::Error> {
        let hex = |range: &KeyRange| Hex { end_key: range.end.hex(), start_key: range.start.hex() };
        ranges.iter().map(hex).collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<KeyRange>, D::Error> {
        let key = |text: &str| hex::decode(text).map(Key::from).map_err(D::Error::custom);
        let range = |hex: Hex| Ok(KeyRange { start: key(&hex.start_key)?, end: key(&hex.end_key)? });
        Vec::<Hex>::deserialize(from)?.into_iter().map(range).collect()
    }
}

/// The whole key space.
fn everything() -> Vec<KeyRange> {
    vec![KeyRange::default()]
}

/// Ranges of one store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(#[serde(with = "hex_ranges")] pub Vec<KeyRange>);

impl Default for Ranges {
    fn default() -> Self {
        Self(everything())
    }
}

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

/// `label`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RejectLabel {
    /// Where it works.
    pub ranges: Ranges,
    /// The labels of stores that shall not lead (label property `reject-leader`): part of the cluster's configuration.
    #[serde(skip)]
    pub reject: Vec<StoreLabel>,
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
pub(super) const ROLES: [&str; 3] = ["leader", "follower", "learner"];

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

/// `evict-slow-store`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SlowStore {
    /// Seconds for which a slow store must have recovered before leaders come back.
    pub recovery_duration: u64,
    /// Operators a round.
    pub batch: usize,
}

impl Default for SlowStore {
    fn default() -> Self {
        Self { recovery_duration: RECOVERY_SECONDS, batch: EVICT_BATCH }
    }
}

/// `evict-stopping-store`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct StoppingStore {
    /// Operators a round.
    pub batch: usize,
}

impl Default for StoppingStore {
    fn default() -> Self {
        Self { batch: EVICT_BATCH }
    }
}

/// `balance-hot-region`. All that PD knows is kept and shown; what Berth's way of balancing reads is `min-hot-*-rate`,
/// `max-peer-number`, `src-tolerance-ratio`, `great-dec-ratio` and the first of each list of priorities.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Hot {
    /// Bytes a second from which a region is worth a move.
    pub min_hot_byte_rate: f64,
    /// The same for keys.
    pub min_hot_key_rate: f64,
    /// The same for queries.
    pub min_hot_query_rate: f64,
    /// The same for CPU.
    pub min_hot_cpu_rate: f64,
    /// Kept.
    pub max_zombie_rounds: u64,
    /// Kept.
    pub pending_weight: f64,
    /// Regions that are looked at, the hottest first.
    pub max_peer_number: usize,
    /// Kept.
    pub byte_rate_rank_step_ratio: f64,
    /// Kept.
    pub key_rate_rank_step_ratio: f64,
    /// Kept.
    pub query_rate_rank_step_ratio: f64,
    /// Kept.
    pub cpu_rate_rank_step_ratio: f64,
    /// Kept.
    pub count_rank_step_ratio: f64,
    /// What the busier store may bear after a move, as a share of what it bore before.
    pub great_dec_ratio: f64,
    /// Kept.
    pub minor_dec_ratio: f64,
    /// How far above the mean a store must be to give.
    pub src_tolerance_ratio: f64,
    /// Kept.
    pub dst_tolerance_ratio: f64,
    /// By what leaders' writes are measured.
    pub write_leader_priorities: Vec<String>,
    /// By what peers' writes are measured.
    pub write_peer_priorities: Vec<String>,
    /// By what reads are measured.
    pub read_priorities: Vec<String>,
    /// Kept.
    pub strict_picking_store: String,
    /// Kept.
    pub enable_for_tiflash: String,
    /// Kept.
    pub rank_formula_version: String,
    /// Kept.
    pub split_thresholds: f64,
    /// Kept.
    pub history_sample_duration: String,
    /// Kept.
    pub history_sample_interval: String,
}

impl Default for Hot {
    fn default() -> Self {
        let list = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        Self {
            min_hot_byte_rate: 100.0,
            min_hot_key_rate: 10.0,
            min_hot_query_rate: 10.0,
            min_hot_cpu_rate: 10.0,
            max_zombie_rounds: 3,
            pending_weight: 1.0,
            max_peer_number: 1000,
            byte_rate_rank_step_ratio: 0.05,
            key_rate_rank_step_ratio: 0.05,
            query_rate_rank_step_ratio: 0.05,
            cpu_rate_rank_step_ratio: 0.05,
            count_rank_step_ratio: 0.01,
            great_dec_ratio: 0.95,
            minor_dec_ratio: 0.99,
            src_tolerance_ratio: 1.05,
            dst_tolerance_ratio: 1.05,
            write_leader_priorities: list(["key", "byte"]),
            write_peer_priorities: list(["byte", "key"]),
            read_priorities: list(["byte", "key"]),
            strict_picking_store: "true".to_owned(),
            enable_for_tiflash: "true".to_owned(),
            rank_formula_version: "v2".to_owned(),
            split_thresholds: 0.2,
            history_sample_duration: "5m0s".to_owned(),
            history_sample_interval: "30s".to_owned(),
        }
    }
}

impl Hot {
    /// From where on a region is worth a move.
    pub(super) fn lowest(&self) -> Rates {
        Rates {
            bytes: self.min_hot_byte_rate,
            keys: self.min_hot_key_rate,
            query: self.min_hot_query_rate,
            cpu: self.min_hot_cpu_rate,
        }
    }

    /// Whether all numbers are such that balancing ends.
    fn is_sound(&self) -> bool {
        let names = [&self.write_leader_priorities, &self.write_peer_priorities, &self.read_priorities];
        let known = |name: &String| DIMENSIONS.contains(&name.as_str());
        (0.0..1.0).contains(&self.great_dec_ratio)
            && self.src_tolerance_ratio >= 1.0
            && self.dst_tolerance_ratio >= 1.0
            && names.iter().all(|list| !list.is_empty() && list.len() <= DIMENSIONS.len() && list.iter().all(known))
    }
}

/// What traffic is measured by.
const DIMENSIONS: [&str; 4] = ["byte", "key", "query", "cpu"];

/// The configuration of one scheduler.
#[derive(Clone, PartialEq, Debug)]
pub enum Config {
    /// See [`Balance`].
    BalanceLeader(Balance),
    /// See [`Balance`].
    BalanceRegion(Balance),
    /// See [`Hot`].
    HotRegion(Box<Hot>),
    /// See [`Evict`].
    EvictLeader(Evict),
    /// See [`Grant`].
    GrantLeader(Grant),
    /// See [`RejectLabel`].
    Label(RejectLabel),
    /// See [`ShuffleLeader`].
    ShuffleLeader(ShuffleLeader),
    /// See [`ShuffleRegion`].
    ShuffleRegion(ShuffleRegion),
    /// See [`ScatterRange`].
    ScatterRange(ScatterRange),
    /// See [`SlowStore`].
    EvictSlowStore(SlowStore),
    /// See [`StoppingStore`].
    EvictStoppingStore(StoppingStore),
}

/// Why a configuration is refused; PD's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// `batch` of balance-leader.
    #[error("invalid batch size which should be an integer between 1 and 100")]
    LeaderBatch,
    /// `batch` of evict-leader.
    #[error("batch must be an integer in [1, 100]")]
    EvictBatch,
    /// `batch` of evict-slow-store and evict-stopping-store.
    #[error("batch is invalid, it should be in [1, 10]")]
    OwnBatch,
    /// No field of the scheduler is named.
    #[error("Config item is not found.")]
    NoItem,
    /// A field does not read.
    #[error("[PD:scheduler:ErrSchedulerConfig]wrong scheduler config {0}")]
    Wrong(String),
}

/// What a change of configuration comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum Updated {
    /// It is another one now.
    To(Config),
    /// It was so before.
    Same,
}

impl Config {
    /// The configuration of a new scheduler, or the one that was kept.
    ///
    /// # Errors
    /// When what was kept cannot be read, or `args` are too few.
    pub fn read(kind: Kind, args: &[String], kept: Option<&str>) -> Result<Self, ConfigError> {
        fn own<T: DeserializeOwned + Default>(kept: Option<&str>) -> Result<T, ConfigError> {
            let wrong = |e: serde_json::Error| ConfigError::Wrong(e.to_string());
            kept.map_or_else(|| Ok(T::default()), |text| serde_json::from_str(text).map_err(wrong))
        }
        Ok(match kind {
            Kind::BalanceLeader => Self::BalanceLeader(own(kept)?),
            Kind::BalanceRegion => Self::BalanceRegion(own(kept)?),
            Kind::HotRegion => Self::HotRegion(Box::new(own(kept)?)),
            Kind::EvictLeader => Self::EvictLeader(own(kept)?),
            Kind::GrantLeader => Self::GrantLeader(own(kept)?),
            Kind::Label => Self::Label(own(kept)?),
            Kind::ShuffleLeader => Self::ShuffleLeader(own(kept)?),
            Kind::ShuffleRegion => Self::ShuffleRegion(own(kept)?),
            Kind::EvictSlowStore => Self::EvictSlowStore(own(kept)?),
            Kind::EvictStoppingStore => Self::EvictStoppingStore(own(kept)?),
            Kind::ScatterRange => {
                let [start, end, name] = args else {
                    return Err(ConfigError::Wrong("range name".to_owned()));
                };
                Self::ScatterRange(ScatterRange {
                    range_name: name.clone(),
                    start_key: start.clone(),
                    end_key: end.clone(),
                })
            }
        })
    }

    /// PD's JSON: what is shown, and what is kept.
    pub fn show(&self) -> Value {
        let shown = match self {
            Self::BalanceLeader(c) | Self::BalanceRegion(c) => serde_json::to_value(c),
            Self::HotRegion(c) => serde_json::to_value(c),
            Self::EvictLeader(c) => serde_json::to_value(c),
            Self::GrantLeader(c) => serde_json::to_value(c),
            Self::Label(c) => serde_json::to_value(c),
            Self::ShuffleLeader(c) => serde_json::to_value(c),
            Self::ShuffleRegion(c) => serde_json::to_value(c),
            Self::ScatterRange(c) => serde_json::to_value(c),
            Self::EvictSlowStore(c) => serde_json::to_value(c),
            Self::EvictStoppingStore(c) => serde_json::to_value(c),
        };
        // Texts, numbers and maps with numbers as keys: nothing that JSON cannot write.
        shown.unwrap_or(Value::Null)
    }

    /// The same with the fields of `input` changed.
    ///
    /// # Errors
    /// In PD's words; nothing is changed then.
    pub fn update(&self, input: &Map<String, Value>) -> Result<Updated, ConfigError> {
        let next = match self {
            Self::EvictLeader(c) => Self::EvictLeader(c.update(input)?),
            Self::GrantLeader(c) => Self::GrantLeader(Grant { stores: with_store(&c.stores, input)? }),
            Self::ScatterRange(_) => return Err(ConfigError::NoItem),
            _ => self.merged(input)?,
        };
        next.check()?;
        Ok(if next == *self { Updated::Same } else { Updated::To(next) })
    }

    /// The fields of `input` over the present ones; an unknown field is refused only when nothing is known.
    fn merged(&self, input: &Map<String, Value>) -> Result<Self, ConfigError> {
        let Value::Object(mut fields) = self.show() else { return Err(ConfigError::NoItem) };
        let known: Vec<_> = input.iter().filter(|(key, _)| fields.contains_key(*key)).collect();
        if known.is_empty() {
            return Err(ConfigError::NoItem);
        }
        for (key, value) in known {
            fields.insert(key.clone(), value.clone());
        }
        let text = Value::Object(fields).to_string();
        let next = Self::read(self.kind(), &[], Some(&text));
        next.map_err(|error| self.batch_error().filter(|_| input.contains_key("batch")).unwrap_or(error)).map(|next| {
            match (self, next) {
                (Self::Label(old), Self::Label(new)) => Self::Label(RejectLabel { reject: old.reject.clone(), ..new }),
                (_, next) => next,
            }
        })
    }

    /// What a batch out of bounds is answered.
    fn batch_error(&self) -> Option<ConfigError> {
        match self {
            Self::BalanceLeader(_) => Some(ConfigError::LeaderBatch),
            Self::EvictLeader(_) => Some(ConfigError::EvictBatch),
            Self::EvictSlowStore(_) | Self::EvictStoppingStore(_) => Some(ConfigError::OwnBatch),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: &str| Err(ConfigError::Wrong(what.to_owned()));
        let (batch, most) = match self {
            Self::BalanceLeader(c) => (c.batch, MAX_BATCH),
            Self::EvictLeader(c) => (c.batch, MAX_BATCH),
            Self::EvictSlowStore(SlowStore { batch, .. }) | Self::EvictStoppingStore(StoppingStore { batch }) => {
                (*batch, MAX_OWN_BATCH)
            }
            _ => (1, 1),
        };
        if !(1..=most).contains(&batch) {
            return Err(self.batch_error().unwrap_or(ConfigError::NoItem));
        }
        match self {
            Self::BalanceLeader(c) | Self::BalanceRegion(c) if c.ranges.len() > MAX_ITEMS => wrong("ranges"),
            Self::EvictLeader(Evict { stores, .. }) | Self::GrantLeader(Grant { stores })
                if stores.len() > MAX_ITEMS || stores.values().any(|r| r.0.len() > MAX_ITEMS) =>
            {
                wrong("stores")
            }
            Self::HotRegion(c) if !c.is_sound() => wrong("hot"),
            Self::ShuffleRegion(c) if c.roles.iter().any(|role| !ROLES.contains(&role.as_str())) => wrong("roles"),
            _ => Ok(()),
        }
    }

    /// Which kind of scheduler it belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Self::BalanceLeader(_) => Kind::BalanceLeader,
            Self::BalanceRegion(_) => Kind::BalanceRegion,
            Self::HotRegion(_) => Kind::HotRegion,
            Self::EvictLeader(_) => Kind::EvictLeader,
            Self::GrantLeader(_) => Kind::GrantLeader,
            Self::Label(_) => Kind::Label,
            Self::ShuffleLeader(_) => Kind::ShuffleLeader,
            Self::ShuffleRegion(_) => Kind::ShuffleRegion,
            Self::ScatterRange(_) => Kind::ScatterRange,
            Self::EvictSlowStore(_) => Kind::EvictSlowStore,
            Self::EvictStoppingStore(_) => Kind::EvictStoppingStore,
        }
    }

    /// The stores that evict-leader and grant-leader are about.
    pub fn stores(&self) -> Option<&BTreeMap<StoreId, Ranges>> {
        match self {
            Self::EvictLeader(c) => Some(&c.stores),
            Self::GrantLeader(c) => Some(&c.stores),
            _ => None,
        }
    }

    /// The same without one of its stores; `None` when it is not about that store.
    pub fn without_store(&self, store: StoreId) -> Option<Self> {
        let mut next = self.clone();
        let stores = match &mut next {
            Self::EvictLeader(c) => &mut c.stores,
            Self::GrantLeader(c) => &mut c.stores,
            _ => return None,
        };
        stores.remove(&store).map(|_| next)
    }
}

impl Evict {
    fn update(&self, input: &Map<String, Value>) -> Result<Self, ConfigError> {
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
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
}

/// `stores` with the one that `store_id` names, and its `ranges` (start and end by turns) when they are given.
fn with_store(
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    fn fresh(kind: Kind) -> Config {
        Config::read(kind, &[], None).unwrap()
    }

    fn update(config: &Config, input: Value) -> Result<Updated, ConfigError> {
        let Value::Object(input) = input else { panic!("an object") };
        config.update(&input)
    }

    #[test]
    fn configurations_read_as_pd_shows_them() {
        let all = json!([{"end-key": "", "start-key": ""}]);
        assert_eq!(fresh(Kind::BalanceLeader).show().to_string(), json!({"ranges": all, "batch": 4}).to_string());
        let Updated::To(evict) = update(&fresh(Kind::EvictLeader), json!({"store_id": 3})).unwrap() else {
            panic!("a store more")
        };
        assert_eq!(evict.show(), json!({"store-id-ranges": {"3": all}, "batch": 3}));
        assert_eq!(Config::read(Kind::EvictLeader, &[], Some(&evict.show().to_string())).unwrap(), evict);
        let range = ["a", "b", "t1"].map(str::to_owned);
        assert_eq!(
            Config::read(Kind::ScatterRange, &range, None).unwrap().show(),
            json!({"range-name": "t1", "start-key": "a", "end-key": "b"})
        );
        assert!(Config::read(Kind::ScatterRange, &range[..2], None).is_err());
        assert!(Config::read(Kind::BalanceLeader, &[], Some("[")).is_err());
    }

    #[test]
    fn changes_are_refused_in_pds_words() {
        let leader = fresh(Kind::BalanceLeader);
        assert!(
            matches!(update(&leader, json!({"batch": 6})), Ok(Updated::To(Config::BalanceLeader(c))) if c.batch == 6)
        );
        assert_eq!(update(&leader, json!({"batch": 4})), Ok(Updated::Same));
        assert_eq!(update(&leader, json!({"foo": 1})), Err(ConfigError::NoItem));
        for bad in [json!({"batch": 101}), json!({"batch": 0}), json!({"batch": "6"}), json!({"batch": -1})] {
            assert_eq!(update(&leader, bad), Err(ConfigError::LeaderBatch));
        }
        let evict = fresh(Kind::EvictLeader);
        for bad in [json!({"batch": 101}), json!({"batch": 1.5}), json!({"batch": "x"})] {
            assert_eq!(update(&evict, bad), Err(ConfigError::EvictBatch));
        }
        assert!(matches!(update(&evict, json!({"ranges": ["a", "b"]})), Err(ConfigError::Wrong(_))));
        assert_eq!(update(&fresh(Kind::EvictStoppingStore), json!({"batch": 11})), Err(ConfigError::OwnBatch));
        assert!(matches!(update(&fresh(Kind::ShuffleRegion), json!({"roles": ["king"]})), Err(ConfigError::Wrong(_))));
    }

    #[test]
    fn a_store_leaves_and_comes_with_its_ranges() {
        let evict = fresh(Kind::EvictLeader);
        let Updated::To(evict) = update(&evict, json!({"store_id": 3, "ranges": ["a", "b", "c", "d"]})).unwrap() else {
            panic!("a store more")
        };
        assert_eq!(evict.show()["store-id-ranges"]["3"][1], json!({"end-key": "64", "start-key": "63"}));
        assert_eq!(update(&evict, json!({"store_id": 3})), Ok(Updated::Same), "ranges stay");
        assert!(evict.without_store(StoreId(4)).is_none());
        assert!(evict.without_store(StoreId(3)).unwrap().stores().unwrap().is_empty());
    }
}
