//! The control plane without its shell: the agreed state with a log in memory, the deciding code, and the calls on both.
//!
//! Owns: the order of a change (plan, apply, hand across), as the server has it. Must not know: nodes, time that passes, what is
//! checked. Everything is the server's own code but for the wiring in this file.

mod schedulers;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prost::Message as _;

use super::{bugs::Bug, error::CallError};
use crate::{
    api::{convert, keyspace, rows},
    config::{BerthConfig, Config, Dynamic, update},
    meta::{self, Change, Command, LimitKind, Reply, State, machine},
    model::{
        ClusterId, Now, PeerId, Region, RegionId, StoreId, StoreLimits, StoreRecord, StoreState, store::UNLIMITED,
    },
    proto::{metapb, pdpb},
    scheduler::{
        cluster::{Cluster, HeartbeatError},
        effect::Effect,
        life::StoreChange,
        placement::{self, DEFAULT_GROUP, DEFAULT_ID, RuleSet},
        region_label::LabelIndex,
        view::IdSource,
    },
    server::settings,
    telemetry::log::Logger,
};

/// The id of every simulated cluster.
pub const CLUSTER: ClusterId = ClusterId(7);
/// Ids up to this one are given by hand: stores from 1, regions from 101, peers from 1001.
const IDS_BY_HAND: u64 = 99_999;
/// Ids are agreed on in windows of this size, and a new one is taken when half of it is used.
const ID_WINDOW: u64 = 10_000;

/// Ids handed out of the agreed window.
#[derive(Debug, Default)]
struct Ids {
    next: AtomicU64,
    end: AtomicU64,
}

impl Ids {
    fn take(&self) -> Option<u64> {
        let id = self.next.load(Ordering::Relaxed);
        if id == 0 || id > self.end.load(Ordering::Relaxed) {
            return None;
        }
        self.next.store(id + 1, Ordering::Relaxed);
        Some(id)
    }

    fn left(&self) -> u64 {
        (self.end.load(Ordering::Relaxed) + 1).saturating_sub(self.next.load(Ordering::Relaxed))
    }

    fn set(&self, first: u64, last: u64) {
        self.next.store(first, Ordering::Relaxed);
        self.end.store(last, Ordering::Relaxed);
    }
}

impl IdSource for Ids {
    fn next_peer_id(&self) -> Option<PeerId> {
        self.take().map(PeerId)
    }
}

/// See the module's comment.
pub struct Control {
    state: State,
    cluster: Cluster,
    ids: Arc<Ids>,
    dynamic: Dynamic,
    berth: Arc<BerthConfig>,
    /// What the region cache on disk would hold.
    cache: BTreeMap<RegionId, Arc<Region>>,
    /// Agreed changes since they were last taken.
    changes: Vec<Change>,
    bug: Option<Bug>,
}

impl Control {
    /// A control plane that has agreed on nothing but its cluster id.
    ///
    /// # Errors
    /// What the state machine says against it.
    pub fn new(config: &Config, bug: Option<Bug>, now: Now) -> Result<Self, CallError> {
        let (state, dynamic) = (State::default(), Dynamic::from_config(config));
        let berth = Arc::new(config.berth.clone());
        let ids = Arc::new(Ids::default());
        let under = settings::build(&state, &dynamic, &berth, &Logger::none(), now.wall);
        let cluster = Cluster::new(under, ids.clone(), now);
        let (cache, changes) = (BTreeMap::new(), Vec::new());
        let mut control = Self { state, cluster, ids, dynamic, berth, cache, changes, bug };
        control.propose(&Command::InitCluster { cluster_id: CLUSTER }, now)?;
        control.propose(&Command::RebaseIds { above: IDS_BY_HAND }, now)?;
        control.renew_ids(now)?;
        control.rebuild_schedulers(now);
        Ok(control)
    }

    /// What is agreed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is observed, and what decides.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The agreed configuration.
    pub fn dynamic(&self) -> &Dynamic {
        &self.dynamic
    }

