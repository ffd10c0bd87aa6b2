//! Carries each agreed change across to the observed side, before its proposer is answered: `meta` and `store` do not know each
//! other.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    api::{convert::limit_name, lines},
    config::{BerthConfig, Dynamic, Shared},
    meta::{Change, LimitKind, Meta},
    model::{Clock, NodeState, StoreRecord, StoreState, store::UNLIMITED},
    pdlog, pdsay,
    scheduler::cluster::Cluster,
    telemetry::log::Logger,
};

use super::{
    record::Recorder,
    settings::{self, Kept},
};

/// See the module's comment.
pub(super) struct Observer {
    /// Read for what a change only names.
    pub(super) meta: Meta,
    /// Told of stores, limits, settings.
    pub(super) cluster: Arc<Cluster>,
    /// Published configuration.
    pub(super) dynamic: Arc<Shared>,
    /// `[berth]`
    pub(super) berth: Arc<BerthConfig>,
    /// Rules and labels in force. Held while settings are put together, so that none overtake later ones.
    pub(super) kept: Mutex<Kept>,
    /// The present.
    pub(super) clock: Arc<dyn Clock>,
    /// The log.
    pub(super) log: Logger,
    /// The recording, if this server writes one.
    pub(super) recorder: Option<Arc<Recorder>>,
    /// Notified when who leads is different.
    pub(super) leader_changed: Arc<Notify>,
}

impl Observer {
    /// Takes everything in that is agreed already (at the start, before changes are observed).
    pub(super) fn load(&self) {
        let (state, now) = (self.meta.state(), self.clock.now());
        for record in state.stores.values() {
            self.meta.show_id(record.id.0);
            self.cluster.put_store(Arc::clone(record), now);
        }
        for (id, limits) in state.limits.iter() {
            self.cluster.set_limits(*id, *limits, now);
        }
        self.rebuild_schedulers();
    }

    /// Takes one change in.
    pub(super) fn on_change(&self, change: &Change) {
        let now = self.clock.now();
        match change {
            Change::StorePut(record) => {
                let before = self.cluster.stores().get(record.id);
                self.cluster.put_store(Arc::clone(record), now);
                if let Some(before) = before.filter(|_| self.meta.is_elected()) {
                    self.tell_store(&before.record, record);
                }
            }
            Change::StoreRemoved(id) => self.cluster.remove_store(*id),
            Change::LimitsChanged { id, limits: Some(limits) } => self.cluster.set_limits(*id, *limits, now),
            Change::LimitsChanged { id, limits: None } => self.cluster.remove_limits(*id),
            Change::ConfigChanged(json) => match Dynamic::from_json(json) {
                Ok(dynamic) => {
                    self.dynamic.store(dynamic);
                    self.rebuild_settings();
                    self.rebuild_schedulers();
                }
                Err(error) => {
                    pdlog!(self.log, Error, "the agreed configuration cannot be read", "error" => error.to_string());
                }
            },
            Change::LeaderChanged { is_self, term, .. } => {
                self.follow_leadership(is_self.then_some(*term));
                self.leader_changed.notify_one();
            }
            Change::MemberRemoved(id) if *id == self.meta.member_id() => {
                self.meta.give_up(super::REMOVED);
            }
            Change::SchedulersChanged => self.rebuild_schedulers(),
            Change::TtlConfigChanged { .. } | Change::ClusterVersion(_) => self.rebuild_settings(),
            Change::RulesChanged(rows) => {
                self.change_settings(|kept| kept.change_rules(rows, &self.meta.state(), &self.log));
            }
            Change::LabelRulesChanged(rows) => self.change_settings(|kept| kept.change_labels(rows, &self.log)),
            Change::Bootstrapped(_)
            | Change::DrainPut(_)
            | Change::DrainEnded(_)
            | Change::KeyspacesChanged
            | Change::GlobalConfig { .. }
            | Change::GcMoved(_)
            | Change::TsoWindow(_)
            | Change::IdsTaken(_)
            | Change::MemberPut(_)
            | Change::MemberRemoved(_)
            | Change::Failed(_) => {}
        }
    }

    /// The lines of what becomes of a store, written by the leader when it applies the change and not where it was asked for: who
    /// asked may have given up before the disk answered, and may have been the leader before this one. In such a moment both may tell it.
    fn tell_store(&self, before: &StoreRecord, record: &StoreRecord) {
        let (log, id) = (&self.log, record.id);
        let destroyed = record.physically_destroyed != before.physically_destroyed;
        match (before.state, record.state) {
            (was, StoreState::Offline) if was != StoreState::Offline || destroyed => {
                let regions = self.cluster.regions().summary(id).region_count;
                lines::store_offline(log, record, regions);
                lines::limit_changed(log, id, limit_name(LimitKind::RemovePeer), UNLIMITED);
            }
            (StoreState::Offline, StoreState::Up) => {
                lines::store_up(log, record);
                // They were agreed on together with the record.
                if let Some(limits) = self.meta.state().limits.get(&id) {
                    lines::limit_changed(log, id, limit_name(LimitKind::AddPeer), limits.add_peer);
                    lines::limit_changed(log, id, limit_name(LimitKind::RemovePeer), limits.remove_peer);
                }
            }
            (was, StoreState::Tombstone) if was != StoreState::Tombstone => {
                lines::store_tombstone(log, record, was);
                // They are gone together with its state.
                lines::limit_removed(log, id);
            }
            (StoreState::Up, StoreState::Up)
                if before.node_state == NodeState::Preparing && record.node_state == NodeState::Serving =>
            {
                lines::store_serving(log, record);
            }
            _ => {}
        }
    }

    /// Tells the observed side whether this member leads, and in which term.
    pub(super) fn follow_leadership(&self, leads: Option<u64>) {
        if let Some(term) = leads {
            let now = self.clock.now();
            let keep_heard = self.cluster.copy().is_fresh(now.mono);
            self.cluster.begin_term(keep_heard, now);
            super::records::recall_progress(&self.cluster, &self.meta.state());
            self.cluster.feed().begin_term(term);
        } else if self.cluster.is_leading() {
            self.cluster.end_term(self.clock.now());
        }
    }

    /// Puts the settings together again (also when a temporary value ends).
    pub(super) fn rebuild_settings(&self) {
        self.change_settings(|_| ());
    }

    fn change_settings(&self, change: impl FnOnce(&mut Kept)) {
        let mut kept = self.kept.lock();
        change(&mut kept);
        let now = self.clock.now();
        let (state, dynamic) = (self.meta.state(), self.dynamic.load());
        let settings = kept.settings(&state, &dynamic, &self.berth, now.wall);
        let patrol = settings.schedule.patrol_region_interval;
        if patrol != self.cluster.settings().schedule.patrol_region_interval {
            pdsay!(self.log, PATROL_INTERVAL, patrol.get());
        }
        if let Some(recorder) = &self.recorder {
            recorder.announce(&state, &dynamic);
        }
        self.cluster.set_settings(settings, now);
    }

    /// Puts the list of schedulers together again.
    fn rebuild_schedulers(&self) {
        let (state, dynamic) = (self.meta.state(), self.dynamic.load());
        let specs = settings::schedulers(&state, &dynamic, &self.log);
        if let Some(recorder) = &self.recorder {
            recorder.announce_schedulers(&state, &dynamic);
        }
        self.cluster.set_schedulers(specs, self.clock.now());
    }
}
