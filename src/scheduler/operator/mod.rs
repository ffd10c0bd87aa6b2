//! Operators: a region, an ordered list of steps, a life cycle.
//!
//! Owns: steps and their commands, kinds, status, PD's text forms, the builder. Must not know: who runs operators
//! (`controller`) or who asks for them (`checker`, `admin`).

pub mod builder;
pub mod kind;
mod leader;
mod plan;
mod shortcuts;
pub mod step;
pub mod step_state;
#[cfg(test)]
pub(crate) mod testing;
mod text;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use builder::{BuildError, Builder, joint_consensus, witnesses};
pub use kind::{Kind, Priority};
pub use step::{PeerAt, Step};
pub use step_state::StepError;

use crate::{
    model::{
        Epoch, Mono, Now, OperatorId, Region, RegionId, StoreId,
        names::{cancel, info},
    },
    scheduler::filter::Choice,
};

/// An operator that was made but not started within this time is not started any more: the world has moved on.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(3);

/// Where an operator is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Made, not started.
    Created,
    /// Running.
    Started,
    /// Done.
    Success,
    /// Ended before it was done.
    Canceled,
    /// Gave way to one of higher priority.
    Replaced,
    /// Not started in time.
    Expired,
    /// Ran out of time.
    Timeout,
}

impl Status {
    /// The number in the object form of an operator.
    pub fn number(self) -> u8 {
        match self {
            Status::Created => 0,
            Status::Started => 1,
            Status::Success => 2,
            Status::Canceled => 3,
            Status::Replaced => 4,
            Status::Expired => 5,
            Status::Timeout => 6,
        }
    }

    /// The word in `GET /operators/{id}`.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created | Status::Started => "RUNNING",
            Status::Success => "SUCCESS",
            Status::Canceled | Status::Expired => "CANCEL",
            Status::Replaced => "REPLACE",
            Status::Timeout => "TIMEOUT",
        }
    }

    /// The end of this word; several have the same.
    pub fn of_word(word: &str) -> Option<Status> {
        let ends = [Status::Success, Status::Canceled, Status::Replaced, Status::Timeout];
        ends.into_iter().find(|status| status.word() == word)
    }

    /// Whether nothing comes after it.
    pub fn is_end(self) -> bool {
        !matches!(self, Status::Created | Status::Started)
    }
}

/// Why an operator was cancelled: PD's texts stand in `model::names`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CancelReason {
    /// `region not found`
    RegionNotFound,
    /// `epoch not match`
    EpochNotMatch,
    /// `already exist`
    AlreadyExist,
    /// `admin stop`
    AdminStop,
    /// `not in running state`
    NotInRunningState,
    /// `timeout`
    Timeout,
    /// `expired`
    Expired,
    /// `not in create status`
    NotInCreateStatus,
    /// `stale status`
    StaleStatus,
    /// `exceed store limit`
    ExceedStoreLimit,
    /// `exceed wait limit`
    ExceedWaitLimit,
    /// `related merge region`
    RelatedMergeRegion,
    /// `start failed`
    StartFailed,
    /// `unknown`
    Unknown,
}

impl CancelReason {
    /// PD's text.
    pub fn name(self) -> &'static str {
        match self {
            CancelReason::RegionNotFound => cancel::REGION_NOT_FOUND,
            CancelReason::EpochNotMatch => cancel::EPOCH_NOT_MATCH,
            CancelReason::AlreadyExist => cancel::ALREADY_EXIST,
            CancelReason::AdminStop => cancel::ADMIN_STOP,
            CancelReason::NotInRunningState => cancel::NOT_IN_RUNNING_STATE,
            CancelReason::Timeout => cancel::TIMEOUT,
            CancelReason::Expired => cancel::EXPIRED,
            CancelReason::NotInCreateStatus => cancel::NOT_IN_CREATE_STATUS,
            CancelReason::StaleStatus => cancel::STALE_STATUS,
            CancelReason::ExceedStoreLimit => cancel::EXCEED_STORE_LIMIT,
            CancelReason::ExceedWaitLimit => cancel::EXCEED_WAIT_LIMIT,
            CancelReason::RelatedMergeRegion => cancel::RELATED_MERGE_REGION,
            CancelReason::StartFailed => cancel::START_FAILED,
            CancelReason::Unknown => cancel::UNKNOWN,
        }
    }
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its id (Berth's own); 0 until the controller takes it.
    pub id: OperatorId,
    /// Description (`replace-rule-offline-peer` …).
    pub desc: String,
    /// The short text in braces.
    pub brief: String,
    /// The region.
    pub region: RegionId,
    /// The epoch it was made for.
    pub epoch: Epoch,
    /// What it touches.
    pub kind: Kind,
    /// Who gives way to whom.
    pub priority: Priority,
    /// Steps in order.
    pub steps: Arc<[Step]>,
    /// The step that is under way; equals `steps.len()` at the end.
    pub current: usize,
    /// Approximate size of the region, MiB.
    pub size_mib: u64,
    /// What each peer that comes or goes costs against a store limit.
    pub move_cost: u64,
    /// When it was made.
    pub created: Now,
    /// When it started.
    pub started: Option<Now>,
    /// When it ended.
    pub ended: Option<Now>,
    /// Status.
    pub status: Status,
    /// How long it may run: the sum of its steps.
    pub timeout: Duration,
    /// When each step was reached.
    pub step_times: Vec<Mono>,
    /// `additional-info`, keys in byte order; `cancel-reason` is set at the end.
    pub info: BTreeMap<String, String>,
    /// How its store was chosen; when it starts its journal takes this over.
    pub choice: Option<Box<Choice>>,
}

