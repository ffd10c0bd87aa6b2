//! Which peer serves which rule.
//!
//! Owns: the best assignment of a region's peers to rules, and what is then missing, misplaced or left over. Must not know:
//! how a lack is mended, limits, time.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use super::labels;
use crate::{
    model::{Peer, PeerId, Region, Rule, RuleRole, StoreId},
    store::StoreInfo,
};

/// How many choices one fit may look at. A region of 9 peers under three rules has fewer than 10,000; with more peers than
/// anyone runs the best choice found so far stands, so that no report can hold the patrol up.
const MAX_CHOICES: usize = 50_000;

/// Peers beyond this many never serve a rule (choices are bit sets of this width).
const MAX_PEERS: usize = 20;

/// The peers that serve one rule.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleFit {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The peers, healthy ones first, then by id.
    pub peers: Vec<Peer>,
    /// Those of `peers` whose role is not the one that the rule asks for.
    pub different_role: Vec<Peer>,
    /// How far apart their stores lie by the rule's location labels.
    pub isolation_score: f64,
}

impl RuleFit {
    /// Whether the rule has all its peers, in the right roles.
    pub fn is_satisfied(&self) -> bool {
        self.peers.len() == self.rule.count as usize && self.different_role.is_empty()
    }

    /// How many peers are missing.
    pub fn missing(&self) -> usize {
        (self.rule.count as usize).saturating_sub(self.peers.len())
    }

    /// Better is greater: more peers, then fewer in the wrong role, then further apart.
    fn compare(&self, other: &RuleFit) -> Ordering {
        self.peers
            .len()
            .cmp(&other.peers.len())
            .then(other.different_role.len().cmp(&self.different_role.len()))
            .then(self.isolation_score.total_cmp(&other.isolation_score))
    }
}

/// How a region's peers serve the rules of its range.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RegionFit {
    /// One for each rule, in the order of the rules.
    pub rules: Vec<RuleFit>,
    /// Peers that serve no rule.
    pub orphans: Vec<Peer>,
}

impl RegionFit {
    /// Whether every rule is satisfied and no peer is left over.
    pub fn is_satisfied(&self) -> bool {
        !self.rules.is_empty() && self.orphans.is_empty() && self.rules.iter().all(RuleFit::is_satisfied)
    }

    /// How many more peers there are than the rules ask for; negative when there are fewer.
    pub fn extra(&self) -> i64 {
        let have = self.orphans.len() + self.rules.iter().map(|r| r.peers.len()).sum::<usize>();
        let wanted: i64 = self.rules.iter().map(|r| i64::from(r.rule.count)).sum();
        i64::try_from(have).unwrap_or(i64::MAX) - wanted
    }

    /// The rule that the peer on `store` serves.
    pub fn rule_of(&self, store: StoreId) -> Option<&RuleFit> {
        self.rules.iter().find(|r| r.peers.iter().any(|p| p.store == store))
    }

    /// Whether the peer on `from` may be replaced by one on `to` without serving its rule worse: constraints hold and the
    /// stores lie as far apart as before. Stores whose peers serve the same role already may always change places.
    pub fn allows_replacing(&self, from: StoreId, to: &StoreInfo, stores: &BTreeMap<StoreId, Arc<StoreInfo>>) -> bool {
        let Some(fit) = self.rule_of(from) else { return false };
        if self.rule_of(to.id()).is_some_and(|target| target.rule.role == fit.rule.role) {
            return true;
        }
        if !labels::matches(&to.record, &fit.rule.constraints) {
            return false;
        }
        let after = fit
            .peers
            .iter()
            .filter_map(|p| if p.store == from { Some(&*to.record) } else { stores.get(&p.store).map(|s| &*s.record) });
        labels::isolation_score(after, &fit.rule.location_labels) >= fit.isolation_score
    }
}

/// Finds the assignment of the region's peers to `rules` that is best rule by rule: the first rule gets as many peers as it can,
/// in as many right roles, as far apart as possible, then the next (PD's order). Of equal assignments the first stands, where
/// healthy peers come before pending and down ones and lower ids before higher: what is left over is what is least worth
/// keeping.
pub fn fit(region: &Region, rules: &[Arc<Rule>], stores: &BTreeMap<StoreId, Arc<StoreInfo>>) -> RegionFit {
    let mut search = Search::new(region, rules, stores);
    search.rule(0);
    search.best()
}

/// Whether the peer's role is the one that a rule asks for.
fn has_role(peer: &Peer, is_leader: bool, role: RuleRole) -> bool {
    match role {
        RuleRole::Voter => peer.role.votes(),
        RuleRole::Leader => is_leader,
        RuleRole::Follower => peer.role.votes() && !is_leader,
        RuleRole::Learner => !peer.role.votes(),
    }
}

/// A depth-first search over choices of peers, rule by rule. Peers are bits.
struct Search<'a> {
    rules: &'a [Arc<Rule>],
    leader: Option<PeerId>,
    peers: Vec<(Peer, Option<&'a StoreInfo>)>,
    /// By rule: the peers that its constraints admit.
    admitted: Vec<u32>,
    /// The choice in hand and the best one so far, by rule.
    best: Vec<Option<RuleFit>>,
    /// Peers that the best choice uses.
    best_used: u32,
    used: u32,
    looked_at: usize,
    done: bool,
}

