//! Puts together what deciding code runs under, from what is agreed and from this member's own configuration.

use std::sync::Arc;

use crate::{
    api::rows,
    config::{BerthConfig, Dynamic},
    meta::State,
    model::{RegionLabelRule, Rule, RuleGroup, Wall},
    pdlog,
    scheduler::{placement::RuleSet, region_label::LabelIndex, view::Settings},
    telemetry::log::Logger,
};

/// The settings of this moment. Rows that cannot be read (a newer version wrote them) are left out and named in the log.
pub(super) fn build(state: &State, dynamic: &Dynamic, berth: &Arc<BerthConfig>, log: &Logger, now: Wall) -> Settings {
    Settings {
        schedule: Arc::new(effective(state, dynamic, now)),
        replication: Arc::new(dynamic.replication.clone()),
        berth: Arc::clone(berth),
        rules: Arc::new(rules(state, dynamic, log)),
        labels: Arc::new(labels(state, log)),
        version: state.cluster_version.clone().unwrap_or_default(),
    }
}

/// `schedule.*` with the temporary values that are in force.
pub(super) fn effective(state: &State, dynamic: &Dynamic, now: Wall) -> crate::config::ScheduleConfig {
    if state.ttl_config.is_empty() {
        return dynamic.schedule.clone();
    }
    rows::ttl_items(state).effective(&dynamic.schedule, now)
}

fn rules(state: &State, dynamic: &Dynamic, log: &Logger) -> RuleSet {
    let all: Vec<Arc<Rule>> = read(state.rules.values(), log, rows::rule).map(Arc::new).collect();
    let groups: Vec<RuleGroup> = read(state.rule_groups.values(), log, rows::rule_group).collect();
    if !all.is_empty() {
        match RuleSet::new(all, groups) {
            Ok(rules) => return rules,
            Err(error) => {
                pdlog!(log, Error, "placement rules cannot be used, the default rule is in force", "error" => error.to_string());
            }
        }
    }
    let r = &dynamic.replication;
    let default = RuleSet::default_rule(r.max_replicas, &r.location_labels, &r.isolation_level);
    RuleSet::new(vec![Arc::new(default)], vec![]).unwrap_or_default()
}

fn labels(state: &State, log: &Logger) -> LabelIndex {
    let rules: Vec<Arc<RegionLabelRule>> =
        read(state.label_rules.values(), log, rows::label_rule).map(Arc::new).collect();
    LabelIndex::new(rules)
}

fn read<'a, T>(
    texts: impl Iterator<Item = &'a Arc<str>>,
    log: &Logger,
    row: fn(&str) -> Result<T, rows::RowError>,
) -> impl Iterator<Item = T> {
    texts.filter_map(move |text| {
        row(text)
            .inspect_err(|error| pdlog!(log, Error, "a kept rule cannot be read", "error" => error.to_string()))
            .ok()
    })
}
