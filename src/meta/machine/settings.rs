//! Everything agreed that is not a store and not GC: cluster id, configuration, rules, windows, global configuration, members.
//!
//! Rules and configuration are opaque texts here; whoever proposes them has checked them. Must not know: their meaning.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Action, Cluster, ConfigChange, GlobalConfigChange, GlobalConfigItem, LabelRuleReplacement, Member, NamedRow, Plan,
    Refusal, Reply, Row, RowKey, RuleRow, State, TtlItem, bounded, room, stores,
};
use crate::model::{ClusterId, ClusterVersion, MemberId};

/// Gives the cluster its id; the same id again changes nothing (L8).
pub(super) fn init_cluster(state: &State, id: ClusterId) -> Result<Plan, Refusal> {
    match &state.cluster {
        Some(cluster) if cluster.id == id => Ok(Plan::done(vec![])),
        Some(cluster) => Err(Refusal::ClusterIdMismatch { need: cluster.id.0, got: id.0 }),
        None => Ok(Plan::done(vec![Action::Put(Row::Cluster(Arc::new(Cluster { id, ..Cluster::default() })))])),
    }
}

/// Replaces the dynamic configuration.
pub(super) fn save_config(json: &str) -> Result<Plan, Refusal> {
    Ok(Plan::done(vec![Action::Put(Row::Config(json.into()))]))
}

/// Everything that one request changes, in one go (C1).
pub(super) fn change_config(state: &State, change: &ConfigChange) -> Result<Plan, Refusal> {
    let mut actions = vec![];
    if let Some(json) = &change.config {
        actions.extend(save_config(json)?.actions);
    }
    if let Some(version) = &change.version {
        actions.extend(set_version(version)?.actions);
    }
    bounded(change.limits.len())?;
    let ConfigChange { rules, groups, delete_rules, delete_groups, .. } = change;
    actions.extend(put_rules(state, rules, groups, delete_rules, delete_groups)?.actions);
    for (id, limits) in &change.limits {
        actions.extend(stores::put_limits(state, *id, *limits)?);
    }
    Ok(Plan::done(actions))
}

/// Sets and ends items that hold for a time.
pub(super) fn save_ttl(state: &State, items: &[(String, Option<TtlItem>)]) -> Result<Plan, Refusal> {
    bounded(items.len())?;
    room(state.ttl_config.len(), items.len())?;
    let mut actions = Vec::with_capacity(items.len());
    for (key, item) in items {
        match item {
            Some(item) => actions.push(Action::Put(Row::TtlConfig(key.clone(), Arc::new(item.clone())))),
            None if state.ttl_config.contains_key(key) => actions.push(Action::Delete(RowKey::TtlConfig(key.clone()))),
            None => {}
        }
    }
    Ok(Plan::done(actions))
}

/// Sets the cluster version, also to a lower one: a person may.
pub(super) fn set_version(version: &ClusterVersion) -> Result<Plan, Refusal> {
    Ok(Plan::done(vec![Action::Put(Row::ClusterVersion(version.clone()))]))
}

/// The row of a rule.
pub(super) fn rule(row: &RuleRow) -> Action {
    Action::Put(Row::Rule(row.group.clone(), row.id.clone(), row.json.as_str().into()))
}

/// The row of a label rule.
pub(super) fn label_rule(row: &NamedRow) -> Action {
    Action::Put(Row::LabelRule(row.id.clone(), row.json.as_str().into()))
}

/// The row of a keyspace.
pub(super) fn keyspace(row: &NamedRow) -> Action {
    Action::Put(Row::Keyspace(row.id.clone(), row.json.as_str().into()))
}

/// Deletes, then writes, placement rules and groups, all in one.
pub(super) fn put_rules(
    state: &State,
    rules: &[RuleRow],
    groups: &[NamedRow],
    delete_rules: &[(String, String)],
    delete_groups: &[String],
) -> Result<Plan, Refusal> {
    bounded(rules.len() + groups.len() + delete_rules.len() + delete_groups.len())?;
    room(state.rules.len().max(state.rule_groups.len()), rules.len().max(groups.len()))?;
    let mut actions = vec![];
    for (group, id) in delete_rules.iter().filter(|key| state.rules.contains_key(*key)).collect::<BTreeSet<_>>() {
        actions.push(Action::Delete(RowKey::Rule(group.clone(), id.clone())));
    }
    for id in delete_groups.iter().filter(|id| state.rule_groups.contains_key(*id)).collect::<BTreeSet<_>>() {
        actions.push(Action::Delete(RowKey::RuleGroup(id.clone())));
    }
    actions.extend(rules.iter().map(rule));
    actions.extend(groups.iter().map(|g| Action::Put(Row::RuleGroup(g.id.clone(), g.json.as_str().into()))));
    Ok(Plan::done(actions))
}

/// Deletes, then writes, region label rules, all in one.
pub(super) fn put_label_rules(state: &State, rules: &[NamedRow], delete: &[String]) -> Result<Plan, Refusal> {
    bounded(rules.len() + delete.len())?;
    room(state.label_rules.len(), rules.len())?;
    let gone = delete.iter().filter(|id| state.label_rules.contains_key(*id)).collect::<BTreeSet<_>>();
    let mut actions: Vec<Action> = gone.into_iter().map(|id| Action::Delete(RowKey::LabelRule(id.clone()))).collect();
    actions.extend(rules.iter().map(label_rule));
    Ok(Plan::done(actions))
}

