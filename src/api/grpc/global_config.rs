//! The global configuration: small items that nodes share, with watching from a revision on.
//!
//! Owns: which keys it may touch, the last changes in memory for watchers. The wire's revision is the agreed one plus 1, so that an
//! empty configuration has revision 1 and "watch from what I loaded" misses nothing. Must not know: who observes `meta`; the
//! shell feeds [`Watch::on_change`].

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;

use super::{Answers, header};
use crate::{
    api::{ApiError, App, error::header_error},
    meta::{Change, Command, GlobalConfigChange, GlobalConfigItem, Reply, State},
    proto::pdpb,
};

/// Where items lie when a client names no path.
const DEFAULT_PATH: &str = "/global/config/";
/// The paths that clients use; all else under the same roof is not theirs.
const PATHS: [&str; 2] = ["/global/config", "resource_group"];
/// Most changes kept for watchers. A watcher that is further behind loads anew.
const MAX_KEPT: usize = 1024;
/// Most bytes of values among them.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Most items in one request.
const MAX_ITEMS: usize = 1024;
/// Largest value: etcd refuses requests above 1.5 MiB.
const MAX_VALUE: usize = 1 << 20;

/// One change, for watchers.
#[derive(Clone, Debug)]
struct Event {
    revision: u64,
    key: Arc<str>,
    /// The new value, or the one that was deleted.
    value: Arc<GlobalConfigItem>,
    kind: pdpb::EventType,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    bytes: usize,
    /// Watching from a lower revision would miss changes.
    floor: u64,
    latest: HashMap<Arc<str>, Arc<GlobalConfigItem>>,
}

/// The last changes, and a bell for those who wait for more.
#[derive(Debug)]
pub struct Watch {
    kept: Mutex<Kept>,
    bell: watch::Sender<u64>,
}

impl Watch {
    /// Starts with what is agreed: the items of the newest revision count as its changes.
    pub fn new(state: &State) -> Self {
        let mut kept = Kept { floor: state.global_revision + 1, ..Kept::default() };
        for item in state.global_config.values() {
            let key: Arc<str> = item.key.as_str().into();
            kept.latest.insert(key.clone(), item.clone());
            if item.revision == state.global_revision {
                kept.push(Event { revision: item.revision + 1, key, value: item.clone(), kind: pdpb::EventType::Put });
            }
        }
        Self { kept: Mutex::new(kept), bell: watch::Sender::new(state.global_revision + 1) }
    }

    /// Takes a change of the agreed state in; others than of the global configuration are passed over.
    pub fn on_change(&self, change: &Change) {
        let Change::GlobalConfig { key, item, revision } = change else { return };
        let (revision, key) = (revision + 1, Arc::<str>::from(key.as_str()));
        let mut kept = self.kept.lock();
        let event = match item {
            Some(item) => {
                kept.latest.insert(key.clone(), item.clone());
                Some(Event { revision, key, value: item.clone(), kind: pdpb::EventType::Put })
            }
            None => {
                let old = kept.latest.remove(&key);
                old.map(|value| Event { revision, key, value, kind: pdpb::EventType::Delete })
            }
        };
        if let Some(event) = event {
            kept.push(event);
        }
        drop(kept);
        self.bell.send_replace(revision);
    }

    /// The changes from revision `from` on whose key starts with `prefix`; or, when some are gone, the lowest revision that is left.
    fn since(&self, from: u64, prefix: &str) -> Result<Vec<Event>, u64> {
        let kept = self.kept.lock();
        if from < kept.floor {
            return Err(kept.floor);
        }
        let first = kept.events.partition_point(|e| e.revision < from);
        Ok(kept.events.range(first..).filter(|e| e.key.starts_with(prefix)).cloned().collect())
    }
}

impl Kept {
    fn push(&mut self, event: Event) {
        self.bytes += event.value.value.len();
        self.events.push_back(event);
        while self.events.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES {
            let Some(gone) = self.events.pop_front() else { break };
            self.bytes -= gone.value.value.len();
            self.floor = self.floor.max(gone.revision + 1);
        }
    }
}

/// Joins a path and a name as a file system does: double slashes and `.` vanish, `..` takes a part back.
fn join(path: &str, name: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, parts.join("/"))
}

/// The path of a request; refuses what is not of the global configuration.
fn path_of(path: &str) -> Result<&str, ApiError> {
    let path = if path.is_empty() { DEFAULT_PATH } else { path };
    let clean = join(path, "");
    let inside = |root: &str| clean.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if PATHS.iter().any(|root| inside(root)) {
        return Ok(path);
    }
    Err(ApiError::Argument(format!("global config path {path:?} is not allowed")))
}

