//! Carries out what deciding code wants done: commands go to streams, events become log lines and metrics, cached regions go to
//! the cache's queue. The only place where an event gets its words.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    api::app::EffectSink,
    model::{Peer, Region},
    pdlog, pdsay,
    scheduler::{
        effect::{Effect, Event},
        operator::{Operator, Status},
    },
    telemetry::log::{Logger, UserData, reflect},
};

use super::{counts, streams::Streams};
use crate::{store::cache::RegionCache, telemetry::metrics::Metrics};

/// See the module's comment.
pub(super) struct Effects {
    /// Where commands go.
    pub(super) streams: Arc<Streams>,
    /// Where lines go.
    pub(super) log: Logger,
    /// What is counted.
    pub(super) metrics: Arc<Metrics>,
    /// What the region cache writes next.
    pub(super) cache: Arc<RegionCache>,
}

impl EffectSink for Effects {
    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(command) => _ = self.streams.send(&command),
                Effect::Tell(event) => self.tell(&event),
                Effect::CacheRegion(region) => self.cache.put(&region),
                Effect::ForgetRegion(id) => self.cache.remove(id),
            }
        }
    }
}

impl Effects {
    fn tell(&self, event: &Event) {
        counts::count(&self.metrics, event);
        let log = &self.log;
        match event {
            Event::OperatorAdded { op } => pdsay!(log, ADD_OPERATOR, op.region, reflect(&op.text()), op.info_text()),
            Event::CommandSent { region, step, source, .. } => {
                pdsay!(log, SEND_SCHEDULE_COMMAND, *region, step, source.name());
            }
            Event::OperatorEnded { op, takes } => self.tell_end(op, *takes),
            Event::OperatorRemoved { op, takes } => {
                pdsay!(log, OPERATOR_REMOVED, op.region, *takes, reflect(&op.text()));
            }
            Event::OperatorStale { region, diff, epoch } => {
                let epoch = format!("{{\"conf_ver\":{},\"version\":{}}}", epoch.conf_ver, epoch.version);
                pdsay!(log, OPERATOR_IS_STALE, *region, *diff, epoch);
            }
            Event::OperatorStepStale { region, error } => {
                pdlog!(log, Info, "operator is stale", "region-id" => *region, "error" => error.to_string());
            }
            Event::OperatorRegionGone { op } => {
                let text = op.text();
                pdlog!(log, Warn, "remove operator because region disappeared", "region-id" => op.region, "operator" => text);
            }
            Event::RegionChanged { origin, region } => {
                if let Some(origin) = origin {
                    self.tell_region(origin, region);
                }
            }
            Event::DownPeerOnConnectedStore { region, peer, seconds } => {
                pdsay!(log, REGION_HAS_DOWN_PEER, *region, peer.id, *seconds, peer.store);
            }
            Event::Prepared { heard, total, timed_out } => {
                if !timed_out {
                    pdsay!(log, PREPARE_CHECKER_FINISHED, *heard, *total);
                }
                pdsay!(log, COORDINATOR_PREPARED);
                pdsay!(log, COORDINATOR_RUNS);
            }
            Event::SchedulerCreated { name } => pdsay!(log, CREATE_SCHEDULER, name, "[]"),
            Event::OperatorWaits { .. }
            | Event::OperatorsTurn { .. }
            | Event::Blocked { .. }
            | Event::SchedulerCounted { .. }
            | Event::SchedulerLimited { .. }
            | Event::SchedulerDenied { .. }
            | Event::PatrolRound { .. } => {}
        }
    }

    fn tell_end(&self, op: &Operator, takes: Duration) {
        let log = &self.log;
        let (text, info) = (reflect(&op.text()), op.info_text());
        match op.status {
            Status::Success => pdsay!(log, OPERATOR_FINISH, op.region, takes, text, info),
            Status::Timeout => pdsay!(log, OPERATOR_TIMEOUT, op.region, takes, text, info),
            Status::Replaced => pdsay!(log, REPLACE_OLD_OPERATOR, op.region, takes, text, info),
            Status::Expired => pdsay!(log, OPERATOR_EXPIRED, op.region, takes, text),
            Status::Canceled | Status::Created | Status::Started => {
                pdsay!(log, OPERATOR_CANCELED, op.region, takes, text, info);
            }
        }
    }

