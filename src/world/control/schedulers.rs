//! Schedulers and pauses of the simulated control plane: what the REST calls of that name do.

use std::time::Duration;

use serde_json::json;

use super::Control;
use crate::{
    config::{SchedulerConfig, update},
    meta::{Command, NamedRow},
    model::{Now, StoreId},
    scheduler::{
        balance::{Config, Kind, Updated, name_of, put_into, take_from},
        checker::pause::CheckerName,
    },
    server::settings,
    telemetry::log::Logger,
    world::error::CallError,
};

/// The name of the range of scatter-range.
const RANGE: &str = "all";

fn refused(text: &str) -> CallError {
    CallError::Text(text.to_owned())
}

impl Control {
    /// Makes those schedulers run that are agreed on.
    pub(super) fn rebuild_schedulers(&self, now: Now) {
        self.cluster.set_schedulers(settings::schedulers(&self.state, &self.dynamic, &Logger::none()), now);
    }

    /// Adds a scheduler, or stores to one that runs.
    pub fn add_scheduler(&mut self, kind: Kind, stores: &[StoreId], now: Now) -> Result<(), CallError> {
        let name = name_of(kind, &[]);
        let running = self.cluster.scheduler_config(&name);
        if running.is_some() && stores.is_empty() {
            return Err(refused("scheduler existed"));
        }
        let mut own = match &running {
            Some(own) => own.clone(),
            None => Config::read(kind, &[], None).map_err(|e| refused(&e.to_string()))?,
        };
        for store in stores {
            if self.cluster.stores().get(*store).is_none() {
                return Err(refused(&format!("store {store} not found")));
            }
            let one = serde_json::Map::from_iter([("store_id".to_owned(), store.0.into())]);
            if let Updated::To(more) = own.update(&one).map_err(|e| refused(&e.to_string()))? {
                own = more;
            }
        }
        let row = NamedRow { id: name, json: own.show().to_string() };
        let mut list = self.dynamic.schedule.schedulers_v2.clone();
        let args = stores.first().map(|store| vec![store.to_string()]);
        let entry = SchedulerConfig { kind: kind.short_name().to_owned(), args, ..SchedulerConfig::default() };
        if running.is_none() && !put_into(&mut list, entry) {
            return Err(refused("too many schedulers"));
        }
        self.put_schedulers(list, vec![row], vec![], now)
    }

    /// Adds scatter-range over all keys.
    pub fn add_scatter_range(&mut self, now: Now) -> Result<(), CallError> {
        let args = ["", "", RANGE].map(str::to_owned).to_vec();
        let name = name_of(Kind::ScatterRange, &args);
        if self.cluster.scheduler_config(&name).is_some() {
            return Err(refused("scheduler existed"));
        }
        let own = Config::read(Kind::ScatterRange, &args, None).map_err(|e| refused(&e.to_string()))?;
        let row = NamedRow { id: name, json: own.show().to_string() };
        let mut list = self.dynamic.schedule.schedulers_v2.clone();
        let kind = Kind::ScatterRange.short_name().to_owned();
        let entry = SchedulerConfig { kind, args: Some(args), ..SchedulerConfig::default() };
        if !put_into(&mut list, entry) {
            return Err(refused("too many schedulers"));
        }
        self.put_schedulers(list, vec![row], vec![], now)
    }

    /// Stores with this label shall not lead, or may again: what `POST /config/label-property` does.
    pub fn reject_leader(&mut self, rejects: bool, (key, value): &(String, String), now: Now) -> Result<(), CallError> {
        let action = if rejects { "set" } else { "delete" };
        let body = json!({ "type": "reject-leader", "action": action, "label-key": key, "label-value": value });
        let update = update::label_property(&self.dynamic, body.to_string().as_bytes())?;
        self.propose(&Command::SaveDynamicConfig { json: update.next.to_json()? }, now).map(drop)
    }

    /// Removes a scheduler, or one store from it; with the last one it goes.
    pub fn remove_scheduler(&mut self, kind: Kind, store: Option<StoreId>, now: Now) -> Result<(), CallError> {
        let name = if kind == Kind::ScatterRange {
            name_of(kind, &["", "", RANGE].map(str::to_owned))
        } else {
            name_of(kind, &[])
        };
        let own = self.cluster.scheduler_config(&name).ok_or_else(|| refused("scheduler not found"))?;
        let mut list = self.dynamic.schedule.schedulers_v2.clone();
        if let Some(store) = store {
            let less = own.without_store(store).ok_or_else(|| refused("the store is not on its list"))?;
            if less.stores().is_some_and(|stores| !stores.is_empty()) {
                let row = NamedRow { id: name, json: less.show().to_string() };
                return self.put_schedulers(list, vec![row], vec![], now);
            }
        }
        take_from(&mut list, &name);
        self.put_schedulers(list, vec![], vec![name], now)
    }

    fn put_schedulers(
        &mut self,
        list: Vec<SchedulerConfig>,
        put: Vec<NamedRow>,
        delete: Vec<String>,
        now: Now,
    ) -> Result<(), CallError> {
        let mut next = self.dynamic.clone();
        next.schedule.schedulers_v2 = list;
        self.propose(&Command::PutSchedulers { config: Some(next.to_json()?), put, delete }, now).map(drop)
    }

    /// Pauses a scheduler by its name (`all`: every one); zero lets it go on.
    pub fn pause_scheduler(&self, name: &str, span: Duration, now: Now) -> Result<(), CallError> {
        self.cluster.pause_scheduler(name, span, now).map_err(|e| refused(&e.to_string()))
    }

    /// Pauses a checker; zero lets it go on.
    pub fn pause_checker(&self, checker: CheckerName, span: Duration, now: Now) {
        self.cluster.pause_checker(checker, span, now);
    }
}