impl<'a> Search<'a> {
    fn new(region: &'a Region, rules: &'a [Arc<Rule>], stores: &'a BTreeMap<StoreId, Arc<StoreInfo>>) -> Self {
        let mut peers: Vec<_> = region.peers().iter().map(|p| (*p, stores.get(&p.store).map(Arc::as_ref))).collect();
        let ailing = |id| u8::from(region.is_pending(id)) + 2 * u8::from(region.is_down(id));
        peers.sort_by_key(|(p, _)| (ailing(p.id), p.id));
        let admitted = rules
            .iter()
            .map(|rule| {
                let fits =
                    |store: &Option<&StoreInfo>| store.is_some_and(|s| labels::matches(&s.record, &rule.constraints));
                let bits = peers.iter().take(MAX_PEERS).enumerate().filter(|(_, (_, s))| fits(s));
                bits.fold(0, |set, (i, _)| set | 1 << i)
            })
            .collect();
        Self {
            rules,
            leader: region.leader,
            peers,
            admitted,
            best: vec![None; rules.len()],
            best_used: 0,
            used: 0,
            looked_at: 0,
            done: false,
        }
    }

    /// Tries all choices for the rule at `index` and the ones after it; true when the best got better.
    fn rule(&mut self, index: usize) -> bool {
        if self.done {
            return false;
        }
        let Some(rule) = self.rules.get(index) else {
            self.done = self.is_perfect();
            return false;
        };
        let free: Vec<usize> =
            (0..self.peers.len().min(MAX_PEERS)).filter(|i| self.admitted[index] & !self.used & 1 << i != 0).collect();
        let count = free.len().min(rule.count as usize);
        let mut better = false;
        let mut choice: u32 = (1 << count) - 1;
        let end: u32 = 1 << free.len();
        while choice < end && !self.done {
            let picked = free.iter().enumerate().filter(|(bit, _)| choice & 1 << bit != 0);
            let picked = picked.fold(0, |set, (_, peer)| set | 1 << peer);
            better |= self.choice(index, picked);
            if choice == 0 {
                break;
            }
            choice = next_of_same_size(choice);
        }
        better
    }

    /// Tries one choice for the rule at `index`.
    fn choice(&mut self, index: usize, picked: u32) -> bool {
        self.looked_at += 1;
        if self.looked_at > MAX_CHOICES {
            self.done = true;
            return false;
        }
        let fit = self.rule_fit(index, picked);
        let order = self.best[index].as_ref().map_or(Ordering::Greater, |best| fit.compare(best));
        if order == Ordering::Less {
            return false;
        }
        let used = self.used;
        self.used |= picked;
        let better = if order == Ordering::Greater {
            self.best[index] = Some(fit);
            self.best[index + 1..].fill(None);
            if index + 1 == self.rules.len() {
                self.best_used = self.used;
            }
            self.rule(index + 1);
            true
        } else if self.rule(index + 1) {
            self.best[index] = Some(fit);
            true
        } else {
            false
        };
        self.used = used;
        better
    }

    fn rule_fit(&self, index: usize, picked: u32) -> RuleFit {
        let rule = &self.rules[index];
        let chosen = || self.peers.iter().enumerate().filter(move |(i, _)| *i < MAX_PEERS && picked & 1 << i != 0);
        let wrong = |p: &Peer| !has_role(p, Some(p.id) == self.leader, rule.role) || p.is_witness && !rule.is_witness;
        RuleFit {
            rule: Arc::clone(rule),
            peers: chosen().map(|(_, (p, _))| *p).collect(),
            different_role: chosen().map(|(_, (p, _))| *p).filter(wrong).collect(),
            isolation_score: labels::isolation_score(
                chosen().filter_map(|(_, (_, s))| s.map(|s| &*s.record)),
                &rule.location_labels,
            ),
        }
    }

    /// Nothing can be better: no rule looks at locations, each is satisfied, no peer is left over.
    fn is_perfect(&self) -> bool {
        self.best_used.count_ones() as usize == self.peers.len()
            && self.rules.iter().all(|r| r.location_labels.is_empty())
            && self.best.iter().all(|f| f.as_ref().is_some_and(RuleFit::is_satisfied))
    }

    fn best(self) -> RegionFit {
        let rules: Vec<RuleFit> = self.best.into_iter().flatten().collect();
        let serves = |p: &Peer| rules.iter().any(|r| r.peers.iter().any(|q| q.id == p.id && q.store == p.store));
        let orphans = self.peers.iter().map(|(p, _)| *p).filter(|p| !serves(p)).collect();
        RegionFit { rules, orphans }
    }
}

/// The next greater number with as many bits set. `bits` is not 0 and far below the top.
fn next_of_same_size(bits: u32) -> u32 {
    let lowest = bits & bits.wrapping_neg();
    let ripple = bits + lowest;
    ripple | ((bits ^ ripple) / lowest) >> 2
}

#[cfg(test)]
mod tests;