    /// Berth's own configuration.
    pub fn berth(&self) -> &BerthConfig {
        &self.berth
    }

    /// Ids from the cluster's only sequence.
    pub fn take_ids(&mut self, count: u64, now: Now) -> Result<Vec<u64>, CallError> {
        if self.ids.left() < count {
            self.renew_ids(now)?;
        }
        Ok((0..count).filter_map(|_| self.ids.take()).collect())
    }

    /// The agreed changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Decides, applies and hands across one command, as a member does with each entry of the log.
    pub fn propose(&mut self, command: &Command, now: Now) -> Result<Reply, CallError> {
        let (plan, changes) = machine::execute(&mut self.state, now.wall, command)?;
        for change in changes {
            self.observe(&change, now);
            self.changes.push(change);
        }
        Ok(plan.reply)
    }

    fn observe(&mut self, change: &Change, now: Now) {
        match change {
            Change::StorePut(record) => self.cluster.put_store(Arc::clone(record), now),
            Change::StoreRemoved(id) => self.cluster.remove_store(*id),
            Change::LimitsChanged { id, limits: Some(limits) } => {
                let limits = if self.bug == Some(Bug::LimitNotTaken) { NO_LIMITS } else { *limits };
                self.cluster.set_limits(*id, limits, now);
            }
            Change::LimitsChanged { id, limits: None } => self.cluster.remove_limits(*id),
            Change::ConfigChanged(json) => {
                if let Ok(dynamic) = Dynamic::from_json(json) {
                    self.dynamic = dynamic;
                }
                self.rebuild_settings(now);
                self.rebuild_schedulers(now);
            }
            Change::SchedulersChanged => self.rebuild_schedulers(now),
            Change::TtlConfigChanged { .. }
            | Change::ClusterVersion(_)
            | Change::RulesChanged(_)
            | Change::LabelRulesChanged(_) => self.rebuild_settings(now),
            // What is not of the observed side.
            _ => {}
        }
    }

    /// Puts the settings together again.
    pub fn rebuild_settings(&self, now: Now) {
        let mut under = settings::build(&self.state, &self.dynamic, &self.berth, &Logger::none(), now.wall);
        match self.bug {
            Some(Bug::DrainIgnoresDeny) => under.labels = Arc::new(LabelIndex::default()),
            Some(Bug::RulesIgnored) => {
                let default = RuleSet::default_rule(self.dynamic.replication.max_replicas, &[], "");
                under.rules = Arc::new(RuleSet::new(vec![Arc::new(default)], vec![]).unwrap_or_default());
            }
            _ => {}
        }
        self.cluster.set_settings(under, now);
    }

    /// Whether a configuration item that holds for a time has ended since `before`.
    pub fn has_ended_settings(&self, before: Now, now: Now) -> bool {
        self.state.ttl_config.values().any(|item| item.expires > before.wall && item.expires <= now.wall)
    }

    fn renew_ids(&mut self, now: Now) -> Result<(), CallError> {
        if let Reply::Ids { first, last } = self.propose(&Command::AllocIdWindow { size: ID_WINDOW }, now)? {
            self.ids.set(first, last);
        }
        Ok(())
    }

    /// Makes the cluster.
    pub fn bootstrap(&mut self, request: &pdpb::BootstrapRequest, now: Now) -> Result<(), CallError> {
        let (store, region) = convert::check_bootstrap(request, CLUSTER)?;
        let command = meta::Bootstrap {
            limits: self.default_limits(&store),
            store,
            region: region.encode_to_vec(),
            rules: keyspace::default_rules(&self.dynamic.replication),
            label_rules: vec![],
            keyspaces: vec![keyspace::default_record(now.wall)],
        };
        self.propose(&Command::Bootstrap(Box::new(command)), now)?;
        let region = Region { meta: Arc::new(convert::region_meta(region)), ..Region::default() };
        self.cluster.load_region(region);
        Ok(())
    }

