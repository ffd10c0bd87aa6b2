//! Schedulers that people add, remove and configure: agreed on as one change of the list and of what is kept for each.

use super::App;
use crate::{
    api::{ApiError, lines},
    config::SchedulerConfig,
    meta::{Command, NamedRow},
    model::StoreId,
    scheduler::balance::{Config, Kind, Spec, name_of, put_into, take_from},
};

/// PD's text for a scheduler that runs already.
const EXISTED: &str = "[PD:scheduler:ErrSchedulerExisted]scheduler existed";
/// PD's text for one that does not run.
pub(crate) const NOT_FOUND: &str = "[PD:scheduler:ErrSchedulerNotFound]scheduler not found";

/// Whoever calls any of these holds the lock for changes of the configuration: each starts from the list as it is.
impl App {
    /// Adds a scheduler of this kind.
    pub async fn add_scheduler(&self, kind: Kind, args: &[String], own: Option<Config>) -> Result<(), ApiError> {
        let name = name_of(kind, args);
        let added = self.try_add_scheduler(kind, args, &name, own).await;
        match &added {
            Ok(()) => lines::scheduler_added(&self.log, &name, args),
            Err(error) => lines::scheduler_not_added(&self.log, &name, args, error),
        }
        added
    }

    async fn try_add_scheduler(
        &self,
        kind: Kind,
        args: &[String],
        name: &str,
        own: Option<Config>,
    ) -> Result<(), ApiError> {
        if self.cluster.scheduler_config(name).is_some() {
            return Err(ApiError::Invalid(EXISTED.to_owned()));
        }
        let entry = SchedulerConfig {
            kind: kind.short_name().to_owned(),
            args: (!args.is_empty()).then(|| args.to_vec()),
            ..SchedulerConfig::default()
        };
        let fresh = Spec::read(&entry, |_| None).map_err(|e| ApiError::Invalid(e.to_string()))?;
        let Some(fresh) = fresh else { return Err(ApiError::unexpected("a new scheduler")) };
        let row = row(name, &own.unwrap_or(fresh.config));
        self.change_schedulers(|list| put_into(list, entry), vec![row], vec![]).await
    }

    /// Removes a scheduler. One of those that a fresh cluster has stays in the list, switched off.
    pub async fn remove_scheduler(&self, name: &str) -> Result<(), ApiError> {
        if self.cluster.scheduler_config(name).is_none() {
            let error = ApiError::Invalid(NOT_FOUND.to_owned());
            lines::scheduler_not_removed(&self.log, name, &error);
            return Err(error);
        }
        let take_out = |list: &mut Vec<SchedulerConfig>| {
            take_from(list, name);
            true
        };
        self.change_schedulers(take_out, vec![], vec![name.to_owned()]).await?;
        lines::scheduler_removed(&self.log, name);
        Ok(())
    }

    /// Gives a scheduler another configuration.
    pub async fn configure_scheduler(&self, name: &str, old: &Config, new: &Config) -> Result<(), ApiError> {
        let command = Command::PutSchedulers { config: None, put: vec![row(name, new)], delete: vec![] };
        self.propose(command).await?;
        lines::scheduler_updated(&self.log, name, &old.show().to_string(), &new.show().to_string());
        Ok(())
    }

    /// Takes one store out of evict-leader or grant-leader; with the last one the scheduler goes. False when it is not there.
    pub async fn take_scheduler_store(&self, name: &str, store: StoreId) -> Result<bool, ApiError> {
        let old = self.cluster.scheduler_config(name).ok_or_else(|| ApiError::Invalid(NOT_FOUND.to_owned()))?;
        let Some(new) = old.without_store(store) else { return Ok(false) };
        if new.stores().is_some_and(|stores| stores.is_empty()) {
            self.remove_scheduler(name).await?;
        } else {
            self.configure_scheduler(name, &old, &new).await?;
        }
        Ok(true)
    }

    async fn change_schedulers(
        &self,
        change: impl FnOnce(&mut Vec<SchedulerConfig>) -> bool,
        put: Vec<NamedRow>,
        delete: Vec<String>,
    ) -> Result<(), ApiError> {
        let mut next = (*self.dynamic.load()).clone();
        if !change(&mut next.schedule.schedulers_v2) {
            return Err(ApiError::Invalid("too many schedulers".to_owned()));
        }
        let config = next.to_json().map_err(|e| ApiError::Invalid(e.to_string()))?;
        self.propose(Command::PutSchedulers { config: Some(config), put, delete }).await?;
        Ok(())
    }
}

fn row(name: &str, config: &Config) -> NamedRow {
    NamedRow { id: name.to_owned(), json: config.show().to_string() }
}
