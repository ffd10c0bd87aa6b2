//! What observers are told ([`Change`]) when commands have been applied.
//!
//! Owns: the mapping from row changes to what they mean outside. Must not know: who listens.

use std::{collections::BTreeMap, sync::Arc};

use super::{Action, Cluster, Drain, GcPoints, GlobalConfigItem, Member, Row, RowKey, State, TtlItem};
use crate::model::{ClusterVersion, MemberId, Mono, StoreId, StoreLimits, StoreRecord};

/// Something that is different now. Observers get changes in the order of the log, before the proposer gets its answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// The cluster was bootstrapped (its store, rules and limits follow as changes of their own).
    Bootstrapped(Arc<Cluster>),
    /// A store is new or different.
    StorePut(Arc<StoreRecord>),
    /// The record of a Tombstone store was removed.
    StoreRemoved(StoreId),
    /// A store's limits are different; `None`: it has none any more.
    LimitsChanged {
        /// The store.
        id: StoreId,
        /// Its limits.
        limits: Option<StoreLimits>,
    },
    /// A drain began, or remembers something else.
    DrainPut(Arc<Drain>),
    /// A drain ended: taken back or done.
    DrainEnded(StoreId),
    /// The dynamic configuration is different.
    ConfigChanged(Arc<str>),
    /// An item that holds for a time was set, or (`None`) ended by hand.
    TtlConfigChanged {
        /// Item.
        key: String,
        /// Value and end.
        item: Option<Arc<TtlItem>>,
    },
    /// The cluster version is different.
    ClusterVersion(ClusterVersion),
    /// Placement rules or groups are different: all that one command changed.
    RulesChanged(Arc<RuleRows>),
    /// Region label rules are different: the rows that one command changed.
    LabelRulesChanged(Arc<LabelRows>),
    /// Keyspaces are different.
    KeyspacesChanged,
    /// What is kept for schedulers is different.
    SchedulersChanged,
    /// An item of the global configuration was written, or (`item` is `None`) deleted.
    GlobalConfig {
        /// Whole key.
        key: String,
        /// It.
        item: Option<Arc<GlobalConfigItem>>,
        /// Revision of the change.
        revision: u64,
    },
    /// A GC point moved.
    GcMoved(GcPoints),
    /// Timestamps may go up to here (Unix milliseconds, not included).
    TsoWindow(i64),
    /// Ids up to this one are taken.
    IdsTaken(u64),
    /// A member is new or different.
    MemberPut(Arc<Member>),
    /// A member is no longer in the group.
    MemberRemoved(MemberId),
    /// Who leads, in which term, or whether this member serves is different. Told on every member, also on those that follow; a leader
    /// is told of twice: when it is known, and on itself once more when it has applied everything before its term.
    LeaderChanged {
        /// The leader; `None`: nobody.
        leader: Option<MemberId>,
        /// Whether it is this member, and may serve.
        is_self: bool,
        /// Its term.
        term: u64,
        /// Since when.
        since: Mono,
    },
    /// The disk failed: nothing is acknowledged any more and the process should end.
    Failed(Arc<str>),
}

/// Placement rules and groups that changed, with their texts now; `None`: deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuleRows {
    /// By group and id.
    pub rules: BTreeMap<(String, String), Option<Arc<str>>>,
    /// By id.
    pub groups: BTreeMap<String, Option<Arc<str>>>,
}

/// Label rules that changed, with their texts now; `None`: deleted.
pub type LabelRows = BTreeMap<String, Option<Arc<str>>>;

/// What `actions` (already written to `state`) mean outside, in their order; rules last, all of a command in one.
pub(super) fn changes(state: &State, actions: &[Action]) -> Vec<Change> {
    let mut out: Vec<Change> = Vec::new();
    let (mut rules, mut labels) = (RuleRows::default(), LabelRows::new());
    for action in actions {
        if collect(action, &mut rules, &mut labels) {
            continue;
        }
        let change = match action {
            Action::Put(row) => of_put(state, row),
            Action::Delete(key) => of_delete(state, key),
        };
        // These are told once.
        let is_once = |c: &Change| matches!(c, Change::KeyspacesChanged | Change::SchedulersChanged);
        if let Some(change) = change.filter(|c| !is_once(c) || !out.contains(c)) {
            out.push(change);
        }
    }
    if rules != RuleRows::default() {
        out.push(Change::RulesChanged(Arc::new(rules)));
    }
    if !labels.is_empty() {
        out.push(Change::LabelRulesChanged(Arc::new(labels)));
    }
    out
}

