//! What every handler shares, and the changes that gRPC and REST both ask for.
//!
//! Owns: [`App`], the steps of a change (check, propose to `meta`, log line), the seams to what the shell does. Must not know:
//! the protocol of the caller, tasks, sockets. Observers of `meta` (wired by the shell) bring what was agreed into the cluster
//! before a proposal is answered, so that a caller who reads after writing sees what it wrote.

mod members;
mod scatter;
mod schedulers;

use std::{collections::BTreeMap, sync::Arc, task::Poll, time::Duration};

pub(crate) use scatter::EMPTY as EMPTY_REGIONS;
pub(crate) use schedulers::NOT_FOUND as SCHEDULER_NOT_FOUND;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{convert, error::ApiError, forward::Onward, keyspace, lines};
use crate::{
    config::{Config, Shared},
    meta::{self, Command, Meta, MetaError, Reply},
    model::{Clock, Now, Region, StoreId, StoreLimits, StoreRecord, StoreState},
    proto::{metapb, pdpb},
    scheduler::{
        cluster::{Cluster, HeartbeatError},
        effect::Effect,
        life::StoreChange,
    },
    store::{Changes, StoreInfo},
    telemetry::{log::Logger, metrics::Metrics},
};

/// The release that Berth shows to clients and tools: they compare it with their own.
pub const RELEASE_VERSION: &str = "v8.5.7";
/// The edition beside it.
pub const EDITION: &str = "Community";
/// The kernel type beside it.
pub const KERNEL_TYPE: &str = "Classic";
/// The limits of a new TiFlash store (operators a minute); other stores get `schedule.default-store-limit`.
pub const TIFLASH_LIMITS: StoreLimits = StoreLimits { add_peer: 30.0, remove_peer: 30.0 };

/// How long a caller waits for the disk. (PD's clients give up at about this time.)
pub const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Carries out what deciding code returned: sends commands, writes log lines, counts. Implemented by the shell.
pub trait EffectSink: Send + Sync {
    /// Does all of it, in order. Never blocks: a full queue drops the command, and it is sent again later.
    fn carry_out(&self, effects: Vec<Effect>);
}

/// What a heartbeat stream gets: a command, or the status that ends the stream.
pub type StreamItem = Result<pdpb::RegionHeartbeatResponse, Status>;

/// The open heartbeat streams by store. Implemented by the shell.
pub trait HeartbeatStreams: Send + Sync {
    /// A number for a new stream, higher than all before.
    fn next_stream(&self) -> u64;
    /// Makes `stream` the one that commands for `store` go to, unless a newer one lives.
    fn bind(&self, store: StoreId, stream: u64, queue: &mpsc::Sender<StreamItem>);
    /// Forgets `stream` if commands for `store` go to it.
    fn unbind(&self, store: StoreId, stream: u64);
    /// Grows whenever a store has lost its stream: those that are left should claim their stores again.
    fn losses(&self) -> u64;
}

/// Asks a server that is to become a member who it is. Implemented by the shell.
pub trait PeerProbe: Send + Sync {
    /// Whether the server at one of `urls` says that it is `name` and has no state.
    fn is_blank(&self, name: &str, urls: &[String]) -> BoxFuture<'static, bool>;
}

/// What this process says about itself.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Name of this member.
    pub name: String,
    /// Name of its machine.
    pub host: String,
    /// URLs that clients are told.
    pub client_urls: Vec<String>,
    /// URLs that members are told.
    pub peer_urls: Vec<String>,
    /// Folder of the binary.
    pub deploy_path: String,
    /// See [`RELEASE_VERSION`].
    pub release_version: &'static str,
    /// Commit it was built from; `None` as text when unknown, as PD says it.
    pub git_hash: &'static str,
    /// Branch it was built from.
    pub git_branch: &'static str,
    /// When it was built, `2006-01-02 15:04:05`.
    pub build_time: &'static str,
    /// When it started.
    pub started: Now,
}

impl ServerInfo {
    /// From the configuration and what the build left in its environment.
    pub fn new(config: &Config, started: Now) -> Self {
        let deploy_path = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.display().to_string()));
        Self {
            name: config.name.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            client_urls: urls(&config.advertise_client_urls),
            peer_urls: urls(&config.advertise_peer_urls),
            deploy_path: deploy_path.unwrap_or_default(),
            release_version: RELEASE_VERSION,
            git_hash: option_env!("BERTH_GIT_HASH").unwrap_or("None"),
            git_branch: option_env!("BERTH_GIT_BRANCH").unwrap_or("None"),
            build_time: option_env!("BERTH_BUILD_TIME").unwrap_or("None"),
            started,
        }
    }
}

