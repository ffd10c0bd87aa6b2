//! One simulated cluster: control plane, nodes, the links between them, and the time that they share.
//!
//! Owns: what happens in one step and in which order, what is lost on the links, what is counted. Must not know: scenarios. Every
//! source of chance is a generator made from the seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    bugs::Bug,
    checks::{At, Broken, Checks, Moment},
    control::{CLUSTER, Control},
    error::CallError,
    plan::{MAX_REGIONS, MAX_STORES, Plan, new_fleet},
    trace::Trace,
};
use crate::{
    api::convert,
    config::Config,
    meta::Change,
    model::{Mono, Now, StoreId, StoreState, Wall},
    proto::pdpb,
    scheduler::{
        effect::{Command, CommandKind, Effect, Event, PeerChange},
        operator::{Operator, Status},
    },
    sim::{Fleet, Incoming, Outgoing},
};

/// The time of one step: what the patrol's interval and the network's delay are together.
pub const STEP: Duration = Duration::from_millis(100);
/// Every so many steps stores are looked at for what they may become.
const SETTLE_STEPS: u64 = 2;
/// Every so many steps temporary settings are looked at for their end.
const SETTINGS_STEPS: u64 = 10;
/// Every so many steps progress figures are fed.
const PROGRESS_STEPS: u64 = 100;
/// When every simulation starts: 2026-01-01 00:00:00 UTC.
const START: Wall = Wall(1_767_225_600_000_000_000);
/// Violations that are kept in words.
const MAX_BROKEN: usize = 20;
/// What is lost between nodes and control plane.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Links {
    /// Commands that do not arrive, per cent.
    pub lose_commands: f64,
    /// Region heartbeats that do not arrive, per cent.
    pub lose_heartbeats: f64,
    /// Store heartbeats that do not arrive, per cent.
    pub lose_reports: f64,
    /// Stores whose messages do not pass at all.
    pub cut: BTreeSet<StoreId>,
}

/// What a run counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Steps.
    pub steps: u64,
    /// Steps in which something happened, and after which everything was checked.
    pub checked: u64,
    /// Operators started.
    pub operators: u64,
    /// Operators ended, by description and status.
    pub ended: BTreeMap<(String, &'static str), u64>,
    /// Commands sent.
    pub commands: u64,
    /// Messages lost on purpose.
    pub lost: u64,
    /// Faults that were made: stops, cuts, splits, leader changes, restarts …
    pub faults: u64,
    /// Stores buried.
    pub burials: u64,
}

impl Tally {
    /// Operators of this description that ended so.
    pub fn ended_as(&self, desc: &str, status: Option<&str>) -> u64 {
        let counts = self.ended.iter().filter(|((d, s), _)| d == desc && status.is_none_or(|status| status == *s));
        counts.map(|(_, n)| n).sum()
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.checked += other.checked;
        self.operators += other.operators;
        self.commands += other.commands;
        self.lost += other.lost;
        self.faults += other.faults;
        self.burials += other.burials;
        for (key, n) in &other.ended {
            *self.ended.entry(key.clone()).or_default() += n;
        }
    }
}

/// See the module's comment.
pub struct World {
    /// The control plane.
    pub control: Control,
    /// The nodes.
    pub fleet: Fleet,
    /// What is lost.
    pub links: Links,
    /// Counts.
    pub tally: Tally,
    now: Now,
    began: Now,
    rng: ChaCha8Rng,
    trace: Trace,
    checks: Checks,
    broken: Vec<Broken>,
    bug: Option<Bug>,
    active: bool,
}

