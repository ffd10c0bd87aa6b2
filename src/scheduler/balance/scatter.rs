//! Scattering: people ask for many regions (those of a new table, say) to be spread over all stores at once.
//!
//! Owns: which stores each region of a group gets. A group remembers what it has given to each store; every region takes the
//! stores that have had the least so far, as far as its rules allow. Must not know: who asks, how operators are admitted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    leader::{self, rules_let_lead},
    pick::whole_fit,
    region::{target_refusal, tells_leaders_apart},
    round::Input,
};
use crate::{
    model::{Mono, Peer, PeerId, Region, StoreId, names::desc},
    scheduler::{
        filter::{self, Budget, Choice, Refusal},
        operator::{BuildError, Builder, Kind, Operator, Priority},
        placement::RegionFit,
        view::ClusterView,
    },
    store::{StoreInfo, hot::HotPeers},
};

/// How long a group is remembered after its last region (PD's number).
const KEPT: Duration = Duration::from_secs(3 * 60);
/// Most groups that are remembered: the one that was idle for longest goes first.
const MAX_GROUPS: usize = 1024;

/// What one group has given to each store.
#[derive(Clone, Debug, Default)]
struct Group {
    used: Mono,
    peers: BTreeMap<StoreId, u64>,
    leaders: BTreeMap<StoreId, u64>,
}

/// Why a region is not scattered; PD's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScatterError {
    /// It has no leader.
    #[error("region {0} has no leader")]
    NoLeader(u64),
    /// Its rules are not served, or it changes just now.
    #[error("region {0} is not fully replicated")]
    NotReplicated(u64),
    /// It is hot: moving it would make things worse for whoever uses it.
    #[error("region {0} is a hot region")]
    Hot(u64),
    /// The operator could not be built.
    #[error("{0}")]
    Build(String),
}

/// All groups.
#[derive(Debug, Default)]
pub struct Scatterer {
    groups: BTreeMap<String, Group>,
}

impl Scatterer {
    /// The operator that scatters `region` as one of `group`; `None` when it stands well already.
    ///
    /// # Errors
    /// Why it cannot be scattered.
    pub fn scatter(
        &mut self,
        view: &ClusterView<'_>,
        (budget, hot): (&dyn Budget, &HotPeers),
        region: &Region,
        group: &str,
        skip_store_limit: bool,
    ) -> Result<Option<Operator>, ScatterError> {
        let input = Input { view, budget, hot, name: desc::SCATTER_REGION, cause: None };
        if hot.is_hot(region.id(), view.settings.schedule.hot_region_cache_hits_threshold) {
            return Err(ScatterError::Hot(region.id().0));
        }
        let leader = region.leader_store().ok_or(ScatterError::NoLeader(region.id().0))?;
        let unwell = !region.down.is_empty() || !region.pending.is_empty() || region.meta.in_joint_state();
        let fit = whole_fit(&input, region).ok().filter(|_| !unwell);
        let fit = fit.ok_or(ScatterError::NotReplicated(region.id().0))?;
        self.forget(view.now.mono);
        let given = self.groups.entry(group.to_owned()).or_default();
        given.used = view.now.mono;
        let (targets, moved) = given.places(&input, region, &fit, skip_store_limit);
        let next_leader = given.leader(&input, region, &fit, &targets, leader);
        let choice = moved.or_else(|| given.leader_choice(&input, region, &targets, (leader, next_leader)));
        let mut builder = Builder::new(*view, region, input.name).set_peers(&targets);
        builder = builder.set_leader(next_leader).info("group", group.to_owned());
        builder = builder.info("leader-picked-count", given.led(next_leader).to_string());
        let priority = if skip_store_limit { Priority::Urgent } else { Priority::High };
        let built = match builder.priority(priority).build(Kind::ADMIN) {
            Ok(op) => Some(Operator { choice: choice.map(Box::new), ..op }),
            Err(BuildError::Refused(text)) if text == NO_STEP => None,
            Err(error) => return Err(ScatterError::Build(error.to_string())),
        };
        for store in targets.keys() {
            *given.peers.entry(*store).or_default() += 1;
        }
        *given.leaders.entry(next_leader).or_default() += 1;
        Ok(built)
    }

    /// Drops what was not used for long, and more when there is too much.
    fn forget(&mut self, now: Mono) {
        self.groups.retain(|_, group| now.since(group.used) < KEPT);
        while self.groups.len() >= MAX_GROUPS {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            self.groups.remove(&oldest);
        }
    }
}

/// The builder's word for peers and leader that are as they should be.
const NO_STEP: &str = "no operator step is built";

impl Group {
    fn led(&self, store: StoreId) -> u64 {
        self.leaders.get(&store).copied().unwrap_or(0)
    }