/// A comma-separated list of URLs.
fn urls(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

/// Waits for what `meta` does, but not for ever: a disk that hangs must not collect callers without bound.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, MetaError>>) -> Result<T, MetaError> {
    let mut work = std::pin::pin!(work);
    // Mostly (timestamps, ids) it is ready at once, and needs no timer.
    if let Poll::Ready(done) = futures::poll!(work.as_mut()) {
        return done;
    }
    tokio::time::timeout(DISK_PATIENCE, work).await.unwrap_or(Err(MetaError::TimedOut))
}

/// What every handler shares. Handlers hold it in an `Arc`.
pub struct App {
    /// What is agreed.
    pub meta: Meta,
    /// What is observed, and what decides.
    pub cluster: Arc<Cluster>,
    /// The configuration that this process was started with.
    pub config: Arc<Config>,
    /// The configuration that can change while running, as agreed.
    pub dynamic: Arc<Shared>,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
    /// Carries out effects; see [`App::act`].
    pub effects: Arc<dyn EffectSink>,
    /// Held from a decision until its effects are out.
    pub order: Mutex<()>,
    /// Heartbeat streams by store.
    pub streams: Arc<dyn HeartbeatStreams>,
    /// The log.
    pub log: Logger,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Where all metrics are registered.
    pub registry: prometheus::Registry,
    /// What this process says about itself.
    pub info: ServerInfo,
    /// Resolved timestamps as stores report them.
    pub min_resolved: MinResolved,
    /// Latest changes of the global configuration.
    pub watch: super::grpc::global_config::Watch,
    /// Passes calls on to the member that leads.
    pub onward: Arc<dyn Onward>,
    /// Asks those that want to become members.
    pub probe: Arc<dyn PeerProbe>,
    /// Cancelled when the end was asked for: from then on it is not ready, but answers.
    pub leaving: CancellationToken,
    /// Cancelled when the server begins to end: open streams end with Unavailable.
    pub closing: CancellationToken,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("name", &self.info.name).finish_non_exhaustive()
    }
}

/// The resolved timestamp of each store, as last reported. Bounded by the number of stores: unknown ones are refused before.
#[derive(Debug, Default)]
pub struct MinResolved(RwLock<BTreeMap<StoreId, u64>>);

impl MinResolved {
    /// Takes a report in.
    pub fn put(&self, store: StoreId, ts: u64) {
        self.0.write().insert(store, ts);
    }

    /// What a store last reported.
    pub fn get(&self, store: StoreId) -> Option<u64> {
        self.0.read().get(&store).copied()
    }

    /// The lowest over `stores`; `None` when one of them has not reported, or there is none.
    pub fn lowest(&self, stores: impl IntoIterator<Item = StoreId>) -> Option<u64> {
        let map = self.0.read();
        stores
            .into_iter()
            .map(|id| map.get(&id).copied())
            .try_fold(None, |low: Option<u64>, ts| Some(Some(low.map_or(ts?, |low| low.min(ts.unwrap_or(low))))))?
    }
}

impl App {
    /// The present.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Why nobody should be sent to this member, if there is a reason: `/health` and gRPC's health say so.
    pub fn unwell(&self) -> Option<String> {
        match (self.meta.failure(), self.meta.leader()) {
            _ if self.leaving.is_cancelled() => Some("SERVER CLOSING".to_owned()),
            (Some(why), _) => Some(why.to_string()),
            _ if self.meta.is_outvoted() => Some("ALARM CORRUPT".to_owned()),
            (None, None) => Some("RAFT NO LEADER".to_owned()),
            (None, Some(_)) => None,
        }
    }

    /// Lets the cluster decide, and carries out what it decided before anything else is decided: the log lines and commands of a
    /// region come in the order in which they were decided, whichever threads its heartbeats and the patrol run on. Heartbeats
    /// have a way of their own, [`App::hear`].
    pub fn act<E>(&self, decide: impl FnOnce(&Cluster) -> Result<Vec<Effect>, E>) -> Result<(), E> {
        let _order = self.order.lock();
        let effects = decide(&self.cluster)?;
        if !effects.is_empty() {
            self.effects.carry_out(effects);
        }
        Ok(())
    }

    /// Takes a region heartbeat in. Only one that leads to something waits for the effects of others.
    pub fn hear(&self, region: Region, now: Now) -> Result<Changes, HeartbeatError> {
        self.cluster.hear(region, now, |decide| {
            let Ok(()) = self.act(|_| Ok::<_, std::convert::Infallible>(decide()));
        })
    }

    /// Refuses on a member that does not lead.
    pub fn require_leader(&self) -> Result<(), ApiError> {
        if self.meta.is_leader() { Ok(()) } else { Err(ApiError::NotLeader) }
    }