/// Replaces or deletes the label rules whose texts are still as they were seen; the others are passed over.
pub(super) fn replace_label_rules(state: &State, changes: &[LabelRuleReplacement]) -> Result<Plan, Refusal> {
    bounded(changes.len())?;
    let unchanged = |c: &&LabelRuleReplacement| state.label_rules.get(&c.id).is_some_and(|text| **text == *c.was);
    let action = |c: &LabelRuleReplacement| match &c.becomes {
        Some(json) => Action::Put(Row::LabelRule(c.id.clone(), json.as_str().into())),
        None => Action::Delete(RowKey::LabelRule(c.id.clone())),
    };
    Ok(Plan::done(changes.iter().filter(unchanged).map(action).collect()))
}

/// Deletes, then writes, what is kept for schedulers, and the list of them, all in one.
pub(super) fn put_schedulers(
    state: &State,
    config: Option<&str>,
    put: &[NamedRow],
    delete: &[String],
) -> Result<Plan, Refusal> {
    bounded(put.len() + delete.len())?;
    room(state.schedulers.len(), put.len())?;
    let gone = delete.iter().filter(|name| state.schedulers.contains_key(*name)).collect::<BTreeSet<_>>();
    let mut actions: Vec<Action> =
        gone.into_iter().map(|name| Action::Delete(RowKey::Scheduler(name.clone()))).collect();
    actions.extend(put.iter().map(|row| Action::Put(Row::Scheduler(row.id.clone(), row.json.as_str().into()))));
    actions.extend(config.map(|json| Action::Put(Row::Config(json.into()))));
    Ok(Plan::done(actions))
}

/// Takes the next `size` ids (at least one).
pub(super) fn alloc_ids(state: &State, size: u64) -> Result<Plan, Refusal> {
    let last = state.id_end.checked_add(size.max(1)).ok_or(Refusal::IdsExhausted)?;
    Ok(Plan::new(vec![Action::Put(Row::IdEnd(last))], Reply::Ids { first: state.id_end + 1, last }))
}

/// Lifts the sequence above `above`; never lowers it.
pub(super) fn rebase_ids(state: &State, above: u64) -> Result<Plan, Refusal> {
    if above <= state.id_end {
        return Ok(Plan::done(vec![]));
    }
    Ok(Plan::done(vec![Action::Put(Row::IdEnd(above))]))
}

/// Lifts the bound of timestamps; never lowers it (T2).
pub(super) fn save_tso(state: &State, upper_ms: i64) -> Result<Plan, Refusal> {
    if upper_ms <= state.tso_upper_ms {
        return Ok(Plan::done(vec![]));
    }
    Ok(Plan::done(vec![Action::Put(Row::TsoUpper(upper_ms))]))
}

/// Writes and deletes items; one revision for all of them.
pub(super) fn global_config(state: &State, changes: &[GlobalConfigChange]) -> Result<Plan, Refusal> {
    bounded(changes.len())?;
    room(state.global_config.len(), changes.len())?;
    let revision = state.global_revision + 1;
    let mut actions = vec![];
    for change in changes {
        match &change.value {
            Some(value) => {
                let item = GlobalConfigItem { key: change.key.clone(), value: value.clone(), revision };
                actions.push(Action::Put(Row::GlobalConfig(Arc::new(item))));
            }
            None if state.global_config.contains_key(&change.key) => {
                actions.push(Action::Delete(RowKey::GlobalConfig(change.key.clone())));
            }
            None => {}
        }
    }
    if actions.is_empty() {
        return Ok(Plan::new(actions, Reply::Revision(state.global_revision)));
    }
    actions.push(Action::Put(Row::GlobalRevision(revision)));
    Ok(Plan::new(actions, Reply::Revision(revision)))
}

/// Lifts the lowest resolved timestamp. `u64::MAX` means "no store told one" and is passed over, as in PD.
pub(super) fn min_resolved_ts(state: &State, value: u64) -> Result<Plan, Refusal> {
    if value == u64::MAX || value <= state.min_resolved_ts {
        return Ok(Plan::done(vec![]));
    }
    Ok(Plan::done(vec![Action::Put(Row::MinResolvedTs(value))]))
}

/// Adds or updates a member; nothing when it is as before.
pub(super) fn update_member(state: &State, member: &Member) -> Result<Plan, Refusal> {
    let before = state.members.get(&member.id);
    let leader_priority = before.map_or(member.leader_priority, |m| m.leader_priority);
    let member = Member { leader_priority, ..member.clone() };
    if before.is_some_and(|m| **m == member) {
        return Ok(Plan::done(vec![]));
    }
    Ok(Plan::done(vec![Action::Put(Row::Member(Arc::new(member)))]))
}

pub(super) fn set_leader_priority(state: &State, id: MemberId, priority: i32) -> Result<Plan, Refusal> {
    let before = state.members.get(&id).ok_or(Refusal::MemberNotFound(id))?;
    let member = Member { leader_priority: priority, ..Member::clone(before) };
    Ok(Plan::done(vec![Action::Put(Row::Member(Arc::new(member)))]))
}