    fn tell_region(&self, origin: &Region, region: &Region) {
        let log = &self.log;
        let (old, new) = (origin.epoch(), region.epoch());
        if old.version != new.version {
            let detail = UserData(key_change(origin, region));
            pdsay!(log, REGION_VERSION_CHANGED, region.id(), detail, old.version, new.version);
        }
        if old.conf_ver != new.conf_ver {
            let detail = peer_change(origin, region);
            pdsay!(log, REGION_CONFVER_CHANGED, region.id(), detail, old.conf_ver, new.conf_ver);
        }
        if let (Some(from), Some(to)) = (origin.leader_store(), region.leader_store())
            && from != to
        {
            pdsay!(log, LEADER_CHANGED, region.id(), from, to);
        }
    }
}

/// `StartKey:{…}, EndKey Changed:{…} -> {…}`
fn key_change(origin: &Region, region: &Region) -> String {
    let part = |name: &str, old: &[u8], new: &[u8]| {
        let (old_hex, new_hex) = (hex::encode_upper(old), hex::encode_upper(new));
        if old == new {
            format!("{name}:{{{old_hex}}}")
        } else {
            format!("{name} Changed:{{{old_hex}}} -> {{{new_hex}}}")
        }
    };
    let (old, new) = (origin.range(), region.range());
    format!("{}, {}", part("StartKey", &old.start, &new.start), part("EndKey", &old.end, &new.end))
}

/// `Remove peer:{…},Add peer:{…}`: a peer whose role changed is removed and added.
fn peer_change(origin: &Region, region: &Region) -> String {
    let (old, new): (BTreeSet<Peer>, BTreeSet<Peer>) =
        (origin.peers().iter().copied().collect(), region.peers().iter().copied().collect());
    let removed =
        origin.peers().iter().filter(|p| !new.contains(p)).map(|p| format!("Remove peer:{{{}}}", peer_text(p)));
    let added = region.peers().iter().filter(|p| !old.contains(p)).map(|p| format!("Add peer:{{{}}}", peer_text(p)));
    removed.chain(added).collect::<Vec<_>>().join(",")
}

/// A peer as protobuf prints it in one line: `id:9008 store_id:6 role:Learner `.
fn peer_text(peer: &Peer) -> String {
    let role = if peer.role as u8 == 0 { String::new() } else { format!("role:{} ", peer.role.name()) };
    let witness = if peer.is_witness { "is_witness:true " } else { "" };
    format!("id:{} store_id:{} {role}{witness}", peer.id, peer.store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, KeyRange, RegionId, RegionMeta, Role};

    fn region(conf_ver: u64, peers: Vec<Peer>, end: &[u8]) -> Region {
        let meta = RegionMeta {
            id: RegionId(3082),
            range: KeyRange::new(&b""[..], end),
            epoch: Epoch::new(conf_ver, 1),
            peers,
        };
        Region { meta: Arc::new(meta), ..Region::default() }
    }

    #[test]
    fn changes_read_as_pd_writes_them() {
        let (old, mut new) = (Peer::voter(3080, 2), Peer::learner(9008, 6));
        let before = region(2, vec![Peer::voter(1, 1), old, new], b"");
        let demoting = Peer { role: Role::DemotingVoter, ..old };
        new.role = Role::IncomingVoter;
        let after = region(4, vec![Peer::voter(1, 1), demoting, new], &[0x72, 0xFB]);
        assert_eq!(
            peer_change(&before, &after),
            "Remove peer:{id:3080 store_id:2 },Remove peer:{id:9008 store_id:6 role:Learner },\
             Add peer:{id:3080 store_id:2 role:DemotingVoter },Add peer:{id:9008 store_id:6 role:IncomingVoter }"
        );
        assert_eq!(key_change(&before, &after), "StartKey:{}, EndKey Changed:{} -> {72FB}");
    }
}