impl World {
    /// A cluster with the stores and regions of `plan`, all connected, at time zero.
    ///
    /// # Errors
    /// A plan without stores, one that is too large, or what the control plane says against it.
    pub fn new(plan: &Plan, config: &Config, bug: Option<Bug>) -> Result<Self, CallError> {
        let now = Now { mono: Mono(0), wall: START };
        let regions: u64 = plan.regions.iter().map(|r| r.count).sum();
        if plan.stores.is_empty() || regions == 0 {
            return Err(CallError::Text("a world needs at least one store and one region".into()));
        }
        if plan.stores.len() as u64 > MAX_STORES || regions > MAX_REGIONS {
            return Err(CallError::Text(format!("at most {MAX_STORES} stores and {MAX_REGIONS} regions")));
        }
        let mut config = config.clone();
        if !plan.schedulers {
            config.schedule.schedulers_v2.iter_mut().for_each(|entry| entry.disable = true);
        }
        let control = Control::new(&config, bug, now)?;
        let fleet = new_fleet(plan, now)?;
        let mut world = Self {
            control,
            fleet,
            links: Links::default(),
            tally: Tally::default(),
            now,
            began: now,
            rng: ChaCha8Rng::seed_from_u64(plan.seed.wrapping_add(1)),
            trace: Trace::default(),
            checks: Checks::default(),
            broken: Vec::new(),
            bug,
            active: true,
        };
        if let Some(request) = world.fleet.bootstrap() {
            world.control.bootstrap(&request, now)?;
        }
        for request in world.fleet.put_stores() {
            world.control.put_store(&request.store.unwrap_or_default(), now)?;
        }
        for id in plan.stores.keys() {
            world.fleet.receive(Incoming::Connected { store: *id }, now);
        }
        world.take_changes();
        Ok(world)
    }

