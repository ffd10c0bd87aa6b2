//! What checks found, under PD's names for it: derived from the operators that were admitted and from the reasons of the others.
//!
//! Owns: the tables from descriptions and reasons to `pd_checker_event_count`, the filter counters and the limit counters. Must not
//! know: how a check works. A healthy region costs nothing here: how many were looked at comes once a round.

use crate::{
    model::Region,
    scheduler::{
        filter::Refusal,
        operator::{CancelReason, Operator},
        outcome::{LimitKind, Reason, ScheduleLimit},
    },
    telemetry::metrics::{Metrics, values::Checker},
};

/// Who filters, as PD calls it.
const SCOPE: &str = "rule-checker";

fn count(metrics: &Metrics, checker: Checker, name: &str, times: u64) {
    metrics.patrol.event.with_label_values(&[checker.as_str(), name]).inc_by(times);
}

/// A round of the patrol has looked at so many regions; each passes both checkers.
pub(super) fn round(metrics: &Metrics, regions: u64) {
    for checker in [Checker::JointState, Checker::Rule] {
        count(metrics, checker, "check", regions);
    }
}

/// The event for an operator of a checker, by its description.
fn event_of(desc: &str) -> Option<(Checker, &'static str)> {
    let name = match desc {
        "leave-joint-state" => return Some((Checker::JointState, "new-operator")),
        "add-rule-peer" => "add-rule-peer",
        "replace-rule-down-peer" | "replace-rule-down-leader-peer" => "replace-down",
        "replace-rule-offline-peer" | "replace-rule-offline-leader-peer" => "replace-offline",
        "fix-peer-role" => "fix-peer-role",
        "fix-leader-role" => "fix-leader-role",
        "fix-follower-role" => "fix-follower-role",
        "fix-demote-voter" => "demote-voter-role",
        "move-to-better-location" => "move-to-better-location",
        "remove-orphan-peer" | "remove-unhealthy-orphan-peer" => "remove-orphan-peer",
        "replace-down-peer-with-orphan-peer" | "remove-replaced-orphan-peer" => "replace-orphan-peer",
        _ => return None,
    };
    Some((Checker::Rule, name))
}

/// An operator was admitted.
pub(super) fn admitted(metrics: &Metrics, op: &Operator) {
    if let Some((checker, name)) = event_of(&op.desc) {
        count(metrics, checker, name, 1);
    }
}

/// An operator has ended; one that a store limit refused is counted as that.
pub(super) fn ended(metrics: &Metrics, op: &Operator) {
    if op.info.get("cancel-reason").is_some_and(|why| why == CancelReason::ExceedStoreLimit.name()) {
        metrics.operators.exceeded_store_limit.with_label_values(&[&op.desc]).inc();
    }
}

/// A check found something that cannot be mended now.
pub(super) fn blocked(metrics: &Metrics, region: &Region, missing: bool, reason: &Reason) {
    match reason {
        Reason::NoTarget { refused } | Reason::TargetBusy { refused } => {
            count(metrics, Checker::Rule, if missing { "no-store-add" } else { "no-store-replace" }, 1);
            for (filter, stores) in refused {
                for store in stores {
                    // A store that has a peer can only be asked to give it away, but for the filter that says just this.
                    let gives = region.meta.peer_on(*store).is_some() && *filter != Refusal::Excluded.name();
                    let family = if gives { &metrics.patrol.source_filter } else { &metrics.patrol.target_filter };
                    family.with_label_values(&[SCOPE, filter, &store.to_string()]).inc();
                }
            }
        }
        Reason::StoreLimit { store, kind } => {
            let (family, why) = match kind {
                LimitKind::RemovePeer => (&metrics.patrol.source_filter, Refusal::ExceedRemoveLimit),
                LimitKind::AddPeer => (&metrics.patrol.target_filter, Refusal::ExceedAddLimit),
                LimitKind::SendSnapshot => return,
            };
            family.with_label_values(&[SCOPE, why.name(), &store.to_string()]).inc();
        }
        Reason::ScheduleLimit(ScheduleLimit::Replica) => limited(metrics, "replica"),
        Reason::ScheduleLimit(ScheduleLimit::Leader) => limited(metrics, "leader"),
        Reason::Denied { .. } => metrics.operators.label_denied.with_label_values(&["checkers", "deny"]).inc(),
        Reason::NoLeader => count(metrics, Checker::Rule, "region-no-leader", 1),
        Reason::NoLeaderTarget { .. } => count(metrics, Checker::Rule, "no-new-leader", 1),
        Reason::CheckerPaused(name) => {
            let checker = Checker::ALL.iter().find(|c| c.as_str() == name.replace('-', "_"));
            checker.into_iter().for_each(|c| count(metrics, *c, "paused", 1));
        }
        Reason::Build(_) if region.meta.in_joint_state() => {
            count(metrics, Checker::JointState, "create-operator-fail", 1);
        }
        _ => {}
    }
}

