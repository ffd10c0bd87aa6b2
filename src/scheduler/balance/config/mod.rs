//! What each scheduler can be told: its own configuration, in PD's JSON.
//!
//! Owns: the fields, defaults, bounds and texts of each. Must not know: where it is kept, HTTP.

mod hot;
mod leaders;
mod ranges;
mod shuffle;
mod slow;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::leaders::with_store;
pub(super) use self::shuffle::ROLES;
pub(super) use self::{
    hot::{GrantHot, Hot, ShuffleHot},
    leaders::{Balance, Evict, Grant},
    ranges::Ranges,
    shuffle::{RejectLabel, ScatterRange, ShuffleLeader, ShuffleRegion},
    slow::{SlowStore, StoppingStore},
};
use super::Kind;
use crate::model::StoreId;

/// The largest batch of balance-leader and evict-leader.
const MAX_BATCH: usize = 100;
/// The largest batch of the schedulers that evict by themselves.
const MAX_OWN_BATCH: usize = 10;
/// Stores and ranges that one configuration may name.
const MAX_ITEMS: usize = 10_000;

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
    /// See [`ShuffleHot`].
    ShuffleHotRegion(ShuffleHot),
    /// See [`GrantHot`].
    GrantHotRegion(GrantHot),
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
    /// `limit` of shuffle-hot-region.
    #[error("invalid limit")]
    Limit,
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
            Kind::ShuffleHotRegion => match (args, kept) {
                ([limit], None) => {
                    let limit = limit.parse().map_err(|_| ConfigError::Limit)?;
                    Self::ShuffleHotRegion(ShuffleHot { limit })
                }
                _ => Self::ShuffleHotRegion(own(kept)?),
            },
            Kind::GrantHotRegion => match (args, kept) {
                ([leader, stores], None) => Self::GrantHotRegion(GrantHot::read(leader, stores)?),
                _ => Self::GrantHotRegion(own(kept)?),
            },
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
            Self::ShuffleHotRegion(c) => serde_json::to_value(c),
            Self::GrantHotRegion(c) => serde_json::to_value(c),
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
            Self::ShuffleHotRegion(_) => Self::ShuffleHotRegion(ShuffleHot::update(input)?),
            Self::GrantHotRegion(_) => Self::GrantHotRegion(GrantHot::update(input)?),
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
        next.map_err(|error| self.batch_error().filter(|_| input.contains_key("batch")).unwrap_or(error))
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
            Self::ShuffleHotRegion(_) => Kind::ShuffleHotRegion,
            Self::GrantHotRegion(_) => Kind::GrantHotRegion,
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