    /// The present.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.mono.since(self.began.mono)
    }

    /// What happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What did not hold; the first ones.
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// How often each check was asked.
    pub fn check_counts(&self) -> BTreeMap<&'static str, u64> {
        self.checks.counts()
    }

    /// Writes a line of the scenario into the trace.
    pub fn tell(&mut self, text: &str) {
        self.active = true;
        self.trace.line(self.elapsed(), text);
    }

    /// A call on the control plane; its changes are checked at once.
    pub fn call<R>(&mut self, f: impl FnOnce(&mut Control, Now) -> Result<R, CallError>) -> Result<R, CallError> {
        let result = f(&mut self.control, self.now);
        self.active = true;
        self.take_changes();
        result
    }

    /// Carries out what a call has decided.
    pub fn act(&mut self, effects: Vec<Effect>) {
        self.carry_out(effects);
    }

    /// The control plane's process ends and starts again.
    pub fn restart(&mut self, with_cache: bool) -> Result<(), CallError> {
        self.control.restart(with_cache, self.now)?;
        self.fault("restart");
        self.notice(&Moment::Restarted { with_cache });
        for store in self.fleet.view().stores.iter().filter(|s| s.up && !s.buried) {
            self.fleet.receive(Incoming::Disconnected { store: store.id }, self.now);
            if !self.links.cut.contains(&store.id) {
                self.fleet.receive(Incoming::Connected { store: store.id }, self.now);
            }
        }
        self.take_changes();
        Ok(())
    }

    /// A fault was made.
    pub fn fault(&mut self, text: &str) {
        self.tally.faults += 1;
        self.tell(text);
    }

    /// Cuts a store's link, or mends it.
    pub fn set_cut(&mut self, store: StoreId, cut: bool) {
        let now = self.now;
        if cut && self.links.cut.insert(store) {
            self.fleet.receive(Incoming::Disconnected { store }, now);
        } else if !cut && self.links.cut.remove(&store) {
            self.fleet.receive(Incoming::Connected { store }, now);
        }
    }

    /// One step of time.
    pub fn step(&mut self) {
        self.tally.steps += 1;
        let steps = self.tally.steps;
        for message in self.fleet.step(self.now) {
            self.deliver(message);
        }
        match self.control.tick(self.now) {
            Ok(effects) => self.carry_out(effects),
            Err(error) => self.break_rule("no_error", format!("tick: {error}")),
        }
        if steps.is_multiple_of(SETTLE_STEPS)
            && let Err(error) = self.control.settle(self.now)
        {
            self.break_rule("no_error", format!("settle: {error}"));
        }
        if steps.is_multiple_of(SETTINGS_STEPS) {
            let before = Now { wall: Wall(self.now.wall.0 - nanos(STEP) * SETTINGS_STEPS as i64), ..self.now };
            if self.control.has_ended_settings(before, self.now) {
                self.control.rebuild_settings(self.now);
            }
        }
        if steps.is_multiple_of(PROGRESS_STEPS) {
            self.control.cluster().update_progress(self.now);
        }
        self.take_changes();
        if std::mem::take(&mut self.active) {
            self.tally.checked += 1;
            let at = At {
                now: self.now,
                began: self.began,
                state: self.control.state(),
                control: &self.control,
                fleet: &self.fleet,
            };
            let found = self.checks.after_step(&at);
            self.keep(found);
        }
        self.now = self.now.plus(STEP);
    }

    fn break_rule(&mut self, check: &'static str, text: String) {
        let at = self.elapsed();
        self.keep(vec![Broken { check, text, at }]);
    }

    fn keep(&mut self, found: Vec<Broken>) {
        for broken in found {
            self.trace.line(self.now.mono.since(self.began.mono), &format!("BROKEN {broken}"));
            if self.broken.len() < MAX_BROKEN {
                self.broken.push(broken);
            }
        }
    }

    fn notice(&mut self, moment: &Moment<'_>) {
        self.active = true;
        let at = At {
            now: self.now,
            began: self.began,
            state: self.control.state(),
            control: &self.control,
            fleet: &self.fleet,
        };
        let found = self.checks.on(moment, &at);
        self.keep(found);
    }

    /// Whether a message with this chance (per cent) is lost.
    fn is_lost(&mut self, percent: f64) -> bool {
        let lost = percent > 0.0 && self.rng.random_bool((percent / 100.0).clamp(0.0, 1.0));
        self.tally.lost += u64::from(lost);
        lost
    }

    fn deliver(&mut self, message: Outgoing) {
        let now = self.now;
        match message {
            Outgoing::Region { store, request } => self.deliver_region(store, &request),
            Outgoing::Store { store, request } => {
                if self.links.cut.contains(&store) || self.is_lost(self.links.lose_reports) {
                    return self.fleet.receive(Incoming::Store { store, response: None }, now);
                }
                let regions = request.stats.as_ref().map_or(0, |s| s.region_count);
                let response = self.control.store_heartbeat(&request, now);
                self.trace.numbers(2, &[now.mono.0, store.0, u64::from(regions)]);
                self.notice(&Moment::Reported { store, regions });
                self.fleet.receive(Incoming::Store { store, response: Some(Box::new(response)) }, now);
            }
            Outgoing::AskSplit { region, request, .. } => {
                let ids = self.control.ask_split(&request, now).ok();
                let response = ids.map(|ids| Box::new(pdpb::AskBatchSplitResponse { header: None, ids }));
                self.fleet.receive(Incoming::SplitIds { region, response }, now);
            }
            Outgoing::ReportSplit { .. } | Outgoing::Stop { .. } => self.active = true,
            Outgoing::Start { store } => {
                self.active = true;
                if let Some(record) = self.fleet.record(store).cloned() {
                    // A refusal (the store is Tombstone) reaches the node with its next heartbeat.
                    let _ = self.control.put_store(&record, now);
                }
                if !self.links.cut.contains(&store) {
                    self.fleet.receive(Incoming::Connected { store }, now);
                }
            }
        }
    }

    fn deliver_region(&mut self, store: StoreId, request: &pdpb::RegionHeartbeatRequest) {
        if self.links.cut.contains(&store) || self.is_lost(self.links.lose_heartbeats) {
            return;
        }
        let region = request.region.as_ref();
        let epoch = region.and_then(|r| r.region_epoch).unwrap_or_default();
        let id = region.map_or(0, |r| r.id);
        self.trace.numbers(1, &[self.now.mono.0, store.0, id, epoch.conf_ver, epoch.version, request.term]);
        self.active = true;
        match self.control.region_heartbeat(request, self.now) {
            Ok(effects) => self.carry_out(effects),
            Err(error) => {
                let error = pdpb::Error { r#type: pdpb::ErrorType::Unknown as i32, message: error.to_string() };
                let header = Some(pdpb::ResponseHeader { cluster_id: CLUSTER.0, error: Some(error) });
                let message = Box::new(pdpb::RegionHeartbeatResponse { header, ..Default::default() });
                self.fleet.receive(Incoming::Region { store, message }, self.now);
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.control.note(&effect);
            match effect {
                Effect::Send(command) => self.send(command),
                Effect::Tell(event) => self.take_event(&event),
                Effect::CacheRegion(_) | Effect::ForgetRegion(_) => {}
            }
        }
    }

    fn send(&mut self, mut command: Command) {
        self.tally.commands += 1;
        if let Some(bug) = self.bug {
            self.spoil(bug, &mut command);
        }
        self.trace.line(self.elapsed(), &command_text(&command));
        let region = self.control.cluster().regions().get(command.region);
        self.notice(&Moment::Sent { command: &command, region: region.as_deref() });
        if self.links.cut.contains(&command.store) || self.is_lost(self.links.lose_commands) {
            return;
        }
        let message = Box::new(convert::command_to_wire(&command));
        self.fleet.receive(Incoming::Region { store: command.store, message }, self.now);
    }

    /// The bugs that live between the deciding code and the nodes.
    fn spoil(&self, bug: Bug, command: &mut Command) {
        if !matches!(bug, Bug::TwoPeersOnOneStore | Bug::RemoveBeforeAdd) {
            return;
        }
        let Some(region) = self.control.cluster().regions().get(command.region) else { return };
        let other = region.peers().iter().find(|p| p.role.votes() && Some(p.id) != region.leader).copied();
        let added = match &mut command.kind {
            CommandKind::ChangePeer { change: PeerChange::AddLearnerNode, peer } => Some(peer),
            CommandKind::ChangePeerV2 { changes } => match changes.as_mut_slice() {
                [(PeerChange::AddLearnerNode, peer)] => Some(peer),
                _ => None,
            },
            _ => None,
        };
        let (Some(other), Some(added)) = (other, added) else { return };
        if bug == Bug::TwoPeersOnOneStore {
            added.store = other.store;
        } else {
            command.kind = CommandKind::ChangePeer { change: PeerChange::RemoveNode, peer: other };
        }
    }

    fn take_event(&mut self, event: &Event) {
        match event {
            Event::OperatorAdded { op } => {
                self.tally.operators += 1;
                self.trace.line(self.elapsed(), &format!("add {}", operator_text(op)));
                let region = self.control.cluster().regions().get(op.region);
                self.notice(&Moment::Added { op, region: region.as_deref() });
            }
            Event::OperatorEnded { op, .. } => {
                let status = status_name(op.status);
                *self.tally.ended.entry((op.desc.clone(), status)).or_default() += 1;
                self.trace.line(self.elapsed(), &format!("{status} {}", operator_text(op)));
                self.notice(&Moment::Ended { op });
            }
            _ => {}
        }
    }

    fn take_changes(&mut self) {
        for change in self.control.take_changes() {
            match &change {
                Change::StorePut(record) => {
                    let text = format!("store {} is {}", record.id, record.state.name());
                    self.trace.line(self.elapsed(), &text);
                    self.tally.burials += u64::from(record.state == StoreState::Tombstone);
                }
                Change::IdsTaken(_) => {}
                _ => self.trace.numbers(3, &[self.now.mono.0]),
            }
            self.notice(&Moment::Agreed(&change));
        }
    }
}

fn nanos(d: Duration) -> i64 {
    i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)
}