/// The key of an item: it may not climb out of the allowed paths.
fn key_of(path: &str, name: &str) -> Result<String, ApiError> {
    let key = join(path, name);
    path_of(&key)?;
    Ok(key)
}

fn too_many(count: usize) -> ApiError {
    ApiError::Argument(format!("too many items: {count}, the most is {MAX_ITEMS}"))
}

/// `StoreGlobalConfig`: all changes or none.
pub(super) async fn store(
    app: &App,
    request: pdpb::StoreGlobalConfigRequest,
) -> Result<pdpb::StoreGlobalConfigResponse, ApiError> {
    app.require_leader()?;
    let path = path_of(&request.config_path)?;
    if request.changes.len() > MAX_ITEMS {
        return Err(too_many(request.changes.len()));
    }
    let mut changes = Vec::with_capacity(request.changes.len());
    for change in &request.changes {
        let key = key_of(path, &change.name)?;
        // Old clients fill `value`, newer ones `payload`.
        let value = if change.payload.is_empty() { change.value.as_bytes() } else { &change.payload };
        if value.len() > MAX_VALUE {
            return Err(ApiError::Argument(format!("value of {} bytes, the most is {MAX_VALUE}", value.len())));
        }
        let value = (change.kind() == pdpb::EventType::Put).then(|| value.to_vec());
        changes.push(GlobalConfigChange { key, value });
    }
    if changes.is_empty() {
        return Ok(pdpb::StoreGlobalConfigResponse::default());
    }
    match app.propose(Command::ChangeGlobalConfig { changes }).await? {
        Reply::Revision(_) => Ok(pdpb::StoreGlobalConfigResponse::default()),
        _ => Err(ApiError::unexpected("StoreGlobalConfig")),
    }
}

/// `LoadGlobalConfig`: the named items, or all under the path, with the revision to watch from.
pub(super) async fn load(
    app: &App,
    request: pdpb::LoadGlobalConfigRequest,
) -> Result<pdpb::LoadGlobalConfigResponse, ApiError> {
    let path = path_of(&request.config_path)?;
    // In this order: a state that was read before this member was found to lead is not another leader's past (L6).
    let state = app.meta.state();
    app.require_leader()?;
    let payload = |item: &GlobalConfigItem| prost::bytes::Bytes::copy_from_slice(&item.value);
    if request.names.is_empty() {
        let under = state.global_config.range(path.to_owned()..).take_while(|(key, _)| key.starts_with(path));
        let items = under.map(|(key, item)| pdpb::GlobalConfigItem {
            name: key.clone(),
            payload: payload(item),
            ..Default::default()
        });
        let revision = i64::try_from(state.global_revision + 1).unwrap_or(i64::MAX);
        return Ok(pdpb::LoadGlobalConfigResponse { items: items.collect(), revision });
    }
    if request.names.len() > MAX_ITEMS {
        return Err(too_many(request.names.len()));
    }
    let mut items = Vec::with_capacity(request.names.len());
    for name in request.names {
        let item = state.global_config.get(&key_of(path, &name)?);
        let missing = || header_error(pdpb::ErrorType::GlobalConfigNotFound, format!("key {name} not found"));
        items.push(pdpb::GlobalConfigItem {
            payload: item.map(|i| payload(i)).unwrap_or_default(),
            error: item.is_none().then(missing),
            name,
            ..Default::default()
        });
    }
    Ok(pdpb::LoadGlobalConfigResponse { items, revision: 0 })
}

/// Where a watcher stands.
struct Watcher {
    app: Arc<App>,
    prefix: String,
    next: u64,
    bell: watch::Receiver<u64>,
}