    fn had(&self, store: StoreId) -> u64 {
        self.peers.get(&store).copied().unwrap_or(0)
    }

    /// Where the peers of a region shall be: each stays or goes to the store that has had the least, no two to one store. With it
    /// how the first one's store was chosen, if any moves.
    fn places(
        &self,
        input: &Input<'_>,
        region: &Region,
        fit: &RegionFit,
        skip_store_limit: bool,
    ) -> (BTreeMap<StoreId, Peer>, Option<Choice>) {
        let mut taken: BTreeSet<StoreId> = BTreeSet::new();
        let (mut places, mut first) = (BTreeMap::new(), None);
        for peer in region.peers() {
            let stay = (self.had(peer.store), peer.store);
            let source = input.view.stores.get(&peer.store);
            let free = |s: &&StoreInfo| {
                let Some(source) = source else { return false };
                !taken.contains(&s.id()) && refusal(input, region, fit, source, s, skip_store_limit).is_none()
            };
            let stores = input.view.stores.values().map(AsRef::as_ref);
            let best = stores.filter(free).map(|s| (self.had(s.id()), s.id())).min();
            // Only one peer of a region moves at a time for one rule with locations: the others are its neighbours.
            let leads = region.leader == Some(peer.id) && tells_leaders_apart(fit);
            let place = match best {
                Some(best) if !leads && best.0 < stay.0 && can_move_along(&places, fit, peer) => best.1,
                _ => peer.store,
            };
            if let (true, Some(source)) = (first.is_none() && place != peer.store, source) {
                let judged = input.view.stores.values().map(|s| {
                    let refusal = refusal(input, region, fit, source, s, skip_store_limit);
                    (s.id(), refusal.map_or_else(|| Ok(self.had(s.id()) as f64), Err))
                });
                first = Some(Choice::of(place, judged));
            }
            taken.insert(place);
            let id = if place == peer.store { peer.id } else { PeerId(0) };
            places.insert(place, Peer { id, store: place, ..*peer });
        }
        (places, first)
    }

    /// The voter that shall lead: the one on the store that has had the fewest leaders, the present one if it is as good.
    fn leader(
        &self,
        input: &Input<'_>,
        region: &Region,
        fit: &RegionFit,
        places: &BTreeMap<StoreId, Peer>,
        now: StoreId,
    ) -> StoreId {
        let had = |store: StoreId| (self.led(store), store != now, store);
        let may = |peer: &&Peer| {
            let Some(store) = input.view.stores.get(&peer.store) else { return false };
            let here = peer.store == now || filter::leader_refusal(input.view, store).is_none();
            peer.role.votes() && !peer.is_witness && here && rules_let_lead(input, region, store)
        };
        // Rules that tell the leader from the others were asked about the peers that the region has, not those it will have.
        if tells_leaders_apart(fit) && places.values().any(|p| p.id == PeerId(0)) {
            return now;
        }
        let voters = places.values().filter(may).map(|p| p.store);
        voters.min_by_key(|store| had(*store)).unwrap_or(now)
    }

    /// How the new leader was chosen, if there is one.
    fn leader_choice(
        &self,
        input: &Input<'_>,
        region: &Region,
        places: &BTreeMap<StoreId, Peer>,
        (now, next): (StoreId, StoreId),
    ) -> Option<Choice> {
        let voters = places.values().filter(|p| p.role.votes() && !p.is_witness);
        let stores = voters.filter_map(|p| input.view.stores.get(&p.store)).filter(|s| s.id() != now);
        let judged = stores.map(|s| {
            let refusal = leader::target_refusal(input, region, s);
            (s.id(), refusal.map_or_else(|| Ok(self.led(s.id()) as f64), Err))
        });
        (next != now).then(|| Choice::of(next, judged))
    }
}

/// Whether `peer` may move although others of the region move too: with location labels each move is checked against where the
/// others stand, so that only one may go.
fn can_move_along(places: &BTreeMap<StoreId, Peer>, fit: &RegionFit, peer: &Peer) -> bool {
    let Some(rule) = fit.rule_of(peer.store) else { return false };
    rule.rule.location_labels.is_empty() || places.values().all(|p| p.id != PeerId(0))
}

/// Why the peer of `region` on `source` may not go to `store`. Limits of stores do not count for who asks to pass them.
fn refusal(
    input: &Input<'_>,
    region: &Region,
    fit: &RegionFit,
    source: &StoreInfo,
    store: &StoreInfo,
    skip_store_limit: bool,
) -> Option<Refusal> {
    let refusal = target_refusal(input, region, fit, source, store);
    refusal.filter(|why| *why != Refusal::ExceedAddLimit || !skip_store_limit)
}