    /// Whether the cluster was bootstrapped.
    pub fn is_bootstrapped(&self) -> bool {
        self.meta.state().is_bootstrapped()
    }

    /// Refuses before bootstrap.
    pub fn require_bootstrapped(&self) -> Result<(), ApiError> {
        if self.is_bootstrapped() { Ok(()) } else { Err(ApiError::NotBootstrapped) }
    }

    /// The cluster version as nodes and people see it.
    pub fn cluster_version(&self) -> String {
        self.meta.state().cluster_version.clone().unwrap_or_default().to_string()
    }

    /// A store.
    pub fn store(&self, id: StoreId) -> Result<Arc<StoreInfo>, ApiError> {
        self.cluster.stores().get(id).ok_or(ApiError::StoreNotFound(id))
    }

    /// Proposes a change; returns when it is durable and applied here, or when the disk has not answered for [`DISK_PATIENCE`].
    pub async fn propose(&self, command: Command) -> Result<Reply, ApiError> {
        Ok(in_time(self.meta.propose(command)).await?)
    }

    /// The limits that a store gets when it registers.
    pub fn default_limits(&self, record: &StoreRecord) -> StoreLimits {
        if record.is_tiflash() { TIFLASH_LIMITS } else { self.dynamic.load().schedule.default_store_limit }
    }
}

/// Changes that both gRPC and REST ask for, or that the shell settles.
impl App {
    /// Makes the cluster out of its first store and region, with keyspace 0 and its label rule.
    pub async fn bootstrap(&self, request: &pdpb::BootstrapRequest) -> Result<(), ApiError> {
        let cluster_id = self.meta.cluster_id();
        if self.is_bootstrapped() {
            lines::already_bootstrapped(&self.log, cluster_id);
            return Err(meta::Refusal::AlreadyBootstrapped.into());
        }
        lines::try_to_bootstrap(&self.log, cluster_id, request);
        let (store, region) = convert::check_bootstrap(request, cluster_id)?;
        let limits = self.default_limits(&store);
        let command = meta::Bootstrap {
            store: store.clone(),
            limits,
            region: prost::Message::encode_to_vec(region),
            rules: keyspace::default_rules(&self.dynamic.load().replication),
            label_rules: vec![keyspace::label_rule(keyspace::DEFAULT_ID)],
            keyspaces: vec![keyspace::default_record(self.now().wall)],
        };
        self.propose(Command::Bootstrap(Box::new(command))).await?;
        self.meta.show_id(store.id.0);
        if let Some(region) = self.first_region() {
            self.load_region(region);
        }
        lines::bootstrap_ok(&self.log, cluster_id);
        lines::limit_added(&self.log, store.id);
        Ok(())
    }

    /// The region that the cluster was made with, as not heard yet: it is what there is until a heartbeat comes.
    pub fn first_region(&self) -> Option<Region> {
        let state = self.meta.state();
        // A recovered cluster has none.
        let bootstrapped = |c: &&Arc<meta::Cluster>| c.bootstrapped.is_some() && !c.first_region.is_empty();
        let bytes = &state.cluster.as_ref().filter(bootstrapped)?.first_region;
        let region = <metapb::Region as prost::Message>::decode(bytes.as_slice()).ok()?;
        Some(Region { meta: Arc::new(convert::region_meta(&region)), ..Region::default() })
    }

    /// Puts a region in that was not heard from its leader; whether it was taken. Its ids are in use.
    pub fn load_region(&self, region: Region) -> bool {
        let highest = region.meta.highest_id();
        let taken = self.cluster.load_region(region);
        if taken {
            self.meta.show_id(highest);
        }
        taken
    }

    /// Registers a store, or takes in what a known one says about itself.
    pub async fn put_store(&self, record: StoreRecord) -> Result<Arc<StoreRecord>, ApiError> {
        self.require_bootstrapped()?;
        self.check_labels(&record)?;
        let limits = self.default_limits(&record);
        let reply = self.propose(Command::PutStore { record: Box::new(record), limits }).await?;
        let Reply::StorePut { record, previous } = reply else { return Err(ApiError::unexpected("PutStore")) };
        self.meta.show_id(record.id.0);
        match &previous {
            None => lines::limit_added(&self.log, record.id),
            // DESIGN.md, "bad input": taken as PD takes it, but not in silence.
            Some(old) if old.address != record.address => lines::address_changed(&self.log, old, &record),
            Some(_) => {}
        }
        Ok(record)
    }