/// What is different outside when `new` takes the place of `old` in one go.
pub(super) fn difference(old: &State, new: &State) -> Vec<Change> {
    let (mut was, mut is) = (old.rows_from(None).peekable(), new.rows_from(None).peekable());
    let mut actions = vec![];
    loop {
        match (was.peek().map(Row::key), is.peek().map(Row::key)) {
            (None, None) => return changes(new, &actions),
            (Some(a), b) if b.as_ref().is_none_or(|b| a < *b) => {
                was.next();
                actions.push(Action::Delete(a));
            }
            (a, b) => {
                let before = if a == b { was.next() } else { None };
                actions.extend(is.next().filter(|row| before.as_ref() != Some(row)).map(Action::Put));
            }
        }
    }
}

/// Notes a change of a rule; false when it is none.
fn collect(action: &Action, rules: &mut RuleRows, labels: &mut LabelRows) -> bool {
    match action {
        Action::Put(Row::Rule(group, id, json)) => {
            rules.rules.insert((group.clone(), id.clone()), Some(json.clone()));
        }
        Action::Put(Row::RuleGroup(id, json)) => _ = rules.groups.insert(id.clone(), Some(json.clone())),
        Action::Put(Row::LabelRule(id, json)) => _ = labels.insert(id.clone(), Some(json.clone())),
        Action::Delete(RowKey::Rule(group, id)) => _ = rules.rules.insert((group.clone(), id.clone()), None),
        Action::Delete(RowKey::RuleGroup(id)) => _ = rules.groups.insert(id.clone(), None),
        Action::Delete(RowKey::LabelRule(id)) => _ = labels.insert(id.clone(), None),
        _ => return false,
    }
    true
}

fn of_put(state: &State, row: &Row) -> Option<Change> {
    Some(match row {
        Row::Cluster(cluster) => cluster.bootstrapped.map(|_| Change::Bootstrapped(cluster.clone()))?,
        Row::ClusterVersion(version) => Change::ClusterVersion(version.clone()),
        Row::Member(member) => Change::MemberPut(member.clone()),
        Row::Store(record) => Change::StorePut(record.clone()),
        Row::Limits(id, limits) => Change::LimitsChanged { id: *id, limits: Some(*limits) },
        Row::Drain(drain) => Change::DrainPut(drain.clone()),
        Row::Config(json) => Change::ConfigChanged(json.clone()),
        Row::TtlConfig(key, item) => Change::TtlConfigChanged { key: key.clone(), item: Some(item.clone()) },
        Row::Keyspace(..) => Change::KeyspacesChanged,
        Row::Scheduler(..) => Change::SchedulersChanged,
        Row::GlobalConfig(item) => {
            Change::GlobalConfig { key: item.key.clone(), item: Some(item.clone()), revision: state.global_revision }
        }
        Row::Gc(points) => Change::GcMoved(*points),
        Row::TsoUpper(upper) => Change::TsoWindow(*upper),
        Row::IdEnd(end) => Change::IdsTaken(*end),
        // Rules are collected before.
        Row::Rule(..)
        | Row::RuleGroup(..)
        | Row::LabelRule(..)
        | Row::Record(..)
        | Row::DeadStore(_)
        | Row::Barrier(_)
        | Row::GlobalRevision(_)
        | Row::MinResolvedTs(_)
        | Row::MaxPeerCount(_) => return None,
    })
}

fn of_delete(state: &State, key: &RowKey) -> Option<Change> {
    Some(match key {
        RowKey::Store(id) => Change::StoreRemoved(*id),
        RowKey::Member(id) => Change::MemberRemoved(*id),
        RowKey::Limits(id) => Change::LimitsChanged { id: *id, limits: None },
        RowKey::Drain(id) => Change::DrainEnded(*id),
        RowKey::TtlConfig(key) => Change::TtlConfigChanged { key: key.clone(), item: None },
        RowKey::Keyspace(_) => Change::KeyspacesChanged,
        RowKey::Scheduler(_) => Change::SchedulersChanged,
        RowKey::GlobalConfig(key) => {
            Change::GlobalConfig { key: key.clone(), item: None, revision: state.global_revision }
        }
        RowKey::Rule(..)
        | RowKey::RuleGroup(_)
        | RowKey::LabelRule(_)
        | RowKey::Cluster
        | RowKey::ClusterVersion
        | RowKey::Record(_)
        | RowKey::DeadStore(_)
        | RowKey::Config
        | RowKey::IdEnd
        | RowKey::TsoUpper
        | RowKey::Gc
        | RowKey::Barrier(_)
        | RowKey::GlobalRevision
        | RowKey::MinResolvedTs
        | RowKey::MaxPeerCount => return None,
    })
}