    fn default_limits(&self, record: &StoreRecord) -> StoreLimits {
        if record.is_tiflash() { crate::api::app::TIFLASH_LIMITS } else { self.dynamic.schedule.default_store_limit }
    }

    /// Registers a store.
    pub fn put_store(&mut self, store: &metapb::Store, now: Now) -> Result<(), CallError> {
        let record = convert::store_record(store);
        let limits = self.default_limits(&record);
        self.propose(&Command::PutStore { record: Box::new(record), limits }, now)?;
        Ok(())
    }

    /// Begins to take a store out.
    pub fn offline(&mut self, id: StoreId, force: bool, now: Now) -> Result<(), CallError> {
        let stores = self.cluster.stores().snapshot();
        let evict_leader = stores.values().filter(|s| s.pause_leader_in > 0).map(|s| s.id()).collect();
        let command = Command::OfflineStore {
            id,
            physically_destroyed: force,
            need_up: self.dynamic.replication.max_replicas,
            tikv_up_check: !force,
            evict_leader,
        };
        self.propose(&command, now).map(drop)
    }

    /// Changes configuration items: what `POST /config` does.
    pub fn post_config(&mut self, body: &[u8], now: Now) -> Result<(), CallError> {
        let ttl = rows::ttl_items(&self.state);
        let under = self.cluster.settings();
        let r = &self.dynamic.replication;
        let default = RuleSet::default_rule(r.max_replicas, &r.location_labels, &r.isolation_level);
        let consistent = under.rules.get(DEFAULT_GROUP, DEFAULT_ID).is_some_and(|rule| {
            (rule.count, &rule.location_labels, &rule.isolation_level)
                == (default.count, &default.location_labels, &default.isolation_level)
        });
        let only_default = self.state.rules.len() <= 1;
        let context = update::Context {
            rules: Some(update::RulesSummary { only_default, default_consistent: consistent }),
            has_tiflash: self.state.stores.values().any(|s| s.is_tiflash() && s.state != StoreState::Tombstone),
            member_urls: &[],
            ttl: &ttl,
            now: now.wall,
        };
        let update = update::post_config(&self.dynamic, body, &context)?;
        let next = &update.next;
        if next.cluster_version != self.dynamic.cluster_version {
            self.propose(&Command::SetClusterVersion { version: next.cluster_version.clone() }, now)?;
        }
        self.propose(&Command::SaveDynamicConfig { json: next.to_json()? }, now)?;
        if update.default_rule.is_some() {
            let rules = keyspace::default_rules(&update.next.replication);
            self.put_rules(rules, vec![], now)?;
        }
        for (id, limits) in &update.store_limits {
            self.set_limit(*id, LimitKind::AddPeer, limits.add_peer, now)?;
            self.set_limit(*id, LimitKind::RemovePeer, limits.remove_peer, now)?;
        }
        Ok(())
    }

    /// Changes configuration items for a time: what `POST /config?ttlSecond=N` does.
    pub fn post_ttl_config(&mut self, body: &[u8], seconds: u64, now: Now) -> Result<(), CallError> {
        let old = rows::ttl_items(&self.state);
        let (next, _) = old.post(body, &seconds.to_string(), now.wall)?;
        let set = next
            .iter()
            .map(|(key, value, expires)| (key.to_owned(), Some(meta::TtlItem { value: value.to_owned(), expires })));
        let items = set.collect();
        self.propose(&Command::SaveTtlConfig { items }, now).map(drop)
    }

    /// Sets one limit of a store.
    pub fn set_limit(&mut self, id: StoreId, kind: LimitKind, rate: f64, now: Now) -> Result<(), CallError> {
        self.propose(&Command::SetStoreLimit { id, kind, rate }, now).map(drop)
    }

