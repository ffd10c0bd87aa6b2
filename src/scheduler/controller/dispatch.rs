//! How running operators go on: by heartbeats, by pushes, by time.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::Controller;
use crate::{
    model::{Mono, Region, RegionId, StoreState},
    scheduler::{
        effect::{Command, CommandKind, DispatchSource, Effect, Event},
        operator::{CancelReason, Kind, Operator, Status, Step, StepError, joint_consensus},
        view::ClusterView,
    },
    store::Liveness,
};

/// How often pushes are looked for, as in PD: commands for silent regions then go out in few batches.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How many operators are pushed in one tick at most, so that a tick stays short; the rest follows in the next.
const PUSHES_A_TICK: usize = 4096;

impl Controller {
    /// A heartbeat of `region` came: checks its operator, sends what is next (source heartbeat).
    pub fn on_heartbeat(&mut self, view: &ClusterView<'_>, region: &Arc<Region>, out: &mut Vec<Effect>) {
        if self.running.contains_key(&region.id()) {
            self.dispatch(view, region, DispatchSource::Heartbeat, out);
        }
    }

    /// Time passed: pushes (source active push), time-outs, expiries, forgets old records.
    pub fn tick(&mut self, view: &ClusterView<'_>, out: &mut Vec<Effect>) {
        if view.now.mono >= self.next_poll {
            self.push_due(view, out);
        }
        self.promote(view, out);
        self.records.forget_old(view.now);
    }

    fn push_due(&mut self, view: &ClusterView<'_>, out: &mut Vec<Effect>) {
        let now = view.now.mono;
        for _ in 0..PUSHES_A_TICK {
            let Some(Reverse((at, region, id))) = self.pushes.peek().copied() else { break };
            if at > now {
                break;
            }
            self.pushes.pop();
            if self.running.get(&region).is_none_or(|op| op.id != id) {
                continue;
            }
            match view.regions.get(region) {
                Some(found) => self.dispatch(view, &found, DispatchSource::ActivePush, out),
                None => self.on_region_gone(view, region, out),
            }
            let again = self.running.get(&region).and_then(|op| op.step()).map(Step::push_interval);
            if let Some(interval) = again {
                self.pushes.push(Reverse((now.plus(interval), region, id)));
            }
        }
        if self.pushes.peek().is_none_or(|Reverse((at, ..))| *at > now) {
            self.next_poll = Mono((now.0 / POLL_INTERVAL.as_nanos() as u64 + 1) * POLL_INTERVAL.as_nanos() as u64);
        }
    }

    /// Lets the region's operator see `region` and do what follows from it.
    pub(super) fn dispatch(
        &mut self,
        view: &ClusterView<'_>,
        region: &Arc<Region>,
        source: DispatchSource,
        out: &mut Vec<Effect>,
    ) {
        let id = region.id();
        let Some(running) = self.running.get_mut(&id) else { return };
        let before = running.current;
        let op = Arc::make_mut(running);
        op.check(region, view.now);
        let op = running.clone();
        self.count_influence(&op, before..op.current, false);
        if source == DispatchSource::Heartbeat {
            self.note_report(&op, before, view.now);
        }
        match (op.status, op.step()) {
            (Status::Started, Some(step)) => {
                if !self.drop_if_stale(view, &op, step, region, out) {
                    if send(view, &op, step, region, source, out) {
                        self.note_sent(&op, view.now);
                    }
                    return;
                }
            }
            (Status::Started | Status::Success | Status::Timeout, _) => self.finish(id, view, out),
            (Status::Created | Status::Canceled | Status::Replaced | Status::Expired, _) => {
                self.remove_with_partner(id, CancelReason::NotInRunningState, view.now, out);
            }
        }
        if source != DispatchSource::Create {
            self.promote(view, out);
        }
    }

    /// Records an operator that ended by itself.
    fn finish(&mut self, region: RegionId, view: &ClusterView<'_>, out: &mut Vec<Effect>) {
        let Some(op) = self.take_out(region) else { return };
        // When a merge is done its source has left the index, and its operator with it. One that is left over has nothing to wait for.
        let partner = op.merges_with();
        self.bury(op, view.now, out);
        self.remove_partner(region, partner, view.now, out);
    }

    /// Cancels an operator whose step is no longer possible, or whose region was changed by somebody else.
    fn drop_if_stale(
        &mut self,
        view: &ClusterView<'_>,
        op: &Operator,
        step: &Step,
        region: &Region,
        out: &mut Vec<Effect>,
    ) -> bool {
        let possible = step.check_in_progress(region).and_then(|()| check_new_store(view, op, step));
        if let Err(error) = possible {
            out.push(Effect::Tell(Event::OperatorStepStale { region: op.region, error }));
            return self.remove_with_partner(op.region, CancelReason::StaleStatus, view.now, out);
        }
        let diff = region.epoch().conf_ver.saturating_sub(op.epoch.conf_ver);
        if diff > op.conf_ver_changed(region) {
            out.push(Effect::Tell(Event::OperatorStale { region: op.region, diff, epoch: region.epoch() }));
            return self.remove_with_partner(op.region, CancelReason::EpochNotMatch, view.now, out);
        }
        false
    }
}

/// Whether the store that is to get a peer is still there, alive, and not about to go: an operator whose leader does not answer may
/// wait for long, and its command must not bring a peer to a store that is buried meanwhile. A person may want one on a store that is
/// being emptied.
fn check_new_store(view: &ClusterView<'_>, op: &Operator, step: &Step) -> Result<(), StepError> {
    let Some(id) = step.new_peer_store() else { return Ok(()) };
    let store = view.stores.get(&id).ok_or(StepError::NoStore)?;
    match store.record.state {
        StoreState::Up => {}
        StoreState::Offline if op.kind.has(Kind::ADMIN) => {}
        StoreState::Offline | StoreState::Tombstone => return Err(StepError::StoreLeaves),
    }
    let down_after = view.settings.schedule.max_store_down_time.get();
    match store.liveness(view.leader_since, view.now.mono, down_after) {
        Liveness::Down => Err(StepError::StoreDown),
        Liveness::Connected | Liveness::Disconnected | Liveness::Unhealthy => Ok(()),
    }
}

/// Sends the step's command to the region's leader, if there is one to send; whether there was.
fn send(
    view: &ClusterView<'_>,
    op: &Operator,
    step: &Step,
    region: &Region,
    source: DispatchSource,
    out: &mut Vec<Effect>,
) -> bool {
    let (desc, step_text) = (op.desc.clone(), step.to_string());
    out.push(Effect::Tell(Event::CommandSent { region: region.id(), desc, step: step_text, source }));
    let kind = match step {
        Step::MergeRegion { to, passive: false, .. } => {
            view.regions.get(*to).map(|target| CommandKind::Merge { target })
        }
        _ => step.command(region, joint_consensus(view.settings)),
    };
    let (Some(kind), Some(leader)) = (kind, region.leader_peer()) else { return false };
    out.push(Effect::Send(Command {
        store: leader.store,
        region: region.id(),
        epoch: region.epoch(),
        target_peer: *leader,
        kind,
    }));
    true
}
