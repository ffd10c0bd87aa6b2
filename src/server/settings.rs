//! Puts together what deciding code runs under, from what is agreed and from this member's own configuration.
//!
//! Owns: the rules and labels in force, changed row by row as rows change, and the settings made of them. Must not know: who asks.

use std::sync::Arc;

use crate::{
    api::rows,
    config::{BerthConfig, Dynamic},
    meta::{LabelRows, RuleRows, State},
    model::{RegionLabelRule, Wall},
    pdlog,
    scheduler::{
        balance::{self, Spec},
        placement::{RuleSet, RulesChange},
        region_label::LabelIndex,
        view::Settings,
    },
    telemetry::log::Logger,
};

/// The label property that keeps leaders off stores.
const REJECT_LEADER: &str = "reject-leader";

/// The settings of this moment, made from everything that is agreed.
pub(crate) fn build(state: &State, dynamic: &Dynamic, berth: &Arc<BerthConfig>, log: &Logger, now: Wall) -> Settings {
    Kept::load(state, log).settings(state, dynamic, berth, now)
}

/// The schedulers that run: they are a part of the configuration, with what is kept for each beside it. What cannot be read (a newer
/// version wrote it) is left out and named in the log.
pub(crate) fn schedulers(state: &State, dynamic: &Dynamic, log: &Logger) -> Vec<Spec> {
    let reject = dynamic.label_property.get(REJECT_LEADER).map_or(&[][..], Vec::as_slice);
    let kept = |name: &str| state.schedulers.get(name).map(|json| json.to_string());
    let (specs, wrong) = balance::specs(&dynamic.schedule.schedulers_v2, kept, reject);
    for (kind, error) in wrong {
        pdlog!(log, Error, "a scheduler cannot be run", "type" => kind, "error" => error.to_string());
    }
    specs
}

/// Rules and labels as they are in force, kept from one change to the next.
#[derive(Debug)]
pub(super) struct Kept {
    /// `None`: nothing usable is agreed, and the default rule of the configuration stands in.
    rules: Option<RuleSet>,
    labels: LabelIndex,
}

impl Kept {
    /// From everything that is agreed. Rows that cannot be read (a newer version wrote them) are left out and named in the log.
    pub(super) fn load(state: &State, log: &Logger) -> Self {
        let labels = state.label_rules.values().filter_map(|json| label_rule(json, log)).map(Arc::new);
        Self { rules: all_rules(state, log), labels: LabelIndex::new(labels.collect()) }
    }

    /// Takes changed rules in; `state` is read only when they cannot be made out of those before.
    pub(super) fn change_rules(&mut self, rows: &RuleRows, state: &State, log: &Logger) {
        let changed = self.rules.as_ref().and_then(|rules| rules.changed(&rules_change(rows, log)).ok());
        self.rules = match changed {
            Some((rules, _)) => Some(rules),
            None => all_rules(state, log),
        };
    }

    /// Takes changed label rules in.
    pub(super) fn change_labels(&mut self, rows: &LabelRows, log: &Logger) {
        let rule = |json: &Option<Arc<str>>| json.as_ref().and_then(|json| label_rule(json, log)).map(Arc::new);
        let changes: Vec<_> = rows.iter().map(|(id, json)| (id.clone(), rule(json))).collect();
        self.labels = self.labels.changed(&changes).0;
    }

    /// The settings of this moment.
    pub(super) fn settings(&self, state: &State, dynamic: &Dynamic, berth: &Arc<BerthConfig>, now: Wall) -> Settings {
        let default = || {
            let r = &dynamic.replication;
            let rule = RuleSet::default_rule(r.max_replicas, &r.location_labels, &r.isolation_level);
            RuleSet::new(vec![Arc::new(rule)], vec![]).unwrap_or_default()
        };
        Settings {
            schedule: Arc::new(effective(state, dynamic, now)),
            replication: Arc::new(dynamic.replication.clone()),
            berth: Arc::clone(berth),
            rules: Arc::new(self.rules.clone().unwrap_or_else(default)),
            labels: Arc::new(self.labels.clone()),
            version: state.cluster_version.clone().unwrap_or_default(),
            reject_leader: dynamic.label_property.get(REJECT_LEADER).cloned().unwrap_or_default().into(),
            table_keys: dynamic.pd_server.key_type == "table",
        }
    }
}

/// `schedule.*` with the temporary values that are in force.
pub(crate) fn effective(state: &State, dynamic: &Dynamic, now: Wall) -> crate::config::ScheduleConfig {
    if state.ttl_config.is_empty() {
        return dynamic.schedule.clone();
    }
    rows::ttl_items(state).effective(&dynamic.schedule, now)
}

