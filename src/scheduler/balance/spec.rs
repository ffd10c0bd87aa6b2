//! Which schedulers there are, from what is agreed: the list of the configuration and what was kept for each.

use super::{Config, ConfigError, Kind};
use crate::config::SchedulerConfig;

/// Most schedulers that run: more would come only from a client gone wild (each range has one of its own).
pub const MAX_SCHEDULERS: usize = 1024;

/// One scheduler as it shall run.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// Its name in the scheduler API.
    pub name: String,
    /// Its configuration.
    pub config: Config,
}

impl Spec {
    /// The scheduler that an entry of the list stands for.
    ///
    /// # Errors
    /// When its configuration cannot be read; `Ok(None)` when it is switched off, or of a kind that Berth does not have.
    pub fn read(entry: &SchedulerConfig, kept: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let Some(kind) = Kind::of_short_name(&entry.kind).filter(|_| !entry.disable) else { return Ok(None) };
        let args = entry.args.as_deref().unwrap_or_default();
        let name = name_of(kind, args);
        let kept = kept(&name);
        Ok(Some(Self { config: Config::read(kind, args, kept.as_deref())?, name }))
    }
}

/// The name of a scheduler of this kind.
pub fn name_of(kind: Kind, args: &[String]) -> String {
    match (kind, args) {
        (Kind::ScatterRange, [_, _, range]) => format!("{}-{range}", kind.name()),
        _ => kind.name().to_owned(),
    }
}

/// All schedulers of the list; what cannot be read is left out and named.
pub fn specs(
    list: &[SchedulerConfig],
    kept: impl Fn(&str) -> Option<String>,
) -> (Vec<Spec>, Vec<(String, ConfigError)>) {
    let (mut specs, mut wrong) = (Vec::<Spec>::new(), Vec::new());
    for entry in list.iter().take(MAX_SCHEDULERS) {
        match Spec::read(entry, &kept) {
            Ok(Some(spec)) if specs.iter().all(|s| s.name != spec.name) => specs.push(spec),
            Ok(_) => {}
            Err(error) => wrong.push((entry.kind.clone(), error)),
        }
    }
    (specs, wrong)
}

/// Puts a scheduler into the list, in the place of one of its kind that was switched off. False when there are too many.
#[must_use]
pub fn put_into(list: &mut Vec<SchedulerConfig>, entry: SchedulerConfig) -> bool {
    match list.iter_mut().find(|old| old.kind == entry.kind && old.disable) {
        Some(old) => *old = entry,
        None => list.push(entry),
    }
    list.len() <= MAX_SCHEDULERS
}

/// Takes the scheduler of this name out of the list. One of those that a fresh cluster has stays in it, switched off.
pub fn take_from(list: &mut Vec<SchedulerConfig>, name: &str) {
    let is_it = |entry: &SchedulerConfig| {
        let args = entry.args.as_deref().unwrap_or_default();
        Kind::of_short_name(&entry.kind).is_some_and(|kind| name_of(kind, args) == name)
    };
    let defaults = default_kinds();
    list.retain(|entry| !is_it(entry) || defaults.contains(&entry.kind));
    for entry in list.iter_mut().filter(|entry| is_it(entry)) {
        entry.disable = true;
    }
}

/// The schedulers of a fresh cluster: removed ones stay in the list, switched off.
pub fn default_kinds() -> Vec<String> {
    crate::config::ScheduleConfig::default().schedulers_v2.into_iter().map(|entry| entry.kind).collect()
}