impl Operator {
    /// Whether it ends a joint state that it did not begin.
    pub fn only_leaves_joint_state(&self) -> bool {
        let has = |is: fn(&Step) -> bool| self.steps.iter().any(is);
        has(|step| matches!(step, Step::ChangePeerV2Leave { .. }))
            && !has(|step| matches!(step, Step::ChangePeerV2Enter { .. }))
    }

    /// An operator for `region` as it is now, not started. An operator with kind `ADMIN` is urgent, any other medium.
    pub fn new(desc: &str, brief: String, region: &Region, kind: Kind, steps: Vec<Step>, now: Now) -> Self {
        let size_mib = region.size_mib;
        Self {
            id: OperatorId(0),
            desc: desc.to_owned(),
            brief,
            region: region.id(),
            epoch: region.epoch(),
            kind,
            priority: if kind.has(Kind::ADMIN) { Priority::Urgent } else { Priority::default() },
            timeout: steps.iter().map(|s| s.timeout(size_mib)).sum(),
            steps: steps.into(),
            current: 0,
            size_mib,
            // An unknown size must never read as "empty".
            move_cost: if region.size_known { step::move_cost(size_mib) } else { step::FULL_COST },
            created: now,
            started: None,
            ended: None,
            status: Status::Created,
            step_times: Vec::new(),
            info: BTreeMap::new(),
            choice: None,
        }
    }

    /// The step under way.
    pub fn step(&self) -> Option<&Step> {
        self.steps.get(self.current)
    }

    /// The other region, for one half of a merge.
    pub fn merges_with(&self) -> Option<RegionId> {
        self.steps.iter().find_map(|step| match step {
            Step::MergeRegion { from, to, .. } => Some(if *from == self.region { *to } else { *from }),
            _ => None,
        })
    }

    /// Created → Started; false when it is past that.
    pub fn start(&mut self, now: Now) -> bool {
        if self.status != Status::Created {
            return false;
        }
        self.status = Status::Started;
        self.started = Some(now);
        true
    }

    /// Looks at a report of the region: skips the steps that it shows as done, then ends the operator when all are (Success) or
    /// when its time is over (Timeout).
    pub fn check(&mut self, region: &Region, now: Now) {
        if self.status != Status::Started {
            return;
        }
        while self.step().is_some_and(|step| step.is_finish(region)) {
            self.current += 1;
            self.step_times.push(now.mono);
        }
        if self.current == self.steps.len() {
            self.end(Status::Success, "", now);
        } else {
            self.check_timeout(now);
        }
    }

    /// Started → Timeout when its time is over.
    pub fn check_timeout(&mut self, now: Now) {
        if self.status == Status::Started && self.runs_for(now) > self.timeout {
            self.end(Status::Timeout, cancel::TIMEOUT, now);
        }
    }

    /// Whether it waited too long for its start.
    pub fn is_expired(&self, now: Now) -> bool {
        self.status == Status::Created && now.mono.since(self.created.mono) >= EXPIRES_AFTER
    }

    /// Ends it with `status` (one that is an end) unless it has ended; false then.
    pub fn end(&mut self, status: Status, reason: &str, now: Now) -> bool {
        if self.status.is_end() {
            return false;
        }
        self.status = status;
        self.ended = Some(now);
        self.info.insert(info::CANCEL_REASON.to_owned(), reason.to_owned());
        true
    }

    /// Ends it as cancelled.
    pub fn cancel(&mut self, reason: CancelReason, now: Now) -> bool {
        self.end(Status::Canceled, reason.name(), now)
    }

    /// For how long it has run; zero before its start.
    pub fn runs_for(&self, now: Now) -> Duration {
        self.started.map_or(Duration::ZERO, |at| now.mono.since(at.mono))
    }

    /// By how much its steps so far, the one under way included, explain a move of `conf_ver`.
    pub fn conf_ver_changed(&self, region: &Region) -> u64 {
        let upto = (self.current + 1).min(self.steps.len());
        self.steps[..upto].iter().map(|step| step.conf_ver_changed(region)).sum()
    }

    /// The operator's share in what will be moved to or from `store` (for scores), in MiB and counts, by the steps that the
    /// region does not show as done.
    pub fn influence(&self, region: &Region, store: StoreId) -> StoreInfluence {
        let mut sum = StoreInfluence::default();
        for step in self.steps.iter().skip(self.current).filter(|step| !step.is_finish(region)) {
            for (_, part) in step.influence(self.size_mib).into_iter().filter(|(at, _)| *at == store) {
                sum.add(part);
            }
        }
        sum
    }
}

/// What running operators will change on one store. Sizes in MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreInfluence {
    /// Size of regions that come or go.
    pub region_size: i64,
    /// Their number.
    pub region_count: i64,
    /// Size of leaders that come or go.
    pub leader_size: i64,
    /// Their number.
    pub leader_count: i64,
}

impl StoreInfluence {
    /// Adds another share.
    pub fn add(&mut self, other: StoreInfluence) {
        self.region_size = self.region_size.saturating_add(other.region_size);
        self.region_count = self.region_count.saturating_add(other.region_count);
        self.leader_size = self.leader_size.saturating_add(other.leader_size);
        self.leader_count = self.leader_count.saturating_add(other.leader_count);
    }

    /// Takes a share away again.
    pub fn subtract(&mut self, other: StoreInfluence) {
        self.region_size = self.region_size.saturating_sub(other.region_size);
        self.region_count = self.region_count.saturating_sub(other.region_count);
        self.leader_size = self.leader_size.saturating_sub(other.leader_size);
        self.leader_count = self.leader_count.saturating_sub(other.leader_count);
    }
}

#[cfg(test)]
mod tests;