/// `WatchGlobalConfig`: changes from a revision on (0: from now on), until the client or the server ends.
pub(super) fn watch(
    app: Arc<App>,
    request: &pdpb::WatchGlobalConfigRequest,
) -> Result<Answers<pdpb::WatchGlobalConfigResponse>, Status> {
    let prefix = path_of(&request.config_path).map_err(ApiError::into_status)?.to_owned();
    let mut bell = app.watch.bell.subscribe();
    let now = *bell.borrow_and_update();
    let next = u64::try_from(request.revision).ok().filter(|r| *r > 0).unwrap_or(now + 1);
    let watcher = Watcher { app, prefix, next, bell };
    Ok(Box::pin(futures::stream::unfold(Some(watcher), async |watcher| {
        let mut watcher = watcher?;
        loop {
            let seen = *watcher.bell.borrow_and_update();
            match watcher.app.watch.since(watcher.next, &watcher.prefix) {
                Err(floor) => return Some((Ok(compacted(&watcher, floor)), None)),
                Ok(events) => {
                    watcher.next = watcher.next.max(seen + 1).max(events.last().map_or(0, |e| e.revision + 1));
                    if let Some(last) = events.last() {
                        let answer = changed(&watcher.app, &events, last.revision);
                        return Some((Ok(answer), Some(watcher)));
                    }
                }
            }
            let closing = watcher.app.closing.clone();
            tokio::select! {
                biased;
                () = closing.cancelled() => return Some((Err(header::closing()), None)),
                rung = watcher.bell.changed() => rung.ok()?,
            }
        }
    })))
}

fn compacted(watcher: &Watcher, floor: u64) -> pdpb::WatchGlobalConfigResponse {
    let text =
        format!("required watch revision: {} is smaller than current compact/min revision {floor}.", watcher.next);
    header::refusal(&watcher.app, header_error(pdpb::ErrorType::DataCompacted, text))
}

fn changed(app: &App, events: &[Event], revision: u64) -> pdpb::WatchGlobalConfigResponse {
    let changes = events.iter().map(|e| pdpb::GlobalConfigItem {
        name: e.key.to_string(),
        payload: prost::bytes::Bytes::copy_from_slice(&e.value.value),
        kind: e.kind.into(),
        ..Default::default()
    });
    pdpb::WatchGlobalConfigResponse {
        changes: changes.collect(),
        revision: i64::try_from(revision).unwrap_or(i64::MAX),
        header: Some(header::header(app, None)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::collections::BTreeMap;

    use super::*;

    fn put(key: &str, value: &str, revision: u64) -> Change {
        let item = GlobalConfigItem { key: key.into(), value: value.into(), revision };
        Change::GlobalConfig { key: key.into(), item: Some(Arc::new(item)), revision }
    }

    #[test]
    fn names_cannot_climb_out() {
        assert_eq!(join("/global/config/", "x"), "/global/config/x");
        assert_eq!(join("/global/config", "a//./b"), "/global/config/a/b");
        assert_eq!(join("resource_group/settings", ""), "resource_group/settings");
        assert!(key_of(DEFAULT_PATH, "x").is_ok());
        for (path, name) in [("/global/config/", "../../pd/1/leader"), ("/global/config/", "../configx")] {
            assert!(key_of(path, name).is_err(), "{path} {name}");
        }
        assert_eq!(path_of("/pd/").unwrap_err().to_string(), "global config path \"/pd/\" is not allowed");
    }

    #[test]
    fn watchers_see_each_change_once_and_learn_when_some_are_gone() {
        let watch = Watch::new(&State::default());
        watch.on_change(&put("/global/config/a", "1", 1));
        watch.on_change(&put("/other/b", "1", 2));
        watch.on_change(&Change::GlobalConfig { key: "/global/config/a".into(), item: None, revision: 3 });
        let seen = watch.since(1, DEFAULT_PATH).unwrap();
        let seen: Vec<_> = seen.iter().map(|e| (e.revision, e.kind, e.value.value.clone())).collect();
        let one = b"1".to_vec();
        assert_eq!(seen, [(2, pdpb::EventType::Put, one.clone()), (4, pdpb::EventType::Delete, one)]);
        for n in 0..MAX_KEPT as u64 {
            watch.on_change(&put("/global/config/c", "2", 4 + n));
        }
        assert_eq!(watch.since(4, "").unwrap_err(), 5, "the first changes were dropped");
        assert_eq!(watch.since(5, "").unwrap().len(), MAX_KEPT);
        assert_eq!(*watch.bell.borrow(), 4 + MAX_KEPT as u64);
    }

    #[test]
    fn a_watcher_that_loaded_before_a_restart_goes_on() {
        let item = Arc::new(GlobalConfigItem { key: "/global/config/a".into(), value: b"1".to_vec(), revision: 7 });
        let items = BTreeMap::from([(item.key.clone(), item)]);
        let state = State { global_revision: 7, global_config: Arc::new(items), ..State::default() };
        let watch = Watch::new(&state);
        assert_eq!(watch.since(8, "").unwrap().len(), 1, "the revision that a load gave");
        assert_eq!(watch.since(9, "").unwrap().len(), 0);
        assert_eq!(watch.since(7, "").unwrap_err(), 8);
    }
}
