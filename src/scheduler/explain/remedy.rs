//! What a person can do about each answer.
//!
//! Owns: the sentences, with the call to make. Must not know: how answers come to be. They name PD's routes and keys to the letter.

use super::why::{Group, Why, store_list};
use crate::scheduler::{
    filter::Refusal,
    outcome::{LimitKind, Reason},
};

/// What a person can do; never empty.
pub fn remedy(group: &Group) -> String {
    match &group.why {
        Why::Moving => "nothing: wait for it".to_owned(),
        Why::InLine => "nothing: they are tried in turn".to_owned(),
        Why::OtherOperator => "wait for it, or cancel it: DELETE /pd/api/v1/operators/{region}".to_owned(),
        Why::SnapshotSlow { to } => format!(
            "look at the disk, the network and the log of store {to}; to go on without it, set its add-peer limit to 0 \
             (POST /pd/api/v1/store/{to}/limit {{\"type\":\"add-peer\",\"rate\":0}}) and cancel the operators \
             (DELETE /pd/api/v1/operators/{{region}})"
        ),
        Why::LeaderSilent { store } => format!(
            "bring store {store} back; a region whose other peers are a majority elects another leader by itself and goes on \
             with its next report"
        ),
        Why::WaitingForReport => {
            "wait for the store's next reports; ten minutes after the last region left, the index decides".to_owned()
        }
        Why::Blocked(reason) => of_reason(group, reason),
    }
}

fn of_reason(group: &Group, reason: &Reason) -> String {
    match reason {
        Reason::Halted => "POST /pd/api/v1/config {\"halt-scheduling\": \"false\"}".to_owned(),
        Reason::NotPrepared => {
            "wait: scheduling starts when 90 % of the regions were heard, five minutes after the start at the latest"
                .to_owned()
        }
        Reason::OperatorRunning(_) => "wait for it, or cancel it: DELETE /pd/api/v1/operators/{region}".to_owned(),
        Reason::StoreLimit { store, kind } => raise_limit(&format!("{store}"), *kind),
        Reason::ScheduleLimit(limit) => {
            let key = limit.key();
            format!(
                "operators end and make room; to have more at once: POST /pd/api/v1/config {{\"{key}\": N}} with a higher N"
            )
        }
        Reason::NoTarget { .. } | Reason::TargetBusy { .. } => of_filters(group),
        Reason::NoLeaderTarget { rejecting } if !rejecting.is_empty() => format!(
            "take a label of {} out of the label property reject-leader (POST /pd/api/v1/config/label-property \
             {{\"action\":\"delete\",\"type\":\"reject-leader\",\"label-key\":K,\"label-value\":V}}), or {}",
            store_list(rejecting),
            leaders()
        ),
        Reason::NoLeaderTarget { .. } => leaders(),
        Reason::Build(text) if text.contains("leader") => leaders(),
        Reason::NoLeader => {
            "see that a majority of the peers of these regions runs; they elect a leader by themselves".to_owned()
        }
        Reason::PendingPeer(_) => {
            "wait until it has caught up; look at the disk and the log of its store if it does not".to_owned()
        }
        Reason::Denied { rule } => format!(
            "remove the rule when what it protects is over: DELETE /pd/api/v1/config/region-label/rule/{rule}; \
             a rule with a ttl ends by itself"
        ),
        Reason::SwitchedOff(key) => format!("POST /pd/api/v1/config {{\"{key}\": \"true\"}}"),
        Reason::CheckerPaused(name) => {
            let name = name.trim_end_matches("-checker");
            format!("POST /pd/api/v1/checker/{name} {{\"delay\": 0}}")
        }
        Reason::NoId => "nothing: it passes; if it lasts, see whether the members have a leader".to_owned(),
        Reason::Build(_) => {
            "look at the region (GET /berth/v1/regions/{region}/explain) and at the stores of its peers".to_owned()
        }
        Reason::NoRule => "add a placement rule for these keys: POST /pd/api/v1/config/rule".to_owned(),
    }
}

fn leaders() -> String {
    "let another store take leaders: remove evict-leader (DELETE /pd/api/v1/schedulers/evict-leader-scheduler), bring silent or \
     busy stores of these regions back, or change leader rules"
        .to_owned()
}

fn raise_limit(stores: &str, kind: LimitKind) -> String {
    let kind = kind.name();
    format!(
        "it passes by itself; to be faster: POST /pd/api/v1/store/{stores}/limit {{\"type\":\"{kind}\",\"rate\":N}} with a higher N"
    )
}

/// One sentence for each filter that refused something.
fn of_filters(group: &Group) -> String {
    if group.refused.is_empty() {
        return "add a store: every one holds a peer of these regions already".to_owned();
    }
    let one = |(name, stores)| of_filter(name, &store_list(stores));
    group.refused.iter().map(|(name, stores)| one((*name, stores))).collect::<Vec<_>>().join("; ")
}

fn of_filter(name: &str, stores: &str) -> String {
    let is = |refusal: Refusal| refusal.name() == name;
    if is(Refusal::StorageThreshold) {
        format!("free space on {stores}, add a store, or raise low-space-ratio (POST /pd/api/v1/config)")
    } else if is(Refusal::LabelConstraint) {
        format!(
            "give {stores} the labels that the placement rule asks for (POST /pd/api/v1/store/{{id}}/label), add a store that \
             has them, or change the rule (POST /pd/api/v1/config/rule)"
        )
    } else if is(Refusal::Isolation) {
        "add a store in another location, or clear isolation-level (POST /pd/api/v1/config/replicate or the rule)"
            .to_owned()
    } else if is(Refusal::SpecialUse) {
        format!("take the label specialUse off {stores}")
    } else if is(Refusal::Offline) {
        format!(
            "{stores} is being taken out too: add a store, or take that back (POST /pd/api/v1/store/{{id}}/state?state=Up)"
        )
    } else if is(Refusal::Down) || is(Refusal::Disconnected) {
        format!("bring {stores} back, or add a store")
    } else if is(Refusal::Tombstone) {
        "add a store".to_owned()
    } else if is(Refusal::Busy) {
        format!("{stores} asks for less work: it passes by itself")
    } else if is(Refusal::ExceedAddLimit) {
        raise_limit("{id}", LimitKind::AddPeer)
    } else if is(Refusal::ExceedRemoveLimit) {
        raise_limit("{id}", LimitKind::RemovePeer)
    } else if is(Refusal::TooManySnapshots) {
        format!("{stores} has max-snapshot-count snapshots under way: wait, or raise it (POST /pd/api/v1/config)")
    } else if is(Refusal::TooManyPendingPeers) {
        format!("{stores} has max-pending-peer-count peers that lag: wait, or raise it (POST /pd/api/v1/config)")
    } else {
        "add a store".to_owned()
    }
}