/// All agreed rules, if they can be used.
fn all_rules(state: &State, log: &Logger) -> Option<RuleSet> {
    let text = |json: &Arc<str>| Some(Arc::clone(json));
    let all = RuleRows {
        rules: state.rules.iter().map(|(key, json)| (key.clone(), text(json))).collect(),
        groups: state.rule_groups.iter().map(|(id, json)| (id.clone(), text(json))).collect(),
    };
    let change = rules_change(&all, log);
    if change.rules.is_empty() {
        return None;
    }
    let made = RuleSet::new(change.rules, change.groups);
    if let Err(error) = &made {
        pdlog!(log, Error, "placement rules cannot be used, the default rule is in force", "error" => error.to_string());
    }
    made.ok()
}

/// Rows as a change of rules. What cannot be read counts as deleted.
fn rules_change(rows: &RuleRows, log: &Logger) -> RulesChange {
    let mut change = RulesChange::default();
    for (key, json) in &rows.rules {
        match json.as_ref().and_then(|json| read(rows::rule(json), log)) {
            Some(rule) => change.rules.push(Arc::new(rule)),
            None => change.delete_rules.push(key.clone()),
        }
    }
    for (id, json) in &rows.groups {
        match json.as_ref().and_then(|json| read(rows::rule_group(json), log)) {
            Some(group) => change.groups.push(group),
            None => change.delete_groups.push(id.clone()),
        }
    }
    change
}

fn label_rule(json: &str, log: &Logger) -> Option<RegionLabelRule> {
    read(rows::label_rule(json), log)
}

fn read<T>(row: Result<T, rows::RowError>, log: &Logger) -> Option<T> {
    row.inspect_err(|error| pdlog!(log, Error, "a kept rule cannot be read", "error" => error.to_string())).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        config::BerthConfig,
        meta::State,
        model::{KeyRange, Region, RegionMeta},
    };

    fn rule(id: &str, start: &str, end: &str, count: u32) -> Option<Arc<str>> {
        let json = format!(
            r#"{{"group_id":"pd","id":"{id}","start_key":"{start}","end_key":"{end}","role":"voter","count":{count}}}"#
        );
        Some(json.into())
    }

    fn label(id: &str, value: &str) -> Option<Arc<str>> {
        let json = format!(
            r#"{{"id":"{id}","labels":[{{"key":"schedule","value":"{value}"}}],"data":[{{"start_key":"61","end_key":"62"}}]}}"#
        );
        Some(json.into())
    }

    /// What both would have the deciding code see.
    fn seen(kept: &Kept, state: &State) -> (Vec<Arc<crate::model::Rule>>, usize, Vec<Arc<RegionLabelRule>>) {
        let dynamic = Dynamic::default();
        let settings = kept.settings(state, &dynamic, &Arc::new(BerthConfig::default()), Wall(0));
        let range = KeyRange::new(&b"a"[..], &b"b"[..]);
        let region = Region { meta: Arc::new(RegionMeta { range, ..RegionMeta::default() }), ..Region::default() };
        (settings.rules.all(), settings.rules.for_region(&region).len(), settings.labels.all())
    }

    #[test]
    fn row_by_row_gives_what_a_start_would_read() {
        let log = Logger::none();
        let mut state = State::default();
        let mut kept = Kept::load(&state, &log);
        assert_eq!(seen(&kept, &state).0[0].id, "default", "the configuration's rule stands in");
        for (id, json) in [
            ("default", rule("default", "", "", 3)),
            ("second", rule("second", "61", "62", 1)),
            ("second", rule("second", "61", "63", 2)),
            ("third", Some("not a rule".into())),
            ("second", Some("no rule any more".into())),
            ("second", rule("second", "", "61", 2)),
            ("default", None), // Leaves keys without a voter: the default rule of the configuration is in force.
            ("default", rule("default", "", "", 5)),
            ("second", None),
        ] {
            let key = ("pd".to_owned(), id.to_owned());
            match &json {
                Some(json) => _ = state.rules.insert(key.clone(), json.clone()),
                None => _ = state.rules.remove(&key),
            }
            kept.change_rules(&RuleRows { rules: [(key, json.clone())].into(), ..RuleRows::default() }, &state, &log);
            assert_eq!(seen(&kept, &state), seen(&Kept::load(&state, &log), &state), "{id} {json:?}");
        }
        for (id, json) in [("a", label("a", "deny")), ("b", label("b", "x")), ("a", label("a", "allow")), ("a", None)] {
            match &json {
                Some(json) => _ = state.label_rules.insert(id.to_owned(), json.clone()),
                None => _ = state.label_rules.remove(id),
            }
            kept.change_labels(&LabelRows::from([(id.to_owned(), json.clone())]), &log);
            assert_eq!(seen(&kept, &state), seen(&Kept::load(&state, &log), &state), "{id} {json:?}");
        }
        assert_eq!((seen(&kept, &state).0.len(), seen(&kept, &state).2.len()), (1, 1));
    }
}
