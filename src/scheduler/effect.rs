//! What deciding code wants done. The shell sends commands and turns events into log lines and metrics; nothing else does.

use std::{sync::Arc, time::Duration};

use super::{
    operator::{Operator, StepError},
    outcome::{Reason, ScheduleLimit},
};
use crate::model::{Epoch, Key, Peer, PeerId, Region, RegionId, StoreId};

/// A change that a command asks a leader for. Mirrors the fields of `pdpb.RegionHeartbeatResponse`.
#[derive(Clone, PartialEq, Debug)]
pub enum CommandKind {
    /// Make `to` the leader.
    TransferLeader {
        /// The new leader.
        to: Peer,
    },
    /// Change the membership; several changes enter a joint state, none leaves it.
    ChangePeerV2 {
        /// The changes: the peer with its role afterwards.
        changes: Vec<(PeerChange, Peer)>,
    },
    /// Change one peer on a cluster without joint consensus.
    ChangePeer {
        /// What.
        change: PeerChange,
        /// With which peer.
        peer: Peer,
    },
    /// Split.
    Split {
        /// 0 scan, 1 approximate, 2 use keys (`pdpb.CheckPolicy`).
        policy: i32,
        /// Where, for "use keys".
        keys: Vec<Key>,
    },
    /// Make a peer a witness, or one with data.
    SwitchWitness {
        /// Which.
        peer: PeerId,
        /// What it shall be.
        is_witness: bool,
    },
    /// Merge into `target`.
    Merge {
        /// The region that stays.
        target: Arc<Region>,
    },
}

/// `eraftpb.ConfChangeType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerChange {
    /// Add a voter, or promote.
    AddNode,
    /// Remove.
    RemoveNode,
    /// Add a learner, or demote.
    AddLearnerNode,
}

/// A command for the leader of a region, for the newest stream of the leader's store.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// The store to send to.
    pub store: StoreId,
    /// The region.
    pub region: RegionId,
    /// The epoch that it was decided for.
    pub epoch: Epoch,
    /// The leader's peer.
    pub target_peer: Peer,
    /// What to do.
    pub kind: CommandKind,
}

/// Why a command is sent now; PD's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DispatchSource {
    /// `create`
    Create,
    /// `heartbeat`
    Heartbeat,
    /// `active push`
    ActivePush,
}

impl DispatchSource {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            DispatchSource::Create => "create",
            DispatchSource::Heartbeat => "heartbeat",
            DispatchSource::ActivePush => "active push",
        }
    }
}

/// Something to tell: one log line and some metrics each. `op` is the operator as it is then.
#[derive(Clone, Debug)]
pub enum Event {
    /// `add operator`
    OperatorAdded {
        /// The operator.
        op: Arc<Operator>,
    },
    /// `send schedule command`: the step's command was due. As in PD the line is written also when there is nothing to say but
    /// to wait (a new peer that catches up); then no [`Effect::Send`] stands beside it.
    CommandSent {
        /// The region.
        region: RegionId,
        /// The operator's description.
        desc: String,
        /// The step's text.
        step: String,
        /// Why now.
        source: DispatchSource,
    },
    /// An operator came to wait for its turn, for metrics.
    OperatorWaits {
        /// Its description.
        desc: String,
    },
    /// The turn of an operator that waited has come, for metrics.
    OperatorsTurn {
        /// Its description.
        desc: String,
    },
    /// `operator finish`, `operator timeout`, `operator canceled`, `operator expired`, `replace old operator`: by its status.
    OperatorEnded {
        /// The operator.
        op: Arc<Operator>,
        /// Since its start (zero when it never started).
        takes: Duration,
    },
    /// `operator removed`: taken out before it is cancelled.
    OperatorRemoved {
        /// The operator.
        op: Arc<Operator>,
        /// Since its start.
        takes: Duration,
    },
    /// `operator is stale`
    OperatorStale {
        /// The region.
        region: RegionId,
        /// By how much `conf_ver` moved too far.
        diff: u64,
        /// The epoch now.
        epoch: Epoch,
    },
    /// `operator is stale`: the step can no longer be done.
    OperatorStepStale {
        /// The region.
        region: RegionId,
        /// Why.
        error: StepError,
    },
    /// `remove operator because region disappeared`
    OperatorRegionGone {
        /// The operator.
        op: Arc<Operator>,
    },
    /// A region heartbeat changed something worth a line: `leader changed`, `region ConfVer changed`, `region Version changed`.
    RegionChanged {
        /// Before; `None` for a new region.
        origin: Option<Arc<Region>>,
        /// Now.
        region: Arc<Region>,
    },
    /// `region has down peer on connected store`
    DownPeerOnConnectedStore {
        /// The region.
        region: RegionId,
        /// The peer.
        peer: Peer,
        /// For how long, seconds.
        seconds: u64,
    },
    /// `coordinator has finished cluster information preparation`, with the cause before it.
    Prepared {
        /// Regions heard.
        heard: u64,
        /// Regions known.
        total: u64,
        /// Whether the time-out decided.
        timed_out: bool,
    },
    /// A check found something that cannot be mended now.
    Blocked {
        /// The region.
        region: Arc<Region>,
        /// Whether it lacks a peer.
        missing: bool,
        /// Why.
        reason: Reason,
    },
    /// `create scheduler`: one that runs from the start.
    SchedulerCreated {
        /// Its name.
        name: String,
    },
    /// A scheduler's run, for metrics.
    SchedulerCounted {
        /// Which.
        name: &'static str,
        /// What.
        event: &'static str,
    },
    /// A scheduler was not asked because its limit is reached.
    SchedulerLimited {
        /// Which.
        name: &'static str,
        /// The limit.
        limit: ScheduleLimit,
    },
    /// A scheduler left regions alone because a label holds them, for metrics.
    SchedulerDenied {
        /// How many.
        regions: u64,
    },
    /// A patrol round over all regions ended.
    PatrolRound {
        /// How long it took.
        took: Duration,
        /// How many regions were looked at.
        regions: u64,
    },
}

/// One thing to do, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send this.
    Send(Command),
    /// Tell this.
    Tell(Event),
    /// Write the region into the cache on disk.
    CacheRegion(Arc<Region>),
    /// Take the region out of the cache on disk.
    ForgetRegion(RegionId),
}