fn limited(metrics: &Metrics, name: &str) {
    metrics.operators.limit.with_label_values(&[SCOPE, name]).inc();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Peer, RegionMeta, Role, StoreId, testing::shared_file},
        telemetry::metrics::exposition,
    };

    /// The pairs of `pd_checker_event_count` that PD has.
    fn recorded() -> Option<String> {
        let table = shared_file("compat/metrics.tsv")?;
        table.lines().find(|l| l.starts_with("pd_checker_event_count\t")).map(str::to_owned)
    }

    /// The lines of a scrape that begin with these words, after `reasons` were counted.
    fn counted(region: &Region, reasons: &[Reason]) -> Vec<String> {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        reasons.iter().for_each(|reason| blocked(&metrics, region, false, reason));
        let text = exposition(&registry).unwrap();
        let wanted = ["pd_checker_event", "pd_schedule_source", "pd_schedule_target", "pd_schedule_operator_limit"];
        let is_wanted = |l: &&str| wanted.iter().chain(&["pd_schedule_labeler"]).any(|w| l.starts_with(w));
        text.lines().filter(is_wanted).map(str::to_owned).collect()
    }

    fn region(role: Role) -> Region {
        let meta = RegionMeta { peers: vec![Peer { role, ..Peer::voter(11, 1) }], ..RegionMeta::default() };
        Region { meta: Arc::new(meta), ..Region::default() }
    }

    #[test]
    fn every_event_of_a_checker_is_one_of_pds() {
        let Some(row) = recorded() else { return };
        let source = include_str!("checks.rs").split("#[cfg(test)]").next().unwrap();
        let descs = source.split('"').skip(1).step_by(2);
        let mut seen = 0;
        for (checker, name) in descs.filter_map(event_of) {
            let pairs = row.split(&format!("{}: ", checker.as_str())).nth(1).unwrap().split(" ; ").next().unwrap();
            let pairs = pairs.split('\t').next().unwrap();
            assert!(pairs.split('|').any(|p| p == name), "{checker:?} {name} in {pairs}");
            seen += 1;
        }
        assert!(seen >= 14, "{seen}");
    }

    #[test]
    fn refusals_are_counted_by_filter_and_store() {
        let refused = |filter: Refusal, store| [(filter.name(), vec![StoreId(store)])].into();
        let lines = counted(
            &region(Role::Voter),
            &[
                Reason::NoTarget { refused: refused(Refusal::Isolation, 4) },
                Reason::NoTarget { refused: refused(Refusal::Excluded, 1) },
                Reason::TargetBusy { refused: refused(Refusal::Busy, 1) },
                Reason::StoreLimit { store: StoreId(1), kind: LimitKind::RemovePeer },
                Reason::ScheduleLimit(ScheduleLimit::Replica),
                Reason::Denied { rule: "r".into() },
                Reason::NoLeader,
                Reason::CheckerPaused("rule-checker"),
                Reason::Halted,
            ],
        );
        let want = [
            "pd_checker_event_count{name=\"no-store-replace\",type=\"rule_checker\"} 3",
            "pd_checker_event_count{name=\"paused\",type=\"rule_checker\"} 1",
            "pd_checker_event_count{name=\"region-no-leader\",type=\"rule_checker\"} 1",
            "pd_schedule_labeler_event_counter{event=\"deny\",type=\"checkers\"} 1",
            "pd_schedule_operator_limit{name=\"replica\",type=\"rule-checker\"} 1",
            "pd_schedule_source_filter{scope=\"rule-checker\",source=\"1\",type=\"store-state-busy-filter\"} 1",
            "pd_schedule_source_filter{scope=\"rule-checker\",source=\"1\",type=\"store-state-exceed-remove-limit-filter\"} 1",
            "pd_schedule_target_filter{scope=\"rule-checker\",target=\"1\",type=\"exclude-filter\"} 1",
            "pd_schedule_target_filter{scope=\"rule-checker\",target=\"4\",type=\"isolation-filter\"} 1",
        ];
        assert_eq!(lines, want);
        let joint = counted(&region(Role::IncomingVoter), &[Reason::Build("text".into())]);
        assert_eq!(joint, ["pd_checker_event_count{name=\"create-operator-fail\",type=\"joint_state_checker\"} 1"]);
    }
}
