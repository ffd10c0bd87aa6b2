//! The state machine of what is agreed: [`plan`] decides a [`Command`] against a [`State`], [`State::apply`] writes what was decided.
//!
//! Owns: every rule about what may become of the agreed state. Must not know: raft, disk, clocks, threads, who asks. All refusals
//! come from [`plan`] and leave the state as it was; applying cannot fail, and does the same on every member.

mod change;
mod command;
mod encoding;
mod gc;
pub mod records;
mod refusal;
mod rows;
mod settings;
mod state;
mod stores;
#[cfg(test)]
mod tests;

pub use change::{Change, LabelRows, RuleRows};
pub use command::{
    Bootstrap, Command, ConfigChange, ENVELOPE_VERSION, Envelope, EnvelopeError, GlobalConfigChange,
    LabelRuleReplacement, LimitKind, MAX_COMMAND_BYTES, MAX_ROWS_A_COMMAND, MAX_ROWS_KEPT, NamedRow, Reply, RuleRow,
    TtlItem,
};
pub use gc::MAX_BARRIERS;
pub use refusal::{Refusal, proto_text};
pub use state::{
    Action, AskedBy, Barrier, Cluster, Drain, GC_WORKER, GcPoints, GlobalConfigItem, Member, Row, RowKey, State,
};

use std::sync::Arc;

use crate::model::Wall;

/// What a command comes down to.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Row changes, to be written in this order and all together.
    pub actions: Vec<Action>,
    /// What the asker gets once they are.
    pub reply: Reply,
}

impl Plan {
    fn new(actions: Vec<Action>, reply: Reply) -> Self {
        Self { actions, reply }
    }

    fn done(actions: Vec<Action>) -> Self {
        Self::new(actions, Reply::Done)
    }
}

/// Decides `command`, asked at `now` by its proposer's clock. Does not change anything.
pub fn plan(state: &State, now: Wall, command: &Command) -> Result<Plan, Refusal> {
    match command {
        Command::InitCluster { cluster_id } => settings::init_cluster(state, *cluster_id),
        Command::Bootstrap(bootstrap) => stores::bootstrap(state, now, bootstrap),
        Command::PutStore { record, limits } => stores::put_store(state, record, *limits),
        Command::SaveHeartbeats { heard } => stores::save_heartbeats(state, heard),
        Command::OfflineStore { id, physically_destroyed, need_up, tikv_up_check, evict_leader } => {
            let check = tikv_up_check.then_some(stores::UpCheck { need_up: *need_up, evict_leader });
            stores::offline(state, now, *id, *physically_destroyed, check)
        }
        Command::UpStore { id } => stores::up(state, *id),
        Command::BuryStore { id, force, connected, heard } => stores::bury(state, *id, *force, *connected, *heard),
        Command::ServingStore { id } => stores::serving(state, *id),
        Command::RemoveTombstone { id } => stores::remove_tombstone(state, *id),
        Command::SetStoreLabels { id, labels, force } => stores::set_labels(state, *id, labels, *force),
        Command::DeleteStoreLabel { id, key } => stores::delete_label(state, *id, key),
        Command::SetStoreWeight { id, leader, region } => stores::set_weight(state, *id, *leader, *region),
        Command::SetStoreLimit { id, kind, rate } => stores::set_limit(state, *id, *kind, *rate),
        Command::SetAllStoreLimits { kind, rate, stores } => {
            stores::set_all_limits(state, *kind, *rate, stores.as_deref())
        }
        Command::SaveDynamicConfig { json } => settings::save_config(json),
        Command::SaveTtlConfig { items } => settings::save_ttl(state, items),
        Command::SetClusterVersion { version } => settings::set_version(version),
        Command::PutRules { rules, groups, delete_rules, delete_groups } => {
            settings::put_rules(state, rules, groups, delete_rules, delete_groups)
        }
        Command::PutLabelRules { rules, delete } => settings::put_label_rules(state, rules, delete),
        Command::AllocIdWindow { size } => settings::alloc_ids(state, *size),
        Command::RebaseIds { above } => settings::rebase_ids(state, *above),
        Command::SaveTsoWindow { upper_ms } => settings::save_tso(state, *upper_ms),
        Command::UpdateGcSafePoint { value } => gc::update_gc(state, *value),
        Command::UpdateServiceGcSafePoint { service_id, ttl, safe_point } => {
            gc::update_service(state, now, service_id, *ttl, *safe_point)
        }
        Command::ChangeGlobalConfig { changes } => settings::global_config(state, changes),
        Command::PutKeyspace(row) => Ok(Plan::done(vec![settings::keyspace(row)])),
        Command::SaveMinResolvedTs { value } => settings::min_resolved_ts(state, *value),
        Command::SetMaxPeerCount { count } => Ok(Plan::done(vec![Action::Put(Row::MaxPeerCount(*count))])),
        Command::UpdateMember(member) => settings::update_member(state, member),
        Command::SetLeaderPriority { id, priority } => settings::set_leader_priority(state, *id, *priority),
        Command::ChangeConfig(change) => settings::change_config(state, change),
        Command::ReplaceLabelRules { changes } => settings::replace_label_rules(state, changes),
        Command::Asked { by, command } => Ok(asked(plan(state, now, command)?, by)),
        Command::PutSchedulers { config, put, delete } => {
            settings::put_schedulers(state, config.as_deref(), put, delete)
        }
        Command::PutRecords { progress, ended } => records::put(state, progress, ended),
    }
}

/// A drain that begins by a plan remembers who asked for it.
fn asked(mut plan: Plan, by: &AskedBy) -> Plan {
    for action in &mut plan.actions {
        if let Action::Put(Row::Drain(drain)) = action
            && drain.by.is_none()
        {
            *drain = Arc::new(Drain { by: Some(by.clone()), ..Drain::clone(drain) });
        }
    }
    plan
}

/// Plans and applies, and tells what changed: what a member does with each entry of the log.
pub fn execute(state: &mut State, now: Wall, command: &Command) -> Result<(Plan, Vec<Change>), Refusal> {
    let plan = plan(state, now, command)?;
    for action in &plan.actions {
        state.apply(action);
    }
    let changes = changes(state, &plan.actions);
    Ok((plan, changes))
}

/// What observers are told of row changes that `state` has taken in.
pub fn changes(state: &State, actions: &[Action]) -> Vec<Change> {
    change::changes(state, actions)
}

/// What observers are told when a whole state, received from another member, takes the place of the own.
pub fn difference(old: &State, new: &State) -> Vec<Change> {
    change::difference(old, new)
}

/// Refuses commands with more rows than one entry may carry.
fn bounded(rows: usize) -> Result<(), Refusal> {
    if rows > MAX_ROWS_A_COMMAND {
        return Err(Refusal::TooManyRows { rows, max: MAX_ROWS_A_COMMAND });
    }
    Ok(())
}

/// Refuses to keep more rows of one kind than there should ever be.
fn room(kept: usize, more: usize) -> Result<(), Refusal> {
    let rows = kept.saturating_add(more);
    if rows > MAX_ROWS_KEPT {
        return Err(Refusal::TooManyRows { rows, max: MAX_ROWS_KEPT });
    }
    Ok(())
}