    /// Compares the labels that a store would have with `location-labels`: a difference is told, and refused when
    /// `strictly-match-label` is on.
    pub fn check_labels(&self, record: &StoreRecord) -> Result<(), ApiError> {
        let replication = &self.dynamic.load().replication;
        let mut labels: Vec<&str> = record.labels.iter().map(|l| l.key.as_str()).collect();
        let known = self.cluster.stores().get(record.id);
        if let Some(known) = &known {
            labels.extend(known.record.labels.iter().map(|l| l.key.as_str()));
        }
        let has = |key: &str| labels.iter().any(|label| label.eq_ignore_ascii_case(key));
        let refuse =
            |text: String| if replication.strictly_match_label { Err(ApiError::Invalid(text)) } else { Ok(()) };
        for key in replication.location_labels.iter().filter(|key| !has(key)) {
            lines::label_incorrect(&self.log, &meta::proto_text(record), key);
            refuse(format!("label configuration is incorrect, need to specify the key: {key} "))?;
        }
        let located = |key: &str| replication.location_labels.iter().any(|l| l.eq_ignore_ascii_case(key));
        for key in labels.iter().filter(|key| !key.eq_ignore_ascii_case("engine") && !located(key)) {
            lines::label_unknown(&self.log, &meta::proto_text(record), key);
            refuse(format!("key matching the label was not found in the PD, store label key: {key} "))?;
        }
        Ok(())
    }

    /// Begins to take a store out; the log lines come with the change, whether or not the caller waits for it. `force`: its machine is gone, nothing is checked and nothing can be moved off it.
    /// `by`: who asked for it.
    pub async fn offline_store(&self, id: StoreId, force: bool, by: meta::AskedBy) -> Result<(), ApiError> {
        self.require_bootstrapped()?;
        let evict_leader = self.cluster.evict_leader_stores().into_iter().collect();
        let command = Command::OfflineStore {
            id,
            physically_destroyed: force,
            need_up: self.dynamic.load().replication.max_replicas,
            tikv_up_check: !force,
            evict_leader,
        };
        let command = Command::Asked { by, command: Box::new(command) };
        match self.propose(command).await? {
            Reply::Offline { .. } => Ok(()),
            _ => Err(ApiError::unexpected("OfflineStore")),
        }
    }

    /// Takes a removal back; the limits that it changed come back.
    pub async fn up_store(&self, id: StoreId) -> Result<(), ApiError> {
        self.require_bootstrapped()?;
        match self.propose(Command::UpStore { id }).await? {
            Reply::Store { .. } => Ok(()),
            _ => Err(ApiError::unexpected("UpStore")),
        }
    }

    /// Carries out what the observed state allows a store to become (the shell asks for it on each tick and heartbeat). The log lines
    /// come with the change.
    pub async fn settle(&self, change: &StoreChange) -> Result<(), ApiError> {
        let command = match *change {
            StoreChange::Bury(id) => {
                let heard = self.store(id)?.last_heartbeat_wall;
                Command::BuryStore { id, force: false, connected: false, heard }
            }
            StoreChange::Serve(id) => Command::ServingStore { id },
        };
        self.propose(command).await.map(drop)
    }

    /// Removes the records of Tombstone stores; those on which regions are still known stay, and are told.
    pub async fn remove_tombstones(&self) -> Result<(), ApiError> {
        self.require_bootstrapped()?;
        let stores = self.cluster.stores().snapshot();
        let mut failed = vec![];
        for info in stores.values().filter(|s| s.record.state == StoreState::Tombstone) {
            let text = convert::store_text(&convert::store_to_wire(info));
            if self.cluster.regions().summary(info.id()).region_count > 0 {
                lines::skip_tombstone(&self.log, &text);
                failed.push(info.id());
                continue;
            }
            match self.propose(Command::RemoveTombstone { id: info.id() }).await {
                Ok(_) => lines::store_deleted(&self.log, &text),
                Err(error) => {
                    lines::delete_failed(&self.log, &text, &error);
                    failed.push(info.id());
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(ApiError::TombstonesLeft(failed)) }
    }

    /// Sets one limit of a store (operators a minute).
    pub async fn set_limit(&self, id: StoreId, kind: meta::LimitKind, rate: f64) -> Result<(), ApiError> {
        self.require_bootstrapped()?;
        self.propose(Command::SetStoreLimit { id, kind, rate }).await?;
        lines::limit_changed(&self.log, id, convert::limit_name(kind), rate);
        Ok(())
    }

    /// What a store is told with each heartbeat, and every store at registration.
    pub fn replication_status(&self) -> crate::proto::replication_modepb::ReplicationStatus {
        // Majority mode is all zero on the wire; `dr-auto-sync` is not built.
        crate::proto::replication_modepb::ReplicationStatus::default()
    }

    /// The store record that a node sends, ready for `meta`.
    pub fn record_of(&self, store: &metapb::Store) -> StoreRecord {
        convert::store_record(store)
    }
}