    /// Writes and deletes placement rules; refused when the rules that would stand then make no set.
    pub fn put_rules(
        &mut self,
        rules: Vec<meta::RuleRow>,
        delete_rules: Vec<(String, String)>,
        now: Now,
    ) -> Result<(), CallError> {
        let mut texts = self.state.rules.clone();
        for key in &delete_rules {
            texts.remove(key);
        }
        for row in &rules {
            texts.insert((row.group.clone(), row.id.clone()), row.json.as_str().into());
        }
        let read = texts.values().map(|json| Ok(Arc::new(rows::rule(json)?)));
        let read: Vec<_> = read.collect::<Result<_, rows::RowError>>()?;
        let stores = self.cluster.stores().snapshot();
        for rule in &read {
            placement::validate::rule(rule, &stores)?;
        }
        let groups = self.state.rule_groups.values().map(|json| rows::rule_group(json));
        RuleSet::new(read, groups.collect::<Result<_, _>>()?)?;
        let command = Command::PutRules { rules, groups: vec![], delete_rules, delete_groups: vec![] };
        self.propose(&command, now).map(drop)
    }

    /// Writes a rule group.
    pub fn put_group(&mut self, id: &str, json: &str, now: Now) -> Result<(), CallError> {
        rows::rule_group(json)?;
        let group = meta::NamedRow { id: id.to_owned(), json: json.to_owned() };
        let command =
            Command::PutRules { rules: vec![], groups: vec![group], delete_rules: vec![], delete_groups: vec![] };
        self.propose(&command, now).map(drop)
    }

    /// Writes a region label rule.
    pub fn put_label_rule(&mut self, id: &str, json: &str, now: Now) -> Result<(), CallError> {
        rows::label_rule(json)?;
        let rule = meta::NamedRow { id: id.to_owned(), json: json.to_owned() };
        self.propose(&Command::PutLabelRules { rules: vec![rule], delete: vec![] }, now).map(drop)
    }

