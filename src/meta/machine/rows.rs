//! All rows of a [`State`] in the order of their keys, from any of them on: how a state is copied in parts.
//!
//! Owns: that order. Must not know: what rows mean, where they go.

use std::{ops::Bound, sync::Arc};

use super::{Row, RowKey, State};

impl RowKey {
    /// How many kinds of rows there are.
    const KINDS: u8 = 23;

    /// The place of its kind in the order of keys.
    fn kind(&self) -> u8 {
        match self {
            RowKey::Cluster => 0,
            RowKey::ClusterVersion => 1,
            RowKey::Member(_) => 2,
            RowKey::Store(_) => 3,
            RowKey::Limits(_) => 4,
            RowKey::Drain(_) => 5,
            RowKey::DeadStore(_) => 6,
            RowKey::Config => 7,
            RowKey::TtlConfig(_) => 8,
            RowKey::Rule(..) => 9,
            RowKey::RuleGroup(_) => 10,
            RowKey::LabelRule(_) => 11,
            RowKey::Keyspace(_) => 12,
            RowKey::IdEnd => 13,
            RowKey::TsoUpper => 14,
            RowKey::Gc => 15,
            RowKey::Barrier(_) => 16,
            RowKey::GlobalConfig(_) => 17,
            RowKey::GlobalRevision => 18,
            RowKey::MinResolvedTs => 19,
            RowKey::MaxPeerCount => 20,
            RowKey::Scheduler(_) => 21,
            RowKey::Record(_) => 22,
        }
    }
}

/// Keys of the rows that there is one of.
const SINGLE: [RowKey; 9] = [
    RowKey::Cluster,
    RowKey::ClusterVersion,
    RowKey::Config,
    RowKey::IdEnd,
    RowKey::TsoUpper,
    RowKey::Gc,
    RowKey::GlobalRevision,
    RowKey::MinResolvedTs,
    RowKey::MaxPeerCount,
];

impl State {
    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        let single = SINGLE.iter().filter(|key| self.row(key).is_some()).count();
        let many = self.members.len()
            + self.stores.len()
            + self.limits.len()
            + self.drains.len()
            + self.dead_stores.len()
            + self.ttl_config.len()
            + self.rules.len()
            + self.rule_groups.len()
            + self.label_rules.len()
            + self.keyspaces.len()
            + self.barriers.len()
            + self.global_config.len()
            + self.schedulers.len()
            + self.records.len();
        (single + many) as u64
    }

    /// All rows in the order of their keys, from this key on.
    pub fn rows_from<'a>(&'a self, from: Option<&'a RowKey>) -> impl Iterator<Item = Row> + 'a {
        (0..RowKey::KINDS).filter(move |kind| from.is_none_or(|f| f.kind() <= *kind)).flat_map(move |kind| match SINGLE
            .iter()
            .find(|key| key.kind() == kind)
        {
            Some(key) => Box::new(self.row(key).into_iter()) as Box<dyn Iterator<Item = Row>>,
            None => self.rows_of(kind, from.filter(|f| f.kind() == kind)),
        })
    }

    /// The rows of a kind that has many, from this key on.
    fn rows_of<'a>(&'a self, kind: u8, from: Option<&'a RowKey>) -> Box<dyn Iterator<Item = Row> + 'a> {
        macro_rules! ordered {
            ($map:expr, $kind:ident, $row:expr) => {{
                let low = match from {
                    Some(RowKey::$kind(key)) => Bound::Included(key.clone()),
                    _ => Bound::Unbounded,
                };
                Box::new($map.range((low, Bound::Unbounded)).map($row))
            }};
        }
        macro_rules! persistent {
            ($map:expr, $kind:ident) => {
                match from {
                    Some(RowKey::$kind(key)) => Box::new($map.from(key).map(|(k, v)| Row::$kind(k.clone(), v.clone()))),
                    _ => Box::new($map.iter().map(|(k, v)| Row::$kind(k.clone(), v.clone()))),
                }
            };
        }
        match kind {
            2 => ordered!(self.members, Member, |(_, m)| Row::Member(m.clone())),
            3 => ordered!(self.stores, Store, |(_, s)| Row::Store(s.clone())),
            4 => ordered!(self.limits, Limits, |(id, l)| Row::Limits(*id, *l)),
            5 => ordered!(self.drains, Drain, |(_, d)| Row::Drain(d.clone())),
            6 => {
                let low = match from {
                    Some(RowKey::DeadStore(id)) => Bound::Included(*id),
                    _ => Bound::Unbounded,
                };
                Box::new(self.dead_stores.range((low, Bound::Unbounded)).map(|id| Row::DeadStore(*id)))
            }
            8 => ordered!(self.ttl_config, TtlConfig, |(name, i)| Row::TtlConfig(name.clone(), i.clone())),
            9 => {
                let row =
                    |(key, json): (&(String, String), &Arc<str>)| Row::Rule(key.0.clone(), key.1.clone(), json.clone());
                match from {
                    Some(RowKey::Rule(group, id)) => Box::new(self.rules.from(&(group.clone(), id.clone())).map(row)),
                    _ => Box::new(self.rules.iter().map(row)),
                }
            }
            10 => persistent!(self.rule_groups, RuleGroup),
            11 => persistent!(self.label_rules, LabelRule),
            12 => persistent!(self.keyspaces, Keyspace),
            16 => ordered!(self.barriers, Barrier, |(_, b)| Row::Barrier(b.clone())),
            17 => ordered!(self.global_config, GlobalConfig, |(_, i)| Row::GlobalConfig(i.clone())),
            21 => persistent!(self.schedulers, Scheduler),
            22 => persistent!(self.records, Record),
            _ => Box::new(std::iter::empty()),
        }
    }
}