/// The word for how an operator ended.
pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::Created | Status::Started => "running",
        Status::Success => "success",
        Status::Canceled => "canceled",
        Status::Replaced => "replaced",
        Status::Expired => "expired",
        Status::Timeout => "timeout",
    }
}

/// An operator in one short line, without ids of its own.
pub fn operator_text(op: &Operator) -> String {
    format!("{} region {} {{{}}}", op.desc, op.region, op.brief)
}

fn command_text(command: &Command) -> String {
    let what = match &command.kind {
        CommandKind::TransferLeader { to } => format!("transfer leader to store {}", to.store),
        CommandKind::ChangePeerV2 { changes } => {
            let parts: Vec<_> = changes.iter().map(|(c, p)| format!("{c:?} {} on store {}", p.id, p.store)).collect();
            format!("change [{}]", parts.join(", "))
        }
        CommandKind::ChangePeer { change, peer } => format!("change {change:?} {} on store {}", peer.id, peer.store),
        CommandKind::Split { keys, .. } => format!("split at {} keys", keys.len()),
        CommandKind::Merge { target } => format!("merge into {}", target.id()),
        CommandKind::SwitchWitness { peer, is_witness: true } => format!("make {peer} a witness"),
        CommandKind::SwitchWitness { peer, is_witness: false } => format!("give {peer} data"),
    };
    format!("send region {} store {}: {what}", command.region, command.store)
}
