//! Storage nodes that do what they are told, on virtual time: they take over where a replayed conversation ends.

use std::{collections::BTreeMap, time::Duration};

use berth::{
    api::{app::StreamItem, convert},
    model::{Clock as _, Region, RegionId, StoreId, StoreState},
    sim::{Fleet, FleetOptions, Incoming, Outgoing, SimRegion},
};
use tokio::sync::mpsc;

use super::{replay::Replay, wire};

/// Most commands that wait for one store: more than a drain has regions.
const QUEUE: usize = 4096;
/// Time between two ticks of the patrol, as PD has it by default.
const STEP: Duration = Duration::from_millis(10);

/// See the module's comment.
pub(crate) struct Nodes {
    fleet: Fleet,
    queues: Vec<(StoreId, mpsc::Receiver<StreamItem>)>,
    /// Commands by region, without those that were only sent again.
    pub(crate) commands: BTreeMap<u64, Vec<String>>,
}

fn simulated(region: &Region) -> SimRegion {
    SimRegion {
        id: region.id(),
        range: region.range().clone(),
        epoch: region.epoch(),
        peers: region.peers().to_vec(),
        leader: region.leader,
        term: region.term,
        size: region.size_mib << 20,
        keys: region.keys,
        waiting: Vec::new(),
    }
}

impl Nodes {
    /// Takes over all stores and regions as the server knows them.
    pub(crate) fn take_over(replay: &mut Replay) -> Self {
        replay.period = STEP;
        let (app, now) = (&replay.server.app, replay.clock.now());
        let stores: Vec<StoreId> = app.cluster.stores().snapshot().keys().copied().collect();
        let regions = app.cluster.regions().scan(&berth::model::KeyRange::default(), usize::MAX);
        let made = regions.iter().map(|r| simulated(r)).collect();
        let mut fleet = Fleet::with_regions(FleetOptions::default(), replay.cluster_id(), &stores, made, now);
        let mut queues = Vec::new();
        for store in stores {
            let (sender, receiver) = mpsc::channel(QUEUE);
            app.streams.bind(store, app.streams.next_stream(), &sender);
            fleet.receive(Incoming::Connected { store }, now);
            queues.push((store, receiver));
        }
        Self { fleet, queues, commands: BTreeMap::new() }
    }

    /// Lets nodes and server work until `store` is buried; `false` when it is not within `patience`.
    pub(crate) async fn drain(&mut self, replay: &mut Replay, store: StoreId, patience: Duration) -> bool {
        let end = replay.clock.moved() + patience;
        while replay.clock.moved() < end {
            replay.advance(replay.clock.moved() + STEP).await;
            self.take_commands(replay);
            for out in self.fleet.step(replay.clock.now()) {
                self.send(replay, out).await;
            }
            let known = replay.server.app.cluster.stores().get(store).expect("the store");
            if known.record.state == StoreState::Tombstone {
                return true;
            }
        }
        false
    }

    /// The voters of a region.
    pub(crate) fn voters(&self, id: u64) -> Vec<u64> {
        let region = self.fleet.region(RegionId(id)).expect("a region");
        region.peers.iter().filter(|p| p.role.votes()).map(|p| p.store.0).collect()
    }

    fn take_commands(&mut self, replay: &Replay) {
        for (store, queue) in &mut self.queues {
            while let Ok(item) = queue.try_recv() {
                let message = item.expect("a command");
                if let Some(shape) = wire::shape(&message) {
                    let told = self.commands.entry(message.region_id).or_default();
                    if told.last() != Some(&shape) {
                        told.push(shape);
                    }
                }
                let store = *store;
                self.fleet.receive(Incoming::Region { store, message: Box::new(message) }, replay.clock.now());
            }
        }
    }

    async fn send(&mut self, replay: &mut Replay, out: Outgoing) {
        match out {
            Outgoing::Region { request, .. } => {
                let (app, now) = (&replay.server.app, replay.clock.now());
                let region = convert::region_from_heartbeat(&request, now.mono).expect("a good report");
                let effects = app.cluster.region_heartbeat(region, now).expect("a report in time");
                app.effects.carry_out(effects);
                self.take_commands(replay);
            }
            Outgoing::Store { store, request } => {
                let answer = replay.pd.store_heartbeat(*request).await.expect("an answer").into_inner();
                assert_eq!(answer.header.as_ref().and_then(|h| h.error.as_ref()), None);
                self.fleet.receive(Incoming::Store { store, response: Some(Box::new(answer)) }, replay.clock.now());
            }
            // The recorded nodes never split a region where a border of labels asks for it: no ids, no split. That must not hold
            // the drain.
            Outgoing::AskSplit { .. } => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }
}