    /// Takes a store's heartbeat in and answers it.
    pub fn store_heartbeat(&self, request: &pdpb::StoreHeartbeatRequest, now: Now) -> pdpb::StoreHeartbeatResponse {
        let refuse = |kind: pdpb::ErrorType, message: String| pdpb::StoreHeartbeatResponse {
            header: Some(pdpb::ResponseHeader {
                cluster_id: CLUSTER.0,
                error: Some(pdpb::Error { r#type: kind as i32, message }),
            }),
            ..Default::default()
        };
        let stats = request.stats.clone().unwrap_or_default();
        let id = StoreId(stats.store_id);
        let known = self.cluster.stores().get(id);
        if known.is_some_and(|s| s.record.state == StoreState::Tombstone) {
            return refuse(pdpb::ErrorType::StoreTombstone, "store is tombstone".into());
        }
        match self.cluster.store_heartbeat(id, convert::store_stats(&stats), now) {
            None => refuse(pdpb::ErrorType::Unknown, format!("store {id} not found")),
            Some(info) => pdpb::StoreHeartbeatResponse {
                cluster_version: self.state.cluster_version.clone().unwrap_or_default().to_string(),
                state: info.record.node_state as i32,
                ..Default::default()
            },
        }
    }

    /// Takes a region's heartbeat in.
    pub fn region_heartbeat(&self, request: &pdpb::RegionHeartbeatRequest, now: Now) -> Result<Vec<Effect>, CallError> {
        let region = convert::region_from_heartbeat(request, now.mono)?;
        let id = region.id();
        let leader = request.leader.as_ref().map_or(StoreId(0), |l| StoreId(l.store_id));
        if self.cluster.stores().get(leader).is_none() {
            return Err(CallError::Text(format!("invalid store ID {leader}, not found")));
        }
        let mut effects = Vec::new();
        if self.bug == Some(Bug::StaleEpochAccepted) {
            effects = self.cluster.drop_region(id, now);
        }
        match self.cluster.region_heartbeat(region, now) {
            Ok(more) => effects.extend(more),
            Err(HeartbeatError::Stale(_)) => return Err(CallError::Text("region is stale".into())),
            Err(error @ (HeartbeatError::Invalid(_) | HeartbeatError::NotLeading)) => {
                return Err(CallError::Text(error.to_string()));
            }
        }
        Ok(effects)
    }

    /// Ids for a split: of each new region first, then of its peers.
    pub fn ask_split(
        &mut self,
        request: &pdpb::AskBatchSplitRequest,
        now: Now,
    ) -> Result<Vec<pdpb::SplitId>, CallError> {
        if self.cluster.settings().schedule.halt_scheduling {
            return Err(CallError::Text("scheduling is halted".into()));
        }
        let peers = request.region.as_ref().map_or(0, |r| r.peers.len());
        let each = peers as u64 + 1;
        let ids = self.take_ids(each * u64::from(request.split_count), now)?;
        let split = |part: &[u64]| pdpb::SplitId { new_region_id: part[0], new_peer_ids: part[1..].to_vec() };
        let split: Vec<_> = ids.chunks_exact(peers + 1).map(split).collect();
        let regions = split.iter().map(|one| one.new_region_id).chain(request.region.as_ref().map(|region| region.id));
        self.cluster.regions_split(regions.map(RegionId).collect(), now);
        Ok(split)
    }

    /// One tick of the deciding code.
    pub fn tick(&mut self, now: Now) -> Result<Vec<Effect>, CallError> {
        if self.ids.left() < ID_WINDOW / 2 {
            self.renew_ids(now)?;
        }
        let mut effects = self.cluster.tick(now);
        effects.extend(self.cluster.tick_schedulers(now));
        Ok(effects)
    }

    /// Carries out what the observed state allows stores to become.
    pub fn settle(&mut self, now: Now) -> Result<(), CallError> {
        let mut found = self.cluster.store_changes(now);
        if self.bug == Some(Bug::BurialWithoutReport) {
            let offline = self.state.stores.values().filter(|s| s.state == StoreState::Offline);
            found.extend(offline.map(|s| StoreChange::Bury(s.id)));
        }
        for change in found {
            match change {
                StoreChange::Serve(id) => self.propose(&Command::ServingStore { id }, now).map(drop)?,
                StoreChange::Bury(id) => {
                    let Some(info) = self.cluster.stores().get(id) else { continue };
                    let heard = info.last_heartbeat_wall;
                    self.propose(&Command::BuryStore { id, force: false, connected: false, heard }, now)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the records of Tombstone stores on which no region is known.
    pub fn remove_tombstones(&mut self, now: Now) -> Result<(), CallError> {
        let gone: Vec<_> =
            self.state.stores.values().filter(|s| s.state == StoreState::Tombstone).map(|s| s.id).collect();
        for id in gone {
            if self.cluster.regions().summary(id).region_count == 0 {
                self.propose(&Command::RemoveTombstone { id }, now)?;
            }
        }
        Ok(())
    }

    /// What the region cache would write.
    pub fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::CacheRegion(region) => _ = self.cache.insert(region.id(), Arc::clone(region)),
            Effect::ForgetRegion(id) => _ = self.cache.remove(id),
            Effect::Send(_) | Effect::Tell(_) => {}
        }
    }

    /// The process ends and another one starts on the same files: what is observed is gone but for the region cache.
    pub fn restart(&mut self, with_cache: bool, now: Now) -> Result<(), CallError> {
        if !with_cache {
            self.cache.clear();
        }
        let under = settings::build(&self.state, &self.dynamic, &self.berth, &Logger::none(), now.wall);
        self.cluster = Cluster::new(under, self.ids.clone(), now);
        // The rest of the window is lost with the process.
        self.renew_ids(now)?;
        for record in self.state.stores.values() {
            self.cluster.put_store(Arc::clone(record), now);
        }
        for (id, limits) in self.state.limits.iter() {
            self.cluster.set_limits(*id, *limits, now);
        }
        for region in self.cache.values() {
            self.cluster.load_region(Region { heard: None, ..Region::clone(region) });
        }
        self.rebuild_settings(now);
        self.rebuild_schedulers(now);
        Ok(())
    }
}

/// Limits that hold nothing back.
const NO_LIMITS: StoreLimits = StoreLimits { add_peer: UNLIMITED, remove_peer: UNLIMITED };
