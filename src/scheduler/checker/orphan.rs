//! Peers that no rule wants.

use super::{
    Found,
    deny::{Cause, denied},
    joint,
};
use crate::{
    model::{Peer, Region, Role, StoreId},
    scheduler::{
        filter,
        operator::{Builder, Kind},
        outcome::Reason,
        placement::RegionFit,
        view::ClusterView,
    },
};

/// What keeps a peer that serves a rule from being relied upon.
enum Flaw {
    /// Its leader, or Berth, has lost touch with it.
    Lost(Peer),
    /// It lags behind.
    Lagging(Peer),
    /// A rule lacks a peer or has one in the wrong role.
    Unsatisfied,
}

/// Removes a peer that no rule wants, with care: as long as a peer that serves a rule is down, lags or is missing, a left-over
/// peer may be the one that holds the data, so it goes only when another left-over peer stays, or takes the place of the lost one.
pub(super) fn find(view: &ClusterView<'_>, region: &Region, fit: &RegionFit) -> Found {
    if fit.orphans.is_empty() {
        return Ok(None);
    }
    if !view.settings.schedule.enable_remove_extra_replica {
        return Err(Reason::SwitchedOff("enable-remove-extra-replica"));
    }
    denied(view, region, Cause::Repair)?;
    let Some(flaw) = flaw(view, region, fit) else {
        return remove(view, region, "remove-orphan-peer", fit.orphans[0].store);
    };
    if let Flaw::Lost(lost) = flaw
        && let Some(found) = stand_in(view, region, fit, lost)
    {
        return found;
    }
    if let Some((desc, store)) = spare(view, region, fit) {
        return remove(view, region, desc, store);
    }
    match flaw {
        Flaw::Lost(peer) | Flaw::Lagging(peer) => Err(Reason::PendingPeer(peer.id)),
        // The rules come next and mend that.
        Flaw::Unsatisfied => Ok(None),
    }
}

/// The first thing that is wrong with the peers that serve rules.
fn flaw(view: &ClusterView<'_>, region: &Region, fit: &RegionFit) -> Option<Flaw> {
    for rule in &fit.rules {
        if !rule.is_satisfied() {
            return Some(Flaw::Unsatisfied);
        }
        for peer in &rule.peers {
            if region.is_down(peer.id) || is_out_of_touch(view, peer.store) {
                return Some(Flaw::Lost(*peer));
            }
            if region.is_pending(peer.id) {
                return Some(Flaw::Lagging(*peer));
            }
        }
    }
    None
}

/// Puts a healthy left-over peer in the place of one whose store is out of touch.
fn stand_in(view: &ClusterView<'_>, region: &Region, fit: &RegionFit, lost: Peer) -> Option<Found> {
    if lost.is_witness || !is_out_of_touch(view, lost.store) {
        return None;
    }
    let may = |orphan: &&Peer| {
        let store = view.stores.get(&orphan.store);
        !orphan.is_witness
            && !is_unhealthy(region, orphan)
            && !is_out_of_touch(view, orphan.store)
            && store.is_some_and(|s| fit.allows_replacing(lost.store, s, view.stores))
    };
    let orphan = fit.orphans.iter().find(may)?;
    let builder = Builder::new(*view, region, "replace-down-peer-with-orphan-peer");
    let builder = match (orphan.role, lost.role) {
        (Role::Learner, Role::Voter) => builder.promote_learner(orphan.store).remove_peer(lost.store),
        (Role::Voter, Role::Learner) => builder.demote_voter(orphan.store).remove_peer(lost.store),
        (a, b) if a == b => return Some(remove(view, region, "remove-replaced-orphan-peer", lost.store)),
        _ => return None,
    };
    Some(builder.build(Kind::default()).map(Some).map_err(joint::reason))
}

/// A left-over peer that can go although the rules are not well served, because another one stays.
fn spare(view: &ClusterView<'_>, region: &Region, fit: &RegionFit) -> Option<(&'static str, StoreId)> {
    if fit.orphans.len() < 2 {
        return None;
    }
    let mut healthy_seen = false;
    for orphan in &fit.orphans {
        if is_unhealthy(region, orphan) {
            return Some(("remove-unhealthy-orphan-peer", orphan.store));
        }
        if healthy_seen && fit.extra() > 0 {
            let out_of_touch = fit.orphans.iter().find(|o| is_out_of_touch(view, o.store));
            return Some(("remove-orphan-peer", out_of_touch.unwrap_or(orphan).store));
        }
        healthy_seen = true;
    }
    None
}

fn remove(view: &ClusterView<'_>, region: &Region, desc: &'static str, store: StoreId) -> Found {
    Builder::new(*view, region, desc).remove_peer(store).build(Kind::default()).map(Some).map_err(joint::reason)
}

fn is_unhealthy(region: &Region, peer: &Peer) -> bool {
    region.is_down(peer.id) || region.is_pending(peer.id)
}

/// Whether the store is unknown or silent.
fn is_out_of_touch(view: &ClusterView<'_>, store: StoreId) -> bool {
    view.stores.get(&store).is_none_or(|s| filter::is_disconnected(view, s))
}
